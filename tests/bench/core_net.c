// SPDX-License-Identifier: Apache-2.0
/*
 * Packets, in a network namespace of the bench's own. Out: what the driver
 * sends, against the same packets written into a tap. In: what a packet socket
 * sends through the tap, against the same packets read from a tap. On one thread
 * only reading counts; with two, sending and reading overlap, and the limit is a
 * tap whose reader spins on a CPU of its own. That says nothing of CPU time,
 * so there the limit is what reading took on one thread. A tap itself is called
 * in the cheapest way (devices/netdev/tap.c).
 */
#include <err.h>
#include <ifaddrs.h>
#include <linux/if_link.h>
#include <stdio.h>
#include <sys/syscall.h>
#include "devices/netdev/netdev.h"
#include "tests/bench/core.h"
#include "tests/unit/netns.h"

#define ROUND_PACKETS (1000 * CORE_DEPTH)
#define HEADER sizeof(struct virtio_net_hdr_v1)
#define FRAME_MAX 1500
#define BUFFER 1536 /* holds the largest that may come, so that each packet takes one */
#define RX_BUFFERS (2 * CORE_DEPTH)

extern const struct virtio_class net_class;

/* The host's end: frames that a packet socket sends come out of the tap. */
struct wire {
	int sock;
	uint8_t frame[FRAME_MAX];
	struct iovec iov;
	struct mmsghdr messages[CORE_DEPTH];
};

struct tap {
	struct netdev netdev;
	struct wire wire;
	const unsigned int *len; /* of a frame */
	uint8_t out[CORE_DEPTH][BUFFER], in[RX_BUFFERS][BUFFER];
	unsigned int wanted; /* by the thread that spins */
	_Atomic unsigned int received;
};

struct card {
	const char *title, *options;
	uint64_t features;
	bool same_thread; /* as the driver's, and no sandbox */
	char tap[NETDEV_NAME_MAX];
	struct wire wire;
	const unsigned int *len;
	struct vdrv vdrv;
	uint64_t out, in; /* the driver's buffers; the device uses them in order */
	unsigned int offered; /* of those for packets to come, in all */
};

/* ---- the host's end ---- */

static void wire_open(struct wire *wire, const char *tap)
{
	const struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_ifindex = (int)if_nametoindex(tap),
	};
	const int on = 1;

	/* Without a protocol it receives nothing, so that what the tap is sent has no reader. */
	wire->sock = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (wire->sock < 0 || bind(wire->sock, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    setsockopt(wire->sock, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof(on)) < 0)
		err(1, "a packet socket on %s", tap);
	netns_frame(wire->frame, sizeof(wire->frame), 1);
	wire->iov.iov_base = wire->frame;
	for (unsigned int i = 0; i < CORE_DEPTH; i++)
		wire->messages[i].msg_hdr = (struct msghdr){ .msg_iov = &wire->iov,
							     .msg_iovlen = 1 };
}

static void wire_send(struct wire *wire, unsigned int count, unsigned int len)
{
	wire->iov.iov_len = len;
	if (sendmmsg(wire->sock, wire->messages, count, 0) != (int)count)
		err(1, "a packet socket");
}

/* How many packets an interface was sent by whoever has the tap. */
static uint32_t wire_count(const char *tap)
{
	struct ifaddrs *list;
	uint32_t count = 0;

	if (getifaddrs(&list) < 0)
		err(1, "getifaddrs");
	for (const struct ifaddrs *i = list; i; i = i->ifa_next)
		if (i->ifa_addr && i->ifa_addr->sa_family == AF_PACKET && !strcmp(i->ifa_name, tap))
			count = ((const struct rtnl_link_stats *)i->ifa_data)->rx_packets;
	freeifaddrs(list);
	return count;
}

static void wire_check(const char *tap, uint32_t before, unsigned int packets)
{
	if (wire_count(tap) - before != packets)
		errx(1, "%s: packets were lost", tap);
}

