// SPDX-License-Identifier: Apache-2.0
/* Cleanup tied to a variable's scope. The jailer shares no code with the monitor, so it has its own. */
#ifndef BANTAM_JAILER_SCOPE_H
#define BANTAM_JAILER_SCOPE_H

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define must_check __attribute__((warn_unused_result))

/* Closes fd unless it is -1 and keeps errno. */
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

#endif
