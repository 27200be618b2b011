// SPDX-License-Identifier: Apache-2.0
/* The walker of descriptor chains, against a driver that follows the rules and one that does not. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>
#include "tests/unit/fake_virtio.h"
#include "vmm/core/checked.h"

#define SIZE 8

struct fixture {
	struct fake_ram ram;
	struct virtqueue vq;
	struct fake_queue driver;
	struct virtq_chain chain;
};

static int setup(void **state)
{
	struct fixture *f = test_calloc(1, sizeof(*f));

	fake_ram_init(&f->ram, MIB(1));
	f->vq.size_max = VIRTQ_SIZE_MAX;
	virtqueue_reset(&f->vq);
	fake_queue_init(&f->driver, &f->ram, &f->vq, SIZE);
	*state = f;
	return virtqueue_start(&f->vq, &f->ram.mem, false, true);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	fake_ram_free(&f->ram);
	test_free(f);
	return 0;
}

static void test_pop_and_push(void **state)
{
	struct fixture *f = *state;
	uint64_t in = fake_ram_put(&f->ram, "hello", 5), out = fake_ram_alloc(&f->ram, 16, 1);
	struct fake_buf bufs[] = {{in, 2, false}, {in + 2, 3, false}, {out, 16, true}};
	char text[8] = {0};
	struct fake_used used;

	assert_int_equal(virtqueue_pop(&f->vq, &f->chain), 0);
	uint16_t head = fake_queue_add(&f->driver, bufs, 3);

	assert_int_equal(virtqueue_available(&f->vq), 1);
	assert_int_equal(virtqueue_pop(&f->vq, &f->chain), 1);
	assert_int_equal(f->chain.readable, 2);
	assert_int_equal(f->chain.writable, 1);
	assert_int_equal(f->chain.readable_bytes, 5);
	assert_int_equal(f->chain.writable_bytes, 16);
	assert_int_equal(virtq_chain_read(&f->chain, 1, text, sizeof(text)), 4);
	assert_string_equal(text, "ello");
	assert_int_equal(virtq_chain_read(&f->chain, 5, text, 1), 0);
	assert_int_equal(virtq_chain_write(&f->chain, 14, "abcd", 4), 2);
	assert_memory_equal((char *)fake_ram_host(&f->ram, out) + 14, "ab", 2);
	virtqueue_undo_pop(&f->vq);
	assert_int_equal(virtqueue_pop(&f->vq, &f->chain), 1);
	assert_int_equal(virtqueue_pop(&f->vq, &f->chain), 0);
	virtqueue_push(&f->vq, head, 2);
	assert_true(fake_queue_take_used(&f->driver, &used));
	assert_int_equal(used.head, head);
	assert_int_equal(used.len, 2);
}

/* The indices run round 16 bits, and the ring round its size. */
static void test_wraps(void **state)
{
	struct fixture *f = *state;
	struct fake_buf buf = {fake_ram_alloc(&f->ram, 4, 4), 4, true};
	struct fake_used used;

	for (unsigned i = 0; i < 70000; i++) {
		uint16_t head = fake_queue_add(&f->driver, &buf, 1);

		assert_int_equal(virtqueue_pop(&f->vq, &f->chain), 1);
		virtqueue_push(&f->vq, head, i);
		assert_true(fake_queue_take_used(&f->driver, &used));
		assert_int_equal(used.len, i);
	}
}

static void test_put_and_publish(void **state)
{
	struct fixture *f = *state;
	struct fake_buf buf = {fake_ram_alloc(&f->ram, 4, 4), 4, true};
	struct fake_used used;
	uint16_t heads[3];

	for (uint16_t i = 0; i < 3; i++) {
		heads[i] = fake_queue_add(&f->driver, &buf, 1);
		assert_int_equal(virtqueue_pop(&f->vq, &f->chain), 1);
		virtqueue_put(&f->vq, i, heads[i], i + 100u);
	}
	assert_false(fake_queue_take_used(&f->driver, &used));
	virtqueue_publish(&f->vq, 3);
	for (uint16_t i = 0; i < 3; i++) {
		assert_true(fake_queue_take_used(&f->driver, &used));
		assert_int_equal(used.head, heads[i]);
		assert_int_equal(used.len, i + 100);
	}
}

