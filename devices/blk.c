// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-blk (section 5.2). A request lives in its chain's slot while the
 * engine works on it; data moves between the file and the guest's own buffers.
 * What a kick brought goes to the kernel in large batches, and what completed at
 * once (the page cache had it) is returned within the same turn.
 *
 * Each queue has an engine of its own, which nobody but the queue's worker
 * touches. They share the open file and nothing else, and a flush is of the
 * file: it covers what any queue has returned before.
 *
 * A request that failed may be kept until a person has mended the host
 * (werror, rerror): its queue takes no others until then. A queue that is
 * stopped for another reason returns them with their error after all.
 */
#include <assert.h>
#include <endian.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <linux/virtio_blk.h>
#include "devices/block/block.h"
#include "devices/virtio/virtio.h"

#define BLK_QUEUE_SIZE 256
/* The rest of a chain is for header and status, and for buffers that lie across regions of memory. */
#define BLK_SEG_MAX (CHAIN_IOV_MAX - 24)
/*
 * VIRTIO_BLK_F_SIZE_MAX is not offered: a segment is an iovec, which may be as long as the
 * guest's memory, so a limit could only make drivers cut up what the host takes in one piece.
 */

/* Of one range: a queue waits for as long as the host takes for it. */
#define BLK_RANGE_SECTORS (GIB(2) / BLOCK_SECTOR)

struct blk_conf {
	struct virtio_conf virtio;
	struct block_conf block;
	char *serial;
};

struct blk_queue {
	struct block_queue io;
	struct virtq *virtq;
	struct event completion;
	struct timer timer; /* until the limit allows the next request */
	struct blk_request *stopped; /* those that wait for a person */
};

struct blk {
	struct virtio_dev dev;
	struct block_disk disk;
	_Atomic uint64_t sectors;
	_Atomic bool writeback;
	struct blk_queue queues[VIRTIO_SETS_MAX];
};

struct blk_request {
	struct block_request io;
	struct chain *chain;
	struct blk_request *next; /* of those that were stopped */
};

enum blk_counter {
	BLK_READS,
	BLK_WRITES,
	BLK_FLUSHES,
	BLK_DISCARDS,
	BLK_ZEROES,
	BLK_ERASES,
	BLK_READ_BYTES,
	BLK_WRITTEN_BYTES,
	BLK_ERRORS,
	BLK_THROTTLED,
	BLK_STOPS,
};

/* They come in the order of the operations. */
static_assert(BLK_READS == (int)BLOCK_READ && BLK_FLUSHES == (int)BLOCK_FLUSH &&
	      BLK_DISCARDS == (int)BLOCK_DISCARD && BLK_ERASES == (int)BLOCK_ERASE, "a counter each");

static const char *const blk_counters[] = {
	[BLK_READS] = "reads",
	[BLK_WRITES] = "writes",
	[BLK_FLUSHES] = "flushes",
	[BLK_DISCARDS] = "discards",
	[BLK_ZEROES] = "write_zeroes",
	[BLK_ERASES] = "secure_erases",
	[BLK_READ_BYTES] = "read_bytes",
	[BLK_WRITTEN_BYTES] = "written_bytes",
	[BLK_ERRORS] = "errors",
	[BLK_THROTTLED] = "throttled",
	[BLK_STOPS] = "stops",
	NULL,
};

static void blk_reply(struct chain *chain, uint8_t status)
{
	if (status != VIRTIO_BLK_S_OK)
		virtq_count(chain->queue, BLK_ERRORS, 1);
	chain_push_tail(chain, &status, sizeof(status));
	virtq_done(chain->queue, chain);
}

static struct blk_queue *blk_queue_of(const struct virtq *queue)
{
	struct blk *blk = container_of(queue->dev, struct blk, dev);

	return &blk->queues[queue->index];
}

/* The request waits for a person, who is told once. */
static void blk_stop(struct blk_queue *queue, struct blk_request *request, int error)
{
	struct virtio_dev *dev = queue->virtq->dev;

	if (!queue->stopped) {
		virtq_count(queue->virtq, BLK_STOPS, 1);
		if (log_allowed(&dev->complaints))
			log_warn("%s: stopped until it is told to go on: the host's disk failed: %s",
				 dev->name, strerror(-error));
	}
	request->next = queue->stopped;
	queue->stopped = request;
}

