// SPDX-License-Identifier: Apache-2.0
/*
 * What happens to a device that runs: resets that take their time, pauses and
 * saves; and devices with several sets of queues.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "core/state.h"
#include "devices/vhost/vhost.h"
#include "tests/unit/driver.h"
#include "tests/unit/fake.h"

#define RING_RESET (1ULL << VIRTIO_F_RING_RESET)
#define EVENT_IDX (1ULL << VIRTIO_RING_F_EVENT_IDX)
#define RUNNING (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | \
		 VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK)

static const struct fake_conf plain;

static struct fake *fake(struct vq_guest *guest)
{
	return fake_of(guest->dev);
}

static void make(struct vq_guest *guest, const struct fake_conf *conf)
{
	assert_int_equal(vq_guest_init(guest, &fake_class, conf), 0);
}

static bool answers(struct vq_guest *guest, unsigned int queue)
{
	uint32_t len = 0;

	return fake_ask(guest, queue, "question", &len) && len == strlen("question") + 3;
}

/* One that stops no queue before the gate lets it: each takes one. */
static int make_gated(struct vq_guest *guest, struct fake_conf *conf)
{
	conf->gate = eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC);
	assert_true(conf->gate > 0);
	make(guest, conf);
	assert_int_equal(vq_run(guest, false), 0);
	return conf->gate;
}

/* ---- resets ---- */

/* The driver waits for it, the vCPU does not; what is written meanwhile is lost. */
static void test_reset_takes_its_time(void **state)
{
	struct fake_conf conf = { .hold = true };
	struct virtq_layout before, layout = { .size = 4, .ready = true };
	struct vq_guest guest;
	int gate = make_gated(&guest, &conf);
	unsigned int writes;

	(void)state;
	for (unsigned int round = 1; round <= 3; round++) {
		vq_start(&guest, RING_RESET);
		/* One of the queues is not there when it begins. */
		assert_int_equal(eventfd_write(gate, 1), 0);
		virtio_reset_queue(guest.dev, 2);
		while (virtio_queue_resetting(guest.dev, 2))
			usleep(1000);
		vq_post(&guest, 1, &(struct vq_buffer){ VQ_RAM_BASE, 8, true }, 1);
		before = virtio_queue(guest.dev, 1);
		writes = fake(&guest)->config_writes;
		assert_int_equal(vq_set_status(&guest, 0), RUNNING);
		assert_false(virtio_reset_wait(guest.dev, 0));
		assert_false(virtio_reset_wait(guest.dev, 1));

		assert_int_equal(vq_set_status(&guest, VIRTIO_CONFIG_S_FAILED), RUNNING);
		assert_int_equal(vq_set_status(&guest, 0), RUNNING);
		vq_set_features(&guest, UINT64_MAX);
		assert_int_equal(virtio_driver_features(guest.dev, 1), (1ULL << VIRTIO_F_VERSION_1 |
								       RING_RESET) >> 32);
		virtio_set_queue(guest.dev, 1, &layout);
		layout = virtio_queue(guest.dev, 1);
		assert_memory_equal(&layout, &before, sizeof(layout));
		virtio_set_queue(guest.dev, 2, &before);
		assert_false(virtio_queue(guest.dev, 2).ready);
		virtio_reset_queue(guest.dev, 1);
		assert_false(virtio_queue_resetting(guest.dev, 1));
		virtio_config_write(guest.dev, 0, "x", 1);

		/* One queue is not enough. */
		assert_int_equal(eventfd_write(gate, FAKE_QUEUES - 2), 0);
		assert_false(virtio_reset_wait(guest.dev, 1));
		assert_int_equal(eventfd_write(gate, 1), 0);
		assert_true(virtio_reset_wait(guest.dev, -1));
		assert_int_equal(virtio_status(guest.dev), 0);
		assert_int_equal(fake(&guest)->config_writes, writes);
		assert_int_equal(fake(&guest)->resets, round);
		assert_int_equal(fake(&guest)->queues[1].stops, round);
		assert_int_equal(fake(&guest)->queues[1].resets, round);
		assert_int_equal(guest.dev->features, 0);
		assert_false(virtio_queue(guest.dev, 1).ready);
	}
	conf.hold = false;
	conf.gate = 0;
	vq_start(&guest, 0);
	assert_true(answers(&guest, 1));
	vq_guest_free(&guest);
	close(gate);
}

