// SPDX-License-Identifier: Apache-2.0
/* SOCK_SEQPACKET. */
#include "tests/unit/vsock.h"

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

/* 0: it is not known. */
static uint32_t longest_message(void)
{
	FILE *file = fopen("/proc/sys/net/core/wmem_max", "r");
	uint32_t most = 0;

	if (!file)
		return 0;
	if (fscanf(file, "%u", &most) != 1)
		most = 0;
	fclose(file);
	return 2 * most;
}

/* One message, so long that the host's sockets have no room for it at all, is no reason to wait. */
static void messages_too_long_for_the_host_are_a_reset(void **state)
{
	const uint32_t chunk = (uint32_t)MIB(1), most = longest_message();
	struct vsock_test test;
	uint32_t sum = 1;
	int listener, fd;
	void *data;

	(void)state;
	if (!most || most > MIB(14)) {
		print_message("skipped: this host's sockets have room for all messages, or do not tell\n");
		skip();
	}
	data = calloc(1, chunk);
	assert_non_null(data);
	begin(&test, "cid=5,path=v,buffer=16M");
	listener = serve(SOCK_SEQPACKET);
	test.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
	fd = meet(&test, listener, GUEST);
	for (; sum < most; sum += chunk) {
		send_data(&test, data, chunk, 0, GUEST, PORT);
		expect_nothing(&test);
	}
	send_data(&test, "z", 1, VIRTIO_VSOCK_SEQ_EOM, GUEST, PORT);
	expect(&test, VIRTIO_VSOCK_OP_RST, GUEST, PORT);
	host_is_at_end(fd);
	assert_int_equal(counter(&test, "lost_bytes"), sum);
	free(data);
	close(fd);
	close(listener);
	finish(&test);
}

/* The host's arrive between others; the end comes behind the last one. The guest's are dropped. */
static void messages_may_be_empty(void **state)
{
	static const char *const texts[] = { "", "one", "", "", "two", "" };
	struct vsock_test test;
	int listener, fd;

	(void)state;
	begin(&test, "cid=5,path=v");
	listener = serve(SOCK_SEQPACKET);
	test.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
	fd = meet(&test, listener, GUEST);
	send_data(&test, "", 0, VIRTIO_VSOCK_SEQ_EOM, GUEST, PORT);
	host_has_nothing(fd);
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		assert_int_equal(send(fd, texts[i], strlen(texts[i]), 0), strlen(texts[i]));
	shutdown(fd, SHUT_WR);
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		expect_data(&test, texts[i], GUEST, PORT);
		assert_int_equal(test.hdr.flags, VIRTIO_VSOCK_SEQ_EOM);
	}
	expect_shutdown(&test, VIRTIO_VSOCK_SHUTDOWN_SEND, GUEST, PORT);
	expect_nothing(&test);
	close(fd);
	close(listener);
	finish(&test);
}

/* Files that come along with a message have no way to the guest, and stay nobody's. */
static void messages_bring_no_files(void **state)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { (char[]){ "data" }, 4 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
				  .msg_controllen = sizeof(control) };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	const char *emulator = getenv("EMULATOR");
	struct vsock_test test;
	int listener, fd, ends[2];

	(void)state;
	if (emulator && *emulator) {
		print_message("skipped: qemu-user takes files along\n");
		skip();
	}
	begin(&test, "cid=5,path=v");
	listener = serve(SOCK_SEQPACKET);
	test.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
	fd = meet(&test, listener, GUEST);
	assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
	*header = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
	memcpy(CMSG_DATA(header), &ends[1], sizeof(int));
	assert_int_equal(sendmsg(fd, &message, 0), 4);
	close(ends[1]);
	expect_data(&test, "data", GUEST, PORT);
	/* Nobody has its other end. */
	host_is_at_end(ends[0]);
	close(ends[0]);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_keep_their_ends),
		cmocka_unit_test(messages_wait_one_by_one),
		cmocka_unit_test(messages_too_long_are_a_reset),
		cmocka_unit_test(messages_too_long_for_the_host_are_a_reset),
		cmocka_unit_test(messages_may_be_empty),
		cmocka_unit_test(messages_bring_no_files),
		cmocka_unit_test(the_host_connects_for_messages),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