static void blk_done(struct block_request *io, int result)
{
	struct blk_request *request = container_of(io, struct blk_request, io);
	struct chain *chain = request->chain;
	struct virtq *queue = chain->queue;
	struct blk *blk = container_of(queue->dev, struct blk, dev);

	if (result < 0) {
		if (block_disk_stops(&blk->disk, io, result))
			blk_stop(blk_queue_of(queue), request, result);
		else
			blk_reply(chain, VIRTIO_BLK_S_IOERR);
		return;
	}
	virtq_count(queue, (unsigned int)io->op, 1);
	if (io->op == BLOCK_READ) {
		cursor_advance(&chain->in, io->len);
		virtq_count(queue, BLK_READ_BYTES, io->len);
	} else if (io->op == BLOCK_WRITE) {
		virtq_count(queue, BLK_WRITTEN_BYTES, io->len);
	}
	blk_reply(chain, VIRTIO_BLK_S_OK);
}

static void blk_submit(struct chain *chain, const struct block_request *io)
{
	struct blk_request *request = chain_request(chain);

	*request = (struct blk_request){ .io = *io, .chain = chain };
	request->io.done = blk_done;
	block_queue_submit(&blk_queue_of(chain->queue)->io, &request->io);
}

/* A driver that never flushes expects a write-through disk (5.2.6.2). */
static bool blk_durable(const struct blk *blk)
{
	return !virtio_has(&blk->dev, VIRTIO_BLK_F_FLUSH) ||
	       !atomic_load_explicit(&blk->writeback, memory_order_relaxed);
}

static bool blk_within(const struct blk *blk, uint64_t sector, uint64_t count)
{
	return util_within(sector, count,
			   atomic_load_explicit(&blk->sectors, memory_order_relaxed));
}

static void blk_transfer(struct blk *blk, struct chain *chain, enum block_op op, uint64_t sector)
{
	const struct cursor *data = op == BLOCK_READ ? &chain->in : &chain->out;
	uint64_t sectors = data->left / BLOCK_SECTOR;

	if (sectors == 0 || data->left % BLOCK_SECTOR ||
	    !blk_within(blk, sector, sectors) ||
	    (op == BLOCK_WRITE && blk->disk.image.read_only)) {
		blk_reply(chain, VIRTIO_BLK_S_IOERR);
		return;
	}
	blk_submit(chain, &(struct block_request){
		.op = op,
		.offset = sector * BLOCK_SECTOR,
		.iov = data->iov,
		.iov_count = data->count,
		.len = data->left,
		.durable = op == BLOCK_WRITE && blk_durable(blk),
	});
}

/* One segment, as the configuration says that there may be. */
static void blk_range(struct blk *blk, struct chain *chain, enum block_op op, unsigned int feature)
{
	const uint32_t known = op == BLOCK_ZERO ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;
	struct virtio_blk_discard_write_zeroes range;
	uint64_t sector, sectors;

	if (!virtio_has(&blk->dev, feature)) {
		blk_reply(chain, VIRTIO_BLK_S_UNSUPP);
		return;
	}
	if (chain->out.left != sizeof(range)) {
		blk_reply(chain, VIRTIO_BLK_S_IOERR);
		return;
	}
	chain_pull(chain, &range, sizeof(range));
	if (le32toh(range.flags) & ~known) {
		blk_reply(chain, VIRTIO_BLK_S_UNSUPP);
		return;
	}
	sector = le64toh(range.sector);
	sectors = le32toh(range.num_sectors);
	if (!sectors || sectors > BLK_RANGE_SECTORS || !blk_within(blk, sector, sectors)) {
		blk_reply(chain, VIRTIO_BLK_S_IOERR);
		return;
	}
	blk_submit(chain, &(struct block_request){
		.op = op,
		.offset = sector * BLOCK_SECTOR,
		.len = sectors * BLOCK_SECTOR,
		.durable = op != BLOCK_DISCARD && blk_durable(blk),
		.unmap = le32toh(range.flags) & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
	});
}

static void blk_get_id(struct blk *blk, struct chain *chain)
{
	const struct blk_conf *conf = blk->dev.conf;
	char id[VIRTIO_BLK_ID_BYTES] = "";

	/* Padded with zeroes; without one at the end when it is as long as it can be. */
	if (conf->serial)
		memcpy(id, conf->serial, strnlen(conf->serial, sizeof(id)));
	chain_push(chain, id, sizeof(id));
	blk_reply(chain, VIRTIO_BLK_S_OK);
}

