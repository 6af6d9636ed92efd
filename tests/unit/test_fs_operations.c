// SPDX-License-Identifier: Apache-2.0
/* Operations one by one, as Linux asks for them, against what the host has then. */
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include "tests/unit/share.h"

static struct stat stat_of(const struct share *share, const char *name)
{
	struct stat st;

	assert_int_equal(lstat(in_share(share, name), &st), 0);
	return st;
}

static void test_attributes_are_those_of_the_host(void **state)
{
	const struct timespec before_1970[] = { { -5, 7 }, { -1, 999999999 } };
	struct fuse_attr attr = { 0 };
	struct share share;
	struct stat st;

	(void)state;
	open_share(&share, &plain);
	host_writes(&share, "file", "some text");
	assert_int_equal(utimensat(AT_FDCWD, in_share(&share, "file"), before_1970, 0), 0);
	assert_true(getattr(&share, lookup(&share, ROOT, "file"), &attr) > 0);
	st = stat_of(&share, "file");
	assert_true(attr.ino == st.st_ino && attr.size == 9 && attr.nlink == st.st_nlink);
	assert_true(attr.blocks == (uint64_t)st.st_blocks && attr.blksize == (uint64_t)st.st_blksize);
	assert_true(attr.mode == st.st_mode && attr.uid == st.st_uid && attr.gid == st.st_gid);
	assert_true((int64_t)attr.atime == -5 && attr.atimensec == 7);
	assert_true((int64_t)attr.mtime == -1 && attr.mtimensec == 999999999);
	assert_true((int64_t)attr.ctime == st.st_ctim.tv_sec);
	make_dir(&share, make_dir(&share, ROOT, "dir"), "below");
	assert_true(getattr(&share, lookup(&share, ROOT, "dir"), &attr) > 0);
	assert_int_equal(attr.nlink, stat_of(&share, "dir").st_nlink);
	close_share(&share);
}

static void test_times(void **state)
{
	struct share share;
	struct stat st;
	uint64_t node;
	time_t now = time(NULL);

	(void)state;
	open_share(&share, &plain);
	create(&share, ROOT, "file", 0600, &node);
	assert_true(setattr(&share, node, (struct fuse_setattr_in){
		.valid = FATTR_ATIME | FATTR_MTIME, .atime = 1, .atimensec = 2, .mtime = 3 }) > 0);
	/* One is now, the other stays. */
	assert_true(setattr(&share, node, (struct fuse_setattr_in){
		.valid = FATTR_ATIME | FATTR_ATIME_NOW, .atime = 99 }) > 0);
	st = stat_of(&share, "file");
	assert_true(st.st_atim.tv_sec >= now - 1 && st.st_mtim.tv_sec == 3);
	/* Of a writeback cache: when it changed is the host's to say. */
	assert_true(setattr(&share, node, (struct fuse_setattr_in){
		.valid = FATTR_CTIME, .ctime = 7 }) > 0);
	assert_true(setattr(&share, node, (struct fuse_setattr_in){
		.valid = FATTR_MTIME | FATTR_CTIME, .mtime = 8, .ctime = 8 }) > 0);
	st = stat_of(&share, "file");
	assert_true(st.st_mtim.tv_sec == 8 && st.st_ctim.tv_sec >= now - 1);
	/* A link's own. */
	assert_int_equal(symlink("file", in_share(&share, "link")), 0);
	assert_true(setattr(&share, lookup(&share, ROOT, "link"), (struct fuse_setattr_in){
		.valid = FATTR_MTIME, .mtime = 4 }) > 0);
	assert_int_equal(stat_of(&share, "link").st_mtim.tv_sec, 4);
	assert_int_equal(stat_of(&share, "file").st_mtim.tv_sec, 8);
	close_share(&share);
}

