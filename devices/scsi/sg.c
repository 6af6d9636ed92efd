// SPDX-License-Identifier: Apache-2.0
/*
 * The way to a SCSI device of the host's. The kernel takes commands from a confined
 * process by SG_IO alone, which waits for the device: sg's write() and read() refuse
 * whoever gave up privileges since the device was opened, and so does its reset. A
 * queue therefore has helpers, threads that do nothing but wait for the device.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <scsi/sg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include "devices/scsi/passthrough.h"
#include "devices/scsi/target.h"
#include "seccomp/helpers.h"

/* Commands that a device works on at a time, for each queue. sg itself takes 16 for an open file. */
#define SG_HELPERS 4
/* What the kernel copies for one command at the most. */
#define SG_BYTES_MAX MIB(1)
#define SG_PAGE 4096
/* Longer than a driver's patience; then the host's kernel begins to mend the device. */
#define SG_TIMEOUT_MS 60000
#define SG_TRIES 4

struct block_engine {
	const struct passthrough *device;
	struct helpers helpers;
};

static const struct sandbox helper_sandbox = SANDBOX(SC_ARG(ioctl, 1, SG_IO));

static int sg_execute(const struct passthrough *device, struct sg_io_hdr *header)
{
	return ioctl(device->fd, SG_IO, header) < 0 ? -errno : 0;
}

/* ---- one command ---- */

/* What a host's adapter reports, as the sg driver hands it on; there is no header with these. */
enum {
	DID_OK = 0x00,
	DID_NO_CONNECT = 0x01,
	DID_BUS_BUSY = 0x02,
	DID_TIME_OUT = 0x03,
	DID_BAD_TARGET = 0x04,
	DID_ABORT = 0x05,
	DID_RESET = 0x08,
	DID_TRANSPORT_DISRUPTED = 0x0e,
	DID_TRANSPORT_FAILFAST = 0x0f,
	DID_TARGET_FAILURE = 0x10,
	DID_NEXUS_FAILURE = 0x11,
};

static enum scsi_failure failure_of(const struct sg_io_hdr *header)
{
	/* A status of the device's says more than what the kernel has made of it. */
	if (header->status)
		return SCSI_NO_FAILURE;
	switch (header->host_status) {
	case DID_OK:
		return SCSI_NO_FAILURE;
	case DID_NO_CONNECT:
	case DID_BAD_TARGET:
		return SCSI_GONE;
	case DID_BUS_BUSY:
		return SCSI_CONGESTED;
	case DID_TIME_OUT:
	case DID_ABORT:
		return SCSI_ABORTED;
	case DID_RESET:
		return SCSI_WAS_RESET;
	case DID_TRANSPORT_DISRUPTED:
	case DID_TRANSPORT_FAILFAST:
		return SCSI_TRANSPORT_FAILED;
	case DID_TARGET_FAILURE:
		return SCSI_TARGET_FAILED;
	case DID_NEXUS_FAILURE:
		return SCSI_NEXUS_FAILED;
	default:
		return SCSI_FAILED;
	}
}

static int direction_of(const struct block_request *request)
{
	if (!request->len)
		return SG_DXFER_NONE;
	return request->op == BLOCK_WRITE ? SG_DXFER_TO_DEV : SG_DXFER_FROM_DEV;
}

/* The task's data is what its request says. The shorter one of len and the iovecs wins. */
static int execute(const struct passthrough *device, struct scsi_task *task)
{
	const struct block_request *request = &task->io;
	struct sg_io_hdr header = {
		.interface_id = 'S',
		.dxfer_direction = direction_of(request),
		.cmd_len = (unsigned char)task_cdb_length(task->cdb[0]),
		.mx_sb_len = sizeof(task->sense),
		.dxfer_len = (unsigned int)request->len,
		.cmdp = task->cdb,
		.sbp = task->sense,
		.timeout = SG_TIMEOUT_MS,
	};
	size_t moved;
	int r;

	if (request->len) {
		header.iovec_count = (unsigned short)request->iov_count;
		header.dxferp = (void *)request->iov;
	}
	r = device->execute(device, &header);
	if (r < 0)
		return r;
	moved = request->len;
	if (header.resid > 0)
		moved -= util_min((uint64_t)header.resid, moved);
	*(request->op == BLOCK_WRITE ? &task->taken : &task->given) = moved;
	task->status = header.status;
	task->sense_len = util_min(header.sb_len_wr, sizeof(task->sense));
	task->failure = failure_of(&header);
	return 0;
}

/* ---- the queue's side ---- */

static void engine_execute(void *opaque, void *request)
{
	const struct block_engine *engine = opaque;
	struct scsi_task *task = container_of((struct block_request *)request, struct scsi_task, io);

	task->result = execute(engine->device, task);
}

static void engine_finish(void *opaque, void *request)
{
	struct block_request *io = request;

	(void)opaque;
	io->done(io, container_of(io, struct scsi_task, io)->result);
}

static int engine_fd(const struct block_engine *engine)
{
	return helpers_fd(&engine->helpers);
}

static int engine_start(struct block_engine *engine)
{
	(void)engine;
	return 0;
}

static void engine_submit(struct block_engine *engine, struct block_request *request)
{
	helpers_submit(&engine->helpers, request);
}

static void engine_flush(struct block_engine *engine)
{
	(void)engine;
}

static void engine_complete(struct block_engine *engine)
{
	helpers_complete(&engine->helpers);
}

static void engine_drain(struct block_engine *engine)
{
	helpers_drain(&engine->helpers);
}

static void engine_close(struct block_engine *engine)
{
	if (!engine)
		return;
	helpers_close(&engine->helpers);
	free(engine);
}

