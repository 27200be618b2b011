// SPDX-License-Identifier: Apache-2.0
/* The serial port as a driver sees it, and its console: files, FIFOs, a terminal. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <pthread.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include "vmm/core/loop.h"
#include "vmm/core/metrics_groups.h"
#include "vmm/devices/console.h"
#include "vmm/devices/serial.h"

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR, FCR = IIR };

#define LSR_DR 0x01
#define LSR_OE 0x02

struct fixture {
	struct loop *loop;
	struct irq_line irq;
	struct serial *serial;
	int saved_stdin, feeder; /* feeder: the other end of the FIFO that is standard input */
	unsigned mismatches;     /* bytes that the guest did not expect */
	char folder[32], out[48], in[48];
};

static uint8_t rd(struct fixture *f, uint64_t reg)
{
	uint8_t value = 0xee;

	serial_bus_ops.read(f->serial, reg, &value, 1);
	return value;
}

static void wr(struct fixture *f, uint64_t reg, uint8_t value)
{
	serial_bus_ops.write(f->serial, reg, &value, 1);
}

static uint64_t irqs(struct fixture *f)
{
	uint64_t count = 0;

	return read(f->irq.eventfd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

static void make_port(struct fixture *f, struct serial_config config)
{
	struct error err = {0};

	f->serial = serial_new(f->loop, &f->irq, &config, &err);
	if (!f->serial)
		fail_msg("%s", err.text);
}

static void make_file_port(struct fixture *f)
{
	make_port(f, (struct serial_config){.serial_out_path = f->out});
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	strcpy(f->folder, "/tmp/test_serial.XXXXXX");
	if (!mkdtemp(f->folder))
		return -1;
	snprintf(f->out, sizeof(f->out), "%s/out", f->folder);
	snprintf(f->in, sizeof(f->in), "%s/in", f->folder);
	f->saved_stdin = dup(0);
	int null = open("/dev/null", O_RDONLY);
	dup2(null, 0);
	close(null);
	f->feeder = -1;
	f->loop = loop_new();
	f->irq.eventfd = eventfd(0, EFD_NONBLOCK);
	return f->loop ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	serial_free(f->serial);
	loop_free(f->loop);
	close(f->irq.eventfd);
	close_fd(f->feeder);
	dup2(f->saved_stdin, 0);
	close(f->saved_stdin);
	unlink(f->out);
	unlink(f->in);
	rmdir(f->folder);
	free(f);
	return 0;
}

static size_t read_file(const char *path, char *out, size_t size)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK);
	ssize_t len = read(fd, out, size - 1);

	close(fd);
	out[len > 0 ? len : 0] = '\0';
	return len > 0 ? (size_t)len : 0;
}

/* ---- registers ---- */

/* What Linux's 8250 driver does to find out which chip it has. */
static void test_probe(void **state)
{
	struct fixture *f = *state;

	make_file_port(f);
	wr(f, IER, 0x0f);
	assert_int_equal(rd(f, IER), 0x0f);
	wr(f, IER, 0xff);
	assert_int_equal(rd(f, IER), 0x0f);
	wr(f, IER, 0);
	wr(f, MCR, 0x1a); /* loop, OUT2, RTS */
	assert_int_equal(rd(f, MSR) & 0xf0, 0x90);
	wr(f, MCR, 0x08);
	assert_int_equal(rd(f, MSR) & 0xf0, 0xb0);
	assert_int_equal(rd(f, IIR) >> 6, 0);
	wr(f, FCR, 0x01);
	assert_int_equal(rd(f, IIR) >> 6, 3);
	wr(f, FCR, 0x21); /* a 16750 would show bit 5 */
	assert_int_equal(rd(f, IIR) & 0x20, 0);
	wr(f, FCR, 0);
	assert_int_equal(rd(f, IIR) >> 6, 0);
	wr(f, SCR, 0x5a);
	assert_int_equal(rd(f, SCR), 0x5a);
	assert_int_equal(rd(f, LSR), 0x60);
}

static void test_divisor(void **state)
{
	struct fixture *f = *state;
	char text[8];

	make_file_port(f);
	wr(f, LCR, 0x83);
	assert_int_equal(rd(f, LCR), 0x83);
	wr(f, DATA, 1);
	wr(f, IER, 2);
	assert_int_equal(rd(f, DATA), 1);
	assert_int_equal(rd(f, IER), 2);
	wr(f, LCR, 0x03);
	assert_int_equal(rd(f, IER), 0);
	assert_int_equal(read_file(f->out, text, sizeof(text)), 0);
}

