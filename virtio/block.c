// SPDX-License-Identifier: Apache-2.0
/*
 * The virtio block device.
 *
 * DOC: A request's way. pop → parse (block_request.c) → rate limiter → a tag names it → backend (block_file.c or
 * block_uring.c) → complete(): status byte, used ring. serve() does that for everything available, hands the batch to
 * the backend at once, takes what has completed meanwhile and raises one interrupt for all of it. It runs when the
 * driver notifies, when the backend wakes, when the rate limiter lets go and at resume.
 *
 * A request that cannot be taken now (limiter, no tag) is put back into the ring: nothing is queued here.
 *
 * Tags: requests[] is a stack of free tags, so that a shallow load touches little memory; a driver that offers a chain
 * twice can have more requests in flight than the queue has descriptors, and then waits for a tag.
 */
#include "virtio/block.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "virtio/block_metrics.h"
#include "virtio/block_request.h"
#include "virtio/device.h"
#include "virtio/saved.h"
#include "vmm/core/bytes.h"
#include "vmm/core/log.h"

/* 5.2.3: feature bits */
#define BLK_F_SIZE_MAX     (UINT64_C(1) << 1)
#define BLK_F_SEG_MAX      (UINT64_C(1) << 2)
#define BLK_F_RO           (UINT64_C(1) << 5)
#define BLK_F_BLK_SIZE     (UINT64_C(1) << 6)
#define BLK_F_FLUSH        (UINT64_C(1) << 9)
#define BLK_F_DISCARD      (UINT64_C(1) << 13)
#define BLK_F_WRITE_ZEROES (UINT64_C(1) << 14)

/* 5.2.4: offsets in the configuration space; what is not named reads as zero */
enum {
	CONFIG_CAPACITY = 0,
	CONFIG_SIZE_MAX = 8,
	CONFIG_SEG_MAX = 12,
	CONFIG_BLK_SIZE = 20,
	CONFIG_WRITEBACK = 32,
	CONFIG_NUM_QUEUES = 34,
	CONFIG_MAX_DISCARD_SECTORS = 36,
	CONFIG_MAX_DISCARD_SEG = 40,
	CONFIG_DISCARD_SECTOR_ALIGNMENT = 44,
	CONFIG_MAX_WRITE_ZEROES_SECTORS = 48,
	CONFIG_MAX_WRITE_ZEROES_SEG = 52,
	CONFIG_WRITE_ZEROES_MAY_UNMAP = 56,
	CONFIG_BYTES = 72,
};

#define DISCARD_ALIGNMENT_SECTORS 8 /* pages: what file systems can really punch out */

#define TAG_COUNT VIRTQ_SIZE_MAX
/* What one event may move at most before other devices get their turn, in requests and in bytes. */
#define EVENT_REQUESTS_MAX VIRTQ_SIZE_MAX
#define EVENT_BYTES_MAX    (UINT64_C(16) << 20)

/* A request in flight. */
struct flight {
	struct block_request request;
	uint16_t head; /* of its chain */
	uint16_t next_free;
	enum block_op op;
	uint32_t len_bytes; /* BLOCK_DATA_MAX_BYTES fits */
	uint64_t started_us;
};

struct block {
	struct virtio_device dev; /* must be first */
	char *drive_id;           /* owned */
	struct block_file file;   /* sectors also under dev.lock: read by vCPUs */
	bool read_only;
	bool writeback;
	enum block_engine engine;
	struct block_backend *backend; /* owned; from the first activation on */
	struct rate_limiter limiter;
	struct block_metrics metrics;

	struct virtq_chain chain; /* the one that is being parsed */
	bool pushed;  /* chains were completed since the last interrupt was considered */
	bool resized; /* restored with a file of another size; until the driver is told */
	bool starved; /* a request was put back for want of a tag */
	unsigned in_flight;
	unsigned fresh;    /* tags from here on were never used */
	uint16_t free_tag; /* top of the stack of free tags; TAG_COUNT: empty */
	struct flight flights[TAG_COUNT];
};

