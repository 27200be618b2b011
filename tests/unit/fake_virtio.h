// SPDX-License-Identifier: Apache-2.0
/*
 * A guest for tests of virtio devices: RAM, a driver's side of split virtqueues (virtio 1.2, section 2.7), and the steps
 * that bring a device up on a real loop. Header-only; for unit tests and fuzz targets.
 *
 * DOC: Use.
 *     struct fake_ram ram;  fake_ram_init(&ram, MIB(16));
 *     struct fake_queue queue;
 *     fake_device_start(dev, &ram, loop, features, &queue, 1);
 *     uint64_t data = fake_ram_alloc(&ram, 512, 1);
 *     fake_queue_add(&queue, (struct fake_buf[]){{data, 512, true}}, 1);   // makes it available
 *     fake_device_notify(dev, 0);
 *     struct fake_used used;  while (!fake_queue_take_used(&queue, &used)) fake_loop_wait(loop);
 * Chains can also be written by hand, as wrong as wanted: fake_queue_set_desc(), then fake_queue_offer(head).
 */
#ifndef TESTS_UNIT_FAKE_VIRTIO_H
#define TESTS_UNIT_FAKE_VIRTIO_H

#include <event2/event.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "virtio/device.h"
#include "virtio/queue.h"
#include "vmm/core/bytes.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/loop.h"

#define FAKE_RAM_BASE UINT64_C(0x100000) /* address 0 is not RAM, so that a forgotten one shows */

#define FAKE_DESC_NEXT     1u
#define FAKE_DESC_WRITE    2u
#define FAKE_DESC_INDIRECT 4u
#define FAKE_DESC_BYTES    16u

#define fake_require(condition)                                                         \
	do {                                                                            \
		if (!(condition)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                        \
		}                                                                       \
	} while (0)

/* ---- RAM ---- */

struct fake_ram {
	struct guest_memory mem; /* one region, [FAKE_RAM_BASE, FAKE_RAM_BASE + size) */
	uint64_t next;           /* where fake_ram_alloc() goes on */
};

static inline void fake_ram_init(struct fake_ram *ram, uint64_t size_bytes)
{
	uint8_t *host = calloc(1, size_bytes);

	fake_require(host != NULL);
	*ram = (struct fake_ram){.next = FAKE_RAM_BASE};
	ram->mem.regions[0] = (struct guest_region){gpa(FAKE_RAM_BASE), size_bytes, host};
	ram->mem.region_count = 1;
	ram->mem.total_bytes = size_bytes;
}

static inline void fake_ram_free(struct fake_ram *ram)
{
	free(ram->mem.regions[0].host);
	*ram = (struct fake_ram){0};
}

/* Never given back; the memory is zero the first time. */
static inline uint64_t fake_ram_alloc(struct fake_ram *ram, uint64_t len, uint64_t align)
{
	uint64_t at = (ram->next + align - 1) / align * align;

	ram->next = at + len;
	fake_require(ram->next <= FAKE_RAM_BASE + ram->mem.total_bytes);
	return at;
}

static inline void *fake_ram_host(const struct fake_ram *ram, uint64_t address)
{
	fake_require(address >= FAKE_RAM_BASE && address < FAKE_RAM_BASE + ram->mem.total_bytes);
	return ram->mem.regions[0].host + (address - FAKE_RAM_BASE);
}

/* Allocates and fills; gives the address. */
static inline uint64_t fake_ram_put(struct fake_ram *ram, const void *data, size_t len)
{
	uint64_t at = fake_ram_alloc(ram, len, 8);

	memcpy(fake_ram_host(ram, at), data, len);
	return at;
}

/* ---- the driver's side of a queue ---- */

struct fake_queue {
	struct fake_ram *ram;
	uint16_t size;
	uint16_t
		next_desc; /* descriptors are handed out in a circle, never checked for being in use */
	uint16_t avail_idx;
	uint16_t used_idx; /* how far the driver has read the used ring */
	uint64_t desc, avail, used;
};

struct fake_buf {
	uint64_t address;
	uint32_t len;
	bool writable; /* by the device */
};

struct fake_used {
	uint32_t head;
	uint32_t len;
};

