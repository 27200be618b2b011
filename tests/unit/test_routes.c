// SPDX-License-Identifier: Apache-2.0
/* Requests through the table of routes to a fake microVM, and configuration documents. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "api/config_file.h"
#include "api/json.h"
#include "api/routes.h"
#include "tests/unit/fake_vm.h"
#include "vmm/core/log.h"
#include "vmm/core/metrics_groups.h"
#include "vmm/core/version.h"

static struct vm vm;

static int set_up(void **state)
{
	(void)state;
	fake_vm_init(&vm);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	fake_vm_clear(&vm);
	return 0;
}

/* Sends one request; the body of the answer is in the returned reply, to be freed. */
static struct api_reply ask(enum http_method method, const char *path, const char *body)
{
	struct http_request request = {.method = method, .keep_alive = true};
	cleanup_free char *copy = body ? strdup(body) : NULL;
	struct api_reply reply;

	snprintf(request.path, sizeof(request.path), "%s", path);
	request.body = copy;
	request.body_len = body ? strlen(body) : 0;
	routes_handle(&vm, &request, &reply);
	return reply;
}

#define assert_answer(method, path, sent, expected_status, expected_body)             \
	do {                                                                          \
		struct api_reply reply_here = ask(method, path, sent);                \
		assert_string_equal(reply_here.body.data ? reply_here.body.data : "", \
				    expected_body);                                   \
		assert_int_equal(reply_here.status, expected_status);                 \
		text_free(&reply_here.body);                                          \
	} while (0)
#define assert_fault(method, path, sent, fault) \
	assert_answer(method, path, sent, 400, "{\"fault_message\":\"" fault "\"}")
#define assert_done(method, path, sent) assert_answer(method, path, sent, 204, "")

#define DRIVE      "{\"drive_id\":\"a\",\"is_root_device\":false,\"path_on_host\":\"/x\"}"
#define NET        "{\"iface_id\":\"a\",\"host_dev_name\":\"tap0\"}"
#define BODY_FAULT "An error occurred when deserializing the json body of a request: "

static void test_instance(void **state)
{
	(void)state;
	assert_answer(HTTP_GET, "/", NULL, 200,
		      "{\"id\":\"fake\",\"state\":\"Not started\",\"vmm_version\":\"" BANTAM_VERSION
		      "\",\"app_name\":\"bantam\"}");
	vm.state = VM_PAUSED;
	assert_answer(HTTP_GET, "", NULL, 200,
		      "{\"id\":\"fake\",\"state\":\"Paused\",\"vmm_version\":\"" BANTAM_VERSION
		      "\",\"app_name\":\"bantam\"}");
	assert_answer(HTTP_GET, "//version/x", NULL, 200,
		      "{\"firecracker_version\":\"" BANTAM_VERSION "\"}");
}

/* The first of several mistakes is the one that is told, in this order. */
static void test_order_of_checks(void **state)
{
	(void)state;
	assert_fault(HTTP_GET, "/nowhere", "{}", "GET request cannot have a body.");
	assert_fault(HTTP_DELETE, "/nowhere", "{}", "Empty Delete request.");
	assert_fault(HTTP_PUT, "/nowhere", NULL, "Empty PUT request.");
	assert_fault(HTTP_PATCH, "/nowhere", NULL, "Empty PATCH request.");
	assert_fault(HTTP_PUT, "/nowhere/x", "{}",
		     "Invalid request method and/or path: PUT nowhere.");
	assert_fault(HTTP_GET, "/vm/", NULL, "Invalid request method and/or path: GET vm.");
	assert_fault(HTTP_GET, "/vm//config", NULL, "Invalid request method and/or path: GET vm.");
	assert_fault(HTTP_PUT, "/", "{}", "Invalid request method and/or path: PUT .");
	vm.state = VM_RUNNING;
	assert_fault(HTTP_PUT, "/drives", "not json", "The ID cannot be empty.");
	assert_fault(HTTP_PUT, "/drives/a-b", "not json",
		     "API Resource IDs can only contain alphanumeric characters and underscores.");
	assert_fault(HTTP_PUT, "/drives/a", "{\"drive_id\":\"b\",\"is_root_device\":1}",
		     BODY_FAULT "field `is_root_device`: expected true or false, found 1.");
	assert_fault(HTTP_PUT, "/drives/a", "{\"drive_id\":\"b\",\"is_root_device\":true}",
		     "The id from the path does not match the id from the body!");
	assert_fault(HTTP_PUT, "/drives/a", DRIVE, "PCI is not enabled");
	assert_int_equal(vm.calls, 0);
}

