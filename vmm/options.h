// SPDX-License-Identifier: Apache-2.0
/* The monitor's command line (Firecracker's flags). */
#ifndef VMM_OPTIONS_H
#define VMM_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include "vmm/core/error.h"
#include "vmm/core/log.h"

#define OPTIONS_DEFAULT_SOCKET  "/run/firecracker.socket"
#define OPTIONS_DEFAULT_ID      "anonymous-instance"
#define OPTIONS_DEFAULT_PAYLOAD 51200u

/* All strings point into argv. */
struct options {
	const char *api_sock;
	const char *id;
	const char *seccomp_filter;
	bool no_seccomp;
	uint64_t start_time_us, start_time_cpu_us, parent_cpu_time_us;
	bool has_start_time_us, has_start_time_cpu_us, has_parent_cpu_time_us;
	const char *config_file;
	const char *metadata;
	bool no_api;
	const char *log_path;
	const char *level;
	const char *module;
	bool show_level, show_log_origin;
	const char *metrics_path;
	bool boot_timer;
	uint64_t prepare_vcpus; /* 0: nothing is prepared */
	bool has_prepare_vcpus;
	const char *describe_snapshot;
	uint64_t http_api_max_payload_size;
	uint64_t mmds_size_limit; /* the payload limit unless given */
	bool enable_pci;
	bool help, version, snapshot_version;
};

/* Parses by the rules of §2.1: only `--name value`, help and version win over everything. -EINVAL and the sentence. */
int options_parse(int argc, char *const argv[], struct options *options,
		  struct error *err) must_check;

/* The text of --help. */
void options_print_help(const char *program);

#endif
