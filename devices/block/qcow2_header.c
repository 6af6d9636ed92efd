// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdio.h>
#include <unistd.h>
#include "devices/block/qcow2.h"

#define SECTOR 512

static int fail(int err, const char **ret_reason, const char *reason)
{
	*ret_reason = reason;
	return err;
}

static int damaged(const char **ret_reason, const char *reason)
{
	return fail(-EUCLEAN, ret_reason, reason);
}

static int unsupported(const char **ret_reason, const char *reason)
{
	return fail(-EOPNOTSUPP, ret_reason, reason);
}

static void unpack(const struct qcow2_disk_header *disk, struct qcow2_header *header)
{
	*header = (struct qcow2_header){
		.version = be32toh(disk->version),
		.cluster_bits = be32toh(disk->cluster_bits),
		.size = be64toh(disk->size),
		.l1_offset = be64toh(disk->l1_table_offset),
		.l1_size = be32toh(disk->l1_size),
		.refcount_order = 4,
		.refcount_table_offset = be64toh(disk->refcount_table_offset),
		.refcount_table_clusters = be32toh(disk->refcount_table_clusters),
		.snapshots = be32toh(disk->nb_snapshots),
		.snapshots_offset = be64toh(disk->snapshots_offset),
		.length = QCOW2_HEADER_V2,
	};
	if (header->version < 3)
		return;
	header->incompatible = be64toh(disk->incompatible_features);
	header->compatible = be64toh(disk->compatible_features);
	header->autoclear = be64toh(disk->autoclear_features);
	header->refcount_order = be32toh(disk->refcount_order);
	header->length = be32toh(disk->header_length);
	if (header->length > QCOW2_HEADER_V3)
		header->compression = disk->compression_type;
}

static int check_features(const struct qcow2_disk_header *disk, const struct qcow2_header *header,
			  const char **ret_reason)
{
	uint64_t known = QCOW2_DIRTY | QCOW2_CORRUPT | QCOW2_COMPRESSION_TYPE;

	if (disk->crypt_method)
		return unsupported(ret_reason, "it is encrypted, which is not supported");
	if (header->incompatible & QCOW2_EXTERNAL_DATA)
		return unsupported(ret_reason, "its data is in another file, which is not supported");
	if (header->incompatible & QCOW2_EXTENDED_L2)
		return unsupported(ret_reason, "it has extended L2 entries, which are not supported; "
					       "qemu-img convert makes an image without them");
	if (header->incompatible & ~known)
		return unsupported(ret_reason, "it needs a feature that is not known here");
	if (header->compression > QCOW2_ZSTD)
		return unsupported(ret_reason, "its method of compression is not known here");
	if (!(header->incompatible & QCOW2_COMPRESSION_TYPE) != (header->compression == QCOW2_ZLIB))
		return damaged(ret_reason, "its header contradicts itself about compression");
	return 0;
}

static int check_numbers(const struct qcow2_header *header, const char **ret_reason)
{
	if (header->cluster_bits < QCOW2_CLUSTER_BITS_MIN ||
	    header->cluster_bits > QCOW2_CLUSTER_BITS_MAX)
		return damaged(ret_reason, "its cluster size is not from 512 bytes to 2 MiB");
	if (header->version > 2 &&
	    (header->length < QCOW2_HEADER_V3 || header->length % 8 ||
	     header->length > qcow2_cluster_size(header)))
		return damaged(ret_reason, "the length of its header cannot be right");
	if (header->refcount_order > QCOW2_REFCOUNT_ORDER_MAX)
		return damaged(ret_reason, "its reference counts are wider than 64 bits");
	if (header->size > QCOW2_SIZE_MAX || header->size % SECTOR)
		return damaged(ret_reason, "the size of its disk cannot be right");
	if (header->l1_size > QCOW2_L1_BYTES_MAX / sizeof(uint64_t))
		return damaged(ret_reason, "its L1 table is longer than 32 MiB");
	if (header->l1_size < qcow2_l1_entries(header->size, header->cluster_bits))
		return damaged(ret_reason, "its L1 table is too short for its disk");
	if (header->refcount_table_clusters == 0 ||
	    header->refcount_table_clusters > QCOW2_REFCOUNT_TABLE_BYTES_MAX >> header->cluster_bits)
		return damaged(ret_reason, "its refcount table is empty or longer than 8 MiB");
	if (header->snapshots > QCOW2_SNAPSHOTS_MAX)
		return damaged(ret_reason, "it has more than 65536 snapshots");
	return 0;
}

static bool table_fits(const struct qcow2_header *header, uint64_t offset, uint64_t len,
		       uint64_t file_size)
{
	return offset && qcow2_is_aligned(header, offset) && util_within(offset, len, file_size);
}

static bool overlap(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
	return a_len && b_len && a < b + b_len && b < a + a_len;
}

