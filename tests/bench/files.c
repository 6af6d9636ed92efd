// SPDX-License-Identifier: Apache-2.0
/*
 *	files create|stat|unlink FOLDER COUNT: so many empty files, one after the other
 *	files read|write FILE COUNT: so many blocks at random places of the file, past the cache
 */
#include <err.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

static void blocks(bool writes, const char *path, unsigned int count)
{
	static _Alignas(BLOCK) char block[BLOCK];
	int fd = open(path, (writes ? O_WRONLY : O_RDONLY) | O_DIRECT);
	struct stat st;
	uint32_t seed = 1;

	if (fd < 0 || fstat(fd, &st) < 0)
		err(1, "%s", path);
	while (count--) {
		off_t at;

		seed = seed * 1664525 + 1013904223;
		at = (seed >> 8) % (st.st_size / BLOCK) * BLOCK;
		if ((writes ? pwrite(fd, block, BLOCK, at) : pread(fd, block, BLOCK, at)) != BLOCK)
			err(1, "%s", path);
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
	else
		each(argv[1], argv[2], count);
	return 0;
}
