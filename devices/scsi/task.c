// SPDX-License-Identifier: Apache-2.0
/*
 * A task is a chain of steps. A step ends the task with an outcome, or gives a
 * request to the engine and names the step that follows. Where the engine is
 * through with the request before it returns, task_drive() goes on in a loop: a
 * command of many requests does not pile up on the stack.
 */
#include "devices/scsi/target.h"

enum command_trait {
	ON_DISK = 1 << 0,
	ON_CDROM = 1 << 1,
	ANYWHERE = ON_DISK | ON_CDROM,
	UNREADY = 1 << 2,   /* without a medium, or stopped */
	ATTENTIVE = 1 << 3, /* a unit attention does not stand in its way (SPC-4, section 5.6) */
	WRITES = 1 << 4,
	LUNLESS = 1 << 5,   /* a unit that is not there answers as well (SPC-4, section 5.6) */
	OURS = 1 << 6,      /* a unit that is a host's device leaves it to the target */
};

static const struct command {
	uint8_t opcode;
	uint8_t traits;
	uint32_t (*run)(struct scsi_task *task);
} commands[] = {
	{ 0x00, ANYWHERE, primary_test_ready },
	{ 0x03, ANYWHERE | UNREADY | ATTENTIVE | LUNLESS, primary_request_sense },
	{ 0x08, ANYWHERE, disk_read },
	{ 0x0a, ON_DISK | WRITES, disk_write },
	{ 0x12, ANYWHERE | UNREADY | ATTENTIVE | LUNLESS, primary_inquiry },
	{ 0x15, ANYWHERE | UNREADY, mode_select },
	{ 0x1a, ANYWHERE | UNREADY, mode_sense },
	{ 0x1b, ANYWHERE | UNREADY, primary_start_stop },
	{ 0x1e, ANYWHERE | UNREADY, primary_prevent_removal },
	{ 0x25, ANYWHERE, disk_capacity },
	{ 0x28, ANYWHERE, disk_read },
	{ 0x2a, ON_DISK | WRITES, disk_write },
	{ 0x2f, ANYWHERE, disk_verify },
	{ 0x35, ANYWHERE, disk_sync },
	{ 0x41, ON_DISK | WRITES, disk_write_same },
	{ 0x42, ON_DISK | WRITES, disk_unmap },
	{ 0x43, ON_CDROM, cdrom_read_toc },
	{ 0x46, ON_CDROM | UNREADY | ATTENTIVE, cdrom_configuration },
	{ 0x4a, ON_CDROM | UNREADY | ATTENTIVE, cdrom_event_status },
	{ 0x55, ANYWHERE | UNREADY, mode_select },
	{ 0x5a, ANYWHERE | UNREADY, mode_sense },
	{ 0x88, ON_DISK, disk_read },
	{ 0x89, ON_DISK | WRITES, disk_compare_and_write },
	{ 0x8a, ON_DISK | WRITES, disk_write },
	{ 0x8f, ON_DISK, disk_verify },
	{ 0x91, ON_DISK, disk_sync },
	{ 0x93, ON_DISK | WRITES, disk_write_same },
	{ 0x9e, ON_DISK, disk_service_action_in },
	{ 0xa0, ANYWHERE | UNREADY | ATTENTIVE | LUNLESS | OURS, primary_report_luns },
	{ 0xa8, ANYWHERE, disk_read },
	{ 0xaa, ON_DISK | WRITES, disk_write },
};

/* ---- buffers ---- */

void iov_copy(const struct iovec *iov, size_t offset, void *buffer, size_t len, bool to_iov)
{
	uint8_t *at = buffer;

	for (; len; iov++) {
		size_t part;

		if (offset >= iov->iov_len) {
			offset -= iov->iov_len;
			continue;
		}
		part = util_min(len, iov->iov_len - offset);
		if (to_iov)
			memcpy((uint8_t *)iov->iov_base + offset, at, part);
		else
			memcpy(at, (uint8_t *)iov->iov_base + offset, part);
		at += part;
		len -= part;
		offset = 0;
	}
}

void task_pull(const struct scsi_task *task, size_t offset, void *buffer, size_t len)
{
	iov_copy(task->out, offset, buffer, len, false);
}

uint32_t task_reply(struct scsi_task *task, const void *data, size_t len, size_t allocation)
{
	len = util_min(len, allocation);
	if (len > task->in_len) {
		task->overrun = true;
		return OUTCOME_GOOD;
	}
	iov_copy(task->in, 0, (void *)data, len, true);
	task->given = len;
	return OUTCOME_GOOD;
}

bool task_take_buffer(struct scsi_task *task)
{
	if (atomic_fetch_or(task->lun->flags, SCSI_BUFFER_TAKEN) & SCSI_BUFFER_TAKEN)
		return false;
	task->has_buffer = true;
	return true;
}

/* ---- answers ---- */

