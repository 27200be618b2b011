// SPDX-License-Identifier: Apache-2.0
/* Standard input and output, files and FIFOs as the other end of a serial line. */
#include "vmm/devices/console.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>
#include "vmm/core/metrics_groups.h"
#include "vmm/core/sink.h"

/*
 * What was changed about the standard descriptors, which outlive the process at the other end. Process-wide because
 * signal handlers must undo it; set before is_raw and the like are.
 */
static struct {
	struct termios original;
	atomic_bool is_raw;
	int out_flags, in_flags; /* as they were */
	atomic_bool out_changed, in_changed;
} standard;

static int make_nonblocking(int fd, int *original, atomic_bool *changed)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	if (flags & O_NONBLOCK)
		return 0;
	*original = flags;
	atomic_store(changed, true);
	return fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

/* Changing the terminal of a job in the background would stop the process (SIGTTOU). */
static bool is_foreground_terminal(int fd)
{
	return isatty(fd) && tcgetpgrp(fd) == getpgrp();
}

static bool is_fifo(int fd)
{
	struct stat status;

	return fstat(fd, &status) == 0 && S_ISFIFO(status.st_mode);
}

static void make_raw(int fd)
{
	struct termios raw;

	if (atomic_load(&standard.is_raw) || tcgetattr(fd, &standard.original) < 0)
		return;
	raw = standard.original;
	cfmakeraw(&raw);
	atomic_store(&standard.is_raw, true);
	(void)tcsetattr(fd, TCSANOW, &raw);
}

static int open_output(struct console *console, const char *path, struct error *err)
{
	if (path) {
		int fd = sink_open(path);

		if (fd < 0)
			return error_set_os(err, fd, "Cannot open the serial port's output %s",
					    path);
		console->out_fd = fd;
		return 0;
	}
	console->out_fd = STDOUT_FILENO;
	int ret = make_nonblocking(STDOUT_FILENO, &standard.out_flags, &standard.out_changed);
	/* A closed standard output is a choice: the bytes go nowhere. */
	return ret && ret != -EBADF ? error_set_os(err, ret, "Cannot use standard output") : 0;
}

static void open_input(struct console *console)
{
	bool terminal = is_foreground_terminal(STDIN_FILENO);

	if (!terminal && !is_fifo(STDIN_FILENO))
		return;
	if (make_nonblocking(STDIN_FILENO, &standard.in_flags, &standard.in_changed) < 0)
		return;
	if (terminal)
		make_raw(STDIN_FILENO);
	console->in_fd = STDIN_FILENO;
}

int console_open(struct console *console, const struct serial_config *config, struct error *err)
{
	const struct rate_limiter_config limits = {
		.bandwidth = config->rate_limiter,
		.has_bandwidth = config->has_rate_limiter,
	};

	*console = (struct console){.out_fd = -1, .in_fd = -1};
	rate_limiter_init(&console->limiter, &limits);
	int ret = open_output(console, config->serial_out_path, err);
	if (!ret)
		open_input(console);
	return ret;
}

void console_close(struct console *console)
{
	if (console->out_fd != STDOUT_FILENO)
		close_fd(console->out_fd);
	console->out_fd = -1;
	console->in_fd = -1;
	console_restore_terminal();
}

/*
 * One write(2) a byte: the exit to the monitor that brought it costs more, and a guest's last words before a crash are
 * out when they are said.
 */
void console_put(struct console *console, uint8_t byte)
{
	if (!rate_limiter_consume(&console->limiter, 1)) {
		metric_add_shared(&process_metrics.uart.rate_limiter_dropped_bytes, 1);
		return;
	}
	if (write(console->out_fd, &byte, 1) == 1) {
		metric_add_shared(&process_metrics.uart.write_count, 1);
		return;
	}
	metric_add_shared(&process_metrics.uart.missed_write_count, 1);
	if (errno != EAGAIN)
		metric_add_shared(&process_metrics.uart.error_count, 1);
}

ssize_t console_read(const struct console *console, uint8_t *out, size_t size)
{
	ssize_t count = read(console->in_fd, out, size);

	if (count > 0)
		return count;
	return count < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

void console_restore_terminal(void)
{
	if (atomic_exchange(&standard.is_raw, false))
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &standard.original);
	if (atomic_exchange(&standard.in_changed, false))
		(void)fcntl(STDIN_FILENO, F_SETFL, standard.in_flags);
	if (atomic_exchange(&standard.out_changed, false))
		(void)fcntl(STDOUT_FILENO, F_SETFL, standard.out_flags);
}
