// SPDX-License-Identifier: Apache-2.0
/*
 * Fills pages of memory, by itself and by reading a drive into them, and looks at all of them in turn: a page that a
 * snapshot has lost or mixed up shows as FAIL. Counts on the console; `q` ends it.
 */
#include "tests/guest/guest.h"

enum {
	T_IN = 0,
	T_OUT = 1,
	PAGES = 32, /* the first half is written by the processor, the other one by the drive */
	WORDS = 1024,
	BLOCKS = 16,
	SECTORS_PER_BLOCK = 8,
	SERIAL_DATA = 0x3f8,
	SERIAL_LSR = 0x3fd,
	LSR_DATA_READY = 1,
	PIC_MASTER_MASK = 0x21,
	PIC_SLAVE_MASK = 0xa1,
};

static volatile uint32_t pages[PAGES][WORDS] __attribute__((aligned(4096)));
static uint32_t seeds[PAGES]; /* what each page holds; 0: zeroes */
static struct ring ring;
static struct {
	uint32_t type, reserved;
	uint64_t sector;
} request;
static volatile uint8_t status;
static uint32_t window;

static uint32_t word(uint32_t seed, uint32_t at)
{
	return seed ? seed * 2654435761u + at : 0;
}

static void fill(unsigned page, uint32_t seed)
{
	for (uint32_t i = 0; i < WORDS; i++)
		pages[page][i] = word(seed, i);
	seeds[page] = seed;
}

static bool is_right(unsigned page)
{
	for (uint32_t i = 0; i < WORDS; i++)
		if (pages[page][i] != word(seeds[page], i))
			return false;
	return true;
}

static bool transfer(uint32_t type, uint32_t block, unsigned page)
{
	uint16_t before = ring.used.idx;

	request.type = type;
	request.sector = (uint64_t)block * SECTORS_PER_BLOCK;
	status = 0xee;
	set_desc(&ring, 0, &request, sizeof(request), D_NEXT, 1);
	set_desc(&ring, 1, pages[page], sizeof(pages[page]),
		 (uint16_t)(D_NEXT | (type == T_IN ? D_WRITE : 0)), 2);
	set_desc(&ring, 2, &status, 1, D_WRITE, 0);
	ring_submit(window, &ring, 0, 0);
	return ring_wait(window, &ring, (uint16_t)(before + 1)) && status == 0;
}

static uint32_t block_seed(uint32_t block)
{
	return 1000 + block;
}

static bool prepare_drive(void)
{
	window = virtio_find(2, 0);
	if (!window || !virtio_start(window, 0, &ring, 1))
		return false;
	for (uint32_t block = 0; block < BLOCKS; block++) {
		fill(0, block_seed(block));
		if (!transfer(T_OUT, block, 0))
			return false;
	}
	return true;
}

static bool change(uint32_t count)
{
	unsigned page = count % PAGES;

	if (page < PAGES / 2) {
		fill(page, count % 3 ? count : 0);
		return true;
	}
	/* Another block in each round. */
	uint32_t block = (count + count / PAGES) % BLOCKS;

	seeds[page] = block_seed(block);
	return transfer(T_IN, block, page);
}

/*
 * Nothing interrupts this guest, but it could be, as systems mostly can: KVM then fetches a missing page by a worker of its
 * own while the vCPU waits, and not in the vCPU's thread.
 */
static void allow_interrupts(void)
{
	outb(PIC_MASTER_MASK, 0xff);
	outb(PIC_SLAVE_MASK, 0xff);
	__asm__ volatile("sti");
}

void guest_main(void)
{
	allow_interrupts();
	check("the drive is ready", prepare_drive());
	for (uint32_t count = 0;; count++) {
		if (!change(count))
			put_text("FAIL a transfer\n");
		for (unsigned i = 0; i < 3; i++)
			if (!is_right((count * 3 + i) % PAGES))
				put_text("FAIL a page\n");
		put_hex(count);
		put_text("\n");
		if ((inb(SERIAL_LSR) & LSR_DATA_READY) && inb(SERIAL_DATA) == 'q')
			return;
	}
}
