// SPDX-License-Identifier: Apache-2.0
/*
 * Guest memory whose pages another process brings when they are touched (userfaultfd).
 *
 * DOC: The hand-off. Memory is registered for missing pages; then one message goes over a UNIX stream socket: a JSON array
 * that says where each region lies in this process and in the memory file, with the userfaultfd attached. Nothing else is
 * ever said. The socket stays open as long as the memory, so that each side sees the other's end. The handler answers page
 * faults by UFFDIO_COPY, and pages that were given back (UFFD_EVENT_REMOVE) by zeroes. If it dies, whoever touches a
 * missing page waits until the monitor ends; vmm/uffd_watch.h sees to it that the API still answers.
 */
#ifndef SNAPSHOTS_UFFD_H
#define SNAPSHOTS_UFFD_H

#include <stdbool.h>
#include "vmm/core/error.h"
#include "vmm/core/guest_memory.h"

struct uffd {
	int fd;     /* userfaultfd */
	int socket; /* to the handler */
};

/*
 * Registers the memory, which must be untouched, and hands it to the handler that listens at path. huge: its pages are of
 * 2 MiB. 0, or -errno and a text; ended by uffd_close(), after which missing pages are zeroes: it must come when neither
 * vCPUs nor devices can touch the memory any more.
 */
int uffd_open(struct uffd *uffd, const struct guest_memory *mem, bool huge, const char *path,
	      struct error *err) must_check;
void uffd_close(struct uffd *uffd);

/* Wakes whoever waits for a page; where none has come, the handler is asked for it once more. Any thread. */
void uffd_ask_again(const struct uffd *uffd, const struct guest_memory *mem);

#endif
