// SPDX-License-Identifier: Apache-2.0
/*
 * A vCPU that stands still, taken out of KVM and put into another one: everything that a guest can tell.
 *
 * Callers stop the vCPU first. The lists of fields are in cpu_saved_fields.c.
 */
#ifndef ARCH_X86_64_CPU_SAVED_H
#define ARCH_X86_64_CPU_SAVED_H

#include <linux/kvm.h>
#include <stdint.h>
#include "snapshots/state.h"
#include "vmm/core/error.h"

#define CPU_SAVED_MSRS_MAX    1024u
#define CPU_SAVED_CPUID_MAX   256u
#define CPU_SAVED_XSAVE_BYTES (64u << 10) /* far above what processors have: AMX needs 11 KiB */

struct cpu_saved {
	struct kvm_mp_state mp_state;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_debugregs debugregs;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	struct kvm_xcrs xcrs;
	uint32_t tsc_khz; /* 0: KVM did not say */
	uint8_t *xsave;   /* owned */
	uint32_t xsave_bytes;
	struct kvm_msrs *msrs;    /* owned; in the order in which they are to be set */
	struct kvm_cpuid2 *cpuid; /* owned */
};

extern const struct state_kind cpu_saved_kind; /* of struct cpu_saved */

/* Whose processors KVM's descriptor stands for; both descriptors are borrowed. */
struct cpu_saved_host {
	int kvm_fd; /* /dev/kvm */
	int vm_fd;
};

/* Fills saved from the vCPU. Freed by cpu_saved_free(), also after an error. */
int cpu_saved_get(const struct cpu_saved_host *host, int vcpu_fd, struct cpu_saved *saved,
		  struct error *err) must_check;

/* The part that comes before memory and devices are there: what kind of processor it is. */
int cpu_saved_set_cpuid(int vcpu_fd, const struct cpu_saved *saved, struct error *err) must_check;

/* All the rest. After the VM's clock has been set, before its interrupt controllers. */
int cpu_saved_set(const struct cpu_saved_host *host, int vcpu_fd, const struct cpu_saved *saved,
		  struct error *err) must_check;

void cpu_saved_free(struct cpu_saved *saved);

#endif
