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
#include <termios.h>
#include "core/opt.h"
#include "core/util.h"

/* What the option table fills: exactly one of them is set (default stdio when none is). */
struct chardev_conf {
	bool stdio;
	bool pty;
	bool none;
	char *file;
	char *socket;
};

/* The keys stdio, pty, none, file=PATH, socket=PATH of a chardev_conf. */
extern const struct opt chardev_opts[];
extern const struct hint chardev_hints[];

/* Commands that a person types on a terminal after Ctrl-A. */
enum chardev_escape { CHARDEV_ESCAPE_NONE, CHARDEV_ESCAPE_QUIT, CHARDEV_ESCAPE_STATUS };

struct chardev {
	int in;     /* readable when input is there; -1: there is none now */
	int out;    /* -1: what is written is dropped */
	int listen; /* a listening UNIX socket, else -1; one peer at a time */
	bool terminal; /* in is a terminal in raw mode, and Ctrl-A is an escape */
	bool escaped;  /* Ctrl-A was the last byte */
	struct termios saved;
	char path[108]; /* of the pty or the socket, for people */
};

/*
 * Opens what conf names, before confinement. All fds are non-blocking where
 * that cannot disturb others (never a shared stdin/stdout: those are polled).
 * -EBUSY: stdio is in use by another chardev of this process. -errno.
 */
int chardev_open(struct chardev *chardev, const struct chardev_conf *conf);
void chardev_close(struct chardev *chardev);

/*
 * Reads up to len bytes; 0 when none is there now, -EPIPE at the end of the
 * input, -errno. On a terminal escapes are taken out and reported; Ctrl-A
 * twice is one Ctrl-A.
 */
ssize_t chardev_read(struct chardev *chardev, void *buffer, size_t len,
		     enum chardev_escape *ret_escape);

/*
 * Writes what it can without blocking; 0 when the reader is slow (poll out),
 * len where nobody listens. -errno when the other end is broken for good.
 */
ssize_t chardev_write(struct chardev *chardev, const void *buffer, size_t len);

/* Accepts a peer on the listening socket; a second one is turned away. */
int chardev_accept(struct chardev *chardev);
/* The peer went away. */
void chardev_hangup(struct chardev *chardev);

/* The terminal's size. -ENOTTY where there is none. */
int chardev_window(const struct chardev *chardev, uint16_t *ret_columns, uint16_t *ret_rows);

/*
 * Puts the terminal back as it was. Async-signal-safe, may be called twice and
 * from any thread; called on every way out, fatal signals included.
 */
void chardev_restore(const struct chardev *chardev);

#endif
