// SPDX-License-Identifier: Apache-2.0
/* Writing and reading compressed memory files. */
#include "snapshots/compressed.h"

#include <errno.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "snapshots/checksum.h"
#include "vmm/core/bytes.h"
#include "vmm/core/checked.h"

#define PAGE_BYTES     4096u
#define VERSION        1u
#define VERSION_OLDEST 1u
#define CODEC_LZ4      1u

static const char magic[8] = {'B', 'A', 'N', 'T', 'A', 'M', 'C', 'M'};

/* Offsets in the header */
enum {
	HEAD_MAGIC = 0,
	HEAD_VERSION = 8,
	HEAD_CODEC = 12,
	HEAD_PAGE_BYTES = 16,
	HEAD_CHUNK_PAGES = 20,
	HEAD_MEMORY_BYTES = 24,
	HEAD_INDEX_OFFSET = 32,
	HEAD_INDEX_CHECKSUM = 40,
	HEAD_CHECKSUM = 48, /* of what is before it */
	HEAD_BYTES = 56,
};

/* Offsets in an entry of the index */
enum {
	ENTRY_PAGES = 0,
	ENTRY_OFFSET = 8,
	ENTRY_STORED_BYTES = 16,
	ENTRY_ZERO = 20,
	ENTRY_CHECKSUM = 24,
	ENTRY_BYTES = 32,
};

static size_t pages_bytes(uint64_t pages)
{
	return (size_t)__builtin_popcountll(pages) * PAGE_BYTES;
}

static bool make_buffers(struct compressed *file)
{
	file->stored = malloc(COMPRESSED_CHUNK_BYTES);
	file->pages = malloc(COMPRESSED_CHUNK_BYTES);
	return file->stored && file->pages;
}

void compressed_free(struct compressed *file)
{
	free(file->chunks);
	free(file->stored);
	free(file->pages);
	*file = (struct compressed){.fd = -1};
}

/* ---- writing ---- */

/* Puts the pages of a chunk one behind the other into file->pages. */
static void gather(const struct compressed *file, const uint8_t *chunk, uint64_t pages)
{
	uint8_t *at = file->pages;

	for (unsigned i = 0; i < COMPRESSED_CHUNK_PAGES; i++) {
		if ((pages >> i & 1) == 0)
			continue;
		memcpy(at, chunk + (size_t)i * PAGE_BYTES, PAGE_BYTES);
		at += PAGE_BYTES;
	}
}

/* What comes out no smaller is stored as it is. */
static int write_chunk(const struct compressed *file, const struct output *output,
		       struct compressed_chunk *chunk, struct error *err)
{
	size_t bytes = pages_bytes(chunk->pages);
	int packed = LZ4_compress_default((const char *)file->pages, (char *)file->stored,
					  (int)bytes, (int)bytes - 1);

	chunk->checksum = checksum(0, file->pages, bytes);
	chunk->stored_bytes = packed > 0 ? (uint32_t)packed : (uint32_t)bytes;
	return output_write(output, chunk->offset, packed > 0 ? file->stored : file->pages,
			    chunk->stored_bytes, err);
}

static void put_entry(uint8_t *entry, const struct compressed_chunk *chunk)
{
	put_le64(entry + ENTRY_PAGES, chunk->pages);
	put_le64(entry + ENTRY_OFFSET, chunk->offset);
	put_le32(entry + ENTRY_STORED_BYTES, chunk->stored_bytes);
	put_le32(entry + ENTRY_ZERO, 0);
	put_le64(entry + ENTRY_CHECKSUM, chunk->checksum);
}

/* All chunks behind the header; their entries into index. *end: where the file goes on. */
static int write_chunks(const struct compressed *file, const struct output *output,
			const uint8_t *memory, const uint64_t *pages, uint8_t *index, uint64_t *end,
			struct error *err)
{
	uint64_t offset = HEAD_BYTES;

	for (uint64_t i = 0; i < file->chunk_count; i++) {
		struct compressed_chunk chunk = {.pages = pages[i]};

		if (chunk.pages != 0) {
			chunk.offset = offset;
			gather(file, memory + i * COMPRESSED_CHUNK_BYTES, chunk.pages);
			int ret = write_chunk(file, output, &chunk, err);

			if (ret)
				return ret;
			offset += chunk.stored_bytes;
		}
		put_entry(index + i * ENTRY_BYTES, &chunk);
	}
	*end = offset;
	return 0;
}

