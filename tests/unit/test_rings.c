// SPDX-License-Identifier: Apache-2.0
/*
 * Random schedules of both sides of a queue, split and packed, against what
 * must hold whatever the order: chains come in the order in which they were
 * posted, go back once and whole, are seen when they are published and not
 * before; no notification is missed, and none is sent that was not wanted.
 *
 * A chain has a serial number in its first buffer. The model counts serials,
 * which never wrap, where the rings have indices that do.
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

/* Entries of a long turn are shown in between. */
#define SHOWN_AT_ONCE 16
#define STEPS 400000
#define SIZE_MAX_RING 64
#define BUFFERS_MAX 4

#define DESC RAM_A
#define DRIVER (RAM_A + 0x1000)
#define DEVICE (RAM_A + 0x2000)
/* A slot of 64 bytes for each id. */
#define TABLE(id) (RAM_A + 0x3000 + 64ULL * (id))
#define REQUEST(id) (RAM_A + 0x4000 + 64ULL * (id))
#define REPLY(id) (RAM_A + 0x5000 + 64ULL * (id))
#define REPLY_LEN 5

#define AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define USED (1u << VRING_PACKED_DESC_F_USED)
#define WRAP (1u << VRING_PACKED_EVENT_F_WRAP_CTR)

static const struct virtio_class class = { .name = "test" };

/* What the driver knows of a chain. */
struct posted {
	bool out;
	uint32_t serial;
	uint16_t entries; /* of the ring, or descriptors */
	uint16_t descs[BUFFERS_MAX];
	uint32_t writable;
};

struct model {
	struct ram ram;
	struct virtio_dev dev;
	struct line line;
	struct virtq queue;
	uint32_t random;
	bool packed;
	/* From here on afresh after each reset. */
	uint16_t size;
	bool event_idx, in_order;
	/* The driver. */
	struct posted chains[SIZE_MAX_RING];
	uint16_t free[SIZE_MAX_RING]; /* split: descriptors; packed: ids */
	uint16_t free_ids, free_entries;
	uint32_t posted, taken;       /* chains */
	uint32_t avail, seen;         /* positions in the ring: entries when packed, else chains */
	bool wants_interrupt;
	uint32_t interrupt_at;        /* a position */
	/* The device. */
	struct chain *held[SIZE_MAX_RING];
	unsigned int held_count;
	uint32_t popped, given, visible; /* chains: popped; given back to the ring; published */
	uint32_t used;                   /* position of what is given back */
	uint32_t shown, published;       /* and shown; and published, with or without an interrupt */
	uint32_t interrupts;             /* that were wanted */
	uint32_t returned[SIZE_MAX_RING]; /* the serials in the order in which they went back, by given */
	bool done[SIZE_MAX_RING];         /* by serial: returned, perhaps not in its turn */
	bool asleep, awake;               /* asleep: a doorbell was asked for; awake: none is wanted */
};

static uint32_t below(struct model *m, uint32_t limit)
{
	m->random = m->random * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)m->random * limit >> 32);
}

static void *at(struct model *m, uint64_t gpa)
{
	return ram_at(&m->ram, gpa);
}

static uint64_t features(const struct model *m)
{
	return 1ULL << VIRTIO_RING_F_INDIRECT_DESC |
	       (uint64_t)m->packed << VIRTIO_F_RING_PACKED |
	       (uint64_t)m->event_idx << VIRTIO_RING_F_EVENT_IDX |
	       (uint64_t)m->in_order << VIRTIO_F_IN_ORDER;
}

/* Afresh, in memory that is zeroed, with other features and another size. */
static void begin(struct model *m)
{
	virtq_deactivate(&m->queue);
	virtq_rewind(&m->queue);
	memset(&m->size, 0, sizeof(*m) - offsetof(struct model, size));
	m->line.raised = 0;
	memset(at(m, RAM_A), 0, RAM_LEN);
	m->size = (uint16_t)(m->packed ? 1 + below(m, SIZE_MAX_RING) : 1u << below(m, 7));
	m->event_idx = below(m, 2);
	m->in_order = below(m, 3) == 0;
	m->wants_interrupt = true;
	m->free_ids = m->free_entries = m->size;
	for (uint16_t i = 0; i < m->size; i++)
		m->free[i] = i;
	m->queue.layout = (struct virtq_layout){ m->size, true, DESC, DRIVER, DEVICE };
	assert_int_equal(virtq_activate(&m->queue, &m->ram.mem, features(m)), 0);
}

/* ---- the driver ---- */

static struct vring_avail *avail_ring(struct model *m)
{
	return at(m, DRIVER);
}

static struct vring_used *used_ring(struct model *m)
{
	return at(m, DEVICE);
}

