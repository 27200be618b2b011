// SPDX-License-Identifier: Apache-2.0
/*
 * An 8042 keyboard controller with a keyboard and no mouse.
 *
 * DOC: Two parties stand behind port 0x60. The controller answers commands of port 0x64 with at most one byte (`reply`),
 * which is read before anything of the keyboard's. The keyboard answers command bytes of port 0x60 and sends scancodes;
 * all of that waits in one FIFO. Every probe of a driver is answered at once, because an unanswered one costs a guest's
 * boot half a second. The probes for an auxiliary port fail at once: the loop test's byte comes back on the keyboard's
 * side, the interface test reports a fault.
 *
 * The keyboard speaks scancode set 2; while the controller translates (the reset value of its configuration) the guest
 * sees set 1.
 *
 * Interrupts: one edge for each keyboard byte that becomes readable, when the configuration allows it. Replies to
 * commands are polled for and do not interrupt.
 *
 * Locks: `lock` protects everything; the reset callback runs outside of it.
 */
#include "vmm/devices/i8042.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "vmm/core/metrics_groups.h"

#define PORT_DATA   0u
#define PORT_STATUS 4u
#define FIFO_BYTES  16u

enum {
	STATUS_OUTPUT_FULL = 0x01,
	STATUS_SYSTEM = 0x04,  /* the self test has passed */
	STATUS_COMMAND = 0x08, /* the last write went to the command port */
	STATUS_UNLOCKED = 0x10,

	CONFIG_KEYBOARD_IRQ = 0x01,
	CONFIG_SYSTEM = 0x04,
	CONFIG_KEYBOARD_OFF = 0x10,
	CONFIG_AUX_OFF = 0x20,
	CONFIG_TRANSLATE = 0x40,
	CONFIG_AT_RESET = CONFIG_KEYBOARD_IRQ | CONFIG_SYSTEM | CONFIG_AUX_OFF | CONFIG_TRANSLATE,

	OUTPUT_PORT_NO_RESET = 0x01, /* low: the processor is held in reset */
	OUTPUT_PORT_A20 = 0x02,
};

/* Commands of port 0x64 */
enum {
	COMMAND_READ_CONFIG = 0x20,
	COMMAND_WRITE_CONFIG = 0x60,
	COMMAND_AUX_OFF = 0xa7,
	COMMAND_AUX_ON = 0xa8,
	COMMAND_AUX_TEST = 0xa9,
	COMMAND_SELF_TEST = 0xaa,
	COMMAND_KEYBOARD_TEST = 0xab,
	COMMAND_KEYBOARD_OFF = 0xad,
	COMMAND_KEYBOARD_ON = 0xae,
	COMMAND_READ_OUTPUT = 0xd0,
	COMMAND_WRITE_OUTPUT = 0xd1,
	COMMAND_KEYBOARD_LOOP = 0xd2,
	COMMAND_AUX_LOOP = 0xd3,
	COMMAND_AUX_SEND = 0xd4,
	COMMAND_PULSE = 0xf0, /* bits 0-3: lines of the output port that stay high */
};

enum {
	SELF_TEST_PASSED = 0x55,
	KEYBOARD_TEST_PASSED = 0x00,
	AUX_TEST_CLOCK_LOW = 0x01, /* nothing is connected */
	AUX_NO_DEVICE = 0xfe,
};

/* Commands to the keyboard and its answers */
enum {
	KEYBOARD_LEDS = 0xed,
	KEYBOARD_ECHO = 0xee,
	KEYBOARD_SCANCODE_SET = 0xf0,
	KEYBOARD_IDENTIFY = 0xf2,
	KEYBOARD_RATE = 0xf3,
	KEYBOARD_ENABLE = 0xf4,
	KEYBOARD_DISABLE = 0xf5,
	KEYBOARD_DEFAULTS = 0xf6,
	KEYBOARD_RESET = 0xff,

	ANSWER_ACK = 0xfa,
	ANSWER_RESEND = 0xfe,
	ANSWER_RESET_DONE = 0xaa,
	ANSWER_ID = 0xab,
	ANSWER_ID_MF2 = 0x83,
	ANSWER_ID_MF2_TRANSLATED = 0x41,
	SCANCODE_SET = 2,
};

