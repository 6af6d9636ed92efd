// SPDX-License-Identifier: Apache-2.0
/* Packed rings against a driver that keeps to the rules, and one that does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <linux/virtio_ring.h>
#include "devices/virtio/ring.h"
#include "devices/virtio/virtio.h"
#include "tests/unit/line.h"
#include "tests/unit/ram.h"

#define SIZE_MAX_RING 64
#define SIZE 8

#define RING RAM_A
#define DRIVER (RAM_A + 0x1000) /* the event suppression areas */
#define DEVICE (RAM_A + 0x2000)
#define TABLE (RAM_A + 0x3000) /* an indirect one, up to DATA */
#define DATA (RAM_A + 0x8000)

#define PACKED (1ULL << VIRTIO_F_RING_PACKED)
#define EVENT_IDX (1ULL << VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT (1ULL << VIRTIO_RING_F_INDIRECT_DESC)

#define NEXT VRING_DESC_F_NEXT
#define WRITE VRING_DESC_F_WRITE
#define TO_TABLE VRING_DESC_F_INDIRECT
#define AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define USED (1u << VRING_PACKED_DESC_F_USED)
#define WRAP (1u << VRING_PACKED_EVENT_F_WRAP_CTR)

static const struct virtio_class class = { .name = "test" };

struct fixture {
	struct ram ram;
	struct virtio_dev dev;
	struct line line;
	struct virtq queue;
	struct vring_packed_desc *ring, *table;
	struct vring_packed_desc_event *driver, *device;
	/* The driver's positions. */
	uint16_t next, seen;
	bool wrap, seen_wrap;
};

static void setup(struct fixture *f)
{
	*f = (struct fixture){ .dev = { .class = &class, .mem = &f->ram.mem } };
	line_init(&f->line, &f->dev);
	memcpy(f->dev.name, "test0", 6);
	ram_init(&f->ram);
	f->ring = ram_at(&f->ram, RING);
	f->table = ram_at(&f->ram, TABLE);
	f->driver = ram_at(&f->ram, DRIVER);
	f->device = ram_at(&f->ram, DEVICE);
	assert_int_equal(virtq_init(&f->queue, &f->dev, 3, SIZE_MAX_RING, 24), 0);
}

static void teardown(struct fixture *f)
{
	virtq_free(&f->queue);
	ram_free(&f->ram);
}

static int activate(struct fixture *f, uint16_t size, uint64_t ring, uint64_t driver,
		    uint64_t device, uint64_t features)
{
	f->queue.layout = (struct virtq_layout){ size, true, ring, driver, device };
	return virtq_activate(&f->queue, &f->ram.mem, features | PACKED);
}

/* From the beginning of an empty ring: after a reset, or for the first time. */
static void start(struct fixture *f, uint16_t size, uint64_t features)
{
	virtq_deactivate(&f->queue);
	virtq_rewind(&f->queue);
	f->dev.status = 0;
	f->next = f->seen = 0;
	f->wrap = f->seen_wrap = true;
	memset(f->ring, 0, RAM_LEN);
	assert_int_equal(activate(f, size, RING, DRIVER, DEVICE, features), 0);
}

static void started(struct fixture *f, uint64_t features)
{
	setup(f);
	start(f, SIZE, features);
}

static bool failed(const struct fixture *f)
{
	return f->dev.status & VIRTIO_CONFIG_S_NEEDS_RESET;
}

static struct vring_packed_desc buffer(uint64_t addr, uint32_t len, uint16_t id, uint16_t flags)
{
	return (struct vring_packed_desc){ .addr = addr, .len = len, .id = id, .flags = flags };
}

static void step(const struct fixture *f, uint16_t *position, bool *wrap, uint16_t by)
{
	*position += by;
	if (*position >= f->queue.size) {
		*position -= f->queue.size;
		*wrap = !*wrap;
	}
}

/* Makes one descriptor available, in the next entry. */
static void post(struct fixture *f, struct vring_packed_desc desc)
{
	desc.flags |= f->wrap ? AVAIL : USED;
	f->ring[f->next] = desc;
	step(f, &f->next, &f->wrap, 1);
}

/* A chain of so many buffers, which only its last entry names. */
static void post_chain(struct fixture *f, uint16_t id, uint16_t count)
{
	for (uint16_t i = 1; i <= count; i++)
		post(f, buffer(DATA, 1, i == count ? id : UINT16_MAX,
			       WRITE | (i == count ? 0 : NEXT)));
}

/* The next used entry, which skips the count entries of its chain; false when there is none. */
static bool take(struct fixture *f, uint16_t count, uint16_t *ret_id, uint32_t *ret_len)
{
	const struct vring_packed_desc *desc = &f->ring[f->seen];

	if (!!(desc->flags & AVAIL) != f->seen_wrap || !!(desc->flags & USED) != f->seen_wrap)
		return false;
	*ret_id = desc->id;
	*ret_len = desc->len;
	step(f, &f->seen, &f->seen_wrap, count);
	return true;
}

