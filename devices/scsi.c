// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-scsi (section 5.6): one target with as many logical units as there are
 * --scsi options, and those that come later. The target (devices/scsi/) knows
 * commands; here they come and go.
 */
#include <endian.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include "devices/scsi_device.h"

#define SCSI_CONTROL_SIZE 64
#define SCSI_QUEUE_SIZE 256
/* The rest of a chain is for headers, and for buffers that lie across regions of memory. */
#define SCSI_SEG_MAX (CHAIN_IOV_MAX - 24)
#define SCSI_MAX_SECTORS 0xffff

static const char *const scsi_counters[] = {
	[SCSI_COMMANDS] = "commands",
	[SCSI_IN_BYTES] = "in_bytes",
	[SCSI_OUT_BYTES] = "out_bytes",
	[SCSI_CHECKS] = "check_conditions",
	[SCSI_OVERRUNS] = "overruns",
	[SCSI_FUNCTIONS] = "task_management",
	[SCSI_EVENTS] = "events",
	[SCSI_THROTTLED] = "throttled",
	[SCSI_STOPS] = "stops",
	NULL,
};

/* Section 5.6.6.1: 1, the target, then a LUN, by peripheral or flat space addressing. -1: no unit can be there. */
int scsi_find(const uint8_t lun[8])
{
	static const uint8_t none[4];
	unsigned int number = (lun[2] & 0x3fu) << 8 | lun[3];

	if (lun[0] != 1 || lun[1] || memcmp(lun + 4, none, sizeof(none)) ||
	    ((lun[2] & 0xc0) != 0x40 && lun[2]) || number >= SCSI_LUNS_MAX)
		return -1;
	return (int)number;
}

static void scsi_kick(struct virtio_dev *dev, struct virtq *virtq)
{
	struct scsi *scsi = container_of(dev, struct scsi, dev);

	if (virtq->index == SCSI_CONTROL)
		scsi_control_kick(scsi, virtq);
	else if (virtq->index == SCSI_EVENT)
		scsi_event_kick(scsi);
	else
		scsi_queue_kick(scsi, scsi_queue_of(virtq));
}

static int scsi_start_queue(struct virtq *virtq)
{
	return virtq->index < SCSI_HEAD ? 0 : scsi_queue_start(scsi_queue_of(virtq));
}

static void scsi_stop_queue(struct virtq *virtq)
{
	struct scsi *scsi = container_of(virtq->dev, struct scsi, dev);

	if (virtq->index == SCSI_CONTROL)
		scsi->wait.chain = NULL;
	else if (virtq->index == SCSI_EVENT)
		scsi->event = NULL;
	else
		scsi_queue_stop(scsi_queue_of(virtq));
}

static void scsi_retry(struct virtq *virtq)
{
	if (virtq->index >= SCSI_HEAD)
		scsi_queue_retry(scsi_queue_of(virtq));
}

static void scsi_set_config(struct scsi *scsi, uint32_t sense_size, uint32_t cdb_size)
{
	struct virtio_dev *dev = &scsi->dev;
	const uint16_t size = dev->queues[SCSI_HEAD].size_max;
	/* Two descriptors of a full ring belong to the headers. */
	uint64_t segments = util_min(size - 2u, scsi->segments_max);
	const struct virtio_scsi_config config = {
		.num_queues = htole32(dev->queue_count - SCSI_HEAD),
		.seg_max = htole32((uint32_t)util_max(segments, 1)),
		.max_sectors = htole32(scsi->sectors_max),
		.cmd_per_lun = htole32(size),
		.event_info_size = htole32(sizeof(struct virtio_scsi_event)),
		.sense_size = htole32(sense_size),
		.cdb_size = htole32(cdb_size),
		.max_lun = htole32(SCSI_LUNS_MAX - 1),
	};

	virtio_config_update(dev, 0, &config, sizeof(config));
}

static void scsi_get_sizes(const struct scsi *scsi, uint32_t *ret_sense, uint32_t *ret_cdb)
{
	struct virtio_scsi_config config;

	memcpy(&config, scsi->dev.config, sizeof(config));
	*ret_sense = le32toh(config.sense_size);
	*ret_cdb = le32toh(config.cdb_size);
}

