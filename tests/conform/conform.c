// SPDX-License-Identifier: Apache-2.0
/* What the cases share. */
#include "tests/conform/conform.h"

#include <stdio.h>
#include <stdlib.h>

#define FEED_MS 20

void conform_check(bool holds, const char *condition, const char *file, int line)
{
	if (holds)
		return;
	fprintf(stderr, "%s:%d: %s (errno %s)\n", file, line, condition, strerrorname_np(errno));
	_exit(CONFORM_FAILED);
}

void conform_skip(const char *reason)
{
	fprintf(stderr, "%s\n", reason);
	_exit(CONFORM_SKIPPED);
}

void conform_not_here(void)
{
	_exit(CONFORM_NOT_HERE);
}

void conform_open(struct conform *c, const char *extra, uint64_t ram)
{
	struct vdrv_setup setup = {
		.class = c->class,
		.options = c->options,
		.transport = c->cell.transport,
		.ram = ram,
		.region = c->cell.cut ? CONFORM_PAGE : 0,
		.confine = c->threads && c->confine,
	};
	size_t len = strlen(c->options);

	snprintf(c->options + len, sizeof(c->options) - len, "%s",
		 len || !*extra ? extra : extra + 1);
	errno = -vdrv_open(&c->vdrv, &setup);
	CHECK(errno == 0);
	c->data = util_align_up(c->vdrv.next, CONFORM_PAGE);
	c->vdrv.next = c->data + CONFORM_DATA_LEN;
	c->features = vdrv_offered(&c->vdrv);
	if (!c->cell.packed)
		c->features &= ~(1ULL << VIRTIO_F_RING_PACKED);
}

void conform_threads(struct conform *c)
{
	if (!c->threads)
		return;
	errno = -vdrv_run(&c->vdrv);
	CHECK(errno == 0);
}

uint16_t conform_size(const struct conform *c, unsigned int queue)
{
	uint16_t max = virtio_queue_max(c->vdrv.dev, queue);

	return c->cell.cut ? (uint16_t)util_min(max, CONFORM_CUT_SIZE) : max;
}

void conform_begin_with(struct conform *c, uint64_t features)
{
	errno = -vdrv_negotiate(&c->vdrv, features);
	CHECK(errno == 0);
	conform_start(c);
}

void conform_begin(struct conform *c)
{
	conform_begin_with(c, c->features);
}

void conform_negotiate(struct conform *c)
{
	errno = -vdrv_negotiate(&c->vdrv, c->features);
	CHECK(errno == 0);
}

void conform_start(struct conform *c)
{
	errno = -vdrv_start(&c->vdrv, c->cell.cut ? CONFORM_CUT_SIZE : 0);
	CHECK(errno == 0);
}

/* ---- probes ---- */

int conform_post_at(struct conform *c, unsigned int queue, uint64_t out, uint64_t in, uint64_t table)
{
	const struct conform_probe *probe = &c->probes[queue];
	const struct vdrv_buffer buffers[] = { { out, probe->out, false }, { in, probe->in, true } };
	unsigned int first = !probe->out, count = !!probe->out + !!probe->in;

	conform_give(c, in, probe->in);
	return vdrv_post(&c->vdrv.queues[queue], buffers + first, count, table);
}

static uint64_t probe_buffer(const struct conform *c, unsigned int queue)
{
	return c->data + (CONFORM_PAGES + queue) * CONFORM_PAGE;
}

int conform_post(struct conform *c, unsigned int queue)
{
	return conform_post_at(c, queue, c->data, probe_buffer(c, queue), 0);
}

void conform_feed(struct conform *c)
{
	uint16_t id;

	for (unsigned int i = 0; i < c->vdrv.queue_count; i++) {
		struct vdrv_queue *queue = &c->vdrv.queues[i];

		if (c->probes[i].outcome != CONFORM_HOLDS || !queue->layout.ready)
			continue;
		while (vdrv_take(queue, &id, NULL))
			;
		while (conform_post(c, i) >= 0)
			;
		vdrv_kick(queue);
	}
}

int conform_take(struct conform *c, unsigned int queue)
{
	uint16_t id;
	uint32_t len;

	if (c->probes[queue].outcome != CONFORM_USES)
		return -1;
	errno = ETIMEDOUT;
	for (int ms = 0; errno && ms < VDRV_TIMEOUT_MS; ms += FEED_MS) {
		conform_feed(c);
		errno = -vdrv_wait(&c->vdrv.queues[queue], FEED_MS);
	}
	if (errno)
		fprintf(stderr, "queue %u with %u entries: ", queue, c->vdrv.queues[queue].layout.size);
	CHECK(errno == 0);
	CHECK(vdrv_take(&c->vdrv.queues[queue], &id, &len));
	CHECK(len <= c->probes[queue].in);
	return id;
}

