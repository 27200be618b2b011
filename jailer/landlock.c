// SPDX-License-Identifier: Apache-2.0
/* Landlock rules. Debian 12's headers know version 2 of the interface, hence the numbers of later ones here. */
#include "jailer/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/syscall.h>

static const char step[] = "confine with Landlock";

/* struct landlock_ruleset_attr up to version 6 */
struct ruleset {
	uint64_t fs, net, scoped;
};

#define FS_TRUNCATE (1ULL << 14) /* version 3 */
#define NET_ALL     3ULL         /* version 4: TCP bind and connect */
#define SCOPE_ALL   3ULL         /* version 6: abstract UNIX sockets and signals */

/* What the program does with its files: kernels, disks, logs, sockets, snapshots (made, then renamed). */
#define FS_ALLOWED                                                        \
	(LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR |     \
	 LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_FILE | \
	 LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK | FS_TRUNCATE)

#define FS_DENIED                                                       \
	(LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_REMOVE_DIR |   \
	 LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR |   \
	 LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK | \
	 LANDLOCK_ACCESS_FS_MAKE_SYM)

static int fail(const char *call, const char *path, struct jail_error *error)
{
	return jail_fail(error, PLACE(step, call, path),
			 "Failed to confine the program with Landlock");
}

static int allow(int ruleset, const char *path, uint64_t access, struct jail_error *error)
{
	cleanup_fd int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return fail("open", path, error);
	const struct landlock_path_beneath_attr rule = {.allowed_access = access, .parent_fd = fd};
	if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0))
		return fail("landlock_add_rule", path, error);
	return 0;
}

int landlock_confine(const struct jail_plan *plan, struct jail_error *error)
{
	char program[PATH_MAX];
	long version =
		syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	if (version < 0 && (errno == ENOSYS || errno == EOPNOTSUPP))
		return 0;
	if (version < 0)
		return fail("landlock_create_ruleset", "version", error);
	uint64_t known = version >= 3 ? ~0ULL : ~FS_TRUNCATE;
	const struct ruleset rules = {.fs = (FS_ALLOWED | FS_DENIED) & known,
				      .net = version >= 4 ? NET_ALL : 0,
				      .scoped = version >= 6 ? SCOPE_ALL : 0};
	size_t size = version >= 6   ? sizeof(rules)
		      : version >= 4 ? 2 * sizeof(uint64_t)
				     : sizeof(uint64_t);

	cleanup_fd int ruleset = (int)syscall(SYS_landlock_create_ruleset, &rules, size, 0);
	if (ruleset < 0)
		return fail("landlock_create_ruleset", "", error);
	int rc = allow(ruleset, "/", FS_ALLOWED & known, error);
	snprintf(program, sizeof(program), "/%s", plan->exec_name);
	if (!rc && plan->exec_copy != EXEC_COPY_MEMFD)
		rc = allow(ruleset, program,
			   LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE, error);
	if (!rc && syscall(SYS_landlock_restrict_self, ruleset, 0))
		rc = fail("landlock_restrict_self", "", error);
	return rc;
}
