// SPDX-License-Identifier: Apache-2.0
#include <endian.h>
#include <fcntl.h>
#include <linux/virtio_console.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include "core/chardev.h"
#include "core/state.h"
#include "tests/lib/child.h"
#include "tests/unit/driver.h"

extern const struct virtio_class console_class;

enum { RECEIVE, TRANSMIT };

#define F_SIZE (1ULL << VIRTIO_CONSOLE_F_SIZE)
#define F_EMERG_WRITE (1ULL << VIRTIO_CONSOLE_F_EMERG_WRITE)

struct rig {
	struct vq_guest guest;
	int peer;
	char dir[32], path[64];
};

static int set_up(void **state)
{
	struct rig *rig = test_calloc(1, sizeof(*rig));

	strcpy(rig->dir, "/tmp/console.XXXXXX");
	assert_non_null(mkdtemp(rig->dir));
	snprintf(rig->path, sizeof(rig->path), "%s/x", rig->dir);
	rig->peer = -1;
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	vq_guest_free(&rig->guest);
	if (rig->peer >= 0)
		close(rig->peer);
	unlink(rig->path);
	rmdir(rig->dir);
	test_free(rig);
	return 0;
}

static void init_console(struct rig *rig, const char *options)
{
	assert_int_equal(vq_guest_make(&rig->guest, &console_class, options), 0);
}

/* With the path of the test behind key. */
static void init_at_path(struct rig *rig, const char *key)
{
	char options[128];

	snprintf(options, sizeof(options), "%s=%s", key, rig->path);
	init_console(rig, options);
}

static void connect_peer(struct rig *rig)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	rig->peer = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_true(rig->peer >= 0);
	strcpy(addr.sun_path, rig->path);
	assert_int_equal(connect(rig->peer, (struct sockaddr *)&addr, sizeof(addr)), 0);
}

/* A console whose other end is the test, by way of a UNIX socket. */
static void start_on_socket(struct rig *rig)
{
	init_at_path(rig, "socket");
	assert_string_equal(rig->guest.dev->where, rig->path);
	connect_peer(rig);
	vq_turn(&rig->guest);
	vq_start(&rig->guest, F_EMERG_WRITE);
}

/* Makes text available for transmission, in two buffers where it is long enough. */
static void post_output(struct rig *rig, const void *text, uint32_t len)
{
	uint64_t gpa = vq_alloc(&rig->guest, len);
	const struct vq_buffer buffers[] = {
		{ .gpa = gpa, .len = len - len / 2 },
		{ .gpa = gpa + len - len / 2, .len = len / 2 },
	};

	memcpy(vq_ptr(&rig->guest, gpa, len), text, len);
	vq_post(&rig->guest, TRANSMIT, buffers, len / 2 ? 2 : 1);
}

static uint64_t post_input(struct rig *rig, uint32_t len)
{
	const struct vq_buffer buffer = {
		.gpa = vq_alloc(&rig->guest, len), .len = len, .writable = true
	};

	vq_post(&rig->guest, RECEIVE, &buffer, 1);
	return buffer.gpa;
}

static void kick(struct rig *rig, unsigned int queue)
{
	vq_notify(&rig->guest, queue);
	vq_turn(&rig->guest);
}

static void assert_peer_reads(struct rig *rig, const char *want)
{
	char buffer[64];

	assert_int_equal(read(rig->peer, buffer, sizeof(buffer)), strlen(want));
	assert_memory_equal(buffer, want, strlen(want));
}

static void assert_received(struct rig *rig, uint64_t gpa, const char *want)
{
	uint16_t head;
	uint32_t len;

	assert_true(vq_take(&rig->guest, RECEIVE, &head, &len));
	assert_int_equal(len, strlen(want));
	assert_memory_equal(vq_ptr(&rig->guest, gpa, len), want, len);
}

