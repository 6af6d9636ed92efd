// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sys/eventfd.h>
#include "core/bus.h"
#include "core/util.h"

/* The last access to a range. */
struct room {
	uint64_t offset, value, answer;
	unsigned int len, reads, writes;
};

static uint64_t room_read(void *opaque, uint64_t offset, unsigned int len)
{
	struct room *room = opaque;

	room->offset = offset;
	room->len = len;
	room->reads++;
	return room->answer;
}

static void room_write(void *opaque, uint64_t offset, unsigned int len, uint64_t value)
{
	struct room *room = opaque;

	room->offset = offset;
	room->len = len;
	room->value = value;
	room->writes++;
}

static const struct bus_ops room_ops = { room_read, room_write };

static void test_overlaps(void **state)
{
	struct room room = { 0 };
	struct bus bus;

	(void)state;
	bus_init(&bus, -1, false);
	assert_int_equal(bus_add(&bus, 0x1000, 0x100, &room_ops, &room), 0);
	assert_int_equal(bus_add(&bus, 0x1200, 0x100, &room_ops, &room), 0);
	assert_int_equal(bus_add(&bus, 0x1100, 0x100, &room_ops, &room), 0);
	assert_int_equal(bus_add(&bus, 0xfff, 1, &room_ops, &room), 0);
	assert_int_equal(bus_add(&bus, 0x1000, 0x100, &room_ops, &room), -EEXIST);
	assert_int_equal(bus_add(&bus, 0x12ff, 1, &room_ops, &room), -EEXIST);
	assert_int_equal(bus_add(&bus, 0xffe, 2, &room_ops, &room), -EEXIST);
	assert_int_equal(bus_add(&bus, 0, UINT64_MAX, &room_ops, &room), -EEXIST);
	assert_int_equal(bus.count, 4);
	bus_free(&bus);
}

static void test_dispatch(void **state)
{
	struct room low = { .answer = 0x1122334455667788 }, high = { 0 };
	const uint64_t top = UINT64_MAX - 0xf;
	uint64_t data = 0;
	struct bus bus;

	(void)state;
	bus_init(&bus, -1, false);
	assert_int_equal(bus_add(&bus, top, 0x10, &room_ops, &high), 0);
	assert_int_equal(bus_add(&bus, 0x1000, 0x10, &room_ops, &low), 0);

	assert_true(bus_read(&bus, 0x1004, &data, 4));
	assert_int_equal(low.offset, 4);
	assert_int_equal(low.len, 4);
	assert_int_equal(data, 0x55667788); /* the other bytes are not touched */
	assert_true(bus_read(&bus, 0x1008, &data, 8));
	assert_int_equal(data, low.answer);

	data = 0xaabbccddeeff0011;
	assert_true(bus_write(&bus, 0x100f, &data, 1));
	assert_int_equal(low.offset, 0xf);
	assert_int_equal(low.value, 0x11);
	assert_true(bus_write(&bus, top + 8, &data, 8));
	assert_int_equal(high.offset, 8);
	assert_int_equal(high.value, data);
	bus_free(&bus);
}

/* Beside a range, across its end, and widths that are none. */
static void test_nothing_there(void **state)
{
	static const struct {
		uint64_t addr;
		unsigned int len;
	} nothing[] = {
		{ 0xfff, 1 }, { 0xfff, 2 }, { 0x1010, 1 }, { 0x100f, 2 }, { 0x100d, 4 },
		{ 0x1009, 8 }, { 0, 4 }, { UINT64_MAX, 1 }, { UINT64_MAX, 8 }, { 0x1000, 3 },
		{ 0x1000, 5 }, { 0x1000, 6 }, { 0x1000, 7 }, { 0x1000, 16 }, { 0x1000, 0 },
	};
	struct room room = { 0 };
	struct bus bus;

	(void)state;
	bus_init(&bus, -1, false);
	assert_int_equal(bus_add(&bus, 0x1000, 0x10, &room_ops, &room), 0);
	for (size_t i = 0; i < ARRAY_SIZE(nothing); i++) {
		uint8_t data[17] = { 0 };

		assert_false(bus_read(&bus, nothing[i].addr, data, nothing[i].len));
		for (unsigned int j = 0; j < sizeof(data); j++)
			assert_int_equal(data[j], j < nothing[i].len ? 0xff : 0);
		assert_false(bus_write(&bus, nothing[i].addr, data, nothing[i].len));
	}
	assert_int_equal(room.reads + room.writes, 0);
	bus_free(&bus);
	/* An empty bus, and one that was freed twice. */
	assert_false(bus_write(&bus, 0x1000, &(uint32_t){ 0 }, 4));
	bus_free(&bus);
}

static uint64_t rings(int fd)
{
	eventfd_t count = 0;

	(void)eventfd_read(fd, &count);
	return count;
}

static void test_doorbells(void **state)
{
	int any = eventfd(0, EFD_NONBLOCK), zero = eventfd(0, EFD_NONBLOCK);
	int one = eventfd(0, EFD_NONBLOCK);
	struct room room = { 0 };
	uint64_t value = 1;
	struct bus bus;

	(void)state;
	bus_init(&bus, -1, false);
	assert_int_equal(bus_add(&bus, 0x1000, 0x10, &room_ops, &room), 0);
	assert_int_equal(bus_doorbell(&bus, 0x1000, any, false, 0), 0);
	assert_int_equal(bus_doorbell(&bus, 0x1004, zero, true, 0), 0);
	assert_int_equal(bus_doorbell(&bus, 0x1004, one, true, 1), 0);

	for (unsigned int len = 1; len <= 8; len *= 2)
		assert_true(bus_write(&bus, 0x1000, &value, len));
	assert_int_equal(rings(any), 4);
	assert_int_equal(room.writes, 0);

	assert_true(bus_write(&bus, 0x1004, &value, 4));
	assert_int_equal(rings(one), 1);
	assert_int_equal(rings(zero), 0);
	/* Another width, another value, another address: the range's. */
	assert_true(bus_write(&bus, 0x1004, &value, 2));
	assert_true(bus_write(&bus, 0x1004, &(uint32_t){ 2 }, 4));
	assert_true(bus_write(&bus, 0x1001, &value, 1));
	assert_true(bus_write(&bus, 0x1004, &(uint64_t){ 1ULL << 32 }, 8));
	assert_int_equal(room.writes, 4);
	assert_int_equal(rings(one) + rings(zero) + rings(any), 0);
	/* Reads do not ring. */
	assert_true(bus_read(&bus, 0x1000, &value, 4));
	assert_int_equal(rings(any), 0);

	bus_free(&bus);
	close(any);
	close(zero);
	close(one);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_overlaps),
		cmocka_unit_test(test_dispatch),
		cmocka_unit_test(test_nothing_there),
		cmocka_unit_test(test_doorbells),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
