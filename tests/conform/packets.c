// SPDX-License-Identifier: Apache-2.0
/*
 * A driver of vsock that lies. The device gives the guest its own connections
 * back, so the driver plays both of a connection's ends: what it does wrong at
 * one it hears of at either, and nothing that it does costs another connection,
 * or more than there is room for.
 */
#include <linux/virtio_vsock.h>
#include <linux/vm_sockets.h>
#include "tests/conform/conform.h"

#define CID 3
#define BUFFER 4096
#define CONNECTIONS 8 /* two for each that the guest makes */
#define PORT 80
#define GUEST 4000
#define BOTH (VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)
#define RX_PAGE 2 /* the first that is received into; those before it are sent from */

enum { RX, TX, EVENT };

struct talk {
	struct conform *c;
	uint8_t pages[256]; /* of what there is to receive into, by the chain's id */
	struct virtio_vsock_hdr heard;
	uint32_t host_port; /* of the end that was connected to */
};

static struct vdrv_queue *queue(const struct talk *talk, unsigned int index)
{
	return &talk->c->vdrv.queues[index];
}

static void give(struct talk *talk, uint8_t page)
{
	const struct vdrv_buffer buffer = { talk->c->data + page * CONFORM_PAGE, CONFORM_PAGE, true };
	const int id = vdrv_post(queue(talk, RX), &buffer, 1, 0);

	CHECK(id >= 0 && id < (int)ARRAY_SIZE(talk->pages));
	talk->pages[id] = page;
	vdrv_kick(queue(talk, RX));
}

static void begin(struct talk *talk, struct conform *c)
{
	if (strcmp(c->class->name, "vsock"))
		conform_not_here();
	*talk = (struct talk){ .c = c };
	vdrv_close(&c->vdrv);
	conform_open(c, ",buffer=4096,connections=8", CONFORM_RAM);
	conform_threads(c);
	conform_begin(c);
	for (uint8_t page = RX_PAGE; page < CONFORM_PAGES; page++)
		give(talk, page);
}

/* As the end that connects sends it. */
static struct virtio_vsock_hdr packet(uint16_t op)
{
	return (struct virtio_vsock_hdr){
		.src_cid = CID, .dst_cid = VMADDR_CID_HOST, .src_port = GUEST, .dst_port = PORT,
		.type = VIRTIO_VSOCK_TYPE_STREAM, .op = op, .buf_alloc = BUFFER,
	};
}

/* As the other end does. */
static struct virtio_vsock_hdr reply(const struct talk *talk, uint16_t op)
{
	struct virtio_vsock_hdr hdr = packet(op);

	hdr.src_port = PORT;
	hdr.dst_port = talk->host_port;
	return hdr;
}

static void post(struct talk *talk, const struct virtio_vsock_hdr *hdr, uint32_t len)
{
	const struct vdrv_buffer buffer = { talk->c->data, (uint32_t)sizeof(*hdr) + len, false };

	memcpy(vdrv_ptr(&talk->c->vdrv, buffer.gpa, sizeof(*hdr)), hdr, sizeof(*hdr));
	CHECK(vdrv_post(queue(talk, TX), &buffer, 1, 0) >= 0);
	vdrv_ring(queue(talk, TX));
}

static void say(struct talk *talk, struct virtio_vsock_hdr hdr)
{
	uint16_t id;

	post(talk, &hdr, hdr.len);
	CHECK(vdrv_wait(queue(talk, TX), VDRV_TIMEOUT_MS) == 0);
	CHECK(vdrv_take(queue(talk, TX), &id, NULL));
}

static bool hear(struct talk *talk)
{
	uint16_t id;
	uint32_t len;

	if (!vdrv_take(queue(talk, RX), &id, &len))
		return false;
	memcpy(&talk->heard, vdrv_ptr(&talk->c->vdrv, talk->c->data + talk->pages[id] * CONFORM_PAGE, len),
	       sizeof(talk->heard));
	CHECK(len == sizeof(talk->heard) + talk->heard.len);
	give(talk, talk->pages[id]);
	return true;
}

