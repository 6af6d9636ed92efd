// SPDX-License-Identifier: Apache-2.0
/*
 * Ways out of a shared directory, tried by a driver that speaks FUSE itself, against the device's own thread in its
 * sandbox. Beside the directory lies a file that the guest must never reach: after each test it is what it was, down
 * to its times, and there is nothing new around it.
 */
#include <linux/capability.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include "seccomp/filter.h"
#include "tests/unit/fs_guest.h"

#define RACES 1500

/* ---- names ---- */

/* Each operation that takes a name, with that one. */
static void ask_with_name(struct guest *guest, uint64_t dir, const void *name, size_t len, int error)
{
	const struct fuse_mknod_in node = { .mode = S_IFREG | 0666 };
	const struct fuse_mkdir_in make = { .mode = 0777 };
	const struct fuse_create_in made = { .flags = O_RDWR | O_CREAT, .mode = S_IFREG | 0666 };
	const struct fuse_link_in old = { .oldnodeid = lookup(guest, ROOT, "file") };
	const struct fuse_rename_in to = { .newdir = dir };
	const struct fuse_rename2_in to2 = { .newdir = dir };

	assert_int_equal(ask(guest, FUSE_LOOKUP, dir, name, len, NULL), error);
	assert_int_equal(ask(guest, FUSE_MKNOD, dir, IN(node), name, len, NULL), error);
	assert_int_equal(ask(guest, FUSE_MKDIR, dir, IN(make), name, len, NULL), error);
	assert_int_equal(ask(guest, FUSE_UNLINK, dir, name, len, NULL), error);
	assert_int_equal(ask(guest, FUSE_RMDIR, dir, name, len, NULL), error);
	assert_int_equal(ask(guest, FUSE_CREATE, dir, IN(made), name, len, NULL), error);
	assert_int_equal(ask(guest, FUSE_LINK, dir, IN(old), name, len, NULL), error);
	assert_int_equal(ask(guest, FUSE_RENAME, ROOT, IN(to), NAME("file"), name, len, NULL), error);
	assert_int_equal(ask(guest, FUSE_RENAME2, ROOT, IN(to2), NAME("file"), name, len, NULL),
			 error);
}

static void test_names(void **state)
{
	static const char *const wrong[] = {
		"", ".", "..", "/", "../canary", "dir/../../canary", "dir/file", "/etc/passwd", "dir/",
	};
	struct guest guest;
	char name[301];

	(void)state;
	open_guest(&guest, "");
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		ask_with_name(&guest, ROOT, NAME(wrong[i]), -EINVAL);
	/* Without an end; one that is over at a NUL is that name, and more follows. */
	ask_with_name(&guest, ROOT, "file", 4, -EINVAL);
	assert_true(ask(&guest, FUSE_LOOKUP, ROOT, "file\0/../../canary", (size_t)19, NULL) > 0);
	memset(name, 'n', 300);
	name[300] = '\0';
	ask_with_name(&guest, ROOT, NAME(name), -ENAMETOOLONG);
	assert_int_equal(ask(&guest, FUSE_SYMLINK, ROOT, NAME(".."), NAME("x"), NULL), -EINVAL);
	assert_int_equal(ask(&guest, FUSE_SYMLINK, ROOT, NAME("x"), "y", (size_t)1, NULL), -EINVAL);
	assert_int_equal(entries(guest.shared), 4);
	close_guest(&guest);
}

/* ---- links ---- */

