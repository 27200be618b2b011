// SPDX-License-Identifier: Apache-2.0
/* Compressing a plain memory file. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "snapshots/compressed.h"
#include "snapshots/merge.h"

#define PAGE_BYTES 4096u

struct plain {
	int fd;
	uint64_t bytes;
	uint8_t *memory; /* mapped */
	uint64_t *pages; /* a bit for each that is written */
};

static void free_plain(struct plain *plain)
{
	if (plain->memory)
		munmap(plain->memory, plain->bytes);
	free(plain->pages);
	close_fd(plain->fd);
}

static int open_plain(struct plain *plain, const char *path, struct error *err)
{
	struct stat st;

	*plain = (struct plain){.fd = open(path, O_RDONLY | O_CLOEXEC)};
	if (plain->fd < 0 || fstat(plain->fd, &st))
		return error_set_errno(err, "cannot open %s", path);
	if (compressed_is(plain->fd))
		return error_set(err, -EEXIST, "%s is compressed already", path);
	if (!S_ISREG(st.st_mode) || st.st_size == 0 || st.st_size % COMPRESSED_CHUNK_BYTES != 0)
		return error_set(err, -EINVAL,
				 "%s is no memory file: expected a regular file of whole MiB",
				 path);
	plain->bytes = (uint64_t)st.st_size;
	plain->pages = calloc(plain->bytes / COMPRESSED_CHUNK_BYTES, sizeof(plain->pages[0]));
	void *memory = mmap(NULL, plain->bytes, PROT_READ, MAP_PRIVATE, plain->fd, 0);

	if (memory != MAP_FAILED)
		plain->memory = memory;
	return plain->pages && plain->memory
		       ? 0
		       : error_set_os(err, -ENOMEM, "no memory to map %s", path);
}

static void mark(struct plain *plain, uint64_t start, uint64_t end)
{
	for (uint64_t page = start / PAGE_BYTES; page * PAGE_BYTES < end; page++)
		plain->pages[page / COMPRESSED_CHUNK_PAGES] |= UINT64_C(1)
							       << page % COMPRESSED_CHUNK_PAGES;
}

/* What is written, zeroes too: in a difference they are changes. */
static int find_written(struct plain *plain, const char *path, struct error *err)
{
	off_t at = 0;

	while ((uint64_t)at < plain->bytes) {
		off_t data = lseek(plain->fd, at, SEEK_DATA);
		off_t hole = data < 0 ? -1 : lseek(plain->fd, data, SEEK_HOLE);

		if (data < 0 && errno == ENXIO)
			return 0; /* a hole up to the end */
		if (data < 0 || hole < 0)
			return error_set_errno(err, "cannot find what is written in %s", path);
		mark(plain, (uint64_t)data, (uint64_t)hole);
		at = hole;
	}
	return 0;
}

static int write_compressed(const struct plain *plain, const char *out_path, struct error *err)
{
	struct output output = {.fd = -1};
	int ret = output_open(&output, out_path, -1, OUTPUT_NEW, err);

	if (!ret)
		ret = compressed_write(&output, plain->memory, plain->bytes, plain->pages, err);
	return output_end(&output, ret, err);
}

int memory_compress(const char *out_path, const char *path, struct error *err)
{
	struct plain plain;
	int ret = open_plain(&plain, path, err);

	if (!ret)
		ret = find_written(&plain, path, err);
	if (!ret)
		ret = write_compressed(&plain, out_path, err);
	free_plain(&plain);
	return ret;
}
