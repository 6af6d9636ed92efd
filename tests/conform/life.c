// SPDX-License-Identifier: Apache-2.0
/* Negotiation, status, and resets at every moment. */
#include <pthread.h>
#include "tests/conform/conform.h"

#define ACKNOWLEDGE VIRTIO_CONFIG_S_ACKNOWLEDGE
#define DRIVER VIRTIO_CONFIG_S_DRIVER
#define FEATURES_OK VIRTIO_CONFIG_S_FEATURES_OK
#define DRIVER_OK VIRTIO_CONFIG_S_DRIVER_OK
#define NEEDS_RESET VIRTIO_CONFIG_S_NEEDS_RESET
#define VERSION_1 (1ULL << VIRTIO_F_VERSION_1)

static uint32_t status(const struct conform *c)
{
	return vdrv_get(&c->vdrv, VDRV_STATUS);
}

/* ---- features ---- */

static void all_that_is_offered(struct conform *c, const void *arg)
{
	const uint64_t offered = vdrv_offered(&c->vdrv);

	(void)arg;
	CHECK(offered & VERSION_1);
	CHECK(!!(offered >> VIRTIO_F_RING_PACKED & 1) == c->cell.packed);
	conform_threads(c);
	conform_works(c);
	conform_works(c);
	CHECK(vdrv_offered(&c->vdrv) == offered);
}

static void each_alone(struct conform *c, const void *arg)
{
	(void)arg;
	conform_threads(c);
	for (unsigned int bit = 0; bit < 64; bit++) {
		if (!(vdrv_offered(&c->vdrv) >> bit & 1) ||
		    (bit == VIRTIO_F_RING_PACKED && !c->cell.packed))
			continue;
		conform_begin_with(c, VERSION_1 | 1ULL << bit);
	}
	conform_works(c);
}

static void not_offered(struct conform *c, const void *arg)
{
	(void)arg;
	conform_threads(c);
	for (unsigned int bit = 0; bit < 64; bit++) {
		if (vdrv_offered(&c->vdrv) >> bit & 1)
			continue;
		CHECK(vdrv_negotiate(&c->vdrv, VERSION_1 | 1ULL << bit) == -ENOTSUP);
		/* Without agreement nothing starts. */
		vdrv_set(&c->vdrv, VDRV_STATUS, ACKNOWLEDGE | DRIVER | DRIVER_OK);
		CHECK(!(status(c) & (FEATURES_OK | DRIVER_OK)));
	}
	conform_works(c);
}

static void without_version_1(struct conform *c, const void *arg)
{
	(void)arg;
	CHECK(vdrv_negotiate(&c->vdrv, 0) == -ENOTSUP);
	CHECK(vdrv_negotiate(&c->vdrv, c->features & ~VERSION_1) == -ENOTSUP);
	/* Second thoughts are allowed. */
	vdrv_set_features(&c->vdrv, c->features);
	vdrv_set(&c->vdrv, VDRV_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
	CHECK(status(c) & FEATURES_OK);
	conform_works(c);
}

static void frozen_features(struct conform *c, const void *arg)
{
	(void)arg;
	conform_threads(c);
	conform_negotiate(c);
	vdrv_set_features(&c->vdrv, ~0ULL);
	c->vdrv.features = c->features;
	CHECK(c->vdrv.dev->features == c->features);
	conform_start(c);
	vdrv_set_features(&c->vdrv, 0);
	c->vdrv.features = c->features;
	CHECK(c->vdrv.dev->features == c->features);
	conform_probe_all(c);
}

static void feature_words_beyond(struct conform *c, const void *arg)
{
	static const uint32_t words[] = { 2, 3, 31, 32, 0x80000000, UINT32_MAX };

	(void)arg;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		vdrv_set(&c->vdrv, VDRV_DEVICE_WORD, words[i]);
		CHECK(vdrv_get(&c->vdrv, VDRV_DEVICE_FEATURES) == 0);
		vdrv_set(&c->vdrv, VDRV_DRIVER_WORD, words[i]);
		vdrv_set(&c->vdrv, VDRV_DRIVER_FEATURES, UINT32_MAX);
		CHECK(c->vdrv.dev->features == 0);
	}
	conform_works(c);
}

/* ---- status ---- */