static void assert_taken(struct fixture *f, uint16_t count, uint16_t want)
{
	uint32_t len;
	uint16_t id;

	assert_true(take(f, count, &id, &len));
	assert_int_equal(id, want);
}

static void assert_none_used(struct fixture *f)
{
	uint32_t len;
	uint16_t id;

	assert_false(take(f, 1, &id, &len));
}

static struct chain *pop(struct fixture *f, uint16_t head)
{
	struct chain *chain = virtq_pop(&f->queue);

	assert_non_null(chain);
	assert_int_equal(chain->head, head);
	return chain;
}

/* ---- layout ---- */

static void test_layout(void **state)
{
	static const struct {
		uint16_t size;
		uint64_t ring, driver, device;
	} wrong[] = {
		{ 0, RING, DRIVER, DEVICE },
		{ SIZE_MAX_RING + 1, RING, DRIVER, DEVICE },
		{ 0x8000, RING, DRIVER, DEVICE },
		{ SIZE, RING + 8, DRIVER, DEVICE },
		{ SIZE, RING, DRIVER + 2, DEVICE },
		{ SIZE, RING, DRIVER, DEVICE + 2 },
		/* Across two regions that touch: a ring is one piece. */
		{ SIZE, RAM_B - 16, DRIVER, DEVICE },
		/* Outside, and partly. */
		{ SIZE, 0, DRIVER, DEVICE },
		{ SIZE, RING, RAM_A - 4, DEVICE },
		{ SIZE, RING, DRIVER, RAM_B + RAM_LEN },
		{ SIZE, RAM_LAST + RAM_PAGE - SIZE * 16 + 16, DRIVER, DEVICE },
		{ SIZE, UINT64_MAX - 15, DRIVER, DEVICE },
		{ SIZE, RING, UINT64_MAX - 3, DEVICE },
		{ SIZE, RING, DRIVER, UINT64_MAX - 3 },
	};
	struct fixture f;

	(void)state;
	setup(&f);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		assert_int_equal(activate(&f, wrong[i].size, wrong[i].ring, wrong[i].driver,
					  wrong[i].device, 0), -EINVAL);
		assert_false(f.queue.active);
		assert_null(virtq_pop(&f.queue));
		assert_false(line_publish(&f.line, &f.queue));
		assert_false(virtq_arm(&f.queue));
		virtq_deactivate(&f.queue);
	}
	teardown(&f);
}

static void test_layout_at_the_end_of_memory(void **state)
{
	const uint64_t end = RAM_LAST + RAM_PAGE;
	const uint64_t areas[][3] = {
		{ end - SIZE * 16, DRIVER, DEVICE }, { RING, end - 4, DEVICE }, { RING, DRIVER, end - 4 },
	};
	struct fixture f;

	(void)state;
	setup(&f);
	for (size_t i = 0; i < ARRAY_SIZE(areas); i++) {
		start(&f, SIZE, EVENT_IDX);
		virtq_deactivate(&f.queue);
		f.ring = ram_at(&f.ram, areas[i][0]);
		assert_int_equal(activate(&f, SIZE, areas[i][0], areas[i][1], areas[i][2], EVENT_IDX),
				 0);
		for (uint16_t j = 0; j < SIZE; j++)
			post_chain(&f, j, 1);
		for (uint16_t j = 0; j < SIZE; j++)
			virtq_done(&f.queue, pop(&f, j));
		assert_null(virtq_pop(&f.queue));
		assert_true(line_publish(&f.line, &f.queue));
		assert_false(virtq_arm(&f.queue));
		f.ring = ram_at(&f.ram, RING);
	}
	teardown(&f);
}

/* What the driver writes into its registers later does not matter. */
static void test_frozen(void **state)
{
	struct fixture f;

	(void)state;
	started(&f, 0);
	f.queue.layout = (struct virtq_layout){ .size = 3 };
	for (uint16_t i = 0; i < 3 * SIZE; i++) {
		post_chain(&f, i % SIZE, 1);
		virtq_done(&f.queue, pop(&f, i % SIZE));
		line_publish(&f.line, &f.queue);
		assert_taken(&f, 1, i % SIZE);
	}
	teardown(&f);
}

