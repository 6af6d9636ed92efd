// SPDX-License-Identifier: Apache-2.0
/* The VMM's side of the display; test_viewer.c has the program. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "devices/display/display.h"

struct fixture {
	struct display display;
	struct display_head *heads;
	char dir[32];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	display_init(&f->display);
	strcpy(f->dir, "/tmp/display.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	display_unmap(f->heads, f->display.heads);
	display_close(&f->display);
	rmdir(f->dir);
	free(f);
	return 0;
}

static int opens(struct fixture *f, const char *viewer, const char *password_file, unsigned int heads)
{
	struct display_conf conf = { (char *)viewer, (char *)password_file };
	int r;

	/* What a failure left is the assembly's to close. */
	display_close(&f->display);
	display_unmap(f->heads, f->display.heads);
	f->heads = NULL;
	display_init(&f->display);
	r = display_open(&f->display, &conf, heads, &f->heads);
	if (r < 0)
		assert_null(f->heads);
	return r;
}

/* A loopback socket that somebody else listens on; its address is "127.0.0.1:PORT". */
static int occupy(char text[32])
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	snprintf(text, 32, "127.0.0.1:%u", ntohs(address.sin_port));
	return fd;
}

static void test_refuses_what_is_no_address(void **state)
{
	static const char *const wrong[] = {
		"", "vnc", "vnc:", "vnc:5901", "vnc::5901", "vnc:127.0.0.1", "vnc:127.0.0.1:", "vnc:127.0.0.1:0",
		"vnc:127.0.0.1:65536", "vnc:127.0.0.1:59x", "vnc:localhost:5901", "vnc:[::1]", "vnc:[::1:5901",
		"vnc:::1:5901", "spice:127.0.0.1:5901", "headles",
	};

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(opens(*state, wrong[i], NULL, 1), -EBADMSG);
	assert_int_equal(opens(*state, "vnc:127.0.0.1:65535", NULL, 2), -ERANGE);
}

/* Strangers are let in only by a password. */
static void test_is_public_only_with_a_password(void **state)
{
	struct fixture *f = *state;
	char file[64];

	assert_int_equal(opens(f, "vnc:0.0.0.0:1", NULL, 1), -ENOKEY);
	assert_int_equal(opens(f, "vnc:[::]:1", NULL, 1), -ENOKEY);
	assert_int_equal(opens(f, "vnc:[::ffff:127.0.0.1]:1", NULL, 1), -ENOKEY);
	assert_int_equal(opens(f, "vnc:192.0.2.1:5901", NULL, 1), -ENOKEY);
	assert_int_equal(opens(f, "vnc:192.0.2.1:5901", "/none/such", 1), -EKEYREJECTED);

	snprintf(file, sizeof(file), "%s/password", f->dir);
	close(open(file, O_WRONLY | O_CREAT, 0600));
	assert_int_equal(opens(f, "vnc:192.0.2.1:5901", file, 1), -EADDRNOTAVAIL);
	assert_true(f->display.password >= 0);
	unlink(file);
}

static void test_tells_a_taken_port(void **state)
{
	char place[32], viewer[64];
	_cleanup_close_ int other = occupy(place);

	snprintf(viewer, sizeof(viewer), "vnc:%s", place);
	assert_int_equal(opens(*state, viewer, NULL, 1), -EADDRINUSE);
}

static void test_listens_at_paths(void **state)
{
	struct fixture *f = *state;
	char viewer[200], path[USOCK_PATH_MAX];

	snprintf(viewer, sizeof(viewer), "vnc:%s/sock", f->dir);
	assert_int_equal(opens(f, viewer, NULL, 3), 0);
	assert_int_equal(display_socket(&f->display, 0, path), 0);
	assert_string_equal(path, viewer + 4);
	for (unsigned int i = 0; i < 3; i++) {
		_cleanup_close_ int fd = -1;

		assert_int_equal(display_socket(&f->display, i, path), 0);
		assert_int_equal(usock_connect(path, SOCK_STREAM, &fd), 0);
		unlink(path);
	}
	assert_int_equal(f->display.listen[3], -1);

	assert_int_equal(opens(f, "vnc:/none/such/sock", NULL, 1), -ENOENT);
	memset(viewer + 4, 'x', sizeof(viewer) - 5);
	viewer[sizeof(viewer) - 1] = '\0';
	viewer[4] = '/';
	assert_int_equal(opens(f, viewer, NULL, 1), -ENAMETOOLONG);
}

/* No memory, no program. */
static void test_nobody_looks(void **state)
{
	struct fixture *f = *state;
	static const char *const viewers[] = { NULL, "headless" };

	for (size_t i = 0; i < ARRAY_SIZE(viewers); i++) {
		struct display_message message;
		_cleanup_close_ int end = -1;

		assert_int_equal(opens(f, viewers[i], NULL, 1), 0);
		assert_null(f->heads);
		assert_int_equal(display_connect(&f->display, DISPLAY_KEYBOARD, &end), 0);
		assert_int_equal(display_start(&f->display, "test"), 0);
		assert_int_equal(f->display.pid, 0);
		/* A device notices nothing. */
		assert_int_equal(display_receive(end, &message), -EAGAIN);
		assert_int_equal(display_shoot(&f->display, 0), -ECONNRESET);
	}
}

