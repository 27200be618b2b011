// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-net (virtio 1.2, section 5.1): the device, and transmitting from the guest to the tap.
 *
 * DOC: A frame is one writev(2) straight from guest memory. Only the 12 bytes of header in front of it are copied, checked
 * against what was negotiated and sent from the copy, so that the kernel sees what was checked; it checks the rest of the
 * header against the frame itself. What the tap does not take is lost, as on a wire.
 *
 * Everything runs on the loop's thread; config_read alone runs on vCPU threads and reads what never changes.
 */
#include "virtio/net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "virtio/net_internal.h"
#include "virtio/saved.h"
#include "virtio/tap.h"
#include "vmm/core/log.h"

#define HEADER_NEEDS_CSUM 1

enum gso_type { GSO_NONE = 0, GSO_TCPV4 = 1, GSO_UDP = 3, GSO_TCPV6 = 4 };

/* 5.1.4; what lies behind features that are not offered is zero */
struct net_device_config {
	uint8_t mac[NET_MAC_BYTES];
	le16_t status;
	le16_t max_virtqueue_pairs;
	le16_t mtu;
};
_Static_assert(sizeof(struct net_device_config) == 12, "virtio 1.2, 5.1.4");

static const struct metric_field fields[] = {
	METRIC_FIELD(net_metrics, activate_fails, METRIC_COUNT),
	METRIC_FIELD(net_metrics, cfg_fails, METRIC_COUNT),
	METRIC_FIELD(net_metrics, no_rx_avail_buffer, METRIC_COUNT),
	METRIC_FIELD(net_metrics, no_tx_avail_buffer, METRIC_COUNT),
	METRIC_FIELD(net_metrics, event_fails, METRIC_COUNT),
	METRIC_FIELD(net_metrics, rx_queue_event_count, METRIC_COUNT),
	METRIC_FIELD(net_metrics, rx_event_rate_limiter_count, METRIC_COUNT),
	METRIC_FIELD(net_metrics, rx_rate_limiter_throttled, METRIC_COUNT),
	METRIC_FIELD(net_metrics, rx_tap_event_count, METRIC_COUNT),
	METRIC_FIELD(net_metrics, rx_bytes_count, METRIC_COUNT),
	METRIC_FIELD(net_metrics, rx_packets_count, METRIC_COUNT),
	METRIC_FIELD(net_metrics, rx_fails, METRIC_COUNT),
	METRIC_FIELD(net_metrics, rx_count, METRIC_COUNT),
	METRIC_FIELD(net_metrics, tap_read_fails, METRIC_COUNT),
	METRIC_FIELD(net_metrics, tap_write_fails, METRIC_COUNT),
	METRIC_FIELD(net_metrics, tx_bytes_count, METRIC_COUNT),
	METRIC_FIELD(net_metrics, tx_malformed_frames, METRIC_COUNT),
	METRIC_FIELD(net_metrics, tx_fails, METRIC_COUNT),
	METRIC_FIELD(net_metrics, tx_count, METRIC_COUNT),
	METRIC_FIELD(net_metrics, tx_packets_count, METRIC_COUNT),
	METRIC_FIELD(net_metrics, tx_queue_event_count, METRIC_COUNT),
	METRIC_FIELD(net_metrics, tx_rate_limiter_event_count, METRIC_COUNT),
	METRIC_FIELD(net_metrics, tx_rate_limiter_throttled, METRIC_COUNT),
	METRIC_FIELD(net_metrics, tx_spoofed_mac_count, METRIC_COUNT),
	METRIC_FIELD(net_metrics, tx_remaining_reqs_count, METRIC_COUNT),
	METRIC_FIELD(net_metrics, tap_write_agg, METRIC_AGG),
};

const struct metrics_class net_metrics_class = {
	.group = "net",
	.fields = fields,
	.field_count = sizeof(fields) / sizeof(fields[0]),
	.instance_bytes = sizeof(struct net_metrics),
	.per_instance = true,
};

static struct net *to_net(struct virtio_device *dev)
{
	return (struct net *)dev; /* its first member */
}

static void net_config_read(struct virtio_device *dev, uint32_t offset, void *out, uint32_t len)
{
	struct net *net = to_net(dev);
	struct net_device_config config = {.mtu = le16_make(net->mtu)};

	memcpy(config.mac, net->mac, sizeof(config.mac));
	memcpy(out, (const uint8_t *)&config + offset, len);
}

/* ---- transmit ---- */

