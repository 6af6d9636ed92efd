// SPDX-License-Identifier: Apache-2.0
/*
 * Two streams side by side, each with a buffer: a side that is slow stops the
 * stream towards it and not the other one. The end of standard input is passed
 * on, and what the guest answers to it still comes. The command is over when
 * the guest has sent all.
 */
#include "vmm/vsock.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
#include "core/log.h"
#include "core/opt.h"
#include "core/usock.h"
#include "core/util.h"

static const struct hint connect_hints[] = {
	{ ENOENT, "there is no such socket: give the path of a VM's --vsock" },
	{ ECONNREFUSED, "its VM has ended" },
	{ EAGAIN, "too many wait for this VM: try again" },
	{ EPROTOTYPE, "it is a socket of another type: give the path of a VM's --vsock" },
	{ ENAMETOOLONG, "the path is too long: a UNIX socket's has 107 bytes at the most" },
	{ 0 },
};

static const struct hint listen_hints[] = {
	{ EADDRINUSE, "another process listens there: choose another port" },
	{ EEXIST, "the path is there and is not a socket: remove it or choose another" },
	{ ENOENT, "its directory does not exist" },
	{ ENAMETOOLONG, "the path is too long: a UNIX socket's has 107 bytes at the most" },
	{ 0 },
};

struct stream {
	int from, to;
	size_t max; /* bytes that a write which poll() promised cannot block for */
	size_t at, len;
	bool ended; /* nothing more will be read, or nobody takes it */
	char data[65536];
};

static int fail(const char *what, const char *reason)
{
	log_error("%s: %s", what, reason);
	return EXIT_FAILURE;
}

static void await(int fd, short events)
{
	struct pollfd poll_fd = { .fd = fd, .events = events };

	while (poll(&poll_fd, 1, -1) < 0 && errno == EINTR)
		;
}

/* ---- the two streams ---- */

static bool is_over(const struct stream *stream)
{
	return stream->ended && stream->at == stream->len;
}

/* What it waits for; an fd below 0 is not looked at. */
static struct pollfd wait_for(const struct stream *stream)
{
	if (stream->at < stream->len)
		return (struct pollfd){ .fd = stream->to, .events = POLLOUT };
	return (struct pollfd){ .fd = stream->ended ? -1 : stream->from, .events = POLLIN };
}

/* -errno, where it is not just a matter of time. */
static int move(struct stream *stream)
{
	ssize_t n;

	if (stream->at < stream->len) {
		n = write(stream->to, stream->data + stream->at,
			  util_min(stream->len - stream->at, stream->max));
		if (n > 0)
			stream->at += (size_t)n;
	} else {
		n = read(stream->from, stream->data, sizeof(stream->data));
		stream->ended = n == 0;
		stream->at = 0;
		stream->len = n > 0 ? (size_t)n : 0;
	}
	return n < 0 && errno != EAGAIN && errno != EINTR ? -errno : 0;
}

/* Towards the guest, which may have done with it earlier than we. */
static int move_out(struct stream *out)
{
	int err = move(out);

	if (err == -EPIPE || err == -ECONNRESET) {
		out->ended = true;
		out->at = out->len;
		return 0;
	}
	if (is_over(out))
		shutdown(out->to, SHUT_WR);
	return err;
}

static int exchange(struct stream *out, struct stream *in)
{
	int err = 0;

	while (!err && !is_over(in)) {
		struct pollfd fds[] = { wait_for(out), wait_for(in) };

		if (poll(fds, ARRAY_SIZE(fds), -1) < 0) {
			err = errno == EINTR ? 0 : -errno;
			continue;
		}
		if (fds[0].revents)
			err = move_out(out);
		if (!err && fds[1].revents)
			err = move(in);
	}
	return err;
}

static int talk(const char *path, int fd)
{
	struct stream *streams = calloc(2, sizeof(*streams));
	int err = -ENOMEM;

	if (streams) {
		streams[0].from = STDIN_FILENO;
		streams[0].to = fd;
		streams[0].max = SIZE_MAX;
		streams[1].from = fd;
		streams[1].to = STDOUT_FILENO;
		streams[1].max = PIPE_BUF;
		err = exchange(&streams[0], &streams[1]);
	}
	free(streams);
	return err ? fail(path, strerror(-err)) : EXIT_SUCCESS;
}

/* ---- connections ---- */

/* The answer's first line; what is behind it is the guest's. False when there is none. */
static bool is_accepted(int fd)
{
	char line[32] = "";

	for (size_t len = 0; len < sizeof(line) - 1; len++) {
		ssize_t n;

		await(fd, POLLIN);
		n = read(fd, line + len, 1);
		if (n <= 0)
			return false;
		if (line[len] == '\n')
			return !strncmp(line, "OK ", 3);
	}
	return false;
}

static int connect_to_guest(const char *path, uint32_t port)
{
	_cleanup_close_ int fd = -1;
	int err = usock_connect(path, SOCK_STREAM, &fd);

	if (err)
		return fail(path, hint_find(connect_hints, err));
	if (dprintf(fd, "CONNECT %u\n", port) < 0 || !is_accepted(fd))
		return fail(path, "nobody in the guest listens at this port");
	return talk(path, fd);
}

static int accept_from_guest(const char *path, uint32_t port)
{
	_cleanup_close_ int listener = -1, fd = -1;
	char name[USOCK_PATH_MAX + sizeof("_4294967295")];
	int err;

	snprintf(name, sizeof(name), "%.*s_%u", USOCK_PATH_MAX, path, port);
	err = usock_listen(name, SOCK_STREAM, 1, &listener);
	if (err)
		return fail(name, hint_find(listen_hints, err));
	await(listener, POLLIN);
	fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	err = fd < 0 ? errno : 0;
	unlink(name);
	return err ? fail(name, strerror(err)) : talk(name, fd);
}

/* ---- words ---- */

static const char help[] =
	"microvm vsock PATH PORT [--listen]: standard input and output at a port of the guest\n"
	"\n"
	"Connects to PORT in the guest whose --vsock has this path; with --listen it\n"
	"waits for one connection from the guest to PORT of the host instead. The end of\n"
	"standard input is passed on; the command ends when the guest has sent all. The\n"
	"exit status is 0 then, and 1 when there was no connection or it broke.\n";

int vsock_run(int count, char *const *words)
{
	const char *path = NULL, *port = NULL;
	bool listens = false;
	char *rest;
	unsigned long long number;

	for (int i = 0; i < count; i++) {
		if (!strcmp(words[i], "--help") || !strcmp(words[i], "-h")) {
			fputs(help, stdout);
			return EXIT_SUCCESS;
		}
		if (!strcmp(words[i], "--listen"))
			listens = true;
		else if (!strncmp(words[i], "--", 2) || port)
			return fail(words[i], "microvm vsock takes PATH PORT [--listen]");
		else if (!path)
			path = words[i];
		else
			port = words[i];
	}
	if (!port)
		return fail("vsock", "give a path and a port: microvm vsock PATH PORT [--listen]");
	number = strtoull(port, &rest, 10);
	if (*port < '0' || *port > '9' || *rest || number >= UINT32_MAX)
		return fail(port, "a port is a number below 4294967295");
	/* The guest may have done with what we send. */
	signal(SIGPIPE, SIG_IGN);
	return listens ? accept_from_guest(path, (uint32_t)number) :
			 connect_to_guest(path, (uint32_t)number);
}
