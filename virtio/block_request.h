// SPDX-License-Identifier: Apache-2.0
/* Requests of virtio-blk (virtio 1.2, section 5.2.6): from a descriptor chain to what a backend is to do. */
#ifndef VIRTIO_BLOCK_REQUEST_H
#define VIRTIO_BLOCK_REQUEST_H

#include <stdbool.h>
#include <stdint.h>
#include "virtio/block_backend.h"
#include "virtio/queue.h"

/*
 * Limits that the configuration space announces. A request within the first two moves at most BLOCK_DATA_MAX_BYTES; a
 * larger one fails, so that one request cannot keep the loop busy for long.
 */
#define BLOCK_SEG_MAX         (VIRTQ_CHAIN_MAX - 2u) /* header and status take one descriptor each */
#define BLOCK_SIZE_MAX        (256u << 10)
#define BLOCK_DATA_MAX_BYTES  ((uint64_t)BLOCK_SEG_MAX * BLOCK_SIZE_MAX)
#define BLOCK_DISCARD_SECTORS (UINT32_C(1) << 19) /* 256 MiB */
#define BLOCK_ZEROES_SECTORS  (UINT32_C(1) << 15) /* 16 MiB: may have to be written */

/* 5.2.6: what the status byte says */
enum block_status { BLOCK_S_OK = 0, BLOCK_S_IOERR = 1, BLOCK_S_UNSUPP = 2 };

/* What requests are judged by. */
struct block_disk {
	uint64_t sectors;
	bool read_only;
	bool can_flush;     /* VIRTIO_BLK_F_FLUSH is offered */
	const char *serial; /* BLOCK_SERIAL_BYTES */
};

struct block_request {
	uint8_t *status;     /* in guest memory; NULL: the chain has no writable byte */
	uint32_t ok_bytes;   /* for the used ring when it succeeds, the status byte included */
	uint32_t fail_bytes; /* and when it does not: the status byte if that comes first, else 0 */
};

enum block_verdict {
	BLOCK_DO,      /* io is to be submitted */
	BLOCK_DONE,    /* nothing to submit; succeeded */
	BLOCK_BAD,     /* nothing to submit; malformed, out of range or not allowed: IOERR */
	BLOCK_UNKNOWN, /* nothing to submit: UNSUPP */
};

/*
 * Takes a chain apart, in any framing (2.7.4.3: header, data and status may be cut into descriptors anywhere). Fills
 * request always, and io (all but the tag) on BLOCK_DO; io->iov leads into chain->iov, which is changed.
 */
enum block_verdict block_request_parse(struct virtq_chain *chain, const struct block_disk *disk,
				       struct block_request *request, struct block_io *io);

#endif
