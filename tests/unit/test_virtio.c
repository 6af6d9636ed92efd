// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <poll.h>
#include <sys/mman.h>
#include "tests/lib/child.h"
#include "tests/unit/driver.h"
#include "tests/unit/fake.h"

#define ACKNOWLEDGE VIRTIO_CONFIG_S_ACKNOWLEDGE
#define DRIVER VIRTIO_CONFIG_S_DRIVER
#define DRIVER_OK VIRTIO_CONFIG_S_DRIVER_OK
#define FEATURES_OK VIRTIO_CONFIG_S_FEATURES_OK
#define NEEDS_RESET VIRTIO_CONFIG_S_NEEDS_RESET
#define FAILED VIRTIO_CONFIG_S_FAILED

#define VERSION_1 (1ULL << VIRTIO_F_VERSION_1)
#define OFFERED (VERSION_1 | 1ULL << VIRTIO_RING_F_INDIRECT_DESC | \
		 1ULL << VIRTIO_RING_F_EVENT_IDX | 1ULL << VIRTIO_F_RING_RESET | \
		 1ULL << FAKE_FEATURE)

static const struct fake_conf plain;

static struct fake *fake(struct vq_guest *guest)
{
	return fake_of(guest->dev);
}

static void make(struct vq_guest *guest, const struct fake_conf *conf)
{
	assert_int_equal(vq_guest_init(guest, &fake_class, conf), 0);
}

static bool started(struct vq_guest *guest)
{
	return guest->dev->started && !vq_failed(guest);
}

/* ---- negotiation ---- */

static void test_offered(void **state)
{
	struct vq_guest guest;

	(void)state;
	make(&guest, &plain);
	assert_int_equal(virtio_offered(guest.dev, 0), (uint32_t)OFFERED);
	assert_int_equal(virtio_offered(guest.dev, 1), OFFERED >> 32);
	for (uint32_t word = 2; word; word <<= 1) {
		virtio_set_driver_features(guest.dev, word, UINT32_MAX);
		assert_int_equal(virtio_offered(guest.dev, word), 0);
		assert_int_equal(virtio_driver_features(guest.dev, word), 0);
	}
	assert_int_equal(guest.dev->features, 0);
	assert_string_equal(guest.dev->name, "fake0");
	vq_guest_free(&guest);
}