struct i8042 {
	pthread_mutex_t lock;
	const struct irq_line *irq; /* borrowed */
	void (*reset)(void *ctx);
	void *ctx;

	uint8_t config;
	uint8_t output_port;
	uint8_t status_command; /* STATUS_COMMAND or 0 */
	uint8_t pending_command; /* a controller command that waits for its byte at port 0x60; 0: none */
	uint8_t pending_keyboard; /* the same for a keyboard command */
	bool scanning;            /* the keyboard sends keys */
	bool has_reply;
	uint8_t reply;
	uint8_t last_data; /* what port 0x60 reads as while nothing waits */
	uint8_t fifo[FIFO_BYTES];
	unsigned first, count;
};

static void push(struct i8042 *i8042, uint8_t byte)
{
	if (i8042->count == FIFO_BYTES) {
		metric_add_shared(&process_metrics.i8042.error_count, 1);
		return;
	}
	i8042->fifo[(i8042->first + i8042->count) % FIFO_BYTES] = byte;
	i8042->count++;
}

/* An edge for the byte at the FIFO's head. */
static void notify(const struct i8042 *i8042)
{
	if (i8042->count && !(i8042->config & CONFIG_KEYBOARD_OFF) &&
	    (i8042->config & CONFIG_KEYBOARD_IRQ))
		irq_raise(i8042->irq);
}

/* The keyboard's bytes are held back while its clock line is low. */
static bool keyboard_is_readable(const struct i8042 *i8042)
{
	return i8042->count && !(i8042->config & CONFIG_KEYBOARD_OFF);
}

static void set_reply(struct i8042 *i8042, uint8_t byte)
{
	i8042->has_reply = true;
	i8042->reply = byte;
}

static uint8_t read_data(struct i8042 *i8042)
{
	if (i8042->has_reply) {
		i8042->has_reply = false;
		i8042->last_data = i8042->reply;
	} else if (keyboard_is_readable(i8042)) {
		i8042->last_data = i8042->fifo[i8042->first];
		i8042->first = (i8042->first + 1) % FIFO_BYTES;
		i8042->count--;
		notify(i8042);
	}
	return i8042->last_data;
}

static uint8_t read_status(const struct i8042 *i8042)
{
	unsigned status = STATUS_UNLOCKED | i8042->status_command;

	if (i8042->config & CONFIG_SYSTEM)
		status |= STATUS_SYSTEM;
	if (i8042->has_reply || keyboard_is_readable(i8042))
		status |= STATUS_OUTPUT_FULL;
	return (uint8_t)status;
}

/* ---- the keyboard ---- */

static void identify(struct i8042 *i8042)
{
	push(i8042, ANSWER_ACK);
	push(i8042, ANSWER_ID);
	push(i8042, i8042->config & CONFIG_TRANSLATE ? ANSWER_ID_MF2_TRANSLATED : ANSWER_ID_MF2);
}

static void reset_keyboard(struct i8042 *i8042)
{
	i8042->count = 0;
	i8042->scanning = true;
	push(i8042, ANSWER_ACK);
	push(i8042, ANSWER_RESET_DONE);
}

static void keyboard_argument(struct i8042 *i8042, uint8_t byte)
{
	bool asks_for_set = i8042->pending_keyboard == KEYBOARD_SCANCODE_SET && byte == 0;

	i8042->pending_keyboard = 0;
	push(i8042, ANSWER_ACK);
	if (asks_for_set)
		push(i8042, SCANCODE_SET);
}

static void keyboard_command(struct i8042 *i8042, uint8_t command)
{
	switch (command) {
	case KEYBOARD_LEDS:
	case KEYBOARD_SCANCODE_SET:
	case KEYBOARD_RATE:
		i8042->pending_keyboard = command;
		push(i8042, ANSWER_ACK);
		break;
	case KEYBOARD_ECHO:
		push(i8042, KEYBOARD_ECHO);
		break;
	case KEYBOARD_IDENTIFY:
		identify(i8042);
		break;
	case KEYBOARD_RESET:
		reset_keyboard(i8042);
		break;
	case KEYBOARD_ENABLE:
	case KEYBOARD_DISABLE:
	case KEYBOARD_DEFAULTS:
		i8042->scanning = command != KEYBOARD_DISABLE;
		push(i8042, ANSWER_ACK);
		break;
	default:
		push(i8042, ANSWER_RESEND);
		break;
	}
}

