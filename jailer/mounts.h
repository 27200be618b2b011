// SPDX-License-Identifier: Apache-2.0
/*
 * The jail's root.
 *
 * DOC: how the old root goes
 *   In the new mount namespace the jail's folder is cloned as a detached tree with everything mounted below it, still
 *   a peer of the host's mount. Then every other mount becomes private, so that taking the old root away cannot
 *   spread to the host. A clone of the folder around the jail goes over "/", the tree into it as a slave (what an
 *   operator mounts into the jail's folder later appears in the jail, nothing goes the other way), pivot_root(".", ".")
 *   puts the old root beside it, and it is detached. No directory for the old root is made in the jail's folder.
 *
 *   Then chroot() into the tree. Not for the wall, which pivot_root has built: a process whose root is not the
 *   namespace's root cannot make a user namespace, and so cannot get any capability over anything. Should it
 *   leave the chroot, it is in an empty, read-only folder.
 *
 *   Last, the mounts get their flags: the root nosuid, nodev and noexec; /dev a mount of its own, read-only, in which
 *   nodes work; the program a mount of its own, read-only, which can be executed.
 */
#ifndef BANTAM_JAILER_MOUNTS_H
#define BANTAM_JAILER_MOUNTS_H

#include "jailer/devices.h"
#include "jailer/fail.h"
#include "jailer/plan.h"
#include "jailer/scope.h"

/* Things of the host that the jail needs mounted, held while the host's file system goes away. */
struct mounts_held {
	int exec;                  /* EXEC_COPY_SHARED */
	int devices[DEVICE_COUNT]; /* rootless: the host's nodes; -1: none */
};

/* Makes the jail's folder the root. */
int mounts_change_root(const struct jail_plan *plan, struct mounts_held *held,
		       struct jail_error *error) must_check;

/*
 * Mounts what is held and sets the flags. Call when everything in the jail has been made. fresh: this jailer made the
 * jail's folder, so nobody has put device nodes into it that must go on working.
 */
int mounts_seal(const struct jail_plan *plan, bool fresh, struct mounts_held *held,
		struct jail_error *error) must_check;

void mounts_release(struct mounts_held *held);

#endif
