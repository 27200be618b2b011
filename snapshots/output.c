// SPDX-License-Identifier: Apache-2.0
/* Files that replace others when they are complete. */
#include "snapshots/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SUFFIX       ".partial"
#define BUFFER_BYTES (1u << 20)
#define FILE_MODE \
	0644 /* less what the umask takes away: other monitors, of other users, load it too */

int output_write(const struct output *output, uint64_t offset, const void *bytes, uint64_t len,
		 struct error *err)
{
	const uint8_t *at = bytes;

	while (len > 0) {
		ssize_t written = pwrite(output->fd, at, len, (off_t)offset);

		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return error_set_errno(err, "cannot write %s", output->path);
		at += written;
		offset += (uint64_t)written;
		len -= (uint64_t)written;
	}
	return 0;
}

/* ---- copying ---- */

/* copy_file_range(2) shares the blocks where the file system can, and refuses where it cannot copy at all. */
static bool cannot_copy_inside(int code)
{
	return code == EXDEV || code == EINVAL || code == ENOSYS || code == EOPNOTSUPP;
}

/* One step of copying [offset, end): bytes done, or -errno with a text. */
static ssize_t copy_some(const struct output *output, int fd, off_t offset, off_t end,
			 uint8_t *buffer, struct error *err)
{
	off_t from = offset, to = offset;
	size_t len = (size_t)(end - offset);
	ssize_t done = copy_file_range(fd, &from, output->fd, &to, len, 0);

	if (done > 0)
		return done;
	if (done < 0 && !cannot_copy_inside(errno))
		return error_set_errno(err, "cannot write %s", output->path);
	done = pread(fd, buffer, len < BUFFER_BYTES ? len : BUFFER_BYTES, offset);
	if (done < 0)
		return error_set_errno(err, "cannot read a memory file");
	if (done == 0)
		return error_set(err, -EIO, "a memory file has become shorter");
	int ret = output_write(output, (uint64_t)offset, buffer, (uint64_t)done, err);

	return ret ? ret : done;
}

static int copy_extent(const struct output *output, int fd, off_t offset, off_t end,
		       uint8_t *buffer, struct error *err)
{
	while (offset < end) {
		ssize_t done = copy_some(output, fd, offset, end, buffer, err);

		if (done < 0)
			return (int)done;
		offset += done;
	}
	return 0;
}

static int copy_data(const struct output *output, int fd, off_t size, uint8_t *buffer,
		     struct error *err)
{
	off_t offset = 0;

	while (offset < size) {
		off_t data = lseek(fd, offset, SEEK_DATA);
		off_t hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);

		if (data < 0 && errno == ENXIO)
			return 0; /* a hole up to the end */
		if (data < 0 || hole < 0)
			return error_set_errno(err, "cannot find what is written in a memory file");
		int ret = copy_extent(output, fd, data, hole < size ? hole : size, buffer, err);

		if (ret)
			return ret;
		offset = hole;
	}
	return 0;
}

int output_copy(const struct output *output, int fd, uint64_t size, struct error *err)
{
	uint8_t *buffer = malloc(BUFFER_BYTES);
	int ret = buffer ? copy_data(output, fd, (off_t)size, buffer, err)
			 : error_set_os(err, -ENOMEM, "no memory to copy with");

	free(buffer);
	return ret;
}

/* ---- opening ---- */

static bool is_same_file(int fd, int other)
{
	struct stat a, b;

	return other >= 0 && fstat(fd, &a) == 0 && fstat(other, &b) == 0 && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino;
}

/* Only a regular file can be replaced by name; a device takes what is written. */
static bool is_special(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && !S_ISREG(st.st_mode);
}

char *output_partial_name(const char *path)
{
	size_t len = strlen(path) + sizeof(SUFFIX);
	char *name = malloc(len);

	if (name)
		snprintf(name, len, "%s" SUFFIX, path);
	return name;
}

static int open_partial(struct output *output)
{
	output->partial = output_partial_name(output->path);
	if (!output->partial)
		return -ENOMEM;
	/* What an earlier monitor left when it was killed. */
	if (unlink(output->partial) && errno != ENOENT)
		return -errno;
	output->fd = open(output->partial, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
			  FILE_MODE);
	return output->fd < 0 ? -errno : 0;
}

static int open_in_place(struct output *output, int kept_fd, enum output_mode mode,
			 struct error *err)
{
	free(output->partial);
	output->partial = NULL;
	output->fd = open(output->path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (output->fd < 0)
		return error_set_errno(err, "cannot write %s", output->path);
	if (is_same_file(output->fd, kept_fd))
		return error_set(
			err, -EBUSY,
			"cannot write %s: this microVM's memory is mapped from it, and its "
			"folder does not allow a new file in its place",
			output->path);
	if (mode == OUTPUT_NEW && ftruncate(output->fd, 0) && errno != EINVAL)
		return error_set_errno(err, "cannot truncate %s", output->path);
	return 0;
}

/* The new file begins as what is there under its name. */
static int copy_old(const struct output *output, struct error *err)
{
	cleanup_fd int fd = open(output->path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		return error_set_errno(err, "cannot read %s", output->path);
	if (ftruncate(output->fd, st.st_size))
		return error_set_errno(err, "cannot write %s", output->path);
	return output_copy(output, fd, (uint64_t)st.st_size, err);
}

static bool folder_refuses(int ret)
{
	return ret == -EACCES || ret == -EPERM || ret == -EROFS;
}

int output_open(struct output *output, const char *path, int kept_fd, enum output_mode mode,
		struct error *err)
{
	*output = (struct output){.fd = -1, .path = strdup(path)};
	if (!output->path)
		return error_set_os(err, -ENOMEM, "no memory for a path");
	int ret = is_special(path) ? -EROFS : open_partial(output);

	if (folder_refuses(ret) && access(path, W_OK) == 0)
		ret = open_in_place(output, kept_fd, mode, err);
	else if (ret)
		error_set_os(err, ret, "cannot write %s", path);
	else if (mode == OUTPUT_OVER)
		ret = copy_old(output, err);
	if (ret)
		output_abort(output);
	return ret;
}

int output_sync(const struct output *output, struct error *err)
{
	/* What is no file on a disk has nothing to wait for. */
	if (fsync(output->fd) && errno != EINVAL && errno != ENOTSUP)
		return error_set_errno(err, "cannot write %s", output->path);
	return 0;
}

int output_commit(struct output *output, struct error *err)
{
	if (output->partial && rename(output->partial, output->path))
		return error_set_errno(err, "cannot replace %s", output->path);
	output_leave(output);
	return 0;
}

void output_leave(struct output *output)
{
	close_fd(output->fd);
	free(output->partial);
	free(output->path);
	*output = (struct output){.fd = -1};
}

void output_abort(struct output *output)
{
	if (output->partial)
		unlink(output->partial);
	output_leave(output);
}

int output_end(struct output *output, int ret, struct error *err)
{
	if (!ret)
		ret = output_sync(output, err);
	if (!ret)
		ret = output_commit(output, err);
	if (ret)
		output_abort(output);
	return ret;
}
