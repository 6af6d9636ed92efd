/* SPDX-License-Identifier: Apache-2.0 */
/* UNIX sockets by their paths. All are non-blocking. */
#ifndef CORE_USOCK_H
#define CORE_USOCK_H

/* Room for a path with its final zero: the size of sockaddr_un.sun_path. */
#define USOCK_PATH_MAX 108

/*
 * Makes a socket of the type (SOCK_STREAM, SOCK_SEQPACKET) that listens at path. One that nobody
 * serves any more is replaced. -EADDRINUSE: another process listens there; -EEXIST: something else
 * than a socket is there; -ENAMETOOLONG; -errno.
 */
int usock_listen(const char *path, int type, int backlog, int *ret_fd);

/*
 * Connects to whoever listens at path. -ENOENT and -ECONNREFUSED: nobody does; -EPROTOTYPE: it is a
 * socket of another type; -EAGAIN: its backlog is full now; -ENAMETOOLONG; -errno.
 */
int usock_connect(const char *path, int type, int *ret_fd);

#endif
