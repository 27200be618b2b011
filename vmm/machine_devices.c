// SPDX-License-Identifier: Apache-2.0
/* The devices of a machine: what exists, where it answers, and how it interrupts. */
#include "vmm/machine_internal.h"

#include <errno.h>
#include <sys/eventfd.h>
#include "vmm/devices/acpi_pm.h"
#include "vmm/devices/i8042.h"
#include "vmm/devices/serial.h"
#include "vmm/devices/vmclock.h"
#include "vmm/devices/vmgenid.h"
#include "vmm/signals.h"

static void on_reset(void *ctx)
{
	struct machine *machine = ctx;

	machine->on_end(machine->on_end_ctx, EXIT_CODE_OK, "the guest asked for a reset");
}

static void on_power_off(void *ctx)
{
	struct machine *machine = ctx;

	machine->on_end(machine->on_end_ctx, EXIT_CODE_OK, "the guest powered off");
}

static int open_irq(struct irq_line *line, uint32_t gsi, struct error *err)
{
	line->gsi = gsi;
	line->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return line->eventfd < 0 ? error_set_errno(err, "no eventfd for interrupt %u", gsi) : 0;
}

static int add_to_bus(struct bus *bus, uint64_t base, uint64_t size, const struct bus_ops *ops,
		      void *ctx, const char *name, struct error *err)
{
	int ret = bus_add(bus, base, size, ops, ctx);

	return ret ? error_set_os(err, ret, "no place on the bus for %s at 0x%llx", name,
				  (unsigned long long)base)
		   : 0;
}

static int add_serial(struct machine *machine, const struct machine_plan *plan, struct error *err)
{
	int ret = open_irq(&machine->serial_irq, LAYOUT_GSI_SERIAL, err);

	if (ret)
		return ret;
	machine->serial = serial_new(machine->loop, &machine->serial_irq, plan->serial, err);
	if (!machine->serial)
		return err->code;
	return add_to_bus(&machine->ports, LAYOUT_PORT_SERIAL, SERIAL_PORTS, &serial_bus_ops,
			  machine->serial, "the serial port", err);
}

static int add_i8042(struct machine *machine, struct error *err)
{
	int ret = open_irq(&machine->keyboard_irq, LAYOUT_GSI_KEYBOARD, err);

	if (ret)
		return ret;
	machine->i8042 = i8042_new(&machine->keyboard_irq, on_reset, machine);
	if (!machine->i8042)
		return error_set_os(err, -ENOMEM, "no keyboard controller");
	return add_to_bus(&machine->ports, LAYOUT_PORT_I8042, I8042_PORTS, &i8042_bus_ops,
			  machine->i8042, "the keyboard controller", err);
}

static int add_acpi_pm(struct machine *machine, struct error *err)
{
	machine->acpi_pm = acpi_pm_new(on_power_off, on_reset, machine);
	if (!machine->acpi_pm)
		return error_set_os(err, -ENOMEM, "no power management");
	return add_to_bus(&machine->ports, LAYOUT_PORT_SLEEP, ACPI_PM_PORTS, &acpi_pm_bus_ops,
			  machine->acpi_pm, "power management", err);
}

static int add_pit(struct machine *machine, struct error *err)
{
	pit_init(&machine->pit, machine->kvm.vm_fd);
	return add_to_bus(&machine->ports, PIT_PORT_BASE, PIT_PORTS, &pit_bus_ops, &machine->pit,
			  "the interval timer", err);
}

static int add_boot_timer(struct machine *machine, const struct machine_plan *plan,
			  struct error *err)
{
	machine->boot_timer = boot_timer_new();
	if (!machine->boot_timer)
		return error_set_os(err, -ENOMEM, "no boot timer");
	boot_timer_set_start(machine->boot_timer, plan->started);
	return add_to_bus(&machine->mmio, LAYOUT_BOOT_TIMER, BOOT_TIMER_BYTES, &boot_timer_bus_ops,
			  machine->boot_timer, "the boot timer", err);
}

int machine_start_generation(struct machine *machine, struct error *err)
{
	int ret = vmgenid_renew(&machine->memory, gpa(LAYOUT_VMGENID), err);

	return ret ? ret : vmclock_init(&machine->memory, gpa(LAYOUT_VMCLOCK), err);
}

