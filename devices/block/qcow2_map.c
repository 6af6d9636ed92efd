// SPDX-License-Identifier: Apache-2.0
/*
 * Where the L1 table leads was checked when it was opened; an L2 entry is checked
 * each time it is used. An L2 table that a snapshot shares is copied before its
 * first change, like the data.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>
#include "devices/block/qcow2_run.h"

static uint32_t l1_index(const struct qcow2 *q, uint64_t offset)
{
	return (uint32_t)(offset >> (q->header.cluster_bits + qcow2_l2_bits(&q->header)));
}

/* In bytes, from the beginning of the L2 table. */
static uint64_t l2_offset(const struct qcow2 *q, uint64_t offset)
{
	uint64_t mask = (UINT64_C(1) << qcow2_l2_bits(&q->header)) - 1;

	return (offset >> q->header.cluster_bits & mask) * sizeof(__be64);
}

/* The slice with offset's entry, and how many entries it has from that one on. */
static int find_entries(struct qcow2 *q, uint64_t table, uint64_t offset, __be64 **ret_entries,
			uint64_t *ret_count)
{
	uint64_t at = l2_offset(q, offset), in_slice = at % q->cache.slice_size;
	void *slice;
	int r = qcow2_cache_get(q, QCOW2_L2, table + at, &slice);

	if (r < 0)
		return r;
	*ret_entries = (__be64 *)slice + in_slice / sizeof(__be64);
	*ret_count = (q->cache.slice_size - in_slice) / sizeof(__be64);
	return 0;
}

static bool is_true_packed(const struct qcow2 *q, uint64_t entry)
{
	uint64_t offset, len;

	qcow2_compressed(&q->header, entry, &offset, &len);
	return !(entry & QCOW2_COPIED) && offset >= qcow2_cluster_size(&q->header) &&
	       offset < q->file_size && util_within(offset, len, q->limit);
}

static bool is_true(const struct qcow2 *q, uint64_t entry)
{
	uint64_t place = entry & QCOW2_OFFSET;
	uint64_t reserved = QCOW2_L2_RESERVED | (q->header.version < 3 ? QCOW2_ZERO : 0);

	if (entry & QCOW2_COMPRESSED)
		return is_true_packed(q, entry);
	if (entry & reserved || !qcow2_is_aligned(&q->header, place))
		return false;
	return place ? place < q->file_size : !(entry & QCOW2_COPIED);
}

static enum qcow2_content content_of(uint64_t entry)
{
	if (entry & QCOW2_COMPRESSED)
		return QCOW2_PACKED;
	if (entry & QCOW2_ZERO)
		return QCOW2_ZEROES;
	return (entry & QCOW2_OFFSET) ? QCOW2_DATA : QCOW2_HOLE;
}

/* From one cluster's entry to the next one's, of those that are alike. */
static uint64_t map_step(const struct qcow2 *q, uint64_t entry)
{
	return (entry & QCOW2_OFFSET) ? qcow2_cluster_size(&q->header) : 0;
}

/* How many of the entries say the same of one cluster after the other. */
static uint64_t count_alike(const struct qcow2 *q, const __be64 *entries, uint64_t count)
{
	uint64_t entry = be64toh(entries[0]), n = 1;
	uint64_t step = map_step(q, entry);

	if (entry & QCOW2_COMPRESSED)
		return 1;
	while (n < count && be64toh(entries[n]) == entry + n * step)
		n++;
	return n;
}

