// SPDX-License-Identifier: Apache-2.0
/* The jail's root and the flags of its mounts. */
#include "jailer/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include "jailer/sys.h"

static const char step_hold[] = "hold what the jail needs";
static const char step_root[] = "change the root";
static const char step_seal[] = "seal the mounts";

#define SEALED     (MS_NOSUID | MS_NODEV | MS_NOEXEC)
#define CLONE_TREE (SYS_OPEN_TREE_CLONE | O_CLOEXEC | AT_SYMLINK_NOFOLLOW)

/* What mount_setattr() does, for kernels before 5.12: flags are given whole there, so the old ones are kept by hand. */
static int change_flags_by_remount(const char *path, unsigned long set, unsigned long clear)
{
	struct statvfs status;
	if (statvfs(path, &status))
		return -1;
	unsigned long flags = status.f_flag & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC |
					       MS_NOATIME | MS_NODIRATIME);
	return mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | ((flags | set) & ~clear), NULL);
}

struct mount_change {
	unsigned long set, clear;  /* MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC */
	unsigned long propagation; /* MS_SLAVE, MS_PRIVATE or 0 */
};

static int change_mount(const char *path, struct mount_change change)
{
	const struct sys_mount_attr attributes = {
		.set = change.set,
		.clear = change.clear,
		.propagation = change.propagation,
	};
	if (sys_mount_setattr(path, &attributes) == 0)
		return 0;
	if (errno != ENOSYS)
		return -1;
	if (change.propagation && mount(NULL, path, NULL, change.propagation, NULL))
		return -1;
	return change.set | change.clear ? change_flags_by_remount(path, change.set, change.clear)
					 : 0;
}

static int hold(const char *path, unsigned int flags, int *tree, struct jail_error *error)
{
	*tree = sys_open_tree(path, CLONE_TREE | flags);
	if (*tree < 0)
		return jail_fail(error, PLACE(step_hold, "open_tree", path),
				 "Failed to hold %s for the jail", path);
	return 0;
}

static int hold_root(const struct jail_plan *plan, struct mounts_held *held,
		     struct jail_error *error)
{
	char around[PATH_MAX];
	snprintf(around, sizeof(around), "%.*s",
		 (int)(strrchr(plan->chroot_dir, '/') - plan->chroot_dir), plan->chroot_dir);
	int rc = hold(around, plan->rootless ? SYS_AT_RECURSIVE : 0, &held->around, error);
	return rc ? rc : hold(plan->chroot_dir, SYS_AT_RECURSIVE, &held->root, error);
}

int mounts_hold(const struct jail_plan *plan, struct mounts_held *held, struct jail_error *error)
{
	int rc = hold_root(plan, held, error);
	if (!rc && plan->exec_copy == EXEC_COPY_SHARED)
		rc = hold(plan->exec_path, 0, &held->exec, error);
	for (int i = 0; !rc && plan->rootless && i < DEVICE_COUNT; i++) {
		rc = hold(device_path((enum device)i), 0, &held->devices[i], error);
		rc = rc == -ENOENT ? 0 : rc;
	}
	return rc;
}

static int make_private(struct jail_error *error)
{
	if (mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL))
		return jail_fail(error, PLACE(step_root, "mount", "/ MS_PRIVATE|MS_REC"),
				 "Failed to change the propagation type to slave");
	return 0;
}

/* Puts the folder around the jail over "/" and the jail into it; the current directory is then the former. */
static int put_over_root(int around, int tree, struct jail_error *error)
{
	if (sys_move_mount(around, "/"))
		return jail_fail(error, PLACE(step_root, "move_mount", "/"),
				 "Failed to bind mount the jail root directory");
	if (fchdir(around))
		return jail_fail(error, PLACE(step_root, "fchdir", "/"),
				 "Failed to change current directory");
	if (change_mount(".", (struct mount_change){.set = SEALED | MS_RDONLY,
						    .propagation = MS_PRIVATE}))
		return jail_fail(error, PLACE(step_root, "mount_setattr", "/"),
				 "Failed to set the flags of the mount /");
	if (sys_move_mount(tree, "root"))
		return jail_fail(error, PLACE(step_root, "move_mount", "root"),
				 "Failed to bind mount the jail root directory");
	if (mount(NULL, "root", NULL, MS_SLAVE | MS_REC, NULL))
		return jail_fail(error, PLACE(step_root, "mount", "MS_SLAVE|MS_REC"),
				 "Failed to change the propagation type to slave");
	return 0;
}

