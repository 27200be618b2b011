// SPDX-License-Identifier: Apache-2.0
/*
 * Serial port, keyboard controller and power registers under arbitrary accesses: each 4 bytes of input are one access
 * (device and direction, offset, width, value). What the guest can read about them must stay true to itself.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "vmm/core/log.h"
#include "vmm/core/loop.h"
#include "vmm/devices/acpi_pm.h"
#include "vmm/devices/i8042.h"
#include "vmm/devices/serial.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void count_end(void *ctx)
{
	(*(unsigned *)ctx)++;
}

static void check(bool holds, const char *what)
{
	if (!holds) {
		fprintf(stderr, "does not hold: %s\n", what);
		abort();
	}
}

static uint8_t read_byte(const struct bus *bus, uint64_t port)
{
	uint8_t value = 0xee;

	check(bus_read(bus, port, &value, 1), "the port is claimed");
	return value;
}

/* The receiver holds 64 bytes at most, and says so for as long as there are any. */
static void drain_serial(const struct bus *bus)
{
	uint8_t no_divisor = 0x03;
	unsigned count = 0;

	bus_write(bus, LAYOUT_PORT_SERIAL + 3, &no_divisor, 1);
	while (read_byte(bus, LAYOUT_PORT_SERIAL + 5) & 0x01) {
		read_byte(bus, LAYOUT_PORT_SERIAL);
		check(++count <= 64, "at most 64 bytes");
	}
	check((read_byte(bus, LAYOUT_PORT_SERIAL + 5) & 0x60) == 0x60, "transmitter empty");
}

/* One reply and 16 bytes of the keyboard's. */
static void drain_keyboard(const struct bus *bus)
{
	uint8_t keyboard_on = 0xae;
	unsigned count = 0;

	bus_write(bus, LAYOUT_PORT_I8042 + 4, &keyboard_on, 1);
	while (read_byte(bus, LAYOUT_PORT_I8042 + 4) & 0x01) {
		read_byte(bus, LAYOUT_PORT_I8042);
		check(++count <= 17, "at most 17 bytes");
	}
}

static void access_port(const struct bus *bus, const uint8_t *in)
{
	static const uint16_t bases[] = {LAYOUT_PORT_SERIAL, LAYOUT_PORT_I8042, LAYOUT_PORT_SLEEP};
	uint64_t port = bases[in[0] % 3] + (in[1] & 7u);
	uint32_t width = 1u << (in[2] & 3);
	uint8_t value[8];

	memset(value, in[3], sizeof(value));
	if (in[0] & 0x80)
		bus_write(bus, port, value, width);
	else
		bus_read(bus, port, value, width);
}

static struct bus make_bus(struct serial *serial, struct i8042 *i8042, struct acpi_pm *pm)
{
	struct bus bus = {.count = 0};

	check(!bus_add(&bus, LAYOUT_PORT_SERIAL, SERIAL_PORTS, &serial_bus_ops, serial) &&
		      !bus_add(&bus, LAYOUT_PORT_I8042, I8042_PORTS, &i8042_bus_ops, i8042) &&
		      !bus_add(&bus, LAYOUT_PORT_SLEEP, ACPI_PM_PORTS, &acpi_pm_bus_ops, pm),
	      "room on the bus");
	return bus;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct loop *loop; /* the serial port watches nothing with it */
	char null[] = "/dev/null";
	const struct serial_config config = {.serial_out_path = null};
	const struct irq_line irq = {.eventfd = -1};
	struct error err = {0};
	unsigned ends = 0;

	if (!loop)
		loop = loop_new();
	struct serial *serial = serial_new(loop, &irq, &config, &err);
	struct i8042 *i8042 = i8042_new(&irq, count_end, &ends);
	struct acpi_pm *pm = acpi_pm_new(count_end, count_end, &ends);
	struct bus bus = make_bus(serial, i8042, pm);
	for (; size >= 4; data += 4, size -= 4) {
		access_port(&bus, data);
		if (data[0] == 0x7f)
			i8042_send_ctrl_alt_del(i8042);
	}
	drain_serial(&bus);
	drain_keyboard(&bus);
	serial_free(serial);
	i8042_free(i8042);
	acpi_pm_free(pm);
	return 0;
}
