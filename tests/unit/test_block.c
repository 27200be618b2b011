// SPDX-License-Identifier: Apache-2.0
/* The block device: what the driver is told, and its requests, good and bad. */
#include "tests/unit/block_fixture.h"

/* ---- what the driver is told ---- */

static void test_config_space(void **state)
{
	struct fixture *fx = *state;

	assert_int_equal(config_read(fx, 0, 8), DISK_SECTORS);
	assert_int_equal(config_read(fx, 0, 4), DISK_SECTORS);
	assert_int_equal(config_read(fx, 4, 4), 0);
	assert_int_equal(config_read(fx, 8, 4), 256 << 10); /* size_max */
	assert_int_equal(config_read(fx, 12, 4), 254);      /* seg_max */
	assert_int_equal(config_read(fx, 20, 4), 512);      /* blk_size */
	assert_int_equal(config_read(fx, 34, 2), 1);        /* num_queues */
	assert_int_equal(config_read(fx, 36, 4), BLOCK_DISCARD_SECTORS);
	assert_int_equal(config_read(fx, 40, 4), 1);
	assert_int_equal(config_read(fx, 48, 4), BLOCK_ZEROES_SECTORS);
	assert_int_equal(config_read(fx, 52, 4), 1);
	assert_int_equal(config_read(fx, 56, 1), 1);
	assert_int_equal(config_read(fx, fx->dev->ops->config_bytes - 1, 1), 0);
	assert_null(fx->dev->ops->config_write);
}

#define F_RO     (UINT64_C(1) << 5)
#define F_FLUSH  (UINT64_C(1) << 9)
#define F_RANGES (UINT64_C(1) << 13 | UINT64_C(1) << 14)
#define F_ALWAYS                                                                       \
	(UINT64_C(1) << 1 | UINT64_C(1) << 2 | UINT64_C(1) << 6 | VIRTIO_F_VERSION_1 | \
	 VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC)

static void test_features(void **state)
{
	struct fixture *fx = *state;
	const struct {
		bool read_only;
		enum block_cache cache;
		uint64_t features;
	} rows[] = {
		{false, BLOCK_CACHE_UNSAFE, F_ALWAYS | F_RANGES},
		{false, BLOCK_CACHE_WRITEBACK, F_ALWAYS | F_RANGES | F_FLUSH},
		{true, BLOCK_CACHE_UNSAFE, F_ALWAYS | F_RO},
		{true, BLOCK_CACHE_WRITEBACK, F_ALWAYS | F_RO | F_FLUSH},
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		fx->config.is_read_only = rows[i].read_only;
		fx->config.cache_type = rows[i].cache;
		must_new(fx);
		assert_int_equal(fx->dev->features_offered, rows[i].features);
		assert_int_equal(config_read(fx, 36, 4),
				 rows[i].read_only ? 0 : BLOCK_DISCARD_SECTORS);
		assert_int_equal(config_read(fx, 32, 1), rows[i].cache == BLOCK_CACHE_WRITEBACK);
		virtio_device_free(fx->dev);
		fx->dev = NULL;
	}
}

/* ---- files ---- */

static void expect_capacity(struct fixture *fx, off_t bytes, uint64_t sectors)
{
	assert_int_equal(ftruncate(fx->fd, bytes), 0);
	must_new(fx);
	assert_int_equal(config_read(fx, 0, 8), sectors);
	virtio_device_free(fx->dev);
	fx->dev = NULL;
}

static void test_sizes(void **state)
{
	struct fixture *fx = *state;

	expect_capacity(fx, 0, 0);
	expect_capacity(fx, 1, 0);
	expect_capacity(fx, 511, 0);
	expect_capacity(fx, 512, 1);
	expect_capacity(fx, 1000, 1);
	expect_capacity(fx, (off_t)1 << 40, UINT64_C(1) << 31);
}

static void expect_refused(struct fixture *fx, const char *why)
{
	struct error err = {0};

	assert_null(block_new(&fx->config, &err));
	assert_true(err.code < 0);
	if (!strstr(err.text, why))
		fail_msg("\"%s\" does not say \"%s\"", err.text, why);
}

