// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <misc/pvpanic.h>
#include "core/util.h"
#include "devices/platform/platform.h"

#define BASE 0x500

struct rig {
	struct bus bus;
	struct platform_host host;
	unsigned int requests;
	enum platform_request request;
	int code;
};

static void on_request(void *opaque, enum platform_request request, int code)
{
	struct rig *rig = opaque;

	rig->requests++;
	rig->request = request;
	rig->code = code;
}

static void init(struct rig *rig, const struct bus_ops *ops, uint64_t len)
{
	*rig = (struct rig){ .host = { .opaque = rig, .request = on_request } };
	bus_init(&rig->bus, -1, true);
	assert_int_equal(bus_add(&rig->bus, BASE, len, ops, &rig->host), 0);
}

static void write_at(struct rig *rig, uint64_t offset, unsigned int len, uint32_t value)
{
	assert_true(bus_write(&rig->bus, BASE + offset, &value, len));
}

static uint8_t read_at(struct rig *rig, uint64_t offset)
{
	uint8_t value;

	assert_true(bus_read(&rig->bus, BASE + offset, &value, 1));
	return value;
}

static void test_pvpanic(void **state)
{
	struct rig rig;

	(void)state;
	init(&rig, &pvpanic_ops, PVPANIC_LEN);
	assert_int_equal(read_at(&rig, 0), PVPANIC_PANICKED | PVPANIC_CRASH_LOADED);
	write_at(&rig, 0, 1, 0);
	write_at(&rig, 0, 1, 0x80);
	assert_int_equal(rig.requests, 0);
	write_at(&rig, 0, 1, PVPANIC_CRASH_LOADED);
	assert_int_equal(rig.requests, 1);
	assert_int_equal(rig.request, PLATFORM_CRASH_LOAD);
	write_at(&rig, 0, 1, PVPANIC_PANICKED);
	assert_int_equal(rig.requests, 2);
	assert_int_equal(rig.request, PLATFORM_PANIC);
	bus_free(&rig.bus);
}

static void test_debug_exit(void **state)
{
	static const struct {
		unsigned int len;
		uint32_t value;
		int code;
	} cases[] = {
		{ 1, 0, 1 }, { 1, 0x10, 0x21 }, { 1, 0xff, 0xff }, { 2, 0x8001, 3 },
		{ 4, 0x7f, 0xff }, { 4, 0xffffff00, 1 },
	};
	struct rig rig;

	(void)state;
	init(&rig, &debug_exit_ops, DEBUG_EXIT_LEN);
	assert_int_equal(read_at(&rig, 0), 0);
	assert_int_equal(rig.requests, 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		write_at(&rig, 0, cases[i].len, cases[i].value);
		assert_int_equal(rig.requests, i + 1);
		assert_int_equal(rig.request, PLATFORM_EXIT);
		assert_int_equal(rig.code, cases[i].code);
	}
	bus_free(&rig.bus);
}

static void test_power(void **state)
{
	const uint8_t enable = 1 << 5;
	struct rig rig;

	(void)state;
	init(&rig, &power_ops, POWER_LEN);
	assert_int_equal(read_at(&rig, POWER_SLEEP_CONTROL), 0);
	assert_int_equal(read_at(&rig, POWER_SLEEP_STATUS), 0);

	/* A type without the enable bit, another type, the status register, another reset value. */
	write_at(&rig, POWER_SLEEP_CONTROL, 1, POWER_S5_TYPE << 2);
	write_at(&rig, POWER_SLEEP_CONTROL, 1, enable | 3 << 2);
	write_at(&rig, POWER_SLEEP_STATUS, 1, enable | POWER_S5_TYPE << 2);
	write_at(&rig, POWER_RESET, 1, POWER_RESET_VALUE + 1);
	assert_int_equal(rig.requests, 0);

	write_at(&rig, POWER_SLEEP_CONTROL, 1, enable | POWER_S5_TYPE << 2);
	assert_int_equal(rig.requests, 1);
	assert_int_equal(rig.request, PLATFORM_POWER_OFF);
	write_at(&rig, POWER_RESET, 1, POWER_RESET_VALUE);
	assert_int_equal(rig.requests, 2);
	assert_int_equal(rig.request, PLATFORM_REBOOT);
	bus_free(&rig.bus);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pvpanic),
		cmocka_unit_test(test_debug_exit),
		cmocka_unit_test(test_power),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