/* Lays the rings out in RAM and tells the device's virtqueue, as the driver does through the transport. */
static inline void fake_queue_init(struct fake_queue *queue, struct fake_ram *ram,
				   struct virtqueue *vq, uint16_t size)
{
	*queue = (struct fake_queue){.ram = ram, .size = size};
	queue->desc = fake_ram_alloc(ram, (uint64_t)size * FAKE_DESC_BYTES, 16);
	queue->avail = fake_ram_alloc(ram, 6 + (uint64_t)size * 2, 2);
	queue->used = fake_ram_alloc(ram, 6 + (uint64_t)size * 8, 4);
	vq->size = size;
	vq->desc_gpa = gpa(queue->desc);
	vq->avail_gpa = gpa(queue->avail);
	vq->used_gpa = gpa(queue->used);
	vq->ready = true;
}

/* Writes descriptor `index` of the table at guest address `table` (the queue's own or an indirect one). */
static inline void fake_desc_write(struct fake_ram *ram, uint64_t table, uint16_t index,
				   uint64_t address, uint32_t len, uint16_t flags, uint16_t next)
{
	uint8_t *desc = fake_ram_host(ram, table + (uint64_t)index * FAKE_DESC_BYTES);

	put_le64(desc, address);
	put_le32(desc + 8, len);
	put_le16(desc + 12, flags);
	put_le16(desc + 14, next);
}

static inline void fake_queue_set_desc(struct fake_queue *queue, uint16_t index, uint64_t address,
				       uint32_t len, uint16_t flags, uint16_t next)
{
	fake_desc_write(queue->ram, queue->desc, index, address, len, flags, next);
}

static inline void fake_queue_set_avail_idx(struct fake_queue *queue, uint16_t idx)
{
	uint16_t *where = fake_ram_host(queue->ram, queue->avail + 2);

	queue->avail_idx = idx;
	__atomic_store_n(where, htole16(idx), __ATOMIC_RELEASE);
}

/* Makes the chain that starts at descriptor `head` available. */
static inline void fake_queue_offer(struct fake_queue *queue, uint16_t head)
{
	uint64_t slot = queue->avail + 4 + 2u * (uint64_t)(queue->avail_idx % queue->size);

	put_le16(fake_ram_host(queue->ram, slot), head);
	fake_queue_set_avail_idx(queue, (uint16_t)(queue->avail_idx + 1));
}

/* Writes a chain into the table and makes it available; gives its head. */
static inline uint16_t fake_queue_add(struct fake_queue *queue, const struct fake_buf *bufs,
				      unsigned count)
{
	uint16_t head = queue->next_desc;

	fake_require(count > 0 && count <= queue->size);
	for (unsigned i = 0; i < count; i++) {
		uint16_t index = queue->next_desc;
		uint16_t flags = (uint16_t)((bufs[i].writable ? FAKE_DESC_WRITE : 0) |
					    (i + 1 < count ? FAKE_DESC_NEXT : 0));

		queue->next_desc = (uint16_t)((index + 1) % queue->size);
		fake_queue_set_desc(queue, index, bufs[i].address, bufs[i].len, flags,
				    queue->next_desc);
	}
	fake_queue_offer(queue, head);
	return head;
}

/* The same through an indirect table (which may be longer than the queue: the device has to refuse that). */
static inline uint16_t fake_queue_add_indirect(struct fake_queue *queue,
					       const struct fake_buf *bufs, unsigned count)
{
	uint64_t table = fake_ram_alloc(queue->ram, (uint64_t)count * FAKE_DESC_BYTES, 16);
	uint16_t head = queue->next_desc;

	for (unsigned i = 0; i < count; i++) {
		uint16_t flags = (uint16_t)((bufs[i].writable ? FAKE_DESC_WRITE : 0) |
					    (i + 1 < count ? FAKE_DESC_NEXT : 0));

		fake_desc_write(queue->ram, table, (uint16_t)i, bufs[i].address, bufs[i].len, flags,
				(uint16_t)(i + 1));
	}
	queue->next_desc = (uint16_t)((head + 1) % queue->size);
	fake_queue_set_desc(queue, head, table, count * FAKE_DESC_BYTES, FAKE_DESC_INDIRECT, 0);
	fake_queue_offer(queue, head);
	return head;
}

