// SPDX-License-Identifier: Apache-2.0
/* What files hold: written, cut, with holes, copied, and open without a name. */
#include <linux/falloc.h>
#include <limits.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include "tests/guest/fs/fstest.h"

#define BLOCK 65536L /* of holes: no file system here has larger ones */

static int make(const char *name)
{
	int fd = open(name, O_RDWR | O_CREAT | O_EXCL, 0644);

	CHECK(fd >= 0);
	return fd;
}

static bool is_zero(int fd, off_t offset, size_t len)
{
	char byte;

	for (size_t i = 0; i < len; i += 997)
		if (pread(fd, &byte, 1, offset + (off_t)i) != 1 || byte)
			return false;
	return true;
}

static void fill(int fd, off_t offset, size_t len)
{
	static char data[BLOCK];

	memset(data, 'x', sizeof(data));
	for (size_t done = 0; done < len; done += sizeof(data))
		CHECK(pwrite(fd, data, sizeof(data), offset + (off_t)done) == sizeof(data));
}

static off_t size_of(int fd)
{
	struct stat st;

	CHECK(!fstat(fd, &st));
	return st.st_size;
}

static void reads_and_writes(void)
{
	char in[64], large[100000], back[100000];
	const struct iovec out[] = { { (char[]){ "gather" }, 6 }, { (char[]){ "ed" }, 2 } };
	struct iovec parts[] = { { in, 3 }, { in + 10, 5 } };
	int fd = make("file");

	CHECK(writev(fd, out, 2) == 8 && lseek(fd, 0, SEEK_CUR) == 8 && size_of(fd) == 8);
	CHECK(preadv(fd, parts, 2, 0) == 8 && !memcmp(in, "gat", 3) && !memcmp(in + 10, "hered", 5));
	CHECK(read(fd, in, 1) == 0 && pread(fd, in, sizeof(in), 6) == 2);
	CHECK(pread(fd, in, sizeof(in), 100) == 0);
	CHECK(write(fd, in, 0) == 0 && size_of(fd) == 8);
	CHECK_FAILS(pread(fd, in, 1, -1), EINVAL);
	CHECK_FAILS(pwritev(fd, &(struct iovec){ (void *)8, 8 }, 1, 0), EFAULT);
	CHECK_FAILS(lseek(fd, -1, SEEK_SET), EINVAL);
	for (size_t i = 0; i < sizeof(large); i++)
		large[i] = (char)(i * 7 + i / 251);
	CHECK(pwrite(fd, large, sizeof(large), 4093) == sizeof(large));
	CHECK(pread(fd, back, sizeof(back), 4093) == sizeof(back));
	CHECK(!memcmp(large, back, sizeof(back)) && is_zero(fd, 8, 4000));
	CHECK(pwrite(fd, "far", 3, (off_t)8 << 30) == 3 && size_of(fd) == ((off_t)8 << 30) + 3);
	CHECK(pread(fd, in, 8, ((off_t)8 << 30) - 2) == 5 && !memcmp(in + 2, "far", 3));
	CHECK(!fsync(fd) && !fdatasync(fd) && !close(fd));
	fd = open(".", O_RDONLY | O_DIRECTORY);
	CHECK(!fsync(fd) && !syncfs(fd) && !close(fd));
}

static void appends(void)
{
	char found[16];
	int a = make("file"), b = open("file", O_RDWR | O_APPEND), c = open("file", O_WRONLY | O_APPEND);

	CHECK(write(a, "aa", 2) == 2 && write(b, "bb", 2) == 2 && write(c, "cc", 2) == 2);
	CHECK(write(b, "BB", 2) == 2 && lseek(b, 0, SEEK_CUR) == 8);
	/* Linux: a position makes no difference. */
	CHECK(pwrite(c, "CC", 2, 0) == 2 && write(a, "AA", 2) == 2);
	CHECK(pread(b, found, sizeof(found), 0) == 10 && !memcmp(found, "aaAAccBBCC", 10));
}

#define APPENDS 200

static void append_lines(void)
{
	int fd = open("file", O_WRONLY | O_APPEND);

	for (unsigned int i = 0; i < APPENDS; i++)
		CHECK(write(fd, "1234567\n", 8) == 8);
}

static void appends_of_two(void)
{
	char line[8];
	int fd = make("file");
	pid_t other = begin(append_lines);

	append_lines();
	finish(other);
	CHECK(size_of(fd) == 2L * APPENDS * 8);
	for (unsigned int i = 0; i < 2 * APPENDS; i++)
		CHECK(read(fd, line, 8) == 8 && !memcmp(line, "1234567\n", 8));
}

