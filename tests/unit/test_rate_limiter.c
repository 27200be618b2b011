// SPDX-License-Identifier: Apache-2.0
/*
 * Token buckets. Time passes by telling the clock to, never by sleeping; where a timer has to fire, the test waits for it
 * and asserts nothing about how long that took.
 */
#include "vmm/core/rate_limiter.h"

#include <event2/event.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "tests/unit/unit.h"
#include "vmm/core/loop.h"

#define MS      UINT64_C(1000000)
#define HOUR_MS UINT64_C(3600000) /* refills nothing that matters while a test runs */

static struct rate_limiter_config bandwidth_of(uint64_t size, uint64_t refill_ms, uint64_t burst)
{
	return (struct rate_limiter_config){
		.bandwidth = {.size = size, .refill_time_ms = refill_ms, .one_time_burst = burst},
		.has_bandwidth = true,
	};
}

static struct rate_limiter limiter_of(struct rate_limiter_config config)
{
	struct rate_limiter limiter;

	rate_limiter_init(&limiter, &config);
	return limiter;
}

/* In front of the C library's: the kernel's time plus what the tests have let pass. */
static uint64_t passed_ns;

int clock_gettime(clockid_t clock, struct timespec *now)
{
	if (syscall(SYS_clock_gettime, clock, now))
		return -1;
	uint64_t ns = (uint64_t)now->tv_nsec + passed_ns;

	now->tv_sec += (time_t)(ns / (1000 * MS));
	now->tv_nsec = (long)(ns % (1000 * MS));
	return 0;
}

static void pass_time(uint64_t ns)
{
	passed_ns += ns;
}

static void test_unlimited(void **state)
{
	(void)state;
	struct rate_limiter limiter = limiter_of((struct rate_limiter_config){0});

	for (int i = 0; i < 1000; i++)
		assert_true(rate_limiter_consume(&limiter, UINT64_MAX));
	assert_false(rate_limiter_is_blocked(&limiter));
	/* A bucket without size or without time is none. */
	limiter = limiter_of(bandwidth_of(0, 100, 5));
	assert_true(rate_limiter_consume(&limiter, 1000));
	limiter = limiter_of(bandwidth_of(100, 0, 5));
	assert_true(rate_limiter_consume(&limiter, 1000));
}

static void test_empties_and_refills(void **state)
{
	(void)state;
	struct rate_limiter limiter = limiter_of(bandwidth_of(1000, HOUR_MS, 0));

	assert_true(rate_limiter_consume(&limiter, 600));
	assert_false(rate_limiter_consume(&limiter, 401));
	assert_true(rate_limiter_consume(&limiter, 400)); /* the refusal took nothing */
	assert_false(rate_limiter_consume(&limiter, 1));
	assert_true(rate_limiter_consume(&limiter, 0));

	pass_time(HOUR_MS * MS / 10);
	assert_true(rate_limiter_consume(&limiter, 100));
	assert_false(rate_limiter_consume(&limiter, 1));

	/* However long it lies idle, never more than full. */
	pass_time(2 * HOUR_MS * MS);
	assert_true(rate_limiter_consume(&limiter, 1000));
	assert_false(rate_limiter_consume(&limiter, 1));
}

static void test_keeps_fractions(void **state)
{
	(void)state;
	/* A token every 3600 s / 1000 = 3.6 s. */
	struct rate_limiter limiter = limiter_of(bandwidth_of(1000, HOUR_MS, 0));
	unsigned taken = 0;

	assert_true(rate_limiter_consume(&limiter, 1000));
	for (int i = 0; i < 100; i++) {
		pass_time(2400 * MS);
		if (rate_limiter_consume(&limiter, 1))
			taken++;
	}
	assert_in_range(taken, 66, 67); /* 240 s / 3.6 s */
}

static void test_burst_first_and_once(void **state)
{
	(void)state;
	struct rate_limiter limiter = limiter_of(bandwidth_of(100, HOUR_MS, 50));

	assert_true(rate_limiter_consume(&limiter, 30));
	assert_int_equal(limiter.bandwidth.burst_left, 20);
	assert_int_equal(limiter.bandwidth.budget, 100);
	assert_true(rate_limiter_consume(&limiter, 70)); /* 20 of the burst, 50 of the bucket */
	assert_int_equal(limiter.bandwidth.burst_left, 0);
	assert_int_equal(limiter.bandwidth.budget, 50);
	assert_false(rate_limiter_consume(&limiter, 51));
	pass_time(2 * HOUR_MS * MS);
	assert_int_equal(limiter.bandwidth.burst_left, 0);
	assert_true(rate_limiter_consume(&limiter, 100));
	assert_false(rate_limiter_consume(&limiter, 1));
}

