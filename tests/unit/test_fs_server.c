// SPDX-License-Identifier: Apache-2.0
/* The FUSE server without a device: requests as a guest would make them, and as none should. */
#include <linux/fs.h>
#include <linux/magic.h>
#include <malloc.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include "tests/lib/child.h"
#include "tests/unit/share.h"

/* ---- a mount ---- */

static void test_nothing_before_init(void **state)
{
	const struct fuse_init_in old = { .major = 7, .minor = 20 }, newer = { .major = 8 };
	const struct fuse_init_out *out;
	struct share share;

	(void)state;
	open_share(&share, &plain);
	out = (const void *)share.reply;
	assert_int_equal(ask(&share, FUSE_DESTROY, 0, NULL), 0);
	assert_int_equal(ask(&share, FUSE_LOOKUP, ROOT, NAME("x"), NULL), -EIO);
	assert_int_equal(ask(&share, FUSE_INIT, 0, IN(old), NULL), -EPROTO);
	assert_int_equal(ask(&share, FUSE_INIT, 0, IN(newer), NULL), sizeof(*out));
	assert_int_equal(out->major, FUSE_KERNEL_VERSION);
	assert_int_equal(ask(&share, FUSE_LOOKUP, ROOT, NAME("x"), NULL), -EIO);
	assert_int_equal(init(&share), sizeof(*out));
	assert_int_equal(out->max_write, 1 << 20);
	assert_int_equal(ask(&share, FUSE_LOOKUP, ROOT, NAME("x"), NULL), -ENOENT);
	close_share(&share);
}

static void test_short_and_unknown_requests_are_refused(void **state)
{
	static const uint8_t zero[8];
	struct share share;

	(void)state;
	open_share(&share, &plain);
	for (uint32_t opcode = 0; opcode < 64; opcode++) {
		ssize_t n;

		if (opcode == FUSE_INIT || opcode == FUSE_DESTROY || opcode == FUSE_INTERRUPT ||
		    opcode == FUSE_STATFS)
			continue;
		n = ask(&share, opcode, ROOT, zero, (size_t)1, NULL);
		assert_true(n < 0);
		share.call.args = zero;
		share.call.args_len = sizeof(zero);
		share.call.reply_room = 0;
		n = fs_serve(share.fs, &share.call);
		assert_true(n <= 0);
	}
	assert_int_equal(ask(&share, UINT32_MAX, ROOT, NULL), -ENOSYS);
	close_share(&share);
}

/* ---- names ---- */

static void test_no_name_leads_out(void **state)
{
	static const char *const wrong[] = { "", ".", "..", "/", "a/b", "../x", "/etc/passwd" };
	char name[301];
	struct share share;

	(void)state;
	open_share(&share, &plain);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		const struct fuse_mkdir_in make = { .mode = 0755 };

		assert_int_equal(ask(&share, FUSE_LOOKUP, ROOT, NAME(wrong[i]), NULL), -EINVAL);
		assert_int_equal(ask(&share, FUSE_MKDIR, ROOT, IN(make), NAME(wrong[i]), NULL),
				 -EINVAL);
		assert_int_equal(ask(&share, FUSE_UNLINK, ROOT, NAME(wrong[i]), NULL), -EINVAL);
	}
	assert_int_equal(ask(&share, FUSE_LOOKUP, ROOT, "abc", (size_t)3, NULL), -EINVAL);
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(ask(&share, FUSE_LOOKUP, ROOT, NAME(name), NULL), -ENAMETOOLONG);
	close_share(&share);
}

static void test_links_are_not_followed(void **state)
{
	struct share share;
	uint64_t link, fh;

	(void)state;
	open_share(&share, &plain);
	assert_int_equal(symlink("/etc", in_share(&share, "etc")), 0);
	link = lookup(&share, ROOT, "etc");
	assert_true(S_ISLNK(entry(&share)->attr.mode));
	assert_int_equal(lookup(&share, link, "passwd"), 0);
	assert_int_equal(open_node(&share, link, O_RDONLY, &fh), -ELOOP);
	assert_int_equal(setattr(&share, link, (struct fuse_setattr_in){ .valid = FATTR_MODE }),
			 -EOPNOTSUPP);
	assert_int_equal(ask(&share, FUSE_READLINK, link, NULL), 4);
	assert_memory_equal(share.reply, "/etc", 4);
	close_share(&share);
}

