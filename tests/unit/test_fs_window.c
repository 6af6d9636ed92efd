// SPDX-License-Identifier: Apache-2.0
/*
 * A guest that lies about what it maps, and devices that work where nothing is. The window's pages behind
 * a file's end are lost: a thread that copies there has a fault, in its sandbox.
 */
#include <linux/virtio_blk.h>
#include <malloc.h>
#include "seccomp/filter.h"
#include "tests/unit/fs_guest.h"

#define PIECES 8u
#define DAX ",dax=16M"
#define FIRST 5000 /* bytes of the file in front of what is lost */
#define LOST MIB(1)
#define BOTH (FUSE_SETUPMAPPING_FLAG_READ | FUSE_SETUPMAPPING_FLAG_WRITE)
#define NO_FH UINT64_MAX

extern const struct virtio_class blk_class;

#ifdef __SANITIZE_THREAD__
/* It takes mmap() for a write. What a window shows changes while devices use it: the kernel sees to it. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
	return "race:core/window.c";
}
#endif

static uint8_t *window(const struct guest *guest)
{
	return guest->vdrv.dev->shm.window.hva;
}

static ssize_t map_by(struct guest *guest, uint64_t node, uint64_t fh, uint64_t flags, uint64_t from,
		      uint64_t to, uint64_t len)
{
	const struct fuse_setupmapping_in in = { fh, from, len, flags, to };

	return ask(guest, FUSE_SETUPMAPPING, node, IN(in), NULL);
}

static ssize_t map(struct guest *guest, uint64_t node, uint64_t flags, unsigned int from,
		   unsigned int to)
{
	return map_by(guest, node, NO_FH, flags, from * (uint64_t)WINDOW_PIECE,
		      to * (uint64_t)WINDOW_PIECE, WINDOW_PIECE);
}

static ssize_t unmap(struct guest *guest, uint64_t at, uint64_t len)
{
	const struct fuse_removemapping_in in = { .count = 1 };
	const struct fuse_removemapping_one one = { at, len };

	return ask(guest, FUSE_REMOVEMAPPING, ROOT, IN(in), IN(one), NULL);
}

static void host_sizes(const struct guest *guest, off_t size)
{
	assert_int_equal(truncate(path_of(guest, "shared/file"), size), 0);
}

static bool is_empty(const struct guest *guest)
{
	for (unsigned int i = 0; i < PIECES; i++)
		if (window(guest)[i * (size_t)WINDOW_PIECE])
			return false;
	return true;
}

/* How many mappings of this process show a file of that name. */
static unsigned int shown(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned int count = 0;
	char line[512];

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps))
		count += !!strstr(line, "/file\n");
	assert_int_equal(fclose(maps), 0);
	return count;
}

/* ---- lies ---- */

static void test_places(void **state)
{
	static const struct {
		uint64_t from, to, len;
	} wrong[] = {
		{ 0, 0, 0 }, { 0, 0, 1 }, { 0, 0, 4096 }, { 0, 0, WINDOW_PIECE + 4096 },
		{ 4096, 0, WINDOW_PIECE }, { 0, 4096, WINDOW_PIECE }, { 1, 1, WINDOW_PIECE },
		{ 0, PIECES * (uint64_t)WINDOW_PIECE, WINDOW_PIECE },
		{ 0, (PIECES - 1) * (uint64_t)WINDOW_PIECE, 2 * WINDOW_PIECE },
		{ 0, 0, (PIECES + 1) * (uint64_t)WINDOW_PIECE }, { 0, 1ULL << 63, WINDOW_PIECE },
		{ 0, -(uint64_t)WINDOW_PIECE, WINDOW_PIECE },
		{ 0, -(uint64_t)WINDOW_PIECE, 2 * WINDOW_PIECE },
		{ 0, WINDOW_PIECE, -(uint64_t)WINDOW_PIECE }, { 0, 0, 1ULL << 63 },
		{ 1ULL << 63, 0, WINDOW_PIECE }, { -(uint64_t)WINDOW_PIECE, 0, WINDOW_PIECE },
		{ INT64_MAX - WINDOW_PIECE + 1, 0, 2 * WINDOW_PIECE },
		{ INT64_MAX - 4095, 0, WINDOW_PIECE },
	};
	struct guest guest;
	uint64_t node;

	(void)state;
	open_guest(&guest, DAX);
	node = lookup(&guest, ROOT, "file");
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		assert_int_equal(map_by(&guest, node, NO_FH, BOTH, wrong[i].from, wrong[i].to,
					wrong[i].len), -EINVAL);
		if (!wrong[i].from)
			assert_int_equal(unmap(&guest, wrong[i].to, wrong[i].len), -EINVAL);
	}
	assert_true(is_empty(&guest) && !shown());
	close_guest(&guest);
}

