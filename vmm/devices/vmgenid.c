// SPDX-License-Identifier: Apache-2.0
/* VM generation ID. */
#include "vmm/devices/vmgenid.h"

#include <errno.h>
#include <stdint.h>
#include <sys/random.h>

#define GENERATION_BYTES 16

int vmgenid_renew(const struct guest_memory *mem, gpa_t addr, struct error *err)
{
	uint8_t generation[GENERATION_BYTES];

	/* Up to 256 bytes come whole once the host's pool is seeded, whatever signals arrive. */
	if (getrandom(generation, sizeof(generation), 0) != (ssize_t)sizeof(generation))
		return error_set_errno(err, "no random bytes for the VM generation ID");
	if (guest_memory_write(mem, addr, generation, sizeof(generation)))
		return error_set(err, -EFAULT, "the VM generation ID lies outside guest memory");
	return 0;
}
