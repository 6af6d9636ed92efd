// SPDX-License-Identifier: Apache-2.0
/* Chains of descriptors that must not be, and some that look odd but may be. */
#include <linux/virtio_config.h>
#include <pthread.h>
#include <stdatomic.h>
#include "tests/conform/conform.h"

#define NEXT VRING_DESC_F_NEXT
#define WRITE VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT

/* Where a buffer is. The order of the first ones is that of the pages at conform->data. */
enum where {
	READABLE,
	WRITABLE,
	TABLE,
	NOWHERE,   /* below RAM */
	END,       /* the first byte that is not RAM */
	LAST_BYTE,
	BEFORE_END, /* 16 bytes of RAM are left */
	TOP,       /* so that it wraps around to 0 */
};

#define BEYOND 0xfffe /* as next or head: the first number that is none, whatever the queue's size */

struct bad_desc {
	enum where where;
	uint32_t len;
	uint16_t flags, next;
};

enum layouts { BOTH, SPLIT, PACKED };

struct bad_chain {
	enum layouts layouts;
	struct bad_desc ring[3];
	struct bad_desc table[3];
	uint16_t count;  /* of ring that a packed driver makes available; 0: 1 */
	uint16_t head;   /* packed: the buffer id */
	uint64_t without; /* features that are not agreed */
};

static uint64_t address(const struct conform *c, enum where where)
{
	switch (where) {
	case NOWHERE:
		return 0;
	case END:
		return vdrv_ram_end(&c->vdrv);
	case LAST_BYTE:
		return vdrv_ram_end(&c->vdrv) - 1;
	case BEFORE_END:
		return vdrv_ram_end(&c->vdrv) - 16;
	case TOP:
		return UINT64_MAX - 7;
	default:
		return c->data + where * CONFORM_PAGE;
	}
}

static struct vring_desc describe(const struct conform *c, const struct bad_desc *bad, uint16_t size)
{
	return (struct vring_desc){
		.addr = address(c, bad->where),
		.len = bad->len,
		.flags = bad->flags,
		.next = bad->next == BEYOND ? size : bad->next,
	};
}

static void write_table(struct conform *c, const struct bad_chain *bad, bool packed)
{
	const uint64_t gpa = address(c, TABLE);

	for (unsigned int i = 0; i < ARRAY_SIZE(bad->table); i++) {
		struct vring_desc desc = describe(c, &bad->table[i], ARRAY_SIZE(bad->table));
		const struct vring_packed_desc as_packed = { desc.addr, desc.len, 0, desc.flags };
		void *at = vdrv_ptr(&c->vdrv, gpa + i * sizeof(desc), sizeof(desc));

		memcpy(at, packed ? (const void *)&as_packed : &desc, sizeof(desc));
	}
}

static void post_bad(struct conform *c, unsigned int index, const struct bad_chain *bad)
{
	struct vdrv_queue *queue = &c->vdrv.queues[index];
	const uint16_t size = queue->layout.size, head = bad->head == BEYOND ? size : bad->head;

	for (uint16_t i = 0; i < ARRAY_SIZE(bad->ring); i++) {
		struct vring_desc desc = describe(c, &bad->ring[i], size);

		if (queue->packed)
			desc.next = head;
		vdrv_put(queue, i, &desc);
	}
	write_table(c, bad, queue->packed);
	vdrv_expose(queue, head, (uint16_t)util_max(bad->count, 1));
	conform_watch(c);
}

static void bad_chain(struct conform *c, const void *arg)
{
	const struct bad_chain *bad = arg;

	if (bad->layouts == (c->cell.packed ? SPLIT : PACKED))
		conform_not_here();
	conform_threads(c);
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++) {
		conform_begin_with(c, c->features & ~bad->without);
		post_bad(c, i, bad);
		conform_refused(c, i);
	}
	conform_works(c);
}

/* ---- that cannot be written down as a table ---- */

/* All entries of a packed ring as one chain, or of an indirect table more than a chain may have. */
static void endless_ring(struct conform *c, const void *arg)
{
	(void)arg;
	conform_threads(c);
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++) {
		struct vdrv_queue *queue = &c->vdrv.queues[i];

		conform_begin(c);
		for (uint16_t slot = 0; slot < queue->layout.size; slot++) {
			struct vring_desc desc = {
				.addr = c->data,
				.len = 1,
				.flags = NEXT,
				.next = c->cell.packed ? 0 : (uint16_t)((slot + 1) % queue->layout.size),
			};

			vdrv_put(queue, slot, &desc);
		}
		vdrv_expose(queue, 0, queue->layout.size);
		conform_watch(c);
		conform_refused(c, i);
	}
	conform_works(c);
}

