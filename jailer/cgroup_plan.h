// SPDX-License-Identifier: Apache-2.0
/* Which cgroups a jail gets: data only. */
#ifndef BANTAM_JAILER_CGROUP_PLAN_H
#define BANTAM_JAILER_CGROUP_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include "jailer/fail.h"
#include "jailer/options.h"
#include "jailer/scope.h"

struct cgroup_property {
	char *file, *value;
};

/* One directory to make: version 1 has one for each controller, version 2 one for all. */
struct cgroup_group {
	char *mount_point; /* of the hierarchy */
	char *controller;  /* version 1; "unified" in version 2 */
	char *path;        /* mount_point/parent/id */
	struct cgroup_property *properties;
	size_t property_count;
};

struct cgroup_plan {
	unsigned version;
	bool parent_is_ours; /* the default parent: removed when the last jail in it is cleaned up */
	char *join; /* version 2 without properties: an existing cgroup to move into, or NULL */
	struct cgroup_group *groups;
	size_t group_count;
};

/*
 * `parent` is the cgroup within each hierarchy in which the jail's is made; the mount points come from the file
 * `proc_mounts`. Errors as plan_make(); free with cgroup_plan_free() in either case.
 */
int cgroup_plan_make(const struct jail_options *options, const char *parent,
		     const char *proc_mounts, struct cgroup_plan *plan,
		     struct jail_error *error) must_check;

void cgroup_plan_free(struct cgroup_plan *plan);

/* Whether path has a first ".", any ".." or begins with "/": not to be used below a hierarchy. */
bool cgroup_path_escapes(const char *path);

#endif
