// SPDX-License-Identifier: Apache-2.0
/* What the verbs of the `bantam` command share. */
#ifndef API_CLI_CLI_H
#define API_CLI_CLI_H

#include "vmm/core/error.h"

enum cli_status { CLI_DONE = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

/* argv[0] is the word behind the verb. CLI_USAGE has the caller print the usage. */
enum cli_status cli_snapshot_merge(int argc, char *argv[]);
enum cli_status cli_snapshot_compress(int argc, char *argv[]);
enum cli_status cli_snapshot_decompress(int argc, char *argv[]);
enum cli_status cli_snapshot_describe(int argc, char *argv[]);

/* Says why something failed. */
enum cli_status cli_fail(const struct error *err);

#endif
