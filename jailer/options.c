// SPDX-License-Identifier: Apache-2.0
/* The jailer's command line: one table of flags for parsing and for --help. */
#include "jailer/options.h"

#include <errno.h>
#include <string.h>

enum option_kind { OPTION_FLAG, OPTION_TEXT, OPTION_LIST };

struct option_row {
	const char *name;
	enum option_kind kind;
	bool required, own;
	size_t offset; /* bool, const char * or struct option_list in struct jail_options */
	const char *value, *fallback, *help;
};

#define AT(member)          .offset = offsetof(struct jail_options, member)
#define FLAG(name_, member) .name = (name_), .kind = OPTION_FLAG, AT(member)
#define TEXT(name_, member) .name = (name_), .kind = OPTION_TEXT, AT(member)
#define LIST(name_, member) .name = (name_), .kind = OPTION_LIST, AT(member)

/* In the order of names: the first missing one is the one that is complained about. */
static const struct option_row rows[] = {
	{FLAG("allow-devices", allow_devices), .own = true,
	 .help = "device nodes that are put into the jail later work (no nodev on its root)"},
	{LIST("cgroup", cgroups), .value = "FILE=VALUE",
	 .help = "write VALUE into FILE of the jail's cgroup, e.g. cpu.shares=10; repeatable"},
	{TEXT("cgroup-version", cgroup_version), .value = "1|2", .fallback = "1",
	 .help = "which cgroup hierarchy to use"},
	{TEXT("chroot-base-dir", chroot_base_dir), .value = "DIR", .fallback = "/srv/jailer",
	 .help = "jails are made in DIR/<name of exec file>/<id>/root"},
	{FLAG("clean-up", clean_up), .own = true,
	 .help = "remove the jail's folder and cgroup when the program in it ends, however it "
		 "ends"},
	{FLAG("daemonize", daemonize),
	 .help = "leave the session, standard I/O from and to /dev/null"},
	{FLAG("dry-run", dry_run), .own = true, .help = "print what would be done, do nothing"},
	{TEXT("exec-copy", exec_copy), .own = true, .value = "MODE", .fallback = "file",
	 .help = "file: a copy in the jail, by reflink where the file system can; memfd: a sealed "
		 "copy in memory; "
		 "shared: the file itself, read-only, sharing its pages with others"},
	{TEXT("exec-file", exec_file), .required = true, .value = "FILE",
	 .help = "program to run in the jail"},
	{TEXT("gid", gid), .required = true, .value = "GID", .help = "group to run it as"},
	{TEXT("id", id), .required = true, .value = "ID",
	 .help = "name of the jail: 1 to 64 letters, digits and -"},
	{TEXT("netns", netns), .value = "PATH", .help = "network namespace to join"},
	{FLAG("new-net-ns", new_net_ns), .own = true,
	 .help = "run in a new network namespace without any network"},
	{FLAG("new-pid-ns", new_pid_ns), .help = "run as process 1 of a new process namespace"},
	{FLAG("no-landlock", no_landlock), .own = true, .help = "leave Landlock out"},
	{TEXT("parent-cgroup", parent_cgroup), .value = "PATH", .fallback = NULL,
	 .help = "cgroup in which the jail's is made (default: name of the exec file)"},
	{LIST("resource-limit", resource_limits), .value = "NAME=VALUE",
	 .help = "fsize=BYTES: largest file; no-file=N: number of descriptors (default 2048); "
		 "repeatable"},
	{FLAG("rootless", rootless), .own = true,
	 .help = "make the jail without privileges, in a user namespace"},
	{TEXT("uid", uid), .required = true, .value = "UID", .help = "user to run it as"},
	{FLAG("version", version), .help = "print the version"},
};

#define ROW_COUNT (sizeof(rows) / sizeof(rows[0]))

static void *member_of(struct jail_options *options, const struct option_row *row)
{
	return (char *)options + row->offset;
}

static const struct option_row *find_row(const char *name)
{
	for (size_t i = 0; i < ROW_COUNT; i++)
		if (strcmp(rows[i].name, name) == 0)
			return &rows[i];
	return NULL;
}

static bool begins_with_dashes(const char *text)
{
	return strncmp(text, "--", 2) == 0;
}

static int count_before_separator(int argc, char *const argv[])
{
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "--") == 0)
			return i;
	return argc;
}

