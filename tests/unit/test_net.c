// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <endian.h>
#include <linux/sockios.h>
#include <linux/virtio_net.h>
#include <signal.h>
#include <stdio.h>
#include <sys/un.h>
#include "core/state.h"
#include "devices/net.h"
#include "tests/unit/driver.h"
#include "tests/unit/netns.h"

extern const struct virtio_class net_class;

#define RX 0
#define TX 1
#define HEADER sizeof(struct virtio_net_hdr_v1)
#define BIT(name) (1ULL << VIRTIO_NET_F_##name)
#define MERGE (1ULL << VIRTIO_NET_F_MRG_RXBUF)
/* Guest memory behind the rings: receive buffers, a page apart, and one to send from. */
#define BUFFER(i) (VQ_RAM_BASE + MIB(4) + (uint64_t)(i) * 4096)
#define OUTGOING (VQ_RAM_BASE + MIB(6))

struct net_test {
	struct vq_guest guest;
	int sock; /* the host's end of the wire */
	uint8_t frame[1514];
};

/* Without the kernel's help, unless the options ask for it: tests look at what the device does. */
static int make(struct net_test *test, const char *options)
{
	char all[100];
	int r;

	if (strstr(options, "vhost="))
		snprintf(all, sizeof(all), "%s", options);
	else
		snprintf(all, sizeof(all), "%s%svhost=off", options, *options ? "," : "");
	r = vq_guest_make(&test->guest, &net_class, all);

	test->sock = r == 0 && if_nametoindex("tap0") ? netns_socket("tap0") : -1;
	return r;
}

static void unmake(struct net_test *test)
{
	vq_guest_free(&test->guest);
	util_closep(&test->sock);
}

static uint64_t counter(struct net_test *test, const char *name)
{
	return vq_counter(&test->guest, name);
}

static bool failed(struct net_test *test)
{
	return vq_failed(&test->guest);
}

/* Whether nothing at all happens for a while. */
static bool sleeps(struct net_test *test)
{
	return loop_turn(&test->guest.dev->workers[0].loop, 20) == 0;
}

static uint8_t *at(struct net_test *test, uint64_t gpa)
{
	return vq_ptr(&test->guest, gpa, 4096);
}

static void post_receive(struct net_test *test, unsigned int i, uint32_t len)
{
	memset(at(test, BUFFER(i)), 0xee, 4096);
	vq_post(&test->guest, RX, &(struct vq_buffer){ BUFFER(i), len, true }, 1);
}

static void kick(struct net_test *test, unsigned int queue)
{
	vq_notify(&test->guest, queue);
	vq_turn(&test->guest);
}

/* A frame comes in on the wire; the device has its turns. */
static void arrive(struct net_test *test, size_t len, uint8_t seed)
{
	netns_frame(test->frame, len, seed);
	CHILD_CHECK(send(test->sock, test->frame, len, 0) == (ssize_t)len);
	vq_turn(&test->guest);
}

static uint32_t take(struct net_test *test, unsigned int queue)
{
	uint16_t head;
	uint32_t len;

	CHILD_CHECK(vq_take(&test->guest, queue, &head, &len));
	return len;
}

static bool idle(struct net_test *test, unsigned int queue)
{
	uint16_t head;

	return !vq_take(&test->guest, queue, &head, NULL);
}

static int receive_child(void)
{
	struct net_test test;

	CHILD_CHECK(make(&test, "tap0") == 0);
	vq_start(&test.guest, 0);
	post_receive(&test, 0, 1526);
	post_receive(&test, 1, 1526);
	kick(&test, RX);
	arrive(&test, 1514, 1);
	CHILD_CHECK(take(&test, RX) == 1514 + HEADER);
	CHILD_CHECK(!memcmp(at(&test, BUFFER(0)) + HEADER, test.frame, 1514));
	CHILD_CHECK(at(&test, BUFFER(0))[10] == 1 && at(&test, BUFFER(0))[11] == 0);
	CHILD_CHECK(at(&test, BUFFER(0))[1526] == 0xee);
	arrive(&test, 60, 2);
	CHILD_CHECK(take(&test, RX) == 60 + HEADER);
	CHILD_CHECK(!memcmp(at(&test, BUFFER(1)) + HEADER, test.frame, 60));
	CHILD_CHECK(counter(&test, "rx_packets") == 2);
	CHILD_CHECK(counter(&test, "rx_bytes") == 1574);
	CHILD_CHECK(test.guest.queue_interrupts[RX] == 2);
	unmake(&test);
	return 0;
}

/* A packet over several buffers, the first of which is cut within num_buffers. */
static int merge_child(void)
{
	static const uint32_t used[] = { 300, 300, 300, 112 };
	struct net_test test;

	CHILD_CHECK(make(&test, "tap0") == 0);
	vq_start(&test.guest, MERGE);
	memset(at(&test, BUFFER(0)), 0xee, 4096);
	vq_post(&test.guest, RX, (struct vq_buffer[]){ { BUFFER(0), 11, true },
						       { BUFFER(0) + 11, 289, true } }, 2);
	for (unsigned int i = 1; i < 7; i++)
		post_receive(&test, i, 300);
	kick(&test, RX);
	arrive(&test, 1000, 3);
	for (size_t i = 0; i < ARRAY_SIZE(used); i++)
		CHILD_CHECK(take(&test, RX) == used[i]);
	CHILD_CHECK(idle(&test, RX));
	CHILD_CHECK(at(&test, BUFFER(0))[10] == 4 && at(&test, BUFFER(0))[11] == 0);
	CHILD_CHECK(!memcmp(at(&test, BUFFER(0)) + HEADER, test.frame, 288));
	for (unsigned int i = 1; i < 4; i++)
		CHILD_CHECK(!memcmp(at(&test, BUFFER(i)), test.frame + i * 300 - HEADER,
				    used[i]));
	CHILD_CHECK(at(&test, BUFFER(3))[112] == 0xee && at(&test, BUFFER(4))[0] == 0xee);

	/* Too little is left for what might come, until the driver posts more: its order is kept. */
	arrive(&test, 200, 4);
	CHILD_CHECK(idle(&test, RX));
	for (unsigned int i = 7; i < 10; i++)
		post_receive(&test, i, 300);
	kick(&test, RX);
	CHILD_CHECK(take(&test, RX) == 200 + HEADER);
	CHILD_CHECK(!memcmp(at(&test, BUFFER(4)) + HEADER, test.frame, 200));
	CHILD_CHECK(at(&test, BUFFER(4))[10] == 1);
	unmake(&test);
	return 0;
}

/* A driver whose whole ring has less room than the largest packet gets those that fit. */
static int small_ring_child(void)
{
	struct net_test test;

	CHILD_CHECK(make(&test, "tap0") == 0);
	vq_start(&test.guest, MERGE);
	for (unsigned int i = 0; i < VQ_SIZE; i++)
		post_receive(&test, i, 64);
	kick(&test, RX);
	arrive(&test, 500, 5);
	for (unsigned int i = 0; i < 8; i++)
		CHILD_CHECK(take(&test, RX) == 64);
	CHILD_CHECK(idle(&test, RX));
	CHILD_CHECK(at(&test, BUFFER(0))[10] == 8);
	unmake(&test);
	return 0;
}

/* With segmentation offload agreed the window is for 64 KiB, and takes what is there in turn. */
static int large_window_child(void)
{
	struct net_test test;

	CHILD_CHECK(make(&test, "tap0") == 0);
	vq_start(&test.guest, MERGE | 1ULL << VIRTIO_NET_F_GUEST_CSUM |
				      1ULL << VIRTIO_NET_F_GUEST_TSO4);
	post_receive(&test, 0, 1526);
	vq_post(&test.guest, RX, &(struct vq_buffer){ BUFFER(100), KIB(60), true }, 1);
	kick(&test, RX);
	arrive(&test, 100, 6);
	CHILD_CHECK(idle(&test, RX));
	vq_post(&test.guest, RX, &(struct vq_buffer){ BUFFER(200), KIB(64), true }, 1);
	kick(&test, RX);
	CHILD_CHECK(take(&test, RX) == 100 + HEADER);
	CHILD_CHECK(!memcmp(at(&test, BUFFER(0)) + HEADER, test.frame, 100));
	arrive(&test, 1514, 7);
	CHILD_CHECK(take(&test, RX) == 1514 + HEADER);
	CHILD_CHECK(!memcmp(at(&test, BUFFER(100)) + HEADER, test.frame, 1514));
	unmake(&test);
	return 0;
}

/* Packets wait on the host while there are no buffers, and do not keep us busy. */
static int no_buffers_child(void)
{
	struct net_test test;

	CHILD_CHECK(make(&test, "tap0") == 0);
	vq_start(&test.guest, 0);
	arrive(&test, 100, 8);
	arrive(&test, 101, 9);
	CHILD_CHECK(sleeps(&test));
	CHILD_CHECK(counter(&test, "rx_no_buffers") == 1);
	post_receive(&test, 0, 2048);
	post_receive(&test, 1, 2048);
	kick(&test, RX);
	CHILD_CHECK(take(&test, RX) == 100 + HEADER);
	CHILD_CHECK(take(&test, RX) == 101 + HEADER);
	CHILD_CHECK(!memcmp(at(&test, BUFFER(1)) + HEADER, test.frame, 101));
	/* A ring that has run dry is none yet; each packet that finds it so is one. */
	CHILD_CHECK(sleeps(&test));
	CHILD_CHECK(counter(&test, "rx_no_buffers") == 1);
	for (unsigned int i = 0; i < 2; i++) {
		arrive(&test, 100, 1);
		CHILD_CHECK(sleeps(&test));
		CHILD_CHECK(counter(&test, "rx_no_buffers") == 2 + i);
		post_receive(&test, 2 + i, 2048);
		kick(&test, RX);
		CHILD_CHECK(take(&test, RX) == 100 + HEADER);
	}
	unmake(&test);
	return 0;
}

