// SPDX-License-Identifier: Apache-2.0
/*
 * Compressed memory files of arbitrary bytes. The first byte says whether checksums are made right before, so that what is
 * behind them is reached. What is read never leaves the file's or the memory's bounds; ASan looks.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "snapshots/checksum.h"
#include "snapshots/compressed.h"
#include "vmm/core/bytes.h"
#include "vmm/core/checked.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MEMORY_MAX MIB(16)

/* Offsets of snapshots/README.md */
enum { MEMORY_BYTES = 24, INDEX_OFFSET = 32, INDEX_CHECKSUM = 40, HEAD_CHECKSUM = 48, HEAD = 56 };

static void mend(uint8_t *file, size_t size)
{
	uint64_t offset = get_le64(file + INDEX_OFFSET);
	uint64_t bytes = get_le64(file + MEMORY_BYTES) / COMPRESSED_CHUNK_BYTES * 32;

	if (range_within(offset, bytes, size))
		put_le64(file + INDEX_CHECKSUM, checksum(0, file + offset, (size_t)bytes));
	put_le64(file + HEAD_CHECKSUM, checksum(0, file, HEAD_CHECKSUM));
}

static void read_all(int fd)
{
	struct compressed file;
	struct error err;

	if (compressed_open(&file, fd, &err) == 0 && file.memory_bytes <= MEMORY_MAX) {
		uint8_t *memory = calloc(1, (size_t)file.memory_bytes);

		if (memory && compressed_fill(&file, memory, &err) == 0)
			(void)compressed_page(&file, 0, 0);
		free(memory);
	}
	compressed_free(&file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < HEAD + 1)
		return 0;
	int fd = memfd_create("memory", MFD_CLOEXEC);
	uint8_t *file = malloc(size - 1);

	if (fd < 0 || !file)
		abort();
	memcpy(file, data + 1, size - 1);
	if (data[0] & 1)
		mend(file, size - 1);
	if (write(fd, file, size - 1) != (ssize_t)(size - 1))
		abort();
	(void)compressed_is(fd);
	read_all(fd);
	free(file);
	close(fd);
	return 0;
}
