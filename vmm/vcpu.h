// SPDX-License-Identifier: Apache-2.0
/* vCPU threads: running guest code, handling exits, pausing. */
#ifndef VMM_VCPU_H
#define VMM_VCPU_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "vmm/config.h"
#include "vmm/core/error.h"

struct bus;
struct kvm;
struct kvm_run;
struct loop;
struct seccomp_filters;
struct vcpus;

struct vcpu {
	struct vcpus *all; /* the set that it belongs to */
	unsigned index;
	int fd;
	struct kvm_run *run; /* shared with KVM; owned mapping */
	pthread_t thread;
};

enum vcpus_request { VCPUS_PAUSE, VCPUS_RUN, VCPUS_EXIT };

struct vcpus {
	struct vcpu vcpu[VCPUS_MAX];
	unsigned count;
	unsigned started; /* threads, from index 0 on */
	uint32_t run_bytes;
	const struct bus *ports; /* I/O ports */
	const struct bus *mmio;  /* memory-mapped registers */
	struct loop *loop;
	const struct seccomp_filters *filters; /* that threads enter; NULL: none */
	int ack_fd;                            /* eventfd: a thread has come to a stop */
	/* A vCPU has met the end of the machine (called on its thread, at most once a vCPU). */
	void (*on_end)(void *ctx, int exit_code, const char *reason);
	void *on_end_ctx;

	pthread_mutex_t lock; /* protects what follows */
	pthread_cond_t changed;
	enum vcpus_request request;
	unsigned stopped; /* threads that stand still */
	unsigned ended;   /* threads that are about to return */
};

/*
 * Creates count vCPUs in the VM, without threads. ports, mmio and loop are borrowed for the life of the set.
 * vcpus_free() releases whatever was made, also after an error.
 */
int vcpus_create(struct vcpus *vcpus, const struct kvm *kvm, unsigned count,
		 const struct bus *ports, const struct bus *mmio, struct loop *loop,
		 struct error *err) must_check;

/* Starts the threads that are not there yet ("fc_vcpu N", the name that engines look for), standing still. */
int vcpus_start_threads(struct vcpus *vcpus, struct error *err) must_check;

/* Lets all run / brings all to a stop and waits for it, serving loop_call()s meanwhile. Loop thread. Idempotent. */
void vcpus_run(struct vcpus *vcpus);
void vcpus_pause(struct vcpus *vcpus);

/* Tells the guests' clocks that time stood still; a pause does that by itself, a restore has to. */
void vcpus_mark_stopped(const struct vcpus *vcpus);

/* Ends and joins the threads and closes the vCPUs. */
void vcpus_free(struct vcpus *vcpus);

#endif
