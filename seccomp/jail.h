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
#include "seccomp/landlock.h"

/* What was reached; for the log and for tests. */
struct jail_report {
	bool namespaces; /* mount, network, IPC, UTS and cgroup are our own */
	bool own_cwd; /* cwd is the root of a mount of its own */
	bool empty_root;
	int landlock_abi; /* 0: the kernel has none */
	bool no_caps;      /* not one, and none to be had by execve() */
};

/*
 * Nothing can be opened any more but beneath dirs; what is open stays so. cwd is
 * a directory that a thread will have for its working directory, or -1: where it
 * can be it is replaced by one from which no name leads anywhere but beneath it. What
 * this host does not permit is left out and told by the report; a step that is
 * permitted and fails is an error: -errno, and *ret_step names it.
 */
int jail_enter(const struct landlock_dir *dirs, size_t dir_count, int cwd,
	       struct jail_report *report, const char **ret_step);

#endif
