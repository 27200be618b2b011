// SPDX-License-Identifier: Apache-2.0
/*
 * Token buckets.
 *
 * DOC: A bucket gains size tokens in refill_time, computed when somebody asks and never by a periodic timer. What a
 * request needs beyond what is there makes the limiter blocked: a one-shot timer calls resume when enough has come in,
 * at the latest after RETRY_MAX_NS, because a PATCH or a one-off may have changed what is enough.
 *
 * A request larger than the bucket waits for a full bucket, empties it and leaves a debt: refilled_at_ns moves into the
 * future by the time that the rest would have taken, and until then nothing comes in. So the average holds for any
 * request size.
 */
#include "vmm/core/rate_limiter.h"

#include <assert.h>
#include <errno.h>
#include <time.h>
#include "vmm/core/checked.h"
#include "vmm/core/loop.h"

#define NS_PER_MS    UINT64_C(1000000)
#define RETRY_MAX_NS (100 * NS_PER_MS)
/* A bucket of many small tokens would otherwise wake the loop for each of them. */
#define RETRY_MIN_NS (1 * NS_PER_MS)

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 * NS_PER_MS + (uint64_t)now.tv_nsec;
}

/* a * b / c, rounded down, and UINT64_MAX when that does not fit. c is an enabled bucket's size or time. */
static uint64_t mul_div(uint64_t a, uint64_t b, uint64_t c)
{
	assert(c != 0);
	unsigned __int128 result = (unsigned __int128)a * b / c;

	return result > UINT64_MAX ? UINT64_MAX : (uint64_t)result;
}

static uint64_t add_saturating(uint64_t a, uint64_t b)
{
	uint64_t sum;

	return add_overflows(a, b, &sum) ? UINT64_MAX : sum;
}

/* How long the bucket takes to gain that many tokens, rounded up. */
static uint64_t refill_duration_ns(const struct token_bucket *bucket, uint64_t tokens)
{
	return add_saturating(mul_div(tokens, bucket->refill_time_ns, bucket->size), 1);
}

static void init_bucket(struct token_bucket *bucket, const struct token_bucket_config *config)
{
	*bucket = (struct token_bucket){
		.enabled = config->size != 0 && config->refill_time_ms != 0,
		.size = config->size,
		.burst_left = config->one_time_burst,
		.budget = config->size,
		.refilled_at_ns = now_ns(),
	};
	if (mul_overflows(config->refill_time_ms, NS_PER_MS, &bucket->refill_time_ns))
		bucket->refill_time_ns = UINT64_MAX;
}

void rate_limiter_init(struct rate_limiter *limiter, const struct rate_limiter_config *config)
{
	*limiter = (struct rate_limiter){0};
	if (config->has_bandwidth)
		init_bucket(&limiter->bandwidth, &config->bandwidth);
	if (config->has_ops)
		init_bucket(&limiter->ops, &config->ops);
}

static void on_timer(void *ctx)
{
	struct rate_limiter *limiter = ctx;

	limiter->blocked = false;
	limiter->resume(limiter->resume_ctx);
}

int rate_limiter_attach(struct rate_limiter *limiter, struct loop *loop, void (*resume)(void *ctx),
			void *ctx)
{
	limiter->timer = loop_add_timer(loop, on_timer, limiter);
	if (!limiter->timer)
		return -ENOMEM;
	limiter->resume = resume;
	limiter->resume_ctx = ctx;
	limiter->blocked = false;
	return 0;
}

void rate_limiter_detach(struct rate_limiter *limiter)
{
	loop_source_free(limiter->timer);
	limiter->timer = NULL;
	limiter->blocked = false;
}

void rate_limiter_update(struct rate_limiter *limiter, const struct rate_limiter_config *config)
{
	if (config->has_bandwidth)
		init_bucket(&limiter->bandwidth, &config->bandwidth);
	if (config->has_ops)
		init_bucket(&limiter->ops, &config->ops);
	if (limiter->blocked) /* what it waits for has changed */
		loop_timer_arm(limiter->timer, 0);
}

