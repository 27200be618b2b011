// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-vsock between a hostile guest and restless programs of the host: the input is a program of steps that send
 * packets, offer chains cut anyhow, connect, write, read, half-close and close sockets, pause and resume.
 */
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include "tests/unit/fake_virtio.h"
#include "virtio/vsock_internal.h"
#include "vmm/core/log.h"

#define RAM_BYTES     (512u << 10)
#define SOCKETS       8
#define LISTENER_PORT 9
#define GUEST_CID     3

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *data;
	size_t left;
};

static uint32_t take(struct input *in, unsigned bytes)
{
	uint32_t value = 0;

	for (unsigned i = 0; i < bytes && in->left > 0; i++, in->left--)
		value = value << 8 | *in->data++;
	return value;
}

struct machine {
	struct fake_ram ram;
	struct loop *loop;
	struct fake_queue queues[VSOCK_QUEUE_COUNT];
	struct virtio_device *dev;
	struct vsock *vs;
	uint64_t packet_at;
	int listener;
	int sockets[SOCKETS];
	struct sockaddr_un address, listener_address;
};

static uint64_t take_address(struct input *in)
{
	return FAKE_RAM_BASE + 8ull * take(in, 2);
}

static void offer_receive(struct machine *m, struct input *in)
{
	struct fake_buf bufs[8];
	unsigned how = take(in, 1);
	unsigned count = how & 0x80 ? how % 8 + 1 : 1;

	for (unsigned i = 0; i < count; i++)
		bufs[i] = (struct fake_buf){take_address(in), take(in, 2) + 1,
					    !(how & 0x40 && i == 0)};
	fake_queue_add(&m->queues[VSOCK_QUEUE_RX], bufs, count);
}

/* A port that a connection has now, or any. */
static void choose_ports(struct machine *m, struct input *in, uint32_t *local, uint32_t *peer)
{
	unsigned how = take(in, 1);
	struct vsock_conn *conn = LIST_FIRST(&m->vs->conns);

	for (unsigned i = how % 8; conn && i > 0; i--)
		conn = LIST_NEXT(conn, all);
	*local = how & 0x40 ? LISTENER_PORT : take(in, 1);
	*peer = take(in, 1);
	if (conn && !(how & 0x80)) {
		*local = conn->local_port;
		*peer = conn->peer_port;
	}
}

static void send_packet(struct machine *m, struct input *in)
{
	uint8_t *header = fake_ram_host(&m->ram, m->packet_at);
	unsigned how = take(in, 1);
	uint32_t local, peer;
	uint32_t carried = how & 0x10 ? take(in, 2) : 0;

	choose_ports(m, in, &local, &peer);
	put_le64(header, how & 0x20 ? take(in, 4) : GUEST_CID);
	put_le64(header + 8, how & 0x40 ? take(in, 4) : VSOCK_HOST_CID);
	put_le32(header + 16, peer);
	put_le32(header + 20, local);
	put_le32(header + 24, how & 0x80 ? take(in, 4) : carried);
	put_le16(header + 28, (uint16_t)(how & 8 ? take(in, 2) : VSOCK_TYPE_STREAM));
	put_le16(header + 30, (uint16_t)(how & 7 ? how & 7 : take(in, 2)));
	put_le32(header + 32, take(in, 1));
	put_le32(header + 36, take(in, 4));
	put_le32(header + 40, take(in, 4));
	struct fake_buf bufs[2] = {{m->packet_at, VSOCK_HEADER_BYTES, false},
				   {take_address(in), carried, false}};

	fake_queue_add(&m->queues[VSOCK_QUEUE_TX], bufs, carried > 0 ? 2 : 1);
}

static void connect_socket(struct machine *m, int *slot)
{
	if (*slot >= 0)
		close(*slot);
	*slot = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	fake_require(*slot >= 0);
	(void)!connect(*slot, (const struct sockaddr *)&m->address, sizeof(m->address));
}

