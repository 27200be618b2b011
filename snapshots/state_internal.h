// SPDX-License-Identifier: Apache-2.0
/* What state.c (fields) and state_file.c (the file around the sections) share. */
#ifndef SNAPSHOTS_STATE_INTERNAL_H
#define SNAPSHOTS_STATE_INTERNAL_H

#include "snapshots/state.h"

#define STATE_HEAD_BYTES         40u
#define STATE_SECTION_HEAD_BYTES 48u
#define STATE_ALIGN              8u

/* Room for more bytes behind file->len. 0, -ENOMEM or -EFBIG. */
int state_reserve(struct state_file *file, size_t more) must_check;

/* Pads what was appended since start, which begins with room for the head, and fills in that head. */
int state_close_section(struct state_file *file, size_t start, const struct state_kind *kind,
			uint32_t instance, struct error *err) must_check;

#endif