static void test_indirect(void **state)
{
	struct fixture *f = *state;
	struct fake_buf bufs[VIRTQ_CHAIN_MAX + 1];
	uint64_t buffer = fake_ram_alloc(&f->ram, 4, 4);

	for (unsigned i = 0; i < VIRTQ_CHAIN_MAX + 1; i++)
		bufs[i] = (struct fake_buf){buffer, 4, i > 0};
	/* Longer than this queue, as Linux's block driver makes them, up to what a chain may hold at all. */
	fake_queue_add_indirect(&f->driver, bufs, VIRTQ_CHAIN_MAX);
	assert_int_equal(virtqueue_pop(&f->vq, &f->chain), 1);
	assert_int_equal(f->chain.readable + f->chain.writable, VIRTQ_CHAIN_MAX);
	fake_queue_add_indirect(&f->driver, bufs, VIRTQ_CHAIN_MAX + 1);
	assert_int_equal(virtqueue_pop(&f->vq, &f->chain), -EPROTO);
	assert_true(f->vq.broken);
	assert_int_equal(virtqueue_pop(&f->vq, &f->chain), -EPROTO);
	assert_int_equal(virtqueue_available(&f->vq), 0);
	assert_false(virtqueue_enable_notify(&f->vq));
}

static void expect_broken(struct fixture *f, uint16_t head)
{
	fake_queue_offer(&f->driver, head);
	assert_int_equal(virtqueue_pop(&f->vq, &f->chain), -EPROTO);
	assert_int_equal(virtqueue_start(&f->vq, &f->ram.mem, false, true), 0);
	f->driver.avail_idx = 0;
	fake_queue_set_avail_idx(&f->driver, 0);
}

static void test_broken_chains(void **state)
{
	struct fixture *f = *state;
	uint64_t ok = fake_ram_alloc(&f->ram, 64, 16);
	uint64_t end = FAKE_RAM_BASE + MIB(1);
	struct fake_queue *q = &f->driver;

	fake_queue_set_desc(q, 0, ok, 4, FAKE_DESC_NEXT, 0);
	expect_broken(f, 0); /* loop */
	fake_queue_set_desc(q, 0, ok, 4, FAKE_DESC_NEXT, SIZE);
	expect_broken(f, 0); /* next out of the table */
	expect_broken(f, SIZE);
	expect_broken(f, 0xffff);
	fake_queue_set_desc(q, 0, end - 4, 5, 0, 0);
	expect_broken(f, 0); /* over the end of RAM */
	fake_queue_set_desc(q, 0, 0, 4, 0, 0);
	expect_broken(f, 0); /* not RAM */
	fake_queue_set_desc(q, 0, UINT64_MAX, 4, 0, 0);
	expect_broken(f, 0);
	fake_queue_set_desc(q, 0, ok, 0, 0, 0);
	expect_broken(f, 0); /* empty buffer */
	fake_queue_set_desc(q, 0, ok, 4, FAKE_DESC_NEXT | FAKE_DESC_WRITE, 1);
	fake_queue_set_desc(q, 1, ok, 4, 0, 0);
	expect_broken(f, 0); /* readable after writable */
	fake_queue_set_desc(q, 0, ok, 15, FAKE_DESC_INDIRECT, 0);
	expect_broken(f, 0); /* no whole descriptors */
	fake_queue_set_desc(q, 0, ok, 16, FAKE_DESC_INDIRECT | FAKE_DESC_NEXT, 1);
	expect_broken(f, 0);
	fake_desc_write(&f->ram, ok, 0, ok, 16, FAKE_DESC_INDIRECT, 0);
	fake_queue_set_desc(q, 0, ok, 16, FAKE_DESC_INDIRECT, 0);
	expect_broken(f, 0); /* a table in a table */
	fake_queue_set_avail_idx(q, SIZE + 1);
	assert_int_equal(virtqueue_pop(&f->vq, &f->chain), -EPROTO); /* more than the ring holds */
}

