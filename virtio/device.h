// SPDX-License-Identifier: Apache-2.0
/*
 * What a virtio device is, for the transport above it and the device types below.
 *
 * DOC: Threads. Device code runs on the device's loop thread: activate, queue_notify, reset, pause, resume, free, its fd
 * and timer callbacks and API updates. Only config_read and config_write run on vCPU threads, under dev->lock, which
 * the device also takes (loop thread) around changes of what they read. The transport hands activation and reset over
 * to the loop with loop_call(), the vCPU waiting; so nothing on the loop may wait for a vCPU except through
 * loop_run_calls(), and dev->lock is never held across loop_call().
 *
 * A guest's mistake ends at its device: virtio_device_fail() sets NEEDS_RESET, counts, logs rate-limited, and the
 * device stays quiet until the driver resets it.
 */
#ifndef VIRTIO_DEVICE_H
#define VIRTIO_DEVICE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "virtio/queue.h"
#include "vmm/core/irq.h"
#include "vmm/core/loop.h"

#define VIRTIO_QUEUES_MAX 5

/* Reserved feature bits (6) and the ones of this implementation's transport */
#define VIRTIO_F_INDIRECT_DESC (UINT64_C(1) << 28)
#define VIRTIO_F_EVENT_IDX     (UINT64_C(1) << 29)
#define VIRTIO_F_VERSION_1     (UINT64_C(1) << 32)
#define VIRTIO_F_IN_ORDER      (UINT64_C(1) << 35)

enum virtio_type {
	VIRTIO_TYPE_NET = 1,
	VIRTIO_TYPE_BLOCK = 2,
	VIRTIO_TYPE_RNG = 4,
	VIRTIO_TYPE_BALLOON = 5,
	VIRTIO_TYPE_VSOCK = 19,
	VIRTIO_TYPE_MEM = 24,
	VIRTIO_TYPE_PMEM = 27,
};

struct state;
struct virtio_device;

struct virtio_device_ops {
	const char *name; /* "block", for logs and metrics */
	enum virtio_type type;
	uint16_t queue_count;
	uint16_t queue_size; /* maximum offered, power of two, at most VIRTQ_SIZE_MAX */
	uint32_t config_bytes;

	/* Under dev->lock; [offset, offset + len) lies in config_bytes. write is optional: NULL ignores writes. */
	void (*config_read)(struct virtio_device *dev, uint32_t offset, void *out, uint32_t len);
	void (*config_write)(struct virtio_device *dev, uint32_t offset, const void *in,
			     uint32_t len);

	/*
	 * The driver said DRIVER_OK; queues that it made ready are started, and a device that needs others refuses. 0 or -errno:
	 * then reset follows, and the device waits for its driver to reset it.
	 */
	int (*activate)(struct virtio_device *dev);
	/* The driver notified the queue. May be called when nothing is available. Bounded: at most about a queue's length. */
	void (*queue_notify)(struct virtio_device *dev, unsigned index);
	/* After it returns nothing touches guest memory or the queues; work in flight has ended or is abandoned safely. */
	void (*reset)(struct virtio_device *dev);
	/* vCPUs stand still: finish or hold work in flight, take nothing new from host or guest. Optional, in pairs. */
	void (*pause)(struct virtio_device *dev);
	void (*resume)(struct virtio_device *dev);
	/*
	 * What the device itself has to say in a snapshot, both ways (snapshots/state.h), and what it does once it has
	 * been restored and stands paused. Both optional.
	 */
	void (*fields)(struct virtio_device *dev, struct state *s);
	void (*restored)(struct virtio_device *dev);
	/* Frees the object that embeds dev. Called reset, or never activated. */
	void (*free)(struct virtio_device *dev);
};

/* First member of every device's own struct. */
struct virtio_device {
	const struct virtio_device_ops *ops;
	const char *id; /* borrowed from the embedding object; for logs */
	uint64_t features_offered;

	/* from virtio_device_attach() on */
	const struct guest_memory *mem;
	struct loop *loop;
	struct irq_line irq;
	int notify_fds[VIRTIO_QUEUES_MAX]; /* one ioeventfd a queue */

	pthread_mutex_t lock; /* protects what follows, and the device's configuration space */
	uint64_t features_acked;
	struct virtqueue queues[VIRTIO_QUEUES_MAX];
	uint32_t config_generation;
	bool activated;
	bool needs_reset;
	bool paused;
	_Atomic uint32_t interrupt_status; /* bit 0 used buffers, bit 1 configuration (4.2.2) */

	struct loop_source
		*queue_sources[VIRTIO_QUEUES_MAX]; /* owned, while activated; loop thread only */
};

/* Sets the fields above to their values after power-on. features_offered comes without transport bits VERSION_1, which
 * is added here. id is borrowed. */
void virtio_device_init(struct virtio_device *dev, const struct virtio_device_ops *ops,
			const char *id, uint64_t features_offered);

/* Releases what init made. The device's free op calls it last. */
void virtio_device_destroy(struct virtio_device *dev);

/* Puts the device into a machine: creates its eventfds. mem and loop are borrowed for the device's life. 0 or -errno. */
int virtio_device_attach(struct virtio_device *dev, const struct guest_memory *mem,
			 struct loop *loop, uint32_t gsi) must_check;

/* Takes it out again: resets it and closes what attach made, so that it can be attached anew. */
void virtio_device_detach(struct virtio_device *dev);

static inline bool virtio_device_has_feature(const struct virtio_device *dev, uint64_t bit)
{
	return (dev->features_acked & bit) != 0;
}

/* For devices: raises the used-buffer interrupt if the driver wants it for what was pushed. */
void virtio_device_signal_used(struct virtio_device *dev, struct virtqueue *vq);
/* The same for several queues (bit i: queue i) with one interrupt, which is all that a driver behind mmio can tell apart. */
void virtio_device_signal_queues(struct virtio_device *dev, unsigned queue_bits);
/* For devices: the configuration space has changed (call without dev->lock, after the change). */
void virtio_device_signal_config(struct virtio_device *dev);
/* For devices: the queue has more work than one event may do; come back to it. */
void virtio_device_renotify(struct virtio_device *dev, unsigned index);
/* For devices: the driver broke the rules (reason for the log). Sets NEEDS_RESET and stops queue processing. */
void virtio_device_fail(struct virtio_device *dev, const char *reason);

/* For the transport, on the loop thread. activate starts the queues; 0 or -errno with needs_reset set. */
int virtio_device_activate(struct virtio_device *dev);
void virtio_device_reset(struct virtio_device *dev);
/* The part of a reset that a device which is not activated needs; any thread, under dev->lock. */
void virtio_device_clear(struct virtio_device *dev);

/* For the machine, on the loop thread. Idempotent. */
void virtio_device_pause(struct virtio_device *dev);
void virtio_device_resume(struct virtio_device *dev);
void virtio_device_free(struct virtio_device *dev); /* NULL allowed; detaches first */

/*
 * After the fields of a snapshot have been loaded into an attached device: starts it where it stood, paused. 0 or -errno:
 * the queues are not where the snapshot says.
 */
int virtio_device_restore(struct virtio_device *dev) must_check;
/* Raises the interrupt again if the driver has not taken back all reasons: one that was on its way may be lost. */
void virtio_device_repeat_interrupt(struct virtio_device *dev);

#endif
