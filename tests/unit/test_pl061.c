// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sys/eventfd.h>
#include "core/util.h"
#include "devices/platform/platform.h"

#define BASE 0x9030000
#define BUTTON (1 << PL061_BUTTON)

/* Registers, as the manual numbers them; a data register for each mask. */
#define DATA(mask) ((mask) << 2)
#define DIR 0x400
#define IS 0x404
#define IBE 0x408
#define IEV 0x40c
#define IE 0x410
#define RIS 0x414
#define MIS 0x418
#define IC 0x41c
#define AFSEL 0x420

struct rig {
	struct irq_router router;
	struct irq_line line;
	struct bus bus;
	struct pl061 *gpio;
};

static int setup(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	if (!rig)
		return -1;
	*state = rig;
	bus_init(&rig->bus, -1, false);
	if (irq_router_init(&rig->router, -1, 0, 8, (struct irq_msi_pins){ 0 }) || irq_line_pin(&rig->router, &rig->line, 7) ||
	    pl061_new(&rig->line, &rig->gpio))
		return -1;
	return bus_add(&rig->bus, BASE, PL061_LEN, &pl061_ops, rig->gpio);
}

static int teardown(void **state)
{
	struct rig *rig = *state;

	bus_free(&rig->bus);
	pl061_free(rig->gpio);
	irq_line_free(&rig->line);
	irq_router_free(&rig->router);
	free(rig);
	return 0;
}

static uint64_t read_wide(struct rig *rig, uint64_t offset, unsigned int len)
{
	uint64_t value = 0;

	assert_true(bus_read(&rig->bus, BASE + offset, &value, len));
	return value;
}

static uint8_t get(struct rig *rig, uint64_t offset)
{
	return (uint8_t)read_wide(rig, offset, 1);
}

static void set(struct rig *rig, uint64_t offset, uint8_t value)
{
	assert_true(bus_write(&rig->bus, BASE + offset, &value, 1));
}

/* Edges at the interrupt controller since the last call. */
static uint64_t raised(struct rig *rig)
{
	eventfd_t count = 0;

	(void)eventfd_read(rig->line.fd, &count);
	return count;
}

/* As Linux' gpio-keys asks for it. */
static void listen_to_button(struct rig *rig)
{
	set(rig, IBE, BUTTON);
	set(rig, IC, BUTTON);
	set(rig, IE, BUTTON);
}

static void identification(void **state)
{
	static const uint8_t ids[] = { 0x61, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1 };
	struct rig *rig = *state;

	for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
		assert_int_equal(read_wide(rig, 0xfe0 + 4 * i, 4), ids[i]);
}

static void a_press_lasts_until_it_is_seen(void **state)
{
	struct rig *rig = *state;

	listen_to_button(rig);
	assert_int_equal(raised(rig), 0);
	assert_int_equal(get(rig, DATA(0xff)), 0);

	pl061_press(rig->gpio);
	assert_int_equal(raised(rig), 1);
	assert_int_equal(get(rig, RIS), BUTTON);
	assert_int_equal(get(rig, MIS), BUTTON);
	set(rig, IC, BUTTON);
	assert_int_equal(get(rig, MIS), 0);
	assert_int_equal(raised(rig), 0);
	/* A look at the other lines is none at the button, nor is one at another register. */
	assert_int_equal(get(rig, DATA(0xff & ~BUTTON)), 0);
	assert_int_equal(get(rig, DIR), 0);
	assert_int_equal(get(rig, MIS), 0);

	assert_int_equal(get(rig, DATA(BUTTON)), BUTTON);
	assert_int_equal(raised(rig), 1);
	assert_int_equal(get(rig, MIS), BUTTON);
	set(rig, IC, BUTTON);
	assert_int_equal(get(rig, DATA(BUTTON)), 0);
	assert_int_equal(get(rig, MIS), 0);
	assert_int_equal(raised(rig), 0);
}

static void every_press_is_one(void **state)
{
	struct rig *rig = *state;

	listen_to_button(rig);
	for (unsigned int i = 0; i < 3; i++) {
		/* Pressed once more before anybody saw it. */
		pl061_press(rig->gpio);
		pl061_press(rig->gpio);
		assert_int_equal(raised(rig), 1);
		set(rig, IC, BUTTON);
		assert_int_equal(get(rig, DATA(BUTTON)), BUTTON);
		assert_int_equal(raised(rig), 1);
		set(rig, IC, BUTTON);
	}
}