static void test_ids(void **state)
{
	static const char *const bad[] = {"a-b", "a.b", "a%20b", "a b", "\xc3\xa9", "a?b", "a\"b"};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char path[64];

		snprintf(path, sizeof(path), "/network-interfaces/%s", bad[i]);
		assert_fault(HTTP_PUT, path, NET,
			     "API Resource IDs can only contain alphanumeric characters and "
			     "underscores.");
	}
	assert_fault(HTTP_PUT, "/network-interfaces/", NET, "The ID cannot be empty.");
	assert_fault(HTTP_PUT, "/network-interfaces/b", NET,
		     "The id from the path [b] does not match the id from the body [a]!");
	assert_fault(HTTP_PATCH, "/network-interfaces/b", "{\"iface_id\":\"a\"}",
		     "The id from the path [b] does not match the id from the body [a]!");
	assert_fault(HTTP_PATCH, "/drives/b", "{\"drive_id\":\"a\"}",
		     "The id from the path does not match the id from the body!");
	assert_done(HTTP_PUT, "/drives/a/ignored", DRIVE);
}

#define BEFORE_FAULT VM_FAULT_BEFORE_START
#define AFTER_FAULT  VM_FAULT_AFTER_START

/* What each route says before and after the start; NULL: it is done (204). */
static const struct {
	enum http_method method;
	const char *path, *body;
	const char *before, *after;
} state_rows[] = {
	{HTTP_PUT, "/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":1}", NULL, AFTER_FAULT},
	{HTTP_PATCH, "/machine-config", "{\"vcpu_count\":1}", NULL, AFTER_FAULT},
	{HTTP_PUT, "/boot-source", "{\"kernel_image_path\":\"k\"}", NULL, AFTER_FAULT},
	{HTTP_PUT, "/drives/a", DRIVE, NULL, "PCI is not enabled"},
	{HTTP_PATCH, "/drives/a", "{\"drive_id\":\"a\"}", BEFORE_FAULT, NULL},
	{HTTP_DELETE, "/drives/a", NULL, BEFORE_FAULT, "PCI is not enabled"},
	{HTTP_PUT, "/network-interfaces/a", NET, NULL, "PCI is not enabled"},
	{HTTP_PATCH, "/network-interfaces/a", "{\"iface_id\":\"a\"}", BEFORE_FAULT, NULL},
	{HTTP_DELETE, "/network-interfaces/a", NULL, BEFORE_FAULT, "PCI is not enabled"},
	{HTTP_PUT, "/vsock", "{\"guest_cid\":3,\"uds_path\":\"v\"}", NULL, AFTER_FAULT},
	{HTTP_PUT, "/entropy", "{}", NULL, AFTER_FAULT},
	{HTTP_PUT, "/serial", "{}", NULL, AFTER_FAULT},
	{HTTP_PUT, "/logger", "{\"level\":\"Off\"}", NULL, AFTER_FAULT},
	{HTTP_PATCH, "/vm", "{\"state\":\"Paused\"}", BEFORE_FAULT, NULL},
	{HTTP_PATCH, "/vm", "{\"state\":\"Resumed\"}", BEFORE_FAULT, NULL},
	{HTTP_PUT, "/actions", "{\"action_type\":\"FlushMetrics\"}", BEFORE_FAULT, NULL},
	{HTTP_PUT, "/actions", "{\"action_type\":\"SendCtrlAltDel\"}", BEFORE_FAULT, NULL},
	{HTTP_PUT, "/actions", "{\"action_type\":\"InstanceStart\"}", NULL, AFTER_FAULT},
};

static void check_state_row(size_t i, const char *fault)
{
	struct api_reply reply = ask(state_rows[i].method, state_rows[i].path, state_rows[i].body);
	char expected[256];

	snprintf(expected, sizeof(expected), "{\"fault_message\":\"%s\"}", fault ? fault : "");
	assert_string_equal(reply.body.data ? reply.body.data : "", fault ? expected : "");
	assert_int_equal(reply.status, fault ? 400 : 204);
	text_free(&reply.body);
}

static void test_state_rules(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(state_rows) / sizeof(state_rows[0]); i++) {
		vm.state = VM_NOT_STARTED;
		check_state_row(i, state_rows[i].before);
		vm.state = VM_RUNNING;
		check_state_row(i, state_rows[i].after);
		vm.state = VM_PAUSED;
		check_state_row(i, state_rows[i].after);
	}
}

