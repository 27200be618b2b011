// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-vsock: what flows through a connection, credit, and how it ends (virtio 1.2, section 5.10.6).
 *
 * DOC: Ends. Each direction of a connection can end on its own. The program's end of sending shows as a read of 0 bytes
 * and becomes SHUTDOWN(SEND); its end of receiving shows as EPIPE, or as a hang-up of the socket, and becomes
 * SHUTDOWN(RECEIVE). A program that closes its socket is both. The guest's SHUTDOWN(SEND) becomes shutdown(SHUT_WR) once
 * what is kept for the program has been written, SHUTDOWN(RECEIVE) becomes shutdown(SHUT_RD). When one side has ended both
 * directions the other gets VSOCK_TIMEOUT_NS to agree (the guest by RST, the program by taking what is kept), then the
 * connection is killed. Progress in writing starts the time anew: a slow reader loses nothing.
 *
 * DOC: Credit. The guest may have buffer_bytes under way that have not been given to the program; what the socket does
 * not take at once is kept in a ring of that size, so a guest that keeps to its credit always fits, and one that does not
 * is reset. In the other direction we never send more than the guest's credit, whatever it says it is: it is the guest's
 * memory.
 */
#include "virtio/vsock_internal.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

void vsock_conn_drop_buffer(struct vsock_conn *conn)
{
	free(conn->buffer);
	conn->buffer = NULL;
	conn->buffer_first = 0;
	conn->buffer_used = 0;
}

void vsock_conn_update_source(struct vsock_conn *conn)
{
	unsigned events = 0;

	if (!conn->source)
		return;
	if (conn->state == VSOCK_HANDSHAKE)
		events = LOOP_READ;
	if (conn->state == VSOCK_ESTABLISHED && !conn->readable && !conn->host_no_send &&
	    !conn->guest_no_recv)
		events = LOOP_READ;
	if (conn->buffer_used > 0)
		events |= LOOP_WRITE;
	loop_source_set_events(conn->source, conn->vs->quiet ? 0 : events);
}

/* ---- from the host to the guest ---- */

static uint32_t credit(const struct vsock_conn *conn)
{
	uint32_t under_way = conn->sent_cnt - conn->peer_fwd_cnt;

	return under_way < conn->peer_buf_alloc ? conn->peer_buf_alloc - under_way : 0;
}

static bool has_data(const struct vsock_conn *conn)
{
	return conn->state == VSOCK_ESTABLISHED && conn->readable && !conn->guest_no_recv;
}

uint32_t vsock_conn_sendable(const struct vsock_conn *conn)
{
	return has_data(conn) ? credit(conn) : 0;
}

bool vsock_conn_ask_for_credit(struct vsock_conn *conn)
{
	if (!has_data(conn) || credit(conn) > 0 || conn->asked_for_credit)
		return false;
	conn->asked_for_credit = true;
	vsock_conn_tell(conn, VSOCK_NEWS_CREDIT_REQUEST);
	return true;
}

void vsock_conn_set_credit(struct vsock_conn *conn, const struct vsock_packet *packet)
{
	conn->peer_buf_alloc = packet->buf_alloc;
	conn->peer_fwd_cnt = packet->fwd_cnt;
	if (credit(conn) > 0)
		conn->asked_for_credit = false;
	if (vsock_conn_sendable(conn) > 0)
		vsock_conn_tell(conn, 0);
}

/* The program has closed both directions. A guest that has not done so itself answers by RST. */
static void host_has_closed(struct vsock_conn *conn)
{
	if (conn->guest_no_send && conn->guest_no_recv) {
		vsock_conn_kill(conn);
		return;
	}
	conn->host_no_recv = true;
	conn->host_no_send = true;
	conn->readable = false;
	vsock_conn_drop_buffer(conn);
	vsock_conn_arm_timer(conn);
	vsock_conn_tell(conn, VSOCK_NEWS_SHUTDOWN);
}

static bool has_hung_up(int fd)
{
	struct pollfd state = {.fd = fd};

	return poll(&state, 1, 0) == 1 && (state.revents & (POLLHUP | POLLERR)) != 0;
}

static void on_hangup(void *ctx, unsigned events)
{
	struct vsock *vs = ctx;
	struct epoll_event event;

	(void)events;
	/* One at a time: what is done about it may free others. If there are more, the loop comes back. */
	if (epoll_wait(vs->hangup_fd, &event, 1, 0) == 1) {
		struct vsock_conn *conn = event.data.ptr;

		(void)epoll_ctl(vs->hangup_fd, EPOLL_CTL_DEL, conn->fd, NULL);
		host_has_closed(conn);
	}
	vsock_rx_serve(vs);
}

