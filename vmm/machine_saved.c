// SPDX-License-Identifier: Apache-2.0
/*
 * A machine's sections in a snapshot: saving them, and building a machine from them.
 *
 * DOC: The order of a restore. vCPUs are created before anything is registered on KVM's buses, as for a start. The clock
 * comes before the vCPUs' registers, because one of them has KVM write the time of day into guest memory, reckoned from
 * the clock; interrupt controllers come after the vCPUs, whose local APICs take what is pending; devices after both. The
 * guest's new identity is in its memory, and the interrupt that tells of it pending, before its first instruction.
 */
#include "vmm/machine.h"

#include <errno.h>
#include <string.h>
#include "snapshots/memory.h"
#include "snapshots/state.h"
#include "snapshots/working_set.h"
#include "vmm/arch/x86_64/boot.h"
#include "vmm/arch/x86_64/chips_saved.h"
#include "vmm/arch/x86_64/cpu.h"
#include "vmm/arch/x86_64/cpu_saved.h"
#include "vmm/arch/x86_64/host_cpu.h"
#include "vmm/core/checked.h"
#include "vmm/core/metrics.h"
#include "vmm/devices/i8042.h"
#include "vmm/devices/serial.h"
#include "vmm/machine_internal.h"
#include "vmm/uffd_watch.h"

/* ---- memory's layout ---- */

/* Where RAM is. It follows from the machine's size; the file says it so that a change of the map cannot go unseen. */
static void memory_fields(struct state *s, void *object)
{
	struct guest_memory *mem = object;
	uint32_t count = mem->region_count;

	state_u32(s, "regions", &count);
	state_require(s, count == mem->region_count, "regions",
		      "the regions of a machine of that size");
	for (unsigned i = 0; i < mem->region_count; i++) {
		uint64_t start = mem->regions[i].start.v, size_bytes = mem->regions[i].size_bytes;

		state_u64(s, "region.start", &start);
		state_u64(s, "region.size", &size_bytes);
		state_require(s,
			      start == mem->regions[i].start.v &&
				      size_bytes == mem->regions[i].size_bytes,
			      "region", "the regions of a machine of that size");
	}
}

static const struct state_kind memory_kind = {.name = "memory",
					      .version = 1,
					      .oldest = 1,
					      .fields = memory_fields};

struct guest_memory *machine_memory(struct machine *machine)
{
	return &machine->memory;
}

int machine_collect_dirty(struct machine *machine, struct error *err)
{
	if (!machine->memory.dirty)
		return 0;
	/* Devices write to their rings all the time: these are taken as written instead of being watched. */
	for (unsigned i = 0; i < machine->virtio_count; i++) {
		const struct virtio_device *dev = machine->virtio[i].dev;

		for (unsigned q = 0; dev->activated && q < dev->ops->queue_count; q++)
			if (dev->queues[q].ready)
				virtqueue_mark(&dev->queues[q]);
	}
	return kvm_collect_dirty(&machine->kvm, &machine->memory, err);
}

int machine_stamp(struct machine *machine, const uint8_t *stamp, struct error *err)
{
	if (guest_memory_write(&machine->memory, gpa(LAYOUT_STAMP), stamp, LAYOUT_STAMP_BYTES))
		return error_set(err, -EFAULT, "the snapshot's stamp lies outside guest memory");
	return 0;
}

/* ---- saving ---- */

static struct cpu_saved_host host_of(const struct machine *machine)
{
	return (struct cpu_saved_host){.kvm_fd = machine->kvm.kvm_fd, .vm_fd = machine->kvm.vm_fd};
}

static int save_vcpu(struct machine *machine, unsigned index, struct state_file *file,
		     struct error *err)
{
	const struct cpu_saved_host host = host_of(machine);
	struct cpu_saved saved;
	int ret = cpu_saved_get(&host, machine->vcpus.vcpu[index].fd, &saved, err);

