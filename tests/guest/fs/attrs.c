// SPDX-License-Identifier: Apache-2.0
/* Attributes: modes, owners and who may change them, times, extended attributes. */
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include "tests/guest/fs/fstest.h"

#define SOMEBODY 1000
#define ANOTHER 2000

static int create(const char *name, mode_t mode)
{
	int fd = open(name, O_RDWR | O_CREAT | O_EXCL, mode);

	return fd < 0 ? -1 : close(fd);
}

static void modes_of_what_is_made(void)
{
	static const mode_t masks[] = { 0, 022, 077, 0777 };
	static const mode_t modes[] = { 0, 0400, 0644, 0777, 01755, 02755, 04711, 07777 };

	for (size_t i = 0; i < ARRAY_SIZE(masks); i++)
		for (size_t j = 0; j < ARRAY_SIZE(modes); j++) {
			umask(masks[i]);
			CHECK(!create("file", modes[j]));
			CHECK(permissions("file") == (modes[j] & ~masks[i]));
			CHECK(!mkdir("dir", modes[j]));
			CHECK(permissions("dir") == (modes[j] & ~masks[i] & 01777));
			CHECK(!mkfifo("fifo", modes[j]));
			CHECK(permissions("fifo") == (modes[j] & ~masks[i]));
			CHECK(!unlink("file") && !unlink("fifo") && !rmdir("dir"));
		}
}

static void modes_change(void)
{
	CHECK(!create("file", 0644) && !mkdir("dir", 0755) && !symlink("file", "link"));
	for (mode_t mode = 0; mode <= 07777; mode += 0111 + 01000) {
		int fd = open("dir", O_RDONLY | O_DIRECTORY);

		CHECK(!chmod("file", mode) && permissions("file") == mode);
		CHECK(!fchmod(fd, mode | 0700) && permissions("dir") == (mode | 0700));
		close(fd);
	}
	CHECK(!chmod("link", 0600) && permissions("file") == 0600 && permissions("link") == 0777);
	CHECK_FAILS(chmod("none", 0600), ENOENT);
	CHECK_FAILS(fchmodat(AT_FDCWD, "link", 0600, AT_SYMLINK_NOFOLLOW), EOPNOTSUPP);
	CHECK_FAILS(chmod("file/x", 0600), ENOTDIR);
}

static void owners_change(void)
{
	CHECK(!create("file", 06755) && !symlink("file", "link") && !mkdir("dir", 02755));
	CHECK(!chown("file", SOMEBODY, ANOTHER));
	CHECK(status("file").st_uid == SOMEBODY && status("file").st_gid == ANOTHER);
	CHECK(permissions("file") == 0755);
	CHECK(!chown("file", (uid_t)-1, SOMEBODY) && status("file").st_uid == SOMEBODY);
	CHECK(status("file").st_gid == SOMEBODY);
	CHECK(!lchown("link", ANOTHER, ANOTHER) && status("link").st_uid == ANOTHER);
	CHECK(status("file").st_uid == SOMEBODY);
	/* Of a directory the bit says something else. */
	CHECK(!chmod("dir", 02755) && !chown("dir", SOMEBODY, SOMEBODY));
	CHECK(permissions("dir") == 02755);
	CHECK(!chown("file", 4000000000u, 4000000001u) && status("file").st_uid == 4000000000u);
	CHECK_FAILS(chown("none", 0, 0), ENOENT);
}

static void owners_of_ones_own(void)
{
	const uid_t me = geteuid();

	CHECK(!create("file", 06755));
	CHECK(status("file").st_uid == me && status("file").st_gid == getegid());
	if (!me)
		return;
	CHECK_FAILS(chown("file", me + 1, (gid_t)-1), EPERM);
	CHECK_FAILS(chown("file", (uid_t)-1, me + 2), EPERM);
	/* To a group of one's own; who is in it may not be who was meant by the bits. */
	CHECK(!chown("file", me, me + 1) && status("file").st_gid == me + 1);
	CHECK(permissions("file") == 0755);
	CHECK(!chmod("file", 06755) && permissions("file") == 06755);
	CHECK(!chown("file", me, me) && permissions("file") == 0755);
}

/* ---- what others may ---- */

