// SPDX-License-Identifier: Apache-2.0
/*
 * The metric groups that are not a device instance's: one list of fields a group, from which the struct and the table
 * of names are made. Names and grouping are what Firecracker's consumers parse: add, never rename.
 *
 * Usage: metric_add_shared(&process_metrics.put_api_requests.drive_count, 1).
 */
#ifndef BANTAM_CORE_METRICS_GROUPS_H
#define BANTAM_CORE_METRICS_GROUPS_H

#include "vmm/core/metrics.h"

/* X(group, kind, name): kind is COUNT, STORE or AGG as in enum metric_kind. */
// clang-format off
#define METRICS_api_server(X, group) \
	X(group, STORE, process_startup_time_us) X(group, STORE, process_startup_time_cpu_us)

#define METRICS_balloon(X, group) \
	X(group, COUNT, activate_fails) X(group, COUNT, inflate_count) X(group, COUNT, stats_updates_count) X(group, COUNT, stats_update_fails) \
	X(group, COUNT, deflate_count) X(group, COUNT, event_fails) X(group, COUNT, free_page_report_count) X(group, COUNT, free_page_report_freed) \
	X(group, COUNT, free_page_report_fails) X(group, COUNT, free_page_hint_count) X(group, COUNT, free_page_hint_freed) \
	X(group, COUNT, free_page_hint_fails)

#define METRICS_deprecated_api(X, group) \
	X(group, COUNT, deprecated_http_api_calls)

#define METRICS_get_api_requests(X, group) \
	X(group, COUNT, instance_info_count) X(group, COUNT, machine_cfg_count) X(group, COUNT, mmds_count) X(group, COUNT, vmm_version_count) \
	X(group, COUNT, hotplug_memory_count)

#define METRICS_put_api_requests(X, group) \
	X(group, COUNT, actions_count) X(group, COUNT, actions_fails) X(group, COUNT, boot_source_count) X(group, COUNT, boot_source_fails) \
	X(group, COUNT, drive_count) X(group, COUNT, drive_fails) X(group, COUNT, logger_count) X(group, COUNT, logger_fails) \
	X(group, COUNT, machine_cfg_count) X(group, COUNT, machine_cfg_fails) X(group, COUNT, cpu_cfg_count) X(group, COUNT, cpu_cfg_fails) \
	X(group, COUNT, metrics_count) X(group, COUNT, metrics_fails) X(group, COUNT, network_count) X(group, COUNT, network_fails) \
	X(group, COUNT, mmds_count) X(group, COUNT, mmds_fails) X(group, COUNT, vsock_count) X(group, COUNT, vsock_fails) \
	X(group, COUNT, pmem_count) X(group, COUNT, pmem_fails) X(group, COUNT, serial_count) X(group, COUNT, serial_fails) \
	X(group, COUNT, hotplug_memory_count) X(group, COUNT, hotplug_memory_fails)

#define METRICS_patch_api_requests(X, group) \
	X(group, COUNT, drive_count) X(group, COUNT, drive_fails) X(group, COUNT, network_count) X(group, COUNT, network_fails) \
	X(group, COUNT, machine_cfg_count) X(group, COUNT, machine_cfg_fails) X(group, COUNT, mmds_count) X(group, COUNT, mmds_fails) \
	X(group, COUNT, hotplug_memory_count) X(group, COUNT, hotplug_memory_fails) X(group, COUNT, pmem_count) X(group, COUNT, pmem_fails)

#define METRICS_i8042(X, group) \
	X(group, COUNT, error_count) X(group, COUNT, missed_read_count) X(group, COUNT, missed_write_count) X(group, COUNT, read_count) \
	X(group, COUNT, reset_count) X(group, COUNT, write_count)

#define METRICS_latencies_us(X, group) \
	X(group, STORE, full_create_snapshot) X(group, STORE, diff_create_snapshot) X(group, STORE, load_snapshot) X(group, STORE, pause_vm) \
	X(group, STORE, resume_vm) X(group, STORE, vmm_full_create_snapshot) X(group, STORE, vmm_diff_create_snapshot) \
	X(group, STORE, vmm_load_snapshot) X(group, STORE, vmm_pause_vm) X(group, STORE, vmm_resume_vm)

#define METRICS_logger(X, group) \
	X(group, COUNT, missed_metrics_count) X(group, COUNT, metrics_fails) X(group, COUNT, missed_log_count) \
	X(group, COUNT, rate_limited_log_count)

