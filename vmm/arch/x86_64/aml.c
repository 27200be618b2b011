// SPDX-License-Identifier: Apache-2.0
/* A writer of ACPI Machine Language. */
#include "vmm/arch/x86_64/aml.h"

#include <assert.h>
#include <string.h>
#include "vmm/core/bytes.h"

/* ACPI 6.5, table 20.2 */
enum {
	ZERO_OP = 0x00,
	ONE_OP = 0x01,
	NAME_OP = 0x08,
	BYTE_PREFIX = 0x0a,
	WORD_PREFIX = 0x0b,
	DWORD_PREFIX = 0x0c,
	STRING_PREFIX = 0x0d,
	QWORD_PREFIX = 0x0e,
	SCOPE_OP = 0x10,
	BUFFER_OP = 0x11,
	PACKAGE_OP = 0x12,
	METHOD_OP = 0x14,
	EXT_OP_PREFIX = 0x5b,
	EXT_DEVICE_OP = 0x82,
	ARG0_OP = 0x68,
	NOTIFY_OP = 0x86,
	LEQUAL_OP = 0x93,
	IF_OP = 0xa0,
};

#define METHOD_SERIALIZED 0x08u
#define SEGMENT_BYTES     4

void aml_init(struct aml *aml, uint8_t *buffer, size_t capacity)
{
	*aml = (struct aml){.bytes = buffer, .capacity = capacity};
}

static void put(struct aml *aml, const void *bytes, size_t len)
{
	if (aml->full || len > aml->capacity - aml->len) {
		aml->full = true;
		return;
	}
	memcpy(aml->bytes + aml->len, bytes, len);
	aml->len += len;
}

static void put_byte(struct aml *aml, uint8_t byte)
{
	put(aml, &byte, 1);
}

void aml_path(struct aml *aml, const char *path)
{
	if (*path == '\\')
		put_byte(aml, (uint8_t)*path++);
	assert(strlen(path) == SEGMENT_BYTES);
	put(aml, path, SEGMENT_BYTES);
}

void aml_integer(struct aml *aml, uint64_t value)
{
	uint8_t raw[8];

	put_le64(raw, value);
	if (value <= 1) {
		put_byte(aml, value ? ONE_OP : ZERO_OP);
	} else if (value <= UINT8_MAX) {
		put_byte(aml, BYTE_PREFIX);
		put(aml, raw, 1);
	} else if (value <= UINT16_MAX) {
		put_byte(aml, WORD_PREFIX);
		put(aml, raw, 2);
	} else if (value <= UINT32_MAX) {
		put_byte(aml, DWORD_PREFIX);
		put(aml, raw, 4);
	} else {
		put_byte(aml, QWORD_PREFIX);
		put(aml, raw, 8);
	}
}

void aml_string(struct aml *aml, const char *text)
{
	put_byte(aml, STRING_PREFIX);
	put(aml, text, strlen(text) + 1);
}

/* ---- what has a length ---- */

size_t aml_open_scope(struct aml *aml, const char *path)
{
	put_byte(aml, SCOPE_OP);
	size_t mark = aml->len;

	aml_path(aml, path);
	return mark;
}

size_t aml_open_device(struct aml *aml, const char *name)
{
	put_byte(aml, EXT_OP_PREFIX);
	put_byte(aml, EXT_DEVICE_OP);
	size_t mark = aml->len;

	aml_path(aml, name);
	return mark;
}

size_t aml_open_method(struct aml *aml, const char *name, unsigned arg_count)
{
	put_byte(aml, METHOD_OP);
	size_t mark = aml->len;

	aml_path(aml, name);
	put_byte(aml, (uint8_t)(METHOD_SERIALIZED | arg_count));
	return mark;
}

size_t aml_open_package(struct aml *aml, uint8_t elements)
{
	put_byte(aml, PACKAGE_OP);
	size_t mark = aml->len;

	put_byte(aml, elements);
	return mark;
}

size_t aml_open_if_arg0_is(struct aml *aml, uint64_t value)
{
	put_byte(aml, IF_OP);
	size_t mark = aml->len;

	put_byte(aml, LEQUAL_OP);
	put_byte(aml, ARG0_OP);
	aml_integer(aml, value);
	return mark;
}

