// SPDX-License-Identifier: Apache-2.0
/* The jailer's options and plan: no privileges, no effects; the host's files are made up in a folder. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "jailer/cgroup_plan.h"
#include "jailer/journal.h"
#include "jailer/number.h"
#include "jailer/options.h"
#include "jailer/plan.h"
#include "jailer/remove.h"
#include "tests/unit/unit.h"

#define WORDS_MAX 40

struct world {
	char folder[64], mounts[96], misc[96], program[96], base[96];
	const char *uffd;
};

static void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static int make_world(void **state)
{
	char text[512], path[128];
	struct world *world = calloc(1, sizeof(*world));
	strcpy(world->folder, "/tmp/bantam-plan-XXXXXX");
	if (!mkdtemp(world->folder))
		return -1;
	snprintf(world->mounts, sizeof(world->mounts), "%s/mounts", world->folder);
	snprintf(world->misc, sizeof(world->misc), "%s/misc", world->folder);
	snprintf(world->program, sizeof(world->program), "%s/monitor", world->folder);
	snprintf(world->base, sizeof(world->base), "%s/base dir", world->folder);
	mkdir(world->base, 0755);
	snprintf(text, sizeof(text),
		 "proc /proc proc rw 0 0\ncgroup /sys/v1/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n"
		 "cgroup /sys/v1/with\\040space cgroup rw,pids 0 0\ncgroup2 %s cgroup2 rw 0 0\n",
		 world->folder);
	write_file(world->mounts, text);
	snprintf(path, sizeof(path), "%s/cgroup.controllers", world->folder);
	write_file(path, "cpu memory pids\n");
	write_file(world->misc, "232 kvm\n 99 userfaultfd\n");
	write_file(world->program, "x");
	world->uffd = "/nonexistent";
	*state = world;
	return 0;
}

static int remove_world(void **state)
{
	struct world *world = *state;
	int fd = open("/tmp", O_RDONLY | O_DIRECTORY);
	int rc = remove_tree(fd, world->folder + strlen("/tmp/"));
	close(fd);
	free(world);
	return rc;
}

/* A command line: the words that every one needs, then those given, up to NULL. */
struct line {
	struct jail_options options;
	struct jail_plan plan;
	struct jail_error error;
	char *words[WORDS_MAX];
	int rc;
};

static void parse(struct line *line, const char *const *words)
{
	int count = 0;
	while (words[count]) {
		line->words[count] = strdup(words[count]);
		count++;
	}
	line->words[count] = NULL;
	line->error.text[0] = '\0';
	line->rc = options_parse(count, line->words, &line->options, &line->error);
}

static void judge(struct world *world, struct line *line, const char *const *more)
{
	const struct plan_sources sources = {.proc_mounts = world->mounts,
					     .proc_misc = world->misc,
					     .dev_uffd = world->uffd};
	const char *words[WORDS_MAX] = {
		"jailer", "--id",  "a-1", "--exec-file",       world->program, "--uid",
		"1",      "--gid", "2",   "--chroot-base-dir", world->base};
	int count = 11;
	for (; *more; more++)
		words[count++] = *more;
	memset(line, 0, sizeof(*line));
	parse(line, words);
	assert_int_equal(line->rc, 0);
	line->rc = plan_make(&line->options, &sources, &line->plan, &line->error);
}

static void end(struct line *line)
{
	plan_free(&line->plan);
	options_free(&line->options);
	for (int i = 0; line->words[i]; i++)
		free(line->words[i]);
}

#define JUDGE(line, ...) judge(*state, (line), (const char *const[]){__VA_ARGS__, NULL})
#define PARSE(line, ...)                                                           \
	do {                                                                       \
		memset((line), 0, sizeof(*(line)));                                \
		parse((line), (const char *const[]){"jailer", __VA_ARGS__, NULL}); \
	} while (0)

static void options_split_at_the_separator(void **state)
{
	struct line line;
	(void)state;
	PARSE(&line, "--id", "a", "--exec-file", "b", "--uid", "1", "--gid", "2", "--cgroup", "x=1",
	      "--cgroup", "y=2", "--", "--id", "c", "--help");
	assert_int_equal(line.rc, 0);
	assert_string_equal(line.options.id, "a");
	assert_string_equal(line.options.extra[0], "--id");
	assert_null(line.options.extra[3]);
	assert_int_equal(line.options.cgroups.count, 2);
	assert_string_equal(line.options.cgroups.values[1], "y=2");
	assert_string_equal(line.options.chroot_base_dir, "/srv/jailer");
	assert_false(line.options.help);
	end(&line);
}

