// SPDX-License-Identifier: Apache-2.0
/* Floods and lies, ends and beginnings of the device. */
#include <pthread.h>
#include "devices/vsock.h"
#include "tests/unit/vsock.h"

/* ---- a hostile guest ---- */

/* More refusals than can be kept: packets wait until some could be told. */
static void a_flood_waits_in_the_queue(void **state)
{
	bool told[200] = { false };
	unsigned int sent = 0, taken = 0;
	struct vsock_test test;
	uint16_t head;

	(void)state;
	make(&test, "cid=5,path=v,connections=8");
	start_bare(&test);
	while (sent < ARRAY_SIZE(told) && sent - taken < VQ_SIZE) {
		tell(&test, VIRTIO_VSOCK_OP_REQUEST, 0, GUEST + sent++, PORT);
		while (vq_take(&test.guest, TX, &head, NULL))
			taken++;
	}
	assert_true(taken < ARRAY_SIZE(told) && sent > taken);
	give_rx(&test);
	for (unsigned int i = 0; i < sent; i++) {
		assert_true(hear(&test));
		assert_int_equal(test.hdr.op, VIRTIO_VSOCK_OP_RST);
		told[test.hdr.dst_port - GUEST] = true;
	}
	expect_nothing(&test);
	while (vq_take(&test.guest, TX, &head, NULL))
		taken++;
	assert_int_equal(taken, sent);
	/* The last ones wait in the same buffer of the guest's, so that all of them are the last. */
	for (unsigned int i = 0; i < sent - VQ_SIZE; i++)
		assert_true(told[i]);
	assert_int_equal(counter(&test, "opened"), counter(&test, "closed"));
	finish(&test);
}

/* With buffers for all refusals, so that no doorbell rings because of them. */
static void a_flood_at_once_is_gone_through(void **state)
{
	static const unsigned int queues[] = { RX, TX };
	const unsigned int count = 200;
	struct virtio_vsock_hdr hdr;
	struct vsock_test test;
	unsigned int taken = 0;
	uint16_t head;

	(void)state;
	make(&test, "cid=5,path=v");
	vq_start(&test.guest, 1ULL << VIRTIO_F_RING_RESET);
	for (size_t i = 0; i < ARRAY_SIZE(queues); i++) {
		virtio_reset_queue(test.guest.dev, queues[i]);
		assert_false(virtio_queue_resetting(test.guest.dev, queues[i]));
		vq_set_up_queue_of(&test.guest, queues[i], 256);
	}
	for (unsigned int i = 0; i < 255; i++)
		post_rx(&test, i);
	vq_notify(&test.guest, RX);
	turn(&test);
	hdr = header(&test, VIRTIO_VSOCK_OP_CREDIT_UPDATE, GUEST, PORT);
	memcpy(vq_ptr(&test.guest, OUTGOING, HEADER), &hdr, HEADER);
	for (unsigned int i = 0; i < count; i++)
		vq_post(&test.guest, TX, &(struct vq_buffer){ OUTGOING, HEADER, false }, 1);
	vq_notify(&test.guest, TX);
	turn(&test);
	while (vq_take(&test.guest, TX, &head, NULL))
		taken++;
	assert_int_equal(taken, count);
	assert_int_equal(counter(&test, "refused"), count);
	finish(&test);
}

static void lengths_that_lie_are_faults(void **state)
{
	struct vsock_test test;
	struct virtio_vsock_hdr hdr;
	int listener, fd;

	(void)state;
	begin(&test, "cid=5,path=v");
	listener = serve(SOCK_STREAM);
	fd = meet(&test, listener, GUEST);
	hdr = header(&test, VIRTIO_VSOCK_OP_RW, GUEST, PORT);
	/* What the header does not speak of is not sent. */
	hdr.len = 2;
	memcpy(vq_ptr(&test.guest, OUTGOING + HEADER, 5), "hello", 5);
	send_packet(&test, &hdr, 5);
	host_reads(fd, "he");
	hdr.len = 6;
	send_packet(&test, &hdr, 5);
	assert_true(vq_failed(&test.guest));
	vq_reset(&test.guest);
	host_is_at_end(fd);
	close(fd);
	start_bare(&test);
	vq_post(&test.guest, TX, &(struct vq_buffer){ OUTGOING, HEADER - 1, false }, 1);
	vq_notify(&test.guest, TX);
	turn(&test);
	assert_true(vq_failed(&test.guest));
	vq_reset(&test.guest);
	start_bare(&test);
	vq_post(&test.guest, RX, &(struct vq_buffer){ INCOMING(0), HEADER - 1, true }, 1);
	tell(&test, VIRTIO_VSOCK_OP_REQUEST, 0, GUEST, PORT + 1);
	assert_true(vq_failed(&test.guest));
	/* Room for a header will do for what has no data. */
	vq_reset(&test.guest);
	start_bare(&test);
	vq_post(&test.guest, RX, &(struct vq_buffer){ INCOMING(0), HEADER, true }, 1);
	tell(&test, VIRTIO_VSOCK_OP_REQUEST, 0, GUEST, PORT);
	fd = accept(listener, NULL, NULL);
	assert_true(fd >= 0 && !vq_failed(&test.guest));
	vq_post(&test.guest, RX, &(struct vq_buffer){ INCOMING(1), HEADER, true }, 1);
	vq_notify(&test.guest, RX);
	turn(&test);
	assert_true(vq_failed(&test.guest));
	close(fd);
	close(listener);
	vq_reset(&test.guest);
	finish(&test);
}

