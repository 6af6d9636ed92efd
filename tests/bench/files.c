// SPDX-License-Identifier: Apache-2.0
/*
 *	files create|stat|unlink FOLDER COUNT: so many empty files, one after the other
 *	files read|write FILE COUNT: so many blocks at random places of the file, past the cache
 *	files map FILE COUNT: the same by a mapping, of which it looks at each block
 */
#include <err.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK 4096

static void each(const char *what, const char *folder, unsigned int count)
{
	struct stat st;
	char name[32];

	if (chdir(folder) < 0)
		err(1, "%s", folder);
	for (unsigned int i = 0; i < count; i++) {
		int r;

		snprintf(name, sizeof(name), "file-%05u", i);
		if (!strcmp(what, "create")) {
			r = open(name, O_WRONLY | O_CREAT | O_EXCL, 0644);
			if (r >= 0)
				r = close(r);
		} else {
			r = strcmp(what, "stat") ? unlink(name) : stat(name, &st);
		}
		if (r < 0)
			err(1, "%s %s", what, name);
	}
}

static off_t open_file(const char *path, int flags, int *ret_fd)
{
	struct stat st;

	*ret_fd = open(path, flags);
	if (*ret_fd < 0 || fstat(*ret_fd, &st) < 0)
		err(1, "%s", path);
	return st.st_size;
}

static off_t random_block(uint32_t *seed, off_t size)
{
	*seed = *seed * 1664525 + 1013904223;
	return (*seed >> 8) % (size / BLOCK) * BLOCK;
}

static void blocks(bool writes, const char *path, unsigned int count)
{
	static _Alignas(BLOCK) char block[BLOCK];
	uint32_t seed = 1;
	int fd;
	const off_t size = open_file(path, (writes ? O_WRONLY : O_RDONLY) | O_DIRECT, &fd);

	while (count--) {
		off_t at = random_block(&seed, size);

		if ((writes ? pwrite(fd, block, BLOCK, at) : pread(fd, block, BLOCK, at)) != BLOCK)
			err(1, "%s", path);
	}
}

static void look(const char *path, unsigned int count)
{
	static char block[BLOCK];
	uint32_t seed = 1;
	int fd;
	const off_t size = open_file(path, O_RDONLY, &fd);
	const char *map = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);

	if (map == MAP_FAILED)
		err(1, "%s", path);
	while (count--) {
		memcpy(block, map + random_block(&seed, size), BLOCK);
		/* It is wanted. */
		__asm__ volatile("" : : "r"(block) : "memory");
	}
}

int main(int argc, char **argv)
{
	unsigned int count;
	bool writes;

	if (argc != 4)
		return 1;
	count = (unsigned int)strtoul(argv[3], NULL, 10);
	writes = !strcmp(argv[1], "write");
	if (writes || !strcmp(argv[1], "read"))
		blocks(writes, argv[2], count);
	else if (!strcmp(argv[1], "map"))
		look(argv[2], count);
	else
		each(argv[1], argv[2], count);
	return 0;
}
