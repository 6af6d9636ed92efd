// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-console with named ports, where neither end keeps to any order: the
 * driver says, posts and resets what it likes, peers come, go, write and read when
 * they like. Within one connection bytes arrive in order and without a gap, in
 * both directions; the device does not fail, and nothing stays open.
 */
#include <endian.h>
#include <fcntl.h>
#include "core/usock.h"
#include "devices/console.h"
#include "tests/lib/child.h"
#include "tests/unit/driver.h"

extern const struct virtio_class port_class;

#define PORTS 3
#define STEPS 5000
#define CHUNK 60000 /* of which a socket takes a part at times */
#define MULTIPORT (1ULL << VIRTIO_CONSOLE_F_MULTIPORT)

/* A byte tells of which connection it is, and its place modulo a number that no socket's limits divide by. */
#define TURN 13
#define MARK(connection, at) ((uint8_t)((connection) << 4 | (at) % TURN))

/* The bytes that come in one direction: they go on where the last ones ended. */
struct stream {
	size_t sent;
	uint8_t last;
	bool begun;
	unsigned int gaps; /* that there may be, as resets lose what is on its way */
};

struct party {
	char path[64];
	int peer; /* -1: none */
	uint8_t connection;
	struct stream to_guest, to_peer;
};

struct rig {
	struct vq_guest guest;
	struct ports_conf confs[PORTS];
	struct party parties[PORTS];
	uint64_t buffers[VIRTIO_QUEUES_MAX]; /* VQ_SIZE of CHUNK bytes each */
	uint64_t read, written; /* bytes that arrived */
	uint32_t random;
	unsigned int step;
};

static uint32_t any(struct rig *rig, uint32_t below)
{
	rig->random = rig->random * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)rig->random * below >> 32);
}

static struct party *any_party(struct rig *rig)
{
	return &rig->parties[any(rig, PORTS)];
}

static unsigned int queue_of(const struct rig *rig, const struct party *party, bool transmit)
{
	const unsigned int id = (unsigned int)(party - rig->parties);

	return (id ? 2 + 2 * id : 0) + transmit;
}

static void fill(struct stream *stream, uint8_t connection, uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = MARK(connection, stream->sent + i);
}

static void assert_follow(struct stream *stream, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		const bool follows = !stream->begun || bytes[i] >> 4 != stream->last >> 4 ||
				     (bytes[i] & 15) == ((stream->last & 15) + 1) % TURN;

		assert_true(follows || stream->gaps);
		stream->gaps -= !follows;
		stream->last = bytes[i];
		stream->begun = true;
	}
}

/* Where the next chain's buffer is; 0: all are the device's. */
static uint64_t next_buffer(struct rig *rig, unsigned int index)
{
	const struct vq *queue = &rig->guest.queues[index];

	if ((uint16_t)(queue->next_desc - queue->seen) == VQ_SIZE)
		return 0;
	return rig->buffers[index] + queue->next_desc % VQ_SIZE * CHUNK;
}

static void post(struct rig *rig, unsigned int index, uint64_t gpa, uint32_t len, bool writable)
{
	vq_post(&rig->guest, index, &(struct vq_buffer){ gpa, len, writable }, 1);
	vq_notify(&rig->guest, index);
	vq_turn(&rig->guest);
}

static void take_all(struct rig *rig, unsigned int index, struct stream *stream)
{
	uint16_t head;
	uint32_t len;

	while (vq_take(&rig->guest, index, &head, &len)) {
		if (!stream)
			continue;
		assert_follow(stream, vq_ptr(&rig->guest, rig->buffers[index] + head * CHUNK, len), len);
		rig->read += len;
	}
}

/* ---- what may happen ---- */

static void come(struct rig *rig)
{
	struct party *party = any_party(rig);

	if (party->peer >= 0)
		return;
	assert_int_equal(usock_connect(party->path, SOCK_STREAM, &party->peer), 0);
	party->connection++;
	party->to_guest.sent = 0;
	party->to_peer.begun = false;
	party->to_peer.gaps = 0;
	if (any(rig, 4))
		vq_turn(&rig->guest);
}

static void leave(struct rig *rig)
{
	/* Not before it has heard a lot, as a rule. */
	if (any(rig, 20))
		return;
	util_closep(&any_party(rig)->peer);
	if (any(rig, 4))
		vq_turn(&rig->guest);
}

static void peer_writes(struct rig *rig)
{
	struct party *party = any_party(rig);
	uint8_t bytes[CHUNK];
	ssize_t n;

	fill(&party->to_guest, party->connection, bytes, sizeof(bytes));
	n = send(party->peer, bytes, 1 + any(rig, sizeof(bytes)), MSG_NOSIGNAL);
	if (n > 0)
		party->to_guest.sent += (size_t)n;
	vq_turn(&rig->guest);
}

/* One of them does not read for a time. */
static bool sleeps(const struct rig *rig, const struct party *party)
{
	return rig->step / 500 % PORTS == (size_t)(party - rig->parties);
}

static void peer_reads(struct rig *rig)
{
	struct party *party = any_party(rig);
	uint8_t bytes[CHUNK];
	ssize_t n = sleeps(rig, party) ? -1 : recv(party->peer, bytes, sizeof(bytes), 0);

	if (n > 0) {
		assert_follow(&party->to_peer, bytes, (size_t)n);
		rig->written += (size_t)n;
	} else if (n == 0) {
		util_closep(&party->peer);
	}
	vq_turn(&rig->guest);
}