/* ---- life ---- */

static void a_load_resets_connections(void **state)
{
	_cleanup_(state_free) struct state saved = { 0 };
	struct state_reader reader;
	struct vsock_test test;
	struct virtio_vsock_event *event;
	uint16_t head;
	uint32_t len;
	int listener, fd;

	(void)state;
	begin(&test, "cid=5,path=v");
	listener = serve(SOCK_STREAM);
	fd = meet(&test, listener, GUEST);
	vq_post(&test.guest, EVENT, &(struct vq_buffer){ INCOMING(100), 4, true }, 1);
	vq_notify(&test.guest, EVENT);
	turn(&test);
	assert_false(vq_take(&test.guest, EVENT, &head, &len));
	/* A pause alone costs nothing. */
	virtio_dev_pause(test.guest.dev);
	virtio_dev_resume(test.guest.dev);
	host_writes(fd, "on");
	expect_data(&test, "on", GUEST, PORT);
	virtio_dev_pause(test.guest.dev);
	assert_int_equal(virtio_dev_save(test.guest.dev, &saved), 0);
	virtio_dev_free(test.guest.dev);
	host_is_at_end(fd);
	close(fd);

	assert_int_equal(vq_plug(&test.guest, test.guest.conf), 0);
	reader = (struct state_reader){ saved.data, saved.len };
	assert_int_equal(virtio_dev_load(test.guest.dev, &reader), 0);
	virtio_dev_resume(test.guest.dev);
	turn(&test);
	event = vq_ptr(&test.guest, INCOMING(100), sizeof(*event));
	assert_true(vq_take(&test.guest, EVENT, &head, &len));
	assert_int_equal(len, sizeof(*event));
	assert_int_equal(event->id, VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
	assert_int_equal(counter(&test, "events"), 1);
	/* The queues have gone on, from where they were when it was saved. */
	send_data(&test, "x", 1, 0, GUEST, PORT);
	assert_int_equal(counter(&test, "refused"), 1);
	close(listener);
	finish(&test);
}

static struct vsock_table *table_of(struct vsock_test *test)
{
	return &container_of(test->guest.dev, struct vsock, dev)->table;
}

/* Reads all that fill() sent, to the end; its length. */
static void *read_all(void *arg)
{
	const int fd = *(int *)arg;
	uint8_t data[1000];
	uintptr_t sum = 0;
	ssize_t n;

	while ((n = read(fd, data, sizeof(data))) > 0)
		for (ssize_t i = 0; i < n; i++, sum++)
			if (data[i] != (uint8_t)(sum * 31 >> 3))
				return NULL;
	return (void *)sum;
}

static void blocks(int fd)
{
	assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
}

/* The guest is stopped: what it sent last has not even been looked at. */
static void the_end_waits_for_readers(void **state)
{
	struct vsock_test test;
	struct virtio_vsock_hdr hdr;
	int listener, fd, other;
	pthread_t reader;
	uint32_t sent;
	void *sum;

	(void)state;
	begin(&test, "cid=5,path=v,buffer=4096");
	listener = serve(SOCK_STREAM);
	fd = meet(&test, listener, GUEST);
	other = meet(&test, listener, GUEST + 1);
	sent = fill(&test, GUEST);
	hdr = header(&test, VIRTIO_VSOCK_OP_RW, GUEST + 1, PORT);
	hdr.len = 4;
	memcpy(vq_ptr(&test.guest, OUTGOING, HEADER), &hdr, HEADER);
	memcpy(vq_ptr(&test.guest, OUTGOING + HEADER, 4), "last", 4);
	vq_post(&test.guest, TX, &(struct vq_buffer){ OUTGOING, HEADER + 4, false }, 1);
	blocks(fd);
	assert_int_equal(pthread_create(&reader, NULL, read_all, &fd), 0);
	virtio_dev_drain(test.guest.dev);
	assert_int_equal(counter(&test, "delivered_bytes"), sent + 4);
	assert_int_equal(counter(&test, "lost_bytes"), 0);
	host_reads(other, "last");
	vq_reset(&test.guest);
	assert_int_equal(pthread_join(reader, &sum), 0);
	assert_int_equal((uintptr_t)sum, sent);
	close(fd);
	close(other);
	close(listener);
	finish(&test);
}

/* Not for ever: for those who read nothing, nor beyond its time for those who do. */
static void the_end_waits_for_nobody_else(void **state)
{
	struct vsock_test test;
	int listener, fd, gone;
	uint32_t sent;

	(void)state;
	begin(&test, "cid=5,path=v,buffer=4096");
	listener = serve(SOCK_STREAM);
	fd = meet(&test, listener, GUEST);
	gone = meet(&test, listener, GUEST + 1);
	sent = fill(&test, GUEST) + fill(&test, GUEST + 1);
	close(gone);
	vsock_table_drain(table_of(&test), 1, UINT64_MAX);
	turn(&test);
	/* Of the one that left nothing is kept. */
	assert_int_equal(counter(&test, "lost_bytes"), 4096);
	assert_int_equal(counter(&test, "delivered_bytes"), sent - 2 * 4096);
	vsock_table_drain(table_of(&test), -1, 0);
	close(fd);
	close(listener);
	finish(&test);
}

/* A guest that powers off resets its devices first, if it is a new Linux. */
static void data_outlives_a_reset(void **state)
{
	struct vsock_test test;
	int listener, fd, again;
	uint32_t sent;

	(void)state;
	begin(&test, "cid=5,path=v,buffer=4096");
	listener = serve(SOCK_STREAM);
	fd = meet(&test, listener, GUEST);
	again = meet(&test, listener, GUEST + 1);
	sent = fill(&test, GUEST);
	vq_reset(&test.guest);
	host_is_at_end(again);
	close(again);
	assert_int_equal(counter(&test, "closed"), 1);
	/* Its port is the next driver's. */
	start_bare(&test);
	give_rx(&test);
	again = meet(&test, listener, GUEST);
	send_data(&test, "new", 3, 0, GUEST, PORT);
	host_reads(again, "new");
	vq_reset(&test.guest);
	drain(&test, fd, sent);
	turn(&test);
	host_is_at_end(fd);
	assert_int_equal(counter(&test, "closed"), 3);
	assert_int_equal(counter(&test, "delivered_bytes"), sent + 3);
	close(fd);
	close(again);
	close(listener);
	finish(&test);
}

static void the_guest_is_its_own_peer(void **state)
{
	struct vsock_test test;
	uint32_t port;

	(void)state;
	begin(&test, "cid=5,loop");
	tell(&test, VIRTIO_VSOCK_OP_REQUEST, 0, GUEST, 80);
	assert_true(hear(&test));
	assert_int_equal(test.hdr.op, VIRTIO_VSOCK_OP_REQUEST);
	assert_int_equal(test.hdr.dst_port, 80);
	port = test.hdr.src_port;
	expect(&test, VIRTIO_VSOCK_OP_RESPONSE, GUEST, 80);
	tell(&test, VIRTIO_VSOCK_OP_RESPONSE, 0, 80, port);
	send_data(&test, "ping", 4, 0, GUEST, 80);
	expect_data(&test, "ping", 80, port);
	send_data(&test, "pong", 4, 0, 80, port);
	expect_data(&test, "pong", GUEST, 80);
	tell(&test, VIRTIO_VSOCK_OP_SHUTDOWN, BOTH, GUEST, 80);
	expect(&test, VIRTIO_VSOCK_OP_RST, GUEST, 80);
	expect_shutdown(&test, VIRTIO_VSOCK_SHUTDOWN_RCV, 80, port);
	expect_shutdown(&test, BOTH, 80, port);
	finish(&test);
}

static void paths_are_checked(void **state)
{
	char options[256];
	struct vsock_test test;
	static const struct {
		const char *path;
		int err;
	} paths[] = {
		{ "there/is/none", -ENOENT }, { "./", -EISDIR }, { ".", -EEXIST }, { "f", -EEXIST },
	};

	(void)state;
	make(&test, "cid=5,loop");
	close(open("f", O_CREAT | O_WRONLY, 0600));
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		struct vq_guest guest;

		snprintf(options, sizeof(options), "cid=3,path=%s", paths[i].path);
		assert_int_equal(vq_guest_make(&guest, &vsock_class, options), paths[i].err);
		vq_guest_free(&guest);
	}
	for (unsigned int len = 96; len <= 97; len++) {
		struct vq_guest guest;

		snprintf(options, sizeof(options), "cid=3,path=%0*d", (int)len, 0);
		assert_int_equal(vq_guest_make(&guest, &vsock_class, options),
				 len == 96 ? 0 : -ENAMETOOLONG);
		vq_guest_free(&guest);
	}
	finish(&test);
}