/* Everything that one can do to a node: none of it is to reach what a link leads to. */
static void attack(struct guest *guest, uint64_t node)
{
	const struct fuse_setattr_in changes[] = {
		{ .valid = FATTR_MODE, .mode = 0777 }, { .valid = FATTR_SIZE },
		{ .valid = FATTR_UID | FATTR_GID, .uid = 7, .gid = 7 },
		{ .valid = FATTR_ATIME | FATTR_MTIME },
		{ .valid = FATTR_ATIME_NOW | FATTR_MTIME_NOW },
	};
	const struct fuse_link_in link = { .oldnodeid = node };
	struct fuse_setxattr_in set = { .size = 1 };
	struct fuse_getxattr_in get = { .size = 64 };
	uint64_t fh;

	read_node(guest, node);
	for (uint32_t flags = 0; flags <= O_RDWR; flags++)
		assert_true(open_node(guest, FUSE_OPEN, node, flags | O_TRUNC, &fh) < 0);
	assert_true(open_node(guest, FUSE_OPENDIR, node, 0, &fh) < 0);
	for (size_t i = 0; i < ARRAY_SIZE(changes); i++)
		ask(guest, FUSE_SETATTR, node, IN(changes[i]), NULL);
	assert_true(ask(guest, FUSE_SETXATTR, node, IN(set), NAME("user.a"), "v", (size_t)1, NULL) < 0);
	assert_true(ask(guest, FUSE_GETXATTR, node, IN(get), NAME("user.a"), NULL) < 0);
	assert_int_equal(lookup(guest, node, "canary"), 0);
	assert_int_equal(lookup(guest, node, "passwd"), 0);
	assert_true(create(guest, node, "new", 0) < 0);
	/* A link to the node is one to no more than that. */
	if (ask(guest, FUSE_LINK, ROOT, IN(link), NAME("hard"), NULL) > 0) {
		assert_false(S_ISREG(((const struct fuse_entry_out *)reply(guest))->attr.mode));
		assert_int_equal(ask(guest, FUSE_UNLINK, ROOT, NAME("hard"), NULL), 0);
	}
}

static void test_links(void **state)
{
	static const char *const targets[] = { "../canary", "..", "dir/../..", "/", "/etc", "chain" };
	struct guest guest;
	char name[32];

	(void)state;
	open_guest(&guest, "");
	host_links(&guest, "shared/chain", "../canary");
	for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
		snprintf(name, sizeof(name), "shared/host-%zu", i);
		host_links(&guest, name, targets[i]);
		attack(&guest, lookup(&guest, ROOT, name + strlen("shared/")));
		snprintf(name, sizeof(name), "guest-%zu", i);
		assert_true(ask(&guest, FUSE_SYMLINK, ROOT, NAME(name), NAME(targets[i]), NULL) > 0);
		attack(&guest, lookup(&guest, ROOT, name));
		/* Nor by its name. */
		assert_true(create(&guest, ROOT, name, O_TRUNC) < 0);
	}
	close_guest(&guest);
}

/*
 * Where the kernel answers files lead to more than themselves: to the memory of the process that
 * opens them, or to what a link says without any path. The guest sees that there is something.
 */
static void test_what_the_kernel_answers(void **state)
{
	const struct vdrv_setup setup = {
		.class = &fs_class, .options = "/proc,tag=test", .transport = VDRV_PCI,
	};
	struct fuse_attr attr;
	struct guest guest;
	uint64_t node, fh;
	char pid[16];

	(void)state;
	assert_int_equal(vdrv_open(&guest.vdrv, &setup), -EOPNOTSUPP);
	furnish(&guest);
	share(&guest, "/", "");
	node = lookup(&guest, ROOT, "proc");
	assert_true(node);
	attr = ((const struct fuse_entry_out *)reply(&guest))->attr;
	assert_true(S_ISDIR(attr.mode));
	snprintf(pid, sizeof(pid), "%d", getpid());
	assert_int_equal(ask(&guest, FUSE_LOOKUP, node, NAME(pid), NULL), -EACCES);
	assert_int_equal(ask(&guest, FUSE_LOOKUP, node, NAME("self"), NULL), -EACCES);
	assert_int_equal(open_node(&guest, FUSE_OPENDIR, node, 0, &fh), -EACCES);
	attack(&guest, node);
	/* Others are as they were. */
	node = lookup(&guest, lookup(&guest, ROOT, "tmp"), strrchr(guest.path, '/') + 1);
	assert_true(lookup(&guest, node, "shared"));
	close_guest(&guest);
}

/* ---- races ---- */

struct racer {
	const struct guest *guest;
	const char *a, *b; /* change places */
	_Atomic bool stop;
	pthread_t thread;
};

static void *race(void *arg)
{
	struct racer *racer = arg;
	char a[256], b[256];

	strcpy(a, path_of(racer->guest, racer->a));
	strcpy(b, path_of(racer->guest, racer->b));
	while (!racer->stop)
		renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE);
	return NULL;
}

