// SPDX-License-Identifier: Apache-2.0
/*
 * Split virtqueues (virtio 1.2, section 2.7): the only code that walks descriptors.
 *
 * DOC: Our own progress (next_avail, next_used) lives in host memory; rings in guest RAM are inputs or mirrors. Each
 * descriptor is copied in once and only the copy is looked at. Everything here runs on the device's loop thread.
 */
#ifndef VIRTIO_QUEUE_H
#define VIRTIO_QUEUE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>
#include "vmm/core/guest_memory.h"

#define VIRTQ_SIZE_MAX 256
/* A driver must not make a chain longer than the queue (2.7.5.3.1); such a chain is refused. */
#define VIRTQ_CHAIN_MAX VIRTQ_SIZE_MAX

struct virtqueue {
	/* set by the driver through the transport, frozen while ready and the device is active */
	uint16_t size; /* power of two, 1..size_max */
	uint16_t size_max;
	bool ready;
	gpa_t desc_gpa, avail_gpa, used_gpa;

	/* set by virtqueue_start(), from then on valid until virtqueue_reset() */
	const struct guest_memory *mem; /* borrowed */
	const void *desc;
	const void *avail;
	void *used;
	bool event_idx;      /* VIRTIO_F_EVENT_IDX was negotiated */
	bool indirect;       /* VIRTIO_F_INDIRECT_DESC was negotiated */
	bool broken;         /* the driver broke the ring; nothing more is popped until reset */
	uint16_t next_avail; /* our position in the available ring */
	uint16_t next_used;
	uint16_t
		signalled_used; /* next_used when the driver was last considered for an interrupt */
	bool signalled_used_valid;
};

/*
 * A chain, device-readable buffers first (2.7.4.2): iov[0..readable) then iov[readable..readable + writable). Pointers
 * lead into guest memory, which the guest may change at any time.
 */
struct virtq_chain {
	uint16_t head;
	uint16_t readable;
	uint16_t writable;
	uint64_t readable_bytes;
	uint64_t writable_bytes;
	struct iovec iov[VIRTQ_CHAIN_MAX];
};

/*
 * Checks size, alignment and addresses and takes host pointers. -EINVAL when the driver's set-up is unusable.
 */
int virtqueue_start(struct virtqueue *vq, const struct guest_memory *mem, bool event_idx,
		    bool indirect) must_check;

/* The same, going on from the position that vq holds already: next_avail, next_used, signalled_used, broken. */
int virtqueue_restart(struct virtqueue *vq, const struct guest_memory *mem, bool event_idx,
		      bool indirect) must_check;

/* Back to the state after power-on (not ready, no addresses). */
void virtqueue_reset(struct virtqueue *vq);

/*
 * Takes the next available chain. 1: chain is filled. 0: none is available. -EPROTO: the driver broke the rules (loop,
 * bad index, address outside RAM, too long, readable after writable); the queue is broken and the caller reports it with
 * virtio_device_fail().
 */
int virtqueue_pop(struct virtqueue *vq, struct virtq_chain *chain) must_check;

/* Puts the chain that was popped last back, so that the next pop gives it again. Only with no push in between. */
void virtqueue_undo_pop(struct virtqueue *vq);

/* How many chains are available now, as far as the ring says (never more than size); 0 on a broken queue. */
uint16_t virtqueue_available(struct virtqueue *vq);

/* Completes a chain: len_bytes were written to its writable part. Visible to the driver at once. */
void virtqueue_push(struct virtqueue *vq, uint16_t head, uint32_t len_bytes);

/*
 * For several chains that must become visible together (mergeable receive buffers): put at index 0, 1, … counted from
 * the first that is not visible yet, then publish them all.
 */
void virtqueue_put(struct virtqueue *vq, uint16_t index, uint16_t head, uint32_t len_bytes);
void virtqueue_publish(struct virtqueue *vq, uint16_t count);

/* Marks the ring that the device writes to as written: whoever tracks that asks once, not at each write. */
void virtqueue_mark(const struct virtqueue *vq);

/* Does the driver want an interrupt for what was pushed since the last call (2.7.7, 2.7.10)? */
bool virtqueue_needs_signal(struct virtqueue *vq);

/*
 * Asks the driver not to notify / to notify again. enable gives true when chains became available in between, so that
 * the caller goes on instead of going to sleep:
 *     do { virtqueue_disable_notify(vq); while (virtqueue_pop(...) == 1) ...; } while (virtqueue_enable_notify(vq));
 */
void virtqueue_disable_notify(struct virtqueue *vq);
bool virtqueue_enable_notify(struct virtqueue *vq);
/* Asks to be told of the next chain beyond those that are available now, which stay unlooked at. */
void virtqueue_notify_of_next(struct virtqueue *vq);

/* Copies between a buffer and part of a chain: from byte offset in the readable / writable part. Gives bytes copied. */
size_t virtq_chain_read(const struct virtq_chain *chain, uint64_t offset, void *out, size_t len);
size_t virtq_chain_write(const struct virtq_chain *chain, uint64_t offset, const void *in,
			 size_t len);

#endif
