// SPDX-License-Identifier: Apache-2.0
/*
 * Block requests, right and wrong, on a writable device of exactly 128 sectors (first) and a read-only one (second).
 */
#include "tests/guest/guest.h"

enum {
	T_IN = 0,
	T_OUT = 1,
	T_FLUSH = 4,
	T_GET_ID = 8,
	T_DISCARD = 11,
	T_WRITE_ZEROES = 13,
	S_OK = 0,
	S_IOERR = 1,
	S_UNSUPP = 2,
	S_NONE = 0xee,
	SECTORS = 128,
};

static struct ring ring;
static struct {
	uint32_t type, reserved;
	uint64_t sector;
} request;
static volatile uint8_t data[4096], status;
static uint32_t window;

/* One request of header, data and status; gives the status byte. */
static uint8_t run(uint32_t type, uint64_t sector, uint32_t len, bool device_writes)
{
	uint16_t before = ring.used.idx;

	request.type = type;
	request.sector = sector;
	status = S_NONE;
	set_desc(&ring, 0, &request, sizeof(request), D_NEXT, len ? 1 : 2);
	set_desc(&ring, 1, data, len, (uint16_t)(D_NEXT | (device_writes ? D_WRITE : 0)), 2);
	set_desc(&ring, 2, &status, 1, D_WRITE, 0);
	ring_submit(window, &ring, 0, 0);
	ring_wait(window, &ring, (uint16_t)(before + 1));
	return status;
}

static void fill(uint8_t value)
{
	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = value;
}

static bool all(uint8_t value, unsigned len)
{
	for (unsigned i = 0; i < len; i++) {
		if (data[i] != value)
			return false;
	}
	return true;
}

static void good_requests(void)
{
	check_equal("capacity", read32(window + VM_CONFIG), SECTORS);
	fill(0xa5);
	check_equal("write", run(T_OUT, 8, 4096, false), S_OK);
	fill(0);
	check_equal("read", run(T_IN, 8, 4096, true), S_OK);
	check("what was written is read", all(0xa5, 4096));
	check_equal("the sectors before are untouched", run(T_IN, 0, 4096, true), S_OK);
	check("zeroes there", all(0, 4096));
	check_equal("identity", run(T_GET_ID, 0, 20, true), S_OK);
	check("an identity came", data[0] != 0);
	check_equal("the last sector", run(T_IN, SECTORS - 1, 512, true), S_OK);
}

static void bad_requests(void)
{
	check_equal("read past the end", run(T_IN, SECTORS, 512, true), S_IOERR);
	check_equal("read across the end", run(T_IN, SECTORS - 1, 1024, true), S_IOERR);
	check_equal("read at the end of 64 bits", run(T_IN, 0xffffffffffffffffull, 512, true),
		    S_IOERR);
	check_equal("write past the end", run(T_OUT, SECTORS, 512, false), S_IOERR);
	check_equal("a length that is no multiple of 512", run(T_IN, 0, 100, true), S_IOERR);
	check_equal("an unknown type", run(0x1234, 0, 512, true), S_UNSUPP);
	check_equal("a read into a readable buffer", run(T_IN, 0, 512, false), S_IOERR);
}

static void odd_chains(void)
{
	uint16_t before = ring.used.idx;

	request.type = T_IN;
	set_desc(&ring, 0, &request, sizeof(request), 0, 0);
	ring_submit(window, &ring, 0, 0);
	ring_wait(window, &ring, (uint16_t)(before + 1));
	bool reset = read32(window + VM_STATUS) & ST_NEEDS_RESET;

	check("no room for a status", reset || ring.used.idx == (uint16_t)(before + 1));
	check("start again", virtio_start(window, 0, &ring, 1));
	before = ring.used.idx;
	set_desc(&ring, 0, &request, 4, D_NEXT, 1);
	set_desc(&ring, 1, &status, 1, D_WRITE, 0);
	ring_submit(window, &ring, 0, 0);
	ring_wait(window, &ring, (uint16_t)(before + 1));
	reset = read32(window + VM_STATUS) & ST_NEEDS_RESET;
	check("a short header", reset || ring.used.idx == (uint16_t)(before + 1));
	check("start after that", virtio_start(window, 0, &ring, 1));
}

static void read_only(void)
{
	window = virtio_find(2, 1);
	check("a second device is there", window != 0);
	write32(window + VM_DEVICE_FEATURES_SEL, 0);
	check("it is read-only", read32(window + VM_DEVICE_FEATURES) & (1u << 5));
	check("it starts", virtio_start(window, 1u << 5, &ring, 1));
	check_equal("reading works", run(T_IN, 0, 512, true), S_OK);
	check("writing does not", run(T_OUT, 0, 512, false) != S_OK);
}

void guest_main(void)
{
	window = virtio_find(2, 0);
	check("a block device is there", window != 0);
	if (!window || !virtio_start(window, 0, &ring, 1))
		return;
	good_requests();
	bad_requests();
	odd_chains();
	read_only();
}
