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

/* How long it takes to earn so many. */
static uint64_t bucket_time(const struct bucket *bucket, uint64_t tokens)
{
	unsigned __int128 ns = (unsigned __int128)tokens * NS_PER_SEC / bucket->rate + 1;

	return ns < UINT64_MAX / 4 ? (uint64_t)ns : UINT64_MAX / 4;
}

uint64_t bucket_take_all(struct bucket *bucket, uint64_t want, uint64_t now_ns)
{
	uint64_t wait, own = util_min(want, bucket->burst);

	if (bucket->rate == 0)
		return 0;

	bucket_refill(bucket, now_ns);
	if (bucket->tokens < own) {
		/* Since last_ns a part of the first may have been earned; after a loan it lies ahead. */
		wait = bucket->last_ns + bucket_time(bucket, own - bucket->tokens);
		return wait > now_ns ? wait - now_ns : 1;
	}
	bucket->tokens -= own;
	/* Nothing is earned until the loan is paid back. */
	if (want > own)
		bucket->last_ns = util_max(bucket->last_ns, now_ns) +
				  bucket_time(bucket, want - own);
	return 0;
}

/* A tenth of a second's worth: what a disk or a link may gather while its guest is idle. */
static uint64_t pair_burst(uint64_t rate, uint64_t burst)
{
	return burst ? burst : util_max(rate / 10, 1);
}

void bucket_pair_init(struct bucket_pair *pair, const struct bucket_rates *rates, uint64_t now_ns)
{
	pthread_mutex_init(&pair->lock, NULL);
	bucket_init(&pair->requests, rates->requests,
		    pair_burst(rates->requests, rates->requests_burst), now_ns);
	bucket_init(&pair->bytes, rates->bytes, pair_burst(rates->bytes, rates->bytes_burst), now_ns);
}

uint64_t bucket_pair_take(struct bucket_pair *pair, uint64_t bytes, uint64_t now_ns)
{
	uint64_t wait;

	pthread_mutex_lock(&pair->lock);
	wait = bucket_take_all(&pair->requests, 1, now_ns);
	if (!wait) {
		wait = bucket_take_all(&pair->bytes, bytes, now_ns);
		if (wait)
			bucket_give(&pair->requests, 1);
	}
	pthread_mutex_unlock(&pair->lock);
	return wait;
}

bool bucket_pair_limits(const struct bucket_pair *pair)
{
	return pair->requests.rate || pair->bytes.rate;
}
