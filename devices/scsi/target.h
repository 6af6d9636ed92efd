/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the target share: outcomes, answers, and the commands by their standards. */
#ifndef DEVICES_SCSI_TARGET_H
#define DEVICES_SCSI_TARGET_H

#include <endian.h>
#include <string.h>
#include "core/util.h"
#include "devices/scsi/scsi.h"

/*
 * How a step of a task ended: with GOOD status (0), with a sense key, code and
 * qualifier (SPC-4, section 4.5), or in one of two other ways.
 */
enum scsi_outcome {
	OUTCOME_GOOD = 0,
	SENSE_STOPPED = 0x020402,          /* NOT READY, INITIALIZING COMMAND REQUIRED */
	SENSE_NO_MEDIUM = 0x023a00,
	SENSE_WRITE_ERROR = 0x030c00,
	SENSE_READ_ERROR = 0x031100,
	SENSE_PARAMETER_LENGTH = 0x051a00, /* ILLEGAL REQUEST */
	SENSE_OPCODE = 0x052000,
	SENSE_LBA = 0x052100,
	SENSE_FIELD = 0x052400,            /* INVALID FIELD IN CDB */
	SENSE_LUN = 0x052500,
	SENSE_PARAMETER = 0x052600,        /* INVALID FIELD IN PARAMETER LIST */
	SENSE_SAVING = 0x053900,
	SENSE_REMOVAL_PREVENTED = 0x055302,
	SENSE_MEDIUM_CHANGED = 0x062800,   /* UNIT ATTENTION */
	SENSE_RESET = 0x062900,
	SENSE_CAPACITY_CHANGED = 0x062a09,
	SENSE_LUNS_CHANGED = 0x063f0e,
	SENSE_WRITE_PROTECTED = 0x072700,
	SENSE_NO_SPACE = 0x072707,         /* DATA PROTECT, SPACE ALLOCATION FAILED */
	SENSE_MISCOMPARE = 0x0e1d00,
	OUTCOME_BUSY = 0x1000000,
	OUTCOME_PENDING,                   /* a request is with the engine: the task's step follows */
	OUTCOME_ANSWERED,                  /* by a host's device: status and sense data are the task's */
};

static inline uint16_t scsi_get16(const uint8_t *at)
{
	uint16_t value;

	memcpy(&value, at, sizeof(value));
	return be16toh(value);
}

static inline uint32_t scsi_get32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return be32toh(value);
}

static inline uint64_t scsi_get64(const uint8_t *at)
{
	return (uint64_t)scsi_get32(at) << 32 | scsi_get32(at + 4);
}

static inline void scsi_put16(uint8_t *at, uint16_t value)
{
	value = htobe16(value);
	memcpy(at, &value, sizeof(value));
}

static inline void scsi_put32(uint8_t *at, uint32_t value)
{
	value = htobe32(value);
	memcpy(at, &value, sizeof(value));
}

static inline void scsi_put64(uint8_t *at, uint64_t value)
{
	value = htobe64(value);
	memcpy(at, &value, sizeof(value));
}

/* ASCII data fields: left-aligned, padded with spaces (SPC-4, section 4.3.1). */
static inline void scsi_put_text(uint8_t *at, const char *text, size_t len)
{
	size_t used = strnlen(text, len);

	memcpy(at, text, used);
	memset(at + used, ' ', len - used);
}

/* ---- task.c ---- */

/* How long a CDB is that begins so. */
size_t task_cdb_length(uint8_t opcode);
/* Between memory and [offset, offset + len) of the iovecs, which have as much. */
void iov_copy(const struct iovec *iov, size_t offset, void *buffer, size_t len, bool to_iov);
/* Gives the initiator data, but not more than the allocation length of its CDB. */
uint32_t task_reply(struct scsi_task *task, const void *data, size_t len, size_t allocation);
/* Copies len bytes at offset of the Data-Out buffer, which has them. */
void task_pull(const struct scsi_task *task, size_t offset, void *buffer, size_t len);
/* The unit's buffer is the task's until it ends. False when another task has it. */
bool task_take_buffer(struct scsi_task *task);
/* Hands task->io to the engine; next follows, and finds its result in task->result. */
uint32_t task_submit(struct scsi_task *task, uint32_t (*next)(struct scsi_task *task));
/* What a result of -errno means to the initiator. */
uint32_t task_error(const struct scsi_task *task);
/* Sense data, of which there are two formats; returns its length. */
size_t sense_write(uint8_t sense[SCSI_SENSE_MAX], uint32_t outcome, bool descriptor,
		   const uint64_t *info);

/* ---- commands: primary.c (SPC), mode.c, disk.c (SBC), passthrough.c, cdrom.c (MMC) ---- */

uint32_t primary_test_ready(struct scsi_task *task);
uint32_t primary_request_sense(struct scsi_task *task);
uint32_t primary_inquiry(struct scsi_task *task);
uint32_t primary_report_luns(struct scsi_task *task);
uint32_t primary_start_stop(struct scsi_task *task);
uint32_t primary_prevent_removal(struct scsi_task *task);
/* The unit attention that comes next, or 0; it is cleared. */
uint32_t primary_take_attention(struct scsi_lun *lun);

uint32_t mode_sense(struct scsi_task *task);
uint32_t mode_select(struct scsi_task *task);

uint32_t disk_read(struct scsi_task *task);
uint32_t disk_write(struct scsi_task *task);
uint32_t disk_verify(struct scsi_task *task);
uint32_t disk_compare_and_write(struct scsi_task *task);
uint32_t disk_write_same(struct scsi_task *task);
uint32_t disk_unmap(struct scsi_task *task);
uint32_t disk_sync(struct scsi_task *task);
uint32_t disk_capacity(struct scsi_task *task);
uint32_t disk_service_action_in(struct scsi_task *task);
/* Blocks that one command compares and writes, or writes the same to, at the most. */
uint8_t disk_compare_max(const struct scsi_lun *lun);
uint32_t disk_same_max(const struct scsi_lun *lun);
#define DISK_UNMAP_DESCRIPTORS 64
#define DISK_UNMAP_BLOCKS UINT32_MAX

/* Any command to a unit that is a host's device. */
uint32_t passthrough_run(struct scsi_task *task);

uint32_t cdrom_read_toc(struct scsi_task *task);
uint32_t cdrom_configuration(struct scsi_task *task);
uint32_t cdrom_event_status(struct scsi_task *task);

#endif