/* Sections 4.5.2 and 4.5.3: descriptor and fixed format, both of current errors. */
size_t sense_write(uint8_t sense[SCSI_SENSE_MAX], uint32_t outcome, bool descriptor,
		   const uint64_t *info)
{
	const uint8_t key = (uint8_t)(outcome >> 16), asc = (uint8_t)(outcome >> 8);
	const uint8_t qualifier = (uint8_t)outcome;
	bool fits = info && *info <= UINT32_MAX;

	memset(sense, 0, SCSI_SENSE_MAX);
	if (!descriptor) {
		sense[0] = fits ? 0xf0 : 0x70;
		sense[2] = key;
		if (fits)
			scsi_put32(sense + 3, (uint32_t)*info);
		sense[7] = 18 - 8;
		sense[12] = asc;
		sense[13] = qualifier;
		return 18;
	}
	memcpy(sense, (const uint8_t[]){ 0x72, key, asc, qualifier }, 4);
	if (!info)
		return 8;
	sense[7] = 12;
	/* The information descriptor. */
	memcpy(sense + 8, (const uint8_t[]){ 0x00, 0x0a, 0x80 }, 3);
	scsi_put64(sense + 12, *info);
	return 20;
}

uint32_t task_error(const struct scsi_task *task)
{
	if (task->result == -ENOSPC || task->result == -EDQUOT)
		return SENSE_NO_SPACE;
	return task->io.op == BLOCK_READ ? SENSE_READ_ERROR : SENSE_WRITE_ERROR;
}

static void task_finish(struct scsi_task *task, uint32_t outcome)
{
	if (task->has_buffer)
		atomic_fetch_and(task->lun->flags, ~(uint32_t)SCSI_BUFFER_TAKEN);
	if (outcome != OUTCOME_ANSWERED)
		task->status = outcome == OUTCOME_GOOD ? SCSI_GOOD :
			       outcome == OUTCOME_BUSY ? SCSI_BUSY : SCSI_CHECK_CONDITION;
	if (task->status == SCSI_CHECK_CONDITION && outcome != OUTCOME_ANSWERED)
		task->sense_len = sense_write(task->sense, outcome,
					      scsi_lun_has(task->lun, SCSI_DESCRIPTOR_SENSE),
					      task->has_info ? &task->info : NULL);
	task->done(task);
}

/* ---- steps ---- */

static void task_drive(struct scsi_task *task)
{
	uint32_t outcome = OUTCOME_PENDING;

	task->driving = true;
	do {
		task->io_over = false;
		outcome = task->step(task);
	} while (outcome == OUTCOME_PENDING && task->io_over);
	task->driving = false;
	if (outcome != OUTCOME_PENDING)
		task_finish(task, outcome);
}

static void task_io_done(struct block_request *io, int result)
{
	struct scsi_task *task = container_of(io, struct scsi_task, io);

	task->result = result;
	if (block_disk_stops(task->disk, io, result))
		task->stopped(task);
	else if (task->driving)
		task->io_over = true;
	else
		task_drive(task);
}

uint32_t task_submit(struct scsi_task *task, uint32_t (*next)(struct scsi_task *task))
{
	task->step = next;
	task->io.done = task_io_done;
	block_queue_submit(task->queue, &task->io);
	return OUTCOME_PENDING;
}

/* ---- commands ---- */

/* Where there is no unit, it has no type either: another one may be coming in. */
static const struct command *find_command(const struct scsi_task *task, bool there)
{
	const uint8_t type = !there ? LUNLESS : task->lun->type == SCSI_DISK ? ON_DISK : ON_CDROM;

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (task->cdb_len && commands[i].opcode == task->cdb[0] &&
		    commands[i].traits & type)
			return &commands[i];
	return NULL;
}

/* Section 4.2.5.1: the group, the upper bits of the operation code, says how long the CDB is. */
size_t task_cdb_length(uint8_t opcode)
{
	static const uint8_t lengths[8] = { 6, 10, 10, SCSI_CDB_MAX, 16, 12, 6, 10 };

	return lengths[opcode >> 5];
}

/* What stands in the way of a command, or 0. */
static uint32_t check_command(struct scsi_task *task, const struct command *command, bool there)
{
	struct scsi_lun *lun = task->lun;
	uint32_t attention;

	if (!command)
		return there ? SENSE_OPCODE : SENSE_LUN;
	if (task->cdb_len < task_cdb_length(command->opcode))
		return SENSE_FIELD;
	if (!(command->traits & ATTENTIVE)) {
		attention = primary_take_attention(lun);
		if (attention)
			return attention;
	}
	if (!(command->traits & UNREADY) && scsi_lun_has(lun, SCSI_EJECTED))
		return SENSE_NO_MEDIUM;
	if (!(command->traits & UNREADY) && scsi_lun_has(lun, SCSI_STOPPED))
		return SENSE_STOPPED;
	if (command->traits & WRITES && lun->read_only)
		return SENSE_WRITE_PROTECTED;
	return OUTCOME_GOOD;
}

static bool is_passed(const struct scsi_task *task, const struct command *command)
{
	return task->lun->device && !(command && command->traits & OURS);
}

void scsi_task_run(struct scsi_task *task)
{
	const bool there = scsi_lun_has(task->lun, SCSI_PLUGGED);
	const struct command *command = find_command(task, there);
	const bool passed = there && is_passed(task, command);
	uint32_t outcome = passed ? OUTCOME_GOOD : check_command(task, command, there);

	if (outcome != OUTCOME_GOOD) {
		task_finish(task, outcome);
		return;
	}
	task->step = passed ? passthrough_run : command->run;
	task_drive(task);
}

void scsi_task_retry(struct scsi_task *task)
{
	block_queue_submit(task->queue, &task->io);
}

void scsi_task_give_up(struct scsi_task *task)
{
	task_drive(task);
}
