// SPDX-License-Identifier: Apache-2.0
/* Little-endian wire integers: types that the compiler will not mix with host integers, and accessors for byte buffers. */
#ifndef BANTAM_CORE_BYTES_H
#define BANTAM_CORE_BYTES_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

typedef struct {
	uint16_t raw;
} le16_t;
typedef struct {
	uint32_t raw;
} le32_t;
typedef struct {
	uint64_t raw;
} le64_t;

static inline uint16_t le16_get(le16_t value)
{
	return le16toh(value.raw);
}
static inline uint32_t le32_get(le32_t value)
{
	return le32toh(value.raw);
}
static inline uint64_t le64_get(le64_t value)
{
	return le64toh(value.raw);
}
static inline le16_t le16_make(uint16_t value)
{
	return (le16_t){htole16(value)};
}
static inline le32_t le32_make(uint32_t value)
{
	return (le32_t){htole32(value)};
}
static inline le64_t le64_make(uint64_t value)
{
	return (le64_t){htole64(value)};
}

static inline void put_le16(void *out, uint16_t value)
{
	value = htole16(value);
	memcpy(out, &value, sizeof(value));
}
static inline void put_le32(void *out, uint32_t value)
{
	value = htole32(value);
	memcpy(out, &value, sizeof(value));
}
static inline void put_le64(void *out, uint64_t value)
{
	value = htole64(value);
	memcpy(out, &value, sizeof(value));
}
static inline uint16_t get_le16(const void *in)
{
	uint16_t value;
	memcpy(&value, in, sizeof(value));
	return le16toh(value);
}
static inline uint32_t get_le32(const void *in)
{
	uint32_t value;
	memcpy(&value, in, sizeof(value));
	return le32toh(value);
}
static inline uint64_t get_le64(const void *in)
{
	uint64_t value;
	memcpy(&value, in, sizeof(value));
	return le64toh(value);
}

#endif
