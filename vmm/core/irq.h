// SPDX-License-Identifier: Apache-2.0
/* An edge-triggered interrupt line: an eventfd that KVM turns into an interrupt (irqfd). */
#ifndef BANTAM_CORE_IRQ_H
#define BANTAM_CORE_IRQ_H

#include <stdint.h>
#include <unistd.h>

struct irq_line {
	int eventfd;  /* -1: no line */
	uint32_t gsi; /* global system interrupt that the eventfd is bound to */
};

/* Raises the line. Any thread. A full counter (EAGAIN) means that an interrupt is pending already. */
static inline void irq_raise(const struct irq_line *line)
{
	const uint64_t one = 1;

	if (line->eventfd >= 0) {
		ssize_t written = write(line->eventfd, &one, sizeof(one));
		(void)written;
	}
}

#endif
