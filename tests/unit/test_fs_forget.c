// SPDX-License-Identifier: Apache-2.0
/* FORGET, for which nobody waits: how few doorbells and interrupts it takes, and for whom. Time is the test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "core/state.h"
#include "tests/lib/vdrv.h"

#define FORGETS 0
#define REQUESTS 1
#define SIZE 32
#define PART (SIZE / 4)
#define LEN 4096

extern const struct virtio_class fs_class;

struct test {
	struct vdrv vdrv;
	char path[32];
	uint64_t out, in; /* in guest memory; a FORGET has a buffer of its own */
	uint64_t node;
};

/* The one that is set, so that the test can let it fire. */
static struct timer *running;

int __wrap_timer_set(struct timer *timer, uint64_t ns);

int __wrap_timer_set(struct timer *timer, uint64_t ns)
{
	running = ns ? timer : NULL;
	return 0;
}

static int run_out(void *arg)
{
	struct timer *timer = running;

	(void)arg;
	running = NULL;
	timer->fn(timer);
	return 0;
}

/* False: it is not set. */
static bool fire(struct test *test)
{
	if (!running)
		return false;
	worker_call(&test->vdrv.dev->workers[0], run_out, NULL);
	vdrv_turn(&test->vdrv);
	return true;
}

static void fill(struct test *test, uint64_t gpa, uint32_t opcode, const void *args, size_t len)
{
	const struct fuse_in_header header = {
		.len = (uint32_t)(sizeof(header) + len), .opcode = opcode,
		.nodeid = opcode == FUSE_LOOKUP ? FUSE_ROOT_ID : test->node,
	};
	uint8_t *at = vdrv_ptr(&test->vdrv, gpa, LEN);

	memcpy(at, &header, sizeof(header));
	memcpy(at + sizeof(header), args, len);
}

static int ask(struct test *test, uint32_t opcode, const void *args, size_t len)
{
	const struct fuse_out_header *reply = vdrv_ptr(&test->vdrv, test->in, LEN);
	struct vdrv_queue *queue = &test->vdrv.queues[REQUESTS];

	fill(test, test->out, opcode, args, len);
	assert_true(vdrv_post(queue, (struct vdrv_buffer[]){
		{ test->out, (uint32_t)(sizeof(struct fuse_in_header) + len), false },
		{ test->in, LEN, true },
	}, 2, 0) >= 0);
	assert_true(vdrv_kick(queue));
	vdrv_turn(&test->vdrv);
	assert_true(vdrv_take(queue, &(uint16_t){ 0 }, NULL));
	return reply->error;
}

static bool known(struct test *test)
{
	const struct fuse_getattr_in in = { 0 };
	const int err = ask(test, FUSE_GETATTR, &in, sizeof(in));

	assert_true(!err || err == -ESTALE);
	return !err;
}

/* A lookup less. Whether the device wanted its doorbell. */
static bool forget(struct test *test)
{
	const struct fuse_forget_in in = { .nlookup = 1 };
	const uint64_t gpa = vdrv_alloc(&test->vdrv, LEN);
	struct vdrv_queue *queue = &test->vdrv.queues[FORGETS];
	bool rang;

	fill(test, gpa, FUSE_FORGET, &in, sizeof(in));
	assert_true(vdrv_post(queue, &(struct vdrv_buffer){
		gpa, sizeof(struct fuse_in_header) + sizeof(in), false }, 1, 0) >= 0);
	rang = vdrv_kick(queue);
	vdrv_turn(&test->vdrv);
	return rang;
}

static unsigned int taken(struct test *test)
{
	unsigned int count = 0;

	while (vdrv_take(&test->vdrv.queues[FORGETS], &(uint16_t){ 0 }, NULL))
		count++;
	vdrv_arm(&test->vdrv.queues[FORGETS], 1);
	return count;
}

static void look_up(struct test *test, unsigned int times)
{
	const struct fuse_out_header *reply = vdrv_ptr(&test->vdrv, test->in, LEN);

	while (times--)
		assert_int_equal(ask(test, FUSE_LOOKUP, "file", 5), 0);
	test->node = ((const struct fuse_entry_out *)(const void *)(reply + 1))->nodeid;
}