static void options_help_and_version_win(void **state)
{
	struct line line;
	(void)state;
	PARSE(&line, "--nonsense", "--version", "-h");
	assert_int_equal(line.rc, 0);
	assert_true(line.options.help && line.options.version);
	end(&line);
}

static void options_mistakes(void **state)
{
	static const struct {
		const char *words[4], *text;
	} rows[] = {
		{{"--id"}, "The argument 'id' requires a value, but none was supplied."},
		{{"--id", "--uid"}, "The argument 'id' requires a value, but none was supplied."},
		{{"--id", "a", "--id", "b"}, "The argument 'id' was provided more than once."},
		{{"--daemonize", "--daemonize"},
		 "The argument 'daemonize' was provided more than once."},
		{{"word"},
		 "Found argument 'word' which wasn't expected, or isn't valid in this context."},
		{{"--id=a"},
		 "Found argument 'id=a' which wasn't expected, or isn't valid in this context."},
		{{"--id", "a"}, "Argument 'exec-file' required, but not found."},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct line line;
		PARSE(&line, rows[i].words[0], rows[i].words[1], rows[i].words[2],
		      rows[i].words[3]);
		assert_int_equal(line.rc, -EINVAL);
		assert_string_equal(line.error.text + strlen("Failed to parse arguments: "),
				    rows[i].text);
		end(&line);
	}
}

static void numbers(void **state)
{
	uint64_t value = 7;
	(void)state;
	assert_null(number_parse("+42", 100, &value));
	assert_int_equal(value, 42);
	assert_null(number_parse("18446744073709551615", UINT64_MAX, &value));
	assert_true(value == UINT64_MAX);
	assert_non_null(number_parse("18446744073709551616", UINT64_MAX, &value));
	assert_non_null(number_parse("101", 100, &value));
	assert_non_null(number_parse("5", 4, &value));
	assert_non_null(number_parse("", 100, &value));
	assert_non_null(number_parse("+", 100, &value));
	assert_non_null(number_parse("-1", 100, &value));
	assert_non_null(number_parse("1 ", 100, &value));
	assert_non_null(number_parse("0x1", 100, &value));
}

static void plan_has_firecrackers_layout_and_defaults(void **state)
{
	struct world *world = *state;
	struct line line;
	char path[PATH_MAX];
	JUDGE(&line, "--", "--api-sock", "s");
	assert_int_equal(line.rc, 0);
	snprintf(path, sizeof(path), "%s/monitor/a-1/root", world->base);
	assert_string_equal(line.plan.chroot_dir, path);
	assert_string_equal(line.plan.exec_name, "monitor");
	assert_int_equal(line.plan.no_file, 2048);
	assert_false(line.plan.limits_fsize);
	assert_int_equal(line.plan.cgroup.group_count, 0);
	assert_true(line.plan.has_uffd && line.plan.uffd_minor == 99);
	assert_true(line.plan.landlock);
	assert_string_equal(line.plan.extra[1], "s");
	end(&line);
}

static void uffd_is_taken_from_its_node_or_from_misc(void **state)
{
	struct world *world = *state;
	struct line line;
	world->uffd = "/dev/null"; /* a node, of another driver */
	JUDGE(&line, "--", "--api-sock", "s");
	assert_true(line.plan.has_uffd && line.plan.uffd_minor == 99);
	end(&line);
	world->uffd = "/dev/kvm"; /* of the driver */
	JUDGE(&line, "--", "--api-sock", "s");
	assert_true(line.plan.has_uffd && line.plan.uffd_minor == 232);
	end(&line);
	world->uffd = "/nonexistent";
	write_file(world->misc, "232 kvm\n");
	JUDGE(&line, "--", "--api-sock", "s");
	assert_false(line.plan.has_uffd);
	end(&line);
}

static void plan_takes_limits(void **state)
{
	struct line line;
	JUDGE(&line, "--resource-limit", "fsize=0", "--resource-limit", "no-file=64");
	assert_int_equal(line.rc, 0);
	assert_true(line.plan.limits_fsize && line.plan.fsize_bytes == 0);
	assert_int_equal(line.plan.no_file, 64);
	end(&line);
}