/* What was returned in the turn of the reset is not published: the ring is the guest's again. */
static void test_reset_before_publish(void **state)
{
	struct fixture f;

	(void)state;
	started(&f, 0);
	post_chain(&f, 5, 2);
	virtq_done(&f.queue, pop(&f, 5));
	virtq_deactivate(&f.queue);
	assert_false(line_publish(&f.line, &f.queue));
	assert_none_used(&f);
	start(&f, SIZE, 0);
	assert_false(line_publish(&f.line, &f.queue));
	assert_none_used(&f);
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
	memcpy(ram_at(&f.ram, DATA), "request", 7);
	/* The id stands in the last entry alone: section 2.8.6. */
	post(&f, buffer(DATA, 3, 1, NEXT));
	post(&f, buffer(DATA + 3, 4, 99, NEXT));
	post(&f, buffer(DATA + 0x100, 2, 1, WRITE | NEXT));
	post(&f, buffer(DATA + 0x200, 6, 7, WRITE));

	chain = pop(&f, 7);
	assert_int_equal(chain->descs, 4);
	assert_int_equal(chain->out.left, 7);
	assert_int_equal(chain->in.left, 8);
	assert_int_equal(chain_pull(chain, text, 16), 7);
	assert_string_equal(text, "request");
	assert_int_equal(chain_push(chain, "reply", 5), 5);
	assert_memory_equal(ram_at(&f.ram, DATA + 0x100), "re", 3);
	assert_memory_equal(ram_at(&f.ram, DATA + 0x200), "ply", 4);
	virtq_done(&f.queue, chain);

	/* Not before it is published; then one entry, where the chain began, for all four. */
	assert_none_used(&f);
	assert_true(line_publish(&f.line, &f.queue));
	assert_int_equal(f.ring[0].id, 7);
	assert_int_equal(f.ring[0].len, 5);
	assert_int_equal(f.ring[0].flags, AVAIL | USED | WRITE);
	assert_taken(&f, 4, 7);
	assert_false(line_publish(&f.line, &f.queue));

	/* The next used entry is behind them. Nothing was written: no length counts. */
	post(&f, buffer(DATA, 3, 0, 0));
	virtq_done(&f.queue, pop(&f, 0));
	line_publish(&f.line, &f.queue);
	assert_int_equal(f.ring[4].flags, AVAIL | USED);
	assert_int_equal(f.ring[4].len, 0);
	assert_taken(&f, 1, 0);
	teardown(&f);
}

/* Chains of one to five entries go round rings of any size, and cross the end wherever they may. */
static void test_wrap_around(void **state)
{
	struct fixture f;

	(void)state;
	setup(&f);
	for (uint16_t size = 1; size <= 13; size++) {
		start(&f, size, EVENT_IDX);
		for (unsigned int i = 0; i < 40u * size; i++) {
			uint16_t id = (uint16_t)(i % size);
			uint16_t count = (uint16_t)util_min(1 + i % 5, size);
			struct chain *chain;

			post_chain(&f, id, count);
			chain = pop(&f, id);
			assert_int_equal(chain->descs, count);
			assert_int_equal(chain->in.left, count);
			cursor_advance(&chain->in, count);
			virtq_done(&f.queue, chain);
			assert_null(virtq_pop(&f.queue));
			line_publish(&f.line, &f.queue);
			assert_int_equal(f.ring[f.seen].len, count);
			assert_taken(&f, count, id);
			assert_none_used(&f);
		}
	}
	teardown(&f);
}

/* The guest changes the ring and a table after we looked. */
static void test_looked_at_once(void **state)
{
	struct chain *chain;
	struct fixture f;
	char text[5] = { 0 };

	(void)state;
	started(&f, INDIRECT);
	f.table[0] = buffer(DATA, 4, 0, 0);
	f.table[1] = buffer(DATA + 0x10, 4, 0, WRITE);
	post(&f, buffer(TABLE, 32, 1, TO_TABLE));
	chain = pop(&f, 1);
	memset(f.ring, 0xff, DATA - RING);
	memcpy(ram_at(&f.ram, DATA), "same", 4);
	assert_int_equal(chain_pull(chain, text, 9), 4);
	assert_string_equal(text, "same");
	assert_int_equal(chain_push(chain, "back", 9), 4);
	assert_memory_equal(ram_at(&f.ram, DATA + 0x10), "back", 4);
	virtq_done(&f.queue, chain);
	line_publish(&f.line, &f.queue);
	assert_int_equal(f.ring[0].len, 4);
	assert_taken(&f, 1, 1);
	teardown(&f);
}

/* Tables may lie anywhere, across regions too; their entries' ids and NEXT flags mean nothing. */
static void test_indirect(void **state)
{
	static const uint64_t tables[] = {
		TABLE, TABLE + 1, RAM_B - 16, RAM_B - 5, RAM_B - 32, RAM_LAST + RAM_PAGE - 32,
	};
	struct chain *chain;
	struct fixture f;

	(void)state;
	started(&f, INDIRECT);
	for (uint16_t i = 0; i < 3 * ARRAY_SIZE(tables); i++) {
		const uint64_t gpa = tables[i % ARRAY_SIZE(tables)];
		const struct vring_packed_desc table[] = {
			buffer(DATA, 3, UINT16_MAX, i & 1 ? NEXT : 0),
			buffer(DATA + 8, 5, 99, WRITE | (i & 2 ? NEXT : 0)),
		};

		assert_int_equal(mem_write(&f.ram.mem, gpa, table, sizeof(table)), 0);
		post(&f, buffer(gpa, sizeof(table), i % SIZE, TO_TABLE | (i & 4 ? WRITE : 0)));
		chain = pop(&f, i % SIZE);
		assert_int_equal(chain->descs, 1);
		assert_int_equal(chain->out.left, 3);
		assert_int_equal(chain->in.left, 5);
		assert_ptr_equal(chain->in.iov->iov_base, ram_at(&f.ram, DATA + 8));
		virtq_done(&f.queue, chain);
		line_publish(&f.line, &f.queue);
		assert_taken(&f, 1, i % SIZE);
	}
	/* A table may be longer than the ring. */
	for (uint16_t i = 0; i < CHAIN_IOV_MAX - 1; i++)
		f.table[i] = buffer(DATA + i, 1, 0, 0);
	post(&f, buffer(TABLE, (CHAIN_IOV_MAX - 1) * 16, 0, TO_TABLE));
	assert_int_equal(pop(&f, 0)->out.left, CHAIN_IOV_MAX - 1);
	teardown(&f);
}