static void keyboard_byte(struct i8042 *i8042, uint8_t byte)
{
	/* Sending to the keyboard lets its clock run again. */
	i8042->config &= (uint8_t)~CONFIG_KEYBOARD_OFF;
	if (i8042->pending_keyboard && byte < KEYBOARD_LEDS) {
		keyboard_argument(i8042, byte);
	} else {
		i8042->pending_keyboard = 0;
		keyboard_command(i8042, byte);
	}
	notify(i8042);
}

/* ---- the controller; each gives true when the guest has asked for a reset ---- */

static void write_config(struct i8042 *i8042, uint8_t value)
{
	bool was_readable = keyboard_is_readable(i8042);

	i8042->config = value;
	if (!was_readable)
		notify(i8042);
}

static bool write_output_port(struct i8042 *i8042, uint8_t value)
{
	i8042->output_port = value;
	return !(value & OUTPUT_PORT_NO_RESET);
}

static bool write_data(struct i8042 *i8042, uint8_t byte)
{
	uint8_t command = i8042->pending_command;

	i8042->pending_command = 0;
	switch (command) {
	case COMMAND_WRITE_CONFIG:
		write_config(i8042, byte);
		return false;
	case COMMAND_WRITE_OUTPUT:
		return write_output_port(i8042, byte);
	case COMMAND_KEYBOARD_LOOP:
		push(i8042, byte);
		notify(i8042);
		return false;
	case COMMAND_AUX_LOOP:
		set_reply(i8042, byte);
		return false;
	case COMMAND_AUX_SEND:
		set_reply(i8042, AUX_NO_DEVICE);
		return false;
	default:
		keyboard_byte(i8042, byte);
		return false;
	}
}

static bool write_command(struct i8042 *i8042, uint8_t command)
{
	i8042->pending_command = 0;
	if ((command & COMMAND_PULSE) == COMMAND_PULSE)
		return !(command & OUTPUT_PORT_NO_RESET);
	switch (command) {
	case COMMAND_READ_CONFIG:
		set_reply(i8042, i8042->config);
		break;
	case COMMAND_WRITE_CONFIG:
	case COMMAND_WRITE_OUTPUT:
	case COMMAND_KEYBOARD_LOOP:
	case COMMAND_AUX_LOOP:
	case COMMAND_AUX_SEND:
		i8042->pending_command = command;
		break;
	case COMMAND_AUX_OFF:
		i8042->config |= CONFIG_AUX_OFF;
		break;
	case COMMAND_AUX_ON:
		i8042->config &= (uint8_t)~CONFIG_AUX_OFF;
		break;
	case COMMAND_AUX_TEST:
		set_reply(i8042, AUX_TEST_CLOCK_LOW);
		break;
	case COMMAND_SELF_TEST:
		i8042->config |= CONFIG_SYSTEM;
		set_reply(i8042, SELF_TEST_PASSED);
		break;
	case COMMAND_KEYBOARD_TEST:
		set_reply(i8042, KEYBOARD_TEST_PASSED);
		break;
	case COMMAND_KEYBOARD_OFF:
		i8042->config |= CONFIG_KEYBOARD_OFF;
		break;
	case COMMAND_KEYBOARD_ON:
		write_config(i8042, i8042->config & (uint8_t)~CONFIG_KEYBOARD_OFF);
		break;
	case COMMAND_READ_OUTPUT:
		set_reply(i8042, i8042->output_port);
		break;
	default: /* unknown commands are ignored, as controllers do */
		metric_add_shared(&process_metrics.i8042.error_count, 1);
		break;
	}
	return false;
}

/* ---- the bus ---- */

static void bus_read_i8042(void *ctx, uint64_t offset, void *data, uint32_t len)
{
	struct i8042 *i8042 = ctx;
	uint8_t *out = data;

	memset(data, 0, len);
	if (len != 1 || (offset != PORT_DATA && offset != PORT_STATUS)) {
		metric_add_shared(&process_metrics.i8042.missed_read_count, 1);
		return;
	}
	metric_add_shared(&process_metrics.i8042.read_count, 1);
	pthread_mutex_lock(&i8042->lock);
	*out = offset == PORT_DATA ? read_data(i8042) : read_status(i8042);
	pthread_mutex_unlock(&i8042->lock);
}

