// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/timerfd.h>
#include <termios.h>
#include "tests/lib/child.h"
#include "tests/unit/driver.h"

extern const struct virtio_class rng_class;

/* Guest memory behind the rings. */
#define DATA (VQ_RAM_BASE + MIB(4))

/* A clock of the test's own, which stands still; 0: the host's. */
static uint64_t clock_ns;
static uint64_t armed_ns; /* by it, for how long the timer was set last */

int __real_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time);

int __wrap_clock_gettime(clockid_t clock, struct timespec *time)
{
	if (!clock_ns)
		return __real_clock_gettime(clock, time);
	*time = (struct timespec){ (time_t)(clock_ns / NS_PER_SEC), (long)(clock_ns % NS_PER_SEC) };
	return 0;
}

int __real_timerfd_settime(int fd, int flags, const struct itimerspec *value,
			   struct itimerspec *old);
int __wrap_timerfd_settime(int fd, int flags, const struct itimerspec *value,
			   struct itimerspec *old);

int __wrap_timerfd_settime(int fd, int flags, const struct itimerspec *value,
			   struct itimerspec *old)
{
	if (!clock_ns)
		return __real_timerfd_settime(fd, flags, value, old);
	armed_ns = (uint64_t)value->it_value.tv_sec * NS_PER_SEC + (uint64_t)value->it_value.tv_nsec;
	return 0;
}

static int make(struct vq_guest *guest, const char *options)
{
	return vq_guest_make(guest, &rng_class, options);
}

static void ask(struct vq_guest *guest, uint32_t len)
{
	vq_post(guest, 0, &(struct vq_buffer){ DATA, len, true }, 1);
	vq_notify(guest, 0);
	vq_turn(guest);
}

/* Until a request waits: a machine that stalls earns tokens meanwhile. */
static void ask_until_throttled(struct vq_guest *guest)
{
	uint16_t head;

	do
		ask(guest, 4000);
	while (vq_take(guest, 0, &head, NULL));
}

static size_t zeroes(struct vq_guest *guest, size_t len)
{
	const uint8_t *at = vq_ptr(guest, DATA, len);
	size_t count = 0;

	for (size_t i = 0; i < len; i++)
		count += at[i] == 0;
	return count;
}

static void test_kernel(void **state)
{
	struct vq_guest guest;
	uint16_t head;
	uint32_t len;

	(void)state;
	assert_int_equal(make(&guest, ""), 0);
	vq_start(&guest, 0);
	vq_post(&guest, 0, (struct vq_buffer[]){ { DATA, 100, true }, { DATA + 100, 4000, true } }, 2);
	vq_notify(&guest, 0);
	vq_turn(&guest);
	assert_true(vq_take(&guest, 0, &head, &len));
	assert_int_equal(len, 4100);
	assert_in_range(zeroes(&guest, 4100), 0, 200);
	assert_int_equal(zeroes(&guest, 8192) - zeroes(&guest, 4100), 8192 - 4100);
	assert_int_equal(guest.queue_interrupts[0], 1);

	/* However much is asked for. */
	ask(&guest, MIB(2));
	assert_true(vq_take(&guest, 0, &head, &len));
	assert_int_equal(len, KIB(64));
	assert_int_equal(vq_counter(&guest, "bytes"), 4100 + KIB(64));
	assert_int_equal(vq_counter(&guest, "requests"), 2);
	vq_guest_free(&guest);
}

static void test_no_room(void **state)
{
	struct vq_guest guest;
	uint16_t head;
	uint32_t len;

	(void)state;
	assert_int_equal(make(&guest, ""), 0);
	vq_start(&guest, 0);
	vq_post(&guest, 0, &(struct vq_buffer){ DATA, 64, false }, 1);
	vq_notify(&guest, 0);
	vq_turn(&guest);
	assert_true(vq_failed(&guest));
	assert_false(vq_take(&guest, 0, &head, NULL));

	virtio_set_status(guest.dev, 0);
	vq_start(&guest, 0);
	ask(&guest, 64);
	assert_true(vq_take(&guest, 0, &head, &len));
	assert_int_equal(len, 64);
	vq_guest_free(&guest);
}

