// SPDX-License-Identifier: Apache-2.0
/*
 * Split rings, and what they share with packed ones, against a driver that
 * keeps to the rules, and one that does not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <linux/virtio_ring.h>
#include "devices/virtio/virtio.h"
#include "tests/unit/line.h"
#include "tests/unit/ram.h"

#define SIZE_MAX_RING 64
#define SIZE 8
#define PAGE RAM_PAGE
#define A RAM_A
#define B RAM_B
#define LEN RAM_LEN
#define LAST RAM_LAST
#define LARGE 0x40000000
#define LARGE_LEN 0x40000000

#define DESC A
#define AVAIL (A + 0x1000)
#define USED (A + 0x2000)
#define TABLE (A + 0x3000) /* an indirect one, up to DATA */
#define DATA (A + 0x8000)

#define EVENT_IDX (1ULL << VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT (1ULL << VIRTIO_RING_F_INDIRECT_DESC)

#define NEXT VRING_DESC_F_NEXT
#define WRITE VRING_DESC_F_WRITE
#define TO_TABLE VRING_DESC_F_INDIRECT

static const struct virtio_class class = { .name = "test" };

struct fixture {
	struct ram ram;
	struct virtio_dev dev;
	struct line line;
	struct virtq queue;
	uint16_t size;
	struct vring_desc *desc, *table;
	struct vring_avail *avail;
	struct vring_used *used;
};

static void *at(struct fixture *f, uint64_t gpa)
{
	return ram_at(&f->ram, gpa);
}

static void setup(struct fixture *f)
{
	*f = (struct fixture){ .dev = { .class = &class, .mem = &f->ram.mem } };
	line_init(&f->line, &f->dev);
	memcpy(f->dev.name, "test0", 6);
	ram_init(&f->ram);
	assert_int_equal(virtq_init(&f->queue, &f->dev, 3, SIZE_MAX_RING, 24), 0);
}

static void teardown(struct fixture *f)
{
	virtq_free(&f->queue);
	ram_free(&f->ram);
}

static int activate(struct fixture *f, uint16_t size, uint64_t desc, uint64_t avail, uint64_t used,
		    uint64_t features)
{
	f->queue.layout = (struct virtq_layout){ size, true, desc, avail, used };
	f->size = size;
	f->desc = at(f, DESC);
	f->avail = at(f, AVAIL);
	f->used = at(f, USED);
	f->table = at(f, TABLE);
	return virtq_activate(&f->queue, &f->ram.mem, features);
}

/* The usual place; the rings empty. */
static void start(struct fixture *f, uint16_t size, uint64_t features)
{
	memset(at(f, A), 0, LEN);
	assert_int_equal(activate(f, size, DESC, AVAIL, USED, features), 0);
}

static void started(struct fixture *f, uint64_t features)
{
	setup(f);
	start(f, SIZE, features);
}

static struct vring_desc buffer(uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
	return (struct vring_desc){ .addr = addr, .len = len, .flags = flags, .next = next };
}

static void post(struct fixture *f, uint16_t head)
{
	f->avail->ring[f->avail->idx % f->size] = head;
	f->avail->idx++;
}

static bool failed(const struct fixture *f)
{
	return f->dev.status & VIRTIO_CONFIG_S_NEEDS_RESET;
}

/* As the driver resets and starts the device anew. */
static void restart(struct fixture *f, uint64_t features)
{
	virtq_deactivate(&f->queue);
	virtq_rewind(&f->queue);
	f->dev.status = 0;
	start(f, SIZE, features);
}

static uint16_t *used_event(struct fixture *f)
{
	return &f->avail->ring[f->size];
}

static uint16_t *avail_event(struct fixture *f)
{
	return (uint16_t *)(void *)&f->used->ring[f->size];
}

/* ---- layout ---- */

static void test_layout(void **state)
{
	static const struct {
		uint16_t size;
		uint64_t desc, avail, used;
	} wrong[] = {
		{ 0, DESC, AVAIL, USED },
		{ 3, DESC, AVAIL, USED },
		{ SIZE_MAX_RING + 1, DESC, AVAIL, USED },
		{ 2 * SIZE_MAX_RING, DESC, AVAIL, USED },
		{ 0x8000, DESC, AVAIL, USED },
		{ SIZE, DESC + 8, AVAIL, USED },
		{ SIZE, DESC, AVAIL + 1, USED },
		{ SIZE, DESC, AVAIL, USED + 2 },
		/* Across two regions that touch: a ring is one piece. */
		{ SIZE, B - 16, AVAIL, USED },
		{ SIZE, DESC, B - 2, USED },
		{ SIZE, DESC, AVAIL, B - 4 },
		/* Outside, and partly. */
		{ SIZE, 0, AVAIL, USED },
		{ SIZE, DESC, A - 2, USED },
		{ SIZE, DESC, AVAIL, B + LEN },
		{ SIZE, LAST + PAGE - SIZE * 16 + 16, AVAIL, USED },
		{ SIZE, DESC, LAST + PAGE - (6 + SIZE * 2) + 2, USED },
		{ SIZE, DESC, AVAIL, LAST + PAGE - (6 + SIZE * 8) + 2 },
		{ SIZE, UINT64_MAX - 15, AVAIL, USED },
		{ SIZE, DESC, UINT64_MAX - 1, USED },
		{ SIZE, DESC, AVAIL, UINT64_MAX - 3 },
	};
	struct fixture f;

	(void)state;
	setup(&f);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		assert_int_equal(activate(&f, wrong[i].size, wrong[i].desc, wrong[i].avail,
					  wrong[i].used, 0), -EINVAL);
		assert_false(f.queue.active);
		assert_null(virtq_pop(&f.queue));
		assert_false(line_publish(&f.line, &f.queue));
		virtq_deactivate(&f.queue);
	}
	teardown(&f);
}

