// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <cmocka.h>
#include "devices/block/image.h"
#include "devices/block/qcow2.h"

#define ENTRY sizeof(__be64)

static int no_report(struct image_progress *progress, uint64_t done, uint64_t total)
{
	(void)progress;
	assert_true(done < total);
	return 0;
}

static int cancel(struct image_progress *progress, uint64_t done, uint64_t total)
{
	(void)progress;
	(void)done;
	(void)total;
	return -EINTR;
}

static int new_file(void)
{
	int fd = memfd_create("image", MFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static int create(uint64_t size, uint32_t bits, uint32_t order, enum image_preallocation how)
{
	struct qcow2_header header = { .size = size, .cluster_bits = bits, .refcount_order = order };
	struct image_progress progress = { no_report };
	int fd = new_file();

	assert_int_equal(qcow2_create(fd, &header, how, &progress), 0);
	return fd;
}

/* 16 clusters of 4 KiB that are all there. */
static int create_small(void)
{
	return create(KIB(64), 12, 4, IMAGE_FALLOC);
}

static struct qcow2_header read_header(int fd)
{
	struct qcow2_header header = { 0 };
	const char *reason = "";
	uint64_t size;

	assert_int_equal(qcow2_header_read(fd, &header, &size, &reason), 0);
	return header;
}

static struct qcow2_findings check(int fd, enum qcow2_repair repair)
{
	struct qcow2_findings findings;
	const char *reason = "";

	assert_int_equal(qcow2_check(fd, repair, &findings, &reason), 0);
	return findings;
}

static void assert_sound(int fd)
{
	struct qcow2_findings findings = check(fd, QCOW2_REPAIR_NOTHING);

	assert_int_equal(qcow2_corruptions(&findings), 0);
	assert_int_equal(findings.leaks, 0);
}

static uint64_t get(int fd, uint64_t offset)
{
	__be64 entry;

	assert_int_equal(image_read(fd, &entry, sizeof(entry), offset), 0);
	return be64toh(entry);
}

static void put(int fd, uint64_t offset, uint64_t value)
{
	__be64 entry = htobe64(value);

	assert_int_equal(image_write(fd, &entry, sizeof(entry), offset), 0);
}

static void put32(int fd, uint64_t offset, uint32_t value)
{
	__be32 entry = htobe32(value);

	assert_int_equal(image_write(fd, &entry, sizeof(entry), offset), 0);
}

static uint64_t l2_offset(int fd)
{
	return get(fd, read_header(fd).l1_offset) & QCOW2_OFFSET;
}

/* Of a version 3 image with counts of 16 bits, by its first block. */
static void put_count(int fd, uint64_t cluster, uint16_t count)
{
	__be16 entry = htobe16(count);

	assert_int_equal(image_write(fd, &entry, sizeof(entry),
				     get(fd, read_header(fd).refcount_table_offset) +
					     cluster * sizeof(entry)), 0);
}

static uint64_t data_cluster(int fd, uint64_t n)
{
	return (get(fd, l2_offset(fd) + n * ENTRY) & QCOW2_OFFSET) >> read_header(fd).cluster_bits;
}

/* ---- images that are made here ---- */

static void test_created_images_are_sound(void **state)
{
	static const uint64_t sizes[] = { 512, KIB(4), MIB(1) + 512, MIB(5) };

	(void)state;
	for (uint32_t bits = QCOW2_CLUSTER_BITS_MIN; bits <= QCOW2_CLUSTER_BITS_MAX; bits++) {
		for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
			for (int how = IMAGE_OFF; how <= IMAGE_FULL; how++) {
				_cleanup_close_ int fd = create(sizes[i], bits, 4,
								(enum image_preallocation)how);
				uint64_t clusters = (sizes[i] + (1u << bits) - 1) >> bits;

				assert_sound(fd);
				assert_int_equal(check(fd, QCOW2_REPAIR_NOTHING).allocated,
						 how == IMAGE_OFF ? 0 : clusters);
				assert_int_equal(read_header(fd).size, sizes[i]);
			}
		}
	}
}

static void test_every_width_of_counts(void **state)
{
	(void)state;
	for (uint32_t order = 0; order <= QCOW2_REFCOUNT_ORDER_MAX; order++) {
		_cleanup_close_ int fd = create(MIB(3), 9, order, IMAGE_FALLOC);
		const char *reason = "";

		assert_int_equal(read_header(fd).refcount_order, order);
		assert_sound(fd);
		assert_int_equal(qcow2_resize(fd, MIB(700), &reason), 0);
		assert_sound(fd);
		assert_int_equal(qcow2_resize(fd, MIB(1), &reason), 0);
		assert_sound(fd);
	}
}

static void test_counts_of_every_width(void **state)
{
	uint8_t block[64];

	(void)state;
	for (uint32_t order = 0; order <= QCOW2_REFCOUNT_ORDER_MAX; order++) {
		uint64_t max = UINT64_MAX >> (64 - (1u << order));

		memset(block, 0, sizeof(block));
		for (uint64_t i = 0; i < 8; i++)
			qcow2_refcount_set(block, order, i, i & max);
		qcow2_refcount_set(block, order, 3, max);
		for (uint64_t i = 0; i < 8; i++)
			assert_int_equal(qcow2_refcount_get(block, order, i),
					 i == 3 ? max : (i & max));
	}
}

static void test_too_large_for_its_clusters(void **state)
{
	struct qcow2_header header = { .size = 1ULL << 50, .cluster_bits = 9, .refcount_order = 4 };
	struct image_progress progress = { no_report };
	_cleanup_close_ int fd = new_file();

	(void)state;
	assert_int_equal(qcow2_create(fd, &header, IMAGE_OFF, &progress), -EFBIG);
	header.size = QCOW2_SIZE_MAX / 512 * 512;
	header.cluster_bits = 21;
	assert_int_equal(qcow2_create(fd, &header, IMAGE_OFF, &progress), -EFBIG);
}

static void test_writing_zeros_can_be_ended(void **state)
{
	struct qcow2_header header = { .size = MIB(4), .cluster_bits = 16, .refcount_order = 4 };
	struct image_progress progress = { cancel };
	_cleanup_close_ int fd = new_file();
	const char *reason;
	uint64_t size;

	(void)state;
	assert_int_equal(qcow2_create(fd, &header, IMAGE_FULL, &progress), -EINTR);
	/* The header comes last. */
	assert_int_equal(qcow2_header_read(fd, &header, &size, &reason), -EMEDIUMTYPE);
}

static void test_backing_name_comes_back(void **state)
{
	struct qcow2_header header = { .size = MIB(4), .cluster_bits = 9, .refcount_order = 4,
				       .backing = "folder/base, 1.img", .backing_format = "raw" };
	struct image_progress progress = { no_report };
	_cleanup_close_ int fd = new_file();

	(void)state;
	assert_int_equal(qcow2_create(fd, &header, IMAGE_OFF, &progress), 0);
	assert_string_equal(read_header(fd).backing, "folder/base, 1.img");
	assert_string_equal(read_header(fd).backing_format, "raw");
	memset(header.backing, 'x', 400);
	assert_int_equal(qcow2_create(fd, &header, IMAGE_OFF, &progress), -ENAMETOOLONG);
}

/* ---- resize ---- */

static void test_resize_keeps_what_is_there(void **state)
{
	static const uint64_t sizes[] = { MIB(1), MIB(1) + 512, MIB(40), MIB(400), MIB(2) };
	_cleanup_close_ int fd = create(KIB(64), 9, 4, IMAGE_FALLOC);
	uint64_t cluster = data_cluster(fd, 5);
	const char *reason = "";

	(void)state;
	put(fd, cluster << 9, 0x1234);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		assert_int_equal(qcow2_resize(fd, sizes[i], &reason), 0);
		assert_int_equal(read_header(fd).size, sizes[i]);
		assert_sound(fd);
		assert_int_equal(check(fd, QCOW2_REPAIR_NOTHING).allocated, 128);
		assert_int_equal(get(fd, data_cluster(fd, 5) << 9), 0x1234);
	}
}