/* Section 2.8.1: both flags tell, and each round means something else by them. */
static void test_availability(void **state)
{
	static const uint16_t flags[] = { 0, AVAIL, USED, AVAIL | USED };
	struct fixture f;

	(void)state;
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
			started(&f, 0);
			for (uint16_t j = 0; round && j < SIZE; j++) {
				post_chain(&f, j, 1);
				virtq_done(&f.queue, pop(&f, j));
			}
			line_publish(&f.line, &f.queue);
			f.ring[0] = buffer(DATA, 1, 0, flags[i]);
			assert_int_equal(!!virtq_pop(&f.queue), flags[i] == (round ? USED : AVAIL));
			assert_false(failed(&f));
			teardown(&f);
		}
	}
}

/* ---- the order of things ---- */

/* A driver reads in the ring's order: what a turn returns becomes visible with the first of it. */
static void test_out_of_order(void **state)
{
	struct chain *chains[3];
	struct fixture f;

	(void)state;
	started(&f, 0);
	/* Twice, so that the second time crosses the end. */
	for (int round = 0; round < 2; round++) {
		for (uint16_t i = 0; i < 3; i++)
			post_chain(&f, i, i + 1);
		for (uint16_t i = 0; i < 3; i++)
			chains[i] = pop(&f, i);
		assert_null(virtq_pop(&f.queue));
		virtq_done(&f.queue, chains[2]);
		virtq_done(&f.queue, chains[0]);
		assert_none_used(&f);
		line_publish(&f.line, &f.queue);
		assert_taken(&f, 3, 2);
		assert_taken(&f, 1, 0);
		assert_none_used(&f);
		virtq_done(&f.queue, chains[1]);
		assert_none_used(&f);
		line_publish(&f.line, &f.queue);
		assert_taken(&f, 2, 1);
		assert_none_used(&f);
	}
	teardown(&f);
}

static void test_all_in_flight(void **state)
{
	struct chain *chains[SIZE];
	struct fixture f;

	(void)state;
	started(&f, 0);
	for (uint16_t round = 0; round < 5; round++) {
		for (uint16_t i = 0; i < SIZE; i++)
			post_chain(&f, (uint16_t)(SIZE - 1 - i), 1);
		for (uint16_t i = 0; i < SIZE; i++) {
			chains[i] = pop(&f, (uint16_t)(SIZE - 1 - i));
			for (int j = 0; j < i; j++)
				assert_ptr_not_equal(chains[i]->block, chains[j]->block);
			memset(chain_request(chains[i]), i, 24);
		}
		assert_null(virtq_pop(&f.queue));
		assert_false(failed(&f));
		for (uint16_t i = 0; i < SIZE; i++) {
			const uint8_t *request = chain_request(chains[i]);

			for (int j = 0; j < 24; j++)
				assert_int_equal(request[j], i);
		}
		for (uint16_t i = 0; i < SIZE; i++)
			virtq_done(&f.queue, chains[(3 * i + round) % SIZE]);
		line_publish(&f.line, &f.queue);
		for (uint16_t i = 0; i < SIZE; i++)
			assert_taken(&f, 1, (uint16_t)(SIZE - 1 - (3 * i + round) % SIZE));
		assert_none_used(&f);
	}
	teardown(&f);
}

/* Also over the end, where the wrap counter goes back with it. */
static void test_unpop(void **state)
{
	struct chain *first, *second;
	struct fixture f;
	char text[4];

	(void)state;
	started(&f, 0);
	for (uint16_t i = 0; i < 5 * SIZE; i++) {
		post(&f, buffer(DATA, 4, 1, NEXT));
		post(&f, buffer(DATA, 4, 1, WRITE));
		post_chain(&f, 3, 1);
		first = pop(&f, 1);
		assert_int_equal(chain_pull(first, text, 3), 3);
		assert_int_equal(chain_push(first, text, 4), 4);
		virtq_unpop(&f.queue, first);
		assert_int_equal(f.queue.free_count, SIZE);
		/* Unread, and in its place before the other. */
		first = pop(&f, 1);
		assert_int_equal(first->out.left, 4);
		assert_int_equal(first->in.done, 0);
		second = pop(&f, 3);
		virtq_unpop(&f.queue, second);
		virtq_done(&f.queue, first);
		virtq_done(&f.queue, pop(&f, 3));
		assert_null(virtq_pop(&f.queue));
		line_publish(&f.line, &f.queue);
		assert_taken(&f, 2, 1);
		assert_taken(&f, 1, 3);
	}
	teardown(&f);
}

