// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-vsock: giving packets to the guest.
 *
 * DOC: A chain of the receive queue takes one packet. Linux offers chains of 4 KiB, so data for the guest is read into many
 * of them by one readv(2), straight from the socket into guest memory behind the place of each header; then the headers
 * are written and the filled chains completed together, and the rest is given back to the queue.
 *
 * The driver is asked for notifications only while packets wait for chains.
 */
#include "virtio/vsock_internal.h"

#include <errno.h>
#include <string.h>
#include "vmm/core/bytes.h"

/* A chain taken for data */
struct slot {
	uint16_t head;
	uint8_t *header; /* in guest memory; NULL: not in one piece, see vs->chain */
	uint32_t room;   /* for data */
};

enum served {
	SERVED_DONE,
	SERVED_MORE, /* it may have something left */
	SERVED_STARVED,
	SERVED_FREED,
};

static void encode(const struct vsock_packet *packet, uint8_t out[VSOCK_HEADER_BYTES])
{
	put_le64(out, packet->src_cid);
	put_le64(out + 8, packet->dst_cid);
	put_le32(out + 16, packet->src_port);
	put_le32(out + 20, packet->dst_port);
	put_le32(out + 24, packet->len);
	put_le16(out + 28, packet->type);
	put_le16(out + 30, packet->op);
	put_le32(out + 32, packet->flags);
	put_le32(out + 36, packet->buf_alloc);
	put_le32(out + 40, packet->fwd_cnt);
}

/* Takes a chain into vs->chain. false: there is none; if it is needed, the driver has been asked to tell us of one. */
static bool pop(struct vsock *vs, bool needed)
{
	struct virtqueue *vq = &vs->dev.queues[VSOCK_QUEUE_RX];
	int ret = virtqueue_pop(vq, &vs->chain);

	if (ret == 0 && !needed)
		return false;
	if (ret == 0 && virtqueue_enable_notify(vq))
		ret = virtqueue_pop(vq, &vs->chain);
	if (ret == 1 && vs->chain.writable_bytes <= VSOCK_HEADER_BYTES)
		ret = -EPROTO;
	if (ret < 0)
		vsock_fail(vs, "broken receive buffer");
	if (ret == 1 && vs->rx_starved)
		virtqueue_disable_notify(vq);
	vs->rx_starved = ret == 0;
	return ret == 1;
}

/* A packet without data, in vs->chain. */
static void give_packet(struct vsock *vs, const struct vsock_packet *packet)
{
	uint8_t header[VSOCK_HEADER_BYTES];

	encode(packet, header);
	virtq_chain_write(&vs->chain, 0, header, sizeof(header));
	virtqueue_push(&vs->dev.queues[VSOCK_QUEUE_RX], vs->chain.head, sizeof(header));
	metric_add(&vs->metrics.rx_packets_count, 1);
}

/* Adds the data part of vs->chain, at most room bytes of it, to vs->iov from *count on. */
static void add_buffers(struct vsock *vs, uint32_t room, unsigned *count)
{
	const struct virtq_chain *chain = &vs->chain;
	size_t skip = VSOCK_HEADER_BYTES;

	for (unsigned i = chain->readable; room > 0; i++) {
		uint8_t *base = chain->iov[i].iov_base;
		size_t len = chain->iov[i].iov_len;
		size_t unused = skip < len ? skip : len;

		base += unused;
		len -= unused;
		skip -= unused;
		if (len > room)
			len = room;
		room -= (uint32_t)len;
		if (len > 0)
			vs->iov[(*count)++] = (struct iovec){.iov_base = base, .iov_len = len};
	}
}

/*
 * Takes chains with room for up to limit bytes. Gives their number and in *iov_count how much of vs->iov is used. Only the
 * last one may have a header in pieces or many buffers: its chain stays in vs->chain.
 */
static unsigned gather(struct vsock *vs, uint32_t limit, struct slot *slots, unsigned *iov_count)
{
	unsigned count = 0;
	bool last = false;

	*iov_count = 0;
	while (limit > 0 && count < VSOCK_RX_SLOTS && !last && pop(vs, count == 0)) {
		const struct virtq_chain *chain = &vs->chain;
		const struct iovec *first = &chain->iov[chain->readable];
		uint64_t room = chain->writable_bytes - VSOCK_HEADER_BYTES;

		if (room > VSOCK_PACKET_MAX)
			room = VSOCK_PACKET_MAX;
		if (room > limit)
			room = limit;
		last = first->iov_len < VSOCK_HEADER_BYTES ||
		       chain->writable > VSOCK_RX_IOVS_PER_SLOT;
		slots[count++] = (struct slot){
			.head = chain->head,
			.header = last ? NULL : first->iov_base,
			.room = (uint32_t)room,
		};
		add_buffers(vs, (uint32_t)room, iov_count);
		limit -= (uint32_t)room;
	}
	return count;
}

