// SPDX-License-Identifier: Apache-2.0
/*
 * Operations that follow from a seed, on few names, so that they meet; with a
 * line for each that says what came of it. The same seed in two directories
 * has to say the same, and to leave equal trees.
 */
#include <err.h>
#include <linux/fs.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include "tests/guest/fs/tree.h"

#define FILES 8
#define LARGEST 200000
#define CHECKPOINT 250
#define NAME_ROOM 64

struct run {
	uint64_t next;
	int files[FILES]; /* open ones, or -1 */
	char a[NAME_ROOM], b[NAME_ROOM];
	char data[16384];
};

static uint32_t draw(struct run *run, uint32_t below)
{
	run->next = run->next * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(run->next >> 33) % below;
}

static const char *draw_path(struct run *run, char path[NAME_ROOM])
{
	unsigned int depth = 1 + draw(run, 3);
	size_t len = 0;

	for (unsigned int i = 0; i < depth; i++)
		len += (size_t)snprintf(path + len, NAME_ROOM - len, "%s%c", i ? "/" : "",
					'a' + draw(run, i + 1 < depth ? 2 : 7));
	return path;
}

/* What it holds follows from the seed, too. */
static size_t draw_data(struct run *run)
{
	size_t len = 1 + draw(run, sizeof(run->data));

	memset(run->data, (int)draw(run, 256), len);
	for (unsigned int i = 0; i < 16; i++)
		run->data[draw(run, (uint32_t)len)] = (char)draw(run, 256);
	return len;
}

/* One that is open, if there is any. */
static int draw_file(struct run *run)
{
	uint32_t first = draw(run, FILES);

	for (uint32_t i = 0; i < FILES; i++)
		if (run->files[(first + i) % FILES] >= 0)
			return run->files[(first + i) % FILES];
	return -1;
}

static void print_path(const struct run *run)
{
	printf(" %s", run->a);
}

/* ---- on names ---- */

static long do_open(struct run *run)
{
	static const int flags[] = {
		O_RDWR | O_CREAT, O_RDWR | O_CREAT | O_EXCL, O_RDWR, O_RDWR | O_CREAT | O_TRUNC,
		O_RDWR | O_APPEND | O_CREAT,
	};
	const int flag = flags[draw(run, ARRAY_SIZE(flags))];
	int *file = &run->files[draw(run, FILES)];

	if (*file >= 0)
		close(*file);
	/* Everybody may read it: the tree is looked at by whoever made it. */
	*file = open(draw_path(run, run->a), flag | O_NONBLOCK, 0444 | draw(run, 01000));
	print_path(run);
	return *file < 0 ? -1 : 0;
}

static long do_mkdir(struct run *run)
{
	long result = mkdir(draw_path(run, run->a), 0755 | draw(run, 01000));

	print_path(run);
	return result;
}

static long do_remove(struct run *run)
{
	long result;

	draw_path(run, run->a);
	result = draw(run, 3) ? unlink(run->a) : rmdir(run->a);
	print_path(run);
	return result;
}

static long do_rename(struct run *run)
{
	static const unsigned int flags[] = { 0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE };
	const unsigned int flag = flags[draw(run, ARRAY_SIZE(flags))];

	draw_path(run, run->a);
	draw_path(run, run->b);
	printf(" %s %s %u", run->a, run->b, flag);
	return syscall(SYS_renameat2, AT_FDCWD, run->a, AT_FDCWD, run->b, flag);
}

static long do_link(struct run *run)
{
	draw_path(run, run->a);
	draw_path(run, run->b);
	printf(" %s %s", run->a, run->b);
	return link(run->a, run->b);
}

static long do_symlink(struct run *run)
{
	draw_path(run, run->a);
	draw_path(run, run->b);
	printf(" %s %s", run->a, run->b);
	return symlink(run->a, run->b);
}

static long do_chmod(struct run *run)
{
	mode_t mode = 0444 | draw(run, 010000);

	draw_path(run, run->a);
	printf(" %s %o", run->a, mode);
	return chmod(run->a, mode);
}

static long do_chown(struct run *run)
{
	uid_t uid = draw(run, 3) * 1000;
	gid_t gid = draw(run, 3) * 1000;

	draw_path(run, run->a);
	printf(" %s %u %u", run->a, uid, gid);
	return lchown(run->a, uid, gid);
}

static long do_utimens(struct run *run)
{
	const struct timespec times[] = {
		{ 0, UTIME_OMIT }, { draw(run, TREE_PAST), draw(run, 1000000000) },
	};

	draw_path(run, run->a);
	print_path(run);
	return utimensat(AT_FDCWD, run->a, times, AT_SYMLINK_NOFOLLOW);
}

static long do_setxattr(struct run *run)
{
	char name[] = "user.x";
	uint32_t len = draw(run, 100);

	name[5] = (char)('x' + draw(run, 3));
	draw_path(run, run->a);
	printf(" %s %s", run->a, name);
	memset(run->data, name[5], len);
	return draw(run, 3) ? lsetxattr(run->a, name, run->data, len, 0) :
			      lremovexattr(run->a, name);
}

