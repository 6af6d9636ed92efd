// SPDX-License-Identifier: Apache-2.0
/*
 * What a request must not do: allocate, or take a lock. The linker puts the
 * functions below in the place of the C library's for all of this program but
 * the shared objects (see the Makefile).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_net.h>
#include <linux/virtio_vsock.h>
#include <linux/vm_sockets.h>
#include <stdio.h>
#include "tests/unit/driver.h"

extern const struct virtio_class blk_class, net_class, vsock_class, rng_class;

/* Guest memory behind the rings. */
#define HEADER (VQ_RAM_BASE + MIB(4))
#define STATUS (HEADER + 64)
#define DATA (HEADER + 4096)
#define FRAME 1514
#define BATCH (VQ_SIZE / 3)
#define ROUNDS 1000

struct counts {
	unsigned long allocations, locks;
};

/* All on one thread. */
static struct counts counts;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void __real_free(void *memory);
int __real_pthread_mutex_lock(pthread_mutex_t *mutex);

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void __wrap_free(void *memory);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);

void *__wrap_malloc(size_t size)
{
	counts.allocations++;
	return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	counts.allocations++;
	return __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
	counts.allocations++;
	return __real_realloc(memory, size);
}

void __wrap_free(void *memory)
{
	counts.allocations++;
	__real_free(memory);
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex)
{
	counts.locks++;
	return __real_pthread_mutex_lock(mutex);
}

/* What was posted is answered. */
static void expect(struct vq_guest *guest, unsigned int queue, unsigned int count, uint32_t len)
{
	uint16_t head;
	uint32_t used;

	vq_notify(guest, queue);
	vq_turn(guest);
	for (unsigned int i = 0; i < count; i++) {
		while (!vq_take(guest, queue, &head, &used))
			assert_true(vq_wait(guest) > 0);
		assert_int_equal(used, len);
	}
}

static void blk_round(struct vq_guest *guest)
{
	struct virtio_blk_outhdr *header = vq_ptr(guest, HEADER, sizeof(*header));

	*header = (struct virtio_blk_outhdr){ .type = VIRTIO_BLK_T_IN, .sector = 8 };
	for (unsigned int i = 0; i < BATCH; i++)
		vq_post(guest, 0, (struct vq_buffer[]){ { HEADER, sizeof(*header), false },
							{ DATA + i * 4096, 4096, true },
							{ STATUS + i, 1, true } }, 3);
	expect(guest, 0, BATCH, 4097);
	for (unsigned int i = 0; i < BATCH; i++)
		assert_int_equal(*(uint8_t *)vq_ptr(guest, STATUS + i, 1), VIRTIO_BLK_S_OK);
}

static void rng_round(struct vq_guest *guest)
{
	for (unsigned int i = 0; i < BATCH; i++)
		vq_post(guest, 0, &(struct vq_buffer){ DATA + i * 4096, 64, true }, 1);
	expect(guest, 0, BATCH, 64);
}

/* Each packet that is sent comes back. */
static void net_round(struct vq_guest *guest)
{
	const uint32_t len = sizeof(struct virtio_net_hdr_mrg_rxbuf) + FRAME;

	for (unsigned int i = 0; i < BATCH; i++) {
		vq_post(guest, 0, &(struct vq_buffer){ DATA + i * 4096, 4096, true }, 1);
		vq_post(guest, 1, &(struct vq_buffer){ HEADER, len, false }, 1);
	}
	vq_notify(guest, 0);
	expect(guest, 1, BATCH, 0);
	expect(guest, 0, BATCH, len);
}

/* Takes what came from the host, and keeps as many buffers there; the port that it asked from last. */
static uint32_t vsock_hear(struct vq_guest *guest, unsigned int *posted)
{
	uint32_t port = 0;
	uint16_t head;

	vq_turn(guest);
	while (vq_take(guest, 0, &head, NULL)) {
		const struct vring_desc *desc = vq_ptr(guest, guest->queues[0].desc, VQ_SIZE * 16);
		const struct virtio_vsock_hdr *hdr = vq_ptr(guest, desc[head].addr, sizeof(*hdr));

		if (hdr->op == VIRTIO_VSOCK_OP_REQUEST)
			port = hdr->src_port;
		(*posted)--;
	}
	for (; *posted < BATCH; (*posted)++)
		vq_post(guest, 0, &(struct vq_buffer){ DATA + *posted * 4096, 4096, true }, 1);
	vq_notify(guest, 0);
	vq_turn(guest);
	return port;
}

