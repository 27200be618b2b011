// SPDX-License-Identifier: Apache-2.0
/* Counts on the console and sees to it that the interval timer, which it has programmed once, moves between numbers. */
#include "tests/guest/guest.h"

#define PIT_CHANNEL0   0x40
#define PIT_CONTROL    0x43
#define CHANNEL0_MODE2 0x34
#define CHANNEL0_LATCH 0x00

static uint32_t timer(void)
{
	outb(PIT_CONTROL, CHANNEL0_LATCH);
	uint32_t low = inb(PIT_CHANNEL0);

	return low | (uint32_t)inb(PIT_CHANNEL0) << 8;
}

void guest_main(void)
{
	outb(PIT_CONTROL, CHANNEL0_MODE2);
	outb(PIT_CHANNEL0, 0xff);
	outb(PIT_CHANNEL0, 0xff);
	for (uint32_t count = 0;; count++) {
		uint32_t before = timer();
		bool moved = false;

		put_hex(count);
		put_text("\n");
		for (unsigned i = 0; i < 100000 && !moved; i++)
			moved = timer() != before;
		if (!moved)
			put_text("FAIL the timer stands still\n");
	}
}
