// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <linux/capability.h>
#include <linux/if_tun.h>
#include <netinet/in.h>
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

/* ---- what the guest wants to receive ---- */

#define UNICAST { 2, 0, 0, 0, 1, 1 }
#define MULTICAST { 0x33, 0x33, 0, 0, 1, 1 }
#define BROADCAST { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff }
#define MODE(name) (1u << VIRTIO_NET_CTRL_RX_##name)

static const uint8_t own[] = { 2, 0, 0, 0, 0, 0xaa };

/* A frame to dest, with an 802.1Q tag where tci is not 0. Returns whether it came through. */
static bool admitted(struct netdev *tap, int sock, const uint8_t dest[ETH_ALEN], uint16_t tci)
{
	struct virtio_net_hdr_v1 header;
	uint8_t frame[100], got[200];
	const uint16_t tag[] = { htons(ETH_P_8021Q), htons(tci) };
	struct iovec in[] = { { &header, sizeof(header) }, { got, sizeof(got) } };
	ssize_t n;

	netns_frame(frame, sizeof(frame), 1);
	memcpy(frame, dest, ETH_ALEN);
	if (tci) {
		memmove(frame + 16, frame + 12, sizeof(frame) - 16);
		memcpy(frame + 12, tag, sizeof(tag));
	}
	CHILD_CHECK(send(sock, frame, sizeof(frame), 0) == sizeof(frame));
	n = netdev_receive(tap, in, 2);
	CHILD_CHECK(n == -EAGAIN || n == (ssize_t)(sizeof(header) + sizeof(frame)));
	CHILD_CHECK(n < 0 || !memcmp(got, frame, sizeof(frame)));
	return n > 0;
}

static struct netdev_filter make_filter(unsigned int modes)
{
	struct netdev_filter filter = {
		.modes = (uint8_t)modes,
		.mac_count = 3,
		.macs = { { 2, 0, 0, 0, 1, 0 }, UNICAST, MULTICAST },
	};

	memcpy(filter.mac, own, sizeof(own));
	return filter;
}

static int modes_child(void)
{
	static const uint8_t dests[][ETH_ALEN] = {
		{ 2, 0, 0, 0, 0, 0xaa }, UNICAST, { 2, 0, 0, 0, 1, 2 }, { 3, 0, 0, 0, 1, 1 },
		MULTICAST, { 0x33, 0x33, 0, 0, 1, 2 }, { 0x33, 0x33, 1, 0, 1, 1 }, BROADCAST,
	};
	static const struct {
		unsigned int modes;
		const char *passes; /* of dests */
	} table[] = {
		{ 0, "yynnynny" },
		{ MODE(PROMISC), "yyyyyyyy" },
		{ MODE(ALLMULTI), "yynyyyyy" },
		{ MODE(ALLUNI), "yyynynny" },
		{ MODE(ALLUNI) | MODE(ALLMULTI), "yyyyyyyy" },
		{ MODE(NOMULTI), "yynnnnny" },
		{ MODE(NOUNI), "nnnnynny" },
		{ MODE(NOBCAST), "yynnynnn" },
		{ MODE(NOBCAST) | MODE(ALLMULTI), "yynyyyyn" },
		{ MODE(NOUNI) | MODE(NOMULTI) | MODE(NOBCAST), "nnnnnnnn" },
		{ MODE(NOMULTI) | MODE(ALLMULTI), "yynnnnny" },
		{ NETDEV_MACS_ALL, "yyyyyyyy" },
	};
	struct netdev tap = { .fd = -1 };
	int sock;

	child_needs("filters of taps");
	CHILD_CHECK(netdev_tap_open(&tap, 1, "tap0", 0) == 0);
	sock = netns_socket("tap0");
	CHILD_CHECK(admitted(&tap, sock, dests[2], 0));
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct netdev_filter filter = make_filter(table[i].modes);

		netdev_set_filter(&tap, &filter);
		for (size_t j = 0; j < ARRAY_SIZE(dests); j++)
			CHILD_CHECK(admitted(&tap, sock, dests[j], 0) ==
				    (table[i].passes[j] == 'y'));
	}
	netdev_close(&tap);
	close(sock);
	return 0;
}

