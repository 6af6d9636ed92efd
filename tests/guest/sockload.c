// SPDX-License-Identifier: Apache-2.0
/*
 * sockload connect|accept ADDRESS COUNT MAX SEED [SLOW]: COUNT connections at once. On each both ends send a
 * number of bytes up to MAX, which follow from a seed that goes ahead of them, and check what they get. The
 * first SLOW connections are not read from before all others are over.
 *
 * ADDRESS is vsock:CID:PORT, unix:PATH, or via:PATH:PORT, which is a port of the guest whose VM has the socket
 * PATH. Prints "sent BYTES SUM received BYTES SUM", where the sums are of all connections; the other end says
 * the same, the other way round.
 *
 * sockload connect|accept ADDRESS: one connection, which gets back what it sends.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CHUNK 16384
#define RETRIES 2000 /* of 10 ms */

struct head {
	uint32_t len, seed;
};

/* One direction of a connection: what is to come, and what came so far of it. */
struct flow {
	struct head head;
	uint32_t at;   /* of the head and len bytes */
	uint64_t next; /* of the generator */
	uint64_t sum;
	bool over;
};

struct conn {
	int fd;
	struct flow out, in;
};

struct total {
	uint64_t bytes, sum;
};

static uint8_t next_byte(struct flow *flow)
{
	if (!flow->next)
		flow->next = flow->head.seed * 0x9e3779b97f4a7c15ULL | 1;
	flow->next ^= flow->next << 13;
	flow->next ^= flow->next >> 7;
	flow->next ^= flow->next << 17;
	return (uint8_t)flow->next;
}

/* FNV-1a, with the seed, so that two connections cannot be mixed up. */
static void add(struct flow *flow, uint8_t byte)
{
	if (!flow->sum)
		flow->sum = 0xcbf29ce484222325 ^ flow->head.seed;
	flow->sum = (flow->sum ^ byte) * 0x100000001b3;
}

/* ---- addresses ---- */

static int vsock_socket(const char *text, struct sockaddr_vm *addr)
{
	*addr = (struct sockaddr_vm){ .svm_family = AF_VSOCK };
	if (sscanf(text, "%u:%u", &addr->svm_cid, &addr->svm_port) != 2)
		errx(1, "%s: not CID:PORT", text);
	return socket(AF_VSOCK, SOCK_STREAM, 0);
}

static int unix_socket(const char *path, struct sockaddr_un *addr)
{
	*addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
	snprintf(addr->sun_path, sizeof(addr->sun_path), "%s", path);
	return socket(AF_UNIX, SOCK_STREAM, 0);
}

/* The other end may not be there yet. */
static void persist(int fd, const void *addr, socklen_t len)
{
	for (int i = 0; connect(fd, addr, len) < 0; i++) {
		if (i == RETRIES)
			err(1, "connect");
		usleep(10000);
	}
}

/* False: nobody in the guest listens. */
static bool greet(int fd, const char *port)
{
	char byte = 0;

	dprintf(fd, "CONNECT %s\n", port);
	while (byte != '\n')
		if (read(fd, &byte, 1) != 1)
			return false;
	return true;
}

static int dial_by_path(const char *address)
{
	const char *port = strrchr(address, ':');
	struct sockaddr_un un;
	char path[108];
	int fd;

	snprintf(path, sizeof(path), "%.*s", (int)(port - address), address);
	for (int i = 0; i < RETRIES; i++) {
		fd = unix_socket(path, &un);
		persist(fd, &un, sizeof(un));
		if (greet(fd, port + 1))
			return fd;
		close(fd);
		usleep(10000);
	}
	errx(1, "the guest does not accept");
}

static int dial(const char *address)
{
	struct sockaddr_vm vm;
	struct sockaddr_un un;
	int fd;

	if (!strncmp(address, "via:", 4))
		return dial_by_path(address + 4);
	if (!strncmp(address, "vsock:", 6)) {
		fd = vsock_socket(address + 6, &vm);
		persist(fd, &vm, sizeof(vm));
	} else {
		fd = unix_socket(address + 5, &un);
		persist(fd, &un, sizeof(un));
	}
	return fd;
}

static int serve(const char *address)
{
	struct sockaddr_vm vm;
	struct sockaddr_un un;
	int fd, r;

	if (!strncmp(address, "vsock:", 6)) {
		fd = vsock_socket(address + 6, &vm);
		vm.svm_cid = VMADDR_CID_ANY;
		r = bind(fd, (struct sockaddr *)&vm, sizeof(vm));
	} else {
		fd = unix_socket(address + 5, &un);
		unlink(un.sun_path);
		r = bind(fd, (struct sockaddr *)&un, sizeof(un));
	}
	if (fd < 0 || r < 0 || listen(fd, 128) < 0)
		err(1, "%s", address);
	return fd;
}

/* ---- data ---- */

