// SPDX-License-Identifier: Apache-2.0
/*
 * The qcow2 engine against a flat copy of what the disk should have, and its
 * files against qemu-img, where that is installed.
 */
#include <endian.h>
#include <fcntl.h>
#include <stdio.h>
#include "devices/block/image.h"
#include "devices/block/qcow2.h"
#include "tests/unit/qcow2.h"

#define OPERATIONS 400

static void test_own_image(void **state)
{
	static const struct { uint32_t cluster_bits, refcount_order; } table[] = {
		{ 9, 6 }, { 9, 0 }, { 12, 4 }, { 16, 4 }, { 16, 3 }, { 21, 4 }, { 10, 5 }, { 9, 2 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct image *image = disk_new(table[i].cluster_bits);

		disk_create(image, table[i].cluster_bits, table[i].refcount_order);
		disk_exercise(image, "", OPERATIONS);
		disk_exercise(image, "", OPERATIONS);
		disk_free(image);
	}
}

static void test_engines(void **state)
{
	static const char *const options[] = { "engine=sync", "engine=uring", "cache=64K", "" };

	(void)state;
	for (size_t i = 0; i < 2 * ARRAY_SIZE(options); i++) {
		uint32_t bits = i % 2 ? 12 : 20;
		struct image *image = disk_new(bits);

		disk_create(image, bits, 4);
		if (disk_try_open(image, options[i / 2]) == 0) {
			disk_change(image, OPERATIONS);
			disk_many(image, OPERATIONS);
			disk_verify(image);
		}
		disk_free(image);
	}
}

/* qemu-img's images of every kind are changed here, and what qemu-img sees then is right. */
static void test_qemu_options(void **state)
{
	static const char *const compat[] = {
		"compat=0.10", "compat=1.1,refcount_bits=1", "compat=1.1,refcount_bits=2",
		"compat=1.1,refcount_bits=4", "compat=1.1,refcount_bits=8",
		"compat=1.1,refcount_bits=16,lazy_refcounts=on", "compat=1.1,refcount_bits=32",
		"compat=1.1,refcount_bits=64,preallocation=metadata",
		"compat=1.1,compression_type=zstd",
	};

	(void)state;
	needs_qemu_img();
	for (uint32_t bits = 9; bits <= 21; bits += bits == 9 ? 3 : bits == 16 ? 5 : 4)
		for (size_t i = 0; i < ARRAY_SIZE(compat); i++) {
			struct image *image = disk_new(bits);

			run_command("qemu-img create -q -f qcow2 -o cluster_size=%u,%s %s %" PRIu64,
				    1u << bits, compat[i], image->path, image->size);
			disk_exercise(image, "", OPERATIONS / 2);
			disk_free(image);
		}
}

static void compressed(uint32_t bits, const char *type)
{
	struct image *image = disk_new(bits);

	disk_fill(image);
	disk_save_model(image, "raw");
	run_command("qemu-img convert -q -c -f raw -O qcow2 "
		    "-o cluster_size=%u,compression_type=%s %s.raw %s",
		    1u << bits, type, image->path, image->path);
	disk_open(image, "ro");
	disk_compare(image);
	disk_close(image);
	disk_open(image, "");
	disk_change(image, OPERATIONS);
	disk_verify(image);
	disk_free(image);
}

static void test_compressed(void **state)
{
	(void)state;
	needs_qemu_img();
	for (uint32_t bits = 9; bits <= 21; bits += bits == 9 ? 3 : bits == 16 ? 5 : 4) {
		compressed(bits, "zlib");
		compressed(bits, "zstd");
	}
}

static void backed(const char *format, const char *compat)
{
	struct image *image = disk_new(16);
	char base[80];

	disk_fill(image);
	disk_save_model(image, "raw");
	/* Behind the end of what it is based on a disk is empty. */
	disk_lengthen(image, image->size + MIB(1));
	snprintf(base, sizeof(base), "%s.base", image->path);
	run_command("qemu-img convert -q -f raw -O %s %s.raw %s", format, image->path, base);
	run_command("qemu-img create -q -f qcow2 -o compat=%s -b %s -F %s %s %" PRIu64, compat,
		    base, format, image->path, image->size);
	assert_int_equal(disk_try_open(image, ""), -EXDEV);
	disk_open(image, "backing");
	assert_false(image->disk.reads_zeroes);
	disk_compare(image);
	disk_close(image);
	disk_exercise(image, "backing", OPERATIONS);
	/* The base is as it was. */
	run_command("qemu-img compare -q -f raw -F %s %s.raw %s", format, image->path, base);
	disk_free(image);
}

static void test_backing(void **state)
{
	(void)state;
	needs_qemu_img();
	backed("raw", "1.1");
	backed("raw", "0.10");
	backed("qcow2", "1.1");
	backed("qcow2", "0.10");
}

static void test_snapshots(void **state)
{
	struct image *image;

	(void)state;
	needs_qemu_img();
	image = disk_new(12);
	run_command("qemu-img create -q -f qcow2 -o cluster_size=4096 %s %" PRIu64, image->path,
		    image->size);
	disk_open(image, "");
	disk_change(image, OPERATIONS);
	disk_close(image);
	disk_save_model(image, "one");
	run_command("qemu-img snapshot -c one %s", image->path);
	disk_open(image, "");
	disk_compare(image);
	disk_change(image, OPERATIONS);
	disk_verify(image);
	run_command("qemu-img snapshot -a one %s", image->path);
	run_command("qemu-img compare -q -f raw -F qcow2 %s.one %s", image->path, image->path);
	disk_free(image);
}

/* The file holds what the disk holds, and no more. */
static void test_discard_gives_back(void **state)
{
	struct image *image = disk_new(16);
	uint64_t before;

	(void)state;
	disk_create(image, 16, 4);
	disk_open(image, "");
	assert_true(image->disk.reads_zeroes);
	disk_write_all(image);
	before = disk_blocks(image);
	assert_int_equal(disk_range(image, BLOCK_DISCARD, 0, image->size, true), 0);
	assert_int_equal(disk_flush(image), 0);
	assert_true(disk_blocks(image) < before / 4);
	memset(image->model, 0, image->size);
	disk_verify(image);
	disk_free(image);
}

static void test_grows(void **state)
{
	static const uint32_t bits[] = { 9, 12, 16 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bits); i++) {
		struct image *image = disk_new(bits[i]);
		uint64_t before = image->size;

		disk_create(image, bits[i], 4);
		disk_open(image, "");
		disk_change(image, OPERATIONS);
		assert_int_equal(block_disk_resize(&image->disk, 0), 0);
		assert_int_equal(block_disk_resize(&image->disk, before - 512), -EINVAL);
		disk_lengthen(image, before + MIB(5));
		assert_int_equal(block_disk_resize(&image->disk, image->size), 0);
		assert_int_equal(image->disk.image.size, image->size);
		disk_compare(image);
		disk_change(image, OPERATIONS);
		disk_reopen(image);
		disk_verify(image);
		disk_free(image);
	}
}

