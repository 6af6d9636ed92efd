// SPDX-License-Identifier: Apache-2.0
/* Frames on a stream socket, and the program that is started for them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <endian.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include "core/util.h"
#include "devices/netdev/netdev.h"

#define HEADER sizeof(struct virtio_net_hdr_v1)
#define FRAME_MAX 65535

struct wire {
	struct netdev netdev;
	int peer;
	uint8_t room[HEADER + FRAME_MAX + 1];
};

static struct wire *make(void)
{
	struct wire *wire = calloc(1, sizeof(*wire));
	int fds[2];

	assert_non_null(wire);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(netdev_stream_open(&wire->netdev, "peer", fds[0]), 0);
	wire->peer = fds[1];
	return wire;
}

static void unmake(struct wire *wire)
{
	netdev_close(&wire->netdev);
	util_closep(&wire->peer);
	free(wire);
}

static uint8_t byte_of(size_t i, uint8_t seed)
{
	return (uint8_t)(seed + i * 7 + (i >> 8));
}

/* What the peer sends for a frame of len bytes; returns how many they are. */
static size_t encode(uint8_t *bytes, size_t len, uint8_t seed)
{
	const uint32_t prefix = htobe32((uint32_t)len);

	memcpy(bytes, &prefix, sizeof(prefix));
	for (size_t i = 0; i < len; i++)
		bytes[sizeof(prefix) + i] = byte_of(i, seed);
	return sizeof(prefix) + len;
}

static void peer_writes(struct wire *wire, const void *bytes, size_t len)
{
	assert_int_equal(write(wire->peer, bytes, len), len);
}

static ssize_t receive_into(struct wire *wire, size_t len)
{
	return netdev_receive(&wire->netdev, &(struct iovec){ wire->room, len }, 1);
}

static ssize_t receive(struct wire *wire)
{
	return receive_into(wire, sizeof(wire->room));
}

/* It came whole, behind an empty header. */
static void expect_frame(const struct wire *wire, ssize_t n, size_t len, uint8_t seed)
{
	assert_int_equal(n, HEADER + len);
	for (size_t i = 0; i < HEADER; i++)
		assert_int_equal(wire->room[i], 0);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(wire->room[HEADER + i], byte_of(i, seed));
}

static void test_receive(void **state)
{
	static const size_t lens[] = { 14, 60, 1514, 9000, FRAME_MAX };
	struct wire *wire = make();
	uint8_t *bytes = malloc(2 * (4 + FRAME_MAX));
	size_t len = 0;

	(void)state;
	assert_int_equal(receive(wire), -EAGAIN);
	for (size_t i = 0; i < ARRAY_SIZE(lens); i++)
		len += encode(bytes + len, lens[i], (uint8_t)i);
	peer_writes(wire, bytes, len);
	for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
		memset(wire->room, 0xee, sizeof(wire->room));
		expect_frame(wire, receive(wire), lens[i], (uint8_t)i);
		assert_int_equal(wire->room[HEADER + lens[i]], 0xee);
	}
	assert_int_equal(receive(wire), -EAGAIN);
	free(bytes);
	unmake(wire);
}

/* However the stream is cut. */
static void test_receive_in_pieces(void **state)
{
	static const size_t steps[] = { 1, 2, 3, 5, 7, 64, 103 };
	uint8_t bytes[3 * 104];
	size_t len = 0;

	(void)state;
	for (uint8_t i = 0; i < 3; i++)
		len += encode(bytes + len, 100, i);
	for (size_t s = 0; s < ARRAY_SIZE(steps); s++) {
		struct wire *wire = make();
		uint8_t got = 0;

		for (size_t at = 0; at < len; at += steps[s]) {
			ssize_t n;

			peer_writes(wire, bytes + at, util_min(steps[s], len - at));
			while ((n = receive(wire)) != -EAGAIN)
				expect_frame(wire, n, 100, got++);
		}
		assert_int_equal(got, 3);
		unmake(wire);
	}
}

