// SPDX-License-Identifier: Apache-2.0
/* A guest and programs on the host that come to each other, send, and go. */
#include "tests/unit/vsock.h"

/* ---- coming ---- */

static void the_guest_connects(void **state)
{
	struct vsock_test test;
	int listener, fd;

	(void)state;
	begin(&test, "cid=5,path=v");
	assert_int_equal(*(uint64_t *)test.guest.dev->config, CID);
	listener = serve(SOCK_STREAM);
	fd = meet(&test, listener, GUEST);
	send_data(&test, "to the host", 11, 0, GUEST, PORT);
	host_reads(fd, "to the host");
	host_writes(fd, "to the guest");
	expect_data(&test, "to the guest", GUEST, PORT);
	assert_int_equal(test.hdr.fwd_cnt, 11);
	expect_nothing(&test);
	assert_int_equal(counter(&test, "tx_bytes"), 11);
	assert_int_equal(counter(&test, "delivered_bytes"), 11);
	assert_int_equal(counter(&test, "rx_bytes"), 12);
	close(fd);
	close(listener);
	finish(&test);
}

static void what_leads_nowhere_is_reset(void **state)
{
	struct vsock_test test;
	struct virtio_vsock_hdr hdr;

	(void)state;
	begin(&test, "cid=5,path=v");
	tell(&test, VIRTIO_VSOCK_OP_REQUEST, 0, GUEST, PORT);
	expect(&test, VIRTIO_VSOCK_OP_RST, GUEST, PORT);
	send_data(&test, "x", 1, 0, GUEST, PORT);
	expect(&test, VIRTIO_VSOCK_OP_RST, GUEST, PORT);
	tell(&test, 99, 0, GUEST, PORT);
	expect(&test, VIRTIO_VSOCK_OP_RST, GUEST, PORT);
	tell(&test, VIRTIO_VSOCK_OP_RST, 0, GUEST, PORT);
	expect_nothing(&test);
	/* Section 5.10.6.4: an unknown type is answered, too. */
	test.type = 7;
	tell(&test, VIRTIO_VSOCK_OP_REQUEST, 0, GUEST, PORT);
	expect(&test, VIRTIO_VSOCK_OP_RST, GUEST, PORT);
	test.type = VIRTIO_VSOCK_TYPE_STREAM;
	assert_int_equal(counter(&test, "refused"), 4);
	/* Someone else's addresses. */
	test.src_cid = CID + 1;
	tell(&test, VIRTIO_VSOCK_OP_REQUEST, 0, GUEST, PORT);
	test.src_cid = CID;
	hdr = header(&test, VIRTIO_VSOCK_OP_REQUEST, GUEST, PORT);
	hdr.dst_cid = VMADDR_CID_LOCAL;
	send_packet(&test, &hdr, 0);
	expect_nothing(&test);
	assert_int_equal(counter(&test, "dropped_packets"), 2);
	assert_int_equal(counter(&test, "opened"), counter(&test, "closed"));
	finish(&test);
}

static void seqpacket_is_by_agreement(void **state)
{
	struct vsock_test test;
	int listener;

	(void)state;
	make(&test, "cid=5,path=v");
	vq_start(&test.guest, 0);
	give_rx(&test);
	listener = serve(SOCK_SEQPACKET);
	test.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
	tell(&test, VIRTIO_VSOCK_OP_REQUEST, 0, GUEST, PORT);
	expect(&test, VIRTIO_VSOCK_OP_RST, GUEST, PORT);
	/* And by the program's own type. */
	test.type = VIRTIO_VSOCK_TYPE_STREAM;
	tell(&test, VIRTIO_VSOCK_OP_REQUEST, 0, GUEST, PORT);
	expect(&test, VIRTIO_VSOCK_OP_RST, GUEST, PORT);
	close(listener);
	finish(&test);
}