static void blk_handle(struct blk *blk, struct chain *chain)
{
	struct virtio_blk_outhdr header;

	if (chain_split(chain, sizeof(uint8_t)) < 0) {
		virtio_fail(&blk->dev, "a request without room for its status");
		return;
	}
	if (chain_pull(chain, &header, sizeof(header)) < sizeof(header)) {
		virtio_fail(&blk->dev, "a request with a short header");
		return;
	}
	switch (le32toh(header.type)) {
	case VIRTIO_BLK_T_IN:
		blk_transfer(blk, chain, BLOCK_READ, le64toh(header.sector));
		break;
	case VIRTIO_BLK_T_OUT:
		blk_transfer(blk, chain, BLOCK_WRITE, le64toh(header.sector));
		break;
	case VIRTIO_BLK_T_FLUSH:
		blk_submit(chain, &(struct block_request){ .op = BLOCK_FLUSH });
		break;
	case VIRTIO_BLK_T_DISCARD:
		blk_range(blk, chain, BLOCK_DISCARD, VIRTIO_BLK_F_DISCARD);
		break;
	case VIRTIO_BLK_T_WRITE_ZEROES:
		blk_range(blk, chain, BLOCK_ZERO, VIRTIO_BLK_F_WRITE_ZEROES);
		break;
	case VIRTIO_BLK_T_SECURE_ERASE:
		blk_range(blk, chain, BLOCK_ERASE, VIRTIO_BLK_F_SECURE_ERASE);
		break;
	case VIRTIO_BLK_T_GET_ID:
		blk_get_id(blk, chain);
		break;
	default:
		blk_reply(chain, VIRTIO_BLK_S_UNSUPP);
	}
}

/* Hands what was popped to the kernel, and shows the driver what is over at once. */
static void blk_push(struct virtq *virtq)
{
	const struct block_queue *queue = &blk_queue_of(virtq)->io;

	queue->ops->flush(queue->engine);
	queue->ops->complete(queue->engine);
	virtq_show(virtq);
}

/* Whether the chain may go to the disk now; else something will kick the queue when it may. */
static bool blk_allowed(struct blk *blk, struct blk_queue *queue, const struct chain *chain)
{
	uint64_t wait;

	if (queue->stopped)
		return false;
	if (!blk->disk.limited)
		return true;
	wait = bucket_pair_take(&blk->disk.limit, chain->in.left + chain->out.left, util_now_ns());
	if (!wait)
		return true;
	virtq_count(queue->virtq, BLK_THROTTLED, 1);
	timer_set(&queue->timer, wait);
	return false;
}

static void blk_kick(struct virtio_dev *dev, struct virtq *virtq)
{
	struct blk *blk = container_of(dev, struct blk, dev);
	struct chain *chain;
	size_t count = 0, bytes = 0;

	while ((chain = virtq_pop(virtq))) {
		if (!blk_allowed(blk, &blk->queues[virtq->index], chain)) {
			virtq_unpop(virtq, chain);
			break;
		}
		bytes += chain->in.left;
		blk_handle(blk, chain);
		if (++count < BLOCK_BATCH && bytes < BLOCK_BATCH_READ)
			continue;
		blk_push(virtq);
		count = bytes = 0;
	}
	blk_push(virtq);
}

static void blk_timer(struct timer *timer)
{
	virtio_kick(container_of(timer, struct blk_queue, timer)->virtq);
}

static struct blk_request *blk_take_stopped(struct blk_queue *queue)
{
	struct blk_request *first = queue->stopped;

	queue->stopped = NULL;
	return first;
}

static void blk_retry(struct virtq *virtq)
{
	struct blk_queue *queue = blk_queue_of(virtq);
	struct blk_request *next;

	/* It may be stopped again at once, and is then in another list. */
	for (struct blk_request *request = blk_take_stopped(queue); request; request = next) {
		next = request->next;
		block_queue_submit(&queue->io, &request->io);
	}
	blk_push(virtq);
	virtio_kick(virtq);
}

static void blk_completion(struct event *event, uint32_t revents)
{
	const struct block_queue *queue = &container_of(event, struct blk_queue, completion)->io;

	(void)revents;
	queue->ops->complete(queue->engine);
}

static int blk_queue_start(struct virtq *virtq)
{
	const struct block_queue *queue = &blk_queue_of(virtq)->io;

	return queue->ops->start(queue->engine);
}

static void blk_queue_stop(struct virtq *virtq)
{
	struct blk_queue *queue = blk_queue_of(virtq);
	struct blk_request *next;

	queue->io.ops->drain(queue->io.engine);
	/* A pause can put back only what was popped last: they may be older than what is done. */
	for (struct blk_request *request = blk_take_stopped(queue); request; request = next) {
		next = request->next;
		blk_reply(request->chain, VIRTIO_BLK_S_IOERR);
	}
}