int qcow2_map(struct qcow2 *q, uint64_t offset, uint64_t len, struct qcow2_extent *ret_extent)
{
	uint64_t slice = q->cache.slice_size, within = qcow2_in_cluster(q, offset);
	uint64_t wanted = ((len + within - 1) >> q->header.cluster_bits) + 1, count, table;
	struct qcow2_extent extent = { .content = QCOW2_HOLE };
	__be64 *entries;
	int r;

	table = q->l1[l1_index(q, offset)] & QCOW2_OFFSET;
	if (!table) {
		/* As far as the slice goes that its entries will be set in. */
		count = (slice - l2_offset(q, offset) % slice) / sizeof(__be64);
		extent.len = util_min(len, (count << q->header.cluster_bits) - within);
		*ret_extent = extent;
		return 0;
	}
	r = find_entries(q, table, offset, &entries, &count);
	if (r < 0)
		return r;
	count = count_alike(q, entries, util_min(count, wanted));
	extent.entry = be64toh(entries[0]);
	/* All between the first and the last lie between them in the file, too. */
	if (!is_true(q, extent.entry) || !is_true(q, be64toh(entries[count - 1])))
		return qcow2_lies(q);
	extent.content = content_of(extent.entry);
	extent.own = extent.content != QCOW2_PACKED && extent.entry & QCOW2_COPIED;
	extent.host = (extent.entry & QCOW2_OFFSET) + within;
	extent.len = util_min(len, (count << q->header.cluster_bits) - within);
	*ret_extent = extent;
	return 0;
}

/* Before the table is in the file, as it is only L1 in memory that leads to it. */
static int write_table(struct qcow2 *q, uint64_t old, uint64_t place)
{
	uint64_t cluster = qcow2_cluster_size(&q->header);
	int r = 0;

	if (old)
		r = qcow2_pread(q, q->bounce, cluster, old);
	else
		memset(q->bounce, 0, cluster);
	return r < 0 ? r : qcow2_pwrite(q, q->bounce, cluster, place);
}

static void set_l1(struct qcow2 *q, uint32_t index, uint64_t entry)
{
	bool clean = q->l1_dirty == q->l1_dirty_end;

	q->l1[index] = entry;
	q->l1_dirty = clean ? index : (uint32_t)util_min(q->l1_dirty, index);
	q->l1_dirty_end = clean ? index + 1 : (uint32_t)util_max(q->l1_dirty_end, index + 1);
}

/* The table of offset's entry, nobody else's, made where there is none. */
static int own_table(struct qcow2 *q, uint64_t offset, uint64_t *ret_table)
{
	uint32_t index = l1_index(q, offset);
	uint64_t old = q->l1[index] & QCOW2_OFFSET, place;
	struct qcow2_clusters clusters;
	int r;

	if (q->l1[index] & QCOW2_COPIED) {
		*ret_table = old;
		return 0;
	}
	r = qcow2_alloc(q, 1, &clusters);
	if (r < 0)
		return r;
	place = clusters.first << q->header.cluster_bits;
	qcow2_cache_drop(q, place);
	if (old || !q->reserve_clean)
		r = write_table(q, old, place);
	if (r < 0) {
		qcow2_free_later(q, clusters.first, 1);
		return r;
	}
	set_l1(q, index, place | QCOW2_COPIED);
	qcow2_tables_add(q, place);
	if (old) {
		qcow2_tables_remove(q, old);
		qcow2_free_later(q, old >> q->header.cluster_bits, 1);
	}
	*ret_table = place;
	return 0;
}

void qcow2_map_free(struct qcow2 *q, uint64_t entry, uint64_t count)
{
	uint32_t bits = q->header.cluster_bits;
	uint64_t offset, len;

	if (entry & QCOW2_COMPRESSED) {
		qcow2_compressed(&q->header, entry, &offset, &len);
		qcow2_free_later(q, offset >> bits,
				 ((offset + len - 1) >> bits) - (offset >> bits) + 1);
	} else if (entry & QCOW2_OFFSET) {
		qcow2_free_later(q, (entry & QCOW2_OFFSET) >> bits, count);
	}
}

int qcow2_map_set(struct qcow2 *q, uint64_t offset, uint64_t count, uint64_t entry)
{
	uint64_t step = map_step(q, entry);
	uint64_t table, room;
	__be64 *entries;
	int r = own_table(q, offset, &table);

	if (r == 0)
		r = find_entries(q, table, offset, &entries, &room);
	if (r < 0)
		return r;
	count = util_min(count, room);
	for (uint64_t i = 0; i < count; i++, entry += step)
		entries[i] = htobe64(entry);
	qcow2_cache_dirty(q, entries);
	return 0;
}
