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
#include <linux/io_uring.h>
#include <linux/virtio_blk.h>
#include "devices/block/block.h"
#include "devices/virtio/virtio.h"

#define BLK_SECTOR 512
#define BLK_QUEUE_SIZE 256
/* The rest of a chain is for header and status, and for buffers that lie across regions of memory. */
#define BLK_SEG_MAX (CHAIN_IOV_MAX - 24)

/* Then it goes to the kernel: the driver can begin with what is done while the rest is copied. */
#define BLK_BATCH_BYTES KIB(64)

enum blk_engine { BLK_ENGINE_AUTO, BLK_ENGINE_URING, BLK_ENGINE_SYNC };

struct blk_conf {
	struct virtio_conf virtio;
	char *path;
	uint64_t scratch;
	bool read_only;
	bool direct;
	char *serial;
	int engine;
};

struct blk_queue {
	const struct block_engine_ops *ops;
	struct block_engine *engine;
	struct event completion;
};

struct blk {
	struct virtio_dev dev;
	struct block_image image;
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
	}
	blk_reply(chain, VIRTIO_BLK_S_OK);
}

static void blk_submit(struct blk *blk, struct chain *chain, const struct block_request *io)
{
	struct blk_queue *queue = &blk->queues[chain->queue->index];
	struct blk_request *request = chain_request(chain);

	*request = (struct blk_request){ .io = *io, .chain = chain };
	request->io.done = blk_done;
	queue->ops->submit(queue->engine, &request->io);
}

