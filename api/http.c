// SPDX-License-Identifier: Apache-2.0
/* The HTTP/1.x request parser and response heads. */
#include "api/http.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "api/text.h"

#define BODY_FIRST_BYTES 4096u

const char http_busy_response[] =
	"HTTP/1.1 503\r\nServer: Firecracker API\r\nConnection: close\r\nContent-Length: 40\r\n\r\n"
	"{ \"error\": \"Too many open connections\" }";

static const char *const method_names[HTTP_METHOD_COUNT] = {
	[HTTP_GET] = "GET", [HTTP_PUT] = "PUT", [HTTP_PATCH] = "PATCH", [HTTP_DELETE] = "DELETE"};
static const char *const method_titles[HTTP_METHOD_COUNT] = {
	[HTTP_GET] = "Get", [HTTP_PUT] = "Put", [HTTP_PATCH] = "Patch", [HTTP_DELETE] = "Delete"};

const char *http_method_name(enum http_method method)
{
	return method_names[method];
}

const char *http_method_title(enum http_method method)
{
	return method_titles[method];
}

void http_parser_init(struct http_parser *parser, size_t payload_limit)
{
	memset(parser, 0, sizeof(*parser));
	parser->payload_limit = payload_limit;
}

static void start_request(struct http_parser *parser)
{
	size_t payload_limit = parser->payload_limit;

	http_parser_free(parser);
	http_parser_init(parser, payload_limit);
}

void http_parser_free(struct http_parser *parser)
{
	free(parser->request.body);
	parser->request.body = NULL;
}

/* ---- request line ---- */

static bool has_control(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			return true;
	return false;
}

static int parse_method(const char *text, size_t len, enum http_method *method, struct error *err)
{
	for (unsigned i = 0; i < HTTP_METHOD_COUNT; i++) {
		if (strlen(method_names[i]) == len && !memcmp(method_names[i], text, len)) {
			*method = (enum http_method)i;
			return 0;
		}
	}
	return error_set(err, -EINVAL, "Invalid HTTP Method: Unsupported HTTP method.");
}

/* Keeps the path of an origin-form ("/x") or absolute-form ("http://host/x") target. */
static int parse_target(struct http_request *request, const char *text, size_t len,
			struct error *err)
{
	static const char scheme[] = "http://";

	if (!len)
		return error_set(err, -EINVAL, "Invalid URI: Empty URI not allowed.");
	if (!utf8_is_valid(text, len))
		return error_set(err, -EINVAL, "Invalid URI: Cannot parse URI as UTF-8.");
	if (has_control(text, len))
		return error_set(err, -EINVAL, "Invalid URI: Control characters are not allowed.");
	if (len >= sizeof(scheme) - 1 && !strncasecmp(text, scheme, sizeof(scheme) - 1)) {
		const char *path = memchr(text + sizeof(scheme) - 1, '/', len - sizeof(scheme) + 1);
		len = path ? len - (size_t)(path - text) : 0;
		text = path;
	} else if (text[0] != '/') {
		return error_set(err, -EINVAL,
				 "Invalid URI: It must start with \"/\" or \"http://\".");
	}
	if (len)
		memcpy(request->path, text, len);
	request->path[len] = '\0';
	return 0;
}

static int parse_version(struct http_request *request, const char *text, size_t len,
			 struct error *err)
{
	if (len == 8 && !memcmp(text, "HTTP/1.1", 8))
		request->keep_alive = true;
	else if (len == 8 && !memcmp(text, "HTTP/1.0", 8))
		request->keep_alive = false;
	else
		return error_set(err, -EINVAL, "Invalid HTTP Version: Unsupported HTTP version.");
	return 0;
}

static int parse_request_line(struct http_parser *parser, const char *line, size_t len,
			      struct error *err)
{
	struct http_request *request = &parser->request;
	const char *end = line + len;
	const char *target = memchr(line, ' ', len);
	const char *version = target ? memchr(target + 1, ' ', (size_t)(end - target - 1)) : NULL;
	int ret;

