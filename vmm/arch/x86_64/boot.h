// SPDX-License-Identifier: Apache-2.0
/* Puts kernel, initrd, command line and boot structures into guest memory. */
#ifndef ARCH_X86_64_BOOT_H
#define ARCH_X86_64_BOOT_H

#include <stdint.h>
#include "vmm/core/error.h"
#include "vmm/core/guest_memory.h"

enum boot_protocol { BOOT_PVH, BOOT_LINUX_64, BOOT_LINUX_BZIMAGE };

struct boot_kernel {
	enum boot_protocol protocol;
	gpa_t entry;
	gpa_t end; /* first byte after the kernel's memory, .bss and decompression space included */
	uint8_t setup_header
		[0x100]; /* bzImage: the file's bytes from 0x1f1 on, for the zero page */
	uint32_t setup_header_bytes;
};

struct boot_initrd {
	gpa_t start;
	uint64_t size_bytes; /* 0: none */
};

/*
 * Loads an ELF vmlinux (PVH note, or Linux 64-bit protocol without one) or a bzImage (protocol 2.12 and XLF_KERNEL_64)
 * from fd into RAM at or above 1 MiB. The file is hostile. Fills kernel. -ENOEXEC and a text that names what is wrong.
 */
int boot_load_kernel(const struct guest_memory *mem, int fd, struct boot_kernel *kernel,
		     struct error *err) must_check;

/* Loads the initrd page-aligned at the top of the first RAM region, above the kernel. */
int boot_load_initrd(const struct guest_memory *mem, int fd, const struct boot_kernel *kernel,
		     struct boot_initrd *initrd, struct error *err) must_check;

/*
 * Writes the command line and what the kernel's protocol wants (start_info or zero page, memory map, GDT, page tables).
 * rsdp is where the ACPI root pointer is (0: none).
 */
int boot_write_params(const struct guest_memory *mem, const struct boot_kernel *kernel,
		      const struct boot_initrd *initrd, const char *cmdline, gpa_t rsdp,
		      struct error *err) must_check;

/* The RAM regions for a machine of that size, around the holes (layout.h). Gives the number of regions. */
unsigned boot_ram_layout(uint64_t size_bytes,
			 struct guest_region regions[GUEST_MEMORY_REGIONS_MAX]);

#endif
