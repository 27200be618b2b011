// SPDX-License-Identifier: Apache-2.0
/* Manifest and configuration as sections of a snapshot. */
#include "vmm/vm_saved.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/utsname.h>
#include <time.h>
#include "vmm/core/version.h"

#define PATH_BYTES_MAX (PATH_MAX - 1)
#define ID_BYTES_MAX   255u
#define ARGS_BYTES_MAX 4096u

/* ---- the manifest ---- */

int saved_manifest_make(struct saved_manifest *manifest, struct error *err)
{
	struct utsname host;

	*manifest = (struct saved_manifest){.created_s = (uint64_t)time(NULL)};
	snprintf(manifest->monitor, sizeof(manifest->monitor), "%s", BANTAM_VERSION);
	if (uname(&host) == 0)
		snprintf(manifest->host_kernel, sizeof(manifest->host_kernel), "%s", host.release);
	host_cpu_identify(&manifest->cpu);
	if (getrandom(manifest->stamp, sizeof(manifest->stamp), 0) !=
	    (ssize_t)sizeof(manifest->stamp))
		return error_set_errno(err, "no random bytes for the snapshot's stamp");
	return 0;
}

/* A text in a fixed number of bytes, whose last one is NUL. */
static void text_field(struct state *s, const char *field, char *text, size_t bytes)
{
	state_bytes(s, field, text, bytes - 1);
	text[bytes - 1] = '\0';
}

static void manifest_fields(struct state *s, void *object)
{
	struct saved_manifest *manifest = object;

	text_field(s, "monitor", manifest->monitor, sizeof(manifest->monitor));
	text_field(s, "host_kernel", manifest->host_kernel, sizeof(manifest->host_kernel));
	text_field(s, "cpu.vendor", manifest->cpu.vendor, sizeof(manifest->cpu.vendor));
	state_u32(s, "cpu.family", &manifest->cpu.family);
	state_u32(s, "cpu.model", &manifest->cpu.model);
	state_u32(s, "cpu.stepping", &manifest->cpu.stepping);
	state_u64(s, "cpu.features_hash", &manifest->cpu.features_hash);
	state_u64(s, "created", &manifest->created_s);
	state_u64(s, "memory_bytes", &manifest->memory_bytes);
	state_u32(s, "vcpus", &manifest->vcpus);
	state_bool(s, "is_diff", &manifest->is_diff);
	state_bytes(s, "stamp", manifest->stamp, sizeof(manifest->stamp));
}

const struct state_kind saved_manifest_kind = {.name = "manifest",
					       .version = 1,
					       .oldest = 1,
					       .fields = manifest_fields};

/* ---- the configuration ---- */

void saved_config_borrow(struct saved_config *config, const struct vm *vm)
{
	*config = (struct saved_config){
		.machine = vm->machine_config,
		.boot = vm->boot_source,
		.has_boot_source = vm->has_boot_source,
		.boot_timer = vm->has_boot_timer,
		.drive_count = vm->drive_count,
		.net_count = vm->net_count,
		.vsock = vm->vsock_config,
		.has_vsock = vm->vsock != NULL,
		.entropy = vm->rng_config,
		.has_entropy = vm->rng != NULL,
	};
	for (unsigned i = 0; i < vm->drive_count; i++)
		config->drives[i] = vm->drives[i].config;
	for (unsigned i = 0; i < vm->net_count; i++)
		config->nets[i] = vm->nets[i].config;
}

static void free_drive(struct block_config *drive)
{
	free(drive->drive_id);
	free(drive->partuuid);
	free(drive->path_on_host);
	free(drive->socket);
}

static void free_net(struct net_config *net)
{
	free(net->iface_id);
	free(net->host_dev_name);
	free(net->guest_mac);
}

void saved_config_free(struct saved_config *config)
{
	free(config->boot.kernel_image_path);
	free(config->boot.initrd_path);
	free(config->boot.boot_args);
	for (unsigned i = 0; i < config->drive_count; i++)
		free_drive(&config->drives[i]);
	for (unsigned i = 0; i < config->net_count; i++)
		free_net(&config->nets[i]);
	free(config->vsock.uds_path);
	free(config->vsock.vsock_id);
	*config = (struct saved_config){0};
}

static void bucket_fields(struct state *s, struct token_bucket_config *bucket, bool *given)
{
	state_bool(s, "bucket.given", given);
	state_u64(s, "bucket.size", &bucket->size);
	state_u64(s, "bucket.refill_time", &bucket->refill_time_ms);
	state_u64(s, "bucket.one_time_burst", &bucket->one_time_burst);
	state_bool(s, "bucket.has_one_time_burst", &bucket->has_one_time_burst);
}

