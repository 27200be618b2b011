// SPDX-License-Identifier: Apache-2.0
/*
 * The ELF loader: vmlinux by its PVH note, or by the Linux 64-bit protocol without one.
 *
 * DOC: The file is hostile. Everything that is acted on is read once into locals and checked there: first the header,
 * then all program headers (at most SEGMENTS_MAX), then the notes (at most NOTES_MAX of them), and only when all of it
 * makes sense are segments read, straight from the page cache into guest memory. Segments must not overlap, so no more
 * is read than there is RAM. What lies between a segment's file bytes and its memory size is not cleared: RAM is fresh
 * from the host and reads as zero, and touching a kernel's .bss here would cost a page fault for each of its pages.
 */
#include "vmm/arch/x86_64/boot_internal.h"

#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include "vmm/arch/x86_64/layout.h"
#include "vmm/core/checked.h"

#define SEGMENTS_MAX 64
#define NOTES_MAX    1024

#define XEN_NOTE_NAME         "Xen"
#define XEN_NOTE_PHYS32_ENTRY 18

struct elf_image {
	int fd;
	Elf64_Ehdr header;
	Elf64_Phdr segments[SEGMENTS_MAX];
	bool has_pvh_entry;
	uint64_t pvh_entry;
};

typedef unsigned long long ull;

static int read_header(struct elf_image *image, struct error *err)
{
	const Elf64_Ehdr *header = &image->header;
	int ret = boot_read_at(image->fd, 0, &image->header, sizeof(image->header), err);

	if (ret < 0)
		return ret;
	if (ret > 0)
		return error_set(err, -ENOEXEC, "the ELF header is cut off");
	if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != ELFDATA2LSB)
		return error_set(err, -ENOEXEC,
				 "the ELF file is not 64-bit little-endian (class %u, data %u)",
				 header->e_ident[EI_CLASS], header->e_ident[EI_DATA]);
	if (header->e_machine != EM_X86_64)
		return error_set(err, -ENOEXEC, "the ELF file is for machine %u, not x86_64 (%u)",
				 header->e_machine, EM_X86_64);
	if (header->e_phentsize != sizeof(Elf64_Phdr))
		return error_set(err, -ENOEXEC, "ELF program headers of %u bytes, expected %zu",
				 header->e_phentsize, sizeof(Elf64_Phdr));
	if (header->e_phnum == 0 || header->e_phnum > SEGMENTS_MAX)
		return error_set(err, -ENOEXEC, "%u ELF program headers, expected 1 to %u",
				 header->e_phnum, SEGMENTS_MAX);
	return 0;
}

static int read_segments(struct elf_image *image, struct error *err)
{
	uint64_t len = image->header.e_phnum * sizeof(Elf64_Phdr);
	int ret = boot_read_at(image->fd, image->header.e_phoff, image->segments, len, err);

	if (ret > 0)
		return error_set(err, -ENOEXEC,
				 "the file ends before its %u program headers at offset 0x%llx",
				 image->header.e_phnum, (ull)image->header.e_phoff);
	return ret;
}

static bool is_loaded(const Elf64_Phdr *segment)
{
	return segment->p_type == PT_LOAD && segment->p_memsz > 0;
}

static int check_segment(const struct guest_memory *mem, const Elf64_Phdr *segment, unsigned index,
			 struct error *err)
{
	if (segment->p_filesz > segment->p_memsz)
		return error_set(err, -ENOEXEC,
				 "segment %u has 0x%llx bytes in the file for 0x%llx in memory",
				 index, (ull)segment->p_filesz, (ull)segment->p_memsz);
	if (segment->p_paddr < LAYOUT_HIGH_RAM)
		return error_set(err, -ENOEXEC,
				 "segment %u is at 0x%llx, below 0x%x where kernels may start",
				 index, (ull)segment->p_paddr, LAYOUT_HIGH_RAM);
	if (!range_within(segment->p_paddr, segment->p_memsz, mem->regions[0].size_bytes))
		return error_set(err, -ENOEXEC,
				 "segment %u needs 0x%llx bytes at 0x%llx, outside the memory that "
				 "ends at 0x%llx",
				 index, (ull)segment->p_memsz, (ull)segment->p_paddr,
				 (ull)mem->regions[0].size_bytes);
	return 0;
}