/* The end of the run does wait, for the reset that goes on and for its own. */
static void test_freed_while_it_resets(void **state)
{
	struct fake_conf conf = { 0 };
	struct vq_guest guest;
	int gate = make_gated(&guest, &conf);

	(void)state;
	vq_start(&guest, 0);
	assert_int_equal(vq_set_status(&guest, 0), RUNNING);
	assert_int_equal(eventfd_write(gate, FAKE_QUEUES), 0);
	vq_guest_free(&guest);
	close(gate);
}

static void test_queue_reset(void **state)
{
	struct vq_guest guest;

	(void)state;
	make(&guest, &plain);
	vq_start(&guest, RING_RESET);
	for (unsigned int round = 1; round <= 4; round++) {
		assert_true(answers(&guest, 0));
		assert_true(answers(&guest, 1));
		virtio_reset_queue(guest.dev, 0);
		assert_false(virtio_queue_resetting(guest.dev, 0));
		assert_false(virtio_queue(guest.dev, 0).ready);
		assert_int_equal(virtio_queue(guest.dev, 0).size, FAKE_QUEUE_SIZE);
		assert_int_equal(fake(&guest)->queues[0].stops, round);
		assert_int_equal(fake(&guest)->queues[0].resets, round);
		/* Silent, while the others go on. It is no reset of the device. */
		assert_false(answers(&guest, 0));
		assert_true(answers(&guest, 1));
		assert_int_equal(fake(&guest)->queues[1].stops + fake(&guest)->resets, 0);
		/* Again has no effect. */
		virtio_reset_queue(guest.dev, 0);
		assert_int_equal(fake(&guest)->queues[0].resets, round);
		/* And from the beginning of another ring, of another size. */
		vq_set_up_queue_of(&guest, 0, (uint16_t)(1u << round));
		assert_int_equal(fake(&guest)->queues[0].starts, round + 1);
	}
	assert_int_equal(fake(&guest)->starts, 1);
	assert_int_equal(guest.config_interrupts, 0);
	assert_int_equal(vq_set_status(&guest, 0), 0);
	assert_int_equal(fake(&guest)->queues[0].stops, 5);
	vq_guest_free(&guest);
}

static void test_queue_reset_ignored(void **state)
{
	struct virtq_layout layout;
	struct vq_guest guest;

	(void)state;
	make(&guest, &plain);
	/* Not agreed on. */
	vq_start(&guest, 0);
	virtio_reset_queue(guest.dev, 0);
	assert_true(answers(&guest, 0));
	vq_set_status(&guest, 0);
	/* No such queue; one that was never there; nothing runs yet. */
	vq_set_features(&guest, 1ULL << VIRTIO_F_VERSION_1 | RING_RESET);
	vq_set_status(&guest, VIRTIO_CONFIG_S_FEATURES_OK);
	vq_set_up_queue(&guest, 0);
	virtio_reset_queue(guest.dev, 0);
	assert_true(virtio_queue(guest.dev, 0).ready);
	vq_set_status(&guest, VIRTIO_CONFIG_S_DRIVER_OK);
	virtio_reset_queue(guest.dev, 1);
	for (uint32_t queue = FAKE_QUEUES; queue; queue <<= 1) {
		virtio_reset_queue(guest.dev, queue);
		assert_false(virtio_queue_resetting(guest.dev, queue));
	}
	assert_int_equal(fake(&guest)->queues[1].resets, 1);
	assert_true(answers(&guest, 0));
	/* One that runs stays as it is. */
	layout = virtio_queue(guest.dev, 0);
	layout.ready = false;
	virtio_set_queue(guest.dev, 0, &layout);
	assert_true(answers(&guest, 0));
	vq_guest_free(&guest);
}

/* Wrong addresses are found when it is enabled again; what was in flight is forgotten. */
static void test_queue_comes_back_wrong(void **state)
{
	const struct fake_conf hold = { .hold = true };
	struct virtq_layout layout;
	struct vq_guest guest;

	(void)state;
	make(&guest, &hold);
	vq_start(&guest, RING_RESET);
	assert_false(answers(&guest, 0));
	assert_int_equal(fake(&guest)->queues[0].held, 1);
	virtio_reset_queue(guest.dev, 0);
	vq_set_up_queue(&guest, 0);
	assert_false(answers(&guest, 0));
	assert_int_equal(fake(&guest)->queues[0].held, 2);
	assert_false(vq_failed(&guest));

	virtio_reset_queue(guest.dev, 0);
	layout = (struct virtq_layout){ .size = VQ_SIZE, .ready = true, .desc = 8 };
	virtio_set_queue(guest.dev, 0, &layout);
	assert_true(vq_failed(&guest));
	assert_int_equal(guest.config_interrupts, 1);
	assert_int_equal(vq_set_status(&guest, 0), 0);
	vq_guest_free(&guest);
}

