// SPDX-License-Identifier: Apache-2.0
/*
 * A hostile driver on a virtqueue: loops, bad indices, addresses and lengths. Each must end in NEEDS_RESET of this device
 * alone, and the device must work again after a reset. Needs a writable block device of at least 64 KiB.
 */
#include "tests/guest/guest.h"

#define FEATURE_INDIRECT (1u << 28)

static struct ring ring;
static struct desc table[RING_SIZE + 1] __attribute__((aligned(16)));

struct request {
	uint32_t type, reserved;
	uint64_t sector;
};
static struct request request;
static uint8_t data[512], status;

static uint32_t window;

/* A correct read of sector 0: the proof that the device is alive. */
static void expect_alive(const char *name)
{
	bool good = virtio_start(window, FEATURE_INDIRECT, &ring, 1);

	request = (struct request){0};
	status = 0xff;
	set_desc(&ring, 0, &request, sizeof(request), D_NEXT, 1);
	set_desc(&ring, 1, data, sizeof(data), D_NEXT | D_WRITE, 2);
	set_desc(&ring, 2, &status, 1, D_WRITE, 0);
	ring_submit(window, &ring, 0, 0);
	good = good && ring_wait(window, &ring, 1) && *(volatile uint8_t *)&status == 0;
	check(name, good);
}

static void restart(uint32_t features)
{
	virtio_start(window, features, &ring, 1);
	request = (struct request){0};
	set_desc(&ring, 0, &request, sizeof(request), D_NEXT, 1);
	set_desc(&ring, 1, data, sizeof(data), D_NEXT | D_WRITE, 2);
	set_desc(&ring, 2, &status, 1, D_WRITE, 0);
}

/* The chain at head must break the queue. */
static void expect_broken(const char *name, uint16_t head)
{
	ring_submit(window, &ring, 0, head);
	ring_wait(window, &ring, 1);
	check(name, read32(window + VM_STATUS) & ST_NEEDS_RESET);
	ring_submit(window, &ring, 0,
		    head); /* and a second time to a device that waits for its reset */
	expect_alive("alive after it");
}

static void direct_chains(void)
{
	restart(0);
	ring.desc[2].flags = D_WRITE | D_NEXT;
	ring.desc[2].next = 1;
	expect_broken("a loop of two", 0);

	restart(0);
	ring.desc[0].next = 0;
	expect_broken("a descriptor that follows itself", 0);

	restart(0);
	ring.desc[1].next = RING_SIZE;
	expect_broken("next beyond the table", 0);

	restart(0);
	expect_broken("head beyond the table", RING_SIZE);

	restart(0);
	expect_broken("head far beyond the table", 0xffff);

	restart(0);
	ring.desc[1].addr = 0xfffffffffffff000ull;
	expect_broken("address at the end of 64 bits", 0);

	restart(0);
	ring.desc[1].addr = 0xc0000000;
	expect_broken("address in the device window", 0);

	restart(0);
	ring.desc[1].len = 0xffffffff;
	expect_broken("length beyond RAM", 0);

	restart(0);
	ring.desc[1].len = 0;
	expect_broken("length zero", 0);

	restart(0);
	ring.desc[2].flags = 0;
	expect_broken("readable after writable", 0);
}

static void indirect_chains(void)
{
	restart(0);
	set_desc(&ring, 0, table, sizeof(table[0]), D_INDIRECT, 0);
	expect_broken("indirect without the feature", 0);

	restart(FEATURE_INDIRECT);
	set_desc(&ring, 0, table, sizeof(table[0]) + 1, D_INDIRECT, 0);
	expect_broken("indirect table of a broken length", 0);

	restart(FEATURE_INDIRECT);
	set_desc(&ring, 0, table, 0, D_INDIRECT, 0);
	expect_broken("indirect table of length zero", 0);

	restart(FEATURE_INDIRECT);
	set_desc(&ring, 0, table, 0xfffffff0, D_INDIRECT, 0);
	expect_broken("indirect table beyond RAM", 0);

	restart(FEATURE_INDIRECT);
	set_desc(&ring, 0, table, sizeof(table[0]), D_INDIRECT | D_NEXT, 1);
	expect_broken("indirect with next", 0);

	restart(FEATURE_INDIRECT);
	table[0] = (struct desc){(uint32_t)table, sizeof(table[0]), D_INDIRECT, 0};
	set_desc(&ring, 0, table, sizeof(table[0]), D_INDIRECT, 0);
	expect_broken("indirect in indirect", 0);

	restart(FEATURE_INDIRECT);
	table[0] = (struct desc){(uint32_t)&request, sizeof(request), D_NEXT, 0};
	set_desc(&ring, 0, table, sizeof(table[0]), D_INDIRECT, 0);
	expect_broken("a loop in an indirect table", 0);

	restart(FEATURE_INDIRECT);
	table[0] = (struct desc){(uint32_t)&request, sizeof(request), D_NEXT, 7};
	set_desc(&ring, 0, table, 2 * sizeof(table[0]), D_INDIRECT, 0);
	expect_broken("next beyond an indirect table", 0);
}

static void index_jumps(void)
{
	restart(0);
	ring.avail.idx = 0x7fff;
	expect_broken("the available index jumps", 0);

	restart(0);
	ring.avail.idx = (uint16_t)-2;
	expect_broken("the available index goes back", 0);
}

void guest_main(void)
{
	window = virtio_find(2, 0);
	check("a block device is there", window != 0);
	if (!window)
		return;
	expect_alive("alive at first");
	direct_chains();
	indirect_chains();
	index_jumps();
}
