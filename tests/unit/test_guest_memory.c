// SPDX-License-Identifier: Apache-2.0
/* Guest memory that is a private copy of a file with holes. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "vmm/core/guest_memory.h"

#define MEMORY_BYTES (64u << 20)

static const struct guest_region region = {.size_bytes = MEMORY_BYTES};

static void put(int fd, uint64_t offset, const char *text)
{
	assert_int_equal(pwrite(fd, text, strlen(text), (off_t)offset), strlen(text));
}

static struct guest_memory map(int fd)
{
	struct guest_memory mem;
	struct error err;

	if (guest_memory_map_file(&mem, &region, 1, GUEST_PAGES_DEFAULT, fd, &err))
		fail_msg("%s", err.text);
	return mem;
}

static void assert_holds(const struct guest_memory *mem, uint64_t offset, const char *text)
{
	assert_memory_equal(mem->mapping + offset, text, strlen(text));
}

/* How much of the mapping is of the file, in MiB, by /proc/self/maps. */
static unsigned file_mib(const struct guest_memory *mem)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	uintptr_t first = (uintptr_t)mem->mapping, start, end;
	unsigned long inode;
	size_t total = 0;
	char line[512];

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx %*s %*s %*s %lu", &start, &end, &inode) == 3 &&
		    inode != 0 && start >= first && end <= first + MEMORY_BYTES)
			total += end - start;
	fclose(maps);
	return (unsigned)(total >> 20);
}

static void data_is_copied_and_holes_are_anonymous(void **state)
{
	int fd = memfd_create("memory", MFD_CLOEXEC);

	(void)state;
	assert_int_equal(ftruncate(fd, MEMORY_BYTES), 0);
	put(fd, 0, "first");
	put(fd, (9u << 20) + 4096, "in the middle of a block");
	put(fd, MEMORY_BYTES - 4, "last");
	struct guest_memory mem = map(fd);

	assert_int_equal(file_mib(&mem), 3 * 2);
	assert_holds(&mem, 0, "first");
	assert_holds(&mem, (9u << 20) + 4096, "in the middle of a block");
	assert_holds(&mem, MEMORY_BYTES - 4, "last");
	for (uint64_t at = 10u << 20; at < (62u << 20); at += 4096)
		assert_int_equal(mem.mapping[at], 0);

	memcpy(mem.mapping, "other", 5);
	memcpy(mem.mapping + (30u << 20), "new", 3);
	char found[5];

	assert_int_equal(pread(fd, found, 5, 0), 5);
	assert_memory_equal(found, "first", 5);
	assert_int_equal(lseek(fd, 30u << 20, SEEK_DATA), (62u << 20) + (2u << 20) - 4096);
	guest_memory_free(&mem);
}

static void a_file_of_one_hole_is_zero(void **state)
{
	int fd = memfd_create("memory", MFD_CLOEXEC);

	(void)state;
	assert_int_equal(ftruncate(fd, MEMORY_BYTES), 0);
	struct guest_memory mem = map(fd);

	assert_int_equal(file_mib(&mem), 0);
	assert_int_equal(mem.mapping[0] | mem.mapping[MEMORY_BYTES - 1], 0);
	guest_memory_free(&mem);
}

static void a_full_and_longer_file_is_mapped_whole(void **state)
{
	int fd = memfd_create("memory", MFD_CLOEXEC);
	char *page = malloc(1u << 20);

	(void)state;
	memset(page, 'x', 1u << 20);
	for (unsigned mib = 0; mib < 70; mib++)
		assert_int_equal(pwrite(fd, page, 1u << 20, (off_t)mib << 20), 1 << 20);
	free(page);
	struct guest_memory mem = map(fd);

	assert_int_equal(file_mib(&mem), MEMORY_BYTES >> 20);
	assert_int_equal(mem.mapping[MEMORY_BYTES - 1], 'x');
	guest_memory_free(&mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(data_is_copied_and_holes_are_anonymous),
		cmocka_unit_test(a_file_of_one_hole_is_zero),
		cmocka_unit_test(a_full_and_longer_file_is_mapped_whole),
	};

	return RUN_TESTS(tests);
}
