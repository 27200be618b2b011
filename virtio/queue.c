// SPDX-License-Identifier: Apache-2.0
/*
 * Split virtqueues: the one walker of descriptor chains.
 *
 * DOC: Memory order. The driver publishes avail->idx after the ring entries and descriptors (its write barrier, 2.7.13);
 * our acquire load of avail->idx pairs with it. We publish used->idx with a release store after the used elements; the
 * driver's read barrier pairs with that. Suppression by event indices needs a full barrier between our index store and
 * our load of the other side's wish, on both paths (signal and enable_notify): the driver has the mirror image.
 */
#include "virtio/queue.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include "vmm/core/bytes.h"
#include "vmm/core/checked.h"

/* 2.7.5, 2.7.6, 2.7.8: layouts in guest memory, little-endian */
struct vring_desc {
	le64_t addr;
	le32_t len;
	le16_t flags;
	le16_t next;
};
_Static_assert(sizeof(struct vring_desc) == 16, "virtio 1.2, 2.7.5");

struct vring_used_elem {
	le32_t id;
	le32_t len;
};
_Static_assert(sizeof(struct vring_used_elem) == 8, "virtio 1.2, 2.7.8");

enum {
	DESC_F_NEXT = 1,
	DESC_F_WRITE = 2,
	DESC_F_INDIRECT = 4,
	AVAIL_F_NO_INTERRUPT = 1,
	USED_F_NO_NOTIFY = 1,
	RING_FLAGS = 0, /* byte offsets, the same in both rings */
	RING_IDX = 2,
	RING_ENTRIES = 4,
	AVAIL_ENTRY_BYTES = 2,
	USED_ENTRY_BYTES = 8,
	RING_EVENT_BYTES = 2, /* used_event or avail_event behind the entries */
};

static const _Atomic uint16_t *avail_u16(const struct virtqueue *vq, size_t offset)
{
	return (const _Atomic uint16_t *)(const void *)((const uint8_t *)vq->avail + offset);
}

static _Atomic uint16_t *used_u16(struct virtqueue *vq, size_t offset)
{
	return (_Atomic uint16_t *)(void *)((uint8_t *)vq->used + offset);
}

static uint16_t load_avail(const struct virtqueue *vq, size_t offset)
{
	return le16toh(atomic_load_explicit(avail_u16(vq, offset), memory_order_relaxed));
}

static uint16_t load_avail_idx(const struct virtqueue *vq)
{
	return le16toh(atomic_load_explicit(avail_u16(vq, RING_IDX), memory_order_acquire));
}

static size_t used_event_offset(const struct virtqueue *vq)
{
	return RING_ENTRIES + (size_t)vq->size * AVAIL_ENTRY_BYTES;
}

static size_t avail_event_offset(const struct virtqueue *vq)
{
	return RING_ENTRIES + (size_t)vq->size * USED_ENTRY_BYTES;
}

int virtqueue_restart(struct virtqueue *vq, const struct guest_memory *mem, bool event_idx,
		      bool indirect)
{
	if (vq->size == 0 || vq->size > vq->size_max || (vq->size & (vq->size - 1)) != 0)
		return -EINVAL;
	if ((vq->desc_gpa.v & 15) != 0 || (vq->avail_gpa.v & 1) != 0 || (vq->used_gpa.v & 3) != 0)
		return -EINVAL;
	vq->desc =
		guest_memory_at(mem, vq->desc_gpa, (uint64_t)vq->size * sizeof(struct vring_desc));
	vq->avail = guest_memory_at(mem, vq->avail_gpa, used_event_offset(vq) + RING_EVENT_BYTES);
	vq->used = guest_memory_at(mem, vq->used_gpa, avail_event_offset(vq) + RING_EVENT_BYTES);
	if (!vq->desc || !vq->avail || !vq->used)
		return -EINVAL;
	vq->mem = mem;
	vq->event_idx = event_idx;
	vq->indirect = indirect;
	return 0;
}

int virtqueue_start(struct virtqueue *vq, const struct guest_memory *mem, bool event_idx,
		    bool indirect)
{
	vq->broken = false;
	vq->next_avail = 0;
	vq->next_used = 0;
	vq->signalled_used = 0;
	vq->signalled_used_valid = false;
	return virtqueue_restart(vq, mem, event_idx, indirect);
}

void virtqueue_reset(struct virtqueue *vq)
{
	*vq = (struct virtqueue){.size = vq->size_max, .size_max = vq->size_max};
}

