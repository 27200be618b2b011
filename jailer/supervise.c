// SPDX-License-Identifier: Apache-2.0
/* The builder and the keeper of a jail. */
#include "jailer/supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include "jailer/cgroup.h"
#include "jailer/clock.h"
#include "jailer/remove.h"
#include "jailer/spawn.h"
#include "jailer/sys.h"

static const char step[] = "start the keeper";

enum outcome {
	OUTCOME_RUNNING,
	OUTCOME_FAILED,
	OUTCOME_LOST /* the builder cannot be heard, but may live */
};

/* The two ends of a pipe. An error's text is written at once, which a pipe keeps whole. */
struct link {
	int builder, keeper;
};
_Static_assert(JAIL_ERROR_SIZE <= PIPE_BUF, "a text is one piece");

static int open_link(struct link *link, struct jail_error *error)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC))
		return jail_fail(error, PLACE(step, "pipe2", NULL), "Failed to start the keeper");
	*link = (struct link){.builder = ends[1], .keeper = ends[0]};
	return 0;
}

static void print_error(const struct jail_error *error)
{
	fprintf(stderr, "%s\n", error->text);
}

/* The text goes to the keeper, who prints it; false when there is none. The process that calls this is about to end. */
static bool tell_keeper(int link, const struct jail_error *error)
{
	signal(SIGPIPE, SIG_IGN);
	return write(link, error->text, strlen(error->text) + 1) >= 0;
}

static void tell_or_print(int link, const struct jail_error *error)
{
	if (!tell_keeper(link, error))
		print_error(error);
}

/* Blocks until the builder is done. */
static enum outcome wait_for_builder(int link, const struct journal *journal,
				     struct jail_error *error)
{
	ssize_t size;
	do {
		size = read(link, error->text, sizeof(error->text) - 1);
	} while (size < 0 && errno == EINTR);
	if (size < 0) {
		jail_fail(error, PLACE("wait for the jail", "read", NULL),
			  "Failed to hear of the jail");
		return OUTCOME_LOST;
	}
	if (size == 0 && journal->stage == STAGE_EXEC)
		return OUTCOME_RUNNING;
	if (size > 0)
		error->text[size] = '\0';
	else
		jail_refuse(error, "The jailer was killed while it made the jail");
	return OUTCOME_FAILED;
}

/* Off the caller's terminal, pipes and descriptors, which would otherwise stay open as long as the program runs. */
static void detach(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	setsid();
	prctl(PR_SET_NAME, "jail-keeper");
	for (int fd = 0; fd <= 2; fd++)
		if (null < 0 || dup2(null, fd) < 0)
			close(fd);
}

/* A wait can only fail for a while, for want of memory or because of a signal; to go on before the end would do harm. */
static void wait_for(struct pollfd end)
{
	const struct timespec pause = {.tv_nsec = 10000000L};
	while (poll(&end, 1, -1) != 1)
		nanosleep(&pause, NULL);
}

static void wait_for_end(int pidfd)
{
	wait_for((struct pollfd){.fd = pidfd, .events = POLLIN});
}

/* Until nobody has the other end any more, the builder's or the keeper's; both are told without asking. */
static void wait_for_end_of_link(int link)
{
	wait_for((struct pollfd){.fd = link});
}

/* A builder that is killed may have made what it has not recorded yet: it is to end by itself where it still can. */
static void abandon(struct journal *journal)
{
	if (!journal_enter(journal, STAGE_ABANDONED) && journal->pid > 0)
		kill(journal->pid, SIGKILL);
}

/* In the foreground: pidfd is the program's. Returns an exit status. */
static int keep_beside(const struct jail_build *build, int link, int pidfd)
{
	struct jail_error error;
	enum outcome outcome = wait_for_builder(link, build->journal, &error);
	if (outcome != OUTCOME_RUNNING) {
		print_error(&error);
		if (outcome == OUTCOME_LOST) {
			abandon(build->journal);
			close_fd(link);
			wait_for_end(pidfd); /* what it is making is to be undone as well */
		}
		remove_made(build->plan, build->journal, build->journal->pid);
		return 1;
	}
	if (!build->plan->clean_up)
		return 0;
	detach();
	close_fd(link);
	wait_for_end(pidfd);
	return remove_jail(build->plan, build->journal) ? 1 : 0;
}

/* What the two processes on the way to the keeper need. */
struct keeper {
	const struct jail_build *build;
	const struct link *link;
	int pidfd, flags; /* of the program; of clone() */
};

static int run_keeper(void *context)
{
	const struct keeper *keeper = context;
	close(keeper->link->builder); /* close_fd() writes to errno, which is the builder's */
	signal(SIGTTOU,
	       SIG_IGN); /* what it says is to appear even where others in the background may say nothing */
	return keep_beside(keeper->build, keeper->link->keeper, keeper->pidfd);
}

