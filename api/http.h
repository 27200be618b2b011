// SPDX-License-Identifier: Apache-2.0
/*
 * HTTP/1.x as Firecracker speaks it: an incremental request parser and the response heads. No sockets in here.
 *
 * DOC: The parser is strict where leniency lets two readers of one byte stream disagree: CRLF only, no white space
 * around header names, one Content-Length of digits only, no Transfer-Encoding. A request line or header line is at
 * most HTTP_LINE_MAX bytes with its CRLF; a request has at most HTTP_HEADERS_MAX header lines; the body is at most the
 * configured limit and memory for it grows with what has arrived, not with what was announced. After HTTP_BAD the
 * stream's framing is lost: answer once and close.
 */
#ifndef API_HTTP_H
#define API_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "vmm/core/cleanup.h"
#include "vmm/core/error.h"

#define HTTP_LINE_MAX    1024u
#define HTTP_HEADERS_MAX 128u

enum http_method { HTTP_GET, HTTP_PUT, HTTP_PATCH, HTTP_DELETE, HTTP_METHOD_COUNT };

struct http_request {
	enum http_method method;
	char path
		[HTTP_LINE_MAX]; /* the URI's path as sent: UTF-8 without control characters, "" or from its "/" on */
	bool keep_alive; /* false: HTTP/1.0, or the client said Connection: close */
	char *body;      /* NUL-terminated; NULL when body_len is 0 */
	size_t body_len;
};

enum http_progress {
	HTTP_MORE,     /* all bytes were taken, the request is not complete */
	HTTP_CONTINUE, /* the client waits for "100 Continue" before it sends the body; feed on */
	HTTP_REQUEST,  /* parser->request is complete, valid until the next feed */
	HTTP_BAD,      /* not a request; the error's text says why; the parser takes nothing more */
};

enum http_parser_state {
	HTTP_PARSER_REQUEST_LINE,
	HTTP_PARSER_HEADERS,
	HTTP_PARSER_BODY,
	HTTP_PARSER_DONE,
	HTTP_PARSER_BAD,
};

struct http_parser {
	enum http_parser_state state;
	size_t payload_limit;
	char line[HTTP_LINE_MAX]; /* the line that is being collected */
	size_t line_len;
	unsigned header_count;
	bool has_content_length;
	bool expect_continue;
	uint32_t content_length;
	size_t body_capacity;
	struct http_request request;
};

/* payload_limit: the largest body in bytes. Released by http_parser_free(). */
void http_parser_init(struct http_parser *parser, size_t payload_limit);
void http_parser_free(struct http_parser *parser);

/* Takes bytes of the stream; *used says how many. Stops at the end of a request: feed the rest again (pipelining). */
enum http_progress http_parser_feed(struct http_parser *parser, const char *data, size_t len,
				    size_t *used, struct error *err) must_check;

const char *http_method_name(enum http_method method);  /* "PUT" */
const char *http_method_title(enum http_method method); /* "Put", for the log */

#define HTTP_HEAD_MAX 256u

struct http_head {
	unsigned status; /* 100, 200, 204, 400, 413, 500 */
	bool deprecated; /* say that the request used something that is going away */
	bool close;      /* this connection ends here */
	size_t body_len;
};

/* Writes the response's head, byte for byte as Firecracker's, with its empty line. Returns its length. */
size_t http_format_head(const struct http_head *head, char out[HTTP_HEAD_MAX]);

/* "Bad Request", for the log (the wire carries no reason phrase). */
const char *http_status_text(unsigned status);

/* The whole answer to a connection too many. */
extern const char http_busy_response[];

#endif
