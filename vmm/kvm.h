// SPDX-License-Identifier: Apache-2.0
/* The virtual machine as KVM sees it: every ioctl on /dev/kvm and on the VM descriptor. */
#ifndef VMM_KVM_H
#define VMM_KVM_H

#include <stdbool.h>
#include <stdint.h>
#include "vmm/core/error.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/irq.h"

struct kvm {
	int kvm_fd; /* /dev/kvm */
	int vm_fd;
	uint32_t run_bytes; /* size of a vCPU's shared page */
};

/* A descriptor of /dev/kvm, which the caller owns, or -errno and a text. */
int kvm_open_device(struct error *err) must_check;

/* Opens /dev/kvm, checks that it can do what we need, creates the VM. On error nothing is left open. */
int kvm_open(struct kvm *kvm, struct error *err) must_check;
void kvm_close(struct kvm *kvm);

/*
 * The first change of a new machine's memory map waits, for up to ten milliseconds, until the kernel knows that nobody
 * reads the old one; later ones hardly do. Takes that wait now: adds a page and removes it. For machines prepared ahead.
 */
int kvm_settle_memory_map(const struct kvm *kvm, struct error *err) must_check;

/* One slot a region. dirty_log switches logging on. Before vCPUs run. */
int kvm_add_memory(const struct kvm *kvm, const struct guest_memory *mem, bool dirty_log,
		   struct error *err) must_check;

/*
 * Brings a range of guest memory into the second-level page table, as if the vCPU, which must stand still, read it; pages
 * that are not in memory are waited for. 0, or -ENOTSUP where KVM cannot (before Linux 6.10, without two-dimensional
 * paging), or another -errno: a part was done. Reference: KVM_PRE_FAULT_MEMORY in the kernel's KVM API.
 */
int kvm_prefault(const struct kvm *kvm, int vcpu_fd, gpa_t start, uint64_t bytes) must_check;

/* Adds what guests have written since the last call to mem->dirty. */
int kvm_collect_dirty(const struct kvm *kvm, struct guest_memory *mem,
		      struct error *err) must_check;

/* PIC, IOAPIC, local APICs. Before vCPUs exist. The interval timer comes when it is asked for (arch/…/pit.h). */
int kvm_create_irqchip(const struct kvm *kvm, struct error *err) must_check;

/* A descriptor for one more vCPU, or -errno with a text. */
int kvm_create_vcpu(const struct kvm *kvm, unsigned index, struct error *err) must_check;

/* Writes to the line's eventfd become edges on its GSI. */
int kvm_bind_irq(const struct kvm *kvm, const struct irq_line *line, struct error *err) must_check;

/* 32-bit guest writes of value to addr signal the eventfd without leaving the kernel. */
int kvm_bind_ioeventfd(const struct kvm *kvm, gpa_t addr, uint32_t value, int eventfd,
		       struct error *err) must_check;

#endif
