// SPDX-License-Identifier: Apache-2.0
/* What a VM has beside its vCPUs in KVM: interrupt controllers, the interval timer if there is one, the clock. */
#ifndef ARCH_X86_64_CHIPS_SAVED_H
#define ARCH_X86_64_CHIPS_SAVED_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>
#include "snapshots/state.h"
#include "vmm/core/error.h"

#define CHIPS_PICS 2u

struct chips_saved {
	struct kvm_irqchip pic[CHIPS_PICS];
	struct kvm_irqchip ioapic;
	bool has_pit;
	struct kvm_pit_state2 pit;
	uint64_t clock_ns;    /* kvm-clock */
	uint64_t realtime_ns; /* the host's wall clock at the same time */
};

extern const struct state_kind chips_saved_kind; /* of struct chips_saved */

/* has_pit is the caller's to know and to fill in first. */
int chips_saved_get(int vm_fd, struct chips_saved *saved, struct error *err) must_check;

/* Before the vCPUs' state. forward: the time since saving is added, so that the guest's clock is right again. */
int chips_saved_set_clock(int vm_fd, const struct chips_saved *saved, bool forward,
			  struct error *err) must_check;

/* After the vCPUs' state, whose local APICs take what is pending. A timer that was there must be there again. */
int chips_saved_set(int vm_fd, const struct chips_saved *saved, struct error *err) must_check;

#endif
