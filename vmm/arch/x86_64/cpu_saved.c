// SPDX-License-Identifier: Apache-2.0
/*
 * Taking a vCPU out of KVM and putting it back.
 *
 * DOC: Order. Getting: the multiprocessing state first, because asking for it makes KVM accept pending INITs, which
 * change registers. Setting: special registers before the local APIC (they carry its base and mode), the APIC before
 * MSRs (the deadline timer is one of its modes), the TSC's deadline after the TSC, pending events last, because other
 * calls may queue exceptions.
 *
 * DOC: Which MSRs. What KVM says that it has, and the memory type ranges, which older KVMs leave out of that list. Left
 * out are those of features that guests never see here (nested virtualization, Hyper-V). What cannot be read for a
 * vCPU with this CPUID is not part of its state. What cannot be set is an error, unless it has that value already.
 */
#include "vmm/arch/x86_64/cpu_saved.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MSR_TSC             0x10u
#define MSR_MTRR_PHYS_FIRST 0x200u
#define MSR_MTRR_PHYS_LAST  0x20fu
#define MSR_MTRR_DEF_TYPE   0x2ffu
#define MSR_VMX_FIRST       0x480u
#define MSR_VMX_LAST        0x493u
#define MSR_TSC_DEADLINE    0x6e0u
#define MSR_HYPERV_FIRST    0x40000000u
#define MSR_HYPERV_LAST     0x400001ffu
/* The TSC of another host is scaled when it differs by more than this, as Linux's own clock code tolerates. */
#define TSC_TOLERANCE_PPM 250u

static const uint32_t fixed_mtrrs[] = {0x250, 0x258, 0x259, 0x268, 0x269, 0x26a,
				       0x26b, 0x26c, 0x26d, 0x26e, 0x26f};

void cpu_saved_free(struct cpu_saved *saved)
{
	free(saved->xsave);
	free(saved->msrs);
	free(saved->cpuid);
	*saved = (struct cpu_saved){0};
}

/* ioctl() with the request as a value: C libraries disagree on its type. KVM only reads through what it is to set. */
static int vcpu_call(int vcpu_fd, unsigned long call, const void *argument)
{
	return (int)syscall(SYS_ioctl, vcpu_fd, call, argument);
}

static int failed(struct error *err, const char *call)
{
	return error_set_errno(err, "%s failed", call);
}

/* ---- vector state ---- */

static int get_xsave(const struct cpu_saved_host *host, int vcpu_fd, struct cpu_saved *saved,
		     struct error *err)
{
	/* Where KVM knows larger state (AMX), this says how much room it takes. */
	int bytes = ioctl(host->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);
	bool large = bytes > (int)sizeof(struct kvm_xsave);

	if (!large)
		bytes = (int)sizeof(struct kvm_xsave);
	if (bytes > (int)CPU_SAVED_XSAVE_BYTES)
		return error_set(err, -E2BIG,
				 "KVM's vector state has %d bytes, at most %u expected", bytes,
				 CPU_SAVED_XSAVE_BYTES);
	saved->xsave = calloc(1, (size_t)bytes);
	if (!saved->xsave)
		return error_set_os(err, -ENOMEM, "no memory for a vCPU's state");
	saved->xsave_bytes = (uint32_t)bytes;
	if (vcpu_call(vcpu_fd, large ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, saved->xsave) < 0)
		return failed(err, "KVM_GET_XSAVE");
	return 0;
}

static int set_xsave(const struct cpu_saved_host *host, int vcpu_fd, const struct cpu_saved *saved,
		     struct error *err)
{
	int known = ioctl(host->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);
	size_t room =
		known > (int)sizeof(struct kvm_xsave) ? (size_t)known : sizeof(struct kvm_xsave);

	if (saved->xsave_bytes > room)
		return error_set(
			err, -EINVAL,
			"the snapshot's vector state has %u bytes, this host's KVM has room "
			"for %zu",
			saved->xsave_bytes, room);
	/* KVM reads as much as it knows, however much was saved. */
	uint8_t *copy = calloc(1, room);
	int ret = 0;

	if (!copy)
		return error_set_os(err, -ENOMEM, "no memory for a vCPU's state");
	memcpy(copy, saved->xsave, saved->xsave_bytes);
	if (ioctl(vcpu_fd, KVM_SET_XSAVE, copy) < 0)
		ret = failed(err, "KVM_SET_XSAVE");
	free(copy);
	return ret;
}