static void expect(struct talk *talk, uint16_t op)
{
	CHECK(vdrv_wait(queue(talk, RX), VDRV_TIMEOUT_MS) == 0);
	CHECK(hear(talk));
	CHECK(talk->heard.op == op);
}

static void expect_nothing(struct talk *talk)
{
	vdrv_settle(&talk->c->vdrv);
	CHECK(!vdrv_used(queue(talk, RX)));
	CHECK(!vdrv_needs_reset(&talk->c->vdrv));
}

static void connect_ends(struct talk *talk)
{
	say(talk, packet(VIRTIO_VSOCK_OP_REQUEST));
	expect(talk, VIRTIO_VSOCK_OP_REQUEST);
	talk->host_port = talk->heard.src_port;
	expect(talk, VIRTIO_VSOCK_OP_RESPONSE);
	say(talk, reply(talk, VIRTIO_VSOCK_OP_RESPONSE));
}

/* One end was reset; the other is told that it is gone, and agrees. */
static void expect_end(struct talk *talk)
{
	bool reset = false, gone = false;

	while (!reset || !gone) {
		CHECK(vdrv_wait(queue(talk, RX), VDRV_TIMEOUT_MS) == 0);
		CHECK(hear(talk));
		reset |= talk->heard.op == VIRTIO_VSOCK_OP_RST && talk->heard.dst_port == GUEST;
		gone |= talk->heard.op == VIRTIO_VSOCK_OP_SHUTDOWN && talk->heard.flags == BOTH;
	}
	say(talk, reply(talk, VIRTIO_VSOCK_OP_RST));
}

/* len bytes from one end; what of them comes to the other before something else does. */
static uint32_t transfer(struct talk *talk, uint32_t len)
{
	struct virtio_vsock_hdr hdr = packet(VIRTIO_VSOCK_OP_RW);
	uint32_t sum = 0;

	hdr.len = len;
	if (len)
		say(talk, hdr);
	do {
		CHECK(vdrv_wait(queue(talk, RX), VDRV_TIMEOUT_MS) == 0);
		CHECK(hear(talk));
		sum += talk->heard.len;
		/* The sender may have its credit back meanwhile. */
	} while (talk->heard.dst_port == GUEST || (talk->heard.op == VIRTIO_VSOCK_OP_RW && sum < len));
	return sum;
}

static uint64_t counter(const struct conform *c, const char *name)
{
	const char *found;
	uint64_t sum;

	for (unsigned int n = 0; (found = virtio_nth_counter(c->vdrv.dev, n, &sum)); n++)
		if (!strcmp(found, name))
			return sum;
	return UINT64_MAX;
}

/* Nothing of any connection is left after a reset. */
static void no_leak(struct conform *c)
{
	CHECK(vdrv_reset(&c->vdrv) == 0);
	CHECK(counter(c, "opened") == counter(c, "closed"));
	CHECK(counter(c, "tx_bytes") == counter(c, "delivered_bytes") + counter(c, "lost_bytes"));
	conform_works(c);
}

/* Of a connection: it is reset, and the next one is not. */
static void cannot_be(struct conform *c, const void *arg)
{
	static const struct virtio_vsock_hdr lies[] = {
		{ .op = VIRTIO_VSOCK_OP_INVALID },
		{ .op = VIRTIO_VSOCK_OP_CREDIT_REQUEST + 1 },
		{ .op = UINT16_MAX, .flags = UINT32_MAX },
		{ .op = VIRTIO_VSOCK_OP_REQUEST },
		{ .op = VIRTIO_VSOCK_OP_RESPONSE },
		/* Of another type, of none, and of one that is not known. */
		{ .op = VIRTIO_VSOCK_OP_CREDIT_UPDATE, .type = VIRTIO_VSOCK_TYPE_SEQPACKET },
		{ .op = VIRTIO_VSOCK_OP_RW, .type = UINT16_MAX },
		/* Credit for what was never sent, and more than was given. */
		{ .op = VIRTIO_VSOCK_OP_CREDIT_UPDATE, .fwd_cnt = 1 },
		{ .op = VIRTIO_VSOCK_OP_CREDIT_UPDATE, .fwd_cnt = INT32_MAX },
		{ .op = VIRTIO_VSOCK_OP_RW, .len = BUFFER + 1 },
	};
	struct talk talk;

	(void)arg;
	begin(&talk, c);
	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		struct virtio_vsock_hdr hdr = packet(lies[i].op);

		hdr.type = lies[i].type ? lies[i].type : hdr.type;
		hdr.flags = lies[i].flags;
		hdr.fwd_cnt = lies[i].fwd_cnt;
		hdr.len = lies[i].len;
		connect_ends(&talk);
		say(&talk, hdr);
		expect_end(&talk);
		expect_nothing(&talk);
	}
	no_leak(c);
}

