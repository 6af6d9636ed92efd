// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <stdio.h>
#include "devices/vsock.h"

#define VSOCK_CONNECTIONS 1024
#define VSOCK_CONNECTIONS_MAX 16384
#define VSOCK_BUFFER KIB(256)

static int vsock_listen(struct vsock *vsock, struct vsock_listener *listener, const char *path)
{
	int r = vsock_host_listen(listener, path);

	return r < 0 ? r : worker_watch(&vsock->dev.workers[0], &listener->event, EPOLLIN | EPOLLET);
}

static int vsock_open_path(struct vsock *vsock, const char *path)
{
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
	struct vsock_host *host = &vsock->host;
	int len = snprintf(host->name, sizeof(host->name), "%s_4294967295", slash ? slash + 1 : path);

	if (!dir)
		return -ENOMEM;
	if (len >= (int)sizeof(host->name))
		return -ENAMETOOLONG;
	host->name[len - (int)strlen("_4294967295")] = '\0';
	if (!*host->name)
		return -EISDIR;
	vsock->dir = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (vsock->dir < 0)
		return -errno;
	vsock->dev.workers[0].cwd = vsock->dir;
	return vsock_listen(vsock, &host->stream, path);
}

int vsock_conf_open(struct vsock *vsock)
{
	const struct vsock_conf *conf = vsock->dev.conf;
	uint32_t count = conf->connections ? (uint32_t)conf->connections : VSOCK_CONNECTIONS;
	uint64_t buffer = conf->buffer ? conf->buffer : VSOCK_BUFFER;
	int r;

	/* Each connection is an fd. */
	(void)util_raise_fd_limit();
	r = vsock_table_init(&vsock->table, &vsock->dev.workers[0].loop, count, (uint32_t)buffer);
	if (r == 0 && conf->path)
		r = vsock_open_path(vsock, conf->path);
	if (r == 0 && conf->seqpacket)
		r = vsock_listen(vsock, &vsock->host.seqpacket, conf->seqpacket);
	return r;
}

void vsock_conf_close(struct vsock *vsock)
{
	const struct vsock_conf *conf = vsock->dev.conf;

	/* In the jail there are no such paths: whoever made the jail removes them then. */
	if (vsock->host.stream.event.fd >= 0)
		(void)unlinkat(AT_FDCWD, conf->path, 0);
	if (vsock->host.seqpacket.event.fd >= 0)
		(void)unlinkat(AT_FDCWD, conf->seqpacket, 0);
	vsock_host_free(&vsock->host);
	util_closep(&vsock->dir);
}

const struct opt vsock_opts[] = {
	{ .key = "cid", .type = OPT_UINT, .required = true, .min = VMADDR_CID_HOST + 1,
	  .max = VMADDR_CID_ANY - 1, .offset = offsetof(struct vsock_conf, cid), .arg = "N",
	  .help = "the guest's address, from 3 on" },
	{ .key = "path", .type = OPT_STRING, .one_of = true, .required = true, .made = true,
	  .offset = offsetof(struct vsock_conf, path), .arg = "PATH",
	  .help = "a UNIX socket to listen on; the guest's connections to port N go to PATH_N" },
	{ .key = "loop", .type = OPT_BOOL, .one_of = true, .required = true,
	  .offset = offsetof(struct vsock_conf, loop),
	  .help = "instead of path: what the guest connects to comes back to it" },
	{ .key = "vhost", .type = OPT_BOOL, .one_of = true, .required = true,
	  .offset = offsetof(struct vsock_conf, vhost),
	  .help = "instead of path: AF_VSOCK sockets of the host, by its kernel" },
	{ .key = "seqpacket", .type = OPT_STRING, .made = true,
	  .offset = offsetof(struct vsock_conf, seqpacket), .arg = "PATH",
	  .help = "a UNIX socket to listen on for SOCK_SEQPACKET" },
	{ .key = "connections", .type = OPT_UINT, .min = 2, .max = VSOCK_CONNECTIONS_MAX,
	  .offset = offsetof(struct vsock_conf, connections), .arg = "N",
	  .help = "how many at a time; 1024 unless given" },
	{ .key = "buffer", .type = OPT_SIZE, .min = 4096, .max = MIB(16),
	  .offset = offsetof(struct vsock_conf, buffer), .arg = "SIZE",
	  .help = "of each, for what the host does not read at once; 256K unless given" },
	VIRTIO_OPTS,
	{ 0 },
};

const struct hint vsock_hints[] = {
	{ EADDRINUSE, "another process has this socket, or another VM this cid: choose another one" },
	{ EEXIST, "the path is there and is not a socket: remove it or choose another" },
	{ EISDIR, "this is a directory: give the path of a socket in it" },
	{ ENOENT, "its directory does not exist: make it first" },
	{ ENOLINK, "/dev/vhost-vsock cannot be used: modprobe vhost_vsock and give this user access to "
		   "it, or give path=PATH" },
	{ EPROTONOSUPPORT, "this kernel's vhost-vsock does not know packed= or in-order=: leave them out, "
			   "or give path=PATH" },
	{ ESOCKTNOSUPPORT, "seqpacket=, connections= and buffer= are for path=PATH: leave them out" },
	{ ENAMETOOLONG, "the path is too long: with _ and a port it has 107 bytes at the most" },
	{ ENOMEM, "the host has not that much memory: use fewer connections, or smaller buffers" },
	{ 0 },
};
