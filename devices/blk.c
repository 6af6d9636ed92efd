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
 */
#include <endian.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <linux/virtio_blk.h>
#include "devices/block/block.h"
#include "devices/virtio/virtio.h"

#define BLK_QUEUE_SIZE 256
/* The rest of a chain is for header and status, and for buffers that lie across regions of memory. */
#define BLK_SEG_MAX (CHAIN_IOV_MAX - 24)

/* Then it goes to the kernel: the driver can begin with what is done while the rest is copied. */
#define BLK_BATCH_BYTES KIB(64)

struct blk_conf {
	struct virtio_conf virtio;
	struct block_conf block;
	char *serial;
};

struct blk_queue {
	struct block_queue io;
	struct event completion;
};

struct blk {
	struct virtio_dev dev;
	struct block_disk disk;
	struct blk_queue queues[VIRTIO_SETS_MAX];
};

struct blk_request {
	struct block_request io;
	struct chain *chain;
};

enum blk_counter {
	BLK_READS,
	BLK_WRITES,
	BLK_FLUSHES,
	BLK_READ_BYTES,
	BLK_WRITTEN_BYTES,
	BLK_ERRORS,
};

static const char *const blk_counters[] = {
	[BLK_READS] = "reads",
	[BLK_WRITES] = "writes",
	[BLK_FLUSHES] = "flushes",
	[BLK_READ_BYTES] = "read_bytes",
	[BLK_WRITTEN_BYTES] = "written_bytes",
	[BLK_ERRORS] = "errors",
	NULL,
};

static void blk_reply(struct chain *chain, uint8_t status)
{
	if (status != VIRTIO_BLK_S_OK)
		virtq_count(chain->queue, BLK_ERRORS, 1);
	chain_push_tail(chain, &status, sizeof(status));
	virtq_done(chain->queue, chain);
}

static void blk_done(struct block_request *io, int result)
{
	struct chain *chain = container_of(io, struct blk_request, io)->chain;
	struct virtq *queue = chain->queue;

	if (result < 0) {
		blk_reply(chain, VIRTIO_BLK_S_IOERR);
		return;
	}
	switch (io->op) {
	case BLOCK_READ:
		cursor_advance(&chain->in, io->len);
		virtq_count(queue, BLK_READS, 1);
		virtq_count(queue, BLK_READ_BYTES, io->len);
		break;
	case BLOCK_WRITE:
		virtq_count(queue, BLK_WRITES, 1);
		virtq_count(queue, BLK_WRITTEN_BYTES, io->len);
		break;
	case BLOCK_FLUSH:
		virtq_count(queue, BLK_FLUSHES, 1);
		break;
	default:
		break;
	}
	blk_reply(chain, VIRTIO_BLK_S_OK);
}

static void blk_submit(struct blk *blk, struct chain *chain, const struct block_request *io)
{
	struct block_queue *queue = &blk->queues[chain->queue->index].io;
	struct blk_request *request = chain_request(chain);

	*request = (struct blk_request){ .io = *io, .chain = chain };
	request->io.done = blk_done;
	queue->ops->submit(queue->engine, &request->io);
}