static int hostile_child(void)
{
	const uint64_t features[] = { 0, MERGE };
	struct net_test test;

	CHILD_CHECK(make(&test, "tap0") == 0);
	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		vq_start(&test.guest, features[i]);
		post_receive(&test, 0, HEADER - 1);
		kick(&test, RX);
		arrive(&test, 100, 10);
		CHILD_CHECK(failed(&test));
		CHILD_CHECK(sleeps(&test));
		virtio_set_status(test.guest.dev, 0);
	}
	/* A receive buffer that cannot be written. */
	vq_start(&test.guest, 0);
	vq_post(&test.guest, RX, &(struct vq_buffer){ BUFFER(0), 2048, false }, 1);
	kick(&test, RX);
	CHILD_CHECK(failed(&test));
	virtio_set_status(test.guest.dev, 0);
	/* Packets without a whole header, and without anything readable. */
	for (int writable = 0; writable < 2; writable++) {
		vq_start(&test.guest, 0);
		vq_post(&test.guest, TX, &(struct vq_buffer){ OUTGOING, HEADER - 1, writable }, 1);
		kick(&test, TX);
		CHILD_CHECK(failed(&test));
		CHILD_CHECK(idle(&test, TX));
		virtio_set_status(test.guest.dev, 0);
	}
	/* All is well after the reset; the packets that waited come. */
	vq_start(&test.guest, 0);
	post_receive(&test, 0, 2048);
	kick(&test, RX);
	CHILD_CHECK(take(&test, RX) == 100 + HEADER);
	unmake(&test);
	return 0;
}

static void post_frame(struct net_test *test, size_t len, uint8_t seed)
{
	netns_frame(test->frame, len, seed);
	memset(at(test, OUTGOING), 0, HEADER);
	memcpy(at(test, OUTGOING) + HEADER, test->frame, len);
	vq_post(&test->guest, TX, (struct vq_buffer[]){
		{ OUTGOING, 5, false },
		{ OUTGOING + 5, 20, false },
		{ OUTGOING + 25, (uint32_t)(len + HEADER - 25), false },
	}, 3);
}

static int transmit_child(void)
{
	struct net_test test;
	uint8_t got[2000];

	CHILD_CHECK(make(&test, "tap0") == 0);
	vq_start(&test.guest, 0);
	post_frame(&test, 700, 11);
	kick(&test, TX);
	CHILD_CHECK(netns_receive(test.sock, got, sizeof(got)) == 700);
	CHILD_CHECK(!memcmp(got, test.frame, 700));
	CHILD_CHECK(take(&test, TX) == 0);
	CHILD_CHECK(counter(&test, "tx_packets") == 1);
	CHILD_CHECK(counter(&test, "tx_bytes") == 700);

	/* What the kernel does not take is the guest's loss alone. */
	post_frame(&test, 100, 12);
	memset(at(&test, OUTGOING), 0xff, HEADER);
	kick(&test, TX);
	take(&test, TX);
	netns_set_up("tap0", false);
	post_frame(&test, 100, 13);
	kick(&test, TX);
	take(&test, TX);
	CHILD_CHECK(counter(&test, "tx_dropped") == 2);
	netns_set_up("tap0", true);
	/* It told the socket, too. */
	close(test.sock);
	test.sock = netns_socket("tap0");
	post_frame(&test, 100, 14);
	kick(&test, TX);
	CHILD_CHECK(netns_receive(test.sock, got, sizeof(got)) == 100);
	CHILD_CHECK(!memcmp(got, test.frame, 100));
	CHILD_CHECK(!failed(&test));
	unmake(&test);
	return 0;
}

/* Headers that promise anything at all: the kernel takes some, and the device has no opinion. */
static int lies_child(void)
{
	static const uint16_t lies[] = { 0, 1, 13, 14, 54, 99, 100, 1500, 0x7fff, 0xffff };
	struct net_test test;
	unsigned int sent = 0;

	CHILD_CHECK(make(&test, "tap0") == 0);
	vq_start(&test.guest, BIT(CSUM) | BIT(HOST_TSO4) | BIT(HOST_TSO6) | BIT(HOST_ECN));
	for (unsigned int flags = 0; flags < 8; flags++)
		for (unsigned int type = 0; type < 256; type += type < 8 ? 1 : 31)
			for (size_t i = 0; i < ARRAY_SIZE(lies); i++, sent++) {
				const struct virtio_net_hdr_v1 header = {
					.flags = (uint8_t)flags,
					.gso_type = (uint8_t)type,
					.hdr_len = lies[i],
					.gso_size = lies[ARRAY_SIZE(lies) - 1 - i],
					.csum_start = lies[(i + flags) % ARRAY_SIZE(lies)],
					.csum_offset = lies[(i + type) % ARRAY_SIZE(lies)],
					.num_buffers = lies[i],
				};

				post_frame(&test, 100, (uint8_t)sent);
				memcpy(at(&test, OUTGOING), &header, sizeof(header));
				kick(&test, TX);
				CHILD_CHECK(take(&test, TX) == 0);
			}
	CHILD_CHECK(!failed(&test));
	CHILD_CHECK(counter(&test, "tx_packets") + counter(&test, "tx_dropped") == sent);
	CHILD_CHECK(counter(&test, "tx_dropped") > 0 && counter(&test, "tx_packets") > 0);
	unmake(&test);
	return 0;
}

/* A window that was popped is forgotten by a reset: nothing is written to it later. */
static int reset_child(void)
{
	struct net_test test;

	CHILD_CHECK(make(&test, "tap0") == 0);
	vq_start(&test.guest, MERGE);
	for (unsigned int i = 0; i < 4; i++)
		post_receive(&test, i, 1600);
	kick(&test, RX);
	arrive(&test, 100, 15);
	CHILD_CHECK(take(&test, RX) == 100 + HEADER);
	virtio_set_status(test.guest.dev, 0);
	arrive(&test, 100, 16);
	CHILD_CHECK(sleeps(&test));
	for (unsigned int i = 1; i < 4; i++)
		CHILD_CHECK(at(&test, BUFFER(i))[0] == 0xee);
	vq_start(&test.guest, MERGE);
	post_receive(&test, 9, 1600);
	kick(&test, RX);
	CHILD_CHECK(take(&test, RX) == 100 + HEADER);
	CHILD_CHECK(!memcmp(at(&test, BUFFER(9)) + HEADER, test.frame, 100));
	unmake(&test);
	return 0;
}

static uint16_t link_status(struct net_test *test)
{
	struct virtio_net_config config;

	virtio_config_read(test->guest.dev, 0, &config, offsetof(struct virtio_net_config, speed));
	return config.status;
}

/* The interface is removed: the link is down, and the VM lives. */
static int gone_child(void)
{
	struct net_test test;

	CHILD_CHECK(make(&test, "tap0") == 0);
	vq_start(&test.guest, 1ULL << VIRTIO_NET_F_STATUS);
	post_receive(&test, 0, 2048);
	kick(&test, RX);
	CHILD_CHECK(link_status(&test) == VIRTIO_NET_S_LINK_UP);
	netns_delete("tap0");
	vq_turn(&test.guest);
	CHILD_CHECK(sleeps(&test));
	CHILD_CHECK(link_status(&test) == 0);
	CHILD_CHECK(test.guest.config_interrupts == 1);
	CHILD_CHECK(counter(&test, "errors") == 1);
	post_frame(&test, 100, 17);
	kick(&test, TX);
	take(&test, TX);
	CHILD_CHECK(counter(&test, "tx_dropped") == 1);
	CHILD_CHECK(!failed(&test));
	virtio_set_status(test.guest.dev, 0);
	vq_start(&test.guest, 0);
	CHILD_CHECK(!failed(&test) && link_status(&test) == 0);
	unmake(&test);
	return 0;
}

static int config_child(void)
{
	static const uint8_t given[] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 };
	struct virtio_net_config config, again;
	const uint32_t len = offsetof(struct virtio_net_config, speed);
	struct net_test test;

	CHILD_CHECK(make(&test, "tap=tap0,mac=52:54:00:12:34:56,mtu=9000") == 0);
	virtio_config_read(test.guest.dev, 0, &config, len);
	CHILD_CHECK(!memcmp(config.mac, given, sizeof(given)) && config.mtu == 9000);
	CHILD_CHECK(test.guest.dev->offered >> VIRTIO_NET_F_MTU & 1);
	CHILD_CHECK(netns_ifreq("tap0", SIOCGIFMTU).ifr_mtu == 9000);
	unmake(&test);

	CHILD_CHECK(make(&test, "tap0") == 0);
	virtio_config_read(test.guest.dev, 0, &config, len);
	CHILD_CHECK((config.mac[0] & 3) == 2);
	CHILD_CHECK(!(test.guest.dev->offered >> VIRTIO_NET_F_MTU & 1));
	unmake(&test);
	CHILD_CHECK(make(&test, "tap0") == 0);
	virtio_config_read(test.guest.dev, 0, &again, len);
	CHILD_CHECK(!memcmp(config.mac, again.mac, sizeof(config.mac)));
	unmake(&test);

	CHILD_CHECK(make(&test, "") == 0);
	CHILD_CHECK(!strcmp(test.guest.dev->where, "tap0"));
	unmake(&test);
	CHILD_CHECK(make(&test, "fd=9,queues=2") == -EOPNOTSUPP);
	unmake(&test);
	CHILD_CHECK(make(&test, "user,queues=2") == -EOPNOTSUPP);
	unmake(&test);
	CHILD_CHECK(make(&test, "tap0,hostfwd=tcp::2222-:22") == -ENOPROTOOPT);
	unmake(&test);
	CHILD_CHECK(make(&test, "user,socket=/nonexistent,hostfwd=tcp::2222-:22") == -ENOPROTOOPT);
	unmake(&test);
	CHILD_CHECK(make(&test, "user,socket=/nonexistent") == -ECONNREFUSED);
	unmake(&test);
	CHILD_CHECK(make(&test, "loop,bridge=br0") == -ENOTUNIQ);
	unmake(&test);
	CHILD_CHECK(make(&test, "fd=900") == -EBADF);
	unmake(&test);
	return 0;
}

