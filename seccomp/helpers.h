/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads that do for a worker what would block it: each request is run on one
 * of them, and then is the worker's again.
 */
#ifndef SECCOMP_HELPERS_H
#define SECCOMP_HELPERS_H

#include "seccomp/worker.h"

struct helper;

struct helpers {
	/* Set before helpers_open(). */
	const char *suffix; /* of their names, behind the worker's */
	const struct sandbox *sandbox;
	bool share; /* they have all that is open on the worker (worker_share()) */
	int fd;     /* else: one that they need */
	void (*run)(void *opaque, void *request);  /* on one of them */
	void (*done)(void *opaque, void *request); /* on the worker */
	void *opaque;

	unsigned int count;
	struct helper *all;
	int to_helpers[2], to_worker[2];
	unsigned int in_flight;
};

/*
 * Has count threads started and stopped with the worker, for depth requests at a
 * time; before it is launched. It has then to watch helpers_fd(), which it keeps. -errno.
 */
int helpers_open(struct helpers *helpers, struct worker *worker, unsigned int count,
		 unsigned int depth);
/* After the worker was stopped. Accepts a zeroed object. */
void helpers_close(struct helpers *helpers);

/* The rest is for the worker. Where it does not run a request is run and done at once. */
void helpers_submit(struct helpers *helpers, void *request);

/* Readable when there is something for helpers_complete(), which calls done. */
static inline int helpers_fd(const struct helpers *helpers)
{
	return helpers->to_worker[0];
}

void helpers_complete(struct helpers *helpers);
/* Until nothing is in flight. */
void helpers_drain(struct helpers *helpers);

#endif
