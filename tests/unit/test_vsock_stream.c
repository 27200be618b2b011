// SPDX-License-Identifier: Apache-2.0
/* virtio-vsock: data, credit, ends, pauses. */
#include "tests/unit/vsock_fixture.h"

static uint8_t pattern(size_t i)
{
	return (uint8_t)(i * 31 + (i >> 8) * 7 + (i >> 16));
}

static uint8_t *make_data(size_t len)
{
	uint8_t *data = malloc(len);

	assert_non_null(data);
	for (size_t i = 0; i < len; i++)
		data[i] = pattern(i);
	return data;
}

static void expect_pattern(const uint8_t *data, size_t at, size_t len)
{
	for (size_t i = 0; i < len; i++)
		assert_int_equal(data[i], pattern(at + i));
}

/* ---- from the host to the guest ---- */

/* Takes what there is for the guest, checks that the data goes on at *at; gives the number of packets. */
static unsigned take_data(struct link *link, size_t *at)
{
	struct vsock_packet packet;
	const uint8_t *data;
	unsigned packets = 0;

	for (; guest_take(&packet, &data); packets++) {
		if (packet.op == VSOCK_OP_CREDIT_REQUEST)
			continue;
		assert_int_equal(packet.op, VSOCK_OP_RW);
		assert_int_equal(packet.src_port, link->local_port);
		expect_pattern(data, *at, packet.len);
		*at += packet.len;
		link->fwd_cnt += packet.len;
	}
	return packets;
}

static size_t write_some(int fd, const uint8_t *data, size_t len)
{
	ssize_t written = write(fd, data, len);

	return written > 0 ? (size_t)written : 0;
}

static void a_long_stream_reaches_the_guest_in_order(void **state)
{
	size_t len = MIB(3), written = 0, at = 0;
	uint8_t *data = make_data(len);
	unsigned most = 0;

	(void)state;
	f.recycle = true;
	offer_rx(60, RX_CHAIN_BYTES);
	struct link link = link_from_host(7, GUEST_CREDIT);

	while (at < len) {
		written += write_some(link.fd, data + written, len - written);
		run();
		unsigned packets = take_data(&link, &at);

		if (packets > most)
			most = packets;
		guest_say(&link, VSOCK_OP_CREDIT_UPDATE, 0);
		fake_device_notify(f.dev, VSOCK_QUEUE_RX);
	}
	assert_true(most > 10);
	assert_int_equal(metric_get(&f.vs->metrics.rx_bytes_count), len);
	close(link.fd);
	free(data);
}

static void large_chains_make_large_packets(void **state)
{
	uint8_t *data = make_data(150000);
	struct vsock_packet packet;
	const uint8_t *got;

	(void)state;
	offer_rx(1, RX_CHAIN_BYTES);
	struct link link = link_from_host(7, GUEST_CREDIT);

	offer_rx(3, VSOCK_HEADER_BYTES + 100000);
	assert_int_equal(write(link.fd, data, 150000), 150000);
	run();
	assert_true(guest_take(&packet, &got));
	assert_int_equal(packet.len, VSOCK_PACKET_MAX);
	expect_pattern(got, 0, VSOCK_PACKET_MAX);
	assert_true(guest_take(&packet, &got));
	assert_int_equal(packet.len, VSOCK_PACKET_MAX);
	expect_pattern(got, VSOCK_PACKET_MAX, VSOCK_PACKET_MAX);
	assert_true(guest_take(&packet, &got));
	assert_int_equal(packet.len, 150000 - 2 * VSOCK_PACKET_MAX);
	close(link.fd);
	free(data);
}