	if (!version)
		return error_set(err, -EINVAL, "Invalid request.");
	ret = parse_method(line, (size_t)(target - line), &request->method, err);
	if (!ret)
		ret = parse_target(request, target + 1, (size_t)(version - target - 1), err);
	if (!ret)
		ret = parse_version(request, version + 1, (size_t)(end - version - 1), err);
	return ret;
}

/* ---- header lines ---- */

/* A header's value, and its name for messages; both inside the parser's line and not terminated. */
struct header {
	const char *name, *value;
	int name_len, value_len;
};

static int bad_value(const struct header *header, struct error *err)
{
	return error_set(err, -EINVAL,
			 "Invalid header. Reason: Invalid value. Key:%.*s; Value: %.*s",
			 header->name_len, header->name, header->value_len, header->value);
}

static int on_content_length(struct http_parser *parser, const struct header *header,
			     struct error *err)
{
	uint64_t length = 0;

	if (parser->has_content_length)
		return error_set(err, -EINVAL,
				 "Invalid header. Reason: Content-Length was given twice.");
	if (!header->value_len || header->value_len > 10)
		return bad_value(header, err);
	for (int i = 0; i < header->value_len; i++) {
		if (header->value[i] < '0' || header->value[i] > '9')
			return bad_value(header, err);
		length = length * 10 + (uint64_t)(header->value[i] - '0');
	}
	if (length > UINT32_MAX)
		return bad_value(header, err);
	parser->has_content_length = true;
	parser->content_length = (uint32_t)length;
	return 0;
}

static int on_transfer_encoding(struct http_parser *parser, const struct header *header,
				struct error *err)
{
	(void)parser;
	(void)header;
	return error_set(err, -EINVAL,
			 "Invalid header. Reason: Transfer-Encoding is not supported, "
			 "send the body with Content-Length.");
}

/* Steps through a comma-separated value: the next element without white space around it, or NULL at the end. */
static const char *next_element(const struct header *header, int *at, int *len)
{
	const char *value = header->value;
	int start = *at, end;

	if (start > header->value_len)
		return NULL;
	for (end = start; end < header->value_len && value[end] != ',';)
		end++;
	*at = end + 1;
	while (start < end && (value[start] == ' ' || value[start] == '\t'))
		start++;
	while (end > start && (value[end - 1] == ' ' || value[end - 1] == '\t'))
		end--;
	*len = end - start;
	return value + start;
}

static bool element_is(const char *element, int len, const char *word)
{
	return (size_t)len == strlen(word) && !strncasecmp(element, word, (size_t)len);
}

static int on_connection(struct http_parser *parser, const struct header *header, struct error *err)
{
	const char *element;
	int at = 0, len = 0;

	(void)err;
	while ((element = next_element(header, &at, &len))) {
		if (element_is(element, len, "close"))
			parser->request.keep_alive = false;
		else if (element_is(element, len, "keep-alive"))
			parser->request.keep_alive = true;
	}
	return 0;
}

static int on_expect(struct http_parser *parser, const struct header *header, struct error *err)
{
	(void)err;
	if (element_is(header->value, header->value_len, "100-continue"))
		parser->expect_continue = true;
	return 0;
}

/* Bodies are sent as they are ("identity"): a client that forbids that cannot be answered. */
static int on_accept_encoding(struct http_parser *parser, const struct header *header,
			      struct error *err)
{
	const char *element;
	int at = 0, len = 0;
	bool allows_identity = false, forbids_rest = false;

	(void)parser;
	while ((element = next_element(header, &at, &len))) {
		if (element_is(element, len, "identity;q=0"))
			return bad_value(header, err);
		if (len >= 8 && !strncasecmp(element, "identity", 8))
			allows_identity = true;
		if (element_is(element, len, "*;q=0"))
			forbids_rest = true;
	}
	return forbids_rest && !allows_identity ? bad_value(header, err) : 0;
}

