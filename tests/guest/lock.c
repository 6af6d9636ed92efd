// SPDX-License-Identifier: Apache-2.0
/*
 * lock posix|flock try|wait FILE START LENGTH COMMAND: runs a command of the shell with a write
 * lock of the range, or with one of the whole file. Returns its status, or 3: somebody has the lock.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

static int take(int fd, char **argv)
{
	const bool waits = !strcmp(argv[2], "wait");
	struct flock lock = {
		.l_type = F_WRLCK,
		.l_start = strtoll(argv[4], NULL, 0),
		.l_len = strtoll(argv[5], NULL, 0),
	};

	if (!strcmp(argv[1], "flock"))
		return flock(fd, waits ? LOCK_EX : LOCK_EX | LOCK_NB);
	return fcntl(fd, waits ? F_SETLKW : F_SETLK, &lock);
}

int main(int argc, char **argv)
{
	int fd, status;
	pid_t child;

	if (argc != 7)
		errx(2, "usage: lock posix|flock try|wait FILE START LENGTH COMMAND");
	fd = open(argv[3], O_RDWR);
	if (fd < 0)
		err(1, "%s", argv[3]);
	if (take(fd, argv) < 0) {
		if (errno == EAGAIN || errno == EACCES)
			return 3;
		err(1, "lock");
	}
	/* It has the file open as well, and the lock is none of its. */
	child = fork();
	if (child < 0)
		err(1, "fork");
	if (!child) {
		execl("/bin/sh", "sh", "-c", argv[6], NULL);
		_exit(127);
	}
	if (waitpid(child, &status, 0) < 0)
		err(1, "waitpid");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
