// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <cmocka.h>
#include "core/loop.h"
#include "core/util.h"

#define EVENTS 4

/* Some eventfds in a loop; with delete_others the first that fires deletes the rest. */
struct fixture {
	struct loop loop;
	struct probe {
		struct event event;
		struct fixture *fixture;
		int fired;
	} probes[EVENTS];
	bool delete_others;
	bool stop;
	int turn_ends;
	int looks, last_looks, work; /* work: how many looks find something */
};

static void probe_fired(struct event *event, uint32_t revents)
{
	struct probe *probe = container_of(event, struct probe, event);
	struct fixture *f = probe->fixture;
	eventfd_t count;

	assert_true(revents & EPOLLIN);
	assert_int_equal(eventfd_read(event->fd, &count), 0);
	probe->fired++;
	if (f->stop)
		loop_stop(&f->loop);
	for (int i = 0; f->delete_others && i < EVENTS; i++)
		if (&f->probes[i] != probe)
			loop_del(&f->loop, &f->probes[i].event);
}

static void turn_ended(void *opaque)
{
	((struct fixture *)opaque)->turn_ends++;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_int_equal(loop_init(&f->loop), 0);
	f->loop.turn_end = turn_ended;
	f->loop.opaque = f;
	for (int i = 0; i < EVENTS; i++) {
		f->probes[i] = (struct probe){
			.event = { .fd = eventfd(0, EFD_NONBLOCK), .fn = probe_fired },
			.fixture = f,
		};
		assert_int_equal(loop_add(&f->loop, &f->probes[i].event, EPOLLIN), 0);
	}
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	loop_free(&f->loop);
	for (int i = 0; i < EVENTS; i++)
		close(f->probes[i].event.fd);
	free(f);
	return 0;
}

static int fired(const struct fixture *f)
{
	int sum = 0;

	for (int i = 0; i < EVENTS; i++)
		sum += f->probes[i].fired;
	return sum;
}

static void signal_all(struct fixture *f)
{
	for (int i = 0; i < EVENTS; i++)
		assert_int_equal(eventfd_write(f->probes[i].event.fd, 1), 0);
}

static void a_turn_serves_all_that_is_ready(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(loop_turn(&f->loop, 0), 0);
	assert_int_equal(f->turn_ends, 0);
	signal_all(f);
	assert_int_equal(loop_turn(&f->loop, -1), EVENTS);
	assert_int_equal(f->turn_ends, 1);
	for (int i = 0; i < EVENTS; i++)
		assert_int_equal(f->probes[i].fired, 1);
}

static void a_deleted_event_does_not_fire_in_this_turn(void **state)
{
	struct fixture *f = *state;

	f->delete_others = true;
	signal_all(f);
	assert_int_equal(loop_turn(&f->loop, -1), 1);
	assert_int_equal(fired(f), 1);
	assert_int_equal(loop_turn(&f->loop, 0), 0);
}

static void add_mod_del(void **state)
{
	struct fixture *f = *state;
	struct event *event = &f->probes[0].event;

	assert_int_equal(loop_add(&f->loop, event, EPOLLIN), -EEXIST);
	assert_int_equal(loop_mod(&f->loop, event, 0), 0);
	assert_int_equal(eventfd_write(event->fd, 1), 0);
	assert_int_equal(loop_turn(&f->loop, 0), 0);
	assert_int_equal(loop_mod(&f->loop, event, EPOLLIN), 0);
	assert_int_equal(loop_turn(&f->loop, 0), 1);
	loop_del(&f->loop, event);
	loop_del(&f->loop, event);
	assert_int_equal(loop_mod(&f->loop, event, EPOLLIN), -ENOENT);
}

static void an_edge_needs_no_read(void **state)
{
	struct fixture *f = *state;
	struct epoll_event ready;

	assert_int_equal(loop_mod(&f->loop, &f->probes[0].event, EPOLLIN | EPOLLET), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(eventfd_write(f->probes[0].event.fd, 1), 0);
		assert_int_equal(epoll_wait(f->loop.epfd, &ready, 1, 0), 1);
		assert_int_equal(epoll_wait(f->loop.epfd, &ready, 1, 0), 0);
	}
}

static bool looked(void *opaque, bool last)
{
	struct fixture *f = opaque;

	f->looks++;
	f->last_looks += last;
	if (!f->work)
		return false;
	f->work--;
	return true;
}

/* What a look finds is a turn like any other, and nobody sleeps over it. */
static void a_turn_begins_with_a_look(void **state)
{
	struct fixture *f = *state;

	f->loop.look = looked;
	f->work = 2;
	for (int i = 1; i <= 2; i++) {
		assert_int_equal(loop_turn(&f->loop, -1), 1);
		assert_int_equal(f->turn_ends, i);
	}
	signal_all(f);
	f->work = 1;
	/* What the look found is published before the wait, what came then after it. */
	assert_int_equal(loop_turn(&f->loop, -1), EVENTS + 1);
	assert_int_equal(f->turn_ends, 4);
	assert_int_equal(loop_turn(&f->loop, 0), 0);
	assert_int_equal(f->turn_ends, 4);
	assert_int_equal(f->looks, 4);
	/* Without polling each may be the last one before it sleeps. */
	assert_int_equal(f->last_looks, 4);
}

