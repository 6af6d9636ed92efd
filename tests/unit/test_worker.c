// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include "seccomp/worker.h"
#include "tests/lib/child.h"

#define VIOLATION 103

static const struct sandbox probing = SANDBOX(SC_ARG(fcntl, 1, F_GETFD), SC(prctl));

/* A worker with an eventfd that it keeps and one that it does not. */
struct fixture {
	struct worker worker;
	struct event event;
	int stranger;
	int fired;
	int turn_ends;
};

static void kicked(struct event *event, uint32_t revents)
{
	struct fixture *f = container_of(event, struct fixture, event);

	(void)revents;
	f->fired++;
}

static void turn_ended(void *opaque)
{
	((struct fixture *)opaque)->turn_ends++;
}

static void fixture_init(struct fixture *f, const struct sandbox *sandbox, bool confine)
{
	if (confine)
		child_needs_filters();
	*f = (struct fixture){
		.event = { .fd = eventfd(0, EFD_NONBLOCK), .fn = kicked },
		.stranger = eventfd(0, EFD_NONBLOCK),
	};
	CHILD_CHECK(worker_init(&f->worker, "blk0", sandbox, confine) == 0);
	f->worker.loop.turn_end = turn_ended;
	f->worker.loop.opaque = f;
	CHILD_CHECK(worker_watch(&f->worker, &f->event, EPOLLIN | EPOLLET) == 0);
}

static void fixture_free(struct fixture *f)
{
	worker_stop(&f->worker);
	worker_free(&f->worker);
	close(f->event.fd);
	close(f->stranger);
}

static int thread_id(void *arg)
{
	*(pthread_t *)arg = pthread_self();
	return 42;
}

static int calls(void *arg)
{
	struct fixture f;
	pthread_t where;

	(void)arg;
	fixture_init(&f, NULL, true);

	CHILD_CHECK(worker_call(&f.worker, thread_id, &where) == 42);
	CHILD_CHECK(pthread_equal(where, pthread_self()));
	CHILD_CHECK(f.turn_ends == 1);

	/* It may be started again. */
	for (int i = 0; i < 2; i++) {
		CHILD_CHECK(worker_start(&f.worker) == 0);
		CHILD_CHECK(worker_call(&f.worker, thread_id, &where) == 42);
		CHILD_CHECK(!pthread_equal(where, pthread_self()));
		worker_stop(&f.worker);
	}

	worker_stop(&f.worker);
	CHILD_CHECK(worker_call(&f.worker, thread_id, &where) == 42);
	CHILD_CHECK(pthread_equal(where, pthread_self()));
	fixture_free(&f);
	return 0;
}

static void a_call_runs_on_the_thread_or_inline(void **state)
{
	(void)state;
	child_succeeds(geteuid(), calls, NULL);
	child_succeeds(CHILD_NOBODY, calls, NULL);
}

static int seen(void *arg)
{
	const struct fixture *f = arg;

	return f->fired;
}

static int events(void *arg)
{
	struct fixture f;

	(void)arg;
	fixture_init(&f, NULL, true);
	CHILD_CHECK(worker_start(&f.worker) == 0);
	for (int i = 1; i <= 3; i++) {
		CHILD_CHECK(eventfd_write(f.event.fd, 1) == 0);
		while (worker_call(&f.worker, seen, &f) < i)
			;
	}
	worker_stop(&f.worker);
	CHILD_CHECK(f.fired == 3);
	fixture_free(&f);
	return 0;
}

/* A helper is a thread of its own, which starts and ends with the worker that it helps. */
static int helper(void *arg)
{
	struct fixture f, helping[2];

	(void)arg;
	fixture_init(&f, NULL, true);
	for (int i = 0; i < 2; i++) {
		fixture_init(&helping[i], NULL, true);
		worker_help(&f.worker, &helping[i].worker);
	}
	CHILD_CHECK(worker_start(&f.worker) == 0);
	for (int i = 0; i < 2; i++) {
		CHILD_CHECK(helping[i].worker.running);
		CHILD_CHECK(eventfd_write(helping[i].event.fd, 1) == 0);
		while (worker_call(&helping[i].worker, seen, &helping[i]) < 1)
			;
		CHILD_CHECK(!pthread_equal(helping[i].worker.thread, f.worker.thread));
	}
	worker_stop(&f.worker);
	for (int i = 0; i < 2; i++) {
		CHILD_CHECK(!helping[i].worker.running);
		fixture_free(&helping[i]);
	}
	fixture_free(&f);
	return 0;
}

