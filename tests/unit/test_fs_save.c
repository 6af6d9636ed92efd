// SPDX-License-Identifier: Apache-2.0
/* A mount that is saved and goes on in another process: here in another server of the same directory. */
#include "tests/unit/share.h"

static void save(struct share *share, struct state *ret_saved)
{
	char file[PATH_MAX];

	*ret_saved = (struct state){ 0 };
	assert_int_equal(fs_save(share->fs, ret_saved, file), 0);
}

static int load(struct share *share, const struct state *saved)
{
	struct state_reader reader = { saved->data, saved->len };
	int err = fs_load(share->fs, &reader);

	if (!err)
		assert_int_equal(reader.left, 0);
	return err;
}

/* Another server, which knows nothing. */
static void restart(struct share *share, const struct fs_conf *conf)
{
	fs_forget(share->fs);
	fs_close(share->fs);
	assert_int_equal(fs_open(share->path, conf, &share->fs), 0);
}

static void move_on(struct share *share)
{
	struct state saved;

	save(share, &saved);
	restart(share, &plain);
	assert_int_equal(load(share, &saved), 0);
	assert_int_equal(fs_enter(share->fs), 0);
	state_free(&saved);
}

static ssize_t read_dir(struct share *share, uint64_t node, uint64_t fh, uint64_t offset)
{
	const struct fuse_read_in in = { .fh = fh, .offset = offset, .size = 4096 };

	return ask(share, FUSE_READDIR, node, IN(in), NULL);
}

static void test_a_mount_goes_on(void **state)
{
	const struct fuse_open_in open_in = { 0 };
	uint64_t dir, below, file, fh, other, dir_fh;
	char buffer[16] = "some text";
	struct fuse_attr attr;
	struct share share;

	(void)state;
	open_share(&share, &plain);
	dir = make_dir(&share, ROOT, "dir");
	below = make_dir(&share, dir, "below");
	fh = create(&share, below, "file", 0640, &file);
	assert_true(transfer(&share, FUSE_WRITE, file, fh, buffer, 9, 9, 0) > 0);
	/* Its parent is a later one. */
	other = make_dir(&share, ROOT, "other");
	assert_int_equal(lookup(&share, ROOT, "dir"), dir);
	assert_true(ask(&share, FUSE_OPENDIR, ROOT, IN(open_in), NULL) > 0);
	dir_fh = ((const struct fuse_open_out *)(const void *)share.reply)->fh;
	forget(&share, dir, 2);
	move_on(&share);

	/* Forgotten, but for what lies in it. */
	assert_int_equal(getattr(&share, dir, &attr), -ESTALE);
	assert_int_equal(lookup(&share, ROOT, "dir"), dir);
	assert_int_equal(lookup(&share, below, "file"), file);
	assert_int_equal(transfer(&share, FUSE_READ, file, fh, buffer, 16, 16, 5), 4);
	assert_memory_equal(buffer, "text", 4);
	assert_true(transfer(&share, FUSE_WRITE, file, fh, buffer, 4, 4, 9) > 0);
	assert_true(getattr(&share, file, &attr) > 0);
	assert_int_equal(attr.size, 13);
	assert_true(read_dir(&share, ROOT, dir_fh, 0) > 0);
	assert_int_equal(release(&share, ROOT, dir_fh), 0);
	assert_int_equal(release(&share, file, fh), 0);
	/* What is new is nothing that there was. */
	create(&share, other, "new", 0600, &dir);
	assert_true(dir != file && dir != below && dir != other);
	forget(&share, file, 2);
	assert_int_equal(getattr(&share, file, &attr), -ESTALE);
	close_share(&share);
}