static void bus_write_i8042(void *ctx, uint64_t offset, const void *data, uint32_t len)
{
	struct i8042 *i8042 = ctx;
	const uint8_t *in = data;

	if (len != 1 || (offset != PORT_DATA && offset != PORT_STATUS)) {
		metric_add_shared(&process_metrics.i8042.missed_write_count, 1);
		return;
	}
	metric_add_shared(&process_metrics.i8042.write_count, 1);
	pthread_mutex_lock(&i8042->lock);
	i8042->status_command = offset == PORT_STATUS ? STATUS_COMMAND : 0;
	bool reset = offset == PORT_DATA ? write_data(i8042, *in) : write_command(i8042, *in);
	pthread_mutex_unlock(&i8042->lock);
	if (reset) {
		metric_add_shared(&process_metrics.i8042.reset_count, 1);
		i8042->reset(i8042->ctx);
	}
}

const struct bus_ops i8042_bus_ops = {.read = bus_read_i8042, .write = bus_write_i8042};

void i8042_send_ctrl_alt_del(struct i8042 *i8042)
{
	static const uint8_t set1[] = {0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d};
	static const uint8_t set2[] = {0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0,
				       0x71, 0xf0, 0x11, 0xf0, 0x14};

	pthread_mutex_lock(&i8042->lock);
	bool translated = i8042->config & CONFIG_TRANSLATE;
	const uint8_t *codes = translated ? set1 : set2;
	size_t count = translated ? sizeof(set1) : sizeof(set2);
	bool was_empty = i8042->count == 0;

	/* All keys or none: half of them would leave a key pressed. */
	if (i8042->scanning && count <= FIFO_BYTES - i8042->count) {
		for (size_t i = 0; i < count; i++)
			push(i8042, codes[i]);
		if (was_empty)
			notify(i8042);
	} else {
		metric_add_shared(&process_metrics.i8042.error_count, 1);
	}
	pthread_mutex_unlock(&i8042->lock);
}

struct i8042 *i8042_new(const struct irq_line *irq, void (*reset)(void *ctx), void *ctx)
{
	struct i8042 *i8042 = malloc(sizeof(*i8042));

	if (!i8042)
		return NULL;
	*i8042 = (struct i8042){
		.irq = irq,
		.reset = reset,
		.ctx = ctx,
		.config = CONFIG_AT_RESET,
		.output_port = OUTPUT_PORT_NO_RESET | OUTPUT_PORT_A20,
		.scanning = true,
	};
	pthread_mutex_init(&i8042->lock, NULL);
	return i8042;
}

void i8042_free(struct i8042 *i8042)
{
	if (!i8042)
		return;
	pthread_mutex_destroy(&i8042->lock);
	free(i8042);
}

/* ---- snapshots ---- */

static void fields(struct state *s, void *object)
{
	struct i8042 *i8042 = object;
	uint32_t first = i8042->first, count = i8042->count;

	state_u8(s, "config", &i8042->config);
	state_u8(s, "output_port", &i8042->output_port);
	state_u8(s, "status_command", &i8042->status_command);
	state_u8(s, "pending_command", &i8042->pending_command);
	state_u8(s, "pending_keyboard", &i8042->pending_keyboard);
	state_bool(s, "scanning", &i8042->scanning);
	state_bool(s, "has_reply", &i8042->has_reply);
	state_u8(s, "reply", &i8042->reply);
	state_u8(s, "last_data", &i8042->last_data);
	state_bytes(s, "fifo", i8042->fifo, sizeof(i8042->fifo));
	state_u32(s, "first", &first);
	state_require(s, first < FIFO_BYTES, "first", "a place in the FIFO");
	state_u32(s, "count", &count);
	state_require(s, count <= FIFO_BYTES, "count", "at most what the FIFO holds");
	if (state_failed(s))
		return;
	i8042->first = first;
	i8042->count = count;
}

const struct state_kind i8042_kind = {.name = "i8042", .version = 1, .oldest = 1, .fields = fields};

void i8042_repeat_interrupt(struct i8042 *i8042)
{
	pthread_mutex_lock(&i8042->lock);
	notify(i8042);
	pthread_mutex_unlock(&i8042->lock);
}
