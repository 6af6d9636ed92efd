// SPDX-License-Identifier: Apache-2.0
/* The tests play the guest by hand, packet by packet, and programs on the host. */
#include <fcntl.h>
#include <linux/virtio_vsock.h>
#include <linux/vm_sockets.h>
#include <sched.h>
#include <sys/socket.h>
#include "core/state.h"
#include "core/usock.h"
#include "seccomp/jail.h"
#include "tests/lib/child.h"
#include "tests/unit/driver.h"

extern const struct virtio_class vsock_class;

#define RX 0
#define TX 1
#define EVENT 2
#define CID 5
#define HEADER sizeof(struct virtio_vsock_hdr)
#define RX_BUFFERS (VQ_SIZE - 1)
#define RX_LEN 2048 /* header included */
/* Guest memory behind the rings. */
#define INCOMING(i) (VQ_RAM_BASE + MIB(4) + (uint64_t)(i) * 4096)
#define OUTGOING (VQ_RAM_BASE + MIB(5))
#define SEQPACKET (1ULL << VIRTIO_VSOCK_F_SEQPACKET)
#define PORT 1234  /* of a program on the host */
#define GUEST 4000 /* of one in the guest */

struct vsock_test {
	struct vq_guest guest;
	char dir[32];
	/* As the guest's next packet says. */
	uint16_t type;
	uint32_t buf_alloc, fwd_cnt;
	uint64_t src_cid;
	/* The last one from the host. */
	struct virtio_vsock_hdr hdr;
	uint8_t data[RX_LEN];
};

static void post_rx(struct vsock_test *test, unsigned int i)
{
	vq_post(&test->guest, RX, &(struct vq_buffer){ INCOMING(i), RX_LEN, true }, 1);
}

static void turn(struct vsock_test *test)
{
	vq_turn(&test->guest);
}

static void give_rx(struct vsock_test *test)
{
	for (unsigned int i = 0; i < VQ_SIZE; i++)
		post_rx(test, i);
	vq_notify(&test->guest, RX);
	turn(test);
}

static void start_bare(struct vsock_test *test)
{
	vq_start(&test->guest, SEQPACKET);
	turn(test);
}

static void make(struct vsock_test *test, const char *options)
{
	*test = (struct vsock_test){
		.dir = "/tmp/microvm-vsock-XXXXXX",
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.buf_alloc = 65536,
		.src_cid = CID,
	};
	assert_non_null(mkdtemp(test->dir));
	assert_int_equal(chdir(test->dir), 0);
	assert_int_equal(vq_guest_make(&test->guest, &vsock_class, options), 0);
}

static void begin(struct vsock_test *test, const char *options)
{
	make(test, options);
	start_bare(test);
	give_rx(test);
}

static void finish(struct vsock_test *test)
{
	char command[64];

	assert_false(vq_failed(&test->guest));
	vq_guest_free(&test->guest);
	snprintf(command, sizeof(command), "rm -r %s", test->dir);
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(system(command), 0);
}

static uint64_t counter(struct vsock_test *test, const char *name)
{
	return vq_counter(&test->guest, name);
}

/* ---- packets ---- */

static void send_packet(struct vsock_test *test, const struct virtio_vsock_hdr *hdr, uint32_t len)
{
	memcpy(vq_ptr(&test->guest, OUTGOING, sizeof(*hdr)), hdr, sizeof(*hdr));
	vq_post(&test->guest, TX, &(struct vq_buffer){ OUTGOING, (uint32_t)HEADER + len, false }, 1);
	vq_notify(&test->guest, TX);
	turn(test);
}

static struct virtio_vsock_hdr header(struct vsock_test *test, uint16_t op, uint32_t guest_port,
				      uint32_t host_port)
{
	return (struct virtio_vsock_hdr){
		.src_cid = test->src_cid, .dst_cid = VMADDR_CID_HOST,
		.src_port = guest_port, .dst_port = host_port,
		.type = test->type, .op = op, .buf_alloc = test->buf_alloc, .fwd_cnt = test->fwd_cnt,
	};
}

