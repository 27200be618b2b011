// SPDX-License-Identifier: Apache-2.0
/* virtio-vsock: the device, how connections come to be, and hostile packets. What flows is in test_vsock_stream.c. */
#include "tests/unit/vsock_fixture.h"

#include <sys/resource.h>

/* ---- construction ---- */

static void the_socket_is_made_and_removed(void **state)
{
	struct vsock_config config = {.guest_cid = 4, .uds_path = f.path};
	struct error err = {0};
	char expected[256];

	(void)state;
	assert_null(vsock_new(&config, &err));
	snprintf(expected, sizeof(expected),
		 "Cannot create backend for vsock device: Error binding to the host-side Unix "
		 "socket: %s (os error 98)",
		 strerror(EADDRINUSE));
	assert_string_equal(err.text, expected);
	virtio_device_free(f.dev);
	assert_int_equal(access(f.path, F_OK), -1);
	make_vsock();
	assert_int_equal(access(f.path, F_OK), 0);
}

static void a_socket_that_took_our_name_is_left_alone(void **state)
{
	(void)state;
	assert_int_equal(unlink(f.path), 0);
	int other = open(f.path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	assert_true(other >= 0);
	close(other);
	virtio_device_free(f.dev);
	assert_int_equal(unlink(f.path), 0);
	make_vsock();
}

static void a_path_that_is_too_long_is_refused(void **state)
{
	char path[200];
	struct vsock_config config = {.guest_cid = 4, .uds_path = path};
	struct error err = {0};

	(void)state;
	memset(path, 'a', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	assert_null(vsock_new(&config, &err));
	assert_non_null(strstr(err.text, "Error binding to the host-side Unix socket"));
	path[0] = '\0';
	assert_null(vsock_new(&config, &err));
}

static void features_and_configuration(void **state)
{
	uint8_t cid[8];

	(void)state;
	assert_int_equal(f.dev->features_offered, VIRTIO_F_VERSION_1 | VIRTIO_F_IN_ORDER |
							  VIRTIO_F_EVENT_IDX |
							  VIRTIO_F_INDIRECT_DESC);
	f.dev->ops->config_read(f.dev, 0, cid, 8);
	assert_int_equal(get_le64(cid), GUEST_CID);
	f.dev->ops->config_read(f.dev, 4, cid, 4);
	assert_int_equal(get_le32(cid), 0);
}

static void activation_needs_both_data_queues(void **state)
{
	(void)state;
	virtio_device_reset(f.dev);
	fake_device_init_queues(f.dev, &f.ram, f.queues, VSOCK_QUEUE_COUNT);
	f.dev->queues[VSOCK_QUEUE_TX].ready = false;
	assert_int_equal(virtio_device_activate(f.dev), -EINVAL);
	assert_true(f.dev->needs_reset);
	virtio_device_reset(f.dev);
	fake_device_activate(f.dev, &f.ram, 0, f.queues, VSOCK_QUEUE_COUNT);
	offer_rx(4, RX_CHAIN_BYTES);
	struct link link = link_from_host(1, GUEST_CREDIT);

	close(link.fd);
}

/* ---- from the host ---- */

static void a_program_connects_to_the_guest(void **state)
{
	(void)state;
	offer_rx(4, RX_CHAIN_BYTES);
	struct link first = link_from_host(52, GUEST_CREDIT);
	struct link second = link_from_host(52, GUEST_CREDIT);

	assert_true(first.local_port >= VSOCK_LOCAL_PORT_FIRST);
	assert_int_not_equal(first.local_port, second.local_port);
	assert_int_equal(f.vs->conn_count, 2);
	close(first.fd);
	close(second.fd);
}

static void the_request_says_who_asks(void **state)
{
	int fd = host_connect();

	(void)state;
	offer_rx(1, RX_CHAIN_BYTES);
	host_write(fd, "CONNECT 4294967295\n");
	run();
	struct vsock_packet packet = guest_expect(VSOCK_OP_REQUEST);

	assert_int_equal(packet.src_cid, VSOCK_HOST_CID);
	assert_int_equal(packet.dst_port, UINT32_MAX);
	assert_int_equal(packet.type, VSOCK_TYPE_STREAM);
	assert_int_equal(packet.len, 0);
	assert_int_equal(packet.buf_alloc, VSOCK_BUFFER_LARGE_BYTES);
	assert_int_equal(fake_device_take_irqs(f.dev), 1);
	close(fd);
}

static void the_line_may_be_written_in_many_ways(void **state)
{
	static const char *const lines[] = {
		"connect 7\n",  "Connect 7\n",     "cOnNeCt\t7\r\n",
		"CONNECT 7 \n", "  CONNECT   7\n", "CONNECT 00000000000000000000007\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		int fd = host_connect();

		offer_rx(1, RX_CHAIN_BYTES);
		for (const char *c = lines[i]; *c; c++) { /* byte by byte */
			assert_int_equal(write(fd, c, 1), 1);
			run();
		}
		assert_int_equal(guest_expect(VSOCK_OP_REQUEST).dst_port, 7);
		close(fd);
	}
}

static void a_wrong_line_is_answered_by_closing(void **state)
{
	static const char *const lines[] = {
		"\n",
		"CONNECT\n",
		"CONNECT \n",
		"CONNECT7\n",
		"CONNECT x\n",
		"CONNECT -1\n",
		"CONNECT 1 2\n",
		"CONNECT 4294967296\n",
		"CONNECT 99999999999999999999\n",
		"GET / HTTP/1.1\r\n",
		"CONNECT 1x\n",
		"                                ",
		"CONNECT 000000000000000000000001\n", /* 33 bytes */
	};

	(void)state;
	offer_rx(1, RX_CHAIN_BYTES);
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		int fd = host_connect();

		run();
		assert_int_equal(f.vs->conn_count, 1);
		host_write(fd, lines[i]);
		run();
		assert_int_equal(f.vs->conn_count, 0);
		char byte;
		ssize_t got = read(fd, &byte, 1);

		/* What was not read of a line shows as a reset, everything else as an end. */
		assert_true(got == 0 || (got < 0 && errno == ECONNRESET));
		close(fd);
	}
	guest_expect_none();
}

static void an_unfinished_line_waits_in_silence(void **state)
{
	int fd = host_connect();

	(void)state;
	host_write(fd, "CONN");
	run();
	assert_true(count_wakeups() <= 1);
	close(fd);
	run();
	assert_int_equal(f.vs->conn_count, 0);
}

static void bytes_behind_the_line_belong_to_the_guest(void **state)
{
	int fd = host_connect();
	struct vsock_packet packet;
	const uint8_t *data;

	(void)state;
	offer_rx(2, RX_CHAIN_BYTES);
	host_write(fd, "CONNECT 7\nhello");
	run();
	assert_true(count_wakeups() <= 1); /* the bytes wait for the guest's answer, not the loop */
	packet = guest_expect(VSOCK_OP_REQUEST);
	struct vsock_packet response = guest_packet(VSOCK_OP_RESPONSE, 7, packet.src_port);

	guest_send(&response, NULL, 0);
	run();
	assert_true(guest_take(&packet, &data));
	assert_int_equal(packet.op, VSOCK_OP_RW);
	assert_int_equal(packet.len, 5);
	assert_memory_equal(data, "hello", 5);
	close(fd);
}

static void a_refusal_closes_without_a_word(void **state)
{
	int fd = host_connect();

	(void)state;
	offer_rx(1, RX_CHAIN_BYTES);
	host_write(fd, "CONNECT 7\n");
	run();
	struct vsock_packet request = guest_expect(VSOCK_OP_REQUEST);
	struct vsock_packet reset = guest_packet(VSOCK_OP_RST, 7, request.src_port);

	guest_send(&reset, NULL, 0);
	host_expect_end(fd);
	assert_int_equal(f.vs->conn_count, 0);
	guest_expect_none(); /* an RST is not answered */
	close(fd);
}

static void a_guest_that_does_not_answer_is_given_up(void **state)
{
	int fd = host_connect();

	(void)state;
	offer_rx(2, RX_CHAIN_BYTES);
	host_write(fd, "CONNECT 7\n");
	run();
	guest_expect(VSOCK_OP_REQUEST);
	while (f.vs->conn_count > 0)
		fake_loop_wait(f.loop);
	host_expect_end(fd);
	guest_expect(VSOCK_OP_RST);
	close(fd);
}

static void an_answer_other_than_response_is_reset(void **state)
{
	static const enum vsock_op wrong[] = {VSOCK_OP_RW, VSOCK_OP_REQUEST, VSOCK_OP_SHUTDOWN,
					      VSOCK_OP_CREDIT_UPDATE};

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		int fd = host_connect();

		offer_rx(2, RX_CHAIN_BYTES);
		host_write(fd, "CONNECT 7\n");
		run();
		struct vsock_packet request = guest_expect(VSOCK_OP_REQUEST);
		struct vsock_packet packet = guest_packet(wrong[i], 7, request.src_port);

		guest_send(&packet, NULL, 0);
		guest_expect(VSOCK_OP_RST);
		host_expect_end(fd);
		close(fd);
	}
	assert_int_equal(f.vs->conn_count, 0);
}

