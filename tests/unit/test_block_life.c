// SPDX-License-Identifier: Apache-2.0
/* The block device when the host fails it, under load, and through pause, reset and changes from the API. */
#include "tests/unit/block_fixture.h"

#include <signal.h>
#include <sys/resource.h>

/* ---- the host fails ---- */

static void test_truncated_file(void **state)
{
	struct fixture *fx = *state;
	uint64_t data = fake_ram_alloc(&fx->ram, 4096, 1);
	uint32_t used_len;

	assert_int_equal(ftruncate(fx->fd, 10 * 512), 0);
	assert_int_equal(request_one(fx, T_IN, 0, data, 4096, true), BLOCK_S_OK);
	assert_int_equal(request(fx, T_IN, 8, (struct fake_buf[]){{data, 4096, true}}, 1,
				 &used_len),
			 BLOCK_S_IOERR);
	assert_int_equal(used_len, 0);
	assert_int_equal(request_one(fx, T_IN, 100, data, 512, true), BLOCK_S_IOERR);
	/* Several buffers, of which the end of the file falls into one. */
	assert_int_equal(request(fx, T_IN, 8,
				 (struct fake_buf[]){{data, 512, true},
						     {data + 512, 1024, true},
						     {data + 1536, 512, true}},
				 3, NULL),
			 BLOCK_S_IOERR);
}

