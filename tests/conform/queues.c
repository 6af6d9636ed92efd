// SPDX-License-Identifier: Apache-2.0
/* How queues are set up, and how they must not be. */
#include "tests/conform/conform.h"

/* One of the three areas is elsewhere than it should be. */
enum area { DESC, DRIVER, DEVICE };

static uint64_t *area_of(struct virtq_layout *layout, enum area area)
{
	return area == DESC ? &layout->desc : area == DRIVER ? &layout->driver : &layout->device;
}

static uint64_t area_len(const struct conform *c, uint16_t size, enum area area)
{
	const struct vdrv_areas areas = vdrv_areas(&c->vdrv, size);

	return area == DESC ? areas.desc : area == DRIVER ? areas.driver : areas.device;
}

static void set_driver_ok(struct conform *c)
{
	vdrv_set(&c->vdrv, VDRV_STATUS, 0xf);
	vdrv_settle(&c->vdrv);
}

/* Negotiates and sets all queues up; *ret_layout is how the queue was. */
static void set_up(struct conform *c, unsigned int queue, struct virtq_layout *ret_layout)
{
	conform_negotiate(c);
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++)
		CHECK(vdrv_set_up_queue(&c->vdrv, i, conform_size(c, i)) == 0);
	*ret_layout = c->vdrv.queues[queue].layout;
}

/* The queue is told to be like this, and the device must not start with it. */
static void refused(struct conform *c, unsigned int queue, const struct virtq_layout *layout)
{
	vdrv_tell_queue(&c->vdrv, queue, layout);
	c->given_count = 0;
	conform_watch(c);
	set_driver_ok(c);
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++)
		vdrv_ring(&c->vdrv.queues[i]);
	vdrv_settle(&c->vdrv);
	CHECK(vdrv_needs_reset(&c->vdrv));
	conform_untouched(c);
}

static void as_offered(struct conform *c, const void *arg)
{
	(void)arg;
	CHECK(c->vdrv.queue_count == c->vdrv.dev->queue_count);
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++) {
		uint32_t max = vdrv_queue_get(&c->vdrv, i, VDRV_QUEUE_MAX);

		CHECK(max && !(max & (max - 1)) && max <= VIRTQ_SIZE_MAX);
		CHECK(vdrv_queue_get(&c->vdrv, i, VDRV_QUEUE_READY) == 0);
	}
	conform_threads(c);
	conform_works(c);
}

static void sizes_that_are_none(struct conform *c, const void *arg)
{
	struct virtq_layout layout;

	(void)arg;
	conform_threads(c);
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++) {
		set_up(c, i, &layout);
		layout.size = 0;
		refused(c, i, &layout);
		if (c->cell.packed)
			continue;
		set_up(c, i, &layout);
		layout.size = (uint16_t)(layout.size - 1);
		refused(c, i, &layout);
	}
	conform_works(c);
}

/* What is written beyond the largest has no effect. */
static void sizes_too_large(struct conform *c, const void *arg)
{
	static const uint32_t beyond[] = { 1, 2, 3 };
	struct virtq_layout layout;

	(void)arg;
	conform_threads(c);
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++) {
		uint32_t max = virtio_queue_max(c->vdrv.dev, i);

		for (size_t n = 0; n < ARRAY_SIZE(beyond); n++) {
			set_up(c, i, &layout);
			vdrv_queue_set(&c->vdrv, i, VDRV_QUEUE_SIZE, max * beyond[n] + 1);
			CHECK(virtio_queue(c->vdrv.dev, i).size <= max);
		}
	}
	conform_works(c);
}

static void small_sizes(struct conform *c, const void *arg)
{
	(void)arg;
	conform_threads(c);
	for (uint16_t size = 2; size <= 16; size = (uint16_t)(c->cell.packed ? size + 1 : 2 * size)) {
		conform_negotiate(c);
		CHECK(vdrv_start(&c->vdrv, size) == 0);
		/* Several times around. */
		for (uint16_t i = 0; i < 3 * size; i++) {
			for (unsigned int q = 0; q < c->vdrv.queue_count; q++) {
				if (c->probes[q].outcome != CONFORM_USES)
					continue;
				CHECK(conform_post(c, q) >= 0);
				vdrv_kick(&c->vdrv.queues[q]);
				CHECK(conform_take(c, q) >= 0);
			}
		}
	}
	CHECK(!vdrv_needs_reset(&c->vdrv));
}

static void around_the_ring(struct conform *c, const void *arg)
{
	(void)arg;
	conform_threads(c);
	conform_begin(c);
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++) {
		struct vdrv_queue *queue = &c->vdrv.queues[i];
		unsigned int posted = 0, taken = 0, total = 3u * queue->layout.size + 5;

		if (c->probes[i].outcome != CONFORM_USES)
			continue;
		while (taken < total) {
			/* As many as fit, so that there are batches of all lengths. */
			while (posted < total && conform_post(c, i) >= 0)
				posted++;
			vdrv_kick(queue);
			do {
				CHECK(conform_take(c, i) >= 0);
				taken++;
			} while (vdrv_used(queue));
		}
		CHECK(taken == posted);
		CHECK(queue->free == queue->layout.size);
	}
	CHECK(!vdrv_needs_reset(&c->vdrv));
}

