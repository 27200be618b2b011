// SPDX-License-Identifier: Apache-2.0
/*
 * The virtio-mmio transport.
 *
 * DOC: Registers are described once, in the table below: a row gives offset, access and name; everything in the window
 * is 32 bits wide, except the device's configuration space from 0x100 on, which takes any width inside its bounds. An
 * access that fits no row reads as zero and writes nothing.
 *
 * The order of a driver's set-up (3.1.1) is enforced: features change only between DRIVER and FEATURES_OK, queues only
 * between FEATURES_OK and DRIVER_OK. Activation and reset run on the device's loop; dev->lock is dropped meanwhile, so a
 * second vCPU that writes at the same time meets the transient state, in which all set-up writes are refused.
 */
#include "virtio/mmio.h"

#include <string.h>
#include "vmm/core/bytes.h"
#include "vmm/core/checked.h"
#include "vmm/core/log.h"

enum {
	STATUS_ACKNOWLEDGE = 1,
	STATUS_DRIVER = 2,
	STATUS_DRIVER_OK = 4,
	STATUS_FEATURES_OK = 8,
	STATUS_NEEDS_RESET = 64,
	STATUS_FAILED = 128,
};

enum reg {
	REG_MAGIC = 0x000,
	REG_VERSION = 0x004,
	REG_DEVICE_ID = 0x008,
	REG_VENDOR_ID = 0x00c,
	REG_DEVICE_FEATURES = 0x010,
	REG_DEVICE_FEATURES_SEL = 0x014,
	REG_DRIVER_FEATURES = 0x020,
	REG_DRIVER_FEATURES_SEL = 0x024,
	REG_QUEUE_SEL = 0x030,
	REG_QUEUE_NUM_MAX = 0x034,
	REG_QUEUE_NUM = 0x038,
	REG_QUEUE_READY = 0x044,
	REG_QUEUE_NOTIFY = VIRTIO_MMIO_QUEUE_NOTIFY,
	REG_INTERRUPT_STATUS = 0x060,
	REG_INTERRUPT_ACK = 0x064,
	REG_STATUS = 0x070,
	REG_QUEUE_DESC_LOW = 0x080,
	REG_QUEUE_DESC_HIGH = 0x084,
	REG_QUEUE_DRIVER_LOW = 0x090,
	REG_QUEUE_DRIVER_HIGH = 0x094,
	REG_QUEUE_DEVICE_LOW = 0x0a0,
	REG_QUEUE_DEVICE_HIGH = 0x0a4,
	REG_SHM_LEN_LOW = 0x0b0,
	REG_SHM_LEN_HIGH = 0x0b4,
	REG_CONFIG_GENERATION = 0x0fc,
	REG_CONFIG = 0x100,
};

enum access { ACCESS_R = 1, ACCESS_W = 2, ACCESS_RW = 3 };

struct reg_row {
	uint16_t offset;
	uint8_t access;
	const char *name;
};

/* Table 4.1 of 4.2.2, ascending. */
static const struct reg_row reg_rows[] = {
	{REG_MAGIC, ACCESS_R, "MagicValue"},
	{REG_VERSION, ACCESS_R, "Version"},
	{REG_DEVICE_ID, ACCESS_R, "DeviceID"},
	{REG_VENDOR_ID, ACCESS_R, "VendorID"},
	{REG_DEVICE_FEATURES, ACCESS_R, "DeviceFeatures"},
	{REG_DEVICE_FEATURES_SEL, ACCESS_W, "DeviceFeaturesSel"},
	{REG_DRIVER_FEATURES, ACCESS_W, "DriverFeatures"},
	{REG_DRIVER_FEATURES_SEL, ACCESS_W, "DriverFeaturesSel"},
	{REG_QUEUE_SEL, ACCESS_W, "QueueSel"},
	{REG_QUEUE_NUM_MAX, ACCESS_R, "QueueNumMax"},
	{REG_QUEUE_NUM, ACCESS_W, "QueueNum"},
	{REG_QUEUE_READY, ACCESS_RW, "QueueReady"},
	{REG_QUEUE_NOTIFY, ACCESS_W, "QueueNotify"},
	{REG_INTERRUPT_STATUS, ACCESS_R, "InterruptStatus"},
	{REG_INTERRUPT_ACK, ACCESS_W, "InterruptACK"},
	{REG_STATUS, ACCESS_RW, "Status"},
	{REG_QUEUE_DESC_LOW, ACCESS_W, "QueueDescLow"},
	{REG_QUEUE_DESC_HIGH, ACCESS_W, "QueueDescHigh"},
	{REG_QUEUE_DRIVER_LOW, ACCESS_W, "QueueDriverLow"},
	{REG_QUEUE_DRIVER_HIGH, ACCESS_W, "QueueDriverHigh"},
	{REG_QUEUE_DEVICE_LOW, ACCESS_W, "QueueDeviceLow"},
	{REG_QUEUE_DEVICE_HIGH, ACCESS_W, "QueueDeviceHigh"},
	{REG_SHM_LEN_LOW, ACCESS_R, "SHMLenLow"},
	{REG_SHM_LEN_HIGH, ACCESS_R, "SHMLenHigh"},
	{REG_CONFIG_GENERATION, ACCESS_R, "ConfigGeneration"},
};

