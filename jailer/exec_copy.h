// SPDX-License-Identifier: Apache-2.0
/* The program's own copy. Pages of program text shared between tenants would be a side channel, hence a copy. */
#ifndef BANTAM_JAILER_EXEC_COPY_H
#define BANTAM_JAILER_EXEC_COPY_H

#include <stdbool.h>
#include "jailer/fail.h"
#include "jailer/journal.h"
#include "jailer/plan.h"
#include "jailer/scope.h"

/* Descriptors of a copy under way; -1: none. */
struct program_copy {
	int from, to, pipe[2];
	bool to_move;    /* exec_copy_move() is needed */
	bool takes_long; /* longer than starting a process for it */
};

/*
 * All but the bytes. EXEC_COPY_FILE: makes <jail>/<exec name>, owned by the jail's user, sharing disk blocks where the
 * file system can (page cache is per file, so no memory is shared). EXEC_COPY_MEMFD: a file in memory.
 * EXEC_COPY_SHARED: an empty file on which the original is mounted later.
 */
int exec_copy_begin(const struct jail_plan *plan, struct journal *journal,
		    struct program_copy *copy, struct jail_error *error) must_check;

/*
 * The bytes; context is a struct program_copy. 0 or an errno. For spawn_beside(): it makes no call that may fail in a
 * good copy.
 */
int exec_copy_move(void *context) must_check;

/* move_error is what exec_copy_move() returned. Closes all; EXEC_COPY_MEMFD: *fd is the copy, sealed. */
int exec_copy_end(const struct jail_plan *plan, struct program_copy *copy, int move_error, int *fd,
		  struct jail_error *error) must_check;

#endif