static bool gso_is_valid(const struct net *net, const struct net_header *header)
{
	if (header->gso_type == GSO_NONE)
		return true;
	if (le16_get(header->gso_size) == 0)
		return false;
	switch (header->gso_type) {
	case GSO_TCPV4:
		return virtio_device_has_feature(&net->dev, NET_F_HOST_TSO4);
	case GSO_TCPV6:
		return virtio_device_has_feature(&net->dev, NET_F_HOST_TSO6);
	case GSO_UDP:
		return virtio_device_has_feature(&net->dev, NET_F_HOST_UFO);
	default:
		return false;
	}
}

/* 5.1.6.2: may the driver ask for this? Leaves in the header only what the tap is to look at. */
static bool clean_header(const struct net *net, struct net_header *header)
{
	header->flags &= HEADER_NEEDS_CSUM;
	header->num_buffers = le16_make(0);
	if (header->flags && !virtio_device_has_feature(&net->dev, NET_F_CSUM))
		return false;
	return gso_is_valid(net, header);
}

static void count_spoofed_mac(struct net *net)
{
	uint8_t source[NET_MAC_BYTES];

	if (!net->has_mac)
		return;
	virtq_chain_read(&net->chain, NET_HEADER_BYTES + NET_MAC_BYTES, source, sizeof(source));
	if (memcmp(source, net->mac, sizeof(source)) != 0)
		metric_add(&net->metrics.tx_spoofed_mac_count, 1);
}

/* Fills tx_iov with the header and what lies behind it in the chain; gives the number of buffers. */
static int gather_frame(struct net *net, struct net_header *header)
{
	const struct virtq_chain *chain = &net->chain;
	size_t skip = NET_HEADER_BYTES;
	int count = 0;

	net->tx_iov[count++] = (struct iovec){.iov_base = header, .iov_len = sizeof(*header)};
	for (unsigned i = 0; i < chain->readable; i++) {
		size_t len = chain->iov[i].iov_len;

		if (skip >= len) {
			skip -= len;
			continue;
		}
		net->tx_iov[count++] = (struct iovec){
			.iov_base = (uint8_t *)chain->iov[i].iov_base + skip,
			.iov_len = len - skip,
		};
		skip = 0;
	}
	return count;
}

/* Sends the frame in net->chain. *clock_us is the time of the last look at the clock, brought up to date. */
static void send_frame(struct net *net, uint64_t *clock_us)
{
	struct net_metrics *metrics = &net->metrics;
	struct net_header header;

	virtq_chain_read(&net->chain, 0, &header, sizeof(header));
	if (!clean_header(net, &header)) {
		metric_add(&metrics->tx_malformed_frames, 1);
		return;
	}
	count_spoofed_mac(net);
	ssize_t written = writev(net->tap_fd, net->tx_iov, gather_frame(net, &header));
	uint64_t before_us = *clock_us;

	*clock_us = metrics_now_us();
	metric_agg_record(&metrics->tap_write_agg, *clock_us - before_us);
	if (written < 0) {
		metric_add(&metrics->tap_write_fails, 1);
		metric_add(&metrics->tx_fails, 1);
		return;
	}
	metric_add(&metrics->tx_bytes_count, (uint64_t)written);
	metric_add(&metrics->tx_packets_count, 1);
	metric_add(&metrics->tx_count, 1);
}

/* Serves one chain. 1: done. 0: none, or the limiter is blocked. -EPROTO: the driver broke the queue. */
static int transmit_one(struct net *net, uint64_t *clock_us)
{
	struct virtqueue *vq = &net->dev.queues[NET_QUEUE_TX];
	int ret = virtqueue_pop(vq, &net->chain);

	if (ret < 0)
		virtio_device_fail(&net->dev, "broken transmit buffer");
	if (ret <= 0)
		return ret;
	uint64_t len = net->chain.readable_bytes;

	if (len < NET_HEADER_BYTES + NET_ETHERNET_BYTES || len > NET_FRAME_BYTES_MAX) {
		metric_add(&net->metrics.tx_malformed_frames, 1);
	} else if (!rate_limiter_consume(&net->tx_limiter, len)) {
		virtqueue_undo_pop(vq);
		metric_add(&net->metrics.tx_rate_limiter_throttled, 1);
		return 0;
	} else {
		send_frame(net, clock_us);
	}
	virtqueue_push(vq, net->chain.head, 0);
	return 1;
}

