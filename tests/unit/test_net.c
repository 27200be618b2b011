// SPDX-License-Identifier: Apache-2.0
/* virtio-net: configuration, activation, and sending. Receiving is in test_net_rx.c. */
#include "tests/unit/net_fixture.h"

/* ---- configuration ---- */

static void mac_addresses_are_parsed_strictly(void **state)
{
	static const char *const wrong[] = {
		"",
		"06:00:ac:10:00",
		"06:00:ac:10:00:02:",
		"06:00:ac:10:00:02 ",
		" 06:00:ac:10:00:02",
		"06-00-ac-10-00-02",
		"6:00:ac:10:00:02",
		"06:00:ac:10:00:0g",
		"06:00:ac:10:00:002",
		"0600:ac:10:00:02",
		"+6:00:ac:10:00:02",
	};
	uint8_t mac[NET_MAC_BYTES] = {0};

	(void)state;
	assert_true(net_mac_parse("06:00:aC:1f:00:FE", mac));
	assert_memory_equal(mac, ((uint8_t[]){0x06, 0x00, 0xac, 0x1f, 0x00, 0xfe}), NET_MAC_BYTES);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_false(net_mac_parse(wrong[i], mac));
	assert_int_equal(mac[0], 0x06); /* untouched by failures */
}

static void features_and_configuration_follow_the_request(void **state)
{
	struct net_config config = default_config();
	char mac[] = "06:00:ac:10:00:02";
	uint8_t space[12];
	/* CSUM GUEST_CSUM GUEST_TSO4,6 GUEST_UFO HOST_TSO4,6 HOST_UFO MRG_RXBUF */
	uint64_t always = 0xdd83;

	(void)state;
	always |= VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_VERSION_1;
	make(&config);
	assert_int_equal(f.dev->features_offered, always);
	virtio_device_free(f.dev);

	fake_tap.fd = dup(f.wire);
	config.guest_mac = mac;
	config.has_mtu = true;
	config.mtu = 1400;
	make(&config);
	assert_int_equal(f.dev->features_offered, always | NET_F_MAC | NET_F_MTU);
	f.dev->ops->config_read(f.dev, 0, space, sizeof(space));
	assert_memory_equal(space, ((uint8_t[]){6, 0, 0xac, 0x10, 0, 2, 0, 0, 0, 0, 0x78, 5}), 12);
	f.dev->ops->config_read(f.dev, 10, space, 2);
	assert_int_equal(get_le16(space), 1400);
}

static void construction_fails_with_a_text(void **state)
{
	struct net_config config = default_config();
	char mac[] = "nonsense";
	struct error err = {0};

	(void)state;
	fake_tap.refusal = "refused";
	assert_null(net_new(&config, &err));
	assert_string_equal(
		err.text,
		"Could not create the network device: Open tap device failed: refused tap0");
	assert_int_equal(err.code, -EBUSY);

	fake_tap.refusal = NULL;
	config.guest_mac = mac;
	assert_null(net_new(&config, &err));
	assert_non_null(strstr(err.text, "MAC"));
}

static void activation_sets_the_offloads_that_were_negotiated(void **state)
{
	(void)state;
	begin_default(NET_F_GUEST_CSUM | NET_F_GUEST_TSO6);
	assert_true(fake_tap.offload.csum);
	assert_true(fake_tap.offload.tso6);
	assert_false(fake_tap.offload.tso4);
	assert_false(fake_tap.offload.ufo);
}

static void activation_fails_when_the_tap_refuses_the_offloads(void **state)
{
	struct net_config config = default_config();

	(void)state;
	make(&config);
	assert_int_equal(virtio_device_attach(f.dev, &f.ram.mem, f.loop, 5), 0);
	fake_device_init_queues(f.dev, &f.ram, f.queues, NET_QUEUE_COUNT);
	fake_tap.offload_result = -EINVAL;
	assert_int_equal(virtio_device_activate(f.dev), -EINVAL);
	assert_true(f.dev->needs_reset);
	assert_int_equal(count_of(&f.net->metrics.activate_fails), 1);
	virtio_device_reset(f.dev);

	fake_tap.offload_result = 0;
	fake_device_activate(f.dev, &f.ram, 0, f.queues, NET_QUEUE_COUNT);
	send_packet(&(struct net_header){0}, 60, 1);
	fake_device_notify(f.dev, NET_QUEUE_TX);
	expect_on_wire(&(struct net_header){0}, 60, 1);
}