static void test_bad_files(void **state)
{
	struct fixture *fx = *state;
	char path[80], socket[] = "/tmp/sock";

	fx->config.path_on_host = path;
	strcpy(path, "/nonexistent/disk");
	expect_refused(fx, "Error manipulating the backing file: No such file or directory (os "
			   "error 2) /nonexistent/disk");
	strcpy(path, "/tmp");
	expect_refused(fx, "Is a directory (os error 21)");
	fx->config.is_read_only = true;
	expect_refused(fx, "Is a directory (os error 21)");
	strcpy(path, "/dev/null");
	expect_refused(fx, "os error 22");
	snprintf(path, sizeof(path), "%s.fifo", fx->path);
	assert_int_equal(mkfifo(path, 0600), 0);
	expect_refused(fx, "os error 22"); /* and does not wait for a writer */
	unlink(path);
	fx->config.path_on_host = NULL;
	expect_refused(fx, "Invalid block config.");
	fx->config.path_on_host = fx->path;
	fx->config.socket = socket;
	expect_refused(fx, "Invalid block config.");
}

static void test_flushes_on_release(void **state)
{
	struct fixture *fx = *state;

	must_new(fx);
	virtio_device_free(fx->dev);
	assert_int_equal(libc.syncs, 0);
	fx->config.cache_type = BLOCK_CACHE_WRITEBACK;
	must_new(fx);
	virtio_device_free(fx->dev);
	fx->dev = NULL;
	assert_int_equal(libc.syncs, 1);
}

/* ---- requests that succeed ---- */

static void test_write_then_read(void **state)
{
	struct fixture *fx = *state;
	const uint32_t len = 8192;
	uint64_t out = fake_ram_alloc(&fx->ram, len, 1);
	uint64_t in = fake_ram_alloc(&fx->ram, len, 1);
	uint32_t used_len;

	fill_pattern(fake_ram_host(&fx->ram, out), len, 1);
	assert_int_equal(request(fx, T_OUT, 3, (struct fake_buf[]){{out, len, false}}, 1,
				 &used_len),
			 BLOCK_S_OK);
	assert_int_equal(used_len, 1);
	expect_file(fx, 3 * 512, fake_ram_host(&fx->ram, out), len);
	assert_int_equal(request(fx, T_IN, 3, (struct fake_buf[]){{in, len, true}}, 1, &used_len),
			 BLOCK_S_OK);
	assert_int_equal(used_len, len + 1);
	assert_memory_equal(fake_ram_host(&fx->ram, in), fake_ram_host(&fx->ram, out), len);
	/* The last sector is there, the next is not. */
	assert_int_equal(request_one(fx, T_IN, DISK_SECTORS - 1, in, 512, true), BLOCK_S_OK);
	assert_int_equal(request_one(fx, T_IN, DISK_SECTORS - 1, in, 1024, true), BLOCK_S_IOERR);
	assert_int_equal(request_one(fx, T_IN, DISK_SECTORS, in, 512, true), BLOCK_S_IOERR);
	assert_true(fake_device_take_irqs(fx->dev) > 0);
}

