// SPDX-License-Identifier: Apache-2.0
/*
 * Arbitrary requests against the block device. Input: a byte that chooses one of four drives, then pictures of RAM, rings
 * included, each laid over the last before the driver "notifies" again.
 */
#include <assert.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "tests/unit/fake_virtio.h"
#include "virtio/block.h"
#include "virtio/device.h"
#include "vmm/core/log.h"

#define RAM_BYTES     16384u
#define PICTURE_BYTES 2048u
#define DISK_BYTES    65536
#define QUEUE_SIZE    16u
/* Where the rings lie in RAM */
#define DESC_AT  0u
#define AVAIL_AT 0x100u
#define USED_AT  0x140u

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DRIVE_COUNT = 4 };

/* Made once: opening files for every input would be most of the work. */
static struct {
	int file;
	struct loop *loop;
	struct fake_ram ram;
	struct virtio_device *drives[DRIVE_COUNT];
} fuzz;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static char id[] = "fuzz";
	char path[64];
	struct error err;

	(void)argc;
	(void)argv;
	assert(log_configure(&(struct log_config){.level = LOG_LEVEL_OFF}, &err) == 0);
	fuzz.file = memfd_create("disk", MFD_CLOEXEC);
	assert(fuzz.file >= 0 && ftruncate(fuzz.file, DISK_BYTES) == 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fuzz.file);
	fuzz.loop = loop_new();
	assert(fuzz.loop);
	fake_ram_init(&fuzz.ram, RAM_BYTES);
	for (unsigned i = 0; i < DRIVE_COUNT; i++) {
		const struct block_config config = {
			.drive_id = id,
			.path_on_host = path,
			.is_read_only = i == 1,
			.cache_type = i == 2 ? BLOCK_CACHE_WRITEBACK : BLOCK_CACHE_UNSAFE,
			.io_engine = i == 3 ? BLOCK_ENGINE_ASYNC : BLOCK_ENGINE_SYNC,
		};

		fuzz.drives[i] = block_new(&config, &err);
		assert(fuzz.drives[i]);
		assert(virtio_device_attach(fuzz.drives[i], &fuzz.ram.mem, fuzz.loop, 5) == 0);
	}
	return 0;
}

static void activate(struct virtio_device *dev, bool event_idx)
{
	struct virtqueue *vq = &dev->queues[0];

	dev->features_acked = dev->features_offered;
	if (!event_idx)
		dev->features_acked &= ~VIRTIO_F_EVENT_IDX;
	vq->size = QUEUE_SIZE;
	vq->desc_gpa = gpa(FAKE_RAM_BASE + DESC_AT);
	vq->avail_gpa = gpa(FAKE_RAM_BASE + AVAIL_AT);
	vq->used_gpa = gpa(FAKE_RAM_BASE + USED_AT);
	vq->ready = true;
	assert(virtio_device_activate(dev) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *ram = fake_ram_host(&fuzz.ram, FAKE_RAM_BASE);
	struct stat st;

	if (size == 0)
		return 0;
	struct virtio_device *dev = fuzz.drives[data[0] % DRIVE_COUNT];
	bool event_idx = data[0] & 0x80;

	data++;
	size--;
	memset(ram, 0, RAM_BYTES);
	activate(dev, event_idx);
	while (size > 0) {
		size_t part = size < PICTURE_BYTES ? size : PICTURE_BYTES;

		memcpy(ram, data, part);
		data += part;
		size -= part;
		fake_device_kick(dev, 0);
		fake_loop_poll(fuzz.loop);
	}
	virtio_device_pause(dev);
	virtio_device_resume(dev);
	virtio_device_reset(dev);
	(void)fake_device_take_irqs(dev);
	/* No request makes a disk longer or shorter. */
	assert(fstat(fuzz.file, &st) == 0 && st.st_size == DISK_BYTES);
	return 0;
}
