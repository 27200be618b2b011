// SPDX-License-Identifier: Apache-2.0
/*
 * A block device over a real file, for its unit tests, and the requests of a driver. The C library's preadv, pwritev,
 * fsync and fdatasync are stood in for, so that the synchronous engine can be made to fail and what is made durable can
 * be counted; so is io_uring_queue_init, to be an older kernel's. Included by one source file a test program.
 */
#ifndef TESTS_UNIT_BLOCK_FIXTURE_H
#define TESTS_UNIT_BLOCK_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include "tests/unit/fake_virtio.h"
#include "tests/unit/unit.h"
#include "virtio/block.h"
#include "virtio/block_request.h"
#include "virtio/device.h"
#include "vmm/core/checked.h"

enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_ZEROES = 13 };

#define DISK_SECTORS 2048u
#define RAM_BYTES    MIB(16)
#define ALL_FEATURES UINT64_MAX
#define UNTOUCHED    0xee /* a status byte that nobody has written */

/* ---- in front of the C library ---- */

static struct {
	int error;       /* the next transfers fail with it */
	size_t at_most;  /* the next transfers move no more than this; 0: no bound */
	unsigned eintrs; /* so many transfers are interrupted first */
	unsigned syncs;
	unsigned datasyncs;
	unsigned unknown_setup; /* io_uring_setup() flags that the kernel does not know */
	bool no_ring;           /* nor io_uring at all */
} libc;

static inline ssize_t meddle(long nr, int fd, const struct iovec *iov, int count, off_t offset)
{
	struct iovec first = iov[0];

	if (libc.eintrs > 0) {
		libc.eintrs--;
		errno = EINTR;
		return -1;
	}
	if (libc.error) {
		errno = libc.error;
		return -1;
	}
	if (libc.at_most > 0) {
		first.iov_len = first.iov_len < libc.at_most ? first.iov_len : libc.at_most;
		iov = &first;
		count = 1;
	}
	return syscall(nr, fd, iov, count, offset, 0);
}

ssize_t preadv(int fd, const struct iovec *iov, int count, off_t offset)
{
	return meddle(SYS_preadv, fd, iov, count, offset);
}

ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t offset)
{
	return meddle(SYS_pwritev, fd, iov, count, offset);
}

int fsync(int fd)
{
	libc.syncs++;
	return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
	libc.datasyncs++;
	return (int)syscall(SYS_fdatasync, fd);
}

int io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
	struct io_uring_params params = {.flags = flags};

	if (libc.no_ring)
		return -ENOSYS;
	return flags & libc.unknown_setup ? -EINVAL
					  : io_uring_queue_init_params(entries, ring, &params);
}

/* ---- a device on a file ---- */

/* What a test runs with. */
struct variant {
	enum block_engine engine;
	unsigned unknown_setup;
	bool no_ring;
};

struct fixture {
	char path[64];
	int fd; /* the test's own view of the backing file */
	struct loop *loop;
	struct fake_ram ram;
	struct fake_queue queue;
	struct virtio_device *dev;
	struct block_config config;
};

static inline void make_file(char path[64], int *fd, off_t bytes)
{
	strcpy(path, "/tmp/test_block.XXXXXX");
	*fd = mkostemp(path, O_CLOEXEC);
	assert_true(*fd >= 0);
	assert_int_equal(ftruncate(*fd, bytes), 0);
}

static inline void must_new(struct fixture *fx)
{
	struct error err = {0};

	fx->dev = block_new(&fx->config, &err);
	if (!fx->dev)
		fail_msg("%s", err.text);
}

/* A device with the file, not yet started, for tests that change the configuration. */
static inline struct fixture *prepare(const struct variant *variant)
{
	struct fixture *fx = calloc(1, sizeof(*fx));
	static char id[] = "disk";

	assert_non_null(fx);
	memset(&libc, 0, sizeof(libc));
	libc.unknown_setup = variant->unknown_setup;
	libc.no_ring = variant->no_ring;
	make_file(fx->path, &fx->fd, DISK_SECTORS * 512);
	fx->loop = loop_new();
	assert_non_null(fx->loop);
	fake_ram_init(&fx->ram, RAM_BYTES);
	fx->config = (struct block_config){.drive_id = id,
					   .path_on_host = fx->path,
					   .io_engine = variant->engine};
	return fx;
}

static inline void start(struct fixture *fx)
{
	must_new(fx);
	fake_device_start(fx->dev, &fx->ram, fx->loop, ALL_FEATURES, &fx->queue, 1);
}

static inline void discard(struct fixture *fx)
{
	virtio_device_free(fx->dev);
	loop_free(fx->loop);
	fake_ram_free(&fx->ram);
	close(fx->fd);
	unlink(fx->path);
	free(fx);
}

static inline int setup(void **state)
{
	struct fixture *fx = prepare(*state);

	start(fx);
	*state = fx;
	return 0;
}

