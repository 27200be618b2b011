// SPDX-License-Identifier: Apache-2.0
/* Recording the working set of a restored microVM. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "vmm/core/log.h"
#include "vmm/core/loop.h"
#include "vmm/machine.h"
#include "vmm/vm_internal.h"

#define NS_PER_MS UINT64_C(1000000)

static void on_time(void *ctx)
{
	vm_record_end(ctx);
}

static int start_timer(struct vm *vm, uint64_t duration_ms, struct error *err)
{
	uint64_t ms = duration_ms < UINT64_MAX / NS_PER_MS ? duration_ms : UINT64_MAX / NS_PER_MS;

	if (ms == 0)
		return 0;
	vm->recorder.timer = loop_add_timer(vm->loop, on_time, vm);
	if (!vm->recorder.timer)
		return error_set_os(err, -ENOMEM, "no timer to record a working set");
	loop_timer_arm(vm->recorder.timer, ms * NS_PER_MS);
	return 0;
}

int vm_record_start(struct vm *vm, const struct snapshot_load_config *config, const uint8_t *stamp,
		    struct error *err)
{
	struct vm_recorder *recorder = &vm->recorder;

	if (!config->record_working_set)
		return 0;
	recorder->pagemap_fd = working_set_open(err);
	if (recorder->pagemap_fd < 0)
		return err->code;
	recorder->path = strdup(config->record_working_set);
	if (!recorder->path) {
		close_fd(recorder->pagemap_fd);
		return error_set_os(err, -ENOMEM, "no memory for a path");
	}
	memcpy(recorder->stamp, stamp, sizeof(recorder->stamp));
	return start_timer(vm, config->record_working_set_ms, err);
}

void vm_record_end(struct vm *vm)
{
	struct vm_recorder *recorder = &vm->recorder;
	struct error err;

	if (!recorder->path)
		return;
	if (vm->machine && working_set_write(recorder->pagemap_fd, machine_memory(vm->machine),
					     recorder->stamp, recorder->path, &err))
		log_warn("The working set is not recorded: %s", err.text);
	loop_source_free(recorder->timer);
	close_fd(recorder->pagemap_fd);
	free(recorder->path);
	*recorder = (struct vm_recorder){.path = NULL};
}
