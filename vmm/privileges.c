// SPDX-License-Identifier: Apache-2.0
/*
 * What the monitor gives up before a guest runs.
 *
 * DOC: In a jail there is nothing left to give up but dumpability. These calls are for a monitor that somebody starts
 * without one, as root above all: opening /dev/kvm and taps may need capabilities, running a guest does not. User 0
 * stays user 0 and the file system stays in view, so this replaces no jail (jailer/README.md). Capabilities belong to
 * threads: each thread drops its own.
 */
#include "vmm/privileges.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CAPABILITY_WORDS _LINUX_CAPABILITY_U32S_3
#define KEPT             CAP_TO_MASK(CAP_DAC_OVERRIDE) /* in the first word */

static struct __user_cap_header_struct this_thread(void)
{
	return (struct __user_cap_header_struct){.version = _LINUX_CAPABILITY_VERSION_3};
}

/* The kernel refuses the first number that it has no capability for: the last one known here is not its last one. */
static void empty_bounding_set(void)
{
	unsigned long cap = 0;

	while (cap == CAP_DAC_OVERRIDE || prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0)
		cap++;
}

int privileges_drop(struct error *err)
{
	struct __user_cap_header_struct head = this_thread();
	struct __user_cap_data_struct sets[CAPABILITY_WORDS] = {{0}};

	if (syscall(SYS_capget, &head, sets) < 0)
		return error_set_errno(err, "cannot read the capabilities");
	if (sets[0].effective & CAP_TO_MASK(CAP_SETPCAP))
		empty_bounding_set();
	const uint32_t kept = sets[0].permitted & KEPT;
	const struct __user_cap_data_struct rest[CAPABILITY_WORDS] = {
		{.effective = kept, .permitted = kept}};

	/* What leaves the permitted and inheritable sets leaves the ambient one. */
	if (syscall(SYS_capset, &head, rest) < 0)
		return error_set_errno(err, "cannot give up capabilities");
	/* Without it an executed program could gain privileges, and an unprivileged thread may not install a filter. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_set_errno(err, "PR_SET_NO_NEW_PRIVS failed");
	return 0;
}

/* The C library looks at the time zone again and again, and would go and read another one's file if it changed. */
static void forget_environment(void)
{
	char **keep = environ;

	for (char **at = environ; at && *at; at++) {
		if (strncmp(*at, "TZ=", 3) == 0)
			*keep++ = *at;
		else
			memset(*at, 0, strlen(*at));
	}
	if (keep)
		*keep = NULL;
}

int privileges_close_process(struct error *err)
{
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return error_set_errno(err, "PR_SET_DUMPABLE failed");
	/* Linux 5.11; before it, what the caller passed on stays as it was, and no filter lets a program be executed. */
	(void)syscall(SYS_close_range, 0, ~0U, CLOSE_RANGE_CLOEXEC);
	forget_environment();
	return 0;
}
