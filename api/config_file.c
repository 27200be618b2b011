// SPDX-License-Identifier: Apache-2.0
/* The configuration of a whole microVM as one JSON document, in and out. */
#include "api/config_file.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include "api/json.h"
#include "api/resources.h"
#include "vmm/core/log.h"
#include "vmm/vm.h"

/* ---- reading ---- */

/* A section is the body of the request that it stands for, or a list of such bodies. */
struct section {
	const char *key;
	bool required;
	bool list;
	const struct schema *schema; /* NULL: not built yet */
	void (*init)(const struct vm *vm, union api_body *body);
	int (*handle)(struct api_call *call, struct error *err);
};

/* In the order in which they are applied. Keys that are not here are ignored, as Firecracker does. */
static const struct section sections[] = {
	{"logger", .schema = &logger_schema, .init = api_init_logger, .handle = api_put_logger},
	{"metrics", .schema = &metrics_schema, .handle = api_put_metrics},
	{"machine-config", .schema = &machine_schema, .handle = api_set_machine},
	{.key = "cpu-config"},
	{"boot-source", .required = true, .schema = &boot_schema, .handle = api_put_boot_source},
	{"drives", .required = true, .list = true, .schema = &drive_schema,
	 .handle = api_put_drive},
	{"network-interfaces", .list = true, .schema = &net_schema, .handle = api_put_net},
	{"vsock", .schema = &vsock_schema, .handle = api_put_vsock},
	{.key = "balloon"},
	{.key = "mmds-config"},
	{"entropy", .schema = &entropy_schema, .handle = api_put_entropy},
	{"pmem", .list = true},
	{.key = "memory-hotplug"},
};
#define SECTION_COUNT (sizeof(sections) / sizeof(sections[0]))

/* One body: parsed, and applied unless vm is NULL (which is how a document is checked before any of it is applied). */
static int take_body(const struct section *section, const cJSON *json, struct vm *vm,
		     struct error *err)
{
	struct text unused = {0};
	struct api_call call = {.vm = vm, .out = &unused};
	int ret;

	if (section->init)
		section->init(vm, &call.body);
	ret = schema_parse(section->schema, json, &call.body, err);
	if (!ret && vm)
		ret = section->handle(&call, err);
	schema_free(section->schema, &call.body);
	return ret;
}

static int take_list(const struct section *section, const cJSON *json, struct vm *vm,
		     struct error *err)
{
	unsigned index = 0;

	if (!cJSON_IsArray(json))
		return error_set(err, -EINVAL, "expected a list");
	for (const cJSON *item = json->child; item; item = item->next, index++) {
		int ret = take_body(section, item, vm, err);
		if (ret)
			return error_prefix(err, "entry %u: ", index);
	}
	return 0;
}

/* A configuration that asks for what cannot be given must not run without it. */
static int refuse_section(const cJSON *json, struct error *err)
{
	if (cJSON_IsArray(json) && !json->child)
		return 0;
	return error_set(err, -ENOSYS, "not built into this version yet");
}

static int take_section(const struct section *section, const cJSON *document, struct vm *vm,
			struct error *err)
{
	const cJSON *json = cJSON_GetObjectItemCaseSensitive(document, section->key);
	int ret;

	if (!json && section->required)
		return error_set(err, -EINVAL, "missing section `%s`", section->key);
	if (!json || (cJSON_IsNull(json) && !section->required))
		return 0;
	if (!section->schema)
		ret = refuse_section(json, err);
	else
		ret = (section->list ? take_list : take_body)(section, json, vm, err);
	return ret ? error_prefix(err, "section `%s`: ", section->key) : 0;
}

int config_text_apply(struct vm *vm, const char *json, size_t len, struct error *err)
{
	cleanup_cjson cJSON *document = json_parse(json, len, err);
	int ret = 0;

	if (!document)
		return err->code;
	if (!cJSON_IsObject(document))
		return error_set(err, -EINVAL, "expected an object of sections");
	for (size_t i = 0; i < SECTION_COUNT && !ret; i++)
		ret = take_section(&sections[i], document, NULL, err);
	for (size_t i = 0; i < SECTION_COUNT && !ret; i++)
		ret = take_section(&sections[i], document, vm, err);
	return ret;
}