/*
 * A socket whose end has been read stays readable for ever, so the loop cannot wait for it any more. An epoll of its own
 * with no events asked for tells of hang-ups alone. Where there is none (no descriptors left) the connection lasts until
 * the guest or a write ends it.
 */
static void watch_hangup(struct vsock_conn *conn)
{
	struct vsock *vs = conn->vs;
	struct epoll_event event = {.data = {.ptr = conn}};

	if (conn->hangup_watched)
		return;
	if (vs->hangup_fd < 0)
		vs->hangup_fd = epoll_create1(EPOLL_CLOEXEC);
	if (vs->hangup_fd >= 0 && !vs->hangup_source)
		vs->hangup_source =
			loop_add_fd(vs->dev.loop, vs->hangup_fd, LOOP_READ, on_hangup, vs);
	/* Closing the socket takes it out again. */
	conn->hangup_watched =
		vs->hangup_source && epoll_ctl(vs->hangup_fd, EPOLL_CTL_ADD, conn->fd, &event) == 0;
	if (!conn->hangup_watched)
		metric_add(&vs->metrics.conn_event_fails, 1);
}

static void host_has_ended_sending(struct vsock_conn *conn)
{
	conn->readable = false;
	conn->host_no_send = true;
	if (conn->host_no_recv || has_hung_up(conn->fd)) {
		host_has_closed(conn);
		return;
	}
	vsock_conn_tell(conn, VSOCK_NEWS_SHUTDOWN);
	watch_hangup(conn);
}

void vsock_conn_has_read(struct vsock_conn *conn, ssize_t result, uint32_t wanted, int error)
{
	if (result > 0) {
		conn->sent_cnt += (uint32_t)result;
		conn->readable = (uint32_t)result == wanted;
	} else if (result == 0) {
		host_has_ended_sending(conn);
	} else if (error == EAGAIN || error == EINTR) {
		conn->readable = false;
	} else {
		metric_add(&conn->vs->metrics.rx_read_fails, 1);
		host_has_closed(conn);
	}
}

/* ---- from the guest to the host ---- */

/* The guest learns what it may send at the latest when half of its credit, as it knows it, is used up. */
static void consider_credit_update(struct vsock_conn *conn)
{
	uint32_t untold = conn->fwd_cnt - conn->fwd_cnt_told;

	if (untold > 0 && untold + conn->buffer_used >= conn->buffer_bytes / 2)
		vsock_conn_tell(conn, VSOCK_NEWS_CREDIT_UPDATE);
}

/* Everything that the guest will ever send has reached the program. */
static void guest_is_done(struct vsock_conn *conn)
{
	if (conn->guest_no_recv)
		vsock_conn_kill(conn); /* both directions: the RST is our consent */
	else
		(void)shutdown(conn->fd, SHUT_WR);
}

/* The program takes no more: what is kept for it is lost, what it sent is still read. */
static void host_has_ended_receiving(struct vsock_conn *conn)
{
	conn->fwd_cnt += conn->buffer_used;
	vsock_conn_drop_buffer(conn);
	conn->host_no_recv = true;
	if (conn->host_no_send || conn->guest_no_recv)
		host_has_closed(conn);
	else
		vsock_conn_tell(conn, VSOCK_NEWS_SHUTDOWN);
}