static struct block *to_block(struct virtio_device *dev)
{
	return (struct block *)dev;
}

/* ---- tags ---- */

/* A free tag, or TAG_COUNT. */
static unsigned take_tag(struct block *block)
{
	unsigned tag = block->free_tag;

	if (tag < TAG_COUNT)
		block->free_tag = block->flights[tag].next_free;
	else if (block->fresh < TAG_COUNT)
		tag = block->fresh++;
	else
		return TAG_COUNT;
	block->in_flight++;
	return tag;
}

static void put_tag(struct block *block, uint16_t tag)
{
	block->flights[tag].next_free = block->free_tag;
	block->free_tag = tag;
	block->in_flight--;
}

/* ---- completion ---- */

static void answer(struct block *block, uint16_t head, const struct block_request *request,
		   enum block_status status)
{
	if (block->dev.needs_reset) /* the driver has lost track of its queue */
		return;
	if (request->status)
		*request->status = (uint8_t)status;
	virtqueue_push(&block->dev.queues[0], head,
		       status == BLOCK_S_OK ? request->ok_bytes : request->fail_bytes);
	block->pushed = true;
}

static void count_success(struct block_metrics *metrics, const struct flight *flight)
{
	const uint64_t took_us = metrics_now_us() - flight->started_us;

	if (flight->op == BLOCK_OP_READ) {
		metric_add(&metrics->read_bytes, flight->len_bytes);
		metric_add(&metrics->read_count, 1);
		metric_agg_record(&metrics->read_agg, took_us);
	} else if (flight->op == BLOCK_OP_WRITE) {
		metric_add(&metrics->write_bytes, flight->len_bytes);
		metric_add(&metrics->write_count, 1);
		metric_agg_record(&metrics->write_agg, took_us);
	} else if (flight->op == BLOCK_OP_FLUSH) {
		metric_add(&metrics->flush_count, 1);
	}
}

static void on_complete(void *ctx, uint16_t tag, int result)
{
	static const char *const names[] = {
		[BLOCK_OP_READ] = "read",         [BLOCK_OP_WRITE] = "write",
		[BLOCK_OP_FLUSH] = "flush",       [BLOCK_OP_DISCARD] = "discard",
		[BLOCK_OP_ZERO] = "write zeroes", [BLOCK_OP_ZERO_UNMAP] = "write zeroes",
	};
	struct block *block = ctx;
	struct flight *flight = &block->flights[tag];
	enum block_status status = BLOCK_S_OK;

	if (result == -EOPNOTSUPP && flight->op == BLOCK_OP_DISCARD) {
		status = BLOCK_S_UNSUPP;
	} else if (result) {
		status = BLOCK_S_IOERR;
		metric_add(&block->metrics.execute_fails, 1);
		log_limited(LOG_LEVEL_ERROR, "Drive %s: %s failed: %s", block->drive_id,
			    names[flight->op], strerror(-result));
	} else {
		count_success(&block->metrics, flight);
	}
	answer(block, flight->head, &flight->request, status);
	put_tag(block, tag);
}

/* ---- the queue ---- */

enum taken { TAKEN_ONE, TAKEN_NONE, TAKEN_BLOCKED };

static void answer_at_once(struct block *block, uint16_t head, const struct block_request *request,
			   enum block_verdict verdict)
{
	enum block_status status = BLOCK_S_OK;

	if (verdict != BLOCK_DONE) {
		metric_add(&block->metrics.invalid_reqs_count, 1);
		status = verdict == BLOCK_BAD ? BLOCK_S_IOERR : BLOCK_S_UNSUPP;
	}
	answer(block, head, request, status);
}

/* false: every tag is in use. */
static bool submit(struct block *block, uint16_t head, const struct block_request *request,
		   struct block_io *io)
{
	unsigned tag = take_tag(block);