static const struct {
	const char *name;
	int (*fn)(struct http_parser *parser, const struct header *header, struct error *err);
} header_rows[] = {
	{"Content-Length", on_content_length},   {"Transfer-Encoding", on_transfer_encoding},
	{"Connection", on_connection},           {"Expect", on_expect},
	{"Accept-Encoding", on_accept_encoding},
};

/* RFC 9110, section 5.6.2: what a header's name may consist of. */
static bool is_token(const char *text, int len)
{
	for (int i = 0; i < len; i++) {
		char c = text[i];
		bool word =
			(c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
		if (!word && (c == '\0' || !strchr("!#$%&'*+-.^_`|~", c)))
			return false;
	}
	return len > 0;
}

static int split_header(const char *line, size_t len, struct header *header, struct error *err)
{
	const char *colon = memchr(line, ':', len);
	const char *value, *end = line + len;

	if (!utf8_is_valid(line, len))
		return error_set(err, -EINVAL,
				 "Invalid header. Reason: Header contains invalid characters.");
	for (size_t i = 0; i < len; i++)
		if (line[i] != '\t' && has_control(line + i, 1))
			return error_set(
				err, -EINVAL,
				"Invalid header. Reason: Header contains control characters.");
	if (!colon || !is_token(line, (int)(colon - line)))
		return error_set(
			err, -EINVAL,
			"Invalid header. Reason: Header is incorrectly formatted. Key: %.*s",
			(int)(colon ? colon - line : end - line), line);
	value = colon + 1;
	while (value < end && (*value == ' ' || *value == '\t'))
		value++;
	while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	*header = (struct header){
		.name = line,
		.name_len = (int)(colon - line),
		.value = value,
		.value_len = (int)(end - value),
	};
	return 0;
}

static int parse_header(struct http_parser *parser, const char *line, size_t len, struct error *err)
{
	struct header header = {.name = ""};
	int ret;

	if (++parser->header_count > HTTP_HEADERS_MAX)
		return error_set(err, -EINVAL, "Invalid header. Reason: More than %u header lines.",
				 HTTP_HEADERS_MAX);
	ret = split_header(line, len, &header, err);
	for (size_t i = 0; !ret && i < sizeof(header_rows) / sizeof(header_rows[0]); i++)
		if (element_is(header.name, header.name_len, header_rows[i].name))
			return header_rows[i].fn(parser, &header, err);
	return ret;
}

/* ---- the stream ---- */

static int finish_head(struct http_parser *parser, struct error *err)
{
	if (parser->content_length > parser->payload_limit)
		return error_set(err, -EFBIG,
				 "Request payload with size %u is larger than the limit of %zu "
				 "allowed by server.",
				 parser->content_length, parser->payload_limit);
	parser->state = parser->content_length ? HTTP_PARSER_BODY : HTTP_PARSER_DONE;
	return 0;
}

/* parser->line holds a whole line without its CRLF. */
static int take_line(struct http_parser *parser, struct error *err)
{
	size_t len = parser->line_len - 2;
	int ret;

	parser->line_len = 0;
	if (parser->state == HTTP_PARSER_REQUEST_LINE) {
		ret = parse_request_line(parser, parser->line, len, err);
		parser->state = HTTP_PARSER_HEADERS;
		return ret;
	}
	return len ? parse_header(parser, parser->line, len, err) : finish_head(parser, err);
}

static int line_too_long(const struct http_parser *parser, struct error *err)
{
	if (parser->state == HTTP_PARSER_REQUEST_LINE)
		return error_set(err, -EINVAL, "Invalid request.");
	return error_set(err, -EINVAL,
			 "Invalid header. Reason: Header line is longer than %u bytes.",
			 HTTP_LINE_MAX);
}

/* Collects bytes up to and including the next LF, which must come after a CR. */
static int collect_line(struct http_parser *parser, const char *data, size_t len, size_t *used,
			struct error *err)
{
	const char *lf = memchr(data, '\n', len);
	size_t take = lf ? (size_t)(lf - data) + 1 : len;

	if (take > sizeof(parser->line) - parser->line_len)
		return line_too_long(parser, err);
	memcpy(parser->line + parser->line_len, data, take);
	parser->line_len += take;
	*used += take;
	if (!lf)
		return parser->line_len < sizeof(parser->line) ? 0 : line_too_long(parser, err);
	if (parser->line_len < 2 || parser->line[parser->line_len - 2] != '\r')
		return error_set(err, -EINVAL, "Invalid request. Lines must end with CR LF.");
	return take_line(parser, err);
}

static int grow_body(struct http_parser *parser, size_t needed, struct error *err)
{
	size_t capacity = parser->body_capacity ? parser->body_capacity : BODY_FIRST_BYTES;
	char *body;

	if (needed <= parser->body_capacity)
		return 0;
	while (capacity < needed)
		capacity *= 2;
	body = realloc(parser->request.body, capacity);
	if (!body)
		return error_set(err, -ENOMEM, "No memory for the request's body.");
	parser->request.body = body;
	parser->body_capacity = capacity;
	return 0;
}

static int collect_body(struct http_parser *parser, const char *data, size_t len, size_t *used,
			struct error *err)
{
	struct http_request *request = &parser->request;
	size_t missing = parser->content_length - request->body_len;
	size_t take = len < missing ? len : missing;
	int ret = grow_body(parser, request->body_len + take + 1, err);

	if (ret)
		return ret;
	memcpy(request->body + request->body_len, data, take);
	request->body_len += take;
	request->body[request->body_len] = '\0';
	*used += take;
	if (take == missing)
		parser->state = HTTP_PARSER_DONE;
	return 0;
}

enum http_progress http_parser_feed(struct http_parser *parser, const char *data, size_t len,
				    size_t *used, struct error *err)
{
	*used = 0;
	if (parser->state == HTTP_PARSER_DONE)
		start_request(parser);
	while (*used < len && parser->state != HTTP_PARSER_BAD) {
		bool in_head = parser->state != HTTP_PARSER_BODY;
		int ret = (in_head ? collect_line : collect_body)(parser, data + *used, len - *used,
								  used, err);

		if (ret)
			parser->state = HTTP_PARSER_BAD;
		else if (parser->state == HTTP_PARSER_DONE)
			return HTTP_REQUEST;
		else if (in_head && parser->state == HTTP_PARSER_BODY && parser->expect_continue)
			return HTTP_CONTINUE;
	}
	return parser->state == HTTP_PARSER_BAD ? HTTP_BAD : HTTP_MORE;
}

/* ---- responses ---- */

const char *http_status_text(unsigned status)
{
	switch (status) {
	case 200:
		return "OK";
	case 204:
		return "No Content";
	case 400:
		return "Bad Request";
	case 413:
		return "Payload Too Large";
	default:
		return "Internal Server Error";
	}
}

size_t http_format_head(const struct http_head *head, char out[HTTP_HEAD_MAX])
{
	bool has_body = head->status >= 200 && head->status != 204;
	char entity[96] = "";
	int len;

	if (has_body)
		snprintf(entity, sizeof(entity),
			 "Content-Type: application/json\r\nContent-Length: %zu\r\n",
			 head->body_len);
	len = snprintf(out, HTTP_HEAD_MAX,
		       "HTTP/1.1 %u \r\nServer: Firecracker API\r\nConnection: %s\r\n%s%s\r\n",
		       head->status, head->close ? "close" : "keep-alive",
		       head->deprecated ? "Deprecation: true\r\n" : "", entity);
	return (size_t)len;
}