static void make_bridge(const char *name)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), r = ioctl(fd, SIOCBRADDBR, name);

	if (r < 0)
		_exit(child_lacks("bridges"));
	close(fd);
}

/* Joined, what the tap's end of the wire hears comes from the bridge. */
static int bridge_child(void)
{
	struct net_test test;
	uint8_t got[200];
	int sock;

	child_needs("ioctls of bridges");
	CHILD_CHECK(make(&test, "tap0,bridge=br0") == -ENXIO);
	unmake(&test);
	make_bridge("br0");
	CHILD_CHECK(make(&test, "tap0,bridge=tap0") == -ENXIO);
	unmake(&test);
	CHILD_CHECK(make(&test, "tap0,bridge=br0") == 0);
	netns_set_up("br0", true);
	sock = netns_socket("br0");
	vq_start(&test.guest, 0);
	post_frame(&test, 100, 1);
	kick(&test, TX);
	CHILD_CHECK(netns_receive(sock, got, sizeof(got)) == 100);
	CHILD_CHECK(!memcmp(got, test.frame, 100));
	close(sock);
	unmake(&test);
	return 0;
}

/* ---- the control queue ---- */

#define OFFLOADS (BIT(GUEST_CSUM) | BIT(GUEST_TSO4) | BIT(GUEST_TSO6) | BIT(GUEST_ECN))
#define CONTROL (BIT(CTRL_VQ) | BIT(CTRL_RX) | BIT(CTRL_RX_EXTRA) | BIT(CTRL_VLAN) | \
		 BIT(CTRL_MAC_ADDR) | BIT(GUEST_ANNOUNCE) | BIT(CTRL_GUEST_OFFLOADS) | BIT(STATUS))
#define COMMAND (VQ_RAM_BASE + MIB(7))
#define RESULT (COMMAND + KIB(64))
#define NO_RESULT 0xee

static void post_command(struct net_test *test, unsigned int queue, const void *bytes, size_t len)
{
	memcpy(vq_ptr(&test->guest, COMMAND, len), bytes, len);
	*at(test, RESULT) = NO_RESULT;
	vq_post(&test->guest, queue, (struct vq_buffer[]){ { COMMAND, (uint32_t)len, false },
							   { RESULT, 1, true } }, 2);
	vq_notify(&test->guest, queue);
}

/* Bytes on the given queue, as a driver sends them; the device's answer. */
static uint8_t send_bytes(struct net_test *test, unsigned int queue, const void *bytes, size_t len)
{
	uint16_t head;

	post_command(test, queue, bytes, len);
	vq_turn(&test->guest);
	if (vq_take(&test->guest, queue, &head, NULL))
		assert(*at(test, RESULT) != NO_RESULT);
	return *at(test, RESULT);
}

static uint8_t command(struct net_test *test, uint8_t class, uint8_t cmd, const void *data,
		       size_t len)
{
	uint8_t bytes[4096] = { class, cmd };
	const bool mq = virtio_has(test->guest.dev, VIRTIO_NET_F_MQ);

	assert(len <= sizeof(bytes) - 2);
	if (len)
		memcpy(bytes + 2, data, len);
	return send_bytes(test, mq ? test->guest.dev->queue_count - 1 : 2, bytes, len + 2);
}

static struct net_state *state_of(struct net_test *test)
{
	return &container_of(test->guest.dev, struct net, dev)->state;
}

/* The right length, and no other; no class, command or value but those that there are. */
static void test_malformed(void **state)
{
	static const struct {
		uint8_t class, cmd;
		uint8_t data[14];
		size_t len;
		uint8_t ack;
	} table[] = {
		{ VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, { 0 }, 1, VIRTIO_NET_OK },
		{ VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, { 0 }, 0, VIRTIO_NET_ERR },
		{ VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, { 0 }, 2, VIRTIO_NET_ERR },
		{ VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, { 2 }, 1, VIRTIO_NET_ERR },
		{ VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOBCAST, { 1 }, 1, VIRTIO_NET_OK },
		{ VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOBCAST + 1, { 1 }, 1, VIRTIO_NET_ERR },
		{ VIRTIO_NET_CTRL_RX, 0xff, { 1 }, 1, VIRTIO_NET_ERR },
		{ VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, { 2, 1 }, 6, VIRTIO_NET_OK },
		{ VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, { 2, 1 }, 5, VIRTIO_NET_ERR },
		{ VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, { 2, 1 }, 7, VIRTIO_NET_ERR },
		{ VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, { 3, 1 }, 6, VIRTIO_NET_ERR },
		{ VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, { 0 }, 6, VIRTIO_NET_ERR },
		{ VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, { 0 }, 8, VIRTIO_NET_OK },
		{ VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, { 0 }, 0, VIRTIO_NET_ERR },
		{ VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, { 0 }, 4, VIRTIO_NET_ERR },
		{ VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, { 0 }, 7, VIRTIO_NET_ERR },
		{ VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, { 0 }, 9, VIRTIO_NET_ERR },
		{ VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, { 1, 0, 0, 0, 2 }, 14,
		  VIRTIO_NET_OK },
		{ VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, { 1, 0, 0, 0, 2 }, 13,
		  VIRTIO_NET_ERR },
		{ VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, { 2, 0, 0, 0, 2 }, 14,
		  VIRTIO_NET_ERR },
		{ VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, { 0, 0, 0, 0, 1 }, 14,
		  VIRTIO_NET_OK },
		/* Times six it is less than there is, in 32 bits. */
		{ VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, { 0xab, 0xaa, 0xaa, 0xaa }, 14,
		  VIRTIO_NET_ERR },
		{ VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET,
		  { 0, 0, 0, 0, 0xab, 0xaa, 0xaa, 0xaa }, 14, VIRTIO_NET_ERR },
		{ VIRTIO_NET_CTRL_MAC, 2, { 2 }, 6, VIRTIO_NET_ERR },
		{ VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, { 0xff, 0x0f }, 2, VIRTIO_NET_OK },
		{ VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, { 0, 0x10 }, 2, VIRTIO_NET_ERR },
		{ VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, { 0xff, 0xff }, 2, VIRTIO_NET_ERR },
		{ VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, { 1 }, 1, VIRTIO_NET_ERR },
		{ VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_DEL, { 0xff, 0x0f }, 2, VIRTIO_NET_OK },
		{ VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_DEL, { 1 }, 3, VIRTIO_NET_ERR },
		{ VIRTIO_NET_CTRL_VLAN, 2, { 1 }, 2, VIRTIO_NET_ERR },
		{ VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, { 0 }, 0, VIRTIO_NET_OK },
		{ VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, { 0 }, 1, VIRTIO_NET_ERR },
		{ VIRTIO_NET_CTRL_ANNOUNCE, 1, { 0 }, 0, VIRTIO_NET_ERR },
		{ VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, { 2 }, 2, VIRTIO_NET_OK },
		{ VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, { 0 }, 2, VIRTIO_NET_ERR },
		{ VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, { 3 }, 2, VIRTIO_NET_ERR },
		{ VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, { 0, 1 }, 2, VIRTIO_NET_ERR },
		{ VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, { 2 }, 1, VIRTIO_NET_ERR },
		{ VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, { 2 }, 3, VIRTIO_NET_ERR },
		{ VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_RSS_CONFIG, { 2 }, 2, VIRTIO_NET_ERR },
		{ VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, { 2 }, 8,
		  VIRTIO_NET_OK },
		{ VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, { 0x82, 0x07 }, 8,
		  VIRTIO_NET_ERR }, /* UFO is not offered */
		{ VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET,
		  { 2, 0, 0, 0, 0, 0, 0x40 }, 8, VIRTIO_NET_ERR }, /* USO4 was not accepted */
		{ VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, { 3 }, 8,
		  VIRTIO_NET_ERR }, /* CSUM is not the guest's */
		{ VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, { 2 }, 7,
		  VIRTIO_NET_ERR },
		{ VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, { 2 }, 9,
		  VIRTIO_NET_ERR },
		{ VIRTIO_NET_CTRL_GUEST_OFFLOADS, 1, { 2 }, 8, VIRTIO_NET_ERR },
		{ 6, 0, { 0 }, 1, VIRTIO_NET_ERR },
		{ 0xff, 0xff, { 0 }, 14, VIRTIO_NET_ERR },
	};
	struct net_test test;

	(void)state;
	assert_int_equal(make(&test, "loop,queues=2"), 0);
	vq_start(&test.guest, CONTROL | OFFLOADS | BIT(CSUM) | BIT(MQ));
	assert_int_equal(state_of(&test)->offloads, OFFLOADS);
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		const struct net_state before = *state_of(&test);

		assert_int_equal(command(&test, table[i].class, table[i].cmd, table[i].data,
					 table[i].len), table[i].ack);
		if (table[i].ack == VIRTIO_NET_ERR)
			assert_memory_equal(state_of(&test), &before, sizeof(before));
	}
	assert_int_equal(send_bytes(&test, 4, "", 1), VIRTIO_NET_ERR);
	assert_false(failed(&test));
	unmake(&test);
}

/* No room for the result, or no command. */
static void test_no_result(void **state)
{
	static const struct vq_buffer chains[] = { { COMMAND, 3, false }, { RESULT, 1, true } };
	struct net_test test;
	uint16_t head;

	(void)state;
	assert_int_equal(make(&test, "loop"), 0);
	vq_start(&test.guest, CONTROL);
	vq_post(&test.guest, 2, &chains[1], 1);
	kick(&test, 2);
	assert_true(vq_take(&test.guest, 2, &head, NULL));
	assert_int_equal(*at(&test, RESULT), VIRTIO_NET_ERR);
	assert_false(failed(&test));
	vq_post(&test.guest, 2, &chains[0], 1);
	kick(&test, 2);
	assert_true(failed(&test));
	unmake(&test);
}

