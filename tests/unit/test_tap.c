// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <linux/capability.h>
#include <linux/if_tun.h>
#include <sys/syscall.h>
#include "devices/netdev/netdev.h"
#include "tests/unit/netns.h"

/* Someone else's interface, with other flags than ours. */
static int make_tun(const char *name, int flags)
{
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	struct ifreq ifr = { .ifr_flags = (short)flags };

	strncpy(ifr.ifr_name, name, sizeof(ifr.ifr_name) - 1);
	CHILD_CHECK(fd >= 0 && ioctl(fd, TUNSETIFF, &ifr) == 0);
	return fd;
}

static int open_child(void)
{
	struct netdev tap = { .fd = -1 }, other = { .fd = -1 };

	CHILD_CHECK(netdev_tap_open(&tap, 1, "tap7", 9000) == 0);
	CHILD_CHECK(!strcmp(tap.name, "tap7"));
	CHILD_CHECK(netns_ifreq("tap7", SIOCGIFFLAGS).ifr_flags & IFF_UP);
	CHILD_CHECK(netns_ifreq("tap7", SIOCGIFMTU).ifr_mtu == 9000);
	CHILD_CHECK(fcntl(tap.fd, F_GETFL) & O_NONBLOCK);
	CHILD_CHECK(fcntl(tap.fd, F_GETFD) & FD_CLOEXEC);
	CHILD_CHECK(netdev_tap_open(&other, 1, "tap7", 0) == -EBUSY);
	CHILD_CHECK(netdev_tap_open(&other, 1, "a-name-of-16-chr", 0) == -ENAMETOOLONG);
	CHILD_CHECK(other.fd == -1);
	CHILD_CHECK(netdev_tap_open(&other, 1, "vm%d", 0) == 0);
	CHILD_CHECK(!strcmp(other.name, "vm0"));
	netdev_close(&other);
	netdev_close(&tap);
	CHILD_CHECK(tap.fd == -1);
	netdev_close(&tap);
	CHILD_CHECK(if_nametoindex("tap7") == 0);
	return 0;
}

static int wrong_kind_child(void)
{
	struct netdev tap = { .fd = -1 };
	int fd = make_tun("tun0", IFF_TUN | IFF_NO_PI);

	CHILD_CHECK(ioctl(fd, TUNSETPERSIST, 1) == 0);
	close(fd);
	CHILD_CHECK(netdev_tap_open(&tap, 1, "tun0", 0) == -EINVAL);
	CHILD_CHECK(tap.fd == -1);
	return 0;
}

/* An interface that was set up before needs no privilege but to own it. */
static int owned_child(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { 0 };
	struct netdev tap = { .fd = -1 };
	int fd = make_tun("owned", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);

	CHILD_CHECK(ioctl(fd, TUNSETOWNER, geteuid()) == 0);
	CHILD_CHECK(ioctl(fd, TUNSETPERSIST, 1) == 0);
	close(fd);
	netns_set_up("owned", true);
	CHILD_CHECK(syscall(SYS_capset, &header, none) == 0);

	CHILD_CHECK(netdev_tap_open(&tap, 1, "owned", 1500) == 0);
	netdev_close(&tap);
	CHILD_CHECK(netdev_tap_open(&tap, 1, "owned", 1400) == -EPERM);
	CHILD_CHECK(netdev_tap_open(&tap, 1, "another", 0) == -EPERM);
	CHILD_CHECK(tap.fd == -1);
	return 0;
}