static int open_another(void *arg)
{
	return dup(*(int *)arg);
}

static int has_fd(void *arg)
{
	return fcntl(*(int *)arg, F_GETFD) < 0 ? -errno : 0;
}

static uint64_t effective_capabilities(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };

	CHILD_CHECK(syscall(SYS_capget, &header, data) == 0);
	return (uint64_t)data[1].effective << 32 | data[0].effective;
}

static int ask_capabilities(void *arg)
{
	*(uint64_t *)arg = effective_capabilities();
	return 0;
}

static const struct sandbox opening = SANDBOX(SC(dup), SC_ARG(fcntl, 1, F_GETFD), SC(capget));
static const struct sandbox looking = SANDBOX(SC_ARG(fcntl, 1, F_GETFD), SC(capget));

/* What the worker opens while it runs is open for one that shares its fds, and for nobody else. */
static int sharer(void *arg)
{
	const uint64_t wanted = 1ULL << CAP_FSETID, have = effective_capabilities();
	struct fixture f, sharing, apart;
	uint64_t capabilities;
	int fd;

	(void)arg;
	fixture_init(&f, &opening, true);
	f.worker.capabilities = wanted | 1ULL << CAP_CHOWN;
	fixture_init(&sharing, &looking, true);
	fixture_init(&apart, &looking, true);
	sharing.worker.capabilities = wanted;
	CHILD_CHECK(worker_keep_fds(&f.worker, sharing.worker.keep, sharing.worker.keep_count) == 0);
	worker_share(&f.worker, &sharing.worker);
	worker_help(&f.worker, &apart.worker);
	/* It may be started again. */
	for (int i = 0; i < 2; i++) {
		CHILD_CHECK(worker_start(&f.worker) == 0);
		fd = worker_call(&f.worker, open_another, &f.event.fd);
		CHILD_CHECK(fd >= 0);
		CHILD_CHECK(worker_call(&f.worker, has_fd, &fd) == 0);
		CHILD_CHECK(worker_call(&sharing.worker, has_fd, &fd) == 0);
		CHILD_CHECK(worker_call(&sharing.worker, has_fd, &f.stranger) == -EBADF);
		CHILD_CHECK(worker_call(&apart.worker, has_fd, &f.event.fd) == -EBADF);
		worker_call(&f.worker, ask_capabilities, &capabilities);
		CHILD_CHECK(capabilities == (have & f.worker.capabilities));
		worker_call(&sharing.worker, ask_capabilities, &capabilities);
		CHILD_CHECK(capabilities == (have & wanted));
		worker_call(&apart.worker, ask_capabilities, &capabilities);
		CHILD_CHECK(!capabilities);
		worker_stop(&f.worker);
		CHILD_CHECK(!sharing.worker.running);
	}
	fixture_free(&f);
	fixture_free(&sharing);
	fixture_free(&apart);
	return 0;
}

static void helpers_may_share_fds(void **state)
{
	(void)state;
	child_succeeds(geteuid(), sharer, NULL);
}

static void helpers_run_with_their_worker(void **state)
{
	(void)state;
	child_succeeds(geteuid(), helper, NULL);
}

static void events_fire_on_the_thread(void **state)
{
	(void)state;
	child_succeeds(geteuid(), events, NULL);
}

