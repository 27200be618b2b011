// SPDX-License-Identifier: Apache-2.0
/* The stream of fields, in both directions. */
#include "snapshots/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "snapshots/state_internal.h"
#include "vmm/core/bytes.h"

#define FIRST_CAPACITY (64u << 10)

struct state {
	const struct state_kind *kind;
	uint32_t instance;
	uint32_t version;
	struct state_file *out; /* saving; NULL: loading */
	const uint8_t *at, *end;
	struct error *err;
	int failed; /* -errno; err says why */
};

bool state_is_loading(const struct state *s)
{
	return !s->out;
}

unsigned state_version(const struct state *s)
{
	return s->version;
}

bool state_failed(const struct state *s)
{
	return s->failed != 0;
}

static void no_memory(struct state *s)
{
	s->failed = error_set_os(s->err, -ENOMEM, "no memory for a snapshot's state");
}

void state_require(struct state *s, bool holds, const char *field, const char *expectation)
{
	if (holds || s->failed)
		return;
	s->failed = error_set(s->err, -EINVAL,
			      "Invalid snapshot state: section `%s` %u, field `%s`: expected %s",
			      s->kind->name, s->instance, field, expectation);
}

int state_reserve(struct state_file *file, size_t more)
{
	size_t capacity = file->capacity ? file->capacity : FIRST_CAPACITY;

	if (more > STATE_FILE_BYTES_MAX || file->len + more > STATE_FILE_BYTES_MAX)
		return -EFBIG;
	while (capacity < file->len + more)
		capacity *= 2;
	if (capacity == file->capacity)
		return 0;
	uint8_t *bytes = realloc(file->bytes, capacity);

	if (!bytes)
		return -ENOMEM;
	file->bytes = bytes;
	file->capacity = capacity;
	return 0;
}

/* Where the next len bytes are written to or read from; NULL when there is no room or there are none. */
static uint8_t *extend(struct state *s, size_t len)
{
	if (s->failed)
		return NULL;
	int ret = state_reserve(s->out, len);

	if (ret == -ENOMEM)
		no_memory(s);
	else if (ret)
		s->failed = error_set(s->err, ret, "Snapshot size exceeds limit of %u bytes",
				      STATE_FILE_BYTES_MAX);
	if (ret)
		return NULL;
	uint8_t *at = s->out->bytes + s->out->len;

	s->out->len += len;
	return at;
}

static const uint8_t *take(struct state *s, const char *field, size_t len)
{
	if (s->failed)
		return NULL;
	if (len > (size_t)(s->end - s->at)) {
		s->failed =
			error_set(s->err, -EINVAL,
				  "Invalid snapshot state: section `%s` %u ends before field `%s`",
				  s->kind->name, s->instance, field);
		return NULL;
	}
	const uint8_t *at = s->at;

	s->at += len;
	return at;
}

/* An integer of width bytes. */
static uint64_t integer(struct state *s, const char *field, uint64_t value, unsigned width)
{
	uint8_t raw[sizeof(uint64_t)] = {0};

	if (state_is_loading(s)) {
		const uint8_t *in = take(s, field, width);

		if (!in)
			return value;
		memcpy(raw, in, width);
		return get_le64(raw);
	}
	uint8_t *out = extend(s, width);

	if (out) {
		put_le64(raw, value);
		memcpy(out, raw, width);
	}
	return value;
}

void state_bool(struct state *s, const char *field, bool *value)
{
	/* Not looked at when loading: a bool that nobody has set is no bool. */
	uint64_t number = integer(s, field, state_is_loading(s) ? 0 : *value, 1);

	state_require(s, number <= 1, field, "0 or 1");
	*value = number == 1;
}

void state_u8(struct state *s, const char *field, uint8_t *value)
{
	*value = (uint8_t)integer(s, field, *value, sizeof(*value));
}

void state_u16(struct state *s, const char *field, uint16_t *value)
{
	*value = (uint16_t)integer(s, field, *value, sizeof(*value));
}

void state_u32(struct state *s, const char *field, uint32_t *value)
{
	*value = (uint32_t)integer(s, field, *value, sizeof(*value));
}

void state_u64(struct state *s, const char *field, uint64_t *value)
{
	*value = integer(s, field, *value, sizeof(*value));
}

void state_enum_value(struct state *s, const char *field, unsigned *value, unsigned count)
{
	uint64_t number = integer(s, field, *value, sizeof(uint32_t));

	state_require(s, number < count, field, "a value that this version knows");
	if (!s->failed)
		*value = (unsigned)number;
}

