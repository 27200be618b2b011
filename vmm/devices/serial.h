// SPDX-License-Identifier: Apache-2.0
/* A 16550A serial port. */
#ifndef DEVICES_SERIAL_H
#define DEVICES_SERIAL_H

#include <stdbool.h>
#include "snapshots/state.h"
#include "vmm/config.h"
#include "vmm/core/bus.h"
#include "vmm/core/error.h"
#include "vmm/core/irq.h"

#define SERIAL_PORTS 8u

struct loop;
struct serial;

/*
 * A port that is connected to the console of config. irq is borrowed for the port's life. Loop thread. NULL and a text
 * when the console cannot be opened. Freed by serial_free(), after the vCPUs have ended.
 */
struct serial *serial_new(struct loop *loop, const struct irq_line *irq,
			  const struct serial_config *config, struct error *err) must_check;
void serial_free(struct serial *serial);

/* Whether the port takes input from the host; it does from the start. Loop thread. */
void serial_set_input(struct serial *serial, bool enabled);

/* Its registers and what waits to be read, of struct serial; the vCPUs stand still. */
extern const struct state_kind serial_kind;

/* Raises the interrupt for what is pending: after a restore, when one may have been lost on its way. Loop thread. */
void serial_repeat_interrupt(struct serial *serial);

/* Any thread; ctx is the struct serial. */
extern const struct bus_ops serial_bus_ops;

#endif