static void somebody_is_refused(void)
{
	char byte;

	CHECK_FAILS(open("secret", O_RDONLY), EACCES);
	CHECK_FAILS(open("readable", O_WRONLY), EACCES);
	CHECK(read(open("readable", O_RDONLY), &byte, 1) == 1);
	CHECK_FAILS(truncate("readable", 0), EACCES);
	CHECK_FAILS(chmod("readable", 0777), EPERM);
	CHECK_FAILS(chown("readable", SOMEBODY, SOMEBODY), EPERM);
	CHECK_FAILS(utimensat(AT_FDCWD, "readable", NULL, 0), EACCES);
	CHECK_FAILS(utimensat(AT_FDCWD, "readable", (struct timespec[2]){ { 0 } }, 0), EPERM);
	CHECK_FAILS(create("new", 0644), EACCES);
	CHECK_FAILS(mkdir("new", 0755), EACCES);
	CHECK_FAILS(unlink("readable"), EACCES);
	CHECK_FAILS(rename("readable", "new"), EACCES);
	CHECK_FAILS(symlink("x", "new"), EACCES);
	CHECK_FAILS(access("closed/file", F_OK), EACCES);
	CHECK_FAILS(open("closed", O_RDONLY), EACCES);
	CHECK(!access("passed/file", F_OK));
	CHECK_FAILS(open("passed", O_RDONLY), EACCES);
	CHECK(!close(open("listed", O_RDONLY)));
	CHECK_FAILS(access("listed/file", F_OK), EACCES);
	CHECK(!create("open/new", 0600) && status("open/new").st_uid == SOMEBODY);
	CHECK(!unlink("open/file"));
	/* The class is the owner's, however much more the others may. */
	CHECK_FAILS(open("mine", O_RDONLY), EACCES);
	CHECK_FAILS(open("my-group's", O_RDONLY), EACCES);
}

static void permissions_hold(void)
{
	static const struct {
		const char *name;
		mode_t mode;
	} dirs[] = { { "closed", 0700 }, { "passed", 0711 }, { "listed", 0744 }, { "open", 0777 } };

	CHECK(!create("secret", 0600));
	write_file("readable", "x");
	CHECK(!create("mine", 0077) && !chown("mine", SOMEBODY, 0));
	CHECK(!create("my-group's", 0707) && !chown("my-group's", 0, SOMEBODY));
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		char name[32];

		snprintf(name, sizeof(name), "%s/file", dirs[i].name);
		CHECK(!mkdir(dirs[i].name, dirs[i].mode) && !create(name, 0644));
	}
	as_user(SOMEBODY, somebody_is_refused);
}

static void somebody_in_sticky(void)
{
	CHECK_FAILS(unlink("sticky/theirs"), EPERM);
	CHECK_FAILS(rename("sticky/theirs", "sticky/new"), EPERM);
	CHECK_FAILS(rmdir("sticky/dir"), EPERM);
	CHECK(!create("sticky/mine", 0600) && !rename("sticky/mine", "sticky/moved"));
	CHECK_FAILS(rename("sticky/moved", "sticky/theirs"), EPERM);
	CHECK(!unlink("sticky/moved"));
	CHECK(!unlink("own/theirs"));
}

static void sticky_directories(void)
{
	CHECK(!mkdir("sticky", 01777) && !mkdir("own", 01777) && !chown("own", SOMEBODY, SOMEBODY));
	CHECK(permissions("sticky") == 01777);
	CHECK(!create("sticky/theirs", 0666) && !chown("sticky/theirs", ANOTHER, ANOTHER));
	CHECK(!mkdir("sticky/dir", 0777) && !create("own/theirs", 0666));
	as_user(SOMEBODY, somebody_in_sticky);
}

static void somebody_in_group(void)
{
	CHECK(!create("dir/file", 0664) && status("dir/file").st_gid == ANOTHER);
	CHECK(!mkdir("dir/sub", 0775) && status("dir/sub").st_gid == ANOTHER);
	CHECK(permissions("dir/sub") == 02775);
	/* Who is not in the group cannot have programs run as it. */
	CHECK(!create("dir/program", 02775) && permissions("dir/program") == 0775);
	CHECK(!mkfifo("dir/fifo", 0600) && status("dir/fifo").st_gid == ANOTHER);
	CHECK(!symlink("x", "dir/link") && status("dir/link").st_gid == ANOTHER);
	CHECK(!chmod("dir/file", 02775) && permissions("dir/file") == 0775);
}

static void directories_of_groups(void)
{
	CHECK(!mkdir("dir", 0777) && !chown("dir", 0, ANOTHER) && !chmod("dir", 02777));
	as_user(SOMEBODY, somebody_in_group);
}

static void somebody_writes(void)
{
	int fd = open("written", O_WRONLY);

	CHECK(write(fd, "x", 1) == 1 && permissions("written") == 0777);
	CHECK(!truncate("truncated", 1) && permissions("truncated") == 0777);
	CHECK(!close(open("opened", O_WRONLY | O_TRUNC)) && permissions("opened") == 0777);
}

