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
 * Rules that deny everything but dirs: *ret_fd is the caller's to close, or -1
 * where the kernel has no Landlock; *ret_abi is the kernel's version of it, or 0. -errno.
 */
int landlock_rules(const struct landlock_dir *dirs, size_t dir_count, int *ret_abi, int *ret_fd);

/*
 * Puts the calling thread under the rules, within those that it was under
 * before; nothing for -1. Wants no_new_privs. -errno.
 */
int landlock_enter(int rules_fd);

#endif
