// SPDX-License-Identifier: Apache-2.0
#include <endian.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "devices/block/image.h"
#include "devices/block/qcow2_run.h"

static void advance(struct iovec **iov, unsigned int *count, size_t len)
{
	while (*count && len >= (*iov)->iov_len) {
		len -= (*iov)->iov_len;
		(*iov)++;
		(*count)--;
	}
	if (*count && len) {
		(*iov)->iov_base = (uint8_t *)(*iov)->iov_base + len;
		(*iov)->iov_len -= len;
	}
}

int qcow2_pread(const struct qcow2 *q, void *buffer, size_t len, uint64_t offset)
{
	return image_read(q->fd, buffer, len, offset);
}

int qcow2_pwritev(struct qcow2 *q, struct iovec *iov, unsigned int count, uint64_t offset)
{
	ssize_t n;

	if (q->corrupt)
		return -EIO;
	q->unsynced = true;
	while (count) {
		n = pwritev2(q->fd, iov, (int)count, (off_t)offset, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		offset += (uint64_t)n;
		advance(&iov, &count, (size_t)n);
	}
	q->file_size = util_max(q->file_size, offset);
	return 0;
}

int qcow2_pwrite(struct qcow2 *q, const void *buffer, size_t len, uint64_t offset)
{
	struct iovec iov = { (void *)buffer, len };

	return qcow2_pwritev(q, &iov, 1, offset);
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

int qcow2_sync(struct qcow2 *q)
{
	if (fdatasync(q->fd) < 0) {
		atomic_store(&q->image->lost, true);
		return -errno;
	}
	q->unsynced = false;
	return atomic_load(&q->image->lost) ? -EIO : 0;
}

int qcow2_lies(struct qcow2 *q)
{
	__be64 features = htobe64(q->header.incompatible | QCOW2_CORRUPT);

	/* That it cannot be marked changes nothing: it is not written to again. */
	if (!q->read_only && !q->corrupt && q->header.version > 2)
		(void)!qcow2_pwrite(q, &features, sizeof(features),
				    offsetof(struct qcow2_disk_header, incompatible_features));
	q->corrupt = true;
	return -EIO;
}

bool qcow2_is_dirty(const struct qcow2 *q)
{
	return q->l1_dirty < q->l1_dirty_end || qcow2_cache_is_dirty(q);
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

int qcow2_write_back(struct qcow2 *q)
{
	int r = qcow2_cache_write(q);

	if (r < 0 || q->l1_dirty == q->l1_dirty_end)
		return r;
	r = qcow2_sync(q);
	return r < 0 ? r : write_l1(q);
}
