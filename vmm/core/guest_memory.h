// SPDX-License-Identifier: Apache-2.0
/* Guest RAM: the guest-physical address type and the one checked door from it to host memory. */
#ifndef BANTAM_CORE_GUEST_MEMORY_H
#define BANTAM_CORE_GUEST_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "vmm/core/cleanup.h"
#include "vmm/core/error.h"

/* A guest-physical address. A struct, so that the compiler refuses arithmetic with host values and dereference. */
typedef struct {
	uint64_t v;
} gpa_t;

static inline gpa_t gpa(uint64_t address)
{
	return (gpa_t){address};
}

#define GUEST_MEMORY_REGIONS_MAX 4

struct guest_region {
	gpa_t start;
	uint64_t size_bytes;
	uint8_t *host; /* size_bytes long; borrowed from the mapping of struct guest_memory */
};

enum guest_pages {
	GUEST_PAGES_DEFAULT,     /* the host's base pages */
	GUEST_PAGES_TRANSPARENT, /* madvise(MADV_HUGEPAGE) */
	GUEST_PAGES_HUGETLB_2M,  /* hugetlbfs, 2 MiB */
};

#define GUEST_PAGE_BYTES 4096u

struct guest_memory {
	struct guest_region regions[GUEST_MEMORY_REGIONS_MAX]; /* ascending, not overlapping */
	unsigned region_count;
	uint8_t *mapping;     /* owned; one host mapping holds all regions one after another */
	size_t mapping_bytes; /* 0 when the regions' memory belongs to somebody else (tests) */
	uint64_t total_bytes;
	int file_fd; /* owned: what the mapping is a private copy of; -1: no file */
	/* What pages began with is not at hand: a userfaultfd's handler or a compressed file knows. */
	bool foreign;
	/* owned: a bit a page, set when the monitor writes to it; NULL: nobody asks */
	uint64_t *dirty;
};

/*
 * Maps private anonymous memory for the given regions (start and size filled in by the caller, host ignored).
 * -ENOMEM and a text when the host refuses. Released by guest_memory_free().
 */
int guest_memory_map(struct guest_memory *mem, const struct guest_region *regions, unsigned count,
		     enum guest_pages pages, struct error *err) must_check;

/*
 * The same as a private copy of a file: region after region, from its beginning. Takes fd over on success. Pages are read
 * when they are touched; the file must not change while the memory lives.
 */
int guest_memory_map_file(struct guest_memory *mem, const struct guest_region *regions,
			  unsigned count, enum guest_pages pages, int fd,
			  struct error *err) must_check;

/* Where region after region the memory lies in one piece, as in a memory file: its bytes and the bitmaps' pages. */
static inline uint64_t guest_memory_pages(const struct guest_memory *mem)
{
	return mem->total_bytes / GUEST_PAGE_BYTES;
}

/* Notes from now on in mem->dirty what the monitor writes. KVM notes what the guest does. 0 or -ENOMEM. */
int guest_memory_track(struct guest_memory *mem) must_check;

void guest_memory_free(struct guest_memory *mem);

/*
 * The only way from a guest-physical range to host memory: the host address of [addr, addr + len), or NULL when any
 * byte of it is outside RAM or the range spans two regions. len 0 gives NULL. The guest may write to what is behind
 * the pointer at any time: copy in once, then look only at the copy.
 */
void *guest_memory_at(const struct guest_memory *mem, gpa_t addr, uint64_t len);

/*
 * The monitor writes, has written or will write to a range that guest_memory_at() gave: for guest_memory_track(). Loop
 * thread. Costs one branch when nobody tracks.
 */
void guest_memory_mark_range(const struct guest_memory *mem, gpa_t addr, uint64_t len);
static inline void guest_memory_mark(const struct guest_memory *mem, gpa_t addr, uint64_t len)
{
	if (mem->dirty)
		guest_memory_mark_range(mem, addr, len);
}

/* Copies; -EFAULT and nothing copied when the range is not in RAM. */
int guest_memory_read(const struct guest_memory *mem, gpa_t addr, void *out,
		      uint64_t len) must_check;
int guest_memory_write(const struct guest_memory *mem, gpa_t addr, const void *in,
		       uint64_t len) must_check;

#endif
