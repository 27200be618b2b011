// SPDX-License-Identifier: Apache-2.0
/* What the two halves of virtio-net share: net.c (device, transmit) and net_rx.c (receive). */
#ifndef VIRTIO_NET_INTERNAL_H
#define VIRTIO_NET_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>
#include "virtio/device.h"
#include "virtio/net.h"
#include "vmm/core/bytes.h"
#include "vmm/core/metrics.h"
#include "vmm/core/rate_limiter.h"

enum net_queue { NET_QUEUE_RX, NET_QUEUE_TX, NET_QUEUE_COUNT };

/* 5.1.3 */
#define NET_F_CSUM       (UINT64_C(1) << 0)
#define NET_F_GUEST_CSUM (UINT64_C(1) << 1)
#define NET_F_MTU        (UINT64_C(1) << 3)
#define NET_F_MAC        (UINT64_C(1) << 5)
#define NET_F_GUEST_TSO4 (UINT64_C(1) << 7)
#define NET_F_GUEST_TSO6 (UINT64_C(1) << 8)
#define NET_F_GUEST_UFO  (UINT64_C(1) << 10)
#define NET_F_HOST_TSO4  (UINT64_C(1) << 11)
#define NET_F_HOST_TSO6  (UINT64_C(1) << 12)
#define NET_F_HOST_UFO   (UINT64_C(1) << 14)
#define NET_F_MRG_RXBUF  (UINT64_C(1) << 15)

/* 5.1.6: precedes every frame in both directions */
struct net_header {
	uint8_t flags;
	uint8_t gso_type;
	le16_t hdr_len;
	le16_t gso_size;
	le16_t csum_start;
	le16_t csum_offset;
	le16_t num_buffers;
};
#define NET_HEADER_BYTES 12
_Static_assert(sizeof(struct net_header) == NET_HEADER_BYTES, "virtio 1.2, 5.1.6");

#define NET_ETHERNET_BYTES 14
/* The largest segment (64 KiB) with its Ethernet header and ours (5.1.6.3.1) */
#define NET_FRAME_BYTES_MAX (65536 + NET_ETHERNET_BYTES + NET_HEADER_BYTES)
/* Frames served for one event, after which other devices get their turn */
#define NET_FRAMES_PER_EVENT 256

struct net_metrics {
	metric_t activate_fails;
	metric_t cfg_fails;
	metric_t no_rx_avail_buffer;
	metric_t no_tx_avail_buffer;
	metric_t event_fails;
	metric_t rx_queue_event_count;
	metric_t rx_event_rate_limiter_count;
	metric_t rx_rate_limiter_throttled;
	metric_t rx_tap_event_count;
	metric_t rx_bytes_count;
	metric_t rx_packets_count;
	metric_t rx_fails;
	metric_t rx_count;
	metric_t tap_read_fails;
	metric_t tap_write_fails;
	metric_t tx_bytes_count;
	metric_t tx_malformed_frames;
	metric_t tx_fails;
	metric_t tx_count;
	metric_t tx_packets_count;
	metric_t tx_queue_event_count;
	metric_t tx_rate_limiter_event_count;
	metric_t tx_rate_limiter_throttled;
	metric_t tx_spoofed_mac_count;
	metric_t tx_remaining_reqs_count;
	struct metric_agg tap_write_agg;
};

/* How many buffers the window below may hold, and the room that lets it slide before it is moved back to the start */
#define NET_RX_IOVS_MAX  (2 * VIRTQ_CHAIN_MAX)
#define NET_RX_IOV_SLOTS (2 * NET_RX_IOVS_MAX)

struct net_rx_chain {
	uint16_t head;
	uint16_t iov_count;
	uint32_t bytes;
};

/* Chains taken from the receive queue and not completed yet, in the queue's order; see net_rx.c. */
struct net_rx {
	struct iovec iov[NET_RX_IOV_SLOTS + 1]; /* one more for spill */
	unsigned iov_first, iov_count;
	struct net_rx_chain chains[VIRTQ_SIZE_MAX]; /* a ring */
	unsigned chain_first, chain_count;
	uint64_t bytes;      /* room in all of them */
	uint32_t required;   /* room that a frame may need under the negotiated features */
	uint32_t held_bytes; /* a frame that was read and waits for the rate limiter; 0: none */
	bool mergeable;      /* a frame may be spread over several chains */
	bool starved;        /* the driver has to provide more */
	uint8_t spill;       /* swallows the first byte that did not fit */
};

struct net {
	struct virtio_device dev;
	char *id; /* owned */
	int tap_fd;
	struct loop_source *tap_source; /* while activated */
	bool tap_gone;                  /* reading failed for good */
	bool restored;                  /* from a snapshot, and has not run since */
	bool has_mac;
	uint8_t mac[NET_MAC_BYTES];
	uint16_t mtu; /* 0: not given */
	struct rate_limiter rx_limiter;
	struct rate_limiter tx_limiter;
	struct net_metrics metrics;
	struct virtq_chain chain; /* scratch: the chain popped last */
	struct iovec tx_iov[VIRTQ_CHAIN_MAX + 1];
	struct net_rx rx;
};

/* net_announce.c: tells the network that the guest's address is behind this tap now. */
void net_announce(struct net *net);

/* Forgets all chains and sizes the window for the negotiated features. */
void net_rx_init(struct net *net);

/* Moves frames from the tap to the guest until one of them has no more, at most NET_FRAMES_PER_EVENT. */
void net_rx_run(struct net *net);

/* Gives the chains that are held back to the queue, so that its indices alone say where it stands. */
void net_rx_release(struct net *net);

/* Waits for the tap exactly when a frame could be received. */
void net_rx_update_source(struct net *net);

#endif
