// SPDX-License-Identifier: Apache-2.0
/* The account of what a guest's commands make virglrenderer hold, without that. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "devices/gpu/virgl_stream.h"

enum { CREATE_OBJECT = 1, DESTROY_OBJECT = 3, DRAW_VBO = 8, SET_SUB_CTX = 28, CREATE_SUB_CTX,
       DESTROY_SUB_CTX };
enum { OBJECT_BLEND = 1, OBJECT_SHADER = 4 };
enum { SHADER_VERTEX, SHADER_COMPUTE = 5 };

struct account {
	struct virgl_contexts contexts;
	struct virgl_context *context;
};

static int make(void **state)
{
	struct account *account = calloc(1, sizeof(*account));

	assert_non_null(account);
	assert_int_equal(virgl_contexts_init(&account->contexts), 0);
	account->context = virgl_contexts_find(&account->contexts, 0);
	account->context->id = 1;
	*state = account;
	return 0;
}

static int destroy(void **state)
{
	struct account *account = *state;

	free(account);
	return 0;
}

static int check(struct account *account, const uint32_t *words, uint32_t count)
{
	return virgl_stream_check(&account->contexts, account->context, words, count);
}

static int with_id(struct account *account, uint32_t command, uint32_t id)
{
	return check(account, (const uint32_t[]){ command | 1 << 16, id }, 2);
}

static int blend(struct account *account, uint32_t handle)
{
	return with_id(account, CREATE_OBJECT | OBJECT_BLEND << 8, handle);
}

/* So many words of its text follow, which has len bytes in all. */
static int shader(struct account *account, uint32_t type, uint32_t handle, uint32_t len,
		  uint32_t streamed, uint32_t count)
{
	uint32_t words[64] = { CREATE_OBJECT | OBJECT_SHADER << 8 | (5 + count) << 16, handle, type,
			       len, 300, streamed };

	assert_true(6 + count <= ARRAY_SIZE(words));
	return check(account, words, 6 + count);
}

static int draw(struct account *account)
{
	return check(account, (const uint32_t[]){ DRAW_VBO }, 1);
}

/* Where others have streamed outputs these have their local memory, in bytes. */
static void test_compute_shaders(void **state)
{
	struct account *account = *state;

	for (uint32_t local = 0; local <= KIB(32); local = local * 2 + 1) {
		assert_int_equal(shader(account, SHADER_COMPUTE, 1 + local, 40, local, 10), 0);
		assert_int_equal(draw(account), 0);
	}
	assert_int_equal(shader(account, SHADER_COMPUTE, 100000, 40, UINT32_MAX, 10), -EINVAL);
	assert_int_equal(shader(account, SHADER_VERTEX, 100000, 40, 65, 10), -EINVAL);
	/* Four strides and two words for each output come before the text. */
	assert_int_equal(shader(account, SHADER_VERTEX, 100000, 40, 2, 10), 0);
	assert_int_equal(draw(account), -EINVAL);
}

static void test_objects_are_bounded(void **state)
{
	struct account *account = *state;

	for (uint32_t handle = 1; handle <= VIRGL_OBJECTS_MAX; handle++)
		assert_int_equal(blend(account, handle * 77777), 0);
	assert_int_equal(blend(account, 1), -EINVAL);
	/* What the library does not have it cannot give back. */
	assert_int_equal(with_id(account, DESTROY_OBJECT, 2), 0);
	assert_int_equal(blend(account, 1), -EINVAL);
	assert_int_equal(with_id(account, DESTROY_OBJECT, 77777), 0);
	assert_int_equal(blend(account, 1), 0);
	assert_int_equal(blend(account, 3), -EINVAL);
	virgl_contexts_clear(&account->contexts, account->context);
	assert_int_equal(blend(account, 3), 0);
}

