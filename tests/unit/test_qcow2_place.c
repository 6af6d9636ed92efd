// SPDX-License-Identifier: Apache-2.0
/* Writes that take new places: of a file that has no room or is slow, and one that others use. */
#include <errno.h>
#include "devices/block/qcow2_run.h"
#include "tests/unit/qcow2.h"

#define BITS 16
#define CLUSTER KIB(64)
#define SEGMENT 4096

/* The file's queue, with writes that go as a test wants. */
struct stage {
	struct block_engine_ops ops;
	struct qcow2 *qcow2;
	struct block_request *held;
	unsigned int writes;
};

static struct stage stage;

static void use(struct image *image,
		void (*submit)(struct block_engine *engine, struct block_request *request))
{
	stage = (struct stage){ .ops = block_sync, .qcow2 = image->disk.own };
	stage.ops.submit = submit;
	((struct block_queue *)stage.qcow2->child)->ops = &stage.ops;
}

static void submit_full(struct block_engine *engine, struct block_request *request)
{
	if (request->op == BLOCK_WRITE)
		request->done(request, -ENOSPC);
	else
		block_sync.submit(engine, request);
}

static void submit_held(struct block_engine *engine, struct block_request *request)
{
	if (request->op != BLOCK_WRITE) {
		block_sync.submit(engine, request);
		return;
	}
	assert_null(stage.held);
	stage.held = request;
}

/* L2 must wait for each of them. */
static void submit_ordered(struct block_engine *engine, struct block_request *request)
{
	if (request->op == BLOCK_WRITE)
		assert_int_equal(stage.qcow2->moving, 1);
	stage.writes++;
	block_sync.submit(engine, request);
}

static void submit_whole_blocks(struct block_engine *engine, struct block_request *request)
{
	assert_int_equal(request->len % stage.qcow2->image->block_size, 0);
	stage.writes++;
	block_sync.submit(engine, request);
}

static void create_on(const struct image *image, uint64_t size, const char *base,
		      const char *format)
{
	struct qcow2_header header = { .size = size, .cluster_bits = BITS, .refcount_order = 4 };
	int fd = open(image->path, O_RDWR | O_TRUNC | O_CLOEXEC);

	assert_true(fd >= 0);
	snprintf(header.backing, sizeof(header.backing), "%s", base);
	snprintf(header.backing_format, sizeof(header.backing_format), "%s", format);
	assert_int_equal(qcow2_create(fd, &header, IMAGE_OFF, NULL), 0);
	close(fd);
}

/* A disk that is full of what its backing file has. */
static struct image *new_backed(uint64_t size)
{
	struct image *image = disk_new(BITS);
	char base[80];

	disk_lengthen(image, size);
	disk_fill(image);
	disk_save_model(image, "base");
	snprintf(base, sizeof(base), "%s.base", image->path);
	create_on(image, image->size, base, "raw");
	disk_open(image, "backing,engine=sync");
	use(image, block_sync.submit);
	return image;
}

static struct image *new_compressed(void)
{
	struct image *image = disk_new(BITS);

	disk_fill(image);
	disk_save_model(image, "raw");
	run_command("qemu-img convert -q -c -f raw -O qcow2 %s.raw %s", image->path, image->path);
	disk_open(image, "engine=sync");
	return image;
}

static struct image *new_snapshot(void)
{
	struct image *image = disk_new(BITS);

	disk_create(image, BITS, 4);
	disk_open(image, "");
	disk_write_all(image);
	disk_close(image);
	run_command("qemu-img snapshot -c one %s", image->path);
	disk_open(image, "engine=sync");
	return image;
}

/* Zeroes that have places of their own, in which there is something else. */
static struct image *new_zeroed(void)
{
	struct image *image = disk_new(BITS);

	disk_create(image, BITS, 4);
	disk_open(image, "engine=sync");
	disk_write_all(image);
	assert_int_equal(disk_range(image, BLOCK_ZERO, 0, image->size, false), 0);
	memset(image->model, 0, image->size);
	return image;
}

/* The host has no room: the guest is told, and has what it had. */
static void keeps_what_it_had(struct image *image)
{
	use(image, submit_full);
	assert_int_equal(disk_write(image, 0, 4 * CLUSTER), -ENOSPC);
	assert_int_equal(disk_write(image, 6 * CLUSTER + 512, 2 * CLUSTER), -ENOSPC);
	assert_int_equal(disk_write(image, 10 * CLUSTER, 512), -ENOSPC);
	disk_compare(image);
	assert_int_equal(disk_flush(image), 0);
	disk_compare(image);
	disk_reopen(image);
	disk_compare(image);
	assert_int_equal(disk_write(image, 512, 4 * CLUSTER), 0);
	disk_verify(image);
	disk_free(image);
}

static void test_no_room(void **state)
{
	(void)state;
	keeps_what_it_had(new_backed(MIB(4)));
	keeps_what_it_had(new_zeroed());
}

static void test_no_room_for_shared(void **state)
{
	(void)state;
	needs_qemu_img();
	keeps_what_it_had(new_compressed());
	keeps_what_it_had(new_snapshot());
}