static void begin_race(struct racer *racer)
{
	assert_int_equal(pthread_create(&racer->thread, NULL, race, racer), 0);
}

static void end_race(struct racer *racer)
{
	racer->stop = true;
	assert_int_equal(pthread_join(racer->thread, NULL), 0);
}

static void test_what_becomes_a_link(void **state)
{
	struct guest guest;
	struct racer dirs = { .guest = &guest, .a = "shared/dir", .b = "shared/way-out" };
	struct racer files = { .guest = &guest, .a = "shared/file", .b = "shared/to-canary" };

	(void)state;
	open_guest(&guest, ",threads=4");
	host_links(&guest, "shared/way-out", "..");
	host_links(&guest, "shared/to-canary", "../canary");
	begin_race(&dirs);
	begin_race(&files);
	for (unsigned int i = 0; i < RACES; i++) {
		uint64_t dir = lookup(&guest, ROOT, "dir"), file = lookup(&guest, ROOT, "file");
		const struct fuse_setattr_in set = { .valid = FATTR_MODE | FATTR_MTIME, .mode = 0777 };

		assert_int_equal(lookup(&guest, dir, "canary"), 0);
		create(&guest, dir, "new", 0);
		ask(&guest, FUSE_SETATTR, file, IN(set), NULL);
		read_node(&guest, file);
		create(&guest, ROOT, "file", O_TRUNC);
		init(&guest);
	}
	end_race(&dirs);
	end_race(&files);
	close_guest(&guest);
}

/* A directory that the host moves out and in again: what lies beside it there is not for the guest. */
static void test_what_moves_away(void **state)
{
	struct guest guest;
	struct racer racer = { .guest = &guest, .a = "shared/dir/deep", .b = "shared/other" };
	uint64_t dir;

	(void)state;
	open_guest(&guest, "");
	assert_int_equal(mkdir(path_of(&guest, "shared/dir/deep"), 0755), 0);
	assert_int_equal(mkdir(path_of(&guest, "shared/other"), 0755), 0);
	begin_race(&racer);
	dir = lookup(&guest, ROOT, "dir");
	for (unsigned int i = 0; i < RACES; i++) {
		uint64_t deep = lookup(&guest, dir, "deep");

		assert_int_equal(ask(&guest, FUSE_LOOKUP, deep, NAME(".."), NULL),
				 deep ? -EINVAL : -ESTALE);
		assert_int_equal(lookup(&guest, deep, "canary"), 0);
		read_node(&guest, lookup(&guest, deep, "file"));
		create(&guest, deep, "file", 0);
		if (i % 16 == 0) {
			init(&guest);
			dir = lookup(&guest, ROOT, "dir");
		}
	}
	end_race(&racer);
	close_guest(&guest);
}

/* ---- special files ---- */

static void test_special_files(void **state)
{
	static const mode_t kinds[] = { S_IFCHR, S_IFBLK, S_IFDIR, S_IFLNK, 0, S_IFMT };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	_cleanup_close_ int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct guest guest;

	(void)state;
	open_guest(&guest, "");
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		const struct fuse_mknod_in in = { .mode = kinds[i] | 0666, .rdev = 0x103 };

		assert_int_equal(ask(&guest, FUSE_MKNOD, ROOT, IN(in), NAME("new"), NULL), -EPERM);
	}
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", guest.shared);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(mkfifo(path_of(&guest, "shared/fifo"), 0666), 0);
	attack(&guest, lookup(&guest, ROOT, "fifo"));
	attack(&guest, lookup(&guest, ROOT, "socket"));
	assert_int_equal(create(&guest, ROOT, "fifo", 0), -ENXIO);
	/* Nobody has it open. */
	assert_int_equal(open(path_of(&guest, "shared/fifo"), O_WRONLY | O_NONBLOCK | O_CLOEXEC), -1);
	assert_int_equal(errno, ENXIO);
	if (mknod(path_of(&guest, "shared/device"), S_IFCHR | 0666, makedev(1, 5)) == 0) {
		attack(&guest, lookup(&guest, ROOT, "device"));
		assert_int_equal(create(&guest, ROOT, "device", O_TRUNC), -ENXIO);
	}
	close_guest(&guest);
}

