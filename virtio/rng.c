// SPDX-License-Identifier: Apache-2.0
/*
 * The virtio entropy device: the host's getrandom(2), written straight into the driver's buffers.
 *
 * DOC: Everything is done inside serve(), so nothing is ever in flight. It runs when the driver notifies, when the rate
 * limiter lets go and at resume.
 */
#include "virtio/rng.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "virtio/device.h"
#include "virtio/saved.h"
#include "vmm/core/log.h"
#include "vmm/core/metrics.h"

#define RNG_QUEUE_SIZE    256u
#define REQUEST_BYTES_MAX (64u << 10)
/* What one event may generate at most before other devices get their turn. */
#define EVENT_BYTES_MAX (UINT64_C(1) << 20)
/* A request costs at least this much of that, however short it is. */
#define REQUEST_COST_BYTES 1024u

struct rng_metrics {
	metric_t activate_fails, entropy_event_fails, entropy_event_count, entropy_bytes,
		host_rng_fails, entropy_rate_limiter_throttled, rate_limiter_event_count;
};

#define FIELD(member) METRIC_FIELD(rng_metrics, member, METRIC_COUNT)
static const struct metric_field rng_metric_fields[] = {
	FIELD(activate_fails),           FIELD(entropy_event_fails),
	FIELD(entropy_event_count),      FIELD(entropy_bytes),
	FIELD(host_rng_fails),           FIELD(entropy_rate_limiter_throttled),
	FIELD(rate_limiter_event_count),
};
#undef FIELD

const struct metrics_class rng_metrics_class = {
	.group = "entropy",
	.fields = rng_metric_fields,
	.field_count = sizeof(rng_metric_fields) / sizeof(rng_metric_fields[0]),
	.instance_bytes = sizeof(struct rng_metrics),
};

struct rng {
	struct virtio_device dev; /* must be first */
	struct rate_limiter limiter;
	struct rng_metrics metrics;
	struct virtq_chain chain; /* the one that is being filled */
};

static struct rng *to_rng(struct virtio_device *dev)
{
	return (struct rng *)dev;
}

/* Fills a buffer. 0 or -errno; -EAGAIN while the host's own generator is not ready, which must not stop the loop. */
static int fill(uint8_t *out, size_t len)
{
	while (len > 0) {
		ssize_t got = getrandom(out, len, GRND_NONBLOCK);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		out += got;
		len -= (size_t)got;
	}
	return 0;
}

/* How many bytes the request in rng->chain asks for, as far as one request may. */
static uint32_t wanted_bytes(const struct rng *rng)
{
	if (rng->chain.readable > 0) /* 5.4.6.1 allows no such buffer */
		return 0;
	return rng->chain.writable_bytes < REQUEST_BYTES_MAX ? (uint32_t)rng->chain.writable_bytes
							     : REQUEST_BYTES_MAX;
}

/* Gives how many bytes were written. */
static uint32_t fill_chain(struct rng *rng, uint32_t wanted)
{
	uint32_t done = 0;

	for (unsigned i = 0; done < wanted; i++) {
		const struct iovec *iov = &rng->chain.iov[i];
		uint32_t left = wanted - done;
		uint32_t part = iov->iov_len < left ? (uint32_t)iov->iov_len : left;
		int ret = fill(iov->iov_base, part);

		if (ret) {
			metric_add(&rng->metrics.host_rng_fails, 1);
			log_limited(LOG_LEVEL_ERROR,
				    "The host's random number generator failed: %s",
				    strerror(-ret));
			break;
		}
		done += part;
	}
	return done;
}

/* Serves the next request. false: there is none, or it has to wait. */
static bool serve_one(struct rng *rng, uint32_t *bytes)
{
	struct virtqueue *vq = &rng->dev.queues[0];
	int popped = virtqueue_pop(vq, &rng->chain);

	if (popped < 0)
		virtio_device_fail(&rng->dev, "request queue is malformed");
	if (popped <= 0)
		return false;
	*bytes = wanted_bytes(rng);
	if (!rate_limiter_consume(&rng->limiter, *bytes)) {
		metric_add(&rng->metrics.entropy_rate_limiter_throttled, 1);
		virtqueue_undo_pop(vq);
		return false;
	}
	if (*bytes == 0)
		metric_add(&rng->metrics.entropy_event_fails, 1);
	uint32_t done = fill_chain(rng, *bytes);

	metric_add(&rng->metrics.entropy_bytes, done);
	virtqueue_push(vq, rng->chain.head, done);
	return true;
}

