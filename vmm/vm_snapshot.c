// SPDX-License-Identifier: Apache-2.0
/*
 * Snapshots of a microVM: creating one, becoming one.
 *
 * DOC: Two files, of which vm_pair.h says how they stay together. A save has the vCPUs and devices stand still, and changes
 * nothing of the microVM: one that fails costs only its time. A load makes the microVM through the same doors as a
 * configuration by API.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "snapshots/memory.h"
#include "snapshots/output.h"
#include "snapshots/working_set.h"
#include "vmm/core/log.h"
#include "vmm/core/loop.h"
#include "vmm/core/metrics_groups.h"
#include "vmm/footprint.h"
#include "vmm/machine.h"
#include "vmm/seccomp.h"
#include "vmm/signals.h"
#include "vmm/vm_pair.h"
#include "vmm/vm_saved.h"

/* ---- creating ---- */

static int save_config(const struct vm *vm, struct state_file *file, struct error *err)
{
	struct saved_config *config = malloc(sizeof(*config));
	int ret;

	if (!config)
		return error_set_os(err, -ENOMEM, "no memory for a snapshot's state");
	saved_config_borrow(config, vm);
	ret = state_save(file, &saved_config_kind, 0, config, err);
	free(config);
	return ret;
}

static int save_state(struct vm *vm, struct saved_manifest *manifest, struct state_file *file,
		      struct error *err)
{
	int ret = state_save(file, &saved_manifest_kind, 0, manifest, err);

	if (!ret)
		ret = save_config(vm, file, err);
	if (!ret)
		ret = machine_save(vm->machine, file, err);
	state_file_finish(file);
	return ret;
}

static int write_state(const struct output *output, const struct state_file *file,
		       struct error *err)
{
	int ret = output_write(output, 0, file->bytes, file->len, err);

	return ret ? ret : output_sync(output, err);
}

static int write_memory(const struct output *output, const struct guest_memory *mem,
			enum snapshot_compression compression, const uint64_t *pages,
			struct error *err)
{
	int ret = compression == SNAPSHOT_COMPRESSION_LZ4
			  ? compressed_write(output, mem->mapping, mem->total_bytes, pages, err)
			  : memory_write(output, mem, pages, err);

	return ret ? ret : output_sync(output, err);
}

/* A difference onto the memory file that it begins at makes that a whole one again, as engines expect of Firecracker. */
static int choose_mode(const struct vm *vm, const struct snapshot_create_config *config,
		       enum output_mode *mode, struct error *err)
{
	uint64_t bytes = machine_memory(vm->machine)->total_bytes;
	bool is_base = false;
	int ret = 0;

	if (config->snapshot_type == SNAPSHOT_DIFF &&
	    config->compression == SNAPSHOT_COMPRESSION_NONE && vm->has_base)
		ret = pair_is_memory_of(config->mem_file_path, bytes, vm->base_stamp, &is_base,
					err);
	*mode = is_base ? OUTPUT_OVER : OUTPUT_NEW;
	return ret;
}

/* Both files, complete and under their names, or neither. */
static int write_files(struct vm *vm, const struct snapshot_create_config *config,
		       const struct state_file *file, const uint64_t *pages, struct error *err)
{
	const struct guest_memory *mem = machine_memory(vm->machine);
	struct output state = {.fd = -1}, memory = {.fd = -1};
	enum output_mode mode;

	pair_finish_earlier(config->snapshot_path, config->mem_file_path);
	int ret = choose_mode(vm, config, &mode, err);

	if (!ret)
		ret = output_open(&state, config->snapshot_path, mem->file_fd, OUTPUT_NEW, err);
	if (!ret)
		ret = output_open(&memory, config->mem_file_path, mem->file_fd, mode, err);
	if (!ret)
		ret = write_state(&state, file, err);
	if (!ret)
		ret = write_memory(&memory, mem, config->compression, pages, err);
	if (!ret)
		ret = pair_commit(&state, &memory, err);
	output_abort(&memory);
	output_abort(&state);
	return ret;
}

/* A snapshot that fails takes nothing from the next difference. */
static int write_snapshot(struct vm *vm, const struct snapshot_create_config *config,
			  const struct state_file *file, struct error *err)
{
	bool diff = config->snapshot_type == SNAPSHOT_DIFF;
	struct guest_memory *mem = machine_memory(vm->machine);
	int ret = machine_collect_dirty(vm->machine, err);
	uint64_t *pages = ret ? NULL : dirty_pages(&vm->history, mem, diff, err);

	if (!pages)
		return err->code;
	ret = write_files(vm, config, file, pages, err);
	if (ret)
		free(pages);
	else
		dirty_taken(&vm->history, mem, diff, pages);
	return ret;
}

