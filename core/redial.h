/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens what has ended once more, for threads that cannot: a process of the
 * caller's, which is started before there is a jail and stays outside.
 *
 *	redial_start() -> something ended: redial_ask() -> the fd is readable: redial_take() ...
 *
 * All that a thread can have it do is to try again what the configuration asked
 * for, after a pause, until it succeeds. It ends when its socket does.
 */
#ifndef CORE_REDIAL_H
#define CORE_REDIAL_H

#include "core/usock.h"

/*
 * In the process that it starts open(arg) opens the file, or returns -errno; arg is copied with
 * all that it points to, but for guest memory (mem_add()). *ret_fd is the socket. -errno.
 */
int redial_start(int (*open)(const void *arg, int *ret_fd), const void *arg, int *ret_fd);

/* For open: usock_connect() to the stream socket at path. */
int redial_connect(const void *path, int *ret_fd);

/* It fails where there is nobody to ask, as the taking will tell. */
void redial_ask(int fd);

/* The new file. -EAGAIN: not yet; -ECONNRESET: there will be none; -EMFILE. */
static inline int redial_take(int fd, int *ret_fd)
{
	return usock_receive_fd(fd, ret_fd);
}
#define REDIAL_CALLS SC_ARG(recvmsg, 2, USOCK_RECEIVE_FLAGS)

#endif
