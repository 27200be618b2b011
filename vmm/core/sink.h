// SPDX-License-Identifier: Apache-2.0
/* Where text leaves the monitor: files, FIFOs and terminals that must never make a thread wait. */
#ifndef BANTAM_CORE_SINK_H
#define BANTAM_CORE_SINK_H

#include "vmm/core/cleanup.h"

/*
 * Opens path for appending, non-blocking, creating a regular file when nothing is there. A FIFO opens even while nobody
 * reads it. Gives a descriptor, which the caller owns, or -errno.
 */
int sink_open(const char *path) must_check;

#endif
