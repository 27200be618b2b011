// SPDX-License-Identifier: Apache-2.0
/*
 * The API's server.
 *
 * DOC: A connection reads at most one buffer an event, answers the requests in it one after another, and stops reading
 * while an answer waits to be taken: what a client can make the monitor hold is one buffer, one request and one answer
 * on each of API_CONNECTIONS_MAX connections, and a client that pipelines without reading is stopped by its own socket.
 * Connections end
 *   - when the client is gone: at once, or, when it only stopped sending, after the last answer;
 *   - after a request that said so (Connection: close, HTTP/1.0): after its answer;
 *   - after something that is no HTTP: the answer, then end of file, then whatever the client still sends is read and
 *     dropped for a while, because closing with unread bytes would make the client's send fail before it reads why.
 * Idle connections stay open.
 */
#include "api/server.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include "api/http.h"
#include "api/json.h"
#include "api/routes.h"
#include "api/text.h"
#include "vmm/core/log.h"
#include "vmm/core/loop.h"

#define INPUT_BYTES      4096u
#define LISTEN_BACKLOG   128
#define ACCEPTS_AN_EVENT 16
#define LINGER_BYTES_MAX (1u << 20)
#define LINGER_NS        UINT64_C(2000000000)
/* When there are no descriptors left, accepting is tried again after this long instead of spinning. */
#define ACCEPT_PAUSE_NS UINT64_C(100000000)

enum connection_state {
	CONNECTION_OPEN,
	CONNECTION_LAST_ANSWER, /* close when what is in out has been sent */
	CONNECTION_REFUSED,     /* the same, then drop input before closing */
	CONNECTION_LINGERING,   /* dropping input */
};

struct connection {
	struct api_server *server;
	struct connection **slot; /* the server's pointer to it */
	int fd;
	struct loop_source *source;
	struct loop_source *linger_timer; /* NULL until lingering */
	enum connection_state state;
	struct http_parser parser;
	char input[INPUT_BYTES];
	size_t input_len, input_used;
	bool input_ended;
	size_t dropped_bytes; /* while lingering */
	struct text out;
	size_t out_sent;
};

struct api_server {
	struct loop *loop;
	struct vm *vm;
	size_t payload_limit;
	char *path;
	int fd;
	bool bound; /* the file at path is ours if it is still this one: */
	dev_t bound_dev;
	ino_t bound_ino;
	struct loop_source *source;
	struct loop_source *accept_timer;
	struct connection *connections[API_CONNECTIONS_MAX]; /* NULL: a free slot */
};

/* ---- a connection ---- */

static void free_connection(struct connection *connection)
{
	*connection->slot = NULL;
	loop_source_free(connection->source);
	loop_source_free(connection->linger_timer);
	http_parser_free(&connection->parser);
	text_free(&connection->out);
	close_fd(connection->fd);
	free(connection);
}

static bool has_output(const struct connection *connection)
{
	return connection->out_sent < connection->out.len;
}