/* ---- the tap, straight ---- */

static void tap_open(struct tap *tap, const unsigned int *len)
{
	int r = netdev_tap_open(&tap->netdev, 1, "straight", 0);

	if (r < 0)
		errx(1, "a tap: %s", strerror(-r));
	wire_open(&tap->wire, tap->netdev.name);
	tap->len = len;
	for (unsigned int i = 0; i < CORE_DEPTH; i++)
		netns_frame(tap->out[i] + HEADER, FRAME_MAX, 1);
}

static struct cost tap_send(void *opaque, unsigned int depth, unsigned int packets)
{
	struct tap *tap = opaque;
	const uint32_t before = wire_count(tap->netdev.name);
	const struct cost start = core_now(CLOCK_THREAD_CPUTIME_ID);
	struct cost spent;

	for (unsigned int i = 0; i < packets; i++) {
		if (syscall(SYS_write, tap->netdev.fd, tap->out[i % depth], HEADER + *tap->len) < 0)
			err(1, "write");
	}
	spent = core_since(start, CLOCK_THREAD_CPUTIME_ID);
	wire_check(tap->netdev.name, before, packets);
	return core_each(spent, packets);
}

/* The next packet; false when there is none. */
static bool tap_read(struct tap *tap, unsigned int index)
{
	ssize_t n = syscall(SYS_read, tap->netdev.fd, tap->in[index % RX_BUFFERS], BUFFER);

	if (n < 0 && errno == EAGAIN)
		return false;
	if (n != (ssize_t)(HEADER + *tap->len))
		err(1, "read");
	return true;
}

static struct cost tap_receive(void *opaque, unsigned int depth, unsigned int packets)
{
	struct tap *tap = opaque;
	struct cost spent = { 0 };

	for (unsigned int sent = 0; sent < packets; sent += depth) {
		struct cost start;

		wire_send(&tap->wire, depth, *tap->len);
		start = core_now(CLOCK_THREAD_CPUTIME_ID);
		for (unsigned int i = 0; i < depth; i++)
			if (!tap_read(tap, sent + i))
				errx(1, "a packet was lost");
		spent = core_sum(spent, core_since(start, CLOCK_THREAD_CPUTIME_ID));
	}
	return core_each(spent, packets);
}

static void *tap_spin(void *opaque)
{
	struct tap *tap = opaque;

	for (unsigned int i = 0; i < tap->wanted;)
		if (tap_read(tap, i))
			atomic_store_explicit(&tap->received, ++i, memory_order_relaxed);
	return NULL;
}

static struct cost tap_receive_on_thread(void *opaque, unsigned int depth, unsigned int packets)
{
	struct tap *tap = opaque;
	struct cost cost = tap_receive(tap, depth, packets), start;
	unsigned int part = depth / CORE_PARTS, sent = 0;
	pthread_t thread;

	tap->wanted = packets;
	tap->received = 0;
	if (pthread_create(&thread, NULL, tap_spin, tap))
		errx(1, "pthread_create");
	core_pin(thread, 1);
	start = core_now(CLOCK_THREAD_CPUTIME_ID);
	for (unsigned int taken = 0; taken < packets; taken += part) {
		for (; sent < packets && sent < taken + depth; sent += part)
			wire_send(&tap->wire, part, *tap->len);
		while (atomic_load_explicit(&tap->received, memory_order_relaxed) < taken + part)
			;
	}
	cost.wall = core_each(core_since(start, CLOCK_THREAD_CPUTIME_ID), packets).wall;
	pthread_join(thread, NULL);
	return cost;
}

/* ---- the tap through the device ---- */

/* Another buffer for a packet to come. */
static void card_offer(struct card *card)
{
	const struct vdrv_buffer buffer = {
		card->in + card->offered++ % RX_BUFFERS * BUFFER, BUFFER, true
	};

	if (vdrv_post(&card->vdrv.queues[0], &buffer, 1, 0) < 0)
		errx(1, "post");
}

