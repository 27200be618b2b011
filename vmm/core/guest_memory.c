// SPDX-License-Identifier: Apache-2.0
/* Guest RAM. */
#include "vmm/core/guest_memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "vmm/core/checked.h"

#define HUGE_PAGE_BYTES MIB(2)
#define FILE_BLOCKS_MAX 4096u /* so many mappings at most, of a memory file with holes */

/*
 * Maps len bytes aligned to 2 MiB, so that host huge pages can back guest huge pages. The alignment is made by
 * mapping too much and giving the ends back.
 */
static uint8_t *map_aligned(size_t len, int flags)
{
	size_t padded = len + HUGE_PAGE_BYTES;
	uint8_t *raw = mmap(NULL, padded, PROT_READ | PROT_WRITE, flags, -1, 0);

	if (raw == MAP_FAILED)
		return MAP_FAILED;
	uint8_t *aligned = raw + (align_up((uintptr_t)raw, HUGE_PAGE_BYTES) - (uintptr_t)raw);
	size_t head = (size_t)(aligned - raw);

	if (head > 0)
		munmap(raw, head);
	munmap(aligned + len, HUGE_PAGE_BYTES - head);
	return aligned;
}

struct file_part {
	size_t start, end;
};

/* The next part of the file with data in it, from `at` on, in whole blocks; false: only a hole is left. */
static bool next_data(int fd, size_t at, size_t len, size_t block, struct file_part *part)
{
	off_t data = lseek(fd, (off_t)at, SEEK_DATA);

	if (data < 0 && errno != ENXIO) { /* a file system that does not tell: all is data */
		*part = (struct file_part){at, len};
		return true;
	}
	if (data < 0 || (size_t)data >= len)
		return false;
	off_t hole = lseek(fd, data, SEEK_HOLE);

	part->start = align_down((uint64_t)data, block);
	part->end = hole <= data || (size_t)hole >= len ? len : align_up((uint64_t)hole, block);
	if (part->end > len)
		part->end = len;
	return true;
}

/*
 * Where the file has data, a private copy of it takes the place of the anonymous memory there. What has none stays
 * anonymous: a page that is first written there is one page of zeroes, not a page of the page cache and its copy. Every
 * part may be a mapping of its own, of which the kernel allows a process 65530.
 */
static bool map_data(uint8_t *place, size_t len, int fd)
{
	struct file_part part;
	size_t block = HUGE_PAGE_BYTES;

	while (len / block > FILE_BLOCKS_MAX)
		block *= 2;
	for (size_t at = 0; at < len && next_data(fd, at, len, block, &part); at = part.end)
		if (mmap(place + part.start, part.end - part.start, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, fd,
			 (off_t)part.start) == MAP_FAILED)
			return false;
	return true;
}

/*
 * A private copy of the file. Its anonymous parts are of small pages unless huge ones were asked for, whatever the host's
 * default is: a clone is to pay for what it touches. The file's parts are not told so, because that would also forbid to
 * map large pieces of the page cache at once.
 */
static uint8_t *map_file(size_t len, enum guest_pages pages, int fd)
{
	uint8_t *memory = map_aligned(len, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);

	if (memory == MAP_FAILED)
		return MAP_FAILED;
	if (pages != GUEST_PAGES_TRANSPARENT)
		(void)madvise(memory, len, MADV_NOHUGEPAGE);
	if (!map_data(memory, len, fd)) {
		munmap(memory, len);
		return MAP_FAILED;
	}
	if (pages == GUEST_PAGES_TRANSPARENT)
		(void)madvise(memory, len, MADV_HUGEPAGE);
	return memory;
}

static uint8_t *map_pages(size_t len, enum guest_pages pages)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

	if (pages == GUEST_PAGES_HUGETLB_2M)
		return mmap(NULL, len, PROT_READ | PROT_WRITE,
			    (flags & ~MAP_NORESERVE) | MAP_HUGETLB | (21 << MAP_HUGE_SHIFT), -1, 0);
	uint8_t *memory = map_aligned(len, flags);

	/* A host without transparent huge pages serves the guest with small ones: not an error. */
	if (memory != MAP_FAILED && pages == GUEST_PAGES_TRANSPARENT)
		(void)madvise(memory, len, MADV_HUGEPAGE);
	return memory;
}

static int sum_up(const struct guest_region *regions, unsigned count, uint64_t *sum,
		  struct error *err)
{
	uint64_t total = 0;

