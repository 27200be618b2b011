// SPDX-License-Identifier: Apache-2.0
/* Parsing, printing and freeing of structs by rows of fields. */
#include "api/schema.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "api/json.h"
#include "api/text.h"

/* Enums are stored through an unsigned: the compiler must not choose another size for them. */
_Static_assert(sizeof(enum field_kind) == sizeof(unsigned), "enums are as wide as unsigned");

#define PATH_BYTES     96
#define EXPECTED_BYTES 384

/* Where the parser is, for error texts: the names of the enclosing objects, each with a dot behind it. */
struct place {
	char path[PATH_BYTES];
	bool partial; /* PATCH */
	unsigned given;
	struct error *err;
};

static int parse_object(const struct schema *schema, const cJSON *json, void *out,
			struct place *place);

static void *member(void *object, size_t offset)
{
	return (char *)object + offset;
}

static const void *const_member(const void *object, size_t offset)
{
	return (const char *)object + offset;
}

/* ---- what a field expects, in words ---- */

static uint64_t field_max(const struct field *field)
{
	if (field->max)
		return field->max;
	return field->kind == FIELD_U16   ? UINT16_MAX
	       : field->kind == FIELD_U32 ? UINT32_MAX
					  : JSON_INTEGER_MAX;
}

static void describe_words(const struct enum_word *words, char *out, size_t bytes)
{
	int used = snprintf(out, bytes, "one of");

	for (; words->word && used > 0 && (size_t)used < bytes; words++) {
		int len = snprintf(out + used, bytes - (size_t)used, " \"%s\"%s", words->word,
				   words[1].word ? "," : "");
		used += len;
	}
}

static void describe_expected(const struct field *field, char *out, size_t bytes)
{
	switch (field->kind) {
	case FIELD_BOOL:
		snprintf(out, bytes, "true or false");
		return;
	case FIELD_U16:
	case FIELD_U32:
	case FIELD_U64:
		snprintf(out, bytes, "an integer from %" PRIu64 " to %" PRIu64, field->min,
			 field_max(field));
		return;
	case FIELD_STRING:
		snprintf(out, bytes, "a string");
		return;
	case FIELD_STRINGS:
		snprintf(out, bytes, "an object of strings");
		return;
	case FIELD_ENUM:
		describe_words(field->words, out, bytes);
		return;
	case FIELD_LIST:
		snprintf(out, bytes, "an array of at most %" PRIu64 " objects", field->max);
		return;
	case FIELD_OBJECT:
	case FIELD_KIND_COUNT:
		break;
	}
	snprintf(out, bytes, "an object");
}

static int wrong_value(const struct field *field, const cJSON *json, struct place *place)
{
	char expected[EXPECTED_BYTES], found[96];

	describe_expected(field, expected, sizeof(expected));
	json_describe(json, found, sizeof(found));
	return error_set(place->err, -EINVAL, "field `%s%s`: expected %s, found %s", place->path,
			 field->name, expected, found);
}

static int missing_field(const struct field *field, struct place *place)
{
	char expected[EXPECTED_BYTES];

	describe_expected(field, expected, sizeof(expected));
	return error_set(place->err, -EINVAL, "missing field `%s%s`: expected %s", place->path,
			 field->name, expected);
}

static int unknown_field(const struct schema *schema, const char *name, struct place *place)
{
	char known[EXPECTED_BYTES] = "";
	size_t used = 0;

	for (size_t i = 0; i < schema->count && used < sizeof(known); i++) {
		int len = snprintf(known + used, sizeof(known) - used, "%s`%s`", i ? ", " : "",
				   schema->fields[i].name);
		used += len > 0 ? (size_t)len : 0;
	}
	return error_set(place->err, -EINVAL, "unknown field `%s%.64s`: expected %s%s", place->path,
			 name, schema->count > 1 ? "one of " : "", known);
}

/* ---- parsing ---- */

static int parse_integer(const struct field *field, const cJSON *json, void *out,
			 struct place *place)
{
	uint64_t value;

	if (!cJSON_IsNumber(json))
		return wrong_value(field, json, place);
	/* The order matters: only a double that is in range may be converted. */
	if (!(json->valuedouble >= (double)field->min) ||
	    !(json->valuedouble <= (double)field_max(field)))
		return wrong_value(field, json, place);
	value = (uint64_t)json->valuedouble;
	if ((double)value < json->valuedouble)
		return wrong_value(field, json, place);
	if (field->kind == FIELD_U16)
		*(uint16_t *)out = (uint16_t)value;
	else if (field->kind == FIELD_U32)
		*(uint32_t *)out = (uint32_t)value;
	else
		*(uint64_t *)out = value;
	return 0;
}

static int parse_string(const struct field *field, const cJSON *json, void *out,
			struct place *place)
{
	char **slot = out, *copy;

