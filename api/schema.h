// SPDX-License-Identifier: Apache-2.0
/*
 * Declarative JSON fields: one row per field, used to parse, to merge a PATCH, to print and to free.
 *
 * DOC: A schema is a table of rows, each tying a JSON name to a member of a plain C struct. Parsing writes only what
 * the request gives, so the caller fills in the defaults first (PUT) or a copy of what is there (PATCH). An error names
 * the field with its whole path ("rate_limiter.ops.size"), what was found and what was expected.
 */
#ifndef API_SCHEMA_H
#define API_SCHEMA_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "vmm/core/cleanup.h"
#include "vmm/core/error.h"

struct text;

enum field_kind {
	FIELD_BOOL,    /* bool */
	FIELD_U16,     /* uint16_t */
	FIELD_U32,     /* uint32_t */
	FIELD_U64,     /* uint64_t, up to JSON_INTEGER_MAX */
	FIELD_STRING,  /* char *, owned by the struct */
	FIELD_STRINGS, /* char *, owned: any object of strings, kept as checked compact JSON */
	FIELD_ENUM,    /* an enum; names gives the words */
	FIELD_OBJECT,  /* an embedded struct; object gives its rows */
	FIELD_LIST, /* an embedded array of structs and, at count_offset, a uint32_t: how many; max gives its room */
	FIELD_KIND_COUNT
};

#define FIELD_REQUIRED   1u
#define FIELD_NULLABLE   2u  /* null means: not given */
#define FIELD_CASELESS   4u  /* an enum's words in any case */
#define FIELD_HIDDEN     8u  /* read, never printed */
#define FIELD_OMIT_UNSET 16u /* left out of the printed object when it is zero, instead of null */

/* The words of an enum, ended by a NULL word. The first word of a value is the one that is printed. */
struct enum_word {
	const char *word;
	unsigned value;
};

struct schema;

struct field {
	const char *name;
	enum field_kind kind;
	unsigned flags;
	size_t offset;
	bool has_given;      /* there is a bool member that says whether the field was given */
	size_t given_offset; /* of that member; unset prints null */
	uint64_t min, max;   /* of integers; max 0: the kind's own */
	size_t count_offset, item_bytes; /* of a list */
	const struct enum_word *words;
	const struct schema *object;
};

struct schema {
	const struct field *fields;
	size_t count;
	bool allow_unknown;
	/* Whether an embedded object says nothing at all and prints as null. NULL: never. */
	bool (*is_empty)(const void *object);
};

#define SCHEMA_ROWS(rows) .fields = (rows), .count = sizeof(rows) / sizeof((rows)[0])

/*
 * PUT: required fields must be there. out holds the defaults; strings given replace (and free) what is there. On error
 * out may be partly filled in: free it with schema_free().
 */
int schema_parse(const struct schema *schema, const cJSON *json, void *out,
		 struct error *err) must_check;

/* PATCH: nothing is required, null is "not given". *given counts the fields that were. */
int schema_merge(const struct schema *schema, const cJSON *json, void *out, unsigned *given,
		 struct error *err) must_check;

/* Appends the struct as a compact JSON object, fields in the order of the rows. */
void schema_print(const struct schema *schema, const void *in, struct text *out);

/* Frees the strings and sets them to NULL. */
void schema_free(const struct schema *schema, void *object);

#endif
