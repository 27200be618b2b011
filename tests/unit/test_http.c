// SPDX-License-Identifier: Apache-2.0
/* The HTTP request parser and response heads. */
#include "tests/unit/unit.h"

#include <stdio.h>
#include <string.h>
#include "api/http.h"
#include "api/text.h"

#define LIMIT 64u

/* Feeds the whole text in pieces of step bytes; stops at the first thing that is not HTTP_MORE or HTTP_CONTINUE. */
static enum http_progress feed(struct http_parser *parser, const char *text, size_t len,
			       size_t step, struct error *err)
{
	enum http_progress progress = HTTP_MORE;

	for (size_t at = 0; at < len;) {
		size_t piece = len - at < step ? len - at : step, used;

		progress = http_parser_feed(parser, text + at, piece, &used, err);
		at += used;
		if (progress == HTTP_REQUEST || progress == HTTP_BAD)
			return progress;
		if (progress == HTTP_MORE)
			assert_int_equal(used, piece);
	}
	return progress;
}

static const struct {
	const char *text;
	enum http_method method;
	const char *path;
	const char *body;
	bool keep_alive;
} good[] = {
	{"GET / HTTP/1.1\r\n\r\n", HTTP_GET, "/", NULL, true},
	{"GET / HTTP/1.0\r\n\r\n", HTTP_GET, "/", NULL, false},
	{"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", HTTP_GET, "/", NULL, true},
	{"GET / HTTP/1.1\r\nconnection: x, Close\r\n\r\n", HTTP_GET, "/", NULL, false},
	{"PUT /a?b#c HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", HTTP_PUT, "/a?b#c", "{}", true},
	{"PATCH /a HTTP/1.1\r\nCONTENT-LENGTH:\t2 \r\n\r\n{}", HTTP_PATCH, "/a", "{}", true},
	{"DELETE /a/b HTTP/1.1\r\nContent-Length: 0\r\n\r\n", HTTP_DELETE, "/a/b", NULL, true},
	{"GET http://localhost/v HTTP/1.1\r\n\r\n", HTTP_GET, "/v", NULL, true},
	{"GET HTTP://localhost HTTP/1.1\r\n\r\n", HTTP_GET, "", NULL, true},
	{"GET http:// HTTP/1.1\r\n\r\n", HTTP_GET, "", NULL, true},
	{"GET /\xc3\xa9 HTTP/1.1\r\n\r\n", HTTP_GET, "/\xc3\xa9", NULL, true},
	{"GET / HTTP/1.1\r\nX-Empty:\r\nY: a:b\r\n\r\n", HTTP_GET, "/", NULL, true},
	{"GET / HTTP/1.1\r\nAccept-Encoding: gzip, identity\r\n\r\n", HTTP_GET, "/", NULL, true},
	{"GET / HTTP/1.1\r\nAccept-Encoding: identity, *;q=0\r\n\r\n", HTTP_GET, "/", NULL, true},
	{"GET / HTTP/1.1\r\nExpect: something\r\n\r\n", HTTP_GET, "/", NULL, true},
	{"PUT / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n1", HTTP_PUT, "/", "1",
	 true},
};

static void test_good(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		size_t len = strlen(good[i].text);

		for (size_t step = 1; step <= len; step++) {
			struct http_parser parser;
			struct error err = {0};

			http_parser_init(&parser, LIMIT);
			assert_int_equal(feed(&parser, good[i].text, len, step, &err),
					 HTTP_REQUEST);
			assert_int_equal(parser.request.method, good[i].method);
			assert_string_equal(parser.request.path, good[i].path);
			assert_int_equal(parser.request.keep_alive, good[i].keep_alive);
			if (good[i].body)
				assert_string_equal(parser.request.body, good[i].body);
			else
				assert_int_equal(parser.request.body_len, 0);
			http_parser_free(&parser);
		}
	}
}

