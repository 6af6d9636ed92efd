/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A byte stream that a guest's console or serial port talks to: the terminal,
 * a new pseudo terminal, a file, a UNIX socket, or nothing.
 */
#ifndef CORE_CHARDEV_H
#define CORE_CHARDEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "core/loop.h"
#include "core/opt.h"
#include "core/util.h"

/* What the option table fills: at most one of them is set (stdio when none is). */
struct chardev_conf {
	bool stdio;
	bool pty;
	bool none;
	char *file;
	char *socket;
};

/* The keys stdio, pty, none, file=PATH, socket=PATH of a chardev_conf at base of a struct. */
#define CHARDEV_OPTS(base) \
	{ .key = "stdio", .type = OPT_BOOL, .offset = (base) + offsetof(struct chardev_conf, stdio), \
	  .one_of = true, .terminal = true, \
	  .help = "this terminal, or the pipes in its place; Ctrl-A X leaves" }, \
	{ .key = "pty", .type = OPT_BOOL, .offset = (base) + offsetof(struct chardev_conf, pty), \
	  .one_of = true, .help = "a new pseudo terminal, whose path is told" }, \
	{ .key = "file", .type = OPT_STRING, .offset = (base) + offsetof(struct chardev_conf, file), \
	  .one_of = true, .arg = "PATH", .help = "output only, into a new file" }, \
	{ .key = "socket", .type = OPT_STRING, .one_of = true, .made = true, .arg = "PATH", \
	  .offset = (base) + offsetof(struct chardev_conf, socket), \
	  .help = "a UNIX socket to listen on, for one peer at a time" }, \
	{ .key = "none", .type = OPT_BOOL, .offset = (base) + offsetof(struct chardev_conf, none), \
	  .one_of = true, .help = "no input, and output is dropped" }

/* Of a chardev_conf alone. */
extern const struct opt chardev_opts[];
extern const struct hint chardev_hints[];

/* Commands that a person types on a terminal after Ctrl-A: X and C. */
enum chardev_escape { CHARDEV_ESCAPE_NONE, CHARDEV_ESCAPE_QUIT, CHARDEV_ESCAPE_STATUS };

struct chardev {
	int in;          /* -1: there is no input now */
	int out;         /* -1: what is written is dropped; may be the same fd as in */
	int listen;      /* a listening UNIX socket, else -1; one peer at a time */
	int peer;        /* with listen: the fd number of whoever is the peer, or of nobody */
	bool stdio;
	bool pty;
	bool shared_in;  /* the open file is others' too and may block: it is polled first */
	bool shared_out;
	bool terminal;   /* in is a terminal in raw mode, and Ctrl-A is an escape */
	bool escaped;    /* Ctrl-A was the last byte */
	bool ended;      /* no input will come any more */
	char path[108];  /* of the pty or the socket, for people; empty for the others */

	struct loop *loop;
	struct event in_event, out_event, listen_event;
	void (*ready)(void *opaque);
	void *opaque;
};

/*
 * Opens what conf names, before confinement. The process ignores SIGPIPE from
 * here on; for stdio SIGTTIN and SIGTTOU as well, and a terminal becomes raw
 * unless the process is in its background. -EBUSY: stdio is in use by another chardev
 * of this process. -EINVAL: more than one is named. -errno.
 */
int chardev_open(struct chardev *chardev, const struct chardev_conf *conf);
/* Restores the terminal. Accepts a zeroed or half-built object. */
void chardev_close(struct chardev *chardev);

/*
 * Calls ready(opaque) on the loop's thread when input or room for output may
 * have come. These are edges: whoever stopped before chardev_read() or
 * chardev_write() gave 0 tries again by itself. The owner calls ready once.
 */
int chardev_attach(struct chardev *chardev, struct loop *loop, void (*ready)(void *opaque),
		   void *opaque);
void chardev_detach(struct chardev *chardev);
/* The fds that the loop's thread needs; returns how many. */
#define CHARDEV_FDS_MAX 4
size_t chardev_fds(const struct chardev *chardev, int fds[CHARDEV_FDS_MAX]);

/*
 * Reads up to len bytes, len being 2 at least; 0 when none is there now,
 * -EPIPE at the end of the input, -errno. On a terminal escapes are taken out
 * and reported, with whatever is returned; Ctrl-A twice is one Ctrl-A.
 */
ssize_t chardev_read(struct chardev *chardev, void *buffer, size_t len,
		     enum chardev_escape *ret_escape);

/*
 * Writes what it can without blocking; 0 when the reader is slow, len where
 * nobody listens. -errno when these bytes cannot be delivered at all.
 */
ssize_t chardev_write(struct chardev *chardev, const void *buffer, size_t len);

/* Waits until more can be written; false when that took longer than timeout_ms. */
bool chardev_wait(const struct chardev *chardev, int timeout_ms);

/* The terminal's size. -ENOTTY where there is none. */
int chardev_window(const struct chardev *chardev, uint16_t *ret_columns, uint16_t *ret_rows);

/*
 * Puts the terminal back as it was before chardev_open(); nothing when there
 * is none. Async-signal-safe, may be called again and from any thread that
 * holds fd 2 or the terminal; called on every way out, fatal signals included.
 */
void chardev_restore_terminal(void);

#endif