/* Nothing of the microVM is touched any more, and what is configured can be read. */
static void test_frozen(void **state)
{
	(void)state;
	vm.state = VM_RUNNING;
	vm.frozen = true;
	assert_fault(HTTP_PATCH, "/vm", "{\"state\":\"Paused\"}", VM_FAULT_FROZEN);
	assert_fault(HTTP_PUT, "/drives/a", DRIVE, VM_FAULT_FROZEN);
	assert_fault(HTTP_PUT, "/actions", "{\"action_type\":\"FlushMetrics\"}", VM_FAULT_FROZEN);
	assert_int_equal(vm.calls, 0);
	assert_answer(HTTP_GET, "/version", NULL, 200,
		      "{\"firecracker_version\":\"" BANTAM_VERSION "\"}");
}

static void test_fault_prefixes(void **state)
{
	static const struct {
		size_t row; /* of state_rows */
		const char *fault;
	} rows[] = {
		{0, "Machine config error: it broke"},
		{1, "Machine config error: it broke"},
		{2, "Boot source error: it broke"},
		{3, "Drive config error: it broke"},
		{4,
		 "Drive config error: Unable to patch the block device: it broke Please verify the "
		 "request arguments."},
		{6, "Network config error: it broke"},
		{7, "Network config error: Unable to update the net device: it broke"},
		{9, "Vsock config error: it broke"},
		{10, "Entropy config error: it broke"},
		{11, "Serial config error: it broke"},
		{13, "Internal VMM error: it broke"},
		{14, "Internal VMM error: it broke"},
		{16, "Internal VMM error: it broke"},
		{17, "Start microvm error: it broke"},
	};

	(void)state;
	vm.fail = -EIO;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		vm.state = state_rows[rows[i].row].before ? VM_RUNNING : VM_NOT_STARTED;
		check_state_row(rows[i].row, rows[i].fault);
	}
}

static void test_not_built(void **state)
{
	static const struct {
		enum http_method method;
		const char *path, *body, *name;
	} rows[] = {
		{HTTP_GET, "/balloon", NULL, "GET /balloon"},
		{HTTP_PUT, "/balloon", "{}", "PUT /balloon"},
		{HTTP_PATCH, "/balloon/hinting/stop", NULL, "PATCH /balloon"},
		{HTTP_PUT, "/cpu-config", "{}", "PUT /cpu-config"},
		{HTTP_GET, "/mmds", NULL, "GET /mmds"},
		{HTTP_PUT, "/mmds/config", "{}", "PUT /mmds"},
		{HTTP_PATCH, "/mmds", "{}", "PATCH /mmds"},
		{HTTP_PUT, "/pmem/a", "{}", "PUT /pmem"},
		{HTTP_DELETE, "/pmem/a", NULL, "DELETE /pmem"},
		{HTTP_GET, "/hotplug/memory", NULL, "GET /hotplug"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct api_reply reply = ask(rows[i].method, rows[i].path, rows[i].body);
		char expected[256];

		snprintf(expected, sizeof(expected),
			 "{\"fault_message\":\"The requested operation is not supported: %s is "
			 "part of "
			 "Firecracker's API and not built into this version yet.\"}",
			 rows[i].name);
		assert_string_equal(reply.body.data, expected);
		assert_int_equal(reply.status, 400);
		text_free(&reply.body);
	}
	assert_fault(HTTP_GET, "/hotplug", NULL,
		     "Invalid request method and/or path: GET hotplug.");
}

static void test_machine(void **state)
{
	(void)state;
	assert_done(HTTP_PUT, "/machine-config",
		    "{\"vcpu_count\":2,\"mem_size_mib\":256,\"smt\":true,\"huge_pages\":\"2M\"}");
	assert_done(HTTP_PATCH, "/machine-config", "{\"vcpu_count\":4,\"smt\":null}");
	assert_answer(HTTP_GET, "/machine-config", NULL, 200,
		      "{\"vcpu_count\":4,\"mem_size_mib\":256,\"smt\":true,"
		      "\"track_dirty_pages\":false,\"huge_pages\":\"2M\"}");
	assert_fault(HTTP_PATCH, "/machine-config", "{}", "Empty PATCH request.");
	assert_fault(HTTP_PATCH, "/machine-config", "{\"vcpu_count\":null}",
		     "Empty PATCH request.");
	assert_fault(HTTP_PUT, "/machine-config", "{\"vcpu_count\":256,\"mem_size_mib\":1}",
		     BODY_FAULT
		     "field `vcpu_count`: expected an integer from 0 to 255, found 256.");
	assert_done(HTTP_PUT, "/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":128}");
	assert_false(vm.machine.smt); /* a PUT replaces what it does not name */
}

static void test_deprecated(void **state)
{
	static const struct {
		enum http_method method;
		const char *path, *body;
		bool deprecated;
	} rows[] = {
		{HTTP_PUT, "/machine-config",
		 "{\"vcpu_count\":1,\"mem_size_mib\":1,\"cpu_template\":\"None\"}", true},
		{HTTP_PUT, "/machine-config",
		 "{\"vcpu_count\":1,\"mem_size_mib\":1,\"cpu_template\":null}", false},
		{HTTP_PATCH, "/machine-config", "{\"cpu_template\":\"T2\"}", true},
		{HTTP_PATCH, "/machine-config", "{\"vcpu_count\":1}", false},
		{HTTP_PUT, "/vsock", "{\"guest_cid\":3,\"uds_path\":\"v\"}", false},
		{HTTP_PUT, "/vsock", "{\"guest_cid\":3,\"uds_path\":\"v\",\"vsock_id\":\"x\"}",
		 true},
	};
	metric_t *count = &process_metrics.deprecated_api.deprecated_http_api_calls;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint64_t before = metric_get(count);
		struct api_reply reply = ask(rows[i].method, rows[i].path, rows[i].body);

		assert_int_equal(reply.status, 204);
		assert_int_equal(reply.deprecated, rows[i].deprecated);
		assert_int_equal(metric_get(count) - before, rows[i].deprecated);
	}
	/* The header comes with a refusal too. */
	vm.state = VM_RUNNING;
	struct api_reply reply = ask(HTTP_PUT, rows[5].path, rows[5].body);
	assert_int_equal(reply.status, 400);
	assert_true(reply.deprecated);
	text_free(&reply.body);
}

