// SPDX-License-Identifier: Apache-2.0
/* virtio-net: receiving, limits, pauses and resets. */
#include "tests/unit/net_fixture.h"

/* ---- receive ---- */

static void frames_are_received_whole_with_one_interrupt(void **state)
{
	uint64_t at[3];

	(void)state;
	begin_default(NET_F_MRG_RXBUF);
	for (unsigned i = 0; i < 3; i++)
		at[i] = offer_receive(2048);
	put_on_wire(60, 1);
	put_on_wire(1514, 2);
	put_on_wire(61, 3);
	fake_loop_poll(f.loop);
	expect_received(at[0], 60, 1, 1);
	expect_received(at[1], 1514, 2, 1);
	expect_received(at[2], 61, 3, 1);
	expect_used(NET_QUEUE_RX, 72);
	expect_used(NET_QUEUE_RX, 1526);
	expect_used(NET_QUEUE_RX, 73);
	assert_int_equal(fake_device_take_irqs(f.dev), 1);
	assert_int_equal(count_of(&f.net->metrics.rx_packets_count), 3);
	assert_int_equal(count_of(&f.net->metrics.rx_bytes_count), 72 + 1526 + 73);
}

#define LARGE (NET_F_GUEST_CSUM | NET_F_GUEST_TSO4 | NET_F_MRG_RXBUF)

static void a_large_frame_is_spread_over_chains_that_show_together(void **state)
{
	size_t frame_len = NET_FRAME_BYTES_MAX - FRAME_AT;
	unsigned chains = (NET_FRAME_BYTES_MAX + 1535) / 1536;
	uint64_t at;

	(void)state;
	begin_default(LARGE);
	at = offer_receive(1536);
	offer_receive_many(chains + 9, 1536); /* one behind the other in guest memory */
	put_on_wire(frame_len, 7);
	put_on_wire(60, 8);
	fake_loop_poll(f.loop);
	expect_received(at, frame_len, 7, (uint16_t)chains);
	for (unsigned i = 1; i < chains; i++)
		expect_used(NET_QUEUE_RX, 1536);
	expect_used(NET_QUEUE_RX, NET_FRAME_BYTES_MAX - (chains - 1) * 1536);
	/* The window was too small for the next frame: it waits for buffers. */
	expect_no_used(NET_QUEUE_RX);
	assert_int_equal(count_of(&f.net->metrics.no_rx_avail_buffer), 1);
	offer_receive_many(40, 1536);
	fake_device_notify(f.dev, NET_QUEUE_RX);
	expect_used(NET_QUEUE_RX, 72);
	expect_received(at + chains * 1536, 60, 8, 1);
}

static void the_window_slides_round_the_queue_many_times(void **state)
{
	struct fake_queue *queue = &f.queues[NET_QUEUE_RX];
	uint64_t at = fake_ram_alloc(&f.ram, 4096, 8);
	struct fake_used used;

	(void)state;
	begin_default(LARGE);
	for (unsigned i = 0; i < 200; i++)
		fake_queue_add(queue, (struct fake_buf[]){{at, 12, true}, {at + 12, 1500, true}},
			       2 - i % 2);
	for (unsigned i = 0; i < 3000; i++) {
		unsigned chains = 0;

		put_on_wire(60 + i % 1400, (uint8_t)i);
		fake_loop_poll(f.loop);
		while (fake_queue_take_used(queue, &used))
			chains++;
		assert_in_range(chains, 1, 2);
		for (unsigned j = 0; j < chains; j++)
			fake_queue_add(queue,
				       (struct fake_buf[]){{at, 12, true}, {at + 12, 1500, true}},
				       2);
		fake_device_notify(f.dev, NET_QUEUE_RX);
	}
	assert_int_equal(count_of(&f.net->metrics.rx_packets_count), 3000);
	assert_int_equal(count_of(&f.net->metrics.rx_fails), 0);
}