/* A packed ring's wrap counter at a position: section 2.8.1. */
static bool wrap_at(const struct model *m, uint32_t position)
{
	return position / m->size % 2 == 0;
}

static void put_split(struct model *m, struct posted *chain, const struct vring_desc *descs)
{
	struct vring_avail *avail = avail_ring(m);
	struct vring_desc *ring = at(m, DESC);

	for (uint16_t i = 0; i < chain->entries; i++) {
		ring[chain->descs[i]] = descs[i];
		if (i + 1 < chain->entries)
			ring[chain->descs[i]].next = chain->descs[i + 1];
	}
	avail->ring[m->avail++ % m->size] = chain->descs[0];
	avail->idx++;
}

static void put_packed(struct model *m, struct posted *chain, const struct vring_desc *descs)
{
	struct vring_packed_desc *ring = at(m, DESC);

	for (uint16_t i = 0; i < chain->entries; i++, m->avail++)
		ring[m->avail % m->size] = (struct vring_packed_desc){
			.addr = descs[i].addr,
			.len = descs[i].len,
			.id = i + 1 == chain->entries ? chain->descs[0] : UINT16_MAX,
			.flags = descs[i].flags | (wrap_at(m, m->avail) ? AVAIL : USED),
		};
}

/* The same bytes for both layouts, but for next, which says the way through a split table alone. */
static void put_table(struct model *m, uint16_t id, struct vring_desc *descs, uint16_t count)
{
	for (uint16_t i = 0; i < count; i++)
		descs[i].next = m->packed ? descs[i].flags & VRING_DESC_F_WRITE : i + 1;
	for (uint16_t i = 0; m->packed && i < count; i++)
		((struct vring_packed_desc *)(void *)descs)[i].flags = descs[i].next;
	memcpy(at(m, TABLE(id)), descs, count * sizeof(*descs));
	descs[0] = (struct vring_desc){ TABLE(id), count * (uint32_t)sizeof(*descs),
					VRING_DESC_F_INDIRECT, 0 };
}

/* Whether a position that both sides know modulo something lies within [from, to). */
static bool passed(const struct model *m, uint32_t position, uint32_t from, uint32_t to)
{
	uint32_t modulus = m->packed ? 2u * m->size : 0x10000;

	for (uint32_t i = from; i != to; i++)
		if (i % modulus == position % modulus)
			return true;
	return false;
}

static bool doorbell_wanted(struct model *m, uint32_t before)
{
	const struct vring_packed_desc_event *event = at(m, DEVICE);
	const uint16_t off = event->off_wrap & (WRAP - 1);

	if (m->packed && event->flags == VRING_PACKED_EVENT_FLAG_DESC)
		return passed(m, event->off_wrap & WRAP ? off : off + m->size, before, m->avail);
	if (m->packed)
		return event->flags == VRING_PACKED_EVENT_FLAG_ENABLE;
	if (m->event_idx)
		return passed(m, used_ring(m)->ring[m->size].id & 0xffff, before, m->avail);
	return !(used_ring(m)->flags & VRING_USED_F_NO_NOTIFY);
}

static void check_doorbell(struct model *m, uint32_t before)
{
	bool wanted = doorbell_wanted(m, before);

	if (m->asleep)
		assert_true(wanted);
	if (m->awake && !m->event_idx)
		assert_false(wanted);
	/* The worker wakes up, and kicks. */
	m->asleep = false;
}

static void post(struct model *m)
{
	uint16_t buffers = (uint16_t)(1 + below(m, BUFFERS_MAX));
	bool indirect = below(m, 4) == 0;
	uint16_t entries = indirect ? 1 : buffers;
	uint32_t before = m->avail;
	struct vring_desc descs[BUFFERS_MAX];
	struct posted *chain;
	uint16_t id;

	if (entries > m->free_entries)
		return;
	id = m->free[m->free_ids - 1];
	chain = &m->chains[id];
	*chain = (struct posted){ true, m->posted++, entries, { id }, REPLY_LEN * (buffers - 1u) };
	memcpy(at(m, REQUEST(id)), &chain->serial, sizeof(chain->serial));
	for (uint16_t i = 0; i < buffers; i++)
		descs[i] = (struct vring_desc){
			.addr = i ? REPLY(id) + REPLY_LEN * (i - 1u) : REQUEST(id),
			.len = i ? REPLY_LEN : sizeof(chain->serial),
			.flags = (uint16_t)((i ? VRING_DESC_F_WRITE : 0) |
					    (i + 1 < buffers ? VRING_DESC_F_NEXT : 0)),
		};
	if (indirect)
		put_table(m, id, descs, buffers);
	m->free_entries -= entries;
	for (uint16_t i = 0; i < (m->packed ? 1 : entries); i++)
		chain->descs[i] = m->free[--m->free_ids];
	if (m->packed)
		put_packed(m, chain, descs);
	else
		put_split(m, chain, descs);
	check_doorbell(m, before);
}

