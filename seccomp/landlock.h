/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Landlock: what the calling thread, and those that it starts, may still do
 * with files and sockets by name. What is open stays usable.
 */
#ifndef SECCOMP_LANDLOCK_H
#define SECCOMP_LANDLOCK_H

#include <stddef.h>

/* What is left of a directory that is open, and of all beneath it. */
enum landlock_access {
	LANDLOCK_REMOVE, /* files may be removed (a socket, a pidfile), nothing else */
	LANDLOCK_READ,   /* read */
	LANDLOCK_WRITE,  /* all but device nodes and execution */
};

struct landlock_dir {
	int fd; /* O_PATH does; paths are relative to it from now on */
	enum landlock_access access;
};

/*
 * Denies everything but dirs, within what was allowed before. *ret_abi is the
 * kernel's version of it, 0 when it has none. -errno.
 */
int landlock_enter(const struct landlock_dir *dirs, size_t dir_count, int *ret_abi);

#endif