/* Adds the tokens of the time since the last refill. A fraction of a token stays in refilled_at_ns, so none is lost. */
static void refill(struct token_bucket *bucket, uint64_t now)
{
	if (now <= bucket->refilled_at_ns) /* a debt is not paid yet */
		return;
	uint64_t elapsed = now - bucket->refilled_at_ns;
	uint64_t tokens = mul_div(elapsed, bucket->size, bucket->refill_time_ns);

	if (tokens >= bucket->size - bucket->budget) {
		bucket->budget = bucket->size;
		bucket->refilled_at_ns = now;
	} else if (tokens > 0) {
		bucket->budget += tokens;
		bucket->refilled_at_ns += mul_div(tokens, bucket->refill_time_ns, bucket->size);
	}
}

/* Tokens that the bucket itself must give, after the burst. */
static uint64_t beyond_burst(const struct token_bucket *bucket, uint64_t tokens)
{
	return tokens > bucket->burst_left ? tokens - bucket->burst_left : 0;
}

/* 0: the tokens are there. Otherwise how many nanoseconds from now to try again. */
static uint64_t wait_ns(struct token_bucket *bucket, uint64_t tokens, uint64_t now)
{
	uint64_t needed = beyond_burst(bucket, tokens);

	if (!bucket->enabled)
		return 0;
	if (needed > bucket->size)
		needed = bucket->size;
	if (needed <= bucket->budget)
		return 0;
	refill(bucket, now);
	if (needed <= bucket->budget)
		return 0;
	uint64_t full = refill_duration_ns(bucket, bucket->size - bucket->budget);
	uint64_t enough = refill_duration_ns(bucket, needed - bucket->budget);
	uint64_t least = full < RETRY_MIN_NS ? full : RETRY_MIN_NS;
	uint64_t wait = enough < least ? least : enough;

	if (bucket->refilled_at_ns > now)
		wait = add_saturating(wait, bucket->refilled_at_ns - now);
	return wait < RETRY_MAX_NS ? wait : RETRY_MAX_NS;
}

/* Takes tokens that wait_ns() found to be there. */
static void take(struct token_bucket *bucket, uint64_t tokens, uint64_t now)
{
	uint64_t needed = beyond_burst(bucket, tokens);

	if (!bucket->enabled)
		return;
	bucket->burst_left -= tokens - needed;
	if (needed <= bucket->size) {
		bucket->budget -= needed;
		return;
	}
	bucket->budget = 0;
	bucket->refilled_at_ns =
		add_saturating(now, refill_duration_ns(bucket, needed - bucket->size));
}

static void block_for(struct rate_limiter *limiter, uint64_t delay_ns)
{
	if (!limiter->timer) /* nobody to call back: every consume() is a new try */
		return;
	limiter->blocked = true;
	loop_timer_arm(limiter->timer, delay_ns);
}

bool rate_limiter_consume(struct rate_limiter *limiter, uint64_t bytes)
{
	if (!limiter->bandwidth.enabled && !limiter->ops.enabled)
		return true;
	if (limiter->blocked)
		return false;
	uint64_t now = now_ns();
	uint64_t wait = wait_ns(&limiter->ops, 1, now);
	uint64_t wait_bytes = wait_ns(&limiter->bandwidth, bytes, now);

	if (wait_bytes > wait)
		wait = wait_bytes;
	if (wait > 0) {
		block_for(limiter, wait);
		return false;
	}
	take(&limiter->ops, 1, now);
	take(&limiter->bandwidth, bytes, now);
	return true;
}

static void give_back(struct token_bucket *bucket, uint64_t tokens)
{
	if (!bucket->enabled)
		return;
	if (bucket->burst_left > 0) { /* the burst goes first, so all of it came from there */
		bucket->burst_left = add_saturating(bucket->burst_left, tokens);
		return;
	}
	if (tokens > bucket->size) { /* the debt first, then a full bucket */
		uint64_t debt = refill_duration_ns(bucket, tokens - bucket->size);

		bucket->refilled_at_ns -=
			debt < bucket->refilled_at_ns ? debt : bucket->refilled_at_ns;
		tokens = bucket->size;
	}
	bucket->budget =
		tokens < bucket->size - bucket->budget ? bucket->budget + tokens : bucket->size;
}

void rate_limiter_refund(struct rate_limiter *limiter, uint64_t bytes)
{
	give_back(&limiter->ops, 1);
	give_back(&limiter->bandwidth, bytes);
}
