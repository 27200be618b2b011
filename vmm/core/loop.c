// SPDX-License-Identifier: Apache-2.0
/* The event loop over libevent. */
#include "vmm/core/loop.h"

#include <event2/event.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>

struct call {
	loop_fn fn;
	void *ctx;
	bool done;
	struct call *next;
};

struct loop {
	struct event_base *base;
	struct loop_source *call_source; /* reads call_fd */
	int call_fd;                     /* eventfd: calls are waiting, or stop was asked for */
	pthread_t thread;                /* the one that made the loop and runs it */

	pthread_mutex_t lock; /* protects what follows */
	pthread_cond_t done;  /* some call has run */
	struct call *first, **last;
	bool stop;
};

struct loop_source {
	struct loop *loop;
	struct event *event;
	int fd; /* -1: a timer */
	unsigned events;
	union {
		loop_fd_fn fd_fn;
		loop_fn timer_fn;
	};
	void *ctx;
};

static short to_libevent(unsigned events)
{
	return (short)(((events & LOOP_READ) ? EV_READ : 0) |
		       ((events & LOOP_WRITE) ? EV_WRITE : 0) | ((events & LOOP_EDGE) ? EV_ET : 0) |
		       EV_PERSIST);
}

static void on_fd(evutil_socket_t fd, short what, void *arg)
{
	struct loop_source *source = arg;
	unsigned events = 0;

	(void)fd;
	if (what & EV_READ)
		events |= LOOP_READ;
	if (what & EV_WRITE)
		events |= LOOP_WRITE;
	source->fd_fn(source->ctx, events);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct loop_source *source = arg;

	(void)fd;
	(void)what;
	source->timer_fn(source->ctx);
}

struct loop_source *loop_add_fd(struct loop *loop, int fd, unsigned events, loop_fd_fn fn,
				void *ctx)
{
	struct loop_source *source = calloc(1, sizeof(*source));

	if (!source)
		return NULL;
	*source = (struct loop_source){.loop = loop, .fd = fd, .fd_fn = fn, .ctx = ctx};
	source->event = event_new(loop->base, fd, to_libevent(events), on_fd, source);
	if (!source->event || (events && event_add(source->event, NULL))) {
		loop_source_free(source);
		return NULL;
	}
	source->events = events;
	return source;
}

void loop_source_set_events(struct loop_source *source, unsigned events)
{
	if (source->events == events)
		return;
	event_del(source->event);
	source->events = events;
	if (events) {
		event_assign(source->event, source->loop->base, source->fd, to_libevent(events),
			     on_fd, source);
		event_add(source->event, NULL);
	}
}

struct loop_source *loop_add_timer(struct loop *loop, loop_fn fn, void *ctx)
{
	struct loop_source *source = calloc(1, sizeof(*source));

	if (!source)
		return NULL;
	*source = (struct loop_source){.loop = loop, .fd = -1, .timer_fn = fn, .ctx = ctx};
	source->event = event_new(loop->base, -1, 0, on_timer, source);
	if (!source->event) {
		loop_source_free(source);
		return NULL;
	}
	return source;
}

void loop_timer_arm(struct loop_source *source, uint64_t delay_ns)
{
	struct timeval delay = {
		.tv_sec = (time_t)(delay_ns / 1000000000u),
		.tv_usec = (suseconds_t)((delay_ns % 1000000000u + 999) / 1000),
	};

	event_add(source->event, &delay);
}

void loop_timer_disarm(struct loop_source *source)
{
	event_del(source->event);
}

void loop_source_free(struct loop_source *source)
{
	if (!source)
		return;
	if (source->event)
		event_free(source->event);
	free(source);
}

static void on_call(void *ctx, unsigned events)
{
	struct loop *loop = ctx;

	(void)events;
	loop_run_calls(loop);
}

static void wake(const struct loop *loop)
{
	const uint64_t one = 1;
	ssize_t written = write(loop->call_fd, &one, sizeof(one));

	(void)written; /* the counter can only be full when a wake-up is pending already */
}

struct loop *loop_new(void)
{
	struct loop *loop = calloc(1, sizeof(*loop));

	if (!loop)
		return NULL;
	loop->thread = pthread_self();
	loop->last = &loop->first;
	pthread_mutex_init(&loop->lock, NULL);
	pthread_cond_init(&loop->done, NULL);
	loop->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	loop->base = event_base_new();
	if (loop->call_fd >= 0 && loop->base)
		loop->call_source = loop_add_fd(loop, loop->call_fd, LOOP_READ, on_call, loop);
	if (!loop->call_source) {
		loop_free(loop);
		return NULL;
	}
	return loop;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	loop_source_free(loop->call_source);
	if (loop->base)
		event_base_free(loop->base);
	close_fd(loop->call_fd);
	pthread_cond_destroy(&loop->done);
	pthread_mutex_destroy(&loop->lock);
	free(loop);
}

static bool stop_asked(struct loop *loop)
{
	pthread_mutex_lock(&loop->lock);
	bool stop = loop->stop;
	pthread_mutex_unlock(&loop->lock);
	return stop;
}

int loop_run(struct loop *loop)
{
	while (!stop_asked(loop)) {
		if (event_base_loop(loop->base, EVLOOP_ONCE) < 0)
			return -errno;
	}
	return 0;
}

void loop_stop(struct loop *loop)
{
	pthread_mutex_lock(&loop->lock);
	loop->stop = true;
	pthread_mutex_unlock(&loop->lock);
	wake(loop);
}

void loop_call(struct loop *loop, loop_fn fn, void *ctx)
{
	struct call call = {.fn = fn, .ctx = ctx};

	if (pthread_equal(pthread_self(), loop->thread)) {
		fn(ctx);
		return;
	}
	pthread_mutex_lock(&loop->lock);
	*loop->last = &call;
	loop->last = &call.next;
	pthread_mutex_unlock(&loop->lock);
	wake(loop);

	pthread_mutex_lock(&loop->lock);
	while (!call.done)
		pthread_cond_wait(&loop->done, &loop->lock);
	pthread_mutex_unlock(&loop->lock);
}

/* The calls themselves run without the lock: they may take long, and other threads may queue more. */
void loop_run_calls(struct loop *loop)
{
	uint64_t drained;
	ssize_t got = read(loop->call_fd, &drained, sizeof(drained));

	(void)got; /* EAGAIN: woken by nothing */
	pthread_mutex_lock(&loop->lock);
	while (loop->first) {
		struct call *call = loop->first;

		loop->first = call->next;
		if (!loop->first)
			loop->last = &loop->first;
		pthread_mutex_unlock(&loop->lock);
		call->fn(call->ctx);
		pthread_mutex_lock(&loop->lock);
		call->done =
			true; /* the caller's stack frame may vanish as soon as the lock is free */
		pthread_cond_broadcast(&loop->done);
	}
	pthread_mutex_unlock(&loop->lock);
}

int loop_call_fd(const struct loop *loop)
{
	return loop->call_fd;
}

struct event_base *loop_event_base(struct loop *loop)
{
	return loop->base;
}