static void test_special_files_are_not_opened(void **state)
{
	const struct fuse_mknod_in device = { .mode = S_IFCHR | 0666, .rdev = makedev(1, 3) };
	const struct fuse_mknod_in fifo = { .mode = S_IFIFO | 0666 };
	struct share share;
	uint64_t node, fh;

	(void)state;
	open_share(&share, &plain);
	assert_int_equal(ask(&share, FUSE_MKNOD, ROOT, IN(device), NAME("null"), NULL), -EPERM);
	assert_int_equal(access(in_share(&share, "null"), F_OK), -1);
	assert_true(ask(&share, FUSE_MKNOD, ROOT, IN(fifo), NAME("fifo"), NULL) > 0);
	node = entry(&share)->nodeid;
	assert_int_equal(open_node(&share, node, O_RDWR, &fh), -ENXIO);
	assert_int_equal(open_node(&share, ROOT, O_RDONLY, &fh), -EISDIR);
	if (mknod(in_share(&share, "zero"), S_IFCHR | 0666, makedev(1, 5)) == 0) {
		node = lookup(&share, ROOT, "zero");
		assert_int_equal(open_node(&share, node, O_RDONLY, &fh), -ENXIO);
	}
	close_share(&share);
}

static void test_what_the_host_moves_is_stale(void **state)
{
	struct fuse_attr attr;
	struct share share;
	char other[256];
	uint64_t node;

	(void)state;
	open_share(&share, &plain);
	host_writes(&share, "one", "1");
	node = lookup(&share, ROOT, "one");
	assert_int_equal(getattr(&share, node, &attr), sizeof(struct fuse_attr_out));
	assert_int_equal(attr.size, 1);
	strcpy(other, in_share(&share, "two"));
	assert_int_equal(rename(in_share(&share, "one"), other), 0);
	assert_int_equal(getattr(&share, node, &attr), -ESTALE);
	/* Another file by its name is not taken for it. */
	host_writes(&share, "one", "another");
	assert_int_equal(getattr(&share, node, &attr), -ESTALE);
	assert_int_equal(lookup(&share, ROOT, "two"), node);
	assert_int_equal(getattr(&share, node, &attr), sizeof(struct fuse_attr_out));
	assert_int_not_equal(lookup(&share, ROOT, "one"), node);
	close_share(&share);
}

static void test_directories_seen_in_each_other(void **state)
{
	struct fuse_attr attr;
	struct share share;
	char from[256], to[256];
	uint64_t a, b;

	(void)state;
	open_share(&share, &plain);
	a = make_dir(&share, ROOT, "a");
	b = make_dir(&share, a, "b");
	strcpy(from, in_share(&share, "a/b"));
	strcpy(to, in_share(&share, "b"));
	assert_int_equal(rename(from, to), 0);
	strcpy(from, in_share(&share, "a"));
	strcpy(to, in_share(&share, "b/a"));
	assert_int_equal(rename(from, to), 0);
	/* b is still known as a's, and a becomes b's. */
	b = lookup(&share, ROOT, "b");
	assert_int_equal(lookup(&share, b, "a"), a);
	assert_int_equal(getattr(&share, a, &attr), sizeof(struct fuse_attr_out));
	close_share(&share);
}

