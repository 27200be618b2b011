// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-net: receiving, from the tap to the guest.
 *
 * DOC: The window. How long the next frame is, only reading it tells; so before a read there must be room for the
 * largest one. Chains are taken from the queue ahead of time into a window (`struct net_rx`): a flat array of buffers for
 * readv(2), which goes straight to guest memory, and the chains they belong to. A frame uses the first chains of the
 * window; those are completed together (5.1.6.4: num_buffers says how many) and the window slides on. A byte of our own
 * behind the last buffer (spill) shows a frame that did not fit, which is dropped.
 *
 * Without VIRTIO_NET_F_MRG_RXBUF a frame must fit one chain and the window is one chain long.
 *
 * The driver is asked for notifications only while the window is too small; otherwise it refills the queue in silence.
 * While the window is too small, or the rate limiter is blocked, nothing waits for the tap: frames queue up in the host
 * kernel.
 */
#include "virtio/net_internal.h"

#include <errno.h>
#include <string.h>
#include "vmm/core/log.h"

#define VLAN_TAG_BYTES    4
#define DEFAULT_MTU_BYTES 1500

void net_rx_init(struct net *net)
{
	struct net_rx *rx = &net->rx;
	bool large = virtio_device_has_feature(&net->dev, NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6 |
								  NET_F_GUEST_UFO);
	uint32_t mtu = net->mtu > DEFAULT_MTU_BYTES ? net->mtu : DEFAULT_MTU_BYTES;

	rx->iov_first = rx->iov_count = 0;
	rx->chain_first = rx->chain_count = 0;
	rx->bytes = 0;
	rx->held_bytes = 0;
	rx->starved = false;
	rx->mergeable = virtio_device_has_feature(&net->dev, NET_F_MRG_RXBUF);
	rx->required = large ? NET_FRAME_BYTES_MAX
			     : mtu + NET_ETHERNET_BYTES + VLAN_TAG_BYTES + NET_HEADER_BYTES;
}

void net_rx_update_source(struct net *net)
{
	bool wanted = !net->dev.paused && !net->dev.needs_reset && !net->tap_gone &&
		      !net->rx.starved && net->rx.held_bytes == 0 &&
		      !rate_limiter_is_blocked(&net->rx_limiter);

	if (net->tap_source)
		loop_source_set_events(net->tap_source, wanted ? LOOP_READ : 0);
}

/* Room at the end of the flat array for one more chain of any length, made by moving the window back to the start. */
static void make_room(struct net_rx *rx)
{
	if (rx->iov_first + rx->iov_count + VIRTQ_CHAIN_MAX <= NET_RX_IOV_SLOTS)
		return;
	memmove(rx->iov, rx->iov + rx->iov_first, rx->iov_count * sizeof(rx->iov[0]));
	rx->iov_first = 0;
}

static void append(struct net_rx *rx, const struct virtq_chain *chain)
{
	struct net_rx_chain *slot =
		&rx->chains[(rx->chain_first + rx->chain_count) % VIRTQ_SIZE_MAX];
	/* A chain of several buffers may claim more than a frame can ever fill; the surplus is of no use. */
	uint64_t bytes = chain->writable_bytes < NET_FRAME_BYTES_MAX ? chain->writable_bytes
								     : NET_FRAME_BYTES_MAX;

	make_room(rx);
	memcpy(rx->iov + rx->iov_first + rx->iov_count, chain->iov + chain->readable,
	       chain->writable * sizeof(rx->iov[0]));
	rx->iov_count += chain->writable;
	*slot = (struct net_rx_chain){chain->head, chain->writable, (uint32_t)bytes};
	rx->chain_count++;
	rx->bytes += bytes;
}

static bool is_full(const struct net_rx *rx, const struct virtqueue *vq)
{
	if (!rx->mergeable)
		return rx->chain_count == 1;
	return rx->bytes >= NET_FRAME_BYTES_MAX || rx->chain_count == vq->size ||
	       rx->iov_count + VIRTQ_CHAIN_MAX > NET_RX_IOVS_MAX;
}

/* Takes chains from the queue until the window is full. 1: full. 0: the queue is empty. -EPROTO: the driver broke it. */
static int fill(struct net *net)
{
	struct virtqueue *vq = &net->dev.queues[NET_QUEUE_RX];

	while (!is_full(&net->rx, vq)) {
		int ret = virtqueue_pop(vq, &net->chain);

		if (ret == 1 && net->chain.writable_bytes < NET_HEADER_BYTES)
			ret = -EPROTO;
		if (ret < 0)
			virtio_device_fail(&net->dev, "broken receive buffer");
		if (ret <= 0)
			return ret;
		append(&net->rx, &net->chain);
	}
	return 1;
}

/* Is there room for a frame? If not, the driver has been asked to tell us of more (rx->starved). */
static bool prepare(struct net *net)
{
	struct virtqueue *vq = &net->dev.queues[NET_QUEUE_RX];
	struct net_rx *rx = &net->rx;

	/* A driver that moves its index back and forth must not keep us here. */
	for (unsigned tries = 0; tries <= VIRTQ_SIZE_MAX; tries++) {
		int ret = fill(net);

		if (ret < 0)
			return false;
		if (ret == 1 || rx->bytes >= rx->required) {
			if (rx->starved)
				virtqueue_disable_notify(vq);
			rx->starved = false;
			return true;
		}
		if (!virtqueue_enable_notify(vq))
			break;
	}
	if (!rx->starved)
		metric_add(&net->metrics.no_rx_avail_buffer, 1);
	rx->starved = true;
	return false;
}