/* The longest table: the last entry counts, too. */
static int table_child(void)
{
	struct netdev_filter filter = make_filter(0);
	uint8_t dest[ETH_ALEN] = { 2, 0, 0, 0, 9, 0 };
	struct netdev tap = { .fd = -1 };
	int sock;

	child_needs("filters of taps");
	filter.mac_count = NETDEV_MACS_MAX;
	for (unsigned int i = 0; i < NETDEV_MACS_MAX; i++) {
		memcpy(filter.macs[i], dest, sizeof(dest));
		filter.macs[i][5] = (uint8_t)i;
	}
	for (unsigned int vid = 1; vid <= 64; vid++)
		filter.vlans[vid / 8] |= (uint8_t)(1u << vid % 8);
	filter.modes = NETDEV_VLANS_SOME;
	CHILD_CHECK(netdev_tap_open(&tap, 1, "tap0", 0) == 0);
	sock = netns_socket("tap0");
	netdev_set_filter(&tap, &filter);
	for (unsigned int i = 0; i < 256; i++) {
		dest[5] = (uint8_t)i;
		CHILD_CHECK(admitted(&tap, sock, dest, 64) == (i < NETDEV_MACS_MAX));
	}
	netdev_close(&tap);
	close(sock);
	return 0;
}

static int vlans_child(void)
{
	struct netdev_filter filter = make_filter(NETDEV_VLANS_SOME);
	struct netdev tap = { .fd = -1 };
	int sock;

	child_needs("filters of taps");
	CHILD_CHECK(netdev_tap_open(&tap, 1, "tap0", 0) == 0);
	sock = netns_socket("tap0");
	netdev_set_filter(&tap, &filter);
	CHILD_CHECK(admitted(&tap, sock, own, 0));
	CHILD_CHECK(!admitted(&tap, sock, own, 5));
	/* A priority alone makes no VLAN. */
	CHILD_CHECK(admitted(&tap, sock, own, 0xe000));
	filter.vlans[0] = 1u << 5;
	filter.vlans[sizeof(filter.vlans) - 1] = 0x80;
	netdev_set_filter(&tap, &filter);
	CHILD_CHECK(admitted(&tap, sock, own, 5));
	CHILD_CHECK(admitted(&tap, sock, own, 0xe005));
	CHILD_CHECK(admitted(&tap, sock, own, 4095));
	CHILD_CHECK(!admitted(&tap, sock, own, 6));
	CHILD_CHECK(!admitted(&tap, sock, (const uint8_t[]){ 2, 0, 0, 0, 1, 2 }, 5));
	/* More than the program has room for: all of them. */
	memset(filter.vlans, 0xff, 9);
	netdev_set_filter(&tap, &filter);
	CHILD_CHECK(admitted(&tap, sock, own, 100));
	filter.modes = 0;
	memset(filter.vlans, 0, sizeof(filter.vlans));
	netdev_set_filter(&tap, &filter);
	CHILD_CHECK(admitted(&tap, sock, own, 100));
	netdev_close(&tap);
	close(sock);
	return 0;
}

/* Whoever was killed may have left its filter to an interface that stays. */
static int left_filter_child(void)
{
	struct netdev_filter filter = make_filter(MODE(NOUNI));
	struct netdev taps[2] = { { .fd = -1 }, { .fd = -1 } };
	int sock;

	CHILD_CHECK(netdev_tap_open(taps, 2, "tap0", 0) == 0);
	CHILD_CHECK(ioctl(taps[0].fd, TUNSETPERSIST, 1) == 0);
	netdev_set_filter(taps, &filter);
	netdev_close(&taps[0]);
	netdev_close(&taps[1]);
	CHILD_CHECK(netdev_tap_open(taps, 2, "tap0", 0) == 0);
	CHILD_CHECK(netdev_set_pairs(taps, 2, 1) == 0);
	CHILD_CHECK(netdev_set_pairs(taps, 2, 2) == 0);
	CHILD_CHECK(netdev_set_pairs(taps, 2, 1) == 0);
	sock = netns_socket("tap0");
	CHILD_CHECK(admitted(taps, sock, own, 0));
	netdev_close(&taps[0]);
	netdev_close(&taps[1]);
	close(sock);
	return 0;
}