/*
 * PkgLength (20.2.4), which counts itself: one byte up to 63; otherwise the number of following bytes in bits 6-7 and
 * the length's low four bits, then the rest.
 */
static size_t encode_length(uint8_t out[4], size_t payload)
{
	if (payload + 1 <= 0x3f) {
		out[0] = (uint8_t)(payload + 1);
		return 1;
	}
	size_t extra = payload + 2 <= 0xfff ? 1 : 2;
	size_t total = payload + 1 + extra;

	assert(total <= 0xfffff);
	out[0] = (uint8_t)(extra << 6 | (total & 0xf));
	out[1] = (uint8_t)(total >> 4);
	out[2] = (uint8_t)(total >> 12);
	return 1 + extra;
}

/* The length is known only now, and so is its own size: what follows it moves up. */
void aml_close(struct aml *aml, size_t mark)
{
	uint8_t length[4];

	if (aml->full)
		return;
	assert(mark <= aml->len);
	size_t payload = aml->len - mark;
	size_t added = encode_length(length, payload);

	if (added > aml->capacity - aml->len) {
		aml->full = true;
		return;
	}
	memmove(aml->bytes + mark + added, aml->bytes + mark, payload);
	memcpy(aml->bytes + mark, length, added);
	aml->len += added;
}

/* ---- names ---- */

void aml_name(struct aml *aml, const char *name)
{
	put_byte(aml, NAME_OP);
	aml_path(aml, name);
}

void aml_name_integer(struct aml *aml, const char *name, uint64_t value)
{
	aml_name(aml, name);
	aml_integer(aml, value);
}

void aml_name_string(struct aml *aml, const char *name, const char *text)
{
	aml_name(aml, name);
	aml_string(aml, text);
}

void aml_notify(struct aml *aml, const char *object, uint8_t value)
{
	put_byte(aml, NOTIFY_OP);
	aml_path(aml, object);
	aml_integer(aml, value);
}

/* ---- resource templates ---- */

#define SMALL_IO_PORT     0x47u /* 6.4.2.5, seven bytes follow */
#define SMALL_END_TAG     0x79u /* 6.4.2.9, checksum 0: not checked */
#define LARGE_MEMORY32    0x86u /* 6.4.3.4 */
#define LARGE_INTERRUPT   0x89u /* 6.4.3.6 */
#define IO_DECODE_16      1u
#define INTERRUPT_CONSUME 1u
#define INTERRUPT_EDGE    2u

static void add_resource(struct aml_resources *resources, const uint8_t *bytes, size_t len)
{
	assert(len <= sizeof(resources->bytes) - resources->len);
	memcpy(resources->bytes + resources->len, bytes, len);
	resources->len += len;
}

void aml_add_memory32(struct aml_resources *resources, bool writable, uint32_t base, uint32_t len)
{
	uint8_t raw[12] = {LARGE_MEMORY32, 9, 0, writable};

	put_le32(raw + 4, base);
	put_le32(raw + 8, len);
	add_resource(resources, raw, sizeof(raw));
}

void aml_add_ports(struct aml_resources *resources, uint16_t base, uint8_t len)
{
	uint8_t raw[8] = {SMALL_IO_PORT, IO_DECODE_16, 0, 0, 0, 0, 1, len};

	put_le16(raw + 2, base);
	put_le16(raw + 4, base);
	add_resource(resources, raw, sizeof(raw));
}

void aml_add_interrupt(struct aml_resources *resources, uint32_t gsi)
{
	uint8_t raw[9] = {LARGE_INTERRUPT, 6, 0, INTERRUPT_CONSUME | INTERRUPT_EDGE, 1};

	put_le32(raw + 5, gsi);
	add_resource(resources, raw, sizeof(raw));
}

void aml_name_resources(struct aml *aml, const struct aml_resources *resources)
{
	static const uint8_t end[2] = {SMALL_END_TAG, 0};

	aml_name(aml, "_CRS");
	put_byte(aml, BUFFER_OP);
	size_t mark = aml->len;

	aml_integer(aml, resources->len + sizeof(end));
	put(aml, resources->bytes, resources->len);
	put(aml, end, sizeof(end));
	aml_close(aml, mark);
}
