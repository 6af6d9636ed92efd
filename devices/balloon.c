// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-balloon (section 5.5): pages that the guest does without go back to
 * the host, those of the balloon (inflate) and those that are just free
 * (reporting). What is given back reads as zeroes when the guest takes it again;
 * it does not have to say so, except where the host's pages are larger than
 * the balloon's of 4 KiB: there all parts of one have to be in the balloon,
 * which a bitmap knows, and none may be used before it is told (MUST_TELL_HOST).
 *
 * Only RAM is given back: a number or a range that is anything else, such as
 * a window of files, is counted and ignored. What else uses a page meanwhile, a
 * disk or the rings themselves, finds zeroes, which the guest wanted so.
 *
 * Hints, too, name free pages, but the driver may use one again at any time,
 * before we see it named or after (section 5.5.6.5). So it is not given back:
 * the host's kernel is told that it is cold, which changes nothing in it. Then we need
 * no hint any more, and the driver has its pages back as soon as it has named all.
 *
 * The target is ours and outlives resets. The rest of the configuration is
 * what the driver says. madvise() is in the base set of system calls.
 */
#include "devices/balloon.h"

#include <linux/virtio_balloon.h>
#include "core/mem.h"
#include "devices/virtio/virtio.h"

#define BALLOON_PAGE (1u << VIRTIO_BALLOON_PFN_SHIFT)
#define BALLOON_BATCH 256
/* Of one list; drivers send 4 KiB at the most. More would keep resets waiting. */
#define BALLOON_LIST_MAX KIB(64)
/* Entries of a driver that knows more of them than we do. */
#define BALLOON_STATS_MAX 64

struct balloon_conf {
	struct virtio_conf virtio;
	uint64_t size;
	uint64_t stats; /* in seconds; 0: only when asked for */
	bool deflate_on_oom, reporting, hinting;
};

/* What a queue is for: its number, as the specification has it. */
enum balloon_role { BALLOON_INFLATE, BALLOON_DEFLATE, BALLOON_STATS, BALLOON_HINTS, BALLOON_REPORTS,
		    BALLOON_ROLES };

/* Where the host's pages are larger: what of each is in the balloon. */
struct balloon_gathered {
	uint64_t page;   /* the host's; 0: no larger than ours */
	uint64_t pages;
	uint32_t *count; /* of the balloon's in each of them */
	uint64_t *given; /* which these are: a bit each */
	uint64_t words;
};

struct balloon {
	struct virtio_dev dev;
	struct balloon_gathered gathered;
	uint32_t target; /* in pages */
	uint32_t command; /* free_page_hint_cmd_id: of the round of hints, or that there is none */
	uint32_t rounds;  /* their last number */
	bool hinting;     /* the driver has begun the round */
	uint32_t poison; /* what free pages are filled with, where it was agreed */
	struct chain *stats; /* the driver's buffer, until we want another */
	struct timer timer;
};

/* Those of statistics are as the driver says them, in the order of their tags. */
enum balloon_counter { BALLOON_TARGET, BALLOON_ACTUAL, BALLOON_RELEASED, BALLOON_REPORTED,
		       BALLOON_HINTED, BALLOON_ROUNDS, BALLOON_REFUSED, BALLOON_ERRORS, BALLOON_UPDATES, BALLOON_TAGS };

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

static struct balloon *balloon_of(struct virtio_dev *dev)
{
	return container_of(dev, struct balloon, dev);
}

/* One thread serves all queues, so that the first can count for them. */
static void balloon_count(struct balloon *balloon, unsigned int counter, uint64_t n)
{
	virtq_count(&balloon->dev.queues[0], counter, n);
}

/* Of counters that are no sums. */
static void balloon_show(struct balloon *balloon, unsigned int counter, uint64_t value)
{
	balloon_count(balloon, counter, value - virtq_counter(&balloon->dev.queues[0], counter));
}

/* ---- giving back ---- */

/* A range that grows as long as what comes touches it, so that one call is enough for it. */
struct balloon_run {
	struct balloon *balloon;
	enum balloon_counter counter;
	uint64_t gpa, len;
};

static void run_end(struct balloon_run *run)
{
	const struct mem *mem = run->balloon->dev.mem;
	ssize_t n = run->counter == BALLOON_HINTED ? mem_cool(mem, run->gpa, run->len) :
						     mem_discard(mem, run->gpa, run->len);

	balloon_count(run->balloon, n < 0 ? BALLOON_ERRORS : run->counter, n < 0 ? 1 : (uint64_t)n);
	run->len = 0;
}

/* Linux' balloon grows down as often as up. */
static void run_add(struct balloon_run *run, uint64_t gpa, uint64_t len)
{
	const bool below = gpa + len == run->gpa, above = run->gpa + run->len == gpa;

	if (!below && !above)
		run_end(run);
	if (!run->len || below)
		run->gpa = gpa;
	run->len += len;
}

/* ---- pages of the host's that are larger ---- */

static bool gathered_flip(struct balloon_gathered *gathered, uint64_t pfn, bool given)
{
	uint64_t *word = &gathered->given[pfn / 64];
	const uint64_t bit = 1ULL << pfn % 64;

	if (!!(*word & bit) == given)
		return false;
	*word ^= bit;
	return true;
}

