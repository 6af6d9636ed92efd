// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include "devices/block/block.h"

const char *const block_formats[] = {
	[BLOCK_FORMAT_DEFAULT] = "default",
	[BLOCK_FORMAT_RAW] = "raw",
	NULL,
};

static const struct block_format *const disk_formats[] = {
	[BLOCK_FORMAT_DEFAULT] = &block_raw,
	[BLOCK_FORMAT_RAW] = &block_raw,
};

const char *const block_engines[] = {
	[BLOCK_ENGINE_AUTO] = "auto",
	[BLOCK_ENGINE_URING] = "uring",
	[BLOCK_ENGINE_SYNC] = "sync",
	NULL,
};

const struct hint block_hints[] = {
	{ EAGAIN, "locked by another VM: stop it, or open both with ro" },
	{ EACCES, "not accessible: give ,ro or make it writable" },
	{ EROFS, "on a read-only file system: give ,ro" },
	{ EISDIR, "a directory: give an image or a block device" },
	{ ENOTBLK, "neither a file nor a block device: give an image" },
	{ EINVAL, "empty or not a multiple of 512 bytes long: truncate -s %512 pads a raw image" },
	{ EMEDIUMTYPE, "it looks like qcow2: give format=qcow2, or format=raw if the guest wrote that" },
	{ EOPNOTSUPP, "its file system has no direct I/O: leave direct out" },
	{ E2BIG, "the serial is longer than 20 bytes: shorten it" },
	{ ENOSYS, "this kernel has no io_uring: leave engine=uring out" },
	{ EPERM, "not permitted; if it is io_uring that is not, leave engine=uring out" },
	{ 0 },
};

static int disk_open_image(struct block_disk *disk, const struct block_conf *conf)
{
	if (!conf->scratch)
		return block_image_open(&disk->image, conf->path, conf->read_only, conf->direct);
	if (conf->direct)
		return -EOPNOTSUPP;
	return block_image_scratch(&disk->image, conf->scratch, conf->read_only);
}

int block_disk_open(struct block_disk *disk, const struct block_conf *conf)
{
	int r;

	*disk = (struct block_disk){ .conf = conf, .image.fd = -1 };
	r = disk_open_image(disk, conf);
	if (r < 0)
		return r;
	disk->format = disk_formats[conf->format];
	return disk->format->open(disk);
}

void block_disk_close(struct block_disk *disk)
{
	/* A zeroed one has no file, and fd 0 is not its own. */
	if (!disk->conf)
		return;
	if (disk->format)
		disk->format->close(disk);
	block_image_close(&disk->image);
	*disk = (struct block_disk){ 0 };
}

size_t block_disk_fds(const struct block_disk *disk, int fds[BLOCK_FDS_MAX])
{
	fds[0] = disk->image.fd;
	return 1 + disk->format->fds(disk, fds + 1);
}

int block_file_queue_open(struct block_disk *disk, unsigned int depth,
			  struct block_queue *ret_queue)
{
	const struct block_conf *conf = disk->conf;
	struct block_queue queue = { .ops = &block_uring };
	int r = -ENOSYS;

	/* Memory has nothing to wait for; io_uring would hand its requests to threads. */
	if (conf->engine == BLOCK_ENGINE_URING ||
	    (conf->engine == BLOCK_ENGINE_AUTO && !conf->scratch))
		r = queue.ops->open(&queue.engine, &disk->image, depth);
	if (r < 0 && conf->engine != BLOCK_ENGINE_URING) {
		queue.ops = &block_sync;
		r = queue.ops->open(&queue.engine, &disk->image, depth);
	}
	if (r == 0)
		*ret_queue = queue;
	return r;
}

int block_queue_open(struct block_disk *disk, unsigned int depth, struct block_queue *ret_queue)
{
	return disk->format->queue_open(disk, depth, ret_queue);
}

void block_queue_close(struct block_queue *queue)
{
	if (queue->engine)
		queue->ops->close(queue->engine);
	queue->engine = NULL;
}
