// SPDX-License-Identifier: Apache-2.0
/*
 * A virtio-net device with a fake guest and a fake tap: a pair of datagram sockets, which keep frames apart and cut what
 * does not fit, as a tap does. tap_open() and tap_set_offload() below take the place of tap.c, so only one file of a
 * program includes this.
 */
#ifndef TESTS_UNIT_NET_FIXTURE_H
#define TESTS_UNIT_NET_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include "tests/unit/fake_virtio.h"
#include "tests/unit/unit.h"
#include "virtio/net_internal.h"
#include "virtio/tap.h"
#include "vmm/core/checked.h"

#define FRAME_AT NET_HEADER_BYTES

/* What the fake tap gives to the device under construction, and what it was told. */
static struct {
	int fd;
	const char *refusal;
	struct tap_offload offload;
	int offload_result;
} fake_tap;

int tap_open(const char *name, struct error *err)
{
	if (fake_tap.refusal)
		return error_set(err, -EBUSY, "%s %s", fake_tap.refusal, name);
	return fake_tap.fd;
}

int tap_set_offload(int fd, struct tap_offload offload)
{
	assert_int_equal(fd, fake_tap.fd);
	fake_tap.offload = offload;
	return fake_tap.offload_result;
}

struct fixture {
	struct fake_ram ram;
	struct loop *loop;
	struct fake_queue queues[NET_QUEUE_COUNT];
	struct virtio_device *dev;
	struct net *net;
	int wire; /* the other end of the fake tap */
};

static struct fixture f;

static inline struct net_config default_config(void)
{
	static char id[] = "eth0", tap[] = "tap0";

	return (struct net_config){.iface_id = id, .host_dev_name = tap};
}

static inline void make(const struct net_config *config)
{
	struct error err = {0};

	f.dev = net_new(config, &err);
	assert_non_null(f.dev);
	f.net = (struct net *)f.dev;
}

static inline void begin(const struct net_config *config, uint64_t features)
{
	make(config);
	fake_device_start(f.dev, &f.ram, f.loop, features, f.queues, NET_QUEUE_COUNT);
}

static inline void begin_default(uint64_t features)
{
	struct net_config config = default_config();

	begin(&config, features);
}

static inline int setup(void **state)
{
	int pair[2];
	int bytes = 4 << 20;

	(void)state;
	memset(&f, 0, sizeof(f));
	memset(&fake_tap, 0, sizeof(fake_tap));
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair),
			 0);
	assert_int_equal(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)), 0);
	assert_int_equal(setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)), 0);
	fake_tap.fd = pair[0];
	f.wire = pair[1];
	fake_ram_init(&f.ram, MIB(8));
	f.loop = loop_new();
	assert_non_null(f.loop);
	return 0;
}

static inline int teardown(void **state)
{
	(void)state;
	if (f.dev)
		virtio_device_free(f.dev);
	else
		close(fake_tap.fd);
	close_fd(f.wire);
	loop_free(f.loop);
	fake_ram_free(&f.ram);
	return 0;
}

static inline uint64_t count_of(const metric_t *metric)
{
	return metric_get(metric);
}

/* A frame as it lies behind the header: to, from, type, then a pattern that starts with seed. */
static inline void fill_frame(uint8_t *frame, size_t len, uint8_t seed)
{
	for (size_t i = 0; i < len; i++)
		frame[i] = (uint8_t)(seed + i * 7);
}

/* Header and frame in guest memory, in one piece. */
static inline uint64_t put_packet(const struct net_header *header, size_t frame_len, uint8_t seed)
{
	uint64_t at = fake_ram_alloc(&f.ram, FRAME_AT + frame_len, 8);
	uint8_t *host = fake_ram_host(&f.ram, at);

	memcpy(host, header, sizeof(*header));
	fill_frame(host + FRAME_AT, frame_len, seed);
	return at;
}

static inline void send_packet(const struct net_header *header, size_t frame_len, uint8_t seed)
{
	uint64_t at = put_packet(header, frame_len, seed);

	fake_queue_add(&f.queues[NET_QUEUE_TX],
		       (struct fake_buf[]){{at, (uint32_t)(FRAME_AT + frame_len), false}}, 1);
}

static inline void expect_used(unsigned queue, uint32_t len)
{
	struct fake_used used;

	assert_true(fake_queue_take_used(&f.queues[queue], &used));
	assert_int_equal(used.len, len);
}

static inline void expect_no_used(unsigned queue)
{
	struct fake_used used;

	assert_false(fake_queue_take_used(&f.queues[queue], &used));
}

static uint8_t wire_bytes[2 * NET_FRAME_BYTES_MAX];

static inline void expect_on_wire(const struct net_header *header, size_t frame_len, uint8_t seed)
{
	static uint8_t frame[NET_FRAME_BYTES_MAX];

	assert_int_equal(read(f.wire, wire_bytes, sizeof(wire_bytes)), FRAME_AT + frame_len);
	assert_memory_equal(wire_bytes, header, offsetof(struct net_header, num_buffers));
	fill_frame(frame, frame_len, seed);
	assert_memory_equal(wire_bytes + FRAME_AT, frame, frame_len);
}

static inline void expect_silent_wire(void)
{
	assert_int_equal(read(f.wire, wire_bytes, sizeof(wire_bytes)), -1);
	assert_int_equal(errno, EAGAIN);
}

/* The host sends a frame of that length (header included in what goes over the fake tap). */
static inline void put_on_wire(size_t frame_len, uint8_t seed)
{
	memset(wire_bytes, 0, FRAME_AT);
	wire_bytes[0] = 2; /* a header that can be told from nothing: VIRTIO_NET_HDR_F_DATA_VALID */
	fill_frame(wire_bytes + FRAME_AT, frame_len, seed);
	assert_int_equal(write(f.wire, wire_bytes, FRAME_AT + frame_len), FRAME_AT + frame_len);
}

static inline uint64_t offer_receive(uint32_t len)
{
	uint64_t at = fake_ram_alloc(&f.ram, len, 8);

	fake_queue_add(&f.queues[NET_QUEUE_RX], (struct fake_buf[]){{at, len, true}}, 1);
	return at;
}

static inline void offer_receive_many(unsigned count, uint32_t len)
{
	for (unsigned i = 0; i < count; i++)
		offer_receive(len);
}

static inline void expect_received(uint64_t at, size_t frame_len, uint8_t seed,
				   uint16_t num_buffers)
{
	static uint8_t frame[NET_FRAME_BYTES_MAX];
	const uint8_t *host = fake_ram_host(&f.ram, at);

	fill_frame(frame, frame_len, seed);
	assert_int_equal(host[0], 2);
	assert_int_equal(get_le16(host + 10), num_buffers);
	assert_memory_equal(host + FRAME_AT, frame, frame_len);
}

#define net_test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
