// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include "devices/block/block.h"

const char *const block_formats[] = {
	[BLOCK_FORMAT_DEFAULT] = "default",
	[BLOCK_FORMAT_RAW] = "raw",
	[BLOCK_FORMAT_QCOW2] = "qcow2",
	NULL,
};

static const struct block_format *const disk_formats[] = {
	[BLOCK_FORMAT_DEFAULT] = &block_raw,
	[BLOCK_FORMAT_RAW] = &block_raw,
	[BLOCK_FORMAT_QCOW2] = &block_qcow2,
};

const char *const block_engines[] = {
	[BLOCK_ENGINE_AUTO] = "auto",
	[BLOCK_ENGINE_URING] = "uring",
	[BLOCK_ENGINE_SYNC] = "sync",
	NULL,
};

const char *const block_caches[] = {
	[BLOCK_CACHE_WRITEBACK] = "writeback",
	[BLOCK_CACHE_WRITETHROUGH] = "writethrough",
	[BLOCK_CACHE_NONE] = "none",
	[BLOCK_CACHE_UNSAFE] = "unsafe",
	NULL,
};

const char *const block_write_policies[] = {
	[BLOCK_REPORT] = "report",
	[BLOCK_STOP] = "stop",
	[BLOCK_STOP_ENOSPC] = "enospc",
	NULL,
};

const char *const block_read_policies[] = {
	[BLOCK_REPORT] = "report",
	[BLOCK_STOP] = "stop",
	NULL,
};

const struct hint block_hints[] = {
	{ EAGAIN, "locked by another VM: stop it, or open both with ro" },
	{ EACCES, "not accessible: give ,ro or make it writable" },
	{ EROFS, "on a read-only file system: give ,ro" },
	{ EISDIR, "a directory: give an image or a block device" },
	{ ENOTBLK, "neither a file nor a block device: give an image" },
	{ EINVAL, "empty or not a multiple of 512 bytes, or of block-size, long: "
		  "truncate -s %512 (or %4096) pads a raw image" },
	{ ERANGE, "its direct I/O is in larger blocks: leave block-size out, or make it 4096" },
	{ EMEDIUMTYPE, "it looks like qcow2: give format=qcow2, or format=raw if the guest wrote that" },
	{ EILSEQ, "not a qcow2 image: leave format=qcow2 out" },
	{ ENOPKG, "qcow2 with encryption, extended L2 entries, its data in another file, or bitmaps "
		  "that a crash left behind: "
		  "qemu-img convert makes an image without" },
	{ EUCLEAN, "damaged: microvm image check tells how much, and --repair mends what can be mended" },
	{ EXDEV, "based on another file: give backing=on if you trust the image to name it" },
	{ ENOMSG, "it does not say whether what it is based on is raw or qcow2: qemu-img rebase -u -F says so" },
	{ ELIBACC, "the file that it is based on cannot be opened: microvm image info names it" },
	{ ELOOP, "a chain of more than 8 files: qemu-img commit or rebase shortens it" },
	{ EUSERS, "qcow2 has one queue: leave queues out" },
	{ EOPNOTSUPP, "its file system has no direct I/O: leave direct out" },
	{ E2BIG, "the serial is longer than 20 bytes, or the product than 16: shorten it" },
	{ EMFILE, "too many open files for one process: ulimit -n 8192 allows more" },
	{ EBUSY, "in use on the host: unmount it, end the VM that has it, or give ,ro" },
	{ ENOTTY, "not a whole SCSI device: give a node such as /dev/sda, /dev/sr0 or /dev/sg0" },
	{ EPROTOTYPE, "neither a disk nor a CD-ROM: only those are passed through" },
	{ EBADRQC, "with passthrough the device says itself what it is: "
		   "only ro, iops and bw, and keys that are about queues, go with it" },
	{ ENOSYS, "this kernel has no io_uring: leave engine=uring out" },
	{ EPERM, "not permitted; if it is io_uring that is not, leave engine=uring out" },
	{ 0 },
};

static bool disk_direct(const struct block_conf *conf)
{
	return conf->direct || conf->cache == BLOCK_CACHE_NONE;
}

static int disk_open_image(struct block_disk *disk, const struct block_conf *conf)
{
	if (!conf->scratch)
		return block_image_open(&disk->image, conf->path, conf->read_only,
					disk_direct(conf));
	if (disk_direct(conf))
		return -EOPNOTSUPP;
	return block_image_scratch(&disk->image, conf->scratch, conf->read_only);
}