static long do_truncate(struct run *run)
{
	off_t size = draw(run, LARGEST);

	draw_path(run, run->a);
	printf(" %s %lld", run->a, (long long)size);
	return truncate(run->a, size);
}

static long do_stat(struct run *run)
{
	struct stat st;

	draw_path(run, run->a);
	print_path(run);
	if (stat(run->a, &st) < 0)
		return -1;
	printf(" %o %lld", st.st_mode, S_ISDIR(st.st_mode) ? 0LL : (long long)st.st_size);
	return 0;
}

/* ---- on open files ---- */

static long do_write(struct run *run)
{
	size_t len = draw_data(run);

	return pwrite(draw_file(run), run->data, len, draw(run, LARGEST));
}

static long do_read(struct run *run)
{
	ssize_t n = pread(draw_file(run), run->data, 1 + draw(run, sizeof(run->data)),
			  draw(run, LARGEST));

	if (n > 0)
		printf(" %016llx", (unsigned long long)hash_add(HASH_BEGIN, run->data, (size_t)n));
	return n;
}

static long do_ftruncate(struct run *run)
{
	return ftruncate(draw_file(run), draw(run, LARGEST));
}

static long do_fallocate(struct run *run)
{
	static const int modes[] = {
		0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE,
		FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
	};

	return fallocate(draw_file(run), modes[draw(run, ARRAY_SIZE(modes))],
			 draw(run, LARGEST), 1 + draw(run, LARGEST));
}

/* What a mapping would do where there is none: write there, whatever the flags say of the end. */
static long write_through(const struct run *run, int fd, size_t len, off_t at)
{
	int flags = fcntl(fd, F_GETFL);
	ssize_t n;

	if (fcntl(fd, F_SETFL, flags & ~O_APPEND) < 0)
		return -1;
	n = pwrite(fd, run->data, len, at);
	return fcntl(fd, F_SETFL, flags) < 0 ? -1 : n;
}

static long do_map(struct run *run)
{
	int fd = draw_file(run);
	size_t len = draw_data(run);
	uint32_t at = draw(run, LARGEST);
	struct stat st;
	char *map;

	if (fstat(fd, &st) < 0)
		return -1;
	if (st.st_size < (off_t)(at + len))
		return 0;
	map = mmap(NULL, at + len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return write_through(run, fd, len, at);
	memcpy(map + at, run->data, len);
	return msync(map, at + len, MS_SYNC) < 0 || munmap(map, at + len) < 0 ? -1 : (long)len;
}

static long do_copy(struct run *run)
{
	loff_t from = draw(run, LARGEST), to = draw(run, LARGEST);
	int source = draw_file(run), destination = draw_file(run);

	return copy_file_range(source, &from, destination, &to, draw(run, LARGEST), 0);
}

static long do_fstat(struct run *run)
{
	struct stat st;

	if (fstat(draw_file(run), &st) < 0)
		return -1;
	printf(" %o %lu %lld", st.st_mode, (unsigned long)st.st_nlink, (long long)st.st_size);
	return 0;
}

/* ---- the run ---- */

static const struct {
	const char *name;
	long (*run)(struct run *run);
	unsigned int weight;
} operations[] = {
	{ "open", do_open, 14 },     { "mkdir", do_mkdir, 8 },       { "remove", do_remove, 6 },
	{ "rename", do_rename, 8 },  { "link", do_link, 4 },         { "symlink", do_symlink, 3 },
	{ "chmod", do_chmod, 4 },    { "chown", do_chown, 3 },       { "utimens", do_utimens, 6 },
	{ "xattr", do_setxattr, 4 }, { "truncate", do_truncate, 4 }, { "stat", do_stat, 6 },
	{ "write", do_write, 14 },   { "read", do_read, 8 },         { "ftruncate", do_ftruncate, 3 },
	{ "map", do_map, 6 },        { "fallocate", do_fallocate, 4 }, { "copy", do_copy, 4 },
	{ "fstat", do_fstat, 4 },
};

static void do_one(struct run *run, unsigned int number)
{
	unsigned int total = 0, at, i;
	long result;

	for (i = 0; i < ARRAY_SIZE(operations); i++)
		total += operations[i].weight;
	at = draw(run, total);
	for (i = 0; at >= operations[i].weight; i++)
		at -= operations[i].weight;
	printf("%u %s", number, operations[i].name);
	result = operations[i].run(run);
	printf(": %ld %s\n", result, result < 0 ? strerrorname_np(errno) : "");
}

static void print_checkpoint(void)
{
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		err(1, "memory");
	tree_print(out, ".");
	fclose(out);
	printf("tree %016llx\n", (unsigned long long)hash_add(HASH_BEGIN, text, len));
	free(text);
}

int random_main(int argc, char *const *argv)
{
	struct run run = { 0 };
	unsigned int count;

	if (argc != 3 || chdir(argv[0]) < 0)
		err(1, "DIR SEED COUNT");
	run.next = strtoull(argv[1], NULL, 10);
	count = (unsigned int)atoi(argv[2]);
	memset(run.files, 0xff, sizeof(run.files));
	umask(0);
	for (unsigned int i = 1; i <= count; i++) {
		do_one(&run, i);
		if (i % CHECKPOINT == 0 || i == count)
			print_checkpoint();
	}
	return 0;
}
