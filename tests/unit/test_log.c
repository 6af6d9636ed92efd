// SPDX-License-Identifier: Apache-2.0
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
		cmocka_unit_test(names_follow_the_levels),
		cmocka_unit_test(ten_in_a_window),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