/* A pipe that has got the number of a file which the guest knows, and its name. */
static bool replace_file(const struct guest *guest)
{
	char path[256];
	struct stat before, after;

	strcpy(path, path_of(guest, "shared/file"));
	assert_int_equal(stat(path, &before), 0);
	for (unsigned int i = 0; i < 100; i++) {
		assert_int_equal(unlink(path), 0);
		assert_int_equal(mkfifo(path, 0666), 0);
		assert_int_equal(stat(path, &after), 0);
		if (after.st_ino == before.st_ino)
			return true;
	}
	return false;
}

static void test_what_gets_the_number_of_a_file(void **state)
{
	struct guest guest;
	uint64_t node, fh;
	bool replaced;

	(void)state;
	open_guest(&guest, "");
	node = lookup(&guest, ROOT, "file");
	replaced = replace_file(&guest);
	assert_true(open_node(&guest, FUSE_OPEN, node, O_RDWR, &fh) < 0);
	assert_int_equal(open(path_of(&guest, "shared/file"), O_WRONLY | O_NONBLOCK | O_CLOEXEC), -1);
	assert_int_equal(errno, ENXIO);
	close_guest(&guest);
	if (!replaced) {
		print_message("skipped: this file system does not use numbers again\n");
		skip();
	}
}

/* ---- numbers ---- */

static void test_forged_numbers(void **state)
{
	static const uint32_t by_handle[] = {
		FUSE_READ, FUSE_WRITE, FUSE_READDIR, FUSE_READDIRPLUS, FUSE_FLUSH, FUSE_FSYNC,
		FUSE_FALLOCATE, FUSE_LSEEK, FUSE_COPY_FILE_RANGE,
	};
	const uint64_t nodes[] = { 0, 2, 99, UINT32_MAX, 1ULL << 32 | 1, UINT64_MAX };
	uint64_t args[8], file, fh;
	struct guest guest;

	(void)state;
	open_guest(&guest, ",threads=4");
	memset(args, 0xff, sizeof(args));
	for (uint32_t opcode = 0; opcode < 64; opcode++)
		for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
			if (opcode == FUSE_INIT || opcode == FUSE_DESTROY ||
			    opcode == FUSE_INTERRUPT || opcode == FUSE_FORGET ||
			    opcode == FUSE_BATCH_FORGET)
				continue;
			assert_true(ask(&guest, opcode, nodes[i], IN(args), NULL) < 0);
		}
	file = lookup(&guest, ROOT, "file");
	assert_true(open_node(&guest, FUSE_OPEN, file, O_RDWR, &fh) > 0);
	for (size_t i = 0; i < ARRAY_SIZE(by_handle); i++)
		for (size_t j = 0; j < ARRAY_SIZE(nodes); j++) {
			memset(args, 0, sizeof(args));
			args[0] = nodes[j];
			assert_int_equal(ask(&guest, by_handle[i], file, IN(args), NULL), -EBADF);
			/* One of another file. */
			args[0] = fh;
			assert_int_equal(ask(&guest, by_handle[i], ROOT, IN(args), NULL), -EBADF);
		}
	args[0] = fh;
	assert_int_equal(ask(&guest, FUSE_READDIR, file, IN(args), NULL), -ENOTDIR);
	close_guest(&guest);
}

