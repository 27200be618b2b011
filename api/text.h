// SPDX-License-Identifier: Apache-2.0
/* A byte buffer that grows, for putting responses together, and the UTF-8 check that all outside text goes through. */
#ifndef API_TEXT_H
#define API_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Zero-initialised is empty. Running out of memory sets failed and drops what is added later: checked once, at the end. */
struct text {
	char *data; /* owned; NUL-terminated once something was added */
	size_t len;
	size_t capacity;
	bool failed;
};

void text_add(struct text *text, const char *bytes, size_t len);
void text_add_string(struct text *text, const char *string);
void text_printf(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_free(struct text *text);

/* Forgets the contents; gives the memory back when it is much, so that one large response does not stay resident. */
void text_clear(struct text *text);

/*
 * Length of the well-formed UTF-8 sequence at bytes (1 to 4), or 0: a stray or missing continuation byte, an overlong
 * form, a surrogate, or a value above U+10FFFF (Unicode 15, table 3-7). len must not be 0.
 */
size_t utf8_sequence_len(const char *bytes, size_t len);

bool utf8_is_valid(const char *bytes, size_t len);

#endif
