// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-vsock (virtio 1.2, section 5.10): the device, and packets from the guest.
 *
 * DOC: Every field of a packet is hostile. A packet with another sender than the guest's own CID is dropped; one that
 * belongs to no connection, or that lies about its length, is answered by RST; an RST never is. Work is bounded by packets
 * for each event, memory by VSOCK_CONNS_MAX connections, their buffers and VSOCK_RESETS_MAX answers.
 */
#include "virtio/vsock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "snapshots/state.h"
#include "virtio/vsock_internal.h"
#include "vmm/core/bytes.h"

static const struct metric_field fields[] = {
	METRIC_FIELD(vsock_metrics, activate_fails, METRIC_COUNT),
	METRIC_FIELD(vsock_metrics, cfg_fails, METRIC_COUNT),
	METRIC_FIELD(vsock_metrics, rx_queue_event_fails, METRIC_COUNT),
	METRIC_FIELD(vsock_metrics, tx_queue_event_fails, METRIC_COUNT),
	METRIC_FIELD(vsock_metrics, ev_queue_event_fails, METRIC_COUNT),
	METRIC_FIELD(vsock_metrics, muxer_event_fails, METRIC_COUNT),
	METRIC_FIELD(vsock_metrics, conn_event_fails, METRIC_COUNT),
	METRIC_FIELD(vsock_metrics, rx_queue_event_count, METRIC_COUNT),
	METRIC_FIELD(vsock_metrics, tx_queue_event_count, METRIC_COUNT),
	METRIC_FIELD(vsock_metrics, rx_bytes_count, METRIC_COUNT),
	METRIC_FIELD(vsock_metrics, tx_bytes_count, METRIC_COUNT),
	METRIC_FIELD(vsock_metrics, rx_packets_count, METRIC_COUNT),
	METRIC_FIELD(vsock_metrics, tx_packets_count, METRIC_COUNT),
	METRIC_FIELD(vsock_metrics, conns_added, METRIC_COUNT),
	METRIC_FIELD(vsock_metrics, conns_killed, METRIC_COUNT),
	METRIC_FIELD(vsock_metrics, conns_removed, METRIC_COUNT),
	METRIC_FIELD(vsock_metrics, killq_resync, METRIC_COUNT),
	METRIC_FIELD(vsock_metrics, tx_flush_fails, METRIC_COUNT),
	METRIC_FIELD(vsock_metrics, tx_write_fails, METRIC_COUNT),
	METRIC_FIELD(vsock_metrics, rx_read_fails, METRIC_COUNT),
};

const struct metrics_class vsock_metrics_class = {
	.group = "vsock",
	.fields = fields,
	.field_count = sizeof(fields) / sizeof(fields[0]),
	.instance_bytes = sizeof(struct vsock_metrics),
};

static struct vsock *to_vsock(struct virtio_device *dev)
{
	return (struct vsock *)dev; /* its first member */
}

static void vsock_config_read(struct virtio_device *dev, uint32_t offset, void *out, uint32_t len)
{
	uint8_t config[8]; /* 5.10.4 */

	put_le64(config, to_vsock(dev)->guest_cid);
	memcpy(out, config + offset, len);
}

/* Stops or starts everything that the host may send us. */
static void set_quiet(struct vsock *vs, bool quiet)
{
	struct vsock_conn *conn;

	vs->quiet = quiet;
	vsock_host_update_source(vs);
	LIST_FOREACH(conn, &vs->conns, all)
	vsock_conn_update_source(conn);
	if (vs->hangup_source)
		loop_source_set_events(vs->hangup_source, quiet ? 0 : LOOP_READ);
}

void vsock_fail(struct vsock *vs, const char *reason)
{
	virtio_device_fail(&vs->dev, reason);
	set_quiet(vs, true);
}

void vsock_queue_reset(struct vsock *vs, const struct vsock_packet *packet)
{
	unsigned at = (vs->reset_first + vs->reset_count) % VSOCK_RESETS_MAX;

	if (packet->op == VSOCK_OP_RST || vs->reset_count == VSOCK_RESETS_MAX)
		return;
	vs->resets[at] = (struct vsock_reset){
		.src_cid = packet->dst_cid,
		.src_port = packet->dst_port,
		.dst_port = packet->src_port,
		.type = packet->type,
	};
	vs->reset_count++;
}

