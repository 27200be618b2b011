// SPDX-License-Identifier: Apache-2.0
/*
 * JSON in and out: a strict reader in front of cJSON, and the few writers that responses need.
 *
 * DOC: cJSON alone takes more than JSON ("01", "1.", invalid UTF-8, text behind the value), keeps the first of two
 * equal names and cuts strings at "\u0000". So a text is checked first, by a scanner that knows the grammar (RFC 8259)
 * and says line and column; cJSON then only ever sees well-formed JSON of bounded depth and builds the tree.
 */
#ifndef API_JSON_H
#define API_JSON_H

#include <cjson/cJSON.h>
#include <stddef.h>
#include "vmm/core/cleanup.h"
#include "vmm/core/error.h"

struct text;

#define JSON_DEPTH_MAX 32u

/* Numbers are read as doubles: the largest integer that is exact, and that anything here accepts. */
#define JSON_INTEGER_MAX ((UINT64_C(1) << 53) - 1)

/* One JSON value and white space, nothing else. NULL and a text that says where and what was expected. Freed by
 * cJSON_Delete(). */
cJSON *json_parse(const char *text, size_t len, struct error *err) must_check;

/* Appends the string in quotes, escaped; bytes that are not UTF-8 become U+FFFD. */
void json_write_string(struct text *out, const char *string);

/* Describes a value for an error's text ("the string \"x\"", "an object"), cut when it is long. */
void json_describe(const cJSON *value, char *out, size_t out_bytes);

static inline void cleanup_cjson_fn(cJSON **tree)
{
	cJSON_Delete(*tree);
}
#define cleanup_cjson __attribute__((cleanup(cleanup_cjson_fn)))

#endif
