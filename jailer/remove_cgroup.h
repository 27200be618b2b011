// SPDX-License-Identifier: Apache-2.0
/* Taking processes out of cgroups and removing them. */
#ifndef BANTAM_JAILER_REMOVE_CGROUP_H
#define BANTAM_JAILER_REMOVE_CGROUP_H

#include <sys/types.h>
#include "jailer/cgroup_plan.h"

/* Moves a process from the plan's cgroups into the ones that the caller is in. */
void cgroup_move_out(const struct cgroup_plan *plan, pid_t pid);

/* Kills every process in a cgroup and waits until it is empty. */
void cgroup_end_processes(const char *path, unsigned version);

/* rmdir(), waiting a little for processes that are just ending. 0 or -errno; a missing one is removed. */
int cgroup_remove(const char *path);

/* Removes the cgroup above path if it is empty. */
void cgroup_remove_parent(const char *path);

#endif