/* ---- from the guest ---- */

static void decode(const uint8_t in[VSOCK_HEADER_BYTES], struct vsock_packet *packet)
{
	*packet = (struct vsock_packet){
		.src_cid = get_le64(in),
		.dst_cid = get_le64(in + 8),
		.src_port = get_le32(in + 16),
		.dst_port = get_le32(in + 20),
		.len = get_le32(in + 24),
		.type = get_le16(in + 28),
		.op = get_le16(in + 30),
		.flags = get_le32(in + 32),
		.buf_alloc = get_le32(in + 36),
		.fwd_cnt = get_le32(in + 40),
	};
}

/* The len bytes behind the header as buffers in vs->iov; the caller has seen that the chain holds them. */
static unsigned gather_data(struct vsock *vs, uint32_t len)
{
	const struct virtq_chain *chain = &vs->chain;
	size_t skip = VSOCK_HEADER_BYTES;
	size_t left = len;
	unsigned count = 0;

	for (unsigned i = 0; left > 0; i++) {
		struct iovec buffer = chain->iov[i];
		size_t unused = skip < buffer.iov_len ? skip : buffer.iov_len;

		skip -= unused;
		buffer.iov_base = (uint8_t *)buffer.iov_base + unused;
		buffer.iov_len -= unused;
		if (buffer.iov_len > left)
			buffer.iov_len = left;
		left -= buffer.iov_len;
		if (buffer.iov_len > 0)
			vs->iov[count++] = buffer;
	}
	return count;
}

/* The packet in vs->chain. false: it is none, or says that it is somebody else's. */
static bool receive_packet(struct vsock *vs)
{
	uint8_t header[VSOCK_HEADER_BYTES];
	struct vsock_packet packet;

	if (virtq_chain_read(&vs->chain, 0, header, sizeof(header)) < sizeof(header))
		return false;
	decode(header, &packet);
	if (packet.src_cid != vs->guest_cid)
		return false;
	if (packet.dst_cid != VSOCK_HOST_CID || packet.type != VSOCK_TYPE_STREAM) {
		vsock_queue_reset(vs, &packet);
		return true;
	}
	struct vsock_conn *conn = vsock_conn_find(vs, packet.dst_port, packet.src_port);
	bool length_fits = packet.len <= VSOCK_PACKET_MAX &&
			   packet.len <= vs->chain.readable_bytes - sizeof(header);

	if (conn && length_fits)
		vsock_conn_receive(conn, &packet, vs->iov, gather_data(vs, packet.len));
	else if (conn)
		vsock_conn_kill(conn);
	else if (packet.op == VSOCK_OP_REQUEST)
		vsock_host_connect(vs, &packet);
	else
		vsock_queue_reset(vs, &packet);
	return true;
}

/* Serves one chain of the transmit queue; false when there is none. */
static bool transmit_one(struct vsock *vs)
{
	struct virtqueue *vq = &vs->dev.queues[VSOCK_QUEUE_TX];
	int ret = virtqueue_pop(vq, &vs->chain);

	if (ret < 0)
		vsock_fail(vs, "broken transmit buffer");
	if (ret <= 0)
		return false;
	uint16_t head = vs->chain.head;

	if (receive_packet(vs))
		metric_add(&vs->metrics.tx_packets_count, 1);
	else
		metric_add(&vs->metrics.tx_queue_event_fails, 1);
	virtqueue_push(vq, head, 0);
	return true;
}

static void transmit(struct vsock *vs)
{
	struct virtqueue *vq = &vs->dev.queues[VSOCK_QUEUE_TX];
	unsigned served = 0;

	if (vs->quiet)
		return;
	virtqueue_disable_notify(vq);
	while (served < VSOCK_PACKETS_PER_EVENT &&
	       (transmit_one(vs) || virtqueue_enable_notify(vq)))
		served++;
	if (served == VSOCK_PACKETS_PER_EVENT)
		virtio_device_renotify(&vs->dev, VSOCK_QUEUE_TX);
	vs->tx_used = served > 0;
	vsock_rx_serve(vs);
}

/* ---- after a restore ---- */

#define EVENT_TRANSPORT_RESET 0u

/*
 * The guest's connections ended where the snapshot was taken. What the host begins now must not reach the guest before it
 * has heard of that, because then it drops all that it has: so nothing is given to it until the event's buffer comes back.
 */
