// SPDX-License-Identifier: Apache-2.0
/* The programmable interval timer, made when a guest first reaches for it. */
#ifndef ARCH_X86_64_PIT_H
#define ARCH_X86_64_PIT_H

#include <pthread.h>
#include <stdbool.h>
#include "vmm/core/bus.h"

#define PIT_PORT_BASE 0x40u
#define PIT_PORTS     4u

struct pit {
	int vm_fd;            /* borrowed */
	pthread_mutex_t lock; /* protects what follows */
	bool made;
};

void pit_init(struct pit *pit, int vm_fd);
void pit_destroy(struct pit *pit);

/* Makes KVM's timer, which a snapshot says was there. 0 or -errno. The vCPUs stand still. */
int pit_make(struct pit *pit) must_check;

/* For the ports from PIT_PORT_BASE; ctx is the struct pit. Once KVM's own timer is there, accesses no longer come here. */
extern const struct bus_ops pit_bus_ops;

#endif
