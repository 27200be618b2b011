// SPDX-License-Identifier: Apache-2.0
/*
 * Watches over a page fault handler, on a thread of its own, for a loop that cannot when it waits for a page itself.
 *
 * DOC: A page that nobody brings keeps whoever touches it waiting in the kernel, vCPUs and the loop's thread alike. That is
 * right: any other content would be wrong memory, for the guest and, by a write under way, for its drives. What must not
 * stand still with them is the API. Nothing tells for sure that a handler is dead, so three signs have to come together:
 *   - the other end of its socket is closed. Alone that means nothing: a handler may do its work without it;
 *   - most looks find page faults unread. A handler that lives reads them. Those that a dead one has read and not answered are asked
 *     for once more, when its end of the socket is closed, by waking whoever waits; to one that lives that is as if two
 *     vCPUs had touched a page;
 *   - the loop answers nothing. As long as it does, it serves the API, whatever the vCPUs wait for.
 * After UFFD_SILENCE_MS of all three the thread takes over: it gets a loop of its own, and never touches guest memory.
 */
#ifndef VMM_UFFD_WATCH_H
#define VMM_UFFD_WATCH_H

#include "snapshots/uffd.h"
#include "vmm/core/cleanup.h"

#define UFFD_SILENCE_MS 3000u

struct loop;
struct seccomp_filters;
struct uffd_watch;

struct uffd_watch_options {
	const struct uffd *uffd;        /* borrowed until uffd_watch_stop() */
	const struct guest_memory *mem; /* the same */
	struct loop *loop;              /* that is to answer */
	const struct seccomp_filters *filters;
	/* On the watching thread, once: it may stay there, running own_loop, which nothing else uses. */
	void (*on_dead)(void *ctx, struct loop *own_loop);
	void *on_dead_ctx;
};

/* Loop thread, before privileges are given up. NULL and a text on error. */
struct uffd_watch *uffd_watch_start(const struct uffd_watch_options *options,
				    struct error *err) must_check;
/* Loop thread. NULL allowed. Does not return while on_dead() runs. */
void uffd_watch_stop(struct uffd_watch *watch);

#endif
