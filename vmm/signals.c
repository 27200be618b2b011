// SPDX-License-Identifier: Apache-2.0
/*
 * Signal handlers.
 *
 * DOC: A fatal signal may strike anywhere, also inside malloc or with a lock held. What the handlers call takes no lock
 * and allocates nothing: log_write_signal(), metrics_flush_fatal(), console_restore_terminal(), _exit(). A second fault
 * of the same kind inside a handler is the kernel's to end. SIGTERM and SIGINT are not here: the loop reads them.
 */
#include "vmm/signals.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <unistd.h>
#include "vmm/core/log.h"
#include "vmm/core/metrics_groups.h"
#include "vmm/devices/console.h"
#include "vmm/seccomp.h"

#ifndef SYS_SECCOMP
#define SYS_SECCOMP \
	1 /* si_code of a SIGSYS that a seccomp filter sent; not in every C library's headers */
#endif

struct fatal_signal {
	int number;
	enum exit_code exit_code;
	metric_t *metric; /* NULL: counted elsewhere */
};

static const struct fatal_signal fatal_signals[] = {
	{SIGSYS, EXIT_CODE_BAD_SYSCALL, NULL},
	{SIGBUS, EXIT_CODE_SIGBUS, &process_metrics.signals.sigbus},
	{SIGSEGV, EXIT_CODE_SIGSEGV, &process_metrics.signals.sigsegv},
	{SIGXFSZ, EXIT_CODE_SIGXFSZ, &process_metrics.signals.sigxfsz},
	{SIGXCPU, EXIT_CODE_SIGXCPU, &process_metrics.signals.sigxcpu},
	{SIGHUP, EXIT_CODE_SIGHUP, &process_metrics.signals.sighup},
	{SIGILL, EXIT_CODE_SIGILL, &process_metrics.signals.sigill},
};

#define FATAL_SIGNALS (sizeof(fatal_signals) / sizeof(fatal_signals[0]))

static enum exit_code report_fatal(int number, const siginfo_t *info)
{
	enum exit_code exit_code = EXIT_CODE_UNEXPECTED;

	log_write_signal(LOG_LEVEL_ERROR, __FILE__, __LINE__,
			 "Shutting down VM after intercepting signal %d, code %d.", number,
			 info->si_code);
	if (number == SIGSYS) {
		if (info->si_code != SYS_SECCOMP)
			return EXIT_CODE_UNEXPECTED;
		metric_store(&process_metrics.seccomp.num_faults, 1);
		log_write_signal(
			LOG_LEVEL_ERROR, __FILE__, __LINE__,
			"Shutting down VM after intercepting a bad syscall (%d). It is %s.",
			info->si_syscall, seccomp_call_name(info->si_syscall));
	}
	for (size_t i = 0; i < FATAL_SIGNALS; i++) {
		if (fatal_signals[i].number != number)
			continue;
		exit_code = fatal_signals[i].exit_code;
		if (fatal_signals[i].metric)
			metric_store(fatal_signals[i].metric, 1);
	}
	return exit_code;
}

static void on_fatal(int number, siginfo_t *info, void *context)
{
	(void)context;
	enum exit_code exit_code = report_fatal(number, info);

	console_restore_terminal();
	metrics_flush_fatal();
	_exit((int)exit_code);
}

/* A broken invariant. Returning lets abort() end the process with the default action, a core dump. */
static void on_abort(int number, siginfo_t *info, void *context)
{
	(void)context;
	metric_add_shared(&process_metrics.vmm.panic_count, 1);
	log_write_signal(LOG_LEVEL_ERROR, __FILE__, __LINE__, "Aborting after signal %d, code %d.",
			 number, info->si_code);
	console_restore_terminal();
	metrics_flush_fatal();
}

/*
 * Rate-limited: when standard output is the broken pipe and the log goes there, the message itself raises the next
 * SIGPIPE.
 */
static void on_pipe(int number, siginfo_t *info, void *context)
{
	static struct log_site site;
	int saved_errno = errno;

	(void)context;
	metric_add_shared(&process_metrics.signals.sigpipe, 1);
	if (log_site_allows(&site))
		log_write_signal(LOG_LEVEL_ERROR, __FILE__, __LINE__,
				 "Received signal %d, code %d.", number, info->si_code);
	errno = saved_errno;
}

static int handle(int number, void (*handler)(int, siginfo_t *, void *), struct error *err)
{
	struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART};

	if (number == SIGSYS)
		action.sa_flags |= (int)SA_RESETHAND; /* seccomp.c says why */
	sigfillset(&action.sa_mask);
	if (sigaction(number, &action, NULL) < 0)
		return error_set_errno(err, "Cannot handle signal %d", number);
	return 0;
}

/* nohup(1) and its like ask for it by starting a program with SIGHUP ignored. */
static bool is_ignored(int number)
{
	struct sigaction action;

	return sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

int signals_install(struct error *err)
{
	int ret = handle(SIGPIPE, on_pipe, err);

	if (!ret)
		ret = handle(SIGABRT, on_abort, err);
	for (size_t i = 0; i < FATAL_SIGNALS && !ret; i++) {
		int number = fatal_signals[i].number;

		if (number != SIGHUP || !is_ignored(SIGHUP))
			ret = handle(number, on_fatal, err);
	}
	return ret;
}