/* A table of count entries, each of which is all of RAM up to the end. */
static void post_table(struct conform *c, unsigned int index, uint32_t count, uint64_t gpa, uint32_t len)
{
	struct vring_desc desc = { .len = count * (uint32_t)sizeof(desc), .flags = INDIRECT };

	desc.addr = vdrv_alloc(&c->vdrv, desc.len);
	CHECK(desc.addr != 0);
	for (uint32_t i = 0; i < count; i++) {
		const bool last = i + 1 == count;
		const struct vring_desc split = { gpa, len, last ? WRITE : WRITE | NEXT,
						  (uint16_t)(i + 1) };
		const struct vring_packed_desc packed = { gpa, len, 0, WRITE };

		memcpy(vdrv_ptr(&c->vdrv, desc.addr + i * sizeof(desc), sizeof(desc)),
		       c->cell.packed ? (const void *)&packed : &split, sizeof(desc));
	}
	vdrv_put(&c->vdrv.queues[index], 0, &desc);
	vdrv_expose(&c->vdrv.queues[index], 0, 1);
	conform_watch(c);
}

static void too_many_buffers(struct conform *c, const void *arg)
{
	(void)arg;
	conform_threads(c);
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++) {
		conform_begin(c);
		post_table(c, i, 1024, c->data, 1);
		conform_refused(c, i);
	}
	conform_works(c);
}

static void index_jump(struct conform *c, const void *arg)
{
	const uint16_t *by = arg;

	if (c->cell.packed)
		conform_not_here();
	conform_threads(c);
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++) {
		struct vdrv_queue *queue = &c->vdrv.queues[i];
		const struct vring_desc desc = { c->data, 16, 0, 0 };

		conform_begin(c);
		vdrv_put(queue, 0, &desc);
		/* 0 is one more than fits. */
		vdrv_jump(queue, *by ? *by : (uint16_t)(queue->layout.size + 1));
		conform_watch(c);
		conform_refused(c, i);
	}
	conform_works(c);
}

/* Available as often as the ring has entries, always the same one. */
static void same_head_everywhere(struct conform *c, const void *arg)
{
	(void)arg;
	conform_threads(c);
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++) {
		struct vdrv_queue *queue = &c->vdrv.queues[i];
		const struct vring_desc desc = { c->data + CONFORM_PAGE, 16, WRITE, 0 };

		conform_begin(c);
		for (uint16_t n = 0; n < queue->layout.size; n++) {
			vdrv_put(queue, c->cell.packed ? n : 0, &desc);
			vdrv_expose(queue, 0, 1);
		}
		conform_watch(c);
		conform_give(c, desc.addr, desc.len);
		vdrv_ring(queue);
		vdrv_settle(&c->vdrv);
		conform_untouched(c);
	}
	conform_works(c);
}

struct flipper {
	_Atomic bool stop;
	pthread_t thread;
	volatile struct vring_desc *desc;
	struct vring_desc good, bad;
};

static void *flip(void *arg)
{
	struct flipper *flipper = arg;

	while (!flipper->stop) {
		flipper->desc->addr = flipper->bad.addr;
		flipper->desc->len = flipper->bad.len;
		flipper->desc->addr = flipper->good.addr;
		flipper->desc->len = flipper->good.len;
	}
	return NULL;
}

/* Writes of the driver's own go on all the time; what the device reads of them is one value or another. */
static void changing_descriptor(struct conform *c, const void *arg)
{
	struct flipper flipper = {
		.good = { .addr = c->data + CONFORM_PAGE, .len = 64 },
		.bad = { .addr = vdrv_ram_end(&c->vdrv) - 8, .len = UINT32_MAX },
	};

	(void)arg;
	conform_threads(c);
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++) {
		struct vdrv_queue *queue = &c->vdrv.queues[i];
		const struct vring_desc desc = { flipper.good.addr, flipper.good.len, WRITE, 0 };

		conform_begin(c);
		vdrv_put(queue, 0, &desc);
		conform_watch(c);
		/* The driver's own writes. */
		conform_give(c, queue->layout.desc, sizeof(desc));
		conform_give(c, queue->layout.driver, vdrv_areas(&c->vdrv, queue->layout.size).driver);
		conform_give(c, flipper.good.addr, flipper.good.len);
		conform_give(c, flipper.bad.addr, 8);
		flipper.desc = (struct vring_desc *)(void *)queue->desc;
		flipper.stop = false;
		CHECK(pthread_create(&flipper.thread, NULL, flip, &flipper) == 0);
		for (int n = 0; n < 200 && !vdrv_needs_reset(&c->vdrv); n++) {
			vdrv_expose(queue, 0, 1);
			vdrv_ring(queue);
			vdrv_settle(&c->vdrv);
		}
		flipper.stop = true;
		pthread_join(flipper.thread, NULL);
		conform_untouched(c);
	}
	conform_works(c);
}

