// SPDX-License-Identifier: Apache-2.0
/* What the monitor gives up before a guest runs, whoever started it. */
#ifndef VMM_PRIVILEGES_H
#define VMM_PRIVILEGES_H

#include "vmm/core/error.h"

/*
 * The calling thread's capabilities, for ever, out of every set: but for CAP_DAC_OVERRIDE, which a monitor that root
 * started without a jailer keeps, so that files named over the API open as they do before. 0 or -errno and a text.
 */
int privileges_drop(struct error *err) must_check;

/*
 * What belongs to the whole process: it is not dumpable, so that no other process of its user looks into it and no core
 * dump holds it; of its environment only the time zone is left; an executed program would get no descriptor. 0 or -errno
 * and a text.
 */
int privileges_close_process(struct error *err) must_check;

#endif