/* The last cluster may be there in part: only what a table really takes is asked for. */
static int check_tables(const struct qcow2_header *header, uint64_t file_size,
			const char **ret_reason)
{
	uint64_t l1 = header->l1_offset, refcounts = header->refcount_table_offset;
	uint64_t snapshots = header->snapshots_offset;
	uint64_t l1_len = header->l1_size * sizeof(uint64_t);
	uint64_t refcounts_len = (uint64_t)header->refcount_table_clusters << header->cluster_bits;
	uint64_t snapshots_len = header->snapshots * sizeof(struct qcow2_disk_snapshot);

	if (l1_len && !table_fits(header, l1, l1_len, file_size))
		return damaged(ret_reason, "its L1 table is not in the file, or not aligned");
	if (!table_fits(header, refcounts, refcounts_len, file_size))
		return damaged(ret_reason, "its refcount table is not in the file, or not aligned");
	if (snapshots_len && !table_fits(header, snapshots, snapshots_len, file_size))
		return damaged(ret_reason, "its snapshot table is not in the file, or not aligned");
	if (overlap(l1, l1_len, refcounts, refcounts_len) ||
	    overlap(snapshots, snapshots_len, l1, l1_len) ||
	    overlap(snapshots, snapshots_len, refcounts, refcounts_len))
		return damaged(ret_reason, "its tables overlap");
	return 0;
}

static int take_backing_format(struct qcow2_header *header, const char *text, size_t len,
			       const char **ret_reason)
{
	if (len > QCOW2_BACKING_FORMAT_MAX || memchr(text, '\0', len))
		return damaged(ret_reason, "the format of its backing file cannot be right");
	memcpy(header->backing_format, text, len);
	header->backing_format[len] = '\0';
	return 0;
}

/* Up to the name of the backing file, or the end of the cluster. */
static int read_extensions(struct qcow2_header *header, const char *data, size_t end,
			   const char **ret_reason)
{
	struct qcow2_disk_extension extension;
	size_t at = header->length, len;
	int r = 0;

	while (r == 0 && util_within(at, sizeof(extension), end)) {
		memcpy(&extension, data + at, sizeof(extension));
		at += sizeof(extension);
		len = be32toh(extension.len);
		if (be32toh(extension.type) == QCOW2_EXTENSION_END)
			return 0;
		if (!util_within(at, len, end))
			return damaged(ret_reason, "an extension of its header is too long");
		if (be32toh(extension.type) == QCOW2_EXTENSION_BACKING_FORMAT)
			r = take_backing_format(header, data + at, len, ret_reason);
		at += util_align_up(len, 8);
	}
	return r;
}

static int read_names(const struct qcow2_disk_header *disk, const char *data, size_t size,
		      struct qcow2_header *header, const char **ret_reason)
{
	uint64_t offset = be64toh(disk->backing_file_offset);
	uint32_t name_len = be32toh(disk->backing_file_size);

	size = util_min(size, qcow2_cluster_size(header));
	if (!offset)
		return read_extensions(header, data, size, ret_reason);
	if (name_len == 0 || name_len > QCOW2_BACKING_MAX || offset < header->length ||
	    !util_within(offset, name_len, size) || memchr(data + offset, '\0', name_len))
		return damaged(ret_reason, "the name of its backing file cannot be right");
	memcpy(header->backing, data + offset, name_len);
	return read_extensions(header, data, offset, ret_reason);
}

int qcow2_header_parse(const void *data, size_t len, uint64_t file_size,
		       struct qcow2_header *ret_header, const char **ret_reason)
{
	struct qcow2_disk_header disk = { 0 };
	struct qcow2_header header;
	int r;

	memcpy(&disk, data, util_min(len, sizeof(disk)));
	if (len < sizeof(disk.magic) || be32toh(disk.magic) != QCOW2_MAGIC)
		return fail(-EMEDIUMTYPE, ret_reason, "it is not a qcow2 image");
	unpack(&disk, &header);
	if (header.version < 2 || header.version > 3)
		return unsupported(ret_reason, "its version of qcow2 is neither 2 nor 3");
	if (len < header.length)
		return damaged(ret_reason, "it ends within its header");
	r = check_features(&disk, &header, ret_reason);
	if (r == 0)
		r = check_numbers(&header, ret_reason);
	if (r == 0)
		r = check_tables(&header, file_size, ret_reason);
	if (r == 0)
		r = read_names(&disk, data, len, &header, ret_reason);
	if (r < 0)
		return r;
	*ret_header = header;
	return 0;
}

/* As many bytes as there are, up to size; -errno. */
static ssize_t read_start(int fd, char *data, size_t size)
{
	size_t len = 0;
	ssize_t r;

	do {
		r = pread(fd, data + len, size - len, (off_t)len);
		if (r > 0)
			len += (size_t)r;
	} while ((r > 0 && len < size) || (r < 0 && errno == EINTR));
	return r < 0 ? -errno : (ssize_t)len;
}

