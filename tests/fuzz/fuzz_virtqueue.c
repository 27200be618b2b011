// SPDX-License-Identifier: Apache-2.0
/*
 * Arbitrary ring addresses, sizes and contents against the queue walker. Input: four bytes of set-up, three ring
 * addresses, then pieces of RAM. Between pops the next piece of RAM is laid over the last, as by another vCPU.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "virtio/queue.h"
#include "vmm/core/bytes.h"

#define RAM_BASE    UINT64_C(0x1000)
#define RAM_BYTES   8192u
#define SETUP_BYTES 16u
#define PIECE_BYTES 512u
#define POPS_MAX    600u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *data;
	size_t size;
};

static void lay_piece(struct input *input, uint8_t *ram, unsigned round)
{
	size_t part = input->size < PIECE_BYTES ? input->size : PIECE_BYTES;

	memcpy(ram + (size_t)(round % (RAM_BYTES / PIECE_BYTES)) * PIECE_BYTES, input->data, part);
	input->data += part;
	input->size -= part;
}

static uint64_t check_part(const struct guest_memory *mem, const struct iovec *iov, unsigned count)
{
	const struct guest_region *region = &mem->regions[0];
	uint64_t bytes = 0;

	for (unsigned i = 0; i < count; i++) {
		const uint8_t *base = iov[i].iov_base;

		assert(iov[i].iov_len > 0);
		assert(base >= region->host && base < region->host + region->size_bytes);
		assert(iov[i].iov_len <= (size_t)(region->host + region->size_bytes - base));
		bytes += iov[i].iov_len;
	}
	return bytes;
}

static void check_chain(const struct guest_memory *mem, const struct virtq_chain *chain,
			const struct virtqueue *vq)
{
	static uint8_t copy[RAM_BYTES];

	assert(chain->head < vq->size);
	assert((unsigned)chain->readable + chain->writable <= VIRTQ_CHAIN_MAX);
	assert(chain->readable_bytes == check_part(mem, chain->iov, chain->readable));
	assert(chain->writable_bytes ==
	       check_part(mem, chain->iov + chain->readable, chain->writable));
	size_t got = virtq_chain_read(chain, chain->head, copy, sizeof(copy));

	assert(got <= sizeof(copy) && got <= chain->readable_bytes);
	got = virtq_chain_write(chain, chain->head, copy, 100);
	assert(got <= 100 && got <= chain->writable_bytes);
}

static void pop_all(struct virtqueue *vq, const struct guest_memory *mem, struct input *input)
{
	static struct virtq_chain chain;
	uint8_t *ram = mem->regions[0].host;

	for (unsigned round = 0; round < POPS_MAX; round++) {
		uint16_t available = virtqueue_available(vq);
		int popped = virtqueue_pop(vq, &chain);

		assert(available <= vq->size);
		assert(popped == 1 || popped == 0 || popped == -EPROTO);
		if (popped < 0) {
			assert(vq->broken && virtqueue_available(vq) == 0);
			assert(virtqueue_pop(vq, &chain) == -EPROTO);
			return;
		}
		if (popped == 0 && input->size == 0 && !virtqueue_enable_notify(vq))
			return;
		if (popped == 1) {
			check_chain(mem, &chain, vq);
			if (round % 7 == 3)
				virtqueue_undo_pop(vq);
			else
				virtqueue_push(vq, chain.head, (uint32_t)chain.writable_bytes);
			(void)virtqueue_needs_signal(vq);
		}
		lay_piece(input, ram, round);
		virtqueue_disable_notify(vq);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data + SETUP_BYTES, size - SETUP_BYTES};
	struct guest_memory mem = {.region_count = 1, .total_bytes = RAM_BYTES};
	struct virtqueue vq = {.size_max = VIRTQ_SIZE_MAX};

	if (size < SETUP_BYTES)
		return 0;
	/* Exactly as large as RAM, so that the sanitizer sees a step over its end. */
	mem.regions[0] = (struct guest_region){gpa(RAM_BASE), RAM_BYTES, calloc(1, RAM_BYTES)};
	if (!mem.regions[0].host)
		return 0;
	for (unsigned i = 0; i < RAM_BYTES / PIECE_BYTES; i++)
		lay_piece(&input, mem.regions[0].host, i);
	vq.size = get_le16(data);
	vq.desc_gpa = gpa(RAM_BASE + get_le32(data + 4));
	vq.avail_gpa = gpa(RAM_BASE + get_le32(data + 8));
	vq.used_gpa = gpa(RAM_BASE + get_le32(data + 12));
	if (virtqueue_start(&vq, &mem, data[2] & 1, data[3] & 1) == 0)
		pop_all(&vq, &mem, &input);
	free(mem.regions[0].host);
	return 0;
}