static void transmit(struct net *net)
{
	struct virtqueue *vq = &net->dev.queues[NET_QUEUE_TX];
	uint64_t clock_us = metrics_now_us();
	unsigned served = 0;
	int ret = 1;

	if (net->dev.paused || net->dev.needs_reset || rate_limiter_is_blocked(&net->tx_limiter))
		return;
	virtqueue_disable_notify(vq);
	while (served < NET_FRAMES_PER_EVENT) {
		ret = transmit_one(net, &clock_us);
		if (ret == 1)
			served++;
		else if (ret < 0 || rate_limiter_is_blocked(&net->tx_limiter) ||
			 !virtqueue_enable_notify(vq))
			break;
		else
			served++; /* a driver that moves its index back and forth is bounded, too */
	}
	if (served == 0 && ret == 0)
		metric_add(&net->metrics.no_tx_avail_buffer, 1);
	metric_add(&net->metrics.tx_remaining_reqs_count, virtqueue_available(vq));
	if (served == NET_FRAMES_PER_EVENT)
		virtio_device_renotify(&net->dev, NET_QUEUE_TX);
	if (served > 0)
		virtio_device_signal_used(&net->dev, vq);
}

/* ---- events ---- */

static void net_queue_notify(struct virtio_device *dev, unsigned index)
{
	struct net *net = to_net(dev);

	if (index == NET_QUEUE_RX) {
		metric_add(&net->metrics.rx_queue_event_count, 1);
		net_rx_run(net);
	} else {
		metric_add(&net->metrics.tx_queue_event_count, 1);
		transmit(net);
	}
}

static void on_tap(void *ctx, unsigned events)
{
	struct net *net = ctx;

	(void)events;
	metric_add(&net->metrics.rx_tap_event_count, 1);
	net_rx_run(net);
}

static void on_rx_limiter(void *ctx)
{
	struct net *net = ctx;

	metric_add(&net->metrics.rx_event_rate_limiter_count, 1);
	net_rx_run(net);
}

static void on_tx_limiter(void *ctx)
{
	struct net *net = ctx;

	metric_add(&net->metrics.tx_rate_limiter_event_count, 1);
	transmit(net);
}

static struct tap_offload negotiated_offload(const struct virtio_device *dev)
{
	return (struct tap_offload){
		.csum = virtio_device_has_feature(dev, NET_F_GUEST_CSUM),
		.tso4 = virtio_device_has_feature(dev, NET_F_GUEST_TSO4),
		.tso6 = virtio_device_has_feature(dev, NET_F_GUEST_TSO6),
		.ufo = virtio_device_has_feature(dev, NET_F_GUEST_UFO),
	};
}

static int start(struct net *net)
{
	struct virtio_device *dev = &net->dev;
	int ret = tap_set_offload(net->tap_fd, negotiated_offload(dev));

	if (ret)
		return ret;
	ret = rate_limiter_attach(&net->rx_limiter, dev->loop, on_rx_limiter, net);
	if (!ret)
		ret = rate_limiter_attach(&net->tx_limiter, dev->loop, on_tx_limiter, net);
	if (ret)
		return ret;
	net_rx_init(net);
	net->tap_gone = false;
	virtqueue_disable_notify(&dev->queues[NET_QUEUE_RX]);
	net->tap_source = loop_add_fd(dev->loop, net->tap_fd, LOOP_READ, on_tap, net);
	return net->tap_source ? 0 : -ENOMEM;
}

static int net_activate(struct virtio_device *dev)
{
	struct net *net = to_net(dev);
	int ret = -EINVAL;

	if (dev->queues[NET_QUEUE_RX].ready && dev->queues[NET_QUEUE_TX].ready)
		ret = start(net);
	if (ret)
		metric_add(&net->metrics.activate_fails, 1);
	return ret;
}

/* Tolerates a device whose activation failed half-way. */
static void net_reset(struct virtio_device *dev)
{
	struct net *net = to_net(dev);

	loop_source_free(net->tap_source);
	net->tap_source = NULL;
	rate_limiter_detach(&net->rx_limiter);
	rate_limiter_detach(&net->tx_limiter);
}

/* The transport counts the device as paused only after this, so the tap is silenced by hand. */
static void net_pause(struct virtio_device *dev)
{
	struct net *net = to_net(dev);

	if (!net->tap_source)
		return;
	loop_source_set_events(net->tap_source, 0);
	net_rx_release(net);
}

static void net_restored(struct virtio_device *dev)
{
	to_net(dev)->restored = true;
}