/* What was not accepted cannot be ordered. */
static void test_not_accepted(void **state)
{
	static const struct {
		uint64_t feature;
		uint8_t class, cmd, data[8];
		size_t len;
	} table[] = {
		{ BIT(CTRL_RX), VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, { 1 }, 1 },
		{ BIT(CTRL_RX), VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, { 0 }, 8 },
		{ BIT(CTRL_RX_EXTRA), VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLUNI, { 1 }, 1 },
		{ BIT(CTRL_MAC_ADDR), VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, { 2 }, 6 },
		{ BIT(CTRL_VLAN), VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, { 1 }, 2 },
		{ BIT(GUEST_ANNOUNCE), VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, { 0 },
		  0 },
		{ BIT(MQ), VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, { 1 }, 2 },
		{ BIT(CTRL_GUEST_OFFLOADS), VIRTIO_NET_CTRL_GUEST_OFFLOADS,
		  VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, { 0 }, 8 },
	};
	struct net_test test;

	(void)state;
	assert_int_equal(make(&test, "loop,queues=2"), 0);
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		for (unsigned int accepted = 0; accepted < 2; accepted++) {
			uint64_t features = CONTROL | BIT(MQ);

			vq_start(&test.guest, accepted ? features : features & ~table[i].feature);
			assert_int_equal(command(&test, table[i].class, table[i].cmd, table[i].data,
						 table[i].len),
					 accepted ? VIRTIO_NET_OK : VIRTIO_NET_ERR);
			virtio_set_status(test.guest.dev, 0);
		}
	}
	/* Without a control queue there are no answers. */
	vq_start(&test.guest, 0);
	assert_int_equal(send_bytes(&test, 2, "\0\0\1", 3), NO_RESULT);
	unmake(&test);
}

/* Section 5.1.2: it is number 2 without VIRTIO_NET_F_MQ, and behind all pairs with it. */
static void test_control_index(void **state)
{
	static const uint8_t promisc[] = { VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0 };
	struct net_test test;

	(void)state;
	assert_int_equal(make(&test, "loop,queues=3"), 0);
	assert_int_equal(test.guest.dev->queue_count, 7);
	vq_start(&test.guest, CONTROL | BIT(MQ));
	assert_int_equal(send_bytes(&test, 6, promisc, sizeof(promisc)), VIRTIO_NET_OK);
	virtio_set_status(test.guest.dev, 0);
	vq_start(&test.guest, CONTROL);
	for (unsigned int i = 3; i < 7; i++)
		assert_int_equal(send_bytes(&test, i, promisc, sizeof(promisc)), NO_RESULT);
	assert_int_equal(send_bytes(&test, 2, promisc, sizeof(promisc)), VIRTIO_NET_OK);
	assert_false(failed(&test));
	unmake(&test);

	assert_int_equal(make(&test, "loop"), 0);
	assert_false(test.guest.dev->offered & BIT(MQ));
	unmake(&test);
}

/* A list of count addresses that end in their number. */
static size_t put_macs(uint8_t *at, uint32_t count, uint8_t first)
{
	memcpy(at, &count, sizeof(count));
	at += sizeof(count);
	memset(at, 0, count * ETH_ALEN);
	for (uint32_t i = 0; i < count; i++, at += ETH_ALEN) {
		at[0] = first;
		at[5] = (uint8_t)i;
	}
	return sizeof(count) + count * ETH_ALEN;
}

static void test_mac_table(void **state)
{
	static const struct {
		uint32_t unicast, multicast;
		unsigned int count;
		bool all;
	} table[] = {
		{ 0, 0, 0, false }, { 3, 2, 5, false }, { 60, 4, 64, false }, { 64, 0, 64, false },
		{ 60, 5, 60, true }, { 65, 1, 1, true }, { 300, 300, 0, true }, { 0, 1, 1, false },
	};
	struct net_test test;
	uint8_t data[4000];

	(void)state;
	assert_int_equal(make(&test, "loop"), 0);
	vq_start(&test.guest, CONTROL);
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		size_t len = put_macs(data, table[i].unicast, 2);
		const struct netdev_filter *filter = &state_of(&test)->filter;

		len += put_macs(data + len, table[i].multicast, 3);
		assert_int_equal(command(&test, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET,
					 data, len), VIRTIO_NET_OK);
		assert_int_equal(filter->mac_count, table[i].count);
		assert_int_equal(!!(filter->modes & NETDEV_MACS_ALL), table[i].all);
	}
	assert_int_equal(state_of(&test)->filter.macs[0][0], 3);
	unmake(&test);
}

/* A reset takes all of it back. */
static void test_control_reset(void **state)
{
	struct virtio_net_config before, after;
	const uint32_t len = offsetof(struct virtio_net_config, speed);
	struct net_state fresh;
	struct net_test test;

	(void)state;
	assert_int_equal(make(&test, "loop,queues=2"), 0);
	virtio_config_read(test.guest.dev, 0, &before, len);
	assert_int_equal(before.max_virtqueue_pairs, 2);
	assert_int_equal(before.status, VIRTIO_NET_S_LINK_UP);
	fresh = *state_of(&test);
	vq_start(&test.guest, CONTROL | BIT(MQ));
	assert_int_equal(command(&test, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, "", 1), 0);
	assert_int_equal(command(&test, VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, "\5", 2), 0);
	assert_int_equal(command(&test, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, "\2", 2),
			 0);
	assert_int_equal(command(&test, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET,
				 "\2\1\2\3\4\5", 6), 0);
	virtio_config_read(test.guest.dev, 0, &after, len);
	assert_memory_equal(after.mac, "\2\1\2\3\4\5", 6);
	assert_int_equal(state_of(&test)->pairs, 2);
	virtio_set_status(test.guest.dev, 0);
	virtio_config_read(test.guest.dev, 0, &after, len);
	assert_memory_equal(&after, &before, len);
	assert_memory_equal(state_of(&test), &fresh, sizeof(fresh));
	unmake(&test);
}

/* ---- save and load ---- */

static void save(struct net_test *test, struct state *ret_state)
{
	*ret_state = (struct state){ 0 };
	virtio_dev_pause(test->guest.dev);
	assert_int_equal(virtio_dev_save(test->guest.dev, ret_state), 0);
}

static int load(struct net_test *test, const struct state *state)
{
	return virtio_dev_load(test->guest.dev,
			       &(struct state_reader){ .data = state->data, .left = state->len });
}