static void test_output(void **state)
{
	struct rig *rig = *state;
	uint16_t head;
	uint32_t len;

	start_on_socket(rig);
	post_output(rig, "hello ", 6);
	post_output(rig, "world", 5);
	kick(rig, TRANSMIT);
	assert_peer_reads(rig, "hello world");
	for (int i = 0; i < 2; i++) {
		assert_true(vq_take(&rig->guest, TRANSMIT, &head, &len));
		assert_int_equal(len, 0);
	}
	assert_false(vq_take(&rig->guest, TRANSMIT, &head, &len));
	assert_true(rig->guest.queue_interrupts[TRANSMIT] > 0);
	assert_int_equal(vq_counter(&rig->guest, "out_bytes"), 11);
	assert_int_equal(vq_counter(&rig->guest, "lost_bytes"), 0);
}

/* Half of the queue's descriptors at a time: a chain takes two. */
#define BLOCK KIB(16)
#define BLOCKS 64

static void fill_block(uint8_t *block, unsigned int number)
{
	for (size_t i = 0; i < BLOCK; i++)
		block[i] = (uint8_t)(number * 31 + i * 7 + i / 251);
}

static void read_some(struct rig *rig, uint8_t *seen, size_t *got)
{
	ssize_t n = read(rig->peer, seen + *got, 7000);

	if (n > 0)
		*got += (size_t)n;
}

static void assert_blocks(const uint8_t *seen)
{
	static uint8_t block[BLOCK];

	for (unsigned int i = 0; i < BLOCKS; i++) {
		fill_block(block, i);
		assert_memory_equal(seen + i * BLOCK, block, BLOCK);
	}
}

static void test_slow_reader(void **state)
{
	struct rig *rig = *state;
	uint8_t *seen = test_calloc(BLOCKS, BLOCK);
	static uint8_t block[BLOCK];
	unsigned int posted = 0, done = 0;
	bool waited = false;
	size_t got = 0;
	uint16_t head;

	start_on_socket(rig);
	while (got < BLOCKS * BLOCK) {
		bool moved = false;

		for (; posted < BLOCKS && posted - done < VQ_SIZE / 2; posted++, moved = true) {
			fill_block(block, posted);
			post_output(rig, block, BLOCK);
		}
		kick(rig, TRANSMIT);
		for (; vq_take(&rig->guest, TRANSMIT, &head, NULL); moved = true)
			done++;
		if (moved)
			continue;
		/* Only when nothing moves any more the reader takes a little. */
		waited = waited || posted < BLOCKS;
		read_some(rig, seen, &got);
		vq_turn(&rig->guest);
	}
	assert_true(waited);
	vq_turn(&rig->guest);
	assert_blocks(seen);
	assert_int_equal(vq_counter(&rig->guest, "out_bytes"), BLOCKS * BLOCK);
	assert_int_equal(vq_counter(&rig->guest, "lost_bytes"), 0);
	test_free(seen);
}

struct reader {
	int fd;
	uint8_t *seen;
	size_t got;
};

static void *read_all(void *arg)
{
	struct reader *reader = arg;
	struct pollfd poll_fd = { .fd = reader->fd, .events = POLLIN };
	ssize_t n;

	while (reader->got < VQ_SIZE / 2 * BLOCK && poll(&poll_fd, 1, 10000) > 0) {
		n = read(reader->fd, reader->seen + reader->got, 5000);
		if (n <= 0)
			break;
		reader->got += (size_t)n;
	}
	return NULL;
}

/* A chain with more than a turn's worth is carried on in the next one. */
static void test_turns_end(void **state)
{
	struct rig *rig = *state;
	const uint32_t len = MIB(3);
	struct vq_buffer buffer = { .len = len };
	struct stat st;
	uint16_t head;

	init_at_path(rig, "file");
	vq_start(&rig->guest, F_EMERG_WRITE);
	vq_turn(&rig->guest);
	buffer.gpa = vq_alloc(&rig->guest, len);
	vq_post(&rig->guest, TRANSMIT, &buffer, 1);
	vq_notify(&rig->guest, TRANSMIT);
	loop_turn(&rig->guest.dev->workers[0].loop, 0);
	assert_int_equal(stat(rig->path, &st), 0);
	assert_in_range(st.st_size, 1, len - 1);
	assert_false(vq_take(&rig->guest, TRANSMIT, &head, NULL));
	vq_turn(&rig->guest);
	assert_int_equal(stat(rig->path, &st), 0);
	assert_int_equal(st.st_size, len);
	assert_true(vq_take(&rig->guest, TRANSMIT, &head, NULL));
}

