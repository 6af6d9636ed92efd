/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that does as it likes with the fake device: registers, rings and
 * doorbells at random, from a fixed seed. Now and then it starts the device
 * properly, or it would never come far.
 */
#ifndef TESTS_UNIT_HOSTILE_H
#define TESTS_UNIT_HOSTILE_H

#include <sys/mman.h>
#include "core/bus.h"
#include "tests/unit/driver.h"
#include "tests/unit/fake.h"

#define HOSTILE_STEPS 200000
#define HOSTILE_VCPUS 3
#define HOSTILE_THREAD_STEPS 4000

/* Its rings and buffers: the last bytes of RAM, so that one byte too far is none. */
#define HOSTILE_LEN 0x8000
#define HOSTILE_RAM (VQ_RAM_BASE + VQ_RAM_SIZE - HOSTILE_LEN)

struct hostile {
	pthread_t thread;
	struct virtio_dev *dev;
	const struct bus *bus;
	const struct mem_range *ranges; /* of registers: which are tried equally often */
	size_t range_count;
	uint8_t *ram;
	uint32_t random;
};

static inline uint32_t hostile_random(struct hostile *hostile, uint32_t below)
{
	hostile->random = hostile->random * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)hostile->random * below >> 32);
}

static inline bool hostile_chance(struct hostile *hostile, uint32_t one_in)
{
	return hostile_random(hostile, one_in) == 0;
}

/* An address in its memory, as a rule. */
static inline uint64_t hostile_address(struct hostile *hostile)
{
	if (hostile_chance(hostile, 500))
		return (uint64_t)hostile_random(hostile, UINT32_MAX) << hostile_random(hostile, 33);
	return HOSTILE_RAM + hostile_random(hostile, HOSTILE_LEN);
}

static inline void hostile_register(struct hostile *hostile)
{
	static const uint64_t values[] = {
		0, 1, 2, 3, 4, 8, 0xb, 0xf, 0x40, 0x8000, 0xc000, UINT64_MAX,
	};
	uint32_t which = hostile_random(hostile, (uint32_t)hostile->range_count);
	const struct mem_range *range = &hostile->ranges[which];
	unsigned int len = 1u << hostile_random(hostile, 4);
	uint64_t offset = hostile_random(hostile, (uint32_t)range->len), value;

	if (!hostile_chance(hostile, 16))
		offset &= ~(len - 1ULL);
	value = hostile_chance(hostile, 4) ? hostile_address(hostile) :
					     values[hostile_random(hostile, ARRAY_SIZE(values))];
	if (hostile_chance(hostile, 2))
		bus_read(hostile->bus, range->gpa + offset, &value, len);
	else
		bus_write(hostile->bus, range->gpa + offset, &value, len);
}

static inline uint8_t *hostile_ptr(struct hostile *hostile, uint64_t gpa, uint64_t len)
{
	uint64_t offset = gpa - HOSTILE_RAM;

	return util_within(offset, len, HOSTILE_LEN) ? hostile->ram + offset : NULL;
}

static inline void hostile_describe(struct hostile *hostile, const struct virtq_layout *layout,
				    uint16_t index)
{
	struct vring_desc desc = {
		.addr = hostile_address(hostile),
		.len = 1 + hostile_random(hostile, 0x100),
		/* Readable ones in front of writable ones. */
		.flags = (uint16_t)((index & 4 ? VRING_DESC_F_WRITE : 0) |
				    (hostile_chance(hostile, 3) ? 0 : VRING_DESC_F_NEXT)),
		.next = (uint16_t)(index + 1),
	};
	void *at = hostile_ptr(hostile, layout->desc + index * sizeof(desc), sizeof(desc));

	if (hostile_chance(hostile, 50))
		desc.next = (uint16_t)hostile_random(hostile, 0x10000);
	if (hostile_chance(hostile, 100))
		desc.flags = (uint16_t)hostile_random(hostile, 8);
	if (hostile_chance(hostile, 200))
		desc.len = hostile_random(hostile, UINT32_MAX);
	if (hostile_chance(hostile, 30)) {
		desc.flags = VRING_DESC_F_INDIRECT;
		desc.addr &= ~15ULL;
		desc.len &= ~15u;
	}
	if (at)
		memcpy(at, &desc, sizeof(desc));
}

