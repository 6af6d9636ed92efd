// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "core/bucket.h"
#include "core/util.h"

#define SECOND UINT64_C(1000000000)

static void no_rate_is_no_limit(void **state)
{
	struct bucket bucket;
	uint64_t wait = 7;

	(void)state;
	bucket_init(&bucket, 0, 0, 5);
	assert_true(bucket_take(&bucket, UINT64_MAX, 5, &wait) == UINT64_MAX);
	assert_true(bucket_take(&bucket, UINT64_MAX, 5, &wait) == UINT64_MAX);
	assert_int_equal(wait, 7);
}

static void starts_full_and_gives_what_it_has(void **state)
{
	struct bucket bucket;
	uint64_t wait = 7;

	(void)state;
	bucket_init(&bucket, 10, 25, SECOND);
	assert_int_equal(bucket_take(&bucket, 20, SECOND, &wait), 20);
	assert_int_equal(bucket_take(&bucket, 20, SECOND, &wait), 5);
	assert_int_equal(wait, 7);
	assert_int_equal(bucket_take(&bucket, 20, SECOND, &wait), 0);
	assert_int_equal(wait, SECOND / 10);
}

static void burst_is_a_second_by_default_and_a_cap(void **state)
{
	struct bucket bucket;
	uint64_t wait;

	(void)state;
	bucket_init(&bucket, 10, 0, 0);
	assert_int_equal(bucket_take(&bucket, 100, 3600 * SECOND, &wait), 10);
	assert_int_equal(bucket_take(&bucket, 100, 7200 * SECOND, &wait), 10);
}

static void a_token_is_there_when_it_was_promised(void **state)
{
	static const uint64_t rates[] = { 1, 3, 7, 1000, 999999937, SECOND, UINT64_MAX };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rates); i++) {
		struct bucket bucket;
		uint64_t now = 42, wait = 0;

		bucket_init(&bucket, rates[i], 1, now);
		assert_int_equal(bucket_take(&bucket, 1, now, &wait), 1);
		assert_int_equal(bucket_take(&bucket, 1, now, &wait), 0);
		assert_true(wait > 0);
		assert_int_equal(bucket_take(&bucket, 1, now + wait - 1, &wait), 0);
		now += (SECOND - 1) / rates[i] + 1;
		assert_int_equal(bucket_take(&bucket, 1, now, &wait), 1);
	}
}

static void asking_often_neither_gains_nor_loses(void **state)
{
	struct bucket bucket;
	uint64_t wait, taken = 0;

	(void)state;
	bucket_init(&bucket, 300, 100, 0);
	assert_int_equal(bucket_take(&bucket, 100, 0, &wait), 100);
	/* Every 7 us for a second: most turns earn only a part of a token. */
	for (uint64_t now = 0; now <= SECOND; now += 7000)
		taken += bucket_take(&bucket, 100, now, &wait);
	assert_in_range(taken, 299, 300);
}

static void a_clock_that_steps_back_gives_nothing(void **state)
{
	struct bucket bucket;
	uint64_t wait = 0;

	(void)state;
	bucket_init(&bucket, 10, 10, 5 * SECOND);
	assert_int_equal(bucket_take(&bucket, 10, 5 * SECOND, &wait), 10);
	assert_int_equal(bucket_take(&bucket, 10, SECOND, &wait), 0);
	assert_int_equal(wait, 4 * SECOND + SECOND / 10);
}

static void long_pauses_do_not_overflow(void **state)
{
	struct bucket bucket;
	uint64_t wait;

	(void)state;
	bucket_init(&bucket, UINT64_MAX, UINT64_MAX, 0);
	assert_true(bucket_take(&bucket, UINT64_MAX, 0, &wait) == UINT64_MAX);
	assert_true(bucket_take(&bucket, UINT64_MAX, UINT64_MAX, &wait) == UINT64_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_rate_is_no_limit),
		cmocka_unit_test(starts_full_and_gives_what_it_has),
		cmocka_unit_test(burst_is_a_second_by_default_and_a_cap),
		cmocka_unit_test(a_token_is_there_when_it_was_promised),
		cmocka_unit_test(asking_often_neither_gains_nor_loses),
		cmocka_unit_test(a_clock_that_steps_back_gives_nothing),
		cmocka_unit_test(long_pauses_do_not_overflow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
