// SPDX-License-Identifier: Apache-2.0
/* The entropy device. getrandom() is stood in for, so that what it wrote can be told from what was there. */
#include "virtio/rng.h"

#include <errno.h>
#include <sys/random.h>
#include "tests/unit/fake_virtio.h"
#include "tests/unit/unit.h"
#include "virtio/device.h"
#include "vmm/core/checked.h"

#define RANDOM      0xa5
#define UNTOUCHED   0x11
#define REQUEST_MAX (64u << 10)

static struct {
	int error;      /* every call fails with it */
	size_t at_most; /* of each call; 0: no bound */
	unsigned eintrs;
	uint64_t bytes;
} host;

ssize_t getrandom(void *out, size_t len, unsigned flags)
{
	assert_int_equal(flags, GRND_NONBLOCK);
	if (host.eintrs > 0) {
		host.eintrs--;
		errno = EINTR;
		return -1;
	}
	if (host.error) {
		errno = host.error;
		return -1;
	}
	if (host.at_most > 0 && len > host.at_most)
		len = host.at_most;
	memset(out, RANDOM, len);
	host.bytes += len;
	return (ssize_t)len;
}

struct fixture {
	struct loop *loop;
	struct fake_ram ram;
	struct fake_queue queue;
	struct virtio_device *dev;
	uint64_t data;
};

static void start(struct fixture *fx, const struct rng_config *config)
{
	struct error err = {0};

	fx->dev = rng_new(config, &err);
	assert_non_null(fx->dev);
	fake_device_start(fx->dev, &fx->ram, fx->loop, UINT64_MAX, &fx->queue, 1);
}

static int setup_unstarted(void **state)
{
	struct fixture *fx = calloc(1, sizeof(*fx));

	assert_non_null(fx);
	memset(&host, 0, sizeof(host));
	fx->loop = loop_new();
	assert_non_null(fx->loop);
	fake_ram_init(&fx->ram, MIB(4));
	fx->data = fake_ram_alloc(&fx->ram, MIB(1), 1);
	memset(fake_ram_host(&fx->ram, fx->data), UNTOUCHED, MIB(1));
	*state = fx;
	return 0;
}

static int setup(void **state)
{
	(void)setup_unstarted(state);
	start(*state, &(struct rng_config){0});
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fx = *state;

	virtio_device_free(fx->dev);
	loop_free(fx->loop);
	fake_ram_free(&fx->ram);
	free(fx);
	return 0;
}

static uint32_t serve(struct fixture *fx)
{
	struct fake_used used = {0};

	fake_device_notify(fx->dev, 0);
	assert_true(fake_queue_take_used(&fx->queue, &used));
	return used.len;
}

static void expect_bytes(const struct fixture *fx, uint64_t offset, size_t len, uint8_t value)
{
	const uint8_t *bytes = fake_ram_host(&fx->ram, fx->data + offset);

	for (size_t i = 0; i < len; i++)
		assert_int_equal(bytes[i], value);
}

static void test_fills_all_buffers(void **state)
{
	struct fixture *fx = *state;
	const struct fake_buf bufs[] = {{fx->data, 1, true},
					{fx->data + 10, 300, true},
					{fx->data + 1000, 4096, true}};

	host.at_most = 100;
	host.eintrs = 2;
	fake_queue_add(&fx->queue, bufs, 3);
	assert_int_equal(serve(fx), 1 + 300 + 4096);
	expect_bytes(fx, 0, 1, RANDOM);
	expect_bytes(fx, 1, 9, UNTOUCHED);
	expect_bytes(fx, 10, 300, RANDOM);
	expect_bytes(fx, 310, 690, UNTOUCHED);
	expect_bytes(fx, 1000, 4096, RANDOM);
	expect_bytes(fx, 5096, 100, UNTOUCHED);
	assert_int_equal(fake_device_take_irqs(fx->dev), 1);
}

static void test_bounds_a_request(void **state)
{
	struct fixture *fx = *state;
	const struct fake_buf bufs[] = {{fx->data, REQUEST_MAX - 10, true},
					{fx->data + REQUEST_MAX, REQUEST_MAX, true}};

	fake_queue_add(&fx->queue, bufs, 2);
	assert_int_equal(serve(fx), REQUEST_MAX);
	expect_bytes(fx, REQUEST_MAX, 10, RANDOM);
	expect_bytes(fx, REQUEST_MAX + 10, 100, UNTOUCHED);
	assert_int_equal(host.bytes, REQUEST_MAX);
}

