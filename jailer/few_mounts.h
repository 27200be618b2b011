// SPDX-License-Identifier: Apache-2.0
/*
 * A mount namespace that is cheap to copy.
 *
 * DOC: why
 *   unshare(CLONE_NEWNS) copies every mount of the caller's namespace, so that the jailer can detach all of them but the
 *   jail's: on a host with hundreds of containers that takes as long as all else together. A namespace with a single
 *   mount always exists: the one in which the kernel's thread kdevtmpfs looks after /dev. Who enters it before the
 *   unshare() copies that one mount. The kernel keeps its namespaces in a list by age that a privileged process can walk
 *   (Linux 6.12, ioctl_nsfs(2)); kdevtmpfs makes the second before any program runs.
 *
 *   What is mounted there does not matter: nothing is looked up in it. The copy is covered at once with what was taken
 *   along as detached trees (mounts.h), and goes as the host's mounts would have gone. But it must be this namespace and no
 *   other small one, as that of a jail: somebody may be exchanging its root meanwhile, and the copy would be half of each.
 */
#ifndef BANTAM_JAILER_FEW_MOUNTS_H
#define BANTAM_JAILER_FEW_MOUNTS_H

/*
 * Moves this process from a namespace with many mounts into the kernel's own, root and current directory too. Stays where
 * it is when that is too far away in the list, or when the kernel has no list or does not show it to this process.
 */
void few_mounts_enter(void);

#endif
