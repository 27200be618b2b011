// SPDX-License-Identifier: Apache-2.0
/*
 * What a jail will be: plain data, made from the options without changing anything, printed by --dry-run and then
 * carried out by build.c.
 */
#ifndef BANTAM_JAILER_PLAN_H
#define BANTAM_JAILER_PLAN_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "jailer/cgroup_plan.h"
#include "jailer/fail.h"
#include "jailer/options.h"
#include "jailer/scope.h"

#define JAIL_DEFAULT_NO_FILE 2048

enum exec_copy {
	EXEC_COPY_FILE,   /* a file of its own in the jail */
	EXEC_COPY_MEMFD,  /* a sealed file in memory */
	EXEC_COPY_SHARED, /* the file itself, bound into the jail read-only */
	EXEC_COPY_COUNT,
};

struct jail_plan {
	const char *id;        /* the options' */
	char *exec_path;       /* canonical; owned, like the other char * here */
	const char *exec_name; /* its last part, within exec_path */
	char *base_dir;        /* canonical */
	char *chroot_dir;      /* base_dir/exec_name/id/root */
	uint32_t uid,
		gid; /* inside; in rootless mode also what the caller's own are called inside */
	const char *netns; /* path, or NULL; the options' */
	bool daemonize, new_pid_ns, new_net_ns, clean_up, rootless, allow_devices, landlock;
	enum exec_copy exec_copy;
	struct cgroup_plan cgroup;
	bool limits_fsize;
	uint64_t fsize_bytes, no_file;
	bool has_uffd; /* the host has /dev/userfaultfd */
	uint32_t uffd_minor;
	char *const *extra; /* the options'; ends with NULL */
};

/* Files that describe the host; other ones in tests. */
struct plan_sources {
	const char *proc_mounts, *proc_misc, *dev_uffd;
};

/*
 * Judges the options and fills the plan. -EINVAL or another -errno and the sentence. The options must outlive the
 * plan; free with plan_free() in either case.
 */
int plan_make(const struct jail_options *options, const struct plan_sources *sources,
	      struct jail_plan *plan, struct jail_error *error) must_check;

void plan_free(struct jail_plan *plan);

/* The plan as a list that people read, in the order in which things are done. */
void plan_print(const struct jail_plan *plan, FILE *out);

#endif