static void test_drives(void **state)
{
	(void)state;
	assert_fault(HTTP_PUT, "/drives/a", "{\"drive_id\":\"a\",\"is_root_device\":false}",
		     "Drive config error: Unable to create the virtio block device: Invalid block "
		     "config.");
	assert_fault(HTTP_PUT, "/drives/a",
		     "{\"drive_id\":\"a\",\"is_root_device\":false,\"path_on_host\":\"/x\","
		     "\"socket\":\"/s\"}",
		     "Drive config error: Unable to create the virtio block device: Invalid block "
		     "config.");
	assert_fault(
		HTTP_PUT, "/drives/a",
		"{\"drive_id\":\"a\",\"is_root_device\":false,\"socket\":\"/s\"}",
		"Drive config error: Unable to create the virtio block device: vhost-user drives "
		"(`socket`) are not built into this version yet.");
	vm.state = VM_RUNNING;
	assert_done(HTTP_PATCH, "/drives/a", "{\"drive_id\":\"a\",\"path_on_host\":\"/y\"}");
	assert_string_equal(vm.patched_path, "/y");
	assert_false(vm.has_limiter);
	assert_done(
		HTTP_PATCH, "/drives/a",
		"{\"drive_id\":\"a\",\"rate_limiter\":{\"ops\":{\"size\":0,\"refill_time\":0}}}");
	assert_string_equal(vm.patched_path, "");
	assert_true(vm.has_limiter && vm.limiter.has_ops && !vm.limiter.has_bandwidth);
	assert_done(HTTP_PATCH, "/drives/a", "{\"drive_id\":\"a\",\"rate_limiter\":null}");
	assert_false(vm.has_limiter);
	assert_done(HTTP_PATCH, "/network-interfaces/a",
		    "{\"iface_id\":\"a\",\"tx_rate_limiter\":{}}");
	assert_true(vm.has_tx_limiter && !vm.has_limiter);
}

static void test_mtu(void **state)
{
	(void)state;
	assert_fault(HTTP_PUT, "/network-interfaces/a",
		     "{\"iface_id\":\"a\",\"host_dev_name\":\"tap0\",\"mtu\":67}",
		     "Network config error: Could not create the network device: MTU 67 is out of "
		     "range [68, 65535]");
	assert_done(HTTP_PUT, "/network-interfaces/a",
		    "{\"iface_id\":\"a\",\"host_dev_name\":\"tap0\",\"mtu\":68}");
	assert_int_equal(vm.nets[0].mtu, 68);
}