/* ---- transmit ---- */

static void frames_reach_the_tap_with_their_header(void **state)
{
	struct net_header header = {
		.flags = 1,
		.gso_type = 1,
		.hdr_len = le16_make(54),
		.gso_size = le16_make(1448),
		.csum_start = le16_make(34),
		.csum_offset = le16_make(16),
	};

	(void)state;
	begin_default(NET_F_CSUM | NET_F_HOST_TSO4);
	send_packet(&header, NET_FRAME_BYTES_MAX - FRAME_AT, 3);
	send_packet(&(struct net_header){0}, NET_ETHERNET_BYTES, 4);
	fake_device_notify(f.dev, NET_QUEUE_TX);
	expect_on_wire(&header, NET_FRAME_BYTES_MAX - FRAME_AT, 3);
	expect_on_wire(&(struct net_header){0}, NET_ETHERNET_BYTES, 4);
	expect_used(NET_QUEUE_TX, 0);
	expect_used(NET_QUEUE_TX, 0);
	assert_int_equal(fake_device_take_irqs(f.dev), 1);
	assert_int_equal(count_of(&f.net->metrics.tx_packets_count), 2);
	assert_int_equal(count_of(&f.net->metrics.tx_bytes_count),
			 NET_FRAME_BYTES_MAX + FRAME_AT + NET_ETHERNET_BYTES);
}

static void a_frame_may_lie_in_pieces(void **state)
{
	uint64_t at = put_packet(&(struct net_header){0}, 100, 9);

	(void)state;
	begin_default(VIRTIO_F_INDIRECT_DESC);
	fake_queue_add(&f.queues[NET_QUEUE_TX],
		       (struct fake_buf[]){{at, 12, false}, {at + 12, 100, false}}, 2);
	fake_queue_add(&f.queues[NET_QUEUE_TX],
		       (struct fake_buf[]){{at, 5, false},
					   {at + 5, 6, false},
					   {at + 11, 2, false},
					   {at + 13, 99, false}},
		       4);
	fake_queue_add_indirect(
		&f.queues[NET_QUEUE_TX],
		(struct fake_buf[]){{at, 40, false}, {at + 40, 1, false}, {at + 41, 71, false}}, 3);
	fake_device_notify(f.dev, NET_QUEUE_TX);
	for (unsigned i = 0; i < 3; i++)
		expect_on_wire(&(struct net_header){0}, 100, 9);
}

static void malformed_frames_are_dropped_and_counted(void **state)
{
	static const struct net_header wrong[] = {
		{.flags = 1},                           /* checksum not negotiated */
		{.gso_type = 4, .gso_size = {1448}},    /* TSO6 not negotiated */
		{.gso_type = 3, .gso_size = {1448}},    /* UFO not negotiated */
		{.gso_type = 1},                        /* no segment size */
		{.gso_type = 0x81, .gso_size = {1448}}, /* ECN is never offered */
		{.gso_type = 2, .gso_size = {1448}},    /* no such type */
		{.gso_type = 0xff, .gso_size = {0xffff}},
	};
	unsigned count = sizeof(wrong) / sizeof(wrong[0]);

	(void)state;
	begin_default(NET_F_HOST_TSO4);
	for (unsigned i = 0; i < count; i++)
		send_packet(&wrong[i], 100, 1);
	send_packet(&(struct net_header){0}, NET_ETHERNET_BYTES - 1, 1);
	send_packet(&(struct net_header){0}, NET_FRAME_BYTES_MAX - FRAME_AT + 1, 1);
	send_packet(&(struct net_header){.flags = 2, .num_buffers = le16_make(7)}, 100, 5);
	fake_device_notify(f.dev, NET_QUEUE_TX);

	expect_on_wire(&(struct net_header){0}, 100, 5); /* only the last, its header cleaned */
	expect_silent_wire();
	for (unsigned i = 0; i < count + 3; i++)
		expect_used(NET_QUEUE_TX, 0);
	assert_int_equal(count_of(&f.net->metrics.tx_malformed_frames), count + 2);
	assert_false(f.dev->needs_reset);
}

