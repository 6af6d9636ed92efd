// SPDX-License-Identifier: Apache-2.0
/*
 *	talk serve: in a guest, TCP's and vsock's port 5000.
 *	talk send|receive|ping MS: measures a connection to it, its standard
 *	input, and prints bytes (of ping: round trips of one) and nanoseconds.
 *
 * What a connection is for is its first byte. Sent is what the guest says that
 * it has; received counts from the first data on.
 */
#include <err.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PORT 5000
#define CHUNK 131072

static char chunk[CHUNK];

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* What there is; 0: no more. */
static size_t take(int fd, size_t max)
{
	ssize_t n = read(fd, chunk, max);

	return n < 0 ? 0 : (size_t)n;
}

static bool give(int fd, size_t len)
{
	return write(fd, chunk, len) > 0;
}

/* ---- the guest ---- */

static void serve_connection(int fd)
{
	uint64_t total = 0;
	size_t n;

	if (!take(fd, 1))
		return;
	switch (chunk[0]) {
	case 's':
		while ((n = take(fd, CHUNK)))
			total += n;
		if (write(fd, &total, sizeof(total)) < 0)
			warn("write");
		break;
	case 'r':
		while (give(fd, CHUNK))
			;
		break;
	case 'p':
		while (take(fd, 1) && give(fd, 1))
			;
		break;
	}
}

/* -1: a guest may have no vsock. */
static int listen_at(const void *address, socklen_t len)
{
	int fd = socket(((const struct sockaddr *)address)->sa_family, SOCK_STREAM, 0);

	return fd < 0 || bind(fd, address, len) < 0 || listen(fd, 8) < 0 ? -1 : fd;
}

static void serve(void)
{
	const struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	const struct sockaddr_vm vm = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = PORT,
	};
	const int tcp = listen_at(&in, sizeof(in)), vsock = listen_at(&vm, sizeof(vm));
	int listener, fd;

	signal(SIGPIPE, SIG_IGN);
	/* Now the host may connect. */
	if (write(1, "=\n", 2) < 0)
		err(1, "write");
	listener = fork() ? tcp : vsock;
	while ((fd = accept(listener, NULL, NULL)) >= 0) {
		serve_connection(fd);
		close(fd);
	}
}

/* ---- the host ---- */

static uint64_t send_until(uint64_t end)
{
	uint64_t total = 0;

	while (now() < end)
		if (!give(0, CHUNK))
			err(1, "write");
	shutdown(0, SHUT_WR);
	for (size_t at = 0; at < sizeof(total);) {
		ssize_t n = read(0, (char *)&total + at, sizeof(total) - at);

		if (n <= 0)
			errx(1, "the guest did not say what it got");
		at += (size_t)n;
	}
	return total;
}

static uint64_t receive_until(uint64_t end)
{
	uint64_t total = 0;

	while (now() < end)
		total += take(0, CHUNK);
	return total;
}

static uint64_t ping_until(uint64_t end)
{
	uint64_t count = 0;

	for (; now() < end; count++)
		if (!give(0, 1) || !take(0, 1))
			errx(1, "the guest does not answer");
	return count;
}

static void measure(char what, uint64_t ns)
{
	uint64_t start, count;

	chunk[0] = what;
	if (!give(0, 1))
		err(1, "write");
	if (what == 'r' && !take(0, CHUNK))
		errx(1, "the guest sends nothing");
	start = now();
	count = what == 's' ? send_until(start + ns) :
		what == 'r' ? receive_until(start + ns) :
			      ping_until(start + ns);
	printf("%ju %ju\n", (uintmax_t)count, (uintmax_t)(now() - start));
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "serve"))
		serve();
	else if (argc == 3 && strchr("srp", argv[1][0]))
		measure(argv[1][0], strtoull(argv[2], NULL, 0) * 1000000);
	else
		errx(1, "usage: talk serve | talk send|receive|ping MS");
	return 0;
}