/* ---- model-specific registers ---- */

static bool is_left_out(uint32_t index)
{
	return (index >= MSR_VMX_FIRST && index <= MSR_VMX_LAST) ||
	       (index >= MSR_HYPERV_FIRST && index <= MSR_HYPERV_LAST);
}

static void add_msr(struct kvm_msrs *msrs, uint32_t index)
{
	if (is_left_out(index) || msrs->nmsrs == CPU_SAVED_MSRS_MAX)
		return;
	for (unsigned i = 0; i < msrs->nmsrs; i++)
		if (msrs->entries[i].index == index)
			return;
	msrs->entries[msrs->nmsrs++] = (struct kvm_msr_entry){.index = index};
}

/* The deadline goes to the end of the list: it counts from the TSC that stands before it. */
static void put_deadline_last(struct kvm_msrs *msrs)
{
	for (unsigned i = 0; i < msrs->nmsrs; i++) {
		struct kvm_msr_entry entry = msrs->entries[i];

		if (entry.index != MSR_TSC_DEADLINE)
			continue;
		memmove(&msrs->entries[i], &msrs->entries[i + 1],
			(msrs->nmsrs - i - 1) * sizeof(entry));
		msrs->entries[msrs->nmsrs - 1] = entry;
		return;
	}
}

/* Room for as many MSRs as a list may have. Freed by free(). */
static struct kvm_msrs *new_msrs(struct error *err)
{
	struct kvm_msrs *msrs =
		calloc(1, sizeof(*msrs) + CPU_SAVED_MSRS_MAX * sizeof(msrs->entries[0]));

	if (!msrs)
		error_set_os(err, -ENOMEM, "no memory for a vCPU's state");
	return msrs;
}

/* What KVM says that vCPUs have, added to msrs. */
static int add_known_msrs(int kvm_fd, struct kvm_msr_list *list, struct kvm_msrs *msrs,
			  struct error *err)
{
	list->nmsrs = CPU_SAVED_MSRS_MAX;
	if (ioctl(kvm_fd, KVM_GET_MSR_INDEX_LIST, list) < 0)
		return failed(err, "KVM_GET_MSR_INDEX_LIST");
	for (unsigned i = 0; i < list->nmsrs; i++)
		add_msr(msrs, list->indices[i]);
	for (size_t i = 0; i < sizeof(fixed_mtrrs) / sizeof(fixed_mtrrs[0]); i++)
		add_msr(msrs, fixed_mtrrs[i]);
	for (uint32_t index = MSR_MTRR_PHYS_FIRST; index <= MSR_MTRR_PHYS_LAST; index++)
		add_msr(msrs, index);
	add_msr(msrs, MSR_MTRR_DEF_TYPE);
	put_deadline_last(msrs);
	return 0;
}

/* What to ask a vCPU for, into saved->msrs. */
static int list_msrs(int kvm_fd, struct cpu_saved *saved, struct error *err)
{
	struct kvm_msr_list *list =
		calloc(1, sizeof(*list) + CPU_SAVED_MSRS_MAX * sizeof(list->indices[0]));

	saved->msrs = new_msrs(err);
	int ret = saved->msrs ? 0 : err->code;

	if (!list)
		ret = error_set_os(err, -ENOMEM, "no memory for a vCPU's state");
	else if (!ret)
		ret = add_known_msrs(kvm_fd, list, saved->msrs, err);
	free(list);
	return ret;
}

/* entries[first..count) to KVM, by way of room: how many it took, -1 with errno. */
static int write_batch(int vcpu_fd, struct kvm_msrs *room, const struct kvm_msr_entry *entries,
		       unsigned first, unsigned count)
{
	room->nmsrs = count - first;
	memcpy(room->entries, entries + first, room->nmsrs * sizeof(entries[0]));
	return ioctl(vcpu_fd, KVM_SET_MSRS, room);
}

/* The values of entries[first..count) from KVM, likewise. */
static int read_batch(int vcpu_fd, struct kvm_msrs *room, struct kvm_msr_entry *entries,
		      unsigned first, unsigned count)
{
	room->nmsrs = count - first;
	memcpy(room->entries, entries + first, room->nmsrs * sizeof(entries[0]));
	int done = ioctl(vcpu_fd, KVM_GET_MSRS, room);

	if (done > 0)
		memcpy(entries + first, room->entries, (unsigned)done * sizeof(entries[0]));
	return done;
}

