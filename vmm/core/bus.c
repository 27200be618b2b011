// SPDX-License-Identifier: Apache-2.0
/* Dispatch of register accesses. */
#include "vmm/core/bus.h"

#include <errno.h>
#include <string.h>
#include "vmm/core/checked.h"

int bus_add(struct bus *bus, uint64_t base, uint64_t size, const struct bus_ops *ops, void *ctx)
{
	uint64_t end;
	unsigned at = 0;

	if (size == 0 || add_overflows(base, size, &end))
		return -EINVAL;
	if (bus->count == BUS_RANGES_MAX)
		return -ENOSPC;
	while (at < bus->count && bus->ranges[at].base < base)
		at++;
	if (at > 0 && base - bus->ranges[at - 1].base < bus->ranges[at - 1].size)
		return -EEXIST;
	if (at < bus->count && bus->ranges[at].base < end)
		return -EEXIST;
	memmove(&bus->ranges[at + 1], &bus->ranges[at], (bus->count - at) * sizeof(bus->ranges[0]));
	bus->ranges[at] = (struct bus_range){base, size, ops, ctx};
	bus->count++;
	return 0;
}

/* The last range that starts at or below addr, if the access lies wholly in it. */
static const struct bus_range *find(const struct bus *bus, uint64_t addr, uint32_t len)
{
	unsigned low = 0, high = bus->count;

	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (bus->ranges[middle].base <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0)
		return NULL;
	const struct bus_range *range = &bus->ranges[low - 1];

	return range_within(addr - range->base, len, range->size) ? range : NULL;
}

bool bus_read(const struct bus *bus, uint64_t addr, void *data, uint32_t len)
{
	const struct bus_range *range = find(bus, addr, len);

	if (!range) {
		memset(data, 0, len);
		return false;
	}
	range->ops->read(range->ctx, addr - range->base, data, len);
	return true;
}

bool bus_write(const struct bus *bus, uint64_t addr, const void *data, uint32_t len)
{
	const struct bus_range *range = find(bus, addr, len);

	if (!range)
		return false;
	range->ops->write(range->ctx, addr - range->base, data, len);
	return true;
}
