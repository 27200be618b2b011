// SPDX-License-Identifier: Apache-2.0
/*
 * A client's bytes, from the HTTP parser through the routes to a fake microVM. The first byte of input says in what
 * pieces the rest arrives. Every answer must be what an API client can read.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "api/http.h"
#include "api/json.h"
#include "api/routes.h"
#include "tests/unit/fake_vm.h"
#include "vmm/core/log.h"

#define PAYLOAD_LIMIT 2048u

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct error err;

	(void)argc;
	(void)argv;
	return log_configure(&(struct log_config){.level = LOG_LEVEL_OFF}, &err);
}

static void check_reply(const struct api_reply *reply)
{
	struct error err;
	cJSON *json;
	char head[HTTP_HEAD_MAX];

	assert(reply->status == 204 || reply->status == 200 || reply->status == 400);
	assert((reply->status == 204) == (reply->body.len == 0));
	assert(http_format_head(&(struct http_head){.status = reply->status,
						    .deprecated = reply->deprecated,
						    .body_len = reply->body.len},
				head) < sizeof(head));
	if (!reply->body.len)
		return;
	json = json_parse(reply->body.data, reply->body.len, &err);
	assert(json);
	assert(reply->status == 200 || cJSON_GetObjectItemCaseSensitive(json, "fault_message"));
	cJSON_Delete(json);
}

static void handle(struct vm *vm, const struct http_request *request)
{
	struct api_reply reply;

	assert(request->body_len <= PAYLOAD_LIMIT);
	assert(!request->body == !request->body_len);
	assert(!request->body || request->body[request->body_len] == '\0');
	/* These two would open files that the input names. */
	if (strstr(request->path, "logger") || strstr(request->path, "metrics"))
		return;
	routes_handle(vm, request, &reply);
	check_reply(&reply);
	text_free(&reply.body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct http_parser parser;
	struct error err = {0};
	struct vm vm;
	size_t step, at = 1;

	if (!size)
		return 0;
	step = data[0] ? data[0] : size;
	fake_vm_init(&vm);
	http_parser_init(&parser, PAYLOAD_LIMIT);
	while (at < size) {
		size_t piece = size - at < step ? size - at : step, used;
		enum http_progress progress =
			http_parser_feed(&parser, (const char *)data + at, piece, &used, &err);

		assert(used <= piece);
		assert(progress != HTTP_MORE || used == piece);
		at += used;
		if (progress == HTTP_REQUEST)
			handle(&vm, &parser.request);
		if (progress == HTTP_BAD) {
			assert(err.text[0]);
			break;
		}
	}
	http_parser_free(&parser);
	fake_vm_clear(&vm);
	return 0;
}