/* Sends what the socket takes. false: the connection is broken. */
static bool flush(struct connection *connection)
{
	while (has_output(connection)) {
		ssize_t sent = send(connection->fd, connection->out.data + connection->out_sent,
				    connection->out.len - connection->out_sent,
				    MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return errno == EAGAIN || errno == EWOULDBLOCK;
		connection->out_sent += (size_t)sent;
	}
	text_clear(&connection->out);
	connection->out_sent = 0;
	return true;
}

static void queue_reply(struct connection *connection, const struct http_head *head,
			const char *body)
{
	char text[HTTP_HEAD_MAX];

	text_add(&connection->out, text, http_format_head(head, text));
	text_add(&connection->out, body, head->body_len);
}

static void answer_request(struct connection *connection)
{
	const struct http_request *request = &connection->parser.request;
	struct api_reply reply;

	routes_handle(connection->server->vm, request, &reply);
	queue_reply(connection,
		    &(struct http_head){
			    .status = reply.status,
			    .deprecated = reply.deprecated,
			    .close = !request->keep_alive,
			    .body_len = reply.body.len,
		    },
		    reply.body.data);
	text_free(&reply.body);
	if (!request->keep_alive)
		connection->state = CONNECTION_LAST_ANSWER;
}

/* The raw line break inside the string is Firecracker's; what comes from the client is escaped. */
static void answer_bad_http(struct connection *connection, const struct error *err)
{
	struct text quoted = {0}, body = {0};

	log_error("Received Error. Status code: 400 Bad Request. Message: %s", err->text);
	json_write_string(&quoted, err->text);
	if (quoted.len >= 2)
		text_printf(
			&body,
			"{ \"error\": %.*s\nAll previous unanswered requests will be dropped.\" }",
			(int)quoted.len - 1, quoted.data);
	queue_reply(connection,
		    &(struct http_head){.status = 400, .close = true, .body_len = body.len},
		    body.data);
	text_free(&quoted);
	text_free(&body);
	connection->state = CONNECTION_REFUSED;
}

/* Works on what has been read until that is used up or an answer has to wait. false: the connection is broken. */
static bool process_input(struct connection *connection)
{
	while (connection->state == CONNECTION_OPEN && !has_output(connection) &&
	       connection->input_used < connection->input_len) {
		struct error err = {0};
		size_t used;
		enum http_progress progress =
			http_parser_feed(&connection->parser,
					 connection->input + connection->input_used,
					 connection->input_len - connection->input_used, &used,
					 &err);

		connection->input_used += used;
		switch (progress) {
		case HTTP_MORE:
			break;
		case HTTP_CONTINUE:
			queue_reply(connection, &(struct http_head){.status = 100}, NULL);
			break;
		case HTTP_REQUEST:
			answer_request(connection);
			break;
		case HTTP_BAD:
			answer_bad_http(connection, &err);
			break;
		}
		if (connection->out.failed || !flush(connection))
			return false;
	}
	return true;
}

static bool would_block(void)
{
	return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

/* Descriptors that a client attaches are dropped by the kernel, since no room is given for them. false: broken. */
static bool read_input(struct connection *connection)
{
	ssize_t got =
		recv(connection->fd, connection->input, sizeof(connection->input), MSG_DONTWAIT);

	if (got < 0)
		return would_block();
	connection->input_used = 0;
	connection->input_len = (size_t)got;
	connection->input_ended = got == 0;
	return true;
}

static void on_linger_timer(void *ctx)
{
	free_connection(ctx);
}

/* false: there is no need to linger, or no way. */
static bool start_lingering(struct connection *connection)
{
	connection->state = CONNECTION_LINGERING;
	connection->linger_timer =
		loop_add_timer(connection->server->loop, on_linger_timer, connection);
	if (!connection->linger_timer || connection->input_ended ||
	    shutdown(connection->fd, SHUT_WR) < 0)
		return false;
	loop_timer_arm(connection->linger_timer, LINGER_NS);
	loop_source_set_events(connection->source, LOOP_READ);
	return true;
}

/* One buffer an event, up to a limit. false: time to close. */
static bool drop_input(struct connection *connection)
{
	ssize_t got =
		recv(connection->fd, connection->input, sizeof(connection->input), MSG_DONTWAIT);

	if (got < 0)
		return would_block();
	connection->dropped_bytes += (size_t)got;
	return got > 0 && connection->dropped_bytes <= LINGER_BYTES_MAX;
}

/* What comes next, after output and input have gone as far as they go. false: the connection has come to its end. */
static bool settle(struct connection *connection)
{
	if (has_output(connection)) {
		loop_source_set_events(connection->source, LOOP_WRITE);
		return true;
	}
	if (connection->state == CONNECTION_LAST_ANSWER)
		return false;
	if (connection->state == CONNECTION_REFUSED)
		return start_lingering(connection);
	loop_source_set_events(connection->source, LOOP_READ);
	return !connection->input_ended;
}

static void on_connection(void *ctx, unsigned events)
{
	struct connection *connection = ctx;
	bool alive = true;

	if (connection->state == CONNECTION_LINGERING) {
		if (!drop_input(connection))
			free_connection(connection);
		return;
	}
	if (events & LOOP_WRITE)
		alive = flush(connection);
	/* The buffer is filled again only when it is used up, which also keeps requests in order. */
	if (alive && events & LOOP_READ && connection->input_used == connection->input_len)
		alive = read_input(connection);
	if (alive)
		alive = process_input(connection);
	if (!alive || !settle(connection))
		free_connection(connection);
}

/* ---- accepting ---- */

static void refuse_connection(int fd)
{
	ssize_t sent = send(fd, http_busy_response, strlen(http_busy_response),
			    MSG_NOSIGNAL | MSG_DONTWAIT);

	(void)sent; /* a client that is gone already need not be told */
	close_fd(fd);
	log_warn("The API server refused a connection: %u are open.", API_CONNECTIONS_MAX);
}

static struct connection **find_slot(struct api_server *server)
{
	for (unsigned i = 0; i < API_CONNECTIONS_MAX; i++)
		if (!server->connections[i])
			return &server->connections[i];
	return NULL;
}

/* Takes ownership of fd. */
static void add_connection(struct api_server *server, struct connection **slot, int fd)
{
	struct connection *connection = calloc(1, sizeof(*connection));

	if (!connection) {
		close_fd(fd);
		return;
	}
	connection->server = server;
	connection->fd = fd;
	http_parser_init(&connection->parser, server->payload_limit);
	connection->slot = slot;
	*slot = connection;
	connection->source = loop_add_fd(server->loop, fd, LOOP_READ, on_connection, connection);
	if (!connection->source)
		free_connection(connection);
}

static void on_listener(void *ctx, unsigned events)
{
	struct api_server *server = ctx;

	(void)events;
	for (int i = 0; i < ACCEPTS_AN_EVENT; i++) {
		int fd = accept4(server->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct connection **slot = find_slot(server);

		if (fd >= 0 && slot) {
			add_connection(server, slot, fd);
		} else if (fd >= 0) {
			refuse_connection(fd);
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM ||
			   errno == ENOBUFS) {
			loop_source_set_events(server->source, 0);
			loop_timer_arm(server->accept_timer, ACCEPT_PAUSE_NS);
			return;
		} else if (errno != ECONNABORTED && errno != EINTR) {
			return;
		}
	}
}

static void on_accept_timer(void *ctx)
{
	struct api_server *server = ctx;

	loop_source_set_events(server->source, LOOP_READ);
}

/* ---- the server ---- */

static int bind_path(struct api_server *server, struct error *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct stat stat_buffer;

	if (strlen(server->path) >= sizeof(address.sun_path))
		return error_set(err, -ENAMETOOLONG,
				 "Failed to open the API socket at: %s: a path of at most %zu "
				 "bytes is expected",
				 server->path, sizeof(address.sun_path) - 1);
	memcpy(address.sun_path, server->path, strlen(server->path) + 1);
	if (bind(server->fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		if (errno == EADDRINUSE)
			return error_set(err, -EADDRINUSE,
					 "Failed to open the API socket at: %s. Check that it is "
					 "not already used.",
					 server->path);
		return error_set_errno(err, "Failed to open the API socket at: %s", server->path);
	}
	if (lstat(server->path, &stat_buffer) == 0) {
		server->bound = true;
		server->bound_dev = stat_buffer.st_dev;
		server->bound_ino = stat_buffer.st_ino;
	}
	return 0;
}

static int start_listening(struct api_server *server, struct error *err)
{
	int ret;

	server->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (server->fd < 0)
		return error_set_errno(err, "Failed to open the API socket at: %s", server->path);
	ret = bind_path(server, err);
	if (ret)
		return ret;
	if (listen(server->fd, LISTEN_BACKLOG) < 0)
		return error_set_errno(err, "Failed to listen on the API socket at: %s",
				       server->path);
	server->source = loop_add_fd(server->loop, server->fd, LOOP_READ, on_listener, server);
	server->accept_timer = loop_add_timer(server->loop, on_accept_timer, server);
	if (!server->source || !server->accept_timer)
		return error_set_os(err, -ENOMEM, "Failed to watch the API socket");
	return 0;
}

struct api_server *api_server_new(struct loop *loop, struct vm *vm,
				  const struct api_server_options *options, struct error *err)
{
	struct api_server *server = calloc(1, sizeof(*server));

	if (server) {
		server->loop = loop;
		server->vm = vm;
		server->payload_limit = options->payload_limit;
		server->fd = -1;
		server->path = strdup(options->socket_path);
	}
	if (!server || !server->path) {
		error_set_os(err, -ENOMEM, "Failed to open the API socket");
		api_server_free(server);
		return NULL;
	}
	if (start_listening(server, err)) {
		api_server_free(server);
		return NULL;
	}
	log_info("Listening on API socket (\"%s\").", server->path);
	return server;
}

struct api_server *api_server_take_over(const struct api_server *stuck, struct loop *loop)
{
	struct api_server *server = calloc(1, sizeof(*server));

	if (!server)
		return NULL;
	*server = *stuck;
	memset(server->connections, 0, sizeof(server->connections));
	server->loop = loop;
	server->source = loop_add_fd(loop, server->fd, LOOP_READ, on_listener, server);
	server->accept_timer = loop_add_timer(loop, on_accept_timer, server);
	if (!server->source || !server->accept_timer) {
		loop_source_free(server->source);
		loop_source_free(server->accept_timer);
		free(server);
		return NULL;
	}
	for (unsigned i = 0; i < API_CONNECTIONS_MAX; i++)
		if (stuck->connections[i])
			shutdown(stuck->connections[i]->fd, SHUT_RDWR);
	return server;
}

static void remove_socket_file(const struct api_server *server)
{
	struct stat stat_buffer;

	if (server->bound && lstat(server->path, &stat_buffer) == 0 &&
	    S_ISSOCK(stat_buffer.st_mode) && stat_buffer.st_dev == server->bound_dev &&
	    stat_buffer.st_ino == server->bound_ino)
		unlink(server->path);
}

void api_server_free(struct api_server *server)
{
	if (!server)
		return;
	for (unsigned i = 0; i < API_CONNECTIONS_MAX; i++)
		if (server->connections[i])
			free_connection(server->connections[i]);
	loop_source_free(server->source);
	loop_source_free(server->accept_timer);
	remove_socket_file(server);
	close_fd(server->fd);
	free(server->path);
	free(server);
}