/* Credit that comes late, shrinks below what is under way, or is all that there can be. */
static void credit(struct conform *c, const void *arg)
{
	struct virtio_vsock_hdr hdr;
	struct talk talk;

	(void)arg;
	begin(&talk, c);
	connect_ends(&talk);
	hdr = reply(&talk, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	hdr.flags = UINT32_MAX;
	hdr.buf_alloc = 10;
	say(&talk, hdr);
	CHECK(transfer(&talk, 100) == 10);
	CHECK(talk.heard.op == VIRTIO_VSOCK_OP_CREDIT_REQUEST);
	/* An older packet's count is no step forward. */
	hdr.fwd_cnt = UINT32_MAX;
	say(&talk, hdr);
	hdr.fwd_cnt = 0;
	hdr.buf_alloc = 5;
	say(&talk, hdr);
	expect_nothing(&talk);
	hdr.buf_alloc = UINT32_MAX;
	say(&talk, hdr);
	CHECK(transfer(&talk, 0) == 90);
	CHECK(transfer(&talk, BUFFER) == BUFFER);
	/* Directions that do not exist. */
	hdr.op = VIRTIO_VSOCK_OP_SHUTDOWN;
	hdr.flags = ~(uint32_t)BOTH;
	say(&talk, hdr);
	CHECK(transfer(&talk, 1) == 1);
	no_leak(c);
}

/* More than is in the chain: the device needs a reset, and has not touched anybody's data. */
static void beyond_the_chain(struct conform *c, const void *arg)
{
	static const uint32_t lens[] = { 101, 4096, 0x80000000, UINT32_MAX - 43, UINT32_MAX };
	struct talk talk;

	(void)arg;
	for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
		struct virtio_vsock_hdr hdr = packet(VIRTIO_VSOCK_OP_RW);

		if (i == 0)
			begin(&talk, c);
		hdr.len = lens[i];
		post(&talk, &hdr, 100);
		vdrv_settle(&c->vdrv);
		CHECK(vdrv_needs_reset(&c->vdrv));
		CHECK(!vdrv_used(queue(&talk, TX)) && !vdrv_used(queue(&talk, RX)));
		CHECK(counter(c, "tx_bytes") == 0);
		conform_begin(c);
	}
	conform_works(c);
}

/* Neither answered nor forwarded. */
static void addresses(struct conform *c, const void *arg)
{
	static const uint64_t cids[] = { VMADDR_CID_HYPERVISOR, VMADDR_CID_LOCAL, CID + 1, VMADDR_CID_ANY,
					 CID | 1ULL << 32, UINT64_MAX };
	struct talk talk;

	(void)arg;
	begin(&talk, c);
	for (size_t i = 0; i < ARRAY_SIZE(cids); i++)
		for (int source = 0; source < 2; source++) {
			struct virtio_vsock_hdr hdr = packet(VIRTIO_VSOCK_OP_REQUEST);

			if (source)
				hdr.src_cid = cids[i];
			else
				hdr.dst_cid = cids[i];
			say(&talk, hdr);
		}
	expect_nothing(&talk);
	CHECK(counter(c, "opened") == 0);
	CHECK(counter(c, "dropped_packets") == 2 * ARRAY_SIZE(cids));
	connect_ends(&talk);
	no_leak(c);
}

