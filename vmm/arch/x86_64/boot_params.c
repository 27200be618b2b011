// SPDX-License-Identifier: Apache-2.0
/* What a kernel finds in low memory at its entry: command line, memory map, start_info or zero page, GDT, page tables. */
#include "vmm/arch/x86_64/boot.h"

#include <asm/bootparam.h>
#include <errno.h>
#include <string.h>
#include "vmm/arch/x86_64/boot_internal.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/core/checked.h"

/* ---- the memory map ---- */

#define E820_RAM      1u
#define E820_RESERVED 2u
/* Low RAM, the firmware's area, then the regions. */
#define MAP_ENTRIES_MAX (2 + GUEST_MEMORY_REGIONS_MAX)

struct memory_map {
	struct boot_e820_entry entries[MAP_ENTRIES_MAX];
	unsigned count;
};

static void add_range(struct memory_map *map, uint64_t start, uint64_t end, uint32_t type)
{
	map->entries[map->count++] =
		(struct boot_e820_entry){.addr = start, .size = end - start, .type = type};
}

static void build_memory_map(const struct guest_memory *mem, struct memory_map *map)
{
	map->count = 0;
	add_range(map, 0, LAYOUT_SYSTEM_START, E820_RAM);
	add_range(map, LAYOUT_SYSTEM_START, LAYOUT_HIGH_RAM, E820_RESERVED);
	for (unsigned i = 0; i < mem->region_count; i++) {
		uint64_t start = mem->regions[i].start.v;

		add_range(map, i == 0 ? LAYOUT_HIGH_RAM : start, start + mem->regions[i].size_bytes,
			  E820_RAM);
	}
}

unsigned boot_ram_layout(uint64_t size_bytes, struct guest_region regions[GUEST_MEMORY_REGIONS_MAX])
{
	static const struct {
		uint64_t start, size;
	} room[] = {
		{0, LAYOUT_MMIO32_START},
		{LAYOUT_MMIO32_END, LAYOUT_MMIO64_START - LAYOUT_MMIO32_END},
		{LAYOUT_MMIO64_END, LAYOUT_RAM_MAX_BYTES},
	};
	unsigned count = 0;

	if (size_bytes > LAYOUT_RAM_MAX_BYTES)
		return 0;
	for (; size_bytes > 0; count++) {
		uint64_t take = size_bytes < room[count].size ? size_bytes : room[count].size;

		regions[count] = (struct guest_region){gpa(room[count].start), take, NULL};
		size_bytes -= take;
	}
	return count;
}

/* ---- PVH (xen/interface/hvm/start_info.h) ---- */

#define HVM_START_MAGIC 0x336ec578u

struct hvm_start_info {
	uint32_t magic;
	uint32_t version;
	uint32_t flags;
	uint32_t nr_modules;
	uint64_t modlist_paddr;
	uint64_t cmdline_paddr;
	uint64_t rsdp_paddr;
	uint64_t memmap_paddr;
	uint32_t memmap_entries;
	uint32_t reserved;
};
_Static_assert(sizeof(struct hvm_start_info) == 56, "start_info's layout is the guest's");
_Static_assert(LAYOUT_PVH_START_INFO + sizeof(struct hvm_start_info) <= LAYOUT_PVH_MODULES,
	       "start_info must end before the module list");

struct hvm_module {
	uint64_t paddr;
	uint64_t size;
	uint64_t cmdline_paddr;
	uint64_t reserved;
};

struct hvm_memmap_entry {
	uint64_t addr;
	uint64_t size;
	uint32_t type; /* E820's numbers */
	uint32_t reserved;
};
_Static_assert(sizeof(struct hvm_memmap_entry) == 24, "the memory map's layout is the guest's");

static int write_pvh(const struct guest_memory *mem, const struct memory_map *map,
		     const struct boot_initrd *initrd, gpa_t rsdp)
{
	struct hvm_start_info info = {
		.magic = HVM_START_MAGIC,
		.version = 1,
		.cmdline_paddr = LAYOUT_CMDLINE,
		.rsdp_paddr = rsdp.v,
		.memmap_paddr = LAYOUT_PVH_MEMMAP,
		.memmap_entries = map->count,
	};
	struct hvm_memmap_entry entries[MAP_ENTRIES_MAX] = {{0}};
	int ret = 0;

	for (unsigned i = 0; i < map->count; i++)
		entries[i] = (struct hvm_memmap_entry){.addr = map->entries[i].addr,
						       .size = map->entries[i].size,
						       .type = map->entries[i].type};
	if (initrd->size_bytes > 0) {
		struct hvm_module module = {.paddr = initrd->start.v, .size = initrd->size_bytes};

		info.nr_modules = 1;
		info.modlist_paddr = LAYOUT_PVH_MODULES;
		ret = guest_memory_write(mem, gpa(LAYOUT_PVH_MODULES), &module, sizeof(module));
	}
	if (!ret)
		ret = guest_memory_write(mem, gpa(LAYOUT_PVH_MEMMAP), entries,
					 map->count * sizeof(entries[0]));
	if (!ret)
		ret = guest_memory_write(mem, gpa(LAYOUT_PVH_START_INFO), &info, sizeof(info));
	return ret;
}

/* ---- Linux 64-bit protocol (Documentation/arch/x86/boot.rst, zero-page.rst) ---- */

#define BOOT_FLAG          0xaa55u
#define HEADER_MAGIC       0x53726448u /* "HdrS" */
#define LOADER_UNDEFINED   0xffu
#define KERNEL_ALIGNMENT   0x1000000u
#define PROTOCOL_VMLINUX   0x020cu
#define PAGE_PRESENT_WRITE 0x3u
#define PAGE_LARGE         0x80u
#define LARGE_PAGE_BYTES   0x200000u
#define PAGE_TABLE_ENTRIES 512u