static int write_header(const struct compressed *file, const struct output *output,
			const uint8_t *index, uint64_t index_offset, struct error *err)
{
	uint8_t head[HEAD_BYTES];

	memcpy(head + HEAD_MAGIC, magic, sizeof(magic));
	put_le32(head + HEAD_VERSION, VERSION);
	put_le32(head + HEAD_CODEC, CODEC_LZ4);
	put_le32(head + HEAD_PAGE_BYTES, PAGE_BYTES);
	put_le32(head + HEAD_CHUNK_PAGES, COMPRESSED_CHUNK_PAGES);
	put_le64(head + HEAD_MEMORY_BYTES, file->memory_bytes);
	put_le64(head + HEAD_INDEX_OFFSET, index_offset);
	put_le64(head + HEAD_INDEX_CHECKSUM, checksum(0, index, file->chunk_count * ENTRY_BYTES));
	put_le64(head + HEAD_CHECKSUM, checksum(0, head, HEAD_CHECKSUM));
	return output_write(output, 0, head, sizeof(head), err);
}

/* A size that no plain memory file has. */
static int write_odd_end(const struct output *output, uint64_t end, struct error *err)
{
	return end % PAGE_BYTES == 0 ? output_write(output, end, "", 1, err) : 0;
}

static int write_all(const struct compressed *file, const struct output *output,
		     const uint8_t *memory, const uint64_t *pages, uint8_t *index,
		     struct error *err)
{
	uint64_t bytes = file->chunk_count * ENTRY_BYTES, index_offset = 0;
	int ret = write_chunks(file, output, memory, pages, index, &index_offset, err);

	if (!ret)
		ret = output_write(output, index_offset, index, bytes, err);
	if (!ret)
		ret = write_odd_end(output, index_offset + bytes, err);
	return ret ? ret : write_header(file, output, index, index_offset, err);
}

int compressed_write(const struct output *output, const uint8_t *memory, uint64_t memory_bytes,
		     const uint64_t *pages, struct error *err)
{
	struct compressed file = {.memory_bytes = memory_bytes,
				  .chunk_count = memory_bytes / COMPRESSED_CHUNK_BYTES};
	uint8_t *index = calloc(file.chunk_count, ENTRY_BYTES);
	int ret;

	if (make_buffers(&file) && index)
		ret = write_all(&file, output, memory, pages, index, err);
	else
		ret = error_set_os(err, -ENOMEM, "no memory to compress with");
	free(index);
	compressed_free(&file);
	return ret;
}

/* ---- reading ---- */

static int read_exactly(int fd, void *out, size_t len, uint64_t offset, struct error *err)
{
	uint8_t *at = out;

	while (len > 0) {
		ssize_t got = pread(fd, at, len, (off_t)offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return error_set_errno(err, "cannot read the compressed memory file");
		if (got == 0)
			return error_set(err, -EINVAL, "the compressed memory file is cut short");
		at += got;
		offset += (uint64_t)got;
		len -= (size_t)got;
	}
	return 0;
}

/* 0: a size that only a plain file has. */
static uint64_t odd_size(int fd)
{
	struct stat st;

	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size % PAGE_BYTES == 0)
		return 0;
	return (uint64_t)st.st_size;
}

bool compressed_is(int fd)
{
	char first[sizeof(magic)];

	return odd_size(fd) != 0 && pread(fd, first, sizeof(first), 0) == (ssize_t)sizeof(first) &&
	       memcmp(first, magic, sizeof(magic)) == 0;
}

static int refuse(struct error *err, const char *what)
{
	return error_set(err, -EINVAL, "the compressed memory file is damaged: %s", what);
}

static int check_header(const uint8_t *head, struct error *err)
{
	if (memcmp(head + HEAD_MAGIC, magic, sizeof(magic)) != 0)
		return error_set(err, -EINVAL, "no compressed memory file");
	if (get_le64(head + HEAD_CHECKSUM) != checksum(0, head, HEAD_CHECKSUM))
		return refuse(err, "the header's checksum is wrong");
	uint32_t version = get_le32(head + HEAD_VERSION);

	if (version < VERSION_OLDEST || version > VERSION)
		return error_set(err, -ENOTSUP,
				 "the compressed memory file has version %u, this program reads %u "
				 "to %u",
				 version, VERSION_OLDEST, VERSION);
	if (get_le32(head + HEAD_CODEC) != CODEC_LZ4 ||
	    get_le32(head + HEAD_PAGE_BYTES) != PAGE_BYTES ||
	    get_le32(head + HEAD_CHUNK_PAGES) != COMPRESSED_CHUNK_PAGES)
		return refuse(err, "expected LZ4, pages of 4096 bytes and chunks of 64 pages");
	return 0;
}

