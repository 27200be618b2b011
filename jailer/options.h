// SPDX-License-Identifier: Apache-2.0
/* The jailer's command line, as given: strings, not yet judged. */
#ifndef BANTAM_JAILER_OPTIONS_H
#define BANTAM_JAILER_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include "jailer/fail.h"
#include "jailer/scope.h"

#define JAILER_VERSION "0.1.0"

struct option_list {
	const char **values; /* owned; what it points at is argv's */
	size_t count;
};

/* Every string is argv's own or a constant. */
struct jail_options {
	const char *id, *exec_file, *uid, *gid;
	const char *chroot_base_dir, *cgroup_version;
	const char *netns, *parent_cgroup; /* NULL: not given */
	struct option_list cgroups, resource_limits;
	bool daemonize, new_pid_ns, help, version;
	/* beyond Firecracker's */
	bool clean_up, dry_run, rootless, new_net_ns, allow_devices, no_landlock;
	const char *exec_copy;
	char *const *extra; /* what follows "--"; ends with NULL like argv */
};

/*
 * Parses by Firecracker's rules: `--name value` only, a value never begins with "--", help and version win over
 * everything before "--". -EINVAL and the sentence. Free with options_free() in either case.
 */
int options_parse(int argc, char *const argv[], struct jail_options *options,
		  struct jail_error *error) must_check;

void options_free(struct jail_options *options);

void options_print_help(FILE *out);

#endif
