// SPDX-License-Identifier: Apache-2.0
/* The kernel's command line: what is accepted and where parameters are put. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>
#include "vmm/arch/x86_64/cmdline.h"

/* What comes of boot_args when "a=1" and "b=2" are appended. */
static void expect_appended(const char *boot_args, const char *expected)
{
	struct cmdline cmdline;
	struct error err = {0};

	assert_int_equal(cmdline_init(&cmdline, boot_args, &err), 0);
	assert_int_equal(cmdline_append(&cmdline, &err, "%s", ""), 0);
	assert_string_equal(cmdline.text, boot_args ? boot_args : CMDLINE_DEFAULT);
	assert_int_equal(cmdline_append(&cmdline, &err, "a=%d", 1), 0);
	assert_int_equal(cmdline_append(&cmdline, &err, "b=%d", 2), 0);
	assert_string_equal(cmdline.text, expected);
	assert_int_equal(cmdline.len, strlen(expected));
}

static void test_append(void **state)
{
	(void)state;
	expect_appended(NULL, CMDLINE_DEFAULT " a=1 b=2");
	expect_appended("", "a=1 b=2");
	expect_appended("quiet", "quiet a=1 b=2");
	expect_appended("quiet ", "quiet  a=1 b=2");
}

static void test_append_before_init_arguments(void **state)
{
	(void)state;
	expect_appended("quiet -- x --y", "quiet a=1 b=2 -- x --y");
	expect_appended("quiet --", "quiet a=1 b=2 --");
	expect_appended("-- x", "a=1 b=2 -- x");
	expect_appended(" -- x", "a=1 b=2 -- x");
	expect_appended("--", "a=1 b=2 --");
	expect_appended("x -- y -- z", "x a=1 b=2 -- y -- z");
}

static void test_not_a_separator(void **state)
{
	(void)state;
	expect_appended("a--b --c d-- e", "a--b --c d-- e a=1 b=2");
	expect_appended("x=\"1 -- 2\" y", "x=\"1 -- 2\" y a=1 b=2");
	expect_appended("x=\"1 -- 2\" -- y", "x=\"1 -- 2\" a=1 b=2 -- y");
	expect_appended("-", "- a=1 b=2");
	expect_appended("--- x", "--- x a=1 b=2");
}

static void test_length(void **state)
{
	char text[LAYOUT_CMDLINE_MAX + 1];
	struct cmdline cmdline;
	struct error err = {0};

	(void)state;
	memset(text, 'x', sizeof(text));
	text[LAYOUT_CMDLINE_MAX] = 0;
	assert_int_equal(cmdline_init(&cmdline, text, &err), -EINVAL);
	assert_non_null(strstr(err.text, "2048 bytes, expected at most 2047"));
	text[LAYOUT_CMDLINE_MAX - 1] = 0;
	assert_int_equal(cmdline_init(&cmdline, text, &err), 0);
	assert_int_equal(cmdline_append(&cmdline, &err, "%s", "y"), -E2BIG);
	assert_string_equal(cmdline.text, text);

	text[LAYOUT_CMDLINE_MAX - 4] = 0;
	assert_int_equal(cmdline_init(&cmdline, text, &err), 0);
	assert_int_equal(cmdline_append(&cmdline, &err, "%s", "abc"), -E2BIG);
	assert_non_null(strstr(err.text, "no room for \"abc\""));
	assert_int_equal(cmdline_append(&cmdline, &err, "%s", "ab"), 0);
	assert_int_equal(cmdline.len, LAYOUT_CMDLINE_MAX - 1);
	assert_int_equal(strlen(cmdline.text), LAYOUT_CMDLINE_MAX - 1);
}

static void test_oversized_parameter(void **state)
{
	char word[2 * LAYOUT_CMDLINE_MAX];
	struct cmdline cmdline;
	struct error err = {0};

	(void)state;
	memset(word, 'x', sizeof(word));
	word[sizeof(word) - 1] = 0;
	assert_int_equal(cmdline_init(&cmdline, "quiet", &err), 0);
	assert_int_equal(cmdline_append(&cmdline, &err, "%s", word), -E2BIG);
	assert_string_equal(cmdline.text, "quiet");
}

static void test_bytes(void **state)
{
	static const char *const bad[] = {"a\tb", "a\nb", "\x7f", "\xc3\xa4", "\x01"};
	struct cmdline cmdline;
	struct error err = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(cmdline_init(&cmdline, bad[i], &err), -EINVAL);
		assert_non_null(strstr(err.text, "The kernel command line is invalid: byte 0x"));
	}
	assert_int_equal(cmdline_init(&cmdline, " ~!\"", &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_append),
		cmocka_unit_test(test_append_before_init_arguments),
		cmocka_unit_test(test_not_a_separator),
		cmocka_unit_test(test_length),
		cmocka_unit_test(test_oversized_parameter),
		cmocka_unit_test(test_bytes),
	};

	return RUN_TESTS(tests);
}