/* The other device has what this one had, and the guest is asked to say where it is now. */
static void test_save_load(void **state)
{
	struct net_test test, other;
	struct state first, second;
	uint8_t data[100];
	size_t len = put_macs(data, 2, 2);

	(void)state;
	len += put_macs(data + len, 1, 3);
	assert_int_equal(make(&test, "loop,queues=2"), 0);
	vq_start(&test.guest, CONTROL | BIT(GUEST_CSUM) | BIT(MQ) | MERGE);
	assert_int_equal(command(&test, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, "", 1), 0);
	assert_int_equal(command(&test, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLUNI, "\1", 1), 0);
	assert_int_equal(command(&test, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, data, len),
			 0);
	assert_int_equal(command(&test, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET,
				 "\2\1\2\3\4\5", 6), 0);
	assert_int_equal(command(&test, VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, "\5", 2), 0);
	assert_int_equal(command(&test, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, "\2", 2),
			 0);
	assert_int_equal(command(&test, VIRTIO_NET_CTRL_GUEST_OFFLOADS,
				 VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, "\2\0\0\0\0\0\0", 8), 0);
	post_receive(&test, 0, 2048);
	kick(&test, RX);
	save(&test, &first);

	assert_int_equal(make(&other, "loop,queues=2"), 0);
	memcpy(vq_ptr(&other.guest, VQ_RAM_BASE, 1), vq_ptr(&test.guest, VQ_RAM_BASE, 1), VQ_RAM_SIZE);
	assert_int_equal(load(&other, &first), 0);
	save(&other, &second);
	assert_int_equal(first.len, second.len);
	assert_memory_equal(first.data, second.data, first.len);
	assert_memory_equal(state_of(&other), state_of(&test), sizeof(struct net_state));
	virtio_dev_resume(other.guest.dev);
	assert_int_equal(link_status(&other), VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
	assert_int_equal(other.guest.config_interrupts, 1);
	assert_int_equal(state_of(&other)->pairs, 2);

	/* Where it was it goes on as if nothing had been. */
	virtio_dev_resume(test.guest.dev);
	assert_int_equal(link_status(&test), VIRTIO_NET_S_LINK_UP);
	post_frame(&test, 100, 20);
	kick(&test, TX);
	assert_int_equal(take(&test, RX), 100 + HEADER);
	state_free(&first);
	state_free(&second);
	unmake(&other);
	unmake(&test);
}

static void test_announce(void **state)
{
	struct net_test test;
	struct state saved;

	(void)state;
	assert_int_equal(make(&test, "loop"), 0);
	vq_start(&test.guest, CONTROL);
	save(&test, &saved);
	virtio_dev_free(test.guest.dev);
	assert_int_equal(virtio_dev_new(&net_class, 0, test.guest.conf, &test.guest.host,
					&test.guest.dev), 0);
	test.guest.dev->transport = &test.guest.transport;
	assert_int_equal(load(&test, &saved), 0);
	virtio_dev_resume(test.guest.dev);
	assert_int_equal(link_status(&test), VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
	assert_int_equal(command(&test, VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, NULL,
				 0), VIRTIO_NET_OK);
	assert_int_equal(link_status(&test), VIRTIO_NET_S_LINK_UP);
	assert_int_equal(test.guest.config_interrupts, 2);
	/* Once is enough. */
	virtio_dev_pause(test.guest.dev);
	virtio_dev_resume(test.guest.dev);
	assert_int_equal(link_status(&test), VIRTIO_NET_S_LINK_UP);
	state_free(&saved);
	unmake(&test);
}

/* The state is the end of a save; each change makes it one that cannot be. */
static void test_bad_load(void **state)
{
	static const struct {
		size_t offset;
		uint8_t value;
	} table[] = {
		{ offsetof(struct net_state, offloads), 0xff },
		{ offsetof(struct net_state, offloads) + 7, 0x80 },
		{ offsetof(struct net_state, pairs), 0 },
		{ offsetof(struct net_state, pairs), 3 },
		{ offsetof(struct net_state, pairs) + 3, 1 },
		{ offsetof(struct net_state, status), 4 },
		{ offsetof(struct net_state, filter.mac_count), NETDEV_MACS_MAX + 1 },
		{ offsetof(struct net_state, filter.mac), 3 },
	};
	struct net_test test;
	struct state saved;

	(void)state;
	assert_int_equal(make(&test, "loop,queues=2"), 0);
	save(&test, &saved);
	unmake(&test);
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		uint8_t *byte = saved.data + saved.len - sizeof(struct net_state) + table[i].offset;
		const uint8_t right = *byte;

		assert_int_equal(make(&test, "loop,queues=2"), 0);
		*byte = table[i].value;
		assert_int_equal(load(&test, &saved), -EINVAL);
		*byte = right;
		assert_int_equal(load(&test, &saved), 0);
		unmake(&test);
	}
	state_free(&saved);
}

/* ---- several pairs ---- */

/* What is sent on a pair comes back on it; each has counters and a worker of its own. */
static void test_pairs(void **state)
{
	struct net_test test;

	(void)state;
	assert_int_equal(make(&test, "loop,queues=2"), 0);
	vq_start(&test.guest, CONTROL | BIT(MQ));
	assert_int_equal(command(&test, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, "\2", 2),
			 0);
	for (unsigned int pair = 0; pair < 2; pair++) {
		vq_post(&test.guest, 2 * pair + RX, &(struct vq_buffer){ BUFFER(pair), 2048, true },
			1);
		kick(&test, 2 * pair + RX);
	}
	for (unsigned int pair = 2; pair-- > 0;) {
		netns_frame(test.frame, 200, (uint8_t)pair);
		memset(at(&test, OUTGOING), 0, HEADER);
		memcpy(at(&test, OUTGOING) + HEADER, test.frame, 200);
		vq_post(&test.guest, 2 * pair + TX,
			&(struct vq_buffer){ OUTGOING, 200 + HEADER, false }, 1);
		kick(&test, 2 * pair + TX);
		assert_int_equal(take(&test, 2 * pair + RX), 200 + HEADER);
		assert_memory_equal(at(&test, BUFFER(pair)) + HEADER, test.frame, 200);
	}
	assert_int_equal(counter(&test, "tx_packets"), 2);
	assert_int_equal(counter(&test, "rx_packets"), 2);
	assert_ptr_not_equal(test.guest.dev->queues[0].worker, test.guest.dev->queues[2].worker);
	unmake(&test);
}

/* As many as there can be, with the control queue behind them. */
static void test_sixteen_pairs(void **state)
{
	struct net_test test;

	(void)state;
	assert_int_equal(make(&test, "loop,queues=16"), 0);
	assert_int_equal(test.guest.dev->queue_count, 33);
	vq_start(&test.guest, CONTROL | BIT(MQ));
	assert_int_equal(command(&test, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, "\20", 2),
			 VIRTIO_NET_OK);
	assert_int_equal(command(&test, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, "\21", 2),
			 VIRTIO_NET_ERR);
	vq_post(&test.guest, 30 + RX, &(struct vq_buffer){ BUFFER(0), 2048, true }, 1);
	kick(&test, 30 + RX);
	netns_frame(test.frame, 200, 1);
	memset(at(&test, OUTGOING), 0, HEADER);
	memcpy(at(&test, OUTGOING) + HEADER, test.frame, 200);
	vq_post(&test.guest, 30 + TX, &(struct vq_buffer){ OUTGOING, 200 + HEADER, false }, 1);
	kick(&test, 30 + TX);
	assert_int_equal(take(&test, 30 + RX), 200 + HEADER);
	unmake(&test);
}

/* One queue is reset and comes back, while the others run. */
static void test_queue_reset(void **state)
{
	struct net_test test;

	(void)state;
	assert_int_equal(make(&test, "loop"), 0);
	vq_start(&test.guest, MERGE | 1ULL << VIRTIO_F_RING_RESET);
	for (unsigned int i = 0; i < 4; i++)
		post_receive(&test, i, 1600);
	kick(&test, RX);
	virtio_reset_queue(test.guest.dev, RX);
	vq_turn(&test.guest);
	assert_false(virtio_queue_resetting(test.guest.dev, RX));
	post_frame(&test, 100, 21);
	kick(&test, TX);
	take(&test, TX);
	assert_true(sleeps(&test));
	assert_int_equal(counter(&test, "rx_no_buffers"), 0);
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(at(&test, BUFFER(i))[0], 0xee);
	vq_set_up_queue(&test.guest, RX);
	post_receive(&test, 7, 1600);
	kick(&test, RX);
	assert_int_equal(take(&test, RX), 100 + HEADER);
	assert_memory_equal(at(&test, BUFFER(7)) + HEADER, test.frame, 100);
	assert_false(failed(&test));
	unmake(&test);
}

/* While the netdev has no room what is sent waits in the ring, and costs nothing. */
static void test_no_room(void **state)
{
	struct net_test test;
	unsigned int sent = 0, returned = 0, received = 0;
	uint16_t head;

	(void)state;
	assert_int_equal(make(&test, "loop"), 0);
	vq_start(&test.guest, 0);
	while (returned == sent) {
		post_frame(&test, 1000, 22);
		sent++;
		kick(&test, TX);
		while (vq_take(&test.guest, TX, &head, NULL))
			returned++;
		assert_in_range(sent, 1, 100000);
	}
	post_frame(&test, 1000, 22);
	sent++;
	kick(&test, TX);
	assert_true(sleeps(&test));
	while (received < sent) {
		post_receive(&test, received % VQ_SIZE, 2048);
		kick(&test, RX);
		assert_int_equal(take(&test, RX), 1000 + HEADER);
		received++;
	}
	while (vq_take(&test.guest, TX, &head, NULL))
		returned++;
	assert_int_equal(returned, sent);
	assert_int_equal(counter(&test, "tx_packets"), sent);
	assert_int_equal(counter(&test, "tx_dropped"), 0);
	unmake(&test);
}

/* The same when it comes before the worker had time to ask for a doorbell. */
static void test_no_room_at_once(void **state)
{
	struct net_test test;
	uint16_t head;

	(void)state;
	assert_int_equal(make(&test, "loop"), 0);
	vq_start(&test.guest, 0);
	for (unsigned int sent = 0; sent < 100000; sent++) {
		post_frame(&test, 1000, 22);
		virtio_kick(&test.guest.dev->queues[TX]);
		virtq_publish(&test.guest.dev->queues[TX]);
		if (!vq_take(&test.guest, TX, &head, NULL))
			break;
	}
	/* What came back finds no buffers, and that is all. */
	assert_int_equal(vq_wait(&test.guest), 1);
	assert_true(sleeps(&test));
	unmake(&test);
}

/* A worker that looks for buffers which came for no packet finds them once. */
static void test_found_once(void **state)
{
	struct net_test test;
	struct loop *loop;

	(void)state;
	assert_int_equal(make(&test, "loop"), 0);
	loop = &test.guest.dev->workers[0].loop;
	vq_start(&test.guest, 0);
	post_receive(&test, 0, 2048);
	kick(&test, RX);
	post_frame(&test, 100, 25);
	kick(&test, TX);
	assert_int_equal(take(&test, RX), 100 + HEADER);
	virtio_kick(&test.guest.dev->queues[RX]);
	post_receive(&test, 1, 2048);
	assert_true(loop->look(loop->opaque, false));
	assert_false(loop->look(loop->opaque, false));
	unmake(&test);
}

/* The driver never sees a part of a packet, which has 64 buffers below. */
static void raise_whole_packets(struct transport *transport, unsigned int queue)
{
	struct vq_guest *guest = (struct vq_guest *)(void *)transport;
	const struct vring_used *used = (const void *)guest->dev->queues[queue].device;

	guest->queue_interrupts[queue]++;
	if (queue == RX)
		assert_int_equal(used->idx % 64, 0);
}

/* Rings as large as there are, of buffers as small as can be: a window has a bound of its own. */
static void test_large_ring(void **state)
{
	const uint16_t size = 32768;
	struct virtq_layout layout = { .size = size, .ready = true };
	struct net_test test;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;

	(void)state;
	assert_int_equal(make(&test, "loop,queue-size=32768"), 0);
	assert_int_equal(virtio_queue_max(test.guest.dev, RX), size);
	test.guest.transport.raise_queue = raise_whole_packets;
	vq_start(&test.guest, MERGE | OFFLOADS | 1ULL << VIRTIO_F_RING_RESET |
				      1ULL << VIRTIO_RING_F_EVENT_IDX);
	virtio_reset_queue(test.guest.dev, RX);
	layout.desc = vq_alloc(&test.guest, size * sizeof(*desc));
	layout.driver = vq_alloc(&test.guest, sizeof(*avail) + (size + 1) * 2);
	layout.device = vq_alloc(&test.guest, sizeof(*used) + size * sizeof(used->ring[0]) + 2);
	desc = vq_ptr(&test.guest, layout.desc, 1);
	avail = vq_ptr(&test.guest, layout.driver, 1);
	used = vq_ptr(&test.guest, layout.device, 1);
	for (unsigned int i = 0; i < size; i++) {
		desc[i] = (struct vring_desc){ BUFFER(0) + i * 16, 16, VRING_DESC_F_WRITE, 0 };
		avail->ring[i] = (uint16_t)i;
	}
	avail->idx = size;
	virtio_set_queue(test.guest.dev, RX, &layout);
	for (unsigned int i = 0; i < 3; i++) {
		post_frame(&test, 1000, (uint8_t)i);
		kick(&test, TX);
		take(&test, TX);
		assert_int_equal(used->idx, (i + 1) * 64);
		assert_memory_equal(at(&test, BUFFER(0) + i * KIB(1)) + HEADER, test.frame, 1000);
		assert_int_equal(at(&test, BUFFER(0) + i * KIB(1))[10], 64);
	}
	assert_true(test.guest.queue_interrupts[RX] > 0);
	assert_false(failed(&test));
	unmake(&test);
}

/* ---- the cable ---- */

static void loop_frame(struct net_test *test, size_t len, uint8_t seed)
{
	post_frame(test, len, seed);
	kick(test, TX);
	take(test, TX);
}

/* A person pulls it: nothing goes either way, and what went is not there when it is plugged in again. */
static int cable_child(void)
{
	struct net_test test;

	CHILD_CHECK(make(&test, "tap0") == 0);
	vq_start(&test.guest, BIT(STATUS) | MERGE);
	for (unsigned int i = 0; i < 4; i++)
		post_receive(&test, i, 1600);
	kick(&test, RX);
	CHILD_CHECK(virtio_dev_set_link(test.guest.dev, false) == 0);
	CHILD_CHECK(virtio_dev_set_link(test.guest.dev, false) == 0);
	CHILD_CHECK(link_status(&test) == 0 && test.guest.config_interrupts == 1);
	arrive(&test, 1000, 1);
	loop_frame(&test, 100, 2);
	CHILD_CHECK(idle(&test, RX));
	CHILD_CHECK(counter(&test, "rx_dropped") == 1 && counter(&test, "tx_dropped") == 1);
	/* A reset of the driver's plugs nothing in. */
	virtio_set_status(test.guest.dev, 0);
	CHILD_CHECK(link_status(&test) == 0);
	vq_start(&test.guest, BIT(STATUS) | MERGE);
	for (unsigned int i = 0; i < 4; i++)
		post_receive(&test, i, 1600);
	kick(&test, RX);
	CHILD_CHECK(virtio_dev_set_link(test.guest.dev, true) == 0);
	CHILD_CHECK(link_status(&test) == VIRTIO_NET_S_LINK_UP);
	arrive(&test, 200, 3);
	CHILD_CHECK(take(&test, RX) == 200 + HEADER);
	CHILD_CHECK(!memcmp(at(&test, BUFFER(0)) + HEADER, test.frame, 200));
	CHILD_CHECK(counter(&test, "rx_packets") == 1 && counter(&test, "tx_packets") == 0);

	netns_delete("tap0");
	vq_turn(&test.guest);
	CHILD_CHECK(virtio_dev_set_link(test.guest.dev, true) == -ENODEV);
	CHILD_CHECK(link_status(&test) == 0);
	unmake(&test);
	return 0;
}

/* A save knows whether the cable is pulled, and nothing else of the link. */
static void test_cable_is_saved(void **state)
{
	struct state saved;
	struct net_test test;

	(void)state;
	for (int up = 0; up < 2; up++) {
		assert_int_equal(make(&test, "loop"), 0);
		vq_start(&test.guest, BIT(STATUS));
		assert_int_equal(virtio_dev_set_link(test.guest.dev, up), 0);
		save(&test, &saved);
		unmake(&test);
		assert_int_equal(make(&test, "loop"), 0);
		assert_int_equal(load(&test, &saved), 0);
		virtio_dev_resume(test.guest.dev);
		assert_int_equal(link_status(&test), up ? VIRTIO_NET_S_LINK_UP : 0);
		assert_int_equal(virtio_dev_set_link(test.guest.dev, true), 0);
		assert_int_equal(link_status(&test), VIRTIO_NET_S_LINK_UP);
		state_free(&saved);
		unmake(&test);
	}
}

/* ---- limits ---- */

/* Sends and receives count packets; in the end all are there, and some have waited. */
static void expect_throttled(const char *options, const char *which, size_t len)
{
	const unsigned int count = 12;
	unsigned int sent = 0, returned = 0, received = 0;
	struct net_test test;
	uint16_t head;

	assert_int_equal(make(&test, options), 0);
	vq_start(&test.guest, 0);
	for (unsigned int i = 0; i < count; i++)
		post_receive(&test, i, 2048);
	kick(&test, RX);
	while (received < count) {
		if (sent < count && sent == returned) {
			post_frame(&test, len, (uint8_t)sent++);
			vq_notify(&test.guest, TX);
		}
		assert_true(vq_wait(&test.guest) > 0);
		while (vq_take(&test.guest, TX, &head, NULL))
			returned++;
		while (vq_take(&test.guest, RX, &head, NULL))
			received++;
	}
	assert_true(counter(&test, which) > 0);
	assert_int_equal(counter(&test, "rx_packets"), count);
	assert_int_equal(counter(&test, "tx_packets"), count);
	assert_int_equal(counter(&test, "tx_dropped"), 0);
	unmake(&test);
}

static void test_limits(void **state)
{
	(void)state;
	expect_throttled("loop,tx-pps=50,tx-pps-burst=1", "tx_throttled", 100);
	expect_throttled("loop,rx-pps=50,rx-pps-burst=1", "rx_throttled", 100);
	expect_throttled("loop,tx-bw=50K,tx-bw-burst=2K", "tx_throttled", 1500);
	expect_throttled("loop,rx-bw=50K,rx-bw-burst=2K", "rx_throttled", 1500);
}

/* Whoever waits for a limit is stopped and started as anybody is. */
static void test_limit_and_reset(void **state)
{
	struct net_test test;
	uint16_t head;

	(void)state;
	assert_int_equal(make(&test, "loop,tx-pps=20,tx-pps-burst=1"), 0);
	vq_start(&test.guest, 0);
	while (!counter(&test, "tx_throttled")) {
		post_frame(&test, 100, 1);
		kick(&test, TX);
		vq_take(&test.guest, TX, &head, NULL);
	}
	virtio_set_status(test.guest.dev, 0);
	/* The timer's. */
	assert_int_equal(vq_wait(&test.guest), 1);
	assert_true(sleeps(&test));
	vq_start(&test.guest, 0);
	post_frame(&test, 100, 2);
	vq_notify(&test.guest, TX);
	while (!vq_take(&test.guest, TX, &head, NULL))
		assert_true(vq_wait(&test.guest) > 0);
	unmake(&test);
}

/* ---- with a peer on a stream socket ---- */

struct peer_test {
	struct net_test net;
	int peer;
};

static void make_peer(struct peer_test *test, const char *more)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char options[200];

	snprintf(address.sun_path, sizeof(address.sun_path), "/tmp/net.%d", getpid());
	snprintf(options, sizeof(options), "user,socket=%s%s", address.sun_path, more);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(make(&test->net, options), 0);
	test->peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(test->peer >= 0);
	close(listener);
	unlink(address.sun_path);
}

