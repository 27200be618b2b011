// SPDX-License-Identifier: Apache-2.0
/*
 * Which pages a snapshot has to hold.
 *
 * DOC: A difference holds what changed since the snapshot before it, whatever kind that was. With tracking
 * (guest_memory_track and KVM's log, collected into mem->dirty) that is known page by page. Without, a page is written
 * when it is not what memory began with (zeroes, or the file that it is mapped from), or when an earlier snapshot of this
 * process wrote it: it may have become again what it was in the beginning, and a merge must see that. A full snapshot
 * counts as having written everything.
 */
#ifndef SNAPSHOTS_DIRTY_H
#define SNAPSHOTS_DIRTY_H

#include <stdbool.h>
#include <stdint.h>
#include "vmm/core/error.h"
#include "vmm/core/guest_memory.h"

struct dirty_history {
	bool taken; /* there was a snapshot since memory began */
	uint64_t *
		written; /* owned: pages that earlier snapshots wrote; only without tracking; NULL: none */
};

/*
 * The pages to write, a bit each: those that are not zero for a full snapshot, those that changed for a difference.
 * Freed by free(). NULL and a text on error.
 */
uint64_t *dirty_pages(const struct dirty_history *history, const struct guest_memory *mem,
		      bool diff, struct error *err) must_check;

/* The snapshot with these pages is complete: the next difference begins here. A failed one is not told of. */
void dirty_taken(struct dirty_history *history, struct guest_memory *mem, bool diff,
		 uint64_t *pages);

void dirty_free(struct dirty_history *history);

#endif
