// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-balloon (section 5.5): pages that the guest does without go back to
 * the host, those of the balloon (inflate) and those that are just free
 * (reporting).
 *
 * The target is ours and outlives resets. The rest of the configuration is
 * what the driver says.
 */
#include "core/mem.h"
#include "devices/balloon_device.h"

/* Linux reports so many at once, and takes no balloon at all whose ring is smaller (PAGE_REPORTING_CAPACITY). */
#define BALLOON_REPORTS_MIN 32
/* Lists; then whoever calls the worker has a turn: one may be 16384 calls of the kernel. */
#define BALLOON_TURN_CHAINS 8

static const char *const balloon_counters[] = {
	[BALLOON_TARGET] = "target",
	[BALLOON_ACTUAL] = "actual",
	[BALLOON_RELEASED] = "released",
	[BALLOON_REPORTED] = "reported",
	[BALLOON_HINTED] = "hinted",
	[BALLOON_ROUNDS] = "hint_rounds",
	[BALLOON_REFUSED] = "refused",
	[BALLOON_ERRORS] = "errors",
	[BALLOON_UPDATES] = "stats_updates",
	[BALLOON_TAGS + VIRTIO_BALLOON_S_SWAP_IN] = "swap_in",
	[BALLOON_TAGS + VIRTIO_BALLOON_S_SWAP_OUT] = "swap_out",
	[BALLOON_TAGS + VIRTIO_BALLOON_S_MAJFLT] = "major_faults",
	[BALLOON_TAGS + VIRTIO_BALLOON_S_MINFLT] = "minor_faults",
	[BALLOON_TAGS + VIRTIO_BALLOON_S_MEMFREE] = "free_memory",
	[BALLOON_TAGS + VIRTIO_BALLOON_S_MEMTOT] = "total_memory",
	[BALLOON_TAGS + VIRTIO_BALLOON_S_AVAIL] = "available_memory",
	[BALLOON_TAGS + VIRTIO_BALLOON_S_CACHES] = "disk_caches",
	[BALLOON_TAGS + VIRTIO_BALLOON_S_HTLB_PGALLOC] = "hugetlb_allocations",
	[BALLOON_TAGS + VIRTIO_BALLOON_S_HTLB_PGFAIL] = "hugetlb_failures",
	NULL,
};

/*
 * Linux numbers the queues that are agreed on, the specification all that there can be. The two differ
 * where one is missing before another; a number that is too high for Linux is the specification's.
 */
static enum balloon_role balloon_role(const struct virtq *queue)
{
	static const unsigned int features[BALLOON_ROLES] = {
		[BALLOON_STATS] = VIRTIO_BALLOON_F_STATS_VQ,
		[BALLOON_HINTS] = VIRTIO_BALLOON_F_FREE_PAGE_HINT,
		[BALLOON_REPORTS] = VIRTIO_BALLOON_F_REPORTING,
	};
	unsigned int number = BALLOON_STATS;

	for (unsigned int role = BALLOON_STATS; role < BALLOON_ROLES; role++)
		if (virtio_has(queue->dev, features[role]) && number++ == queue->index)
			return role;
	if (queue->index >= BALLOON_STATS && !virtio_has(queue->dev, features[queue->index]))
		return BALLOON_ROLES;
	return queue->index;
}

static const char *balloon_take(struct balloon *balloon, enum balloon_role role, struct chain *chain)
{
	switch (role) {
	case BALLOON_HINTS:
		return balloon_take_hint(balloon, chain);
	case BALLOON_REPORTS:
		return balloon_take_report(balloon, chain);
	default:
		return balloon_take_list(balloon, role, chain);
	}
}

static void balloon_kick(struct virtio_dev *dev, struct virtq *queue)
{
	const enum balloon_role role = balloon_role(queue);
	struct balloon *balloon = balloon_of(dev);
	const char *fault;

	if (role == BALLOON_STATS)
		balloon_stats_kick(balloon, queue);
	if (role == BALLOON_STATS || role == BALLOON_ROLES)
		return;
	for (unsigned int i = 0; i < BALLOON_TURN_CHAINS; i++) {
		struct chain *chain = virtq_pop(queue);

		if (!chain)
			return;
		fault = balloon_take(balloon, role, chain);
		if (fault) {
			virtio_fail(dev, "%s", fault);
			return;
		}
		virtq_done(queue, chain);
	}
	util_signal(queue->kick.fd);
}

