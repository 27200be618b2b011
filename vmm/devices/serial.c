// SPDX-License-Identifier: Apache-2.0
/*
 * A 16550A serial port (National Semiconductor PC16550D).
 *
 * DOC: Sending is instantaneous: a byte written to THR is with the host before the write is over, so the transmitter is
 * always empty and THRE is pending again after each byte. Receiving is a FIFO of 64 bytes that the loop fills from the
 * console. While it is full the loop does not watch the console; the vCPU that makes room says so through room_fd,
 * because loop sources are the loop's alone.
 *
 * The interrupt line is edge-triggered: it is raised when a cause appears that was not there before, and causes that are
 * there already stay silent until the guest has taken them away.
 *
 * Locks: `lock` protects all registers and the FIFO and is held while a byte is sent; nothing else is taken under it.
 */
#include "vmm/devices/serial.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include "vmm/core/log.h"
#include "vmm/core/loop.h"
#include "vmm/core/metrics_groups.h"
#include "vmm/devices/console.h"

#define RX_BYTES 64u
/* Room that must be there before the console is watched again, so that a slow reader costs few wake-ups. */
#define RX_RESUME_ROOM 32u

/* Registers by offset; 0 and 1 are the divisor while LCR.DLAB is set. */
enum serial_register {
	REG_DATA = 0,
	REG_IER = 1,
	REG_IIR_FCR = 2,
	REG_LCR = 3,
	REG_MCR = 4,
	REG_LSR = 5,
	REG_MSR = 6,
	REG_SCR = 7,
};

enum {
	IER_RDI = 0x01,  /* received data */
	IER_THRI = 0x02, /* transmitter empty */
	IER_RLSI = 0x04, /* line status */
	IER_MSI = 0x08,  /* modem status */
	IER_MASK = 0x0f,

	IIR_MODEM = 0x00,
	IIR_NONE = 0x01,
	IIR_THRE = 0x02,
	IIR_DATA = 0x04,
	IIR_LINE = 0x06,
	IIR_TIMEOUT = 0x0c,
	IIR_FIFO = 0xc0,

	FCR_ENABLE = 0x01,
	FCR_CLEAR_RX = 0x02,
	FCR_TRIGGER_SHIFT = 6,

	LCR_DLAB = 0x80,

	MCR_DTR = 0x01,
	MCR_RTS = 0x02,
	MCR_OUT1 = 0x04,
	MCR_OUT2 = 0x08,
	MCR_LOOP = 0x10,
	MCR_MASK = 0x1f,

	LSR_DATA = 0x01,
	LSR_OVERRUN = 0x02,
	LSR_EMPTY = 0x60, /* transmitter holding register and shifter */

	MSR_DELTA_CTS = 0x01,
	MSR_DELTA_DSR = 0x02,
	MSR_TRAILING_RI = 0x04,
	MSR_DELTA_DCD = 0x08,
	MSR_DELTAS = 0x0f,
	MSR_CTS = 0x10,
	MSR_DSR = 0x20,
	MSR_RI = 0x40,
	MSR_DCD = 0x80,
	MSR_CONNECTED = MSR_CTS | MSR_DSR | MSR_DCD,
};

struct serial {
	pthread_mutex_t lock;
	uint8_t ier, fcr, lcr, mcr, msr, scr;
	uint8_t divisor[2];
	bool overrun;         /* LSR.OE, until LSR is read */
	bool thre_pending;    /* until IIR has named it or THR is written */
	uint8_t causes;       /* interrupt causes that were there when last looked, as IER bits */
	uint8_t rx[RX_BYTES]; /* ring */
	unsigned rx_first, rx_count;
	bool input_full; /* the loop does not watch the console until room_fd is written to */

	const struct irq_line *irq; /* borrowed */
	struct console console;
	bool input_enabled;        /* loop thread */
	int room_fd;               /* eventfd */
	struct loop_source *input; /* on the console; NULL: no input */
	struct loop_source *room;
};

/* ---- interrupts ---- */

static unsigned rx_trigger(const struct serial *serial)
{
	static const uint8_t levels[] = {1, 4, 8, 14};

	return serial->fcr & FCR_ENABLE ? levels[serial->fcr >> FCR_TRIGGER_SHIFT] : 1;
}

