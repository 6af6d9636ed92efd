/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a person sees what the guest draws, and types to it: a program of its
 * own (display/), microvm-display. It has the libraries that speak to strangers
 * on a network and write pictures; it has no guest memory, and a sandbox that it
 * makes itself. Nothing of it is there unless somebody is to look.
 *
 *	gpu: display_open(), display_connect()    input: display_connect()    any time before
 *	assembly: display_start()                                              the jail
 *	then the devices' threads send and receive messages on their own ends
 *	assembly: display_give_file(), later display_shoot() ... display_close()
 *
 * Pixels go through memory that the gpu shares with the program, messages through
 * a SOCK_SEQPACKET pair for each device, one struct display_message in a packet.
 * Neither side trusts the other: what a message says is checked by whoever gets it,
 * and nobody waits for the other (a full socket is -EAGAIN).
 */
#ifndef DEVICES_DISPLAY_DISPLAY_H
#define DEVICES_DISPLAY_DISPLAY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "core/usock.h"
#include "core/util.h"

#define DISPLAY_HEADS_MAX 16
/* Of one head's surface, in pixels of 4 bytes (blue, green, red, nothing), without gaps between its lines. */
#define DISPLAY_WIDTH_MAX 4096
#define DISPLAY_HEIGHT_MAX 4096
/* A cursor is always this wide and high: blue, green, red, alpha (not premultiplied). */
#define DISPLAY_CURSOR_SIZE 64
/* The axes of DISPLAY_POINTER. */
#define DISPLAY_AXIS_MAX 32767

/* What an end belongs to. At most one of each. */
enum display_role {
	DISPLAY_GPU,
	DISPLAY_KEYBOARD,
	DISPLAY_MOUSE,
	DISPLAY_TABLET,
	DISPLAY_TOUCH,
	DISPLAY_ROLES
};

/* One head's part of the shared memory. It is never smaller than this. */
struct display_head {
	uint8_t pixels[(size_t)DISPLAY_WIDTH_MAX * DISPLAY_HEIGHT_MAX * 4];
	uint8_t cursor[(size_t)DISPLAY_CURSOR_SIZE * DISPLAY_CURSOR_SIZE * 4];
	/* The next head begins at a page. */
};

enum display_type {
	/* From the gpu. */
	DISPLAY_SURFACE, /* rect.width x rect.height pixels are shown from now on; 0 x 0: the head is dark */
	DISPLAY_DAMAGE,  /* rect of the surface has changed */
	DISPLAY_CURSOR,  /* cursor: its picture has changed, or whether it is visible, or where */
	/* To the gpu. */
	DISPLAY_RESIZE,  /* a viewer would like rect.width x rect.height */
	DISPLAY_LOOKING, /* value: how many look at the head; 0: damage need not be told */
	/* To inputs. */
	DISPLAY_KEY,     /* key: value 1 pressed, 0 released, by KEY_... of <linux/input-event-codes.h> */
	DISPLAY_POINTER, /* pointer: where it is now, what is pressed */
	DISPLAY_RELEASE, /* whoever pressed keys or buttons is gone: release them all */
};

struct display_rect {
	uint32_t x, y, width, height; /* without width or height: nothing */
};

struct display_message {
	uint16_t type;
	uint16_t head;
	union {
		struct display_rect rect;
		struct {
			int32_t x, y;         /* of its hot spot on the surface */
			uint16_t hot_x, hot_y;
			uint16_t visible;
			uint16_t changed;     /* the picture is another */
		} cursor;
		struct {
			uint16_t code;
			uint16_t value;
		} key;
		struct {
			uint16_t x, y;        /* 0 to DISPLAY_AXIS_MAX over the surface: tablet, touch */
			int16_t dx, dy;       /* in pixels: mouse */
			int16_t wheel;        /* steps up */
			uint16_t buttons;     /* bit 0 left, 1 middle, 2 right */
		} pointer;
		uint32_t value;
	};
};

static inline bool display_rect_empty(const struct display_rect *rect)
{
	return !rect->width || !rect->height;
}

static inline bool display_rect_within(const struct display_rect *rect, uint32_t width,
				       uint32_t height)
{
	return util_within(rect->x, rect->width, width) &&
	       util_within(rect->y, rect->height, height);
}

