// SPDX-License-Identifier: Apache-2.0
/* virtio-rng (virtio 1.2, section 5.4), fed by getrandom(2). */
#ifndef VIRTIO_RNG_H
#define VIRTIO_RNG_H

#include "vmm/core/error.h"
#include "vmm/core/rate_limiter.h"

struct metrics_class;
struct virtio_device;

/* "entropy"; for metrics_announce(). */
extern const struct metrics_class rng_metrics_class;

struct rng_config {
	struct rate_limiter_config rate_limiter;
};

/* NULL and a text on error. Freed by virtio_device_free(). */
struct virtio_device *rng_new(const struct rng_config *config, struct error *err) must_check;

#endif
