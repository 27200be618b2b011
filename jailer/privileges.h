// SPDX-License-Identifier: Apache-2.0
/* Giving up what a process may do. */
#ifndef BANTAM_JAILER_PRIVILEGES_H
#define BANTAM_JAILER_PRIVILEGES_H

#include "jailer/fail.h"
#include "jailer/plan.h"
#include "jailer/scope.h"

/* RLIMIT_FSIZE and RLIMIT_NOFILE, hard and soft. Needs privileges where a limit is raised. */
int privileges_set_limits(const struct jail_plan *plan, struct jail_error *error) must_check;

/*
 * A new session keyring, no groups, empty bounding and ambient sets, locked securebits, the ids, no capability in
 * any set, no_new_privs. Then looks whether that is so: what the kernel says counts, not what a call returned.
 */
int privileges_drop(const struct jail_plan *plan, struct jail_error *error) must_check;

#endif