	if (tag == TAG_COUNT) {
		block->starved = true;
		metric_add(&block->metrics.io_engine_throttled_events, 1);
		return false;
	}
	io->tag = (uint16_t)tag;
	block->flights[tag] = (struct flight){
		.request = *request,
		.head = head,
		.op = io->op,
		.len_bytes = (uint32_t)io->len_bytes,
		.started_us = metrics_now_us(),
	};
	block->backend->ops->submit(block->backend, io);
	return true;
}

/*
 * Answers or submits the request in block->chain. false: it has to wait, and nothing was done. cost_bytes: what the
 * request counts against the event's bound; for what moves no data a guess of what it costs a file system.
 */
static bool start_request(struct block *block, uint64_t *cost_bytes)
{
	const struct block_disk disk = {
		.sectors = block->file.sectors,
		.read_only = block->read_only,
		.can_flush = block->writeback,
		.serial = block->file.serial,
	};
	struct block_request request;
	struct block_io io;
	const uint16_t head = block->chain.head;
	enum block_verdict verdict = block_request_parse(&block->chain, &disk, &request, &io);
	uint64_t data_bytes = verdict == BLOCK_DO && io.iov_count > 0 ? io.len_bytes : 0;

	if (!rate_limiter_consume(&block->limiter, data_bytes)) {
		metric_add(&block->metrics.rate_limiter_throttled_events, 1);
		return false;
	}
	if (verdict != BLOCK_DO) {
		answer_at_once(block, head, &request, verdict);
		return true;
	}
	*cost_bytes = io.op == BLOCK_OP_FLUSH || io.op == BLOCK_OP_DISCARD ? EVENT_BYTES_MAX / 16
									   : io.len_bytes;
	if (!submit(block, head, &request, &io)) {
		rate_limiter_refund(&block->limiter, data_bytes);
		return false;
	}
	return true;
}

static enum taken take_request(struct block *block, uint64_t *cost_bytes)
{
	struct virtqueue *vq = &block->dev.queues[0];
	int popped = virtqueue_pop(vq, &block->chain);

	if (popped < 0) {
		metric_add(&block->metrics.event_fails, 1);
		virtio_device_fail(&block->dev, "request queue is malformed");
		return TAKEN_BLOCKED;
	}
	if (popped == 0)
		return TAKEN_NONE;
	if (!start_request(block, cost_bytes)) {
		virtqueue_undo_pop(vq);
		metric_add(&block->metrics.remaining_reqs_count, virtqueue_available(vq));
		return TAKEN_BLOCKED;
	}
	return TAKEN_ONE;
}

static void signal_pushed(struct block *block)
{
	if (!block->pushed)
		return;
	block->pushed = false;
	virtio_device_signal_used(&block->dev, &block->dev.queues[0]);
}

/* Hands over what was submitted, takes what is done, and tells the driver: one interrupt for all of it. */
static void finish_batch(struct block *block)
{
	block->backend->ops->run(block->backend);
	signal_pushed(block);
}

/*
 * Takes what is available, within one event's bounds. Notifications are off meanwhile, and stay off when something
 * else than a notification brings us back.
 */
static void take_requests(struct block *block)
{
	struct virtqueue *vq = &block->dev.queues[0];
	unsigned requests = 0;
	uint64_t bytes = 0;
	enum taken taken;

	virtqueue_disable_notify(vq);
	do {
		uint64_t cost_bytes = 0;

		taken = take_request(block, &cost_bytes);
		requests++;
		bytes += cost_bytes;
		if (requests == EVENT_REQUESTS_MAX || bytes >= EVENT_BYTES_MAX) {
			virtio_device_renotify(&block->dev, 0);
			return;
		}
		if (taken == TAKEN_NONE)
			finish_batch(block);
	} while (taken == TAKEN_ONE || (taken == TAKEN_NONE && virtqueue_enable_notify(vq)));
}

