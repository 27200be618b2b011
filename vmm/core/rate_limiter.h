// SPDX-License-Identifier: Apache-2.0
/* Token buckets that bound a device's bytes and operations per time. Costs one branch when not configured. */
#ifndef BANTAM_CORE_RATE_LIMITER_H
#define BANTAM_CORE_RATE_LIMITER_H

#include <stdbool.h>
#include <stdint.h>
#include "vmm/core/cleanup.h"

struct loop;
struct loop_source;

/* As the API says it. size or refill_time_ms 0 means: no limit (which is how a PATCH removes one). */
struct token_bucket_config {
	uint64_t size;           /* tokens (bytes or operations) */
	uint64_t refill_time_ms; /* from empty to full */
	uint64_t one_time_burst; /* extra tokens at the start, never refilled */
	bool has_one_time_burst; /* given in the request, for the echo in the configuration */
};

struct rate_limiter_config {
	struct token_bucket_config bandwidth;
	struct token_bucket_config ops;
	bool has_bandwidth; /* given; in a PATCH a bucket that is not given stays as it is */
	bool has_ops;
};

struct token_bucket {
	bool enabled;
	uint64_t size;
	uint64_t refill_time_ns;
	uint64_t burst_left;
	uint64_t budget;
	uint64_t refilled_at_ns; /* CLOCK_MONOTONIC */
};

struct rate_limiter {
	struct token_bucket bandwidth;
	struct token_bucket ops;
	struct loop_source *timer; /* owned; NULL until attached to a loop */
	void (*resume)(void *ctx); /* from attach on */
	void *resume_ctx;          /* borrowed */
	bool blocked;              /* the timer is armed; nothing is consumed until it has fired */
};

/* Sets up the buckets, full. */
void rate_limiter_init(struct rate_limiter *limiter, const struct rate_limiter_config *config);

/* Makes the timer that calls resume(ctx) on the loop when a blocked limiter may be tried again. 0 or -ENOMEM. */
int rate_limiter_attach(struct rate_limiter *limiter, struct loop *loop, void (*resume)(void *ctx),
			void *ctx) must_check;
void rate_limiter_detach(struct rate_limiter *limiter);

/* A PATCH: replaces the buckets that are given, leaves the others. */
void rate_limiter_update(struct rate_limiter *limiter, const struct rate_limiter_config *config);

/*
 * Takes one operation and that many bytes, both or neither. false: the limiter is blocked now and will call resume; the
 * request must not be served yet. A request larger than the whole bucket is let through when the bucket is full and
 * blocks the limiter in proportion afterwards.
 */
bool rate_limiter_consume(struct rate_limiter *limiter, uint64_t bytes);

/* Gives back what one consume() took, for a request that was not served after all. */
void rate_limiter_refund(struct rate_limiter *limiter, uint64_t bytes);

static inline bool rate_limiter_is_blocked(const struct rate_limiter *limiter)
{
	return limiter->blocked;
}

#endif
