// SPDX-License-Identifier: Apache-2.0
/* What a block device counts. Written on its loop thread. */
#ifndef VIRTIO_BLOCK_METRICS_H
#define VIRTIO_BLOCK_METRICS_H

#include "vmm/core/metrics.h"

struct block_metrics {
	metric_t activate_fails, cfg_fails, no_avail_buffer, event_fails, execute_fails,
		invalid_reqs_count, flush_count, queue_event_count, rate_limiter_event_count,
		update_count, update_fails, read_bytes, write_bytes, read_count, write_count,
		rate_limiter_throttled_events, io_engine_throttled_events, remaining_reqs_count;
	struct metric_agg read_agg, write_agg;
};

#endif
