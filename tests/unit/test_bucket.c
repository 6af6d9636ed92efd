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

static void all_or_nothing(void **state)
{
	struct bucket bucket;
	uint64_t wait;

	(void)state;
	bucket_init(&bucket, 10, 10, SECOND);
	assert_int_equal(bucket_take_all(&bucket, 8, SECOND), 0);
	wait = bucket_take_all(&bucket, 5, SECOND);
	assert_in_range(wait, 3 * SECOND / 10, 3 * SECOND / 10 + 1);
	assert_int_equal(bucket_take_all(&bucket, 2, SECOND), 0);
	assert_int_not_equal(bucket_take_all(&bucket, 5, SECOND + 4 * SECOND / 10), 0);
	assert_int_equal(bucket_take_all(&bucket, 5, SECOND + 5 * SECOND / 10), 0);
	bucket_init(&bucket, 0, 0, 0);
	assert_int_equal(bucket_take_all(&bucket, UINT64_MAX, 0), 0);
}

/* A request that is larger than the burst is served, and the rate holds all the same. */
static void a_full_bucket_lends(void **state)
{
	struct bucket bucket;
	uint64_t now = SECOND, wait, taken = 0;

	(void)state;
	bucket_init(&bucket, 100, 10, now);
	while (now < 11 * SECOND) {
		wait = bucket_take_all(&bucket, 60, now);
		if (!wait)
			taken += 60;
		now += wait;
	}
	assert_in_range(taken, 960, 1070);
}

/* The rates hold together, and what one refuses costs nothing of the other. */
static void pairs_take_of_both(void **state)
{
	const struct bucket_rates rates = { .requests = 100, .bytes = 1000 };
	struct bucket_pair pair;
	uint64_t now = SECOND, wait, small = 0, large = 0;

	(void)state;
	bucket_pair_init(&pair, &rates, now);
	assert_true(bucket_pair_limits(&pair));
	for (; now < 11 * SECOND; now += wait, small += !wait)
		wait = bucket_pair_take(&pair, 1, now);
	assert_in_range(small, 1000, 1011);
	for (; now < 21 * SECOND; now += wait, large += !wait)
		wait = bucket_pair_take(&pair, 100, now);
	assert_in_range(large, 99, 102);
	while (!bucket_pair_take(&pair, 100, now))
		;
	assert_int_equal(bucket_pair_take(&pair, 0, now), 0);
	bucket_pair_init(&pair, &(struct bucket_rates){ 0 }, now);
	assert_false(bucket_pair_limits(&pair));
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
		cmocka_unit_test(all_or_nothing),
		cmocka_unit_test(a_full_bucket_lends),
		cmocka_unit_test(pairs_take_of_both),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
