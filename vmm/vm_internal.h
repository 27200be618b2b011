// SPDX-License-Identifier: Apache-2.0
/* What a microVM is, for the files that implement vm.h. */
#ifndef VMM_VM_INTERNAL_H
#define VMM_VM_INTERNAL_H

#include <stdatomic.h>
#include "snapshots/dirty.h"
#include "snapshots/working_set.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/vm.h"

struct kvm_ahead;
struct machine;
struct loop_source;
struct virtio_device;

/* More than a machine has room for, so that the start, not the configuration, says what does not fit. */
#define VM_DRIVES_MAX 64
#define VM_NETS_MAX   64

struct vm_drive {
	struct block_config config; /* owned */
	struct virtio_device *dev;  /* owned */
};

struct vm_net {
	struct net_config config;
	struct virtio_device *dev;
};

/* A working set that is being recorded. */
struct vm_recorder {
	char *path;     /* owned; NULL: none */
	int pagemap_fd; /* valid while there is a path */
	struct loop_source *timer;
	uint8_t stamp[WORKING_SET_STAMP_BYTES];
};

struct vm {
	struct loop *loop;
	struct vm_options options;
	enum vm_state state;
	struct machine *machine; /* NULL before the start */
	/* For the start or load to come; NULL: none */
	struct machine *prepared;
	struct kvm_ahead *ahead;

	struct machine_config machine_config;
	struct boot_source_config boot_source;
	bool has_boot_source;
	int kernel_fd, initrd_fd; /* opened when configured, closed when started; -1: none */
	struct vm_drive drives[VM_DRIVES_MAX]; /* the root drive first */
	unsigned drive_count;
	struct vm_net nets[VM_NETS_MAX];
	unsigned net_count;
	struct vsock_config vsock_config;
	struct virtio_device *vsock; /* NULL: none */
	struct rng_config rng_config;
	struct virtio_device *rng;
	struct serial_config serial;

	struct dirty_history history; /* of the machine's memory */
	/* Of the snapshot that the next difference begins at. */
	uint8_t base_stamp[LAYOUT_STAMP_BYTES];
	bool has_base;
	bool configured;     /* vm_note_configured() */
	_Atomic bool frozen; /* vm_is_frozen() */
	bool has_boot_timer;
	struct vm_recorder recorder;

	/* How the guest's end gets from a vCPU's thread to the loop */
	int end_fd; /* eventfd */
	struct loop_source *end_source;
	_Atomic int end_code;
	_Atomic bool ended;
};

void vm_free_devices(struct vm *vm);

/*
 * Records which pages the guest touches from now on, as the load asks for; nothing if it does not. Before privileges are
 * given up. The end writes the list, once; a failure is a line in the log.
 */
int vm_record_start(struct vm *vm, const struct snapshot_load_config *config, const uint8_t *stamp,
		    struct error *err) must_check;
void vm_record_end(struct vm *vm);

/* On a vCPU's thread: the guest has ended. */
void vm_on_guest_end(void *ctx, int exit_code, const char *reason);

/* The "root=…" parameter of the root drive; NULL when there is none. text has room for it. */
#define VM_ROOT_PARAM_BYTES 128
const char *vm_root_param(const struct vm *vm, char text[VM_ROOT_PARAM_BYTES]);

/* All virtio devices in the order of their windows. Gives their number. */
#define VM_DEVICES_MAX (VM_DRIVES_MAX + VM_NETS_MAX + 2)
unsigned vm_list_devices(const struct vm *vm, struct virtio_device *list[VM_DEVICES_MAX]);

#endif