/* Returns an errno, or 0: the keeper runs. */
static int run_starter(void *context)
{
	struct keeper *keeper = context;
	setpgid(0, 0); /* the terminal's signals are for the program */
	return spawn_beside(SPAWN_KEEPER, run_keeper, keeper, keeper->flags) < 0
		       ? spawn_error_number()
		       : 0;
}

/*
 * A grandchild: the program is to have no child that it knows nothing of. Both processes share the builder's memory, so
 * that nothing is copied now and nothing is torn down in execve(). That works because they write nothing there, not
 * even errno, unless a call fails, before the builder waits for them or has left. It makes the keeper's memory as
 * closed to others as the kernel makes the builder's when its user changes. Who makes a user namespace may share none.
 */
static pid_t start_keeper(struct keeper *keeper, struct jail_error *error)
{
	keeper->flags = keeper->build->one_memory ? CLONE_VM : 0;
	keeper->pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (keeper->pidfd < 0)
		return jail_fail(error, PLACE(step, "pidfd_open", NULL),
				 "Failed to start the keeper");
	pid_t starter = spawn_beside(SPAWN_STARTER, run_starter, keeper, keeper->flags);
	if (starter < 0)
		return jail_fail(error, PLACE(step, "clone", NULL), "Failed to start the keeper");
	return starter;
}

static int end_starter(pid_t starter, struct jail_error *error)
{
	int status;
	if (waitpid(starter, &status, 0) != starter)
		return jail_fail(error, PLACE(step, "waitpid", NULL), "Failed to start the keeper");
	errno = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
	if (errno)
		return jail_fail(error, PLACE(step, "clone", NULL), "Failed to start the keeper");
	return 0;
}

/*
 * The keeper tells and undoes; the plan that it looks at is not to be freed meanwhile. Where it could not be started,
 * nothing but build_outside() has been done.
 */
static __attribute__((noreturn)) void give_up(const struct jail_build *build, int link,
					      const struct jail_error *error)
{
	if (tell_keeper(link, error)) {
		wait_for_end_of_link(link);
	} else if (build->journal->stage != STAGE_ABANDONED) {
		print_error(error);
		remove_made(build->plan, build->journal, 0);
	}
	_exit(1);
}

/*
 * What is outside is made while the keeper's starter runs, which lives on when this process is killed: it is waited
 * for only then.
 */
static int build_outside_and_keep(struct jail_build *build, pid_t starter, struct jail_error *error)
{
	struct jail_error late;
	int rc = build_outside(build, error);
	int rc_keeper = end_starter(starter, &late);
	if (!rc && rc_keeper)
		*error = late;
	return rc ? rc : rc_keeper;
}

/* This process becomes the program, or ends. */
static int build_in_place(struct jail_build *build)
{
	struct link link = {-1, -1};
	struct jail_error error;
	struct keeper keeper = {.build = build, .link = &link};
	build->journal->pid = getpid();
	int rc = open_link(&link, &error);
	pid_t starter = rc ? rc : start_keeper(&keeper, &error);
	if (starter < 0) {
		print_error(&error);
		return 1;
	}
	close_fd(keeper.pidfd);
	close_fd(link.keeper);
	rc = build_outside_and_keep(build, starter, &error);
	rc = rc ? rc : build_inside(build, &error);
	if (!rc)
		build_leave(build, &error);
	give_up(build, link.builder, &error);
}

static void build_in_child(struct jail_build *build, const struct spawn *spawn, int link)
{
	struct jail_error error;
	build->in_cgroup = spawn->in_cgroup;
	build->in_user_namespace = spawn->new_user_ns;
	build->start_cpu_us = 0;
	if (build_inside(build, &error) == 0)
		build_leave(build, &error);
	tell_or_print(link, &error);
	_exit(1);
}

static int fail_spawn(const struct jail_build *build, const struct spawn *spawn,
		      struct jail_error *error)
{
	if (spawn->cgroup_fd >= 0 && (errno == EBUSY || errno == EOPNOTSUPP))
		return cgroup_fail_move(&build->plan->cgroup, "clone3", error);
	return jail_fail(error, PLACE("start the program's process", "clone3", NULL),
			 "Failed cloning into a new child process");
}

/* --daemonize: a session of its own, whose leader goes away at once. Runs in a child; tells errors itself. */
static void spawn_in_new_session(struct jail_build *build, struct spawn *spawn, int link)
{
	struct jail_error error;
	pid_t pid = 0;
	if (setsid() < 0) {
		jail_fail(&error, PLACE("daemonize", "setsid", NULL),
			  "Failed to daemonize: setsid");
		tell_or_print(link, &error);
		_exit(1);
	}
	pid = spawn_child(spawn);
	if (pid == 0)
		build_in_child(build, spawn, link);
	if (pid < 0) {
		fail_spawn(build, spawn, &error);
		tell_or_print(link, &error);
	}
	_exit(pid < 0);
}

