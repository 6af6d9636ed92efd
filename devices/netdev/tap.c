// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/major.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include "core/util.h"
#include "devices/netdev/netdev.h"

/* From Linux 6.2 on. */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

#define TAP_FLAGS (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)

static_assert(NETDEV_NAME_MAX == IFNAMSIZ, "an interface's name fits");

/* Brings the interface up, where it is not. */
static int tap_up(int sock, struct ifreq ifr)
{
	if (ioctl(sock, SIOCGIFFLAGS, &ifr) < 0)
		return -errno;
	if (ifr.ifr_flags & IFF_UP)
		return 0;
	ifr.ifr_flags |= IFF_UP;
	return ioctl(sock, SIOCSIFFLAGS, &ifr) < 0 ? -errno : 0;
}

static int tap_set_mtu(int sock, struct ifreq ifr, uint16_t mtu)
{
	if (ioctl(sock, SIOCGIFMTU, &ifr) < 0)
		return -errno;
	if (mtu == 0 || ifr.ifr_mtu == mtu)
		return 0;
	ifr.ifr_mtu = mtu;
	return ioctl(sock, SIOCSIFMTU, &ifr) < 0 ? -errno : 0;
}

/* The interface that ifr names. */
static int tap_configure(struct ifreq ifr, uint16_t mtu)
{
	_cleanup_close_ int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int r;

	if (sock < 0)
		return -errno;
	r = tap_set_mtu(sock, ifr, mtu);
	return r < 0 ? r : tap_up(sock, ifr);
}

/* Agrees on the header's length, and finds out what the host can do. */
static int tap_prepare(int fd, bool *ret_uso)
{
	int len = sizeof(struct virtio_net_hdr_v1);

	if (ioctl(fd, TUNSETVNETHDRSZ, &len) < 0)
		return -errno;
	*ret_uso = ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_USO4 | TUN_F_USO6) == 0;
	return ioctl(fd, TUNSETOFFLOAD, 0) < 0 ? -errno : 0;
}

/*
 * A buffer alone spares the kernel the import of an array, and a call that is no cancellation point
 * two atomic operations: together a sixth of what a small packet takes.
 */
static ssize_t tap_move(int fd, long one, long many, const struct iovec *iov, unsigned int count)
{
	return count == 1 ? syscall(one, fd, iov->iov_base, iov->iov_len) :
			    syscall(many, fd, iov, count);
}

static ssize_t tap_receive(struct netdev *netdev, const struct iovec *iov, unsigned int count)
{
	ssize_t n = tap_move(netdev->fd, SYS_read, SYS_readv, iov, count);

	if (n >= 0)
		return n;
	/* EIO: the interface is being removed. */
	return errno == EIO ? -EBADFD : -errno;
}

/* Here EIO is a mere "the interface is down". */
static ssize_t tap_send(struct netdev *netdev, const struct iovec *iov, unsigned int count)
{
	ssize_t n = tap_move(netdev->fd, SYS_write, SYS_writev, iov, count);

	return n < 0 ? -errno : n;
}

static int tap_set_offloads(struct netdev *first, uint64_t features)
{
	static const struct {
		unsigned int feature;
		unsigned int offload;
	} table[] = {
		{ VIRTIO_NET_F_GUEST_CSUM, TUN_F_CSUM },
		{ VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4 },
		{ VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6 },
		{ VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN },
		{ VIRTIO_NET_F_GUEST_USO4, TUN_F_USO4 },
		{ VIRTIO_NET_F_GUEST_USO6, TUN_F_USO6 },
	};
	const unsigned int uso = TUN_F_USO4 | TUN_F_USO6;
	unsigned int offloads = 0;

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (features >> table[i].feature & 1)
			offloads |= table[i].offload;
	/* Linux takes these two only together, and nothing without checksums (5.1.3.1). */
	if ((offloads & uso) != uso)
		offloads &= ~uso;
	if (!(offloads & TUN_F_CSUM))
		offloads = 0;
	return ioctl(first->fd, TUNSETOFFLOAD, offloads) < 0 ? -errno : 0;
}

static void tap_clear_filter(struct netdev *first)
{
	const struct sock_fprog none = { 0 };

	/* It fails when the interface is gone, and then nothing comes any more. */
	ioctl(first->fd, TUNDETACHFILTER, &none);
	first->filtered = false;
}

static int tap_use(struct netdev *netdev, bool use)
{
	struct ifreq ifr = { .ifr_flags = use ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE };

	if (netdev->detached == !use)
		return 0;
	if (ioctl(netdev->fd, TUNSETQUEUE, &ifr) < 0)
		return -errno;
	netdev->detached = !use;
	return 0;
}

static int tap_set_pairs(struct netdev *first, unsigned int count, unsigned int active)
{
	int r = 0;

	if (count == 1)
		return 0;
	/* Or the kernel reads it for each queue from where it lay once, be it in a process that was killed. */
	tap_clear_filter(first);
	/* From the end, and back, so that the kernel's numbers stay ours. */
	for (unsigned int i = count; !r && i-- > active;)
		r = tap_use(&first[i], false);
	for (unsigned int i = 0; !r && i < active; i++)
		r = tap_use(&first[i], true);
	return r;
}