static uint8_t present_causes(const struct serial *serial)
{
	unsigned causes = 0;

	if (serial->rx_count)
		causes |= IER_RDI;
	if (serial->thre_pending)
		causes |= IER_THRI;
	if (serial->overrun)
		causes |= IER_RLSI;
	if (serial->msr & MSR_DELTAS)
		causes |= IER_MSI;
	return (uint8_t)(causes & serial->ier);
}

static void update_irq(struct serial *serial)
{
	uint8_t causes = present_causes(serial);
	uint8_t appeared = causes & (uint8_t)~serial->causes;

	serial->causes = causes;
	if (appeared)
		irq_raise(serial->irq);
}

/* The cause of the highest priority (PC16550D, table 5). */
static uint8_t identify(const struct serial *serial)
{
	uint8_t causes = present_causes(serial);

	if (causes & IER_RLSI)
		return IIR_LINE;
	if (causes & IER_RDI)
		return serial->rx_count >= rx_trigger(serial) ? IIR_DATA : IIR_TIMEOUT;
	if (causes & IER_THRI)
		return IIR_THRE;
	return causes & IER_MSI ? IIR_MODEM : IIR_NONE;
}

/* ---- receiving ---- */

static void clear_rx(struct serial *serial)
{
	serial->rx_first = 0;
	serial->rx_count = 0;
}

static void push_rx(struct serial *serial, uint8_t byte)
{
	if (serial->rx_count == RX_BYTES) {
		serial->overrun = true;
		return;
	}
	serial->rx[(serial->rx_first + serial->rx_count) % RX_BYTES] = byte;
	serial->rx_count++;
}

static uint8_t pop_rx(struct serial *serial)
{
	if (!serial->rx_count) {
		metric_add_shared(&process_metrics.uart.missed_read_count, 1);
		return 0;
	}
	uint8_t byte = serial->rx[serial->rx_first];

	serial->rx_first = (serial->rx_first + 1) % RX_BYTES;
	serial->rx_count--;
	metric_add_shared(&process_metrics.uart.read_count, 1);
	return byte;
}

/* The FIFO may have become emptier: has the loop watch the console again if it had stopped. */
static void announce_room(struct serial *serial)
{
	const uint64_t one = 1;

	if (!serial->input_full || RX_BYTES - serial->rx_count < RX_RESUME_ROOM)
		return;
	serial->input_full = false;
	ssize_t written = write(serial->room_fd, &one, sizeof(one));
	(void)written; /* a full counter wakes as well */
}

/* ---- registers ---- */

static uint8_t modem_lines(uint8_t mcr)
{
	unsigned lines = 0;

	if (!(mcr & MCR_LOOP))
		return MSR_CONNECTED;
	if (mcr & MCR_RTS)
		lines |= MSR_CTS;
	if (mcr & MCR_DTR)
		lines |= MSR_DSR;
	if (mcr & MCR_OUT1)
		lines |= MSR_RI;
	if (mcr & MCR_OUT2)
		lines |= MSR_DCD;
	return (uint8_t)lines;
}

static void set_modem_control(struct serial *serial, uint8_t value)
{
	unsigned old = serial->msr, new, deltas = old &MSR_DELTAS;

	serial->mcr = value & MCR_MASK;
	new = modem_lines(serial->mcr);
	if ((old ^ new) & MSR_CTS)
		deltas |= MSR_DELTA_CTS;
	if ((old ^ new) & MSR_DSR)
		deltas |= MSR_DELTA_DSR;
	if ((old & ~new) & MSR_RI)
		deltas |= MSR_TRAILING_RI;
	if ((old ^ new) & MSR_DCD)
		deltas |= MSR_DELTA_DCD;
	serial->msr = (uint8_t)(new | deltas);
}

static void set_fifo_control(struct serial *serial, uint8_t value)
{
	bool toggled = (value ^ serial->fcr) & FCR_ENABLE;

	metric_add_shared(&process_metrics.uart.flush_count, 1);
	if (toggled || (value & FCR_CLEAR_RX))
		clear_rx(serial);
	/* Without the enable bit the others are not programmed (PC16550D, 8.5). */
	serial->fcr = value & FCR_ENABLE ? value : 0;
}

static void transmit(struct serial *serial, uint8_t byte)
{
	if (serial->mcr & MCR_LOOP)
		push_rx(serial, byte);
	else
		console_put(&serial->console, byte);
	serial->thre_pending = true;
}

