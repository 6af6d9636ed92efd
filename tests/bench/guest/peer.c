// SPDX-License-Identifier: Apache-2.0
/* peer TAP: sends frames of data to the guest behind the tap, as many as it asks for (frame.h). */
#include "frame.h"

#include <arpa/inet.h>
#include <err.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FRAME_MAX 2048
#define TYPE_AT 12

static int open_tap(const char *name)
{
	const struct sockaddr_ll tap = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(TYPE_ASK),
		.sll_ifindex = (int)if_nametoindex(name),
	};
	int fd = socket(AF_PACKET, SOCK_RAW, 0), on = 1;

	if (fd < 0 || bind(fd, (const struct sockaddr *)&tap, sizeof(tap)) < 0 ||
	    setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof(on)) < 0)
		err(1, "%s", name);
	return fd;
}

int main(int argc, char **argv)
{
	static unsigned char frame[FRAME_MAX];
	struct mmsghdr messages[ASK_AT_ONCE];
	struct iovec iov = { .iov_base = frame };
	ssize_t len;
	int fd;

	if (argc != 2)
		errx(1, "usage: peer TAP");
	fd = open_tap(argv[1]);
	for (int i = 0; i < ASK_AT_ONCE; i++)
		messages[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = &iov, .msg_iovlen = 1 } };
	while ((len = read(fd, frame, sizeof(frame))) > 0) {
		frame[TYPE_AT] = TYPE_DATA >> 8;
		frame[TYPE_AT + 1] = TYPE_DATA & 0xff;
		iov.iov_len = (size_t)len;
		for (int sent = 0, n; sent < ASK_AT_ONCE; sent += n) {
			n = sendmmsg(fd, messages + sent, (unsigned int)(ASK_AT_ONCE - sent), 0);
			if (n < 0)
				err(1, "sendmmsg");
		}
	}
	err(1, "read");
}
