// SPDX-License-Identifier: Apache-2.0
/* Commands on blocks (SBC-3, section 5). */
#include "devices/scsi/target.h"

/* WRITE SAME is no way to keep the unit busy for ever. */
#define SAME_BYTES_MAX MIB(64)
#define UNMAP_HEADER 8
#define UNMAP_DESCRIPTOR 16

uint8_t disk_compare_max(const struct scsi_lun *lun)
{
	return (uint8_t)util_min(SCSI_BUFFER_BYTES / lun->block_size, UINT8_MAX);
}

uint32_t disk_same_max(const struct scsi_lun *lun)
{
	return (uint32_t)(SAME_BYTES_MAX / lun->block_size);
}

/* ---- which blocks ---- */

/* Sets lba and blocks as the CDB has them, and checks that there are such. */
static uint32_t take_extent(struct scsi_task *task)
{
	const uint8_t *cdb = task->cdb;

	switch (cdb[0] >> 5) {
	case 0:
		task->lba = scsi_get32(cdb) & 0x1fffff;
		task->blocks = cdb[4] ? cdb[4] : 256;
		break;
	case 4:
		task->lba = scsi_get64(cdb + 2);
		task->blocks = scsi_get32(cdb + 10);
		break;
	case 5:
		task->lba = scsi_get32(cdb + 2);
		task->blocks = scsi_get32(cdb + 6);
		break;
	default:
		task->lba = scsi_get32(cdb + 2);
		task->blocks = scsi_get16(cdb + 7);
	}
	return util_within(task->lba, task->blocks, atomic_load(&task->lun->blocks)) ?
		       OUTCOME_GOOD : SENSE_LBA;
}

/* The protection field of all but the 6-byte CDBs: there is no protection information. */
static bool is_protected(const struct scsi_task *task)
{
	return task->cdb[0] >> 5 && task->cdb[1] & 0xe0;
}

static void advance(struct scsi_task *task, uint64_t blocks)
{
	task->lba += blocks;
	task->blocks -= blocks;
}

/* ---- requests ---- */

static uint32_t submit(struct scsi_task *task, enum block_op op, const struct iovec *iov,
		       unsigned int count, uint64_t len, uint32_t (*next)(struct scsi_task *task))
{
	const bool fua = task->cdb[0] >> 5 && task->cdb[0] >> 5 != 2 && task->cdb[1] & 8;

	task->io = (struct block_request){
		.op = op,
		.offset = task->lba * task->lun->block_size,
		.iov = iov,
		.iov_count = count,
		.len = len,
	};
	if (op == BLOCK_WRITE)
		task->io.durable = fua || scsi_lun_has(task->lun, SCSI_WRITE_THROUGH);
	return task_submit(task, next);
}

static uint32_t submit_buffer(struct scsi_task *task, enum block_op op, size_t len,
			      uint32_t (*next)(struct scsi_task *task))
{
	task->iov = (struct iovec){ task->lun->buffer, len };
	return submit(task, op, &task->iov, 1, len, next);
}

static uint32_t finish_request(struct scsi_task *task)
{
	return task->result < 0 ? task_error(task) : OUTCOME_GOOD;
}

/* Cuts iovecs down to len bytes, which they have. Returns how many are left. */
static unsigned int iov_cut(struct iovec *iov, uint64_t len)
{
	unsigned int count = 0;

	for (; len; count++) {
		iov[count].iov_len = util_min(iov[count].iov_len, len);
		len -= iov[count].iov_len;
	}
	return count;
}

/* ---- reading and writing ---- */

static uint32_t finish_transfer(struct scsi_task *task)
{
	if (task->result < 0)
		return task_error(task);
	*(task->io.op == BLOCK_READ ? &task->given : &task->taken) = task->io.len;
	return OUTCOME_GOOD;
}

static uint32_t transfer(struct scsi_task *task, enum block_op op, struct iovec *iov,
			 size_t room)
{
	uint32_t outcome = is_protected(task) ? SENSE_FIELD : take_extent(task);
	uint64_t len = task->blocks * task->lun->block_size;

	if (outcome || !len)
		return outcome;
	if (len > room) {
		task->overrun = true;
		return OUTCOME_GOOD;
	}
	return submit(task, op, iov, iov_cut(iov, len), len, finish_transfer);
}

uint32_t disk_read(struct scsi_task *task)
{
	return transfer(task, BLOCK_READ, task->in, task->in_len);
}

uint32_t disk_write(struct scsi_task *task)
{
	return transfer(task, BLOCK_WRITE, task->out, task->out_len);
}

