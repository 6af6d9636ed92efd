// SPDX-License-Identifier: Apache-2.0
/*
 * A slice is a part of a table: with large clusters whole tables would be too
 * many bytes to read for one entry. The cache is set associative. Clean slices
 * make room first; where a set has none, what is dirty goes to the file, in order.
 */
#include <errno.h>
#include <stdlib.h>
#include "devices/block/qcow2_run.h"

#define SLICE_SIZE 4096
#define WAYS 8
#define SETS_MIN 2

int qcow2_cache_init(struct qcow2 *q, uint64_t size)
{
	struct qcow2_cache *cache = &q->cache;

	cache->slice_size = (uint32_t)util_min(SLICE_SIZE, qcow2_cluster_size(&q->header));
	cache->sets = (unsigned int)util_max(size / cache->slice_size / WAYS, SETS_MIN);
	cache->slices = calloc((size_t)cache->sets * WAYS, sizeof(*cache->slices));
	cache->data = malloc((size_t)cache->sets * WAYS * cache->slice_size);
	return cache->slices && cache->data ? 0 : -ENOMEM;
}

void qcow2_cache_free(struct qcow2_cache *cache)
{
	free(cache->slices);
	free(cache->data);
}

static uint8_t *cache_data(const struct qcow2_cache *cache, size_t index)
{
	return cache->data + index * cache->slice_size;
}

static size_t cache_set(const struct qcow2_cache *cache, uint64_t offset)
{
	return offset / cache->slice_size % cache->sets * WAYS;
}

bool qcow2_cache_is_dirty(const struct qcow2 *q, enum qcow2_kind kind)
{
	return q->cache.dirty[kind];
}

int qcow2_cache_write(struct qcow2 *q, enum qcow2_kind kind)
{
	struct qcow2_cache *cache = &q->cache;
	int r = 0;

	while (cache->dirty[kind] && r == 0) {
		struct qcow2_slice *slice = cache->dirty[kind];
		size_t index = (size_t)(slice - cache->slices);

		r = qcow2_pwrite(q, cache_data(cache, index), cache->slice_size, slice->offset);
		if (r < 0)
			return r;
		slice->dirty = false;
		cache->dirty[kind] = slice->next_dirty;
	}
	return 0;
}

static bool goes_before(const struct qcow2_slice *a, const struct qcow2_slice *b)
{
	return a->dirty == b->dirty ? a->used < b->used : b->dirty;
}

/* Where offset's slice is, or else the one of its set to make room. */
static size_t cache_place(const struct qcow2_cache *cache, uint64_t offset)
{
	size_t set = cache_set(cache, offset), victim = set;

	for (size_t i = set; i < set + WAYS; i++) {
		if (cache->slices[i].offset == offset)
			return i;
		if (goes_before(&cache->slices[i], &cache->slices[victim]))
			victim = i;
	}
	return victim;
}

static int cache_load(struct qcow2 *q, enum qcow2_kind kind, uint64_t offset, size_t place)
{
	struct qcow2_slice *slice = &q->cache.slices[place];
	int r = 0;

	/* Counts wait for nothing. */
	if (slice->dirty)
		r = slice->kind == QCOW2_REFCOUNTS ? qcow2_write_counts(q) : qcow2_write_back(q);
	if (r < 0)
		return r;
	*slice = (struct qcow2_slice){ 0 };
	r = qcow2_pread(q, cache_data(&q->cache, place), q->cache.slice_size, offset);
	if (r == 0)
		*slice = (struct qcow2_slice){ .offset = offset, .kind = kind };
	return r;
}

int qcow2_cache_get(struct qcow2 *q, enum qcow2_kind kind, uint64_t offset, void **ret_data)
{
	struct qcow2_cache *cache = &q->cache;
	size_t place;
	int r = 0;

	offset -= offset % cache->slice_size;
	place = cache_place(cache, offset);
	if (cache->slices[place].offset != offset)
		r = cache_load(q, kind, offset, place);
	if (r < 0)
		return r;
	cache->slices[place].used = ++cache->clock;
	*ret_data = cache_data(cache, place);
	return 0;
}

void qcow2_cache_dirty(struct qcow2 *q, const void *data)
{
	struct qcow2_cache *cache = &q->cache;
	struct qcow2_slice *slice =
		&cache->slices[((const uint8_t *)data - cache->data) / cache->slice_size];

	if (slice->dirty)
		return;
	slice->dirty = true;
	slice->next_dirty = cache->dirty[slice->kind];
	cache->dirty[slice->kind] = slice;
}

static void forget(struct qcow2_cache *cache, struct qcow2_slice *slice)
{
	struct qcow2_slice **link = &cache->dirty[slice->kind];

	while (slice->dirty && *link != slice)
		link = &(*link)->next_dirty;
	if (slice->dirty)
		*link = slice->next_dirty;
	*slice = (struct qcow2_slice){ 0 };
}

void qcow2_cache_drop(struct qcow2 *q, uint64_t offset)
{
	struct qcow2_cache *cache = &q->cache;
	uint64_t end = offset + qcow2_cluster_size(&q->header);

	for (; offset < end; offset += cache->slice_size) {
		struct qcow2_slice *slice = &cache->slices[cache_place(cache, offset)];

		if (slice->offset == offset)
			forget(cache, slice);
	}
}
