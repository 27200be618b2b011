// SPDX-License-Identifier: Apache-2.0
/*
 * What the parts of virtio-vsock share.
 *
 * DOC: The parts. vsock.c is the device and takes packets from the guest; vsock_rx.c gives packets to the guest;
 * vsock_conn.c is the table of connections; vsock_stream.c what flows through one and how it ends; vsock_host.c is what the
 * host's programs see: the listening socket, the `CONNECT` line, the sockets named `<path>_<port>`. Everything runs on the
 * loop's thread.
 *
 * A connection ends in one of three ways: vsock_conn_free() drops it without a word (the guest said RST, or never heard of
 * it); vsock_conn_kill() closes the host's side at once and keeps the shell until an RST has been given to the guest;
 * vsock_free_conns() drops all at a reset. Only vsock_rx_serve() and the delivery of a guest's RST free a connection that the
 * guest knows, so a function that is given a connection may kill it and still look at it.
 */
#ifndef VIRTIO_VSOCK_INTERNAL_H
#define VIRTIO_VSOCK_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include "virtio/device.h"
#include "virtio/vsock.h"
#include "vmm/core/metrics.h"

enum vsock_queue { VSOCK_QUEUE_RX, VSOCK_QUEUE_TX, VSOCK_QUEUE_EVENT, VSOCK_QUEUE_COUNT };

#define VSOCK_HOST_CID   UINT64_C(2)
#define VSOCK_CONNS_MAX  1023
#define VSOCK_RESETS_MAX 256
/*
 * Bytes of the guest that are kept for a host's program which does not read: the credit that the guest is given. The first
 * connections get more, so that the guest need not stop for our answer to each packet.
 */
#define VSOCK_BUFFER_BYTES       65536u
#define VSOCK_BUFFER_LARGE_BYTES (4 * VSOCK_BUFFER_BYTES)
#define VSOCK_LARGE_BUFFERS_MAX  64
#define VSOCK_PACKET_MAX         65536u /* data in one packet */
#define VSOCK_TIMEOUT_NS         UINT64_C(2000000000)
/* Packets served for one event, after which other devices get their turn */
#define VSOCK_PACKETS_PER_EVENT 256
/* Ports of the host's side of connections that the host began: from here to twice that */
#define VSOCK_LOCAL_PORT_FIRST (UINT32_C(1) << 30)
/* `CONNECT <port>\n`, the newline included */
#define VSOCK_LINE_BYTES_MAX 32

/* 5.10.6 */
enum vsock_op {
	VSOCK_OP_REQUEST = 1,
	VSOCK_OP_RESPONSE = 2,
	VSOCK_OP_RST = 3,
	VSOCK_OP_SHUTDOWN = 4,
	VSOCK_OP_RW = 5,
	VSOCK_OP_CREDIT_UPDATE = 6,
	VSOCK_OP_CREDIT_REQUEST = 7,
};
#define VSOCK_TYPE_STREAM      1
#define VSOCK_SHUTDOWN_RECEIVE 1u
#define VSOCK_SHUTDOWN_SEND    2u
#define VSOCK_SHUTDOWN_BOTH    3u

/* The header of every packet; on the wire these fields in this order, little-endian, without gaps. */
struct vsock_packet {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port;
	uint32_t len; /* of the data behind it */
	uint16_t type, op;
	uint32_t flags;
	uint32_t buf_alloc, fwd_cnt;
};
#define VSOCK_HEADER_BYTES 44

struct vsock_metrics {
	metric_t activate_fails;
	metric_t cfg_fails;
	metric_t rx_queue_event_fails;
	metric_t tx_queue_event_fails;
	metric_t ev_queue_event_fails;
	metric_t muxer_event_fails;
	metric_t conn_event_fails;
	metric_t rx_queue_event_count;
	metric_t tx_queue_event_count;
	metric_t rx_bytes_count;
	metric_t tx_bytes_count;
	metric_t rx_packets_count;
	metric_t tx_packets_count;
	metric_t conns_added;
	metric_t conns_killed;
	metric_t conns_removed;
	metric_t killq_resync;
	metric_t tx_flush_fails;
	metric_t tx_write_fails;
	metric_t rx_read_fails;
};

enum vsock_state {
	VSOCK_HANDSHAKE, /* a host's program has connected; its CONNECT line is not complete; the guest knows nothing */
	VSOCK_REQUESTED, /* the guest has been or will be asked (REQUEST) */
	VSOCK_ESTABLISHED,
	VSOCK_KILLED, /* fd is closed; waits for its RST to be given to the guest */
};

