// SPDX-License-Identifier: Apache-2.0
/*
 * Building a machine.
 *
 * DOC: The order in machine_build() is the order of dependence, and of cost: vCPUs are created before anything is
 * registered on KVM's buses, because each registration makes later ones, and vCPU creation, wait for readers.
 */
#include "vmm/machine.h"

#include <errno.h>
#include <stdlib.h>
#include "vmm/arch/x86_64/cmdline.h"
#include "vmm/arch/x86_64/cpu.h"
#include "vmm/core/checked.h"
#include "vmm/core/log.h"
#include "vmm/devices/i8042.h"
#include "vmm/devices/serial.h"
#include "vmm/kvm_ahead.h"
#include "vmm/machine_internal.h"
#include "vmm/uffd_watch.h"

enum guest_pages machine_guest_pages(const struct machine_plan *plan)
{
	static const enum guest_pages guest_pages_of[] = {
		[HUGE_PAGES_NONE] = GUEST_PAGES_DEFAULT,
		[HUGE_PAGES_TRANSPARENT] = GUEST_PAGES_TRANSPARENT,
		[HUGE_PAGES_2M] = GUEST_PAGES_HUGETLB_2M,
	};

	return guest_pages_of[plan->config->huge_pages];
}

static int map_memory(struct machine *machine, const struct machine_plan *plan, struct error *err)
{
	struct guest_region regions[GUEST_MEMORY_REGIONS_MAX];
	uint64_t size_bytes;

	if (mul_overflows(plan->config->mem_size_mib, MIB(1), &size_bytes) ||
	    size_bytes > LAYOUT_RAM_MAX_BYTES) {
		log_warn("The memory size is truncated to the %llu MiB that the address map has "
			 "room for.",
			 (unsigned long long)(LAYOUT_RAM_MAX_BYTES >> 20));
		size_bytes = LAYOUT_RAM_MAX_BYTES;
	}
	return guest_memory_map(&machine->memory, regions, boot_ram_layout(size_bytes, regions),
				machine_guest_pages(plan), err);
}

static int create_vcpus(struct machine *machine, const struct machine_plan *plan, struct error *err)
{
	int ret = vcpus_create(&machine->vcpus, &machine->kvm, (unsigned)plan->config->vcpu_count,
			       &machine->ports, &machine->mmio, machine->loop, err);

	machine->vcpus.filters = plan->filters;
	machine->vcpus.on_end = machine->on_end;
	machine->vcpus.on_end_ctx = machine->on_end_ctx;
	return ret;
}

static int make_kvm(struct machine *machine, const struct machine_plan *plan, struct error *err)
{
	struct kvm_ahead *ahead = plan->ahead ? *plan->ahead : NULL;

	if (ahead)
		*plan->ahead = NULL;
	if (kvm_ahead_take(ahead, &machine->kvm))
		return 0;
	int ret = kvm_open(&machine->kvm, err);

	return ret ? ret : kvm_create_irqchip(&machine->kvm, err);
}

int machine_make_vm(struct machine *machine, const struct machine_plan *plan, struct error *err)
{
	if (machine->kvm.vm_fd >= 0)
		return 0;
	cpu_allow_amx();
	int ret = make_kvm(machine, plan, err);

	if (!ret)
		ret = create_vcpus(machine, plan, err);
	return ret;
}

int machine_add_memory(struct machine *machine, const struct machine_plan *plan, struct error *err)
{
	bool track = plan->config->track_dirty_pages;

	if (track && guest_memory_track(&machine->memory))
		return error_set_os(err, -ENOMEM, "no memory to track dirty pages");
	return kvm_add_memory(&machine->kvm, &machine->memory, track, err);
}

static int set_cpuid(struct machine *machine, const struct machine_plan *plan, struct error *err)
{
	struct cpu_topology topology = {
		.vcpu_count = (unsigned)plan->config->vcpu_count,
		.smt = plan->config->smt,
	};
	cleanup_free struct kvm_cpuid2 *supported = cpu_supported_cpuid(machine->kvm.kvm_fd, err);
	int ret = supported ? 0 : err->code;

	for (unsigned i = 0; i < machine->vcpus.count && !ret; i++)
		ret = cpu_set_cpuid(machine->vcpus.vcpu[i].fd, supported, i, &topology, err);
	return ret;
}

static int set_vcpu_state(struct machine *machine, const struct boot_kernel *kernel,
			  struct error *err)
{
	int ret = 0;

	for (unsigned i = 0; i < machine->vcpus.count && !ret; i++) {
		int fd = machine->vcpus.vcpu[i].fd;

		ret = cpu_set_boot_msrs(fd, err);
		if (!ret)
			ret = cpu_set_boot_state(fd, kernel, err);
		if (!ret)
			ret = cpu_set_lapic_lint(fd, err);
	}
	return ret;
}

/* The user's command line and what tells the guest of its devices (§4.3's order). */
static int make_cmdline(const struct machine *machine, const struct machine_plan *plan,
			struct cmdline *cmdline, struct error *err)
{
	int ret = cmdline_init(cmdline, plan->boot_args, err);

	if (!ret)
		ret = cmdline_append(cmdline, err, "pci=off");
	if (!ret && plan->root)
		ret = cmdline_append(cmdline, err, "%s", plan->root);
	for (unsigned i = 0; i < machine->virtio_count && !ret; i++)
		ret = cmdline_append(cmdline, err, "virtio_mmio.device=4K@0x%llx:%u",
				     (unsigned long long)machine->windows[i].base,
				     machine->windows[i].gsi);
	return ret;
}

