// SPDX-License-Identifier: Apache-2.0
/* The kernel's command line: what the user wrote plus what the machine appends, with everything after "--" kept last. */
#ifndef ARCH_X86_64_CMDLINE_H
#define ARCH_X86_64_CMDLINE_H

#include <stddef.h>
#include "vmm/arch/x86_64/layout.h"
#include "vmm/core/cleanup.h"
#include "vmm/core/error.h"

#define CMDLINE_DEFAULT                                                                    \
	"reboot=k panic=1 nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux i8042.dumbkbd " \
	"swiotlb=noforce"

struct cmdline {
	char text[LAYOUT_CMDLINE_MAX];
	size_t len;       /* without the NUL */
	size_t insert_at; /* where appended parameters go: before " -- " or at the end */
};

/* Takes the user's boot_args (NULL: the default). -EINVAL: too long, or bytes that are not printable ASCII. */
int cmdline_init(struct cmdline *cmdline, const char *boot_args, struct error *err) must_check;

/* Appends one parameter (formatted) before "--". -E2BIG when it does not fit. */
int cmdline_append(struct cmdline *cmdline, struct error *err, const char *format, ...) must_check
	__attribute__((format(printf, 3, 4)));

#endif