static void serve(struct rng *rng)
{
	struct virtio_device *dev = &rng->dev;
	struct virtqueue *vq = &dev->queues[0];
	uint64_t cost = 0;
	bool pushed = false;

	if (!dev->activated || dev->paused || dev->needs_reset ||
	    rate_limiter_is_blocked(&rng->limiter))
		return;
	do {
		uint32_t bytes;

		virtqueue_disable_notify(vq);
		while (cost < EVENT_BYTES_MAX && serve_one(rng, &bytes)) {
			pushed = true;
			cost += bytes + REQUEST_COST_BYTES;
		}
		if (cost >= EVENT_BYTES_MAX) {
			virtio_device_renotify(dev, 0);
			break;
		}
		if (rate_limiter_is_blocked(&rng->limiter))
			break;
	} while (virtqueue_enable_notify(vq));
	if (pushed)
		virtio_device_signal_used(dev, vq);
}

static void rng_queue_notify(struct virtio_device *dev, unsigned index)
{
	struct rng *rng = to_rng(dev);

	(void)index;
	metric_add(&rng->metrics.entropy_event_count, 1);
	serve(rng);
}

static void on_limiter(void *ctx)
{
	struct rng *rng = ctx;

	metric_add(&rng->metrics.rate_limiter_event_count, 1);
	serve(rng);
}

static void rng_config_read(struct virtio_device *dev, uint32_t offset, void *out, uint32_t len)
{
	(void)dev;
	(void)offset;
	memset(out, 0, len); /* never asked for: there is no configuration space (5.4.4) */
}

static int rng_activate(struct virtio_device *dev)
{
	struct rng *rng = to_rng(dev);
	int ret = dev->queues[0].ready
			  ? rate_limiter_attach(&rng->limiter, dev->loop, on_limiter, rng)
			  : -EINVAL;

	if (ret)
		metric_add(&rng->metrics.activate_fails, 1);
	return ret;
}

static void rng_reset(struct virtio_device *dev)
{
	rate_limiter_detach(&to_rng(dev)->limiter);
}

static void rng_pause(struct virtio_device *dev)
{
	(void)dev; /* nothing is in flight; serve() looks at dev->paused */
}

static void rng_resume(struct virtio_device *dev)
{
	serve(to_rng(dev));
}

static void rng_fields(struct virtio_device *dev, struct state *s)
{
	virtio_saved_limiter(s, &to_rng(dev)->limiter);
}

static void rng_free(struct virtio_device *dev)
{
	struct rng *rng = to_rng(dev);

	metrics_unregister(&rng->metrics);
	virtio_device_destroy(dev);
	free(rng);
}

static const struct virtio_device_ops rng_ops = {
	.name = "rng",
	.type = VIRTIO_TYPE_RNG,
	.queue_count = 1,
	.queue_size = RNG_QUEUE_SIZE,
	.config_read = rng_config_read,
	.activate = rng_activate,
	.queue_notify = rng_queue_notify,
	.reset = rng_reset,
	.pause = rng_pause,
	.resume = rng_resume,
	.fields = rng_fields,
	.free = rng_free,
};

struct virtio_device *rng_new(const struct rng_config *config, struct error *err)
{
	struct rng *rng = calloc(1, sizeof(*rng));

	if (!rng) {
		error_set_os(err, -ENOMEM, "Cannot make the entropy device");
		return NULL;
	}
	rate_limiter_init(&rng->limiter, &config->rate_limiter);
	virtio_device_init(&rng->dev, &rng_ops, "rng", VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC);
	if (metrics_register(&rng_metrics_class, NULL, &rng->metrics)) {
		error_set_os(err, -ENOMEM, "Cannot register the entropy device's metrics");
		rng_free(&rng->dev);
		return NULL;
	}
	return &rng->dev;
}
