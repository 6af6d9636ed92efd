// SPDX-License-Identifier: Apache-2.0
/*
 * CDBs: a target of two disks, a CD-ROM and a device of the host's takes a series of commands. Each
 * has a byte for the unit, one for the length of the CDB and two for the lengths of the
 * buffers, then the CDB, then what the Data-Out buffer begins with. Whatever comes,
 * each command ends once, with an answer that fits its buffers.
 */
#include <assert.h>
#include <fcntl.h>
#include <scsi/sg.h>
#include <string.h>
#include "core/util.h"
#include "devices/scsi/passthrough.h"
#include "devices/scsi/scsi.h"
#include "tests/fuzz/fuzz.h"

#define DISK_BYTES KIB(64)
#define COMMANDS_MAX 64
#define LUNS 4
#define DEVICE 3 /* the host's */

struct target {
	struct block_conf conf;
	struct block_disk disk;
	struct block_queue queue;
	struct scsi_lun luns[LUNS];
	_Atomic uint32_t flags[LUNS];
	struct scsi_target target;
	struct scsi_task task;
	struct passthrough device;
	struct worker worker;
	struct block_queue device_queue;
	unsigned int done;
};

/* A device that answers as the CDB has it, and tells lies about how much it moved. */
static int execute(const struct passthrough *device, struct sg_io_hdr *header)
{
	const struct iovec *iov = header->dxferp;

	assert(header->dxfer_len <= device->bytes_max && header->cmd_len <= SCSI_CDB_MAX);
	assert(header->dxfer_len <= (header->iovec_count ? iov->iov_len : 0));
	if (header->dxfer_direction == SG_DXFER_FROM_DEV)
		memset(iov->iov_base, header->cmdp[0], header->dxfer_len);
	header->resid = (int)((uint32_t)header->cmdp[3] << 24 | header->cmdp[2]);
	header->host_status = header->cmdp[4];
	if (header->cmdp[2] & 1) {
		header->status = SCSI_CHECK_CONDITION;
		header->sb_len_wr = header->cmdp[3] | 1;
		memset(header->sbp, 0x70, util_min(header->sb_len_wr, header->mx_sb_len));
	}
	return header->cmdp[2] == 0xfe ? -EPERM : 0;
}

static void make_device(struct target *target)
{
	int r;

	target->device = (struct passthrough){
		.fd = open("/dev/null", O_RDWR | O_CLOEXEC), .type = SCSI_CDROM,
		.block_size = SCSI_CDROM_BLOCK, .bytes_max = 4096, .execute = execute,
	};
	r = worker_init(&target->worker, "fuzz", NULL, false);
	assert(!r);
	r = passthrough_queue_open(&target->device, &target->worker, 1, &target->device_queue);
	assert(!r);
	scsi_lun_init_device(&target->target, DEVICE, &target->device, &target->flags[DEVICE]);
}

static void make(struct target *target)
{
	static const struct scsi_identity identities[DEVICE] = {
		{ .block_size = 512, .size = DISK_BYTES },
		{ .block_size = 4096, .size = DISK_BYTES, .read_only = true, .serial = "read-only" },
		{ .type = SCSI_CDROM, .size = DISK_BYTES },
	};
	int r;

	*target = (struct target){
		.conf = { .scratch = DISK_BYTES, .engine = BLOCK_ENGINE_SYNC },
		.target = { target->luns, LUNS },
	};
	r = block_disk_open(&target->disk, &target->conf);
	assert(!r);
	r = block_queue_open(&target->disk, 1, &target->queue);
	assert(!r);
	for (unsigned int i = 0; i < DEVICE; i++) {
		r = scsi_lun_init(&target->target, i, &identities[i], &target->flags[i]);
		assert(!r);
	}
	make_device(target);
}

static void unmake(struct target *target)
{
	for (unsigned int i = 0; i < LUNS; i++)
		scsi_lun_free(&target->luns[i]);
	block_queue_close(&target->device_queue);
	worker_free(&target->worker);
	passthrough_close(&target->device);
	block_queue_close(&target->queue);
	block_disk_close(&target->disk);
}

static void done(struct scsi_task *task)
{
	container_of(task, struct target, task)->done++;
}

/* On the heap, so that a byte beyond the buffer is one beyond its block. */
static void run(struct target *target, const uint8_t *head, const uint8_t cdb[SCSI_CDB_MAX],
		const uint8_t *data, size_t len)
{
	const size_t out_len = head[2] * 16u, in_len = head[3] * 16u;
	_cleanup_free_ uint8_t *out = calloc(1, out_len + 1), *in = malloc(in_len + 1);
	struct scsi_lun *lun = &target->luns[head[0] % LUNS];
	struct iovec out_iov = { out, out_len }, in_iov = { in, in_len };
	struct scsi_task *task = &target->task;

	assert(out && in);
	in[in_len] = 0xa5;
	memcpy(out, data, util_min(out_len, len));
	*task = (struct scsi_task){
		.lun = lun, .disk = &target->disk,
		.queue = lun->device ? &target->device_queue : &target->queue,
		.cdb_len = head[1] % (SCSI_CDB_MAX + 1),
		.out = &out_iov, .out_count = !!out_len, .out_len = out_len,
		.in = &in_iov, .in_count = !!in_len, .in_len = in_len, .done = done,
	};
	memcpy(task->cdb, cdb, task->cdb_len);
	target->done = 0;
	scsi_task_run(task);
	assert(target->done == 1 && in[in_len] == 0xa5);
	assert(task->given <= in_len && task->taken <= out_len);
	assert(task->sense_len <= SCSI_SENSE_MAX);
	assert((task->status == SCSI_CHECK_CONDITION) == (task->sense_len > 0));
	assert(scsi_lun_check(lun) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct target *target = malloc(sizeof(*target));
	unsigned int count = 0;

	assert(target);
	make(target);
	while (size >= 4 + SCSI_CDB_MAX && count++ < COMMANDS_MAX) {
		const uint8_t *head = data, *cdb = data + 4;
		size_t len;

		data += 4 + SCSI_CDB_MAX;
		size -= 4 + SCSI_CDB_MAX;
		/* Not all of a long buffer has to be in the input. */
		len = util_min(util_min(head[2] * 16u, 64), size);
		run(target, head, cdb, data, len);
		data += len;
		size -= len;
	}
	unmake(target);
	free(target);
	return 0;
}