/* Appends the file's bytes. A file of more than limit bytes is refused, however large it says that it is. */
static int read_file(const char *path, size_t limit, struct text *text, struct error *err)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	char chunk[4096];
	ssize_t got;

	if (fd < 0)
		return error_set_errno(err, "%s", path);
	while ((got = read(fd, chunk, sizeof(chunk))) > 0) {
		text_add(text, chunk, (size_t)got);
		if (text->len > limit)
			return error_set(err, -EFBIG, "%s: larger than %zu bytes", path, limit);
	}
	if (got < 0)
		return error_set_errno(err, "%s", path);
	return text->failed ? error_set_os(err, -ENOMEM, "%s", path) : 0;
}

int config_file_apply(struct vm *vm, const char *path, struct error *err)
{
	struct text text = {0};
	int ret = read_file(path, CONFIG_FILE_BYTES_MAX, &text, err);

	if (ret) {
		error_prefix(err, "Unable to open or read from the configuration file: ");
	} else {
		ret = config_text_apply(vm, text.data ? text.data : "", text.len, err);
		if (ret)
			error_prefix(err, "Configuration for VMM from one single json failed: %s: ",
				     path);
	}
	text_free(&text);
	return ret;
}

int metadata_file_check(const char *path, size_t limit, struct error *err)
{
	struct text text = {0};
	cJSON *json = NULL;
	int ret = read_file(path, limit, &text, err);

	if (ret == -EFBIG) {
		error_prefix(err, "Populating MMDS from file failed: ");
	} else if (ret) {
		error_prefix(err, "Unable to open or read from the mmds content file: ");
	} else {
		json = json_parse(text.data ? text.data : "", text.len, err);
		if (!json)
			ret = error_prefix(err,
					   "MMDS error: metadata provided not valid json: %s: ",
					   path);
	}
	cJSON_Delete(json);
	text_free(&text);
	return ret;
}

/* ---- printing ---- */

static void print_drives(const struct vm *vm, struct text *out)
{
	const struct block_config *drive;

	text_add_string(out, "\"drives\":[");
	for (unsigned i = 0; (drive = vm_drive(vm, i)); i++) {
		text_add_string(out, i ? "," : "");
		schema_print(&drive_schema, drive, out);
	}
	text_add_string(out, "],");
}

static void print_nets(const struct vm *vm, struct text *out)
{
	const struct net_config *net;

	text_add_string(out, "\"network-interfaces\":[");
	for (unsigned i = 0; (net = vm_net(vm, i)); i++) {
		text_add_string(out, i ? "," : "");
		schema_print(&net_schema, net, out);
	}
	text_add_string(out, "],");
}

static void print_section(const char *key, const struct schema *schema, const void *config,
			  struct text *out)
{
	text_printf(out, "\"%s\":", key);
	if (config)
		schema_print(schema, config, out);
	else
		text_add_string(out, "null");
	text_add_string(out, ",");
}

/* Keys and their order are Firecracker's. A boot source that was not set prints an empty path, not null. */
void config_print(const struct vm *vm, struct text *out)
{
	char no_path[] = "";
	const struct boot_source_config no_boot_source = {.kernel_image_path = no_path};
	const struct boot_source_config *boot_source = vm_boot_source(vm);

	text_add_string(out, "{\"balloon\":null,");
	print_drives(vm, out);
	print_section("boot-source", &boot_schema, boot_source ? boot_source : &no_boot_source,
		      out);
	text_add_string(out, "\"cpu-config\":null,\"logger\":null,");
	print_section("machine-config", &machine_schema, vm_machine_config(vm), out);
	text_add_string(out, "\"metrics\":null,\"mmds-config\":null,");
	print_nets(vm, out);
	print_section("vsock", &vsock_schema, vm_vsock(vm), out);
	print_section("entropy", &entropy_schema, vm_entropy(vm), out);
	text_add_string(out, "\"pmem\":[],\"memory-hotplug\":null}");
}
