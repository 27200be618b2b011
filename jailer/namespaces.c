// SPDX-License-Identifier: Apache-2.0
/* The namespaces of the jail. */
#include "jailer/namespaces.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include "jailer/files.h"

static const char step_user[] = "enter the user namespace";
static const char step_network[] = "join the network namespace";
static const char step_unshare[] = "make the namespaces";

int namespaces_enter_user(const struct jail_plan *plan, bool made, uid_t caller_uid,
			  gid_t caller_gid, struct jail_error *error)
{
	char map[64];
	if (!made && unshare(CLONE_NEWUSER))
		return jail_fail(error, PLACE(step_user, "unshare", "CLONE_NEWUSER"),
				 "Failed to unshare into new user namespace");
	/* The kernel demands this of callers without privileges: dropping a group could open what denies it. */
	int rc = files_write(step_user, "/proc/self/setgroups", "deny", error);
	if (rc)
		return rc;
	snprintf(map, sizeof(map), "%u %u 1\n", plan->uid, caller_uid);
	rc = files_write(step_user, "/proc/self/uid_map", map, error);
	if (rc)
		return rc;
	snprintf(map, sizeof(map), "%u %u 1\n", plan->gid, caller_gid);
	return files_write(step_user, "/proc/self/gid_map", map, error);
}

int namespaces_join_network(const struct jail_plan *plan, struct jail_error *error)
{
	if (!plan->netns)
		return 0;
	cleanup_fd int fd = open(plan->netns, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return jail_fail(error, PLACE(step_network, "open", plan->netns),
				 "Failed to open file %s", plan->netns);
	if (setns(fd, CLONE_NEWNET))
		return jail_fail(error, PLACE(step_network, "setns", plan->netns),
				 "Failed to join network namespace: netns");
	return 0;
}

int namespaces_unshare(const struct jail_plan *plan, struct jail_error *error)
{
	int flags =
		CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | (plan->new_net_ns ? CLONE_NEWNET : 0);
	if (unshare(flags))
		return jail_fail(error,
				 PLACE(step_unshare, "unshare",
				       "CLONE_NEWNS|CLONE_NEWIPC|CLONE_NEWUTS"),
				 "Failed to unshare into new mount namespace");
	if (sethostname(plan->id, strlen(plan->id)))
		return jail_fail(error, PLACE(step_unshare, "sethostname", plan->id),
				 "Failed to set the host name");
	return 0;
}
