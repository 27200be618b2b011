// SPDX-License-Identifier: Apache-2.0
/* Makes the jail's cgroups and moves into them. */
#include "jailer/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "jailer/files.h"

static const char step_make[] = "make the cgroup";
static const char step_enter[] = "enter the cgroup";

#define CONTROL_SIZE  512
#define MAKE_ATTEMPTS 16

static int join_path(char *path, size_t size, const char *folder, const char *file)
{
	return (size_t)snprintf(path, size, "%s/%s", folder, file) < size ? 0 : -ENAMETOOLONG;
}

/* Calls act() on every directory from below the mount point down to `path` (that one only when `leaf`). */
static int each_level(const struct cgroup_group *group, bool leaf,
		      int (*act)(const char *level, const char *parent, const void *context,
				 struct jail_error *error),
		      const void *context, struct jail_error *error)
{
	char level[PATH_MAX], parent[PATH_MAX];
	snprintf(parent, sizeof(parent), "%s", group->mount_point);
	const char *at = group->path + strlen(group->mount_point);
	while (at) {
		const char *next = strchr(at + strspn(at, "/"), '/');
		int length = next ? (int)(next - group->path) : (int)strlen(group->path);
		snprintf(level, sizeof(level), "%.*s", length, group->path);
		if (next || leaf) {
			int rc = act(level, parent, context, error);
			if (rc)
				return rc;
		}
		snprintf(parent, sizeof(parent), "%s", level);
		at = next;
	}
	return 0;
}

/* A new version 1 cpuset is empty and takes nobody; it gets its parent's, which has been filled before it. */
static int inherit_file(const char *level, const char *parent, const void *name,
			struct jail_error *error)
{
	char path[PATH_MAX], text[CONTROL_SIZE];
	if (join_path(path, sizeof(path), level, name) ||
	    files_read(path, text, sizeof(text)) < 0 || strspn(text, "\n") != strlen(text))
		return 0; /* filled, or nothing that can be read: then writing will tell */
	if (join_path(path, sizeof(path), parent, name) ||
	    files_read(path, text, sizeof(text)) < 0 || strspn(text, "\n") == strlen(text))
		return jail_refuse(
			error, "Failed to inherit cgroups configurations from file %s in path %s",
			(const char *)name, level);
	join_path(path, sizeof(path), level, name);
	return files_write(step_make, path, text, error);
}

/* Version 2: a controller reaches a cgroup when every one above passes it on. */
static int pass_on(const char *folder, const char *controller, struct jail_error *error)
{
	char path[PATH_MAX], text[CONTROL_SIZE], word[64];
	if (join_path(path, sizeof(path), folder, "cgroup.subtree_control"))
		return jail_refuse(error, "Failed to write to %s: the path is too long", folder);
	if (files_read(path, text, sizeof(text)) > 0) {
		for (char *rest = NULL, *have = strtok_r(text, " \n", &rest); have;
		     have = strtok_r(NULL, " \n", &rest))
			if (strcmp(have, controller) == 0)
				return 0;
	}
	snprintf(word, sizeof(word), "+%s", controller);
	return files_write(step_make, path, word, error);
}

static int pass_on_level(const char *level, const char *parent, const void *controller,
			 struct jail_error *error)
{
	(void)parent;
	return pass_on(level, controller, error);
}

static int pass_on_controllers(const struct cgroup_group *group, struct jail_error *error)
{
	for (size_t i = 0; i < group->property_count; i++) {
		char controller[64];
		snprintf(controller, sizeof(controller), "%.*s",
			 (int)strcspn(group->properties[i].file, "."), group->properties[i].file);
		int rc = pass_on(group->mount_point, controller, error);
		rc = rc ? rc : each_level(group, false, pass_on_level, controller, error);
		if (rc)
			return rc;
	}
	return 0;
}

static int write_properties(const struct cgroup_group *group, struct jail_error *error)
{
	for (size_t i = 0; i < group->property_count; i++) {
		char path[PATH_MAX];
		cleanup_free char *line = NULL;
		if (join_path(path, sizeof(path), group->path, group->properties[i].file) ||
		    asprintf(&line, "%s\n", group->properties[i].value) < 0)
			return jail_refuse(error, "Failed to write to %s: too long", group->path);
		int rc = files_write(step_make, path, line, error);
		if (rc)
			return rc;
	}
	return 0;
}