#define METRICS_mmds(X, group) \
	X(group, COUNT, rx_accepted) X(group, COUNT, rx_accepted_err) X(group, COUNT, rx_accepted_unusual) X(group, COUNT, rx_bad_eth) \
	X(group, COUNT, rx_invalid_token) X(group, COUNT, rx_no_token) X(group, COUNT, rx_count) X(group, COUNT, tx_bytes) X(group, COUNT, tx_count) \
	X(group, COUNT, tx_errors) X(group, COUNT, tx_frames) X(group, COUNT, connections_created) X(group, COUNT, connections_destroyed)

#define METRICS_seccomp(X, group) X(group, STORE, num_faults)
#define METRICS_vmm(X, group)     X(group, STORE, panic_count)

#define METRICS_signals(X, group) \
	X(group, STORE, sigbus) X(group, STORE, sigsegv) X(group, STORE, sigxfsz) X(group, STORE, sigxcpu) X(group, COUNT, sigpipe) X(group, STORE, sighup) \
	X(group, STORE, sigill)

#define METRICS_vcpu(X, group) \
	X(group, COUNT, exit_io_in) X(group, COUNT, exit_io_out) X(group, COUNT, exit_mmio_read) X(group, COUNT, exit_mmio_write) \
	X(group, COUNT, failures) X(group, COUNT, kvmclock_ctrl_fails) X(group, AGG, exit_io_in_agg) X(group, AGG, exit_io_out_agg) \
	X(group, AGG, exit_mmio_read_agg) X(group, AGG, exit_mmio_write_agg)

#define METRICS_interrupts(X, group) \
	X(group, COUNT, triggers) X(group, COUNT, config_updates)

#define METRICS_uart(X, group) \
	X(group, COUNT, error_count) X(group, COUNT, flush_count) X(group, COUNT, missed_read_count) X(group, COUNT, missed_write_count) \
	X(group, COUNT, read_count) X(group, COUNT, write_count) X(group, COUNT, rate_limiter_dropped_bytes)

#define METRICS_pmem(X, group) \
	X(group, COUNT, activate_fails) X(group, COUNT, cfg_fails) X(group, COUNT, event_fails) X(group, COUNT, queue_event_count) \
	X(group, COUNT, rate_limiter_throttled_events) X(group, COUNT, rate_limiter_event_count)

#define METRICS_memory_hotplug(X, group) \
	X(group, COUNT, activate_fails) X(group, COUNT, queue_event_fails) X(group, COUNT, queue_event_count) \
	X(group, COUNT, plug_count) X(group, COUNT, plug_bytes) X(group, COUNT, plug_fails) X(group, AGG, plug_agg) \
	X(group, COUNT, unplug_count) X(group, COUNT, unplug_bytes) X(group, COUNT, unplug_fails) X(group, COUNT, unplug_discard_fails) \
	X(group, AGG, unplug_agg) X(group, COUNT, state_count) X(group, COUNT, state_fails) X(group, AGG, state_agg) \
	X(group, COUNT, unplug_all_count) X(group, COUNT, unplug_all_fails) X(group, AGG, unplug_all_agg)

/* Groups of devices that cannot be built yet (balloon, mmds, pmem, memory_hotplug) stand here with zeroes. */
#define METRICS_GROUPS(G) \
	G(api_server) G(balloon) G(deprecated_api) G(get_api_requests) G(put_api_requests) G(patch_api_requests) \
	G(i8042) G(latencies_us) G(logger) G(mmds) G(seccomp) G(vmm) G(signals) G(vcpu) G(interrupts) G(uart) \
	G(pmem) G(memory_hotplug)

#define METRICS_TYPE_COUNT metric_t
#define METRICS_TYPE_STORE metric_t
#define METRICS_TYPE_AGG   struct metric_agg

#define METRICS_MEMBER(group, kind, name) METRICS_TYPE_##kind name;
#define METRICS_STRUCT(group)             struct { METRICS_##group(METRICS_MEMBER, group) } group;
// clang-format on

/* Written by any thread: with metric_add_shared() where two may count at once. */
extern struct process_metrics {
	METRICS_GROUPS(METRICS_STRUCT)
} process_metrics;

/* Announces and registers all groups of this file, once however often it is called. 0 or -ENOMEM. */
int metrics_register_groups(void) must_check;

#endif
