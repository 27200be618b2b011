// SPDX-License-Identifier: Apache-2.0
/*
 * Tells the monitor that the guest's first process runs: writes the agreed byte to the boot timer's register, when
 * bantam.boottimer stands on the kernel's command line. To be the very first thing that process 1 runs.
 *
 * The register is memory-mapped at a fixed address; /dev/mem opened with O_SYNC maps it uncached. STRICT_DEVMEM forbids RAM
 * and claimed devices only, and no driver claims this one.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#define BOOT_TIMER_GPA   0xc0000000
#define BOOT_TIMER_VALUE 123
#define REGISTER_BYTES   4096

/* Process 1 has mounted nothing yet; what is mounted here it finds mounted. */
static int open_mounting(const char *path, int flags, const char *type, const char *target)
{
	int fd = open(path, flags | O_CLOEXEC);

	if (fd < 0 && mount(type, target, type, 0, NULL) == 0)
		fd = open(path, flags | O_CLOEXEC);
	return fd;
}

static int is_wanted(void)
{
	char line[4096];
	int fd = open_mounting("/proc/cmdline", O_RDONLY, "proc", "/proc");
	ssize_t length = fd < 0 ? -1 : read(fd, line, sizeof(line) - 1);

	if (length < 0) {
		perror("boot-timer: /proc/cmdline");
		return 0;
	}
	close(fd);
	line[length] = '\0';
	return strstr(line, "bantam.boottimer") != NULL;
}

int main(void)
{
	volatile uint8_t *timer;
	int fd;

	if (!is_wanted())
		return 0;
	fd = open_mounting("/dev/mem", O_RDWR | O_SYNC, "devtmpfs", "/dev");
	if (fd < 0) {
		perror("boot-timer: /dev/mem");
		return 1;
	}
	timer = mmap(NULL, REGISTER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, BOOT_TIMER_GPA);
	if (timer == MAP_FAILED) {
		perror("boot-timer: mmap");
		return 1;
	}
	*timer = BOOT_TIMER_VALUE;
	return 0;
}