/* Many segments, of all sizes, more than a request's slot holds inline. */
static void test_many_segments(void **state)
{
	struct fixture *fx = *state;
	struct fake_buf bufs[BLOCK_SEG_MAX];
	uint32_t total = 0;

	for (unsigned i = 0; i < BLOCK_SEG_MAX; i++) {
		uint32_t len = i % 2 ? 512 + i : 512 - (i + 1); /* a pair makes 1024 */

		bufs[i] = (struct fake_buf){fake_ram_alloc(&fx->ram, len, 1), len, false};
		fill_pattern(fake_ram_host(&fx->ram, bufs[i].address), len, i);
		total += len;
	}
	assert_int_equal(total % 512, 0);
	assert_int_equal(request(fx, T_OUT, 0, bufs, BLOCK_SEG_MAX, NULL), BLOCK_S_OK);
	off_t at = 0;

	for (unsigned i = 0; i < BLOCK_SEG_MAX; i++) {
		expect_file(fx, at, fake_ram_host(&fx->ram, bufs[i].address), bufs[i].len);
		at += bufs[i].len;
		memset(fake_ram_host(&fx->ram, bufs[i].address), 0, bufs[i].len);
		bufs[i].writable = true;
	}
	assert_int_equal(request(fx, T_IN, 0, bufs, BLOCK_SEG_MAX, NULL), BLOCK_S_OK);
	at = 0;
	for (unsigned i = 0; i < BLOCK_SEG_MAX; i++) {
		expect_file(fx, at, fake_ram_host(&fx->ram, bufs[i].address), bufs[i].len);
		at += bufs[i].len;
	}
}

/* Cuts [address, address + len) into pieces of `piece` bytes. */
static unsigned cut(struct fake_buf *bufs, uint64_t address, uint32_t len, uint32_t piece,
		    bool writable)
{
	unsigned count = 0;

	for (uint32_t at = 0; at < len; at += piece) {
		uint32_t part = len - at < piece ? len - at : piece;

		bufs[count++] = (struct fake_buf){address + at, part, writable};
	}
	return count;
}

/* 2.7.4.3: header, data and status in one readable and one writable stretch, cut anywhere. */
static void test_any_framing(void **state)
{
	struct fixture *fx = *state;
	static const uint32_t pieces[] = {3, 5, 15, 16, 17, 31, 512, 513, 527, 528, 4096};
	uint64_t out = fake_ram_alloc(&fx->ram, 16 + 512, 1);
	uint64_t in = fake_ram_alloc(&fx->ram, 512 + 1, 1);
	struct fake_buf bufs[256];

	for (unsigned i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		uint8_t *bytes = fake_ram_host(&fx->ram, out);

		memset(bytes, 0, 16);
		put_le32(bytes, T_OUT);
		put_le64(bytes + 8, i);
		fill_pattern(bytes + 16, 512, i);
		uint64_t status = put_status(fx);
		unsigned count = cut(bufs, out, 528, pieces[i], false);

		bufs[count++] = (struct fake_buf){status, 1, true};
		fake_queue_add_indirect(&fx->queue, bufs, count);
		assert_int_equal(serve(fx).len, 1);
		assert_int_equal(status_at(fx, status), BLOCK_S_OK);
		expect_file(fx, (off_t)i * 512, bytes + 16, 512);

		/* The status is the byte behind the data, in the same buffer or not. */
		memset(fake_ram_host(&fx->ram, in), UNTOUCHED, 513);
		count = cut(bufs, put_header(fx, T_IN, i), 16, pieces[i], false);
		count += cut(bufs + count, in, 513, pieces[i], true);
		fake_queue_add_indirect(&fx->queue, bufs, count);
		assert_int_equal(serve(fx).len, 513);
		assert_int_equal(status_at(fx, in + 512), BLOCK_S_OK);
		assert_memory_equal(fake_ram_host(&fx->ram, in), bytes + 16, 512);
	}
}

