// SPDX-License-Identifier: Apache-2.0
/*
 * The microVM: the one interface that the API and the command line's configuration call, and its state machine.
 *
 * DOC: Loop thread only. Whether a call is allowed in a state is the caller's table's business (api/routes.c: each row
 * says before, after or both), so that the rule is written once; calls that would be dangerous check again and answer
 * with the same sentences. Setters move what is in *config into the microVM on success (the caller's struct is emptied)
 * and leave it untouched on error.
 */
#ifndef VMM_VM_H
#define VMM_VM_H

#include <stdbool.h>
#include <stdint.h>
#include "vmm/config.h"
#include "vmm/core/error.h"

struct loop;
struct seccomp_filters;
struct vm;

enum vm_state { VM_NOT_STARTED, VM_RUNNING, VM_PAUSED, VM_STATE_COUNT };

#define VM_FAULT_BEFORE_START \
	"The requested operation is not supported before starting the microVM."
#define VM_FAULT_FROZEN      "The microVM is frozen: its page fault handler is gone."
#define VM_FAULT_AFTER_START "The requested operation is not supported after starting the microVM."

struct vm_options {
	const char *id; /* borrowed for the microVM's life */
	bool boot_timer;
	const struct seccomp_filters *filters; /* entered when a machine starts; NULL: none */
	/* Called on the loop thread when the microVM has come to its end by itself: exit_code as in §7.4's table. */
	void (*on_exit)(void *ctx, int exit_code);
	void *on_exit_ctx;
	/*
	 * Called on a thread of its own when the loop's thread waits for a page of guest memory that nobody brings: it is to
	 * serve the API in own_loop from there on, and to end the process without vm_free().
	 */
	void (*on_frozen)(void *ctx, struct loop *own_loop);
	void *on_frozen_ctx;
};

/* NULL: no memory. */
struct vm *vm_new(struct loop *loop, const struct vm_options *options) must_check;
/* Stops and joins vCPUs, frees devices. NULL allowed. */
void vm_free(struct vm *vm);

/*
 * Makes the KVM machine with that many vCPUs and their threads ready, for the start or load to come, which is then the
 * shorter for it; one with another number of vCPUs makes its own. 0, or -errno and a text.
 */
int vm_prepare(struct vm *vm, unsigned vcpu_count, struct error *err) must_check;

/*
 * Begins to make the KVM machine in the background, for a start or load that is some requests away; nothing where one is
 * prepared. What fails is tried again when it is needed.
 */
void vm_begin_ahead(struct vm *vm);

enum vm_state vm_state(const struct vm *vm);
const char *vm_id(const struct vm *vm);
/*
 * on_frozen() has been called: what is configured can still be asked for, and nothing be done any more. Any thread. The
 * loop has been told to stop; should its thread come back, it must leave the process to the other one.
 */
bool vm_is_frozen(const struct vm *vm);

/* What is configured, for GETs and for PATCH to start from. Borrowed, valid until the next setter. */
const struct machine_config *vm_machine_config(const struct vm *vm);
const struct boot_source_config *vm_boot_source(const struct vm *vm); /* NULL: not set */
const struct block_config *vm_drive(const struct vm *vm,
				    unsigned index); /* attach order; NULL past the end */
const struct net_config *vm_net(const struct vm *vm, unsigned index);
const struct vsock_config *vm_vsock(const struct vm *vm); /* NULL: none */
const struct rng_config *vm_entropy(const struct vm *vm); /* NULL: none */

/* Before the start. Each validates, opens what the configuration names, and replaces what had the same id. */
int vm_set_machine_config(struct vm *vm, struct machine_config *config,
			  struct error *err) must_check;
int vm_set_boot_source(struct vm *vm, struct boot_source_config *config,
		       struct error *err) must_check;
int vm_put_drive(struct vm *vm, struct block_config *config, struct error *err) must_check;
int vm_put_net(struct vm *vm, struct net_config *config, struct error *err) must_check;
int vm_set_vsock(struct vm *vm, struct vsock_config *config, struct error *err) must_check;
int vm_set_entropy(struct vm *vm, struct rng_config *config, struct error *err) must_check;
int vm_set_serial(struct vm *vm, struct serial_config *config, struct error *err) must_check;

/* After the start. path_on_host and rate limiters may be NULL: unchanged. -ENODEV for an id that is not there. */
int vm_patch_drive(struct vm *vm, const char *drive_id, const char *path_on_host,
		   const struct rate_limiter_config *rate_limiter, struct error *err) must_check;
int vm_patch_net(struct vm *vm, const char *iface_id, const struct rate_limiter_config *rx,
		 const struct rate_limiter_config *tx, struct error *err) must_check;

/* Actions. start: a failure leaves everything configurable. pause and resume are idempotent. */
int vm_start(struct vm *vm, struct error *err) must_check;
int vm_pause(struct vm *vm, struct error *err) must_check;
int vm_resume(struct vm *vm, struct error *err) must_check;
int vm_send_ctrl_alt_del(struct vm *vm, struct error *err) must_check;

/* Writes state and memory of a paused microVM, which stays as it is whatever happens. */
int vm_create_snapshot(struct vm *vm, const struct snapshot_create_config *config,
		       struct error *err) must_check;

/*
 * Becomes the microVM of a snapshot, paused or (resume_vm) running. Only before the start, and before anything that is
 * part of a snapshot was configured. A load that fails leaves nothing to go on with: on_exit() has been called.
 */
int vm_load_snapshot(struct vm *vm, const struct snapshot_load_config *config,
		     struct error *err) must_check;

/* Somebody has tried to configure what is part of a snapshot. */
void vm_note_configured(struct vm *vm);

#endif