static void test_both_buckets_or_neither(void **state)
{
	(void)state;
	struct rate_limiter_config config = bandwidth_of(100, HOUR_MS, 0);

	config.has_ops = true;
	config.ops = (struct token_bucket_config){.size = 2, .refill_time_ms = HOUR_MS};
	struct rate_limiter limiter = limiter_of(config);

	assert_true(rate_limiter_consume(&limiter, 90));
	assert_false(rate_limiter_consume(&limiter, 20)); /* bytes are short */
	assert_int_equal(limiter.ops.budget, 1);
	assert_true(rate_limiter_consume(&limiter, 5));
	assert_false(rate_limiter_consume(&limiter, 1)); /* operations are short */
	assert_int_equal(limiter.bandwidth.budget, 5);
	rate_limiter_refund(&limiter, 5);
	assert_int_equal(limiter.ops.budget, 1);
	assert_int_equal(limiter.bandwidth.budget, 10);
	rate_limiter_refund(&limiter, 1000); /* never above full */
	assert_int_equal(limiter.bandwidth.budget, 100);
}

static void test_oversize_waits_for_full_and_owes(void **state)
{
	(void)state;
	struct rate_limiter limiter = limiter_of(bandwidth_of(100, HOUR_MS, 0));

	assert_true(rate_limiter_consume(&limiter, 1));
	assert_false(rate_limiter_consume(&limiter, 300)); /* not full */
	pass_time(HOUR_MS * MS);
	assert_true(rate_limiter_consume(&limiter, 300));
	assert_int_equal(limiter.bandwidth.budget, 0);
	/* 200 more than full: two hours nothing comes in, in the third it fills. */
	pass_time(2 * HOUR_MS * MS);
	assert_false(rate_limiter_consume(&limiter, 1));
	pass_time(HOUR_MS * MS / 2);
	assert_true(rate_limiter_consume(&limiter, 49));
	assert_false(rate_limiter_consume(&limiter, 2));
}

static void test_refund_of_oversize(void **state)
{
	(void)state;
	struct rate_limiter limiter = limiter_of(bandwidth_of(100, HOUR_MS, 0));

	assert_true(rate_limiter_consume(&limiter, 300));
	rate_limiter_refund(&limiter, 300);
	assert_true(rate_limiter_consume(&limiter, 100));
	pass_time(HOUR_MS * MS);
	assert_true(rate_limiter_consume(&limiter, 100)); /* the debt went with it */
}

static void test_refund_of_burst(void **state)
{
	(void)state;
	struct rate_limiter limiter = limiter_of(bandwidth_of(100, HOUR_MS, 50));

	assert_true(rate_limiter_consume(&limiter, 20));
	rate_limiter_refund(&limiter, 20);
	assert_int_equal(limiter.bandwidth.burst_left, 50);
	assert_int_equal(limiter.bandwidth.budget, 100);
}

static void test_extreme_values(void **state)
{
	(void)state;
	struct rate_limiter limiter = limiter_of(bandwidth_of(UINT64_MAX, UINT64_MAX, UINT64_MAX));

	assert_true(rate_limiter_consume(&limiter, UINT64_MAX)); /* the burst */
	assert_true(rate_limiter_consume(&limiter, UINT64_MAX)); /* the bucket */
	assert_false(rate_limiter_consume(&limiter, UINT64_MAX));
	rate_limiter_refund(&limiter, UINT64_MAX);
	assert_true(rate_limiter_consume(&limiter, UINT64_MAX));

	limiter = limiter_of(bandwidth_of(1, UINT64_MAX, 0));
	assert_true(rate_limiter_consume(&limiter, UINT64_MAX));
	assert_false(rate_limiter_consume(&limiter, 1));
	rate_limiter_refund(&limiter, UINT64_MAX);
	assert_true(rate_limiter_consume(&limiter, 1));

	limiter = limiter_of(bandwidth_of(UINT64_MAX, 1, 0));
	assert_true(rate_limiter_consume(&limiter, UINT64_MAX));
	pass_time(1000 * MS);
	assert_true(rate_limiter_consume(&limiter, UINT64_MAX));
}

