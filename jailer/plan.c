// SPDX-License-Identifier: Apache-2.0
/* Judges the options, in the order in which Firecracker's jailer does: the first mistake is the one reported. */
#include "jailer/plan.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <linux/major.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include "jailer/number.h"

static const char step[] = "judge the options";
#define MAX_ID_LENGTH 64

static int check_id(const char *id, struct jail_error *error)
{
	size_t length = strlen(id);
	if (length < 1 || length > MAX_ID_LENGTH)
		return jail_refuse(error,
				   "Invalid instance ID: Invalid len (%zu);  the length must be "
				   "between 1 and 64",
				   length);
	for (size_t i = 0; i < length; i++)
		if (!isascii(id[i]) || (!isalnum((unsigned char)id[i]) && id[i] != '-'))
			return jail_refuse(error,
					   "Invalid instance ID: Invalid char (%c) at position %zu",
					   id[i], i);
	return 0;
}

static int canonicalize(const char *path, char **canonical, struct jail_error *error)
{
	*canonical = realpath(path, NULL);
	if (!*canonical)
		return jail_fail(error, PLACE(step, "realpath", path),
				 "Failed to canonicalize path %s", path);
	return 0;
}

static int plan_exec_file(const char *path, struct jail_plan *plan, struct jail_error *error)
{
	struct stat status;
	int rc = canonicalize(path, &plan->exec_path, error);
	if (rc)
		return rc;
	if (stat(plan->exec_path, &status) || !S_ISREG(status.st_mode))
		return jail_refuse(error, "%s is not a file", plan->exec_path);
	plan->exec_name = strrchr(plan->exec_path, '/') + 1;
	return 0;
}

static int plan_base(const char *path, struct jail_plan *plan, struct jail_error *error)
{
	struct stat status;
	int rc = canonicalize(path, &plan->base_dir, error);
	if (rc)
		return rc;
	if (stat(plan->base_dir, &status) || !S_ISDIR(status.st_mode))
		return jail_refuse(error, "%s is not a directory", plan->base_dir);
	if (asprintf(&plan->chroot_dir, "%s/%s/%s/root",
		     strcmp(plan->base_dir, "/") == 0 ? "" : plan->base_dir, plan->exec_name,
		     plan->id) < 0)
		return jail_refuse(error, "Out of memory");
	return 0;
}

static int plan_owner(const char *name, const char *text, uint32_t *number,
		      struct jail_error *error)
{
	uint64_t value;
	/* The greatest number is no owner: system calls take it for "leave as it is", which would be root. */
	if (number_parse(text, UINT32_MAX - 1, &value))
		return jail_refuse(error, "Invalid %s: %s", name, text);
	*number = (uint32_t)value;
	return 0;
}

static int plan_limit(const char *argument, struct jail_plan *plan, struct jail_error *error)
{
	uint64_t value;
	const char *equals = strchr(argument, '=');
	if (!equals)
		return jail_refuse(error, "Invalid format for resources limits: %s", argument);
	const char *wrong = number_parse(equals + 1, UINT64_MAX, &value);
	if (wrong)
		return jail_refuse(error, "Invalid limit value for resource: %s: %s", equals + 1,
				   wrong);
	int length = (int)(equals - argument);
	if (length == 5 && strncmp(argument, "fsize", 5) == 0) {
		plan->limits_fsize = true;
		plan->fsize_bytes = value;
	} else if (length == 7 && strncmp(argument, "no-file", 7) == 0) {
		plan->no_file = value;
	} else {
		return jail_refuse(error, "Invalid resource argument: %.*s", length, argument);
	}
	return 0;
}

static const char *const exec_copy_names[] = {
	[EXEC_COPY_FILE] = "file",
	[EXEC_COPY_MEMFD] = "memfd",
	[EXEC_COPY_SHARED] = "shared",
};
_Static_assert(sizeof(exec_copy_names) / sizeof(exec_copy_names[0]) == EXEC_COPY_COUNT,
	       "one name each");

static int plan_exec_copy(const char *text, struct jail_plan *plan, struct jail_error *error)
{
	for (unsigned i = 0; i < EXEC_COPY_COUNT; i++) {
		if (strcmp(exec_copy_names[i], text) == 0) {
			plan->exec_copy = (enum exec_copy)i;
			return 0;
		}
	}
	return jail_refuse(error, "Invalid way to copy the exec file: %s (file, memfd or shared)",
			   text);
}

/*
 * The minor number of a misc device: from its node, where the host has it, as looking it up in /proc/misc takes ten times as
 * long; else from there, in lines "<minor> <name>".
 */
static void find_uffd(const struct plan_sources *sources, struct jail_plan *plan)
{
	char line[128];
	struct stat status;
	if (stat(sources->dev_uffd, &status) == 0 && S_ISCHR(status.st_mode) &&
	    major(status.st_rdev) == MISC_MAJOR) {
		plan->has_uffd = true;
		plan->uffd_minor = minor(status.st_rdev);
		return;
	}
	FILE *file = fopen(sources->proc_misc, "re");
	if (!file)
		return;
	while (!plan->has_uffd && fgets(line, sizeof(line), file)) {
		char *name;
		unsigned long number = strtoul(line, &name, 10);
		if (name != line && strcmp(name, " userfaultfd\n") == 0) {
			plan->has_uffd = true;
			plan->uffd_minor = (unsigned)number;
		}
	}
	fclose(file);
}