static void a_program_that_left_before_the_answer(void **state)
{
	int fd = host_connect();

	(void)state;
	offer_rx(2, RX_CHAIN_BYTES);
	host_write(fd, "CONNECT 7\n");
	run();
	struct vsock_packet request = guest_expect(VSOCK_OP_REQUEST);

	close(fd);
	run();
	struct vsock_packet response = guest_packet(VSOCK_OP_RESPONSE, 7, request.src_port);

	guest_send(&response, NULL, 0);
	guest_expect(VSOCK_OP_RST);
	assert_int_equal(f.vs->conn_count, 0);
}

/* ---- from the guest ---- */

static void the_guest_connects_to_a_program(void **state)
{
	char path[96];
	int listener = host_listen(1024, path);

	(void)state;
	offer_rx(2, RX_CHAIN_BYTES);
	struct link link = link_from_guest(listener, 40000, 1024);

	host_write(link.fd, "from the host");
	run();
	assert_int_equal(guest_expect(VSOCK_OP_RW).len, 13);
	guest_write(&link, "from the guest", 14);
	host_expect(link.fd, "from the guest");
	close(link.fd);
	close(listener);
	unlink(path);
}

static void nobody_listens(void **state)
{
	struct vsock_packet request = guest_packet(VSOCK_OP_REQUEST, 40000, 1024);
	struct vsock_packet reset;
	char path[96];

	(void)state;
	offer_rx(2, RX_CHAIN_BYTES);
	guest_send(&request, NULL, 0);
	reset = guest_expect(VSOCK_OP_RST);
	assert_int_equal(reset.src_port, 1024);
	assert_int_equal(reset.dst_port, 40000);
	assert_int_equal(reset.src_cid, VSOCK_HOST_CID);

	close(host_listen(1024, path)); /* a name without a listener */
	guest_send(&request, NULL, 0);
	guest_expect(VSOCK_OP_RST);
	assert_int_equal(f.vs->conn_count, 0);
	unlink(path);
}

