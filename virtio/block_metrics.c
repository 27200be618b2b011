// SPDX-License-Identifier: Apache-2.0
/* The table of a block device's counters. */
#include "virtio/block_metrics.h"

#include "virtio/block.h"

#define FIELD(member, kind) METRIC_FIELD(block_metrics, member, kind)
static const struct metric_field block_metric_fields[] = {
	FIELD(activate_fails, METRIC_COUNT),
	FIELD(cfg_fails, METRIC_COUNT),
	FIELD(no_avail_buffer, METRIC_COUNT),
	FIELD(event_fails, METRIC_COUNT),
	FIELD(execute_fails, METRIC_COUNT),
	FIELD(invalid_reqs_count, METRIC_COUNT),
	FIELD(flush_count, METRIC_COUNT),
	FIELD(queue_event_count, METRIC_COUNT),
	FIELD(rate_limiter_event_count, METRIC_COUNT),
	FIELD(update_count, METRIC_COUNT),
	FIELD(update_fails, METRIC_COUNT),
	FIELD(read_bytes, METRIC_COUNT),
	FIELD(write_bytes, METRIC_COUNT),
	FIELD(read_count, METRIC_COUNT),
	FIELD(write_count, METRIC_COUNT),
	FIELD(rate_limiter_throttled_events, METRIC_COUNT),
	FIELD(io_engine_throttled_events, METRIC_COUNT),
	FIELD(remaining_reqs_count, METRIC_COUNT),
	FIELD(read_agg, METRIC_AGG),
	FIELD(write_agg, METRIC_AGG),
};
#undef FIELD

const struct metrics_class block_metrics_class = {
	.group = "block",
	.fields = block_metric_fields,
	.field_count = sizeof(block_metric_fields) / sizeof(block_metric_fields[0]),
	.instance_bytes = sizeof(struct block_metrics),
	.per_instance = true,
};
