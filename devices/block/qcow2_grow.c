// SPDX-License-Identifier: Apache-2.0
/* A disk that becomes longer while it is in use, and its L1 table, which may have to move. */
#include <endian.h>
#include <errno.h>
#include <string.h>
#include "devices/block/qcow2_run.h"

/* In one piece, behind all that is there. What a slice of counts has no room for the next one has. */
static int alloc_run(struct qcow2 *q, uint64_t count, struct qcow2_clusters *ret_clusters)
{
	struct qcow2_clusters found = { 0 };
	uint64_t hint = q->free_hint;
	int r = 0;

	q->free_hint = q->file_size >> q->header.cluster_bits;
	for (int i = 0; i < 2 && r == 0 && found.count < count; i++) {
		if (found.count)
			qcow2_free_later(q, found.first, found.count);
		r = qcow2_alloc(q, count, &found);
	}
	q->free_hint = util_min(hint, q->free_hint);
	if (r < 0)
		return r;
	if (found.count < count) {
		qcow2_free_later(q, found.first, found.count);
		return -EFBIG;
	}
	*ret_clusters = found;
	return 0;
}

/* Shows the header the table's new place: both numbers in one write. */
static int show_l1(struct qcow2 *q, uint64_t place, uint64_t entries)
{
	struct { __be32 size; __be64 offset; } __attribute__((packed)) l1 = {
		.size = htobe32((uint32_t)entries), .offset = htobe64(place),
	};
	int r = qcow2_write_back(q);

	if (r == 0)
		r = qcow2_sync(q);
	if (r == 0)
		r = qcow2_pwrite(q, &l1, sizeof(l1), offsetof(struct qcow2_disk_header, l1_size));
	return r < 0 ? r : qcow2_sync(q);
}

static uint64_t *copy_l1(const struct qcow2 *q, uint64_t entries)
{
	uint64_t *l1 = calloc(entries, sizeof(*l1));

	if (l1)
		memcpy(l1, q->l1, q->header.l1_size * sizeof(*l1));
	return l1;
}

static int move_l1(struct qcow2 *q, uint64_t wanted)
{
	uint32_t bits = q->header.cluster_bits;
	uint64_t count = util_align_up(wanted * sizeof(uint64_t), UINT64_C(1) << bits) >> bits;
	uint64_t entries = count << (bits - 3), place;
	uint64_t old = util_align_up(q->header.l1_size * sizeof(uint64_t),
				     UINT64_C(1) << bits) >> bits;
	_cleanup_free_ uint64_t *l1 = copy_l1(q, entries);
	struct qcow2_clusters clusters = { 0 };
	/* What was to be freed is, so that there is room for what this frees. */
	int r = l1 ? qcow2_rest(q) : -ENOMEM;

	if (r == 0)
		r = alloc_run(q, count, &clusters);
	if (r < 0)
		return r;
	place = clusters.first << bits;
	/* Only now: the refcount table may have become longer. */
	r = qcow2_tables_room(q, entries + qcow2_refcount_entries(&q->header));
	if (r == 0)
		r = qcow2_write_table(q, l1, entries, place);
	if (r == 0)
		r = qcow2_extend(q, place + (count << bits));
	if (r == 0)
		r = show_l1(q, place, entries);
	if (r < 0) {
		/* If the header does lead there, its sync failed, and nothing is freed any more. */
		qcow2_free_later(q, clusters.first, clusters.count);
		return r;
	}
	qcow2_free_later(q, q->header.l1_offset >> bits, old);
	q->header.l1_offset = place;
	q->header.l1_size = (uint32_t)entries;
	free(q->l1);
	q->l1 = util_steal_ptr(&l1);
	return 0;
}

int qcow2_grow(struct qcow2 *q, uint64_t size)
{
	uint64_t entries = qcow2_l1_entries(size, q->header.cluster_bits);
	__be64 disk = htobe64(size);
	int r = 0;

	if (q->read_only)
		return -EROFS;
	/* What the backing file has behind the disk's end must not come to light. */
	if (q->backing.size > q->header.size)
		return -ENOTEMPTY;
	if (entries > (QCOW2_L1_BYTES_MAX - qcow2_cluster_size(&q->header)) / sizeof(disk))
		return -EFBIG;
	if (entries > q->header.l1_size)
		r = move_l1(q, entries);
	if (r == 0)
		r = qcow2_pwrite(q, &disk, sizeof(disk), offsetof(struct qcow2_disk_header, size));
	if (r == 0)
		r = qcow2_sync(q);
	if (r == 0)
		q->header.size = size;
	return r;
}