/* A pause: what is in flight was popped last, and is there again when the queue goes on. */
static void test_put_back(void **state)
{
	struct fixture f;

	(void)state;
	started(&f, 0);
	for (uint16_t i = 0; i < 5 * SIZE; i++) {
		for (uint16_t id = 0; id < 3; id++)
			post_chain(&f, id, 2);
		virtq_done(&f.queue, pop(&f, 0));
		pop(&f, 1);
		pop(&f, 2);
		line_publish(&f.line, &f.queue);
		virtq_deactivate(&f.queue);
		assert_null(virtq_pop(&f.queue));
		assert_int_equal(activate(&f, SIZE, RING, DRIVER, DEVICE, 0), 0);
		virtq_done(&f.queue, pop(&f, 1));
		virtq_done(&f.queue, pop(&f, 2));
		assert_null(virtq_pop(&f.queue));
		line_publish(&f.line, &f.queue);
		for (uint16_t id = 0; id < 3; id++)
			assert_taken(&f, 2, id);
		assert_none_used(&f);
	}
	assert_false(failed(&f));
	teardown(&f);
}

/* ---- drivers that break the rules: each begins where entry 0 is the next ---- */

static void chain_without_an_end(struct fixture *f)
{
	for (int i = 0; i < SIZE; i++)
		post(f, buffer(DATA, 1, 0, NEXT));
}

static void id_beyond_the_ring(struct fixture *f)
{
	post(f, buffer(DATA, 1, SIZE, 0));
}

static void id_far_beyond_the_ring(struct fixture *f)
{
	post(f, buffer(DATA, 1, UINT16_MAX, 0));
}

static void empty_buffer(struct fixture *f)
{
	post(f, buffer(DATA, 0, 0, 0));
}

static void writable_before_readable(struct fixture *f)
{
	post(f, buffer(DATA, 1, 0, WRITE | NEXT));
	post(f, buffer(DATA, 1, 0, 0));
}

static void buffer_outside(struct fixture *f)
{
	post(f, buffer(RAM_A - 1, 1, 0, 0));
}

static void buffer_ends_outside(struct fixture *f)
{
	post(f, buffer(RAM_B + RAM_LEN - 1, 2, 0, 0));
}

static void second_buffer_outside(struct fixture *f)
{
	post(f, buffer(DATA, 1, 0, NEXT));
	post(f, buffer(RAM_LAST + RAM_PAGE, 1, 0, WRITE));
}

static void buffer_wraps(struct fixture *f)
{
	post(f, buffer(UINT64_MAX, 2, 0, 0));
}

static void longest_buffer(struct fixture *f)
{
	post(f, buffer(RAM_A, UINT32_MAX, 0, 0));
}

static void table_within_a_chain(struct fixture *f)
{
	f->table[0] = buffer(DATA, 1, 0, 0);
	post(f, buffer(DATA, 1, 0, NEXT));
	post(f, buffer(TABLE, 16, 0, TO_TABLE));
}

static void table_with_a_successor(struct fixture *f)
{
	f->table[0] = buffer(DATA, 1, 0, 0);
	post(f, buffer(TABLE, 16, 0, TO_TABLE | NEXT));
	post(f, buffer(DATA, 1, 0, 0));
}

static void table_within_a_table(struct fixture *f)
{
	f->table[0] = buffer(TABLE + 16, 16, 0, TO_TABLE);
	f->table[1] = buffer(DATA, 1, 0, 0);
	post(f, buffer(TABLE, 16, 0, TO_TABLE));
}

/* The ring's own entries as a table: each look at it would find one more. */
static void ring_as_a_table(struct fixture *f)
{
	post(f, buffer(RING, 16, 0, TO_TABLE));
}

static void table_of_odd_length(struct fixture *f)
{
	f->table[0] = f->table[1] = buffer(DATA, 1, 0, 0);
	post(f, buffer(TABLE, 24, 0, TO_TABLE));
}

static void empty_table(struct fixture *f)
{
	f->table[0] = buffer(DATA, 1, 0, 0);
	post(f, buffer(TABLE, 0, 0, TO_TABLE));
}

static void table_outside(struct fixture *f)
{
	post(f, buffer(0x1000, 16, 0, TO_TABLE));
}

static void table_leaves_memory(struct fixture *f)
{
	const struct vring_packed_desc last = buffer(DATA, 1, 0, 0);

	mem_write(&f->ram.mem, RAM_B + RAM_LEN - 16, &last, sizeof(last));
	post(f, buffer(RAM_B + RAM_LEN - 16, 32, 0, TO_TABLE));
}

static void table_wraps(struct fixture *f)
{
	post(f, buffer(UINT64_MAX - 15, 0xfffffff0, 0, TO_TABLE));
}

static void too_many_buffers(struct fixture *f)
{
	for (int i = 0; i < CHAIN_IOV_MAX; i++)
		f->table[i] = buffer(DATA, 1, 0, 0);
	post(f, buffer(TABLE, CHAIN_IOV_MAX * 16, 0, TO_TABLE));
}