static inline int setup_unstarted(void **state)
{
	*state = prepare(*state);
	return 0;
}

static inline int teardown(void **state)
{
	discard(*state);
	return 0;
}

/* ---- requests ---- */

static inline uint64_t put_header(struct fixture *fx, uint32_t type, uint64_t sector)
{
	uint8_t header[16] = {0};

	put_le32(header, type);
	put_le64(header + 8, sector);
	return fake_ram_put(&fx->ram, header, sizeof(header));
}

static inline uint64_t put_status(struct fixture *fx)
{
	const uint8_t status = UNTOUCHED;

	return fake_ram_put(&fx->ram, &status, 1);
}

static inline uint8_t status_at(const struct fixture *fx, uint64_t address)
{
	return *(const uint8_t *)fake_ram_host(&fx->ram, address);
}

static inline struct fake_used wait_used(struct fixture *fx)
{
	struct fake_used used;

	while (!fake_queue_take_used(&fx->queue, &used))
		fake_loop_wait(fx->loop);
	return used;
}

static inline struct fake_used serve(struct fixture *fx)
{
	fake_device_notify(fx->dev, 0);
	return wait_used(fx);
}

/* Header, data buffers, status; gives the status byte, and what the used ring says. */
static inline uint8_t request(struct fixture *fx, uint32_t type, uint64_t sector,
			      const struct fake_buf *data, unsigned count, uint32_t *used_len)
{
	struct fake_buf bufs[256] = {{put_header(fx, type, sector), 16, false}};
	uint64_t status = put_status(fx);

	for (unsigned i = 0; i < count; i++)
		bufs[i + 1] = data[i];
	bufs[count + 1] = (struct fake_buf){status, 1, true};
	uint16_t head = fake_queue_add(&fx->queue, bufs, count + 2);
	struct fake_used used = serve(fx);

	assert_int_equal(used.head, head);
	if (used_len)
		*used_len = used.len;
	return status_at(fx, status);
}

static inline uint8_t request_one(struct fixture *fx, uint32_t type, uint64_t sector,
				  uint64_t address, uint32_t len, bool writable)
{
	return request(fx, type, sector, (struct fake_buf[]){{address, len, writable}}, 1, NULL);
}

static inline uint8_t request_range(struct fixture *fx, uint32_t type, uint64_t sector,
				    uint32_t sectors, uint32_t flags)
{
	uint8_t segment[16];

	put_le64(segment, sector);
	put_le32(segment + 8, sectors);
	put_le32(segment + 12, flags);
	return request_one(fx, type, 0, fake_ram_put(&fx->ram, segment, 16), 16, false);
}

static inline void fill_pattern(uint8_t *out, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		out[i] = (uint8_t)((i * 31 + seed * 7 + (i >> 9)) & 0xff);
}

static inline void expect_file(const struct fixture *fx, off_t offset, const void *expected,
			       size_t len)
{
	uint8_t *got = malloc(len);

	assert_non_null(got);
	assert_int_equal(pread(fx->fd, got, len, offset), (ssize_t)len);
	assert_memory_equal(got, expected, len);
	free(got);
}

static inline bool file_is(const struct fixture *fx, off_t offset, size_t len, uint8_t value)
{
	bool same = true;

	for (size_t i = 0; i < len; i++) {
		uint8_t byte;

		assert_int_equal(pread(fx->fd, &byte, 1, offset + (off_t)i), 1);
		same = same && byte == value;
	}
	return same;
}

static inline uint64_t config_read(const struct fixture *fx, uint32_t offset, uint32_t len)
{
	uint64_t value = 0;

	fx->dev->ops->config_read(fx->dev, offset, &value, len);
	return le64toh(value);
}

/* ---- variants ---- */

static const struct variant sync_engine = {BLOCK_ENGINE_SYNC, 0, false};
static const struct variant async_engine = {BLOCK_ENGINE_ASYNC, 0, false};
static const struct variant linux_5_19 = {BLOCK_ENGINE_ASYNC,
					  IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
					  false};
static const struct variant linux_5_10 = {BLOCK_ENGINE_ASYNC, ~IORING_SETUP_R_DISABLED, false};
static const struct variant no_ring = {BLOCK_ENGINE_ASYNC, 0, true};

#define WITH(test, prepare_fn, variant)                              \
	{                                                            \
#test " (" #variant ")", test, prepare_fn, teardown, \
			(void *)(uintptr_t) & (variant)              \
	}
#define BOTH(test) WITH(test, setup, sync_engine), WITH(test, setup, async_engine)
#define BOTH_UNSTARTED(test) \
	WITH(test, setup_unstarted, sync_engine), WITH(test, setup_unstarted, async_engine)
#define ALL(test)                                                                 \
	BOTH(test), WITH(test, setup, linux_5_19), WITH(test, setup, linux_5_10), \
		WITH(test, setup, no_ring)

#endif