static void test_memory_cannot_be_taken_away(void **state)
{
	struct fixture *f = *state;

	f->display.shots = true;
	assert_int_equal(display_open(&f->display, &(struct display_conf){ 0 }, 2, &f->heads), 0);
	assert_non_null(f->heads);
	f->heads[1].cursor[sizeof(f->heads->cursor) - 1] = 1;
	assert_int_equal(ftruncate(f->display.memory, 0), -1);
	assert_int_equal(errno, EPERM);
}

/* What a viewer has fooled cannot change what others see. */
static void test_memory_is_written_by_the_gpu_alone(void **state)
{
	struct fixture *f = *state;
	char *map;

	f->display.shots = true;
	assert_int_equal(display_open(&f->display, &(struct display_conf){ 0 }, 1, &f->heads), 0);
	map = mmap(NULL, KIB(4), PROT_READ, MAP_SHARED, f->display.memory, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	assert_int_equal(mprotect(map, KIB(4), PROT_READ | PROT_WRITE), -1);
	assert_int_equal(errno, EACCES);
	assert_int_equal(write(f->display.memory, "", 1), -1);
	assert_int_equal(errno, EPERM);
	f->heads->pixels[0] = 7;
	assert_int_equal(map[0], 7);
	munmap(map, KIB(4));
}

/* As many messages as the end takes. */
static unsigned int fill(int end)
{
	const struct display_message message = { .type = DISPLAY_KEY };
	unsigned int count = 0;

	while (display_send(end, &message) == 0)
		count++;
	return count;
}

/* Whatever the host's default is. */
static void test_both_ends_hold_as_much(void **state)
{
	struct fixture *f = *state;
	_cleanup_close_ int end = -1;

	assert_int_equal(display_connect(&f->display, DISPLAY_KEYBOARD, &end), 0);
	assert_int_equal(fill(end), fill(f->display.ends[DISPLAY_KEYBOARD]));
}

static void test_messages_are_whole(void **state)
{
	struct fixture *f = *state;
	struct display_message message = { .type = DISPLAY_KEY, .key = { 30, 1 } }, got;
	_cleanup_close_ int end = -1, second = -1;
	uint8_t long_one[sizeof(message) + 1] = { 0 };
	int other;

	assert_int_equal(display_connect(&f->display, DISPLAY_KEYBOARD, &end), 0);
	assert_int_equal(display_connect(&f->display, DISPLAY_KEYBOARD, &second), -EBUSY);
	other = f->display.ends[DISPLAY_KEYBOARD];

	assert_int_equal(display_receive(end, &got), -EAGAIN);
	assert_int_equal(display_send(other, &message), 0);
	assert_int_equal(display_receive(end, &got), 0);
	assert_memory_equal(&got, &message, sizeof(got));

	assert_int_equal(write(other, long_one, sizeof(long_one)), sizeof(long_one));
	assert_int_equal(display_receive(end, &got), -EBADMSG);
	assert_int_equal(write(other, long_one, 1), 1);
	assert_int_equal(display_receive(end, &got), -EBADMSG);
	assert_int_equal(display_receive(end, &got), -EAGAIN);

	while (display_send(end, &message) == 0)
		;
	assert_int_equal(display_send(end, &message), -EAGAIN);
	signal(SIGPIPE, SIG_IGN);
	display_close(&f->display);
	assert_int_equal(display_send(end, &message), -ECONNRESET);
	assert_int_equal(display_receive(end, &got), -ECONNRESET);
}

static void test_adds_up_rectangles(void **state)
{
	static const struct { struct display_rect rect, sum; } steps[] = {
		{ { 10, 20, 3, 4 }, { 10, 20, 3, 4 } },
		{ { 11, 21, 1, 1 }, { 10, 20, 3, 4 } },
		{ { 5, 30, 1, 2 }, { 5, 20, 8, 12 } },
		{ { 4095, 0, 1, 4096 }, { 5, 0, 4091, 4096 } },
	};
	struct display_rect sum = { .x = 1, .y = 1, .width = 5 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		display_rect_extend(&sum, &steps[i].rect);
		assert_memory_equal(&sum, &steps[i].sum, sizeof(sum));
	}
}

static void test_tells_that_there_is_no_program(void **state)
{
	static const struct {
		const char *program;
		int err;
	} cases[] = {
		{ "/none/such", -ENOPKG },
		{ NULL, -ENOPKG }, /* beside a test there is none */
		{ "/bin/true", -ECONNRESET },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		display_init(&f->display);
		f->display.shots = true;
		f->display.program = cases[i].program;
		assert_int_equal(display_open(&f->display, &(struct display_conf){ 0 }, 1, &f->heads), 0);
		assert_int_equal(display_start(&f->display, "test"), cases[i].err);
		display_unmap(f->heads, 1);
		f->heads = NULL;
		display_close(&f->display);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_refuses_what_is_no_address),
		TEST(test_is_public_only_with_a_password),
		TEST(test_tells_a_taken_port),
		TEST(test_listens_at_paths),
		TEST(test_nobody_looks),
		TEST(test_memory_cannot_be_taken_away),
		TEST(test_memory_is_written_by_the_gpu_alone),
		TEST(test_both_ends_hold_as_much),
		TEST(test_messages_are_whole),
		cmocka_unit_test(test_adds_up_rectangles),
		TEST(test_tells_that_there_is_no_program),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
