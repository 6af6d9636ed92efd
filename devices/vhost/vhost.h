/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Somebody else who serves virtqueues in a device's stead: the host's kernel,
 * or a program (user.h). What it takes is opened before confinement; a thread
 * that uses it afterwards needs its fd, and VHOST_KERNEL_CALLS in its filter.
 *
 *	vhost_kernel_open() -> vhost_start() -> vhost_start_ring() ... -> vhost_stop_ring() -> vhost_close()
 *
 * A back end checks the guest's addresses itself: it is told of guest memory,
 * and of nothing else. devices/virtio/lend.c has a queue served by one.
 */
#ifndef DEVICES_VHOST_VHOST_H
#define DEVICES_VHOST_VHOST_H

#include <linux/vhost.h>
#include <stdbool.h>
#include <stdint.h>
#include "core/mem.h"

struct vhost_ops;

struct vhost {
	const struct vhost_ops *ops;
	const struct mem *mem;
	int fd;
	uint64_t features; /* that it knows, as virtio numbers them */
	bool owned;        /* this process is its owner */
};

/* A ring to serve. */
struct vhost_ring {
	unsigned int index; /* which of the back end's */
	uint16_t size;
	const uint8_t *desc, *driver, *device; /* the three areas, in this process's memory */
	/*
	 * Where to begin. Split: the next available index. Packed: the next
	 * entry to look at, with the wrap counter as bit 15; the next one to
	 * use, shifted by 16.
	 */
	uint32_t base;
	int kick, call, error; /* eventfds: the doorbell, the interrupt (-1: none), the driver's fault */
};

struct vhost_ops {
	int (*start)(struct vhost *vhost, uint64_t features);
	int (*start_ring)(struct vhost *vhost, const struct vhost_ring *ring);
	int (*set_call)(struct vhost *vhost, unsigned int index, int fd);
	int (*stop_ring)(struct vhost *vhost, unsigned int index, uint32_t *ret_base);
};

/*
 * The kernel's, at path ("/dev/vhost-net"). A device says afterwards, by
 * requests of its own on vhost->fd, what the rings are connected to. -errno of open().
 */
int vhost_kernel_open(struct vhost *vhost, const char *path, const struct mem *mem);
/* Accepts one whose fd is -1. */
void vhost_close(struct vhost *vhost);

/* The system calls of the kernel's, by their exact arguments. */
#define VHOST_KERNEL_CALLS \
	SC_ARG(ioctl, 1, VHOST_SET_OWNER), SC_ARG(ioctl, 1, VHOST_SET_MEM_TABLE), \
	SC_ARG(ioctl, 1, VHOST_SET_FEATURES), SC_ARG(ioctl, 1, VHOST_SET_VRING_NUM), \
	SC_ARG(ioctl, 1, VHOST_SET_VRING_BASE), SC_ARG(ioctl, 1, VHOST_GET_VRING_BASE), \
	SC_ARG(ioctl, 1, VHOST_SET_VRING_ADDR), SC_ARG(ioctl, 1, VHOST_SET_VRING_KICK), \
	SC_ARG(ioctl, 1, VHOST_SET_VRING_CALL), SC_ARG(ioctl, 1, VHOST_SET_VRING_ERR)

/*
 * The driver is ready: tells it guest memory and what of the agreed features
 * is its business, before any ring is started. -errno, as of the next three.
 */
static inline int vhost_start(struct vhost *vhost, uint64_t features)
{
	return vhost->ops->start(vhost, features);
}

/* A ring that does not run; it is not looked at before its doorbell rings. */
static inline int vhost_start_ring(struct vhost *vhost, const struct vhost_ring *ring)
{
	return vhost->ops->start_ring(vhost, ring);
}

/* The running ring's interrupt is another eventfd now; -1: none. */
static inline int vhost_set_call(struct vhost *vhost, unsigned int index, int fd)
{
	return vhost->ops->set_call(vhost, index, fd);
}

/*
 * When it returns nothing touches the ring or its buffers any more, if the
 * device has disconnected it; *ret_base is where it has come to.
 */
static inline int vhost_stop_ring(struct vhost *vhost, unsigned int index, uint32_t *ret_base)
{
	return vhost->ops->stop_ring(vhost, index, ret_base);
}

#endif