/* Chains that cannot take part in a common read go alone and in order. */
static void chains_may_be_cut_anyhow(void **state)
{
	static const uint32_t cuts[][8] = {
		{50, 950}, {10, 34, 956}, {43, 1, 1, 955}, {44, 1, 1, 1, 1, 1, 951}, {1000},
	};
	uint8_t *data = make_data(5 * (1000 - VSOCK_HEADER_BYTES));
	struct vsock_packet packet;
	const uint8_t *got;

	(void)state;
	offer_rx(1, RX_CHAIN_BYTES);
	struct link link = link_from_host(7, GUEST_CREDIT);

	for (size_t i = 0; i < 5; i++) {
		struct fake_buf bufs[8];
		uint64_t at = fake_ram_alloc(&f.ram, 1000, 8);
		unsigned count = 0;

		for (uint64_t next = at; cuts[i][count]; count++) {
			bufs[count] = (struct fake_buf){next, cuts[i][count], true};
			next += cuts[i][count];
		}
		f.rx_at[fake_queue_add(&f.queues[VSOCK_QUEUE_RX], bufs, count)] = at;
	}
	assert_int_equal(write(link.fd, data, 4780), 4780);
	run();
	for (size_t i = 0; i < 5; i++) {
		assert_true(guest_take(&packet, &got));
		assert_int_equal(packet.len, 1000 - VSOCK_HEADER_BYTES);
		expect_pattern(got, i * (1000 - VSOCK_HEADER_BYTES), packet.len);
	}
	close(link.fd);
	free(data);
}

static void the_guests_credit_is_kept_to(void **state)
{
	uint8_t *data = make_data(100000);
	size_t at = 0;

	(void)state;
	f.recycle = true;
	offer_rx(60, RX_CHAIN_BYTES);
	struct link link = link_from_host(7, 10000);

	assert_int_equal(write(link.fd, data, 100000), 100000);
	run();
	assert_int_equal(take_data(&link, &at),
			 4); /* 4096 + 4096 + 1808, and the question for more */
	assert_int_equal(at, 10000);
	assert_true(count_wakeups() <= 1);
	guest_expect_none(); /* it is asked once */

	struct vsock_packet update =
		guest_packet(VSOCK_OP_CREDIT_UPDATE, link.peer_port, link.local_port);

	update.buf_alloc = 10000;
	update.fwd_cnt = 9000;
	guest_send(&update, NULL, 0);
	take_data(&link, &at);
	assert_int_equal(at, 19000);
	update.fwd_cnt =
		50000; /* more than it was ever given: under way is then more than it allows */
	guest_send(&update, NULL, 0);
	run();
	assert_int_equal(take_data(&link, &at), 0);
	assert_int_equal(at, 19000);
	update.buf_alloc = UINT32_MAX;
	update.fwd_cnt = 19000;
	guest_send(&update, NULL, 0);
	run();
	take_data(&link, &at);
	assert_int_equal(at, 100000);
	close(link.fd);
	free(data);
}

static void a_guest_without_credit_is_asked_once(void **state)
{
	(void)state;
	f.recycle = true;
	offer_rx(10, RX_CHAIN_BYTES);
	struct link link = link_from_host(7, 0);

	host_write(link.fd, "data");
	run();
	guest_expect(VSOCK_OP_CREDIT_REQUEST);
	host_write(link.fd, "data");
	assert_true(count_wakeups() <= 1);
	guest_expect_none();
	guest_say(&link, VSOCK_OP_CREDIT_UPDATE, 0);
	assert_int_equal(guest_expect(VSOCK_OP_RW).len, 8);
	close(link.fd);
}

static void without_chains_data_waits_and_nothing_spins(void **state)
{
	struct link links[3];
	size_t len = 0;

	(void)state;
	offer_rx(3, RX_CHAIN_BYTES);
	for (unsigned i = 0; i < 3; i++)
		links[i] = link_from_host(i, GUEST_CREDIT);
	for (unsigned i = 0; i < 3; i++)
		host_write(links[i].fd, "data");
	run();
	assert_true(count_wakeups() <= 1);
	offer_rx(10, RX_CHAIN_BYTES);
	fake_device_kick(f.dev, VSOCK_QUEUE_RX);
	run();
	for (unsigned i = 0; i < 3; i++) {
		len += guest_expect(VSOCK_OP_RW).len;
		close(links[i].fd);
	}
	assert_int_equal(len, 12);
}