static void test_a_longer_refcount_table(void **state)
{
	_cleanup_close_ int fd = create(KIB(64), 9, 6, IMAGE_OFF);
	const char *reason = "";

	(void)state;
	/* 64 blocks of 64 clusters of 512 bytes fit into one cluster of the table. */
	assert_int_equal(qcow2_resize(fd, GIB(64), &reason), 0);
	assert_true(read_header(fd).refcount_table_clusters > 1);
	assert_sound(fd);
}

static void test_shrinking_gives_clusters_back(void **state)
{
	_cleanup_close_ int fd = create(MIB(64), 16, 4, IMAGE_FALLOC);
	const char *reason = "";

	(void)state;
	assert_int_equal(qcow2_resize(fd, MIB(1) + 512, &reason), 0);
	assert_sound(fd);
	assert_int_equal(check(fd, QCOW2_REPAIR_NOTHING).allocated, 17);
	assert_true(lseek(fd, 0, SEEK_END) < (off_t)MIB(2));
	assert_int_equal(qcow2_resize(fd, MIB(64), &reason), 0);
	assert_int_equal(check(fd, QCOW2_REPAIR_NOTHING).allocated, 17);
}

static void test_damaged_images_are_not_resized(void **state)
{
	_cleanup_close_ int fd = create_small();
	const char *reason = "";

	(void)state;
	put(fd, offsetof(struct qcow2_disk_header, incompatible_features), QCOW2_CORRUPT);
	assert_int_equal(qcow2_resize(fd, MIB(1), &reason), -EUCLEAN);
	put(fd, offsetof(struct qcow2_disk_header, incompatible_features), 0);
	put_count(fd, 0, 0);
	assert_int_equal(qcow2_resize(fd, MIB(1), &reason), -EUCLEAN);
	put_count(fd, 0, 1);
	assert_int_equal(qcow2_resize(fd, 1ULL << 60, &reason), -EFBIG);
	assert_int_equal(read_header(fd).size, KIB(64));
	assert_sound(fd);
}

