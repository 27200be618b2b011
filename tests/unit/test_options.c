// SPDX-License-Identifier: Apache-2.0
/* The command line. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include "vmm/options.h"

#define ARGS_MAX 16

/* Parses a command line given as one string with single spaces ("" is an argument between two of them). */
static int parse(const char *line, struct options *options, struct error *err)
{
	static char text[512];
	char *argv[ARGS_MAX] = {text}, *at = text;
	int argc = 0;

	strncpy(text, line, sizeof(text) - 1);
	while (at && argc < ARGS_MAX)
		argv[argc++] = strsep(&at, " ");
	return options_parse(argc, argv, options, err);
}

static void test_defaults(void **state)
{
	struct options options;
	struct error err = {0};

	(void)state;
	assert_int_equal(parse("vmm", &options, &err), 0);
	assert_string_equal(options.api_sock, "/run/firecracker.socket");
	assert_string_equal(options.id, "anonymous-instance");
	assert_int_equal(options.http_api_max_payload_size, 51200);
	assert_int_equal(options.mmds_size_limit, 51200);
	assert_null(options.level);
	assert_false(options.no_api || options.boot_timer || options.help || options.version);
}

static void test_all(void **state)
{
	struct options options;
	struct error err = {0};

	(void)state;
	assert_int_equal(parse("vmm --api-sock s --id a-1 --seccomp-filter f --start-time-us 1 "
			       "--start-time-cpu-us 2 --parent-cpu-time-us 18446744073709551615",
			       &options, &err),
			 0);
	assert_string_equal(options.seccomp_filter, "f");
	assert_true(options.has_start_time_us && options.has_start_time_cpu_us &&
		    options.has_parent_cpu_time_us);
	assert_int_equal(options.start_time_us, 1);
	assert_int_equal(options.start_time_cpu_us, 2);
	assert_true(options.parent_cpu_time_us == UINT64_MAX);
	assert_int_equal(
		parse("vmm --config-file c --metadata m --no-api --log-path l --level Debug "
		      "--module x --metrics-path p",
		      &options, &err),
		0);
	assert_true(options.no_api && !options.has_start_time_us);
	assert_string_equal(options.config_file, "c");
	assert_string_equal(options.metadata, "m");
	assert_string_equal(options.log_path, "l");
	assert_string_equal(options.level, "Debug");
	assert_string_equal(options.module, "x");
	assert_string_equal(options.metrics_path, "p");
	assert_int_equal(parse("vmm --show-level --show-log-origin --boot-timer --no-seccomp "
			       "--enable-pci --http-api-max-payload-size 7 --describe-snapshot d",
			       &options, &err),
			 0);
	assert_true(options.show_level && options.show_log_origin && options.boot_timer &&
		    options.no_seccomp && options.enable_pci);
	assert_int_equal(options.mmds_size_limit, 7); /* follows the payload's */
	assert_int_equal(parse("vmm --mmds-size-limit 0 --snapshot-version", &options, &err), 0);
	assert_int_equal(options.mmds_size_limit, 0);
	assert_true(options.snapshot_version);
}

static void test_help_and_version_win(void **state)
{
	struct options options;
	struct error err = {0};

	(void)state;
	assert_int_equal(parse("vmm --nonsense -h", &options, &err), 0);
	assert_true(options.help);
	assert_int_equal(parse("vmm --id --help", &options, &err), 0);
	assert_true(options.help);
	assert_int_equal(parse("vmm nonsense --version --id", &options, &err), 0);
	assert_true(options.version && !options.help);
	assert_int_equal(parse("vmm -- --version", &options, &err), 0);
	assert_false(options.version);
}

static void test_extra_arguments_are_ignored(void **state)
{
	struct options options;
	struct error err = {0};

	(void)state;
	assert_int_equal(parse("vmm --id x -- --id y z", &options, &err), 0);
	assert_string_equal(options.id, "x");
}

static void test_faults(void **state)
{
	static const struct {
		const char *line, *fault;
	} rows[] = {
		{"vmm x",
		 "Found argument 'x' which wasn't expected, or isn't valid in this context."},
		{"vmm --x",
		 "Found argument 'x' which wasn't expected, or isn't valid in this context."},
		{"vmm -x",
		 "Found argument '-x' which wasn't expected, or isn't valid in this context."},
		{"vmm --id=x",
		 "Found argument 'id=x' which wasn't expected, or isn't valid in this context."},
		{"vmm --no-seccomp x",
		 "Found argument 'x' which wasn't expected, or isn't valid in this context."},
		{"vmm --id", "The argument 'id' requires a value, but none was supplied."},
		{"vmm --id --no-api", "The argument 'id' requires a value, but none was supplied."},
		{"vmm --id -- x", "The argument 'id' requires a value, but none was supplied."},
		{"vmm --id a --id b", "The argument 'id' was provided more than once."},
		{"vmm --no-seccomp --no-seccomp",
		 "The argument 'no-seccomp' was provided more than once."},
		{"vmm --no-seccomp --seccomp-filter f",
		 "Argument 'seccomp-filter' cannot be used together with argument 'no-seccomp'."},
		{"vmm --prepare-vcpus 0", "Argument 'prepare-vcpus' must be from 1 to 32, not 0."},
		{"vmm --prepare-vcpus 33",
		 "Argument 'prepare-vcpus' must be from 1 to 32, not 33."},
		{"vmm --no-api", "Argument 'config-file' required, but not found."},
		{"vmm --id a_b", "Invalid instance ID: Invalid char (_) at position 1"},
		{"vmm --id ",
		 "Invalid instance ID: Invalid len (0);  the length must be between 1 and 64"},
		{"vmm --id aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		 "Invalid instance ID: Invalid len (65);  the length must be between 1 and 64"},
		{"vmm --start-time-us x", "'start-time-us' parameter expected to be of 'u64' type: "
					  "'x' is not a number from 0 to "
					  "18446744073709551615."},
		{"vmm --start-time-us -1", "'start-time-us' parameter expected to be of 'u64' "
					   "type: '-1' is not a number from 0 "
					   "to 18446744073709551615."},
		{"vmm --mmds-size-limit 18446744073709551616",
		 "'mmds-size-limit' parameter expected to be of 'u64' type: '18446744073709551616' "
		 "is "
		 "not a number from 0 to 18446744073709551615."},
		{"vmm --mmds-size-limit 1k", "'mmds-size-limit' parameter expected to be of 'u64' "
					     "type: '1k' is not a number from 0 "
					     "to 18446744073709551615."},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct options options;
		struct error err = {0};

		assert_int_equal(parse(rows[i].line, &options, &err), -EINVAL);
		assert_string_equal(err.text, rows[i].fault);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_all),
		cmocka_unit_test(test_help_and_version_win),
		cmocka_unit_test(test_extra_arguments_are_ignored),
		cmocka_unit_test(test_faults),
	};

	return RUN_TESTS(tests);
}
