// SPDX-License-Identifier: Apache-2.0
/* What is below a directory, a line for each name in their order: all that has to be equal in two trees. */
#include <dirent.h>
#include <err.h>
#include <limits.h>
#include <sys/xattr.h>
#include "tests/guest/fs/tree.h"

uint64_t hash_add(uint64_t hash, const void *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		hash = (hash ^ ((const uint8_t *)data)[i]) * 0x100000001b3;
	return hash;
}

static uint64_t content_hash(const char *path)
{
	uint64_t hash = HASH_BEGIN;
	char buffer[16384];
	int fd = open(path, O_RDONLY);
	ssize_t n;

	if (fd < 0)
		return (uint64_t)errno;
	while ((n = read(fd, buffer, sizeof(buffer))) > 0)
		hash = hash_add(hash, buffer, (size_t)n);
	close(fd);
	return n < 0 ? (uint64_t)errno : hash;
}

/* The sum, as they come in any order. */
static uint64_t attributes_hash(const char *path)
{
	char list[1024], value[1024];
	ssize_t len = listxattr(path, list, sizeof(list));
	uint64_t sum = 0;

	for (const char *name = list; len > 0 && name < list + len; name += strlen(name) + 1) {
		ssize_t n = getxattr(path, name, value, sizeof(value));

		if (n >= 0)
			sum += hash_add(hash_add(HASH_BEGIN, name, strlen(name)), value, (size_t)n);
	}
	return sum;
}

static void print_entry(FILE *out, const char *path, const struct stat *st)
{
	char target[PATH_MAX] = "";

	fprintf(out, "%s %o %u:%u", path, st->st_mode, st->st_uid, st->st_gid);
	if (st->st_mtim.tv_sec < TREE_PAST)
		fprintf(out, " %lld.%09ld", (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
	if (!S_ISDIR(st->st_mode))
		fprintf(out, " %lu %lld", (unsigned long)st->st_nlink, (long long)st->st_size);
	if (S_ISREG(st->st_mode))
		fprintf(out, " %016llx", (unsigned long long)content_hash(path));
	if (S_ISLNK(st->st_mode) && readlink(path, target, sizeof(target) - 1) > 0)
		fprintf(out, " -> %s", target);
	else if (S_ISREG(st->st_mode) || S_ISDIR(st->st_mode))
		fprintf(out, " %016llx", (unsigned long long)attributes_hash(path));
	fputc('\n', out);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int no_dots(const struct dirent *entry)
{
	return strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
}

void tree_print(FILE *out, const char *dir)
{
	struct dirent **entries;
	int count = scandir(dir, &entries, no_dots, by_name);
	char path[PATH_MAX];
	struct stat st;

	if (count < 0) {
		fprintf(out, "%s: %s\n", dir, strerrorname_np(errno));
		return;
	}
	for (int i = 0; i < count; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, entries[i]->d_name);
		free(entries[i]);
		if (lstat(path, &st) < 0) {
			fprintf(out, "%s: %s\n", path, strerrorname_np(errno));
			continue;
		}
		print_entry(out, path, &st);
		if (S_ISDIR(st.st_mode))
			tree_print(out, path);
	}
	free(entries);
}

int tree_main(int argc, char *const *argv)
{
	if (argc != 1 || chdir(argv[0]) < 0)
		err(1, "DIR");
	tree_print(stdout, ".");
	return 0;
}