static void fill_header(struct setup_header *header, const struct boot_initrd *initrd)
{
	header->type_of_loader = LOADER_UNDEFINED;
	header->cmd_line_ptr = LAYOUT_CMDLINE;
	/* Below 4 GiB both: the initrd lies in the first region. */
	header->ramdisk_image = (uint32_t)initrd->start.v;
	header->ramdisk_size = (uint32_t)initrd->size_bytes;
}

static int write_zero_page(const struct guest_memory *mem, const struct boot_kernel *kernel,
			   const struct memory_map *map, const struct boot_initrd *initrd,
			   gpa_t rsdp)
{
	struct boot_params params;
	uint8_t *raw_header = (uint8_t *)&params + offsetof(struct boot_params, hdr);

	memset(&params, 0, sizeof(params));
	if (kernel->protocol == BOOT_LINUX_BZIMAGE) {
		memcpy(raw_header, kernel->setup_header, kernel->setup_header_bytes);
	} else {
		params.hdr.boot_flag = BOOT_FLAG;
		params.hdr.header = HEADER_MAGIC;
		params.hdr.version = PROTOCOL_VMLINUX;
		params.hdr.kernel_alignment = KERNEL_ALIGNMENT;
		params.hdr.cmdline_size = LAYOUT_CMDLINE_MAX - 1;
	}
	fill_header(&params.hdr, initrd);
	params.acpi_rsdp_addr = rsdp.v;
	params.e820_entries = (uint8_t)map->count;
	memcpy(params.e820_table, map->entries, map->count * sizeof(map->entries[0]));
	return guest_memory_write(mem, gpa(LAYOUT_ZERO_PAGE), &params, sizeof(params));
}

/* Maps the first GiB one to one with 2 MiB pages. */
static int write_page_tables(const struct guest_memory *mem)
{
	uint64_t table[PAGE_TABLE_ENTRIES] = {LAYOUT_BOOT_PDPT | PAGE_PRESENT_WRITE};
	int ret = guest_memory_write(mem, gpa(LAYOUT_BOOT_PML4), table, sizeof(table));

	table[0] = LAYOUT_BOOT_PD | PAGE_PRESENT_WRITE;
	if (!ret)
		ret = guest_memory_write(mem, gpa(LAYOUT_BOOT_PDPT), table, sizeof(table));
	for (uint64_t i = 0; i < PAGE_TABLE_ENTRIES; i++)
		table[i] = i * LARGE_PAGE_BYTES | PAGE_PRESENT_WRITE | PAGE_LARGE;
	if (!ret)
		ret = guest_memory_write(mem, gpa(LAYOUT_BOOT_PD), table, sizeof(table));
	return ret;
}

/* ---- both ---- */

/* Intel SDM 3.4.5: access byte and flags of flat descriptors, base 0. */
uint64_t boot_gdt_entry(enum boot_protocol protocol, enum boot_gdt_slot slot)
{
	static const uint64_t flat_code32 = 0x00cf9b000000ffffull;
	static const uint64_t flat_code64 = 0x00af9b000000ffffull;
	static const uint64_t flat_data = 0x00cf93000000ffffull;
	static const uint64_t busy_tss_page = 0x008f8b000000ffffull;
	static const uint64_t busy_tss_bytes = 0x00008b0000000067ull;

	switch (slot) {
	case BOOT_GDT_CODE:
		return protocol == BOOT_PVH ? flat_code32 : flat_code64;
	case BOOT_GDT_DATA:
		return flat_data;
	case BOOT_GDT_TSS:
		return protocol == BOOT_PVH ? busy_tss_bytes : busy_tss_page;
	case BOOT_GDT_NULL:
	case BOOT_GDT_COUNT:
		break;
	}
	return 0;
}

static int write_gdt(const struct guest_memory *mem, enum boot_protocol protocol)
{
	uint64_t gdt[BOOT_GDT_COUNT];

	for (unsigned i = 0; i < BOOT_GDT_COUNT; i++)
		gdt[i] = boot_gdt_entry(protocol, (enum boot_gdt_slot)i);
	return guest_memory_write(mem, gpa(LAYOUT_BOOT_GDT), gdt, sizeof(gdt));
}

static int write_protocol(const struct guest_memory *mem, const struct boot_kernel *kernel,
			  const struct boot_initrd *initrd, gpa_t rsdp)
{
	struct memory_map map;

	build_memory_map(mem, &map);
	if (kernel->protocol == BOOT_PVH)
		return write_pvh(mem, &map, initrd, rsdp);
	int ret = write_zero_page(mem, kernel, &map, initrd, rsdp);

	return ret ? ret : write_page_tables(mem);
}

int boot_write_params(const struct guest_memory *mem, const struct boot_kernel *kernel,
		      const struct boot_initrd *initrd, const char *cmdline, gpa_t rsdp,
		      struct error *err)
{
	size_t len = strlen(cmdline) + 1;

	if (len > LAYOUT_CMDLINE_MAX)
		return error_set(err, -E2BIG,
				 "the kernel command line has %zu bytes, at most %u fit", len - 1,
				 LAYOUT_CMDLINE_MAX - 1);
	int ret = guest_memory_write(mem, gpa(LAYOUT_CMDLINE), cmdline, len);

	if (!ret)
		ret = write_gdt(mem, kernel->protocol);
	if (!ret)
		ret = write_protocol(mem, kernel, initrd, rsdp);
	if (ret)
		return error_set(err, ret,
				 "guest memory of %llu bytes has no room for the boot parameters",
				 (unsigned long long)mem->total_bytes);
	return 0;
}
