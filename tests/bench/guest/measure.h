/* SPDX-License-Identifier: Apache-2.0 */
/* What there is to measure; each runs for some time with a number of requests in flight. */
#ifndef GUEST_MEASURE_H
#define GUEST_MEASURE_H

#include "virtio.h"

#define DEPTH_MAX 64

/* What is measured, and the features that its rings are to have. */
struct target {
	struct device *dev;
	struct queue *queues; /* QUEUES_MAX */
	uint64_t ring;
};

struct load {
	uint32_t bytes; /* of each request */
	unsigned int depth;
	uint64_t ns;
	bool polled;
	bool write, sequential;
};

struct result {
	uint64_t count, ns, doorbells, interrupts;
};

enum measure_error {
	MEASURE_OK,
	MEASURE_REFUSED, /* the device or its driver cannot do this */
	MEASURE_FAILED,  /* a request did */
};

typedef enum measure_error measure_fn(const struct target *target, const struct load *load,
				      struct result *ret_result);

/* blk.c: transfers, and what a request costs besides. */
measure_fn measure_blk;
/* Doorbells of a queue on which nothing is posted. */
measure_fn measure_doorbell;
/* How long after the used ring a busy processor sees the interrupt; depth requests come together. */
measure_fn measure_interrupt;
/* scsi.c: transfers through SCSI's unit 0. */
measure_fn measure_scsi;
/* rng.c */
measure_fn measure_rng;
/* net.c */
measure_fn measure_send;
measure_fn measure_receive;

/*
 * traffic.c: depth requests of one queue are in flight, and each is posted
 * again when it is done, until the time is over.
 */
struct traffic {
	struct queue *queue;
	/* Checks a request that is done; NULL: nothing to check. */
	bool (*done)(struct traffic *traffic, unsigned int request);
	/* Makes it anew; NULL: it stays as it is. */
	void (*renew)(struct traffic *traffic, unsigned int request);
};

bool traffic_fits(const struct queue *queue, const struct load *load);
void traffic_post(struct traffic *traffic, unsigned int request);
enum measure_error traffic_run(struct traffic *traffic, const struct load *load,
			       struct result *ret_result);

/* The counts from begin to end. */
void result_begin(struct result *result, const struct queue *queue);
void result_end(struct result *result, const struct queue *queue);

#endif
