// SPDX-License-Identifier: Apache-2.0
/* What a snapshot says about a microVM as a whole: on what it was taken, and what was configured. */
#ifndef VMM_VM_SAVED_H
#define VMM_VM_SAVED_H

#include "snapshots/state.h"
#include "vmm/arch/x86_64/host_cpu.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/vm_internal.h"

#define SAVED_VERSION_BYTES 65u

struct saved_manifest {
	char monitor[SAVED_VERSION_BYTES];     /* this program's version */
	char host_kernel[SAVED_VERSION_BYTES]; /* uname's release */
	struct host_cpu cpu;
	uint64_t created_s; /* seconds since 1970, UTC */
	uint64_t memory_bytes;
	uint32_t vcpus;
	bool is_diff; /* the memory file holds differences only */
	uint8_t stamp[LAYOUT_STAMP_BYTES];
};

extern const struct state_kind saved_manifest_kind; /* of struct saved_manifest */

/* Fills in what is true of this host and program, and a new stamp. 0, or -errno and a text. */
int saved_manifest_make(struct saved_manifest *manifest, struct error *err) must_check;

/* A copy of what is configured, in the order in which guests see devices. */
struct saved_config {
	struct machine_config machine;
	struct boot_source_config boot;
	bool has_boot_source;
	bool boot_timer;
	struct block_config drives[VM_DRIVES_MAX];
	uint32_t drive_count;
	struct net_config nets[VM_NETS_MAX];
	uint32_t net_count;
	struct vsock_config vsock;
	bool has_vsock;
	struct rng_config entropy;
	bool has_entropy;
};

extern const struct state_kind saved_config_kind; /* of struct saved_config */

/* Borrows the microVM's strings: for saving only. */
void saved_config_borrow(struct saved_config *config, const struct vm *vm);

/* Frees the strings of a config that was loaded. */
void saved_config_free(struct saved_config *config);

#endif
