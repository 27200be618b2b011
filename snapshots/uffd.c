// SPDX-License-Identifier: Apache-2.0
/* Handing guest memory to a page fault handler. */
#include "snapshots/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>
#include "vmm/core/checked.h"

/* A region takes some 150 bytes of the message. */
#define MESSAGE_BYTES (GUEST_MEMORY_REGIONS_MAX * 256u)

/* The device may be opened by whom its file's mode allows; the call needs a privilege, or a host that gives it to all. */
static int make_descriptor(void)
{
	int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);

	if (device >= 0) {
		int fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);

		close_fd(device);
		if (fd >= 0)
			return fd;
	}
	return (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
}

static int register_regions(int fd, const struct guest_memory *mem, struct error *err)
{
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_EVENT_REMOVE};

	if (ioctl(fd, UFFDIO_API, &api) < 0)
		return error_set_errno(err, "UFFDIO_API failed");
	for (unsigned i = 0; i < mem->region_count; i++) {
		struct uffdio_register region = {
			.range = {.start = (uintptr_t)mem->regions[i].host,
				  .len = mem->regions[i].size_bytes},
			.mode = UFFDIO_REGISTER_MODE_MISSING,
		};

		if (ioctl(fd, UFFDIO_REGISTER, &region) < 0)
			return error_set_errno(err, "UFFDIO_REGISTER failed");
	}
	return 0;
}

/* page_size_kib holds bytes, too: that is what handlers were written for. */
static size_t format_message(const struct guest_memory *mem, bool huge, char text[MESSAGE_BYTES])
{
	unsigned long long page_bytes = huge ? MIB(2) : GUEST_PAGE_BYTES;
	size_t len = 0;

	for (unsigned i = 0; i < mem->region_count; i++) {
		const struct guest_region *region = &mem->regions[i];
		int added =
			snprintf(text + len, MESSAGE_BYTES - len,
				 "%s{\"base_host_virt_addr\":%llu,\"size\":%llu,\"offset\":%llu,"
				 "\"page_size\":%llu,\"page_size_kib\":%llu}",
				 i ? "," : "[", (unsigned long long)(uintptr_t)region->host,
				 (unsigned long long)region->size_bytes,
				 (unsigned long long)(region->host - mem->mapping), page_bytes,
				 page_bytes);

		len += (size_t)added;
	}
	text[len++] = ']';
	return len;
}

static int connect_to(const char *path, struct error *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t len = strlen(path);

	if (len >= sizeof(address.sun_path))
		return error_set(err, -ENAMETOOLONG,
				 "Failed to connect to UDS Unix stream: the path must have at most "
				 "%zu bytes",
				 sizeof(address.sun_path) - 1);
	memcpy(address.sun_path, path, len + 1);
	cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)))
		return error_set_errno(err, "Failed to connect to UDS Unix stream");
	return steal_fd(&fd);
}

static int send_message(int socket, char *text, size_t len, int fd, struct error *err)
{
	union {
		struct cmsghdr head; /* for its alignment */
		char room[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec iov = {.iov_base = text, .iov_len = len};
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.room,
		.msg_controllen = sizeof(control.room),
	};
	struct cmsghdr *rights = CMSG_FIRSTHDR(&message);

	rights->cmsg_level = SOL_SOCKET;
	rights->cmsg_type = SCM_RIGHTS;
	rights->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(rights), &fd, sizeof(fd));
	if (sendmsg(socket, &message, MSG_NOSIGNAL) != (ssize_t)len)
		return error_set_errno(err, "Failed to send file descriptor");
	return 0;
}

int uffd_open(struct uffd *uffd, const struct guest_memory *mem, bool huge, const char *path,
	      struct error *err)
{
	char text[MESSAGE_BYTES];

	*uffd = (struct uffd){.fd = make_descriptor(), .socket = -1};
	if (uffd->fd < 0)
		return error_set_errno(err, "Failed to create a userfaultfd");
	int ret = register_regions(uffd->fd, mem, err);

	if (!ret) {
		uffd->socket = connect_to(path, err);
		ret = uffd->socket < 0 ? err->code : 0;
	}
	if (!ret)
		ret = send_message(uffd->socket, text, format_message(mem, huge, text), uffd->fd,
				   err);
	return ret;
}

void uffd_ask_again(const struct uffd *uffd, const struct guest_memory *mem)
{
	for (unsigned i = 0; i < mem->region_count; i++) {
		struct uffdio_range range = {
			.start = (uintptr_t)mem->regions[i].host,
			.len = mem->regions[i].size_bytes,
		};

		(void)ioctl(uffd->fd, UFFDIO_WAKE,
			    &range); /* of a range that is mapped: cannot fail */
	}
}

void uffd_close(struct uffd *uffd)
{
	close_fd(uffd->socket);
	close_fd(uffd->fd);
	*uffd = (struct uffd){.fd = -1, .socket = -1};
}
