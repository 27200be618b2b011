// SPDX-License-Identifier: Apache-2.0
/* clone3(), and clone() where it is missing or denied as if it were (as in some containers). */
#include "jailer/spawn.h"

#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#define STACK_SIZE ((size_t)256 * 1024)

pid_t spawn_child(struct spawn *spawn)
{
	uint64_t flags = CLONE_PARENT_SETTID | (spawn->new_pid_ns ? CLONE_NEWPID : 0) |
			 (spawn->new_user_ns ? (uint64_t)CLONE_NEWUSER : 0);
	struct clone_args arguments = {
		.flags = flags,
		.parent_tid = (uintptr_t)spawn->pid,
		.exit_signal = SIGCHLD,
	};
	spawn->in_cgroup = spawn->cgroup_fd >= 0;
	if (spawn->in_cgroup) {
		arguments.flags |= CLONE_INTO_CGROUP;
		arguments.cgroup = (unsigned int)spawn->cgroup_fd;
	}
	long pid = syscall(SYS_clone3, &arguments, sizeof(arguments));
	if (pid >= 0 || (errno != ENOSYS && errno != E2BIG))
		return (pid_t)pid;
	spawn->in_cgroup = false;
	return (pid_t)syscall(SYS_clone, (unsigned long)flags | SIGCHLD, NULL, spawn->pid, NULL,
			      NULL);
}

pid_t spawn_beside(enum spawn_role role, int (*act)(void *context), void *context, int flags)
{
	static _Alignas(16) char stacks[SPAWN_ROLE_COUNT][STACK_SIZE];
	return clone(act, stacks[role] + STACK_SIZE, flags | SIGCHLD, context);
}
