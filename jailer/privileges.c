// SPDX-License-Identifier: Apache-2.0
/* Giving up what a process may do, and looking whether it is gone. */
#include "jailer/privileges.h"

#include <errno.h>
#include <grp.h>
#include <linux/keyctl.h>
#include <linux/securebits.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static const char step_limits[] = "set the limits";
static const char step_drop[] = "drop privileges";

/* uid 0 means nothing special, changing ids grants nothing, and none of this can be taken back. */
#define SECUREBITS ((SECURE_ALL_BITS & ~issecure_mask(SECURE_KEEP_CAPS)) | SECURE_ALL_LOCKS)

/* As a system call, whose number for the resource has one type in every C library. */
static int set_limit(int resource, uint64_t value, const char *name, struct jail_error *error)
{
	const uint64_t limit[2] = {value, value};
	if (syscall(SYS_prlimit64, 0, resource, limit, NULL))
		return jail_fail_bare(error, PLACE(step_limits, "prlimit", name),
				      "Failed to set limit for resource: %s", name);
	return 0;
}

int privileges_set_limits(const struct jail_plan *plan, struct jail_error *error)
{
	int rc = 0;
	if (plan->limits_fsize)
		rc = set_limit(RLIMIT_FSIZE, plan->fsize_bytes, "size of file", error);
	return rc ? rc
		  : set_limit(RLIMIT_NOFILE, plan->no_file, "number of file descriptors", error);
}

static int fail(const char *call, struct jail_error *error)
{
	return jail_fail(error, PLACE(step_drop, call, NULL), "Failed to drop privileges");
}

/* The caller's session keyring is not the tenant's to read. A kernel without keys has nothing to hide. */
static int leave_keyring(struct jail_error *error)
{
	if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 && errno != ENOSYS)
		return fail("keyctl", error);
	return 0;
}

static int drop_sets_for_later(struct jail_error *error)
{
	for (cap_value_t cap = 0; cap < cap_max_bits(); cap++)
		if (cap_drop_bound(cap))
			return fail("prctl(PR_CAPBSET_DROP)", error);
	/* libcap's cap_reset_ambient() asks for each one first */
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
		return fail("prctl(PR_CAP_AMBIENT)", error);
	if (cap_set_secbits(SECUREBITS))
		return fail("prctl(PR_SET_SECUREBITS)", error);
	return 0;
}

static int change_ids(const struct jail_plan *plan, struct jail_error *error)
{
	/* rootless: the kernel forbids it there, and the groups are the caller's own */
	if (!plan->rootless && setgroups(0, NULL))
		return fail("setgroups", error);
	if (setresgid(plan->gid, plan->gid, plan->gid))
		return fail("setresgid", error);
	if (setresuid(plan->uid, plan->uid, plan->uid))
		return fail("setresuid", error);
	return 0;
}

static int drop_capabilities(struct jail_error *error)
{
	cap_t none = cap_init();
	int rc = none && cap_set_proc(none) == 0 ? 0 : fail("capset", error);
	cap_free(none);
	if (!rc && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		rc = fail("prctl(PR_SET_NO_NEW_PRIVS)", error);
	return rc;
}

static int refuse(const char *what, struct jail_error *error)
{
	int rc = jail_refuse(error,
			     "Failed to drop privileges: the kernel accepted every call, but %s",
			     what);
	return rc;
}

static int check_ids(const struct jail_plan *plan, struct jail_error *error)
{
	uid_t uid[3];
	gid_t gid[3];
	if (getresuid(&uid[0], &uid[1], &uid[2]) || getresgid(&gid[0], &gid[1], &gid[2]))
		return fail("getresuid", error);
	for (int i = 0; i < 3; i++)
		if (uid[i] != plan->uid || gid[i] != plan->gid)
			return refuse("the ids are others", error);
	if (!plan->rootless && getgroups(0, NULL) != 0)
		return refuse("groups are left", error);
	return 0;
}

static int check_capabilities(struct jail_error *error)
{
	cap_t none = cap_init();
	cap_t have = cap_get_proc();
	int differs = none && have ? cap_compare(none, have) : -1;
	cap_free(none);
	cap_free(have);
	if (differs)
		return refuse("capabilities are left", error);
	for (cap_value_t cap = 0; cap < cap_max_bits(); cap++)
		if (cap_get_bound(cap) != 0)
			return refuse("the bounding set is not empty", error);
	if ((cap_get_secbits() & SECUREBITS) != SECUREBITS)
		return refuse("the securebits are not locked", error);
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		return refuse("no_new_privs is off", error);
	return 0;
}

int privileges_drop(const struct jail_plan *plan, struct jail_error *error)
{
	int rc = leave_keyring(error);
	rc = rc ? rc : drop_sets_for_later(error);
	rc = rc ? rc : change_ids(plan, error);
	rc = rc ? rc : drop_capabilities(error);
	rc = rc ? rc : check_ids(plan, error);
	return rc ? rc : check_capabilities(error);
}