/* At the end of the run the reader gets what the guest had queued, kicked or not. */
static void test_drain(void **state)
{
	struct rig *rig = *state;
	const size_t total = VQ_SIZE / 2 * BLOCK;
	struct reader reader = { .seen = test_calloc(1, total) };
	int small = 4096;
	static uint8_t block[BLOCK];
	pthread_t thread;

	start_on_socket(rig);
	reader.fd = rig->peer;
	assert_int_equal(setsockopt(rig->peer, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
	for (unsigned int i = 0; i < VQ_SIZE / 2; i++) {
		fill_block(block, i);
		post_output(rig, block, BLOCK);
	}
	assert_int_equal(pthread_create(&thread, NULL, read_all, &reader), 0);
	virtio_dev_drain(rig->guest.dev);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(reader.got, total);
	for (unsigned int i = 0; i < VQ_SIZE / 2; i++) {
		fill_block(block, i);
		assert_memory_equal(reader.seen + i * BLOCK, block, BLOCK);
	}
	assert_int_equal(vq_counter(&rig->guest, "lost_bytes"), 0);
	test_free(reader.seen);
}

/* A driver that rang need not wait before it resets. */
static void test_reset_after_the_doorbell(void **state)
{
	struct rig *rig = *state;

	start_on_socket(rig);
	post_output(rig, "last words", 10);
	vq_notify(&rig->guest, TRANSMIT);
	virtio_set_status(rig->guest.dev, 0);
	assert_peer_reads(rig, "last words");
	assert_int_equal(vq_counter(&rig->guest, "out_bytes"), 10);
	assert_int_equal(vq_counter(&rig->guest, "lost_bytes"), 0);
}

/* What a reset cuts off is counted; what comes after it is delivered. */
static void test_reset_while_slow(void **state)
{
	struct rig *rig = *state;
	static const uint8_t zeroes[BLOCK];
	static uint8_t buffer[BLOCK];
	uint64_t before;
	uint16_t head;

	start_on_socket(rig);
	do {
		before = vq_counter(&rig->guest, "out_bytes");
		post_output(rig, zeroes, BLOCK);
		kick(rig, TRANSMIT);
	} while (vq_take(&rig->guest, TRANSMIT, &head, NULL));

	post_output(rig, zeroes, 7);
	virtio_set_status(rig->guest.dev, 0);
	assert_int_equal(vq_counter(&rig->guest, "lost_bytes"),
			 BLOCK + 7 - (vq_counter(&rig->guest, "out_bytes") - before));
	while (read(rig->peer, buffer, sizeof(buffer)) > 0)
		;
	vq_turn(&rig->guest);
	vq_start(&rig->guest, 0);
	post_output(rig, "again", 5);
	kick(rig, TRANSMIT);
	assert_peer_reads(rig, "again");
}

static void test_peer_leaves_while_slow(void **state)
{
	struct rig *rig = *state;
	static const uint8_t zeroes[BLOCK];
	uint16_t head;

	start_on_socket(rig);
	do {
		post_output(rig, zeroes, BLOCK);
		kick(rig, TRANSMIT);
	} while (vq_take(&rig->guest, TRANSMIT, &head, NULL));
	close(rig->peer);
	rig->peer = -1;
	vq_turn(&rig->guest);
	assert_true(vq_take(&rig->guest, TRANSMIT, &head, NULL));
}

static void test_input(void **state)
{
	struct rig *rig = *state;
	uint64_t first, second, third;
	uint16_t head;

	start_on_socket(rig);
	first = post_input(rig, 4);
	second = post_input(rig, 64);
	kick(rig, RECEIVE);
	assert_false(vq_take(&rig->guest, RECEIVE, &head, NULL));

	/* Longer than the first buffer; no escapes here. */
	assert_int_equal(write(rig->peer, "abcd\001xyz", 8), 8);
	vq_turn(&rig->guest);
	assert_received(rig, first, "abcd");
	assert_received(rig, second, "\001xyz");
	assert_int_equal(rig->guest.escape, 0);
	assert_true(rig->guest.queue_interrupts[RECEIVE] > 0);

	/* The buffer that waited is used by what comes next. */
	third = post_input(rig, 64);
	kick(rig, RECEIVE);
	assert_int_equal(write(rig->peer, "more", 4), 4);
	vq_turn(&rig->guest);
	assert_received(rig, third, "more");
	assert_int_equal(vq_counter(&rig->guest, "in_bytes"), 12);
}

/* Input waits with the host for as long as the guest has no room, and nothing spins. */
static void test_input_without_buffers(void **state)
{
	struct rig *rig = *state;
	static const uint8_t zeroes[4096];
	uint64_t total = 0, got = 0;
	uint16_t head;
	uint32_t len;
	ssize_t n;

	start_on_socket(rig);
	while ((n = write(rig->peer, zeroes, sizeof(zeroes))) > 0)
		total += (uint64_t)n;
	assert_int_equal(errno, EAGAIN);
	vq_turn(&rig->guest);
	assert_int_equal(vq_counter(&rig->guest, "in_bytes"), 0);
	assert_int_equal(loop_turn(&rig->guest.dev->workers[0].loop, 0), 0);

	while (got < total) {
		post_input(rig, 1000);
		post_input(rig, 1);
		kick(rig, RECEIVE);
		for (n = 0; vq_take(&rig->guest, RECEIVE, &head, &len); n++)
			got += len;
		assert_true(n > 0);
		rig->guest.next -= 1088;
	}
	assert_int_equal(got, total);
}

/* A buffer that nothing fits in comes back empty, and no input is lost. */
static void test_readable_receive_buffer(void **state)
{
	struct rig *rig = *state;
	struct vq_buffer readable = { .len = 16 };
	uint64_t right;

	start_on_socket(rig);
	readable.gpa = vq_alloc(&rig->guest, 16);
	vq_post(&rig->guest, RECEIVE, &readable, 1);
	right = post_input(rig, 16);
	assert_int_equal(write(rig->peer, "text", 4), 4);
	kick(rig, RECEIVE);
	assert_received(rig, readable.gpa, "");
	assert_received(rig, right, "text");
}

static int open_terminal(int *ret_slave, uint16_t columns, uint16_t rows)
{
	struct winsize size = { .ws_col = columns, .ws_row = rows };
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	char path[64];

	assert_true(master >= 0);
	assert_int_equal(grantpt(master), 0);
	assert_int_equal(unlockpt(master), 0);
	assert_int_equal(ptsname_r(master, path, sizeof(path)), 0);
	*ret_slave = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(*ret_slave >= 0);
	assert_int_equal(ioctl(master, TIOCSWINSZ, &size), 0);
	return master;
}

/* A console on a terminal in place of the program's stdin and stdout, which are put back. */
static void init_on_terminal(struct rig *rig, int slave)
{
	int in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 10);
	int out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 10), rc;

	fflush(stdout);
	dup2(slave, STDIN_FILENO);
	dup2(slave, STDOUT_FILENO);
	rc = vq_guest_make(&rig->guest, &console_class, "stdio");
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	close(in);
	close(out);
	assert_int_equal(rc, 0);
}

