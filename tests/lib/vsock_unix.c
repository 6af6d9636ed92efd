// SPDX-License-Identifier: Apache-2.0
/*
 * Instead of AF_VSOCK on the host: UNIX sockets in the dialect of --vsock, for a program that is linked with
 * --wrap=socket, bind, connect and accept. $VSOCK_PATH is the VM's path=, and the same with ".seqpacket" its seqpacket=.
 */
#include <errno.h>
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int __real_socket(int domain, int type, int protocol);
int __real_bind(int fd, const struct sockaddr *addr, socklen_t len);
int __real_connect(int fd, const struct sockaddr *addr, socklen_t len);
int __real_accept(int fd, struct sockaddr *addr, socklen_t *len);

static int option(int fd, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	(void)getsockopt(fd, SOL_SOCKET, name, &value, &len);
	return value;
}

static struct sockaddr_un place(const char *end)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	snprintf(un.sun_path, sizeof(un.sun_path), "%s%s", getenv("VSOCK_PATH"), end);
	return un;
}

static unsigned int port(const struct sockaddr *addr)
{
	return ((const struct sockaddr_vm *)addr)->svm_port;
}

int __wrap_socket(int domain, int type, int protocol)
{
	return __real_socket(domain == AF_VSOCK ? AF_UNIX : domain, type, protocol);
}

int __wrap_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	struct sockaddr_un un;
	char end[16];

	if (addr->sa_family != AF_VSOCK)
		return __real_bind(fd, addr, len);
	snprintf(end, sizeof(end), "_%u", port(addr));
	un = place(end);
	unlink(un.sun_path);
	return __real_bind(fd, (struct sockaddr *)&un, sizeof(un));
}

int __wrap_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	const int messages = option(fd, SO_TYPE) == SOCK_SEQPACKET;
	struct sockaddr_un un;
	char line[32] = "";
	ssize_t n;

	if (addr->sa_family != AF_VSOCK)
		return __real_connect(fd, addr, len);
	un = place(messages ? ".seqpacket" : "");
	if (__real_connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0)
		return -1;
	dprintf(fd, "CONNECT %u\n", port(addr));
	/* What is behind the line is the caller's. */
	do
		n = read(fd, line, messages ? sizeof(line) : 1);
	while (n > 0 && line[n - 1] != '\n');
	if (n > 0)
		return 0;
	errno = ECONNRESET;
	return -1;
}

int __wrap_accept(int fd, struct sockaddr *addr, socklen_t *len)
{
	const struct sockaddr_vm peer = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY };

	if (option(fd, SO_DOMAIN) != AF_UNIX)
		return __real_accept(fd, addr, len);
	*(struct sockaddr_vm *)addr = peer;
	return __real_accept(fd, NULL, NULL);
}