	if (ret)
		error_prefix(err, "Cannot save vCPU %u: ", index);
	else
		ret = state_save(file, &cpu_saved_kind, index, &saved, err);
	cpu_saved_free(&saved);
	return ret;
}

static int save_chips(struct machine *machine, struct state_file *file, struct error *err)
{
	struct chips_saved saved = {.has_pit = machine->pit.made};
	int ret = chips_saved_get(machine->kvm.vm_fd, &saved, err);

	return ret ? ret : state_save(file, &chips_saved_kind, 0, &saved, err);
}

int machine_save(struct machine *machine, struct state_file *file, struct error *err)
{
	int ret = state_save(file, &memory_kind, 0, &machine->memory, err);

	for (unsigned i = 0; i < machine->vcpus.count && !ret; i++)
		ret = save_vcpu(machine, i, file, err);
	if (!ret)
		ret = save_chips(machine, file, err);
	if (!ret)
		ret = state_save(file, &serial_kind, 0, machine->serial, err);
	if (!ret)
		ret = state_save(file, &i8042_kind, 0, machine->i8042, err);
	for (unsigned i = 0; i < machine->virtio_count && !ret; i++)
		ret = state_save(file, &virtio_mmio_kind, i, &machine->virtio[i], err);
	return ret;
}

/* ---- restoring ---- */

int machine_check_processor(const struct state_file *state, struct error *err)
{
	struct cpu_saved saved = {0};
	int ret = state_load(state, &cpu_saved_kind, 0, &saved, err);
	cleanup_fd int kvm_fd = ret ? -1 : kvm_open_device(err);

	if (!ret && kvm_fd < 0)
		ret = err->code;
	cpu_allow_amx();
	cleanup_free struct kvm_cpuid2 *supported = ret ? NULL : cpu_supported_cpuid(kvm_fd, err);

	if (!ret)
		ret = supported ? host_cpu_check(saved.cpuid, supported, err) : err->code;
	cpu_saved_free(&saved);
	return ret;
}

static int fail_memory_file(struct error *err)
{
	return error_prefix(err,
			    "Failed to load guest memory: Error creating guest memory from file: ");
}

static int map_file(struct machine *machine, const struct machine_plan *plan,
		    const struct machine_source *source, struct error *err)
{
	struct guest_region regions[GUEST_MEMORY_REGIONS_MAX];
	unsigned count = boot_ram_layout(plan->config->mem_size_mib << 20, regions);

	if (guest_memory_map_file(&machine->memory, regions, count, machine_guest_pages(plan),
				  source->memory->fd, err))
		return fail_memory_file(err);
	source->memory->fd = -1;
	return 0;
}

/* What is compressed cannot be mapped: memory of its own, filled before the guest runs. */
static int unpack_file(struct machine *machine, const struct machine_plan *plan,
		       const struct machine_source *source, struct error *err)
{
	struct guest_region regions[GUEST_MEMORY_REGIONS_MAX];
	unsigned count = boot_ram_layout(plan->config->mem_size_mib << 20, regions);
	int ret =
		guest_memory_map(&machine->memory, regions, count, machine_guest_pages(plan), err);

	machine->memory.foreign = true;
	if (!ret)
		ret = compressed_fill(&source->memory->index, machine->memory.mapping, err);
	return ret ? fail_memory_file(err) : 0;
}

static int watch_handler(struct machine *machine, const struct machine_plan *plan,
			 struct error *err)
{
	const struct uffd_watch_options options = {
		.uffd = &machine->uffd,
		.mem = &machine->memory,
		.loop = machine->loop,
		.filters = plan->filters,
		.on_dead = plan->on_frozen,
		.on_dead_ctx = plan->on_frozen_ctx,
	};

	machine->uffd_watch = uffd_watch_start(&options, err);
	return machine->uffd_watch ? 0 : err->code;
}

