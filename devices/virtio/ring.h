/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the queue and the two ring layouts (split.c, packed.c): what differs
 * between them, and the walk over a chain's descriptors, which both share.
 */
#ifndef DEVICES_VIRTIO_RING_H
#define DEVICES_VIRTIO_RING_H

#include "devices/virtio/virtq.h"

struct walk;

struct ring_ops {
	/* Sets the pointers to the areas. -EINVAL: misaligned, or not within a region of memory. */
	int (*map)(struct virtq *queue, const struct mem *mem);
	/* Whether a chain was made available. */
	bool (*waiting)(const struct virtq *queue);
	/* Walks over the chain that waits: its buffers, head and descs. False: walk->fault is set. */
	bool (*take)(struct virtq *queue, struct walk *walk);
	/* Moves on behind the chain that was taken, or back before it. */
	void (*advance)(struct virtq *queue, const struct chain *chain);
	void (*retreat)(struct virtq *queue, const struct chain *chain);
	/* Writes the used entry of a chain; the driver must not see it yet. */
	void (*put)(struct virtq *queue, const struct chain *chain, uint32_t len);
	/* Shows the driver what was put. */
	void (*show)(struct virtq *queue);
	/* Whether it wants an interrupt for the last count entries, which it can see. */
	bool (*wants_interrupt)(const struct virtq *queue, uint32_t count);
	/* Tells the driver whether doorbells are wanted. */
	void (*want_doorbell)(struct virtq *queue, bool wanted);
	/* Where somebody came to who served the ring in order and left without a word. -ENODATA: it does not say. */
	int (*recover)(const struct virtq *queue, struct virtq_position *ret);
};

extern const struct ring_ops ring_split, ring_packed;

/* A chain that is being walked. */
struct walk {
	const struct mem *mem;
	struct chain chain;
	unsigned int iov_count;
	uint64_t bytes;
	const char *fault; /* what the driver did wrong */
};

/* A table of descriptors, 16 bytes each in both layouts. */
struct walk_table {
	const uint8_t *hva; /* NULL: it crosses regions, each entry is copied out */
	uint64_t gpa;
	uint32_t count;
};

/* Adds a buffer to the chain. False: walk->fault is set. */
bool walk_buffer(struct walk *walk, uint64_t gpa, uint32_t len, bool writable);
/* The indirect table (sections 2.7.5.3 and 2.8.7) of len bytes at gpa. False: walk->fault is set. */
bool walk_indirect(struct walk *walk, const struct virtq *queue, uint64_t gpa, uint32_t len,
		   bool next, struct walk_table *ret_table);
/*
 * The one look at a descriptor: what the driver changes later has no effect.
 * False: walk->fault is set.
 */
bool walk_fetch(struct walk *walk, const struct walk_table *table, uint32_t index, void *ret_desc);

/* The rings change while they are looked at: one load or store for each value. */
static inline uint16_t ring_load(const void *p)
{
	return __atomic_load_n((const uint16_t *)p, __ATOMIC_ACQUIRE);
}

static inline void ring_store(void *p, uint16_t value)
{
	__atomic_store_n((uint16_t *)p, value, __ATOMIC_RELEASE);
}

#endif