/* ---- several sets of queues ---- */

#define SETS 3
#define CONTROL (SETS * FAKE_QUEUES)
#define CONTROL_SIZE 16

static struct virtio_class class_with_control(void)
{
	struct virtio_class class = fake_class;

	class.control_size = CONTROL_SIZE;
	return class;
}

static void test_sets(void **state)
{
	const struct virtio_class class = class_with_control();
	const struct fake_conf conf = { .virtio.queues = SETS };
	struct vq_guest guest;

	(void)state;
	assert_int_equal(vq_guest_init(&guest, &class, &conf), 0);
	assert_int_equal(guest.dev->worker_count, SETS);
	assert_int_equal(guest.dev->queue_count, CONTROL + 1);
	assert_string_equal(guest.dev->workers[2].name, "fake0.2");
	for (unsigned int i = 0; i <= CONTROL; i++) {
		unsigned int set = i == CONTROL ? SETS - 1 : i / FAKE_QUEUES;

		assert_ptr_equal(guest.dev->queues[i].worker, &guest.dev->workers[set]);
		assert_int_equal(virtio_queue_max(guest.dev, i), i == CONTROL ?
				 CONTROL_SIZE : fake_queue_sizes[i % FAKE_QUEUES]);
	}
	/* Each is published by its own worker, at the end of that one's turn. */
	vq_start(&guest, 0);
	for (unsigned int i = 0; i <= CONTROL; i++)
		for (unsigned int n = 0; n <= i; n++)
			assert_true(answers(&guest, i));
	for (unsigned int i = 0; i <= CONTROL; i++) {
		assert_int_equal(guest.queue_interrupts[i], i + 1);
		assert_int_equal(virtq_counter(&guest.dev->queues[i], FAKE_CHAINS), i + 1);
	}
	/* The sum over all of them, each name by name. */
	assert_int_equal(virtio_counter(guest.dev, FAKE_CHAINS), 55);
	assert_int_equal(vq_counter(&guest, "fakes"), 55);
	assert_int_equal(vq_counter(&guest, "fake_bytes"), 55 * (strlen("question") + 3));
	assert_int_equal(vq_counter(&guest, "chains"), 55);
	assert_int_equal(vq_counter(&guest, "interrupts"), 55);
	assert_int_equal(vq_counter(&guest, "interrupts_suppressed"), 0);
	assert_int_equal(vq_counter(&guest, "no such"), UINT64_MAX);
	vq_guest_free(&guest);
}

static void test_sets_on_threads(void **state)
{
	const struct virtio_class class = class_with_control();
	const struct fake_conf conf = { .virtio.queues = SETS };
	struct vq_guest guest;

	(void)state;
	assert_int_equal(vq_guest_init(&guest, &class, &conf), 0);
	assert_int_equal(vq_run(&guest, false), 0);
	for (int round = 0; round < 3; round++) {
		vq_start(&guest, 0);
		for (unsigned int i = 0; i <= CONTROL; i++)
			assert_true(answers(&guest, i));
		/* So that nobody else looks at what follows. */
		virtio_dev_pause(guest.dev);
		for (unsigned int i = 0; i <= CONTROL; i++)
			assert_true(pthread_equal(fake(&guest)->queues[i].thread,
						  guest.dev->queues[i].worker->thread));
		vq_reset(&guest);
	}
	vq_guest_free(&guest);
}

