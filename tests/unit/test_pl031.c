// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "core/util.h"
#include "devices/platform/platform.h"

#define BASE 0x9010000

#define DR 0x000
#define MR 0x004
#define LR 0x008
#define CR 0x00c
#define IMSC 0x010
#define RIS 0x014
#define MIS 0x018
#define ICR 0x01c

struct rig {
	struct bus bus;
	struct pl031 *rtc;
};

static int setup(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	if (!rig)
		return -1;
	*state = rig;
	bus_init(&rig->bus, -1, false);
	if (pl031_new(&rig->rtc))
		return -1;
	return bus_add(&rig->bus, BASE, PL031_LEN, &pl031_ops, rig->rtc);
}

static int teardown(void **state)
{
	struct rig *rig = *state;

	bus_free(&rig->bus);
	pl031_free(rig->rtc);
	free(rig);
	return 0;
}

static uint64_t get(struct rig *rig, uint64_t offset, unsigned int len)
{
	uint64_t value = 0;

	assert_true(bus_read(&rig->bus, BASE + offset, &value, len));
	return value;
}

static void set(struct rig *rig, uint64_t offset, uint32_t value)
{
	assert_true(bus_write(&rig->bus, BASE + offset, &value, 4));
}

static uint32_t host_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint32_t)now.tv_sec;
}

/* However long it took in between. */
static void assert_ahead_by(struct rig *rig, uint32_t offset)
{
	uint32_t before = host_seconds();
	uint32_t there = (uint32_t)get(rig, DR, 4) - offset;

	assert_in_range(there, before, host_seconds());
}

static void identification(void **state)
{
	static const uint8_t ids[] = { 0x31, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1 };
	struct rig *rig = *state;

	for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
		assert_int_equal(get(rig, 0xfe0 + 4 * i, 4), ids[i]);
}

static void it_tells_the_hosts_time(void **state)
{
	struct rig *rig = *state;

	assert_ahead_by(rig, 0);
	assert_int_equal(get(rig, CR, 4), 1);
	set(rig, CR, 0);
	set(rig, DR, 12345);
	assert_int_equal(get(rig, CR, 4), 1);
	assert_ahead_by(rig, 0);
}

static void assert_counts_from(struct rig *rig, uint32_t start)
{
	uint32_t before = host_seconds(), passed;

	set(rig, LR, start);
	passed = (uint32_t)get(rig, DR, 4) - start;
	assert_in_range(passed, 0, host_seconds() - before);
	assert_int_equal(get(rig, LR, 4), start);
}

static void the_guest_may_set_it(void **state)
{
	struct rig *rig = *state;

	assert_counts_from(rig, 0);
	assert_counts_from(rig, 1000000000);
	assert_counts_from(rig, UINT32_MAX);
	pl031_reset(rig->rtc);
	assert_int_equal(get(rig, LR, 4), 0);
	assert_ahead_by(rig, 0);
	pl031_free(NULL);
}

static void the_alarm_never_goes_off(void **state)
{
	struct rig *rig = *state;

	set(rig, IMSC, UINT32_MAX);
	assert_int_equal(get(rig, IMSC, 4), 1);
	set(rig, MR, 100);
	assert_int_equal(get(rig, MR, 4), 100);
	set(rig, LR, 100);
	assert_int_equal(get(rig, RIS, 4), 0);
	assert_int_equal(get(rig, MIS, 4), 0);
	set(rig, ICR, 1);
	assert_int_equal(get(rig, MR, 4), 100);
	pl031_reset(rig->rtc);
	assert_int_equal(get(rig, IMSC, 4), 0);
	assert_int_equal(get(rig, MR, 4), 0);
}

/* All of the window, at every width; registers only where they begin. */
static void accesses_of_every_width(void **state)
{
	struct rig *rig = *state;
	uint64_t value = 0x1122334455667788;

	assert_true(bus_write(&rig->bus, BASE + MR, &value, 8));
	assert_int_equal(get(rig, MR, 8), 0x55667788);
	assert_int_equal(get(rig, MR, 2), 0x7788);
	assert_int_equal(get(rig, MR + 1, 2), 0);
	assert_int_equal(get(rig, LR, 4), 0);
	value = UINT64_MAX;
	for (unsigned int len = 1; len <= 8; len *= 2)
		for (uint64_t offset = CR; offset <= PL031_LEN - len; offset++) {
			assert_true(bus_write(&rig->bus, BASE + offset, &value, len));
			assert_true(get(rig, offset, len) <= 0xff);
		}
	assert_int_equal(get(rig, 0xfe1, 1), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(identification),
		TEST(it_tells_the_hosts_time),
		TEST(the_guest_may_set_it),
		TEST(the_alarm_never_goes_off),
		TEST(accesses_of_every_width),
	};
#undef TEST

	return cmocka_run_group_tests(tests, NULL, NULL);
}