static void misaligned(struct conform *c, const void *arg)
{
	/* Sections 2.7 and 2.8. */
	static const unsigned int split[] = { 16, 2, 4 }, packed[] = { 16, 4, 4 };
	struct virtq_layout layout;

	(void)arg;
	conform_threads(c);
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++)
		for (enum area area = DESC; area <= DEVICE; area++)
			for (unsigned int by = 1; by < (c->cell.packed ? packed : split)[area]; by *= 2) {
				set_up(c, i, &layout);
				layout.size = 4;
				*area_of(&layout, area) += by;
				refused(c, i, &layout);
			}
	conform_works(c);
}

static void outside_of_memory(struct conform *c, const void *arg)
{
	struct virtq_layout layout;

	(void)arg;
	conform_threads(c);
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++)
		for (enum area area = DESC; area <= DEVICE; area++) {
			const uint64_t end = vdrv_ram_end(&c->vdrv);
			const uint64_t addresses[] = { 0, VDRV_RAM - 16, end, UINT64_MAX - 15, 1ULL << 63 };

			for (size_t n = 0; n < ARRAY_SIZE(addresses); n++) {
				set_up(c, i, &layout);
				*area_of(&layout, area) = addresses[n];
				refused(c, i, &layout);
			}
		}
	conform_works(c);
}

/* The last area that fits works, the first that does not is refused. */
static void at_the_end_of_memory(struct conform *c, const void *arg)
{
	static const unsigned int align[] = { 16, 4, 4 };
	struct virtq_layout layout;

	(void)arg;
	conform_threads(c);
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++)
		for (enum area area = DESC; area <= DEVICE; area++) {
			uint64_t at;

			set_up(c, i, &layout);
			at = (vdrv_ram_end(&c->vdrv) - area_len(c, layout.size, area)) &
			     ~(align[area] - 1ULL);
			*area_of(&layout, area) = at;
			CHECK(vdrv_place_queue(&c->vdrv, i, &layout) == 0);
			set_driver_ok(c);
			conform_probe_all(c);

			set_up(c, i, &layout);
			*area_of(&layout, area) = at + align[area];
			refused(c, i, &layout);
		}
	conform_works(c);
}

/* Rings lie within one region; nobody may run on into its neighbour. */
static void across_regions(struct conform *c, const void *arg)
{
	struct virtq_layout layout;

	(void)arg;
	conform_threads(c);
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++)
		for (enum area area = DESC; area <= DEVICE; area++) {
			uint64_t len;

			set_up(c, i, &layout);
			len = area_len(c, layout.size, area);
			/* An event suppression area is aligned to its own length. */
			if (len <= 4)
				continue;
			*area_of(&layout, area) = c->data + CONFORM_PAGE - (area == DESC ? 16 : 4);
			if (c->cell.cut) {
				refused(c, i, &layout);
				continue;
			}
			CHECK(vdrv_place_queue(&c->vdrv, i, &layout) == 0);
			set_driver_ok(c);
			CHECK(!vdrv_needs_reset(&c->vdrv));
		}
	conform_works(c);
}

static void ready_without_addresses(struct conform *c, const void *arg)
{
	const struct virtq_layout nothing = { .size = 4, .ready = true };

	(void)arg;
	conform_threads(c);
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++) {
		conform_negotiate(c);
		refused(c, i, &nothing);
	}
	conform_works(c);
}

static void none_ready(struct conform *c, const void *arg)
{
	(void)arg;
	conform_threads(c);
	conform_negotiate(c);
	conform_watch(c);
	set_driver_ok(c);
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++)
		vdrv_ring(&c->vdrv.queues[i]);
	vdrv_settle(&c->vdrv);
	CHECK(!vdrv_needs_reset(&c->vdrv));
	conform_untouched(c);
	conform_works(c);
}

/* Doorbells, and buffers in the ring, before the driver is ready. */
static void too_early(struct conform *c, const void *arg)
{
	struct virtq_layout layout;

	(void)arg;
	conform_threads(c);
	set_up(c, 0, &layout);
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++)
		if (c->probes[i].outcome != CONFORM_FAILS)
			CHECK(conform_post(c, i) >= 0);
	conform_watch(c);
	c->given_count = 0;
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++)
		vdrv_ring(&c->vdrv.queues[i]);
	vdrv_settle(&c->vdrv);
	conform_untouched(c);
	/* Section 3.1.1: once it is, it finds them without another doorbell. */
	set_driver_ok(c);
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++)
		(void)conform_take(c, i);
	CHECK(!vdrv_needs_reset(&c->vdrv));
}