/* With a file that was looked up that often. */
static void begin(struct test *test, uint64_t features, unsigned int lookups)
{
	const struct fuse_init_in init = { .major = FUSE_KERNEL_VERSION, .minor = 36 };
	char words[64], file[48];

	*test = (struct test){ .path = "/tmp/fs.XXXXXX" };
	assert_non_null(mkdtemp(test->path));
	snprintf(file, sizeof(file), "%s/file", test->path);
	assert_int_equal(mknod(file, S_IFREG | 0600, 0), 0);
	snprintf(words, sizeof(words), "%s,tag=t,packed", test->path);
	running = NULL;
	assert_int_equal(vdrv_open(&test->vdrv, &(struct vdrv_setup){
		.class = &fs_class, .options = words, .transport = VDRV_PCI }), 0);
	assert_int_equal(vdrv_begin(&test->vdrv, features, SIZE), 0);
	test->out = vdrv_alloc(&test->vdrv, LEN);
	test->in = vdrv_alloc(&test->vdrv, LEN);
	assert_int_equal(ask(test, FUSE_INIT, &init, sizeof(init)), 0);
	look_up(test, lookups);
	vdrv_arm(&test->vdrv.queues[FORGETS], 1);
}

static void end(struct test *test)
{
	char file[48];

	vdrv_close(&test->vdrv);
	snprintf(file, sizeof(file), "%s/file", test->path);
	assert_int_equal(remove(file), 0);
	assert_int_equal(rmdir(test->path), 0);
}

static const uint64_t layouts[] = {
	1ULL << VIRTIO_RING_F_EVENT_IDX,
	1ULL << VIRTIO_RING_F_EVENT_IDX | 1ULL << VIRTIO_F_RING_PACKED,
};

static void test_several_at_once(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(layouts); i++) {
		struct test test;

		(void)state;
		begin(&test, layouts[i], 4);
		assert_true(forget(&test));
		assert_int_equal(taken(&test), 1);
		vdrv_interrupts(&test.vdrv, FORGETS);
		for (unsigned int j = 0; j < 3; j++)
			assert_false(forget(&test));
		assert_int_equal(taken(&test), 0);
		assert_true(known(&test));
		assert_true(fire(&test));
		assert_int_equal(vdrv_interrupts(&test.vdrv, FORGETS), 1);
		assert_int_equal(taken(&test), 3);
		assert_false(known(&test));
		/* Nothing came any more: then doorbells are wanted again, and the timer is off. */
		assert_true(fire(&test));
		assert_false(fire(&test));
		assert_true(forget(&test));
		assert_int_equal(taken(&test), 1);
		end(&test);
	}
}

/* All laps of the ring: its indices turn over in between. */
static void test_many_ring(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(layouts); i++) {
		unsigned int rung = 0, served = 0, lookups = 8 * (PART + 1) + 1;
		struct test test;

		(void)state;
		begin(&test, layouts[i], lookups);
		for (unsigned int j = 0; j < lookups; j++) {
			assert_true(known(&test));
			rung += forget(&test);
			served += taken(&test);
		}
		/* The first, and each that is one more than may wait. */
		assert_int_equal(rung, 9);
		assert_int_equal(served, lookups);
		assert_false(known(&test));
		end(&test);
	}
}

/* One that has each FORGET used before it goes on. */
static void test_who_waits_is_served(void **state)
{
	unsigned int rung = 0;
	struct test test;

	(void)state;
	begin(&test, layouts[0], 200);
	for (unsigned int i = 0; i < 200; i++) {
		rung += forget(&test);
		while (!vdrv_used(&test.vdrv.queues[FORGETS]))
			assert_true(fire(&test));
		assert_int_equal(taken(&test), 1);
	}
	assert_false(known(&test));
	assert_in_range(rung, 190, 199);
	end(&test);
}

/* Who cannot say that several need one doorbell is told of each. */
static void test_without_event_indices(void **state)
{
	struct test test;

	(void)state;
	begin(&test, 0, 3);
	for (unsigned int i = 0; i < 3; i++) {
		assert_true(forget(&test));
		assert_int_equal(taken(&test), 1);
	}
	assert_false(known(&test));
	assert_false(fire(&test));
	end(&test);
}

/* What is in the ring when the device is stopped is in the save as it should be. */
static void test_a_save_finds_them(void **state)
{
	struct state saved = { 0 };
	struct test test;

	(void)state;
	begin(&test, layouts[0], 3);
	forget(&test);
	assert_false(forget(&test));
	assert_false(forget(&test));
	assert_int_equal(vdrv_save(&test.vdrv, &saved), 0);
	assert_int_equal(taken(&test), 3);
	virtio_dev_resume(test.vdrv.dev);
	assert_false(known(&test));
	/* That one was of a queue that is another by now. */
	assert_true(fire(&test));
	assert_true(forget(&test));
	state_free(&saved);
	end(&test);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_several_at_once),
		cmocka_unit_test(test_many_ring),
		cmocka_unit_test(test_who_waits_is_served),
		cmocka_unit_test(test_without_event_indices),
		cmocka_unit_test(test_a_save_finds_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
