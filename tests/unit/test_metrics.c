// SPDX-License-Identifier: Apache-2.0
/* Metrics: names as consumers parse them, sums and differences, and files that do not take a line. */
#include "tests/unit/unit.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "vmm/core/loop.h"
#include "vmm/core/metrics_groups.h"

/* ---- the loop that the periodic lines see ---- */

struct loop_source {
	loop_fn fn;
	void *ctx;
	uint64_t delay_ns;
};

static struct loop_source fake_timer;
static unsigned freed_timers;

struct loop_source *loop_add_timer(struct loop *loop, loop_fn fn, void *ctx)
{
	(void)loop;
	fake_timer = (struct loop_source){.fn = fn, .ctx = ctx};
	return &fake_timer;
}

void loop_timer_arm(struct loop_source *source, uint64_t delay_ns)
{
	source->delay_ns = delay_ns;
}

void loop_source_free(struct loop_source *source)
{
	freed_timers += source != NULL;
}

/* ---- a class of devices ---- */

struct toy {
	metric_t events, level;
	struct metric_agg times;
};

static const struct metric_field toy_fields[] = {
	METRIC_FIELD(toy, events, METRIC_COUNT),
	METRIC_FIELD(toy, level, METRIC_STORE),
	METRIC_FIELD(toy, times, METRIC_AGG),
};

static const struct metrics_class toy_class = {
	.group = "toy",
	.fields = toy_fields,
	.field_count = 3,
	.instance_bytes = sizeof(struct toy),
	.per_instance = true,
};

/* ---- reading lines back ---- */

static char folder[] = "/tmp/test_metrics.XXXXXX";
static char path[64], text[1 << 20];

static int setup(void **state)
{
	(void)state;
	if (!path[0] && mkdtemp(folder))
		snprintf(path, sizeof(path), "%s/metrics", folder);
	unlink(path);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	metrics_close();
	unlink(path);
	return 0;
}

static void open_metrics(void)
{
	struct error err = {0};

	assert_int_equal(metrics_open(path, &err), 0);
}

static void flush(void)
{
	struct error err = {0};

	assert_int_equal(metrics_flush(&err), 0);
}

/* The only line that has been written since the last call, parsed; the caller deletes it. */
static cJSON *take_line(void)
{
	int fd = open(path, O_RDWR | O_NONBLOCK);
	ssize_t len = read(fd, text, sizeof(text) - 1);

	assert_true(len > 0);
	text[len] = '\0';
	assert_int_equal(ftruncate(fd, 0), 0);
	close(fd);
	assert_ptr_equal(strchr(text, '\n'), text + len - 1);
	cJSON *line = cJSON_Parse(text);
	assert_non_null(line);
	return line;
}

static double number(const cJSON *line, const char *group, const char *field)
{
	const cJSON *object = cJSON_GetObjectItemCaseSensitive(line, group);
	const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, field);

	if (!cJSON_IsNumber(value))
		fail_msg("no number %s.%s", group, field);
	return value->valuedouble;
}

static double agg_number(const cJSON *line, const char *group, const char *field, const char *part)
{
	return number(cJSON_GetObjectItemCaseSensitive(line, group), field, part);
}

/* ---- tests ---- */

