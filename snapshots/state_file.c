// SPDX-License-Identifier: Apache-2.0
/* The state file around its sections: header, section heads, checksums. The layout is in README.md. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "snapshots/checksum.h"
#include "snapshots/state.h"
#include "snapshots/state_internal.h"
#include "vmm/core/bytes.h"
#include "vmm/core/checked.h"

static const char magic[8] = {'B', 'A', 'N', 'T', 'A', 'M', 'V', 'M'};

/* Offsets in the file's header */
enum {
	HEAD_MAGIC = 0,
	HEAD_MAJOR = 8,
	HEAD_MINOR = 10,
	HEAD_PATCH = 12,
	HEAD_ARCH = 14,
	HEAD_SECTIONS = 16,
	HEAD_RESERVED = 20,
	HEAD_FILE_BYTES = 24,
	HEAD_CHECKSUM = 32, /* of what is before it */
};

/* Offsets in a section's head */
enum {
	SECTION_NAME = 0,
	SECTION_INSTANCE = 24,
	SECTION_VERSION = 28,
	SECTION_BYTES = 32,
	SECTION_CHECKSUM = 40, /* of the head before it and the padded payload behind it */
	SECTION_PAYLOAD = 48,
};
_Static_assert(SECTION_PAYLOAD == STATE_SECTION_HEAD_BYTES, "README.md");
_Static_assert(HEAD_CHECKSUM + 8 == STATE_HEAD_BYTES, "README.md");

static uint64_t section_checksum(const uint8_t *head, size_t padded_bytes)
{
	return checksum(checksum(0, head, SECTION_CHECKSUM), head + SECTION_PAYLOAD, padded_bytes);
}

/* ---- writing ---- */

int state_file_new(struct state_file *file, struct error *err)
{
	*file = (struct state_file){.major = STATE_MAJOR,
				    .minor = STATE_MINOR,
				    .patch = STATE_PATCH};
	if (state_reserve(file, STATE_HEAD_BYTES))
		return error_set_os(err, -ENOMEM, "no memory for a snapshot's state");
	memset(file->bytes, 0, STATE_HEAD_BYTES);
	file->len = STATE_HEAD_BYTES;
	return 0;
}

int state_close_section(struct state_file *file, size_t start, const struct state_kind *kind,
			uint32_t instance, struct error *err)
{
	size_t payload_bytes = file->len - start - SECTION_PAYLOAD;
	size_t padding = align_up(payload_bytes, STATE_ALIGN) - payload_bytes;

	if (state_reserve(file, padding) || file->section_count == STATE_SECTIONS_MAX)
		return error_set(err, -EFBIG, "Snapshot size exceeds limit of %u bytes",
				 STATE_FILE_BYTES_MAX);
	memset(file->bytes + file->len, 0, padding);
	file->len += padding;
	uint8_t *head = file->bytes + start;

	memset(head, 0, SECTION_PAYLOAD);
	memcpy(head + SECTION_NAME, kind->name, strnlen(kind->name, STATE_NAME_BYTES - 1));
	put_le32(head + SECTION_INSTANCE, instance);
	put_le32(head + SECTION_VERSION, kind->version);
	put_le64(head + SECTION_BYTES, payload_bytes);
	put_le64(head + SECTION_CHECKSUM, section_checksum(head, payload_bytes + padding));
	file->section_count++;
	return 0;
}

void state_file_finish(struct state_file *file)
{
	uint8_t *head = file->bytes;

	memcpy(head + HEAD_MAGIC, magic, sizeof(magic));
	put_le16(head + HEAD_MAJOR, file->major);
	put_le16(head + HEAD_MINOR, file->minor);
	put_le16(head + HEAD_PATCH, file->patch);
	put_le16(head + HEAD_ARCH, STATE_ARCH_X86_64);
	put_le32(head + HEAD_SECTIONS, file->section_count);
	put_le32(head + HEAD_RESERVED, 0);
	put_le64(head + HEAD_FILE_BYTES, file->len);
	put_le64(head + HEAD_CHECKSUM, checksum(0, head, HEAD_CHECKSUM));
}

/* ---- reading ---- */

static int check_head(struct state_file *file, struct error *err)
{
	const uint8_t *head = file->bytes;

	if (file->len < STATE_HEAD_BYTES)
		return error_set(err, -EINVAL,
				 "the state file has %zu bytes, too few for its header of %u",
				 file->len, STATE_HEAD_BYTES);
	if (memcmp(head + HEAD_MAGIC, magic, sizeof(magic)) != 0)
		return error_set(err, -EINVAL,
				 "Magic value does not match: this is no bantam state file");
	file->major = get_le16(head + HEAD_MAJOR);
	file->minor = get_le16(head + HEAD_MINOR);
	file->patch = get_le16(head + HEAD_PATCH);
	if (file->major != STATE_MAJOR || file->minor > STATE_MINOR)
		return error_set(err, -EINVAL,
				 "Invalid data version: %u.%u.%u; this program reads %u.0 to %u.%u",
				 file->major, file->minor, file->patch, STATE_MAJOR, STATE_MAJOR,
				 STATE_MINOR);
	if (get_le64(head + HEAD_CHECKSUM) != checksum(0, head, HEAD_CHECKSUM))
		return error_set(err, -EINVAL, "checksum validation failed: the header is damaged");
	if (get_le16(head + HEAD_ARCH) != STATE_ARCH_X86_64)
		return error_set(err, -EINVAL,
				 "Magic value does not match arch: %u, expected %u (x86_64)",
				 get_le16(head + HEAD_ARCH), STATE_ARCH_X86_64);
	if (get_le64(head + HEAD_FILE_BYTES) != file->len)
		return error_set(err, -EINVAL, "the state file has %zu bytes, its header says %llu",
				 file->len, (unsigned long long)get_le64(head + HEAD_FILE_BYTES));
	file->section_count = get_le32(head + HEAD_SECTIONS);
	if (file->section_count > STATE_SECTIONS_MAX || get_le32(head + HEAD_RESERVED) != 0)
		return error_set(err, -EINVAL, "the header's number of sections is not possible");
	return 0;
}