static void balloon_queue_stop(struct virtq *queue)
{
	balloon_stats_stop(balloon_of(queue->dev), queue);
}

/* ---- configuration ---- */

static uint32_t balloon_max(const struct balloon *balloon)
{
	return (uint32_t)util_min(mem_size(balloon->dev.mem) / BALLOON_PAGE, UINT32_MAX);
}

/* Reads what the driver says, and puts back what is not its own to write. */
static void balloon_config_write(struct virtio_dev *dev, uint32_t offset, uint32_t len)
{
	struct balloon *balloon = balloon_of(dev);
	struct virtio_balloon_config config;

	(void)offset, (void)len;
	pthread_mutex_lock(&dev->config_lock);
	memcpy(&config, dev->config, sizeof(config));
	config.num_pages = balloon->target;
	config.free_page_hint_cmd_id = balloon->command;
	memcpy(dev->config, &config, sizeof(config));
	pthread_mutex_unlock(&dev->config_lock);
	balloon->poison = config.poison_val;
	balloon_show(balloon, BALLOON_ACTUAL, (uint64_t)config.actual * BALLOON_PAGE);
}

static void balloon_set_target(struct balloon *balloon, uint32_t pages)
{
	balloon->target = pages;
	balloon_show(balloon, BALLOON_TARGET, (uint64_t)pages * BALLOON_PAGE);
	virtio_config_update(&balloon->dev, offsetof(struct virtio_balloon_config, num_pages), &pages,
			     sizeof(pages));
}

struct balloon_target {
	struct balloon *balloon;
	uint32_t pages;
};

static int balloon_retarget(void *arg)
{
	const struct balloon_target *target = arg;

	balloon_set_target(target->balloon, target->pages);
	return 0;
}

int balloon_resize(struct virtio_dev *dev, uint64_t bytes)
{
	struct balloon *balloon = balloon_of(dev);
	struct balloon_target target = { balloon, (uint32_t)(bytes / BALLOON_PAGE) };

	if (bytes / BALLOON_PAGE > balloon_max(balloon))
		return -ERANGE;
	return worker_call(&dev->workers[0], balloon_retarget, &target);
}

/* ---- life ---- */

/* A round that was on when the device was paused or saved is over: the driver may have its pages back. */
static int balloon_start(struct virtio_dev *dev)
{
	balloon_hints_end(balloon_of(dev));
	return 0;
}

/* The driver has forgotten what it gave; what it is to give stays. */
static void balloon_reset(struct virtio_dev *dev)
{
	struct balloon *balloon = balloon_of(dev);

	pthread_mutex_lock(&dev->config_lock);
	memset(dev->config, 0, sizeof(struct virtio_balloon_config));
	pthread_mutex_unlock(&dev->config_lock);
	balloon->command = VIRTIO_BALLOON_CMD_ID_STOP;
	balloon->hinting = false;
	balloon_config_write(dev, 0, 0);
	balloon_gathered_forget(&balloon->gathered);
}

/* What was gathered is not saved: a larger page of which a part was in the balloon is not given back later. */
static int balloon_load(struct virtio_dev *dev)
{
	struct balloon *balloon = balloon_of(dev);
	struct virtio_balloon_config config;

	memcpy(&config, dev->config, sizeof(config));
	if (config.num_pages > balloon_max(balloon))
		return -EINVAL;
	balloon->target = config.num_pages;
	balloon->command = balloon->rounds = config.free_page_hint_cmd_id;
	balloon_show(balloon, BALLOON_TARGET, (uint64_t)config.num_pages * BALLOON_PAGE);
	balloon_config_write(dev, 0, 0);
	return 0;
}