static void test_what_is_no_file_of_the_guest(void **state)
{
	static const char *const names[] = { "dir", "link", "way-out", "fifo" };
	uint64_t node, other, reader, writer, dir;
	struct guest guest;

	(void)state;
	open_guest(&guest, DAX);
	host_links(&guest, "shared/link", "file");
	host_links(&guest, "shared/way-out", "../canary");
	assert_int_equal(mkfifo(path_of(&guest, "shared/fifo"), 0666), 0);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		for (uint64_t flags = 0; flags <= BOTH; flags++)
			assert_true(map(&guest, lookup(&guest, ROOT, names[i]), flags, 0, 0) < 0);
	node = lookup(&guest, ROOT, "file");
	other = lookup(&guest, lookup(&guest, ROOT, "dir"), "file");
	assert_true(map(&guest, node + other, BOTH, 0, 0) < 0);
	assert_true(open_node(&guest, FUSE_OPEN, node, O_RDONLY, &reader) > 0);
	assert_true(open_node(&guest, FUSE_OPEN, node, O_WRONLY, &writer) > 0);
	assert_true(open_node(&guest, FUSE_OPENDIR, ROOT, 0, &dir) > 0);
	assert_int_equal(map_by(&guest, node, reader, BOTH, 0, 0, WINDOW_PIECE), -EACCES);
	assert_int_equal(map_by(&guest, node, writer, BOTH, 0, 0, WINDOW_PIECE), -EACCES);
	assert_int_equal(map_by(&guest, other, reader, 0, 0, 0, WINDOW_PIECE), -EBADF);
	assert_int_equal(map_by(&guest, node, dir, 0, 0, 0, WINDOW_PIECE), -EBADF);
	assert_int_equal(map_by(&guest, ROOT, dir, 0, 0, 0, WINDOW_PIECE), -ENODEV);
	release(&guest, node, reader);
	assert_int_equal(map_by(&guest, node, reader, 0, 0, 0, WINDOW_PIECE), -EBADF);
	assert_true(is_empty(&guest) && !shown());
	close_guest(&guest);
}

/* The last of many is one; those in front of it are as good as any. */
static void test_lists(void **state)
{
	struct fuse_removemapping_one ones[4000] = { 0 };
	struct fuse_removemapping_in in = { .count = ARRAY_SIZE(ones) };
	struct guest guest;
	uint64_t node;

	(void)state;
	open_guest(&guest, DAX);
	node = lookup(&guest, ROOT, "file");
	for (size_t i = 0; i < ARRAY_SIZE(ones); i++)
		ones[i] = (struct fuse_removemapping_one){ i % PIECES * WINDOW_PIECE, WINDOW_PIECE };
	ones[ARRAY_SIZE(ones) - 1].moffset++;
	assert_int_equal(map(&guest, node, BOTH, 0, PIECES - 1), 0);
	assert_int_equal(shown(), 1);
	assert_int_equal(ask(&guest, FUSE_REMOVEMAPPING, ROOT, IN(in), IN(ones), NULL), -EINVAL);
	assert_int_equal(shown(), 0);
	/* Twice, and where nothing ever was. */
	assert_int_equal(unmap(&guest, 0, PIECES * (uint64_t)WINDOW_PIECE), 0);
	for (in.count = 1; in.count; in.count <<= 1)
		assert_int_equal(ask(&guest, FUSE_REMOVEMAPPING, ROOT, IN(in), NULL), -EINVAL);
	assert_int_equal(ask(&guest, FUSE_REMOVEMAPPING, ROOT, IN(in), NULL), 0);
	close_guest(&guest);
}