static void a_port_in_use_is_reset(void **state)
{
	char path[96];
	int listener = host_listen(1024, path);

	(void)state;
	offer_rx(4, RX_CHAIN_BYTES);
	struct link link = link_from_guest(listener, 40000, 1024);

	guest_say(&link, VSOCK_OP_REQUEST, 0);
	guest_expect(VSOCK_OP_RST);
	host_expect_end(link.fd);
	close(link.fd);
	assert_int_equal(f.vs->conn_count, 0);
	link = link_from_guest(listener, 40000, 1024); /* and is free afterwards */
	close(link.fd);
	close(listener);
	unlink(path);
}

static void connections_are_limited(void **state)
{
	static int fds[VSOCK_CONNS_MAX];
	struct rlimit files = {4096, 4096};
	char path[96];
	int listener = host_listen(9, path);
	struct vsock_packet request = guest_packet(VSOCK_OP_REQUEST, 0, 9);

	(void)state;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
	for (uint32_t i = 0; i < VSOCK_CONNS_MAX; i++) {
		offer_rx(1, 64);
		fds[i] = link_from_guest(listener, i, 9).fd;
	}
	assert_int_equal(f.vs->large_buffers, VSOCK_LARGE_BUFFERS_MAX);
	request.src_port = VSOCK_CONNS_MAX;
	offer_rx(1, 64);
	guest_send(&request, NULL, 0);
	guest_expect(VSOCK_OP_RST);
	int refused = host_connect();

	run();
	host_expect_end(refused);
	close(refused);

	offer_rx(2, 64); /* one ends, another one finds room */
	request.op = VSOCK_OP_RST;
	request.src_port = 5;
	guest_send(&request, NULL, 0);
	close(link_from_guest(listener, 5, 9).fd);
	for (uint32_t i = 0; i < VSOCK_CONNS_MAX; i++)
		close(fds[i]);
	close(listener);
	unlink(path);
}

/* ---- hostile packets ---- */

