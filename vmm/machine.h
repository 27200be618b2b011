// SPDX-License-Identifier: Apache-2.0
/* A machine: memory, vCPUs, devices and a loaded kernel, built from a plan. */
#ifndef VMM_MACHINE_H
#define VMM_MACHINE_H

#include <stdbool.h>
#include "vmm/config.h"
#include "vmm/core/error.h"
#include "vmm/devices/boot_timer.h"

struct guest_memory;
struct kvm_ahead;
struct loop;
struct machine;
struct seccomp_filters;
struct virtio_device;

/* Everything that a machine is made of; all borrowed, for the machine's life where devices are concerned. */
struct machine_plan {
	const struct machine_config *config;
	int kernel_fd;
	int initrd_fd;         /* -1: none */
	const char *boot_args; /* NULL: the default command line */
	const char *root;      /* "root=… ro|rw" for the command line; NULL: no root drive */
	struct virtio_device *const *virtio; /* in the order in which guests see them */
	unsigned virtio_count;
	const struct serial_config *serial;
	bool boot_timer;
	struct machine *
		*prepared; /* by machine_prepare(); taken over, and used if it fits. NULL: none */
	struct kvm_ahead *
		*ahead; /* taken for a machine that was not prepared. NULL, or NULL there: none */
	const struct seccomp_filters *filters; /* for vCPU threads; NULL: none */
	struct boot_time started;              /* when the request to start came in */

	/* The guest has ended: power-off, reset, fault. Called on a vCPU thread, perhaps more than once. */
	void (*on_end)(void *ctx, int exit_code, const char *reason);
	void *on_end_ctx;
	/* For a restore: its page fault handler is dead and the loop waits for a page (vmm/uffd_watch.h). */
	void (*on_frozen)(void *ctx, struct loop *own_loop);
	void *on_frozen_ctx;
};

/*
 * What of a machine can be made before it is known what it will run: the KVM machine, its interrupt controllers and as many
 * vCPUs as the plan's config says, their threads standing still. Of the plan, config, filters and on_end count. NULL and
 * a text on error. Freed by machine_free() unless a plan takes it.
 */
struct machine *machine_prepare(const struct machine_plan *plan, struct loop *loop,
				struct error *err) must_check;

/* Builds the machine, its vCPUs standing still. NULL and a text on error; then the plan's devices are as before. */
struct machine *machine_build(const struct machine_plan *plan, struct loop *loop,
			      struct error *err) must_check;

struct memory_file;
struct state_file;

/* Where a machine is restored from. */
struct machine_source {
	const struct state_file *state; /* borrowed for the call */
	struct memory_file *memory;     /* its descriptor is taken over; NULL: uffd_path */
	const char *uffd_path;          /* socket of a page fault handler */
	const uint8_t *stamp;           /* LAYOUT_STAMP_BYTES that the memory must hold */
	bool clock_realtime;            /* the guest's clock goes forward to now */
};

/*
 * Builds the machine that the snapshot describes, its vCPUs and devices standing still. The plan is as for
 * machine_build(), without a kernel. NULL and a text on error.
 */
struct machine *machine_restore(const struct machine_plan *plan,
				const struct machine_source *source, struct loop *loop,
				struct error *err) must_check;

struct working_set;

/*
 * Maps pages that a restored guest is about to touch, before it runs, as far as some milliseconds and the kernel allow;
 * each is an exit less.
 */
void machine_prefault(struct machine *machine, const struct working_set *set);

/* Appends the machine's sections; it must be paused. */
int machine_save(struct machine *machine, struct state_file *file, struct error *err) must_check;

/* Borrowed. What was written since the last snapshot is in its map of dirty pages after machine_collect_dirty(). */
struct guest_memory *machine_memory(struct machine *machine);
int machine_collect_dirty(struct machine *machine, struct error *err) must_check;

/* Writes the mark by which a memory file and its state are known to belong together. */
int machine_stamp(struct machine *machine, const uint8_t *stamp, struct error *err) must_check;

/* The CPUID of the snapshot's first vCPU against what this host has. 0, or -errno and a text. */
int machine_check_processor(const struct state_file *state, struct error *err) must_check;

/* Loop thread. Idempotent. A paused machine's devices take nothing from guest or host. */
void machine_run(struct machine *machine);
void machine_pause(struct machine *machine);

void machine_send_ctrl_alt_del(struct machine *machine);

/* Ends the vCPUs, detaches the virtio devices, frees the rest. NULL allowed. */
void machine_free(struct machine *machine);

#endif