static void test_no_more_than_there_are_pieces(void **state)
{
	struct guest guest;
	uint64_t node;

	(void)state;
	open_guest(&guest, DAX);
	host_sizes(&guest, 3 * PIECES * (off_t)WINDOW_PIECE);
	node = lookup(&guest, ROOT, "file");
	/* No two side by side that the kernel could make one of. */
	for (unsigned int i = 0; i < 20 * PIECES; i++) {
		assert_int_equal(map(&guest, node, i & 1 ? BOTH : 0, i * 7 % (3 * PIECES),
				     i * 5 % PIECES), 0);
		assert_true(shown() <= PIECES);
	}
	assert_int_equal(shown(), PIECES);
	init(&guest);
	assert_int_equal(shown(), 0);
	close_guest(&guest);
}

static void test_read_only(void **state)
{
	struct guest guest;
	uint64_t node, fh;

	(void)state;
	open_guest(&guest, ",ro" DAX);
	node = lookup(&guest, ROOT, "file");
	assert_true(open_node(&guest, FUSE_OPEN, node, O_RDONLY, &fh) > 0);
	assert_int_equal(map(&guest, node, BOTH, 0, 0), -EROFS);
	assert_int_equal(map_by(&guest, node, fh, BOTH, 0, 0, WINDOW_PIECE), -EACCES);
	assert_true(is_empty(&guest));
	assert_int_equal(map_by(&guest, node, fh, 0, 0, 0, WINDOW_PIECE), 0);
	memset(window(&guest), 'x', 4096);
	assert_int_equal(map(&guest, node, 0, 0, 1), 0);
	assert_memory_equal(window(&guest) + WINDOW_PIECE, "in the directory", 16);
	close_guest(&guest);
}

/* ---- what is lost ---- */

/* A file that ends in the window's first piece, of which a byte far behind its end is asked for. */
static uint64_t map_short(struct guest *guest)
{
	uint64_t node;

	host_sizes(guest, FIRST);
	node = lookup(guest, ROOT, "file");
	assert_int_equal(map(guest, node, BOTH, 0, 0), 0);
	return node;
}

static void test_requests_that_lie_there(void **state)
{
	const struct vdrv_buffer lost[] = {
		{ VDRV_SHM + LOST, sizeof(struct fuse_in_header), false },
		{ VDRV_SHM + LOST + 65536, 4096, true },
	};
	const struct fuse_out_header *header;
	struct guest guest;

	(void)state;
	open_guest(&guest, DAX);
	map_short(&guest);
	/* Zeroes are no operation of FUSE's; what says so is put where nothing was. */
	assert_int_equal(exchange_buffers(&guest.vdrv.queues[REQUESTS], lost, ARRAY_SIZE(lost)),
			 sizeof(*header));
	header = (const void *)(window(&guest) + LOST + 65536);
	assert_int_equal(header->len, sizeof(*header));
	assert_int_equal(header->error, -ENOSYS);
	close_guest(&guest);
}

/* Data that the kernel copies for us. */
static ssize_t read_into(struct guest *guest, uint64_t node, uint64_t fh, uint64_t gpa)
{
	struct {
		struct fuse_in_header header;
		struct fuse_read_in in;
	} request = {
		{ .len = sizeof(request), .opcode = FUSE_READ, .nodeid = node },
		{ .fh = fh, .size = 4096 },
	};
	struct fuse_out_header *header = vdrv_ptr(&guest->vdrv, guest->in, ROOM);
	const struct vdrv_buffer buffers[] = {
		{ guest->out, sizeof(request), false }, { guest->in, sizeof(*header), true },
		{ gpa, 4096, true },
	};

	memcpy(vdrv_ptr(&guest->vdrv, guest->out, ROOM), &request, sizeof(request));
	exchange_buffers(&guest->vdrv.queues[REQUESTS], buffers, ARRAY_SIZE(buffers));
	return header->error ?: (ssize_t)(header->len - sizeof(*header));
}

