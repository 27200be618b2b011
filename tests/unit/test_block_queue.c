// SPDX-License-Identifier: Apache-2.0
/*
 * The block device over a backend that completes when the test says so: order, tags, batches, pause and reset with
 * requests in flight. The backend takes the asynchronous engine's place at link time.
 */
#include "virtio/block.h"

#include <errno.h>
#include <fcntl.h>
#include "tests/unit/fake_virtio.h"
#include "tests/unit/unit.h"
#include "virtio/block_backend.h"
#include "virtio/device.h"
#include "vmm/core/checked.h"

#define TAGS 256u

struct held {
	struct block_backend backend;
	unsigned count; /* requests held, oldest first */
	uint16_t tags[TAGS];
	enum block_op ops[TAGS];
	unsigned runs; /* calls of run() */
	unsigned drains;
	bool freed;
};

static struct held held; /* there is one device a test */

static void held_submit(struct block_backend *backend, struct block_io *io)
{
	assert_ptr_equal(backend, &held.backend);
	assert_true(held.count < TAGS);
	for (unsigned i = 0; i < held.count; i++)
		assert_int_not_equal(held.tags[i], io->tag);
	held.ops[held.count] = io->op;
	held.tags[held.count++] = io->tag;
}

static void held_run(struct block_backend *backend)
{
	(void)backend;
	held.runs++;
}

/* Completes the request at that place in the line. */
static void complete_at(unsigned index, int result)
{
	uint16_t tag = held.tags[index];

	held.count--;
	memmove(&held.tags[index], &held.tags[index + 1],
		(held.count - index) * sizeof(held.tags[0]));
	held.backend.client.complete(held.backend.client.ctx, tag, result);
}

static void held_drain(struct block_backend *backend)
{
	(void)backend;
	held.drains++;
	while (held.count > 0)
		complete_at(held.count - 1, 0);
}

static void held_change_file(struct block_backend *backend, int fd)
{
	assert_int_equal(held.count, 0);
	backend->fd = fd;
}

static void held_free(struct block_backend *backend)
{
	(void)backend;
	assert_int_equal(held.count, 0);
	held.freed = true;
}

struct block_backend *block_uring_new(int fd, const struct block_client *client, struct loop *loop,
				      unsigned tag_count)
{
	static const struct block_backend_ops ops = {
		.submit = held_submit,
		.run = held_run,
		.drain = held_drain,
		.change_file = held_change_file,
		.free = held_free,
	};

	assert_non_null(loop);
	assert_int_equal(tag_count, TAGS);
	held = (struct held){.backend = {.ops = &ops, .client = *client, .fd = fd}};
	return &held.backend;
}

static void wake(void)
{
	held.backend.client.wake(held.backend.client.ctx);
}

/* ---- */

struct fixture {
	char path[64];
	struct loop *loop;
	struct fake_ram ram;
	struct fake_queue queue;
	struct virtio_device *dev;
	uint64_t header, data, status;
};

static int setup(void **state)
{
	struct fixture *fx = calloc(1, sizeof(*fx));
	static char id[] = "disk";
	struct block_config config = {.drive_id = id, .io_engine = BLOCK_ENGINE_ASYNC};
	struct error err = {0};
	int fd;

	assert_non_null(fx);
	strcpy(fx->path, "/tmp/test_block_queue.XXXXXX");
	fd = mkostemp(fx->path, O_CLOEXEC);
	assert_true(fd >= 0 && ftruncate(fd, 1 << 20) == 0);
	close(fd);
	config.path_on_host = fx->path;
	fx->loop = loop_new();
	assert_non_null(fx->loop);
	fake_ram_init(&fx->ram, MIB(4));
	fx->dev = block_new(&config, &err);
	assert_non_null(fx->dev);
	fake_device_start(fx->dev, &fx->ram, fx->loop, UINT64_MAX, &fx->queue, 1);
	fx->header = fake_ram_alloc(&fx->ram, 16, 8);
	fx->data = fake_ram_alloc(&fx->ram, 4096, 8);
	fx->status = fake_ram_alloc(&fx->ram, 1, 1);
	*state = fx;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fx = *state;

	virtio_device_free(fx->dev);
	assert_true(held.freed);
	loop_free(fx->loop);
	fake_ram_free(&fx->ram);
	unlink(fx->path);
	free(fx);
	return 0;
}

