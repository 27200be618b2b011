// SPDX-License-Identifier: Apache-2.0
/* The microVM: configuration, state machine, start, pause, end. */
#include "vmm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include "vmm/arch/x86_64/cmdline.h"
#include "vmm/core/log.h"
#include "vmm/core/loop.h"
#include "vmm/core/metrics_groups.h"
#include "vmm/footprint.h"
#include "vmm/kvm_ahead.h"
#include "vmm/machine.h"
#include "vmm/seccomp.h"
#include "vmm/vm_internal.h"

/* On the loop: the guest has ended, on some vCPU's word. */
static void on_end_event(void *ctx, unsigned events)
{
	struct vm *vm = ctx;

	(void)events;
	loop_source_set_events(vm->end_source, 0);
	vm->options.on_exit(vm->options.on_exit_ctx, atomic_load(&vm->end_code));
}

/* On a vCPU's thread. The first end counts. */
void vm_on_guest_end(void *ctx, int exit_code, const char *reason)
{
	struct vm *vm = ctx;
	const uint64_t one = 1;

	if (atomic_exchange(&vm->ended, true))
		return;
	if (exit_code == 0)
		log_info("The microVM ends: %s.", reason);
	else
		log_error("The microVM ends: %s.", reason);
	atomic_store(&vm->end_code, exit_code);
	ssize_t written = write(vm->end_fd, &one, sizeof(one));

	(void)written; /* the first write to an eventfd cannot fail */
}

struct vm *vm_new(struct loop *loop, const struct vm_options *options)
{
	struct vm *vm = calloc(1, sizeof(*vm));

	if (!vm)
		return NULL;
	vm->loop = loop;
	vm->options = *options;
	vm->machine_config = MACHINE_CONFIG_DEFAULT;
	vm->has_boot_timer = options->boot_timer;
	vm->kernel_fd = -1;
	vm->initrd_fd = -1;
	vm->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vm->end_fd >= 0)
		vm->end_source = loop_add_fd(loop, vm->end_fd, LOOP_READ, on_end_event, vm);
	if (!vm->end_source) {
		vm_free(vm);
		return NULL;
	}
	return vm;
}

static void free_boot_source(struct boot_source_config *config)
{
	free(config->kernel_image_path);
	free(config->initrd_path);
	free(config->boot_args);
	*config = (struct boot_source_config){0};
}

static void close_boot_files(struct vm *vm)
{
	close_fd(vm->kernel_fd);
	close_fd(vm->initrd_fd);
	vm->kernel_fd = -1;
	vm->initrd_fd = -1;
}

void vm_free(struct vm *vm)
{
	if (!vm)
		return;
	vm_record_end(vm);
	machine_free(vm->machine);
	machine_free(vm->prepared);
	kvm_ahead_free(vm->ahead);
	dirty_free(&vm->history);
	vm_free_devices(vm);
	free_boot_source(&vm->boot_source);
	free(vm->serial.serial_out_path);
	close_boot_files(vm);
	loop_source_free(vm->end_source);
	close_fd(vm->end_fd);
	free(vm);
}

int vm_prepare(struct vm *vm, unsigned vcpu_count, struct error *err)
{
	struct machine_config config = {.vcpu_count = vcpu_count};
	struct machine_plan plan = {
		.config = &config,
		.filters = vm->options.filters,
		.on_end = vm_on_guest_end,
		.on_end_ctx = vm,
	};

	vm->prepared = machine_prepare(&plan, vm->loop, err);
	return vm->prepared ? 0 : err->code;
}

void vm_begin_ahead(struct vm *vm)
{
	if (!vm->prepared && !vm->ahead)
		vm->ahead = kvm_ahead_start();
}

enum vm_state vm_state(const struct vm *vm)
{
	return vm->state;
}

bool vm_is_frozen(const struct vm *vm)
{
	return atomic_load(&vm->frozen);
}

const char *vm_id(const struct vm *vm)
{
	return vm->options.id;
}

const struct machine_config *vm_machine_config(const struct vm *vm)
{
	return &vm->machine_config;
}

const struct boot_source_config *vm_boot_source(const struct vm *vm)
{
	return vm->has_boot_source ? &vm->boot_source : NULL;
}

int vm_set_machine_config(struct vm *vm, struct machine_config *config, struct error *err)
{
	uint64_t page_mib = config->huge_pages == HUGE_PAGES_NONE ? 1 : 2;

	if (config->vcpu_count == 0 || config->vcpu_count > VCPUS_MAX ||
	    (config->smt && config->vcpu_count > 1 && config->vcpu_count % 2 != 0))
		return error_set(
			err, -EINVAL,
			"The number of vCPUs must be greater than 0, less than %d and must be 1 "
			"or an even number if SMT is enabled.",
			VCPUS_MAX);
	if (config->mem_size_mib == 0 || config->mem_size_mib % page_mib != 0)
		return error_set(
			err, -EINVAL,
			"The memory size (MiB) is either 0, or not a multiple of the configured "
			"page size.");
	vm->machine_config = *config;
	return 0;
}