static void tap_set_filter(struct netdev *first, const struct netdev_filter *filter)
{
	struct sock_filter instructions[NETDEV_PROGRAM_MAX];
	struct sock_fprog program = {
		.len = (unsigned short)netdev_filter_compile(filter, instructions),
		.filter = instructions,
	};

	if (program.len && ioctl(first->fd, TUNATTACHFILTER, &program) == 0)
		first->filtered = true;
	else if (first->filtered)
		tap_clear_filter(first);
}

static const struct netdev_ops tap_ops = {
	.receive = tap_receive,
	.send = tap_send,
	.set_offloads = tap_set_offloads,
	.set_pairs = tap_set_pairs,
	.set_filter = tap_set_filter,
};

/* A queue of the interface that ifr names; the kernel completes the name ("tap%d" is the next free one). */
static int tap_open_queue(struct netdev *netdev, struct ifreq *ifr)
{
	_cleanup_close_ int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	bool uso;
	int r;

	if (fd < 0)
		return -errno;
	if (ioctl(fd, TUNSETIFF, ifr) < 0)
		return -errno;
	r = tap_prepare(fd, &uso);
	if (r < 0)
		return r;
	*netdev = (struct netdev){ .ops = &tap_ops, .fd = util_steal_fd(&fd), .uso = uso, .is_tap = true };
	memcpy(netdev->name, ifr->ifr_name, sizeof(netdev->name));
	return 0;
}

int netdev_tap_open(struct netdev *first, unsigned int count, const char *name, uint16_t mtu)
{
	const short flags = (short)(TAP_FLAGS | (count > 1 ? IFF_MULTI_QUEUE : 0));
	struct ifreq ifr = { 0 };
	unsigned int opened = 0;
	int r = 0;

	if (strlen(name) >= sizeof(ifr.ifr_name))
		return -ENAMETOOLONG;
	memcpy(ifr.ifr_name, name, strlen(name));
	while (!r && opened < count) {
		ifr.ifr_flags = flags;
		r = tap_open_queue(&first[opened], &ifr);
		opened += !r;
	}
	if (!r)
		r = tap_configure(ifr, mtu);
	while (r && opened)
		netdev_close(&first[--opened]);
	return r;
}

int netdev_tap_join(const struct netdev *first, const char *bridge)
{
	_cleanup_close_ int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = { .ifr_ifindex = (int)if_nametoindex(first->name) };
	char port[64];

	if (sock < 0)
		return -errno;
	if (strlen(bridge) >= sizeof(ifr.ifr_name))
		return -ENAMETOOLONG;
	memcpy(ifr.ifr_name, bridge, strlen(bridge));
	snprintf(port, sizeof(port), "/sys/class/net/%s/brif/%s", bridge, first->name);
	if (access(port, F_OK) == 0 || ioctl(sock, SIOCBRADDIF, &ifr) == 0)
		return 0;
	if (errno == EBUSY)
		return -EXDEV;
	return errno == ENODEV || errno == EOPNOTSUPP ? -ENXIO : -errno;
}

/* A macvtap, which is no misc device as /dev/net/tun is, gets what is sent to its own address. */
static int tap_own_address(int fd, uint8_t mac[ETH_ALEN])
{
	struct ifreq ifr = { 0 };
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (major(st.st_rdev) == MISC_MAJOR)
		return 0;
	if (ioctl(fd, SIOCGIFHWADDR, &ifr) < 0)
		return -errno;
	memcpy(mac, ifr.ifr_hwaddr.sa_data, ETH_ALEN);
	return 0;
}

int netdev_tap_adopt(struct netdev *netdev, int fd)
{
	struct ifreq ifr = { 0 };
	int flags = fcntl(fd, F_GETFL);
	uint8_t mac[ETH_ALEN] = { 0 };
	bool uso;
	int r;

	if (flags < 0)
		return -errno;
	/* Fails for whatever is not a tun device, and for one that has no interface. */
	if (ioctl(fd, TUNGETIFF, &ifr) < 0 || (ifr.ifr_flags & TAP_FLAGS) != TAP_FLAGS)
		return -EBADFD;
	r = tap_prepare(fd, &uso);
	if (!r)
		r = tap_own_address(fd, mac);
	if (r < 0)
		return r;
	if (fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	*netdev = (struct netdev){ .ops = &tap_ops, .fd = fd, .uso = uso, .is_tap = true };
	memcpy(netdev->name, ifr.ifr_name, sizeof(netdev->name));
	memcpy(netdev->mac, mac, sizeof(netdev->mac));
	return 0;
}

void netdev_close(struct netdev *netdev)
{
	util_closep(&netdev->fd);
	if (netdev->returns)
		util_closep(&netdev->door);
	free(netdev->stream);
	netdev->stream = NULL;
}
