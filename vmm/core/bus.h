// SPDX-License-Identifier: Apache-2.0
/* A bus: which device answers at an I/O port or a memory-mapped address. Filled before vCPUs run, read-only afterwards. */
#ifndef BANTAM_CORE_BUS_H
#define BANTAM_CORE_BUS_H

#include <stdbool.h>
#include <stdint.h>
#include "vmm/core/cleanup.h"
#include "vmm/core/error.h"

/*
 * Both run on a vCPU's thread, several vCPUs at once: the device takes its own lock. offset counts from the start of the
 * device's range; len is 1, 2, 4 or 8 and offset + len lies in the range. read fills all len bytes.
 */
struct bus_ops {
	void (*read)(void *ctx, uint64_t offset, void *data, uint32_t len);
	void (*write)(void *ctx, uint64_t offset, const void *data, uint32_t len);
};

#define BUS_RANGES_MAX 48

struct bus_range {
	uint64_t base;
	uint64_t size;
	const struct bus_ops *ops;
	void *ctx;
};

struct bus {
	struct bus_range ranges[BUS_RANGES_MAX]; /* ascending by base, not overlapping */
	unsigned count;
};

/* -EEXIST when the range overlaps one that is there, -ENOSPC when the bus is full, -EINVAL when it is empty or wraps. */
int bus_add(struct bus *bus, uint64_t base, uint64_t size, const struct bus_ops *ops,
	    void *ctx) must_check;

/*
 * false when no device claims the whole access [addr, addr + len); then a read has filled data with zeroes and a write
 * had no effect.
 */
bool bus_read(const struct bus *bus, uint64_t addr, void *data, uint32_t len);
bool bus_write(const struct bus *bus, uint64_t addr, const void *data, uint32_t len);

#endif
