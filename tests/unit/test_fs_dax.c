// SPDX-License-Identifier: Apache-2.0
/* Files in the guest's address space: what it may map, and what is left of a file that is cut short. */
#include <linux/falloc.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include "core/window.h"
#include "tests/unit/share.h"

#define PIECES 8
#define BOTH (FUSE_SETUPMAPPING_FLAG_READ | FUSE_SETUPMAPPING_FLAG_WRITE)
#define NO_FH UINT64_MAX

struct fixture {
	struct share share;
	struct window window;
	struct fs_conf conf;
};

static void make_window(struct fixture *f, bool read_only)
{
	*f = (struct fixture){ 0 };
	assert_int_equal(window_init(&f->window, PIECES * (uint64_t)WINDOW_PIECE), 0);
	f->conf = (struct fs_conf){ .window = &f->window, .fds = FS_FDS_MIN, .read_only = read_only };
}

static void open_as(struct fixture *f, bool read_only)
{
	make_window(f, read_only);
	open_share(&f->share, &f->conf);
}

static int setup(void **state)
{
	struct fixture *f = malloc(sizeof(*f));

	assert_non_null(f);
	open_as(f, false);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	close_share(&f->share);
	window_free(&f->window);
	free(f);
	return 0;
}

static ssize_t map(struct fixture *f, uint64_t node, uint64_t flags, uint64_t from, uint64_t to,
		   uint64_t len)
{
	const struct fuse_setupmapping_in in = { .fh = NO_FH, .foffset = from, .len = len,
						 .flags = flags, .moffset = to };

	return ask(&f->share, FUSE_SETUPMAPPING, node, IN(in), NULL);
}

/* A piece. */
static ssize_t map_one(struct fixture *f, uint64_t node, uint64_t flags, unsigned int from,
		       unsigned int to)
{
	return map(f, node, flags, from * (uint64_t)WINDOW_PIECE, to * (uint64_t)WINDOW_PIECE,
		   WINDOW_PIECE);
}

static ssize_t unmap(struct fixture *f, uint64_t offset, uint64_t len)
{
	const struct fuse_removemapping_in in = { .count = 1 };
	const struct fuse_removemapping_one one = { .moffset = offset, .len = len };

	return ask(&f->share, FUSE_REMOVEMAPPING, ROOT, IN(in), IN(one), NULL);
}

static uint8_t *piece(const struct fixture *f, unsigned int n)
{
	return f->window.hva + n * (size_t)WINDOW_PIECE;
}

/* A file of three pieces and a bit, each of which begins with its number. */
static uint64_t make(struct fixture *f, const char *name)
{
	int fd = open(in_share(&f->share, name), O_RDWR | O_CREAT, 0644);
	const uint8_t numbers[] = { 1, 2, 3, 4 };

	assert_true(fd >= 0);
	for (size_t i = 0; i < sizeof(numbers); i++)
		assert_int_equal(pwrite(fd, &numbers[i], 1, (off_t)(i * WINDOW_PIECE)), 1);
	close(fd);
	return lookup(&f->share, ROOT, name);
}

static void test_what_a_mount_is_told(void **state)
{
	struct fixture *f = *state;
	const struct fuse_init_out *out = (const void *)f->share.reply;
	struct fuse_attr attr = { 0 };

	assert_true(getattr(&f->share, make(f, "large"), &attr) > 0);
	assert_true(attr.flags & FUSE_ATTR_DAX);
	host_writes(&f->share, "small", "text");
	assert_true(getattr(&f->share, lookup(&f->share, ROOT, "small"), &attr) > 0);
	assert_false(attr.flags & FUSE_ATTR_DAX);
	assert_true(init(&f->share) > 0);
	assert_int_equal(1u << out->map_alignment, WINDOW_PIECE);
	assert_true(init_with(&f->share, 0) > 0);
	assert_int_equal(out->map_alignment, 0);
}

