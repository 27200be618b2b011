// SPDX-License-Identifier: Apache-2.0
/* The state in which a vCPU enters the kernel. */
#include "vmm/arch/x86_64/cpu.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include "vmm/arch/x86_64/boot_internal.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/core/bytes.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* ---- model-specific registers ---- */

#define MSR_TSC            0x10u
#define MSR_SYSENTER_CS    0x174u
#define MSR_SYSENTER_ESP   0x175u
#define MSR_SYSENTER_EIP   0x176u
#define MSR_MISC_ENABLE    0x1a0u
#define MSR_MTRR_DEF_TYPE  0x2ffu
#define MSR_STAR           0xc0000081u
#define MSR_LSTAR          0xc0000082u
#define MSR_CSTAR          0xc0000083u
#define MSR_SYSCALL_MASK   0xc0000084u
#define MSR_KERNEL_GS_BASE 0xc0000102u

#define MISC_ENABLE_FAST_STRING (1u << 0)
#define MTRR_ENABLED            (1u << 11)
#define MTRR_WRITE_BACK         6u

static const struct kvm_msr_entry boot_msrs[] = {
	{.index = MSR_SYSENTER_CS},
	{.index = MSR_SYSENTER_ESP},
	{.index = MSR_SYSENTER_EIP},
	{.index = MSR_STAR},
	{.index = MSR_CSTAR},
	{.index = MSR_KERNEL_GS_BASE},
	{.index = MSR_SYSCALL_MASK},
	{.index = MSR_LSTAR},
	/* KVM takes a write of zero from here as "a vCPU starts" and keeps all vCPUs' counters in step. */
	{.index = MSR_TSC},
	{.index = MSR_MISC_ENABLE, .data = MISC_ENABLE_FAST_STRING},
	/* Without this a guest takes its RAM for uncached. */
	{.index = MSR_MTRR_DEF_TYPE, .data = MTRR_ENABLED | MTRR_WRITE_BACK},
};

int cpu_set_boot_msrs(int vcpu_fd, struct error *err)
{
	/* struct kvm_msrs ends in a flexible array: room for it is made in bytes. */
	union {
		struct kvm_msrs head;
		uint8_t room[sizeof(struct kvm_msrs) + sizeof(boot_msrs)];
	} list = {.head = {.nmsrs = COUNT_OF(boot_msrs)}};

	memcpy(list.head.entries, boot_msrs, sizeof(boot_msrs));
	int set = ioctl(vcpu_fd, KVM_SET_MSRS, &list.head);

	if (set < 0)
		return error_set_errno(err, "KVM_SET_MSRS failed");
	if ((unsigned)set < COUNT_OF(boot_msrs))
		return error_set(err, -ENOTSUP,
				 "this host's KVM refuses to set model-specific register 0x%x to "
				 "0x%llx",
				 boot_msrs[set].index, (unsigned long long)boot_msrs[set].data);
	return 0;
}

/* ---- local APIC ---- */

#define APIC_LVT0          0x350u
#define APIC_LVT1          0x360u
#define APIC_DELIVERY_MASK 0x700u
#define APIC_NMI           (4u << 8)
#define APIC_EXTINT        (7u << 8)

static void set_delivery(struct kvm_lapic_state *lapic, unsigned reg, uint32_t mode)
{
	uint8_t *at = (uint8_t *)lapic->regs + reg;

	put_le32(at, (get_le32(at) & ~APIC_DELIVERY_MASK) | mode);
}

int cpu_set_lapic_lint(int vcpu_fd, struct error *err)
{
	struct kvm_lapic_state lapic;

	if (ioctl(vcpu_fd, KVM_GET_LAPIC, &lapic) < 0)
		return error_set_errno(err, "KVM_GET_LAPIC failed");
	set_delivery(&lapic, APIC_LVT0, APIC_EXTINT);
	set_delivery(&lapic, APIC_LVT1, APIC_NMI);
	if (ioctl(vcpu_fd, KVM_SET_LAPIC, &lapic) < 0)
		return error_set_errno(err, "KVM_SET_LAPIC failed");
	return 0;
}

/* ---- registers ---- */

