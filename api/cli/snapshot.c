// SPDX-License-Identifier: Apache-2.0
/* bantam snapshot: what can be done with a snapshot's files without running them. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "api/cli/cli.h"
#include "api/json.h"
#include "api/text.h"
#include "snapshots/merge.h"
#include "vmm/vm_saved.h"

/* ---- memory files ---- */

/* What names no option is moved to the front of argv, *count of it; NULL: not what was expected. */
static const char *output_of(int argc, char *argv[], unsigned *count)
{
	const char *out = NULL;

	*count = 0;
	for (int i = 0; i < argc; i++) {
		bool names_output = !strcmp(argv[i], "-o") || !strcmp(argv[i], "--output");

		if (names_output && i + 1 < argc && !out)
			out = argv[++i];
		else if (argv[i][0] == '-')
			return NULL;
		else
			argv[(*count)++] = argv[i];
	}
	return out;
}

enum cli_status cli_snapshot_merge(int argc, char *argv[])
{
	struct error err;
	unsigned count;
	const char *out = output_of(argc, argv, &count);

	if (!out || count < 2)
		return CLI_USAGE;
	return memory_merge(out, argv[0], argv + 1, count - 1, &err) ? cli_fail(&err) : CLI_DONE;
}

enum cli_status cli_snapshot_compress(int argc, char *argv[])
{
	struct error err;
	unsigned count;
	const char *out = output_of(argc, argv, &count);

	if (!out || count != 1)
		return CLI_USAGE;
	return memory_compress(out, argv[0], &err) ? cli_fail(&err) : CLI_DONE;
}

enum cli_status cli_snapshot_decompress(int argc, char *argv[])
{
	struct error err;
	unsigned count;
	const char *out = output_of(argc, argv, &count);

	if (!out || count != 1)
		return CLI_USAGE;
	return memory_merge(out, argv[0], NULL, 0, &err) ? cli_fail(&err) : CLI_DONE;
}

/* ---- describe ---- */

struct described {
	struct state_file file;
	struct saved_manifest manifest;
	struct saved_config config;
};

static void add_time(struct text *out, uint64_t seconds)
{
	time_t when = (time_t)seconds;
	struct tm utc;
	char line[32] = "";

	if (gmtime_r(&when, &utc))
		strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%SZ", &utc);
	text_add_string(out, line);
}

static void print_lines(const struct described *all, struct text *out)
{
	const struct saved_manifest *manifest = &all->manifest;

	text_printf(out, "format       %u.%u.%u\nmonitor      %s\ncreated      ", all->file.major,
		    all->file.minor, all->file.patch, manifest->monitor);
	add_time(out, manifest->created_s);
	text_printf(out,
		    "\nkind         %s\nvCPUs        %u\nmemory       %" PRIu64 " MiB\n"
		    "processor    %s family %u model %u stepping %u\nhost kernel  %s\n",
		    manifest->is_diff ? "difference" : "full", manifest->vcpus,
		    manifest->memory_bytes >> 20, manifest->cpu.vendor, manifest->cpu.family,
		    manifest->cpu.model, manifest->cpu.stepping, manifest->host_kernel);
	for (unsigned i = 0; i < all->config.drive_count; i++)
		text_printf(out, "drive        %s: %s\n", all->config.drives[i].drive_id,
			    all->config.drives[i].path_on_host);
	for (unsigned i = 0; i < all->config.net_count; i++)
		text_printf(out, "network      %s: %s\n", all->config.nets[i].iface_id,
			    all->config.nets[i].host_dev_name);
	if (all->config.has_vsock)
		text_printf(out, "vsock        CID %u: %s\n", all->config.vsock.guest_cid,
			    all->config.vsock.uds_path);
	for (unsigned i = 0; i < all->file.section_count; i++)
		text_printf(out, "section      %s %u, version %u, %" PRIu64 " bytes\n",
			    all->file.sections[i].name, all->file.sections[i].instance,
			    all->file.sections[i].version, all->file.sections[i].payload_bytes);
}

static void add_member(struct text *out, const char *name, const char *value)
{
	text_printf(out, ",\"%s\":", name);
	json_write_string(out, value ? value : "");
}