/* A table longer than a slice of it in the cache: what crosses its border is not lost. */
static void test_border_of_slices(void **state)
{
	struct image *image = disk_new(13);

	(void)state;
	disk_lengthen(image, MIB(8));
	disk_create(image, 13, 4);
	disk_open(image, "");
	assert_int_equal(disk_write(image, MIB(4) - KIB(32), KIB(64)), 0);
	disk_verify(image);
	disk_free(image);
}

/* Lazy refcounts that nobody has written: they are made up for. */
static void test_dirty(void **state)
{
	struct image *image;
	const __be64 dirty = htobe64(QCOW2_DIRTY), bitmaps = htobe64(QCOW2_BITMAPS);

	(void)state;
	image = disk_new(12);
	disk_create(image, 12, 4);
	disk_open(image, "");
	disk_change(image, OPERATIONS);
	disk_close(image);
	disk_poke(image, offsetof(struct qcow2_disk_header, incompatible_features), &dirty,
		   sizeof(dirty));
	disk_clear_refcounts(image);
	disk_open(image, "ro");
	disk_compare(image);
	disk_close(image);
	disk_open(image, "");
	disk_change(image, OPERATIONS);
	disk_verify(image);
	disk_poke(image, offsetof(struct qcow2_disk_header, incompatible_features), &dirty,
		   sizeof(dirty));
	disk_poke(image, offsetof(struct qcow2_disk_header, autoclear_features), &bitmaps,
		   sizeof(bitmaps));
	assert_int_equal(disk_try_open(image, ""), -ENOPKG);
	disk_free(image);
}