/* Buffers of all sizes, the header being cut as well. */
static void test_receive_scattered(void **state)
{
	struct wire *wire = make();
	struct iovec iov[ARRAY_SIZE(wire->room) / 40];
	uint8_t bytes[4 + 700], back[HEADER + 700];
	size_t at = 0, done = 0;
	unsigned int count = 0;

	(void)state;
	memset(wire->room, 0xee, sizeof(wire->room));
	for (size_t len = 1; done < sizeof(back); len = len % 5 + 1, count++) {
		iov[count] = (struct iovec){ wire->room + at, util_min(len, sizeof(back) - done) };
		done += iov[count].iov_len;
		at += 8;
	}
	encode(bytes, 700, 9);
	/* In two pieces, so that the second begins within an iovec. */
	peer_writes(wire, bytes, 300);
	assert_int_equal(netdev_receive(&wire->netdev, iov, count), -EAGAIN);
	peer_writes(wire, bytes + 300, sizeof(bytes) - 300);
	assert_int_equal(netdev_receive(&wire->netdev, iov, count), sizeof(back));
	done = 0;
	for (unsigned int i = 0; i < count; i++) {
		memcpy(back + done, iov[i].iov_base, iov[i].iov_len);
		done += iov[i].iov_len;
		assert_int_equal(((uint8_t *)iov[i].iov_base)[iov[i].iov_len], 0xee);
	}
	memcpy(wire->room, back, sizeof(back));
	expect_frame(wire, sizeof(back), 700, 9);
	unmake(wire);
}

/* The guest takes its buffers away anywhere within a frame: that one is lost, the next is whole. */
static void test_abandon(void **state)
{
	uint8_t bytes[2 * 104];
	size_t len = 0;

	(void)state;
	for (uint8_t i = 0; i < 2; i++)
		len += encode(bytes + len, 100, i);
	for (size_t cut = 0; cut < 104; cut++) {
		struct wire *wire = make();

		peer_writes(wire, bytes, cut);
		assert_int_equal(receive(wire), -EAGAIN);
		netdev_abandon(&wire->netdev);
		memset(wire->room, 0xee, sizeof(wire->room));
		peer_writes(wire, bytes + cut, len - cut);
		/* Up to its length nothing of it was in a buffer. */
		if (cut < 4)
			expect_frame(wire, receive(wire), 100, 0);
		expect_frame(wire, receive(wire), 100, 1);
		assert_int_equal(receive(wire), -EAGAIN);
		unmake(wire);
	}
}

static void test_too_long_for_the_buffers(void **state)
{
	struct wire *wire = make();
	uint8_t bytes[4 + 9000 + 4 + 60];
	size_t len = encode(bytes, 9000, 1);

	(void)state;
	encode(bytes + len, 60, 2);
	peer_writes(wire, bytes, sizeof(bytes));
	memset(wire->room, 0xee, sizeof(wire->room));
	assert_int_equal(receive_into(wire, 1526), -EMSGSIZE);
	assert_int_equal(wire->room[0], 0xee);
	expect_frame(wire, receive_into(wire, 1526), 60, 2);
	/* A whole frame just fits. */
	peer_writes(wire, bytes + len, 64);
	expect_frame(wire, receive_into(wire, HEADER + 60), 60, 2);
	peer_writes(wire, bytes + len, 64);
	assert_int_equal(receive_into(wire, HEADER + 59), -EMSGSIZE);
	unmake(wire);
}

/* What no frame can be as long as; and the end, in the middle of one or not. */
static void test_gone(void **state)
{
	static const uint32_t lies[] = { 0, 13, FRAME_MAX + 1, 0x80000000, 0xffffffff };
	const uint8_t zeroes[64] = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		const uint32_t prefix = htobe32(lies[i]);
		struct wire *wire = make();

		peer_writes(wire, &prefix, sizeof(prefix));
		peer_writes(wire, zeroes, sizeof(zeroes));
		assert_int_equal(receive(wire), -EBADFD);
		unmake(wire);
	}
	for (size_t sent = 0; sent < 64; sent += 3) {
		struct wire *wire = make();
		uint8_t bytes[64];

		encode(bytes, 60, 1);
		peer_writes(wire, bytes, sent);
		assert_int_equal(receive(wire), -EAGAIN);
		util_closep(&wire->peer);
		assert_int_equal(receive(wire), -EBADFD);
		assert_int_equal(netdev_send(&wire->netdev, &(struct iovec){ wire->room, 100 }, 1),
				 -EBADFD);
		unmake(wire);
	}
}

