// SPDX-License-Identifier: Apache-2.0
/* Runs until it is told on the serial port how to end: q returns, p powers off, f faults. Ticks meanwhile. */
#include "tests/guest/guest.h"

#define SERIAL_LSR      0x3fd
#define LSR_DATA_READY  1
#define SLEEP_CONTROL   0x600
#define SLEEP_S5_ENABLE ((5 << 2) | (1 << 5))

static void power_off(void)
{
	outb(SLEEP_CONTROL, SLEEP_S5_ENABLE);
	for (;;)
		__asm__ volatile("hlt");
}

/* An exception without an interrupt table cannot be delivered, nor can the double fault, nor the third. */
static void triple_fault(void)
{
	struct {
		uint16_t limit;
		uint32_t base;
	} __attribute__((packed)) no_table = {0, 0};

	__asm__ volatile("lidt %0\n\txor %%ecx, %%ecx\n\tdiv %%ecx"
			 :
			 : "m"(no_table)
			 : "eax", "ecx", "edx");
}

void guest_main(void)
{
	for (;;) {
		put_text("tick\n");
		for (unsigned i = 0; i < 200; i++) {
			if (!(inb(SERIAL_LSR) & LSR_DATA_READY))
				continue;
			switch (inb(0x3f8)) {
			case 'q':
				return;
			case 'p':
				power_off();
				break;
			case 'f':
				triple_fault();
				break;
			default:
				break;
			}
		}
	}
}
