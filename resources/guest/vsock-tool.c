// SPDX-License-Identifier: Apache-2.0
/*
 * Exercises AF_VSOCK from inside a test guest: serves and makes connections, moves checked data, measures.
 *
 * Data is checked by position: byte n of a stream is byte n modulo PERIOD of one fixed pseudo-random sequence, PERIOD being
 * prime, so that lost, repeated or swapped pieces show wherever they are. Every mode exits with 0 only when all went as asked.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PERIOD     65521
#define CHUNK      65536
#define BACKLOG    1024
#define MAX_ROUNDS 1000000

static const char usage_text[] =
	"usage: vsock-tool [--seqpacket] MODE...\n"
	"serve, one process a connection, for ever:\n"
	"  echo PORT                  send back what comes\n"
	"  sink PORT                  read to the end, check, answer \"BYTES ok\" or \"BYTES "
	"bad\"\n"
	"  source PORT BYTES          send so many checked bytes\n"
	"  exec PORT COMMAND...       run the command with the connection as its input and output\n"
	"connect:\n"
	"  relay CID PORT             own input and output\n"
	"  send CID PORT BYTES        to a sink; prints bytes, seconds, verdict\n"
	"  receive CID PORT           from a source; prints bytes, seconds, verdict\n"
	"  ping CID PORT ROUNDS [LEN] to an echo; prints minimum, median, 99th percentile and "
	"maximum in microseconds\n"
	"  storm CID PORT COUNT       so many connections to an echo, one after another; prints "
	"how many worked\n"
	"  hold CID PORT COUNT        so many connections to an echo at the same time; prints how "
	"many worked\n"
	"  cid                        prints this machine's own context id\n";

static uint8_t pattern[PERIOD + CHUNK];
static int socket_type = SOCK_STREAM; /* set once by main() from the option */

static void usage(void) __attribute__((noreturn));
static void usage(void)
{
	fputs(usage_text, stderr);
	exit(2);
}

static void fail(const char *what) __attribute__((noreturn));
static void fail(const char *what)
{
	fprintf(stderr, "vsock-tool: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t number(const char *text, uint64_t most)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = text ? strtoull(text, &end, 0) : 0;
	if (!text || errno || *end || end == text || value > most)
		usage();
	return value;
}

static void make_pattern(void)
{
	uint32_t state = 1;

	for (size_t i = 0; i < sizeof(pattern); i++) {
		if (i >= PERIOD) {
			pattern[i] = pattern[i - PERIOD];
			continue;
		}
		state = state * 1664525 + 1013904223;
		pattern[i] = (uint8_t)(state >> 24);
	}
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* 0, or -1 when the other side is gone. */
static int write_all(int fd, const uint8_t *data, size_t length)
{
	while (length > 0) {
		ssize_t put = write(fd, data, length);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return -1;
		data += put;
		length -= (size_t)put;
	}
	return 0;
}

static int read_all(int fd, uint8_t *data, size_t length)
{
	while (length > 0) {
		ssize_t got = read(fd, data, length);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return -1;
		data += got;
		length -= (size_t)got;
	}
	return 0;
}

static int send_pattern(int fd, uint64_t bytes)
{
	for (uint64_t sent = 0; sent < bytes;) {
		size_t part = bytes - sent < CHUNK ? (size_t)(bytes - sent) : CHUNK;

		if (write_all(fd, pattern + sent % PERIOD, part) != 0)
			return -1;
		sent += part;
	}
	return 0;
}

/* Reads to the end. Gives the count; *good says whether every byte was the right one and the end was a proper one. */
static uint64_t check_pattern(int fd, int *good)
{
	static uint8_t buffer[CHUNK];
	uint64_t total = 0;
	ssize_t got;

	*good = 1;
	while ((got = read(fd, buffer, sizeof(buffer))) != 0) {
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			*good = 0;
			break;
		}
		if (memcmp(buffer, pattern + total % PERIOD, (size_t)got) != 0)
			*good = 0;
		total += (uint64_t)got;
	}
	return total;
}

static int connect_to(uint64_t cid, uint64_t port)
{
	struct sockaddr_vm address = {.svm_family = AF_VSOCK,
				      .svm_cid = (unsigned int)cid,
				      .svm_port = (unsigned int)port};
	int fd = socket(AF_VSOCK, socket_type | SOCK_CLOEXEC, 0);

	if (fd < 0)
		fail("socket");
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static int connect_arguments(char **arguments)
{
	uint64_t cid = number(arguments[0], UINT32_MAX), port = number(arguments[1], UINT32_MAX);
	int fd = connect_to(cid, port);

	if (fd < 0)
		fail("connect");
	return fd;
}

/* ---- servers: each runs in a process of its own per connection ---- */

static int serve_echo(int fd, char **arguments)
{
	static uint8_t buffer[CHUNK];
	ssize_t got;

	(void)arguments;
	while ((got = read(fd, buffer, sizeof(buffer))) > 0)
		if (write_all(fd, buffer, (size_t)got) != 0)
			return 1;
	return got < 0;
}

static int serve_sink(int fd, char **arguments)
{
	int good;
	uint64_t total = check_pattern(fd, &good);

	(void)arguments;
	dprintf(fd, "%llu %s\n", (unsigned long long)total, good ? "ok" : "bad");
	return !good;
}

static int serve_source(int fd, char **arguments)
{
	return send_pattern(fd, number(arguments[0], UINT64_MAX)) != 0;
}

static int serve_exec(int fd, char **arguments)
{
	for (int target = 0; target < 3; target++)
		dup2(fd, target);
	signal(SIGPIPE, SIG_DFL);
	execvp(arguments[0], arguments);
	fail(arguments[0]);
}

static int listen_at(uint64_t port)
{
	struct sockaddr_vm address = {.svm_family = AF_VSOCK,
				      .svm_cid = VMADDR_CID_ANY,
				      .svm_port = (unsigned int)port};
	int fd = socket(AF_VSOCK, socket_type | SOCK_CLOEXEC, 0);

	if (fd < 0)
		fail("socket");
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(fd, BACKLOG) != 0)
		fail("listen");
	return fd;
}

static int serve(int (*handle)(int fd, char **arguments), uint64_t port, char **arguments)
{
	int listener = listen_at(port);

	signal(SIGCHLD, SIG_IGN); /* children are reaped by the kernel */
	printf("vsock-tool: listening on %llu\n", (unsigned long long)port);
	fflush(stdout);
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		pid_t child;

		if (fd < 0) {
			if (errno == EINTR || errno == ECONNABORTED)
				continue;
			fail("accept");
		}
		child = fork();
		if (child == 0) {
			close(listener);
			signal(SIGCHLD, SIG_DFL);
			_exit(handle(fd, arguments));
		}
		if (child < 0)
			fprintf(stderr, "vsock-tool: fork: %s\n", strerror(errno));
		close(fd);
	}
}

