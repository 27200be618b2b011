// SPDX-License-Identifier: Apache-2.0
/*
 * The guest-physical address map, interrupt numbers and I/O ports of an x86_64 microVM: its ABI towards guests.
 * Header only, no logic. What is here is visible to guests and to snapshots: change it only together with the snapshot
 * format's version.
 */
#ifndef ARCH_X86_64_LAYOUT_H
#define ARCH_X86_64_LAYOUT_H

/* Boot structures in low memory */
#define LAYOUT_BOOT_GDT       0x500u
#define LAYOUT_BOOT_IDT       0x520u
#define LAYOUT_PVH_START_INFO 0x6000u
#define LAYOUT_PVH_MODULES    0x6040u
#define LAYOUT_PVH_MEMMAP     0x7000u
#define LAYOUT_ZERO_PAGE      0x7000u /* Linux 64-bit protocol; never both */
#define LAYOUT_BOOT_STACK     0x8ff0u
#define LAYOUT_BOOT_PML4      0x9000u
#define LAYOUT_BOOT_PDPT      0xa000u
#define LAYOUT_BOOT_PD        0xb000u
#define LAYOUT_CMDLINE        0x20000u
#define LAYOUT_CMDLINE_MAX    2048u /* with the NUL */

/* Reserved for firmware tables, above the usable low memory */
#define LAYOUT_SYSTEM_START 0x9fc00u
#define LAYOUT_MPTABLE      0x9fc00u
#define LAYOUT_ACPI_TABLES  0xa0000u /* tables one after another, up to the next */
#define LAYOUT_VMCLOCK      0xde000u /* one page */
#define LAYOUT_VMGENID      0xdf000u /* 16 bytes */
#define LAYOUT_STAMP \
	0xdf010u /* 16 bytes: by which state and memory of a snapshot know each other */
#define LAYOUT_STAMP_BYTES 16u
#define LAYOUT_RSDP        0xe0000u
#define LAYOUT_HIGH_RAM    0x100000u /* kernels are loaded from here on */

/* RAM and the holes in it */
#define LAYOUT_MMIO32_START  0xc0000000ull
#define LAYOUT_MMIO32_END    0x100000000ull
#define LAYOUT_MMIO64_START  (256ull << 30)
#define LAYOUT_MMIO64_END    (512ull << 30)
#define LAYOUT_RAM_MAX_BYTES (1022ull << 30)

/* Devices in the 32-bit hole */
#define LAYOUT_BOOT_TIMER        0xc0000000ull
#define LAYOUT_VIRTIO_MMIO       0xc0001000ull /* one window a device */
#define LAYOUT_VIRTIO_MMIO_BYTES 0x1000u
#define LAYOUT_IOAPIC            0xfec00000u
#define LAYOUT_LAPIC             0xfee00000u
#define LAYOUT_KVM_TSS           0xfffbd000u
#define LAYOUT_KVM_IDENTITY_MAP  0xfffbc000u

/* Global system interrupts */
#define LAYOUT_GSI_KEYBOARD     1u
#define LAYOUT_GSI_SERIAL       4u
#define LAYOUT_GSI_GED          5u /* VMGenID and VMClock events */
#define LAYOUT_GSI_VIRTIO_FIRST 6u
#define LAYOUT_GSI_VIRTIO_LAST  23u
#define LAYOUT_VIRTIO_MAX       (LAYOUT_GSI_VIRTIO_LAST - LAYOUT_GSI_VIRTIO_FIRST + 1)

/* I/O ports */
#define LAYOUT_PORT_I8042  0x60u
#define LAYOUT_PORT_SERIAL 0x3f8u
#define LAYOUT_PORT_SLEEP  0x600u /* three ports of one byte each, see below */

/*
 * Power-off and reset as ACPI's hardware-reduced model has them (6.5, 4.8.3.7 and 4.8.3.6), by byte-wide ports counted
 * from LAYOUT_PORT_SLEEP. The guest powers off by writing SLEEP_OFF to the control register (type of \_S5 in bits 2-4,
 * SLP_EN in bit 5; other values do nothing) and resets by writing RESET_VALUE to the reset register. All read as zero.
 */
#define LAYOUT_PORT_SLEEP_BYTES 3u
#define LAYOUT_SLEEP_CONTROL    0u
#define LAYOUT_SLEEP_STATUS     1u
#define LAYOUT_SLEEP_RESET      2u
#define LAYOUT_SLEEP_TYPE_S5    5u
#define LAYOUT_SLEEP_OFF        (LAYOUT_SLEEP_TYPE_S5 << 2 | 1u << 5)
#define LAYOUT_RESET_VALUE      0x42u

#endif