/* A read of eight sectors; every request shares header, buffer and status byte. */
static uint16_t offer_read(struct fixture *fx)
{
	return fake_queue_add_indirect(&fx->queue,
				       (struct fake_buf[]){{fx->header, 16, false},
							   {fx->data, 4096, true},
							   {fx->status, 1, true}},
				       3);
}

static unsigned take_all_used(struct fixture *fx)
{
	struct fake_used used;
	unsigned count = 0;

	while (fake_queue_take_used(&fx->queue, &used))
		count++;
	return count;
}

static void test_completes_in_any_order(void **state)
{
	struct fixture *fx = *state;
	uint16_t heads[3];
	struct fake_used used;

	for (unsigned i = 0; i < 3; i++)
		heads[i] = offer_read(fx);
	fake_device_notify(fx->dev, 0);
	assert_int_equal(held.count, 3);
	complete_at(1, 0);
	complete_at(1, -EIO);
	complete_at(0, 0);
	assert_true(fake_queue_take_used(&fx->queue, &used));
	assert_int_equal(used.head, heads[1]);
	assert_int_equal(used.len, 4097);
	assert_true(fake_queue_take_used(&fx->queue, &used));
	assert_int_equal(used.head, heads[2]);
	assert_int_equal(used.len, 0); /* failed: nothing counts as written */
	assert_true(fake_queue_take_used(&fx->queue, &used));
	assert_int_equal(used.head, heads[0]);
}

static void test_one_batch_one_interrupt(void **state)
{
	struct fixture *fx = *state;

	for (unsigned i = 0; i < 32; i++)
		offer_read(fx);
	unsigned runs = held.runs;

	fake_device_notify(fx->dev, 0);
	assert_int_equal(held.count, 32);
	assert_true(held.runs - runs <= 2); /* handed over as one batch */
	assert_int_equal(fake_device_take_irqs(fx->dev), 0);
	for (unsigned i = 0; i < 32; i++)
		complete_at(0, 0);
	wake();
	assert_int_equal(fake_device_take_irqs(fx->dev), 1);
	assert_int_equal(take_all_used(fx), 32);
	wake(); /* for nothing */
	assert_int_equal(fake_device_take_irqs(fx->dev), 0);
}

/* A driver that breaks the rules can have more chains in flight than the queue has descriptors. */
static void test_more_than_there_are_tags(void **state)
{
	struct fixture *fx = *state;

	for (unsigned i = 0; i < TAGS; i++)
		offer_read(fx);
	fake_device_notify(fx->dev, 0);
	fake_loop_poll(fx->loop);
	assert_int_equal(held.count, TAGS);
	for (unsigned i = 0; i < 8; i++)
		offer_read(fx); /* the same descriptors again */
	fake_device_notify(fx->dev, 0);
	assert_int_equal(held.count, TAGS);
	assert_int_equal(take_all_used(fx), 0);
	for (unsigned i = 0; i < 5; i++)
		complete_at(0, 0);
	wake();
	fake_loop_poll(fx->loop); /* comes back by itself */
	assert_int_equal(take_all_used(fx), 5);
	assert_int_equal(held.count, TAGS);
	while (held.count > 0) {
		complete_at(held.count / 2, 0);
		wake();
		fake_loop_poll(fx->loop);
	}
	assert_int_equal(take_all_used(fx), TAGS + 3);
}