/* Neither sum overflows: check_segment() has seen both segments inside RAM. */
static bool overlap(const Elf64_Phdr *a, const Elf64_Phdr *b)
{
	return a->p_paddr < b->p_paddr + b->p_memsz && b->p_paddr < a->p_paddr + a->p_memsz;
}

static int check_segments(const struct guest_memory *mem, const struct elf_image *image,
			  struct error *err)
{
	unsigned loaded = 0;

	for (unsigned i = 0; i < image->header.e_phnum; i++) {
		if (!is_loaded(&image->segments[i]))
			continue;
		int ret = check_segment(mem, &image->segments[i], i, err);

		if (ret)
			return ret;
		loaded++;
		for (unsigned j = 0; j < i; j++) {
			if (is_loaded(&image->segments[j]) &&
			    overlap(&image->segments[i], &image->segments[j]))
				return error_set(err, -ENOEXEC,
						 "segments %u and %u overlap in memory", j, i);
		}
	}
	if (loaded == 0)
		return error_set(err, -ENOEXEC, "the ELF file has no segment to load");
	return 0;
}

static int read_note_bytes(const struct elf_image *image, const Elf64_Phdr *segment,
			   uint64_t offset, void *out, uint64_t len, struct error *err)
{
	uint64_t at;

	if (add_overflows(segment->p_offset, offset, &at))
		at = UINT64_MAX;
	int ret = boot_read_at(image->fd, at, out, len, err);

	if (ret > 0)
		return error_set(err, -ENOEXEC, "the file ends inside its notes at offset 0x%llx",
				 (ull)segment->p_offset);
	return ret;
}

static int read_pvh_note(struct elf_image *image, const Elf64_Phdr *segment, uint64_t name_at,
			 uint64_t value_at, uint32_t value_bytes, struct error *err)
{
	char name[sizeof(XEN_NOTE_NAME)];
	int ret = read_note_bytes(image, segment, name_at, name, sizeof(name), err);

	if (ret || memcmp(name, XEN_NOTE_NAME, sizeof(name)) != 0)
		return ret;
	if (value_bytes != 4 && value_bytes != 8)
		return error_set(err, -ENOEXEC,
				 "the PVH entry note has %u bytes, expected an address of 4 or 8",
				 value_bytes);
	image->pvh_entry = 0;
	ret = read_note_bytes(image, segment, value_at, &image->pvh_entry, value_bytes, err);
	image->has_pvh_entry = ret == 0;
	return ret;
}

/* One note at *offset of the segment; moves *offset past it. */
static int parse_note(struct elf_image *image, const Elf64_Phdr *segment, uint64_t *offset,
		      struct error *err)
{
	uint64_t align = segment->p_align == 8 ? 8 : 4;
	Elf64_Nhdr note = {0};
	int ret = read_note_bytes(image, segment, *offset, &note, sizeof(note), err);

	if (ret)
		return ret;
	/* NOTES_MAX times the largest 32-bit sizes stay far below 2^64, and so do these sums. */
	uint64_t name = *offset + sizeof(note);
	uint64_t value = align_up(name + note.n_namesz, align);

	if (!range_within(name, note.n_namesz, segment->p_filesz) ||
	    !range_within(value, note.n_descsz, segment->p_filesz))
		return error_set(err, -ENOEXEC,
				 "the ELF note at 0x%llx (name of %u bytes, value of %u) runs past "
				 "the notes' end at 0x%llx",
				 (ull)*offset, note.n_namesz, note.n_descsz,
				 (ull)segment->p_filesz);
	*offset = align_up(value + note.n_descsz, align);
	if (note.n_type != XEN_NOTE_PHYS32_ENTRY || note.n_namesz != sizeof(XEN_NOTE_NAME))
		return 0;
	return read_pvh_note(image, segment, name, value, note.n_descsz, err);
}