static void card_open(struct card *card, unsigned int index, const unsigned int *len)
{
	char options[128];
	struct vdrv *vdrv = &card->vdrv;
	const struct vdrv_setup setup = {
		.class = &net_class,
		.options = options,
		.transport = VDRV_PCI,
		.confine = true,
	};
	int r;

	snprintf(card->tap, sizeof(card->tap), "card%u", index);
	snprintf(options, sizeof(options), "%s%s", card->tap, card->options);
	r = vdrv_open(vdrv, &setup);
	if (r == 0 && !card->same_thread)
		r = vdrv_run(vdrv);
	if (r == 0)
		r = vdrv_begin(vdrv, card->features | 1ULL << VIRTIO_NET_F_MRG_RXBUF |
					     1ULL << VIRTIO_RING_F_EVENT_IDX, 0);
	if (r < 0)
		errx(1, "%s: %s", options, strerror(-r));
	if (!card->same_thread)
		core_pin(vdrv->dev->workers[0].thread, 1);
	wire_open(&card->wire, card->tap);
	card->len = len;
	card->out = vdrv_alloc(vdrv, CORE_DEPTH * BUFFER);
	card->in = vdrv_alloc(vdrv, RX_BUFFERS * BUFFER);
	for (unsigned int i = 0; i < CORE_DEPTH; i++)
		netns_frame(vdrv_ptr(vdrv, card->out + i * BUFFER + HEADER, FRAME_MAX), FRAME_MAX,
			    1);
	while (card->offered < RX_BUFFERS)
		card_offer(card);
	vdrv_arm(&vdrv->queues[0], 0);
	vdrv_kick(&vdrv->queues[0]);
	vdrv_settle(vdrv);
}

static void card_close(struct card *card)
{
	vdrv_close(&card->vdrv);
	close(card->wire.sock);
}

/* Spins for the next used buffer, since what it takes to sleep is not the device's. */
static uint32_t card_take(struct card *card, unsigned int index)
{
	uint16_t id;
	uint32_t len;

	while (!vdrv_take(&card->vdrv.queues[index], &id, &len))
		if (card->same_thread)
			vdrv_turn(&card->vdrv);
	return len;
}

/* The index'th packet; at most CORE_DEPTH are in flight. */
static void card_post(struct card *card, unsigned int index)
{
	const struct vdrv_buffer buffer = {
		card->out + index % CORE_DEPTH * BUFFER, HEADER + *card->len, false
	};

	if (vdrv_post(&card->vdrv.queues[1], &buffer, 1, 0) < 0)
		errx(1, "post");
}

static struct cost card_send(void *opaque, unsigned int depth, unsigned int packets)
{
	struct card *card = opaque;
	struct vdrv_queue *queue = &card->vdrv.queues[1];
	const clockid_t clock = core_device_clock(&card->vdrv, card->same_thread);
	const uint32_t before = wire_count(card->tap);
	const struct cost start = core_now(clock);
	unsigned int part = depth / CORE_PARTS, posted = 0;
	struct cost spent;

	vdrv_arm(queue, 0);
	for (unsigned int taken = 0; taken < packets; taken += part) {
		for (; posted < packets && posted < taken + depth; posted++)
			card_post(card, posted);
		vdrv_kick(queue);
		for (unsigned int i = 0; i < part; i++)
			card_take(card, 1);
	}
	spent = core_since(start, clock);
	wire_check(card->tap, before, packets);
	return core_each(spent, packets);
}

static void card_receive_part(struct card *card, unsigned int part)
{
	for (unsigned int i = 0; i < part; i++) {
		if (card_take(card, 0) != HEADER + *card->len)
			errx(1, "%s: a packet of another length", card->tap);
		card_offer(card);
	}
	vdrv_kick(&card->vdrv.queues[0]);
}

static struct cost card_receive(void *opaque, unsigned int depth, unsigned int packets)
{
	struct card *card = opaque;
	struct cost spent = { 0 };

