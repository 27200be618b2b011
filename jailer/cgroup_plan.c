// SPDX-License-Identifier: Apache-2.0
/* Finds the cgroup hierarchies and sorts the --cgroup arguments into directories. */
#include "jailer/cgroup_plan.h"

#include <errno.h>
#include <limits.h>
#include <mntent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "jailer/number.h"

static const char step[] = "plan the cgroups";

bool cgroup_path_escapes(const char *path)
{
	if (path[0] == '/' || strcmp(path, ".") == 0 || strncmp(path, "./", 2) == 0)
		return true;
	for (const char *at = path; at; at = strchr(at, '/')) {
		at += *at == '/';
		if (strncmp(at, "..", 2) == 0 && (at[2] == '/' || at[2] == '\0'))
			return true;
	}
	return false;
}

static bool has_option(const char *options, const char *name)
{
	size_t length = strlen(name);
	for (const char *at = options; at; at = strchr(at, ',')) {
		at += *at == ',';
		if (strncmp(at, name, length) == 0 && (at[length] == ',' || at[length] == '\0'))
			return true;
	}
	return false;
}

/* Finds where a hierarchy is mounted: version 2's, or (controller given) a version 1's. *seen: any of that version. */
static int find_mount(const char *proc_mounts, unsigned version, const char *controller,
		      char **mount_point, bool *seen, struct jail_error *error)
{
	char line[PATH_MAX * 2];
	struct mntent entry;
	FILE *file = setmntent(proc_mounts, "re");
	if (!file)
		return jail_fail(error, PLACE(step, "open", proc_mounts), "Failed to open file %s",
				 proc_mounts);
	*mount_point = NULL;
	*seen = false;
	while (!*mount_point && getmntent_r(file, &entry, line, sizeof(line))) {
		if (strcmp(entry.mnt_type, version == 2 ? "cgroup2" : "cgroup") != 0)
			continue;
		*seen = true;
		if (!controller || has_option(entry.mnt_opts, controller))
			*mount_point = strdup(entry.mnt_dir);
	}
	endmntent(file);
	return 0;
}

static int find_hierarchy(const char *proc_mounts, unsigned version, const char *controller,
			  char **mount_point, struct jail_error *error)
{
	bool seen;
	int rc = find_mount(proc_mounts, version, controller, mount_point, &seen, error);
	if (rc)
		return rc;
	if (!seen)
		return jail_refuse(
			error, "Hierarchy not found: No hierarchy found for this cgroup version.");
	if (!*mount_point)
		return jail_refuse(error, "Controller %s is unavailable", controller);
	return 0;
}

static bool v2_has_controller(const char *mount_point, const char *controller)
{
	char path[PATH_MAX], line[512] = "";
	snprintf(path, sizeof(path), "%s/cgroup.controllers", mount_point);
	FILE *file = fopen(path, "re");
	if (!file)
		return false;
	size_t count = fread(line, 1, sizeof(line) - 1, file);
	fclose(file);
	line[count] = '\0';
	for (char *rest = NULL, *word = strtok_r(line, " \n", &rest); word;
	     word = strtok_r(NULL, " \n", &rest))
		if (strcmp(word, controller) == 0)
			return true;
	return false;
}

static struct cgroup_group *find_group(struct cgroup_plan *plan, const char *controller)
{
	for (size_t i = 0; i < plan->group_count; i++)
		if (plan->version == 2 || strcmp(plan->groups[i].controller, controller) == 0)
			return &plan->groups[i];
	return NULL;
}

static int add_group(const struct jail_options *options, const char *parent,
		     const char *proc_mounts, const char *controller, struct cgroup_plan *plan,
		     struct jail_error *error)
{
	struct cgroup_group *group = &plan->groups[plan->group_count++];
	bool unified = plan->version == 2;
	int rc = find_hierarchy(proc_mounts, plan->version, unified ? NULL : controller,
				&group->mount_point, error);
	if (rc)
		return rc;
	group->controller = strdup(unified ? "unified" : controller);
	group->properties = calloc(options->cgroups.count, sizeof(*group->properties));
	if (!group->controller || !group->properties ||
	    asprintf(&group->path, "%s/%s/%s", group->mount_point, parent, options->id) < 0)
		return jail_refuse(error, "Out of memory");
	return 0;
}

