// SPDX-License-Identifier: Apache-2.0
/* VMClock page (layout: the vmclock ABI 1.0, as in Linux's uapi/linux/vmclock-abi.h). */
#include "vmm/devices/vmclock.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include "vmm/core/bytes.h"

struct vmclock_page {
	/* constant fields */
	le32_t magic;
	le32_t size;
	le16_t version;
	uint8_t counter_id;
	uint8_t time_type;
	/* fields under seq_count, which is odd during a change */
	le32_t seq_count;
	le64_t disruption_marker;
	le64_t flags;
	uint8_t pad[2];
	uint8_t clock_status;
	uint8_t leap_second_smearing_hint;
	le16_t tai_offset_sec;
	uint8_t leap_indicator;
	uint8_t counter_period_shift;
	le64_t counter_value;
	le64_t counter_period_frac_sec;
	le64_t counter_period_esterror_rate_frac_sec;
	le64_t counter_period_maxerror_rate_frac_sec;
	le64_t time_sec;
	le64_t time_frac_sec;
	le64_t time_esterror_nanosec;
	le64_t time_maxerror_nanosec;
	le64_t vm_generation_counter;
};
_Static_assert(offsetof(struct vmclock_page, disruption_marker) == 0x10, "vmclock ABI");
_Static_assert(offsetof(struct vmclock_page, counter_value) == 0x28, "vmclock ABI");
_Static_assert(offsetof(struct vmclock_page, vm_generation_counter) == 0x68, "vmclock ABI");

#define VMCLOCK_MAGIC           0x4b4c4356u /* "VCLK" */
#define VMCLOCK_PAGE_BYTES      0x1000u
#define VMCLOCK_VERSION         1u
#define VMCLOCK_COUNTER_INVALID 0xffu
#define VMCLOCK_TIME_UTC        0u
#define FLAG_VM_GEN_COUNTER     (UINT64_C(1) << 8)
#define FLAG_NOTIFICATION       (UINT64_C(1) << 9)

static struct vmclock_page *page_at(const struct guest_memory *mem, gpa_t addr, struct error *err)
{
	struct vmclock_page *page = guest_memory_at(mem, addr, VMCLOCK_PAGE_BYTES);

	if (!page)
		error_set(err, -EFAULT, "the VMClock page lies outside guest memory");
	return page;
}

int vmclock_init(const struct guest_memory *mem, gpa_t addr, struct error *err)
{
	struct vmclock_page *page = page_at(mem, addr, err);

	if (!page)
		return err->code;
	/* No counter is described: guests take the time from kvm-clock, and disruptions from here. */
	*page = (struct vmclock_page){
		.magic = le32_make(VMCLOCK_MAGIC),
		.size = le32_make(VMCLOCK_PAGE_BYTES),
		.version = le16_make(VMCLOCK_VERSION),
		.counter_id = VMCLOCK_COUNTER_INVALID,
		.time_type = VMCLOCK_TIME_UTC,
		.flags = le64_make(FLAG_VM_GEN_COUNTER | FLAG_NOTIFICATION),
	};
	guest_memory_mark(mem, addr, VMCLOCK_PAGE_BYTES);
	return 0;
}

static void add_one(le64_t *counter)
{
	*counter = le64_make(le64_get(*counter) + 1);
}

int vmclock_disrupt(const struct guest_memory *mem, gpa_t addr, struct error *err)
{
	struct vmclock_page *page = page_at(mem, addr, err);

	if (!page)
		return err->code;
	/* No vCPU runs: the sequence goes from even to even, as a reader that was interrupted in its midst must see. */
	page->seq_count = le32_make((le32_get(page->seq_count) | 1u) + 1);
	add_one(&page->disruption_marker);
	add_one(&page->vm_generation_counter);
	guest_memory_mark(mem, addr, VMCLOCK_PAGE_BYTES);
	return 0;
}
