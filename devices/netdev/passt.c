// SPDX-License-Identifier: Apache-2.0
/*
 * The user-mode network: passt, a program that turns a guest's frames into
 * sockets of the host, which takes no privilege. It has a sandbox and a user of
 * its own, and goes into the background when it is ready, so that a failure is
 * known before the guest runs. It ends when its socket does, and so with us; if
 * it ends before, another is started.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include "core/inet.h"
#include "core/redial.h"
#include "core/spawn.h"
#include "core/util.h"
#include "devices/netdev/netdev.h"

#define PASST_FORWARDS_MAX 32

/* A port of the host that leads to one of the guest's. */
struct passt_forward {
	bool udp;
	union inet_address host; /* its port included */
	char argument[INET6_ADDRSTRLEN + sizeof("/65535:65535")];
};

struct passt_forwards {
	struct passt_forward forward[PASST_FORWARDS_MAX];
	unsigned int count;
};

/* "tcp:[ADDRESS]:PORT-:PORT", the address of the guest being passt's to choose. */
static int passt_parse(const char *text, struct passt_forward *forward)
{
	char address[INET6_ADDRSTRLEN];
	uint16_t host, guest;
	int r;

	forward->udp = !strncmp(text, "udp:", 4);
	if (!forward->udp && strncmp(text, "tcp:", 4))
		return -EBADMSG;
	text += 4;
	r = inet_take_address(&text, address, &forward->host);
	if (!r)
		r = inet_take_port(&text, '-', &host);
	if (!r && *text++ != ':')
		r = -EBADMSG;
	if (!r)
		r = inet_take_port(&text, '\0', &guest);
	if (r)
		return r;
	inet_set_port(&forward->host, host);
	snprintf(forward->argument, sizeof(forward->argument), "%s%s%u:%u", address,
		 *address ? "/" : "", host, guest);
	return 0;
}

/* What stands between commas; NULL is nothing. */
static int passt_parse_all(const char *text, struct passt_forwards *forwards)
{
	_cleanup_free_ char *copy = text ? strdup(text) : NULL;
	char *rest = copy, *word;
	int r = 0;

	if (text && !copy)
		return -ENOMEM;
	while (!r && (word = strsep(&rest, ","))) {
		if (forwards->count == PASST_FORWARDS_MAX)
			return -E2BIG;
		r = passt_parse(word, &forwards->forward[forwards->count++]);
	}
	return r;
}

/* Whether passt will get the port: it would only say that it did not. */
static int passt_try_port(const struct passt_forward *forward)
{
	const union inet_address *host = &forward->host;
	_cleanup_close_ int fd = socket(host->any.sa_family,
					(forward->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
	const int on = 1;

	if (fd < 0)
		return -errno;
	/* As passt does: connections that are closing do not count. */
	if (!forward->udp)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, &host->any, sizeof(*host)) == 0)
		return 0;
	/* Ports that are not for everybody: passt tries by itself, it may have a capability. */
	return errno == EACCES ? 0 : -errno;
}

/* Runs it with fd for its only file; 0 when it is ready, and in the background. */
static int passt_run(const char *const *argv, int fd)
{
	pid_t pid;
	int status;
	/* It complains where there is no system logger, too. */
	int r = spawn_program(argv, fd, true, &pid);

	if (!r)
		r = spawn_wait(pid, &status);
	if (r)
		return r;
	/* How a spawn tells that there was nothing to run, where it could not before. */
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return -ENOPKG;
	return status ? -ENETUNREACH : 0;
}

/* What it is started with. */
struct passt_plan {
	struct passt_forwards forwards;
	uint16_t mtu;
};

static int passt_spawn(const struct passt_plan *plan, int fd)
{
	/* Without a word about ports there are none. */
	const char *argv[6 + 2 * PASST_FORWARDS_MAX + 1] = { "passt", "--quiet", "--fd", SPAWN_FD_TEXT };
	const struct passt_forwards *forwards = &plan->forwards;
	unsigned int count = 4;
	char mtu_text[sizeof("65535")];

	snprintf(mtu_text, sizeof(mtu_text), "%u", plan->mtu);
	if (plan->mtu) {
		argv[count++] = "--mtu";
		argv[count++] = mtu_text;
	}
	for (unsigned int i = 0; i < forwards->count; i++) {
		argv[count++] = forwards->forward[i].udp ? "--udp-ports" : "--tcp-ports";
		argv[count++] = forwards->forward[i].argument;
	}
	return passt_run(argv, fd);
}

/* A passt of ours; arg is a plan. */
static int passt_start(const void *arg, int *ret_fd)
{
	const struct passt_plan *plan = arg;
	_cleanup_close_ int ours = -1, its = -1;
	int r = 0, fds[2];

	for (unsigned int i = 0; !r && i < plan->forwards.count; i++)
		r = passt_try_port(&plan->forwards.forward[i]);
	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	ours = fds[0];
	its = fds[1];
	/* It waits for the rest of a frame. */
	if (fcntl(its, F_SETFL, 0) < 0)
		return -errno;
	r = passt_spawn(plan, its);
	if (!r)
		*ret_fd = util_steal_fd(&ours);
	return r;
}

/* One that runs already; arg is its path. */
static int passt_connect(const void *arg, int *ret_fd)
{
	int r = redial_connect(arg, ret_fd);

	return r < 0 && r != -ENAMETOOLONG ? -ECONNREFUSED : r;
}

/* The first of them, and whoever will open the next. */
static int passt_open(struct netdev *netdev, int (*open)(const void *arg, int *ret_fd), const void *arg)
{
	_cleanup_close_ int fd = -1, door = -1;
	int r = open(arg, &fd);

	if (!r)
		r = redial_start(open, arg, &door);
	if (!r)
		r = netdev_stream_open(netdev, "passt", fd);
	if (r < 0)
		return r;
	util_steal_fd(&fd);
	netdev->returns = true;
	netdev->door = util_steal_fd(&door);
	return 0;
}

int netdev_passt_start(struct netdev *netdev, const char *forwards, uint16_t mtu)
{
	struct passt_plan plan = { .mtu = mtu };
	int r = passt_parse_all(forwards, &plan.forwards);

	return r < 0 ? r : passt_open(netdev, passt_start, &plan);
}

int netdev_passt_join(struct netdev *netdev, const char *path)
{
	return passt_open(netdev, passt_connect, path);
}