static void status_bits_stay(struct conform *c, const void *arg)
{
	(void)arg;
	CHECK(status(c) == 0);
	vdrv_set(&c->vdrv, VDRV_STATUS, ACKNOWLEDGE);
	CHECK(status(c) == ACKNOWLEDGE);
	vdrv_set(&c->vdrv, VDRV_STATUS, DRIVER);
	CHECK(status(c) == (ACKNOWLEDGE | DRIVER));
	conform_begin(c);
	vdrv_set(&c->vdrv, VDRV_STATUS, ACKNOWLEDGE);
	CHECK(status(c) == (ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK));
	conform_probe_all(c);
}

static void status_out_of_order(struct conform *c, const void *arg)
{
	static const uint8_t writes[] = {
		DRIVER_OK, FEATURES_OK, FEATURES_OK | DRIVER_OK, NEEDS_RESET, 0x20, 0xff, 0x7f,
		VIRTIO_CONFIG_S_FAILED,
	};

	(void)arg;
	conform_threads(c);
	for (size_t i = 0; i < ARRAY_SIZE(writes); i++) {
		CHECK(vdrv_reset(&c->vdrv) == 0);
		vdrv_set(&c->vdrv, VDRV_STATUS, writes[i]);
		/* No features were written, so none can be agreed. */
		CHECK(!(status(c) & (FEATURES_OK | DRIVER_OK)));
		/* The device's to say. */
		CHECK(!(status(c) & NEEDS_RESET));
		for (unsigned int q = 0; q < c->vdrv.queue_count; q++)
			vdrv_ring(&c->vdrv.queues[q]);
		vdrv_settle(&c->vdrv);
		CHECK(!(status(c) & NEEDS_RESET));
	}
	conform_works(c);
}

static void driver_ok_twice(struct conform *c, const void *arg)
{
	(void)arg;
	conform_threads(c);
	conform_begin(c);
	conform_probe_all(c);
	for (int i = 0; i < 3; i++) {
		vdrv_set(&c->vdrv, VDRV_STATUS, status(c));
		vdrv_set(&c->vdrv, VDRV_STATUS, DRIVER_OK);
	}
	conform_probe_all(c);
}

/* ---- resets ---- */

static void is_new(struct conform *c)
{
	CHECK(status(c) == 0);
	CHECK(c->vdrv.dev->features == 0);
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++) {
		CHECK(vdrv_queue_get(&c->vdrv, i, VDRV_QUEUE_READY) == 0);
		CHECK(virtio_queue(c->vdrv.dev, i).desc == 0);
		CHECK(virtio_queue(c->vdrv.dev, i).size == vdrv_get(&c->vdrv, VDRV_QUEUE_MAX));
	}
}

static void reset_at_each_step(struct conform *c, const void *arg)
{
	(void)arg;
	conform_threads(c);
	for (unsigned int step = 0; step < 6; step++) {
		if (step == 1)
			vdrv_set(&c->vdrv, VDRV_STATUS, ACKNOWLEDGE);
		if (step == 2)
			vdrv_set_features(&c->vdrv, c->features);
		if (step == 3)
			conform_negotiate(c);
		if (step >= 4)
			conform_begin(c);
		if (step == 5)
			conform_probe_all(c);
		CHECK(vdrv_reset(&c->vdrv) == 0);
		is_new(c);
	}
	/* And again, of a device that has nothing to forget. */
	CHECK(vdrv_reset(&c->vdrv) == 0);
	conform_works(c);
}

static void start_and_stop(struct conform *c, const void *arg)
{
	(void)arg;
	conform_threads(c);
	for (int i = 0; i < 5; i++)
		conform_works(c);
}

/* All that fits. Returns with the doorbells rung. */
static void fill_queues(struct conform *c)
{
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++) {
		if (c->probes[i].outcome == CONFORM_FAILS)
			continue;
		while (conform_post(c, i) >= 0)
			;
		vdrv_ring(&c->vdrv.queues[i]);
	}
}

static void reset_in_flight(struct conform *c, const void *arg)
{
	(void)arg;
	conform_threads(c);
	for (int round = 0; round < 8; round++) {
		conform_begin(c);
		fill_queues(c);
		/* Sooner or later: everything is under way, or some of it. */
		if (round % 4 == 1)
			vdrv_turn(&c->vdrv);
		if (round % 4 == 2)
			vdrv_settle(&c->vdrv);
		if (round % 4 == 3)
			usleep(200);
		CHECK(vdrv_reset(&c->vdrv) == 0);
		is_new(c);
		/* Its memory is the driver's again. */
		conform_watch(c);
		c->given_count = 0;
		for (unsigned int i = 0; i < c->vdrv.queue_count; i++)
			vdrv_ring(&c->vdrv.queues[i]);
		vdrv_settle(&c->vdrv);
		usleep(500);
		conform_untouched(c);
	}
	free(c->before);
	c->before = NULL;
	conform_works(c);
}