static void test_broken_rules(void **state)
{
	static void (*const faults[])(struct fixture *f) = {
		chain_without_an_end, id_beyond_the_ring, id_far_beyond_the_ring, empty_buffer,
		writable_before_readable, buffer_outside, buffer_ends_outside,
		second_buffer_outside, buffer_wraps, longest_buffer, table_within_a_chain,
		table_with_a_successor, table_within_a_table, ring_as_a_table, table_of_odd_length,
		empty_table, table_outside, table_leaves_memory, table_wraps, too_many_buffers,
	};
	struct fixture f;

	(void)state;
	setup(&f);
	for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
		start(&f, SIZE, INDIRECT);
		faults[i](&f);
		assert_null(virtq_pop(&f.queue));
		if (!failed(&f))
			fail_msg("fault %zu was not found", i);
		/* Nothing more until the driver resets, and nothing was lost. */
		f.ring[0] = buffer(DATA, 1, 0, AVAIL);
		assert_null(virtq_pop(&f.queue));
		assert_int_equal(f.queue.free_count, SIZE);
		assert_false(line_publish(&f.line, &f.queue));
	}
	start(&f, SIZE, INDIRECT);
	post_chain(&f, 0, 1);
	pop(&f, 0);
	teardown(&f);
}

static void test_indirect_not_agreed(void **state)
{
	struct fixture f;

	(void)state;
	started(&f, 0);
	f.table[0] = buffer(DATA, 1, 0, 0);
	post(&f, buffer(TABLE, 16, 0, TO_TABLE));
	assert_null(virtq_pop(&f.queue));
	assert_true(failed(&f));
	teardown(&f);
}

/* 4 GiB by way of a few entries that name the same memory. */
static void test_sum(void **state)
{
	const uint64_t large = 0x40000000;
	const struct mem_backing backing = { 0 };
	struct chain *chain;
	struct fixture f;

	(void)state;
	started(&f, 0);
	assert_int_equal(mem_add(&f.ram.mem, large, large, &backing), 0);
	for (int i = 0; i < 3; i++)
		post(&f, buffer(large, large, 0, NEXT));
	post(&f, buffer(large, large - 1, 0, WRITE));
	chain = pop(&f, 0);
	cursor_advance(&chain->in, large - 1);
	virtq_done(&f.queue, chain);
	line_publish(&f.line, &f.queue);
	assert_int_equal(f.ring[0].len, large - 1);
	for (int i = 0; i < 3; i++)
		post(&f, buffer(large, large, 0, NEXT));
	post(&f, buffer(large, large, 0, WRITE));
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
	post_chain(&f, 2, 1);
	post_chain(&f, 2, 1);
	chain = pop(&f, 2);
	assert_null(virtq_pop(&f.queue));
	assert_true(failed(&f));
	/* The first is as it was. */
	assert_true(chain->in_flight);
	assert_int_equal(chain->in.left, 1);
	virtq_done(&f.queue, chain);

	/* After it was returned it may come again. */
	start(&f, SIZE, 0);
	for (int i = 0; i < 3; i++) {
		post_chain(&f, 2, 1);
		virtq_done(&f.queue, pop(&f, 2));
		line_publish(&f.line, &f.queue);
	}
	teardown(&f);
}

/* Entries that were not returned cannot be part of another chain, not even if they say so. */
static void test_longer_than_what_is_free(void **state)
{
	struct fixture f;

	(void)state;
	for (int published = 0; published < 2; published++) {
		struct chain *chain;

		started(&f, 0);
		post_chain(&f, 1, 5);
		chain = pop(&f, 1);
		if (published) {
			virtq_done(&f.queue, chain);
			line_publish(&f.line, &f.queue);
		}
		post_chain(&f, 2, 4);
		chain = virtq_pop(&f.queue);
		assert_int_equal(failed(&f), !published);
		assert_int_equal(!!chain, published);
		teardown(&f);
	}
}

/* A driver that never reads what was used could keep the worker in one turn for ever. */
static void test_more_than_a_ring_full(void **state)
{
	unsigned int popped = 0;
	struct chain *chain;
	struct fixture f;

	(void)state;
	started(&f, 0);
	post_chain(&f, 0, 1);
	while (popped <= SIZE && (chain = virtq_pop(&f.queue))) {
		virtq_done(&f.queue, chain);
		popped++;
		post_chain(&f, 0, 1);
	}
	assert_int_equal(popped, SIZE);
	assert_true(failed(&f));
	teardown(&f);
}

/* ---- notifications ---- */