static int break_queue(struct virtqueue *vq)
{
	vq->broken = true;
	return -EPROTO;
}

/* Adds one descriptor's buffer to the chain. -EPROTO when it is out of order, out of room or out of RAM. */
static int add_buffer(const struct virtqueue *vq, struct virtq_chain *chain,
		      const struct vring_desc *desc)
{
	uint32_t len = le32_get(desc->len);
	unsigned at = (unsigned)chain->readable + chain->writable;
	bool writable = (le16_get(desc->flags) & DESC_F_WRITE) != 0;

	if (at == VIRTQ_CHAIN_MAX || (!writable && chain->writable > 0))
		return -EPROTO;
	void *host = guest_memory_at(vq->mem, gpa(le64_get(desc->addr)), len);

	if (!host)
		return -EPROTO;
	chain->iov[at] = (struct iovec){.iov_base = host, .iov_len = len};
	if (writable) {
		guest_memory_mark(vq->mem, gpa(le64_get(desc->addr)), len);
		chain->writable++;
		chain->writable_bytes += len;
	} else {
		chain->readable++;
		chain->readable_bytes += len;
	}
	return 0;
}

/*
 * Follows next links in a table of count descriptors from index. At most count steps, so a loop ends. An indirect
 * table inside an indirect table is forbidden (2.7.5.3.1), so the caller says whether one may appear; then its
 * descriptor is left in *indirect and the walk ends (it must be the last: NEXT and INDIRECT exclude each other).
 */
static int walk(const struct virtqueue *vq, const struct vring_desc *table, uint32_t count,
		uint16_t index, struct virtq_chain *chain, struct vring_desc *indirect)
{
	for (uint32_t steps = 0; steps < count; steps++) {
		if (index >= count)
			return -EPROTO;
		struct vring_desc desc;

		memcpy(&desc, &table[index], sizeof(desc)); /* once: the guest may change it */
		uint16_t flags = le16_get(desc.flags);

		if (flags & DESC_F_INDIRECT) {
			if (!indirect || !vq->indirect || (flags & DESC_F_NEXT))
				return -EPROTO;
			*indirect = desc;
			return 1;
		}
		if (add_buffer(vq, chain, &desc))
			return -EPROTO;
		if (!(flags & DESC_F_NEXT))
			return 0;
		index = le16_get(desc.next);
	}
	return -EPROTO;
}

static int walk_indirect(const struct virtqueue *vq, const struct vring_desc *indirect,
			 struct virtq_chain *chain)
{
	uint32_t len = le32_get(indirect->len);
	uint32_t count = len / (uint32_t)sizeof(struct vring_desc);

	if (len == 0 || len % sizeof(struct vring_desc) != 0 || count > VIRTQ_CHAIN_MAX)
		return -EPROTO;
	const struct vring_desc *table =
		guest_memory_at(vq->mem, gpa(le64_get(indirect->addr)), len);

	return table ? walk(vq, table, count, 0, chain, NULL) : -EPROTO;
}

int virtqueue_pop(struct virtqueue *vq, struct virtq_chain *chain)
{
	if (vq->broken)
		return -EPROTO;
	uint16_t pending = (uint16_t)(load_avail_idx(vq) - vq->next_avail);

	if (pending == 0)
		return 0;
	if (pending > vq->size)
		return break_queue(vq);
	size_t slot = vq->next_avail & (vq->size - 1u);
	uint16_t head = load_avail(vq, RING_ENTRIES + slot * AVAIL_ENTRY_BYTES);
	struct vring_desc indirect;

	chain->head = head;
	chain->readable = 0;
	chain->writable = 0;
	chain->readable_bytes = 0;
	chain->writable_bytes = 0;
	int walked = walk(vq, vq->desc, vq->size, head, chain, &indirect);

	if (walked > 0)
		walked = walk_indirect(vq, &indirect, chain);
	if (walked < 0)
		return break_queue(vq);
	vq->next_avail++;
	return 1;
}

void virtqueue_undo_pop(struct virtqueue *vq)
{
	vq->next_avail--;
}

uint16_t virtqueue_available(struct virtqueue *vq)
{
	if (vq->broken)
		return 0;
	uint16_t pending = (uint16_t)(load_avail_idx(vq) - vq->next_avail);

	return pending > vq->size ? vq->size : pending;
}

