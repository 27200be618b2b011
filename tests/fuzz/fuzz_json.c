// SPDX-License-Identifier: Apache-2.0
/*
 * JSON from files and clients: the reader, every schema, and whole configurations. What is taken must print as JSON that
 * is taken again and prints the same.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "api/config_file.h"
#include "api/fields.h"
#include "api/json.h"
#include "api/text.h"
#include "tests/unit/fake_vm.h"
#include "vmm/core/log.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct error err;

	(void)argc;
	(void)argv;
	return log_configure(&(struct log_config){.level = LOG_LEVEL_OFF}, &err);
}

static const struct schema *const schemas[] = {
	&machine_schema,       &boot_schema,
	&drive_schema,         &net_schema,
	&vsock_schema,         &entropy_schema,
	&serial_schema,        &logger_schema,
	&metrics_schema,       &drive_patch_schema,
	&net_patch_schema,     &vm_patch_schema,
	&action_schema,        &snapshot_create_schema,
	&snapshot_load_schema,
};

/* Parses and prints; false when the schema refuses the value. */
static bool print_parsed(const struct schema *schema, const cJSON *json, struct text *out)
{
	union api_body body;
	struct error err = {0};
	int ret;

	memset(&body, 0, sizeof(body));
	ret = schema_parse(schema, json, &body, &err);
	if (ret)
		assert(err.text[0] && err.code == ret);
	else
		schema_print(schema, &body, out);
	schema_free(schema, &body);
	return !ret;
}

static void check_schema(const struct schema *schema, const cJSON *json)
{
	struct text once = {0}, twice = {0};
	struct error err = {0};

	if (print_parsed(schema, json, &once)) {
		cJSON *again = json_parse(once.data, once.len, &err);

		assert(again);
		assert(print_parsed(schema, again, &twice));
		assert(!strcmp(once.data, twice.data));
		cJSON_Delete(again);
	}
	text_free(&once);
	text_free(&twice);
}

/* A PATCH of the machine takes a part of it. */
static void check_merge(const cJSON *json)
{
	struct machine_config machine = MACHINE_CONFIG_DEFAULT;
	struct error err = {0};
	unsigned given;

	if (!schema_merge(&machine_schema, json, &machine, &given, &err))
		assert(given <= machine_schema.count);
}

static bool print_applied(const char *json, size_t len, struct text *out)
{
	struct error err = {0};
	struct vm vm;
	int ret;

	fake_vm_init(&vm);
	ret = config_text_apply(&vm, json, len, &err);
	if (ret)
		assert(err.text[0]);
	else
		config_print(&vm, out);
	fake_vm_clear(&vm);
	return !ret;
}

static void check_config(const cJSON *json, const char *text, size_t len)
{
	struct text once = {0}, twice = {0};

	/* These two would open files that the input names. */
	if (cJSON_GetObjectItemCaseSensitive(json, "logger") ||
	    cJSON_GetObjectItemCaseSensitive(json, "metrics"))
		return;
	if (print_applied(text, len, &once)) {
		assert(print_applied(once.data, once.len, &twice));
		assert(!strcmp(once.data, twice.data));
	}
	text_free(&once);
	text_free(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct error err = {0};
	cJSON *json = json_parse((const char *)data, size, &err);

	if (!json) {
		assert(err.text[0]);
		return 0;
	}
	for (size_t i = 0; i < sizeof(schemas) / sizeof(schemas[0]); i++)
		check_schema(schemas[i], json);
	check_merge(json);
	check_config(json, (const char *)data, size);
	cJSON_Delete(json);
	return 0;
}
