/* SPDX-License-Identifier: Apache-2.0 */
/*
 * epoll: fd -> function. An event sits inside its owner; a loop belongs to
 * one thread, and only that thread (or nobody else yet) touches it.
 */
#ifndef CORE_LOOP_H
#define CORE_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

#define LOOP_BATCH 32

struct event {
	int fd;
	/* revents as epoll gives them */
	void (*fn)(struct event *event, uint32_t revents);
};

/*
 * Polling: for so long after the last work the loop looks again instead of
 * sleeping. Looking in vain turns it off; an event so soon after falling
 * asleep that looking would have found it turns it on again.
 */
struct loop_poll {
	uint64_t ns; /* 0: never */
	bool worthwhile;
	uint64_t worked; /* when, by util_now_ns() */
	uint64_t slept;
};

struct loop {
	int epfd;
	bool stop;
	/* Either may be NULL. Runs after every turn that did something. */
	void (*turn_end)(void *opaque);
	/*
	 * Before each wait: does what there is to do without an event, and says
	 * whether there was. last: if not the loop may sleep, so that what comes
	 * from now on has to be announced by an event.
	 */
	bool (*look)(void *opaque, bool last);
	void *opaque;
	struct loop_poll poll;
	struct epoll_event batch[LOOP_BATCH];
	int pending; /* entries of batch that this turn has still to serve */
};

/* -errno of epoll_create1. */
int loop_init(struct loop *loop);
/* Accepts a zeroed object. Does not close the fds of its events. */
void loop_free(struct loop *loop);

/*
 * Watches event->fd. With EPOLLET an eventfd needs no read: every write to it
 * is an edge, which saves a system call per wake-up.
 */
int loop_add(struct loop *loop, struct event *event, uint32_t events);
int loop_mod(struct loop *loop, struct event *event, uint32_t events);
/* Safe from any handler: an event that is deleted does not fire any more, even in this turn. */
void loop_del(struct loop *loop, struct event *event);

/*
 * A look, one wait (timeout in ms, -1 for ever) and its handlers. Returns how many ran, one more
 * when the look found something, or -errno.
 */
int loop_turn(struct loop *loop, int timeout_ms);
/* Turns until loop_stop(). Returns 0 or -errno. */
int loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/* A one-shot timer on CLOCK_MONOTONIC; its fd is event.fd. */
struct timer {
	struct event event;
	void (*fn)(struct timer *timer);
};

/* Creates the timer and adds it to the loop. */
int timer_init(struct timer *timer, struct loop *loop, void (*fn)(struct timer *));
/* Fires once after ns nanoseconds; 0 disarms. */
int timer_set(struct timer *timer, uint64_t ns);
/* Accepts a zeroed one. */
void timer_free(struct timer *timer);

#endif