static void test_forgotten_nodes_are_not_their_successors(void **state)
{
	struct fuse_attr attr;
	struct share share;
	uint64_t node, next;

	(void)state;
	open_share(&share, &plain);
	host_writes(&share, "a", "");
	host_writes(&share, "b", "");
	node = lookup(&share, ROOT, "a");
	assert_int_equal(lookup(&share, ROOT, "a"), node);
	forget(&share, node, 1);
	assert_int_equal(getattr(&share, node, &attr), sizeof(struct fuse_attr_out));
	forget(&share, node, UINT64_MAX);
	assert_int_equal(getattr(&share, node, &attr), -ESTALE);
	next = lookup(&share, ROOT, "b");
	assert_int_not_equal(next, node);
	assert_int_equal((uint32_t)next, (uint32_t)node);
	assert_int_equal(getattr(&share, node, &attr), -ESTALE);
	forget(&share, ROOT, UINT64_MAX);
	assert_int_equal(getattr(&share, ROOT, &attr), sizeof(struct fuse_attr_out));
	close_share(&share);
}

static ssize_t move(struct share *share, const char *from, uint64_t dir, const char *to,
		    uint32_t flags)
{
	const struct fuse_rename2_in in = { .newdir = dir, .flags = flags };

	return ask(share, FUSE_RENAME2, ROOT, IN(in), NAME(from), NAME(to), NULL);
}

/* A FORGET may come late, and is then of nothing that the next mount knows. */
static void test_no_mount_has_the_numbers_of_another(void **state)
{
	uint64_t nodes[300], node;
	struct share share;
	char name[16];

	(void)state;
	open_share(&share, &plain);
	for (unsigned int i = 0; i < ARRAY_SIZE(nodes); i++) {
		snprintf(name, sizeof(name), "%u", i);
		host_writes(&share, name, "");
		nodes[i] = lookup(&share, ROOT, name);
	}
	assert_int_equal(ask(&share, FUSE_DESTROY, 0, NULL), 0);
	assert_true(init(&share) > 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(nodes); i++) {
		snprintf(name, sizeof(name), "%u", i);
		node = lookup(&share, ROOT, name);
		forget(&share, nodes[i], 1);
		assert_true(getattr(&share, node, &(struct fuse_attr){ 0 }) > 0);
	}
	close_share(&share);
}

/* What the guest knew costs nothing once it has unmounted. */
static void test_memory_goes_back(void **state)
{
	struct share share;
	size_t before;
	char name[16];

	(void)state;
	open_share(&share, &plain);
	host_writes(&share, "file", "");
	lookup(&share, ROOT, "file");
	before = mallinfo2().uordblks + mallinfo2().hblkhd;
	for (unsigned int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "%u", i);
		assert_int_equal(symlink("x", in_share(&share, name)), 0);
		assert_true(lookup(&share, ROOT, name));
	}
	assert_int_equal(ask(&share, FUSE_DESTROY, 0, NULL), 0);
	assert_in_range(mallinfo2().uordblks + mallinfo2().hblkhd, 0, before + KIB(16));
	assert_true(init(&share) > 0);
	for (unsigned int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "%u", i);
		assert_true(lookup(&share, ROOT, name));
	}
	close_share(&share);
}

static void test_names_change(void **state)
{
	struct fuse_link_in link_in;
	struct share share;
	uint64_t dir, a, b, linked;

	(void)state;
	open_share(&share, &plain);
	host_writes(&share, "a", "a");
	host_writes(&share, "b", "b");
	dir = make_dir(&share, ROOT, "dir");
	a = lookup(&share, ROOT, "a");
	b = lookup(&share, ROOT, "b");
	assert_int_equal(move(&share, "a", ROOT, "b", RENAME_NOREPLACE), -EEXIST);
	assert_int_equal(move(&share, "a", ROOT, "b", RENAME_EXCHANGE), 0);
	assert_int_equal(lookup(&share, ROOT, "a"), b);
	assert_int_equal(lookup(&share, ROOT, "b"), a);
	assert_int_equal(move(&share, "b", dir, "c", 0), 0);
	assert_int_equal(lookup(&share, dir, "c"), a);
	link_in.oldnodeid = a;
	assert_true(ask(&share, FUSE_LINK, ROOT, IN(link_in), NAME("linked"), NULL) > 0);
	linked = entry(&share)->nodeid;
	assert_int_equal(linked, a);
	assert_int_equal(entry(&share)->attr.nlink, 2);
	/* Its other name is not known once this one goes: it is held. */
	assert_int_equal(ask(&share, FUSE_UNLINK, ROOT, NAME("linked"), NULL), 0);
	assert_true(lookup(&share, dir, "c") == a);
	assert_int_equal(ask(&share, FUSE_RMDIR, ROOT, NAME("dir"), NULL), -ENOTEMPTY);
	assert_int_equal(move(&share, "a", ROOT, "x", 8), -EINVAL);
	assert_int_equal(move(&share, "a", 12345, "x", 0), -ESTALE);
	close_share(&share);
}

