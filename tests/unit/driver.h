/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver's side of a device by hand: guest RAM, split rings in it, buffers.
 * The workers are not started, unless by vq_run(), so that everything happens
 * inline, in vq_turn().
 */
#ifndef TESTS_UNIT_DRIVER_H
#define TESTS_UNIT_DRIVER_H

#include <assert.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include "core/mem.h"
#include "core/util.h"
#include "devices/virtio/transport.h"

#define VQ_RAM_BASE 0x100000
#define VQ_RAM_SIZE MIB(8)
#define VQ_SIZE 16
#define VQ_WAIT_MS 20000 /* for what comes soon, or never */

struct vq {
	uint16_t size;
	uint64_t desc, avail, used;
	uint16_t next_desc, seen;
};

struct vq_guest {
	struct transport transport; /* first: the device's transport is the guest */
	struct virtio_host host;
	struct virtio_dev *dev;
	const struct virtio_class *class;
	void *conf; /* made by vq_guest_make(), or NULL */
	struct mem mem;
	bool running;  /* the workers are threads */
	uint64_t next; /* free memory */
	struct vq queues[VIRTIO_QUEUES_MAX];
	unsigned int queue_interrupts[VIRTIO_QUEUES_MAX], config_interrupts;
	int escape; /* the last one that the device told */
};

struct vq_buffer {
	uint64_t gpa;
	uint32_t len;
	bool writable;
};

static inline void vq_raise_queue(struct transport *transport, unsigned int queue)
{
	((struct vq_guest *)(void *)transport)->queue_interrupts[queue]++;
}

static inline void vq_raise_config(struct transport *transport)
{
	((struct vq_guest *)(void *)transport)->config_interrupts++;
}

static inline void vq_escape(void *opaque, enum chardev_escape escape)
{
	((struct vq_guest *)opaque)->escape = escape;
}

/* len bytes of zeroed guest memory. */
static inline uint64_t vq_alloc(struct vq_guest *guest, uint64_t len)
{
	uint64_t gpa = guest->next;

	guest->next = util_align_up(gpa + len, 64);
	assert(guest->next <= VQ_RAM_BASE + VQ_RAM_SIZE);
	return gpa;
}

static inline void *vq_ptr(struct vq_guest *guest, uint64_t gpa, uint64_t len)
{
	return mem_ptr(&guest->mem, gpa, len);
}

/* One device of the class, in the guest's memory. */
static inline int vq_plug(struct vq_guest *guest, const void *conf)
{
	int rc = virtio_dev_new(guest->class, 0, conf, &guest->host, &guest->dev);

	if (rc == 0)
		guest->dev->transport = &guest->transport;
	return rc;
}

/* A guest with such a device. conf must outlive it. -errno of the class's init. */
static inline int vq_guest_init(struct vq_guest *guest, const struct virtio_class *class,
				const void *conf)
{
	/* Shared, so that threads which play vCPUs can have a mapping of their own. */
	const struct mem_backing backing = { .shared = true };
	int rc;

	*guest = (struct vq_guest){
		.transport = { vq_raise_queue, vq_raise_config, NULL },
		.class = class,
		.next = VQ_RAM_BASE,
	};
	guest->host = (struct virtio_host){
		.mem = &guest->mem,
		.vm_name = "test",
		.opaque = guest,
		.escape = vq_escape,
	};
	rc = mem_add(&guest->mem, VQ_RAM_BASE, VQ_RAM_SIZE, &backing);
	return rc < 0 ? rc : vq_plug(guest, conf);
}

/* The same with a configuration of its own, as the command line has it. */
static inline int vq_guest_make(struct vq_guest *guest, const struct virtio_class *class,
				const char *options)
{
	void *conf = calloc(1, class->conf_size);
	struct opt_error error;
	int rc;

	if (opt_parse(class->opts, options, conf, &error) < 0)
		abort();
	rc = vq_guest_init(guest, class, conf);
	guest->conf = conf;
	return rc;
}

static inline void vq_guest_free(struct vq_guest *guest)
{
	virtio_dev_free(guest->dev);
	if (guest->conf)
		opt_free(guest->class->opts, guest->conf);
	free(guest->conf);
	mem_free(&guest->mem);
}

static inline void vq_set_features(struct vq_guest *guest, uint64_t features)
{
	virtio_set_driver_features(guest->dev, 0, (uint32_t)features);
	virtio_set_driver_features(guest->dev, 1, (uint32_t)(features >> 32));
}

static inline void vq_set_up_queue_of(struct vq_guest *guest, unsigned int index, uint16_t size)
{
	struct vq *queue = &guest->queues[index];
	struct virtq_layout layout = { .size = size, .ready = true };

	*queue = (struct vq){
		.size = size,
		.desc = vq_alloc(guest, size * sizeof(struct vring_desc)),
		.avail = vq_alloc(guest, sizeof(struct vring_avail) +
						 (size + 1u) * sizeof(uint16_t)),
		.used = vq_alloc(guest, sizeof(struct vring_used) +
						size * sizeof(struct vring_used_elem) +
						sizeof(uint16_t)),
	};
	layout.desc = queue->desc;
	layout.driver = queue->avail;
	layout.device = queue->used;
	virtio_set_queue(guest->dev, index, &layout);
}