static void test_rate(void **state)
{
	struct vq_guest guest;
	uint16_t head;
	uint32_t len;

	(void)state;
	assert_int_equal(make(&guest, "rate=1000"), 0);
	vq_start(&guest, 0);
	/* What was saved up goes at once, the next request waits for the timer. */
	ask(&guest, 4000);
	assert_true(vq_take(&guest, 0, &head, &len));
	assert_int_equal(len, 1000);
	ask_until_throttled(&guest);
	while (!vq_take(&guest, 0, &head, &len))
		assert_int_equal(vq_wait(&guest), 1);
	assert_in_range(len, 1, 1000);
	assert_true(vq_counter(&guest, "throttled") >= 1);
	vq_guest_free(&guest);
}

static void test_period(void **state)
{
	static const struct { const char *options; int result; } bad[] = {
		{ "period=100", -ENOMSG },
		{ "rate=5,max-bytes=5", -ENOMSG },
		{ "max-bytes=5,period=6000", -ERANGE },
	};
	struct vq_guest guest;
	uint16_t head;
	uint32_t len;

	(void)state;
	assert_int_equal(make(&guest, "max-bytes=500,period=100"), 0);
	vq_start(&guest, 0);
	ask(&guest, 4000);
	assert_true(vq_take(&guest, 0, &head, &len));
	assert_int_equal(len, 500);
	ask_until_throttled(&guest);
	while (!vq_take(&guest, 0, &head, &len))
		assert_int_equal(vq_wait(&guest), 1);
	vq_guest_free(&guest);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(make(&guest, bad[i].options), bad[i].result);
		vq_guest_free(&guest);
	}
}

/* A guest that always waits for more, and a host that is late by up to late_ns, for ten seconds. */
static uint64_t delivered(const char *options, uint64_t late_ns)
{
	struct vq_guest guest;
	uint64_t bytes = 0;
	uint16_t head;
	uint32_t len;

	clock_ns = NS_PER_SEC;
	assert_int_equal(make(&guest, options), 0);
	vq_start(&guest, 0);
	for (int i = 0; i < VQ_SIZE; i++)
		vq_post(&guest, 0, &(struct vq_buffer){ DATA, 64, true }, 1);
	for (uint64_t turn = 0; clock_ns < 11 * NS_PER_SEC; turn++) {
		vq_notify(&guest, 0);
		vq_turn(&guest);
		while (vq_take(&guest, 0, &head, &len)) {
			bytes += len;
			vq_post(&guest, 0, &(struct vq_buffer){ DATA, 64, true }, 1);
		}
		clock_ns += armed_ns + turn % 8 * late_ns / 7;
	}
	vq_guest_free(&guest);
	clock_ns = 0;
	return bytes;
}

/* By the bucket's clock, whatever this machine does meanwhile: within 5 % of the rate, and the burst. */
static void test_limits_hold(void **state)
{
	static const struct { const char *options; uint64_t rate, burst, late_ns; } table[] = {
		{ "rate=2000", 2000, 2000, 0 },
		{ "rate=2000", 2000, 2000, 300 * NS_PER_MS },
		{ "max-bytes=500,period=50", 10000, 500, 0 },
		{ "max-bytes=500,period=50", 10000, 500, 40 * NS_PER_MS },
		{ "max-bytes=100K,period=1000", KIB(100), KIB(100), 5 * NS_PER_MS },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		uint64_t bytes = delivered(table[i].options, table[i].late_ns);

		assert_in_range(bytes, 10 * table[i].rate * 95 / 100,
				table[i].burst + 10 * table[i].rate * 105 / 100);
	}
}

/* The timer goes off after the reset: nobody is given anything. */
static void test_reset_while_throttled(void **state)
{
	struct vq_guest guest;
	uint16_t head;

	(void)state;
	assert_int_equal(make(&guest, "rate=100"), 0);
	vq_start(&guest, 0);
	ask_until_throttled(&guest);
	memset(vq_ptr(&guest, DATA, 4096), 0, 4096);
	virtio_set_status(guest.dev, 0);
	assert_int_equal(vq_wait(&guest), 1);
	assert_false(vq_take(&guest, 0, &head, NULL));
	assert_int_equal(zeroes(&guest, 4096), 4096);
	vq_guest_free(&guest);
}

/* A pseudo terminal is a character device that we can let run dry. */
static int make_source(struct vq_guest *guest)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	struct termios termios;
	char options[128];

	assert_true(master >= 0);
	assert_int_equal(grantpt(master), 0);
	assert_int_equal(unlockpt(master), 0);
	assert_int_equal(tcgetattr(master, &termios), 0);
	cfmakeraw(&termios);
	assert_int_equal(tcsetattr(master, TCSANOW, &termios), 0);
	snprintf(options, sizeof(options), "source=%s", ptsname(master));
	assert_int_equal(make(guest, options), 0);
	return master;
}

