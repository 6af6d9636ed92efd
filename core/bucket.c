// SPDX-License-Identifier: Apache-2.0
#include "core/bucket.h"

#include "core/util.h"


void bucket_init(struct bucket *bucket, uint64_t rate, uint64_t burst, uint64_t now_ns)
{
	if (burst == 0)
		burst = rate;
	*bucket = (struct bucket){
		.rate = rate,
		.burst = burst,
		.tokens = burst,
		.last_ns = now_ns,
	};
}

/*
 * Time that was not enough for a whole token is kept, as last_ns, or a slow
 * rate asked often would never give one.
 */
static void bucket_refill(struct bucket *bucket, uint64_t now_ns)
{
	/* Bytes per second times nanoseconds passes 2^64 within seconds. */
	unsigned __int128 earned;

	if (now_ns <= bucket->last_ns)
		return;
	earned = (unsigned __int128)(now_ns - bucket->last_ns) * bucket->rate;
	if (earned / NS_PER_SEC >= bucket->burst - bucket->tokens) {
		bucket->tokens = bucket->burst;
		bucket->last_ns = now_ns;
	} else {
		bucket->tokens += (uint64_t)(earned / NS_PER_SEC);
		bucket->last_ns = now_ns - (uint64_t)(earned % NS_PER_SEC) / bucket->rate;
	}
}

void bucket_give(struct bucket *bucket, uint64_t unused)
{
	if (bucket->rate)
		bucket->tokens = util_min(bucket->burst, bucket->tokens + unused);
}

uint64_t bucket_take(struct bucket *bucket, uint64_t want, uint64_t now_ns, uint64_t *ret_wait_ns)
{
	uint64_t taken;

	if (bucket->rate == 0)
		return want;

	bucket_refill(bucket, now_ns);
	taken = util_min(want, bucket->tokens);
	bucket->tokens -= taken;
	if (taken == 0)
		/* What is left since last_ns is less than a token's time: this is never 0. */
		*ret_wait_ns = bucket->last_ns + (NS_PER_SEC - 1) / bucket->rate + 1 - now_ns;
	return taken;
}
