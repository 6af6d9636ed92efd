// SPDX-License-Identifier: Apache-2.0
/* What several see at once: mappings and locks. */
#include <setjmp.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include "tests/guest/fs/fstest.h"

#define PAGES 16384

static int make(const char *name, off_t size)
{
	int fd = open(name, O_RDWR | O_CREAT | O_EXCL, 0644);

	CHECK(fd >= 0 && !ftruncate(fd, size));
	return fd;
}

/* What files opened for direct I/O have not (cache=never), before Linux 6.6. */
static char *map(int fd)
{
	char *at = mmap(NULL, PAGES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (at == MAP_FAILED && errno == ENODEV)
		lacks("shared mappings");
	CHECK(at != MAP_FAILED);
	return at;
}

static void mappings_are_the_file(void)
{
	char found[8];
	int fd = make("file", PAGES), other = open("file", O_RDWR);
	char *a = map(fd), *b = map(other);

	strcpy(a, "mapped");
	CHECK(pread(other, found, 7, 0) == 7 && !strcmp(found, "mapped") && !strcmp(b, "mapped"));
	CHECK(pwrite(other, "written", 8, 4090) == 8 && !strcmp(a + 4090, "written"));
	CHECK(!strcmp(b + 4090, "written"));
	CHECK(!msync(a, PAGES, MS_SYNC) && !close(fd));
	/* It outlives the descriptor. */
	strcpy(a + 8192, "later");
	CHECK(pread(other, found, 6, 8192) == 6 && !strcmp(found, "later"));
	CHECK(!munmap(a, PAGES) && !munmap(b, PAGES) && !close(other));
	CHECK(has_text("file", "") == false && status("file").st_size == PAGES);
	fd = open("file", O_RDONLY);
	CHECK(pread(fd, found, 7, 0) == 7 && !strcmp(found, "mapped"));
}

static void private_mappings_are_not(void)
{
	int fd = make("file", PAGES);
	char *at = mmap(NULL, PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0), byte;

	CHECK(at != MAP_FAILED && pwrite(fd, "x", 1, 5) == 1 && at[5] == 'x');
	at[0] = 'p';
	CHECK(pread(fd, &byte, 1, 0) == 1 && byte == 0 && at[0] == 'p');
	CHECK(mmap(NULL, PAGES, PROT_WRITE, MAP_SHARED, open("file", O_RDONLY), 0) == MAP_FAILED);
}

static sigjmp_buf behind_the_end;

static void hit(int signal)
{
	(void)signal;
	siglongjmp(behind_the_end, 1);
}

static void mappings_end_with_the_file(void)
{
	int fd = make("file", PAGES);
	char *at = map(fd);

	signal(SIGBUS, hit);
	memset(at, 'x', PAGES);
	CHECK(!ftruncate(fd, 5));
	if (!sigsetjmp(behind_the_end, 1)) {
		at[8192] = 'y';
		CHECK(!"a byte behind the end");
	}
	CHECK(at[4] == 'x' && at[5] == 0);
	/* What was cut off is gone when the file grows again. */
	CHECK(!ftruncate(fd, PAGES) && at[8192] == 0);
	CHECK(!unlink("file"));
	at[0] = 'z';
	CHECK(!msync(at, PAGES, MS_SYNC));
}

static void write_in_mapping(void)
{
	char *at = map(open("file", O_RDWR));

	while (!*(volatile char *)at)
		usleep(1000);
	at[1] = 'b';
}

static void mappings_of_two(void)
{
	int fd = make("file", PAGES);
	char *at = map(fd);
	pid_t other = begin(write_in_mapping);

	*(volatile char *)at = 'a';
	finish(other);
	CHECK(at[1] == 'b');
}

/* ---- locks ---- */

static int lock(int fd, short type, off_t start, off_t len)
{
	struct flock range = { .l_type = type, .l_start = start, .l_len = len };

	return fcntl(fd, F_SETLK, &range);
}

static short holder(int fd, short type, off_t start, off_t len)
{
	struct flock range = { .l_type = type, .l_start = start, .l_len = len };

	CHECK(!fcntl(fd, F_GETLK, &range));
	return range.l_type;
}

static void others_see_locks(void)
{
	int fd = open("file", O_RDWR);

	CHECK_FAILS(lock(fd, F_WRLCK, 0, 10), EAGAIN);
	CHECK_FAILS(lock(fd, F_RDLCK, 5, 1), EAGAIN);
	CHECK(!lock(fd, F_WRLCK, 10, 10) && !lock(fd, F_RDLCK, 20, 5));
	CHECK_FAILS(lock(fd, F_WRLCK, 20, 5), EAGAIN);
	CHECK(holder(fd, F_WRLCK, 0, 0) == F_WRLCK && holder(fd, F_WRLCK, 50, 0) == F_UNLCK);
	CHECK(holder(fd, F_WRLCK, 22, 1) == F_RDLCK);
}

static void others_see_none(void)
{
	CHECK(!lock(open("file", O_RDWR), F_WRLCK, 0, 0));
}

static void ranges_are_locked(void)
{
	int fd = make("file", 100);

	CHECK(!lock(fd, F_WRLCK, 0, 30) && !lock(fd, F_UNLCK, 10, 10) && !lock(fd, F_RDLCK, 20, 10));
	finish(begin(others_see_locks));
	CHECK_FAILS(lock(open("file", O_RDONLY), F_WRLCK, 0, 1), EBADF);
	/* They go with whichever descriptor of the file is closed first. */
	CHECK(!close(open("file", O_RDONLY)));
	finish(begin(others_see_none));
}

static void wait_for_lock(void)
{
	struct flock range = { .l_type = F_WRLCK };
	int fd = open("file", O_RDWR);
	char byte;

	CHECK(!fcntl(fd, F_SETLKW, &range));
	CHECK(pread(fd, &byte, 1, 0) == 1 && byte == 'u');
}

static void locks_are_waited_for(void)
{
	int fd = make("file", 1);
	pid_t other;

	CHECK(!lock(fd, F_WRLCK, 0, 0));
	other = begin(wait_for_lock);
	usleep(100000);
	CHECK(pwrite(fd, "u", 1, 0) == 1 && !lock(fd, F_UNLCK, 0, 0));
	finish(other);
}

static void whole_files_are_locked(void)
{
	int a = make("file", 0), b = open("file", O_RDONLY), c = dup(a);

	CHECK(!flock(a, LOCK_EX));
	CHECK_FAILS(flock(b, LOCK_SH | LOCK_NB), EWOULDBLOCK);
	CHECK(!flock(c, LOCK_SH) && !flock(b, LOCK_SH | LOCK_NB));
	CHECK_FAILS(flock(a, LOCK_EX | LOCK_NB), EWOULDBLOCK);
	CHECK(!close(b) && !flock(a, LOCK_EX | LOCK_NB) && !close(a));
	/* The duplicate has it still. */
	b = open("file", O_RDWR);
	CHECK_FAILS(flock(b, LOCK_EX | LOCK_NB), EWOULDBLOCK);
	CHECK(!close(c) && !flock(b, LOCK_EX | LOCK_NB));
}

static void locks_of_open_files(void)
{
	struct flock range = { .l_type = F_WRLCK, .l_len = 10 };
	int a = make("file", 100), b = open("file", O_RDWR);

	CHECK(!fcntl(a, F_OFD_SETLK, &range));
	CHECK_FAILS(fcntl(b, F_OFD_SETLK, &range), EAGAIN);
	CHECK(!close(open("file", O_RDWR)));
	CHECK_FAILS(fcntl(b, F_OFD_SETLK, &range), EAGAIN);
	CHECK(!close(a) && !fcntl(b, F_OFD_SETLK, &range));
}

const struct fs_case shared_cases[] = {
	{ "mappings_are_the_file", mappings_are_the_file },
	{ "private_mappings_are_not", private_mappings_are_not },
	{ "mappings_end_with_the_file", mappings_end_with_the_file },
	{ "mappings_of_two", mappings_of_two },
	{ "ranges_are_locked", ranges_are_locked },
	{ "locks_are_waited_for", locks_are_waited_for },
	{ "whole_files_are_locked", whole_files_are_locked },
	{ "locks_of_open_files", locks_of_open_files },
	{ 0 },
};