/* ---- damage ---- */

static void test_leaks(void **state)
{
	_cleanup_close_ int fd = create_small();

	(void)state;
	put_count(fd, data_cluster(fd, 15), 1);
	put(fd, l2_offset(fd) + 15 * ENTRY, 0);
	assert_int_equal(check(fd, QCOW2_REPAIR_NOTHING).leaks, 1);
	assert_int_equal(check(fd, QCOW2_REPAIR_NOTHING).broken, 0);
	assert_int_equal(check(fd, QCOW2_REPAIR_LEAKS).leaks, 0);
	assert_sound(fd);
}

static void test_counts_that_are_too_low(void **state)
{
	_cleanup_close_ int fd = create_small();

	(void)state;
	put_count(fd, data_cluster(fd, 3), 0);
	assert_int_equal(check(fd, QCOW2_REPAIR_LEAKS).low, 1);
	put(fd, offsetof(struct qcow2_disk_header, incompatible_features), QCOW2_DIRTY);
	assert_int_equal(check(fd, QCOW2_REPAIR_ALL).low, 0);
	assert_int_equal(read_header(fd).incompatible, 0);
	assert_sound(fd);
}

/* A block of an image with small clusters counts 64 of them, which some of its own follow. */
static void test_blocks_that_are_missing(void **state)
{
	static const uint64_t missing[] = { 0x1, 0x2, 0x8, 0xff, UINT64_MAX };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(missing); i++) {
		_cleanup_close_ int fd = create(KIB(256), 9, 6, IMAGE_FALLOC);
		struct qcow2_header header = read_header(fd);
		uint64_t entries = qcow2_refcount_entries(&header);

		for (uint64_t j = 0; j < util_min(entries, 64); j++)
			if (missing[i] >> j & 1)
				put(fd, header.refcount_table_offset + j * ENTRY, 0);
		assert_true(check(fd, QCOW2_REPAIR_LEAKS).low > 0);
		check(fd, QCOW2_REPAIR_ALL);
		assert_sound(fd);
		assert_int_equal(check(fd, QCOW2_REPAIR_NOTHING).allocated, KIB(256) >> 9);
	}
}

static void test_two_entries_for_one_cluster(void **state)
{
	_cleanup_close_ int fd = create_small();

	(void)state;
	put(fd, l2_offset(fd) + 3 * ENTRY, get(fd, l2_offset(fd) + 4 * ENTRY));
	assert_int_equal(check(fd, QCOW2_REPAIR_NOTHING).low, 1);
	assert_int_equal(check(fd, QCOW2_REPAIR_NOTHING).leaks, 1);
	check(fd, QCOW2_REPAIR_ALL);
	assert_sound(fd);
	/* A write to either takes a cluster of its own then. */
	assert_false(get(fd, l2_offset(fd) + 3 * ENTRY) & QCOW2_COPIED);
	assert_false(get(fd, l2_offset(fd) + 4 * ENTRY) & QCOW2_COPIED);
}

