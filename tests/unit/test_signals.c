// SPDX-License-Identifier: Apache-2.0
/* How the monitor ends by a signal: exit code, log line, metrics. Each case is a child process. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "vmm/core/log.h"
#include "vmm/core/metrics_groups.h"
#include "vmm/signals.h"

static char folder[] = "/tmp/test_signals.XXXXXX";
static char log_path[64], metrics_path[64], text[1 << 16];

static int make_folder(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	snprintf(log_path, sizeof(log_path), "%s/log", folder);
	snprintf(metrics_path, sizeof(metrics_path), "%s/metrics", folder);
	return 0;
}

static int remove_files(void **state)
{
	(void)state;
	unlink(log_path);
	unlink(metrics_path);
	return 0;
}

static int remove_folder(void **state)
{
	(void)state;
	return rmdir(folder);
}

static void prepare(void)
{
	struct log_config config = {.log_path = log_path, .level = LOG_LEVEL_INFO};
	struct error err = {0};

	if (log_configure(&config, &err) || metrics_open(metrics_path, &err) ||
	    signals_install(&err)) {
		fprintf(stderr, "%s\n", err.text);
		_exit(99);
	}
}

static int status_of(void (*act)(void))
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		signal(SIGHUP, SIG_DFL); /* a caller may have it ignored */
		prepare();
		act();
		_exit(98);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

static const char *contents(const char *path)
{
	int fd = open(path, O_RDONLY);
	ssize_t len = read(fd, text, sizeof(text) - 1);

	close(fd);
	text[len > 0 ? len : 0] = '\0';
	return text;
}

static void assert_contains(const char *path, const char *expected)
{
	if (!strstr(contents(path), expected))
		fail_msg("no '%s' in: %s", expected, text);
}

static int number;

static void send_signal(void)
{
	raise(number);
}

static void test_fatal(void **state)
{
	static const struct {
		int number, exit_code;
		const char *metric;
	} signals[] = {
		{SIGBUS, 149, "\"sigbus\":1"},   {SIGSEGV, 150, "\"sigsegv\":1"},
		{SIGXFSZ, 151, "\"sigxfsz\":1"}, {SIGXCPU, 154, "\"sigxcpu\":1"},
		{SIGHUP, 156, "\"sighup\":1"},   {SIGILL, 157, "\"sigill\":1"},
	};

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		char words[80];

		number = signals[i].number;
		int status = status_of(send_signal);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), signals[i].exit_code);
		snprintf(words, sizeof(words),
			 "Shutting down VM after intercepting signal %d, code %d.", number,
			 SI_TKILL);
		assert_contains(log_path, words);
		assert_contains(metrics_path, signals[i].metric);
		remove_files(state);
	}
}

static void test_sigsys_of_another_origin(void **state)
{
	(void)state;
	number = SIGSYS;
	int status = status_of(send_signal);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 2);
	assert_contains(metrics_path, "\"num_faults\":0");
}

/* A filter as the monitor's will be, for one call. */
static void break_the_filter(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpriority, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = 4, .filter = filter};

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		_exit(97);
	syscall(SYS_getpriority, 0, 0);
}

static void test_bad_syscall(void **state)
{
	char words[80];

	(void)state;
	int status = status_of(break_the_filter);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 148);
	snprintf(words, sizeof(words), "after intercepting a bad syscall (%d). It is getpriority.",
		 SYS_getpriority);
	assert_contains(log_path, words);
	assert_contains(metrics_path, "\"num_faults\":1");
}

static void test_abort(void **state)
{
	(void)state;
	int status = status_of(abort);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
	assert_contains(metrics_path, "\"panic_count\":1");
	assert_contains(log_path, "Aborting after signal 6");
}

static void break_pipe(void)
{
	struct error err = {0};
	int ends[2];

	if (pipe(ends) < 0)
		_exit(96);
	close(ends[0]);
	for (int i = 0; i < 20; i++) {
		ssize_t written = write(ends[1], "x", 1);
		(void)written;
	}
	_exit(metrics_flush(&err) ? 95 : 0);
}

static void test_broken_pipe(void **state)
{
	unsigned lines = 0;

	(void)state;
	int status = status_of(break_pipe);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_contains(metrics_path, "\"sigpipe\":20");
	for (const char *at = contents(log_path); (at = strstr(at, "Received signal 13, code"));
	     at++)
		lines++;
	assert_int_equal(lines, 10);
}

/* The log goes into the broken pipe itself: each line about it would raise the next signal. */
static void log_into_broken_pipe(void)
{
	int ends[2];

	if (pipe(ends) < 0 || close(ends[0]) < 0 || dup2(ends[1], STDOUT_FILENO) < 0)
		_exit(96);
	printf("x");
	fflush(stdout);
	_exit(0);
}

static void test_broken_log(void **state)
{
	int status;
	pid_t child = fork();

	(void)state;
	if (child == 0) {
		struct error err = {0};

		if (signals_install(&err))
			_exit(99);
		log_into_broken_pipe();
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_nohup(void **state)
{
	int status;
	pid_t child = fork();

	(void)state;
	if (child == 0) {
		signal(SIGHUP, SIG_IGN);
		prepare();
		raise(SIGHUP);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

#define TEST(name) cmocka_unit_test_teardown(name, remove_files)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_fatal),       TEST(test_sigsys_of_another_origin),
		TEST(test_bad_syscall), TEST(test_abort),
		TEST(test_broken_pipe), TEST(test_broken_log),
		TEST(test_nohup),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
