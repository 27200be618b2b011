// SPDX-License-Identifier: Apache-2.0
/* The table of routes and the steps of a request. */
#include "api/routes.h"

#include <stdio.h>
#include <string.h>
#include "api/json.h"
#include "api/resources.h"
#include "vmm/core/log.h"
#include "vmm/core/metrics_groups.h"
#include "vmm/vm.h"

/* A device that is plugged into a running microVM needs a bus that can tell the guest. */
#define HOTPLUG_FAULT "PCI is not enabled"

enum body_log { LOG_BODY, LOG_BODY_AT_DEBUG, LOG_BODY_NEVER };

struct route {
	enum http_method method;
	const char *first;  /* the path's first part */
	const char *second; /* NULL: what follows is the id, or ignored */
	bool has_id;
	bool body_optional; /* of a PATCH */
	bool merge;         /* the body is a part of what init gives; it must not be empty */
	bool boot_specific; /* part of what a snapshot brings: not to be configured before one is loaded */
	enum api_when when;
	const char *refused_after; /* the fault after the start, where it is not the usual one */
	const struct schema *schema;
	void (*init)(const struct vm *vm, union api_body *body);
	const char *(*deprecated)(const union api_body *body);
	int (*check)(const struct api_call *call, struct error *err);
	int (*handle)(struct api_call *call, struct error *err); /* NULL: not built yet */
	const char *fault_prefix, *fault_suffix;                 /* NULL: none */
	metric_t *count, *fails;                                 /* NULL: not counted */
	enum body_log body_log;
};

#define GET_COUNT(name) .count = &process_metrics.get_api_requests.name##_count
#define PUT_COUNT(name)                                          \
	.count = &process_metrics.put_api_requests.name##_count, \
	.fails = &process_metrics.put_api_requests.name##_fails
#define PATCH_COUNT(name)                                          \
	.count = &process_metrics.patch_api_requests.name##_count, \
	.fails = &process_metrics.patch_api_requests.name##_fails

/* Known from Firecracker, not here yet: answered with a fault that says so. */
#define NOT_BUILT(its_method, path, ...)                               \
	{                                                              \
		.method = (its_method), .first = (path), ##__VA_ARGS__ \
	}

