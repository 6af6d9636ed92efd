// SPDX-License-Identifier: Apache-2.0
/*
 * Nothing here may block the thread of a device, and O_NONBLOCK belongs to the
 * open file, which for stdin and stdout is the shell's as well. So a pipe or a
 * terminal is opened anew by way of /proc/self/fd, non-blocking, as an open
 * file of our own. Where that is refused (a socket, someone else's terminal)
 * the fd stays as it is, is polled before each call, and gets no more than
 * PIPE_BUF bytes at once. Regular files never block; they are used as they
 * are, since their offset is shared on purpose.
 *
 * Watching is edge-triggered: data that the guest has no room for stays where
 * it is without waking anybody, a pty that nobody has open does not spin, and
 * no call is spent on arming. epoll refuses files that are always ready, which
 * is as good: reading and writing those never gives 0.
 *
 * A worker has an fd table of its own, so a peer that it accepted would have a
 * number that means something else to the thread that closes the chardev. One
 * number is set aside when the socket is opened, and peers are moved onto it.
 * In between it is one more fd of the listening socket.
 */
#include "core/chardev.h"

#include <assert.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include "core/usock.h"

#define CTRL_A 1

/*
 * The process's one standard input and output. Global because a handler of a
 * fatal signal has to restore the terminal and is given no argument.
 */
static struct {
	bool taken;
	_Atomic int terminal; /* -1: there is nothing to restore */
	struct termios saved;
} stdio = { .terminal = -1 };

const struct opt chardev_opts[] = {
	CHARDEV_OPTS(0),
	{ 0 },
};

const struct hint chardev_hints[] = {
	{ EINVAL, "give one of stdio, pty, file=PATH, socket=PATH and none" },
	{ EBUSY, "stdio serves another port: give one of them pty, file=PATH or socket=PATH" },
	{ EADDRINUSE, "another process listens on this socket: choose another path" },
	{ EEXIST, "the path is there and is not a socket: remove it or choose another" },
	{ ENAMETOOLONG, "the path is too long: a UNIX socket's has 107 bytes at the most" },
	{ ENXIO, "nobody reads this FIFO: start its reader first" },
	{ 0 },
};

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

	for (size_t i = 0; i < ARRAY_SIZE(fatal); i++)
		sigaction(fatal[i], &action, NULL);
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

static int open_stdio(struct chardev *chardev)
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

static int open_pty(struct chardev *chardev)
{
	_cleanup_close_ int fd = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	_cleanup_close_ int user = -1;
	struct termios raw;

	if (fd < 0 || grantpt(fd) < 0 || unlockpt(fd) < 0)
		return -errno;
	if (ptsname_r(fd, chardev->path, sizeof(chardev->path)) != 0)
		return -errno;
	/* Raw, or the pty would echo the guest's output back as input until someone opens it. */
	if (tcgetattr(fd, &raw) < 0)
		return -errno;
	cfmakeraw(&raw);
	if (tcsetattr(fd, TCSANOW, &raw) < 0)
		return -errno;
	/* The kernel tells that nobody has a pty open only after someone had. */
	user = open(chardev->path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (user < 0)
		return -errno;
	chardev->pty = true;
	chardev->in = chardev->out = util_steal_fd(&fd);
	return 0;
}

static int open_file(struct chardev *chardev, const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0644);

	if (fd < 0)
		return -errno;
	chardev->out = fd;
	chardev->ended = true;
	return 0;
}

static int open_socket(struct chardev *chardev, const char *path)
{
	_cleanup_close_ int fd = -1;
	int rc = usock_listen(path, SOCK_STREAM, 1, &fd);

	static_assert(sizeof(chardev->path) >= USOCK_PATH_MAX, "any socket's path fits");
	if (rc < 0)
		return rc;
	chardev->peer = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (chardev->peer < 0)
		return -errno;
	memcpy(chardev->path, path, strlen(path) + 1);
	chardev->listen = util_steal_fd(&fd);
	return 0;
}

int chardev_open(struct chardev *chardev, const struct chardev_conf *conf)
{
	int named = conf->stdio + conf->pty + conf->none + !!conf->file + !!conf->socket;

	*chardev = (struct chardev){ .in = -1, .out = -1, .listen = -1, .peer = -1 };
	if (named > 1)
		return -EINVAL;
	/* A reader that leaves is an error of write(). */
	signal(SIGPIPE, SIG_IGN);
	if (conf->pty)
		return open_pty(chardev);
	if (conf->file)
		return open_file(chardev, conf->file);
	if (conf->socket)
		return open_socket(chardev, conf->socket);
	if (!conf->none)
		return open_stdio(chardev);
	chardev->ended = true;
	return 0;
}

