// SPDX-License-Identifier: Apache-2.0
/*
 * What has been made so far, in memory that the builder of a jail and its keeper share.
 *
 * DOC: who writes
 *   Only the process that builds writes entries; the keeper reads when the builder has said that it stopped, or is dead.
 *   A thing is recorded after it has been made and only when this jailer made it, so undoing never takes away what
 *   was there before; a kill between the two, where there is no system call, leaves the one thing behind.
 */
#ifndef BANTAM_JAILER_JOURNAL_H
#define BANTAM_JAILER_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "jailer/scope.h"

enum journal_kind {
	JOURNAL_DIR,    /* absolute path of a directory on the host */
	JOURNAL_CGROUP, /* absolute path of a cgroup */
	JOURNAL_INSIDE, /* path in the jail's folder, of a file or a directory */
};

enum journal_stage {
	STAGE_BUILDING, /* what is recorded is to be undone if the builder ends */
	STAGE_EXEC, /* everything is made; from here an end of the builder is the program's end */
	STAGE_ABANDONED, /* the keeper will undo what is recorded when the builder has ended: it must not go further */
};

#define JOURNAL_ENTRIES 128
#define JOURNAL_TEXT    (64 * 1024)

struct journal {
	volatile int stage; /* enum journal_stage */
	volatile pid_t
		pid; /* of the program as seen from outside its namespace; written by clone3() */
	uint32_t count, text_used;
	struct {
		uint8_t kind;
		uint32_t offset;
	} entries[JOURNAL_ENTRIES];
	char text[JOURNAL_TEXT];
};

/*
 * NULL and errno. Lives as long as the process. across_fork: shared even with children that get a copy of this process's
 * memory, for which the kernel makes a file in memory; children in the same memory share it without one.
 */
struct journal *journal_new(bool across_fork) must_check;

/* -ENOSPC when it is full. Copies path. */
int journal_add(struct journal *journal, enum journal_kind kind, const char *path) must_check;

/* From STAGE_BUILDING to another; false when the other process was faster. */
static inline bool journal_enter(struct journal *journal, enum journal_stage stage)
{
	int building = STAGE_BUILDING;
	return __atomic_compare_exchange_n(&journal->stage, &building, (int)stage, false,
					   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static inline const char *journal_path(const struct journal *journal, uint32_t index)
{
	return journal->text + journal->entries[index].offset;
}

#endif