/* The event index is the last thing in RAM; almost so where the used ring is to be aligned to 4. */
static void test_layout_at_the_end_of_memory(void **state)
{
	const uint64_t end = LAST + PAGE;
	struct fixture f;

	(void)state;
	setup(&f);
	assert_int_equal(activate(&f, SIZE, end - SIZE * 16, AVAIL, USED, EVENT_IDX), 0);
	virtq_deactivate(&f.queue);

	assert_int_equal(activate(&f, SIZE, DESC, end - (6 + SIZE * 2), USED, EVENT_IDX), 0);
	f.avail = at(&f, end - (6 + SIZE * 2));
	f.desc[0] = buffer(DATA, 1, WRITE, 0);
	*used_event(&f) = 0;
	post(&f, 0);
	virtq_done(&f.queue, virtq_pop(&f.queue));
	assert_true(line_publish(&f.line, &f.queue));
	virtq_deactivate(&f.queue);
	virtq_rewind(&f.queue);

	assert_int_equal(activate(&f, SIZE, DESC, AVAIL, end - (8 + SIZE * 8), EVENT_IDX), 0);
	assert_null(virtq_pop(&f.queue));
	assert_false(virtq_arm(&f.queue));
	teardown(&f);
}

/* What the driver writes into its registers later does not matter. */
static void test_frozen(void **state)
{
	struct chain *chain;
	struct fixture f;

	(void)state;
	started(&f, INDIRECT);
	f.queue.layout = (struct virtq_layout){ .size = SIZE_MAX_RING, .desc = 0 };
	f.desc[SIZE - 1] = buffer(DATA, 5, 0, 0);
	post(&f, SIZE - 1);
	chain = virtq_pop(&f.queue);
	assert_non_null(chain);
	assert_int_equal(chain->out.left, 5);
	post(&f, SIZE);
	assert_null(virtq_pop(&f.queue));
	assert_true(failed(&f));
	teardown(&f);
}

static void test_smaller_next_time(void **state)
{
	struct fixture f;

	(void)state;
	setup(&f);
	for (uint16_t size = SIZE_MAX_RING; size; size /= 2) {
		start(&f, size, 0);
		/* Some stay in flight when the device is reset. */
		for (uint16_t i = 0; i < size; i++) {
			f.desc[i] = buffer(DATA, 1, WRITE, 0);
			post(&f, i);
			assert_non_null(virtq_pop(&f.queue));
		}
		assert_null(virtq_pop(&f.queue));
		assert_false(failed(&f));
		virtq_deactivate(&f.queue);
		virtq_rewind(&f.queue);
		assert_null(virtq_pop(&f.queue));
		assert_false(line_publish(&f.line, &f.queue));
	}
	teardown(&f);
}

/* What was returned in the turn of the reset is not published: the ring is the guest's again. */
static void test_reset_before_publish(void **state)
{
	struct fixture f;

	(void)state;
	started(&f, 0);
	f.desc[0] = buffer(DATA, 1, WRITE, 0);
	post(&f, 0);
	virtq_done(&f.queue, virtq_pop(&f.queue));
	virtq_deactivate(&f.queue);
	assert_false(line_publish(&f.line, &f.queue));
	assert_int_equal(f.used->idx, 0);
	virtq_rewind(&f.queue);
	start(&f, SIZE, 0);
	assert_false(line_publish(&f.line, &f.queue));
	assert_int_equal(f.used->idx, 0);
	teardown(&f);
}

/* ---- chains ---- */

static void test_cursors(void **state)
{
	char text[16] = { 0 };
	struct chain *chain;
	struct fixture f;

	(void)state;
	started(&f, 0);
	memcpy(at(&f, DATA), "request", 7);
	f.desc[5] = buffer(DATA, 3, NEXT, 2);
	f.desc[2] = buffer(DATA + 3, 4, NEXT, 7);
	f.desc[7] = buffer(DATA + 0x100, 2, WRITE | NEXT, 0);
	f.desc[0] = buffer(DATA + 0x200, 6, WRITE, 77);
	post(&f, 5);

	chain = virtq_pop(&f.queue);
	assert_non_null(chain);
	assert_int_equal(chain->head, 5);
	assert_int_equal(chain->out.left, 7);
	assert_int_equal(chain->in.left, 8);
	assert_int_equal(chain_pull(chain, text, 1), 1);
	assert_int_equal(chain_pull(chain, text + 1, 5), 5);
	assert_int_equal(chain_pull(chain, text + 6, 9), 1);
	assert_string_equal(text, "request");
	assert_int_equal(chain_pull(chain, text, 1), 0);
	assert_int_equal(chain->out.count, 0);

	assert_int_equal(chain_push(chain, "reply", 5), 5);
	assert_memory_equal(at(&f, DATA + 0x100), "re", 3);
	assert_memory_equal(at(&f, DATA + 0x200), "ply", 4);
	assert_int_equal(chain->in.left, 3);
	assert_int_equal(chain->in.done, 5);
	cursor_advance(&chain->in, 2);
	assert_int_equal(chain_push(chain, "1234", 4), 1);
	assert_memory_equal(at(&f, DATA + 0x205), "1", 2);
	virtq_done(&f.queue, chain);

	/* Not before it is published. */
	assert_int_equal(f.used->idx, 0);
	assert_true(line_publish(&f.line, &f.queue));
	assert_int_equal(f.used->idx, 1);
	assert_int_equal(f.used->ring[0].id, 5);
	assert_int_equal(f.used->ring[0].len, 8);
	assert_false(line_publish(&f.line, &f.queue));
	teardown(&f);
}