static void send_some(struct conn *conn)
{
	struct flow *out = &conn->out;
	uint8_t chunk[CHUNK];
	struct flow before = *out;
	uint32_t len = 0;
	ssize_t n;

	if (out->at < sizeof(out->head)) {
		n = write(conn->fd, (char *)&out->head + out->at, sizeof(out->head) - out->at);
	} else {
		while (len < CHUNK && out->at - sizeof(out->head) + len < out->head.len)
			chunk[len++] = next_byte(out);
		n = len ? write(conn->fd, chunk, len) : 0;
		/* The generator goes back to what was taken. */
		out->next = before.next;
		for (ssize_t i = 0; i < n; i++)
			add(out, next_byte(out));
	}
	if (n < 0 && errno != EAGAIN)
		err(1, "write");
	out->at += (uint32_t)(n > 0 ? n : 0);
	if (out->at == sizeof(out->head) + out->head.len) {
		out->over = true;
		shutdown(conn->fd, SHUT_WR);
	}
}

static void receive_some(struct conn *conn)
{
	struct flow *in = &conn->in;
	uint8_t chunk[CHUNK];
	ssize_t n;

	if (in->at < sizeof(in->head))
		n = read(conn->fd, (char *)&in->head + in->at, sizeof(in->head) - in->at);
	else
		n = read(conn->fd, chunk, sizeof(chunk));
	if (n < 0 && errno != EAGAIN)
		err(1, "read");
	for (ssize_t i = 0; in->at >= sizeof(in->head) && i < n; i++) {
		if (chunk[i] != next_byte(in))
			errx(1, "a byte is not what was sent");
		add(in, chunk[i]);
	}
	in->at += (uint32_t)(n > 0 ? n : 0);
	if (n == 0) {
		if (in->at != sizeof(in->head) + in->head.len)
			errx(1, "%u bytes instead of %u", in->at, in->head.len);
		in->over = true;
	}
}

/* Moves data until connections from first on are over; those before it are not read from. */
static void run(struct conn *conns, unsigned int first, unsigned int count)
{
	struct pollfd *fds = calloc(count, sizeof(*fds));
	unsigned int left;

	do {
		left = 0;
		for (unsigned int i = 0; i < count; i++) {
			const struct conn *conn = &conns[i];

			fds[i].events = (short)((conn->out.over ? 0 : POLLOUT) |
						(conn->in.over || i < first ? 0 : POLLIN));
			fds[i].fd = fds[i].events ? conn->fd : -1;
			left += i >= first && fds[i].events;
		}
		if (left && poll(fds, count, -1) < 0)
			err(1, "poll");
		for (unsigned int i = 0; left && i < count; i++) {
			if (fds[i].fd < 0)
				continue;
			if (fds[i].events & POLLOUT && fds[i].revents & ~POLLIN)
				send_some(&conns[i]);
			if (fds[i].events & POLLIN && fds[i].revents & ~POLLOUT)
				receive_some(&conns[i]);
		}
	} while (left);
	free(fds);
}

static int echo(int fd)
{
	char chunk[CHUNK];
	ssize_t n;

	while ((n = read(fd, chunk, sizeof(chunk))) > 0)
		for (ssize_t at = 0, done; at < n; at += done)
			if ((done = write(fd, chunk + at, (size_t)(n - at))) < 0)
				err(1, "write");
	close(fd);
	return n < 0;
}

int main(int argc, char **argv)
{
	const struct rlimit files = { 65536, 65536 };
	struct total sent = { 0 }, received = { 0 };
	unsigned int count, slow;
	struct conn *conns;
	int listener = -1;

	if (argc != 3 && argc < 6)
		errx(1, "usage: sockload connect|accept ADDRESS [COUNT MAX SEED [SLOW]]");
	signal(SIGPIPE, SIG_IGN);
	if (!strcmp(argv[1], "accept"))
		listener = serve(argv[2]);
	if (argc == 3)
		return echo(listener < 0 ? dial(argv[2]) : accept(listener, NULL, NULL));
	(void)setrlimit(RLIMIT_NOFILE, &files);
	count = (unsigned int)atoi(argv[3]);
	slow = argc > 6 ? (unsigned int)atoi(argv[6]) : 0;
	srandom((unsigned int)atoi(argv[5]));
	conns = calloc(count, sizeof(*conns));
	for (unsigned int i = 0; i < count; i++) {
		conns[i].fd = listener < 0 ? dial(argv[2]) : accept(listener, NULL, NULL);
		if (conns[i].fd < 0 || fcntl(conns[i].fd, F_SETFL, O_NONBLOCK) < 0)
			err(1, "connection %u", i);
		conns[i].out.head.len = (uint32_t)random() % ((uint32_t)atoi(argv[4]) + 1);
		conns[i].out.head.seed = (uint32_t)random();
	}
	/* All of them are there at once; then the slow ones. */
	run(conns, slow, count);
	run(conns, 0, count);
	for (unsigned int i = 0; i < count; i++) {
		sent.bytes += conns[i].out.head.len;
		sent.sum += conns[i].out.sum;
		received.bytes += conns[i].in.head.len;
		received.sum += conns[i].in.sum;
		close(conns[i].fd);
	}
	printf("sent %ju %jx received %ju %jx\n", (uintmax_t)sent.bytes, (uintmax_t)sent.sum,
	       (uintmax_t)received.bytes, (uintmax_t)received.sum);
	return 0;
}
