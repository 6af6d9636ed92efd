// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-net in front of a program: a script of our own that looks at each
 * message, and answers what it likes; and DPDK's testpmd, which sends back what
 * it gets, where that is installed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <linux/virtio_net.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include "core/usock.h"
#include "devices/vhost/user.h"
#include "tests/lib/child.h"
#include "tests/unit/driver.h"

extern const struct virtio_class net_class;

#define RX 0
#define TX 1
#define HEADER sizeof(struct virtio_net_hdr_v1)
#define BUFFER(i) (VQ_RAM_BASE + MIB(4) + (uint64_t)(i) * 4096)
#define OUTGOING (VQ_RAM_BASE + MIB(6))
#define BIT(name) (1ULL << VIRTIO_NET_F_##name)

static bool link_up(struct vq_guest *guest)
{
	uint16_t status;

	virtio_config_read(guest->dev, offsetof(struct virtio_net_config, status), &status, 2);
	return status & VIRTIO_NET_S_LINK_UP;
}

/* ---- a program of our own ---- */

/* As the protocol numbers them. */
enum { GET_FEATURES = 1, SET_VRING_BASE = 10, GET_VRING_BASE = 11, GET_PROTOCOL_FEATURES = 15, GET_QUEUE_NUM = 17 };

#define FEATURES (1ULL << VIRTIO_F_VERSION_1 | 1ULL << 30)
#define MQ_AND_ACKS 9
#define NEEDS_REPLY 8u
#define BASE 0x1234

struct header {
	uint32_t request, flags, size;
};

/* How the answer to one request differs from what is right. */
struct lie {
	uint32_t request;
	int32_t request_by, flags_by, size_by, value_by;
	bool ends, with_file;
};

/* What it says without a lie. */
static uint64_t right_answer(uint32_t request, uint64_t asked)
{
	switch (request) {
	case GET_FEATURES:
		return FEATURES;
	case GET_PROTOCOL_FEATURES:
		return MQ_AND_ACKS;
	case GET_QUEUE_NUM:
		return 4;
	case GET_VRING_BASE:
		return (uint32_t)asked | (uint64_t)BASE << 32;
	default:
		return 0;
	}
}