static void test_used_length_is_what_was_written(void **state)
{
	static const uint32_t tail[] = { 0, 1, 3 };
	struct chain *chain;
	struct fixture f;

	(void)state;
	started(&f, 0);
	for (uint16_t i = 0; i < ARRAY_SIZE(tail); i++) {
		f.desc[i] = buffer(DATA, 8, WRITE, 0);
		post(&f, i);
		chain = virtq_pop(&f.queue);
		assert_int_equal(chain_split(chain, 3), 0);
		assert_int_equal(chain_push(chain, "ab", 2), 2);
		assert_int_equal(chain_push_tail(chain, "xyz", tail[i]), tail[i]);
		virtq_done(&f.queue, chain);
		line_publish(&f.line, &f.queue);
		assert_int_equal(f.used->ring[i].len, 2 + tail[i]);
	}
	/* A chain that can only be read. */
	f.desc[4] = buffer(DATA, 8, 0, 0);
	post(&f, 4);
	chain = virtq_pop(&f.queue);
	assert_int_equal(chain_push(chain, "x", 1), 0);
	cursor_advance(&chain->out, 8);
	virtq_done(&f.queue, chain);
	line_publish(&f.line, &f.queue);
	assert_int_equal(f.used->ring[3].len, 0);
	teardown(&f);
}

/* The guest changes descriptors and rings after we looked. */
static void test_looked_at_once(void **state)
{
	struct chain *chain;
	struct fixture f;

	(void)state;
	started(&f, INDIRECT);
	f.table[0] = buffer(DATA, 4, NEXT, 1);
	f.table[1] = buffer(DATA + 0x10, 4, WRITE, 0);
	f.desc[1] = buffer(TABLE, 32, TO_TABLE, 0);
	post(&f, 1);
	chain = virtq_pop(&f.queue);
	assert_non_null(chain);
	memset(at(&f, A), 0xff, DATA - A);
	memcpy(at(&f, DATA), "same", 4);

	char text[5] = { 0 };
	assert_int_equal(chain_pull(chain, text, 9), 4);
	assert_string_equal(text, "same");
	assert_int_equal(chain_push(chain, "back", 9), 4);
	assert_memory_equal(at(&f, DATA + 0x10), "back", 4);
	virtq_done(&f.queue, chain);
	line_publish(&f.line, &f.queue);
	assert_int_equal(f.used->ring[0].id, 1);
	assert_int_equal(f.used->ring[0].len, 4);
	assert_int_equal(f.used->idx, 1);
	teardown(&f);
}

static void test_buffer_across_regions(void **state)
{
	struct chain *chain;
	struct fixture f;

	(void)state;
	started(&f, 0);
	f.desc[0] = buffer(B - 3, 8, WRITE, 0);
	post(&f, 0);
	chain = virtq_pop(&f.queue);
	assert_non_null(chain);
	assert_int_equal(chain->in.count, 2);
	assert_int_equal(chain->in.left, 8);
	assert_ptr_equal(chain->in.iov[0].iov_base, at(&f, B - 3));
	assert_int_equal(chain->in.iov[0].iov_len, 3);
	assert_ptr_equal(chain->in.iov[1].iov_base, at(&f, B));
	assert_int_equal(chain->in.iov[1].iov_len, 5);
	assert_int_equal(chain_push(chain, "12345678", 8), 8);
	assert_memory_equal(at(&f, B - 3), "123", 3);
	assert_memory_equal(at(&f, B), "45678", 5);
	teardown(&f);
}

/* Tables may lie anywhere, across regions too, and follow plain descriptors. */
static void test_indirect(void **state)
{
	static const uint64_t tables[] = {
		TABLE, TABLE + 1, B - 16, B - 5, B - 32, LAST + PAGE - 32,
	};
	struct chain *chain;
	struct fixture f;

	(void)state;
	started(&f, INDIRECT);
	for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
		struct vring_desc table[] = {
			buffer(DATA, 3, NEXT, 1),
			buffer(DATA + 8, 5, WRITE, 0),
		};

		assert_int_equal(mem_write(&f.ram.mem, tables[i], table, sizeof(table)), 0);
		/* The write flag of the descriptor itself says nothing: section 2.7.5.3.2. */
		f.desc[0] = buffer(DATA + 0x20, 2, NEXT, 4);
		f.desc[4] = buffer(tables[i], sizeof(table), TO_TABLE | (i % 2 ? WRITE : 0), 99);
		post(&f, 0);
		chain = virtq_pop(&f.queue);
		assert_non_null(chain);
		assert_int_equal(chain->out.left, 5);
		assert_int_equal(chain->in.left, 5);
		assert_ptr_equal(chain->in.iov->iov_base, at(&f, DATA + 8));
		virtq_done(&f.queue, chain);
		line_publish(&f.line, &f.queue);
	}
	/* A table may be longer than the ring, and its chain take any way through it. */
	for (uint16_t i = 0; i < 100; i++)
		f.table[i * 7 % 100] = buffer(DATA + i, 1, i < 99 ? NEXT : 0, (i + 1) * 7 % 100);
	f.desc[0] = buffer(TABLE, 100 * 16, TO_TABLE, 0);
	post(&f, 0);
	chain = virtq_pop(&f.queue);
	assert_non_null(chain);
	assert_int_equal(chain->out.left, 100);
	teardown(&f);
}

