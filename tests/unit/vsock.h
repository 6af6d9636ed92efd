/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vsock play the guest by hand, packet by packet, and programs on the host. */
#ifndef TESTS_UNIT_VSOCK_H
#define TESTS_UNIT_VSOCK_H

#include <fcntl.h>
#include <linux/virtio_vsock.h>
#include <linux/vm_sockets.h>
#include <sched.h>
#include <sys/socket.h>
#include "core/state.h"
#include "core/usock.h"
#include "seccomp/jail.h"
#include "tests/lib/child.h"
#include "tests/unit/driver.h"

extern const struct virtio_class vsock_class;

#define RX 0
#define TX 1
#define EVENT 2
#define CID 5
#define HEADER sizeof(struct virtio_vsock_hdr)
#define RX_LEN 2048 /* header included */
/* Guest memory behind the rings. */
#define INCOMING(i) (VQ_RAM_BASE + MIB(4) + (uint64_t)(i) * 4096)
#define OUTGOING (VQ_RAM_BASE + MIB(5))
#define SEQPACKET (1ULL << VIRTIO_VSOCK_F_SEQPACKET)
#define PORT 1234  /* of a program on the host */
#define GUEST 4000 /* of one in the guest */
#define BOTH (VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)

struct vsock_test {
	struct vq_guest guest;
	char dir[32];
	/* As the guest's next packet says. */
	uint16_t type;
	uint32_t buf_alloc, fwd_cnt;
	uint64_t src_cid;
	/* The last one from the host. */
	struct virtio_vsock_hdr hdr;
	uint8_t data[RX_LEN];
};

static inline void post_rx(struct vsock_test *test, unsigned int i)
{
	vq_post(&test->guest, RX, &(struct vq_buffer){ INCOMING(i), RX_LEN, true }, 1);
}

static inline void turn(struct vsock_test *test)
{
	vq_turn(&test->guest);
}

static inline void give_rx(struct vsock_test *test)
{
	for (unsigned int i = 0; i < VQ_SIZE; i++)
		post_rx(test, i);
	vq_notify(&test->guest, RX);
	turn(test);
}

static inline void start_bare(struct vsock_test *test)
{
	vq_start(&test->guest, SEQPACKET);
	turn(test);
}

static inline void make(struct vsock_test *test, const char *options)
{
	*test = (struct vsock_test){
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.buf_alloc = 65536,
		.src_cid = CID,
	};
	snprintf(test->dir, sizeof(test->dir), "/tmp/%s-XXXXXX", program_invocation_short_name);
	assert_non_null(mkdtemp(test->dir));
	assert_int_equal(chdir(test->dir), 0);
	assert_int_equal(vq_guest_make(&test->guest, &vsock_class, options), 0);
}

static inline void begin(struct vsock_test *test, const char *options)
{
	make(test, options);
	start_bare(test);
	give_rx(test);
}

static inline void finish(struct vsock_test *test)
{
	char command[64];

	assert_false(vq_failed(&test->guest));
	vq_guest_free(&test->guest);
	snprintf(command, sizeof(command), "rm -r %s", test->dir);
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(system(command), 0);
}

static inline uint64_t counter(struct vsock_test *test, const char *name)
{
	return vq_counter(&test->guest, name);
}

/* ---- packets ---- */

static inline void send_packet(struct vsock_test *test, const struct virtio_vsock_hdr *hdr, uint32_t len)
{
	memcpy(vq_ptr(&test->guest, OUTGOING, sizeof(*hdr)), hdr, sizeof(*hdr));
	vq_post(&test->guest, TX, &(struct vq_buffer){ OUTGOING, (uint32_t)HEADER + len, false }, 1);
	vq_notify(&test->guest, TX);
	turn(test);
}

static inline struct virtio_vsock_hdr header(struct vsock_test *test, uint16_t op, uint32_t guest_port,
				      uint32_t host_port)
{
	return (struct virtio_vsock_hdr){
		.src_cid = test->src_cid, .dst_cid = VMADDR_CID_HOST,
		.src_port = guest_port, .dst_port = host_port,
		.type = test->type, .op = op, .buf_alloc = test->buf_alloc, .fwd_cnt = test->fwd_cnt,
	};
}

static inline void tell(struct vsock_test *test, uint16_t op, uint32_t flags, uint32_t guest_port,
		 uint32_t host_port)
{
	struct virtio_vsock_hdr hdr = header(test, op, guest_port, host_port);

	hdr.flags = flags;
	send_packet(test, &hdr, 0);
}

static inline void send_data(struct vsock_test *test, const void *data, uint32_t len, uint32_t flags,
		      uint32_t guest_port, uint32_t host_port)
{
	struct virtio_vsock_hdr hdr = header(test, VIRTIO_VSOCK_OP_RW, guest_port, host_port);

	hdr.len = len;
	hdr.flags = flags;
	memcpy(vq_ptr(&test->guest, OUTGOING + HEADER, len), data, len);
	send_packet(test, &hdr, len);
}