static void test_the_guest_sees_files(void **state)
{
	struct fixture *f = *state;
	uint64_t node = make(f, "file"), other = make(f, "other");

	for (unsigned int i = 0; i < 4; i++) {
		assert_int_equal(map_one(f, node, BOTH, i, i), 0);
		assert_int_equal(*piece(f, i), i + 1);
	}
	/* In the place of another one. */
	assert_int_equal(map_one(f, other, BOTH, 2, 0), 0);
	assert_int_equal(*piece(f, 0), 3);
	*piece(f, 0) = 33;
	assert_int_equal(map_one(f, other, FUSE_SETUPMAPPING_FLAG_READ, 2, 7), 0);
	assert_int_equal(*piece(f, 7), 33);
	*piece(f, 7) = 0;
	assert_int_equal(*piece(f, 0), 33);

	assert_int_equal(unmap(f, WINDOW_PIECE, WINDOW_PIECE), 0);
	assert_int_equal(*piece(f, 1), 0);
	forget(&f->share, node, 1);
	assert_int_equal(*piece(f, 2) | *piece(f, 3), 0);
	assert_int_equal(*piece(f, 0), 33);
	assert_int_equal(ask(&f->share, FUSE_DESTROY, 0, NULL), 0);
	assert_int_equal(*piece(f, 0), 0);
}

static void test_an_open_file_will_do(void **state)
{
	struct fixture *f = *state;
	uint64_t node = make(f, "file"), reader, both;
	struct fuse_setupmapping_in in = { .len = WINDOW_PIECE, .flags = BOTH };

	assert_true(open_node(&f->share, node, O_RDONLY, &reader) > 0);
	assert_true(open_node(&f->share, node, O_RDWR, &both) > 0);
	in.fh = reader;
	assert_int_equal(ask(&f->share, FUSE_SETUPMAPPING, node, IN(in), NULL), -EACCES);
	in.fh = both;
	assert_int_equal(ask(&f->share, FUSE_SETUPMAPPING, node, IN(in), NULL), 0);
	assert_int_equal(*piece(f, 0), 1);
	in.fh = both + 1;
	assert_int_equal(ask(&f->share, FUSE_SETUPMAPPING, node, IN(in), NULL), -EBADF);
	/* It needs the handle no more. */
	release(&f->share, node, both);
	release(&f->share, node, reader);
	assert_int_equal(*piece(f, 0), 1);
}

static void test_lies_are_refused(void **state)
{
	struct fixture *f = *state;
	const struct fuse_removemapping_one one = { 0, WINDOW_PIECE };
	const struct fuse_removemapping_in more = { .count = 2 }, many = { .count = UINT32_MAX };
	uint64_t node = make(f, "file");

	assert_int_equal(map(f, node, BOTH, 0, 0, 2 * (uint64_t)WINDOW_PIECE), -EINVAL);
	assert_int_equal(map_one(f, ROOT, BOTH, 0, 0), -EISDIR);
	assert_int_equal(map_one(f, node + 1, BOTH, 0, 0), -ESTALE);
	assert_int_equal(ask(&f->share, FUSE_REMOVEMAPPING, node, IN(more), IN(one), NULL), -EINVAL);
	assert_int_equal(ask(&f->share, FUSE_REMOVEMAPPING, node, IN(many), IN(one), NULL), -EINVAL);
}

static void test_read_only_is_ours_to_enforce(void **state)
{
	struct fixture f;
	uint64_t node;

	(void)state;
	open_as(&f, true);
	node = make(&f, "file");
	assert_int_equal(map_one(&f, node, BOTH, 0, 0), -EROFS);
	assert_int_equal(map_one(&f, node, FUSE_SETUPMAPPING_FLAG_READ, 1, 0), 0);
	assert_int_equal(*piece(&f, 0), 2);
	*piece(&f, 0) = 9;
	assert_int_equal(map_one(&f, node, FUSE_SETUPMAPPING_FLAG_READ, 1, 1), 0);
	assert_int_equal(*piece(&f, 1), 2);
	close_share(&f.share);
	window_free(&f.window);
}

