/* SPDX-License-Identifier: Apache-2.0 */
/* What there is to measure; each runs for some time with a number of requests in flight. */
#ifndef GUEST_MEASURE_H
#define GUEST_MEASURE_H

#include "virtio.h"

struct result {
	uint64_t count, ns, doorbells, interrupts;
};

struct load {
	uint32_t bytes;
	unsigned int depth;
	uint64_t ns;
	bool polled;
};

enum measure_error {
	MEASURE_OK,
	MEASURE_REFUSED, /* the device or its driver cannot do this */
	MEASURE_FAILED,  /* a request did */
};

enum measure_error measure_blk(struct device *dev, uint64_t ring, bool write, bool sequential,
			       const struct load *load, struct result *ret_result);
enum measure_error measure_rng(struct device *dev, uint64_t ring, const struct load *load,
			       struct result *ret_result);
enum measure_error measure_send(struct device *dev, uint64_t ring, const struct load *load,
				struct result *ret_result);
enum measure_error measure_receive(struct device *dev, uint64_t ring, const struct load *load,
				   struct result *ret_result);

/* Doorbells of a queue on which nothing is posted. */
enum measure_error measure_doorbell(struct device *dev, uint64_t ring, const struct load *load,
				    struct result *ret_result);
/* From the moment a busy processor sees a request in the used ring to its return from the interrupt. */
enum measure_error measure_interrupt(struct device *dev, uint64_t ring, const struct load *load,
				     struct result *ret_result);

#endif