int vm_set_boot_source(struct vm *vm, struct boot_source_config *config, struct error *err)
{
	cleanup_fd int initrd_fd = -1;
	cleanup_fd int kernel_fd = open(config->kernel_image_path, O_RDONLY | O_CLOEXEC);

	if (kernel_fd < 0)
		return error_set_errno(err, "The kernel file cannot be opened");
	if (config->initrd_path) {
		initrd_fd = open(config->initrd_path, O_RDONLY | O_CLOEXEC);
		if (initrd_fd < 0)
			return error_set(err, -errno,
					 "The initrd file cannot be opened due to invalid path or "
					 "invalid permissions. %s (os error %d)",
					 strerror(errno), errno);
	}
	struct cmdline cmdline;
	int ret = cmdline_init(&cmdline, config->boot_args, err);

	if (ret)
		return ret;
	free_boot_source(&vm->boot_source);
	close_boot_files(vm);
	vm->kernel_fd = steal_fd(&kernel_fd);
	vm->initrd_fd = steal_fd(&initrd_fd);
	vm->boot_source = *config;
	vm->has_boot_source = true;
	*config = (struct boot_source_config){0};
	return 0;
}

int vm_set_serial(struct vm *vm, struct serial_config *config, struct error *err)
{
	(void)err; /* the output file is opened when the machine is built */
	free(vm->serial.serial_out_path);
	vm->serial = *config;
	*config = (struct serial_config){0};
	return 0;
}

/* Metrics are nobody's reason to refuse a start that has happened. */
static void report_start(void)
{
	struct error err;

	if (metrics_flush(&err))
		log_error("%s", err.text);
}

int vm_start(struct vm *vm, struct error *err)
{
	struct virtio_device *devices[VM_DEVICES_MAX];
	char root[VM_ROOT_PARAM_BYTES];

	if (vm->state != VM_NOT_STARTED)
		return error_set(err, -EBUSY, VM_FAULT_AFTER_START);
	if (!vm->has_boot_source)
		return error_set(err, -EINVAL,
				 "Cannot start microvm without kernel configuration.");
	if (vm->machine_config.cpu_template != CPU_TEMPLATE_NONE)
		return error_set(err, -ENOTSUP,
				 "Failed to get CPU template: static templates are not built yet; "
				 "use None.");
	struct machine_plan plan = {
		.config = &vm->machine_config,
		.kernel_fd = vm->kernel_fd,
		.initrd_fd = vm->initrd_fd,
		.boot_args = vm->boot_source.boot_args,
		.root = vm_root_param(vm, root),
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
	};

	if (metrics_periodic_start(vm->loop))
		return error_set_os(err, -ENOMEM, "no timer for metrics");
	vm->machine = machine_build(&plan, vm->loop, err);
	if (!vm->machine)
		return err->code;
	int ret = seccomp_enter(vm->options.filters, SECCOMP_MAIN, err);

	if (ret) {
		machine_free(vm->machine);
		vm->machine = NULL;
		return ret;
	}
	close_boot_files(vm);        /* not before: a start that fails may be tried again */
	footprint_drop_start_code(); /* later it would interrupt the guest's processors */
	machine_run(vm->machine);
	vm->state = VM_RUNNING;
	report_start();
	return 0;
}

void vm_note_configured(struct vm *vm)
{
	vm->configured = true;
}

int vm_pause(struct vm *vm, struct error *err)
{
	if (vm->state == VM_NOT_STARTED)
		return error_set(err, -EINVAL, VM_FAULT_BEFORE_START);
	uint64_t start_us = metrics_now_us();

	metrics_periodic_stop();
	machine_pause(vm->machine);
	vm->state = VM_PAUSED;
	vm_record_end(vm);
	metric_store(&process_metrics.latencies_us.vmm_pause_vm, metrics_now_us() - start_us);
	return 0;
}

int vm_resume(struct vm *vm, struct error *err)
{
	if (vm->state == VM_NOT_STARTED)
		return error_set(err, -EINVAL, VM_FAULT_BEFORE_START);
	uint64_t start_us = metrics_now_us();

	machine_run(vm->machine);
	vm->state = VM_RUNNING;
	if (metrics_periodic_start(vm->loop))
		return error_set_os(err, -ENOMEM, "no timer for metrics");
	metric_store(&process_metrics.latencies_us.vmm_resume_vm, metrics_now_us() - start_us);
	return 0;
}

int vm_send_ctrl_alt_del(struct vm *vm, struct error *err)
{
	if (vm->state == VM_NOT_STARTED)
		return error_set(err, -EINVAL, VM_FAULT_BEFORE_START);
	machine_send_ctrl_alt_del(vm->machine);
	return 0;
}
