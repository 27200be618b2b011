// SPDX-License-Identifier: Apache-2.0
/*
 * The metrics' registry and file.
 *
 * DOC: Everything is the loop thread's, save that a fatal signal flushes from wherever it struck. `busy` keeps the two
 * apart: it is held while registry or buffer change; a fatal handler that finds it held waits a moment (the holder may
 * be another thread) and then gives up (the holder is the code that the signal interrupted). The line's buffer grows
 * when something is registered, never in a flush.
 */
#include "vmm/core/metrics.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "vmm/core/log.h"
#include "vmm/core/loop.h"
#include "vmm/core/metrics_groups.h"
#include "vmm/core/metrics_internal.h"
#include "vmm/core/sink.h"

#define PERIOD_NS           60000000000ull
#define FATAL_WAIT_ROUNDS   50
#define FATAL_WAIT_ROUND_MS 1

/* Process-wide by design, see metrics.h. */
static struct {
	atomic_flag busy;
	struct metrics_registry registry;
	int fd;            /* -1: not opened */
	char *line;        /* owned; room for the longest line; NULL until the file is opened */
	size_t line_bytes; /* its size */
	size_t rest, end;  /* a FIFO took a part of a line: [rest, end) of it is still to go out */
	struct loop_source *timer; /* owned; NULL: no periodic lines */
} metrics = {.busy = ATOMIC_FLAG_INIT, .fd = -1};

/* poll() and not nanosleep(): the system call filters allow it already. */
static void pause_briefly(void)
{
	(void)poll(NULL, 0, FATAL_WAIT_ROUND_MS);
}

/* Waits only for a fatal handler, which ends the process. */
static void enter(void)
{
	while (atomic_flag_test_and_set_explicit(&metrics.busy, memory_order_acquire))
		pause_briefly();
}

static void leave(void)
{
	atomic_flag_clear_explicit(&metrics.busy, memory_order_release);
}

uint64_t metrics_now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

void metric_agg_record(struct metric_agg *agg, uint64_t duration_us)
{
	uint64_t min = metric_get(&agg->min_us);
	uint64_t max = metric_get(&agg->max_us);

	while ((min == 0 || duration_us < min) &&
	       !atomic_compare_exchange_weak_explicit(&agg->min_us, &min, duration_us,
						      memory_order_relaxed, memory_order_relaxed))
		;
	while (duration_us > max &&
	       !atomic_compare_exchange_weak_explicit(&agg->max_us, &max, duration_us,
						      memory_order_relaxed, memory_order_relaxed))
		;
	metric_add_shared(&agg->sum_us, duration_us);
}

/* Room for the longest line of what is registered now. Nothing to do before the file is opened. */
static int fit_line(void)
{
	size_t needed = metrics_format_bound(&metrics.registry);

	if (metrics.fd < 0 || needed <= metrics.line_bytes)
		return 0;
	char *line = realloc(metrics.line, needed);
	if (!line)
		return -ENOMEM;
	metrics.line = line;
	metrics.line_bytes = needed;
	return 0;
}

static struct metrics_group *find_group(const struct metrics_class *class)
{
	for (unsigned i = 0; i < metrics.registry.group_count; i++) {
		if (metrics.registry.groups[i].class == class)
			return &metrics.registry.groups[i];
	}
	return NULL;
}

static struct metrics_group *add_group(const struct metrics_class *class)
{
	struct metrics_registry *registry = &metrics.registry;
	struct metrics_group *group = find_group(class);

	if (group)
		return group;
	group = reallocarray(registry->groups, registry->group_count + 1, sizeof(*group));
	if (!group)
		return NULL;
	registry->groups = group;
	group += registry->group_count;
	*group = (struct metrics_group){.class = class};
	registry->group_count++;
	if (fit_line() < 0) {
		registry->group_count--;
		return NULL;
	}
	return group;
}

int metrics_announce(const struct metrics_class *class)
{
	enter();
	int ret = add_group(class) ? 0 : -ENOMEM;
	leave();
	return ret;
}

static void release_instance(struct metrics_instance *instance)
{
	free(instance->id);
	free(instance->values);
}

static int make_instance(struct metrics_instance *instance, const struct metrics_class *class,
			 const char *id, void *counters)
{
	const char *name = id ? id : "";

	*instance = (struct metrics_instance){
		.id = class->per_instance ? strdup(name) : NULL,
		.counters = counters,
		.values = calloc(class->field_count, sizeof(*instance->values)),
	};
	if (instance->values && (instance->id || !class->per_instance))
		return 0;
	release_instance(instance);
	return -ENOMEM;
}

static bool has_instance(const struct metrics_group *group, const void *counters)
{
	for (unsigned i = 0; i < group->instance_count; i++) {
		if (group->instances[i].counters == counters)
			return true;
	}
	return false;
}

static int add_instance(struct metrics_group *group, const char *id, void *counters)
{
	if (has_instance(group, counters))
		return 0;
	struct metrics_instance *instances =
		reallocarray(group->instances, group->instance_count + 1, sizeof(*instances));

	if (!instances)
		return -ENOMEM;
	group->instances = instances;
	struct metrics_instance *instance = &instances[group->instance_count];
	int ret = make_instance(instance, group->class, id, counters);
	if (ret)
		return ret;
	group->instance_count++;
	ret = fit_line();
	if (ret) {
		group->instance_count--;
		release_instance(instance);
	}
	return ret;
}