static void blk_transfer(struct blk *blk, struct chain *chain, enum block_op op, uint64_t sector)
{
	const struct cursor *data = op == BLOCK_READ ? &chain->in : &chain->out;
	uint64_t sectors = data->left / BLK_SECTOR;

	if (sectors == 0 || data->left % BLK_SECTOR ||
	    !util_within(sector, sectors, blk->image.size / BLK_SECTOR) ||
	    (op == BLOCK_WRITE && blk->image.read_only)) {
		blk_reply(chain, VIRTIO_BLK_S_IOERR);
		return;
	}
	blk_submit(blk, chain, &(struct block_request){
		.op = op,
		.offset = sector * BLK_SECTOR,
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
	struct blk_queue *queue = blk_queue_of(virtq);

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
	struct blk_queue *queue = container_of(event, struct blk_queue, completion);

	(void)revents;
	queue->ops->complete(queue->engine);
}

static int blk_queue_start(struct virtq *virtq)
{
	struct blk_queue *queue = blk_queue_of(virtq);

	return queue->ops->start(queue->engine);
}

static void blk_queue_stop(struct virtq *virtq)
{
	struct blk_queue *queue = blk_queue_of(virtq);

	queue->ops->drain(queue->engine);
}

static int blk_engine_open(struct blk *blk, struct blk_queue *queue, unsigned int depth)
{
	const struct blk_conf *conf = blk->dev.conf;
	int r = -ENOSYS;

	queue->ops = &block_uring;
	/* Memory has nothing to wait for; io_uring would hand its requests to threads. */
	if (conf->engine == BLK_ENGINE_URING ||
	    (conf->engine == BLK_ENGINE_AUTO && !conf->scratch))
		r = queue->ops->open(&queue->engine, &blk->image, depth);
	if (r < 0 && conf->engine != BLK_ENGINE_URING) {
		queue->ops = &block_sync;
		r = queue->ops->open(&queue->engine, &blk->image, depth);
	}
	return r;
}

/* A ring has the image registered: its thread needs no fd that any call would take. */
static int blk_watch(struct blk *blk, struct blk_queue *queue, struct worker *worker)
{
	int fd = queue->ops->fd(queue->engine);

	if (fd < 0)
		return worker_keep_fd(worker, blk->image.fd);
	queue->completion = (struct event){ .fd = fd, .fn = blk_completion };
	return worker_watch(worker, &queue->completion, EPOLLIN);
}

static int blk_open_queues(struct blk *blk)
{
	int r = 0;

	for (unsigned int i = 0; i < blk->dev.queue_count && r == 0; i++) {
		const struct virtq *virtq = &blk->dev.queues[i];

		r = blk_engine_open(blk, &blk->queues[i], virtq->size_max);
		if (r == 0)
			r = blk_watch(blk, &blk->queues[i], virtq->worker);
	}
	return r;
}

static int blk_open_image(struct blk *blk)
{
	const struct blk_conf *conf = blk->dev.conf;

	if (!conf->scratch)
		return block_image_open(&blk->image, conf->path, conf->read_only, conf->direct);
	if (conf->direct)
		return -EOPNOTSUPP;
	return block_image_scratch(&blk->image, conf->scratch, conf->read_only);
}

static void blk_set_config(struct blk *blk)
{
	struct virtio_dev *dev = &blk->dev;
	/* Two descriptors of a full ring belong to the header and the status. */
	uint64_t segments = util_min(dev->queues[0].size_max - 2u, BLK_SEG_MAX);
	const struct virtio_blk_config config = {
		.capacity = htole64(blk->image.size / BLK_SECTOR),
		.seg_max = htole32((uint32_t)util_max(segments, 1)),
		.blk_size = htole32(blk->image.block_size),
		.num_queues = htole16((uint16_t)dev->queue_count),
	};

	if (!blk->image.read_only)
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

	blk->image.fd = -1;
	if (conf->serial && strlen(conf->serial) > VIRTIO_BLK_ID_BYTES)
		return -E2BIG;
	r = blk_open_image(blk);
	if (r < 0)
		return r;
	blk_set_config(blk);
	return blk_open_queues(blk);
}

static void blk_free(struct virtio_dev *dev)
{
	struct blk *blk = container_of(dev, struct blk, dev);

	for (size_t i = 0; i < ARRAY_SIZE(blk->queues); i++)
		if (blk->queues[i].engine)
			blk->queues[i].ops->close(blk->queues[i].engine);
	block_image_close(&blk->image);
}

static const char *const blk_engines[] = {
	[BLK_ENGINE_AUTO] = "auto",
	[BLK_ENGINE_URING] = "uring",
	[BLK_ENGINE_SYNC] = "sync",
	NULL,
};

static const struct opt blk_opts[] = {
	{ .key = "path", .type = OPT_STRING, .bare = true, .required = true, .one_of = true,
	  .offset = offsetof(struct blk_conf, path), .arg = "PATH",
	  .help = "a raw image or a block device" },
	{ .key = "scratch", .type = OPT_SIZE, .required = true, .one_of = true, .min = BLK_SECTOR,
	  .max = 1ULL << 60, .offset = offsetof(struct blk_conf, scratch), .arg = "SIZE",
	  .help = "instead of a path: an empty disk in memory, gone after the run" },
	{ .key = "ro", .type = OPT_BOOL, .offset = offsetof(struct blk_conf, read_only),
	  .help = "the guest cannot write; several VMs may share the image" },
	{ .key = "direct", .type = OPT_BOOL, .offset = offsetof(struct blk_conf, direct),
	  .help = "go past the host's page cache" },
	{ .key = "serial", .type = OPT_STRING, .offset = offsetof(struct blk_conf, serial),
	  .arg = "TEXT", .help = "what the guest sees as the serial number, at most 20 bytes" },
	{ .key = "engine", .type = OPT_CHOICE, .offset = offsetof(struct blk_conf, engine),
	  .choices = blk_engines, .help = "how I/O is done; auto takes uring where it is permitted" },
	VIRTIO_OPT_QUEUES("queues, each served by a thread of its own"),
	VIRTIO_OPTS,
	{ 0 },
};

static const struct hint blk_hints[] = {
	{ EAGAIN, "locked by another VM: stop it, or open both with ro" },
	{ EACCES, "not accessible: give ,ro or make it writable" },
	{ EROFS, "on a read-only file system: give ,ro" },
	{ EISDIR, "a directory: give a raw image or a block device" },
	{ ENOTBLK, "neither a file nor a block device: give a raw image" },
	{ EINVAL, "empty or not a multiple of 512 bytes long: truncate -s %512 pads an image" },
	{ EOPNOTSUPP, "its file system has no direct I/O: leave direct out" },
	{ E2BIG, "the serial is longer than 20 bytes: shorten it" },
	{ ENOSYS, "this kernel has no io_uring: leave engine=uring out" },
	{ EPERM, "not permitted; if it is io_uring that is not, leave engine=uring out" },
	{ 0 },
};

static const struct sandbox blk_sandbox = SANDBOX(
	/* uring.c */
	SC(io_uring_enter),
	SC_ARG(io_uring_register, 1, IORING_REGISTER_ENABLE_RINGS),
	/* sync.c */
	SC(preadv),
	SC(pwritev2),
	SC(fdatasync),
);

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
	.hints = blk_hints,
	.counters = blk_counters,
	.sandbox = &blk_sandbox,
	.init = blk_init,
	.queue_start = blk_queue_start,
	.kick = blk_kick,
	.queue_stop = blk_queue_stop,
	.free = blk_free,
};
