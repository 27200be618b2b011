// SPDX-License-Identifier: Apache-2.0
/* A hostile driver at the virtio-mmio registers: wrong widths, offsets and orders. Needs a block device. */
#include "tests/guest/guest.h"

static struct ring ring;

static void wrong_accesses(uint32_t window)
{
	check_equal("8-bit read of the magic", read8(window + VM_MAGIC), 0);
	check_equal("16-bit read of the magic", read16(window + VM_MAGIC), 0);
	check_equal("32-bit read between registers", read32(window + 0x024 + 4), 0);
	check_equal("misaligned read", read32(window + 0x001), 0);
	check_equal("read of a write-only register", read32(window + VM_QUEUE_SEL), 0);
	write8(window + VM_STATUS, ST_ACKNOWLEDGE);
	check_equal("8-bit write of the status", read32(window + VM_STATUS), 0);
	write32(window + VM_MAGIC, 0);
	check_equal("write of a read-only register", read32(window + VM_MAGIC), 0x74726976);
	check_equal("configuration past its end", read32(window + 0xffc), 0);
	write32(window + 0xffc, 0xffffffff);
	for (uint32_t offset = 0; offset < 0x1000; offset += 2) {
		if (offset == VM_STATUS || offset == VM_QUEUE_NOTIFY)
			continue;
		write32(window + offset, 0xffffffff);
		(void)read16(window + offset);
	}
	virtio_reset(window);
	check_equal("the device still answers", read32(window + VM_MAGIC), 0x74726976);
}

static void wrong_orders(uint32_t window)
{
	virtio_reset(window);
	write32(window + VM_STATUS, ST_DRIVER);
	check_equal("DRIVER before ACKNOWLEDGE", read32(window + VM_STATUS), 0);
	write32(window + VM_STATUS, ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK | ST_DRIVER_OK);
	check_equal("everything at once", read32(window + VM_STATUS), 0);
	write32(window + VM_STATUS, ST_ACKNOWLEDGE);
	write32(window + VM_STATUS, ST_ACKNOWLEDGE | ST_DRIVER);
	write32(window + VM_STATUS, ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK);
	check_equal("FEATURES_OK without VERSION_1", read32(window + VM_STATUS),
		    ST_ACKNOWLEDGE | ST_DRIVER);
	write32(window + VM_DRIVER_FEATURES_SEL, 1);
	write32(window + VM_DRIVER_FEATURES, 0xffffffff);
	write32(window + VM_STATUS, ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK);
	check_equal("FEATURES_OK with features never offered", read32(window + VM_STATUS),
		    ST_ACKNOWLEDGE | ST_DRIVER);
	write32(window + VM_STATUS, ST_ACKNOWLEDGE);
	check_equal("status bits do not go back", read32(window + VM_STATUS),
		    ST_ACKNOWLEDGE | ST_DRIVER);
	write32(window + VM_STATUS, ST_FAILED);
	check("FAILED sticks", read32(window + VM_STATUS) & ST_FAILED);
	virtio_reset(window);
	check_equal("reset clears the status", read32(window + VM_STATUS), 0);
}

static void selectors(uint32_t window)
{
	write32(window + VM_QUEUE_SEL, 0xffffffff);
	check_equal("a queue that does not exist has no room", read32(window + VM_QUEUE_NUM_MAX),
		    0);
	write32(window + VM_QUEUE_NUM, 0xffff);
	write32(window + VM_QUEUE_READY, 1);
	check_equal("a queue that does not exist is not ready", read32(window + VM_QUEUE_READY), 0);
	write32(window + VM_QUEUE_SEL, 0);
	check("the queue that exists has room", read32(window + VM_QUEUE_NUM_MAX) >= RING_SIZE);
	write32(window + VM_DEVICE_FEATURES_SEL, 2);
	check_equal("no features beyond 64", read32(window + VM_DEVICE_FEATURES), 0);
	write32(window + VM_QUEUE_NOTIFY, 0xffffffff);
	write32(window + VM_QUEUE_NOTIFY, 0);
}

/* Sets the device up but for the given broken ring address or size, and expects that it wants a reset. */
static void start_broken(uint32_t window, const char *name, uint32_t reg, uint32_t value)
{
	virtio_reset(window);
	write32(window + VM_STATUS, ST_ACKNOWLEDGE);
	write32(window + VM_STATUS, ST_ACKNOWLEDGE | ST_DRIVER);
	write32(window + VM_DRIVER_FEATURES_SEL, 1);
	write32(window + VM_DRIVER_FEATURES, 1);
	write32(window + VM_STATUS, ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK);
	write32(window + VM_QUEUE_SEL, 0);
	write32(window + VM_QUEUE_NUM, RING_SIZE);
	write32(window + VM_QUEUE_DESC, (uint32_t)ring.desc);
	write32(window + VM_QUEUE_DRIVER, (uint32_t)&ring.avail);
	write32(window + VM_QUEUE_DEVICE, (uint32_t)&ring.used);
	write32(window + reg, value);
	write32(window + VM_QUEUE_READY, 1);
	write32(window + VM_STATUS, ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK | ST_DRIVER_OK);
	check(name, read32(window + VM_STATUS) & ST_NEEDS_RESET);
	write32(window + VM_QUEUE_NOTIFY, 0);
}

static void broken_rings(uint32_t window)
{
	start_broken(window, "queue size zero", VM_QUEUE_NUM, 0);
	start_broken(window, "queue size not a power of two", VM_QUEUE_NUM, 3);
	start_broken(window, "queue size beyond the maximum", VM_QUEUE_NUM, 0x10001);
	start_broken(window, "descriptors outside RAM", VM_QUEUE_DESC, 0xfffffff0);
	start_broken(window, "descriptors misaligned", VM_QUEUE_DESC, (uint32_t)ring.desc + 1);
	start_broken(window, "descriptors above 4 GiB", VM_QUEUE_DESC + 4, 0xffffffff);
	start_broken(window, "available ring outside RAM", VM_QUEUE_DRIVER, 0xc0000000);
	start_broken(window, "used ring over a register window", VM_QUEUE_DEVICE, window);
}

void guest_main(void)
{
	uint32_t window = virtio_find(2, 0);

	check("a block device is there", window != 0);
	if (!window)
		return;
	check_equal("version", read32(window + VM_VERSION), 2);
	wrong_accesses(window);
	wrong_orders(window);
	selectors(window);
	broken_rings(window);
	check("the device can be started after all that", virtio_start(window, 0, &ring, 1));
	write32(window + VM_QUEUE_READY, 0);
	check_equal("queues are frozen while the device runs", read32(window + VM_QUEUE_READY), 1);
	for (unsigned i = 0; i < 2000; i++)
		write32(window + VM_QUEUE_NOTIFY, 0);
	check("a storm of notifications", !(read32(window + VM_STATUS) & ST_NEEDS_RESET));
	bool all = true;

	for (unsigned i = 0; i < 200; i++)
		all = virtio_start(window, 0, &ring, 1) && all;
	check("two hundred resets and starts", all);
}
