// SPDX-License-Identifier: Apache-2.0
/* What all virtio devices share: queue events, interrupts, activation, reset, pause. */
#include "virtio/device.h"

#include <errno.h>
#include <sys/eventfd.h>
#include "vmm/core/log.h"
#include "vmm/core/metrics_groups.h"

enum { INTERRUPT_USED = 1, INTERRUPT_CONFIG = 2 };

/* Every write to an eventfd is an edge: a notification costs no read() to take it out again. */
#define NOTIFIED (LOOP_READ | LOOP_EDGE)

void virtio_device_init(struct virtio_device *dev, const struct virtio_device_ops *ops,
			const char *id, uint64_t features_offered)
{
	*dev = (struct virtio_device){
		.ops = ops,
		.id = id,
		.features_offered = features_offered | VIRTIO_F_VERSION_1,
		.irq = {.eventfd = -1},
	};
	pthread_mutex_init(&dev->lock, NULL);
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		dev->notify_fds[i] = -1;
	for (unsigned i = 0; i < ops->queue_count; i++) {
		dev->queues[i].size_max = ops->queue_size;
		virtqueue_reset(&dev->queues[i]);
	}
}

void virtio_device_detach(struct virtio_device *dev)
{
	if (dev->activated)
		virtio_device_reset(dev);
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
		close_fd(dev->notify_fds[i]);
		dev->notify_fds[i] = -1;
	}
	close_fd(dev->irq.eventfd);
	dev->irq.eventfd = -1;
	dev->mem = NULL;
	dev->loop = NULL;
}

void virtio_device_destroy(struct virtio_device *dev)
{
	virtio_device_detach(dev);
	pthread_mutex_destroy(&dev->lock);
}

int virtio_device_attach(struct virtio_device *dev, const struct guest_memory *mem,
			 struct loop *loop, uint32_t gsi)
{
	dev->mem = mem;
	dev->loop = loop;
	dev->irq.gsi = gsi;
	dev->irq.eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (dev->irq.eventfd < 0)
		return -errno;
	for (unsigned i = 0; i < dev->ops->queue_count; i++) {
		dev->notify_fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (dev->notify_fds[i] < 0)
			return -errno;
	}
	return 0;
}

static void interrupt(struct virtio_device *dev, uint32_t reason)
{
	atomic_fetch_or_explicit(&dev->interrupt_status, reason, memory_order_release);
	metric_add_shared(&process_metrics.interrupts.triggers, 1);
	irq_raise(&dev->irq);
}

void virtio_device_signal_used(struct virtio_device *dev, struct virtqueue *vq)
{
	if (virtqueue_needs_signal(vq))
		interrupt(dev, INTERRUPT_USED);
}

void virtio_device_signal_queues(struct virtio_device *dev, unsigned queue_bits)
{
	bool wanted = false;

	for (unsigned i = 0; i < dev->ops->queue_count; i++) {
		if (queue_bits & 1u << i)
			wanted |= virtqueue_needs_signal(&dev->queues[i]);
	}
	if (wanted)
		interrupt(dev, INTERRUPT_USED);
}

void virtio_device_signal_config(struct virtio_device *dev)
{
	pthread_mutex_lock(&dev->lock);
	dev->config_generation++;
	bool listening = dev->activated;
	pthread_mutex_unlock(&dev->lock);
	if (listening) {
		metric_add_shared(&process_metrics.interrupts.config_updates, 1);
		interrupt(dev, INTERRUPT_CONFIG);
	}
}

void virtio_device_renotify(struct virtio_device *dev, unsigned index)
{
	const uint64_t one = 1;
	ssize_t written = write(dev->notify_fds[index], &one, sizeof(one));

	(void)written; /* a full counter is a notification too */
}

static void listen_to_queues(struct virtio_device *dev, unsigned events)
{
	for (unsigned i = 0; i < dev->ops->queue_count; i++) {
		if (dev->queue_sources[i])
			loop_source_set_events(dev->queue_sources[i], events);
	}
}

void virtio_device_fail(struct virtio_device *dev, const char *reason)
{
	pthread_mutex_lock(&dev->lock);
	bool already = dev->needs_reset;
	dev->needs_reset = true;
	pthread_mutex_unlock(&dev->lock);
	if (already)
		return;
	log_limited(LOG_LEVEL_ERROR, "virtio %s %s: %s; the device waits for a reset by its driver",
		    dev->ops->name, dev->id, reason);
	listen_to_queues(dev, 0);
	interrupt(dev,
		  INTERRUPT_CONFIG); /* 2.1.2: tell the driver that DEVICE_NEEDS_RESET is set */
}

static void drain(int fd)
{
	uint64_t count;
	ssize_t got = read(fd, &count, sizeof(count));

	(void)got; /* EAGAIN: another reader was faster */
}

static void notify(struct virtio_device *dev, unsigned index)
{
	if (dev->activated && !dev->needs_reset && dev->queues[index].ready)
		dev->ops->queue_notify(dev, index);
}

