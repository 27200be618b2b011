// SPDX-License-Identifier: Apache-2.0
/* Shared by the kernel loaders and what writes the boot structures; nothing outside this folder includes it. */
#ifndef ARCH_X86_64_BOOT_INTERNAL_H
#define ARCH_X86_64_BOOT_INTERNAL_H

#include <stdint.h>
#include "vmm/arch/x86_64/boot.h"

/* The Linux 64-bit protocol is entered with the first GiB mapped one to one: the kernel must lie inside. */
#define BOOT_MAPPED_BYTES (1ull << 30)

/* The four descriptors of the boot GDT; code is 64-bit or 32-bit by protocol. */
enum boot_gdt_slot { BOOT_GDT_NULL, BOOT_GDT_CODE, BOOT_GDT_DATA, BOOT_GDT_TSS, BOOT_GDT_COUNT };

/* The descriptor that a protocol wants in a slot: flat segments, base 0. */
uint64_t boot_gdt_entry(enum boot_protocol protocol, enum boot_gdt_slot slot);

/*
 * Fills out with len bytes from offset of the file. 1 when the file ends before that (out undefined), 0 when all is
 * there, -errno and a text when reading fails.
 */
int boot_read_at(int fd, uint64_t offset, void *out, uint64_t len, struct error *err) must_check;

int boot_load_elf(const struct guest_memory *mem, int fd, struct boot_kernel *kernel,
		  struct error *err) must_check;
int boot_load_bzimage(const struct guest_memory *mem, int fd, struct boot_kernel *kernel,
		      struct error *err) must_check;

#endif
