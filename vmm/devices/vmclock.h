// SPDX-License-Identifier: Apache-2.0
/* VMClock: a page that tells guests when time or identity were disrupted (snapshot, clone). */
#ifndef DEVICES_VMCLOCK_H
#define DEVICES_VMCLOCK_H

#include "vmm/core/error.h"
#include "vmm/core/guest_memory.h"

/* Writes a fresh page at addr for a machine that has never been disrupted. */
int vmclock_init(const struct guest_memory *mem, gpa_t addr, struct error *err) must_check;

/* Says that time and identity have been disrupted. The guest is told by the GED's interrupt, which is the caller's to raise. */
int vmclock_disrupt(const struct guest_memory *mem, gpa_t addr, struct error *err) must_check;

#endif