static int blk_watch(struct blk *blk, struct blk_queue *queue)
{
	struct worker *worker = queue->virtq->worker;
	int fds[BLOCK_FDS_MAX], fd = queue->io.ops->fd(queue->io.engine);
	int r = worker_keep_fds(worker, fds, block_disk_fds(&blk->disk, fds));

	if (r == 0 && blk->disk.limited)
		r = worker_timer(worker, &queue->timer, blk_timer);
	if (r < 0 || fd < 0)
		return r;
	queue->completion = (struct event){ .fd = fd, .fn = blk_completion };
	return worker_watch(worker, &queue->completion, EPOLLIN);
}

static int blk_open_queues(struct blk *blk)
{
	int r = 0;

	for (unsigned int i = 0; i < blk->dev.queue_count && r == 0; i++) {
		struct blk_queue *queue = &blk->queues[i];

		queue->virtq = &blk->dev.queues[i];
		r = block_queue_open(&blk->disk, queue->virtq->size_max, &queue->io);
		if (r == 0)
			r = blk_watch(blk, queue);
	}
	return r;
}

static struct virtio_blk_config blk_config(struct blk *blk)
{
	const struct block_image *image = &blk->disk.image;
	const struct virtio_dev *dev = &blk->dev;
	/* Two descriptors of a full ring belong to the header and the status. */
	uint64_t segments = util_min(dev->queues[0].size_max - 2u, BLK_SEG_MAX);
	uint32_t block = image->block_size, physical = (uint32_t)util_max(image->physical_block_size, block);

	return (struct virtio_blk_config){
		.capacity = htole64(atomic_load(&blk->sectors)),
		.seg_max = htole32((uint32_t)util_max(segments, 1)),
		.blk_size = htole32(block),
		.physical_block_exp = (uint8_t)__builtin_ctz(physical / block),
		.min_io_size = htole16((uint16_t)(physical / block)),
		.wce = atomic_load(&blk->writeback),
		.num_queues = htole16((uint16_t)dev->queue_count),
		.max_discard_sectors = htole32(BLK_RANGE_SECTORS),
		.max_discard_seg = htole32(1),
		.discard_sector_alignment = htole32(physical / BLOCK_SECTOR),
		.max_write_zeroes_sectors = htole32(BLK_RANGE_SECTORS),
		.max_write_zeroes_seg = htole32(1),
		.write_zeroes_may_unmap = 1,
		.max_secure_erase_sectors = htole32(BLK_RANGE_SECTORS),
		.max_secure_erase_seg = htole32(1),
		.secure_erase_sector_alignment = htole32(physical / BLOCK_SECTOR),
	};
}

static void blk_set_config(struct blk *blk)
{
	const struct virtio_blk_config config = blk_config(blk);

	virtio_config_update(&blk->dev, 0, &config, sizeof(config));
}

static void blk_set_features(struct blk *blk)
{
	struct virtio_dev *dev = &blk->dev;

	if (blk->disk.image.read_only) {
		virtio_withhold(dev, VIRTIO_BLK_F_DISCARD);
		virtio_withhold(dev, VIRTIO_BLK_F_WRITE_ZEROES);
	} else {
		virtio_withhold(dev, VIRTIO_BLK_F_RO);
	}
	if (!blk->disk.can_erase)
		virtio_withhold(dev, VIRTIO_BLK_F_SECURE_ERASE);
	if (dev->queue_count == 1)
		virtio_withhold(dev, VIRTIO_BLK_F_MQ);
}

/* The cache that the user wants, until the driver chooses another. */
static bool blk_default_writeback(const struct blk *blk)
{
	const struct blk_conf *conf = blk->dev.conf;

	return conf->block.cache != BLOCK_CACHE_WRITETHROUGH;
}

/* The driver may choose a cache (5.2.5.2); everything else stays as it was. */
static void blk_config_write(struct virtio_dev *dev, uint32_t offset, uint32_t len)
{
	struct blk *blk = container_of(dev, struct blk, dev);
	uint32_t wce = offsetof(struct virtio_blk_config, wce);

	if (virtio_has(dev, VIRTIO_BLK_F_CONFIG_WCE) && offset <= wce && wce - offset < len)
		atomic_store(&blk->writeback, dev->config[wce] & 1);
	blk_set_config(blk);
}