int qcow2_header_read(int fd, struct qcow2_header *ret_header, uint64_t *ret_file_size,
		      const char **ret_reason)
{
	size_t size = (size_t)1 << QCOW2_CLUSTER_BITS_MAX;
	off_t file_size = lseek(fd, 0, SEEK_END);
	_cleanup_free_ char *data = NULL;
	ssize_t len;
	int r;

	if (file_size < 0)
		return fail(-errno, ret_reason, strerror(errno));
	data = malloc(size);
	if (!data)
		return fail(-ENOMEM, ret_reason, strerror(ENOMEM));
	len = read_start(fd, data, size);
	if (len < 0)
		return fail((int)len, ret_reason, strerror((int)-len));
	r = qcow2_header_parse(data, (size_t)len, (uint64_t)file_size, ret_header, ret_reason);
	if (r == 0)
		*ret_file_size = (uint64_t)file_size;
	return r;
}

static struct qcow2_disk_header pack(const struct qcow2_header *header)
{
	return (struct qcow2_disk_header){
		.magic = htobe32(QCOW2_MAGIC),
		.version = htobe32(header->version),
		.cluster_bits = htobe32(header->cluster_bits),
		.size = htobe64(header->size),
		.l1_size = htobe32(header->l1_size),
		.l1_table_offset = htobe64(header->l1_offset),
		.refcount_table_offset = htobe64(header->refcount_table_offset),
		.refcount_table_clusters = htobe32(header->refcount_table_clusters),
		.nb_snapshots = htobe32(header->snapshots),
		.snapshots_offset = htobe64(header->snapshots_offset),
		.incompatible_features = htobe64(header->incompatible),
		.compatible_features = htobe64(header->compatible),
		.autoclear_features = htobe64(header->autoclear),
		.refcount_order = htobe32(header->refcount_order),
		.header_length = htobe32(sizeof(struct qcow2_disk_header)),
		.compression_type = (uint8_t)header->compression,
	};
}

int qcow2_header_format(const struct qcow2_header *header, void *buffer, size_t size)
{
	size_t name_len = strlen(header->backing), format_len = strlen(header->backing_format);
	struct qcow2_disk_header disk = pack(header);
	struct qcow2_disk_extension extension = {
		.type = htobe32(QCOW2_EXTENSION_BACKING_FORMAT), .len = htobe32((uint32_t)format_len),
	};
	size_t at = header->version < 3 ? QCOW2_HEADER_V2 : sizeof(disk);
	size_t name_at = at + sizeof(extension);

	if (format_len)
		name_at += sizeof(extension) + util_align_up(format_len, 8);
	if (!util_within(name_at, name_len, size))
		return -ENAMETOOLONG;
	if (format_len) {
		memcpy((char *)buffer + at, &extension, sizeof(extension));
		memcpy((char *)buffer + at + sizeof(extension), header->backing_format, format_len);
	}
	if (name_len) {
		disk.backing_file_offset = htobe64(name_at);
		disk.backing_file_size = htobe32((uint32_t)name_len);
		memcpy((char *)buffer + name_at, header->backing, name_len);
	}
	memcpy(buffer, &disk, at);
	return 0;
}

uint64_t qcow2_refcount_get(const void *block, uint32_t order, uint64_t index)
{
	const uint8_t *bytes = block;

	switch (order) {
	case 3:
		return bytes[index];
	case 4:
		return be16toh(((const __be16 *)block)[index]);
	case 5:
		return be32toh(((const __be32 *)block)[index]);
	case 6:
		return be64toh(((const __be64 *)block)[index]);
	}
	/* Narrower than a byte: the first is in the lowest bits. */
	return bytes[index << order >> 3] >> ((index << order) & 7) & ((1u << (1u << order)) - 1);
}

void qcow2_refcount_set(void *block, uint32_t order, uint64_t index, uint64_t count)
{
	uint8_t *bytes = block, mask;
	unsigned int shift;

	switch (order) {
	case 3:
		bytes[index] = (uint8_t)count;
		return;
	case 4:
		((__be16 *)block)[index] = htobe16((uint16_t)count);
		return;
	case 5:
		((__be32 *)block)[index] = htobe32((uint32_t)count);
		return;
	case 6:
		((__be64 *)block)[index] = htobe64(count);
		return;
	}
	shift = (index << order) & 7;
	mask = (uint8_t)(((1u << (1u << order)) - 1) << shift);
	bytes[index << order >> 3] = (uint8_t)((bytes[index << order >> 3] & ~mask) |
					       (count << shift & mask));
}

char *qcow2_backing_path(const char *image, const char *backing)
{
	const char *slash = strrchr(image, '/');
	char *joined;

	if (!slash || *backing == '/')
		return strdup(backing);
	return asprintf(&joined, "%.*s%s", (int)(slash + 1 - image), image, backing) < 0 ? NULL :
											  joined;
}