static const struct {
	const char *text;
	const char *fault;
} bad[] = {
	{"GET /\r\n", "Invalid request."},
	{"\r\n", "Invalid request."},
	{"\n", "Invalid request. Lines must end with CR LF."},
	{"GET / HTTP/1.1\n", "Invalid request. Lines must end with CR LF."},
	{"get / HTTP/1.1\r\n", "Invalid HTTP Method: Unsupported HTTP method."},
	{"GETT / HTTP/1.1\r\n", "Invalid HTTP Method: Unsupported HTTP method."},
	{"POST / HTTP/1.1\r\n", "Invalid HTTP Method: Unsupported HTTP method."},
	{"GET  / HTTP/1.1\r\n", "Invalid URI: Empty URI not allowed."},
	{"GET * HTTP/1.1\r\n", "Invalid URI: It must start with \"/\" or \"http://\"."},
	{"GET https://x/ HTTP/1.1\r\n", "Invalid URI: It must start with \"/\" or \"http://\"."},
	{"GET /\xff HTTP/1.1\r\n", "Invalid URI: Cannot parse URI as UTF-8."},
	{"GET /\x01 HTTP/1.1\r\n", "Invalid URI: Control characters are not allowed."},
	{"GET /\r HTTP/1.1\r\n", "Invalid URI: Control characters are not allowed."},
	{"GET / HTTP/1.1 \r\n", "Invalid HTTP Version: Unsupported HTTP version."},
	{"GET / HTTP/2.0\r\n", "Invalid HTTP Version: Unsupported HTTP version."},
	{"GET / HTTP/1.1\r\nx\r\n",
	 "Invalid header. Reason: Header is incorrectly formatted. Key: x"},
	{"GET / HTTP/1.1\r\n: x\r\n",
	 "Invalid header. Reason: Header is incorrectly formatted. Key: "},
	{"GET / HTTP/1.1\r\nX : x\r\n",
	 "Invalid header. Reason: Header is incorrectly formatted. Key: X "},
	{"GET / HTTP/1.1\r\n X: folded\r\n",
	 "Invalid header. Reason: Header is incorrectly formatted. Key:  X"},
	{"GET / HTTP/1.1\r\nX: \xff\r\n",
	 "Invalid header. Reason: Header contains invalid characters."},
	{"GET / HTTP/1.1\r\nX: a\rb\r\n",
	 "Invalid header. Reason: Header contains control characters."},
	{"GET / HTTP/1.1\r\nContent-Length: \r\n",
	 "Invalid header. Reason: Invalid value. Key:Content-Length; Value: "},
	{"GET / HTTP/1.1\r\nContent-Length: +1\r\n",
	 "Invalid header. Reason: Invalid value. Key:Content-Length; Value: +1"},
	{"GET / HTTP/1.1\r\nContent-Length: 1,1\r\n",
	 "Invalid header. Reason: Invalid value. Key:Content-Length; Value: 1,1"},
	{"GET / HTTP/1.1\r\nContent-Length: 4294967296\r\n",
	 "Invalid header. Reason: Invalid value. Key:Content-Length; Value: 4294967296"},
	{"GET / HTTP/1.1\r\nContent-Length: 00000000001\r\n",
	 "Invalid header. Reason: Invalid value. Key:Content-Length; Value: 00000000001"},
	{"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n",
	 "Invalid header. Reason: Content-Length was given twice."},
	{"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n",
	 "Invalid header. Reason: Transfer-Encoding is not supported, send the body with "
	 "Content-Length."},
	{"GET / HTTP/1.1\r\nAccept-Encoding: identity;q=0\r\n",
	 "Invalid header. Reason: Invalid value. Key:Accept-Encoding; Value: identity;q=0"},
	{"GET / HTTP/1.1\r\nAccept-Encoding: gzip,*;q=0\r\n",
	 "Invalid header. Reason: Invalid value. Key:Accept-Encoding; Value: gzip,*;q=0"},
	{"PUT / HTTP/1.1\r\nContent-Length: 65\r\n\r\n",
	 "Request payload with size 65 is larger than the limit of 64 allowed by server."},
};

static void test_bad(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		size_t len = strlen(bad[i].text);

		for (size_t step = 1; step <= len; step++) {
			struct http_parser parser;
			struct error err = {0};
			size_t used;

			http_parser_init(&parser, LIMIT);
			assert_int_equal(feed(&parser, bad[i].text, len, step, &err), HTTP_BAD);
			assert_string_equal(err.text, bad[i].fault);
			/* It stays bad, whatever comes. */
			assert_int_equal(http_parser_feed(&parser, "GET / HTTP/1.1\r\n\r\n", 18,
							  &used, &err),
					 HTTP_BAD);
			assert_int_equal(used, 0);
			http_parser_free(&parser);
		}
	}
}