static inline void hostile_start(struct hostile *hostile)
{
	virtio_set_status(hostile->dev, 0);
	virtio_set_driver_features(hostile->dev, 0, hostile_random(hostile, UINT32_MAX) &
							    virtio_offered(hostile->dev, 0));
	virtio_set_driver_features(hostile->dev, 1, 1 | (hostile_random(hostile, UINT32_MAX) &
							 virtio_offered(hostile->dev, 1)));
	virtio_set_status(hostile->dev, VIRTIO_CONFIG_S_FEATURES_OK);
	for (uint32_t i = 0; i < FAKE_QUEUES; i++) {
		struct virtq_layout layout = {
			.size = (uint16_t)(1u << hostile_random(hostile, 7)),
			.ready = true,
			.desc = hostile_address(hostile) & ~15ULL,
			.driver = hostile_address(hostile) & ~1ULL,
			.device = hostile_address(hostile) & ~3ULL,
		};

		virtio_set_queue(hostile->dev, i, &layout);
		for (uint16_t j = 0; j < layout.size; j++)
			hostile_describe(hostile, &layout, j);
	}
	virtio_set_status(hostile->dev, VIRTIO_CONFIG_S_DRIVER_OK);
}

/* Some descriptors, and some chains of them made available. */
static inline void hostile_post(struct hostile *hostile)
{
	uint32_t queue = hostile_random(hostile, FAKE_QUEUES);
	struct virtq_layout layout = virtio_queue(hostile->dev, queue);
	uint32_t count = hostile_random(hostile, 4);
	uint16_t *avail;

	if (!layout.size)
		return;
	for (uint16_t i = 0; i < layout.size; i++)
		if (hostile_chance(hostile, 8))
			hostile_describe(hostile, &layout, i);
	avail = (void *)hostile_ptr(hostile, layout.driver & ~1ULL, 4 + 2ULL * layout.size);
	if (avail) {
		for (uint32_t i = 0; i < count; i++)
			avail[2 + (avail[1] + i) % layout.size] =
				(uint16_t)hostile_random(hostile, layout.size);
		avail[1] = (uint16_t)(avail[1] + count);
		if (hostile_chance(hostile, 100))
			avail[1] = (uint16_t)hostile_random(hostile, 0x10000);
	}
	eventfd_write(hostile->dev->queues[queue].kick.fd, 1);
}

static inline void hostile_step(struct hostile *hostile)
{
	switch (hostile_random(hostile, 16)) {
	case 0:
		/* Afresh: what is left over in memory is seldom a ring. */
		memset(hostile->ram, 0, HOSTILE_LEN);
		hostile_start(hostile);
		break;
	case 1:
		hostile->ram[hostile_random(hostile, HOSTILE_LEN)] = (uint8_t)hostile->random;
		break;
	case 2 ... 8:
		hostile_post(hostile);
		break;
	default:
		hostile_register(hostile);
		break;
	}
}

/* One vCPU, and the device between its steps: the same each time. */
static inline void hostile_fuzz(struct vq_guest *guest, const struct bus *bus,
				const struct mem_range *ranges, size_t range_count)
{
	struct hostile hostile = {
		.dev = guest->dev,
		.bus = bus,
		.ranges = ranges,
		.range_count = range_count,
		.ram = vq_ptr(guest, HOSTILE_RAM, HOSTILE_LEN),
		.random = 1,
	};

	for (int i = 0; i < HOSTILE_STEPS; i++) {
		hostile_step(&hostile);
		vq_turn(guest);
	}
	/* It came far enough to be worth it. */
	assert_in_range(virtio_counter(guest->dev, FAKE_CHAINS), 1000, UINT32_MAX);
	memset(vq_ptr(guest, VQ_RAM_BASE, VQ_RAM_SIZE), 0, VQ_RAM_SIZE);
}

static inline void *hostile_main(void *arg)
{
	for (int i = 0; i < HOSTILE_THREAD_STEPS; i++)
		hostile_step(arg);
	return NULL;
}

/* Several at once, against the worker's thread, which runs from here on. */
static inline void hostile_threads(struct vq_guest *guest, const struct bus *bus,
				   const struct mem_range *ranges, size_t range_count)
{
	struct hostile vcpus[HOSTILE_VCPUS];

	assert_int_equal(vq_run(guest, false), 0);
	for (uint32_t i = 0; i < HOSTILE_VCPUS; i++) {
		struct hostile *vcpu = &vcpus[i];

		/* A mapping for each: what guests race for in their memory is no race of ours. */
		*vcpu = (struct hostile){
			.dev = guest->dev,
			.bus = bus,
			.ranges = ranges,
			.range_count = range_count,
			.ram = mmap(NULL, HOSTILE_LEN, PROT_READ | PROT_WRITE, MAP_SHARED,
				    guest->mem.regions[0].fd, VQ_RAM_SIZE - HOSTILE_LEN),
			.random = i,
		};
		assert_ptr_not_equal(vcpu->ram, MAP_FAILED);
		assert_int_equal(pthread_create(&vcpu->thread, NULL, hostile_main, vcpu), 0);
	}
	for (uint32_t i = 0; i < HOSTILE_VCPUS; i++) {
		pthread_join(vcpus[i].thread, NULL);
		munmap(vcpus[i].ram, HOSTILE_LEN);
	}
	vq_reset(guest);
}

#endif
