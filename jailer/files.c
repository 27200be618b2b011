// SPDX-License-Identifier: Apache-2.0
/* Directories and small files of the host. */
#include "jailer/files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define MAKE_ATTEMPTS 64

static int make_dir(const char *path, enum journal_kind kind, struct journal *journal)
{
	if (mkdir(path, 0777))
		return errno == EEXIST ? 0 : -errno;
	int rc = journal_add(journal, kind, path);
	if (rc)
		rmdir(path);
	return rc;
}

/*
 * The path with what is missing above it. Most of it exists, so the last part is tried first: the first may also refuse
 * to be made for other reasons than existing (read-only mounts). As deep as the path, which PATH_MAX limits.
 */
static int make_missing(char *path, enum journal_kind kind, struct journal *journal)
{
	int rc = make_dir(path, kind, journal);
	char *slash = strrchr(path, '/');
	if (rc != -ENOENT || !slash || slash == path)
		return rc;
	*slash = '\0';
	rc = make_missing(path, kind, journal);
	*slash = '/';
	return rc ? rc : make_dir(path, kind, journal);
}

int files_make_dirs(const char *step, const char *path, enum journal_kind kind,
		    struct journal *journal, struct jail_error *error)
{
	char copy[PATH_MAX];
	struct stat status;
	int rc = -ENOENT;
	if ((size_t)snprintf(copy, sizeof(copy), "%s", path) >= sizeof(copy))
		rc = -ENAMETOOLONG;
	for (int attempt = 0; rc == -ENOENT && attempt < MAKE_ATTEMPTS; attempt++)
		rc = make_missing(copy, kind, journal);
	if (rc == 0 && (lstat(path, &status) || !S_ISDIR(status.st_mode)))
		rc = -ENOTDIR;
	if (rc == 0)
		return 0;
	errno = -rc;
	return jail_fail(error, PLACE(step, "mkdir", path), "Failed to create directory %s", path);
}

int files_write(const char *step, const char *path, const char *text, struct jail_error *error)
{
	cleanup_fd int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return jail_fail(error, PLACE(step, "open", path), "Failed to write to %s", path);
	ssize_t wrote = write(fd, text, strlen(text));
	if (wrote == (ssize_t)strlen(text))
		return 0;
	if (wrote >= 0)
		errno = EIO;
	return jail_fail(error, PLACE(step, "write", path), "Failed to write to %s", path);
}

int files_read(const char *path, char *text, size_t size)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	text[0] = '\0';
	if (fd < 0)
		return -errno;
	size_t used = 0;
	while (used < size - 1) {
		ssize_t count = read(fd, text + used, size - 1 - used);
		if (count < 0)
			return -errno;
		if (count == 0)
			break;
		used += (size_t)count;
	}
	text[used] = '\0';
	return (int)used;
}