static void test_counts(void **state)
{
	metric_t *count = &process_metrics.put_api_requests.drive_count;
	metric_t *fails = &process_metrics.put_api_requests.drive_fails;
	uint64_t count_before = metric_get(count), fails_before = metric_get(fails);

	(void)state;
	assert_done(HTTP_PUT, "/drives/a", DRIVE);
	assert_int_equal(metric_get(count) - count_before, 1);
	assert_int_equal(metric_get(fails) - fails_before, 0);
	assert_fault(HTTP_PUT, "/drives/-", DRIVE,
		     "API Resource IDs can only contain alphanumeric characters and underscores.");
	assert_int_equal(metric_get(count) - count_before, 2);
	assert_int_equal(metric_get(fails) - fails_before, 1);
}

#define NOTHING_CONFIGURED                                                                         \
	"{\"balloon\":null,\"drives\":[],\"boot-source\":{\"kernel_image_path\":\"\","             \
	"\"initrd_path\":null,\"boot_args\":null},\"cpu-config\":null,\"logger\":null,"            \
	"\"machine-config\":{\"vcpu_count\":1,\"mem_size_mib\":128,\"smt\":false,"                 \
	"\"track_dirty_pages\":false,\"huge_pages\":\"None\"},\"metrics\":null,"                   \
	"\"mmds-config\":null,\"network-interfaces\":[],\"vsock\":null,\"entropy\":null,\"pmem\":" \
	"[],\"memory-hotplug\":null}"

#define FULL_CONFIG                                                                                \
	"{\"balloon\":null,\"drives\":[{\"drive_id\":\"a\",\"partuuid\":null,"                     \
	"\"is_root_device\":false,\"cache_type\":\"Unsafe\",\"is_read_only\":false,"               \
	"\"path_on_host\":\"/x\",\"rate_limiter\":null,\"io_engine\":\"Sync\",\"socket\":null},{"  \
	"\"drive_id\":\"b\",\"partuuid\":null,\"is_root_device\":false,\"cache_type\":\"Unsafe\"," \
	"\"is_read_only\":true,\"path_on_host\":\"/y\",\"rate_limiter\":{\"bandwidth\":{\"size\":" \
	"1,\"one_time_burst\":null,\"refill_time\":2},\"ops\":null},\"io_engine\":\"Async\","      \
	"\"socket\":null}],\"boot-source\":{\"kernel_image_path\":\"k\",\"initrd_path\":\"i\","    \
	"\"boot_args\":\"\"},\"cpu-config\":null,\"logger\":null,\"machine-config\":{"             \
	"\"vcpu_count\":2,\"mem_size_mib\":256,\"smt\":false,\"track_dirty_pages\":false,"         \
	"\"huge_pages\":\"None\"},\"metrics\":null,\"mmds-config\":null,\"network-interfaces\":[{" \
	"\"iface_id\":\"n\",\"host_dev_name\":\"t\",\"guest_mac\":null,\"mtu\":null,"              \
	"\"rx_rate_limiter\":null,\"tx_rate_limiter\":null}],\"vsock\":{\"guest_cid\":3,"          \
	"\"uds_path\":\"v\"},\"entropy\":{\"rate_limiter\":null},\"pmem\":[],"                     \
	"\"memory-hotplug\":null}"

static int apply(const char *text, struct error *err)
{
	return config_text_apply(&vm, text, strlen(text), err);
}

/* What GET /vm/config prints is a configuration file that gives the same again. */
static void test_config_round_trip(void **state)
{
	struct error err = {0};

	(void)state;
	assert_answer(HTTP_GET, "/vm/config", NULL, 200, NOTHING_CONFIGURED);
	assert_int_equal(apply(FULL_CONFIG, &err), 0);
	assert_answer(HTTP_GET, "/vm/config", NULL, 200, FULL_CONFIG);
	assert_int_equal(vm.state, VM_NOT_STARTED);
}

