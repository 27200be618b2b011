// SPDX-License-Identifier: Apache-2.0
/*
 * System call filters.
 *
 * DOC: The filters are compiled at build time (resources/seccomp/), so a start pays for two system calls and for the
 * kernel's check. A forbidden call raises SIGSYS, whose handler names it, counts it and ends the process with exit code
 * 148. The handler cannot be made harmless from inside: no filter allows rt_sigaction, a SIGSYS that is blocked or
 * ignored when the kernel forces it kills the process, and the handler is for one time only (SA_RESETHAND): whoever gets
 * out of it without ending dies of the next forbidden call.
 */
#include "vmm/seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "vmm/core/checked.h"
#include "vmm/privileges.h"
#include "vmm/seccomp_format.h"

_Static_assert(sizeof(struct sock_filter_record) == sizeof(struct sock_filter), "one layout");

struct program {
	uint32_t count; /* 0: the role has no filter yet */
	struct sock_filter *code;
};

struct seccomp_filters {
	struct program programs[SECCOMP_ROLE_COUNT];
};

static const char *const role_names[] = {[SECCOMP_MAIN] = "main", [SECCOMP_VCPU] = "vcpu"};
_Static_assert(sizeof(role_names) / sizeof(role_names[0]) == SECCOMP_ROLE_COUNT, "a name a role");

void seccomp_free_filters(struct seccomp_filters *filters)
{
	if (!filters)
		return;
	for (unsigned i = 0; i < SECCOMP_ROLE_COUNT; i++)
		free(filters->programs[i].code);
	free(filters);
}

static struct program *program_named(struct seccomp_filters *filters, const char *name)
{
	for (unsigned i = 0; i < SECCOMP_ROLE_COUNT; i++) {
		if (strncmp(role_names[i], name, SECCOMP_ROLE_BYTES) == 0)
			return &filters->programs[i];
	}
	return NULL;
}

static int add_program(struct seccomp_filters *filters, const char *name, const void *code,
		       uint32_t count, struct error *err)
{
	struct program *program = program_named(filters, name);

	if (!program)
		return error_set(err, -EINVAL,
				 "Invalid thread categories: %.15s; expected main and vcpu", name);
	if (program->count > 0)
		return error_set(err, -EINVAL, "the thread category %.15s is there twice", name);
	if (count == 0 || count > SECCOMP_CODE_MAX)
		return error_set(err, -EINVAL,
				 "the filter of %.15s has %u instructions; expected 1 to %u", name,
				 count, SECCOMP_CODE_MAX);
	program->code = malloc(count * sizeof(*program->code));
	if (!program->code)
		return error_set_os(err, -ENOMEM, "no memory for filters");
	memcpy(program->code, code, count * sizeof(*program->code));
	program->count = count;
	return 0;
}

static int check_complete(const struct seccomp_filters *filters, struct error *err)
{
	for (unsigned i = 0; i < SECCOMP_ROLE_COUNT; i++) {
		if (filters->programs[i].count == 0)
			return error_set(err, -EINVAL, "Missing thread category: %s",
					 role_names[i]);
	}
	return 0;
}

static struct seccomp_filters *finish(struct seccomp_filters *filters, int ret, struct error *err)
{
	if (!ret)
		ret = check_complete(filters, err);
	if (ret) {
		seccomp_free_filters(filters);
		return NULL;
	}
	return filters;
}

static struct seccomp_filters *new_filters(struct error *err)
{
	struct seccomp_filters *filters = calloc(1, sizeof(*filters));

	if (!filters)
		error_set_os(err, -ENOMEM, "no memory for filters");
	return filters;
}

const struct seccomp_filters *seccomp_built_in_filters(struct error *err)
{
	struct seccomp_filters *filters = new_filters(err);
	int ret = 0;

	if (!filters)
		return NULL;
	for (unsigned i = 0; i < seccomp_built_in_count && !ret; i++)
		ret = add_program(filters, seccomp_built_in[i].name, seccomp_built_in[i].code,
				  seccomp_built_in[i].count, err);
	return finish(filters, ret, err);
}