static int map_foreign(struct machine *machine, const struct machine_plan *plan,
		       const struct machine_source *source, struct error *err)
{
	struct guest_region regions[GUEST_MEMORY_REGIONS_MAX];
	unsigned count = boot_ram_layout(plan->config->mem_size_mib << 20, regions);
	bool huge = plan->config->huge_pages == HUGE_PAGES_2M;
	int ret =
		guest_memory_map(&machine->memory, regions, count, machine_guest_pages(plan), err);

	machine->memory.foreign = true;
	if (!ret)
		ret = uffd_open(&machine->uffd, &machine->memory, huge, source->uffd_path, err);
	if (!ret)
		ret = watch_handler(machine, plan, err);
	return ret ? error_prefix(err, "Failed to load guest memory: Error creating guest memory "
				       "from uffd: ")
		   : 0;
}

static int map_memory(struct machine *machine, const struct machine_plan *plan,
		      const struct machine_source *source, struct error *err)
{
	int ret;

	if (source->uffd_path)
		ret = map_foreign(machine, plan, source, err);
	else if (source->memory->is_compressed)
		ret = unpack_file(machine, plan, source, err);
	else
		ret = map_file(machine, plan, source, err);
	return ret ? ret : state_load(source->state, &memory_kind, 0, &machine->memory, err);
}

/* Memory of another snapshot would be a guest that goes mad; here it is a sentence. Files were looked at before. */
static int check_stamp(const struct machine *machine, const struct machine_source *source,
		       struct error *err)
{
	const uint8_t *there =
		guest_memory_at(&machine->memory, gpa(LAYOUT_STAMP), LAYOUT_STAMP_BYTES);

	if (!there || memcmp(there, source->stamp, LAYOUT_STAMP_BYTES) != 0)
		return error_set(err, -EINVAL,
				 "the memory does not belong to this state: they are of different "
				 "snapshots");
	return 0;
}

/* vCPUs exist and stand where their sections say; saved is the caller's to free. */
static int load_vcpus(struct machine *machine, const struct machine_source *source,
		      struct cpu_saved *saved, struct error *err)
{
	const struct cpu_saved_host host = host_of(machine);
	int ret = 0;

	for (unsigned i = 0; i < machine->vcpus.count && !ret; i++) {
		int fd = machine->vcpus.vcpu[i].fd;

		ret = state_load(source->state, &cpu_saved_kind, i, saved, err);
		if (!ret)
			ret = cpu_saved_set_cpuid(fd, saved, err);
		if (!ret)
			ret = cpu_saved_set(&host, fd, saved, err);
		cpu_saved_free(saved);
		if (ret)
			return error_prefix(err, "Failed to restore vCPU %u: ", i);
	}
	return 0;
}

static int load_processor(struct machine *machine, const struct machine_source *source,
			  struct error *err)
{
	struct cpu_saved vcpu = {0};
	struct chips_saved chips = {0};
	int ret = state_load(source->state, &chips_saved_kind, 0, &chips, err);

	if (!ret)
		ret = chips_saved_set_clock(machine->kvm.vm_fd, &chips, source->clock_realtime,
					    err);
	if (!ret)
		ret = load_vcpus(machine, source, &vcpu, err);
	if (!ret && chips.has_pit && pit_make(&machine->pit))
		ret = error_set_errno(err, "KVM_CREATE_PIT2 failed");
	return ret ? ret : chips_saved_set(machine->kvm.vm_fd, &chips, err);
}

static int load_devices(struct machine *machine, const struct machine_source *source,
			struct error *err)
{
	unsigned sections = state_count(source->state, virtio_mmio_kind.name);
	int ret = state_load(source->state, &serial_kind, 0, machine->serial, err);