static void test_get_id(void **state)
{
	struct fixture *fx = *state;
	uint64_t id = fake_ram_alloc(&fx->ram, 64, 1);
	char expected[64] = {0};
	struct stat st;
	uint32_t used_len;

	assert_int_equal(fstat(fx->fd, &st), 0);
	snprintf(expected, sizeof(expected), "%lu%lu%lu", (unsigned long)st.st_dev,
		 (unsigned long)st.st_rdev, (unsigned long)st.st_ino);
	memset(expected + 20, 0, sizeof(expected) - 20);
	assert_int_equal(request(fx, T_GET_ID, 0, (struct fake_buf[]){{id, 20, true}}, 1,
				 &used_len),
			 BLOCK_S_OK);
	assert_int_equal(used_len, 21);
	assert_memory_equal(fake_ram_host(&fx->ram, id), expected, 20);
	/* A longer buffer keeps its rest; a shorter one gets the beginning. */
	memset(fake_ram_host(&fx->ram, id), UNTOUCHED, 64);
	assert_int_equal(request(fx, T_GET_ID, 0, (struct fake_buf[]){{id, 64, true}}, 1,
				 &used_len),
			 BLOCK_S_OK);
	assert_int_equal(used_len, 20);
	assert_memory_equal(fake_ram_host(&fx->ram, id), expected, 20);
	assert_int_equal(status_at(fx, id + 20), UNTOUCHED);
	memset(fake_ram_host(&fx->ram, id), UNTOUCHED, 64);
	assert_int_equal(request_one(fx, T_GET_ID, 0, id, 4, true), BLOCK_S_OK);
	assert_memory_equal(fake_ram_host(&fx->ram, id), expected, 4);
	assert_int_equal(status_at(fx, id + 4), UNTOUCHED);
	assert_int_equal(request(fx, T_GET_ID, 0, NULL, 0, NULL), BLOCK_S_IOERR);
}

static void test_flush(void **state)
{
	struct fixture *fx = *state;

	start(fx);
	assert_int_equal(request(fx, T_FLUSH, 0, NULL, 0, NULL), BLOCK_S_UNSUPP);
	virtio_device_free(fx->dev);
	fx->config.cache_type = BLOCK_CACHE_WRITEBACK;
	start(fx);
	assert_int_equal(request(fx, T_FLUSH, 0, NULL, 0, NULL), BLOCK_S_OK);
	if (fx->config.io_engine == BLOCK_ENGINE_SYNC)
		assert_int_equal(libc.datasyncs, 1);
}

static void test_discard_and_zeroes(void **state)
{
	struct fixture *fx = *state;
	uint8_t data[64 * 512];

	memset(data, 0x5a, sizeof(data));
	assert_int_equal(pwrite(fx->fd, data, sizeof(data), 0), (ssize_t)sizeof(data));
	assert_int_equal(request_range(fx, T_DISCARD, 8, 8, 0), BLOCK_S_OK);
	assert_true(file_is(fx, 8 * 512, 8 * 512, 0));
	assert_int_equal(request_range(fx, T_ZEROES, 17, 1, 0), BLOCK_S_OK);
	assert_int_equal(request_range(fx, T_ZEROES, 19, 14, 1), BLOCK_S_OK);
	assert_true(file_is(fx, 17 * 512, 512, 0));
	assert_true(file_is(fx, 18 * 512, 512, 0x5a));
	assert_true(file_is(fx, 19 * 512, 14 * 512, 0));
	assert_true(file_is(fx, 33 * 512, 512, 0x5a));
	/* The end of the disk stays where it is. */
	assert_int_equal(request_range(fx, T_ZEROES, DISK_SECTORS - 1, 1, 0), BLOCK_S_OK);
	assert_int_equal(lseek(fx->fd, 0, SEEK_END), DISK_SECTORS * 512);
}

static void test_bad_ranges(void **state)
{
	struct fixture *fx = *state;
	uint64_t two = fake_ram_alloc(&fx->ram, 32, 1);
	const uint32_t types[] = {T_DISCARD, T_ZEROES};

	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(request_range(fx, types[i], 0, 0, 0), BLOCK_S_IOERR);
		assert_int_equal(request_range(fx, types[i], DISK_SECTORS, 1, 0), BLOCK_S_IOERR);
		assert_int_equal(request_range(fx, types[i], UINT64_MAX, 1, 0), BLOCK_S_IOERR);
		assert_int_equal(request_range(fx, types[i], 1, UINT32_MAX, 0), BLOCK_S_IOERR);
		assert_int_equal(request_range(fx, types[i], 1, 1, 2), BLOCK_S_UNSUPP);
		assert_int_equal(request_range(fx, types[i], 1, 1, 0x80000000), BLOCK_S_UNSUPP);
		assert_int_equal(request(fx, types[i], 0, NULL, 0, NULL), BLOCK_S_IOERR);
		assert_int_equal(request_one(fx, types[i], 0, two, 32, false), BLOCK_S_IOERR);
		assert_int_equal(request_one(fx, types[i], 0, two, 15, false), BLOCK_S_IOERR);
	}
	assert_int_equal(request_range(fx, T_DISCARD, 1, 1, 1), BLOCK_S_UNSUPP);
}

