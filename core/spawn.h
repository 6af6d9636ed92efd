/* SPDX-License-Identifier: Apache-2.0 */
/* Processes of their own: programs, which have one file of ours, and what goes on as we are. */
#ifndef CORE_SPAWN_H
#define CORE_SPAWN_H

#include <stdbool.h>
#include <sys/types.h>

#define SPAWN_FD 3
#define SPAWN_FD_TEXT "3"

/*
 * Starts argv[0], a path or a name that PATH leads to, in a session of its own. Its files are fd,
 * as SPAWN_FD, and nothing for the standard streams, but our stderr unless quiet. -ENOPKG: there is no
 * such program; -errno. The caller reaps it.
 */
int spawn_program(const char *const *argv, int fd, bool quiet, pid_t *ret_pid);

/*
 * fork(), with a socket between the two (SOCK_SEQPACKET, and flags such as SOCK_NONBLOCK), of which
 * each has its end in *ret_sock. 0: this is the new one; its number; -errno.
 */
pid_t spawn_fork(int flags, int *ret_sock);

/* Waits for its end. -errno. */
int spawn_wait(pid_t pid, int *ret_status);

#endif