static void close_own(int fd)
{
	if (fd > STDERR_FILENO)
		close(fd);
}

void chardev_close(struct chardev *chardev)
{
	chardev_detach(chardev);
	if (chardev->terminal) {
		chardev_restore_terminal();
		atomic_store(&stdio.terminal, -1);
	}
	if (chardev->stdio)
		stdio.taken = false;
	if (chardev->listen <= 0)
		close_own(chardev->in);
	if (chardev->out != chardev->in)
		close_own(chardev->out);
	close_own(chardev->peer);
	close_own(chardev->listen);
	/* In the jail there is no such path: whoever made the jail removes it then. */
	if (chardev->listen > 0)
		(void)unlinkat(AT_FDCWD, chardev->path, 0);
	*chardev = (struct chardev){ .in = -1, .out = -1, .listen = -1, .peer = -1, .ended = true };
}

static short poll_fd(int fd, short events, int timeout_ms)
{
	struct timespec timeout = {
		.tv_sec = timeout_ms / 1000,
		.tv_nsec = timeout_ms % 1000 * 1000000L,
	};
	struct pollfd poll = { .fd = fd, .events = events };

	ppoll(&poll, 1, &timeout, NULL);
	return poll.revents;
}

/* Files that epoll refuses are always ready. */
static int watch(struct chardev *chardev, struct event *event, int fd, uint32_t events)
{
	int rc;

	if (fd < 0)
		return 0;
	event->fd = fd;
	rc = loop_add(chardev->loop, event, events | EPOLLET);
	return rc == -EPERM ? 0 : rc;
}

static int watch_streams(struct chardev *chardev)
{
	int rc;

	if (chardev->in == chardev->out)
		return watch(chardev, &chardev->in_event, chardev->in, EPOLLIN | EPOLLOUT);
	rc = watch(chardev, &chardev->in_event, chardev->in, EPOLLIN);
	return rc < 0 ? rc : watch(chardev, &chardev->out_event, chardev->out, EPOLLOUT);
}

static void on_input(struct event *event, uint32_t revents)
{
	struct chardev *chardev = container_of(event, struct chardev, in_event);

	(void)revents;
	chardev->ready(chardev->opaque);
}

static void on_output(struct event *event, uint32_t revents)
{
	struct chardev *chardev = container_of(event, struct chardev, out_event);

	(void)revents;
	chardev->ready(chardev->opaque);
}

static void hangup(struct chardev *chardev)
{
	if (chardev->loop)
		loop_del(chardev->loop, &chardev->in_event);
	chardev->in = chardev->out = -1;
	dup3(chardev->listen, chardev->peer, O_CLOEXEC);
}

/* Takes the connection over, or turns it away while there is another peer. */
static void greet(struct chardev *chardev, int fd)
{
	/* One that has left counts as gone, even if the guest never read what it sent. */
	if (chardev->in >= 0 && poll_fd(chardev->in, 0, 0) & (POLLHUP | POLLERR))
		hangup(chardev);
	if (chardev->in < 0 && dup3(fd, chardev->peer, O_CLOEXEC) >= 0) {
		chardev->in = chardev->out = chardev->peer;
		if (watch_streams(chardev) < 0)
			hangup(chardev);
	}
	close(fd);
}

