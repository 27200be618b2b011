// SPDX-License-Identifier: Apache-2.0
/*
 * The asynchronous block backend: io_uring.
 *
 * DOC: One ring a device, made at the first request, so that a device which is never used and a restored microVM do not
 * pay for it. Completions wake the loop through an eventfd (the ring's own descriptor does not become readable with
 * DEFER_TASKRUN), which is muted while we look at the ring anyway; see mute(). The newest cheap mode that the kernel has is taken: DEFER_TASKRUN (6.1) runs completion work only inside our own
 * io_uring_enter, COOP_TASKRUN (5.19) at least never interrupts us for it; 5.10 has neither.
 *
 * A batch of requests is one io_uring_enter. Buffers' vectors are copied into the request's slot, because a short
 * transfer is finished from there, synchronously: the kernel completes regular files' transfers fully unless something
 * is wrong, so this is for the end of the file, full disks and signals.
 *
 * The ring is restricted to the operations below on its one registered file before it is enabled.
 */
#include "virtio/block_backend.h"

#include <errno.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "vmm/core/log.h"
#include "vmm/core/loop.h"

#define SLOT_INLINE_IOVS 6u    /* a 4 KiB request needs one, 16 KiB of scattered pages four */
#define SLOT_SPILL_BYTES 4096u /* vectors that do not fit: one page a slot, resident once used */
#define SLOT_SPILL_IOVS  (SLOT_SPILL_BYTES / sizeof(struct iovec))
#define CQE_BATCH        32u
#define RETRY_NS         UINT64_C(10000000)

struct slot {
	struct block_io io; /* io.iov leads into inline_iov or the slot's spill page */
	struct iovec inline_iov[SLOT_INLINE_IOVS];
};

enum ring_state {
	RING_NONE,
	RING_OPEN,
	RING_REFUSED, /* the kernel said no: synchronous from now on */
};

struct uring {
	struct block_backend backend; /* must be first */
	struct loop *loop;            /* borrowed */
	int wake_fd;                  /* eventfd that the ring signals; -1 without a ring */
	struct loop_source *source;   /* watches wake_fd; NULL without a ring */
	struct loop_source *retry; /* timer: the kernel had no memory to take requests; as source */
	struct io_uring ring;
	enum ring_state state;
	unsigned slot_count;
	unsigned queued;    /* prepared, not yet handed to the kernel */
	unsigned in_flight; /* queued or with the kernel */
	struct slot *slots; /* by tag; untouched pages cost nothing */
	uint8_t *spill;     /* slot_count pages, mapped without reservation at the first need */
};

static struct uring *to_uring(struct block_backend *backend)
{
	return (struct uring *)backend;
}

/* ---- making and closing the ring ---- */

/* By hand: liburing 2.3 has functions for these two, but its shared library does not export them. */
static int register_op(const struct io_uring *ring, unsigned opcode, const void *arg,
		       unsigned count)
{
	return syscall(__NR_io_uring_register, ring->ring_fd, opcode, arg, count) < 0 ? -errno : 0;
}

static int restrict_ring(const struct io_uring *ring)
{
	static const uint8_t allowed[] = {IORING_OP_READ,   IORING_OP_WRITE, IORING_OP_READV,
					  IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_FALLOCATE};
	enum { COUNT = sizeof(allowed) };
	struct io_uring_restriction rows[COUNT + 2] = {0};

	for (unsigned i = 0; i < COUNT; i++) {
		rows[i].opcode = IORING_RESTRICTION_SQE_OP;
		rows[i].sqe_op = allowed[i];
	}
	rows[COUNT].opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED;
	rows[COUNT].sqe_flags = IOSQE_FIXED_FILE;
	rows[COUNT + 1].opcode = IORING_RESTRICTION_REGISTER_OP;
	rows[COUNT + 1].register_op = IORING_REGISTER_FILES;
	return register_op(ring, IORING_REGISTER_RESTRICTIONS, rows, COUNT + 2);
}