/* Not even for those who have our descriptors. */
static void test_the_directory_has_no_parent(void **state)
{
	struct stat above, root;
	struct share share;

	int tree = open_tree(AT_FDCWD, "/tmp", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	(void)state;
	if (tree < 0) {
		say_no_mounts();
		skip();
	}
	close(tree);
	open_share(&share, &plain);
	assert_int_equal(fstatat(fs_dir(share.fs), "..", &above, 0), 0);
	assert_int_equal(fstatat(fs_dir(share.fs), "", &root, AT_EMPTY_PATH), 0);
	assert_true(above.st_ino == root.st_ino && above.st_dev == root.st_dev);
	assert_int_equal(fstatat(AT_FDCWD, "../../../../../..", &above, 0), 0);
	assert_int_equal(stat("/", &root), 0);
	assert_true(above.st_ino != root.st_ino || above.st_dev != root.st_dev);
	close_share(&share);
}

/* Another file system of the host's is another one to a guest that wants to know. */
static void test_mounts_are_announced(void **state)
{
	const struct fuse_syncfs_in sync = { 0 };
	struct fuse_attr attr;
	struct share share;
	uint64_t node;

	(void)state;
	if (child_emulator()) {
		print_message("skipped: %s does not number mounts\n", child_emulator());
		skip();
	}
	make_share(&share);
	assert_int_equal(mkdir(in_share(&share, "mount"), 0755), 0);
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("test", in_share(&share, "mount"), "tmpfs", 0, NULL) < 0) {
		say_no_mounts();
		assert_int_equal(rmdir(in_share(&share, "mount")), 0);
		assert_int_equal(rmdir(share.path), 0);
		skip();
	}
	serve_share(&share, &plain);
	assert_int_equal(umount(in_share(&share, "mount")), 0);
	/* Nor is it taken away, looked up or not. */
	assert_int_equal(ask(&share, FUSE_RMDIR, ROOT, NAME("mount"), NULL), -EBUSY);
	node = lookup(&share, ROOT, "mount");
	assert_true(entry(&share)->attr.flags & FUSE_ATTR_SUBMOUNT);
	assert_int_equal(ask(&share, FUSE_SYNCFS, node, IN(sync), NULL), 0);
	assert_int_equal(move(&share, "mount", ROOT, "moved", 0), -EBUSY);
	node = make_dir(&share, node, "dir");
	assert_false(entry(&share)->attr.flags & FUSE_ATTR_SUBMOUNT);
	assert_true(getattr(&share, node, &attr) > 0);
	assert_int_equal(access(in_share(&share, "mount/dir"), F_OK), -1);
	assert_true(init_with(&share, ~(uint32_t)FUSE_SUBMOUNTS) > 0);
	assert_true(lookup(&share, ROOT, "mount"));
	assert_int_equal(ask(&share, FUSE_UNLINK, ROOT, NAME("mount"), NULL), -EBUSY);
	assert_true(lookup(&share, ROOT, "mount"));
	assert_false(entry(&share)->attr.flags & FUSE_ATTR_SUBMOUNT);
	close_share(&share);
}

