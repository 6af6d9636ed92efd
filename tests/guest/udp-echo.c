// SPDX-License-Identifier: Apache-2.0
/* udp-echo PORT: sends each datagram back to where it came from. */
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	/* For IPv4, too, as the kernel has it unless told otherwise. */
	struct sockaddr_in6 address = { .sin6_family = AF_INET6 }, from;
	int fd = socket(AF_INET6, SOCK_DGRAM, 0);
	static char data[65536];

	if (argc != 2)
		return 2;
	address.sin6_port = htons((in_port_t)atoi(argv[1]));
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return 1;
	for (;;) {
		socklen_t len = sizeof(from);
		ssize_t n = recvfrom(fd, data, sizeof(data), 0, (struct sockaddr *)&from, &len);

		if (n < 0 || sendto(fd, data, (size_t)n, 0, (struct sockaddr *)&from, len) < 0)
			return 1;
	}
}
