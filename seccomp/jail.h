/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The jail around the process, entered once, on the main thread, when
 * everything that the configuration names is open and before any thread is
 * started: namespaces where permitted, an empty root, Landlock, no
 * capabilities, no_new_privs, limits.
 */
#ifndef SECCOMP_JAIL_H
#define SECCOMP_JAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "seccomp/landlock.h"

/* What was reached; for the log and for tests. */
struct jail_report {
	bool namespaces; /* mount, network, IPC, UTS and cgroup are our own */
	bool own_cwd; /* cwd is the root of a mount of its own */
	bool empty_root;
	int landlock_abi; /* 0: the kernel has none */
	bool no_caps;      /* not one but those to keep, and none to be had by execve() */
};

/* What stays possible. */
struct jail_exceptions {
	const struct landlock_dir *dirs; /* files beneath can be opened, and nothing else */
	size_t dir_count;
	/*
	 * A directory that a thread will have for its working directory, or -1. Where it can be
	 * it is replaced by one from which no name leads anywhere but beneath it.
	 */
	int cwd;
	uint64_t capabilities; /* bits by CAP_...: until jail_drop_capabilities() */
};

/*
 * What is open stays so. What this host does not permit is left out and told by
 * the report; a step that is permitted and fails is an error: -errno, and
 * *ret_step names it.
 */
int jail_enter(const struct jail_exceptions *exceptions, struct jail_report *report,
	       const char **ret_step);

/* The calling thread, and those that it starts from now on, have none any more. -EPERM. */
int jail_drop_capabilities(void);

#endif
