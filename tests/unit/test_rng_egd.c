// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include "core/usock.h"
#include "tests/lib/child.h"
#include "tests/unit/driver.h"

extern const struct virtio_class rng_class;

/* Guest memory behind the rings. */
#define DATA (VQ_RAM_BASE + MIB(4))

/* The guest, and the daemon, which is the test itself. */
struct test {
	struct vq_guest guest;
	char path[USOCK_PATH_MAX];
	int listener, peer;
};

/* Whoever has connected, or will. */
static int meet(int listener)
{
	struct pollfd pollfd = { .fd = listener, .events = POLLIN };

	return poll(&pollfd, 1, VQ_WAIT_MS) == 1 ? accept(listener, NULL, NULL) : -1;
}

static int make(struct test *test)
{
	char options[USOCK_PATH_MAX + 8];

	snprintf(test->path, sizeof(test->path), "/tmp/egd.%d", getpid());
	snprintf(options, sizeof(options), "egd=%s", test->path);
	if (usock_listen(test->path, SOCK_STREAM, 1, &test->listener) < 0)
		return -1;
	return vq_guest_make(&test->guest, &rng_class, options);
}

static void setup(struct test *test)
{
	assert_int_equal(make(test), 0);
	test->peer = meet(test->listener);
	assert_true(test->peer >= 0);
	vq_start(&test->guest, 0);
}

static void teardown(struct test *test)
{
	vq_guest_free(&test->guest);
	close(test->peer);
	close(test->listener);
	unlink(test->path);
}

static void ask(struct test *test, uint32_t len)
{
	vq_post(&test->guest, 0, &(struct vq_buffer){ DATA, len, true }, 1);
	vq_notify(&test->guest, 0);
	vq_turn(&test->guest);
}

/* What the daemon is asked for; 0: nothing. */
static uint8_t asked(const struct test *test)
{
	uint8_t request[16];
	ssize_t n = recv(test->peer, request, sizeof(request), MSG_DONTWAIT);

	if (n < 0)
		return 0;
	assert_int_equal(n, 2);
	assert_int_equal(request[0], 2);
	return request[1];
}

static void answer(struct test *test, const char *text)
{
	assert_int_equal(write(test->peer, text, strlen(text)), strlen(text));
	vq_turn(&test->guest);
}

static bool got(struct test *test, const char *text)
{
	uint16_t head;
	uint32_t len;

	return vq_take(&test->guest, 0, &head, &len) && len == strlen(text) &&
	       !memcmp(vq_ptr(&test->guest, DATA, len), text, len);
}

static void test_answer_in_pieces(void **state)
{
	struct test test;

	(void)state;
	setup(&test);
	ask(&test, 10);
	assert_int_equal(asked(&test), 10);
	answer(&test, "0123");
	assert_false(got(&test, "0123"));
	/* A second request waits behind the first, and asks for nothing yet. */
	ask(&test, 3);
	assert_int_equal(asked(&test), 0);
	answer(&test, "456789");
	assert_true(got(&test, "0123456789"));
	assert_int_equal(asked(&test), 3);
	answer(&test, "abc");
	assert_true(got(&test, "abc"));
	assert_int_equal(vq_counter(&test.guest, "bytes"), 13);
	assert_int_equal(vq_counter(&test.guest, "errors"), 0);
	teardown(&test);
}

/* An answer has 255 bytes at the most; the guest has that, then. */
static void test_large_request(void **state)
{
	struct test test;
	char text[256];

	(void)state;
	memset(text, 'x', 255);
	text[255] = '\0';
	setup(&test);
	ask(&test, 4096);
	assert_int_equal(asked(&test), 255);
	answer(&test, text);
	assert_true(got(&test, text));
	teardown(&test);
}

/* What it was not asked for wakes nobody, and is the beginning of the next answer. */
static void test_more_than_asked(void **state)
{
	struct test test;

	(void)state;
	setup(&test);
	answer(&test, "un");
	assert_int_equal(loop_turn(&test.guest.dev->workers[0].loop, 20), 0);
	ask(&test, 4);
	assert_false(got(&test, "un"));
	answer(&test, "asked for");
	assert_true(got(&test, "unas"));
	assert_int_equal(loop_turn(&test.guest.dev->workers[0].loop, 20), 0);
	ask(&test, 7);
	assert_true(got(&test, "ked for"));
	assert_false(vq_failed(&test.guest));
	teardown(&test);
}

