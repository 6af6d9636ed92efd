// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-rng (section 5.4): entropy from the kernel, from a character device
 * such as /dev/hwrng, or from a daemon. A request for which there is no entropy
 * now, or none left of the rate, stays in the ring; the timer or the source
 * brings us back to it.
 */
#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include "core/bucket.h"
#include "devices/rng_egd.h"

#define RNG_QUEUE_SIZE 64
#define RNG_REQUEST_MAX KIB(64)
#define RNG_RETRY_NS NS_PER_SEC

struct rng_conf {
	struct virtio_conf virtio;
	char *source, *egd;
	uint64_t rate;
	uint64_t max_bytes, period; /* in ms; 0: a second */
};

struct rng {
	struct virtio_dev dev;
	struct bucket bucket;
	struct timer timer;
	struct event source; /* fd -1: the kernel's generator, or a daemon */
	bool pollable;
	struct rng_egd egd;
};

enum rng_counter { RNG_BYTES, RNG_REQUESTS, RNG_THROTTLED, RNG_ERRORS };

static const char *const rng_counters[] = {
	[RNG_BYTES] = "bytes",
	[RNG_REQUESTS] = "requests",
	[RNG_THROTTLED] = "throttled",
	[RNG_ERRORS] = "errors",
	NULL,
};

static struct virtq *rng_queue(const struct rng *rng)
{
	return &rng->dev.queues[0];
}

static ssize_t rng_read(struct rng *rng, void *buffer, size_t len)
{
	ssize_t n;

	if (rng->egd.dev)
		return rng_egd_read(&rng->egd, buffer, len);
	n = rng->source.fd < 0 ? getrandom(buffer, len, 0) : read(rng->source.fd, buffer, len);
	return n < 0 ? -errno : n;
}

/* Fills at most len bytes of the chain. What stopped it is in *ret_error: 0, or an -errno. */
static size_t rng_fill(struct rng *rng, struct cursor *in, size_t len, int *ret_error)
{
	size_t filled = 0;
	ssize_t n;

	*ret_error = 0;
	while (filled < len) {
		n = rng_read(rng, in->iov->iov_base, util_min(in->iov->iov_len, len - filled));
		if (n == -EINTR)
			continue;
		if (n <= 0) {
			*ret_error = n < 0 ? (int)n : -EIO;
			break;
		}
		cursor_advance(in, (size_t)n);
		filled += (size_t)n;
	}
	return filled;
}

/*
 * A source that has nothing now is waited for; a daemon's answer announces itself.
 * One that fails or ends is asked again after a while: a guest that waits for entropy
 * is better off than one that gets none without knowing.
 */
static void rng_source_dry(struct rng *rng, int error)
{
	if (error == -EAGAIN && rng->egd.dev)
		return;
	if (error == -EAGAIN && rng->pollable) {
		loop_mod(&rng->dev.workers[0].loop, &rng->source, EPOLLIN);
		return;
	}
	virtq_count(rng_queue(rng), RNG_ERRORS, 1);
	timer_set(&rng->timer, RNG_RETRY_NS);
}

/*
 * How much of the request to serve now, or 0. That is all of it, as far as the
 * bucket could ever give it: Linux 6.1 loses track of what is left of a reply
 * that is shorter than its buffer, and then waits without having asked.
 */
static uint64_t rng_grant(struct rng *rng, uint64_t want)
{
	struct bucket *bucket = &rng->bucket;
	uint64_t granted, wait_ns;

	want = util_min(want, RNG_REQUEST_MAX);
	if (bucket->rate)
		want = util_min(want, bucket->burst);
	granted = bucket_take(bucket, want, util_now_ns(), &wait_ns);
	if (granted == want)
		return want;
	bucket_give(bucket, granted);
	virtq_count(rng_queue(rng), RNG_THROTTLED, 1);
	timer_set(&rng->timer, (want - granted) * NS_PER_SEC / bucket->rate + 1);
	return 0;
}

/* Returns false when the chain was put back. */
static bool rng_serve(struct rng *rng, struct virtq *queue, struct chain *chain)
{
	uint64_t granted = rng_grant(rng, chain->in.left);
	size_t filled;
	int error;

	if (granted == 0) {
		virtq_unpop(queue, chain);
		return false;
	}
	filled = rng_fill(rng, &chain->in, granted, &error);
	bucket_give(&rng->bucket, granted - filled);
	if (filled == 0) {
		virtq_unpop(queue, chain);
		rng_source_dry(rng, error);
		return false;
	}
	virtq_count(rng_queue(rng), RNG_BYTES, filled);
	virtq_count(rng_queue(rng), RNG_REQUESTS, 1);
	virtq_done(queue, chain);
	return true;
}

static void rng_kick(struct virtio_dev *dev, struct virtq *queue)
{
	struct rng *rng = container_of(dev, struct rng, dev);
	struct chain *chain;

	while ((chain = virtq_pop(queue))) {
		if (!chain->in.left) {
			virtio_fail(dev, "a request without room for entropy");
			return;
		}
		if (!rng_serve(rng, queue, chain))
			return;
	}
}

static void rng_timer(struct timer *timer)
{
	virtio_kick(rng_queue(container_of(timer, struct rng, timer)));
}

