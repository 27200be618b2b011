// SPDX-License-Identifier: Apache-2.0
/* Watching over a page fault handler. */
#include "vmm/uffd_watch.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "vmm/core/log.h"
#include "vmm/core/loop.h"
#include "vmm/seccomp.h"

#define LOOK_MS     100u
#define PATIENCE_MS 20u
#define LOOKS       (UFFD_SILENCE_MS / LOOK_MS)
#define STACK_BYTES (256u << 10) /* the API's requests are answered on it */

struct uffd_watch {
	struct uffd_watch_options options;
	pthread_t thread;
	bool started;
	struct loop *own_loop; /* made before the filter, which would not let it be */
	int stop_fd;           /* eventfd: the thread is to end */
	int question_fd;       /* eventfd: the loop is to answer */
	struct loop_source *question_source;
	_Atomic bool answered;
};

/* On the loop. */
static void on_question(void *ctx, unsigned events)
{
	struct uffd_watch *watch = ctx;
	uint64_t count;
	ssize_t got = read(watch->question_fd, &count, sizeof(count));

	(void)events;
	(void)got;
	atomic_store(&watch->answered, true);
}

static void tell(int fd)
{
	const uint64_t one = 1;
	ssize_t written = write(fd, &one, sizeof(one));

	(void)written; /* a full counter is told already */
}

/* Waits until fd can be read, or for so long. false: the thread is to end. *readable may be NULL. */
static bool wait_for(const struct uffd_watch *watch, int fd, int timeout_ms, bool *readable)
{
	struct pollfd fds[] = {
		{.fd = watch->stop_fd, .events = POLLIN},
		{.fd = fd, .events = POLLIN},
	};

	if (poll(fds, 2, timeout_ms) < 0)
		return true; /* EINTR */
	if (readable)
		*readable = fds[1].revents != 0;
	return fds[0].revents == 0;
}

/* What a handler says means nothing. */
static bool is_closed(int socket)
{
	char nothing[64];
	ssize_t got = recv(socket, nothing, sizeof(nothing), MSG_DONTWAIT);

	return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
}

/* false: the thread is to end. */
static bool wait_for_closed_socket(const struct uffd_watch *watch)
{
	int socket = watch->options.uffd->socket;
	bool readable = false;

	while (!readable || !is_closed(socket)) {
		readable = false;
		if (!wait_for(watch, socket, -1, &readable))
			return false;
	}
	return true;
}

/* A vCPU that a signal keeps from waiting asks again and again, and may be between two questions: hence the patience. */
static bool has_unread_faults(const struct uffd_watch *watch)
{
	struct pollfd fd = {.fd = watch->options.uffd->fd, .events = POLLIN};

	return poll(&fd, 1, PATIENCE_MS) == 1;
}

/*
 * Until the loop has given no answer for so long, while most looks found a fault that nobody has read: not all, because the
 * thread may be kept from its processor, too. false: the thread is to end.
 */
static bool wait_for_silence(struct uffd_watch *watch)
{
	unsigned looks = 0, unread = 0;

	for (;;) {
		if (atomic_exchange(&watch->answered, false) || looks == LOOKS)
			looks = unread = 0;
		looks++;
		unread += has_unread_faults(watch) ? 1 : 0;
		if (looks == LOOKS && unread > LOOKS / 2)
			return true;
		tell(watch->question_fd);
		if (!wait_for(watch, -1, LOOK_MS, NULL))
			return false;
	}
}

static void *watch_thread(void *arg)
{
	struct uffd_watch *watch = arg;
	const struct uffd_watch_options *options = &watch->options;
	struct error err;

	prctl(PR_SET_NAME, "uffd_watch", 0, 0, 0);
	log_set_thread_name("uffd_watch");
	watch->own_loop = loop_new();
	if (!watch->own_loop || seccomp_enter_helper(options->filters, &err)) {
		log_error("Nobody watches over the page fault handler: no loop, or no filter.");
		return NULL;
	}
	if (!wait_for_closed_socket(watch))
		return NULL;
	log_warn("The page fault handler has closed its connection.");
	uffd_ask_again(options->uffd, options->mem);
	if (wait_for_silence(watch))
		options->on_dead(options->on_dead_ctx, watch->own_loop);
	return NULL;
}

static int start_thread(struct uffd_watch *watch, struct error *err)
{
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	int ret = pthread_create(&watch->thread, &attr, watch_thread, watch);

	pthread_attr_destroy(&attr);
	watch->started = ret == 0;
	return ret ? error_set_os(err, -ret, "cannot start a thread") : 0;
}

struct uffd_watch *uffd_watch_start(const struct uffd_watch_options *options, struct error *err)
{
	struct uffd_watch *watch = calloc(1, sizeof(*watch));

	if (!watch) {
		error_set_os(err, -ENOMEM, "no memory to watch over the page fault handler");
		return NULL;
	}
	watch->options = *options;
	watch->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	watch->question_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (watch->question_fd >= 0)
		watch->question_source = loop_add_fd(options->loop, watch->question_fd, LOOP_READ,
						     on_question, watch);
	int ret = watch->stop_fd >= 0 && watch->question_source
			  ? start_thread(watch, err)
			  : error_set_errno(err, "no descriptors");

	if (!ret)
		return watch;
	error_prefix(err, "Cannot watch over the page fault handler: ");
	uffd_watch_stop(watch);
	return NULL;
}

void uffd_watch_stop(struct uffd_watch *watch)
{
	if (!watch)
		return;
	if (watch->started) {
		tell(watch->stop_fd);
		pthread_join(watch->thread, NULL);
	}
	loop_free(watch->own_loop);
	loop_source_free(watch->question_source);
	close_fd(watch->question_fd);
	close_fd(watch->stop_fd);
	free(watch);
}