/* ---- to the peer ---- */

static ssize_t send_frame(struct wire *wire, size_t len, uint8_t seed)
{
	/* What the header says has no meaning here. */
	memset(wire->room, 0xff, HEADER);
	for (size_t i = 0; i < len; i++)
		wire->room[HEADER + i] = byte_of(i, seed);
	return netdev_send(&wire->netdev, (struct iovec[]){ { wire->room, 5 },
							    { wire->room + 5, HEADER + 1 },
							    { wire->room + HEADER + 6, len - 6 } }, 3);
}

/* Reads what is there of len bytes into bytes at *at. */
static void peer_reads(struct wire *wire, uint8_t *bytes, size_t len, size_t *at)
{
	ssize_t n;

	while (*at < len && (n = read(wire->peer, bytes + *at, len - *at)) > 0)
		*at += (size_t)n;
}

static void test_send(void **state)
{
	static const size_t lens[] = { 14, 60, 1514, FRAME_MAX };
	uint8_t *want = malloc(4 + FRAME_MAX), *got = malloc(4 + FRAME_MAX);
	struct wire *wire = make();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
		size_t len = encode(want, lens[i], (uint8_t)i), at = 0;

		assert_int_equal(send_frame(wire, lens[i], (uint8_t)i), HEADER + lens[i]);
		peer_reads(wire, got, len, &at);
		assert_int_equal(at, len);
		assert_memory_equal(got, want, len);
	}
	assert_int_equal(send_frame(wire, 13, 0), -EMSGSIZE);
	assert_int_equal(netdev_send(&wire->netdev, &(struct iovec){ wire->room, HEADER }, 1), -EMSGSIZE);
	assert_int_equal(send_frame(wire, FRAME_MAX + 1, 0), -EMSGSIZE);
	assert_int_equal(read(wire->peer, got, 1), -1);
	free(want);
	free(got);
	unmake(wire);
}

/*
 * A peer that does not read: frames wait with whoever sends them, but for the
 * rest of the one that was begun, which is sent although its buffer is gone.
 */
static void test_send_to_a_full_socket(void **state)
{
	const size_t len = 4 + 60000;
	struct wire *wire = make();
	unsigned int sent = 0;
	uint8_t *want, *got;
	size_t at = 0;

	(void)state;
	for (; send_frame(wire, 60000, (uint8_t)sent) > 0; sent++)
		assert_true(sent < 1000);
	assert_int_equal(send_frame(wire, 60000, 0), -EAGAIN);
	memset(wire->room, 0xee, sizeof(wire->room));
	got = malloc(sent * len);
	want = malloc(sent * len);
	for (unsigned int i = 0; i < sent; i++)
		encode(want + i * len, 60000, (uint8_t)i);
	for (int turns = 0; at < sent * len; turns++) {
		peer_reads(wire, got, sent * len, &at);
		if (wire->netdev.backlog)
			netdev_flush(&wire->netdev);
		assert_true(turns < 1000);
	}
	assert_memory_equal(got, want, sent * len);
	assert_false(wire->netdev.backlog);
	assert_int_equal(send_frame(wire, 60000, 1), HEADER + 60000);
	free(got);
	free(want);
	unmake(wire);
}

/* ---- the program ---- */

/* Inherited from whoever started us, and not for passt. */
#define OTHER_FD 100