/* ---- drivers that break the rules ---- */

static void loop_of_one(struct fixture *f)
{
	f->desc[0] = buffer(DATA, 1, NEXT, 0);
}

static void loop_of_two(struct fixture *f)
{
	f->desc[0] = buffer(DATA, 1, NEXT, 1);
	f->desc[1] = buffer(DATA, 1, NEXT, 0);
}

static void loop_in_the_table(struct fixture *f)
{
	f->desc[0] = buffer(TABLE, 48, TO_TABLE, 0);
	f->table[0] = buffer(DATA, 1, NEXT, 1);
	f->table[1] = buffer(DATA, 1, NEXT, 2);
	f->table[2] = buffer(DATA, 1, NEXT, 1);
}

static void next_beyond_the_ring(struct fixture *f)
{
	f->desc[0] = buffer(DATA, 1, NEXT, SIZE);
	f->desc[SIZE] = buffer(DATA, 1, 0, 0);
}

static void next_beyond_the_table(struct fixture *f)
{
	f->desc[0] = buffer(TABLE, 16, TO_TABLE, 0);
	f->table[0] = buffer(DATA, 1, NEXT, 1);
	f->table[1] = buffer(DATA, 1, 0, 0);
}

static void empty_buffer(struct fixture *f)
{
	f->desc[0] = buffer(DATA, 0, 0, 0);
}

static void writable_before_readable(struct fixture *f)
{
	f->desc[0] = buffer(DATA, 1, WRITE | NEXT, 1);
	f->desc[1] = buffer(DATA, 1, 0, 0);
}

static void buffer_outside(struct fixture *f)
{
	f->desc[0] = buffer(A - 1, 1, 0, 0);
}

static void buffer_ends_outside(struct fixture *f)
{
	f->desc[0] = buffer(B + LEN - 1, 2, 0, 0);
}

static void second_buffer_outside(struct fixture *f)
{
	f->desc[0] = buffer(DATA, 1, NEXT, 1);
	f->desc[1] = buffer(LAST + PAGE, 1, WRITE, 0);
}

static void buffer_wraps(struct fixture *f)
{
	f->desc[0] = buffer(UINT64_MAX, 2, 0, 0);
}

static void longest_buffer(struct fixture *f)
{
	f->desc[0] = buffer(A, UINT32_MAX, 0, 0);
}

static void table_within_a_table(struct fixture *f)
{
	f->desc[0] = buffer(TABLE, 16, TO_TABLE, 0);
	f->table[0] = buffer(TABLE + 0x100, 16, TO_TABLE, 0);
	f->table[16] = buffer(DATA, 1, 0, 0);
}

static void table_within_itself(struct fixture *f)
{
	f->desc[0] = buffer(TABLE, 16, TO_TABLE, 0);
	f->table[0] = buffer(TABLE, 16, TO_TABLE, 0);
}

/* The ring's own descriptors as a table: each look at it would find one more. */
static void ring_as_a_table(struct fixture *f)
{
	f->desc[0] = buffer(DESC, 16, TO_TABLE, 0);
}

static void table_with_a_successor(struct fixture *f)
{
	f->desc[0] = buffer(TABLE, 16, TO_TABLE | NEXT, 1);
	f->table[0] = buffer(DATA, 1, 0, 0);
	f->desc[1] = buffer(DATA, 1, 0, 0);
}

static void table_of_odd_length(struct fixture *f)
{
	f->desc[0] = buffer(TABLE, 24, TO_TABLE, 0);
	f->table[0] = buffer(DATA, 1, 0, 0);
}

static void empty_table(struct fixture *f)
{
	f->desc[0] = buffer(TABLE, 0, TO_TABLE, 0);
	f->table[0] = buffer(DATA, 1, 0, 0);
}

static void table_outside(struct fixture *f)
{
	f->desc[0] = buffer(0x1000, 16, TO_TABLE, 0);
}

static void table_leaves_memory(struct fixture *f)
{
	const struct vring_desc last = buffer(DATA, 1, NEXT, 1);

	mem_write(&f->ram.mem, B + LEN - 16, &last, sizeof(last));
	f->desc[0] = buffer(B + LEN - 16, 32, TO_TABLE, 0);
}

static void table_wraps(struct fixture *f)
{
	f->desc[0] = buffer(UINT64_MAX - 15, 0xfffffff0, TO_TABLE, 0);
}

/* One more than an iovec of each is left for, the cut of chain_split() included. */
static void too_many_buffers(struct fixture *f)
{
	for (uint16_t i = 0; i < CHAIN_IOV_MAX; i++)
		f->table[i] = buffer(DATA, 1, i + 1 < CHAIN_IOV_MAX ? NEXT : 0, i + 1);
	f->desc[0] = buffer(TABLE, CHAIN_IOV_MAX * 16, TO_TABLE, 0);
}

static void head_beyond_the_ring(struct fixture *f)
{
	f->avail->ring[0] = SIZE;
}

static void head_far_beyond_the_ring(struct fixture *f)
{
	f->avail->ring[0] = UINT16_MAX;
}

static void index_jumps(struct fixture *f)
{
	f->avail->idx = SIZE + 1;
}

static void index_goes_back(struct fixture *f)
{
	f->avail->idx = UINT16_MAX;
}

