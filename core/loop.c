// SPDX-License-Identifier: Apache-2.0
/*
 * A turn serves its batch from the end, so that pending is both the number of
 * entries left and the index of the next one. loop_del() blanks what is left
 * of an event: its owner may be gone by the time its entry comes up.
 */
#include "core/loop.h"

#include <sched.h>
#include <sys/timerfd.h>
#include "core/util.h"

int loop_init(struct loop *loop)
{
	int fd = epoll_create1(EPOLL_CLOEXEC);

	if (fd < 0)
		return -errno;
	*loop = (struct loop){ .epfd = fd };
	return 0;
}

void loop_free(struct loop *loop)
{
	/* No loop watches by way of fd 0: there it is a zeroed object. */
	if (loop->epfd > 0)
		close(loop->epfd);
	loop->epfd = -1;
}

static int loop_control(struct loop *loop, int op, struct event *event, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = event };

	return epoll_ctl(loop->epfd, op, event->fd, &ev) < 0 ? -errno : 0;
}

int loop_add(struct loop *loop, struct event *event, uint32_t events)
{
	return loop_control(loop, EPOLL_CTL_ADD, event, events);
}

int loop_mod(struct loop *loop, struct event *event, uint32_t events)
{
	return loop_control(loop, EPOLL_CTL_MOD, event, events);
}

void loop_del(struct loop *loop, struct event *event)
{
	loop_control(loop, EPOLL_CTL_DEL, event, 0);
	for (int i = 0; i < loop->pending; i++)
		if (loop->batch[i].data.ptr == event)
			loop->batch[i].data.ptr = NULL;
}

/* Looks for work. *timeout_ms becomes 0 where the loop must not sleep. */
static bool loop_look(struct loop *loop, int *timeout_ms)
{
	struct loop_poll *poll = &loop->poll;
	bool found;

	if (!loop->look)
		return false;
	if (!poll->ns) {
		found = loop->look(loop->opaque, true);
	} else if (!poll->worthwhile) {
		found = loop->look(loop->opaque, true);
		poll->slept = util_now_ns();
	} else {
		found = loop->look(loop->opaque, false);
		poll->worthwhile = found || util_now_ns() - poll->worked < poll->ns;
		*timeout_ms = 0;
		/* What it waits for may need this core. */
		if (!found)
			sched_yield();
	}
	if (found)
		*timeout_ms = 0;
	return found;
}

/* What was done becomes visible before the loop waits. */
static void loop_worked(struct loop *loop)
{
	struct loop_poll *poll = &loop->poll;

	if (loop->turn_end)
		loop->turn_end(loop->opaque);
	if (!poll->ns)
		return;
	poll->worked = util_now_ns();
	if (poll->worked - poll->slept < poll->ns)
		poll->worthwhile = true;
}

int loop_turn(struct loop *loop, int timeout_ms)
{
	bool found = loop_look(loop, &timeout_ms);
	int n, ran = 0;

	if (found)
		loop_worked(loop);
	n = epoll_wait(loop->epfd, loop->batch, LOOP_BATCH, timeout_ms);
	if (n < 0 && errno != EINTR)
		return -errno;

	loop->pending = n < 0 ? 0 : n;
	while (loop->pending > 0) {
		struct epoll_event *ready = &loop->batch[--loop->pending];
		struct event *event = ready->data.ptr;

		if (!event)
			continue;
		event->fn(event, ready->events);
		ran++;
	}
	if (ran)
		loop_worked(loop);
	return ran + found;
}

int loop_run(struct loop *loop)
{
	int rc = 0;

	while (!loop->stop && rc >= 0)
		rc = loop_turn(loop, -1);
	loop->stop = false;
	return rc < 0 ? rc : 0;
}

void loop_stop(struct loop *loop)
{
	loop->stop = true;
}

static void timer_ready(struct event *event, uint32_t revents)
{
	struct timer *timer = container_of(event, struct timer, event);
	uint64_t expired;

	(void)revents;
	/* Another handler of this turn may have set it anew: then there is nothing to read. */
	if (read(event->fd, &expired, sizeof(expired)) == sizeof(expired))
		timer->fn(timer);
}

int timer_init(struct timer *timer, struct loop *loop, void (*fn)(struct timer *))
{
	_cleanup_close_ int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	struct event event = { .fd = fd, .fn = timer_ready };
	int rc;

	if (fd < 0)
		return -errno;
	timer->event = event;
	rc = loop_add(loop, &timer->event, EPOLLIN);
	if (rc < 0) {
		timer->event.fd = -1;
		return rc;
	}
	timer->fn = fn;
	util_steal_fd(&fd);
	return 0;
}

int timer_set(struct timer *timer, uint64_t ns)
{
	struct itimerspec when = {
		.it_value.tv_sec = (time_t)(ns / NS_PER_SEC),
		.it_value.tv_nsec = (long)(ns % NS_PER_SEC),
	};

	return timerfd_settime(timer->event.fd, 0, &when, NULL) < 0 ? -errno : 0;
}

void timer_free(struct timer *timer)
{
	/* A zeroed one was never made, and fd 0 is not its own. */
	if (!timer->fn)
		return;
	timer->fn = NULL;
	/* A worker's fd table may hold the timer too; the loop must not hear of it any more. */
	timer_set(timer, 0);
	util_closep(&timer->event.fd);
}