#define MAGIC         0x74726976u /* "virt" */
#define MMIO_VERSION  2u
#define NO_SHM_REGION 0xffffffffu /* 4.2.2: length of a shared memory region that does not exist */

void virtio_mmio_init(struct virtio_mmio *mmio, struct virtio_device *dev)
{
	*mmio = (struct virtio_mmio){.dev = dev};
}

static bool access_allowed(const struct virtio_mmio *mmio, uint64_t offset, uint32_t len,
			   enum access wanted)
{
	const char *name = "no register";

	for (size_t i = 0; i < sizeof(reg_rows) / sizeof(reg_rows[0]); i++) {
		if (reg_rows[i].offset != offset)
			continue;
		if (len == 4 && (reg_rows[i].access & wanted))
			return true;
		name = reg_rows[i].name;
	}
	log_limited(LOG_LEVEL_WARN, "virtio %s %s: refused %s of %u bytes at 0x%llx (%s)",
		    mmio->dev->ops->name, mmio->dev->id, wanted == ACCESS_R ? "read" : "write", len,
		    (unsigned long long)offset, name);
	return false;
}

static struct virtqueue *selected_queue(struct virtio_mmio *mmio)
{
	return mmio->queue_select < mmio->dev->ops->queue_count
		       ? &mmio->dev->queues[mmio->queue_select]
		       : NULL;
}

static uint32_t offered_features(const struct virtio_mmio *mmio)
{
	uint64_t features = mmio->dev->features_offered;

	if (mmio->device_features_select > 1)
		return 0;
	return (uint32_t)(features >> (32 * mmio->device_features_select));
}

static uint32_t status_read(const struct virtio_mmio *mmio)
{
	return mmio->status | (mmio->dev->needs_reset ? STATUS_NEEDS_RESET : 0u);
}

static uint32_t reg_read(struct virtio_mmio *mmio, uint64_t offset)
{
	struct virtqueue *vq = selected_queue(mmio);

	switch (offset) {
	case REG_MAGIC:
		return MAGIC;
	case REG_VERSION:
		return MMIO_VERSION;
	case REG_DEVICE_ID:
		return mmio->dev->ops->type;
	case REG_DEVICE_FEATURES:
		return offered_features(mmio);
	case REG_QUEUE_NUM_MAX:
		return vq ? vq->size_max : 0;
	case REG_QUEUE_READY:
		return vq ? vq->ready : 0;
	case REG_INTERRUPT_STATUS:
		return atomic_load_explicit(&mmio->dev->interrupt_status, memory_order_acquire);
	case REG_STATUS:
		return status_read(mmio);
	case REG_SHM_LEN_LOW:
	case REG_SHM_LEN_HIGH:
		return NO_SHM_REGION;
	case REG_CONFIG_GENERATION:
		return mmio->dev->config_generation;
	default: /* VendorID */
		return 0;
	}
}

static void mmio_read(void *ctx, uint64_t offset, void *data, uint32_t len)
{
	struct virtio_mmio *mmio = ctx;
	struct virtio_device *dev = mmio->dev;

	memset(data, 0, len);
	if (offset >= REG_CONFIG) {
		pthread_mutex_lock(&dev->lock);
		if (range_within(offset - REG_CONFIG, len, dev->ops->config_bytes))
			dev->ops->config_read(dev, (uint32_t)(offset - REG_CONFIG), data, len);
		pthread_mutex_unlock(&dev->lock);
		return;
	}
	if (!access_allowed(mmio, offset, len, ACCESS_R))
		return;
	pthread_mutex_lock(&dev->lock);
	put_le32(data, reg_read(mmio, offset));
	pthread_mutex_unlock(&dev->lock);
}

