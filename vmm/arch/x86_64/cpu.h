// SPDX-License-Identifier: Apache-2.0
/* What a vCPU looks like at its start: CPUID, model-specific registers, register state, local APIC. */
#ifndef ARCH_X86_64_CPU_H
#define ARCH_X86_64_CPU_H

#include <stdbool.h>
#include "vmm/arch/x86_64/boot.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/error.h"

struct kvm_cpuid2;

struct cpu_topology {
	unsigned vcpu_count;
	bool smt; /* two threads a core */
};

/*
 * Asks the kernel to let guests of this process use AMX tiles, where there are any; without it KVM hides them. The answer
 * stands from the process's first vCPU on, so this comes before it.
 */
void cpu_allow_amx(void);

/* What KVM supports on this host, asked once per machine. Freed by free(). NULL and a text on error. */
struct kvm_cpuid2 *cpu_supported_cpuid(int kvm_fd, struct error *err) must_check;

/*
 * A copy of supported, normalised for one vCPU (topology, TSC deadline, hypervisor bit, brand …). Freed by free().
 * NULL and a text on error.
 */
struct kvm_cpuid2 *cpu_make_cpuid(const struct kvm_cpuid2 *supported, unsigned index,
				  const struct cpu_topology *topology,
				  struct error *err) must_check;

/* Makes the vCPU's list and gives it to KVM. Before anything else is set on the vCPU. */
int cpu_set_cpuid(int vcpu_fd, const struct kvm_cpuid2 *supported, unsigned index,
		  const struct cpu_topology *topology, struct error *err) must_check;

/* Boot values of model-specific registers, FPU, local APIC's LINT pins. */
int cpu_set_boot_msrs(int vcpu_fd, struct error *err) must_check;
int cpu_set_lapic_lint(int vcpu_fd, struct error *err) must_check;

/* Registers and special registers for the kernel's protocol. */
int cpu_set_boot_state(int vcpu_fd, const struct boot_kernel *kernel, struct error *err) must_check;

#endif
