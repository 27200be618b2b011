// SPDX-License-Identifier: Apache-2.0
/* The logger: the form of a line, levels and filters, and that nobody waits for a reader. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "vmm/core/log.h"
#include "vmm/core/metrics_groups.h"

/* ---- the clock that the logger sees ---- */

static _Atomic int64_t fake_realtime_s;   /* 0: the real one */
static _Atomic int64_t fake_monotonic_ns; /* 0: the real one */

int clock_gettime(clockid_t clock, struct timespec *now)
{
	if (clock == CLOCK_REALTIME && fake_realtime_s) {
		*now = (struct timespec){.tv_sec = fake_realtime_s, .tv_nsec = 5};
		return 0;
	}
	if (clock == CLOCK_MONOTONIC && fake_monotonic_ns) {
		*now = (struct timespec){.tv_sec = fake_monotonic_ns / 1000000000,
					 .tv_nsec = fake_monotonic_ns % 1000000000};
		return 0;
	}
	return (int)syscall(SYS_clock_gettime, clock, now);
}

/* ---- where the lines go ---- */

static char folder[] = "/tmp/test_log.XXXXXX";
static char path[64], text[3 * PIPE_BUF];

static struct log_config plain(void)
{
	return (struct log_config){.log_path = path, .level = LOG_LEVEL_INFO};
}

static void configure(struct log_config config)
{
	struct error err = {0};

	assert_int_equal(log_configure(&config, &err), 0);
}

/* What has been logged since the last call. */
static const char *logged(void)
{
	int fd = open(path, O_RDWR);
	ssize_t len = read(fd, text, sizeof(text) - 1);

	assert_true(len >= 0);
	text[len] = '\0';
	assert_int_equal(ftruncate(fd, 0), 0);
	close(fd);
	return text;
}

