// SPDX-License-Identifier: Apache-2.0
/*
 * A snapshot's two files as a pair.
 *
 * DOC: State and memory know each other by a stamp, a random number that is in the state's manifest and in a reserved place
 * of guest memory. Both are complete and durable as `<path>.partial` before either takes its name. Then the state takes its
 * name, which makes the new snapshot the one that counts, and the memory after it. Whoever is killed in between leaves a
 * state whose memory still has the name with `.partial`: a load looks there, and the next save to the same paths gives it
 * its name before anything else. A pair that was torn apart in another way is refused instead of run.
 */
#ifndef VMM_VM_PAIR_H
#define VMM_VM_PAIR_H

#include "snapshots/memory.h"
#include "snapshots/output.h"
#include "vmm/vm_saved.h"

/*
 * Opens the memory that belongs to a state. 0, or -errno and a text: not there, of another size or snapshot. Ended by
 * memory_close() in both cases.
 */
int pair_open_memory(struct memory_file *file, const char *path,
		     const struct saved_manifest *manifest, struct error *err) must_check;

/*
 * *is: whether there is a plain memory file of exactly that size and of the snapshot with that stamp. 0, or -errno and a
 * text: it cannot be looked at.
 */
int pair_is_memory_of(const char *path, uint64_t memory_bytes, const uint8_t *stamp, bool *is,
		      struct error *err) must_check;

/* Ends what a save that was killed has begun at these paths. */
void pair_finish_earlier(const char *state_path, const char *memory_path);

/* Gives both files their names. 0, or -errno and a text; the caller aborts both outputs. */
int pair_commit(struct output *state, struct output *memory, struct error *err) must_check;

#endif