/* Nor is what the kernel itself answers for the guest, wherever it is mounted. */
static void test_mounts_that_are_closed(void **state)
{
	const struct fuse_setattr_in set = { .valid = FATTR_MODE, .mode = 0777 };
	const char *const names[] = { "dir", "file" };
	struct fuse_attr attr;
	struct share share;
	uint64_t node, fh;

	(void)state;
	make_share(&share);
	assert_int_equal(mkdir(in_share(&share, "dir"), 0755), 0);
	host_writes(&share, "file", "");
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("/proc/self/fd", in_share(&share, "dir"), NULL, MS_BIND, NULL) < 0 ||
	    mount("/proc/self/mem", in_share(&share, "file"), NULL, MS_BIND, NULL) < 0) {
		say_no_mounts();
		assert_int_equal(nftw(share.path, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
		skip();
	}
	serve_share(&share, &plain);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		node = lookup(&share, ROOT, names[i]);
		assert_true(getattr(&share, node, &attr) > 0);
		assert_int_equal(ask(&share, FUSE_LOOKUP, node, NAME("0"), NULL), -EACCES);
		assert_int_equal(open_node(&share, node, O_RDWR, &fh), -EACCES);
		assert_int_equal(setattr(&share, node, set), -EACCES);
		assert_int_equal(umount2(in_share(&share, names[i]), MNT_DETACH), 0);
	}
	close_share(&share);
}

/* Whatever of the kernel's own there is here. */
static void test_directories_that_are_closed(void **state)
{
	const char *const types[] = { "configfs", "fusectl", "pstore", "sysfs" };
	struct share share;
	unsigned int count = 0;

	(void)state;
	make_share(&share);
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		if (unshare(CLONE_NEWNS) < 0 ||
		    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		    mount("test", share.path, types[i], 0, NULL) < 0)
			continue;
		count++;
		assert_int_equal(fs_open(share.path, &plain, &share.fs), -EOPNOTSUPP);
		assert_int_equal(umount2(share.path, MNT_DETACH), 0);
	}
	assert_int_equal(rmdir(share.path), 0);
	if (!count) {
		print_message("none of them can be mounted here, by this user\n");
		skip();
	}
}

/* ---- descriptors ---- */

