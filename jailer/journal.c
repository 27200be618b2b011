// SPDX-License-Identifier: Apache-2.0
/* The shared list of things made. */
#include "jailer/journal.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

struct journal *journal_new(bool across_fork)
{
	void *memory = mmap(NULL, sizeof(struct journal), PROT_READ | PROT_WRITE,
			    (across_fork ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS, -1, 0);
	return memory == MAP_FAILED ? NULL : memory;
}

int journal_add(struct journal *journal, enum journal_kind kind, const char *path)
{
	size_t size = strlen(path) + 1;
	if (journal->count == JOURNAL_ENTRIES || size > JOURNAL_TEXT - journal->text_used) {
		errno = ENOSPC;
		return -ENOSPC;
	}
	memcpy(journal->text + journal->text_used, path, size);
	journal->entries[journal->count].kind = (uint8_t)kind;
	journal->entries[journal->count].offset = journal->text_used;
	journal->text_used += (uint32_t)size;
	/* the count last: a builder that is killed here leaves a whole list behind */
	__atomic_store_n(&journal->count, journal->count + 1, __ATOMIC_RELEASE);
	return 0;
}