/* What the guest is to be told, most urgent first */
enum vsock_news {
	VSOCK_NEWS_RST = 1,
	VSOCK_NEWS_REQUEST = 2,
	VSOCK_NEWS_RESPONSE = 4,
	VSOCK_NEWS_SHUTDOWN = 8,
	VSOCK_NEWS_CREDIT_UPDATE = 16,
	VSOCK_NEWS_CREDIT_REQUEST = 32,
};

struct vsock_conn {
	struct vsock *vs;
	enum vsock_state state;
	int fd; /* the host's program; -1 once killed */
	struct loop_source *source;
	uint32_t local_port; /* ours, the host's side */
	uint32_t peer_port;  /* the guest's */

	unsigned news;      /* enum vsock_news, to be told to the guest */
	bool readable;      /* fd has data or an end that has not been read yet */
	bool host_no_send;  /* the program will send no more: its end has been read */
	bool host_no_recv;  /* the program takes no more */
	bool guest_no_send; /* the guest said so (SHUTDOWN) */
	bool guest_no_recv;
	bool asked_for_credit; /* since the guest's credit ran out */
	bool hangup_watched;

	/* 5.10.6.3, guest to host: counters of bytes, modulo 2^32 */
	uint32_t fwd_cnt;      /* given to the program */
	uint32_t fwd_cnt_told; /* as the guest knows it */
	/* host to guest */
	uint32_t sent_cnt; /* given to the guest */
	uint32_t peer_fwd_cnt;
	uint32_t peer_buf_alloc;

	uint8_t *buffer;       /* ring of buffer_bytes; NULL while nothing is kept */
	uint32_t buffer_bytes; /* the guest's credit, settled when the connection gets its name */
	uint32_t buffer_first, buffer_used;

	uint64_t deadline_ns; /* CLOCK_MONOTONIC; 0: none */
	bool in_rx_list;
	bool in_hash;
	char line[VSOCK_LINE_BYTES_MAX];
	uint32_t line_len;

	struct vsock_conn *hash_next;
	LIST_ENTRY(vsock_conn) all;
	TAILQ_ENTRY(vsock_conn) rx;
	TAILQ_ENTRY(vsock_conn) timer;
};
LIST_HEAD(vsock_conn_list, vsock_conn);
TAILQ_HEAD(vsock_conn_queue, vsock_conn);

/* An RST for a packet that belongs to no connection */
struct vsock_reset {
	uint64_t src_cid;
	uint32_t src_port, dst_port;
	uint16_t type;
};

/* Chains filled by one read, and the buffers of a chain up to which it can take part without being the last */
#define VSOCK_RX_SLOTS         32
#define VSOCK_RX_IOVS_PER_SLOT 4
#define VSOCK_RX_IOVS          (VSOCK_RX_SLOTS * VSOCK_RX_IOVS_PER_SLOT + VIRTQ_CHAIN_MAX)
#define VSOCK_HASH_SIZE        1024

/* What a guest that was restored has to be told: its connections are gone (5.10.6.7). */
enum vsock_transport {
	VSOCK_TRANSPORT_KNOWN,
	VSOCK_TRANSPORT_OWED, /* the driver had no buffer for the event */
	VSOCK_TRANSPORT_TOLD, /* nothing new begins before the driver has given the events' buffers back */
};

struct vsock {
	struct virtio_device dev;
	uint64_t guest_cid;
	struct sockaddr_un address; /* of listen_fd; the path NUL-terminated */
	dev_t socket_dev;           /* what the path named after binding, */
	ino_t socket_ino;           /* so that only our own socket is removed */
	int listen_fd;
	struct vsock_metrics metrics;

	/* while activated */
	struct loop_source *listen_source;
	struct loop_source *listen_retry; /* timer: accept(2) was refused for want of something */
	struct loop_source *timer;        /* for the first of timers */
	struct loop_source *hangup_source;
	int hangup_fd; /* epoll of half-closed sockets, see vsock_stream.c; -1: none yet */
	bool quiet;    /* paused or failed: no host socket is waited for */
	enum vsock_transport transport;
	/* While told: buffers of events that must come back, and how many others were available then */
	uint32_t events_out;
	uint16_t event_buffers;
	bool rx_starved;  /* the driver was asked to tell us of more receive buffers */
	bool listen_idle; /* until listen_retry fires */
	bool tx_used; /* chains of the transmit queue were completed; vsock_rx_serve() will signal that */

