// SPDX-License-Identifier: Apache-2.0
/* The backing file of a block device, and the backend that works on it synchronously. */
#include "virtio/block_backend.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "vmm/core/log.h"

static int file_error(struct error *err, int code, const char *path)
{
	return error_set(err, code,
			 "Virtio backend error: Error manipulating the backing file: "
			 "%s (os error %d) %s",
			 strerror(-code), -code, path);
}

/* The three numbers one after another, cut to what GET_ID has room for. */
static void make_serial(char serial[BLOCK_SERIAL_BYTES], const struct stat *st)
{
	char text[64] = {0};

	snprintf(text, sizeof(text), "%llu%llu%llu", (unsigned long long)st->st_dev,
		 (unsigned long long)st->st_rdev, (unsigned long long)st->st_ino);
	memcpy(serial, text, BLOCK_SERIAL_BYTES);
}

/* Fills in what is known of the open file. 0 or -errno. */
static int inspect(struct block_file *file, const char *path)
{
	struct stat st;

	if (fstat(file->fd, &st))
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return -EINVAL;
	/* A block device has no st_size; the end is where seeking says for both kinds. */
	off_t size = lseek(file->fd, 0, SEEK_END);

	if (size < 0)
		return -errno;
	if (size % BLOCK_SECTOR_BYTES != 0)
		log_warn("Disk size %lld of %s is not a multiple of the sector size %u; the guest "
			 "will "
			 "not see the rest.",
			 (long long)size, path, BLOCK_SECTOR_BYTES);
	file->sectors = (uint64_t)size / BLOCK_SECTOR_BYTES;
	make_serial(file->serial, &st);
	return 0;
}

int block_file_open(struct block_file *file, const char *path, bool read_only, struct error *err)
{
	/* Non-blocking, so that a FIFO in the file's place cannot stop us; then back, because io_uring would not wait. */
	cleanup_fd int fd =
		open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	*file = (struct block_file){.fd = -1};
	if (fd < 0)
		return file_error(err, -errno, path);
	file->fd = fd;
	int ret = inspect(file, path);

	file->fd = -1;
	if (!ret && fcntl(fd, F_SETFL, 0))
		ret = -errno;
	if (ret)
		return file_error(err, ret, path);
	file->fd = steal_fd(&fd);
	return 0;
}

void block_file_close(struct block_file *file, bool sync)
{
	if (file->fd < 0)
		return;
	if (sync && fsync(file->fd))
		log_error("Failed to flush a disk on release: %s", strerror(errno));
	close_fd(file->fd);
	file->fd = -1;
}

/* Drops the first `bytes` of the buffers. */
static void skip_bytes(struct block_io *io, uint64_t bytes)
{
	while (io->iov_count > 0 && bytes >= io->iov->iov_len) {
		bytes -= io->iov->iov_len;
		io->iov++;
		io->iov_count--;
	}
	if (bytes > 0 && io->iov_count > 0) {
		io->iov->iov_base = (uint8_t *)io->iov->iov_base + bytes;
		io->iov->iov_len -= bytes;
	}
}

static int transfer_buffers(int fd, struct block_io *io, uint64_t done)
{
	skip_bytes(io, done);
	while (done < io->len_bytes) {
		off_t offset = (off_t)(io->offset_bytes + done);
		ssize_t moved = io->op == BLOCK_OP_READ
					? preadv(fd, io->iov, io->iov_count, offset)
					: pwritev(fd, io->iov, io->iov_count, offset);

		if (moved < 0 && errno == EINTR)
			continue;
		if (moved < 0)
			return -errno;
		if (moved == 0) /* the file was truncated under the guest */
			return -EIO;
		done += (uint64_t)moved;
		skip_bytes(io, (uint64_t)moved);
	}
	return 0;
}

static int change_range(int fd, int mode, const struct block_io *io)
{
	while (fallocate(fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)io->offset_bytes,
			 (off_t)io->len_bytes)) {
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

/* For files that cannot zero a range by themselves. */
static int write_zeroes(int fd, const struct block_io *io)
{
	static const uint8_t zeroes[4096];
	struct iovec iov[64];
	uint64_t done = 0;

	while (done < io->len_bytes) {
		uint64_t left = io->len_bytes - done;
		int count = 0;

		while (left > 0 && count < 64) {
			size_t part = left < sizeof(zeroes) ? (size_t)left : sizeof(zeroes);

			/* pwritev() takes buffers that are not const, and only reads them. */
			iov[count++] = (struct iovec){(void *)(uintptr_t)zeroes, part};
			left -= part;
		}
		ssize_t moved = pwritev(fd, iov, count, (off_t)(io->offset_bytes + done));

		if (moved < 0 && errno == EINTR)
			continue;
		if (moved <= 0)
			return moved < 0 ? -errno : -EIO;
		done += (uint64_t)moved;
	}
	return 0;
}

/* A block device refuses ranges that its own sectors do not fit (EINVAL); writing works there too. */
static int zero_range(int fd, int mode, const struct block_io *io)
{
	int ret = change_range(fd, mode, io);

	return ret == -EOPNOTSUPP || ret == -EINVAL ? write_zeroes(fd, io) : ret;
}

int block_file_transfer(int fd, struct block_io *io, uint64_t done_bytes)
{
	switch (io->op) {
	case BLOCK_OP_READ:
	case BLOCK_OP_WRITE:
		return transfer_buffers(fd, io, done_bytes);
	case BLOCK_OP_FLUSH:
		return fdatasync(fd) ? -errno : 0;
	case BLOCK_OP_DISCARD:
		return change_range(fd, FALLOC_FL_PUNCH_HOLE, io);
	case BLOCK_OP_ZERO:
		return zero_range(fd, FALLOC_FL_ZERO_RANGE, io);
	case BLOCK_OP_ZERO_UNMAP:
		return zero_range(fd, FALLOC_FL_PUNCH_HOLE, io);
	}
	return -EINVAL;
}

/* ---- the synchronous backend ---- */

static void sync_submit(struct block_backend *backend, struct block_io *io)
{
	backend->client.complete(backend->client.ctx, io->tag,
				 block_file_transfer(backend->fd, io, 0));
}

static void sync_run(struct block_backend *backend)
{
	(void)backend; /* submit() leaves nothing behind */
}

static void sync_change_file(struct block_backend *backend, int fd)
{
	backend->fd = fd;
}

static void sync_free(struct block_backend *backend)
{
	free(backend);
}

static const struct block_backend_ops sync_ops = {
	.submit = sync_submit,
	.run = sync_run,
	.drain = sync_run,
	.change_file = sync_change_file,
	.free = sync_free,
};

struct block_backend *block_sync_new(int fd, const struct block_client *client)
{
	struct block_backend *backend = malloc(sizeof(*backend));

	if (backend)
		*backend = (struct block_backend){.ops = &sync_ops, .client = *client, .fd = fd};
	return backend;
}
