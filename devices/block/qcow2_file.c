// SPDX-License-Identifier: Apache-2.0
#include <endian.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "devices/block/image.h"
#include "devices/block/qcow2_run.h"

int qcow2_pread(const struct qcow2 *q, void *buffer, size_t len, uint64_t offset)
{
	return image_read(q->fd, buffer, len, offset);
}

int qcow2_pwrite(struct qcow2 *q, const void *buffer, size_t len, uint64_t offset)
{
	struct iovec iov = { (void *)buffer, len };
	ssize_t n;

	if (q->corrupt)
		return -EIO;
	q->written++;
	while (iov.iov_len) {
		n = pwritev2(q->fd, &iov, 1, (off_t)offset, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		offset += (uint64_t)n;
		iov.iov_base = (uint8_t *)iov.iov_base + n;
		iov.iov_len -= (size_t)n;
	}
	q->file_size = util_max(q->file_size, offset);
	return 0;
}

int qcow2_write_table(struct qcow2 *q, const uint64_t *table, uint64_t entries, uint64_t offset)
{
	_cleanup_free_ __be64 *disk = calloc(entries, sizeof(*disk));

	if (!disk)
		return -ENOMEM;
	for (uint64_t i = 0; i < entries; i++)
		disk[i] = htobe64(table[i]);
	return qcow2_pwrite(q, disk, entries * sizeof(*disk), offset);
}

int qcow2_extend(struct qcow2 *q, uint64_t size)
{
	if (size <= q->file_size)
		return 0;
	if (ftruncate(q->fd, (off_t)size) < 0)
		return -errno;
	q->file_size = size;
	return 0;
}

void qcow2_order(struct qcow2 *q)
{
	q->barrier = ++q->written;
}

bool qcow2_is_unsynced(const struct qcow2 *q)
{
	return q->synced < q->written;
}

void qcow2_synced(struct qcow2 *q, uint64_t written)
{
	q->synced = util_max(q->synced, written);
}

int qcow2_sync(struct qcow2 *q)
{
	/* What the child still moves belongs to what has to be there first. */
	if (q->moving)
		q->child->ops->drain(q->child->engine);
	if (fdatasync(q->fd) < 0) {
		atomic_store(&q->image->lost, true);
		return -errno;
	}
	qcow2_synced(q, q->written);
	return atomic_load(&q->image->lost) ? -EIO : 0;
}

static int write_features(struct qcow2 *q, uint64_t incompatible)
{
	__be64 disk = htobe64(incompatible);
	int r = qcow2_pwrite(q, &disk, sizeof(disk),
			     offsetof(struct qcow2_disk_header, incompatible_features));

	if (r == 0)
		q->header.incompatible = incompatible;
	return r;
}

int qcow2_mark_dirty(struct qcow2 *q)
{
	int r;

	if (!q->lazy || q->header.incompatible & QCOW2_DIRTY)
		return 0;
	r = write_features(q, q->header.incompatible | QCOW2_DIRTY);
	return r < 0 ? r : qcow2_sync(q);
}

int qcow2_lies(struct qcow2 *q)
{
	/* That it cannot be marked changes nothing: it is not written to again. */
	if (!q->read_only && !q->corrupt && q->header.version > 2)
		(void)!write_features(q, q->header.incompatible | QCOW2_CORRUPT);
	q->corrupt = true;
	return -EIO;
}

bool qcow2_is_dirty(const struct qcow2 *q)
{
	return q->l1_dirty < q->l1_dirty_end || qcow2_cache_is_dirty(q, QCOW2_L2) ||
	       (!q->lazy && qcow2_cache_is_dirty(q, QCOW2_REFCOUNTS));
}

static int write_l1(struct qcow2 *q)
{
	__be64 disk[64];
	int r = 0;

	while (r == 0 && q->l1_dirty < q->l1_dirty_end) {
		uint32_t n = (uint32_t)util_min(ARRAY_SIZE(disk), q->l1_dirty_end - q->l1_dirty);

		for (uint32_t i = 0; i < n; i++)
			disk[i] = htobe64(q->l1[q->l1_dirty + i]);
		r = qcow2_pwrite(q, disk, n * sizeof(*disk),
				 q->header.l1_offset + q->l1_dirty * sizeof(*disk));
		if (r == 0)
			q->l1_dirty += n;
	}
	return r;
}

int qcow2_write_counts(struct qcow2 *q)
{
	bool dirty = qcow2_cache_is_dirty(q, QCOW2_REFCOUNTS);
	int r = qcow2_cache_write(q, QCOW2_REFCOUNTS);

	if (dirty)
		qcow2_order(q);
	return r;
}

int qcow2_write_some(struct qcow2 *q)
{
	int r = q->lazy ? 0 : qcow2_write_counts(q);

	if (r == 0 && qcow2_cache_is_dirty(q, QCOW2_L2)) {
		if (q->moving || q->synced < q->barrier)
			return 1;
		r = qcow2_cache_write(q, QCOW2_L2);
	}
	if (r < 0 || q->l1_dirty == q->l1_dirty_end)
		return r;
	return qcow2_is_unsynced(q) ? 1 : write_l1(q);
}

int qcow2_write_back(struct qcow2 *q)
{
	int r = qcow2_write_some(q);

	while (r > 0) {
		r = qcow2_sync(q);
		if (r == 0)
			r = qcow2_write_some(q);
	}
	return r;
}

/* The end of the file that was reserved in vain. */
static int cut(struct qcow2 *q, const struct qcow2_clusters *reserve)
{
	uint32_t bits = q->header.cluster_bits;

	if (q->fixed || !reserve->count || (reserve->first + reserve->count) << bits != q->file_size)
		return 0;
	if (ftruncate(q->fd, (off_t)(reserve->first << bits)) < 0)
		return -errno;
	q->file_size = reserve->first << bits;
	return 0;
}

/* Counts that are all there need no mark that they may not be. */
static int mark_clean(struct qcow2 *q)
{
	int r = qcow2_write_counts(q);

	if (r == 0 && qcow2_is_unsynced(q))
		r = qcow2_sync(q);
	if (r < 0 || !(q->header.incompatible & QCOW2_DIRTY))
		return r;
	r = write_features(q, q->header.incompatible & ~(uint64_t)QCOW2_DIRTY);
	return r < 0 ? r : qcow2_sync(q);
}

int qcow2_rest(struct qcow2 *q)
{
	const struct qcow2_clusters reserve = q->reserve;
	int r = q->corrupt ? -EIO : qcow2_write_back(q);

	if (r == 0 && q->free_count) {
		r = qcow2_sync(q);
		if (r == 0)
			r = qcow2_free_now(q);
	}
	if (r == 0)
		r = qcow2_give_back(q);
	if (r == 0)
		r = mark_clean(q);
	return r < 0 ? r : cut(q, &reserve);
}