/* Sends more than the host's socket takes, and has it waited for. */
static void drain_in_jail(struct vsock_test *test, int fd)
{
	const uint32_t len = 8192, count = 40;
	struct virtio_vsock_hdr hdr = header(test, VIRTIO_VSOCK_OP_RW, GUEST, PORT);
	pthread_t reader;
	uint16_t head;
	void *sum;

	hdr.len = len;
	memcpy(vq_ptr(&test->guest, OUTGOING, HEADER), &hdr, HEADER);
	for (uint32_t i = 0; i < count; i++) {
		for (uint32_t n = 0; n < len; n++)
			*(uint8_t *)vq_ptr(&test->guest, OUTGOING + HEADER + n, 1) =
				(uint8_t)((i * len + n) * 31 >> 3);
		vq_post(&test->guest, TX, &(struct vq_buffer){ OUTGOING, HEADER + len, false }, 1);
		vq_notify(&test->guest, TX);
		CHILD_CHECK(vq_await(&test->guest, TX, &head, NULL));
	}
	CHILD_CHECK(pthread_create(&reader, NULL, read_all, &fd) == 0);
	virtio_dev_drain(test->guest.dev);
	CHILD_CHECK(counter(test, "buffered_bytes") > 0);
	CHILD_CHECK(counter(test, "delivered_bytes") == len * count);
	vq_reset(&test->guest);
	CHILD_CHECK(pthread_join(reader, &sum) == 0);
	CHILD_CHECK((uintptr_t)sum == len * count);
}

