// SPDX-License-Identifier: Apache-2.0
/*
 * What went wrong, in words. The first line is the sentence that Firecracker's jailer uses, so that scripts which
 * look for it find it; a failed system call adds a second line with the step, the call and its object.
 */
#ifndef BANTAM_JAILER_FAIL_H
#define BANTAM_JAILER_FAIL_H

#define JAIL_ERROR_SIZE 2048

struct jail_error {
	char text[JAIL_ERROR_SIZE];
};

/* Where a system call failed: strings that outlive the call. `path` may be NULL. */
struct jail_place {
	const char *step, *call, *path;
};

/* Input that is refused: text is the sentence alone. Returns -EINVAL. */
int jail_refuse(struct jail_error *error, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* A system call failed: the sentence, ": ", errno in words; then the place. Returns -errno. */
int jail_fail(struct jail_error *error, struct jail_place place, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The same without errno's words in the sentence, where Firecracker's has none. */
int jail_fail_bare(struct jail_error *error, struct jail_place place, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Adds a line to the text. */
void jail_error_add(struct jail_error *error, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#define PLACE(step_, call_, path_) \
	((struct jail_place){.step = (step_), .call = (call_), .path = (path_)})

#endif