static void blk_reset(struct virtio_dev *dev)
{
	struct blk *blk = container_of(dev, struct blk, dev);
	bool wanted = blk_default_writeback(blk);

	if (atomic_exchange(&blk->writeback, wanted) != wanted)
		blk_set_config(blk);
}

static int blk_load(struct virtio_dev *dev)
{
	struct blk *blk = container_of(dev, struct blk, dev);
	struct virtio_blk_config config;

	atomic_store(&blk->writeback, dev->config[offsetof(struct virtio_blk_config, wce)] & 1);
	config = blk_config(blk);
	/* The driver is told only of what is another disk's than the save's. */
	if (memcmp(dev->config, &config, sizeof(config)))
		blk_set_config(blk);
	return 0;
}

static int blk_resize_disk(struct virtio_dev *dev, uint64_t bytes)
{
	struct blk *blk = container_of(dev, struct blk, dev);
	int r = block_disk_resize(&blk->disk, bytes);

	if (r < 0)
		return r;
	atomic_store(&blk->sectors, blk->disk.image.size / BLOCK_SECTOR);
	blk_set_config(blk);
	return 0;
}

static int blk_init(struct virtio_dev *dev)
{
	struct blk *blk = container_of(dev, struct blk, dev);
	const struct blk_conf *conf = dev->conf;
	int r;

	if (conf->serial && strlen(conf->serial) > VIRTIO_BLK_ID_BYTES)
		return -E2BIG;
	r = block_disk_open(&blk->disk, &conf->block);
	if (r < 0)
		return r;
	atomic_store(&blk->sectors, blk->disk.image.size / BLOCK_SECTOR);
	atomic_store(&blk->writeback, blk_default_writeback(blk));
	blk_set_features(blk);
	blk_set_config(blk);
	return blk_open_queues(blk);
}

static void blk_free(struct virtio_dev *dev)
{
	struct blk *blk = container_of(dev, struct blk, dev);

	for (size_t i = 0; i < ARRAY_SIZE(blk->queues); i++) {
		timer_free(&blk->queues[i].timer);
		block_queue_close(&blk->queues[i].io);
	}
	block_disk_close(&blk->disk);
}

static const struct opt blk_opts[] = {
	BLOCK_OPTS(struct blk_conf, block),
	{ .key = "serial", .type = OPT_STRING, .offset = offsetof(struct blk_conf, serial),
	  .arg = "TEXT", .help = "what the guest sees as the serial number, at most 20 bytes" },
	VIRTIO_OPT_QUEUES("queues, each served by a thread of its own"),
	VIRTIO_OPTS,
	{ 0 },
};

static const struct sandbox blk_sandbox = SANDBOX(BLOCK_CALLS);

const struct virtio_class blk_class = {
	.name = "blk",
	.option = "disk",
	.summary = "a disk",
	.sample = "scratch=1M,engine=sync",
	.id = VIRTIO_ID_BLOCK,
	.pci_class = 0x010000,
	.root_words = "root=/dev/vda rw",
	.queue_sizes = (const uint16_t[]){ BLK_QUEUE_SIZE },
	.queue_count = 1,
	.request_size = sizeof(struct blk_request),
	.features = 1ULL << VIRTIO_BLK_F_SEG_MAX | 1ULL << VIRTIO_BLK_F_BLK_SIZE |
		    1ULL << VIRTIO_BLK_F_FLUSH | 1ULL << VIRTIO_BLK_F_RO |
		    1ULL << VIRTIO_BLK_F_MQ | 1ULL << VIRTIO_BLK_F_TOPOLOGY |
		    1ULL << VIRTIO_BLK_F_CONFIG_WCE | 1ULL << VIRTIO_BLK_F_DISCARD |
		    1ULL << VIRTIO_BLK_F_WRITE_ZEROES | 1ULL << VIRTIO_BLK_F_SECURE_ERASE,
	.config_size = sizeof(struct virtio_blk_config),
	.dev_size = sizeof(struct blk),
	.opts = blk_opts,
	.conf_size = sizeof(struct blk_conf),
	.hints = block_hints,
	.counters = blk_counters,
	.sandbox = &blk_sandbox,
	.init = blk_init,
	.queue_start = blk_queue_start,
	.kick = blk_kick,
	.queue_stop = blk_queue_stop,
	.retry = blk_retry,
	.config_write = blk_config_write,
	.reset = blk_reset,
	.load = blk_load,
	.resize_disk = blk_resize_disk,
	.free = blk_free,
};
