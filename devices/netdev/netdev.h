/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a net device's packets go: a tap of the host, passt, or back (loop). A
 * struct netdev is the host's end of one pair of queues. Each packet carries a
 * struct virtio_net_hdr_v1 in front, so checksum and segmentation offloads pass
 * through a tap untouched.
 *
 * An interface with several pairs is an array of them. What concerns the whole
 * of it is done through the first, which is always in use.
 */
#ifndef DEVICES_NETDEV_NETDEV_H
#define DEVICES_NETDEV_NETDEV_H

#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#define NETDEV_NAME_MAX 16
#define NETDEV_MACS_MAX 64
#define NETDEV_VLANS 4096

struct netdev_ops;
struct netdev_stream;

struct netdev {
	const struct netdev_ops *ops;
	int fd; /* non-blocking; readable when a packet is there */
	char name[NETDEV_NAME_MAX]; /* of the host's interface */
	uint8_t mac[ETH_ALEN]; /* the only one for which packets come; zeroes: any */
	bool plain; /* whoever is there wants whole packets: no offloads */
	bool uso; /* the host can segment UDP */
	bool is_tap; /* the kernel's, which can move packets to it by itself */
	bool detached; /* not in use: no packet comes */
	bool filtered; /* the kernel has a filter */
	bool backlog; /* a part of a packet waits to be sent, and others until netdev_flush() has done it */
	bool returns; /* when it has ended: another comes, see netdev_ask() */
	int door; /* where it comes */
	struct netdev_stream *stream;
};

/* Of struct netdev_filter, beside one bit for each command of class VIRTIO_NET_CTRL_RX. */
#define NETDEV_RX_MODES 0x3f
#define NETDEV_MACS_ALL 0x40   /* the driver's table did not fit: all of them pass */
#define NETDEV_VLANS_SOME 0x80 /* only those in vlans pass */

/* Which packets the guest wants; part of a saved state. */
struct netdev_filter {
	uint8_t modes;
	uint8_t mac_count;
	uint8_t mac[ETH_ALEN]; /* the guest's own */
	uint8_t macs[NETDEV_MACS_MAX][ETH_ALEN]; /* others: unicast and multicast */
	uint8_t vlans[NETDEV_VLANS / 8];
};

struct netdev_ops {
	ssize_t (*receive)(struct netdev *netdev, const struct iovec *iov, unsigned int count);
	ssize_t (*send)(struct netdev *netdev, const struct iovec *iov, unsigned int count);
	/* NULL: a packet is sent and received whole. */
	void (*flush)(struct netdev *netdev);
	void (*abandon)(struct netdev *netdev);
	/* NULL: whatever the guest sends comes back, whatever it asks for. */
	int (*set_offloads)(struct netdev *first, uint64_t features);
	int (*set_pairs)(struct netdev *first, unsigned int count, unsigned int active);
	void (*set_filter)(struct netdev *first, const struct netdev_filter *filter);
};

/*
 * Opens the tap called name, which is made when it does not exist and the
 * caller may, brings it up and sets its MTU when mtu is not 0: both only where
 * they differ, so that an ordinary user can have one that was set up before.
 * Several pairs are as many queues of a tap that was made with multi_queue.
 * -EBUSY: another process has it; -EPERM: CAP_NET_ADMIN or an owned tap is
 * needed; -EINVAL: it is no tap, or has one queue where several are asked for,
 * or the other way round; -ENAMETOOLONG.
 */