static struct virtio_console_config read_config(struct rig *rig)
{
	struct virtio_console_config config;

	virtio_config_read(rig->guest.dev, 0, &config, sizeof(config));
	return config;
}

static void test_resize(void **state)
{
	struct rig *rig = *state;
	struct winsize size = { .ws_col = 200, .ws_row = 50 };
	struct virtio_console_config config;
	unsigned int interrupts;
	uint32_t generation;
	int slave, master = open_terminal(&slave, 80, 24);

	init_on_terminal(rig, slave);
	assert_true(rig->guest.dev->offered & F_SIZE);
	assert_null(rig->guest.dev->where);
	vq_start(&rig->guest, F_SIZE);
	config = read_config(rig);
	assert_int_equal(le16toh(config.cols), 80);
	assert_int_equal(le16toh(config.rows), 24);

	/* Output is a reason to tell the size again. */
	interrupts = rig->guest.config_interrupts;
	kick(rig, TRANSMIT);
	assert_true(rig->guest.config_interrupts > interrupts);

	generation = virtio_generation(rig->guest.dev);
	interrupts = rig->guest.config_interrupts;
	assert_int_equal(ioctl(master, TIOCSWINSZ, &size), 0);
	virtio_dev_resize(rig->guest.dev);
	config = read_config(rig);
	assert_int_equal(le16toh(config.cols), 200);
	assert_int_equal(le16toh(config.rows), 50);
	assert_int_not_equal(virtio_generation(rig->guest.dev), generation);
	assert_int_equal(rig->guest.config_interrupts, interrupts + 1);
	close(slave);
	close(master);
}