/* The header's last field, which the tap leaves alone. The first chain holds a header at least (see fill). */
static void write_num_buffers(struct net_rx *rx, uint16_t count)
{
	size_t offset = offsetof(struct net_header, num_buffers);
	uint8_t bytes[2];
	unsigned i = rx->iov_first;

	put_le16(bytes, count);
	for (unsigned done = 0; done < sizeof(bytes); i++) {
		while (done < sizeof(bytes) && offset < rx->iov[i].iov_len)
			((uint8_t *)rx->iov[i].iov_base)[offset++] = bytes[done++];
		offset -= offset < rx->iov[i].iov_len ? offset : rx->iov[i].iov_len;
	}
}

/* Completes the chains at the window's start that hold a frame of len bytes, and lets the window slide over them. */
static void complete(struct net *net, uint32_t len)
{
	struct virtqueue *vq = &net->dev.queues[NET_QUEUE_RX];
	struct net_rx *rx = &net->rx;
	unsigned iov_first = rx->iov_first;
	uint32_t left = len;
	uint16_t count = 0;

	do {
		const struct net_rx_chain *chain = &rx->chains[rx->chain_first];
		uint32_t part = left < chain->bytes ? left : chain->bytes;

		virtqueue_put(vq, count++, chain->head, part);
		left -= part;
		rx->bytes -= chain->bytes;
		iov_first += chain->iov_count;
		rx->iov_count -= chain->iov_count;
		rx->chain_first = (rx->chain_first + 1) % VIRTQ_SIZE_MAX;
		rx->chain_count--;
	} while (left > 0);
	write_num_buffers(rx, count);
	rx->iov_first = iov_first;
	virtqueue_publish(vq, count);
	metric_add(&net->metrics.rx_bytes_count, len);
	metric_add(&net->metrics.rx_packets_count, 1);
	metric_add(&net->metrics.rx_count, 1);
}

/* Nothing of this gets better by itself: the tap was deleted (EBADFD), or the descriptor is not what it was. */
static void lose_tap(struct net *net, int error)
{
	net->tap_gone = true;
	log_limited(LOG_LEVEL_ERROR,
		    "net %s: the tap cannot be read any more, nothing is received: %s", net->id,
		    strerror(error));
}

/* Reads one frame into the window. Its length; 0: there was none, or the tap is gone; -EMSGSIZE: it did not fit. */
static ssize_t read_frame(struct net *net)
{
	struct net_rx *rx = &net->rx;
	unsigned end = rx->iov_first + rx->iov_count;

	rx->iov[end] = (struct iovec){.iov_base = &rx->spill, .iov_len = sizeof(rx->spill)};
	ssize_t len = readv(net->tap_fd, rx->iov + rx->iov_first, (int)rx->iov_count + 1);

	if (len < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (len < 0) {
		metric_add(&net->metrics.tap_read_fails, 1);
		metric_add(&net->metrics.rx_fails, 1);
		lose_tap(net, errno);
		return 0;
	}
	if ((uint64_t)len > rx->bytes || len < NET_HEADER_BYTES + NET_ETHERNET_BYTES) {
		metric_add(&net->metrics.rx_fails, 1);
		return -EMSGSIZE;
	}
	return len;
}

/* The frame in the window goes to the guest now, or is held until the rate limiter lets it pass. */
static bool deliver(struct net *net, uint32_t len)
{
	if (!rate_limiter_consume(&net->rx_limiter, len)) {
		net->rx.held_bytes = len;
		metric_add(&net->metrics.rx_rate_limiter_throttled, 1);
		return false;
	}
	net->rx.held_bytes = 0;
	complete(net, len);
	return true;
}

/* One step of net_rx_run(): false when there is nothing more to do now. */
static bool receive_one(struct net *net, bool *delivered)
{
	if (net->rx.held_bytes > 0) {
		*delivered = deliver(net, net->rx.held_bytes);
		return *delivered;
	}
	if (!prepare(net))
		return false;
	ssize_t len = read_frame(net);

	if (len == -EMSGSIZE)
		return true;
	*delivered = len > 0 && deliver(net, (uint32_t)len);
	return *delivered;
}

void net_rx_run(struct net *net)
{
	bool signal = false;

	bool blocked = net->dev.paused || net->dev.needs_reset || net->tap_gone ||
		       rate_limiter_is_blocked(&net->rx_limiter);

	for (unsigned i = 0; !blocked && i < NET_FRAMES_PER_EVENT; i++) {
		bool delivered = false;
		bool more = receive_one(net, &delivered);

		signal |= delivered;
		if (!more)
			break;
	}
	if (signal)
		virtio_device_signal_used(&net->dev, &net->dev.queues[NET_QUEUE_RX]);
	/* If frames are left, the tap is still readable and the loop comes back. */
	net_rx_update_source(net);
}

void net_rx_release(struct net *net)
{
	struct virtqueue *vq = &net->dev.queues[NET_QUEUE_RX];
	struct net_rx *rx = &net->rx;

	if (rx->held_bytes > 0) {
		complete(net, rx->held_bytes);
		rx->held_bytes = 0;
		virtio_device_signal_used(&net->dev, vq);
	}
	/* Chains are completed in the queue's order, so the ones left are the last ones popped. */
	while (rx->chain_count > 0) {
		virtqueue_undo_pop(vq);
		rx->chain_count--;
	}
	rx->iov_count = 0;
	rx->bytes = 0;
}