static int calls_and_events(void *arg)
{
	struct fixture f;

	(void)arg;
	fixture_init(&f, NULL, true);
	CHILD_CHECK(worker_start(&f.worker) == 0);
	for (int i = 1; i <= 2000; i++) {
		CHILD_CHECK(eventfd_write(f.event.fd, 1) == 0);
		/* The first may be served before the event, but then in the same turn. */
		worker_call(&f.worker, seen, &f);
		CHILD_CHECK(worker_call(&f.worker, seen, &f) == i);
	}
	fixture_free(&f);
	return 0;
}

static void calls_do_not_keep_events_waiting(void **state)
{
	(void)state;
	child_succeeds(geteuid(), calls_and_events, NULL);
}

static int turn_ends_so_far(void *arg)
{
	const struct fixture *f = arg;

	return f->turn_ends;
}

static int publishing(void *arg)
{
	struct fixture f;
	int before;

	(void)arg;
	fixture_init(&f, NULL, true);
	CHILD_CHECK(worker_start(&f.worker) == 0);
	before = worker_call(&f.worker, turn_ends_so_far, &f);
	CHILD_CHECK(worker_call(&f.worker, turn_ends_so_far, &f) > before);
	fixture_free(&f);
	return 0;
}

static void a_call_is_published_before_it_returns(void **state)
{
	(void)state;
	child_succeeds(geteuid(), publishing, NULL);
}

#define JOBS 5

/* What a thread does, one after the other, and when it may begin. */
struct script {
	struct worker_job jobs[JOBS];
	int steps[JOBS], count;
	int gate;
};

static int at_the_gate(void *arg)
{
	struct script *script = arg;
	eventfd_t opened;

	CHILD_CHECK(eventfd_read(script->gate, &opened) == 0);
	return script->steps[script->count++] = 0;
}

static int next_step(void *arg)
{
	struct script *script = arg;

	script->steps[script->count] = script->count;
	return script->count++;
}

static int sending(void *arg)
{
	struct script script = { .gate = eventfd(0, EFD_SEMAPHORE) };
	struct fixture f;

	(void)arg;
	fixture_init(&f, NULL, false);
	CHILD_CHECK(worker_start(&f.worker) == 0);
	/* They can be sent again when they are over. */
	for (int round = 0; round < 3; round++) {
		script.count = 0;
		for (int i = 0; i < JOBS; i++) {
			script.jobs[i].fn = i ? next_step : at_the_gate;
			script.jobs[i].arg = &script;
			worker_send(&f.worker, &script.jobs[i]);
		}
		for (int i = 0; i < JOBS; i++) {
			CHILD_CHECK(!worker_wait(&f.worker, &script.jobs[i], 0));
			CHILD_CHECK(!worker_wait(&f.worker, &script.jobs[i], 1));
		}
		CHILD_CHECK(eventfd_write(script.gate, 1) == 0);
		CHILD_CHECK(worker_wait(&f.worker, &script.jobs[JOBS - 1], -1));
		for (int i = 0; i < JOBS; i++) {
			/* Those before it are over as well. */
			CHILD_CHECK(worker_wait(&f.worker, &script.jobs[i], 0));
			CHILD_CHECK(script.jobs[i].result == i && script.steps[i] == i);
		}
	}
	/* What waits at the end is done before it. */
	script.count = 0;
	for (int i = 0; i < JOBS; i++)
		worker_send(&f.worker, &script.jobs[i]);
	CHILD_CHECK(eventfd_write(script.gate, 1) == 0);
	worker_stop(&f.worker);
	CHILD_CHECK(script.count == JOBS);
	CHILD_CHECK(worker_wait(&f.worker, &script.jobs[JOBS - 1], 0));

	/* Without a thread it is over at once. */
	script.count = 1;
	worker_send(&f.worker, &script.jobs[1]);
	CHILD_CHECK(script.count == 2);
	CHILD_CHECK(worker_wait(&f.worker, &script.jobs[1], 0));
	CHILD_CHECK(worker_wait(&f.worker, &script.jobs[1], -1));
	close(script.gate);
	fixture_free(&f);
	return 0;
}

static void jobs_are_done_in_the_order_in_which_they_are_sent(void **state)
{
	(void)state;
	child_succeeds(geteuid(), sending, NULL);
}