	if (count == 0 || count > GUEST_MEMORY_REGIONS_MAX)
		return error_set(err, -EINVAL, "guest memory needs 1 to %d regions, not %u",
				 GUEST_MEMORY_REGIONS_MAX, count);
	for (unsigned i = 0; i < count; i++) {
		if (add_overflows(total, regions[i].size_bytes, &total) || total > SIZE_MAX / 2)
			return error_set(err, -ENOMEM,
					 "guest memory is larger than the address space");
	}
	*sum = total;
	return 0;
}

/* Lays the regions out over the mapping. */
static void lay_out(struct guest_memory *mem, const struct guest_region *regions, unsigned count,
		    uint8_t *memory, uint64_t total)
{
	/* Guest secrets do not belong in a core dump of the monitor. */
	(void)madvise(memory, total, MADV_DONTDUMP);
	mem->mapping = memory;
	mem->mapping_bytes = total;
	mem->total_bytes = total;
	mem->region_count = count;
	for (unsigned i = 0; i < count; i++) {
		mem->regions[i] = regions[i];
		mem->regions[i].host = memory;
		memory += regions[i].size_bytes;
	}
}

int guest_memory_map(struct guest_memory *mem, const struct guest_region *regions, unsigned count,
		     enum guest_pages pages, struct error *err)
{
	uint64_t total = 0;
	int ret = sum_up(regions, count, &total, err);

	*mem = (struct guest_memory){.file_fd = -1};
	if (ret)
		return ret;
	uint8_t *memory = map_pages(total, pages);

	if (memory == MAP_FAILED)
		return error_set_errno(err,
				       "Invalid Memory Configuration: Cannot create mmap region");
	lay_out(mem, regions, count, memory, total);
	return 0;
}

int guest_memory_map_file(struct guest_memory *mem, const struct guest_region *regions,
			  unsigned count, enum guest_pages pages, int fd, struct error *err)
{
	uint64_t total = 0;
	int ret = sum_up(regions, count, &total, err);

	*mem = (struct guest_memory){.file_fd = -1};
	if (ret)
		return ret;
	uint8_t *memory = map_file(total, pages, fd);

	if (memory == MAP_FAILED)
		return error_set_errno(err, "Cannot map the memory file");
	lay_out(mem, regions, count, memory, total);
	mem->file_fd = fd;
	return 0;
}

int guest_memory_track(struct guest_memory *mem)
{
	mem->dirty = calloc(align_up(guest_memory_pages(mem), 64) / 64, sizeof(mem->dirty[0]));
	return mem->dirty ? 0 : -ENOMEM;
}

void guest_memory_mark_range(const struct guest_memory *mem, gpa_t addr, uint64_t len)
{
	const uint8_t *host = guest_memory_at(mem, addr, len);

	if (!host)
		return;
	uint64_t offset = (uint64_t)(host - mem->mapping);
	uint64_t first = offset / GUEST_PAGE_BYTES;
	uint64_t last = (offset + len - 1) / GUEST_PAGE_BYTES;

	for (uint64_t page = first; page <= last; page++)
		mem->dirty[page / 64] |= UINT64_C(1) << page % 64;
}

void guest_memory_free(struct guest_memory *mem)
{
	if (mem->mapping_bytes > 0)
		munmap(mem->mapping, mem->mapping_bytes);
	if (mem->mapping_bytes > 0)
		close_fd(mem->file_fd);
	free(mem->dirty);
	*mem = (struct guest_memory){.file_fd = -1};
}

void *guest_memory_at(const struct guest_memory *mem, gpa_t addr, uint64_t len)
{
	if (len == 0)
		return NULL;
	for (unsigned i = 0; i < mem->region_count; i++) {
		const struct guest_region *region = &mem->regions[i];

		if (addr.v < region->start.v)
			return NULL;
		if (range_within(addr.v - region->start.v, len, region->size_bytes))
			return region->host + (addr.v - region->start.v);
	}
	return NULL;
}

int guest_memory_read(const struct guest_memory *mem, gpa_t addr, void *out, uint64_t len)
{
	const void *host = guest_memory_at(mem, addr, len);

	if (!host)
		return -EFAULT;
	memcpy(out, host, len);
	return 0;
}

int guest_memory_write(const struct guest_memory *mem, gpa_t addr, const void *in, uint64_t len)
{
	void *host = guest_memory_at(mem, addr, len);

	if (!host)
		return -EFAULT;
	memcpy(host, in, len);
	guest_memory_mark(mem, addr, len);
	return 0;
}
