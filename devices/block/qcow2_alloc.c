// SPDX-License-Identifier: Apache-2.0
/*
 * Reference counts. A new refcount block lies in the first of the clusters that
 * it counts: as none of them had a count, that one is free, and nothing else
 * has to be counted before. A table that has become too short moves to where
 * its successor begins to count, for the same reason.
 *
 * Clusters are counted some time before they are wanted, many at once: they have
 * one sync to wait for together. What remains of this reserve is given back when
 * the disk comes to rest; of a process that was killed it is lost room.
 */
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include "devices/block/qcow2_run.h"

#define RESERVE MIB(4)

/* A cluster of counts, the first count of which are one. */
static int write_block(struct qcow2 *q, uint64_t offset, uint64_t count)
{
	memset(q->bounce, 0, qcow2_cluster_size(&q->header));
	for (uint64_t i = 0; i < count; i++)
		qcow2_refcount_set(q->bounce, q->header.refcount_order, i, 1);
	qcow2_cache_drop(q, offset);
	return qcow2_pwrite(q, q->bounce, qcow2_cluster_size(&q->header), offset);
}

static int check_room(struct qcow2 *q, uint64_t offset, uint64_t len)
{
	if (!util_within(offset, len, q->limit))
		return -ENOSPC;
	return qcow2_is_metadata(q, offset, len) ? qcow2_lies(q) : 0;
}

/* Shows the file the table's new place: both numbers of the header in one write. */
static int move_table(struct qcow2 *q, uint64_t offset, uint32_t clusters)
{
	struct { __be64 offset; __be32 clusters; } __attribute__((packed)) place = {
		.offset = htobe64(offset), .clusters = htobe32(clusters),
	};
	int r = qcow2_sync(q);

	if (r == 0)
		r = qcow2_pwrite(q, &place, sizeof(place),
				 offsetof(struct qcow2_disk_header, refcount_table_offset));
	return r < 0 ? r : qcow2_sync(q);
}

/* Twice as many clusters, behind as many blocks as it takes to count both. */
static int grow_table(struct qcow2 *q)
{
	uint32_t bits = q->header.cluster_bits, block_bits = qcow2_refcount_block_bits(&q->header);
	uint64_t clusters = 2 * (uint64_t)q->header.refcount_table_clusters;
	uint64_t old_entries = qcow2_refcount_entries(&q->header), entries = clusters << (bits - 3);
	uint64_t old_first = q->header.refcount_table_offset >> bits, blocks = 1, place;
	_cleanup_free_ uint64_t *table = NULL;
	int r;

	if (clusters << bits > QCOW2_REFCOUNT_TABLE_BYTES_MAX)
		return -ENOSPC;
	while (blocks << block_bits < blocks + clusters)
		blocks++;
	place = old_entries << block_bits << bits;
	r = check_room(q, place, (blocks + clusters) << bits);
	if (r == 0)
		r = qcow2_tables_room(q, q->header.l1_size + entries);
	if (r < 0)
		return r;
	table = calloc(entries, sizeof(*table));
	if (!table)
		return -ENOMEM;
	memcpy(table, q->refcount_table, old_entries * sizeof(*table));
	for (uint64_t i = 0; i < blocks && r == 0; i++) {
		uint64_t counted = blocks + clusters - (i << block_bits);

		table[old_entries + i] = place + (i << bits);
		r = write_block(q, place + (i << bits),
				util_min(counted, UINT64_C(1) << block_bits));
	}
	if (r == 0)
		r = qcow2_write_table(q, table, entries, place + (blocks << bits));
	if (r == 0)
		r = move_table(q, place + (blocks << bits), (uint32_t)clusters);
	if (r < 0)
		return r;
	qcow2_free_later(q, old_first, q->header.refcount_table_clusters);
	q->header.refcount_table_offset = place + (blocks << bits);
	q->header.refcount_table_clusters = (uint32_t)clusters;
	q->refcount_blocks = (uint32_t)(old_entries + blocks);
	for (uint64_t i = 0; i < blocks; i++)
		qcow2_tables_add(q, place + (i << bits));
	free(q->refcount_table);
	q->refcount_table = util_steal_ptr(&table);
	return 0;
}