/* A NUL is a control character, not the end of something. */
static void test_nul(void **state)
{
	static const char in_target[] = "GET /\0 HTTP/1.1\r\n";
	static const char in_header[] = "GET / HTTP/1.1\r\nX: \0\r\n";
	static const char in_name[] = "GET / HTTP/1.1\r\nContent-Length\0: 1\r\n";
	struct http_parser parser;
	struct error err = {0};

	(void)state;
	http_parser_init(&parser, LIMIT);
	assert_int_equal(feed(&parser, in_target, sizeof(in_target) - 1, 100, &err), HTTP_BAD);
	http_parser_init(&parser, LIMIT);
	assert_int_equal(feed(&parser, in_header, sizeof(in_header) - 1, 100, &err), HTTP_BAD);
	http_parser_init(&parser, LIMIT);
	assert_int_equal(feed(&parser, in_name, sizeof(in_name) - 1, 100, &err), HTTP_BAD);
}

/* A line of exactly HTTP_LINE_MAX bytes with its CRLF is taken, one more is not, however it arrives. */
static void test_line_limit(void **state)
{
	(void)state;
	for (size_t over = 0; over < 2; over++) {
		for (size_t step = 1; step < 2000; step += 333) {
			char text[HTTP_LINE_MAX + 64];
			struct http_parser parser;
			struct error err = {0};
			size_t head = (size_t)sprintf(text, "GET / HTTP/1.1\r\nX: ");
			size_t fill = HTTP_LINE_MAX - 5 + over;

			memset(text + head, 'a', fill);
			memcpy(text + head + fill, "\r\n\r\n", 4);
			http_parser_init(&parser, LIMIT);
			assert_int_equal(feed(&parser, text, head + fill + 4, step, &err),
					 over ? HTTP_BAD : HTTP_REQUEST);
			if (over)
				assert_string_equal(err.text,
						    "Invalid header. Reason: Header line is "
						    "longer than 1024 bytes.");
			http_parser_free(&parser);
		}
	}
}

static void test_request_line_limit(void **state)
{
	char text[HTTP_LINE_MAX + 64] = "GET /";
	size_t fill = HTTP_LINE_MAX - strlen("GET / HTTP/1.1\r\n");
	struct http_parser parser;
	struct error err = {0};

	(void)state;
	memset(text + 5, 'a', fill);
	strcpy(text + 5 + fill, " HTTP/1.1\r\n\r\n");
	http_parser_init(&parser, LIMIT);
	assert_int_equal(feed(&parser, text, strlen(text), 100, &err), HTTP_REQUEST);
	assert_int_equal(strlen(parser.request.path), fill + 1);
	strcpy(text + 5 + fill, "a HTTP/1.1\r\n\r\n");
	assert_int_equal(feed(&parser, text, strlen(text), 100, &err), HTTP_BAD);
	assert_string_equal(err.text, "Invalid request.");
	http_parser_free(&parser);
}

static void test_header_count(void **state)
{
	(void)state;
	for (unsigned extra = 0; extra < 2; extra++) {
		struct text text = {0};
		struct http_parser parser;
		struct error err = {0};

		text_add_string(&text, "GET / HTTP/1.1\r\n");
		for (unsigned i = 0; i < HTTP_HEADERS_MAX + extra; i++)
			text_printf(&text, "X-%u: y\r\n", i);
		text_add_string(&text, "\r\n");
		http_parser_init(&parser, LIMIT);
		assert_int_equal(feed(&parser, text.data, text.len, 50, &err),
				 extra ? HTTP_BAD : HTTP_REQUEST);
		http_parser_free(&parser);
		text_free(&text);
	}
}

static void test_pipelining(void **state)
{
	static const char text[] = "PUT /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
				   "GET /b HTTP/1.1\r\n\r\n"
				   "nonsense\r\n";
	struct http_parser parser;
	struct error err = {0};
	size_t used, at = 0, len = sizeof(text) - 1;

	(void)state;
	http_parser_init(&parser, LIMIT);
	assert_int_equal(http_parser_feed(&parser, text, len, &used, &err), HTTP_REQUEST);
	assert_string_equal(parser.request.path, "/a");
	assert_string_equal(parser.request.body, "abc");
	at += used;
	assert_int_equal(http_parser_feed(&parser, text + at, len - at, &used, &err), HTTP_REQUEST);
	assert_string_equal(parser.request.path, "/b");
	assert_int_equal(parser.request.body_len, 0);
	at += used;
	assert_int_equal(http_parser_feed(&parser, text + at, len - at, &used, &err), HTTP_BAD);
	http_parser_free(&parser);
}

