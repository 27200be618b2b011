// SPDX-License-Identifier: Apache-2.0
/* An error that a person will read: a negative errno and a sentence, wrapped with context on its way up. */
#ifndef BANTAM_CORE_ERROR_H
#define BANTAM_CORE_ERROR_H

#include "vmm/core/cleanup.h"

#define ERROR_TEXT_BYTES 1024

struct error {
	int code;                    /* negative errno; 0 while nothing has gone wrong */
	char text[ERROR_TEXT_BYTES]; /* NUL-terminated, cut with "..." when too long */
};

/*
 * Sets the error's code (a negative errno) and text; gives back code, so that callers write
 * `return error_set(err, -EINVAL, ...)`.
 */
int error_set(struct error *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* As error_set with code -errno and ": strerror (os error N)" appended to the text. */
int error_set_errno(struct error *err, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* The same for a given negative errno. */
int error_set_os(struct error *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Puts context in front of the text that is there; gives back the unchanged code. */
int error_prefix(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
