// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include "devices/block/block.h"
#include "tests/lib/child.h"

#define SIZE (128 << 10)
#define DEPTH 8
#define PIECES 5

struct file {
	char path[64];
	struct block_image image;
	struct block_engine *engine;
	uint8_t model[SIZE];
};

struct test_request {
	struct block_request io;
	struct iovec iov[PIECES];
	uint8_t buffer[SIZE];
	int result;
	bool over;
};

static void make_file(struct file *file, size_t size)
{
	int fd;

	file->image.fd = -1;
	strcpy(file->path, "/tmp/microvm-block-XXXXXX");
	fd = mkstemp(file->path);
	assert_true(fd >= 0);
	for (size_t i = 0; i < SIZE; i++)
		file->model[i] = (uint8_t)rand();
	assert_true(write(fd, file->model, util_min(size, SIZE)) >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	close(fd);
}

static void remove_file(struct file *file)
{
	block_image_close(&file->image);
	unlink(file->path);
}

static int open_file(struct file *file, bool read_only)
{
	return block_image_open(&file->image, file->path, read_only, false);
}

static void done(struct block_request *io, int result)
{
	struct test_request *request = container_of(io, struct test_request, io);

	assert_false(request->over);
	request->over = true;
	request->result = result;
}

/* A request over len bytes of its buffer, whole or cut in uneven pieces. */
static void prepare(struct test_request *request, enum block_op op, uint64_t offset, size_t len)
{
	unsigned int pieces = 1 + (unsigned int)rand() % PIECES;
	size_t at = 0;

	request->over = false;
	request->io = (struct block_request){
		.op = op,
		.offset = offset,
		.iov = request->iov,
		.iov_count = pieces,
		.len = len,
		.done = done,
	};
	for (unsigned int i = 0; i < pieces; i++) {
		size_t part = i + 1 < pieces ? (size_t)rand() % (len - at + 1) : len - at;

		request->iov[i] = (struct iovec){ request->buffer + at, part };
		at += part;
	}
}

static void wait_for(const struct block_engine_ops *ops, struct block_engine *engine,
		     const struct test_request *request)
{
	struct pollfd pollfd = { .fd = ops->fd(engine), .events = POLLIN };

	while (!request->over) {
		assert_int_equal(poll(&pollfd, 1, 10000), 1);
		ops->complete(engine);
	}
}

static int run(const struct block_engine_ops *ops, struct block_engine *engine,
	       struct test_request *request)
{
	ops->submit(engine, &request->io);
	ops->flush(engine);
	ops->complete(engine);
	wait_for(ops, engine, request);
	return request->result;
}

/* False, with a reason, where the host does not permit the engine. */
static bool start_engine(const struct block_engine_ops *ops, struct file *file)
{
	int r = ops->open(&file->engine, &file->image, DEPTH);

	if (r < 0 && ops == &block_uring) {
		print_message("skipped: io_uring: %s\n", strerror(-r));
		return false;
	}
	assert_int_equal(r, 0);
	assert_int_equal(ops->start(file->engine), 0);
	assert_int_equal(ops->start(file->engine), 0);
	return true;
}

static void prepare_range(struct test_request *request, enum block_op op, uint64_t offset, uint64_t len)
{
	request->over = false;
	request->io = (struct block_request){ .op = op, .offset = offset, .len = len, .done = done };
}

/* Reads, writes and zeroes at random, against an array. */
static void run_model(const struct block_engine_ops *ops, struct file *file)
{
	_cleanup_free_ struct test_request *request = calloc(1, sizeof(*request));

	for (int i = 0; i < 2000; i++) {
		uint64_t offset = (uint64_t)rand() % SIZE;
		size_t len = 1 + (size_t)rand() % (SIZE - offset);

		if (i % 8 == 7) {
			prepare_range(request, BLOCK_ZERO, offset, len);
			request->io.unmap = i % 16 == 7;
			request->io.durable = i % 64 == 7 && !child_emulator();
			memset(file->model + offset, 0, len);
			assert_int_equal(run(ops, file->engine, request), 0);
		} else if (i % 2) {
			prepare(request, BLOCK_WRITE, offset, len);
			request->io.durable = i % 64 == 1 && !child_emulator(); /* pwritev2() with flags */
			for (size_t j = 0; j < len; j++)
				request->buffer[j] = (uint8_t)rand();
			memcpy(file->model + offset, request->buffer, len);
			assert_int_equal(run(ops, file->engine, request), 0);
		} else {
			prepare(request, BLOCK_READ, offset, len);
			assert_int_equal(run(ops, file->engine, request), 0);
			assert_memory_equal(request->buffer, file->model + offset, len);
		}
	}
	request->over = false;
	request->io = (struct block_request){ .op = BLOCK_FLUSH, .done = done };
	assert_int_equal(run(ops, file->engine, request), 0);
	ops->close(file->engine);
}

static void test_model(void **state)
{
	struct file file = { 0 };

	make_file(&file, SIZE);
	assert_int_equal(open_file(&file, false), 0);
	assert_int_equal(file.image.size, SIZE);
	assert_int_equal(file.image.block_size, 512);
	if (!start_engine(*state, &file)) {
		remove_file(&file);
		skip();
	}
	run_model(*state, &file);
	remove_file(&file);
}

/* In memory there is no call that zeroes a range and keeps its space: zeroes are written. */
static void test_model_in_memory(void **state)
{
	struct file file = { 0 };

	assert_int_equal(block_image_scratch(&file.image, SIZE, false), 0);
	if (!start_engine(*state, &file)) {
		block_image_close(&file.image);
		skip();
	}
	run_model(*state, &file);
	block_image_close(&file.image);
}

static blkcnt_t blocks_of(const struct file *file)
{
	struct stat st;

	assert_int_equal(fstat(file->image.fd, &st), 0);
	return st.st_blocks;
}

/* The host gets back what the guest has no use for, and the disk stays as long as it is. */
static void test_discard(void **state)
{
	const struct block_engine_ops *ops = *state;
	struct test_request request;
	struct file file = { 0 };
	blkcnt_t before;

	make_file(&file, SIZE);
	assert_int_equal(open_file(&file, false), 0);
	if (!start_engine(ops, &file)) {
		remove_file(&file);
		skip();
	}
	assert_int_equal(fdatasync(file.image.fd), 0);
	before = blocks_of(&file);
	prepare_range(&request, BLOCK_DISCARD, SIZE / 2, SIZE / 2);
	assert_int_equal(run(ops, file.engine, &request), 0);
	assert_int_equal(blocks_of(&file), before / 2);
	prepare_range(&request, BLOCK_ZERO, 0, SIZE / 2);
	request.io.unmap = true;
	assert_int_equal(run(ops, file.engine, &request), 0);
	assert_int_equal(blocks_of(&file), 0);
	assert_int_equal(lseek(file.image.fd, 0, SEEK_END), SIZE);
	prepare_range(&request, BLOCK_ERASE, 0, SIZE);
	assert_int_equal(run(ops, file.engine, &request), -EOPNOTSUPP);
	ops->close(file.engine);
	remove_file(&file);
}

/* A block device over the file: its path, or "" where there is none to be had. */
static void attach(const struct file *file, char *path, size_t len)
{
	char command[128];
	FILE *losetup;

	*path = '\0';
	snprintf(command, sizeof(command), "losetup --show -f %s 2>/dev/null", file->path);
	losetup = popen(command, "re");
	if (!losetup)
		return;
	if (fgets(path, (int)len, losetup))
		path[strcspn(path, "\n")] = '\0';
	if (pclose(losetup))
		*path = '\0';
}

static void detach(const char *path)
{
	char command[128];

	snprintf(command, sizeof(command), "losetup -d %s", path);
	assert_int_equal(system(command), 0);
}

/* Ranges of a device are other calls, which a ring has not. */
static void test_device(void **state)
{
	const struct block_engine_ops *ops = *state;
	_cleanup_free_ struct test_request *request = calloc(1, sizeof(*request));
	struct file file = { 0 };
	char device[64];

	make_file(&file, SIZE);
	attach(&file, device, sizeof(device));
	if (!*device) {
		print_message("skipped: no loop device\n");
		remove_file(&file);
		skip();
	}
	assert_int_equal(block_image_open(&file.image, device, false, false), 0);
	assert_true(file.image.device);
	assert_int_equal(file.image.size, SIZE);
	if (!start_engine(ops, &file)) {
		block_image_close(&file.image);
		detach(device);
		remove_file(&file);
		skip();
	}
	prepare_range(request, BLOCK_ZERO, 4096, 8192);
	assert_int_equal(run(ops, file.engine, request), 0);
	prepare_range(request, BLOCK_ZERO, SIZE / 2, 8192);
	request->io.unmap = request->io.durable = true;
	assert_int_equal(run(ops, file.engine, request), 0);
	prepare_range(request, BLOCK_DISCARD, SIZE - 8192, 8192);
	assert_int_equal(run(ops, file.engine, request), 0);
	prepare_range(request, BLOCK_ERASE, 0, 4096);
	assert_int_equal(run(ops, file.engine, request), -EOPNOTSUPP);
	memset(file.model + 4096, 0, 8192);
	memset(file.model + SIZE / 2, 0, 8192);
	prepare(request, BLOCK_READ, 0, SIZE - 8192);
	assert_int_equal(run(ops, file.engine, request), 0);
	assert_memory_equal(request->buffer, file.model, SIZE - 8192);
	ops->close(file.engine);
	block_image_close(&file.image);
	detach(device);
	remove_file(&file);
}

/* What a host without such calls answers. */
static void test_ranges_refused(void **state)
{
	struct block_image image = { .fd = -1 };
	struct test_request request;
	const struct iovec *rest;

	(void)state;
	prepare_range(&request, BLOCK_DISCARD, 0, 512);
	assert_true(block_request_moved(&image, &request.io, -EOPNOTSUPP));
	assert_int_equal(request.result, 0);
	prepare_range(&request, BLOCK_DISCARD, 0, 512);
	assert_true(block_request_moved(&image, &request.io, -EIO));
	assert_int_equal(request.result, -EIO);
	prepare_range(&request, BLOCK_ERASE, 0, 512);
	assert_true(block_request_moved(&image, &request.io, -EOPNOTSUPP));
	assert_int_equal(request.result, -EOPNOTSUPP);

	prepare_range(&request, BLOCK_ZERO, 0, MIB(1) + 512);
	assert_true(block_request_is_range(&request.io));
	assert_false(block_request_moved(&image, &request.io, -EOPNOTSUPP));
	assert_false(block_request_is_range(&request.io));
	for (int i = 0; !request.over; i++) {
		size_t len = 0;

		assert_true(i < 100);
		for (unsigned int j = block_request_rest(&request.io, &rest); j > 0; j--)
			len += rest++->iov_len;
		block_request_moved(&image, &request.io, (ssize_t)len);
	}
	assert_int_equal(request.result, 0);
	assert_int_equal(request.io.moved, MIB(1) + 512);
}

/* A range that has to last is flushed as well. */
static void test_durable_range(void **state)
{
	struct block_image image = { .fd = -1 };
	struct test_request request;

	(void)state;
	prepare_range(&request, BLOCK_ZERO, 0, 512);
	request.io.durable = true;
	assert_false(block_request_moved(&image, &request.io, 0));
	assert_true(block_request_is_flush(&request.io));
	assert_true(block_request_moved(&image, &request.io, 0));
	assert_int_equal(request.result, 0);
}

/* The kernel tells of pages that it lost once: later flushes know nothing of them, and must not say that all is well. */
static void test_failed_flush(void **state)
{
	static const struct { enum block_op op; bool durable; ssize_t moved; int result; } table[] = {
		{ BLOCK_FLUSH, false, 0, 0 },
		{ BLOCK_WRITE, true, 512, 0 },
		{ BLOCK_WRITE, false, -ENOSPC, -ENOSPC },
		{ BLOCK_FLUSH, false, 0, 0 },
		{ BLOCK_FLUSH, false, -ENOSPC, -ENOSPC },
		{ BLOCK_FLUSH, false, 0, -EIO },
		{ BLOCK_WRITE, true, 512, -EIO },
		{ BLOCK_WRITE, false, 512, 0 },
		{ BLOCK_READ, false, 512, 0 },
		{ BLOCK_FLUSH, false, 0, -EIO },
	};
	struct block_image image = { .fd = -1 };
	struct test_request request;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		prepare(&request, table[i].op, 0, table[i].op == BLOCK_FLUSH ? 0 : 512);
		request.io.durable = table[i].durable;
		assert_true(block_request_moved(&image, &request.io, table[i].moved));
		assert_int_equal(request.result, table[i].result);
	}
}