static void test_data_that_lie_there(void **state)
{
	struct guest guest;
	uint64_t node, fh;

	(void)state;
	open_guest(&guest, DAX);
	node = map_short(&guest);
	node = lookup(&guest, lookup(&guest, ROOT, "dir"), "file");
	assert_true(open_node(&guest, FUSE_OPEN, node, O_RDONLY, &fh) > 0);
	assert_int_equal(read_into(&guest, node, fh, VDRV_SHM + LOST), -EFAULT);
	assert_int_equal(read_into(&guest, node, fh, VDRV_SHM), strlen("below it"));
	assert_memory_equal(window(&guest), "below it", 8);
	/* And where nothing is mapped. */
	assert_int_equal(read_into(&guest, node, fh, VDRV_SHM + WINDOW_PIECE), strlen("below it"));
	assert_memory_equal(window(&guest) + WINDOW_PIECE, "below it", 8);
	close_guest(&guest);
}

/* What a disk says of a read to there. */
static uint8_t disk_reads(struct vdrv *disk, uint64_t gpa)
{
	const uint64_t out = vdrv_alloc(disk, sizeof(struct virtio_blk_outhdr));
	const uint64_t status = vdrv_alloc(disk, 1);
	const struct vdrv_buffer buffers[] = {
		{ out, sizeof(struct virtio_blk_outhdr), false }, { gpa, 4096, true },
		{ status, 1, true },
	};

	exchange_buffers(&disk->queues[0], buffers, ARRAY_SIZE(buffers));
	return *(uint8_t *)vdrv_ptr(disk, status, 1);
}

static void test_disks_that_read_to_there(void **state)
{
	struct guest guest;
	struct vdrv disk;
	char options[512];
	const struct vdrv_setup setup = { .class = &blk_class, .options = options,
					  .transport = VDRV_PCI, .confine = CONFINE };
	char data[4] = "";
	int fd;

	(void)state;
	open_guest(&guest, DAX);
	host_writes(&guest, "shared/disk", "on the disk");
	assert_int_equal(truncate(path_of(&guest, "shared/disk"), 8192), 0);
	snprintf(options, sizeof(options), "%s,ro,engine=sync", path_of(&guest, "shared/disk"));
	assert_int_equal(vdrv_open(&disk, &setup), 0);
	add_window(&disk, &guest.vdrv.dev->shm.window);
	assert_int_equal(vdrv_run(&disk), 0);
	assert_int_equal(vdrv_begin(&disk, 0, 0), 0);

	map_short(&guest);
	assert_int_equal(disk_reads(&disk, VDRV_SHM), VIRTIO_BLK_S_OK);
	fd = open(path_of(&guest, "shared/file"), O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, data, sizeof(data)), sizeof(data));
	close(fd);
	assert_memory_equal(data, "on t", sizeof(data));
	assert_int_equal(disk_reads(&disk, VDRV_SHM + LOST), VIRTIO_BLK_S_IOERR);
	/* Cut short below its last page: by the time of the read zeroes may be there. */
	host_sizes(&guest, 0);
	disk_reads(&disk, VDRV_SHM);
	assert_false(vdrv_needs_reset(&disk));
	vdrv_close(&disk);
	close_guest(&guest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_what_is_no_file_of_the_guest),
		cmocka_unit_test(test_lists),
		cmocka_unit_test(test_no_more_than_there_are_pieces),
		cmocka_unit_test(test_read_only),
		cmocka_unit_test(test_requests_that_lie_there),
		cmocka_unit_test(test_data_that_lie_there),
		cmocka_unit_test(test_disks_that_read_to_there),
	};

	/* As the program has it: a thread with an arena of its own reads /proc/sys when it gives memory back. */
	mallopt(M_ARENA_MAX, 1);
	filter_report_violations(NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
