// SPDX-License-Identifier: Apache-2.0
/*
 * The event loop (libevent underneath): descriptors, timers, and calls from other threads.
 *
 * DOC: One thread runs a loop; everything here is called on that thread, except loop_call() and loop_stop(), which any
 * thread may call. Devices are given their loop and never reach for a global one.
 */
#ifndef BANTAM_CORE_LOOP_H
#define BANTAM_CORE_LOOP_H

#include <stdint.h>
#include "vmm/core/cleanup.h"

struct event_base;
struct loop;
struct loop_source;

#define LOOP_READ  1u
#define LOOP_WRITE 2u
#define LOOP_EDGE \
	4u /* with one of them: told once each time something comes, not as long as it is there */

typedef void (*loop_fd_fn)(void *ctx, unsigned events);
typedef void (*loop_fn)(void *ctx);

/* The calling thread is the loop's. NULL with errno set when the kernel refuses a descriptor. Released by loop_free(). */
struct loop *loop_new(void) must_check;
void loop_free(struct loop *loop);

/* Runs until loop_stop(). 0, or -errno when waiting for events failed. */
int loop_run(struct loop *loop);

/* Makes loop_run() return after the callback in progress. Any thread. */
void loop_stop(struct loop *loop);

/* Watches fd (borrowed) for LOOP_READ and/or LOOP_WRITE, level-triggered without LOOP_EDGE; events 0 adds it switched off. NULL: no memory. */
struct loop_source *loop_add_fd(struct loop *loop, int fd, unsigned events, loop_fd_fn fn,
				void *ctx) must_check;

/* Changes what an fd source waits for; 0 switches it off. Cheap when nothing changes. */
void loop_source_set_events(struct loop_source *source, unsigned events);

/* A one-shot timer, not armed yet. NULL: no memory. */
struct loop_source *loop_add_timer(struct loop *loop, loop_fn fn, void *ctx) must_check;

/* (Re)arms the timer to fire once, delay_ns from now. */
void loop_timer_arm(struct loop_source *source, uint64_t delay_ns);
void loop_timer_disarm(struct loop_source *source);

/* Removes and frees a source; NULL is allowed; allowed inside its own callback. Its callback does not run afterwards. */
void loop_source_free(struct loop_source *source);

/*
 * Runs fn(ctx) on the loop's thread and returns when it has run. From the loop's own thread it runs at once.
 * Hazard: a caller that holds a lock which fn or the loop wants stops both for ever.
 */
void loop_call(struct loop *loop, loop_fn fn, void *ctx);

/*
 * Runs the calls that are waiting. For code on the loop's thread that itself waits for a thread which may be inside
 * loop_call() (pausing vCPUs): poll loop_call_fd() for reading and call this.
 */
void loop_run_calls(struct loop *loop);
int loop_call_fd(const struct loop *loop);

/* libevent's own handle, for code that uses bufferevents. Borrowed. */
struct event_base *loop_event_base(struct loop *loop);

#endif