static void gathered_add(struct balloon_run *run, uint64_t gpa)
{
	struct balloon_gathered *gathered = &run->balloon->gathered;
	const uint64_t page = gpa / gathered->page;

	/* Without the promise that we are told first, a part may be in use again. */
	if (!virtio_has(&run->balloon->dev, VIRTIO_BALLOON_F_MUST_TELL_HOST) ||
	    !gathered_flip(gathered, gpa / BALLOON_PAGE, true))
		return;
	if (++gathered->count[page] == gathered->page / BALLOON_PAGE)
		run_add(run, page * gathered->page, gathered->page);
}

static void gathered_remove(struct balloon_gathered *gathered, uint64_t gpa)
{
	if (gathered_flip(gathered, gpa / BALLOON_PAGE, false))
		gathered->count[gpa / gathered->page]--;
}

static int gathered_init(struct balloon_gathered *gathered, const struct mem *mem)
{
	const struct mem_region *last = &mem->regions[mem->count - 1];

	gathered->page = mem_page(mem);
	if (gathered->page <= BALLOON_PAGE) {
		gathered->page = 0;
		return 0;
	}
	gathered->pages = (last->gpa + last->len) / gathered->page + 1;
	gathered->words = gathered->pages * (gathered->page / BALLOON_PAGE) / 64 + 1;
	gathered->count = calloc(gathered->pages, sizeof(*gathered->count));
	gathered->given = calloc(gathered->words, sizeof(*gathered->given));
	return gathered->given && gathered->count ? 0 : -ENOMEM;
}

static void gathered_forget(struct balloon_gathered *gathered)
{
	if (!gathered->page)
		return;
	memset(gathered->count, 0, gathered->pages * sizeof(*gathered->count));
	memset(gathered->given, 0, gathered->words * sizeof(*gathered->given));
}

/* ---- queues: each of these serves a chain, and says what is wrong with it ---- */

static void take_page(struct balloon_run *run, enum balloon_role role, uint32_t pfn)
{
	const uint64_t gpa = (uint64_t)pfn << VIRTIO_BALLOON_PFN_SHIFT;
	struct balloon_gathered *gathered = &run->balloon->gathered;

	if (!mem_ptr(run->balloon->dev.mem, gpa, BALLOON_PAGE))
		balloon_count(run->balloon, BALLOON_REFUSED, 1);
	else if (role == BALLOON_DEFLATE && gathered->page)
		gathered_remove(gathered, gpa);
	else if (role == BALLOON_INFLATE && gathered->page)
		gathered_add(run, gpa);
	else if (role == BALLOON_INFLATE)
		run_add(run, gpa, BALLOON_PAGE);
}

static const char *take_list(struct balloon *balloon, enum balloon_role role, struct chain *chain)
{
	struct balloon_run run = { balloon, BALLOON_RELEASED, 0, 0 };
	uint32_t pfns[BALLOON_BATCH];
	size_t n;

	if (!chain->out.left || chain->out.left % sizeof(*pfns) || chain->out.left > BALLOON_LIST_MAX)
		return "a list of pages that is empty, too long, or ends within a number";
	while ((n = chain_pull(chain, pfns, sizeof(pfns))))
		for (size_t i = 0; i < n / sizeof(*pfns); i++)
			take_page(&run, role, pfns[i]);
	run_end(&run);
	return NULL;
}

static void take_stats(struct balloon *balloon, struct chain *chain)
{
	struct virtio_balloon_stat stat;

	for (unsigned int i = 0; i < BALLOON_STATS_MAX; i++) {
		if (chain_pull(chain, &stat, sizeof(stat)) < sizeof(stat))
			break;
		if (stat.tag < VIRTIO_BALLOON_S_NR)
			balloon_show(balloon, BALLOON_TAGS + stat.tag, stat.val);
	}
	balloon_count(balloon, BALLOON_UPDATES, 1);
}

/* Pages that are a chain's buffers. */
static void take_buffers(struct balloon *balloon, enum balloon_counter counter,
			 const struct chain *chain)
{
	struct balloon_run run = { balloon, counter, 0, 0 };

	for (unsigned int i = 0; i < chain->in.count; i++) {
		const struct iovec *iov = &chain->in.iov[i];
		uint64_t gpa;

		if (mem_gpa(balloon->dev.mem, iov->iov_base, &gpa))
			balloon_count(balloon, BALLOON_REFUSED, 1);
		else
			run_add(&run, gpa, iov->iov_len);
	}
	run_end(&run);
}

static const char *take_report(struct balloon *balloon, const struct chain *chain)
{
	if (!chain->in.left)
		return "a report without pages";
	/* If they were filled with something they are to stay so. */
	if (!virtio_has(&balloon->dev, VIRTIO_BALLOON_F_PAGE_POISON) || !balloon->poison)
		take_buffers(balloon, BALLOON_REPORTED, chain);
	return NULL;
}