/* Unguarded on purpose: calls are one at a time, which TSan checks. */
static int count(void *arg)
{
	return ++*(int *)arg;
}

struct crowd {
	struct worker *worker;
	int counter;
};

#define CROWD 4
#define CROWD_CALLS 500

static void *call_often(void *arg)
{
	struct crowd *crowd = arg;

	for (int i = 0; i < CROWD_CALLS; i++)
		CHILD_CHECK(worker_call(crowd->worker, count, &crowd->counter) > 0);
	return NULL;
}

static int crowding(void *arg)
{
	struct fixture f;
	struct crowd crowd = { .worker = &f.worker };
	pthread_t threads[CROWD];

	(void)arg;
	fixture_init(&f, NULL, true);
	for (int i = 0; i < CROWD; i++)
		CHILD_CHECK(pthread_create(&threads[i], NULL, call_often, &crowd) == 0);
	/* In their midst. */
	CHILD_CHECK(worker_start(&f.worker) == 0);
	for (int i = 0; i < CROWD; i++)
		CHILD_CHECK(pthread_join(threads[i], NULL) == 0);
	worker_stop(&f.worker);
	CHILD_CHECK(crowd.counter == CROWD * CROWD_CALLS);
	fixture_free(&f);
	return 0;
}

static void callers_take_turns(void **state)
{
	(void)state;
	child_succeeds(geteuid(), crowding, NULL);
}

/* On the thread: fds that are there, as bits. */
static int fds_seen(void *arg)
{
	const struct fixture *f = arg;
	const int fds[] = { STDERR_FILENO, f->event.fd, f->stranger, STDIN_FILENO };
	int bits = 0;

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		bits |= (fcntl(fds[i], F_GETFD) >= 0) << i;
	return bits;
}

static int close_event(void *arg)
{
	const struct fixture *f = arg;

	return close(f->event.fd);
}

static int fd_tables(void *arg)
{
	struct fixture f;
	int late;

	(void)arg;
	CHILD_CHECK(fcntl(STDIN_FILENO, F_GETFD) >= 0 || open("/dev/null", O_RDONLY) == 0);
	fixture_init(&f, &probing, true);
	/* Kept twice, and out of order. */
	CHILD_CHECK(worker_keep_fd(&f.worker, STDERR_FILENO) == 0);
	CHILD_CHECK(worker_start(&f.worker) == 0);
	CHILD_CHECK(worker_call(&f.worker, fds_seen, &f) == 3);

	/* What main opens later is not there; what the worker closes is still open in main. */
	late = dup(f.stranger);
	close(f.stranger);
	f.stranger = late;
	CHILD_CHECK(worker_call(&f.worker, fds_seen, &f) == 3);
	CHILD_CHECK(worker_call(&f.worker, close_event, &f) == 0);
	CHILD_CHECK(worker_call(&f.worker, fds_seen, &f) == 1);
	CHILD_CHECK(fcntl(f.event.fd, F_GETFD) >= 0);
	CHILD_CHECK(fcntl(f.stranger, F_GETFD) >= 0);
	fixture_free(&f);
	return 0;
}

static void the_thread_has_its_own_fds(void **state)
{
	(void)state;
	child_succeeds(geteuid(), fd_tables, NULL);
	child_succeeds(CHILD_NOBODY, fd_tables, NULL);
}

static const struct sandbox gated =
	SANDBOX(WORKER_GATE_CALLS, SC_ARG(fcntl, 1, F_GETFD), SC(prctl));