/* One queue hangs in its reset; other workers' go on, and so does the vCPU. */
static void test_queue_reset_takes_its_time(void **state)
{
	struct fake_conf conf = { .virtio.queues = 2 };
	struct virtq_layout before, layout = { .size = 8, .ready = true };
	struct vq_guest guest;
	int gate = make_gated(&guest, &conf);

	(void)state;
	vq_start(&guest, RING_RESET);
	assert_true(answers(&guest, 0));
	before = virtio_queue(guest.dev, 0);
	virtio_reset_queue(guest.dev, 0);
	assert_true(virtio_queue_resetting(guest.dev, 0));
	for (unsigned int i = FAKE_QUEUES; i < 2 * FAKE_QUEUES; i++)
		assert_true(answers(&guest, i));
	virtio_set_queue(guest.dev, 0, &layout);
	layout = virtio_queue(guest.dev, 0);
	assert_memory_equal(&layout, &before, sizeof(layout));
	virtio_reset_queue(guest.dev, 0);

	assert_int_equal(eventfd_write(gate, 1), 0);
	while (virtio_queue_resetting(guest.dev, 0))
		usleep(1000);
	assert_false(virtio_queue(guest.dev, 0).ready);
	vq_set_up_queue(&guest, 0);
	assert_true(answers(&guest, 0));
	assert_int_equal(fake(&guest)->queues[0].resets, 1);

	/* A reset of the device while one of a queue goes on. */
	virtio_reset_queue(guest.dev, 0);
	assert_int_equal(vq_set_status(&guest, 0), RUNNING);
	assert_int_equal(eventfd_write(gate, 2 * FAKE_QUEUES), 0);
	assert_true(virtio_reset_wait(guest.dev, -1));
	assert_int_equal(virtio_status(guest.dev), 0);
	assert_false(virtio_queue_resetting(guest.dev, 0));
	assert_int_equal(fake(&guest)->queues[0].stops, 2);
	conf.gate = 0;
	vq_start(&guest, 0);
	assert_true(answers(&guest, 0));
	assert_int_equal(fake(&guest)->queues[0].resets, 2);
	vq_guest_free(&guest);
	close(gate);
}

/* ---- options ---- */

static void test_options(void **state)
{
	const struct virtio_class class = class_with_control();
	const uint64_t packed = 1ULL << VIRTIO_F_RING_PACKED, in_order = 1ULL << VIRTIO_F_IN_ORDER;
	struct vq_guest guest;

	(void)state;
	assert_int_equal(vq_guest_make(&guest, &class, ""), 0);
	assert_int_equal(guest.dev->offered & (packed | in_order), 0);
	assert_int_equal(guest.dev->worker_count, 1);
	assert_string_equal(guest.dev->workers[0].name, "fake0");
	assert_int_equal(guest.dev->workers[0].loop.poll.ns, 0);
	vq_guest_free(&guest);

	assert_int_equal(vq_guest_make(&guest, &class, "queues=2,queue-size=32,packed,poll=7"), 0);
	assert_int_equal(guest.dev->offered & (packed | in_order), packed);
	assert_int_equal(guest.dev->queue_count, 2 * FAKE_QUEUES + 1);
	for (unsigned int i = 0; i < 2 * FAKE_QUEUES; i++)
		assert_int_equal(virtio_queue_max(guest.dev, i), 32);
	assert_int_equal(virtio_queue_max(guest.dev, 2 * FAKE_QUEUES), CONTROL_SIZE);
	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(guest.dev->workers[i].loop.poll.ns, 7000);
	vq_guest_free(&guest);

	assert_int_equal(vq_guest_make(&guest, &class, "in-order,packed=off,poll=off"), 0);
	assert_int_equal(guest.dev->offered & (packed | in_order), in_order);
	assert_int_equal(guest.dev->workers[0].loop.poll.ns, 0);
	vq_guest_free(&guest);
}

/* The largest ring that there is, full. */
static void test_largest_queue(void **state)
{
	const unsigned int count = 32768;
	struct vq_guest guest;
	uint16_t head;

	(void)state;
	assert_int_equal(vq_guest_make(&guest, &fake_class, "queue-size=32768"), 0);
	vq_start(&guest, 0);
	vq_set_status(&guest, 0);
	vq_set_features(&guest, 1ULL << VIRTIO_F_VERSION_1);
	vq_set_status(&guest, VIRTIO_CONFIG_S_FEATURES_OK);
	vq_set_up_queue_of(&guest, 2, (uint16_t)count);
	vq_set_status(&guest, VIRTIO_CONFIG_S_DRIVER_OK);
	for (unsigned int i = 0; i < count; i++)
		assert_int_equal(vq_post(&guest, 2, &(struct vq_buffer){ VQ_RAM_BASE + MIB(4), 8, true },
					 1), i);
	vq_notify(&guest, 2);
	vq_turn(&guest);
	for (unsigned int i = 0; i < count; i++) {
		assert_true(vq_take(&guest, 2, &head, NULL));
		assert_int_equal(head, i);
	}
	assert_int_equal(guest.queue_interrupts[2], 1);
	vq_guest_free(&guest);
}

