// SPDX-License-Identifier: Apache-2.0
/*
 * Does with every device what makes the monitor work for it, as it is told by letters on the serial port; answers each
 * with a line. Serves vsock meanwhile: accepts every connection, sends back what it is sent. What there is no device for
 * is answered with "no device".
 *
 *   b  block: write, read, flush, discard    r  entropy             o  network: offloads, a frame out, one in
 *   c  vsock: connects to the host's port 52, sends data in two pieces         h  vsock: shuts its sending side
 *   p  the interval timer                    l  a line in the monitor's log   d  resets the entropy device
 *   q  ends
 */
#include "tests/guest/guest.h"

#define SERIAL_LSR     0x3fd
#define LSR_DATA_READY 1
#define NOWHERE        0xd0000000u /* no device there */

enum {
	TYPE_NET = 1,
	TYPE_BLOCK = 2,
	TYPE_RNG = 4,
	TYPE_VSOCK = 19,

	BLOCK_F_FLUSH = 1 << 9,
	BLOCK_F_DISCARD = 1 << 13,
	BLOCK_IN = 0,
	BLOCK_OUT = 1,
	BLOCK_FLUSH = 4,
	BLOCK_DISCARD = 11,

	NET_F_GUEST_CSUM = 1 << 1,
	NET_HEADER_BYTES = 12,
	FRAME_BYTES = 60,

	OP_REQUEST = 1,
	OP_RESPONSE = 2,
	OP_RST = 3,
	OP_SHUTDOWN = 4,
	OP_RW = 5,
	HOST_PORT = 52,
	GUEST_PORT = 1024,
	HOST_CID = 2,
	GUEST_CID = 3,
	DATA_BYTES = 2048,
};

/* ---- block, entropy ---- */

static struct ring block_ring, rng_ring;
static struct {
	uint32_t type, reserved;
	uint64_t sector;
} request;
static struct {
	uint64_t sector;
	uint32_t count, flags;
} segment = {.count = 8};
static uint8_t sector[512], status;

static bool block(uint32_t window, uint32_t type, void *data, uint32_t len, uint16_t flags)
{
	uint16_t before = block_ring.used.idx;

	request.type = type;
	status = 0xee;
	set_desc(&block_ring, 0, &request, sizeof(request), D_NEXT, len ? 1 : 2);
	set_desc(&block_ring, 1, data, len, D_NEXT | flags, 2);
	set_desc(&block_ring, 2, &status, 1, D_WRITE, 0);
	ring_submit(window, &block_ring, 0, 0);
	return ring_wait(window, &block_ring, (uint16_t)(before + 1)) &&
	       *(volatile uint8_t *)&status == 0;
}

static bool do_block(void)
{
	uint32_t window = virtio_find(TYPE_BLOCK, 0);

	return window && virtio_start(window, BLOCK_F_FLUSH | BLOCK_F_DISCARD, &block_ring, 1) &&
	       block(window, BLOCK_OUT, sector, sizeof(sector), 0) &&
	       block(window, BLOCK_IN, sector, sizeof(sector), D_WRITE) &&
	       block(window, BLOCK_FLUSH, NULL, 0, 0) &&
	       block(window, BLOCK_DISCARD, &segment, sizeof(segment), 0);
}

static bool do_rng(void)
{
	uint32_t window = virtio_find(TYPE_RNG, 0);

	if (!window || !virtio_start(window, 0, &rng_ring, 1))
		return false;
	set_desc(&rng_ring, 0, sector, sizeof(sector), D_WRITE, 0);
	ring_submit(window, &rng_ring, 0, 0);
	return ring_wait(window, &rng_ring, 1);
}

static bool do_reset(void)
{
	uint32_t window = virtio_find(TYPE_RNG, 0);

	if (window)
		virtio_reset(window);
	return window && read32(window + VM_STATUS) == 0;
}

/* ---- network ---- */

static struct ring net_rings[2];
static uint8_t frame_in[NET_HEADER_BYTES + 1526], frame_out[NET_HEADER_BYTES + FRAME_BYTES];

static bool do_net(void)
{
	uint32_t window = virtio_find(TYPE_NET, 0);

	if (!window || !virtio_start(window, NET_F_GUEST_CSUM, net_rings, 2))
		return false;
	memset(frame_out + NET_HEADER_BYTES, 0xff, 6); /* to everybody, from 02:... */
	frame_out[NET_HEADER_BYTES + 6] = 2;
	set_desc(&net_rings[1], 0, frame_out, sizeof(frame_out), 0, 0);
	ring_submit(window, &net_rings[1], 1, 0);
	if (!ring_wait(window, &net_rings[1], 1))
		return false;
	set_desc(&net_rings[0], 0, frame_in, sizeof(frame_in), D_WRITE, 0);
	ring_submit(window, &net_rings[0], 0, 0);
	return ring_wait(window, &net_rings[0], 1);
}

