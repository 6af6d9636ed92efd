// SPDX-License-Identifier: Apache-2.0
/*
 * What takes more than moving bytes between a guest and their place: a place for
 * clusters that have none yet, or one that they share, or that are compressed;
 * backing files; ranges. All of it is done on the spot, on the caller's thread.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "devices/block/image.h"
#include "devices/block/qcow2_run.h"

bool qcow2_is_zero(const struct qcow2 *q, const struct qcow2_extent *extent, uint64_t offset)
{
	return extent->content == QCOW2_ZEROES ||
	       (extent->content == QCOW2_HOLE && offset >= q->backing.size);
}

int qcow2_find(struct qcow2 *q, uint64_t offset, uint64_t len, struct qcow2_extent *ret_extent)
{
	struct qcow2_extent extent;
	int r = qcow2_map(q, offset, len, &extent);

	while (r == 0 && extent.content == QCOW2_HOLE && offset < q->backing.size) {
		len = util_min(extent.len, q->backing.size - offset);
		extent.len = len;
		if (!q->backing.qcow2) {
			extent.content = QCOW2_DATA;
			extent.host = offset;
			extent.base = &q->backing.image;
			break;
		}
		q = q->backing.qcow2;
		r = qcow2_map(q, offset, len, &extent);
		extent.base = q->image;
	}
	if (r < 0)
		return r;
	extent.owner = q;
	*ret_extent = extent;
	return 0;
}

static int read_extent(const struct qcow2_extent *extent, void *buffer, uint64_t offset)
{
	struct qcow2 *q = extent->owner;
	const uint8_t *data;
	int r;

	switch (extent->content) {
	case QCOW2_DATA:
		return image_read(extent->base ? extent->base->fd : q->fd, buffer, extent->len,
				  extent->host);
	case QCOW2_HOLE:
	case QCOW2_ZEROES:
		memset(buffer, 0, extent->len);
		return 0;
	case QCOW2_PACKED:
		r = qcow2_inflate(q, extent->entry, &data);
		if (r == 0)
			memcpy(buffer, data + qcow2_in_cluster(q, offset), extent->len);
		return r;
	}
	__builtin_unreachable();
}

int qcow2_read(struct qcow2 *q, void *buffer, size_t len, uint64_t offset)
{
	struct qcow2_extent extent;
	uint8_t *at = buffer;
	int r = 0;

	for (; len && r == 0; len -= extent.len) {
		r = qcow2_find(q, offset, len, &extent);
		if (r == 0)
			r = read_extent(&extent, at, offset);
		if (r < 0)
			break;
		at += extent.len;
		offset += extent.len;
	}
	return r;
}

/* Less than a cluster of what the guest has at offset, to where it will be. */
static int copy(struct qcow2 *q, bool zero, uint64_t offset, size_t len, uint64_t place)
{
	int r;

	if (len == 0)
		return 0;
	if (zero)
		return qcow2_pwrite(q, q->zeroes, len, place);
	r = qcow2_read(q, q->bounce, len, offset);
	return r < 0 ? r : qcow2_pwrite(q, q->bounce, len, place);
}

/* What is there already in the first and the last of the clusters at place. */
static int surround(struct qcow2 *q, bool zero, uint64_t offset, uint64_t len, uint64_t place)
{
	uint64_t within = qcow2_in_cluster(q, offset), end = within + len;
	uint64_t tail = util_align_up(end, qcow2_cluster_size(&q->header)) - end;
	int r = copy(q, zero, offset - within, within, place);

	return r < 0 ? r : copy(q, zero, offset + len, tail, place + end);
}

/* Zeroes that have a place of their own keep it. */
static int find_place(struct qcow2 *q, const struct qcow2_extent *extent, uint64_t count,
		      bool *ret_clean, struct qcow2_clusters *ret_clusters)
{
	uint32_t bits = q->header.cluster_bits;
	int r;

	if (extent->content == QCOW2_ZEROES && extent->own) {
		*ret_clean = false;
		*ret_clusters = (struct qcow2_clusters){ extent->host >> bits, count };
		return qcow2_is_metadata(q, ret_clusters->first << bits, count << bits) ?
		       qcow2_lies(q) : 0;
	}
	r = qcow2_alloc(q, count, ret_clusters);
	*ret_clean = q->reserve_clean;
	return r;
}

/* Whether one of these entries leads elsewhere than the other. */
static bool moves(uint64_t entry, uint64_t other)
{
	return (entry ^ other) & (QCOW2_OFFSET | QCOW2_COMPRESSED);
}

void qcow2_settle(struct qcow2 *q, uint64_t offset, const struct qcow2_extent *extent, int result)
{
	uint64_t within = qcow2_in_cluster(q, offset), place = extent->host - within;
	uint64_t count = ((within + extent->len - 1) >> q->header.cluster_bits) + 1;
	uint64_t entry = result < 0 ? place : extent->entry;

	/* The table's slice cannot have left memory, so that this cannot fail. */
	if (result < 0)
		(void)!qcow2_map_set(q, offset, count, extent->entry);
	if (moves(place, extent->entry))
		qcow2_map_free(q, entry, count);
}

