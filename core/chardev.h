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
#include "core/redial.h"
#include "core/util.h"

/* What the option table fills: at most one of them is set (stdio when none is). */
struct chardev_conf {
	bool stdio;
	bool pty;
	bool none;
	char *file;
	char *socket;
	char *connect;
};

/* The keys stdio, pty, none, file=PATH, socket=PATH, connect=PATH of a chardev_conf at base of a struct. */
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
	{ .key = "connect", .type = OPT_STRING, .one_of = true, .arg = "PATH", \
	  .offset = (base) + offsetof(struct chardev_conf, connect), \
	  .help = "a UNIX socket where a program listens, again whenever it has left" }, \
	{ .key = "none", .type = OPT_BOOL, .offset = (base) + offsetof(struct chardev_conf, none), \
	  .one_of = true, .help = "no input, and output is dropped" }

/* Of a chardev_conf alone. */
extern const struct opt chardev_opts[];
extern const struct hint chardev_hints[];
#define CHARDEV_HINTS \
	{ EINVAL, "give one of stdio, pty, file=PATH, socket=PATH, connect=PATH and none" }, \
	{ EBUSY, "stdio serves another port: give one of them pty, file=PATH or socket=PATH" }, \
	{ EADDRINUSE, "another process listens on this socket: choose another path" }, \
	{ ECONNREFUSED, "nobody listens on this socket: start the program that does first" }, \
	{ ENOENT, "there is no such path: make its directory, or start the program that listens there" }, \
	{ EPROTOTYPE, "not a stream socket: give the one where the program listens" }, \
	{ EEXIST, "the path is there and is not a socket: remove it or choose another" }, \
	{ EISDIR, "the path is a directory: give a file's" }, \
	{ ENAMETOOLONG, "the path is too long: a UNIX socket's has 107 bytes at the most" }, \
	{ ENXIO, "nobody reads this FIFO: start its reader first" }

/* Commands that a person types on a terminal after Ctrl-A: X and C. */
enum chardev_escape { CHARDEV_ESCAPE_NONE, CHARDEV_ESCAPE_QUIT, CHARDEV_ESCAPE_STATUS };

struct chardev {
	int in;          /* -1: there is no input now */
	int out;         /* -1: what is written is dropped; may be the same fd as in */
	int door;        /* where peers come from: a listening UNIX socket, or a redial; else -1 */
	int peer;        /* with a door: the fd number of whoever is the peer, or of nobody */
	unsigned int peers; /* how many there were */
	bool dials;      /* the door is a redial */
	bool asked;      /* it is to connect again */
	bool stdio;
	bool pty;
	bool shared_in;  /* the open file is others' too and may block: it is polled first */
	bool shared_out;
	bool terminal;   /* in is a terminal in raw mode, and Ctrl-A is an escape */
	bool escaped;    /* Ctrl-A was the last byte */
	bool ended;      /* no input will come any more */
	bool unheard;    /* what was written last is lost, as nobody listened */
	char path[108];  /* of the pty or the socket that was made, for people; empty for the others */

	struct loop *loop;
	struct event in_event, out_event, door_event;
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
/* The calls of the loop's thread, beyond those that every thread may make. */
#define CHARDEV_CALLS SC(accept4), SC(dup3), SC(shutdown), REDIAL_CALLS

/*
 * Reads up to len bytes, len being 2 at least; 0 when none is there now,
 * -EPIPE at the end of the input, -EFAULT where the buffer is lost memory,
 * -errno. On a terminal escapes are taken out and reported, with whatever is
 * returned; Ctrl-A twice is one Ctrl-A.
 */
ssize_t chardev_read(struct chardev *chardev, void *buffer, size_t len,
		     enum chardev_escape *ret_escape);

/*
 * Writes what it can without blocking; 0 when the reader is slow, len where
 * nobody listens (then unheard is set). -errno when these bytes cannot be delivered at all.
 */
ssize_t chardev_write(struct chardev *chardev, const void *buffer, size_t len);

/* Whether somebody is at the other end. Of a pty nothing tells: it always counts as such. */
static inline bool chardev_connected(const struct chardev *chardev)
{
	return chardev->door < 0 || chardev->in >= 0;
}

/* Ends a peer's connection, after what was written; what it sent and nobody read is lost. Another may come. */
void chardev_hang_up(struct chardev *chardev);

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