/* What consumers of Firecracker's metrics look for, group by group. */
static const struct {
	const char *group, *fields;
} schema[] = {
	{"api_server", "process_startup_time_us process_startup_time_cpu_us"},
	{"balloon",
	 "activate_fails inflate_count stats_updates_count stats_update_fails deflate_count "
	 "event_fails free_page_report_count free_page_report_freed free_page_report_fails "
	 "free_page_hint_count free_page_hint_freed free_page_hint_fails"},
	{"deprecated_api", "deprecated_http_api_calls"},
	{"get_api_requests", "instance_info_count machine_cfg_count mmds_count vmm_version_count "
			     "hotplug_memory_count"},
	{"put_api_requests",
	 "actions_count actions_fails boot_source_count boot_source_fails drive_count drive_fails "
	 "logger_count logger_fails machine_cfg_count machine_cfg_fails cpu_cfg_count "
	 "cpu_cfg_fails "
	 "metrics_count metrics_fails network_count network_fails mmds_count mmds_fails "
	 "vsock_count "
	 "vsock_fails pmem_count pmem_fails serial_count serial_fails hotplug_memory_count "
	 "hotplug_memory_fails"},
	{"patch_api_requests",
	 "drive_count drive_fails network_count network_fails machine_cfg_count machine_cfg_fails "
	 "mmds_count mmds_fails hotplug_memory_count hotplug_memory_fails pmem_count pmem_fails"},
	{"i8042",
	 "error_count missed_read_count missed_write_count read_count reset_count write_count"},
	{"latencies_us",
	 "full_create_snapshot diff_create_snapshot load_snapshot pause_vm resume_vm "
	 "vmm_full_create_snapshot vmm_diff_create_snapshot vmm_load_snapshot "
	 "vmm_pause_vm vmm_resume_vm"},
	{"logger", "missed_metrics_count metrics_fails missed_log_count rate_limited_log_count"},
	{"mmds", "rx_accepted rx_accepted_err rx_accepted_unusual rx_bad_eth rx_invalid_token "
		 "rx_no_token rx_count tx_bytes tx_count tx_errors tx_frames connections_created "
		 "connections_destroyed"},
	{"seccomp", "num_faults"},
	{"vmm", "panic_count"},
	{"signals", "sigbus sigsegv sigxfsz sigxcpu sigpipe sighup sigill"},
	{"vcpu", "exit_io_in exit_io_out exit_mmio_read exit_mmio_write failures "
		 "kvmclock_ctrl_fails exit_io_in_agg exit_io_out_agg exit_mmio_read_agg "
		 "exit_mmio_write_agg"},
	{"interrupts", "triggers config_updates"},
	{"uart", "error_count flush_count missed_read_count missed_write_count read_count "
		 "write_count rate_limiter_dropped_bytes"},
	{"pmem", "activate_fails cfg_fails event_fails queue_event_count "
		 "rate_limiter_throttled_events rate_limiter_event_count"},
	{"memory_hotplug",
	 "activate_fails queue_event_fails queue_event_count plug_count plug_bytes plug_fails "
	 "plug_agg unplug_count unplug_bytes unplug_fails unplug_discard_fails unplug_agg "
	 "state_count state_fails state_agg unplug_all_count unplug_all_fails unplug_all_agg"},
};

#define SCHEMA_GROUPS (sizeof(schema) / sizeof(schema[0]))

static void assert_fields(const cJSON *group, const char *expected)
{
	char names[1024], *rest = NULL;
	int count = 0;

	snprintf(names, sizeof(names), "%s", expected);
	for (char *name = strtok_r(names, " ", &rest); name;
	     name = strtok_r(NULL, " ", &rest), count++) {
		if (!cJSON_HasObjectItem(group, name))
			fail_msg("%s has no field %s", group->string, name);
	}
	assert_int_equal(cJSON_GetArraySize(group), count);
}

static void test_schema(void **state)
{
	(void)state;
	open_metrics();
	flush();
	cJSON *line = take_line();
	assert_true(cJSON_IsNumber(cJSON_GetObjectItem(line, "utc_timestamp_ms")));
	assert_int_equal(cJSON_GetArraySize(line), SCHEMA_GROUPS + 1);
	for (size_t i = 0; i < SCHEMA_GROUPS; i++) {
		const cJSON *group = cJSON_GetObjectItemCaseSensitive(line, schema[i].group);

		assert_non_null(group);
		assert_fields(group, schema[i].fields);
	}
	cJSON_Delete(line);
}

static void test_not_opened(void **state)
{
	struct error err = {0};

	(void)state;
	assert_int_equal(metrics_flush(&err), 0);
	metrics_flush_fatal();
	assert_int_equal(access(path, F_OK), -1);
}

static void test_open_errors(void **state)
{
	struct error err = {0};

	(void)state;
	assert_int_equal(metrics_open("/nonexistent/metrics", &err), -ENOENT);
	open_metrics();
	assert_int_equal(metrics_open(path, &err), -EBUSY);
	assert_string_equal(err.text, "Cannot initialize the metrics system due to bad user input: "
				      "Reinitialization of metrics not allowed.");
}

