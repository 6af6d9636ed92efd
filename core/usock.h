/* SPDX-License-Identifier: Apache-2.0 */
/* UNIX sockets by their paths. All are non-blocking. */
#ifndef CORE_USOCK_H
#define CORE_USOCK_H

#include <stddef.h>
#include <sys/socket.h>

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

/*
 * Files through a connected socket, in a message with the data, by sendmsg() with
 * USOCK_SEND_FLAGS and recvmsg() with USOCK_RECEIVE_FLAGS. -ECONNRESET: the other end is
 * closed; -EMFILE: there is no number left for a file; -errno.
 */
#define USOCK_SEND_FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL)
#define USOCK_RECEIVE_FLAGS MSG_CMSG_CLOEXEC
#define USOCK_FILES_MAX 32

/* A message as it goes: up to USOCK_FILES_MAX files, the caller's to close, and len bytes of data. */
struct usock_parcel {
	void *data;
	size_t len;
	int fds[USOCK_FILES_MAX];
	unsigned int count;
};

int usock_send(int sock, const struct usock_parcel *parcel);
/* At the most parcel->len bytes, which becomes how many there were. */
int usock_receive(int sock, struct usock_parcel *parcel);
void usock_close_files(struct usock_parcel *parcel);

/* One file, with a byte that says nothing. -EMFILE: or none came. */
int usock_send_fd(int sock, int fd);
int usock_receive_fd(int sock, int *ret_fd);

#endif
