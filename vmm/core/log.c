// SPDX-License-Identifier: Apache-2.0
/*
 * The logger.
 *
 * DOC: No lock: a fatal-signal handler may log from any instruction of any thread. What a line needs is atomic or
 * constant after the start, a line is built on the stack and leaves in one write(2). It is never longer than PIPE_BUF,
 * so that a FIFO takes it whole or not at all and lines of two threads do not mix. A new file replaces the old one under
 * the same descriptor number (dup3), so that a thread in mid-write is not left with a closed descriptor.
 */
#include "vmm/core/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>
#include "vmm/core/metrics_groups.h"
#include "vmm/core/sink.h"

#define LINE_BYTES       PIPE_BUF
#define ID_BYTES         65 /* 64 characters, the longest --id */
#define MODULE_BYTES     256
#define THREAD_BYTES     16 /* the kernel's TASK_COMM_LEN */
#define SECONDS_PER_DAY  86400
#define TZ_CHECK_SECONDS 900 /* offsets from UTC change at quarters of an hour only */

#define SITE_WINDOW_NS 5000000000ull
#define SITE_BURST     10u

static const char *const level_names[] = {
	[LOG_LEVEL_OFF] = "OFF",   [LOG_LEVEL_ERROR] = "ERROR", [LOG_LEVEL_WARN] = "WARN",
	[LOG_LEVEL_INFO] = "INFO", [LOG_LEVEL_DEBUG] = "DEBUG", [LOG_LEVEL_TRACE] = "TRACE",
};
_Static_assert(sizeof(level_names) / sizeof(level_names[0]) == LOG_LEVEL_COUNT, "a name a level");

/* Process-wide by design, see log.h. */
static struct {
	char id[ID_BYTES];
	_Atomic int fd;
	_Atomic int level;
	atomic_bool show_level, show_origin;
	/* Two, so that a new filter is complete before it is switched to. */
	char module[2][MODULE_BYTES];
	_Atomic unsigned module_in_use;
	/* The local time's distance from UTC, and the quarter of an hour for which it was looked up. */
	_Atomic long utc_offset_seconds;
	_Atomic int64_t utc_offset_quarter;
} logger = {
	.id = "anonymous-instance",
	.fd = STDOUT_FILENO,
	.level = LOG_LEVEL_INFO,
};

static _Thread_local char thread_name[THREAD_BYTES + 1];

/* Calls into the C library's time zone code, which locks: not from a signal handler. */
static void refresh_utc_offset(time_t now)
{
	struct tm local;

	if (localtime_r(&now, &local))
		atomic_store_explicit(&logger.utc_offset_seconds, local.tm_gmtoff,
				      memory_order_relaxed);
	atomic_store_explicit(&logger.utc_offset_quarter, now / TZ_CHECK_SECONDS,
			      memory_order_relaxed);
}

void log_set_id(const char *id)
{
	snprintf(logger.id, sizeof(logger.id), "%s", id);
	log_set_thread_name("main");
	tzset();
	refresh_utc_offset(time(NULL));
}

static int replace_sink(const char *path, struct error *err)
{
	int old = atomic_load(&logger.fd);
	int fd = sink_open(path);

	if (fd < 0)
		return error_set_os(err, fd, "Cannot open the log file %s", path);
	if (old == STDOUT_FILENO) {
		atomic_store(&logger.fd, fd);
		return 0;
	}
	int ret = dup3(fd, old, O_CLOEXEC) < 0
			  ? error_set_errno(err, "Cannot switch to the log file %s", path)
			  : 0;
	close_fd(fd);
	return ret;
}

int log_configure(const struct log_config *config, struct error *err)
{
	const char *module = config->module ? config->module : "";
	int ret = 0;

	if (strlen(module) >= MODULE_BYTES)
		return error_set(err, -EINVAL, "The log's module filter is longer than %d bytes.",
				 MODULE_BYTES - 1);
	if (config->log_path)
		ret = replace_sink(config->log_path, err);
	if (ret)
		return ret;
	unsigned other = 1 - atomic_load(&logger.module_in_use);
	snprintf(logger.module[other], MODULE_BYTES, "%s", module);
	atomic_store(&logger.module_in_use, other);
	atomic_store(&logger.level, (int)config->level);
	atomic_store(&logger.show_level, config->show_level);
	atomic_store(&logger.show_origin, config->show_log_origin);
	return 0;
}

bool log_level_parse(const char *text, enum log_level *level)
{
	if (strcasecmp(text, "Warning") == 0) {
		*level = LOG_LEVEL_WARN;
		return true;
	}
	for (int i = 0; i < LOG_LEVEL_COUNT; i++) {
		if (strcasecmp(text, level_names[i]) == 0) {
			*level = (enum log_level)i;
			return true;
		}
	}
	return false;
}

const char *log_level_name(enum log_level level)
{
	return level_names[level];
}

bool log_enabled(enum log_level level)
{
	return (int)level <= atomic_load_explicit(&logger.level, memory_order_relaxed);
}

void log_set_thread_name(const char *name)
{
	snprintf(thread_name, sizeof(thread_name), "%s", name);
}

static const char *current_thread(void)
{
	return thread_name[0] ? thread_name : "?";
}