/* A program in the place of passt, which writes its arguments down and ends with this status. */
static char *fake_passt(int status)
{
	char dir[] = "/tmp/passt.XXXXXX", *path, *name;
	FILE *file;

	assert_non_null(mkdtemp(dir));
	assert_true(asprintf(&path, "%s:/usr/bin:/bin", dir) > 0);
	assert_true(asprintf(&name, "%s/passt", dir) > 0);
	file = fopen(name, "we");
	fprintf(file, "#!/bin/sh\n[ -e /proc/self/fd/%d ] && exit 1\necho \"$*\" > $0.arguments\n"
		      "printf '\\0\\0\\0\\016frame of hello' >&3\nexit %d\n", OTHER_FD, status);
	fclose(file);
	assert_int_equal(chmod(name, 0700), 0);
	assert_int_equal(dup2(STDERR_FILENO, OTHER_FD), OTHER_FD);
	assert_int_equal(setenv("PATH", path, 1), 0);
	free(path);
	return name;
}

/* What it wrote into that file; the fake and all of its files are removed. */
static void forget_fake(char *name, char *arguments, size_t len)
{
	static const char *const suffixes[] = { ".arguments", "" };
	char path[128];
	FILE *file;

	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
		snprintf(path, sizeof(path), "%s%s", name, suffixes[i]);
		file = i == 0 ? fopen(path, "re") : NULL;
		if (file) {
			arguments[fread(arguments, 1, len - 1, file)] = '\0';
			fclose(file);
		}
		unlink(path);
	}
	close(OTHER_FD);
	*strrchr(name, '/') = '\0';
	rmdir(name);
	free(name);
}

static void test_start(void **state)
{
	char arguments[512] = "";
	struct wire wire = { .netdev.fd = -1, .peer = -1 };
	char *name = fake_passt(0);

	(void)state;
	assert_int_equal(netdev_passt_start(&wire.netdev, "tcp::42222-:22,udp:127.0.0.1:42053-:53,"
					    "tcp:[::1]:42080-:80", 1400), 0);
	assert_int_equal(receive(&wire), HEADER + 14);
	assert_memory_equal(wire.room + HEADER, "frame of hello", 14);
	assert_int_equal(receive(&wire), -EBADFD);
	/* It is as the first one, however often it ends. */
	for (int i = 0; i < 2; i++) {
		struct pollfd door = { .fd = wire.netdev.door, .events = POLLIN };

		assert_true(wire.netdev.returns);
		assert_int_equal(netdev_reopen(&wire.netdev), -EAGAIN);
		netdev_ask(&wire.netdev);
		assert_int_equal(poll(&door, 1, 20000), 1);
		assert_int_equal(netdev_reopen(&wire.netdev), 0);
		assert_int_equal(receive(&wire), HEADER + 14);
		assert_memory_equal(wire.room + HEADER, "frame of hello", 14);
		assert_int_equal(receive(&wire), -EBADFD);
	}
	netdev_close(&wire.netdev);
	forget_fake(name, arguments, sizeof(arguments));
	assert_string_equal(arguments, "--quiet --fd 3 --mtu 1400 --tcp-ports 42222:22 "
			    "--udp-ports 127.0.0.1/42053:53 --tcp-ports ::1/42080:80\n");
}

static void test_start_fails(void **state)
{
	struct netdev netdev = { .fd = -1 };
	char arguments[512] = "";
	char *name = fake_passt(1);

	(void)state;
	assert_int_equal(netdev_passt_start(&netdev, NULL, 0), -ENETUNREACH);
	assert_int_equal(netdev.fd, -1);
	forget_fake(name, arguments, sizeof(arguments));
	assert_string_equal(arguments, "--quiet --fd 3\n");
	/* It is gone from the path now. */
	setenv("PATH", "/nonexistent", 1);
	assert_int_equal(netdev_passt_start(&netdev, NULL, 0), -ENOPKG);
	assert_int_equal(netdev.fd, -1);
}

