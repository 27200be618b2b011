// SPDX-License-Identifier: Apache-2.0
/* The state file: what is saved is loaded again, and what is damaged, too new or not what it says is refused by name. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "snapshots/state.h"
#include "vmm/core/bytes.h"

enum colour { RED, GREEN, COLOURS };

struct lamp {
	bool on;
	uint8_t level;
	uint16_t hours;
	uint32_t serial;
	uint64_t energy;
	enum colour colour;
	uint8_t key[3];
	char *name;
	char *nobody;
	uint8_t *blob;
	uint32_t blob_bytes;
	uint32_t later;
};

static void lamp_fields(struct state *s, void *object)
{
	struct lamp *lamp = object;

	state_bool(s, "on", &lamp->on);
	state_u8(s, "level", &lamp->level);
	state_u16(s, "hours", &lamp->hours);
	state_u32(s, "serial", &lamp->serial);
	state_u64(s, "energy", &lamp->energy);
	state_enum(s, "colour", &lamp->colour, COLOURS);
	state_bytes(s, "key", lamp->key, sizeof(lamp->key));
	state_string(s, "name", &lamp->name, 16);
	state_string(s, "nobody", &lamp->nobody, 16);
	state_blob(s, "blob", &lamp->blob, &lamp->blob_bytes, 64);
	state_require(s, lamp->level <= 100, "level", "at most 100");
	if (state_version(s) >= 2)
		state_u32(s, "later", &lamp->later);
}

static const struct state_kind lamp_v1 = {"lamp", 1, 1, lamp_fields};
static const struct state_kind lamp_v2 = {"lamp", 2, 1, lamp_fields};
static const struct state_kind lamp_v3 = {"lamp", 3, 2, lamp_fields};

static struct lamp a_lamp(void)
{
	static char name[] = "desk";
	static uint8_t blob[] = {9, 8, 7, 6, 5};

	return (struct lamp){
		.on = true,
		.level = 42,
		.hours = 0x1234,
		.serial = 0xdeadbeef,
		.energy = UINT64_C(0x0123456789abcdef),
		.colour = GREEN,
		.key = {1, 2, 3},
		.name = name,
		.blob = blob,
		.blob_bytes = sizeof(blob),
		.later = 77,
	};
}

static void free_lamp(struct lamp *lamp)
{
	free(lamp->name);
	free(lamp->nobody);
	free(lamp->blob);
}

/* A finished file with lamps 0 and 5 of that kind. */
static struct state_file saved(const struct state_kind *kind)
{
	struct state_file file;
	struct lamp lamp = a_lamp();
	struct error err;

	assert_int_equal(state_file_new(&file, &err), 0);
	assert_int_equal(state_save(&file, kind, 0, &lamp, &err), 0);
	lamp.level = 1;
	assert_int_equal(state_save(&file, kind, 5, &lamp, &err), 0);
	state_file_finish(&file);
	return file;
}

/* Opens a copy of the bytes, exactly as long as they are, so that a sanitizer sees reads beyond. */
static int open_copy(struct state_file *file, const uint8_t *bytes, size_t len, struct error *err)
{
	uint8_t *copy = malloc(len ? len : 1);

	assert_non_null(copy);
	memcpy(copy, bytes, len);
	return state_file_open(file, copy, len, err);
}

static void what_is_saved_is_loaded(void **ctx)
{
	struct state_file out = saved(&lamp_v2), in;
	struct lamp lamp = {0}, wanted = a_lamp();
	struct error err;

	(void)ctx;
	assert_int_equal(open_copy(&in, out.bytes, out.len, &err), 0);
	assert_int_equal(state_count(&in, "lamp"), 2);
	assert_int_equal(state_load(&in, &lamp_v2, 0, &lamp, &err), 0);
	assert_true(lamp.on);
	assert_int_equal(lamp.level, wanted.level);
	assert_int_equal(lamp.hours, wanted.hours);
	assert_int_equal(lamp.serial, wanted.serial);
	assert_int_equal(lamp.energy, wanted.energy);
	assert_int_equal(lamp.colour, wanted.colour);
	assert_memory_equal(lamp.key, wanted.key, 3);
	assert_string_equal(lamp.name, wanted.name);
	assert_null(lamp.nobody);
	assert_int_equal(lamp.blob_bytes, 5);
	assert_memory_equal(lamp.blob, wanted.blob, 5);
	assert_int_equal(lamp.later, 77);
	free_lamp(&lamp);
	lamp = (struct lamp){0};
	assert_int_equal(state_load(&in, &lamp_v2, 5, &lamp, &err), 0);
	assert_int_equal(lamp.level, 1);
	free_lamp(&lamp);
	state_file_free(&in);
	state_file_free(&out);
}