/* ---- that are as they should be ---- */

enum placement { STRADDLING, ENDING, TABLED, TABLE_STRADDLING };

static void legal_placement(struct conform *c, const void *arg)
{
	const enum placement *placement = arg;

	conform_threads(c);
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++) {
		const struct conform_probe *probe = &c->probes[i];
		uint64_t out = c->data, in = c->data + 2 * CONFORM_PAGE, table = 0;
		int id;

		if (probe->outcome == CONFORM_FAILS)
			continue;
		conform_begin(c);
		if (*placement == STRADDLING) {
			out += CONFORM_PAGE - probe->out / 2;
			in += CONFORM_PAGE - probe->in / 2;
		} else if (*placement == ENDING && probe->in) {
			in = vdrv_ram_end(&c->vdrv) - probe->in;
		} else if (*placement == ENDING) {
			out = vdrv_ram_end(&c->vdrv) - probe->out;
		} else {
			table = c->data + 5 * CONFORM_PAGE;
			table -= *placement == TABLE_STRADDLING ? sizeof(struct vring_desc) : 0;
		}
		id = conform_post_at(c, i, out, in, table);
		CHECK(id >= 0);
		conform_watch(c);
		conform_give(c, in, probe->in);
		vdrv_ring(&c->vdrv.queues[i]);
		vdrv_settle(&c->vdrv);
		conform_untouched(c);
		CHECK(probe->outcome != CONFORM_USES || conform_take(c, i) == id);
		CHECK(!vdrv_needs_reset(&c->vdrv));
	}
}

/* Section 2.7.5.3.2: descriptors in front of the one that refers to the rest. */
static void indirect_rest(struct conform *c, const void *arg)
{
	(void)arg;
	if (c->cell.packed)
		conform_not_here();
	conform_threads(c);
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++) {
		const struct conform_probe *probe = &c->probes[i];
		struct vdrv_queue *queue = &c->vdrv.queues[i];
		const uint64_t table = c->data + 4 * CONFORM_PAGE;
		const struct vring_desc ring[] = { { c->data, probe->out, NEXT, 1 },
						   { table, sizeof(struct vring_desc), INDIRECT, 0 } };
		const struct vring_desc rest = { c->data + CONFORM_PAGE, probe->in, WRITE, 0 };

		if (probe->outcome != CONFORM_USES || !probe->out || !probe->in)
			continue;
		conform_begin(c);
		vdrv_put(queue, 0, &ring[0]);
		vdrv_put(queue, 1, &ring[1]);
		memcpy(vdrv_ptr(&c->vdrv, table, sizeof(rest)), &rest, sizeof(rest));
		vdrv_expose(queue, 0, 1);
		vdrv_kick(queue);
		CHECK(conform_take(c, i) == 0);
		CHECK(!vdrv_needs_reset(&c->vdrv));
	}
}

#define BAD(name, ...) { name, bad_chain, &(const struct bad_chain){ __VA_ARGS__ }, false }
#define LEGAL(name, where) { name, legal_placement, &(const enum placement){ where }, false }
#define JUMP(name, by) { name, index_jump, &(const uint16_t){ by }, false }

