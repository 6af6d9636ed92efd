// SPDX-License-Identifier: Apache-2.0
/* Names: made, linked, moved and removed. */
#include <limits.h>
#include <linux/fs.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include "tests/guest/fs/fstest.h"

static int make(const char *name)
{
	int fd = open(name, O_RDWR | O_CREAT | O_EXCL, 0644);

	return fd < 0 ? -1 : close(fd);
}

/* The C library's has no flags on some machines. */
static int rename2(const char *from, const char *to, unsigned int flags)
{
	return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags);
}

static void open_makes(void)
{
	CHECK(!make("file"));
	CHECK_FAILS(make("file"), EEXIST);
	CHECK(!mkdir("dir", 0755) && !symlink("target", "dangling"));
	CHECK_FAILS(make("dir"), EEXIST);
	CHECK_FAILS(make("dangling"), EEXIST);
	CHECK_FAILS(open("dir", O_RDWR | O_CREAT, 0644), EISDIR);
	CHECK_FAILS(open("new/", O_RDWR | O_CREAT, 0644), EISDIR);
	CHECK_FAILS(open("none/new", O_RDWR | O_CREAT, 0644), ENOENT);
	CHECK_FAILS(open("file/new", O_RDWR | O_CREAT, 0644), ENOTDIR);
	/* A link to nothing is followed. */
	CHECK(!close(open("dangling", O_RDWR | O_CREAT, 0600)));
	CHECK(S_ISREG(status("target").st_mode) && permissions("target") == 0600);
	/* The mode is for later: this one may write. */
	CHECK(write(open("read-only", O_RDWR | O_CREAT | O_EXCL, 0444), "x", 1) == 1);
	CHECK(permissions("read-only") == 0444 && status("read-only").st_size == 1);
	CHECK(write(open("nobody's", O_WRONLY | O_CREAT, 0), "x", 1) == 1);
}

static void open_refuses(void)
{
	char byte = 'x';
	int fd;

	write_file("file", "text");
	CHECK(!mkdir("dir", 0755) && !symlink("file", "link") && !symlink("loop", "loop"));
	CHECK_FAILS(open("none", O_RDONLY), ENOENT);
	CHECK_FAILS(open("file/", O_RDONLY), ENOTDIR);
	CHECK_FAILS(open("file", O_RDONLY | O_DIRECTORY), ENOTDIR);
	CHECK_FAILS(open("dir", O_WRONLY), EISDIR);
	CHECK_FAILS(open("dir", O_RDWR), EISDIR);
	CHECK_FAILS(open("link", O_RDONLY | O_NOFOLLOW), ELOOP);
	CHECK_FAILS(open("loop", O_RDONLY), ELOOP);
	CHECK_FAILS(open("", O_RDONLY), ENOENT);
	fd = open("file", O_RDONLY);
	CHECK_FAILS(write(fd, &byte, 1), EBADF);
	CHECK_FAILS(ftruncate(fd, 0), EINVAL);
	fd = open("file", O_WRONLY);
	CHECK_FAILS(read(fd, &byte, 1), EBADF);
	fd = open("file", O_PATH);
	CHECK_FAILS(read(fd, &byte, 1), EBADF);
	fd = open("dir", O_RDONLY);
	CHECK_FAILS(read(fd, &byte, 1), EISDIR);
	CHECK(has_text("link", "text"));
	CHECK(!close(open("file", O_WRONLY | O_TRUNC)) && status("file").st_size == 0);
}

static void long_names(void)
{
	char name[NAME_MAX + 2], other[NAME_MAX + 1], path[PATH_MAX + 1];

	memset(name, 'n', sizeof(name));
	memset(other, 'o', sizeof(other));
	name[NAME_MAX + 1] = other[NAME_MAX] = '\0';
	CHECK_FAILS(make(name), ENAMETOOLONG);
	CHECK_FAILS(mkdir(name, 0755), ENAMETOOLONG);
	CHECK_FAILS(symlink("x", name), ENAMETOOLONG);
	CHECK_FAILS(mkfifo(name, 0644), ENAMETOOLONG);
	CHECK_FAILS(access(name, F_OK), ENAMETOOLONG);
	CHECK_FAILS(unlink(name), ENAMETOOLONG);
	CHECK(!make(other));
	CHECK_FAILS(rename(other, name), ENAMETOOLONG);
	CHECK_FAILS(link(other, name), ENAMETOOLONG);
	name[NAME_MAX] = '\0';
	CHECK(!rename(other, name) && !link(name, other) && status(name).st_nlink == 2);
	CHECK(!unlink(name) && !mkdir(name, 0755) && !rmdir(name) && !symlink(other, name));
	CHECK(!unlink(name) && !mkfifo(name, 0600) && !unlink(name));
	memset(path, '/', sizeof(path));
	path[PATH_MAX] = '\0';
	CHECK_FAILS(open(path, O_RDONLY), ENAMETOOLONG);
}

