// SPDX-License-Identifier: Apache-2.0
/* The AML writer against bytes that iasl makes of the same source. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "arch/x86_64/aml.h"

struct fixture {
	struct aml aml;
	uint8_t bytes[8192];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	aml_init(&f->aml, f->bytes, sizeof(f->bytes));
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

static void expect(const struct fixture *f, const void *bytes, size_t len)
{
	size_t got = 0;

	assert_int_equal(aml_finish(&f->aml, &got), 0);
	assert_int_equal(got, len);
	assert_memory_equal(f->bytes, bytes, len);
}

#define EXPECT(f, ...) \
	expect(f, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

static void integers_take_the_shortest_form(void **state)
{
	struct fixture *f = *state;

	aml_name_int(&f->aml, "A", 0);
	aml_name_int(&f->aml, "B", 1);
	aml_name_int(&f->aml, "C", 2);
	aml_name_int(&f->aml, "D", 0xff);
	aml_name_int(&f->aml, "E", 0x100);
	aml_name_int(&f->aml, "F", 0x10000);
	aml_name_int(&f->aml, "G", 0x100000000);
	EXPECT(f, 0x08, 'A', '_', '_', '_', 0x00,
	       0x08, 'B', '_', '_', '_', 0x01,
	       0x08, 'C', '_', '_', '_', 0x0a, 0x02,
	       0x08, 'D', '_', '_', '_', 0x0a, 0xff,
	       0x08, 'E', '_', '_', '_', 0x0b, 0x00, 0x01,
	       0x08, 'F', '_', '_', '_', 0x0c, 0x00, 0x00, 0x01, 0x00,
	       0x08, 'G', '_', '_', '_', 0x0e, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00);
}

static void names_are_paths(void **state)
{
	struct fixture *f = *state;

	aml_name_int(&f->aml, "\\A", 0);
	aml_name_int(&f->aml, "\\_SB.PWRB", 0);
	aml_name_int(&f->aml, "\\_SB.PCI0.X", 0);
	EXPECT(f, 0x08, '\\', 'A', '_', '_', '_', 0x00,
	       0x08, '\\', 0x2e, '_', 'S', 'B', '_', 'P', 'W', 'R', 'B', 0x00,
	       0x08, '\\', 0x2f, 0x03, '_', 'S', 'B', '_', 'P', 'C', 'I', '0',
	       'X', '_', '_', '_', 0x00);
}

static void ids_are_packed_or_strings(void **state)
{
	struct fixture *f = *state;

	aml_name_id(&f->aml, "_HID", "PNP0A08");
	aml_name_id(&f->aml, "_HID", "LNRO0005");
	EXPECT(f, 0x08, '_', 'H', 'I', 'D', 0x0c, 0x41, 0xd0, 0x0a, 0x08,
	       0x08, '_', 'H', 'I', 'D', 0x0d, 'L', 'N', 'R', 'O', '0', '0', '0', '5', 0x00);
}

static void packages_count_their_elements(void **state)
{
	struct fixture *f = *state;

	aml_name_package(&f->aml, "\\_S5", (const uint64_t[]){ 5, 0, 0, 0 }, 4);
	EXPECT(f, 0x08, '\\', '_', 'S', '5', '_', 0x12, 0x07, 0x04, 0x0a, 0x05, 0x00, 0x00, 0x00);
}

static void terms_nest(void **state)
{
	struct fixture *f = *state;

	aml_scope(&f->aml, "\\_SB");
	aml_device(&f->aml, "GED");
	aml_method(&f->aml, "_EVT", 1);
	aml_notify(&f->aml, "\\_SB.PWRB", 0x80);
	aml_end(&f->aml);
	aml_end(&f->aml);
	aml_end(&f->aml);
	EXPECT(f, 0x10, 0x21, '\\', '_', 'S', 'B', '_',
	       0x5b, 0x82, 0x19, 'G', 'E', 'D', '_',
	       0x14, 0x13, '_', 'E', 'V', 'T', 0x01,
	       0x86, '\\', 0x2e, '_', 'S', 'B', '_', 'P', 'W', 'R', 'B', 0x0a, 0x80);
}

static void resources_know_their_size(void **state)
{
	struct fixture *f = *state;

	aml_resources(&f->aml);
	aml_res_memory(&f->aml, 0xe8000000, 0x100000);
	aml_res_ports(&f->aml, 0x3f8, 8);
	aml_res_interrupt(&f->aml, 4);
	aml_end(&f->aml);
	EXPECT(f, 0x08, '_', 'C', 'R', 'S', 0x11, 0x22, 0x0a, 0x1f,
	       0x86, 0x09, 0x00, 0x01, 0x00, 0x00, 0x00, 0xe8, 0x00, 0x00, 0x10, 0x00,
	       0x47, 0x01, 0xf8, 0x03, 0xf8, 0x03, 0x01, 0x08,
	       0x89, 0x06, 0x00, 0x03, 0x01, 0x04, 0x00, 0x00, 0x00,
	       0x79, 0x00);
}

static void windows_of_a_bridge(void **state)
{
	struct fixture *f = *state;

	aml_resources(&f->aml);
	aml_res_buses(&f->aml, 0, 3);
	aml_res_port_window(&f->aml, 0x1000, 0x2000);
	aml_res_window(&f->aml, 0xc0000000, 0x20000000);
	aml_end(&f->aml);
	EXPECT(f, 0x08, '_', 'C', 'R', 'S', 0x11, 0x44, 0x05, 0x0a, 0x50,
	       0x88, 0x0d, 0x00, 0x02, 0x0c, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00,
	       0x04, 0x00,
	       0x88, 0x0d, 0x00, 0x01, 0x0c, 0x03, 0x00, 0x00, 0x00, 0x10, 0xff, 0x2f, 0x00, 0x00,
	       0x00, 0x20,
	       0x8a, 0x2b, 0x00, 0x00, 0x0c, 0x01,
	       0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	       0x00, 0x00, 0x00, 0xc0, 0x00, 0x00, 0x00, 0x00,
	       0xff, 0xff, 0xff, 0xdf, 0x00, 0x00, 0x00, 0x00,
	       0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	       0x00, 0x00, 0x00, 0x20, 0x00, 0x00, 0x00, 0x00,
	       0x79, 0x00);
}

/* Writes a device with a body of len bytes, its name included; returns the length of it all. */
static size_t device_of(size_t len, uint8_t head[6])
{
	const size_t fixed = 4 /* the name */ + 7 /* Name (A, "") */;
	char *filler = calloc(1, len);
	uint8_t *buffer = malloc(len + 6);
	struct aml aml;
	size_t got = 0;

	assert_non_null(filler);
	assert_non_null(buffer);
	memset(filler, 'x', len - fixed);
	aml_init(&aml, buffer, len + 6);
	aml_device(&aml, "D");
	aml_name_id(&aml, "A", filler);
	aml_end(&aml);
	assert_int_equal(aml_finish(&aml, &got), 0);
	memcpy(head, buffer, 6);
	free(buffer);
	free(filler);
	return got;
}

