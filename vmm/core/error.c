// SPDX-License-Identifier: Apache-2.0
/* Errors with a sentence. */
#include "vmm/core/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void mark_cut(struct error *err, int needed)
{
	if (needed >= ERROR_TEXT_BYTES)
		memcpy(err->text + ERROR_TEXT_BYTES - 4, "...", 4);
}

static void set_text(struct error *err, int code, const char *format, va_list args)
	__attribute__((format(printf, 3, 0)));

static void set_text(struct error *err, int code, const char *format, va_list args)
{
	err->code = code;
	mark_cut(err, vsnprintf(err->text, sizeof(err->text), format, args));
}

static void append_os_error(struct error *err)
{
	size_t used = strlen(err->text);
	int tail = snprintf(err->text + used, sizeof(err->text) - used, ": %s (os error %d)",
			    strerror(-err->code), -err->code);
	mark_cut(err, (int)used + tail);
}

int error_set(struct error *err, int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	set_text(err, code, format, args);
	va_end(args);
	return code;
}

int error_set_errno(struct error *err, const char *format, ...)
{
	int code = -errno;
	va_list args;

	va_start(args, format);
	set_text(err, code, format, args);
	va_end(args);
	append_os_error(err);
	return code;
}

int error_set_os(struct error *err, int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	set_text(err, code, format, args);
	va_end(args);
	append_os_error(err);
	return code;
}

int error_prefix(struct error *err, const char *format, ...)
{
	char inner[ERROR_TEXT_BYTES];
	va_list args;

	memcpy(inner, err->text, sizeof(inner));
	va_start(args, format);
	set_text(err, err->code, format, args);
	va_end(args);
	size_t used = strlen(err->text);
	int tail = snprintf(err->text + used, sizeof(err->text) - used, "%s", inner);
	mark_cut(err, (int)used + tail);
	return err->code;
}
