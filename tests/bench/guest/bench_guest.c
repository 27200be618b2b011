// SPDX-License-Identifier: Apache-2.0
// The guest's side of the benchmark: PID 1 of every measured guest, and its vsock server.
//
// DOC: As PID 1 the first thing it does is to write 123 to the boot timer at 0xC0000000 and the line "BENCH-INIT" to
// the first serial port, both past the kernel's drivers (/dev/mem, /dev/port), so that neither depends on a console.
// What follows is named by "bench=NAME" on the kernel command line, which the kernel hands over as an environment
// variable: "idle" sleeps for ever; any other name runs /bench/NAME.sh and then resets the machine.
//
// `bench-guest vsock` serves port 5001. A connection says what it wants in 9 bytes, a letter and a count
// (little-endian): 'E' send count bytes back as they come, 'S' swallow count bytes and answer one, 'G' send count.

#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define BOOT_TIMER_GPA   0xC0000000L
#define BOOT_TIMER_MARK  123
#define SERIAL_DATA_PORT 0x3f8
#define VSOCK_PORT       5001
#define BUFFER_BYTES     (256 * 1024)

static void mark_boot_timer(void)
{
	int fd = open("/dev/mem", O_RDWR | O_SYNC | O_CLOEXEC);
	volatile unsigned char *mark;

	if (fd < 0)
		return;
	mark = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, BOOT_TIMER_GPA);
	if (mark != MAP_FAILED)
		*mark = BOOT_TIMER_MARK;
	close(fd);
}

static void say_on_serial(const char *text)
{
	int fd = open("/dev/port", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	for (; *text; text++)
		if (pwrite(fd, text, 1, SERIAL_DATA_PORT) != 1)
			break;
	close(fd);
}

static int run_script(const char *name)
{
	char path[128];
	int status;
	pid_t child;

	snprintf(path, sizeof(path), "/bench/%s.sh", name);
	child = fork();
	if (child == 0) {
		execl("/bin/busybox", "sh", path, (char *)NULL);
		_exit(127);
	}
	for (;;) {
		pid_t ended = waitpid(-1, &status, 0);

		if (ended == child)
			break;
		if (ended < 0 && errno != EINTR)
			return 126;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void be_init(void)
{
	const char *name = getenv("bench");

	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	mark_boot_timer();
	say_on_serial("BENCH-INIT\n");
	if (name && strcmp(name, "idle") != 0) {
		mount("proc", "/proc", "proc", 0, NULL);
		mount("sysfs", "/sys", "sysfs", 0, NULL);
		mount("tmpfs", "/tmp", "tmpfs", 0, NULL);
		mkdir("/dev/shm", 0777);
		mount("tmpfs", "/dev/shm", "tmpfs", 0, NULL);
		printf("\nBENCH-END %d\n", run_script(name));
		fflush(stdout);
		reboot(RB_AUTOBOOT);
	}
	for (;;)
		pause();
}

// All of `count` bytes, or false when the peer is gone.
static int receive_all(int fd, void *data, size_t count)
{
	char *next = data;

	while (count) {
		ssize_t got = read(fd, next, count);

		if (got <= 0)
			return 0;
		next += got;
		count -= (size_t)got;
	}
	return 1;
}

static int send_all(int fd, const void *data, size_t count)
{
	const char *next = data;

	while (count) {
		ssize_t sent = write(fd, next, count);

		if (sent <= 0)
			return 0;
		next += sent;
		count -= (size_t)sent;
	}
	return 1;
}

static void serve_request(int fd, char what, uint64_t count, char *buffer)
{
	while (count) {
		size_t piece = count < BUFFER_BYTES ? (size_t)count : BUFFER_BYTES;

		if (what == 'G') {
			if (!send_all(fd, buffer, piece))
				return;
		} else {
			ssize_t got = read(fd, buffer, piece);

			if (got <= 0 || (what == 'E' && !send_all(fd, buffer, (size_t)got)))
				return;
			piece = (size_t)got;
		}
		count -= piece;
	}
	if (what == 'S')
		send_all(fd, "!", 1);
}

static void *serve_connection(void *argument)
{
	int fd = (int)(intptr_t)argument;
	char *buffer = calloc(1, BUFFER_BYTES);
	unsigned char head[9];

	if (buffer && receive_all(fd, head, sizeof(head))) {
		uint64_t count = 0;

		for (int i = 8; i >= 1; i--)
			count = count << 8 | head[i];
		serve_request(fd, (char)head[0], count, buffer);
	}
	free(buffer);
	close(fd);
	return NULL;
}

static int be_vsock_server(void)
{
	struct sockaddr_vm address = {.svm_family = AF_VSOCK,
				      .svm_cid = VMADDR_CID_ANY,
				      .svm_port = VSOCK_PORT};
	int listener = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) ||
	    listen(listener, 16)) {
		perror("bench-guest: vsock");
		return 1;
	}
	puts("\nRESULT vsock_ready 1");
	fflush(stdout);
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		pthread_t thread;

		if (fd < 0)
			continue;
		if (pthread_create(&thread, NULL, serve_connection, (void *)(intptr_t)fd))
			close(fd);
		else
			pthread_detach(thread);
	}
}

int main(int argc, char **argv)
{
	if (getpid() == 1)
		be_init();
	if (argc == 2 && strcmp(argv[1], "vsock") == 0)
		return be_vsock_server();
	fprintf(stderr, "usage: bench-guest vsock (or run it as PID 1)\n");
	return 2;
}