static void drop_msr(struct kvm_msrs *msrs, unsigned at)
{
	memmove(&msrs->entries[at], &msrs->entries[at + 1],
		(msrs->nmsrs - at - 1) * sizeof(msrs->entries[0]));
	msrs->nmsrs--;
}

/* KVM clears a deadline that has passed before it has told the guest; "now" makes the timer fire again, which does no harm. */
static void mend_deadline(struct kvm_msrs *msrs)
{
	const struct kvm_msr_entry *tsc = NULL;
	struct kvm_msr_entry *last = msrs->nmsrs ? &msrs->entries[msrs->nmsrs - 1] : NULL;

	for (unsigned i = 0; i < msrs->nmsrs; i++)
		if (msrs->entries[i].index == MSR_TSC)
			tsc = &msrs->entries[i];
	if (tsc && last->index == MSR_TSC_DEADLINE && last->data == 0)
		last->data = tsc->data;
}

static int read_msrs(int vcpu_fd, struct kvm_msrs *room, struct kvm_msrs *msrs, struct error *err)
{
	unsigned at = 0;

	while (at < msrs->nmsrs) {
		int done = read_batch(vcpu_fd, room, msrs->entries, at, msrs->nmsrs);

		if (done < 0)
			return failed(err, "KVM_GET_MSRS");
		at += (unsigned)done;
		if (at < msrs->nmsrs)
			drop_msr(msrs, at);
	}
	mend_deadline(msrs);
	return 0;
}

static int get_msrs(const struct cpu_saved_host *host, int vcpu_fd, struct cpu_saved *saved,
		    struct error *err)
{
	int ret = list_msrs(host->kvm_fd, saved, err);
	struct kvm_msrs *room = ret ? NULL : new_msrs(err);

	if (!ret)
		ret = room ? read_msrs(vcpu_fd, room, saved->msrs, err) : err->code;
	free(room);
	return ret;
}

/* Has the vCPU that value already? */
static bool msr_is(int vcpu_fd, struct kvm_msrs *room, const struct kvm_msr_entry *wanted)
{
	struct kvm_msr_entry entry = {.index = wanted->index};

	return read_batch(vcpu_fd, room, &entry, 0, 1) == 1 && entry.data == wanted->data;
}

static int write_msrs(int vcpu_fd, struct kvm_msrs *room, const struct kvm_msrs *msrs,
		      struct error *err)
{
	unsigned at = 0, count = msrs->nmsrs;

	while (at < count) {
		int done = write_batch(vcpu_fd, room, msrs->entries, at, count);

		if (done < 0)
			return failed(err, "KVM_SET_MSRS");
		at += (unsigned)done;
		if (at == count)
			break;
		const struct kvm_msr_entry *refused = &msrs->entries[at++];

		/* Zero: a register that this host does not have, and the guest has not used. */
		if (refused->data != 0 && !msr_is(vcpu_fd, room, refused))
			return error_set(err, -ENOTSUP,
					 "this host's KVM refuses to set model-specific register "
					 "0x%x to 0x%llx",
					 refused->index, (unsigned long long)refused->data);
	}
	return 0;
}

static int set_msrs(int vcpu_fd, const struct cpu_saved *saved, struct error *err)
{
	struct kvm_msrs *room = new_msrs(err);
	int ret = room ? write_msrs(vcpu_fd, room, saved->msrs, err) : err->code;

	free(room);
	return ret;
}

/* ---- CPUID ---- */

static int get_cpuid(int vcpu_fd, struct cpu_saved *saved, struct error *err)
{
	saved->cpuid = calloc(1, sizeof(*saved->cpuid) +
					 CPU_SAVED_CPUID_MAX * sizeof(saved->cpuid->entries[0]));
	if (!saved->cpuid)
		return error_set_os(err, -ENOMEM, "no memory for a vCPU's state");
	saved->cpuid->nent = CPU_SAVED_CPUID_MAX;
	if (ioctl(vcpu_fd, KVM_GET_CPUID2, saved->cpuid) < 0)
		return failed(err, "KVM_GET_CPUID2");
	return 0;
}

int cpu_saved_set_cpuid(int vcpu_fd, const struct cpu_saved *saved, struct error *err)
{
	if (ioctl(vcpu_fd, KVM_SET_CPUID2, saved->cpuid) < 0)
		return failed(err, "KVM_SET_CPUID2");
	return 0;
}