/* In the jail, on its thread, which has a filter, Landlock and nothing but its directory. */
static int in_jail(void *arg)
{
	struct vsock_test *test = arg;
	const char *step;
	struct jail_report report;
	uint16_t head;
	int listener, fd, accepted;

	child_needs_filters();
	make(test, "cid=5,path=v");
	listener = serve(SOCK_STREAM);
	CHILD_CHECK(usock_connect("v", SOCK_STREAM, &fd) == 0);
	CHILD_CHECK(chdir("/") == 0);
	CHILD_CHECK(filter_report_violations(NULL) == 0);
	CHILD_CHECK(jail_enter(&(struct jail_exceptions){ .cwd = test->guest.dev->workers[0].cwd },
			       &report, &step) == 0);
	CHILD_CHECK(vq_run(&test->guest, true) == 0);
	vq_start(&test->guest, SEQPACKET);
	for (unsigned int i = 0; i < VQ_SIZE; i++)
		post_rx(test, i);
	vq_notify(&test->guest, RX);
	*(struct virtio_vsock_hdr *)vq_ptr(&test->guest, OUTGOING, HEADER) =
		header(test, VIRTIO_VSOCK_OP_REQUEST, GUEST, PORT);
	vq_post(&test->guest, TX, &(struct vq_buffer){ OUTGOING, HEADER, false }, 1);
	vq_notify(&test->guest, TX);
	CHILD_CHECK(vq_await(&test->guest, RX, &head, NULL));
	memcpy(&test->hdr, vq_ptr(&test->guest, INCOMING(head), HEADER), HEADER);
	CHILD_CHECK(test->hdr.op == VIRTIO_VSOCK_OP_RESPONSE);
	CHILD_CHECK(vq_await(&test->guest, TX, &head, NULL));
	accepted = accept(listener, NULL, NULL);
	CHILD_CHECK(accepted >= 0);
	/* And the other way. */
	CHILD_CHECK(write(fd, "CONNECT 3\n", 10) == 10);
	CHILD_CHECK(vq_await(&test->guest, RX, &head, NULL));
	memcpy(&test->hdr, vq_ptr(&test->guest, INCOMING(head), HEADER), HEADER);
	CHILD_CHECK(test->hdr.op == VIRTIO_VSOCK_OP_REQUEST && test->hdr.dst_port == 3);
	drain_in_jail(test, accepted);
	vq_guest_free(&test->guest);
	return 0;
}

static void connections_are_made_in_the_jail(void **state)
{
	struct vsock_test test = { 0 };
	const uid_t uids[] = { geteuid(), CHILD_NOBODY };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(uids); i++)
		child_succeeds(uids[i], in_jail, &test);
	assert_int_equal(system("rm -rf /tmp/test_vsock_life-??????"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_flood_waits_in_the_queue),
		cmocka_unit_test(a_flood_at_once_is_gone_through),
		cmocka_unit_test(lengths_that_lie_are_faults),
		cmocka_unit_test(a_load_resets_connections),
		cmocka_unit_test(the_end_waits_for_readers),
		cmocka_unit_test(the_end_waits_for_nobody_else),
		cmocka_unit_test(data_outlives_a_reset),
		cmocka_unit_test(the_guest_is_its_own_peer),
		cmocka_unit_test(paths_are_checked),
		cmocka_unit_test(connections_are_made_in_the_jail),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
