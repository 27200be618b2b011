// SPDX-License-Identifier: Apache-2.0
/* The tables by which a guest finds its hardware: ACPI (hardware-reduced) and, for guests without it, the MP table. */
#ifndef ARCH_X86_64_FIRMWARE_H
#define ARCH_X86_64_FIRMWARE_H

#include <stdbool.h>
#include <stdint.h>
#include "vmm/core/error.h"
#include "vmm/core/guest_memory.h"

struct firmware_virtio_device {
	uint64_t base; /* of its virtio-mmio window, LAYOUT_VIRTIO_MMIO_BYTES long */
	uint32_t gsi;
};

struct firmware_machine {
	unsigned vcpu_count;
	const struct firmware_virtio_device *virtio;
	unsigned virtio_count;
};

/*
 * Writes RSDP, XSDT, FADT, MADT, DSDT at the addresses of layout.h. The DSDT names: one LNRO0005 per virtio device,
 * VMGENCTR, VMCLOCK (AMZNC10C), a GED that notifies both, COM1, the keyboard controller, a power button-less \_S5 for
 * the sleep control register. *rsdp is the address for the boot parameters.
 */
int firmware_write_acpi(const struct guest_memory *mem, const struct firmware_machine *machine,
			gpa_t *rsdp, struct error *err) must_check;

/* Writes an MP table (specification 1.4) for guests that run with acpi=off. */
int firmware_write_mptable(const struct guest_memory *mem, const struct firmware_machine *machine,
			   struct error *err) must_check;

#endif