static void a_press_waits_for_the_driver(void **state)
{
	struct rig *rig = *state;

	pl061_press(rig->gpio);
	assert_int_equal(raised(rig), 0);
	listen_to_button(rig);
	assert_int_equal(raised(rig), 0);
	assert_int_equal(get(rig, DATA(BUTTON)), BUTTON);
	assert_int_equal(raised(rig), 1);
}

static void one_edge_of_two(void **state)
{
	struct rig *rig = *state;

	set(rig, IE, BUTTON);
	set(rig, IEV, BUTTON);
	pl061_press(rig->gpio);
	assert_int_equal(get(rig, MIS), BUTTON);
	set(rig, IC, BUTTON);
	get(rig, DATA(BUTTON));
	assert_int_equal(get(rig, RIS), 0);
	assert_int_equal(raised(rig), 1);

	set(rig, IEV, 0);
	pl061_press(rig->gpio);
	assert_int_equal(get(rig, RIS), 0);
	get(rig, DATA(BUTTON));
	assert_int_equal(get(rig, RIS), BUTTON);
	assert_int_equal(raised(rig), 1);
}

static void an_unmasked_edge_is_told(void **state)
{
	struct rig *rig = *state;

	set(rig, IBE, BUTTON);
	pl061_press(rig->gpio);
	assert_int_equal(get(rig, RIS), BUTTON);
	assert_int_equal(get(rig, MIS), 0);
	assert_int_equal(raised(rig), 0);
	set(rig, IE, BUTTON);
	assert_int_equal(raised(rig), 1);
	set(rig, IE, 0);
	assert_int_equal(get(rig, MIS), 0);
	set(rig, IE, 0xff);
	assert_int_equal(raised(rig), 1);
}

/* A handler that saw one line and clears it is told again of the other. */
static void what_is_left_is_told_again(void **state)
{
	const uint8_t other = 1;
	struct rig *rig = *state;

	set(rig, DIR, other);
	set(rig, IBE, BUTTON | other);
	set(rig, IE, BUTTON | other);
	pl061_press(rig->gpio);
	assert_int_equal(raised(rig), 1);
	set(rig, DATA(other), other);
	assert_int_equal(get(rig, MIS), BUTTON | other);
	assert_int_equal(raised(rig), 0);
	set(rig, IC, BUTTON);
	assert_int_equal(get(rig, MIS), other);
	assert_int_equal(raised(rig), 1);
	set(rig, IC, other);
	assert_int_equal(raised(rig), 0);
}

static void a_level_stays_until_it_is_gone(void **state)
{
	struct rig *rig = *state;

	set(rig, IS, BUTTON);
	set(rig, IEV, BUTTON);
	set(rig, IE, BUTTON);
	assert_int_equal(get(rig, RIS), 0);
	pl061_press(rig->gpio);
	assert_int_equal(raised(rig), 1);
	set(rig, IC, BUTTON);
	assert_int_equal(get(rig, MIS), BUTTON);
	assert_int_equal(raised(rig), 1);
	assert_int_equal(get(rig, DATA(BUTTON)), BUTTON);
	assert_int_equal(get(rig, RIS), 0);
	assert_int_equal(raised(rig), 0);

	/* The other level is that of a button at rest. */
	set(rig, IEV, 0);
	assert_int_equal(get(rig, MIS), BUTTON);
	assert_int_equal(raised(rig), 1);
	set(rig, IS, 0);
	assert_int_equal(get(rig, MIS), 0);
}

/* Each way to detect something knows nothing of what the other saw. */
static void levels_are_no_edges(void **state)
{
	struct rig *rig = *state;

	set(rig, IS, BUTTON);
	set(rig, IBE, BUTTON);
	pl061_press(rig->gpio);
	set(rig, IS, 0);
	assert_int_equal(get(rig, RIS), 0);

	assert_int_equal(get(rig, DATA(BUTTON)), BUTTON);
	assert_int_equal(get(rig, RIS), BUTTON);
	set(rig, IEV, BUTTON);
	set(rig, IS, BUTTON);
	assert_int_equal(get(rig, RIS), 0);
}