static void packets_to_nowhere_are_reset(void **state)
{
	static const uint16_t ops[] = {
		0,
		VSOCK_OP_RESPONSE,
		VSOCK_OP_SHUTDOWN,
		VSOCK_OP_RW,
		VSOCK_OP_CREDIT_UPDATE,
		VSOCK_OP_CREDIT_REQUEST,
		8,
		UINT16_MAX,
	};
	struct vsock_packet packet = guest_packet(VSOCK_OP_RST, 1, 2);

	(void)state;
	offer_rx(20, RX_CHAIN_BYTES);
	guest_send(&packet, NULL, 0);
	guest_expect_none();
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		packet.op = ops[i];
		guest_send(&packet, NULL, 0);
		struct vsock_packet reset = guest_expect(VSOCK_OP_RST);

		assert_int_equal(reset.src_port, 2);
		assert_int_equal(reset.dst_port, 1);
	}
}

static void other_destinations_and_types_are_reset(void **state)
{
	struct vsock_packet packet = guest_packet(VSOCK_OP_REQUEST, 1, 2);
	struct vsock_packet reset;

	(void)state;
	offer_rx(4, RX_CHAIN_BYTES);
	packet.dst_cid = 77;
	guest_send(&packet, NULL, 0);
	reset = guest_expect(VSOCK_OP_RST);
	assert_int_equal(reset.src_cid, 77);
	packet = guest_packet(VSOCK_OP_REQUEST, 1, 2);
	packet.type = 2; /* SOCK_SEQPACKET */
	guest_send(&packet, NULL, 0);
	reset = guest_expect(VSOCK_OP_RST);
	assert_int_equal(reset.type, 2);
	packet.op = VSOCK_OP_RST;
	guest_send(&packet, NULL, 0);
	guest_expect_none();
}

static void a_foreign_sender_is_ignored(void **state)
{
	struct vsock_packet packet = guest_packet(VSOCK_OP_RW, 1, 2);

	(void)state;
	offer_rx(1, RX_CHAIN_BYTES);
	packet.src_cid = GUEST_CID + 1;
	guest_send(&packet, NULL, 0);
	packet.src_cid = VSOCK_HOST_CID;
	guest_send(&packet, NULL, 0);
	guest_expect_none();
	assert_int_equal(metric_get(&f.vs->metrics.tx_queue_event_fails), 2);
}

static void a_chain_shorter_than_a_header_is_ignored(void **state)
{
	uint64_t at = fake_ram_alloc(&f.ram, 64, 8);
	struct fake_used used;

	(void)state;
	fake_queue_add(&f.queues[VSOCK_QUEUE_TX], (struct fake_buf[]){{at, 43, false}}, 1);
	fake_queue_add(&f.queues[VSOCK_QUEUE_TX], (struct fake_buf[]){{at, 64, true}}, 1);
	fake_device_notify(f.dev, VSOCK_QUEUE_TX);
	assert_true(fake_queue_take_used(&f.queues[VSOCK_QUEUE_TX], &used));
	assert_true(fake_queue_take_used(&f.queues[VSOCK_QUEUE_TX], &used));
	assert_int_equal(metric_get(&f.vs->metrics.tx_queue_event_fails), 2);
	assert_false(f.dev->needs_reset);
}

static void lies_about_the_length_are_reset(void **state)
{
	static const uint32_t lies[] = {1, 5, VSOCK_PACKET_MAX, VSOCK_PACKET_MAX + 1, UINT32_MAX};

	(void)state;
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		offer_rx(3, RX_CHAIN_BYTES);
		struct link link = link_from_host(7, GUEST_CREDIT);
		struct vsock_packet packet = guest_packet(VSOCK_OP_RW, 7, link.local_port);
		uint32_t carried = lies[i] == 5 ? 4 : 0;

		packet.len = lies[i];
		guest_send(&packet, "abcd", carried);
		guest_expect(VSOCK_OP_RST);
		host_expect_end(link.fd);
		close(link.fd);
	}
}

static void ops_out_of_place_are_reset(void **state)
{
	static const uint16_t ops[] = {0, VSOCK_OP_REQUEST, VSOCK_OP_RESPONSE, 8, UINT16_MAX};

	(void)state;
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		offer_rx(3, RX_CHAIN_BYTES);
		struct link link = link_from_host(7, GUEST_CREDIT);
		struct vsock_packet packet =
			guest_packet((enum vsock_op)ops[i], 7, link.local_port);

		guest_send(&packet, NULL, 0);
		guest_expect(VSOCK_OP_RST);
		host_expect_end(link.fd);
		close(link.fd);
	}
	assert_int_equal(f.vs->conn_count, 0);
}