static void a_section_that_is_not_there(void **ctx)
{
	struct state_file out = saved(&lamp_v1), in;
	struct lamp lamp = {0};
	struct error err;

	(void)ctx;
	assert_int_equal(open_copy(&in, out.bytes, out.len, &err), 0);
	assert_int_equal(state_load(&in, &lamp_v1, 1, &lamp, &err), -EINVAL);
	assert_string_equal(err.text, "Invalid snapshot state: there is no section `lamp` 1");
	state_file_free(&in);
	state_file_free(&out);
}

static void versions(void **ctx)
{
	struct state_file old = saved(&lamp_v1), new = saved(&lamp_v2), in;
	struct lamp lamp = {.later = 5};
	struct error err;

	(void)ctx;
	assert_int_equal(open_copy(&in, old.bytes, old.len, &err), 0);
	assert_int_equal(state_load(&in, &lamp_v2, 0, &lamp, &err), 0);
	assert_int_equal(lamp.later, 5); /* left at its default */
	free_lamp(&lamp);
	lamp = (struct lamp){0};
	assert_int_equal(state_load(&in, &lamp_v3, 0, &lamp, &err), -EINVAL);
	assert_string_equal(
		err.text,
		"Invalid snapshot state: section `lamp` 0 has version 1, expected 2 to 3");
	state_file_free(&in);
	assert_int_equal(open_copy(&in, new.bytes, new.len, &err), 0);
	assert_int_equal(state_load(&in, &lamp_v1, 0, &lamp, &err), -EINVAL);
	assert_non_null(strstr(err.text, "has version 2, expected 1 to 1"));
	state_file_free(&in);
	state_file_free(&old);
	state_file_free(&new);
}

static void values_out_of_range(void **ctx)
{
	struct state_file file;
	struct lamp lamp = a_lamp();
	struct error err;

	(void)ctx;
	assert_int_equal(state_file_new(&file, &err), 0);
	size_t empty = file.len;

	lamp.level = 101;
	assert_int_equal(state_save(&file, &lamp_v1, 0, &lamp, &err), -EINVAL);
	assert_string_equal(
		err.text,
		"Invalid snapshot state: section `lamp` 0, field `level`: expected at most 100");
	assert_int_equal(file.len, empty); /* nothing of it is left */
	lamp = a_lamp();
	lamp.colour = COLOURS;
	assert_int_equal(state_save(&file, &lamp_v1, 0, &lamp, &err), -EINVAL);
	assert_non_null(strstr(err.text, "`colour`"));
	state_file_free(&file);
}

static void every_truncation_is_refused(void **ctx)
{
	struct state_file out = saved(&lamp_v2), in;
	struct error err;

	(void)ctx;
	for (size_t len = 0; len < out.len; len++) {
		assert_int_equal(open_copy(&in, out.bytes, len, &err), -EINVAL);
		state_file_free(&in);
	}
	state_file_free(&out);
}

