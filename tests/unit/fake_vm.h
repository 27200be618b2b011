// SPDX-License-Identifier: Apache-2.0
/*
 * A microVM for tests of the API: stores what is configured, counts what is asked for, fails on demand. No KVM, no
 * devices, no files. Header-only: it defines the functions of vm.h; for unit tests and fuzz targets.
 */
#ifndef TESTS_UNIT_FAKE_VM_H
#define TESTS_UNIT_FAKE_VM_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "vmm/vm.h"

#define FAKE_VM_DEVICES 4u

struct vm {
	enum vm_state state;
	const char *id;
	struct machine_config machine;
	struct boot_source_config boot;
	bool has_boot, has_vsock, has_entropy;
	struct block_config drives[FAKE_VM_DEVICES];
	struct net_config nets[FAKE_VM_DEVICES];
	unsigned drive_count, net_count;
	struct vsock_config vsock;
	struct rng_config entropy;
	struct serial_config serial;
	int fail;              /* not 0: every call that can fails with this and "it broke" */
	unsigned calls;        /* of anything that changes something */
	char patched_path[64]; /* last vm_patch_drive(): "" when none was given */
	struct rate_limiter_config
		limiter; /* last vm_patch_drive() or the rx one of vm_patch_net() */
	bool has_limiter, has_tx_limiter;
	bool configured; /* vm_note_configured() */
	bool frozen;
	unsigned overrides; /* network overrides of the last vm_load_snapshot() */
};

static inline void fake_vm_init(struct vm *vm)
{
	*vm = (struct vm){.id = "fake", .machine = MACHINE_CONFIG_DEFAULT};
}

static inline void fake_free_drive(struct block_config *drive)
{
	free(drive->drive_id);
	free(drive->partuuid);
	free(drive->path_on_host);
	free(drive->socket);
	*drive = (struct block_config){0};
}

static inline void fake_free_net(struct net_config *net)
{
	free(net->iface_id);
	free(net->host_dev_name);
	free(net->guest_mac);
	*net = (struct net_config){0};
}

static inline void fake_free_boot(struct boot_source_config *boot)
{
	free(boot->kernel_image_path);
	free(boot->initrd_path);
	free(boot->boot_args);
	*boot = (struct boot_source_config){0};
}

static inline void fake_free_vsock(struct vsock_config *vsock)
{
	free(vsock->uds_path);
	free(vsock->vsock_id);
	*vsock = (struct vsock_config){0};
}

static inline void fake_vm_clear(struct vm *vm)
{
	for (unsigned i = 0; i < vm->drive_count; i++)
		fake_free_drive(&vm->drives[i]);
	for (unsigned i = 0; i < vm->net_count; i++)
		fake_free_net(&vm->nets[i]);
	fake_free_boot(&vm->boot);
	fake_free_vsock(&vm->vsock);
	free(vm->serial.serial_out_path);
	fake_vm_init(vm);
}

static inline int fake_call(struct vm *vm, struct error *err)
{
	vm->calls++;
	return vm->fail ? error_set(err, vm->fail, "it broke") : 0;
}

enum vm_state vm_state(const struct vm *vm)
{
	return vm->state;
}

bool vm_is_frozen(const struct vm *vm)
{
	return vm->frozen;
}

const char *vm_id(const struct vm *vm)
{
	return vm->id;
}

const struct machine_config *vm_machine_config(const struct vm *vm)
{
	return &vm->machine;
}

const struct boot_source_config *vm_boot_source(const struct vm *vm)
{
	return vm->has_boot ? &vm->boot : NULL;
}

const struct block_config *vm_drive(const struct vm *vm, unsigned index)
{
	return index < vm->drive_count ? &vm->drives[index] : NULL;
}

const struct net_config *vm_net(const struct vm *vm, unsigned index)
{
	return index < vm->net_count ? &vm->nets[index] : NULL;
}

const struct vsock_config *vm_vsock(const struct vm *vm)
{
	return vm->has_vsock ? &vm->vsock : NULL;
}

const struct rng_config *vm_entropy(const struct vm *vm)
{
	return vm->has_entropy ? &vm->entropy : NULL;
}

int vm_set_machine_config(struct vm *vm, struct machine_config *config, struct error *err)
{
	int ret = fake_call(vm, err);

	if (!ret)
		vm->machine = *config;
	return ret;
}