static void connections_take_turns(void **state)
{
	struct link links[4];
	uint32_t got[4] = {0};
	uint8_t *data = make_data(150000);
	struct vsock_packet packet;

	(void)state;
	f.recycle = true;
	offer_rx(4, RX_CHAIN_BYTES);
	for (unsigned i = 0; i < 4; i++)
		links[i] = link_from_host(i, GUEST_CREDIT);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(write(links[i].fd, data, 150000), 150000);
	for (unsigned round = 0; round < 8; round++) { /* four chains each */
		fake_device_notify(f.dev, VSOCK_QUEUE_RX);
		run();
		while (guest_take(&packet, NULL))
			got[packet.dst_port] += packet.len;
	}
	for (unsigned i = 0; i < 4; i++) {
		assert_true(got[i] >= 4 * 4096);
		close(links[i].fd);
	}
	free(data);
}

/* ---- from the guest to the host ---- */

static void packets_may_be_cut_anyhow(void **state)
{
	uint8_t *data = make_data(1000);
	uint8_t *host = fake_ram_host(&f.ram, f.tx_at);
	struct fake_used used;
	uint8_t got[1000];

	(void)state;
	offer_rx(2, RX_CHAIN_BYTES);
	struct link link = link_from_host(7, GUEST_CREDIT);
	struct vsock_packet packet = guest_packet(VSOCK_OP_RW, 7, link.local_port);

	packet.len = 900; /* the chain's last 100 bytes are not the packet's */
	encode_packet(&packet, host);
	memcpy(host + VSOCK_HEADER_BYTES, data, 1000);
	fake_queue_add(&f.queues[VSOCK_QUEUE_TX],
		       (struct fake_buf[]){{f.tx_at, 1, false},
					   {f.tx_at + 1, 42, false},
					   {f.tx_at + 43, 2, false},
					   {f.tx_at + 45, 600, false},
					   {f.tx_at + 645, 399, false}},
		       5);
	fake_device_notify(f.dev, VSOCK_QUEUE_TX);
	assert_true(fake_queue_take_used(&f.queues[VSOCK_QUEUE_TX], &used));
	assert_int_equal(read(link.fd, got, sizeof(got)), 900);
	expect_pattern(got, 0, 900);
	close(link.fd);
	free(data);
}

static void read_all(int fd, size_t *at)
{
	static uint8_t got[65536];
	ssize_t len;

	while ((len = read(fd, got, sizeof(got))) > 0) {
		expect_pattern(got, *at, (size_t)len);
		*at += (size_t)len;
	}
}

/* Writes as the guest's credit allows; gives how much it could. */
static size_t write_within_credit(struct link *link, const uint8_t *data, size_t at, size_t len,
				  uint32_t *fwd_cnt)
{
	struct vsock_packet packet;

	while (guest_take(&packet, NULL)) {
		assert_int_equal(packet.op, VSOCK_OP_CREDIT_UPDATE);
		assert_true((int32_t)(packet.fwd_cnt - *fwd_cnt) >= 0);
		*fwd_cnt = packet.fwd_cnt;
	}
	while (at < len) {
		uint32_t room = VSOCK_BUFFER_LARGE_BYTES - ((uint32_t)at - *fwd_cnt);
		uint32_t part = room < 10000 ? room : 10000;

		if (part > len - at)
			part = (uint32_t)(len - at);
		if (part == 0)
			break;
		guest_write(link, data + at, part);
		at += part;
	}
	return at;
}

static void a_slow_program_gets_everything_in_order(void **state)
{
	size_t len = MIB(2), at = 0, read_at = 0, stalls = 0;
	uint8_t *data = make_data(len);
	uint32_t fwd_cnt = 0;

	(void)state;
	f.recycle = true;
	offer_rx(60, RX_CHAIN_BYTES);
	struct link link = link_from_host(7, GUEST_CREDIT);

	while (read_at < len) {
		size_t next = write_within_credit(&link, data, at, len, &fwd_cnt);

		if (next == at) { /* the socket and the credit are full */
			stalls++;
			if (at < len)
				assert_true(conn_of(&link)->buffer_used > 0);
			read_all(link.fd, &read_at);
			run();
		}
		at = next;
	}
	assert_true(stalls > 1);
	assert_null(conn_of(&link)->buffer); /* given back when it was empty */
	close(link.fd);
	free(data);
}

