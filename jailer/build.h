// SPDX-License-Identifier: Apache-2.0
/*
 * Carries a plan out.
 *
 * DOC: stages
 *   1. outside  The jail's folder, the copy of the program, the cgroups. The host's file system, all privileges.
 *   2. inside   User namespace (rootless), network, cgroup, namespaces, root, pid file, devices, the end of the copy, the
 *               flags of the mounts. After it the host's file system is gone, privileges are still there.
 *   3. leave    Landlock, limits, standard I/O, keyring, ids, capabilities, and execve(). Nothing is opened or made
 *               here, so that nothing needs undoing by a process that no longer may.
 *   A failure in any of them is told to the keeper (supervise.h), who undoes what the journal lists.
 */
#ifndef BANTAM_JAILER_BUILD_H
#define BANTAM_JAILER_BUILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "jailer/exec_copy.h"
#include "jailer/fail.h"
#include "jailer/journal.h"
#include "jailer/plan.h"
#include "jailer/scope.h"

struct jail_build {
	const struct jail_plan *plan;
	struct journal *journal;
	int exec_fd; /* EXEC_COPY_MEMFD: the copy; else -1 */
	struct program_copy copy;
	bool one_memory; /* helpers share the builder's: who makes a user namespace may share none */
	pid_t copier;    /* a child that copies; 0: none */
	bool in_cgroup;  /* clone3() has put this process there */
	bool in_user_namespace; /* clone3() has made it */
	bool new_session;       /* the caller was a session leader, so the program becomes one */
	uid_t caller_uid;
	gid_t caller_gid;
	uint64_t start_us; /* CLOCK_MONOTONIC */
	uint64_t start_cpu_us,
		earlier_cpu_us; /* this process's clock at its start; spent by processes before it */
};

int build_outside(struct jail_build *build, struct jail_error *error) must_check;
int build_inside(struct jail_build *build, struct jail_error *error) must_check;

/* Gives up privileges and executes the program; returns only on failure, with -errno. */
int build_leave(struct jail_build *build, struct jail_error *error);

#endif
