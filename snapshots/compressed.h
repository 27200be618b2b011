// SPDX-License-Identifier: Apache-2.0
/*
 * Memory files that are compressed.
 *
 * DOC: Memory is cut into chunks of 64 pages. A chunk's pages that the snapshot holds stand one behind the other and are
 * compressed together (LZ4's block format); an index says of each chunk which pages those are and where they are in the
 * file, so that any page is found without reading what is before it. Like the holes of a plain file, a page that is not
 * held is zero in a full snapshot and unchanged in a difference. README.md has the bytes.
 *
 * Guests choose what plain memory files begin with. So the two kinds are told apart by their sizes: a plain file's is a
 * multiple of a page, a compressed one's never is.
 *
 * The file is hostile: the index is bounded by the file's size and checked as a whole before it is used, each chunk by its
 * checksum when it is read.
 */
#ifndef SNAPSHOTS_COMPRESSED_H
#define SNAPSHOTS_COMPRESSED_H

#include <stdbool.h>
#include <stdint.h>
#include "snapshots/output.h"
#include "vmm/core/error.h"

#define COMPRESSED_CHUNK_PAGES 64u
#define COMPRESSED_CHUNK_BYTES (COMPRESSED_CHUNK_PAGES * 4096u)

struct compressed_chunk {
	uint64_t pages;        /* a bit for each that is held */
	uint64_t offset;       /* in the file */
	uint32_t stored_bytes; /* as large as the pages: not compressed */
	uint64_t checksum;     /* of the pages */
};

struct compressed {
	int fd; /* borrowed */
	uint64_t memory_bytes;
	uint64_t chunk_count;
	struct compressed_chunk *chunks; /* owned */
	uint8_t *stored;                 /* owned: a chunk as it is in the file */
	uint8_t *pages;                  /* owned: a chunk's pages, one behind the other */
};

/*
 * Writes memory_bytes of memory, whole chunks, of which the pages are held whose bits are set. 0, or -errno and a text.
 */
int compressed_write(const struct output *output, const uint8_t *memory, uint64_t memory_bytes,
		     const uint64_t *pages, struct error *err) must_check;

/* Whether the file says that it is compressed. */
bool compressed_is(int fd);

/*
 * Reads and checks the index. fd stays the caller's and must stay open. 0, or -errno and a text; freed by compressed_free()
 * in both cases.
 */
int compressed_open(struct compressed *file, int fd, struct error *err) must_check;

/* Reads the pages that a chunk holds. 0, or -errno and a text. */
int compressed_read(const struct compressed *file, uint64_t chunk, struct error *err) must_check;

/* One of the 64 pages of the chunk that was read last; NULL: it is not held. */
const uint8_t *compressed_page(const struct compressed *file, uint64_t chunk, unsigned page);

/* Unpacks all into file->memory_bytes of zeroes. 0, or -errno and a text. */
int compressed_fill(const struct compressed *file, uint8_t *memory, struct error *err) must_check;

void compressed_free(struct compressed *file);

#endif
