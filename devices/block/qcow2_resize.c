// SPDX-License-Identifier: Apache-2.0
/*
 * What a larger disk takes is written behind all that is in use: an L1 table,
 * blocks that count its clusters and their own, and where the refcount table has
 * no room for those, a longer one. Counts are in the file before what they
 * count, and one write of the header, which stays within a sector, makes all of
 * it valid. What was valid before are leaks from then on, and repaired as such;
 * so is what a smaller disk has lost.
 */
#include <errno.h>
#include <unistd.h>
#include "devices/block/image.h"
#include "devices/block/qcow2.h"

#define ENTRY sizeof(__be64)

struct resize {
	int fd;
	struct qcow2_header header;
	uint64_t first;             /* the cluster where new ones begin */
	uint64_t l1, blocks, table; /* how many there are of each, in their order */
	__be64 *refcount_table;     /* with room for as many entries as there can be */
	void *cluster;
};

static void resize_free(struct resize *resize)
{
	free(resize->refcount_table);
	free(resize->cluster);
}

static uint64_t to_clusters(const struct resize *resize, uint64_t bytes)
{
	return (bytes + qcow2_cluster_size(&resize->header) - 1) >> resize->header.cluster_bits;
}

static uint64_t to_bytes(const struct resize *resize, uint64_t clusters)
{
	return clusters << resize->header.cluster_bits;
}

static uint64_t new_end(const struct resize *resize)
{
	return resize->first + resize->l1 + resize->blocks + resize->table;
}

/* The index of the block that counts a cluster. */
static uint64_t block_of(const struct resize *resize, uint64_t cluster)
{
	return cluster >> qcow2_refcount_block_bits(&resize->header);
}

static int sync_file(int fd)
{
	return fdatasync(fd) < 0 ? -errno : 0;
}

static int resize_open(struct resize *resize, const struct qcow2_findings *findings,
		       uint64_t file_size)
{
	const struct qcow2_header *header = &resize->header;

	resize->first = to_clusters(resize, util_max(file_size, findings->end));
	resize->refcount_table = calloc(1, QCOW2_REFCOUNT_TABLE_BYTES_MAX);
	resize->cluster = malloc(qcow2_cluster_size(header));
	if (!resize->refcount_table || !resize->cluster)
		return -ENOMEM;
	return image_read(resize->fd, resize->refcount_table,
			  to_bytes(resize, header->refcount_table_clusters),
			  header->refcount_table_offset);
}

/* ---- larger ---- */

static int plan(struct resize *resize, uint64_t l1_entries)
{
	uint64_t room = to_bytes(resize, resize->header.refcount_table_clusters) / ENTRY;
	uint64_t end, last;

	resize->l1 = to_clusters(resize, l1_entries * ENTRY);
	/* What counts the clusters takes clusters. */
	do {
		end = new_end(resize);
		last = block_of(resize, end - 1);
		if (to_clusters(resize, (last + 1) * ENTRY) >
		    to_clusters(resize, QCOW2_REFCOUNT_TABLE_BYTES_MAX))
			return -EFBIG;
		resize->table = last < room ? 0 : to_clusters(resize, (last + 1) * ENTRY);
		resize->blocks = 0;
		for (uint64_t i = block_of(resize, resize->first); i <= last; i++)
			resize->blocks += !resize->refcount_table[i];
	} while (new_end(resize) != end);
	return to_bytes(resize, end) > QCOW2_OFFSET ? -EFBIG : 0;
}

static int count_new(struct resize *resize)
{
	uint32_t bits = qcow2_refcount_block_bits(&resize->header);
	uint64_t mask = (UINT64_C(1) << bits) - 1, end = new_end(resize), next, index;
	uint64_t size = qcow2_cluster_size(&resize->header), fresh = resize->first + resize->l1;
	int r = 0;

	for (uint64_t at = resize->first; r == 0 && at < end; at = next) {
		index = block_of(resize, at);
		next = util_min((index + 1) << bits, end);
		memset(resize->cluster, 0, size);
		if (resize->refcount_table[index])
			r = image_read(resize->fd, resize->cluster, size,
				       be64toh(resize->refcount_table[index]));
		else
			resize->refcount_table[index] = htobe64(to_bytes(resize, fresh++));
		for (uint64_t i = at; i < next; i++)
			qcow2_refcount_set(resize->cluster, resize->header.refcount_order, i & mask, 1);
		r = r ?: image_write(resize->fd, resize->cluster, size,
				     be64toh(resize->refcount_table[index]));
	}
	return r;
}

/* A new table, or new entries of the old one. */
static int write_refcount_table(struct resize *resize)
{
	uint64_t first = block_of(resize, resize->first);
	uint64_t last = block_of(resize, new_end(resize) - 1);

	if (resize->table) {
		resize->header.refcount_table_clusters = (uint32_t)resize->table;
		resize->header.refcount_table_offset =
			to_bytes(resize, resize->first + resize->l1 + resize->blocks);
		return image_write(resize->fd, resize->refcount_table,
				   to_bytes(resize, resize->table),
				   resize->header.refcount_table_offset);
	}
	return image_write(resize->fd, resize->refcount_table + first, (last - first + 1) * ENTRY,
			   resize->header.refcount_table_offset + first * ENTRY);
}

static int move_l1(struct resize *resize, uint64_t entries)
{
	struct qcow2_header *header = &resize->header;
	_cleanup_free_ __be64 *l1 = calloc(entries, ENTRY);
	int r;

	if (!l1)
		return -ENOMEM;
	r = image_read(resize->fd, l1, header->l1_size * ENTRY, header->l1_offset);
	header->l1_offset = to_bytes(resize, resize->first);
	header->l1_size = (uint32_t)entries;
	return r ?: image_write(resize->fd, l1, entries * ENTRY, header->l1_offset);
}