static void test_without_a_window(void **state)
{
	const struct fuse_setupmapping_in in = { .len = WINDOW_PIECE };
	const struct fuse_removemapping_in none = { 0 };
	struct share share;

	(void)state;
	open_share(&share, &plain);
	assert_int_equal(ask(&share, FUSE_SETUPMAPPING, ROOT, IN(in), NULL), -ENOSYS);
	assert_int_equal(ask(&share, FUSE_REMOVEMAPPING, ROOT, IN(none), NULL), -ENOSYS);
	close_share(&share);
}

/* Asks the kernel, as touching it would put a page there. */
static bool is_there(const struct fixture *f, unsigned int n, size_t offset)
{
	int pipes[2];
	bool there;

	assert_int_equal(pipe(pipes), 0);
	there = write(pipes[1], piece(f, n) + offset, 1) == 1;
	close(pipes[0]);
	close(pipes[1]);
	return there;
}

static void test_a_file_that_is_cut_short(void **state)
{
	struct fixture *f = *state;
	uint64_t node = make(f, "file"), other = make(f, "other");
	struct fuse_attr attr;

	assert_int_equal(map_one(f, node, BOTH, 1, 0), 0);
	assert_int_equal(map_one(f, other, BOTH, 3, 1), 0);
	assert_int_equal(map_one(f, node, BOTH, 0, 2), 0);
	assert_int_equal(truncate(in_share(&f->share, "file"), 5000), 0);
	assert_false(is_there(f, 0, 0));
	fs_look(f->share.fs);
	assert_true(is_there(f, 0, 0) && is_there(f, 2, WINDOW_PIECE - 1));
	assert_int_equal(*piece(f, 0), 0);
	assert_int_equal(*piece(f, 2), 1);
	/* The rest of a file that ends as it did may still become a part of it. */
	assert_false(is_there(f, 1, WINDOW_PIECE - 1));
	*piece(f, 0) = 77;
	/* A bit of it comes back, which the guest need not ask for. */
	assert_int_equal(truncate(in_share(&f->share, "file"), WINDOW_PIECE + 5000), 0);
	fs_look(f->share.fs);
	assert_int_equal(*piece(f, 0), 0);

	/* It grows again, and the guest is told. */
	assert_int_equal(truncate(in_share(&f->share, "file"), 3 * (off_t)WINDOW_PIECE), 0);
	assert_true(getattr(&f->share, node, &attr) > 0);
	assert_int_equal(*piece(f, 0), 0);
	*piece(f, 2) = 5;
	*piece(f, 0) = 6;
	assert_int_equal(unmap(f, 0, 3 * (uint64_t)WINDOW_PIECE), 0);
	assert_int_equal(map_one(f, node, BOTH, 1, 5), 0);
	assert_int_equal(*piece(f, 5), 6);
}

/* It was cut short before it was mapped, which the guest does not know. */
static void test_an_end_that_the_guest_does_not_know(void **state)
{
	struct fixture *f = *state;
	uint64_t node = make(f, "file");
	struct fuse_attr attr;

	assert_int_equal(truncate(in_share(&f->share, "file"), 5000), 0);
	assert_int_equal(map_one(f, node, BOTH, 0, 0), 0);
	assert_true(is_there(f, 0, WINDOW_PIECE - 1));
	assert_int_equal(*piece(f, 0), 1);
	/* Now it does. */
	assert_true(getattr(&f->share, node, &attr) > 0);
	assert_int_equal(map_one(f, node, BOTH, 0, 1), 0);
	assert_false(is_there(f, 1, WINDOW_PIECE - 1));
}