static void test_source(void **state)
{
	struct vq_guest guest;
	int master = make_source(&guest);
	uint16_t head;
	uint32_t len;

	(void)state;
	vq_start(&guest, 0);
	ask(&guest, 100);
	assert_false(vq_take(&guest, 0, &head, NULL));
	assert_int_equal(vq_counter(&guest, "errors"), 0);
	assert_int_equal(write(master, "entropy", 7), 7);
	while (!vq_take(&guest, 0, &head, &len))
		assert_int_equal(vq_wait(&guest), 1);
	assert_int_equal(len, 7);
	assert_memory_equal(vq_ptr(&guest, DATA, 7), "entropy", 7);

	/* Nobody waits: more of it wakes nobody up. */
	assert_int_equal(write(master, "more", 4), 4);
	assert_int_equal(loop_turn(&guest.dev->workers[0].loop, 20), 0);
	ask(&guest, 100);
	assert_true(vq_take(&guest, 0, &head, &len));
	assert_int_equal(len, 4);
	close(master);
	vq_guest_free(&guest);
}

/* The source goes away: the guest waits, and we do not spin. */
static void test_source_gone(void **state)
{
	struct vq_guest guest;
	int master = make_source(&guest);
	uint16_t head;

	(void)state;
	vq_start(&guest, 0);
	ask(&guest, 100);
	close(master);
	assert_int_equal(vq_wait(&guest), 1);
	assert_int_equal(loop_turn(&guest.dev->workers[0].loop, 20), 0);
	ask(&guest, 100);
	assert_false(vq_take(&guest, 0, &head, NULL));
	assert_true(vq_counter(&guest, "errors") >= 1);
	assert_false(vq_failed(&guest));
	vq_guest_free(&guest);
}

static void test_bad_sources(void **state)
{
	static const struct { const char *options; int result; } table[] = {
		{ "source=/nonexistent", -ENOENT },
		{ "source=/proc/self/exe", -EINVAL },
		{ "source=/tmp", -EINVAL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct vq_guest guest;

		assert_int_equal(make(&guest, table[i].options), table[i].result);
		vq_guest_free(&guest);
	}
}

static void test_empty_source(void **state)
{
	struct vq_guest guest;
	uint16_t head;

	(void)state;
	assert_int_equal(make(&guest, "source=/dev/null"), 0);
	vq_start(&guest, 0);
	vq_turn(&guest);
	ask(&guest, 100);
	assert_false(vq_take(&guest, 0, &head, NULL));
	assert_int_equal(vq_counter(&guest, "errors"), 1);
	/* It is asked again, without a kick. */
	vq_wait(&guest);
	assert_int_equal(vq_counter(&guest, "errors"), 2);
	vq_guest_free(&guest);
}

static int confined(void *arg)
{
	struct vq_guest guest;
	uint16_t head;

	child_needs_filters();
	CHILD_CHECK(make(&guest, arg) == 0);
	CHILD_CHECK(vq_run(&guest, true) == 0);
	vq_start(&guest, 0);
	for (int i = 0; i < 2; i++) {
		vq_post(&guest, 0, &(struct vq_buffer){ DATA, 1000, true }, 1);
		vq_notify(&guest, 0);
		CHILD_CHECK(vq_await(&guest, 0, &head, NULL));
	}
	virtio_set_status(guest.dev, 0);
	vq_guest_free(&guest);
	return 0;
}

static void test_confined(void **state)
{
	child_succeeds(geteuid(), confined, *state);
}

int main(void)
{
	char plain[] = "", all[] = "source=/dev/urandom,rate=1000";
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kernel),
		cmocka_unit_test(test_no_room),
		cmocka_unit_test(test_rate),
		cmocka_unit_test(test_period),
		cmocka_unit_test(test_limits_hold),
		cmocka_unit_test(test_reset_while_throttled),
		cmocka_unit_test(test_source),
		cmocka_unit_test(test_source_gone),
		cmocka_unit_test(test_bad_sources),
		cmocka_unit_test(test_empty_source),
		{ "confined", test_confined, NULL, NULL, plain },
		{ "confined, source and rate", test_confined, NULL, NULL, all },
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