static void a_chain_without_readable_part_is_malformed(void **state)
{
	uint64_t at = fake_ram_alloc(&f.ram, 100, 8);

	(void)state;
	begin_default(0);
	fake_queue_add(&f.queues[NET_QUEUE_TX], (struct fake_buf[]){{at, 100, true}}, 1);
	fake_device_notify(f.dev, NET_QUEUE_TX);
	expect_used(NET_QUEUE_TX, 0);
	assert_int_equal(count_of(&f.net->metrics.tx_malformed_frames), 1);
}

static void spoofed_source_addresses_are_counted_and_sent(void **state)
{
	struct net_config config = default_config();
	char mac[] = "06:00:ac:10:00:02";
	uint64_t at = put_packet(&(struct net_header){0}, 60, 1);
	uint8_t *frame = (uint8_t *)fake_ram_host(&f.ram, at) + FRAME_AT;

	(void)state;
	config.guest_mac = mac;
	begin(&config, 0);
	send_packet(&(struct net_header){0}, 60, 1); /* the pattern is somebody else's address */
	memcpy(frame + 6, (uint8_t[]){6, 0, 0xac, 0x10, 0, 2}, 6);
	fake_queue_add(&f.queues[NET_QUEUE_TX], (struct fake_buf[]){{at, 72, false}}, 1);
	fake_device_notify(f.dev, NET_QUEUE_TX);
	expect_on_wire(&(struct net_header){0}, 60, 1);
	assert_int_equal(read(f.wire, wire_bytes, sizeof(wire_bytes)), 72);
	assert_int_equal(count_of(&f.net->metrics.tx_spoofed_mac_count), 1);
}

static void a_refused_write_loses_one_frame_only(void **state)
{
	(void)state;
	begin_default(0);
	close(f.wire);
	f.wire = -1;
	send_packet(&(struct net_header){0}, 60, 1);
	send_packet(&(struct net_header){0}, 60, 2);
	fake_device_notify(f.dev, NET_QUEUE_TX);
	expect_used(NET_QUEUE_TX, 0);
	expect_used(NET_QUEUE_TX, 0);
	assert_int_equal(count_of(&f.net->metrics.tap_write_fails), 2);
	assert_false(f.dev->needs_reset);
}

/* One chain made available over and over, so that the queue never runs dry within a call. */
static void a_flood_is_served_in_portions(void **state)
{
	struct fake_queue *queue = &f.queues[NET_QUEUE_TX];
	uint64_t at = put_packet(&(struct net_header){0}, 60, 1);
	unsigned sent = 0;

	(void)state;
	begin_default(0);
	for (unsigned i = 0; i < VIRTQ_SIZE_MAX; i++)
		fake_queue_add(queue, (struct fake_buf[]){{at, 10, false}}, 1);
	fake_device_notify(f.dev, NET_QUEUE_TX);
	assert_int_equal(fake_queue_used_idx(queue), VIRTQ_SIZE_MAX);
	/* The portion was used up, so the device has notified itself and does more without the driver's help. */
	fake_queue_add(queue, (struct fake_buf[]){{at, 72, false}}, 1);
	fake_loop_poll(f.loop);
	while (read(f.wire, wire_bytes, sizeof(wire_bytes)) > 0)
		sent++;
	assert_int_equal(sent, 1);
}