static int giving(void *arg)
{
	struct fixture f;

	CHILD_CHECK(filter_report_violations(NULL) == 0);
	fixture_init(&f, &gated, *(bool *)arg);
	CHILD_CHECK(worker_open_gate(&f.worker) == 0);
	CHILD_CHECK(worker_start(&f.worker) == 0);
	for (int round = 0; round < 3; round++) {
		CHILD_CHECK(!f.worker.confine || worker_call(&f.worker, fds_seen, &f) == 3);
		/* Under its number, whichever was free. */
		CHILD_CHECK(worker_give_fd(&f.worker, f.stranger) == 0);
		CHILD_CHECK((worker_call(&f.worker, fds_seen, &f) & 7) == 7);
		worker_take_fd(&f.worker, f.stranger);
		CHILD_CHECK(fcntl(f.stranger, F_GETFD) >= 0);
	}
	/* It is there after another start as well, and what was taken is not. */
	worker_stop(&f.worker);
	CHILD_CHECK(worker_give_fd(&f.worker, f.stranger) == 0);
	CHILD_CHECK(worker_start(&f.worker) == 0);
	CHILD_CHECK((worker_call(&f.worker, fds_seen, &f) & 7) == 7);
	worker_stop(&f.worker);
	worker_take_fd(&f.worker, f.stranger);
	CHILD_CHECK(worker_start(&f.worker) == 0);
	CHILD_CHECK(!f.worker.confine || worker_call(&f.worker, fds_seen, &f) == 3);
	CHILD_CHECK(worker_give_fd(&f.worker, -1) == -EBADF);
	fixture_free(&f);
	return 0;
}

static void a_running_thread_is_given_fds(void **state)
{
	bool confine = true;

	(void)state;
	child_succeeds(geteuid(), giving, &confine);
	child_succeeds(CHILD_NOBODY, giving, &confine);
	confine = false;
	child_succeeds(geteuid(), giving, &confine);
}

static int receive_elsewhere(void *arg)
{
	const struct fixture *f = arg;
	struct msghdr message = { 0 };

	return (int)recvmsg(f->worker.gate[1], &message, MSG_DONTWAIT);
}

/* Without a gate there is no way in, and through it nothing but what was given. */
static int no_gate(void *arg)
{
	struct fixture f;

	(void)arg;
	CHILD_CHECK(filter_report_violations(NULL) == 0);
	fixture_init(&f, &gated, true);
	CHILD_CHECK(worker_start(&f.worker) == 0);
	CHILD_CHECK(worker_give_fd(&f.worker, f.stranger) == -EBADF);
	CHILD_CHECK(worker_call(&f.worker, fds_seen, &f) == 3);
	worker_call(&f.worker, receive_elsewhere, &f);
	return 0;
}

static void other_ways_to_receive_trip_the_filter(void **state)
{
	struct child child = child_run(geteuid(), no_gate, NULL);

	(void)state;
	child_ended(&child, VIOLATION);
	assert_non_null(strstr(child.text, "system call recvmsg"));
}

static int nothing_below_kept(void *arg)
{
	struct fixture f;

	(void)arg;
	fixture_init(&f, &probing, true);
	CHILD_CHECK(dup2(f.stranger, STDIN_FILENO) == STDIN_FILENO);
	CHILD_CHECK(worker_keep_fd(&f.worker, STDIN_FILENO) == 0);
	CHILD_CHECK(worker_keep_fd(&f.worker, STDIN_FILENO) == 0);
	CHILD_CHECK(worker_start(&f.worker) == 0);
	CHILD_CHECK(worker_call(&f.worker, fds_seen, &f) == 11);
	fixture_free(&f);
	return 0;
}

static void fd_0_can_be_kept(void **state)
{
	(void)state;
	child_succeeds(geteuid(), nothing_below_kept, NULL);
}

static int open_file(void *arg)
{
	(void)arg;
	return open("/dev/null", O_RDONLY);
}

static int trespass(void *confine)
{
	struct fixture f;
	int fd;

	CHILD_CHECK(filter_report_violations(NULL) == 0);
	fixture_init(&f, NULL, *(bool *)confine);
	CHILD_CHECK(worker_start(&f.worker) == 0);
	fd = worker_call(&f.worker, open_file, NULL);
	CHILD_CHECK(fd >= 0);
	close(fd);
	fixture_free(&f);
	return 0;
}

static void a_filter_that_trips_names_the_worker(void **state)
{
	bool confine = true;
	struct child child = child_run(geteuid(), trespass, &confine);

	(void)state;
	child_ended(&child, VIOLATION);
	assert_non_null(strstr(child.text, "thread blk0 was stopped at system call openat"));
	confine = false;
	child_succeeds(geteuid(), trespass, &confine);
}

