// SPDX-License-Identifier: Apache-2.0
/* Carries a plan out, stage by stage. */
#include "jailer/build.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "jailer/cgroup.h"
#include "jailer/clock.h"
#include "jailer/devices.h"
#include "jailer/exec_copy.h"
#include "jailer/few_mounts.h"
#include "jailer/files.h"
#include "jailer/landlock.h"
#include "jailer/mounts.h"
#include "jailer/namespaces.h"
#include "jailer/privileges.h"
#include "jailer/program.h"
#include "jailer/spawn.h"
#include "jailer/sys.h"

static const char step_pid[] = "write the pid file";
static const char step_stdio[] = "let go of standard I/O";

/*
 * A large program's copy takes as long as all the rest: a child makes it meanwhile, sharing memory and descriptors. Where
 * none can be made it is no faster.
 */
static int begin_copy(struct jail_build *build, struct jail_error *error)
{
	struct program_copy *copy = &build->copy;
	int rc = exec_copy_begin(build->plan, build->journal, copy, error);
	if (rc)
		return rc;
	if (copy->to_move && copy->takes_long && build->one_memory)
		build->copier =
			spawn_beside(SPAWN_COPIER, exec_copy_move, copy, CLONE_VM | CLONE_FILES);
	if (build->copier > 0)
		return 0;
	build->copier = 0;
	return exec_copy_end(build->plan, copy, copy->to_move ? exec_copy_move(copy) : 0,
			     &build->exec_fd, error);
}

static int end_copy(struct jail_build *build, struct jail_error *error)
{
	int status;
	if (!build->copier)
		return 0;
	if (waitpid(build->copier, &status, 0) != build->copier)
		return jail_fail(error, PLACE("copy the program", "waitpid", NULL),
				 "Failed to copy %s", build->plan->exec_path);
	return exec_copy_end(build->plan, &build->copy,
			     WIFEXITED(status) ? WEXITSTATUS(status) : EINTR, &build->exec_fd,
			     error);
}

int build_outside(struct jail_build *build, struct jail_error *error)
{
	const struct jail_plan *plan = build->plan;
	int rc = files_make_dirs("make the folder", plan->chroot_dir, JOURNAL_DIR, build->journal,
				 error);
	rc = rc ? rc : begin_copy(build, error);
	return rc ? rc : cgroup_make(&plan->cgroup, build->journal, error);
}

static int open_null(const struct jail_plan *plan, int *fd, struct jail_error *error)
{
	*fd = -1;
	if (!plan->daemonize)
		return 0;
	*fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (*fd < 0)
		return jail_fail(error, PLACE(step_stdio, "open", "/dev/null"),
				 "Failed to open /dev/null");
	return 0;
}

/* The file belongs to the jailer's user: the program can remove it, not change it. */
static int write_pid_file(struct jail_build *build, struct jail_error *error)
{
	char path[PATH_MAX], text[32];
	snprintf(path, sizeof(path), "/%s.pid", build->plan->exec_name);
	cleanup_fd int fd = sys_make_file(path, 0666);
	if (fd < 0)
		return jail_fail(error, PLACE(step_pid, "open", path), "Failed to open file %s",
				 path);
	if (journal_add(build->journal, JOURNAL_INSIDE, path + 1))
		return jail_fail(error, PLACE(step_pid, "journal", path), "Failed to remember %s",
				 path);
	int length = snprintf(text, sizeof(text), "%d", build->journal->pid);
	if (write(fd, text, (size_t)length) != length)
		return jail_fail(error, PLACE(step_pid, "write", path), "Failed to write to %s",
				 path);
	return 0;
}

static bool made_folder(const struct jail_build *build)
{
	for (uint32_t i = 0; i < build->journal->count; i++)
		if (strcmp(journal_path(build->journal, i), build->plan->chroot_dir) == 0)
			return true;
	return false;
}

static int fill_jail(struct jail_build *build, struct mounts_held *held, struct jail_error *error)
{
	int rc = mounts_change_root(held, error);
	rc = rc ? rc : write_pid_file(build, error);
	umask(0077); /* from here on nothing is anybody else's, whatever the caller's was */
	rc = rc ? rc : devices_make(build->plan, held, build->journal, error);
	rc = rc ? rc : end_copy(build, error);
	return rc ? rc : mounts_seal(build->plan, made_folder(build), held, error);
}

/* Who has no privileges over the host's mounts has them over the copies. */
static int go_inside(const struct jail_plan *plan, struct mounts_held *held,
		     struct jail_error *error)
{
	if (plan->rootless) {
		int rc = namespaces_unshare(plan, error);
		return rc ? rc : mounts_hold(plan, held, error);
	}
	int rc = mounts_hold(plan, held, error);
	if (rc)
		return rc;
	few_mounts_enter();
	return namespaces_unshare(plan, error);
}

static int make_inside(struct jail_build *build, struct jail_error *error)
{
	struct mounts_held held = MOUNTS_HELD_NONE;
	int rc = go_inside(build->plan, &held, error);
	rc = rc ? rc : fill_jail(build, &held, error);
	mounts_release(&held);
	return rc;
}

static int let_go_of_stdio(int null, struct jail_error *error)
{
	for (int fd = 0; null >= 0 && fd <= 2; fd++)
		if (dup2(null, fd) < 0)
			return jail_fail(error, PLACE(step_stdio, "dup2", "/dev/null"),
					 "Failed to duplicate fd");
	return 0;
}

int build_inside(struct jail_build *build, struct jail_error *error)
{
	const struct jail_plan *plan = build->plan;
	cleanup_fd int null = -1;
	int rc = 0;
	if (plan->rootless)
		rc = namespaces_enter_user(plan, build->in_user_namespace, build->caller_uid,
					   build->caller_gid, error);
	rc = rc ? rc : namespaces_join_network(plan, error);
	if (!rc && !build->in_cgroup)
		rc = cgroup_enter(&plan->cgroup, error);
	rc = rc ? rc : open_null(plan, &null, error);
	rc = rc ? rc : make_inside(build, error);
	return rc ? rc : let_go_of_stdio(null, error);
}

/* Signals that the caller blocked, and the one that a keeper ignores, would be lost to the program. */
static void restore_signals(void)
{
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
}

int build_leave(struct jail_build *build, struct jail_error *error)
{
	const struct jail_plan *plan = build->plan;
	struct program_times times = {.start_us = build->start_us};
	int rc = plan->landlock ? landlock_confine(plan, error) : 0;
	rc = rc ? rc : privileges_set_limits(plan, error);
	rc = rc ? rc : privileges_drop(plan, error);
	if (rc)
		return rc;
	if (build->new_session && setsid() < 0)
		return jail_fail(error, PLACE("start a session", "setsid", NULL),
				 "Failed to daemonize: setsid");
	restore_signals();
	times.start_cpu_us = clock_us(CLOCK_PROCESS_CPUTIME_ID);
	times.parent_cpu_us = build->earlier_cpu_us + times.start_cpu_us - build->start_cpu_us;
	return program_execute(plan, &times, build->exec_fd, build->journal, error);
}
