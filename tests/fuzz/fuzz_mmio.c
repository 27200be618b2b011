// SPDX-License-Identifier: Apache-2.0
/*
 * The virtio-mmio registers under arbitrary accesses: each 7 bytes of input are one access (offset, width and direction,
 * value). The device behind them takes whatever its queues hold and gives it back.
 */
#include <stdlib.h>
#include <string.h>
#include "virtio/mmio.h"
#include "vmm/core/bytes.h"
#include "vmm/core/checked.h"
#include "vmm/core/log.h"
#include "vmm/core/loop.h"

#define RAM_BYTES MIB(1)

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t config[16];

static void config_read(struct virtio_device *dev, uint32_t offset, void *out, uint32_t len)
{
	(void)dev;
	memcpy(out, config + offset, len);
}

static void config_write(struct virtio_device *dev, uint32_t offset, const void *in, uint32_t len)
{
	(void)dev;
	memcpy(config + offset, in, len);
}

static int activate(struct virtio_device *dev)
{
	(void)dev;
	return 0;
}

static void queue_notify(struct virtio_device *dev, unsigned index)
{
	static struct virtq_chain chain;
	struct virtqueue *vq = &dev->queues[index];
	int got;

	while ((got = virtqueue_pop(vq, &chain)) == 1) {
		size_t written = virtq_chain_write(&chain, 0, config, sizeof(config));

		virtqueue_push(vq, chain.head, (uint32_t)written);
	}
	if (got < 0)
		virtio_device_fail(dev, "broken chain");
	else
		virtio_device_signal_used(dev, vq);
}

static void reset(struct virtio_device *dev)
{
	(void)dev;
}

static const struct virtio_device_ops ops = {
	.name = "fuzz",
	.type = VIRTIO_TYPE_BLOCK,
	.queue_count = 2,
	.queue_size = 16,
	.config_bytes = sizeof(config),
	.config_read = config_read,
	.config_write = config_write,
	.activate = activate,
	.queue_notify = queue_notify,
	.reset = reset,
};

static struct loop *loop;
static struct guest_memory mem;
static uint8_t *ram;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct log_config quiet = {.level = LOG_LEVEL_OFF};
	struct error err;

	(void)argc;
	(void)argv;
	if (log_configure(&quiet, &err))
		abort();
	loop = loop_new();
	ram = calloc(1, RAM_BYTES);
	mem.regions[0] = (struct guest_region){gpa(0), RAM_BYTES, ram};
	mem.region_count = 1;
	mem.total_bytes = RAM_BYTES;
	return loop && ram ? 0 : -1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint32_t widths[] = {1, 2, 4, 8};
	struct virtio_device dev;
	struct virtio_mmio mmio;

	memset(ram, 0x01, 4096);
	virtio_device_init(&dev, &ops, "fuzz", VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC);
	if (virtio_device_attach(&dev, &mem, loop, 5))
		abort();
	virtio_mmio_init(&mmio, &dev);
	for (; size >= 7; data += 7, size -= 7) {
		uint64_t offset = get_le16(data) & 0xfffu;
		uint32_t len = widths[data[2] & 3];
		uint8_t value[8] = {data[3], data[4], data[5], data[6]};

		if (!range_within(offset, len, 0x1000))
			continue;
		if (data[2] & 4)
			virtio_mmio_bus_ops.write(&mmio, offset, value, len);
		else
			virtio_mmio_bus_ops.read(&mmio, offset, value, len);
		if ((data[2] & 8) && dev.activated && !dev.needs_reset && dev.queues[0].ready)
			ops.queue_notify(&dev, 0);
	}
	virtio_device_detach(&dev);
	virtio_device_destroy(&dev);
	return 0;
}