/* Section 5.6.4: two fields are the driver's; the others stay what they are. */
static void scsi_config_write(struct virtio_dev *dev, uint32_t offset, uint32_t len)
{
	struct scsi *scsi = container_of(dev, struct scsi, dev);
	uint32_t sense_size, cdb_size;

	(void)offset, (void)len;
	scsi_get_sizes(scsi, &sense_size, &cdb_size);
	scsi_set_config(scsi, sense_size > SCSI_FIELD_MAX ? VIRTIO_SCSI_SENSE_SIZE : sense_size,
			cdb_size > SCSI_FIELD_MAX ? VIRTIO_SCSI_CDB_SIZE : cdb_size);
}

static int scsi_start(struct virtio_dev *dev)
{
	struct scsi *scsi = container_of(dev, struct scsi, dev);

	scsi_get_sizes(scsi, &scsi->sense_size, &scsi->cdb_size);
	/* Out of a save. */
	return scsi->sense_size > SCSI_FIELD_MAX || scsi->cdb_size > SCSI_FIELD_MAX ? -EINVAL : 0;
}

static void scsi_reset(struct virtio_dev *dev)
{
	struct scsi *scsi = container_of(dev, struct scsi, dev);

	scsi_reset_units(scsi, -1);
	/* A driver that begins looks at all units. */
	memset(scsi->state.events, 0, sizeof(scsi->state.events));
	scsi_set_config(scsi, VIRTIO_SCSI_SENSE_SIZE, VIRTIO_SCSI_CDB_SIZE);
}

static int scsi_load(struct virtio_dev *dev)
{
	struct scsi *scsi = container_of(dev, struct scsi, dev);
	int r = 0;

	for (unsigned int i = 0; i < SCSI_LUNS_MAX && !r; i++) {
		/* It was taken out before the save. */
		if (scsi->units[i] && !scsi->units[i]->device.execute &&
		    !atomic_load(&scsi->state.flags[i]))
			scsi_unit_remove(scsi, i);
		if (scsi->units[i])
			r = scsi_lun_check(&scsi->luns[i]);
		else if (atomic_load(&scsi->state.flags[i]))
			r = -EINVAL;
		if (scsi->state.events[i] & ~(EVENT_REMOVED | EVENT_ADDED | EVENT_CAPACITY))
			r = -EINVAL;
	}
	return r;
}

static int scsi_init_queue(struct scsi *scsi, unsigned int index)
{
	struct scsi_queue *queue = &scsi->queues[index];
	struct worker *worker = &scsi->dev.workers[index];
	int r;

	queue->virtq = &scsi->dev.queues[SCSI_HEAD + index];
	queue->over = calloc(queue->virtq->size_max, sizeof(*queue->over));
	if (!queue->over)
		return -ENOMEM;
	r = worker_timer(worker, &queue->timer, scsi_queue_limit);
	return r < 0 ? r : worker_open_gate(worker);
}

static int scsi_init_units(struct scsi *scsi)
{
	unsigned int number = 0;
	int r = 0;

	for (const struct virtio_conf *next = scsi->dev.conf; next && !r; next = next->next) {
		const struct scsi_conf *conf = container_of(next, struct scsi_conf, virtio);

		if (conf->controller)
			continue;
		r = scsi_unit_add(scsi, number++, conf, -1);
		if (r < 0 && scsi->dev.host->blamed)
			*scsi->dev.host->blamed = next;
	}
	return r;
}

static int scsi_init(struct virtio_dev *dev)
{
	struct scsi *scsi = container_of(dev, struct scsi, dev);
	int r;

	scsi->sectors_max = SCSI_MAX_SECTORS;
	scsi->segments_max = SCSI_SEG_MAX;
	scsi->target = (struct scsi_target){ scsi->luns, SCSI_LUNS_MAX };
	for (unsigned int i = 0; i < SCSI_LUNS_MAX; i++)
		scsi->luns[i] = (struct scsi_lun){ .target = &scsi->target,
						   .flags = &scsi->state.flags[i] };
	r = worker_timer(&dev->workers[0], &scsi->look, scsi_control_look);
	for (unsigned int i = 0; i < dev->worker_count && !r; i++)
		r = scsi_init_queue(scsi, i);
	if (!r)
		r = scsi_init_units(scsi);
	scsi_set_config(scsi, VIRTIO_SCSI_SENSE_SIZE, VIRTIO_SCSI_CDB_SIZE);
	return r;
}

