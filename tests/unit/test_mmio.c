// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <linux/virtio_mmio.h>
#include "core/bus.h"
#include "core/irq.h"
#include "core/state.h"
#include "tests/unit/driver.h"
#include "tests/unit/fake.h"
#include "tests/unit/hostile.h"

#define BASE 0xd0000000
#define QUEUE_RESET 0x0c0 /* of virtio 1.2, but younger than the headers of Linux 6.1 */

static const struct fake_conf plain;

static const struct mem_range registers[] = {
	{ BASE, VIRTIO_MMIO_CONFIG },
	{ BASE, VIRTIO_MMIO_CONFIG + FAKE_CONFIG_SIZE },
	{ BASE, VIRTIO_MMIO_LEN + 8 },
};

struct fixture {
	struct vq_guest guest;
	struct bus bus;
	struct irq_router router;
	struct virtio_mmio *mmio;
	int line; /* the interrupt's eventfd */
};

static void wire(struct fixture *f)
{
	struct worker *worker = &f->guest.dev->workers[0];

	bus_init(&f->bus, -1, false);
	assert_int_equal(irq_router_init(&f->router, -1, 0, 24, (struct irq_msi_pins){ 0 }), 0);
	assert_int_equal(virtio_mmio_new(f->guest.dev, &f->bus, &f->router, BASE, 5, &f->mmio), 0);
	f->line = worker->keep[worker->keep_count - 1];
}

static void unwire(struct fixture *f)
{
	virtio_mmio_free(f->mmio);
	irq_router_free(&f->router);
	bus_free(&f->bus);
}

static void setup_as(struct fixture *f, const struct fake_conf *conf)
{
	*f = (struct fixture){ 0 };
	assert_int_equal(vq_guest_init(&f->guest, &fake_class, conf), 0);
	wire(f);
}

static void setup(struct fixture *f)
{
	setup_as(f, &plain);
}

static void teardown(struct fixture *f)
{
	vq_guest_free(&f->guest);
	unwire(f);
}

static uint32_t get(struct fixture *f, uint32_t reg)
{
	uint32_t value;

	assert_true(bus_read(&f->bus, BASE + reg, &value, 4));
	return value;
}

static void set(struct fixture *f, uint32_t reg, uint32_t value)
{
	assert_true(bus_write(&f->bus, BASE + reg, &value, 4));
}

static uint64_t interrupts(struct fixture *f)
{
	eventfd_t count = 0;

	(void)eventfd_read(f->line, &count);
	return count;
}

static void set_up_queue(struct fixture *f, uint32_t queue)
{
	struct vq *vq = &f->guest.queues[queue];
	uint32_t high = 0;

	/* Allocates the rings, and writes them into the registers, from where they go again. */
	vq_set_up_queue(&f->guest, queue);
	virtio_set_queue(f->guest.dev, queue, &(struct virtq_layout){ .size = FAKE_QUEUE_SIZE });
	set(f, VIRTIO_MMIO_QUEUE_SEL, queue);
	assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_NUM_MAX), fake_queue_sizes[queue]);
	set(f, VIRTIO_MMIO_QUEUE_NUM, VQ_SIZE);
	set(f, VIRTIO_MMIO_QUEUE_DESC_HIGH, high);
	set(f, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)vq->desc);
	set(f, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)vq->avail);
	set(f, VIRTIO_MMIO_QUEUE_AVAIL_HIGH, high);
	set(f, VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)vq->used);
	set(f, VIRTIO_MMIO_QUEUE_USED_HIGH, high);
	assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_READY), 0);
	set(f, VIRTIO_MMIO_QUEUE_READY, 1);
	assert_int_equal(get(f, VIRTIO_MMIO_QUEUE_READY), 1);
}