static void test_space_and_holes(void **state)
{
	struct fuse_fallocate_in range = { .length = 1 << 20 };
	struct fuse_lseek_in seek = { .whence = SEEK_HOLE };
	struct share share;
	uint64_t node;
	char byte = 'x';

	(void)state;
	open_share(&share, &plain);
	range.fh = seek.fh = create(&share, ROOT, "file", 0600, &node);
	if (ask(&share, FUSE_FALLOCATE, node, IN(range), NULL) == -EOPNOTSUPP) {
		close_share(&share);
		print_message("skipped: this file system cannot set room aside\n");
		skip();
	}
	assert_int_equal(stat_of(&share, "file").st_size, 1 << 20);
	assert_true(transfer(&share, FUSE_WRITE, node, range.fh, &byte, 1, 1, 0) > 0);
	assert_true(setattr(&share, node, (struct fuse_setattr_in){
		.valid = FATTR_SIZE, .size = 4 << 20 }) > 0);
	assert_int_equal(ask(&share, FUSE_LSEEK, node, IN(seek), NULL),
			 sizeof(struct fuse_lseek_out));
	seek.whence = SEEK_DATA;
	seek.offset = 4 << 20;
	assert_int_equal(ask(&share, FUSE_LSEEK, node, IN(seek), NULL), -ENXIO);
	seek.whence = SEEK_END;
	assert_int_equal(ask(&share, FUSE_LSEEK, node, IN(seek), NULL), -EINVAL);
	range.mode = FALLOC_FL_PUNCH_HOLE;
	assert_int_equal(ask(&share, FUSE_FALLOCATE, node, IN(range), NULL), -EOPNOTSUPP);
	range.mode |= FALLOC_FL_KEEP_SIZE;
	assert_int_equal(ask(&share, FUSE_FALLOCATE, node, IN(range), NULL), 0);
	assert_int_equal(transfer(&share, FUSE_READ, node, range.fh, &byte, 1, 1, 0), 1);
	assert_int_equal(byte, '\0');
	range.offset = INT64_MAX;
	assert_int_equal(ask(&share, FUSE_FALLOCATE, node, IN(range), NULL), -EFBIG);
	close_share(&share);
}

static void test_copies(void **state)
{
	struct fuse_copy_file_range_in copy = { .off_in = 2, .off_out = 1, .len = 100 };
	const struct fuse_write_out *out;
	uint64_t from, to;
	struct share share;
	char buffer[8];

	(void)state;
	open_share(&share, &plain);
	copy.fh_in = create(&share, ROOT, "from", 0600, &from);
	copy.fh_out = create(&share, ROOT, "to", 0600, &to);
	copy.nodeid_out = to;
	assert_true(transfer(&share, FUSE_WRITE, from, copy.fh_in, (char[]){ "01234" }, 5, 5, 0) > 0);
	assert_int_equal(ask(&share, FUSE_COPY_FILE_RANGE, from, IN(copy), NULL), sizeof(*out));
	out = (const void *)share.reply;
	assert_int_equal(out->size, 3);
	assert_int_equal(transfer(&share, FUSE_READ, to, copy.fh_out, buffer, 8, 8, 0), 4);
	assert_memory_equal(buffer, "\0" "234", 4);
	copy.off_in = UINT64_MAX;
	assert_int_equal(ask(&share, FUSE_COPY_FILE_RANGE, from, IN(copy), NULL), -EINVAL);
	copy.fh_out = copy.fh_in;
	assert_int_equal(ask(&share, FUSE_COPY_FILE_RANGE, from, IN(copy), NULL), -EBADF);
	close_share(&share);
}

static void test_syncs_and_closes(void **state)
{
	struct fuse_fsync_in sync = { .fsync_flags = FUSE_FSYNC_FDATASYNC };
	const struct fuse_open_in open_in = { 0 };
	const struct fuse_syncfs_in sync_all = { 0 };
	struct fuse_flush_in flush = { 0 };
	struct fuse_release_in release_in = { 0 };
	struct share share;
	uint64_t node;

	(void)state;
	open_share(&share, &plain);
	flush.fh = sync.fh = create(&share, ROOT, "file", 0600, &node);
	assert_int_equal(ask(&share, FUSE_FSYNC, node, IN(sync), NULL), 0);
	sync.fsync_flags = 0;
	assert_int_equal(ask(&share, FUSE_FSYNC, node, IN(sync), NULL), 0);
	assert_int_equal(ask(&share, FUSE_FLUSH, node, IN(flush), NULL), 0);
	assert_int_equal(release(&share, node, sync.fh), 0);
	assert_int_equal(ask(&share, FUSE_FSYNC, node, IN(sync), NULL), -EBADF);
	assert_int_equal(ask(&share, FUSE_FLUSH, node, IN(flush), NULL), -EBADF);
	assert_true(ask(&share, FUSE_OPENDIR, ROOT, IN(open_in), NULL) > 0);
	release_in.fh = sync.fh = ((const struct fuse_open_out *)(const void *)share.reply)->fh;
	assert_int_equal(ask(&share, FUSE_FSYNCDIR, ROOT, IN(sync), NULL), 0);
	assert_int_equal(ask(&share, FUSE_RELEASEDIR, ROOT, IN(release_in), NULL), 0);
	assert_int_equal(ask(&share, FUSE_FSYNCDIR, ROOT, IN(sync), NULL), -EBADF);
	assert_int_equal(ask(&share, FUSE_SYNCFS, ROOT, IN(sync_all), NULL), 0);
	close_share(&share);
}