static void test_file_size_limit(void **state)
{
	struct fixture *fx = *state;
	uint64_t data = fake_ram_alloc(&fx->ram, 4096, 1);
	struct rlimit old, limit;

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit = (struct rlimit){.rlim_cur = 10 * 512, .rlim_max = old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	memset(fake_ram_host(&fx->ram, data), 0x11, 4096);
	uint8_t inside = request_one(fx, T_OUT, 0, data, 4096, false);
	uint8_t across = request_one(fx, T_OUT, 8, data, 4096, false);
	uint8_t beyond = request_one(fx, T_OUT, 100, data, 512, false);

	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(inside, BLOCK_S_OK);
	assert_int_equal(across, BLOCK_S_IOERR);
	assert_int_equal(beyond, BLOCK_S_IOERR);
}

static void test_failing_transfers(void **state)
{
	struct fixture *fx = *state;
	uint64_t data = fake_ram_alloc(&fx->ram, 4096, 1);
	const int errors[] = {ENOSPC, EIO, EDQUOT, EAGAIN};

	for (unsigned i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		libc.error = errors[i];
		assert_int_equal(request_one(fx, T_OUT, 0, data, 4096, false), BLOCK_S_IOERR);
		assert_int_equal(request_one(fx, T_IN, 0, data, 4096, true), BLOCK_S_IOERR);
	}
	assert_false(fx->dev->needs_reset);
	libc.error = 0;
	assert_int_equal(request_one(fx, T_IN, 0, data, 4096, true), BLOCK_S_OK);
}

static void test_short_transfers(void **state)
{
	struct fixture *fx = *state;
	uint64_t data = fake_ram_alloc(&fx->ram, 4096, 1);
	struct fake_buf bufs[] = {{data, 1000, false},
				  {data + 1000, 24, false},
				  {data + 1024, 3072, false}};
	uint8_t expected[4096];

	fill_pattern(expected, sizeof(expected), 9);
	memcpy(fake_ram_host(&fx->ram, data), expected, 4096);
	libc.at_most = 700;
	libc.eintrs = 3;
	assert_int_equal(request(fx, T_OUT, 1, bufs, 3, NULL), BLOCK_S_OK);
	expect_file(fx, 512, expected, 4096);
	memset(fake_ram_host(&fx->ram, data), 0, 4096);
	for (unsigned i = 0; i < 3; i++)
		bufs[i].writable = true;
	libc.eintrs = 3;
	assert_int_equal(request(fx, T_IN, 1, bufs, 3, NULL), BLOCK_S_OK);
	assert_memory_equal(fake_ram_host(&fx->ram, data), expected, 4096);
}

/* Without a descriptor to spare the kernel makes no ring. */
static void test_falls_back_without_ring(void **state)
{
	struct fixture *fx = *state;
	uint64_t data = fake_ram_alloc(&fx->ram, 4096, 1);
	struct rlimit old, limit;
	int next = dup(0);

	assert_true(next >= 0);
	close(next);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	limit = (struct rlimit){.rlim_cur = (rlim_t)next, .rlim_max = old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	libc.error = ENOSPC; /* which the ring would not meet */
	uint8_t failed = request_one(fx, T_OUT, 0, data, 4096, false);

	libc.error = 0;
	uint8_t read = request_one(fx, T_IN, 0, data, 4096, true);

	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(failed, BLOCK_S_IOERR);
	assert_int_equal(read, BLOCK_S_OK);
}

/* ---- many at once ---- */

enum { BATCH = 64 };

struct batch {
	uint64_t data[BATCH], status[BATCH];
};

/* 64 requests of 4 KiB and four descriptors each: a full queue. */
static void offer_batch(struct fixture *fx, struct batch *batch, uint32_t type)
{
	bool writable = type == T_IN;

	for (unsigned i = 0; i < BATCH; i++) {
		batch->status[i] = put_status(fx);
		fake_queue_add(&fx->queue,
			       (struct fake_buf[]){{put_header(fx, type, i * 8), 16, false},
						   {batch->data[i], 1024, writable},
						   {batch->data[i] + 1024, 3072, writable},
						   {batch->status[i], 1, true}},
			       4);
	}
}

static void finish_batch(struct fixture *fx, const struct batch *batch)
{
	bool seen[BATCH] = {false};

	for (unsigned i = 0; i < BATCH; i++) {
		unsigned index = wait_used(fx).head / 4;

		assert_true(index < BATCH && !seen[index]);
		seen[index] = true;
	}
	for (unsigned i = 0; i < BATCH; i++)
		assert_int_equal(status_at(fx, batch->status[i]), BLOCK_S_OK);
}

static void test_full_queue(void **state)
{
	struct fixture *fx = *state;
	struct batch batch;
	uint8_t expected[4096];

	for (unsigned i = 0; i < BATCH; i++) {
		batch.data[i] = fake_ram_alloc(&fx->ram, 4096, 1);
		fill_pattern(fake_ram_host(&fx->ram, batch.data[i]), 4096, i);
	}
	offer_batch(fx, &batch, T_OUT);
	fake_device_kick(fx->dev, 0);
	finish_batch(fx, &batch);
	for (unsigned i = 0; i < BATCH; i++)
		memset(fake_ram_host(&fx->ram, batch.data[i]), 0, 4096);
	offer_batch(fx, &batch, T_IN);
	fake_device_kick(fx->dev, 0);
	finish_batch(fx, &batch);
	for (unsigned i = 0; i < BATCH; i++) {
		fill_pattern(expected, 4096, i);
		assert_memory_equal(fake_ram_host(&fx->ram, batch.data[i]), expected, 4096);
		expect_file(fx, (off_t)i * 4096, expected, 4096);
	}
	assert_int_equal(fake_queue_avail_event(&fx->queue), fx->queue.avail_idx);
}

/* With event indices the driver is not interrupted before it wants to be. */
static void test_interrupt_suppression(void **state)
{
	struct fixture *fx = *state;
	uint64_t data = fake_ram_alloc(&fx->ram, 512, 1);

	assert_int_equal(request_one(fx, T_IN, 0, data, 512, true), BLOCK_S_OK);
	fake_loop_poll(fx->loop);
	(void)fake_device_take_irqs(fx->dev);
	fake_queue_set_used_event(&fx->queue, 3);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(request_one(fx, T_IN, 0, data, 512, true), BLOCK_S_OK);
	fake_loop_poll(fx->loop);
	assert_int_equal(fake_device_take_irqs(fx->dev), 0);
	assert_int_equal(request_one(fx, T_IN, 0, data, 512, true), BLOCK_S_OK);
	fake_loop_poll(fx->loop);
	assert_int_equal(fake_device_take_irqs(fx->dev), 1);
}

static void test_without_event_idx(void **state)
{
	struct fixture *fx = *state;
	uint64_t data = fake_ram_alloc(&fx->ram, 512, 1);

	must_new(fx);
	fake_device_start(fx->dev, &fx->ram, fx->loop, 0, &fx->queue, 1);
	assert_int_equal(request_one(fx, T_IN, 0, data, 512, true), BLOCK_S_OK);
	fake_loop_poll(fx->loop);
	assert_int_equal(fake_device_take_irqs(fx->dev), 1);
	fake_queue_set_avail_flags(&fx->queue, 1);
	assert_int_equal(request_one(fx, T_IN, 0, data, 512, true), BLOCK_S_OK);
	fake_loop_poll(fx->loop);
	assert_int_equal(fake_device_take_irqs(fx->dev), 0);
}

/* ---- life of a device ---- */

static void test_pause_completes_what_is_in_flight(void **state)
{
	struct fixture *fx = *state;
	struct fake_used used;
	struct batch batch;

	for (unsigned i = 0; i < BATCH; i++)
		batch.data[i] = fake_ram_alloc(&fx->ram, 4096, 1);
	offer_batch(fx, &batch, T_IN);
	fake_device_notify(fx->dev, 0);
	virtio_device_pause(fx->dev);
	finish_batch(fx, &batch); /* does not have to wait */
	offer_batch(fx, &batch, T_IN);
	fake_device_kick(fx->dev, 0);
	fake_loop_poll(fx->loop);
	assert_false(fake_queue_take_used(&fx->queue, &used));
	virtio_device_resume(fx->dev);
	finish_batch(fx, &batch);
}

static void test_reset_in_flight(void **state)
{
	struct fixture *fx = *state;
	uint64_t next = fx->ram.next;
	struct batch batch;

	for (unsigned round = 0; round < 20; round++) {
		fx->ram.next = next;
		for (unsigned i = 0; i < BATCH; i++)
			batch.data[i] = fake_ram_alloc(&fx->ram, 4096, 1);
		offer_batch(fx, &batch, round % 2 ? T_IN : T_OUT);
		fake_device_notify(fx->dev, 0);
		virtio_device_reset(fx->dev);
		/* From here on the device must leave RAM alone. */
		memset(fake_ram_host(&fx->ram, FAKE_RAM_BASE), 0, MIB(1));
		fake_loop_poll(fx->loop);
		for (uint64_t i = 0; i < MIB(1); i++)
			assert_int_equal(*(uint8_t *)fake_ram_host(&fx->ram, FAKE_RAM_BASE + i), 0);
		fake_device_activate(fx->dev, &fx->ram, ALL_FEATURES, &fx->queue, 1);
	}
	assert_int_equal(request_one(fx, T_IN, 0, batch.data[0], 512, true), BLOCK_S_OK);
}

/* A driver that said DRIVER_OK without a queue: there is nothing that a pause and its end could serve. */
static void test_without_queue(void **state)
{
	struct fixture *fx = *state;
	uint64_t data = fake_ram_alloc(&fx->ram, 512, 1);

	virtio_device_reset(fx->dev);
	assert_int_equal(virtio_device_activate(fx->dev), -EINVAL);
	assert_true(fx->dev->needs_reset);
	virtio_device_pause(fx->dev);
	virtio_device_resume(fx->dev);
	virtio_device_reset(fx->dev);
	fake_device_activate(fx->dev, &fx->ram, ALL_FEATURES, &fx->queue, 1);
	assert_int_equal(request_one(fx, T_IN, 0, data, 512, true), BLOCK_S_OK);
}

static void test_update_path(void **state)
{
	struct fixture *fx = *state;
	uint64_t data = fake_ram_alloc(&fx->ram, 512, 1);
	char other[64];
	int other_fd;
	struct error err = {0};
	uint32_t generation;

	assert_int_equal(request_one(fx, T_IN, DISK_SECTORS - 1, data, 512, true), BLOCK_S_OK);
	fake_loop_poll(fx->loop);
	(void)fake_device_take_irqs(fx->dev);
	generation = fx->dev->config_generation;

	assert_true(block_update_path(fx->dev, "/nonexistent", &err) < 0);
	assert_non_null(strstr(err.text, "No such file or directory (os error 2) /nonexistent"));
	assert_int_equal(fx->dev->config_generation, generation);
	assert_int_equal(fake_device_take_irqs(fx->dev), 0);
	assert_int_equal(request_one(fx, T_IN, DISK_SECTORS - 1, data, 512, true), BLOCK_S_OK);

	make_file(other, &other_fd, 4 * 512 + 100);
	assert_int_equal(pwrite(other_fd, "other", 5, 512), 5);
	assert_int_equal(block_update_path(fx->dev, other, &err), 0);
	assert_int_equal(config_read(fx, 0, 8), 4);
	assert_int_not_equal(fx->dev->config_generation, generation);
	assert_true(fake_device_take_irqs(fx->dev) > 0);
	assert_int_equal(atomic_load(&fx->dev->interrupt_status) & 2, 2);
	assert_int_equal(request_one(fx, T_IN, 1, data, 512, true), BLOCK_S_OK);
	assert_memory_equal(fake_ram_host(&fx->ram, data), "other", 6);
	assert_int_equal(request_one(fx, T_IN, 4, data, 512, true), BLOCK_S_IOERR);
	close(other_fd);
	unlink(other);
}

/* Engines make drives of empty files and give them their content later, before or after the guest has started. */
static void test_update_of_placeholder(void **state)
{
	struct fixture *fx = *state;
	uint64_t data = fake_ram_alloc(&fx->ram, 512, 1);
	char other[64];
	int other_fd;
	struct error err = {0};

	assert_int_equal(ftruncate(fx->fd, 0), 0);
	must_new(fx);
	make_file(other, &other_fd, 512);
	assert_int_equal(block_update_path(fx->dev, other, &err), 0);
	assert_int_equal(config_read(fx, 0, 8), 1);
	assert_int_equal(block_update_path(fx->dev, fx->path, &err), 0);
	fake_device_start(fx->dev, &fx->ram, fx->loop, ALL_FEATURES, &fx->queue, 1);
	assert_int_equal(request_one(fx, T_IN, 0, data, 512, true), BLOCK_S_IOERR);
	assert_int_equal(block_update_path(fx->dev, other, &err), 0);
	assert_int_equal(request_one(fx, T_IN, 0, data, 512, true), BLOCK_S_OK);
	close(other_fd);
	unlink(other);
}

static void test_rate_limit(void **state)
{
	struct fixture *fx = *state;
	const struct rate_limiter_config none = {.has_ops = true};
	struct fake_used used;
	struct batch batch;
	unsigned done = 0;

	fx->config.rate_limiter =
		(struct rate_limiter_config){.has_ops = true,
					     .ops = {.size = 10, .refill_time_ms = 3600000}};
	start(fx);
	for (unsigned i = 0; i < BATCH; i++)
		batch.data[i] = fake_ram_alloc(&fx->ram, 4096, 1);
	offer_batch(fx, &batch, T_IN);
	fake_device_notify(fx->dev, 0);
	while (done < 10) {
		(void)wait_used(fx);
		done++;
	}
	fake_device_notify(fx->dev, 0);
	fake_loop_poll(fx->loop);
	assert_false(fake_queue_take_used(&fx->queue, &used));
	block_update_rate_limiter(fx->dev,
				  &none); /* the guest is served without a new notification */
	while (done < BATCH) {
		(void)wait_used(fx);
		done++;
	}
	for (unsigned i = 0; i < BATCH; i++)
		assert_int_equal(status_at(fx, batch.status[i]), BLOCK_S_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ALL(test_truncated_file),
		BOTH(test_file_size_limit),
		WITH(test_failing_transfers, setup, sync_engine),
		WITH(test_short_transfers, setup, sync_engine),
		WITH(test_falls_back_without_ring, setup, async_engine),
		ALL(test_full_queue),
		ALL(test_interrupt_suppression),
		BOTH_UNSTARTED(test_without_event_idx),
		ALL(test_pause_completes_what_is_in_flight),
		ALL(test_reset_in_flight),
		ALL(test_without_queue),
		ALL(test_update_path),
		BOTH_UNSTARTED(test_update_of_placeholder),
		BOTH_UNSTARTED(test_rate_limit),
	};

	return RUN_TESTS(tests);
}