/* Each sub context has handles of its own. */
static void test_objects_of_sub_contexts(void **state)
{
	struct account *account = *state;

	for (uint32_t id = 5; id <= 6; id++) {
		assert_int_equal(with_id(account, CREATE_SUB_CTX, id), 0);
		for (uint32_t handle = 1; handle <= 10; handle++)
			assert_int_equal(blend(account, handle), 0);
	}
	assert_int_equal(account->contexts.object_count, 20);
	/* There is none of that number. */
	assert_int_equal(with_id(account, SET_SUB_CTX, 7), 0);
	assert_int_equal(with_id(account, DESTROY_OBJECT, 1), 0);
	assert_int_equal(account->contexts.object_count, 19);
	assert_int_equal(blend(account, 1), 0);
	assert_int_equal(blend(account, 1), 0);
	assert_int_equal(account->contexts.object_count, 20);
	assert_int_equal(with_id(account, SET_SUB_CTX, 0), 0);
	assert_int_equal(with_id(account, DESTROY_OBJECT, 1), 0);
	assert_int_equal(account->contexts.object_count, 20);
	assert_int_equal(with_id(account, DESTROY_SUB_CTX, 5), 0);
	assert_int_equal(account->contexts.object_count, 10);
	assert_int_equal(with_id(account, SET_SUB_CTX, 6), 0);
	assert_int_equal(with_id(account, DESTROY_SUB_CTX, 6), 0);
	assert_int_equal(account->contexts.object_count, 0);
	/* The one that each context has takes over. */
	assert_int_equal(blend(account, 1), 0);
	assert_int_equal(with_id(account, CREATE_SUB_CTX, 6), 0);
	assert_int_equal(with_id(account, DESTROY_OBJECT, 1), 0);
	assert_int_equal(account->contexts.object_count, 1);
}

/* As many commands as a request has room for, with each handle twice. */
static void test_objects_in_long_requests(void **state)
{
	enum { COUNT = VIRGL_SUBMIT_MAX / 8, HANDLES = VIRGL_OBJECTS_MAX - 1 };
	struct account *account = *state;
	uint32_t (*words)[2] = calloc(COUNT, sizeof(*words));

	assert_non_null(words);
	for (uint32_t i = 0; i < COUNT; i++) {
		words[i][0] = CREATE_OBJECT | OBJECT_BLEND << 8 | 1 << 16;
		words[i][1] = UINT32_MAX - i % HANDLES * 0x10000;
	}
	assert_int_equal(check(account, *words, 2 * COUNT), 0);
	assert_int_equal(account->contexts.object_count, HANDLES);
	for (uint32_t i = 0; i < COUNT; i++)
		words[i][0] = DESTROY_OBJECT | 1 << 16;
	assert_int_equal(check(account, *words, 2 * (HANDLES - 10)), 0);
	assert_int_equal(account->contexts.object_count, 10);
	assert_int_equal(check(account, *words, 2 * COUNT), 0);
	assert_int_equal(account->contexts.object_count, 0);
	free(words);
}

/* Each takes a look at all objects. */
static void test_ends_of_sub_contexts_are_bounded(void **state)
{
	struct account *account = *state;
	uint32_t words[33][4];

	for (uint32_t i = 0; i < ARRAY_SIZE(words); i++)
		memcpy(words[i], (const uint32_t[]){ CREATE_SUB_CTX | 1 << 16, 1,
						     DESTROY_SUB_CTX | 1 << 16, 1 }, sizeof(words[i]));
	for (int turn = 0; turn < 3; turn++)
		assert_int_equal(check(account, *words, 32 * 4), 0);
	assert_int_equal(check(account, *words, 33 * 4), -EINVAL);
}

static void test_text_is_bounded(void **state)
{
	enum { COUNT = 60000, LEN = COUNT * 4, MOST = VIRGL_TEXT_MAX / LEN };
	struct account *account = *state;
	uint32_t *words = calloc(6 + COUNT, 4);

	assert_non_null(words);
	words[0] = CREATE_OBJECT | OBJECT_SHADER << 8 | (5U + COUNT) << 16;
	words[3] = LEN;
	for (words[1] = 1; words[1] <= MOST; words[1]++)
		assert_int_equal(check(account, words, 6 + COUNT), 0);
	assert_int_equal(with_id(account, DESTROY_OBJECT, MOST), 0);
	words[1] = 1;
	assert_int_equal(check(account, words, 6 + COUNT), 0);
	words[1] = MOST;
	assert_int_equal(check(account, words, 6 + COUNT), 0);
	words[1] = MOST + 1;
	assert_int_equal(check(account, words, 6 + COUNT), -EINVAL);
	virgl_contexts_clear(&account->contexts, account->context);
	assert_int_equal(account->contexts.text, 0);
	free(words);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_compute_shaders, make, destroy),
		cmocka_unit_test_setup_teardown(test_objects_are_bounded, make, destroy),
		cmocka_unit_test_setup_teardown(test_objects_of_sub_contexts, make, destroy),
		cmocka_unit_test_setup_teardown(test_objects_in_long_requests, make, destroy),
		cmocka_unit_test_setup_teardown(test_ends_of_sub_contexts_are_bounded, make, destroy),
		cmocka_unit_test_setup_teardown(test_text_is_bounded, make, destroy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