/* ---- pauses ---- */

static void test_pause(void **state)
{
	struct fake_conf conf = { .hold = true };
	struct vq_guest guest;
	uint16_t head;

	(void)state;
	make(&guest, &conf);
	vq_start(&guest, 0);
	assert_false(answers(&guest, 0));
	assert_int_equal(fake(&guest)->queues[0].held, 1);
	virtio_dev_pause(guest.dev);
	for (unsigned int i = 0; i < FAKE_QUEUES; i++) {
		assert_int_equal(fake(&guest)->queues[i].stops, 1);
		assert_int_equal(fake(&guest)->queues[i].resets, 0);
	}
	assert_int_equal(virtio_status(guest.dev), RUNNING);
	assert_true(virtio_queue(guest.dev, 0).ready);
	/* Nothing is served, nothing is lost: the first of them comes again, as it was put back. */
	conf.hold = false;
	assert_false(answers(&guest, 0));
	assert_int_equal(vq_counter(&guest, "chains"), 1);
	virtio_dev_resume(guest.dev);
	assert_true(vq_take(&guest, 0, &head, NULL));
	assert_int_equal(head, 0);
	assert_true(vq_take(&guest, 0, &head, NULL));
	assert_int_equal(head, 2);
	assert_int_equal(guest.queue_interrupts[0], 1);
	assert_int_equal(fake(&guest)->resets, 0);

	/* Resuming once is enough. */
	virtio_dev_resume(guest.dev);
	assert_int_equal(fake(&guest)->starts, 2);
	assert_int_equal(fake(&guest)->queues[0].starts, 2);
	assert_true(answers(&guest, 0));
	vq_guest_free(&guest);
}

/* What was completed in the turn of the pause the driver is told. */
static void test_pause_publishes(void **state)
{
	struct vq_guest guest;
	uint16_t head;

	(void)state;
	make(&guest, &plain);
	vq_start(&guest, 0);
	vq_post(&guest, 0, &(struct vq_buffer){ VQ_RAM_BASE + MIB(4), 8, true }, 1);
	virtio_kick(&guest.dev->queues[0]);
	assert_false(vq_take(&guest, 0, &head, NULL));
	virtio_dev_pause(guest.dev);
	assert_true(vq_take(&guest, 0, &head, NULL));
	assert_int_equal(guest.queue_interrupts[0], 1);
	virtio_dev_resume(guest.dev);
	assert_true(answers(&guest, 0));
	vq_guest_free(&guest);
}

/* One that was never started, one that has failed, and one that is reset instead of resumed. */
static void test_pause_of_what_does_not_run(void **state)
{
	struct vq_guest guest;

	(void)state;
	make(&guest, &plain);
	virtio_dev_pause(guest.dev);
	virtio_dev_resume(guest.dev);
	assert_int_equal(fake(&guest)->starts, 0);
	vq_start(&guest, 0);
	assert_true(answers(&guest, 0));

	virtio_fail(guest.dev, "a test");
	virtio_dev_pause(guest.dev);
	virtio_dev_resume(guest.dev);
	assert_true(vq_failed(&guest));
	assert_false(answers(&guest, 0));
	assert_int_equal(vq_set_status(&guest, 0), 0);

	vq_start(&guest, 0);
	virtio_dev_pause(guest.dev);
	assert_int_equal(vq_set_status(&guest, 0), 0);
	vq_start(&guest, 0);
	assert_true(answers(&guest, 0));
	/* A reset is the end of the pause. */
	virtio_dev_resume(guest.dev);
	assert_int_equal(fake(&guest)->starts, fake(&guest)->resets + 2);
	vq_guest_free(&guest);
}

/* ---- saves ---- */

static void save(struct vq_guest *guest, struct state *saved)
{
	*saved = (struct state){ 0 };
	virtio_dev_pause(guest->dev);
	assert_int_equal(virtio_dev_save(guest->dev, saved), 0);
}

/* A new device in the old one's place, from len bytes of a save. */
static int load(struct vq_guest *guest, const uint8_t *data, size_t len)
{
	struct state_reader reader = { data, len };
	const void *conf = guest->dev->conf;
	int err;

	virtio_dev_free(guest->dev);
	guest->dev = NULL;
	assert_int_equal(vq_plug(guest, conf), 0);
	err = virtio_dev_load(guest->dev, &reader);
	if (!err)
		assert_int_equal(reader.left, 0);
	return err;
}