static void a_small_queue_that_is_full_is_used_as_it_is(void **state)
{
	struct net_config config = default_config();

	(void)state;
	make(&config);
	assert_int_equal(virtio_device_attach(f.dev, &f.ram.mem, f.loop, 5), 0);
	f.dev->features_acked = LARGE | VIRTIO_F_VERSION_1;
	fake_queue_init(&f.queues[0], &f.ram, &f.dev->queues[0], 4);
	fake_queue_init(&f.queues[1], &f.ram, &f.dev->queues[1], 4);
	assert_int_equal(virtio_device_activate(f.dev), 0);
	offer_receive_many(4, 2048);
	put_on_wire(3000, 1);
	fake_loop_poll(f.loop);
	expect_used(NET_QUEUE_RX, 2048);
	expect_used(NET_QUEUE_RX, 3012 - 2048);
}

static void a_frame_that_does_not_fit_is_dropped(void **state)
{
	uint64_t at;

	(void)state;
	begin_default(0);
	at = offer_receive(1526);
	put_on_wire(1515, 1); /* one byte too long */
	put_on_wire(1514, 2); /* fits to the byte */
	fake_loop_poll(f.loop);
	expect_used(NET_QUEUE_RX, 1526);
	expect_received(at, 1514, 2, 1);
	assert_int_equal(count_of(&f.net->metrics.rx_fails), 1);
}

static void without_buffers_nothing_spins_and_nothing_is_lost(void **state)
{
	uint64_t events;

	(void)state;
	begin_default(NET_F_MRG_RXBUF | VIRTIO_F_EVENT_IDX);
	put_on_wire(60, 1);
	fake_loop_poll(f.loop);
	events = count_of(&f.net->metrics.rx_tap_event_count);
	for (unsigned i = 0; i < 5; i++)
		fake_loop_poll(f.loop);
	assert_int_equal(count_of(&f.net->metrics.rx_tap_event_count), events);
	assert_int_equal(count_of(&f.net->metrics.no_rx_avail_buffer), 1);

	assert_int_equal(fake_queue_avail_event(&f.queues[NET_QUEUE_RX]), 0);
	uint64_t at = offer_receive(2048);

	fake_device_kick(f.dev, NET_QUEUE_RX);
	fake_loop_poll(f.loop);
	expect_used(NET_QUEUE_RX, 72);
	expect_received(at, 60, 1, 1);
	put_on_wire(60, 2);
	offer_receive(2048);
	fake_device_kick(f.dev, NET_QUEUE_RX);
	fake_loop_poll(f.loop);
	fake_loop_poll(f.loop);
	expect_used(NET_QUEUE_RX, 72);
}

static void the_driver_is_not_asked_for_notifications_while_there_is_room(void **state)
{
	(void)state;
	begin_default(NET_F_MRG_RXBUF);
	const uint8_t *flags = fake_ram_host(&f.ram, f.queues[NET_QUEUE_RX].used);

	assert_int_equal(flags[0], 1); /* VIRTQ_USED_F_NO_NOTIFY */
	put_on_wire(60, 1);
	fake_loop_poll(f.loop);
	assert_int_equal(flags[0], 0);
	offer_receive_many(2, 2048);
	fake_device_notify(f.dev, NET_QUEUE_RX);
	put_on_wire(60, 2);
	fake_loop_poll(f.loop);
	expect_used(NET_QUEUE_RX, 72);
	expect_used(NET_QUEUE_RX, 72);
}

static void a_header_in_pieces_gets_its_count(void **state)
{
	uint64_t at = fake_ram_alloc(&f.ram, 2048, 8);

	(void)state;
	begin_default(NET_F_MRG_RXBUF);
	fake_queue_add(&f.queues[NET_QUEUE_RX],
		       (struct fake_buf[]){{at, 3, true},
					   {at + 3, 8, true},
					   {at + 11, 1, true},
					   {at + 12, 2036, true}},
		       4);
	memset(fake_ram_host(&f.ram, at), 0xee, 2048);
	put_on_wire(100, 1);
	fake_loop_poll(f.loop);
	expect_received(at, 100, 1, 1);
	expect_used(NET_QUEUE_RX, 112);
}