static void test_escape_on_a_terminal(void **state)
{
	struct rig *rig = *state;
	int slave, master = open_terminal(&slave, 80, 24);
	uint64_t gpa;

	init_on_terminal(rig, slave);
	vq_start(&rig->guest, F_SIZE);
	gpa = post_input(rig, 64);
	kick(rig, RECEIVE);
	assert_int_equal(write(master, "ls\001c\r", 5), 5);
	assert_true(loop_turn(&rig->guest.dev->workers[0].loop, 1000) > 0);
	assert_received(rig, gpa, "ls\r");
	assert_int_equal(rig->guest.escape, CHARDEV_ESCAPE_STATUS);

	/* An escape alone is told, and gives the guest nothing. */
	post_input(rig, 64);
	kick(rig, RECEIVE);
	assert_int_equal(write(master, "\001x", 2), 2);
	assert_true(loop_turn(&rig->guest.dev->workers[0].loop, 1000) > 0);
	assert_int_equal(rig->guest.escape, CHARDEV_ESCAPE_QUIT);
	assert_false(vq_take(&rig->guest, RECEIVE, &(uint16_t){ 0 }, NULL));
	close(slave);
	close(master);
}

static void test_no_size_without_a_window(void **state)
{
	struct rig *rig = *state;

	init_console(rig, "none");
	assert_false(rig->guest.dev->offered & F_SIZE);
	vq_start(&rig->guest, 0);
	post_output(rig, "into nothing", 12);
	post_input(rig, 16);
	kick(rig, TRANSMIT);
	kick(rig, RECEIVE);
	assert_true(vq_take(&rig->guest, TRANSMIT, &(uint16_t){ 0 }, NULL));
	assert_false(vq_take(&rig->guest, RECEIVE, &(uint16_t){ 0 }, NULL));
	virtio_dev_resize(rig->guest.dev);
	assert_int_equal(rig->guest.config_interrupts, 0);
}

static void test_file(void **state)
{
	struct rig *rig = *state;
	char buffer[16];
	int fd;

	init_at_path(rig, "file");
	vq_start(&rig->guest, 0);
	post_output(rig, "written", 7);
	kick(rig, TRANSMIT);
	fd = open(rig->path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, buffer, sizeof(buffer)), 7);
	assert_memory_equal(buffer, "written", 7);
	close(fd);
}

/* A host's error loses bytes, which are counted; the guest goes on. */
static void test_full_disk(void **state)
{
	struct rig *rig = *state;

	init_console(rig, "file=/dev/full");
	vq_start(&rig->guest, 0);
	post_output(rig, "no space", 8);
	post_output(rig, "left", 4);
	kick(rig, TRANSMIT);
	assert_true(vq_take(&rig->guest, TRANSMIT, &(uint16_t){ 0 }, NULL));
	assert_true(vq_take(&rig->guest, TRANSMIT, &(uint16_t){ 0 }, NULL));
	assert_int_equal(vq_counter(&rig->guest, "lost_bytes"), 12);
	assert_int_equal(vq_counter(&rig->guest, "out_bytes"), 0);
}