static void storm(struct conform *c, const void *arg)
{
	uint32_t seed = 1;
	struct talk talk;

	(void)arg;
	begin(&talk, c);
	connect_ends(&talk);
	for (int i = 0; i < 1000; i++) {
		struct virtio_vsock_hdr hdr = packet(VIRTIO_VSOCK_OP_RST);

		hdr.src_port = conform_random(&seed);
		hdr.dst_port = conform_random(&seed);
		say(&talk, hdr);
	}
	expect_nothing(&talk);
	/* Those that mean somebody are not answered either. */
	CHECK(transfer(&talk, 100) == 100);
	say(&talk, packet(VIRTIO_VSOCK_OP_RST));
	say(&talk, reply(&talk, VIRTIO_VSOCK_OP_RST));
	no_leak(c);
}

/* As many as there is room for, and each of the others is refused. */
static void flood(struct conform *c, const void *arg)
{
	const unsigned int count = 200;
	unsigned int refused = 0, accepted = 0, sent = 0;
	struct talk talk;
	uint16_t id;

	(void)arg;
	begin(&talk, c);
	while (refused + accepted < count) {
		if (sent < count && queue(&talk, TX)->free) {
			struct virtio_vsock_hdr hdr = packet(VIRTIO_VSOCK_OP_REQUEST);

			hdr.src_port = GUEST + sent++;
			post(&talk, &hdr, 0);
			/* They share a page. */
			while (!vdrv_take(queue(&talk, TX), &id, NULL))
				CHECK(vdrv_wait(queue(&talk, TX), VDRV_TIMEOUT_MS) == 0);
		}
		if (sent == count)
			CHECK(vdrv_wait(queue(&talk, RX), VDRV_TIMEOUT_MS) == 0);
		while (hear(&talk)) {
			refused += talk.heard.op == VIRTIO_VSOCK_OP_RST;
			accepted += talk.heard.op == VIRTIO_VSOCK_OP_RESPONSE;
		}
	}
	CHECK(accepted == CONNECTIONS / 2);
	CHECK(counter(c, "opened") == CONNECTIONS);
	no_leak(c);
}

/* A loaded device has something to say, for which these have no room. */
static void event_buffers(struct conform *c, const void *arg)
{
	static const struct {
		uint32_t len;
		bool writable, good;
	} buffers[] = { { 3, true, false }, { 16, false, false }, { 4, true, true } };
	struct talk talk;

	(void)arg;
	begin(&talk, c);
	for (size_t i = 0; i < ARRAY_SIZE(buffers); i++) {
		const struct vdrv_buffer buffer = { c->data, buffers[i].len, buffers[i].writable };
		struct state state = { 0 };
		uint16_t id;

		conform_begin(c);
		CHECK(vdrv_post(queue(&talk, EVENT), &buffer, 1, 0) >= 0);
		vdrv_ring(queue(&talk, EVENT));
		expect_nothing(&talk);
		CHECK(!vdrv_used(queue(&talk, EVENT)));
		CHECK(vdrv_save(&c->vdrv, &state) == 0);
		CHECK(vdrv_load(&c->vdrv, &state) == 0);
		state_free(&state);
		virtio_dev_resume(c->vdrv.dev);
		vdrv_settle(&c->vdrv);
		CHECK(vdrv_take(queue(&talk, EVENT), &id, NULL) == buffers[i].good);
		CHECK(vdrv_needs_reset(&c->vdrv) != buffers[i].good);
	}
	conform_works(c);
}

const struct conform_case conform_packets[] = {
	{ "vsock: packets that cannot be", cannot_be, NULL, false },
	{ "vsock: credit that lies", credit, NULL, false },
	{ "vsock: lengths beyond the chain", beyond_the_chain, NULL, false },
	{ "vsock: addresses that are somebody else's", addresses, NULL, false },
	{ "vsock: a storm of resets", storm, NULL, false },
	{ "vsock: a flood of requests", flood, NULL, false },
	{ "vsock: buffers without room for an event", event_buffers, NULL, false },
	{ 0 },
};
