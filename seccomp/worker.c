// SPDX-License-Identifier: Apache-2.0
/*
 * Jobs wait in a list under lock and are announced by an eventfd in the
 * worker's loop; whoever waits for one sleeps on done until it is no longer
 * pending. send_lock guards running: a job never meets a thread that is being
 * started or stopped.
 *
 * What a job leaves to publish is published (turn_end) before it is over: a
 * caller that stopped a device may save the guest's memory next.
 *
 * The thread's fds: the table that all threads share is copied without what
 * is above the highest fd that is kept, then the gaps between kept ones are
 * closed. All kept fds are open by then, so an fd that main opens later never
 * reaches a worker unless it is given through the gate, a pair of sockets. A
 * table therefore is a part of main's, number by number, as long as main takes
 * back what it gave before it closes it.
 *
 * Threads that share a table are made by its owner, after it has got one of its
 * own and before its filter refuses to make any. They inherit its Landlock rules.
 */
#include "seccomp/worker.h"

#include <assert.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include "core/usock.h"
#include "core/util.h"

/* Filters are compiled on it, which is the deepest that it gets. Only touched pages count. */
#define WORKER_STACK KIB(128)

static int worker_run(struct worker *worker, const struct worker_job *job)
{
	int result = job->fn(job->arg);

	if (worker->loop.turn_end)
		worker->loop.turn_end(worker->loop.opaque);
	return result;
}

/* All that were sent so far: what is sent meanwhile has its own turn, behind events that came before it. */
static struct worker_job *worker_take(struct worker *worker)
{
	struct worker_job *first;

	pthread_mutex_lock(&worker->lock);
	first = worker->first;
	worker->first = NULL;
	pthread_mutex_unlock(&worker->lock);
	return first;
}

static void worker_serve(struct event *event, uint32_t revents)
{
	struct worker *worker = container_of(event, struct worker, job_event);
	struct worker_job *next;
	int result;

	(void)revents;
	for (struct worker_job *job = worker_take(worker); job; job = next) {
		next = job->next;
		result = worker_run(worker, job);
		/* From here on it is its owner's again. */
		pthread_mutex_lock(&worker->lock);
		job->result = result;
		job->pending = false;
		pthread_mutex_unlock(&worker->lock);
		pthread_cond_broadcast(&worker->done);
	}
}

/* Waits are by the monotonic clock. */
static void worker_init_done(pthread_cond_t *done)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(done, &attr);
	pthread_condattr_destroy(&attr);
}

int worker_init(struct worker *worker, const char *name, const struct sandbox *sandbox,
		bool confine)
{
	_cleanup_close_ int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int rc;

	if (fd < 0)
		return -errno;
	*worker = (struct worker){ .sandbox = sandbox, .confine = confine, .landlock_fd = -1,
				   .dir.fd = -1, .cwd = -1, .gate = { -1, -1 } };
	rc = loop_init(&worker->loop);
	if (rc < 0)
		return rc;

	snprintf(worker->name, sizeof(worker->name), "%s", name);
	pthread_mutex_init(&worker->send_lock, NULL);
	pthread_mutex_init(&worker->lock, NULL);
	worker_init_done(&worker->done);
	worker->job_event = (struct event){ .fd = util_steal_fd(&fd), .fn = worker_serve };
	worker_keep_fd(worker, STDERR_FILENO);
	worker_keep_fd(worker, worker->loop.epfd);
	rc = worker_watch(worker, &worker->job_event, EPOLLIN | EPOLLET);
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

int worker_keep_fds(struct worker *worker, const int *fds, size_t count)
{
	int rc = 0;

	for (size_t i = 0; i < count && rc == 0; i++)
		rc = worker_keep_fd(worker, fds[i]);
	return rc;
}

int worker_open_gate(struct worker *worker)
{
	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, worker->gate) < 0)
		return -errno;
	return worker_keep_fd(worker, worker->gate[1]);
}

int worker_timer(struct worker *worker, struct timer *timer, void (*fn)(struct timer *timer))
{
	int rc = timer_init(timer, &worker->loop, fn);

	return rc < 0 ? rc : worker_keep_fd(worker, timer->event.fd);
}

int worker_watch(struct worker *worker, struct event *event, uint32_t events)
{
	int rc = worker_keep_fd(worker, event->fd);

	return rc < 0 ? rc : loop_add(&worker->loop, event, events);
}

void worker_help(struct worker *worker, struct worker *helper)
{
	assert(!worker->launched && !worker->running);
	helper->helps = true;
	helper->helper = worker->helper;
	worker->helper = helper;
}