/* The kernel looks whether the device can before it looks at the range, which is none. */
static bool disk_can_erase(const struct block_image *image)
{
	uint64_t no_range[] = { 1, 1 };

	return image->device && !image->read_only &&
	       ioctl(image->fd, BLKSECDISCARD, no_range) < 0 && errno == EINVAL;
}

static bool disk_size_is_good(const struct block_disk *disk, uint64_t size)
{
	return size && size % disk->image.block_size == 0 && size <= INT64_MAX;
}

void block_disk_limit(struct block_disk *disk, const struct block_conf *conf)
{
	disk->conf = conf;
	bucket_pair_init(&disk->limit, &conf->limit, util_now_ns());
	disk->limited = bucket_pair_limits(&disk->limit);
}

/* What the open image is to the guest. */
static int disk_set_up(struct block_disk *disk)
{
	const struct block_conf *conf = disk->conf;
	struct block_image *image = &disk->image;
	int r;

	if (conf->block_size && conf->block_size < image->block_size)
		return -ERANGE;
	if (conf->block_size)
		image->block_size = (uint32_t)conf->block_size;
	image->sqpoll = conf->sqpoll;
	block_disk_limit(disk, conf);
	disk->format = disk_formats[conf->format];
	r = disk->format->open(disk);
	if (r < 0)
		return r;
	disk->can_erase = disk->format == &block_raw && disk_can_erase(image);
	return disk_size_is_good(disk, image->size) ? 0 : -EINVAL;
}

int block_disk_open(struct block_disk *disk, const struct block_conf *conf)
{
	int r;

	*disk = (struct block_disk){ .conf = conf, .image.fd = -1 };
	r = disk_open_image(disk, conf);
	return r < 0 ? r : disk_set_up(disk);
}

int block_disk_adopt(struct block_disk *disk, const struct block_conf *conf, int fd)
{
	int r;

	*disk = (struct block_disk){ .conf = conf, .image.fd = fd };
	if (conf->scratch || conf->backing ||
	    (conf->format == BLOCK_FORMAT_QCOW2 && disk_direct(conf)))
		return -EOPNOTSUPP;
	r = block_image_adopt(&disk->image, fd, conf->read_only, disk_direct(conf));
	return r < 0 ? r : disk_set_up(disk);
}

void block_disk_close(struct block_disk *disk)
{
	/* A zeroed one has no file, and fd 0 is not its own. */
	if (!disk->conf)
		return;
	if (disk->format && disk->format->close)
		disk->format->close(disk);
	block_image_close(&disk->image);
	*disk = (struct block_disk){ 0 };
}

size_t block_disk_fds(const struct block_disk *disk, int fds[BLOCK_FDS_MAX])
{
	fds[0] = disk->image.fd;
	return 1 + (disk->format->fds ? disk->format->fds(disk, fds + 1) : 0);
}

int block_disk_resize(struct block_disk *disk, uint64_t bytes)
{
	uint64_t size;
	int r;

	if (!disk->format->resize)
		return -EOPNOTSUPP;
	if (bytes && (bytes < disk->image.size || !disk_size_is_good(disk, bytes)))
		return -EINVAL;
	r = disk->format->resize(disk, bytes, &size);
	if (r < 0)
		return r;
	if (size < disk->image.size || !disk_size_is_good(disk, size))
		return -EINVAL;
	disk->image.size = size;
	return 0;
}

bool block_disk_stops(const struct block_disk *disk, const struct block_request *request, int result)
{
	const struct block_conf *conf = disk->conf;

	if (result >= 0 || request->op == BLOCK_FLUSH || atomic_load(&disk->image.lost))
		return false;
	if (request->op == BLOCK_READ)
		return conf->read_error == BLOCK_STOP;
	return conf->write_error == BLOCK_STOP ||
	       (conf->write_error == BLOCK_STOP_ENOSPC && result == -ENOSPC);
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
	int r = disk->format->queue_open(disk, depth, ret_queue);

	if (r == 0)
		ret_queue->unsafe = disk->conf->cache == BLOCK_CACHE_UNSAFE;
	return r;
}

void block_queue_close(struct block_queue *queue)
{
	if (queue->engine)
		queue->ops->close(queue->engine);
	queue->engine = NULL;
}