/* And goes on in another server, with another window. */
static void test_a_mount_is_saved(void **state)
{
	struct fixture *f = *state;
	uint64_t node = make(f, "file"), other = make(f, "other");
	struct fs_conf conf = f->conf;
	struct state saved = { 0 };
	struct state_reader reader;
	char name[PATH_MAX];
	struct window next;

	assert_int_equal(map_one(f, node, BOTH, 1, 6), 0);
	assert_int_equal(map_one(f, other, FUSE_SETUPMAPPING_FLAG_READ, 2, 1), 0);
	assert_int_equal(fs_save(f->share.fs, &saved, name), 0);
	fs_close(f->share.fs);
	/* Cut short meanwhile. */
	assert_int_equal(truncate(in_share(&f->share, "other"), 0), 0);

	/* Where there is no window, or a smaller one, it cannot go on. */
	conf.window = NULL;
	assert_int_equal(fs_open(f->share.path, &conf, &f->share.fs), 0);
	reader = (struct state_reader){ saved.data, saved.len };
	assert_int_equal(fs_load(f->share.fs, &reader), -EINVAL);
	fs_close(f->share.fs);
	assert_int_equal(window_init(&next, 4 * (uint64_t)WINDOW_PIECE), 0);
	conf.window = &next;
	assert_int_equal(fs_open(f->share.path, &conf, &f->share.fs), 0);
	reader = (struct state_reader){ saved.data, saved.len };
	assert_int_equal(fs_load(f->share.fs, &reader), -EINVAL);
	fs_close(f->share.fs);
	window_free(&next);

	assert_int_equal(window_clear(&f->window, 0, f->window.len), 0);
	memset(f->window.hva, 7, f->window.len);
	assert_int_equal(fs_open(f->share.path, &f->conf, &f->share.fs), 0);
	reader = (struct state_reader){ saved.data, saved.len };
	assert_int_equal(fs_load(f->share.fs, &reader), 0);
	assert_int_equal(fs_enter(f->share.fs), 0);
	state_free(&saved);
	assert_int_equal(*piece(f, 6), 2);
	*piece(f, 6) = 22;
	assert_int_equal(map_one(f, node, BOTH, 1, 7), 0);
	assert_int_equal(*piece(f, 7), 22);
	assert_true(is_there(f, 1, 0));
	assert_int_equal(*piece(f, 1) | *piece(f, 0), 0);
}

static void test_a_page_that_kvm_does_not_get(void **state)
{
	struct fixture *f = *state;
	uint64_t node = make(f, "file"), other = make(f, "other");
	struct fuse_attr attr;

	assert_int_equal(fs_mend(f->share.fs), 0);
	assert_int_equal(map_one(f, node, BOTH, 1, 0), 0);
	assert_int_equal(map_one(f, other, BOTH, 3, 1), 0);
	/* The first that becomes shorter, and where there is none whatever has an end. */
	assert_int_equal(truncate(in_share(&f->share, "file"), 0), 0);
	assert_int_equal(fs_mend(f->share.fs), 1);
	assert_true(is_there(f, 0, 0));
	assert_false(is_there(f, 1, WINDOW_PIECE - 1));
	assert_int_equal(fs_mend(f->share.fs), 1);
	assert_true(is_there(f, 1, WINDOW_PIECE - 1));
	assert_int_equal(*piece(f, 1), 4);
	assert_int_equal(fs_mend(f->share.fs), 0);
	/* What was put there for a while is a file again. */
	assert_int_equal(truncate(in_share(&f->share, "other"), 4 * (off_t)WINDOW_PIECE), 0);
	assert_true(getattr(&f->share, other, &attr) > 0);
	*(piece(f, 1) + 8192) = 5;
	assert_int_equal(map_one(f, other, BOTH, 3, 4), 0);
	assert_int_equal(*(piece(f, 4) + 8192), 5);
}

