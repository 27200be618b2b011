// SPDX-License-Identifier: Apache-2.0
/*
 * State files of arbitrary bytes: once as they are, where checksums refuse nearly all, and once as the payload of a
 * section, which a list of every sort of field is loaded from. What was loaded can be saved again and is then the same.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "snapshots/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum colour { RED, GREEN, COLOURS };

struct everything {
	bool flag;
	uint8_t small;
	uint16_t medium;
	uint32_t large;
	uint64_t huge;
	enum colour colour;
	uint8_t raw[5];
	char *text;
	uint32_t count;
	uint32_t items[4];
	uint8_t *blob;
	uint32_t blob_bytes;
};

static void fields(struct state *s, void *object)
{
	struct everything *all = object;

	state_bool(s, "flag", &all->flag);
	state_u8(s, "small", &all->small);
	state_u16(s, "medium", &all->medium);
	state_u32(s, "large", &all->large);
	state_u64(s, "huge", &all->huge);
	state_enum(s, "colour", &all->colour, COLOURS);
	state_bytes(s, "raw", all->raw, sizeof(all->raw));
	state_string(s, "text", &all->text, 20);
	state_length(s, "count", &all->count, 4);
	for (uint32_t i = 0; i < all->count; i++)
		state_u32(s, "item", &all->items[i]);
	state_blob(s, "blob", &all->blob, &all->blob_bytes, 40);
	state_require(s, all->small != 13, "small", "no unlucky number");
}

static const struct state_kind kind = {"everything", 1, 1, fields};

static void check(bool holds, const char *what)
{
	if (!holds) {
		fprintf(stderr, "does not hold: %s\n", what);
		abort();
	}
}

static void free_all(struct everything *all)
{
	free(all->text);
	free(all->blob);
}

static void open_raw(const uint8_t *data, size_t size)
{
	struct everything all = {0};
	struct state_file file;
	struct error err;
	uint8_t *copy = malloc(size + 1);

	check(copy != NULL, "memory");
	memcpy(copy, data, size);
	if (state_file_open(&file, copy, size, &err) == 0 &&
	    state_load(&file, &kind, 0, &all, &err) == 0)
		check(all.colour < COLOURS, "an enum in its range");
	free_all(&all);
	state_file_free(&file);
}

static void save_again(struct everything *all, const uint8_t *data, size_t size)
{
	struct state_file file;
	struct error err;

	check(state_file_new(&file, &err) == 0, "a new file");
	check(state_save(&file, &kind, 0, all, &err) == 0, "what was loaded can be saved");
	state_file_finish(&file);
	check(file.len >= 88 + size && memcmp(file.bytes + 88, data, size) == 0,
	      "what is saved is what was loaded");
	state_file_free(&file);
}

static void load_payload(const uint8_t *data, size_t size)
{
	struct state_section section = {.name = "everything",
					.version = 1,
					.payload = data,
					.payload_bytes = size};
	struct state_file file = {.section_count = 1, .sections = &section};
	struct everything all = {0};
	struct error err;

	if (state_load(&file, &kind, 0, &all, &err) == 0)
		save_again(&all, data, size);
	free_all(&all);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	open_raw(data, size);
	load_payload(data, size);
	return 0;
}
