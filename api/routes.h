// SPDX-License-Identifier: Apache-2.0
/*
 * From an HTTP request to an answer: one table of routes.
 *
 * DOC: A request passes the same steps whatever it asks for, in Firecracker's order, so that a request with several
 * mistakes is answered with the same one: body there or not as the method wants it, path known, id well-formed, body
 * parsed, id in path and body equal, allowed in this state, and only then the handler. The steps are here; what
 * differs is in the route's row.
 */
#ifndef API_ROUTES_H
#define API_ROUTES_H

#include <stdbool.h>
#include "api/fields.h"
#include "api/http.h"
#include "api/text.h"

struct vm;

/* What a fault about the body itself begins with. */
#define API_BODY_FAULT "An error occurred when deserializing the json body of a request: "

/* When a request is allowed. */
enum api_when {
	API_ALWAYS,
	API_BEFORE_START,
	API_AFTER_START,
};

/* One request on its way through the steps. */
struct api_call {
	struct vm *vm;
	const char *id;      /* from the path; NULL when the route has none */
	union api_body body; /* parsed; what a handler has not given away is freed after it */
	struct text *out;    /* the answer's body; left empty it becomes 204 */
};

struct api_reply {
	unsigned status;
	bool deprecated;
	struct text body; /* freed by the caller */
};

/* Answers one request, logs it and counts it. */
void routes_handle(struct vm *vm, const struct http_request *request, struct api_reply *reply);

/* The rule of the state machine, in its one place. refused_after replaces the usual text; NULL: the usual one. */
int api_check_state(const struct vm *vm, enum api_when when, const char *refused_after,
		    struct error *err) must_check;

#endif