static void test_broken_rules(void **state)
{
	static void (*const faults[])(struct fixture *f) = {
		loop_of_one, loop_of_two, loop_in_the_table, next_beyond_the_ring,
		next_beyond_the_table, empty_buffer, writable_before_readable, buffer_outside,
		buffer_ends_outside, second_buffer_outside, buffer_wraps, longest_buffer,
		table_within_a_table, table_within_itself, ring_as_a_table, table_with_a_successor,
		table_of_odd_length, empty_table, table_outside, table_leaves_memory, table_wraps,
		too_many_buffers, head_beyond_the_ring, head_far_beyond_the_ring, index_jumps,
		index_goes_back,
	};
	struct fixture f;

	(void)state;
	started(&f, INDIRECT);
	for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
		restart(&f, INDIRECT);
		f.desc[0] = buffer(DATA, 1, 0, 0);
		f.avail->idx = 1;
		faults[i](&f);
		assert_null(virtq_pop(&f.queue));
		if (!failed(&f))
			fail_msg("fault %zu was not found", i);
		/* Nothing more until the driver resets, and nothing was lost. */
		f.desc[1] = buffer(DATA, 1, 0, 0);
		f.avail->ring[0] = 1;
		f.avail->idx = 1;
		assert_null(virtq_pop(&f.queue));
		assert_int_equal(f.queue.free_count, SIZE);
		assert_false(line_publish(&f.line, &f.queue));
	}
	restart(&f, INDIRECT);
	f.desc[0] = buffer(DATA, 1, 0, 0);
	post(&f, 0);
	assert_non_null(virtq_pop(&f.queue));
	teardown(&f);
}

static void test_indirect_not_agreed(void **state)
{
	struct fixture f;

	(void)state;
	started(&f, 0);
	f.desc[0] = buffer(TABLE, 16, TO_TABLE, 0);
	f.table[0] = buffer(DATA, 1, 0, 0);
	post(&f, 0);
	assert_null(virtq_pop(&f.queue));
	assert_true(failed(&f));
	teardown(&f);
}

static void test_posted_twice(void **state)
{
	struct chain *chain;
	struct fixture f;

	(void)state;
	started(&f, 0);
	f.desc[2] = buffer(DATA, 4, WRITE, 0);
	post(&f, 2);
	post(&f, 2);
	chain = virtq_pop(&f.queue);
	assert_non_null(chain);
	assert_null(virtq_pop(&f.queue));
	assert_true(failed(&f));
	/* The first is as it was. */
	assert_true(chain->in_flight);
	assert_int_equal(chain->in.left, 4);
	virtq_done(&f.queue, chain);

	/* After it was returned it may come again. */
	restart(&f, 0);
	f.desc[2] = buffer(DATA, 4, WRITE, 0);
	for (int i = 0; i < 3; i++) {
		post(&f, 2);
		chain = virtq_pop(&f.queue);
		assert_non_null(chain);
		virtq_done(&f.queue, chain);
		line_publish(&f.line, &f.queue);
	}
	teardown(&f);
}

/*
 * A driver cannot know of what is not published yet, so it can have posted no
 * more than a ring full since. One that posts on and on would keep the worker
 * in one turn for ever.
 */
static void test_more_than_a_ring_full(void **state)
{
	struct fixture f;
	struct chain *chain;
	unsigned int popped = 0;

	(void)state;
	started(&f, 0);
	f.desc[0] = buffer(DATA, 1, WRITE, 0);
	post(&f, 0);
	while (popped <= SIZE && (chain = virtq_pop(&f.queue))) {
		virtq_done(&f.queue, chain);
		popped++;
		post(&f, 0);
	}
	assert_int_equal(popped, SIZE);
	assert_true(failed(&f));

	/* Published in between it goes on. */
	restart(&f, 0);
	f.desc[0] = buffer(DATA, 1, WRITE, 0);
	for (int i = 0; i < 3 * SIZE; i++) {
		post(&f, 0);
		chain = virtq_pop(&f.queue);
		assert_non_null(chain);
		virtq_done(&f.queue, chain);
		line_publish(&f.line, &f.queue);
	}
	teardown(&f);
}

/* A whole ring in flight at once, returned in another order. */
static void test_all_in_flight(void **state)
{
	struct chain *chains[SIZE];
	struct fixture f;

	(void)state;
	started(&f, EVENT_IDX);
	for (int round = 0; round < 5; round++) {
		for (uint16_t i = 0; i < SIZE; i++) {
			f.desc[i] = buffer(DATA + 16 * i, 1 + i, WRITE, 0);
			post(&f, i);
		}
		for (int i = 0; i < SIZE; i++) {
			chains[i] = virtq_pop(&f.queue);
			assert_non_null(chains[i]);
			for (int j = 0; j < i; j++)
				assert_ptr_not_equal(chains[i]->block, chains[j]->block);
		}
		assert_null(virtq_pop(&f.queue));
		assert_false(failed(&f));
		for (int i = 0; i < SIZE; i++) {
			struct chain *chain = chains[(3 * i + round) % SIZE];

			assert_int_equal(chain->in.left, 1 + chain->head);
			virtq_done(&f.queue, chain);
		}
		line_publish(&f.line, &f.queue);
		for (int i = 0; i < SIZE; i++)
			assert_int_equal(f.used->ring[i].id, (3 * i + round) % SIZE);
	}
	teardown(&f);
}

