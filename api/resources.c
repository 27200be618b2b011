// SPDX-License-Identifier: Apache-2.0
/* The handlers of the API's routes. */
#include "api/resources.h"

#include <stdio.h>
#include <string.h>
#include "api/config_file.h"
#include "api/json.h"
#include "vmm/core/log.h"
#include "vmm/core/metrics_groups.h"
#include "vmm/core/version.h"
#include "vmm/vm.h"

/* ---- what there is ---- */

static const char *const state_names[VM_STATE_COUNT] = {
	[VM_NOT_STARTED] = "Not started",
	[VM_RUNNING] = "Running",
	[VM_PAUSED] = "Paused",
};

int api_get_instance(struct api_call *call, struct error *err)
{
	(void)err;
	text_add_string(call->out, "{\"id\":");
	json_write_string(call->out, vm_id(call->vm));
	text_printf(call->out, ",\"state\":\"%s\",\"vmm_version\":\"%s\",\"app_name\":\"%s\"}",
		    state_names[vm_state(call->vm)], BANTAM_VERSION, BANTAM_NAME);
	return 0;
}

int api_get_version(struct api_call *call, struct error *err)
{
	(void)err;
	text_printf(call->out, "{\"firecracker_version\":\"%s\"}", BANTAM_VERSION);
	return 0;
}

int api_get_vm_config(struct api_call *call, struct error *err)
{
	(void)err;
	config_print(call->vm, call->out);
	return 0;
}

int api_get_machine(struct api_call *call, struct error *err)
{
	(void)err;
	schema_print(&machine_schema, vm_machine_config(call->vm), call->out);
	return 0;
}

/* ---- configuration ---- */

void api_init_machine_patch(const struct vm *vm, union api_body *body)
{
	body->machine = *vm_machine_config(vm);
	body->machine.has_cpu_template = false; /* whether this request gives it */
}

const char *api_machine_deprecated(const union api_body *body)
{
	return body->machine.has_cpu_template ? "cpu_template" : NULL;
}

int api_set_machine(struct api_call *call, struct error *err)
{
	return vm_set_machine_config(call->vm, &call->body.machine, err);
}

int api_put_boot_source(struct api_call *call, struct error *err)
{
	return vm_set_boot_source(call->vm, &call->body.boot, err);
}

static int check_same_id(const char *in_path, const char *in_body, struct error *err)
{
	if (strcmp(in_path, in_body) != 0)
		return error_set(err, -EINVAL,
				 "The id from the path does not match the id from the body!");
	return 0;
}

static int check_same_iface_id(const char *in_path, const char *in_body, struct error *err)
{
	if (strcmp(in_path, in_body) != 0)
		return error_set(
			err, -EINVAL,
			"The id from the path [%s] does not match the id from the body [%s]!",
			in_path, in_body);
	return 0;
}

int api_check_drive_id(const struct api_call *call, struct error *err)
{
	return check_same_id(call->id, call->body.drive.drive_id, err);
}

int api_check_drive_patch_id(const struct api_call *call, struct error *err)
{
	return check_same_id(call->id, call->body.drive_patch.drive_id, err);
}

int api_check_net_id(const struct api_call *call, struct error *err)
{
	return check_same_iface_id(call->id, call->body.net.iface_id, err);
}

int api_check_net_patch_id(const struct api_call *call, struct error *err)
{
	return check_same_iface_id(call->id, call->body.net_patch.iface_id, err);
}

int api_put_drive(struct api_call *call, struct error *err)
{
	struct block_config *config = &call->body.drive;

	if (!config->path_on_host == !config->socket)
		return error_set(err, -EINVAL,
				 "Unable to create the virtio block device: Invalid block config.");
	if (config->socket)
		return error_set(err, -ENOSYS,
				 "Unable to create the virtio block device: vhost-user drives "
				 "(`socket`) are not built into this version yet.");
	return vm_put_drive(call->vm, config, err);
}

#define NET_MTU_MIN 68 /* RFC 791: what every link carries */

int api_put_net(struct api_call *call, struct error *err)
{
	const struct net_config *config = &call->body.net;

	if (config->has_mtu && config->mtu < NET_MTU_MIN)
		return error_set(err, -EINVAL,
				 "Could not create the network device: MTU %u is out of range "
				 "[%d, %d]",
				 config->mtu, NET_MTU_MIN, UINT16_MAX);
	return vm_put_net(call->vm, &call->body.net, err);
}

const char *api_vsock_deprecated(const union api_body *body)
{
	return body->vsock.vsock_id ? "vsock_id" : NULL;
}

int api_put_vsock(struct api_call *call, struct error *err)
{
	return vm_set_vsock(call->vm, &call->body.vsock, err);
}

int api_put_entropy(struct api_call *call, struct error *err)
{
	return vm_set_entropy(call->vm, &call->body.entropy, err);
}

int api_put_serial(struct api_call *call, struct error *err)
{
	return vm_set_serial(call->vm, &call->body.serial, err);
}

void api_init_logger(const struct vm *vm, union api_body *body)
{
	(void)vm;
	body->logger.level = LOG_LEVEL_INFO;
}

int api_put_logger(struct api_call *call, struct error *err)
{
	return log_configure(&call->body.logger, err);
}

