// SPDX-License-Identifier: Apache-2.0
/* The tables of fields. Names, order and what may be null are Firecracker's. */
#include "api/fields.h"

/* One row: the struct and its member, the kind, the flags, and what else the kind needs. */
#define FIELD_NAMED(json_name, type, member, field_kind, field_flags, ...)               \
	{                                                                                \
		.name = (json_name), .kind = FIELD_##field_kind, .flags = (field_flags), \
		.offset = offsetof(struct type, member), ##__VA_ARGS__                   \
	}
#define FIELD(type, member, field_kind, field_flags, ...) \
	FIELD_NAMED(#member, type, member, field_kind, field_flags, ##__VA_ARGS__)

/* The member that notes that the field was given. */
#define GIVEN(type, member) .has_given = true, .given_offset = offsetof(struct type, member)

/* ---- rate limiters ---- */

static const struct field bucket_fields[] = {
	FIELD(token_bucket_config, size, U64, FIELD_REQUIRED),
	FIELD(token_bucket_config, one_time_burst, U64, FIELD_NULLABLE,
	      GIVEN(token_bucket_config, has_one_time_burst)),
	FIELD_NAMED("refill_time", token_bucket_config, refill_time_ms, U64, FIELD_REQUIRED),
};

/* A bucket that limits nothing: what a PATCH gives to remove a limit. */
static bool bucket_is_empty(const void *object)
{
	const struct token_bucket_config *bucket = object;

	return bucket->size == 0 || bucket->refill_time_ms == 0;
}

static const struct schema bucket_schema = {
	SCHEMA_ROWS(bucket_fields),
	.is_empty = bucket_is_empty,
};

static const struct field limiter_fields[] = {
	FIELD(rate_limiter_config, bandwidth, OBJECT, FIELD_NULLABLE, .object = &bucket_schema,
	      GIVEN(rate_limiter_config, has_bandwidth)),
	FIELD(rate_limiter_config, ops, OBJECT, FIELD_NULLABLE, .object = &bucket_schema,
	      GIVEN(rate_limiter_config, has_ops)),
};

static bool limiter_is_empty(const void *object)
{
	const struct rate_limiter_config *limiter = object;

	return bucket_is_empty(&limiter->bandwidth) && bucket_is_empty(&limiter->ops);
}

static const struct schema limiter_schema = {
	SCHEMA_ROWS(limiter_fields),
	.is_empty = limiter_is_empty,
};

/* ---- the machine ---- */

static const struct enum_word template_words[] = {
	{"None", CPU_TEMPLATE_NONE}, {"C3", CPU_TEMPLATE_C3},
	{"T2", CPU_TEMPLATE_T2},     {"T2S", CPU_TEMPLATE_T2S},
	{"T2CL", CPU_TEMPLATE_T2CL}, {"T2A", CPU_TEMPLATE_T2A},
	{"V1N1", CPU_TEMPLATE_V1N1}, {NULL, 0},
};

static const struct enum_word huge_pages_words[] = {
	{"None", HUGE_PAGES_NONE},
	{"Transparent", HUGE_PAGES_TRANSPARENT},
	{"2M", HUGE_PAGES_2M},
	{NULL, 0},
};

/* The number of vCPUs is a byte on the wire; that 0 and more than 32 are wrong is the machine's own fault text. */
static const struct field machine_fields[] = {
	FIELD(machine_config, vcpu_count, U64, FIELD_REQUIRED, .max = UINT8_MAX),
	FIELD(machine_config, mem_size_mib, U64, FIELD_REQUIRED),
	FIELD(machine_config, smt, BOOL, 0),
	FIELD(machine_config, cpu_template, ENUM, FIELD_NULLABLE | FIELD_OMIT_UNSET,
	      .words = template_words, GIVEN(machine_config, has_cpu_template)),
	FIELD(machine_config, track_dirty_pages, BOOL, 0),
	FIELD(machine_config, huge_pages, ENUM, 0, .words = huge_pages_words),
};
const struct schema machine_schema = {SCHEMA_ROWS(machine_fields)};

static const struct field boot_fields[] = {
	FIELD(boot_source_config, kernel_image_path, STRING, FIELD_REQUIRED),
	FIELD(boot_source_config, initrd_path, STRING, FIELD_NULLABLE),
	FIELD(boot_source_config, boot_args, STRING, FIELD_NULLABLE),
};
const struct schema boot_schema = {SCHEMA_ROWS(boot_fields)};

/* ---- devices ---- */

static const struct enum_word cache_words[] = {
	{"Unsafe", BLOCK_CACHE_UNSAFE},
	{"Writeback", BLOCK_CACHE_WRITEBACK},
	{NULL, 0},
};

static const struct enum_word engine_words[] = {
	{"Sync", BLOCK_ENGINE_SYNC},
	{"Async", BLOCK_ENGINE_ASYNC},
	{NULL, 0},
};

static const struct field drive_fields[] = {
	FIELD(block_config, drive_id, STRING, FIELD_REQUIRED),
	FIELD(block_config, partuuid, STRING, FIELD_NULLABLE),
	FIELD(block_config, is_root_device, BOOL, FIELD_REQUIRED),
	FIELD(block_config, cache_type, ENUM, 0, .words = cache_words),
	FIELD(block_config, is_read_only, BOOL, FIELD_NULLABLE),
	FIELD(block_config, path_on_host, STRING, FIELD_NULLABLE),
	FIELD(block_config, rate_limiter, OBJECT, FIELD_NULLABLE, .object = &limiter_schema),
	FIELD(block_config, io_engine, ENUM, FIELD_NULLABLE, .words = engine_words),
	FIELD(block_config, socket, STRING, FIELD_NULLABLE),
};
const struct schema drive_schema = {SCHEMA_ROWS(drive_fields)};

static const struct field drive_patch_fields[] = {
	FIELD(drive_patch, drive_id, STRING, FIELD_REQUIRED),
	FIELD(drive_patch, path_on_host, STRING, FIELD_NULLABLE),
	FIELD(drive_patch, rate_limiter, OBJECT, FIELD_NULLABLE, .object = &limiter_schema,
	      GIVEN(drive_patch, has_rate_limiter)),
};
const struct schema drive_patch_schema = {SCHEMA_ROWS(drive_patch_fields)};

static const struct field net_fields[] = {
	FIELD(net_config, iface_id, STRING, FIELD_REQUIRED),
	FIELD(net_config, host_dev_name, STRING, FIELD_REQUIRED),
	FIELD(net_config, guest_mac, STRING, FIELD_NULLABLE),
	FIELD(net_config, mtu, U16, FIELD_NULLABLE, GIVEN(net_config, has_mtu)),
	FIELD(net_config, rx_rate_limiter, OBJECT, FIELD_NULLABLE, .object = &limiter_schema),
	FIELD(net_config, tx_rate_limiter, OBJECT, FIELD_NULLABLE, .object = &limiter_schema),
};
const struct schema net_schema = {SCHEMA_ROWS(net_fields)};

static const struct field net_patch_fields[] = {
	FIELD(net_patch, iface_id, STRING, FIELD_REQUIRED),
	FIELD(net_patch, rx_rate_limiter, OBJECT, FIELD_NULLABLE, .object = &limiter_schema,
	      GIVEN(net_patch, has_rx_rate_limiter)),
	FIELD(net_patch, tx_rate_limiter, OBJECT, FIELD_NULLABLE, .object = &limiter_schema,
	      GIVEN(net_patch, has_tx_rate_limiter)),
};
const struct schema net_patch_schema = {SCHEMA_ROWS(net_patch_fields)};

/* Context ids 0 to 2 and the highest one have meanings of their own (virtio 1.2, section 5.10.4). */
static const struct field vsock_fields[] = {
	FIELD(vsock_config, guest_cid, U32, FIELD_REQUIRED, .min = 3, .max = UINT32_MAX - 1),
	FIELD(vsock_config, uds_path, STRING, FIELD_REQUIRED),
	FIELD(vsock_config, vsock_id, STRING, FIELD_NULLABLE | FIELD_HIDDEN),
};
const struct schema vsock_schema = {SCHEMA_ROWS(vsock_fields)};

static const struct field entropy_fields[] = {
	FIELD(rng_config, rate_limiter, OBJECT, FIELD_NULLABLE, .object = &limiter_schema),
};
const struct schema entropy_schema = {SCHEMA_ROWS(entropy_fields)};

static const struct field serial_fields[] = {
	FIELD(serial_config, serial_out_path, STRING, FIELD_NULLABLE),
	FIELD(serial_config, rate_limiter, OBJECT, FIELD_NULLABLE, .object = &bucket_schema,
	      GIVEN(serial_config, has_rate_limiter)),
};
const struct schema serial_schema = {SCHEMA_ROWS(serial_fields)};

/* ---- the monitor itself ---- */

static const struct enum_word level_words[] = {
	{"Error", LOG_LEVEL_ERROR}, {"Warning", LOG_LEVEL_WARN},
	{"Warn", LOG_LEVEL_WARN},   {"Info", LOG_LEVEL_INFO},
	{"Debug", LOG_LEVEL_DEBUG}, {"Trace", LOG_LEVEL_TRACE},
	{"Off", LOG_LEVEL_OFF},     {NULL, 0},
};

static const struct field logger_fields[] = {
	FIELD(log_config, log_path, STRING, FIELD_NULLABLE),
	FIELD(log_config, level, ENUM, FIELD_NULLABLE | FIELD_CASELESS, .words = level_words),
	FIELD(log_config, show_level, BOOL, FIELD_NULLABLE),
	FIELD(log_config, show_log_origin, BOOL, FIELD_NULLABLE),
	FIELD(log_config, module, STRING, FIELD_NULLABLE),
};
const struct schema logger_schema = {SCHEMA_ROWS(logger_fields)};

static const struct field metrics_fields[] = {
	FIELD(metrics_config, metrics_path, STRING, FIELD_REQUIRED),
	FIELD(metrics_config, emit_id, BOOL, 0),
	FIELD(metrics_config, properties, STRINGS, FIELD_NULLABLE),
};
const struct schema metrics_schema = {SCHEMA_ROWS(metrics_fields), .allow_unknown = true};

static const struct enum_word target_words[] = {
	{"Paused", VM_TARGET_PAUSED},
	{"Resumed", VM_TARGET_RESUMED},
	{NULL, 0},
};

static const struct field vm_patch_fields[] = {
	FIELD(vm_patch, state, ENUM, FIELD_REQUIRED, .words = target_words),
};
const struct schema vm_patch_schema = {SCHEMA_ROWS(vm_patch_fields)};

static const struct enum_word action_words[] = {
	{"FlushMetrics", ACTION_FLUSH_METRICS},
	{"InstanceStart", ACTION_INSTANCE_START},
	{"SendCtrlAltDel", ACTION_SEND_CTRL_ALT_DEL},
	{NULL, 0},
};

static const struct field action_fields[] = {
	FIELD(action, action_type, ENUM, FIELD_REQUIRED, .words = action_words),
};
const struct schema action_schema = {SCHEMA_ROWS(action_fields)};

/* ---- snapshots ---- */

static const struct enum_word snapshot_type_words[] = {
	{"Full", SNAPSHOT_FULL},
	{"Diff", SNAPSHOT_DIFF},
	{NULL, 0},
};

static const struct enum_word compression_words[] = {
	{"None", SNAPSHOT_COMPRESSION_NONE},
	{"Lz4", SNAPSHOT_COMPRESSION_LZ4},
	{NULL, 0},
};

static const struct field snapshot_create_fields[] = {
	FIELD(snapshot_create_config, snapshot_type, ENUM, 0, .words = snapshot_type_words),
	FIELD(snapshot_create_config, snapshot_path, STRING, FIELD_REQUIRED),
	FIELD(snapshot_create_config, mem_file_path, STRING, FIELD_REQUIRED),
	FIELD(snapshot_create_config, compression, ENUM, 0, .words = compression_words),
};
const struct schema snapshot_create_schema = {SCHEMA_ROWS(snapshot_create_fields)};

static const struct enum_word backend_words[] = {
	{"File", MEMORY_BACKEND_FILE},
	{"Uffd", MEMORY_BACKEND_UFFD},
	{NULL, 0},
};

static const struct field memory_backend_fields[] = {
	FIELD(memory_backend_config, backend_type, ENUM, FIELD_REQUIRED, .words = backend_words),
	FIELD(memory_backend_config, backend_path, STRING, FIELD_REQUIRED),
};
static const struct schema memory_backend_schema = {SCHEMA_ROWS(memory_backend_fields)};

static const struct field net_override_fields[] = {
	FIELD(net_override, iface_id, STRING, FIELD_REQUIRED),
	FIELD(net_override, host_dev_name, STRING, FIELD_REQUIRED),
};
static const struct schema net_override_schema = {SCHEMA_ROWS(net_override_fields)};

static const struct field drive_override_fields[] = {
	FIELD(drive_override, drive_id, STRING, FIELD_REQUIRED),
	FIELD(drive_override, path_on_host, STRING, FIELD_REQUIRED),
};
static const struct schema drive_override_schema = {SCHEMA_ROWS(drive_override_fields)};

static const struct field vsock_override_fields[] = {
	FIELD(vsock_override, uds_path, STRING, FIELD_REQUIRED),
};
static const struct schema vsock_override_schema = {SCHEMA_ROWS(vsock_override_fields)};

static const struct enum_word load_huge_pages_words[] = {
	{"Snapshot", LOAD_HUGE_PAGES_SNAPSHOT},
	{"None", LOAD_HUGE_PAGES_NONE},
	{"Transparent", LOAD_HUGE_PAGES_TRANSPARENT},
	{"2M", LOAD_HUGE_PAGES_2M},
	{NULL, 0},
};

#define OVERRIDES(member, type, count)                                                      \
	FIELD(snapshot_load_config, member, LIST, FIELD_NULLABLE, .object = &type##_schema, \
	      .max = SNAPSHOT_OVERRIDES_MAX, .item_bytes = sizeof(struct type),             \
	      .count_offset = offsetof(struct snapshot_load_config, count))

static const struct field snapshot_load_fields[] = {
	FIELD(snapshot_load_config, snapshot_path, STRING, FIELD_REQUIRED),
	FIELD(snapshot_load_config, mem_file_path, STRING, FIELD_NULLABLE),
	FIELD(snapshot_load_config, mem_backend, OBJECT, FIELD_NULLABLE,
	      .object = &memory_backend_schema, GIVEN(snapshot_load_config, has_mem_backend)),
	FIELD(snapshot_load_config, enable_diff_snapshots, BOOL, FIELD_NULLABLE,
	      GIVEN(snapshot_load_config, has_enable_diff_snapshots)),
	FIELD(snapshot_load_config, track_dirty_pages, BOOL, 0),
	FIELD(snapshot_load_config, resume_vm, BOOL, 0),
	FIELD(snapshot_load_config, clock_realtime, BOOL, 0),
	FIELD(snapshot_load_config, huge_pages, ENUM, 0, .words = load_huge_pages_words),
	OVERRIDES(network_overrides, net_override, network_override_count),
	OVERRIDES(drive_overrides, drive_override, drive_override_count),
	FIELD(snapshot_load_config, vsock_override, OBJECT, FIELD_NULLABLE,
	      .object = &vsock_override_schema, GIVEN(snapshot_load_config, has_vsock_override)),
	FIELD(snapshot_load_config, record_working_set, STRING, FIELD_NULLABLE),
	FIELD(snapshot_load_config, record_working_set_ms, U64, 0),
	FIELD(snapshot_load_config, prefetch_working_set, STRING, FIELD_NULLABLE),
};
const struct schema snapshot_load_schema = {SCHEMA_ROWS(snapshot_load_fields)};