static void rng_source(struct event *event, uint32_t revents)
{
	struct rng *rng = container_of(event, struct rng, source);

	/* A source that was hung up would wake us for ever. */
	if (revents & (EPOLLERR | EPOLLHUP)) {
		loop_del(&rng->dev.workers[0].loop, event);
		rng->pollable = false;
	} else {
		loop_mod(&rng->dev.workers[0].loop, event, 0);
	}
	virtio_kick(rng_queue(rng));
}

static int rng_open_source(struct rng *rng, const char *path)
{
	struct stat st;
	int r;

	rng->source.fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (rng->source.fd < 0)
		return -errno;
	if (fstat(rng->source.fd, &st) < 0)
		return -errno;
	/* A file would give the same bytes to every run, and end. */
	if (!S_ISCHR(st.st_mode))
		return -EINVAL;
	r = worker_keep_fd(&rng->dev.workers[0], rng->source.fd);
	if (r < 0)
		return r;
	/* Devices that never block, such as /dev/urandom before Linux 5.19, cannot be polled. */
	r = loop_add(&rng->dev.workers[0].loop, &rng->source, 0);
	rng->pollable = r == 0;
	return r == -EPERM ? 0 : r;
}

/* max_bytes in each period is a burst of as many, and their rate. */
static int rng_limit(struct rng *rng, const struct rng_conf *conf)
{
	const uint64_t period = conf->period ? conf->period : 1000;
	uint64_t rate = conf->rate;

	if ((conf->max_bytes && conf->rate) || (conf->period && !conf->max_bytes))
		return -ENOMSG;
	if (conf->max_bytes)
		rate = conf->max_bytes * 1000 / period;
	if (conf->max_bytes && !rate)
		return -ERANGE;
	bucket_init(&rng->bucket, rate, conf->max_bytes, util_now_ns());
	return 0;
}

static int rng_init(struct virtio_dev *dev)
{
	struct rng *rng = container_of(dev, struct rng, dev);
	const struct rng_conf *rng_conf = dev->conf;
	int r;

	rng->source = (struct event){ .fd = -1, .fn = rng_source };
	r = rng_limit(rng, rng_conf);
	if (r < 0)
		return r;
	if (rng_conf->source)
		r = rng_open_source(rng, rng_conf->source);
	if (rng_conf->egd)
		r = rng_egd_open(&rng->egd, dev, rng_conf->egd);
	if (r < 0)
		return r;
	/* The kernel's generator is never dry. */
	if (!rng->bucket.rate && !rng_conf->source && !rng_conf->egd)
		return 0;
	return worker_timer(&dev->workers[0], &rng->timer, rng_timer);
}

static void rng_free(struct virtio_dev *dev)
{
	struct rng *rng = container_of(dev, struct rng, dev);

	rng_egd_close(&rng->egd);
	timer_free(&rng->timer);
	util_closep(&rng->source.fd);
}

static const struct opt rng_opts[] = {
	{ .key = "source", .type = OPT_STRING, .bare = true, .one_of = true,
	  .offset = offsetof(struct rng_conf, source), .arg = "PATH",
	  .help = "a character device instead of the kernel's generator" },
	{ .key = "egd", .type = OPT_STRING, .one_of = true, .offset = offsetof(struct rng_conf, egd),
	  .arg = "PATH", .help = "a daemon at a UNIX socket, by EGD's protocol" },
	{ .key = "rate", .type = OPT_SIZE, .offset = offsetof(struct rng_conf, rate),
	  .arg = "BYTES", .help = "bytes per second at the most" },
	{ .key = "max-bytes", .type = OPT_SIZE, .max = 1ULL << 50,
	  .offset = offsetof(struct rng_conf, max_bytes), .arg = "BYTES",
	  .help = "instead of rate: bytes in each period at the most" },
	{ .key = "period", .type = OPT_UINT, .min = 1, .max = 3600000,
	  .offset = offsetof(struct rng_conf, period), .arg = "MS",
	  .help = "max-bytes: the period in milliseconds; 1000 unless given" },
	VIRTIO_OPTS,
	{ 0 },
};

static const struct hint rng_hints[] = {
	{ ENOMSG, "give rate=, or max-bytes= with or without period=" },
	{ ERANGE, "max-bytes= is less than a byte in a second: give more, or a shorter period" },
	{ EINVAL, "not a character device: give one such as /dev/hwrng, or leave source out" },
	{ EACCES, "not readable: run as a user who may read it, or leave source out" },
	{ ECONNREFUSED, "nobody listens there: start the daemon first, such as egd, prngd or ekeyd" },
	{ EPROTOTYPE, "not a stream socket: give the one where the daemon listens" },
	{ ENAMETOOLONG, "the path is too long: a UNIX socket's has 107 bytes at the most" },
	{ 0 },
};

static const struct sandbox rng_sandbox = SANDBOX(SC(getrandom), RNG_EGD_CALLS);

const struct virtio_class rng_class = {
	.name = "rng",
	.option = "rng",
	.summary = "a source of entropy",
	.sample = "",
	.id = VIRTIO_ID_RNG,
	.pci_class = 0xff0000,
	.queue_sizes = (const uint16_t[]){ RNG_QUEUE_SIZE },
	.queue_count = 1,
	.dev_size = sizeof(struct rng),
	.opts = rng_opts,
	.conf_size = sizeof(struct rng_conf),
	.hints = rng_hints,
	.counters = rng_counters,
	.sandbox = &rng_sandbox,
	.max = 1,
	.by_default = true,
	.init = rng_init,
	.kick = rng_kick,
	.free = rng_free,
};