static void test_update(void **state)
{
	(void)state;
	struct rate_limiter_config config = bandwidth_of(100, HOUR_MS, 0);

	config.has_ops = true;
	config.ops = (struct token_bucket_config){.size = 1, .refill_time_ms = HOUR_MS};
	struct rate_limiter limiter = limiter_of(config);

	assert_true(rate_limiter_consume(&limiter, 60));
	/* Only what is given changes, and what changes starts full. */
	config = (struct rate_limiter_config){.has_ops = true,
					      .ops = {.size = 5, .refill_time_ms = HOUR_MS}};
	rate_limiter_update(&limiter, &config);
	assert_int_equal(limiter.bandwidth.budget, 40);
	assert_int_equal(limiter.ops.budget, 5);
	/* An empty bucket removes the limit. */
	config = bandwidth_of(0, 0, 0);
	rate_limiter_update(&limiter, &config);
	assert_true(rate_limiter_consume(&limiter, 1000000));
	assert_true(limiter.ops.enabled);
}

/* ---- with a loop ---- */

static void count(void *ctx)
{
	(*(unsigned *)ctx)++;
}

static void test_timer_resumes(void **state)
{
	(void)state;
	struct loop *loop = loop_new();
	struct rate_limiter limiter = limiter_of(bandwidth_of(1000, 10, 0));
	unsigned resumed = 0;

	assert_int_equal(rate_limiter_attach(&limiter, loop, count, &resumed), 0);
	assert_true(rate_limiter_consume(&limiter, 1000));
	assert_true(rate_limiter_consume(&limiter, 0));
	while (!rate_limiter_is_blocked(&limiter)) /* a slow machine may refill in between */
		(void)rate_limiter_consume(&limiter, 1000);
	assert_false(rate_limiter_consume(&limiter, 0)); /* nothing while it is blocked */
	assert_int_equal(resumed, 0);
	while (resumed == 0)
		(void)event_base_loop(loop_event_base(loop), EVLOOP_ONCE);
	assert_false(rate_limiter_is_blocked(&limiter));
	while (!rate_limiter_consume(&limiter, 1000))
		(void)event_base_loop(loop_event_base(loop), EVLOOP_ONCE);
	rate_limiter_detach(&limiter);
	loop_free(loop);
}

static void test_update_wakes_a_blocked_one(void **state)
{
	(void)state;
	struct loop *loop = loop_new();
	struct rate_limiter limiter = limiter_of(bandwidth_of(10, HOUR_MS, 0));
	const struct rate_limiter_config unlimited = bandwidth_of(0, 0, 0);
	unsigned resumed = 0;

	assert_int_equal(rate_limiter_attach(&limiter, loop, count, &resumed), 0);
	assert_true(rate_limiter_consume(&limiter, 10));
	assert_false(rate_limiter_consume(&limiter, 10));
	assert_true(rate_limiter_is_blocked(&limiter));
	rate_limiter_update(&limiter, &unlimited);
	while (rate_limiter_is_blocked(&limiter))
		(void)event_base_loop(loop_event_base(loop), EVLOOP_ONCE);
	assert_int_equal(resumed, 1);
	assert_true(rate_limiter_consume(&limiter, UINT64_MAX));
	rate_limiter_detach(&limiter);
	loop_free(loop);
}

static void test_detach_forgets_the_timer(void **state)
{
	(void)state;
	struct loop *loop = loop_new();
	struct rate_limiter limiter = limiter_of(bandwidth_of(10, 1, 0));
	unsigned resumed = 0;

	assert_int_equal(rate_limiter_attach(&limiter, loop, count, &resumed), 0);
	while (!rate_limiter_is_blocked(&limiter))
		(void)rate_limiter_consume(&limiter, 10);
	rate_limiter_detach(&limiter);
	assert_false(rate_limiter_is_blocked(&limiter));
	(void)event_base_loop(loop_event_base(loop), EVLOOP_NONBLOCK);
	assert_int_equal(resumed, 0);
	loop_free(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unlimited),
		cmocka_unit_test(test_empties_and_refills),
		cmocka_unit_test(test_keeps_fractions),
		cmocka_unit_test(test_burst_first_and_once),
		cmocka_unit_test(test_both_buckets_or_neither),
		cmocka_unit_test(test_oversize_waits_for_full_and_owes),
		cmocka_unit_test(test_refund_of_oversize),
		cmocka_unit_test(test_refund_of_burst),
		cmocka_unit_test(test_extreme_values),
		cmocka_unit_test(test_update),
		cmocka_unit_test(test_timer_resumes),
		cmocka_unit_test(test_update_wakes_a_blocked_one),
		cmocka_unit_test(test_detach_forgets_the_timer),
	};

	return RUN_TESTS(tests);
}
