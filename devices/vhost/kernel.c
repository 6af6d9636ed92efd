// SPDX-License-Identifier: Apache-2.0
/*
 * The kernel's vhost: it serves rings in a thread of its own, with this
 * process's memory. The thread is made with the owner. That waits for the first
 * driver, since until the jail is entered this process must have no other
 * thread, and since Linux 6.4 the kernel's counts as one of its own.
 */
#include <fcntl.h>
#include <sys/ioctl.h>
#include "core/util.h"
#include "devices/vhost/vhost.h"

/* As many as the kernel takes unless it is told otherwise. */
#define REGIONS_MAX 64

static int request(const struct vhost *vhost, unsigned long number, void *argument)
{
	return ioctl(vhost->fd, number, argument) < 0 ? -errno : 0;
}

static int set_memory(const struct vhost *vhost)
{
	union {
		struct vhost_memory memory;
		uint8_t room[sizeof(struct vhost_memory) +
			     REGIONS_MAX * sizeof(struct vhost_memory_region)];
	} table = { 0 };
	const size_t count = vhost->mem->count + vhost->mem->windows;

	if (count > REGIONS_MAX)
		return -E2BIG;
	table.memory.nregions = (uint32_t)count;
	for (size_t i = 0; i < count; i++)
		table.memory.regions[i] = (struct vhost_memory_region){
			.guest_phys_addr = vhost->mem->regions[i].gpa,
			.memory_size = vhost->mem->regions[i].len,
			.userspace_addr = (uintptr_t)vhost->mem->regions[i].hva,
		};
	return request(vhost, VHOST_SET_MEM_TABLE, &table);
}

static int kernel_start(struct vhost *vhost, uint64_t features)
{
	int r = vhost->owned ? 0 : request(vhost, VHOST_SET_OWNER, NULL);

	if (r < 0)
		return r;
	vhost->owned = true;
	features &= vhost->features;
	r = set_memory(vhost);
	return r < 0 ? r : request(vhost, VHOST_SET_FEATURES, &features);
}

static int set_file(const struct vhost *vhost, unsigned long number, unsigned int index, int fd)
{
	struct vhost_vring_file file = { .index = index, .fd = fd };

	return request(vhost, number, &file);
}

static int kernel_start_ring(struct vhost *vhost, const struct vhost_ring *ring)
{
	struct vhost_vring_state size = { ring->index, ring->size };
	struct vhost_vring_state base = { ring->index, ring->base };
	struct vhost_vring_addr addr = {
		.index = ring->index,
		.desc_user_addr = (uintptr_t)ring->desc,
		.used_user_addr = (uintptr_t)ring->device,
		.avail_user_addr = (uintptr_t)ring->driver,
	};
	int r = request(vhost, VHOST_SET_VRING_NUM, &size);

	if (!r)
		r = request(vhost, VHOST_SET_VRING_BASE, &base);
	if (!r)
		r = request(vhost, VHOST_SET_VRING_ADDR, &addr);
	if (!r)
		r = set_file(vhost, VHOST_SET_VRING_ERR, ring->index, ring->error);
	if (!r)
		r = set_file(vhost, VHOST_SET_VRING_CALL, ring->index, ring->call);
	if (!r)
		r = set_file(vhost, VHOST_SET_VRING_KICK, ring->index, ring->kick);
	return r;
}

static int kernel_set_call(struct vhost *vhost, unsigned int index, int fd)
{
	return set_file(vhost, VHOST_SET_VRING_CALL, index, fd);
}

static int kernel_stop_ring(struct vhost *vhost, unsigned int index, uint32_t *ret_base)
{
	struct vhost_vring_state base = { .index = index };
	int r = set_file(vhost, VHOST_SET_VRING_KICK, index, VHOST_FILE_UNBIND);

	if (!r)
		r = request(vhost, VHOST_GET_VRING_BASE, &base);
	if (!r)
		*ret_base = base.num;
	return r;
}

static const struct vhost_ops kernel_ops = {
	.start = kernel_start,
	.start_ring = kernel_start_ring,
	.set_call = kernel_set_call,
	.stop_ring = kernel_stop_ring,
};

int vhost_kernel_open(struct vhost *vhost, const char *path, const struct mem *mem)
{
	_cleanup_close_ int fd = open(path, O_RDWR | O_CLOEXEC);
	struct vhost opened = { .ops = &kernel_ops, .mem = mem, .fd = fd };
	int r;

	if (fd < 0)
		return -errno;
	r = request(&opened, VHOST_GET_FEATURES, &opened.features);
	if (r < 0)
		return r;
	opened.fd = util_steal_fd(&fd);
	*vhost = opened;
	return 0;
}

void vhost_close(struct vhost *vhost)
{
	util_closep(&vhost->fd);
}
