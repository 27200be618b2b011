// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-vsock: the host's side.
 *
 * DOC: The protocol of Firecracker, which its users' tools speak. A program of the host that wants to reach the guest's port
 * connects to the device's socket, writes `CONNECT <port>\n` and reads `OK <port of its own>\n`; from there on the stream
 * is the guest's. If the guest refuses, the socket is closed without a word. A guest that connects to CID 2, port p,
 * reaches the program that listens on `<path>_<p>`.
 *
 * The line is peeked at, so that not a byte behind its newline is taken from the stream.
 */
#include "virtio/vsock_internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "vmm/core/log.h"

#define BACKLOG           128
#define ACCEPTS_PER_EVENT 16
#define RETRY_NS          UINT64_C(100000000)

/* ---- from the host to the guest ---- */

int vsock_host_listen(struct vsock *vs, const char *path, struct error *err)
{
	size_t len = strlen(path);
	struct stat made;

	if (len == 0 || len >= sizeof(vs->address.sun_path))
		return error_set(err, -ENAMETOOLONG,
				 "Error binding to the host-side Unix socket: the path must have 1 "
				 "to %zu bytes",
				 sizeof(vs->address.sun_path) - 1);
	vs->address.sun_family = AF_UNIX;
	memcpy(vs->address.sun_path, path, len + 1);
	cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (const struct sockaddr *)&vs->address, sizeof(vs->address)))
		return error_set_errno(err, "Error binding to the host-side Unix socket");
	if (listen(fd, BACKLOG) || stat(path, &made)) {
		error_set_errno(err, "Error binding to the host-side Unix socket");
		unlink(path);
		return err->code;
	}
	vs->socket_dev = made.st_dev;
	vs->socket_ino = made.st_ino;
	vs->listen_fd = steal_fd(&fd);
	return 0;
}

void vsock_host_close(struct vsock *vs)
{
	struct stat there;

	if (vs->listen_fd < 0)
		return;
	close_fd(vs->listen_fd);
	vs->listen_fd = -1;
	if (stat(vs->address.sun_path, &there) == 0 && there.st_dev == vs->socket_dev &&
	    there.st_ino == vs->socket_ino)
		unlink(vs->address.sun_path);
}

/* The peer that asks for too much gets its answer at once: the connection is closed. */
static void welcome(struct vsock *vs, int fd)
{
	struct vsock_conn *conn = vsock_conn_new(vs, fd, VSOCK_HANDSHAKE);

	if (!conn) {
		close_fd(fd);
		return;
	}
	vsock_conn_update_source(conn);
}

/* accept(2) was refused for want of descriptors or memory: the loop must not come back at once. */
static void rest(struct vsock *vs, int error)
{
	metric_add(&vs->metrics.muxer_event_fails, 1);
	log_limited(LOG_LEVEL_WARN, "vsock: a connection cannot be accepted: %s", strerror(error));
	vs->listen_idle = true;
	vsock_host_update_source(vs);
	loop_timer_arm(vs->listen_retry, RETRY_NS);
}

static void on_listen(void *ctx, unsigned events)
{
	struct vsock *vs = ctx;

	(void)events;
	for (unsigned i = 0; i < ACCEPTS_PER_EVENT; i++) {
		int fd = accept4(vs->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			welcome(vs, fd);
			continue;
		}
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			rest(vs, errno);
		return;
	}
}

static void on_listen_retry(void *ctx)
{
	struct vsock *vs = ctx;

	vs->listen_idle = false;
	vsock_host_update_source(vs);
}

void vsock_host_update_source(struct vsock *vs)
{
	if (vs->listen_source)
		loop_source_set_events(vs->listen_source,
				       vs->quiet || vs->listen_idle ? 0 : LOOP_READ);
}

int vsock_host_start(struct vsock *vs)
{
	vs->listen_idle = false;
	vs->listen_retry = loop_add_timer(vs->dev.loop, on_listen_retry, vs);
	if (!vs->listen_retry)
		return -ENOMEM;
	vs->listen_source = loop_add_fd(vs->dev.loop, vs->listen_fd, LOOP_READ, on_listen, vs);
	return vs->listen_source ? 0 : -ENOMEM;
}

void vsock_host_stop(struct vsock *vs)
{
	loop_source_free(vs->listen_source);
	loop_source_free(vs->listen_retry);
	vs->listen_source = NULL;
	vs->listen_retry = NULL;
}

