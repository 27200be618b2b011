// SPDX-License-Identifier: Apache-2.0
/* The interval timer works from its first control word on, though it exists only once it is asked for. */
#include "tests/guest/guest.h"

#define PIT_CHANNEL0    0x40
#define PIT_CHANNEL2    0x42
#define PIT_CONTROL     0x43
#define SPEAKER_GATE    0x61
#define CHANNEL0_MODE2  0x34 /* channel 0, both bytes, mode 2 */
#define CHANNEL0_LATCH  0x00
#define CHANNEL0_STATUS 0xe2 /* read-back of channel 0's status */

static uint32_t count(void)
{
	outb(PIT_CONTROL, CHANNEL0_LATCH);
	uint32_t low = inb(PIT_CHANNEL0);

	return low | (uint32_t)inb(PIT_CHANNEL0) << 8;
}

void guest_main(void)
{
	outb(PIT_CONTROL, CHANNEL0_MODE2);
	outb(PIT_CHANNEL0, 0x00);
	outb(PIT_CHANNEL0, 0x80);
	outb(PIT_CONTROL, CHANNEL0_STATUS);
	check_equal("the first control word took effect", inb(PIT_CHANNEL0) & 0x3f, CHANNEL0_MODE2);
	uint32_t first = count();
	bool moved = false;

	check("the count is in its range", first <= 0x8000);
	for (unsigned i = 0; i < 100000 && !moved; i++)
		moved = count() != first;
	check("the count moves", moved);
	(void)inb(SPEAKER_GATE);
	outb(SPEAKER_GATE, 1);
	check_equal("the speaker's gate is kept", inb(SPEAKER_GATE) & 1, 1);
	outb(PIT_CONTROL, 0xb4);
	outb(PIT_CHANNEL2, 0xff);
	outb(PIT_CHANNEL2, 0xff);
	uint32_t low = inb(PIT_CHANNEL2), high = inb(PIT_CHANNEL2);

	check("channel 2 counts too", (low | high) != 0);
}