static void a_guest_that_exceeds_its_credit_is_reset(void **state)
{
	uint8_t *data = make_data(VSOCK_PACKET_MAX);
	struct vsock_packet packet = {0};

	(void)state;
	f.recycle = true;
	offer_rx(60, RX_CHAIN_BYTES);
	struct link link = link_from_host(7, GUEST_CREDIT);

	for (unsigned i = 0; i < 100 && conn_of(&link); i++) {
		guest_write(&link, data, VSOCK_PACKET_MAX);
		while (guest_take(&packet, NULL))
			;
	}
	assert_null(conn_of(&link));
	assert_int_equal(packet.op, VSOCK_OP_RST);
	close(link.fd);
	free(data);
}

static void a_question_for_credit_is_answered(void **state)
{
	(void)state;
	offer_rx(2, RX_CHAIN_BYTES);
	struct link link = link_from_host(7, GUEST_CREDIT);

	guest_write(&link, "12345", 5);
	guest_expect_none();
	guest_say(&link, VSOCK_OP_CREDIT_REQUEST, 0);
	struct vsock_packet update = guest_expect(VSOCK_OP_CREDIT_UPDATE);

	assert_int_equal(update.fwd_cnt, 5);
	assert_int_equal(update.buf_alloc, VSOCK_BUFFER_LARGE_BYTES);
	close(link.fd);
}

static void a_packet_and_its_answer_make_one_interrupt(void **state)
{
	(void)state;
	offer_rx(2, RX_CHAIN_BYTES);
	struct link link = link_from_host(7, GUEST_CREDIT);

	fake_device_take_irqs(f.dev);
	guest_say(&link, VSOCK_OP_CREDIT_REQUEST, 0);
	guest_expect(VSOCK_OP_CREDIT_UPDATE);
	assert_int_equal(fake_device_take_irqs(f.dev), 1);
	close(link.fd);
}

static void credit_questions_without_chains_are_remembered_once(void **state)
{
	(void)state;
	offer_rx(1, RX_CHAIN_BYTES);
	struct link link = link_from_host(7, GUEST_CREDIT);

	for (unsigned i = 0; i < 1000; i++)
		guest_say(&link, VSOCK_OP_CREDIT_REQUEST, 0);
	offer_rx(5, RX_CHAIN_BYTES);
	fake_device_notify(f.dev, VSOCK_QUEUE_RX);
	guest_expect(VSOCK_OP_CREDIT_UPDATE);
	guest_expect_none();
	close(link.fd);
}

/* ---- ends ---- */

static void a_program_that_closes_ends_both_directions(void **state)
{
	struct vsock_packet packet;

	(void)state;
	offer_rx(4, RX_CHAIN_BYTES);
	struct link link = link_from_host(7, GUEST_CREDIT);

	host_write(link.fd, "bye");
	close(link.fd);
	run();
	assert_int_equal(guest_expect(VSOCK_OP_RW).len, 3);
	packet = guest_expect(VSOCK_OP_SHUTDOWN);
	assert_int_equal(packet.flags, VSOCK_SHUTDOWN_BOTH);
	guest_say(&link, VSOCK_OP_RST, 0);
	guest_expect_none();
	assert_int_equal(f.vs->conn_count, 0);
}

static void a_guest_that_ignores_the_end_is_reset(void **state)
{
	(void)state;
	offer_rx(4, RX_CHAIN_BYTES);
	struct link link = link_from_host(7, GUEST_CREDIT);

	close(link.fd);
	run();
	guest_expect(VSOCK_OP_SHUTDOWN);
	guest_write(&link, "into the void", 13);
	while (f.vs->conn_count > 0)
		fake_loop_wait(f.loop);
	guest_expect(VSOCK_OP_RST);
}