static void the_transmit_limiter_delays_and_loses_nothing(void **state)
{
	struct net_config config = default_config();

	(void)state;
	config.tx_rate_limiter.has_ops = true;
	config.tx_rate_limiter.ops = (struct token_bucket_config){.size = 1, .refill_time_ms = 20};
	begin(&config, 0);
	send_packet(&(struct net_header){0}, 60, 1);
	send_packet(&(struct net_header){0}, 61, 2);
	fake_device_notify(f.dev, NET_QUEUE_TX);
	expect_on_wire(&(struct net_header){0}, 60, 1);
	expect_silent_wire();
	assert_int_equal(count_of(&f.net->metrics.tx_rate_limiter_throttled), 1);
	assert_int_equal(count_of(&f.net->metrics.tx_remaining_reqs_count), 1);
	expect_used(NET_QUEUE_TX, 0);
	expect_no_used(NET_QUEUE_TX);
	while (fake_queue_used_idx(&f.queues[NET_QUEUE_TX]) < 2)
		fake_loop_wait(f.loop);
	expect_on_wire(&(struct net_header){0}, 61, 2);
	assert_true(count_of(&f.net->metrics.tx_rate_limiter_event_count) >= 1);
}

static void a_broken_transmit_queue_needs_a_reset_and_silences_the_tap(void **state)
{
	(void)state;
	begin_default(0);
	offer_receive_many(4, 2048);
	fake_queue_set_desc(&f.queues[NET_QUEUE_TX], 0, 0, 64, 0, 0); /* not RAM */
	fake_queue_offer(&f.queues[NET_QUEUE_TX], 0);
	fake_device_notify(f.dev, NET_QUEUE_TX);
	assert_true(f.dev->needs_reset);

	put_on_wire(60, 1);
	fake_loop_poll(f.loop);
	fake_loop_poll(f.loop);
	expect_no_used(NET_QUEUE_RX);
	assert_int_equal(count_of(&f.net->metrics.rx_tap_event_count), 1);
}

/* ---- snapshots ---- */

static void a_restored_guest_is_announced(void **state)
{
	static char mac[] = "06:00:ac:10:00:02";
	struct net_config config = default_config();
	uint8_t frame[256];

	(void)state;
	config.guest_mac = mac;
	begin(&config, 0);
	virtio_device_pause(f.dev);
	virtio_device_resume(f.dev);
	assert_int_equal(recv(f.wire, frame, sizeof(frame), 0), -1); /* a pause is no move */
	virtio_device_pause(f.dev);
	f.dev->ops->restored(f.dev);
	assert_int_equal(recv(f.wire, frame, sizeof(frame), 0), -1); /* it does not run yet */
	virtio_device_resume(f.dev);
	assert_int_equal(recv(f.wire, frame, sizeof(frame), 0), NET_HEADER_BYTES + 60);
	assert_memory_equal(frame + FRAME_AT,
			    "\xff\xff\xff\xff\xff\xff\x06\x00\xac\x10\x00\x02\x80\x35\x00\x01"
			    "\x08\x00\x06\x04\x00\x03\x06\x00\xac\x10\x00\x02",
			    28);
	virtio_device_pause(f.dev);
	virtio_device_resume(f.dev);
	assert_int_equal(recv(f.wire, frame, sizeof(frame), 0), -1); /* once */
}

static void a_guest_that_chose_its_address_is_not_announced(void **state)
{
	uint8_t frame[256];

	(void)state;
	begin_default(0);
	virtio_device_pause(f.dev);
	f.dev->ops->restored(f.dev);
	virtio_device_resume(f.dev);
	assert_int_equal(recv(f.wire, frame, sizeof(frame), 0), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mac_addresses_are_parsed_strictly),
		net_test(features_and_configuration_follow_the_request),
		net_test(a_restored_guest_is_announced),
		net_test(a_guest_that_chose_its_address_is_not_announced),
		net_test(construction_fails_with_a_text),
		net_test(activation_sets_the_offloads_that_were_negotiated),
		net_test(activation_fails_when_the_tap_refuses_the_offloads),
		net_test(frames_reach_the_tap_with_their_header),
		net_test(a_frame_may_lie_in_pieces),
		net_test(malformed_frames_are_dropped_and_counted),
		net_test(a_chain_without_readable_part_is_malformed),
		net_test(spoofed_source_addresses_are_counted_and_sent),
		net_test(a_refused_write_loses_one_frame_only),
		net_test(a_flood_is_served_in_portions),
		net_test(the_transmit_limiter_delays_and_loses_nothing),
		net_test(a_broken_transmit_queue_needs_a_reset_and_silences_the_tap),
	};

	return cmocka_run_group_tests_name("net", tests, NULL, NULL);
}
