// SPDX-License-Identifier: Apache-2.0
/* Which clusters are tables: as many as an image can have, and looked for as often. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include "devices/block/qcow2_run.h"

#define BITS 9
#define TABLES (1u << 20) /* a walk for each of as many lookups would take hours */
#define FEW 200
#define SPREAD 3
#define FIRST 65536 /* clusters, behind what the header leads to */

static uint64_t place_of(uint64_t cluster)
{
	return cluster << BITS;
}

static struct qcow2 new_image(uint32_t tables)
{
	struct qcow2 q = {
		.header = {
			.version = 3,
			.cluster_bits = BITS,
			.l1_offset = 512,
			.l1_size = tables,
			.refcount_table_offset = place_of(FIRST - 16),
			.refcount_table_clusters = 16,
		},
		.file_size = place_of(FIRST + (uint64_t)tables * SPREAD),
		.l1 = calloc(tables, sizeof(uint64_t)),
		.refcount_table = calloc(1024, sizeof(uint64_t)),
	};

	assert_true(q.l1 && q.refcount_table);
	for (uint32_t i = 0; i < tables; i++)
		q.l1[i] = place_of(FIRST + (uint64_t)(tables - 1 - i) * SPREAD) | QCOW2_COPIED;
	return q;
}

static void free_image(struct qcow2 *q)
{
	free(q->tables.places);
	free(q->refcount_table);
	free(q->l1);
}

static void test_many(void **state)
{
	struct qcow2 q = new_image(TABLES);

	(void)state;
	assert_int_equal(qcow2_tables_init(&q), 0);
	for (uint64_t i = 0; i < TABLES; i++) {
		uint64_t place = place_of(FIRST + i * SPREAD);

		assert_true(qcow2_is_metadata(&q, place + 511, 1));
		assert_false(qcow2_is_metadata(&q, place + 512, 2 * 512));
		assert_true(qcow2_is_metadata(&q, place + 512, 2 * 512 + 1) || i == TABLES - 1);
	}
	free_image(&q);
}

static void test_header(void **state)
{
	struct qcow2 q = new_image(FEW);

	(void)state;
	assert_int_equal(qcow2_tables_init(&q), 0);
	assert_true(qcow2_is_metadata(&q, 511, 1));
	assert_true(qcow2_is_metadata(&q, q.header.l1_offset + FEW * 8 - 1, 1));
	assert_false(qcow2_is_metadata(&q, place_of(5), 512));
	assert_true(qcow2_is_metadata(&q, place_of(FIRST - 20), place_of(4) + 1));
	assert_true(qcow2_is_metadata(&q, place_of(FIRST - 1), 512));
	/* Longer than a cluster. */
	assert_false(qcow2_is_metadata(&q, place_of(FIRST - 30), 2 * 512));
	q.header.snapshots = 20;
	q.header.snapshots_offset = place_of(FIRST - 30);
	assert_true(qcow2_is_metadata(&q, place_of(FIRST - 29), 512));
	assert_false(qcow2_is_metadata(&q, place_of(FIRST - 28), 512));
	free_image(&q);
}

/* Come and go, and are found as by looking at each of them. */
static void test_changes(void **state)
{
	bool there[FEW * SPREAD] = { 0 };
	struct qcow2 q = new_image(FEW);

	(void)state;
	assert_int_equal(qcow2_tables_init(&q), 0);
	for (unsigned int i = 0; i < FEW; i++)
		there[i * SPREAD] = true;
	for (int i = 0; i < 20000; i++) {
		uint64_t at = (uint64_t)rand() % ARRAY_SIZE(there), len = 1 + (uint64_t)rand() % 8;
		bool any = false;

		for (uint64_t j = at; j < util_min(at + len, ARRAY_SIZE(there)); j++)
			any |= there[j];
		assert_int_equal(qcow2_is_metadata(&q, place_of(FIRST + at), place_of(len)), any);
		if (there[at])
			qcow2_tables_remove(&q, place_of(FIRST + at));
		else if (q.tables.count < q.tables.room)
			qcow2_tables_add(&q, place_of(FIRST + at));
		else
			continue;
		there[at] = !there[at];
	}
	free_image(&q);
}

static void test_lies(void **state)
{
	const uint64_t table[] = {
		place_of(FIRST) | QCOW2_COPIED, place_of(FIRST) + 256, place_of(FIRST + FEW * SPREAD),
		QCOW2_COPIED, 512, place_of(FIRST - 1), place_of(FIRST) | 1,
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct qcow2 q = new_image(FEW);

		q.l1[0] = table[i];
		assert_int_equal(qcow2_tables_init(&q), -EUCLEAN);
		free_image(&q);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_header),
		cmocka_unit_test(test_changes),
		cmocka_unit_test(test_lies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
