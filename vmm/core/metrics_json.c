// SPDX-License-Identifier: Apache-2.0
/*
 * The metrics' line of JSON.
 *
 * DOC: Runs in fatal-signal handlers too: no allocation, no locale, no stdio. Reading and resetting are two steps, so
 * that a line which the file did not take loses no counts: metrics_format() reads, metrics_commit() marks as written.
 * What a thread adds between the two stays for the next line.
 */
#include <string.h>
#include "vmm/core/metrics_internal.h"

#define U64_DIGITS    20u
#define KEY_OVERHEAD  4u /* quotes, colon, comma */
#define AGG_OVERHEAD  (sizeof("{\"min_us\":,\"max_us\":,\"sum_us\":}") - 1)
#define TIME_OVERHEAD (sizeof("{\"utc_timestamp_ms\":}\n") - 1 + U64_DIGITS)

struct value {
	uint64_t min, max, sum; /* counts and stores: sum alone */
};

static char *put_text(char *out, const char *text)
{
	size_t len = strlen(text);

	memcpy(out, text, len);
	return out + len;
}

static char *put_number(char *out, uint64_t number)
{
	char digits[U64_DIGITS];
	size_t count = 0;

	do {
		digits[count++] = (char)('0' + number % 10);
		number /= 10;
	} while (number);
	while (count)
		*out++ = digits[--count];
	return out;
}

/* Ids were checked by the API; what would end the string early is still kept out of it. */
static char *put_id(char *out, const char *id)
{
	for (; *id; id++)
		*out++ = (unsigned char)*id < 0x20 || *id == '"' || *id == '\\' ? '_' : *id;
	return out;
}

static char *put_key(char *out, const char *name, const char *id)
{
	*out++ = '"';
	out = put_text(out, name);
	if (id) {
		*out++ = '_';
		out = put_id(out, id);
	}
	return put_text(out, "\":");
}

static char *put_field(char *out, const struct metric_field *field, const struct value *value)
{
	out = put_key(out, field->name, NULL);
	if (field->kind != METRIC_AGG)
		return put_number(out, value->sum);
	out = put_number(put_text(out, "{\"min_us\":"), value->min);
	out = put_number(put_text(out, ",\"max_us\":"), value->max);
	out = put_number(put_text(out, ",\"sum_us\":"), value->sum);
	return put_text(out, "}");
}

static void *member_at(const struct metrics_instance *instance, const struct metric_field *field)
{
	return (char *)instance->counters + field->offset;
}

static void read_field(const struct metrics_instance *instance, const struct metric_field *field,
		       struct metrics_value *value)
{
	const void *member = member_at(instance, field);

	if (field->kind == METRIC_AGG) {
		const struct metric_agg *agg = member;

		value->seen = metric_get(&agg->min_us);
		value->seen_max = metric_get(&agg->max_us);
		value->seen_sum = metric_get(&agg->sum_us);
	} else {
		value->seen = metric_get(member);
	}
}

/* Adds one instance's value to a sum of instances; a minimum of 0 says that nothing was measured. */
static void add_value(struct value *total, const struct metric_field *field,
		      const struct metrics_value *value)
{
	switch (field->kind) {
	case METRIC_COUNT:
		total->sum += value->seen - value->written;
		break;
	case METRIC_STORE:
		total->sum += value->seen;
		break;
	case METRIC_AGG:
		if (value->seen && (!total->min || value->seen < total->min))
			total->min = value->seen;
		if (value->seen_max > total->max)
			total->max = value->seen_max;
		total->sum += value->seen_sum;
		break;
	}
}

/* One object with the sum of count instances. */
static char *put_object(char *out, const struct metrics_group *group, const char *id,
			const struct metrics_instance *instances, unsigned count)
{
	out = put_text(put_key(out, group->class->group, id), "{");
	for (unsigned i = 0; i < group->class->field_count; i++) {
		const struct metric_field *field = &group->class->fields[i];
		struct value total = {0};

		for (unsigned j = 0; j < count; j++)
			add_value(&total, field, &instances[j].values[i]);
		if (i)
			*out++ = ',';
		out = put_field(out, field, &total);
	}
	return put_text(out, "}");
}

static char *put_group(char *out, const struct metrics_group *group)
{
	for (unsigned j = 0; j < group->instance_count; j++) {
		struct metrics_instance *instance = &group->instances[j];

		for (unsigned i = 0; i < group->class->field_count; i++)
			read_field(instance, &group->class->fields[i], &instance->values[i]);
	}
	*out++ = ',';
	out = put_object(out, group, NULL, group->instances, group->instance_count);
	if (!group->class->per_instance)
		return out;
	for (unsigned j = 0; j < group->instance_count; j++) {
		*out++ = ',';
		out = put_object(out, group, group->instances[j].id, &group->instances[j], 1);
	}
	return out;
}

size_t metrics_format(struct metrics_registry *registry, uint64_t utc_ms, char *out)
{
	char *end = put_number(put_text(out, "{\"utc_timestamp_ms\":"), utc_ms);

	if (registry->members)
		end = put_text(put_text(end, ","), registry->members);
	for (unsigned i = 0; i < registry->group_count; i++)
		end = put_group(end, &registry->groups[i]);
	end = put_text(end, "}\n");
	return (size_t)(end - out);
}

/* An object's longest form; the name's length is added by the caller. */
static size_t object_bound(const struct metrics_class *class)
{
	size_t bytes = KEY_OVERHEAD + strlen(class->group) + sizeof("{}");

	for (unsigned i = 0; i < class->field_count; i++) {
		bytes += KEY_OVERHEAD + strlen(class->fields[i].name);
		bytes += class->fields[i].kind == METRIC_AGG ? AGG_OVERHEAD + 3 * U64_DIGITS
							     : U64_DIGITS;
	}
	return bytes;
}

size_t metrics_format_bound(const struct metrics_registry *registry)
{
	size_t bytes = TIME_OVERHEAD + (registry->members ? strlen(registry->members) + 1 : 0);

	for (unsigned i = 0; i < registry->group_count; i++) {
		const struct metrics_group *group = &registry->groups[i];

		bytes += object_bound(group->class);
		for (unsigned j = 0; group->class->per_instance && j < group->instance_count; j++)
			bytes += object_bound(group->class) + 1 + strlen(group->instances[j].id);
	}
	return bytes;
}

/* Back to "nothing measured", unless a thread has measured something new since the value was read. */
static void restart_extreme(metric_t *extreme, uint64_t seen)
{
	atomic_compare_exchange_strong_explicit(extreme, &seen, 0, memory_order_relaxed,
						memory_order_relaxed);
}

static void commit_field(const struct metrics_instance *instance, const struct metric_field *field,
			 struct metrics_value *value)
{
	if (field->kind == METRIC_COUNT)
		value->written = value->seen;
	if (field->kind == METRIC_AGG) {
		struct metric_agg *agg = member_at(instance, field);

		restart_extreme(&agg->min_us, value->seen);
		restart_extreme(&agg->max_us, value->seen_max);
		atomic_fetch_sub_explicit(&agg->sum_us, value->seen_sum, memory_order_relaxed);
	}
}

void metrics_commit(struct metrics_registry *registry)
{
	for (unsigned g = 0; g < registry->group_count; g++) {
		struct metrics_group *group = &registry->groups[g];

		for (unsigned j = 0; j < group->instance_count; j++) {
			struct metrics_instance *instance = &group->instances[j];

			for (unsigned i = 0; i < group->class->field_count; i++)
				commit_field(instance, &group->class->fields[i],
					     &instance->values[i]);
		}
	}
}