static void test_lengths_and_offsets(void **state)
{
	uint64_t node, fh;
	struct guest guest;

	(void)state;
	open_guest(&guest, "");
	node = lookup(&guest, ROOT, "file");
	assert_true(open_node(&guest, FUSE_OPEN, node, O_RDWR, &fh) > 0);
	for (unsigned int shift = 31; shift < 64; shift++) {
		const uint64_t far = 1ULL << shift;
		const struct fuse_write_in write = { .fh = fh, .offset = far, .size = UINT32_MAX };
		const struct fuse_read_in read = { .fh = fh, .offset = far, .size = UINT32_MAX };
		const struct fuse_fallocate_in room = { .fh = fh, .offset = far, .length = far };
		const struct fuse_lseek_in seek = { .fh = fh, .offset = far, .whence = SEEK_DATA };
		const struct fuse_setxattr_in set = { .size = (uint32_t)(far - 1) };

		assert_int_equal(ask(&guest, FUSE_WRITE, node, IN(write), "xy", (size_t)2, NULL),
				 -EINVAL);
		assert_true(ask(&guest, FUSE_READ, node, IN(read), NULL) <= 0);
		if (shift > 61)
			assert_int_equal(ask(&guest, FUSE_FALLOCATE, node, IN(room), NULL), -EFBIG);
		assert_true(ask(&guest, FUSE_LSEEK, node, IN(seek), NULL) < 0);
		assert_int_equal(ask(&guest, FUSE_SETXATTR, node, IN(set), NAME("user.a"), NULL),
				 -EINVAL);
	}
	close_guest(&guest);
}

/* ---- what the configuration forbids ---- */

static int ask_capabilities(void *arg)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };

	if (syscall(SYS_capget, &header, data) < 0)
		return -errno;
	*(uint64_t *)arg = (uint64_t)data[1].permitted << 32 | data[0].permitted;
	return 0;
}

/* The device's thread has none but these: whoever takes it over cannot do more than it is to do. */
static void assert_capabilities(const struct guest *guest, uint64_t most)
{
	uint64_t have;

	assert_int_equal(worker_call(&guest->vdrv.dev->workers[0], ask_capabilities, &have), 0);
	if (CONFINE)
		assert_int_equal(have & ~most, 0);
}

static void test_read_only(void **state)
{
	const struct fuse_create_in made = { .flags = O_RDWR, .mode = S_IFREG | 0666 };
	const struct fuse_mknod_in node_in = { .mode = S_IFREG | 0666 };
	const struct fuse_mkdir_in mkdir_in = { .mode = 0777 };
	const struct fuse_setattr_in times = { .valid = FATTR_ATIME_NOW | FATTR_MTIME_NOW };
	const struct fuse_setxattr_in set = { .size = 1 };
	const struct fuse_rename2_in to = { .newdir = ROOT };
	struct fuse_link_in link;
	struct fuse_write_in write = { .size = 1 };
	struct fuse_fallocate_in room = { .length = 4096 };
	struct statx before, after;
	struct guest guest;
	uint64_t node, fh;

	(void)state;
	open_guest(&guest, ",ro");
	assert_capabilities(&guest, 1ULL << CAP_DAC_OVERRIDE);
	node = link.oldnodeid = lookup(&guest, ROOT, "file");
	assert_true(open_node(&guest, FUSE_OPEN, node, O_RDONLY, &fh) > 0);
	write.fh = room.fh = fh;
	statx(AT_FDCWD, guest.shared, 0, STATX_BASIC_STATS, &before);
	assert_int_equal(create(&guest, ROOT, "new", 0), -EROFS);
	assert_int_equal(create(&guest, ROOT, "file", 0), -EROFS);
	assert_int_equal(ask(&guest, FUSE_TMPFILE, ROOT, IN(made), NAME("x"), NULL), -EROFS);
	assert_int_equal(ask(&guest, FUSE_MKNOD, ROOT, IN(node_in), NAME("new"), NULL), -EROFS);
	assert_int_equal(ask(&guest, FUSE_MKDIR, ROOT, IN(mkdir_in), NAME("new"), NULL), -EROFS);
	assert_int_equal(ask(&guest, FUSE_SYMLINK, ROOT, NAME("new"), NAME("x"), NULL), -EROFS);
	assert_int_equal(ask(&guest, FUSE_LINK, ROOT, IN(link), NAME("new"), NULL), -EROFS);
	assert_int_equal(ask(&guest, FUSE_UNLINK, ROOT, NAME("file"), NULL), -EROFS);
	assert_int_equal(ask(&guest, FUSE_RMDIR, ROOT, NAME("dir"), NULL), -EROFS);
	assert_int_equal(ask(&guest, FUSE_RENAME2, ROOT, IN(to), NAME("file"), NAME("x"), NULL), -EROFS);
	assert_int_equal(ask(&guest, FUSE_SETATTR, node, IN(times), NULL), -EROFS);
	assert_int_equal(ask(&guest, FUSE_WRITE, node, IN(write), "x", (size_t)1, NULL), -EROFS);
	assert_int_equal(ask(&guest, FUSE_FALLOCATE, node, IN(room), NULL), -EROFS);
	assert_int_equal(ask(&guest, FUSE_SETXATTR, node, IN(set), NAME("user.a"), "v", (size_t)1, NULL),
			 -EROFS);
	assert_int_equal(ask(&guest, FUSE_REMOVEXATTR, node, NAME("user.a"), NULL), -EROFS);
	for (uint32_t flags = 1; flags <= O_RDWR; flags++)
		assert_int_equal(open_node(&guest, FUSE_OPEN, node, flags, &fh), -EROFS);
	assert_int_equal(open_node(&guest, FUSE_OPEN, node, O_TRUNC, &fh), -EROFS);
	statx(AT_FDCWD, guest.shared, 0, STATX_BASIC_STATS, &after);
	assert_memory_equal(&before.stx_mtime, &after.stx_mtime, sizeof(after.stx_mtime));
	close_guest(&guest);
}