static void test_kinds(void **state)
{
	struct toy a = {0}, b = {0};

	(void)state;
	assert_int_equal(metrics_register(&toy_class, "a", &a), 0);
	open_metrics();
	assert_int_equal(metrics_register(&toy_class, "b", &b), 0);
	metric_add(&a.events, 3);
	metric_add_shared(&b.events, 4);
	metric_store(&a.level, 10);
	metric_agg_record(&a.times, 5);
	metric_agg_record(&a.times, 9);
	metric_agg_record(&b.times, 2);
	flush();
	cJSON *line = take_line();
	assert_true(number(line, "toy_a", "events") == 3);
	assert_true(number(line, "toy_b", "events") == 4);
	assert_true(number(line, "toy", "events") == 7);
	assert_true(number(line, "toy", "level") == 10);
	assert_true(agg_number(line, "toy_a", "times", "min_us") == 5);
	assert_true(agg_number(line, "toy_a", "times", "max_us") == 9);
	assert_true(agg_number(line, "toy_a", "times", "sum_us") == 14);
	assert_true(agg_number(line, "toy", "times", "min_us") == 2);
	assert_true(agg_number(line, "toy", "times", "sum_us") == 16);
	cJSON_Delete(line);

	metric_add(&a.events, 1);
	flush();
	line = take_line();
	assert_true(number(line, "toy_a", "events") == 1);
	assert_true(number(line, "toy", "events") == 1);
	assert_true(number(line, "toy", "level") == 10);
	assert_true(agg_number(line, "toy", "times", "min_us") == 0);
	assert_true(agg_number(line, "toy", "times", "max_us") == 0);
	assert_true(agg_number(line, "toy", "times", "sum_us") == 0);
	cJSON_Delete(line);
}

static void test_announced_and_unregistered(void **state)
{
	struct toy a = {0};

	(void)state;
	open_metrics();
	assert_int_equal(metrics_announce(&toy_class), 0);
	assert_int_equal(metrics_announce(&toy_class), 0);
	flush();
	cJSON *line = take_line();
	assert_true(number(line, "toy", "events") == 0);
	cJSON_Delete(line);
	assert_int_equal(metrics_register(&toy_class, "a", &a), 0);
	assert_int_equal(metrics_register(&toy_class, "a", &a), 0);
	metric_add(&a.events, 2);
	flush();
	line = take_line();
	assert_true(number(line, "toy", "events") == 2);
	cJSON_Delete(line);
	metrics_unregister(&a);
	metrics_unregister(&a);
	flush();
	line = take_line();
	assert_null(cJSON_GetObjectItem(line, "toy_a"));
	assert_true(number(line, "toy", "events") == 0);
	cJSON_Delete(line);
}

static void test_largest_values(void **state)
{
	struct toy toys[17];
	char id[300];

	(void)state;
	memset(toys, 0xff, sizeof(toys));
	memset(id, 'i', sizeof(id) - 1);
	id[sizeof(id) - 1] = '\0';
	for (size_t i = 0; i < 17; i++)
		assert_int_equal(metrics_register(&toy_class, id, &toys[i]), 0);
	open_metrics();
	flush();
	cJSON *line = take_line();
	assert_true(number(line, "toy", "events") > 0);
	assert_non_null(strstr(text, "\"events\":18446744073709551615,"));
	cJSON_Delete(line);
}

static void test_hostile_id(void **state)
{
	struct toy a = {0};

	(void)state;
	open_metrics();
	assert_int_equal(metrics_register(&toy_class, "a\"\\\n", &a), 0);
	flush();
	cJSON *line = take_line();
	assert_non_null(cJSON_GetObjectItem(line, "toy_a___"));
	cJSON_Delete(line);
}

static void test_members(void **state)
{
	(void)state;
	open_metrics();
	assert_int_equal(metrics_set_members("\"id\":\"vm-1\""), 0);
	assert_int_equal(metrics_set_members("\"id\":\"vm-2\",\"properties\":{\"a\":\"b\"}"), 0);
	flush();
	cJSON *line = take_line();
	assert_string_equal(cJSON_GetObjectItem(line, "id")->valuestring, "vm-2");
	cJSON_Delete(line);
	assert_int_equal(metrics_set_members(NULL), 0);
	flush();
	line = take_line();
	assert_null(cJSON_GetObjectItem(line, "id"));
	cJSON_Delete(line);
}

