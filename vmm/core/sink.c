// SPDX-License-Identifier: Apache-2.0
/* Opening of descriptors that text goes out to. */
#include "vmm/core/sink.h"

#include <errno.h>
#include <fcntl.h>

#define SINK_FLAGS (O_APPEND | O_NONBLOCK | O_CREAT | O_CLOEXEC | O_NOCTTY)

int sink_open(const char *path)
{
	/*
	 * For reading too: a FIFO that was opened for writing only is refused while it has no reader (ENXIO) and raises
	 * SIGPIPE when its reader leaves. Nothing is ever read.
	 */
	int fd = open(path, O_RDWR | SINK_FLAGS, 0644);

	if (fd < 0 && (errno == EACCES || errno == EPERM))
		fd = open(path, O_WRONLY | SINK_FLAGS, 0644);
	return fd < 0 ? -errno : fd;
}