void conform_probe_all(struct conform *c)
{
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++) {
		int id;

		if (c->probes[i].outcome == CONFORM_FAILS)
			continue;
		id = conform_post(c, i);
		/* One that holds what it is given may have all that it can. */
		CHECK(id >= 0 || c->probes[i].outcome == CONFORM_HOLDS);
		vdrv_kick(&c->vdrv.queues[i]);
		vdrv_settle(&c->vdrv);
		if (c->probes[i].outcome == CONFORM_USES)
			CHECK(conform_take(c, i) == id);
		CHECK(!vdrv_needs_reset(&c->vdrv));
	}
}

void conform_works(struct conform *c)
{
	conform_begin(c);
	memset(vdrv_ptr(&c->vdrv, c->data, CONFORM_DATA_LEN), 0, CONFORM_DATA_LEN);
	conform_probe_all(c);
}

/* ---- canaries ---- */

static void remember(struct conform *c)
{
	const struct vdrv *vdrv = &c->vdrv;

	if (!c->before)
		c->before = malloc(vdrv->ram_len);
	CHECK(c->before != NULL);
	memcpy(c->before, vdrv->ram, vdrv->ram_len);
	c->given_count = 0;
}

static void give_ring(struct conform *c, unsigned int queue)
{
	const struct virtq_layout *layout = &c->vdrv.queues[queue].layout;
	const struct vdrv_areas areas = vdrv_areas(&c->vdrv, layout->size);

	conform_give(c, layout->device, areas.device);
	if (c->vdrv.queues[queue].packed)
		conform_give(c, layout->desc, areas.desc);
}

void conform_watch(struct conform *c)
{
	remember(c);
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++)
		give_ring(c, i);
}

void conform_watch_queue(struct conform *c, unsigned int queue)
{
	remember(c);
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++) {
		if (i == queue)
			continue;
		give_ring(c, i);
		conform_give(c, probe_buffer(c, i), c->probes[i].in);
	}
}

void conform_give(struct conform *c, uint64_t gpa, uint64_t len)
{
	if (!c->before)
		return;
	for (unsigned int i = 0; i < c->given_count; i++)
		if (c->given[i].gpa == gpa && c->given[i].len >= len)
			return;
	CHECK(c->given_count < CONFORM_GIVEN_MAX);
	c->given[c->given_count++] = (struct mem_range){ gpa, len };
}

static bool given(const struct conform *c, uint64_t gpa)
{
	for (unsigned int i = 0; i < c->given_count; i++)
		if (gpa - c->given[i].gpa < c->given[i].len)
			return true;
	return false;
}

void conform_untouched(struct conform *c)
{
	const uint8_t *now = c->vdrv.ram;

	for (uint64_t page = 0; page < c->vdrv.ram_len; page += CONFORM_PAGE) {
		if (!memcmp(now + page, c->before + page, CONFORM_PAGE))
			continue;
		for (uint64_t i = page; i < page + CONFORM_PAGE; i++)
			if (now[i] != c->before[i] && !given(c, VDRV_RAM + i)) {
				fprintf(stderr, "guest memory at %#jx was written\n",
					(uintmax_t)(VDRV_RAM + i));
				CHECK(given(c, VDRV_RAM + i));
			}
	}
}

/* Whether the device fails, for which one that is served elsewhere takes its time. */
static bool fails(struct conform *c, unsigned int queue)
{
	struct vdrv *vdrv = &c->vdrv;

	vdrv_settle(vdrv);
	for (int ms = 0; !vdrv_needs_reset(vdrv) && ms < VDRV_TIMEOUT_MS; ms += FEED_MS) {
		if (c->probes[queue].outcome != CONFORM_USES || vdrv_used(&vdrv->queues[queue]))
			return false;
		usleep(FEED_MS * 1000);
		vdrv_settle(vdrv);
	}
	return vdrv_needs_reset(vdrv);
}

void conform_refused(struct conform *c, unsigned int queue)
{
	struct vdrv *vdrv = &c->vdrv;
	bool failed;

	vdrv_ring(&vdrv->queues[queue]);
	failed = fails(c, queue);
	CHECK(failed || !vdrv_used(&vdrv->queues[queue]));
	/* A queue that uses buffers as they come has seen this one. */
	CHECK(failed || c->probes[queue].outcome != CONFORM_USES);
	/* Section 2.1.2. */
	CHECK(!failed || vdrv_config_interrupts(vdrv) > 0);
	conform_untouched(c);
}

uint32_t conform_random(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return *seed >> 8 | *seed << 24;
}