/* ---- several pairs ---- */

#define FLOWS 64

/* UDP of one flow out of FLOWS; nobody looks at its checksums. */
static void send_flow(int sock, uint16_t flow)
{
	struct sockaddr_ll address = { 0 };
	socklen_t len = sizeof(address);
	uint8_t frame[60] = { 2, 0, 0, 0, 0, 0xaa, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 46 };

	frame[22] = 64;
	frame[23] = IPPROTO_UDP;
	memcpy(frame + 26, (uint8_t[]){ 10, 0, 0, 1, 10, 0, 0, 2 }, 8);
	frame[35] = (uint8_t)flow;
	frame[37] = 9;
	CHILD_CHECK(getsockname(sock, (struct sockaddr *)&address, &len) == 0);
	address.sll_protocol = htons(ETH_P_IP);
	CHILD_CHECK(sendto(sock, frame, sizeof(frame), 0, (struct sockaddr *)&address,
			   sizeof(address)) == sizeof(frame));
}

static unsigned int receive_all(struct netdev *tap)
{
	uint8_t got[200];
	unsigned int count = 0;

	while (netdev_receive(tap, &(struct iovec){ got, sizeof(got) }, 1) > 0)
		count++;
	return count;
}

static void send_flows(int sock)
{
	for (uint16_t flow = 0; flow < FLOWS; flow++)
		send_flow(sock, flow);
}

static int pairs_child(void)
{
	struct netdev taps[3] = { { .fd = -1 }, { .fd = -1 }, { .fd = -1 } };
	struct netdev_filter filter = make_filter(0);
	unsigned int counts[3];
	int sock;

	CHILD_CHECK(netdev_tap_open(taps, 3, "vm%d", 0) == 0);
	for (unsigned int i = 0; i < 3; i++)
		CHILD_CHECK(!strcmp(taps[i].name, "vm0"));
	sock = netns_socket("vm0");
	for (unsigned int round = 0; round < 2; round++) {
		CHILD_CHECK(netdev_set_pairs(taps, 3, 1) == 0);
		netdev_set_filter(taps, &filter);
		send_flows(sock);
		CHILD_CHECK(receive_all(&taps[1]) + receive_all(&taps[2]) == 0);
		CHILD_CHECK(receive_all(&taps[0]) == FLOWS);

		CHILD_CHECK(netdev_set_pairs(taps, 3, 3) == 0);
		netdev_set_filter(taps, &filter);
		send_flows(sock);
		for (unsigned int i = 0; i < 3; i++)
			CHILD_CHECK((counts[i] = receive_all(&taps[i])) > 0);
		CHILD_CHECK(counts[0] + counts[1] + counts[2] == FLOWS);
	}
	/* What waits where nobody reads any more is dropped. */
	send_flows(sock);
	CHILD_CHECK(netdev_set_pairs(taps, 3, 1) == 0);
	CHILD_CHECK(receive_all(&taps[2]) == 0);
	for (unsigned int i = 0; i < 3; i++)
		netdev_close(&taps[i]);
	close(sock);
	return 0;
}