static void test_features(void **state)
{
	static const struct {
		uint64_t features;
		bool acceptable;
	} choices[] = {
		{ VERSION_1, true },
		{ OFFERED, true },
		{ 0, false },
		{ OFFERED & ~VERSION_1, false },
		{ OFFERED | 1, false },
		{ OFFERED | 1ULL << FAKE_WITHHELD, false },
		{ OFFERED | 1ULL << 63, false },
		{ UINT64_MAX, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(choices); i++) {
		struct vq_guest guest;

		make(&guest, &plain);
		vq_set_status(&guest, ACKNOWLEDGE | DRIVER);
		vq_set_features(&guest, choices[i].features);
		assert_int_equal(vq_set_status(&guest, ACKNOWLEDGE | DRIVER | FEATURES_OK),
				 ACKNOWLEDGE | DRIVER | (choices[i].acceptable ? FEATURES_OK : 0));
		/* What is not agreed cannot be started. */
		assert_int_equal(!!(vq_set_status(&guest, DRIVER_OK) & DRIVER_OK),
				 choices[i].acceptable);
		assert_int_equal(fake(&guest)->starts, choices[i].acceptable);
		/* The driver may think again, but not after it agreed. */
		vq_set_features(&guest, VERSION_1);
		assert_int_equal(guest.dev->features,
				 choices[i].acceptable ? choices[i].features : VERSION_1);
		assert_true(vq_set_status(&guest, FEATURES_OK) & FEATURES_OK);
		vq_guest_free(&guest);
	}
}

/* ---- status ---- */

static void test_status(void **state)
{
	struct vq_guest guest;

	(void)state;
	make(&guest, &plain);
	assert_int_equal(vq_set_status(&guest, DRIVER_OK), 0);
	assert_int_equal(vq_set_status(&guest, NEEDS_RESET), 0);
	assert_int_equal(vq_set_status(&guest, ACKNOWLEDGE), ACKNOWLEDGE);
	/* Bits are never taken back one by one. */
	assert_int_equal(vq_set_status(&guest, DRIVER), ACKNOWLEDGE | DRIVER);
	assert_int_equal(fake(&guest)->starts, 0);
	vq_set_status(&guest, 0);
	assert_int_equal(fake(&guest)->queues[0].stops + fake(&guest)->resets, 0);

	vq_start(&guest, 0);
	assert_int_equal(virtio_status(guest.dev), ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
	vq_set_status(&guest, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK | FAILED);
	vq_set_status(&guest, UINT8_MAX);
	assert_int_equal(fake(&guest)->starts, 1);
	for (unsigned int i = 0; i < FAKE_QUEUES; i++)
		assert_int_equal(fake(&guest)->queues[i].starts, 1);
	/* Once is enough. */
	for (int again = 0; again < 2; again++) {
		assert_int_equal(vq_set_status(&guest, 0), 0);
		assert_int_equal(fake(&guest)->resets, 1);
		for (unsigned int i = 0; i < FAKE_QUEUES; i++) {
			assert_int_equal(fake(&guest)->queues[i].stops, 1);
			assert_int_equal(fake(&guest)->queues[i].resets, 1);
		}
	}
	assert_int_equal(guest.config_interrupts, 0);
	vq_guest_free(&guest);
}

static void test_reset_forgets(void **state)
{
	const struct fake_conf hold = { .hold = true };
	struct vq_guest guest;
	uint32_t len;

	(void)state;
	make(&guest, &hold);
	for (unsigned int i = 1; i <= 20; i++) {
		vq_start(&guest, 1ULL << VIRTIO_RING_F_EVENT_IDX);
		/* In flight while the device is reset: never returned. */
		assert_false(fake_ask(&guest, 1, "question", &len));
		assert_int_equal(fake(&guest)->queues[1].held, i);
		vq_set_status(&guest, 0);
		assert_int_equal(guest.dev->features, 0);
		for (uint32_t queue = 0; queue < FAKE_QUEUES; queue++) {
			struct virtq_layout layout = virtio_queue(guest.dev, queue);

			assert_int_equal(layout.size, virtio_queue_max(guest.dev, queue));
			assert_false(layout.ready);
			assert_int_equal(layout.desc | layout.driver | layout.device, 0);
		}
		/* The doorbell of a device that does not run. */
		vq_notify(&guest, 1);
		vq_turn(&guest);
		assert_int_equal(fake(&guest)->queues[1].held, i);
		assert_int_equal(fake(&guest)->queues[1].stops, i);
	}
	assert_int_equal(guest.queue_interrupts[1], 0);
	vq_guest_free(&guest);
}

static void test_start_error(void **state)
{
	struct fake_conf conf = { .start_error = -EIO };
	struct vq_guest guest;
	uint32_t len;

	(void)state;
	make(&guest, &conf);
	vq_start(&guest, 0);
	assert_true(vq_failed(&guest));
	assert_int_equal(guest.config_interrupts, 1);
	assert_int_equal(fake(&guest)->queues[0].starts, 0);
	assert_false(fake_ask(&guest, 0, "question", &len));
	vq_set_status(&guest, 0);
	/* Only what was started is stopped. */
	assert_int_equal(fake(&guest)->queues[0].stops, 0);
	assert_int_equal(fake(&guest)->resets, 1);
	conf.start_error = 0;
	vq_start(&guest, 0);
	assert_true(fake_ask(&guest, 0, "question", &len));
	vq_guest_free(&guest);
}

/* Those before it run until the driver finds out. */
static void test_queue_start_error(void **state)
{
	struct fake_conf conf = { .queue_error = -EIO, .bad_queue = 1 };
	struct vq_guest guest;
	uint32_t len;

	(void)state;
	make(&guest, &conf);
	vq_start(&guest, 0);
	assert_true(vq_failed(&guest));
	assert_int_equal(guest.config_interrupts, 1);
	assert_int_equal(fake(&guest)->queues[0].starts, 1);
	assert_int_equal(fake(&guest)->queues[2].starts, 0);
	for (unsigned int i = 0; i < FAKE_QUEUES; i++)
		assert_false(fake_ask(&guest, i, "question", &len));
	vq_set_status(&guest, 0);
	for (unsigned int i = 0; i < FAKE_QUEUES; i++)
		assert_int_equal(fake(&guest)->queues[i].stops, i == 0);
	conf.queue_error = 0;
	vq_start(&guest, 0);
	assert_true(fake_ask(&guest, 1, "question", &len));
	vq_guest_free(&guest);
}

static void test_init_error(void **state)
{
	const struct fake_conf conf = { .init_error = -EBUSY };
	struct vq_guest guest;

	(void)state;
	assert_int_equal(vq_guest_init(&guest, &fake_class, &conf), -EBUSY);
	assert_null(guest.dev);
	vq_guest_free(&guest);
}

static void test_fault(void **state)
{
	struct vq_guest guest;
	uint32_t len;

	(void)state;
	make(&guest, &plain);
	for (unsigned int i = 1; i <= 3; i++) {
		vq_start(&guest, 0);
		assert_true(fake_ask(&guest, 0, "question", &len));
		assert_int_equal(len, strlen("question") + 3);
		vq_post(&guest, 0, &(struct vq_buffer){ 0, 1, false }, 1);
		vq_notify(&guest, 0);
		vq_turn(&guest);
		assert_int_equal(virtio_status(guest.dev),
				 ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK | NEEDS_RESET);
		assert_int_equal(guest.config_interrupts, i);
		/* Every queue is silent, and the driver cannot take the bit away but by a reset. */
		assert_false(fake_ask(&guest, 1, "question", &len));
		assert_true(vq_set_status(&guest, ACKNOWLEDGE) & NEEDS_RESET);
		virtio_fail(guest.dev, "again");
		assert_int_equal(guest.config_interrupts, i);
		assert_int_equal(vq_set_status(&guest, 0), 0);
		assert_int_equal(fake(&guest)->queues[0].stops, i);
	}
	vq_guest_free(&guest);
}

/* ---- queues ---- */

static void test_queue_registers(void **state)
{
	const struct virtq_layout layout = { 16, true, 0x1000, 0x2000, 0x3000 };
	struct virtq_layout large = layout;
	struct vq_guest guest;

	(void)state;
	make(&guest, &plain);
	for (uint32_t i = 0; i < FAKE_QUEUES; i++) {
		assert_int_equal(virtio_queue_max(guest.dev, i), fake_queue_sizes[i]);
		large.size = fake_queue_sizes[i] + 1;
		virtio_set_queue(guest.dev, i, &large);
		assert_int_equal(virtio_queue(guest.dev, i).size, fake_queue_sizes[i]);
		assert_false(virtio_queue(guest.dev, i).ready);
		virtio_set_queue(guest.dev, i, &layout);
		assert_int_equal(virtio_queue(guest.dev, i).size, 16);
	}
	for (uint32_t i = FAKE_QUEUES; i; i <<= 1) {
		virtio_set_queue(guest.dev, i, &layout);
		assert_int_equal(virtio_queue(guest.dev, i).size, 0);
		assert_int_equal(virtio_queue_max(guest.dev, i), 0);
	}
	vq_guest_free(&guest);
}

/* After DRIVER_OK the driver's registers stay, and so does the device's copy. */
static void test_queue_after_driver_ok(void **state)
{
	struct virtq_layout layout = { .size = 64 }, before;
	struct vq_guest guest;
	uint32_t len;

	(void)state;
	make(&guest, &plain);
	vq_start(&guest, 0);
	before = virtio_queue(guest.dev, 0);
	virtio_set_queue(guest.dev, 0, &layout);
	layout = virtio_queue(guest.dev, 0);
	assert_memory_equal(&layout, &before, sizeof(layout));
	for (int i = 0; i < 3 * VQ_SIZE; i++)
		assert_true(fake_ask(&guest, 0, "question", &len));
	vq_guest_free(&guest);
}

static void test_wrong_queue(void **state)
{
	struct virtq_layout layout;
	struct vq_guest guest;
	uint32_t len;

	(void)state;
	make(&guest, &plain);
	for (int what = 0; what < 5; what++) {
		vq_set_status(&guest, ACKNOWLEDGE | DRIVER);
		vq_set_features(&guest, VERSION_1);
		vq_set_status(&guest, FEATURES_OK);
		vq_set_up_queue(&guest, 0);
		vq_set_up_queue(&guest, 1);
		layout = virtio_queue(guest.dev, 1);
		layout.size = what == 0 ? 0 : what == 1 ? 3 : layout.size;
		layout.desc += what == 2;
		layout.driver = what == 3 ? 0 : layout.driver;
		layout.device = what == 4 ? VQ_RAM_BASE + VQ_RAM_SIZE - 4 : layout.device;
		virtio_set_queue(guest.dev, 1, &layout);
		assert_true(vq_set_status(&guest, DRIVER_OK) & NEEDS_RESET);
		assert_int_equal(fake(&guest)->queues[1].starts, 0);
		assert_false(fake_ask(&guest, 0, "question", &len));
		vq_set_status(&guest, 0);
		assert_int_equal(fake(&guest)->queues[1].stops, 0);
	}
	vq_guest_free(&guest);
}

static void test_queue_not_ready(void **state)
{
	struct virtq_layout layout;
	struct vq_guest guest;
	uint32_t len;

	(void)state;
	make(&guest, &plain);
	vq_set_status(&guest, ACKNOWLEDGE | DRIVER);
	vq_set_features(&guest, VERSION_1);
	vq_set_status(&guest, FEATURES_OK);
	vq_set_up_queue(&guest, 0);
	vq_set_up_queue(&guest, 1);
	layout = virtio_queue(guest.dev, 1);
	layout.ready = false;
	virtio_set_queue(guest.dev, 1, &layout);
	assert_false(vq_set_status(&guest, DRIVER_OK) & NEEDS_RESET);
	assert_false(fake_ask(&guest, 1, "question", &len));
	assert_int_equal(fake(&guest)->queues[1].kicks, 0);
	assert_true(fake_ask(&guest, 0, "question", &len));
	assert_false(virtio_status(guest.dev) & NEEDS_RESET);
	vq_guest_free(&guest);
}

/* What was posted and rung before DRIVER_OK is served then; one interrupt per turn. */
static void test_posted_before_start(void **state)
{
	struct vq_guest guest;
	uint16_t head;

	(void)state;
	make(&guest, &plain);
	vq_set_status(&guest, ACKNOWLEDGE | DRIVER);
	vq_set_features(&guest, VERSION_1);
	vq_set_status(&guest, FEATURES_OK);
	vq_set_up_queue(&guest, 0);
	for (int i = 0; i < 3; i++)
		vq_post(&guest, 0, &(struct vq_buffer){ VQ_RAM_BASE + MIB(4), 8, true }, 1);
	vq_notify(&guest, 0);
	vq_turn(&guest);
	assert_int_equal(fake(&guest)->queues[0].kicks, 0);
	vq_set_status(&guest, DRIVER_OK);
	for (int i = 0; i < 3; i++)
		assert_true(vq_take(&guest, 0, &head, NULL));
	assert_int_equal(guest.queue_interrupts[0], 1);
	assert_int_equal(virtio_counter(guest.dev, FAKE_CHAINS), 3);
	vq_guest_free(&guest);
}

/* ---- configuration ---- */

static void test_config_read(void **state)
{
	struct vq_guest guest;

	(void)state;
	make(&guest, &plain);
	for (uint32_t len = 0; len <= 8; len++) {
		for (uint32_t offset = 0; offset <= 2 * VIRTIO_CONFIG_MAX; offset++) {
			uint8_t data[8] = { 1, 1, 1, 1, 1, 1, 1, 1 };

			virtio_config_read(guest.dev, offset, data, len);
			for (uint32_t i = 0; i < len; i++)
				assert_int_equal(data[i], offset + len > FAKE_CONFIG_SIZE ?
							  0 : 0xc0 + offset + i);
			for (uint32_t i = len; i < sizeof(data); i++)
				assert_int_equal(data[i], 1);
		}
	}
	for (uint32_t offset = UINT32_MAX - 7; offset; offset++) {
		uint64_t data = 1;

		virtio_config_read(guest.dev, offset, &data, sizeof(data));
		assert_int_equal(data, 0);
	}
	vq_guest_free(&guest);
}

static void test_config_write(void **state)
{
	struct vq_guest guest;
	uint8_t before[VIRTIO_CONFIG_MAX];
	uint32_t generation;

	(void)state;
	make(&guest, &plain);
	virtio_config_write(guest.dev, 4, "\x11\x22", 2);
	assert_int_equal(fake(&guest)->config_offset, 4);
	assert_int_equal(fake(&guest)->config_len, 2);
	assert_memory_equal(guest.dev->config, "\xc0\xc1\xc2\xc3\x11\x22\x12\xc7", 8);
	/* No interrupt for a driver that is not there yet. */
	assert_int_equal(guest.config_interrupts, 0);
	vq_start(&guest, 0);
	generation = virtio_generation(guest.dev);
	virtio_config_write(guest.dev, FAKE_CONFIG_SIZE - 2, "z", 1);
	assert_int_equal(guest.config_interrupts, 1);
	assert_int_equal(virtio_generation(guest.dev), generation + 1);

	memcpy(before, guest.dev->config, sizeof(before));
	fake(&guest)->config_writes = 0;
	for (uint32_t len = 0; len <= 8; len++) {
		for (uint32_t offset = FAKE_CONFIG_SIZE + 1; offset < 512; offset++)
			virtio_config_write(guest.dev, offset - len, "xxxxxxxx", len);
		virtio_config_write(guest.dev, UINT32_MAX - len, "xxxxxxxx", len);
	}
	assert_int_equal(fake(&guest)->config_writes, 0);
	assert_memory_equal(guest.dev->config, before, sizeof(before));
	vq_guest_free(&guest);
}

static void test_config_not_writable(void **state)
{
	struct virtio_class class = fake_class;
	struct vq_guest guest;

	(void)state;
	class.config_write = NULL;
	class.start = NULL;
	class.queue_start = NULL;
	class.queue_stop = NULL;
	class.queue_reset = NULL;
	class.reset = NULL;
	class.load = NULL;
	class.free = NULL;
	assert_int_equal(vq_guest_init(&guest, &class, &plain), 0);
	virtio_config_write(guest.dev, 0, "\x11", 1);
	assert_int_equal(guest.dev->config[0], 0xc0);
	/* All but init and kick may be missing. */
	vq_start(&guest, 0);
	virtio_dev_drain(guest.dev);
	virtio_dev_resize(guest.dev);
	vq_set_status(&guest, 0);
	vq_guest_free(&guest);
}

/* A fault that is found before DRIVER_OK is told by its bit alone. */
static void test_fault_in_config(void **state)
{
	const struct fake_conf conf = { .fail_in_config = true };
	struct vq_guest guest;
	uint32_t len;

	(void)state;
	make(&guest, &conf);
	virtio_config_write(guest.dev, 0, "\x11", 1);
	assert_int_equal(virtio_status(guest.dev), NEEDS_RESET);
	assert_int_equal(guest.config_interrupts, 0);
	vq_start(&guest, 0);
	assert_false(fake_ask(&guest, 0, "question", &len));
	vq_set_status(&guest, 0);
	vq_start(&guest, 0);
	assert_true(fake_ask(&guest, 0, "question", &len));
	vq_guest_free(&guest);
}

/* ---- with the worker's thread ---- */

#define CHAINS 30000

static uint32_t next_random(uint32_t *random)
{
	*random = *random * 1664525 + 1013904223;
	return *random >> 8;
}

/* A driver that hears of interrupts through an eventfd. */
struct listener {
	struct transport transport;
	int fd;
};

static void listener_raise(struct transport *transport, unsigned int queue)
{
	struct listener *listener = container_of(transport, struct listener, transport);

	(void)queue;
	eventfd_write(listener->fd, 1);
}

/* Says which interrupts the driver wants: the next one, or none. */
static void want_interrupt(struct vq_guest *guest, bool events, bool wanted)
{
	struct vring_avail *avail = vq_ptr(guest, guest->queues[0].avail, 6 + VQ_SIZE * 2);

	if (!events)
		__atomic_store_n(&avail->flags, wanted ? 0 : VRING_AVAIL_F_NO_INTERRUPT,
				 __ATOMIC_RELEASE);
	else if (wanted)
		__atomic_store_n(&avail->ring[VQ_SIZE], guest->queues[0].seen, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* Rings when the device asked for it. */
static void ring_as_asked(struct vq_guest *guest, bool events, uint16_t old)
{
	const struct vring_used *used = vq_ptr(guest, guest->queues[0].used, 6 + VQ_SIZE * 8);
	const struct vring_avail *avail = vq_ptr(guest, guest->queues[0].avail, 6);
	const uint16_t *event = (const uint16_t *)(const void *)&used->ring[VQ_SIZE];
	uint16_t told;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	told = __atomic_load_n(events ? event : &used->flags, __ATOMIC_ACQUIRE);
	if (events ? vring_need_event(told, avail->idx, old) : !(told & VRING_USED_F_NO_NOTIFY))
		vq_notify(guest, 0);
}

static unsigned int take_all(struct vq_guest *guest)
{
	unsigned int count = 0;
	uint16_t head;

	while (vq_take(guest, 0, &head, NULL))
		count++;
	return count;
}

/* Sleeps until something was returned. */
static unsigned int wait_for_some(struct vq_guest *guest, bool events, int fd)
{
	struct pollfd interrupt = { .fd = fd, .events = POLLIN };
	unsigned int count;

	do {
		want_interrupt(guest, events, true);
		count = take_all(guest);
		if (count)
			break;
		assert_int_equal(poll(&interrupt, 1, VQ_WAIT_MS), 1);
		eventfd_read(fd, &(eventfd_t){ 0 });
		count = take_all(guest);
	} while (!count);
	want_interrupt(guest, events, false);
	return count;
}

/*
 * A driver that rings only when it is asked to, and sleeps until it is
 * interrupted: one notification that is missed, in either direction, and it
 * sleeps for ever. In between it posts at any moment of the device's turn.
 */
static void ping_pong(bool events)
{
	struct listener listener = { { listener_raise, vq_raise_config, NULL }, eventfd(0, EFD_CLOEXEC) };
	unsigned int posted = 0, seen = 0;
	const uint16_t *avail_index;
	struct vq_guest guest;
	uint32_t random = 1;

	make(&guest, &plain);
	guest.dev->transport = &listener.transport;
	assert_int_equal(vq_run(&guest, false), 0);
	vq_start(&guest, events ? 1ULL << VIRTIO_RING_F_EVENT_IDX : 0);
	avail_index = (uint16_t *)vq_ptr(&guest, guest.queues[0].avail, 4) + 1;
	want_interrupt(&guest, events, false);
	while (seen < CHAINS) {
		bool all = next_random(&random) % 8 == 0;

		vq_post(&guest, 0, &(struct vq_buffer){ VQ_RAM_BASE + MIB(4), 8, true }, 1);
		ring_as_asked(&guest, events, (uint16_t)(*avail_index - 1));
		posted++;
		for (uint32_t spin = next_random(&random) % 512; spin; spin--)
			__asm__ volatile("");
		seen += take_all(&guest);
		while (posted - seen == VQ_SIZE || (all && seen < posted))
			seen += wait_for_some(&guest, events, listener.fd);
	}
	vq_guest_free(&guest);
	close(listener.fd);
}

static void test_no_notification_is_missed(void **state)
{
	(void)state;
	ping_pong(false);
	ping_pong(true);
}

/* ---- and several vCPUs that do as they like ---- */

#define VCPUS 3
#define ROUNDS 400

struct vcpu {
	pthread_t thread;
	struct virtio_dev *dev;
	uint8_t *ram; /* a mapping of its own: what guests race for is no race of ours */
	uint32_t random;
};

static void touch_registers(struct vcpu *vcpu)
{
	struct virtq_layout layout = virtio_queue(vcpu->dev, next_random(&vcpu->random) % 4);
	uint64_t data = next_random(&vcpu->random);

	switch (next_random(&vcpu->random) % 9) {
	case 0:
		virtio_set_status(vcpu->dev, 0);
		break;
	case 1:
		virtio_set_driver_features(vcpu->dev, 1, (uint32_t)(OFFERED >> 32));
		virtio_set_status(vcpu->dev, UINT8_MAX);
		break;
	case 2:
		virtio_set_driver_features(vcpu->dev, 0, (uint32_t)data & (uint32_t)OFFERED);
		break;
	case 3:
		virtio_config_write(vcpu->dev, (uint32_t)data % 30, &data, (uint32_t)data % 9);
		break;
	case 4:
		virtio_config_read(vcpu->dev, (uint32_t)data % 30, &data, (uint32_t)data % 9);
		break;
	case 5:
		layout.size = 16;
		layout.ready = true;
		layout.desc = VQ_RAM_BASE;
		layout.driver = VQ_RAM_BASE + 0x1000;
		layout.device = VQ_RAM_BASE + 0x2000;
		virtio_set_queue(vcpu->dev, (uint32_t)data % 4, &layout);
		break;
	case 6:
		virtio_reset_queue(vcpu->dev, (uint32_t)data % 4);
		(void)virtio_queue_resetting(vcpu->dev, (uint32_t)data % 4);
		break;
	default:
		(void)virtio_generation(vcpu->dev);
		(void)virtio_driver_features(vcpu->dev, 0);
		(void)virtio_counter(vcpu->dev, FAKE_CHAINS);
		break;
	}
}

static void touch_rings(struct vcpu *vcpu)
{
	struct vring_desc *desc = (void *)vcpu->ram;
	struct vring_avail *avail = (void *)(vcpu->ram + 0x1000);
	uint32_t i = next_random(&vcpu->random) % 16;

	desc[i].addr = VQ_RAM_BASE + 0x3000 + next_random(&vcpu->random) % 0x1000;
	desc[i].len = next_random(&vcpu->random) % 0x200;
	desc[i].flags = next_random(&vcpu->random) % 8;
	desc[i].next = next_random(&vcpu->random) % 17;
	avail->ring[i] = next_random(&vcpu->random) % 16;
	avail->idx++;
	eventfd_write(vcpu->dev->queues[i % FAKE_QUEUES].kick.fd, 1);
}

static void *vcpu_main(void *arg)
{
	struct vcpu *vcpu = arg;

	for (int i = 0; i < ROUNDS; i++) {
		touch_registers(vcpu);
		touch_rings(vcpu);
	}
	return NULL;
}

/* In a child: a filter stays with its thread, but a trip of it ends the process. */
static int hammer(void *arg)
{
	struct vcpu vcpus[VCPUS];
	struct vq_guest guest;
	uint64_t chains;
	bool confine = *(bool *)arg;

	if (confine)
		child_needs_filters();
	CHILD_CHECK(vq_guest_init(&guest, &fake_class, &plain) == 0);
	CHILD_CHECK(filter_report_violations(NULL) == 0);
	CHILD_CHECK(vq_run(&guest, confine) == 0);
	for (uint32_t i = 0; i < VCPUS; i++) {
		vcpus[i] = (struct vcpu){ .dev = guest.dev, .random = i };
		vcpus[i].ram = mmap(NULL, VQ_RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
				    guest.mem.regions[0].fd, 0);
		CHILD_CHECK(vcpus[i].ram != MAP_FAILED);
		CHILD_CHECK(pthread_create(&vcpus[i].thread, NULL, vcpu_main, &vcpus[i]) == 0);
	}
	for (uint32_t i = 0; i < VCPUS; i++)
		pthread_join(vcpus[i].thread, NULL);

	/* And the device works as if nothing had been. */
	vq_reset(&guest);
	memset(vq_ptr(&guest, VQ_RAM_BASE, 0x4000), 0, 0x4000);
	vq_start(&guest, 0);
	CHILD_CHECK(started(&guest));
	CHILD_CHECK(fake(&guest)->starts == fake(&guest)->resets + 1);
	chains = virtio_counter(guest.dev, FAKE_CHAINS);
	vq_post(&guest, 0, &(struct vq_buffer){ VQ_RAM_BASE + MIB(4), 8, true }, 1);
	vq_notify(&guest, 0);
	CHILD_CHECK(vq_await(&guest, 0, &(uint16_t){ 0 }, NULL));
	CHILD_CHECK(virtio_counter(guest.dev, FAKE_CHAINS) == chains + 1);
	virtio_set_status(guest.dev, 0);
	vq_guest_free(&guest);
	return 0;
}

static void test_threads(void **state)
{
	(void)state;
	child_succeeds(0, hammer, &(bool){ false });
}

static void test_threads_confined(void **state)
{
	(void)state;
	child_succeeds(0, hammer, &(bool){ true });
	child_succeeds(CHILD_NOBODY, hammer, &(bool){ true });
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_offered),
		cmocka_unit_test(test_features),
		cmocka_unit_test(test_status),
		cmocka_unit_test(test_reset_forgets),
		cmocka_unit_test(test_start_error),
		cmocka_unit_test(test_queue_start_error),
		cmocka_unit_test(test_init_error),
		cmocka_unit_test(test_fault),
		cmocka_unit_test(test_queue_registers),
		cmocka_unit_test(test_queue_after_driver_ok),
		cmocka_unit_test(test_wrong_queue),
		cmocka_unit_test(test_queue_not_ready),
		cmocka_unit_test(test_posted_before_start),
		cmocka_unit_test(test_config_read),
		cmocka_unit_test(test_config_write),
		cmocka_unit_test(test_config_not_writable),
		cmocka_unit_test(test_fault_in_config),
		cmocka_unit_test(test_no_notification_is_missed),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_threads_confined),
	};

	log_set_level(LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