/* The mark is there while counts may be wrong, and only then. */
static void test_lazy(void **state)
{
	struct image *image = disk_new(12);
	struct qcow2_header header;

	(void)state;
	image->lazy = true;
	disk_create(image, 12, 4);
	disk_open(image, "");
	disk_header(image, &header);
	assert_false(header.incompatible & QCOW2_DIRTY);
	assert_int_equal(disk_write(image, 0, 4096), 0);
	assert_int_equal(disk_flush(image), 0);
	disk_header(image, &header);
	assert_true(header.incompatible & QCOW2_DIRTY);
	image->queue.ops->drain(image->queue.engine);
	disk_header(image, &header);
	assert_false(header.incompatible & QCOW2_DIRTY);
	disk_verify(image);
	disk_exercise(image, "", OPERATIONS);
	disk_free(image);
}

static void test_corrupt(void **state)
{
	struct image *image = disk_new(12);
	const __be64 corrupt = htobe64(QCOW2_CORRUPT);

	(void)state;
	disk_create(image, 12, 4);
	disk_poke(image, offsetof(struct qcow2_disk_header, incompatible_features), &corrupt,
		   sizeof(corrupt));
	assert_int_equal(disk_try_open(image, ""), -EUCLEAN);
	disk_open(image, "ro");
	disk_compare(image);
	disk_close(image);
	disk_free(image);
}

/* An entry that leads to the L1 table: the guest does not get to write there. */
static void test_lie_at_run_time(void **state)
{
	struct image *image = disk_new(12);
	struct qcow2_header header;
	__be64 entry, features;

	(void)state;
	disk_create(image, 12, 4);
	disk_open(image, "");
	disk_write_all(image);
	disk_close(image);
	disk_header(image, &header);
	entry = htobe64(header.l1_offset | QCOW2_COPIED);
	disk_poke(image, disk_l2_place(image, 0), &entry, sizeof(entry));
	disk_open(image, "");
	assert_int_equal(disk_write(image, 0, 4096), -EIO);
	assert_int_equal(disk_write(image, 8192, 4096), -EIO);
	assert_int_equal(disk_read(image, 8192, 4096), 0);
	disk_close(image);
	disk_peek(image, offsetof(struct qcow2_disk_header, incompatible_features), &features,
		   sizeof(features));
	assert_true(be64toh(features) & QCOW2_CORRUPT);
	assert_int_equal(disk_try_open(image, ""), -EUCLEAN);
	disk_free(image);
}

