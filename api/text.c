// SPDX-License-Identifier: Apache-2.0
/* The growing byte buffer and the UTF-8 check. */
#include "api/text.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_FIRST_BYTES 256u
#define TEXT_KEEP_BYTES  4096u

/* Makes room for extra bytes and a NUL. */
static bool reserve(struct text *text, size_t extra)
{
	size_t needed, capacity = text->capacity ? text->capacity : TEXT_FIRST_BYTES;
	char *data;

	if (text->failed || extra >= SIZE_MAX / 4 - text->len) {
		text->failed = true;
		return false;
	}
	needed = text->len + extra + 1;
	if (needed <= text->capacity)
		return true;
	while (capacity < needed)
		capacity *= 2;
	data = realloc(text->data, capacity);
	if (!data) {
		text->failed = true;
		return false;
	}
	text->data = data;
	text->capacity = capacity;
	return true;
}

void text_add(struct text *text, const char *bytes, size_t len)
{
	if (!reserve(text, len))
		return;
	if (len)
		memcpy(text->data + text->len, bytes, len);
	text->len += len;
	text->data[text->len] = '\0';
}

void text_add_string(struct text *text, const char *string)
{
	text_add(text, string, strlen(string));
}

void text_printf(struct text *text, const char *format, ...)
{
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (len < 0 || !reserve(text, (size_t)len))
		return;
	va_start(args, format);
	vsnprintf(text->data + text->len, (size_t)len + 1, format, args);
	va_end(args);
	text->len += (size_t)len;
}

void text_free(struct text *text)
{
	free(text->data);
	*text = (struct text){0};
}

void text_clear(struct text *text)
{
	if (text->capacity > TEXT_KEEP_BYTES || text->failed) {
		text_free(text);
		return;
	}
	text->len = 0;
	if (text->data)
		text->data[0] = '\0';
}

static bool is_continuation(char byte)
{
	return ((unsigned char)byte & 0xc0) == 0x80;
}

size_t utf8_sequence_len(const char *bytes, size_t len)
{
	unsigned char first = (unsigned char)bytes[0];
	unsigned char second = len > 1 ? (unsigned char)bytes[1] : 0;
	size_t need;

	if (first < 0x80)
		return 1;
	if (first >= 0xc2 && first <= 0xdf)
		need = 2;
	else if (first >= 0xe0 && first <= 0xef)
		need = 3;
	else if (first >= 0xf0 && first <= 0xf4)
		need = 4;
	else
		return 0;
	if (len < need)
		return 0;
	for (size_t i = 1; i < need; i++)
		if (!is_continuation(bytes[i]))
			return 0;
	if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
	    (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f))
		return 0;
	return need;
}

bool utf8_is_valid(const char *bytes, size_t len)
{
	for (size_t at = 0; at < len;) {
		size_t step = utf8_sequence_len(bytes + at, len - at);
		if (!step)
			return false;
		at += step;
	}
	return true;
}
