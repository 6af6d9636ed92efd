// SPDX-License-Identifier: Apache-2.0
/*
 * Where the L2 tables and the refcount blocks are, sorted, so that a write can be
 * kept away from them at little cost. What leads to tables is checked once, when
 * the image is opened: each lies in the file, and no two of them overlap. There is
 * room for as many as the L1 table and the refcount table can lead to, which is
 * no more than those take themselves; new tables mostly lie behind all others.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "devices/block/qcow2_run.h"

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static bool overlaps(uint64_t offset, uint64_t len, uint64_t other, uint64_t other_len)
{
	return offset < other + other_len && other < offset + len;
}

/* What the header leads to. */
static bool is_fixed(const struct qcow2_header *header, uint64_t offset, uint64_t len)
{
	uint64_t cluster = qcow2_cluster_size(header);
	/* Without their names, of whose lengths the header does not tell. */
	uint64_t snapshots = header->snapshots * sizeof(struct qcow2_disk_snapshot);

	return overlaps(offset, len, 0, cluster) ||
	       overlaps(offset, len, header->l1_offset, header->l1_size * sizeof(uint64_t)) ||
	       overlaps(offset, len, header->refcount_table_offset,
			header->refcount_table_clusters * cluster) ||
	       (snapshots && overlaps(offset, len, header->snapshots_offset,
				      util_align_up(snapshots, cluster)));
}

/* The first that is not in front of offset. */
static size_t find(const struct qcow2_tables *tables, uint64_t offset)
{
	size_t first = 0, end = tables->count;

	while (first < end) {
		size_t middle = first + (end - first) / 2;

		if (tables->places[middle] < offset)
			first = middle + 1;
		else
			end = middle;
	}
	return first;
}

bool qcow2_is_metadata(const struct qcow2 *q, uint64_t offset, uint64_t len)
{
	const struct qcow2_tables *tables = &q->tables;
	uint64_t cluster = offset & ~(qcow2_cluster_size(&q->header) - 1);
	size_t next = find(tables, cluster);

	return is_fixed(&q->header, offset, len) ||
	       (next < tables->count && tables->places[next] < offset + len);
}

int qcow2_tables_room(struct qcow2 *q, uint64_t count)
{
	uint64_t *places;

	if (count <= q->tables.room)
		return 0;
	places = reallocarray(q->tables.places, count, sizeof(*places));
	if (!places)
		return -ENOMEM;
	q->tables.places = places;
	q->tables.room = count;
	return 0;
}

void qcow2_tables_add(struct qcow2 *q, uint64_t place)
{
	struct qcow2_tables *tables = &q->tables;
	size_t at = find(tables, place);

	assert(tables->count < tables->room);
	memmove(&tables->places[at + 1], &tables->places[at],
		(tables->count++ - at) * sizeof(place));
	tables->places[at] = place;
}

void qcow2_tables_remove(struct qcow2 *q, uint64_t place)
{
	struct qcow2_tables *tables = &q->tables;
	size_t at = find(tables, place);

	assert(at < tables->count && tables->places[at] == place);
	memmove(&tables->places[at], &tables->places[at + 1],
		(--tables->count - at) * sizeof(place));
}

/* Adds where the entries lead to, in their order. */
static int collect(struct qcow2 *q, const uint64_t *entries, uint64_t count, uint64_t reserved)
{
	uint64_t cluster = qcow2_cluster_size(&q->header), place;

	for (uint64_t i = 0; i < count; i++) {
		if (!entries[i])
			continue;
		place = entries[i] & ~QCOW2_COPIED;
		if (!place || entries[i] & reserved || !qcow2_is_aligned(&q->header, place) ||
		    !util_within(place, cluster, q->file_size) ||
		    is_fixed(&q->header, place, cluster))
			return -EUCLEAN;
		q->tables.places[q->tables.count++] = place;
	}
	return 0;
}

int qcow2_tables_init(struct qcow2 *q)
{
	struct qcow2_tables *tables = &q->tables;
	int r = qcow2_tables_room(q, q->header.l1_size + qcow2_refcount_entries(&q->header));

	if (r == 0)
		r = collect(q, q->l1, q->header.l1_size, QCOW2_L1_RESERVED);
	if (r == 0)
		r = collect(q, q->refcount_table, q->refcount_blocks,
			    QCOW2_REFCOUNT_TABLE_RESERVED | QCOW2_COPIED);
	if (r < 0)
		return r;
	qsort(tables->places, tables->count, sizeof(*tables->places), compare);
	for (size_t i = 1; i < tables->count; i++)
		if (tables->places[i] == tables->places[i - 1])
			return -EUCLEAN;
	return 0;
}
