/* SPDX-License-Identifier: Apache-2.0 */
/*
 * microvm-display: what its process has that speaks with microvm. It gives each
 * viewer and each picture a process of its own, so that whoever fools the
 * libraries, is slow or uses a lot of memory does it to nobody else.
 */
#ifndef DISPLAY_PROGRAM_H
#define DISPLAY_PROGRAM_H

#include "core/loop.h"
#include "devices/display/control.h"

#define VIEWERS_MAX 16
#define STRANGERS_MAX 8 /* of these: with one more, who may have the password, the oldest has to go */
#define PASSWORD_MAX 8 /* all of it that VNC looks at */

struct program;

/* What the gpu said of a head last; sizes are within limits. */
struct head {
	struct program *program;
	struct event listener;
	uint32_t width, height; /* 0: it is dark */
	struct display_message cursor;
	unsigned int viewers;
	bool count_pending; /* the gpu has still to be told of them */
	struct display_rect wanted; /* the size that it has still to be told of; empty: none */
	int picture; /* the file for it; -1: none */
};

/* A viewer's process, and what it has still to be told. */
struct viewer {
	struct event feed; /* fd -1: this one is free */
	struct head *head;
	int client; /* a stranger's connection; -1: it is none, or gone */
	uint64_t nth; /* of those that ever came */
	bool in;    /* past the password; before it is told of sizes, and counted by nobody */
	bool typed; /* there may be something to release */
	unsigned int news; /* bits by viewers.c */
	struct display_rect damage;
};

/* An input device's end: viewers send there themselves, only the last word is ours. */
struct input {
	struct program *program;
	struct event event; /* watched while it was not said */
};

struct program {
	struct loop loop;
	struct event control, gpu;
	struct event picture; /* the process that takes one; fd -1: none does */
	struct input inputs[DISPLAY_ROLES];
	const struct display_head *memory;
	unsigned int head_count;
	struct head heads[DISPLAY_HEADS_MAX];
	struct viewer viewers[VIEWERS_MAX];
	uint64_t arrivals;
	char name[DISPLAY_NAME_MAX];
	char password[PASSWORD_MAX + 1]; /* empty: none */
};

/* ---- heads.c: what the gpu says ---- */

/* Takes what has arrived, count messages at the most; -ECONNRESET: there is no gpu any more. */
int heads_update(struct program *program, unsigned int count);

/* ---- viewers.c: those who look ---- */

/* A viewer is at the listener. */
void viewers_accept(struct event *listener, uint32_t revents);
/* Tells all that look at the head. */
void viewers_surface(struct head *head);
void viewers_damage(struct head *head, const struct display_rect *rect);
void viewers_cursor(struct head *head);
/* Tells the gpu what it did not take before. */
void viewers_tell_gpu(struct program *program);
/* The event of an input: there is room again. */
void viewers_release(struct event *event, uint32_t revents);

/*
 * For a new process that needs nothing of the program's but keep[count] and what is in memory: all other
 * files are closed, and it ends when the program does.
 */
void program_leave(const int *keep, size_t count);

#endif