static void blk_transfer(struct blk *blk, struct chain *chain, enum block_op op, uint64_t sector)
{
	const struct cursor *data = op == BLOCK_READ ? &chain->in : &chain->out;
	uint64_t sectors = data->left / BLOCK_SECTOR;

	if (sectors == 0 || data->left % BLOCK_SECTOR ||
	    !util_within(sector, sectors, blk->disk.image.size / BLOCK_SECTOR) ||
	    (op == BLOCK_WRITE && blk->disk.image.read_only)) {
		blk_reply(chain, VIRTIO_BLK_S_IOERR);
		return;
	}
	blk_submit(blk, chain, &(struct block_request){
		.op = op,
		.offset = sector * BLOCK_SECTOR,
		.iov = data->iov,
		.iov_count = data->count,
		.len = data->left,
		/* A driver that never flushes expects a write-through disk (5.2.6.2). */
		.durable = !virtio_has(&blk->dev, VIRTIO_BLK_F_FLUSH),
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
		blk_submit(blk, chain, &(struct block_request){ .op = BLOCK_FLUSH });
		break;
	case VIRTIO_BLK_T_GET_ID:
		blk_get_id(blk, chain);
		break;
	default:
		blk_reply(chain, VIRTIO_BLK_S_UNSUPP);
	}
}

static struct blk_queue *blk_queue_of(const struct virtq *queue)
{
	struct blk *blk = container_of(queue->dev, struct blk, dev);

	return &blk->queues[queue->index];
}

/* Hands what was popped to the kernel, and shows the driver what is over at once. */
static void blk_push(struct virtq *virtq)
{
	const struct block_queue *queue = &blk_queue_of(virtq)->io;

	queue->ops->flush(queue->engine);
	queue->ops->complete(queue->engine);
	virtq_show(virtq);
}

static void blk_kick(struct virtio_dev *dev, struct virtq *virtq)
{
	struct blk *blk = container_of(dev, struct blk, dev);
	struct chain *chain;
	size_t batch = 0;

	while ((chain = virtq_pop(virtq))) {
		batch += chain->in.left + chain->out.left;
		blk_handle(blk, chain);
		if (batch < BLK_BATCH_BYTES)
			continue;
		blk_push(virtq);
		batch = 0;
	}
	blk_push(virtq);
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
	const struct block_queue *queue = &blk_queue_of(virtq)->io;

	queue->ops->drain(queue->engine);
}

static int blk_watch(struct blk *blk, struct blk_queue *queue, struct worker *worker)
{
	int fds[BLOCK_FDS_MAX], fd = queue->io.ops->fd(queue->io.engine), r = 0;
	size_t count = block_disk_fds(&blk->disk, fds);

	for (size_t i = 0; i < count && r == 0; i++)
		r = worker_keep_fd(worker, fds[i]);
	if (r < 0 || fd < 0)
		return r;
	queue->completion = (struct event){ .fd = fd, .fn = blk_completion };
	return worker_watch(worker, &queue->completion, EPOLLIN);
}

static int blk_open_queues(struct blk *blk)
{
	int r = 0;

	for (unsigned int i = 0; i < blk->dev.queue_count && r == 0; i++) {
		const struct virtq *virtq = &blk->dev.queues[i];

		r = block_queue_open(&blk->disk, virtq->size_max, &blk->queues[i].io);
		if (r == 0)
			r = blk_watch(blk, &blk->queues[i], virtq->worker);
	}
	return r;
}

static void blk_set_config(struct blk *blk)
{
	struct virtio_dev *dev = &blk->dev;
	/* Two descriptors of a full ring belong to the header and the status. */
	uint64_t segments = util_min(dev->queues[0].size_max - 2u, BLK_SEG_MAX);
	const struct virtio_blk_config config = {
		.capacity = htole64(blk->disk.image.size / BLOCK_SECTOR),
		.seg_max = htole32((uint32_t)util_max(segments, 1)),
		.blk_size = htole32(blk->disk.image.block_size),
		.num_queues = htole16((uint16_t)dev->queue_count),
	};

	if (!blk->disk.image.read_only)
		virtio_withhold(dev, VIRTIO_BLK_F_RO);
	if (dev->queue_count == 1)
		virtio_withhold(dev, VIRTIO_BLK_F_MQ);
	virtio_config_update(dev, 0, &config, sizeof(config));
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
	blk_set_config(blk);
	return blk_open_queues(blk);
}

static void blk_free(struct virtio_dev *dev)
{
	struct blk *blk = container_of(dev, struct blk, dev);

	for (size_t i = 0; i < ARRAY_SIZE(blk->queues); i++)
		block_queue_close(&blk->queues[i].io);
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
	.kernel_words = "root=/dev/vda rw",
	.queue_sizes = (const uint16_t[]){ BLK_QUEUE_SIZE },
	.queue_count = 1,
	.request_size = sizeof(struct blk_request),
	.features = 1ULL << VIRTIO_BLK_F_SEG_MAX | 1ULL << VIRTIO_BLK_F_BLK_SIZE |
		    1ULL << VIRTIO_BLK_F_FLUSH | 1ULL << VIRTIO_BLK_F_RO |
		    1ULL << VIRTIO_BLK_F_MQ,
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
	.free = blk_free,
};