static void plan_sorts_cgroups_of_version_1(void **state)
{
	struct line line;
	JUDGE(&line, "--cgroup", "cpu.shares=2", "--cgroup", "pids.max=3", "--cgroup",
	      "cpu.cfs_quota_us=4", "--parent-cgroup", "one/two");
	assert_int_equal(line.rc, 0);
	assert_int_equal(line.plan.cgroup.group_count, 2);
	assert_string_equal(line.plan.cgroup.groups[0].path, "/sys/v1/cpu,cpuacct/one/two/a-1");
	assert_int_equal(line.plan.cgroup.groups[0].property_count, 2);
	assert_string_equal(line.plan.cgroup.groups[0].properties[1].value, "4");
	assert_string_equal(line.plan.cgroup.groups[1].path, "/sys/v1/with space/one/two/a-1");
	assert_false(line.plan.cgroup.parent_is_ours);
	end(&line);
}

static void plan_has_one_cgroup_of_version_2(void **state)
{
	struct world *world = *state;
	struct line line;
	char path[PATH_MAX];
	JUDGE(&line, "--cgroup-version", "2", "--cgroup", "memory.max=max", "--cgroup",
	      "cpu.weight=3");
	assert_int_equal(line.rc, 0);
	assert_int_equal(line.plan.cgroup.group_count, 1);
	snprintf(path, sizeof(path), "%s/monitor/a-1", world->folder);
	assert_string_equal(line.plan.cgroup.groups[0].path, path);
	assert_true(line.plan.cgroup.parent_is_ours);
	end(&line);
}

static void plan_joins_an_existing_parent_only(void **state)
{
	struct world *world = *state;
	struct line line;
	char path[PATH_MAX];
	JUDGE(&line, "--cgroup-version", "2", "--parent-cgroup", "absent");
	assert_int_equal(line.rc, 0);
	assert_null(line.plan.cgroup.join);
	end(&line);
	snprintf(path, sizeof(path), "%s/present", world->folder);
	mkdir(path, 0755);
	JUDGE(&line, "--cgroup-version", "2", "--parent-cgroup", "present");
	assert_int_equal(line.rc, 0);
	assert_string_equal(line.plan.cgroup.join, path);
	end(&line);
}

static void plan_mistakes(void **state)
{
	static const struct {
		const char *option, *value, *text;
	} rows[] = {
		{"--cgroup", "cpu.shares", "Invalid format for cgroups: cpu.shares"},
		{"--cgroup", "cpu.shares=", "Invalid format for cgroups: cpu.shares="},
		{"--cgroup", "cpu.shares=1=2", "Invalid format for cgroups: cpu.shares=1=2"},
		{"--cgroup", "/cpu.shares=1", "Cgroup invalid file: /cpu.shares=1"},
		{"--cgroup", "cpu/../x.y=1", "Cgroup invalid file: cpu/../x.y=1"},
		{"--cgroup", "shares=1", "Cgroup invalid file: shares"},
		{"--cgroup", "cpua.shares=1", "Controller cpua is unavailable"},
		{"--cgroup-version", "3", "3 is an invalid cgroup version specifier"},
		{"--cgroup-version", "0", "0 is an invalid cgroup version specifier"},
		{"--parent-cgroup", "..",
		 "Parent cgroup path is invalid. Path should not be absolute or contain '..' or "
		 "'.'"},
		{"--parent-cgroup", "./x",
		 "Parent cgroup path is invalid. Path should not be absolute or contain '..' or "
		 "'.'"},
		{"--resource-limit", "fsize", "Invalid format for resources limits: fsize"},
		{"--resource-limit", "fsizes=1", "Invalid resource argument: fsizes"},
		{"--resource-limit", "no-file=",
		 "Invalid limit value for resource: : cannot parse integer from empty string"},
		{"--exec-copy", "link",
		 "Invalid way to copy the exec file: link (file, memfd or shared)"},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct line line;
		JUDGE(&line, rows[i].option, rows[i].value);
		assert_int_equal(line.rc, -EINVAL);
		assert_string_equal(line.error.text, rows[i].text);
		end(&line);
	}
}