static void a_program_may_end_sending_alone(void **state)
{
	struct vsock_packet packet;

	(void)state;
	offer_rx(4, RX_CHAIN_BYTES);
	struct link link = link_from_host(7, GUEST_CREDIT);

	assert_int_equal(shutdown(link.fd, SHUT_WR), 0);
	run();
	packet = guest_expect(VSOCK_OP_SHUTDOWN);
	assert_int_equal(packet.flags, VSOCK_SHUTDOWN_SEND);
	assert_true(count_wakeups() <= 1);
	guest_write(&link, "answer", 6);
	host_expect(link.fd, "answer");
	close(link.fd);
	run();
	packet = guest_expect(VSOCK_OP_SHUTDOWN);
	assert_int_equal(packet.flags, VSOCK_SHUTDOWN_BOTH);
	assert_true(count_wakeups() <= 1);
	guest_say(&link, VSOCK_OP_RST, 0);
	assert_int_equal(f.vs->conn_count, 0);
}

static void a_program_may_end_receiving_alone(void **state)
{
	struct vsock_packet packet;

	(void)state;
	offer_rx(4, RX_CHAIN_BYTES);
	struct link link = link_from_host(7, GUEST_CREDIT);

	assert_int_equal(shutdown(link.fd, SHUT_RD), 0);
	guest_write(&link, "unwanted", 8);
	packet = guest_expect(VSOCK_OP_SHUTDOWN);
	assert_int_equal(packet.flags, VSOCK_SHUTDOWN_RECEIVE);
	host_write(link.fd, "still there");
	run();
	packet = guest_expect(VSOCK_OP_RW);
	assert_int_equal(packet.len, 11);
	assert_int_equal(packet.fwd_cnt, 8); /* what was thrown away does not hold the guest up */
	close(link.fd);
	run();
	assert_int_equal(guest_expect(VSOCK_OP_SHUTDOWN).flags, VSOCK_SHUTDOWN_BOTH);
	assert_true(count_wakeups() <= 1);
}

static void the_guest_may_end_sending_alone(void **state)
{
	(void)state;
	offer_rx(4, RX_CHAIN_BYTES);
	struct link link = link_from_host(7, GUEST_CREDIT);

	guest_write(&link, "last", 4);
	guest_say(&link, VSOCK_OP_SHUTDOWN, VSOCK_SHUTDOWN_SEND);
	host_expect(link.fd, "last");
	host_expect_end(link.fd);
	host_write(link.fd, "answer");
	run();
	assert_int_equal(guest_expect(VSOCK_OP_RW).len, 6);
	guest_say(&link, VSOCK_OP_SHUTDOWN, VSOCK_SHUTDOWN_BOTH);
	guest_expect(VSOCK_OP_RST);
	assert_int_equal(f.vs->conn_count, 0);
	close(link.fd);
}