static const struct route routes[] = {
	{HTTP_GET, "", .handle = api_get_instance, GET_COUNT(instance_info)},
	{HTTP_GET, "version", .handle = api_get_version, GET_COUNT(vmm_version)},
	{HTTP_GET, "vm", "config", .handle = api_get_vm_config},
	{HTTP_GET, "machine-config", .handle = api_get_machine, GET_COUNT(machine_cfg)},
	{
		HTTP_PUT,
		"machine-config",
		.boot_specific = true,
		.when = API_BEFORE_START,
		.schema = &machine_schema,
		.deprecated = api_machine_deprecated,
		.handle = api_set_machine,
		.fault_prefix = "Machine config error: ",
		PUT_COUNT(machine_cfg),
	},
	{
		HTTP_PATCH,
		"machine-config",
		.boot_specific = true,
		.merge = true,
		.when = API_BEFORE_START,
		.schema = &machine_schema,
		.init = api_init_machine_patch,
		.deprecated = api_machine_deprecated,
		.handle = api_set_machine,
		.fault_prefix = "Machine config error: ",
		PATCH_COUNT(machine_cfg),
	},
	{
		HTTP_PUT,
		"boot-source",
		.boot_specific = true,
		.when = API_BEFORE_START,
		.schema = &boot_schema,
		.handle = api_put_boot_source,
		.fault_prefix = "Boot source error: ",
		PUT_COUNT(boot_source),
	},
	{
		HTTP_PUT,
		"drives",
		.boot_specific = true,
		.has_id = true,
		.when = API_BEFORE_START,
		.refused_after = HOTPLUG_FAULT,
		.schema = &drive_schema,
		.check = api_check_drive_id,
		.handle = api_put_drive,
		.fault_prefix = "Drive config error: ",
		PUT_COUNT(drive),
	},
	{
		HTTP_PATCH,
		"drives",
		.boot_specific = true,
		.has_id = true,
		.when = API_AFTER_START,
		.schema = &drive_patch_schema,
		.check = api_check_drive_patch_id,
		.handle = api_patch_drive,
		.fault_prefix = "Drive config error: Unable to patch the block device: ",
		.fault_suffix = " Please verify the request arguments.",
		PATCH_COUNT(drive),
	},
	{
		HTTP_DELETE,
		"drives",
		.has_id = true,
		.when = API_AFTER_START,
		.refused_after = HOTPLUG_FAULT,
	},
	{
		HTTP_PUT,
		"network-interfaces",
		.boot_specific = true,
		.has_id = true,
		.when = API_BEFORE_START,
		.refused_after = HOTPLUG_FAULT,
		.schema = &net_schema,
		.check = api_check_net_id,
		.handle = api_put_net,
		.fault_prefix = "Network config error: ",
		PUT_COUNT(network),
	},
	{
		HTTP_PATCH,
		"network-interfaces",
		.boot_specific = true,
		.has_id = true,
		.when = API_AFTER_START,
		.schema = &net_patch_schema,
		.check = api_check_net_patch_id,
		.handle = api_patch_net,
		.fault_prefix = "Network config error: Unable to update the net device: ",
		PATCH_COUNT(network),
	},
	{
		HTTP_DELETE,
		"network-interfaces",
		.has_id = true,
		.when = API_AFTER_START,
		.refused_after = HOTPLUG_FAULT,
	},
	{
		HTTP_PUT,
		"vsock",
		.boot_specific = true,
		.when = API_BEFORE_START,
		.schema = &vsock_schema,
		.deprecated = api_vsock_deprecated,
		.handle = api_put_vsock,
		.fault_prefix = "Vsock config error: ",
		PUT_COUNT(vsock),
	},
	{
		HTTP_PUT,
		"entropy",
		.boot_specific = true,
		.when = API_BEFORE_START,
		.schema = &entropy_schema,
		.handle = api_put_entropy,
		.fault_prefix = "Entropy config error: ",
	},
	{
		HTTP_PUT,
		"serial",
		.when = API_BEFORE_START,
		.schema = &serial_schema,
		.handle = api_put_serial,
		.fault_prefix = "Serial config error: ",
		PUT_COUNT(serial),
	},
	{
		HTTP_PUT,
		"logger",
		.when = API_BEFORE_START,
		.schema = &logger_schema,
		.init = api_init_logger,
		.handle = api_put_logger,
		.fault_prefix = "Logger error: ",
		PUT_COUNT(logger),
	},
	{
		HTTP_PUT,
		"metrics",
		.when = API_BEFORE_START,
		.schema = &metrics_schema,
		.handle = api_put_metrics,
		.fault_prefix = "Metrics error: ",
		PUT_COUNT(metrics),
	},
	{
		HTTP_PUT,
		"actions",
		.schema = &action_schema, /* when: each action has its own rule */
		.handle = api_put_action,
		PUT_COUNT(actions),
	},
	{
		HTTP_PATCH,
		"vm",
		.when = API_AFTER_START,
		.schema = &vm_patch_schema,
		.handle = api_patch_vm,
		.fault_prefix = "Internal VMM error: ",
	},
	{
		HTTP_PUT,
		"snapshot",
		"create",
		.when = API_AFTER_START,
		.schema = &snapshot_create_schema,
		.handle = api_create_snapshot,
		.fault_prefix = "Create snapshot error: ",
	},
	{
		HTTP_PUT,
		"snapshot",
		"load",
		.when = API_BEFORE_START,
		.schema = &snapshot_load_schema,
		.deprecated = api_load_deprecated,
		.check = api_check_load,
		.handle = api_load_snapshot,
		.fault_prefix = "Load snapshot error: ",
	},

	NOT_BUILT(HTTP_GET, "balloon"),
	NOT_BUILT(HTTP_PUT, "balloon"),
	NOT_BUILT(HTTP_PATCH, "balloon", .body_optional = true),
	NOT_BUILT(HTTP_PUT, "cpu-config", PUT_COUNT(cpu_cfg), .body_log = LOG_BODY_AT_DEBUG),
	NOT_BUILT(HTTP_GET, "mmds", GET_COUNT(mmds)),
	NOT_BUILT(HTTP_PUT, "mmds", PUT_COUNT(mmds), .body_log = LOG_BODY_NEVER),
	NOT_BUILT(HTTP_PATCH, "mmds", PATCH_COUNT(mmds), .body_log = LOG_BODY_NEVER),
	NOT_BUILT(HTTP_PUT, "pmem", PUT_COUNT(pmem)),
	NOT_BUILT(HTTP_PATCH, "pmem", PATCH_COUNT(pmem)),
	NOT_BUILT(HTTP_DELETE, "pmem"),
	NOT_BUILT(HTTP_GET, "hotplug", .second = "memory", GET_COUNT(hotplug_memory)),
	NOT_BUILT(HTTP_PUT, "hotplug", .second = "memory", PUT_COUNT(hotplug_memory)),
	NOT_BUILT(HTTP_PATCH, "hotplug", .second = "memory", PATCH_COUNT(hotplug_memory)),
};

