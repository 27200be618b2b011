// SPDX-License-Identifier: Apache-2.0
/* Configuration from files: --config-file (which is also what GET /vm/config prints) and --metadata. */
#ifndef API_CONFIG_FILE_H
#define API_CONFIG_FILE_H

#include <stddef.h>
#include "vmm/core/cleanup.h"
#include "vmm/core/error.h"

struct text;
struct vm;

/* A configuration of some dozens of devices takes some kilobytes. */
#define CONFIG_FILE_BYTES_MAX (1u << 20)

/*
 * Reads the file, checks every section, then applies them in the documented order; does not start the microVM. When a
 * section is refused, those before it have been applied: the caller gives up.
 */
int config_file_apply(struct vm *vm, const char *path, struct error *err) must_check;

/* The same for text in memory. */
int config_text_apply(struct vm *vm, const char *json, size_t len, struct error *err) must_check;

/* Appends the microVM's configuration in the file's format. */
void config_print(const struct vm *vm, struct text *out);

/* Checks that the file holds JSON of at most limit bytes. Its contents are not used: there is no metadata service yet. */
int metadata_file_check(const char *path, size_t limit, struct error *err) must_check;

#endif