static void test_unpop(void **state)
{
	struct chain *first, *second;
	struct fixture f;
	char text[4];

	(void)state;
	started(&f, 0);
	f.desc[1] = buffer(DATA, 4, NEXT, 2);
	f.desc[2] = buffer(DATA, 4, WRITE, 0);
	f.desc[3] = buffer(DATA, 9, 0, 0);
	post(&f, 1);
	post(&f, 3);
	for (int i = 0; i < 3 * SIZE; i++) {
		first = virtq_pop(&f.queue);
		assert_non_null(first);
		assert_int_equal(first->head, 1);
		assert_int_equal(chain_pull(first, text, 3), 3);
		assert_int_equal(chain_push(first, text, 4), 4);
		virtq_unpop(&f.queue, first);
		assert_int_equal(f.queue.free_count, SIZE);
	}
	/* Unread, and in its place before the other. */
	first = virtq_pop(&f.queue);
	assert_int_equal(first->head, 1);
	assert_int_equal(first->out.left, 4);
	assert_int_equal(first->in.done, 0);
	second = virtq_pop(&f.queue);
	assert_int_equal(second->head, 3);
	virtq_unpop(&f.queue, second);
	virtq_done(&f.queue, first);
	second = virtq_pop(&f.queue);
	assert_int_equal(second->head, 3);
	virtq_done(&f.queue, second);
	line_publish(&f.line, &f.queue);
	assert_int_equal(f.used->idx, 2);
	assert_int_equal(f.used->ring[1].id, 3);
	teardown(&f);
}

static void test_requests(void **state)
{
	struct chain *chains[SIZE];
	struct fixture f;

	(void)state;
	started(&f, 0);
	for (uint16_t i = 0; i < SIZE; i++) {
		f.desc[SIZE - 1 - i] = buffer(DATA, 1, 0, 0);
		post(&f, SIZE - 1 - i);
		chains[i] = virtq_pop(&f.queue);
		memset(chain_request(chains[i]), i, 24);
	}
	for (uint16_t i = 0; i < SIZE; i++) {
		const uint8_t *request = chain_request(chains[i]);

		for (int j = 0; j < 24; j++)
			assert_int_equal(request[j], i);
	}
	teardown(&f);
}

/* ---- long chains ---- */

/* As many iovecs as there may be, with the cut in the middle, at a border, and at both ends. */
static void test_full_block(void **state)
{
	static const size_t cuts[] = {
		1, 3, 4, 5, 8, 2046, 4 * 1022, 4 * 1022 + 1, 4 * 1023 - 1, 4 * 1023,
	};
	const unsigned int count = CHAIN_IOV_MAX - 1;
	struct chain *chain;
	struct fixture f;

	(void)state;
	started(&f, INDIRECT);
	for (size_t i = 0; i < ARRAY_SIZE(cuts); i++) {
		uint8_t *data = at(&f, DATA), text[4096];

		for (uint16_t j = 0; j < count; j++)
			f.table[j] = buffer(DATA + 4 * j, 4,
					    WRITE | (j + 1u < count ? NEXT : 0), j + 1);
		f.desc[0] = buffer(TABLE, count * 16, TO_TABLE, 0);
		post(&f, 0);
		chain = virtq_pop(&f.queue);
		assert_non_null(chain);
		assert_int_equal(chain->in.count, count);
		assert_int_equal(chain_split(chain, cuts[i]), 0);
		assert_int_equal(chain->tail.left, cuts[i]);
		assert_int_equal(chain->in.left, 4 * count - cuts[i]);
		assert_int_equal(chain->in.count + chain->tail.count, count + (cuts[i] % 4 != 0));

		memset(text, 'T', sizeof(text));
		assert_int_equal(chain_push_tail(chain, text, sizeof(text)), cuts[i]);
		memset(text, 'I', sizeof(text));
		assert_int_equal(chain_push(chain, text, sizeof(text)), 4 * count - cuts[i]);
		for (size_t j = 0; j < 4 * count; j++)
			assert_int_equal(data[j], j < 4 * count - cuts[i] ? 'I' : 'T');
		assert_int_equal(chain->in.count + chain->tail.count, 0);
		virtq_done(&f.queue, chain);
		line_publish(&f.line, &f.queue);
		assert_int_equal(f.used->ring[i % SIZE].len, 4 * count);
	}
	teardown(&f);
}

static void test_split(void **state)
{
	struct chain *chain;
	struct fixture f;

	(void)state;
	started(&f, 0);
	f.desc[0] = buffer(DATA, 4, 0 | NEXT, 1);
	f.desc[1] = buffer(DATA + 0x10, 6, WRITE | NEXT, 2);
	f.desc[2] = buffer(DATA + 0x20, 6, WRITE, 2);
	post(&f, 0);
	chain = virtq_pop(&f.queue);
	assert_int_equal(chain_split(chain, 13), -EINVAL);
	assert_int_equal(chain_split(chain, 0), -EINVAL);
	assert_int_equal(chain->in.left, 12);
	/* What was written before stays where it is. */
	assert_int_equal(chain_push(chain, "12345", 5), 5);
	assert_int_equal(chain_split(chain, 8), -EINVAL);
	assert_int_equal(chain_split(chain, 2), 0);
	assert_int_equal(chain->in.left, 5);
	assert_int_equal(chain_push_tail(chain, "tt", 3), 2);
	assert_int_equal(chain_push(chain, "67890xx", 7), 5);
	assert_memory_equal(at(&f, DATA + 0x10), "123456", 6);
	assert_memory_equal(at(&f, DATA + 0x20), "7890tt", 6);
	virtq_done(&f.queue, chain);

	/* All of it, after a cut within the first iovec. */
	post(&f, 0);
	chain = virtq_pop(&f.queue);
	assert_int_equal(chain_push(chain, "1", 1), 1);
	assert_int_equal(chain_split(chain, 11), 0);
	assert_int_equal(chain->in.left, 0);
	assert_int_equal(chain->in.count, 0);
	assert_int_equal(chain_push(chain, "x", 1), 0);
	assert_int_equal(chain_push_tail(chain, "23456789abc", 11), 11);
	assert_memory_equal(at(&f, DATA + 0x10), "123456", 6);
	assert_memory_equal(at(&f, DATA + 0x20), "789abc", 6);
	virtq_done(&f.queue, chain);
	teardown(&f);
}