static void guest_writes(struct rig *rig)
{
	struct party *party = any_party(rig);
	unsigned int index = queue_of(rig, party, true);
	uint32_t len = 1 + any(rig, CHUNK);
	uint64_t gpa;

	take_all(rig, index, NULL);
	gpa = next_buffer(rig, index);
	if (!gpa)
		return;
	fill(&party->to_peer, 0, vq_ptr(&rig->guest, gpa, len), len);
	party->to_peer.sent += len;
	post(rig, index, gpa, len, false);
}

static void guest_reads(struct rig *rig)
{
	struct party *party = any_party(rig);
	unsigned int index = queue_of(rig, party, false);
	uint64_t gpa;

	take_all(rig, index, &party->to_guest);
	gpa = next_buffer(rig, index);
	if (gpa)
		post(rig, index, gpa, 1 + any(rig, CHUNK), true);
}

static void guest_hears(struct rig *rig)
{
	uint64_t gpa;

	take_all(rig, PORTS_CONTROL_RECEIVE, NULL);
	gpa = next_buffer(rig, PORTS_CONTROL_RECEIVE);
	if (gpa)
		post(rig, PORTS_CONTROL_RECEIVE, gpa, 64, true);
}

static void guest_says(struct rig *rig)
{
	static const uint16_t events[] = { VIRTIO_CONSOLE_PORT_READY, VIRTIO_CONSOLE_PORT_OPEN,
					   VIRTIO_CONSOLE_PORT_OPEN, VIRTIO_CONSOLE_PORT_OPEN };
	const bool all = !any(rig, 20);
	const struct virtio_console_control control = {
		.id = htole32(any(rig, PORTS)),
		.event = htole16(all ? VIRTIO_CONSOLE_DEVICE_READY : events[any(rig, ARRAY_SIZE(events))]),
		.value = htole16(any(rig, 20) > 0),
	};
	uint64_t gpa;

	take_all(rig, PORTS_CONTROL_TRANSMIT, NULL);
	gpa = next_buffer(rig, PORTS_CONTROL_TRANSMIT);
	assert_true(gpa);
	memcpy(vq_ptr(&rig->guest, gpa, sizeof(control)), &control, sizeof(control));
	post(rig, PORTS_CONTROL_TRANSMIT, gpa, sizeof(control), false);
}

/* What was on its way to the guest, and from it, is lost. */
static void start(struct rig *rig)
{
	rig->guest.next = VQ_RAM_BASE;
	memset(vq_ptr(&rig->guest, VQ_RAM_BASE, VQ_RAM_SIZE), 0, KIB(64));
	vq_start(&rig->guest, MULTIPORT);
	for (unsigned int i = 0; i < rig->guest.dev->queue_count; i++)
		rig->buffers[i] = vq_alloc(&rig->guest, VQ_SIZE * CHUNK);
	for (unsigned int i = 0; i < PORTS; i++) {
		rig->parties[i].to_guest.begun = false;
		rig->parties[i].to_peer.gaps++;
	}
}

static void restart(struct rig *rig)
{
	if (any(rig, 10)) {
		virtio_dev_pause(rig->guest.dev);
		virtio_dev_resume(rig->guest.dev);
		return;
	}
	vq_reset(&rig->guest);
	start(rig);
}

static int open_files(void)
{
	int count = 0;

	for (int fd = 0; fd < 1000; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void test_no_order(void **state)
{
	static void (*const steps[])(struct rig *rig) = {
		come, come, leave, peer_writes, peer_writes, peer_reads, peer_reads, guest_writes,
		guest_writes, guest_reads, guest_reads, guest_hears, guest_hears, guest_says, guest_says,
	};
	struct rig *rig = test_calloc(1, sizeof(*rig));
	struct opt_error error;
	char dir[] = "/tmp/ports.XXXXXX", options[128];
	int files = open_files();

	(void)state;
	assert_non_null(mkdtemp(dir));
	for (unsigned int i = 0; i < PORTS; i++) {
		struct party *party = &rig->parties[i];

		party->peer = -1;
		snprintf(party->path, sizeof(party->path), "%s/%u", dir, i);
		snprintf(options, sizeof(options), "port%u,socket=%s", i, party->path);
		assert_int_equal(opt_parse(port_class.opts, options, &rig->confs[i], &error), 0);
		if (i)
			rig->confs[i - 1].virtio.next = &rig->confs[i].virtio;
	}
	assert_int_equal(vq_guest_init(&rig->guest, &port_class, rig->confs), 0);
	start(rig);
	for (; rig->step < STEPS; rig->step++) {
		if (any(rig, 200))
			steps[any(rig, ARRAY_SIZE(steps))](rig);
		else
			restart(rig);
		assert_false(vq_failed(&rig->guest));
	}
	assert_true(rig->read > MIB(1) && rig->written > MIB(1));

	vq_guest_free(&rig->guest);
	for (unsigned int i = 0; i < PORTS; i++) {
		util_closep(&rig->parties[i].peer);
		opt_free(port_class.opts, &rig->confs[i]);
	}
	rmdir(dir);
	assert_int_equal(open_files(), files);
	test_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
