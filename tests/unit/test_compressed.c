// SPDX-License-Identifier: Apache-2.0
/* Compressed memory files: what is written is read again, and what is damaged is refused. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "snapshots/checksum.h"
#include "snapshots/compressed.h"
#include "vmm/core/bytes.h"

#define CHUNKS 4u
#define BYTES  (CHUNKS * COMPRESSED_CHUNK_BYTES)
#define PAGE   4096u

/* Offsets of snapshots/README.md */
enum { INDEX_OFFSET = 32, INDEX_CHECKSUM = 40, HEAD_CHECKSUM = 48, ENTRY_BYTES = 32 };

static uint8_t *memory, *again;
static int fd;

static int make(void **state)
{
	(void)state;
	memory = calloc(1, BYTES);
	again = calloc(1, BYTES);
	fd = memfd_create("memory", 0);
	return memory && again && fd >= 0 ? 0 : -1;
}

static int end(void **state)
{
	(void)state;
	free(memory);
	free(again);
	close(fd);
	return 0;
}

static void fill_page(unsigned page, bool random)
{
	uint8_t *at = memory + page * PAGE;

	for (unsigned i = 0; i < PAGE; i++)
		at[i] = (uint8_t)(random ? rand() : (int)(page + i / 64));
}

static void write_pages(const uint64_t *pages)
{
	struct output output = {.fd = fd};
	struct error err;

	assert_int_equal(compressed_write(&output, memory, BYTES, pages, &err), 0);
}

/* What compressed_fill() makes of the file; 0 or its error. */
static int read_all(struct error *err)
{
	struct compressed file;
	int ret = compressed_open(&file, fd, err);

	memset(again, 0, BYTES);
	if (!ret && file.memory_bytes != BYTES)
		ret = -ERANGE;
	if (!ret)
		ret = compressed_fill(&file, again, err);
	compressed_free(&file);
	return ret;
}

static uint8_t *file_bytes(size_t *len)
{
	off_t size = lseek(fd, 0, SEEK_END);
	uint8_t *bytes = malloc((size_t)size);

	assert_int_equal(pread(fd, bytes, (size_t)size, 0), size);
	*len = (size_t)size;
	return bytes;
}

static void put_back(const uint8_t *bytes, size_t len)
{
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(pwrite(fd, bytes, len, 0), (ssize_t)len);
}

/* Makes the checksums right again, as an attacker would. */
static void mend(uint8_t *bytes)
{
	put_le64(bytes + INDEX_CHECKSUM,
		 checksum(0, bytes + get_le64(bytes + INDEX_OFFSET), CHUNKS * ENTRY_BYTES));
	put_le64(bytes + HEAD_CHECKSUM, checksum(0, bytes, HEAD_CHECKSUM));
}

static void test_round_trip(void **state)
{
	const uint64_t pages[CHUNKS] = {1, 0, UINT64_MAX, UINT64_C(1) << 63 | 6};
	struct error err;

	(void)state;
	fill_page(0, false);
	for (unsigned i = 0; i < COMPRESSED_CHUNK_PAGES; i++)
		fill_page(2 * COMPRESSED_CHUNK_PAGES + i, i % 2);
	fill_page(3 * COMPRESSED_CHUNK_PAGES + 1, true);
	fill_page(4 * COMPRESSED_CHUNK_PAGES - 1, false);
	write_pages(pages);
	assert_true(compressed_is(fd));
	assert_true(lseek(fd, 0, SEEK_END) % PAGE != 0);
	assert_int_equal(read_all(&err), 0);
	assert_memory_equal(memory, again, BYTES);
}

static void test_pages_that_are_not_held(void **state)
{
	const uint64_t pages[CHUNKS] = {0, 4, 0, 0};
	struct compressed file;
	struct error err;

	(void)state;
	fill_page(COMPRESSED_CHUNK_PAGES + 2, false);
	fill_page(COMPRESSED_CHUNK_PAGES + 3, false);
	write_pages(pages);
	assert_int_equal(compressed_open(&file, fd, &err), 0);
	assert_int_equal(compressed_read(&file, 0, &err), 0);
	assert_null(compressed_page(&file, 0, 0));
	assert_int_equal(compressed_read(&file, 1, &err), 0);
	assert_null(compressed_page(&file, 1, 3));
	assert_memory_equal(compressed_page(&file, 1, 2),
			    memory + COMPRESSED_CHUNK_BYTES + 2 * PAGE, PAGE);
	compressed_free(&file);
}

/* What cannot be made smaller is stored as it is, and the file's size still tells what it is. */
static void test_random_pages(void **state)
{
	const uint64_t pages[CHUNKS] = {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX};
	struct error err;

	(void)state;
	for (unsigned i = 0; i < CHUNKS * COMPRESSED_CHUNK_PAGES; i++)
		fill_page(i, true);
	write_pages(pages);
	assert_true(lseek(fd, 0, SEEK_END) < (off_t)(BYTES + 1024));
	assert_int_equal(read_all(&err), 0);
	assert_memory_equal(memory, again, BYTES);
}

