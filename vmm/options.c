// SPDX-License-Identifier: Apache-2.0
/* The monitor's command line: one table of flags for parsing and for --help. */
#include "vmm/options.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "vmm/config.h"
#include "vmm/core/version.h"

enum option_kind { OPTION_FLAG, OPTION_TEXT, OPTION_NUMBER };

struct option_row {
	const char *name;
	enum option_kind kind;
	size_t offset;       /* bool, const char * or uint64_t in struct options */
	size_t given_offset; /* bool: the number was given; 0: nobody asks */
	const char *value;   /* what the value is called in the help; NULL: a flag */
	const char *default_text;
	const char *help;
};

#define AT(member)            .offset = offsetof(struct options, member)
#define TEXT(name_, member)   .name = (name_), .kind = OPTION_TEXT, AT(member)
#define NUMBER(name_, member) .name = (name_), .kind = OPTION_NUMBER, AT(member)
#define FLAG(name_, member)   .name = (name_), .kind = OPTION_FLAG, AT(member)
#define GIVEN(member)         .given_offset = offsetof(struct options, member)

/* A row without a name is a heading of the help. */
static const struct option_row rows[] = {
	{.help = "The API"},
	{TEXT("api-sock", api_sock), .value = "PATH", .default_text = OPTIONS_DEFAULT_SOCKET,
	 .help = "UNIX socket to serve the API on; must not exist"},
	{FLAG("no-api", no_api), .help = "serve no API; needs --config-file"},
	{NUMBER("http-api-max-payload-size", http_api_max_payload_size), .value = "BYTES",
	 .default_text = "51200", .help = "largest request body"},
	{TEXT("id", id), .value = "ID", .default_text = OPTIONS_DEFAULT_ID,
	 .help = "the microVM's name in logs: 1 to 64 letters, digits and -"},

	{.help = "What to run"},
	{TEXT("config-file", config_file), .value = "PATH",
	 .help = "configure the microVM from this JSON file and start it"},
	{TEXT("metadata", metadata), .value = "PATH",
	 .help = "JSON for the metadata service (checked; not served yet)"},
	{NUMBER("mmds-size-limit", mmds_size_limit), .value = "BYTES",
	 .default_text = "--http-api-max-payload-size", .help = "largest metadata"},
	{FLAG("boot-timer", boot_timer),
	 .help = "a device that logs how long the guest took to start"},
	{NUMBER("prepare-vcpus", prepare_vcpus), GIVEN(has_prepare_vcpus), .value = "COUNT",
	 .help = "make the KVM machine ready at once, for a quicker start or snapshot load later"},
	{FLAG("enable-pci", enable_pci), .help = "virtio over PCI instead of MMIO"},

	{.help = "Logs and metrics"},
	{TEXT("log-path", log_path), .value = "PATH", .default_text = "standard output",
	 .help = "file or FIFO to log to"},
	{TEXT("level", level), .value = "LEVEL", .default_text = "Info",
	 .help = "Error, Warning, Info, Debug, Trace or Off"},
	{TEXT("module", module), .value = "PREFIX",
	 .help = "log only what source files under this path say"},
	{FLAG("show-level", show_level), .help = "put the level into log lines"},
	{FLAG("show-log-origin", show_log_origin), .help = "put file and line into log lines"},
	{TEXT("metrics-path", metrics_path), .value = "PATH",
	 .help = "file or FIFO to write metrics to"},

	{.help = "Confinement"},
	{TEXT("seccomp-filter", seccomp_filter), .value = "PATH",
	 .help = "system call filter to use instead of the one built in"},
	{FLAG("no-seccomp", no_seccomp), .help = "no system call filter (not for production)"},

	{.help = "Set by the jailer"},
	{NUMBER("start-time-us", start_time_us), GIVEN(has_start_time_us), .value = "US",
	 .help = "when the process was started, on the monotonic clock"},
	{NUMBER("start-time-cpu-us", start_time_cpu_us), GIVEN(has_start_time_cpu_us),
	 .value = "US", .help = "processor time used when it was started"},
	{NUMBER("parent-cpu-time-us", parent_cpu_time_us), GIVEN(has_parent_cpu_time_us),
	 .value = "US", .help = "processor time that the parent used"},

	{.help = "Information"},
	{FLAG("help", help), .help = "this text (also -h)"},
	{FLAG("version", version), .help = "print the version"},
	{FLAG("snapshot-version", snapshot_version), .help = "print the snapshot format's version"},
	{TEXT("describe-snapshot", describe_snapshot), .value = "PATH",
	 .help = "print the format's version of a snapshot's state file"},
};
#define ROW_COUNT (sizeof(rows) / sizeof(rows[0]))

_Static_assert(OPTIONS_DEFAULT_PAYLOAD == 51200u, "the help says so");

static void *member(struct options *options, size_t offset)
{
	return (char *)options + offset;
}

static const struct option_row *find_row(const char *name)
{
	for (size_t i = 0; i < ROW_COUNT; i++)
		if (rows[i].name && strcmp(rows[i].name, name) == 0)
			return &rows[i];
	return NULL;
}

static int parse_number(const struct option_row *row, const char *text, struct options *options,
			struct error *err)
{
	uint64_t *number = member(options, row->offset);
	char *end;

	errno = 0;
	*number = strtoull(text, &end, 10);
	/* strtoull takes white space and signs, which are no digits of a u64 */
	if (*text < '0' || *text > '9' || *end || errno)
		return error_set(
			err, -EINVAL,
			"'%s' parameter expected to be of 'u64' type: '%s' is not a number "
			"from 0 to %" PRIu64 ".",
			row->name, text, UINT64_MAX);
	if (row->given_offset)
		*(bool *)member(options, row->given_offset) = true;
	return 0;
}