int qcow2_place(struct qcow2 *q, uint64_t offset, struct qcow2_extent *extent)
{
	uint32_t bits = q->header.cluster_bits;
	uint64_t within = qcow2_in_cluster(q, offset), place;
	uint64_t len = util_min(extent->len, ((uint64_t)QCOW2_RUN_MAX << bits) - within);
	bool zero = qcow2_is_zero(q, extent, offset - within), clean;
	struct qcow2_clusters clusters;
	int r = find_place(q, extent, ((within + len - 1) >> bits) + 1, &clean, &clusters);

	if (r < 0)
		return r;
	len = util_min(len, (clusters.count << bits) - within);
	place = clusters.first << bits;
	if (!zero || !clean)
		r = surround(q, zero, offset, len, place);
	if (r == 0)
		r = qcow2_map_set(q, offset, clusters.count, place | QCOW2_COPIED);
	if (r < 0) {
		if (place != extent->host - within)
			qcow2_free_later(q, clusters.first, clusters.count);
		return r;
	}
	*extent = (struct qcow2_extent){
		.content = QCOW2_DATA, .own = true, .entry = extent->entry, .host = place + within,
		.len = len, .placed = true, .ordered = !zero || !clean,
	};
	/* Zeroes are there already. */
	if (!extent->ordered)
		qcow2_settle(q, offset, extent, 0);
	return 0;
}

/* The whole clusters that a range has, as a range; its length is 0 when there are none. */
static uint64_t whole_clusters(const struct qcow2 *q, uint64_t offset, uint64_t len)
{
	uint64_t cluster = qcow2_cluster_size(&q->header), end = offset + len;

	/* The disk's last cluster may go on behind its end. */
	if (end < q->header.size)
		end &= ~(cluster - 1);
	return qcow2_in_cluster(q, offset) || end <= offset ? 0 : end - offset;
}

/* Takes the clusters' places away, or lets them be of no account. */
static ssize_t set_range(struct qcow2 *q, const struct qcow2_extent *extent, uint64_t offset,
			 uint64_t entry)
{
	uint32_t bits = q->header.cluster_bits;
	uint64_t most = (uint64_t)QCOW2_RUN_MAX << bits, len = util_min(extent->len, most);
	uint64_t count = ((len - 1) >> bits) + 1;
	int r = 0;

	if (extent->entry != entry)
		r = qcow2_map_set(q, offset, count, entry);
	if (r == 0 && moves(extent->entry, entry))
		qcow2_map_free(q, extent->entry, count);
	return r < 0 ? r : (ssize_t)len;
}

static ssize_t write_zeroes(struct qcow2 *q, struct qcow2_extent *extent, uint64_t offset)
{
	uint64_t cluster = qcow2_cluster_size(&q->header);
	int r = 0;

	extent->len = util_min(extent->len, cluster - qcow2_in_cluster(q, offset));
	if (qcow2_is_zero(q, extent, offset))
		return (ssize_t)extent->len;
	if (extent->content != QCOW2_DATA || !extent->own)
		r = qcow2_place(q, offset, extent);
	else if (qcow2_is_metadata(q, extent->host, extent->len))
		r = qcow2_lies(q);
	if (r < 0)
		return r;
	r = qcow2_pwrite(q, q->zeroes, extent->len, extent->host);
	if (extent->ordered) {
		qcow2_settle(q, offset, extent, r);
		qcow2_order(q);
	}
	return r < 0 ? r : (ssize_t)extent->len;
}

ssize_t qcow2_zero(struct qcow2 *q, uint64_t offset, uint64_t len, bool unmap)
{
	uint64_t whole = whole_clusters(q, offset, len), cluster = qcow2_cluster_size(&q->header);
	struct qcow2_extent extent;
	int r;

	/* Up to the first whole cluster, or up to the end when there is none. */
	if (!whole)
		len = util_min(len, cluster - qcow2_in_cluster(q, offset));
	r = qcow2_map(q, offset, whole ?: len, &extent);
	if (r < 0)
		return r;
	if (!whole)
		return write_zeroes(q, &extent, offset);
	if (qcow2_is_zero(q, &extent, offset) && (!unmap || !(extent.entry & QCOW2_OFFSET)))
		return (ssize_t)extent.len;
	if (q->header.version < 3 && q->backing.size)
		return write_zeroes(q, &extent, offset);
	if (q->header.version < 3)
		return unmap ? set_range(q, &extent, offset, 0) : write_zeroes(q, &extent, offset);
	return set_range(q, &extent, offset, extent.own && !unmap ? extent.entry | QCOW2_ZERO :
			 QCOW2_ZERO);
}

ssize_t qcow2_discard(struct qcow2 *q, uint64_t offset, uint64_t len)
{
	uint64_t whole = whole_clusters(q, offset, len), cluster = qcow2_cluster_size(&q->header);
	struct qcow2_extent extent;
	int r;

	if (!whole)
		return (ssize_t)util_min(len, cluster - qcow2_in_cluster(q, offset));
	r = qcow2_map(q, offset, whole, &extent);
	if (r < 0)
		return r;
	if (extent.content == QCOW2_HOLE)
		return (ssize_t)extent.len;
	/* What the backing file has must not come to light. */
	if (!q->backing.size)
		return set_range(q, &extent, offset, 0);
	return q->header.version < 3 ? (ssize_t)extent.len :
				       set_range(q, &extent, offset, QCOW2_ZERO);
}
