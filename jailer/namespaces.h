// SPDX-License-Identifier: Apache-2.0
/* The namespaces of the jail, its root aside (mounts.h). */
#ifndef BANTAM_JAILER_NAMESPACES_H
#define BANTAM_JAILER_NAMESPACES_H

#include <sys/types.h>
#include "jailer/fail.h"
#include "jailer/plan.h"
#include "jailer/scope.h"

/* Rootless: a user namespace in which the caller is plan->uid and gid. `made`: the process is in a new one already. */
int namespaces_enter_user(const struct jail_plan *plan, bool made, uid_t caller_uid,
			  gid_t caller_gid, struct jail_error *error) must_check;

/* The network namespace that an operator has made; the path may be a link. */
int namespaces_join_network(const struct jail_plan *plan, struct jail_error *error) must_check;

/* New mount, IPC, UTS and perhaps network namespaces; the host's name is hidden behind the jail's. */
int namespaces_unshare(const struct jail_plan *plan, struct jail_error *error) must_check;

#endif
