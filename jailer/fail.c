// SPDX-License-Identifier: Apache-2.0
/* Error texts. */
#include "jailer/fail.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static void append(struct jail_error *error, const char *format, va_list arguments)
	__attribute__((format(printf, 2, 0)));

static void append(struct jail_error *error, const char *format, va_list arguments)
{
	size_t used = strlen(error->text);
	vsnprintf(error->text + used, sizeof(error->text) - used, format, arguments);
}

static void append_text(struct jail_error *error, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void append_text(struct jail_error *error, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	append(error, format, arguments);
	va_end(arguments);
}

static void append_place(struct jail_error *error, struct jail_place place, int number)
{
	append_text(error, "\n  step: %s; call: %s(%s): %s", place.step, place.call,
		    place.path ? place.path : "", strerror(number));
}

int jail_refuse(struct jail_error *error, const char *format, ...)
{
	va_list arguments;
	error->text[0] = '\0';
	va_start(arguments, format);
	append(error, format, arguments);
	va_end(arguments);
	return -EINVAL;
}

int jail_fail(struct jail_error *error, struct jail_place place, const char *format, ...)
{
	int number = errno;
	va_list arguments;
	error->text[0] = '\0';
	va_start(arguments, format);
	append(error, format, arguments);
	va_end(arguments);
	append_text(error, ": %s (os error %d)", strerror(number), number);
	append_place(error, place, number);
	return -number;
}

int jail_fail_bare(struct jail_error *error, struct jail_place place, const char *format, ...)
{
	int number = errno;
	va_list arguments;
	error->text[0] = '\0';
	va_start(arguments, format);
	append(error, format, arguments);
	va_end(arguments);
	append_place(error, place, number);
	return -number;
}

void jail_error_add(struct jail_error *error, const char *format, ...)
{
	va_list arguments;
	append_text(error, "\n");
	va_start(arguments, format);
	append(error, format, arguments);
	va_end(arguments);
}