/* What every line of metrics begins with, as the request wants it. */
static int set_metrics_members(const struct vm *vm, const struct metrics_config *config,
			       struct error *err)
{
	struct text members = {0};
	int ret = 0;

	if (config->emit_id) {
		text_add_string(&members, "\"id\":");
		json_write_string(&members, vm_id(vm));
	}
	if (config->properties)
		text_printf(&members, "%s\"properties\":%s", members.len ? "," : "",
			    config->properties);
	if (members.len)
		ret = members.failed ? -ENOMEM : metrics_set_members(members.data);
	text_free(&members);
	return ret ? error_set_os(err, ret, "no room for the metrics' properties") : 0;
}

int api_put_metrics(struct api_call *call, struct error *err)
{
	int ret = metrics_open(call->body.metrics.metrics_path, err);

	return ret ? ret : set_metrics_members(call->vm, &call->body.metrics, err);
}

/* ---- changes of what runs ---- */

int api_patch_drive(struct api_call *call, struct error *err)
{
	const struct drive_patch *patch = &call->body.drive_patch;
	const struct rate_limiter_config *limiter =
		patch->has_rate_limiter ? &patch->rate_limiter : NULL;

	return vm_patch_drive(call->vm, patch->drive_id, patch->path_on_host, limiter, err);
}

int api_patch_net(struct api_call *call, struct error *err)
{
	const struct net_patch *patch = &call->body.net_patch;

	return vm_patch_net(call->vm, patch->iface_id,
			    patch->has_rx_rate_limiter ? &patch->rx_rate_limiter : NULL,
			    patch->has_tx_rate_limiter ? &patch->tx_rate_limiter : NULL, err);
}

int api_patch_vm(struct api_call *call, struct error *err)
{
	bool pause = call->body.vm_patch.state == VM_TARGET_PAUSED;
	metric_t *latency = pause ? &process_metrics.latencies_us.pause_vm
				  : &process_metrics.latencies_us.resume_vm;
	uint64_t start_us = metrics_now_us();
	int ret = (pause ? vm_pause : vm_resume)(call->vm, err);

	if (!ret)
		metric_store(latency, metrics_now_us() - start_us);
	return ret;
}

/* ---- snapshots ---- */

int api_create_snapshot(struct api_call *call, struct error *err)
{
	const struct snapshot_create_config *config = &call->body.snapshot_create;
	metric_t *latency = config->snapshot_type == SNAPSHOT_DIFF
				    ? &process_metrics.latencies_us.diff_create_snapshot
				    : &process_metrics.latencies_us.full_create_snapshot;
	uint64_t start_us = metrics_now_us();
	int ret = vm_create_snapshot(call->vm, config, err);

	if (!ret)
		metric_store(latency, metrics_now_us() - start_us);
	return ret;
}

const char *api_load_deprecated(const union api_body *body)
{
	if (body->snapshot_load.mem_file_path)
		return "mem_file_path";
	return body->snapshot_load.has_enable_diff_snapshots ? "enable_diff_snapshots" : NULL;
}

int api_check_load(const struct api_call *call, struct error *err)
{
	const struct snapshot_load_config *config = &call->body.snapshot_load;

	if (config->has_mem_backend && config->mem_file_path)
		return error_set(err, -EINVAL,
				 API_BODY_FAULT "too many fields: either `mem_backend` or "
						"`mem_file_path` exclusively is required.");
	if (!config->has_mem_backend && !config->mem_file_path)
		return error_set(err, -EINVAL,
				 API_BODY_FAULT "missing field: either `mem_backend` or "
						"`mem_file_path` is required.");
	return 0;
}

int api_load_snapshot(struct api_call *call, struct error *err)
{
	uint64_t start_us = metrics_now_us();
	int ret = vm_load_snapshot(call->vm, &call->body.snapshot_load, err);

	if (!ret)
		metric_store(&process_metrics.latencies_us.load_snapshot,
			     metrics_now_us() - start_us);
	return ret;
}

/* ---- actions ---- */

static int start(struct vm *vm, struct error *err)
{
	int ret = vm_start(vm, err);

	return ret ? error_prefix(err, "Start microvm error: ") : 0;
}

static int flush_metrics(struct vm *vm, struct error *err)
{
	int ret = metrics_flush(err);

	(void)vm;
	return ret ? error_prefix(err, "Internal VMM error: ") : 0;
}

static int send_ctrl_alt_del(struct vm *vm, struct error *err)
{
	int ret = vm_send_ctrl_alt_del(vm, err);

	return ret ? error_prefix(err, "Internal VMM error: ") : 0;
}

static const struct {
	enum api_when when;
	int (*run)(struct vm *vm, struct error *err);
} actions[] = {
	[ACTION_INSTANCE_START] = {API_BEFORE_START, start},
	[ACTION_FLUSH_METRICS] = {API_AFTER_START, flush_metrics},
	[ACTION_SEND_CTRL_ALT_DEL] = {API_AFTER_START, send_ctrl_alt_del},
};

int api_put_action(struct api_call *call, struct error *err)
{
	enum action_type type = call->body.action.action_type;
	int ret = api_check_state(call->vm, actions[type].when, NULL, err);

	return ret ? ret : actions[type].run(call->vm, err);
}
