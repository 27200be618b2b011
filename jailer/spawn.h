// SPDX-License-Identifier: Apache-2.0
/* Starts processes in new namespaces and in a cgroup. */
#ifndef BANTAM_JAILER_SPAWN_H
#define BANTAM_JAILER_SPAWN_H

#include <errno.h>
#include <stdbool.h>
#include <sys/types.h>
#include "jailer/scope.h"

struct spawn {
	bool new_pid_ns, new_user_ns;
	int cgroup_fd; /* version 2 cgroup to start in, or -1 */
	volatile pid_t *
		pid; /* shared memory: filled in before the child runs, as the caller sees the child */
	bool in_cgroup; /* out: the child is in cgroup_fd's cgroup; false where clone3() is missing */
};

/* Never 0, which a process that shares memory may have made of errno by putting an older value back. */
static inline int spawn_error_number(void)
{
	int number = errno;
	return number ? number : EIO;
}

/* Who runs beside the builder: each has a stack, so there may be one of each. */
enum spawn_role {
	SPAWN_STARTER,
	SPAWN_KEEPER,
	SPAWN_COPIER,
	SPAWN_ROLE_COUNT,
};

/*
 * A child that calls act() on a stack of its own and ends with the result; -1 and errno. With CLONE_VM in the flags it
 * shares memory with its parent, errno too: neither may depend on an error number while the other makes calls that fail.
 */
pid_t spawn_beside(enum spawn_role role, int (*act)(void *context), void *context,
		   int flags) must_check;

/* Like fork(): 0 in the child, the pid in the parent, -1 and errno. */
pid_t spawn_child(struct spawn *spawn) must_check;

#endif
