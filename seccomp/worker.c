// SPDX-License-Identifier: Apache-2.0
/*
 * A call is posted under lock and announced by an eventfd in the worker's
 * loop; the caller sleeps on done until fn is NULL again. Callers queue up on
 * call_lock, which also guards running: a call never meets a thread that is
 * being started or stopped.
 *
 * What a call leaves to publish is published (turn_end) before its caller goes
 * on: a caller that stopped a device may save the guest's memory next.
 *
 * The thread's fds: the table that all threads share is copied without what
 * is above the highest fd that is kept, then the gaps between kept ones are
 * closed. All kept fds are open by then, so an fd that main opens later never
 * reaches a worker.
 */
#include "seccomp/worker.h"

#include <assert.h>
#include <limits.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include "core/util.h"
#include "seccomp/landlock.h"

/* Filters are compiled on it, which is the deepest that it gets. Only touched pages count. */
#define WORKER_STACK KIB(128)

static int worker_run(struct worker *worker, int (*fn)(void *arg), void *arg)
{
	int result = fn(arg);

	if (worker->loop.turn_end)
		worker->loop.turn_end(worker->loop.turn_opaque);
	return result;
}

static void worker_called(struct event *event, uint32_t revents)
{
	struct worker *worker = container_of(event, struct worker, call_event);
	int (*fn)(void *arg);
	int result;

	(void)revents;
	pthread_mutex_lock(&worker->lock);
	fn = worker->fn;
	pthread_mutex_unlock(&worker->lock);
	if (!fn)
		return;

	/* arg belongs to the worker until fn is NULL. */
	result = worker_run(worker, fn, worker->arg);

	pthread_mutex_lock(&worker->lock);
	worker->result = result;
	worker->fn = NULL;
	pthread_mutex_unlock(&worker->lock);
	pthread_cond_signal(&worker->done);
}

int worker_init(struct worker *worker, const char *name, const struct sandbox *sandbox,
		bool confine)
{
	_cleanup_close_ int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int rc;

	if (fd < 0)
		return -errno;
	*worker = (struct worker){ .sandbox = sandbox, .confine = confine, .landlock_fd = -1 };
	rc = loop_init(&worker->loop);
	if (rc < 0)
		return rc;

	snprintf(worker->name, sizeof(worker->name), "%s", name);
	pthread_mutex_init(&worker->call_lock, NULL);
	pthread_mutex_init(&worker->lock, NULL);
	pthread_cond_init(&worker->done, NULL);
	worker->call_event = (struct event){ .fd = util_steal_fd(&fd), .fn = worker_called };
	worker_keep_fd(worker, STDERR_FILENO);
	worker_keep_fd(worker, worker->loop.epfd);
	rc = worker_watch(worker, &worker->call_event, EPOLLIN | EPOLLET);
	if (rc < 0)
		worker_free(worker);
	return rc;
}

int worker_keep_fd(struct worker *worker, int fd)
{
	if (fd < 0)
		return -EBADF;
	if (worker->keep_count == WORKER_FDS_MAX)
		return -ENOSPC;
	worker->keep[worker->keep_count++] = fd;
	return 0;
}

int worker_watch(struct worker *worker, struct event *event, uint32_t events)
{
	int rc = worker_keep_fd(worker, event->fd);

	return rc < 0 ? rc : loop_add(&worker->loop, event, events);
}

