// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
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

int netdev_tap_open(struct netdev *netdev, const char *name, uint16_t mtu)
{
	_cleanup_close_ int fd = -1;
	struct ifreq ifr = { .ifr_flags = TAP_FLAGS };
	bool uso;
	int r;

	if (strlen(name) >= sizeof(ifr.ifr_name))
		return -ENAMETOOLONG;
	memcpy(ifr.ifr_name, name, strlen(name));
	fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (ioctl(fd, TUNSETIFF, &ifr) < 0)
		return -errno;
	r = tap_prepare(fd, &uso);
	if (r < 0)
		return r;
	/* The name that the kernel gave: "tap%d" asks for the next free one. */
	r = tap_configure(ifr, mtu);
	if (r < 0)
		return r;
	*netdev = (struct netdev){ .fd = util_steal_fd(&fd), .uso = uso };
	memcpy(netdev->name, ifr.ifr_name, sizeof(netdev->name));
	return 0;
}

int netdev_tap_adopt(struct netdev *netdev, int fd)
{
	struct ifreq ifr = { 0 };
	int flags = fcntl(fd, F_GETFL);
	bool uso;
	int r;

	if (flags < 0)
		return -errno;
	/* Fails for whatever is not a tun device, and for one that has no interface. */
	if (ioctl(fd, TUNGETIFF, &ifr) < 0 || (ifr.ifr_flags & TAP_FLAGS) != TAP_FLAGS)
		return -EBADFD;
	r = tap_prepare(fd, &uso);
	if (r < 0)
		return r;
	if (fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	*netdev = (struct netdev){ .fd = fd, .uso = uso };
	memcpy(netdev->name, ifr.ifr_name, sizeof(netdev->name));
	return 0;
}

void netdev_close(struct netdev *netdev)
{
	util_closep(&netdev->fd);
}

int netdev_set_offloads(struct netdev *netdev, uint64_t features)
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
	return ioctl(netdev->fd, TUNSETOFFLOAD, offloads) < 0 ? -errno : 0;
}

ssize_t netdev_receive(struct netdev *netdev, const struct iovec *iov, unsigned int count)
{
	ssize_t n = readv(netdev->fd, iov, (int)count);

	if (n >= 0)
		return n;
	/* EIO: the interface is being removed. */
	return errno == EIO ? -EBADFD : -errno;
}

/* Here EIO is a mere "the interface is down". */
ssize_t netdev_send(struct netdev *netdev, const struct iovec *iov, unsigned int count)
{
	ssize_t n = writev(netdev->fd, iov, (int)count);

	return n < 0 ? -errno : n;
}