void state_bytes(struct state *s, const char *field, void *bytes, size_t len)
{
	if (state_is_loading(s)) {
		const uint8_t *in = take(s, field, len);

		if (in)
			memcpy(bytes, in, len);
		return;
	}
	uint8_t *out = extend(s, len);

	if (out)
		memcpy(out, bytes, len);
}

void state_length(struct state *s, const char *field, uint32_t *count, uint32_t max)
{
	uint64_t number = integer(s, field, *count, sizeof(*count));

	state_require(s, number <= max, field, "a smaller number of elements");
	*count = s->failed ? 0 : (uint32_t)number;
}

static void load_blob(struct state *s, const char *field, uint8_t **bytes, uint32_t *len,
		      uint32_t len_max)
{
	uint32_t count = 0;

	state_length(s, field, &count, len_max);
	const uint8_t *in = take(s, field, count);
	/* One more byte, so that an empty blob is no failure and a string has room for its end. */
	uint8_t *copy = in ? malloc((size_t)count + 1) : NULL;

	if (in && !copy)
		no_memory(s);
	if (!copy)
		return;
	memcpy(copy, in, count);
	copy[count] = 0;
	*bytes = copy;
	*len = count;
}

void state_blob(struct state *s, const char *field, uint8_t **bytes, uint32_t *len,
		uint32_t len_max)
{
	if (state_is_loading(s)) {
		load_blob(s, field, bytes, len, len_max);
		return;
	}
	state_length(s, field, len, len_max);
	state_bytes(s, field, *bytes, *len);
}

static void load_string(struct state *s, const char *field, char **text, uint32_t len_max)
{
	uint8_t *bytes = NULL;
	uint32_t len = 0;
	bool there = false;

	state_bool(s, field, &there);
	if (!there)
		return;
	load_blob(s, field, &bytes, &len, len_max);
	state_require(s, !bytes || memchr(bytes, 0, len) == NULL, field,
		      "a string without NUL bytes");
	if (s->failed)
		free(bytes);
	else
		*text = (char *)bytes;
}

void state_string(struct state *s, const char *field, char **text, size_t len_max)
{
	bool there = *text != NULL;
	uint32_t len = there ? (uint32_t)strnlen(*text, len_max + 1) : 0;

	if (state_is_loading(s)) {
		load_string(s, field, text, (uint32_t)len_max);
		return;
	}
	state_bool(s, field, &there);
	if (!there)
		return;
	state_length(s, field, &len, (uint32_t)len_max);
	state_bytes(s, field, *text, len);
}

/* ---- sections ---- */

int state_save(struct state_file *file, const struct state_kind *kind, uint32_t instance,
	       void *object, struct error *err)
{
	struct state s = {
		.kind = kind,
		.instance = instance,
		.version = kind->version,
		.out = file,
		.err = err,
	};
	size_t start = file->len;

	if (!extend(&s, STATE_SECTION_HEAD_BYTES))
		return s.failed;
	kind->fields(&s, object);
	if (!s.failed)
		s.failed = state_close_section(file, start, kind, instance, err);
	if (s.failed)
		file->len = start;
	return s.failed;
}

static int check_version(const struct state_section *section, const struct state_kind *kind,
			 struct error *err)
{
	if (section->version >= kind->oldest && section->version <= kind->version)
		return 0;
	return error_set(
		err, -EINVAL,
		"Invalid snapshot state: section `%s` %u has version %u, expected %u to %u",
		section->name, section->instance, section->version, kind->oldest, kind->version);
}

int state_load(const struct state_file *file, const struct state_kind *kind, uint32_t instance,
	       void *object, struct error *err)
{
	const struct state_section *section = state_find(file, kind->name, instance);

	if (!section)
		return error_set(err, -EINVAL,
				 "Invalid snapshot state: there is no section `%s` %u", kind->name,
				 instance);
	int ret = check_version(section, kind, err);

	if (ret)
		return ret;
	struct state s = {
		.kind = kind,
		.instance = instance,
		.version = section->version,
		.at = section->payload,
		.end = section->payload + section->payload_bytes,
		.err = err,
	};

	kind->fields(&s, object);
	if (!s.failed && s.at != s.end)
		s.failed = error_set(err, -EINVAL,
				     "Invalid snapshot state: section `%s` %u has %zu bytes more "
				     "than its fields",
				     kind->name, instance, (size_t)(s.end - s.at));
	return s.failed;
}
