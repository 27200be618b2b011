// SPDX-License-Identifier: Apache-2.0
/* The host's side of a network interface: a tap (tun(4)) that carries frames behind a virtio header of 12 bytes. */
#ifndef VIRTIO_TAP_H
#define VIRTIO_TAP_H

#include <stdbool.h>
#include "vmm/core/cleanup.h"
#include "vmm/core/error.h"

/* What the reader of the tap takes: frames without a checksum, and segments larger than the MTU. */
struct tap_offload {
	bool csum; /* without it the others have no effect */
	bool tso4;
	bool tso6;
	bool ufo;
};

/*
 * Opens the tap called name (made if it does not exist and the caller may) for one queue, non-blocking, each frame behind
 * a struct virtio_net_hdr of NET_HEADER_BYTES. Gives the descriptor, which the caller owns, or a negative errno
 * and a text.
 */
int tap_open(const char *name, struct error *err) must_check;

/* 0 or -errno. */
int tap_set_offload(int fd, struct tap_offload offload) must_check;

#endif