struct vcpu {
	pthread_t thread;
	struct conform *c;
	uint32_t seed;
};

static void *vcpu_main(void *arg)
{
	static const uint32_t writes[] = {
		0, ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK, 0xf,
	};
	struct vcpu *vcpu = arg;
	struct vdrv *vdrv = &vcpu->c->vdrv;

	for (int i = 0; i < 1000; i++) {
		uint32_t random = conform_random(&vcpu->seed), queue = random >> 8 & 3;

		if (random % 4 == 0)
			vdrv_set(vdrv, VDRV_STATUS, writes[random / 4 % ARRAY_SIZE(writes)]);
		else if (random % 4 == 1)
			vdrv_queue_set(vdrv, queue, (enum vdrv_register)(random / 4 % VDRV_REGISTERS),
				       conform_random(&vcpu->seed));
		else if (random % 4 == 2)
			(void)vdrv_get(vdrv, (enum vdrv_register)(random / 4 % VDRV_REGISTERS));
		else if (queue < vdrv->queue_count)
			bus_write(vdrv->notify_bus, vdrv->notify + queue * vdrv->notify_multiplier, &queue, 4);
	}
	return NULL;
}

static void racing_vcpus(struct conform *c, const void *arg)
{
	struct vcpu vcpus[2];

	(void)arg;
	conform_threads(c);
	conform_begin(c);
	fill_queues(c);
	for (uint32_t i = 0; i < ARRAY_SIZE(vcpus); i++) {
		vcpus[i] = (struct vcpu){ .c = c, .seed = i };
		CHECK(pthread_create(&vcpus[i].thread, NULL, vcpu_main, &vcpus[i]) == 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(vcpus); i++)
		pthread_join(vcpus[i].thread, NULL);
	conform_works(c);
}

/* A fault stays until a reset: nothing is used after it. */
static void failed_until_reset(struct conform *c, const void *arg)
{
	const struct vring_desc bad = { .addr = 0, .len = 16 };

	(void)arg;
	conform_threads(c);
	for (unsigned int i = 0; i < c->vdrv.queue_count; i++) {
		struct vdrv_queue *queue = &c->vdrv.queues[i];

		if (c->probes[i].outcome != CONFORM_USES)
			continue;
		conform_begin(c);
		vdrv_put(queue, 0, &bad);
		vdrv_expose(queue, 0, 1);
		conform_watch(c);
		conform_refused(c, i);
		CHECK(vdrv_needs_reset(&c->vdrv));
		/* The bit is the device's. */
		vdrv_set(&c->vdrv, VDRV_STATUS, 0xf);
		CHECK(vdrv_needs_reset(&c->vdrv));
		conform_watch(c);
		for (unsigned int q = 0; q < c->vdrv.queue_count; q++) {
			vdrv_ring(&c->vdrv.queues[q]);
			vdrv_settle(&c->vdrv);
			CHECK(!vdrv_used(&c->vdrv.queues[q]));
		}
		conform_untouched(c);
		conform_works(c);
	}
}

const struct conform_case conform_life[] = {
	{ "features: all that are offered", all_that_is_offered, NULL, false },
	{ "features: each of them alone", each_alone, NULL, false },
	{ "features: none that is not offered", not_offered, NULL, false },
	{ "features: none without VERSION_1", without_version_1, NULL, false },
	{ "features: frozen once they are agreed", frozen_features, NULL, false },
	{ "features: words that there are not", feature_words_beyond, NULL, false },
	{ "status: bits stay until a reset", status_bits_stay, NULL, false },
	{ "status: out of order", status_out_of_order, NULL, false },
	{ "status: DRIVER_OK again", driver_ok_twice, NULL, false },
	{ "reset: at each step", reset_at_each_step, NULL, false },
	{ "reset: and start, several times", start_and_stop, NULL, false },
	{ "reset: with requests in flight", reset_in_flight, NULL, false },
	{ "reset: vCPUs that race", racing_vcpus, NULL, false },
	{ "reset: nothing else ends NEEDS_RESET", failed_until_reset, NULL, false },
	{ 0 },
};
