/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2 as it lies in a file (QEMU's docs/interop/qcow2.txt): for the engine
 * that runs a disk from it, and for what makes and checks images. In the file
 * all numbers are big-endian.
 */
#ifndef DEVICES_BLOCK_QCOW2_H
#define DEVICES_BLOCK_QCOW2_H

#include <assert.h>
#include <endian.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/util.h"

#define QCOW2_MAGIC UINT32_C(0x514649fb) /* "QFI\xfb" */
#define QCOW2_CLUSTER_BITS_MIN 9
#define QCOW2_CLUSTER_BITS_MAX 21
#define QCOW2_REFCOUNT_ORDER_MAX 6
#define QCOW2_L1_BYTES_MAX MIB(32)
#define QCOW2_REFCOUNT_TABLE_BYTES_MAX MIB(8)
#define QCOW2_SNAPSHOTS_MAX 65536
#define QCOW2_SNAPSHOT_TABLE_BYTES_MAX MIB(64)
#define QCOW2_BACKING_MAX 1023
#define QCOW2_BACKING_FORMAT_MAX 15
#define QCOW2_SIZE_MAX INT64_MAX

/* ---- the file ---- */

struct qcow2_disk_header {
	__be32 magic;
	__be32 version;
	__be64 backing_file_offset;
	__be32 backing_file_size;
	__be32 cluster_bits;
	__be64 size;
	__be32 crypt_method;
	__be32 l1_size;
	__be64 l1_table_offset;
	__be64 refcount_table_offset;
	__be32 refcount_table_clusters;
	__be32 nb_snapshots;
	__be64 snapshots_offset;
	/* Version 2 ends here. */
	__be64 incompatible_features;
	__be64 compatible_features;
	__be64 autoclear_features;
	__be32 refcount_order;
	__be32 header_length;
	/* What header_length may leave out. */
	__u8 compression_type;
	__u8 padding[7];
};

#define QCOW2_HEADER_V2 offsetof(struct qcow2_disk_header, incompatible_features)
#define QCOW2_HEADER_V3 offsetof(struct qcow2_disk_header, compression_type)
static_assert(QCOW2_HEADER_V2 == 72 && QCOW2_HEADER_V3 == 104, "as the specification has them");

enum qcow2_incompatible {
	QCOW2_DIRTY = 1 << 0,   /* reference counts may be too low or too high */
	QCOW2_CORRUPT = 1 << 1, /* it must not be written to */
	QCOW2_EXTERNAL_DATA = 1 << 2,
	QCOW2_COMPRESSION_TYPE = 1 << 3,
	QCOW2_EXTENDED_L2 = 1 << 4,
};

enum qcow2_compatible { QCOW2_LAZY_REFCOUNTS = 1 << 0 };
enum qcow2_autoclear { QCOW2_BITMAPS = 1 << 0, QCOW2_RAW_EXTERNAL = 1 << 1 };
enum qcow2_compression { QCOW2_ZLIB, QCOW2_ZSTD };

enum qcow2_extension_type {
	QCOW2_EXTENSION_END = 0,
	QCOW2_EXTENSION_BACKING_FORMAT = 0xe2792aca,
};

struct qcow2_disk_extension {
	__be32 type;
	__be32 len; /* of the data that follows, without its padding to 8 bytes */
};

struct qcow2_disk_snapshot {
	__be64 l1_table_offset;
	__be32 l1_size;
	__be16 id_len;
	__be16 name_len;
	__be32 date_sec;
	__be32 date_nsec;
	__be64 vm_clock_nsec;
	__be32 vm_state_size;
	__be32 extra_len;
	/* Then the extra data, the id, the name, and padding to 8 bytes. */
};
static_assert(sizeof(struct qcow2_disk_snapshot) == 40, "as the specification has it");

/* Entries of tables, in host order. */
#define QCOW2_OFFSET UINT64_C(0x00fffffffffffe00)
#define QCOW2_COPIED (UINT64_C(1) << 63)     /* L1 and L2: what it leads to has a reference count of one */
#define QCOW2_COMPRESSED (UINT64_C(1) << 62) /* L2 */
#define QCOW2_ZERO UINT64_C(1)               /* L2, version 3 */
#define QCOW2_L1_RESERVED (~(QCOW2_OFFSET | QCOW2_COPIED))
#define QCOW2_L2_RESERVED (~(QCOW2_OFFSET | QCOW2_COPIED | QCOW2_ZERO)) /* of a standard cluster */
#define QCOW2_REFCOUNT_TABLE_RESERVED UINT64_C(0x1ff)

/* ---- the header, read and checked ---- */

struct qcow2_header {
	uint32_t version; /* 2 or 3 */
	uint32_t cluster_bits;
	uint64_t size; /* of the virtual disk: bytes, a multiple of 512, may be 0 */
	uint64_t l1_offset;
	uint32_t l1_size; /* entries: at least as many as size takes */
	uint32_t refcount_order;
	uint64_t refcount_table_offset;
	uint32_t refcount_table_clusters;
	uint32_t snapshots;
	uint64_t snapshots_offset;
	uint64_t incompatible, compatible, autoclear;
	uint32_t length;
	enum qcow2_compression compression;
	char backing[QCOW2_BACKING_MAX + 1]; /* "" for none */
	char backing_format[QCOW2_BACKING_FORMAT_MAX + 1]; /* "" where the image does not say */
};

/*
 * Checks the first bytes of an image of file_size bytes: data holds the whole
 * first cluster, or all of the file. After success the header's own numbers
 * agree with each other, the tables that it names lie in the file, aligned, and
 * do not overlap; what is in the tables was not looked at. Dirty and corrupt
 * images pass, for the caller to decide.
 *
 * -EMEDIUMTYPE: not qcow2; -EOPNOTSUPP: a feature that we do not have;
 * -EUCLEAN: damaged. *ret_reason then says what it is, as the end of a sentence
 * about the image.
 */
int qcow2_header_parse(const void *data, size_t len, uint64_t file_size,
		       struct qcow2_header *ret_header, const char **ret_reason);

/* The same from an open file or block device; -errno besides. */
int qcow2_header_read(int fd, struct qcow2_header *ret_header, uint64_t *ret_file_size,
		      const char **ret_reason);

/*
 * The other way, with the extension and the name of a backing file, into a
 * cleared buffer. -ENAMETOOLONG: the name does not fit into size bytes.
 */
int qcow2_header_format(const struct qcow2_header *header, void *buffer, size_t size);

/*
 * Where the backing file of an image is, whose name there is relative to the
 * image's folder. The caller frees it; NULL: no memory.
 */
char *qcow2_backing_path(const char *image, const char *backing);

/* ---- arithmetic ---- */

static inline uint64_t qcow2_cluster_size(const struct qcow2_header *header)
{
	return UINT64_C(1) << header->cluster_bits;
}

static inline uint32_t qcow2_l2_bits(const struct qcow2_header *header)
{
	return header->cluster_bits - 3;
}

/* How many entries of an L1 table a disk of size bytes takes. */
static inline uint64_t qcow2_l1_entries(uint64_t size, uint32_t cluster_bits)
{
	uint32_t shift = cluster_bits + cluster_bits - 3;

	return (size >> shift) + ((size & ((UINT64_C(1) << shift) - 1)) != 0);
}

/* How many entries the refcount table has room for. */
static inline uint64_t qcow2_refcount_entries(const struct qcow2_header *header)
{
	return (uint64_t)header->refcount_table_clusters << (header->cluster_bits - 3);
}

/* As a shift: how many clusters one refcount block counts. */
static inline uint32_t qcow2_refcount_block_bits(const struct qcow2_header *header)
{
	return header->cluster_bits + 3 - header->refcount_order;
}

static inline bool qcow2_is_aligned(const struct qcow2_header *header, uint64_t offset)
{
	return (offset & (qcow2_cluster_size(header) - 1)) == 0;
}

/* Where the data of a compressed cluster may lie: the last sector may be longer than the data. */
static inline void qcow2_compressed(const struct qcow2_header *header, uint64_t l2_entry,
				    uint64_t *ret_offset, uint64_t *ret_len)
{
	uint32_t shift = 62 - (header->cluster_bits - 8);
	uint64_t offset = l2_entry & ((UINT64_C(1) << shift) - 1);
	uint64_t sectors = (l2_entry & (QCOW2_COMPRESSED - 1)) >> shift;

	*ret_offset = offset;
	*ret_len = (sectors + 1) * 512 - offset % 512;
}

/* The entry of a refcount block, which is 1 << order bits wide. */
uint64_t qcow2_refcount_get(const void *block, uint32_t order, uint64_t index);
void qcow2_refcount_set(void *block, uint32_t order, uint64_t index, uint64_t count);

#endif