static int init_ring(struct uring *uring)
{
	static const unsigned modes[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
			IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
		0,
	};
	int ret = -EINVAL;

	for (unsigned i = 0; ret == -EINVAL && i < sizeof(modes) / sizeof(modes[0]); i++)
		ret = io_uring_queue_init(uring->slot_count, &uring->ring,
					  modes[i] | IORING_SETUP_R_DISABLED);
	if (ret)
		return ret;
	if (!(uring->ring.features & IORING_FEAT_SUBMIT_STABLE) ||
	    !(uring->ring.features & IORING_FEAT_NODROP))
		ret = -EOPNOTSUPP;
	if (!ret)
		ret = restrict_ring(&uring->ring);
	if (!ret)
		ret = io_uring_register_files(&uring->ring, &uring->backend.fd, 1);
	if (!ret)
		ret = io_uring_register_eventfd(&uring->ring, uring->wake_fd);
	if (!ret)
		ret = register_op(&uring->ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
	if (ret)
		io_uring_queue_exit(&uring->ring);
	return ret;
}

static void wake_client(void *ctx)
{
	struct uring *uring = ctx;

	uring->backend.client.wake(uring->backend.client.ctx);
}

static void on_ring(void *ctx, unsigned events)
{
	const struct uring *uring = ctx;
	uint64_t count;
	ssize_t got = read(uring->wake_fd, &count, sizeof(count));

	(void)got;
	(void)events;
	wake_client(ctx);
}

static void close_ring(struct uring *uring)
{
	loop_source_free(uring->source);
	loop_source_free(uring->retry);
	uring->source = NULL;
	uring->retry = NULL;
	if (uring->state == RING_OPEN)
		io_uring_queue_exit(&uring->ring);
	close_fd(uring->wake_fd);
	uring->wake_fd = -1;
	uring->state = RING_NONE;
}

static int try_to_open(struct uring *uring)
{
	uring->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (uring->wake_fd < 0)
		return -errno;
	int ret = init_ring(uring);

	if (ret)
		return ret;
	uring->state = RING_OPEN;
	uring->source = loop_add_fd(uring->loop, uring->wake_fd, LOOP_READ, on_ring, uring);
	uring->retry = loop_add_timer(uring->loop, wake_client, uring);
	return uring->source && uring->retry ? 0 : -ENOMEM;
}

static void open_ring(struct uring *uring)
{
	int ret = try_to_open(uring);

	if (!ret)
		return;
	close_ring(uring);
	uring->state = RING_REFUSED;
	log_warn("io_uring is not available (%s): this drive's engine falls back to Sync.",
		 strerror(-ret));
}

/* ---- requests ---- */

static struct iovec *spill_of(struct uring *uring, unsigned tag)
{
	if (!uring->spill) {
		void *map = mmap(NULL, (size_t)uring->slot_count * SLOT_SPILL_BYTES,
				 PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (map == MAP_FAILED)
			return NULL;
		uring->spill = map;
	}
	return (struct iovec *)(void *)(uring->spill + (size_t)tag * SLOT_SPILL_BYTES);
}

/* Copies the request into its slot. -ENOMEM when there is no room for the vectors. */
static int fill_slot(struct uring *uring, const struct block_io *io)
{
	struct slot *slot = &uring->slots[io->tag];
	struct iovec *iov = slot->inline_iov;

	if (io->iov_count > SLOT_SPILL_IOVS)
		return -ENOMEM;
	if (io->iov_count > SLOT_INLINE_IOVS)
		iov = spill_of(uring, io->tag);
	if (!iov)
		return -ENOMEM;
	if (io->iov_count > 0)
		memcpy(iov, io->iov, io->iov_count * sizeof(*iov));
	slot->io = *io;
	slot->io.iov = iov;
	return 0;
}

static void prepare(struct io_uring_sqe *sqe, const struct block_io *io)
{
	switch (io->op) {
	case BLOCK_OP_READ:
		if (io->iov_count == 1)
			io_uring_prep_read(sqe, 0, io->iov->iov_base, (unsigned)io->iov->iov_len,
					   io->offset_bytes);
		else
			io_uring_prep_readv(sqe, 0, io->iov, io->iov_count, io->offset_bytes);
		break;
	case BLOCK_OP_WRITE:
		if (io->iov_count == 1)
			io_uring_prep_write(sqe, 0, io->iov->iov_base, (unsigned)io->iov->iov_len,
					    io->offset_bytes);
		else
			io_uring_prep_writev(sqe, 0, io->iov, io->iov_count, io->offset_bytes);
		break;
	case BLOCK_OP_FLUSH:
		io_uring_prep_fsync(sqe, 0, IORING_FSYNC_DATASYNC);
		break;
	case BLOCK_OP_DISCARD:
	case BLOCK_OP_ZERO_UNMAP:
		io_uring_prep_fallocate(sqe, 0, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					(off_t)io->offset_bytes, (off_t)io->len_bytes);
		break;
	case BLOCK_OP_ZERO:
		io_uring_prep_fallocate(sqe, 0, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
					(off_t)io->offset_bytes, (off_t)io->len_bytes);
		break;
	}
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
	io_uring_sqe_set_data64(sqe, io->tag);
}

static void uring_submit(struct block_backend *backend, struct block_io *io)
{
	struct uring *uring = to_uring(backend);
	struct io_uring_sqe *sqe = NULL;

	if (uring->state == RING_NONE)
		open_ring(uring);
	if (uring->state == RING_OPEN && !fill_slot(uring, io))
		sqe = io_uring_get_sqe(&uring->ring);
	if (!sqe) {
		backend->client.complete(backend->client.ctx, io->tag,
					 block_file_transfer(backend->fd, io, 0));
		return;
	}
	prepare(sqe, &uring->slots[io->tag].io);
	uring->queued++;
	uring->in_flight++;
}

/* What the request comes to, given what the kernel said. What it left over is done here and now. */
static int finish(const struct uring *uring, struct block_io *io, int res)
{
	bool moves = io->op == BLOCK_OP_READ || io->op == BLOCK_OP_WRITE;

	if (moves && res >= 0)
		return (uint64_t)res == io->len_bytes
			       ? 0
			       : block_file_transfer(uring->backend.fd, io, (uint64_t)res);
	if (res == -EINTR || res == -EAGAIN)
		return block_file_transfer(uring->backend.fd, io, 0);
	/* A file that cannot zero a range gets zeroes written. */
	if ((res == -EOPNOTSUPP || res == -EINVAL) &&
	    (io->op == BLOCK_OP_ZERO || io->op == BLOCK_OP_ZERO_UNMAP))
		return block_file_transfer(uring->backend.fd, io, 0);
	return res;
}

static void reap(struct uring *uring)
{
	const struct block_client *client = &uring->backend.client;
	struct io_uring_cqe *cqes[CQE_BATCH];
	unsigned count;

	/* Ends: nothing is submitted in here, and in_flight is bounded by the slots. */
	while ((count = io_uring_peek_batch_cqe(&uring->ring, cqes, CQE_BATCH)) > 0) {
		for (unsigned i = 0; i < count; i++) {
			uint16_t tag = (uint16_t)cqes[i]->user_data;
			int result = finish(uring, &uring->slots[tag].io, cqes[i]->res);

			uring->in_flight--;
			client->complete(client->ctx, tag, result);
		}
		io_uring_cq_advance(&uring->ring, count);
	}
}

/* Submits what is queued, with or without waiting for a completion. -errno when the kernel took nothing. */
static int enter(struct uring *uring, unsigned wait_for)
{
	int taken = wait_for > 0 ? io_uring_submit_and_wait(&uring->ring, wait_for)
				 : io_uring_submit_and_get_events(&uring->ring);

	if (taken < 0)
		return taken;
	uring->queued -= (unsigned)taken < uring->queued ? (unsigned)taken : uring->queued;
	return 0;
}

static void hand_over(struct uring *uring)
{
	while (uring->queued > 0) {
		int ret = enter(uring, 0);

		if (ret && ret != -EINTR) {
			loop_timer_arm(uring->retry, RETRY_NS);
			return;
		}
	}
}

/* Something that reap() would find, or that a call into the kernel would turn into that. */
static bool has_news(struct uring *uring)
{
	return io_uring_cq_ready(&uring->ring) > 0 ||
	       (IO_URING_READ_ONCE(*uring->ring.sq.kflags) & IORING_SQ_TASKRUN) != 0;
}

/*
 * With DEFER_TASKRUN the eventfd speaks only while the loop sleeps on it: what completes inside our own calls needs no
 * wake-up. Between switching it on and going to sleep the ring is looked at once more; the fence orders the switch before
 * that look, and the kernel's atomic update of the TASKRUN flag orders that before its look at the switch. In the other
 * modes workers post completions themselves and make no such promise: there it is never switched off.
 */
static void mute(struct uring *uring, bool muted)
{
	if (uring->ring.flags & IORING_SETUP_DEFER_TASKRUN)
		(void)io_uring_cq_eventfd_toggle(&uring->ring, !muted);
	if (!muted)
		atomic_thread_fence(memory_order_seq_cst);
}

static void uring_run(struct block_backend *backend)
{
	struct uring *uring = to_uring(backend);

	if (uring->state != RING_OPEN || uring->in_flight == 0)
		return;
	do {
		mute(uring, true);
		hand_over(uring);
		reap(uring);
		if (uring->in_flight == 0)
			return;
		mute(uring, false);
	} while (has_news(uring));
}

static void uring_drain(struct block_backend *backend)
{
	struct uring *uring = to_uring(backend);

	while (uring->in_flight > 0) {
		(void)enter(uring, 1);
		reap(uring);
	}
}

static void uring_change_file(struct block_backend *backend, int fd)
{
	/* Closed, and made anew at the next request: this is rare, and what was refused may be allowed by then. */
	close_ring(to_uring(backend));
	backend->fd = fd;
}

static void uring_free(struct block_backend *backend)
{
	struct uring *uring = to_uring(backend);

	close_ring(uring);
	if (uring->spill)
		munmap(uring->spill, (size_t)uring->slot_count * SLOT_SPILL_BYTES);
	free(uring->slots);
	free(uring);
}

static const struct block_backend_ops uring_ops = {
	.submit = uring_submit,
	.run = uring_run,
	.drain = uring_drain,
	.change_file = uring_change_file,
	.free = uring_free,
};

struct block_backend *block_uring_new(int fd, const struct block_client *client, struct loop *loop,
				      unsigned tag_count)
{
	struct uring *uring = calloc(1, sizeof(*uring));

	if (!uring)
		return NULL;
	uring->backend = (struct block_backend){.ops = &uring_ops, .client = *client, .fd = fd};
	uring->loop = loop;
	uring->wake_fd = -1;
	uring->slot_count = tag_count;
	uring->slots = calloc(tag_count, sizeof(*uring->slots));
	if (!uring->slots) {
		free(uring);
		return NULL;
	}
	return &uring->backend;
}
