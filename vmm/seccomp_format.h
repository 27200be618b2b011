// SPDX-License-Identifier: Apache-2.0
/* Compiled system call filters: as they are embedded, and as a file of --seccomp-filter holds them. No logic. */
#ifndef VMM_SECCOMP_FORMAT_H
#define VMM_SECCOMP_FORMAT_H

#include <stdint.h>

#define SECCOMP_ROLE_BYTES   16
#define SECCOMP_ROLES_MAX    8
#define SECCOMP_CODE_MAX     4096u /* instructions; BPF_MAXINSNS of the kernel */
#define SECCOMP_CALLS_MAX    512   /* numbers that are looked at for names */
#define SECCOMP_FILE_MAX     100000u
#define SECCOMP_FILE_MAGIC   UINT64_C(0x434553204d544e42) /* "BNTM SEC" */
#define SECCOMP_FILE_VERSION 1u

/* One instruction, as struct sock_filter. */
struct sock_filter_record {
	uint16_t code;
	uint8_t jump_true, jump_false;
	uint32_t operand;
};
_Static_assert(sizeof(struct sock_filter_record) == 8, "struct sock_filter");

/* The file: this header, then for each role a struct seccomp_file_role and its instructions. Host byte order. */
struct seccomp_file_header {
	uint64_t magic;
	uint32_t version;
	uint32_t count; /* roles */
};

struct seccomp_file_role {
	char name[SECCOMP_ROLE_BYTES]; /* NUL-terminated */
	uint32_t count;                /* instructions */
};

struct seccomp_program {
	const char *name;
	uint32_t count;
	const struct sock_filter_record *code;
};

/* Made at build time. */
extern const struct seccomp_program seccomp_built_in[];
extern const unsigned seccomp_built_in_count;

/* Names of system calls by number, each with its NUL; where there is none, an empty one. */
extern const char seccomp_call_names[];
extern const int seccomp_call_count;

#endif
