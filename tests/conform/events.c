// SPDX-License-Identifier: Apache-2.0
/*
 * Notifications and order. Without threads, as these cases say what comes in
 * which turn of the device.
 */
#include "tests/conform/conform.h"

#define BATCH 4

static uint64_t counter(const struct conform *c, unsigned int queue, enum virtq_counter which)
{
	return stat_read(&c->vdrv.dev->queues[queue].counters[which]);
}

static void post_batch(struct conform *c, unsigned int queue)
{
	conform_feed(c);
	vdrv_turn(&c->vdrv);
	for (int i = 0; i < BATCH; i++)
		CHECK(conform_post(c, queue) >= 0);
}

static void take_batch(struct conform *c, unsigned int queue)
{
	uint16_t id;

	for (int i = 0; i < BATCH; i++) {
		/* Not by conform_take(), which would ask for interrupts. */
		CHECK(vdrv_take(&c->vdrv.queues[queue], &id, NULL));
	}
	CHECK(!vdrv_used(&c->vdrv.queues[queue]));
}

/* The features, with or without VIRTIO_RING_F_EVENT_IDX. */
static uint64_t features(const struct conform *c, const void *event_idx)
{
	return event_idx ? c->features : c->features & ~(1ULL << VIRTIO_RING_F_EVENT_IDX);
}

/* Whether the queue uses up probes within a turn; then it is the only one whose interrupts are wanted. */
static bool prompt(struct conform *c, unsigned int queue)
{
	uint16_t id;

	if (c->probes[queue].outcome != CONFORM_USES)
		return false;
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++)
		if (i != queue)
			vdrv_arm(&c->vdrv.queues[i], 0);
	CHECK(conform_post(c, queue) >= 0);
	vdrv_ring(&c->vdrv.queues[queue]);
	vdrv_turn(&c->vdrv);
	return vdrv_take(&c->vdrv.queues[queue], &id, NULL);
}

static void interrupts_not_wanted(struct conform *c, const void *event_idx)
{
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++) {
		uint64_t sent, suppressed;

		conform_begin_with(c, features(c, event_idx));
		if (!prompt(c, i))
			continue;
		vdrv_arm(&c->vdrv.queues[i], 0);
		(void)vdrv_interrupts(&c->vdrv, i);
		sent = counter(c, i, VIRTQ_INTERRUPTS);
		suppressed = counter(c, i, VIRTQ_SUPPRESSED);
		post_batch(c, i);
		vdrv_kick(&c->vdrv.queues[i]);
		vdrv_turn(&c->vdrv);
		take_batch(c, i);
		CHECK(vdrv_interrupts(&c->vdrv, i) == 0);
		CHECK(counter(c, i, VIRTQ_INTERRUPTS) == sent);
		CHECK(counter(c, i, VIRTQ_SUPPRESSED) > suppressed);
	}
}

/* One for what a turn brought. */
static void interrupts_wanted(struct conform *c, const void *event_idx)
{
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++) {
		uint64_t sent;

		conform_begin_with(c, features(c, event_idx));
		if (!prompt(c, i))
			continue;
		vdrv_arm(&c->vdrv.queues[i], 1);
		(void)vdrv_interrupts(&c->vdrv, i);
		sent = counter(c, i, VIRTQ_INTERRUPTS);
		post_batch(c, i);
		vdrv_kick(&c->vdrv.queues[i]);
		vdrv_turn(&c->vdrv);
		take_batch(c, i);
		CHECK(vdrv_interrupts(&c->vdrv, i) == 1);
		CHECK(counter(c, i, VIRTQ_INTERRUPTS) == sent + 1);
	}
}

/* Only when the nth buffer was used. */
static void interrupt_for_the_nth(struct conform *c, const void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++) {
		struct vdrv_queue *queue = &c->vdrv.queues[i];
		const unsigned int entries = !!c->probes[i].out + !!c->probes[i].in;

		conform_begin(c);
		if (!prompt(c, i))
			continue;
		for (int round = 0; round < 3 * queue->layout.size / BATCH; round++) {
			/* The first entry of the last chain, where entries count. */
			vdrv_arm(queue, (uint16_t)(c->cell.packed ? (BATCH - 1) * entries + 1 : BATCH));
			conform_feed(c);
			vdrv_turn(&c->vdrv);
			(void)vdrv_interrupts(&c->vdrv, i);
			for (int n = 0; n < BATCH; n++) {
				CHECK(vdrv_interrupts(&c->vdrv, i) == 0);
				CHECK(conform_post(c, i) >= 0);
				vdrv_kick(queue);
				vdrv_turn(&c->vdrv);
			}
			CHECK(vdrv_interrupts(&c->vdrv, i) == 1);
			take_batch(c, i);
		}
	}
}