/* Where the device has come in the used ring. */
static inline uint16_t fake_queue_used_idx(const struct fake_queue *queue)
{
	const uint16_t *where = fake_ram_host(queue->ram, queue->used + 2);

	return le16toh(__atomic_load_n(where, __ATOMIC_ACQUIRE));
}

/* The next completed chain; false when there is none. */
static inline bool fake_queue_take_used(struct fake_queue *queue, struct fake_used *used)
{
	const uint8_t *element;

	if (fake_queue_used_idx(queue) == queue->used_idx)
		return false;
	element = fake_ram_host(queue->ram,
				queue->used + 4 + 8u * (uint64_t)(queue->used_idx % queue->size));
	used->head = get_le32(element);
	used->len = get_le32(element + 4);
	queue->used_idx++;
	return true;
}

/* EVENT_IDX: "interrupt me when the used index passes value" (2.7.7.1). */
static inline void fake_queue_set_used_event(struct fake_queue *queue, uint16_t value)
{
	put_le16(fake_ram_host(queue->ram, queue->avail + 4 + 2u * (uint64_t)queue->size), value);
}

/* EVENT_IDX: the available index at which the device wants to be notified (2.7.10.1). */
static inline uint16_t fake_queue_avail_event(const struct fake_queue *queue)
{
	return get_le16(fake_ram_host(queue->ram, queue->used + 4 + 8u * (uint64_t)queue->size));
}

/* Without EVENT_IDX: bit 0 asks for no interrupts (2.7.7). */
static inline void fake_queue_set_avail_flags(struct fake_queue *queue, uint16_t flags)
{
	put_le16(fake_ram_host(queue->ram, queue->avail), flags);
}

/* ---- the device ---- */

/* Lays out `count` queues of the device's full size (the device is attached). */
static inline void fake_device_init_queues(struct virtio_device *dev, struct fake_ram *ram,
					   struct fake_queue *queues, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		fake_queue_init(&queues[i], ram, &dev->queues[i], dev->ops->queue_size);
}

/* Negotiates `features` (of those that are offered), lays out the queues and sets DRIVER_OK. The device is attached. */
static inline void fake_device_activate(struct virtio_device *dev, struct fake_ram *ram,
					uint64_t features, struct fake_queue *queues,
					unsigned count)
{
	dev->features_acked = dev->features_offered & (features | VIRTIO_F_VERSION_1);
	fake_device_init_queues(dev, ram, queues, count);
	fake_require(virtio_device_activate(dev) == 0);
}

/* Attaches the device to RAM and loop, then brings it up as above. */
static inline void fake_device_start(struct virtio_device *dev, struct fake_ram *ram,
				     struct loop *loop, uint64_t features,
				     struct fake_queue *queues, unsigned count)
{
	fake_require(virtio_device_attach(dev, &ram->mem, loop, 5) == 0);
	fake_device_activate(dev, ram, features, queues, count);
}

/* The driver's QueueNotify, by the way the ioeventfd goes: the loop has to run for it. */
static inline void fake_device_kick(struct virtio_device *dev, unsigned index)
{
	const uint64_t one = 1;

	fake_require(write(dev->notify_fds[index], &one, sizeof(one)) == sizeof(one));
}

/* The driver's QueueNotify, served at once. */
static inline void fake_device_notify(struct virtio_device *dev, unsigned index)
{
	dev->ops->queue_notify(dev, index);
}

/* How often the interrupt line was raised since the last call. */
static inline uint64_t fake_device_take_irqs(struct virtio_device *dev)
{
	struct pollfd line = {.fd = dev->irq.eventfd, .events = POLLIN};
	uint64_t count = 0;

	if (poll(&line, 1, 0) == 1)
		fake_require(read(line.fd, &count, sizeof(count)) == sizeof(count));
	return count;
}

/* ---- the loop ---- */

/* Handles what is ready, without waiting. */
static inline void fake_loop_poll(struct loop *loop)
{
	(void)event_base_loop(loop_event_base(loop), EVLOOP_NONBLOCK);
}

/* Waits until something is ready and handles it. */
static inline void fake_loop_wait(struct loop *loop)
{
	(void)event_base_loop(loop_event_base(loop), EVLOOP_ONCE);
}

#endif