/* So long that everything is soon enough: having worked turns polling on, and it stays. */
static void polling_that_pays_goes_on(void **state)
{
	struct fixture *f = *state;

	f->loop.look = looked;
	f->loop.poll.ns = UINT64_MAX;
	assert_int_equal(loop_turn(&f->loop, 0), 0);
	assert_int_equal(f->last_looks, 1);
	signal_all(f);
	assert_int_equal(loop_turn(&f->loop, -1), EVENTS);
	assert_true(f->loop.poll.worthwhile);
	/* It does not sleep, and nobody was told to wake it up. */
	f->last_looks = 0;
	for (int i = 0; i < 10; i++)
		assert_int_equal(loop_turn(&f->loop, -1), 0);
	assert_int_equal(f->last_looks, 0);
	assert_true(f->loop.poll.worthwhile);
	/* Events are served all the same. */
	signal_all(f);
	assert_int_equal(loop_turn(&f->loop, -1), EVENTS);
	f->work = 1;
	assert_int_equal(loop_turn(&f->loop, -1), 1);
}

/* So short that nothing is soon enough: one look in vain ends it, and an event does not bring it back. */
static void polling_in_vain_ends(void **state)
{
	struct fixture *f = *state;

	f->loop.look = looked;
	f->loop.poll = (struct loop_poll){ .ns = 1, .worthwhile = true };
	f->work = 1;
	assert_int_equal(loop_turn(&f->loop, -1), 1);
	assert_true(f->loop.poll.worthwhile);
	assert_int_equal(loop_turn(&f->loop, -1), 0);
	assert_false(f->loop.poll.worthwhile);
	assert_int_equal(f->last_looks, 0);
	for (int i = 1; i <= 3; i++) {
		signal_all(f);
		assert_int_equal(loop_turn(&f->loop, -1), EVENTS);
		assert_false(f->loop.poll.worthwhile);
		assert_int_equal(f->last_looks, i);
	}
}

static void run_ends_with_stop_and_can_run_again(void **state)
{
	struct fixture *f = *state;

	f->stop = true;
	for (int i = 0; i < 2; i++) {
		signal_all(f);
		assert_int_equal(loop_run(&f->loop), 0);
	}
	assert_int_equal(fired(f), 2 * EVENTS);
}

static void alarmed(int signal)
{
	(void)signal;
}

static void a_signal_is_no_error(void **state)
{
	struct fixture *f = *state;
	struct sigaction action = { .sa_handler = alarmed };
	/* It repeats, should the first come before the wait. */
	struct itimerval soon = { .it_value.tv_usec = 1000, .it_interval.tv_usec = 1000 };
	struct itimerval never = { 0 };

	assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
	assert_int_equal(setitimer(ITIMER_REAL, &soon, NULL), 0);
	assert_int_equal(loop_turn(&f->loop, -1), 0);
	assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
}

static void a_regular_file_is_refused(void **state)
{
	struct fixture *f = *state;
	char path[] = "/tmp/microvm-loop-XXXXXX";
	struct event event = { .fd = mkstemp(path) };

	assert_true(event.fd >= 0);
	assert_int_equal(loop_add(&f->loop, &event, EPOLLIN), -EPERM);
	close(event.fd);
	unlink(path);
}

struct ticker {
	struct timer timer;
	int ticks;
};

static void ticked(struct timer *timer)
{
	container_of(timer, struct ticker, timer)->ticks++;
}

static void a_timer_fires_once(void **state)
{
	struct fixture *f = *state;
	struct ticker ticker = { 0 };

	assert_int_equal(timer_init(&ticker.timer, &f->loop, ticked), 0);
	assert_int_equal(timer_set(&ticker.timer, 1), 0);
	assert_int_equal(loop_turn(&f->loop, -1), 1);
	assert_int_equal(ticker.ticks, 1);
	assert_int_equal(loop_turn(&f->loop, 0), 0);

	/* Set for late, then for soon; then for soon, and disarmed. */
	assert_int_equal(timer_set(&ticker.timer, UINT64_MAX / 2), 0);
	assert_int_equal(loop_turn(&f->loop, 0), 0);
	assert_int_equal(timer_set(&ticker.timer, 1), 0);
	assert_int_equal(loop_turn(&f->loop, -1), 1);
	assert_int_equal(timer_set(&ticker.timer, 1), 0);
	assert_int_equal(timer_set(&ticker.timer, 0), 0);
	assert_int_equal(loop_turn(&f->loop, 0), 0);
	assert_int_equal(ticker.ticks, 2);
	timer_free(&ticker.timer);
	timer_free(&ticker.timer);
}

static void a_freed_timer_is_silent_though_its_fd_lives_on(void **state)
{
	struct fixture *f = *state;
	struct ticker ticker = { 0 };
	int other;

	assert_int_equal(timer_init(&ticker.timer, &f->loop, ticked), 0);
	/* As in the fd table of a worker. */
	other = dup(ticker.timer.event.fd);
	assert_true(other >= 0);
	assert_int_equal(timer_set(&ticker.timer, 1), 0);
	timer_free(&ticker.timer);
	assert_int_equal(loop_turn(&f->loop, 10), 0);
	assert_int_equal(ticker.ticks, 0);
	close(other);
}

static void a_zeroed_loop_is_freed(void **state)
{
	struct loop loop = { 0 };

	(void)state;
	loop_free(&loop);
	loop_free(&loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		TEST(a_turn_serves_all_that_is_ready),
		TEST(a_deleted_event_does_not_fire_in_this_turn),
		TEST(add_mod_del),
		TEST(an_edge_needs_no_read),
		TEST(a_turn_begins_with_a_look),
		TEST(polling_that_pays_goes_on),
		TEST(polling_in_vain_ends),
		TEST(run_ends_with_stop_and_can_run_again),
		TEST(a_signal_is_no_error),
		TEST(a_regular_file_is_refused),
		TEST(a_timer_fires_once),
		TEST(a_freed_timer_is_silent_though_its_fd_lives_on),
		cmocka_unit_test(a_zeroed_loop_is_freed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
