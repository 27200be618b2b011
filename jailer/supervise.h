// SPDX-License-Identifier: Apache-2.0
/*
 * Who builds, who keeps.
 *
 * DOC: two processes
 *   The builder makes the jail and becomes the program. The keeper stays outside, with the privileges and the file
 *   system that the builder loses, so that a failure at any point can be undone, even the builder's death by SIGKILL.
 *   They share the journal and a pipe. The builder writes an error's text; execve() closes its end. The keeper
 *   thus sees: a text (undo), the end with the stage at STAGE_EXEC (the program runs), the end before (the
 *   builder died: undo). A keeper that cannot hear ends the matter with STAGE_ABANDONED, if the builder is not at
 *   STAGE_EXEC yet: then it executes nothing.
 *
 *   In the foreground the program must have the pid that the caller started: the jailer itself is the builder, the
 *   keeper is a grandchild that nobody waits for, in the same memory until execve(). With --daemonize or --new-pid-ns the program is another process
 *   anyway: the jailer is the keeper, makes what is outside, and starts the builder in its cgroup with one clone3().
 *   The caller gets its exit status when the program has been executed, or when everything has been undone.
 *
 *   With --clean-up the keeper stays until the program has ended, then removes the jail. Without, it ends when
 *   the program has been executed.
 */
#ifndef BANTAM_JAILER_SUPERVISE_H
#define BANTAM_JAILER_SUPERVISE_H

#include "jailer/build.h"

/* Makes the jail and runs the program; returns an exit status, unless this process becomes the program. */
int supervise_build(struct jail_build *build) must_check;

#endif