static void receive_buffers_without_room_for_a_header_need_a_reset(void **state)
{
	uint64_t at = fake_ram_alloc(&f.ram, 64, 8);

	(void)state;
	begin_default(NET_F_MRG_RXBUF);
	fake_queue_add(&f.queues[NET_QUEUE_RX], (struct fake_buf[]){{at, 11, true}}, 1);
	put_on_wire(60, 1);
	fake_loop_poll(f.loop);
	assert_true(f.dev->needs_reset);
	fake_loop_poll(f.loop);
	assert_int_equal(count_of(&f.net->metrics.rx_tap_event_count), 1);
	virtio_device_reset(f.dev);

	fake_device_activate(f.dev, &f.ram, NET_F_MRG_RXBUF, f.queues, NET_QUEUE_COUNT);
	fake_queue_add(&f.queues[NET_QUEUE_RX], (struct fake_buf[]){{at, 64, false}}, 1);
	fake_loop_poll(f.loop);
	assert_true(f.dev->needs_reset);
}

static void the_receive_limiter_holds_a_frame_back(void **state)
{
	struct net_config config = default_config();
	uint64_t at[3];

	(void)state;
	config.rx_rate_limiter.has_ops = true;
	config.rx_rate_limiter.ops = (struct token_bucket_config){.size = 1, .refill_time_ms = 20};
	begin(&config, NET_F_MRG_RXBUF);
	for (unsigned i = 0; i < 3; i++)
		at[i] = offer_receive(2048);
	put_on_wire(60, 1);
	put_on_wire(61, 2);
	put_on_wire(62, 3);
	fake_loop_poll(f.loop);
	expect_used(NET_QUEUE_RX, 72);
	expect_no_used(NET_QUEUE_RX);
	assert_true(count_of(&f.net->metrics.rx_rate_limiter_throttled) >= 1);
	while (fake_queue_used_idx(&f.queues[NET_QUEUE_RX]) < 3)
		fake_loop_wait(f.loop);
	expect_used(NET_QUEUE_RX, 73);
	expect_used(NET_QUEUE_RX, 74);
	expect_received(at[1], 61, 2, 1);
	expect_received(at[2], 62, 3, 1);
	assert_true(count_of(&f.net->metrics.rx_event_rate_limiter_count) >= 2);
}

static void lifting_the_limits_lets_traffic_go_on(void **state)
{
	struct net_config config = default_config();
	struct rate_limiter_config none = {.has_ops = true};

	(void)state;
	config.rx_rate_limiter.has_ops = true;
	config.rx_rate_limiter.ops =
		(struct token_bucket_config){.size = 1, .refill_time_ms = 3600000};
	config.tx_rate_limiter = config.rx_rate_limiter;
	begin(&config, NET_F_MRG_RXBUF);
	offer_receive_many(2, 2048);
	put_on_wire(60, 1);
	put_on_wire(61, 2);
	fake_loop_poll(f.loop);
	send_packet(&(struct net_header){0}, 60, 1);
	send_packet(&(struct net_header){0}, 61, 2);
	fake_device_notify(f.dev, NET_QUEUE_TX);
	assert_int_equal(fake_queue_used_idx(&f.queues[NET_QUEUE_RX]), 1);
	assert_int_equal(fake_queue_used_idx(&f.queues[NET_QUEUE_TX]), 1);

	net_update_rate_limiters(f.dev, &none, &none);
	while (fake_queue_used_idx(&f.queues[NET_QUEUE_RX]) < 2 ||
	       fake_queue_used_idx(&f.queues[NET_QUEUE_TX]) < 2)
		fake_loop_wait(f.loop);
	expect_on_wire(&(struct net_header){0}, 60, 1);
	expect_on_wire(&(struct net_header){0}, 61, 2);
}

/* A tap that was deleted: reading fails for ever, and the descriptor is ready all the time. */
static void a_lost_tap_does_not_spin(void **state)
{
	int ends[2];

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	close(ends[0]);
	close(fake_tap.fd);
	fake_tap.fd = ends[1];
	begin_default(NET_F_MRG_RXBUF);
	offer_receive_many(2, 2048);
	for (unsigned i = 0; i < 5; i++)
		fake_loop_poll(f.loop);
	assert_int_equal(count_of(&f.net->metrics.tap_read_fails), 1);
	assert_int_equal(count_of(&f.net->metrics.rx_tap_event_count), 1);
	fake_device_notify(f.dev, NET_QUEUE_RX);
	assert_int_equal(count_of(&f.net->metrics.tap_read_fails), 1);
	assert_false(f.dev->needs_reset);
}