static int get_entry(const struct compressed *file, uint64_t i, const uint8_t *entry,
		     uint64_t index_offset, struct error *err)
{
	struct compressed_chunk *chunk = &file->chunks[i];

	chunk->pages = get_le64(entry + ENTRY_PAGES);
	chunk->offset = get_le64(entry + ENTRY_OFFSET);
	chunk->stored_bytes = get_le32(entry + ENTRY_STORED_BYTES);
	chunk->checksum = get_le64(entry + ENTRY_CHECKSUM);
	if (chunk->stored_bytes > pages_bytes(chunk->pages) ||
	    (chunk->pages != 0 && chunk->stored_bytes == 0) ||
	    !range_within(chunk->offset, chunk->stored_bytes, index_offset))
		return refuse(err, "a chunk lies outside the file");
	return 0;
}

static int read_entries(struct compressed *file, uint8_t *index, uint64_t offset, uint64_t sum,
			struct error *err)
{
	size_t bytes = (size_t)file->chunk_count * ENTRY_BYTES;
	int ret = read_exactly(file->fd, index, bytes, offset, err);

	if (!ret && checksum(0, index, bytes) != sum)
		ret = refuse(err, "the index's checksum is wrong");
	for (uint64_t i = 0; i < file->chunk_count && !ret; i++)
		ret = get_entry(file, i, index + i * ENTRY_BYTES, offset, err);
	return ret;
}

static int read_index(struct compressed *file, uint64_t offset, uint64_t sum, struct error *err)
{
	uint8_t *index = calloc((size_t)file->chunk_count, ENTRY_BYTES);
	int ret;

	file->chunks = calloc((size_t)file->chunk_count, sizeof(file->chunks[0]));
	if (index && file->chunks)
		ret = read_entries(file, index, offset, sum, err);
	else
		ret = error_set_os(err, -ENOMEM, "no memory for a memory file's index");
	free(index);
	return ret;
}

int compressed_open(struct compressed *file, int fd, struct error *err)
{
	uint64_t size = odd_size(fd);
	uint8_t head[HEAD_BYTES];

	*file = (struct compressed){.fd = fd};
	int ret = read_exactly(fd, head, sizeof(head), 0, err);

	if (!ret)
		ret = check_header(head, err);
	if (ret)
		return ret;
	file->memory_bytes = get_le64(head + HEAD_MEMORY_BYTES);
	file->chunk_count = file->memory_bytes / COMPRESSED_CHUNK_BYTES;
	uint64_t index_offset = get_le64(head + HEAD_INDEX_OFFSET);

	/* Entries are many times smaller than what they stand for: their product cannot overflow. */
	if (file->memory_bytes == 0 || file->memory_bytes % COMPRESSED_CHUNK_BYTES != 0 ||
	    !range_within(index_offset, file->chunk_count * ENTRY_BYTES, size))
		return refuse(err, "its index does not fit into it");
	if (!make_buffers(file))
		return error_set_os(err, -ENOMEM, "no memory to unpack with");
	return read_index(file, index_offset, get_le64(head + HEAD_INDEX_CHECKSUM), err);
}

int compressed_read(const struct compressed *file, uint64_t chunk, struct error *err)
{
	const struct compressed_chunk *entry = &file->chunks[chunk];
	size_t bytes = pages_bytes(entry->pages);
	bool plain = entry->stored_bytes == bytes;

	if (bytes == 0)
		return 0;
	int ret = read_exactly(file->fd, plain ? file->pages : file->stored, entry->stored_bytes,
			       entry->offset, err);

	if (ret)
		return ret;
	if (!plain && LZ4_decompress_safe((const char *)file->stored, (char *)file->pages,
					  (int)entry->stored_bytes, (int)bytes) != (int)bytes)
		return refuse(err, "a chunk cannot be unpacked");
	if (checksum(0, file->pages, bytes) != entry->checksum)
		return refuse(err, "a chunk's checksum is wrong");
	return 0;
}

const uint8_t *compressed_page(const struct compressed *file, uint64_t chunk, unsigned page)
{
	uint64_t pages = file->chunks[chunk].pages;
	uint64_t before = pages & ((UINT64_C(1) << page) - 1);

	return (pages >> page & 1) != 0 ? file->pages + pages_bytes(before) : NULL;
}

int compressed_fill(const struct compressed *file, uint8_t *memory, struct error *err)
{
	for (uint64_t i = 0; i < file->chunk_count; i++) {
		int ret = compressed_read(file, i, err);

		if (ret)
			return ret;
		for (unsigned k = 0; k < COMPRESSED_CHUNK_PAGES; k++) {
			const uint8_t *page = compressed_page(file, i, k);

			if (page)
				memcpy(memory + i * COMPRESSED_CHUNK_BYTES + (size_t)k * PAGE_BYTES,
				       page, PAGE_BYTES);
		}
	}
	return 0;
}
