// SPDX-License-Identifier: Apache-2.0
/* What tiny guests share. */
#include "tests/guest/guest.h"

#define SERIAL_DATA   0x3f8
#define I8042_COMMAND 0x64
#define I8042_RESET   0xfe
/* Emulated and accelerated guests differ by a factor of a thousand: a bound against hanging, not a measure of time. */
#define WAIT_TRIES 2000000u

void *memset(void *to, int value, size_t len)
{
	volatile uint8_t *bytes = to;

	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)value;
	return to;
}

void *memcpy(void *to, const void *from, size_t len)
{
	volatile uint8_t *out = to;
	const uint8_t *in = from;

	for (size_t i = 0; i < len; i++)
		out[i] = in[i];
	return to;
}

void put_text(const char *text)
{
	for (; *text; text++)
		outb(SERIAL_DATA, (uint8_t)*text);
}

void put_hex(uint32_t value)
{
	put_text("0x");
	for (int shift = 28; shift >= 0; shift -= 4)
		outb(SERIAL_DATA, (uint8_t) "0123456789abcdef"[(value >> shift) & 15]);
}

void check_equal(const char *name, uint32_t got, uint32_t wanted)
{
	put_text(got == wanted ? "PASS " : "FAIL ");
	put_text(name);
	if (got != wanted) {
		put_text(": got ");
		put_hex(got);
		put_text(", wanted ");
		put_hex(wanted);
	}
	put_text("\n");
}

void check(const char *name, bool good)
{
	put_text(good ? "PASS " : "FAIL ");
	put_text(name);
	put_text("\n");
}

void guest_finish(void)
{
	put_text("DONE\n");
	outb(I8042_COMMAND, I8042_RESET);
	for (;;)
		__asm__ volatile("hlt");
}

uint32_t virtio_find(uint32_t type, unsigned nth)
{
	for (unsigned i = 0; i < 18; i++) {
		uint32_t window = VIRTIO_WINDOW(i);

		if (read32(window + VM_MAGIC) != 0x74726976)
			return 0;
		if (read32(window + VM_DEVICE_ID) == type && nth-- == 0)
			return window;
	}
	return 0;
}

void virtio_reset(uint32_t window)
{
	write32(window + VM_STATUS, 0);
}

static void set_queue(uint32_t window, unsigned index, struct ring *ring)
{
	write32(window + VM_QUEUE_SEL, index);
	write32(window + VM_QUEUE_NUM, RING_SIZE);
	write32(window + VM_QUEUE_DESC, (uint32_t)ring->desc);
	write32(window + VM_QUEUE_DESC + 4, 0);
	write32(window + VM_QUEUE_DRIVER, (uint32_t)&ring->avail);
	write32(window + VM_QUEUE_DRIVER + 4, 0);
	write32(window + VM_QUEUE_DEVICE, (uint32_t)&ring->used);
	write32(window + VM_QUEUE_DEVICE + 4, 0);
	write32(window + VM_QUEUE_READY, 1);
}

bool virtio_start(uint32_t window, uint32_t features_low, struct ring *rings, unsigned count)
{
	virtio_reset(window);
	write32(window + VM_STATUS, ST_ACKNOWLEDGE);
	write32(window + VM_STATUS, ST_ACKNOWLEDGE | ST_DRIVER);
	write32(window + VM_DRIVER_FEATURES_SEL, 0);
	write32(window + VM_DRIVER_FEATURES, features_low);
	write32(window + VM_DRIVER_FEATURES_SEL, 1);
	write32(window + VM_DRIVER_FEATURES, 1); /* VIRTIO_F_VERSION_1 */
	write32(window + VM_STATUS, ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK);
	if (!(read32(window + VM_STATUS) & ST_FEATURES_OK))
		return false;
	for (unsigned i = 0; i < count; i++) {
		memset(&rings[i], 0, sizeof(rings[i]));
		set_queue(window, i, &rings[i]);
	}
	write32(window + VM_STATUS, ST_ACKNOWLEDGE | ST_DRIVER | ST_FEATURES_OK | ST_DRIVER_OK);
	return (read32(window + VM_STATUS) & (ST_DRIVER_OK | ST_NEEDS_RESET)) == ST_DRIVER_OK;
}

void ring_submit(uint32_t window, struct ring *ring, unsigned queue, uint16_t head)
{
	ring->avail.ring[ring->avail.idx % RING_SIZE] = head;
	barrier();
	ring->avail.idx++;
	barrier();
	write32(window + VM_QUEUE_NOTIFY, queue);
}

bool ring_wait(uint32_t window, struct ring *ring, uint16_t wanted)
{
	volatile uint16_t *used_idx = &ring->used.idx;

	for (unsigned i = 0; i < WAIT_TRIES; i++) {
		if (*used_idx == wanted)
			return true;
		if ((i & 1023) == 1023 && (read32(window + VM_STATUS) & ST_NEEDS_RESET))
			return false;
	}
	return false;
}