static void start(struct fixture *f)
{
	set(f, VIRTIO_MMIO_STATUS, 0);
	set(f, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	set(f, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	set(f, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	set(f, VIRTIO_MMIO_DRIVER_FEATURES, 1 | 1u << (VIRTIO_F_RING_RESET - 32));
	set(f, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	set(f, VIRTIO_MMIO_DRIVER_FEATURES, 1u << FAKE_FEATURE);
	set(f, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_FEATURES_OK);
	assert_true(get(f, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_FEATURES_OK);
	for (uint32_t i = 0; i < FAKE_QUEUES; i++)
		set_up_queue(f, i);
	set(f, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_DRIVER_OK);
	assert_int_equal(get(f, VIRTIO_MMIO_STATUS), 0xf);
}

static void test_identity(void **state)
{
	struct fixture f;

	(void)state;
	setup(&f);
	assert_int_equal(get(&f, VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
	assert_int_equal(get(&f, VIRTIO_MMIO_VERSION), 2);
	assert_int_equal(get(&f, VIRTIO_MMIO_DEVICE_ID), 42);
	set(&f, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	assert_int_equal(get(&f, VIRTIO_MMIO_DEVICE_FEATURES),
			 1u << VIRTIO_RING_F_INDIRECT_DESC | 1u << VIRTIO_RING_F_EVENT_IDX |
				 1u << FAKE_FEATURE);
	/* All doorbells are one register, whose value says which: there is no room for data in it. */
	set(&f, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	assert_int_equal(get(&f, VIRTIO_MMIO_DEVICE_FEATURES), 1 | 1u << (VIRTIO_F_RING_RESET - 32));
	set(&f, VIRTIO_MMIO_DEVICE_FEATURES_SEL, UINT32_MAX);
	assert_int_equal(get(&f, VIRTIO_MMIO_DEVICE_FEATURES), 0);
	/* No shared memory: section 4.2.2. */
	assert_int_equal(get(&f, VIRTIO_MMIO_SHM_LEN_LOW), UINT32_MAX);
	assert_int_equal(get(&f, VIRTIO_MMIO_SHM_LEN_HIGH), UINT32_MAX);
	for (uint32_t queue = FAKE_QUEUES; queue; queue <<= 1) {
		set(&f, VIRTIO_MMIO_QUEUE_SEL, queue);
		assert_int_equal(get(&f, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
		set(&f, VIRTIO_MMIO_QUEUE_READY, 1);
		assert_int_equal(get(&f, VIRTIO_MMIO_QUEUE_READY), 0);
	}
	teardown(&f);
}

static uint64_t get_long(struct fixture *f, uint32_t reg)
{
	return get(f, reg) | (uint64_t)get(f, reg + 4) << 32;
}

static void test_shared_memory(void **state)
{
	const struct fake_conf conf = { .shm = MIB(2) };
	struct fixture f;

	(void)state;
	setup_as(&f, &conf);
	f.guest.dev->shm.gpa = 0x123400200000;
	set(&f, VIRTIO_MMIO_SHM_SEL, FAKE_SHM_ID);
	assert_int_equal(get_long(&f, VIRTIO_MMIO_SHM_LEN_LOW), MIB(2));
	assert_int_equal(get_long(&f, VIRTIO_MMIO_SHM_BASE_LOW), 0x123400200000);
	set(&f, VIRTIO_MMIO_SHM_SEL, FAKE_SHM_ID + 1);
	assert_int_equal(get_long(&f, VIRTIO_MMIO_SHM_LEN_LOW), UINT64_MAX);
	set(&f, VIRTIO_MMIO_SHM_SEL, FAKE_SHM_ID + 256);
	assert_int_equal(get_long(&f, VIRTIO_MMIO_SHM_LEN_LOW), UINT64_MAX);
	teardown(&f);
}

static void test_life(void **state)
{
	const uint64_t data = VQ_RAM_BASE + MIB(4);
	const struct vq_buffer ping[] = { { data, 4, false }, { data + 16, 9, true } };
	struct fixture f;
	uint32_t len;
	uint16_t head;

	(void)state;
	setup(&f);
	for (unsigned int round = 1; round <= 3; round++) {
		start(&f);
		assert_int_equal(fake_of(f.guest.dev)->starts, round);
		memcpy(vq_ptr(&f.guest, data, 4), "ping", 4);
		for (uint32_t queue = 0; queue < FAKE_QUEUES; queue++) {
			for (int i = 0; i < 2; i++)
				vq_post(&f.guest, queue, ping, ARRAY_SIZE(ping));
			set(&f, VIRTIO_MMIO_QUEUE_NOTIFY, queue);
			vq_turn(&f.guest);
			assert_true(vq_take(&f.guest, queue, &head, &len));
			assert_true(vq_take(&f.guest, queue, &head, &len));
			assert_int_equal(len, 4 + 3);
			assert_memory_equal(vq_ptr(&f.guest, data + 16, 4), "ping", 4);
			assert_memory_equal(vq_ptr(&f.guest, data + 22, 3), "end", 3);
			assert_int_equal(interrupts(&f), 1);
			assert_int_equal(get(&f, VIRTIO_MMIO_INTERRUPT_STATUS),
					 VIRTIO_MMIO_INT_VRING);
			set(&f, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
			assert_int_equal(get(&f, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
		}
		/* A doorbell for no queue. */
		set(&f, VIRTIO_MMIO_QUEUE_NOTIFY, FAKE_QUEUES);
		set(&f, VIRTIO_MMIO_QUEUE_NOTIFY, UINT32_MAX);
		vq_turn(&f.guest);
		assert_int_equal(interrupts(&f), 0);
	}
	teardown(&f);
}

static void test_interrupt_bits(void **state)
{
	struct fixture f;

	(void)state;
	setup(&f);
	start(&f);
	virtio_config_update(f.guest.dev, 0, "\1", 1);
	vq_post(&f.guest, 0, &(struct vq_buffer){ VQ_RAM_BASE, 8, true }, 1);
	set(&f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	vq_turn(&f.guest);
	assert_int_equal(interrupts(&f), 2);
	assert_int_equal(get(&f, VIRTIO_MMIO_INTERRUPT_STATUS), 3);
	set(&f, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_CONFIG);
	assert_int_equal(get(&f, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
	set(&f, VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(get(&f, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	teardown(&f);
}

/* Sizes beyond 16 bits do not become valid ones, and nothing changes while the device runs. */
static void test_queue_size(void **state)
{
	struct fixture f;

	(void)state;
	setup(&f);
	set(&f, VIRTIO_MMIO_QUEUE_SEL, 0);
	set(&f, VIRTIO_MMIO_QUEUE_NUM, FAKE_QUEUE_SIZE + 1);
	assert_int_equal(virtio_queue(f.guest.dev, 0).size, FAKE_QUEUE_SIZE);
	set(&f, VIRTIO_MMIO_QUEUE_NUM, 0x10000 + 8);
	assert_int_equal(virtio_queue(f.guest.dev, 0).size, 0);

	start(&f);
	set(&f, VIRTIO_MMIO_QUEUE_SEL, 0);
	set(&f, VIRTIO_MMIO_QUEUE_NUM, 8);
	set(&f, VIRTIO_MMIO_QUEUE_READY, 0);
	set(&f, VIRTIO_MMIO_QUEUE_DESC_HIGH, 1);
	assert_int_equal(virtio_queue(f.guest.dev, 0).size, VQ_SIZE);
	assert_int_equal(virtio_queue(f.guest.dev, 0).desc, f.guest.queues[0].desc);
	assert_int_equal(get(&f, VIRTIO_MMIO_QUEUE_READY), 1);
	set(&f, VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(get(&f, VIRTIO_MMIO_QUEUE_READY), 0);
	set(&f, VIRTIO_MMIO_QUEUE_DESC_LOW, 0x89abcde0);
	set(&f, VIRTIO_MMIO_QUEUE_DESC_HIGH, 0x1234567);
	assert_int_equal(virtio_queue(f.guest.dev, 0).desc, 0x123456789abcde0);
	set(&f, VIRTIO_MMIO_QUEUE_DESC_LOW, 0);
	assert_int_equal(virtio_queue(f.guest.dev, 0).desc, 0x123456700000000);
	teardown(&f);
}

static void test_config(void **state)
{
	uint64_t value = 0;
	struct fixture f;
	uint32_t generation;

	(void)state;
	setup(&f);
	assert_true(bus_read(&f.bus, BASE + VIRTIO_MMIO_CONFIG + 3, &value, 1));
	assert_int_equal(value, 0xc3);
	assert_true(bus_read(&f.bus, BASE + VIRTIO_MMIO_CONFIG + 8, &value, 8));
	assert_int_equal(value, 0xcfcecdcccbcac9c8);
	assert_true(bus_read(&f.bus, BASE + VIRTIO_MMIO_CONFIG + 20, &value, 8));
	assert_int_equal(value, 0);

	generation = get(&f, VIRTIO_MMIO_CONFIG_GENERATION);
	value = 0x55;
	assert_true(bus_write(&f.bus, BASE + VIRTIO_MMIO_CONFIG + 2, &value, 1));
	assert_int_equal(fake_of(f.guest.dev)->config_offset, 2);
	assert_int_not_equal(get(&f, VIRTIO_MMIO_CONFIG_GENERATION), generation);
	assert_int_equal(get(&f, VIRTIO_MMIO_CONFIG), 0x5655c1c0);
	assert_true(bus_write(&f.bus, BASE + VIRTIO_MMIO_LEN - 8, &value, 8));
	assert_int_equal(fake_of(f.guest.dev)->config_writes, 1);
	teardown(&f);
}

/* Registers are 32 bits wide and take nothing else; what is not one reads as zero. */
static void test_every_register(void **state)
{
	struct fixture f;

	(void)state;
	setup(&f);
	for (unsigned int len = 1; len <= 8; len *= 2) {
		for (uint64_t offset = 0; offset < VIRTIO_MMIO_LEN; offset++) {
			uint64_t value = 0;

			assert_int_equal(bus_read(&f.bus, BASE + offset, &value, len),
					 offset + len <= VIRTIO_MMIO_LEN);
			if (offset < VIRTIO_MMIO_CONFIG && (len != 4 || offset % 4))
				assert_int_equal(value, 0);
			if (offset >= VIRTIO_MMIO_CONFIG + FAKE_CONFIG_SIZE &&
			    offset + len <= VIRTIO_MMIO_LEN)
				assert_int_equal(value, 0);
			value = 0xffffffffffffffff;
			if (len != 4 || offset % 4)
				bus_write(&f.bus, BASE + offset, &value, len);
		}
	}
	assert_int_equal(virtio_status(f.guest.dev), 0);
	assert_int_equal(f.guest.dev->features, 0);
	assert_int_equal(interrupts(&f), 0);
	teardown(&f);
}

static void test_queue_reset(void **state)
{
	struct fixture f;
	uint32_t len;

	(void)state;
	setup(&f);
	start(&f);
	assert_true(fake_ask(&f.guest, 1, "ping", &len));
	set(&f, VIRTIO_MMIO_QUEUE_SEL, 1);
	assert_int_equal(get(&f, QUEUE_RESET), 0);
	/* Only a 1 asks for it. */
	set(&f, QUEUE_RESET, 0);
	set(&f, QUEUE_RESET, 2);
	assert_int_equal(get(&f, VIRTIO_MMIO_QUEUE_READY), 1);
	set(&f, QUEUE_RESET, 1);
	assert_int_equal(get(&f, QUEUE_RESET), 0);
	assert_int_equal(get(&f, VIRTIO_MMIO_QUEUE_READY), 0);
	assert_false(fake_ask(&f.guest, 1, "ping", &len));
	assert_true(fake_ask(&f.guest, 0, "ping", &len));
	vq_set_up_queue_of(&f.guest, 1, 4);
	assert_true(fake_ask(&f.guest, 1, "ping", &len));
	teardown(&f);
}

/* The register is written after a second at the latest, and reads as not 0 until the reset is over. */
static void test_reset_takes_its_time(void **state)
{
	struct fake_conf conf = { .gate = eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC) };
	struct fixture f;

	(void)state;
	setup_as(&f, &conf);
	assert_int_equal(vq_run(&f.guest, false), 0);
	start(&f);
	set(&f, VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(get(&f, VIRTIO_MMIO_STATUS), 0xf);
	set(&f, VIRTIO_MMIO_STATUS, 1);
	set(&f, VIRTIO_MMIO_QUEUE_SEL, 0);
	assert_int_equal(get(&f, VIRTIO_MMIO_QUEUE_READY), 1);
	assert_int_equal(eventfd_write(conf.gate, FAKE_QUEUES), 0);
	assert_true(virtio_reset_wait(f.guest.dev, -1));
	assert_int_equal(get(&f, VIRTIO_MMIO_STATUS), 0);
	assert_int_equal(get(&f, VIRTIO_MMIO_QUEUE_READY), 0);
	close(conf.gate);
	conf.gate = 0;
	teardown(&f);
}

static void test_save(void **state)
{
	struct state saved = { 0 };
	struct state_reader reader;
	struct fixture f;
	uint32_t len;

	(void)state;
	setup(&f);
	start(&f);
	assert_true(fake_ask(&f.guest, 0, "ping", &len));
	set(&f, VIRTIO_MMIO_QUEUE_SEL, 2);
	set(&f, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	set(&f, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 7);
	virtio_dev_pause(f.guest.dev);
	assert_int_equal(virtio_dev_save(f.guest.dev, &saved), 0);
	assert_int_equal(virtio_mmio_save(f.mmio, &saved), 0);

	virtio_dev_free(f.guest.dev);
	unwire(&f);
	assert_int_equal(vq_plug(&f.guest, &plain), 0);
	wire(&f);
	reader = (struct state_reader){ saved.data, saved.len };
	assert_int_equal(virtio_dev_load(f.guest.dev, &reader), 0);
	assert_int_equal(virtio_mmio_load(f.mmio, &reader), 0);
	assert_int_equal(reader.left, 0);
	virtio_dev_resume(f.guest.dev);
	/* The interrupt that was not acknowledged comes once more: it may have been on its way. */
	assert_int_equal(get(&f, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
	assert_int_equal(interrupts(&f), 1);
	assert_int_equal(get(&f, VIRTIO_MMIO_QUEUE_NUM_MAX), fake_queue_sizes[2]);
	assert_int_equal(get(&f, VIRTIO_MMIO_DEVICE_FEATURES), virtio_offered(f.guest.dev, 1));
	assert_int_equal(get(&f, VIRTIO_MMIO_STATUS), 0xf);
	assert_true(fake_ask(&f.guest, 0, "ping", &len));
	assert_int_equal(interrupts(&f), 1);

	reader = (struct state_reader){ saved.data, saved.len };
	assert_int_equal(virtio_mmio_load(f.mmio, &reader), -EINVAL);
	state_free(&saved);
	teardown(&f);
}

static void test_hostile(void **state)
{
	struct fixture f;

	(void)state;
	setup(&f);
	hostile_fuzz(&f.guest, &f.bus, registers, ARRAY_SIZE(registers));
	start(&f);
	vq_post(&f.guest, 0, &(struct vq_buffer){ VQ_RAM_BASE + MIB(4), 8, true }, 1);
	set(&f, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	vq_turn(&f.guest);
	assert_true(vq_take(&f.guest, 0, &(uint16_t){ 0 }, NULL));
	teardown(&f);
}

static void test_threads(void **state)
{
	struct fixture f;

	(void)state;
	setup(&f);
	hostile_threads(&f.guest, &f.bus, registers, ARRAY_SIZE(registers));
	start(&f);
	assert_false(virtio_status(f.guest.dev) & VIRTIO_CONFIG_S_NEEDS_RESET);
	teardown(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_identity),
		cmocka_unit_test(test_shared_memory),
		cmocka_unit_test(test_life),
		cmocka_unit_test(test_interrupt_bits),
		cmocka_unit_test(test_queue_size),
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_every_register),
		cmocka_unit_test(test_queue_reset),
		cmocka_unit_test(test_reset_takes_its_time),
		cmocka_unit_test(test_save),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_threads),
	};

	log_set_level(LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