static void test_config_faults(void **state)
{
#define BOOT "\"boot-source\":{\"kernel_image_path\":\"k\"}"
	static const struct {
		const char *text, *fault;
	} rows[] = {
		{"",
		 "expected a value (object, array, string, number, true, false, null) at line 1 "
		 "column 1"},
		{"[]", "expected an object of sections"},
		{"{}", "missing section `boot-source`"},
		{"{" BOOT "}", "missing section `drives`"},
		{"{\"boot-source\":null,\"drives\":[]}",
		 "section `boot-source`: expected an object, found null"},
		{"{" BOOT ",\"drives\":null}", "section `drives`: expected a list"},
		{"{" BOOT ",\"drives\":{}}", "section `drives`: expected a list"},
		{"{" BOOT ",\"drives\":[" DRIVE ",1]}",
		 "section `drives`: entry 1: expected an object, found 1"},
		{"{" BOOT ",\"drives\":[{\"drive_id\":\"a\"}]}",
		 "section `drives`: entry 0: missing field `is_root_device`: expected true or "
		 "false"},
		{"{" BOOT ",\"drives\":[],\"machine-config\":{\"vcpu_count\":1}}",
		 "section `machine-config`: missing field `mem_size_mib`: expected an integer from "
		 "0 to "
		 "9007199254740991"},
		{"{" BOOT ",\"drives\":[],\"balloon\":{\"amount_mib\":1}}",
		 "section `balloon`: not built into this version yet"},
		{"{" BOOT ",\"drives\":[],\"mmds-config\":{}}",
		 "section `mmds-config`: not built into this version yet"},
		{"{" BOOT ",\"drives\":[],\"pmem\":[1]}",
		 "section `pmem`: not built into this version yet"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct error err = {0};

		assert_true(apply(rows[i].text, &err) < 0);
		assert_string_equal(err.text, rows[i].fault);
	}
	assert_int_equal(vm.calls, 0); /* a mistake anywhere: nothing was applied */
}

static void test_config_unknown_keys_are_ignored(void **state)
{
	struct error err = {0};

	(void)state;
	assert_int_equal(apply("{" BOOT ",\"drives\":[],\"unheard-of\":{\"x\":1}}", &err), 0);
	assert_int_equal(vm.calls, 1);
	vm.fail = -EIO;
	assert_int_equal(apply("{" BOOT ",\"drives\":[" DRIVE "]}", &err), -EIO);
	assert_string_equal(err.text, "section `boot-source`: it broke");
}

static const char *write_file(const char *text, size_t len)
{
	static char path[] = "/tmp/bantam-test-XXXXXX";
	int fd;

	strcpy(path + sizeof(path) - 7, "XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), (ssize_t)len);
	close(fd);
	return path;
}

static void test_files(void **state)
{
	struct error err = {0};
	const char *path = write_file(FULL_CONFIG, strlen(FULL_CONFIG));

	(void)state;
	assert_int_equal(config_file_apply(&vm, path, &err), 0);
	assert_int_equal(vm.drive_count, 2);
	assert_int_equal(metadata_file_check(path, strlen(FULL_CONFIG), &err), 0);
	assert_int_equal(metadata_file_check(path, strlen(FULL_CONFIG) - 1, &err), -EFBIG);
	unlink(path);
	assert_int_equal(config_file_apply(&vm, path, &err), -ENOENT);
	assert_int_equal(strncmp(err.text,
				 "Unable to open or read from the configuration file: ", 52),
			 0);
	assert_int_equal(metadata_file_check(path, 1, &err), -ENOENT);
	path = write_file("{", 1);
	assert_int_equal(metadata_file_check(path, 100, &err), -EINVAL);
	assert_int_equal(strncmp(err.text, "MMDS error: metadata provided not valid json: ", 46),
			 0);
	unlink(path);
	path = write_file("", 0);
	assert_int_equal(config_file_apply(&vm, path, &err), -EINVAL);
	unlink(path);
	assert_int_equal(config_file_apply(&vm, "/tmp", &err), -EISDIR);
	assert_int_equal(config_file_apply(&vm, "/dev/zero", &err), -EFBIG);
}

static int log_nothing(void **state)
{
	struct error err = {0};

	(void)state;
	return log_configure(&(struct log_config){.level = LOG_LEVEL_OFF}, &err);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_instance),
		TEST(test_order_of_checks),
		TEST(test_ids),
		TEST(test_state_rules),
		TEST(test_frozen),
		TEST(test_fault_prefixes),
		TEST(test_not_built),
		TEST(test_machine),
		TEST(test_deprecated),
		TEST(test_drives),
		TEST(test_mtu),
		TEST(test_counts),
		TEST(test_config_round_trip),
		TEST(test_config_faults),
		TEST(test_config_unknown_keys_are_ignored),
		TEST(test_files),
	};

	return cmocka_run_group_tests(tests, log_nothing, NULL);
}