static int set_option(const struct option_row *row, const char *text, struct options *options,
		      struct error *err)
{
	switch (row->kind) {
	case OPTION_FLAG:
		*(bool *)member(options, row->offset) = true;
		return 0;
	case OPTION_TEXT:
		*(const char **)member(options, row->offset) = text;
		return 0;
	case OPTION_NUMBER:
		break;
	}
	return parse_number(row, text, options, err);
}

/* Handles argv[*at] and its value. seen has a place for each row. */
static int parse_one(int argc, char *const argv[], int *at, bool seen[ROW_COUNT],
		     struct options *options, struct error *err)
{
	const char *argument = argv[*at], *text = NULL;
	bool dashes = strncmp(argument, "--", 2) == 0;
	const struct option_row *row = dashes ? find_row(argument + 2) : NULL;

	if (!row)
		return error_set(err, -EINVAL,
				 "Found argument '%s' which wasn't expected, or isn't valid in "
				 "this context.",
				 dashes ? argument + 2 : argument);
	if (seen[row - rows])
		return error_set(err, -EINVAL, "The argument '%s' was provided more than once.",
				 row->name);
	seen[row - rows] = true;
	if (row->kind != OPTION_FLAG) {
		if (*at + 1 >= argc || strncmp(argv[*at + 1], "--", 2) == 0)
			return error_set(
				err, -EINVAL,
				"The argument '%s' requires a value, but none was supplied.",
				row->name);
		text = argv[++*at];
	}
	return set_option(row, text, options, err);
}

/* Help and version win over everything else on the line, mistakes too. */
static bool asks_for_help(int argc, char *const argv[], struct options *options)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			options->help = true;
		if (strcmp(argv[i], "--version") == 0)
			options->version = true;
	}
	return options->help || options->version;
}

static int check_id(const char *id, struct error *err)
{
	size_t len = strlen(id);

	if (len < 1 || len > 64)
		return error_set(err, -EINVAL,
				 "Invalid instance ID: Invalid len (%zu);  the length must be "
				 "between 1 and 64",
				 len);
	for (size_t i = 0; i < len; i++) {
		char c = id[i];
		bool good = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
			    (c >= 'A' && c <= 'Z') || c == '-';
		if (!good)
			return error_set(err, -EINVAL,
					 "Invalid instance ID: Invalid char (%c) at position %zu",
					 c, i);
	}
	return 0;
}

static int check_combination(const struct options *options, struct error *err)
{
	if (options->seccomp_filter && options->no_seccomp)
		return error_set(err, -EINVAL,
				 "Argument 'seccomp-filter' cannot be used together with argument "
				 "'no-seccomp'.");
	if (options->no_api && !options->config_file)
		return error_set(err, -EINVAL, "Argument 'config-file' required, but not found.");
	if (options->has_prepare_vcpus &&
	    (options->prepare_vcpus < 1 || options->prepare_vcpus > VCPUS_MAX))
		return error_set(err, -EINVAL,
				 "Argument 'prepare-vcpus' must be from 1 to %u, not %" PRIu64 ".",
				 VCPUS_MAX, options->prepare_vcpus);
	return check_id(options->id, err);
}

int options_parse(int argc, char *const argv[], struct options *options, struct error *err)
{
	bool seen[ROW_COUNT] = {false};
	int ret;

	*options = (struct options){
		.api_sock = OPTIONS_DEFAULT_SOCKET,
		.id = OPTIONS_DEFAULT_ID,
		.http_api_max_payload_size = OPTIONS_DEFAULT_PAYLOAD,
	};
	if (asks_for_help(argc, argv, options))
		return 0;
	for (int at = 1; at < argc && strcmp(argv[at], "--") != 0; at++) {
		ret = parse_one(argc, argv, &at, seen, options, err);
		if (ret)
			return ret;
	}
	if (!seen[find_row("mmds-size-limit") - rows])
		options->mmds_size_limit = options->http_api_max_payload_size;
	return check_combination(options, err);
}

/* ---- help ---- */

static void print_row(const struct option_row *row)
{
	char left[64];

	if (!row->name) {
		printf("\n%s:\n", row->help);
		return;
	}
	snprintf(left, sizeof(left), "--%s%s%s", row->name, row->value ? " " : "",
		 row->value ? row->value : "");
	printf("  %-34s %s", left, row->help);
	if (row->default_text)
		printf(" [default: %s]", row->default_text);
	putchar('\n');
}

void options_print_help(const char *program)
{
	printf("Usage: %s [--name value]...\n\n"
	       "Runs one microVM: serves the API on a UNIX socket and waits to be configured and\n"
	       "started, or configures and starts it from a file.\n",
	       program);
	for (size_t i = 0; i < ROW_COUNT; i++)
		print_row(&rows[i]);
	printf("\nA value follows its name as the next argument (no '='); what follows -- is "
	       "ignored.\n"
	       "\nExample:\n"
	       "  %s --api-sock /tmp/vm.sock &\n"
	       "  api() { curl --unix-socket /tmp/vm.sock -X PUT \"http://localhost/$1\" -d "
	       "\"$2\"; }\n"
	       "  api boot-source '{\"kernel_image_path\": \"vmlinux\", \"boot_args\": "
	       "\"console=ttyS0\"}'\n"
	       "  api drives/root '{\"drive_id\": \"root\", \"path_on_host\": \"root.ext4\", "
	       "\"is_root_device\": true}'\n"
	       "  api actions '{\"action_type\": \"InstanceStart\"}'\n",
	       program);
}
