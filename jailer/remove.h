// SPDX-License-Identifier: Apache-2.0
/* Taking things away: what was made before a failure, and whole jails after their end. */
#ifndef BANTAM_JAILER_REMOVE_H
#define BANTAM_JAILER_REMOVE_H

#include "jailer/journal.h"
#include "jailer/plan.h"
#include "jailer/scope.h"

/*
 * Undoes what the journal lists, last first. builder: a process that still is in the cgroups and is to be moved out
 * of them first, or 0.
 */
void remove_made(const struct jail_plan *plan, const struct journal *journal, pid_t builder);

/*
 * Ends what is left in the jail's cgroups and removes them and the jail's folder with everything in it. Mounts that
 * an operator made in it stay, with what leads to them. Returns 0, or -errno when something is left.
 */
int remove_jail(const struct jail_plan *plan, const struct journal *journal) must_check;

/*
 * Removes a directory and all in it; never follows a link, never enters another mount. Needs neither memory nor
 * descriptors in proportion to what a hostile tenant has nested.
 */
int remove_tree(int parent_fd, const char *name) must_check;

#endif