static void set_interrupt_enable(struct serial *serial, uint8_t value)
{
	uint8_t enabled = value & IER_MASK;

	/* The transmitter is empty, which is news to a driver that starts to listen for it. */
	if ((enabled & (uint8_t)~serial->ier) & IER_THRI)
		serial->thre_pending = true;
	serial->ier = enabled;
}

static uint8_t read_iir(struct serial *serial)
{
	uint8_t id = identify(serial);

	if (id == IIR_THRE)
		serial->thre_pending = false;
	return serial->fcr & FCR_ENABLE ? (uint8_t)(id | IIR_FIFO) : id;
}

static uint8_t read_lsr(struct serial *serial)
{
	unsigned status = LSR_EMPTY;

	if (serial->rx_count)
		status |= LSR_DATA;
	if (serial->overrun)
		status |= LSR_OVERRUN;
	serial->overrun = false;
	return (uint8_t)status;
}

static uint8_t read_msr(struct serial *serial)
{
	uint8_t status = serial->msr;

	serial->msr &= (uint8_t)~MSR_DELTAS;
	return status;
}

static uint8_t read_register(struct serial *serial, enum serial_register reg)
{
	bool dlab = serial->lcr & LCR_DLAB;

	switch (reg) {
	case REG_DATA:
		return dlab ? serial->divisor[0] : pop_rx(serial);
	case REG_IER:
		return dlab ? serial->divisor[1] : serial->ier;
	case REG_IIR_FCR:
		return read_iir(serial);
	case REG_LCR:
		return serial->lcr;
	case REG_MCR:
		return serial->mcr;
	case REG_LSR:
		return read_lsr(serial);
	case REG_MSR:
		return read_msr(serial);
	case REG_SCR:
		return serial->scr;
	}
	return 0;
}

static void write_register(struct serial *serial, enum serial_register reg, uint8_t value)
{
	bool dlab = serial->lcr & LCR_DLAB;

	switch (reg) {
	case REG_DATA:
		if (dlab)
			serial->divisor[0] = value;
		else
			transmit(serial, value);
		break;
	case REG_IER:
		if (dlab)
			serial->divisor[1] = value;
		else
			set_interrupt_enable(serial, value);
		break;
	case REG_IIR_FCR:
		set_fifo_control(serial, value);
		break;
	case REG_LCR:
		serial->lcr = value;
		break;
	case REG_MCR:
		set_modem_control(serial, value);
		break;
	case REG_SCR:
		serial->scr = value;
		break;
	case REG_LSR:
	case REG_MSR: /* for factory tests only */
		break;
	}
}

/* Registers are bytes; anything wider reads as zeroes and is not written. */
static void bus_read_serial(void *ctx, uint64_t offset, void *data, uint32_t len)
{
	struct serial *serial = ctx;
	uint8_t *out = data;

	if (len != 1) {
		memset(data, 0, len);
		metric_add_shared(&process_metrics.uart.missed_read_count, 1);
		return;
	}
	pthread_mutex_lock(&serial->lock);
	*out = read_register(serial, (enum serial_register)offset);
	announce_room(serial);
	update_irq(serial);
	pthread_mutex_unlock(&serial->lock);
}

static void bus_write_serial(void *ctx, uint64_t offset, const void *data, uint32_t len)
{
	struct serial *serial = ctx;
	const uint8_t *in = data;

	if (len != 1) {
		metric_add_shared(&process_metrics.uart.missed_write_count, 1);
		return;
	}
	pthread_mutex_lock(&serial->lock);
	write_register(serial, (enum serial_register)offset, *in);
	announce_room(serial);
	update_irq(serial);
	pthread_mutex_unlock(&serial->lock);
}

const struct bus_ops serial_bus_ops = {.read = bus_read_serial, .write = bus_write_serial};

/* ---- the console's input ---- */

static void watch_input(struct serial *serial, bool full)
{
	if (serial->input)
		loop_source_set_events(serial->input,
				       serial->input_enabled && !full ? LOOP_READ : 0);
}

/* Not more than there is room for; what the guest sends itself by loopback may fill the FIFO meanwhile, so under lock. */
static ssize_t receive(struct serial *serial, bool *full)
{
	uint8_t bytes[RX_BYTES];
	ssize_t count = 0;

	pthread_mutex_lock(&serial->lock);
	if (serial->rx_count < RX_BYTES)
		count = console_read(&serial->console, bytes, RX_BYTES - serial->rx_count);
	for (ssize_t i = 0; i < count; i++)
		push_rx(serial, bytes[i]);
	serial->input_full = serial->rx_count == RX_BYTES;
	*full = serial->input_full;
	update_irq(serial);
	pthread_mutex_unlock(&serial->lock);
	return count;
}