static int new_block(struct qcow2 *q, uint64_t index)
{
	uint64_t place = index << qcow2_refcount_block_bits(&q->header) << q->header.cluster_bits;
	__be64 entry = htobe64(place);
	int r;

	if (index >= qcow2_refcount_entries(&q->header))
		return grow_table(q);
	r = check_room(q, place, qcow2_cluster_size(&q->header));
	if (r == 0)
		r = write_block(q, place, 1);
	if (r == 0)
		r = qcow2_sync(q);
	if (r == 0)
		r = qcow2_pwrite(q, &entry, sizeof(entry),
				 q->header.refcount_table_offset + index * sizeof(entry));
	if (r < 0)
		return r;
	q->refcount_table[index] = place;
	qcow2_tables_add(q, place);
	q->refcount_blocks = (uint32_t)util_max(q->refcount_blocks, index + 1);
	return 0;
}

/* The slice that has cluster's count, and where in it; -ENOENT: there is no block for it. */
static int find_count(struct qcow2 *q, uint64_t cluster, void **ret_slice, uint64_t *ret_index)
{
	uint32_t order = q->header.refcount_order, bits = qcow2_refcount_block_bits(&q->header);
	uint64_t index = cluster & ((UINT64_C(1) << bits) - 1), block = 0;
	int r;

	if (cluster >> bits < qcow2_refcount_entries(&q->header))
		block = q->refcount_table[cluster >> bits];
	if (!block)
		return -ENOENT;
	r = qcow2_cache_get(q, QCOW2_REFCOUNTS, block + (index << order >> 3), ret_slice);
	if (r < 0)
		return r;
	*ret_index = index & ((UINT64_C(8) * q->cache.slice_size >> order) - 1);
	return 0;
}

/* The first free cluster from the hint on, making the block that counts it where need be. */
static int find_free(struct qcow2 *q, void **ret_slice, uint64_t *ret_index)
{
	uint32_t order = q->header.refcount_order;
	uint64_t entries = UINT64_C(8) * q->cache.slice_size >> order, index;
	void *slice;
	int r;

	while (q->free_hint << q->header.cluster_bits < q->limit) {
		r = find_count(q, q->free_hint, &slice, &index);
		if (r == -ENOENT) {
			r = new_block(q, q->free_hint >> qcow2_refcount_block_bits(&q->header));
			if (r < 0)
				return r;
			continue;
		}
		if (r < 0)
			return r;
		while (index < entries && qcow2_refcount_get(slice, order, index)) {
			index++;
			q->free_hint++;
		}
		if (index < entries) {
			*ret_slice = slice;
			*ret_index = index;
			return 0;
		}
	}
	return -ENOSPC;
}

/* The host's room, where it can have it back. */
static int punch(struct qcow2 *q, uint64_t first, uint64_t count)
{
	uint32_t bits = q->header.cluster_bits;

	if (q->fixed)
		return -EOPNOTSUPP;
	return fallocate(q->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 (off_t)(first << bits), (off_t)(count << bits)) < 0 ? -errno : 0;
}

/* Where the file grows it reads as zeroes, and where it has a hole. */
static int clear(struct qcow2 *q, uint64_t first, uint64_t count)
{
	uint32_t bits = q->header.cluster_bits;
	bool fresh = first << bits >= q->file_size;
	int r = check_room(q, first << bits, count << bits);

	if (r == 0)
		r = qcow2_extend(q, (first + count) << bits);
	if (r < 0)
		return r;
	q->reserve_clean = fresh || punch(q, first, count) == 0;
	qcow2_order(q);
	return 0;
}