static void use_socket(struct machine *m, struct input *in)
{
	static uint8_t bytes[70000];
	unsigned how = take(in, 1);
	int *slot = &m->sockets[how % SOCKETS];
	char line[64];

	if (*slot < 0 || how / SOCKETS % 8 == 0) {
		connect_socket(m, slot);
	} else if (how / SOCKETS % 8 == 1) {
		int len = snprintf(line, sizeof(line), "CONNECT %u\n", take(in, 1));

		(void)!send(*slot, line, (size_t)len, MSG_NOSIGNAL);
	} else if (how / SOCKETS % 8 == 2) {
		for (unsigned i = 0; i < sizeof(line) / 4; i++)
			line[i] = (char)take(in, 1);
		(void)!send(*slot, line, sizeof(line) / 4, MSG_NOSIGNAL);
	} else if (how / SOCKETS % 8 == 3) {
		(void)!send(*slot, bytes, take(in, 2), MSG_NOSIGNAL);
	} else if (how / SOCKETS % 8 == 4) {
		(void)!read(*slot, bytes, sizeof(bytes));
	} else if (how / SOCKETS % 8 == 5) {
		shutdown(*slot, (int)(take(in, 1) % 3));
	} else if (how / SOCKETS % 8 == 6) {
		close(*slot);
		*slot = accept4(m->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	} else {
		close(*slot);
		*slot = -1;
	}
}

static void step(struct machine *m, struct input *in)
{
	switch (take(in, 1) % 12) {
	case 0:
	case 1:
		offer_receive(m, in);
		break;
	case 2:
	case 3:
	case 4:
		send_packet(m, in);
		break;
	case 5:
	case 6:
		use_socket(m, in);
		break;
	case 7:
		fake_device_kick(m->dev, take(in, 1) % VSOCK_QUEUE_COUNT);
		break;
	case 8:
	case 9:
		fake_device_kick(m->dev, VSOCK_QUEUE_TX);
		fake_loop_poll(m->loop);
		break;
	case 10:
		virtio_device_pause(m->dev);
		break;
	default:
		virtio_device_resume(m->dev);
	}
	fake_require(m->vs->conn_count <= VSOCK_CONNS_MAX);
}

static int make_listener(struct machine *m)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	fake_require(fd >= 0);
	fake_require(bind(fd, (const struct sockaddr *)&m->listener_address,
			  sizeof(m->listener_address)) == 0);
	fake_require(listen(fd, SOCKETS) == 0);
	return fd;
}

static void make_device(struct machine *m)
{
	struct vsock_config config = {.guest_cid = GUEST_CID, .uds_path = m->address.sun_path};
	struct error err;

	m->dev = vsock_new(&config, &err);
	fake_require(m->dev != NULL);
	m->vs = (struct vsock *)m->dev;
	m->packet_at = fake_ram_alloc(&m->ram, VSOCK_HEADER_BYTES, 8);
	fake_device_start(m->dev, &m->ram, m->loop, 0, m->queues, VSOCK_QUEUE_COUNT);
}

static void name_sockets(struct machine *m)
{
	char folder[] = "/tmp/fuzz-vsock";

	(void)mkdir(folder, 0700);
	m->address.sun_family = m->listener_address.sun_family = AF_UNIX;
	snprintf(m->address.sun_path, sizeof(m->address.sun_path), "%s/%d", folder, getpid());
	snprintf(m->listener_address.sun_path, sizeof(m->listener_address.sun_path), "%s/%d_%d",
		 folder, getpid(), LISTENER_PORT);
	unlink(m->address.sun_path); /* of a run that ended in a crash */
	unlink(m->listener_address.sun_path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct log_config quiet = {.level = LOG_LEVEL_OFF};
	struct input in = {data, size};
	struct machine m = {0};
	struct error err;

	fake_require(log_configure(&quiet, &err) == 0);
	name_sockets(&m);
	fake_ram_init(&m.ram, RAM_BYTES + (1u << 20));
	m.loop = loop_new();
	fake_require(m.loop != NULL);
	for (unsigned i = 0; i < SOCKETS; i++)
		m.sockets[i] = -1;
	m.listener = make_listener(&m);
	make_device(&m);
	while (in.left > 0)
		step(&m, &in);
	fake_loop_poll(m.loop);
	virtio_device_free(m.dev);
	for (unsigned i = 0; i < SOCKETS; i++)
		close_fd(m.sockets[i]);
	close(m.listener);
	unlink(m.listener_address.sun_path);
	loop_free(m.loop);
	fake_ram_free(&m.ram);
	return 0;
}
