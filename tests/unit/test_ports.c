// SPDX-License-Identifier: Apache-2.0
/* virtio-console with named ports: what the driver is told, and when; whom a port waits for. */
#include <endian.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include "core/usock.h"
#include "devices/console.h"
#include "tests/lib/child.h"
#include "tests/unit/driver.h"

extern const struct virtio_class port_class;

#define MULTIPORT (1ULL << VIRTIO_CONSOLE_F_MULTIPORT)
#define ROOM 64 /* of a buffer for a control message */

struct rig {
	struct vq_guest guest;
	struct ports_conf confs[PORTS_MAX];
	unsigned int count;
	int peers[PORTS_MAX];
	uint64_t posted[VIRTIO_QUEUES_MAX][VQ_SIZE]; /* where the buffer of each head is */
	char dir[32], paths[PORTS_MAX][64];
};

static int set_up(void **state)
{
	struct rig *rig = test_calloc(1, sizeof(*rig));

	strcpy(rig->dir, "/tmp/ports.XXXXXX");
	assert_non_null(mkdtemp(rig->dir));
	for (unsigned int i = 0; i < PORTS_MAX; i++) {
		snprintf(rig->paths[i], sizeof(rig->paths[i]), "%s/%u", rig->dir, i);
		rig->peers[i] = -1;
	}
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	vq_guest_free(&rig->guest);
	for (unsigned int i = 0; i < PORTS_MAX; i++) {
		opt_free(port_class.opts, &rig->confs[i]);
		util_closep(&rig->peers[i]);
		unlink(rig->paths[i]);
	}
	rmdir(rig->dir);
	test_free(rig);
	return 0;
}

static void configure(struct rig *rig, const char *options)
{
	struct ports_conf *conf = &rig->confs[rig->count];
	struct opt_error error;

	assert_int_equal(opt_parse(port_class.opts, options, conf, &error), 0);
	if (rig->count++)
		conf[-1].virtio.next = &conf->virtio;
}

/* A port on the socket of its number. */
static void configure_socket(struct rig *rig, const char *key)
{
	char options[128];

	snprintf(options, sizeof(options), "port%u,%s=%s", rig->count, key, rig->paths[rig->count]);
	configure(rig, options);
}

static void make(struct rig *rig)
{
	assert_int_equal(vq_guest_init(&rig->guest, &port_class, rig->confs), 0);
}

static unsigned int queue_of(unsigned int id, bool transmit)
{
	return (id ? 2 + 2 * id : 0) + transmit;
}

static void post(struct rig *rig, unsigned int queue, const void *text, uint32_t len, bool writable)
{
	const struct vq_buffer buffer = {
		.gpa = vq_alloc(&rig->guest, len), .len = len, .writable = writable
	};

	if (text)
		memcpy(vq_ptr(&rig->guest, buffer.gpa, len), text, len);
	rig->posted[queue][vq_post(&rig->guest, queue, &buffer, 1)] = buffer.gpa;
	vq_notify(&rig->guest, queue);
	if (!rig->guest.running)
		vq_turn(&rig->guest);
}

static void give_buffers(struct rig *rig, unsigned int count)
{
	while (count--)
		post(rig, PORTS_CONTROL_RECEIVE, NULL, ROOM, true);
}

static void say(struct rig *rig, uint32_t id, uint16_t event, uint16_t value)
{
	const struct virtio_console_control control = {
		.id = htole32(id), .event = htole16(event), .value = htole16(value)
	};

	post(rig, PORTS_CONTROL_TRANSMIT, &control, sizeof(control), false);
	(void)vq_take(&rig->guest, PORTS_CONTROL_TRANSMIT, &(uint16_t){ 0 }, NULL);
}

static bool told_something(struct rig *rig)
{
	const struct vq *queue = &rig->guest.queues[PORTS_CONTROL_RECEIVE];
	const struct vring_used *used = vq_ptr(&rig->guest, queue->used, sizeof(*used));

	return used->idx != queue->seen;
}

