// SPDX-License-Identifier: Apache-2.0
/* Checked arithmetic on values that an outsider chose. */
#ifndef BANTAM_CORE_CHECKED_H
#define BANTAM_CORE_CHECKED_H

#include <stdbool.h>
#include <stdint.h>

/* *sum = a + b; true when the sum does not fit (then *sum is the wrapped value and must not be used). */
static inline bool add_overflows(uint64_t a, uint64_t b, uint64_t *sum)
{
	return __builtin_add_overflow(a, b, sum);
}

/* *product = a * b; true when the product does not fit. */
static inline bool mul_overflows(uint64_t a, uint64_t b, uint64_t *product)
{
	return __builtin_mul_overflow(a, b, product);
}

/* Does [offset, offset + len) lie in [0, size)? An empty range at offset == size does. */
static inline bool range_within(uint64_t offset, uint64_t len, uint64_t size)
{
	return offset <= size && len <= size - offset;
}

/* Rounding; align must be a power of two. align_up wraps near 2^64: check the argument first. */
static inline uint64_t align_up(uint64_t value, uint64_t align)
{
	return (value + align - 1) & ~(align - 1);
}

static inline uint64_t align_down(uint64_t value, uint64_t align)
{
	return value & ~(align - 1);
}

#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)

#endif