/* The next difference begins at the snapshot with this stamp. */
static void set_base(struct vm *vm, const uint8_t *stamp)
{
	memcpy(vm->base_stamp, stamp, sizeof(vm->base_stamp));
	vm->has_base = true;
}

static int create(struct vm *vm, const struct snapshot_create_config *config, struct error *err)
{
	struct saved_manifest manifest;
	struct state_file file;
	int ret = saved_manifest_make(&manifest, err);

	if (!ret)
		ret = machine_stamp(vm->machine, manifest.stamp, err);
	if (ret)
		return ret;
	manifest.memory_bytes = machine_memory(vm->machine)->total_bytes;
	manifest.vcpus = (uint32_t)vm->machine_config.vcpu_count;
	manifest.is_diff = config->snapshot_type == SNAPSHOT_DIFF;
	ret = state_file_new(&file, err);
	if (!ret)
		ret = save_state(vm, &manifest, &file, err);
	if (ret)
		error_prefix(err, "Cannot save the microVM state: ");
	else
		ret = write_snapshot(vm, config, &file, err);
	if (!ret)
		set_base(vm, manifest.stamp);
	state_file_free(&file);
	return ret;
}

int vm_create_snapshot(struct vm *vm, const struct snapshot_create_config *config,
		       struct error *err)
{
	bool diff = config->snapshot_type == SNAPSHOT_DIFF;
	uint64_t start_us = metrics_now_us();

	if (vm->state == VM_NOT_STARTED)
		return error_set(err, -EINVAL, VM_FAULT_BEFORE_START);
	if (vm->state != VM_PAUSED)
		return error_set(err, -EBUSY,
				 "Cannot save the microVM state: Operation not allowed: "
				 "save/restore unavailable while running");
	int ret = create(vm, config, err);

	if (!ret)
		metric_store(diff ? &process_metrics.latencies_us.vmm_diff_create_snapshot
				  : &process_metrics.latencies_us.vmm_full_create_snapshot,
			     metrics_now_us() - start_us);
	return ret;
}

/* ---- loading ---- */

struct load {
	const struct snapshot_load_config *request;
	struct state_file file;
	struct saved_manifest manifest;
	struct saved_config config;
};

/* The same processor and kernel need no closer look; otherwise each feature is compared. */
static int check_host(const struct load *load, struct error *err)
{
	const struct saved_manifest *then = &load->manifest;
	struct saved_manifest now;
	int ret = saved_manifest_make(&now, err);

	if (ret)
		return ret;
	if (strcmp(then->cpu.vendor, now.cpu.vendor) != 0)
		return error_set(err, -ENOTSUP,
				 "the snapshot was taken on a processor of %s, this one is of %s",
				 then->cpu.vendor, now.cpu.vendor);
	if (then->cpu.features_hash == now.cpu.features_hash &&
	    strcmp(then->host_kernel, now.host_kernel) == 0)
		return 0;
	log_warn(
		"The snapshot was taken on another host (%s family %u model %u stepping %u, kernel "
		"%s): comparing processor features.",
		then->cpu.vendor, then->cpu.family, then->cpu.model, then->cpu.stepping,
		then->host_kernel);
	return machine_check_processor(&load->file, err);
}

static int read_state(struct load *load, struct error *err)
{
	int ret = state_file_read(&load->file, load->request->snapshot_path, err);

	if (ret)
		return error_prefix(err, "Failed to get snapshot state from file: ");
	ret = state_load(&load->file, &saved_manifest_kind, 0, &load->manifest, err);
	if (!ret)
		ret = state_load(&load->file, &saved_config_kind, 0, &load->config, err);
	return ret ? ret : check_host(load, err);
}

static int replace(char **text, const char *with, struct error *err)
{
	char *copy = strdup(with);

	if (!copy)
		return error_set_os(err, -ENOMEM, "no memory for a path");
	free(*text);
	*text = copy;
	return 0;
}

static int override_net(struct saved_config *config, const struct net_override *override,
			struct error *err)
{
	for (unsigned i = 0; i < config->net_count; i++)
		if (strcmp(config->nets[i].iface_id, override->iface_id) == 0)
			return replace(&config->nets[i].host_dev_name, override->host_dev_name,
				       err);
	return error_set(err, -ENODEV, "Unknown Network Device.");
}

static int override_drive(struct saved_config *config, const struct drive_override *override,
			  struct error *err)
{
	for (unsigned i = 0; i < config->drive_count; i++)
		if (strcmp(config->drives[i].drive_id, override->drive_id) == 0)
			return replace(&config->drives[i].path_on_host, override->path_on_host,
				       err);
	return error_set(err, -ENODEV, "Unknown Block Device: %s", override->drive_id);
}