static void net_resume(struct virtio_device *dev)
{
	struct net *net = to_net(dev);

	if (net->restored)
		net_announce(net);
	net->restored = false;
	net_rx_run(net);
	transmit(net);
}

/* Frames that were under way are lost, as on a wire; the window is given back at the pause. */
static void net_fields(struct virtio_device *dev, struct state *s)
{
	struct net *net = to_net(dev);

	virtio_saved_limiter(s, &net->rx_limiter);
	virtio_saved_limiter(s, &net->tx_limiter);
}

static void net_free(struct virtio_device *dev)
{
	struct net *net = to_net(dev);

	metrics_unregister(&net->metrics);
	close_fd(net->tap_fd);
	free(net->id);
	virtio_device_destroy(dev);
	free(net);
}

static const struct virtio_device_ops net_ops = {
	.name = "net",
	.type = VIRTIO_TYPE_NET,
	.queue_count = NET_QUEUE_COUNT,
	.queue_size = VIRTQ_SIZE_MAX,
	.config_bytes = sizeof(struct net_device_config),
	.config_read = net_config_read,
	.activate = net_activate,
	.queue_notify = net_queue_notify,
	.reset = net_reset,
	.pause = net_pause,
	.resume = net_resume,
	.fields = net_fields,
	.restored = net_restored,
	.free = net_free,
};

/* ---- construction ---- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool net_mac_parse(const char *text, uint8_t mac[NET_MAC_BYTES])
{
	uint8_t parsed[NET_MAC_BYTES];

	for (unsigned i = 0; i < NET_MAC_BYTES; i++, text += 3) {
		int high = hex_digit(text[0]);
		int low = high < 0 ? -1 : hex_digit(text[1]);

		if (low < 0 || text[2] != (i + 1 < NET_MAC_BYTES ? ':' : '\0'))
			return false;
		parsed[i] = (uint8_t)(high << 4 | low);
	}
	memcpy(mac, parsed, sizeof(parsed));
	return true;
}

static uint64_t offered_features(const struct net *net)
{
	return NET_F_CSUM | NET_F_GUEST_CSUM | NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6 |
	       NET_F_GUEST_UFO | NET_F_HOST_TSO4 | NET_F_HOST_TSO6 | NET_F_HOST_UFO |
	       NET_F_MRG_RXBUF | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC |
	       (net->has_mac ? NET_F_MAC : 0) | (net->mtu ? NET_F_MTU : 0);
}

static int configure(struct net *net, const struct net_config *config, struct error *err)
{
	net->id = strdup(config->iface_id);
	if (!net->id)
		return error_set_os(err, -ENOMEM, "Could not create the network device");
	net->has_mac = config->guest_mac != NULL;
	if (net->has_mac && !net_mac_parse(config->guest_mac, net->mac))
		return error_set(err, -EINVAL,
				 "Could not create the network device: Invalid MAC address: %s",
				 config->guest_mac);
	net->mtu = config->has_mtu ? config->mtu : 0;
	rate_limiter_init(&net->rx_limiter, &config->rx_rate_limiter);
	rate_limiter_init(&net->tx_limiter, &config->tx_rate_limiter);
	net->tap_fd = tap_open(config->host_dev_name, err);
	if (net->tap_fd < 0)
		return error_prefix(
			err, "Could not create the network device: Open tap device failed: ");
	return 0;
}

struct virtio_device *net_new(const struct net_config *config, struct error *err)
{
	struct net *net = calloc(1, sizeof(*net));

	if (!net) {
		error_set_os(err, -ENOMEM, "Could not create the network device");
		return NULL;
	}
	net->tap_fd = -1;
	if (configure(net, config, err))
		goto fail;
	if (metrics_register(&net_metrics_class, net->id, &net->metrics)) {
		error_set_os(err, -ENOMEM, "Could not create the network device");
		goto fail;
	}
	virtio_device_init(&net->dev, &net_ops, net->id, offered_features(net));
	return &net->dev;
fail:
	close_fd(net->tap_fd);
	free(net->id);
	free(net);
	return NULL;
}

void net_update_rate_limiters(struct virtio_device *dev, const struct rate_limiter_config *rx,
			      const struct rate_limiter_config *tx)
{
	struct net *net = to_net(dev);

	if (rx)
		rate_limiter_update(&net->rx_limiter, rx);
	if (tx)
		rate_limiter_update(&net->tx_limiter, tx);
}
