// SPDX-License-Identifier: Apache-2.0
/* The event loop: descriptors, timers, calls from other threads. */
#include "tests/unit/unit.h"

#include <pthread.h>
#include <stdbool.h>
#include <unistd.h>
#include "vmm/core/loop.h"

struct fixture {
	struct loop *loop;
	int pipe[2];
	unsigned count;
	struct loop_source *source;
};

static int setup(void **state)
{
	struct fixture *f = test_calloc(1, sizeof(*f));

	f->loop = loop_new();
	*state = f;
	return f->loop && pipe(f->pipe) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	loop_free(f->loop);
	close(f->pipe[0]);
	close(f->pipe[1]);
	test_free(f);
	return 0;
}

/* Level-triggered: comes again until read; the third time the source frees itself inside its callback. */
static void on_readable(void *ctx, unsigned events)
{
	struct fixture *f = ctx;

	assert_int_equal(events, LOOP_READ);
	if (++f->count == 3) {
		loop_source_free(f->source);
		loop_stop(f->loop);
	}
}

static void test_fd(void **state)
{
	struct fixture *f = *state;

	f->source = loop_add_fd(f->loop, f->pipe[0], 0, on_readable, f);
	assert_non_null(f->source);
	assert_int_equal(write(f->pipe[1], "x", 1), 1);
	loop_source_set_events(f->source, LOOP_READ);
	loop_source_set_events(f->source, 0);
	loop_source_set_events(f->source, LOOP_READ);
	assert_int_equal(loop_run(f->loop), 0);
	assert_int_equal(f->count, 3);
}

static void on_timer(void *ctx)
{
	struct fixture *f = ctx;

	if (++f->count < 3)
		loop_timer_arm(f->source, 1000);
	else
		loop_stop(f->loop);
}

static void never(void *ctx)
{
	(void)ctx;
	fail_msg("a disarmed timer fired");
}

static void test_timer(void **state)
{
	struct fixture *f = *state;
	struct loop_source *other = loop_add_timer(f->loop, never, f);

	f->source = loop_add_timer(f->loop, on_timer, f);
	loop_timer_arm(other, 1);
	loop_timer_disarm(other);
	loop_timer_arm(f->source, 1000);
	assert_int_equal(loop_run(f->loop), 0);
	assert_int_equal(f->count, 3);
	loop_source_free(f->source);
	loop_source_free(other);
	loop_source_free(NULL);
}

#define CALLERS 4
#define CALLS   500

static void count_up(void *ctx)
{
	(*(unsigned *)ctx)++;
}

static void *caller(void *arg)
{
	struct fixture *f = arg;

	for (unsigned i = 0; i < CALLS; i++)
		loop_call(f->loop, count_up, &f->count);
	return NULL;
}

static void *conductor(void *arg)
{
	struct fixture *f = arg;
	pthread_t threads[CALLERS];

	for (unsigned i = 0; i < CALLERS; i++)
		pthread_create(&threads[i], NULL, caller, f);
	for (unsigned i = 0; i < CALLERS; i++)
		pthread_join(threads[i], NULL);
	loop_stop(f->loop);
	return NULL;
}

/* count is touched by the loop's thread alone, so TSan would see a call that ran elsewhere. */
static void test_calls(void **state)
{
	struct fixture *f = *state;
	pthread_t thread;

	loop_call(f->loop, count_up, &f->count); /* from the loop's own thread: at once */
	assert_int_equal(f->count, 1);
	pthread_create(&thread, NULL, conductor, f);
	assert_int_equal(loop_run(f->loop), 0);
	pthread_join(thread, NULL);
	assert_int_equal(f->count, 1 + CALLERS * CALLS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_fd, setup, teardown),
		cmocka_unit_test_setup_teardown(test_timer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_calls, setup, teardown),
	};

	return RUN_TESTS(tests);
}