static void scsi_free(struct virtio_dev *dev)
{
	struct scsi *scsi = container_of(dev, struct scsi, dev);

	for (unsigned int i = 0; i < SCSI_LUNS_MAX; i++)
		scsi_unit_remove(scsi, i);
	for (unsigned int i = 0; i < dev->worker_count; i++) {
		free(scsi->queues[i].over);
		timer_free(&scsi->queues[i].timer);
	}
	timer_free(&scsi->look);
}

static const struct opt scsi_opts[] = {
	BLOCK_OPTS(struct scsi_conf, block),
	{ .key = "controller", .type = OPT_BOOL, .one_of = true,
	  .offset = offsetof(struct scsi_conf, controller),
	  .help = "instead of a path: no unit, but a controller that units can come to" },
	{ .key = "cdrom", .type = OPT_BOOL, .offset = offsetof(struct scsi_conf, cdrom),
	  .help = "a CD-ROM: the guest cannot write, and sees blocks of 2048 bytes" },
	{ .key = "passthrough", .type = OPT_BOOL, .offset = offsetof(struct scsi_conf, passthrough),
	  .help = "PATH is a SCSI disk or drive of the host's, which gets the guest's own commands" },
	{ .key = "serial", .type = OPT_STRING, .offset = offsetof(struct scsi_conf, serial),
	  .arg = "TEXT", .help = "the serial number, at most 20 bytes; by default the unit's number" },
	{ .key = "product", .type = OPT_STRING, .offset = offsetof(struct scsi_conf, product),
	  .arg = "TEXT", .help = "what the guest sees as the product, at most 16 bytes" },
	VIRTIO_OPT_QUEUES("request queues of all units together, each with a thread of its own"),
	VIRTIO_OPTS,
	{ 0 },
};

/* The gate is for the files of units that come later. */
static const struct sandbox scsi_sandbox = SANDBOX(BLOCK_CALLS, WORKER_GATE_CALLS);

const struct virtio_class scsi_class = {
	.name = "scsi",
	.option = "scsi",
	.flag_option = "cdrom",
	.summary = "a unit of the SCSI controller: a disk or a CD-ROM",
	.sample = "scratch=1M,engine=sync",
	.id = VIRTIO_ID_SCSI,
	.pci_class = 0x010000,
	.head_sizes = (const uint16_t[]){ SCSI_CONTROL_SIZE, SCSI_CONTROL_SIZE },
	.head_count = SCSI_HEAD,
	.queue_sizes = (const uint16_t[]){ SCSI_QUEUE_SIZE },
	.queue_count = 1,
	.request_size = sizeof(struct scsi_request),
	.features = 1ULL << VIRTIO_SCSI_F_HOTPLUG | 1ULL << VIRTIO_SCSI_F_CHANGE,
	.config_size = sizeof(struct virtio_scsi_config),
	.dev_size = sizeof(struct scsi),
	.state_offset = offsetof(struct scsi, state),
	.state_size = sizeof(struct scsi_state),
	.state_version = 1,
	.opts = scsi_opts,
	.conf_size = sizeof(struct scsi_conf),
	.hints = block_hints,
	.counters = scsi_counters,
	.sandbox = &scsi_sandbox,
	.units = SCSI_LUNS_MAX,
	.init = scsi_init,
	.start = scsi_start,
	.queue_start = scsi_start_queue,
	.kick = scsi_kick,
	.queue_stop = scsi_stop_queue,
	.retry = scsi_retry,
	.config_write = scsi_config_write,
	.reset = scsi_reset,
	.load = scsi_load,
	.free = scsi_free,
};