static void sizes_change(void)
{
	char found[8];
	int fd = make("file");

	CHECK(write(fd, "12345678", 8) == 8);
	CHECK(!truncate("file", 4) && size_of(fd) == 4 && !ftruncate(fd, 100000));
	CHECK(size_of(fd) == 100000 && pread(fd, found, 8, 0) == 8);
	CHECK(!memcmp(found, "1234\0\0\0\0", 8) && is_zero(fd, 4, 99990));
	CHECK(!ftruncate(fd, 5) && !ftruncate(fd, 9000) && is_zero(fd, 4, 8990));
	CHECK(!truncate("file", 0) && size_of(fd) == 0 && pread(fd, found, 8, 0) == 0);
	CHECK(!ftruncate(fd, (off_t)1 << 32) && size_of(fd) == (off_t)1 << 32);
	CHECK(!mkdir("dir", 0755) && !symlink("file", "link") && !truncate("link", 3));
	CHECK(size_of(fd) == 3);
	CHECK_FAILS(truncate("dir", 0), EISDIR);
	CHECK_FAILS(truncate("none", 0), ENOENT);
	CHECK_FAILS(truncate("file", -1), EINVAL);
	CHECK_FAILS(ftruncate(open("dir", O_RDONLY), 0), EINVAL);
	CHECK(!mkfifo("fifo", 0600));
	CHECK_FAILS(truncate("fifo", 0), EINVAL);
}

static void without_a_name(void)
{
	char path[64], found[8];
	int fd = make("file"), again;
	struct stat st;

	CHECK(write(fd, "text", 4) == 4 && !unlink("file"));
	CHECK(!fstat(fd, &st) && st.st_nlink == 0 && st.st_size == 4);
	CHECK(pread(fd, found, 8, 0) == 4 && pwrite(fd, "more", 4, 4) == 4);
	CHECK(!ftruncate(fd, 6) && !fchmod(fd, 0600) && !fsync(fd));
	CHECK(!futimens(fd, (struct timespec[]){ { 5, 0 }, { 6, 0 } }));
	CHECK(!fstat(fd, &st) && st.st_size == 6 && st.st_mtim.tv_sec == 6);
	CHECK((st.st_mode & 07777) == 0600);
	/* Another by that name is another file. */
	write_file("file", "other");
	CHECK(pread(fd, found, 8, 0) == 6 && !memcmp(found, "textmo", 6));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDWR);
	CHECK(again >= 0 && pread(again, found, 8, 0) == 6);
	CHECK_FAILS(linkat(AT_FDCWD, path, AT_FDCWD, "back", AT_SYMLINK_FOLLOW), ENOENT);
	CHECK(!close(fd) && pread(again, found, 8, 0) == 6 && !close(again));
}

static void temporary_files(void)
{
	int fd = open(".", O_RDWR | O_TMPFILE, 0600);
	char path[64];

	if (fd < 0 && errno == EOPNOTSUPP)
		lacks("O_TMPFILE");
	CHECK(fd >= 0 && write(fd, "text", 4) == 4);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	CHECK(!linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
	CHECK(has_text("named", "text") && permissions("named") == 0600);
	CHECK(open(".", O_RDONLY | O_TMPFILE, 0600) < 0 && errno == EINVAL);
}

static void holes(void)
{
	int fd = make("file");

	fill(fd, 2 * BLOCK, BLOCK);
	CHECK(!ftruncate(fd, 5 * BLOCK));
	CHECK(lseek(fd, 0, SEEK_DATA) == 2 * BLOCK);
	CHECK(lseek(fd, 0, SEEK_HOLE) == 0);
	CHECK(lseek(fd, 2 * BLOCK + 5, SEEK_HOLE) == 3 * BLOCK);
	CHECK(lseek(fd, 2 * BLOCK + 5, SEEK_DATA) == 2 * BLOCK + 5);
	CHECK_FAILS(lseek(fd, 3 * BLOCK, SEEK_DATA), ENXIO);
	CHECK_FAILS(lseek(fd, 5 * BLOCK, SEEK_HOLE), ENXIO);
	CHECK_FAILS(lseek(fd, 0, 99), EINVAL);
	CHECK(lseek(fd, 0, SEEK_END) == 5 * BLOCK);
}

static void room_is_made(void)
{
	int fd = make("file");

	CHECK(!fallocate(fd, 0, 0, 3 * BLOCK) && size_of(fd) == 3 * BLOCK);
	CHECK(is_zero(fd, 0, 3 * BLOCK) && status("file").st_blocks >= 3 * BLOCK / 512);
	CHECK(!fallocate(fd, FALLOC_FL_KEEP_SIZE, 3 * BLOCK, BLOCK) && size_of(fd) == 3 * BLOCK);
	fill(fd, 0, 3 * BLOCK);
	CHECK(!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, BLOCK, BLOCK));
	CHECK(is_zero(fd, BLOCK, BLOCK) && lseek(fd, 0, SEEK_HOLE) == BLOCK);
	CHECK(!is_zero(fd, 0, 1) && !is_zero(fd, 2 * BLOCK, 1));
	if (!fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, 100))
		CHECK(is_zero(fd, 0, 100) && !is_zero(fd, 100, 1));
	else
		CHECK(errno == EOPNOTSUPP);
	CHECK(!posix_fallocate(fd, 0, 4 * BLOCK) && size_of(fd) == 4 * BLOCK);
	CHECK_FAILS(fallocate(fd, 0, 0, 0), EINVAL);
	CHECK_FAILS(fallocate(fd, 0, -1, 1), EINVAL);
	CHECK_FAILS(fallocate(fd, 0, LLONG_MAX, 1), EFBIG);
	CHECK_FAILS(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 1), EOPNOTSUPP);
	CHECK_FAILS(fallocate(open("file", O_RDONLY), 0, 0, 1), EBADF);
}

