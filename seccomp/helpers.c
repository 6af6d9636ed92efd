// SPDX-License-Identifier: Apache-2.0
/*
 * Requests go to the helpers as pointers through one pipe and come back through
 * another. A pipe is a queue that any thread may use and that a loop can watch;
 * each has room for all requests that can be in flight, so no write ever waits. A
 * request belongs to whoever read its pointer last.
 */
#include "seccomp/helpers.h"

#include <assert.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "core/util.h"

#define PIPE_PAGE 4096

struct helper {
	struct worker worker;
	struct event event;
	const struct helpers *helpers;
};

/* The pipe has room: -EAGAIN would be a bug. */
static void pass(int fd, void *request)
{
	ssize_t n = write(fd, &request, sizeof(request));

	assert(n == sizeof(request));
	(void)n;
}

static void *take(int fd)
{
	void *request;

	return read(fd, &request, sizeof(request)) == sizeof(request) ? request : NULL;
}

static void helper_serve(struct event *event, uint32_t revents)
{
	const struct helpers *helpers = container_of(event, struct helper, event)->helpers;
	void *request;

	(void)revents;
	while ((request = take(event->fd))) {
		helpers->run(helpers->opaque, request);
		pass(helpers->to_worker[1], request);
	}
}

/* A page that was begun to be read counts until its end. */
static int open_pipe(int fds[2], unsigned int depth)
{
	const size_t wanted = depth * sizeof(void *) + PIPE_PAGE;
	int size;

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	size = fcntl(fds[0], F_GETPIPE_SZ);
	if (size < 0 || ((size_t)size < wanted && fcntl(fds[0], F_SETPIPE_SZ, (int)wanted) < 0))
		return -errno;
	return 0;
}

static int init_helper(struct helpers *helpers, struct helper *helper, const struct worker *worker)
{
	char name[sizeof(worker->name)];
	int r;

	snprintf(name, sizeof(name), "%.12s/%s", worker->name, helpers->suffix);
	r = worker_init(&helper->worker, name, helpers->sandbox, worker->confine);
	if (r < 0)
		return r;
	helper->helpers = helpers;
	helper->event = (struct event){ .fd = helpers->to_helpers[0], .fn = helper_serve };
	r = worker_keep_fd(&helper->worker, helpers->to_worker[1]);
	if (!r && !helpers->share)
		r = worker_keep_fd(&helper->worker, helpers->fd);
	/* Each request wakes one of them. */
	return r < 0 ? r : worker_watch(&helper->worker, &helper->event, EPOLLIN | EPOLLEXCLUSIVE);
}

static int init_all(struct helpers *helpers, struct worker *worker, unsigned int depth)
{
	int r = open_pipe(helpers->to_helpers, depth);

	if (!r)
		r = open_pipe(helpers->to_worker, depth);
	if (!r)
		r = worker_keep_fd(worker, helpers->to_helpers[1]);
	for (unsigned int i = 0; i < helpers->count && !r; i++) {
		const struct worker *helper = &helpers->all[i].worker;

		r = init_helper(helpers, &helpers->all[i], worker);
		if (!r && helpers->share)
			r = worker_keep_fds(worker, helper->keep, helper->keep_count);
	}
	return r;
}

int helpers_open(struct helpers *helpers, struct worker *worker, unsigned int count,
		 unsigned int depth)
{
	int r;

	helpers->to_helpers[0] = helpers->to_helpers[1] = -1;
	helpers->to_worker[0] = helpers->to_worker[1] = -1;
	helpers->all = calloc(count, sizeof(*helpers->all));
	if (!helpers->all)
		return -ENOMEM;
	helpers->count = count;
	r = init_all(helpers, worker, depth);
	/* Not before nothing can fail: the owner of those that it has may not free them. */
	for (unsigned int i = 0; i < count && !r; i++)
		(helpers->share ? worker_share : worker_help)(worker, &helpers->all[i].worker);
	return r;
}

void helpers_close(struct helpers *helpers)
{
	if (!helpers->all)
		return;
	for (unsigned int i = 0; i < helpers->count; i++)
		worker_free(&helpers->all[i].worker);
	for (unsigned int i = 0; i < 2; i++) {
		util_closep(&helpers->to_helpers[i]);
		util_closep(&helpers->to_worker[i]);
	}
	free(util_steal_ptr(&helpers->all));
}

void helpers_submit(struct helpers *helpers, void *request)
{
	helpers->in_flight++;
	if (helpers->all[0].worker.running) {
		pass(helpers->to_helpers[1], request);
		return;
	}
	helpers->run(helpers->opaque, request);
	helpers->in_flight--;
	helpers->done(helpers->opaque, request);
}

void helpers_complete(struct helpers *helpers)
{
	void *request;

	while ((request = take(helpers->to_worker[0]))) {
		helpers->in_flight--;
		helpers->done(helpers->opaque, request);
	}
}

void helpers_drain(struct helpers *helpers)
{
	struct pollfd some = { .fd = helpers->to_worker[0], .events = POLLIN };

	for (; helpers->in_flight; helpers_complete(helpers))
		ppoll(&some, 1, NULL, NULL);
}
