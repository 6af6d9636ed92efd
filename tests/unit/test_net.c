// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include "tests/unit/driver.h"
#include "tests/unit/netns.h"

extern const struct virtio_class net_class;

#define RX 0
#define TX 1
#define HEADER sizeof(struct virtio_net_hdr_v1)
#define MERGE (1ULL << VIRTIO_NET_F_MRG_RXBUF)
/* Guest memory behind the rings: receive buffers, a page apart, and one to send from. */
#define BUFFER(i) (VQ_RAM_BASE + MIB(4) + (uint64_t)(i) * 4096)
#define OUTGOING (VQ_RAM_BASE + MIB(6))

struct net_test {
	struct vq_guest guest;
	int sock; /* the host's end of the wire */
	uint8_t frame[1514];
};

static int make(struct net_test *test, const char *options)
{
	int r = vq_guest_make(&test->guest, &net_class, options);

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

	CHILD_CHECK(make(&test, "") == -EDESTADDRREQ);
	unmake(&test);
	CHILD_CHECK(make(&test, "fd=9,queues=2") == -EOPNOTSUPP);
	unmake(&test);
	CHILD_CHECK(make(&test, "fd=900") == -EBADF);
	unmake(&test);
	return 0;
}

/* On its own thread, behind its filter, both ways. */
static int confined_child(void)
{
	struct net_test test;
	uint8_t got[2000];
	uint16_t head;
	int tries;

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
NETNS_TEST(reset)
NETNS_TEST(gone)
NETNS_TEST(config)
NETNS_TEST(confined)

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
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_gone),
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_confined),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