	uint64_t hash_key[2]; /* random, so that a guest cannot choose ports that collide */
	struct vsock_conn *hash[VSOCK_HASH_SIZE];
	struct vsock_conn_list conns;
	struct vsock_conn_queue
		rx_list; /* connections with something for the guest, served in turn */
	struct vsock_conn_queue timers; /* ascending by deadline */
	unsigned conn_count;
	unsigned large_buffers; /* connections with VSOCK_BUFFER_LARGE_BYTES */
	uint32_t next_local_port;

	struct vsock_reset resets[VSOCK_RESETS_MAX]; /* a ring */
	unsigned reset_first, reset_count;

	struct virtq_chain chain; /* scratch: the chain popped last */
	struct iovec iov[VSOCK_RX_IOVS];
};

/* ---- vsock.c ---- */

/* The guest broke the rules of the queues: nothing moves until its driver resets the device. */
void vsock_fail(struct vsock *vs, const char *reason);

/* Answers a packet that belongs to no connection. Dropped when too many wait. */
void vsock_queue_reset(struct vsock *vs, const struct vsock_packet *packet);

/* ---- vsock_rx.c ---- */

/* Gives the guest what is waiting for it, as far as it has provided buffers. May free connections. */
void vsock_rx_serve(struct vsock *vs);

/* ---- vsock_conn.c ---- */

/* Takes fd over; NULL (fd stays the caller's) without memory or when there are too many. */
struct vsock_conn *vsock_conn_new(struct vsock *vs, int fd, enum vsock_state state) must_check;
void vsock_conn_free(struct vsock_conn *conn);
void vsock_free_conns(struct vsock *vs);

/* Gives the connection its name in packets. The pair must not be in use. */
void vsock_conn_set_ports(struct vsock_conn *conn, uint32_t local_port, uint32_t peer_port);
struct vsock_conn *vsock_conn_find(struct vsock *vs, uint32_t local_port, uint32_t peer_port);

void vsock_conn_kill(struct vsock_conn *conn);
/* Puts the connection in line for the guest; news may be 0 when data is what it has. */
void vsock_conn_tell(struct vsock_conn *conn, unsigned news);

/* Takes the most urgent news out as a packet; false when there is none. */
bool vsock_conn_next_news(struct vsock_conn *conn, struct vsock_packet *packet);
/* The fields that every packet of this connection has. */
void vsock_conn_fill_packet(struct vsock_conn *conn, enum vsock_op op, struct vsock_packet *packet);

void vsock_conn_arm_timer(struct vsock_conn *conn);
void vsock_conn_disarm_timer(struct vsock_conn *conn);
/* Time stood still: all deadlines start anew. */
void vsock_restart_timers(struct vsock *vs);
void vsock_on_timer(void *ctx);

/* ---- vsock_stream.c ---- */

/* A packet of the guest; count buffers at iov hold exactly its data. May free the connection. */
void vsock_conn_receive(struct vsock_conn *conn, const struct vsock_packet *packet,
			struct iovec *iov, unsigned count);
void vsock_conn_set_credit(struct vsock_conn *conn, const struct vsock_packet *packet);

/* How many bytes of data the guest takes now: 0 when none are known to be there or it has no credit. */
uint32_t vsock_conn_sendable(const struct vsock_conn *conn);
/* Adds the news, if there is data without credit and the guest has not been asked yet: then true. */
bool vsock_conn_ask_for_credit(struct vsock_conn *conn);
/* What a read of the host's socket gave (result of readv; wanted bytes were asked for; error is errno). */
void vsock_conn_has_read(struct vsock_conn *conn, ssize_t result, uint32_t wanted, int error);

/* The socket may take more of what is kept for it. */
void vsock_conn_flush(struct vsock_conn *conn);
void vsock_conn_drop_buffer(struct vsock_conn *conn);

/* Waits for the socket exactly as far as something could be done with what it reports. */
void vsock_conn_update_source(struct vsock_conn *conn);

/* ---- vsock_host.c ---- */

/* Binds and listens. 0 or a negative errno and a text. */
int vsock_host_listen(struct vsock *vs, const char *path, struct error *err) must_check;
/* Starts accepting. 0 or -errno; after an error vsock_host_stop() cleans up. */
int vsock_host_start(struct vsock *vs) must_check;
void vsock_host_stop(struct vsock *vs);
void vsock_host_update_source(struct vsock *vs);
/* Closes the listening socket and removes its name, if it is still ours. */
void vsock_host_close(struct vsock *vs);

/* The guest asks for a connection to a program of the host. */
void vsock_host_connect(struct vsock *vs, const struct vsock_packet *packet);
/* More of the CONNECT line may be there. May free the connection. */
void vsock_host_read_line(struct vsock_conn *conn);
/* The guest accepted: tells the program. */
void vsock_host_confirm(struct vsock_conn *conn);

#endif