int machine_renew_generation(struct machine *machine, struct error *err)
{
	int ret = vmgenid_renew(&machine->memory, gpa(LAYOUT_VMGENID), err);

	return ret ? ret : vmclock_disrupt(&machine->memory, gpa(LAYOUT_VMCLOCK), err);
}

int machine_add_platform_devices(struct machine *machine, const struct machine_plan *plan,
				 struct error *err)
{
	int ret = add_serial(machine, plan, err);

	if (!ret)
		ret = add_i8042(machine, err);
	if (!ret)
		ret = add_acpi_pm(machine, err);
	if (!ret)
		ret = add_pit(machine, err);
	if (!ret && plan->boot_timer)
		ret = add_boot_timer(machine, plan, err);
	if (!ret)
		ret = open_irq(&machine->ged_irq, LAYOUT_GSI_GED, err);
	return ret;
}

void machine_free_platform_devices(struct machine *machine)
{
	serial_free(machine->serial);
	i8042_free(machine->i8042);
	acpi_pm_free(machine->acpi_pm);
	boot_timer_free(machine->boot_timer);
	pit_destroy(&machine->pit);
	close_fd(machine->serial_irq.eventfd);
	close_fd(machine->keyboard_irq.eventfd);
	close_fd(machine->ged_irq.eventfd);
}

static int add_virtio(struct machine *machine, struct virtio_device *dev, struct error *err)
{
	unsigned index = machine->virtio_count;

	if (index == LAYOUT_VIRTIO_MAX)
		return error_set(err, -ENOSPC,
				 "Could not allocate GSI: The requested resource is not available. "
				 "(a microVM has room for %u virtio devices)",
				 LAYOUT_VIRTIO_MAX);
	uint64_t base = LAYOUT_VIRTIO_MMIO + (uint64_t)index * LAYOUT_VIRTIO_MMIO_BYTES;
	uint32_t gsi = LAYOUT_GSI_VIRTIO_FIRST + index;
	int ret = virtio_device_attach(dev, &machine->memory, machine->loop, gsi);

	/* Counted before the result is looked at: what attach made half is detached with the machine. */
	virtio_mmio_init(&machine->virtio[index], dev);
	machine->windows[index] = (struct firmware_virtio_device){.base = base, .gsi = gsi};
	machine->virtio_count++;
	if (ret)
		return error_set_os(err, ret, "no eventfds for %s %s", dev->ops->name, dev->id);
	return add_to_bus(&machine->mmio, base, LAYOUT_VIRTIO_MMIO_BYTES, &virtio_mmio_bus_ops,
			  &machine->virtio[index], dev->ops->name, err);
}

int machine_add_virtio_devices(struct machine *machine, const struct machine_plan *plan,
			       struct error *err)
{
	for (unsigned i = 0; i < plan->virtio_count; i++) {
		int ret = add_virtio(machine, plan->virtio[i], err);

		if (ret)
			return ret;
	}
	return 0;
}

static int bind_virtio(struct machine *machine, unsigned index, struct error *err)
{
	struct virtio_device *dev = machine->virtio[index].dev;
	gpa_t notify = gpa(machine->windows[index].base + VIRTIO_MMIO_QUEUE_NOTIFY);
	int ret = kvm_bind_irq(&machine->kvm, &dev->irq, err);

	for (unsigned i = 0; i < dev->ops->queue_count && !ret; i++)
		ret = kvm_bind_ioeventfd(&machine->kvm, notify, i, dev->notify_fds[i], err);
	return ret;
}

int machine_bind_events(struct machine *machine, struct error *err)
{
	int ret = kvm_bind_irq(&machine->kvm, &machine->serial_irq, err);

	if (!ret)
		ret = kvm_bind_irq(&machine->kvm, &machine->keyboard_irq, err);
	if (!ret)
		ret = kvm_bind_irq(&machine->kvm, &machine->ged_irq, err);
	for (unsigned i = 0; i < machine->virtio_count && !ret; i++)
		ret = bind_virtio(machine, i, err);
	return ret;
}