/* What was said behind the line is for the guest. */
static void the_host_connects(void **state)
{
	struct vsock_test test;
	char ok[32];
	uint32_t port;
	int fd, other;

	(void)state;
	begin(&test, "cid=5,path=v");
	assert_int_equal(usock_connect("v", SOCK_STREAM, &fd), 0);
	host_writes(fd, "CONN");
	expect_nothing(&test);
	host_writes(fd, "ECT 99\nhello");
	assert_true(hear(&test));
	assert_int_equal(test.hdr.op, VIRTIO_VSOCK_OP_REQUEST);
	assert_int_equal(test.hdr.dst_port, 99);
	port = test.hdr.src_port;
	expect_nothing(&test);
	tell(&test, VIRTIO_VSOCK_OP_RESPONSE, 0, 99, port);
	snprintf(ok, sizeof(ok), "OK %u\n", port);
	host_reads(fd, ok);
	expect_data(&test, "hello", 99, port);
	/* Another one has another port, and the guest need not take it. */
	assert_int_equal(usock_connect("v", SOCK_STREAM, &other), 0);
	host_writes(other, "CONNECT 99\n");
	assert_true(hear(&test));
	assert_int_not_equal(test.hdr.src_port, port);
	tell(&test, VIRTIO_VSOCK_OP_RST, 0, 99, test.hdr.src_port);
	host_is_at_end(other);
	expect_nothing(&test);
	/* One that leaves before the guest has answered. */
	close(other);
	assert_int_equal(usock_connect("v", SOCK_STREAM, &other), 0);
	host_writes(other, "CONNECT 99\n");
	assert_true(hear(&test));
	port = test.hdr.src_port;
	close(other);
	expect(&test, VIRTIO_VSOCK_OP_RST, 99, port);
	close(fd);
	finish(&test);
}

static void odd_greetings_are_hung_up_on(void **state)
{
	static const char *const lines[] = {
		"HELLO\n", "CONNECT\n", "CONNECT \n", "CONNECT x\n", "CONNECT 5 6\n", "CONNECT -1\n",
		"CONNECT 4294967296\n", "\n", "CONNECT 00000000000000000000000000000000001\n",
	};
	struct vsock_test test;
	int fd;

	(void)state;
	begin(&test, "cid=5,path=v");
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		char byte;

		assert_int_equal(usock_connect("v", SOCK_STREAM, &fd), 0);
		host_writes(fd, lines[i]);
		turn(&test);
		/* ECONNRESET where it did not even read all. */
		assert_true(read(fd, &byte, 1) == 0 || errno == ECONNRESET);
		close(fd);
	}
	expect_nothing(&test);
	assert_int_equal(counter(&test, "opened"), ARRAY_SIZE(lines));
	assert_int_equal(counter(&test, "closed"), ARRAY_SIZE(lines));
	finish(&test);
}

/* They have waited, and get to it when the driver is there. */
static void programs_may_come_before_the_driver(void **state)
{
	struct vsock_test test;
	int fd;

	(void)state;
	make(&test, "cid=5,path=v");
	assert_int_equal(usock_connect("v", SOCK_STREAM, &fd), 0);
	host_writes(fd, "CONNECT 7\n");
	turn(&test);
	start_bare(&test);
	give_rx(&test);
	assert_true(hear(&test));
	assert_int_equal(test.hdr.op, VIRTIO_VSOCK_OP_REQUEST);
	assert_int_equal(test.hdr.dst_port, 7);
	vq_reset(&test.guest);
	host_is_at_end(fd);
	close(fd);
	finish(&test);
}

/* A program that does not accept is asked again, until it does or the guest has waited long enough. */
static void a_full_backlog_is_waited_for(void **state)
{
	struct vsock_test test;
	int listener, first, second, i;

	(void)state;
	begin(&test, "cid=5,path=v");
	assert_int_equal(usock_listen("v_1234", SOCK_STREAM, 0, &listener), 0);
	tell(&test, VIRTIO_VSOCK_OP_REQUEST, 0, GUEST, PORT);
	expect(&test, VIRTIO_VSOCK_OP_RESPONSE, GUEST, PORT);
	tell(&test, VIRTIO_VSOCK_OP_REQUEST, 0, GUEST + 1, PORT);
	expect_nothing(&test);
	first = accept(listener, NULL, NULL);
	assert_true(first >= 0);
	for (i = 0; !hear(&test) && i < 1000; i++)
		vq_wait(&test.guest);
	assert_int_equal(test.hdr.op, VIRTIO_VSOCK_OP_RESPONSE);
	assert_int_equal(test.hdr.dst_port, GUEST + 1);
	second = accept(listener, NULL, NULL);
	assert_true(second >= 0);
	close(first);
	close(second);
	close(listener);
	finish(&test);
}