static bool look(struct model *m, uint32_t *ret_id, uint32_t *ret_len)
{
	const struct vring_packed_desc *desc =
		(struct vring_packed_desc *)at(m, DESC) + m->seen % m->size;
	const struct vring_used *used = used_ring(m);
	bool wrap = wrap_at(m, m->seen);

	if (m->packed) {
		*ret_id = desc->id;
		*ret_len = desc->len;
		return !!(desc->flags & AVAIL) == wrap && !!(desc->flags & USED) == wrap;
	}
	*ret_id = used->ring[m->seen % m->size].id;
	*ret_len = used->ring[m->seen % m->size].len;
	return used->idx != (uint16_t)m->seen;
}

/* How much of it the device is to write. */
static uint32_t reply_len(uint32_t serial, uint32_t writable)
{
	return serial % (writable + 1);
}

static void take(struct model *m)
{
	struct posted *chain;
	uint32_t id, len;

	assert_int_equal(look(m, &id, &len), m->taken != m->visible);
	if (m->taken == m->visible)
		return;
	assert_true(id < m->size);
	chain = &m->chains[id];
	assert_true(chain->out);
	assert_int_equal(chain->serial, m->returned[m->taken % SIZE_MAX_RING]);
	if (m->in_order)
		assert_int_equal(chain->serial, m->taken);
	assert_int_equal(len, reply_len(chain->serial, chain->writable));
	for (uint32_t i = 0; i < len; i++)
		assert_int_equal(((uint8_t *)at(m, REPLY(id)))[i], (uint8_t)(chain->serial + i));
	chain->out = false;
	m->taken++;
	m->seen += m->packed ? chain->entries : 1;
	m->free_entries += chain->entries;
	for (uint16_t i = m->packed ? 1 : chain->entries; i-- > 0;)
		m->free[m->free_ids++] = chain->descs[i];
}

/* Interrupts: none, all, or when the nth from now is used. */
static void choose_interrupts(struct model *m)
{
	struct vring_packed_desc_event *event = at(m, DRIVER);
	bool wrap;

	m->wants_interrupt = below(m, 3);
	m->interrupt_at = m->seen + below(m, m->size);
	wrap = wrap_at(m, m->interrupt_at);
	if (m->packed) {
		event->off_wrap = (uint16_t)(m->interrupt_at % m->size | (wrap ? WRAP : 0));
		event->flags = !m->wants_interrupt ? VRING_PACKED_EVENT_FLAG_DISABLE :
			       m->event_idx ? VRING_PACKED_EVENT_FLAG_DESC :
					      VRING_PACKED_EVENT_FLAG_ENABLE;
		return;
	}
	avail_ring(m)->flags = m->wants_interrupt ? 0 : VRING_AVAIL_F_NO_INTERRUPT;
	/* With an event index the flag means nothing: there is always one that is asked for. */
	m->wants_interrupt |= m->event_idx;
	avail_ring(m)->ring[m->size] = (uint16_t)m->interrupt_at;
}

/* ---- the device ---- */

static void pop(struct model *m)
{
	struct chain *chain = virtq_pop(&m->queue);
	uint32_t serial;

	assert_int_equal(!!chain, m->popped != m->posted);
	assert_false(virtio_failed(&m->dev));
	if (!chain)
		return;
	m->awake = true;
	m->asleep = false;
	assert_int_equal(chain_pull(chain, &serial, sizeof(serial) + 1), sizeof(serial));
	assert_int_equal(serial, m->popped);
	assert_int_equal(m->chains[chain->head].serial, serial);
	assert_int_equal(chain->in.left, m->chains[chain->head].writable);
	m->held[m->held_count++] = chain;
	m->done[serial % SIZE_MAX_RING] = false;
	m->popped++;
}

static uint32_t serial_of(struct model *m, const struct chain *chain)
{
	return m->chains[chain->head].serial;
}

static void published(struct model *m)
{
	bool wanted = m->wants_interrupt && m->published != m->used;

	if (m->event_idx)
		wanted = wanted && passed(m, m->interrupt_at, m->published, m->used);
	/* An event is a number from the beginning on; what is enabled in a packed ring is all of them. */
	if (m->packed && ((struct vring_packed_desc_event *)at(m, DRIVER))->flags ==
				 VRING_PACKED_EVENT_FLAG_ENABLE)
		wanted = m->published != m->used;
	m->interrupts += wanted;
	m->published = m->shown = m->used;
	m->visible = m->given;
}

static void give(struct model *m, uint32_t serial, uint16_t entries)
{
	m->returned[m->given++ % SIZE_MAX_RING] = serial;
	m->used += m->packed ? entries : 1;
}