/*
 * The FIFO holds less than a line: it takes the beginning, the rest follows when there is room, and what was counted
 * while nothing went out is in the next line.
 */
static void test_fifo(void **state)
{
	struct toy a = {0};
	struct error err = {0};
	size_t len = 0;

	(void)state;
	assert_int_equal(mkfifo(path, 0600), 0);
	int reader = open(path, O_RDONLY | O_NONBLOCK);
	assert_int_equal(fcntl(reader, F_SETPIPE_SZ, 4096), 4096);
	open_metrics();
	assert_int_equal(metrics_register(&toy_class, "a", &a), 0);
	uint64_t missed = metric_get(&process_metrics.logger.missed_metrics_count);
	metric_add(&a.events, 1);
	flush();
	metric_add(&a.events, 2);
	assert_int_equal(metrics_flush(&err), -EAGAIN);
	assert_int_equal(metric_get(&process_metrics.logger.missed_metrics_count) - missed, 1);
	/* Drained a page at a time; a flush that finds no room for the rest changes nothing. */
	char *second = NULL, *end = NULL;
	for (int rounds = 0; rounds < 100 && !end; rounds++) {
		ssize_t got = read(reader, text + len, sizeof(text) - 1 - len);

		len += got > 0 ? (size_t)got : 0;
		text[len] = '\0';
		second = strchr(text, '\n');
		end = second ? strchr(second + 1, '\n') : NULL;
		if (metrics_flush(&err))
			assert_int_equal(err.code, -EAGAIN);
	}
	assert_non_null(end);
	cJSON *line = cJSON_Parse(text);
	assert_true(number(line, "toy", "events") == 1);
	cJSON_Delete(line);
	line = cJSON_Parse(second + 1);
	assert_true(number(line, "toy", "events") == 2);
	cJSON_Delete(line);
	close(reader);
}

/* /dev/full takes nothing: nothing is lost either. */
static void test_full_disk(void **state)
{
	struct toy a = {0};
	struct error err = {0};

	(void)state;
	assert_int_equal(metrics_open("/dev/full", &err), 0);
	assert_int_equal(metrics_register(&toy_class, "a", &a), 0);
	uint64_t fails = metric_get(&process_metrics.logger.metrics_fails);
	metric_agg_record(&a.times, 3);
	assert_int_equal(metrics_flush(&err), -ENOSPC);
	assert_non_null(strstr(err.text, "No space left"));
	assert_int_equal(metric_get(&process_metrics.logger.metrics_fails) - fails, 1);
	assert_int_equal(metric_get(&a.times.sum_us), 3);
}

static void test_fatal(void **state)
{
	(void)state;
	open_metrics();
	metrics_flush_fatal();
	cJSON *line = take_line();
	assert_true(number(line, "vmm", "panic_count") == 0);
	cJSON_Delete(line);
}

static void test_periodic(void **state)
{
	(void)state;
	open_metrics();
	assert_int_equal(metrics_periodic_start(NULL), 0);
	assert_true(fake_timer.delay_ns == UINT64_C(60000000000));
	fake_timer.delay_ns = 0;
	fake_timer.fn(fake_timer.ctx);
	assert_true(fake_timer.delay_ns == UINT64_C(60000000000));
	cJSON_Delete(take_line());
	freed_timers = 0;
	metrics_periodic_stop();
	metrics_periodic_stop();
	assert_int_equal(freed_timers, 1);
}

static int remove_folder(void **state)
{
	(void)state;
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_schema, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_opened, setup, teardown),
		cmocka_unit_test_setup_teardown(test_open_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kinds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_announced_and_unregistered, setup, teardown),
		cmocka_unit_test_setup_teardown(test_largest_values, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hostile_id, setup, teardown),
		cmocka_unit_test_setup_teardown(test_members, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fifo, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fatal, setup, teardown),
		cmocka_unit_test_setup_teardown(test_periodic, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, remove_folder);
}
