/* SPDX-License-Identifier: Apache-2.0 */
/* A token bucket: a rate with a burst. Belongs to one thread. */
#ifndef CORE_BUCKET_H
#define CORE_BUCKET_H

#include <stdint.h>

struct bucket {
	uint64_t rate;  /* tokens per second; 0: no limit */
	uint64_t burst; /* tokens that may be saved up */
	uint64_t tokens;
	uint64_t last_ns;
};

/* burst 0: one second's worth. The bucket starts full. */
void bucket_init(struct bucket *bucket, uint64_t rate, uint64_t burst, uint64_t now_ns);

/*
 * How many of want tokens may be spent now (they are taken); where it is 0,
 * *ret_wait_ns says when one is there again. want > 0.
 */
uint64_t bucket_take(struct bucket *bucket, uint64_t want, uint64_t now_ns, uint64_t *ret_wait_ns);

/* Puts tokens back that were taken and not spent. */
void bucket_give(struct bucket *bucket, uint64_t unused);

#endif
