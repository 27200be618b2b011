// SPDX-License-Identifier: Apache-2.0
/*
 * What does a block device's transfers: the backing file, and the engines that move bytes between it and buffers.
 *
 * DOC: Threads. Everything here runs on the device's loop thread, and complete() is called there too: from inside
 * submit(), run() or drain(), never from another thread and never after free(). An engine sees host buffers and file
 * offsets only, no guest addresses and no queue. It may not touch a request's buffers after it has completed it.
 */
#ifndef VIRTIO_BLOCK_BACKEND_H
#define VIRTIO_BLOCK_BACKEND_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>
#include "vmm/core/cleanup.h"
#include "vmm/core/error.h"

struct loop;

#define BLOCK_SECTOR_BYTES 512u
#define BLOCK_SERIAL_BYTES 20u

/* ---- the backing file ---- */

struct block_file {
	int fd;           /* owned */
	uint64_t sectors; /* whole sectors of 512 bytes when it was opened */
	char serial
		[BLOCK_SERIAL_BYTES]; /* what GET_ID answers: device and inode numbers; not NUL-terminated */
};

/* Opens a regular file or a block device. 0, or a negative errno and a text; then file->fd is -1. */
int block_file_open(struct block_file *file, const char *path, bool read_only,
		    struct error *err) must_check;

/* Closes the file (nothing happens when fd is -1), after making its content durable when asked to. */
void block_file_close(struct block_file *file, bool sync);

/* ---- one transfer ---- */

enum block_op {
	BLOCK_OP_READ,
	BLOCK_OP_WRITE,
	BLOCK_OP_FLUSH,
	BLOCK_OP_DISCARD,    /* punch a hole; the range reads as zeroes or as anything */
	BLOCK_OP_ZERO,       /* the range reads as zeroes and stays allocated */
	BLOCK_OP_ZERO_UNMAP, /* the range reads as zeroes and may be deallocated */
};

struct block_io {
	enum block_op op;
	uint16_t tag;       /* the caller's name for the request, unique among those in flight */
	uint16_t iov_count; /* 0 unless READ or WRITE */
	struct iovec *iov;  /* the engine may change it; the caller's again when submit() returns */
	uint64_t offset_bytes;
	uint64_t len_bytes; /* the sum of the buffers, for READ and WRITE */
};

/*
 * Does the transfer, or what is left of a READ or WRITE after done_bytes of it, to its end before it returns. 0, or a
 * negative errno: -EIO when the file ended first, -EOPNOTSUPP when the file cannot discard.
 */
int block_file_transfer(int fd, struct block_io *io, uint64_t done_bytes) must_check;

/* ---- backends ---- */

struct block_backend;

struct block_backend_ops {
	/* Takes a request; complete() comes for it, perhaps from within. */
	void (*submit)(struct block_backend *backend, struct block_io *io);
	/* Hands what submit() gathered to the kernel and completes what is done. Never waits. */
	void (*run)(struct block_backend *backend);
	/* Completes everything in flight; waits for the kernel. */
	void (*drain)(struct block_backend *backend);
	/* Goes on with another file (borrowed). Only with nothing in flight. */
	void (*change_file)(struct block_backend *backend, int fd);
	/* Only with nothing in flight. */
	void (*free)(struct block_backend *backend);
};

/* Whom a backend serves. */
struct block_client {
	void *ctx;
	/* The request with that tag is done: 0 or a negative errno. */
	void (*complete)(void *ctx, uint16_t tag, int result);
	/* Something may have completed in the background: call run(). */
	void (*wake)(void *ctx);
};

/* First member of each backend's own struct. */
struct block_backend {
	const struct block_backend_ops *ops;
	struct block_client client;
	int fd; /* borrowed from the device's block_file */
};

/* preadv and the like, on the calling thread, inside submit(). NULL: no memory. */
struct block_backend *block_sync_new(int fd, const struct block_client *client) must_check;

/*
 * io_uring, for tags below tag_count. The ring is made at the first request; where the kernel refuses it, requests are
 * done as block_sync does them, and the log says so. loop is borrowed. NULL: no memory.
 */
struct block_backend *block_uring_new(int fd, const struct block_client *client, struct loop *loop,
				      unsigned tag_count) must_check;

#endif
