// SPDX-License-Identifier: Apache-2.0
/* Memory files made of others: differences put onto what they begin at, plain files compressed. */
#ifndef SNAPSHOTS_MERGE_H
#define SNAPSHOTS_MERGE_H

#include "vmm/core/error.h"

/*
 * Writes to out_path what base holds, with the written parts of each difference over it, in their order. out_path may be
 * one of the inputs: it changes only when all is done. Inputs may be compressed; what comes out is a plain file. All must
 * be of one size of memory. 0, or -errno and a text.
 */
int memory_merge(const char *out_path, const char *base_path, char *const diff_paths[],
		 unsigned diff_count, struct error *err) must_check;

/* Writes to out_path what a plain file holds, compressed; its holes stay holes. 0, or -errno and a text. */
int memory_compress(const char *out_path, const char *path, struct error *err) must_check;

#endif
