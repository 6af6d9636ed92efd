// SPDX-License-Identifier: Apache-2.0
#include "core/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/util.h"

int spawn_program(const char *const *argv, int fd, bool quiet, pid_t *ret_pid)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int r;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_init(&attr);
	/* Keys at our terminal are not for it. */
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
					POSIX_SPAWN_SETSID);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawn_file_actions_init(&actions);
	for (int i = 0; i < STDERR_FILENO + quiet; i++)
		posix_spawn_file_actions_addopen(&actions, i, "/dev/null", O_RDWR, 0);
	posix_spawn_file_actions_adddup2(&actions, fd, SPAWN_FD);
	/* Others that were inherited are for others. */
	posix_spawn_file_actions_addclosefrom_np(&actions, SPAWN_FD + 1);
	r = -posix_spawnp(ret_pid, argv[0], &actions, &attr, (char *const *)argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	return r == -ENOENT ? -ENOPKG : r;
}

pid_t spawn_fork(int flags, int *ret_sock)
{
	_cleanup_close_ int ours = -1, its = -1;
	int fds[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0, fds) < 0)
		return -errno;
	ours = fds[0];
	its = fds[1];
	pid = fork();
	if (pid < 0)
		return -errno;
	*ret_sock = util_steal_fd(pid ? &ours : &its);
	return pid;
}

int spawn_wait(pid_t pid, int *ret_status)
{
	while (waitpid(pid, ret_status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}