static void on_loop_activate(void *ctx)
{
	struct virtio_mmio *mmio = ctx;

	/* Another vCPU may have reset the device between its DRIVER_OK and now. */
	pthread_mutex_lock(&mmio->dev->lock);
	bool wanted = (mmio->status & STATUS_DRIVER_OK) && !mmio->dev->activated;
	pthread_mutex_unlock(&mmio->dev->lock);
	if (wanted)
		(void)virtio_device_activate(mmio->dev); /* a failure shows as NEEDS_RESET */
}

static void on_loop_reset(void *ctx)
{
	struct virtio_mmio *mmio = ctx;

	virtio_device_reset(mmio->dev);
	pthread_mutex_lock(&mmio->dev->lock);
	virtio_mmio_init(mmio, mmio->dev);
	pthread_mutex_unlock(&mmio->dev->lock);
}

/*
 * A device that the driver has not started yet has no work in flight: it is cleared here, without waiting for the loop
 * (every probe begins with a reset). Gives false when the loop has to do it.
 */
static bool reset_idle(struct virtio_mmio *mmio)
{
	struct virtio_device *dev = mmio->dev;

	pthread_mutex_lock(&dev->lock);
	bool idle = !dev->activated && !(mmio->status & STATUS_DRIVER_OK);

	if (idle) {
		virtio_device_clear(dev);
		virtio_mmio_init(mmio, dev);
	}
	pthread_mutex_unlock(&dev->lock);
	return idle;
}

/* 2.2.2, 3.1.1 step 5: the driver accepts a subset that contains VERSION_1, or FEATURES_OK does not stick. */
static bool features_acceptable(const struct virtio_device *dev)
{
	return (dev->features_acked & ~dev->features_offered) == 0 &&
	       (dev->features_acked & VIRTIO_F_VERSION_1) != 0;
}

/* The next step of 3.1.1, if the driver takes it in order. Gives true when the device must be activated. */
static bool advance_status(struct virtio_mmio *mmio, uint8_t wanted)
{
	uint8_t added = (uint8_t)(wanted & ~mmio->status);

	if (wanted & STATUS_FAILED) {
		mmio->status |= STATUS_FAILED;
		return false;
	}
	if ((mmio->status & ~wanted) != 0) {
		log_limited(LOG_LEVEL_WARN, "virtio %s %s: refused to clear status bits 0x%x",
			    mmio->dev->ops->name, mmio->dev->id, mmio->status & ~wanted);
		return false;
	}
	if (added == STATUS_ACKNOWLEDGE && mmio->status == 0)
		mmio->status = wanted;
	else if (added == STATUS_DRIVER && mmio->status == STATUS_ACKNOWLEDGE)
		mmio->status = wanted;
	else if (added == STATUS_FEATURES_OK &&
		 mmio->status == (STATUS_ACKNOWLEDGE | STATUS_DRIVER) &&
		 features_acceptable(mmio->dev))
		mmio->status = wanted;
	else if (added == STATUS_DRIVER_OK &&
		 mmio->status == (STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK)) {
		mmio->status = wanted;
		return true;
	} else if (added != 0)
		log_limited(LOG_LEVEL_WARN, "virtio %s %s: refused status 0x%x after 0x%x",
			    mmio->dev->ops->name, mmio->dev->id, wanted, mmio->status);
	return false;
}

static void status_write(struct virtio_mmio *mmio, uint32_t value)
{
	struct virtio_device *dev = mmio->dev;

	if (value == 0) {
		if (!reset_idle(mmio))
			loop_call(dev->loop, on_loop_reset, mmio);
		return;
	}
	pthread_mutex_lock(&dev->lock);
	bool activate = value <= UINT8_MAX &&
			advance_status(mmio, (uint8_t)(value & ~(uint32_t)STATUS_NEEDS_RESET));
	pthread_mutex_unlock(&dev->lock);
	if (activate)
		loop_call(dev->loop, on_loop_activate, mmio);
}