/* ---- clients ---- */

static int print_verdict(uint64_t bytes, uint64_t start_ns, int good)
{
	printf("%llu bytes %.6f s %s\n", (unsigned long long)bytes,
	       (double)(now_ns() - start_ns) / 1e9, good ? "ok" : "bad");
	return !good;
}

static int run_send(char **arguments)
{
	uint64_t bytes = number(arguments[2], UINT64_MAX), start_ns;
	char expected[64], answer[64] = "";
	size_t length = 0;
	ssize_t got;
	int fd = connect_arguments(arguments);

	start_ns = now_ns();
	if (send_pattern(fd, bytes) != 0 || shutdown(fd, SHUT_WR) != 0)
		fail("send");
	while (length < sizeof(answer) - 1 &&
	       (got = read(fd, answer + length, sizeof(answer) - 1 - length)) > 0)
		length += (size_t)got;
	snprintf(expected, sizeof(expected), "%llu ok\n", (unsigned long long)bytes);
	return print_verdict(bytes, start_ns, strcmp(answer, expected) == 0);
}

static int run_receive(char **arguments)
{
	int good, fd = connect_arguments(arguments);
	uint64_t start_ns = now_ns(), bytes = check_pattern(fd, &good);

	return print_verdict(bytes, start_ns, good);
}

static int compare_times(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return (a > b) - (a < b);
}

static double microseconds(const uint64_t *times_ns, uint64_t index)
{
	return (double)times_ns[index] / 1e3;
}

/* One message there and back, checked. */
static int round_trip(int fd, size_t length)
{
	static uint8_t back[CHUNK];

	return write_all(fd, pattern, length) == 0 && read_all(fd, back, length) == 0 &&
			       memcmp(back, pattern, length) == 0
		       ? 0
		       : -1;
}