uint32_t disk_sync(struct scsi_task *task)
{
	uint32_t outcome = take_extent(task);

	if (outcome || task->lun->read_only)
		return outcome;
	task->io = (struct block_request){ .op = BLOCK_FLUSH };
	return task_submit(task, finish_request);
}

/* ---- comparing ---- */

/* The Data-Out buffer against what was read; info says where they differ. */
static uint32_t compare(struct scsi_task *task, size_t len)
{
	uint8_t *is = task->lun->buffer, part[512];

	for (size_t at = 0; at < len; at += sizeof(part)) {
		task_pull(task, task->position + at, part, sizeof(part));
		for (size_t i = 0; i < sizeof(part); i++) {
			if (is[at + i] == part[i])
				continue;
			task->info = task->position + at + i;
			task->has_info = true;
			return SENSE_MISCOMPARE;
		}
	}
	return OUTCOME_GOOD;
}

static uint32_t finish_compare_and_write(struct scsi_task *task)
{
	task->taken = task->position;
	return finish_request(task);
}

static uint32_t write_compared(struct scsi_task *task)
{
	size_t len = task->io.len;
	uint32_t outcome = task->result < 0 ? task_error(task) : compare(task, len);

	if (outcome)
		return outcome;
	task_pull(task, len, task->lun->buffer, len);
	task->position = 2 * len;
	return submit_buffer(task, BLOCK_WRITE, len, finish_compare_and_write);
}

/* Section 5.2: no other command of the kind comes in between. */
uint32_t disk_compare_and_write(struct scsi_task *task)
{
	uint32_t outcome = is_protected(task) ? SENSE_FIELD : take_extent(task);
	size_t len = task->blocks * task->lun->block_size;

	if (outcome || !len)
		return outcome;
	if (task->blocks > disk_compare_max(task->lun))
		return SENSE_FIELD;
	if (2 * len > task->out_len) {
		task->overrun = true;
		return OUTCOME_GOOD;
	}
	if (!task_take_buffer(task))
		return OUTCOME_BUSY;
	return submit_buffer(task, BLOCK_READ, len, write_compared);
}

static uint32_t verify_next(struct scsi_task *task);

static uint32_t verify_read(struct scsi_task *task)
{
	size_t len = util_min(task->blocks * task->lun->block_size, SCSI_BUFFER_BYTES);

	return submit_buffer(task, BLOCK_READ, len, verify_next);
}

static uint32_t verify_next(struct scsi_task *task)
{
	size_t len = task->io.len;
	uint32_t outcome = task->result < 0 ? task_error(task) : compare(task, len);

	if (outcome)
		return outcome;
	task->position += len;
	task->taken = task->position;
	advance(task, len / task->lun->block_size);
	return task->blocks ? verify_read(task) : OUTCOME_GOOD;
}

uint32_t disk_verify(struct scsi_task *task)
{
	const unsigned int bytchk = task->cdb[1] >> 1 & 3;
	uint32_t outcome = is_protected(task) ? SENSE_FIELD : take_extent(task);

	if (outcome || !task->blocks || bytchk == 0)
		return outcome;
	if (bytchk != 1)
		return SENSE_FIELD;
	if (task->blocks > task->out_len / task->lun->block_size) {
		task->overrun = true;
		return OUTCOME_GOOD;
	}
	return task_take_buffer(task) ? verify_read(task) : OUTCOME_BUSY;
}

/* ---- filling and giving back ---- */

static bool is_zero(const uint8_t *data, size_t len)
{
	return !data[0] && !memcmp(data, data + 1, len - 1);
}

static uint32_t fill_next(struct scsi_task *task);

static uint32_t fill(struct scsi_task *task)
{
	size_t len = util_min(task->blocks * task->lun->block_size, SCSI_BUFFER_BYTES);

	return submit_buffer(task, BLOCK_WRITE, len, fill_next);
}

static uint32_t fill_next(struct scsi_task *task)
{
	if (task->result < 0)
		return task_error(task);
	advance(task, task->io.len / task->lun->block_size);
	return task->blocks ? fill(task) : OUTCOME_GOOD;
}

static uint32_t zero(struct scsi_task *task)
{
	task->io = (struct block_request){
		.op = BLOCK_ZERO,
		.offset = task->lba * task->lun->block_size,
		.len = task->blocks * task->lun->block_size,
		.unmap = task->cdb[1] & 8,
		.durable = scsi_lun_has(task->lun, SCSI_WRITE_THROUGH),
	};
	return task_submit(task, finish_request);
}