/* Writes what the socket takes now; the number of bytes. 0 and host_no_recv set when it never will take more. */
static uint32_t write_host(struct vsock_conn *conn, struct iovec *iov, unsigned count)
{
	struct msghdr message = {.msg_iov = iov, .msg_iovlen = count};
	ssize_t written = sendmsg(conn->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (written < 0 && errno != EAGAIN && errno != EINTR) {
		metric_add(&conn->vs->metrics.tx_write_fails, 1);
		host_has_ended_receiving(conn);
	}
	if (written <= 0)
		return 0;
	conn->fwd_cnt += (uint32_t)written;
	return (uint32_t)written;
}

/* Appends to the ring; the caller has seen that it fits. */
static void append(struct vsock_conn *conn, const uint8_t *data, size_t len)
{
	size_t at = (conn->buffer_first + conn->buffer_used) % conn->buffer_bytes;
	size_t to_end = conn->buffer_bytes - at;
	size_t first = len < to_end ? len : to_end;

	memcpy(conn->buffer + at, data, first);
	memcpy(conn->buffer, data + first, len - first);
	conn->buffer_used += (uint32_t)len;
}

/* Keeps what iov holds behind the first skip bytes. */
static void keep(struct vsock_conn *conn, const struct iovec *iov, unsigned count, size_t skip)
{
	if (!conn->buffer)
		conn->buffer = malloc(conn->buffer_bytes);
	if (!conn->buffer) {
		vsock_conn_kill(conn);
		return;
	}
	for (unsigned i = 0; i < count; i++) {
		size_t part = skip < iov[i].iov_len ? skip : iov[i].iov_len;

		append(conn, (const uint8_t *)iov[i].iov_base + part, iov[i].iov_len - part);
		skip -= part;
	}
}

static void receive_data(struct vsock_conn *conn, uint32_t len, struct iovec *iov, unsigned count)
{
	uint32_t written = 0;

	if (conn->guest_no_send || len > conn->buffer_bytes - conn->buffer_used) {
		vsock_conn_kill(conn); /* more than it said, or more than it may */
		return;
	}
	metric_add(&conn->vs->metrics.tx_bytes_count, len);
	if (len > 0 && conn->buffer_used == 0 && !conn->host_no_recv)
		written = write_host(conn, iov, count);
	if (conn->host_no_recv)
		conn->fwd_cnt += len;
	else if (written < len)
		keep(conn, iov, count, written);
	consider_credit_update(conn);
}

void vsock_conn_flush(struct vsock_conn *conn)
{
	uint32_t to_end = conn->buffer_bytes - conn->buffer_first;
	uint32_t first = conn->buffer_used < to_end ? conn->buffer_used : to_end;
	struct iovec iov[2];

	if (conn->buffer_used == 0)
		return;
	iov[0] = (struct iovec){conn->buffer + conn->buffer_first, first};
	iov[1] = (struct iovec){conn->buffer, conn->buffer_used - first};
	uint32_t written = write_host(conn, iov, 2);

	if (written > 0) {
		conn->buffer_first = (conn->buffer_first + written) % conn->buffer_bytes;
		conn->buffer_used -= written;
		consider_credit_update(conn);
		if (conn->deadline_ns != 0)
			vsock_conn_arm_timer(conn);
		if (conn->buffer_used == 0) {
			vsock_conn_drop_buffer(conn);
			if (conn->guest_no_send)
				guest_is_done(conn);
		}
	}
	vsock_conn_update_source(conn);
}

static void receive_shutdown(struct vsock_conn *conn, uint32_t flags)
{
	if ((flags & VSOCK_SHUTDOWN_RECEIVE) && !conn->guest_no_recv) {
		conn->guest_no_recv = true;
		(void)shutdown(conn->fd, SHUT_RD);
		watch_hangup(conn);
	}
	if (flags & VSOCK_SHUTDOWN_SEND)
		conn->guest_no_send = true;
	if (!conn->guest_no_send)
		return;
	if (conn->buffer_used == 0)
		guest_is_done(conn);
	else if (conn->guest_no_recv)
		vsock_conn_arm_timer(conn);
}

static void receive_established(struct vsock_conn *conn, const struct vsock_packet *packet,
				struct iovec *iov, unsigned count)
{
	switch (packet->op) {
	case VSOCK_OP_RW:
		receive_data(conn, packet->len, iov, count);
		break;
	case VSOCK_OP_SHUTDOWN:
		receive_shutdown(conn, packet->flags);
		break;
	case VSOCK_OP_CREDIT_UPDATE:
		break;
	case VSOCK_OP_CREDIT_REQUEST:
		vsock_conn_tell(conn, VSOCK_NEWS_CREDIT_UPDATE);
		break;
	default: /* a second REQUEST or RESPONSE, or nothing that is known */
		vsock_conn_kill(conn);
	}
}

void vsock_conn_receive(struct vsock_conn *conn, const struct vsock_packet *packet,
			struct iovec *iov, unsigned count)
{
	if (packet->op == VSOCK_OP_RST) {
		vsock_conn_free(conn);
		return;
	}
	if (conn->state == VSOCK_ESTABLISHED) {
		vsock_conn_set_credit(conn, packet);
		receive_established(conn, packet, iov, count);
	} else if (conn->state == VSOCK_REQUESTED && packet->op == VSOCK_OP_RESPONSE &&
		   !(conn->news & VSOCK_NEWS_REQUEST)) {
		vsock_conn_disarm_timer(conn);
		conn->state = VSOCK_ESTABLISHED;
		vsock_conn_set_credit(conn, packet);
		vsock_host_confirm(conn);
	} else {
		vsock_conn_kill(conn);
	}
	vsock_conn_update_source(conn);
}
