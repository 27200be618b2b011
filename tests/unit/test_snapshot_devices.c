// SPDX-License-Identifier: Apache-2.0
/* Devices that are saved and restored: what the guest finds again, and what it is told. */
#include "tests/unit/vsock_fixture.h"

#include "virtio/mmio.h"
#include "vmm/core/bus.h"
#include "vmm/devices/i8042.h"
#include "vmm/devices/serial.h"
#include "vmm/devices/vmclock.h"

enum { STATUS_RUNNING = 0x0f, EVENT_BYTES = 8 };

/* Saves the object as a section and opens the file again. */
static struct state_file saved(const struct state_kind *kind, void *object)
{
	struct state_file out, in;
	struct error err;

	assert_int_equal(state_file_new(&out, &err), 0);
	assert_int_equal(state_save(&out, kind, 0, object, &err), 0);
	state_file_finish(&out);
	assert_int_equal(state_file_open(&in, out.bytes, out.len, &err), 0);
	return in; /* its bytes are the other one's */
}

static void load(struct state_file *file, const struct state_kind *kind, void *object)
{
	struct error err;

	if (state_load(file, kind, 0, object, &err))
		fail_msg("%s", err.text);
	state_file_free(file);
}

/* ---- vsock ---- */

static void offer_event_buffer(void)
{
	uint64_t at = fake_ram_alloc(&f.ram, EVENT_BYTES, 8);

	fake_queue_add(&f.queues[VSOCK_QUEUE_EVENT], (struct fake_buf[]){{at, EVENT_BYTES, true}},
		       1);
}

/* The device in `f` becomes another one, restored from what the old one was, and runs. */
static void move_vsock(void)
{
	struct virtio_mmio mmio;
	struct state_file file;

	virtio_mmio_init(&mmio, f.dev);
	mmio.status = STATUS_RUNNING;
	virtio_device_pause(f.dev);
	file = saved(&virtio_mmio_kind, &mmio);
	virtio_device_free(f.dev);
	make_vsock();
	assert_int_equal(virtio_device_attach(f.dev, &f.ram.mem, f.loop, 5), 0);
	virtio_mmio_init(&mmio, f.dev);
	load(&file, &virtio_mmio_kind, &mmio);
	assert_int_equal(mmio.status, STATUS_RUNNING);
	assert_int_equal(virtio_device_restore(f.dev), 0);
	assert_true(f.dev->paused);
	virtio_device_resume(f.dev);
}

/* The TRANSPORT_RESET that the guest must find in its event queue. */
static void expect_reset_event(void)
{
	struct fake_used used;

	assert_true(fake_queue_take_used(&f.queues[VSOCK_QUEUE_EVENT], &used));
	assert_int_equal(used.len, 4);
	assert_int_not_equal(fake_device_take_irqs(f.dev), 0);
}

static void a_guest_hears_that_its_connections_are_gone(void **state)
{
	(void)state;
	offer_event_buffer();
	offer_event_buffer();
	offer_rx(4, RX_CHAIN_BYTES);
	move_vsock();
	expect_reset_event();
}

static void nothing_new_reaches_a_guest_that_has_not_heard(void **state)
{
	(void)state;
	offer_event_buffer();
	offer_rx(8, RX_CHAIN_BYTES);
	move_vsock();
	expect_reset_event();
	int fd = host_connect();

	host_write(fd, "CONNECT 52\n");
	run();
	guest_expect_none();
	offer_event_buffer(); /* the driver has looked at the event */
	fake_device_kick(f.dev, VSOCK_QUEUE_EVENT);
	run();
	assert_int_equal(guest_expect(VSOCK_OP_REQUEST).dst_port, 52);
	close(fd);
}

static void a_guest_without_event_buffers_hears_later(void **state)
{
	struct fake_used used;

	(void)state;
	offer_rx(8, RX_CHAIN_BYTES);
	move_vsock();
	assert_false(fake_queue_take_used(&f.queues[VSOCK_QUEUE_EVENT], &used));
	offer_event_buffer();
	fake_device_kick(f.dev, VSOCK_QUEUE_EVENT);
	run();
	expect_reset_event();
	offer_event_buffer();
	fake_device_kick(f.dev, VSOCK_QUEUE_EVENT);
	run();
	int fd = host_connect();

	host_write(fd, "CONNECT 52\n");
	run();
	guest_expect(VSOCK_OP_REQUEST);
	close(fd);
}

/* Saved before it looked at the first event: it has to look at both. */
static void a_guest_that_moves_twice_hears_twice(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++)
		offer_event_buffer();
	offer_rx(8, RX_CHAIN_BYTES);
	move_vsock();
	expect_reset_event();
	move_vsock();
	expect_reset_event();
	int fd = host_connect();

	host_write(fd, "CONNECT 52\n");
	run();
	offer_event_buffer(); /* the first event's */
	fake_device_kick(f.dev, VSOCK_QUEUE_EVENT);
	run();
	guest_expect_none();
	offer_event_buffer();
	fake_device_kick(f.dev, VSOCK_QUEUE_EVENT);
	run();
	guest_expect(VSOCK_OP_REQUEST);
	close(fd);
}

static void a_device_that_no_driver_has_started(void **state)
{
	struct virtio_mmio mmio;
	struct state_file file;

	(void)state;
	virtio_device_reset(f.dev);
	virtio_mmio_init(&mmio, f.dev);
	file = saved(&virtio_mmio_kind, &mmio);
	load(&file, &virtio_mmio_kind, &mmio);
	assert_int_equal(virtio_device_restore(f.dev), 0);
	assert_false(f.dev->activated);
}