/* A full queue of the largest requests takes several turns of the loop, and needs no second notification. */
static void test_bounds_an_event(void **state)
{
	struct fixture *fx = *state;
	struct fake_used used;
	unsigned done = 0;

	for (unsigned i = 0; i < 256; i++)
		fake_queue_add(&fx->queue, (struct fake_buf[]){{fx->data, REQUEST_MAX, true}}, 1);
	fake_device_notify(fx->dev, 0);
	assert_true(host.bytes <= MIB(1));
	while (done < 256) {
		while (fake_queue_take_used(&fx->queue, &used))
			done++;
		fake_loop_poll(fx->loop);
	}
	assert_int_equal(host.bytes, 256 * (uint64_t)REQUEST_MAX);
}

static void test_bad_requests(void **state)
{
	struct fixture *fx = *state;

	/* Nothing to write to; then a buffer that a driver must not give. */
	fake_queue_add(&fx->queue, (struct fake_buf[]){{fx->data, 16, false}}, 1);
	assert_int_equal(serve(fx), 0);
	fake_queue_add(&fx->queue, (struct fake_buf[]){{fx->data, 16, false}, {fx->data, 16, true}},
		       2);
	assert_int_equal(serve(fx), 0);
	expect_bytes(fx, 0, 16, UNTOUCHED);
	assert_false(fx->dev->needs_reset);
	fake_queue_set_desc(&fx->queue, 7, 0, 16, FAKE_DESC_WRITE, 0); /* no RAM there */
	fake_queue_offer(&fx->queue, 7);
	fake_device_notify(fx->dev, 0);
	assert_true(fx->dev->needs_reset);
	assert_int_equal(host.bytes, 0);
}

static void test_host_failure(void **state)
{
	struct fixture *fx = *state;
	const struct fake_buf buf = {fx->data, 64, true};

	host.error = EAGAIN;
	fake_queue_add(&fx->queue, &buf, 1);
	assert_int_equal(serve(fx), 0);
	host.error = 0;
	fake_queue_add(&fx->queue, &buf, 1);
	assert_int_equal(serve(fx), 64);
}

static void test_rate_limit(void **state)
{
	struct fixture *fx = *state;
	struct rng_config config = {.rate_limiter = {.has_bandwidth = true}};
	struct fake_used used;

	config.rate_limiter.bandwidth =
		(struct token_bucket_config){.size = 100, .refill_time_ms = 20};
	start(fx, &config);
	for (unsigned i = 0; i < 3; i++)
		fake_queue_add(&fx->queue, (struct fake_buf[]){{fx->data, 100, true}}, 1);
	fake_device_notify(fx->dev, 0);
	for (unsigned i = 0; i < 3; i++) { /* the rest comes with the limiter's timer */
		while (!fake_queue_take_used(&fx->queue, &used))
			fake_loop_wait(fx->loop);
		assert_int_equal(used.len, 100);
	}
}

static void test_pause(void **state)
{
	struct fixture *fx = *state;
	struct fake_used used;

	virtio_device_pause(fx->dev);
	fake_queue_add(&fx->queue, (struct fake_buf[]){{fx->data, 100, true}}, 1);
	fake_device_kick(fx->dev, 0);
	fake_loop_poll(fx->loop);
	assert_false(fake_queue_take_used(&fx->queue, &used));
	virtio_device_resume(fx->dev);
	assert_true(fake_queue_take_used(&fx->queue, &used));
	assert_int_equal(used.len, 100);
	virtio_device_reset(fx->dev);
	fake_device_activate(fx->dev, &fx->ram, UINT64_MAX, &fx->queue, 1);
	fake_queue_add(&fx->queue, (struct fake_buf[]){{fx->data, 100, true}}, 1);
	assert_int_equal(serve(fx), 100);
}

/* A driver that said DRIVER_OK without a queue: there is nothing that a pause's end could serve. */
static void test_without_queue(void **state)
{
	struct fixture *fx = *state;

	virtio_device_reset(fx->dev);
	assert_int_equal(virtio_device_activate(fx->dev), -EINVAL);
	assert_true(fx->dev->needs_reset);
	virtio_device_pause(fx->dev);
	virtio_device_resume(fx->dev);
	virtio_device_reset(fx->dev);
	fake_device_activate(fx->dev, &fx->ram, UINT64_MAX, &fx->queue, 1);
	fake_queue_add(&fx->queue, (struct fake_buf[]){{fx->data, 100, true}}, 1);
	assert_int_equal(serve(fx), 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_fills_all_buffers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bounds_a_request, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bounds_an_event, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_requests, setup, teardown),
		cmocka_unit_test_setup_teardown(test_host_failure, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rate_limit, setup_unstarted, teardown),
		cmocka_unit_test_setup_teardown(test_pause, setup, teardown),
		cmocka_unit_test_setup_teardown(test_without_queue, setup, teardown),
	};

	return RUN_TESTS(tests);
}