static void test_transmit(void **state)
{
	struct fixture *f = *state;
	uint64_t before = metric_get(&process_metrics.uart.write_count);
	char text[16];

	make_file_port(f);
	for (const char *c = "hello\n"; *c; c++)
		wr(f, DATA, (uint8_t)*c);
	assert_int_equal(read_file(f->out, text, sizeof(text)), 6);
	assert_string_equal(text, "hello\n");
	assert_int_equal(metric_get(&process_metrics.uart.write_count) - before, 6);
}

static void test_transmit_interrupts(void **state)
{
	struct fixture *f = *state;

	make_file_port(f);
	wr(f, DATA, 'a');
	assert_int_equal(irqs(f), 0);
	wr(f, IER, 0x02); /* an empty transmitter is news to who begins to listen */
	assert_int_equal(irqs(f), 1);
	assert_int_equal(rd(f, IIR), 0x02);
	assert_int_equal(rd(f, IIR), 0x01);
	for (int i = 0; i < 16; i++)
		wr(f, DATA, 'b');
	assert_int_equal(irqs(f), 1); /* one edge until IIR is read */
	assert_int_equal(rd(f, IIR), 0x02);
	wr(f, DATA, 'c');
	assert_int_equal(irqs(f), 1);
	wr(f, IER, 0);
	assert_int_equal(rd(f, IIR), 0x01);
	wr(f, IER, 0x02);
	assert_int_equal(irqs(f), 1);
}

static void test_loopback(void **state)
{
	struct fixture *f = *state;
	char text[8];

	make_file_port(f);
	wr(f, FCR, 0xc1); /* FIFOs, trigger at 14 */
	wr(f, MCR, 0x10);
	wr(f, IER, 0x05);
	wr(f, DATA, 'x');
	assert_int_equal(irqs(f), 1);
	assert_int_equal(rd(f, IIR), 0xcc); /* fewer than the trigger: time-out */
	for (int i = 1; i < 64; i++)
		wr(f, DATA, (uint8_t)i);
	assert_int_equal(irqs(f), 0);
	assert_int_equal(rd(f, IIR), 0xc4);
	wr(f, DATA, 'y');
	assert_int_equal(irqs(f), 1);
	assert_int_equal(rd(f, IIR), 0xc6); /* line status comes first */
	assert_int_equal(rd(f, LSR) & (LSR_OE | LSR_DR), LSR_OE | LSR_DR);
	assert_int_equal(rd(f, LSR) & LSR_OE, 0);
	assert_int_equal(rd(f, DATA), 'x');
	for (int i = 1; i < 64; i++)
		assert_int_equal(rd(f, DATA), i);
	assert_int_equal(rd(f, LSR) & LSR_DR, 0);
	assert_int_equal(rd(f, DATA), 0);
	assert_int_equal(rd(f, IIR), 0xc1);
	assert_int_equal(read_file(f->out, text, sizeof(text)), 0);
}

static void test_clear_fifo(void **state)
{
	struct fixture *f = *state;

	make_file_port(f);
	wr(f, FCR, 0x01);
	wr(f, MCR, 0x10);
	wr(f, DATA, 'x');
	wr(f, FCR, 0x03);
	assert_int_equal(rd(f, LSR) & LSR_DR, 0);
	wr(f, DATA, 'y');
	wr(f, FCR, 0x00);
	assert_int_equal(rd(f, LSR) & LSR_DR, 0);
}

static void test_modem_status(void **state)
{
	struct fixture *f = *state;

	make_file_port(f);
	wr(f, MCR, 0x10);
	assert_int_equal(rd(f, MSR), 0x0b); /* CTS, DSR and DCD have fallen */
	assert_int_equal(rd(f, MSR), 0x00);
	wr(f, IER, 0x08);
	wr(f, MCR, 0x1f);
	assert_int_equal(irqs(f), 1);
	assert_int_equal(rd(f, IIR), 0x00);
	assert_int_equal(rd(f, MSR), 0xfb);
	assert_int_equal(rd(f, IIR), 0x01);
	wr(f, MCR, 0x1b);
	assert_int_equal(rd(f, MSR), 0xb4); /* the ring indicator's trailing edge */
	wr(f, MCR, 0xff);
	assert_int_equal(rd(f, MCR), 0x1f);
}