/* A device that was told of work and has not looked yet needs no more doorbells; an idle one does. */
static void doorbells(struct conform *c, const void *event_idx)
{
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++) {
		struct vdrv_queue *queue = &c->vdrv.queues[i];

		conform_begin_with(c, features(c, event_idx));
		if (!prompt(c, i))
			continue;
		for (int round = 0; round < 3 * queue->layout.size / BATCH; round++) {
			conform_feed(c);
			vdrv_turn(&c->vdrv);
			CHECK(conform_post(c, i) >= 0);
			CHECK(vdrv_kick(queue));
			for (int n = 1; n < BATCH; n++) {
				CHECK(conform_post(c, i) >= 0);
				/* Flags are only as new as the device's last turn. */
				CHECK(vdrv_kick(queue) == !event_idx);
			}
			vdrv_turn(&c->vdrv);
			take_batch(c, i);
		}
		CHECK(!vdrv_needs_reset(&c->vdrv));
	}
}

static void one_doorbell_wakes_once(struct conform *c, const void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++) {
		uint64_t kicks, chains;

		conform_begin(c);
		if (!prompt(c, i))
			continue;
		kicks = counter(c, i, VIRTQ_KICKS);
		chains = counter(c, i, VIRTQ_CHAINS);
		post_batch(c, i);
		for (int n = 0; n < 3; n++)
			vdrv_ring(&c->vdrv.queues[i]);
		vdrv_turn(&c->vdrv);
		take_batch(c, i);
		CHECK(counter(c, i, VIRTQ_KICKS) == kicks + 1);
		CHECK(counter(c, i, VIRTQ_CHAINS) == chains + BATCH);
	}
}

/* The same device with VIRTIO_F_IN_ORDER. */
static void in_order(struct conform *c, const void *arg)
{
	(void)arg;
	vdrv_close(&c->vdrv);
	conform_open(c, ",in-order=on", CONFORM_RAM);
	CHECK(c->features >> VIRTIO_F_IN_ORDER & 1);
	conform_threads(c);
	conform_begin(c);
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++) {
		int ids[BATCH];

		if (c->probes[i].outcome != CONFORM_USES)
			continue;
		for (int round = 0; round < c->vdrv.queues[i].layout.size; round++) {
			for (int n = 0; n < BATCH; n++)
				ids[n] = conform_post(c, i);
			vdrv_kick(&c->vdrv.queues[i]);
			for (int n = 0; n < BATCH; n++)
				CHECK(conform_take(c, i) == ids[n]);
		}
	}
	conform_works(c);
}

/* Section 2.9, which costs a PCI device nothing: its doorbells take any value. */
static void notification_data(struct conform *c, const void *arg)
{
	const bool agreed = c->features >> VIRTIO_F_NOTIFICATION_DATA & 1;

	(void)arg;
	CHECK(agreed == (c->cell.transport == VDRV_PCI));
	conform_threads(c);
	conform_works(c);
	conform_begin_with(c, c->features & ~(1ULL << VIRTIO_F_NOTIFICATION_DATA));
	conform_probe_all(c);
}

#define WITH_EVENT_IDX "with"

const struct conform_case conform_events[] = {
	{ "events: no interrupt unless wanted, by flags", interrupts_not_wanted, NULL, false },
	{ "events: no interrupt unless wanted, by index", interrupts_not_wanted, WITH_EVENT_IDX, false },
	{ "events: one interrupt for a turn, by flags", interrupts_wanted, NULL, false },
	{ "events: one interrupt for a turn, by index", interrupts_wanted, WITH_EVENT_IDX, false },
	{ "events: an interrupt for the nth buffer", interrupt_for_the_nth, NULL, false },
	{ "events: no doorbell unless wanted, by flags", doorbells, NULL, false },
	{ "events: no doorbell unless wanted, by index", doorbells, WITH_EVENT_IDX, false },
	{ "events: doorbells that come together wake once", one_doorbell_wakes_once, NULL, false },
	{ "order: as buffers came", in_order, NULL, false },
	{ "notification data: on PCI", notification_data, NULL, false },
	{ 0 },
};
