// SPDX-License-Identifier: Apache-2.0
/*
 * A file that replaces another one only when it is complete.
 *
 * DOC: What is written goes to `<path>.partial` beside the path and takes its name at the end, so that a monitor that is
 * killed or runs out of space leaves the earlier file as it was, and memory that is mapped from the earlier file (by this
 * monitor or by clones) keeps its pages. Where the folder does not allow new files, as in some jails, a file that exists
 * already is written in place, unless it is the one that must be kept.
 */
#ifndef SNAPSHOTS_OUTPUT_H
#define SNAPSHOTS_OUTPUT_H

#include <stdbool.h>
#include <stdint.h>
#include "vmm/core/cleanup.h"
#include "vmm/core/error.h"

struct output {
	int fd;
	char *path;    /* owned */
	char *partial; /* owned; NULL: written in place */
};

enum output_mode {
	OUTPUT_NEW,  /* an empty file */
	OUTPUT_OVER, /* what the file at the path holds, to be written over */
};

/*
 * kept_fd: a file that must not be written in place because memory is mapped from it; -1: none. 0, or -errno and a text.
 * Ended by output_commit() or output_abort().
 */
int output_open(struct output *output, const char *path, int kept_fd, enum output_mode mode,
		struct error *err) must_check;

/* Everything that was written is durable; nobody sees it yet. 0, or -errno and a text. */
int output_sync(const struct output *output, struct error *err) must_check;

/* Gives the file its name and closes it. -errno and a text: it is as it was, for output_abort() or output_leave(). */
int output_commit(struct output *output, struct error *err) must_check;

/* Closes it; it keeps the name that it has. */
void output_leave(struct output *output);

/* The name under which a file is until it is complete. Freed by the caller; NULL: no memory. */
char *output_partial_name(const char *path) must_check;

/* Closes it and leaves nothing behind. Also after a commit, and for one that was never opened ({.fd = -1}). */
void output_abort(struct output *output);

/* All three for a file by itself: on stable storage and named if ret is 0, gone if not. ret, or what went wrong here. */
int output_end(struct output *output, int ret, struct error *err) must_check;

/*
 * What is written in the file, to the same places; its holes let through what is there. Blocks are shared where the file
 * system can. 0, or -errno and a text.
 */
int output_copy(const struct output *output, int fd, uint64_t size, struct error *err) must_check;

/* All bytes at that place. 0, or -errno and a text. */
int output_write(const struct output *output, uint64_t offset, const void *bytes, uint64_t len,
		 struct error *err) must_check;

#endif
