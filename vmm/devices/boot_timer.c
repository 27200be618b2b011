// SPDX-License-Identifier: Apache-2.0
/* The boot timer. */
#include "vmm/devices/boot_timer.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "vmm/core/log.h"

struct boot_timer {
	struct boot_time start; /* constant while vCPUs run, hence no lock */
};

static uint64_t clock_us(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

struct boot_time boot_time_now(void)
{
	return (struct boot_time){
		.wall_us = clock_us(CLOCK_MONOTONIC),
		.cpu_us = clock_us(CLOCK_PROCESS_CPUTIME_ID),
	};
}

static void log_boot_time(const struct boot_timer *timer)
{
	struct boot_time now = boot_time_now();
	unsigned long long wall_us = now.wall_us - timer->start.wall_us;
	unsigned long long cpu_us = now.cpu_us - timer->start.cpu_us;

	log_limited(LOG_LEVEL_INFO, "Guest-boot-time = %6llu us %llu ms, %6llu CPU us %llu CPU ms",
		    wall_us, wall_us / 1000, cpu_us, cpu_us / 1000);
}

static void read_nothing(void *ctx, uint64_t offset, void *data, uint32_t len)
{
	(void)ctx;
	(void)offset;
	memset(data, 0, len);
}

static void write_timer(void *ctx, uint64_t offset, const void *data, uint32_t len)
{
	const uint8_t *value = data;

	if (offset == 0 && len == 1 && *value == BOOT_TIMER_MAGIC)
		log_boot_time(ctx);
}

const struct bus_ops boot_timer_bus_ops = {.read = read_nothing, .write = write_timer};

struct boot_timer *boot_timer_new(void)
{
	struct boot_timer *timer = calloc(1, sizeof(*timer));

	if (timer)
		timer->start = boot_time_now();
	return timer;
}

void boot_timer_free(struct boot_timer *timer)
{
	free(timer);
}

void boot_timer_set_start(struct boot_timer *timer, struct boot_time start)
{
	timer->start = start;
}