const struct conform_case conform_chains[] = {
	BAD("chain: a loop",
	    .layouts = SPLIT, .ring = { { READABLE, 16, NEXT, 1 }, { READABLE, 16, NEXT, 0 } }),
	BAD("chain: a loop behind its beginning",
	    .layouts = SPLIT,
	    .ring = { { READABLE, 16, NEXT, 1 }, { READABLE, 16, NEXT, 2 }, { READABLE, 16, NEXT, 1 } }),
	BAD("chain: a loop of itself", .layouts = SPLIT, .ring = { { READABLE, 16, NEXT, 0 } }),
	BAD("chain: a loop in an indirect table",
	    .layouts = SPLIT, .ring = { { TABLE, 48, INDIRECT, 0 } },
	    .table = { { READABLE, 16, NEXT, 1 }, { READABLE, 16, NEXT, 0 } }),
	BAD("chain: a successor beyond the queue",
	    .layouts = SPLIT, .ring = { { READABLE, 16, NEXT, BEYOND } }),
	BAD("chain: a successor far beyond the queue",
	    .layouts = SPLIT, .ring = { { READABLE, 16, NEXT, 0xffff } }),
	BAD("chain: a successor beyond its table",
	    .layouts = SPLIT, .ring = { { TABLE, 48, INDIRECT, 0 } },
	    .table = { { READABLE, 16, NEXT, BEYOND } }),
	BAD("chain: a head beyond the queue", .ring = { { READABLE, 16, 0, 0 } }, .head = BEYOND),
	BAD("chain: a head far beyond the queue",
	    .ring = { { READABLE, 16, 0, 0 } }, .head = 0xffff),
	{ "chain: as long as the ring, without an end", endless_ring, NULL, false },
	{ "chain: more buffers than a system call takes", too_many_buffers, NULL, false },
	BAD("chain: a table within a table",
	    .ring = { { TABLE, 48, INDIRECT, 0 } }, .table = { { TABLE, 16, INDIRECT, 0 } }),
	BAD("chain: a table within a packed chain",
	    .layouts = PACKED, .ring = { { READABLE, 16, NEXT, 0 }, { TABLE, 16, INDIRECT, 0 } },
	    .table = { { READABLE, 16, 0, 0 } }, .count = 2),
	BAD("chain: a table of odd length",
	    .ring = { { TABLE, 17, INDIRECT, 0 } }, .table = { { READABLE, 16, 0, 0 } }),
	BAD("chain: a table of a length below an entry's",
	    .ring = { { TABLE, 15, INDIRECT, 0 } }, .table = { { READABLE, 16, 0, 0 } }),
	BAD("chain: an empty table", .ring = { { TABLE, 0, INDIRECT, 0 } }),
	BAD("chain: a table with a successor",
	    .ring = { { TABLE, 16, INDIRECT | NEXT, 1 }, { READABLE, 16, 0, 0 } },
	    .table = { { READABLE, 16, 0, 0 } }, .count = 2),
	BAD("chain: a table outside of memory", .ring = { { NOWHERE, 32, INDIRECT, 0 } }),
	BAD("chain: a table that ends outside of memory",
	    .ring = { { BEFORE_END, 32, INDIRECT, 0 } }),
	BAD("chain: a table of 4 GiB",
	    .ring = { { TABLE, 0xfffffff0, INDIRECT, 0 } },
	    .table = { { READABLE, 0xfffff, NEXT, 1 }, { READABLE, 0xfffff, NEXT, 0 } }),
	BAD("chain: a table that was not agreed on",
	    .ring = { { TABLE, 16, INDIRECT, 0 } }, .table = { { READABLE, 16, 0, 0 } },
	    .without = 1ULL << VIRTIO_RING_F_INDIRECT_DESC),
	BAD("chain: an empty buffer", .ring = { { READABLE, 0, 0, 0 } }),
	BAD("chain: an empty buffer behind another",
	    .ring = { { READABLE, 16, NEXT, 1 }, { WRITABLE, 0, WRITE, 0 } }, .count = 2),
	BAD("chain: readable behind writable",
	    .ring = { { WRITABLE, 16, WRITE | NEXT, 1 }, { READABLE, 16, 0, 0 } }, .count = 2),
	BAD("chain: readable behind writable, in a table",
	    .ring = { { TABLE, 32, INDIRECT, 0 } },
	    .table = { { WRITABLE, 16, WRITE | NEXT, 1 }, { READABLE, 16, 0, 0 } }),
	BAD("chain: a buffer outside of memory", .ring = { { NOWHERE, 16, WRITE, 0 } }),
	BAD("chain: a buffer behind memory", .ring = { { END, 1, WRITE, 0 } }),
	BAD("chain: a buffer one byte past the end of memory",
	    .ring = { { LAST_BYTE, 2, WRITE, 0 } }),
	BAD("chain: a buffer that wraps around", .ring = { { TOP, 64, WRITE, 0 } }),
	BAD("chain: a buffer of 4 GiB", .ring = { { WRITABLE, UINT32_MAX, WRITE, 0 } }),
	JUMP("chain: the index jumps by one too many", 0),
	JUMP("chain: the index jumps by half its range", 0x8000),
	JUMP("chain: the index jumps back", 0xffff),
	{ "chain: one head for all entries", same_head_everywhere, NULL, false },
	{ "chain: descriptors that change while they are read", changing_descriptor, NULL, false },
	LEGAL("legal: buffers straddle two pages", STRADDLING),
	LEGAL("legal: a buffer up to the last byte of memory", ENDING),
	LEGAL("legal: an indirect table", TABLED),
	LEGAL("legal: an indirect table straddles two pages", TABLE_STRADDLING),
	{ "legal: the rest of a chain in a table", indirect_rest, NULL, false },
	{ 0 },
};
