// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/wait.h>
#include "core/redial.h"
#include "core/util.h"

#define PATIENCE_MS 20000

static bool comes(int fd)
{
	return poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, PATIENCE_MS) == 1;
}

/* What cannot be opened yet is tried until it can be, once for each word. */
static void test_tries_until_it_succeeds(void **state)
{
	_cleanup_close_ int door = -1, listener = -1;
	char path[64];

	(void)state;
	snprintf(path, sizeof(path), "/tmp/redial.%d", getpid());
	assert_int_equal(redial_start(redial_connect, path, &door), 0);
	for (int i = 0; i < 2; i++) {
		_cleanup_close_ int fd = -1, peer = -1;
		char word[4];

		assert_int_equal(redial_take(door, &fd), -EAGAIN);
		redial_ask(door);
		if (i == 0)
			assert_int_equal(usock_listen(path, SOCK_STREAM, 1, &listener), 0);
		assert_true(comes(listener));
		peer = accept(listener, NULL, NULL);
		assert_true(comes(door));
		assert_int_equal(redial_take(door, &fd), 0);
		assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
		assert_int_equal(write(fd, "word", 4), 4);
		assert_int_equal(read(peer, word, 4), 4);
	}
	unlink(path);
}

/* It keeps nothing open, and goes when nobody can ask any more, be it at work. */
static void test_leaves_nothing(void **state)
{
	(void)state;
	for (int asked = 0; asked < 2; asked++) {
		int door, ends[2], status;
		char byte;

		assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
		assert_int_equal(redial_start(redial_connect, "/none-such", &door), 0);
		close(ends[1]);
		assert_int_equal(read(ends[0], &byte, 1), 0);
		if (asked)
			redial_ask(door);
		close(door);
		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
		close(ends[0]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_leaves_nothing),
		cmocka_unit_test(test_tries_until_it_succeeds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
