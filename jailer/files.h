// SPDX-License-Identifier: Apache-2.0
/* Directories and small files of the host. */
#ifndef BANTAM_JAILER_FILES_H
#define BANTAM_JAILER_FILES_H

#include <stddef.h>
#include "jailer/fail.h"
#include "jailer/journal.h"
#include "jailer/scope.h"

/*
 * Makes the directories of an absolute path that are missing (mode 0777 less the umask) and records them as `kind`.
 * Another jailer may remove an empty parent meanwhile: it is made again. -errno and error.
 */
int files_make_dirs(const char *step, const char *path, enum journal_kind kind,
		    struct journal *journal, struct jail_error *error) must_check;

/* Writes text into an existing file with one write(). -errno and error. */
int files_write(const char *step, const char *path, const char *text,
		struct jail_error *error) must_check;

/* Reads at most size - 1 bytes, ends them with NUL. Number of bytes, or -errno without an error text. */
int files_read(const char *path, char *text, size_t size) must_check;

#endif
