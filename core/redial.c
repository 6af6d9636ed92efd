// SPDX-License-Identifier: Apache-2.0
#include "core/redial.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include "core/spawn.h"
#include "core/util.h"

/* Before each attempt: whoever ended at once may do so again. */
#define PAUSE_MIN_MS 500
#define PAUSE_MAX_MS 8000

/* Nothing of the caller's stays open: the ends of its sockets and pipes are to be seen. */
static void leave(int sock)
{
	const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "microvm-redial");
	/* It has a copy of what the caller remembers, secrets included. */
	prctl(PR_SET_DUMPABLE, 0);
	/* The caller blocks what its main thread alone handles; SIGTERM may be for this one, too. */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* Keys at the caller's terminal are not for this one. */
	(void)setsid();
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		(void)dup2(null, fd);
	(void)close_range(STDERR_FILENO + 1, (unsigned int)sock - 1, 0);
	(void)close_range((unsigned int)sock + 1, UINT_MAX, 0);
}

/* False when the caller has gone: nothing else can come while it waits for a file. */
static bool pause_for(int sock, int ms)
{
	struct pollfd pollfd = { .fd = sock, .events = POLLIN };
	int n;

	do {
		n = poll(&pollfd, 1, ms);
	} while (n < 0 && errno == EINTR);
	return n == 0;
}

static void serve(int sock, int (*open)(const void *arg, int *ret_fd), const void *arg)
{
	char asked;

	while (read(sock, &asked, 1) == 1) {
		_cleanup_close_ int fd = -1;
		int pause = PAUSE_MIN_MS;

		do {
			if (!pause_for(sock, pause))
				return;
			pause = (int)util_min(2 * (uint64_t)pause, PAUSE_MAX_MS);
		} while (open(arg, &fd) < 0);
		if (usock_send_fd(sock, fd) < 0)
			return;
	}
}

int redial_start(int (*open)(const void *arg, int *ret_fd), const void *arg, int *ret_fd)
{
	_cleanup_close_ int sock = -1;
	pid_t pid = spawn_fork(0, &sock);

	if (pid < 0)
		return pid;
	if (pid == 0) {
		leave(sock);
		serve(sock, open, arg);
		_exit(0);
	}
	if (fcntl(sock, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	*ret_fd = util_steal_fd(&sock);
	return 0;
}

int redial_connect(const void *path, int *ret_fd)
{
	return usock_connect(path, SOCK_STREAM, ret_fd);
}

void redial_ask(int fd)
{
	(void)!write(fd, "", 1);
}