/* A device's thread copies from a buffer there. */
static void test_a_page_that_we_do_not_get(void **state)
{
	struct fixture *f = *state;
	uint64_t node = make(f, "file");
	struct fuse_attr attr;
	struct window last; /* which has SIGBUS handled again: around each test cmocka has it */

	assert_int_equal(window_init(&last, WINDOW_PIECE), 0);
	assert_int_equal(map_one(f, node, BOTH, 0, 0), 0);
	assert_int_equal(truncate(in_share(&f->share, "file"), 0), 0);
	assert_int_equal(*piece(f, 0), 0);
	host_writes(&f->share, "file", "text");
	assert_true(getattr(&f->share, node, &attr) > 0);
	assert_memory_equal(piece(f, 0), "text", 4);
	assert_true(is_there(f, 0, WINDOW_PIECE - 1));
	window_free(&last);
}

static ssize_t allocate(struct fixture *f, uint64_t node, uint64_t fh, int mode, uint64_t offset,
			uint64_t len)
{
	const struct fuse_fallocate_in in = { .fh = fh, .offset = offset, .length = len,
					      .mode = (uint32_t)mode };

	return ask(&f->share, FUSE_FALLOCATE, node, IN(in), NULL);
}

#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)

static off_t blocks(const struct fixture *f, const char *name)
{
	struct stat st;

	assert_int_equal(stat(in_share(&f->share, name), &st), 0);
	return st.st_blocks * 512;
}

/* What is mapped to be written keeps its room, and nothing beside it. */
static void punch(struct fixture *f)
{
	const uint64_t sparse = 64 * (uint64_t)WINDOW_PIECE, half = WINDOW_PIECE / 2;
	uint64_t node = make(f, "file"), fh;
	uint8_t *buffer = malloc(WINDOW_PIECE);
	off_t before;

	assert_non_null(buffer);
	memset(buffer, 5, WINDOW_PIECE);
	assert_int_equal(truncate(in_share(&f->share, "file"), (off_t)sparse), 0);
	assert_true(open_node(&f->share, node, O_RDWR, &fh) > 0);
	for (unsigned int i = 0; i < 4; i++)
		assert_true(transfer(&f->share, FUSE_WRITE, node, fh, buffer, WINDOW_PIECE,
				     WINDOW_PIECE, i * (uint64_t)WINDOW_PIECE) > 0);
	free(buffer);
	assert_int_equal(map_one(f, node, BOTH, 2, 0), 0);
	assert_int_equal(map_one(f, node, BOTH, 1, 1), 0);
	assert_int_equal(map_one(f, node, FUSE_SETUPMAPPING_FLAG_READ, 0, 2), 0);
	before = blocks(f, "file");
	assert_int_equal(allocate(f, node, fh, PUNCH, 0, WINDOW_PIECE), 0);
	assert_true(blocks(f, "file") <= before - (off_t)half);
	assert_int_equal(allocate(f, node, fh, PUNCH, WINDOW_PIECE + half, sparse), 0);
	assert_in_range(blocks(f, "file"), 2 * WINDOW_PIECE, before - 3 * (off_t)half);
	assert_int_equal(*piece(f, 2), 0);
	assert_int_equal(*(piece(f, 1) + half - 1), 5);
	assert_int_equal(*(piece(f, 1) + half) | *piece(f, 0) | *(piece(f, 0) + WINDOW_PIECE - 1), 0);
	/* As the kernel has it for others. */
	assert_int_equal(allocate(f, node, fh, FALLOC_FL_PUNCH_HOLE, WINDOW_PIECE, half), -EOPNOTSUPP);
	assert_int_equal(allocate(f, node, fh, FALLOC_FL_INSERT_RANGE, 0, WINDOW_PIECE), -EOPNOTSUPP);
	release(&f->share, node, fh);
}

static void test_a_hole_in_what_is_mapped(void **state)
{
	punch(*state);
}