/* The driver notices nothing, and a save of the new device is the same once more. */
static void test_save(void **state)
{
	static const uint64_t features[] = { 0, EVENT_IDX, EVENT_IDX | RING_RESET | 1 << FAKE_FEATURE };
	struct state saved, again;
	struct vq_guest guest;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		uint32_t generation;

		make(&guest, &plain);
		vq_start(&guest, features[i]);
		for (int n = 0; n < 3 * VQ_SIZE + 5; n++)
			assert_true(answers(&guest, 1));
		fake(&guest)->state.mood = 4;
		virtio_config_write(guest.dev, 7, "?", 1);
		generation = virtio_generation(guest.dev);
		save(&guest, &saved);
		assert_int_equal(load(&guest, saved.data, saved.len), 0);
		assert_int_equal(fake(&guest)->loads, 1);
		assert_int_equal(fake(&guest)->state.mood, 4);
		assert_int_equal(fake(&guest)->starts, 0);
		assert_int_equal(virtio_status(guest.dev), RUNNING);
		assert_int_equal(guest.dev->features, features[i] | 1ULL << VIRTIO_F_VERSION_1);
		assert_int_equal(virtio_generation(guest.dev), generation);
		assert_int_equal(guest.dev->config[7], '?');
		assert_int_equal(guest.dev->config[FAKE_CONFIG_SIZE], 0xee);
		assert_int_equal(virtio_dev_save(guest.dev, (again = (struct state){ 0 }, &again)), 0);
		assert_int_equal(again.len, saved.len);
		assert_memory_equal(again.data, saved.data, saved.len);

		virtio_dev_resume(guest.dev);
		for (int n = 0; n < 3 * VQ_SIZE; n++)
			for (unsigned int queue = 0; queue < FAKE_QUEUES; queue++)
				assert_true(answers(&guest, queue));
		vq_guest_free(&guest);
		state_free(&saved);
		state_free(&again);
	}
}

/* At each step of a driver's way. */
static void test_save_before_it_runs(void **state)
{
	static const uint8_t steps[] = { 0, 1, 3, 11, 0x4b, 0x8b };
	struct state saved;
	struct vq_guest guest;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		make(&guest, &plain);
		vq_set_features(&guest, 1ULL << VIRTIO_F_VERSION_1 | EVENT_IDX);
		vq_set_status(&guest, steps[i]);
		if (steps[i] & VIRTIO_CONFIG_S_NEEDS_RESET)
			virtio_fail(guest.dev, "a test");
		vq_set_up_queue(&guest, 1);
		save(&guest, &saved);
		assert_int_equal(load(&guest, saved.data, saved.len), 0);
		virtio_dev_resume(guest.dev);
		assert_int_equal(virtio_status(guest.dev), steps[i]);
		assert_int_equal(virtio_queue(guest.dev, 1).desc, guest.queues[1].desc);
		assert_false(virtio_queue(guest.dev, 0).ready);
		assert_int_equal(fake(&guest)->starts, 0);
		if (i == 3) {
			vq_set_status(&guest, VIRTIO_CONFIG_S_DRIVER_OK);
			assert_true(answers(&guest, 1));
		}
		vq_guest_free(&guest);
		state_free(&saved);
	}
}

/* Its sections, as docs and other versions of the program know them: a header of 24 bytes before each. */
#define DEVICE_AT 24
#define QUEUE_AT(i) (DEVICE_AT + 16 + VIRTIO_CONFIG_MAX + 24 + 56 * (i))
#define CLASS_AT (QUEUE_AT(FAKE_QUEUES))

struct mutation {
	size_t at, len;
	uint64_t value;
};

static void assert_refused(struct vq_guest *guest, const struct state *saved,
			   const struct mutation *mutation)
{
	uint8_t *copy = test_malloc(saved->len);

	memcpy(copy, saved->data, saved->len);
	memcpy(copy + mutation->at, &mutation->value, mutation->len);
	if (load(guest, copy, saved->len) != -EINVAL)
		fail_msg("%llx was taken at %zu", (unsigned long long)mutation->value, mutation->at);
	test_free(copy);
}

