// SPDX-License-Identifier: Apache-2.0
/*
 * Watching is edge-triggered: data that the guest has no room for stays where
 * it is without waking anybody, a pty that nobody has open does not spin, and
 * no call is spent on arming. epoll refuses files that are always ready, which
 * is as good: reading and writing those never gives 0.
 *
 * A worker has an fd table of its own, so a peer that it accepted would have a
 * number that means something else to the thread that closes the chardev. One
 * number is set aside when the socket is opened, and peers are moved onto it.
 * In between it is one more fd of the door.
 */
#include "core/chardev.h"

#include <assert.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include "core/chardev_stdio.h"
#include "core/usock.h"

#define CTRL_A 1

const struct opt chardev_opts[] = {
	CHARDEV_OPTS(0),
	{ 0 },
};

const struct hint chardev_hints[] = {
	CHARDEV_HINTS,
	{ 0 },
};

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
	chardev->door = util_steal_fd(&fd);
	return 0;
}

/* A confined thread has no paths: when the peer has left, a process outside connects again. */
static int open_connection(struct chardev *chardev, const char *path)
{
	_cleanup_close_ int fd = -1;
	int rc = redial_connect(path, &fd);

	if (rc == 0)
		rc = redial_start(redial_connect, path, &chardev->door);
	if (rc < 0)
		return rc;
	chardev->dials = true;
	chardev->peers = 1;
	chardev->in = chardev->out = chardev->peer = util_steal_fd(&fd);
	return 0;
}

int chardev_open(struct chardev *chardev, const struct chardev_conf *conf)
{
	int named = conf->stdio + conf->pty + conf->none + !!conf->file + !!conf->socket +
		    !!conf->connect;

	*chardev = (struct chardev){ .in = -1, .out = -1, .door = -1, .peer = -1 };
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
	if (conf->connect)
		return open_connection(chardev, conf->connect);
	if (!conf->none)
		return chardev_stdio_open(chardev);
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
	chardev_stdio_close(chardev);
	if (chardev->door <= 0)
		close_own(chardev->in);
	if (chardev->out != chardev->in)
		close_own(chardev->out);
	close_own(chardev->peer);
	close_own(chardev->door);
	/* In the jail there is no such path: whoever made the jail removes it then. */
	if (chardev->door > 0 && !chardev->dials)
		(void)unlinkat(AT_FDCWD, chardev->path, 0);
	*chardev = (struct chardev){ .in = -1, .out = -1, .door = -1, .peer = -1, .ended = true };
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

/* For the next peer, once: when this one takes nothing any more, or is gone. */
static void ask(struct chardev *chardev)
{
	if (chardev->dials && !chardev->asked)
		redial_ask(chardev->door);
	chardev->asked = true;
}

static void hangup(struct chardev *chardev)
{
	if (chardev->loop)
		loop_del(chardev->loop, &chardev->in_event);
	/* Other threads may have copies of it: closing ours would tell nobody. */
	(void)shutdown(chardev->peer, SHUT_RDWR);
	chardev->in = chardev->out = -1;
	dup3(chardev->door, chardev->peer, O_CLOEXEC);
	ask(chardev);
}

/* Takes the connection over, or turns it away while there is another peer. */
static void greet(struct chardev *chardev, int fd)
{
	/* One that has left counts as gone, even if the guest never read what it sent. */
	if (chardev->in >= 0 &&
	    (chardev->dials || poll_fd(chardev->in, 0, 0) & (POLLHUP | POLLERR)))
		hangup(chardev);
	chardev->asked = false;
	if (chardev->in < 0 && dup3(fd, chardev->peer, O_CLOEXEC) >= 0) {
		chardev->in = chardev->out = chardev->peer;
		chardev->peers++;
		if (watch_streams(chardev) < 0)
			hangup(chardev);
	}
	close(fd);
}

static int next_peer(const struct chardev *chardev, int *ret_fd)
{
	int fd;

	if (chardev->dials)
		return redial_take(chardev->door, ret_fd);
	fd = accept4(chardev->door, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

static void on_door(struct event *event, uint32_t revents)
{
	struct chardev *chardev = container_of(event, struct chardev, door_event);
	int fd = -1, rc = next_peer(chardev, &fd);

	(void)revents;
	if (rc == 0) {
		greet(chardev, fd);
		/* The next one when others on this thread had their turn: someone may come without end. */
		(void)loop_mod(chardev->loop, event, EPOLLIN | EPOLLET);
	}
	/* Who would have connected is gone. */
	if (rc == -ECONNRESET && chardev->dials)
		loop_del(chardev->loop, event);
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
	chardev->door_event = (struct event){ .fd = -1, .fn = on_door };
	rc = watch_streams(chardev);
	return rc < 0 ? rc : watch(chardev, &chardev->door_event, chardev->door, EPOLLIN);
}

void chardev_detach(struct chardev *chardev)
{
	if (!chardev->loop)
		return;
	loop_del(chardev->loop, &chardev->in_event);
	loop_del(chardev->loop, &chardev->out_event);
	loop_del(chardev->loop, &chardev->door_event);
	chardev->loop = NULL;
}

size_t chardev_fds(const struct chardev *chardev, int fds[CHARDEV_FDS_MAX])
{
	const int all[] = { chardev->in, chardev->out, chardev->door, chardev->peer };
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
	if (chardev->door >= 0) {
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
	int err;

	if (chardev->ended)
		return -EPIPE;
	if (chardev->in < 0 || (chardev->shared_in && !poll_fd(chardev->in, POLLIN, 0)))
		return 0;
	do
		n = read(chardev->in, buffer, len);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		return n;
	err = n < 0 ? errno : 0;
	return err == EFAULT ? -EFAULT : no_input(chardev, err);
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

	chardev->unheard = chardev->out < 0 ? chardev->door >= 0 :
			   chardev->pty && poll_fd(chardev->out, 0, 0) & POLLHUP;
	if (chardev->out < 0 || chardev->unheard)
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
	if (chardev->door < 0 || errno == EFAULT)
		return -errno;
	/* The peer left; what it sent before may still be read, until the next one is there. */
	chardev->out = -1;
	chardev->unheard = true;
	ask(chardev);
	return (ssize_t)len;
}

void chardev_hang_up(struct chardev *chardev)
{
	if (chardev->door >= 0 && chardev->in >= 0)
		hangup(chardev);
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
