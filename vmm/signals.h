// SPDX-License-Identifier: Apache-2.0
/* Signals and how the monitor ends: exit codes (§7.4), fatal-signal handlers, orderly SIGTERM and SIGINT. */
#ifndef VMM_SIGNALS_H
#define VMM_SIGNALS_H

#include "vmm/core/cleanup.h"
#include "vmm/core/error.h"

enum exit_code {
	EXIT_CODE_OK = 0,
	EXIT_CODE_GENERIC = 1,
	EXIT_CODE_UNEXPECTED = 2,
	EXIT_CODE_BAD_SYSCALL = 148,
	EXIT_CODE_SIGBUS = 149,
	EXIT_CODE_SIGSEGV = 150,
	EXIT_CODE_SIGXFSZ = 151,
	EXIT_CODE_BAD_CONFIGURATION = 152,
	EXIT_CODE_ARGUMENTS = 153,
	EXIT_CODE_SIGXCPU = 154,
	EXIT_CODE_SIGHUP = 156,
	EXIT_CODE_SIGILL = 157,
};

/* Installs the handlers that count, log, flush metrics and _exit with the code of the signal; SIGPIPE is counted only. */
int signals_install(struct error *err) must_check;

#endif