static void add_devices(const struct saved_config *config, struct text *out)
{
	text_add_string(out, ",\"drives\":[");
	for (unsigned i = 0; i < config->drive_count; i++) {
		text_printf(out, "%s{\"drive_id\":", i ? "," : "");
		json_write_string(out, config->drives[i].drive_id);
		add_member(out, "path_on_host", config->drives[i].path_on_host);
		text_add_string(out, "}");
	}
	text_add_string(out, "],\"network-interfaces\":[");
	for (unsigned i = 0; i < config->net_count; i++) {
		text_printf(out, "%s{\"iface_id\":", i ? "," : "");
		json_write_string(out, config->nets[i].iface_id);
		add_member(out, "host_dev_name", config->nets[i].host_dev_name);
		text_add_string(out, "}");
	}
	text_add_string(out, "]");
	if (config->has_vsock) {
		text_printf(out, ",\"vsock\":{\"guest_cid\":%u", config->vsock.guest_cid);
		add_member(out, "uds_path", config->vsock.uds_path);
		text_add_string(out, "}");
	}
}

static void print_json(const struct described *all, struct text *out)
{
	const struct saved_manifest *manifest = &all->manifest;

	text_printf(out, "{\"format\":\"%u.%u.%u\"", all->file.major, all->file.minor,
		    all->file.patch);
	add_member(out, "monitor", manifest->monitor);
	text_add_string(out, ",\"created\":\"");
	add_time(out, manifest->created_s);
	text_printf(out, "\",\"kind\":\"%s\",\"vcpu_count\":%u,\"memory_bytes\":%" PRIu64,
		    manifest->is_diff ? "Diff" : "Full", manifest->vcpus, manifest->memory_bytes);
	text_add_string(out, ",\"cpu\":{\"vendor\":");
	json_write_string(out, manifest->cpu.vendor);
	text_printf(out,
		    ",\"family\":%u,\"model\":%u,\"stepping\":%u,\"features_hash\":\"%016" PRIx64
		    "\"}",
		    manifest->cpu.family, manifest->cpu.model, manifest->cpu.stepping,
		    manifest->cpu.features_hash);
	add_member(out, "host_kernel", manifest->host_kernel);
	add_devices(&all->config, out);
	text_add_string(out, ",\"sections\":[");
	for (unsigned i = 0; i < all->file.section_count; i++) {
		const struct state_section *section = &all->file.sections[i];

		text_printf(out, "%s{\"name\":", i ? "," : "");
		json_write_string(out, section->name);
		text_printf(out, ",\"instance\":%u,\"version\":%u,\"bytes\":%" PRIu64 "}",
			    section->instance, section->version, section->payload_bytes);
	}
	text_add_string(out, "]}\n");
}

static int read_all(struct described *all, const char *path, struct error *err)
{
	int ret = state_file_read(&all->file, path, err);

	if (!ret)
		ret = state_load(&all->file, &saved_manifest_kind, 0, &all->manifest, err);
	return ret ? ret : state_load(&all->file, &saved_config_kind, 0, &all->config, err);
}

static enum cli_status describe(const char *path, bool json)
{
	struct described *all = calloc(1, sizeof(*all));
	enum cli_status status = CLI_DONE;
	struct text out = {0};
	struct error err;

	if (!all) {
		error_set_os(&err, -ENOMEM, "cannot describe %s", path);
		return cli_fail(&err);
	}
	if (read_all(all, path, &err))
		status = cli_fail(&err);
	else
		(json ? print_json : print_lines)(all, &out);
	if (out.len)
		fwrite(out.data, 1, out.len, stdout);
	text_free(&out);
	saved_config_free(&all->config);
	state_file_free(&all->file);
	free(all);
	return status;
}

enum cli_status cli_snapshot_describe(int argc, char *argv[])
{
	const char *path = NULL;
	bool json = false;

	for (int i = 0; i < argc; i++) {
		if (!strcmp(argv[i], "--json"))
			json = true;
		else if (argv[i][0] == '-' || path)
			return CLI_USAGE;
		else
			path = argv[i];
	}
	return path ? describe(path, json) : CLI_USAGE;
}