/* The next message; its buffer is the device's again. */
static void assert_told_more(struct rig *rig, uint32_t id, uint16_t event, uint16_t value,
			     const void *more, size_t size)
{
	struct virtio_console_control control;
	const uint8_t *bytes;
	uint16_t head = 0;
	uint32_t len = 0;

	assert_true(vq_take(&rig->guest, PORTS_CONTROL_RECEIVE, &head, &len));
	assert_int_equal(len, sizeof(control) + size);
	bytes = vq_ptr(&rig->guest, rig->posted[PORTS_CONTROL_RECEIVE][head], len);
	memcpy(&control, bytes, sizeof(control));
	assert_int_equal(le32toh(control.id), id);
	assert_int_equal(le16toh(control.event), event);
	assert_int_equal(le16toh(control.value), value);
	if (size)
		assert_memory_equal(bytes + sizeof(control), more, size);
	give_buffers(rig, 1);
}

static void assert_told(struct rig *rig, uint32_t id, uint16_t event, uint16_t value)
{
	assert_told_more(rig, id, event, value, NULL, 0);
}

static void assert_told_nothing(struct rig *rig)
{
	vq_turn(&rig->guest);
	assert_false(told_something(rig));
}

/* Up to where the driver has all ports, and has heard their names. */
static void introduce(struct rig *rig)
{
	vq_start(&rig->guest, MULTIPORT);
	give_buffers(rig, VQ_SIZE);
	say(rig, VIRTIO_CONSOLE_BAD_ID, VIRTIO_CONSOLE_DEVICE_READY, 1);
	for (unsigned int i = 0; i < rig->count; i++)
		assert_told(rig, i, VIRTIO_CONSOLE_PORT_ADD, 1);
	for (unsigned int i = 0; i < rig->count; i++) {
		const char *name = rig->confs[i].name;

		say(rig, i, VIRTIO_CONSOLE_PORT_READY, 1);
		if (rig->confs[i].console)
			assert_told(rig, i, VIRTIO_CONSOLE_CONSOLE_PORT, 1);
		assert_told_more(rig, i, VIRTIO_CONSOLE_PORT_NAME, 1, name, strlen(name));
	}
}

static void connect_peer(struct rig *rig, unsigned int id)
{
	assert_int_equal(usock_connect(rig->paths[id], SOCK_STREAM, &rig->peers[id]), 0);
	vq_turn(&rig->guest);
}

static void open_port(struct rig *rig, unsigned int id)
{
	connect_peer(rig, id);
	assert_told(rig, id, VIRTIO_CONSOLE_PORT_OPEN, 1);
	say(rig, id, VIRTIO_CONSOLE_PORT_OPEN, 1);
}

/* count ports on sockets, which the driver knows. */
static void start_on_sockets(struct rig *rig, unsigned int count)
{
	while (rig->count < count)
		configure_socket(rig, "socket");
	make(rig);
	introduce(rig);
}

static void assert_peer_reads(struct rig *rig, unsigned int id, const char *want)
{
	char buffer[64];

	assert_int_equal(read(rig->peers[id], buffer, sizeof(buffer)), strlen(want));
	assert_memory_equal(buffer, want, strlen(want));
}

static void assert_received(struct rig *rig, unsigned int id, const char *want)
{
	unsigned int queue = queue_of(id, false);
	uint16_t head = 0;
	uint32_t len = 0;

	assert_true(vq_take(&rig->guest, queue, &head, &len));
	assert_int_equal(len, strlen(want));
	assert_memory_equal(vq_ptr(&rig->guest, rig->posted[queue][head], len), want, len);
}

/* Each port has its queues, its name and its peer. */
static void test_all_ports(void **state)
{
	struct rig *rig = *state;
	char text[16];

	start_on_sockets(rig, PORTS_MAX);
	assert_int_equal(rig->guest.dev->queue_count, 2 * PORTS_MAX + 2);
	for (unsigned int i = 0; i < PORTS_MAX; i++)
		open_port(rig, i);
	assert_told_nothing(rig);
	for (unsigned int i = 0; i < PORTS_MAX; i++) {
		snprintf(text, sizeof(text), "out of %u", i);
		post(rig, queue_of(i, true), text, (uint32_t)strlen(text), false);
		snprintf(text, sizeof(text), "into %u", i);
		assert_int_equal(write(rig->peers[i], text, strlen(text)), strlen(text));
	}
	for (unsigned int i = 0; i < PORTS_MAX; i++) {
		snprintf(text, sizeof(text), "out of %u", i);
		assert_peer_reads(rig, i, text);
		post(rig, queue_of(i, false), NULL, 32, true);
		snprintf(text, sizeof(text), "into %u", i);
		assert_received(rig, i, text);
	}
	assert_int_equal(vq_counter(&rig->guest, "lost_bytes"), 0);
}

