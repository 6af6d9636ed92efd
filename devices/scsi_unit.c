// SPDX-License-Identifier: Apache-2.0
/* The units of virtio-scsi: each is an image, or a device of the host's, that every request queue reaches through a port. */
#include "devices/scsi.h"
#include "devices/scsi_device.h"

/* What an image needs and a device has. */
static bool scsi_conf_is_passthrough(const struct scsi_conf *conf)
{
	const struct block_conf *block = &conf->block;

	return block->path && !block->format && !block->backing && !block->cache_size &&
	       !block->direct && !block->engine && !block->sqpoll && !block->cache &&
	       !block->block_size && !block->write_error && !block->read_error &&
	       !conf->cdrom && !conf->serial && !conf->product;
}

static int scsi_unit_open_device(struct scsi *scsi, unsigned int index, const struct scsi_conf *conf)
{
	struct scsi_unit *unit = &scsi->units[index];
	int r;

	if (!scsi_conf_is_passthrough(conf))
		return -EBADRQC;
	r = passthrough_open(&unit->device, conf->block.path, conf->block.read_only);
	if (r < 0)
		return r;
	unit->conf = conf->block;
	block_disk_limit(&unit->disk, &unit->conf);
	scsi->sectors_max = (uint32_t)util_min(scsi->sectors_max,
					       unit->device.bytes_max / BLOCK_SECTOR);
	scsi->segments_max = (uint32_t)util_min(scsi->segments_max, unit->device.segments_max);
	scsi_lun_init_device(&scsi->target, index, &unit->device, &scsi->state.flags[index]);
	return 0;
}

static int scsi_unit_open(struct scsi *scsi, unsigned int index, const struct scsi_conf *conf)
{
	struct scsi_unit *unit = &scsi->units[index];
	struct scsi_identity identity = {
		.type = conf->cdrom ? SCSI_CDROM : SCSI_DISK,
		.serial = conf->serial,
		.product = conf->product,
	};
	int r;

	unit->conf = conf->block;
	unit->conf.read_only |= conf->cdrom;
	r = block_disk_open(&unit->disk, &unit->conf);
	if (r < 0)
		return r;
	identity.write_through = conf->block.cache == BLOCK_CACHE_WRITETHROUGH;
	identity.read_only = unit->disk.image.read_only;
	identity.reads_zeroes = unit->disk.reads_zeroes;
	identity.block_size = unit->disk.image.block_size;
	identity.size = unit->disk.image.size;
	return scsi_lun_init(&scsi->target, index, &identity, &scsi->state.flags[index]);
}

static int scsi_port_open(struct scsi_queue *queue, struct scsi_port *port, struct scsi_unit *unit)
{
	const unsigned int depth = queue->virtq->size_max;
	struct worker *worker = queue->virtq->worker;
	int fds[BLOCK_FDS_MAX], fd, r;

	port->queue = queue;
	port->unit = unit;
	port->end = &port->waiting;
	r = unit->device.execute ?
		    passthrough_queue_open(&unit->device, worker, depth, &port->block) :
		    block_queue_open(&unit->disk, depth, &port->block);
	if (!r && !unit->device.execute)
		r = worker_keep_fds(worker, fds, block_disk_fds(&unit->disk, fds));
	if (r < 0)
		return r;
	fd = port->block.ops->fd(port->block.engine);
	if (fd < 0)
		return 0;
	port->completion = (struct event){ .fd = fd, .fn = scsi_queue_completion };
	return worker_watch(worker, &port->completion, EPOLLIN);
}

int scsi_unit_add(struct scsi *scsi, unsigned int index, const struct scsi_conf *conf)
{
	int r = conf->passthrough ? scsi_unit_open_device(scsi, index, conf) :
				    scsi_unit_open(scsi, index, conf);

	for (unsigned int i = 0; i < scsi->dev.worker_count && !r; i++)
		r = scsi_port_open(&scsi->queues[i], &scsi->queues[i].ports[index],
				   &scsi->units[index]);
	if (r < 0 && scsi->dev.host->blamed)
		*scsi->dev.host->blamed = &conf->virtio;
	return r;
}

void scsi_unit_close(struct scsi_unit *unit)
{
	if (unit->device.execute)
		passthrough_close(&unit->device);
	else
		block_disk_close(&unit->disk);
}

struct scsi_order {
	struct scsi *scsi;
	unsigned int unit;
	uint64_t bytes;
	bool plugged;
};

static int scsi_do_plug(void *arg)
{
	const struct scsi_order *order = arg;
	struct scsi_lun *lun = &order->scsi->target.luns[order->unit];
	uint8_t *pending = &order->scsi->state.events[order->unit];

	if (scsi_lun_has(lun, SCSI_PLUGGED) == order->plugged)
		return 0;
	scsi_lun_plug(lun, order->plugged);
	/* A unit that went and came is one that the driver has to look at anew. */
	*pending = order->plugged ? *pending | EVENT_ADDED : EVENT_REMOVED;
	scsi_event_send(order->scsi);
	return 0;
}

static int scsi_do_resize(void *arg)
{
	const struct scsi_order *order = arg;
	struct scsi_lun *lun = &order->scsi->target.luns[order->unit];
	struct block_disk *disk = &order->scsi->units[order->unit].disk;
	/* A device of the host's tells itself that it has changed. */
	int r = lun->device ? -EOPNOTSUPP : block_disk_resize(disk, order->bytes);

	if (!r)
		r = scsi_lun_resize(lun, disk->image.size);
	if (r < 0)
		return r;
	order->scsi->state.events[order->unit] |= EVENT_CAPACITY;
	scsi_event_send(order->scsi);
	return 0;
}

static int scsi_order(struct virtio_dev *dev, struct scsi_order *order, int (*fn)(void *arg))
{
	order->scsi = container_of(dev, struct scsi, dev);
	if (order->unit >= order->scsi->target.count)
		return -ENOENT;
	return worker_call(&dev->workers[0], fn, order);
}

int scsi_unit_plug(struct virtio_dev *dev, unsigned int unit, bool plugged)
{
	return scsi_order(dev, &(struct scsi_order){ .unit = unit, .plugged = plugged },
			  scsi_do_plug);
}

int scsi_unit_resize(struct virtio_dev *dev, unsigned int unit, uint64_t bytes)
{
	return scsi_order(dev, &(struct scsi_order){ .unit = unit, .bytes = bytes },
			  scsi_do_resize);
}