void virtqueue_put(struct virtqueue *vq, uint16_t index, uint16_t head, uint32_t len_bytes)
{
	size_t slot = (uint16_t)(vq->next_used + index) & (vq->size - 1u);
	struct vring_used_elem elem = {.id = le32_make(head), .len = le32_make(len_bytes)};

	memcpy((uint8_t *)vq->used + RING_ENTRIES + slot * USED_ENTRY_BYTES, &elem, sizeof(elem));
}

void virtqueue_publish(struct virtqueue *vq, uint16_t count)
{
	vq->next_used = (uint16_t)(vq->next_used + count);
	atomic_store_explicit(used_u16(vq, RING_IDX), htole16(vq->next_used), memory_order_release);
}

void virtqueue_push(struct virtqueue *vq, uint16_t head, uint32_t len_bytes)
{
	virtqueue_put(vq, 0, head, len_bytes);
	virtqueue_publish(vq, 1);
}

void virtqueue_mark(const struct virtqueue *vq)
{
	guest_memory_mark(vq->mem, vq->used_gpa, avail_event_offset(vq) + RING_EVENT_BYTES);
}

bool virtqueue_needs_signal(struct virtqueue *vq)
{
	if (vq->broken)
		return false;
	atomic_thread_fence(memory_order_seq_cst); /* used->idx before the driver's wish; see DOC */
	if (!vq->event_idx)
		return !(load_avail(vq, RING_FLAGS) & AVAIL_F_NO_INTERRUPT);
	uint16_t event = load_avail(vq, used_event_offset(vq));
	uint16_t old = vq->signalled_used;
	bool first = !vq->signalled_used_valid;

	vq->signalled_used = vq->next_used;
	vq->signalled_used_valid = true;
	/* 2.7.10.1: did used->idx step over used_event since we looked last? */
	return first || (uint16_t)(vq->next_used - event - 1) < (uint16_t)(vq->next_used - old);
}

void virtqueue_disable_notify(struct virtqueue *vq)
{
	/* With event indices an avail_event that lies behind is enough: it is left where it is. */
	if (!vq->event_idx && !vq->broken)
		atomic_store_explicit(used_u16(vq, RING_FLAGS), htole16(USED_F_NO_NOTIFY),
				      memory_order_relaxed);
}

bool virtqueue_enable_notify(struct virtqueue *vq)
{
	if (vq->broken)
		return false;
	if (vq->event_idx)
		atomic_store_explicit(used_u16(vq, avail_event_offset(vq)), htole16(vq->next_avail),
				      memory_order_relaxed);
	else
		atomic_store_explicit(used_u16(vq, RING_FLAGS), 0, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst); /* our wish before avail->idx; see DOC */
	return load_avail_idx(vq) != vq->next_avail;
}

void virtqueue_notify_of_next(struct virtqueue *vq)
{
	if (vq->broken)
		return;
	if (vq->event_idx)
		atomic_store_explicit(used_u16(vq, avail_event_offset(vq)),
				      htole16(load_avail_idx(vq)), memory_order_relaxed);
	else
		atomic_store_explicit(used_u16(vq, RING_FLAGS), 0, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst); /* our wish before avail->idx; see DOC */
}

/*
 * Copies between buf and count buffers of a chain from byte offset on. to_chain says in which direction.
 */
static size_t copy(const struct iovec *iov, unsigned count, uint64_t offset, uint8_t *buf,
		   size_t len, bool to_chain)
{
	size_t done = 0;

	for (unsigned i = 0; i < count && done < len; i++) {
		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		size_t part = iov[i].iov_len - offset;
		uint8_t *guest = (uint8_t *)iov[i].iov_base + offset;

		if (part > len - done)
			part = len - done;
		if (to_chain)
			memcpy(guest, buf + done, part);
		else
			memcpy(buf + done, guest, part);
		done += part;
		offset = 0;
	}
	return done;
}

size_t virtq_chain_read(const struct virtq_chain *chain, uint64_t offset, void *out, size_t len)
{
	return copy(chain->iov, chain->readable, offset, out, len, false);
}

size_t virtq_chain_write(const struct virtq_chain *chain, uint64_t offset, const void *in,
			 size_t len)
{
	/* copy() only reads buf in this direction. */
	union {
		const void *in;
		uint8_t *buf;
	} source = {.in = in};

	return copy(chain->iov + chain->readable, chain->writable, offset, source.buf, len, true);
}
