// SPDX-License-Identifier: Apache-2.0
/* Merging memory files: what is written in a difference replaces what lies below, its holes let it through. */
#include "snapshots/merge.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "snapshots/compressed.h"
#include "snapshots/output.h"

#define PAGE_BYTES 4096u

/* All pages that the compressed file holds, in their places. */
static int copy_chunk(const struct output *output, const struct compressed *file, uint64_t chunk,
		      struct error *err)
{
	int ret = compressed_read(file, chunk, err);

	for (unsigned i = 0; i < COMPRESSED_CHUNK_PAGES && !ret; i++) {
		const uint8_t *page = compressed_page(file, chunk, i);
		uint64_t offset = chunk * COMPRESSED_CHUNK_BYTES + i * (uint64_t)PAGE_BYTES;

		if (page)
			ret = output_write(output, offset, page, PAGE_BYTES, err);
	}
	return ret;
}

static int copy_compressed(const struct output *output, const struct compressed *file,
			   struct error *err)
{
	int ret = 0;

	for (uint64_t i = 0; i < file->chunk_count && !ret; i++)
		ret = copy_chunk(output, file, i, err);
	return ret;
}

/* *size 0: takes this one as that which all must have. */
static int check_size(const char *path, uint64_t bytes, off_t *size, struct error *err)
{
	if (*size != 0 && bytes != (uint64_t)*size)
		return error_set(err, -EINVAL,
				 "%s has %llu bytes, the base %lld: they are not of one microVM",
				 path, (unsigned long long)bytes, (long long)*size);
	*size = (off_t)bytes;
	return 0;
}

static int open_plain(int fd, const char *path, uint64_t *bytes, struct error *err)
{
	struct stat st;

	if (fstat(fd, &st))
		return error_set_errno(err, "cannot open %s", path);
	if (!S_ISREG(st.st_mode) || st.st_size == 0)
		return error_set(err, -EINVAL,
				 "%s is no memory file: expected a regular file that is not empty",
				 path);
	*bytes = (uint64_t)st.st_size;
	return 0;
}

static int add_opened(const struct output *output, int fd, const char *path, off_t *size,
		      struct error *err)
{
	bool first = *size == 0, is_compressed = compressed_is(fd);
	struct compressed file = {.fd = -1};
	uint64_t bytes = 0;
	int ret =
		is_compressed ? compressed_open(&file, fd, err) : open_plain(fd, path, &bytes, err);

	if (is_compressed)
		bytes = file.memory_bytes;
	if (!ret)
		ret = check_size(path, bytes, size, err);
	if (!ret && first && ftruncate(output->fd, *size))
		ret = error_set_errno(err, "cannot give %s its size", output->path);
	if (!ret)
		ret = is_compressed ? copy_compressed(output, &file, err)
				    : output_copy(output, fd, (uint64_t)*size, err);
	compressed_free(&file);
	return ret;
}

static int add_file(const struct output *output, const char *path, off_t *size, struct error *err)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return error_set_errno(err, "cannot open %s", path);
	return add_opened(output, fd, path, size, err);
}

int memory_merge(const char *out_path, const char *base_path, char *const diff_paths[],
		 unsigned diff_count, struct error *err)
{
	struct output output = {.fd = -1};
	off_t size = 0;
	int ret = output_open(&output, out_path, -1, OUTPUT_NEW, err);

	if (!ret)
		ret = add_file(&output, base_path, &size, err);
	for (unsigned i = 0; i < diff_count && !ret; i++)
		ret = add_file(&output, diff_paths[i], &size, err);
	return output_end(&output, ret, err);
}