static void test_wide_accesses(void **state)
{
	struct fixture *f = *state;
	uint64_t reads = metric_get(&process_metrics.uart.missed_read_count);
	uint64_t writes = metric_get(&process_metrics.uart.missed_write_count);
	uint32_t value = 0x41414141;
	char text[8];

	make_file_port(f);
	serial_bus_ops.write(f->serial, DATA, &value, 4);
	serial_bus_ops.write(f->serial, SCR - 1, &value, 2);
	serial_bus_ops.read(f->serial, LCR, &value, 4);
	assert_int_equal(value, 0);
	assert_int_equal(rd(f, SCR), 0);
	assert_int_equal(metric_get(&process_metrics.uart.missed_read_count) - reads, 1);
	assert_int_equal(metric_get(&process_metrics.uart.missed_write_count) - writes, 2);
	assert_int_equal(read_file(f->out, text, sizeof(text)), 0);
}

/* ---- the console ---- */

static void test_output_that_blocks(void **state)
{
	struct fixture *f = *state;
	uint64_t missed = metric_get(&process_metrics.uart.missed_write_count);

	assert_int_equal(mkfifo(f->out, 0600), 0);
	int reader = open(f->out, O_RDONLY | O_NONBLOCK);
	fcntl(reader, F_SETPIPE_SZ, 4096);
	make_file_port(f);
	for (int i = 0; i < 5000; i++)
		wr(f, DATA, 'x');
	assert_int_equal(metric_get(&process_metrics.uart.missed_write_count) - missed,
			 5000 - 4096);
	close(reader);
}

static void test_output_that_is_refused(void **state)
{
	struct fixture *f = *state;
	uint64_t errors = metric_get(&process_metrics.uart.error_count);
	char full[] = "/dev/full";

	make_port(f, (struct serial_config){.serial_out_path = full});
	wr(f, DATA, 'x');
	assert_int_equal(metric_get(&process_metrics.uart.error_count) - errors, 1);
}

static void test_bad_path(void **state)
{
	struct fixture *f = *state;
	char nowhere[] = "/nonexistent/out";
	struct serial_config config = {.serial_out_path = nowhere};
	struct error err = {0};

	assert_null(serial_new(f->loop, &f->irq, &config, &err));
	assert_int_equal(err.code, -ENOENT);
	assert_non_null(strstr(err.text, nowhere));
}

static void test_rate_limit(void **state)
{
	struct fixture *f = *state;
	struct serial_config config = {
		.serial_out_path = f->out,
		.rate_limiter = {.size = 10, .refill_time_ms = 3600000, .one_time_burst = 5},
		.has_rate_limiter = true,
	};
	uint64_t dropped = metric_get(&process_metrics.uart.rate_limiter_dropped_bytes);
	char text[64];

	make_port(f, config);
	for (int i = 0; i < 40; i++)
		wr(f, DATA, (uint8_t)('0' + i % 10));
	assert_int_equal(read_file(f->out, text, sizeof(text)), 15);
	assert_string_equal(text, "012345678901234");
	assert_int_equal(metric_get(&process_metrics.uart.rate_limiter_dropped_bytes) - dropped,
			 25);
}

static void make_input(struct fixture *f)
{
	assert_int_equal(mkfifo(f->in, 0600), 0);
	f->feeder = open(f->in, O_RDWR);
	int fd = open(f->in, O_RDONLY);
	dup2(fd, 0);
	close(fd);
}

#define INPUT_BYTES 1000

/* A guest that polls for a thousand bytes on a vCPU's thread and ends the loop when it has them. */
static void *guest(void *arg)
{
	struct fixture *f = arg;

	for (int i = 0; i < INPUT_BYTES; i++) {
		while (!(rd(f, LSR) & LSR_DR))
			sched_yield();
		f->mismatches += rd(f, DATA) != (i & 0xff);
	}
	loop_stop(f->loop);
	return NULL;
}

static void test_input(void **state)
{
	struct fixture *f = *state;
	uint8_t bytes[INPUT_BYTES];
	pthread_t thread;

	make_input(f);
	make_file_port(f);
	for (int i = 0; i < INPUT_BYTES; i++)
		bytes[i] = (uint8_t)i;
	assert_int_equal(write(f->feeder, bytes, sizeof(bytes)), INPUT_BYTES);
	pthread_create(&thread, NULL, guest, f);
	assert_int_equal(loop_run(f->loop), 0);
	pthread_join(thread, NULL);
	assert_int_equal(f->mismatches, 0);
}

/* Lets the loop handle all that is there to handle; one round may make work for the next. */
static void settle(struct fixture *f)
{
	for (int i = 0; i < 4; i++)
		assert_true(event_base_loop(loop_event_base(f->loop), EVLOOP_NONBLOCK) >= 0);
}

static int bytes_in_pipe(struct fixture *f)
{
	int count = -1;

	assert_int_equal(ioctl(f->feeder, FIONREAD, &count), 0);
	return count;
}