int vm_set_boot_source(struct vm *vm, struct boot_source_config *config, struct error *err)
{
	int ret = fake_call(vm, err);

	if (ret)
		return ret;
	fake_free_boot(&vm->boot);
	vm->boot = *config;
	vm->has_boot = true;
	*config = (struct boot_source_config){0};
	return 0;
}

int vm_put_drive(struct vm *vm, struct block_config *config, struct error *err)
{
	int ret = fake_call(vm, err);
	unsigned at = 0;

	if (ret)
		return ret;
	while (at < vm->drive_count && strcmp(vm->drives[at].drive_id, config->drive_id) != 0)
		at++;
	if (at == FAKE_VM_DEVICES)
		return error_set(err, -ENOSPC, "no room");
	fake_free_drive(&vm->drives[at]);
	vm->drive_count += at == vm->drive_count;
	vm->drives[at] = *config;
	*config = (struct block_config){0};
	return 0;
}

int vm_put_net(struct vm *vm, struct net_config *config, struct error *err)
{
	int ret = fake_call(vm, err);
	unsigned at = 0;

	if (ret)
		return ret;
	while (at < vm->net_count && strcmp(vm->nets[at].iface_id, config->iface_id) != 0)
		at++;
	if (at == FAKE_VM_DEVICES)
		return error_set(err, -ENOSPC, "no room");
	fake_free_net(&vm->nets[at]);
	vm->net_count += at == vm->net_count;
	vm->nets[at] = *config;
	*config = (struct net_config){0};
	return 0;
}

int vm_set_vsock(struct vm *vm, struct vsock_config *config, struct error *err)
{
	int ret = fake_call(vm, err);

	if (ret)
		return ret;
	fake_free_vsock(&vm->vsock);
	vm->vsock = *config;
	vm->has_vsock = true;
	*config = (struct vsock_config){0};
	return 0;
}

int vm_set_entropy(struct vm *vm, struct rng_config *config, struct error *err)
{
	int ret = fake_call(vm, err);

	if (ret)
		return ret;
	vm->entropy = *config;
	vm->has_entropy = true;
	return 0;
}

int vm_set_serial(struct vm *vm, struct serial_config *config, struct error *err)
{
	int ret = fake_call(vm, err);

	if (ret)
		return ret;
	free(vm->serial.serial_out_path);
	vm->serial = *config;
	*config = (struct serial_config){0};
	return 0;
}

int vm_patch_drive(struct vm *vm, const char *drive_id, const char *path_on_host,
		   const struct rate_limiter_config *rate_limiter, struct error *err)
{
	(void)drive_id;
	strncpy(vm->patched_path, path_on_host ? path_on_host : "", sizeof(vm->patched_path) - 1);
	vm->has_limiter = rate_limiter;
	if (rate_limiter)
		vm->limiter = *rate_limiter;
	return fake_call(vm, err);
}

int vm_patch_net(struct vm *vm, const char *iface_id, const struct rate_limiter_config *rx,
		 const struct rate_limiter_config *tx, struct error *err)
{
	(void)iface_id;
	vm->has_limiter = rx;
	vm->has_tx_limiter = tx;
	if (rx)
		vm->limiter = *rx;
	return fake_call(vm, err);
}

int vm_start(struct vm *vm, struct error *err)
{
	int ret = fake_call(vm, err);

	if (!ret)
		vm->state = VM_RUNNING;
	return ret;
}

int vm_pause(struct vm *vm, struct error *err)
{
	int ret = fake_call(vm, err);

	if (!ret)
		vm->state = VM_PAUSED;
	return ret;
}

int vm_resume(struct vm *vm, struct error *err)
{
	int ret = fake_call(vm, err);

	if (!ret)
		vm->state = VM_RUNNING;
	return ret;
}

int vm_send_ctrl_alt_del(struct vm *vm, struct error *err)
{
	return fake_call(vm, err);
}

int vm_create_snapshot(struct vm *vm, const struct snapshot_create_config *config,
		       struct error *err)
{
	snprintf(vm->patched_path, sizeof(vm->patched_path), "%s", config->mem_file_path);
	return fake_call(vm, err);
}

int vm_load_snapshot(struct vm *vm, const struct snapshot_load_config *config, struct error *err)
{
	vm->overrides = config->network_override_count;
	vm->state = config->resume_vm ? VM_RUNNING : VM_PAUSED;
	return fake_call(vm, err);
}

void vm_note_configured(struct vm *vm)
{
	vm->configured = true;
}

#endif
