// SPDX-License-Identifier: Apache-2.0
/* Virtio devices in a snapshot: the transport's registers, the queues, and what devices have in common. */
#include "virtio/saved.h"

#include <stdio.h>
#include <string.h>
#include "virtio/mmio.h"
#include "vmm/core/rate_limiter.h"

/* 2.1.2, 4.2.2: every bit that a status or an interrupt status may have */
#define STATUS_BITS       0xcfu
#define STATUS_DRIVER_OK  0x04u
#define STATUS_FEATURES   0x08u
#define INTERRUPT_BITS    0x03u
#define DEVICE_NAME_BYTES 128u

static void bucket_fields(struct state *s, struct token_bucket *bucket)
{
	uint64_t budget = bucket->budget, burst_left = bucket->burst_left;

	state_u64(s, "limiter.budget", &budget);
	state_u64(s, "limiter.burst_left", &burst_left);
	/* Another size was configured meanwhile, perhaps none: what is there stays full. */
	if (state_is_loading(s) && bucket->enabled && budget <= bucket->size &&
	    burst_left <= bucket->burst_left) {
		bucket->budget = budget;
		bucket->burst_left = burst_left;
	}
}

void virtio_saved_limiter(struct state *s, struct rate_limiter *limiter)
{
	bucket_fields(s, &limiter->bandwidth);
	bucket_fields(s, &limiter->ops);
}

static void queue_fields(struct state *s, struct virtqueue *vq)
{
	state_u16(s, "queue.size", &vq->size);
	state_require(s, vq->size <= vq->size_max, "queue.size", "at most the device's maximum");
	state_bool(s, "queue.ready", &vq->ready);
	state_u64(s, "queue.desc", &vq->desc_gpa.v);
	state_u64(s, "queue.avail", &vq->avail_gpa.v);
	state_u64(s, "queue.used", &vq->used_gpa.v);
	state_u16(s, "queue.next_avail", &vq->next_avail);
	state_u16(s, "queue.next_used", &vq->next_used);
	state_u16(s, "queue.signalled_used", &vq->signalled_used);
	state_bool(s, "queue.signalled_used_valid", &vq->signalled_used_valid);
	state_bool(s, "queue.broken", &vq->broken);
}

/* What must be the same on both sides, or the driver would talk to another device than the one it knows. */
static void identity_fields(struct state *s, const struct virtio_device *dev)
{
	uint32_t type = dev->ops->type, queues = dev->ops->queue_count;
	uint64_t features = dev->features_offered;
	char id[DEVICE_NAME_BYTES] = {0};

	state_u32(s, "type", &type);
	state_require(s, type == (uint32_t)dev->ops->type, "type",
		      "the device that the configuration names");
	snprintf(id, sizeof(id), "%s", dev->id);
	state_bytes(s, "id", id, sizeof(id));
	state_require(s, strncmp(id, dev->id, sizeof(id) - 1) == 0, "id",
		      "the device that the configuration names");
	state_u64(s, "features_offered", &features);
	state_require(s, features == dev->features_offered, "features_offered",
		      "what the device offers on this host");
	state_u32(s, "queues", &queues);
	state_require(s, queues == dev->ops->queue_count, "queues",
		      "the device's number of queues");
}

static void register_fields(struct state *s, struct virtio_mmio *mmio)
{
	struct virtio_device *dev = mmio->dev;
	uint32_t interrupt_status = atomic_load(&dev->interrupt_status);

	state_u8(s, "status", &mmio->status);
	state_require(s, (mmio->status & ~STATUS_BITS) == 0, "status", "known bits");
	state_u32(s, "device_features_select", &mmio->device_features_select);
	state_u32(s, "driver_features_select", &mmio->driver_features_select);
	state_u32(s, "queue_select", &mmio->queue_select);
	state_u64(s, "features_acked", &dev->features_acked);
	state_require(s,
		      !(mmio->status & STATUS_FEATURES) ||
			      (dev->features_acked & ~dev->features_offered) == 0,
		      "features_acked", "a part of what is offered");
	state_u32(s, "config_generation", &dev->config_generation);
	state_bool(s, "activated", &dev->activated);
	state_require(s,
		      !dev->activated || (mmio->status & (STATUS_DRIVER_OK | STATUS_FEATURES)) ==
						 (STATUS_DRIVER_OK | STATUS_FEATURES),
		      "activated", "a driver that has said DRIVER_OK");
	state_bool(s, "needs_reset", &dev->needs_reset);
	state_u32(s, "interrupt_status", &interrupt_status);
	state_require(s, (interrupt_status & ~INTERRUPT_BITS) == 0, "interrupt_status",
		      "known bits");
	atomic_store(&dev->interrupt_status, interrupt_status);
}

static void fields(struct state *s, void *object)
{
	struct virtio_mmio *mmio = object;
	struct virtio_device *dev = mmio->dev;

	identity_fields(s, dev);
	register_fields(s, mmio);
	for (unsigned i = 0; i < dev->ops->queue_count; i++)
		queue_fields(s, &dev->queues[i]);
	if (dev->ops->fields)
		dev->ops->fields(dev, s);
}

const struct state_kind virtio_mmio_kind = {.name = "virtio",
					    .version = 1,
					    .oldest = 1,
					    .fields = fields};
