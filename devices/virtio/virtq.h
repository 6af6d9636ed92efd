/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtqueues as a device sees them: chains come out with virtq_pop(), are read
 * and written through two cursors, and go back with virtq_done(). Virtio 1.2,
 * sections 2.7 (split) and 2.8 (packed virtqueues); the device cannot tell which.
 *
 * Popping copies every descriptor once into the chain's slot and checks the
 * whole chain: what the guest changes afterwards has no effect. The used length
 * comes from the write cursor. The core publishes used chains and notifies the
 * driver once per turn of the worker's loop, and asks for doorbells only when
 * the worker is about to sleep. A device cannot forget any of it.
 */
#ifndef DEVICES_VIRTIO_VIRTQ_H
#define DEVICES_VIRTIO_VIRTQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include "core/loop.h"
#include "core/stat.h"
#include "seccomp/worker.h"

struct mem;
struct ring_ops;
struct vhost;
struct virtio_dev;
struct virtq;

/* Iovecs of one chain at the most: IOV_MAX, so that a whole chain fits a system call. */
#define CHAIN_IOV_MAX 1024

#define VIRTQ_SIZE_MAX 32768
#define VIRTQ_COUNTERS_MAX 24

/* What the core counts for each queue; a class's own counters follow. */
enum virtq_counter {
	VIRTQ_CHAINS,     /* popped */
	VIRTQ_KICKS,      /* doorbells that woke the worker */
	VIRTQ_INTERRUPTS, /* sent to the driver */
	VIRTQ_SUPPRESSED, /* publications for which the driver wanted none */
	VIRTQ_COUNTERS,
};

/* A position within a list of buffers; the list shrinks as bytes are taken. */
struct cursor {
	struct iovec *iov;
	unsigned int count;
	size_t left; /* bytes */
	size_t done; /* bytes taken so far */
};

struct chain {
	struct virtq *queue;
	uint16_t head;  /* of a split ring; the buffer id of a packed one */
	uint16_t descs; /* entries of the ring that it takes */
	bool in_flight;
	bool returned;  /* done, but with VIRTIO_F_IN_ORDER an earlier one is not */
	struct cursor out;  /* device-readable */
	struct cursor in;   /* device-writable */
	struct cursor tail; /* what chain_split() took off the end of in, or chain_split_front() off its front */
	struct iovec *block; /* from the queue's pool: CHAIN_IOV_MAX entries */
};

/* The part of a queue that the driver sets; frozen when the queue starts. */
struct virtq_layout {
	uint16_t size;
	bool ready;
	uint64_t desc, driver, device; /* guest-physical: the three areas of section 2.6 */
};

/* Where the device is in a ring. */
struct virtq_position {
	uint16_t next_avail, next_used; /* split: free-running; packed: entries, with these: */
	bool avail_wrap, used_wrap;     /* the wrap counters of section 2.8.1, both 1 at first */
};

struct virtq {
	struct virtio_dev *dev;
	unsigned int index;
	uint16_t size_max;
	struct virtq_layout layout; /* what the driver wrote so far; guarded by the device's lock */
	struct worker *worker;
	struct worker_job stop;     /* sent to the worker by a reset */
	bool resetting;             /* VIRTIO_F_RING_RESET; guarded by the device's lock */
	struct event kick;          /* the doorbell's eventfd */
	struct event call, error;   /* of one that can be lent: a vhost's interrupts and complaints */

	/* The rest belongs to the worker. */
	bool active;
	struct vhost *vhost;     /* serves the queue; NULL: the worker does */
	unsigned int ring_index; /* what the vhost calls it */
	uint16_t size; /* frozen, as the layout is */
	bool event_idx, indirect, in_order;
	bool empty;    /* found so, and no doorbell was asked for yet */
	bool quiet;    /* the driver was told that no doorbells are needed */
	const struct ring_ops *ring;
	uint8_t *desc, *driver, *device; /* the three areas, each checked to lie within one region */
	struct virtq_position position;
	uint16_t unpublished; /* used entries that the driver cannot see yet */
	uint32_t unnoticed;   /* those that it can, but was asked about no interrupt for */
	uint16_t in_flight;   /* ring entries that were taken and not returned */
	uint16_t held_flags;  /* packed: of the first unpublished entry */
	struct chain *slots; /* size_max of them, by head */
	uint8_t *requests;   /* size_max of the class's request_size */
	size_t request_size;
	struct iovec *pool;  /* size_max blocks of CHAIN_IOV_MAX iovecs */
	uint16_t *free_blocks; /* a stack: the blocks used last stay warm */
	unsigned int free_count;
	uint16_t *order;     /* in_order: the heads in flight, a ring of size entries */
	uint16_t order_first, order_count;
	uint16_t patience;   /* entries that need no doorbell; heeded with event indices only */
	struct stat_counter counters[VIRTQ_COUNTERS_MAX];
};