#define CR0_PE       (1u << 0)
#define CR0_ET       (1u << 4)
#define CR0_PG       (1u << 31)
#define CR4_PAE      (1u << 5)
#define EFER_LME     (1u << 8)
#define EFER_LMA     (1u << 10)
#define RFLAGS_FIXED 0x2u

#define FPU_CONTROL_WORD 0x37fu

/* MXCSR is not among what this call sets; a new vCPU has 0x1f80 there already. */
static int set_fpu(int vcpu_fd, struct error *err)
{
	struct kvm_fpu fpu = {.fcw = FPU_CONTROL_WORD};

	if (ioctl(vcpu_fd, KVM_SET_FPU, &fpu) < 0)
		return error_set_errno(err, "KVM_SET_FPU failed");
	return 0;
}

static int set_general(int vcpu_fd, const struct boot_kernel *kernel, struct error *err)
{
	struct kvm_regs regs = {
		.rip = kernel->entry.v,
		.rflags = RFLAGS_FIXED,
		.rsp = LAYOUT_BOOT_STACK,
		.rbp = LAYOUT_BOOT_STACK,
	};

	if (kernel->protocol == BOOT_PVH)
		regs.rbx = LAYOUT_PVH_START_INFO;
	else
		regs.rsi = LAYOUT_ZERO_PAGE;
	if (ioctl(vcpu_fd, KVM_SET_REGS, &regs) < 0)
		return error_set_errno(err, "KVM_SET_REGS failed");
	return 0;
}

/* What the processor would have cached from the descriptor in that slot. */
static struct kvm_segment segment_of(enum boot_protocol protocol, enum boot_gdt_slot slot)
{
	uint64_t entry = boot_gdt_entry(protocol, slot);
	uint32_t limit = (uint32_t)((entry & 0xffff) | (entry >> 32 & 0xf0000));
	bool granular = entry >> 55 & 1;

	return (struct kvm_segment){
		.limit = granular ? limit << 12 | 0xfff : limit,
		.selector = (uint16_t)(slot * sizeof(entry)),
		.type = entry >> 40 & 0xf,
		.s = entry >> 44 & 1,
		.dpl = entry >> 45 & 3,
		.present = entry >> 47 & 1,
		.avl = entry >> 52 & 1,
		.l = entry >> 53 & 1,
		.db = entry >> 54 & 1,
		.g = granular,
	};
}

static void set_segments(struct kvm_sregs *sregs, enum boot_protocol protocol)
{
	struct kvm_segment data = segment_of(protocol, BOOT_GDT_DATA);

	sregs->cs = segment_of(protocol, BOOT_GDT_CODE);
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
	sregs->tr = segment_of(protocol, BOOT_GDT_TSS);
	sregs->gdt.base = LAYOUT_BOOT_GDT;
	sregs->gdt.limit = BOOT_GDT_COUNT * sizeof(uint64_t) - 1;
	sregs->idt.base = LAYOUT_BOOT_IDT;
	sregs->idt.limit = sizeof(uint64_t) - 1;
}

static int set_special(int vcpu_fd, enum boot_protocol protocol, struct error *err)
{
	struct kvm_sregs sregs;

	/* Read first for what boot does not decide: the APIC's base address above all. */
	if (ioctl(vcpu_fd, KVM_GET_SREGS, &sregs) < 0)
		return error_set_errno(err, "KVM_GET_SREGS failed");
	set_segments(&sregs, protocol);
	sregs.cr0 = CR0_PE | CR0_ET;
	sregs.cr4 = 0;
	sregs.efer = 0;
	if (protocol != BOOT_PVH) {
		sregs.cr0 |= CR0_PG;
		sregs.cr3 = LAYOUT_BOOT_PML4;
		sregs.cr4 = CR4_PAE;
		sregs.efer = EFER_LME | EFER_LMA;
	}
	if (ioctl(vcpu_fd, KVM_SET_SREGS, &sregs) < 0)
		return error_set_errno(err, "KVM_SET_SREGS failed");
	return 0;
}

int cpu_set_boot_state(int vcpu_fd, const struct boot_kernel *kernel, struct error *err)
{
	int ret = set_special(vcpu_fd, kernel->protocol, err);

	if (!ret)
		ret = set_general(vcpu_fd, kernel, err);
	if (!ret)
		ret = set_fpu(vcpu_fd, err);
	return ret;
}
