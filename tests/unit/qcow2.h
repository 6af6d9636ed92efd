/* SPDX-License-Identifier: Apache-2.0 */
/* A qcow2 disk, what it should read as, and random changes of both. */
#ifndef TESTS_UNIT_QCOW2_H
#define TESTS_UNIT_QCOW2_H

#include <endian.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include "devices/block/block.h"
#include "devices/block/image.h"
#include "devices/block/qcow2.h"
#include "tests/lib/child.h"

#define IMAGE_DEPTH 16
#define IMAGE_PIECES 5

struct disk_request {
	struct block_request io;
	struct iovec iov[IMAGE_PIECES];
	bool over;
	int result;
};

struct image {
	char path[64];
	uint64_t size;
	bool lazy; /* refcounts */
	uint8_t *model, *buffer;
	struct block_conf conf;
	struct block_disk disk;
	struct block_queue queue;
};

__attribute__((format(printf, 1, 2)))
static inline void run_command(const char *format, ...)
{
	char command[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	if (system(command) != 0)
		fail_msg("%s", command);
}

static inline bool have_qemu_img(void)
{
	return system("command -v qemu-img >/dev/null") == 0;
}

static inline void needs_qemu_img(void)
{
	if (have_qemu_img())
		return;
	print_message("skipped: this host has no qemu-img\n");
	skip();
}

static inline struct image *disk_new(uint32_t cluster_bits)
{
	struct image *image = calloc(1, sizeof(*image));
	int fd;

	assert_non_null(image);
	/* Memory, where there is some, as the tests are not about how fast a host syncs. */
	snprintf(image->path, sizeof(image->path), "%s/microvm-qcow2-XXXXXX",
		 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	fd = mkstemp(image->path);
	assert_true(fd >= 0);
	close(fd);
	/* Many clusters, but no more bytes than it takes; the last one is not whole. */
	image->size = util_max(MIB(3), 12ULL << cluster_bits) + 1536;
	image->model = calloc(1, image->size);
	image->buffer = malloc(image->size + MIB(1));
	assert_true(image->model && image->buffer);
	return image;
}

/* What it should read as then: the disk itself stays as long as it is. */
static inline void disk_lengthen(struct image *image, uint64_t size)
{
	image->model = realloc(image->model, size);
	image->buffer = realloc(image->buffer, size + MIB(1));
	assert_true(image->model && image->buffer);
	memset(image->model + image->size, 0, size - image->size);
	image->size = size;
}

static inline void disk_free(struct image *image)
{
	run_command("rm -f %s %s.*", image->path, image->path);
	free(image->model);
	free(image->buffer);
	free(image);
}

static inline void disk_create(struct image *image, uint32_t cluster_bits, uint32_t order)
{
	const struct qcow2_header header = {
		.version = 3,
		.size = image->size,
		.cluster_bits = cluster_bits,
		.refcount_order = order,
		.compatible = image->lazy ? QCOW2_LAZY_REFCOUNTS : 0,
	};
	int fd = open(image->path, O_RDWR | O_TRUNC | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(qcow2_create(fd, &header, IMAGE_OFF, NULL), 0);
	close(fd);
}

static inline void disk_poke(const struct image *image, uint64_t offset, const void *data,
			      size_t len)
{
	int fd = open(image->path, O_RDWR | O_CLOEXEC);

	assert_int_equal(pwrite(fd, data, len, (off_t)offset), len);
	close(fd);
}

static inline void disk_peek(const struct image *image, uint64_t offset, void *data, size_t len)
{
	int fd = open(image->path, O_RDWR | O_CLOEXEC);

	assert_int_equal(pread(fd, data, len, (off_t)offset), len);
	close(fd);
}

static inline void disk_header(const struct image *image, struct qcow2_header *header)
{
	int fd = open(image->path, O_RDONLY | O_CLOEXEC);
	const char *reason;
	uint64_t size;

	assert_int_equal(qcow2_header_read(fd, header, &size, &reason), 0);
	close(fd);
}

/* Where in the file the L2 entry of the disk's first cluster is. */
static inline uint64_t disk_l2_place(const struct image *image, uint64_t index)
{
	struct qcow2_header header;
	__be64 l1;

	disk_header(image, &header);
	disk_peek(image, header.l1_offset, &l1, sizeof(l1));
	return (be64toh(l1) & QCOW2_OFFSET) + index * sizeof(l1);
}

static inline void disk_clear_refcounts(const struct image *image)
{
	static const uint8_t zeroes[4096];
	struct qcow2_header header;
	__be64 block;

	disk_header(image, &header);
	disk_peek(image, header.refcount_table_offset, &block, sizeof(block));
	disk_poke(image, be64toh(block), zeroes,
		  util_min(sizeof(zeroes), qcow2_cluster_size(&header)));
}

/* The kernel takes rings apart in the background, and their files, which are locked, with them. */
static inline void disk_wait_unlocked(const struct image *image)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	const struct timespec moment = { .tv_nsec = 1000000 };
	int fd = open(image->path, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	while (fcntl(fd, F_OFD_SETLK, &lock) < 0)
		nanosleep(&moment, NULL);
	close(fd);
}

static inline void disk_close(struct image *image)
{
	if (image->queue.engine)
		image->queue.ops->drain(image->queue.engine);
	block_queue_close(&image->queue);
	block_disk_close(&image->disk);
	disk_wait_unlocked(image);
}

/* options: words that the disk's options begin with. */
static inline int disk_try_open(struct image *image, const char *options)
{
	int r;

	image->conf = (struct block_conf){
		.path = image->path,
		.format = BLOCK_FORMAT_QCOW2,
		.read_only = !strcmp(options, "ro"),
		.backing = strstr(options, "backing"),
		.cache_size = !strcmp(options, "cache=64K") ? KIB(64) : 0,
		.engine = !strcmp(options, "engine=uring") ? BLOCK_ENGINE_URING :
			  strstr(options, "engine=sync") ? BLOCK_ENGINE_SYNC : BLOCK_ENGINE_AUTO,
	};
	r = block_disk_open(&image->disk, &image->conf);
	if (r == 0)
		r = block_queue_open(&image->disk, IMAGE_DEPTH, &image->queue);
	if (r == 0)
		r = image->queue.ops->start(image->queue.engine);
	if (r < 0)
		disk_close(image);
	return r;
}

static inline void disk_open(struct image *image, const char *options)
{
	assert_int_equal(disk_try_open(image, options), 0);
	assert_int_equal(image->disk.image.size, image->size);
}

static inline void disk_reopen(struct image *image)
{
	const struct block_conf conf = image->conf;

	disk_close(image);
	disk_open(image, conf.backing ? "backing" : conf.read_only ? "ro" : "");
}

static inline void disk_done(struct block_request *io, int result)
{
	struct disk_request *request = container_of(io, struct disk_request, io);

	assert_false(request->over);
	request->over = true;
	request->result = result;
}

static inline void disk_submit(struct image *image, struct disk_request *request)
{
	request->over = false;
	request->io.done = disk_done;
	image->queue.ops->submit(image->queue.engine, &request->io);
}

static inline int disk_wait(struct image *image, struct disk_request *request)
{
	const struct block_engine_ops *ops = image->queue.ops;
	struct pollfd pollfd = { .fd = ops->fd(image->queue.engine), .events = POLLIN };

	ops->flush(image->queue.engine);
	ops->complete(image->queue.engine);
	while (!request->over) {
		assert_int_equal(poll(&pollfd, 1, 10000), 1);
		ops->complete(image->queue.engine);
	}
	return request->result;
}

/* A transfer between the disk and the buffer, in uneven pieces. */
static inline void disk_prepare(struct disk_request *request, enum block_op op, uint8_t *buffer,
				 uint64_t offset, uint64_t len)
{
	unsigned int pieces = 1 + (unsigned int)rand() % IMAGE_PIECES;
	size_t at = 0;

	request->io = (struct block_request){
		.op = op, .offset = offset, .len = len, .iov = request->iov, .iov_count = pieces,
	};
	for (unsigned int i = 0; i < pieces; i++) {
		size_t part = i + 1 < pieces ? (size_t)rand() % (len - at + 1) : len - at;

		request->iov[i] = (struct iovec){ buffer + at, part };
		at += part;
	}
}

static inline int disk_read(struct image *image, uint64_t offset, uint64_t len)
{
	struct disk_request request;

	disk_prepare(&request, BLOCK_READ, image->buffer, offset, len);
	disk_submit(image, &request);
	return disk_wait(image, &request);
}

static inline int disk_write(struct image *image, uint64_t offset, uint64_t len)
{
	uint8_t seed = (uint8_t)rand();
	struct disk_request request;
	int r;

	for (uint64_t i = 0; i < len; i++)
		image->buffer[i] = (uint8_t)(seed + (i >> 3) * 7);
	disk_prepare(&request, BLOCK_WRITE, image->buffer, offset, len);
	request.io.durable = rand() % 32 == 0 && !child_emulator();
	disk_submit(image, &request);
	r = disk_wait(image, &request);
	if (r == 0)
		memcpy(image->model + offset, image->buffer, len);
	return r;
}

static inline int disk_range(struct image *image, enum block_op op, uint64_t offset, uint64_t len,
			      bool unmap)
{
	struct disk_request request = {
		.io = { .op = op, .offset = offset, .len = len, .unmap = unmap },
	};

	disk_submit(image, &request);
	return disk_wait(image, &request);
}

static inline int disk_flush(struct image *image)
{
	struct disk_request request = { .io = { .op = BLOCK_FLUSH } };

	disk_submit(image, &request);
	return disk_wait(image, &request);
}

/* What was discarded is what it was, or zeroes. */
static inline void disk_discard(struct image *image, uint64_t offset, uint64_t len)
{
	assert_int_equal(disk_range(image, BLOCK_DISCARD, offset, len, true), 0);
	assert_int_equal(disk_read(image, offset, len), 0);
	for (uint64_t i = 0; i < len; i++)
		if (image->buffer[i])
			assert_int_equal(image->buffer[i], image->model[offset + i]);
	memcpy(image->model + offset, image->buffer, len);
}

static inline void disk_compare(struct image *image)
{
	uint64_t at = 0;

	assert_int_equal(disk_read(image, 0, image->size), 0);
	while (at < image->size && image->buffer[at] == image->model[at])
		at++;
	if (at < image->size)
		fail_msg("byte %#" PRIx64 " is %#x, not %#x", at, image->buffer[at],
			 image->model[at]);
}

static inline void disk_change_once(struct image *image)
{
	uint64_t sectors = image->size / 512, first = (uint64_t)rand() % sectors;
	uint64_t most = rand() % 8 ? 16 : 2048;
	uint64_t len = (1 + (uint64_t)rand() % util_min(most, sectors - first)) * 512;
	uint64_t offset = first * 512;

	switch (rand() % 16) {
	case 0:
		assert_int_equal(disk_flush(image), 0);
		break;
	case 1: case 2:
		disk_discard(image, offset, len);
		break;
	case 3: case 4:
		assert_int_equal(disk_range(image, BLOCK_ZERO, offset, len, rand() % 2), 0);
		memset(image->model + offset, 0, len);
		break;
	case 5: case 6: case 7: case 8:
		assert_int_equal(disk_read(image, offset, len), 0);
		assert_memory_equal(image->buffer, image->model + offset, len);
		break;
	default:
		assert_int_equal(disk_write(image, offset, len), 0);
	}
}

static inline void disk_change(struct image *image, int operations)
{
	while (operations--)
		disk_change_once(image);
}

/* Many at once, each in a part of the disk of its own, though not always of its cluster. */
static inline void disk_many(struct image *image, int rounds)
{
	struct disk_request requests[IMAGE_DEPTH];
	uint64_t part = image->size / IMAGE_DEPTH & ~511ULL;

	while (rounds--) {
		for (uint64_t i = 0; i < IMAGE_DEPTH; i++) {
			uint64_t len = (1 + (uint64_t)rand() % 16) * 512;
			uint64_t offset = i * part + (uint64_t)rand() % ((part - len) / 512) * 512;

			memset(image->buffer + i * part, rand(), len);
			disk_prepare(&requests[i], BLOCK_WRITE, image->buffer + i * part, offset,
				     len);
			requests[i].io.durable = rand() % 8 == 0 && !child_emulator();
			if (rand() % 8 == 0)
				requests[i].io = (struct block_request){
					.op = BLOCK_ZERO, .offset = offset, .len = len,
				};
			else if (rand() % 8 == 0)
				requests[i].io = (struct block_request){ .op = BLOCK_FLUSH };
			disk_submit(image, &requests[i]);
		}
		for (uint64_t i = 0; i < IMAGE_DEPTH; i++) {
			const struct block_request *io = &requests[i].io;

			assert_int_equal(disk_wait(image, &requests[i]), 0);
			if (io->op == BLOCK_ZERO)
				memset(image->model + io->offset, 0, io->len);
			else if (io->op == BLOCK_WRITE)
				memcpy(image->model + io->offset, image->buffer + i * part,
				       io->len);
		}
	}
}

static inline void disk_write_all(struct image *image)
{
	for (uint64_t at = 0; at < image->size; at += MIB(1))
		assert_int_equal(disk_write(image, at, util_min(MIB(1), image->size - at)), 0);
}

/* Nothing, runs of a byte, and noise. */
static inline void disk_fill(struct image *image)
{
	for (uint64_t at = 0; at < image->size; at += 4096) {
		size_t len = util_min(4096, image->size - at);

		memset(image->model + at, rand() % 3 ? rand() : 0, len);
		for (size_t i = 0; i < len && at / 4096 % 5 == 0; i++)
			image->model[at + i] = (uint8_t)rand();
	}
}

static inline void disk_save_model(const struct image *image, const char *suffix)
{
	char path[80];
	int fd;

	snprintf(path, sizeof(path), "%s.%s", image->path, suffix);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, image->model, image->size), image->size);
	close(fd);
}

/* Nothing is wrong with it, and, when whole, nothing was lost. */
static inline void disk_check(const struct image *image, bool whole)
{
	struct qcow2_findings findings;
	int fd = open(image->path, O_RDONLY | O_CLOEXEC);
	const char *reason = "";

	if (qcow2_check(fd, QCOW2_REPAIR_NOTHING, &findings, &reason) < 0)
		fail_msg("%s", reason);
	close(fd);
	assert_int_equal(qcow2_corruptions(&findings), 0);
	if (whole)
		assert_int_equal(findings.leaks, 0);
	if (!have_qemu_img())
		return;
	if (!whole) {
		/* 3: clusters are lost, nothing worse. */
		run_command("qemu-img check -q -f qcow2 %s >%s.log 2>&1 || [ $? -eq 3 ]",
			    image->path, image->path);
		return;
	}
	run_command("qemu-img check -q -f qcow2 %s", image->path);
	disk_save_model(image, "now");
	run_command("qemu-img compare -q -f raw -F qcow2 %s.now %s", image->path, image->path);
}

/* Closes it: it reads as it should, and nothing is wrong or lost. */
static inline void disk_verify(struct image *image)
{
	disk_compare(image);
	disk_close(image);
	disk_check(image, true);
}

/* Changes it, also after it was closed and opened again. */
static inline void disk_exercise(struct image *image, const char *options, int operations)
{
	disk_open(image, options);
	disk_change(image, operations);
	disk_many(image, operations / 16);
	disk_reopen(image);
	disk_compare(image);
	disk_many(image, operations / 16);
	disk_change(image, operations);
	disk_verify(image);
}

static inline uint64_t disk_blocks(const struct image *image)
{
	struct stat st;

	assert_int_equal(stat(image->path, &st), 0);
	return (uint64_t)st.st_blocks;
}

#endif
