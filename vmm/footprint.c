// SPDX-License-Identifier: Apache-2.0
/* Keeping the monitor small. */
#include "vmm/footprint.h"

#include <link.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include "vmm/core/checked.h"

#define PAGE_BYTES 4096u

/* Only segments that are mapped without PF_W are as in the file; others hold relocations and data. */
static int drop_read_only(struct dl_phdr_info *info, size_t size, void *ctx)
{
	(void)size;
	(void)ctx;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];

		if (segment->p_type != PT_LOAD || (segment->p_flags & PF_W))
			continue;
		uintptr_t start = align_down(info->dlpi_addr + segment->p_vaddr, PAGE_BYTES);
		uintptr_t end =
			align_up(info->dlpi_addr + segment->p_vaddr + segment->p_memsz, PAGE_BYTES);

		(void)madvise((void *)start, end - start, MADV_DONTNEED);
	}
	return 1; /* the program itself comes first; anything else (vDSO, sanitizers) is left alone */
}

void footprint_drop_start_code(void)
{
	dl_iterate_phdr(drop_read_only, NULL);
}
