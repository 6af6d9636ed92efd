// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <sys/socket.h>
#include "core/util.h"
#include "devices/vsock/vsock.h"

/* Programs that wait to be accepted; the kernel may allow fewer. */
#define BACKLOG 1024

static int socket_type(uint16_t type)
{
	return type == VIRTIO_VSOCK_TYPE_SEQPACKET ? SOCK_SEQPACKET : SOCK_STREAM;
}

/* ---- from the host ---- */

/* "CONNECT port"; -EINVAL. */
static int read_line(const char *line, uint32_t *ret_port)
{
	static const char command[] = "CONNECT ";
	unsigned long long port;
	char *rest;

	if (strncmp(line, command, strlen(command)) != 0)
		return -EINVAL;
	line += strlen(command);
	if (*line < '0' || *line > '9')
		return -EINVAL;
	port = strtoull(line, &rest, 10);
	if (port > UINT32_MAX || (*rest && strcmp(rest, "\r")))
		return -EINVAL;
	*ret_port = (uint32_t)port;
	return 0;
}

static void ask_guest(struct vsock_conn *conn)
{
	uint32_t port;

	conn->line[conn->line_len - (conn->line[conn->line_len - 1] == '\n')] = '\0';
	if (read_line(conn->line, &port) < 0) {
		vsock_conn_reset(conn);
		return;
	}
	conn->greeted = true;
	vsock_table_hash_new(conn, port);
	vsock_conn_request(conn);
}

void vsock_host_greet(struct vsock_conn *conn)
{
	const bool message = conn->type == VIRTIO_VSOCK_TYPE_SEQPACKET;
	const uint32_t max = VSOCK_LINE_MAX - 1;
	char *line = conn->line;

	while (conn->line_len < max) {
		/* What follows the line is for the guest. */
		ssize_t n = read(conn->event.fd, line + conn->line_len, message ? max : 1);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0)
			break;
		conn->line_len += (uint32_t)n;
		if (message || line[conn->line_len - 1] == '\n') {
			ask_guest(conn);
			return;
		}
	}
	vsock_conn_reset(conn);
}

static void accept_from(struct vsock_listener *listener)
{
	struct vsock_host *host = listener->host;
	struct vsock_conn *conn;
	int fd;

	while (vsock_table_has_room(host->table)) {
		fd = accept4(listener->event.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0) {
			/* No fds are left, say. */
			host->stalled |= errno != EAGAIN;
			return;
		}
		conn = vsock_table_open(host->table, listener->type);
		if (vsock_conn_attach(conn, fd) < 0)
			vsock_conn_reset(conn);
		else
			vsock_host_greet(conn);
		vsock_table_settle(conn);
	}
	host->stalled = true;
}

void vsock_host_accept(struct vsock_host *host)
{
	if (!host->open)
		return;
	host->stalled = false;
	if (host->stream.event.fd >= 0)
		accept_from(&host->stream);
	if (host->seqpacket.event.fd >= 0)
		accept_from(&host->seqpacket);
}

static void on_listener(struct event *event, uint32_t revents)
{
	struct vsock_host *host = container_of(event, struct vsock_listener, event)->host;

	(void)revents;
	vsock_host_accept(host);
	host->table->changed(host->table->opaque);
}

/* ---- to the host ---- */

/* The guest is its own peer. */
static int loop_back(struct vsock_host *host, struct vsock_conn *conn)
{
	struct vsock_conn *peer;
	int fds[2], rc;

	if (socketpair(AF_UNIX, socket_type(conn->type) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	rc = vsock_conn_attach(conn, fds[0]);
	peer = rc < 0 ? NULL : vsock_table_open(host->table, conn->type);
	if (!peer) {
		close(fds[1]);
		return rc < 0 ? rc : -ENOSPC;
	}
	rc = vsock_conn_attach(peer, fds[1]);
	if (rc < 0) {
		vsock_conn_reset(peer);
	} else {
		vsock_table_hash_new(peer, conn->host_port);
		vsock_conn_request(peer);
	}
	vsock_table_settle(peer);
	return rc;
}

int vsock_host_connect(struct vsock_host *host, struct vsock_conn *conn)
{
	char path[USOCK_PATH_MAX + sizeof("_4294967295")];
	int fd, rc;

	if (!*host->name)
		return loop_back(host, conn);
	snprintf(path, sizeof(path), "%s_%u", host->name, conn->host_port);
	rc = usock_connect(path, socket_type(conn->type), &fd);
	return rc < 0 ? rc : vsock_conn_attach(conn, fd);
}

/* ---- life ---- */

void vsock_host_init(struct vsock_host *host, struct vsock_table *table)
{
	const struct event none = { .fd = -1, .fn = on_listener };

	*host = (struct vsock_host){
		.table = table,
		.stream = { host, none, VIRTIO_VSOCK_TYPE_STREAM },
		.seqpacket = { host, none, VIRTIO_VSOCK_TYPE_SEQPACKET },
	};
}

int vsock_host_listen(struct vsock_listener *listener, const char *path)
{
	return usock_listen(path, socket_type(listener->type), BACKLOG, &listener->event.fd);
}

void vsock_host_free(struct vsock_host *host)
{
	util_closep(&host->stream.event.fd);
	util_closep(&host->seqpacket.event.fd);
}
