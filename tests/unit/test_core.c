// SPDX-License-Identifier: Apache-2.0
/* Guest memory, bus, checked arithmetic, errors. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>
#include "vmm/core/bus.h"
#include "vmm/core/checked.h"
#include "vmm/core/guest_memory.h"

static void test_checked(void **state)
{
	uint64_t out;

	(void)state;
	assert_false(add_overflows(1, 2, &out));
	assert_int_equal(out, 3);
	assert_true(add_overflows(UINT64_MAX, 1, &out));
	assert_true(mul_overflows(UINT64_MAX / 2, 3, &out));
	assert_true(range_within(0, 10, 10));
	assert_true(range_within(10, 0, 10));
	assert_false(range_within(11, 0, 10));
	assert_false(range_within(1, UINT64_MAX, 10));
	assert_false(range_within(UINT64_MAX, 1, 10));
	assert_int_equal(align_up(4097, 4096), 8192);
	assert_int_equal(align_down(4097, 4096), 4096);
}

static void test_guest_memory(void **state)
{
	struct guest_region regions[] = {
		{.start = {0}, .size_bytes = MIB(2)},
		{.start = {GIB(4)}, .size_bytes = MIB(4)},
	};
	struct guest_memory mem;
	struct error err = {0};
	uint32_t value = 0x12345678, back = 0;

	(void)state;
	assert_int_equal(guest_memory_map(&mem, regions, 2, GUEST_PAGES_DEFAULT, &err), 0);
	assert_int_equal(mem.total_bytes, MIB(6));
	assert_non_null(guest_memory_at(&mem, gpa(0), MIB(2)));
	assert_null(guest_memory_at(&mem, gpa(0), MIB(2) + 1));
	assert_null(guest_memory_at(&mem, gpa(0), 0));
	assert_null(guest_memory_at(&mem, gpa(MIB(2) - 1), 2));
	assert_null(guest_memory_at(&mem, gpa(MIB(3)), 1));
	assert_null(guest_memory_at(&mem, gpa(UINT64_MAX), 1));
	assert_null(guest_memory_at(&mem, gpa(GIB(4)), UINT64_MAX));
	assert_non_null(guest_memory_at(&mem, gpa(GIB(4) + MIB(4) - 1), 1));
	assert_null(guest_memory_at(&mem, gpa(GIB(4) + MIB(4)), 1));
	assert_int_equal(guest_memory_write(&mem, gpa(GIB(4)), &value, sizeof(value)), 0);
	assert_int_equal(guest_memory_read(&mem, gpa(GIB(4)), &back, sizeof(back)), 0);
	assert_int_equal(back, value);
	assert_int_equal(guest_memory_read(&mem, gpa(MIB(2) - 2), &back, sizeof(back)), -EFAULT);
	guest_memory_free(&mem);
}

static void test_guest_memory_refused(void **state)
{
	struct guest_region region = {.start = {0}, .size_bytes = UINT64_C(1) << 62};
	struct guest_memory mem;
	struct error err = {0};

	(void)state;
	assert_true(guest_memory_map(&mem, &region, 1, GUEST_PAGES_DEFAULT, &err) < 0);
	assert_non_null(strstr(err.text, "Cannot create mmap region"));
	assert_int_equal(guest_memory_map(&mem, &region, 0, GUEST_PAGES_DEFAULT, &err), -EINVAL);
}

struct last_access {
	uint64_t offset;
	uint32_t len;
};

static void on_read(void *ctx, uint64_t offset, void *data, uint32_t len)
{
	*(struct last_access *)ctx = (struct last_access){offset, len};
	memset(data, 0x5a, len);
}

static void on_write(void *ctx, uint64_t offset, const void *data, uint32_t len)
{
	(void)data;
	*(struct last_access *)ctx = (struct last_access){offset, len};
}

static void test_bus(void **state)
{
	static const struct bus_ops ops = {.read = on_read, .write = on_write};
	struct bus bus = {.count = 0};
	struct last_access a = {0}, b = {0};
	uint32_t data = 0xffffffff;

	(void)state;
	assert_false(bus_read(&bus, 0, &data, 4));
	assert_int_equal(data, 0);
	assert_int_equal(bus_add(&bus, 0x200, 0x10, &ops, &b), 0);
	assert_int_equal(bus_add(&bus, 0x100, 0x10, &ops, &a), 0);
	assert_int_equal(bus_add(&bus, 0x10f, 1, &ops, &a), -EEXIST);
	assert_int_equal(bus_add(&bus, 0xf0, 0x200, &ops, &a), -EEXIST);
	assert_int_equal(bus_add(&bus, 0x300, 0, &ops, &a), -EINVAL);
	assert_int_equal(bus_add(&bus, UINT64_MAX, 2, &ops, &a), -EINVAL);
	assert_true(bus_read(&bus, 0x10c, &data, 4));
	assert_int_equal(data, 0x5a5a5a5a);
	assert_int_equal(a.offset, 0xc);
	assert_int_equal(a.len, 4);
	assert_false(bus_read(&bus, 0x10d, &data, 4));
	assert_int_equal(data, 0);
	assert_true(bus_write(&bus, 0x200, &data, 1));
	assert_int_equal(b.len, 1);
	assert_false(bus_write(&bus, 0xff, &data, 2));
	assert_false(bus_write(&bus, UINT64_MAX, &data, 8));
	for (uint64_t i = bus.count; i < BUS_RANGES_MAX; i++)
		assert_int_equal(bus_add(&bus, 0x1000 + i, 1, &ops, &a), 0);
	assert_int_equal(bus_add(&bus, 0x9000, 1, &ops, &a), -ENOSPC);
}

static void test_errors(void **state)
{
	struct error err = {0};
	char big[2 * ERROR_TEXT_BYTES];

	(void)state;
	assert_int_equal(error_set(&err, -EINVAL, "bad %d", 7), -EINVAL);
	assert_string_equal(err.text, "bad 7");
	assert_int_equal(error_prefix(&err, "Drive config error: "), -EINVAL);
	assert_string_equal(err.text, "Drive config error: bad 7");
	errno = ENOENT;
	assert_int_equal(error_set_errno(&err, "open %s", "x"), -ENOENT);
	assert_string_equal(err.text, "open x: No such file or directory (os error 2)");
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	error_set(&err, -EINVAL, "%s", big);
	assert_int_equal(strlen(err.text), ERROR_TEXT_BYTES - 1);
	assert_string_equal(err.text + ERROR_TEXT_BYTES - 4, "...");
	error_prefix(&err, "%s", "more: ");
	assert_string_equal(err.text + ERROR_TEXT_BYTES - 4, "...");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_checked),
		cmocka_unit_test(test_guest_memory),
		cmocka_unit_test(test_guest_memory_refused),
		cmocka_unit_test(test_bus),
		cmocka_unit_test(test_errors),
	};

	return RUN_TESTS(tests);
}
