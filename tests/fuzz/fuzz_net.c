// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-net under a hostile driver and a hostile wire: the input is a program of steps that write descriptors and rings
 * as they please, notify, send frames, pause, resume and reset. A pair of datagram sockets stands in for the tap.
 */
#include <stdint.h>
#include <sys/socket.h>
#include "tests/unit/fake_virtio.h"
#include "virtio/net_internal.h"
#include "virtio/tap.h"
#include "vmm/core/log.h"

#define RAM_BYTES (256u << 10)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int tap_end;

int tap_open(const char *name, struct error *err)
{
	(void)name;
	(void)err;
	return tap_end;
}

int tap_set_offload(int fd, struct tap_offload offload)
{
	(void)fd;
	(void)offload;
	return 0;
}

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
	struct fake_queue queues[NET_QUEUE_COUNT];
	struct virtio_device *dev;
	int wire;
};

static uint64_t take_address(struct input *in)
{
	uint32_t value = take(in, 2);

	/* mostly RAM, now and then not */
	return value == 0xffff ? UINT64_MAX - take(in, 1) : FAKE_RAM_BASE + 4ull * value;
}

static void add_chain(struct machine *m, struct input *in, struct fake_queue *queue)
{
	struct fake_buf bufs[8];
	unsigned how = take(in, 1);
	unsigned count = how % 8 + 1;

	for (unsigned i = 0; i < count; i++) {
		bufs[i].address = take_address(in);
		bufs[i].len = take(in, 2);
		bufs[i].writable = (queue == &m->queues[NET_QUEUE_RX]) != (take(in, 1) == 0xff);
	}
	if (how & 0x80 && m->ram.next < FAKE_RAM_BASE + RAM_BYTES / 2)
		fake_queue_add_indirect(queue, bufs, count);
	else
		fake_queue_add(queue, bufs, count);
}

static void write_descriptor(struct input *in, struct fake_queue *queue)
{
	uint16_t index = (uint16_t)(take(in, 1) % queue->size);
	uint64_t address = take_address(in);
	uint32_t len = take(in, 4);
	uint16_t flags = (uint16_t)take(in, 1);

	fake_queue_set_desc(queue, index, address, len, flags, (uint16_t)take(in, 2));
}

static void send_to_guest(struct machine *m, struct input *in)
{
	static uint8_t frame[70000];
	size_t len = take(in, 3) % sizeof(frame) + 1;

	(void)!write(m->wire, frame, len);
}

static void step(struct machine *m, struct input *in)
{
	struct fake_queue *queue = &m->queues[take(in, 1) & 1];
	static uint8_t drained[70000];

	switch (take(in, 1) % 10) {
	case 0:
	case 1:
		add_chain(m, in, queue);
		break;
	case 2:
		write_descriptor(in, queue);
		break;
	case 3:
		fake_queue_offer(queue, (uint16_t)take(in, 1));
		break;
	case 4:
		fake_queue_set_avail_idx(queue, (uint16_t)take(in, 2));
		break;
	case 5:
		send_to_guest(m, in);
		break;
	case 6:
		fake_device_kick(m->dev, queue == m->queues ? 0 : 1);
		break;
	case 7:
		fake_loop_poll(m->loop);
		while (read(m->wire, drained, sizeof(drained)) > 0)
			;
		break;
	case 8:
		virtio_device_pause(m->dev);
		break;
	default:
		virtio_device_resume(m->dev);
	}
}

static void run(struct machine *m, struct input *in)
{
	static char id[] = "n", tap[] = "t", mac[] = "02:00:00:00:00:01";
	struct net_config config = {.iface_id = id, .host_dev_name = tap};
	unsigned how = take(in, 1);
	struct error err;

	config.guest_mac = how & 1 ? mac : NULL;
	if (how & 2) {
		config.rx_rate_limiter.has_ops = true;
		config.rx_rate_limiter.ops = (struct token_bucket_config){2, 1, 0, false};
		config.tx_rate_limiter = config.rx_rate_limiter;
	}
	m->dev = net_new(&config, &err);
	fake_require(m->dev != NULL);
	uint64_t features = (uint64_t)take(in, 4);

	fake_device_start(m->dev, &m->ram, m->loop, features, m->queues, NET_QUEUE_COUNT);
	while (in->left > 0)
		step(m, in);
	fake_loop_poll(m->loop);
	virtio_device_free(m->dev);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct log_config quiet = {.level = LOG_LEVEL_OFF};
	struct input in = {data, size};
	struct machine m;
	struct error err;
	int pair[2];

	fake_require(log_configure(&quiet, &err) == 0);
	fake_require(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
	tap_end = pair[0];
	m.wire = pair[1];
	fake_ram_init(&m.ram, RAM_BYTES);
	m.loop = loop_new();
	fake_require(m.loop != NULL);
	run(&m, &in);
	close(m.wire);
	loop_free(m.loop);
	fake_ram_free(&m.ram);
	return 0;
}