/* A request that is reset meanwhile leaves its answer to the next ones, whatever their lengths. */
static void test_reset_meanwhile(void **state)
{
	struct test test;

	(void)state;
	setup(&test);
	ask(&test, 5);
	assert_int_equal(asked(&test), 5);
	vq_reset(&test.guest);
	answer(&test, "01234");
	vq_start(&test.guest, 0);
	test.guest.queues[0].seen = 0;
	ask(&test, 2);
	assert_true(got(&test, "01"));
	ask(&test, 100);
	assert_true(got(&test, "234"));
	assert_int_equal(asked(&test), 97);
	teardown(&test);
}

/* Lets the device find the end, and the redial the next daemon. */
static void come_again(struct test *test)
{
	close(test->peer);
	vq_turn(&test->guest);
	test->peer = meet(test->listener);
	assert_true(test->peer >= 0);
	while (vq_wait(&test->guest) > 0 && !poll(&(struct pollfd){ test->peer, POLLIN, 0 }, 1, 0))
		;
}

/* It ends within an answer, and at rest; what it still sent counts where it is whole. */
static void test_daemon_ends(void **state)
{
	struct test test;

	(void)state;
	setup(&test);
	ask(&test, 4);
	assert_int_equal(asked(&test), 4);
	answer(&test, "01");
	come_again(&test);
	assert_int_equal(asked(&test), 4);
	assert_true(vq_counter(&test.guest, "errors") >= 1);
	assert_int_equal(write(test.peer, "abcd", 4), 4);
	close(test.peer);
	vq_turn(&test.guest);
	assert_true(got(&test, "abcd"));
	ask(&test, 3);
	test.peer = meet(test.listener);
	while (!poll(&(struct pollfd){ test.peer, POLLIN, 0 }, 1, 0))
		assert_true(vq_wait(&test.guest) > 0);
	assert_int_equal(asked(&test), 3);
	answer(&test, "xyz");
	assert_true(got(&test, "xyz"));
	assert_false(vq_failed(&test.guest));
	teardown(&test);
}

static void test_nobody_there(void **state)
{
	static const struct { const char *options; int result; } table[] = {
		{ "egd=/nonexistent", -ENOENT },
		{ "egd=/dev/null", -ECONNREFUSED },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct vq_guest guest;

		assert_int_equal(vq_guest_make(&guest, &rng_class, table[i].options), table[i].result);
		vq_guest_free(&guest);
	}
}

/* Gives one answer to each of two connections. */
static void *serve_two(void *arg)
{
	for (int i = 0; i < 2; i++) {
		uint8_t request[2], bytes[UINT8_MAX] = { 0 };
		int peer = meet(*(int *)arg);

		if (read(peer, request, sizeof(request)) == sizeof(request))
			(void)!write(peer, bytes, request[1]);
		close(peer);
	}
	return NULL;
}

static int confined(void *arg)
{
	struct test test;
	pthread_t daemon;
	uint16_t head;
	uint32_t len;

	(void)arg;
	child_needs_filters();
	CHILD_CHECK(make(&test) == 0);
	CHILD_CHECK(pthread_create(&daemon, NULL, serve_two, &test.listener) == 0);
	CHILD_CHECK(vq_run(&test.guest, true) == 0);
	vq_start(&test.guest, 0);
	for (int i = 0; i < 2; i++) {
		vq_post(&test.guest, 0, &(struct vq_buffer){ DATA, 64, true }, 1);
		vq_notify(&test.guest, 0);
		CHILD_CHECK(vq_await(&test.guest, 0, &head, &len));
		CHILD_CHECK(len == 64);
	}
	pthread_join(daemon, NULL);
	test.peer = -1;
	virtio_set_status(test.guest.dev, 0);
	teardown(&test);
	return 0;
}

static void test_confined(void **state)
{
	(void)state;
	child_succeeds(geteuid(), confined, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answer_in_pieces),
		cmocka_unit_test(test_large_request),
		cmocka_unit_test(test_more_than_asked),
		cmocka_unit_test(test_reset_meanwhile),
		cmocka_unit_test(test_daemon_ends),
		cmocka_unit_test(test_nobody_there),
		cmocka_unit_test(test_confined),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