static void driver_features_write(struct virtio_mmio *mmio, uint32_t value)
{
	uint64_t *acked = &mmio->dev->features_acked;
	unsigned shift = 32 * mmio->driver_features_select;

	if (mmio->driver_features_select > 1 ||
	    (mmio->status & (STATUS_DRIVER | STATUS_FEATURES_OK)) != STATUS_DRIVER)
		return;
	*acked = (*acked & ~(UINT64_C(0xffffffff) << shift)) | ((uint64_t)value << shift);
}

static void set_low(gpa_t *address, uint32_t value)
{
	address->v = (address->v & ~UINT64_C(0xffffffff)) | value;
}

static void set_high(gpa_t *address, uint32_t value)
{
	address->v = (address->v & UINT64_C(0xffffffff)) | ((uint64_t)value << 32);
}

static void queue_write(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
	struct virtqueue *vq = selected_queue(mmio);
	bool configurable =
		(mmio->status & (STATUS_FEATURES_OK | STATUS_DRIVER_OK | STATUS_FAILED)) ==
		STATUS_FEATURES_OK;

	if (!vq || !configurable)
		return;
	switch (offset) {
	case REG_QUEUE_NUM:
		/* A value out of range is kept out of the 16 bits and refused when the queue starts. */
		vq->size = value <= vq->size_max ? (uint16_t)value : 0;
		break;
	case REG_QUEUE_READY:
		vq->ready = value == 1;
		break;
	case REG_QUEUE_DESC_LOW:
		set_low(&vq->desc_gpa, value);
		break;
	case REG_QUEUE_DESC_HIGH:
		set_high(&vq->desc_gpa, value);
		break;
	case REG_QUEUE_DRIVER_LOW:
		set_low(&vq->avail_gpa, value);
		break;
	case REG_QUEUE_DRIVER_HIGH:
		set_high(&vq->avail_gpa, value);
		break;
	case REG_QUEUE_DEVICE_LOW:
		set_low(&vq->used_gpa, value);
		break;
	default: /* QueueDeviceHigh: the table has let nothing else pass */
		set_high(&vq->used_gpa, value);
		break;
	}
}

static void reg_write(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
	switch (offset) {
	case REG_DEVICE_FEATURES_SEL:
		mmio->device_features_select = value;
		break;
	case REG_DRIVER_FEATURES:
		driver_features_write(mmio, value);
		break;
	case REG_DRIVER_FEATURES_SEL:
		mmio->driver_features_select = value;
		break;
	case REG_QUEUE_SEL:
		mmio->queue_select = value;
		break;
	case REG_QUEUE_NOTIFY:
		/* Normally an ioeventfd catches this; a host without one for this queue comes here. */
		if (value < mmio->dev->ops->queue_count)
			virtio_device_renotify(mmio->dev, value);
		break;
	case REG_INTERRUPT_ACK:
		atomic_fetch_and_explicit(&mmio->dev->interrupt_status, ~value,
					  memory_order_acq_rel);
		break;
	default:
		queue_write(mmio, offset, value);
		break;
	}
}

static void config_write(struct virtio_mmio *mmio, uint32_t offset, const void *data, uint32_t len)
{
	struct virtio_device *dev = mmio->dev;

	pthread_mutex_lock(&dev->lock);
	if (dev->ops->config_write && (mmio->status & STATUS_DRIVER) &&
	    range_within(offset, len, dev->ops->config_bytes))
		dev->ops->config_write(dev, offset, data, len);
	pthread_mutex_unlock(&dev->lock);
}

static void mmio_write(void *ctx, uint64_t offset, const void *data, uint32_t len)
{
	struct virtio_mmio *mmio = ctx;

	if (offset >= REG_CONFIG) {
		config_write(mmio, (uint32_t)(offset - REG_CONFIG), data, len);
		return;
	}
	if (!access_allowed(mmio, offset, len, ACCESS_W))
		return;
	if (offset == REG_STATUS) {
		status_write(mmio, get_le32(data));
		return;
	}
	pthread_mutex_lock(&mmio->dev->lock);
	reg_write(mmio, offset, get_le32(data));
	pthread_mutex_unlock(&mmio->dev->lock);
}

const struct bus_ops virtio_mmio_bus_ops = {.read = mmio_read, .write = mmio_write};
