/* SPDX-License-Identifier: Apache-2.0 */
/* A test in a child process: what it confines, or how it dies, stays there. */
#ifndef TESTS_LIB_CHILD_H
#define TESTS_LIB_CHILD_H

#include <grp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <cmocka.h>
#include "core/util.h"

#define CHILD_NOBODY 65534
#define CHILD_LACKS 77 /* the exit status where the host lacks what would be tested */

struct child {
	int status;     /* the exit status; minus the signal that ended it */
	char text[8192]; /* what it wrote to stderr */
};

/* A check within a child: says which, and ends it with status 1. */
#define CHILD_CHECK(condition) child_check((condition), #condition, __FILE__, __LINE__)

static inline void child_check(int holds, const char *condition, const char *file, int line)
{
	if (holds)
		return;
	dprintf(STDERR_FILENO, "%s:%d: %s (errno %s)\n", file, line, condition,
		strerrorname_np(errno));
	_exit(1);
}

/* What a child returns where the host lacks what it would test. */
static inline int child_lacks(const char *what)
{
	dprintf(STDERR_FILENO, "skipped: this host has no %s\n", what);
	return CHILD_LACKS;
}

/* The program that emulates another architecture's, qemu-user; NULL: we run on the processor itself. */
static inline const char *child_emulator(void)
{
	const char *emulator = getenv("EMULATOR");

	return emulator && *emulator ? emulator : NULL;
}

/* Ends a child that is about to test what qemu-user leaves out. */
static inline void child_needs(const char *what)
{
	if (!child_emulator())
		return;
	dprintf(STDERR_FILENO, "skipped: not under %s, which has no %s\n", child_emulator(), what);
	_exit(CHILD_LACKS);
}

static inline void child_needs_filters(void)
{
	child_needs("seccomp filters");
}

/* Runs fn(arg) in a child, as uid where we are root; its result is the exit status. */
static inline struct child child_run(uid_t uid, int (*fn)(void *arg), void *arg)
{
	struct child child = { 0 };
	size_t len = 0;
	int fds[2], status;
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(fds[1], STDERR_FILENO);
		close(fds[0]);
		close(fds[1]);
		if (geteuid() == 0 && uid != 0)
			CHILD_CHECK(!setgroups(0, NULL) && !setgid(uid) && !setuid(uid));
		/* Whatever hangs must not outlive the tests. */
		alarm(60);
		_exit(fn(arg));
	}
	close(fds[1]);
	while ((n = read(fds[0], child.text + len, sizeof(child.text) - 1 - len)) > 0)
		len += (size_t)n;
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	child.status = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
	return child;
}

/* The child ended as it should, unless it had to skip the test. */
static inline void child_ended(const struct child *child, int status)
{
	if (child->status == CHILD_LACKS) {
		print_message("%s", child->text);
		skip();
	}
	if (child->status != status)
		print_error("the child says: %s\n", child->text);
	assert_int_equal(child->status, status);
}

static inline void child_succeeds(uid_t uid, int (*fn)(void *arg), void *arg)
{
	struct child child = child_run(uid, fn, arg);

	child_ended(&child, 0);
}

#endif