static void test_load_refuses(void **state)
{
	static const struct mutation wrong[] = {
		/* Features that are not offered, and none; not even version 1. */
		{ DEVICE_AT, 8, UINT64_MAX }, { DEVICE_AT, 8, 0 },
		{ DEVICE_AT, 8, 1ULL << VIRTIO_F_VERSION_1 | 1 << FAKE_WITHHELD },
		{ DEVICE_AT, 8, 1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_F_RING_PACKED },
		/* Another number of queues. */
		{ DEVICE_AT + 12, 2, FAKE_QUEUES + 1 }, { DEVICE_AT + 12, 2, 0 },
		/* Started, and not; ready, and nothing agreed. */
		{ DEVICE_AT + 14, 1, 0 }, { DEVICE_AT + 14, 1, VIRTIO_CONFIG_S_DRIVER_OK },
		{ DEVICE_AT + 15, 1, 0 }, { DEVICE_AT + 15, 1, 2 },
		/* Sizes, and flags that are not one. */
		{ QUEUE_AT(0) + 24, 2, FAKE_QUEUE_SIZE + 1 }, { QUEUE_AT(2) + 24, 2, UINT16_MAX },
		{ QUEUE_AT(1) + 28, 1, 2 }, { QUEUE_AT(1) + 29, 1, 255 },
		/* What the class knows of its own. */
		{ CLASS_AT, 4, FAKE_MOOD_MAX + 1 }, { CLASS_AT, 4, UINT32_MAX }, { CLASS_AT + 4, 4, 1 },
	};
	struct state saved;
	struct vq_guest guest;

	(void)state;
	make(&guest, &plain);
	vq_start(&guest, 0);
	assert_true(answers(&guest, 0));
	save(&guest, &saved);
	assert_int_equal(saved.len, CLASS_AT + 8);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_refused(&guest, &saved, &wrong[i]);
	for (size_t len = 0; len < saved.len; len++)
		assert_int_equal(load(&guest, saved.data, len), -EINVAL);
	/* And it was the mutation that was refused. */
	assert_int_equal(load(&guest, saved.data, saved.len), 0);
	virtio_dev_resume(guest.dev);
	assert_true(answers(&guest, 0));
	vq_guest_free(&guest);
	state_free(&saved);
}

/* Where a queue is: at its beginning while it does not run, and in a packed ring within it. */
static void test_load_refuses_positions(void **state)
{
	static const struct mutation wrong[] = {
		{ QUEUE_AT(0) + 26, 2, VQ_SIZE }, { QUEUE_AT(2) + 26, 2, UINT16_MAX },
		/* One that is not ready. */
		{ QUEUE_AT(1) + 26, 2, 1 }, { QUEUE_AT(1) + 29, 1, 0 },
	};
	const struct fake_conf conf = { .virtio.packed = true };
	struct state saved;
	struct vq_guest guest;

	(void)state;
	make(&guest, &conf);
	vq_start(&guest, RING_RESET | 1ULL << VIRTIO_F_RING_PACKED);
	virtio_reset_queue(guest.dev, 1);
	save(&guest, &saved);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_refused(&guest, &saved, &wrong[i]);
	assert_int_equal(load(&guest, saved.data, saved.len), 0);
	vq_guest_free(&guest);
	state_free(&saved);
}

/* Any byte is another: refused, or the driver finds what it would of any wrong ring. */
static void test_load_survives(void **state)
{
	struct state saved;
	struct vq_guest guest;
	unsigned int taken = 0;

	(void)state;
	make(&guest, &plain);
	vq_start(&guest, EVENT_IDX);
	assert_true(answers(&guest, 0));
	save(&guest, &saved);
	for (size_t i = 0; i < saved.len; i++) {
		uint8_t was = saved.data[i];

		saved.data[i] ^= (uint8_t)(1u << i % 8);
		if (load(&guest, saved.data, saved.len) == 0) {
			taken++;
			virtio_dev_resume(guest.dev);
			for (unsigned int queue = 0; queue < FAKE_QUEUES; queue++)
				vq_notify(&guest, queue);
			vq_turn(&guest);
		}
		saved.data[i] = was;
	}
	assert_in_range(taken, 1, saved.len - 1);
	vq_guest_free(&guest);
	state_free(&saved);
}

/* ---- what is lent ---- */

