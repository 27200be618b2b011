// SPDX-License-Identifier: Apache-2.0
/*
 * Landlock on top of the root: should a descriptor of a folder outside ever reach the program, it opens nothing there;
 * in the jail nothing but the program is executed and no node, link or pipe is made; no TCP; no signal and no abstract
 * socket to processes outside. Each where the kernel knows it; a kernel without Landlock is no error.
 */
#ifndef BANTAM_JAILER_LANDLOCK_H
#define BANTAM_JAILER_LANDLOCK_H

#include "jailer/fail.h"
#include "jailer/plan.h"
#include "jailer/scope.h"

/* Call with the jail as root, everything made, and CAP_SYS_ADMIN (or no_new_privs). Holds for good. */
int landlock_confine(const struct jail_plan *plan, struct jail_error *error) must_check;

#endif