static int load_guest(struct machine *machine, const struct machine_plan *plan, struct error *err)
{
	struct firmware_machine hardware = {
		.vcpu_count = machine->vcpus.count,
		.virtio = machine->windows,
		.virtio_count = machine->virtio_count,
	};
	struct boot_kernel kernel;
	struct boot_initrd initrd = {.size_bytes = 0};
	struct cmdline cmdline;
	gpa_t rsdp = gpa(0);
	int ret = boot_load_kernel(&machine->memory, plan->kernel_fd, &kernel, err);

	if (!ret && plan->initrd_fd >= 0)
		ret = boot_load_initrd(&machine->memory, plan->initrd_fd, &kernel, &initrd, err);
	if (!ret)
		ret = firmware_write_acpi(&machine->memory, &hardware, &rsdp, err);
	if (!ret)
		ret = firmware_write_mptable(&machine->memory, &hardware, err);
	if (!ret)
		ret = make_cmdline(machine, plan, &cmdline, err);
	if (!ret)
		ret = boot_write_params(&machine->memory, &kernel, &initrd, cmdline.text, rsdp,
					err);
	if (!ret)
		ret = set_vcpu_state(machine, &kernel, err);
	return ret;
}

/* The plan's prepared machine; NULL: there is none, or it has another number of vCPUs. */
static struct machine *take_prepared(const struct machine_plan *plan)
{
	struct machine *machine = plan->prepared ? *plan->prepared : NULL;
	unsigned wanted = (unsigned)plan->config->vcpu_count;

	if (!machine)
		return NULL;
	*plan->prepared = NULL;
	if (machine->vcpus.count == wanted)
		return machine;
	log_info("Prepared for %u vCPUs, but it is to be %u: making the KVM machine anew.",
		 machine->vcpus.count, wanted);
	machine_free(machine);
	return NULL;
}

struct machine *machine_new(const struct machine_plan *plan, struct loop *loop)
{
	struct machine *machine = take_prepared(plan);

	if (machine)
		return machine;
	machine = calloc(1, sizeof(*machine));
	if (!machine)
		return NULL;
	machine->loop = loop;
	machine->on_end = plan->on_end;
	machine->on_end_ctx = plan->on_end_ctx;
	machine->kvm = (struct kvm){.kvm_fd = -1, .vm_fd = -1};
	machine->memory.file_fd = -1;
	machine->uffd = (struct uffd){.fd = -1, .socket = -1};
	machine->serial_irq.eventfd = -1;
	machine->keyboard_irq.eventfd = -1;
	machine->ged_irq.eventfd = -1;
	return machine;
}

static int build(struct machine *machine, const struct machine_plan *plan, struct error *err)
{
	int ret = map_memory(machine, plan, err);

	if (!ret)
		ret = machine_make_vm(machine, plan, err);
	if (!ret)
		ret = set_cpuid(machine, plan, err);
	if (!ret)
		ret = machine_add_memory(machine, plan, err);
	if (!ret)
		ret = machine_add_platform_devices(machine, plan, err);
	if (!ret)
		ret = machine_start_generation(machine, err);
	if (!ret)
		ret = machine_add_virtio_devices(machine, plan, err);
	if (!ret)
		ret = load_guest(machine, plan, err);
	if (!ret)
		ret = machine_bind_events(machine, err);
	if (!ret)
		ret = vcpus_start_threads(&machine->vcpus, err);
	return ret;
}

struct machine *machine_prepare(const struct machine_plan *plan, struct loop *loop,
				struct error *err)
{
	struct machine *machine = machine_new(plan, loop);
	int ret = machine ? machine_make_vm(machine, plan, err)
			  : error_set_os(err, -ENOMEM, "no memory for a machine");

	if (!ret)
		ret = kvm_settle_memory_map(&machine->kvm, err);
	if (!ret)
		ret = vcpus_start_threads(&machine->vcpus, err);
	if (!ret)
		return machine;
	machine_free(machine);
	return NULL;
}

struct machine *machine_build(const struct machine_plan *plan, struct loop *loop, struct error *err)
{
	struct machine *machine = machine_new(plan, loop);

	if (!machine) {
		error_set_os(err, -ENOMEM, "no memory for a machine");
		return NULL;
	}
	if (build(machine, plan, err)) {
		machine_free(machine);
		return NULL;
	}
	return machine;
}

void machine_run(struct machine *machine)
{
	if (machine->running)
		return;
	machine->running = true;
	serial_set_input(machine->serial, true);
	for (unsigned i = 0; i < machine->virtio_count; i++)
		virtio_device_resume(machine->virtio[i].dev);
	vcpus_run(&machine->vcpus);
}

void machine_pause(struct machine *machine)
{
	if (!machine->running)
		return;
	machine->running = false;
	vcpus_pause(&machine->vcpus);
	serial_set_input(machine->serial, false);
	for (unsigned i = 0; i < machine->virtio_count; i++)
		virtio_device_pause(machine->virtio[i].dev);
}

void machine_send_ctrl_alt_del(struct machine *machine)
{
	i8042_send_ctrl_alt_del(machine->i8042);
}

void machine_free(struct machine *machine)
{
	if (!machine)
		return;
	vcpus_free(&machine->vcpus);
	for (unsigned i = 0; i < machine->virtio_count; i++)
		virtio_device_detach(machine->virtio[i].dev);
	machine_free_platform_devices(machine);
	/*
	 * Nothing of this process can touch the memory any more, but KVM may still wait for a page that a vCPU has
	 * asked for: from Linux 6.9 on its close waits for that, which would be for ever if the handler is dead.
	 */
	uffd_watch_stop(machine->uffd_watch);
	uffd_close(&machine->uffd);
	kvm_close(&machine->kvm);
	guest_memory_free(&machine->memory);
	free(machine);
}
