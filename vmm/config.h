// SPDX-License-Identifier: Apache-2.0
/* The configuration of a microVM as plain structs: what the API's schema fills in and the machine is built from. */
#ifndef VMM_CONFIG_H
#define VMM_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include "vmm/core/log.h"
#include "virtio/block.h"
#include "virtio/net.h"
#include "virtio/rng.h"
#include "virtio/vsock.h"

#define VCPUS_MAX 32

enum huge_pages { HUGE_PAGES_NONE, HUGE_PAGES_TRANSPARENT, HUGE_PAGES_2M };

enum cpu_template {
	CPU_TEMPLATE_NONE,
	CPU_TEMPLATE_C3,
	CPU_TEMPLATE_T2,
	CPU_TEMPLATE_T2S,
	CPU_TEMPLATE_T2CL,
	CPU_TEMPLATE_T2A,
	CPU_TEMPLATE_V1N1,
};

struct machine_config {
	uint64_t vcpu_count;
	uint64_t mem_size_mib;
	bool smt;
	enum cpu_template cpu_template;
	bool has_cpu_template; /* given in the request, even as None: deprecated */
	bool track_dirty_pages;
	enum huge_pages huge_pages;
};

#define MACHINE_CONFIG_DEFAULT ((struct machine_config){.vcpu_count = 1, .mem_size_mib = 128})

struct boot_source_config {
	char *kernel_image_path;
	char *initrd_path; /* NULL: none */
	char *boot_args;   /* NULL: the default command line; "" is an empty one */
};

struct serial_config {
	char *serial_out_path; /* NULL: standard output */
	struct token_bucket_config rate_limiter;
	bool has_rate_limiter;
};

enum snapshot_type { SNAPSHOT_FULL, SNAPSHOT_DIFF };

enum snapshot_compression { SNAPSHOT_COMPRESSION_NONE, SNAPSHOT_COMPRESSION_LZ4 };

struct snapshot_create_config {
	char *snapshot_path; /* of the state file */
	char *mem_file_path;
	enum snapshot_type snapshot_type;
	enum snapshot_compression compression; /* of the memory file */
};

enum memory_backend { MEMORY_BACKEND_FILE, MEMORY_BACKEND_UFFD };

struct memory_backend_config {
	enum memory_backend backend_type;
	char *backend_path; /* the memory file, or the socket of who serves page faults */
};

/* What a restored device uses in the place of what the snapshot says. */
struct net_override {
	char *iface_id;
	char *host_dev_name;
};

struct drive_override {
	char *drive_id;
	char *path_on_host;
};

struct vsock_override {
	char *uds_path;
};

enum load_huge_pages {
	LOAD_HUGE_PAGES_SNAPSHOT, /* as it was */
	LOAD_HUGE_PAGES_NONE,
	LOAD_HUGE_PAGES_TRANSPARENT,
	LOAD_HUGE_PAGES_2M,
};

#define SNAPSHOT_OVERRIDES_MAX 64

struct snapshot_load_config {
	char *snapshot_path;
	char *mem_file_path; /* deprecated: mem_backend of type File */
	struct memory_backend_config mem_backend;
	bool has_mem_backend;
	bool enable_diff_snapshots; /* deprecated: track_dirty_pages */
	bool has_enable_diff_snapshots;
	bool track_dirty_pages;
	bool resume_vm;
	bool clock_realtime;
	enum load_huge_pages huge_pages;
	struct net_override network_overrides[SNAPSHOT_OVERRIDES_MAX];
	uint32_t network_override_count;
	struct drive_override drive_overrides[SNAPSHOT_OVERRIDES_MAX];
	uint32_t drive_override_count;
	struct vsock_override vsock_override;
	bool has_vsock_override;
	char *record_working_set;       /* where to; NULL: not recorded */
	uint64_t record_working_set_ms; /* for how long; 0: until a pause or the end */
	char *prefetch_working_set;     /* from where; NULL: no */
};

struct metrics_config {
	char *metrics_path;
	bool emit_id;     /* put the microVM's id into every line */
	char *properties; /* a JSON object of strings to put into every line; NULL: none */
};

#endif
