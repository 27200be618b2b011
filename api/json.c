// SPDX-License-Identifier: Apache-2.0
/* The strict JSON scanner, the tree behind it, and JSON writing. */
#include "api/json.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "api/text.h"

/* cJSON copies a number into 64 bytes before it converts it. */
#define NUMBER_CHARS_MAX 60

struct scanner {
	const char *start, *at, *end;
	unsigned depth;
	struct error *err;
};

static int scan_value(struct scanner *scanner);

/* Line and column count from 1, the column in bytes. */
static int fail(struct scanner *scanner, const char *what)
{
	unsigned line = 1;
	size_t column = 1;

	for (const char *c = scanner->start; c < scanner->at; c++) {
		column++;
		if (*c == '\n') {
			line++;
			column = 1;
		}
	}
	return error_set(scanner->err, -EINVAL, "%s at line %u column %zu", what, line, column);
}

static void skip_space(struct scanner *scanner)
{
	while (scanner->at < scanner->end && *scanner->at && strchr(" \t\r\n", *scanner->at))
		scanner->at++;
}

/* The next byte, or NUL at the end: NUL is never valid in JSON, so the two need no telling apart. */
static char peek(const struct scanner *scanner)
{
	return scanner->at < scanner->end ? *scanner->at : '\0';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static int scan_word(struct scanner *scanner, const char *word)
{
	size_t len = strlen(word);

	if ((size_t)(scanner->end - scanner->at) < len || memcmp(scanner->at, word, len) != 0)
		return fail(scanner,
			    "expected a value (object, array, string, number, true, false, null)");
	scanner->at += len;
	return 0;
}

static int scan_digits(struct scanner *scanner)
{
	if (!is_digit(peek(scanner)))
		return fail(scanner, "expected a digit");
	while (is_digit(peek(scanner)))
		scanner->at++;
	return 0;
}

static int scan_number(struct scanner *scanner)
{
	const char *start = scanner->at;
	int ret = 0;

	if (peek(scanner) == '-')
		scanner->at++;
	if (peek(scanner) == '0') {
		scanner->at++;
		if (is_digit(peek(scanner)))
			return fail(scanner, "a number must not start with 0");
	} else {
		ret = scan_digits(scanner);
	}
	if (!ret && peek(scanner) == '.') {
		scanner->at++;
		ret = scan_digits(scanner);
	}
	if (!ret && (peek(scanner) == 'e' || peek(scanner) == 'E')) {
		scanner->at++;
		if (peek(scanner) == '+' || peek(scanner) == '-')
			scanner->at++;
		ret = scan_digits(scanner);
	}
	if (!ret && scanner->at - start > NUMBER_CHARS_MAX)
		return fail(scanner, "a number that is too long");
	return ret;
}

/* Four hexadecimal digits of a \u escape; -1 when they are not. */
static long hex4(const struct scanner *scanner, const char *at)
{
	long value = 0;

	if (scanner->end - at < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		static const char digits[] = "0123456789abcdef";
		char c = at[i] >= 'A' && at[i] <= 'F' ? (char)(at[i] - 'A' + 'a') : at[i];
		const char *digit = c ? strchr(digits, c) : NULL;

		if (!digit)
			return -1;
		value = value * 16 + (digit - digits);
	}
	return value;
}

/* scanner->at is behind "\u". */
static int scan_unicode_escape(struct scanner *scanner)
{
	long code = hex4(scanner, scanner->at), low;

	if (code < 0)
		return fail(scanner, "expected four hexadecimal digits");
	if (code == 0)
		return fail(scanner, "a string must not contain \\u0000");
	if (code >= 0xdc00 && code <= 0xdfff)
		return fail(scanner, "half of a surrogate pair");
	scanner->at += 4;
	if (code < 0xd800 || code > 0xdbff)
		return 0;
	if (scanner->end - scanner->at < 6 || scanner->at[0] != '\\' || scanner->at[1] != 'u')
		return fail(scanner, "half of a surrogate pair");
	low = hex4(scanner, scanner->at + 2);
	if (low < 0xdc00 || low > 0xdfff)
		return fail(scanner, "half of a surrogate pair");
	scanner->at += 6;
	return 0;
}

static int scan_escape(struct scanner *scanner)
{
	char c;

	scanner->at++;
	c = peek(scanner);
	if (!c || !strchr("\"\\/bfnrtu", c))
		return fail(scanner, "unknown escape in a string");
	scanner->at++;
	return c == 'u' ? scan_unicode_escape(scanner) : 0;
}

static int scan_string(struct scanner *scanner)
{
	int ret = 0;

	if (peek(scanner) != '"')
		return fail(scanner, "expected a string in double quotes");
	scanner->at++;
	while (!ret) {
		size_t step;

		if (scanner->at == scanner->end)
			return fail(scanner, "the text ends inside a string");
		if (*scanner->at == '"') {
			scanner->at++;
			return 0;
		}
		if (*scanner->at == '\\') {
			ret = scan_escape(scanner);
			continue;
		}
		if ((unsigned char)*scanner->at < 0x20)
			return fail(scanner, "control character in a string");
		step = utf8_sequence_len(scanner->at, (size_t)(scanner->end - scanner->at));
		if (!step)
			return fail(scanner, "invalid UTF-8");
		scanner->at += step;
	}
	return ret;
}

static int scan_member(struct scanner *scanner)
{
	int ret = scan_string(scanner);

	if (ret)
		return ret;
	skip_space(scanner);
	if (peek(scanner) != ':')
		return fail(scanner, "expected \":\"");
	scanner->at++;
	return scan_value(scanner);
}

/* An object or array: scanner->at is at its opening bracket. */
static int scan_items(struct scanner *scanner, int (*scan_item)(struct scanner *), char close,
		      const char *expected)
{
	int ret;

	if (++scanner->depth > JSON_DEPTH_MAX)
		return fail(scanner, "nested too deeply");
	scanner->at++;
	skip_space(scanner);
	if (peek(scanner) != close) {
		for (;;) {
			skip_space(scanner);
			ret = scan_item(scanner);
			if (ret)
				return ret;
			skip_space(scanner);
			if (peek(scanner) != ',')
				break;
			scanner->at++;
		}
		if (peek(scanner) != close)
			return fail(scanner, expected);
	}
	scanner->at++;
	scanner->depth--;
	return 0;
}

static int scan_value(struct scanner *scanner)
{
	skip_space(scanner);
	switch (peek(scanner)) {
	case '{':
		return scan_items(scanner, scan_member, '}', "expected \",\" or \"}\"");
	case '[':
		return scan_items(scanner, scan_value, ']', "expected \",\" or \"]\"");
	case '"':
		return scan_string(scanner);
	case 't':
		return scan_word(scanner, "true");
	case 'f':
		return scan_word(scanner, "false");
	case 'n':
		return scan_word(scanner, "null");
	default:
		if (peek(scanner) == '-' || is_digit(peek(scanner)))
			return scan_number(scanner);
		return scan_word(scanner, "null");
	}
}

static int scan_text(struct scanner *scanner)
{
	int ret = scan_value(scanner);

	if (ret)
		return ret;
	skip_space(scanner);
	return scanner->at == scanner->end ? 0 : fail(scanner, "text behind the JSON value");
}

static int compare_names(const void *left, const void *right)
{
	return strcmp(*(const char *const *)left, *(const char *const *)right);
}

/* Sorted, equal names are neighbours: n log n however many fields an outsider sends. */
static int check_object_names(const cJSON *object, struct error *err)
{
	size_t count = (size_t)cJSON_GetArraySize(object), at = 0;
	cleanup_free const char **names = calloc(count + 1, sizeof(*names));

	if (!names)
		return error_set(err, -ENOMEM, "no memory for the JSON value");
	for (const cJSON *child = object->child; child; child = child->next)
		names[at++] = child->string;
	qsort(names, count, sizeof(*names), compare_names);
	for (at = 1; at < count; at++)
		if (!strcmp(names[at - 1], names[at]))
			return error_set(err, -EINVAL, "duplicate field `%.64s`", names[at]);
	return 0;
}

/* Recursion is bounded by JSON_DEPTH_MAX. */
static int check_names(const cJSON *tree, struct error *err)
{
	int ret = cJSON_IsObject(tree) ? check_object_names(tree, err) : 0;

	for (const cJSON *child = tree->child; child && !ret; child = child->next)
		ret = check_names(child, err);
	return ret;
}

cJSON *json_parse(const char *text, size_t len, struct error *err)
{
	struct scanner scanner = {.start = text, .at = text, .end = text + len, .err = err};
	cJSON *tree;

	if (scan_text(&scanner))
		return NULL;
	tree = cJSON_ParseWithLength(text, len);
	if (!tree) {
		error_set(err, -ENOMEM, "no memory for the JSON value");
		return NULL;
	}
	if (check_names(tree, err)) {
		cJSON_Delete(tree);
		return NULL;
	}
	return tree;
}

/* ---- writing ---- */

static void write_escaped(struct text *out, char c)
{
	static const char plain[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
	const char *found = strchr(plain, c);

	if (found)
		text_printf(out, "\\%c", letters[found - plain]);
	else
		text_printf(out, "\\u%04x", (unsigned)(unsigned char)c);
}

void json_write_string(struct text *out, const char *string)
{
	size_t len = strlen(string);

	text_add(out, "\"", 1);
	for (size_t at = 0; at < len;) {
		size_t step = utf8_sequence_len(string + at, len - at);

		if (!step)
			text_add_string(out, "\xef\xbf\xbd");
		else if ((unsigned char)string[at] < 0x20 || string[at] == '"' ||
			 string[at] == '\\')
			write_escaped(out, string[at]);
		else
			text_add(out, string + at, step);
		at += step ? step : 1;
	}
	text_add(out, "\"", 1);
}

void json_describe(const cJSON *value, char *out, size_t out_bytes)
{
	if (cJSON_IsString(value))
		snprintf(out, out_bytes, "the string \"%.64s%s\"", value->valuestring,
			 strlen(value->valuestring) > 64 ? "..." : "");
	else if (cJSON_IsNumber(value))
		snprintf(out, out_bytes, "%.17g", value->valuedouble);
	else if (cJSON_IsBool(value))
		snprintf(out, out_bytes, "%s", cJSON_IsTrue(value) ? "true" : "false");
	else
		snprintf(out, out_bytes, "%s",
			 cJSON_IsNull(value)     ? "null"
			 : cJSON_IsObject(value) ? "an object"
						 : "an array");
}