/* `connect <port>`, any case, any blanks around; line is NUL-terminated. */
static bool parse_line(const char *line, uint32_t *port)
{
	static const char verb[] = "connect";
	uint64_t value = 0;

	while (isblank((unsigned char)*line))
		line++;
	if (strncasecmp(line, verb, sizeof(verb) - 1) != 0)
		return false;
	line += sizeof(verb) - 1;
	if (!isblank((unsigned char)*line))
		return false;
	while (isblank((unsigned char)*line))
		line++;
	if (!isdigit((unsigned char)*line))
		return false;
	for (; isdigit((unsigned char)*line); line++) {
		value = value * 10 + (uint64_t)(*line - '0');
		if (value > UINT32_MAX)
			return false;
	}
	while (isspace((unsigned char)*line))
		line++;
	*port = (uint32_t)value;
	return *line == '\0';
}

/* The range is far larger than the number of connections, so this ends. */
static uint32_t choose_local_port(struct vsock *vs, uint32_t peer_port)
{
	uint32_t port;

	do {
		port = VSOCK_LOCAL_PORT_FIRST + vs->next_local_port;
		vs->next_local_port = (vs->next_local_port + 1) % VSOCK_LOCAL_PORT_FIRST;
	} while (vsock_conn_find(vs, port, peer_port));
	return port;
}

static void request(struct vsock_conn *conn, uint32_t port)
{
	vsock_conn_set_ports(conn, choose_local_port(conn->vs, port), port);
	conn->state = VSOCK_REQUESTED;
	vsock_conn_update_source(conn);
	vsock_conn_arm_timer(conn);
	vsock_conn_tell(conn, VSOCK_NEWS_REQUEST);
	vsock_rx_serve(conn->vs);
}

/*
 * Takes what is there up to the newline. 1: the line is complete. 0: more is needed. -EPROTO: too long. Otherwise the
 * socket's error, -ECONNRESET at its end.
 */
static int take_line(struct vsock_conn *conn)
{
	char *at = conn->line + conn->line_len;
	size_t room = sizeof(conn->line) - conn->line_len;
	ssize_t got = recv(conn->fd, at, room, MSG_PEEK | MSG_DONTWAIT);

	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (got == 0)
		return -ECONNRESET;
	const char *end = memchr(at, '\n', (size_t)got);

	if (end)
		got = end - at + 1;
	if (recv(conn->fd, at, (size_t)got, MSG_DONTWAIT) != got)
		return -ECONNRESET; /* what was seen cannot have gone */
	conn->line_len += (uint32_t)got;
	if (end)
		return 1;
	return conn->line_len == sizeof(conn->line) ? -EPROTO : 0;
}

void vsock_host_read_line(struct vsock_conn *conn)
{
	uint32_t port;
	int ret = take_line(conn);

	if (ret == 0)
		return;
	if (ret == 1) {
		conn->line[conn->line_len - 1] = '\0'; /* the newline */
		if (parse_line(conn->line, &port)) {
			request(conn, port);
			return;
		}
	}
	metric_add(&conn->vs->metrics.conn_event_fails, 1);
	vsock_conn_free(conn);
}

void vsock_host_confirm(struct vsock_conn *conn)
{
	char line[VSOCK_LINE_BYTES_MAX];
	int len = snprintf(line, sizeof(line), "OK %u\n", conn->local_port);

	/* Nothing has been written to this socket yet, so it has room: a short write means that the program has gone. */
	if (send(conn->fd, line, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL) != len)
		vsock_conn_kill(conn);
}

/* ---- from the guest to the host ---- */

/* A connected descriptor or -errno. A UNIX socket connects at once or not at all (a full backlog is EAGAIN). */
static int connect_to(const struct vsock *vs, uint32_t port)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int len = snprintf(address.sun_path, sizeof(address.sun_path), "%s_%u",
			   vs->address.sun_path, port);

	if (len < 0 || (size_t)len >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)))
		return -errno;
	return steal_fd(&fd);
}

void vsock_host_connect(struct vsock *vs, const struct vsock_packet *packet)
{
	int fd = vs->conn_count < VSOCK_CONNS_MAX ? connect_to(vs, packet->dst_port) : -EMFILE;
	struct vsock_conn *conn = fd >= 0 ? vsock_conn_new(vs, fd, VSOCK_ESTABLISHED) : NULL;

	if (!conn) {
		log_limited(LOG_LEVEL_DEBUG, "vsock: no connection to port %u of the host: %s",
			    packet->dst_port, strerror(fd < 0 ? -fd : ENOMEM));
		close_fd(fd);
		vsock_queue_reset(vs, packet);
		return;
	}
	vsock_conn_set_ports(conn, packet->dst_port, packet->src_port);
	vsock_conn_set_credit(conn, packet);
	vsock_conn_update_source(conn);
	vsock_conn_tell(conn, VSOCK_NEWS_RESPONSE);
}
