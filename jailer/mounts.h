// SPDX-License-Identifier: Apache-2.0
/*
 * The jail's root.
 *
 * DOC: how the old root goes
 *   The jail's folder is cloned as a detached tree with everything mounted below it, still a peer of the host's mount.
 *   In the new mount namespace every other mount becomes private, so that taking the old root away cannot spread to the
 *   host. A clone of the folder around the jail goes over "/", the tree into it as a slave (what an
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

/* Trees of the host that the jail needs, held while the host's file system goes away; -1: none. */
struct mounts_held {
	int root, around;          /* the jail's folder; the one that it is in */
	int exec;                  /* EXEC_COPY_SHARED */
	int devices[DEVICE_COUNT]; /* rootless: the host's nodes */
};

#define MOUNTS_HELD_NONE       \
	((struct mounts_held){ \
		.root = -1, .around = -1, .exec = -1, .devices = {[0 ... DEVICE_COUNT - 1] = -1}})

/*
 * Looks up everything on the host. Needs a namespace of which the process is master: the host's own, or, rootless, a
 * new one. held is MOUNTS_HELD_NONE; also after a failure it wants mounts_release().
 */
int mounts_hold(const struct jail_plan *plan, struct mounts_held *held,
		struct jail_error *error) must_check;

/* Makes the jail's folder the root, in a new namespace. */
int mounts_change_root(const struct mounts_held *held, struct jail_error *error) must_check;

/*
 * Mounts what is held and sets the flags. Call when everything in the jail has been made. fresh: this jailer made the
 * jail's folder, so nobody has put device nodes into it that must go on working.
 */
int mounts_seal(const struct jail_plan *plan, bool fresh, struct mounts_held *held,
		struct jail_error *error) must_check;

void mounts_release(struct mounts_held *held);

#endif
