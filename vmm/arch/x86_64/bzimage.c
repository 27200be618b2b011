// SPDX-License-Identifier: Apache-2.0
/*
 * The bzImage loader: the compressed kernel, entered at its 64-bit entry point (Linux x86 boot protocol, 2.12 and later).
 *
 * DOC: The protected-mode part goes to the kernel's preferred address. A kernel never decompresses below that
 * address even when it is relocatable, so nothing would be gained by another one, and where it is honoured the
 * decompressor need not move itself far. [load, load + init_size) is the kernel's to use before it looks at the
 * memory map; the initrd stays above.
 */
#include "vmm/arch/x86_64/boot_internal.h"

#include <asm/bootparam.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include "vmm/arch/x86_64/layout.h"
#include "vmm/core/checked.h"

#define SECTOR_BYTES       512u
#define PARAGRAPH_BYTES    16u
#define SETUP_HEADER_AT    0x1f1u
#define SETUP_SECTORS_ZERO 4u /* what a setup_sects of 0 means */
#define BOOT_FLAG          0xaa55u
#define HEADER_MAGIC       0x53726448u /* "HdrS" */
#define PROTOCOL_2_12      0x020cu
#define ENTRY_64_OFFSET    0x200u
/* The header ends where its short jump at 0x200 goes to: 0x202 + the jump's distance, never beyond the zero page's place. */
#define JUMP_TARGET_BASE 0x202u
#define HEADER_END_MAX   offsetof(struct boot_params, edd_mbr_sig_buffer)

typedef unsigned long long ull;

static int read_setup_header(int fd, struct setup_header *header, struct boot_kernel *kernel,
			     struct error *err)
{
	uint8_t raw[HEADER_END_MAX - SETUP_HEADER_AT];
	int ret = boot_read_at(fd, SETUP_HEADER_AT, raw, sizeof(raw), err);

	if (ret < 0)
		return ret;
	if (ret > 0)
		return error_set(err, -ENOEXEC,
				 "the file is neither ELF nor long enough for a bzImage");
	memcpy(header, raw, sizeof(*header));
	if (header->boot_flag != BOOT_FLAG || header->header != HEADER_MAGIC)
		return error_set(err, -ENOEXEC,
				 "the file is neither ELF nor a bzImage (boot flag 0x%04x, header "
				 "magic 0x%08x)",
				 header->boot_flag, header->header);
	uint32_t end = JUMP_TARGET_BASE + (header->jump >> 8);

	if (end > HEADER_END_MAX || end < SETUP_HEADER_AT + sizeof(*header) - sizeof(uint32_t))
		return error_set(err, -ENOEXEC,
				 "the bzImage setup header ends at 0x%x, expected 0x%zx to 0x%zx",
				 end, SETUP_HEADER_AT + sizeof(*header) - sizeof(uint32_t),
				 HEADER_END_MAX);
	kernel->setup_header_bytes = end - SETUP_HEADER_AT;
	memcpy(kernel->setup_header, raw, kernel->setup_header_bytes);
	return 0;
}

static int check_setup_header(const struct setup_header *header, struct error *err)
{
	if (header->version < PROTOCOL_2_12)
		return error_set(err, -ENOEXEC,
				 "bzImage does not provide a 64-bit entry point: boot protocol "
				 "%u.%02u, expected 2.12 or later",
				 header->version >> 8, header->version & 0xffu);
	if (!(header->xloadflags & XLF_KERNEL_64))
		return error_set(err, -ENOEXEC,
				 "bzImage does not provide a 64-bit entry point: xloadflags 0x%x "
				 "without XLF_KERNEL_64",
				 header->xloadflags);
	if (!(header->loadflags & LOADED_HIGH))
		return error_set(err, -ENOEXEC, "the bzImage is not to be loaded high (zImage)");
	return 0;
}

/* Bytes of the protected-mode part, which follows the setup sectors to the end of the file. */
static int payload_size(int fd, const struct setup_header *header, uint64_t *offset, uint64_t *size,
			struct error *err)
{
	struct stat st;
	uint32_t sectors = header->setup_sects ? header->setup_sects : SETUP_SECTORS_ZERO;

	if (fstat(fd, &st) < 0)
		return error_set_errno(err, "fstat failed");
	*offset = (sectors + 1) * (uint64_t)SECTOR_BYTES;
	*size = header->syssize * (uint64_t)PARAGRAPH_BYTES;
	/* The size is in paragraphs of 16 bytes: the last one may be cut short. */
	if (!range_within(*offset, *size, align_up((uint64_t)st.st_size, PARAGRAPH_BYTES)))
		return error_set(err, -ENOEXEC,
				 "the bzImage is cut off: %llu bytes, its header wants 0x%llx at "
				 "offset 0x%llx",
				 (ull)st.st_size, (ull)*size, (ull)*offset);
	if (*size > (uint64_t)st.st_size - *offset)
		*size = (uint64_t)st.st_size - *offset;
	if (*size <= ENTRY_64_OFFSET)
		return error_set(err, -ENOEXEC, "the bzImage has no protected-mode code");
	return 0;
}

/* Where to load: [*load, *load + *span) is the kernel's until it has read the memory map. */
static int choose_place(const struct guest_memory *mem, const struct setup_header *header,
			uint64_t payload_bytes, uint64_t *load, uint64_t *span, struct error *err)
{
	uint64_t limit = mem->regions[0].size_bytes;

	if (limit > BOOT_MAPPED_BYTES)
		limit = BOOT_MAPPED_BYTES;
	*load = header->pref_address;
	*span = header->init_size > payload_bytes ? header->init_size : payload_bytes;
	if (*load < LAYOUT_HIGH_RAM)
		return error_set(err, -ENOEXEC,
				 "the bzImage prefers address 0x%llx, below 0x%x where kernels may "
				 "start",
				 (ull)*load, LAYOUT_HIGH_RAM);
	if (!range_within(*load, *span, limit))
		return error_set(
			err, -ENOEXEC,
			"the bzImage needs 0x%llx bytes at 0x%llx, outside the memory up to "
			"0x%llx in which it can start",
			(ull)*span, (ull)*load, (ull)limit);
	return 0;
}

int boot_load_bzimage(const struct guest_memory *mem, int fd, struct boot_kernel *kernel,
		      struct error *err)
{
	struct setup_header header = {0};
	uint64_t offset = 0, payload_bytes = 0, load = 0, span = 0;
	int ret = read_setup_header(fd, &header, kernel, err);

	if (!ret)
		ret = check_setup_header(&header, err);
	if (!ret)
		ret = payload_size(fd, &header, &offset, &payload_bytes, err);
	if (!ret)
		ret = choose_place(mem, &header, payload_bytes, &load, &span, err);
	if (ret)
		return ret;
	void *host = guest_memory_at(mem, gpa(load), payload_bytes);

	if (!host)
		return error_set(err, -ENOEXEC, "the bzImage does not fit into guest memory");
	ret = boot_read_at(fd, offset, host, payload_bytes, err);
	if (ret > 0)
		return error_set(err, -ENOEXEC, "the bzImage became shorter while it was read");
	if (ret)
		return ret;
	kernel->protocol = BOOT_LINUX_BZIMAGE;
	kernel->entry = gpa(load + ENTRY_64_OFFSET);
	kernel->end = gpa(load + span);
	return 0;
}
