// SPDX-License-Identifier: Apache-2.0
/* The strict JSON reader, UTF-8, and JSON writing. */
#include "tests/unit/unit.h"

#include <string.h>
#include "api/json.h"
#include "api/text.h"

static void test_good(void **state)
{
	static const char *const texts[] = {
		"null",
		" true\r\n\t",
		"0",
		"-0",
		"-1.5e+10",
		"1E-2",
		"\"\"",
		"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\ud83d\\ude00\"",
		"\"\xf0\x9f\x98\x80 \xc3\xa9\"",
		"[]",
		"[ 1 , [ 2 ] ]",
		"{}",
		"{ \"a\" : { \"b\" : [ null , false ] } , \"A\" : 1 }",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct error err = {0};
		cJSON *json = json_parse(texts[i], strlen(texts[i]), &err);

		if (!json)
			fail_msg("%s: %s", texts[i], err.text);
		cJSON_Delete(json);
	}
}

static void test_bad(void **state)
{
	static const struct {
		const char *text, *fault;
	} rows[] = {
		{"", "expected a value (object, array, string, number, true, false, null) at line "
		     "1 column 1"},
		{"nul", "expected a value (object, array, string, number, true, false, null) at "
			"line 1 column 1"},
		{"True", "expected a value (object, array, string, number, true, false, null) at "
			 "line 1 column 1"},
		{"'x'", "expected a value (object, array, string, number, true, false, null) at "
			"line 1 column 1"},
		{"\xef\xbb\xbf{}", "expected a value (object, array, string, number, true, false, "
				   "null) at line 1 column 1"},
		{"+1", "expected a value (object, array, string, number, true, false, null) at "
		       "line 1 column 1"},
		{"{} x", "text behind the JSON value at line 1 column 4"},
		{"{}{}", "text behind the JSON value at line 1 column 3"},
		{"nullx", "text behind the JSON value at line 1 column 5"},
		{"01", "a number must not start with 0 at line 1 column 2"},
		{"-", "expected a digit at line 1 column 2"},
		{"1.", "expected a digit at line 1 column 3"},
		{"1e", "expected a digit at line 1 column 3"},
		{"0x10", "text behind the JSON value at line 1 column 2"},
		{"[1,]", "expected a value (object, array, string, number, true, false, null) at "
			 "line 1 column 4"},
		{"[1 2]", "expected \",\" or \"]\" at line 1 column 4"},
		{"[1", "expected \",\" or \"]\" at line 1 column 3"},
		{"{", "expected a string in double quotes at line 1 column 2"},
		{"{\"a\"}", "expected \":\" at line 1 column 5"},
		{"{\"a\":1", "expected \",\" or \"}\" at line 1 column 7"},
		{"{\n \"a\": 1,\n}", "expected a string in double quotes at line 3 column 1"},
		{"{a:1}", "expected a string in double quotes at line 1 column 2"},
		{"\"a", "the text ends inside a string at line 1 column 3"},
		{"\"\n\"", "control character in a string at line 1 column 2"},
		{"\"\\x\"", "unknown escape in a string at line 1 column 3"},
		{"\"\\", "unknown escape in a string at line 1 column 3"},
		{"\"\\u12g4\"", "expected four hexadecimal digits at line 1 column 4"},
		{"\"\\u1", "expected four hexadecimal digits at line 1 column 4"},
		{"\"\\u0000\"", "a string must not contain \\u0000 at line 1 column 4"},
		{"\"\\udc00\"", "half of a surrogate pair at line 1 column 4"},
		{"\"\\ud800\"", "half of a surrogate pair at line 1 column 8"},
		{"\"\\ud800\\u0041\"", "half of a surrogate pair at line 1 column 8"},
		{"\"\xff\"", "invalid UTF-8 at line 1 column 2"},
		{"{\"a\":1,\"b\":2,\"a\":3}", "duplicate field `a`"},
		{"[{\"b\":{\"x\":1,\"\\u0078\":1}}]", "duplicate field `x`"},
		{"1234567890123456789012345678901234567890123456789012345678901234567890",
		 "a number that is too long at line 1 column 71"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct error err = {0};

		assert_null(json_parse(rows[i].text, strlen(rows[i].text), &err));
		assert_string_equal(err.text, rows[i].fault);
		assert_int_equal(err.code, -EINVAL);
	}
}

static void test_nul_byte(void **state)
{
	struct error err = {0};

	(void)state;
	assert_null(json_parse("{}\0", 3, &err));
	assert_string_equal(err.text, "text behind the JSON value at line 1 column 3");
	assert_null(json_parse("\"a\0b\"", 5, &err));
	assert_null(json_parse("\0", 1, &err));
	assert_null(json_parse("[1,\0]", 5, &err));
}

static void test_depth(void **state)
{
	(void)state;
	for (unsigned over = 0; over < 2; over++) {
		char text[2 * JSON_DEPTH_MAX + 3];
		unsigned depth = JSON_DEPTH_MAX + over;
		struct error err = {0};
		cJSON *json;

		memset(text, '[', depth);
		memset(text + depth, ']', depth);
		json = json_parse(text, 2 * depth, &err);
		assert_true(over ? !json : !!json);
		if (over)
			assert_string_equal(err.text, "nested too deeply at line 1 column 33");
		cJSON_Delete(json);
	}
}

/* The scanner bounds the whole text, not just what cJSON would read of it. */
static void test_length_is_obeyed(void **state)
{
	struct error err = {0};
	cJSON *json = json_parse("12345", 2, &err);

	(void)state;
	assert_non_null(json);
	assert_true(json->valuedouble == 12.0);
	cJSON_Delete(json);
}

static void test_utf8(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
	} rows[] = {
		{"a", 1},
		{"\xc2\x80", 2},
		{"\xe0\xa0\x80", 3},
		{"\xed\x9f\xbf", 3},
		{"\xee\x80\x80", 3},
		{"\xf0\x90\x80\x80", 4},
		{"\xf4\x8f\xbf\xbf", 4},
		{"\x80", 0},
		{"\xc1\xbf", 0},
		{"\xc2", 0},
		{"\xc2\xc2", 0},
		{"\xe0\x9f\xbf", 0},
		{"\xed\xa0\x80", 0},
		{"\xe2\x82", 0},
		{"\xf0\x8f\xbf\xbf", 0},
		{"\xf4\x90\x80\x80", 0},
		{"\xf5\x80\x80\x80", 0},
		{"\xf0\x90\x80", 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		size_t len = strlen(rows[i].bytes);

		assert_int_equal(utf8_sequence_len(rows[i].bytes, len), rows[i].len);
		assert_int_equal(utf8_is_valid(rows[i].bytes, len), rows[i].len != 0);
	}
}

static void test_write_string(void **state)
{
	struct text out = {0};

	(void)state;
	json_write_string(&out, "a\"\\\b\f\n\r\t\x01\x1f/\x7f\xc3\xa9\xff\xe2\x82z");
	assert_string_equal(out.data, "\"a\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001f/\x7f\xc3\xa9"
				      "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\"");
	text_free(&out);
}

static void test_describe(void **state)
{
	static const struct {
		const char *text, *words;
	} rows[] = {
		{"\"x\"", "the string \"x\""},
		{"1", "1"},
		{"1.5", "1.5"},
		{"true", "true"},
		{"false", "false"},
		{"null", "null"},
		{"{}", "an object"},
		{"[]", "an array"},
	};
	char words[96];
	struct error err = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		cJSON *json = json_parse(rows[i].text, strlen(rows[i].text), &err);

		json_describe(json, words, sizeof(words));
		assert_string_equal(words, rows[i].words);
		cJSON_Delete(json);
	}
}

static void test_text_keeps_little(void **state)
{
	struct text text = {0};
	static char large[10000];

	(void)state;
	text_add_string(&text, "x");
	text_clear(&text);
	assert_string_equal(text.data, "");
	text_add(&text, large, sizeof(large));
	assert_int_equal(text.len, sizeof(large));
	text_clear(&text);
	assert_null(text.data);
	text_free(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_nul_byte),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_length_is_obeyed),
		cmocka_unit_test(test_utf8),
		cmocka_unit_test(test_write_string),
		cmocka_unit_test(test_describe),
		cmocka_unit_test(test_text_keeps_little),
	};

	return RUN_TESTS(tests);
}
