// SPDX-License-Identifier: Apache-2.0
/*
 * The units of virtio-scsi: each is an image, or a device of the host's, that
 * every request queue reaches through an engine of its own (a port). They come and go, at the start and
 * while the guest runs, by the main thread's orders to one worker after the other.
 *
 * A unit that comes: its disk is opened, each worker is given its fds and a
 * port, and only then its number is taken (scsi_lun_init). One that goes: the
 * number is free first, then each worker ends its tasks and gives port and fds
 * back, and then nobody knows the disk any more. So a worker that finds the
 * number taken has a port.
 *
 * The main thread in its jail can open no files, and make no rings. Devices of
 * the host's, which have threads, are there from the start to the end: those
 * threads are stopped with the worker, which has to find them until then.
 */
#include "devices/scsi.h"

#include <sys/stat.h>
#include "devices/scsi_device.h"

static int scsi_attach(void *arg)
{
	struct scsi_port *port = arg;

	return scsi_queue_attach(port->queue, port);
}

static int scsi_detach(void *arg)
{
	struct scsi_port *port = arg;

	scsi_queue_detach(port->queue, port);
	return 0;
}

/* The fds that the port's worker needs; returns how many. */
static size_t scsi_port_fds(const struct scsi_port *port, int fds[BLOCK_FDS_MAX + 1])
{
	const struct scsi_unit *unit = port->unit;
	size_t count = unit->device.execute ? 0 : block_disk_fds(&unit->disk, fds);
	int fd = port->block.ops->fd(port->block.engine);

	if (fd >= 0)
		fds[count++] = fd;
	return count;
}

static int scsi_port_open(struct scsi_port *port)
{
	const unsigned int depth = port->queue->virtq->size_max;
	struct worker *worker = port->queue->virtq->worker;
	struct scsi_unit *unit = port->unit;
	int fds[BLOCK_FDS_MAX + 1], r;
	size_t count;

	port->end = &port->waiting;
	r = unit->device.execute ?
		    passthrough_queue_open(&unit->device, worker, depth, &port->block) :
		    block_queue_open(&unit->disk, depth, &port->block);
	if (r < 0)
		return r;
	count = scsi_port_fds(port, fds);
	for (size_t i = 0; i < count && !r; i++)
		r = worker_give_fd(worker, fds[i]);
	return r < 0 ? r : worker_call(worker, scsi_attach, port);
}

static void scsi_port_close(struct scsi_port *port)
{
	struct worker *worker = port->queue->virtq->worker;
	int fds[BLOCK_FDS_MAX + 1];
	size_t count;

	if (!port->block.engine)
		return;
	worker_call(worker, scsi_detach, port);
	count = scsi_port_fds(port, fds);
	for (size_t i = 0; i < count; i++)
		worker_take_fd(worker, fds[i]);
	block_queue_close(&port->block);
}

/* What an image needs and a device has. */
static bool scsi_conf_is_passthrough(const struct scsi_conf *conf)
{
	const struct block_conf *block = &conf->block;

	return block->path && !block->format && !block->backing && !block->cache_size &&
	       !block->direct && !block->engine && !block->sqpoll && !block->cache &&
	       !block->block_size && !block->write_error && !block->read_error &&
	       !conf->cdrom && !conf->serial && !conf->product;
}

static int scsi_open_device(struct scsi *scsi, struct scsi_unit *unit, const struct scsi_conf *conf)
{
	int r;

	if (!scsi_conf_is_passthrough(conf))
		return -EBADRQC;
	r = passthrough_open(&unit->device, conf->block.path, conf->block.read_only);
	if (r < 0)
		return r;
	unit->conf = conf->block;
	unit->conf.path = NULL;
	block_disk_limit(&unit->disk, &unit->conf);
	scsi->sectors_max = (uint32_t)util_min(scsi->sectors_max,
					       unit->device.bytes_max / BLOCK_SECTOR);
	scsi->segments_max = (uint32_t)util_min(scsi->segments_max, unit->device.segments_max);
	return 0;
}

static int scsi_open_image(struct scsi_unit *unit, const struct scsi_conf *conf, int fd)
{
	int r;

	unit->conf = conf->block;
	unit->conf.read_only |= conf->cdrom;
	if (fd < 0) {
		r = block_disk_open(&unit->disk, &unit->conf);
	} else {
		/* Whoever is handed a file may make no rings. */
		unit->conf.engine = BLOCK_ENGINE_SYNC;
		r = block_disk_adopt(&unit->disk, &unit->conf, fd);
	}
	/* conf's owner may free it. */
	unit->conf.path = NULL;
	return r;
}

static int scsi_open_ports(struct scsi *scsi, struct scsi_unit *unit, unsigned int number)
{
	const unsigned int count = scsi->dev.worker_count;
	int r = 0;

	unit->ports = calloc(count, sizeof(*unit->ports));
	if (!unit->ports)
		return -ENOMEM;
	for (unsigned int i = 0; i < count; i++) {
		unit->ports[i].queue = &scsi->queues[i];
		unit->ports[i].unit = unit;
		unit->ports[i].number = (uint16_t)number;
	}
	for (unsigned int i = 0; i < count && !r; i++)
		r = scsi_port_open(&unit->ports[i]);
	return r;
}

static int scsi_take_number(struct scsi *scsi, const struct scsi_unit *unit, unsigned int number,
			    const struct scsi_conf *conf)
{
	const struct block_image *image = &unit->disk.image;
	const struct scsi_identity identity = {
		.type = conf->cdrom ? SCSI_CDROM : SCSI_DISK,
		.serial = conf->serial,
		.product = conf->product,
		.write_through = conf->block.cache == BLOCK_CACHE_WRITETHROUGH,
		.read_only = image->read_only,
		.reads_zeroes = unit->disk.reads_zeroes,
		.block_size = image->block_size,
		.size = image->size,
	};

	if (!unit->device.execute)
		return scsi_lun_init(&scsi->target, number, &identity, &scsi->state.flags[number]);
	scsi_lun_init_device(&scsi->target, number, &unit->device, &scsi->state.flags[number]);
	return 0;
}