static void tell(struct vsock_test *test, uint16_t op, uint32_t flags, uint32_t guest_port,
		 uint32_t host_port)
{
	struct virtio_vsock_hdr hdr = header(test, op, guest_port, host_port);

	hdr.flags = flags;
	send_packet(test, &hdr, 0);
}

static void send_data(struct vsock_test *test, const void *data, uint32_t len, uint32_t flags,
		      uint32_t guest_port, uint32_t host_port)
{
	struct virtio_vsock_hdr hdr = header(test, VIRTIO_VSOCK_OP_RW, guest_port, host_port);

	hdr.len = len;
	hdr.flags = flags;
	memcpy(vq_ptr(&test->guest, OUTGOING + HEADER, len), data, len);
	send_packet(test, &hdr, len);
}

/* The next packet from the host; its buffer is given back. False when there is none. */
static bool hear(struct vsock_test *test)
{
	struct vq *queue = &test->guest.queues[RX];
	struct vring_desc *desc;
	uint16_t head;
	uint32_t len;
	uint8_t *at;

	turn(test);
	if (!vq_take(&test->guest, RX, &head, &len))
		return false;
	desc = vq_ptr(&test->guest, queue->desc, queue->size * sizeof(*desc));
	at = vq_ptr(&test->guest, desc[head].addr, RX_LEN);
	memcpy(&test->hdr, at, HEADER);
	assert_int_equal(test->hdr.len, len - HEADER);
	memcpy(test->data, at + HEADER, test->hdr.len);
	post_rx(test, head);
	vq_notify(&test->guest, RX);
	assert_int_equal(test->hdr.src_cid, VMADDR_CID_HOST);
	assert_int_equal(test->hdr.dst_cid, CID);
	assert_int_equal(test->hdr.type, test->type);
	return true;
}

static void expect(struct vsock_test *test, uint16_t op, uint32_t guest_port, uint32_t host_port)
{
	assert_true(hear(test));
	assert_int_equal(test->hdr.op, op);
	assert_int_equal(test->hdr.dst_port, guest_port);
	assert_int_equal(test->hdr.src_port, host_port);
}

static void expect_shutdown(struct vsock_test *test, uint32_t flags, uint32_t guest_port,
			    uint32_t host_port)
{
	expect(test, VIRTIO_VSOCK_OP_SHUTDOWN, guest_port, host_port);
	assert_int_equal(test->hdr.flags, flags);
}

static void expect_data(struct vsock_test *test, const char *text, uint32_t guest_port,
			uint32_t host_port)
{
	expect(test, VIRTIO_VSOCK_OP_RW, guest_port, host_port);
	assert_int_equal(test->hdr.len, strlen(text));
	assert_memory_equal(test->data, text, strlen(text));
}

static void expect_nothing(struct vsock_test *test)
{
	assert_false(hear(test));
}

/* ---- programs on the host ---- */

static int serve(int type)
{
	int fd;

	assert_int_equal(usock_listen("v_1234", type, 64, &fd), 0);
	return fd;
}