static void writes_take_set_id_bits(void)
{
	static const char *const names[] = { "written", "truncated", "opened" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		CHECK(!create(names[i], 06777));
	CHECK(!create("root's", 06777));
	as_user(SOMEBODY, somebody_writes);
	CHECK(write(open("root's", O_WRONLY), "x", 1) == 1 && permissions("root's") == 06777);
}

/* ---- times ---- */

static bool has_times(const char *name, struct timespec atime, struct timespec mtime)
{
	struct stat st = status(name);

	return st.st_atim.tv_sec == atime.tv_sec && st.st_atim.tv_nsec == atime.tv_nsec &&
	       st.st_mtim.tv_sec == mtime.tv_sec && st.st_mtim.tv_nsec == mtime.tv_nsec;
}

static void times_are_set(void)
{
	const struct timespec a = { 1234567890, 123456789 }, b = { 86400, 1 }, far = { 4102444800, 5 };
	const struct timespec omit = { 0, UTIME_OMIT }, now = { 0, UTIME_NOW };
	const struct timespec before = { -86400, 5 };
	struct timespec times[] = { a, b };
	int fd;

	CHECK(!create("file", 0644) && !symlink("file", "link") && !mkdir("dir", 0755));
	fd = open("file", O_RDWR);
	CHECK(!utimensat(AT_FDCWD, "file", times, 0) && has_times("file", a, b));
	CHECK(!futimens(fd, (struct timespec[]){ omit, far }) && has_times("file", a, far));
	CHECK(!futimens(fd, (struct timespec[]){ b, omit }) && has_times("file", b, far));
	CHECK(!futimens(fd, (struct timespec[]){ before, before }));
	CHECK(has_times("file", before, before));
	CHECK(!utimensat(AT_FDCWD, "link", times, AT_SYMLINK_NOFOLLOW) && has_times("link", a, b));
	CHECK(has_times("file", before, before));
	CHECK(!utimensat(AT_FDCWD, "dir", times, 0) && has_times("dir", a, b));
	CHECK(!futimens(fd, (struct timespec[]){ omit, now }));
	CHECK(status("file").st_mtim.tv_sec > b.tv_sec);
	CHECK(status("file").st_atim.tv_sec == before.tv_sec);
	times[0].tv_nsec = 1000000000;
	CHECK_FAILS(utimensat(AT_FDCWD, "file", times, 0), EINVAL);
	CHECK_FAILS(utimensat(AT_FDCWD, "none", NULL, 0), ENOENT);
	CHECK(!utimensat(AT_FDCWD, "file", (struct timespec[]){ omit, omit }, 0));
}

static void writes_change_times(void)
{
	char byte = 'x';
	int fd;

	write_file("file", "text");
	fd = open("file", O_RDWR);
	make_old("file");
	CHECK(read(fd, &byte, 1) == 1 && is_old("file"));
	CHECK(pwrite(fd, &byte, 1, 0) == 1 && !is_old("file"));
	make_old("file");
	CHECK(!ftruncate(fd, 2) && !is_old("file"));
	make_old("file");
	CHECK(!fchmod(fd, 0600) && is_old("file"));
	CHECK(!close(open("file", O_WRONLY | O_TRUNC)) && !is_old("file"));
	make_old("file");
	CHECK(!rename("file", "other") && is_old("other") && !link("other", "link"));
	CHECK(is_old("link"));
	/* What is written stays older than what is said of it afterwards. */
	CHECK(pwrite(fd, &byte, 1, 0) == 1);
	make_old("other");
	CHECK(!close(fd) && is_old("other"));
}

static void names_change_times(void)
{
	CHECK(!mkdir("dir", 0755) && !mkdir("other", 0755));
	make_old("dir");
	CHECK(!create("dir/file", 0644) && !is_old("dir"));
	make_old("dir");
	CHECK(!chmod("dir/file", 0600) && is_old("dir"));
	CHECK(!link("dir/file", "dir/link") && !is_old("dir"));
	make_old("dir");
	make_old("other");
	CHECK(!rename("dir/link", "other/link") && !is_old("dir") && !is_old("other"));
	make_old("dir");
	CHECK(!unlink("dir/file") && !is_old("dir"));
	make_old("dir");
	CHECK(!mkdir("dir/sub", 0755) && !is_old("dir"));
	make_old("dir");
	CHECK(!rmdir("dir/sub") && !is_old("dir"));
	make_old("dir");
	CHECK(!symlink("x", "dir/link") && !is_old("dir"));
}

/* ctime cannot be set. */
static void changes_are_dated(void)
{
	struct timespec before;

	CHECK(!create("file", 0644));
	for (unsigned int i = 0; i < 4; i++) {
		before = status("file").st_ctim;
		usleep(30000);
		CHECK(!(i == 0 ? chmod("file", 0600) : i == 1 ? link("file", "link") :
			i == 2 ? rename("link", "moved") : unlink("moved")));
		CHECK(memcmp(&before, &(struct timespec){ status("file").st_ctim.tv_sec,
							  status("file").st_ctim.tv_nsec },
			     sizeof(before)) != 0);
	}
}

/* ---- extended attributes ---- */

static void extended_attributes(void)
{
	char value[64], list[256];

	CHECK(!create("file", 0644) && !mkdir("dir", 0755) && !symlink("file", "link"));
	if (setxattr("file", "user.a", "value", 5, 0) < 0 && errno == EOPNOTSUPP)
		lacks("extended attributes");
	CHECK(getxattr("file", "user.a", NULL, 0) == 5);
	CHECK(getxattr("file", "user.a", value, sizeof(value)) == 5 && !memcmp(value, "value", 5));
	CHECK_FAILS(getxattr("file", "user.a", value, 4), ERANGE);
	CHECK_FAILS(getxattr("file", "user.none", value, sizeof(value)), ENODATA);
	CHECK_FAILS(setxattr("file", "user.a", "x", 1, XATTR_CREATE), EEXIST);
	CHECK_FAILS(setxattr("file", "user.b", "x", 1, XATTR_REPLACE), ENODATA);
	CHECK(!setxattr("file", "user.b", "", 0, XATTR_CREATE));
	CHECK(getxattr("file", "user.b", value, sizeof(value)) == 0);
	CHECK(!setxattr("file", "user.a", "longer than it was", 18, XATTR_REPLACE));
	CHECK(listxattr("file", NULL, 0) == listxattr("file", list, sizeof(list)));
	CHECK(memmem(list, (size_t)listxattr("file", list, sizeof(list)), "user.a", 7));
	CHECK_FAILS(listxattr("file", list, 5), ERANGE);
	CHECK(!removexattr("file", "user.a"));
	CHECK_FAILS(removexattr("file", "user.a"), ENODATA);
	CHECK(!setxattr("dir", "user.d", "x", 1, 0) && getxattr("dir", "user.d", value, 1) == 1);
	CHECK_FAILS(lsetxattr("link", "user.l", "x", 1, 0), EPERM);
	CHECK_FAILS(setxattr("file", "nonsense.a", "x", 1, 0), EOPNOTSUPP);
	CHECK_FAILS(setxattr("none", "user.a", "x", 1, 0), ENOENT);
}

static void large_attributes(void)
{
	static char value[65537], found[65537];
	char name[300] = "user.";

	CHECK(!create("file", 0644));
	memset(value, 'v', sizeof(value));
	if (setxattr("file", "user.a", value, 3000, 0) < 0 && errno == EOPNOTSUPP)
		lacks("extended attributes");
	CHECK(getxattr("file", "user.a", found, sizeof(found) - 1) == 3000);
	CHECK(!memcmp(value, found, 3000));
	CHECK_FAILS(setxattr("file", "user.a", value, sizeof(value), 0), E2BIG);
	memset(name + 5, 'n', 251);
	CHECK_FAILS(setxattr("file", name, "x", 1, 0), ERANGE);
	name[255] = '\0';
	CHECK(!setxattr("file", name, "x", 1, 0) && getxattr("file", name, found, 9) == 1);
}

static void file_systems(void)
{
	struct statvfs st;

	CHECK(!statvfs(".", &st) && st.f_namemax == 255 && st.f_blocks >= st.f_bfree);
	CHECK(st.f_bsize >= 512 && st.f_frsize >= 512);
	CHECK(status(".").st_blksize >= 512);
}

const struct fs_case attr_cases[] = {
	{ "modes_of_what_is_made", modes_of_what_is_made },
	{ "modes_change", modes_change },
	{ "owners_of_ones_own", owners_of_ones_own },
	{ "times_are_set", times_are_set },
	{ "writes_change_times", writes_change_times },
	{ "names_change_times", names_change_times },
	{ "changes_are_dated", changes_are_dated },
	{ "extended_attributes", extended_attributes },
	{ "large_attributes", large_attributes },
	{ "file_systems", file_systems },
	{ 0 },
};

const struct fs_case root_cases[] = {
	{ "owners_change", owners_change },
	{ "permissions_hold", permissions_hold },
	{ "sticky_directories", sticky_directories },
	{ "directories_of_groups", directories_of_groups },
	{ "writes_take_set_id_bits", writes_take_set_id_bits },
	{ 0 },
};
