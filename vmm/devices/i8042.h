// SPDX-License-Identifier: Apache-2.0
/* The PC's keyboard controller with a keyboard that knows three keys, and the processor's reset line. */
#ifndef DEVICES_I8042_H
#define DEVICES_I8042_H

#include "snapshots/state.h"
#include "vmm/core/bus.h"
#include "vmm/core/irq.h"

#define I8042_PORTS 5u /* data at offset 0, status and command at 4; nothing between */

struct i8042;

/*
 * irq is borrowed for the controller's life. reset(ctx) runs on a vCPU's thread, perhaps on several at once and more
 * than once. NULL: no memory.
 */
struct i8042 *i8042_new(const struct irq_line *irq, void (*reset)(void *ctx), void *ctx) must_check;
void i8042_free(struct i8042 *i8042);

/* Presses and releases Ctrl+Alt+Del; lost (i8042.error_count) when the guest has left the keys before unread. Any thread. */
void i8042_send_ctrl_alt_del(struct i8042 *i8042);

/* Of struct i8042; the vCPUs stand still. */
extern const struct state_kind i8042_kind;

/* Raises the interrupt for a byte that waits: after a restore, when one may have been lost on its way. Any thread. */
void i8042_repeat_interrupt(struct i8042 *i8042);

/* Any thread; ctx is the struct i8042. */
extern const struct bus_ops i8042_bus_ops;

#endif
