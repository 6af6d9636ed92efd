// SPDX-License-Identifier: Apache-2.0
/* zeroout DEVICE OFFSET LENGTH: has a part of a block device zeroed, without its space being given back. */
#include <err.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>

int main(int argc, char **argv)
{
	uint64_t range[2];
	int fd;

	if (argc != 4)
		errx(2, "usage: zeroout DEVICE OFFSET LENGTH");
	range[0] = strtoull(argv[2], NULL, 0);
	range[1] = strtoull(argv[3], NULL, 0);
	fd = open(argv[1], O_RDWR);
	if (fd < 0 || ioctl(fd, BLKZEROOUT, range) < 0)
		err(1, "%s", argv[1]);
	return 0;
}
