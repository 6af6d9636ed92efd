// SPDX-License-Identifier: Apache-2.0
/* outb PORT BYTE: for guests whose kernel has no /dev/port. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/io.h>

int main(int argc, char **argv)
{
	if (argc != 3 || iopl(3) < 0) {
		perror("outb");
		return 1;
	}
	outb((unsigned char)strtoul(argv[2], NULL, 0), (unsigned short)strtoul(argv[1], NULL, 0));
	return 0;
}
