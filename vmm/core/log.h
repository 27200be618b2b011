// SPDX-License-Identifier: Apache-2.0
/*
 * The logger: lines of `time [id:thread(:LEVEL)(:file:line)] message`.
 *
 * DOC: The one piece of process-wide state beside metrics, because signal handlers and every thread log. A line is one
 * write(2) to a non-blocking descriptor; a line that would block is dropped and counted, one longer than PIPE_BUF is cut
 * and ends in "...". Control characters in a message become spaces. Any thread.
 */
#ifndef BANTAM_CORE_LOG_H
#define BANTAM_CORE_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdatomic.h>
#include "vmm/core/cleanup.h"
#include "vmm/core/error.h"

enum log_level {
	LOG_LEVEL_OFF,
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARN,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
	LOG_LEVEL_TRACE,
	LOG_LEVEL_COUNT
};

struct log_config {
	char *log_path; /* NULL: unchanged (standard output at the start) */
	enum log_level level;
	bool show_level;
	bool show_log_origin;
	char *module; /* only messages of source paths that start with it; NULL: all */
};

/* Who speaks in the log: the microVM's id, copied. Call once, before other threads; the caller's thread is "main". */
void log_set_id(const char *id);

/* What the calling thread is called in the log, at most 15 bytes, copied; "?" until then. */
void log_set_thread_name(const char *name);

/* Applies a configuration (copied); opens log_path for appending, non-blocking (a file or a FIFO). On error nothing changes. */
int log_configure(const struct log_config *config, struct error *err) must_check;

/* Case-insensitive Error|Warning|Warn|Info|Debug|Trace|Off; false when it is none of them. */
bool log_level_parse(const char *text, enum log_level *level);
const char *log_level_name(enum log_level level);

bool log_enabled(enum log_level level);

void log_write(enum log_level level, const char *file, int line, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* As log_write, for signal handlers: takes no lock. Formats: %s, %d, %u, %x and their long forms only. */
void log_write_signal(enum log_level level, const char *file, int line, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

#define log_at(level, ...)                                                 \
	do {                                                               \
		if (log_enabled(level))                                    \
			log_write(level, __FILE__, __LINE__, __VA_ARGS__); \
	} while (0)
#define log_error(...) log_at(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_at(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_at(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* For messages that the guest can cause: 10 per 5 s and call site, the rest counted (logger.rate_limited_log_count). */
struct log_site {
	_Atomic uint64_t window_start_ns;
	_Atomic uint32_t count;
};
bool log_site_allows(struct log_site *site);

#define log_limited(level, ...)                                            \
	do {                                                               \
		static struct log_site log_site_here;                      \
		if (log_enabled(level) && log_site_allows(&log_site_here)) \
			log_write(level, __FILE__, __LINE__, __VA_ARGS__); \
	} while (0)

#endif