/* ---- the path ---- */

/* The first two parts of a path; what follows them is ignored. */
struct path_parts {
	char first[HTTP_LINE_MAX];
	char second[HTTP_LINE_MAX];
};

static void split_path(const char *path, struct path_parts *parts)
{
	size_t len;

	path += strspn(path, "/");
	len = strcspn(path, "/");
	memcpy(parts->first, path, len);
	parts->first[len] = '\0';
	path += len + (path[len] == '/');
	len = strcspn(path, "/");
	memcpy(parts->second, path, len);
	parts->second[len] = '\0';
}

static const struct route *find_route(enum http_method method, const struct path_parts *parts)
{
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
		const struct route *route = &routes[i];

		if (route->method == method && !strcmp(route->first, parts->first) &&
		    (!route->second || !strcmp(route->second, parts->second)))
			return route;
	}
	return NULL;
}

/* ---- the steps ---- */

static int check_body_presence(const struct http_request *request, const struct route *route,
			       struct error *err)
{
	bool has_body = request->body_len > 0;

	if (request->method == HTTP_GET && has_body)
		return error_set(err, -EINVAL, "GET request cannot have a body.");
	if (request->method == HTTP_DELETE && has_body)
		return error_set(err, -EINVAL, "Empty Delete request.");
	if (has_body || request->method == HTTP_GET || request->method == HTTP_DELETE ||
	    (route && route->body_optional))
		return 0;
	return error_set(err, -EINVAL, "Empty %s request.", http_method_name(request->method));
}

static int check_id(const char *id, struct error *err)
{
	if (!*id)
		return error_set(err, -EINVAL, "The ID cannot be empty.");
	for (; *id; id++) {
		bool good = (*id >= '0' && *id <= '9') || (*id >= 'a' && *id <= 'z') ||
			    (*id >= 'A' && *id <= 'Z') || *id == '_';
		if (!good)
			return error_set(
				err, -EINVAL,
				"API Resource IDs can only contain alphanumeric characters and "
				"underscores.");
	}
	return 0;
}

static void error_append(struct error *err, const char *tail)
{
	size_t len = strlen(err->text);

	snprintf(err->text + len, sizeof(err->text) - len, "%s", tail);
}

static int parse_body(const struct route *route, const struct http_request *request,
		      struct api_call *call, struct error *err)
{
	cleanup_cjson cJSON *json = json_parse(request->body, request->body_len, err);
	unsigned given = 1;
	int ret;

	if (route->init)
		route->init(call->vm, &call->body);
	if (!json)
		ret = err->code;
	else if (route->merge)
		ret = schema_merge(route->schema, json, &call->body, &given, err);
	else
		ret = schema_parse(route->schema, json, &call->body, err);
	if (ret) {
		error_append(err, ".");
		return error_prefix(err, API_BODY_FAULT);
	}
	if (!given)
		return error_set(err, -EINVAL, "Empty PATCH request.");
	return 0;
}

int api_check_state(const struct vm *vm, enum api_when when, const char *refused_after,
		    struct error *err)
{
	bool started = vm_state(vm) != VM_NOT_STARTED;

	if (!started && when == API_AFTER_START)
		return error_set(err, -EINVAL, VM_FAULT_BEFORE_START);
	if (started && refused_after)
		return error_set(err, -EINVAL, "%s", refused_after);
	if (started && when == API_BEFORE_START)
		return error_set(err, -EINVAL, VM_FAULT_AFTER_START);
	return 0;
}

static void note_deprecated(const struct route *route, const struct api_call *call,
			    struct api_reply *reply)
{
	const char *field = route->deprecated ? route->deprecated(&call->body) : NULL;

	if (!field)
		return;
	reply->deprecated = true;
	metric_add(&process_metrics.deprecated_api.deprecated_http_api_calls, 1);
	log_warn("%s /%s: %s field is deprecated.", http_method_name(route->method), route->first,
		 field);
}

static int run_steps(const struct route *route, const struct http_request *request,
		     struct api_call *call, struct api_reply *reply, struct error *err)
{
	int ret = route->has_id ? check_id(call->id, err) : 0;

