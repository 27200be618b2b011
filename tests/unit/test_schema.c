// SPDX-License-Identifier: Apache-2.0
/* Rows of fields: parsing, merging, printing and freeing, with a struct of every kind and with the API's own tables. */
#include "tests/unit/unit.h"

#include <stdio.h>
#include <string.h>
#include "api/fields.h"
#include "api/json.h"
#include "api/text.h"

enum colour { RED, GREEN };

struct inner {
	uint64_t size;
	bool has_size;
	char *name;
};

struct outer {
	bool flag;
	uint16_t small;
	uint32_t middle;
	uint64_t large;
	char *text;
	char *map;
	enum colour colour;
	struct inner inner;
	bool has_inner;
};

#define AT(type, member)    .offset = offsetof(struct type, member)
#define GIVEN(type, member) .has_given = true, .given_offset = offsetof(struct type, member)

static const struct field inner_fields[] = {
	{.name = "size", .kind = FIELD_U64, .flags = FIELD_REQUIRED, AT(inner, size)},
	{.name = "name", .kind = FIELD_STRING, .flags = FIELD_NULLABLE, AT(inner, name)},
};
static const struct schema inner_schema = {SCHEMA_ROWS(inner_fields)};

static const struct enum_word colours[] = {{"red", RED}, {"Green", GREEN}, {NULL, 0}};

static const struct field outer_fields[] = {
	{.name = "flag", .kind = FIELD_BOOL, .flags = FIELD_REQUIRED, AT(outer, flag)},
	{.name = "small", .kind = FIELD_U16, .min = 2, AT(outer, small)},
	{.name = "middle", .kind = FIELD_U32, AT(outer, middle)},
	{.name = "large", .kind = FIELD_U64, .flags = FIELD_NULLABLE, AT(outer, large)},
	{.name = "text", .kind = FIELD_STRING, .flags = FIELD_NULLABLE, AT(outer, text)},
	{.name = "map", .kind = FIELD_STRINGS, .flags = FIELD_NULLABLE, AT(outer, map)},
	{.name = "colour",
	 .kind = FIELD_ENUM,
	 .flags = FIELD_CASELESS,
	 .words = colours,
	 AT(outer, colour)},
	{.name = "inner",
	 .kind = FIELD_OBJECT,
	 .flags = FIELD_NULLABLE,
	 .object = &inner_schema,
	 AT(outer, inner),
	 GIVEN(outer, has_inner)},
};
static const struct schema outer_schema = {SCHEMA_ROWS(outer_fields)};

static int parse(const struct schema *schema, const char *text, void *out, struct error *err)
{
	cleanup_cjson cJSON *json = json_parse(text, strlen(text), err);

	assert_non_null(json);
	return schema_parse(schema, json, out, err);
}

static void assert_prints(const struct schema *schema, const void *in, const char *expected)
{
	struct text out = {0};

	schema_print(schema, in, &out);
	assert_false(out.failed);
	assert_string_equal(out.data, expected);
	text_free(&out);
}

#define ALL_KINDS                                                                               \
	"{\"flag\":true,\"small\":65535,\"middle\":4294967295,\"large\":9007199254740991,"      \
	"\"text\":\"a\\\"b\",\"map\":{\"k\":\"v\",\"l\":\"\"},\"colour\":\"Green\",\"inner\":{" \
	"\"size\":1000000000000000,\"name\":null}}"

static void test_all_kinds(void **state)
{
	struct outer outer = {0};
	struct error err = {0};

	(void)state;
	assert_int_equal(parse(&outer_schema, ALL_KINDS, &outer, &err), 0);
	assert_true(outer.flag && outer.has_inner);
	assert_int_equal(outer.small, UINT16_MAX);
	assert_int_equal(outer.middle, UINT32_MAX);
	assert_int_equal(outer.large, JSON_INTEGER_MAX);
	assert_string_equal(outer.text, "a\"b");
	assert_int_equal(outer.colour, GREEN);
	assert_prints(&outer_schema, &outer, ALL_KINDS);
	schema_free(&outer_schema, &outer);
	assert_null(outer.text);
	assert_null(outer.map);
}

