// SPDX-License-Identifier: Apache-2.0
/* Writing and opening memory files. */
#include "snapshots/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "vmm/core/checked.h"

/*
 * At most this much goes into one write, so that a slow disk does not hold a call for long; and no write crosses a multiple
 * of it, so that the page cache can hold, and a restored guest map, pieces of that size.
 */
#define WRITE_PAGES_MAX 512u

static bool is_marked(const uint64_t *pages, uint64_t page)
{
	return (pages[page / 64] >> page % 64 & 1) != 0;
}

/* The run of marked pages from first on. */
static uint64_t run_length(const uint64_t *pages, uint64_t first, uint64_t total)
{
	uint64_t count = 0, left = total - first;
	uint64_t most = WRITE_PAGES_MAX - first % WRITE_PAGES_MAX;

	if (left > most)
		left = most;
	while (count < left && is_marked(pages, first + count))
		count++;
	return count;
}

int memory_write(const struct output *output, const struct guest_memory *mem, const uint64_t *pages,
		 struct error *err)
{
	uint64_t total = guest_memory_pages(mem);

	if (ftruncate(output->fd, (off_t)mem->total_bytes) && errno != EINVAL)
		return error_set_errno(err, "cannot give %s its size", output->path);
	for (uint64_t page = 0; page < total;) {
		/* Sixty-four pages that are not wanted cost one look. */
		if (page % 64 == 0 && pages[page / 64] == 0) {
			page += 64;
			continue;
		}
		uint64_t count = run_length(pages, page, total);
		uint64_t offset = page * GUEST_PAGE_BYTES;
		int ret = count == 0 ? 0
				     : output_write(output, offset, mem->mapping + offset,
						    count * GUEST_PAGE_BYTES, err);

		if (ret)
			return ret;
		page += count == 0 ? 1 : count;
	}
	return 0;
}

static int fail_size(uint64_t bytes, uint64_t size_bytes, struct error *err)
{
	return error_set(err, -EINVAL,
			 "Failed to load guest memory: the memory file has %llu bytes, the "
			 "snapshot's memory %llu",
			 (unsigned long long)bytes, (unsigned long long)size_bytes);
}

static int open_compressed(struct memory_file *file, uint64_t size_bytes, struct error *err)
{
	file->is_compressed = true;
	if (compressed_open(&file->index, file->fd, err))
		return error_prefix(err, "Failed to load guest memory: ");
	return file->index.memory_bytes == size_bytes
		       ? 0
		       : fail_size(file->index.memory_bytes, size_bytes, err);
}

int memory_open(struct memory_file *file, const char *path, uint64_t size_bytes, struct error *err)
{
	*file = (struct memory_file){
		.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)};
	if (file->fd < 0)
		return error_set_errno(err, "Failed to load guest memory");
	if (compressed_is(file->fd))
		return open_compressed(file, size_bytes, err);
	off_t end = lseek(file->fd, 0, SEEK_END);

	if (end < 0)
		return error_set_errno(err, "Failed to load guest memory");
	return (uint64_t)end >= size_bytes ? 0 : fail_size((uint64_t)end, size_bytes, err);
}

void memory_close(struct memory_file *file)
{
	if (file->is_compressed)
		compressed_free(&file->index);
	close_fd(file->fd);
	*file = (struct memory_file){.fd = -1};
}

static bool compressed_holds(const struct compressed *file, uint64_t offset, const void *bytes,
			     size_t len)
{
	uint64_t chunk = offset / COMPRESSED_CHUNK_BYTES;
	uint64_t in_chunk = offset % COMPRESSED_CHUNK_BYTES;
	struct error err;

	if (offset >= file->memory_bytes || compressed_read(file, chunk, &err))
		return false;
	const uint8_t *page = compressed_page(file, chunk, (unsigned)(in_chunk / GUEST_PAGE_BYTES));

	return page && memcmp(page + in_chunk % GUEST_PAGE_BYTES, bytes, len) == 0;
}

bool memory_holds(const struct memory_file *file, uint64_t offset, const void *bytes, size_t len)
{
	uint8_t there[64];

	if (len > sizeof(there) || !range_within(offset % GUEST_PAGE_BYTES, len, GUEST_PAGE_BYTES))
		return false;
	if (file->is_compressed)
		return compressed_holds(&file->index, offset, bytes, len);
	return pread(file->fd, there, len, (off_t)offset) == (ssize_t)len &&
	       memcmp(there, bytes, len) == 0;
}
