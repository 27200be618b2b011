// SPDX-License-Identifier: Apache-2.0
/* virtio over MMIO, version 2 (virtio 1.2, section 4.2). */
#ifndef VIRTIO_MMIO_H
#define VIRTIO_MMIO_H

#include <stdint.h>
#include "snapshots/state.h"
#include "virtio/device.h"
#include "vmm/core/bus.h"

#define VIRTIO_MMIO_QUEUE_NOTIFY 0x50u /* where the machine binds one ioeventfd a queue, by value */

/* The registers of one device; its state beyond the device's own. */
struct virtio_mmio {
	struct virtio_device *dev; /* borrowed */
	/* under dev->lock */
	uint8_t status;
	uint32_t device_features_select;
	uint32_t driver_features_select;
	uint32_t queue_select;
};

void virtio_mmio_init(struct virtio_mmio *mmio, struct virtio_device *dev);

/* ctx is the struct virtio_mmio. Wrong width, offset or order: reads give zero, writes are ignored. */
extern const struct bus_ops virtio_mmio_bus_ops;

/* Registers, queues and device in a snapshot; of struct virtio_mmio, with the device attached. */
extern const struct state_kind virtio_mmio_kind;

#endif
