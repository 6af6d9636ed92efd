/* SPDX-License-Identifier: Apache-2.0 */
/* Programs of their own, which have one file of ours. */
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

/* Waits for its end. -errno. */
int spawn_wait(pid_t pid, int *ret_status);

#endif