/* FILE=VALUE with exactly one "=" and a value; FILE is controller.name and no path that leads elsewhere. */
static int split_argument(const char *argument, char **file, char **value, struct jail_error *error)
{
	const char *equals = strchr(argument, '=');
	if (!equals || !equals[1] || strchr(equals + 1, '='))
		return jail_refuse(error, "Invalid format for cgroups: %s", argument);
	*file = strndup(argument, (size_t)(equals - argument));
	*value = strdup(equals + 1);
	if (!*file || !*value)
		return jail_refuse(error, "Out of memory");
	if (cgroup_path_escapes(*file))
		return jail_refuse(error, "Cgroup invalid file: %s", argument);
	if (!strchr(*file, '.'))
		return jail_refuse(error, "Cgroup invalid file: %s", *file);
	return 0;
}

static int add_property(const struct jail_options *options, const char *parent,
			const char *proc_mounts, const char *argument, struct cgroup_plan *plan,
			struct jail_error *error)
{
	cleanup_free char *file = NULL;
	cleanup_free char *value = NULL;
	int rc = split_argument(argument, &file, &value, error);
	if (rc)
		return rc;
	cleanup_free char *controller = strndup(file, strcspn(file, "."));
	if (!controller)
		return jail_refuse(error, "Out of memory");
	if (!find_group(plan, controller)) {
		rc = add_group(options, parent, proc_mounts, controller, plan, error);
		if (rc)
			return rc;
	}
	struct cgroup_group *group = find_group(plan, controller);
	if (plan->version == 2 && !v2_has_controller(group->mount_point, controller))
		return jail_refuse(error, "Controller %s is unavailable", controller);
	group->properties[group->property_count++] =
		(struct cgroup_property){.file = file, .value = value};
	file = value = NULL;
	return 0;
}

/* Version 2, no property: an existing parent is joined, a missing one is no mistake. */
static int plan_join(const char *parent, const char *proc_mounts, struct cgroup_plan *plan,
		     struct jail_error *error)
{
	struct stat status;
	cleanup_free char *mount_point = NULL;
	int rc = find_hierarchy(proc_mounts, 2, NULL, &mount_point, error);
	if (rc)
		return rc;
	if (asprintf(&plan->join, "%s/%s", mount_point, parent) < 0)
		return jail_refuse(error, "Out of memory");
	if (stat(plan->join, &status)) {
		free(plan->join);
		plan->join = NULL;
	}
	return 0;
}

int cgroup_plan_make(const struct jail_options *options, const char *parent,
		     const char *proc_mounts, struct cgroup_plan *plan, struct jail_error *error)
{
	uint64_t version;
	*plan = (struct cgroup_plan){0};
	if (cgroup_path_escapes(parent))
		return jail_refuse(
			error,
			"Parent cgroup path is invalid. Path should not be absolute or contain "
			"'..' or '.'");
	if (number_parse(options->cgroup_version, 2, &version) || version == 0)
		return jail_refuse(error, "%s is an invalid cgroup version specifier",
				   options->cgroup_version);
	plan->version = (unsigned)version;
	plan->parent_is_ours = !options->parent_cgroup;
	if (options->cgroups.count == 0)
		return version == 2 ? plan_join(parent, proc_mounts, plan, error) : 0;
	plan->groups = calloc(options->cgroups.count, sizeof(*plan->groups));
	if (!plan->groups)
		return jail_refuse(error, "Out of memory");
	for (size_t i = 0; i < options->cgroups.count; i++) {
		int rc = add_property(options, parent, proc_mounts, options->cgroups.values[i],
				      plan, error);
		if (rc)
			return rc;
	}
	return 0;
}

void cgroup_plan_free(struct cgroup_plan *plan)
{
	for (size_t i = 0; i < plan->group_count; i++) {
		struct cgroup_group *group = &plan->groups[i];
		for (size_t j = 0; j < group->property_count; j++) {
			free(group->properties[j].file);
			free(group->properties[j].value);
		}
		free(group->properties);
		free(group->mount_point);
		free(group->controller);
		free(group->path);
	}
	free(plan->groups);
	free(plan->join);
	*plan = (struct cgroup_plan){0};
}