static void test_read_only(void **state)
{
	struct fixture *fx = *state;
	uint64_t data = fake_ram_alloc(&fx->ram, 512, 1);

	fx->config.is_read_only = true;
	start(fx);
	memset(fake_ram_host(&fx->ram, data), 0x77, 512);
	assert_int_equal(request_one(fx, T_OUT, 0, data, 512, false), BLOCK_S_IOERR);
	assert_int_equal(request_range(fx, T_DISCARD, 0, 8, 0), BLOCK_S_UNSUPP);
	assert_int_equal(request_range(fx, T_ZEROES, 0, 8, 0), BLOCK_S_UNSUPP);
	assert_int_equal(request_one(fx, T_IN, 0, data, 512, true), BLOCK_S_OK);
	assert_true(file_is(fx, 0, 512, 0));
}

/* ---- requests that make no sense ---- */

static void test_bad_transfers(void **state)
{
	struct fixture *fx = *state;
	uint64_t data = fake_ram_alloc(&fx->ram, MIB(1), 1);
	const uint32_t types[] = {T_IN, T_OUT};
	struct fake_buf huge[250];
	uint32_t used_len;

	for (unsigned i = 0; i < 2; i++) {
		bool writable = types[i] == T_IN;

		assert_int_equal(request_one(fx, types[i], 0, data, 511, writable), BLOCK_S_IOERR);
		assert_int_equal(request_one(fx, types[i], 0, data, 513, writable), BLOCK_S_IOERR);
		assert_int_equal(request(fx, types[i], 0, NULL, 0, &used_len), BLOCK_S_IOERR);
		assert_int_equal(used_len, 1);
		assert_int_equal(request_one(fx, types[i], UINT64_MAX, data, 512, writable),
				 BLOCK_S_IOERR);
		assert_int_equal(request_one(fx, types[i], UINT64_MAX / 512, data, 512, writable),
				 BLOCK_S_IOERR);
		assert_int_equal(request_one(fx, types[i], UINT64_MAX / 512 + 1, data, 512,
					     writable),
				 BLOCK_S_IOERR);
		assert_int_equal(request_one(fx, types[i], DISK_SECTORS - 1, data, 1024, writable),
				 BLOCK_S_IOERR);
		/* The data in the wrong direction is no data. */
		assert_int_equal(request_one(fx, types[i], 0, data, 512, !writable), BLOCK_S_IOERR);
		for (unsigned j = 0; j < 250; j++)
			huge[j] = (struct fake_buf){data, MIB(1), writable};
		assert_int_equal(request(fx, types[i], 0, huge, 250, NULL), BLOCK_S_IOERR);
	}
	assert_int_equal(request(fx, 2, 0, NULL, 0, NULL), BLOCK_S_UNSUPP);
	assert_int_equal(request(fx, UINT32_MAX, 0, NULL, 0, NULL), BLOCK_S_UNSUPP);
	assert_true(file_is(fx, 0, 4096, 0));
	assert_false(fx->dev->needs_reset);
}

/* The whole disk in one request, by buffers that lie over one another: legal, and bounded. */
static void test_large_request(void **state)
{
	struct fixture *fx = *state;
	uint64_t data = fake_ram_alloc(&fx->ram, BLOCK_SIZE_MAX, 1);
	struct fake_buf bufs[BLOCK_SEG_MAX];

	assert_int_equal(ftruncate(fx->fd, BLOCK_DATA_MAX_BYTES), 0);
	start(fx);
	for (unsigned i = 0; i < BLOCK_SEG_MAX; i++)
		bufs[i] = (struct fake_buf){data, BLOCK_SIZE_MAX, true};
	assert_int_equal(request(fx, T_IN, 0, bufs, BLOCK_SEG_MAX, NULL), BLOCK_S_OK);
	bufs[0].len += 512;
	assert_int_equal(request(fx, T_IN, 0, bufs, BLOCK_SEG_MAX, NULL), BLOCK_S_IOERR);
}