static void a_flood_of_answers_is_bounded(void **state)
{
	struct vsock_packet packet = guest_packet(VSOCK_OP_RW, 0, 2);

	(void)state;
	for (uint32_t i = 0; i < VSOCK_RESETS_MAX + 50; i++) {
		packet.src_port = i;
		guest_send(&packet, NULL, 0);
	}
	assert_int_equal(f.vs->reset_count, VSOCK_RESETS_MAX);
	offer_rx(100, 64);
	fake_device_notify(f.dev, VSOCK_QUEUE_RX);
	for (uint32_t i = 0; i < 100; i++)
		assert_int_equal(guest_expect(VSOCK_OP_RST).dst_port, i);
	assert_int_equal(f.vs->reset_count, VSOCK_RESETS_MAX - 100);
}

static void a_killed_connection_keeps_its_name_until_the_guest_knows(void **state)
{
	struct vsock_packet packet;

	(void)state;
	offer_rx(1, RX_CHAIN_BYTES);
	struct link link = link_from_host(7, GUEST_CREDIT);

	packet = guest_packet(VSOCK_OP_REQUEST, 7, link.local_port);
	guest_send(&packet, NULL, 0); /* no chain for the RST */
	host_expect_end(link.fd);
	assert_int_equal(f.vs->conn_count, 1);
	guest_send(&packet, NULL, 0);
	guest_write(&link, "x", 1);
	guest_expect_none();
	offer_rx(3, RX_CHAIN_BYTES);
	fake_device_notify(f.dev, VSOCK_QUEUE_RX);
	guest_expect(VSOCK_OP_RST);
	guest_expect_none();
	assert_int_equal(f.vs->conn_count, 0);
	close(link.fd);
}

static void broken_queues_need_a_reset_and_nothing_spins(void **state)
{
	(void)state;
	offer_rx(1, RX_CHAIN_BYTES);
	struct link link = link_from_host(7, GUEST_CREDIT);
	uint64_t at = fake_ram_alloc(&f.ram, 64, 8);

	fake_queue_add(&f.queues[VSOCK_QUEUE_RX], (struct fake_buf[]){{at, 44, true}}, 1);
	host_write(link.fd, "data");
	run();
	assert_true(f.dev->needs_reset);
	int more = host_connect();

	assert_true(count_wakeups() <= 1);
	virtio_device_reset(f.dev);
	char byte;

	assert_int_equal(read(link.fd, &byte, 1), -1);
	assert_int_equal(errno, ECONNRESET); /* "data" was not taken */
	close(link.fd);

	fake_device_activate(f.dev, &f.ram, 0, f.queues, VSOCK_QUEUE_COUNT);
	offer_rx(2, RX_CHAIN_BYTES);
	link = link_from_host(7, GUEST_CREDIT);
	fake_queue_set_desc(&f.queues[VSOCK_QUEUE_TX], 0, 0, 64, 0, 0);
	fake_queue_offer(&f.queues[VSOCK_QUEUE_TX], 0);
	fake_device_notify(f.dev, VSOCK_QUEUE_TX);
	assert_true(f.dev->needs_reset);
	close(link.fd);
	close(more);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		vsock_test(the_socket_is_made_and_removed),
		vsock_test(a_socket_that_took_our_name_is_left_alone),
		vsock_test(a_path_that_is_too_long_is_refused),
		vsock_test(features_and_configuration),
		vsock_test(activation_needs_both_data_queues),
		vsock_test(a_program_connects_to_the_guest),
		vsock_test(the_request_says_who_asks),
		vsock_test(the_line_may_be_written_in_many_ways),
		vsock_test(a_wrong_line_is_answered_by_closing),
		vsock_test(an_unfinished_line_waits_in_silence),
		vsock_test(bytes_behind_the_line_belong_to_the_guest),
		vsock_test(a_refusal_closes_without_a_word),
		vsock_test(a_guest_that_does_not_answer_is_given_up),
		vsock_test(an_answer_other_than_response_is_reset),
		vsock_test(a_program_that_left_before_the_answer),
		vsock_test(the_guest_connects_to_a_program),
		vsock_test(nobody_listens),
		vsock_test(a_port_in_use_is_reset),
		vsock_test(connections_are_limited),
		vsock_test(packets_to_nowhere_are_reset),
		vsock_test(other_destinations_and_types_are_reset),
		vsock_test(a_foreign_sender_is_ignored),
		vsock_test(a_chain_shorter_than_a_header_is_ignored),
		vsock_test(lies_about_the_length_are_reset),
		vsock_test(ops_out_of_place_are_reset),
		vsock_test(a_flood_of_answers_is_bounded),
		vsock_test(a_killed_connection_keeps_its_name_until_the_guest_knows),
		vsock_test(broken_queues_need_a_reset_and_nothing_spins),
	};

	return cmocka_run_group_tests_name("vsock", tests, NULL, NULL);
}