static void test_configuration(void **state)
{
	struct rig *rig = *state;
	struct virtio_console_config config = { 0 };

	configure(rig, "one,none");
	configure(rig, "two,none,queue-size=32");
	make(rig);
	virtio_config_read(rig->guest.dev, 0, &config, (uint32_t)port_class.config_size);
	assert_int_equal(le32toh(config.max_nr_ports), 2);
	assert_null(rig->guest.dev->where);
	/* The first one's is for all. */
	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(virtio_queue_max(rig->guest.dev, queue_of(i, true)),
				 virtio_queue_max(rig->guest.dev, 0));
}

static void test_queue_size(void **state)
{
	struct rig *rig = *state;

	configure(rig, "one,none,queue-size=16");
	configure(rig, "two,none");
	make(rig);
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(virtio_queue_max(rig->guest.dev, queue_of(i, false)), 16);
		assert_int_equal(virtio_queue_max(rig->guest.dev, queue_of(i, true)), 16);
	}
	assert_int_equal(virtio_queue_max(rig->guest.dev, PORTS_CONTROL_RECEIVE), 32);
}

/* A driver without messages has one port. */
static void test_one_port_without_messages(void **state)
{
	struct rig *rig = *state;

	configure_socket(rig, "socket");
	configure_socket(rig, "socket");
	make(rig);
	vq_start(&rig->guest, 0);
	connect_peer(rig, 0);
	post(rig, 0, NULL, 16, true);
	post(rig, 1, "out", 3, false);
	assert_peer_reads(rig, 0, "out");
	assert_int_equal(write(rig->peers[0], "in", 2), 2);
	vq_turn(&rig->guest);
	assert_received(rig, 0, "in");
	give_buffers(rig, 1);
	assert_told_nothing(rig);
}

/* What a peer sends before the guest opens the port waits, and so does what it sends afterwards. */
static void test_closed_port_gets_nothing(void **state)
{
	struct rig *rig = *state;

	start_on_sockets(rig, 1);
	post(rig, 0, NULL, 16, true);
	connect_peer(rig, 0);
	assert_told(rig, 0, VIRTIO_CONSOLE_PORT_OPEN, 1);
	assert_int_equal(write(rig->peers[0], "early", 5), 5);
	vq_turn(&rig->guest);
	assert_int_equal(vq_counter(&rig->guest, "in_bytes"), 0);
	say(rig, 0, VIRTIO_CONSOLE_PORT_OPEN, 1);
	assert_received(rig, 0, "early");
}

/* All that a peer sent comes before the news that it has left; then there is another. */
static void test_peers_come_and_go(void **state)
{
	struct rig *rig = *state;

	start_on_sockets(rig, 2);
	open_port(rig, 1);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(write(rig->peers[1], "last words", 10), 10);
		util_closep(&rig->peers[1]);
		assert_told_nothing(rig);
		post(rig, queue_of(1, false), NULL, 16, true);
		assert_received(rig, 1, "last words");
		post(rig, queue_of(1, false), NULL, 16, true);
		assert_told(rig, 1, VIRTIO_CONSOLE_PORT_OPEN, 0);

		/* There is nobody to hear it. */
		post(rig, queue_of(1, true), "lost", 4, false);
		assert_int_equal(vq_counter(&rig->guest, "lost_bytes"), 4 * (i + 1));

		connect_peer(rig, 1);
		assert_told(rig, 1, VIRTIO_CONSOLE_PORT_OPEN, 1);
		assert_int_equal(write(rig->peers[1], "new", 3), 3);
		vq_turn(&rig->guest);
		assert_received(rig, 1, "new");
	}
	assert_told_nothing(rig);
}