int metrics_register(const struct metrics_class *class, const char *id, void *counters)
{
	enter();
	struct metrics_group *group = add_group(class);
	int ret = group ? add_instance(group, id, counters) : -ENOMEM;
	leave();
	return ret;
}

static void drop_instance(struct metrics_group *group, unsigned index)
{
	release_instance(&group->instances[index]);
	group->instance_count--;
	memmove(&group->instances[index], &group->instances[index + 1],
		(group->instance_count - index) * sizeof(group->instances[0]));
}

void metrics_unregister(const void *counters)
{
	enter();
	for (unsigned i = 0; i < metrics.registry.group_count; i++) {
		struct metrics_group *group = &metrics.registry.groups[i];

		for (unsigned j = group->instance_count; j-- > 0;) {
			if (group->instances[j].counters == counters)
				drop_instance(group, j);
		}
	}
	leave();
}

/* Takes the descriptor on success. */
static int use_file(int fd)
{
	enter();
	metrics.fd = fd;
	int ret = fit_line();
	if (ret)
		metrics.fd = -1;
	leave();
	return ret;
}

int metrics_open(const char *path, struct error *err)
{
	static const char context[] = "Cannot initialize the metrics system due to bad user input";

	if (metrics.fd >= 0)
		return error_set(err, -EBUSY, "%s: Reinitialization of metrics not allowed.",
				 context);
	cleanup_fd int fd = sink_open(path);
	if (fd < 0)
		return error_set_os(err, fd, "%s: %s", context, path);
	int ret = metrics_register_groups();
	if (!ret)
		ret = use_file(fd);
	if (ret)
		return error_set_os(err, ret, "%s: no room for a line", context);
	steal_fd(&fd);
	return 0;
}

int metrics_set_members(const char *json)
{
	char *copy = json ? strdup(json) : NULL;

	if (json && !copy)
		return -ENOMEM;
	enter();
	char *old = metrics.registry.members;
	metrics.registry.members = copy;
	int ret = fit_line();
	if (ret) {
		metrics.registry.members = old;
		old = copy;
	}
	leave();
	free(old);
	return ret;
}

static uint64_t utc_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

/* 0 when [rest, end) of the line is out, else -errno; -EAGAIN when the file took only a part of it. */
static int write_rest(void)
{
	while (metrics.rest < metrics.end) {
		ssize_t written =
			write(metrics.fd, metrics.line + metrics.rest, metrics.end - metrics.rest);

		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return -errno;
		metrics.rest += (size_t)written;
	}
	return 0;
}

/*
 * A FIFO that is nearly full takes the beginning of a line. Its rest goes out before anything else, or the reader
 * would see two lines in one; counted as written, since it will be.
 */
static int write_line(void)
{
	int ret = write_rest();

	if (ret)
		return ret;
	metrics.rest = 0;
	metrics.end = metrics_format(&metrics.registry, utc_now_ms(), metrics.line);
	ret = write_rest();
	if (ret && metrics.rest == 0) {
		metrics.end = 0;
		return ret;
	}
	metrics_commit(&metrics.registry);
	return 0;
}

static int flush(void)
{
	if (metrics.fd < 0)
		return 0;
	int ret = write_line();
	if (ret == -EAGAIN)
		metric_add_shared(&process_metrics.logger.missed_metrics_count, 1);
	else if (ret)
		metric_add_shared(&process_metrics.logger.metrics_fails, 1);
	return ret;
}

int metrics_flush(struct error *err)
{
	enter();
	int ret = flush();
	leave();
	return ret ? error_set_os(err, ret, "Cannot write the metrics") : 0;
}

void metrics_flush_fatal(void)
{
	for (int i = 0; i < FATAL_WAIT_ROUNDS; i++) {
		if (!atomic_flag_test_and_set_explicit(&metrics.busy, memory_order_acquire)) {
			(void)flush();
			leave();
			return;
		}
		pause_briefly();
	}
}

static void on_period(void *ctx)
{
	struct error err = {0};

	(void)ctx;
	if (metrics_flush(&err) < 0)
		log_limited(LOG_LEVEL_ERROR, "%s", err.text);
	loop_timer_arm(metrics.timer, PERIOD_NS);
}

int metrics_periodic_start(struct loop *loop)
{
	if (!metrics.timer)
		metrics.timer = loop_add_timer(loop, on_period, NULL);
	if (!metrics.timer)
		return -ENOMEM;
	loop_timer_arm(metrics.timer, PERIOD_NS);
	return 0;
}

void metrics_periodic_stop(void)
{
	loop_source_free(metrics.timer);
	metrics.timer = NULL;
}

static void free_registry(struct metrics_registry *registry)
{
	for (unsigned i = 0; i < registry->group_count; i++) {
		while (registry->groups[i].instance_count > 0)
			drop_instance(&registry->groups[i], registry->groups[i].instance_count - 1);
		free(registry->groups[i].instances);
	}
	free(registry->groups);
	free(registry->members);
	*registry = (struct metrics_registry){0};
}

void metrics_close(void)
{
	metrics_periodic_stop();
	enter();
	free_registry(&metrics.registry);
	free(metrics.line);
	close_fd(metrics.fd);
	metrics.line = NULL;
	metrics.line_bytes = metrics.rest = metrics.end = 0;
	metrics.fd = -1;
	leave();
}
