// SPDX-License-Identifier: Apache-2.0
/*
 * Metrics: counters that are declared once in a table and written as one JSON object per line.
 *
 * DOC: A module declares a struct of counters, a table of its fields and a class; every instance (a device) registers
 * its struct. A flush writes for each class the group's sum and, for per-instance classes, `<group>_<id>` objects.
 * Counts are written as what was added since the line before; stores as they are. A counter has one writing thread
 * (or uses metric_add_shared) and is read by the loop's thread without a lock; hence relaxed atomics.
 */
#ifndef BANTAM_CORE_METRICS_H
#define BANTAM_CORE_METRICS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "vmm/core/cleanup.h"
#include "vmm/core/error.h"

typedef _Atomic uint64_t metric_t;

/* A duration's minimum, maximum and sum, in microseconds. */
struct metric_agg {
	metric_t min_us, max_us, sum_us;
};

enum metric_kind {
	METRIC_COUNT, /* metric_t; what was added since the last flush is written */
	METRIC_STORE, /* metric_t; the value itself is written */
	METRIC_AGG, /* struct metric_agg; written as {min_us,max_us,sum_us} and started anew at each flush */
};

struct metric_field {
	const char *name;
	uint32_t offset; /* in the instance's struct */
	enum metric_kind kind;
};

#define METRIC_FIELD(type, member, kind)                     \
	{                                                    \
#member, offsetof(struct type, member), kind \
	}

struct metrics_class {
	const char *group; /* JSON key, e.g. "block" */
	const struct metric_field *fields;
	uint32_t field_count;
	uint32_t instance_bytes; /* sizeof the struct of counters */
	bool per_instance;       /* also write "<group>_<id>" for each instance */
};

static inline void metric_add(metric_t *metric, uint64_t amount)
{
	uint64_t now = atomic_load_explicit(metric, memory_order_relaxed);
	atomic_store_explicit(metric, now + amount, memory_order_relaxed);
}
static inline void metric_add_shared(metric_t *metric, uint64_t amount)
{
	atomic_fetch_add_explicit(metric, amount, memory_order_relaxed);
}
static inline void metric_store(metric_t *metric, uint64_t value)
{
	atomic_store_explicit(metric, value, memory_order_relaxed);
}
static inline uint64_t metric_get(const metric_t *metric)
{
	return atomic_load_explicit(metric, memory_order_relaxed);
}
/* Any thread. */
void metric_agg_record(struct metric_agg *agg, uint64_t duration_us);

/* Microseconds of CLOCK_MONOTONIC, for aggregates. */
uint64_t metrics_now_us(void);

/*
 * DOC: Where a group is described. Each group's fields are one table that exists once: groups that are not a device's
 * in metrics_groups.h, a device's own in its .c file as
 *
 *	const struct metrics_class block_metrics_class = {.group = "block", .fields = ..., .per_instance = true, ...};
 *
 * with `extern const struct metrics_class block_metrics_class;` in its header. foo_new() registers the instance,
 * foo_free() unregisters it. A group is to be written (with zeroes) even when the microVM has no such device: the
 * program's start announces the classes of all devices that it can build.
 *
 * Loop thread only, apart from metrics_flush_fatal().
 */

/* The group is written from now on, instance or not. class is borrowed for ever. 0 or -ENOMEM; announcing twice is allowed. */
int metrics_announce(const struct metrics_class *class) must_check;

/*
 * Adds an instance and announces its class. counters is borrowed until metrics_unregister(), id is copied; id may be
 * NULL for classes that are not per-instance. Several instances of one class are summed in the group. Registering the
 * same counters again changes nothing. 0 or -ENOMEM.
 */
int metrics_register(const struct metrics_class *class, const char *id, void *counters) must_check;
/* What the instance counted since the last flush is lost: flush first where that matters. Unknown counters: no effect. */
void metrics_unregister(const void *counters);

/*
 * Opens the file or FIFO that lines are appended to; a second call is refused. -errno and a text. A line that the file
 * does not take is lost (logger.missed_metrics_count, logger.metrics_fails), its counts are in the next one.
 */
int metrics_open(const char *path, struct error *err) must_check;

/*
 * Members that every line begins with, ready JSON text such as `"id":"x"` without braces; copied. NULL: none.
 * 0 or -ENOMEM.
 */
int metrics_set_members(const char *json) must_check;

/* Writes one line. 0 when it is written or no file was opened; else -errno and a text. */
int metrics_flush(struct error *err) must_check;

/* The same from a fatal-signal handler on any thread: allocates nothing, gives up when a flush was interrupted. */
void metrics_flush_fatal(void);

struct loop;

/* A line every 60 s from now on; start again after stop as after a pause. 0 or -ENOMEM. */
int metrics_periodic_start(struct loop *loop) must_check;
void metrics_periodic_stop(void);

/* Closes the file and forgets everything that was registered. For the end of the program and for tests. */
void metrics_close(void);

#endif
