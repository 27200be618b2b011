// SPDX-License-Identifier: Apache-2.0
/* The kernel's command line. */
#include "vmm/arch/x86_64/cmdline.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static int check_bytes(const char *text, size_t len, struct error *err)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char byte = (unsigned char)text[i];

		if (byte < 0x20 || byte > 0x7e)
			return error_set(err, -EINVAL,
					 "byte 0x%02x at position %zu, expected printable ASCII",
					 byte, i);
	}
	return 0;
}

/*
 * Where parameters for the kernel end: before the blank in front of a word "--", or at the end. As the kernel reads it,
 * double quotes keep blanks (and so a "--") inside a word.
 */
static size_t find_insertion(const char *text, size_t len)
{
	bool quoted = false, at_word = true;

	for (size_t i = 0; i < len; i++) {
		bool separator = i + 2 <= len && text[i] == '-' && text[i + 1] == '-' &&
				 (i + 2 == len || text[i + 2] == ' ');

		if (at_word && !quoted && separator)
			return i > 0 ? i - 1 : 0;
		if (text[i] == '"')
			quoted = !quoted;
		at_word = text[i] == ' ';
	}
	return len;
}

int cmdline_init(struct cmdline *cmdline, const char *boot_args, struct error *err)
{
	const char *text = boot_args ? boot_args : CMDLINE_DEFAULT;
	size_t len = strlen(text);

	if (len >= sizeof(cmdline->text))
		return error_set(
			err, -EINVAL,
			"The kernel command line is invalid: %zu bytes, expected at most %zu", len,
			sizeof(cmdline->text) - 1);
	if (check_bytes(text, len, err))
		return error_prefix(err, "The kernel command line is invalid: ");
	memcpy(cmdline->text, text, len + 1);
	cmdline->len = len;
	cmdline->insert_at = find_insertion(text, len);
	return 0;
}

/* Puts the word between the kernel's parameters and the rest, with one blank on each side that has something. */
static int insert_word(struct cmdline *cmdline, const char *word, size_t word_len,
		       struct error *err)
{
	size_t at = cmdline->insert_at;
	bool blank_before = at > 0;
	bool blank_after = at == 0 && cmdline->len > 0 && cmdline->text[0] != ' ';
	size_t added = word_len + blank_before + blank_after;

	if (added >= sizeof(cmdline->text) - cmdline->len)
		return error_set(
			err, -E2BIG,
			"The kernel command line is invalid: no room for \"%.64s\" beside its "
			"%zu bytes (at most %zu)",
			word, cmdline->len, sizeof(cmdline->text) - 1);
	char *to = cmdline->text + at;

	memmove(to + added, to, cmdline->len - at + 1);
	if (blank_before)
		*to++ = ' ';
	memcpy(to, word, word_len);
	if (blank_after)
		to[word_len] = ' ';
	cmdline->len += added;
	cmdline->insert_at += word_len + blank_before;
	return 0;
}

int cmdline_append(struct cmdline *cmdline, struct error *err, const char *format, ...)
{
	char word[LAYOUT_CMDLINE_MAX];
	va_list args;

	va_start(args, format);
	int len = vsnprintf(word, sizeof(word), format, args);
	va_end(args);
	if (len < 0 || (size_t)len >= sizeof(word))
		return error_set(err, -E2BIG,
				 "The kernel command line is invalid: a parameter of %d bytes",
				 len);
	if (len == 0)
		return 0;
	return insert_word(cmdline, word, (size_t)len, err);
}