static void test_doorbells(void **state)
{
	struct fixture f;

	(void)state;
	started(&f, 0);
	assert_null(virtq_pop(&f.queue));
	assert_false(virtq_arm(&f.queue));
	assert_int_equal(f.device->flags, VRING_PACKED_EVENT_FLAG_ENABLE);
	post_chain(&f, 0, 1);
	post_chain(&f, 1, 1);
	pop(&f, 0);
	assert_int_equal(f.device->flags, VRING_PACKED_EVENT_FLAG_DISABLE);
	/* There is work that was not looked at: nothing to ask for. */
	assert_false(virtq_arm(&f.queue));
	pop(&f, 1);
	assert_null(virtq_pop(&f.queue));
	assert_int_equal(f.device->flags, VRING_PACKED_EVENT_FLAG_DISABLE);
	assert_false(virtq_arm(&f.queue));
	assert_int_equal(f.device->flags, VRING_PACKED_EVENT_FLAG_ENABLE);
	teardown(&f);
}

/* At the next entry, with the wrap counter that it will have; none while there is work. */
static void test_doorbell_event(void **state)
{
	struct fixture f;

	(void)state;
	started(&f, EVENT_IDX);
	for (uint16_t i = 0; i < 5 * SIZE; i++) {
		post_chain(&f, i % SIZE, 1);
		virtq_done(&f.queue, pop(&f, i % SIZE));
		assert_null(virtq_pop(&f.queue));
		assert_int_equal(f.device->flags, VRING_PACKED_EVENT_FLAG_DISABLE);
		assert_false(virtq_arm(&f.queue));
		assert_int_equal(f.device->flags, VRING_PACKED_EVENT_FLAG_DESC);
		assert_int_equal(f.device->off_wrap, f.next | (f.wrap ? WRAP : 0));
		line_publish(&f.line, &f.queue);
	}
	teardown(&f);
}

static void test_interrupt_flags(void **state)
{
	static const struct {
		uint64_t features;
		uint16_t flags;
		bool wanted;
	} cases[] = {
		{ 0, VRING_PACKED_EVENT_FLAG_ENABLE, true },
		{ 0, VRING_PACKED_EVENT_FLAG_DISABLE, false },
		/* Not agreed on, and reserved: better one too many. */
		{ 0, VRING_PACKED_EVENT_FLAG_DESC, true },
		{ 0, 3, true },
		{ EVENT_IDX, VRING_PACKED_EVENT_FLAG_ENABLE, true },
		{ EVENT_IDX, VRING_PACKED_EVENT_FLAG_DISABLE, false },
	};
	struct fixture f;

	(void)state;
	setup(&f);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		start(&f, SIZE, cases[i].features);
		f.driver->flags = cases[i].flags;
		f.driver->off_wrap = 5 | WRAP;
		post_chain(&f, 0, 1);
		virtq_done(&f.queue, pop(&f, 0));
		assert_int_equal(line_publish(&f.line, &f.queue), cases[i].wanted);
		assert_taken(&f, 1, 0);
		/* Asked for again: not for what was published before. */
		f.driver->flags = VRING_PACKED_EVENT_FLAG_ENABLE;
		assert_false(line_publish(&f.line, &f.queue));
	}
	teardown(&f);
}

/* Whether position (with its wrap counter) is one of the count entries from first on. */
static bool among(const struct fixture *f, uint16_t first, bool wrap, uint16_t count,
		  uint16_t position, bool position_wrap)
{
	for (uint16_t i = 0; i < count; i++) {
		if (first == position && wrap == position_wrap)
			return true;
		step(f, &first, &wrap, 1);
	}
	return false;
}

/* Each event that a driver can ask for, against each publication, of a ring whose size is odd. */
static void test_interrupt_event(void **state)
{
	const uint16_t size = 5;
	struct fixture f;

	(void)state;
	setup(&f);
	start(&f, size, EVENT_IDX);
	f.driver->flags = VRING_PACKED_EVENT_FLAG_DESC;
	for (unsigned int n = 0; n < 4u * size * size * size; n++) {
		uint16_t count = (uint16_t)(1 + n % size), off = (uint16_t)(n / size % size);
		bool wrap = n / (size * size) % 2, wanted;

		f.driver->off_wrap = (uint16_t)(off | (wrap ? WRAP : 0));
		wanted = among(&f, f.seen, f.seen_wrap, count, off, wrap);
		/* One chain, or as many. */
		for (uint16_t i = 0; i < (n % 2 ? 1 : count); i++) {
			post_chain(&f, i, n % 2 ? count : 1);
			virtq_done(&f.queue, pop(&f, i));
		}
		assert_int_equal(line_publish(&f.line, &f.queue), wanted);
		step(&f, &f.seen, &f.seen_wrap, count);
		/* So that each event meets each position. */
		if (n % 7 == 0) {
			f.driver->flags = VRING_PACKED_EVENT_FLAG_DISABLE;
			post_chain(&f, 0, 1);
			virtq_done(&f.queue, pop(&f, 0));
			assert_false(line_publish(&f.line, &f.queue));
			assert_taken(&f, 1, 0);
			f.driver->flags = VRING_PACKED_EVENT_FLAG_DESC;
		}
	}
	teardown(&f);
}

static void post_one_more(void *arg)
{
	post_chain(arg, 1, 1);
}

