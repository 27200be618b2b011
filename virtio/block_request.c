// SPDX-License-Identifier: Apache-2.0
/* Parsing of virtio-blk requests. */
#include "virtio/block_request.h"

#include <string.h>
#include "vmm/core/bytes.h"
#include "vmm/core/checked.h"

/* 5.2.6: request types */
enum {
	TYPE_IN = 0,
	TYPE_OUT = 1,
	TYPE_FLUSH = 4,
	TYPE_GET_ID = 8,
	TYPE_DISCARD = 11,
	TYPE_WRITE_ZEROES = 13,
};

#define ZEROES_F_UNMAP 1u

struct request_header {
	le32_t type;
	le32_t reserved;
	le64_t sector;
};
_Static_assert(sizeof(struct request_header) == 16, "virtio 1.2, 5.2.6");

struct range_segment {
	le64_t sector;
	le32_t num_sectors;
	le32_t flags;
};
_Static_assert(sizeof(struct range_segment) == 16, "virtio 1.2, 5.2.6");

/* A part of the chain's buffers. */
struct span {
	struct iovec *iov;
	uint16_t count;
	uint64_t bytes;
};

/* Cuts the last byte off the writable part: the status. NULL when there is none. */
static uint8_t *cut_status(struct virtq_chain *chain)
{
	if (chain->writable_bytes == 0)
		return NULL;
	struct iovec *last = &chain->iov[chain->readable + chain->writable - 1];

	last->iov_len--;
	chain->writable_bytes--;
	if (last->iov_len == 0)
		chain->writable--;
	return (uint8_t *)last->iov_base + last->iov_len;
}

static struct span writable_span(struct virtq_chain *chain)
{
	return (struct span){&chain->iov[chain->readable], chain->writable, chain->writable_bytes};
}

/* What of the readable part lies behind the header (which is known to be there). */
static struct span readable_span(struct virtq_chain *chain)
{
	struct span span = {chain->iov, chain->readable,
			    chain->readable_bytes - sizeof(struct request_header)};
	size_t skip = sizeof(struct request_header);

	while (span.count > 0 && skip >= span.iov->iov_len) {
		skip -= span.iov->iov_len;
		span.iov++;
		span.count--;
	}
	if (skip > 0) {
		span.iov->iov_base = (uint8_t *)span.iov->iov_base + skip;
		span.iov->iov_len -= skip;
	}
	return span;
}

/* Sets the range when it lies on the disk. */
static bool set_range(struct block_io *io, const struct block_disk *disk, uint64_t sector,
		      uint64_t sectors)
{
	if (!range_within(sector, sectors, disk->sectors))
		return false;
	io->offset_bytes = sector * BLOCK_SECTOR_BYTES; /* fits: the file's size does */
	io->len_bytes = sectors * BLOCK_SECTOR_BYTES;
	return true;
}

static enum block_verdict parse_transfer(struct block_io *io, const struct block_disk *disk,
					 uint64_t sector, struct span data)
{
	if (data.bytes == 0 || data.bytes % BLOCK_SECTOR_BYTES != 0 ||
	    data.bytes > BLOCK_DATA_MAX_BYTES)
		return BLOCK_BAD;
	if (!set_range(io, disk, sector, data.bytes / BLOCK_SECTOR_BYTES))
		return BLOCK_BAD;
	io->iov = data.iov;
	io->iov_count = data.count;
	return BLOCK_DO;
}

/* DISCARD and WRITE_ZEROES: one segment, as max_discard_seg and max_write_zeroes_seg say. */
static enum block_verdict parse_range(struct block_io *io, const struct block_disk *disk,
				      const struct virtq_chain *chain, bool discard)
{
	struct range_segment segment;
	const uint32_t limit = discard ? BLOCK_DISCARD_SECTORS : BLOCK_ZEROES_SECTORS;

	if (disk->read_only)
		return BLOCK_UNKNOWN; /* not offered then */
	if (chain->readable_bytes != sizeof(struct request_header) + sizeof(segment))
		return BLOCK_BAD;
	virtq_chain_read(chain, sizeof(struct request_header), &segment, sizeof(segment));
	uint32_t flags = le32_get(segment.flags);
	uint32_t sectors = le32_get(segment.num_sectors);

	if ((flags & ~ZEROES_F_UNMAP) != 0 || (discard && flags != 0))
		return BLOCK_UNKNOWN; /* 5.2.6.2 */
	if (sectors == 0 || sectors > limit ||
	    !set_range(io, disk, le64_get(segment.sector), sectors))
		return BLOCK_BAD;
	if (discard)
		io->op = BLOCK_OP_DISCARD;
	else
		io->op = (flags & ZEROES_F_UNMAP) ? BLOCK_OP_ZERO_UNMAP : BLOCK_OP_ZERO;
	return BLOCK_DO;
}

/* A driver with a shorter buffer gets the beginning. */
static enum block_verdict answer_id(const struct virtq_chain *chain, const struct block_disk *disk,
				    struct block_request *request)
{
	if (chain->writable_bytes == 0)
		return BLOCK_BAD;
	size_t written = virtq_chain_write(chain, 0, disk->serial, BLOCK_SERIAL_BYTES);

	/* With a longer buffer the status byte does not follow directly. */
	request->ok_bytes = (uint32_t)written + (written == chain->writable_bytes ? 1 : 0);
	return BLOCK_DONE;
}

static enum block_verdict parse(struct virtq_chain *chain, const struct block_disk *disk,
				const struct request_header *header, struct block_request *request,
				struct block_io *io)
{
	const uint64_t sector = le64_get(header->sector);

	switch (le32_get(header->type)) {
	case TYPE_IN:
		io->op = BLOCK_OP_READ;
		request->ok_bytes = (uint32_t)(chain->writable_bytes + 1);
		return parse_transfer(io, disk, sector, writable_span(chain));
	case TYPE_OUT:
		if (disk->read_only)
			return BLOCK_BAD; /* 5.2.6.2: IOERR, and nothing is written */
		io->op = BLOCK_OP_WRITE;
		return parse_transfer(io, disk, sector, readable_span(chain));
	case TYPE_FLUSH:
		io->op = BLOCK_OP_FLUSH;
		return disk->can_flush ? BLOCK_DO : BLOCK_UNKNOWN;
	case TYPE_GET_ID:
		return answer_id(chain, disk, request);
	case TYPE_DISCARD:
		return parse_range(io, disk, chain, true);
	case TYPE_WRITE_ZEROES:
		return parse_range(io, disk, chain, false);
	default:
		return BLOCK_UNKNOWN;
	}
}

enum block_verdict block_request_parse(struct virtq_chain *chain, const struct block_disk *disk,
				       struct block_request *request, struct block_io *io)
{
	struct request_header header;

	*io = (struct block_io){0};
	*request = (struct block_request){.status = cut_status(chain)};
	if (!request->status)
		return BLOCK_BAD;
	/* 2.7.8.2: only what was really written, from the first writable byte on, may be counted. */
	request->fail_bytes = chain->writable_bytes == 0 ? 1 : 0;
	request->ok_bytes = request->fail_bytes;
	if (chain->readable_bytes < sizeof(header))
		return BLOCK_BAD;
	virtq_chain_read(chain, 0, &header, sizeof(header));
	return parse(chain, disk, &header, request, io);
}
