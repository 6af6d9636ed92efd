// SPDX-License-Identifier: Apache-2.0
#include "devices/rng_egd.h"

#include <fcntl.h>

/* So many bytes, as soon as there are so many; they come without a header. */
#define EGD_READ_BLOCKING 2

static struct loop *egd_loop(const struct rng_egd *egd)
{
	return &egd->dev->workers[0].loop;
}

static void egd_lose(struct rng_egd *egd)
{
	loop_del(egd_loop(egd), &egd->event);
	/* The main thread has it open, too: closing ours would tell nobody. */
	(void)shutdown(egd->event.fd, SHUT_RDWR);
	egd->gone = true;
	if (egd->come < egd->asked)
		egd->asked = egd->come = 0;
	redial_ask(egd->door.fd);
	if (log_allowed(&egd->dev->complaints))
		log_warn("%s: the daemon is gone, the guest waits for entropy", egd->dev->name);
}

/* Takes what has come of the answer. -EAGAIN: that is not all; -ENOTCONN: nor will it be. */
static int egd_gather(struct rng_egd *egd)
{
	ssize_t n;

	while (egd->come < egd->asked) {
		n = read(egd->event.fd, egd->answer + egd->come, egd->asked - egd->come);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 && errno == EAGAIN ? -EAGAIN : -ENOTCONN;
		egd->come += (uint8_t)n;
	}
	return 0;
}

static int egd_ask(struct rng_egd *egd, size_t len)
{
	const uint8_t request[] = { EGD_READ_BLOCKING, (uint8_t)util_min(len, UINT8_MAX) };

	if (send(egd->event.fd, request, sizeof(request), MSG_NOSIGNAL) != sizeof(request))
		return -ENOTCONN;
	egd->asked = request[1];
	egd->come = egd->taken = 0;
	return 0;
}

ssize_t rng_egd_read(struct rng_egd *egd, void *buffer, size_t len)
{
	int r = 0;

	if (egd->taken == egd->asked) {
		if (egd->gone)
			return -ENOTCONN;
		r = egd_ask(egd, len);
	}
	if (!r)
		r = egd_gather(egd);
	if (r == -EAGAIN)
		loop_mod(egd_loop(egd), &egd->event, EPOLLIN);
	if (r == -ENOTCONN)
		egd_lose(egd);
	if (r < 0)
		return r;
	len = util_min(len, egd->asked - egd->taken);
	memcpy(buffer, egd->answer + egd->taken, len);
	egd->taken += (uint8_t)len;
	return (ssize_t)len;
}

static void egd_event(struct event *event, uint32_t revents)
{
	struct rng_egd *egd = container_of(event, struct rng_egd, event);
	/* What was sent before the end is an answer as well. */
	int r = egd_gather(egd);

	if (r == -ENOTCONN || revents & (EPOLLERR | EPOLLHUP))
		egd_lose(egd);
	else if (!r)
		loop_mod(egd_loop(egd), event, 0);
	if (r != -EAGAIN)
		virtio_kick(&egd->dev->queues[0]);
}

static void egd_return(struct event *event, uint32_t revents)
{
	struct rng_egd *egd = container_of(event, struct rng_egd, door);
	_cleanup_close_ int fd = -1;
	int r = redial_take(event->fd, &fd);

	(void)revents;
	if (r == -ECONNRESET)
		loop_del(egd_loop(egd), event);
	/* In the place of the last one: its number is what the main thread closes at the end. */
	if (r < 0 || !egd->gone || dup3(fd, egd->event.fd, O_CLOEXEC) < 0 ||
	    loop_add(egd_loop(egd), &egd->event, 0) < 0)
		return;
	egd->gone = false;
	if (log_allowed(&egd->dev->complaints))
		log_warn("%s: the daemon is back", egd->dev->name);
	virtio_kick(&egd->dev->queues[0]);
}

int rng_egd_open(struct rng_egd *egd, struct virtio_dev *dev, const char *path)
{
	int r;

	*egd = (struct rng_egd){
		.dev = dev,
		.event = { .fd = -1, .fn = egd_event },
		.door = { .fd = -1, .fn = egd_return },
	};
	r = redial_connect(path, &egd->event.fd);
	if (r < 0)
		return r;
	r = redial_start(redial_connect, path, &egd->door.fd);
	if (!r)
		r = worker_watch(&dev->workers[0], &egd->event, 0);
	return r < 0 ? r : worker_watch(&dev->workers[0], &egd->door, EPOLLIN);
}

void rng_egd_close(struct rng_egd *egd)
{
	if (!egd->dev)
		return;
	util_closep(&egd->event.fd);
	util_closep(&egd->door.fd);
}
