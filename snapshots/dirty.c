// SPDX-License-Identifier: Apache-2.0
/* Which pages a snapshot has to hold. */
#include "snapshots/dirty.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "vmm/core/checked.h"

#define COMPARE_BYTES (1u << 20)

static size_t bitmap_words(const struct guest_memory *mem)
{
	return align_up(guest_memory_pages(mem), 64) / 64;
}

static void set_page(uint64_t *pages, uint64_t page)
{
	pages[page / 64] |= UINT64_C(1) << page % 64;
}

static bool is_zero(const uint8_t *page)
{
	const uint64_t *at = (const void *)page;

	/* A cache line a step: by far the most pages are decided by their first one, or are all zero. */
	for (unsigned i = 0; i < GUEST_PAGE_BYTES / sizeof(*at); i += 8)
		if (at[i] | at[i + 1] | at[i + 2] | at[i + 3] | at[i + 4] | at[i + 5] | at[i + 6] |
		    at[i + 7])
			return false;
	return true;
}

static void add_not_zero(const struct guest_memory *mem, uint64_t *pages)
{
	for (uint64_t page = 0; page < guest_memory_pages(mem); page++)
		if (!is_zero(mem->mapping + page * GUEST_PAGE_BYTES))
			set_page(pages, page);
}

static int read_base(int fd, uint8_t *out, uint64_t offset, size_t len, struct error *err)
{
	while (len > 0) {
		ssize_t got = pread(fd, out, len, (off_t)offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return error_set_errno(err, "cannot read the memory file that the microVM "
						    "was restored from");
		if (got == 0)
			return error_set(err, -EIO,
					 "the memory file that the microVM was restored from has "
					 "become shorter");
		out += got;
		offset += (uint64_t)got;
		len -= (size_t)got;
	}
	return 0;
}

static int compare_with(const struct guest_memory *mem, uint8_t *base, uint64_t *pages,
			struct error *err)
{
	for (uint64_t offset = 0; offset < mem->total_bytes; offset += COMPARE_BYTES) {
		uint64_t left = mem->total_bytes - offset;
		size_t len = left < COMPARE_BYTES ? (size_t)left : COMPARE_BYTES;
		int ret = read_base(mem->file_fd, base, offset, len, err);

		if (ret)
			return ret;
		for (size_t at = 0; at < len; at += GUEST_PAGE_BYTES)
			if (memcmp(base + at, mem->mapping + offset + at, GUEST_PAGE_BYTES) != 0)
				set_page(pages, (offset + at) / GUEST_PAGE_BYTES);
	}
	return 0;
}

/* The file, not the mapping's state, says what memory began with: right with swap, and without a look at /proc. */
static int add_unlike_file(const struct guest_memory *mem, uint64_t *pages, struct error *err)
{
	uint8_t *base = malloc(COMPARE_BYTES);
	int ret = base ? compare_with(mem, base, pages, err)
		       : error_set_os(err, -ENOMEM, "no memory to compare pages");

	free(base);
	return ret;
}

static int add_untracked(const struct dirty_history *history, const struct guest_memory *mem,
			 uint64_t *pages, struct error *err)
{
	if (history->written)
		memcpy(pages, history->written, bitmap_words(mem) * sizeof(pages[0]));
	if (mem->foreign) {
		memset(pages, 0xff, bitmap_words(mem) * sizeof(pages[0]));
		return 0;
	}
	if (mem->file_fd >= 0)
		return add_unlike_file(mem, pages, err);
	add_not_zero(mem, pages);
	return 0;
}

uint64_t *dirty_pages(const struct dirty_history *history, const struct guest_memory *mem,
		      bool diff, struct error *err)
{
	uint64_t *pages = calloc(bitmap_words(mem), sizeof(pages[0]));
	bool began_empty = mem->file_fd < 0 && !mem->foreign;
	int ret = 0;

	if (!pages)
		ret = error_set_os(err, -ENOMEM, "no memory for a map of pages");
	else if (!diff || (!history->taken && began_empty))
		add_not_zero(mem, pages);
	else if (mem->dirty)
		memcpy(pages, mem->dirty, bitmap_words(mem) * sizeof(pages[0]));
	else
		ret = add_untracked(history, mem, pages, err);
	if (!ret)
		return pages;
	free(pages);
	return NULL;
}

void dirty_taken(struct dirty_history *history, struct guest_memory *mem, bool diff,
		 uint64_t *pages)
{
	size_t bytes = bitmap_words(mem) * sizeof(pages[0]);

	history->taken = true;
	if (mem->dirty) {
		memset(mem->dirty, 0, bytes);
		free(pages);
		return;
	}
	if (!diff)
		memset(pages, 0xff, bytes);
	/* A difference holds what earlier ones held, so its pages are all that were ever written. */
	free(history->written);
	history->written = pages;
}

void dirty_free(struct dirty_history *history)
{
	free(history->written);
	*history = (struct dirty_history){0};
}
