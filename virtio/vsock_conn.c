// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-vsock: connections: the table of them, birth and death, time-outs, and what the guest is to be told.
 *
 * DOC: A connection waits in rx_list, once, while it has news or data for the guest; vsock_rx.c serves the list in turn.
 * News are bits, not packets, so what a guest can make us remember is bounded by the number of connections.
 */
#include "virtio/vsock_internal.h"

#include <stdlib.h>
#include <time.h>

/* ---- table of connections ---- */

static size_t hash(const struct vsock *vs, uint32_t local_port, uint32_t peer_port)
{
	uint64_t key = ((uint64_t)local_port << 32 | peer_port) ^ vs->hash_key[0];

	key *= vs->hash_key[1] | 1;
	key ^= key >> 32;
	key *= UINT64_C(0x9e3779b97f4a7c15);
	return key >> 32 & (VSOCK_HASH_SIZE - 1);
}

struct vsock_conn *vsock_conn_find(struct vsock *vs, uint32_t local_port, uint32_t peer_port)
{
	struct vsock_conn *conn = vs->hash[hash(vs, local_port, peer_port)];

	while (conn && (conn->local_port != local_port || conn->peer_port != peer_port))
		conn = conn->hash_next;
	return conn;
}

void vsock_conn_set_ports(struct vsock_conn *conn, uint32_t local_port, uint32_t peer_port)
{
	struct vsock_conn **slot = &conn->vs->hash[hash(conn->vs, local_port, peer_port)];

	conn->buffer_bytes = VSOCK_BUFFER_BYTES;
	if (conn->vs->large_buffers < VSOCK_LARGE_BUFFERS_MAX) {
		conn->vs->large_buffers++;
		conn->buffer_bytes = VSOCK_BUFFER_LARGE_BYTES;
	}
	conn->local_port = local_port;
	conn->peer_port = peer_port;
	conn->hash_next = *slot;
	conn->in_hash = true;
	*slot = conn;
}

static void remove_from_hash(struct vsock_conn *conn)
{
	struct vsock *vs = conn->vs;
	struct vsock_conn **slot = &vs->hash[hash(vs, conn->local_port, conn->peer_port)];

	if (!conn->in_hash)
		return;
	while (*slot != conn)
		slot = &(*slot)->hash_next;
	*slot = conn->hash_next;
	conn->in_hash = false;
}

/* ---- life ---- */

static void on_event(void *ctx, unsigned events)
{
	struct vsock_conn *conn = ctx;
	struct vsock *vs = conn->vs;

	if (conn->state == VSOCK_HANDSHAKE) {
		vsock_host_read_line(conn);
		return;
	}
	if (events & LOOP_WRITE)
		vsock_conn_flush(conn);
	if ((events & LOOP_READ) && conn->state == VSOCK_ESTABLISHED) {
		conn->readable = true;
		vsock_conn_tell(conn, 0);
		/* If it is not served at once, the event must not come back before it is. */
		if (TAILQ_FIRST(&vs->rx_list) != conn || vs->reset_count > 0)
			vsock_conn_update_source(conn);
	}
	vsock_rx_serve(vs);
}

struct vsock_conn *vsock_conn_new(struct vsock *vs, int fd, enum vsock_state state)
{
	struct vsock_conn *conn;

	if (vs->conn_count >= VSOCK_CONNS_MAX)
		return NULL;
	conn = calloc(1, sizeof(*conn));
	if (!conn)
		return NULL;
	*conn = (struct vsock_conn){.vs = vs, .state = state, .fd = fd};
	conn->source = loop_add_fd(vs->dev.loop, fd, 0, on_event, conn);
	if (!conn->source) {
		free(conn);
		return NULL;
	}
	LIST_INSERT_HEAD(&vs->conns, conn, all);
	vs->conn_count++;
	metric_add(&vs->metrics.conns_added, 1);
	return conn;
}

/* Leaves of the connection only its name and its place in the lists of what the guest is to be told. */
static void close_host_side(struct vsock_conn *conn)
{
	vsock_conn_disarm_timer(conn);
	loop_source_free(conn->source);
	conn->source = NULL;
	close_fd(conn->fd);
	conn->fd = -1;
	vsock_conn_drop_buffer(conn);
	conn->readable = false;
}

void vsock_conn_free(struct vsock_conn *conn)
{
	struct vsock *vs = conn->vs;

	close_host_side(conn);
	remove_from_hash(conn);
	if (conn->buffer_bytes == VSOCK_BUFFER_LARGE_BYTES)
		vs->large_buffers--;
	if (conn->in_rx_list)
		TAILQ_REMOVE(&vs->rx_list, conn, rx);
	LIST_REMOVE(conn, all);
	vs->conn_count--;
	metric_add(&vs->metrics.conns_removed, 1);
	free(conn);
}