static int run_ping(char **arguments)
{
	uint64_t rounds = number(arguments[2], MAX_ROUNDS);
	size_t length = arguments[3] ? (size_t)number(arguments[3], CHUNK) : 64;
	uint64_t *times = calloc(rounds, sizeof(*times));
	int fd = connect_arguments(arguments);

	if (!times || rounds == 0 || length == 0)
		usage();
	for (uint64_t i = 0; i < rounds; i++) {
		uint64_t start_ns = now_ns();

		if (round_trip(fd, length) != 0)
			fail("ping");
		times[i] = now_ns() - start_ns;
	}
	qsort(times, rounds, sizeof(*times), compare_times);
	printf("%llu rounds of %zu bytes: min %.1f median %.1f p99 %.1f max %.1f us\n",
	       (unsigned long long)rounds, length, microseconds(times, 0),
	       microseconds(times, rounds / 2), microseconds(times, rounds * 99 / 100),
	       microseconds(times, rounds - 1));
	free(times);
	return 0;
}

static int print_count(uint64_t good, uint64_t count)
{
	printf("%llu of %llu connections ok\n", (unsigned long long)good,
	       (unsigned long long)count);
	return good != count;
}

static int run_storm(char **arguments)
{
	uint64_t cid = number(arguments[0], UINT32_MAX), port = number(arguments[1], UINT32_MAX);
	uint64_t count = number(arguments[2], MAX_ROUNDS), good = 0;

	for (uint64_t i = 0; i < count; i++) {
		int fd = connect_to(cid, port);

		if (fd >= 0 && round_trip(fd, 64) == 0)
			good++;
		if (fd >= 0)
			close(fd);
	}
	return print_count(good, count);
}

static int run_hold(char **arguments)
{
	uint64_t cid = number(arguments[0], UINT32_MAX), port = number(arguments[1], UINT32_MAX);
	uint64_t count = number(arguments[2], MAX_ROUNDS), good = 0;
	int *fds = calloc(count, sizeof(*fds));

	if (!fds)
		fail("memory");
	for (uint64_t i = 0; i < count; i++)
		fds[i] = connect_to(cid, port);
	for (uint64_t i = 0; i < count; i++)
		if (fds[i] >= 0 && round_trip(fds[i], 64) == 0)
			good++;
	free(fds);
	return print_count(good, count);
}

static int copy_once(int from, int to)
{
	static uint8_t buffer[CHUNK];
	ssize_t got = read(from, buffer, sizeof(buffer));

	return got > 0 && write_all(to, buffer, (size_t)got) == 0 ? 0 : -1;
}

static int run_relay(char **arguments)
{
	int fd = connect_arguments(arguments);
	struct pollfd events[2] = {{.fd = 0, .events = POLLIN}, {.fd = fd, .events = POLLIN}};

	for (;;) {
		if (poll(events, 2, -1) < 0 && errno != EINTR)
			fail("poll");
		if (events[0].revents && copy_once(0, fd) != 0) {
			shutdown(fd, SHUT_WR);
			events[0].fd = -1;
		}
		if (events[1].revents && copy_once(fd, 1) != 0)
			return 0;
	}
}

static int run_cid(char **arguments)
{
	unsigned int cid;
	int fd = open("/dev/vsock", O_RDONLY | O_CLOEXEC);

	(void)arguments;
	if (fd < 0 || ioctl(fd, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid) != 0)
		fail("/dev/vsock");
	printf("%u\n", cid);
	return 0;
}

static const struct {
	const char *name;
	int arguments; /* at least so many */
	int (*serve)(int fd, char **arguments);
	int (*run)(char **arguments);
} modes[] = {
	{"echo", 1, serve_echo, NULL},     {"sink", 1, serve_sink, NULL},
	{"source", 2, serve_source, NULL}, {"exec", 2, serve_exec, NULL},
	{"relay", 2, NULL, run_relay},     {"send", 3, NULL, run_send},
	{"receive", 2, NULL, run_receive}, {"ping", 3, NULL, run_ping},
	{"storm", 3, NULL, run_storm},     {"hold", 3, NULL, run_hold},
	{"cid", 0, NULL, run_cid},
};

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	make_pattern();
	if (argc > 1 && strcmp(argv[1], "--seqpacket") == 0) {
		socket_type = SOCK_SEQPACKET;
		argc--, argv++;
	}
	for (size_t i = 0; argc > 1 && i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (strcmp(argv[1], modes[i].name) != 0)
			continue;
		if (argc - 2 < modes[i].arguments)
			usage();
		if (modes[i].run)
			return modes[i].run(argv + 2);
		return serve(modes[i].serve, number(argv[2], UINT32_MAX), argv + 3);
	}
	usage();
}
