// SPDX-License-Identifier: Apache-2.0
/*
 * State files of released formats, which must be readable for ever (tests/unit/golden/state-VERSION). When the format
 * changes, the last release's file is added here and none is ever replaced.
 */
#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>
#include "virtio/mmio.h"
#include "vmm/arch/x86_64/chips_saved.h"
#include "vmm/arch/x86_64/cpu_saved.h"
#include "vmm/devices/i8042.h"
#include "vmm/devices/serial.h"
#include "vmm/vm_saved.h"

#define GOLDEN "tests/unit/golden/"

static struct state_file file;
static struct error err;

static void load(const struct state_kind *kind, uint32_t instance, void *object)
{
	if (state_load(&file, kind, instance, object, &err))
		fail_msg("%s", err.text);
}

static void check_manifest(void)
{
	struct saved_manifest manifest;

	load(&saved_manifest_kind, 0, &manifest);
	assert_string_equal(manifest.monitor, "1.0.0");
	assert_int_equal(manifest.vcpus, 2);
	assert_int_equal(manifest.memory_bytes, 128 << 20);
	assert_false(manifest.is_diff);
}

static void check_config(void)
{
	struct saved_config *config = calloc(1, sizeof(*config));

	assert_non_null(config);
	load(&saved_config_kind, 0, config);
	assert_int_equal(config->machine.vcpu_count, 2);
	assert_string_equal(config->boot.boot_args, "console=ttyS0");
	assert_null(config->boot.initrd_path);
	assert_int_equal(config->drive_count, 1);
	assert_string_equal(config->drives[0].drive_id, "root");
	assert_string_equal(config->drives[0].path_on_host, "disk");
	assert_int_equal(config->drives[0].cache_type, BLOCK_CACHE_WRITEBACK);
	assert_int_equal(config->drives[0].rate_limiter.ops.one_time_burst, 5);
	assert_int_equal(config->net_count, 0);
	assert_true(config->has_vsock);
	assert_int_equal(config->vsock.guest_cid, 3);
	assert_true(config->has_entropy);
	saved_config_free(config);
	free(config);
}

static void check_processors(void)
{
	struct chips_saved chips = {.has_pit = true};

	for (uint32_t i = 0; i < 2; i++) {
		struct cpu_saved cpu = {0};

		load(&cpu_saved_kind, i, &cpu);
		assert_int_not_equal(cpu.cpuid->nent, 0);
		assert_int_not_equal(cpu.msrs->nmsrs, 0);
		assert_int_equal(cpu.xsave_bytes, 4096);
		assert_int_not_equal(cpu.tsc_khz, 0);
		cpu_saved_free(&cpu);
	}
	load(&chips_saved_kind, 0, &chips);
	assert_false(chips.has_pit);
	assert_int_not_equal(chips.clock_ns, 0);
}

static void no_reset(void *ctx)
{
	(void)ctx;
}

static void check_devices(void)
{
	static char path[] = "/dev/null";
	struct irq_line irq = {.eventfd = -1};
	struct loop *loop = loop_new();
	struct serial *serial =
		serial_new(loop, &irq, &(struct serial_config){.serial_out_path = path}, &err);
	struct i8042 *i8042 = i8042_new(&irq, no_reset, NULL);
	const struct rng_config no_limit = {.rate_limiter = {.has_ops = false}};
	struct virtio_device *rng = rng_new(&no_limit, &err);
	struct virtio_mmio mmio;

	assert_true(serial && i8042 && rng);
	load(&serial_kind, 0, serial);
	load(&i8042_kind, 0, i8042);
	virtio_mmio_init(&mmio, rng);
	load(&virtio_mmio_kind, 2, &mmio);
	virtio_device_free(rng);
	i8042_free(i8042);
	serial_free(serial);
	loop_free(loop);
}

static void format_1_0_0(void **state)
{
	(void)state;
	if (state_file_read(&file, GOLDEN "state-1.0.0", &err))
		fail_msg("%s", err.text);
	check_manifest();
	check_config();
	check_processors();
	check_devices();
	state_file_free(&file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(format_1_0_0)};

	return RUN_TESTS(tests);
}