static int pivot(int tree, struct jail_error *error)
{
	if (syscall(SYS_pivot_root, ".", "."))
		return jail_fail(error, PLACE(step_root, "pivot_root", "."),
				 "Failed to pivot root");
	/* "." is now the old root, which lies over the new one */
	if (umount2(".", MNT_DETACH))
		return jail_fail(error, PLACE(step_root, "umount2", "the old root"),
				 "Failed to unmount the old jail root");
	if (fchdir(tree) || chroot(".") || chdir("/"))
		return jail_fail(error, PLACE(step_root, "chroot", "the jail"),
				 "Failed to chdir into chroot directory");
	return 0;
}

int mounts_change_root(const struct mounts_held *held, struct jail_error *error)
{
	int rc = make_private(error);
	rc = rc ? rc : put_over_root(held->around, held->root, error);
	return rc ? rc : pivot(held->root, error);
}

static int attach(int tree, const char *path, struct jail_error *error)
{
	if (sys_move_mount(tree, path))
		return jail_fail(error, PLACE(step_seal, "move_mount", path),
				 "Failed to mount %s in the jail", path);
	return 0;
}

static int change_or_fail(const char *path, struct mount_change change, struct jail_error *error)
{
	if (change_mount(path, change))
		return jail_fail(error, PLACE(step_seal, "mount_setattr", path),
				 "Failed to set the flags of the mount %s", path);
	return 0;
}

/* Gives a path of the jail a mount of its own, with its own flags. */
static int split_off(const char *path, int tree, struct mount_change change,
		     struct jail_error *error)
{
	cleanup_fd int clone = -1;
	if (tree < 0) {
		clone = sys_open_tree(path, CLONE_TREE | SYS_AT_RECURSIVE);
		tree = clone;
	}
	if (tree < 0)
		return jail_fail(error, PLACE(step_seal, "open_tree", path),
				 "Failed to mount %s in the jail", path);
	int rc = attach(tree, path, error);
	return rc ? rc : change_or_fail(path, change, error);
}

int mounts_seal(const struct jail_plan *plan, bool fresh, struct mounts_held *held,
		struct jail_error *error)
{
	const struct mount_change dev = {.set = MS_RDONLY | MS_NOSUID | MS_NOEXEC,
					 .clear = MS_NODEV,
					 .propagation = MS_PRIVATE};
	const struct mount_change exec = {.set = MS_RDONLY | MS_NOSUID | MS_NODEV,
					  .clear = MS_NOEXEC,
					  .propagation = MS_PRIVATE};
	struct mount_change root = {.set = MS_NOSUID | MS_NOEXEC};
	char path[PATH_MAX];

	if (!plan->allow_devices && (fresh || !devices_were_put()))
		root.set |= MS_NODEV;
	int rc = split_off("/dev", -1, dev, error);
	for (int i = 0; !rc && i < DEVICE_COUNT; i++)
		if (held->devices[i] >= 0)
			rc = split_off(device_path((enum device)i), held->devices[i], dev, error);
	snprintf(path, sizeof(path), "/%s", plan->exec_name);
	if (!rc && plan->exec_copy != EXEC_COPY_MEMFD)
		rc = split_off(path, held->exec, exec, error);
	return rc ? rc : change_or_fail("/", root, error);
}

void mounts_release(struct mounts_held *held)
{
	close_fd(held->around);
	close_fd(held->root);
	close_fd(held->exec);
	for (int i = 0; i < DEVICE_COUNT; i++)
		close_fd(held->devices[i]);
}
