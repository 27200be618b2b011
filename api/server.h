// SPDX-License-Identifier: Apache-2.0
/* The API's server: HTTP on a UNIX socket, on the event loop. */
#ifndef API_SERVER_H
#define API_SERVER_H

#include <stddef.h>
#include "vmm/core/cleanup.h"
#include "vmm/core/error.h"

struct api_server;
struct loop;
struct vm;

#define API_CONNECTIONS_MAX 10u

struct api_server_options {
	const char *
		socket_path; /* copied; relative paths are meant against today's working directory */
	size_t payload_limit; /* largest body in bytes */
};

/*
 * Binds and listens; fails when the path exists. loop and vm are borrowed for the server's life. NULL and a text on
 * error. Loop thread only.
 */
struct api_server *api_server_new(struct loop *loop, struct vm *vm,
				  const struct api_server_options *options,
				  struct error *err) must_check;

/*
 * For a thread that takes over because stuck's loop does not turn any more: the same socket in another loop, the calling
 * thread's. Clients of connections that were open see them end. stuck is not to be used or freed any more. NULL: no memory.
 */
struct api_server *api_server_take_over(const struct api_server *stuck,
					struct loop *loop) must_check;

/* Closes the connections, and removes the socket file if it is still the one that was bound. Not from inside a request.
 * NULL allowed. */
void api_server_free(struct api_server *server);

#endif
