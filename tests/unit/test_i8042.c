// SPDX-License-Identifier: Apache-2.0
/* The keyboard controller as drivers probe it, its keyboard, and the reset line. */
#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "vmm/core/metrics_groups.h"
#include "vmm/devices/i8042.h"

#define DATA   0
#define STATUS 4
#define OBF    0x01
#define AUX    0x20

struct fixture {
	struct irq_line irq;
	struct i8042 *i8042;
	unsigned resets;
};

static void count_reset(void *ctx)
{
	((struct fixture *)ctx)->resets++;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->irq.eventfd = eventfd(0, EFD_NONBLOCK);
	f->i8042 = i8042_new(&f->irq, count_reset, f);
	*state = f;
	return f->i8042 ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	i8042_free(f->i8042);
	close(f->irq.eventfd);
	free(f);
	return 0;
}

static uint8_t rd(struct fixture *f, uint64_t port)
{
	uint8_t value = 0xee;

	i8042_bus_ops.read(f->i8042, port, &value, 1);
	return value;
}

static void wr(struct fixture *f, uint64_t port, uint8_t value)
{
	i8042_bus_ops.write(f->i8042, port, &value, 1);
}

static uint64_t irqs(struct fixture *f)
{
	uint64_t count = 0;

	return read(f->irq.eventfd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

/* A byte that must be there. */
static uint8_t take(struct fixture *f)
{
	assert_int_equal(rd(f, STATUS) & (OBF | AUX), OBF);
	return rd(f, DATA);
}

static void assert_nothing_waits(struct fixture *f)
{
	assert_int_equal(rd(f, STATUS) & OBF, 0);
}

static void assert_takes(struct fixture *f, const uint8_t *expected, size_t count)
{
	for (size_t i = 0; i < count; i++)
		assert_int_equal(take(f), expected[i]);
	assert_nothing_waits(f);
}

static uint8_t config(struct fixture *f)
{
	wr(f, STATUS, 0x20);
	return take(f);
}

static void set_config(struct fixture *f, uint8_t value)
{
	wr(f, STATUS, 0x60);
	wr(f, DATA, value);
}

static void test_controller(void **state)
{
	struct fixture *f = *state;

	assert_nothing_waits(f);
	assert_int_equal(rd(f, STATUS) & 0x14, 0x14);
	wr(f, STATUS, 0xaa);
	assert_int_equal(take(f), 0x55);
	wr(f, STATUS, 0xab);
	assert_int_equal(take(f), 0x00);
	assert_int_equal(config(f), 0x65);
	set_config(f, 0x74);
	assert_int_equal(config(f), 0x74);
	wr(f, STATUS, 0xae);
	assert_int_equal(config(f), 0x64);
	wr(f, STATUS, 0xad);
	assert_int_equal(config(f), 0x74);
	wr(f, STATUS, 0xd0);
	assert_int_equal(take(f), 0x03);
	assert_int_equal(irqs(f), 0); /* replies are polled for */
}

static void test_status_tells_the_last_port(void **state)
{
	struct fixture *f = *state;

	wr(f, STATUS, 0xab);
	assert_int_equal(rd(f, STATUS) & 0x08, 0x08);
	rd(f, DATA);
	wr(f, DATA, 0xf4);
	assert_int_equal(rd(f, STATUS) & 0x08, 0);
}

/* How Linux looks for a mouse: each question is answered at once, and not by a mouse. */
static void test_no_mouse(void **state)
{
	struct fixture *f = *state;

	wr(f, STATUS, 0xd3);
	wr(f, DATA, 0x5a);
	assert_int_equal(take(f), 0x5a); /* on the keyboard's side */
	wr(f, STATUS, 0xa9);
	uint8_t test = take(f);
	assert_true(test != 0x00 && test != 0xfa && test != 0xff);
	wr(f, STATUS, 0xd4);
	wr(f, DATA, 0xf2);
	assert_int_equal(take(f), 0xfe);
	wr(f, STATUS, 0xa8);
	assert_int_equal(config(f) & 0x20, 0);
	wr(f, STATUS, 0xa7);
	assert_int_equal(config(f) & 0x20, 0x20);
}

/* What Linux's keyboard driver sends, in its order. */
static void test_keyboard_probe(void **state)
{
	struct fixture *f = *state;

	wr(f, DATA, 0xf2);
	assert_int_equal(irqs(f), 1);
	assert_int_equal(take(f), 0xfa);
	assert_int_equal(irqs(f), 1); /* one for each byte that becomes readable */
	assert_takes(f, (const uint8_t[]){0xab, 0x41}, 2);
	wr(f, DATA, 0xed);
	assert_takes(f, (const uint8_t[]){0xfa}, 1);
	wr(f, DATA, 0x00);
	assert_takes(f, (const uint8_t[]){0xfa}, 1);
	wr(f, DATA, 0xf3);
	wr(f, DATA, 0x00);
	assert_takes(f, (const uint8_t[]){0xfa, 0xfa}, 2);
	wr(f, DATA, 0xf4);
	assert_takes(f, (const uint8_t[]){0xfa}, 1);
}

static void test_keyboard_commands(void **state)
{
	struct fixture *f = *state;

	set_config(f, 0x05); /* no translation */
	wr(f, DATA, 0xf2);
	assert_takes(f, (const uint8_t[]){0xfa, 0xab, 0x83}, 3);
	wr(f, DATA, 0xff);
	assert_takes(f, (const uint8_t[]){0xfa, 0xaa}, 2);
	wr(f, DATA, 0xee);
	assert_takes(f, (const uint8_t[]){0xee}, 1);
	wr(f, DATA, 0xf0);
	wr(f, DATA, 0x00);
	assert_takes(f, (const uint8_t[]){0xfa, 0xfa, 0x02}, 3);
	wr(f, DATA, 0xed);
	wr(f, DATA, 0xf4); /* a command where an argument was due */
	assert_takes(f, (const uint8_t[]){0xfa, 0xfa}, 2);
	wr(f, DATA, 0x01);
	assert_takes(f, (const uint8_t[]){0xfe}, 1);
}

static void test_reply_before_keys(void **state)
{
	struct fixture *f = *state;

	wr(f, DATA, 0xee);
	assert_int_equal(config(f), 0x65);
	assert_takes(f, (const uint8_t[]){0xee}, 1);
}

static void test_keyboard_held_back(void **state)
{
	struct fixture *f = *state;

	wr(f, STATUS, 0xad);
	i8042_send_ctrl_alt_del(f->i8042);
	assert_nothing_waits(f);
	assert_int_equal(irqs(f), 0);
	wr(f, STATUS, 0xae);
	assert_int_equal(irqs(f), 1);
	assert_int_equal(take(f), 0x1d);
}

static void test_ctrl_alt_del(void **state)
{
	struct fixture *f = *state;

	i8042_send_ctrl_alt_del(f->i8042);
	assert_int_equal(irqs(f), 1);
	assert_takes(f, (const uint8_t[]){0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d}, 8);
	assert_int_equal(irqs(f), 7);
	set_config(f, 0x05);
	i8042_send_ctrl_alt_del(f->i8042);
	assert_takes(f,
		     (const uint8_t[]){0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0, 0x71, 0xf0, 0x11, 0xf0,
				       0x14},
		     11);
}

/* A guest without a keyboard driver: keys never go in by halves. */
static void test_ctrl_alt_del_unread(void **state)
{
	struct fixture *f = *state;
	uint64_t errors = metric_get(&process_metrics.i8042.error_count);

	for (int i = 0; i < 3; i++)
		i8042_send_ctrl_alt_del(f->i8042);
	assert_int_equal(metric_get(&process_metrics.i8042.error_count) - errors, 1);
	for (int i = 0; i < 16; i++)
		take(f);
	assert_nothing_waits(f);
}

static void test_scanning_disabled(void **state)
{
	struct fixture *f = *state;

	wr(f, DATA, 0xf5);
	assert_takes(f, (const uint8_t[]){0xfa}, 1);
	i8042_send_ctrl_alt_del(f->i8042);
	assert_nothing_waits(f);
}

static void test_no_interrupt_when_masked(void **state)
{
	struct fixture *f = *state;

	set_config(f, 0x44);
	wr(f, DATA, 0xee);
	assert_int_equal(irqs(f), 0);
	set_config(f, 0x45);
	assert_int_equal(irqs(f), 0); /* it has been readable all the time: pollers see it */
	assert_takes(f, (const uint8_t[]){0xee}, 1);
}

static void test_flood(void **state)
{
	struct fixture *f = *state;
	uint64_t errors = metric_get(&process_metrics.i8042.error_count);

	for (int i = 0; i < 100; i++)
		wr(f, DATA, 0xee);
	assert_int_equal(metric_get(&process_metrics.i8042.error_count) - errors, 84);
	for (int i = 0; i < 16; i++)
		assert_int_equal(take(f), 0xee);
	assert_nothing_waits(f);
	assert_int_equal(rd(f, DATA), 0xee); /* an empty controller repeats itself */
}

static void test_reset(void **state)
{
	struct fixture *f = *state;
	uint64_t resets = metric_get(&process_metrics.i8042.reset_count);

	wr(f, STATUS, 0xff); /* pulses no line */
	assert_int_equal(f->resets, 0);
	wr(f, STATUS, 0xfe);
	assert_int_equal(f->resets, 1);
	wr(f, STATUS, 0xd1);
	wr(f, DATA, 0x03);
	assert_int_equal(f->resets, 1);
	wr(f, STATUS, 0xd1);
	wr(f, DATA, 0x02);
	assert_int_equal(f->resets, 2);
	assert_int_equal(metric_get(&process_metrics.i8042.reset_count) - resets, 2);
}

static void test_odd_accesses(void **state)
{
	struct fixture *f = *state;
	uint64_t reads = metric_get(&process_metrics.i8042.missed_read_count);
	uint64_t writes = metric_get(&process_metrics.i8042.missed_write_count);
	uint32_t value = 0xfefefefe;

	i8042_bus_ops.write(f->i8042, DATA, &value, 4);
	i8042_bus_ops.write(f->i8042, 1, &value, 1);
	assert_int_equal(f->resets, 0);
	i8042_bus_ops.read(f->i8042, DATA, &value, 4);
	assert_int_equal(value, 0);
	assert_int_equal(rd(f, 2), 0);
	assert_nothing_waits(f);
	assert_int_equal(metric_get(&process_metrics.i8042.missed_read_count) - reads, 2);
	assert_int_equal(metric_get(&process_metrics.i8042.missed_write_count) - writes, 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_controller),
		TEST(test_status_tells_the_last_port),
		TEST(test_no_mouse),
		TEST(test_keyboard_probe),
		TEST(test_keyboard_commands),
		TEST(test_reply_before_keys),
		TEST(test_keyboard_held_back),
		TEST(test_ctrl_alt_del),
		TEST(test_ctrl_alt_del_unread),
		TEST(test_scanning_disabled),
		TEST(test_no_interrupt_when_masked),
		TEST(test_flood),
		TEST(test_reset),
		TEST(test_odd_accesses),
	};

	return RUN_TESTS(tests);
}