static void test_entries_that_lie(void **state)
{
	static const uint64_t lies[] = {
		UINT64_C(1) << 55 | QCOW2_COPIED,   /* far behind the end */
		KIB(4) * 40 | QCOW2_COPIED,         /* just behind it */
		0x1200 | QCOW2_COPIED,              /* not aligned */
		QCOW2_COPIED,                       /* nowhere, and has but one reference */
		KIB(4) * 20 | QCOW2_COPIED | 1 << 1, /* reserved bits */
		KIB(4) * 20 | UINT64_C(1) << 56,
		UINT64_MAX,
		QCOW2_COMPRESSED | (QCOW2_COMPRESSED - 1),
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		_cleanup_close_ int fd = create_small();

		put(fd, l2_offset(fd) + 2 * ENTRY, lies[i]);
		assert_true(check(fd, QCOW2_REPAIR_NOTHING).broken > 0);
		assert_true(check(fd, QCOW2_REPAIR_ALL).broken > 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		_cleanup_close_ int fd = create_small();

		put(fd, read_header(fd).l1_offset, lies[i]);
		assert_true(check(fd, QCOW2_REPAIR_NOTHING).broken > 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		_cleanup_close_ int fd = create_small();

		put(fd, read_header(fd).refcount_table_offset, lies[i] | 1);
		assert_true(check(fd, QCOW2_REPAIR_ALL).broken > 0);
	}
}

static void test_metadata_as_data(void **state)
{
	(void)state;
	/* The header, the refcount table, its block, the L1 table. */
	for (uint64_t cluster = 0; cluster < 4; cluster++) {
		_cleanup_close_ int fd = create_small();

		put(fd, l2_offset(fd) + 2 * ENTRY, cluster << 12 | QCOW2_COPIED);
		put_count(fd, cluster, 2);
		assert_true(check(fd, QCOW2_REPAIR_ALL).broken > 0);
	}
}

static void test_l1_that_leads_to_itself(void **state)
{
	_cleanup_close_ int fd = create_small();

	(void)state;
	put(fd, read_header(fd).l1_offset, read_header(fd).l1_offset | QCOW2_COPIED);
	assert_true(check(fd, QCOW2_REPAIR_ALL).broken > 0);
}

static void test_snapshots_are_followed(void **state)
{
	_cleanup_close_ int fd = create_small();
	struct qcow2_header header = read_header(fd);
	struct qcow2_disk_snapshot snapshot = { .l1_table_offset = htobe64(header.l1_offset),
						.l1_size = htobe32(header.l1_size) };
	uint64_t end = (uint64_t)lseek(fd, 0, SEEK_END);

	(void)state;
	assert_int_equal(image_write(fd, &snapshot, sizeof(snapshot), end), 0);
	put32(fd, offsetof(struct qcow2_disk_header, nb_snapshots), 1);
	put(fd, offsetof(struct qcow2_disk_header, snapshots_offset), end);
	put_count(fd, end >> 12, 1);
	/* All data have two references now, and their L1 table, too, where none may. */
	assert_int_equal(check(fd, QCOW2_REPAIR_NOTHING).low, 18);
	assert_int_equal(check(fd, QCOW2_REPAIR_NOTHING).broken, 1);
	snapshot.extra_len = htobe32(UINT32_MAX);
	assert_int_equal(image_write(fd, &snapshot, sizeof(snapshot), end), 0);
	assert_int_equal(check(fd, QCOW2_REPAIR_NOTHING).broken, 1);
	assert_int_equal(check(fd, QCOW2_REPAIR_NOTHING).low, 0);
}

static void test_bitmaps_are_not_taken_for_leaks(void **state)
{
	_cleanup_close_ int fd = create_small();
	struct qcow2_findings findings;
	const char *reason = "";

	(void)state;
	put(fd, offsetof(struct qcow2_disk_header, autoclear_features), QCOW2_BITMAPS);
	assert_int_equal(qcow2_check(fd, QCOW2_REPAIR_LEAKS, &findings, &reason), -EOPNOTSUPP);
	assert_non_null(strstr(reason, "bitmaps"));
}

/* ---- headers ---- */

struct lie {
	const char *about;
	size_t offset;
	unsigned int width;
	uint64_t value;
	int err;
};

#define AT(field) offsetof(struct qcow2_disk_header, field), \
		  sizeof(((struct qcow2_disk_header *)NULL)->field)

static void test_headers_that_lie(void **state)
{
	static const struct lie lies[] = {
		{ "magic", AT(magic), 0x514649fc, -EMEDIUMTYPE },
		{ "version 1", AT(version), 1, -EOPNOTSUPP },
		{ "version 4", AT(version), 4, -EOPNOTSUPP },
		{ "small clusters", AT(cluster_bits), 8, -EUCLEAN },
		{ "large clusters", AT(cluster_bits), 22, -EUCLEAN },
		{ "no clusters", AT(cluster_bits), UINT32_MAX, -EUCLEAN },
		{ "odd size", AT(size), 513, -EUCLEAN },
		{ "negative size", AT(size), UINT64_MAX << 9, -EUCLEAN },
		{ "too large for L1", AT(size), MIB(64), -EUCLEAN },
		{ "encrypted", AT(crypt_method), 2, -EOPNOTSUPP },
		{ "short L1", AT(l1_size), 0, -EUCLEAN },
		{ "long L1", AT(l1_size), (MIB(32) >> 3) + 1, -EUCLEAN },
		{ "longest L1, not in the file", AT(l1_size), MIB(32) >> 3, -EUCLEAN },
		{ "L1 at 0", AT(l1_table_offset), 0, -EUCLEAN },
		{ "L1 not aligned", AT(l1_table_offset), KIB(12) + 8, -EUCLEAN },
		{ "L1 behind the end", AT(l1_table_offset), MIB(1), -EUCLEAN },
		{ "L1 where adding overflows", AT(l1_table_offset), UINT64_MAX << 12, -EUCLEAN },
		{ "L1 in the refcount table", AT(l1_table_offset), KIB(4), -EUCLEAN },
		{ "no refcount table", AT(refcount_table_offset), 0, -EUCLEAN },
		{ "refcount table not aligned", AT(refcount_table_offset), 4095, -EUCLEAN },
		{ "refcount table behind the end", AT(refcount_table_offset), MIB(1), -EUCLEAN },
		{ "empty refcount table", AT(refcount_table_clusters), 0, -EUCLEAN },
		{ "refcount table over L1", AT(refcount_table_clusters), 4, -EUCLEAN },
		{ "long refcount table", AT(refcount_table_clusters), 2049, -EUCLEAN },
		{ "endless refcount table", AT(refcount_table_clusters), UINT32_MAX, -EUCLEAN },
		{ "snapshots nowhere", AT(nb_snapshots), 1, -EUCLEAN },
		{ "too many snapshots", AT(nb_snapshots), 65537, -EUCLEAN },
		{ "data in another file", AT(incompatible_features), 4, -EOPNOTSUPP },
		{ "extended L2", AT(incompatible_features), 16, -EOPNOTSUPP },
		{ "unknown feature", AT(incompatible_features), UINT64_C(1) << 63, -EOPNOTSUPP },
		{ "zlib by two names", AT(incompatible_features), 8, -EUCLEAN },
		{ "zstd in secret", AT(compression_type), 1, -EUCLEAN },
		{ "unknown compression", AT(compression_type), 2, -EOPNOTSUPP },
		{ "counts of 128 bits", AT(refcount_order), 7, -EUCLEAN },
		{ "counts beyond", AT(refcount_order), UINT32_MAX, -EUCLEAN },
		{ "short header", AT(header_length), 96, -EUCLEAN },
		{ "odd header", AT(header_length), 108, -EUCLEAN },
		{ "header beyond its cluster", AT(header_length), KIB(4) + 8, -EUCLEAN },
		{ "endless header", AT(header_length), UINT32_MAX, -EUCLEAN },
		{ "a backing file without a name", AT(backing_file_offset), 512, -EUCLEAN },
		{ "a backing file in the header", AT(backing_file_offset), 8, -EUCLEAN },
		{ "a backing file far off", AT(backing_file_offset), UINT64_MAX, -EUCLEAN },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		_cleanup_close_ int fd = create_small();
		const uint64_t value = htobe64(lies[i].value << (64 - 8 * lies[i].width));
		struct qcow2_header header;
		const char *reason = NULL;
		uint64_t size;
		int r;

		assert_int_equal(image_write(fd, &value, lies[i].width, lies[i].offset), 0);
		r = qcow2_header_read(fd, &header, &size, &reason);
		if (r != lies[i].err)
			fail_msg("%s: %d, not %d", lies[i].about, r, lies[i].err);
		assert_non_null(reason);
	}
}

static void test_extensions_that_lie(void **state)
{
	static const uint32_t lies[][2] = {
		{ QCOW2_EXTENSION_BACKING_FORMAT, QCOW2_BACKING_FORMAT_MAX + 1 },
		{ QCOW2_EXTENSION_BACKING_FORMAT, 8 }, /* of NULs */
		{ 1, UINT32_MAX }, { 1, KIB(4) },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		_cleanup_close_ int fd = create_small();
		struct qcow2_header header;
		const char *reason = NULL;
		uint64_t size;

		put32(fd, sizeof(struct qcow2_disk_header), lies[i][0]);
		put32(fd, sizeof(struct qcow2_disk_header) + 4, lies[i][1]);
		assert_int_equal(qcow2_header_read(fd, &header, &size, &reason), -EUCLEAN);
	}
}

static void test_cut_anywhere(void **state)
{
	_cleanup_close_ int fd = create_small();
	off_t size = lseek(fd, 0, SEEK_END);

	(void)state;
	while (size > 0) {
		struct qcow2_findings findings = { 0 };
		struct qcow2_header header;
		const char *reason = NULL;
		uint64_t file_size;
		int r;

		size -= size > 600 ? 509 : 1;
		assert_int_equal(ftruncate(fd, size), 0);
		r = qcow2_header_read(fd, &header, &file_size, &reason);
		/* The L1 table's only entry is what has to be there. */
		assert_int_equal(r == 0, size >= 3 * 4096 + (off_t)ENTRY);
		assert_int_equal(qcow2_check(fd, QCOW2_REPAIR_NOTHING, &findings, &reason), r);
		/* The last cluster may be there in part, and one behind it. */
		if (r == 0 && size <= 18 * 4096)
			assert_true(qcow2_corruptions(&findings) > 0);
	}
}

static void test_version_2(void **state)
{
	_cleanup_close_ int fd = create_small();
	uint8_t rest[64] = { 0 };

	(void)state;
	put32(fd, offsetof(struct qcow2_disk_header, version), 2);
	assert_int_equal(image_write(fd, rest, sizeof(rest), QCOW2_HEADER_V2), 0);
	assert_int_equal(read_header(fd).refcount_order, 4);
	assert_int_equal(read_header(fd).length, QCOW2_HEADER_V2);
	assert_sound(fd);
	/* Which knows no clusters of zeros. */
	put(fd, l2_offset(fd), get(fd, l2_offset(fd)) | QCOW2_ZERO);
	assert_int_equal(check(fd, QCOW2_REPAIR_NOTHING).broken, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_created_images_are_sound),
		cmocka_unit_test(test_every_width_of_counts),
		cmocka_unit_test(test_counts_of_every_width),
		cmocka_unit_test(test_too_large_for_its_clusters),
		cmocka_unit_test(test_writing_zeros_can_be_ended),
		cmocka_unit_test(test_backing_name_comes_back),
		cmocka_unit_test(test_resize_keeps_what_is_there),
		cmocka_unit_test(test_a_longer_refcount_table),
		cmocka_unit_test(test_shrinking_gives_clusters_back),
		cmocka_unit_test(test_damaged_images_are_not_resized),
		cmocka_unit_test(test_leaks),
		cmocka_unit_test(test_counts_that_are_too_low),
		cmocka_unit_test(test_blocks_that_are_missing),
		cmocka_unit_test(test_two_entries_for_one_cluster),
		cmocka_unit_test(test_entries_that_lie),
		cmocka_unit_test(test_metadata_as_data),
		cmocka_unit_test(test_l1_that_leads_to_itself),
		cmocka_unit_test(test_snapshots_are_followed),
		cmocka_unit_test(test_bitmaps_are_not_taken_for_leaks),
		cmocka_unit_test(test_headers_that_lie),
		cmocka_unit_test(test_extensions_that_lie),
		cmocka_unit_test(test_cut_anywhere),
		cmocka_unit_test(test_version_2),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