static int reserve(struct qcow2 *q, uint64_t count)
{
	uint32_t order = q->header.refcount_order;
	uint64_t entries = UINT64_C(8) * q->cache.slice_size >> order, index, taken = 0;
	void *slice;
	int r = qcow2_mark_dirty(q);

	if (r < 0)
		return r;
	r = find_free(q, &slice, &index);
	if (r < 0)
		return r;
	count = util_min(count, util_min(entries - index,
					 (q->limit >> q->header.cluster_bits) - q->free_hint));
	while (taken < count && !qcow2_refcount_get(slice, order, index + taken))
		taken++;
	r = clear(q, q->free_hint, taken);
	if (r < 0)
		return r;
	for (uint64_t i = 0; i < taken; i++)
		qcow2_refcount_set(slice, order, index + i, 1);
	qcow2_cache_dirty(q, slice);
	q->reserve = (struct qcow2_clusters){ q->free_hint, taken };
	q->free_hint += taken;
	return 0;
}

int qcow2_alloc(struct qcow2 *q, uint64_t count, struct qcow2_clusters *ret_clusters)
{
	int r = 0;

	if (!q->reserve.count)
		r = reserve(q, util_max(count, RESERVE >> q->header.cluster_bits));
	if (r < 0)
		return r;
	count = util_min(count, q->reserve.count);
	*ret_clusters = (struct qcow2_clusters){ q->reserve.first, count };
	q->reserve.first += count;
	q->reserve.count -= count;
	return 0;
}

bool qcow2_frees_room(const struct qcow2 *q)
{
	/* A step's entries, and what it allocated in vain; tables that move; what is to settle. */
	return q->free_count + q->moving + QCOW2_RUN_MAX + 8 <= QCOW2_FREES;
}

void qcow2_free_later(struct qcow2 *q, uint64_t first, uint64_t count)
{
	struct qcow2_clusters *last = q->free_count ? &q->frees[q->free_count - 1] : NULL;

	if (last && last->first + last->count == first) {
		last->count += count;
	} else {
		assert(q->free_count < QCOW2_FREES);
		q->frees[q->free_count++] = (struct qcow2_clusters){ first, count };
	}
}

/* What remains of its references. */
static int drop_reference(struct qcow2 *q, uint64_t cluster, uint64_t *ret_count)
{
	uint32_t order = q->header.refcount_order;
	uint64_t index, count;
	void *slice;
	int r = find_count(q, cluster, &slice, &index);

	if (r < 0)
		return r == -ENOENT ? qcow2_lies(q) : r;
	count = qcow2_refcount_get(slice, order, index);
	if (count == 0)
		return qcow2_lies(q);
	qcow2_refcount_set(slice, order, index, count - 1);
	qcow2_cache_dirty(q, slice);
	if (count == 1)
		q->free_hint = util_min(q->free_hint, cluster);
	*ret_count = count - 1;
	return 0;
}

static int free_run(struct qcow2 *q, const struct qcow2_clusters *clusters)
{
	uint64_t end = clusters->first + clusters->count, first = clusters->first, left = 0;
	int r = 0;

	for (uint64_t at = first; r == 0 && at < end; at++) {
		r = drop_reference(q, at, &left);
		if (r == 0 && !left)
			continue;
		if (at > first)
			(void)!punch(q, first, at - first);
		first = at + 1;
	}
	if (r == 0 && first < end)
		(void)!punch(q, first, end - first);
	return r;
}

int qcow2_free_now(struct qcow2 *q)
{
	int r = qcow2_mark_dirty(q);

	qcow2_inflate_forget(q);
	/* What an error leaves out is lost room, no more. */
	for (unsigned int i = 0; i < q->free_count && r == 0; i++)
		r = free_run(q, &q->frees[i]);
	q->free_count = 0;
	return r;
}

int qcow2_give_back(struct qcow2 *q)
{
	uint64_t left;
	int r = 0;

	for (; r == 0 && q->reserve.count; q->reserve.count--)
		r = drop_reference(q, q->reserve.first + q->reserve.count - 1, &left);
	q->reserve.count = 0;
	return r;
}