static int start_builder(struct jail_build *build, struct spawn *spawn, int link,
			 struct jail_error *error)
{
	bool daemonize = build->plan->daemonize;
	build->earlier_cpu_us = clock_us(CLOCK_PROCESS_CPUTIME_ID) - build->start_cpu_us;
	pid_t pid = daemonize ? fork() : spawn_child(spawn);
	if (pid == 0 && daemonize)
		spawn_in_new_session(build, spawn, link);
	if (pid == 0)
		build_in_child(build, spawn, link);
	if (pid < 0 && daemonize)
		return jail_fail(error, PLACE("daemonize", "fork", NULL), "Failed to daemonize");
	if (pid < 0)
		return fail_spawn(build, spawn, error);
	if (daemonize)
		waitpid(pid, NULL, 0); /* what went wrong there comes over the link */
	return 0;
}

/* Returns an exit status; the journal then has the program's pid. */
static int build_in_other(struct jail_build *build)
{
	struct link link = {-1, -1};
	struct jail_error error;
	struct spawn spawn = {
		.new_pid_ns = build->plan->new_pid_ns,
		.new_user_ns = build->plan->new_pid_ns && build->plan->rootless,
		.cgroup_fd = -1,
		.pid = &build->journal->pid,
	};
	int rc = open_link(&link, &error);
	rc = rc ? rc : build_outside(build, &error);
	rc = rc ? rc : cgroup_open(&build->plan->cgroup, &spawn.cgroup_fd, &error);
	rc = rc ? rc : start_builder(build, &spawn, link.builder, &error);
	close_fd(link.builder);
	close_fd(spawn.cgroup_fd);
	enum outcome outcome =
		rc ? OUTCOME_FAILED : wait_for_builder(link.keeper, build->journal, &error);
	if (outcome == OUTCOME_LOST)
		abandon(build->journal);
	if (!rc && outcome != OUTCOME_RUNNING) {
		wait_for_end_of_link(link.keeper);
		rc = -ECHILD;
	}
	close_fd(link.keeper);
	if (!rc)
		return 0;
	print_error(&error);
	remove_made(build->plan, build->journal, 0);
	return 1;
}

/* The keeper of --clean-up, as a child of the jailer: `report` takes the jailer's exit status. */
static void keep_until_end(struct jail_build *build, int report)
{
	/* a daemon's process comes to this one when its parent ends: its pid cannot be another's when it is waited for */
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	signal(SIGPIPE, SIG_IGN);
	char status = (char)build_in_other(build);
	ssize_t told = write(report, &status, 1);
	if (status)
		_exit(status);
	if (told != 1)
		kill(build->journal->pid,
		     SIGKILL); /* the jailer was killed: nobody asks for the program any more */
	detach();
	sys_close_range(3, ~0U, 0);
	while (waitpid(build->journal->pid, NULL, 0) < 0 && errno == EINTR)
		;
	_exit(remove_jail(build->plan, build->journal) ? 1 : 0);
}

static int build_under_keeper(struct jail_build *build)
{
	struct jail_error error;
	int report[2];
	char status = 1;
	pid_t keeper = pipe2(report, O_CLOEXEC) ? -1 : fork();
	if (keeper < 0) {
		jail_fail(&error, PLACE(step, "fork", NULL), "Failed to start the keeper");
		print_error(&error);
		return 1;
	}
	if (keeper == 0) {
		close_fd(report[0]);
		keep_until_end(build, report[1]);
	}
	close_fd(report[1]);
	ssize_t size = read(report[0], &status, 1);
	if (size < 0 && build->journal->pid > 0)
		kill(build->journal->pid,
		     SIGKILL); /* the caller is not told of it: it is not to run */
	if (size != 1) {
		status = 1;
		waitpid(keeper, NULL, 0);
		fprintf(stderr, "Failed to hear of the jail from its keeper\n");
	}
	return status;
}

int supervise_build(struct jail_build *build)
{
	struct jail_error error;
	const bool in_place = !build->plan->daemonize && !build->plan->new_pid_ns;
	build->one_memory = in_place && !build->plan->rootless;
	build->journal = journal_new(!build->one_memory);
	if (!build->journal) {
		jail_fail(&error, PLACE("prepare", "mmap", NULL), "Failed to prepare");
		print_error(&error);
		return 1;
	}
	if (in_place)
		return build_in_place(build);
	build->new_session = !build->plan->daemonize && getsid(0) == getpid();
	return build->plan->clean_up ? build_under_keeper(build) : build_in_other(build);
}