static void every_flipped_bit_is_refused(void **ctx)
{
	struct state_file out = saved(&lamp_v2), in;
	struct error err;

	(void)ctx;
	for (size_t bit = 0; bit < out.len * 8; bit++) {
		out.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(open_copy(&in, out.bytes, out.len, &err), -EINVAL);
		state_file_free(&in);
		out.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	state_file_free(&out);
}

static void another_format(void **ctx)
{
	struct state_file out, in;
	struct error err;

	(void)ctx;
	assert_int_equal(state_file_new(&out, &err), 0);
	out.major = STATE_MAJOR + 1;
	state_file_finish(&out);
	assert_int_equal(open_copy(&in, out.bytes, out.len, &err), -EINVAL);
	assert_non_null(strstr(err.text, "Invalid data version: 2.0.0"));
	state_file_free(&in);
	out.major = STATE_MAJOR;
	out.minor = STATE_MINOR + 1;
	state_file_finish(&out);
	assert_int_equal(open_copy(&in, out.bytes, out.len, &err), -EINVAL);
	state_file_free(&in);
	out.minor = STATE_MINOR;
	out.patch = 9; /* patches do not change the format */
	state_file_finish(&out);
	assert_int_equal(open_copy(&in, out.bytes, out.len, &err), 0);
	state_file_free(&in);
	state_file_free(&out);
}

static void a_list_that_reads_too_much_or_too_little(void **ctx)
{
	/* As written by a program whose version 1 of "lamp" is something else. */
	static const struct state_kind as_v1 = {"lamp", 1, 1, lamp_fields};
	struct state_file out = saved(&lamp_v2), in;
	struct lamp lamp = {0};
	struct error err;

	(void)ctx;
	assert_int_equal(open_copy(&in, out.bytes, out.len, &err), 0);
	in.sections[0].version = 1; /* its four bytes of `later` are too many then */
	assert_int_equal(state_load(&in, &as_v1, 0, &lamp, &err), -EINVAL);
	assert_non_null(strstr(err.text, "has 4 bytes more than its fields"));
	free_lamp(&lamp);
	lamp = (struct lamp){0};
	in.sections[0].version = 2;
	in.sections[0].payload_bytes -= 4;
	assert_int_equal(state_load(&in, &lamp_v2, 0, &lamp, &err), -EINVAL);
	assert_non_null(strstr(err.text, "ends before field `later`"));
	free_lamp(&lamp);
	state_file_free(&in);
	state_file_free(&out);
}

static void bytes_fields(struct state *s, void *object)
{
	state_u16(s, "number", object);
}

/* The bytes of format 1.0.0, as README.md describes them: this file must be readable for ever. */
static void golden_file(void **ctx)
{
	static const struct state_kind kind = {"tiny", 1, 1, bytes_fields};
	static const uint8_t golden[] =
		{
			'B',  'A',  'N',  'T',  'A',  'M',  'V',  'M',  0x01, 0x00,
			0x00, 0x00, 0x00, 0x00, 0x3e, 0x00, 0x01, 0x00, 0x00, 0x00,
			0x00, 0x00, 0x00, 0x00, 0x60, 0x00, 0x00, 0x00, 0x00, 0x00,
			0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* section */
			't',  'i',  'n',  'y',  0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
			0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
			0x00, 0x00, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00, 0x01, 0x00,
			0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
			0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* payload */
			0x34, 0x12, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
		};
	struct state_file file, in;
	uint16_t number = 0x1234;
	struct error err;

	(void)ctx;
	assert_int_equal(state_file_new(&file, &err), 0);
	assert_int_equal(state_save(&file, &kind, 3, &number, &err), 0);
	state_file_finish(&file);
	assert_int_equal(file.len, sizeof(golden));
	for (size_t i = 0; i < sizeof(golden); i++) {
		if ((i >= 32 && i < 40) || (i >= 80 && i < 88))
			continue; /* checksums: below */
		assert_int_equal(file.bytes[i], golden[i]);
	}
	assert_int_equal(get_le64(file.bytes + 32), UINT64_C(0x4b685413a0c0702a));
	assert_int_equal(get_le64(file.bytes + 80), UINT64_C(0xc71b64471b3742ce));
	number = 0;
	assert_int_equal(open_copy(&in, file.bytes, file.len, &err), 0);
	assert_int_equal(state_load(&in, &kind, 3, &number, &err), 0);
	assert_int_equal(number, 0x1234);
	state_file_free(&in);
	state_file_free(&file);
}

static void files_that_cannot_be_read(void **ctx)
{
	struct state_file file;
	struct error err;

	(void)ctx;
	assert_int_equal(state_file_read(&file, "/nonexistent/state", &err), -ENOENT);
	assert_string_equal(err.text,
			    "Failed to open snapshot file: No such file or directory (os error 2)");
	state_file_free(&file);
	assert_int_equal(state_file_read(&file, "/dev/null", &err), -EINVAL);
	state_file_free(&file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_saved_is_loaded),
		cmocka_unit_test(a_section_that_is_not_there),
		cmocka_unit_test(versions),
		cmocka_unit_test(values_out_of_range),
		cmocka_unit_test(every_truncation_is_refused),
		cmocka_unit_test(every_flipped_bit_is_refused),
		cmocka_unit_test(another_format),
		cmocka_unit_test(a_list_that_reads_too_much_or_too_little),
		cmocka_unit_test(golden_file),
		cmocka_unit_test(files_that_cannot_be_read),
	};

	return RUN_TESTS(tests);
}