static void test_bad_setup(void **state)
{
	struct fixture *f = *state;
	struct virtqueue good = f->vq, vq = good;

	vq.size = 0;
	assert_int_equal(virtqueue_start(&vq, &f->ram.mem, true, true), -EINVAL);
	vq.size = 3;
	assert_int_equal(virtqueue_start(&vq, &f->ram.mem, true, true), -EINVAL);
	vq.size = VIRTQ_SIZE_MAX * 2;
	assert_int_equal(virtqueue_start(&vq, &f->ram.mem, true, true), -EINVAL);
	vq = good;
	vq.desc_gpa.v += 1;
	assert_int_equal(virtqueue_start(&vq, &f->ram.mem, true, true), -EINVAL);
	vq = good;
	vq.used_gpa = gpa(FAKE_RAM_BASE + MIB(1) - 8);
	assert_int_equal(virtqueue_start(&vq, &f->ram.mem, true, true), -EINVAL);
	vq = good;
	vq.avail_gpa = gpa(UINT64_MAX - 1);
	assert_int_equal(virtqueue_start(&vq, &f->ram.mem, true, true), -EINVAL);
}

static void *driver_field(struct fixture *f, uint64_t at)
{
	return fake_ram_host(&f->ram, at);
}

/* Without event indices: a flag in the driver's ring. */
static void test_signal_flag(void **state)
{
	struct fixture *f = *state;

	virtqueue_push(&f->vq, 0, 0);
	assert_true(virtqueue_needs_signal(&f->vq));
	put_le16(driver_field(f, f->driver.avail), 1);
	assert_false(virtqueue_needs_signal(&f->vq));
	virtqueue_disable_notify(&f->vq);
	assert_int_equal(get_le16(driver_field(f, f->driver.used)), 1);
	assert_false(virtqueue_enable_notify(&f->vq));
	assert_int_equal(get_le16(driver_field(f, f->driver.used)), 0);
}

/* With event indices (2.7.7.2): only when used->idx steps over used_event, also across the wrap of 16 bits. */
static void test_signal_event_idx(void **state)
{
	struct fixture *f = *state;
	uint64_t used_event = f->driver.avail + 4 + 2 * SIZE;
	uint64_t avail_event = f->driver.used + 4 + 8 * SIZE;
	struct fake_buf buf = {fake_ram_alloc(&f->ram, 4, 4), 4, true};

	assert_int_equal(virtqueue_start(&f->vq, &f->ram.mem, true, true), 0);
	virtqueue_push(&f->vq, 0, 0);
	assert_true(virtqueue_needs_signal(&f->vq)); /* the first always */
	put_le16(driver_field(f, used_event), 3);
	virtqueue_push(&f->vq, 0, 0);
	virtqueue_push(&f->vq, 0, 0);
	assert_false(virtqueue_needs_signal(&f->vq));
	virtqueue_push(&f->vq, 0, 0);
	assert_true(virtqueue_needs_signal(&f->vq));
	put_le16(driver_field(f, used_event), 0);
	while (f->vq.next_used != 0) {
		virtqueue_push(&f->vq, 0, 0);
		assert_false(virtqueue_needs_signal(&f->vq));
	}
	virtqueue_push(&f->vq, 0, 0);
	assert_true(virtqueue_needs_signal(&f->vq));

	fake_queue_add(&f->driver, &buf, 1);
	assert_true(virtqueue_enable_notify(&f->vq));
	assert_int_equal(virtqueue_pop(&f->vq, &f->chain), 1);
	assert_false(virtqueue_enable_notify(&f->vq));
	assert_int_equal(get_le16(driver_field(f, avail_event)), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_pop_and_push),    TEST(test_wraps),
		TEST(test_put_and_publish), TEST(test_indirect),
		TEST(test_broken_chains),   TEST(test_bad_setup),
		TEST(test_signal_flag),     TEST(test_signal_event_idx),
	};

	return RUN_TESTS(tests);
}