/* A console that has written a part of one chain to its file; returns how much, of len. */
static size_t pause_while_writing(struct rig *rig, uint32_t len)
{
	struct vq_buffer buffer = { .len = len };
	struct stat st;

	init_at_path(rig, "file");
	vq_start(&rig->guest, 0);
	vq_turn(&rig->guest);
	buffer.gpa = vq_alloc(&rig->guest, len);
	for (uint32_t i = 0; i < len; i++)
		((uint8_t *)vq_ptr(&rig->guest, buffer.gpa, len))[i] = (uint8_t)(i / 999);
	vq_post(&rig->guest, TRANSMIT, &buffer, 1);
	vq_notify(&rig->guest, TRANSMIT);
	loop_turn(&rig->guest.dev->workers[0].loop, 0);
	virtio_dev_pause(rig->guest.dev);
	assert_int_equal(stat(rig->path, &st), 0);
	assert_in_range(st.st_size, 1, len - 1);
	assert_false(vq_take(&rig->guest, TRANSMIT, &(uint16_t){ 0 }, NULL));
	return (size_t)st.st_size;
}

static void assert_file(struct rig *rig, size_t from, size_t to)
{
	FILE *file = fopen(rig->path, "re");

	assert_non_null(file);
	for (size_t i = from; i < to; i++)
		assert_int_equal(fgetc(file), (uint8_t)(i / 999));
	assert_int_equal(fgetc(file), EOF);
	fclose(file);
}

static void test_pause_while_writing(void **state)
{
	struct rig *rig = *state;

	pause_while_writing(rig, MIB(3));
	virtio_dev_resume(rig->guest.dev);
	vq_turn(&rig->guest);
	assert_file(rig, 0, MIB(3));
	assert_true(vq_take(&rig->guest, TRANSMIT, &(uint16_t){ 0 }, NULL));
	assert_int_equal(vq_counter(&rig->guest, "out_bytes"), MIB(3));
	/* Nothing was cut off. */
	virtio_set_status(rig->guest.dev, 0);
	assert_int_equal(vq_counter(&rig->guest, "lost_bytes"), 0);
}

static void test_reset_while_paused(void **state)
{
	struct rig *rig = *state;
	size_t written = pause_while_writing(rig, MIB(3));

	virtio_set_status(rig->guest.dev, 0);
	assert_int_equal(vq_counter(&rig->guest, "lost_bytes"), MIB(3) - written);
	/* What comes next is not part of it. */
	vq_start(&rig->guest, 0);
	post_output(rig, "next", 4);
	kick(rig, TRANSMIT);
	assert_int_equal(vq_counter(&rig->guest, "out_bytes"), written + 4);
}

/* A new console in place of the old one, paused, from its save. */
static int replace(struct rig *rig, const struct state *saved)
{
	struct state_reader reader = { saved->data, saved->len };
	const void *conf = rig->guest.dev->conf;

	virtio_dev_free(rig->guest.dev);
	rig->guest.dev = NULL;
	assert_int_equal(vq_plug(&rig->guest, conf), 0);
	return virtio_dev_load(rig->guest.dev, &reader);
}

/* The next console writes what is left of the chain, to a file of its own. */
static void test_save_while_writing(void **state)
{
	struct rig *rig = *state;
	size_t written = pause_while_writing(rig, MIB(3));
	struct state saved = { 0 };

	assert_int_equal(virtio_dev_save(rig->guest.dev, &saved), 0);
	unlink(rig->path);
	assert_int_equal(replace(rig, &saved), 0);
	virtio_dev_resume(rig->guest.dev);
	vq_turn(&rig->guest);
	assert_file(rig, written, MIB(3));
	assert_true(vq_take(&rig->guest, TRANSMIT, &(uint16_t){ 0 }, NULL));
	state_free(&saved);
}

