// SPDX-License-Identifier: Apache-2.0
/* virtio-vsock (virtio 1.2, section 5.10) with UNIX sockets on the host side. */
#ifndef VIRTIO_VSOCK_H
#define VIRTIO_VSOCK_H

#include <stdint.h>
#include "vmm/core/error.h"

struct virtio_device;
struct metrics_class;

/* The counters of group `vsock`, for announcing it. */
extern const struct metrics_class vsock_metrics_class;

/* The vsock device as the API says it; strings owned by whoever holds the struct. */
struct vsock_config {
	uint32_t guest_cid; /* 3 and up */
	char *uds_path;
	char *vsock_id; /* deprecated, ignored; NULL when not given */
};

/*
 * Binds and listens on uds_path (fails when the file exists). NULL and a text on error. virtio_device_free() removes the
 * file again, unless it has become another one.
 */
struct virtio_device *vsock_new(const struct vsock_config *config, struct error *err) must_check;

#endif
