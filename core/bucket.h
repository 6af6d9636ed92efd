/* SPDX-License-Identifier: Apache-2.0 */
/* Token buckets: a rate with a burst. A bucket belongs to one thread, a pair to any. */
#ifndef CORE_BUCKET_H
#define CORE_BUCKET_H

#include <pthread.h>
#include <stdbool.h>
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

/*
 * All of want at once: 0 when they were taken, else the nanoseconds after which
 * they may be there, and none was. What is more than the burst a full bucket
 * lends, and whoever comes next waits the longer.
 */
uint64_t bucket_take_all(struct bucket *bucket, uint64_t want, uint64_t now_ns);

/* What limits I/O: requests, and their bytes. */
struct bucket_pair {
	pthread_mutex_t lock;
	struct bucket requests, bytes;
};

/* Per second; 0: no limit. Of a burst 0: a tenth of a second's worth. */
struct bucket_rates {
	uint64_t requests, requests_burst;
	uint64_t bytes, bytes_burst;
};

void bucket_pair_init(struct bucket_pair *pair, const struct bucket_rates *rates, uint64_t now_ns);
/* One request of so many bytes (may be 0), as bucket_take_all(). */
uint64_t bucket_pair_take(struct bucket_pair *pair, uint64_t bytes, uint64_t now_ns);
/* Whether there is a limit at all. */
bool bucket_pair_limits(const struct bucket_pair *pair);

#endif