/* Completes the first chains, which len bytes of data have been read into; gives the others back. */
static void complete(struct vsock_conn *conn, const struct slot *slots, unsigned count,
		     uint32_t len)
{
	struct vsock *vs = conn->vs;
	struct virtqueue *vq = &vs->dev.queues[VSOCK_QUEUE_RX];
	uint8_t header[VSOCK_HEADER_BYTES];
	struct vsock_packet packet;
	uint16_t used = 0;

	if (len > 0)
		vsock_conn_fill_packet(conn, VSOCK_OP_RW, &packet);
	for (; len > 0; used++) {
		const struct slot *slot = &slots[used];

		packet.len = len < slot->room ? len : slot->room;
		len -= packet.len;
		encode(&packet, header);
		if (slot->header)
			memcpy(slot->header, header, sizeof(header));
		else
			virtq_chain_write(&vs->chain, 0, header, sizeof(header));
		virtqueue_put(vq, used, slot->head, VSOCK_HEADER_BYTES + packet.len);
	}
	for (unsigned i = used; i < count; i++)
		virtqueue_undo_pop(vq);
	if (used > 0)
		virtqueue_publish(vq, used);
	metric_add(&vs->metrics.rx_packets_count, used);
}

/* One read of the connection's socket, of at most limit bytes. *packets grows by the packets given. */
static enum served give_data(struct vsock_conn *conn, uint32_t limit, unsigned *packets)
{
	struct slot slots[VSOCK_RX_SLOTS];
	struct vsock *vs = conn->vs;
	unsigned iov_count;
	unsigned count = gather(vs, limit, slots, &iov_count);
	uint32_t wanted = 0;

	if (count == 0)
		return SERVED_STARVED;
	for (unsigned i = 0; i < count; i++)
		wanted += slots[i].room;
	ssize_t got = readv(conn->fd, vs->iov, (int)iov_count);
	int error = errno;

	complete(conn, slots, count, got > 0 ? (uint32_t)got : 0);
	if (got > 0) {
		metric_add(&vs->metrics.rx_bytes_count, (uint64_t)got);
		*packets += count;
	}
	vsock_conn_has_read(conn, got, wanted, error);
	return SERVED_MORE;
}

/* A connection's turn: all its news, then data once. */
static enum served serve_conn(struct vsock_conn *conn, unsigned *packets)
{
	struct vsock *vs = conn->vs;
	struct vsock_packet packet;

	vsock_conn_ask_for_credit(conn);
	while (conn->news != 0) {
		if (!pop(vs, true))
			return SERVED_STARVED;
		vsock_conn_next_news(conn, &packet);
		give_packet(vs, &packet);
		++*packets;
		if (packet.op == VSOCK_OP_RST) {
			vsock_conn_free(conn);
			return SERVED_FREED;
		}
	}
	uint32_t sendable = vsock_conn_sendable(conn);

	return sendable > 0 ? give_data(conn, sendable, packets) : SERVED_DONE;
}

static bool give_reset(struct vsock *vs)
{
	const struct vsock_reset *reset = &vs->resets[vs->reset_first];
	struct vsock_packet packet = {
		.src_cid = reset->src_cid,
		.dst_cid = vs->guest_cid,
		.src_port = reset->src_port,
		.dst_port = reset->dst_port,
		.type = reset->type,
		.op = VSOCK_OP_RST,
	};

	if (!pop(vs, true))
		return false;
	give_packet(vs, &packet);
	vs->reset_first = (vs->reset_first + 1) % VSOCK_RESETS_MAX;
	vs->reset_count--;
	return true;
}

/* The first of the list has its turn and goes to the end of the list if it has more. false: no chains are left. */
static bool serve_first(struct vsock *vs, unsigned *packets)
{
	struct vsock_conn *conn = TAILQ_FIRST(&vs->rx_list);

	TAILQ_REMOVE(&vs->rx_list, conn, rx);
	conn->in_rx_list = false;
	enum served served = serve_conn(conn, packets);

	if (served == SERVED_FREED)
		return true;
	if (served == SERVED_STARVED && !conn->in_rx_list) {
		TAILQ_INSERT_HEAD(&vs->rx_list, conn, rx);
		conn->in_rx_list = true;
	}
	if (served == SERVED_MORE && conn->readable)
		vsock_conn_tell(conn, 0); /* its source stays as it is: we come back at once */
	else
		vsock_conn_update_source(conn);
	return served != SERVED_STARVED;
}

void vsock_rx_serve(struct vsock *vs)
{
	unsigned packets = 0;
	bool more = true;

	if (vs->transport != VSOCK_TRANSPORT_KNOWN)
		more = false;
	while (more && !vs->quiet && packets < VSOCK_PACKETS_PER_EVENT) {
		if (vs->reset_count > 0) {
			more = give_reset(vs);
			packets += more;
		} else if (!TAILQ_EMPTY(&vs->rx_list)) {
			more = serve_first(vs, &packets);
		} else {
			more = false;
		}
	}
	virtio_device_signal_queues(&vs->dev, (packets > 0 ? 1u << VSOCK_QUEUE_RX : 0) |
						      (vs->tx_used ? 1u << VSOCK_QUEUE_TX : 0));
	vs->tx_used = false;
	if (more && !vs->quiet)
		virtio_device_renotify(&vs->dev, VSOCK_QUEUE_RX);
}