/* Between the look that found nothing and the request for a doorbell: found by a second look. */
static void assert_recovered(const struct fixture *f)
{
	struct virtq_position position;

	assert_int_equal(f->queue.ring->recover(&f->queue, &position), 0);
	assert_int_equal(position.next_used, f->queue.position.next_used);
	assert_int_equal(position.used_wrap, f->queue.position.used_wrap);
	assert_int_equal(position.next_avail, position.next_used);
	assert_int_equal(position.avail_wrap, position.used_wrap);
}

/* At every place of two rounds, with any number of buffers that wait. */
static void test_recovered(void **state)
{
	struct fixture f;

	(void)state;
	setup(&f);
	for (uint16_t place = 0; place < 2 * SIZE; place++)
		for (uint16_t waiting = 0; waiting <= SIZE; waiting++) {
			start(&f, SIZE, INDIRECT);
			assert_recovered(&f);
			for (uint16_t i = 0; i < place; i++) {
				post(&f, buffer(DATA, 1, i % SIZE, WRITE));
				virtq_done(&f.queue, virtq_pop(&f.queue));
				virtq_publish(&f.queue);
			}
			for (uint16_t i = 0; i < waiting; i++) {
				assert_recovered(&f);
				post(&f, buffer(DATA, 1, (place + i) % SIZE, WRITE));
			}
			assert_recovered(&f);
		}
	teardown(&f);
}

/* What was left between two entries of which one is used, and where used entries say too little. */
static void test_not_recovered(void **state)
{
	static const uint64_t features[] = { 0, INDIRECT | 1ULL << VIRTIO_F_IN_ORDER };
	struct virtq_position position;
	struct fixture f;

	(void)state;
	setup(&f);
	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		start(&f, SIZE, features[i]);
		assert_int_equal(f.queue.ring->recover(&f.queue, &position), -ENODATA);
	}
	start(&f, SIZE, INDIRECT);
	post(&f, buffer(DATA, 1, 0, WRITE));
	post(&f, buffer(DATA, 1, 1, WRITE));
	f.ring[1].flags = AVAIL | USED;
	assert_int_equal(f.queue.ring->recover(&f.queue, &position), -ENODATA);
	/* The rest of a chain that was used. */
	start(&f, SIZE, INDIRECT);
	f.ring[1].flags = VRING_DESC_F_NEXT;
	assert_int_equal(f.queue.ring->recover(&f.queue, &position), -ENODATA);
	teardown(&f);
}

static void test_posted_meanwhile(void **state)
{
	(void)state;
	for (int events = 0; events < 2; events++) {
		struct fixture f;

		started(&f, events ? EVENT_IDX : 0);
		post_chain(&f, 0, 1);
		pop(&f, 0);
		assert_null(virtq_pop(&f.queue));
		ram_at_next_write(f.device, post_one_more, &f);
		assert_true(virtq_arm(&f.queue));
		pop(&f, 1);
		assert_null(virtq_pop(&f.queue));
		assert_false(virtq_arm(&f.queue));
		teardown(&f);
	}
}

static void want_the_next(void *arg)
{
	struct fixture *f = arg;

	f->driver->flags = VRING_PACKED_EVENT_FLAG_ENABLE;
}

/* While we publish: what the driver wants is looked up after that, not before. */
static void test_wanted_meanwhile(void **state)
{
	struct fixture f;

	(void)state;
	started(&f, 0);
	f.driver->flags = VRING_PACKED_EVENT_FLAG_DISABLE;
	post_chain(&f, 0, 1);
	virtq_done(&f.queue, pop(&f, 0));
	ram_at_next_write(f.ring, want_the_next, &f);
	assert_true(line_publish(&f.line, &f.queue));
	teardown(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layout),
		cmocka_unit_test(test_layout_at_the_end_of_memory),
		cmocka_unit_test(test_frozen),
		cmocka_unit_test(test_reset_before_publish),
		cmocka_unit_test(test_cursors),
		cmocka_unit_test(test_wrap_around),
		cmocka_unit_test(test_looked_at_once),
		cmocka_unit_test(test_indirect),
		cmocka_unit_test(test_availability),
		cmocka_unit_test(test_out_of_order),
		cmocka_unit_test(test_all_in_flight),
		cmocka_unit_test(test_unpop),
		cmocka_unit_test(test_put_back),
		cmocka_unit_test(test_broken_rules),
		cmocka_unit_test(test_indirect_not_agreed),
		cmocka_unit_test(test_sum),
		cmocka_unit_test(test_posted_twice),
		cmocka_unit_test(test_longer_than_what_is_free),
		cmocka_unit_test(test_more_than_a_ring_full),
		cmocka_unit_test(test_doorbells),
		cmocka_unit_test(test_doorbell_event),
		cmocka_unit_test(test_interrupt_flags),
		cmocka_unit_test(test_interrupt_event),
		cmocka_unit_test(test_recovered),
		cmocka_unit_test(test_not_recovered),
		cmocka_unit_test(test_posted_meanwhile),
		cmocka_unit_test(test_wanted_meanwhile),
	};

	log_set_level(LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