static void balloon_command(struct balloon *balloon, uint32_t command)
{
	balloon->command = command;
	balloon->hinting = false;
	virtio_config_update(&balloon->dev,
			     offsetof(struct virtio_balloon_config, free_page_hint_cmd_id), &command,
			     sizeof(command));
}

/* The driver says of which round the pages are that follow, or that there are no more. */
static const char *take_command(struct balloon *balloon, struct chain *chain)
{
	uint32_t command;

	if (chain_pull(chain, &command, sizeof(command)) < sizeof(command))
		return "a command of hints that is too short";
	if (command == VIRTIO_BALLOON_CMD_ID_STOP && balloon->hinting) {
		balloon_command(balloon, VIRTIO_BALLOON_CMD_ID_DONE);
		balloon_count(balloon, BALLOON_ROUNDS, 1);
	}
	balloon->hinting = command > VIRTIO_BALLOON_CMD_ID_DONE && command == balloon->command;
	return NULL;
}

static const char *take_hint(struct balloon *balloon, struct chain *chain)
{
	const char *fault = chain->out.left ? take_command(balloon, chain) : NULL;

	if (balloon->hinting)
		take_buffers(balloon, BALLOON_HINTED, chain);
	return fault;
}

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

/* The buffer stays until it is wanted again; there is one at a time. */
static void balloon_hold(struct balloon *balloon, struct virtq *queue)
{
	const struct balloon_conf *conf = balloon->dev.conf;

	if (balloon->stats || !(balloon->stats = virtq_pop(queue)))
		return;
	take_stats(balloon, balloon->stats);
	if (conf->stats)
		timer_set(&balloon->timer, conf->stats * NS_PER_SEC);
}

static const char *take(struct balloon *balloon, enum balloon_role role, struct chain *chain)
{
	switch (role) {
	case BALLOON_HINTS:
		return take_hint(balloon, chain);
	case BALLOON_REPORTS:
		return take_report(balloon, chain);
	default:
		return take_list(balloon, role, chain);
	}
}

static void balloon_kick(struct virtio_dev *dev, struct virtq *queue)
{
	const enum balloon_role role = balloon_role(queue);
	struct balloon *balloon = balloon_of(dev);
	const char *fault = NULL;
	struct chain *chain;

	if (role == BALLOON_STATS)
		balloon_hold(balloon, queue);
	if (role == BALLOON_STATS || role == BALLOON_ROLES)
		return;
	while (!fault && (chain = virtq_pop(queue))) {
		fault = take(balloon, role, chain);
		if (!fault)
			virtq_done(queue, chain);
	}
	if (fault)
		virtio_fail(dev, "%s", fault);
}

/* The core puts the buffer back or forgets it. */
static void balloon_queue_stop(struct virtq *queue)
{
	struct balloon *balloon = balloon_of(queue->dev);

	if (balloon->stats && balloon->stats->queue == queue)
		balloon->stats = NULL;
}

/* ---- on request ---- */

static int balloon_request(void *arg)
{
	struct balloon *balloon = arg;
	struct chain *chain = balloon->stats;
	struct virtq *queue;

	if (!chain || virtio_failed(&balloon->dev))
		return -EAGAIN;
	balloon->stats = NULL;
	queue = chain->queue;
	virtq_done(queue, chain);
	virtio_kick(queue);
	return 0;
}

static void balloon_timer(struct timer *timer)
{
	(void)balloon_request(container_of(timer, struct balloon, timer));
}

int balloon_ask(struct virtio_dev *dev)
{
	return worker_call(&dev->workers[0], balloon_request, balloon_of(dev));
}

static int balloon_begin(void *arg)
{
	struct balloon *balloon = arg;
	struct virtio_dev *dev = &balloon->dev;

	if (!(atomic_load(&dev->status) & VIRTIO_CONFIG_S_DRIVER_OK) || virtio_failed(dev) ||
	    !virtio_has(dev, VIRTIO_BALLOON_F_FREE_PAGE_HINT))
		return -EAGAIN;
	/* Never the last one again. */
	if (++balloon->rounds <= VIRTIO_BALLOON_CMD_ID_DONE)
		balloon->rounds = VIRTIO_BALLOON_CMD_ID_DONE + 1;
	balloon_command(balloon, balloon->rounds);
	return 0;
}

int balloon_hint(struct virtio_dev *dev)
{
	return worker_call(&dev->workers[0], balloon_begin, balloon_of(dev));
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
	struct balloon *balloon = balloon_of(dev);

	if (balloon->command > VIRTIO_BALLOON_CMD_ID_DONE)
		balloon_command(balloon, VIRTIO_BALLOON_CMD_ID_DONE);
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
	gathered_forget(&balloon->gathered);
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
	balloon_set_target(balloon, (uint32_t)(conf->size / BALLOON_PAGE));
	r = gathered_init(&balloon->gathered, dev->mem);
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
	return conf->stats ? worker_timer(&dev->workers[0], &balloon->timer, balloon_timer) : 0;
}

static void balloon_free(struct virtio_dev *dev)
{
	struct balloon *balloon = balloon_of(dev);

	timer_free(&balloon->timer);
	free(balloon->gathered.given);
	free(balloon->gathered.count);
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