static void tell_of_reset(struct vsock *vs)
{
	struct virtqueue *vq = &vs->dev.queues[VSOCK_QUEUE_EVENT];
	uint8_t event[4];
	int ret = vq->ready ? virtqueue_pop(vq, &vs->chain) : 0;

	vs->transport = vq->ready ? VSOCK_TRANSPORT_OWED : VSOCK_TRANSPORT_KNOWN;
	if (ret < 0)
		vsock_fail(vs, "broken event buffer");
	if (ret == 0 && vq->ready && virtqueue_enable_notify(vq))
		virtio_device_renotify(&vs->dev, VSOCK_QUEUE_EVENT);
	if (ret <= 0)
		return;
	put_le32(event, EVENT_TRANSPORT_RESET);
	size_t len = virtq_chain_write(&vs->chain, 0, event, sizeof(event));

	vs->event_buffers = virtqueue_available(vq);
	virtqueue_notify_of_next(vq);
	virtqueue_push(vq, vs->chain.head, (uint32_t)len);
	vs->transport = VSOCK_TRANSPORT_TOLD;
	vs->events_out++;
	virtio_device_signal_used(&vs->dev, vq);
}

/* Events that the guest has not looked at yet, as far as one can know: it may have been saved before it heard of the last. */
static uint32_t events_unheard(struct vsock *vs)
{
	if (vs->transport != VSOCK_TRANSPORT_TOLD)
		return 0; /* perhaps without a queue */
	uint16_t back = (uint16_t)(virtqueue_available(&vs->dev.queues[VSOCK_QUEUE_EVENT]) -
				   vs->event_buffers);

	return back < vs->events_out ? vs->events_out - back : 0;
}

/* The guest has heard. Who has waited for it since the restore gets the whole time for an answer from now on. */
static void begin_anew(struct vsock *vs)
{
	vs->transport = VSOCK_TRANSPORT_KNOWN;
	vs->events_out = 0;
	vsock_restart_timers(vs);
}

static void on_event_buffer(struct vsock *vs)
{
	struct virtqueue *vq = &vs->dev.queues[VSOCK_QUEUE_EVENT];

	if (vs->quiet)
		return;
	if (vs->transport == VSOCK_TRANSPORT_OWED) {
		tell_of_reset(vs);
	} else if (vs->transport == VSOCK_TRANSPORT_TOLD) {
		virtqueue_notify_of_next(vq); /* before the look, so that none is missed */
		if (events_unheard(vs) == 0)
			begin_anew(vs);
	}
	vsock_rx_serve(vs);
}

/* Connections are the host's programs': none of them is in a snapshot. */
static void vsock_fields(struct virtio_device *dev, struct state *s)
{
	struct vsock *vs = to_vsock(dev);
	uint64_t guest_cid = vs->guest_cid;

	state_u64(s, "guest_cid", &guest_cid);
	state_require(s, guest_cid == vs->guest_cid, "guest_cid", "the configured one");
	/* The guest may hold ports of old connections for a while: new ones get others. */
	state_u32(s, "next_local_port", &vs->next_local_port);
	state_require(s, vs->next_local_port < VSOCK_LOCAL_PORT_FIRST, "next_local_port",
		      "a smaller number");
	uint32_t unheard = state_is_loading(s) ? 0 : events_unheard(vs);

	state_u32(s, "events_unheard", &unheard);
	state_require(s, unheard <= VIRTQ_SIZE_MAX, "events_unheard", "at most a queue's length");
	if (state_is_loading(s))
		vs->events_out = unheard;
}

static void vsock_restored(struct virtio_device *dev)
{
	if (!dev->needs_reset)
		tell_of_reset(to_vsock(dev));
}

static void vsock_queue_notify(struct virtio_device *dev, unsigned index)
{
	struct vsock *vs = to_vsock(dev);

	if (index == VSOCK_QUEUE_RX) {
		metric_add(&vs->metrics.rx_queue_event_count, 1);
		vsock_rx_serve(vs);
	} else if (index == VSOCK_QUEUE_TX) {
		metric_add(&vs->metrics.tx_queue_event_count, 1);
		transmit(vs);
	} else {
		on_event_buffer(vs); /* otherwise they wait there for an event to be told */
	}
}

/* ---- life ---- */