void vsock_free_conns(struct vsock *vs)
{
	struct vsock_conn *conn, *next;

	for (conn = LIST_FIRST(&vs->conns); conn; conn = next) {
		next = LIST_NEXT(conn, all);
		vsock_conn_free(conn);
	}
}

void vsock_conn_kill(struct vsock_conn *conn)
{
	if (conn->state == VSOCK_KILLED)
		return;
	close_host_side(conn);
	conn->state = VSOCK_KILLED;
	conn->news = 0;
	metric_add(&conn->vs->metrics.conns_killed, 1);
	vsock_conn_tell(conn, VSOCK_NEWS_RST);
}

/* ---- timers: all are equally long, so a list in order of arming is in order of deadline ---- */

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void vsock_conn_disarm_timer(struct vsock_conn *conn)
{
	if (conn->deadline_ns == 0)
		return;
	TAILQ_REMOVE(&conn->vs->timers, conn, timer);
	conn->deadline_ns = 0; /* the loop's timer may fire for nothing */
}

void vsock_conn_arm_timer(struct vsock_conn *conn)
{
	struct vsock *vs = conn->vs;

	vsock_conn_disarm_timer(conn);
	conn->deadline_ns = now_ns() + VSOCK_TIMEOUT_NS;
	if (TAILQ_EMPTY(&vs->timers))
		loop_timer_arm(vs->timer, VSOCK_TIMEOUT_NS);
	TAILQ_INSERT_TAIL(&vs->timers, conn, timer);
}

void vsock_restart_timers(struct vsock *vs)
{
	struct vsock_conn *conn;
	uint64_t deadline_ns = now_ns() + VSOCK_TIMEOUT_NS;

	TAILQ_FOREACH(conn, &vs->timers, timer)
	conn->deadline_ns = deadline_ns;
	if (!TAILQ_EMPTY(&vs->timers))
		loop_timer_arm(vs->timer, VSOCK_TIMEOUT_NS);
}

void vsock_on_timer(void *ctx)
{
	struct vsock *vs = ctx;
	struct vsock_conn *conn;
	uint64_t now = now_ns();

	/* What the guest has not been asked yet it cannot have answered. */
	if (vs->quiet || vs->transport != VSOCK_TRANSPORT_KNOWN)
		return;
	while ((conn = TAILQ_FIRST(&vs->timers)) && conn->deadline_ns <= now)
		vsock_conn_kill(conn);
	if (conn)
		loop_timer_arm(vs->timer, conn->deadline_ns - now);
	vsock_rx_serve(vs);
}

/* ---- what the guest is told ---- */

void vsock_conn_tell(struct vsock_conn *conn, unsigned news)
{
	conn->news |= news;
	if (!conn->in_rx_list) {
		TAILQ_INSERT_TAIL(&conn->vs->rx_list, conn, rx);
		conn->in_rx_list = true;
	}
}

void vsock_conn_fill_packet(struct vsock_conn *conn, enum vsock_op op, struct vsock_packet *packet)
{
	*packet = (struct vsock_packet){
		.src_cid = VSOCK_HOST_CID,
		.dst_cid = conn->vs->guest_cid,
		.src_port = conn->local_port,
		.dst_port = conn->peer_port,
		.type = VSOCK_TYPE_STREAM,
		.op = (uint16_t)op,
		.buf_alloc = conn->buffer_bytes,
		.fwd_cnt = conn->fwd_cnt,
	};
	conn->fwd_cnt_told = conn->fwd_cnt;
}

bool vsock_conn_next_news(struct vsock_conn *conn, struct vsock_packet *packet)
{
	static const struct {
		enum vsock_news news;
		enum vsock_op op;
	} by_urgency[] = {
		{VSOCK_NEWS_RST, VSOCK_OP_RST},
		{VSOCK_NEWS_REQUEST, VSOCK_OP_REQUEST},
		{VSOCK_NEWS_RESPONSE, VSOCK_OP_RESPONSE},
		{VSOCK_NEWS_SHUTDOWN, VSOCK_OP_SHUTDOWN},
		{VSOCK_NEWS_CREDIT_UPDATE, VSOCK_OP_CREDIT_UPDATE},
		{VSOCK_NEWS_CREDIT_REQUEST, VSOCK_OP_CREDIT_REQUEST},
	};
	unsigned i = 0;

	if (conn->news == 0)
		return false;
	while (!(conn->news & by_urgency[i].news))
		i++;
	conn->news &= ~(unsigned)by_urgency[i].news;
	vsock_conn_fill_packet(conn, by_urgency[i].op, packet);
	if (by_urgency[i].op == VSOCK_OP_SHUTDOWN)
		packet->flags = (conn->host_no_recv ? VSOCK_SHUTDOWN_RECEIVE : 0) |
				(conn->host_no_send ? VSOCK_SHUTDOWN_SEND : 0);
	return true;
}