/* What the guest does not read stays with the host. */
static void test_input_is_bounded(void **state)
{
	struct fixture *f = *state;
	uint8_t bytes[200] = {0};

	make_input(f);
	make_file_port(f);
	wr(f, IER, 0x01);
	assert_int_equal(write(f->feeder, bytes, sizeof(bytes)), sizeof(bytes));
	settle(f);
	assert_int_equal(bytes_in_pipe(f), 200 - 64);
	assert_int_equal(irqs(f), 1);
	for (int i = 0; i < 31; i++)
		rd(f, DATA);
	settle(f);
	assert_int_equal(bytes_in_pipe(f), 200 - 64);
	rd(f, DATA);
	settle(f);
	assert_int_equal(bytes_in_pipe(f), 200 - 64 - 32);
}

static void test_input_switched_off(void **state)
{
	struct fixture *f = *state;

	make_input(f);
	make_file_port(f);
	serial_set_input(f->serial, false);
	assert_int_equal(write(f->feeder, "x", 1), 1);
	settle(f);
	assert_int_equal(bytes_in_pipe(f), 1);
	serial_set_input(f->serial, true);
	settle(f);
	assert_int_equal(bytes_in_pipe(f), 0);
	assert_int_equal(rd(f, DATA), 'x');
}

static void test_input_ends(void **state)
{
	struct fixture *f = *state;

	make_input(f);
	make_file_port(f);
	assert_int_equal(write(f->feeder, "z", 1), 1);
	close(f->feeder);
	f->feeder = -1;
	settle(f);
	assert_int_equal(rd(f, DATA), 'z');
	settle(f);
	serial_set_input(f->serial, true);
	assert_int_equal(rd(f, LSR) & LSR_DR, 0);
}

/* In a session of its own with a terminal, as a child, because the terminal becomes the controlling one. */
static int terminal_session(int terminal)
{
	struct serial_config config = {0};
	struct termios before, during, after;
	struct console console;
	struct error err = {0};

	setsid();
	if (ioctl(terminal, TIOCSCTTY, 0) < 0 || dup2(terminal, 0) < 0 || dup2(terminal, 1) < 0)
		return 1;
	int flags = fcntl(0, F_GETFL);
	if (tcgetattr(0, &before) < 0 || console_open(&console, &config, &err) < 0)
		return 2;
	if (console.in_fd != 0 || console.out_fd != 1 || tcgetattr(0, &during) < 0)
		return 3;
	if ((during.c_lflag & (ICANON | ECHO | ISIG)) || !(fcntl(0, F_GETFL) & O_NONBLOCK))
		return 4;
	console_put(&console, 'Q');
	console_close(&console);
	if (tcgetattr(0, &after) < 0 || after.c_lflag != before.c_lflag)
		return 5;
	return fcntl(0, F_GETFL) == flags ? 0 : 6;
}

static void test_terminal(void **state)
{
	int controller, terminal, status;
	char byte = 0;

	(void)state;
	assert_int_equal(openpty(&controller, &terminal, NULL, NULL, NULL), 0);
	pid_t child = fork();
	if (child == 0)
		_exit(terminal_session(terminal));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(read(controller, &byte, 1), 1);
	assert_int_equal(byte, 'Q');
	close(controller);
	close(terminal);
}

/* A terminal that is not this process's own: touching it would stop a job in the background. */
static void test_foreign_terminal(void **state)
{
	struct serial_config config = {.serial_out_path = ((struct fixture *)*state)->out};
	struct termios before, during;
	struct console console;
	struct error err = {0};
	int controller, terminal;

	assert_int_equal(openpty(&controller, &terminal, NULL, NULL, NULL), 0);
	dup2(terminal, 0);
	assert_int_equal(tcgetattr(0, &before), 0);
	assert_int_equal(console_open(&console, &config, &err), 0);
	assert_int_equal(console.in_fd, -1);
	assert_int_equal(tcgetattr(0, &during), 0);
	assert_int_equal(during.c_lflag, before.c_lflag);
	console_close(&console);
	close(controller);
	close(terminal);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_probe),
		TEST(test_divisor),
		TEST(test_transmit),
		TEST(test_transmit_interrupts),
		TEST(test_loopback),
		TEST(test_clear_fifo),
		TEST(test_modem_status),
		TEST(test_wide_accesses),
		TEST(test_output_that_blocks),
		TEST(test_output_that_is_refused),
		TEST(test_bad_path),
		TEST(test_rate_limit),
		TEST(test_input),
		TEST(test_input_is_bounded),
		TEST(test_input_switched_off),
		TEST(test_input_ends),
		TEST(test_terminal),
		TEST(test_foreign_terminal),
	};

	return RUN_TESTS(tests);
}
