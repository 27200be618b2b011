// SPDX-License-Identifier: Apache-2.0
/*
 * Counts on the console, one number a line, until it is told `q`. Registers that nothing saves but a snapshot keep what
 * they were given, and are looked at for each number.
 */
#include "tests/guest/guest.h"

#define SERIAL_DATA    0x3f8
#define SERIAL_LSR     0x3fd
#define SERIAL_SCRATCH 0x3ff
#define LSR_DATA_READY 1
#define SCRATCH        0x5a

void guest_main(void)
{
	static uint32_t kept[1024];

	for (unsigned i = 0; i < 1024; i++)
		kept[i] = i * 2654435761u;
	outb(SERIAL_SCRATCH, SCRATCH);
	for (uint32_t count = 0;; count++) {
		put_hex(count);
		put_text("\n");
		if (inb(SERIAL_SCRATCH) != SCRATCH)
			put_text("FAIL the scratch register\n");
		if (kept[count % 1024] != count % 1024 * 2654435761u)
			put_text("FAIL memory\n");
		if ((inb(SERIAL_LSR) & LSR_DATA_READY) && inb(SERIAL_DATA) == 'q')
			return;
	}
}
