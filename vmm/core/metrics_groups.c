// SPDX-License-Identifier: Apache-2.0
/* The tables of the process-wide metric groups. */
#include "vmm/core/metrics_groups.h"

struct process_metrics process_metrics;

// clang-format off
/* Offsets count from process_metrics, so that it is every group's instance. */
#define FIELD(group, kind, name) {#name, offsetof(struct process_metrics, group.name), METRIC_##kind},
#define FIELD_TABLE(group) static const struct metric_field group##_fields[] = {METRICS_##group(FIELD, group)};
METRICS_GROUPS(FIELD_TABLE)

#define CLASS(name) { \
	.group = #name, \
	.fields = name##_fields, \
	.field_count = sizeof(name##_fields) / sizeof(name##_fields[0]), \
	.instance_bytes = sizeof(struct process_metrics), \
},
static const struct metrics_class classes[] = {METRICS_GROUPS(CLASS)};
// clang-format on

int metrics_register_groups(void)
{
	for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
		int ret = metrics_register(&classes[i], NULL, &process_metrics);

		if (ret)
			return ret;
	}
	return 0;
}
