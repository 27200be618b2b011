// SPDX-License-Identifier: Apache-2.0
/* What a machine consists of, for the files that build it. */
#ifndef VMM_MACHINE_INTERNAL_H
#define VMM_MACHINE_INTERNAL_H

#include "virtio/mmio.h"
#include "vmm/arch/x86_64/boot.h"
#include "vmm/arch/x86_64/firmware.h"
#include "snapshots/uffd.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/arch/x86_64/pit.h"
#include "vmm/core/bus.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/irq.h"
#include "vmm/kvm.h"
#include "vmm/machine.h"
#include "vmm/vcpu.h"

struct acpi_pm;
struct i8042;
struct serial;
struct uffd_watch;

struct machine {
	struct loop *loop;
	struct kvm kvm;
	struct guest_memory memory;
	struct uffd uffd;              /* who brings the memory's pages; descriptors -1: nobody */
	struct uffd_watch *uffd_watch; /* NULL: nobody to watch over */
	struct bus ports;
	struct bus mmio;
	struct vcpus vcpus;
	bool running;

	struct serial *serial;
	struct i8042 *i8042;
	struct acpi_pm *acpi_pm;
	struct pit pit;
	struct boot_timer *boot_timer; /* NULL: not asked for */
	struct irq_line serial_irq, keyboard_irq, ged_irq;

	struct virtio_mmio virtio[LAYOUT_VIRTIO_MAX];
	struct firmware_virtio_device windows[LAYOUT_VIRTIO_MAX];
	unsigned virtio_count;

	void (*on_end)(void *ctx, int exit_code, const char *reason);
	void *on_end_ctx;
};

/* An empty machine, or the plan's prepared one if it fits; freed by machine_free() however far it came. NULL: no memory. */
struct machine *machine_new(const struct machine_plan *plan, struct loop *loop) must_check;

/* The KVM machine with interrupt controllers and vCPUs, unless it was prepared. */
int machine_make_vm(struct machine *machine, const struct machine_plan *plan,
		    struct error *err) must_check;

enum guest_pages machine_guest_pages(const struct machine_plan *plan);

/* Gives the mapped memory to KVM, tracked if the plan says so. */
int machine_add_memory(struct machine *machine, const struct machine_plan *plan,
		       struct error *err) must_check;

/* What is not virtio: serial port, keyboard controller, power management, boot timer, generation devices. */
int machine_add_platform_devices(struct machine *machine, const struct machine_plan *plan,
				 struct error *err) must_check;
/* What the guest reads about its identity: a first one, or another one than it knew. */
int machine_start_generation(struct machine *machine, struct error *err) must_check;
int machine_renew_generation(struct machine *machine, struct error *err) must_check;
void machine_free_platform_devices(struct machine *machine);

/* Puts the virtio devices on the bus, a window and an interrupt each; binds nothing in KVM yet. */
int machine_add_virtio_devices(struct machine *machine, const struct machine_plan *plan,
			       struct error *err) must_check;

/* Interrupt lines and notifications of all devices. Late: each registration costs more once others exist. */
int machine_bind_events(struct machine *machine, struct error *err) must_check;

#endif