static void the_guest_may_end_receiving_alone(void **state)
{
	(void)state;
	offer_rx(4, RX_CHAIN_BYTES);
	struct link link = link_from_host(7, GUEST_CREDIT);

	guest_say(&link, VSOCK_OP_SHUTDOWN, VSOCK_SHUTDOWN_RECEIVE);
	assert_int_equal(send(link.fd, "x", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	assert_true(count_wakeups() <= 1);
	guest_write(&link, "one way", 7);
	host_expect(link.fd, "one way");
	close(link.fd);
	run();
	assert_int_equal(guest_expect(VSOCK_OP_SHUTDOWN).flags, VSOCK_SHUTDOWN_BOTH);
	guest_say(&link, VSOCK_OP_RST, 0);
	assert_int_equal(f.vs->conn_count, 0);
}

static void a_guest_that_writes_after_its_end_is_reset(void **state)
{
	(void)state;
	offer_rx(4, RX_CHAIN_BYTES);
	struct link link = link_from_host(7, GUEST_CREDIT);

	guest_say(&link, VSOCK_OP_SHUTDOWN, VSOCK_SHUTDOWN_SEND);
	guest_write(&link, "more", 4);
	guest_expect(VSOCK_OP_RST);
	host_expect_end(link.fd);
	close(link.fd);
}

/* Fills the program's socket and part of what is kept for it; gives how much the guest has sent. */
static size_t overfill(struct link *link, const uint8_t *data, size_t len)
{
	uint32_t fwd_cnt = 0;
	size_t at = 0;

	while (conn_of(link)->buffer_used == 0)
		at = write_within_credit(link, data, at, len < at + 30000 ? len : at + 30000,
					 &fwd_cnt);
	return at;
}

static void what_is_kept_reaches_the_program_after_the_guests_end(void **state)
{
	uint8_t *data = make_data(MIB(1));
	size_t at = 0, sent;
	struct vsock_packet packet;

	(void)state;
	f.recycle = true;
	offer_rx(60, RX_CHAIN_BYTES);
	struct link link = link_from_host(7, GUEST_CREDIT);

	sent = overfill(&link, data, MIB(1));
	guest_say(&link, VSOCK_OP_SHUTDOWN, VSOCK_SHUTDOWN_BOTH);
	assert_non_null(conn_of(&link));
	while (f.vs->conn_count > 0) {
		read_all(link.fd, &at);
		run();
		while (guest_take(&packet, NULL))
			;
	}
	assert_int_equal(packet.op, VSOCK_OP_RST);
	read_all(link.fd, &at);
	assert_int_equal(at, sent);
	host_expect_end(link.fd);
	close(link.fd);
	free(data);
}

static void a_program_that_never_reads_does_not_hold_the_guest_for_ever(void **state)
{
	uint8_t *data = make_data(MIB(1));

	(void)state;
	f.recycle = true;
	offer_rx(60, RX_CHAIN_BYTES);
	struct link link = link_from_host(7, GUEST_CREDIT);

	overfill(&link, data, MIB(1));
	guest_say(&link, VSOCK_OP_SHUTDOWN, VSOCK_SHUTDOWN_BOTH);
	while (f.vs->conn_count > 0)
		fake_loop_wait(f.loop);
	close(link.fd);
	free(data);
}

static void a_program_that_closes_with_data_kept_for_it(void **state)
{
	uint8_t *data = make_data(MIB(1));
	struct vsock_packet packet = {0};

	(void)state;
	f.recycle = true;
	offer_rx(60, RX_CHAIN_BYTES);
	struct link link = link_from_host(7, GUEST_CREDIT);

	overfill(&link, data, MIB(1));
	close(link.fd);
	run();
	assert_null(conn_of(&link)->buffer);
	while (guest_take(&packet, NULL))
		;
	assert_int_equal(packet.op, VSOCK_OP_SHUTDOWN);
	assert_int_equal(packet.flags, VSOCK_SHUTDOWN_BOTH);
	assert_true(count_wakeups() <= 1);
	free(data);
}

/* ---- pause, reset, notifications ---- */

static void a_pause_stops_everything_and_loses_nothing(void **state)
{
	(void)state;
	offer_rx(20, RX_CHAIN_BYTES);
	struct link link = link_from_host(7, GUEST_CREDIT);
	struct link half = link_from_host(8, GUEST_CREDIT);

	shutdown(half.fd, SHUT_WR);
	run();
	guest_expect(VSOCK_OP_SHUTDOWN);
	virtio_device_pause(f.dev);
	host_write(link.fd, "data");
	int fresh = host_connect();

	host_write(fresh, "CONNECT 9\n");
	close(half.fd);
	fake_device_kick(f.dev, VSOCK_QUEUE_RX);
	assert_true(count_wakeups() <= 1);
	guest_expect_none();
	virtio_device_resume(f.dev);
	run();

	unsigned seen = 0;
	struct vsock_packet packet;

	while (guest_take(&packet, NULL))
		seen |= 1u << packet.op;
	assert_int_equal(seen,
			 1u << VSOCK_OP_RW | 1u << VSOCK_OP_REQUEST | 1u << VSOCK_OP_SHUTDOWN);
	close(link.fd);
	close(fresh);
}

static void time_stands_still_during_a_pause(void **state)
{
	int fd = host_connect();

	(void)state;
	offer_rx(2, RX_CHAIN_BYTES);
	host_write(fd, "CONNECT 7\n");
	run();
	guest_expect(VSOCK_OP_REQUEST);
	virtio_device_pause(f.dev);
	TAILQ_FIRST(&f.vs->timers)->deadline_ns = 1; /* long ago */
	vsock_on_timer(f.vs);
	assert_int_equal(f.vs->conn_count, 1);
	virtio_device_resume(f.dev);
	assert_int_equal(f.vs->conn_count, 1);
	assert_true(TAILQ_FIRST(&f.vs->timers)->deadline_ns > 1);
	close(fd);
}

static void a_reset_ends_all_connections_and_the_device_starts_anew(void **state)
{
	(void)state;
	offer_rx(4, RX_CHAIN_BYTES);
	struct link link = link_from_host(7, GUEST_CREDIT);
	struct link half = link_from_host(8, GUEST_CREDIT);
	int waiting = host_connect();

	shutdown(half.fd, SHUT_WR);
	run();
	virtio_device_reset(f.dev);
	host_expect_end(link.fd);
	host_expect_end(half.fd);
	host_expect_end(waiting);
	assert_int_equal(f.vs->conn_count, 0);
	int early = host_connect();

	host_write(early, "CONNECT 5\n");
	run();
	fake_device_activate(f.dev, &f.ram, 0, f.queues, VSOCK_QUEUE_COUNT);
	offer_rx(4, RX_CHAIN_BYTES);
	run();
	assert_int_equal(guest_expect(VSOCK_OP_REQUEST).dst_port, 5); /* it waited in the backlog */
	close(link.fd);
	close(half.fd);
	close(waiting);
	close(early);
}

static void the_driver_is_asked_for_notifications_only_when_chains_run_out(void **state)
{
	const uint8_t *flags = fake_ram_host(&f.ram, f.queues[VSOCK_QUEUE_RX].used);

	(void)state;
	assert_int_equal(flags[0], 1); /* VIRTQ_USED_F_NO_NOTIFY */
	offer_rx(2, RX_CHAIN_BYTES);
	struct link link = link_from_host(7, GUEST_CREDIT);

	host_write(link.fd, "data");
	run();
	guest_expect(VSOCK_OP_RW);
	assert_int_equal(flags[0], 1);
	host_write(link.fd, "more");
	run();
	assert_int_equal(flags[0], 0);
	offer_rx(1, RX_CHAIN_BYTES);
	fake_device_kick(f.dev, VSOCK_QUEUE_RX);
	run();
	guest_expect(VSOCK_OP_RW);
	assert_int_equal(flags[0], 1);
	close(link.fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		vsock_test(a_long_stream_reaches_the_guest_in_order),
		vsock_test(large_chains_make_large_packets),
		vsock_test(chains_may_be_cut_anyhow),
		vsock_test(the_guests_credit_is_kept_to),
		vsock_test(a_guest_without_credit_is_asked_once),
		vsock_test(without_chains_data_waits_and_nothing_spins),
		vsock_test(connections_take_turns),
		vsock_test(packets_may_be_cut_anyhow),
		vsock_test(a_slow_program_gets_everything_in_order),
		vsock_test(a_guest_that_exceeds_its_credit_is_reset),
		vsock_test(a_question_for_credit_is_answered),
		vsock_test(a_packet_and_its_answer_make_one_interrupt),
		vsock_test(credit_questions_without_chains_are_remembered_once),
		vsock_test(a_program_that_closes_ends_both_directions),
		vsock_test(a_guest_that_ignores_the_end_is_reset),
		vsock_test(a_program_may_end_sending_alone),
		vsock_test(a_program_may_end_receiving_alone),
		vsock_test(the_guest_may_end_sending_alone),
		vsock_test(the_guest_may_end_receiving_alone),
		vsock_test(a_guest_that_writes_after_its_end_is_reset),
		vsock_test(what_is_kept_reaches_the_program_after_the_guests_end),
		vsock_test(a_program_that_never_reads_does_not_hold_the_guest_for_ever),
		vsock_test(a_program_that_closes_with_data_kept_for_it),
		vsock_test(a_pause_stops_everything_and_loses_nothing),
		vsock_test(time_stands_still_during_a_pause),
		vsock_test(a_reset_ends_all_connections_and_the_device_starts_anew),
		vsock_test(the_driver_is_asked_for_notifications_only_when_chains_run_out),
	};

	return cmocka_run_group_tests_name("vsock stream", tests, NULL, NULL);
}
