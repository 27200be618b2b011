// SPDX-License-Identifier: Apache-2.0
/* Interrupt controllers, interval timer and clock: out of KVM, into KVM, and their fields. */
#include "vmm/arch/x86_64/chips_saved.h"

#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include "vmm/core/checked.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static uint64_t wall_clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int get_chip(int vm_fd, unsigned id, struct kvm_irqchip *chip, struct error *err)
{
	*chip = (struct kvm_irqchip){.chip_id = id};
	if (ioctl(vm_fd, KVM_GET_IRQCHIP, chip) < 0)
		return error_set_errno(err, "KVM_GET_IRQCHIP failed");
	return 0;
}

int chips_saved_get(int vm_fd, struct chips_saved *saved, struct error *err)
{
	struct kvm_clock_data clock = {0};
	int ret = get_chip(vm_fd, KVM_IRQCHIP_PIC_MASTER, &saved->pic[0], err);

	if (!ret)
		ret = get_chip(vm_fd, KVM_IRQCHIP_PIC_SLAVE, &saved->pic[1], err);
	if (!ret)
		ret = get_chip(vm_fd, KVM_IRQCHIP_IOAPIC, &saved->ioapic, err);
	if (!ret && saved->has_pit && ioctl(vm_fd, KVM_GET_PIT2, &saved->pit) < 0)
		ret = error_set_errno(err, "KVM_GET_PIT2 failed");
	if (!ret && ioctl(vm_fd, KVM_GET_CLOCK, &clock) < 0)
		ret = error_set_errno(err, "KVM_GET_CLOCK failed");
	/* Read here, not by KVM, so that hosts whose KVM does not say it can move the clock forward too. */
	saved->realtime_ns = wall_clock_ns();
	saved->clock_ns = clock.clock;
	return ret;
}

int chips_saved_set_clock(int vm_fd, const struct chips_saved *saved, bool forward,
			  struct error *err)
{
	struct kvm_clock_data clock = {.clock = saved->clock_ns};
	uint64_t now_ns = wall_clock_ns();

	/* A host whose clock is behind the saved one does not move the guest's backward. */
	if (forward && now_ns > saved->realtime_ns)
		clock.clock += now_ns - saved->realtime_ns;
	if (ioctl(vm_fd, KVM_SET_CLOCK, &clock) < 0)
		return error_set_errno(err, "KVM_SET_CLOCK failed");
	return 0;
}

static int set_chip(int vm_fd, const struct kvm_irqchip *chip, struct error *err)
{
	struct kvm_irqchip copy = *chip;

	if (ioctl(vm_fd, KVM_SET_IRQCHIP, &copy) < 0)
		return error_set_errno(err, "KVM_SET_IRQCHIP failed");
	return 0;
}

int chips_saved_set(int vm_fd, const struct chips_saved *saved, struct error *err)
{
	int ret = set_chip(vm_fd, &saved->pic[0], err);

	if (!ret)
		ret = set_chip(vm_fd, &saved->pic[1], err);
	if (!ret)
		ret = set_chip(vm_fd, &saved->ioapic, err);
	if (!ret && saved->has_pit) {
		struct kvm_pit_state2 pit = saved->pit;

		if (ioctl(vm_fd, KVM_SET_PIT2, &pit) < 0)
			ret = error_set_errno(err, "KVM_SET_PIT2 failed");
	}
	return ret;
}

/* ---- fields ---- */

static void pic_fields(struct state *s, struct kvm_pic_state *pic)
{
	uint8_t *registers[] = {
		&pic->last_irr,
		&pic->irr,
		&pic->imr,
		&pic->isr,
		&pic->priority_add,
		&pic->irq_base,
		&pic->read_reg_select,
		&pic->poll,
		&pic->special_mask,
		&pic->init_state,
		&pic->auto_eoi,
		&pic->rotate_on_auto_eoi,
		&pic->special_fully_nested_mode,
		&pic->init4,
		&pic->elcr,
		&pic->elcr_mask,
	};

	for (size_t i = 0; i < COUNT_OF(registers); i++)
		state_u8(s, "pic", registers[i]);
}

static void ioapic_fields(struct state *s, struct kvm_ioapic_state *ioapic)
{
	uint64_t base = ioapic->base_address;

	state_u64(s, "ioapic.base", &base);
	ioapic->base_address = base;
	state_u32(s, "ioapic.ioregsel", &ioapic->ioregsel);
	state_u32(s, "ioapic.id", &ioapic->id);
	state_u32(s, "ioapic.irr", &ioapic->irr);
	for (size_t i = 0; i < COUNT_OF(ioapic->redirtbl); i++) {
		uint64_t entry = ioapic->redirtbl[i].bits;

		state_u64(s, "ioapic.redirection", &entry);
		ioapic->redirtbl[i].bits = entry;
	}
}

static void pit_fields(struct state *s, struct kvm_pit_state2 *pit)
{
	state_u32(s, "pit.flags", &pit->flags);
	for (size_t i = 0; i < COUNT_OF(pit->channels); i++) {
		struct kvm_pit_channel_state *channel = &pit->channels[i];

		state_u32(s, "pit.count", &channel->count);
		state_u16(s, "pit.latched_count", &channel->latched_count);
		state_u8(s, "pit.count_latched", &channel->count_latched);
		state_u8(s, "pit.status_latched", &channel->status_latched);
		state_u8(s, "pit.status", &channel->status);
		state_u8(s, "pit.read_state", &channel->read_state);
		state_u8(s, "pit.write_state", &channel->write_state);
		state_u8(s, "pit.write_latch", &channel->write_latch);
		state_u8(s, "pit.rw_mode", &channel->rw_mode);
		state_u8(s, "pit.mode", &channel->mode);
		state_u8(s, "pit.bcd", &channel->bcd);
		state_u8(s, "pit.gate", &channel->gate);
	}
}

static void fields(struct state *s, void *object)
{
	struct chips_saved *saved = object;

	for (unsigned i = 0; i < CHIPS_PICS; i++) {
		pic_fields(s, &saved->pic[i].chip.pic);
		saved->pic[i].chip_id = i == 0 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE;
	}
	ioapic_fields(s, &saved->ioapic.chip.ioapic);
	saved->ioapic.chip_id = KVM_IRQCHIP_IOAPIC;
	state_bool(s, "has_pit", &saved->has_pit);
	if (saved->has_pit)
		pit_fields(s, &saved->pit);
	state_u64(s, "clock_ns", &saved->clock_ns);
	state_u64(s, "realtime_ns", &saved->realtime_ns);
}

const struct state_kind chips_saved_kind = {.name = "chips",
					    .version = 1,
					    .oldest = 1,
					    .fields = fields};