static void program_answer(int fd, struct header header, uint64_t value, const struct lie *lie)
{
	uint64_t words[2] = { value, value };
	struct iovec iov[] = { { &header, sizeof(header) }, { words, sizeof(value) } };
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { .header = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
	struct msghdr message = { .msg_iov = iov, .msg_iovlen = 2 };

	header.flags = 5;
	header.size = sizeof(value);
	if (lie->request == header.request) {
		header.flags += (uint32_t)lie->flags_by;
		header.size += (uint32_t)lie->size_by;
		header.request += (uint32_t)lie->request_by;
		words[0] += (uint64_t)(int64_t)lie->value_by;
		if (lie->with_file) {
			memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
			message.msg_control = &control;
			message.msg_controllen = sizeof(control);
		}
	}
	CHILD_CHECK(sendmsg(fd, &message, MSG_NOSIGNAL) >= 0 || errno == EPIPE);
}

/* Answers until the other side ends it. */
static void program_serve(int fd, const struct lie *lie)
{
	struct header header;
	uint8_t payload[512];

	while (recv(fd, &header, sizeof(header), MSG_WAITALL) == sizeof(header)) {
		uint64_t asked = 0;

		CHILD_CHECK((header.flags & 7) == 1 && header.size <= sizeof(payload));
		if (header.size)
			CHILD_CHECK(recv(fd, payload, header.size, MSG_WAITALL) == header.size);
		memcpy(&asked, payload, util_min(header.size, sizeof(asked)));
		if (lie->ends && lie->request == header.request)
			return;
		if (header.flags & NEEDS_REPLY || right_answer(header.request, asked) ||
		    header.request == GET_VRING_BASE)
			program_answer(fd, header, right_answer(header.request, asked), lie);
	}
}

struct program {
	pid_t pid;
	char path[64];
};

static void program_start(struct program *program, const struct lie *lie)
{
	int listener;

	snprintf(program->path, sizeof(program->path), "/tmp/vhost-user.%d", getpid());
	assert_int_equal(usock_listen(program->path, SOCK_STREAM, 1, &listener), 0);
	program->pid = fork();
	assert_true(program->pid >= 0);
	if (program->pid == 0) {
		int fd;

		/* It was made not to block. */
		fcntl(listener, F_SETFL, 0);
		fd = accept(listener, NULL, NULL);
		CHILD_CHECK(fd >= 0);
		program_serve(fd, lie);
		_exit(0);
	}
	close(listener);
}

/* It has found nothing wrong. */
static void program_end(struct program *program)
{
	int status;

	assert_int_equal(waitpid(program->pid, &status, 0), program->pid);
	assert_int_equal(status, 0);
	unlink(program->path);
}

/* It is there at first; what it says wrong then has it gone, and no more. */
static void test_lies(void **state)
{
	static const struct {
		struct lie lie;
		int err; /* of the opening */
	} table[] = {
		{ { .request = GET_FEATURES, .request_by = 1 }, -EPROTO },
		{ { .request = GET_FEATURES, .flags_by = -4 }, -EPROTO },
		{ { .request = GET_FEATURES, .flags_by = 1 }, -EPROTO },
		{ { .request = GET_FEATURES, .size_by = 4 }, -EPROTO },
		{ { .request = GET_FEATURES, .size_by = INT32_MAX }, -EPROTO },
		{ { .request = GET_FEATURES, .size_by = -8 }, -EPROTO },
		{ { .request = GET_FEATURES, .ends = true }, -EPROTO },
		{ { .request = GET_FEATURES, .with_file = true }, 0 },
		{ { .request = GET_PROTOCOL_FEATURES, .size_by = -4 }, -EPROTO },
		{ { .request = GET_PROTOCOL_FEATURES, .value_by = -1 }, -ENOBUFS },
		{ { .request = GET_QUEUE_NUM, .value_by = -3 }, -ENOBUFS },
		{ { .request = SET_VRING_BASE, .value_by = 1 }, 0 },
		{ { .request = SET_VRING_BASE, .ends = true }, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct program program;
		struct vq_guest guest;
		char options[100];

		program_start(&program, &table[i].lie);
		snprintf(options, sizeof(options), "vhost-user=%s,queues=2", program.path);
		assert_int_equal(vq_guest_make(&guest, &net_class, options), table[i].err);
		if (!table[i].err) {
			vq_start(&guest, 0);
			vq_turn(&guest);
			assert_int_equal(link_up(&guest), table[i].lie.with_file);
			assert_false(vq_failed(&guest));
			/* Whoever is gone does not hold up a reset. */
			vq_reset(&guest);
			assert_int_equal(virtio_status(guest.dev), 0);
		}
		vq_guest_free(&guest);
		program_end(&program);
	}
}

/* A program that keeps to the protocol, and a guest that has its driver ready. */
static void start(struct program *program, struct vq_guest *guest)
{
	char options[100];

	program_start(program, &(struct lie){ 0 });
	snprintf(options, sizeof(options), "vhost-user=%s", program->path);
	assert_int_equal(vq_guest_make(guest, &net_class, options), 0);
	vq_start(guest, 0);
}

/* A ring goes on where it says, and a reset wants to know nothing. */
static void test_position(void **state)
{
	struct program program;
	struct vq_guest guest;

	(void)state;
	start(&program, &guest);
	virtio_dev_pause(guest.dev);
	assert_int_equal(guest.dev->queues[RX].position.next_avail, BASE);
	assert_int_equal(guest.dev->queues[TX].position.next_used, BASE);
	virtio_dev_resume(guest.dev);
	vq_reset(&guest);
	assert_int_equal(guest.dev->queues[RX].position.next_avail, 0);
	vq_guest_free(&guest);
	program_end(&program);
}

/* A program that ends is asked for until there is another one, which goes on with the rings. */
static void test_again(void **state)
{
	struct program program;
	struct vq_guest guest;

	(void)state;
	start(&program, &guest);
	for (unsigned int i = 0; i < 2; i++) {
		assert_true(link_up(&guest));
		kill(program.pid, SIGKILL);
		waitpid(program.pid, NULL, 0);
		while (link_up(&guest))
			assert_true(vq_wait(&guest) > 0);
		program_start(&program, &(struct lie){ 0 });
		while (!link_up(&guest))
			assert_true(vq_wait(&guest) > 0);
	}
	assert_false(vq_failed(&guest));
	virtio_dev_pause(guest.dev);
	assert_int_equal(guest.dev->queues[RX].position.next_avail, BASE);
	vq_guest_free(&guest);
	program_end(&program);
}

/* What cannot be is told before there is a guest. */
static void test_refused(void **state)
{
	static const struct mem_region region = { .gpa = VQ_RAM_BASE, .len = 4096, .fd = -1 };
	const struct mem mem = { .regions = (struct mem_region *)&region, .count = 1 };
	struct vhost_user user;
	struct vq_guest guest;

	(void)state;
	assert_int_equal(vhost_user_open(&user, "/none-such", false, 1, &mem), -EMEDIUMTYPE);
	vhost_user_close(&user);
	assert_int_equal(vq_guest_make(&guest, &net_class, "vhost-user=/none-such"), -EHOSTUNREACH);
	vq_guest_free(&guest);
	assert_int_equal(vq_guest_make(&guest, &net_class, "vhost-user-server=/dev/null"), -EALREADY);
	vq_guest_free(&guest);
}

/* ---- DPDK's testpmd ---- */

/* As images/dpdk makes it. */
static const char *testpmd(void)
{
	const char *path = getenv("TESTPMD");

	return path ? path : "/usr/bin/dpdk-testpmd";
}

struct testpmd {
	pid_t pid;
	int input; /* its end ends it */
	char dir[32], path[64];
};

static void testpmd_start(struct testpmd *pmd, const char *options)
{
	char vdev[160];
	int input[2];

	CHILD_CHECK(pipe2(input, O_CLOEXEC) == 0);
	snprintf(vdev, sizeof(vdev), "net_vhost0,iface=%s,%s", pmd->path, options);
	pmd->pid = fork();
	CHILD_CHECK(pmd->pid >= 0);
	if (pmd->pid == 0) {
		/* It takes a whole processor, be it that a check fails. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		setenv("XDG_RUNTIME_DIR", pmd->dir, 1);
		dup2(input[0], STDIN_FILENO);
		dup2(open("/dev/null", O_WRONLY), STDOUT_FILENO);
		dup2(STDOUT_FILENO, STDERR_FILENO);
		execl(testpmd(), "testpmd", "-l", "0,1", "--no-huge", "--no-shconf", "-m", "64", "--no-pci",
		      "--no-telemetry", "--vdev", vdev, "--", "--forward-mode=io", "--auto-start", "--no-flush-rx", "--stats-period=1",
		      "--total-num-mbufs=2048", "--no-lsc-interrupt", NULL);
		_exit(1);
	}
	close(input[0]);
	pmd->input = input[1];
}

static void testpmd_stop(struct testpmd *pmd)
{
	kill(pmd->pid, SIGKILL);
	waitpid(pmd->pid, NULL, 0);
	close(pmd->input);
}

static void testpmd_prepare(struct testpmd *pmd)
{
	if (access(testpmd(), X_OK) < 0) {
		print_message("skipped: there is no DPDK testpmd (make dpdk; or TESTPMD=PATH)\n");
		skip();
	}
	strcpy(pmd->dir, "/tmp/testpmd.XXXXXX");
	assert_non_null(mkdtemp(pmd->dir));
	snprintf(pmd->path, sizeof(pmd->path), "%s/socket", pmd->dir);
}

static void testpmd_clean(struct testpmd *pmd)
{
	unlink(pmd->path);
	assert_int_equal(rmdir(pmd->dir), 0);
}

/* A packet there and back. */
static void exchange(struct vq_guest *guest, uint8_t seed)
{
	uint8_t *sent = vq_ptr(guest, OUTGOING, 4096), *got = vq_ptr(guest, BUFFER(seed), 4096);
	uint16_t head;
	uint32_t len;

	memset(sent, 0, HEADER);
	for (size_t i = 0; i < 300; i++)
		sent[HEADER + i] = (uint8_t)(seed + i);
	vq_post(guest, RX, &(struct vq_buffer){ BUFFER(seed), 2048, true }, 1);
	vq_notify(guest, RX);
	vq_post(guest, TX, &(struct vq_buffer){ OUTGOING, HEADER + 300, false }, 1);
	vq_notify(guest, TX);
	CHILD_CHECK(vq_await(guest, TX, &head, NULL));
	CHILD_CHECK(vq_await(guest, RX, &head, &len));
	CHILD_CHECK(len == HEADER + 300);
	CHILD_CHECK(!memcmp(got + HEADER, sent + HEADER, 300));
}

/* The next one of testpmd after the end of the last, on a guest that turns itself. */
static void testpmd_again(struct testpmd *pmd, struct vq_guest *guest, const char *options)
{
	testpmd_stop(pmd);
	while (link_up(guest))
		assert_true(vq_wait(guest) > 0);
	/* A socket that is in its way it leaves alone. */
	if (!strstr(options, "client"))
		unlink(pmd->path);
	testpmd_start(pmd, options);
	while (!link_up(guest))
		assert_true(vq_wait(guest) > 0);
}

static void test_testpmd(void **state)
{
	struct testpmd pmd;
	struct vq_guest guest;
	char options[128];
	int r = -EHOSTUNREACH;

	(void)state;
	testpmd_prepare(&pmd);
	testpmd_start(&pmd, "queues=1");
	snprintf(options, sizeof(options), "vhost-user=%s", pmd.path);
	for (int ms = 0; r == -EHOSTUNREACH && ms < VQ_WAIT_MS; ms += 50) {
		if (ms)
			vq_guest_free(&guest);
		usleep(50000);
		r = vq_guest_make(&guest, &net_class, options);
	}
	assert_int_equal(r, 0);
	assert_string_equal(guest.dev->served_by, "vhost-user");
	assert_true(link_up(&guest));
	for (unsigned int i = 0; i < 2; i++) {
		vq_start(&guest, BIT(MRG_RXBUF));
		for (uint8_t seed = 1; seed < 2 * VQ_SIZE + 3; seed++)
			exchange(&guest, seed);
		virtio_dev_pause(guest.dev);
		assert_int_equal(guest.dev->queues[RX].position.next_used, 2 * VQ_SIZE + 2);
		virtio_dev_resume(guest.dev);
		exchange(&guest, 100);
		vq_reset(&guest);
	}
	assert_false(vq_failed(&guest));
	vq_start(&guest, BIT(MRG_RXBUF));
	for (uint8_t seed = 1; seed < 20; seed++) {
		if (seed % 8 == 0)
			testpmd_again(&pmd, &guest, "queues=1");
		exchange(&guest, seed);
	}
	assert_false(vq_failed(&guest));
	vq_guest_free(&guest);
	testpmd_stop(&pmd);
	testpmd_clean(&pmd);
}

/* A packed ring lies where the split one would; a descriptor for each buffer. */
static void packed_post(struct vq_guest *guest, unsigned int index, uint64_t gpa, uint32_t len,
			uint16_t flags)
{
	struct vq *queue = &guest->queues[index];
	struct vring_packed_desc *desc = vq_ptr(guest, queue->desc, VQ_SIZE * sizeof(*desc));
	const uint16_t at = queue->next_desc++ % (2 * VQ_SIZE);

	flags |= (uint16_t)(1u << (at < VQ_SIZE ? VRING_PACKED_DESC_F_AVAIL : VRING_PACKED_DESC_F_USED));
	desc += at % VQ_SIZE;
	desc->addr = gpa;
	desc->len = len;
	desc->id = at % VQ_SIZE;
	__atomic_store_n(&desc->flags, flags, __ATOMIC_RELEASE);
	vq_notify(guest, index);
}

static uint32_t packed_await(struct vq_guest *guest, unsigned int index)
{
	const uint16_t both = 1u << VRING_PACKED_DESC_F_AVAIL | 1u << VRING_PACKED_DESC_F_USED;
	struct vq *queue = &guest->queues[index];
	struct vring_packed_desc *desc = vq_ptr(guest, queue->desc, VQ_SIZE * sizeof(*desc));
	const uint16_t at = queue->seen++ % (2 * VQ_SIZE);

	desc += at % VQ_SIZE;
	for (int ms = 0; (__atomic_load_n(&desc->flags, __ATOMIC_ACQUIRE) & both) != (at < VQ_SIZE ? both : 0);
	     ms++) {
		CHILD_CHECK(ms < VQ_WAIT_MS);
		usleep(1000);
	}
	return desc->len;
}

static void packed_exchange(struct vq_guest *guest, uint8_t seed)
{
	uint8_t *sent = vq_ptr(guest, OUTGOING, 4096), *got = vq_ptr(guest, BUFFER(seed), 4096);

	memset(sent, 0, HEADER);
	memset(sent + HEADER, seed, 300);
	packed_post(guest, RX, BUFFER(seed), 2048, VRING_DESC_F_WRITE);
	packed_post(guest, TX, OUTGOING, HEADER + 300, 0);
	packed_await(guest, TX);
	CHILD_CHECK(packed_await(guest, RX) == HEADER + 300);
	CHILD_CHECK(!memcmp(got + HEADER, sent + HEADER, 300));
}

/* Wrap counters go there and come back, or are found in the ring; where they cannot be only a reset helps. */
static void test_testpmd_packed(void **state)
{
	const uint64_t features = BIT(MRG_RXBUF) | 1ULL << VIRTIO_F_RING_PACKED |
				  1ULL << VIRTIO_RING_F_INDIRECT_DESC;
	struct testpmd pmd;
	struct vq_guest guest;
	char options[128];

	(void)state;
	testpmd_prepare(&pmd);
	testpmd_start(&pmd, "queues=1,client=1");
	snprintf(options, sizeof(options), "vhost-user-server=%s,packed", pmd.path);
	assert_int_equal(vq_guest_make(&guest, &net_class, options), 0);
	vq_start(&guest, features);
	for (uint8_t seed = 1; seed < 4 * VQ_SIZE; seed++) {
		const struct virtq_position *position = &guest.dev->queues[TX].position;

		packed_exchange(&guest, seed);
		if (seed % 5)
			continue;
		virtio_dev_pause(guest.dev);
		assert_int_equal(position->next_used, seed % VQ_SIZE);
		assert_int_equal(position->used_wrap, !(seed / VQ_SIZE % 2));
		virtio_dev_resume(guest.dev);
	}
	for (uint8_t seed = 1; seed < 2 * VQ_SIZE; seed++) {
		if (seed % (VQ_SIZE / 2 + 1) == 0)
			testpmd_again(&pmd, &guest, "queues=1,client=1");
		packed_exchange(&guest, seed);
	}
	assert_false(vq_failed(&guest));
	vq_reset(&guest);
	vq_start(&guest, features & ~(1ULL << VIRTIO_RING_F_INDIRECT_DESC));
	packed_exchange(&guest, 1);
	testpmd_again(&pmd, &guest, "queues=1,client=1");
	assert_true(vq_failed(&guest));
	vq_reset(&guest);
	vq_start(&guest, features);
	packed_exchange(&guest, 1);
	assert_false(vq_failed(&guest));
	vq_guest_free(&guest);
	testpmd_stop(&pmd);
	testpmd_clean(&pmd);
}

/* A program that ends, and another that comes to our socket: on the device's own thread, in its sandbox. */
static int again_child(void *arg)
{
	struct testpmd *pmd = arg;
	struct vq_guest guest;
	char options[128];

	child_needs_filters();
	testpmd_start(pmd, "queues=2,client=1");
	snprintf(options, sizeof(options), "vhost-user-server=%s,queues=2", pmd->path);
	CHILD_CHECK(vq_guest_make(&guest, &net_class, options) == 0);
	CHILD_CHECK(guest.dev->worker_count == 1);
	CHILD_CHECK(vq_run(&guest, true) == 0);
	vq_start(&guest, BIT(MRG_RXBUF));
	for (unsigned int i = 0; i < 3; i++) {
		for (uint8_t seed = 1; seed < 20; seed++)
			exchange(&guest, seed);
		testpmd_stop(pmd);
		for (int ms = 0; link_up(&guest) && ms < VQ_WAIT_MS; ms++)
			usleep(1000);
		CHILD_CHECK(!link_up(&guest));
		testpmd_start(pmd, "queues=2,client=1");
		for (int ms = 0; !link_up(&guest) && ms < VQ_WAIT_MS; ms++)
			usleep(1000);
		CHILD_CHECK(link_up(&guest));
	}
	exchange(&guest, 1);
	CHILD_CHECK(!vq_failed(&guest));
	vq_guest_free(&guest);
	testpmd_stop(pmd);
	return 0;
}

static void test_testpmd_again(void **state)
{
	struct testpmd pmd;

	(void)state;
	testpmd_prepare(&pmd);
	child_succeeds(geteuid(), again_child, &pmd);
	testpmd_clean(&pmd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lies),
		cmocka_unit_test(test_position),
		cmocka_unit_test(test_again),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_testpmd),
		cmocka_unit_test(test_testpmd_packed),
		cmocka_unit_test(test_testpmd_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
