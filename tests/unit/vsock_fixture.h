// SPDX-License-Identifier: Apache-2.0
/* A vsock device with a fake guest on one side and the test as the host's programs on the other, in a fresh folder. */
#ifndef TESTS_UNIT_VSOCK_FIXTURE_H
#define TESTS_UNIT_VSOCK_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include "tests/unit/fake_virtio.h"
#include "tests/unit/unit.h"
#include "virtio/vsock_internal.h"
#include "vmm/core/checked.h"

#define GUEST_CID    3
#define GUEST_CREDIT (256u << 10)

struct vsock_fixture {
	char folder[32];
	char path[64];
	struct fake_ram ram;
	struct loop *loop;
	struct fake_queue queues[VSOCK_QUEUE_COUNT];
	struct virtio_device *dev;
	struct vsock *vs;
	uint64_t rx_at[VIRTQ_SIZE_MAX]; /* where the chain with that head lies, in one piece */
	bool recycle;                   /* offer each chain again as soon as it has been taken */
	uint64_t tx_at;                 /* scratch for packets of the guest */
};

static struct vsock_fixture f;

/* One established connection, as both sides see it. */
struct link {
	int fd; /* the host's program */
	uint32_t local_port, peer_port;
	uint32_t fwd_cnt; /* what the guest says it has consumed */
};

static inline void make_vsock(void)
{
	struct vsock_config config = {.guest_cid = GUEST_CID, .uds_path = f.path};
	struct error err = {0};

	f.dev = vsock_new(&config, &err);
	assert_non_null(f.dev);
	f.vs = (struct vsock *)f.dev;
}

static inline int vsock_setup(void **state)
{
	(void)state;
	memset(&f, 0, sizeof(f));
	strcpy(f.folder, "/tmp/vsock-XXXXXX");
	assert_non_null(mkdtemp(f.folder));
	snprintf(f.path, sizeof(f.path), "%s/v", f.folder);
	fake_ram_init(&f.ram, MIB(16));
	f.tx_at = fake_ram_alloc(&f.ram, MIB(1), 8);
	f.loop = loop_new();
	assert_non_null(f.loop);
	make_vsock();
	fake_device_start(f.dev, &f.ram, f.loop, 0, f.queues, VSOCK_QUEUE_COUNT);
	return 0;
}

static inline int vsock_teardown(void **state)
{
	(void)state;
	virtio_device_free(f.dev);
	loop_free(f.loop);
	fake_ram_free(&f.ram);
	assert_int_equal(rmdir(f.folder), 0); /* nothing was left behind */
	return 0;
}

/* ---- the guest ---- */

/* The smallest chain that the tests offer, as Linux does */
#define RX_CHAIN_BYTES (VSOCK_HEADER_BYTES + 4096u)

static inline void offer_rx(unsigned count, uint32_t bytes)
{
	for (unsigned i = 0; i < count; i++) {
		uint64_t at = fake_ram_alloc(&f.ram, bytes, 8);
		uint16_t head =
			fake_queue_add(&f.queues[VSOCK_QUEUE_RX],
				       (struct fake_buf[]){{at, VSOCK_HEADER_BYTES, true},
							   {at + VSOCK_HEADER_BYTES,
							    bytes - VSOCK_HEADER_BYTES, true}},
				       2);

		f.rx_at[head] = at;
	}
}

static inline void encode_packet(const struct vsock_packet *packet, uint8_t *out)
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

/* A packet as an honest guest makes it. */
static inline struct vsock_packet guest_packet(enum vsock_op op, uint32_t src_port,
					       uint32_t dst_port)
{
	return (struct vsock_packet){
		.src_cid = GUEST_CID,
		.dst_cid = VSOCK_HOST_CID,
		.src_port = src_port,
		.dst_port = dst_port,
		.type = VSOCK_TYPE_STREAM,
		.op = (uint16_t)op,
		.buf_alloc = GUEST_CREDIT,
	};
}

/* Sends header and data (len bytes, whatever packet->len says) in one piece and has the device serve it. */
static inline void guest_send(const struct vsock_packet *packet, const void *data, uint32_t len)
{
	uint8_t *host = fake_ram_host(&f.ram, f.tx_at);
	struct fake_used used;

	encode_packet(packet, host);
	if (len > 0)
		memcpy(host + VSOCK_HEADER_BYTES, data, len);
	fake_queue_add(&f.queues[VSOCK_QUEUE_TX],
		       (struct fake_buf[]){{f.tx_at, VSOCK_HEADER_BYTES + len, false}}, 1);
	fake_device_notify(f.dev, VSOCK_QUEUE_TX);
	assert_true(fake_queue_take_used(&f.queues[VSOCK_QUEUE_TX], &used));
	assert_int_equal(used.len, 0);
}

static inline void guest_say(const struct link *link, enum vsock_op op, uint32_t flags)
{
	struct vsock_packet packet = guest_packet(op, link->peer_port, link->local_port);

	packet.flags = flags;
	packet.fwd_cnt = link->fwd_cnt;
	guest_send(&packet, NULL, 0);
}

