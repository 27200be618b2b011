// SPDX-License-Identifier: Apache-2.0
/* System call filters, one a thread role. */
#ifndef VMM_SECCOMP_H
#define VMM_SECCOMP_H

#include <stddef.h>
#include <stdint.h>
#include "vmm/core/error.h"

struct seccomp_filters;

enum seccomp_role { SECCOMP_MAIN, SECCOMP_VCPU, SECCOMP_ROLE_COUNT };

/* The filters that were built in. Kept for the life of the process. NULL and a text: no memory. */
const struct seccomp_filters *seccomp_built_in_filters(struct error *err) must_check;

/*
 * Filters from a file that bantam-seccomp made: exactly the roles "main" and "vcpu". Kept for the life of the process.
 * NULL and a text that names the file and what is wrong.
 */
const struct seccomp_filters *seccomp_load_filters(const char *path, struct error *err) must_check;

/* The same from bytes, which are copied. For the file above and for its fuzz target; freed by seccomp_free_filters(). */
struct seccomp_filters *seccomp_parse_filters(const uint8_t *data, size_t len,
					      struct error *err) must_check;
void seccomp_free_filters(struct seccomp_filters *filters);

/*
 * Takes from the calling thread what its role does not need (privileges.h; the main role closes the process), then puts it
 * under its role's filter, for ever; threads that it starts later inherit it. NULL filters: no filter (--no-seccomp). 0 or
 * -errno and a text.
 */
int seccomp_enter(const struct seccomp_filters *filters, enum seccomp_role role,
		  struct error *err) must_check;

/* The same for a thread beside the main one that does its work; the process is left for the main thread to close. */
int seccomp_enter_helper(const struct seccomp_filters *filters, struct error *err) must_check;

/* What a system call is called, "unknown" if it has no name here. For signal handlers too. */
const char *seccomp_call_name(int number);

#endif