	if (!cJSON_IsString(json))
		return wrong_value(field, json, place);
	copy = strdup(json->valuestring);
	if (!copy)
		return error_set(place->err, -ENOMEM, "no memory for field `%s%s`", place->path,
				 field->name);
	free(*slot);
	*slot = copy;
	return 0;
}

static int parse_strings(const struct field *field, const cJSON *json, void *out,
			 struct place *place)
{
	struct text members = {0};
	char **slot = out;

	if (!cJSON_IsObject(json))
		return wrong_value(field, json, place);
	text_add(&members, "{", 1);
	for (const cJSON *child = json->child; child; child = child->next) {
		if (!cJSON_IsString(child)) {
			text_free(&members);
			return wrong_value(field, json, place);
		}
		json_write_string(&members, child->string);
		text_add(&members, ":", 1);
		json_write_string(&members, child->valuestring);
		text_add_string(&members, child->next ? "," : "");
	}
	text_add(&members, "}", 1);
	if (members.failed) {
		text_free(&members);
		return error_set(place->err, -ENOMEM, "no memory for field `%s%s`", place->path,
				 field->name);
	}
	free(*slot);
	*slot = members.data;
	return 0;
}

static int parse_enum(const struct field *field, const cJSON *json, void *out, struct place *place)
{
	const struct enum_word *word;

	for (word = field->words; cJSON_IsString(json) && word->word; word++) {
		bool same = field->flags & FIELD_CASELESS
				    ? !strcasecmp(word->word, json->valuestring)
				    : !strcmp(word->word, json->valuestring);
		if (same) {
			*(unsigned *)out = word->value;
			return 0;
		}
	}
	return wrong_value(field, json, place);
}

static int parse_embedded(const struct field *field, const cJSON *json, void *out,
			  struct place *place)
{
	size_t len = strlen(place->path);
	struct place inside = *place;
	int ret;

	if (!cJSON_IsObject(json))
		return wrong_value(field, json, place);
	snprintf(inside.path + len, sizeof(inside.path) - len, "%s.", field->name);
	/* A part of a PATCH replaces what it names as a whole: its own required fields are required. */
	inside.partial = false;
	ret = parse_object(field->object, json, out, &inside);
	return ret;
}

static int parse_value(const struct field *field, const cJSON *json, void *out, struct place *place)
{
	switch (field->kind) {
	case FIELD_BOOL:
		if (!cJSON_IsBool(json))
			return wrong_value(field, json, place);
		*(bool *)out = cJSON_IsTrue(json);
		return 0;
	case FIELD_U16:
	case FIELD_U32:
	case FIELD_U64:
		return parse_integer(field, json, out, place);
	case FIELD_STRING:
		return parse_string(field, json, out, place);
	case FIELD_STRINGS:
		return parse_strings(field, json, out, place);
	case FIELD_ENUM:
		return parse_enum(field, json, out, place);
	case FIELD_OBJECT:
	case FIELD_LIST: /* each of its objects */
	case FIELD_KIND_COUNT:
		break;
	}
	return parse_embedded(field, json, out, place);
}

/* object is what the list's offsets count from. */
static int parse_list(const struct field *field, const cJSON *json, void *object,
		      struct place *place)
{
	uint32_t *count = member(object, field->count_offset);
	char *items = member(object, field->offset);
	int ret = 0;

	if (!cJSON_IsArray(json) || (uint64_t)cJSON_GetArraySize(json) > field->max)
		return wrong_value(field, json, place);
	for (const cJSON *item = json->child; item && !ret; item = item->next) {
		ret = parse_value(field, item, items + *count * field->item_bytes, place);
		(*count)++; /* also what failed half-way is there to be freed */
	}
	return ret;
}

static int parse_field(const struct field *field, const cJSON *object, void *out,
		       struct place *place)
{
	const cJSON *json = cJSON_GetObjectItemCaseSensitive(object, field->name);
	int ret;

	if (json && cJSON_IsNull(json) && (place->partial || field->flags & FIELD_NULLABLE))
		json = NULL;
	if (!json)
		return field->flags & FIELD_REQUIRED && !place->partial
			       ? missing_field(field, place)
			       : 0;
	if (field->kind == FIELD_LIST)
		ret = parse_list(field, json, out, place);
	else
		ret = parse_value(field, json, member(out, field->offset), place);
	if (ret)
		return ret;
	place->given++;
	if (field->has_given)
		*(bool *)member(out, field->given_offset) = true;
	return 0;
}

static const struct field *find_field(const struct schema *schema, const char *name)
{
	for (size_t i = 0; i < schema->count; i++)
		if (!strcmp(schema->fields[i].name, name))
			return &schema->fields[i];
	return NULL;
}

