// SPDX-License-Identifier: Apache-2.0
/*
 * The lists of fields of everything that a snapshot holds, loaded from arbitrary payloads. The first byte chooses the kind
 * of section; for a virtio device the second one chooses the device, and memory is filled from the rest. What was loaded
 * is used as a machine would use it, and saved again.
 */
#include <assert.h>
#include <fcntl.h>
#include <sys/mman.h>
#include "tests/unit/fake_virtio.h"
#include "virtio/block.h"
#include "virtio/mmio.h"
#include "virtio/rng.h"
#include "virtio/vsock.h"
#include "vmm/arch/x86_64/chips_saved.h"
#include "vmm/arch/x86_64/cpu_saved.h"
#include "vmm/arch/x86_64/host_cpu.h"
#include "vmm/core/log.h"
#include "vmm/devices/i8042.h"
#include "vmm/devices/serial.h"
#include "vmm/vm_saved.h"

#define RAM_BYTES 65536u

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
	struct loop *loop;
	struct fake_ram ram;
	char drive_path[64], socket_path[64];
} fuzz;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	int file = memfd_create("disk", MFD_CLOEXEC);
	struct error err;

	(void)argc;
	(void)argv;
	assert(log_configure(&(struct log_config){.level = LOG_LEVEL_OFF}, &err) == 0);
	assert(file >= 0 && ftruncate(file, 65536) == 0);
	snprintf(fuzz.drive_path, sizeof(fuzz.drive_path), "/proc/self/fd/%d", file);
	snprintf(fuzz.socket_path, sizeof(fuzz.socket_path), "/tmp/fuzz-snapshot-%d", getpid());
	fuzz.loop = loop_new();
	assert(fuzz.loop);
	fake_ram_init(&fuzz.ram, RAM_BYTES);
	return 0;
}

/* 0 when the payload is a section of that kind; then it can be saved again. */
static int load(const struct state_kind *kind, void *object, const uint8_t *data, size_t size)
{
	struct state_section section = {.version = kind->version,
					.payload = data,
					.payload_bytes = size};
	struct state_file file = {.section_count = 1, .sections = &section}, out;
	struct error err;

	snprintf(section.name, sizeof(section.name), "%s", kind->name);
	int ret = state_load(&file, kind, 0, object, &err);

	if (ret) {
		assert(err.text[0]);
		return ret;
	}
	assert(state_file_new(&out, &err) == 0);
	assert(state_save(&out, kind, 0, object, &err) == 0);
	state_file_free(&out);
	return 0;
}

static struct virtio_device *make_device(unsigned which)
{
	static char id[] = "fuzz";
	const struct block_config drive = {.drive_id = id, .path_on_host = fuzz.drive_path};
	const struct rng_config rng = {.rate_limiter = {0}};
	struct vsock_config vsock = {.guest_cid = 3, .uds_path = fuzz.socket_path};
	struct virtio_device *dev;
	struct error err;

	if (which % 3 == 0)
		dev = block_new(&drive, &err);
	else if (which % 3 == 1)
		dev = vsock_new(&vsock, &err);
	else
		dev = rng_new(&rng, &err);
	assert(dev);
	assert(virtio_device_attach(dev, &fuzz.ram.mem, fuzz.loop, 5) == 0);
	return dev;
}

/* The driver's side of the device that was restored: registers, notifications, a pause, a reset. */
static void use_device(struct virtio_mmio *mmio)
{
	uint8_t word[4];

	virtio_device_repeat_interrupt(mmio->dev);
	virtio_device_resume(mmio->dev);
	for (unsigned i = 0; i < mmio->dev->ops->queue_count; i++)
		virtio_device_renotify(mmio->dev, i);
	fake_loop_poll(fuzz.loop);
	for (uint64_t offset = 0; offset < 0x120; offset += 4)
		virtio_mmio_bus_ops.read(mmio, offset, word, sizeof(word));
	virtio_device_pause(mmio->dev);
}

static void fuzz_virtio(const uint8_t *data, size_t size)
{
	struct virtio_mmio mmio;
	uint8_t *ram = fake_ram_host(&fuzz.ram, FAKE_RAM_BASE);

	if (size == 0)
		return;
	virtio_mmio_init(&mmio, make_device(data[0]));
	memset(ram, 0, RAM_BYTES);
	memcpy(ram, data, size < RAM_BYTES ? size : RAM_BYTES);
	if (load(&virtio_mmio_kind, &mmio, data + 1, size - 1) == 0 &&
	    virtio_device_restore(mmio.dev) == 0)
		use_device(&mmio);
	virtio_device_free(mmio.dev);
}

static void fuzz_serial(const uint8_t *data, size_t size)
{
	static char path[] = "/dev/null";
	const struct serial_config config = {.serial_out_path = path};
	struct irq_line irq = {.eventfd = -1};
	struct error err;
	struct serial *serial = serial_new(fuzz.loop, &irq, &config, &err);
	uint8_t byte = 0;

	assert(serial);
	if (load(&serial_kind, serial, data, size) == 0) {
		serial_repeat_interrupt(serial);
		for (unsigned i = 0; i < 100; i++)
			serial_bus_ops.read(serial, i % SERIAL_PORTS, &byte, 1);
		serial_bus_ops.write(serial, 0, &byte, 1);
	}
	serial_free(serial);
}

static void on_reset(void *ctx)
{
	(void)ctx;
}

static void fuzz_keyboard(const uint8_t *data, size_t size)
{
	struct irq_line irq = {.eventfd = -1};
	struct i8042 *i8042 = i8042_new(&irq, on_reset, NULL);
	uint8_t byte = 0xed;

	assert(i8042);
	if (load(&i8042_kind, i8042, data, size) == 0) {
		i8042_repeat_interrupt(i8042);
		i8042_send_ctrl_alt_del(i8042);
		for (unsigned i = 0; i < 40; i++)
			i8042_bus_ops.read(i8042, 0, &byte, 1);
		i8042_bus_ops.write(i8042, 0, &byte, 1);
	}
	i8042_free(i8042);
}

static void fuzz_processor(const uint8_t *data, size_t size)
{
	struct cpu_saved saved = {0};
	struct error err;

	if (load(&cpu_saved_kind, &saved, data, size) == 0)
		(void)host_cpu_check(saved.cpuid, saved.cpuid, &err);
	cpu_saved_free(&saved);
}

static void fuzz_config(const uint8_t *data, size_t size)
{
	struct saved_config *config = calloc(1, sizeof(*config));

	assert(config);
	(void)load(&saved_config_kind, config, data, size);
	saved_config_free(config);
	free(config);
}

static void fuzz_plain(const uint8_t *data, size_t size)
{
	struct chips_saved chips = {.has_pit = false};
	struct saved_manifest manifest = {.vcpus = 0};

	(void)load(&chips_saved_kind, &chips, data, size);
	(void)load(&saved_manifest_kind, &manifest, data, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const targets[])(const uint8_t *data,
				       size_t size) = {fuzz_virtio,    fuzz_serial, fuzz_keyboard,
						       fuzz_processor, fuzz_config, fuzz_plain};

	if (size > 0)
		targets[data[0] % (sizeof(targets) / sizeof(targets[0]))](data + 1, size - 1);
	return 0;
}