static void test_saves_of_loads_are_equal(void **state)
{
	struct state first, second;
	struct share share;
	uint64_t node;

	(void)state;
	open_share(&share, &plain);
	create(&share, make_dir(&share, ROOT, "dir"), "file", 0640, &node);
	save(&share, &first);
	restart(&share, &plain);
	assert_int_equal(load(&share, &first), 0);
	save(&share, &second);
	assert_int_equal(second.len, first.len);
	assert_memory_equal(second.data, first.data, first.len);
	state_free(&second);
	assert_int_equal(fs_enter(share.fs), 0);
	save(&share, &second);
	assert_int_equal(second.len, first.len);
	assert_memory_equal(second.data, first.data, first.len);
	state_free(&second);
	/* Whoever mounts anew has nothing of it. */
	assert_int_equal(load(&share, &first), 0);
	fs_forget(share.fs);
	assert_int_equal(fs_enter(share.fs), 0);
	assert_int_equal(ask(&share, FUSE_LOOKUP, ROOT, NAME("dir"), NULL), -EIO);
	state_free(&first);
	close_share(&share);
}

/* The host did something meanwhile. */
static void test_what_is_not_found_is_stale(void **state)
{
	uint64_t moved, moved_fh, replaced, dir, inner, kept;
	struct fuse_attr attr;
	struct state saved;
	struct share share;
	char to[256], byte;

	(void)state;
	open_share(&share, &plain);
	moved_fh = create(&share, ROOT, "moved", 0600, &moved);
	host_writes(&share, "replaced", "1");
	host_writes(&share, "kept", "1");
	replaced = lookup(&share, ROOT, "replaced");
	kept = lookup(&share, ROOT, "kept");
	dir = make_dir(&share, ROOT, "dir");
	inner = make_dir(&share, dir, "inner");
	save(&share, &saved);
	strcpy(to, in_share(&share, "elsewhere"));
	assert_int_equal(rename(in_share(&share, "moved"), to), 0);
	strcpy(to, in_share(&share, "replaced"));
	host_writes(&share, "new", "2");
	assert_int_equal(rename(in_share(&share, "new"), to), 0);
	strcpy(to, in_share(&share, "other"));
	assert_int_equal(rename(in_share(&share, "dir"), to), 0);
	restart(&share, &plain);
	assert_int_equal(load(&share, &saved), 0);
	assert_int_equal(fs_enter(share.fs), 0);
	state_free(&saved);

	assert_int_equal(getattr(&share, moved, &attr), -ESTALE);
	assert_int_equal(transfer(&share, FUSE_READ, moved, moved_fh, &byte, 1, 1, 0), -ESTALE);
	assert_int_equal(release(&share, moved, moved_fh), 0);
	assert_int_equal(transfer(&share, FUSE_READ, moved, moved_fh, &byte, 1, 1, 0), -EBADF);
	assert_int_equal(getattr(&share, replaced, &attr), -ESTALE);
	assert_int_equal(getattr(&share, dir, &attr), -ESTALE);
	assert_int_equal(getattr(&share, inner, &attr), -ESTALE);
	assert_true(getattr(&share, kept, &attr) > 0);
	assert_true(lookup(&share, ROOT, "elsewhere") != moved);
	assert_true(lookup(&share, lookup(&share, ROOT, "other"), "inner") != inner);
	forget(&share, moved, 1);
	close_share(&share);
}

/* Each is seen in the other: that is no order in which to find them again. */
static void test_directories_in_a_circle(void **state)
{
	const struct fuse_open_in open_in = { 0 };
	struct fuse_attr attr;
	struct share share;
	char from[256], to[256];
	uint64_t a, b, fh;

	(void)state;
	open_share(&share, &plain);
	a = make_dir(&share, ROOT, "a");
	b = make_dir(&share, a, "b");
	assert_true(ask(&share, FUSE_OPENDIR, b, IN(open_in), NULL) > 0);
	fh = ((const struct fuse_open_out *)(const void *)share.reply)->fh;
	strcpy(from, in_share(&share, "a/b"));
	strcpy(to, in_share(&share, "b"));
	assert_int_equal(rename(from, to), 0);
	strcpy(from, in_share(&share, "a"));
	strcpy(to, in_share(&share, "b/a"));
	assert_int_equal(rename(from, to), 0);
	assert_int_equal(lookup(&share, b, "a"), a);
	move_on(&share);
	assert_int_equal(getattr(&share, a, &attr), -ESTALE);
	assert_int_equal(getattr(&share, b, &attr), -ESTALE);
	assert_int_equal(read_dir(&share, b, fh, 0), -ESTALE);
	assert_int_equal(release(&share, b, fh), 0);
	assert_true(lookup(&share, lookup(&share, ROOT, "b"), "a"));
	close_share(&share);
}

