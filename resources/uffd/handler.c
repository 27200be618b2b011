// SPDX-License-Identifier: Apache-2.0
/*
 * uffd-handler SOCKET MEMORY_FILE: serves the page faults of one restored microVM out of its memory file, and ends with it.
 * An example: one microVM, one thread, one page a fault.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define REGIONS_MAX   16
#define REMOVED_MAX   4096
#define MESSAGE_BYTES 8192

#define SMALL_PAGE_BYTES 4096
#define HUGE_PAGE_BYTES  (2 << 20)

struct region {
	unsigned long long base, size, offset, page_size;
};

struct range {
	uint64_t start, end;
};

static struct region regions[REGIONS_MAX];
static unsigned region_count;
static struct range removed[REMOVED_MAX]; /* given back by the guest: zero from now on */
static unsigned removed_count;
static const uint8_t *memory;
static const uint8_t
	zero_page[HUGE_PAGE_BYTES]; /* the kernel has no zero page of that size to map */

static void die(const char *what)
{
	fprintf(stderr, "uffd-handler: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int wait_for_monitor(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	unlink(path);
	if (listener < 0 || bind(listener, (const struct sockaddr *)&address, sizeof(address)) ||
	    listen(listener, 1))
		die(path);
	int monitor = accept(listener, NULL, NULL);

	if (monitor < 0)
		die("accept");
	close(listener);
	return monitor;
}

/* The one message: text and descriptor come together. */
static int receive_message(int monitor, char text[MESSAGE_BYTES])
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = text, .iov_len = MESSAGE_BYTES - 1};
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.room,
		.msg_controllen = sizeof(control.room),
	};
	ssize_t len = recvmsg(monitor, &message, 0);
	struct cmsghdr *rights = len > 0 ? CMSG_FIRSTHDR(&message) : NULL;
	int uffd;

	if (!rights || rights->cmsg_type != SCM_RIGHTS)
		die("no userfaultfd came");
	memcpy(&uffd, CMSG_DATA(rights), sizeof(uffd));
	text[len] = '\0';
	return uffd;
}

static unsigned long long number(const char *object, const char *name)
{
	const char *at = strstr(object, name);

	if (!at)
		die(name);
	return strtoull(at + strlen(name), NULL, 10);
}

static void parse_regions(const char *text)
{
	for (const char *at = strchr(text, '{'); at && region_count < REGIONS_MAX;
	     at = strchr(at + 1, '{'))
		regions[region_count++] = (struct region){
			.base = number(at, "\"base_host_virt_addr\":"),
			.size = number(at, "\"size\":"),
			.offset = number(at, "\"offset\":"),
			.page_size = number(at, "\"page_size\":"),
		};
}

static const struct region *region_of(uint64_t address)
{
	for (unsigned i = 0; i < region_count; i++)
		if (address - regions[i].base < regions[i].size)
			return &regions[i];
	return NULL;
}

static bool is_removed(uint64_t address)
{
	for (unsigned i = 0; i < removed_count; i++)
		if (address >= removed[i].start && address < removed[i].end)
			return true;
	return false;
}

static void serve(int uffd, uint64_t address)
{
	const struct region *region = region_of(address);
	int failed;

	if (!region)
		return;
	uint64_t page = address & ~((uint64_t)region->page_size - 1);
	bool zeroes = is_removed(page);

	if (zeroes && region->page_size == SMALL_PAGE_BYTES) {
		struct uffdio_zeropage zero = {.range = {.start = page, .len = region->page_size}};

		failed = ioctl(uffd, UFFDIO_ZEROPAGE, &zero);
	} else {
		struct uffdio_copy copy = {
			.dst = page,
			.src = zeroes ? (uintptr_t)zero_page
				      : (uintptr_t)(memory + region->offset +
						    (page - region->base)),
			.len = region->page_size,
		};

		failed = ioctl(uffd, UFFDIO_COPY, &copy);
	}
	/* Two vCPUs may have touched one page; a monitor that is ending has no memory left. */
	if (failed && errno != EEXIST && errno != ESRCH && errno != EAGAIN && errno != ENOENT)
		die("a page cannot be given");
}

static void handle_events(int uffd)
{
	struct uffd_msg message;

	while (read(uffd, &message, sizeof(message)) == (ssize_t)sizeof(message)) {
		if (message.event == UFFD_EVENT_PAGEFAULT)
			serve(uffd, message.arg.pagefault.address);
		else if (message.event == UFFD_EVENT_REMOVE && removed_count < REMOVED_MAX)
			removed[removed_count++] =
				(struct range){message.arg.remove.start, message.arg.remove.end};
	}
}

int main(int argc, char *argv[])
{
	char text[MESSAGE_BYTES];
	struct stat st;

	if (argc != 3) {
		fprintf(stderr, "usage: uffd-handler SOCKET MEMORY_FILE\n");
		return 2;
	}
	int file = open(argv[2], O_RDONLY);

	if (file < 0 || fstat(file, &st))
		die(argv[2]);
	void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, file, 0);

	if (map == MAP_FAILED)
		die(argv[2]);
	memory = map;
	int monitor = wait_for_monitor(argv[1]);
	int uffd = receive_message(monitor, text);

	parse_regions(text);
	for (;;) {
		struct pollfd fds[] = {
			{.fd = uffd, .events = POLLIN},
			{.fd = monitor, .events = POLLIN},
		};

		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			die("poll");
		if (fds[0].revents & POLLIN)
			handle_events(uffd);
		if (fds[1].revents & (POLLHUP | POLLIN))
			return 0; /* the monitor has ended; it never says anything */
	}
}