/* A vector that moves does not wait for a worker that does. */
static void test_redirect_waits_for_nobody(void **state)
{
	struct fake_conf conf = { 0 };
	struct vq_guest guest;
	int gate = make_gated(&guest, &conf);

	(void)state;
	vq_start(&guest, RING_RESET);
	virtio_reset_queue(guest.dev, 0);
	/* Else this would be for ever. */
	alarm(VQ_WAIT_MS / 1000);
	virtio_redirect_queue(guest.dev, 1);
	alarm(0);
	assert_int_equal(eventfd_write(gate, FAKE_QUEUES), 0);
	vq_guest_free(&guest);
	close(gate);
}

static int start_ring(struct vhost *vhost, const struct vhost_ring *ring)
{
	(void)vhost;
	(void)ring;
	return 0;
}

static int refuse_call(struct vhost *vhost, unsigned int index, int fd)
{
	(void)vhost;
	(void)index;
	(void)fd;
	return -EIO;
}

static int stop_ring(struct vhost *vhost, unsigned int index, uint32_t *ret_base)
{
	(void)vhost;
	(void)index;
	*ret_base = 0;
	return 0;
}

/* A driver whose interrupts would go astray is told so. */
static void test_redirect_is_refused(void **state)
{
	static const struct vhost_ops ops = {
		.start_ring = start_ring, .set_call = refuse_call, .stop_ring = stop_ring,
	};
	const struct fake_conf conf = { 0 };
	struct vhost vhost = { .ops = &ops, .fd = -1 };
	struct vq_guest guest;
	struct virtq *queue;

	(void)state;
	make(&guest, &conf);
	queue = &guest.dev->queues[0];
	assert_int_equal(virtq_lend_init(queue), 0);
	vq_start(&guest, 0);
	virtio_redirect_queue(guest.dev, 0);
	assert_int_equal(virtq_lend(queue, &vhost, 0), 0);
	virtio_redirect_queue(guest.dev, 1);
	assert_false(vq_failed(&guest));
	virtio_redirect_queue(guest.dev, 0);
	assert_true(vq_failed(&guest));
	virtq_take_back(queue);
	vq_guest_free(&guest);
}

/* Before any queue stops: it could be started again by the driver at once. */
static int set_link(struct virtio_dev *dev, bool up)
{
	assert_int_equal(fake(((struct vq_guest *)(void *)dev->transport))->queues[0].stops, up);
	return 0;
}

/* Who serves the queues does so anew when the link changes, if they run. */
static void test_link(void **state)
{
	struct virtio_class class = fake_class;
	const struct fake_conf conf = { 0 };
	struct fake_queue *queue;
	struct vq_guest guest;

	(void)state;
	class.set_link = set_link;
	assert_int_equal(vq_guest_init(&guest, &class, &conf), 0);
	queue = &fake(&guest)->queues[0];
	guest.dev->served_by = "a test";
	assert_int_equal(virtio_dev_set_link(guest.dev, false), 0);
	assert_int_equal(queue->starts + queue->stops, 0);
	vq_start(&guest, 0);
	assert_int_equal(virtio_dev_set_link(guest.dev, false), 0);
	assert_int_equal(queue->stops, 1);
	assert_int_equal(queue->starts, 2);
	virtio_dev_pause(guest.dev);
	queue->stops = 1;
	assert_int_equal(virtio_dev_set_link(guest.dev, true), 0);
	assert_int_equal(queue->starts, 2);
	virtio_dev_resume(guest.dev);
	assert_int_equal(queue->starts, 3);
	assert_true(answers(&guest, 0));
	vq_guest_free(&guest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reset_takes_its_time),
		cmocka_unit_test(test_freed_while_it_resets),
		cmocka_unit_test(test_queue_reset),
		cmocka_unit_test(test_queue_reset_ignored),
		cmocka_unit_test(test_queue_comes_back_wrong),
		cmocka_unit_test(test_sets),
		cmocka_unit_test(test_sets_on_threads),
		cmocka_unit_test(test_queue_reset_takes_its_time),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_largest_queue),
		cmocka_unit_test(test_pause),
		cmocka_unit_test(test_pause_publishes),
		cmocka_unit_test(test_pause_of_what_does_not_run),
		cmocka_unit_test(test_save),
		cmocka_unit_test(test_save_before_it_runs),
		cmocka_unit_test(test_load_refuses),
		cmocka_unit_test(test_load_refuses_positions),
		cmocka_unit_test(test_load_survives),
		cmocka_unit_test(test_redirect_waits_for_nobody),
		cmocka_unit_test(test_redirect_is_refused),
		cmocka_unit_test(test_link),
	};

	log_set_level(LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
