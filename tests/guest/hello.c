// SPDX-License-Identifier: Apache-2.0
/* Prints and resets: the shortest line through the machine. */
#include "tests/guest/guest.h"

void guest_main(void)
{
	put_text("hello from a tiny guest\n");
	check("unclaimed ports read as zero", inb(0x5555) == 0 && inl(0x5554) == 0);
	outl(0x5554, 0xffffffff);
	check_equal("unclaimed addresses read as zero", read32(0xd0000000), 0);
	write32(0xd0000000, 1);
	check("VMGenID is not empty",
	      read32(0xdf000) | read32(0xdf004) | read32(0xdf008) | read32(0xdf00c));
	check_equal("VMClock magic", read32(0xde000), 0x4b4c4356);
	check_equal("VMClock page size", read32(0xde004), 0x1000);
	check("RSDP is where guests scan for it", read32(0xe0000) == 0x20445352);
}
