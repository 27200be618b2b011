// SPDX-License-Identifier: Apache-2.0
/*
 * What a tiny guest has: ports, registers, a console on the serial port, checks, and a small virtio-mmio driver.
 *
 * A guest prints `PASS name` or `FAIL name: text` for each of its checks and at last `DONE`; then it resets the machine
 * by the keyboard controller, which ends the monitor with exit code 0. Integer code only, 32-bit, ring 0, no interrupts.
 */
#ifndef TESTS_GUEST_H
#define TESTS_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline void outb(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}
static inline uint8_t inb(uint16_t port)
{
	uint8_t value;
	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}
static inline void outw(uint16_t port, uint16_t value)
{
	__asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}
static inline uint16_t inw(uint16_t port)
{
	uint16_t value;
	__asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}
static inline void outl(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}
static inline uint32_t inl(uint16_t port)
{
	uint32_t value;
	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline uint8_t read8(uint32_t addr)
{
	return *(volatile uint8_t *)addr;
}
static inline uint16_t read16(uint32_t addr)
{
	return *(volatile uint16_t *)addr;
}
static inline uint32_t read32(uint32_t addr)
{
	return *(volatile uint32_t *)addr;
}
static inline void write8(uint32_t addr, uint8_t value)
{
	*(volatile uint8_t *)addr = value;
}
static inline void write16(uint32_t addr, uint16_t value)
{
	*(volatile uint16_t *)addr = value;
}
static inline void write32(uint32_t addr, uint32_t value)
{
	*(volatile uint32_t *)addr = value;
}
static inline void barrier(void)
{
	__asm__ volatile("" : : : "memory");
}

void put_text(const char *text);
void put_hex(uint32_t value);

/* One check with a name; prints PASS or FAIL with both values. */
void check_equal(const char *name, uint32_t got, uint32_t wanted);
void check(const char *name, bool good);

/* Ends the machine. Called when guest_main() returns. */
void guest_finish(void) __attribute__((noreturn));
void guest_main(void);

/* ---- virtio-mmio ---- */
#define VIRTIO_WINDOW(index) (0xc0001000u + (uint32_t)(index)*0x1000u)

enum {
	VM_MAGIC = 0x000,
	VM_VERSION = 0x004,
	VM_DEVICE_ID = 0x008,
	VM_DEVICE_FEATURES = 0x010,
	VM_DEVICE_FEATURES_SEL = 0x014,
	VM_DRIVER_FEATURES = 0x020,
	VM_DRIVER_FEATURES_SEL = 0x024,
	VM_QUEUE_SEL = 0x030,
	VM_QUEUE_NUM_MAX = 0x034,
	VM_QUEUE_NUM = 0x038,
	VM_QUEUE_READY = 0x044,
	VM_QUEUE_NOTIFY = 0x050,
	VM_INTERRUPT_STATUS = 0x060,
	VM_INTERRUPT_ACK = 0x064,
	VM_STATUS = 0x070,
	VM_QUEUE_DESC = 0x080,
	VM_QUEUE_DRIVER = 0x090,
	VM_QUEUE_DEVICE = 0x0a0,
	VM_CONFIG = 0x100,

	ST_ACKNOWLEDGE = 1,
	ST_DRIVER = 2,
	ST_DRIVER_OK = 4,
	ST_FEATURES_OK = 8,
	ST_NEEDS_RESET = 64,
	ST_FAILED = 128,

	D_NEXT = 1,
	D_WRITE = 2,
	D_INDIRECT = 4,
};

#define RING_SIZE 16u

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

struct ring {
	struct desc desc[RING_SIZE] __attribute__((aligned(16)));
	struct {
		uint16_t flags, idx, ring[RING_SIZE], used_event;
	} avail __attribute__((aligned(2)));
	struct {
		uint16_t flags, idx;
		struct {
			uint32_t id, len;
		} ring[RING_SIZE];
		uint16_t avail_event;
	} used __attribute__((aligned(4)));
};

/* The window of the nth device (from 0) of a virtio type; 0 when there is none. */
uint32_t virtio_find(uint32_t type, unsigned nth);

/* Steps of 3.1.1 up to and with DRIVER_OK: accepts VERSION_1 and the given low features; sets up count queues. */
bool virtio_start(uint32_t window, uint32_t features_low, struct ring *rings, unsigned count);

void virtio_reset(uint32_t window);

/* Makes head available and notifies. */
void ring_submit(uint32_t window, struct ring *ring, unsigned queue, uint16_t head);

/* Spins until used.idx is wanted, or the device needs a reset, or a bound of tries. true: reached. */
bool ring_wait(uint32_t window, struct ring *ring, uint16_t wanted);

static inline void set_desc(struct ring *ring, unsigned at, const volatile void *buffer,
			    uint32_t len, uint16_t flags, uint16_t next)
{
	ring->desc[at] = (struct desc){(uint32_t)buffer, len, flags, next};
}

void *memset(void *to, int value, size_t len);
void *memcpy(void *to, const void *from, size_t len);

#endif