/* The used length has 32 bits. */
static void test_sum(void **state)
{
	const struct mem_backing backing = { 0 };
	struct chain *chain;
	struct fixture f;

	(void)state;
	started(&f, 0);
	assert_int_equal(mem_add(&f.ram.mem, LARGE, LARGE_LEN, &backing), 0);
	for (uint16_t i = 0; i < 4; i++)
		f.desc[i] = buffer(LARGE, LARGE_LEN, i < 3 ? NEXT : WRITE, i + 1);
	f.desc[3].len--;
	post(&f, 0);
	chain = virtq_pop(&f.queue);
	assert_non_null(chain);
	assert_int_equal(chain->out.left, 3 * (size_t)LARGE_LEN);
	cursor_advance(&chain->in, LARGE_LEN - 1);
	virtq_done(&f.queue, chain);
	line_publish(&f.line, &f.queue);
	assert_int_equal(f.used->ring[0].len, LARGE_LEN - 1);

	f.desc[3].len++;
	post(&f, 0);
	assert_null(virtq_pop(&f.queue));
	assert_true(failed(&f));
	teardown(&f);
}

/* ---- notifications ---- */

/* Without an event index: doorbells are off while there is work, on when the worker is to sleep. */
static void test_flags(void **state)
{
	struct chain *chain;
	struct fixture f;

	(void)state;
	started(&f, 0);
	assert_null(virtq_pop(&f.queue));
	assert_false(virtq_arm(&f.queue));
	assert_int_equal(f.used->flags, 0);
	for (uint16_t i = 0; i < 2; i++) {
		f.desc[i] = buffer(DATA, 1, 0, 0);
		post(&f, i);
	}
	chain = virtq_pop(&f.queue);
	assert_int_equal(f.used->flags, VRING_USED_F_NO_NOTIFY);
	virtq_done(&f.queue, chain);
	chain = virtq_pop(&f.queue);
	/* There is work that was not looked at: nothing to ask for. */
	assert_false(virtq_arm(&f.queue));
	assert_int_equal(f.used->flags, VRING_USED_F_NO_NOTIFY);
	assert_null(virtq_pop(&f.queue));
	assert_false(virtq_waiting(&f.queue));
	assert_int_equal(f.used->flags, VRING_USED_F_NO_NOTIFY);
	assert_false(virtq_arm(&f.queue));
	assert_int_equal(f.used->flags, 0);
	/* Once is enough. */
	f.used->flags = 0x5555;
	assert_false(virtq_arm(&f.queue));
	assert_int_equal(f.used->flags, 0x5555);

	/* One notification for what a turn returned, unless the driver does not want any. */
	assert_true(line_publish(&f.line, &f.queue));
	f.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	virtq_done(&f.queue, chain);
	assert_false(line_publish(&f.line, &f.queue));
	assert_int_equal(f.used->idx, 2);
	/* Asked for again: not for what was published before. */
	f.avail->flags = 0;
	assert_false(line_publish(&f.line, &f.queue));
	teardown(&f);
}

static void test_event_index(void **state)
{
	struct chain *chains[4];
	struct fixture f;

	(void)state;
	started(&f, EVENT_IDX);
	*avail_event(&f) = 0x5555;
	f.avail->flags = VRING_AVAIL_F_NO_INTERRUPT; /* means nothing then */
	for (uint16_t i = 0; i < 4; i++) {
		f.desc[i] = buffer(DATA, 1, 0, 0);
		post(&f, i);
	}
	for (int i = 0; i < 4; i++)
		chains[i] = virtq_pop(&f.queue);
	/* Only when the queue was found empty and the worker is to sleep, at the next one. */
	assert_false(virtq_arm(&f.queue));
	assert_null(virtq_pop(&f.queue));
	assert_int_equal(*avail_event(&f), 0x5555);
	assert_false(virtq_arm(&f.queue));
	assert_int_equal(*avail_event(&f), 4);
	assert_int_equal(f.used->flags, 0);

	/* The driver wants to hear of the third, and hears of it once. */
	*used_event(&f) = 2;
	virtq_done(&f.queue, chains[0]);
	virtq_done(&f.queue, chains[1]);
	assert_false(line_publish(&f.line, &f.queue));
	virtq_done(&f.queue, chains[2]);
	assert_true(line_publish(&f.line, &f.queue));
	virtq_done(&f.queue, chains[3]);
	assert_false(line_publish(&f.line, &f.queue));
	assert_false(line_publish(&f.line, &f.queue));
	teardown(&f);
}

/* The driver acts in the middle of ours. */
static void post_one_more(void *arg)
{
	struct fixture *f = arg;

	f->desc[1] = buffer(DATA, 9, 0, 0);
	post(f, 1);
}