/* ---- the whole ---- */

int cpu_saved_get(const struct cpu_saved_host *host, int vcpu_fd, struct cpu_saved *saved,
		  struct error *err)
{
	*saved = (struct cpu_saved){0};
	const struct {
		unsigned long call;
		void *out;
		const char *name;
	} parts[] = {
		{KVM_GET_MP_STATE, &saved->mp_state, "KVM_GET_MP_STATE"},
		{KVM_GET_REGS, &saved->regs, "KVM_GET_REGS"},
		{KVM_GET_SREGS, &saved->sregs, "KVM_GET_SREGS"},
		{KVM_GET_XCRS, &saved->xcrs, "KVM_GET_XCRS"},
		{KVM_GET_DEBUGREGS, &saved->debugregs, "KVM_GET_DEBUGREGS"},
		{KVM_GET_LAPIC, &saved->lapic, "KVM_GET_LAPIC"},
		{KVM_GET_VCPU_EVENTS, &saved->events, "KVM_GET_VCPU_EVENTS"},
	};
	int ret = 0;

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if (vcpu_call(vcpu_fd, parts[i].call, parts[i].out) < 0)
			return failed(err, parts[i].name);
	int tsc_khz = ioctl(vcpu_fd, KVM_GET_TSC_KHZ, 0);

	saved->tsc_khz = tsc_khz > 0 ? (uint32_t)tsc_khz : 0;
	ret = get_xsave(host, vcpu_fd, saved, err);
	if (!ret)
		ret = get_cpuid(vcpu_fd, saved, err);
	if (!ret)
		ret = get_msrs(host, vcpu_fd, saved, err);
	return ret;
}

/* A guest that moved to a faster or slower host goes on counting at its old rate, where KVM can do that. */
static int set_tsc_rate(const struct cpu_saved_host *host, int vcpu_fd,
			const struct cpu_saved *saved, struct error *err)
{
	int khz = ioctl(vcpu_fd, KVM_GET_TSC_KHZ, 0);

	if (khz <= 0 || saved->tsc_khz == 0)
		return 0;
	uint64_t here = (uint64_t)khz, there = saved->tsc_khz;
	uint64_t apart = here > there ? here - there : there - here;

	if (apart * 1000000u <= here * TSC_TOLERANCE_PPM)
		return 0;
	if (ioctl(host->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_CONTROL) <= 0)
		return error_set(
			err, -ENOTSUP,
			"the snapshot's TSC runs at %u kHz, this host's at %d kHz, and its "
			"KVM cannot scale it",
			saved->tsc_khz, khz);
	if (ioctl(vcpu_fd, KVM_SET_TSC_KHZ, (unsigned long)saved->tsc_khz) < 0)
		return failed(err, "KVM_SET_TSC_KHZ");
	return 0;
}

int cpu_saved_set(const struct cpu_saved_host *host, int vcpu_fd, const struct cpu_saved *saved,
		  struct error *err)
{
	const struct {
		unsigned long call;
		const void *in;
		const char *name;
	} parts[] = {
		{KVM_SET_MP_STATE, &saved->mp_state, "KVM_SET_MP_STATE"},
		{KVM_SET_REGS, &saved->regs, "KVM_SET_REGS"},
		{KVM_SET_SREGS, &saved->sregs, "KVM_SET_SREGS"},
		{KVM_SET_XCRS, &saved->xcrs, "KVM_SET_XCRS"},
		{KVM_SET_DEBUGREGS, &saved->debugregs, "KVM_SET_DEBUGREGS"},
		{KVM_SET_LAPIC, &saved->lapic, "KVM_SET_LAPIC"},
	};
	int ret = set_tsc_rate(host, vcpu_fd, saved, err);

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]) && !ret; i++)
		if (vcpu_call(vcpu_fd, parts[i].call, parts[i].in) < 0)
			ret = failed(err, parts[i].name);
	if (!ret)
		ret = set_xsave(host, vcpu_fd, saved, err);
	if (!ret)
		ret = set_msrs(vcpu_fd, saved, err);
	if (!ret && vcpu_call(vcpu_fd, KVM_SET_VCPU_EVENTS, &saved->events) < 0)
		ret = failed(err, "KVM_SET_VCPU_EVENTS");
	return ret;
}
