// SPDX-License-Identifier: Apache-2.0
/* A vCPU's state as fields of a snapshot. */
#include <errno.h>
#include <stdlib.h>
#include "vmm/arch/x86_64/cpu_saved.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* KVM's structures are of the compiler's 64-bit type, which is not always uint64_t by name. */
static void u64(struct state *s, const char *field, __u64 *value)
{
	uint64_t number = *value;

	state_u64(s, field, &number);
	*value = number;
}

static void general_fields(struct state *s, struct kvm_regs *regs)
{
	u64(s, "rax", &regs->rax);
	u64(s, "rbx", &regs->rbx);
	u64(s, "rcx", &regs->rcx);
	u64(s, "rdx", &regs->rdx);
	u64(s, "rsi", &regs->rsi);
	u64(s, "rdi", &regs->rdi);
	u64(s, "rsp", &regs->rsp);
	u64(s, "rbp", &regs->rbp);
	u64(s, "r8", &regs->r8);
	u64(s, "r9", &regs->r9);
	u64(s, "r10", &regs->r10);
	u64(s, "r11", &regs->r11);
	u64(s, "r12", &regs->r12);
	u64(s, "r13", &regs->r13);
	u64(s, "r14", &regs->r14);
	u64(s, "r15", &regs->r15);
	u64(s, "rip", &regs->rip);
	u64(s, "rflags", &regs->rflags);
}

static void segment_fields(struct state *s, struct kvm_segment *segment)
{
	u64(s, "segment.base", &segment->base);
	state_u32(s, "segment.limit", &segment->limit);
	state_u16(s, "segment.selector", &segment->selector);
	state_u8(s, "segment.type", &segment->type);
	state_u8(s, "segment.present", &segment->present);
	state_u8(s, "segment.dpl", &segment->dpl);
	state_u8(s, "segment.db", &segment->db);
	state_u8(s, "segment.s", &segment->s);
	state_u8(s, "segment.l", &segment->l);
	state_u8(s, "segment.g", &segment->g);
	state_u8(s, "segment.avl", &segment->avl);
	state_u8(s, "segment.unusable", &segment->unusable);
}

static void special_fields(struct state *s, struct kvm_sregs *sregs)
{
	struct kvm_segment *segments[] = {&sregs->cs, &sregs->ds, &sregs->es, &sregs->fs,
					  &sregs->gs, &sregs->ss, &sregs->tr, &sregs->ldt};

	for (size_t i = 0; i < COUNT_OF(segments); i++)
		segment_fields(s, segments[i]);
	u64(s, "gdt.base", &sregs->gdt.base);
	state_u16(s, "gdt.limit", &sregs->gdt.limit);
	u64(s, "idt.base", &sregs->idt.base);
	state_u16(s, "idt.limit", &sregs->idt.limit);
	u64(s, "cr0", &sregs->cr0);
	u64(s, "cr2", &sregs->cr2);
	u64(s, "cr3", &sregs->cr3);
	u64(s, "cr4", &sregs->cr4);
	u64(s, "cr8", &sregs->cr8);
	u64(s, "efer", &sregs->efer);
	u64(s, "apic_base", &sregs->apic_base);
	for (size_t i = 0; i < COUNT_OF(sregs->interrupt_bitmap); i++)
		u64(s, "interrupt_bitmap", &sregs->interrupt_bitmap[i]);
}

static void debug_fields(struct state *s, struct kvm_debugregs *debugregs)
{
	for (size_t i = 0; i < COUNT_OF(debugregs->db); i++)
		u64(s, "db", &debugregs->db[i]);
	u64(s, "dr6", &debugregs->dr6);
	u64(s, "dr7", &debugregs->dr7);
	u64(s, "debug.flags", &debugregs->flags);
}

static void event_fields(struct state *s, struct kvm_vcpu_events *events)
{
	state_u8(s, "exception.injected", &events->exception.injected);
	state_u8(s, "exception.nr", &events->exception.nr);
	state_u8(s, "exception.has_error_code", &events->exception.has_error_code);
	state_u8(s, "exception.pending", &events->exception.pending);
	state_u32(s, "exception.error_code", &events->exception.error_code);
	state_u8(s, "exception_has_payload", &events->exception_has_payload);
	u64(s, "exception_payload", &events->exception_payload);
	state_u8(s, "interrupt.injected", &events->interrupt.injected);
	state_u8(s, "interrupt.nr", &events->interrupt.nr);
	state_u8(s, "interrupt.soft", &events->interrupt.soft);
	state_u8(s, "interrupt.shadow", &events->interrupt.shadow);
	state_u8(s, "nmi.injected", &events->nmi.injected);
	state_u8(s, "nmi.pending", &events->nmi.pending);
	state_u8(s, "nmi.masked", &events->nmi.masked);
	state_u32(s, "sipi_vector", &events->sipi_vector);
	state_u32(s, "events.flags", &events->flags);
	state_u8(s, "smi.smm", &events->smi.smm);
	state_u8(s, "smi.pending", &events->smi.pending);
	state_u8(s, "smi.smm_inside_nmi", &events->smi.smm_inside_nmi);
	state_u8(s, "smi.latched_init", &events->smi.latched_init);
	state_u8(s, "triple_fault.pending", &events->triple_fault.pending);
}

