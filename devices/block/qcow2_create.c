// SPDX-License-Identifier: Apache-2.0
/*
 * A fresh image has the header in the first cluster, then the refcount table,
 * its blocks, the L1 table and, where space is preallocated, the L2 tables and
 * the data, in order. So all of it is known before the first byte is written,
 * and nothing has more than one reference.
 */
#include <errno.h>
#include <unistd.h>
#include "devices/block/image.h"
#include "devices/block/qcow2.h"

#define ENTRY sizeof(__be64)

/* In clusters. */
struct layout {
	uint64_t refcount_table, blocks, l1, l2, data;
};

static uint64_t div_up(uint64_t value, uint32_t bits)
{
	return (value >> bits) + ((value & ((UINT64_C(1) << bits) - 1)) != 0);
}

static uint64_t layout_total(const struct layout *layout)
{
	return 1 + layout->refcount_table + layout->blocks + layout->l1 + layout->l2 + layout->data;
}

static int plan(const struct qcow2_header *header, enum image_preallocation how,
		struct layout *ret_layout)
{
	uint32_t bits = header->cluster_bits;
	uint64_t l1_size = qcow2_l1_entries(header->size, bits), total;
	struct layout layout = { .l1 = div_up(l1_size * ENTRY, bits) };

	if (header->size > QCOW2_SIZE_MAX || l1_size > QCOW2_L1_BYTES_MAX / ENTRY)
		return -EFBIG;
	if (how != IMAGE_OFF) {
		layout.l2 = l1_size;
		layout.data = div_up(header->size, bits);
	}
	/* What counts the clusters takes clusters. */
	do {
		total = layout_total(&layout);
		layout.blocks = div_up(total, qcow2_refcount_block_bits(header));
		layout.refcount_table = div_up(layout.blocks * ENTRY, bits);
	} while (layout_total(&layout) != total);
	if (layout.refcount_table << bits > QCOW2_REFCOUNT_TABLE_BYTES_MAX ||
	    total << bits > QCOW2_OFFSET)
		return -EFBIG;
	*ret_layout = layout;
	return 0;
}

/* A table whose entries are successive clusters from first on: count of them, at offset. */
static int write_table(int fd, const struct qcow2_header *header, __be64 *buffer, uint64_t offset,
		       uint64_t count, uint64_t first, uint64_t flags)
{
	uint64_t per_cluster = qcow2_cluster_size(header) / ENTRY, n;
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < count; i += n) {
		n = util_min(per_cluster, count - i);
		for (uint64_t j = 0; j < n; j++)
			buffer[j] = htobe64((first + i + j) << header->cluster_bits | flags);
		r = image_write(fd, buffer, n * ENTRY, offset + i * ENTRY);
	}
	return r;
}

/* The last block has room for more than there is. */
static int write_blocks(int fd, const struct qcow2_header *header, const struct layout *layout,
			void *buffer, uint64_t offset)
{
	uint64_t left = layout_total(layout), size = qcow2_cluster_size(header), n;
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < layout->blocks; i++, left -= n) {
		n = util_min(left, UINT64_C(1) << qcow2_refcount_block_bits(header));
		memset(buffer, 0, size);
		for (uint64_t j = 0; j < n; j++)
			qcow2_refcount_set(buffer, header->refcount_order, j, 1);
		r = image_write(fd, buffer, size, offset + i * size);
	}
	return r;
}

static int write_image(int fd, struct qcow2_header *header, const struct layout *layout,
		       enum image_preallocation how, struct image_progress *progress)
{
	_cleanup_free_ void *buffer = calloc(1, qcow2_cluster_size(header));
	uint64_t blocks = 1 + layout->refcount_table, l1 = blocks + layout->blocks;
	uint64_t l2 = l1 + layout->l1, data = l2 + layout->l2;
	uint32_t bits = header->cluster_bits;
	int r = 0;

	header->version = 3;
	header->refcount_table_offset = UINT64_C(1) << bits;
	header->refcount_table_clusters = (uint32_t)layout->refcount_table;
	header->l1_offset = l1 << bits;
	header->l1_size = (uint32_t)qcow2_l1_entries(header->size, bits);

	if (!buffer)
		return -ENOMEM;
	if (ftruncate(fd, (off_t)(layout_total(layout) << bits)) < 0)
		r = -errno;
	r = r ?: image_preallocate(fd, data << bits, layout->data << bits, how, progress);
	r = r ?: write_table(fd, header, buffer, UINT64_C(1) << bits, layout->blocks, blocks, 0);
	r = r ?: write_blocks(fd, header, layout, buffer, blocks << bits);
	r = r ?: write_table(fd, header, buffer, l1 << bits, layout->l2, l2, QCOW2_COPIED);
	r = r ?: write_table(fd, header, buffer, l2 << bits, layout->data, data, QCOW2_COPIED);
	if (r < 0)
		return r;
	memset(buffer, 0, UINT64_C(1) << bits);
	r = qcow2_header_format(header, buffer, UINT64_C(1) << bits);
	return r ?: image_write(fd, buffer, UINT64_C(1) << bits, 0);
}

int qcow2_create(int fd, const struct qcow2_header *header, enum image_preallocation how,
		 struct image_progress *progress)
{
	struct qcow2_header made = *header;
	struct layout layout;
	int r = plan(header, how, &layout);

	return r < 0 ? r : write_image(fd, &made, &layout, how, progress);
}
