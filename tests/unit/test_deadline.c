// SPDX-License-Identifier: Apache-2.0
/* Under the main thread's filter, which has to allow it. */
#include <pthread.h>
#include <sys/prctl.h>
#include "seccomp/filter.h"
#include "tests/lib/child.h"
#include "vmm/deadline.h"
#include "vmm/vm.h"

static void confine(void)
{
	child_needs_filters();
	CHILD_CHECK(filter_report_violations(NULL) == 0);
	CHILD_CHECK(filter_enter(&main_sandbox) == 0);
}

/* As main waits for a thread that never answers. */
static int wait_for_ever(void *arg)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t never = PTHREAD_COND_INITIALIZER;

	(void)arg;
	confine();
	deadline_set(1, 42);
	pthread_mutex_lock(&lock);
	while (pthread_cond_wait(&never, &lock) == 0)
		;
	return 1;
}

static void ends_a_wait_with_its_status(void **state)
{
	struct child child = child_run(geteuid(), wait_for_ever, NULL);

	(void)state;
	child_ended(&child, 42);
	assert_non_null(strstr(child.text, "does not end"));
}

static int be_in_time(void *arg)
{
	struct timespec longer = { .tv_sec = 1, .tv_nsec = 500000000 };

	(void)arg;
	confine();
	deadline_set(1, 42);
	deadline_set(0, 0);
	while (nanosleep(&longer, &longer) < 0)
		;
	return 7;
}

static void is_taken_back(void **state)
{
	struct child child = child_run(geteuid(), be_in_time, NULL);

	(void)state;
	child_ended(&child, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ends_a_wait_with_its_status),
		cmocka_unit_test(is_taken_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