/* One callback a queue index: libevent's argument carries the device only. */
#define QUEUE_CALLBACK(index)                                    \
	static void on_queue_##index(void *ctx, unsigned events) \
	{                                                        \
		(void)events;                                    \
		notify(ctx, index);                              \
	}
QUEUE_CALLBACK(0)
QUEUE_CALLBACK(1)
QUEUE_CALLBACK(2)
QUEUE_CALLBACK(3)
QUEUE_CALLBACK(4)

static const loop_fd_fn queue_callbacks[] = {on_queue_0, on_queue_1, on_queue_2, on_queue_3,
					     on_queue_4};
_Static_assert(sizeof(queue_callbacks) / sizeof(queue_callbacks[0]) == VIRTIO_QUEUES_MAX,
	       "one callback a queue");

/* restored: from the position that a snapshot has put into the queue. */
static int start_queues(struct virtio_device *dev, bool restored)
{
	bool event_idx = virtio_device_has_feature(dev, VIRTIO_F_EVENT_IDX);
	bool indirect = virtio_device_has_feature(dev, VIRTIO_F_INDIRECT_DESC);

	for (unsigned i = 0; i < dev->ops->queue_count; i++) {
		struct virtqueue *vq = &dev->queues[i];

		/* A driver may leave queues unused (5.x: optional ones); those stay silent. */
		if (!vq->ready)
			continue;
		int ret = (restored ? virtqueue_restart : virtqueue_start)(vq, dev->mem, event_idx,
									   indirect);

		if (ret)
			return ret;
		dev->queue_sources[i] = loop_add_fd(dev->loop, dev->notify_fds[i], NOTIFIED,
						    queue_callbacks[i], dev);
		if (!dev->queue_sources[i])
			return -ENOMEM;
	}
	return 0;
}

static void stop_queues(struct virtio_device *dev)
{
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
		loop_source_free(dev->queue_sources[i]);
		dev->queue_sources[i] = NULL;
	}
}

/* What did not become active has nothing that could be paused, resumed or served. */
static void give_up_activation(struct virtio_device *dev)
{
	if (dev->activated)
		dev->ops->reset(dev);
	stop_queues(dev);
	pthread_mutex_lock(&dev->lock);
	dev->activated = false;
	pthread_mutex_unlock(&dev->lock);
	virtio_device_fail(dev, "activation failed, the driver's set-up is unusable");
}

int virtio_device_activate(struct virtio_device *dev)
{
	int ret = start_queues(dev, false);

	if (!ret) {
		pthread_mutex_lock(&dev->lock);
		dev->activated = true;
		pthread_mutex_unlock(&dev->lock);
		ret = dev->ops->activate(dev);
	}
	if (ret) {
		give_up_activation(dev);
		return ret;
	}
	/* Notifications that came before the sources existed wait in the eventfds. */
	return 0;
}

void virtio_device_clear(struct virtio_device *dev)
{
	for (unsigned i = 0; i < dev->ops->queue_count; i++) {
		virtqueue_reset(&dev->queues[i]);
		if (dev->notify_fds[i] >= 0)
			drain(dev->notify_fds[i]);
	}
	dev->features_acked = 0;
	dev->activated = false;
	dev->needs_reset = false;
	dev->paused = false;
	atomic_store(&dev->interrupt_status, 0);
}

void virtio_device_reset(struct virtio_device *dev)
{
	if (dev->activated)
		dev->ops->reset(dev);
	stop_queues(dev);
	pthread_mutex_lock(&dev->lock);
	virtio_device_clear(dev);
	pthread_mutex_unlock(&dev->lock);
}

void virtio_device_pause(struct virtio_device *dev)
{
	if (!dev->activated || dev->paused)
		return;
	listen_to_queues(dev, 0);
	if (dev->ops->pause)
		dev->ops->pause(dev);
	dev->paused = true;
}

void virtio_device_resume(struct virtio_device *dev)
{
	if (!dev->activated || !dev->paused)
		return;
	dev->paused = false;
	if (!dev->needs_reset)
		listen_to_queues(dev, NOTIFIED);
	if (dev->ops->resume)
		dev->ops->resume(dev);
}

int virtio_device_restore(struct virtio_device *dev)
{
	if (!dev->activated)
		return 0;
	int ret = start_queues(dev, true);

	if (!ret)
		ret = dev->ops->activate(dev);
	if (ret) {
		stop_queues(dev);
		dev->activated = false;
		return ret;
	}
	virtio_device_pause(dev);
	if (dev->ops->restored)
		dev->ops->restored(dev);
	return 0;
}

void virtio_device_repeat_interrupt(struct virtio_device *dev)
{
	if (atomic_load(&dev->interrupt_status) != 0)
		irq_raise(&dev->irq);
}

void virtio_device_free(struct virtio_device *dev)
{
	if (!dev)
		return;
	virtio_device_detach(dev);
	dev->ops->free(dev);
}