void worker_share(struct worker *worker, struct worker *helper)
{
	helper->shares = true;
	worker_help(worker, helper);
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

static int worker_forbid_files(const struct worker *worker)
{
	_cleanup_close_ int fd = -1;
	int abi, rc;

	if (worker->dir.fd < 0)
		return landlock_enter(worker->landlock_fd);
	rc = landlock_rules(&worker->dir, 1, &abi, &fd);
	return rc < 0 ? rc : landlock_enter(fd);
}

/* Its directory is apart from the other threads', who cannot follow names there. */
static int worker_enter_cwd(const struct worker *worker)
{
	if (worker->cwd < 0)
		return 0;
	return unshare(CLONE_FS) < 0 || fchdir(worker->cwd) < 0 ? -errno : 0;
}

/* To what it names, of what it has from who started it. */
static int worker_narrow_capabilities(const struct worker *worker)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &header, data) < 0)
		return -errno;
	for (size_t i = 0; i < ARRAY_SIZE(data); i++) {
		data[i].permitted &= (uint32_t)(worker->capabilities >> 32 * i);
		data[i].effective &= data[i].permitted;
		data[i].inheritable = 0;
	}
	return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

static int worker_launch_helpers(struct worker *worker, bool shares);

/* All but the filter. */
static int worker_narrow(const struct worker *worker)
{
	int rc = 0;

	if (!worker->confine)
		return 0;
	if (!worker->shares)
		rc = worker_forbid_files(worker) ?: worker_narrow_fds(worker);
	return rc < 0 ? rc : worker_narrow_capabilities(worker);
}

static void *worker_main(void *opaque)
{
	struct worker *worker = opaque;
	int rc;

	filter_name_thread(worker->name);
	rc = worker_enter_cwd(worker);
	if (rc == 0)
		rc = worker_narrow(worker);
	if (rc == 0 && !worker->helps)
		rc = worker_launch_helpers(worker, true);
	if (rc == 0 && worker->confine)
		rc = filter_enter(worker->sandbox);

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
	rc = pthread_attr_setstacksize(&attr, worker->stack ?: WORKER_STACK);
	if (rc == 0)
		rc = pthread_attr_setsigmask_np(&attr, &blocked);
	if (rc == 0)
		rc = pthread_create(&worker->thread, &attr, worker_main, worker);
	pthread_attr_destroy(&attr);
	return -rc;
}

static int worker_launch_one(struct worker *worker)
{
	int rc;

	qsort(worker->keep, worker->keep_count, sizeof(worker->keep[0]), worker_compare_fds);
	worker->started = false;

	pthread_mutex_lock(&worker->send_lock);
	rc = worker_create_thread(worker);
	worker->launched = rc == 0;
	pthread_mutex_unlock(&worker->send_lock);
	return rc;
}

/* Those that share its fds, or the others. */
static int worker_launch_helpers(struct worker *worker, bool shares)
{
	int rc = 0;

	for (struct worker *helper = worker->helper; helper && rc == 0; helper = helper->helper)
		if (helper->shares == shares)
			rc = worker_launch_one(helper);
	return rc;
}

int worker_launch(struct worker *worker)
{
	int rc;

	for (struct worker *helper = worker->helper; helper; helper = helper->helper)
		helper->landlock_fd = worker->landlock_fd;
	rc = worker_launch_one(worker);
	return rc < 0 ? rc : worker_launch_helpers(worker, false);
}

/* With send_lock held. */
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

static int worker_ready_one(struct worker *worker)
{
	int rc = 0;

	pthread_mutex_lock(&worker->send_lock);
	if (worker->launched)
		rc = worker_await(worker);
	pthread_mutex_unlock(&worker->send_lock);
	return rc;
}

int worker_ready(struct worker *worker)
{
	int rc = 0;

	for (; worker && rc == 0; worker = worker->helper)
		rc = worker_ready_one(worker);
	return rc;
}

int worker_start(struct worker *worker)
{
	int rc = worker_launch(worker);

	return rc < 0 ? rc : worker_ready(worker);
}

/* With send_lock held, to a thread that runs. */
static void worker_post(struct worker *worker, struct worker_job *job)
{
	int rc;

	pthread_mutex_lock(&worker->lock);
	job->next = NULL;
	job->pending = true;
	if (worker->first)
		worker->last->next = job;
	else
		worker->first = job;
	worker->last = job;
	pthread_mutex_unlock(&worker->lock);

	/* A caller with its own fd table must have kept the eventfd, or the job would wait for ever. */
	rc = eventfd_write(worker->job_event.fd, 1);
	assert(rc == 0);
	(void)rc;
}