/* While it runs a queue stays as it was, whatever is written. */
static void frozen(struct conform *c, const void *arg)
{
	(void)arg;
	conform_threads(c);
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++) {
		struct virtq_layout before, lie = { 2, false, c->data, c->data + 0x1000, 0 };

		conform_begin(c);
		before = virtio_queue(c->vdrv.dev, i);
		vdrv_tell_queue(&c->vdrv, i, &lie);
		c->vdrv.queues[i].layout = before;
		lie = virtio_queue(c->vdrv.dev, i);
		CHECK(lie.size == before.size && lie.ready && lie.desc == before.desc &&
		      lie.driver == before.driver && lie.device == before.device);
		conform_probe_all(c);
		conform_probe_all(c);
	}
}

/* ---- VIRTIO_F_RING_RESET ---- */

static void ring_reset(struct conform *c, const void *arg)
{
	(void)arg;
	conform_threads(c);
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++) {
		conform_begin(c);
		conform_probe_all(c);
		for (uint16_t size = 4; size <= 16; size = (uint16_t)(size * 2)) {
			while (c->probes[i].outcome != CONFORM_FAILS && conform_post(c, i) >= 0)
				;
			vdrv_ring(&c->vdrv.queues[i]);
			CHECK(vdrv_reset_queue(&c->vdrv, i) == 0);
			CHECK(vdrv_queue_get(&c->vdrv, i, VDRV_QUEUE_READY) == 0);
			conform_watch_queue(c, i);
			vdrv_ring(&c->vdrv.queues[i]);
			vdrv_settle(&c->vdrv);
			conform_untouched(c);
			free(c->before);
			c->before = NULL;
			CHECK(vdrv_set_up_queue(&c->vdrv, i, size) == 0);
			vdrv_settle(&c->vdrv);
			CHECK(vdrv_queue_get(&c->vdrv, i, VDRV_QUEUE_READY) == 1);
			conform_probe_all(c);
		}
	}
}

static void ring_reset_abuse(struct conform *c, const void *arg)
{
	struct virtq_layout layout;

	(void)arg;
	conform_threads(c);
	/* Before anything runs, and of a queue that is not ready. */
	set_up(c, 0, &layout);
	vdrv_queue_set(&c->vdrv, 0, VDRV_QUEUE_RESET, 1);
	CHECK(vdrv_queue_get(&c->vdrv, 0, VDRV_QUEUE_RESET) == 0);
	conform_begin(c);
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++) {
		const struct virtq_layout nowhere = { .size = 4, .ready = true };

		for (int n = 0; n < 3; n++)
			vdrv_queue_set(&c->vdrv, i, VDRV_QUEUE_RESET, n < 2 ? 1 : UINT32_MAX);
		CHECK(vdrv_reset_queue(&c->vdrv, i) == 0);
		CHECK(vdrv_reset_queue(&c->vdrv, i) == 0);
		/* Enabled again where there is no memory. */
		vdrv_tell_queue(&c->vdrv, i, &nowhere);
		vdrv_settle(&c->vdrv);
		CHECK(vdrv_needs_reset(&c->vdrv));
		conform_begin(c);
	}
	conform_works(c);
}

static void ring_reset_not_agreed(struct conform *c, const void *arg)
{
	(void)arg;
	conform_threads(c);
	conform_begin_with(c, c->features & ~(1ULL << VIRTIO_F_RING_RESET));
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++) {
		vdrv_queue_set(&c->vdrv, i, VDRV_QUEUE_RESET, 1);
		CHECK(vdrv_queue_get(&c->vdrv, i, VDRV_QUEUE_READY) == 1);
		CHECK(vdrv_queue_get(&c->vdrv, i, VDRV_QUEUE_RESET) == 0);
	}
	conform_probe_all(c);
}

const struct conform_case conform_queues[] = {
	{ "queue: as offered", as_offered, NULL, false },
	{ "queue: sizes that are none", sizes_that_are_none, NULL, false },
	{ "queue: sizes beyond the largest", sizes_too_large, NULL, false },
	{ "queue: small sizes", small_sizes, NULL, false },
	{ "queue: around the ring", around_the_ring, NULL, false },
	{ "queue: misaligned areas", misaligned, NULL, false },
	{ "queue: areas outside of memory", outside_of_memory, NULL, false },
	{ "queue: areas at the end of memory", at_the_end_of_memory, NULL, false },
	{ "queue: areas across regions", across_regions, NULL, false },
	{ "queue: ready without addresses", ready_without_addresses, NULL, false },
	{ "queue: none is ready", none_ready, NULL, false },
	{ "queue: buffers and doorbells too early", too_early, NULL, false },
	{ "queue: frozen while it runs", frozen, NULL, false },
	{ "queue reset: and other sizes", ring_reset, NULL, false },
	{ "queue reset: abuse", ring_reset_abuse, NULL, false },
	{ "queue reset: not agreed on", ring_reset_not_agreed, NULL, false },
	{ 0 },
};