static void unmake_peer(struct peer_test *test)
{
	util_closep(&test->peer);
	unmake(&test->net);
}

static void peer_sends(struct peer_test *test, size_t len, uint8_t seed)
{
	const uint32_t prefix = htobe32((uint32_t)len);

	netns_frame(test->net.frame, len, seed);
	assert_int_equal(write(test->peer, &prefix, sizeof(prefix)), sizeof(prefix));
	assert_int_equal(write(test->peer, test->net.frame, len), len);
	vq_turn(&test->net.guest);
}

static void test_peer(void **state)
{
	struct peer_test test;
	struct net_test *net = &test.net;
	uint8_t got[2000];

	(void)state;
	make_peer(&test, "");
	assert_false(net->guest.dev->offered & (OFFLOADS | BIT(CSUM) | BIT(HOST_TSO4) | BIT(HOST_USO) |
						BIT(CTRL_GUEST_OFFLOADS)));
	assert_true(net->guest.dev->offered & MERGE);
	vq_start(&net->guest, MERGE | BIT(STATUS));
	/* Its frames may be of 64 KiB, so the window has as much room, or all that there is. */
	for (unsigned int i = 0; i < VQ_SIZE; i++)
		post_receive(net, i, 512);
	kick(net, RX);
	peer_sends(&test, 1000, 1);
	assert_int_equal(take(net, RX), 512);
	assert_int_equal(take(net, RX), 1000 + HEADER - 512);
	assert_memory_equal(at(net, BUFFER(0)) + HEADER, net->frame, 500);
	assert_memory_equal(at(net, BUFFER(1)), net->frame + 500, 500);
	assert_int_equal(at(net, BUFFER(0))[10], 2);
	post_frame(net, 700, 2);
	kick(net, TX);
	take(net, TX);
	assert_int_equal(read(test.peer, got, sizeof(got)), 704);
	assert_memory_equal(got, "\0\0\2\xbc", 4);
	assert_memory_equal(got + 4, net->frame, 700);
	assert_int_equal(counter(net, "tx_bytes"), 700);

	/* It ends: the guest's link is down, and that is all. */
	util_closep(&test.peer);
	vq_turn(&net->guest);
	assert_int_equal(link_status(net), 0);
	assert_true(sleeps(net));
	loop_frame(net, 100, 3);
	assert_int_equal(counter(net, "tx_dropped"), 1);
	assert_false(failed(net));
	unmake_peer(&test);
}

/* Sends packets of len bytes until one has to wait. Returns how many did not. */
static unsigned int fill_peer(struct net_test *net, size_t len)
{
	unsigned int sent = 0, returned = 0;
	uint16_t head;

	memset(vq_ptr(&net->guest, OUTGOING, HEADER + len), 0x55, HEADER + len);
	while (returned == sent) {
		vq_post(&net->guest, TX, &(struct vq_buffer){ OUTGOING, (uint32_t)(HEADER + len), false },
			1);
		sent++;
		kick(net, TX);
		while (vq_take(&net->guest, TX, &head, NULL))
			returned++;
		assert_true(sent < 1000);
	}
	return returned;
}

/* However often the device looks whether there is room. */
static void test_peer_is_paid_once(void **state)
{
	struct peer_test test;

	(void)state;
	make_peer(&test, ",tx-pps=1,tx-pps-burst=100");
	vq_start(&test.net.guest, 0);
	assert_in_range(fill_peer(&test.net, 60000), 1, 50);
	for (unsigned int i = 0; i < 200; i++)
		kick(&test.net, TX);
	assert_int_equal(counter(&test.net, "tx_throttled"), 0);
	unmake_peer(&test);
}