/* One block in front of the buffer is put behind it as often as it fits. */
static void repeat(uint8_t *buffer, size_t block)
{
	for (size_t at = block; at < SCSI_BUFFER_BYTES; at += block)
		memcpy(buffer + at, buffer, block);
}

static uint32_t same_data(struct scsi_task *task)
{
	const size_t block = task->lun->block_size;
	uint8_t *buffer = task->lun->buffer;

	if (task->out_len < block) {
		task->overrun = true;
		return OUTCOME_GOOD;
	}
	if (!task_take_buffer(task))
		return OUTCOME_BUSY;
	task_pull(task, 0, buffer, block);
	task->taken = block;
	if (is_zero(buffer, block))
		return zero(task);
	repeat(buffer, block);
	return fill(task);
}

/* Sections 5.42 and 5.43. */
uint32_t disk_write_same(struct scsi_task *task)
{
	const bool no_data = task->cdb[0] == 0x93 && task->cdb[1] & 1;
	uint32_t outcome = take_extent(task);

	/* Neither protection, nor anchored blocks, nor blocks that contain their address. */
	if (task->cdb[1] & 0xf6 || (task->cdb[1] & 1 && !no_data))
		return SENSE_FIELD;
	if (outcome)
		return outcome;
	if (!task->blocks || task->blocks > disk_same_max(task->lun))
		return SENSE_FIELD;
	return no_data ? zero(task) : same_data(task);
}

static uint32_t unmap_next(struct scsi_task *task)
{
	uint8_t descriptor[UNMAP_DESCRIPTOR];
	uint64_t lba, blocks;

	if (task->result < 0)
		return task_error(task);
	while (task->position + UNMAP_DESCRIPTOR <= task->taken) {
		task_pull(task, task->position, descriptor, sizeof(descriptor));
		task->position += sizeof(descriptor);
		lba = scsi_get64(descriptor);
		blocks = scsi_get32(descriptor + 8);
		if (!util_within(lba, blocks, atomic_load(&task->lun->blocks)))
			return SENSE_LBA;
		if (!blocks)
			continue;
		task->io = (struct block_request){
			.op = BLOCK_DISCARD,
			.offset = lba * task->lun->block_size,
			.len = blocks * task->lun->block_size,
		};
		return task_submit(task, unmap_next);
	}
	return OUTCOME_GOOD;
}

/* Section 5.28. */
uint32_t disk_unmap(struct scsi_task *task)
{
	const size_t len = scsi_get16(task->cdb + 7);
	uint8_t header[UNMAP_HEADER];
	size_t descriptors;

	/* Blocks cannot be anchored. */
	if (task->cdb[1] & 1)
		return SENSE_FIELD;
	if (!len)
		return OUTCOME_GOOD;
	if (len < UNMAP_HEADER)
		return SENSE_PARAMETER_LENGTH;
	if (len > task->out_len) {
		task->overrun = true;
		return OUTCOME_GOOD;
	}
	task_pull(task, 0, header, sizeof(header));
	descriptors = util_min(scsi_get16(header + 2), len - UNMAP_HEADER) / UNMAP_DESCRIPTOR;
	if (descriptors > DISK_UNMAP_DESCRIPTORS)
		return SENSE_PARAMETER;
	task->position = UNMAP_HEADER;
	task->taken = UNMAP_HEADER + descriptors * UNMAP_DESCRIPTOR;
	return unmap_next(task);
}

/* ---- capacity ---- */

uint32_t disk_capacity(struct scsi_task *task)
{
	const uint64_t last = atomic_load(&task->lun->blocks) - 1;
	uint8_t data[8];

	scsi_put32(data, (uint32_t)util_min(last, UINT32_MAX));
	scsi_put32(data + 4, task->lun->block_size);
	return task_reply(task, data, sizeof(data), sizeof(data));
}

/* READ CAPACITY (16), the only one of them. */
uint32_t disk_service_action_in(struct scsi_task *task)
{
	uint8_t data[32] = { 0 };

	if ((task->cdb[1] & 0x1f) != 0x10)
		return SENSE_FIELD;
	scsi_put64(data, atomic_load(&task->lun->blocks) - 1);
	scsi_put32(data + 8, task->lun->block_size);
	/* Logical block provisioning is there; LBPRZ. */
	if (!task->lun->read_only)
		data[14] = task->lun->reads_zeroes ? 0xc0 : 0x80;
	return task_reply(task, data, sizeof(data), scsi_get32(task->cdb + 10));
}