static void on_connection(struct event *event, uint32_t revents)
{
	struct chardev *chardev = container_of(event, struct chardev, listen_event);
	int fd;

	(void)revents;
	while ((fd = accept4(chardev->listen, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
		greet(chardev, fd);
	chardev->ready(chardev->opaque);
}

int chardev_attach(struct chardev *chardev, struct loop *loop, void (*ready)(void *opaque),
		   void *opaque)
{
	int rc;

	chardev->loop = loop;
	chardev->ready = ready;
	chardev->opaque = opaque;
	chardev->in_event = (struct event){ .fd = -1, .fn = on_input };
	chardev->out_event = (struct event){ .fd = -1, .fn = on_output };
	chardev->listen_event = (struct event){ .fd = -1, .fn = on_connection };
	rc = watch_streams(chardev);
	return rc < 0 ? rc : watch(chardev, &chardev->listen_event, chardev->listen, EPOLLIN);
}

void chardev_detach(struct chardev *chardev)
{
	if (!chardev->loop)
		return;
	loop_del(chardev->loop, &chardev->in_event);
	loop_del(chardev->loop, &chardev->out_event);
	loop_del(chardev->loop, &chardev->listen_event);
	chardev->loop = NULL;
}

size_t chardev_fds(const struct chardev *chardev, int fds[CHARDEV_FDS_MAX])
{
	const int all[] = { chardev->in, chardev->out, chardev->listen, chardev->peer };
	size_t count = 0;

	static_assert(ARRAY_SIZE(all) <= CHARDEV_FDS_MAX, "fds holds all of them");
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (all[i] >= 0)
			fds[count++] = all[i];
	return count;
}

/*
 * Takes the escapes out of the len bytes at from, into to. That is the same
 * memory, one byte ahead: a Ctrl-A that was held back may have to go before them.
 */
static size_t filter_escapes(struct chardev *chardev, uint8_t *to, const uint8_t *from, size_t len,
			     enum chardev_escape *ret_escape)
{
	size_t kept = 0;

	for (size_t i = 0; i < len; i++) {
		uint8_t byte = from[i];
		bool escaped = chardev->escaped;

		chardev->escaped = byte == CTRL_A && !escaped;
		if (chardev->escaped)
			continue;
		if (escaped && (byte == 'x' || byte == 'X')) {
			*ret_escape = CHARDEV_ESCAPE_QUIT;
		} else if (escaped && (byte == 'c' || byte == 'C')) {
			*ret_escape = *ret_escape ? *ret_escape : CHARDEV_ESCAPE_STATUS;
		} else {
			if (escaped && byte != CTRL_A)
				to[kept++] = CTRL_A;
			to[kept++] = byte;
		}
	}
	return kept;
}

/* read() gave nothing: not now, or never again. */
static ssize_t no_input(struct chardev *chardev, int err)
{
	/* EIO: a process in the background of its terminal, or a pty that nobody has open. */
	if (err == EAGAIN || (err == EIO && isatty(chardev->in)))
		return 0;
	if (chardev->listen >= 0) {
		hangup(chardev);
		return 0;
	}
	if (chardev->loop && chardev->in != chardev->out)
		loop_del(chardev->loop, &chardev->in_event);
	chardev->ended = true;
	return err ? -err : -EPIPE;
}

static ssize_t read_some(struct chardev *chardev, void *buffer, size_t len)
{
	ssize_t n;

	if (chardev->ended)
		return -EPIPE;
	if (chardev->in < 0 || (chardev->shared_in && !poll_fd(chardev->in, POLLIN, 0)))
		return 0;
	do
		n = read(chardev->in, buffer, len);
	while (n < 0 && errno == EINTR);
	return n > 0 ? n : no_input(chardev, n < 0 ? errno : 0);
}

ssize_t chardev_read(struct chardev *chardev, void *buffer, size_t len,
		     enum chardev_escape *ret_escape)
{
	uint8_t *ahead = (uint8_t *)buffer + 1;
	size_t kept = 0;
	ssize_t n;

	*ret_escape = CHARDEV_ESCAPE_NONE;
	if (!chardev->terminal)
		return read_some(chardev, buffer, len);
	/* 0 would say that there is no more, so nothing but escapes is not enough. */
	while (kept == 0) {
		n = read_some(chardev, ahead, len - 1);
		if (n <= 0)
			return n;
		kept = filter_escapes(chardev, buffer, ahead, (size_t)n, ret_escape);
	}
	return (ssize_t)kept;
}

ssize_t chardev_write(struct chardev *chardev, const void *buffer, size_t len)
{
	ssize_t n;

	if (chardev->out < 0)
		return (ssize_t)len;
	if (chardev->pty && poll_fd(chardev->out, 0, 0) & POLLHUP)
		return (ssize_t)len;
	if (chardev->shared_out) {
		if (!poll_fd(chardev->out, POLLOUT, 0))
			return 0;
		len = util_min(len, PIPE_BUF);
	}
	do
		n = write(chardev->out, buffer, len);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return n;
	if (errno == EAGAIN)
		return 0;
	if (chardev->listen < 0)
		return -errno;
	/* The peer left; what it sent before may still be read. */
	chardev->out = -1;
	return (ssize_t)len;
}

bool chardev_wait(const struct chardev *chardev, int timeout_ms)
{
	return chardev->out < 0 || poll_fd(chardev->out, POLLOUT, timeout_ms);
}

int chardev_window(const struct chardev *chardev, uint16_t *ret_columns, uint16_t *ret_rows)
{
	struct winsize size;

	if (ioctl(chardev->out, TIOCGWINSZ, &size) < 0 &&
	    (!chardev->terminal || ioctl(chardev->in, TIOCGWINSZ, &size) < 0))
		return -ENOTTY;
	if (!size.ws_col || !size.ws_row)
		return -ENOTTY;
	*ret_columns = size.ws_col;
	*ret_rows = size.ws_row;
	return 0;
}