static int grow_l1(struct resize *resize, uint64_t entries)
{
	int r = entries > QCOW2_L1_BYTES_MAX / ENTRY ? -EFBIG : plan(resize, entries);

	if (r < 0)
		return r;
	if (ftruncate(resize->fd, (off_t)to_bytes(resize, new_end(resize))) < 0)
		return -errno;
	r = count_new(resize);
	r = r ?: sync_file(resize->fd);
	r = r ?: write_refcount_table(resize);
	r = r ?: sync_file(resize->fd);
	r = r ?: move_l1(resize, entries);
	return r ?: sync_file(resize->fd);
}

/* Everything of the header that can have changed, which lies together. */
static int write_header(const struct resize *resize)
{
	const struct qcow2_header *header = &resize->header;
	size_t from = offsetof(struct qcow2_disk_header, size);
	struct qcow2_disk_header disk;
	int r = image_read(resize->fd, &disk, sizeof(disk), 0);

	if (r < 0)
		return r;
	disk.size = htobe64(header->size);
	disk.l1_size = htobe32(header->l1_size);
	disk.l1_table_offset = htobe64(header->l1_offset);
	disk.refcount_table_offset = htobe64(header->refcount_table_offset);
	disk.refcount_table_clusters = htobe32(header->refcount_table_clusters);
	r = image_write(resize->fd, (char *)&disk + from,
			offsetof(struct qcow2_disk_header, nb_snapshots) - from, from);
	return r ?: sync_file(resize->fd);
}

/* ---- smaller ---- */

/* Clears the end of the L2 table that the end of the disk goes through, if there is one. */
static int cut_l2(struct resize *resize, const __be64 *l1)
{
	uint64_t keep = to_clusters(resize, resize->header.size);
	uint64_t per_table = UINT64_C(1) << qcow2_l2_bits(&resize->header);
	uint64_t size = qcow2_cluster_size(&resize->header);
	__be64 *l2 = resize->cluster;
	uint64_t offset;
	int r;

	if (keep % per_table == 0)
		return 0;
	offset = be64toh(l1[keep / per_table]) & QCOW2_OFFSET;
	if (!offset)
		return 0;
	r = image_read(resize->fd, l2, size, offset);
	memset(l2 + keep % per_table, 0, size - keep % per_table * ENTRY);
	return r ?: image_write(resize->fd, l2, size, offset);
}

static int cut(struct resize *resize)
{
	const struct qcow2_header *header = &resize->header;
	_cleanup_free_ __be64 *l1 = calloc(header->l1_size + 1, ENTRY);
	uint64_t keep = qcow2_l1_entries(header->size, header->cluster_bits);
	int r;

	if (!l1)
		return -ENOMEM;
	r = image_read(resize->fd, l1, header->l1_size * ENTRY, header->l1_offset);
	r = r ?: cut_l2(resize, l1);
	memset(l1 + keep, 0, (header->l1_size - keep) * ENTRY);
	r = r ?: image_write(resize->fd, l1, header->l1_size * ENTRY, header->l1_offset);
	return r ?: sync_file(resize->fd);
}

/* ---- either ---- */

static int refuse(const char **ret_reason, int err, const char *reason)
{
	*ret_reason = reason;
	return err;
}

static int check_first(int fd, const struct qcow2_header *header, uint64_t size,
		       struct qcow2_findings *findings, const char **ret_reason)
{
	int r = qcow2_check(fd, QCOW2_REPAIR_NOTHING, findings, ret_reason);

	if (r < 0)
		return r;
	if (qcow2_corruptions(findings) || header->incompatible & (QCOW2_DIRTY | QCOW2_CORRUPT))
		return refuse(ret_reason, -EUCLEAN,
			      "it is damaged or was not closed, look with microvm image check");
	/* Those of version 2 have the size of the disk, and none keeps what a smaller one loses. */
	if (header->snapshots && (header->version < 3 || size < header->size))
		return refuse(ret_reason, -EOPNOTSUPP, "it has snapshots: remove them first");
	return 0;
}

static int resize_to(struct resize *resize, uint64_t size)
{
	struct qcow2_header *header = &resize->header;
	uint64_t entries = qcow2_l1_entries(size, header->cluster_bits);
	bool smaller = size < header->size;
	int r = 0;

	if (entries > header->l1_size)
		r = grow_l1(resize, entries);
	header->size = size;
	r = r ?: write_header(resize);
	return r == 0 && smaller ? cut(resize) : r;
}

int qcow2_resize(int fd, uint64_t size, const char **ret_reason)
{
	_cleanup_(resize_free) struct resize resize = { .fd = fd };
	struct qcow2_findings findings;
	uint64_t file_size;
	int r;

	r = qcow2_header_read(fd, &resize.header, &file_size, ret_reason);
	r = r ?: check_first(fd, &resize.header, size, &findings, ret_reason);
	if (r)
		return r;
	r = resize_open(&resize, &findings, file_size);
	r = r ?: resize_to(&resize, size);
	if (r < 0)
		return refuse(ret_reason, r, r == -EFBIG ? "with clusters of its size no image can "
							   "be that large" : strerror(-r));
	r = qcow2_check(fd, QCOW2_REPAIR_LEAKS, &findings, ret_reason);
	if (r == 0 && findings.end < file_size && ftruncate(fd, (off_t)findings.end) < 0)
		r = refuse(ret_reason, -errno, strerror(errno));
	return r;
}