/* Found without a doorbell, by a worker that looks before it sleeps. */
static void test_waiting(void **state)
{
	struct fixture f;

	(void)state;
	started(&f, 0);
	assert_false(virtq_waiting(&f.queue));
	post_one_more(&f);
	/* Whoever has not yet found it empty is still to be kicked. */
	assert_false(virtq_waiting(&f.queue));
	assert_non_null(virtq_pop(&f.queue));
	assert_null(virtq_pop(&f.queue));
	assert_false(virtq_waiting(&f.queue));
	f.desc[2] = buffer(DATA, 9, 0, 0);
	post(&f, 2);
	assert_true(virtq_waiting(&f.queue));
	virtq_deactivate(&f.queue);
	assert_false(virtq_waiting(&f.queue));
	assert_false(virtq_arm(&f.queue));
	teardown(&f);
}

/* Between the look that found nothing and the request for a doorbell: found by a second look. */
static void test_posted_meanwhile(void **state)
{
	(void)state;
	for (int events = 0; events < 2; events++) {
		struct chain *chain;
		struct fixture f;

		started(&f, events ? EVENT_IDX : 0);
		f.desc[0] = buffer(DATA, 1, 0, 0);
		post(&f, 0);
		assert_non_null(virtq_pop(&f.queue));
		assert_null(virtq_pop(&f.queue));
		ram_at_next_write(f.used, post_one_more, &f);
		assert_true(virtq_arm(&f.queue));
		chain = virtq_pop(&f.queue);
		assert_non_null(chain);
		assert_int_equal(chain->head, 1);
		assert_null(virtq_pop(&f.queue));
		assert_false(virtq_arm(&f.queue));
		if (events)
			assert_int_equal(*avail_event(&f), 2);
		assert_int_equal(f.used->flags, 0);
		teardown(&f);
	}
}

static void want_the_next(void *arg)
{
	struct fixture *f = arg;

	*used_event(f) = 0;
	f->avail->flags = 0;
}

/* While we publish: what the driver wants is looked up after that, not before. */
static void test_wanted_meanwhile(void **state)
{
	(void)state;
	for (int events = 0; events < 2; events++) {
		struct chain *chain;
		struct fixture f;

		started(&f, events ? EVENT_IDX : 0);
		f.desc[0] = buffer(DATA, 1, 0, 0);
		post(&f, 0);
		f.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
		*used_event(&f) = 0x8000;
		chain = virtq_pop(&f.queue);
		virtq_done(&f.queue, chain);
		ram_at_next_write(f.used, want_the_next, &f);
		assert_true(line_publish(&f.line, &f.queue));
		teardown(&f);
	}
}

/* Both indices and both events go past 65535; the driver asks for an interrupt at each 5th. */
static void wrap(uint64_t features)
{
	const uint32_t total = 3 * 65536 + 17;
	struct chain *held[SIZE + 1];
	uint32_t posted = 0, interrupts = 0, wanted = 0, seen = 0;
	struct fixture f;

	started(&f, features);
	*used_event(&f) = 4;
	while (seen < total) {
		unsigned int batch = 1 + posted % SIZE, count = 0;

		for (unsigned int i = 0; i < batch; i++, posted++) {
			f.desc[posted % SIZE] = buffer(DATA, 1 + posted % 251, WRITE, 0);
			post(&f, posted % SIZE);
		}
		while ((held[count] = virtq_pop(&f.queue))) {
			assert_int_equal(held[count]->in.left, 1 + (seen + count) % 251);
			count++;
		}
		assert_int_equal(count, batch);
		assert_false(virtq_arm(&f.queue));
		if (features & EVENT_IDX)
			assert_int_equal(*avail_event(&f), (uint16_t)posted);
		for (unsigned int i = 0; i < count; i++) {
			cursor_advance(&held[i]->in, held[i]->in.left);
			virtq_done(&f.queue, held[i]);
		}
		interrupts += line_publish(&f.line, &f.queue);
		for (; seen != posted; seen++) {
			const struct vring_used_elem *elem = &f.used->ring[seen % SIZE];

			assert_int_equal(elem->id, seen % SIZE);
			assert_int_equal(elem->len, 1 + seen % 251);
		}
		assert_int_equal(f.used->idx, (uint16_t)seen);
		if (!(features & EVENT_IDX)) {
			wanted++;
		} else if ((int16_t)(uint16_t)(seen - *used_event(&f)) > 0) {
			wanted++;
			*used_event(&f) = (uint16_t)(seen + 4);
		}
		assert_int_equal(interrupts, wanted);
	}
	assert_false(failed(&f));
	teardown(&f);
}

static void test_wrap(void **state)
{
	(void)state;
	wrap(0);
	wrap(EVENT_IDX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layout),
		cmocka_unit_test(test_layout_at_the_end_of_memory),
		cmocka_unit_test(test_frozen),
		cmocka_unit_test(test_smaller_next_time),
		cmocka_unit_test(test_reset_before_publish),
		cmocka_unit_test(test_cursors),
		cmocka_unit_test(test_used_length_is_what_was_written),
		cmocka_unit_test(test_looked_at_once),
		cmocka_unit_test(test_buffer_across_regions),
		cmocka_unit_test(test_indirect),
		cmocka_unit_test(test_broken_rules),
		cmocka_unit_test(test_indirect_not_agreed),
		cmocka_unit_test(test_posted_twice),
		cmocka_unit_test(test_more_than_a_ring_full),
		cmocka_unit_test(test_all_in_flight),
		cmocka_unit_test(test_unpop),
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_full_block),
		cmocka_unit_test(test_split),
		cmocka_unit_test(test_sum),
		cmocka_unit_test(test_flags),
		cmocka_unit_test(test_event_index),
		cmocka_unit_test(test_waiting),
		cmocka_unit_test(test_posted_meanwhile),
		cmocka_unit_test(test_wanted_meanwhile),
		cmocka_unit_test(test_wrap),
	};

	log_set_level(LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
