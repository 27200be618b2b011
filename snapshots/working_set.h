// SPDX-License-Identifier: Apache-2.0
/*
 * The pages that a restored guest touches first: recorded once, asked for ahead at each later restore.
 *
 * DOC: Recording looks at which pages of the memory are mapped in this process (/proc/self/pagemap) when it ends; what the
 * kernel mapped around a touched page because it was in the page cache anyway counts as touched. The list is a state file
 * of one section, with the snapshot's stamp. Prefetching hands the ranges to the kernel's read-ahead, which reads in large
 * pieces while the guest already runs; small gaps are read too, because one read is cheaper than two.
 *
 * A list is a hint: if it is missing, damaged or of another snapshot, the guest runs without it.
 */
#ifndef SNAPSHOTS_WORKING_SET_H
#define SNAPSHOTS_WORKING_SET_H

#include <stdint.h>
#include "snapshots/state.h"
#include "vmm/core/error.h"
#include "vmm/core/guest_memory.h"

#define WORKING_SET_RANGES_MAX  65536u
#define WORKING_SET_STAMP_BYTES 16u

struct working_set_range {
	uint64_t first; /* page, counted through the memory file */
	uint64_t count;
};

struct working_set {
	uint8_t stamp[WORKING_SET_STAMP_BYTES];
	uint64_t pages_total; /* of the memory */
	uint32_t count;
	struct working_set_range *ranges; /* owned; ascending */
};

extern const struct state_kind working_set_kind; /* of struct working_set */

/* Descriptor for working_set_write(), which the caller owns, or -errno and a text. Before privileges are given up. */
int working_set_open(struct error *err) must_check;

/* Writes which pages of the memory are mapped now. 0, or -errno and a text. */
int working_set_write(int pagemap_fd, const struct guest_memory *mem, const uint8_t *stamp,
		      const char *path, struct error *err) must_check;

/*
 * Reads the list at path, which must be of the snapshot with that stamp and of that many pages. 0, or -errno and a text.
 * Freed by working_set_free(), also after an error.
 */
int working_set_read(struct working_set *set, const char *path, uint64_t pages_total,
		     const uint8_t *stamp, struct error *err) must_check;

/* Asks the kernel to read the list's pages from the memory file; does not wait for them. */
void working_set_prefetch(const struct working_set *set, int memory_fd);

void working_set_free(struct working_set *set);

#endif