/* Nor is it given away for what another file has. */
static void test_a_copy_into_what_is_mapped(void **state)
{
	struct fixture *f = *state;
	struct fuse_copy_file_range_in copy = { .len = 4096, .off_out = WINDOW_PIECE };
	uint64_t node = make(f, "file"), other = make(f, "other");

	copy.nodeid_out = node;
	assert_true(open_node(&f->share, other, O_RDONLY, &copy.fh_in) > 0);
	assert_true(open_node(&f->share, node, O_RDWR, &copy.fh_out) > 0);
	assert_int_equal(map_one(f, node, BOTH, 1, 0), 0);
	assert_int_equal(ask(&f->share, FUSE_COPY_FILE_RANGE, other, IN(copy), NULL), -EOPNOTSUPP);
	assert_int_equal(*piece(f, 0), 2);
	copy.off_out = 0;
	copy.off_in = WINDOW_PIECE;
	assert_true(ask(&f->share, FUSE_COPY_FILE_RANGE, other, IN(copy), NULL) > 0);
	assert_int_equal(map_one(f, node, FUSE_SETUPMAPPING_FLAG_READ, 0, 1), 0);
	assert_int_equal(*piece(f, 1), 2);
	release(&f->share, other, copy.fh_in);
	release(&f->share, node, copy.fh_out);
}

