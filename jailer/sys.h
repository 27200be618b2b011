// SPDX-License-Identifier: Apache-2.0
/* System calls that a C library may be too old, or too small, to name; and their constants from the kernel's headers. */
#ifndef BANTAM_JAILER_SYS_H
#define BANTAM_JAILER_SYS_H

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SYS_CLOSE_RANGE_UNSHARE 2U
#define SYS_AT_RECURSIVE        0x8000U
#define SYS_OPEN_TREE_CLONE     1U
#define SYS_MOVE_EMPTY_PATH     4U /* MOVE_MOUNT_F_EMPTY_PATH */

/* struct mount_attr; the flags are those of mount(2) */
struct sys_mount_attr {
	uint64_t set, clear, propagation, user_namespace_fd;
};

static inline int sys_close_range(unsigned int first, unsigned int last, unsigned int flags)
{
	return (int)syscall(SYS_close_range, first, last, flags);
}

static inline int sys_open_tree(const char *path, unsigned int flags)
{
	return (int)syscall(SYS_open_tree, AT_FDCWD, path, flags);
}

/* A new file, in exactly one system call: the C library's open() may make another before it returns. */
static inline int sys_make_file(const char *path, unsigned int mode)
{
	return (int)syscall(SYS_openat, AT_FDCWD, path,
			    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
}

/* The detached tree of a descriptor onto a path. */
static inline int sys_move_mount(int tree, const char *path)
{
	return (int)syscall(SYS_move_mount, tree, "", AT_FDCWD, path, SYS_MOVE_EMPTY_PATH);
}

static inline int sys_mount_setattr(const char *path, const struct sys_mount_attr *attributes)
{
	return (int)syscall(SYS_mount_setattr, AT_FDCWD, path, 0, attributes, sizeof(*attributes));
}

static inline int sys_openat2(int fd, const char *path, const struct open_how *how)
{
	return (int)syscall(SYS_openat2, fd, path, how, sizeof(*how));
}

static inline int sys_renameat2(int from_fd, const char *from, int to_fd, const char *to,
				unsigned int flags)
{
	return (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, flags);
}

#endif
