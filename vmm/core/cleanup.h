// SPDX-License-Identifier: Apache-2.0
/* Cleanup that is tied to a variable's scope, for short functions with many exits. */
#ifndef BANTAM_CORE_CLEANUP_H
#define BANTAM_CORE_CLEANUP_H

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define must_check __attribute__((warn_unused_result))

/* Closes fd unless it is -1 and keeps errno. close() is never retried: Linux has released the number even on EINTR. */
static inline void close_fd(int fd)
{
	if (fd >= 0) {
		int saved = errno;
		close(fd);
		errno = saved;
	}
}

static inline void cleanup_fd_fn(int *fd)
{
	close_fd(*fd);
}

static inline void cleanup_free_fn(void *pointer)
{
	free(*(void **)pointer);
}

#define cleanup_fd   __attribute__((cleanup(cleanup_fd_fn)))
#define cleanup_free __attribute__((cleanup(cleanup_free_fn)))

/* Gives the descriptor away: the caller's variable no longer closes it. */
static inline int steal_fd(int *fd)
{
	int taken = *fd;
	*fd = -1;
	return taken;
}

static inline void *steal_ptr_fn(void *pointer)
{
	void **slot = pointer;
	void *taken = *slot;
	*slot = NULL;
	return taken;
}

/* Gives the object away: the caller's variable no longer frees it. */
#define steal_ptr(pointer) ((__typeof__(*(pointer)))steal_ptr_fn(pointer))

#endif
