// SPDX-License-Identifier: Apache-2.0
/* virtio-blk (virtio 1.2, section 5.2). */
#ifndef VIRTIO_BLOCK_H
#define VIRTIO_BLOCK_H

#include <stdbool.h>
#include "vmm/core/error.h"
#include "vmm/core/rate_limiter.h"

struct metrics_class;
struct virtio_device;

enum block_cache { BLOCK_CACHE_UNSAFE, BLOCK_CACHE_WRITEBACK };
enum block_engine { BLOCK_ENGINE_SYNC, BLOCK_ENGINE_ASYNC };

/* A drive as the API says it; strings owned by whoever holds the struct. */
struct block_config {
	char *drive_id;
	bool is_root_device;
	char *partuuid; /* NULL: none */
	enum block_cache cache_type;
	bool is_read_only;
	char *path_on_host;
	enum block_engine io_engine;
	struct rate_limiter_config rate_limiter;
	char *socket; /* vhost-user; NULL: the file above */
};

/* "block" and "block_<drive_id>"; for metrics_announce(). */
extern const struct metrics_class block_metrics_class;

/*
 * Opens the backing file. NULL and a text on error (without "Unable to create the virtio block device: "). Copies what
 * it needs of config. Freed by virtio_device_free(), which makes a Writeback drive's content durable.
 */
struct virtio_device *block_new(const struct block_config *config, struct error *err) must_check;

/*
 * PATCH: opens another backing file, finishes what is in flight on the old one, switches, changes the capacity and
 * raises the configuration interrupt. 0, or a negative errno and a text; then the old file stays in use.
 */
int block_update_path(struct virtio_device *dev, const char *path_on_host,
		      struct error *err) must_check;
void block_update_rate_limiter(struct virtio_device *dev, const struct rate_limiter_config *config);

#endif