static void assert_matches(const char *line, const char *pattern)
{
	regex_t regex;

	assert_int_equal(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
	if (regexec(&regex, line, 0, NULL, 0) != 0)
		fail_msg("'%s' does not match '%s'", line, pattern);
	regfree(&regex);
}

static int setup(void **state)
{
	(void)state;
	setenv("TZ", "UTC", 1);
	log_set_id("test-vm");
	if (!path[0] && mkdtemp(folder))
		snprintf(path, sizeof(path), "%s/log", folder);
	configure(plain());
	logged();
	fake_realtime_s = 0;
	fake_monotonic_ns = 0;
	return 0;
}

/* ---- tests ---- */

#define TIME "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{9}"

static void test_form(void **state)
{
	struct log_config config = plain();

	(void)state;
	log_info("one %d", 1);
	assert_matches(logged(), "^" TIME " \\[test-vm:main\\] one 1\n$");
	config.show_level = true;
	configure(config);
	log_warn("two");
	assert_matches(logged(), "^" TIME " \\[test-vm:main:WARN\\] two\n$");
	config.show_log_origin = true;
	configure(config);
	log_error("three");
	assert_matches(logged(),
		       "^" TIME
		       " \\[test-vm:main:ERROR:tests/unit/test_log\\.c:[0-9]+\\] three\n$");
}

static void *log_from_thread(void *arg)
{
	log_set_thread_name("fc_vcpu 0");
	log_info("from a thread");
	return arg;
}

static void test_thread_name(void **state)
{
	pthread_t thread;

	(void)state;
	pthread_create(&thread, NULL, log_from_thread, NULL);
	pthread_join(thread, NULL);
	assert_matches(logged(), " \\[test-vm:fc_vcpu 0\\] from a thread\n$");
}

static void test_dates(void **state)
{
	static const struct {
		int64_t utc_s;
		const char *expected;
	} dates[] = {
		{951782399, "2000-02-28T23:59:59.000000005 "},
		{951782400, "2000-02-29T00:00:00.000000005 "},
		{951868800, "2000-03-01T00:00:00.000000005 "},
		{1735689599, "2024-12-31T23:59:59.000000005 "},
		{4107542400, "2100-03-01T00:00:00.000000005 "},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(dates) / sizeof(dates[0]); i++) {
		fake_realtime_s = dates[i].utc_s;
		log_info("x");
		assert_memory_equal(logged(), dates[i].expected, strlen(dates[i].expected));
	}
}

/* The clocks go forward in the last night of March: the offset follows within the quarter of an hour. */
static void test_local_time(void **state)
{
	(void)state;
	setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
	log_set_id("test-vm");
	fake_realtime_s = 1743296399; /* 2025-03-30 00:59:59 UTC */
	log_info("x");
	assert_memory_equal(logged(), "2025-03-30T01:59:59.", 20);
	fake_realtime_s = 1743296400;
	log_info("x");
	assert_memory_equal(logged(), "2025-03-30T03:00:00.", 20);
}

static void test_levels(void **state)
{
	struct log_config config = plain();

	(void)state;
	log_debug("not at this level");
	assert_string_equal(logged(), "");
	config.level = LOG_LEVEL_DEBUG;
	configure(config);
	log_debug("at this level");
	assert_non_null(strstr(logged(), "at this level"));
	config.level = LOG_LEVEL_OFF;
	configure(config);
	log_error("never");
	assert_string_equal(logged(), "");
}

static void test_level_names(void **state)
{
	enum log_level level;

	(void)state;
	assert_true(log_level_parse("warning", &level));
	assert_int_equal(level, LOG_LEVEL_WARN);
	assert_true(log_level_parse("Warn", &level));
	assert_int_equal(level, LOG_LEVEL_WARN);
	assert_true(log_level_parse("TRACE", &level));
	assert_int_equal(level, LOG_LEVEL_TRACE);
	assert_true(log_level_parse("Off", &level));
	assert_int_equal(level, LOG_LEVEL_OFF);
	assert_false(log_level_parse("Warnings", &level));
	assert_false(log_level_parse("", &level));
	assert_string_equal(log_level_name(LOG_LEVEL_DEBUG), "DEBUG");
}

static void test_module(void **state)
{
	struct log_config config = plain();
	char wrong[] = "vmm/", right[] = "tests/unit/test_l", too_long[400];
	struct error err = {0};

	(void)state;
	config.module = wrong;
	configure(config);
	log_error("filtered");
	assert_string_equal(logged(), "");
	config.module = right;
	configure(config);
	log_error("kept");
	assert_non_null(strstr(logged(), "kept"));
	memset(too_long, 'a', sizeof(too_long) - 1);
	too_long[sizeof(too_long) - 1] = '\0';
	config.module = too_long;
	assert_int_equal(log_configure(&config, &err), -EINVAL);
	log_error("as before");
	assert_non_null(strstr(logged(), "as before"));
}

static void test_control_characters(void **state)
{
	(void)state;
	log_info("a\nb\rc\x1b[31m\x7f\xc3\xa4");
	assert_non_null(strstr(logged(), "] a b c [31m \xc3\xa4\n"));
}

static void test_long_line(void **state)
{
	char message[2 * PIPE_BUF];

	(void)state;
	memset(message, 'm', sizeof(message) - 1);
	message[sizeof(message) - 1] = '\0';
	log_info("%s", message);
	const char *line = logged();
	assert_true(strlen(line) <= PIPE_BUF);
	assert_matches(line, "m\\.\\.\\.\n$");
}

static void test_bad_path(void **state)
{
	struct log_config config = plain();
	struct error err = {0};
	char nowhere[] = "/nonexistent/log";

	(void)state;
	config.log_path = nowhere;
	config.level = LOG_LEVEL_OFF;
	assert_int_equal(log_configure(&config, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nonexistent/log"));
	log_info("still here");
	assert_non_null(strstr(logged(), "still here"));
}

/* A FIFO that nobody reads takes some lines; the others are counted, and no write waits. */
static void test_full_fifo(void **state)
{
	struct log_config config = plain();
	char fifo[64];

	(void)state;
	snprintf(fifo, sizeof(fifo), "%s/fifo", folder);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	config.log_path = fifo;
	configure(config);
	uint64_t before = metric_get(&process_metrics.logger.missed_log_count);
	for (int i = 0; i < 3000; i++)
		log_info("line %d of many that fill the pipe", i);
	assert_true(metric_get(&process_metrics.logger.missed_log_count) - before > 1000);
	configure(plain());
	log_info("to the file again");
	assert_non_null(strstr(logged(), "to the file again"));
	unlink(fifo);
}

static void test_site_limit(void **state)
{
	struct log_site site = {0};
	unsigned allowed = 0;

	(void)state;
	fake_monotonic_ns = 1000000000;
	uint64_t before = metric_get(&process_metrics.logger.rate_limited_log_count);
	for (int i = 0; i < 100; i++)
		allowed += log_site_allows(&site);
	assert_int_equal(allowed, 10);
	assert_int_equal(metric_get(&process_metrics.logger.rate_limited_log_count) - before, 90);
	fake_monotonic_ns += 4999999999;
	assert_false(log_site_allows(&site));
	fake_monotonic_ns += 1;
	assert_true(log_site_allows(&site));
}

static void test_errno_kept(void **state)
{
	(void)state;
	errno = ENOTTY;
	log_info("x");
	assert_int_equal(errno, ENOTTY);
}

static void test_from_signal(void **state)
{
	(void)state;
	log_write_signal(LOG_LEVEL_ERROR, "x.c", 1, "signal %d", 7);
	assert_matches(logged(), "^" TIME " \\[test-vm:main\\] signal 7\n$");
}

static int remove_folder(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_form, setup),
		cmocka_unit_test_setup(test_thread_name, setup),
		cmocka_unit_test_setup(test_dates, setup),
		cmocka_unit_test_setup(test_local_time, setup),
		cmocka_unit_test_setup(test_levels, setup),
		cmocka_unit_test_setup(test_level_names, setup),
		cmocka_unit_test_setup(test_module, setup),
		cmocka_unit_test_setup(test_control_characters, setup),
		cmocka_unit_test_setup(test_long_line, setup),
		cmocka_unit_test_setup(test_bad_path, setup),
		cmocka_unit_test_setup(test_full_fifo, setup),
		cmocka_unit_test_setup(test_site_limit, setup),
		cmocka_unit_test_setup(test_errno_kept, setup),
		cmocka_unit_test_setup(test_from_signal, setup),
	};

	return cmocka_run_group_tests(tests, NULL, remove_folder);
}