/* The next packet from the host; its buffer is given back. False when there is none. */
static inline bool hear(struct vsock_test *test)
{
	struct vq *queue = &test->guest.queues[RX];
	struct vring_desc *desc;
	uint16_t head;
	uint32_t len;
	uint8_t *at;

	turn(test);
	if (!vq_take(&test->guest, RX, &head, &len))
		return false;
	desc = vq_ptr(&test->guest, queue->desc, queue->size * sizeof(*desc));
	at = vq_ptr(&test->guest, desc[head].addr, RX_LEN);
	memcpy(&test->hdr, at, HEADER);
	assert_int_equal(test->hdr.len, len - HEADER);
	memcpy(test->data, at + HEADER, test->hdr.len);
	post_rx(test, head);
	vq_notify(&test->guest, RX);
	assert_int_equal(test->hdr.src_cid, VMADDR_CID_HOST);
	assert_int_equal(test->hdr.dst_cid, CID);
	assert_int_equal(test->hdr.type, test->type);
	return true;
}

static inline void expect(struct vsock_test *test, uint16_t op, uint32_t guest_port, uint32_t host_port)
{
	assert_true(hear(test));
	assert_int_equal(test->hdr.op, op);
	assert_int_equal(test->hdr.dst_port, guest_port);
	assert_int_equal(test->hdr.src_port, host_port);
}

static inline void expect_shutdown(struct vsock_test *test, uint32_t flags, uint32_t guest_port,
			    uint32_t host_port)
{
	expect(test, VIRTIO_VSOCK_OP_SHUTDOWN, guest_port, host_port);
	assert_int_equal(test->hdr.flags, flags);
}

static inline void expect_data(struct vsock_test *test, const char *text, uint32_t guest_port,
			uint32_t host_port)
{
	expect(test, VIRTIO_VSOCK_OP_RW, guest_port, host_port);
	assert_int_equal(test->hdr.len, strlen(text));
	assert_memory_equal(test->data, text, strlen(text));
}

static inline void expect_nothing(struct vsock_test *test)
{
	assert_false(hear(test));
}

/* ---- programs on the host ---- */

static inline int serve(int type)
{
	int fd;

	assert_int_equal(usock_listen("v_1234", type, 64, &fd), 0);
	return fd;
}

/* The guest connects to it. */
static inline int meet(struct vsock_test *test, int listener, uint32_t guest_port)
{
	int fd;

	tell(test, VIRTIO_VSOCK_OP_REQUEST, 0, guest_port, PORT);
	expect(test, VIRTIO_VSOCK_OP_RESPONSE, guest_port, PORT);
	fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static inline void host_reads(int fd, const char *text)
{
	char buffer[4096];

	assert_int_equal(read(fd, buffer, sizeof(buffer)), strlen(text));
	assert_memory_equal(buffer, text, strlen(text));
}

static inline void host_is_at_end(int fd)
{
	char byte;

	assert_int_equal(read(fd, &byte, 1), 0);
}

static inline void host_has_nothing(int fd)
{
	char byte;

	assert_int_equal(read(fd, &byte, 1), -1);
	assert_int_equal(errno, EAGAIN);
}

static inline void host_writes(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

/* Fills the socket and then the buffer of 4 KiB, exactly; returns how many bytes were sent. */
static inline uint32_t fill(struct vsock_test *test, uint32_t guest_port)
{
	uint8_t data[1024];
	uint32_t sent = 0, known = 0;

	while (sent - known <= 4096 - sizeof(data)) {
		for (size_t i = 0; i < sizeof(data); i++)
			data[i] = (uint8_t)((sent + i) * 31 >> 3);
		send_data(test, data, sizeof(data), 0, guest_port, PORT);
		sent += (uint32_t)sizeof(data);
		while (hear(test)) {
			assert_int_equal(test->hdr.op, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
			assert_int_equal(test->hdr.buf_alloc, 4096);
			known = test->hdr.fwd_cnt;
			assert_true(sent - known <= 4096);
		}
	}
	/* The update for what came last is due only when more was sent: ask. */
	tell(test, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 0, guest_port, PORT);
	expect(test, VIRTIO_VSOCK_OP_CREDIT_UPDATE, guest_port, PORT);
	while (sent - test->hdr.fwd_cnt < 4096) {
		uint8_t byte = (uint8_t)(sent * 31 >> 3);

		send_data(test, &byte, 1, 0, guest_port, PORT);
		sent++;
		assert_false(hear(test));
	}
	return sent;
}

static inline void drain(struct vsock_test *test, int fd, uint32_t len)
{
	uint8_t data[4096];
	ssize_t n;

	for (uint32_t at = 0; at < len; at += (uint32_t)n) {
		turn(test);
		n = read(fd, data, sizeof(data));
		assert_true(n > 0);
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(data[i], (uint8_t)((at + (uint32_t)i) * 31 >> 3));
	}
}

#endif