static int signals_blocked(void *arg)
{
	sigset_t blocked;

	(void)arg;
	CHILD_CHECK(pthread_sigmask(SIG_SETMASK, NULL, &blocked) == 0);
	return sigismember(&blocked, SIGINT) && sigismember(&blocked, SIGTERM) &&
	       sigismember(&blocked, SIGCHLD) && !sigismember(&blocked, SIGSYS) &&
	       !sigismember(&blocked, SIGSEGV);
}

static int thread_name(void *arg)
{
	return prctl(PR_GET_NAME, arg);
}

static int surroundings(void *arg)
{
	struct fixture f;
	char name[16] = "";

	(void)arg;
	fixture_init(&f, &probing, true);
	CHILD_CHECK(worker_start(&f.worker) == 0);
	CHILD_CHECK(worker_call(&f.worker, signals_blocked, NULL) == 1);
	CHILD_CHECK(worker_call(&f.worker, thread_name, name) == 0);
	CHILD_CHECK(strcmp(name, "blk0") == 0);
	fixture_free(&f);
	return 0;
}

static void it_is_named_and_deaf_to_signals(void **state)
{
	(void)state;
	child_succeeds(geteuid(), surroundings, NULL);
}

/* No call has a seventh argument: the filter cannot be built. */
static const struct sandbox impossible = SANDBOX(SC_ARG(fcntl, 6, 0));

static int bad_start(void *arg)
{
	struct fixture f;
	pthread_t where;

	(void)arg;
	fixture_init(&f, &impossible, true);
	CHILD_CHECK(worker_start(&f.worker) == -EINVAL);
	CHILD_CHECK(worker_call(&f.worker, thread_id, &where) == 42);
	CHILD_CHECK(pthread_equal(where, pthread_self()));
	fixture_free(&f);
	return 0;
}

static void a_failed_start_is_told(void **state)
{
	(void)state;
	child_succeeds(geteuid(), bad_start, NULL);
}

static void kept_fds_are_checked(void **state)
{
	struct worker worker;
	int rc = 0;

	(void)state;
	assert_int_equal(worker_init(&worker, "a name that is too long for it", NULL, true), 0);
	assert_string_equal(worker.name, "a name that is ");
	assert_int_equal(worker_keep_fd(&worker, -1), -EBADF);
	for (int i = 0; i < WORKER_FDS_MAX && rc == 0; i++)
		rc = worker_keep_fd(&worker, STDERR_FILENO);
	assert_int_equal(rc, -ENOSPC);
	worker_free(&worker);
}

static void a_zeroed_worker_is_freed(void **state)
{
	struct worker worker = { 0 };

	(void)state;
	worker_stop(&worker);
	worker_free(&worker);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_call_runs_on_the_thread_or_inline),
		cmocka_unit_test(events_fire_on_the_thread),
		cmocka_unit_test(helpers_run_with_their_worker),
		cmocka_unit_test(helpers_may_share_fds),
		cmocka_unit_test(calls_do_not_keep_events_waiting),
		cmocka_unit_test(a_call_is_published_before_it_returns),
		cmocka_unit_test(jobs_are_done_in_the_order_in_which_they_are_sent),
		cmocka_unit_test(callers_take_turns),
		cmocka_unit_test(the_thread_has_its_own_fds),
		cmocka_unit_test(a_running_thread_is_given_fds),
		cmocka_unit_test(other_ways_to_receive_trip_the_filter),
		cmocka_unit_test(fd_0_can_be_kept),
		cmocka_unit_test(a_filter_that_trips_names_the_worker),
		cmocka_unit_test(it_is_named_and_deaf_to_signals),
		cmocka_unit_test(a_failed_start_is_told),
		cmocka_unit_test(kept_fds_are_checked),
		cmocka_unit_test(a_zeroed_worker_is_freed),
	};

	/* As filter_report_violations() does for the program. */
	assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