static int apply_overrides(struct load *load, struct error *err)
{
	static const enum huge_pages huge_pages_of[] = {
		[LOAD_HUGE_PAGES_NONE] = HUGE_PAGES_NONE,
		[LOAD_HUGE_PAGES_TRANSPARENT] = HUGE_PAGES_TRANSPARENT,
		[LOAD_HUGE_PAGES_2M] = HUGE_PAGES_2M,
	};
	const struct snapshot_load_config *request = load->request;
	struct saved_config *config = &load->config;
	int ret = 0;

	for (unsigned i = 0; i < request->network_override_count && !ret; i++)
		ret = override_net(config, &request->network_overrides[i], err);
	for (unsigned i = 0; i < request->drive_override_count && !ret; i++)
		ret = override_drive(config, &request->drive_overrides[i], err);
	if (!ret && request->has_vsock_override)
		ret = config->has_vsock ? replace(&config->vsock.uds_path,
						  request->vsock_override.uds_path, err)
					: error_set(err, -ENODEV, "Unknown Vsock Device.");
	config->machine.track_dirty_pages =
		request->track_dirty_pages || request->enable_diff_snapshots;
	if (request->huge_pages != LOAD_HUGE_PAGES_SNAPSHOT)
		config->machine.huge_pages = huge_pages_of[request->huge_pages];
	return ret;
}

/* Through the same doors as a configuration by API, so that the same is refused. The kernel is not opened any more. */
static int configure(struct vm *vm, struct saved_config *config, struct error *err)
{
	int ret = vm_set_machine_config(vm, &config->machine, err);

	vm->boot_source = config->boot;
	vm->has_boot_source = config->has_boot_source;
	vm->has_boot_timer = config->boot_timer;
	config->boot = (struct boot_source_config){0};
	for (unsigned i = 0; i < config->drive_count && !ret; i++)
		ret = vm_put_drive(vm, &config->drives[i], err);
	for (unsigned i = 0; i < config->net_count && !ret; i++)
		ret = vm_put_net(vm, &config->nets[i], err);
	if (!ret && config->has_vsock)
		ret = vm_set_vsock(vm, &config->vsock, err);
	if (!ret && config->has_entropy)
		ret = vm_set_entropy(vm, &config->entropy, err);
	return ret;
}

static const char *memory_path(const struct snapshot_load_config *request)
{
	return request->has_mem_backend ? request->mem_backend.backend_path
					: request->mem_file_path;
}

static bool is_foreign(const struct snapshot_load_config *request)
{
	return request->has_mem_backend && request->mem_backend.backend_type == MEMORY_BACKEND_UFFD;
}

static int open_memory_file(const struct vm *vm, const struct load *load, struct memory_file *file,
			    struct error *err)
{
	if (pair_open_memory(file, memory_path(load->request), &load->manifest, err))
		return error_prefix(err, "Failed to load guest memory: Error creating guest memory "
					 "from file: ");
	if (vm->machine_config.huge_pages == HUGE_PAGES_2M && !file->is_compressed)
		return error_set(err, -EINVAL,
				 "Cannot restore hugetlbfs backed snapshot by mapping the memory "
				 "file. Please use uffd.");
	if (load->request->record_working_set && file->is_compressed)
		return error_set(err, -EINVAL,
				 "Cannot record a working set: the memory file is compressed, all "
				 "of it is read at the load");
	return 0;
}

static int open_memory(const struct vm *vm, const struct load *load, struct memory_file *file,
		       struct machine_source *source, struct error *err)
{
	uint64_t size_bytes = load->manifest.memory_bytes;

	if (vm->machine_config.mem_size_mib > LAYOUT_RAM_MAX_BYTES >> 20 ||
	    size_bytes != vm->machine_config.mem_size_mib << 20)
		return error_set(err, -EINVAL,
				 "Invalid snapshot state: %llu bytes of memory for a machine of "
				 "%llu MiB",
				 (unsigned long long)size_bytes,
				 (unsigned long long)vm->machine_config.mem_size_mib);
	if (is_foreign(load->request)) {
		source->uffd_path = memory_path(load->request);
		return 0;
	}
	source->memory = file;
	return open_memory_file(vm, load, file, err);
}

/* Early, so that the disk works while the machine is made. A list is a hint: a guest can do without it. */
static void prefetch(const struct load *load, const struct memory_file *file,
		     struct working_set *set)
{
	const char *path = load->request->prefetch_working_set;
	uint64_t pages = load->manifest.memory_bytes / GUEST_PAGE_BYTES;
	struct error err;

