// SPDX-License-Identifier: Apache-2.0
/*
 * Memory files: guest memory, region after region from the lowest address on, without a header. Pages that are not
 * written are holes: in a full snapshot they are zero, in a difference they are as they were. Or compressed files, which
 * say the same in fewer bytes (compressed.h).
 */
#ifndef SNAPSHOTS_MEMORY_H
#define SNAPSHOTS_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "snapshots/compressed.h"
#include "snapshots/output.h"
#include "vmm/core/guest_memory.h"

/* Writes the pages whose bits are set (snapshots/dirty.h), zero or not. The vCPUs stand still. 0, or -errno and a text. */
int memory_write(const struct output *output, const struct guest_memory *mem, const uint64_t *pages,
		 struct error *err) must_check;

struct memory_file {
	int fd;                  /* owned */
	bool is_compressed;      /* otherwise it can be mapped */
	struct compressed index; /* of a compressed one */
};

/*
 * Opens a memory file of size_bytes of memory. 0, or -errno and a text: not there, or of another size. Ended by
 * memory_close() in both cases; whoever takes the descriptor over leaves -1.
 */
int memory_open(struct memory_file *file, const char *path, uint64_t size_bytes,
		struct error *err) must_check;
void memory_close(struct memory_file *file);

/* Whether these bytes, 64 at most, are at that place of the memory; they are all in one page. */
bool memory_holds(const struct memory_file *file, uint64_t offset, const void *bytes, size_t len);

#endif