static int parse_object(const struct schema *schema, const cJSON *json, void *out,
			struct place *place)
{
	int ret = 0;

	for (const cJSON *child = json->child; child && !schema->allow_unknown; child = child->next)
		if (!find_field(schema, child->string))
			return unknown_field(schema, child->string, place);
	for (size_t i = 0; i < schema->count && !ret; i++)
		ret = parse_field(&schema->fields[i], json, out, place);
	return ret;
}

static int parse_top(const struct schema *schema, const cJSON *json, void *out, struct place *place)
{
	char found[96];

	if (cJSON_IsObject(json))
		return parse_object(schema, json, out, place);
	json_describe(json, found, sizeof(found));
	return error_set(place->err, -EINVAL, "expected an object, found %s", found);
}

int schema_parse(const struct schema *schema, const cJSON *json, void *out, struct error *err)
{
	struct place place = {.err = err};

	return parse_top(schema, json, out, &place);
}

int schema_merge(const struct schema *schema, const cJSON *json, void *out, unsigned *given,
		 struct error *err)
{
	struct place place = {.partial = true, .err = err};
	int ret = parse_top(schema, json, out, &place);

	*given = place.given;
	return ret;
}

/* ---- printing ---- */

static const char *enum_word(const struct enum_word *words, unsigned value)
{
	for (; words->word; words++)
		if (words->value == value)
			return words->word;
	return "";
}

static bool is_unset(const struct field *field, const void *object)
{
	const void *value = const_member(object, field->offset);

	if (field->kind == FIELD_ENUM && field->flags & FIELD_OMIT_UNSET)
		return !*(const unsigned *)value;
	if (field->kind == FIELD_STRING || field->kind == FIELD_STRINGS)
		return !*(char *const *)value;
	return field->has_given && !*(const bool *)const_member(object, field->given_offset);
}

static void print_value(const struct field *field, const void *value, struct text *out)
{
	switch (field->kind) {
	case FIELD_BOOL:
		text_add_string(out, *(const bool *)value ? "true" : "false");
		return;
	case FIELD_U16:
		text_printf(out, "%" PRIu16, *(const uint16_t *)value);
		return;
	case FIELD_U32:
		text_printf(out, "%" PRIu32, *(const uint32_t *)value);
		return;
	case FIELD_U64:
		text_printf(out, "%" PRIu64, *(const uint64_t *)value);
		return;
	case FIELD_STRING:
		json_write_string(out, *(char *const *)value);
		return;
	case FIELD_STRINGS:
		text_add_string(out, *(char *const *)value);
		return;
	case FIELD_ENUM:
		json_write_string(out, enum_word(field->words, *(const unsigned *)value));
		return;
	case FIELD_OBJECT:
	case FIELD_LIST: /* each of its objects */
	case FIELD_KIND_COUNT:
		break;
	}
	if (field->object->is_empty && field->object->is_empty(value))
		text_add_string(out, "null");
	else
		schema_print(field->object, value, out);
}

/* object is what the list's offsets count from. */
static void print_list(const struct field *field, const void *object, struct text *out)
{
	const uint32_t *count = const_member(object, field->count_offset);

	text_add(out, "[", 1);
	for (uint32_t i = 0; i < *count; i++) {
		text_add_string(out, i ? "," : "");
		print_value(field, const_member(object, field->offset + i * field->item_bytes),
			    out);
	}
	text_add(out, "]", 1);
}

void schema_print(const struct schema *schema, const void *in, struct text *out)
{
	const char *comma = "";

	text_add(out, "{", 1);
	for (size_t i = 0; i < schema->count; i++) {
		const struct field *field = &schema->fields[i];
		bool unset = is_unset(field, in);

		if (field->flags & FIELD_HIDDEN || (unset && field->flags & FIELD_OMIT_UNSET))
			continue;
		text_printf(out, "%s\"%s\":", comma, field->name);
		comma = ",";
		if (unset)
			text_add_string(out, "null");
		else if (field->kind == FIELD_LIST)
			print_list(field, in, out);
		else
			print_value(field, const_member(in, field->offset), out);
	}
	text_add(out, "}", 1);
}

void schema_free(const struct schema *schema, void *object)
{
	for (size_t i = 0; i < schema->count; i++) {
		const struct field *field = &schema->fields[i];
		void *value = member(object, field->offset);

		if (field->kind == FIELD_STRING || field->kind == FIELD_STRINGS) {
			free(*(char **)value);
			*(char **)value = NULL;
		} else if (field->kind == FIELD_OBJECT) {
			schema_free(field->object, value);
		} else if (field->kind == FIELD_LIST) {
			uint32_t *count = member(object, field->count_offset);

			for (uint32_t k = 0; k < *count; k++)
				schema_free(field->object, (char *)value + k * field->item_bytes);
			*count = 0;
		}
	}
}
