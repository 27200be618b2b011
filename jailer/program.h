// SPDX-License-Identifier: Apache-2.0
/* Executes the program in the jail. */
#ifndef BANTAM_JAILER_PROGRAM_H
#define BANTAM_JAILER_PROGRAM_H

#include <stdint.h>
#include "jailer/fail.h"
#include "jailer/journal.h"
#include "jailer/plan.h"

/* For the program's start-up metrics, in microseconds. */
struct program_times {
	uint64_t start_us;      /* CLOCK_MONOTONIC when the jailer started */
	uint64_t start_cpu_us;  /* this process's CPU clock at the exec */
	uint64_t parent_cpu_us; /* CPU time that the jailer took */
};

/* exec_fd: the program (EXEC_COPY_MEMFD), or -1 for the one in the jail. No environment. The journal's stage
 * says STAGE_EXEC from the call on. Returns -errno or not at all. */
int program_execute(const struct jail_plan *plan, const struct program_times *times, int exec_fd,
		    struct journal *journal, struct jail_error *error);

#endif
