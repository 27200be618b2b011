// SPDX-License-Identifier: Apache-2.0
/* State and memory files that belong together. */
#include "vmm/vm_pair.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "vmm/core/log.h"

/* Memory files begin with the lowest region, which begins at guest address 0. */
static bool belongs(const struct memory_file *file, const struct saved_manifest *manifest)
{
	return memory_holds(file, LAYOUT_STAMP, manifest->stamp, LAYOUT_STAMP_BYTES);
}

static int open_one(struct memory_file *file, const char *path,
		    const struct saved_manifest *manifest, struct error *err)
{
	int ret = memory_open(file, path, manifest->memory_bytes, err);

	if (!ret && !belongs(file, manifest))
		ret = error_set(err, -EINVAL,
				"the memory does not belong to this state: they are of different "
				"snapshots");
	return ret;
}

int pair_open_memory(struct memory_file *file, const char *path,
		     const struct saved_manifest *manifest, struct error *err)
{
	int ret = open_one(file, path, manifest, err);
	cleanup_free char *partial = ret ? output_partial_name(path) : NULL;
	struct memory_file other;
	struct error ignored;

	if (!partial)
		return ret;
	if (open_one(&other, partial, manifest, &ignored)) {
		memory_close(&other);
		return ret;
	}
	log_warn("A save was interrupted: the memory of this state is still called %s.", partial);
	memory_close(file);
	*file = other;
	return 0;
}

int pair_is_memory_of(const char *path, uint64_t memory_bytes, const uint8_t *stamp, bool *is,
		      struct error *err)
{
	struct memory_file file;
	int ret = memory_open(&file, path, memory_bytes, err);

	*is = !ret && !file.is_compressed && lseek(file.fd, 0, SEEK_END) == (off_t)memory_bytes &&
	      memory_holds(&file, LAYOUT_STAMP, stamp, LAYOUT_STAMP_BYTES);
	memory_close(&file);
	/* Not there, no file of its own kind, too short, damaged, too new. */
	if (!ret || ret == -ENOENT || ret == -ESPIPE || ret == -EINVAL || ret == -ENOTSUP)
		return 0;
	return error_set_os(err, ret, "cannot read %s", path);
}

static bool read_manifest(const char *path, struct saved_manifest *manifest)
{
	struct state_file file;
	struct error err;
	bool done = state_file_read(&file, path, &err) == 0 &&
		    state_load(&file, &saved_manifest_kind, 0, manifest, &err) == 0;

	state_file_free(&file);
	return done;
}

void pair_finish_earlier(const char *state_path, const char *memory_path)
{
	cleanup_free char *partial = output_partial_name(memory_path);
	struct saved_manifest manifest;
	struct memory_file file;
	struct error err;

	if (!partial || access(partial, F_OK) || !read_manifest(state_path, &manifest))
		return;
	if (open_one(&file, partial, &manifest, &err) == 0 && rename(partial, memory_path) == 0)
		log_info("A save was interrupted: %s has its name now.", memory_path);
	memory_close(&file);
}

int pair_commit(struct output *state, struct output *memory, struct error *err)
{
	int ret = output_commit(state, err);

	if (ret)
		return ret;
	ret = output_commit(memory, err);
	/* The state counts already: without its memory there would be no snapshot at all. */
	if (ret && memory->partial) {
		error_prefix(err, "the snapshot is complete, its memory keeps the name %s: ",
			     memory->partial);
		output_leave(memory);
	}
	return ret;
}
