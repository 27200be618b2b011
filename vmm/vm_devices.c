// SPDX-License-Identifier: Apache-2.0
/* The microVM's devices: configured one by one before the start, updated after it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "virtio/device.h"
#include "vmm/vm_internal.h"

static void free_drive(struct vm_drive *drive)
{
	virtio_device_free(drive->dev);
	free(drive->config.drive_id);
	free(drive->config.partuuid);
	free(drive->config.path_on_host);
	free(drive->config.socket);
	*drive = (struct vm_drive){0};
}

static void free_net(struct vm_net *net)
{
	virtio_device_free(net->dev);
	free(net->config.iface_id);
	free(net->config.host_dev_name);
	free(net->config.guest_mac);
	*net = (struct vm_net){0};
}

static void free_vsock(struct vm *vm)
{
	virtio_device_free(vm->vsock);
	vm->vsock = NULL;
	free(vm->vsock_config.uds_path);
	free(vm->vsock_config.vsock_id);
	vm->vsock_config = (struct vsock_config){0};
}

void vm_free_devices(struct vm *vm)
{
	for (unsigned i = 0; i < vm->drive_count; i++)
		free_drive(&vm->drives[i]);
	for (unsigned i = 0; i < vm->net_count; i++)
		free_net(&vm->nets[i]);
	free_vsock(vm);
	virtio_device_free(vm->rng);
	vm->rng = NULL;
}

static struct vm_drive *find_drive(struct vm *vm, const char *drive_id)
{
	for (unsigned i = 0; i < vm->drive_count; i++) {
		if (strcmp(vm->drives[i].config.drive_id, drive_id) == 0)
			return &vm->drives[i];
	}
	return NULL;
}

static int check_root(const struct vm *vm, const struct block_config *config, struct error *err)
{
	for (unsigned i = 0; config->is_root_device && i < vm->drive_count; i++) {
		if (vm->drives[i].config.is_root_device &&
		    strcmp(vm->drives[i].config.drive_id, config->drive_id) != 0)
			return error_set(err, -EEXIST, "A root block device already exists!");
	}
	return 0;
}

/* Guests see the root drive first, the others in the order of their requests. */
static void insert_drive(struct vm *vm, const struct vm_drive *drive)
{
	unsigned at = drive->config.is_root_device ? 0 : vm->drive_count;

	memmove(&vm->drives[at + 1], &vm->drives[at], (vm->drive_count - at) * sizeof(*drive));
	vm->drives[at] = *drive;
	vm->drive_count++;
}

static void remove_drive(struct vm *vm, struct vm_drive *drive)
{
	unsigned at = (unsigned)(drive - vm->drives);

	free_drive(drive);
	vm->drive_count--;
	memmove(drive, drive + 1, (vm->drive_count - at) * sizeof(*drive));
}

int vm_put_drive(struct vm *vm, struct block_config *config, struct error *err)
{
	struct vm_drive *old = find_drive(vm, config->drive_id);
	int ret = check_root(vm, config, err);

	if (ret)
		return ret;
	if (!old && vm->drive_count == VM_DRIVES_MAX)
		return error_set(err, -ENOSPC, "a microVM takes at most %d drives", VM_DRIVES_MAX);
	struct vm_drive drive = {.dev = block_new(config, err)};

	if (!drive.dev)
		return error_prefix(err, "Unable to create the virtio block device: ");
	drive.config = *config;
	*config = (struct block_config){0};
	if (old && old->config.is_root_device == drive.config.is_root_device) {
		free_drive(old); /* a replacement keeps its place in the guest's order */
		*old = drive;
		return 0;
	}
	if (old)
		remove_drive(vm, old);
	insert_drive(vm, &drive);
	return 0;
}

static struct vm_net *find_net(struct vm *vm, const char *iface_id)
{
	for (unsigned i = 0; i < vm->net_count; i++) {
		if (strcmp(vm->nets[i].config.iface_id, iface_id) == 0)
			return &vm->nets[i];
	}
	return NULL;
}

static int check_mac(const struct vm *vm, const struct net_config *config, struct error *err)
{
	uint8_t wanted[NET_MAC_BYTES], other[NET_MAC_BYTES];

	if (!config->guest_mac || !net_mac_parse(config->guest_mac, wanted))
		return 0; /* net_new() says what is wrong with it */
	for (unsigned i = 0; i < vm->net_count; i++) {
		const struct net_config *used = &vm->nets[i].config;

		if (used->guest_mac && strcmp(used->iface_id, config->iface_id) != 0 &&
		    net_mac_parse(used->guest_mac, other) &&
		    memcmp(wanted, other, sizeof(wanted)) == 0)
			return error_set(err, -EADDRINUSE, "The MAC address is already in use: %s",
					 config->guest_mac);
	}
	return 0;
}