	*set = (struct working_set){.ranges = NULL};
	if (!path || file->fd < 0 || file->is_compressed)
		return;
	if (working_set_read(set, path, pages, load->manifest.stamp, &err) == 0) {
		working_set_prefetch(set, file->fd);
		return;
	}
	log_warn("The working set is not prefetched: %s", err.text);
	working_set_free(set);
}

/* On a thread that has nothing else to do any more, while the loop's waits in the midst of something. */
static void on_frozen(void *ctx, struct loop *own_loop)
{
	struct vm *vm = ctx;

	log_error("The microVM is frozen: its page fault handler is gone, and a device waits for a "
		  "page.");
	atomic_store(&vm->frozen, true);
	loop_stop(vm->loop); /* if a page should come after all: see vm_is_frozen() */
	vm->options.on_frozen(vm->options.on_frozen_ctx, own_loop);
}

static int restore_machine(struct vm *vm, const struct machine_source *source, struct error *err)
{
	struct virtio_device *devices[VM_DEVICES_MAX];
	struct machine_plan plan = {
		.config = &vm->machine_config,
		.kernel_fd = -1,
		.initrd_fd = -1,
		.virtio = devices,
		.virtio_count = vm_list_devices(vm, devices),
		.serial = &vm->serial,
		.boot_timer = vm->has_boot_timer,
		.prepared = &vm->prepared,
		.ahead = &vm->ahead,
		.filters = vm->options.filters,
		.started = boot_time_now(),
		.on_end = vm_on_guest_end,
		.on_end_ctx = vm,
		.on_frozen = on_frozen,
		.on_frozen_ctx = vm,
	};

	vm->machine = machine_restore(&plan, source, vm->loop, err);
	return vm->machine ? 0 : err->code;
}

static int restore(struct vm *vm, const struct load *load, struct error *err)
{
	struct memory_file file = {.fd = -1};
	struct working_set set = {.ranges = NULL};
	struct machine_source source = {
		.state = &load->file,
		.stamp = load->manifest.stamp,
		.clock_realtime = load->request->clock_realtime,
	};
	int ret = open_memory(vm, load, &file, &source, err);

	if (!ret)
		prefetch(load, &file, &set);
	if (!ret)
		ret = restore_machine(vm, &source, err);
	memory_close(&file);
	if (!ret) {
		set_base(vm, load->manifest.stamp);
		machine_prefault(vm->machine, &set);
	}
	working_set_free(&set);
	if (!ret)
		ret = vm_record_start(vm, load->request, load->manifest.stamp, err);
	return ret ? ret : seccomp_enter(vm->options.filters, SECCOMP_MAIN, err);
}

static int load_all(struct vm *vm, struct load *load, struct error *err)
{
	int ret = read_state(load, err);

	if (!ret)
		ret = apply_overrides(load, err);
	if (!ret)
		ret = configure(vm, &load->config, err);
	if (!ret)
		ret = restore(vm, load, err);
	if (ret)
		return error_prefix(err, "Failed to restore from snapshot: ");
	vm->state = VM_PAUSED;
	return 0;
}

/* The microVM stands still, and all that was needed to make it is given back. */
static int load_paused(struct vm *vm, const struct snapshot_load_config *config, struct error *err)
{
	struct load *load = calloc(1, sizeof(*load));

	if (!load)
		return error_set_os(err, -ENOMEM, "no memory to load a snapshot");
	load->request = config;
	int ret = load_all(vm, load, err);

	saved_config_free(&load->config);
	state_file_free(&load->file);
	free(load);
	footprint_drop_start_code();
	return ret;
}

int vm_load_snapshot(struct vm *vm, const struct snapshot_load_config *config, struct error *err)
{
	uint64_t start_us = metrics_now_us();

	if (vm->state != VM_NOT_STARTED)
		return error_set(err, -EBUSY, VM_FAULT_AFTER_START);
	if (vm->configured)
		return error_set(err, -EBUSY,
				 "Loading a microVM snapshot not allowed after configuring "
				 "boot-specific resources.");
	/* Memory is given back before the guest runs: later each time would interrupt its processors. */
	int ret = load_paused(vm, config, err);

	if (!ret && config->resume_vm)
		ret = vm_resume(vm, err);
	if (ret) {
		vm->options.on_exit(vm->options.on_exit_ctx, EXIT_CODE_GENERIC);
		return ret;
	}
	metric_store(&process_metrics.latencies_us.vmm_load_snapshot, metrics_now_us() - start_us);
	return 0;
}