static inline void vq_set_up_queue(struct vq_guest *guest, unsigned int index)
{
	vq_set_up_queue_of(guest, index, VQ_SIZE);
}

static inline uint8_t vq_set_status(struct vq_guest *guest, uint8_t status)
{
	virtio_set_status(guest->dev, status);
	return virtio_status(guest->dev);
}

/* And waits until it is over, as drivers do. */
static inline void vq_reset(struct vq_guest *guest)
{
	virtio_set_status(guest->dev, 0);
	virtio_reset_wait(guest->dev, -1);
}

/* Negotiates VIRTIO_F_VERSION_1 and features, and gives each queue a ring. */
static inline void vq_start(struct vq_guest *guest, uint64_t features)
{
	uint8_t status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;

	virtio_set_status(guest->dev, status);
	vq_set_features(guest, features | 1ULL << VIRTIO_F_VERSION_1);
	virtio_set_status(guest->dev, status |= VIRTIO_CONFIG_S_FEATURES_OK);
	for (unsigned int i = 0; i < guest->dev->queue_count; i++)
		vq_set_up_queue(guest, i);
	virtio_set_status(guest->dev, status | VIRTIO_CONFIG_S_DRIVER_OK);
}

/* Makes one chain of the buffers available; returns its head. Descriptors are used in turn. */
static inline uint16_t vq_post(struct vq_guest *guest, unsigned int index,
			       const struct vq_buffer *buffers, unsigned int count)
{
	struct vq *queue = &guest->queues[index];
	struct vring_desc *desc = vq_ptr(guest, queue->desc, queue->size * sizeof(*desc));
	struct vring_avail *avail = vq_ptr(guest, queue->avail, sizeof(*avail) + queue->size * 2);
	uint16_t head = queue->next_desc % queue->size;

	for (unsigned int i = 0; i < count; i++) {
		bool last = i + 1 == count;

		desc[queue->next_desc++ % queue->size] = (struct vring_desc){
			.addr = buffers[i].gpa,
			.len = buffers[i].len,
			.flags = (uint16_t)((buffers[i].writable ? VRING_DESC_F_WRITE : 0) |
					    (last ? 0 : VRING_DESC_F_NEXT)),
			.next = last ? 0 : queue->next_desc % queue->size,
		};
	}
	avail->ring[avail->idx % queue->size] = head;
	__atomic_store_n(&avail->idx, avail->idx + 1, __ATOMIC_RELEASE);
	return head;
}

/* Rings the doorbell. */
static inline void vq_notify(struct vq_guest *guest, unsigned int index)
{
	eventfd_write(guest->dev->queues[index].kick.fd, 1);
}

/* Lets the device do what there is to do now. */
static inline void vq_turn(struct vq_guest *guest)
{
	int ran;

	do {
		ran = 0;
		for (unsigned int i = 0; i < guest->dev->worker_count; i++)
			ran += loop_turn(&guest->dev->workers[i].loop, 0) > 0;
	} while (ran);
}

/* One turn of the first worker, for as long as it takes; how many handlers ran. */
static inline int vq_wait(struct vq_guest *guest)
{
	return loop_turn(&guest->dev->workers[0].loop, VQ_WAIT_MS);
}

/* From here on the workers are threads. Confined ones give up what lets them enter a filter otherwise. */
static inline int vq_run(struct vq_guest *guest, bool confine)
{
	int rc = confine ? prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) : 0;

	for (unsigned int i = 0; rc == 0 && i < guest->dev->worker_count; i++) {
		guest->dev->workers[i].confine = confine;
		rc = worker_start(&guest->dev->workers[i]);
	}
	guest->running = rc == 0;
	return rc;
}

/* A counter by its name; UINT64_MAX when there is none of it. */
static inline uint64_t vq_counter(const struct vq_guest *guest, const char *name)
{
	uint64_t sum = UINT64_MAX;
	const char *found;

	for (unsigned int n = 0; (found = virtio_nth_counter(guest->dev, n, &sum)); n++)
		if (!strcmp(found, name))
			return sum;
	return UINT64_MAX;
}

static inline bool vq_failed(struct vq_guest *guest)
{
	return virtio_status(guest->dev) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

/* The next used entry; false when there is none. ret_len may be NULL. */
static inline bool vq_take(struct vq_guest *guest, unsigned int index, uint16_t *ret_head,
			   uint32_t *ret_len)
{
	struct vq *queue = &guest->queues[index];
	struct vring_used *used =
		vq_ptr(guest, queue->used, sizeof(*used) + queue->size * sizeof(used->ring[0]));

	if (__atomic_load_n(&used->idx, __ATOMIC_ACQUIRE) == queue->seen)
		return false;
	*ret_head = (uint16_t)used->ring[queue->seen % queue->size].id;
	if (ret_len)
		*ret_len = used->ring[queue->seen % queue->size].len;
	queue->seen++;
	return true;
}

/* The same from workers that are threads: false when there is none after all. */
static inline bool vq_await(struct vq_guest *guest, unsigned int index, uint16_t *ret_head,
			    uint32_t *ret_len)
{
	for (int ms = 0; ms < VQ_WAIT_MS; ms++) {
		if (vq_take(guest, index, ret_head, ret_len))
			return true;
		usleep(1000);
	}
	return false;
}

#endif