/* L1 entries and refcount blocks that lead where they must not: none of them is followed. */
static void test_tables_that_lie(void **state)
{
	struct image *image = disk_new(12);
	struct qcow2_header header;
	uint64_t l2;

	(void)state;
	disk_create(image, 12, 4);
	disk_open(image, "");
	disk_write_all(image);
	disk_close(image);
	disk_header(image, &header);
	l2 = disk_l2_place(image, 0);
	const struct { uint64_t place, entry; } table[] = {
		{ header.l1_offset, (l2 + 512) | QCOW2_COPIED },
		{ header.l1_offset, GIB(1) | QCOW2_COPIED },
		{ header.l1_offset, QCOW2_COPIED },
		{ header.l1_offset, l2 | 1 },
		{ header.l1_offset, header.l1_offset | QCOW2_COPIED },
		{ header.l1_offset, header.refcount_table_offset | QCOW2_COPIED },
		{ header.refcount_table_offset, l2 },
		{ header.refcount_table_offset, header.l1_offset },
		{ header.refcount_table_offset, header.refcount_table_offset },
		{ header.refcount_table_offset, GIB(1) },
		{ header.refcount_table_offset, 512 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		__be64 before, entry = htobe64(table[i].entry);

		disk_peek(image, table[i].place, &before, sizeof(before));
		disk_poke(image, table[i].place, &entry, sizeof(entry));
		assert_int_equal(disk_try_open(image, ""), -EUCLEAN);
		assert_int_equal(disk_try_open(image, "ro"), -EUCLEAN);
		disk_poke(image, table[i].place, &before, sizeof(before));
	}
	disk_open(image, "");
	disk_compare(image);
	disk_close(image);
	disk_free(image);
}

/* A table, or the header, with some of its bytes changed. */
static void spoil(const struct image *image, const struct qcow2_header *header)
{
	const uint64_t places[] = { 0, header->l1_offset, header->refcount_table_offset,
				    disk_l2_place(image, 0), header->refcount_table_offset + 4096 };
	uint64_t place = places[rand() % ARRAY_SIZE(places)], bytes = place ? 4096 : 112;

	for (int i = 1 + rand() % 4; i; i--) {
		uint8_t byte = (uint8_t)(rand() % 2 ? 1 << rand() % 8 : rand());

		disk_poke(image, place + (uint64_t)rand() % bytes, &byte, 1);
	}
}

/* Whatever becomes of the image, what it is asked for ends, and nothing is touched but the file. */
static void test_spoilt(void **state)
{
	struct image *image = disk_new(12);
	struct qcow2_header header;
	uint8_t *whole;
	struct stat st;
	int opened = 0;

	(void)state;
	disk_create(image, 12, 4);
	disk_open(image, "");
	disk_change(image, OPERATIONS);
	disk_close(image);
	disk_header(image, &header);
	assert_int_equal(stat(image->path, &st), 0);
	whole = malloc((size_t)st.st_size);
	assert_non_null(whole);
	disk_peek(image, 0, whole, (size_t)st.st_size);
	for (int i = 0; i < 300; i++) {
		assert_int_equal(truncate(image->path, st.st_size), 0);
		disk_poke(image, 0, whole, (size_t)st.st_size);
		spoil(image, &header);
		if (disk_try_open(image, rand() % 8 ? "" : "ro") < 0)
			continue;
		opened++;
		for (int j = 0; j < 20; j++) {
			uint64_t at = (uint64_t)rand() % (image->disk.image.size / 512) * 512;
			uint64_t len = util_min(KIB(32), image->disk.image.size - at);

			disk_read(image, at, len);
			disk_range(image, BLOCK_DISCARD, at, len / 2, true);
			if (at + len <= image->size)
				disk_write(image, at, len);
		}
		disk_flush(image);
		disk_close(image);
	}
	assert_true(opened > 50);
	free(whole);
	disk_free(image);
}

static void test_refusals(void **state)
{
	struct image *image = disk_new(16);
	struct block_queue second;
	char byte = 0;

	(void)state;
	disk_poke(image, 0, "not an image", 12);
	assert_int_equal(disk_try_open(image, ""), -EILSEQ);
	disk_create(image, 16, 4);
	disk_open(image, "ro");
	assert_int_equal(block_queue_open(&image->disk, 8, &second), -EUSERS);
	assert_int_equal(disk_write(image, 0, 512), -EROFS);
	assert_int_equal(disk_range(image, BLOCK_ZERO, 0, 512, false), -EROFS);
	assert_int_equal(disk_flush(image), 0);
	disk_close(image);
	disk_poke(image, 32 + 3, "\1", 1); /* crypt_method */
	assert_int_equal(disk_try_open(image, ""), -ENOPKG);
	disk_poke(image, 32 + 3, &byte, 1);
	disk_poke(image, 79, "\x10", 1); /* extended L2 */
	assert_int_equal(disk_try_open(image, ""), -ENOPKG);
	disk_free(image);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_own_image),
		cmocka_unit_test(test_engines),
		cmocka_unit_test(test_qemu_options),
		cmocka_unit_test(test_compressed),
		cmocka_unit_test(test_backing),
		cmocka_unit_test(test_snapshots),
		cmocka_unit_test(test_discard_gives_back),
		cmocka_unit_test(test_grows),
		cmocka_unit_test(test_border_of_slices),
		cmocka_unit_test(test_dirty),
		cmocka_unit_test(test_lazy),
		cmocka_unit_test(test_corrupt),
		cmocka_unit_test(test_lie_at_run_time),
		cmocka_unit_test(test_tables_that_lie),
		cmocka_unit_test(test_spoilt),
		cmocka_unit_test(test_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
