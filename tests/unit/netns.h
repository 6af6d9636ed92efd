/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of network interfaces: each in a child with a network namespace of its
 * own, with nothing on it but what the test sends.
 */
#ifndef TESTS_UNIT_NETNS_H
#define TESTS_UNIT_NETNS_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include "tests/lib/child.h"

#define NETNS_PROTOCOL 0x88b5 /* IEEE 802: for local experiments */

static inline int netns_enter(void *arg)
{
	int (**fn)(void) = arg;
	int fd;

	if (unshare(CLONE_NEWNET) < 0)
		return child_lacks("network namespaces for this user");
	if (access("/dev/net/tun", R_OK | W_OK) < 0)
		return child_lacks("/dev/net/tun for this user");
	/* Or the kernel says hello on each new interface. */
	fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (write(fd, "1", 1) != 1)
			return child_lacks("settings of network interfaces for this user");
		close(fd);
	}
	return (*fn)();
}

/* Runs fn, whose result is 0, in a new namespace; skips the test where that is not permitted. */
static inline void netns_run(int (*fn)(void))
{
	child_succeeds(geteuid(), netns_enter, &fn);
}

/* A socket for whole frames of NETNS_PROTOCOL on the interface: it sends what a tap reads. */
static inline int netns_socket(const char *name)
{
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(NETNS_PROTOCOL),
		.sll_ifindex = (int)if_nametoindex(name),
	};

	CHILD_CHECK(fd >= 0);
	CHILD_CHECK(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	return fd;
}

/* A broadcast frame of len bytes whose contents depend on seed. */
static inline void netns_frame(uint8_t *frame, size_t len, uint8_t seed)
{
	struct ethhdr header = { .h_source = { 2, 0, 0, 0, 0, 1 }, .h_proto = htons(NETNS_PROTOCOL) };

	memset(header.h_dest, 0xff, sizeof(header.h_dest));
	for (size_t i = 0; i < len; i++)
		frame[i] = (uint8_t)(seed + i * 7);
	memcpy(frame, &header, sizeof(header));
}

/* Receives a frame within seconds, or fails. */
static inline size_t netns_receive(int fd, void *buffer, size_t len)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };
	ssize_t n;

	CHILD_CHECK(poll(&pollfd, 1, 10000) == 1);
	n = recv(fd, buffer, len, 0);
	CHILD_CHECK(n > 0);
	return (size_t)n;
}

static inline struct ifreq netns_ifreq(const char *name, unsigned long request)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = { 0 };

	strncpy(ifr.ifr_name, name, sizeof(ifr.ifr_name) - 1);
	CHILD_CHECK(ioctl(fd, request, &ifr) == 0);
	close(fd);
	return ifr;
}

static inline void netns_set_up(const char *name, bool up)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = netns_ifreq(name, SIOCGIFFLAGS);

	ifr.ifr_flags = (short)(up ? ifr.ifr_flags | IFF_UP : ifr.ifr_flags & ~IFF_UP);
	CHILD_CHECK(ioctl(fd, SIOCSIFFLAGS, &ifr) == 0);
	close(fd);
}

/* As "ip link del NAME". */
static inline void netns_delete(const char *name)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	struct {
		struct nlmsghdr header;
		struct ifinfomsg info;
	} message = {
		.header = {
			.nlmsg_len = sizeof(message),
			.nlmsg_type = RTM_DELLINK,
			.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK,
		},
		.info.ifi_index = (int)if_nametoindex(name),
	};
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
	} answer;

	CHILD_CHECK(send(fd, &message, sizeof(message), 0) == sizeof(message));
	CHILD_CHECK(recv(fd, &answer, sizeof(answer), 0) >= (ssize_t)sizeof(answer.header));
	CHILD_CHECK(answer.error.error == 0);
	close(fd);
}

#endif
