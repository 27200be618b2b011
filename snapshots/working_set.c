// SPDX-License-Identifier: Apache-2.0
/* Working sets: recording and prefetching. */
#include "snapshots/working_set.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "snapshots/output.h"

/* Pages between two touched ones that are rather read than skipped. */
#define GAP_PAGES 16u
/* Entries of /proc/self/pagemap that are read at once: a bit each for "present" and "swapped out". */
#define BATCH_PAGES     4096u
#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_SWAPPED (UINT64_C(1) << 62)

void working_set_free(struct working_set *set)
{
	free(set->ranges);
	*set = (struct working_set){.ranges = NULL};
}

static void fields(struct state *s, void *object)
{
	struct working_set *set = object;
	uint64_t end = 0;

	state_bytes(s, "stamp", set->stamp, sizeof(set->stamp));
	state_u64(s, "pages_total", &set->pages_total);
	state_length(s, "ranges", &set->count, WORKING_SET_RANGES_MAX);
	if (state_is_loading(s) && !state_failed(s))
		set->ranges = calloc((size_t)set->count + 1, sizeof(set->ranges[0]));
	state_require(s, set->ranges != NULL, "ranges", "memory for them");
	for (uint32_t i = 0; set->ranges && i < set->count && !state_failed(s); i++) {
		struct working_set_range *range = &set->ranges[i];

		state_u64(s, "range.first", &range->first);
		state_u64(s, "range.count", &range->count);
		state_require(s,
			      range->first >= end && range->first <= set->pages_total &&
				      range->count <= set->pages_total - range->first,
			      "range", "pages of the memory, in ascending order");
		end = range->first + range->count;
	}
}

const struct state_kind working_set_kind = {.name = "working-set",
					    .version = 1,
					    .oldest = 1,
					    .fields = fields};

/* ---- recording ---- */

int working_set_open(struct error *err)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? error_set_errno(err, "Cannot record a working set: /proc/self/pagemap")
		      : fd;
}

/* false: there is no room for another range. */
static bool add_page(struct working_set *set, uint64_t page)
{
	struct working_set_range *last = set->count ? &set->ranges[set->count - 1] : NULL;

	if (last && page - (last->first + last->count) <= GAP_PAGES) {
		last->count = page - last->first + 1;
		return true;
	}
	if (set->count == WORKING_SET_RANGES_MAX)
		return false;
	set->ranges[set->count++] = (struct working_set_range){page, 1};
	return true;
}

static int scan(int pagemap_fd, const struct guest_memory *mem, uint64_t *batch,
		struct working_set *set, struct error *err)
{
	uint64_t base = (uintptr_t)mem->mapping / GUEST_PAGE_BYTES;

	for (uint64_t page = 0; page < set->pages_total; page += BATCH_PAGES) {
		uint64_t left = set->pages_total - page;
		size_t count = left < BATCH_PAGES ? (size_t)left : BATCH_PAGES;
		size_t bytes = count * sizeof(batch[0]);

		if (pread(pagemap_fd, batch, bytes, (off_t)((base + page) * sizeof(batch[0]))) !=
		    (ssize_t)bytes)
			return error_set_errno(err, "Cannot read which pages are mapped");
		for (size_t i = 0; i < count; i++)
			if ((batch[i] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)) != 0 &&
			    !add_page(set, page + i))
				return 0; /* a list of the first ones is better than none */
	}
	return 0;
}

static int write_list(struct working_set *set, const char *path, struct error *err)
{
	struct output output = {.fd = -1};
	struct state_file file;
	int ret = state_file_new(&file, err);

	if (!ret)
		ret = state_save(&file, &working_set_kind, 0, set, err);
	if (!ret)
		ret = output_open(&output, path, -1, OUTPUT_NEW, err);
	if (!ret) {
		state_file_finish(&file);
		ret = output_write(&output, 0, file.bytes, file.len, err);
	}
	if (!ret)
		ret = output_commit(&output, err);
	output_abort(&output);
	state_file_free(&file);
	return ret;
}

int working_set_write(int pagemap_fd, const struct guest_memory *mem, const uint8_t *stamp,
		      const char *path, struct error *err)
{
	struct working_set set = {.pages_total = guest_memory_pages(mem)};
	uint64_t *batch = malloc(BATCH_PAGES * sizeof(batch[0]));
	int ret;

	set.ranges = calloc(WORKING_SET_RANGES_MAX, sizeof(set.ranges[0]));
	memcpy(set.stamp, stamp, sizeof(set.stamp));
	if (batch && set.ranges)
		ret = scan(pagemap_fd, mem, batch, &set, err);
	else
		ret = error_set_os(err, -ENOMEM, "no memory for a working set");
	if (!ret)
		ret = write_list(&set, path, err);
	free(batch);
	working_set_free(&set);
	return ret;
}

/* ---- prefetching ---- */

static int read_list(const char *path, struct working_set *set, struct error *err)
{
	struct state_file file;
	int ret = state_file_read(&file, path, err);

	if (!ret)
		ret = state_load(&file, &working_set_kind, 0, set, err);
	state_file_free(&file);
	return ret;
}

int working_set_read(struct working_set *set, const char *path, uint64_t pages_total,
		     const uint8_t *stamp, struct error *err)
{
	*set = (struct working_set){.ranges = NULL};
	int ret = read_list(path, set, err);

	if (!ret &&
	    (memcmp(set->stamp, stamp, sizeof(set->stamp)) != 0 || set->pages_total != pages_total))
		ret = error_set(err, -EINVAL, "%s is of another snapshot", path);
	return ret;
}

void working_set_prefetch(const struct working_set *set, int memory_fd)
{
	for (uint32_t i = 0; i < set->count; i++)
		(void)posix_fadvise(memory_fd, (off_t)(set->ranges[i].first * GUEST_PAGE_BYTES),
				    (off_t)(set->ranges[i].count * GUEST_PAGE_BYTES),
				    POSIX_FADV_WILLNEED);
}