/* A terminal's input that was read, and for which the guest had no room yet. Where it begins and ends is checked. */
static void test_save_with_input(void **state)
{
	static const uint16_t wrong[][2] = { { 5, 4 }, { 0, 257 }, { 256, 255 }, { 0xffff, 0xffff } };
	static const struct {
		uint16_t start, end;
		char input[7];
	} input = { 4, 7, "abcdefg" };
	struct rig *rig = *state;
	struct state saved = { 0 };
	uint64_t gpa;

	start_on_socket(rig);
	virtio_dev_pause(rig->guest.dev);
	assert_int_equal(virtio_dev_save(rig->guest.dev, &saved), 0);
	/* Behind where it begins and ends there are the 256 bytes of input, and nothing. */
	memcpy(saved.data + saved.len - 256 - 4, &input, 4 + 7);
	assert_int_equal(replace(rig, &saved), 0);
	virtio_dev_resume(rig->guest.dev);
	gpa = post_input(rig, 16);
	kick(rig, RECEIVE);
	assert_received(rig, gpa, "efg");

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		memcpy(saved.data + saved.len - 256 - 4, wrong[i], 4);
		assert_int_equal(replace(rig, &saved), -EINVAL);
	}
	state_free(&saved);
}

static void test_emergency_write(void **state)
{
	struct rig *rig = *state;
	const uint32_t offset = offsetof(struct virtio_console_config, emerg_wr);
	const uint32_t bytes[] = { htole32('o'), htole32('k') };

	start_on_socket(rig);
	virtio_set_status(rig->guest.dev, 0);
	for (size_t i = 0; i < ARRAY_SIZE(bytes); i++)
		virtio_config_write(rig->guest.dev, offset, &bytes[i], sizeof(bytes[i]));
	virtio_config_write(rig->guest.dev, 0, &bytes[0], 2);
	assert_peer_reads(rig, "ok");
}

static size_t read_peer(struct rig *rig, char *buffer, size_t len)
{
	struct pollfd poll_fd = { .fd = rig->peer, .events = POLLIN };
	size_t got = 0;
	ssize_t n;

	while (got < len && poll(&poll_fd, 1, 10000) > 0) {
		n = read(rig->peer, buffer + got, len - got);
		if (n <= 0)
			break;
		got += (size_t)n;
	}
	return got;
}

/* On its own thread, in its own fd table and under its filter: peers come, go, and come. */
static void test_confined(void **state)
{
	struct rig *rig = *state;
	char buffer[16];

	init_at_path(rig, "socket");
	/* An emulator has no filters. */
	assert_int_equal(vq_run(&rig->guest, !child_emulator()), 0);
	vq_start(&rig->guest, 0);
	for (int i = 0; i < 2; i++) {
		connect_peer(rig);
		/* Whoever was answered by the worker was accepted before. */
		assert_int_equal(write(rig->peer, "in", 2), 2);
		post_input(rig, 16);
		vq_notify(&rig->guest, RECEIVE);
		while (vq_counter(&rig->guest, "in_bytes") < 2 * (uint64_t)(i + 1))
			usleep(1000);
		post_output(rig, "out", 3);
		vq_notify(&rig->guest, TRANSMIT);
		assert_int_equal(read_peer(rig, buffer, 3), 3);
		assert_memory_equal(buffer, "out", 3);
		virtio_dev_resize(rig->guest.dev);
		virtio_dev_drain(rig->guest.dev);
		close(rig->peer);
		rig->peer = -1;
	}
}

static void test_wrong_configuration(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(vq_guest_make(&rig->guest, &console_class, "file=/nonexistent/x"),
			 -ENOENT);
	assert_null(rig->guest.dev);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_output, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_slow_reader, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_turns_end, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_drain, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_reset_after_the_doorbell, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_reset_while_slow, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_peer_leaves_while_slow, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_input, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_input_without_buffers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_readable_receive_buffer, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_resize, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_escape_on_a_terminal, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_size_without_a_window, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_file, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_full_disk, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_pause_while_writing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_reset_while_paused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_save_while_writing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_save_with_input, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_emergency_write, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_confined, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_wrong_configuration, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