static int adopt_child(void)
{
	struct netdev tap = { .fd = -1 };
	int plain = make_tun("plain", IFF_TAP | IFF_NO_PI);
	int good = make_tun("good", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	int detached = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	int file = open("/dev/null", O_RDWR | O_CLOEXEC);
	int len = 0;

	CHILD_CHECK(netdev_tap_adopt(&tap, plain) == -EBADFD);
	CHILD_CHECK(netdev_tap_adopt(&tap, detached) == -EBADFD);
	CHILD_CHECK(netdev_tap_adopt(&tap, file) == -EBADFD);
	CHILD_CHECK(netdev_tap_adopt(&tap, 999) == -EBADF);
	CHILD_CHECK(tap.fd == -1);

	CHILD_CHECK(netdev_tap_adopt(&tap, good) == 0);
	CHILD_CHECK(tap.fd == good && !strcmp(tap.name, "good"));
	CHILD_CHECK(fcntl(good, F_GETFL) & O_NONBLOCK);
	CHILD_CHECK(ioctl(good, TUNGETVNETHDRSZ, &len) == 0 &&
		    len == sizeof(struct virtio_net_hdr_v1));
	netdev_close(&tap);
	return 0;
}

static int packets_child(void)
{
	struct netdev tap = { .fd = -1 };
	struct virtio_net_hdr_v1 header = { 0 };
	uint8_t sent[600], got[2000];
	struct iovec in[] = { { &header, sizeof(header) }, { got, 100 }, { got + 100, 1900 } };
	struct iovec out[] = { { &header, sizeof(header) }, { sent, sizeof(sent) } };
	int sock;

	CHILD_CHECK(netdev_tap_open(&tap, 1, "tap0", 0) == 0);
	sock = netns_socket("tap0");
	CHILD_CHECK(netdev_receive(&tap, in, 3) == -EAGAIN);
	netns_frame(sent, sizeof(sent), 1);
	CHILD_CHECK(send(sock, sent, sizeof(sent), 0) == sizeof(sent));
	CHILD_CHECK(netdev_receive(&tap, in, 3) == sizeof(header) + sizeof(sent));
	CHILD_CHECK(!memcmp(got, sent, sizeof(sent)));

	netns_frame(sent, sizeof(sent), 2);
	header = (struct virtio_net_hdr_v1){ 0 };
	CHILD_CHECK(netdev_send(&tap, out, 2) == sizeof(header) + sizeof(sent));
	CHILD_CHECK(netns_receive(sock, got, sizeof(got)) == sizeof(sent));
	CHILD_CHECK(!memcmp(got, sent, sizeof(sent)));

	/* A header that promises what is not there. */
	header.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	header.csum_start = 5000;
	CHILD_CHECK(netdev_send(&tap, out, 2) == -EINVAL);
	header.flags = 0;

	netns_set_up("tap0", false);
	CHILD_CHECK(netdev_send(&tap, out, 2) == -EIO);
	netns_delete("tap0");
	CHILD_CHECK(netdev_receive(&tap, in, 3) == -EBADFD);
	CHILD_CHECK(netdev_send(&tap, out, 2) == -EBADFD);
	netdev_close(&tap);
	close(sock);
	return 0;
}

static int offloads_child(void)
{
	const uint64_t csum = 1ULL << VIRTIO_NET_F_GUEST_CSUM;
	const uint64_t tso = 1ULL << VIRTIO_NET_F_GUEST_TSO4 | 1ULL << VIRTIO_NET_F_GUEST_TSO6;
	const uint64_t uso4 = 1ULL << VIRTIO_NET_F_GUEST_USO4, uso6 = 1ULL << VIRTIO_NET_F_GUEST_USO6;
	struct netdev tap = { .fd = -1 };

	CHILD_CHECK(netdev_tap_open(&tap, 1, "tap0", 0) == 0);
	CHILD_CHECK(netdev_set_offloads(&tap, 0) == 0);
	CHILD_CHECK(netdev_set_offloads(&tap, csum) == 0);
	CHILD_CHECK(netdev_set_offloads(&tap, csum | tso | 1ULL << VIRTIO_NET_F_GUEST_ECN) == 0);
	/* Combinations that the kernel does not take as they are. */
	CHILD_CHECK(netdev_set_offloads(&tap, tso) == 0);
	CHILD_CHECK(netdev_set_offloads(&tap, csum | uso4) == 0);
	if (tap.uso)
		CHILD_CHECK(netdev_set_offloads(&tap, csum | uso4 | uso6) == 0);
	netdev_close(&tap);
	return 0;
}

#define NETNS_TEST(name)                 \
	static void test_##name(void **state) \
	{                                     \
		(void)state;                  \
		netns_run(name##_child);      \
	}

NETNS_TEST(open)
NETNS_TEST(wrong_kind)
NETNS_TEST(owned)
NETNS_TEST(adopt)
NETNS_TEST(packets)
NETNS_TEST(offloads)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_wrong_kind),
		cmocka_unit_test(test_owned),
		cmocka_unit_test(test_adopt),
		cmocka_unit_test(test_packets),
		cmocka_unit_test(test_offloads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