static void test_names_one_by_one(void **state)
{
	const struct fuse_mkdir_in make = { .mode = 0700 };
	const struct fuse_mknod_in sock = { .mode = S_IFSOCK | 0600 };
	struct fuse_rename_in rename_in;
	struct share share;
	uint64_t dir, node;

	(void)state;
	open_share(&share, &plain);
	dir = make_dir(&share, ROOT, "dir");
	assert_int_equal(ask(&share, FUSE_MKDIR, ROOT, IN(make), NAME("dir"), NULL), -EEXIST);
	assert_true(ask(&share, FUSE_MKNOD, dir, IN(sock), NAME("socket"), NULL) > 0);
	assert_true(S_ISSOCK(stat_of(&share, "dir/socket").st_mode));
	assert_int_equal(ask(&share, FUSE_UNLINK, ROOT, NAME("dir"), NULL), -EISDIR);
	assert_int_equal(ask(&share, FUSE_RMDIR, dir, NAME("socket"), NULL), -ENOTDIR);
	assert_int_equal(ask(&share, FUSE_RMDIR, ROOT, NAME("dir"), NULL), -ENOTEMPTY);
	node = lookup(&share, dir, "socket");
	rename_in.newdir = ROOT;
	assert_int_equal(ask(&share, FUSE_RENAME, dir, IN(rename_in), NAME("socket"), NAME("up"),
			     NULL), 0);
	assert_int_equal(lookup(&share, ROOT, "up"), node);
	rename_in.newdir = dir;
	assert_int_equal(ask(&share, FUSE_RENAME, ROOT, IN(rename_in), NAME("dir"), NAME("in itself"),
			     NULL), -EINVAL);
	assert_int_equal(ask(&share, FUSE_RMDIR, ROOT, NAME("dir"), NULL), 0);
	assert_int_equal(ask(&share, FUSE_UNLINK, ROOT, NAME("up"), NULL), 0);
	assert_int_equal(ask(&share, FUSE_UNLINK, ROOT, NAME("up"), NULL), -ENOENT);
	close_share(&share);
}

static void test_the_rest(void **state)
{
	const struct fuse_interrupt_in interrupt = { .unique = 1 };
	const struct fuse_access_in may_write = { .mask = W_OK };
	const struct fuse_statfs_out *out;
	const struct fuse_batch_forget_in head = { .count = 100 };
	struct fuse_forget_one forgotten[2];
	struct fuse_attr attr;
	struct share share;
	struct statvfs st;

	(void)state;
	open_share(&share, &plain);
	assert_int_equal(statvfs(share.path, &st), 0);
	assert_int_equal(ask(&share, FUSE_STATFS, ROOT, NULL), sizeof(*out));
	out = (const void *)share.reply;
	assert_true(out->st.blocks == st.f_blocks && out->st.bsize == st.f_bsize &&
		    out->st.namelen == st.f_namemax && out->st.frsize == st.f_frsize);
	assert_int_equal(ask(&share, FUSE_ACCESS, ROOT, IN(may_write), NULL), 0);
	host_writes(&share, "a", "");
	host_writes(&share, "b", "");
	forgotten[0] = (struct fuse_forget_one){ lookup(&share, ROOT, "a"), 1 };
	forgotten[1] = (struct fuse_forget_one){ lookup(&share, ROOT, "b"), 1 };
	/* It says that there are more. */
	ask(&share, FUSE_BATCH_FORGET, 0, IN(head), IN(forgotten), NULL);
	assert_int_equal(getattr(&share, forgotten[0].nodeid, &attr), -ESTALE);
	assert_int_equal(getattr(&share, forgotten[1].nodeid, &attr), -ESTALE);
	assert_int_equal(ask(&share, FUSE_INTERRUPT, 0, IN(interrupt), NULL), 0);
	assert_int_equal(ask(&share, FUSE_DESTROY, 0, NULL), 0);
	close_share(&share);
}

/* A guest that writes later has times to tell of what it has just removed. */
static void test_what_was_removed_has_times(void **state)
{
	const struct fs_conf later = { .xattr = true, .writeback = true, .fds = FS_FDS_MIN };
	const struct fuse_setattr_in set = { .valid = FATTR_MTIME, .mtime = 5 };
	struct share share;
	uint64_t node, fh;

	(void)state;
	open_share(&share, &later);
	fh = create(&share, ROOT, "file", 0644, &node);
	assert_int_equal(release(&share, node, fh), 0);
	assert_int_equal(ask(&share, FUSE_UNLINK, ROOT, NAME("file"), NULL), 0);
	assert_true(setattr(&share, node, set) > 0);
	close_share(&share);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_was_removed_has_times),
		cmocka_unit_test(test_attributes_are_those_of_the_host),
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_space_and_holes),
		cmocka_unit_test(test_copies),
		cmocka_unit_test(test_syncs_and_closes),
		cmocka_unit_test(test_names_one_by_one),
		cmocka_unit_test(test_the_rest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
