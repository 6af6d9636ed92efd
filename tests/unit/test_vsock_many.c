// SPDX-License-Identifier: Apache-2.0
/* A thousand connections at once, of which every tenth has a slow reader at either end. */
#include "tests/unit/vsock.h"

#define COUNT 1000
#define ROUNDS 10
#define SLOW 10
#define BUFFER 4096 /* credit at either end */
#define CHUNK 1500

struct peer {
	int fd;
	uint32_t sent, known, read; /* from the guest: how much of it the guest knows and the host read */
	uint32_t written, heard;    /* to it */
};

struct many {
	struct vsock_test test;
	struct peer peers[COUNT];
};

static uint8_t pattern(unsigned int i, uint32_t offset)
{
	return (uint8_t)((offset * 31 >> 3) + i);
}

static void fill_in(uint8_t *data, unsigned int i, uint32_t offset, uint32_t len)
{
	for (uint32_t n = 0; n < len; n++)
		data[n] = pattern(i, offset + n);
}

static void check(const uint8_t *data, unsigned int i, uint32_t offset, uint32_t len)
{
	for (uint32_t n = 0; n < len; n++)
		assert_int_equal(data[n], pattern(i, offset + n));
}

static void say(struct many *many, unsigned int i, uint16_t op, uint32_t flags)
{
	many->test.fwd_cnt = many->peers[i].heard;
	tell(&many->test, op, flags, GUEST + i, PORT);
}

/* As much as there is credit for. */
static void guest_sends(struct many *many, unsigned int i, uint32_t len)
{
	struct peer *peer = &many->peers[i];
	uint8_t data[CHUNK];

	len = (uint32_t)util_min(len, BUFFER - (peer->sent - peer->known));
	if (!len)
		return;
	fill_in(data, i, peer->sent, len);
	many->test.fwd_cnt = peer->heard;
	send_data(&many->test, data, len, 0, GUEST + i, PORT);
	peer->sent += len;
}

/* A slow guest gives no credit before the end. */
static void guest_hears(struct many *many, bool slow_ones)
{
	struct vsock_test *test = &many->test;

	while (hear(test)) {
		const unsigned int i = test->hdr.dst_port - GUEST;
		struct peer *peer = &many->peers[i];

		assert_in_range(i, 0, COUNT - 1);
		assert_true(test->hdr.fwd_cnt - peer->known <= peer->sent - peer->known);
		peer->known = test->hdr.fwd_cnt;
		check(test->data, i, peer->heard, test->hdr.len);
		peer->heard += test->hdr.len;
		if (test->hdr.op == VIRTIO_VSOCK_OP_CREDIT_REQUEST && (slow_ones || i % SLOW))
			say(many, i, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0);
	}
}

static void peer_writes(struct many *many, unsigned int i, uint32_t len)
{
	struct peer *peer = &many->peers[i];
	uint8_t data[CHUNK];
	ssize_t n;

	fill_in(data, i, peer->written, len);
	n = write(peer->fd, data, len);
	assert_true(n > 0 || errno == EAGAIN);
	peer->written += (uint32_t)(n > 0 ? n : 0);
}

static void peer_reads(struct many *many, unsigned int i)
{
	struct peer *peer = &many->peers[i];
	uint8_t data[BUFFER];
	ssize_t n;

	while ((n = read(peer->fd, data, sizeof(data))) > 0) {
		check(data, i, peer->read, (uint32_t)n);
		peer->read += (uint32_t)n;
		turn(&many->test);
	}
	assert_int_equal(errno, EAGAIN);
}

/* What the others send goes on whatever the slow ones leave. */
static void talk(struct many *many)
{
	uint32_t seed = 1;

	for (int round = 0; round < ROUNDS; round++) {
		for (unsigned int i = 0; i < COUNT; i++) {
			seed = seed * 1664525 + 1013904223;
			guest_sends(many, i, 1 + (seed >> 8) % CHUNK);
			peer_writes(many, i, 1 + (seed >> 20) % CHUNK);
			guest_hears(many, false);
			if (i % SLOW)
				peer_reads(many, i);
		}
		for (unsigned int i = 0; i < COUNT; i++)
			if (i % SLOW) {
				assert_int_equal(many->peers[i].read, many->peers[i].sent);
				assert_int_equal(many->peers[i].heard, many->peers[i].written);
			}
	}
}

/* To the last byte, and all credit is back. */
static void settle(struct many *many, uint64_t *ret_sent, uint64_t *ret_written)
{
	*ret_sent = *ret_written = 0;
	for (unsigned int i = 0; i < COUNT; i++) {
		struct peer *peer = &many->peers[i];

		say(many, i, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0);
		guest_hears(many, true);
		peer_reads(many, i);
		say(many, i, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 0);
		guest_hears(many, true);
		assert_int_equal(peer->read, peer->sent);
		assert_int_equal(peer->known, peer->sent);
		assert_int_equal(peer->heard, peer->written);
		*ret_sent += peer->sent;
		*ret_written += peer->written;
	}
}

static void a_thousand_connections_lose_nothing(void **state)
{
	struct many *many = calloc(1, sizeof(*many));
	uint64_t sent, written;
	int listener;

	(void)state;
	assert_non_null(many);
	if (util_raise_fd_limit() < 2 * COUNT + 100) {
		print_message("skipped: this process may not have 2000 sockets\n");
		skip();
	}
	begin(&many->test, "cid=5,path=v,connections=1000,buffer=4096");
	many->test.buf_alloc = BUFFER;
	listener = serve(SOCK_STREAM);
	for (unsigned int i = 0; i < COUNT; i++) {
		many->test.fwd_cnt = 0;
		many->peers[i].fd = meet(&many->test, listener, GUEST + i);
	}
	talk(many);
	settle(many, &sent, &written);
	assert_int_equal(counter(&many->test, "tx_bytes"), sent);
	assert_int_equal(counter(&many->test, "delivered_bytes"), sent);
	assert_int_equal(counter(&many->test, "lost_bytes"), 0);
	assert_int_equal(counter(&many->test, "rx_bytes"), written);
	for (unsigned int i = 0; i < COUNT; i++) {
		say(many, i, VIRTIO_VSOCK_OP_SHUTDOWN, BOTH);
		expect(&many->test, VIRTIO_VSOCK_OP_RST, GUEST + i, PORT);
		host_is_at_end(many->peers[i].fd);
		close(many->peers[i].fd);
	}
	assert_int_equal(counter(&many->test, "opened"), COUNT);
	assert_int_equal(counter(&many->test, "closed"), COUNT);
	close(listener);
	finish(&many->test);
	free(many);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_thousand_connections_lose_nothing),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