/* sum is around both from now on. Both are within a surface. */
void display_rect_extend(struct display_rect *sum, const struct display_rect *rect);

/* What the gpu's options say. */
struct display_conf {
	char *viewer;        /* "vnc:ADDRESS:PORT", "vnc:PATH", "headless"; NULL: nobody looks */
	char *password_file; /* of VNC; NULL: none */
};

/* The assembly's. Devices find it in their host; it may be NULL there (tests). */
struct display {
	bool shots;              /* the assembly wants pictures, even if nobody looks */
	const char *program;     /* of a test; NULL: the one that is installed with us */
	unsigned int heads;      /* 0: there is no gpu */
	int memory;              /* of the heads; -1: nobody looks, or none is there */
	int ends[DISPLAY_ROLES]; /* the program's; -1: no such device */
	int listen[DISPLAY_HEADS_MAX];
	const char *path;        /* display_socket() makes the sockets' of it, in a conf; NULL: none */
	int password;
	int control;             /* to the program, once it was started */
	pid_t pid;
};

/* What to tell a user for the errors of all of this; the gpu has more. */
#define DISPLAY_HINTS \
	{ EBADMSG, "display= is vnc:ADDRESS:PORT (one of IPv6 in brackets), vnc:PATH with a / in it, or headless" }, \
	{ EADDRINUSE, "another program listens there: choose another place for display=, or end that one" }, \
	{ EADDRNOTAVAIL, "this host has no such address as display= names" }, \
	{ EACCES, "display= names a port below 1024, or a directory, that takes more privileges" }, \
	{ EEXIST, "something else than a socket is where display= wants one" }, \
	{ ENOENT, "the directory of display= does not exist" }, \
	{ ENAMETOOLONG, "the path of display= is longer than a socket's may be" }, \
	{ ERANGE, "each head has a port of its own, from the one of display= on: choose a smaller one" }, \
	{ ENOKEY, "others could reach that address of display=: it needs password-file=, or take vnc:PATH, whose " \
		  "mode keeps others out, or 127.0.0.1, which every user of this host can reach" }, \
	{ EKEYREJECTED, "password-file= cannot be read, or has nothing in its first line" }, \
	{ ENOPKG, "there is no microvm-display beside microvm or in ../libexec: install it there" }, \
	{ ECONNRESET, "microvm-display does not run: its libraries, libvncserver and libpng, may not be installed" }
extern const struct hint display_hints[];

void display_init(struct display *display);

/* Where the viewers of a head find it: the path itself, or with the head's number. -ENAMETOOLONG. */
int display_socket(const struct display *display, unsigned int head, char ret_path[USOCK_PATH_MAX]);

/*
 * The gpu's init: heads of them, shown as conf says, which lives as long as the display.
 * *ret_heads is the shared memory, mapped, the caller's to display_unmap(); NULL where nobody is to
 * look and no pictures are wanted. -errno; display_hints tell what to do.
 */
int display_open(struct display *display, const struct display_conf *conf, unsigned int heads,
		 struct display_head **ret_heads);
void display_unmap(struct display_head *heads, unsigned int count);

/* A device's end, the caller's to close; non-blocking. -EBUSY: another device has this role. -errno. */
int display_connect(struct display *display, enum display_role role, int *ret_fd);

/* For any end. -EAGAIN: not now; -ECONNRESET: the program is gone; -EBADMSG: a packet of another size. */
int display_send(int fd, const struct display_message *message);
int display_receive(int fd, struct display_message *message);

/*
 * After all devices' init and before the jail: starts the program, if anybody is to look. name is
 * what a viewer shows as its title. -errno: it is told once it runs, not later.
 */
int display_start(struct display *display, const char *name);

/* Where pictures of the head are to go; the program has the file then. Before main is confined. -errno. */
int display_give_file(struct display *display, unsigned int head, int fd);

/*
 * Writes there what the head shows now, as PNG, in place of what there was; waits for it for some
 * seconds at the most. Main thread. -ENODATA: the head shows nothing; -EBADF: it was given no file;
 * -ETIMEDOUT; -ECONNRESET: the program is gone; -ECHILD: its process for the picture is; -errno of the writing.
 */
int display_shoot(struct display *display, unsigned int head);

/* Ends the program and waits for it. Accepts a half-built object. */
void display_close(struct display *display);

#endif