/* Takes one role off the front of the data. */
static int parse_role(struct seccomp_filters *filters, const uint8_t **data, size_t *len,
		      struct error *err)
{
	struct seccomp_file_role role;
	uint64_t bytes;

	if (*len < sizeof(role))
		return error_set(err, -EINVAL, "the file ends inside a filter's head");
	memcpy(&role, *data, sizeof(role));
	*data += sizeof(role);
	*len -= sizeof(role);
	if (memchr(role.name, '\0', sizeof(role.name)) == NULL)
		return error_set(err, -EINVAL, "a thread category's name has no end");
	if (mul_overflows(role.count, sizeof(struct sock_filter), &bytes) || bytes > *len)
		return error_set(err, -EINVAL, "the file ends inside the filter of %s", role.name);
	int ret = add_program(filters, role.name, *data, role.count, err);

	*data += bytes;
	*len -= bytes;
	return ret;
}

struct seccomp_filters *seccomp_parse_filters(const uint8_t *data, size_t len, struct error *err)
{
	struct seccomp_file_header header;
	int ret = 0;

	if (len < sizeof(header)) {
		error_set(err, -EINVAL, "the file is too short for a filter file");
		return NULL;
	}
	memcpy(&header, data, sizeof(header));
	if (header.magic != SECCOMP_FILE_MAGIC || header.version != SECCOMP_FILE_VERSION ||
	    header.count > SECCOMP_ROLES_MAX) {
		error_set(err, -EINVAL,
			  "not a filter file of version %u; bantam-seccomp makes them from JSON",
			  SECCOMP_FILE_VERSION);
		return NULL;
	}
	struct seccomp_filters *filters = new_filters(err);

	if (!filters)
		return NULL;
	data += sizeof(header);
	len -= sizeof(header);
	for (uint32_t i = 0; i < header.count && !ret; i++)
		ret = parse_role(filters, &data, &len, err);
	if (!ret && len > 0)
		ret = error_set(err, -EINVAL, "%zu bytes follow the last filter", len);
	return finish(filters, ret, err);
}

/* At most one byte more than a filter file may have, so that a larger one shows. Gives the length or -errno. */
static ssize_t read_file(const char *path, uint8_t *data)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd >= 0 ? read(fd, data, SECCOMP_FILE_MAX + 1) : -1;

	return got < 0 ? -errno : got;
}

const struct seccomp_filters *seccomp_load_filters(const char *path, struct error *err)
{
	struct seccomp_filters *filters = NULL;
	uint8_t *data = malloc(SECCOMP_FILE_MAX + 1);
	ssize_t got = data ? read_file(path, data) : -ENOMEM;

	if (got < 0)
		error_set_os(err, (int)got, "cannot be read");
	else if (got > (ssize_t)SECCOMP_FILE_MAX)
		error_set(err, -EFBIG, "larger than %u bytes", SECCOMP_FILE_MAX);
	else
		filters = seccomp_parse_filters(data, (size_t)got, err);
	free(data);
	if (!filters)
		error_prefix(err, "Seccomp error: Filter deserialization failed: %s: ", path);
	return filters;
}

static int install(const struct seccomp_filters *filters, enum seccomp_role role, struct error *err)
{
	if (!filters)
		return 0;
	struct sock_fprog program = {
		.len = (unsigned short)filters->programs[role].count,
		.filter = filters->programs[role].code,
	};

	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0)
		return error_set_errno(err, "Seccomp error: the filter of %s threads was refused",
				       role_names[role]);
	return 0;
}

int seccomp_enter(const struct seccomp_filters *filters, enum seccomp_role role, struct error *err)
{
	int ret = privileges_drop(err);

	if (!ret && role == SECCOMP_MAIN)
		ret = privileges_close_process(err);
	return ret ? ret : install(filters, role, err);
}

int seccomp_enter_helper(const struct seccomp_filters *filters, struct error *err)
{
	int ret = privileges_drop(err);

	return ret ? ret : install(filters, SECCOMP_MAIN, err);
}

const char *seccomp_call_name(int number)
{
	const char *name = seccomp_call_names;

	if (number < 0 || number >= seccomp_call_count)
		return "unknown";
	for (int i = 0; i < number; i++)
		name += strlen(name) + 1;
	return *name ? name : "unknown";
}