/* A port that the guest closes ends its peer's stream, behind what was written. */
static void test_guest_closes(void **state)
{
	struct rig *rig = *state;

	start_on_sockets(rig, 1);
	open_port(rig, 0);
	post(rig, 1, "the end", 7, false);
	say(rig, 0, VIRTIO_CONSOLE_PORT_OPEN, 0);
	assert_peer_reads(rig, 0, "the end");
	assert_peer_reads(rig, 0, "");
	assert_told(rig, 0, VIRTIO_CONSOLE_PORT_OPEN, 0);
	/* It is closed already. */
	say(rig, 0, VIRTIO_CONSOLE_PORT_OPEN, 0);
	util_closep(&rig->peers[0]);
	open_port(rig, 0);
	post(rig, 1, "once more", 9, false);
	assert_peer_reads(rig, 0, "once more");
	assert_told_nothing(rig);
}

/* Writes until the peer of the port takes nothing; returns how much. */
static size_t fill(struct rig *rig, unsigned int id)
{
	static const uint8_t block[4096];
	unsigned int queue = queue_of(id, true);
	size_t total = 0;

	do {
		post(rig, queue, block, sizeof(block), false);
		total += sizeof(block);
	} while (vq_take(&rig->guest, queue, &(uint16_t){ 0 }, NULL));
	return total;
}

/* How much the peer reads until there is no more now, or ever. */
static size_t read_all(struct rig *rig, unsigned int id)
{
	static char buffer[8192];
	size_t total = 0;
	ssize_t n;

	while ((n = read(rig->peers[id], buffer, sizeof(buffer))) > 0) {
		total += (size_t)n;
		vq_turn(&rig->guest);
	}
	return total;
}

/* One that reads nothing holds its own port, and nobody else. A close waits for it. */
static void test_slow_peer(void **state)
{
	struct rig *rig = *state;
	size_t total;

	start_on_sockets(rig, 3);
	for (unsigned int i = 0; i < 3; i++)
		open_port(rig, i);
	total = fill(rig, 1);
	for (int i = 0; i < 100; i++) {
		for (unsigned int id = 0; id < 3; id += 2) {
			post(rig, queue_of(id, true), "flows", 5, false);
			assert_true(vq_take(&rig->guest, queue_of(id, true), &(uint16_t){ 0 }, NULL));
			assert_peer_reads(rig, id, "flows");
		}
	}
	say(rig, 1, VIRTIO_CONSOLE_PORT_OPEN, 0);
	assert_told_nothing(rig);
	assert_int_equal(read_all(rig, 1), total);
	assert_peer_reads(rig, 1, "");
	assert_told(rig, 1, VIRTIO_CONSOLE_PORT_OPEN, 0);
	assert_int_equal(vq_counter(&rig->guest, "lost_bytes"), 0);
}

/* One that sends without end takes turns with the others. */
static void test_fast_peer(void **state)
{
	struct rig *rig = *state;
	const uint32_t len = MIB(2);
	int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC), saved = dup(STDIN_FILENO);

	dup2(zero, STDIN_FILENO);
	configure(rig, "zero,stdio");
	make(rig);
	introduce(rig);
	assert_told(rig, 0, VIRTIO_CONSOLE_PORT_OPEN, 1);
	say(rig, 0, VIRTIO_CONSOLE_PORT_OPEN, 1);
	for (int i = 0; i < 2; i++) {
		const struct vq_buffer buffer = {
			.gpa = vq_alloc(&rig->guest, len), .len = len, .writable = true
		};

		vq_post(&rig->guest, 0, &buffer, 1);
	}
	vq_notify(&rig->guest, 0);
	loop_turn(&rig->guest.dev->workers[0].loop, 0);
	assert_true(vq_take(&rig->guest, 0, &(uint16_t){ 0 }, NULL));
	assert_false(vq_take(&rig->guest, 0, &(uint16_t){ 0 }, NULL));
	vq_turn(&rig->guest);
	assert_true(vq_take(&rig->guest, 0, &(uint16_t){ 0 }, NULL));
	dup2(saved, STDIN_FILENO);
	close(saved);
	close(zero);
}

