// SPDX-License-Identifier: Apache-2.0
/* Which processor this host has, and whether it can go on with a guest that began on another one. */
#ifndef ARCH_X86_64_HOST_CPU_H
#define ARCH_X86_64_HOST_CPU_H

#include <stdint.h>
#include "vmm/core/error.h"

struct kvm_cpuid2;

#define HOST_CPU_VENDOR_BYTES 12u

struct host_cpu {
	char vendor[HOST_CPU_VENDOR_BYTES + 1];
	uint32_t family, model, stepping;
	uint64_t features_hash; /* of what CPUID says about features: equal on equal processors */
};

/* Asks the processor itself. */
void host_cpu_identify(struct host_cpu *cpu);

/* -ENOTSUP and a text with the first features that wanted (a guest's CPUID) has and supported (KVM's) has not. */
int host_cpu_check(const struct kvm_cpuid2 *wanted, const struct kvm_cpuid2 *supported,
		   struct error *err) must_check;

#endif