static void plan_reports_the_first_mistake(void **state)
{
	struct line line;
	JUDGE(&line, "--resource-limit", "x", "--cgroup", "y", "--parent-cgroup", "/z");
	assert_true(strncmp(line.error.text, "Parent cgroup path", 18) == 0);
	end(&line);
}

static void paths_that_escape(void **state)
{
	(void)state;
	assert_true(cgroup_path_escapes("/a"));
	assert_true(cgroup_path_escapes("."));
	assert_true(cgroup_path_escapes("a/.."));
	assert_true(cgroup_path_escapes("../a"));
	assert_false(cgroup_path_escapes("a/..b"));
	assert_false(cgroup_path_escapes("..."));
	assert_false(cgroup_path_escapes(""));
}

static void plan_prints_every_step(void **state)
{
	static const char *const expected[] = {"folder ",    "program ",    "cgroup ",
					       "  write ",   "network ",    "namespaces ",
					       "root ",      "devices ",    "process ",
					       "limits ",    "privileges ", "execute ",
					       "afterwards "};
	struct line line;
	char *text;
	size_t size;
	JUDGE(&line, "--cgroup", "cpu.shares=2", "--clean-up", "--", "--no-api");
	FILE *out = open_memstream(&text, &size);
	plan_print(&line.plan, out);
	fclose(out);
	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
		assert_non_null(strstr(text, expected[i]));
	assert_non_null(strstr(text, "--parent-cpu-time-us N --no-api\n"));
	free(text);
	end(&line);
}

static void journal_is_bounded(void **state)
{
	char path[4096];
	struct journal *journal = journal_new(true);
	(void)state;
	assert_non_null(journal);
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(journal_add(journal, JOURNAL_DIR, "/first"), 0);
	int added = 0;
	while (journal_add(journal, JOURNAL_INSIDE, path) == 0)
		added++;
	assert_int_equal(added, JOURNAL_TEXT / sizeof(path) - 1);
	assert_int_equal(errno, ENOSPC);
	assert_int_equal(journal->count, added + 1);
	assert_string_equal(journal_path(journal, 0), "/first");
}

static void trees_are_removed_without_following_links(void **state)
{
	struct world *world = *state;
	char path[256];
	int folder = open(world->folder, O_RDONLY | O_DIRECTORY);
	mkdirat(folder, "tree", 0755);
	int at = openat(folder, "tree", O_RDONLY | O_DIRECTORY);
	assert_int_equal(symlinkat("../base dir", at, "link"), 0);
	for (int depth = 0; depth < 200; depth++) {
		assert_int_equal(mkdirat(at, "d", 0755), 0);
		close(openat(at, "file", O_WRONLY | O_CREAT, 0));
		int next = openat(at, "d", O_RDONLY | O_DIRECTORY);
		close(at);
		at = next;
	}
	close(at);
	assert_int_equal(remove_tree(folder, "tree"), 0);
	assert_int_equal(remove_tree(folder, "tree"), 0); /* gone is removed */
	snprintf(path, sizeof(path), "%s/base dir", world->folder);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(symlinkat("base dir", folder, "alias"), 0);
	assert_true(remove_tree(folder, "alias") < 0);
	close(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_split_at_the_separator),
		cmocka_unit_test(options_help_and_version_win),
		cmocka_unit_test(options_mistakes),
		cmocka_unit_test(numbers),
		cmocka_unit_test(paths_that_escape),
		cmocka_unit_test(journal_is_bounded),
#define WITH_WORLD(test) cmocka_unit_test_setup_teardown(test, make_world, remove_world)
		WITH_WORLD(plan_has_firecrackers_layout_and_defaults),
		WITH_WORLD(uffd_is_taken_from_its_node_or_from_misc),
		WITH_WORLD(plan_takes_limits),
		WITH_WORLD(plan_sorts_cgroups_of_version_1),
		WITH_WORLD(plan_has_one_cgroup_of_version_2),
		WITH_WORLD(plan_joins_an_existing_parent_only),
		WITH_WORLD(plan_mistakes),
		WITH_WORLD(plan_reports_the_first_mistake),
		WITH_WORLD(plan_prints_every_step),
		WITH_WORLD(trees_are_removed_without_following_links),
	};
	return RUN_TESTS(tests);
}