static void test_policies(void **state)
{
	static const struct { int write, read; enum block_op op; int result; bool stops; } table[] = {
		{ BLOCK_REPORT, BLOCK_REPORT, BLOCK_WRITE, -EIO, false },
		{ BLOCK_REPORT, BLOCK_STOP, BLOCK_WRITE, -ENOSPC, false },
		{ BLOCK_REPORT, BLOCK_STOP, BLOCK_READ, -EIO, true },
		{ BLOCK_REPORT, BLOCK_STOP, BLOCK_READ, 0, false },
		{ BLOCK_STOP, BLOCK_REPORT, BLOCK_READ, -EIO, false },
		{ BLOCK_STOP, BLOCK_REPORT, BLOCK_WRITE, -EIO, true },
		{ BLOCK_STOP, BLOCK_REPORT, BLOCK_WRITE, 0, false },
		{ BLOCK_STOP, BLOCK_REPORT, BLOCK_ZERO, -ENOSPC, true },
		{ BLOCK_STOP, BLOCK_STOP, BLOCK_FLUSH, -EIO, false },
		{ BLOCK_STOP_ENOSPC, BLOCK_REPORT, BLOCK_WRITE, -ENOSPC, true },
		{ BLOCK_STOP_ENOSPC, BLOCK_REPORT, BLOCK_WRITE, -EIO, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		const struct block_conf conf = { .write_error = table[i].write, .read_error = table[i].read };
		const struct block_disk disk = { .conf = &conf };
		const struct block_request request = { .op = table[i].op };

		assert_int_equal(block_disk_stops(&disk, &request, table[i].result), table[i].stops);
	}
}

static void test_block_size(void **state)
{
	static const struct { size_t size; uint64_t block_size; int result; } table[] = {
		{ SIZE, 0, 0 }, { SIZE, 512, 0 }, { SIZE, 4096, 0 },
		{ 512, 512, 0 }, { 512, 4096, -EINVAL }, { 4096 + 512, 4096, -EINVAL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct file file = { 0 };
		const struct block_conf conf = { .path = file.path, .block_size = table[i].block_size };
		struct block_disk disk;

		make_file(&file, table[i].size);
		assert_int_equal(block_disk_open(&disk, &conf), table[i].result);
		if (!table[i].result)
			assert_int_equal(disk.image.block_size, util_max(table[i].block_size, 512));
		block_disk_close(&disk);
		remove_file(&file);
	}
}

static void test_resize(void **state)
{
	struct file file = { 0 };
	const struct block_conf conf = { .path = file.path };
	struct block_disk disk;

	(void)state;
	make_file(&file, SIZE);
	assert_int_equal(block_disk_open(&disk, &conf), 0);
	assert_int_equal(block_disk_resize(&disk, SIZE - 512), -EINVAL);
	assert_int_equal(block_disk_resize(&disk, SIZE + 1), -EINVAL);
	assert_int_equal(block_disk_resize(&disk, UINT64_MAX - 511), -EINVAL);
	assert_int_equal(block_disk_resize(&disk, 0), 0);
	assert_int_equal(disk.image.size, SIZE);
	assert_int_equal(block_disk_resize(&disk, SIZE + 512), 0);
	assert_int_equal(disk.image.size, SIZE + 512);
	assert_int_equal(truncate(file.path, 2 * SIZE), 0);
	assert_int_equal(block_disk_resize(&disk, 0), 0);
	assert_int_equal(disk.image.size, 2 * SIZE);
	assert_int_equal(truncate(file.path, SIZE), 0);
	assert_int_equal(block_disk_resize(&disk, 0), -EINVAL);
	assert_int_equal(disk.image.size, 2 * SIZE);
	block_disk_close(&disk);
	remove_file(&file);
}

/* A full batch in flight at once, ended by drain alone. */
static void test_drain(void **state)
{
	const struct block_engine_ops *ops = *state;
	_cleanup_free_ struct test_request *requests = calloc(DEPTH, sizeof(*requests));
	struct file file = { 0 };

	make_file(&file, SIZE);
	assert_int_equal(open_file(&file, true), 0);
	if (!start_engine(ops, &file)) {
		remove_file(&file);
		skip();
	}
	for (int i = 0; i < DEPTH; i++) {
		prepare(&requests[i], BLOCK_READ, (uint64_t)i * 512, 4096);
		ops->submit(file.engine, &requests[i].io);
	}
	ops->drain(file.engine);
	for (int i = 0; i < DEPTH; i++) {
		assert_true(requests[i].over);
		assert_int_equal(requests[i].result, 0);
		assert_memory_equal(requests[i].buffer, file.model + i * 512, 4096);
	}
	ops->close(file.engine);
	remove_file(&file);
}

/* The file shrinks under the disk: what is there is read, the rest is an error, not a loop. */
static void test_shrunk(void **state)
{
	const struct block_engine_ops *ops = *state;
	_cleanup_free_ struct test_request *request = calloc(1, sizeof(*request));
	struct file file = { 0 };

	make_file(&file, SIZE);
	assert_int_equal(open_file(&file, false), 0);
	if (!start_engine(ops, &file)) {
		remove_file(&file);
		skip();
	}
	assert_int_equal(truncate(file.path, 1000), 0);
	prepare(request, BLOCK_READ, 512, 4096);
	assert_int_equal(run(ops, file.engine, request), -EIO);
	assert_memory_equal(request->buffer, file.model + 512, 488);
	ops->close(file.engine);
	remove_file(&file);
}

static void wait_for_all(const struct block_engine_ops *ops, struct block_engine *engine,
			 struct test_request *requests, unsigned int count)
{
	ops->flush(engine);
	ops->complete(engine);
	for (unsigned int i = 0; i < count; i++)
		wait_for(ops, engine, &requests[i]);
}

/* In one batch, requests that go on where another ends, and some that do not. */
static void test_neighbours(void **state)
{
	static const struct {
		uint32_t offset, len;
	} places[DEPTH] = {
		{ 0, 4096 }, { 4096, 512 }, { 4608, 20000 }, { 40000, 512 },
		{ 40512, 8192 }, { 100000, 512 }, { 60000, 1 }, { 60001, 4096 },
	};
	const struct block_engine_ops *ops = *state;
	_cleanup_free_ struct test_request *requests = calloc(DEPTH, sizeof(*requests));
	_cleanup_free_ uint8_t *content = malloc(SIZE);
	struct file file = { 0 };

	make_file(&file, SIZE);
	assert_int_equal(open_file(&file, false), 0);
	if (!start_engine(ops, &file)) {
		remove_file(&file);
		skip();
	}
	for (int round = 0; round < 200; round++) {
		const bool write = round % 2, durable = round % 8 == 1 && !child_emulator();

		for (int i = 0; i < DEPTH; i++) {
			prepare(&requests[i], write ? BLOCK_WRITE : BLOCK_READ, places[i].offset,
				places[i].len);
			requests[i].io.durable = durable;
			for (uint32_t j = 0; write && j < places[i].len; j++)
				file.model[places[i].offset + j] = requests[i].buffer[j] = (uint8_t)rand();
			ops->submit(file.engine, &requests[i].io);
		}
		assert_ptr_equal(requests[1].io.merged,
				 ops == &block_uring && !durable ? &requests[2].io : NULL);
		assert_null(requests[2].io.merged);
		wait_for_all(ops, file.engine, requests, DEPTH);
		for (int i = 0; i < DEPTH; i++) {
			assert_int_equal(requests[i].result, 0);
			assert_memory_equal(requests[i].buffer, file.model + places[i].offset,
					    places[i].len);
		}
		assert_int_equal(pread(file.image.fd, content, SIZE, 0), SIZE);
		assert_memory_equal(content, file.model, SIZE);
	}
	ops->close(file.engine);
	remove_file(&file);
}

/* What goes on where another ends, and in another file, is no neighbour. */
static void test_neighbours_in_two_files(void **state)
{
	const struct block_engine_ops *ops = *state;
	_cleanup_free_ struct test_request *requests = calloc(DEPTH, sizeof(*requests));
	struct file file = { 0 }, base = { 0 };

	make_file(&file, SIZE);
	make_file(&base, SIZE);
	assert_int_equal(open_file(&file, true), 0);
	assert_int_equal(open_file(&base, true), 0);
	file.image.base = &base.image;
	base.image.number = 1;
	if (!start_engine(ops, &file)) {
		remove_file(&base);
		remove_file(&file);
		skip();
	}
	for (uint64_t i = 0; i < DEPTH; i++) {
		prepare(&requests[i], BLOCK_READ, i * 4096, 4096);
		requests[i].io.base = i % 4 < 2 ? &base.image : NULL;
		ops->submit(file.engine, &requests[i].io);
	}
	wait_for_all(ops, file.engine, requests, DEPTH);
	for (uint64_t i = 0; i < DEPTH; i++) {
		assert_int_equal(requests[i].result, 0);
		assert_memory_equal(requests[i].buffer, (i % 4 < 2 ? &base : &file)->model + i * 4096, 4096);
	}
	ops->close(file.engine);
	remove_file(&base);
	remove_file(&file);
}

/* One that fails is no other's fault, whatever the kernel was asked for together. */
static void test_neighbour_fails(void **state)
{
	const struct block_engine_ops *ops = *state;
	_cleanup_free_ struct test_request *requests = calloc(3, sizeof(*requests));
	struct file file = { 0 };

	assert_int_equal(block_image_scratch(&file.image, SIZE, false), 0);
	if (!start_engine(ops, &file)) {
		block_image_close(&file.image);
		skip();
	}
	for (int write = 1; write >= 0; write--) {
		for (uint64_t i = 0; i < 3; i++) {
			prepare(&requests[i], write ? BLOCK_WRITE : BLOCK_READ,
				SIZE - 8192 + i * 4096, 4096);
			memset(requests[i].buffer, write ? (int)i + 1 : 0, 4096);
			ops->submit(file.engine, &requests[i].io);
		}
		wait_for_all(ops, file.engine, requests, 3);
		assert_int_equal(requests[0].result, 0);
		assert_int_equal(requests[1].result, 0);
		assert_int_equal(requests[2].result, write ? -EPERM : -EIO);
		assert_int_equal(requests[0].buffer[4095], 1);
		assert_int_equal(requests[1].buffer[0], 2);
	}
	ops->close(file.engine);
	block_image_close(&file.image);
}

/* More buffers than one operation takes. */
static void test_many_pieces(void **state)
{
	enum { COUNT = 5, EACH = 100, LEN = 256 };
	const struct block_engine_ops *ops = *state;
	_cleanup_free_ struct test_request *requests = calloc(COUNT, sizeof(*requests));
	struct iovec iov[COUNT][EACH];
	struct file file = { 0 };

	make_file(&file, SIZE);
	assert_int_equal(open_file(&file, false), 0);
	if (!start_engine(ops, &file)) {
		remove_file(&file);
		skip();
	}
	for (int i = 0; i < COUNT; i++) {
		for (int j = 0; j < EACH; j++)
			iov[i][j] = (struct iovec){ requests[i].buffer + j * LEN, LEN };
		prepare_range(&requests[i], BLOCK_READ, (uint64_t)i * EACH * LEN, EACH * LEN);
		requests[i].io.iov = iov[i];
		requests[i].io.iov_count = EACH;
		ops->submit(file.engine, &requests[i].io);
	}
	wait_for_all(ops, file.engine, requests, COUNT);
	for (int i = 0; i < COUNT; i++) {
		assert_int_equal(requests[i].result, 0);
		assert_memory_equal(requests[i].buffer, file.model + i * EACH * LEN, EACH * LEN);
	}
	ops->close(file.engine);
	remove_file(&file);
}

static void test_write_error(void **state)
{
	const struct block_engine_ops *ops = *state;
	_cleanup_free_ struct test_request *request = calloc(1, sizeof(*request));
	struct file file = { 0 };

	make_file(&file, SIZE);
	assert_int_equal(open_file(&file, true), 0);
	if (!start_engine(ops, &file)) {
		remove_file(&file);
		skip();
	}
	prepare(request, BLOCK_WRITE, 0, 512);
	assert_int_equal(run(ops, file.engine, request), -EBADF);
	ops->close(file.engine);
	remove_file(&file);
}

static void expect_rest(struct test_request *request, const void *base, size_t len)
{
	const struct iovec *rest;

	assert_int_equal(block_request_rest(&request->io, &rest), 1);
	assert_ptr_equal(rest->iov_base, base);
	assert_int_equal(rest->iov_len, len);
}

static void test_no_buffers(void **state)
{
	struct test_request request = { .io = { .op = BLOCK_FLUSH } };
	const struct iovec *rest = &request.io.rest;

	(void)state;
	assert_int_equal(block_request_rest(&request.io, &rest), 0);
	assert_null(rest);
}

static void test_short_transfer(void **state)
{
	uint8_t buffer[30];
	struct iovec iov[] = { { buffer, 10 }, { buffer + 10, 0 }, { buffer + 10, 20 } };
	struct test_request request = {
		.io = { .op = BLOCK_READ, .iov = iov, .iov_count = 3, .len = 30, .done = done },
	};
	struct block_image image = { .fd = -1 };
	const struct iovec *rest;

	(void)state;
	assert_int_equal(block_request_rest(&request.io, &rest), 3);
	assert_ptr_equal(rest, iov);
	assert_false(block_request_moved(&image, &request.io, -EINTR));
	assert_false(block_request_moved(&image, &request.io, 1));
	expect_rest(&request, buffer + 1, 9);
	assert_false(block_request_moved(&image, &request.io, -EAGAIN));
	expect_rest(&request, buffer + 1, 9);
	assert_false(block_request_moved(&image, &request.io, 9));
	expect_rest(&request, buffer + 10, 20);
	assert_false(block_request_moved(&image, &request.io, 14));
	expect_rest(&request, buffer + 24, 6);
	assert_true(block_request_moved(&image, &request.io, 6));
	assert_true(request.over);
	assert_int_equal(request.result, 0);
	/* The owner's iovecs were left alone. */
	assert_ptr_equal(iov[0].iov_base, buffer);
	assert_int_equal(iov[2].iov_len, 20);
}

static void test_sizes(void **state)
{
	static const struct { size_t size; int result; } table[] = {
		{ 0, -EINVAL }, { 511, -EINVAL }, { 512, 0 }, { 513, -EINVAL }, { 1024, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct file file = { 0 };
		const struct block_conf conf = { .path = file.path };
		struct block_disk disk;

		make_file(&file, table[i].size);
		assert_int_equal(block_disk_open(&disk, &conf), table[i].result);
		assert_int_equal(disk.image.size, table[i].size);
		block_disk_close(&disk);
		remove_file(&file);
	}
}

/* A guest that writes another format's magic does not choose how its disk is read the next time. */
static void test_format_is_not_guessed(void **state)
{
	struct file file = { 0 };
	struct block_conf conf = { .path = file.path };
	struct block_disk disk;
	int fd;

	(void)state;
	make_file(&file, SIZE);
	fd = open(file.path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(write(fd, "QFI\xfb", 4), 4);
	close(fd);
	assert_int_equal(block_disk_open(&disk, &conf), -EMEDIUMTYPE);
	block_disk_close(&disk);
	conf.format = BLOCK_FORMAT_RAW;
	assert_int_equal(block_disk_open(&disk, &conf), 0);
	assert_int_equal(disk.image.size, SIZE);
	block_disk_close(&disk);
	remove_file(&file);
}

static void test_not_an_image(void **state)
{
	struct block_image image = { .fd = -1 };
	char fifo[] = "/tmp/microvm-fifo-XXXXXX";

	(void)state;
	assert_int_equal(block_image_open(&image, "/nonexistent/disk", true, false), -ENOENT);
	assert_int_equal(block_image_open(&image, "/tmp", false, false), -EISDIR);
	assert_int_equal(block_image_open(&image, "/tmp", true, false), -ENOTBLK);
	assert_int_equal(block_image_open(&image, "/dev/null", false, false), -ENOTBLK);
	assert_non_null(mkdtemp(fifo));
	assert_int_equal(rmdir(fifo), 0);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_int_equal(block_image_open(&image, fifo, true, false), -ENOTBLK);
	unlink(fifo);
	assert_int_equal(image.fd, -1);
}

static int open_in_child(const char *path, bool read_only)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		struct block_image image;

		_exit(-block_image_open(&image, path, read_only, false));
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return -WEXITSTATUS(status);
}

static void test_lock(void **state)
{
	struct file file = { 0 };

	(void)state;
	make_file(&file, SIZE);
	assert_int_equal(open_file(&file, false), 0);
	assert_int_equal(open_in_child(file.path, false), -EAGAIN);
	assert_int_equal(open_in_child(file.path, true), -EAGAIN);
	block_image_close(&file.image);
	assert_int_equal(open_file(&file, true), 0);
	assert_int_equal(open_in_child(file.path, true), 0);
	assert_int_equal(open_in_child(file.path, false), -EAGAIN);
	block_image_close(&file.image);
	assert_int_equal(open_in_child(file.path, false), 0);
	remove_file(&file);
}

/* Some file systems, an overlay's for one, take the flag and refuse the transfer. */
static bool has_direct_io(const struct file *file, void *memory)
{
	_cleanup_close_ int fd = open(file->path, O_RDONLY | O_DIRECT | O_CLOEXEC);

	return fd >= 0 && pread(fd, memory, 4096, 0) == 4096;
}

static void test_direct(void **state)
{
	_cleanup_free_ void *memory = NULL;
	struct test_request request = { .io = { .op = BLOCK_READ, .len = 8192, .done = done } };
	struct file file = { 0 };
	int r;

	(void)state;
	make_file(&file, SIZE);
	assert_int_equal(posix_memalign(&memory, 4096, 8192), 0);
	r = block_image_open(&file.image, file.path, false, true);
	if (r == -EOPNOTSUPP || !has_direct_io(&file, memory)) {
		print_message("skipped: no direct I/O in /tmp\n");
		remove_file(&file);
		skip();
	}
	assert_int_equal(r, 0);
	assert_true(fcntl(file.image.fd, F_GETFL) & O_DIRECT);
	assert_true(file.image.block_size >= 512 && file.image.block_size <= 4096);
	request.iov[0] = (struct iovec){ memory, 8192 };
	request.io.iov = request.iov;
	request.io.iov_count = 1;
	request.io.offset = 4096;
	assert_true(start_engine(&block_sync, &file));
	assert_int_equal(run(&block_sync, file.engine, &request), 0);
	assert_memory_equal(memory, file.model + 4096, 8192);
	block_sync.close(file.engine);
	remove_file(&file);
}

/* Guests may put buffers anywhere; the host's direct I/O wants them aligned. */
static void test_bounce(void **state)
{
	const struct block_engine_ops *ops = *state;
	_cleanup_free_ struct test_request *request = calloc(1, sizeof(*request));
	_cleanup_free_ void *memory = NULL;
	struct file file = { 0 };
	int r;

	make_file(&file, SIZE);
	assert_int_equal(posix_memalign(&memory, 4096, 4096), 0);
	r = block_image_open(&file.image, file.path, false, true);
	if (r == -EOPNOTSUPP || !has_direct_io(&file, memory)) {
		print_message("skipped: no direct I/O in /tmp\n");
		remove_file(&file);
		skip();
	}
	if (!start_engine(ops, &file)) {
		remove_file(&file);
		skip();
	}
	for (int i = 0; i < 100; i++) {
		uint64_t offset = (uint64_t)(rand() % 4) * 4096;
		/* Some are more than the bounce buffer holds. */
		uint64_t len = 4096 * (1 + (uint64_t)rand() % 12);

		prepare(request, i % 2 ? BLOCK_READ : BLOCK_WRITE, offset, len);
		if (i % 2 == 0) {
			for (size_t j = 0; j < len; j++)
				request->buffer[j] = (uint8_t)rand();
			memcpy(file.model + offset, request->buffer, len);
		}
		assert_int_equal(run(ops, file.engine, request), 0);
		assert_memory_equal(request->buffer, file.model + offset, len);
	}
	ops->close(file.engine);
	remove_file(&file);
}

int main(void)
{
	void *sync = (void *)&block_sync, *uring = (void *)&block_uring;
	const struct CMUnitTest tests[] = {
		{ "model, sync", test_model, NULL, NULL, sync },
		{ "model, uring", test_model, NULL, NULL, uring },
		{ "drain, sync", test_drain, NULL, NULL, sync },
		{ "drain, uring", test_drain, NULL, NULL, uring },
		{ "shrunk, sync", test_shrunk, NULL, NULL, sync },
		{ "shrunk, uring", test_shrunk, NULL, NULL, uring },
		{ "neighbours, sync", test_neighbours, NULL, NULL, sync },
		{ "neighbours, uring", test_neighbours, NULL, NULL, uring },
		{ "neighbours in two files, sync", test_neighbours_in_two_files, NULL, NULL, sync },
		{ "neighbours in two files, uring", test_neighbours_in_two_files, NULL, NULL, uring },
		{ "a neighbour fails, sync", test_neighbour_fails, NULL, NULL, sync },
		{ "a neighbour fails, uring", test_neighbour_fails, NULL, NULL, uring },
		{ "many pieces, uring", test_many_pieces, NULL, NULL, uring },
		{ "write error, sync", test_write_error, NULL, NULL, sync },
		{ "write error, uring", test_write_error, NULL, NULL, uring },
		{ "model in memory, sync", test_model_in_memory, NULL, NULL, sync },
		{ "model in memory, uring", test_model_in_memory, NULL, NULL, uring },
		{ "discard, sync", test_discard, NULL, NULL, sync },
		{ "discard, uring", test_discard, NULL, NULL, uring },
		{ "device, sync", test_device, NULL, NULL, sync },
		{ "device, uring", test_device, NULL, NULL, uring },
		{ "bounce, sync", test_bounce, NULL, NULL, sync },
		{ "bounce, uring", test_bounce, NULL, NULL, uring },
		cmocka_unit_test(test_ranges_refused),
		cmocka_unit_test(test_durable_range),
		cmocka_unit_test(test_failed_flush),
		cmocka_unit_test(test_policies),
		cmocka_unit_test(test_block_size),
		cmocka_unit_test(test_resize),
		cmocka_unit_test(test_no_buffers),
		cmocka_unit_test(test_short_transfer),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_format_is_not_guessed),
		cmocka_unit_test(test_not_an_image),
		cmocka_unit_test(test_lock),
		cmocka_unit_test(test_direct),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