static inline void guest_write(const struct link *link, const void *data, uint32_t len)
{
	struct vsock_packet packet = guest_packet(VSOCK_OP_RW, link->peer_port, link->local_port);

	packet.len = len;
	packet.fwd_cnt = link->fwd_cnt;
	guest_send(&packet, data, len);
}

/* The next packet to the guest; false when there is none. *data leads to its data. */
static inline bool guest_take(struct vsock_packet *packet, const uint8_t **data)
{
	struct fake_used used;

	if (!fake_queue_take_used(&f.queues[VSOCK_QUEUE_RX], &used))
		return false;
	const uint8_t *in = fake_ram_host(&f.ram, f.rx_at[used.head]);

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
	assert_int_equal(used.len, VSOCK_HEADER_BYTES + packet->len);
	assert_int_equal(packet->dst_cid, GUEST_CID);
	if (data)
		*data = in + VSOCK_HEADER_BYTES; /* whole until the device runs again */
	if (f.recycle)
		fake_queue_offer(&f.queues[VSOCK_QUEUE_RX], (uint16_t)used.head);
	return true;
}

static inline struct vsock_packet guest_expect(enum vsock_op op)
{
	struct vsock_packet packet = {0};

	assert_true(guest_take(&packet, NULL));
	assert_int_equal(packet.op, op);
	return packet;
}

static inline void guest_expect_none(void)
{
	struct vsock_packet packet;

	assert_false(guest_take(&packet, NULL));
}

/* ---- the host's programs ---- */

static inline struct sockaddr_un address_of(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	assert_true(strlen(path) < sizeof(address.sun_path));
	strcpy(address.sun_path, path);
	return address;
}

static inline int host_connect(void)
{
	struct sockaddr_un address = address_of(f.path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

/* A program that listens for the guest's port; *path is to be unlinked. */
static inline int host_listen(uint32_t port, char path[96])
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	snprintf(path, 96, "%s_%u", f.path, port);
	struct sockaddr_un address = address_of(path);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1024), 0);
	return fd;
}

static inline void host_write(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static inline void host_expect(int fd, const char *text)
{
	char got[64] = {0};

	assert_int_equal(read(fd, got, sizeof(got) - 1), strlen(text));
	assert_string_equal(got, text);
}

static inline void host_expect_end(int fd)
{
	char byte;

	assert_int_equal(read(fd, &byte, 1), 0);
}

static inline void host_expect_nothing(int fd)
{
	char byte;

	assert_int_equal(read(fd, &byte, 1), -1);
	assert_int_equal(errno, EAGAIN);
}

/* Handles what is ready until nothing is. */
static inline void run(void)
{
	for (unsigned i = 0; i < 8; i++)
		fake_loop_poll(f.loop);
}

static inline void end_wait(void *ctx)
{
	*(bool *)ctx = true;
}

/* How often the loop wakes up within 20 ms for other things than this timer: a source that nobody serves shows. */
static inline unsigned count_wakeups(void)
{
	bool over = false;
	unsigned wakeups = 0;
	struct loop_source *timer = loop_add_timer(f.loop, end_wait, &over);

	loop_timer_arm(timer, 20000000);
	for (; !over; wakeups++)
		fake_loop_wait(f.loop);
	loop_source_free(timer);
	return wakeups - 1;
}

/* ---- connections ---- */

/* The host connects to a port of the guest; the guest accepts. Uses up two receive chains at most. */
static inline struct link link_from_host(uint32_t port, uint32_t credit)
{
	struct link link = {.fd = host_connect(), .peer_port = port};
	char line[64], expected[64];

	snprintf(line, sizeof(line), "CONNECT %u\n", port);
	host_write(link.fd, line);
	run();
	struct vsock_packet request = guest_expect(VSOCK_OP_REQUEST);

	assert_int_equal(request.dst_port, port);
	link.local_port = request.src_port;
	struct vsock_packet response =
		guest_packet(VSOCK_OP_RESPONSE, link.peer_port, link.local_port);

	response.buf_alloc = credit;
	guest_send(&response, NULL, 0);
	snprintf(expected, sizeof(expected), "OK %u\n", link.local_port);
	host_expect(link.fd, expected);
	return link;
}

/* The guest connects from its port to a program that listens (fd) for that port of the host. */
static inline struct link link_from_guest(int listener, uint32_t guest_port, uint32_t host_port)
{
	struct link link = {.local_port = host_port, .peer_port = guest_port};

	guest_say(&link, VSOCK_OP_REQUEST, 0);
	guest_expect(VSOCK_OP_RESPONSE);
	link.fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(link.fd >= 0);
	return link;
}

static inline struct vsock_conn *conn_of(const struct link *link)
{
	return vsock_conn_find(f.vs, link->local_port, link->peer_port);
}

#define vsock_test(name) cmocka_unit_test_setup_teardown(name, vsock_setup, vsock_teardown)

#endif