/* Whatever happens meanwhile, there is a bounded number of things to tell. */
static void test_no_control_buffers(void **state)
{
	struct rig *rig = *state;

	configure_socket(rig, "socket");
	make(rig);
	vq_start(&rig->guest, MULTIPORT);
	say(rig, 0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	say(rig, 0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	say(rig, 0, VIRTIO_CONSOLE_PORT_READY, 1);
	for (int i = 0; i < 50; i++) {
		connect_peer(rig, 0);
		say(rig, 0, VIRTIO_CONSOLE_PORT_OPEN, 1);
		say(rig, 0, VIRTIO_CONSOLE_PORT_OPEN, 0);
		util_closep(&rig->peers[0]);
	}
	connect_peer(rig, 0);
	give_buffers(rig, 8);
	assert_told_more(rig, 0, VIRTIO_CONSOLE_PORT_NAME, 1, "port0", 5);
	assert_told(rig, 0, VIRTIO_CONSOLE_PORT_OPEN, 1);
	assert_told_nothing(rig);

	/* A peer that was told of is another by now. */
	while (vq_take(&rig->guest, PORTS_CONTROL_TRANSMIT, &(uint16_t){ 0 }, NULL))
		;
	util_closep(&rig->peers[0]);
	connect_peer(rig, 0);
	assert_told(rig, 0, VIRTIO_CONSOLE_PORT_OPEN, 0);
	assert_told(rig, 0, VIRTIO_CONSOLE_PORT_OPEN, 1);
	assert_told_nothing(rig);
}

/* A driver that could not make a port hears no more of it. */
static void test_port_not_ready(void **state)
{
	struct rig *rig = *state;

	start_on_sockets(rig, 1);
	say(rig, 0, VIRTIO_CONSOLE_PORT_READY, 0);
	connect_peer(rig, 0);
	assert_told_nothing(rig);
	say(rig, 0, VIRTIO_CONSOLE_DEVICE_READY, 0);
	assert_told_nothing(rig);
	assert_false(vq_failed(&rig->guest));
}

static void test_hostile_messages(void **state)
{
	static const struct {
		uint32_t id;
		uint16_t event;
		uint32_t len;
	} wrong[] = {
		{ 2, VIRTIO_CONSOLE_PORT_READY, 8 },
		{ 16, VIRTIO_CONSOLE_PORT_OPEN, 8 },
		{ UINT32_MAX, VIRTIO_CONSOLE_PORT_OPEN, 8 },
		{ 0, VIRTIO_CONSOLE_PORT_ADD, 8 },
		{ 0, VIRTIO_CONSOLE_PORT_NAME, 8 },
		{ 0, 0xffff, 8 },
		{ 0, VIRTIO_CONSOLE_PORT_READY, 7 },
		{ 0, VIRTIO_CONSOLE_PORT_READY, 1 },
	};
	struct rig *rig = *state;

	configure(rig, "one,none");
	configure(rig, "two,none");
	make(rig);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		const struct virtio_console_control control = {
			.id = htole32(wrong[i].id), .event = htole16(wrong[i].event), .value = htole16(1)
		};

		vq_start(&rig->guest, MULTIPORT);
		post(rig, PORTS_CONTROL_TRANSMIT, &control, wrong[i].len, false);
		assert_true(vq_failed(&rig->guest));
		vq_reset(&rig->guest);
	}

	/* Before anything was introduced it means nothing, and does no harm. */
	vq_start(&rig->guest, MULTIPORT);
	say(rig, 1, VIRTIO_CONSOLE_PORT_OPEN, 1);
	say(rig, 1, VIRTIO_CONSOLE_PORT_OPEN, 0);
	assert_false(vq_failed(&rig->guest));

	/* A name takes more room than an addition. */
	post(rig, PORTS_CONTROL_RECEIVE, NULL, 8, true);
	say(rig, 0, VIRTIO_CONSOLE_PORT_READY, 1);
	assert_true(vq_failed(&rig->guest));
}

/* Without queues a port has peers all the same. */
static void test_ports_without_queues(void **state)
{
	const uint8_t status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;
	struct rig *rig = *state;

	configure_socket(rig, "socket");
	configure_socket(rig, "socket");
	make(rig);
	virtio_set_status(rig->guest.dev, status);
	vq_set_features(&rig->guest, MULTIPORT | 1ULL << VIRTIO_F_VERSION_1);
	virtio_set_status(rig->guest.dev, status | VIRTIO_CONFIG_S_FEATURES_OK);
	vq_set_up_queue(&rig->guest, PORTS_CONTROL_RECEIVE);
	vq_set_up_queue(&rig->guest, PORTS_CONTROL_TRANSMIT);
	virtio_set_status(rig->guest.dev,
			  status | VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
	give_buffers(rig, 4);
	say(rig, 1, VIRTIO_CONSOLE_PORT_READY, 1);
	assert_told_more(rig, 1, VIRTIO_CONSOLE_PORT_NAME, 1, "port1", 5);
	open_port(rig, 1);
	assert_int_equal(write(rig->peers[1], "hello", 5), 5);
	say(rig, 1, VIRTIO_CONSOLE_PORT_OPEN, 0);
	assert_told(rig, 1, VIRTIO_CONSOLE_PORT_OPEN, 0);
	virtio_dev_drain(rig->guest.dev);
	assert_false(vq_failed(&rig->guest));
}

/* The driver that begins again hears all of it again; peers of the last one are gone. */
static void test_reset(void **state)
{
	struct rig *rig = *state;

	start_on_sockets(rig, 2);
	open_port(rig, 0);
	vq_reset(&rig->guest);
	assert_peer_reads(rig, 0, "");
	util_closep(&rig->peers[0]);
	introduce(rig);
	open_port(rig, 0);
	assert_told_nothing(rig);
}

static int take_over(struct rig *rig, const struct state *saved)
{
	struct state_reader reader = { saved->data, saved->len };

	virtio_dev_free(rig->guest.dev);
	rig->guest.dev = NULL;
	assert_int_equal(vq_plug(&rig->guest, rig->confs), 0);
	return virtio_dev_load(rig->guest.dev, &reader);
}

/* The ports are as they were; their peers are not. */
static void test_save(void **state)
{
	/* Behind a section's header and the rest of a device's: how many ports there are. */
	const size_t max_nr_ports = STATE_NAME_MAX + 8 + 16 +
				    offsetof(struct virtio_console_config, max_nr_ports);
	struct rig *rig = *state;
	struct state saved = { 0 };

	start_on_sockets(rig, 2);
	open_port(rig, 1);
	virtio_dev_pause(rig->guest.dev);
	assert_int_equal(virtio_dev_save(rig->guest.dev, &saved), 0);
	assert_int_equal(take_over(rig, &saved), 0);
	util_closep(&rig->peers[1]);
	virtio_dev_resume(rig->guest.dev);
	vq_turn(&rig->guest);
	assert_told(rig, 1, VIRTIO_CONSOLE_PORT_OPEN, 0);
	connect_peer(rig, 1);
	assert_told(rig, 1, VIRTIO_CONSOLE_PORT_OPEN, 1);
	assert_int_equal(write(rig->peers[1], "still open", 10), 10);
	post(rig, queue_of(1, false), NULL, 16, true);
	assert_received(rig, 1, "still open");

	/* The last port's: what is due, and its flags. */
	for (size_t i = 7; i <= 8; i++) {
		saved.data[saved.len - i] ^= 0x80;
		assert_int_equal(take_over(rig, &saved), -EINVAL);
		saved.data[saved.len - i] ^= 0x80;
	}
	saved.data[max_nr_ports]++;
	assert_int_equal(take_over(rig, &saved), -EINVAL);
	state_free(&saved);
}

/* A program that listens leaves, and comes back: there is a process to connect to it again. */
static void test_connects_again(void **state)
{
	struct rig *rig = *state;
	int listener;

	assert_int_equal(usock_listen(rig->paths[0], SOCK_STREAM, 1, &listener), 0);
	configure_socket(rig, "connect");
	make(rig);
	assert_null(rig->guest.dev->where);
	introduce(rig);
	assert_told(rig, 0, VIRTIO_CONSOLE_PORT_OPEN, 1);
	say(rig, 0, VIRTIO_CONSOLE_PORT_OPEN, 1);
	post(rig, 0, NULL, 16, true);
	for (int i = 0; i < 2; i++) {
		rig->peers[0] = accept(listener, NULL, NULL);
		assert_true(rig->peers[0] >= 0);
		post(rig, 1, "out", 3, false);
		assert_peer_reads(rig, 0, "out");
		assert_int_equal(write(rig->peers[0], "in", 2), 2);
		vq_turn(&rig->guest);
		assert_received(rig, 0, "in");
		post(rig, 0, NULL, 16, true);
		util_closep(&rig->peers[0]);
		vq_turn(&rig->guest);
		assert_told(rig, 0, VIRTIO_CONSOLE_PORT_OPEN, 0);
		while (!told_something(rig))
			assert_true(vq_wait(&rig->guest) > 0);
		assert_told(rig, 0, VIRTIO_CONSOLE_PORT_OPEN, 1);
	}
	close(listener);
	/* It does not come uninvited: nothing is removed that is not ours. */
	vq_guest_free(&rig->guest);
	rig->guest = (struct vq_guest){ 0 };
	assert_int_equal(access(rig->paths[0], F_OK), 0);
}

static void test_nobody_to_connect_to(void **state)
{
	struct rig *rig = *state;

	configure_socket(rig, "connect");
	assert_int_equal(vq_guest_init(&rig->guest, &port_class, rig->confs), -ENOENT);
}

/* Once or, as Linux may forget it, several times. */
static void assert_told_size(struct rig *rig, uint16_t columns, uint16_t rows)
{
	const uint16_t size[] = { htole16(columns), htole16(rows) };

	vq_turn(&rig->guest);
	do
		assert_told_more(rig, 0, VIRTIO_CONSOLE_RESIZE, 0, size, sizeof(size));
	while (told_something(rig));
}

/* A console on a pty, whose size nothing tells of but what is typed there. */
static void test_console_resizes(void **state)
{
	const struct winsize first = { .ws_col = 80, .ws_row = 24 };
	const struct winsize second = { .ws_col = 132, .ws_row = 43 };
	struct rig *rig = *state;
	char path[64];
	int user;

	configure(rig, "login,pty,console");
	make(rig);
	assert_int_equal(sscanf(rig->guest.dev->where, "%63s (login)", path), 1);
	user = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(user >= 0);
	assert_int_equal(ioctl(user, TIOCSWINSZ, &first), 0);
	introduce(rig);
	assert_told(rig, 0, VIRTIO_CONSOLE_PORT_OPEN, 1);
	assert_told_size(rig, 80, 24);
	say(rig, 0, VIRTIO_CONSOLE_PORT_OPEN, 1);

	assert_int_equal(ioctl(user, TIOCSWINSZ, &second), 0);
	assert_int_equal(write(user, "x", 1), 1);
	assert_true(vq_wait(&rig->guest) > 0);
	assert_told_size(rig, 132, 43);

	/* Where something does, it is told at once, and only what is new. */
	virtio_dev_resize(rig->guest.dev);
	assert_told_nothing(rig);
	assert_int_equal(ioctl(user, TIOCSWINSZ, &first), 0);
	virtio_dev_resize(rig->guest.dev);
	assert_told_size(rig, 80, 24);
	close(user);
}

/* At the end each reader gets what there is, told or not; what is for one that has left is lost. */
static void test_drain(void **state)
{
	struct vq_buffer buffer = { .len = 4 };
	struct rig *rig = *state;

	start_on_sockets(rig, 2);
	open_port(rig, 0);
	open_port(rig, 1);
	fill(rig, 0);
	util_closep(&rig->peers[0]);
	buffer.gpa = vq_alloc(&rig->guest, buffer.len);
	memcpy(vq_ptr(&rig->guest, buffer.gpa, buffer.len), "rest", buffer.len);
	vq_post(&rig->guest, queue_of(1, true), &buffer, 1);
	virtio_dev_drain(rig->guest.dev);
	assert_peer_reads(rig, 1, "rest");
	assert_true(vq_counter(&rig->guest, "lost_bytes") > 0);
}

static void test_wrong_names(void **state)
{
	static const struct {
		const char *options;
		int rc;
	} wrong[] = {
		{ "a/b,none", -EILSEQ }, { ".,none", -EILSEQ }, { "a b,none", -EILSEQ },
		{ "twice,none", -ENOTUNIQ }, { "no-back-end-but-file,file=/no/x", -ENOENT },
		{ "0123456789012345678901234567890123456789012345678901234567890123,none", -EILSEQ },
	};
	struct rig *rig = *state;
	const struct virtio_conf *blamed = NULL;

	configure(rig, "twice,none");
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct virtio_host host = { .blamed = &blamed };
		struct virtio_dev *dev;

		rig->count = 1;
		configure(rig, wrong[i].options);
		assert_int_equal(virtio_dev_new(&port_class, 0, rig->confs, &host, &dev), wrong[i].rc);
		assert_ptr_equal(blamed, &rig->confs[1].virtio);
		assert_string_not_equal(hint_find(port_class.hints, EILSEQ), strerror(EILSEQ));
		opt_free(port_class.opts, &rig->confs[1]);
		rig->confs[1] = (struct ports_conf){ 0 };
	}
}

/* On a thread with its own fd table and filter: peers come and go, on both kinds of sockets. */
static void test_confined(void **state)
{
	struct rig *rig = *state;
	uint16_t head;
	int listener;

	configure_socket(rig, "socket");
	assert_int_equal(usock_listen(rig->paths[1], SOCK_STREAM, 1, &listener), 0);
	configure_socket(rig, "connect");
	configure(rig, "login,pty,console");
	make(rig);
	/* An emulator has no filters. */
	assert_int_equal(vq_run(&rig->guest, !child_emulator()), 0);
	vq_start(&rig->guest, MULTIPORT);
	for (unsigned int i = 0; i < 3; i++)
		post(rig, PORTS_CONTROL_RECEIVE, NULL, ROOM, true);
	for (unsigned int i = 0; i < 2; i++) {
		const struct virtio_console_control controls[] = {
			{ .id = htole32(i), .event = htole16(VIRTIO_CONSOLE_PORT_READY), .value = htole16(1) },
			{ .id = htole32(i), .event = htole16(VIRTIO_CONSOLE_PORT_OPEN), .value = htole16(1) },
			{ .id = htole32(i), .event = htole16(VIRTIO_CONSOLE_PORT_OPEN) },
		};
		struct pollfd end = { .events = POLLIN };

		if (i)
			rig->peers[i] = accept(listener, NULL, NULL);
		else
			assert_int_equal(usock_connect(rig->paths[i], SOCK_STREAM, &rig->peers[i]), 0);
		assert_int_equal(write(rig->peers[i], "in", 2), 2);
		post(rig, queue_of(i, false), NULL, 16, true);
		post(rig, PORTS_CONTROL_TRANSMIT, &controls[0], sizeof(controls[0]), false);
		post(rig, PORTS_CONTROL_TRANSMIT, &controls[1], sizeof(controls[1]), false);
		assert_true(vq_await(&rig->guest, queue_of(i, false), &head, NULL));
		post(rig, PORTS_CONTROL_TRANSMIT, &controls[2], sizeof(controls[2]), false);
		end.fd = rig->peers[i];
		assert_int_equal(poll(&end, 1, VQ_WAIT_MS), 1);
		assert_peer_reads(rig, i, "");
	}
	virtio_dev_resize(rig->guest.dev);
	/* The port connects again. */
	assert_int_equal(poll(&(struct pollfd){ .fd = listener, .events = POLLIN }, 1, VQ_WAIT_MS), 1);
	close(listener);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_all_ports, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_configuration, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_queue_size, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_one_port_without_messages, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_closed_port_gets_nothing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_peers_come_and_go, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_guest_closes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_slow_peer, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_fast_peer, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_control_buffers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_port_not_ready, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_hostile_messages, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_ports_without_queues, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_reset, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_save, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_connects_again, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_nobody_to_connect_to, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_console_resizes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_drain, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_wrong_names, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_confined, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