static int plan_own_additions(const struct jail_options *options, struct jail_plan *plan,
			      struct jail_error *error)
{
	plan->clean_up = options->clean_up;
	plan->rootless = options->rootless;
	plan->new_net_ns = options->new_net_ns;
	plan->allow_devices = options->allow_devices;
	plan->landlock = !options->no_landlock;
	if (plan->new_net_ns && plan->netns)
		return jail_refuse(
			error,
			"Failed to parse arguments: Argument 'netns' cannot be used together "
			"with argument 'new-net-ns'.");
	if (plan->rootless && geteuid() == 0)
		return jail_refuse(
			error, "--rootless is for callers without privileges; root leaves it out");
	if (plan->rootless && options->cgroups.count && plan->cgroup.version == 1)
		return jail_refuse(
			error,
			"--rootless makes cgroups of version 2 only: add --cgroup-version 2");
	return plan_exec_copy(options->exec_copy, plan, error);
}

int plan_make(const struct jail_options *options, const struct plan_sources *sources,
	      struct jail_plan *plan, struct jail_error *error)
{
	*plan = (struct jail_plan){
		.id = options->id,
		.netns = options->netns,
		.daemonize = options->daemonize,
		.new_pid_ns = options->new_pid_ns,
		.no_file = JAIL_DEFAULT_NO_FILE,
		.extra = options->extra,
	};
	int rc = check_id(options->id, error);
	rc = rc ? rc : plan_exec_file(options->exec_file, plan, error);
	rc = rc ? rc : plan_base(options->chroot_base_dir, plan, error);
	rc = rc ? rc : plan_owner("uid", options->uid, &plan->uid, error);
	rc = rc ? rc : plan_owner("gid", options->gid, &plan->gid, error);
	if (rc)
		return rc;
	rc = cgroup_plan_make(options,
			      options->parent_cgroup ? options->parent_cgroup : plan->exec_name,
			      sources->proc_mounts, &plan->cgroup, error);
	for (size_t i = 0; !rc && i < options->resource_limits.count; i++)
		rc = plan_limit(options->resource_limits.values[i], plan, error);
	rc = rc ? rc : plan_own_additions(options, plan, error);
	find_uffd(sources, plan);
	return rc;
}

void plan_free(struct jail_plan *plan)
{
	free(plan->exec_path);
	free(plan->base_dir);
	free(plan->chroot_dir);
	cgroup_plan_free(&plan->cgroup);
	*plan = (struct jail_plan){0};
}

static void print_cgroups(const struct jail_plan *plan, FILE *out)
{
	const struct cgroup_plan *cgroup = &plan->cgroup;
	if (cgroup->join)
		fprintf(out, "cgroup       join %s\n", cgroup->join);
	for (size_t i = 0; i < cgroup->group_count; i++) {
		const struct cgroup_group *group = &cgroup->groups[i];
		fprintf(out, "cgroup       make and join %s (version %u)\n", group->path,
			cgroup->version);
		for (size_t j = 0; j < group->property_count; j++)
			fprintf(out, "  write      %s = %s\n", group->properties[j].file,
				group->properties[j].value);
	}
	if (!cgroup->join && cgroup->group_count == 0)
		fputs("cgroup       the caller's\n", out);
}

static void print_namespaces(const struct jail_plan *plan, FILE *out)
{
	if (plan->netns)
		fprintf(out, "network      join %s\n", plan->netns);
	else
		fprintf(out, "network      %s\n", plan->new_net_ns ? "new, empty" : "the caller's");
	fprintf(out, "namespaces   new: %smount, ipc, uts%s\n", plan->rootless ? "user, " : "",
		plan->new_pid_ns ? ", pid" : "");
	fprintf(out, "root         %s, the old one detached; nosuid, noexec%s\n", plan->chroot_dir,
		plan->allow_devices ? "" : ", nodev");
}

static void print_devices(const struct jail_plan *plan, FILE *out)
{
	const char *how = plan->rootless ? "bound from the host" : "mode 0600";
	fprintf(out, "folders      / /dev /dev/net /run: mode 0700, owner %u:%u\n", plan->uid,
		plan->gid);
	fprintf(out, "devices      /dev/net/tun (10,200) /dev/kvm (10,232) /dev/urandom (1,9)");
	if (plan->has_uffd)
		fprintf(out, " /dev/userfaultfd (10,%u)", plan->uffd_minor);
	fprintf(out, ": %s\n", how);
}

void plan_print(const struct jail_plan *plan, FILE *out)
{
	fprintf(out, "jail         %s\n", plan->id);
	fprintf(out, "folder       %s\n", plan->chroot_dir);
	fprintf(out, "program      %s (%s)\n", plan->exec_path, exec_copy_names[plan->exec_copy]);
	print_cgroups(plan, out);
	print_namespaces(plan, out);
	print_devices(plan, out);
	fprintf(out, "process      %s%s, pid in /%s.pid\n",
		plan->daemonize ? "daemon, standard I/O on /dev/null" : "in the foreground",
		plan->new_pid_ns ? ", process 1 of its namespace" : "", plan->exec_name);
	fprintf(out, "limits       no-file %llu, fsize ", (unsigned long long)plan->no_file);
	if (plan->limits_fsize)
		fprintf(out, "%llu\n", (unsigned long long)plan->fsize_bytes);
	else
		fputs("unlimited\n", out);
	fprintf(out,
		"privileges   uid %u, gid %u, no groups, no capability, securebits locked, "
		"no_new_privs%s\n",
		plan->uid, plan->gid, plan->landlock ? ", Landlock" : "");
	fprintf(out,
		"execute      /%s --id %s --start-time-us N --start-time-cpu-us N "
		"--parent-cpu-time-us N",
		plan->exec_name, plan->id);
	for (char *const *word = plan->extra; *word; word++)
		fprintf(out, " %s", *word);
	fprintf(out, "\nafterwards   %s\n",
		plan->clean_up ? "folder and cgroup are removed" : "nothing is removed");
}