/* ---- credit ---- */

static void a_slow_reader_stalls_only_its_sender(void **state)
{
	struct vsock_test test;
	int listener, slow, other;
	uint32_t sent;

	(void)state;
	begin(&test, "cid=5,path=v,buffer=4096");
	listener = serve(SOCK_STREAM);
	slow = meet(&test, listener, GUEST);
	other = meet(&test, listener, GUEST + 1);
	sent = fill(&test, GUEST);
	assert_int_equal(counter(&test, "tx_bytes") - counter(&test, "delivered_bytes"), 4096);
	expect_nothing(&test);
	send_data(&test, "past it", 7, 0, GUEST + 1, PORT);
	host_reads(other, "past it");
	host_writes(other, "and back");
	expect_data(&test, "and back", GUEST + 1, PORT);
	host_writes(slow, "even this");
	expect_data(&test, "even this", GUEST, PORT);

	drain(&test, slow, sent);
	expect(&test, VIRTIO_VSOCK_OP_CREDIT_UPDATE, GUEST, PORT);
	while (hear(&test))
		assert_int_equal(test.hdr.op, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	tell(&test, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 0, GUEST, PORT);
	expect(&test, VIRTIO_VSOCK_OP_CREDIT_UPDATE, GUEST, PORT);
	assert_int_equal(test.hdr.fwd_cnt, sent);
	assert_int_equal(counter(&test, "tx_bytes"), counter(&test, "delivered_bytes"));
	close(slow);
	close(other);
	close(listener);
	finish(&test);
}

static void more_than_the_credit_is_a_reset(void **state)
{
	struct vsock_test test;
	int listener, fd;
	char data[4097] = { 0 };

	(void)state;
	begin(&test, "cid=5,path=v,buffer=4096");
	listener = serve(SOCK_STREAM);
	fd = meet(&test, listener, GUEST);
	fill(&test, GUEST);
	send_data(&test, data, 1, 0, GUEST, PORT);
	expect(&test, VIRTIO_VSOCK_OP_RST, GUEST, PORT);
	expect_nothing(&test);
	assert_int_equal(counter(&test, "tx_bytes"),
			 counter(&test, "delivered_bytes") + counter(&test, "lost_bytes"));
	assert_int_equal(counter(&test, "lost_bytes"), 4096);
	close(fd);
	/* In one packet. */
	fd = meet(&test, listener, GUEST);
	send_data(&test, data, sizeof(data), 0, GUEST, PORT);
	expect(&test, VIRTIO_VSOCK_OP_RST, GUEST, PORT);
	host_is_at_end(fd);
	close(fd);
	close(listener);
	finish(&test);
}

/* Everything that comes, until there is no more: at the most so much. */
static uint32_t hear_data(struct vsock_test *test, uint32_t guest_port)
{
	uint32_t sum = 0;

	while (hear(test)) {
		assert_int_equal(test->hdr.dst_port, guest_port);
		if (test->hdr.op == VIRTIO_VSOCK_OP_CREDIT_REQUEST)
			continue;
		assert_int_equal(test->hdr.op, VIRTIO_VSOCK_OP_RW);
		sum += test->hdr.len;
	}
	return sum;
}

static void the_guests_credit_is_kept_to(void **state)
{
	static const char data[8000];
	struct vsock_test test;
	int listener, fd;

	(void)state;
	begin(&test, "cid=5,path=v");
	listener = serve(SOCK_STREAM);
	test.buf_alloc = 3000;
	fd = meet(&test, listener, GUEST);
	assert_int_equal(write(fd, data, sizeof(data)), sizeof(data));
	assert_int_equal(hear_data(&test, GUEST), 3000);
	assert_int_equal(test.hdr.op, VIRTIO_VSOCK_OP_CREDIT_REQUEST);
	/* The same again, and an older packet that was overtaken, change nothing. */
	tell(&test, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, GUEST, PORT);
	expect_nothing(&test);
	test.fwd_cnt = 1;
	tell(&test, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, GUEST, PORT);
	assert_int_equal(hear_data(&test, GUEST), 1);
	test.fwd_cnt = 0;
	tell(&test, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, GUEST, PORT);
	expect_nothing(&test);
	/* The window may shrink below what is under way, and grow. */
	test.buf_alloc = 100;
	test.fwd_cnt = 2000;
	tell(&test, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, GUEST, PORT);
	expect_nothing(&test);
	test.buf_alloc = UINT32_MAX;
	tell(&test, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, GUEST, PORT);
	assert_int_equal(hear_data(&test, GUEST), 8000 - 3001);
	/* It has not read what it was not sent. */
	test.fwd_cnt = 8001;
	tell(&test, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, GUEST, PORT);
	expect(&test, VIRTIO_VSOCK_OP_RST, GUEST, PORT);
	close(fd);
	/* Not at the beginning, either. */
	tell(&test, VIRTIO_VSOCK_OP_REQUEST, 0, GUEST, PORT);
	expect(&test, VIRTIO_VSOCK_OP_RST, GUEST, PORT);
	close(listener);
	finish(&test);
}

/* Data waits in the host's socket while the guest has no buffers. */
static void receive_buffers_are_waited_for(void **state)
{
	struct vsock_test test;
	int listener, fd;

	(void)state;
	make(&test, "cid=5,path=v");
	start_bare(&test);
	listener = serve(SOCK_STREAM);
	tell(&test, VIRTIO_VSOCK_OP_REQUEST, 0, GUEST, PORT);
	fd = accept(listener, NULL, NULL);
	assert_true(fd >= 0);
	host_writes(fd, "early");
	expect_nothing(&test);
	give_rx(&test);
	expect(&test, VIRTIO_VSOCK_OP_RESPONSE, GUEST, PORT);
	expect_data(&test, "early", GUEST, PORT);
	close(fd);
	close(listener);
	finish(&test);
}

/* ---- going ---- */

static void the_guest_closes_in_halves(void **state)
{
	struct vsock_test test;
	int listener, fd;

	(void)state;
	begin(&test, "cid=5,path=v");
	listener = serve(SOCK_STREAM);
	fd = meet(&test, listener, GUEST);
	send_data(&test, "last", 4, 0, GUEST, PORT);
	tell(&test, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND, GUEST, PORT);
	host_reads(fd, "last");
	host_is_at_end(fd);
	host_writes(fd, "answer");
	expect_data(&test, "answer", GUEST, PORT);
	expect_nothing(&test);
	tell(&test, VIRTIO_VSOCK_OP_SHUTDOWN, BOTH, GUEST, PORT);
	expect(&test, VIRTIO_VSOCK_OP_RST, GUEST, PORT);
	assert_int_equal(write(fd, "x", 1), -1);
	assert_int_equal(counter(&test, "closed"), 1);
	close(fd);
	/* What it has no use for any more the host hears when it writes. */
	fd = meet(&test, listener, GUEST);
	tell(&test, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_RCV, GUEST, PORT);
	assert_int_equal(write(fd, "x", 1), -1);
	assert_int_equal(errno, EPIPE);
	expect_shutdown(&test, VIRTIO_VSOCK_SHUTDOWN_SEND, GUEST, PORT);
	send_data(&test, "more", 4, 0, GUEST, PORT);
	host_reads(fd, "more");
	/* After its end nothing may come. */
	tell(&test, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND, GUEST, PORT);
	expect(&test, VIRTIO_VSOCK_OP_RST, GUEST, PORT);
	close(fd);
	fd = meet(&test, listener, GUEST);
	tell(&test, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND, GUEST, PORT);
	send_data(&test, "more", 4, 0, GUEST, PORT);
	expect(&test, VIRTIO_VSOCK_OP_RST, GUEST, PORT);
	close(fd);
	close(listener);
	finish(&test);
}

static void the_host_closes_in_halves(void **state)
{
	struct vsock_test test;
	int listener, fd;

	(void)state;
	begin(&test, "cid=5,path=v");
	listener = serve(SOCK_STREAM);
	fd = meet(&test, listener, GUEST);
	host_writes(fd, "last");
	shutdown(fd, SHUT_WR);
	expect_data(&test, "last", GUEST, PORT);
	expect_shutdown(&test, VIRTIO_VSOCK_SHUTDOWN_SEND, GUEST, PORT);
	expect_nothing(&test);
	send_data(&test, "answer", 6, 0, GUEST, PORT);
	host_reads(fd, "answer");
	close(fd);
	expect_shutdown(&test, BOTH, GUEST, PORT);
	expect_nothing(&test);
	/* What was under way is nobody's. */
	send_data(&test, "lost", 4, 0, GUEST, PORT);
	expect_nothing(&test);
	assert_int_equal(counter(&test, "lost_bytes"), 4);
	tell(&test, VIRTIO_VSOCK_OP_RST, 0, GUEST, PORT);
	assert_int_equal(counter(&test, "closed"), 1);
	/* All at once: data comes first. */
	fd = meet(&test, listener, GUEST);
	host_writes(fd, "last");
	close(fd);
	expect_shutdown(&test, VIRTIO_VSOCK_SHUTDOWN_RCV, GUEST, PORT);
	expect_data(&test, "last", GUEST, PORT);
	expect_shutdown(&test, BOTH, GUEST, PORT);
	/* Both at once. */
	tell(&test, VIRTIO_VSOCK_OP_SHUTDOWN, BOTH, GUEST, PORT);
	expect(&test, VIRTIO_VSOCK_OP_RST, GUEST, PORT);
	assert_int_equal(counter(&test, "closed"), 2);
	close(listener);
	finish(&test);
}

/* Both directions end in one packet, even if the end of the data is found before the event is served. */
static void a_close_is_no_half_close(void **state)
{
	struct vsock_test test;
	int listener, fd;

	(void)state;
	make(&test, "cid=5,path=v");
	start_bare(&test);
	listener = serve(SOCK_STREAM);
	tell(&test, VIRTIO_VSOCK_OP_REQUEST, 0, GUEST, PORT);
	fd = accept(listener, NULL, NULL);
	assert_true(fd >= 0);
	host_writes(fd, "last");
	turn(&test);
	close(fd);
	/* The doorbell for these is served first. */
	give_rx(&test);
	expect(&test, VIRTIO_VSOCK_OP_RESPONSE, GUEST, PORT);
	expect_data(&test, "last", GUEST, PORT);
	expect_shutdown(&test, BOTH, GUEST, PORT);
	expect_nothing(&test);
	close(listener);
	finish(&test);
}

/* A program that leaves data unread breaks the connection, but what it wrote is not lost. */
static void data_before_a_break_arrives(void **state)
{
	struct vsock_test test;
	int listener, fd;

	(void)state;
	begin(&test, "cid=5,path=v");
	listener = serve(SOCK_STREAM);
	fd = meet(&test, listener, GUEST);
	send_data(&test, "unread", 6, 0, GUEST, PORT);
	host_writes(fd, "last");
	close(fd);
	expect_shutdown(&test, VIRTIO_VSOCK_SHUTDOWN_RCV, GUEST, PORT);
	expect_data(&test, "last", GUEST, PORT);
	expect_shutdown(&test, BOTH, GUEST, PORT);
	close(listener);
	finish(&test);
}

/* The guest is gone, impatient as it was; a slow reader gets all of it nevertheless. */
static void data_outlives_the_guests_end(void **state)
{
	struct vsock_test test;
	int listener, fd, again;
	uint32_t sent;

	(void)state;
	begin(&test, "cid=5,path=v,buffer=4096");
	listener = serve(SOCK_STREAM);
	fd = meet(&test, listener, GUEST);
	sent = fill(&test, GUEST);
	tell(&test, VIRTIO_VSOCK_OP_SHUTDOWN, BOTH, GUEST, PORT);
	expect_nothing(&test);
	tell(&test, VIRTIO_VSOCK_OP_RST, 0, GUEST, PORT);
	expect_nothing(&test);
	/* Its port is free again. */
	again = meet(&test, listener, GUEST);
	assert_int_equal(counter(&test, "closed"), 0);
	drain(&test, fd, sent);
	turn(&test);
	host_is_at_end(fd);
	assert_int_equal(counter(&test, "closed"), 1);
	assert_int_equal(counter(&test, "delivered_bytes"), sent);
	/* And with a guest that waits. */
	close(fd);
	sent = fill(&test, GUEST);
	tell(&test, VIRTIO_VSOCK_OP_SHUTDOWN, BOTH, GUEST, PORT);
	expect_nothing(&test);
	drain(&test, again, sent);
	expect(&test, VIRTIO_VSOCK_OP_RST, GUEST, PORT);
	host_is_at_end(again);
	close(again);
	close(listener);
	finish(&test);
}

static void ports_in_use_are_not_had_twice(void **state)
{
	struct vsock_test test;
	int listener, fd;

	(void)state;
	begin(&test, "cid=5,path=v");
	listener = serve(SOCK_STREAM);
	fd = meet(&test, listener, GUEST);
	tell(&test, VIRTIO_VSOCK_OP_REQUEST, 0, GUEST, PORT);
	expect(&test, VIRTIO_VSOCK_OP_RST, GUEST, PORT);
	host_is_at_end(fd);
	close(fd);
	fd = meet(&test, listener, GUEST);
	/* Of another type it is not this connection's. */
	test.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
	tell(&test, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 0, GUEST, PORT);
	test.type = VIRTIO_VSOCK_TYPE_STREAM;
	expect(&test, VIRTIO_VSOCK_OP_RST, GUEST, PORT);
	close(fd);
	fd = meet(&test, listener, GUEST);
	tell(&test, VIRTIO_VSOCK_OP_RESPONSE, 0, GUEST, PORT);
	expect(&test, VIRTIO_VSOCK_OP_RST, GUEST, PORT);
	close(fd);
	fd = meet(&test, listener, GUEST);
	tell(&test, VIRTIO_VSOCK_OP_INVALID, 0, GUEST, PORT);
	expect(&test, VIRTIO_VSOCK_OP_RST, GUEST, PORT);
	close(fd);
	close(listener);
	finish(&test);
}

static void there_are_only_so_many(void **state)
{
	struct vsock_test test;
	int listener, fds[4], waiting;

	(void)state;
	begin(&test, "cid=5,path=v,connections=4");
	listener = serve(SOCK_STREAM);
	for (unsigned int i = 0; i < 4; i++)
		fds[i] = meet(&test, listener, GUEST + i);
	tell(&test, VIRTIO_VSOCK_OP_REQUEST, 0, GUEST + 4, PORT);
	expect(&test, VIRTIO_VSOCK_OP_RST, GUEST + 4, PORT);
	assert_int_equal(usock_connect("v", SOCK_STREAM, &waiting), 0);
	host_writes(waiting, "CONNECT 9\n");
	expect_nothing(&test);
	/* One that the guest has not agreed to end gives way. */
	close(fds[0]);
	expect_shutdown(&test, VIRTIO_VSOCK_SHUTDOWN_RCV, GUEST, PORT);
	expect_shutdown(&test, BOTH, GUEST, PORT);
	assert_true(hear(&test));
	assert_int_equal(test.hdr.op, VIRTIO_VSOCK_OP_REQUEST);
	assert_int_equal(test.hdr.dst_port, 9);
	tell(&test, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, GUEST, PORT);
	expect(&test, VIRTIO_VSOCK_OP_RST, GUEST, PORT);
	for (unsigned int i = 1; i < 4; i++)
		close(fds[i]);
	close(waiting);
	close(listener);
	finish(&test);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_guest_connects),
		cmocka_unit_test(what_leads_nowhere_is_reset),
		cmocka_unit_test(seqpacket_is_by_agreement),
		cmocka_unit_test(the_host_connects),
		cmocka_unit_test(odd_greetings_are_hung_up_on),
		cmocka_unit_test(programs_may_come_before_the_driver),
		cmocka_unit_test(a_full_backlog_is_waited_for),
		cmocka_unit_test(a_slow_reader_stalls_only_its_sender),
		cmocka_unit_test(more_than_the_credit_is_a_reset),
		cmocka_unit_test(the_guests_credit_is_kept_to),
		cmocka_unit_test(receive_buffers_are_waited_for),
		cmocka_unit_test(the_guest_closes_in_halves),
		cmocka_unit_test(the_host_closes_in_halves),
		cmocka_unit_test(a_close_is_no_half_close),
		cmocka_unit_test(data_before_a_break_arrives),
		cmocka_unit_test(data_outlives_the_guests_end),
		cmocka_unit_test(ports_in_use_are_not_had_twice),
		cmocka_unit_test(there_are_only_so_many),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