/* A guest writes what it likes to the beginning of its memory. */
static void test_plain_files(void **state)
{
	static const char magic[] = "BANTAMCM";

	(void)state;
	assert_false(compressed_is(fd));
	assert_int_equal(pwrite(fd, magic, 8, 0), 8);
	assert_int_equal(ftruncate(fd, BYTES), 0);
	assert_false(compressed_is(fd));
	assert_int_equal(ftruncate(fd, BYTES + 1), 0);
	assert_true(compressed_is(fd));
}

static void test_damaged(void **state)
{
	const uint64_t pages[CHUNKS] = {3, 0, UINT64_MAX, 8};
	struct error err;
	size_t len;

	(void)state;
	for (unsigned i = 0; i < CHUNKS * COMPRESSED_CHUNK_PAGES; i++)
		fill_page(i, i % 3 == 0);
	write_pages(pages);
	uint8_t *bytes = file_bytes(&len);

	for (size_t at = 0; at < len; at += at < 600 || at + 400 > len ? 1 : 97) {
		bytes[at] ^= 0x40;
		put_back(bytes, len);
		/* Nothing stands in what fills the file up behind its index. */
		assert_true(read_all(&err) == -EINVAL || read_all(&err) == -ENOTSUP ||
			    memcmp(memory, again, PAGE) == 0);
		bytes[at] ^= 0x40;
	}
	for (size_t cut = 0; cut < len; cut += cut < 100 || cut + 200 > len ? 1 : 509) {
		put_back(bytes, cut);
		assert_int_equal(read_all(&err), -EINVAL);
	}
	free(bytes);
}

static void refuses_entry(const uint8_t *bytes, size_t len, size_t offset, uint64_t value)
{
	uint8_t *copy = malloc(len);
	struct error err;

	memcpy(copy, bytes, len);
	put_le64(copy + get_le64(copy + INDEX_OFFSET) + offset, value);
	mend(copy);
	put_back(copy, len);
	assert_int_equal(read_all(&err), -EINVAL);
	assert_non_null(strstr(err.text, "damaged"));
	free(copy);
}

/* Checksums that are right do not make an index right. */
static void test_hostile_index(void **state)
{
	const uint64_t pages[CHUNKS] = {3, 0, 1, 0};
	size_t len;

	(void)state;
	fill_page(0, false);
	write_pages(pages);
	uint8_t *bytes = file_bytes(&len);

	refuses_entry(bytes, len, 0, 0);                /* bytes for no page */
	refuses_entry(bytes, len, 0, UINT64_MAX);       /* unpacks to less than it says */
	refuses_entry(bytes, len, 8, len);              /* outside */
	refuses_entry(bytes, len, 8, UINT64_MAX - 2);   /* outside, and overflows */
	refuses_entry(bytes, len, 16, 0);               /* nothing stored */
	refuses_entry(bytes, len, 16, 3 * PAGE);        /* more than the pages are */
	refuses_entry(bytes, len, ENTRY_BYTES + 16, 1); /* bytes for no page */
	refuses_entry(bytes, len, 24, 1);               /* another chunk's checksum */
	free(bytes);
}

static void test_hostile_header(void **state)
{
	static const struct {
		size_t offset;
		uint64_t value;
	} changes[] = {
		{24, 0},
		{24, BYTES + PAGE},
		{24, UINT64_MAX},
		{24, UINT64_MAX & ~(uint64_t)(COMPRESSED_CHUNK_BYTES - 1)},
		{32, UINT64_MAX},
		{32, 1},
		{8, UINT64_C(1) << 32 | 0}, /* a version that was never written */
	};
	const uint64_t pages[CHUNKS] = {1, 0, 0, 0};
	struct error err;
	size_t len;

	(void)state;
	write_pages(pages);
	uint8_t *bytes = file_bytes(&len);

	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		uint8_t *copy = malloc(len);

		memcpy(copy, bytes, len);
		put_le64(copy + changes[i].offset, changes[i].value);
		put_le64(copy + HEAD_CHECKSUM, checksum(0, copy, HEAD_CHECKSUM));
		put_back(copy, len);
		assert_true(read_all(&err) < 0);
		free(copy);
	}
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round_trip, make, end),
		cmocka_unit_test_setup_teardown(test_pages_that_are_not_held, make, end),
		cmocka_unit_test_setup_teardown(test_random_pages, make, end),
		cmocka_unit_test_setup_teardown(test_plain_files, make, end),
		cmocka_unit_test_setup_teardown(test_damaged, make, end),
		cmocka_unit_test_setup_teardown(test_hostile_index, make, end),
		cmocka_unit_test_setup_teardown(test_hostile_header, make, end),
	};

	return RUN_TESTS(tests);
}