/* 100-continue is asked for once, after the head and before the body, and only when there is a body to wait for. */
static void test_continue(void **state)
{
	static const char head[] =
		"PUT /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
	static const char none[] = "GET /a HTTP/1.1\r\nExpect: 100-continue\r\n\r\n";
	static const char large[] =
		"PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 99\r\n\r\n";
	struct http_parser parser;
	struct error err = {0};
	size_t used;

	(void)state;
	http_parser_init(&parser, LIMIT);
	assert_int_equal(http_parser_feed(&parser, head, sizeof(head) - 1, &used, &err),
			 HTTP_CONTINUE);
	assert_int_equal(http_parser_feed(&parser, "{", 1, &used, &err), HTTP_MORE);
	assert_int_equal(http_parser_feed(&parser, "}", 1, &used, &err), HTTP_REQUEST);
	assert_string_equal(parser.request.body, "{}");
	assert_int_equal(http_parser_feed(&parser, none, sizeof(none) - 1, &used, &err),
			 HTTP_REQUEST);
	assert_int_equal(http_parser_feed(&parser, large, sizeof(large) - 1, &used, &err),
			 HTTP_BAD);
	http_parser_free(&parser);
}

static void test_body_of_the_limit(void **state)
{
	struct text text = {0};
	struct http_parser parser;
	struct error err = {0};

	(void)state;
	text_add_string(&text, "PUT / HTTP/1.1\r\nContent-Length: 64\r\n\r\n");
	for (unsigned i = 0; i < LIMIT; i++)
		text_add(&text, "x", 1);
	http_parser_init(&parser, LIMIT);
	assert_int_equal(feed(&parser, text.data, text.len, 7, &err), HTTP_REQUEST);
	assert_int_equal(parser.request.body_len, LIMIT);
	assert_int_equal(strlen(parser.request.body), LIMIT);
	http_parser_free(&parser);
	text_free(&text);
}

static void test_heads(void **state)
{
	static const struct {
		struct http_head head;
		const char *text;
	} rows[] = {
		{{.status = 204},
		 "HTTP/1.1 204 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n"},
		{{.status = 200, .body_len = 17},
		 "HTTP/1.1 200 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n"
		 "Content-Type: application/json\r\nContent-Length: 17\r\n\r\n"},
		{{.status = 204, .deprecated = true},
		 "HTTP/1.1 204 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n"
		 "Deprecation: true\r\n\r\n"},
		{{.status = 400, .deprecated = true, .body_len = 1},
		 "HTTP/1.1 400 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n"
		 "Deprecation: true\r\nContent-Type: application/json\r\nContent-Length: "
		 "1\r\n\r\n"},
		{{.status = 100},
		 "HTTP/1.1 100 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n"},
		{{.status = 400, .close = true, .body_len = SIZE_MAX},
		 "HTTP/1.1 400 \r\nServer: Firecracker API\r\nConnection: close\r\n"
		 "Content-Type: application/json\r\nContent-Length: 18446744073709551615\r\n\r\n"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char out[HTTP_HEAD_MAX];

		assert_int_equal(http_format_head(&rows[i].head, out), strlen(rows[i].text));
		assert_string_equal(out, rows[i].text);
	}
	assert_string_equal(
		http_busy_response,
		"HTTP/1.1 503\r\nServer: Firecracker API\r\nConnection: close\r\n"
		"Content-Length: 40\r\n\r\n{ \"error\": \"Too many open connections\" }");
	assert_int_equal(strlen(strchr(http_busy_response, '{')), 40);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_nul),
		cmocka_unit_test(test_line_limit),
		cmocka_unit_test(test_request_line_limit),
		cmocka_unit_test(test_header_count),
		cmocka_unit_test(test_pipelining),
		cmocka_unit_test(test_continue),
		cmocka_unit_test(test_body_of_the_limit),
		cmocka_unit_test(test_heads),
	};

	return RUN_TESTS(tests);
}