static void test_squash(void **state)
{
	struct fuse_setattr_in owner = { .valid = FATTR_UID | FATTR_GID, .uid = 4321, .gid = 4321 };
	struct guest guest;
	struct stat st;

	(void)state;
	open_guest(&guest, ",squash");
	assert_capabilities(&guest, 1ULL << CAP_DAC_OVERRIDE | 1ULL << CAP_FOWNER | 1ULL << CAP_FSETID);
	guest.uid = 4321;
	assert_true(create(&guest, ROOT, "new", 0) > 0);
	assert_int_equal(((const struct fuse_entry_out *)reply(&guest))->attr.uid, 0);
	assert_true(ask(&guest, FUSE_SETATTR, lookup(&guest, ROOT, "new"), IN(owner), NULL) > 0);
	assert_int_equal(stat(path_of(&guest, "shared/new"), &st), 0);
	assert_int_equal(st.st_uid, geteuid());
	assert_int_equal(st.st_gid, getegid());
	close_guest(&guest);
}

/* ---- descriptors ---- */

static void test_descriptors_run_out(void **state)
{
	uint64_t node, fh, first = 0;
	unsigned int opened = 0;
	struct guest guest;
	char name[16];
	int fd;

	(void)state;
	open_guest(&guest, ",fds=64");
	node = lookup(&guest, ROOT, "file");
	for (unsigned int i = 0; i < 3000; i++) {
		ssize_t n = open_node(&guest, i % 2 ? FUSE_OPEN : FUSE_OPENDIR, i % 2 ? node : ROOT, 0,
				      &fh);

		assert_true(n > 0 || n == -ENFILE);
		opened += n > 0;
		first = first ?: fh;
		/* And nodes: each may want a descriptor. */
		snprintf(name, sizeof(name), "%u", i);
		assert_true(create(&guest, ROOT, name, 0) < 0 || opened < 64);
	}
	assert_true(opened > 0 && opened < 64);
	/* Names are found as ever, and the process has descriptors of its own. */
	assert_true(lookup(&guest, lookup(&guest, ROOT, "dir"), "file"));
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	close(fd);
	release(&guest, ROOT, first);
	assert_true(open_node(&guest, FUSE_OPEN, node, O_RDONLY, &fh) > 0);
	close_guest(&guest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_links),
		cmocka_unit_test(test_what_the_kernel_answers),
		cmocka_unit_test(test_what_becomes_a_link),
		cmocka_unit_test(test_what_moves_away),
		cmocka_unit_test(test_special_files),
		cmocka_unit_test(test_what_gets_the_number_of_a_file),
		cmocka_unit_test(test_forged_numbers),
		cmocka_unit_test(test_lengths_and_offsets),
		cmocka_unit_test(test_read_only),
		cmocka_unit_test(test_squash),
		cmocka_unit_test(test_descriptors_run_out),
	};

	/* As the program has it: a thread with an arena of its own reads /proc/sys when it gives memory back. */
	mallopt(M_ARENA_MAX, 1);
	filter_report_violations(NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