/* ---- life ---- */

static void a_pause_gives_unused_buffers_back_and_stops_the_tap(void **state)
{
	(void)state;
	begin_default(LARGE);
	offer_receive_many(60, 1536);
	put_on_wire(60, 1);
	fake_loop_poll(f.loop);
	expect_used(NET_QUEUE_RX, 72);
	assert_true(f.net->rx.chain_count > 0);
	virtio_device_pause(f.dev);
	assert_int_equal(f.dev->queues[NET_QUEUE_RX].next_avail, 1);
	assert_int_equal(f.dev->queues[NET_QUEUE_RX].next_used, 1);

	put_on_wire(61, 2);
	send_packet(&(struct net_header){0}, 62, 3);
	fake_device_kick(f.dev, NET_QUEUE_TX);
	fake_loop_poll(f.loop);
	expect_no_used(NET_QUEUE_RX);
	expect_silent_wire();

	virtio_device_resume(f.dev);
	fake_loop_poll(f.loop);
	expect_used(NET_QUEUE_RX, 73);
	expect_on_wire(&(struct net_header){0}, 62, 3);
}

static void a_pause_delivers_the_frame_that_is_held_back(void **state)
{
	struct net_config config = default_config();

	(void)state;
	config.rx_rate_limiter.has_ops = true;
	config.rx_rate_limiter.ops =
		(struct token_bucket_config){.size = 1, .refill_time_ms = 3600000};
	begin(&config, NET_F_MRG_RXBUF);
	offer_receive_many(3, 2048);
	put_on_wire(60, 1);
	put_on_wire(61, 2);
	fake_loop_poll(f.loop);
	expect_used(NET_QUEUE_RX, 72);
	virtio_device_pause(f.dev);
	expect_used(NET_QUEUE_RX, 73);
	assert_int_equal(f.dev->queues[NET_QUEUE_RX].next_avail, 2);
}

static void a_reset_forgets_and_the_device_starts_anew(void **state)
{
	(void)state;
	begin_default(LARGE);
	offer_receive_many(60, 1536);
	put_on_wire(60, 1);
	fake_loop_poll(f.loop);
	virtio_device_reset(f.dev);
	put_on_wire(61, 2);
	fake_loop_poll(f.loop);

	fake_device_activate(f.dev, &f.ram, NET_F_MRG_RXBUF, f.queues, NET_QUEUE_COUNT);
	uint64_t at = offer_receive(2048);

	fake_loop_poll(f.loop);
	expect_used(NET_QUEUE_RX, 73);
	expect_received(at, 61, 2, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		net_test(frames_are_received_whole_with_one_interrupt),
		net_test(a_large_frame_is_spread_over_chains_that_show_together),
		net_test(the_window_slides_round_the_queue_many_times),
		net_test(a_small_queue_that_is_full_is_used_as_it_is),
		net_test(a_frame_that_does_not_fit_is_dropped),
		net_test(without_buffers_nothing_spins_and_nothing_is_lost),
		net_test(the_driver_is_not_asked_for_notifications_while_there_is_room),
		net_test(a_header_in_pieces_gets_its_count),
		net_test(receive_buffers_without_room_for_a_header_need_a_reset),
		net_test(the_receive_limiter_holds_a_frame_back),
		net_test(lifting_the_limits_lets_traffic_go_on),
		net_test(a_lost_tap_does_not_spin),
		net_test(a_pause_gives_unused_buffers_back_and_stops_the_tap),
		net_test(a_pause_delivers_the_frame_that_is_held_back),
		net_test(a_reset_forgets_and_the_device_starts_anew),
	};

	return cmocka_run_group_tests_name("net rx", tests, NULL, NULL);
}