static void another_cid_is_refused(void **state)
{
	struct virtio_mmio mmio;
	struct state_file file;
	struct error err;

	(void)state;
	virtio_mmio_init(&mmio, f.dev);
	mmio.status = STATUS_RUNNING;
	file = saved(&virtio_mmio_kind, &mmio);
	f.vs->guest_cid++;
	assert_int_equal(state_load(&file, &virtio_mmio_kind, 0, &mmio, &err), -EINVAL);
	assert_non_null(strstr(err.text, "field `guest_cid`: expected the configured one"));
	state_file_free(&file);
}

/* ---- platform devices ---- */

static uint8_t read_port(const struct bus_ops *ops, void *device, uint64_t offset)
{
	uint8_t value;

	ops->read(device, offset, &value, 1);
	return value;
}

static void write_port(const struct bus_ops *ops, void *device, uint64_t offset, uint8_t value)
{
	ops->write(device, offset, &value, 1);
}

static struct serial *make_serial(struct loop *loop, const struct irq_line *irq)
{
	static char path[] = "/dev/null";
	struct error err;
	struct serial *serial =
		serial_new(loop, irq, &(struct serial_config){.serial_out_path = path}, &err);

	assert_non_null(serial);
	return serial;
}

static void a_serial_port(void **state)
{
	struct irq_line irq = {.eventfd = -1};
	struct loop *loop = loop_new();
	struct serial *old = make_serial(loop, &irq), *new = make_serial(loop, &irq);
	struct state_file file;

	(void)state;
	write_port(&serial_bus_ops, old, 3, 0x80); /* the divisor */
	write_port(&serial_bus_ops, old, 0, 0x0c);
	write_port(&serial_bus_ops, old, 3, 0x03);
	write_port(&serial_bus_ops, old, 1, 0x05);
	write_port(&serial_bus_ops, old, 7, 0x5a);
	write_port(&serial_bus_ops, old, 4, 0x10); /* loopback, which fills the receiver */
	write_port(&serial_bus_ops, old, 0, 'x');
	write_port(&serial_bus_ops, old, 0, 'y');
	file = saved(&serial_kind, old);
	load(&file, &serial_kind, new);
	assert_int_equal(read_port(&serial_bus_ops, new, 7), 0x5a);
	assert_int_equal(read_port(&serial_bus_ops, new, 1), 0x05);
	assert_int_equal(read_port(&serial_bus_ops, new, 4), 0x10);
	assert_int_equal(read_port(&serial_bus_ops, new, 0), 'x');
	assert_int_equal(read_port(&serial_bus_ops, new, 0), 'y');
	write_port(&serial_bus_ops, new, 3, 0x80);
	assert_int_equal(read_port(&serial_bus_ops, new, 0), 0x0c);
	serial_free(old);
	serial_free(new);
	loop_free(loop);
}

static void no_reset(void *ctx)
{
	(void)ctx;
	fail_msg("nobody asked for a reset");
}

static void a_keyboard_controller(void **state)
{
	struct irq_line irq = {.eventfd = -1};
	struct i8042 *old = i8042_new(&irq, no_reset, NULL), *new = i8042_new(&irq, no_reset, NULL);
	struct state_file file;

	(void)state;
	write_port(&i8042_bus_ops, old, 4, 0x60); /* the configuration comes next */
	file = saved(&i8042_kind, old);
	load(&file, &i8042_kind, new);
	write_port(&i8042_bus_ops, new, 0, 0x45);
	i8042_send_ctrl_alt_del(new);
	file = saved(&i8042_kind, new);
	load(&file, &i8042_kind, old);
	write_port(&i8042_bus_ops, old, 4, 0x20);
	assert_int_equal(read_port(&i8042_bus_ops, old, 0), 0x45);
	assert_int_equal(read_port(&i8042_bus_ops, old, 0), 0x1d); /* the first key */
	i8042_free(old);
	i8042_free(new);
}

static void a_disrupted_clock(void **state)
{
	const uint64_t at = FAKE_RAM_BASE;
	struct fake_ram ram;
	struct error err;

	(void)state;
	fake_ram_init(&ram, MIB(1));
	const uint8_t *page = fake_ram_host(&ram, at);

	assert_int_equal(vmclock_init(&ram.mem, gpa(at), &err), 0);
	assert_int_equal(get_le32(page + 0xc), 0);
	for (unsigned i = 1; i <= 3; i++) {
		assert_int_equal(vmclock_disrupt(&ram.mem, gpa(at), &err), 0);
		assert_int_equal(get_le32(page + 0xc), 2 * i); /* the sequence: even */
		assert_int_equal(get_le64(page + 0x10), i);    /* disruptions */
		assert_int_equal(get_le64(page + 0x68), i);    /* generations */
	}
	fake_ram_free(&ram);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_guest_hears_that_its_connections_are_gone,
						vsock_setup, vsock_teardown),
		cmocka_unit_test_setup_teardown(nothing_new_reaches_a_guest_that_has_not_heard,
						vsock_setup, vsock_teardown),
		cmocka_unit_test_setup_teardown(a_guest_without_event_buffers_hears_later,
						vsock_setup, vsock_teardown),
		cmocka_unit_test_setup_teardown(a_guest_that_moves_twice_hears_twice, vsock_setup,
						vsock_teardown),
		cmocka_unit_test_setup_teardown(a_device_that_no_driver_has_started, vsock_setup,
						vsock_teardown),
		cmocka_unit_test_setup_teardown(another_cid_is_refused, vsock_setup,
						vsock_teardown),
		cmocka_unit_test(a_serial_port),
		cmocka_unit_test(a_keyboard_controller),
		cmocka_unit_test(a_disrupted_clock),
	};

	return RUN_TESTS(tests);
}