static int parse_notes(struct elf_image *image, const Elf64_Phdr *segment, struct error *err)
{
	uint64_t offset = 0;
	unsigned count = 0;
	int ret = 0;

	while (!ret && !image->has_pvh_entry &&
	       range_within(offset, sizeof(Elf64_Nhdr), segment->p_filesz)) {
		if (count++ == NOTES_MAX)
			return error_set(err, -ENOEXEC, "more than %u ELF notes", NOTES_MAX);
		ret = parse_note(image, segment, &offset, err);
	}
	return ret;
}

static int find_pvh_entry(struct elf_image *image, struct error *err)
{
	int ret = 0;

	for (unsigned i = 0; i < image->header.e_phnum && !ret && !image->has_pvh_entry; i++) {
		if (image->segments[i].p_type == PT_NOTE)
			ret = parse_notes(image, &image->segments[i], err);
	}
	return ret;
}

static int load_segments(const struct guest_memory *mem, const struct elf_image *image,
			 uint64_t *end, struct error *err)
{
	*end = 0;
	for (unsigned i = 0; i < image->header.e_phnum; i++) {
		const Elf64_Phdr *segment = &image->segments[i];

		if (!is_loaded(segment))
			continue;
		if (segment->p_paddr + segment->p_memsz > *end)
			*end = segment->p_paddr + segment->p_memsz;
		if (segment->p_filesz == 0)
			continue;
		void *host = guest_memory_at(mem, gpa(segment->p_paddr), segment->p_filesz);

		if (!host)
			return error_set(err, -ENOEXEC, "segment %u is outside guest memory", i);
		int ret = boot_read_at(image->fd, segment->p_offset, host, segment->p_filesz, err);

		if (ret > 0)
			return error_set(err, -ENOEXEC,
					 "the file ends inside segment %u (0x%llx bytes at offset "
					 "0x%llx)",
					 i, (ull)segment->p_filesz, (ull)segment->p_offset);
		if (ret)
			return ret;
	}
	return 0;
}

static int check_entry(const struct elf_image *image, uint64_t entry, const char *what,
		       struct error *err)
{
	for (unsigned i = 0; i < image->header.e_phnum; i++) {
		const Elf64_Phdr *segment = &image->segments[i];

		if (is_loaded(segment) && entry >= segment->p_paddr &&
		    entry - segment->p_paddr < segment->p_memsz)
			return 0;
	}
	return error_set(err, -ENOEXEC, "the %s 0x%llx is in none of the kernel's segments", what,
			 (ull)entry);
}

int boot_load_elf(const struct guest_memory *mem, int fd, struct boot_kernel *kernel,
		  struct error *err)
{
	struct elf_image image = {.fd = fd};
	uint64_t end = 0;
	int ret = read_header(&image, err);

	if (!ret)
		ret = read_segments(&image, err);
	if (!ret)
		ret = check_segments(mem, &image, err);
	if (!ret)
		ret = find_pvh_entry(&image, err);
	if (ret)
		return ret;
	uint64_t entry = image.has_pvh_entry ? image.pvh_entry : image.header.e_entry;

	ret = check_entry(&image, entry, image.has_pvh_entry ? "PVH entry" : "ELF entry", err);
	if (!ret)
		ret = load_segments(mem, &image, &end, err);
	if (ret)
		return ret;
	if (!image.has_pvh_entry && end > BOOT_MAPPED_BYTES)
		return error_set(err, -ENOEXEC,
				 "the kernel ends at 0x%llx, beyond the first GiB in which the "
				 "Linux 64-bit protocol starts",
				 (ull)end);
	kernel->protocol = image.has_pvh_entry ? BOOT_PVH : BOOT_LINUX_64;
	kernel->entry = gpa(entry);
	kernel->end = gpa(end);
	return 0;
}