/* Without a descriptor there is no room to be had, and nothing grows. */
static void test_growing_without_descriptors(void **state)
{
	struct fixture *f = *state;
	const uint64_t far = 4 * (uint64_t)WINDOW_PIECE;
	uint64_t node = make(f, "file"), fh;
	struct rlimit before, limit;
	struct stat st;
	char x = 'x';
	ssize_t n;

	assert_int_equal(map_one(f, node, BOTH, 3, 0), 0);
	assert_true(open_node(&f->share, node, O_RDWR, &fh) > 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	limit = before;
	limit.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	n = transfer(&f->share, FUSE_WRITE, node, fh, &x, 1, 1, far);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(n, -EMFILE);
	assert_int_equal(stat(in_share(&f->share, "file"), &st), 0);
	assert_int_equal(st.st_size, 3 * (off_t)WINDOW_PIECE + 1);
	assert_true(transfer(&f->share, FUSE_WRITE, node, fh, &x, 1, 1, far) > 0);
	release(&f->share, node, fh);
}

/* It is the guest that says when they go. */
static void test_room_takes_no_privileges(void **state)
{
	struct fixture *f = *state;
	uint64_t node = make(f, "file");
	struct stat st;

	if (geteuid()) {
		print_message("skipped: only root may keep set-user-id on what is changed\n");
		skip();
	}
	assert_int_equal(chmod(in_share(&f->share, "file"), 06755), 0);
	assert_int_equal(lookup(&f->share, ROOT, "file"), node);
	assert_int_equal(map_one(f, node, BOTH, 1, 0), 0);
	assert_int_equal(stat(in_share(&f->share, "file"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 06755);
	assert_true(st.st_blocks * 512 > WINDOW_PIECE / 2);
}

/* A file that gets longer where it is mapped, and none of it without room. */
static void try_to_grow(struct fixture *f)
{
	const uint64_t far = WINDOW_PIECE - 4096;
	struct fuse_setattr_in set = { .valid = FATTR_SIZE, .size = far };
	struct fuse_copy_file_range_in copy = { .len = 1, .off_out = WINDOW_PIECE };
	uint64_t node, fh;
	struct stat st;
	char x = 'x';

	host_writes(&f->share, "small", "text");
	node = copy.nodeid_out = lookup(&f->share, ROOT, "small");
	assert_int_equal(map_one(f, node, BOTH, 0, 3), 0);
	assert_true(open_node(&f->share, node, O_RDWR, &fh) > 0);
	copy.fh_in = copy.fh_out = fh;
	assert_int_equal(setattr(&f->share, node, set), -ENOSPC);
	assert_int_equal(transfer(&f->share, FUSE_WRITE, node, fh, &x, 1, 1, far), -ENOSPC);
	assert_int_equal(allocate(f, node, fh, 0, far, 1), -ENOSPC);
	assert_int_equal(ask(&f->share, FUSE_COPY_FILE_RANGE, node, IN(copy), NULL), -ENOSPC);
	assert_int_equal(stat(in_share(&f->share, "small"), &st), 0);
	assert_int_equal(st.st_size, 4);
	set.size = 10000;
	assert_true(setattr(&f->share, node, set) > 0);
	assert_int_equal(stat(in_share(&f->share, "small"), &st), 0);
	assert_int_equal(st.st_blocks * 512, 3 * 4096);
	memset(piece(f, 3), 'y', 10000);
	/* What is behind a hole goes there when there is nothing to map. */
	assert_int_equal(unmap(f, 3 * (uint64_t)WINDOW_PIECE, WINDOW_PIECE), 0);
	assert_true(transfer(&f->share, FUSE_WRITE, node, fh, &x, 1, 1, far) > 0);
	release(&f->share, node, fh);
}

/* A share of a tmpfs that has so much room. */
static void open_small(struct fixture *f, const char *size)
{
	make_window(f, false);
	make_share(&f->share);
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("test", f->share.path, "tmpfs", 0, size) < 0) {
		say_no_mounts();
		assert_int_equal(rmdir(f->share.path), 0);
		window_free(&f->window);
		skip();
	}
	serve_share(&f->share, &f->conf);
}

static void close_small(struct fixture *f)
{
	fs_forget(f->share.fs);
	fs_close(f->share.fs);
	assert_int_equal(umount2(f->share.path, MNT_DETACH), 0);
	assert_int_equal(rmdir(f->share.path), 0);
	window_free(&f->window);
}

/* Which has no zeroes but those that are written. */
static void test_a_hole_in_memory(void **state)
{
	struct fixture f;

	(void)state;
	open_small(&f, "size=16m");
	punch(&f);
	close_small(&f);
}

/* A sparse file on a disk that has no room for all of it. */
static void test_a_disk_that_is_full(void **state)
{
	struct fixture f;
	uint64_t node;
	struct stat st;

	(void)state;
	open_small(&f, "size=5m");
	node = make(&f, "file");
	assert_int_equal(truncate(in_share(&f.share, "file"), 4 * (off_t)WINDOW_PIECE), 0);
	assert_int_equal(map_one(&f, node, BOTH, 0, 0), 0);
	assert_int_equal(map_one(&f, node, BOTH, 1, 1), 0);
	assert_int_equal(map_one(&f, node, BOTH, 2, 0), -ENOSPC);
	/* What was there is there, and all of it can be written; others can still be read. */
	assert_int_equal(*piece(&f, 0), 1);
	memset(piece(&f, 0), 5, 2 * (size_t)WINDOW_PIECE);
	assert_int_equal(map_one(&f, node, FUSE_SETUPMAPPING_FLAG_READ, 2, 2), 0);
	assert_int_equal(*piece(&f, 2), 3);
	assert_int_equal(stat(in_share(&f.share, "file"), &st), 0);
	assert_int_equal(st.st_size, 4 * (off_t)WINDOW_PIECE);
	try_to_grow(&f);
	close_small(&f);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_what_a_mount_is_told),
		TEST(test_the_guest_sees_files),
		TEST(test_an_open_file_will_do),
		TEST(test_lies_are_refused),
		cmocka_unit_test(test_read_only_is_ours_to_enforce),
		cmocka_unit_test(test_without_a_window),
		TEST(test_a_file_that_is_cut_short),
		TEST(test_an_end_that_the_guest_does_not_know),
		TEST(test_a_mount_is_saved),
		TEST(test_a_page_that_kvm_does_not_get),
		TEST(test_a_page_that_we_do_not_get),
		TEST(test_a_hole_in_what_is_mapped),
		cmocka_unit_test(test_a_hole_in_memory),
		TEST(test_a_copy_into_what_is_mapped),
		TEST(test_growing_without_descriptors),
		TEST(test_room_takes_no_privileges),
		cmocka_unit_test(test_a_disk_that_is_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
