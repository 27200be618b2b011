// SPDX-License-Identifier: Apache-2.0
/* The folders and device nodes in the jail. */
#ifndef BANTAM_JAILER_DEVICES_H
#define BANTAM_JAILER_DEVICES_H

#include "jailer/fail.h"
#include "jailer/journal.h"
#include "jailer/plan.h"
#include "jailer/scope.h"

enum device { DEVICE_TUN, DEVICE_KVM, DEVICE_URANDOM, DEVICE_UFFD, DEVICE_COUNT };

struct mounts_held;

/* Absolute path of a device, the same on the host and in the jail. */
const char *device_path(enum device device);

/*
 * Makes /dev, /dev/net, /run and the nodes, all owned by the jail's user. Called with the jail as root. In rootless
 * mode the nodes are the host's own, mounted.
 */
int devices_make(const struct jail_plan *plan, const struct mounts_held *held,
		 struct journal *journal, struct jail_error *error) must_check;

/* Whether an operator put device nodes into the jail's folder, directly or in one of its folders. */
bool devices_were_put(void) must_check;

#endif