static void test_bad_forwards(void **state)
{
	static const char *const table[] = {
		"", ",", "22", "tcp:22", "tcp::22", "tcp::22-", "tcp::22-22", "tcp::22-:", "tcp::-:22",
		"tcp::0-:22", "tcp::22-:0", "tcp::65536-:22", "tcp::22-:65536", "tcp::-1-:22",
		"tcp:: 22-:22", "tcp::22-:22 ", "sctp::22-:22", "TCP::22-:22", "tcp:host:22-:22",
		"tcp:1.2.3:22-:22", "tcp:::1:22-:22", "tcp:[::1:22-:22", "tcp:[]:22-:22",
		"tcp:[::1]22-:22", "tcp:[1.2.3.4]:22-:22", "tcp::22-10.0.2.15:22", "tcp::22-:22,",
		"tcp::99999999999999999999-:22", "tcp:-t:22-:22",
		"tcp:1111111111111111111111111111111111111111111111111111:22-:22",
	};
	struct netdev netdev = { .fd = -1 };
	char many[33 * 20] = "tcp::42001-:1";

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		assert_int_equal(netdev_passt_start(&netdev, table[i], 0), -EBADMSG);
	for (int i = 1; i < 33; i++)
		strcat(many, ",tcp::42001-:1");
	assert_int_equal(netdev_passt_start(&netdev, many, 0), -E2BIG);
	assert_int_equal(netdev_passt_start(&netdev, "tcp:192.0.2.99:42001-:1", 0), -EADDRNOTAVAIL);
	assert_int_equal(netdev.fd, -1);
}

static void test_busy_port(void **state)
{
	static const int types[] = { SOCK_STREAM, SOCK_DGRAM };
	struct netdev netdev = { .fd = -1 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		int fd = socket(AF_INET, types[i] | SOCK_CLOEXEC, 0);
		struct sockaddr_in address = { .sin_family = AF_INET,
					       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
		socklen_t len = sizeof(address);
		char forward[64];

		assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
		assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
		if (types[i] == SOCK_STREAM)
			assert_int_equal(listen(fd, 1), 0);
		snprintf(forward, sizeof(forward), "%s:127.0.0.1:%u-:22", i ? "udp" : "tcp",
			 ntohs(address.sin_port));
		assert_int_equal(netdev_passt_start(&netdev, forward, 0), -EADDRINUSE);
		close(fd);
	}
	assert_int_equal(netdev.fd, -1);
}

static void test_join(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct wire wire = { .netdev.fd = -1 };
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	uint8_t bytes[64];
	char longer[200];

	(void)state;
	snprintf(address.sun_path, sizeof(address.sun_path), "/tmp/stream.%d", getpid());
	assert_int_equal(netdev_passt_join(&wire.netdev, address.sun_path), -ECONNREFUSED);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(netdev_passt_join(&wire.netdev, address.sun_path), -ECONNREFUSED);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(netdev_passt_join(&wire.netdev, address.sun_path), 0);
	assert_string_equal(wire.netdev.name, "passt");
	wire.peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	encode(bytes, 60, 3);
	peer_writes(&wire, bytes, sizeof(bytes));
	expect_frame(&wire, receive(&wire), 60, 3);
	assert_int_equal(receive(&wire), -EAGAIN);
	netdev_close(&wire.netdev);
	close(wire.peer);
	close(listener);
	unlink(address.sun_path);

	memset(longer, 'a', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(netdev_passt_join(&wire.netdev, longer), -ENAMETOOLONG);
	assert_int_equal(wire.netdev.fd, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_receive),
		cmocka_unit_test(test_receive_in_pieces),
		cmocka_unit_test(test_receive_scattered),
		cmocka_unit_test(test_abandon),
		cmocka_unit_test(test_too_long_for_the_buffers),
		cmocka_unit_test(test_gone),
		cmocka_unit_test(test_send),
		cmocka_unit_test(test_send_to_a_full_socket),
		cmocka_unit_test(test_start),
		cmocka_unit_test(test_start_fails),
		cmocka_unit_test(test_bad_forwards),
		cmocka_unit_test(test_busy_port),
		cmocka_unit_test(test_join),
	};

	/* microvm blocks it: a reader that is gone is an error of write(). */
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