	if (!ret && !route->handle && !route->refused_after)
		return error_set(
			err, -ENOSYS,
			"The requested operation is not supported: %s /%s is part of Firecracker's "
			"API and not built into this version yet.",
			http_method_name(route->method), route->first);
	if (!ret && request->method != HTTP_GET && vm_is_frozen(call->vm))
		return error_set(err, -EBUSY, "%s", VM_FAULT_FROZEN);
	if (!ret && route->schema) {
		ret = parse_body(route, request, call, err);
		if (!ret)
			note_deprecated(route, call, reply);
	}
	if (!ret && route->check)
		ret = route->check(call, err);
	if (!ret)
		ret = api_check_state(call->vm, route->when, route->refused_after, err);
	if (ret)
		return ret;
	if (route->boot_specific)
		vm_note_configured(call->vm);
	ret = route->handle(call, err);
	if (ret && route->fault_prefix)
		error_prefix(err, "%s", route->fault_prefix);
	if (ret && route->fault_suffix)
		error_append(err, route->fault_suffix);
	return ret;
}

static int unknown_path(const struct http_request *request, const struct path_parts *parts,
			struct error *err)
{
	bool snapshot = request->method == HTTP_PUT && !strcmp(parts->first, "snapshot");

	if (snapshot && !*parts->second)
		return error_set(err, -EINVAL, "Missing snapshot operation type.");
	if (snapshot)
		return error_set(err, -EINVAL,
				 "Invalid request method and/or path: PUT /snapshot/%s.",
				 parts->second);
	return error_set(err, -EINVAL, "Invalid request method and/or path: %s %s.",
			 http_method_name(request->method), parts->first);
}

static int run_route(struct vm *vm, const struct http_request *request, const struct route *route,
		     const struct path_parts *parts, struct api_reply *reply, struct error *err)
{
	struct api_call call = {.vm = vm, .id = parts->second, .out = &reply->body};
	int ret = check_body_presence(request, route, err);

	if (ret)
		return ret;
	if (!route)
		return unknown_path(request, parts, err);
	if (route->count)
		metric_add(route->count, 1);
	ret = run_steps(route, request, &call, reply, err);
	if (ret && route->fails)
		metric_add(route->fails, 1);
	if (route->schema)
		schema_free(route->schema, &call.body);
	return ret;
}

/* ---- around them ---- */

static void log_request(const struct http_request *request, const struct route *route)
{
	const char *title = http_method_title(request->method);
	enum body_log body_log = route ? route->body_log : LOG_BODY;
	bool with_body = request->body_len > 0 && body_log != LOG_BODY_NEVER &&
			 (body_log != LOG_BODY_AT_DEBUG || log_enabled(LOG_LEVEL_DEBUG));

	if (with_body)
		log_info("The API server received a %s request on \"%s\" with body \"%s\".", title,
			 request->path, request->body);
	else
		log_info("The API server received a %s request on \"%s\".", title, request->path);
}

static void write_fault(struct api_reply *reply, const struct error *err)
{
	reply->status = 400;
	text_clear(&reply->body);
	text_add_string(&reply->body, "{\"fault_message\":");
	json_write_string(&reply->body, err->text);
	text_add_string(&reply->body, "}");
}

static void log_reply(const struct api_reply *reply, const struct error *err)
{
	const char *status_text = http_status_text(reply->status);

	if (reply->status >= 400)
		log_error("Received Error. Status code: %u %s. Message: %s", reply->status,
			  status_text, err->text);
	else
		log_info("The request was executed successfully. Status code: %u %s.",
			 reply->status, status_text);
}

void routes_handle(struct vm *vm, const struct http_request *request, struct api_reply *reply)
{
	uint64_t start_us = metrics_now_us();
	struct error err = {0};
	struct path_parts parts;
	const struct route *route;

	split_path(request->path, &parts);
	route = find_route(request->method, &parts);
	log_request(request, route);
	*reply = (struct api_reply){.status = 204};
	if (run_route(vm, request, route, &parts, reply, &err))
		write_fault(reply, &err);
	else if (reply->body.len)
		reply->status = 200;
	if (reply->body.failed) {
		error_set(&err, -ENOMEM, "no memory for the answer");
		reply->status = 500;
		text_free(&reply->body);
	}
	log_reply(reply, &err);
	log_debug("Total previous API call duration: %llu us.",
		  (unsigned long long)(metrics_now_us() - start_us));
}
