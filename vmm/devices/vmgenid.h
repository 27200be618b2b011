// SPDX-License-Identifier: Apache-2.0
/* VM generation ID: 16 bytes in guest memory that change whenever the machine may have been cloned. */
#ifndef DEVICES_VMGENID_H
#define DEVICES_VMGENID_H

#include "vmm/core/error.h"
#include "vmm/core/guest_memory.h"

/* Writes a new random generation at addr. The guest is told by the GED's interrupt, which is the caller's to raise. */
int vmgenid_renew(const struct guest_memory *mem, gpa_t addr, struct error *err) must_check;

#endif