/* Allocates slots and pool for size_max entries (a power of two). -ENOMEM. */
int virtq_init(struct virtq *queue, struct virtio_dev *dev, unsigned int index, uint16_t size_max,
	       size_t request_size);
void virtq_free(struct virtq *queue);

/*
 * Maps the rings where the layout says, and goes on at queue->position.
 * -EINVAL when size, alignment or addresses are wrong (sections 2.7 and 2.8):
 * the device must then not start.
 */
int virtq_activate(struct virtq *queue, const struct mem *mem, uint64_t features);
/* Puts back all chains that are in flight, which were popped last, as if they never had been. */
void virtq_deactivate(struct virtq *queue);
/* To the beginning of the ring: after a reset. */
void virtq_rewind(struct virtq *queue);

/*
 * The next chain, or NULL: there is none, or the driver broke the rules (and
 * virtio_fail() was called).
 */
struct chain *virtq_pop(struct virtq *queue);
/* Puts the chain that was popped last back; the next pop finds it again, unread. */
void virtq_unpop(struct virtq *queue, struct chain *chain);
/* Returns a chain to the driver. In any order: the queue keeps it back where the driver wants another. */
void virtq_done(struct virtq *queue, struct chain *chain);
/* The same for several, of which the driver sees all or none. */
void virtq_done_together(struct virtq *queue, struct chain *const *chains, unsigned int count);
/* Shows the driver what was returned so far, where the rest of the turn takes long. */
void virtq_show(struct virtq *queue);

/* In a class's init: the queue may be lent. -errno. */
int virtq_lend_init(struct virtq *queue);
/*
 * In queue_start: vhost serves the queue as its ring number ring, from the
 * queue's position on, once its doorbell rings, which the core sees to; kick is
 * not called. -errno.
 */
int virtq_lend(struct virtq *queue, struct vhost *vhost, unsigned int ring);
/*
 * In queue_stop: a lent queue is the worker's again, at the position that it has
 * come to; where nobody knows that the device has to be reset.
 */
void virtq_take_back(struct virtq *queue);
/* Where the vhost that served a lent queue is gone, and another is there: hands it over once more. */
void virtq_lend_again(struct virtq *queue);

/* For the core. Another eventfd is the queue's interrupt now. -errno. */
int virtq_redirect(struct virtq *queue);
/* For the core. Shows what was returned, and raises an interrupt where the driver wants one for it. */
void virtq_publish(struct virtq *queue);
/* Whether pop would find something; for a queue that pop found empty. */
bool virtq_waiting(const struct virtq *queue);
/* Asks for a doorbell; true when something came before the driver could know. */
bool virtq_arm(struct virtq *queue);

/* The class's request_size bytes that go with the chain, for as long as it is in flight. */
void *chain_request(struct chain *chain);

/* Copies up to len bytes from the readable part and moves on; returns how many. */
size_t chain_pull(struct chain *chain, void *buffer, size_t len);
/* Copies up to len bytes into the writable part and moves on; returns how many. */
size_t chain_push(struct chain *chain, const void *buffer, size_t len);
/*
 * Takes the last len bytes of the writable part off it, into tail: a status
 * that follows data of a length that only the chain knows. -EINVAL when there are fewer.
 */
int chain_split(struct chain *chain, size_t len);
/* The same with the first len bytes: a status in front of the data. One of the two for a chain. */
int chain_split_front(struct chain *chain, size_t len);
/* Writes into the tail, as chain_push(). */
size_t chain_push_tail(struct chain *chain, const void *buffer, size_t len);

/* Moves a cursor on by len bytes (not more than are left) that a system call took or filled. */
void cursor_advance(struct cursor *cursor, size_t len);

static inline void virtq_count_core(struct virtq *queue, enum virtq_counter counter)
{
	stat_add(&queue->counters[counter], 1);
}

/* Adds to one of the class's counters. On the queue's worker. */
static inline void virtq_count(struct virtq *queue, unsigned int counter, uint64_t n)
{
	stat_add(&queue->counters[VIRTQ_COUNTERS + counter], n);
}

static inline uint64_t virtq_counter(const struct virtq *queue, unsigned int counter)
{
	return stat_read(&queue->counters[VIRTQ_COUNTERS + counter]);
}

#endif