static void lengths_grow_by_bytes(void **state)
{
	uint8_t head[6];

	(void)state;
	/* The length counts itself: 62 bytes are the most that one byte describes. */
	assert_int_equal(device_of(62, head), 2 + 1 + 62);
	assert_int_equal(head[2], 0x3f);
	assert_int_equal(device_of(63, head), 2 + 2 + 63);
	assert_memory_equal(head + 2, ((uint8_t[]){ 0x41, 0x04 }), 2);
	assert_int_equal(device_of(0xffd, head), 2 + 2 + 0xffd);
	assert_memory_equal(head + 2, ((uint8_t[]){ 0x4f, 0xff }), 2);
	assert_int_equal(device_of(0xffe, head), 2 + 3 + 0xffe);
	assert_memory_equal(head + 2, ((uint8_t[]){ 0x81, 0x00, 0x01 }), 3);
	assert_int_equal(device_of(0xffffc, head), 2 + 3 + 0xffffc);
	assert_memory_equal(head + 2, ((uint8_t[]){ 0x8f, 0xff, 0xff }), 3);
	assert_int_equal(device_of(0xffffd, head), 2 + 4 + 0xffffd);
	assert_memory_equal(head + 2, ((uint8_t[]){ 0xc1, 0x00, 0x00, 0x01 }), 4);
}

static void put_something(struct aml *aml)
{
	aml_scope(aml, "\\_SB");
	aml_device(aml, "COM1");
	aml_name_id(aml, "_HID", "ACPI0013");
	aml_resources(aml);
	aml_res_interrupt(aml, 4);
	aml_end(aml);
	aml_end(aml);
	aml_end(aml);
}

static void too_small_a_buffer_is_an_error(void **state)
{
	struct aml aml;
	size_t need, got;

	(void)state;
	aml_init(&aml, (uint8_t[256]){ 0 }, 256);
	put_something(&aml);
	assert_int_equal(aml_finish(&aml, &need), 0);
	for (size_t size = 0; size <= need; size++) {
		uint8_t *buffer = malloc(size ? size : 1); /* the sanitizer watches its end */

		assert_non_null(buffer);
		got = 12345;
		aml_init(&aml, buffer, size);
		put_something(&aml);
		if (size < need) {
			assert_int_equal(aml_finish(&aml, &got), -ENOSPC);
			assert_int_equal(got, 12345);
		} else {
			assert_int_equal(aml_finish(&aml, &got), 0);
			assert_int_equal(got, need);
		}
		free(buffer);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(integers_take_the_shortest_form, setup, teardown),
		cmocka_unit_test_setup_teardown(names_are_paths, setup, teardown),
		cmocka_unit_test_setup_teardown(ids_are_packed_or_strings, setup, teardown),
		cmocka_unit_test_setup_teardown(packages_count_their_elements, setup, teardown),
		cmocka_unit_test_setup_teardown(terms_nest, setup, teardown),
		cmocka_unit_test_setup_teardown(resources_know_their_size, setup, teardown),
		cmocka_unit_test_setup_teardown(windows_of_a_bridge, setup, teardown),
		cmocka_unit_test(lengths_grow_by_bytes),
		cmocka_unit_test(too_small_a_buffer_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
