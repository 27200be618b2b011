// SPDX-License-Identifier: Apache-2.0
/* Copies the program into the jail or into memory. */
#include "jailer/exec_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "jailer/spawn.h"
#include "jailer/sys.h"

static const char step[] = "copy the program";

#define COPY_CHUNK (1024 * 1024) /* what a pipe may hold that nobody has set other limits for */

int exec_copy_move(void *context)
{
	const struct program_copy *copy = context;
	for (;;) {
		ssize_t count = splice(copy->from, NULL, copy->pipe[1], NULL, COPY_CHUNK, 0);
		if (count <= 0)
			return count < 0 ? spawn_error_number() : 0;
		while (count > 0) {
			ssize_t moved =
				splice(copy->pipe[0], NULL, copy->to, NULL, (size_t)count, 0);
			if (moved <= 0)
				return moved < 0 ? spawn_error_number() : EIO;
			count -= moved;
		}
	}
}

/*
 * copy_file_range() and sendfile() do the same with a pipe of 16 pages: with a large one the copy's pages are made in
 * large pieces, and where the file has its blocks beforehand nothing is reserved for each of them, which is nearly
 * half of the time on ext4. Both are done without where they are refused.
 */
static int prepare_move(const struct jail_plan *plan, struct program_copy *copy, off_t size,
			struct jail_error *error)
{
	if (pipe2(copy->pipe, O_CLOEXEC))
		return jail_fail(error, PLACE(step, "pipe2", NULL), "Failed to copy %s",
				 plan->exec_path);
	(void)fcntl(copy->pipe[1], F_SETPIPE_SZ, COPY_CHUNK);
	(void)fallocate(copy->to, 0, 0, size);
	copy->takes_long = size > COPY_CHUNK;
	return 0;
}

static int open_source(const struct jail_plan *plan, struct stat *status, int *fd,
		       struct jail_error *error)
{
	*fd = open(plan->exec_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (*fd < 0)
		return jail_fail(error, PLACE(step, "open", plan->exec_path), "Failed to open %s",
				 plan->exec_path);
	if (fstat(*fd, status))
		return jail_fail(error, PLACE(step, "fstat", plan->exec_path),
				 "Cannot get metadata for a file: %s", plan->exec_path);
	return 0;
}

/*
 * The folder may be a former tenant's: a link there must not lead the copy elsewhere. What is there already stays the
 * file it is, so that a program that runs from it makes this fail (ETXTBSY) instead of losing its file.
 */
static int open_copy(const struct jail_plan *plan, const char *path, int *fd, bool *made,
		     struct jail_error *error)
{
	struct stat status;
	*made = true;
	*fd = sys_make_file(path, 0700);
	if (*fd >= 0)
		return 0;
	*made = false;
	if (errno == EEXIST)
		*fd = open(path, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (*fd < 0)
		return jail_fail(error, PLACE(step, "open", path), "Failed to open %s", path);
	if (fstat(*fd, &status))
		return jail_fail(error, PLACE(step, "fstat", path),
				 "Cannot get metadata for a file: %s", path);
	if (!S_ISREG(status.st_mode))
		return jail_refuse(error, "%s is not a file", path);
	if (status.st_nlink > 1)
		return jail_refuse(error, "Detected hard link at: %s", path);
	if (ftruncate(*fd, 0))
		return jail_fail(error, PLACE(step, "ftruncate", path), "Failed to copy %s to %s",
				 plan->exec_path, path);
	return 0;
}

static int own_copy(const struct jail_plan *plan, const char *path, int to,
		    const struct stat *source, struct jail_error *error)
{
	if (!plan->rootless && fchown(to, plan->uid, plan->gid))
		return jail_fail(error, PLACE(step, "fchown", path),
				 "Failed to change owner for %s", path);
	if (fchmod(to, source->st_mode & 0777))
		return jail_fail(error, PLACE(step, "fchmod", path),
				 "Failed to change permissions on %s", path);
	return 0;
}

static int make_file(const struct jail_plan *plan, struct journal *journal,
		     struct program_copy *copy, const struct stat *source, struct jail_error *error)
{
	char path[PATH_MAX];
	bool made;
	if ((size_t)snprintf(path, sizeof(path), "%s/%s", plan->chroot_dir, plan->exec_name) >=
	    sizeof(path))
		return jail_refuse(error, "Failed to open %s: the path is too long",
				   plan->chroot_dir);
	int rc = open_copy(plan, path, &copy->to, &made, error);
	if (!rc && made && journal_add(journal, JOURNAL_INSIDE, plan->exec_name)) {
		unlink(path);
		return jail_refuse(error, "Failed to copy %s: too many things made",
				   plan->exec_path);
	}
	return rc ? rc : own_copy(plan, path, copy->to, source, error);
}

static int make_memfd(const struct jail_plan *plan, struct program_copy *copy,
		      struct jail_error *error)
{
	const unsigned int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	copy->to = memfd_create(plan->exec_name, flags | 0x10U /* MFD_EXEC, since Linux 6.3 */);
	if (copy->to < 0 && errno == EINVAL)
		copy->to = memfd_create(plan->exec_name, flags);
	if (copy->to < 0)
		return jail_fail(error, PLACE(step, "memfd_create", plan->exec_name),
				 "Failed to copy %s to memory", plan->exec_path);
	return 0;
}

int exec_copy_begin(const struct jail_plan *plan, struct journal *journal,
		    struct program_copy *copy, struct jail_error *error)
{
	struct stat source = {0};
	*copy = (struct program_copy){.from = -1, .to = -1, .pipe = {-1, -1}};
	int rc = open_source(plan, &source, &copy->from, error);
	if (rc)
		return rc;
	rc = plan->exec_copy == EXEC_COPY_MEMFD ? make_memfd(plan, copy, error)
						: make_file(plan, journal, copy, &source, error);
	copy->to_move = plan->exec_copy == EXEC_COPY_MEMFD ||
			(plan->exec_copy == EXEC_COPY_FILE && ioctl(copy->to, FICLONE, copy->from));
	return rc || !copy->to_move ? rc : prepare_move(plan, copy, source.st_size, error);
}

static int seal(const struct jail_plan *plan, int fd, struct jail_error *error)
{
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE))
		return jail_fail(error, PLACE(step, "fcntl(F_ADD_SEALS)", plan->exec_path),
				 "Failed to seal the copy of %s", plan->exec_path);
	return 0;
}

int exec_copy_end(const struct jail_plan *plan, struct program_copy *copy, int move_error, int *fd,
		  struct jail_error *error)
{
	int rc = 0;
	errno = move_error;
	if (move_error)
		rc = jail_fail(error, PLACE(step, "splice", plan->exec_path), "Failed to copy %s",
			       plan->exec_path);
	close_fd(copy->from);
	close_fd(copy->pipe[0]);
	close_fd(copy->pipe[1]);
	if (!rc && plan->exec_copy == EXEC_COPY_MEMFD) {
		*fd = copy->to;
		return seal(plan, *fd, error);
	}
	close_fd(copy->to);
	return rc;
}