static void vsock_say(struct vq_guest *guest, uint16_t op, uint32_t from, uint32_t to)
{
	const uint32_t len = op == VIRTIO_VSOCK_OP_RW ? FRAME : 0;
	struct virtio_vsock_hdr *hdr = vq_ptr(guest, HEADER, sizeof(*hdr));

	*hdr = (struct virtio_vsock_hdr){
		.src_cid = 3, .dst_cid = VMADDR_CID_HOST, .src_port = from, .dst_port = to,
		.type = VIRTIO_VSOCK_TYPE_STREAM, .op = op, .len = len, .buf_alloc = 65536,
		.flags = op == VIRTIO_VSOCK_OP_SHUTDOWN ?
				 VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND : 0,
	};
	vq_post(guest, 1, &(struct vq_buffer){ HEADER, sizeof(*hdr) + len, false }, 1);
	expect(guest, 1, 1, 0);
}

/* A connection, which comes back to the guest, with data both ways. */
static void vsock_round(struct vq_guest *guest)
{
	unsigned int posted = guest->queues[0].next_desc ? BATCH : 0;
	uint64_t sent = vq_counter(guest, "rx_bytes");
	uint32_t port;

	vsock_hear(guest, &posted);
	vsock_say(guest, VIRTIO_VSOCK_OP_REQUEST, 7, 8);
	port = vsock_hear(guest, &posted);
	vsock_say(guest, VIRTIO_VSOCK_OP_RESPONSE, 8, port);
	vsock_say(guest, VIRTIO_VSOCK_OP_RW, 7, 8);
	vsock_say(guest, VIRTIO_VSOCK_OP_RW, 8, port);
	vsock_hear(guest, &posted);
	assert_int_equal(vq_counter(guest, "rx_bytes"), sent + 2 * FRAME);
	vsock_say(guest, VIRTIO_VSOCK_OP_SHUTDOWN, 7, 8);
	vsock_hear(guest, &posted);
	vsock_say(guest, VIRTIO_VSOCK_OP_RST, 8, port);
	vsock_hear(guest, &posted);
	assert_int_equal(vq_counter(guest, "opened"), vq_counter(guest, "closed"));
}

static void measure(struct vq_guest *guest, uint64_t features, void (*round)(struct vq_guest *))
{
	struct counts before;

	/* A device that is made does both, and is seen to. */
	assert_true(counts.allocations > 0);
	vq_start(guest, features);
	assert_true(counts.locks > 0);
	round(guest);
	before = counts;
	for (int i = 0; i < ROUNDS; i++)
		round(guest);
	assert_int_equal(counts.allocations, before.allocations);
	assert_int_equal(counts.locks, before.locks);
	assert_false(vq_failed(guest));
}

static void run(const struct virtio_class *class, const char *options,
		void (*round)(struct vq_guest *))
{
	struct vq_guest guest;

	counts = (struct counts){ 0 };
	assert_int_equal(vq_guest_make(&guest, class, options), 0);
	measure(&guest, 0, round);
	vq_guest_free(&guest);
}

static void test_blk_sync(void **state)
{
	(void)state;
	run(&blk_class, "scratch=1M,engine=sync", blk_round);
}

static void test_blk_uring(void **state)
{
	char path[] = "/tmp/microvm-hotpath-XXXXXX", options[64];
	int fd = mkstemp(path), r;
	struct vq_guest guest;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, MIB(1)), 0);
	close(fd);
	snprintf(options, sizeof(options), "%s,engine=uring", path);
	counts = (struct counts){ 0 };
	r = vq_guest_make(&guest, &blk_class, options);
	if (r == 0)
		measure(&guest, 0, blk_round);
	vq_guest_free(&guest);
	unlink(path);
	if (r == -ENOSYS || r == -EPERM) {
		print_message("skipped: io_uring: %s\n", strerror(-r));
		skip();
	}
	assert_int_equal(r, 0);
}

static void test_rng(void **state)
{
	(void)state;
	run(&rng_class, "", rng_round);
}

static void test_net(void **state)
{
	(void)state;
	run(&net_class, "loop", net_round);
}

static void test_vsock(void **state)
{
	(void)state;
	run(&vsock_class, "cid=3,loop", vsock_round);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_blk_sync),
		cmocka_unit_test(test_blk_uring),
		cmocka_unit_test(test_rng),
		cmocka_unit_test(test_net),
		cmocka_unit_test(test_vsock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
