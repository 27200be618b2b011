// SPDX-License-Identifier: Apache-2.0
/* Clocks in microseconds. */
#ifndef BANTAM_JAILER_CLOCK_H
#define BANTAM_JAILER_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_us(clockid_t clock)
{
	struct timespec now = {0};
	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

#endif