/* ---- vsock ---- */

struct packet {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
	uint8_t data[DATA_BYTES];
} __attribute__((packed));
#define PACKET_HEADER offsetof(struct packet, data)

static struct ring vsock_rings[3];
static struct packet vsock_in[2], vsock_out;
static uint32_t vsock_window, received;
static uint16_t vsock_seen;

static bool send_packet(uint16_t op, uint32_t src_port, uint32_t dst_port, uint32_t len,
			uint32_t flags)
{
	struct ring *ring = &vsock_rings[1];
	uint16_t before = ring->used.idx;

	vsock_out.src_cid = GUEST_CID;
	vsock_out.dst_cid = HOST_CID;
	vsock_out.src_port = src_port;
	vsock_out.dst_port = dst_port;
	vsock_out.len = len;
	vsock_out.type = 1;
	vsock_out.op = op;
	vsock_out.flags = flags;
	vsock_out.buf_alloc = 1u << 20;
	vsock_out.fwd_cnt = received;
	set_desc(ring, 0, &vsock_out, PACKET_HEADER, len ? D_NEXT : 0, 1);
	set_desc(ring, 1, vsock_out.data, len / 2, D_NEXT, 2);
	set_desc(ring, 2, vsock_out.data + len / 2, len - len / 2, 0, 0);
	ring_submit(vsock_window, ring, 1, 0);
	return ring_wait(vsock_window, ring, (uint16_t)(before + 1));
}

static void offer_packet(uint16_t index)
{
	set_desc(&vsock_rings[0], index, &vsock_in[index], sizeof(vsock_in[index]), D_WRITE, 0);
	ring_submit(vsock_window, &vsock_rings[0], 0, index);
}

static void start_vsock(void)
{
	vsock_window = virtio_find(TYPE_VSOCK, 0);
	if (!vsock_window || !virtio_start(vsock_window, 0, vsock_rings, 3)) {
		vsock_window = 0;
		return;
	}
	offer_packet(0);
	offer_packet(1);
}

static void answer(const struct packet *packet)
{
	uint32_t len = packet->len <= DATA_BYTES ? packet->len : DATA_BYTES;

	switch (packet->op) {
	case OP_REQUEST:
		send_packet(OP_RESPONSE, packet->dst_port, packet->src_port, 0, 0);
		break;
	case OP_RESPONSE:
		send_packet(OP_RW, packet->dst_port, packet->src_port, 64, 0);
		break;
	case OP_RW:
		received += len;
		memcpy(vsock_out.data, packet->data, len);
		send_packet(OP_RW, packet->dst_port, packet->src_port, len, 0);
		break;
	case OP_SHUTDOWN:
		if (packet->flags == 3)
			send_packet(OP_RST, packet->dst_port, packet->src_port, 0, 0);
		break;
	default:
		break;
	}
}

static void serve_vsock(void)
{
	volatile uint16_t *used_idx = &vsock_rings[0].used.idx;

	while (vsock_window && *used_idx != vsock_seen) {
		uint16_t index =
			(uint16_t)(vsock_rings[0].used.ring[vsock_seen++ % RING_SIZE].id & 1);

		answer(&vsock_in[index]);
		offer_packet(index);
	}
}

static bool do_connect(void)
{
	return vsock_window && send_packet(OP_REQUEST, GUEST_PORT, HOST_PORT, 0, 0);
}

static bool do_half_close(void)
{
	return vsock_window && send_packet(OP_SHUTDOWN, GUEST_PORT, HOST_PORT, 0, 2);
}

/* ---- the machine ---- */

static bool do_timer(void)
{
	outb(0x43, 0x34);
	outb(0x40, 0);
	outb(0x40, 0x80);
	return true;
}

static bool do_log(void)
{
	(void)read32(NOWHERE);
	return true;
}

static void obey(uint8_t letter)
{
	static const struct {
		uint8_t letter;
		bool (*act)(void);
	} acts[] = {{'b', do_block},      {'r', do_rng},   {'o', do_net}, {'c', do_connect},
		    {'h', do_half_close}, {'p', do_timer}, {'l', do_log}, {'d', do_reset}};

	for (unsigned i = 0; i < sizeof(acts) / sizeof(acts[0]); i++) {
		if (acts[i].letter != letter)
			continue;
		const char text[] = {(char)letter, ' ', '\0'};
		bool good = acts[i].act();

		put_text(text);
		put_text(good ? "done\n" : "no device\n");
	}
}

void guest_main(void)
{
	start_vsock();
	put_text("ready\n");
	for (;;) {
		serve_vsock();
		if (!(inb(SERIAL_LSR) & LSR_DATA_READY))
			continue;
		uint8_t letter = inb(0x3f8);

		if (letter == 'q')
			return;
		obey(letter);
	}
}
