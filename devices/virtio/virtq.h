/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtqueues as a device sees them: chains come out with virtq_pop(), are read
 * and written through two cursors, and go back with virtq_done(). Virtio 1.2,
 * section 2.7 (split virtqueues).
 *
 * Popping copies every descriptor once into the chain's slot and checks the
 * whole chain: what the guest changes afterwards has no effect. The used length
 * comes from the write cursor. Used entries are published, and the driver is
 * notified, once per turn of the worker's loop (virtq_publish), and doorbells
 * are asked for only when the queue was found empty. A device cannot forget any of it.
 */
#ifndef DEVICES_VIRTIO_VIRTQ_H
#define DEVICES_VIRTIO_VIRTQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include "core/loop.h"

struct mem;
struct virtio_dev;
struct virtq;

/* Iovecs of one chain at the most: IOV_MAX, so that a whole chain fits a system call. */
#define CHAIN_IOV_MAX 1024

/* A position within a list of buffers; the list shrinks as bytes are taken. */
struct cursor {
	struct iovec *iov;
	unsigned int count;
	size_t left; /* bytes */
	size_t done; /* bytes taken so far */
};

struct chain {
	struct virtq *queue;
	uint16_t head;
	bool in_flight;
	struct cursor out;  /* device-readable */
	struct cursor in;   /* device-writable */
	struct cursor tail; /* what chain_split() took off the end of in */
	struct iovec *block; /* from the queue's pool: CHAIN_IOV_MAX entries */
};

/* The part of a queue that the driver sets; frozen when the device starts. */
struct virtq_layout {
	uint16_t size;
	bool ready;
	uint64_t desc, driver, device; /* guest-physical; "available" and "used" of a split ring */
};

struct virtq {
	struct virtio_dev *dev;
	unsigned int index;
	uint16_t size_max;
	struct virtq_layout layout; /* what the driver wrote so far; guarded by the device's lock */
	struct event kick;          /* the doorbell's eventfd */

	/* The rest belongs to the worker. */
	bool active;
	uint16_t size; /* frozen */
	bool event_idx, indirect;
	uint8_t *desc, *avail, *used; /* the rings, each checked to lie within one region */
	uint16_t next_avail; /* free-running */
	uint16_t next_used;  /* free-running, ahead of the published index */
	uint16_t published;  /* the used index that the driver can see */
	bool quiet;          /* the driver was told that no doorbells are needed */
	struct chain *slots; /* size_max of them, by head */
	uint8_t *requests;   /* size_max of the class's request_size */
	size_t request_size;
	struct iovec *pool;  /* size_max blocks of CHAIN_IOV_MAX iovecs */
	uint16_t *free_blocks; /* a stack: the blocks used last stay warm */
	unsigned int free_count;
};

/* Allocates slots and pool for size_max entries (a power of two). -ENOMEM. */
int virtq_init(struct virtq *queue, struct virtio_dev *dev, unsigned int index, uint16_t size_max,
	       size_t request_size);
void virtq_free(struct virtq *queue);

/*
 * Freezes the layout and maps the rings. -EINVAL when size, alignment or
 * addresses are wrong (section 2.7): the device must then not start.
 */
int virtq_activate(struct virtq *queue, const struct mem *mem, uint64_t features);
/* Forgets all chains in flight. */
void virtq_deactivate(struct virtq *queue);

/*
 * The next chain, or NULL: there is none (and the driver was asked for a
 * doorbell), all slots are in flight, or the driver broke the rules (and
 * virtio_fail() was called).
 */
struct chain *virtq_pop(struct virtq *queue);
/* Puts the chain that was popped last back; the next pop finds it again, unread. */
void virtq_unpop(struct virtq *queue, struct chain *chain);
/* Returns a chain to the driver. In any order. */
void virtq_done(struct virtq *queue, struct chain *chain);
/*
 * Makes what was returned visible and says whether the driver wants an
 * interrupt for it. The core calls it at the end of each turn.
 */
bool virtq_publish(struct virtq *queue);

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
/* Writes into the tail, as chain_push(). */
size_t chain_push_tail(struct chain *chain, const void *buffer, size_t len);

/* Moves a cursor on by len bytes (not more than are left) that a system call took or filled. */
void cursor_advance(struct cursor *cursor, size_t len);

#endif
