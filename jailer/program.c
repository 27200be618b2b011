// SPDX-License-Identifier: Apache-2.0
/* Executes the program with Firecracker's arguments, in Firecracker's order. */
#include "jailer/program.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FIXED_WORDS 9

static size_t count_words(char *const *words)
{
	size_t count = 0;
	while (words[count])
		count++;
	return count;
}

int program_execute(const struct jail_plan *plan, const struct program_times *times, int exec_fd,
		    struct journal *journal, struct jail_error *error)
{
	char path[PATH_MAX], start[32], start_cpu[32], parent_cpu[32];
	static char *const no_environment[] = {NULL};
	snprintf(path, sizeof(path), "/%s", plan->exec_name);
	snprintf(start, sizeof(start), "%" PRIu64, times->start_us);
	snprintf(start_cpu, sizeof(start_cpu), "%" PRIu64, times->start_cpu_us);
	snprintf(parent_cpu, sizeof(parent_cpu), "%" PRIu64, times->parent_cpu_us);
	const char *fixed[FIXED_WORDS] = {path,      "--id",
					  plan->id,  "--start-time-us",
					  start,     "--start-time-cpu-us",
					  start_cpu, "--parent-cpu-time-us",
					  parent_cpu};

	size_t extra = count_words(plan->extra);
	const char **words = calloc(FIXED_WORDS + extra + 1, sizeof(*words));
	if (!words)
		return jail_fail(error, PLACE("execute", "calloc", NULL),
				 "Failed to exec into Firecracker");
	memcpy(words, fixed, sizeof(fixed));
	for (size_t i = 0; i < extra; i++)
		words[FIXED_WORDS + i] = plan->extra[i];
	/* execve() changes none of the words; its prototype only predates const */
	char *const *argv = (char *const *)(uintptr_t)words;
	if (!journal_enter(journal, STAGE_EXEC)) {
		free(words);
		return jail_refuse(error, "The keeper has given the jail up");
	}
	if (exec_fd >= 0)
		syscall(SYS_execveat, exec_fd, "", argv, no_environment, AT_EMPTY_PATH);
	else
		execve(path, argv, no_environment);
	int rc = jail_fail(error, PLACE("execute", "execve", path),
			   "Failed to exec into Firecracker");
	free(words);
	return rc;
}