	if (!ret)
		ret = state_load(source->state, &i8042_kind, 0, machine->i8042, err);
	if (!ret && sections != machine->virtio_count)
		ret = error_set(err, -EINVAL,
				"Invalid snapshot state: %u virtio devices in the configuration, "
				"state of %u",
				machine->virtio_count, sections);
	for (unsigned i = 0; i < machine->virtio_count && !ret; i++) {
		ret = state_load(source->state, &virtio_mmio_kind, i, &machine->virtio[i], err);
		if (!ret && virtio_device_restore(machine->virtio[i].dev))
			ret = error_set(err, -EINVAL,
					"Invalid snapshot state: section `virtio` %u: the queues "
					"of %s cannot be used",
					i, machine->virtio[i].dev->id);
	}
	return ret;
}

/* Interrupts that were on their way through the host's kernel when the snapshot was taken are in no state: again. */
static void repeat_interrupts(struct machine *machine)
{
	for (unsigned i = 0; i < machine->virtio_count; i++)
		virtio_device_repeat_interrupt(machine->virtio[i].dev);
	serial_repeat_interrupt(machine->serial);
	i8042_repeat_interrupt(machine->i8042);
	irq_raise(&machine->ged_irq);
}

static int restore(struct machine *machine, const struct machine_plan *plan,
		   const struct machine_source *source, struct error *err)
{
	int ret = map_memory(machine, plan, source, err);

	if (!ret && source->uffd_path)
		ret = check_stamp(machine, source, err);
	if (!ret)
		ret = machine_make_vm(machine, plan, err);
	if (!ret)
		ret = machine_add_memory(machine, plan, err);
	if (!ret)
		ret = machine_add_platform_devices(machine, plan, err);
	if (!ret)
		ret = machine_add_virtio_devices(machine, plan, err);
	if (!ret)
		ret = load_processor(machine, source, err);
	if (!ret)
		ret = load_devices(machine, source, err);
	if (!ret)
		ret = machine_renew_generation(machine, err);
	if (!ret)
		ret = machine_bind_events(machine, err);
	if (!ret)
		ret = vcpus_start_threads(&machine->vcpus, err);
	return ret;
}

struct machine *machine_restore(const struct machine_plan *plan,
				const struct machine_source *source, struct loop *loop,
				struct error *err)
{
	struct machine *machine = machine_new(plan, loop);

	if (!machine) {
		error_set_os(err, -ENOMEM, "no memory for a machine");
		return NULL;
	}
	if (restore(machine, plan, source, err)) {
		machine_free(machine);
		return NULL;
	}
	serial_set_input(machine->serial, false);
	vcpus_mark_stopped(&machine->vcpus);
	repeat_interrupts(machine);
	return machine;
}

/* ---- mapping ahead ---- */

/*
 * The guest waits meanwhile. What is in memory already takes a fraction of a microsecond a page; where a disk is waited
 * for, the guest had better run.
 */
#define PREFAULT_US_MAX     5000u
#define PREFAULT_STEP_PAGES 64u

/* Where a page of the memory file is in the guest. */
static gpa_t address_of_page(const struct guest_memory *mem, uint64_t page)
{
	const uint8_t *host = mem->mapping + page * GUEST_PAGE_BYTES;
	unsigned i = mem->region_count - 1;

	while (i > 0 && host < mem->regions[i].host)
		i--;
	return gpa(mem->regions[i].start.v + (uint64_t)(host - mem->regions[i].host));
}

void machine_prefault(struct machine *machine, const struct working_set *set)
{
	uint64_t end_us = metrics_now_us() + PREFAULT_US_MAX;
	const struct guest_memory *mem = &machine->memory;

	for (uint32_t i = 0; i < set->count; i++) {
		uint64_t page = set->ranges[i].first, left = set->ranges[i].count;

		while (left > 0) {
			/* Steps are aligned, as regions are, so that none crosses from one to the next. */
			uint64_t count = PREFAULT_STEP_PAGES - page % PREFAULT_STEP_PAGES;

			count = count < left ? count : left;
			if (metrics_now_us() > end_us ||
			    kvm_prefault(&machine->kvm, machine->vcpus.vcpu[0].fd,
					 address_of_page(mem, page), count * GUEST_PAGE_BYTES))
				return;
			page += count;
			left -= count;
		}
	}
}
