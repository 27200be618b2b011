// SPDX-License-Identifier: Apache-2.0
/* What the metrics' registry and their JSON writer share. */
#ifndef BANTAM_CORE_METRICS_INTERNAL_H
#define BANTAM_CORE_METRICS_INTERNAL_H

#include "vmm/core/metrics.h"

/* One field of one instance. */
struct metrics_value {
	uint64_t written; /* counts: the counter's value in the last line that was written */
	uint64_t seen;    /* what was read for the line in progress; aggregates: the minimum */
	uint64_t seen_max, seen_sum;
};

struct metrics_instance {
	char *id; /* owned; NULL: none */
	void *counters;
	struct metrics_value *values; /* owned; one a field of the class */
};

struct metrics_group {
	const struct metrics_class *class;
	struct metrics_instance *instances; /* owned */
	unsigned instance_count;
};

struct metrics_registry {
	struct metrics_group *groups; /* owned; in the order of the output */
	unsigned group_count;
	char *members; /* owned; JSON text that lines begin with; NULL: none */
};

/* The most bytes that metrics_format() can need, newline included. */
size_t metrics_format_bound(const struct metrics_registry *registry);

/* Reads all counters into their values and writes the line; gives its length. out has room for the bound. */
size_t metrics_format(struct metrics_registry *registry, uint64_t utc_ms, char *out);

/* The line is out: what is in it is not written again. */
void metrics_commit(struct metrics_registry *registry);

#endif
