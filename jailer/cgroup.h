// SPDX-License-Identifier: Apache-2.0
/*
 * Makes the jail's cgroups and moves into them.
 *
 * DOC: what moving costs
 *   Writing a pid into cgroup.procs takes a lock over all threads of the machine and waits for an RCU grace period.
 *   Two ways around it: clone3(CLONE_INTO_CGROUP) starts the program there (version 2, when there is a clone anyway),
 *   and writing "0" into a version 1 `tasks` moves the one thread that writes, for which the kernel leaves the
 *   lock out. The jailer has one thread.
 */
#ifndef BANTAM_JAILER_CGROUP_H
#define BANTAM_JAILER_CGROUP_H

#include "jailer/cgroup_plan.h"
#include "jailer/fail.h"
#include "jailer/journal.h"
#include "jailer/scope.h"

/* Makes and configures the directories; moves nobody. */
int cgroup_make(const struct cgroup_plan *plan, struct journal *journal,
		struct jail_error *error) must_check;

/* Moves the calling, single-threaded process. */
int cgroup_enter(const struct cgroup_plan *plan, struct jail_error *error) must_check;

/* For clone3(): *fd is the version 2 cgroup to start in, or -1 when there is none. The caller closes it. */
int cgroup_open(const struct cgroup_plan *plan, int *fd, struct jail_error *error) must_check;

/* The text for a cgroup that does not take the process. Returns -errno. */
int cgroup_fail_move(const struct cgroup_plan *plan, const char *call, struct jail_error *error);

/* The directory that the process is moved into in version 2, or NULL. */
const char *cgroup_v2_path(const struct cgroup_plan *plan);

#endif