/* What the peer has no room for waits in the ring; what was begun is sent, reset or not. */
static void test_peer_is_slow(void **state)
{
	const size_t len = 60000;
	struct peer_test test;
	struct net_test *net = &test.net;
	unsigned int returned;
	uint8_t *got = malloc(4 + len);
	size_t at_byte = 0, rest = 0;

	(void)state;
	make_peer(&test, "");
	vq_start(&net->guest, 0);
	returned = fill_peer(net, len);
	assert_true(sleeps(net));
	/* Without any queue, and with other bytes where the packet was. */
	virtio_set_status(net->guest.dev, 0);
	memset(vq_ptr(&net->guest, OUTGOING, HEADER + len), 0xaa, HEADER + len);
	for (unsigned int i = 0; i < returned; i++) {
		for (at_byte = 0; at_byte < 4 + len; at_byte += rest) {
			ssize_t n = recv(test.peer, got + at_byte, 4 + len - at_byte, MSG_DONTWAIT);

			rest = n > 0 ? (size_t)n : 0;
			assert_true(n > 0 || vq_wait(&net->guest) > 0);
		}
		assert_memory_equal(got, "\0\0\xea\x60", 4);
		for (size_t j = 4; j < 4 + len; j++)
			assert_int_equal(got[j], 0x55);
	}
	assert_int_equal(recv(test.peer, got, 1, MSG_DONTWAIT), -1);
	vq_start(&net->guest, 0);
	post_frame(net, 100, 1);
	kick(net, TX);
	take(net, TX);
	assert_int_equal(read(test.peer, got, 1000), 104);
	free(got);
	unmake_peer(&test);
}

/* A reset in the middle of a frame: its rest goes nowhere, the next one is whole. */
static void test_peer_and_reset(void **state)
{
	struct peer_test test;
	struct net_test *net = &test.net;

	(void)state;
	make_peer(&test, "");
	vq_start(&net->guest, 0);
	post_receive(net, 0, 2048);
	kick(net, RX);
	assert_int_equal(write(test.peer, "\0\0\0\x64 and ten.", 13), 13);
	vq_turn(&net->guest);
	assert_int_equal(at(net, BUFFER(0))[HEADER], ' ');
	virtio_set_status(net->guest.dev, 0);
	memset(at(net, BUFFER(0)), 0xee, 4096);
	assert_int_equal(write(test.peer, net->frame, 91), 91);
	vq_start(&net->guest, 0);
	post_receive(net, 1, 2048);
	kick(net, RX);
	peer_sends(&test, 300, 4);
	assert_int_equal(take(net, RX), 300 + HEADER);
	assert_memory_equal(at(net, BUFFER(1)) + HEADER, net->frame, 300);
	assert_int_equal(at(net, BUFFER(0))[HEADER], 0xee);
	assert_true(idle(net, RX));
	unmake_peer(&test);
}

/* While the cable is pulled the peer's frames are thrown away, whole ones. */
static void test_peer_and_cable(void **state)
{
	struct peer_test test;
	struct net_test *net = &test.net;

	(void)state;
	make_peer(&test, "");
	vq_start(&net->guest, 0);
	post_receive(net, 0, 2048);
	kick(net, RX);
	assert_int_equal(virtio_dev_set_link(net->guest.dev, false), 0);
	peer_sends(&test, 1000, 5);
	peer_sends(&test, 60, 6);
	assert_int_equal(counter(net, "rx_dropped"), 2);
	assert_int_equal(virtio_dev_set_link(net->guest.dev, true), 0);
	peer_sends(&test, 61, 7);
	assert_int_equal(take(net, RX), 61 + HEADER);
	assert_memory_equal(at(net, BUFFER(0)) + HEADER, net->frame, 61);
	unmake_peer(&test);
}

/* ---- with a tap ---- */

/* The guest's orders reach the kernel, through the filter of the thread that they came to. */
static int filtered_child(void)
{
	static const uint64_t features[] = { CONTROL, CONTROL | BIT(MQ) | OFFLOADS };
	struct net_test test;
	uint8_t got[2000];
	uint16_t head;

	child_needs_filters();
	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		const unsigned int queue = features[i] & BIT(MQ) ? 4 : 2;
		static const uint8_t orders[][10] = {
			{ VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 2, 0 },
			{ VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, 0 },
			{ VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, 7, 0 },
			{ VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOBCAST, 1 },
			{ VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0 },
		};
		static const size_t lens[] = { 4, 10, 4, 3, 3 };

		CHILD_CHECK(make(&test, "tap0,queues=2,mac=02:00:00:00:00:aa") == 0);
		CHILD_CHECK(vq_run(&test.guest, true) == 0);
		vq_start(&test.guest, features[i]);
		for (size_t j = 0; j < ARRAY_SIZE(orders); j++) {
			post_command(&test, queue, orders[j], lens[j]);
			while (!vq_take(&test.guest, queue, &head, NULL))
				usleep(1000);
			CHILD_CHECK(*at(&test, RESULT) ==
				    (j || features[i] & BIT(MQ) ? VIRTIO_NET_OK : VIRTIO_NET_ERR));
		}
		/* Back to one pair, so that it is known where a packet comes. */
		post_command(&test, queue, "\4\0\1", 4);
		while (!vq_take(&test.guest, queue, &head, NULL))
			usleep(1000);
		post_receive(&test, 0, 2048);
		vq_notify(&test.guest, RX);
		netns_frame(test.frame, 100, 23);
		CHILD_CHECK(send(test.sock, test.frame, 100, 0) == 100);
		memcpy(test.frame, "\2\0\0\0\0\xaa\2\0\0\0\0\1\x81\0\0\x8", 16);
		CHILD_CHECK(send(test.sock, test.frame, 100, 0) == 100);
		test.frame[15] = 7;
		CHILD_CHECK(send(test.sock, test.frame, 100, 0) == 100);
		while (!vq_take(&test.guest, RX, &head, NULL))
			usleep(1000);
		CHILD_CHECK(!memcmp(at(&test, BUFFER(0)) + HEADER, test.frame, 100));
		post_frame(&test, 100, 24);
		vq_notify(&test.guest, TX);
		CHILD_CHECK(netns_receive(test.sock, got, sizeof(got)) == 100);
		CHILD_CHECK(!failed(&test));
		unmake(&test);
	}
	return 0;
}

/* On its own thread, behind its filter, both ways. */
static int confined_child(void)
{
	struct net_test test;
	uint8_t got[2000];
	uint16_t head;
	int tries;

	child_needs_filters();
	CHILD_CHECK(make(&test, "tap0") == 0);
	CHILD_CHECK(vq_run(&test.guest, true) == 0);
	vq_start(&test.guest, MERGE | 1ULL << VIRTIO_NET_F_GUEST_CSUM);
	for (unsigned int i = 0; i < 4; i++)
		post_receive(&test, i, 2048);
	vq_notify(&test.guest, RX);
	post_frame(&test, 100, 18);
	vq_notify(&test.guest, TX);
	CHILD_CHECK(netns_receive(test.sock, got, sizeof(got)) == 100);
	netns_frame(test.frame, 100, 19);
	CHILD_CHECK(send(test.sock, test.frame, 100, 0) == 100);
	for (tries = 0; tries < 1000 && !vq_take(&test.guest, RX, &head, NULL); tries++)
		usleep(10000);
	CHILD_CHECK(tries < 1000);
	CHILD_CHECK(!memcmp(at(&test, BUFFER(0)) + HEADER, test.frame, 100));
	unmake(&test);
	return 0;
}

/* ---- with the kernel's vhost ---- */

static int make_vhost(struct net_test *test, const char *options)
{
	if (access("/dev/vhost-net", R_OK | W_OK) < 0)
		return child_lacks("/dev/vhost-net for this user");
	CHILD_CHECK(make(test, options) == 0);
	return 0;
}

/* Until there is a used buffer of the queue, be it the kernel that returns it, or a turn of ours. */
static uint32_t await(struct net_test *test, unsigned int queue)
{
	uint16_t head;
	uint32_t len;
	int ms = 0;

	for (vq_turn(&test->guest); !vq_take(&test->guest, queue, &head, &len); vq_turn(&test->guest)) {
		CHILD_CHECK(ms++ < VQ_WAIT_MS);
		usleep(1000);
	}
	return len;
}

static void vhost_receive(struct net_test *test, unsigned int i, uint8_t seed)
{
	post_receive(test, i, 2048);
	vq_notify(&test->guest, RX);
	netns_frame(test->frame, 200, seed);
	CHILD_CHECK(send(test->sock, test->frame, 200, 0) == 200);
	CHILD_CHECK(await(test, RX) == 200 + HEADER);
	CHILD_CHECK(!memcmp(at(test, BUFFER(i)) + HEADER, test->frame, 200));
}

static void vhost_send(struct net_test *test, uint8_t seed)
{
	uint8_t got[2000];

	post_frame(test, 300, seed);
	kick(test, TX);
	CHILD_CHECK(netns_receive(test->sock, got, sizeof(got)) == 300);
	CHILD_CHECK(!memcmp(got, test->frame, 300));
	await(test, TX);
}

