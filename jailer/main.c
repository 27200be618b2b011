// SPDX-License-Identifier: Apache-2.0
/* bantam-jailer: makes a jail and runs a program in it. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "jailer/build.h"
#include "jailer/clock.h"
#include "jailer/options.h"
#include "jailer/plan.h"
#include "jailer/supervise.h"
#include "jailer/sys.h"

static const char step[] = "clean the process";

/*
 * Nothing of the caller's but standard I/O comes along: no descriptor, no variable. A closed standard descriptor is
 * opened on /dev/null, or the next open() would make a file of the jail standard output. Whose caller ignores the end of
 * its children could wait for none.
 */
static int clean_process(struct jail_error *error)
{
	struct stat status;
	signal(SIGCHLD, SIG_DFL);
	if (sys_close_range(3, ~0U, SYS_CLOSE_RANGE_UNSHARE))
		return jail_fail(error, PLACE(step, "close_range", NULL),
				 "Failed to call close range syscall");
	for (int fd = 0; fd <= 2; fd++)
		if (fstat(fd, &status) && open("/dev/null", O_RDWR) != fd)
			return jail_fail(error, PLACE(step, "open", "/dev/null"),
					 "Failed to open /dev/null");
	return clearenv() ? jail_fail(error, PLACE(step, "clearenv", NULL),
				      "Failed to clear the environment")
			  : 0;
}

static int plan_and_run(const struct jail_options *options, struct jail_build *build)
{
	const struct plan_sources sources = {.proc_mounts = "/proc/mounts",
					     .proc_misc = "/proc/misc",
					     .dev_uffd = "/dev/userfaultfd"};
	struct jail_error error;
	struct jail_plan plan;
	int status = 0;
	if (plan_make(options, &sources, &plan, &error)) {
		fprintf(stderr, "%s\n", error.text);
		status = 1;
	} else if (options->dry_run) {
		plan_print(&plan, stdout);
	} else {
		build->plan = &plan;
		status = supervise_build(build);
		build->plan = NULL; /* it ends here */
	}
	plan_free(&plan);
	return status;
}

int main(int argc, char *argv[])
{
	struct jail_options options;
	struct jail_error error;
	struct jail_build build = {
		.exec_fd = -1,
		.caller_uid = geteuid(),
		.caller_gid = getegid(),
		.start_us = clock_us(CLOCK_MONOTONIC),
		.start_cpu_us = clock_us(CLOCK_PROCESS_CPUTIME_ID),
	};
	int status = 0;
	if (clean_process(&error) || options_parse(argc, argv, &options, &error)) {
		fprintf(stderr, "%s\n", error.text);
		return 1;
	}
	if (options.help)
		options_print_help(stdout);
	else if (options.version)
		printf("Jailer v%s\n\n", JAILER_VERSION);
	else
		status = plan_and_run(&options, &build);
	options_free(&options);
	return status;
}
