// SPDX-License-Identifier: Apache-2.0
/* What a back end is told, against fakes: the kernel's by an ioctl() of our own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <sys/ioctl.h>
#include "core/util.h"
#include "devices/vhost/vhost.h"

int __wrap_ioctl(int fd, unsigned long number, void *argument);

#define FEATURES (1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_RING_F_EVENT_IDX)
#define CALLS_MAX 16

struct call {
	unsigned long number;
	union {
		uint64_t features;
		struct vhost_vring_state state;
		struct vhost_vring_file file;
		struct vhost_vring_addr addr;
		struct vhost_memory memory;
		uint8_t room[sizeof(struct vhost_memory) + 2 * sizeof(struct vhost_memory_region)];
	};
};

/* What the fake kernel was asked, in this order; refused is a request that fails. */
static struct {
	struct call calls[CALLS_MAX];
	unsigned int count;
	unsigned long refused;
} kernel;

int __wrap_ioctl(int fd, unsigned long number, void *argument)
{
	struct call *call = &kernel.calls[kernel.count++];
	size_t len = number == VHOST_SET_MEM_TABLE ? sizeof(call->room) : _IOC_SIZE(number);

	(void)fd;
	assert_in_range(kernel.count, 1, CALLS_MAX);
	*call = (struct call){ .number = number };
	if (argument)
		memcpy(call->room, argument, len);
	if (number == kernel.refused) {
		errno = EFAULT;
		return -1;
	}
	if (number == VHOST_GET_FEATURES)
		*(uint64_t *)argument = FEATURES;
	if (number == VHOST_GET_VRING_BASE)
		((struct vhost_vring_state *)argument)->num = 0x81238123;
	return 0;
}

static struct call next_call(unsigned int *at)
{
	assert_in_range(*at, 0, kernel.count - 1);
	return kernel.calls[(*at)++];
}

static void open_fake(struct vhost *vhost, const struct mem *mem)
{
	memset(&kernel, 0, sizeof(kernel));
	assert_int_equal(vhost_kernel_open(vhost, "/dev/null", mem), 0);
	assert_int_equal(vhost->features, FEATURES);
	kernel.count = 0;
}

/* Guest memory, and of the features those that it knows; the owner is set once. */
static void test_start(void **state)
{
	uint8_t ram[2];
	struct mem_region regions[] = {
		{ .gpa = 0x1000, .len = 0x3000, .hva = &ram[0], .fd = -1 },
		{ .gpa = 0x100000000, .len = 0x5000, .hva = &ram[1], .fd = -1 },
	};
	const struct mem mem = { .regions = regions, .count = ARRAY_SIZE(regions) };
	struct vhost vhost;
	unsigned int at = 0;

	(void)state;
	open_fake(&vhost, &mem);
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(vhost_start(&vhost, 1ULL << VIRTIO_F_VERSION_1 | 1), 0);
		if (i == 0)
			assert_int_equal(next_call(&at).number, VHOST_SET_OWNER);
		assert_int_equal(kernel.calls[at].number, VHOST_SET_MEM_TABLE);
		assert_int_equal(kernel.calls[at].memory.nregions, 2);
		for (size_t j = 0; j < ARRAY_SIZE(regions); j++) {
			const struct vhost_memory_region *region = &kernel.calls[at].memory.regions[j];

			assert_int_equal(region->guest_phys_addr, regions[j].gpa);
			assert_int_equal(region->memory_size, regions[j].len);
			assert_int_equal(region->userspace_addr, (uintptr_t)regions[j].hva);
		}
		at++;
		assert_int_equal(kernel.calls[at].number, VHOST_SET_FEATURES);
		assert_int_equal(next_call(&at).features, 1ULL << VIRTIO_F_VERSION_1);
		assert_int_equal(at, kernel.count);
	}
	kernel.count = 0;
	kernel.refused = VHOST_SET_FEATURES;
	assert_int_equal(vhost_start(&vhost, 0), -EFAULT);
	vhost_close(&vhost);
}

static void test_ring(void **state)
{
	static const struct {
		unsigned long number;
		int value;
	} wanted[] = {
		{ VHOST_SET_VRING_NUM, 256 }, { VHOST_SET_VRING_BASE, 77 }, { VHOST_SET_VRING_ADDR, 0 },
		{ VHOST_SET_VRING_ERR, 12 },  { VHOST_SET_VRING_CALL, 11 }, { VHOST_SET_VRING_KICK, 10 },
	};
	const uint8_t areas[3];
	const struct vhost_ring ring = { .index = 1, .size = 256, .desc = &areas[0], .driver = &areas[1],
					 .device = &areas[2], .base = 77, .kick = 10, .call = 11, .error = 12 };
	const struct mem mem = { 0 };
	struct vhost vhost;
	uint32_t base = 5;

	(void)state;
	open_fake(&vhost, &mem);
	assert_int_equal(vhost_start_ring(&vhost, &ring), 0);
	assert_int_equal(kernel.count, ARRAY_SIZE(wanted));
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
		assert_int_equal(kernel.calls[i].number, wanted[i].number);
		assert_int_equal(kernel.calls[i].state.index, 1);
		if (wanted[i].value)
			assert_int_equal(kernel.calls[i].state.num, wanted[i].value);
	}
	assert_int_equal(kernel.calls[2].addr.desc_user_addr, (uintptr_t)&areas[0]);
	assert_int_equal(kernel.calls[2].addr.avail_user_addr, (uintptr_t)&areas[1]);
	assert_int_equal(kernel.calls[2].addr.used_user_addr, (uintptr_t)&areas[2]);

	kernel.count = 0;
	assert_int_equal(vhost_set_call(&vhost, 1, -1), 0);
	assert_int_equal(kernel.calls[0].number, VHOST_SET_VRING_CALL);
	assert_int_equal(kernel.calls[0].file.fd, -1);

	kernel.count = 0;
	assert_int_equal(vhost_stop_ring(&vhost, 1, &base), 0);
	assert_int_equal(kernel.calls[0].number, VHOST_SET_VRING_KICK);
	assert_int_equal(kernel.calls[0].file.fd, -1);
	assert_int_equal(kernel.calls[1].number, VHOST_GET_VRING_BASE);
	assert_int_equal(base, 0x81238123);

	/* What is refused ends it there and then. */
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
		kernel.count = 0;
		kernel.refused = wanted[i].number;
		assert_int_equal(vhost_start_ring(&vhost, &ring), -EFAULT);
		assert_int_equal(kernel.count, i + 1);
	}
	kernel.count = 0;
	kernel.refused = VHOST_GET_VRING_BASE;
	base = 5;
	assert_int_equal(vhost_stop_ring(&vhost, 1, &base), -EFAULT);
	assert_int_equal(base, 5);
	vhost_close(&vhost);
}

static void test_missing(void **state)
{
	const struct mem mem = { 0 };
	struct vhost vhost = { .fd = -1 };

	(void)state;
	memset(&kernel, 0, sizeof(kernel));
	assert_int_equal(vhost_kernel_open(&vhost, "/dev/none-such", &mem), -ENOENT);
	kernel.refused = VHOST_GET_FEATURES;
	assert_int_equal(vhost_kernel_open(&vhost, "/dev/null", &mem), -EFAULT);
	assert_int_equal(vhost.fd, -1);
	vhost_close(&vhost);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_start),
		cmocka_unit_test(test_ring),
		cmocka_unit_test(test_missing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
