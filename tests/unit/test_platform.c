// SPDX-License-Identifier: Apache-2.0
/* The small platform devices: the boot timer and the ACPI sleep and reset registers. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "vmm/core/log.h"
#include "vmm/devices/acpi_pm.h"
#include "vmm/devices/boot_timer.h"

/* ---- power management ---- */

struct ends {
	unsigned offs, resets;
};

static void count_off(void *ctx)
{
	((struct ends *)ctx)->offs++;
}

static void count_reset(void *ctx)
{
	((struct ends *)ctx)->resets++;
}

static void write_byte(struct acpi_pm *pm, uint64_t offset, uint8_t value)
{
	acpi_pm_bus_ops.write(pm, offset, &value, 1);
}

static void test_power_off(void **state)
{
	struct ends ends = {0};
	struct acpi_pm *pm = acpi_pm_new(count_off, count_reset, &ends);

	(void)state;
	for (unsigned value = 0; value < 256; value++) {
		unsigned before = ends.offs;

		write_byte(pm, LAYOUT_SLEEP_CONTROL, (uint8_t)value);
		/* SLP_TYP 5 in bits 2-4 and SLP_EN in bit 5, whatever the other bits are */
		assert_int_equal(ends.offs - before, (value & 0x3c) == 0x34);
	}
	assert_int_equal(ends.resets, 0);
	acpi_pm_free(pm);
}

static void test_reset(void **state)
{
	struct ends ends = {0};
	struct acpi_pm *pm = acpi_pm_new(count_off, count_reset, &ends);

	(void)state;
	for (unsigned value = 0; value < 256; value++)
		write_byte(pm, LAYOUT_SLEEP_RESET, (uint8_t)value);
	assert_int_equal(ends.resets, 1);
	for (unsigned value = 0; value < 256; value++)
		write_byte(pm, LAYOUT_SLEEP_STATUS, (uint8_t)value);
	assert_int_equal(ends.resets, 1);
	assert_int_equal(ends.offs, 0);
	acpi_pm_free(pm);
}

static void test_pm_odd_accesses(void **state)
{
	struct ends ends = {0};
	struct acpi_pm *pm = acpi_pm_new(count_off, count_reset, &ends);
	uint16_t value = LAYOUT_SLEEP_OFF;

	(void)state;
	acpi_pm_bus_ops.write(pm, LAYOUT_SLEEP_CONTROL, &value, 2);
	assert_int_equal(ends.offs, 0);
	acpi_pm_bus_ops.read(pm, LAYOUT_SLEEP_CONTROL, &value, 2);
	assert_int_equal(value, 0);
	acpi_pm_free(pm);
}

/* ---- the boot timer ---- */

static char path[] = "/tmp/test_platform.XXXXXX";

static int open_log(void **state)
{
	struct log_config config = {.log_path = path, .level = LOG_LEVEL_INFO};
	struct error err = {0};

	(void)state;
	close_fd(mkstemp(path));
	return log_configure(&config, &err);
}

static int remove_log(void **state)
{
	(void)state;
	return unlink(path);
}

static const char *logged(void)
{
	static char text[4096];
	int fd = open(path, O_RDWR);
	ssize_t len = read(fd, text, sizeof(text) - 1);

	assert_true(len >= 0);
	text[len] = '\0';
	assert_int_equal(ftruncate(fd, 0), 0);
	close(fd);
	return text;
}

static void test_boot_timer(void **state)
{
	struct boot_timer *timer = boot_timer_new();
	struct boot_time start = boot_time_now();
	unsigned long long wall_us, wall_ms, cpu_us, cpu_ms;
	uint8_t value = 123;

	(void)state;
	start.wall_us -= 5000000;
	boot_timer_set_start(timer, start);
	boot_timer_bus_ops.write(timer, 0, &value, 1);
	const char *words = strstr(logged(), "Guest-boot-time =");
	assert_non_null(words);
	assert_int_equal(sscanf(words, "Guest-boot-time = %llu us %llu ms, %llu CPU us %llu CPU ms",
				&wall_us, &wall_ms, &cpu_us, &cpu_ms),
			 4);
	assert_true(wall_us >= 5000000);
	assert_int_equal(wall_ms, wall_us / 1000);
	assert_int_equal(cpu_ms, cpu_us / 1000);
	boot_timer_free(timer);
}

static void test_boot_timer_other_writes(void **state)
{
	struct boot_timer *timer = boot_timer_new();
	uint32_t wide = 123;
	uint8_t value = 122;

	(void)state;
	boot_timer_bus_ops.write(timer, 0, &value, 1);
	value = 123;
	boot_timer_bus_ops.write(timer, 1, &value, 1);
	boot_timer_bus_ops.write(timer, 0, &wide, 4);
	boot_timer_bus_ops.read(timer, 0, &wide, 4);
	assert_int_equal(wide, 0);
	assert_string_equal(logged(), "");
	boot_timer_free(timer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_power_off),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_pm_odd_accesses),
		cmocka_unit_test(test_boot_timer),
		cmocka_unit_test(test_boot_timer_other_writes),
	};

	return cmocka_run_group_tests(tests, open_log, remove_log);
}