/* Both ways, each time after the queues came back: by a reset, by one of a queue, by a pause. */
static int vhost_child(void)
{
	static const uint64_t features[] = { 0, MERGE | 1ULL << VIRTIO_RING_F_EVENT_IDX };
	struct net_test test;
	int lacks = make_vhost(&test, "tap0,vhost=on");

	if (lacks)
		return lacks;
	CHILD_CHECK(!strcmp(test.guest.dev->served_by, "vhost-net"));
	CHILD_CHECK(counter(&test, "rx_packets") == UINT64_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		vq_start(&test.guest, features[i] | 1ULL << VIRTIO_F_RING_RESET);
		for (uint8_t seed = 1; seed < 2 * VQ_SIZE + 3; seed++) {
			vhost_receive(&test, seed % VQ_SIZE, seed);
			vhost_send(&test, seed);
		}
		virtio_reset_queue(test.guest.dev, RX);
		CHILD_CHECK(!virtio_queue_resetting(test.guest.dev, RX));
		vq_set_up_queue(&test.guest, RX);
		vhost_receive(&test, 0, 50);
		virtio_dev_pause(test.guest.dev);
		CHILD_CHECK(test.guest.dev->queues[RX].position.next_used == 1);
		CHILD_CHECK(test.guest.dev->queues[TX].position.next_used == 2 * VQ_SIZE + 2);
		/* What comes meanwhile waits. */
		post_frame(&test, 100, 51);
		vq_notify(&test.guest, TX);
		vq_turn(&test.guest);
		CHILD_CHECK(idle(&test, TX));
		virtio_dev_resume(test.guest.dev);
		await(&test, TX);
		CHILD_CHECK(netns_receive(test.sock, (uint8_t[2000]){ 0 }, 2000) == 100);
		vhost_receive(&test, 1, 52);
		vhost_send(&test, 53);
		/* While the cable is pulled what comes is dropped, and what is sent. */
		CHILD_CHECK(virtio_dev_set_link(test.guest.dev, false) == 0);
		arrive(&test, 100, 54);
		post_frame(&test, 100, 55);
		vq_notify(&test.guest, TX);
		await(&test, TX);
		CHILD_CHECK(virtio_dev_set_link(test.guest.dev, true) == 0);
		vhost_receive(&test, 2, 56);
		vhost_send(&test, 57);
		vq_reset(&test.guest);
	}
	CHILD_CHECK(test.guest.queue_interrupts[RX] > 0 && !failed(&test));
	unmake(&test);
	return 0;
}

/* A save goes on without it, and one without it goes on with it. */
static int vhost_save_child(void)
{
	struct net_test test;
	struct state saved;
	int lacks = make_vhost(&test, "tap0,vhost=on");
	uint8_t seed = 1;

	if (lacks)
		return lacks;
	vq_start(&test.guest, MERGE);
	for (unsigned int i = 0; i < 4; i++) {
		const char *next = i % 2 ? "tap0,vhost=on" : "tap0,vhost=off";
		struct vq_guest *guest = &test.guest;
		void *conf = guest->conf;

		vhost_receive(&test, i, seed++);
		vhost_send(&test, seed++);
		save(&test, &saved);
		close(test.sock);
		virtio_dev_free(guest->dev);
		guest->conf = calloc(1, net_class.conf_size);
		CHILD_CHECK(opt_parse(net_class.opts, next, guest->conf, &(struct opt_error){ 0 }) == 0);
		CHILD_CHECK(vq_plug(guest, guest->conf) == 0);
		opt_free(net_class.opts, conf);
		free(conf);
		CHILD_CHECK(load(&test, &saved) == 0);
		test.sock = netns_socket("tap0");
		virtio_dev_resume(guest->dev);
		state_free(&saved);
	}
	CHILD_CHECK(!failed(&test));
	unmake(&test);
	return 0;
}

/* Only pairs that are in use have packets; each has its vhost, on its own confined thread. */
static int vhost_pairs_child(void)
{
	struct net_test test;
	uint16_t head;
	int lacks;

	child_needs_filters();
	lacks = make_vhost(&test, "tap0,vhost=on,queues=4");
	if (lacks)
		return lacks;
	CHILD_CHECK(vq_run(&test.guest, true) == 0);
	for (unsigned int i = 0; i < 2; i++) {
		vq_start(&test.guest, CONTROL | BIT(MQ) | MERGE);
		post_command(&test, 8, "\4\0\4", 4);
		CHILD_CHECK(vq_await(&test.guest, 8, &head, NULL));
		CHILD_CHECK(*at(&test, RESULT) == VIRTIO_NET_OK);
		for (unsigned int pair = 0; pair < 4; pair++) {
			uint8_t got[2000];

			netns_frame(test.frame, 100, (uint8_t)pair);
			memset(at(&test, OUTGOING), 0, HEADER);
			memcpy(at(&test, OUTGOING) + HEADER, test.frame, 100);
			vq_post(&test.guest, 2 * pair + TX,
				&(struct vq_buffer){ OUTGOING, 100 + HEADER, false }, 1);
			vq_notify(&test.guest, 2 * pair + TX);
			CHILD_CHECK(netns_receive(test.sock, got, sizeof(got)) == 100);
			CHILD_CHECK(!memcmp(got, test.frame, 100));
			CHILD_CHECK(vq_await(&test.guest, 2 * pair + TX, &head, NULL));
		}
		CHILD_CHECK(!failed(&test));
		vq_reset(&test.guest);
	}
	unmake(&test);
	return 0;
}

/* What the kernel finds wrong is the driver's fault, and a reset mends it; a tap that is removed is nobody's. */
static int vhost_faults_child(void)
{
	struct net_test test;
	int lacks = make_vhost(&test, "tap0,vhost=on");

	if (lacks)
		return lacks;
	vq_start(&test.guest, 0);
	vq_post(&test.guest, TX, &(struct vq_buffer){ OUTGOING, 100, true }, 1);
	vq_notify(&test.guest, TX);
	while (!failed(&test))
		CHILD_CHECK(vq_wait(&test.guest) > 0);
	vq_reset(&test.guest);
	vq_start(&test.guest, 0);
	vhost_receive(&test, 0, 1);
	vhost_send(&test, 2);
	CHILD_CHECK(test.guest.dev->config[offsetof(struct virtio_net_config, status)] ==
		    VIRTIO_NET_S_LINK_UP);
	netns_delete("tap0");
	while (test.guest.dev->config[offsetof(struct virtio_net_config, status)])
		CHILD_CHECK(vq_wait(&test.guest) > 0);
	CHILD_CHECK(!failed(&test));
	vq_reset(&test.guest);
	vq_start(&test.guest, 0);
	CHILD_CHECK(!failed(&test));
	unmake(&test);
	return 0;
}

/* Who asks for it is told when it cannot be had; who does not has the packets moved by the device. */
static void test_vhost_missing(void **state)
{
	struct net_test test;

	(void)state;
	assert_int_equal(make(&test, "loop,vhost=on"), -ESOCKTNOSUPPORT);
	unmake(&test);
	assert_int_equal(make(&test, "loop,vhost=auto"), 0);
	assert_null(test.guest.dev->served_by);
	unmake(&test);
}

static int refuse_start(struct vhost *vhost, uint64_t features)
{
	(void)vhost;
	(void)features;
	return -EAGAIN;
}

/* A kernel that has no thread for it when the driver comes: who does not ask for it goes without. */
static void test_vhost_refuses(void **state)
{
	static const struct vhost_ops ops = { .start = refuse_start };
	struct net_test test;

	(void)state;
	for (int choice = NET_VHOST_AUTO; choice <= NET_VHOST_ON; choice++) {
		struct net *net;

		assert_int_equal(make(&test, "loop"), 0);
		net = container_of(test.guest.dev, struct net, dev);
		net->vhosts = calloc(1, sizeof(*net->vhosts));
		*net->vhosts = (struct vhost){ .ops = &ops, .fd = -1 };
		net->links.fd = -1;
		net->dev.served_by = "vhost-net";
		((struct net_conf *)test.guest.conf)->vhost = choice;
		vq_start(&test.guest, 0);
		assert_int_equal(failed(&test), choice == NET_VHOST_ON);
		if (choice == NET_VHOST_AUTO) {
			post_receive(&test, 0, 2048);
			kick(&test, RX);
			loop_frame(&test, 100, 1);
			assert_int_equal(take(&test, RX), 100 + HEADER);
			assert_int_equal(counter(&test, "rx_packets"), 1);
		}
		unmake(&test);
	}
}

#define NETNS_TEST(name)                      \
	static void test_##name(void **state) \
	{                                     \
		(void)state;                  \
		netns_run(name##_child);      \
	}

NETNS_TEST(receive)
NETNS_TEST(merge)
NETNS_TEST(small_ring)
NETNS_TEST(large_window)
NETNS_TEST(no_buffers)
NETNS_TEST(hostile)
NETNS_TEST(transmit)
NETNS_TEST(lies)
NETNS_TEST(reset)
NETNS_TEST(gone)
NETNS_TEST(config)
NETNS_TEST(bridge)
NETNS_TEST(cable)
NETNS_TEST(confined)
NETNS_TEST(filtered)
NETNS_TEST(vhost)
NETNS_TEST(vhost_save)
NETNS_TEST(vhost_pairs)
NETNS_TEST(vhost_faults)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_receive),
		cmocka_unit_test(test_merge),
		cmocka_unit_test(test_small_ring),
		cmocka_unit_test(test_large_window),
		cmocka_unit_test(test_no_buffers),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_transmit),
		cmocka_unit_test(test_lies),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_gone),
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_bridge),
		cmocka_unit_test(test_confined),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_no_result),
		cmocka_unit_test(test_not_accepted),
		cmocka_unit_test(test_control_index),
		cmocka_unit_test(test_mac_table),
		cmocka_unit_test(test_control_reset),
		cmocka_unit_test(test_save_load),
		cmocka_unit_test(test_announce),
		cmocka_unit_test(test_bad_load),
		cmocka_unit_test(test_pairs),
		cmocka_unit_test(test_sixteen_pairs),
		cmocka_unit_test(test_queue_reset),
		cmocka_unit_test(test_no_room),
		cmocka_unit_test(test_no_room_at_once),
		cmocka_unit_test(test_found_once),
		cmocka_unit_test(test_large_ring),
		cmocka_unit_test(test_filtered),
		cmocka_unit_test(test_cable),
		cmocka_unit_test(test_cable_is_saved),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_limit_and_reset),
		cmocka_unit_test(test_peer),
		cmocka_unit_test(test_peer_is_slow),
		cmocka_unit_test(test_peer_is_paid_once),
		cmocka_unit_test(test_peer_and_reset),
		cmocka_unit_test(test_peer_and_cable),
		cmocka_unit_test(test_vhost),
		cmocka_unit_test(test_vhost_save),
		cmocka_unit_test(test_vhost_pairs),
		cmocka_unit_test(test_vhost_faults),
		cmocka_unit_test(test_vhost_missing),
		cmocka_unit_test(test_vhost_refuses),
	};

	/* As microvm does. */
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
