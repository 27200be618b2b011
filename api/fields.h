// SPDX-License-Identifier: Apache-2.0
/* The API's resources as rows of fields, and the bodies that are not configuration (PATCHes, actions). */
#ifndef API_FIELDS_H
#define API_FIELDS_H

#include "api/schema.h"
#include "vmm/config.h"

struct drive_patch {
	char *drive_id;
	char *path_on_host; /* NULL: unchanged */
	struct rate_limiter_config rate_limiter;
	bool has_rate_limiter;
};

struct net_patch {
	char *iface_id;
	struct rate_limiter_config rx_rate_limiter, tx_rate_limiter;
	bool has_rx_rate_limiter, has_tx_rate_limiter;
};

enum vm_target { VM_TARGET_PAUSED, VM_TARGET_RESUMED };

struct vm_patch {
	enum vm_target state;
};

enum action_type { ACTION_INSTANCE_START, ACTION_FLUSH_METRICS, ACTION_SEND_CTRL_ALT_DEL };

struct action {
	enum action_type action_type;
};

/* Any resource, zeroed and then filled with defaults before it is parsed. */
union api_body {
	struct machine_config machine;
	struct boot_source_config boot;
	struct block_config drive;
	struct net_config net;
	struct vsock_config vsock;
	struct rng_config entropy;
	struct serial_config serial;
	struct log_config logger;
	struct metrics_config metrics;
	struct drive_patch drive_patch;
	struct net_patch net_patch;
	struct vm_patch vm_patch;
	struct action action;
	struct snapshot_create_config snapshot_create;
	struct snapshot_load_config snapshot_load;
};

extern const struct schema machine_schema; /* struct machine_config */
extern const struct schema boot_schema;    /* struct boot_source_config */
extern const struct schema drive_schema;   /* struct block_config */
extern const struct schema net_schema;     /* struct net_config */
extern const struct schema vsock_schema;   /* struct vsock_config */
extern const struct schema entropy_schema; /* struct rng_config */
extern const struct schema serial_schema;  /* struct serial_config */
extern const struct schema logger_schema;  /* struct log_config */
extern const struct schema metrics_schema; /* struct metrics_config */
extern const struct schema drive_patch_schema;
extern const struct schema net_patch_schema;
extern const struct schema vm_patch_schema;
extern const struct schema action_schema;
extern const struct schema snapshot_create_schema;
extern const struct schema snapshot_load_schema;

#endif
