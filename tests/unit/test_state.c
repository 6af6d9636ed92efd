// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "core/state.h"
#include "core/util.h"

#define HEADER 24

/* Its first len bytes. */
static struct state_reader reader_of(const struct state *state, size_t len)
{
	return (struct state_reader){ state->data, len };
}

static void test_sections(void **state)
{
	const char longest[] = "fifteen letters";
	struct state_reader reader;
	struct state saved = { 0 };
	char text[8] = "";
	uint64_t number = 0;

	(void)state;
	assert_int_equal(state_put(&saved, "text", 1, "seven!!", 8), 0);
	assert_int_equal(state_put(&saved, longest, UINT32_MAX, &(uint64_t){ 77 }, 8), 0);
	assert_int_equal(state_put(&saved, "", 0, "x", 1), 0);
	reader = reader_of(&saved, saved.len);
	assert_int_equal(state_get(&reader, "text", 1, text, 8), 0);
	assert_string_equal(text, "seven!!");
	assert_int_equal(state_get(&reader, longest, UINT32_MAX, &number, 8), 0);
	assert_int_equal(number, 77);
	assert_int_equal(state_get(&reader, "", 0, text, 1), 0);
	assert_int_equal(text[0], 'x');
	assert_int_equal(reader.left, 0);
	assert_int_equal(state_get(&reader, "", 0, text, 1), -EINVAL);
	state_free(&saved);
}

/* Nothing is copied, and the reader stays where it is. */
static void test_refusals(void **state)
{
	static const struct {
		const char *name;
		uint32_t version;
		size_t len;
	} wrong[] = {
		{ "tex", 1, 4 }, { "textt", 1, 4 }, { "", 1, 4 }, { "text of many letters", 1, 4 },
		{ "text", 0, 4 }, { "text", 2, 4 }, { "text", 1, 3 }, { "text", 1, 5 },
		{ "text", 1, 0 },
	};
	struct state saved = { 0 };
	struct state_reader reader;
	char text[8] = "before";

	(void)state;
	assert_int_equal(state_put(&saved, "text", 1, "abcd", 4), 0);
	reader = reader_of(&saved, saved.len);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(state_get(&reader, wrong[i].name, wrong[i].version, text,
					   wrong[i].len), -EINVAL);
	assert_string_equal(text, "before");
	assert_int_equal(reader.left, saved.len);
	assert_int_equal(state_get(&reader, "text", 1, text, 4), 0);
	state_free(&saved);
}

static void test_cut_off(void **state)
{
	struct state saved = { 0 };
	char text[8] = "before";

	(void)state;
	assert_int_equal(state_put(&saved, "text", 1, "abcd", 4), 0);
	assert_int_equal(saved.len, HEADER + 4);
	for (size_t len = 0; len < saved.len; len++) {
		/* So that a byte too far is seen. */
		uint8_t *copy = test_malloc(len + 1);
		struct state_reader reader = { copy, len };

		memcpy(copy, saved.data, len);
		assert_int_equal(state_get(&reader, "text", 1, text, 4), -EINVAL);
		assert_int_equal(reader.left, len);
		test_free(copy);
	}
	assert_string_equal(text, "before");
	state_free(&saved);
}

/* The length that a section names is not believed. */
static void test_lying_length(void **state)
{
	static const uint32_t lengths[] = { 0, 3, 5, 4 + HEADER, 0x7fffffff, UINT32_MAX };
	struct state saved = { 0 };
	uint8_t buffer[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		struct state_reader reader;

		state_free(&saved);
		assert_int_equal(state_put(&saved, "text", 1, "abcd", 4), 0);
		memcpy(saved.data + HEADER - 4, &lengths[i], 4);
		reader = reader_of(&saved, saved.len);
		assert_int_equal(state_get(&reader, "text", 1, buffer, 4), -EINVAL);
		assert_int_equal(state_get(&reader, "text", 1, buffer, lengths[i]),
				 lengths[i] < 4 ? 0 : -EINVAL);
	}
	state_free(&saved);
}

static void test_growth(void **state)
{
	struct state saved = { 0 };
	struct state_reader reader;
	size_t total = 0;

	(void)state;
	for (size_t len = 1; len < 70000; len = len * 3 / 2 + 1) {
		uint8_t *data = test_malloc(len);

		memset(data, (int)len, len);
		assert_int_equal(state_put(&saved, "growing", (uint32_t)len, data, len), 0);
		total += HEADER + len;
		assert_int_equal(saved.len, total);
		test_free(data);
	}
	reader = reader_of(&saved, saved.len);
	for (size_t len = 1; len < 70000; len = len * 3 / 2 + 1) {
		uint8_t *data = test_malloc(len);

		assert_int_equal(state_get(&reader, "growing", (uint32_t)len, data, len), 0);
		assert_int_equal(data[0], (uint8_t)len);
		assert_int_equal(data[len - 1], (uint8_t)len);
		test_free(data);
	}
	assert_int_equal(reader.left, 0);
	state_free(&saved);
	assert_null(saved.data);
	state_free(&saved);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sections),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_cut_off),
		cmocka_unit_test(test_lying_length),
		cmocka_unit_test(test_growth),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