static void ranges_are_copied(void)
{
	char found[16] = { 0 };
	off_t from = 2, to = 3;
	int a, b = make("b");

	write_file("a", "0123456789");
	a = open("a", O_RDWR);
	CHECK(copy_file_range(a, &from, b, &to, 5, 0) == 5 && from == 7 && to == 8);
	CHECK(pread(b, found, sizeof(found), 0) == 8 && !memcmp(found, "\0\0\00023456", 8));
	CHECK(copy_file_range(a, &from, b, &to, 100, 0) == 3 && size_of(b) == 11);
	CHECK(copy_file_range(a, &from, b, &to, 100, 0) == 0);
	/* By the files' own positions. */
	CHECK(copy_file_range(a, NULL, b, NULL, 2, 0) == 2 && lseek(a, 0, SEEK_CUR) == 2);
	CHECK(pread(b, found, 3, 0) == 3 && !memcmp(found, "01\0", 3));
	from = 0, to = 5;
	CHECK(copy_file_range(a, &from, a, &to, 5, 0) == 5 && has_text("a", "0123401234"));
	from = 0, to = 2;
	CHECK_FAILS(copy_file_range(a, &from, a, &to, 5, 0), EINVAL);
	CHECK_FAILS(copy_file_range(a, &from, open("b", O_RDONLY), &to, 5, 0), EBADF);
	CHECK_FAILS(copy_file_range(a, &from, open("b", O_WRONLY | O_APPEND), &to, 5, 0), EBADF);
	CHECK_FAILS(copy_file_range(a, &from, b, &to, 5, 1), EINVAL);
	CHECK_FAILS(copy_file_range(open(".", O_RDONLY), NULL, b, NULL, 5, 0), EISDIR);
}

static void programs_run(void)
{
	static char program[1 << 16];
	int from = open("/proc/self/exe", O_RDONLY), to = open("program", O_WRONLY | O_CREAT, 0755);
	int state;
	ssize_t n;
	pid_t pid;

	while ((n = read(from, program, sizeof(program))) > 0)
		CHECK(write(to, program, (size_t)n) == n);
	pid = fork();
	if (!pid) {
		execl("program", "program", "tree", ".", NULL);
		_exit(errno == ETXTBSY ? 42 : 1);
	}
	/* As long as it can be written it cannot be run. */
	CHECK(waitpid(pid, &state, 0) == pid && WEXITSTATUS(state) == 42 && !close(to));
	CHECK(!mkdir("empty", 0755));
	pid = fork();
	if (!pid) {
		execl("program", "program", "tree", "empty", NULL);
		_exit(1);
	}
	CHECK(waitpid(pid, &state, 0) == pid && !state);
}

const struct fs_case file_cases[] = {
	{ "reads_and_writes", reads_and_writes },
	{ "appends", appends },
	{ "appends_of_two", appends_of_two },
	{ "sizes_change", sizes_change },
	{ "without_a_name", without_a_name },
	{ "temporary_files", temporary_files },
	{ "holes", holes },
	{ "room_is_made", room_is_made },
	{ "ranges_are_copied", ranges_are_copied },
	{ "programs_run", programs_run },
	{ 0 },
};
