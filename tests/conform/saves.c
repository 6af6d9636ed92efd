// SPDX-License-Identifier: Apache-2.0
/*
 * Saves: what is loaded is what was saved, a driver notices nothing, and a
 * save that was tampered with is refused or harmless. What a save refers to in
 * guest memory is the driver's anyway, so harmless is what the device survives.
 */
#include "tests/conform/conform.h"

static void save(struct conform *c, struct state *state)
{
	*state = (struct state){ 0 };
	CHECK(vdrv_save(&c->vdrv, state) == 0);
}

/* Steps of the life of a device, each after a reset. */
static void go_to(struct conform *c, unsigned int step)
{
	CHECK(vdrv_reset(&c->vdrv) == 0);
	if (step == 1)
		vdrv_set(&c->vdrv, VDRV_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	if (step == 2 || step == 3)
		conform_negotiate(c);
	if (step == 3)
		for (unsigned int i = 0; i < c->vdrv.queue_count; i++)
			CHECK(vdrv_set_up_queue(&c->vdrv, i, 4) == 0);
	if (step >= 4)
		conform_begin(c);
	if (step >= 5)
		conform_probe_all(c);
	if (step >= 6)
		conform_probe_all(c);
}

#define STEPS 7

static void save_load_save(struct conform *c, const void *arg)
{
	(void)arg;
	conform_threads(c);
	for (unsigned int step = 0; step < STEPS; step++) {
		struct state first, second;

		go_to(c, step);
		save(c, &first);
		CHECK(vdrv_load(&c->vdrv, &first) == 0);
		save(c, &second);
		CHECK(first.len == second.len && !memcmp(first.data, second.data, first.len));
		virtio_dev_resume(c->vdrv.dev);
		if (step >= 4)
			conform_probe_all(c);
		state_free(&first);
		state_free(&second);
	}
	conform_works(c);
}

/* A driver that was in the middle of its work goes on with it: nothing is lost, nothing comes twice. */
static void in_flight(struct conform *c, const void *arg)
{
	(void)arg;
	conform_threads(c);
	conform_begin(c);
	for (int round = 0; round < 4; round++) {
		unsigned int posted[VIRTIO_QUEUES_MAX] = { 0 };
		struct state state;

		conform_feed(c);
		for (unsigned int i = 0; i < c->vdrv.queue_count; i++) {
			if (c->probes[i].outcome != CONFORM_USES)
				continue;
			while (conform_post(c, i) >= 0)
				posted[i]++;
			vdrv_ring(&c->vdrv.queues[i]);
		}
		if (round % 2)
			vdrv_settle(&c->vdrv);
		save(c, &state);
		CHECK(vdrv_load(&c->vdrv, &state) == 0);
		state_free(&state);
		virtio_dev_resume(c->vdrv.dev);
		for (unsigned int i = 0; i < c->vdrv.queue_count; i++) {
			while (posted[i]--)
				CHECK(conform_take(c, i) >= 0);
			CHECK(c->probes[i].outcome != CONFORM_USES ||
			      c->vdrv.queues[i].free == c->vdrv.queues[i].layout.size);
		}
		CHECK(!vdrv_needs_reset(&c->vdrv));
	}
}

/* The same device goes on after a save, as a snapshot of a VM that keeps running. */
static void pause_and_resume(struct conform *c, const void *arg)
{
	(void)arg;
	conform_threads(c);
	conform_begin(c);
	for (int round = 0; round < 5; round++) {
		struct state state;

		conform_probe_all(c);
		save(c, &state);
		state_free(&state);
		virtio_dev_resume(c->vdrv.dev);
		conform_probe_all(c);
	}
}

/* The device that is there at last is a good one again. */
static void put_back(struct conform *c, const struct state *good)
{
	CHECK(vdrv_load(&c->vdrv, good) == 0);
	virtio_dev_resume(c->vdrv.dev);
	conform_works(c);
}

static void truncated(struct conform *c, const void *arg)
{
	struct state good, cut;

	(void)arg;
	conform_begin(c);
	conform_probe_all(c);
	save(c, &good);
	cut = good;
	/* Primes, so that both headers and bodies are cut. */
	for (cut.len = 0; cut.len < good.len; cut.len += cut.len < 64 ? 7 : 31)
		CHECK(vdrv_load(&c->vdrv, &cut) < 0);
	cut.len = good.len - 1;
	CHECK(vdrv_load(&c->vdrv, &cut) < 0);
	put_back(c, &good);
	state_free(&good);
}

/* Goes on as a driver would: whatever was loaded, the device does as it likes with memory that it has. */
static void use(struct conform *c)
{
	struct vdrv *vdrv = &c->vdrv;
	const uint64_t end = vdrv_ram_end(vdrv);

	virtio_dev_resume(vdrv->dev);
	for (unsigned int i = 0; i < vdrv->queue_count; i++)
		vdrv_ring(&vdrv->queues[i]);
	vdrv_settle(vdrv);
	/* If it did not run: with smaller queues than there were, at the very end of memory. */
	for (unsigned int i = 0; i < vdrv->queue_count; i++)
		vdrv_tell_queue(vdrv, i, &(struct virtq_layout){ 2, true, end - 32, end - 64, end - 96 });
	vdrv_set(vdrv, VDRV_STATUS, 0xf);
	vdrv_settle(vdrv);
	for (unsigned int i = 0; i < vdrv->queue_count; i++)
		vdrv_ring(&vdrv->queues[i]);
	vdrv_settle(vdrv);
}

/* One byte in so many; the cells of the matrix begin at different ones. */
static void mutated(struct conform *c, const void *arg)
{
	static const uint8_t flips[] = { 0x01, 0x80, 0xff, 0x10 };
	const unsigned int *step = arg;
	const size_t stride = 4, first = 2u * c->cell.cut + (c->cell.transport == VDRV_PCI);
	struct state good, bad;

	go_to(c, *step);
	save(c, &good);
	bad = (struct state){ .data = malloc(good.len), .len = good.len };
	CHECK(bad.data != NULL);
	for (size_t i = first; i < good.len; i += stride) {
		memcpy(bad.data, good.data, good.len);
		bad.data[i] ^= flips[i / stride % ARRAY_SIZE(flips)];
		if (vdrv_load(&c->vdrv, &bad))
			continue;
		use(c);
		CHECK(vdrv_reset(&c->vdrv) == 0);
		conform_works(c);
		go_to(c, *step);
	}
	put_back(c, &good);
	state_free(&good);
	state_free(&bad);
}

/* What is behind the last section is somebody else's, what is of another class is refused. */
static void of_another_device(struct conform *c, const void *arg)
{
	struct state good, other = { 0 };

	(void)arg;
	conform_begin(c);
	save(c, &good);
	CHECK(state_put(&other, "somebody else", 1, "x", 1) == 0);
	CHECK(vdrv_load(&c->vdrv, &other) < 0);
	state_free(&other);
	put_back(c, &good);
	state_free(&good);
}

const struct conform_case conform_saves[] = {
	{ "save: load and save again", save_load_save, NULL, false },
	{ "save: with requests in flight", in_flight, NULL, false },
	{ "save: and go on", pause_and_resume, NULL, false },
	{ "save: truncated", truncated, NULL, false },
	{ "save: mutated, with features agreed", mutated, &(const unsigned int){ 2 }, false },
	{ "save: mutated, with queues set up", mutated, &(const unsigned int){ 3 }, false },
	{ "save: mutated, while it runs", mutated, &(const unsigned int){ 6 }, false },
	{ "save: of another device", of_another_device, NULL, false },
	{ 0 },
};