	for (unsigned int sent = 0; sent < packets; sent += depth) {
		struct cost start;

		wire_send(&card->wire, depth, *card->len);
		start = core_now(CLOCK_THREAD_CPUTIME_ID);
		card_receive_part(card, depth);
		spent = core_sum(spent, core_since(start, CLOCK_THREAD_CPUTIME_ID));
	}
	return core_each(spent, packets);
}

static struct cost card_receive_on_thread(void *opaque, unsigned int depth, unsigned int packets)
{
	struct card *card = opaque;
	const clockid_t clock = core_device_clock(&card->vdrv, false);
	const struct cost start = core_now(clock);
	unsigned int part = depth / CORE_PARTS, sent = 0;

	for (unsigned int taken = 0; taken < packets; taken += part) {
		for (; sent < packets && sent < taken + depth; sent += part)
			wire_send(&card->wire, part, *card->len);
		card_receive_part(card, part);
	}
	return core_each(core_since(start, clock), packets);
}

/* ---- side by side ---- */

static void compare_at(struct tap *tap, struct card cards[CORE_DEVICES], unsigned int len)
{
	struct core_side out[1 + CORE_DEVICES] = { { "the tap itself", tap_send, tap } };
	struct core_side in[1 + CORE_DEVICES] = { { "the tap itself", tap_receive, tap } };
	struct core_side both[1 + CORE_DEVICES] = { { "the tap itself", tap_receive_on_thread, tap } };
	unsigned int count = core_devices(), in_count = 1, both_count = 1;
	char title[80];

	for (unsigned int i = 0; i < count; i++) {
		struct card *card = &cards[i];

		out[1 + i] = (struct core_side){ card->title, card_send, card };
		if (card->same_thread)
			in[in_count++] = (struct core_side){ card->title, card_receive, card };
		else
			both[both_count++] =
				(struct core_side){ card->title, card_receive_on_thread, card };
	}
	snprintf(title, sizeof(title), "packets of %u bytes out, 32 at a time", len);
	core_compare(title, out, 1 + count, CORE_DEPTH, ROUND_PACKETS);
	snprintf(title, sizeof(title), "packets of %u bytes in, reading alone", len);
	core_compare(title, in, in_count, CORE_DEPTH, ROUND_PACKETS);
	snprintf(title, sizeof(title), "packets of %u bytes in, while others are sent", len);
	if (both_count > 1)
		core_compare(title, both, both_count, CORE_DEPTH, ROUND_PACKETS);
}

static int compare_all(void)
{
	struct card cards[CORE_DEVICES] = {
		{ .title = "split, same thread", .options = "", .same_thread = true },
		{ .title = "packed, same thread", .options = ",packed", .same_thread = true,
		  .features = 1ULL << VIRTIO_F_RING_PACKED },
		{ .title = "split", .options = "" },
		{ .title = "split, poll=100", .options = ",poll=100" },
		{ .title = "packed", .options = ",packed",
		  .features = 1ULL << VIRTIO_F_RING_PACKED },
		{ .title = "packed, poll=100", .options = ",packed,poll=100",
		  .features = 1ULL << VIRTIO_F_RING_PACKED },
	};
	static const unsigned int lens[] = { 64, FRAME_MAX };
	unsigned int count = core_devices(), len;
	struct tap tap = { 0 };

	tap_open(&tap, &len);
	for (unsigned int i = 0; i < count; i++)
		card_open(&cards[i], i, &len);
	for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
		len = lens[i];
		compare_at(&tap, cards, len);
	}
	for (unsigned int i = 0; i < count; i++)
		card_close(&cards[i]);
	netdev_close(&tap.netdev);
	close(tap.wire.sock);
	return 0;
}

void net_compare(void)
{
	int (*fn)(void) = compare_all;

	if (netns_enter(&fn) == CHILD_LACKS)
		printf("packets: needs root and /dev/net/tun\n");
}