static int make_v1(const struct cgroup_group *group, struct journal *journal,
		   struct jail_error *error)
{
	int rc = files_make_dirs(step_make, group->path, JOURNAL_CGROUP, journal, error);
	if (!rc && strcmp(group->controller, "cpuset") == 0) {
		rc = each_level(group, true, inherit_file, "cpuset.cpus", error);
		rc = rc ? rc : each_level(group, true, inherit_file, "cpuset.mems", error);
	}
	return rc ? rc : write_properties(group, error);
}

/* Parents first, so that the jail's own directory is made once, complete. */
static int make_v2(const struct cgroup_group *group, struct journal *journal,
		   struct jail_error *error)
{
	char parent[PATH_MAX];
	snprintf(parent, sizeof(parent), "%.*s", (int)(strrchr(group->path, '/') - group->path),
		 group->path);
	int rc = files_make_dirs(step_make, parent, JOURNAL_CGROUP, journal, error);
	rc = rc ? rc : pass_on_controllers(group, error);
	rc = rc ? rc : files_make_dirs(step_make, group->path, JOURNAL_CGROUP, journal, error);
	return rc ? rc : write_properties(group, error);
}

/* The clean-up of another jail may take an empty parent away at any moment: then all is made again. */
static int make_group(const struct cgroup_plan *plan, const struct cgroup_group *group,
		      struct journal *journal, struct jail_error *error)
{
	int rc = -ENOENT;
	for (int attempt = 0; attempt < MAKE_ATTEMPTS; attempt++) {
		struct stat status;
		rc = plan->version == 2 ? make_v2(group, journal, error)
					: make_v1(group, journal, error);
		if ((rc != -ENOENT && rc != -ENODEV) || stat(group->path, &status) == 0)
			break;
	}
	return rc;
}

int cgroup_make(const struct cgroup_plan *plan, struct journal *journal, struct jail_error *error)
{
	for (size_t i = 0; i < plan->group_count; i++) {
		int rc = make_group(plan, &plan->groups[i], journal, error);
		if (rc)
			return rc;
	}
	return 0;
}

const char *cgroup_v2_path(const struct cgroup_plan *plan)
{
	if (plan->version != 2)
		return NULL;
	return plan->group_count ? plan->groups[0].path : plan->join;
}

int cgroup_fail_move(const struct cgroup_plan *plan, const char *call, struct jail_error *error)
{
	const char *path = cgroup_v2_path(plan);
	int rc = jail_fail(error, PLACE(step_enter, call, path),
			   "Failed to move process to cgroup (%s)", path);
	if (plan->join)
		jail_error_add(error,
			       "Hint: If you intended to create a child cgroup under %s, pass any "
			       "--cgroup "
			       "parameters.",
			       path);
	return rc;
}

static int enter_v2(const struct cgroup_plan *plan, struct jail_error *error)
{
	char path[PATH_MAX];
	if (!cgroup_v2_path(plan))
		return 0;
	if (join_path(path, sizeof(path), cgroup_v2_path(plan), "cgroup.procs"))
		return jail_refuse(error,
				   "Failed to move process to cgroup (%s): the path is too long",
				   cgroup_v2_path(plan));
	cleanup_fd int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return cgroup_fail_move(plan, "open", error);
	if (write(fd, "0", 1) != 1)
		return cgroup_fail_move(plan, "write", error);
	return 0;
}

int cgroup_enter(const struct cgroup_plan *plan, struct jail_error *error)
{
	if (plan->version == 2)
		return enter_v2(plan, error);
	for (size_t i = 0; i < plan->group_count; i++) {
		char path[PATH_MAX];
		if (join_path(path, sizeof(path), plan->groups[i].path, "tasks"))
			return jail_refuse(error, "Failed to write to %s: the path is too long",
					   plan->groups[i].path);
		int rc = files_write(step_enter, path, "0", error);
		if (rc)
			return rc;
	}
	return 0;
}

int cgroup_open(const struct cgroup_plan *plan, int *fd, struct jail_error *error)
{
	const char *path = cgroup_v2_path(plan);
	*fd = -1;
	if (!path)
		return 0;
	*fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *fd < 0 ? cgroup_fail_move(plan, "open", error) : 0;
}