static void outputs_are_the_guests(void **state)
{
	struct rig *rig = *state;

	set(rig, DIR, 0xf0);
	set(rig, DATA(0x3c), 0xff);
	assert_int_equal(get(rig, DATA(0xff)), 0x30);
	set(rig, DATA(0x10), 0);
	assert_int_equal(get(rig, DATA(0xff)), 0x20);
	/* What was written to an input shows when it becomes an output. */
	set(rig, DIR, 0xff);
	assert_int_equal(get(rig, DATA(0xff)), 0x2c);

	/* A button behind an output is not seen, and so stays down. */
	set(rig, DATA(0xff), BUTTON);
	pl061_press(rig->gpio);
	assert_int_equal(get(rig, DATA(0xff)), BUTTON);
	set(rig, DATA(0xff), 0);
	assert_int_equal(get(rig, DATA(0xff)), 0);
	set(rig, DIR, 0);
	assert_int_equal(get(rig, DATA(0xff)), BUTTON);
	assert_int_equal(get(rig, DATA(0xff)), 0);
}

static void registers_are_words_of_a_byte(void **state)
{
	static const uint64_t plain[] = { DIR, IS, IBE, IEV, IE, AFSEL };
	struct rig *rig = *state;
	uint64_t wide = 0x1122334455667788;

	for (size_t i = 0; i < ARRAY_SIZE(plain); i++) {
		set(rig, plain[i], (uint8_t)(0x90 + i));
		assert_int_equal(read_wide(rig, plain[i], 8), 0x90 + i);
		assert_int_equal(read_wide(rig, plain[i] + 1, 1), 0);
		set(rig, plain[i] + 2, 0xff);
	}
	for (size_t i = 0; i < ARRAY_SIZE(plain); i++)
		assert_int_equal(read_wide(rig, plain[i], 4), 0x90 + i);
	assert_true(bus_write(&rig->bus, BASE + DIR, &wide, 8));
	assert_int_equal(read_wide(rig, DIR, 8), 0x88);
	set(rig, DATA(0xff), 0);
	set(rig, DATA(0xff) + 1, 0xff);
	assert_int_equal(get(rig, DATA(0xff)), 0);
	set(rig, DATA(0xff), 0xff);
	assert_int_equal(get(rig, DATA(0xff) + 3), 0);
	assert_int_equal(get(rig, DATA(0xff)), 0x88);
	assert_int_equal(read_wide(rig, IS, 2), 0x91);
}

/* All of the window, at every width: nothing but the sanitizers judges it. */
static void no_access_is_out_of_bounds(void **state)
{
	struct rig *rig = *state;
	uint64_t value = UINT64_MAX;

	for (unsigned int len = 1; len <= 8; len *= 2)
		for (uint64_t offset = 0; offset <= PL061_LEN - len; offset++) {
			assert_true(bus_write(&rig->bus, BASE + offset, &value, len));
			read_wide(rig, offset, len);
		}
	assert_int_equal(get(rig, DIR), 0xff);
	assert_int_equal(get(rig, 0xfe0), 0x61);
}

static void reset_keeps_a_press_that_nobody_saw(void **state)
{
	struct rig *rig = *state;

	listen_to_button(rig);
	set(rig, DIR, 1);
	set(rig, DATA(1), 1);
	pl061_press(rig->gpio);
	pl061_reset(rig->gpio);
	raised(rig);
	assert_int_equal(get(rig, DIR), 0);
	assert_int_equal(get(rig, IBE), 0);
	assert_int_equal(get(rig, IE), 0);
	assert_int_equal(get(rig, RIS), 0);
	listen_to_button(rig);
	assert_int_equal(get(rig, DATA(0xff)), BUTTON);
	assert_int_equal(raised(rig), 1);
	assert_int_equal(get(rig, DATA(0xff)), 0);
	pl061_free(NULL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(identification),
		TEST(a_press_lasts_until_it_is_seen),
		TEST(every_press_is_one),
		TEST(a_press_waits_for_the_driver),
		TEST(one_edge_of_two),
		TEST(an_unmasked_edge_is_told),
		TEST(what_is_left_is_told_again),
		TEST(a_level_stays_until_it_is_gone),
		TEST(levels_are_no_edges),
		TEST(outputs_are_the_guests),
		TEST(registers_are_words_of_a_byte),
		TEST(no_access_is_out_of_bounds),
		TEST(reset_keeps_a_press_that_nobody_saw),
	};
#undef TEST

	return cmocka_run_group_tests(tests, NULL, NULL);
}