static unsigned int open_fds(void)
{
	unsigned int count = 0;

	for (int fd = 0; fd < 4096; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void test_descriptors_are_a_cache(void **state)
{
	unsigned int before, depth = 300, files = 0;
	uint64_t nodes[300], fh, node = ROOT;
	struct fuse_attr attr;
	struct share share;
	char name[16];

	(void)state;
	open_share(&share, &plain);
	before = open_fds();
	for (unsigned int i = 0; i < depth; i++)
		node = nodes[i] = make_dir(&share, node, "deeper");
	for (unsigned int i = 0; i < depth; i++) {
		node = nodes[i * 7 % depth];
		assert_int_equal(lookup(&share, node, "no such name"), 0);
		assert_true(getattr(&share, node, &attr) > 0);
		assert_true(open_fds() <= before + FS_FDS_MIN);
	}
	for (unsigned int i = 0; i < FS_FDS_MIN; i++) {
		const struct fuse_create_in in = { .flags = O_RDWR, .mode = 0600 };

		snprintf(name, sizeof(name), "%u", i);
		files += ask(&share, FUSE_CREATE, ROOT, IN(in), NAME(name), NULL) > 0;
	}
	assert_int_equal(files, FS_FDS_MIN / 2);
	assert_int_equal(ask(&share, FUSE_LOOKUP, nodes[depth - 1], NAME("x"), NULL), -ENOENT);
	node = lookup(&share, ROOT, "0");
	assert_int_equal(open_node(&share, node, O_RDONLY, &fh), -ENFILE);
	assert_true(open_fds() <= before + FS_FDS_MIN);
	fs_forget(share.fs);
	assert_int_equal(open_fds(), before);
	close_share(&share);
}

/* What has lost the only name that we knew keeps a descriptor, but not the last one. */
static void test_removed_links_do_not_use_descriptors_up(void **state)
{
	struct share share;
	uint64_t node, fh;
	char name[32];

	(void)state;
	open_share(&share, &plain);
	for (unsigned int i = 0; i < 2 * FS_FDS_MIN; i++) {
		struct fuse_link_in link_in;

		snprintf(name, sizeof(name), "first-%u", i);
		host_writes(&share, name, "x");
		link_in.oldnodeid = lookup(&share, ROOT, name);
		snprintf(name, sizeof(name), "second-%u", i);
		assert_true(ask(&share, FUSE_LINK, ROOT, IN(link_in), NAME(name), NULL) > 0);
		assert_int_equal(ask(&share, FUSE_UNLINK, ROOT, NAME(name), NULL), 0);
	}
	node = lookup(&share, ROOT, "first-0");
	assert_true(open_node(&share, node, O_RDONLY, &fh) > 0);
	close_share(&share);
}

/* ---- files ---- */

static void test_data_goes_both_ways(void **state)
{
	char buffer[64] = "what is written";
	struct share share;
	uint64_t node, fh;

	(void)state;
	open_share(&share, &plain);
	fh = create(&share, ROOT, "file", 0644, &node);
	assert_true(transfer(&share, FUSE_WRITE, node, fh, buffer, 15, 15, 3) > 0);
	memset(buffer, 0, sizeof(buffer));
	assert_int_equal(transfer(&share, FUSE_READ, node, fh, buffer, sizeof(buffer), 10, 3), 10);
	assert_string_equal(buffer, "what is wr");
	assert_int_equal(transfer(&share, FUSE_READ, node, fh, buffer, sizeof(buffer), 64, 0), 18);
	/* Lengths and numbers that are not so. */
	assert_int_equal(transfer(&share, FUSE_WRITE, node, fh, buffer, 8, 9, 0), -EINVAL);
	assert_int_equal(transfer(&share, FUSE_READ, node, fh, buffer, 8, 8, UINT64_MAX), -EINVAL);
	assert_int_equal(transfer(&share, FUSE_READ, node, fh + 1, buffer, 8, 8, 0), -EBADF);
	assert_int_equal(transfer(&share, FUSE_READ, ROOT, fh, buffer, 8, 8, 0), -EBADF);
	/* Removed, and still open. */
	assert_int_equal(ask(&share, FUSE_UNLINK, ROOT, NAME("file"), NULL), 0);
	assert_int_equal(transfer(&share, FUSE_READ, node, fh, buffer, 8, 8, 3), 8);
	assert_true(setattr(&share, node,
			    (struct fuse_setattr_in){ .valid = FATTR_SIZE, .size = 5 }) > 0);
	assert_int_equal(release(&share, node, fh), 0);
	assert_int_equal(transfer(&share, FUSE_READ, node, fh, buffer, 8, 8, 3), -EBADF);
	assert_int_equal(release(&share, node, fh), 0);
	close_share(&share);
}

static void test_attributes_are_the_files(void **state)
{
	struct share share;
	struct stat st;
	uint64_t node, fh;

	(void)state;
	open_share(&share, &plain);
	fh = create(&share, ROOT, "file", 0640, &node);
	assert_int_equal(stat(in_share(&share, "file"), &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0640);
	assert_true(setattr(&share, node, (struct fuse_setattr_in){
		.valid = FATTR_MODE | FATTR_SIZE | FATTR_FH | FATTR_ATIME | FATTR_MTIME,
		.mode = 0604, .size = 1234, .fh = fh, .atime = 11, .mtime = 22, .mtimensec = 33,
	}) > 0);
	assert_int_equal(stat(in_share(&share, "file"), &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0604);
	assert_int_equal(st.st_size, 1234);
	assert_int_equal(st.st_atim.tv_sec, 11);
	assert_int_equal(st.st_mtim.tv_sec, 22);
	assert_int_equal(st.st_mtim.tv_nsec, 33);
	assert_int_equal(setattr(&share, node, (struct fuse_setattr_in){
		.valid = FATTR_MTIME, .mtimensec = UTIME_NOW }), -EINVAL);
	assert_int_equal(setattr(&share, node, (struct fuse_setattr_in){
		.valid = FATTR_SIZE, .size = UINT64_MAX }), -EFBIG);
	assert_int_equal(setattr(&share, ROOT, (struct fuse_setattr_in){ .valid = FATTR_SIZE }),
			 -EINVAL);
	close_share(&share);
}

/* ---- directories ---- */

/* Looks at the entry at the front; returns its length, and where the next one begins. */
static size_t pass_entry(uint32_t opcode, const void *at, uint64_t *ret_offset)
{
	const struct fuse_direntplus *plus = at;
	const struct fuse_dirent *dirent = opcode == FUSE_READDIR ? at : &plus->dirent;

	*ret_offset = dirent->off;
	return opcode == FUSE_READDIR ? FUSE_DIRENT_SIZE(dirent) : FUSE_DIRENTPLUS_SIZE(plus);
}

/* Counts the names of a directory, reading it by replies of so many bytes. */
static unsigned int count_names(struct share *share, uint32_t opcode, uint32_t size)
{
	const struct fuse_open_in open_in = { 0 };
	struct fuse_read_in in = { .size = size };
	unsigned int count = 0;
	ssize_t n;

	assert_true(ask(share, FUSE_OPENDIR, ROOT, IN(open_in), NULL) > 0);
	in.fh = ((const struct fuse_open_out *)(const void *)share->reply)->fh;
	while ((n = ask(share, opcode, ROOT, IN(in), NULL)) > 0)
		for (size_t at = 0; at < (size_t)n; count++)
			at += pass_entry(opcode, share->reply + at, &in.offset);
	assert_int_equal(n, 0);
	/* And from the beginning. */
	in.offset = 0;
	assert_true(ask(share, opcode, ROOT, IN(in), NULL) > 0);
	assert_int_equal(release(share, ROOT, in.fh), 0);
	return count;
}

static void test_directories_are_read_whole(void **state)
{
	struct fuse_attr attr;
	struct share share;
	char name[64];
	uint64_t node;

	(void)state;
	open_share(&share, &plain);
	for (unsigned int i = 0; i < 500; i++) {
		snprintf(name, sizeof(name), "a name of some length, number %u", i);
		host_writes(&share, name, "");
	}
	assert_int_equal(count_names(&share, FUSE_READDIR, 65536), 502);
	assert_int_equal(count_names(&share, FUSE_READDIR, 300), 502);
	assert_int_equal(count_names(&share, FUSE_READDIRPLUS, 65536), 502);
	/* Each was a lookup, and so was the beginning again. */
	node = lookup(&share, ROOT, name);
	forget(&share, node, 1);
	assert_true(getattr(&share, node, &attr) > 0);
	close_share(&share);
}

/* ---- what the guest need not ask ---- */

static uint32_t open_flags(struct share *share, uint64_t node, uint32_t flags)
{
	const struct fuse_open_in in = { .flags = flags };
	const struct fuse_open_out *out = (const void *)share->reply;
	uint32_t answer;

	assert_int_equal(ask(share, FUSE_OPEN, node, IN(in), NULL), sizeof(*out));
	answer = out->open_flags;
	assert_int_equal(release(share, node, out->fh), 0);
	return answer;
}

static void test_what_was_only_read_is_not_flushed(void **state)
{
	const struct fs_conf never = { .cache = FS_CACHE_NEVER, .fds = FS_FDS_MIN };
	const struct fuse_init_out *out;
	struct share share;
	struct statfs st;
	uint64_t node;

	(void)state;
	open_share(&share, &never);
	out = (const void *)share.reply;
	assert_false(out->flags & FUSE_DO_READDIRPLUS);
	host_writes(&share, "file", "text");
	node = lookup(&share, ROOT, "file");
	assert_int_equal(open_flags(&share, node, O_RDONLY), FOPEN_DIRECT_IO | FOPEN_NOFLUSH);
	assert_int_equal(statfs(share.path, &st), 0);
	if (st.f_type == EXT4_SUPER_MAGIC || st.f_type == TMPFS_MAGIC)
		assert_true(open_flags(&share, node, O_RDWR) & FOPEN_NOFLUSH);
	close_share(&share);
	open_share(&share, &plain);
	assert_true(out->flags & FUSE_DO_READDIRPLUS);
	close_share(&share);
}

/* ---- read-only ---- */

static void test_read_only_is_ours_to_enforce(void **state)
{
	const struct fs_conf conf = { .read_only = true, .xattr = true, .fds = FS_FDS_MIN };
	static const uint32_t changes[] = {
		FUSE_SETATTR, FUSE_SYMLINK, FUSE_MKNOD, FUSE_MKDIR, FUSE_UNLINK, FUSE_RMDIR,
		FUSE_RENAME, FUSE_LINK, FUSE_WRITE, FUSE_SETXATTR, FUSE_REMOVEXATTR, FUSE_CREATE,
		FUSE_FALLOCATE, FUSE_RENAME2, FUSE_COPY_FILE_RANGE,
	};
	static const uint8_t zero[128];
	struct share share;
	uint64_t node, fh;

	(void)state;
	open_share(&share, &conf);
	host_writes(&share, "file", "text");
	node = lookup(&share, ROOT, "file");
	for (size_t i = 0; i < ARRAY_SIZE(changes); i++)
		assert_int_equal(ask(&share, changes[i], node, zero, sizeof(zero), NULL), -EROFS);
	assert_int_equal(open_node(&share, node, O_RDWR, &fh), -EROFS);
	assert_int_equal(open_node(&share, node, O_RDONLY | O_TRUNC, &fh), -EROFS);
	assert_true(open_node(&share, node, O_RDONLY, &fh) > 0);
	close_share(&share);
}

/* Where there is a mount of our own, a thread that was taken over changes nothing either. */
static void test_read_only_is_the_kernels_to_enforce(void **state)
{
	const struct fs_conf conf = { .read_only = true, .xattr = true, .fds = FS_FDS_MIN };
	int tree = open_tree(AT_FDCWD, "/tmp", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY };
	struct share share;
	int dir;

	(void)state;
	if (tree < 0 || mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0) {
		say_no_mounts();
		skip();
	}
	close(tree);
	open_share(&share, &conf);
	host_writes(&share, "file", "text");
	dir = fs_dir(share.fs);
	assert_int_equal(fchmodat(dir, "file", 0, 0), -1);
	assert_int_equal(errno, EROFS);
	assert_int_equal(utimensat(dir, "file", NULL, 0), -1);
	assert_int_equal(errno, EROFS);
	assert_int_equal(fchownat(dir, "file", 1, 1, 0), -1);
	assert_int_equal(errno, EROFS);
	close_share(&share);
	/* One that the guest may change. */
	open_share(&share, &plain);
	host_writes(&share, "file", "text");
	assert_int_equal(fchmodat(fs_dir(share.fs), "file", 0600, 0), 0);
	close_share(&share);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_before_init),
		cmocka_unit_test(test_short_and_unknown_requests_are_refused),
		cmocka_unit_test(test_no_name_leads_out),
		cmocka_unit_test(test_links_are_not_followed),
		cmocka_unit_test(test_special_files_are_not_opened),
		cmocka_unit_test(test_what_the_host_moves_is_stale),
		cmocka_unit_test(test_directories_seen_in_each_other),
		cmocka_unit_test(test_forgotten_nodes_are_not_their_successors),
		cmocka_unit_test(test_no_mount_has_the_numbers_of_another),
		cmocka_unit_test(test_memory_goes_back),
		cmocka_unit_test(test_names_change),
		cmocka_unit_test(test_the_directory_has_no_parent),
		cmocka_unit_test(test_mounts_are_announced),
		cmocka_unit_test(test_mounts_that_are_closed),
		cmocka_unit_test(test_directories_that_are_closed),
		cmocka_unit_test(test_descriptors_are_a_cache),
		cmocka_unit_test(test_removed_links_do_not_use_descriptors_up),
		cmocka_unit_test(test_data_goes_both_ways),
		cmocka_unit_test(test_attributes_are_the_files),
		cmocka_unit_test(test_directories_are_read_whole),
		cmocka_unit_test(test_what_was_only_read_is_not_flushed),
		cmocka_unit_test(test_read_only_is_ours_to_enforce),
		cmocka_unit_test(test_read_only_is_the_kernels_to_enforce),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