static const struct block_engine_ops engine_ops = {
	.fd = engine_fd,
	.start = engine_start,
	.submit = engine_submit,
	.flush = engine_flush,
	.complete = engine_complete,
	.drain = engine_drain,
	.close = engine_close,
};

static void engine_closep(struct block_engine **engine)
{
	engine_close(*engine);
}

int passthrough_queue_open(const struct passthrough *device, struct worker *worker,
			   unsigned int depth, struct block_queue *ret_queue)
{
	_cleanup_(engine_closep) struct block_engine *engine = calloc(1, sizeof(*engine));
	int r;

	if (!engine)
		return -ENOMEM;
	engine->device = device;
	engine->helpers = (struct helpers){
		.suffix = "sg", .sandbox = &helper_sandbox, .fd = device->fd,
		.run = engine_execute, .done = engine_finish, .opaque = engine,
	};
	r = helpers_open(&engine->helpers, worker, SG_HELPERS, depth);
	if (r < 0)
		return r;
	*ret_queue = (struct block_queue){ .ops = &engine_ops, .engine = util_steal_ptr(&engine) };
	return 0;
}

/* ---- opening ---- */

/* A command of our own to a device that is being opened. Unit attentions of before are not the guest's. */
static int ask(const struct passthrough *device, const uint8_t *cdb, void *data, size_t len)
{
	struct iovec iov = { data, len };
	struct scsi_task task;
	int r;

	for (int i = 0; i < SG_TRIES; i++) {
		task = (struct scsi_task){
			.io = { .op = BLOCK_READ, .iov = &iov, .iov_count = 1, .len = len },
		};
		memcpy(task.cdb, cdb, task_cdb_length(cdb[0]));
		r = execute(device, &task);
		if (r < 0)
			return r;
		if (task.status == SCSI_GOOD && !task.failure)
			return task.given == len ? 0 : -EIO;
	}
	return -EIO;
}

static int identify(struct passthrough *device)
{
	static const uint8_t inquiry[6] = { 0x12, [4] = 36 }, read_capacity[10] = { 0x25 };
	uint8_t answer[36] = { 0 }, capacity[8] = { 0 };
	int r = ask(device, inquiry, answer, sizeof(answer));

	if (r < 0)
		return r == -EINVAL ? -ENOTTY : r;
	/* With its peripheral qualifier, which is 0 where there is such a device. */
	if (answer[0] != SCSI_DISK && answer[0] != SCSI_CDROM)
		return -EPROTOTYPE;
	device->type = (enum scsi_type)answer[0];
	device->has_lun_in_cdb = answer[2] < 3;
	device->block_size = device->type == SCSI_DISK ? BLOCK_SECTOR : SCSI_CDROM_BLOCK;
	/* Without a medium it has none to tell. */
	if (!ask(device, read_capacity, capacity, sizeof(capacity)) && scsi_get32(capacity + 4))
		device->block_size = (uint32_t)util_min(scsi_get32(capacity + 4), KIB(64));
	return 0;
}

/* The node's attribute as a number; -errno: it has none of that name. */
static long node_attribute(const struct stat *st, const char *name)
{
	_cleanup_close_ int fd = -1;
	char path[128], text[32] = "";

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s", major(st->st_rdev),
		 minor(st->st_rdev), name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		return -errno;
	return strtol(text, NULL, 10);
}

/* sg copies; a block device's data is mapped, and each page of it may be a segment. */
static int limit_generic(struct passthrough *device)
{
	int bytes;

	if (ioctl(device->fd, BLKSECTGET, &bytes) < 0)
		return -errno;
	device->bytes_max = (uint32_t)util_min((uint64_t)bytes, SG_BYTES_MAX);
	device->segments_max = UINT16_MAX;
	return bytes > 0 ? 0 : -ENOTTY;
}

static int limit_mapped(struct passthrough *device, const struct stat *st)
{
	long segments = node_attribute(st, "queue/max_segments");
	unsigned short sectors;

	if (node_attribute(st, "partition") >= 0)
		return -ENOTTY;
	if (segments < 0)
		return (int)segments;
	if (ioctl(device->fd, BLKSECTGET, &sectors) < 0)
		return -errno;
	/* One half for full pages, the other one for those at the ends of buffers. */
	device->segments_max = (uint32_t)util_max((uint64_t)segments / 2, 1);
	device->bytes_max = (uint32_t)util_min(util_min(sectors * (uint64_t)BLOCK_SECTOR, SG_BYTES_MAX),
					       device->segments_max * (uint64_t)SG_PAGE);
	return 0;
}

int passthrough_open(struct passthrough *device, const char *path, bool read_only)
{
	/* O_NONBLOCK: a drive without a medium is opened, too. O_EXCL: neither mounted nor another VM's. */
	const int flags = read_only ? O_RDONLY : O_RDWR | O_EXCL;
	_cleanup_close_ int fd = open(path, flags | O_NONBLOCK | O_CLOEXEC);
	struct passthrough opened = { .fd = fd, .read_only = read_only, .execute = sg_execute };
	struct stat st;
	int version, r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISBLK(st.st_mode) && !S_ISCHR(st.st_mode))
		return -ENOTTY;
	if (ioctl(fd, SG_GET_VERSION_NUM, &version) < 0 || version < 30000)
		return -ENOTTY;
	r = S_ISBLK(st.st_mode) ? limit_mapped(&opened, &st) : limit_generic(&opened);
	if (!r)
		r = identify(&opened);
	if (r < 0)
		return r;
	*device = opened;
	util_steal_fd(&fd);
	return 0;
}

void passthrough_close(struct passthrough *device)
{
	if (device->execute)
		util_closep(&device->fd);
	*device = (struct passthrough){ 0 };
}