static void serve(struct block *block)
{
	if (!block->dev.activated)
		return;
	if (!block->dev.paused && !block->dev.needs_reset &&
	    !rate_limiter_is_blocked(&block->limiter))
		take_requests(block);
	/* Always, so that a completion does not stay in the backend and keep waking it. */
	finish_batch(block);
	if (block->starved && block->in_flight < TAG_COUNT) {
		block->starved = false;
		virtio_device_renotify(&block->dev, 0);
	}
}

static void block_queue_notify(struct virtio_device *dev, unsigned index)
{
	struct block *block = to_block(dev);

	metric_add(&block->metrics.queue_event_count, 1);
	if (virtqueue_available(&dev->queues[index]) == 0)
		metric_add(&block->metrics.no_avail_buffer, 1);
	serve(block);
}

static void on_limiter(void *ctx)
{
	struct block *block = ctx;

	metric_add(&block->metrics.rate_limiter_event_count, 1);
	serve(block);
}

static void on_wake(void *ctx)
{
	serve(ctx);
}

/* ---- the device ---- */

static void block_config_read(struct virtio_device *dev, uint32_t offset, void *out, uint32_t len)
{
	const struct block *block = to_block(dev);
	uint8_t config[CONFIG_BYTES] = {0};

	put_le64(config + CONFIG_CAPACITY, block->file.sectors);
	put_le32(config + CONFIG_SIZE_MAX, BLOCK_SIZE_MAX);
	put_le32(config + CONFIG_SEG_MAX, BLOCK_SEG_MAX);
	put_le32(config + CONFIG_BLK_SIZE, BLOCK_SECTOR_BYTES);
	config[CONFIG_WRITEBACK] = block->writeback;
	put_le16(config + CONFIG_NUM_QUEUES, 1);
	if (!block->read_only) {
		put_le32(config + CONFIG_MAX_DISCARD_SECTORS, BLOCK_DISCARD_SECTORS);
		put_le32(config + CONFIG_MAX_DISCARD_SEG, 1);
		put_le32(config + CONFIG_DISCARD_SECTOR_ALIGNMENT, DISCARD_ALIGNMENT_SECTORS);
		put_le32(config + CONFIG_MAX_WRITE_ZEROES_SECTORS, BLOCK_ZEROES_SECTORS);
		put_le32(config + CONFIG_MAX_WRITE_ZEROES_SEG, 1);
		config[CONFIG_WRITE_ZEROES_MAY_UNMAP] = 1;
	}
	memcpy(out, config + offset, len);
}

static int make_backend(struct block *block)
{
	const struct block_client client = {.ctx = block, .complete = on_complete, .wake = on_wake};

	if (!block->backend)
		block->backend = block->engine == BLOCK_ENGINE_ASYNC
					 ? block_uring_new(block->file.fd, &client, block->dev.loop,
							   TAG_COUNT)
					 : block_sync_new(block->file.fd, &client);
	return block->backend ? 0 : -ENOMEM;
}

static int block_activate(struct virtio_device *dev)
{
	struct block *block = to_block(dev);
	int ret = dev->queues[0].ready ? make_backend(block) : -EINVAL;

	if (!ret)
		ret = rate_limiter_attach(&block->limiter, dev->loop, on_limiter, block);
	if (ret)
		metric_add(&block->metrics.activate_fails, 1);
	block->pushed = false;
	block->starved = false;
	return ret;
}

static void block_reset(struct virtio_device *dev)
{
	struct block *block = to_block(dev);

	if (block->backend)
		block->backend->ops->drain(block->backend);
	rate_limiter_detach(&block->limiter);
}

static void block_pause(struct virtio_device *dev)
{
	struct block *block = to_block(dev);

	block->backend->ops->drain(block->backend);
	signal_pushed(block);
}

static void block_resume(struct virtio_device *dev)
{
	serve(to_block(dev));
}