/* The filter is that of each pair, also of one that comes back. */
static int pairs_filter_child(void)
{
	struct netdev taps[2] = { { .fd = -1 }, { .fd = -1 } };
	struct netdev_filter filter = make_filter(MODE(NOUNI));
	int sock;

	child_needs("filters of taps");
	CHILD_CHECK(netdev_tap_open(taps, 2, "tap0", 0) == 0);
	sock = netns_socket("tap0");
	netdev_set_filter(taps, &filter);
	send_flows(sock);
	CHILD_CHECK(receive_all(&taps[0]) + receive_all(&taps[1]) == 0);
	CHILD_CHECK(netdev_set_pairs(taps, 2, 1) == 0);
	filter.modes = MODE(PROMISC);
	netdev_set_filter(taps, &filter);
	CHILD_CHECK(netdev_set_pairs(taps, 2, 2) == 0);
	netdev_set_filter(taps, &filter);
	send_flows(sock);
	CHILD_CHECK(receive_all(&taps[1]) > 0 && receive_all(&taps[0]) > 0);
	netdev_close(&taps[0]);
	netdev_close(&taps[1]);
	close(sock);
	return 0;
}

/* An interface has several queues or it has not. */
static int queues_child(void)
{
	struct netdev taps[2] = { { .fd = -1 }, { .fd = -1 } };
	int one = make_tun("one", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	int many = make_tun("many", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE);

	CHILD_CHECK(ioctl(one, TUNSETPERSIST, 1) == 0 && ioctl(many, TUNSETPERSIST, 1) == 0);
	close(one);
	close(many);
	CHILD_CHECK(netdev_tap_open(taps, 2, "one", 0) == -EINVAL);
	CHILD_CHECK(netdev_tap_open(taps, 1, "many", 0) == -EINVAL);
	CHILD_CHECK(taps[0].fd == -1 && taps[1].fd == -1);
	CHILD_CHECK(netdev_tap_open(taps, 2, "many", 0) == 0);
	netdev_close(&taps[0]);
	netdev_close(&taps[1]);
	return 0;
}

/* ---- an interface of its own ---- */

static void test_loop(void **state)
{
	struct netdev loop = { .fd = -1 };
	uint8_t sent[1526], got[2000];
	const struct iovec out = { sent, sizeof(sent) };
	struct iovec in[] = { { got, 100 }, { got + 100, sizeof(got) - 100 } };
	unsigned int count = 0;
	ssize_t n;

	(void)state;
	assert_int_equal(netdev_loop_open(&loop), 0);
	assert_int_equal(netdev_receive(&loop, in, 2), -EAGAIN);
	/* As many as fit, in their order; then there is room again for as many. */
	do {
		memset(sent, (int)count, sizeof(sent));
		n = netdev_send(&loop, &out, 1);
		count += n == sizeof(sent);
	} while (n == sizeof(sent));
	assert_int_equal(n, -EAGAIN);
	assert_in_range(count, 2, 100000);
	for (unsigned int i = 0; i < count; i++) {
		assert_int_equal(netdev_receive(&loop, in, 2), sizeof(sent));
		assert_int_equal(got[0], (uint8_t)i);
		assert_int_equal(got[sizeof(sent) - 1], (uint8_t)i);
	}
	assert_int_equal(netdev_receive(&loop, in, 2), -EAGAIN);
	assert_int_equal(netdev_send(&loop, &out, 1), sizeof(sent));
	netdev_close(&loop);
	assert_int_equal(loop.fd, -1);
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
NETNS_TEST(modes)
NETNS_TEST(table)
NETNS_TEST(vlans)
NETNS_TEST(left_filter)
NETNS_TEST(pairs)
NETNS_TEST(pairs_filter)
NETNS_TEST(queues)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_wrong_kind),
		cmocka_unit_test(test_owned),
		cmocka_unit_test(test_adopt),
		cmocka_unit_test(test_packets),
		cmocka_unit_test(test_offloads),
		cmocka_unit_test(test_modes),
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_vlans),
		cmocka_unit_test(test_left_filter),
		cmocka_unit_test(test_pairs),
		cmocka_unit_test(test_pairs_filter),
		cmocka_unit_test(test_queues),
		cmocka_unit_test(test_loop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