int vm_put_net(struct vm *vm, struct net_config *config, struct error *err)
{
	struct vm_net *old = find_net(vm, config->iface_id);
	int ret = check_mac(vm, config, err);

	if (ret)
		return ret;
	if (!old && vm->net_count == VM_NETS_MAX)
		return error_set(err, -ENOSPC, "a microVM takes at most %d network interfaces",
				 VM_NETS_MAX);
	/* A tap has one owner: the old device lets go of it before the new one opens what may be the same tap. */
	if (old) {
		virtio_device_free(old->dev);
		old->dev = NULL;
	}
	struct vm_net net = {.dev = net_new(config, err)};

	if (!net.dev) {
		if (old) {
			unsigned at = (unsigned)(old - vm->nets);

			free_net(old);
			vm->net_count--;
			memmove(old, old + 1, (vm->net_count - at) * sizeof(*old));
		}
		return err->code;
	}
	net.config = *config;
	*config = (struct net_config){0};
	if (old)
		free_net(old);
	else
		old = &vm->nets[vm->net_count++];
	*old = net;
	return 0;
}

int vm_set_vsock(struct vm *vm, struct vsock_config *config, struct error *err)
{
	/* The old socket goes first: the new path may be the same one. */
	free_vsock(vm);
	struct virtio_device *dev = vsock_new(config, err);

	if (!dev)
		return err->code;
	vm->vsock = dev;
	vm->vsock_config = *config;
	*config = (struct vsock_config){0};
	return 0;
}

int vm_set_entropy(struct vm *vm, struct rng_config *config, struct error *err)
{
	struct virtio_device *dev = rng_new(config, err);

	if (!dev)
		return err->code;
	virtio_device_free(vm->rng);
	vm->rng = dev;
	vm->rng_config = *config;
	return 0;
}

static void merge_limiter(struct rate_limiter_config *config,
			  const struct rate_limiter_config *update)
{
	if (update->has_bandwidth) {
		config->bandwidth = update->bandwidth;
		config->has_bandwidth = true;
	}
	if (update->has_ops) {
		config->ops = update->ops;
		config->has_ops = true;
	}
}

int vm_patch_drive(struct vm *vm, const char *drive_id, const char *path_on_host,
		   const struct rate_limiter_config *rate_limiter, struct error *err)
{
	struct vm_drive *drive = find_drive(vm, drive_id);

	if (!drive)
		return error_set(err, -ENODEV, "Device not found: no drive has the id '%s'",
				 drive_id);
	if (!path_on_host && !rate_limiter)
		return error_set(err, -EINVAL, "Running method expected different backend.");
	if (path_on_host) {
		char *path = strdup(path_on_host);

		if (!path)
			return error_set_os(err, -ENOMEM, "no memory for a path");
		int ret = block_update_path(drive->dev, path_on_host, err);

		if (ret) {
			free(path);
			return ret;
		}
		free(drive->config.path_on_host);
		drive->config.path_on_host = path;
	}
	if (rate_limiter) {
		block_update_rate_limiter(drive->dev, rate_limiter);
		merge_limiter(&drive->config.rate_limiter, rate_limiter);
	}
	return 0;
}

int vm_patch_net(struct vm *vm, const char *iface_id, const struct rate_limiter_config *rx,
		 const struct rate_limiter_config *tx, struct error *err)
{
	struct vm_net *net = find_net(vm, iface_id);

	if (!net)
		return error_set(err, -ENODEV,
				 "Device not found: no network interface has the id '%s'",
				 iface_id);
	net_update_rate_limiters(net->dev, rx, tx);
	if (rx)
		merge_limiter(&net->config.rx_rate_limiter, rx);
	if (tx)
		merge_limiter(&net->config.tx_rate_limiter, tx);
	return 0;
}

const struct block_config *vm_drive(const struct vm *vm, unsigned index)
{
	return index < vm->drive_count ? &vm->drives[index].config : NULL;
}

const struct net_config *vm_net(const struct vm *vm, unsigned index)
{
	return index < vm->net_count ? &vm->nets[index].config : NULL;
}

const struct vsock_config *vm_vsock(const struct vm *vm)
{
	return vm->vsock ? &vm->vsock_config : NULL;
}

const struct rng_config *vm_entropy(const struct vm *vm)
{
	return vm->rng ? &vm->rng_config : NULL;
}

const char *vm_root_param(const struct vm *vm, char text[VM_ROOT_PARAM_BYTES])
{
	if (vm->drive_count == 0 || !vm->drives[0].config.is_root_device)
		return NULL;
	const struct block_config *root = &vm->drives[0].config;
	const char *mode = root->is_read_only ? "ro" : "rw";

	if (root->partuuid)
		snprintf(text, VM_ROOT_PARAM_BYTES, "root=PARTUUID=%.64s %s", root->partuuid, mode);
	else
		snprintf(text, VM_ROOT_PARAM_BYTES, "root=/dev/vda %s", mode);
	return text;
}

unsigned vm_list_devices(const struct vm *vm, struct virtio_device *list[VM_DEVICES_MAX])
{
	unsigned count = 0;

	for (unsigned i = 0; i < vm->drive_count; i++)
		list[count++] = vm->drives[i].dev;
	for (unsigned i = 0; i < vm->net_count; i++)
		list[count++] = vm->nets[i].dev;
	if (vm->vsock)
		list[count++] = vm->vsock;
	if (vm->rng)
		list[count++] = vm->rng;
	return count;
}