/* Nothing is in flight in a device that is paused. A file of another size is news for the driver. */
static void block_fields(struct virtio_device *dev, struct state *s)
{
	struct block *block = to_block(dev);
	uint64_t sectors = block->file.sectors;

	state_u64(s, "sectors", &sectors);
	block->resized = sectors != block->file.sectors;
	virtio_saved_limiter(s, &block->limiter);
}

static void block_restored(struct virtio_device *dev)
{
	struct block *block = to_block(dev);

	if (block->resized)
		virtio_device_signal_config(dev);
	block->resized = false;
}

static void block_free(struct virtio_device *dev)
{
	struct block *block = to_block(dev);

	if (block->backend)
		block->backend->ops->free(block->backend);
	block_file_close(&block->file, block->writeback && !block->read_only);
	metrics_unregister(&block->metrics);
	virtio_device_destroy(dev);
	free(block->drive_id);
	free(block);
}

static const struct virtio_device_ops block_ops = {
	.name = "block",
	.type = VIRTIO_TYPE_BLOCK,
	.queue_count = 1,
	.queue_size = VIRTQ_SIZE_MAX,
	.config_bytes = CONFIG_BYTES,
	.config_read = block_config_read,
	.activate = block_activate,
	.queue_notify = block_queue_notify,
	.reset = block_reset,
	.pause = block_pause,
	.resume = block_resume,
	.fields = block_fields,
	.restored = block_restored,
	.free = block_free,
};

static uint64_t offered_features(const struct block *block)
{
	uint64_t features = VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC | BLK_F_SIZE_MAX |
			    BLK_F_SEG_MAX | BLK_F_BLK_SIZE;

	if (block->writeback)
		features |= BLK_F_FLUSH;
	return features | (block->read_only ? BLK_F_RO : BLK_F_DISCARD | BLK_F_WRITE_ZEROES);
}

/* ---- for the API ---- */

struct virtio_device *block_new(const struct block_config *config, struct error *err)
{
	struct block *block = NULL;

	if (!config->path_on_host || config->socket) {
		error_set(err, -EINVAL, "Invalid block config.");
		return NULL;
	}
	block = calloc(1, sizeof(*block));
	if (!block || !(block->drive_id = strdup(config->drive_id))) {
		free(block);
		error_set_os(err, -ENOMEM, "Cannot make the block device");
		return NULL;
	}
	block->read_only = config->is_read_only;
	block->writeback = config->cache_type == BLOCK_CACHE_WRITEBACK;
	block->engine = config->io_engine;
	block->free_tag = TAG_COUNT;
	rate_limiter_init(&block->limiter, &config->rate_limiter);
	virtio_device_init(&block->dev, &block_ops, block->drive_id, offered_features(block));
	if (block_file_open(&block->file, config->path_on_host, block->read_only, err)) {
		block_free(&block->dev);
		return NULL;
	}
	if (metrics_register(&block_metrics_class, block->drive_id, &block->metrics)) {
		error_set_os(err, -ENOMEM, "Cannot register the block device's metrics");
		block_free(&block->dev);
		return NULL;
	}
	return &block->dev;
}

int block_update_path(struct virtio_device *dev, const char *path_on_host, struct error *err)
{
	struct block *block = to_block(dev);
	struct block_file fresh;
	int ret = block_file_open(&fresh, path_on_host, block->read_only, err);

	if (ret) {
		metric_add(&block->metrics.update_fails, 1);
		return ret;
	}
	if (block->backend) {
		block->backend->ops->drain(block->backend);
		signal_pushed(block);
		block->backend->ops->change_file(block->backend, fresh.fd);
	}
	pthread_mutex_lock(&dev->lock);
	struct block_file old = block->file;

	block->file = fresh;
	pthread_mutex_unlock(&dev->lock);
	block_file_close(&old, block->writeback && !block->read_only);
	metric_add(&block->metrics.update_count, 1);
	virtio_device_signal_config(dev);
	return 0;
}

void block_update_rate_limiter(struct virtio_device *dev, const struct rate_limiter_config *config)
{
	rate_limiter_update(&to_block(dev)->limiter, config);
}