static int balloon_init(struct virtio_dev *dev)
{
	struct balloon *balloon = balloon_of(dev);
	const struct balloon_conf *conf = dev->conf;
	int r;

	if (conf->size / BALLOON_PAGE > balloon_max(balloon))
		return -ERANGE;
	if (conf->reporting && conf->virtio.queue_size && conf->virtio.queue_size < BALLOON_REPORTS_MIN)
		return -ENOSPC;
	balloon_set_target(balloon, (uint32_t)(conf->size / BALLOON_PAGE));
	r = balloon_gathered_init(&balloon->gathered, dev->mem);
	if (r < 0)
		return r;
	if (!balloon->gathered.page)
		virtio_withhold(dev, VIRTIO_BALLOON_F_MUST_TELL_HOST);
	if (!conf->deflate_on_oom)
		virtio_withhold(dev, VIRTIO_BALLOON_F_DEFLATE_ON_OOM);
	if (!conf->reporting) {
		virtio_withhold(dev, VIRTIO_BALLOON_F_REPORTING);
		virtio_withhold(dev, VIRTIO_BALLOON_F_PAGE_POISON);
	}
	if (!conf->hinting)
		virtio_withhold(dev, VIRTIO_BALLOON_F_FREE_PAGE_HINT);
	return conf->stats ? balloon_stats_init(balloon) : 0;
}

static void balloon_free(struct virtio_dev *dev)
{
	struct balloon *balloon = balloon_of(dev);

	timer_free(&balloon->timer);
	balloon_gathered_free(&balloon->gathered);
}

static const struct opt balloon_opts[] = {
	{ .key = "size", .type = OPT_SIZE, .bare = true,
	  .offset = offsetof(struct balloon_conf, size), .arg = "BYTES",
	  .help = "what the guest is to give back at first; 0 unless given" },
	{ .key = "deflate-on-oom", .type = OPT_BOOL,
	  .offset = offsetof(struct balloon_conf, deflate_on_oom),
	  .help = "the guest may take it again before it kills a process for want of memory" },
	{ .key = "reporting", .type = OPT_BOOL, .offset = offsetof(struct balloon_conf, reporting),
	  .help = "the guest gives back all that is free, by and by" },
	{ .key = "hinting", .type = OPT_BOOL, .offset = offsetof(struct balloon_conf, hinting),
	  .help = "the guest names what is free when it is asked to" },
	{ .key = "stats", .type = OPT_UINT, .min = 1, .max = 86400,
	  .offset = offsetof(struct balloon_conf, stats), .arg = "SECONDS",
	  .help = "ask the guest for statistics of its memory so often; only once unless given" },
	VIRTIO_OPTS,
	{ 0 },
};

static const struct hint balloon_hints[] = {
	{ ERANGE, "size= is more than the guest has: give less than --memory" },
	{ ENOSPC, "reporting takes rings of 32 entries or more: give a larger queue-size=, or leave it out" },
	{ 0 },
};

const struct virtio_class balloon_class = {
	.name = "balloon",
	.option = "balloon",
	.summary = "a balloon, by which the guest gives back memory",
	.sample = "deflate-on-oom,reporting,hinting",
	.id = VIRTIO_ID_BALLOON,
	.pci_class = 0xff0000,
	.queue_sizes = (const uint16_t[BALLOON_ROLES]){ 128, 128, 16, 128, 128 },
	.queue_count = BALLOON_ROLES,
	.features = 1ULL << VIRTIO_BALLOON_F_MUST_TELL_HOST | 1ULL << VIRTIO_BALLOON_F_STATS_VQ |
		    1ULL << VIRTIO_BALLOON_F_DEFLATE_ON_OOM |
		    1ULL << VIRTIO_BALLOON_F_FREE_PAGE_HINT |
		    1ULL << VIRTIO_BALLOON_F_PAGE_POISON | 1ULL << VIRTIO_BALLOON_F_REPORTING,
	.config_size = sizeof(struct virtio_balloon_config),
	.dev_size = sizeof(struct balloon),
	.opts = balloon_opts,
	.conf_size = sizeof(struct balloon_conf),
	.hints = balloon_hints,
	.counters = balloon_counters,
	.max = 1,
	.init = balloon_init,
	.start = balloon_start,
	.kick = balloon_kick,
	.queue_stop = balloon_queue_stop,
	.config_write = balloon_config_write,
	.reset = balloon_reset,
	.load = balloon_load,
	.free = balloon_free,
};