static void on_input(void *ctx, unsigned events)
{
	struct serial *serial = ctx;
	bool full;

	(void)events;
	if (receive(serial, &full) < 0) {
		loop_source_free(serial->input);
		serial->input = NULL;
		log_info("The serial port's input has ended.");
		return;
	}
	watch_input(serial, full);
}

static void on_room(void *ctx, unsigned events)
{
	struct serial *serial = ctx;
	uint64_t count;

	(void)events;
	ssize_t got = read(serial->room_fd, &count, sizeof(count));
	(void)got; /* only a signal; the state is under the lock */
	serial_set_input(serial, serial->input_enabled);
}

void serial_set_input(struct serial *serial, bool enabled)
{
	serial->input_enabled = enabled;
	pthread_mutex_lock(&serial->lock);
	bool full = serial->input_full;
	pthread_mutex_unlock(&serial->lock);
	watch_input(serial, full);
}

static int connect_input(struct serial *serial, struct loop *loop)
{
	if (serial->console.in_fd < 0)
		return 0;
	serial->room_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (serial->room_fd < 0)
		return -errno;
	serial->room = loop_add_fd(loop, serial->room_fd, LOOP_READ, on_room, serial);
	serial->input = loop_add_fd(loop, serial->console.in_fd, LOOP_READ, on_input, serial);
	return serial->room && serial->input ? 0 : -ENOMEM;
}

struct serial *serial_new(struct loop *loop, const struct irq_line *irq,
			  const struct serial_config *config, struct error *err)
{
	struct serial *serial = calloc(1, sizeof(*serial));

	if (!serial) {
		error_set_os(err, -ENOMEM, "No memory for the serial port");
		return NULL;
	}
	pthread_mutex_init(&serial->lock, NULL);
	serial->irq = irq;
	serial->room_fd = -1;
	serial->msr = MSR_CONNECTED;
	serial->input_enabled = true;
	int ret = console_open(&serial->console, config, err);
	if (!ret) {
		ret = connect_input(serial, loop);
		if (ret)
			error_set_os(err, ret, "Cannot watch the serial port's input");
	}
	if (ret) {
		serial_free(serial);
		return NULL;
	}
	return serial;
}

void serial_free(struct serial *serial)
{
	if (!serial)
		return;
	loop_source_free(serial->input);
	loop_source_free(serial->room);
	close_fd(serial->room_fd);
	console_close(&serial->console);
	pthread_mutex_destroy(&serial->lock);
	free(serial);
}

/* ---- snapshots ---- */

static void fields(struct state *s, void *object)
{
	struct serial *serial = object;
	uint32_t first = serial->rx_first, count = serial->rx_count;

	state_u8(s, "ier", &serial->ier);
	state_require(s, (serial->ier & ~IER_MASK) == 0, "ier", "known bits");
	state_u8(s, "fcr", &serial->fcr);
	state_u8(s, "lcr", &serial->lcr);
	state_u8(s, "mcr", &serial->mcr);
	state_u8(s, "msr", &serial->msr);
	state_u8(s, "scr", &serial->scr);
	state_bytes(s, "divisor", serial->divisor, sizeof(serial->divisor));
	state_bool(s, "overrun", &serial->overrun);
	state_bool(s, "thre_pending", &serial->thre_pending);
	state_u8(s, "causes", &serial->causes);
	state_bytes(s, "rx", serial->rx, sizeof(serial->rx));
	state_u32(s, "rx_first", &first);
	state_require(s, first < RX_BYTES, "rx_first", "a place in the FIFO");
	state_u32(s, "rx_count", &count);
	state_require(s, count <= RX_BYTES, "rx_count", "at most what the FIFO holds");
	if (state_failed(s))
		return;
	serial->rx_first = first;
	serial->rx_count = count;
	serial->input_full = count == RX_BYTES;
}

const struct state_kind serial_kind = {.name = "serial",
				       .version = 1,
				       .oldest = 1,
				       .fields = fields};

void serial_repeat_interrupt(struct serial *serial)
{
	pthread_mutex_lock(&serial->lock);
	if (present_causes(serial))
		irq_raise(serial->irq);
	pthread_mutex_unlock(&serial->lock);
}
