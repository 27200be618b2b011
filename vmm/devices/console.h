// SPDX-License-Identifier: Apache-2.0
/*
 * The host's side of a serial port: where its bytes go to and come from.
 *
 * DOC: Neither direction ever waits: a byte that the output does not take at once is lost and counted. Threads:
 * console_put() under the caller's lock, everything else on the loop thread.
 */
#ifndef DEVICES_CONSOLE_H
#define DEVICES_CONSOLE_H

#include <stdint.h>
#include <sys/types.h>
#include "vmm/config.h"
#include "vmm/core/error.h"
#include "vmm/core/rate_limiter.h"

struct console {
	int out_fd; /* owned unless it is standard output */
	int in_fd;  /* standard input when it is a terminal or a FIFO; else -1 */
	struct rate_limiter
		limiter; /* of the output, in bytes; no timer: what exceeds it is dropped */
};

/*
 * Opens the output (config's path, else standard output) and takes standard input when it is a FIFO or the terminal of
 * this process's foreground group; a terminal becomes raw. -errno and a text. Given back by console_close().
 */
int console_open(struct console *console, const struct serial_config *config,
		 struct error *err) must_check;
void console_close(struct console *console);

/* Sends a byte or drops and counts it (uart.*). */
void console_put(struct console *console, uint8_t byte);

/* Up to size bytes that are there now; 0 when there are none yet, -1 when no more will ever come. */
ssize_t console_read(const struct console *console, uint8_t *out, size_t size);

/* Gives the terminal back as it was found. For the end of the program, also from a signal handler. */
void console_restore_terminal(void);

#endif
