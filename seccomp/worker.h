/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A confined thread with a loop: everything that a device does after start-up
 * happens on its worker. worker_call() runs a function there and waits, so
 * devices hold no locks. Workers never call workers.
 *
 * Life: worker_init() -> events are added to worker.loop and their fds named
 * by worker_keep_fd() -> worker_start() -> calls -> worker_stop() ->
 * worker_free(). Before the start and after the stop jobs run inline, in the
 * thread that sends them, which makes tests deterministic.
 */
#ifndef SECCOMP_WORKER_H
#define SECCOMP_WORKER_H

#include <pthread.h>
#include <fcntl.h>
#include <stdbool.h>
#include "core/loop.h"
#include "core/usock.h"
#include "seccomp/filter.h"
#include "seccomp/landlock.h"

/* A controller has hundreds of disks, each with a ring. */
#define WORKER_FDS_MAX 1200

/* Something to do on a worker. Embedded in its owner, who leaves it alone until it is over. */
struct worker_job {
	int (*fn)(void *arg);
	void *arg;
	int result;
	bool pending;
	struct worker_job *next;
};

struct worker {
	char name[16];
	const struct sandbox *sandbox; /* NULL: the base set alone */
	bool confine; /* false with --no-sandbox */
	size_t stack; /* in bytes; 0: what our own code needs */
	int landlock_fd; /* its owner's rules for the thread, until it is started; -1: none */
	struct landlock_dir dir; /* where it opens files, and so has rules of its own; fd -1: nowhere */
	uint64_t capabilities; /* bits by CAP_...: it is to be started while the process has them */
	/*
	 * The thread's own working directory, for the names of sockets to connect to; -1: the
	 * process's. Its owner's until the worker is stopped.
	 */
	int cwd;
	struct loop loop;
	bool launched; /* and nobody has waited for it yet */
	bool running;
	pthread_t thread;
	struct worker *helper; /* the first of those that it has; of a helper, the next one */
	bool helps;            /* it is one */
	bool shares;           /* and has all of its worker's fds */
	int keep[WORKER_FDS_MAX];
	size_t keep_count;
	int gate[2]; /* where fds come in while the thread runs: the caller's end, and its own; -1: nowhere */
	pthread_mutex_t send_lock; /* held while it is started and stopped, and where jobs run inline */
	pthread_mutex_t lock;      /* guards what follows, and the jobs' results */
	pthread_cond_t done;
	struct event job_event;
	struct worker_job *first, *last; /* in the order in which they were sent */
	int start_result;
	bool started;
};

/* name is copied, sandbox is not. -errno. */
int worker_init(struct worker *worker, const char *name, const struct sandbox *sandbox,
		bool confine);

/* An fd that the thread needs; all others are closed in its own fd table. -ENOSPC, -EBADF for a negative one. */
int worker_keep_fd(struct worker *worker, int fd);
int worker_keep_fds(struct worker *worker, const int *fds, size_t count);

/*
 * For a thread that is to be given fds while it runs: its class's sandbox has
 * WORKER_GATE_CALLS. Before the start. -errno.
 */
int worker_open_gate(struct worker *worker);
/* There is one socket among the thread's fds, and these are the only flags to receive by. */
#define WORKER_GATE_CALLS \
	SC_ARG(recvmsg, 2, USOCK_RECEIVE_FLAGS), \
	SC_ARG(fcntl, 1, F_DUPFD_CLOEXEC)

/* And for the sandbox of the thread that gives them. */
#define WORKER_GIVE_CALLS SC_ARG(sendmsg, 2, USOCK_SEND_FLAGS)

/*
 * Puts an fd of the caller's into the thread's table, where it has the same
 * number; before the start it is kept. The caller leaves its own open until it
 * has called worker_take_fd(), so that the number is free in both. -EBADF: no gate.
 */
int worker_give_fd(struct worker *worker, int fd);
/* The thread has the fd no longer. Whoever watched it has stopped. */
void worker_take_fd(struct worker *worker, int fd);

/* Adds the event to the loop and keeps its fd. */
int worker_watch(struct worker *worker, struct event *event, uint32_t events);

/*
 * Has helper started and stopped with the worker: a thread for what would block.
 * Its loop and events are its own; it is freed by its owner, after the worker was stopped.
 */
void worker_help(struct worker *worker, struct worker *helper);

/*
 * The same for one that has the worker's table of fds, whatever is opened in it later, and of
 * its capabilities those that it names. The worker keeps the helper's fds for it.
 */
void worker_share(struct worker *worker, struct worker *helper);

/* Makes a timer of the loop and keeps its fd. */
int worker_timer(struct worker *worker, struct timer *timer, void (*fn)(struct timer *timer));

/*
 * Starts the thread, which confines itself (own fd table, Landlock, filter)
 * while the caller goes on; worker_ready() waits for that, before any call to
 * it. -errno; when the thread could not be confined it is gone.
 */
int worker_launch(struct worker *worker);
int worker_ready(struct worker *worker);

/* Both in one. */
int worker_start(struct worker *worker);

/*
 * Has job->fn(job->arg) run on the thread, after what was sent before, and
 * does not wait for it. The job must not be pending. Never from a worker.
 */
void worker_send(struct worker *worker, struct worker_job *job);
/* False when the job is not over after timeout_ms (-1: for ever). 0 only asks. */
bool worker_wait(struct worker *worker, const struct worker_job *job, int timeout_ms);

/* Runs fn(arg) on the thread and returns what it returned: both in one. */
int worker_call(struct worker *worker, int (*fn)(void *arg), void *arg);

/* Ends the loop and joins the thread. Accepts a worker that does not run. */
void worker_stop(struct worker *worker);

/* After worker_stop(). Accepts a zeroed object. */
void worker_free(struct worker *worker);

#endif