static void test_defaults_stay(void **state)
{
	struct outer outer = {.small = 7, .large = 8, .colour = GREEN};
	struct error err = {0};

	(void)state;
	assert_int_equal(parse(&outer_schema,
			       "{\"flag\":false,\"large\":null,\"text\":null,\"inner\":null}",
			       &outer, &err),
			 0);
	assert_int_equal(outer.small, 7);
	assert_int_equal(outer.large, 8);
	assert_int_equal(outer.colour, GREEN);
	assert_null(outer.text);
	assert_false(outer.has_inner);
	assert_prints(&outer_schema, &outer,
		      "{\"flag\":false,\"small\":7,\"middle\":0,\"large\":8,\"text\":null,"
		      "\"map\":null,\"colour\":\"Green\",\"inner\":null}");
}

static void test_faults(void **state)
{
	static const struct {
		const char *text, *fault;
	} rows[] = {
		{"[]", "expected an object, found an array"},
		{"{}", "missing field `flag`: expected true or false"},
		{"{\"flag\":null}", "field `flag`: expected true or false, found null"},
		{"{\"flag\":1}", "field `flag`: expected true or false, found 1"},
		{"{\"flag\":\"true\"}",
		 "field `flag`: expected true or false, found the string \"true\""},
		{"{\"flag\":true,\"Flag\":1}", "unknown field `Flag`: expected one of `flag`, "
					       "`small`, `middle`, `large`, `text`, "
					       "`map`, `colour`, `inner`"},
		{"{\"flag\":true,\"small\":1}",
		 "field `small`: expected an integer from 2 to 65535, found 1"},
		{"{\"flag\":true,\"small\":65536}",
		 "field `small`: expected an integer from 2 to 65535, found 65536"},
		{"{\"flag\":true,\"small\":2.5}",
		 "field `small`: expected an integer from 2 to 65535, found 2.5"},
		{"{\"flag\":true,\"middle\":-1}",
		 "field `middle`: expected an integer from 0 to 4294967295, found -1"},
		{"{\"flag\":true,\"middle\":null}",
		 "field `middle`: expected an integer from 0 to 4294967295, found null"},
		{"{\"flag\":true,\"middle\":\"1\"}", "field `middle`: expected an integer from 0 "
						     "to 4294967295, found the string \"1\""},
		{"{\"flag\":true,\"large\":9007199254740992}",
		 "field `large`: expected an integer from 0 to 9007199254740991, found "
		 "9007199254740992"},
		{"{\"flag\":true,\"large\":1e400}",
		 "field `large`: expected an integer from 0 to 9007199254740991, found inf"},
		{"{\"flag\":true,\"text\":1}", "field `text`: expected a string, found 1"},
		{"{\"flag\":true,\"map\":[]}",
		 "field `map`: expected an object of strings, found an array"},
		{"{\"flag\":true,\"map\":{\"a\":\"b\",\"c\":1}}",
		 "field `map`: expected an object of strings, found an object"},
		{"{\"flag\":true,\"colour\":\"blue\"}",
		 "field `colour`: expected one of \"red\", \"Green\", found the string \"blue\""},
		{"{\"flag\":true,\"colour\":0}",
		 "field `colour`: expected one of \"red\", \"Green\", found 0"},
		{"{\"flag\":true,\"inner\":[]}",
		 "field `inner`: expected an object, found an array"},
		{"{\"flag\":true,\"inner\":{}}",
		 "missing field `inner.size`: expected an integer from 0 to 9007199254740991"},
		{"{\"flag\":true,\"inner\":{\"size\":false}}",
		 "field `inner.size`: expected an integer from 0 to 9007199254740991, found false"},
		{"{\"flag\":true,\"inner\":{\"size\":1,\"x\":2}}",
		 "unknown field `inner.x`: expected one of `size`, `name`"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct outer outer = {0};
		struct error err = {0};

		assert_int_equal(parse(&outer_schema, rows[i].text, &outer, &err), -EINVAL);
		assert_string_equal(err.text, rows[i].fault);
		schema_free(&outer_schema, &outer);
	}
}

static void test_error_after_a_string_leaks_nothing(void **state)
{
	struct outer outer = {0};
	struct error err = {0};

	(void)state;
	assert_int_equal(parse(&outer_schema,
			       "{\"flag\":true,\"text\":\"x\",\"map\":{\"a\":\"b\"},\"inner\":{"
			       "\"size\":1,\"name\":\"y\"},\"colour\":0}",
			       &outer, &err),
			 -EINVAL);
	schema_free(&outer_schema, &outer);
	assert_null(outer.text);
}

static void test_merge(void **state)
{
	struct outer outer = {.small = 7, .text = strdup("old")};
	struct error err = {0};
	unsigned given = 99;
	static const struct {
		const char *text;
		unsigned given;
	} rows[] = {
		{"{}", 0},
		{"{\"flag\":null,\"small\":null,\"text\":null}", 0},
		{"{\"text\":\"new\"}", 1},
		{"{\"flag\":true,\"inner\":{\"size\":3}}", 2},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		cleanup_cjson cJSON *json = json_parse(rows[i].text, strlen(rows[i].text), &err);

		assert_int_equal(schema_merge(&outer_schema, json, &outer, &given, &err), 0);
		assert_int_equal(given, rows[i].given);
	}
	assert_string_equal(outer.text, "new");
	assert_int_equal(outer.small, 7);
	assert_int_equal(outer.inner.size, 3);
	schema_free(&outer_schema, &outer);
}

/* What is inside a part of a PATCH is replaced as a whole, so its own required fields are required. */
static void test_merge_requires_inside(void **state)
{
	struct outer outer = {0};
	struct error err = {0};
	unsigned given;
	cleanup_cjson cJSON *json = json_parse("{\"inner\":{}}", 12, &err);

	(void)state;
	assert_int_equal(schema_merge(&outer_schema, json, &outer, &given, &err), -EINVAL);
	assert_string_equal(
		err.text,
		"missing field `inner.size`: expected an integer from 0 to 9007199254740991");
}

static void test_machine(void **state)
{
	struct machine_config machine = MACHINE_CONFIG_DEFAULT;
	struct error err = {0};

	(void)state;
	assert_prints(&machine_schema, &machine,
		      "{\"vcpu_count\":1,\"mem_size_mib\":128,\"smt\":false,"
		      "\"track_dirty_pages\":false,\"huge_pages\":\"None\"}");
	assert_int_equal(parse(&machine_schema,
			       "{\"vcpu_count\":2,\"mem_size_mib\":256,\"smt\":true,"
			       "\"cpu_template\":\"T2CL\",\"track_dirty_pages\":true,"
			       "\"huge_pages\":\"2M\"}",
			       &machine, &err),
			 0);
	assert_true(machine.has_cpu_template);
	assert_prints(
		&machine_schema, &machine,
		"{\"vcpu_count\":2,\"mem_size_mib\":256,\"smt\":true,\"cpu_template\":\"T2CL\","
		"\"track_dirty_pages\":true,\"huge_pages\":\"2M\"}");
	machine.cpu_template = CPU_TEMPLATE_NONE;
	assert_prints(&machine_schema, &machine,
		      "{\"vcpu_count\":2,\"mem_size_mib\":256,\"smt\":true,"
		      "\"track_dirty_pages\":true,\"huge_pages\":\"2M\"}");
}

static void test_rate_limiters(void **state)
{
	static const struct {
		const char *given, *printed;
	} rows[] = {
		{"{}", "{\"rate_limiter\":null}"},
		{"{\"rate_limiter\":null}", "{\"rate_limiter\":null}"},
		{"{\"rate_limiter\":{}}", "{\"rate_limiter\":null}"},
		{"{\"rate_limiter\":{\"ops\":null}}", "{\"rate_limiter\":null}"},
		{"{\"rate_limiter\":{\"ops\":{\"size\":0,\"refill_time\":5}}}",
		 "{\"rate_limiter\":null}"},
		{"{\"rate_limiter\":{\"ops\":{\"size\":5,\"refill_time\":0}}}",
		 "{\"rate_limiter\":null}"},
		{"{\"rate_limiter\":{\"ops\":{\"size\":1,\"refill_time\":2}}}",
		 "{\"rate_limiter\":{\"bandwidth\":null,\"ops\":{\"size\":1,\"one_time_burst\":"
		 "null,"
		 "\"refill_time\":2}}}"},
		{"{\"rate_limiter\":{\"bandwidth\":{\"size\":1,\"refill_time\":2,\"one_time_"
		 "burst\":0}}}",
		 "{\"rate_limiter\":{\"bandwidth\":{\"size\":1,\"one_time_burst\":0,"
		 "\"refill_time\":2},\"ops\":null}}"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct rng_config config = {0};
		struct error err = {0};

		assert_int_equal(parse(&entropy_schema, rows[i].given, &config, &err), 0);
		assert_prints(&entropy_schema, &config, rows[i].printed);
	}
}

/* Every string field's memory is found by schema_free(): the leak checker of the sanitizer builds sees what is not. */
static void test_drive_and_net_round_trip(void **state)
{
	static const char drive_text[] =
		"{\"drive_id\":\"a\",\"partuuid\":\"p\",\"is_root_device\":true,"
		"\"cache_type\":\"Writeback\",\"is_read_only\":true,\"path_on_host\":\"/x\","
		"\"rate_limiter\":null,\"io_engine\":\"Async\",\"socket\":\"/s\"}";
	static const char net_text[] =
		"{\"iface_id\":\"n\",\"host_dev_name\":\"tap0\",\"guest_mac\":\"02:00:00:00:00:"
		"01\","
		"\"mtu\":1500,\"rx_rate_limiter\":null,\"tx_rate_limiter\":null}";
	struct block_config drive = {0};
	struct net_config net = {0};
	struct error err = {0};

	(void)state;
	assert_int_equal(parse(&drive_schema, drive_text, &drive, &err), 0);
	assert_prints(&drive_schema, &drive, drive_text);
	schema_free(&drive_schema, &drive);
	assert_int_equal(parse(&net_schema, net_text, &net, &err), 0);
	assert_prints(&net_schema, &net, net_text);
	schema_free(&net_schema, &net);
}

static void test_vsock_id_is_not_printed(void **state)
{
	struct vsock_config vsock = {0};
	struct error err = {0};

	(void)state;
	assert_int_equal(parse(&vsock_schema,
			       "{\"guest_cid\":3,\"uds_path\":\"v\",\"vsock_id\":\"old\"}", &vsock,
			       &err),
			 0);
	assert_string_equal(vsock.vsock_id, "old");
	assert_prints(&vsock_schema, &vsock, "{\"guest_cid\":3,\"uds_path\":\"v\"}");
	schema_free(&vsock_schema, &vsock);
	assert_int_equal(parse(&vsock_schema, "{\"guest_cid\":2,\"uds_path\":\"v\"}", &vsock, &err),
			 -EINVAL);
	schema_free(&vsock_schema, &vsock);
}

static void test_log_levels(void **state)
{
	static const struct {
		const char *word;
		enum log_level level;
	} rows[] = {
		{"error", LOG_LEVEL_ERROR}, {"WARNING", LOG_LEVEL_WARN}, {"Warn", LOG_LEVEL_WARN},
		{"Info", LOG_LEVEL_INFO},   {"dEbug", LOG_LEVEL_DEBUG},  {"Trace", LOG_LEVEL_TRACE},
		{"OFF", LOG_LEVEL_OFF},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct log_config config = {0};
		struct error err = {0};
		char text[64];

		snprintf(text, sizeof(text), "{\"level\":\"%s\"}", rows[i].word);
		assert_int_equal(parse(&logger_schema, text, &config, &err), 0);
		assert_int_equal(config.level, rows[i].level);
	}
}

/* ---- lists ---- */

struct shelf {
	struct inner items[3];
	uint32_t count;
};

static const struct field shelf_fields[] = {
	{.name = "items",
	 .kind = FIELD_LIST,
	 .flags = FIELD_NULLABLE,
	 .object = &inner_schema,
	 .max = 3,
	 .item_bytes = sizeof(struct inner),
	 .count_offset = offsetof(struct shelf, count),
	 AT(shelf, items)},
};
static const struct schema shelf_schema = {SCHEMA_ROWS(shelf_fields)};

static void test_lists(void **state)
{
	struct shelf shelf = {.count = 0};
	struct error err;

	(void)state;
	assert_int_equal(parse(&shelf_schema,
			       "{\"items\":[{\"size\":1,\"name\":\"a\"},{\"size\":2}]}", &shelf,
			       &err),
			 0);
	assert_int_equal(shelf.count, 2);
	assert_int_equal(shelf.items[0].size, 1);
	assert_string_equal(shelf.items[0].name, "a");
	assert_int_equal(shelf.items[1].size, 2);
	assert_null(shelf.items[1].name);
	assert_prints(&shelf_schema, &shelf,
		      "{\"items\":[{\"size\":1,\"name\":\"a\"},{\"size\":2,\"name\":null}]}");
	schema_free(&shelf_schema, &shelf);
	assert_int_equal(shelf.count, 0);
	assert_null(shelf.items[0].name);
	assert_int_equal(parse(&shelf_schema, "{\"items\":null}", &shelf, &err), 0);
	assert_int_equal(parse(&shelf_schema, "{\"items\":[]}", &shelf, &err), 0);
	assert_int_equal(shelf.count, 0);
}

static void test_faults_in_lists(void **state)
{
	static const struct {
		const char *text, *fault;
	} rows[] = {
		{"{\"items\":{}}",
		 "field `items`: expected an array of at most 3 objects, found an "
		 "object"},
		{"{\"items\":[{\"size\":1},{\"size\":1},{\"size\":1},{\"size\":1}]}",
		 "field `items`: expected an array of at most 3 objects, found an array"},
		{"{\"items\":[{\"size\":1,\"name\":\"a\"},{\"name\":\"b\"}]}",
		 "missing field `items.size`"},
		{"{\"items\":[7]}", "field `items`"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct shelf shelf = {.count = 0};
		struct error err;

		assert_int_equal(parse(&shelf_schema, rows[i].text, &shelf, &err), -EINVAL);
		assert_non_null(strstr(err.text, rows[i].fault));
		schema_free(&shelf_schema, &shelf); /* nothing is leaked */
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_kinds),
		cmocka_unit_test(test_defaults_stay),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_lists),
		cmocka_unit_test(test_faults_in_lists),
		cmocka_unit_test(test_error_after_a_string_leaks_nothing),
		cmocka_unit_test(test_merge),
		cmocka_unit_test(test_merge_requires_inside),
		cmocka_unit_test(test_machine),
		cmocka_unit_test(test_rate_limiters),
		cmocka_unit_test(test_drive_and_net_round_trip),
		cmocka_unit_test(test_vsock_id_is_not_printed),
		cmocka_unit_test(test_log_levels),
	};

	return RUN_TESTS(tests);
}
