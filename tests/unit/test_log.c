// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include "core/log.h"
#include "tests/lib/child.h"

static int speak(void *arg)
{
	(void)arg;
	log_debug("too fine");
	log_error("disk %d", 3);
	log_set_level(LOG_DEBUG);
	log_set_name("vm7");
	log_debug("fine");
	log_set_level(LOG_ERROR);
	log_warn("too fine");
	return 0;
}

static void levels_and_name(void **state)
{
	struct child child = child_run(geteuid(), speak, NULL);

	(void)state;
	assert_int_equal(child.status, 0);
	assert_string_equal(child.text, "microvm: disk 3\nvm7: fine\n");
}

static int speak_rudely(void *arg)
{
	char endless[4096];

	(void)arg;
	memset(endless, 'x', sizeof(endless) - 1);
	endless[sizeof(endless) - 1] = '\0';
	log_error("a\nb\x1b[31m\r%s", "\x7f");
	log_error("%s", endless);
	return 0;
}

static void one_line_whatever_it_says(void **state)
{
	struct child child = child_run(geteuid(), speak_rudely, NULL);
	char *second = strchr(child.text, '\n');

	(void)state;
	assert_memory_equal(child.text, "microvm: a?b?[31m??\n", 20);
	assert_non_null(second);
	assert_ptr_equal(strchr(second + 1, '\n'), child.text + strlen(child.text) - 1);
}

static int speak_with_a_long_name(void *arg)
{
	char name[4096];

	(void)arg;
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	log_set_name(name);
	log_error("what matters");
	return 0;
}

static void a_long_name_leaves_room(void **state)
{
	struct child child = child_run(geteuid(), speak_with_a_long_name, NULL);

	(void)state;
	assert_non_null(strstr(child.text, "n: what matters\n"));
}

static int speak_to_nobody(void *arg)
{
	int pipes[2];

	(void)arg;
	CHILD_CHECK(pipe2(pipes, O_NONBLOCK) == 0);
	while (write(pipes[1], "0123456789abcdef", 16) == 16)
		;
	CHILD_CHECK(fcntl(pipes[1], F_SETFL, 0) == 0);
	dup2(pipes[1], STDERR_FILENO);
	log_error("nobody will ever read this");
	return 0;
}

static void waits_for_no_reader(void **state)
{
	struct child child = child_run(geteuid(), speak_to_nobody, NULL);

	(void)state;
	assert_int_equal(child.status, 0);
}

static void names_follow_the_levels(void **state)
{
	(void)state;
	assert_string_equal(log_level_names[LOG_ERROR], "error");
	assert_string_equal(log_level_names[LOG_DEBUG], "debug");
	assert_null(log_level_names[LOG_DEBUG + 1]);
}

static void ten_in_a_window(void **state)
{
	struct log_limit limit = { 0 };
	int allowed = 0;

	(void)state;
	for (int i = 0; i < 100; i++)
		allowed += log_allowed(&limit);
	assert_int_equal(allowed, 10);

	/* As if the window had begun long ago. */
	limit.window_ns -= UINT64_C(10000000000);
	assert_true(log_allowed(&limit));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(levels_and_name),
		cmocka_unit_test(one_line_whatever_it_says),
		cmocka_unit_test(a_long_name_leaves_room),
		cmocka_unit_test(waits_for_no_reader),
		cmocka_unit_test(names_follow_the_levels),
		cmocka_unit_test(ten_in_a_window),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
