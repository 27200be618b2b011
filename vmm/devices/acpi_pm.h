// SPDX-License-Identifier: Apache-2.0
/* Power-off and reset for an ACPI operating system: the sleep and reset registers of the hardware-reduced model. */
#ifndef DEVICES_ACPI_PM_H
#define DEVICES_ACPI_PM_H

#include "vmm/arch/x86_64/layout.h"
#include "vmm/core/bus.h"

#define ACPI_PM_PORTS LAYOUT_PORT_SLEEP_BYTES

struct acpi_pm;

/* The callbacks run with ctx on a vCPU's thread, perhaps on several at once and more than once. NULL: no memory. */
struct acpi_pm *acpi_pm_new(void (*power_off)(void *ctx), void (*reset)(void *ctx),
			    void *ctx) must_check;
void acpi_pm_free(struct acpi_pm *pm);

extern const struct bus_ops acpi_pm_bus_ops;

#endif