static void limiter_fields(struct state *s, struct rate_limiter_config *limiter)
{
	bucket_fields(s, &limiter->bandwidth, &limiter->has_bandwidth);
	bucket_fields(s, &limiter->ops, &limiter->has_ops);
}

static void machine_fields(struct state *s, struct machine_config *machine)
{
	state_u64(s, "vcpu_count", &machine->vcpu_count);
	state_u64(s, "mem_size_mib", &machine->mem_size_mib);
	state_bool(s, "smt", &machine->smt);
	state_enum(s, "cpu_template", &machine->cpu_template, CPU_TEMPLATE_V1N1 + 1);
	state_enum(s, "huge_pages", &machine->huge_pages, HUGE_PAGES_2M + 1);
}

static void boot_fields(struct state *s, struct saved_config *config)
{
	state_bool(s, "has_boot_source", &config->has_boot_source);
	state_string(s, "kernel_image_path", &config->boot.kernel_image_path, PATH_BYTES_MAX);
	state_string(s, "initrd_path", &config->boot.initrd_path, PATH_BYTES_MAX);
	state_string(s, "boot_args", &config->boot.boot_args, ARGS_BYTES_MAX);
	state_bool(s, "boot_timer", &config->boot_timer);
}

/* Names of devices go into logs and, as they are, into the metrics' keys. */
static bool is_name(const char *id)
{
	if (!id || !*id)
		return false;
	for (; *id; id++)
		if (*id <= ' ' || *id > '~' || *id == '"' || *id == '\\')
			return false;
	return true;
}

static void drive_fields(struct state *s, struct block_config *drive)
{
	state_string(s, "drive_id", &drive->drive_id, ID_BYTES_MAX);
	state_require(s, is_name(drive->drive_id), "drive_id", "a name");
	state_bool(s, "is_root_device", &drive->is_root_device);
	state_string(s, "partuuid", &drive->partuuid, ID_BYTES_MAX);
	state_enum(s, "cache_type", &drive->cache_type, BLOCK_CACHE_WRITEBACK + 1);
	state_bool(s, "is_read_only", &drive->is_read_only);
	state_string(s, "path_on_host", &drive->path_on_host, PATH_BYTES_MAX);
	state_enum(s, "io_engine", &drive->io_engine, BLOCK_ENGINE_ASYNC + 1);
	limiter_fields(s, &drive->rate_limiter);
}

static void net_fields(struct state *s, struct net_config *net)
{
	state_string(s, "iface_id", &net->iface_id, ID_BYTES_MAX);
	state_string(s, "host_dev_name", &net->host_dev_name, ID_BYTES_MAX);
	state_require(s, is_name(net->iface_id) && net->host_dev_name, "iface_id", "a name");
	state_string(s, "guest_mac", &net->guest_mac, ID_BYTES_MAX);
	state_u16(s, "mtu", &net->mtu);
	state_bool(s, "has_mtu", &net->has_mtu);
	limiter_fields(s, &net->rx_rate_limiter);
	limiter_fields(s, &net->tx_rate_limiter);
}

static void vsock_fields(struct state *s, struct saved_config *config)
{
	state_bool(s, "has_vsock", &config->has_vsock);
	if (!config->has_vsock)
		return;
	state_u32(s, "guest_cid", &config->vsock.guest_cid);
	state_require(s, config->vsock.guest_cid >= 3, "guest_cid", "3 or more");
	state_string(s, "uds_path", &config->vsock.uds_path, PATH_BYTES_MAX);
	state_require(s, config->vsock.uds_path != NULL, "uds_path", "a path");
}

static void config_fields(struct state *s, void *object)
{
	struct saved_config *config = object;

	machine_fields(s, &config->machine);
	boot_fields(s, config);
	state_length(s, "drives", &config->drive_count, VM_DRIVES_MAX);
	for (uint32_t i = 0; i < config->drive_count; i++)
		drive_fields(s, &config->drives[i]);
	state_length(s, "nets", &config->net_count, VM_NETS_MAX);
	for (uint32_t i = 0; i < config->net_count; i++)
		net_fields(s, &config->nets[i]);
	vsock_fields(s, config);
	state_bool(s, "has_entropy", &config->has_entropy);
	if (config->has_entropy)
		limiter_fields(s, &config->entropy.rate_limiter);
}

const struct state_kind saved_config_kind = {.name = "config",
					     .version = 1,
					     .oldest = 1,
					     .fields = config_fields};
