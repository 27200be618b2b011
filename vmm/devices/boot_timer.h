// SPDX-License-Identifier: Apache-2.0
/* The boot timer: a register that a guest's init writes to, so that the log says how long the boot took. */
#ifndef DEVICES_BOOT_TIMER_H
#define DEVICES_BOOT_TIMER_H

#include <stdint.h>
#include "vmm/core/bus.h"

#define BOOT_TIMER_BYTES 0x1000u
#define BOOT_TIMER_MAGIC 123u /* one byte, written to offset 0 */

/* A moment on the clocks that the timer reports. */
struct boot_time {
	uint64_t wall_us; /* CLOCK_MONOTONIC */
	uint64_t cpu_us;  /* of the whole process */
};

struct boot_timer;

struct boot_time boot_time_now(void);

/* Counts from this call until boot_timer_set_start() says otherwise. NULL: no memory. */
struct boot_timer *boot_timer_new(void) must_check;
void boot_timer_free(struct boot_timer *timer);

/* When the request to start was received. Before vCPUs run. */
void boot_timer_set_start(struct boot_timer *timer, struct boot_time start);

extern const struct bus_ops boot_timer_bus_ops;

#endif