static int start(struct vsock *vs)
{
	vs->quiet = false;
	vs->rx_starved = false;
	vs->tx_used = false;
	vs->timer = loop_add_timer(vs->dev.loop, vsock_on_timer, vs);
	return vs->timer ? vsock_host_start(vs) : -ENOMEM;
}

static int vsock_activate(struct virtio_device *dev)
{
	struct vsock *vs = to_vsock(dev);
	int ret = -EINVAL;

	if (dev->queues[VSOCK_QUEUE_RX].ready && dev->queues[VSOCK_QUEUE_TX].ready)
		ret = start(vs);
	if (ret) {
		metric_add(&vs->metrics.activate_fails, 1);
		vs->quiet = true;
		vsock_host_update_source(vs);
		return ret;
	}
	virtqueue_disable_notify(&dev->queues[VSOCK_QUEUE_RX]);
	return 0;
}

/* Tolerates a device whose activation failed half-way. */
static void vsock_reset(struct virtio_device *dev)
{
	struct vsock *vs = to_vsock(dev);

	vs->quiet = true;
	vs->transport = VSOCK_TRANSPORT_KNOWN;
	vs->events_out = 0;
	vsock_free_conns(vs);
	vs->reset_count = 0;
	vsock_host_stop(vs);
	loop_source_free(vs->timer);
	vs->timer = NULL;
	loop_source_free(vs->hangup_source);
	vs->hangup_source = NULL;
	close_fd(vs->hangup_fd);
	vs->hangup_fd = -1;
}

static void vsock_pause(struct virtio_device *dev)
{
	set_quiet(to_vsock(dev), true);
}

static void vsock_resume(struct virtio_device *dev)
{
	struct vsock *vs = to_vsock(dev);

	if (dev->needs_reset)
		return;
	set_quiet(vs, false);
	vsock_restart_timers(vs);
	transmit(vs); /* gives the guest what waits for it, too */
}

static void vsock_free(struct virtio_device *dev)
{
	struct vsock *vs = to_vsock(dev);

	vsock_host_close(vs);
	metrics_unregister(&vs->metrics);
	virtio_device_destroy(dev);
	free(vs);
}

static const struct virtio_device_ops vsock_ops = {
	.name = "vsock",
	.type = VIRTIO_TYPE_VSOCK,
	.queue_count = VSOCK_QUEUE_COUNT,
	.queue_size = VIRTQ_SIZE_MAX,
	.config_bytes = 8,
	.config_read = vsock_config_read,
	.activate = vsock_activate,
	.queue_notify = vsock_queue_notify,
	.reset = vsock_reset,
	.pause = vsock_pause,
	.resume = vsock_resume,
	.fields = vsock_fields,
	.restored = vsock_restored,
	.free = vsock_free,
};

static void init(struct vsock *vs, uint32_t guest_cid)
{
	*vs = (struct vsock){.guest_cid = guest_cid, .listen_fd = -1, .hangup_fd = -1};
	vs->quiet = true;
	LIST_INIT(&vs->conns);
	TAILQ_INIT(&vs->rx_list);
	TAILQ_INIT(&vs->timers);
}

struct virtio_device *vsock_new(const struct vsock_config *config, struct error *err)
{
	struct vsock *vs = calloc(1, sizeof(*vs));

	if (!vs) {
		error_set_os(err, -ENOMEM, "Cannot create backend for vsock device");
		return NULL;
	}
	init(vs, config->guest_cid);
	/* A guest that fills the hash's buckets unevenly gains nothing but time, so a short read is no error. */
	if (getrandom(vs->hash_key, sizeof(vs->hash_key), GRND_NONBLOCK) < 0)
		vs->hash_key[0] = (uintptr_t)vs;
	if (vsock_host_listen(vs, config->uds_path, err)) {
		error_prefix(err, "Cannot create backend for vsock device: ");
		goto fail;
	}
	if (metrics_register(&vsock_metrics_class, NULL, &vs->metrics)) {
		error_set_os(err, -ENOMEM, "Cannot create backend for vsock device");
		goto fail;
	}
	virtio_device_init(&vs->dev, &vsock_ops, "vsock",
			   VIRTIO_F_IN_ORDER | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC);
	return &vs->dev;
fail:
	vsock_host_close(vs);
	free(vs);
	return NULL;
}