void worker_send(struct worker *worker, struct worker_job *job)
{
	pthread_mutex_lock(&worker->send_lock);
	if (worker->running)
		worker_post(worker, job);
	else
		job->result = worker_run(worker, job);
	pthread_mutex_unlock(&worker->send_lock);
}

bool worker_wait(struct worker *worker, const struct worker_job *job, int timeout_ms)
{
	uint64_t end = util_now_ns() + (uint64_t)timeout_ms * NS_PER_MS;
	struct timespec when = { (time_t)(end / NS_PER_SEC), (long)(end % NS_PER_SEC) };
	int rc = timeout_ms ? 0 : ETIMEDOUT;
	bool over;

	pthread_mutex_lock(&worker->lock);
	while (job->pending && rc == 0)
		rc = timeout_ms < 0 ? pthread_cond_wait(&worker->done, &worker->lock) :
				      pthread_cond_timedwait(&worker->done, &worker->lock, &when);
	over = !job->pending;
	pthread_mutex_unlock(&worker->lock);
	return over;
}

int worker_call(struct worker *worker, int (*fn)(void *arg), void *arg)
{
	struct worker_job job = { .fn = fn, .arg = arg };

	worker_send(worker, &job);
	worker_wait(worker, &job, -1);
	return job.result;
}

struct worker_fd {
	struct worker *worker;
	int fd; /* its number in both tables */
};

static int worker_receive_fd(void *arg)
{
	const struct worker_fd *wanted = arg;
	_cleanup_close_ int fd = -1;
	int rc = usock_receive_fd(wanted->worker->gate[1], &fd), moved;

	if (rc < 0)
		return rc;
	if (fd == wanted->fd) {
		util_steal_fd(&fd);
		return 0;
	}
	moved = fcntl(fd, F_DUPFD_CLOEXEC, wanted->fd);
	assert(moved < 0 || moved == wanted->fd);
	return moved < 0 ? -errno : 0;
}

static int worker_close_fd(void *arg)
{
	const struct worker_fd *unwanted = arg;

	return close(unwanted->fd);
}

static void worker_keep_no_more(struct worker *worker, int fd)
{
	size_t kept = 0;

	for (size_t i = 0; i < worker->keep_count; i++)
		if (worker->keep[i] != fd)
			worker->keep[kept++] = worker->keep[i];
	worker->keep_count = kept;
}

int worker_give_fd(struct worker *worker, int fd)
{
	/* For the next start as well. */
	int rc = worker_keep_fd(worker, fd);

	/* One that is not confined has all of the process. */
	if (rc < 0 || !worker->running || !worker->confine)
		return rc;
	rc = usock_send_fd(worker->gate[0], fd);
	if (rc == 0)
		rc = worker_call(worker, worker_receive_fd, &(struct worker_fd){ worker, fd });
	if (rc < 0)
		worker_keep_no_more(worker, fd);
	return rc;
}

void worker_take_fd(struct worker *worker, int fd)
{
	if (worker->running && worker->confine)
		worker_call(worker, worker_close_fd, &(struct worker_fd){ worker, fd });
	worker_keep_no_more(worker, fd);
}

static int worker_quit(void *opaque)
{
	struct worker *worker = opaque;

	loop_stop(&worker->loop);
	return 0;
}

static void worker_stop_one(struct worker *worker)
{
	struct worker_job quit = { .fn = worker_quit, .arg = worker };

	if (!worker->job_event.fn)
		return;
	pthread_mutex_lock(&worker->send_lock);
	if (worker->launched)
		worker_await(worker);
	if (worker->running) {
		worker_post(worker, &quit);
		pthread_join(worker->thread, NULL);
		worker->running = false;
	}
	pthread_mutex_unlock(&worker->send_lock);
}

void worker_stop(struct worker *worker)
{
	for (; worker; worker = worker->helper)
		worker_stop_one(worker);
}

void worker_free(struct worker *worker)
{
	/* A zeroed object has nothing, and fd 0 is not its own. */
	if (!worker->job_event.fn)
		return;
	loop_free(&worker->loop);
	util_closep(&worker->job_event.fd);
	util_closep(&worker->gate[0]);
	util_closep(&worker->gate[1]);
	pthread_cond_destroy(&worker->done);
	pthread_mutex_destroy(&worker->lock);
	pthread_mutex_destroy(&worker->send_lock);
	worker->job_event.fn = NULL;
}
