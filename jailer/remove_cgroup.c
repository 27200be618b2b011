// SPDX-License-Identifier: Apache-2.0
/* Taking processes out of cgroups and removing them. */
#include "jailer/remove_cgroup.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "jailer/files.h"

#define PIDS_SIZE     4096
#define WAIT_ATTEMPTS 500 /* with pauses of 0.1 ms that grow to 10 ms: 4 s */

static void pause_a_little(int attempt)
{
	const struct timespec pause = {.tv_nsec =
					       attempt < 100 ? 100000L * (attempt + 1) : 10000000L};
	nanosleep(&pause, NULL);
}

/* The line of /proc/self/cgroup for a controller is "<n>:<controllers>:<path>"; version 2's has no controllers. */
static bool find_own_path(const struct cgroup_plan *plan, const struct cgroup_group *group,
			  char *path, size_t size)
{
	char text[PIDS_SIZE];
	if (files_read("/proc/self/cgroup", text, sizeof(text)) < 0)
		return false;
	for (char *rest = NULL, *line = strtok_r(text, "\n", &rest); line;
	     line = strtok_r(NULL, "\n", &rest)) {
		char *controllers = strchr(line, ':');
		char *own = controllers ? strchr(controllers + 1, ':') : NULL;
		if (!own)
			continue;
		*own++ = '\0';
		bool same = plan->version == 2 ? controllers[1] == '\0'
					       : strstr(controllers, group->controller) != NULL;
		if (same)
			return (size_t)snprintf(path, size, "%s%s/cgroup.procs", group->mount_point,
						own) < size;
	}
	return false;
}

void cgroup_move_out(const struct cgroup_plan *plan, pid_t pid)
{
	char path[PATH_MAX], text[32];
	struct jail_error unused;
	snprintf(text, sizeof(text), "%d", pid);
	for (size_t i = 0; i < plan->group_count; i++)
		if (find_own_path(plan, &plan->groups[i], path, sizeof(path)) &&
		    files_write("undo", path, text, &unused))
			continue;
}

/* Kills what is listed now. False: nothing is left. */
static bool kill_listed(const char *path)
{
	char procs[PATH_MAX], text[PIDS_SIZE];
	snprintf(procs, sizeof(procs), "%s/cgroup.procs", path);
	if (files_read(procs, text, sizeof(text)) <= 0)
		return false;
	for (char *rest = NULL, *line = strtok_r(text, "\n", &rest); line;
	     line = strtok_r(NULL, "\n", &rest)) {
		long pid = strtol(line, NULL, 10);
		if (pid > 0 && pid <= INT_MAX)
			kill((pid_t)pid, SIGKILL);
	}
	return true;
}

void cgroup_end_processes(const char *path, unsigned version)
{
	char file[PATH_MAX];
	struct jail_error unused;
	snprintf(file, sizeof(file), "%s/cgroup.kill", path);
	if (version == 2 && files_write("clean up", file, "1", &unused) == 0)
		return;
	for (int attempt = 0; attempt < WAIT_ATTEMPTS && kill_listed(path); attempt++)
		pause_a_little(attempt);
}

int cgroup_remove(const char *path)
{
	for (int attempt = 0; attempt < WAIT_ATTEMPTS; attempt++) {
		if (rmdir(path) == 0 || errno == ENOENT)
			return 0;
		if (errno != EBUSY)
			break;
		pause_a_little(attempt);
	}
	return -errno;
}

void cgroup_remove_parent(const char *path)
{
	char parent[PATH_MAX];
	snprintf(parent, sizeof(parent), "%.*s", (int)(strrchr(path, '/') - path), path);
	rmdir(parent);
}