static void test_no_room_for_status(void **state)
{
	struct fixture *fx = *state;
	uint64_t data = fake_ram_alloc(&fx->ram, 512, 1);
	uint64_t header = put_header(fx, T_OUT, 0);

	/* Nothing writable: header alone, header and data, a "status" that only we may read. */
	fake_queue_add(&fx->queue, (struct fake_buf[]){{header, 16, false}}, 1);
	assert_int_equal(serve(fx).len, 0);
	fake_queue_add(&fx->queue, (struct fake_buf[]){{header, 16, false}, {data, 512, false}}, 2);
	assert_int_equal(serve(fx).len, 0);
	fake_queue_add(
		&fx->queue,
		(struct fake_buf[]){{header, 16, false}, {data, 512, false}, {data, 1, false}}, 3);
	assert_int_equal(serve(fx).len, 0);
	assert_true(file_is(fx, 0, 512, 0));
	assert_false(fx->dev->needs_reset);
}

static void test_short_header(void **state)
{
	struct fixture *fx = *state;
	uint64_t header = put_header(fx, T_IN, 0);
	uint64_t status = put_status(fx);
	uint64_t data = fake_ram_alloc(&fx->ram, 512, 1);

	fake_queue_add(&fx->queue, (struct fake_buf[]){{header, 15, false}, {status, 1, true}}, 2);
	assert_int_equal(serve(fx).len, 1);
	assert_int_equal(status_at(fx, status), BLOCK_S_IOERR);
	/* No header at all. */
	memset(fake_ram_host(&fx->ram, data), UNTOUCHED, 512);
	fake_queue_add(&fx->queue, (struct fake_buf[]){{data, 512, true}}, 1);
	assert_int_equal(serve(fx).len, 0);
	assert_int_equal(status_at(fx, data), UNTOUCHED);
	assert_int_equal(status_at(fx, data + 511), BLOCK_S_IOERR);
}

/* What the queue walker refuses ends at the device, and a reset cures it. */
static void test_broken_queue(void **state)
{
	struct fixture *fx = *state;
	uint64_t data = fake_ram_alloc(&fx->ram, 512, 1);
	struct fake_used used;

	fake_queue_set_desc(&fx->queue, 0, 0, 16, FAKE_DESC_NEXT, 1); /* address 0 is no RAM */
	fake_queue_offer(&fx->queue, 0);
	fake_device_notify(fx->dev, 0);
	assert_true(fx->dev->needs_reset);
	fake_device_notify(fx->dev, 0);
	assert_false(fake_queue_take_used(&fx->queue, &used));
	virtio_device_reset(fx->dev);
	fake_device_activate(fx->dev, &fx->ram, ALL_FEATURES, &fx->queue, 1);
	assert_int_equal(request_one(fx, T_IN, 0, data, 512, true), BLOCK_S_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH(test_config_space, setup, sync_engine),
		WITH(test_features, setup_unstarted, sync_engine),
		WITH(test_sizes, setup_unstarted, sync_engine),
		WITH(test_bad_files, setup_unstarted, sync_engine),
		WITH(test_flushes_on_release, setup_unstarted, sync_engine),
		ALL(test_write_then_read),
		ALL(test_many_segments),
		BOTH(test_any_framing),
		BOTH(test_get_id),
		BOTH_UNSTARTED(test_flush),
		ALL(test_discard_and_zeroes),
		BOTH(test_bad_ranges),
		BOTH_UNSTARTED(test_read_only),
		BOTH(test_bad_transfers),
		BOTH_UNSTARTED(test_large_request),
		BOTH(test_no_room_for_status),
		BOTH(test_short_header),
		BOTH(test_broken_queue),
	};

	return RUN_TESTS(tests);
}