/* Another write to the cluster comes after the first, and is not lost with it. */
static void test_same_cluster(void **state)
{
	struct image *image = new_backed(MIB(4));
	struct disk_request first, second;
	struct block_request *held;

	(void)state;
	use(image, submit_held);
	memset(image->buffer, 0x5a, 2 * SEGMENT);
	disk_prepare(&first, BLOCK_WRITE, image->buffer, 0, SEGMENT);
	disk_prepare(&second, BLOCK_WRITE, image->buffer, SEGMENT, SEGMENT);
	disk_submit(image, &first);
	held = stage.held;
	assert_non_null(held);
	disk_submit(image, &second);
	assert_ptr_equal(stage.held, held);
	use(image, block_sync.submit);
	held->done(held, -ENOSPC);
	assert_int_equal(disk_wait(image, &first), -ENOSPC);
	assert_int_equal(disk_wait(image, &second), 0);
	memset(image->model + SEGMENT, 0x5a, SEGMENT);
	disk_verify(image);
	disk_free(image);
}

static int write_segments(struct image *image, uint64_t offset, const struct iovec *iov,
			  unsigned int count)
{
	struct disk_request request = {
		.io = { .op = BLOCK_WRITE, .offset = offset, .iov = iov, .iov_count = count },
	};
	int r;

	for (unsigned int i = 0; i < count; i++)
		request.io.len += iov[i].iov_len;
	memset(image->buffer, 0xa5, request.io.len);
	disk_submit(image, &request);
	r = disk_wait(image, &request);
	memset(image->model + offset, 0xa5, request.io.len);
	return r;
}

/* More segments than a step moves, for more clusters than the reserve has left. */
static void test_many_segments(void **state)
{
	struct image *image = new_backed(MIB(8));
	struct iovec iov[256];

	(void)state;
	assert_int_equal(disk_write(image, 0, CLUSTER), 0);
	while (stage.qcow2->reserve.count > 4)
		assert_int_equal(disk_write(image, MIB(7) - stage.qcow2->reserve.count * CLUSTER,
					    CLUSTER), 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(iov); i++)
		iov[i] = (struct iovec){ image->buffer + i * SEGMENT, SEGMENT };
	use(image, submit_ordered);
	assert_int_equal(write_segments(image, MIB(1), iov, ARRAY_SIZE(iov)), 0);
	assert_true(stage.writes >= ARRAY_SIZE(iov) / 32);
	use(image, block_sync.submit);
	disk_verify(image);
	disk_free(image);
}

/* Of pieces that are not whole blocks, a step moves as many as make some. */
static void test_pieces_of_blocks(void **state)
{
	struct image *image = new_backed(MIB(4));
	uint8_t *at = image->buffer;
	struct iovec iov[40];

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(iov); at += iov[i++].iov_len)
		iov[i] = (struct iovec){ at, i == 0 ? 3584 : i == 39 ? 512 : SEGMENT };
	image->disk.image.block_size = SEGMENT;
	use(image, submit_whole_blocks);
	assert_int_equal(write_segments(image, MIB(1), iov, ARRAY_SIZE(iov)), 0);
	assert_true(stage.writes > 1);
	use(image, block_sync.submit);
	disk_verify(image);
	disk_free(image);
}

/* Nobody writes to what others are based on. */
static void test_base_is_locked(void **state)
{
	struct image *base = disk_new(BITS), *image = disk_new(BITS);
	struct block_image other;

	(void)state;
	disk_create(base, BITS, 4);
	create_on(image, image->size, base->path, "qcow2");
	disk_open(image, "backing");
	assert_int_equal(block_image_open(&other, base->path, false, false), -EAGAIN);
	disk_close(image);
	assert_int_equal(block_image_open(&other, base->path, false, false), 0);
	block_image_close(&other);
	disk_free(image);
	disk_free(base);
}

/* What the backing file has behind the disk's end does not come to light. */
static void test_longer_base(void **state)
{
	struct image *image = disk_new(BITS);
	char base[80];

	(void)state;
	disk_fill(image);
	disk_save_model(image, "base");
	snprintf(base, sizeof(base), "%s.base", image->path);
	create_on(image, MIB(2), base, "raw");
	image->size = MIB(2);
	disk_open(image, "backing");
	assert_int_equal(block_disk_resize(&image->disk, MIB(3)), -ENOTEMPTY);
	disk_verify(image);
	disk_free(image);
}

/* A new L1 table for which the refcount table has to grow: both have room for all they lead to. */
static void test_both_tables_grow(void **state)
{
	struct image *image = disk_new(9);
	struct qcow2 *q;

	(void)state;
	disk_create(image, 9, 6);
	disk_open(image, "engine=sync");
	q = image->disk.own;
	/* Up to the last of the clusters that it counts. */
	for (uint64_t at = 0; q->file_size >> 9 < 64 * 64 - 1; at += 512) {
		assert_int_equal(disk_write(image, at, 512), 0);
		image->queue.ops->drain(image->queue.engine);
	}
	assert_int_equal(q->header.refcount_table_clusters, 1);
	disk_lengthen(image, image->size + MIB(4));
	assert_int_equal(block_disk_resize(&image->disk, image->size), 0);
	assert_int_equal(q->header.refcount_table_clusters, 2);
	assert_true(q->tables.room >= q->header.l1_size + qcow2_refcount_entries(&q->header));
	disk_write_all(image);
	disk_verify(image);
	disk_free(image);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_room),
		cmocka_unit_test(test_no_room_for_shared),
		cmocka_unit_test(test_same_cluster),
		cmocka_unit_test(test_many_segments),
		cmocka_unit_test(test_pieces_of_blocks),
		cmocka_unit_test(test_base_is_locked),
		cmocka_unit_test(test_longer_base),
		cmocka_unit_test(test_both_tables_grow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