/* The guest connects to it. */
static int meet(struct vsock_test *test, int listener, uint32_t guest_port)
{
	int fd;

	tell(test, VIRTIO_VSOCK_OP_REQUEST, 0, guest_port, PORT);
	expect(test, VIRTIO_VSOCK_OP_RESPONSE, guest_port, PORT);
	fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void host_reads(int fd, const char *text)
{
	char buffer[4096];

	assert_int_equal(read(fd, buffer, sizeof(buffer)), strlen(text));
	assert_memory_equal(buffer, text, strlen(text));
}

static void host_is_at_end(int fd)
{
	char byte;

	assert_int_equal(read(fd, &byte, 1), 0);
}

static void host_has_nothing(int fd)
{
	char byte;

	assert_int_equal(read(fd, &byte, 1), -1);
	assert_int_equal(errno, EAGAIN);
}

static void host_writes(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

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

/* Fills the socket and then the buffer of 4 KiB, exactly; returns how many bytes were sent. */
static uint32_t fill(struct vsock_test *test, uint32_t guest_port)
{
	uint8_t data[1024];
	uint32_t sent = 0, known = 0;

	while (sent - known <= 4096 - sizeof(data)) {
		for (size_t i = 0; i < sizeof(data); i++)
			data[i] = (uint8_t)((sent + i) * 31 >> 3);
		send_data(test, data, sizeof(data), 0, guest_port, PORT);
		sent += (uint32_t)sizeof(data);
		while (hear(test)) {
			assert_int_equal(test->hdr.op, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
			assert_int_equal(test->hdr.buf_alloc, 4096);
			known = test->hdr.fwd_cnt;
			assert_true(sent - known <= 4096);
		}
	}
	/* The update for what came last is due only when more was sent: ask. */
	tell(test, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 0, guest_port, PORT);
	expect(test, VIRTIO_VSOCK_OP_CREDIT_UPDATE, guest_port, PORT);
	while (sent - test->hdr.fwd_cnt < 4096) {
		uint8_t byte = (uint8_t)(sent * 31 >> 3);

		send_data(test, &byte, 1, 0, guest_port, PORT);
		sent++;
		assert_false(hear(test));
	}
	return sent;
}

static void drain(struct vsock_test *test, int fd, uint32_t len)
{
	uint8_t data[4096];
	ssize_t n;

	for (uint32_t at = 0; at < len; at += (uint32_t)n) {
		turn(test);
		n = read(fd, data, sizeof(data));
		assert_true(n > 0);
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(data[i], (uint8_t)((at + (uint32_t)i) * 31 >> 3));
	}
}

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

#define BOTH (VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)

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

/* More refusals than can be kept: packets wait until some could be told. */
static void a_flood_waits_in_the_queue(void **state)
{
	bool told[200] = { false };
	unsigned int sent = 0, taken = 0;
	struct vsock_test test;
	uint16_t head;

	(void)state;
	make(&test, "cid=5,path=v,connections=8");
	start_bare(&test);
	while (sent < ARRAY_SIZE(told) && sent - taken < VQ_SIZE) {
		tell(&test, VIRTIO_VSOCK_OP_REQUEST, 0, GUEST + sent++, PORT);
		while (vq_take(&test.guest, TX, &head, NULL))
			taken++;
	}
	assert_true(taken < ARRAY_SIZE(told) && sent > taken);
	give_rx(&test);
	for (unsigned int i = 0; i < sent; i++) {
		assert_true(hear(&test));
		assert_int_equal(test.hdr.op, VIRTIO_VSOCK_OP_RST);
		told[test.hdr.dst_port - GUEST] = true;
	}
	expect_nothing(&test);
	while (vq_take(&test.guest, TX, &head, NULL))
		taken++;
	assert_int_equal(taken, sent);
	/* The last ones wait in the same buffer of the guest's, so that all of them are the last. */
	for (unsigned int i = 0; i < sent - VQ_SIZE; i++)
		assert_true(told[i]);
	assert_int_equal(counter(&test, "opened"), counter(&test, "closed"));
	finish(&test);
}

/* With buffers for all refusals, so that no doorbell rings because of them. */
static void a_flood_at_once_is_gone_through(void **state)
{
	static const unsigned int queues[] = { RX, TX };
	const unsigned int count = 200;
	struct virtio_vsock_hdr hdr;
	struct vsock_test test;
	unsigned int taken = 0;
	uint16_t head;

	(void)state;
	make(&test, "cid=5,path=v");
	vq_start(&test.guest, 1ULL << VIRTIO_F_RING_RESET);
	for (size_t i = 0; i < ARRAY_SIZE(queues); i++) {
		virtio_reset_queue(test.guest.dev, queues[i]);
		assert_false(virtio_queue_resetting(test.guest.dev, queues[i]));
		vq_set_up_queue_of(&test.guest, queues[i], 256);
	}
	for (unsigned int i = 0; i < 255; i++)
		post_rx(&test, i);
	vq_notify(&test.guest, RX);
	turn(&test);
	hdr = header(&test, VIRTIO_VSOCK_OP_CREDIT_UPDATE, GUEST, PORT);
	memcpy(vq_ptr(&test.guest, OUTGOING, HEADER), &hdr, HEADER);
	for (unsigned int i = 0; i < count; i++)
		vq_post(&test.guest, TX, &(struct vq_buffer){ OUTGOING, HEADER, false }, 1);
	vq_notify(&test.guest, TX);
	turn(&test);
	while (vq_take(&test.guest, TX, &head, NULL))
		taken++;
	assert_int_equal(taken, count);
	assert_int_equal(counter(&test, "refused"), count);
	finish(&test);
}

/* ---- messages ---- */

static void messages_keep_their_ends(void **state)
{
	static const char long_message[5000] = { [0] = 'a', [4999] = 'z' };
	struct vsock_test test;
	char buffer[8192];
	int listener, fd;
	uint32_t sum = 0;

	(void)state;
	begin(&test, "cid=5,path=v");
	listener = serve(SOCK_SEQPACKET);
	test.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
	fd = meet(&test, listener, GUEST);
	send_data(&test, "one", 3, VIRTIO_VSOCK_SEQ_EOM, GUEST, PORT);
	send_data(&test, "tw", 2, 0, GUEST, PORT);
	host_reads(fd, "one");
	host_has_nothing(fd);
	send_data(&test, "o", 1, VIRTIO_VSOCK_SEQ_EOM | VIRTIO_VSOCK_SEQ_EOR, GUEST, PORT);
	send_data(&test, "three", 5, VIRTIO_VSOCK_SEQ_EOM, GUEST, PORT);
	host_reads(fd, "two");
	host_reads(fd, "three");
	/* The other way, in as many packets as it takes. */
	host_writes(fd, "four");
	host_writes(fd, "five");
	expect_data(&test, "four", GUEST, PORT);
	assert_int_equal(test.hdr.flags, VIRTIO_VSOCK_SEQ_EOM);
	expect_data(&test, "five", GUEST, PORT);
	assert_int_equal(write(fd, long_message, sizeof(long_message)), sizeof(long_message));
	while (sum < sizeof(long_message)) {
		expect(&test, VIRTIO_VSOCK_OP_RW, GUEST, PORT);
		memcpy(buffer + sum, test.data, test.hdr.len);
		sum += test.hdr.len;
		assert_int_equal(test.hdr.flags, sum == sizeof(long_message) ? VIRTIO_VSOCK_SEQ_EOM : 0);
	}
	assert_memory_equal(buffer, long_message, sizeof(long_message));
	/* Half a message is none. */
	send_data(&test, "half", 4, 0, GUEST, PORT);
	tell(&test, VIRTIO_VSOCK_OP_SHUTDOWN, BOTH, GUEST, PORT);
	expect(&test, VIRTIO_VSOCK_OP_RST, GUEST, PORT);
	host_is_at_end(fd);
	assert_int_equal(counter(&test, "lost_bytes"), 4);
	close(fd);
	close(listener);
	finish(&test);
}

/* Short ones and long ones, as many as the credit has bytes, for a reader who comes later. */
static void messages_wait_one_by_one(void **state)
{
	struct vsock_test test;
	uint8_t data[700], buffer[1024];
	unsigned int count = 0;
	int listener, fd;

	(void)state;
	begin(&test, "cid=5,path=v,buffer=4096");
	listener = serve(SOCK_SEQPACKET);
	test.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
	fd = meet(&test, listener, GUEST);
	for (uint32_t sent = 0, known = 0, len; ; sent += len, count++) {
		len = count % 3 ? 1 : 1 + count * 7 % sizeof(data);
		tell(&test, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 0, GUEST, PORT);
		while (hear(&test))
			known = test.hdr.fwd_cnt;
		if (sent + len - known > 4096)
			break;
		memset(data, (int)count, len);
		send_data(&test, data, len, VIRTIO_VSOCK_SEQ_EOM, GUEST, PORT);
	}
	assert_true(counter(&test, "buffered_bytes") > 1000);
	for (unsigned int i = 0; i < count; i++) {
		ssize_t len = i % 3 ? 1 : 1 + i * 7 % (ssize_t)sizeof(data);

		turn(&test);
		assert_int_equal(read(fd, buffer, sizeof(buffer)), len);
		assert_int_equal(buffer[0], (uint8_t)i);
		assert_int_equal(buffer[len - 1], (uint8_t)i);
	}
	host_has_nothing(fd);
	close(fd);
	close(listener);
	finish(&test);
}

static void messages_too_long_are_a_reset(void **state)
{
	static const char data[4097];
	struct vsock_test test;
	int listener, fd;

	(void)state;
	begin(&test, "cid=5,path=v,buffer=4096");
	listener = serve(SOCK_SEQPACKET);
	test.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
	/* Without an end within the credit. */
	fd = meet(&test, listener, GUEST);
	send_data(&test, data, 4000, 0, GUEST, PORT);
	expect_nothing(&test);
	send_data(&test, data, 96, 0, GUEST, PORT);
	expect(&test, VIRTIO_VSOCK_OP_RST, GUEST, PORT);
	close(fd);
	/* For our buffer, and for the guest's. */
	fd = meet(&test, listener, GUEST);
	assert_int_equal(write(fd, data, 4097), 4097);
	expect(&test, VIRTIO_VSOCK_OP_RST, GUEST, PORT);
	close(fd);
	test.buf_alloc = 1000;
	fd = meet(&test, listener, GUEST);
	assert_int_equal(write(fd, data, 1001), 1001);
	expect(&test, VIRTIO_VSOCK_OP_RST, GUEST, PORT);
	close(fd);
	close(listener);
	finish(&test);
}

static void the_host_connects_for_messages(void **state)
{
	struct vsock_test test;
	char ok[32];
	int fd;

	(void)state;
	begin(&test, "cid=5,path=v,seqpacket=q");
	test.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
	assert_int_equal(usock_connect("q", SOCK_SEQPACKET, &fd), 0);
	host_writes(fd, "CONNECT 8");
	assert_true(hear(&test));
	assert_int_equal(test.hdr.op, VIRTIO_VSOCK_OP_REQUEST);
	assert_int_equal(test.hdr.dst_port, 8);
	tell(&test, VIRTIO_VSOCK_OP_RESPONSE, 0, 8, test.hdr.src_port);
	snprintf(ok, sizeof(ok), "OK %u\n", test.hdr.src_port);
	host_reads(fd, ok);
	host_writes(fd, "a message");
	expect_data(&test, "a message", 8, test.hdr.src_port);
	assert_int_equal(test.hdr.flags, VIRTIO_VSOCK_SEQ_EOM);
	close(fd);
	finish(&test);
}

/* ---- a hostile guest ---- */

static void lengths_that_lie_are_faults(void **state)
{
	struct vsock_test test;
	struct virtio_vsock_hdr hdr;
	int listener, fd;

	(void)state;
	begin(&test, "cid=5,path=v");
	listener = serve(SOCK_STREAM);
	fd = meet(&test, listener, GUEST);
	hdr = header(&test, VIRTIO_VSOCK_OP_RW, GUEST, PORT);
	/* What the header does not speak of is not sent. */
	hdr.len = 2;
	memcpy(vq_ptr(&test.guest, OUTGOING + HEADER, 5), "hello", 5);
	send_packet(&test, &hdr, 5);
	host_reads(fd, "he");
	hdr.len = 6;
	send_packet(&test, &hdr, 5);
	assert_true(vq_failed(&test.guest));
	vq_reset(&test.guest);
	host_is_at_end(fd);
	close(fd);
	start_bare(&test);
	vq_post(&test.guest, TX, &(struct vq_buffer){ OUTGOING, HEADER - 1, false }, 1);
	vq_notify(&test.guest, TX);
	turn(&test);
	assert_true(vq_failed(&test.guest));
	vq_reset(&test.guest);
	start_bare(&test);
	vq_post(&test.guest, RX, &(struct vq_buffer){ INCOMING(0), HEADER - 1, true }, 1);
	tell(&test, VIRTIO_VSOCK_OP_REQUEST, 0, GUEST, PORT + 1);
	assert_true(vq_failed(&test.guest));
	/* Room for a header will do for what has no data. */
	vq_reset(&test.guest);
	start_bare(&test);
	vq_post(&test.guest, RX, &(struct vq_buffer){ INCOMING(0), HEADER, true }, 1);
	tell(&test, VIRTIO_VSOCK_OP_REQUEST, 0, GUEST, PORT);
	fd = accept(listener, NULL, NULL);
	assert_true(fd >= 0 && !vq_failed(&test.guest));
	vq_post(&test.guest, RX, &(struct vq_buffer){ INCOMING(1), HEADER, true }, 1);
	vq_notify(&test.guest, RX);
	turn(&test);
	assert_true(vq_failed(&test.guest));
	close(fd);
	close(listener);
	vq_reset(&test.guest);
	finish(&test);
}

/* ---- life ---- */

static void a_load_resets_connections(void **state)
{
	_cleanup_(state_free) struct state saved = { 0 };
	struct state_reader reader;
	struct vsock_test test;
	struct virtio_vsock_event *event;
	uint16_t head;
	uint32_t len;
	int listener, fd;

	(void)state;
	begin(&test, "cid=5,path=v");
	listener = serve(SOCK_STREAM);
	fd = meet(&test, listener, GUEST);
	vq_post(&test.guest, EVENT, &(struct vq_buffer){ INCOMING(100), 4, true }, 1);
	vq_notify(&test.guest, EVENT);
	turn(&test);
	assert_false(vq_take(&test.guest, EVENT, &head, &len));
	/* A pause alone costs nothing. */
	virtio_dev_pause(test.guest.dev);
	virtio_dev_resume(test.guest.dev);
	host_writes(fd, "on");
	expect_data(&test, "on", GUEST, PORT);
	virtio_dev_pause(test.guest.dev);
	assert_int_equal(virtio_dev_save(test.guest.dev, &saved), 0);
	virtio_dev_free(test.guest.dev);
	host_is_at_end(fd);
	close(fd);

	assert_int_equal(vq_plug(&test.guest, test.guest.conf), 0);
	reader = (struct state_reader){ saved.data, saved.len };
	assert_int_equal(virtio_dev_load(test.guest.dev, &reader), 0);
	virtio_dev_resume(test.guest.dev);
	turn(&test);
	event = vq_ptr(&test.guest, INCOMING(100), sizeof(*event));
	assert_true(vq_take(&test.guest, EVENT, &head, &len));
	assert_int_equal(len, sizeof(*event));
	assert_int_equal(event->id, VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
	assert_int_equal(counter(&test, "events"), 1);
	/* The queues have gone on, from where they were when it was saved. */
	send_data(&test, "x", 1, 0, GUEST, PORT);
	assert_int_equal(counter(&test, "refused"), 1);
	close(listener);
	finish(&test);
}

static void the_guest_is_its_own_peer(void **state)
{
	struct vsock_test test;
	uint32_t port;

	(void)state;
	begin(&test, "cid=5,loop");
	tell(&test, VIRTIO_VSOCK_OP_REQUEST, 0, GUEST, 80);
	assert_true(hear(&test));
	assert_int_equal(test.hdr.op, VIRTIO_VSOCK_OP_REQUEST);
	assert_int_equal(test.hdr.dst_port, 80);
	port = test.hdr.src_port;
	expect(&test, VIRTIO_VSOCK_OP_RESPONSE, GUEST, 80);
	tell(&test, VIRTIO_VSOCK_OP_RESPONSE, 0, 80, port);
	send_data(&test, "ping", 4, 0, GUEST, 80);
	expect_data(&test, "ping", 80, port);
	send_data(&test, "pong", 4, 0, 80, port);
	expect_data(&test, "pong", GUEST, 80);
	tell(&test, VIRTIO_VSOCK_OP_SHUTDOWN, BOTH, GUEST, 80);
	expect(&test, VIRTIO_VSOCK_OP_RST, GUEST, 80);
	expect_shutdown(&test, VIRTIO_VSOCK_SHUTDOWN_RCV, 80, port);
	expect_shutdown(&test, BOTH, 80, port);
	finish(&test);
}

static void paths_are_checked(void **state)
{
	char options[256];
	struct vsock_test test;
	static const struct {
		const char *path;
		int err;
	} paths[] = {
		{ "there/is/none", -ENOENT }, { "./", -EISDIR }, { ".", -EEXIST }, { "f", -EEXIST },
	};

	(void)state;
	make(&test, "cid=5,loop");
	close(open("f", O_CREAT | O_WRONLY, 0600));
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		struct vq_guest guest;

		snprintf(options, sizeof(options), "cid=3,path=%s", paths[i].path);
		assert_int_equal(vq_guest_make(&guest, &vsock_class, options), paths[i].err);
		vq_guest_free(&guest);
	}
	for (unsigned int len = 96; len <= 97; len++) {
		struct vq_guest guest;

		snprintf(options, sizeof(options), "cid=3,path=%0*d", (int)len, 0);
		assert_int_equal(vq_guest_make(&guest, &vsock_class, options),
				 len == 96 ? 0 : -ENAMETOOLONG);
		vq_guest_free(&guest);
	}
	finish(&test);
}

/* In the jail, on its thread, which has a filter, Landlock and nothing but its directory. */
static int in_jail(void *arg)
{
	struct vsock_test *test = arg;
	const char *step;
	struct jail_report report;
	uint16_t head;
	int listener, fd;

	child_needs_filters();
	make(test, "cid=5,path=v");
	listener = serve(SOCK_STREAM);
	CHILD_CHECK(usock_connect("v", SOCK_STREAM, &fd) == 0);
	CHILD_CHECK(chdir("/") == 0);
	CHILD_CHECK(filter_report_violations(NULL) == 0);
	CHILD_CHECK(jail_enter(&(struct jail_exceptions){ .cwd = test->guest.dev->workers[0].cwd },
			       &report, &step) == 0);
	CHILD_CHECK(vq_run(&test->guest, true) == 0);
	vq_start(&test->guest, SEQPACKET);
	for (unsigned int i = 0; i < VQ_SIZE; i++)
		post_rx(test, i);
	vq_notify(&test->guest, RX);
	*(struct virtio_vsock_hdr *)vq_ptr(&test->guest, OUTGOING, HEADER) =
		header(test, VIRTIO_VSOCK_OP_REQUEST, GUEST, PORT);
	vq_post(&test->guest, TX, &(struct vq_buffer){ OUTGOING, HEADER, false }, 1);
	vq_notify(&test->guest, TX);
	CHILD_CHECK(vq_await(&test->guest, RX, &head, NULL));
	memcpy(&test->hdr, vq_ptr(&test->guest, INCOMING(head), HEADER), HEADER);
	CHILD_CHECK(test->hdr.op == VIRTIO_VSOCK_OP_RESPONSE);
	CHILD_CHECK(accept(listener, NULL, NULL) >= 0);
	/* And the other way. */
	CHILD_CHECK(write(fd, "CONNECT 3\n", 10) == 10);
	CHILD_CHECK(vq_await(&test->guest, RX, &head, NULL));
	memcpy(&test->hdr, vq_ptr(&test->guest, INCOMING(head), HEADER), HEADER);
	CHILD_CHECK(test->hdr.op == VIRTIO_VSOCK_OP_REQUEST && test->hdr.dst_port == 3);
	vq_guest_free(&test->guest);
	return 0;
}

static void connections_are_made_in_the_jail(void **state)
{
	struct vsock_test test = { 0 };
	const uid_t uids[] = { geteuid(), CHILD_NOBODY };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(uids); i++)
		child_succeeds(uids[i], in_jail, &test);
	assert_int_equal(system("rm -rf /tmp/microvm-vsock-??????"), 0);
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
		cmocka_unit_test(data_before_a_break_arrives),
		cmocka_unit_test(data_outlives_the_guests_end),
		cmocka_unit_test(ports_in_use_are_not_had_twice),
		cmocka_unit_test(there_are_only_so_many),
		cmocka_unit_test(a_flood_waits_in_the_queue),
		cmocka_unit_test(a_flood_at_once_is_gone_through),
		cmocka_unit_test(messages_keep_their_ends),
		cmocka_unit_test(messages_wait_one_by_one),
		cmocka_unit_test(messages_too_long_are_a_reset),
		cmocka_unit_test(the_host_connects_for_messages),
		cmocka_unit_test(lengths_that_lie_are_faults),
		cmocka_unit_test(a_load_resets_connections),
		cmocka_unit_test(the_guest_is_its_own_peer),
		cmocka_unit_test(paths_are_checked),
		cmocka_unit_test(connections_are_made_in_the_jail),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
