// SPDX-License-Identifier: Apache-2.0
/* Fields of a snapshot that several devices have. */
#ifndef VIRTIO_SAVED_H
#define VIRTIO_SAVED_H

#include "snapshots/state.h"

struct rate_limiter;

/* How full the buckets are; how large they are is configuration. */
void virtio_saved_limiter(struct state *s, struct rate_limiter *limiter);

#endif
