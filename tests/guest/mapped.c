// SPDX-License-Identifier: Apache-2.0
/*
 * mapped FILE OFFSET LENGTH: prints a part of a file, as a mapping shows it.
 * mapped FILE OFFSET LENGTH in: fills it, by a mapping, from the standard input.
 * mapped FILE OFFSET LENGTH DEVICE: has a device read it there, without a copy.
 */
#define _GNU_SOURCE /* O_DIRECT */
#include <err.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int file, to = STDOUT_FILENO, writes = argc == 5 && !strcmp(argv[4], "in");
	size_t len, done = 0;
	char *at;
	ssize_t n;

	if (argc < 4)
		errx(2, "usage: mapped FILE OFFSET LENGTH [in|DEVICE]");
	len = strtoull(argv[3], NULL, 0);
	file = open(argv[1], writes ? O_RDWR : O_RDONLY);
	if (file < 0)
		err(1, "%s", argv[1]);
	at = mmap(NULL, len, PROT_READ | (writes ? PROT_WRITE : 0), MAP_SHARED, file,
		  strtoll(argv[2], NULL, 0));
	if (at == MAP_FAILED)
		err(1, "mmap");
	if (argc == 5 && !writes)
		to = open(argv[4], O_WRONLY | O_DIRECT | O_SYNC);
	for (; done < len; done += n) {
		n = writes ? read(STDIN_FILENO, at + done, len - done) : write(to, at + done, len - done);
		if (n <= 0)
			err(1, "%zu bytes", done);
	}
	return 0;
}