/* The section at *at, which is moved behind it. */
static int open_section(const struct state_file *file, size_t *at, struct state_section *section,
			unsigned index, struct error *err)
{
	const uint8_t *head = file->bytes + *at;
	size_t left = file->len - *at;

	if (left < SECTION_PAYLOAD)
		return error_set(err, -EINVAL, "section %u begins behind the end of the file",
				 index);
	uint64_t bytes = get_le64(head + SECTION_BYTES);

	if (bytes > left - SECTION_PAYLOAD || align_up(bytes, STATE_ALIGN) > left - SECTION_PAYLOAD)
		return error_set(err, -EINVAL, "section %u reaches behind the end of the file",
				 index);
	if (head[SECTION_NAME + STATE_NAME_BYTES - 1] != 0)
		return error_set(err, -EINVAL, "section %u has a name that does not end", index);
	memcpy(section->name, head + SECTION_NAME, STATE_NAME_BYTES);
	section->instance = get_le32(head + SECTION_INSTANCE);
	section->version = get_le32(head + SECTION_VERSION);
	section->payload = head + SECTION_PAYLOAD;
	section->payload_bytes = bytes;
	bytes = align_up(bytes, STATE_ALIGN);
	if (get_le64(head + SECTION_CHECKSUM) != section_checksum(head, bytes))
		return error_set(err, -EINVAL, "checksum validation failed: section %u is damaged",
				 index);
	*at += SECTION_PAYLOAD + bytes;
	return 0;
}

static int open_sections(struct state_file *file, struct error *err)
{
	size_t at = STATE_HEAD_BYTES;
	int ret = 0;

	file->sections = calloc(file->section_count + 1, sizeof(file->sections[0]));
	if (!file->sections)
		return error_set_os(err, -ENOMEM, "no memory for a snapshot's state");
	for (unsigned i = 0; i < file->section_count && !ret; i++)
		ret = open_section(file, &at, &file->sections[i], i, err);
	if (!ret && at != file->len)
		ret = error_set(err, -EINVAL, "%zu bytes follow the last section", file->len - at);
	return ret;
}

int state_file_open(struct state_file *file, uint8_t *bytes, size_t len, struct error *err)
{
	*file = (struct state_file){.bytes = bytes, .len = len, .capacity = len};
	int ret = check_head(file, err);

	if (!ret)
		ret = open_sections(file, err);
	if (ret)
		file->section_count = 0;
	return ret;
}

/* All of the file in one read, when it is a regular one. */
static int read_whole(int fd, uint8_t **bytes, size_t *len, struct error *err)
{
	struct stat st;

	if (fstat(fd, &st))
		return error_set_errno(err, "Failed to read snapshot file");
	if (!S_ISREG(st.st_mode))
		return error_set(err, -EINVAL, "the snapshot's state is not a regular file");
	if (st.st_size > (off_t)STATE_FILE_BYTES_MAX)
		return error_set(err, -EFBIG, "Snapshot size exceeds limit of %u bytes",
				 STATE_FILE_BYTES_MAX);
	size_t size = (size_t)st.st_size, done = 0;

	*bytes = malloc(size + 1);
	if (!*bytes)
		return error_set_os(err, -ENOMEM, "no memory for a snapshot's state");
	while (done < size) {
		ssize_t got = read(fd, *bytes + done, size - done);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return error_set_errno(err, "Failed to read snapshot file");
		if (got == 0)
			break; /* it has become shorter: the header will not fit it */
		done += (size_t)got;
	}
	*len = done;
	return 0;
}

int state_file_read(struct state_file *file, const char *path, struct error *err)
{
	/* Non-blocking: a FIFO in the file's place must not stop us. */
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	uint8_t *bytes = NULL;
	size_t len = 0;

	*file = (struct state_file){0};
	if (fd < 0)
		return error_set_errno(err, "Failed to open snapshot file");
	int ret = read_whole(fd, &bytes, &len, err);

	if (ret) {
		free(bytes);
		return ret;
	}
	return state_file_open(file, bytes, len, err);
}

void state_file_free(struct state_file *file)
{
	free(file->sections);
	free(file->bytes);
	*file = (struct state_file){0};
}

const struct state_section *state_find(const struct state_file *file, const char *name,
				       uint32_t instance)
{
	for (unsigned i = 0; i < file->section_count; i++) {
		const struct state_section *section = &file->sections[i];

		if (section->instance == instance && strcmp(section->name, name) == 0)
			return section;
	}
	return NULL;
}

unsigned state_count(const struct state_file *file, const char *name)
{
	unsigned count = 0;

	for (unsigned i = 0; i < file->section_count; i++)
		count += strcmp(file->sections[i].name, name) == 0;
	return count;
}