/*
 * The proleptic Gregorian date of a number of days since 1970-01-01; gmtime_r is not for signal handlers. Years are
 * counted from March, so that the leap day is the last of its year.
 */
static void date_of_days(int64_t days, int *year, int *month, int *day)
{
	int64_t shifted = days + 719468; /* days from 0000-03-01 */
	int64_t era = shifted / 146097;
	int64_t day_of_era = shifted % 146097;
	int64_t year_of_era =
		(day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	int64_t day_of_year =
		day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int64_t march_month = (5 * day_of_year + 2) / 153;

	*day = (int)(day_of_year - (153 * march_month + 2) / 5 + 1);
	*month = (int)(march_month < 10 ? march_month + 3 : march_month - 9);
	*year = (int)(year_of_era + era * 400 + (*month <= 2));
}

static size_t put_time(char *out, size_t size, bool in_signal)
{
	struct timespec now;
	int year, month, day;

	clock_gettime(CLOCK_REALTIME, &now);
	if (!in_signal &&
	    now.tv_sec / TZ_CHECK_SECONDS !=
		    atomic_load_explicit(&logger.utc_offset_quarter, memory_order_relaxed))
		refresh_utc_offset(now.tv_sec);
	int64_t local =
		now.tv_sec + atomic_load_explicit(&logger.utc_offset_seconds, memory_order_relaxed);
	int second_of_day = (int)(local % SECONDS_PER_DAY);
	date_of_days(local / SECONDS_PER_DAY, &year, &month, &day);
	return (size_t)snprintf(out, size, "%04d-%02d-%02dT%02d:%02d:%02d.%09ld", year, month, day,
				second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60,
				now.tv_nsec);
}

static size_t put_head(char *out, size_t size, enum log_level level, const char *file, int line,
		       bool in_signal)
{
	size_t used = put_time(out, size, in_signal);

	used += (size_t)snprintf(out + used, size - used, " [%s:%s", logger.id, current_thread());
	if (atomic_load_explicit(&logger.show_level, memory_order_relaxed))
		used += (size_t)snprintf(out + used, size - used, ":%s", level_names[level]);
	if (atomic_load_explicit(&logger.show_origin, memory_order_relaxed))
		used += (size_t)snprintf(out + used, size - used, ":%.128s:%d", file, line);
	used += (size_t)snprintf(out + used, size - used, "] ");
	return used;
}

/* Control characters come from outsiders (a request's body, a guest's packet) and could fake a line of their own. */
static void blank_controls(char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			text[i] = ' ';
	}
}

/* Standard output is shared with whoever started the monitor and may be blocking: asked before it is written to. */
static bool would_block(int fd)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};

	return fd == STDOUT_FILENO && poll(&poll_fd, 1, 0) == 0;
}

static void write_line(const char *line, size_t len)
{
	int fd = atomic_load_explicit(&logger.fd, memory_order_relaxed);

	if (would_block(fd) || write(fd, line, len) != (ssize_t)len)
		metric_add_shared(&process_metrics.logger.missed_log_count, 1);
}

static bool module_matches(const char *file)
{
	const char *module =
		logger.module[atomic_load_explicit(&logger.module_in_use, memory_order_acquire)];

	return strncmp(file, module, strlen(module)) == 0;
}

static void format_line(enum log_level level, const char *file, int line_number, bool in_signal,
			const char *format, va_list args) __attribute__((format(printf, 5, 0)));

static void format_line(enum log_level level, const char *file, int line_number, bool in_signal,
			const char *format, va_list args)
{
	char line[LINE_BYTES];
	int saved_errno = errno;

	size_t head = put_head(line, sizeof(line), level, file, line_number, in_signal);
	size_t room = sizeof(line) - head - 1; /* the newline */
	int needed = vsnprintf(line + head, room, format, args);
	size_t len = needed < 0 ? 0 : (size_t)needed;
	if (len >= room) {
		len = room - 1;
		memcpy(line + head + len - 3, "...", 3);
	}
	blank_controls(line + head, len);
	line[head + len] = '\n';
	write_line(line, head + len + 1);
	errno = saved_errno;
}

void log_write(enum log_level level, const char *file, int line, const char *format, ...)
{
	va_list args;

	if (!log_enabled(level) || !module_matches(file))
		return;
	va_start(args, format);
	format_line(level, file, line, false, format, args);
	va_end(args);
}

void log_write_signal(enum log_level level, const char *file, int line, const char *format, ...)
{
	va_list args;

	if (!log_enabled(level))
		return;
	va_start(args, format);
	format_line(level, file, line, true, format, args);
	va_end(args);
}

bool log_site_allows(struct log_site *site)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	uint64_t now_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	uint64_t start_ns = atomic_load_explicit(&site->window_start_ns, memory_order_relaxed);

	/* Two threads may both see an old window; the one that loses counts in the new one. */
	if ((start_ns == 0 || now_ns - start_ns >= SITE_WINDOW_NS) &&
	    atomic_compare_exchange_strong(&site->window_start_ns, &start_ns, now_ns))
		atomic_store_explicit(&site->count, 0, memory_order_relaxed);
	if (atomic_fetch_add_explicit(&site->count, 1, memory_order_relaxed) < SITE_BURST)
		return true;
	metric_add_shared(&process_metrics.logger.rate_limited_log_count, 1);
	return false;
}