/* What one call returned is shown together. */
static void show_many(struct model *m)
{
	if (m->used - m->shown < SHOWN_AT_ONCE)
		return;
	if (m->event_idx)
		published(m);
	m->shown = m->used;
	m->visible = m->given;
}

static uint16_t entries_of(const struct model *m, uint32_t serial)
{
	for (uint16_t id = 0; id < m->size; id++)
		if (m->chains[id].out && m->chains[id].serial == serial)
			return m->chains[id].entries;
	fail();
	return 0;
}

static void done(struct model *m)
{
	struct chain *chain;
	uint32_t i, serial, len;

	if (!m->held_count)
		return;
	i = below(m, m->held_count);
	chain = m->held[i];
	m->held_count--;
	/* Those that are held stay in the order in which they were popped. */
	memmove(&m->held[i], &m->held[i + 1], (m->held_count - i) * sizeof(m->held[0]));
	serial = serial_of(m, chain);
	len = reply_len(serial, m->chains[chain->head].writable);
	for (i = 0; i < len; i++)
		assert_int_equal(chain_push(chain, &(uint8_t){ (uint8_t)(serial + i) }, 1), 1);
	virtq_done(&m->queue, chain);
	m->done[serial % SIZE_MAX_RING] = true;
	if (!m->in_order)
		give(m, serial, entries_of(m, serial));
	while (m->in_order && m->given != m->popped && m->done[m->given % SIZE_MAX_RING])
		give(m, m->given, entries_of(m, m->given));
	show_many(m);
	assert_int_equal(m->line.raised, m->interrupts);
}

static void unpop(struct model *m)
{
	struct chain *last = m->held_count ? m->held[m->held_count - 1] : NULL;

	if (!last || serial_of(m, last) != m->popped - 1)
		return;
	virtq_unpop(&m->queue, last);
	m->held_count--;
	m->popped--;
}

static void publish(struct model *m)
{
	virtq_publish(&m->queue);
	published(m);
	assert_int_equal(m->line.raised, m->interrupts);
}

static void arm(struct model *m)
{
	bool empty = m->queue.empty, more = m->popped != m->posted;

	assert_int_equal(virtq_waiting(&m->queue), empty && more);
	assert_int_equal(virtq_arm(&m->queue), empty && more);
	if (empty) {
		m->awake = false;
		m->asleep = !more;
	}
}

/* Where all that is in flight was popped last. */
static void stop_and_go_on(struct model *m)
{
	if (m->popped - m->given != m->held_count)
		return;
	for (unsigned int i = 0; i < m->held_count; i++)
		if (serial_of(m, m->held[i]) != m->popped - m->held_count + i)
			return;
	publish(m);
	virtq_deactivate(&m->queue);
	assert_null(virtq_pop(&m->queue));
	m->popped -= m->held_count;
	m->held_count = 0;
	/* Nobody looked at the driver's flags since. */
	m->asleep = m->awake = false;
	assert_int_equal(virtq_activate(&m->queue, &m->ram.mem, features(m)), 0);
}

static void turn(struct model *m)
{
	switch (below(m, 20)) {
	case 0 ... 4:
		post(m);
		break;
	case 5 ... 8:
		pop(m);
		break;
	case 9 ... 12:
		done(m);
		break;
	case 13:
		unpop(m);
		break;
	case 14:
		publish(m);
		break;
	case 15:
		arm(m);
		break;
	case 16 ... 17:
		take(m);
		break;
	case 18:
		choose_interrupts(m);
		break;
	default:
		if (below(m, 4) == 0)
			stop_and_go_on(m);
		else if (below(m, 60) == 0)
			begin(m);
		break;
	}
}

static void schedules(bool packed)
{
	struct model m = {
		.dev = { .class = &class },
		.random = packed,
		.packed = packed,
	};

	ram_init(&m.ram);
	m.dev.mem = &m.ram.mem;
	line_init(&m.line, &m.dev);
	assert_int_equal(virtq_init(&m.queue, &m.dev, 0, SIZE_MAX_RING, 0), 0);
	begin(&m);
	for (int i = 0; i < STEPS; i++)
		turn(&m);
	/* They came far enough to be worth it. */
	assert_true(stat_read(&m.queue.counters[VIRTQ_CHAINS]) > STEPS / 20);
	assert_true(stat_read(&m.queue.counters[VIRTQ_INTERRUPTS]) > STEPS / 100);
	assert_true(stat_read(&m.queue.counters[VIRTQ_SUPPRESSED]) > STEPS / 100);
	virtq_free(&m.queue);
	ram_free(&m.ram);
}

static void test_split(void **state)
{
	(void)state;
	schedules(false);
}

static void test_packed(void **state)
{
	(void)state;
	schedules(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_split),
		cmocka_unit_test(test_packed),
	};

	log_set_level(LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