static int worker_compare_fds(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* keep is sorted; an fd may be in it twice. */
static int worker_narrow_fds(const struct worker *worker)
{
	int last = INT_MAX;

	for (size_t i = worker->keep_count; i-- > 0; last = worker->keep[i] - 1)
		if (worker->keep[i] < last &&
		    close_range((unsigned int)worker->keep[i] + 1, (unsigned int)last,
				CLOSE_RANGE_UNSHARE) < 0)
			return -errno;
	if (last >= 0 && close_range(0, (unsigned int)last, CLOSE_RANGE_UNSHARE) < 0)
		return -errno;
	return 0;
}

static int worker_confine(const struct worker *worker)
{
	int rc = landlock_enter(worker->landlock_fd);

	if (rc == 0)
		rc = worker_narrow_fds(worker);
	return rc < 0 ? rc : filter_enter(worker->sandbox);
}

static void *worker_main(void *opaque)
{
	struct worker *worker = opaque;
	int rc = 0;

	filter_name_thread(worker->name);
	if (worker->confine)
		rc = worker_confine(worker);

	pthread_mutex_lock(&worker->lock);
	worker->start_result = rc;
	worker->started = true;
	pthread_mutex_unlock(&worker->lock);
	pthread_cond_signal(&worker->done);

	if (rc == 0)
		loop_run(&worker->loop);
	return NULL;
}

static int worker_create_thread(struct worker *worker)
{
	/* A fault, and a filter that trips, end the process; other signals are main's. */
	static const int synchronous[] = { SIGSYS, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };
	pthread_attr_t attr;
	sigset_t blocked;
	int rc;

	sigfillset(&blocked);
	for (size_t i = 0; i < ARRAY_SIZE(synchronous); i++)
		sigdelset(&blocked, synchronous[i]);

	rc = pthread_attr_init(&attr);
	if (rc != 0)
		return -rc;
	rc = pthread_attr_setstacksize(&attr, WORKER_STACK);
	if (rc == 0)
		rc = pthread_attr_setsigmask_np(&attr, &blocked);
	if (rc == 0)
		rc = pthread_create(&worker->thread, &attr, worker_main, worker);
	pthread_attr_destroy(&attr);
	return -rc;
}

int worker_launch(struct worker *worker)
{
	int rc;

	qsort(worker->keep, worker->keep_count, sizeof(worker->keep[0]), worker_compare_fds);
	worker->started = false;

	pthread_mutex_lock(&worker->call_lock);
	rc = worker_create_thread(worker);
	worker->launched = rc == 0;
	pthread_mutex_unlock(&worker->call_lock);
	return rc;
}

/* With call_lock held. */
static int worker_await(struct worker *worker)
{
	int rc;

	pthread_mutex_lock(&worker->lock);
	while (!worker->started)
		pthread_cond_wait(&worker->done, &worker->lock);
	rc = worker->start_result;
	pthread_mutex_unlock(&worker->lock);
	if (rc < 0)
		pthread_join(worker->thread, NULL);
	worker->launched = false;
	worker->running = rc == 0;
	return rc;
}

int worker_ready(struct worker *worker)
{
	int rc = 0;

	pthread_mutex_lock(&worker->call_lock);
	if (worker->launched)
		rc = worker_await(worker);
	pthread_mutex_unlock(&worker->call_lock);
	return rc;
}

int worker_start(struct worker *worker)
{
	int rc = worker_launch(worker);

	return rc < 0 ? rc : worker_ready(worker);
}

/* With call_lock held, to a thread that runs. */
static int worker_post(struct worker *worker, int (*fn)(void *arg), void *arg)
{
	int result, rc;

	pthread_mutex_lock(&worker->lock);
	worker->fn = fn;
	worker->arg = arg;
	pthread_mutex_unlock(&worker->lock);

	/* A caller with its own fd table must have kept the eventfd, or it would wait for ever. */
	rc = eventfd_write(worker->call_event.fd, 1);
	assert(rc == 0);
	(void)rc;

	pthread_mutex_lock(&worker->lock);
	while (worker->fn)
		pthread_cond_wait(&worker->done, &worker->lock);
	result = worker->result;
	pthread_mutex_unlock(&worker->lock);
	return result;
}

int worker_call(struct worker *worker, int (*fn)(void *arg), void *arg)
{
	int result;

	pthread_mutex_lock(&worker->call_lock);
	result = worker->running ? worker_post(worker, fn, arg) : worker_run(worker, fn, arg);
	pthread_mutex_unlock(&worker->call_lock);
	return result;
}

static int worker_quit(void *opaque)
{
	struct worker *worker = opaque;

	loop_stop(&worker->loop);
	return 0;
}

void worker_stop(struct worker *worker)
{
	if (!worker->call_event.fn)
		return;
	pthread_mutex_lock(&worker->call_lock);
	if (worker->launched)
		worker_await(worker);
	if (worker->running) {
		worker_post(worker, worker_quit, worker);
		pthread_join(worker->thread, NULL);
		worker->running = false;
	}
	pthread_mutex_unlock(&worker->call_lock);
}

void worker_free(struct worker *worker)
{
	/* A zeroed object has nothing, and fd 0 is not its own. */
	if (!worker->call_event.fn)
		return;
	loop_free(&worker->loop);
	util_closep(&worker->call_event.fd);
	pthread_cond_destroy(&worker->done);
	pthread_mutex_destroy(&worker->lock);
	pthread_mutex_destroy(&worker->call_lock);
	worker->call_event.fn = NULL;
}
