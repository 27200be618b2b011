// SPDX-License-Identifier: Apache-2.0
/* ACPI sleep control and reset registers (ACPI 6.5, 4.8.3.6 and 4.8.3.7); their values are in layout.h. Stateless. */
#include "vmm/devices/acpi_pm.h"

#include <stdlib.h>
#include <string.h>

/* Bits of the sleep control register that the operating system may set freely are no part of the decision. */
#define SLEEP_MASK (7u << 2 | 1u << 5)

struct acpi_pm {
	void (*power_off)(void *ctx);
	void (*reset)(void *ctx);
	void *ctx;
};

static void read_zero(void *ctx, uint64_t offset, void *data, uint32_t len)
{
	(void)ctx;
	(void)offset;
	memset(data, 0, len);
}

static void write_pm(void *ctx, uint64_t offset, const void *data, uint32_t len)
{
	const struct acpi_pm *pm = ctx;
	const uint8_t *value = data;

	if (len != 1)
		return;
	if (offset == LAYOUT_SLEEP_CONTROL && (*value & SLEEP_MASK) == LAYOUT_SLEEP_OFF)
		pm->power_off(pm->ctx);
	if (offset == LAYOUT_SLEEP_RESET && *value == LAYOUT_RESET_VALUE)
		pm->reset(pm->ctx);
}

const struct bus_ops acpi_pm_bus_ops = {.read = read_zero, .write = write_pm};

struct acpi_pm *acpi_pm_new(void (*power_off)(void *ctx), void (*reset)(void *ctx), void *ctx)
{
	struct acpi_pm *pm = malloc(sizeof(*pm));

	if (pm)
		*pm = (struct acpi_pm){.power_off = power_off, .reset = reset, .ctx = ctx};
	return pm;
}

void acpi_pm_free(struct acpi_pm *pm)
{
	free(pm);
}
