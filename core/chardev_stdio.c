// SPDX-License-Identifier: Apache-2.0
/*
 * Nothing here may block the thread of a device, and O_NONBLOCK belongs to the
 * open file, which for stdin and stdout is the shell's as well. So a pipe or a
 * terminal is opened anew by way of /proc/self/fd, non-blocking, as an open
 * file of our own. Where that is refused (a socket, someone else's terminal)
 * the fd stays as it is, is polled before each call, and gets no more than
 * PIPE_BUF bytes at once. Regular files never block; they are used as they
 * are, since their offset is shared on purpose.
 */
#include "core/chardev_stdio.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <termios.h>

/*
 * The process's one standard input and output. Global because a handler of a
 * fatal signal has to restore the terminal and is given no argument.
 */
static struct {
	bool taken;
	_Atomic int terminal; /* -1: there is nothing to restore */
	struct termios saved;
} stdio = { .terminal = -1 };

void chardev_restore_terminal(void)
{
	int fd = atomic_load(&stdio.terminal);

	if (fd >= 0)
		tcsetattr(fd, TCSANOW, &stdio.saved);
}

/* stderr, where it is the same terminal: every thread has it in its fd table. */
static int terminal_fd(int fd)
{
	struct stat terminal, err;

	if (fstat(fd, &terminal) == 0 && fstat(STDERR_FILENO, &err) == 0 && S_ISCHR(err.st_mode) &&
	    terminal.st_rdev == err.st_rdev)
		return STDERR_FILENO;
	return fd;
}

static void on_fatal(int signal)
{
	/* The handler is reset: the fault happens again, or abort() raises again, and ends us. */
	(void)signal;
	chardev_restore_terminal();
}

static void restore_when_fatal(void)
{
	static const int fatal[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };
	const struct sigaction action = { .sa_handler = on_fatal, .sa_flags = (int)SA_RESETHAND };

	for (size_t i = 0; i < ARRAY_SIZE(fatal); i++) {
		struct sigaction before;

		/* Who handles it already may mend what is wrong (core/window.c), and aborts otherwise. */
		if (sigaction(fatal[i], NULL, &before) == 0 && before.sa_handler == SIG_DFL)
			sigaction(fatal[i], &action, NULL);
	}
}

/*
 * False for what is no terminal, and for a background process's: the shell
 * uses that one now and keeps its modes.
 */
static bool terminal_make_raw(int fd)
{
	struct termios raw;
	pid_t foreground = tcgetpgrp(fd);

	if ((foreground > 0 && foreground != getpgrp()) || tcgetattr(fd, &stdio.saved) < 0)
		return false;
	raw = stdio.saved;
	cfmakeraw(&raw);
	restore_when_fatal();
	atomic_store(&stdio.terminal, terminal_fd(fd));
	if (tcsetattr(fd, TCSANOW, &raw) == 0)
		return true;
	atomic_store(&stdio.terminal, -1);
	return false;
}

/* An fd for stdin's or stdout's file that never blocks; if there is none, the fd itself, shared. */
static int stdio_own(int fd, int mode, bool *ret_shared)
{
	char path[32];
	struct stat st;
	int own;

	if (fstat(fd, &st) < 0)
		return -1;
	if (S_ISREG(st.st_mode))
		return fd;
	if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		own = open(path, mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		if (own >= 0)
			return own;
	}
	*ret_shared = true;
	return fd;
}

int chardev_stdio_open(struct chardev *chardev)
{
	if (stdio.taken)
		return -EBUSY;
	stdio.taken = chardev->stdio = true;
	signal(SIGTTIN, SIG_IGN);
	signal(SIGTTOU, SIG_IGN);
	chardev->in = stdio_own(STDIN_FILENO, O_RDONLY, &chardev->shared_in);
	chardev->out = stdio_own(STDOUT_FILENO, O_WRONLY, &chardev->shared_out);
	chardev->ended = chardev->in < 0;
	chardev->terminal = terminal_make_raw(chardev->in);
	return 0;
}

void chardev_stdio_close(struct chardev *chardev)
{
	if (chardev->terminal) {
		chardev_restore_terminal();
		atomic_store(&stdio.terminal, -1);
	}
	if (chardev->stdio)
		stdio.taken = false;
}