int netdev_tap_open(struct netdev *first, unsigned int count, const char *name, uint16_t mtu);
/* The same for a tap or macvtap that was inherited. -EBADFD when fd is none with a virtio header. */
int netdev_tap_adopt(struct netdev *netdev, int fd);
/* Makes a tap a port of the bridge, where it is not. -ENXIO: that is none; -EXDEV: it is in another. */
int netdev_tap_join(const struct netdev *first, const char *bridge);
/* An interface with nobody else on it: what is sent comes back. -errno of socket(). */
int netdev_loop_open(struct netdev *netdev);
/* The peer at the other end of a stream socket, which belongs to the netdev afterwards. -ENOMEM. */
int netdev_stream_open(struct netdev *netdev, const char *name, int fd);
/*
 * The host's network by passt, started with these ports forwarded to the guest
 * ("tcp:[ADDRESS]:PORT-:PORT,..."; NULL: none) and, where it is not 0, this MTU
 * for it. -EBADMSG: forwards is no such list; -E2BIG; -EADDRINUSE and
 * -EADDRNOTAVAIL: of the host's ports; -ENOPKG: there is no passt;
 * -ENETUNREACH: it gave up.
 */
int netdev_passt_start(struct netdev *netdev, const char *forwards, uint16_t mtu);
/* The same by one that listens at path. -ECONNREFUSED, -ENAMETOOLONG. */
int netdev_passt_join(struct netdev *netdev, const char *path);
/* One that returns has ended: asks for another, which is there when the door is readable. */
void netdev_ask(struct netdev *netdev);
/* Puts it in the place, and under the number, of the last one. -EAGAIN: not yet; -errno. */
int netdev_reopen(struct netdev *netdev);
/* Accepts one whose fd is -1. */
void netdev_close(struct netdev *netdev);

/* Segmentation of UDP: section 5.1.3; Linux names them from 6.2 on. */
#ifndef VIRTIO_NET_F_GUEST_USO4
#define VIRTIO_NET_F_GUEST_USO4 54
#define VIRTIO_NET_F_GUEST_USO6 55
#define VIRTIO_NET_F_HOST_USO 56
#endif

/* The next three make system calls that a device's filter has to allow, by their exact arguments. */

/* Tells the host what the guest agreed to receive (features: VIRTIO_NET_F_GUEST_* bits). */
static inline int netdev_set_offloads(struct netdev *first, uint64_t features)
{
	return first->ops->set_offloads ? first->ops->set_offloads(first, features) : 0;
}

/*
 * Packets come by the first active ones of count pairs from now on; the others
 * have none waiting. The filter is gone then: set it again.
 */
static inline int netdev_set_pairs(struct netdev *first, unsigned int count, unsigned int active)
{
	return first->ops->set_pairs ? first->ops->set_pairs(first, count, active) : 0;
}

/* Best effort, as section 5.1.6.5 has it: every packet passes that the host cannot sort out. */
static inline void netdev_set_filter(struct netdev *first, const struct netdev_filter *filter)
{
	if (first->ops->set_filter)
		first->ops->set_filter(first, filter);
}

/*
 * One packet with its header. -EAGAIN when there is none, or no room; -EBADFD
 * when the interface is gone for good; -EMSGSIZE for one that is too long, and
 * lost; -errno. What was received of a packet so far is in the first bytes of
 * iov, which have to be the same the next time, or be abandoned.
 */
static inline ssize_t netdev_receive(struct netdev *netdev, const struct iovec *iov,
				     unsigned int count)
{
	return netdev->ops->receive(netdev, iov, count);
}

static inline ssize_t netdev_send(struct netdev *netdev, const struct iovec *iov,
				  unsigned int count)
{
	return netdev->ops->send(netdev, iov, count);
}

/* Sends more of the packet that was sent in part; while netdev->backlog, when the fd is writable. */
static inline void netdev_flush(struct netdev *netdev)
{
	netdev->ops->flush(netdev);
}

/* The buffers for receive are no longer the same: what is in them is lost. */
static inline void netdev_abandon(struct netdev *netdev)
{
	if (netdev->ops->abandon)
		netdev->ops->abandon(netdev);
}

/* For the kernel: the filter as a program of so many instructions at the most. */
#define NETDEV_PROGRAM_MAX 512
/* Returns how many there are; 0: every packet passes. */
unsigned int netdev_filter_compile(const struct netdev_filter *filter,
				   struct sock_filter instructions[NETDEV_PROGRAM_MAX]);

#endif
