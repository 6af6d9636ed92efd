/* SPDX-License-Identifier: Apache-2.0 */
/* A viewer's process: RFB (RFC 6143), by libvncserver. */
#ifndef DISPLAY_VNC_H
#define DISPLAY_VNC_H

#include <fcntl.h>
#include <sys/time.h>
#include "devices/display/display.h"
#include "seccomp/filter.h"

#define VNC_POINTERS 3

struct vnc_task {
	int client; /* connected */
	int feed;   /* messages about the head come here, and what viewers.c says goes there */
	int keyboard; /* -1: none */
	int pointers[VNC_POINTERS]; /* the first that is there is used */
	uint16_t head;
	const struct display_head *memory;
	const char *name, *password; /* the latter may be NULL */
};

/*
 * What the library calls, besides what each filter has: to wait, to know who is there, to look for
 * files where there are none; and our time limit.
 */
#ifdef SYS_select
#define VNC_SELECT SC(select), SC(pselect6)
#else
#define VNC_SELECT SC(pselect6)
#endif
#define VNC_CALLS \
	VNC_SELECT, SC(openat), SC(setsockopt), SC(getpeername), SC(recvfrom), SC(uname), \
	SC_ARG(fcntl, 1, F_GETFL), SC_ARG(fcntl, 1, F_SETFL), SC_ARG(setitimer, 0, ITIMER_REAL)

/* Before the jail: what the library would read from files later is read now. */
void vnc_prepare(void);
/* Confines the process further. */
_Noreturn void vnc_serve(const struct vnc_task *task);

#endif