static void test_pause_drains(void **state)
{
	struct fixture *fx = *state;

	offer_read(fx);
	offer_read(fx);
	fake_device_notify(fx->dev, 0);
	assert_int_equal(held.count, 2);
	virtio_device_pause(fx->dev);
	assert_int_equal(held.drains, 1);
	assert_int_equal(take_all_used(fx), 2);
	assert_int_equal(fake_device_take_irqs(fx->dev), 1);
	offer_read(fx);
	fake_device_kick(fx->dev, 0);
	fake_loop_poll(fx->loop);
	wake();
	assert_int_equal(held.count, 0); /* nothing new while paused */
	virtio_device_resume(fx->dev);
	assert_int_equal(held.count, 1);
	complete_at(0, 0);
	assert_int_equal(take_all_used(fx), 1);
}

static void test_reset_drains(void **state)
{
	struct fixture *fx = *state;

	for (unsigned i = 0; i < TAGS; i++)
		offer_read(fx);
	fake_device_notify(fx->dev, 0);
	fake_loop_poll(fx->loop);
	assert_int_equal(held.count, TAGS);
	virtio_device_reset(fx->dev);
	assert_int_equal(held.count, 0);
	fake_device_activate(fx->dev, &fx->ram, UINT64_MAX, &fx->queue, 1);
	for (unsigned i = 0; i < TAGS; i++)
		offer_read(fx);
	fake_device_notify(fx->dev, 0);
	fake_loop_poll(fx->loop);
	assert_int_equal(held.count, TAGS); /* every tag came back */
	virtio_device_pause(fx->dev);
}

/* After the driver broke its queue nothing is written to it, but what is in flight still ends. */
static void test_failed_device_swallows_completions(void **state)
{
	struct fixture *fx = *state;
	uint8_t *status = fake_ram_host(&fx->ram, fx->status);

	offer_read(fx);
	fake_device_notify(fx->dev, 0);
	assert_int_equal(held.count, 1);
	*status = 0xee;
	fake_queue_set_avail_idx(&fx->queue, (uint16_t)(fx->queue.avail_idx + 1000));
	fake_device_notify(fx->dev, 0);
	assert_true(fx->dev->needs_reset);
	complete_at(0, 0);
	unsigned runs = held.runs;

	wake();
	assert_true(held.runs > runs); /* or the backend would wake us for ever */
	assert_int_equal(take_all_used(fx), 0);
	assert_int_equal(*status, 0xee);
}

static void test_change_of_file_drains_first(void **state)
{
	struct fixture *fx = *state;
	struct error err = {0};
	int fd = held.backend.fd;

	offer_read(fx);
	fake_device_notify(fx->dev, 0);
	assert_int_equal(held.count, 1);
	assert_int_equal(block_update_path(fx->dev, fx->path, &err), 0);
	assert_int_not_equal(held.backend.fd, fd);
	assert_int_equal(take_all_used(fx), 1);
}

static void test_discard_unsupported(void **state)
{
	struct fixture *fx = *state;
	uint8_t range[16] = {0};
	uint64_t address;

	put_le32(range + 8, 8);
	address = fake_ram_put(&fx->ram, range, sizeof(range));
	put_le32(fake_ram_host(&fx->ram, fx->header), 11);
	fake_queue_add(&fx->queue,
		       (struct fake_buf[]){{fx->header, 16, false},
					   {address, 16, false},
					   {fx->status, 1, true}},
		       3);
	fake_device_notify(fx->dev, 0);
	assert_int_equal(held.count, 1);
	assert_int_equal(held.ops[0], BLOCK_OP_DISCARD);
	complete_at(0, -EOPNOTSUPP);
	assert_int_equal(take_all_used(fx), 1);
	assert_int_equal(*(uint8_t *)fake_ram_host(&fx->ram, fx->status), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_completes_in_any_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_batch_one_interrupt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_more_than_there_are_tags, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pause_drains, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reset_drains, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failed_device_swallows_completions, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_change_of_file_drains_first, setup, teardown),
		cmocka_unit_test_setup_teardown(test_discard_unsupported, setup, teardown),
	};

	return RUN_TESTS(tests);
}