static void odd_names(void)
{
	static const char *const names[] = {
		" ", "\n", "\\", "\x01", "\xff\xfe", "...", "..x", "-rf", "*", "a b", "\xc3\xa4", "'\"",
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		write_file(names[i], names[i]);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		CHECK(has_text(names[i], names[i]) && !unlink(names[i]));
	CHECK(!make("Case") && !exists("case"));
}

static void directories_are_made(void)
{
	nlink_t links = status(".").st_nlink;

	CHECK(!mkdir("dir", 0755));
	/* Some file systems do not count what is in a directory. */
	CHECK(status(".").st_nlink == links + 1 || status(".").st_nlink == 1);
	CHECK(status("dir").st_nlink <= 2);
	CHECK_FAILS(mkdir("dir", 0755), EEXIST);
	CHECK_FAILS(mkdir("none/dir", 0755), ENOENT);
	CHECK(!make("file"));
	CHECK_FAILS(mkdir("file", 0755), EEXIST);
	CHECK_FAILS(mkdir("file/dir", 0755), ENOTDIR);
	CHECK_FAILS(mkdir(".", 0755), EEXIST);
	CHECK(!mkdir("slash/", 0755) && !symlink("nothing", "dangling"));
	CHECK_FAILS(mkdir("dangling", 0755), EEXIST);
	CHECK(status("dir/.").st_ino == status("dir").st_ino);
	CHECK(status("dir/..").st_ino == status(".").st_ino);
}

static void directories_are_removed(void)
{
	nlink_t links = status(".").st_nlink;

	CHECK(!mkdir("dir", 0755) && !mkdir("dir/sub", 0755) && !make("file"));
	CHECK_FAILS(rmdir("dir"), ENOTEMPTY);
	CHECK_FAILS(rmdir("none"), ENOENT);
	CHECK_FAILS(rmdir("file"), ENOTDIR);
	CHECK_FAILS(rmdir("dir/."), EINVAL);
	CHECK_FAILS(rmdir("dir/sub/.."), ENOTEMPTY);
	CHECK(!symlink("dir/sub", "link"));
	CHECK_FAILS(rmdir("link"), ENOTDIR);
	CHECK(!rmdir("dir/sub") && !rmdir("dir") && !exists("dir"));
	CHECK(status(".").st_nlink == links);
}

/* Somebody's working directory may go. */
static void removed_directories(void)
{
	struct stat st;

	CHECK(!mkdir("dir", 0755) && !chdir("dir") && !rmdir("../dir"));
	CHECK(!stat(".", &st) && S_ISDIR(st.st_mode) && st.st_nlink == 0);
	CHECK_FAILS(make("file"), ENOENT);
	CHECK_FAILS(mkdir("sub", 0755), ENOENT);
	CHECK_FAILS(access("file", F_OK), ENOENT);
	CHECK(!chdir("..") && !exists("dir"));
}

static void names_are_removed(void)
{
	CHECK(!make("file") && !link("file", "other") && !mkdir("dir", 0755));
	CHECK_FAILS(unlink("none"), ENOENT);
	CHECK_FAILS(unlink("file/none"), ENOTDIR);
	CHECK_FAILS(unlink("dir"), EISDIR);
	CHECK(!unlink("file") && !exists("file") && status("other").st_nlink == 1);
	CHECK_FAILS(unlink("file"), ENOENT);
	CHECK(!symlink("other", "link") && !unlink("link") && exists("other"));
	CHECK(!mkfifo("fifo", 0600) && !unlink("fifo"));
	CHECK_FAILS(unlink("other/"), ENOTDIR);
}

static void links(void)
{
	write_file("file", "text");
	CHECK(!mkdir("dir", 0755) && !symlink("file", "sym"));
	CHECK(!link("file", "dir/other") && status("file").st_nlink == 2);
	CHECK(status("file").st_ino == status("dir/other").st_ino && has_text("dir/other", "text"));
	CHECK_FAILS(link("file", "sym"), EEXIST);
	CHECK_FAILS(link("file", "dir"), EEXIST);
	CHECK_FAILS(link("none", "x"), ENOENT);
	CHECK_FAILS(link("file", "none/x"), ENOENT);
	CHECK_FAILS(link("file/x", "y"), ENOTDIR);
	CHECK_FAILS(link("dir", "x"), EPERM);
	/* One to a link is to the link itself, or on request to what it leads to. */
	CHECK(!link("sym", "sym2") && S_ISLNK(status("sym2").st_mode));
	CHECK(!linkat(AT_FDCWD, "sym", AT_FDCWD, "third", AT_SYMLINK_FOLLOW));
	CHECK(status("file").st_nlink == 3);
	/* The name that was known last goes first, and then the others. */
	CHECK(!unlink("third") && has_text("file", "text") && !unlink("file"));
	CHECK(has_text("dir/other", "text") && status("dir/other").st_nlink == 1);
	CHECK(!rename("dir/other", "file") && has_text("file", "text"));
}

static void symbolic_links(void)
{
	char target[PATH_MAX], found[PATH_MAX];

	memset(target, 't', sizeof(target));
	target[PATH_MAX - 1] = '\0';
	CHECK_FAILS(symlink("", "empty"), ENOENT);
	CHECK(!symlink("nowhere", "link") && status("link").st_size == 7);
	CHECK_FAILS(symlink("x", "link"), EEXIST);
	CHECK_FAILS(open("link", O_RDONLY), ENOENT);
	CHECK(readlink("link", found, sizeof(found)) == 7 && !memcmp(found, "nowhere", 7));
	CHECK(readlink("link", found, 3) == 3);
	CHECK(permissions("link") == 0777);
	/* ext4 has them of a block at the most, less the terminator. */
	CHECK(!symlink(target, "long"));
	CHECK(readlink("long", found, sizeof(found)) == PATH_MAX - 1 &&
	      !memcmp(found, target, PATH_MAX - 1));
	write_file("file", "text");
	CHECK(!mkdir("dir", 0755) && !symlink("../file", "dir/up") && has_text("dir/up", "text"));
	CHECK(!symlink("dir", "to-dir") && has_text("to-dir/up", "text"));
	CHECK_FAILS(readlink("file", found, sizeof(found)), EINVAL);
	CHECK_FAILS(readlink("none", found, sizeof(found)), ENOENT);
}

static void rename_files(void)
{
	ino_t ino;

	write_file("a", "a");
	write_file("b", "b");
	ino = status("a").st_ino;
	CHECK(!rename("a", "b") && !exists("a") && has_text("b", "a") && status("b").st_ino == ino);
	CHECK(!rename("b", "b") && has_text("b", "a"));
	CHECK_FAILS(rename("none", "b"), ENOENT);
	CHECK_FAILS(rename("b", "none/b"), ENOENT);
	CHECK_FAILS(rename("b/x", "c"), ENOTDIR);
	CHECK(!mkdir("dir", 0755));
	CHECK_FAILS(rename("b", "dir"), EISDIR);
	CHECK_FAILS(rename("dir", "b"), ENOTDIR);
	CHECK_FAILS(rename("b", "c/"), ENOTDIR);
	/* Two names of one file: nothing happens. */
	CHECK(!link("b", "same") && !rename("b", "same") && exists("b") && exists("same"));
	CHECK(!symlink("b", "link") && !rename("link", "dir/link") && !exists("link"));
	CHECK(S_ISLNK(status("dir/link").st_mode));
	CHECK(!rename("b", "dir/link") && has_text("dir/link", "a"));
	CHECK(!mkfifo("fifo", 0600) && !rename("fifo", "same") && S_ISFIFO(status("same").st_mode));
}

static void rename_directories(void)
{
	nlink_t links;

	CHECK(!mkdir("a", 0755) && !mkdir("a/sub", 0755) && !mkdir("empty", 0755) &&
	      !mkdir("full", 0755) && !make("full/file") && !make("a/sub/file"));
	links = status(".").st_nlink;
	CHECK_FAILS(rename("a", "full"), ENOTEMPTY);
	CHECK_FAILS(rename("a", "a/sub/x"), EINVAL);
	CHECK_FAILS(rename("a", "a/x"), EINVAL);
	CHECK_FAILS(rename("a/sub", "a"), ENOTEMPTY);
	CHECK_FAILS(rename("a", "."), EBUSY);
	CHECK_FAILS(rename("a/sub/..", "x"), EBUSY);
	CHECK(!rename("a", "empty") && !exists("a") && exists("empty/sub/file"));
	CHECK(links == 1 || status(".").st_nlink == links - 1);
	/* ".." is another one now. */
	CHECK(!rename("empty/sub", "full/sub") && exists("full/sub/file"));
	CHECK(status("full/sub/..").st_ino == status("full").st_ino);
	CHECK(!chdir("full/sub") && !rename("../../full", "../../moved") && exists("file"));
	CHECK(exists("../file") && exists("../../moved/sub/file"));
}

static void rename_with_flags(void)
{
	write_file("a", "a");
	write_file("b", "b");
	CHECK(!mkdir("dir", 0755) && !make("dir/in"));
	CHECK_FAILS(rename2("a", "b", RENAME_NOREPLACE), EEXIST);
	CHECK(has_text("a", "a") && has_text("b", "b"));
	CHECK(!rename2("a", "c", RENAME_NOREPLACE) && !exists("a") && has_text("c", "a"));
	CHECK(!rename2("c", "b", RENAME_EXCHANGE) && has_text("c", "b") && has_text("b", "a"));
	CHECK_FAILS(rename2("c", "none", RENAME_EXCHANGE), ENOENT);
	CHECK(!rename2("c", "dir", RENAME_EXCHANGE) && exists("c/in") && has_text("dir", "b"));
	CHECK_FAILS(rename2("c", "c/in", RENAME_EXCHANGE), EINVAL);
	CHECK_FAILS(rename2("b", "dir", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
	CHECK_FAILS(rename2("b", "dir", 1u << 20), EINVAL);
	CHECK(!rename2("c/in", "dir", RENAME_EXCHANGE) && has_text("c/in", "b"));
}

static void rename_over_what_is_open(void)
{
	char text[2];
	int fd;

	write_file("a", "aa");
	write_file("b", "bb");
	fd = open("b", O_RDWR);
	CHECK(!rename("a", "b"));
	CHECK(pread(fd, text, 2, 0) == 2 && !memcmp(text, "bb", 2));
	CHECK(pwrite(fd, "cc", 2, 0) == 2 && has_text("b", "aa"));
	CHECK(!close(fd));
}

static void special_files(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "socket" };
	int a = socket(AF_UNIX, SOCK_STREAM, 0), b = socket(AF_UNIX, SOCK_STREAM, 0), fds[2];
	char byte = 0;

	CHECK(!mkfifo("fifo", 0640) && S_ISFIFO(status("fifo").st_mode));
	CHECK(permissions("fifo") == 0640);
	CHECK_FAILS(mkfifo("fifo", 0640), EEXIST);
	CHECK(!mknod("file", S_IFREG | 0604, 0) && S_ISREG(status("file").st_mode));
	/* What goes through is the guest's own kernel's. */
	fds[0] = open("fifo", O_RDONLY | O_NONBLOCK);
	fds[1] = open("fifo", O_WRONLY);
	CHECK(write(fds[1], "f", 1) == 1 && read(fds[0], &byte, 1) == 1 && byte == 'f');
	CHECK(!bind(a, (struct sockaddr *)&address, sizeof(address)) && !listen(a, 1));
	CHECK(S_ISSOCK(status("socket").st_mode));
	CHECK(!connect(b, (struct sockaddr *)&address, sizeof(address)));
	CHECK_FAILS(open("socket", O_RDWR), ENXIO);
	CHECK_FAILS(bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address,
			 sizeof(address)), EADDRINUSE);
	CHECK(!unlink("socket") && !unlink("fifo"));
}

static void at_calls(void)
{
	struct stat st;
	int dir, fd;

	CHECK(!mkdir("dir", 0755) && !mkdir("dir/sub", 0755));
	dir = open("dir", O_PATH | O_DIRECTORY);
	CHECK(!close(openat(dir, "file", O_CREAT | O_RDWR, 0600)));
	CHECK(!linkat(dir, "file", AT_FDCWD, "linked", 0) && status("linked").st_nlink == 2);
	CHECK(!symlinkat("file", dir, "sym") && !mkdirat(dir, "made", 0700));
	CHECK(!renameat(dir, "made", dir, "moved") && !unlinkat(dir, "moved", AT_REMOVEDIR));
	CHECK(!fstatat(dir, "sym", &st, 0) && S_ISREG(st.st_mode));
	CHECK(!faccessat(dir, "file", R_OK, 0));
	fd = openat(dir, "sym", O_PATH | O_NOFOLLOW);
	CHECK(!fstatat(fd, "", &st, AT_EMPTY_PATH) && S_ISLNK(st.st_mode));
	/* Moved, it is still the same directory. */
	CHECK(!rename("dir", "other") && !fstatat(dir, "file", &st, 0) && st.st_nlink == 2);
	CHECK(!close(openat(dir, "new", O_CREAT | O_RDWR, 0600)) && exists("other/new"));
}

const struct fs_case name_cases[] = {
	{ "open_makes", open_makes },
	{ "open_refuses", open_refuses },
	{ "long_names", long_names },
	{ "odd_names", odd_names },
	{ "directories_are_made", directories_are_made },
	{ "directories_are_removed", directories_are_removed },
	{ "removed_directories", removed_directories },
	{ "names_are_removed", names_are_removed },
	{ "links", links },
	{ "symbolic_links", symbolic_links },
	{ "rename_files", rename_files },
	{ "rename_directories", rename_directories },
	{ "rename_with_flags", rename_with_flags },
	{ "rename_over_what_is_open", rename_over_what_is_open },
	{ "special_files", special_files },
	{ "at_calls", at_calls },
	{ 0 },
};