static void test_what_has_no_name_is_not_saved(void **state)
{
	struct state saved = { 0 };
	struct share share;
	char file[PATH_MAX];
	uint64_t node, fh;

	(void)state;
	open_share(&share, &plain);
	fh = create(&share, make_dir(&share, ROOT, "dir"), "gone", 0600, &node);
	assert_int_equal(ask(&share, FUSE_UNLINK, lookup(&share, ROOT, "dir"), NAME("gone"), NULL), 0);
	assert_int_equal(fs_save(share.fs, &saved, file), -EBUSY);
	assert_non_null(strstr(file, "dir/gone"));
	assert_int_equal(release(&share, node, fh), 0);
	assert_int_equal(fs_save(share.fs, &saved, file), 0);
	state_free(&saved);
	close_share(&share);
}

/* As little of it as there may be, and any byte of it another. */
static void test_saves_that_were_tampered_with(void **state)
{
	static const uint8_t flips[] = { 0x01, 0x02, 0x80, 0xff };
	struct state good, bad;
	uint64_t node, dir;
	struct share share;

	(void)state;
	open_share(&share, &plain);
	dir = make_dir(&share, ROOT, "dir");
	create(&share, dir, "file", 0640, &node);
	make_dir(&share, dir, "sub");
	save(&share, &good);
	bad = (struct state){ .data = malloc(good.len), .len = good.len };
	assert_non_null(bad.data);
	restart(&share, &plain);
	for (size_t i = 0; i < good.len * ARRAY_SIZE(flips); i++) {
		memcpy(bad.data, good.data, good.len);
		bad.data[i / ARRAY_SIZE(flips)] ^= flips[i % ARRAY_SIZE(flips)];
		if (load(&share, &bad) == 0 && fs_enter(share.fs) == 0) {
			lookup(&share, ROOT, "dir");
			lookup(&share, dir, "file");
			lookup(&share, dir, "sub");
			forget(&share, node, UINT64_MAX);
			release(&share, node, 1);
			release(&share, dir, 1);
		}
		fs_forget(share.fs);
	}
	for (bad.len = 0; bad.len < good.len; bad.len++)
		assert_int_equal(load(&share, &bad), -EINVAL);
	assert_int_equal(load(&share, &good), 0);
	assert_int_equal(fs_enter(share.fs), 0);
	assert_int_equal(lookup(&share, dir, "file"), node);
	free(bad.data);
	state_free(&good);
	close_share(&share);
}

static void test_a_save_of_another_configuration(void **state)
{
	const struct fs_conf acl = { .xattr = true, .acl = true, .fds = FS_FDS_MIN };
	struct state saved;
	struct share share;

	(void)state;
	open_share(&share, &acl);
	save(&share, &saved);
	restart(&share, &plain);
	assert_int_equal(load(&share, &saved), -EINVAL);
	assert_int_equal(fs_enter(share.fs), 0);
	state_free(&saved);
	close_share(&share);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_mount_goes_on),
		cmocka_unit_test(test_saves_of_loads_are_equal),
		cmocka_unit_test(test_what_is_not_found_is_stale),
		cmocka_unit_test(test_directories_in_a_circle),
		cmocka_unit_test(test_what_has_no_name_is_not_saved),
		cmocka_unit_test(test_saves_that_were_tampered_with),
		cmocka_unit_test(test_a_save_of_another_configuration),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