int scsi_unit_add(struct scsi *scsi, unsigned int number, const struct scsi_conf *conf, int fd)
{
	_cleanup_close_ int owned = fd;
	struct scsi_unit *unit = calloc(1, sizeof(*unit));
	int r;

	if (!unit)
		return -ENOMEM;
	scsi->units[number] = unit;
	r = conf->passthrough ? scsi_open_device(scsi, unit, conf) :
				scsi_open_image(unit, conf, util_steal_fd(&owned));
	if (!r)
		r = scsi_open_ports(scsi, unit, number);
	return r < 0 ? r : scsi_take_number(scsi, unit, number, conf);
}

void scsi_unit_remove(struct scsi *scsi, unsigned int number)
{
	struct scsi_unit *unit = scsi->units[number];

	if (!unit)
		return;
	scsi_lun_hide(&scsi->luns[number]);
	for (unsigned int i = 0; unit->ports && i < scsi->dev.worker_count; i++)
		scsi_port_close(&unit->ports[i]);
	scsi_lun_free(&scsi->luns[number]);
	atomic_store(&scsi->state.flags[number], 0);
	if (unit->device.execute)
		passthrough_close(&unit->device);
	else
		block_disk_close(&unit->disk);
	free(unit->ports);
	free(unit);
	scsi->units[number] = NULL;
}

/* ---- while the guest runs ---- */

struct scsi_order {
	struct scsi *scsi;
	unsigned int unit;
	uint64_t bytes;
};

static int scsi_do_tell(void *arg)
{
	const struct scsi_order *order = arg;
	struct scsi *scsi = order->scsi;
	uint8_t *pending = &scsi->state.events[order->unit];

	/* A unit that went and came is one that the driver has to look at anew. */
	*pending = scsi->units[order->unit] ? *pending | EVENT_ADDED : EVENT_REMOVED;
	scsi_lun_announce(&scsi->luns[order->unit]);
	scsi_event_send(scsi);
	return 0;
}

static int scsi_do_resize(void *arg)
{
	const struct scsi_order *order = arg;
	struct block_disk *disk = &order->scsi->units[order->unit]->disk;
	int r = block_disk_resize(disk, order->bytes);

	if (!r)
		r = scsi_lun_resize(&order->scsi->luns[order->unit], disk->image.size);
	if (r < 0)
		return r;
	order->scsi->state.events[order->unit] |= EVENT_CAPACITY;
	scsi_event_send(order->scsi);
	return 0;
}

static int scsi_order(struct scsi *scsi, unsigned int unit, uint64_t bytes, int (*fn)(void *arg))
{
	return worker_call(&scsi->dev.workers[0], fn, &(struct scsi_order){ scsi, unit, bytes });
}

/* A lock is the open file's, which may come twice by two fds: it would not keep the units apart. */
static bool scsi_has_file(const struct scsi *scsi, int fd)
{
	struct stat wanted, st;

	if (fstat(fd, &wanted) < 0)
		return false;
	for (unsigned int i = 0; i < SCSI_LUNS_MAX; i++)
		if (scsi->units[i] && !scsi->units[i]->device.execute &&
		    fstat(scsi->units[i]->disk.image.fd, &st) == 0 &&
		    st.st_dev == wanted.st_dev && st.st_ino == wanted.st_ino)
			return true;
	return false;
}

int scsi_unit_plug(struct virtio_dev *dev, unsigned int unit, const struct virtio_conf *conf,
		   int fd)
{
	const struct scsi_conf *wanted = container_of(conf, struct scsi_conf, virtio);
	struct scsi *scsi = container_of(dev, struct scsi, dev);
	_cleanup_close_ int owned = fd;
	int r;

	if (unit >= SCSI_LUNS_MAX)
		return -ENXIO;
	if (scsi->units[unit])
		return -EEXIST;
	if (wanted->passthrough || wanted->block.engine == BLOCK_ENGINE_URING ||
	    wanted->block.sqpoll)
		return -EOPNOTSUPP;
	if (scsi_has_file(scsi, owned))
		return -EAGAIN;
	r = scsi_unit_add(scsi, unit, wanted, util_steal_fd(&owned));
	if (r < 0) {
		scsi_unit_remove(scsi, unit);
		return r;
	}
	return scsi_order(scsi, unit, 0, scsi_do_tell);
}

int scsi_unit_unplug(struct virtio_dev *dev, unsigned int unit)
{
	struct scsi *scsi = container_of(dev, struct scsi, dev);

	if (unit >= SCSI_LUNS_MAX || !scsi->units[unit])
		return -ENOENT;
	if (scsi->units[unit]->device.execute)
		return -EOPNOTSUPP;
	scsi_unit_remove(scsi, unit);
	return scsi_order(scsi, unit, 0, scsi_do_tell);
}

int scsi_unit_resize(struct virtio_dev *dev, unsigned int unit, uint64_t bytes)
{
	struct scsi *scsi = container_of(dev, struct scsi, dev);

	if (unit >= SCSI_LUNS_MAX || !scsi->units[unit])
		return -ENOENT;
	/* It tells itself that it has changed. */
	if (scsi->units[unit]->device.execute)
		return -EOPNOTSUPP;
	return scsi_order(scsi, unit, bytes, scsi_do_resize);
}