static void xcr_fields(struct state *s, struct kvm_xcrs *xcrs)
{
	state_length(s, "xcrs", &xcrs->nr_xcrs, COUNT_OF(xcrs->xcrs));
	state_u32(s, "xcrs.flags", &xcrs->flags);
	for (uint32_t i = 0; i < xcrs->nr_xcrs; i++) {
		state_u32(s, "xcr", &xcrs->xcrs[i].xcr);
		u64(s, "xcr.value", &xcrs->xcrs[i].value);
	}
}

/* Room for an array of the length that comes next, when loading. NULL after a failure. */
static void *room(struct state *s, void *there, size_t head_bytes, size_t bytes)
{
	if (!state_is_loading(s))
		return there;
	return state_failed(s) ? NULL : calloc(1, head_bytes + bytes);
}

static void msr_fields(struct state *s, struct cpu_saved *saved)
{
	uint32_t count = saved->msrs ? saved->msrs->nmsrs : 0;

	state_length(s, "msrs", &count, CPU_SAVED_MSRS_MAX);
	saved->msrs =
		room(s, saved->msrs, sizeof(*saved->msrs), count * sizeof(saved->msrs->entries[0]));
	state_require(s, saved->msrs != NULL, "msrs", "memory for it");
	for (uint32_t i = 0; saved->msrs && i < count && !state_failed(s); i++) {
		state_u32(s, "msr.index", &saved->msrs->entries[i].index);
		u64(s, "msr.value", &saved->msrs->entries[i].data);
	}
	if (saved->msrs)
		saved->msrs->nmsrs = count;
}

static void cpuid_entry_fields(struct state *s, struct kvm_cpuid_entry2 *entry)
{
	state_u32(s, "cpuid.function", &entry->function);
	state_u32(s, "cpuid.index", &entry->index);
	state_u32(s, "cpuid.flags", &entry->flags);
	state_u32(s, "cpuid.eax", &entry->eax);
	state_u32(s, "cpuid.ebx", &entry->ebx);
	state_u32(s, "cpuid.ecx", &entry->ecx);
	state_u32(s, "cpuid.edx", &entry->edx);
}

static void cpuid_fields(struct state *s, struct cpu_saved *saved)
{
	uint32_t count = saved->cpuid ? saved->cpuid->nent : 0;

	state_length(s, "cpuid", &count, CPU_SAVED_CPUID_MAX);
	saved->cpuid = room(s, saved->cpuid, sizeof(*saved->cpuid),
			    count * sizeof(saved->cpuid->entries[0]));
	state_require(s, saved->cpuid != NULL, "cpuid", "memory for it");
	for (uint32_t i = 0; saved->cpuid && i < count && !state_failed(s); i++)
		cpuid_entry_fields(s, &saved->cpuid->entries[i]);
	if (saved->cpuid)
		saved->cpuid->nent = count;
}

static void fields(struct state *s, void *object)
{
	struct cpu_saved *saved = object;

	cpuid_fields(s, saved);
	state_u32(s, "mp_state", &saved->mp_state.mp_state);
	general_fields(s, &saved->regs);
	special_fields(s, &saved->sregs);
	debug_fields(s, &saved->debugregs);
	event_fields(s, &saved->events);
	xcr_fields(s, &saved->xcrs);
	state_u32(s, "tsc_khz", &saved->tsc_khz);
	state_bytes(s, "lapic", saved->lapic.regs, sizeof(saved->lapic.regs));
	state_blob(s, "xsave", &saved->xsave, &saved->xsave_bytes, CPU_SAVED_XSAVE_BYTES);
	msr_fields(s, saved);
}

const struct state_kind cpu_saved_kind = {.name = "vcpu",
					  .version = 1,
					  .oldest = 1,
					  .fields = fields};
