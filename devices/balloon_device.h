/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the balloon share: balloon.c is the device and its
 * configuration, balloon_pages.c gives memory back to the host, balloon_hints.c
 * asks for pages that are free and balloon_stats.c for statistics. What serves
 * a chain says what is wrong with it, or NULL.
 */
#ifndef DEVICES_BALLOON_DEVICE_H
#define DEVICES_BALLOON_DEVICE_H

#include <linux/virtio_balloon.h>
#include "devices/balloon.h"
#include "devices/virtio/virtio.h"

#define BALLOON_PAGE (1u << VIRTIO_BALLOON_PFN_SHIFT)

struct balloon_conf {
	struct virtio_conf virtio;
	uint64_t size;
	uint64_t stats; /* in seconds; 0: only when asked for */
	bool deflate_on_oom, reporting, hinting;
};

/* What a queue is for: its number, as the specification has it. */
enum balloon_role { BALLOON_INFLATE, BALLOON_DEFLATE, BALLOON_STATS, BALLOON_HINTS, BALLOON_REPORTS,
		    BALLOON_ROLES };

/* Where the host's pages are larger: what of each is in the balloon. */
struct balloon_gathered {
	uint64_t page;   /* the host's; 0: no larger than ours */
	uint64_t pages;
	uint32_t *count; /* of the balloon's in each of them */
	uint64_t *given; /* which these are: a bit each */
	uint64_t words;
};

struct balloon {
	struct virtio_dev dev;
	struct balloon_gathered gathered;
	uint32_t target; /* in pages */
	uint32_t command; /* free_page_hint_cmd_id: of the round of hints, or that there is none */
	uint32_t rounds;  /* their last number */
	bool hinting;     /* the driver has begun the round */
	uint32_t poison; /* what free pages are filled with, where it was agreed */
	struct chain *stats; /* the driver's buffer, until we want another */
	struct timer timer;
};

/* Those of statistics are as the driver says them, in the order of their tags. */
enum balloon_counter { BALLOON_TARGET, BALLOON_ACTUAL, BALLOON_RELEASED, BALLOON_REPORTED,
		       BALLOON_HINTED, BALLOON_ROUNDS, BALLOON_REFUSED, BALLOON_ERRORS, BALLOON_UPDATES, BALLOON_TAGS };

static inline struct balloon *balloon_of(struct virtio_dev *dev)
{
	return container_of(dev, struct balloon, dev);
}

/* One thread serves all queues, so that the first can count for them. */
static inline void balloon_count(struct balloon *balloon, unsigned int counter, uint64_t n)
{
	virtq_count(&balloon->dev.queues[0], counter, n);
}

/* Of counters that are no sums. */
static inline void balloon_show(struct balloon *balloon, unsigned int counter, uint64_t value)
{
	balloon_count(balloon, counter, value - virtq_counter(&balloon->dev.queues[0], counter));
}

/* ---- balloon_pages.c ---- */

/* A list of pages that come into the balloon, or leave it. */
const char *balloon_take_list(struct balloon *balloon, enum balloon_role role, struct chain *chain);
/* Pages that are a chain's buffers: reported, or hinted. */
void balloon_take_buffers(struct balloon *balloon, enum balloon_counter counter,
			  const struct chain *chain);
const char *balloon_take_report(struct balloon *balloon, const struct chain *chain);
/* In init. -ENOMEM. */
int balloon_gathered_init(struct balloon_gathered *gathered, const struct mem *mem);
/* The driver was reset: nothing is in the balloon. */
void balloon_gathered_forget(struct balloon_gathered *gathered);
void balloon_gathered_free(struct balloon_gathered *gathered);

/* ---- balloon_hints.c ---- */

const char *balloon_take_hint(struct balloon *balloon, struct chain *chain);
/* Ends a round that is on: the driver may have its pages back. */
void balloon_hints_end(struct balloon *balloon);

/* ---- balloon_stats.c ---- */

/* In init, where statistics are wanted by and by. -errno. */
int balloon_stats_init(struct balloon *balloon);
/* For kick of its queue, and for queue_stop of any. */
void balloon_stats_kick(struct balloon *balloon, struct virtq *queue);
void balloon_stats_stop(struct balloon *balloon, const struct virtq *queue);

#endif
