// SPDX-License-Identifier: Apache-2.0
/*
 * The state file: named, versioned sections of little-endian fields, and the stream that devices are saved to and loaded
 * from.
 *
 * DOC: One list of fields for both directions. A device describes itself once, in a function that names its fields in
 * order (`state_u16(s, "queue.size", &vq->size)`); saving appends the values, loading reads, checks and stores them. The
 * first mistake is kept in the stream's error and later calls do nothing, so a list of fields needs no checks between
 * its lines. What a value means is checked by the same function, with state_require(), which holds in both directions.
 *
 * A section has a version of its own. A field that a later version adds is read only from sections that have it:
 *     if (state_version(s) >= 2)
 *             state_u32(s, "later", &device->later);
 * and a section newer than this program, or older than its kind still reads, is refused by name.
 *
 * The file is hostile: its size is bounded, each byte is covered by a checksum (against accidents; an attacker can
 * compute it), lengths are checked before they are used, and loading allocates at most what the file holds.
 * README.md describes the bytes.
 */
#ifndef SNAPSHOTS_STATE_H
#define SNAPSHOTS_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "vmm/core/cleanup.h"
#include "vmm/core/error.h"

#define STATE_MAJOR          1u
#define STATE_MINOR          0u
#define STATE_PATCH          0u
#define STATE_FILE_BYTES_MAX 10000000u
#define STATE_SECTIONS_MAX   1024u
#define STATE_NAME_BYTES     24u

/* Processor architectures by their ELF numbers. */
#define STATE_ARCH_X86_64 62u

struct state;

/* A kind of section. fields() is called in both directions. */
struct state_kind {
	const char *name; /* shorter than STATE_NAME_BYTES */
	uint16_t version; /* what is written */
	uint16_t oldest;  /* still read */
	void (*fields)(struct state *s, void *object);
};

/* One section of a file in memory; payload leads into the file's bytes. */
struct state_section {
	char name[STATE_NAME_BYTES]; /* NUL-terminated */
	uint32_t instance;
	uint32_t version;
	const uint8_t *payload;
	uint64_t payload_bytes;
};

struct state_file {
	uint8_t *bytes; /* owned */
	size_t len, capacity;
	uint16_t major, minor, patch;
	uint32_t section_count;
	struct state_section *sections; /* owned; only when opened for reading */
};

/* ---- writing ---- */

/* An empty file that sections are appended to. 0 or -ENOMEM with a text. Freed by state_file_free(). */
int state_file_new(struct state_file *file, struct error *err) must_check;

/* Appends a section of that kind and instance with the object's fields. */
int state_save(struct state_file *file, const struct state_kind *kind, uint32_t instance,
	       void *object, struct error *err) must_check;

/* Completes the header: file->bytes, file->len are what belongs on the disk. */
void state_file_finish(struct state_file *file);

/* ---- reading ---- */

/*
 * Takes the bytes over (malloc'd; freed by state_file_free(), also after an error) and checks all that can be checked
 * without knowing a section's kind: magic, version, architecture, lengths, checksums. -EINVAL and a text that names the
 * place and what was expected.
 */
int state_file_open(struct state_file *file, uint8_t *bytes, size_t len,
		    struct error *err) must_check;

/* Reads a file from the disk, once, and opens it. -errno and a text ("Failed to open snapshot file: …"). */
int state_file_read(struct state_file *file, const char *path, struct error *err) must_check;

void state_file_free(struct state_file *file);

/* NULL: there is none. */
const struct state_section *state_find(const struct state_file *file, const char *name,
				       uint32_t instance);
unsigned state_count(const struct state_file *file, const char *name);

/* Loads a section into the object. All of it must be used up. The text names section, field and what is wrong. */
int state_load(const struct state_file *file, const struct state_kind *kind, uint32_t instance,
	       void *object, struct error *err) must_check;

/* ---- for lists of fields ---- */

bool state_is_loading(const struct state *s);
unsigned state_version(const struct state *s); /* of the section; the newest when saving */
bool state_failed(const struct state *s);

void state_bool(struct state *s, const char *field, bool *value);
void state_u8(struct state *s, const char *field, uint8_t *value);
void state_u16(struct state *s, const char *field, uint16_t *value);
void state_u32(struct state *s, const char *field, uint32_t *value);
void state_u64(struct state *s, const char *field, uint64_t *value);
/* An enum, stored as 32 bits; below count, or the section is refused. */
#define state_enum(s, field, value, count) state_enum_value(s, field, (unsigned *)(value), count)
void state_enum_value(struct state *s, const char *field, unsigned *value, unsigned count);
/* Exactly len bytes without a meaning in byte order. */
void state_bytes(struct state *s, const char *field, void *bytes, size_t len);
/* An owned string or NULL; loading gives a new one and leaves what was there alone, so *text must be NULL. */
void state_string(struct state *s, const char *field, char **text, size_t len_max);
/* The number of elements of an array that follows: at most max, or the section is refused. */
void state_length(struct state *s, const char *field, uint32_t *count, uint32_t max);
/* *bytes: malloc'd, len_max at most; the caller frees it. For what has no fixed size (a processor's vector state). */
void state_blob(struct state *s, const char *field, uint8_t **bytes, uint32_t *len,
		uint32_t len_max);

/* What must hold of what was just read; expectation completes "expected …". */
void state_require(struct state *s, bool holds, const char *field, const char *expectation);

#endif
