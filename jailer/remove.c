// SPDX-License-Identifier: Apache-2.0
/* Removing directory trees that a hostile tenant filled, and undoing what a jailer made. */
#include "jailer/remove.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "jailer/remove_cgroup.h"
#include "jailer/sys.h"

#define LISTING_SIZE 4096

struct listing_entry {
	uint64_t inode;
	int64_t offset;
	uint16_t length;
	uint8_t type;
	char name[];
};

/* A directory, no link, on the same mount as parent_fd. */
static int open_dir(int parent_fd, const char *name)
{
	const struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH,
	};
	int fd = sys_openat2(parent_fd, name, &how);
	if (fd < 0 && errno == EACCES && fchmodat(parent_fd, name, 0700, 0) == 0)
		fd = sys_openat2(parent_fd, name, &how);
	return fd;
}

/* 0, -ENOTEMPTY for a directory with something in it, or another -errno. */
static int remove_entry(int fd, const char *name)
{
	if (unlinkat(fd, name, 0) == 0)
		return 0;
	if (errno == EISDIR || errno == EPERM)
		return unlinkat(fd, name, AT_REMOVEDIR) ? -errno : 0;
	return -errno;
}

struct removal {
	int top;
	unsigned moved; /* for names of directories that were moved up */
};

static int move_up(struct removal *removal, int fd, const char *name)
{
	char to[32];
	do {
		snprintf(to, sizeof(to), ".bantam-removed-%u", removal->moved++);
		if (sys_renameat2(fd, name, removal->top, to, 1 /* RENAME_NOREPLACE */) == 0)
			return 0;
	} while (errno == EEXIST && removal->moved);
	return -errno;
}

/* Calls act() on every entry. Returns how many of them it did something about. */
static unsigned long each_entry(struct removal *removal, int fd,
				int (*act)(struct removal *removal, int fd, const char *name))
{
	_Alignas(struct listing_entry) char listing[LISTING_SIZE];
	unsigned long done = 0;
	long size;
	while ((size = syscall(SYS_getdents64, fd, listing, sizeof(listing))) > 0) {
		for (long at = 0; at < size;) {
			const struct listing_entry *entry = (const void *)(listing + at);
			if (strcmp(entry->name, ".") != 0 && strcmp(entry->name, "..") != 0 &&
			    act(removal, fd, entry->name) == 0)
				done++;
			at += entry->length;
		}
	}
	return done;
}

/* Second level: what cannot go is moved to the first, so that no third is ever entered. */
static int remove_or_move(struct removal *removal, int fd, const char *name)
{
	int rc = remove_entry(fd, name);
	return rc == -ENOTEMPTY || rc == -EEXIST ? move_up(removal, fd, name) : rc;
}

/* First level. 0: progress was made. */
static int remove_with_contents(struct removal *removal, int fd, const char *name)
{
	int rc = remove_entry(fd, name);
	if (rc != -ENOTEMPTY && rc != -EEXIST)
		return rc;
	cleanup_fd int inner = open_dir(fd, name);
	if (inner < 0)
		return -errno;
	unsigned long done = each_entry(removal, inner, remove_or_move);
	rc = remove_entry(fd, name);
	return done ? 0 : rc;
}

int remove_tree(int parent_fd, const char *name)
{
	cleanup_fd int top = open_dir(parent_fd, name);
	if (top < 0)
		return errno == ENOENT ? 0 : -errno;
	struct removal removal = {.top = top};
	while (each_entry(&removal, top, remove_with_contents))
		if (lseek(top, 0, SEEK_SET) < 0)
			return -errno;
	return unlinkat(parent_fd, name, AT_REMOVEDIR) ? -errno : 0;
}

static void undo_inside(const struct jail_plan *plan, const char *path)
{
	cleanup_fd int root = open(plan->chroot_dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (root >= 0 && unlinkat(root, path, 0))
		unlinkat(root, path, AT_REMOVEDIR);
}

void remove_made(const struct jail_plan *plan, const struct journal *journal, pid_t builder)
{
	if (builder)
		cgroup_move_out(&plan->cgroup, builder);
	for (uint32_t i = journal->count; i > 0; i--) {
		const char *path = journal_path(journal, i - 1);
		switch ((enum journal_kind)journal->entries[i - 1].kind) {
		case JOURNAL_DIR:
			rmdir(path);
			break;
		case JOURNAL_CGROUP:
			cgroup_remove(path);
			break;
		case JOURNAL_INSIDE:
			undo_inside(plan, path);
			break;
		}
	}
}

static int remove_folder(const struct jail_plan *plan)
{
	cleanup_fd int base = open(plan->base_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (base < 0)
		return -errno;
	cleanup_fd int parent =
		openat(base, plan->exec_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (parent < 0)
		return -errno;
	int rc = remove_tree(parent, plan->id);
	unlinkat(base, plan->exec_name, AT_REMOVEDIR); /* other jails may be in it */
	return rc;
}

int remove_jail(const struct jail_plan *plan, const struct journal *journal)
{
	int rc_cgroups = 0;
	for (size_t i = 0; i < plan->cgroup.group_count; i++) {
		cgroup_end_processes(plan->cgroup.groups[i].path, plan->cgroup.version);
		int rc = cgroup_remove(plan->cgroup.groups[i].path);
		rc_cgroups = rc_cgroups ? rc_cgroups : rc;
		if (plan->cgroup.parent_is_ours)
			cgroup_remove_parent(plan->cgroup.groups[i].path);
	}
	int rc = remove_folder(plan);
	for (uint32_t i = journal->count; i > 0; i--) {
		if (journal->entries[i - 1].kind != JOURNAL_INSIDE)
			rmdir(journal_path(journal,
					   i - 1)); /* parents that were made and are empty now */
	}
	return rc ? rc : rc_cgroups;
}