/* Help wins over version, both over every mistake on the line. */
static bool asks_for_words(int count, char *const argv[], struct jail_options *options)
{
	for (int i = 1; i < count; i++) {
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			options->help = true;
		if (strcmp(argv[i], "--version") == 0)
			options->version = true;
	}
	return options->help || options->version;
}

static int add_to_list(struct option_list *list, const char *value, int argc)
{
	if (!list->values)
		list->values = calloc((size_t)argc, sizeof(*list->values));
	if (!list->values)
		return -ENOMEM;
	list->values[list->count++] = value;
	return 0;
}

/* Takes one option with its value. Returns how many words it took. */
static int take_option(int count, char *const argv[], int at, bool given[],
		       struct jail_options *options, struct jail_error *error)
{
	const char *word = argv[at];
	const struct option_row *row = begins_with_dashes(word) ? find_row(word + 2) : NULL;
	if (!row)
		return jail_refuse(
			error,
			"Failed to parse arguments: Found argument '%s' which wasn't expected, or "
			"isn't valid in this context.",
			begins_with_dashes(word) ? word + 2 : word);
	if (given[row - rows] && row->kind != OPTION_LIST)
		return jail_refuse(
			error,
			"Failed to parse arguments: The argument '%s' was provided more than once.",
			row->name);
	given[row - rows] = true;
	if (row->kind == OPTION_FLAG) {
		*(bool *)member_of(options, row) = true;
		return 1;
	}
	if (at + 1 >= count || begins_with_dashes(argv[at + 1]))
		return jail_refuse(
			error,
			"Failed to parse arguments: The argument '%s' requires a value, but none "
			"was supplied.",
			row->name);
	if (row->kind == OPTION_TEXT)
		*(const char **)member_of(options, row) = argv[at + 1];
	else if (add_to_list(member_of(options, row), argv[at + 1], count))
		return jail_refuse(error, "Failed to parse arguments: out of memory");
	return 2;
}

int options_parse(int argc, char *const argv[], struct jail_options *options,
		  struct jail_error *error)
{
	bool given[ROW_COUNT] = {false};
	int count = count_before_separator(argc, argv);

	*options = (struct jail_options){.extra = argv + (count < argc ? count + 1 : argc)};
	if (asks_for_words(count, argv, options))
		return 0;
	for (size_t i = 0; i < ROW_COUNT; i++)
		if (rows[i].kind == OPTION_TEXT)
			*(const char **)member_of(options, &rows[i]) = rows[i].fallback;
	for (int at = 1; at < count;) {
		int took = take_option(count, argv, at, given, options, error);
		if (took < 0)
			return took;
		at += took;
	}
	for (size_t i = 0; i < ROW_COUNT; i++)
		if (rows[i].required && !given[i])
			return jail_refuse(
				error,
				"Failed to parse arguments: Argument '%s' required, but not found.",
				rows[i].name);
	return 0;
}

void options_free(struct jail_options *options)
{
	free(options->cgroups.values);
	free(options->resource_limits.values);
	options->cgroups = options->resource_limits = (struct option_list){0};
}

static void print_row(FILE *out, const struct option_row *row)
{
	char left[64];
	snprintf(left, sizeof(left), "--%s%s%s", row->name, row->value ? " " : "",
		 row->value ? row->value : "");
	fprintf(out, "  %-30s %s", left, row->help);
	if (row->fallback)
		fprintf(out, " (default: %s)", row->fallback);
	fputc('\n', out);
}

static void print_rows(FILE *out, const char *title, bool required, bool own)
{
	fprintf(out, "\n%s:\n", title);
	for (size_t i = 0; i < ROW_COUNT; i++)
		if (rows[i].required == required && rows[i].own == own)
			print_row(out, &rows[i]);
}

void options_print_help(FILE *out)
{
	fputs("Makes a jail of cgroups, namespaces and a folder, and runs a program in it.\n\n"
	      "usage: bantam-jailer OPTION... [-- ARGUMENT OF THE PROGRAM...]\n",
	      out);
	print_rows(out, "required", true, false);
	print_rows(out, "optional", false, false);
	fputs("  --help                         print this\n", out);
	print_rows(out, "beyond Firecracker's jailer", false, true);
}
