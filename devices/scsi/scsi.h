/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A SCSI target: logical units, which are disks and CD-ROMs, and the commands
 * that they take (SAM-5, SPC-4, SBC-3, MMC-6). It knows nothing of how commands
 * come and answers go: whoever carries them fills a task, runs it, and finds
 * the answer in it when done is called.
 *
 * Tasks of one unit may run on several threads. What they share is the unit's
 * flags, its capacity, both atomic, and its buffer, which the task has to itself
 * that set SCSI_BUFFER_TAKEN.
 */
#ifndef DEVICES_SCSI_SCSI_H
#define DEVICES_SCSI_SCSI_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include "devices/block/block.h"

#define SCSI_LUNS_MAX 256
#define SCSI_CDB_MAX 16
/* Of a host's device; the target's own takes 20. */
#define SCSI_SENSE_MAX 96
#define SCSI_SERIAL_MAX 20
#define SCSI_PRODUCT_MAX 16
/* What a unit compares with and fills blocks from. */
#define SCSI_BUFFER_BYTES 65536
#define SCSI_CDROM_BLOCK 2048

enum scsi_type { SCSI_DISK = 0x00, SCSI_CDROM = 0x05 };

/* SAM-5, section 5.3. */
enum scsi_status {
	SCSI_GOOD = 0x00,
	SCSI_CHECK_CONDITION = 0x02,
	SCSI_BUSY = 0x08,
};

/* A unit's state: what a save has to take. */
enum scsi_flag {
	SCSI_PLUGGED = 1 << 0,
	SCSI_STOPPED = 1 << 1,
	SCSI_EJECTED = 1 << 2,
	SCSI_LOCKED = 1 << 3,
	SCSI_WRITE_THROUGH = 1 << 4,
	SCSI_DESCRIPTOR_SENSE = 1 << 5,
	SCSI_BUFFER_TAKEN = 1 << 6,
	/* Unit attentions, the most important first (SAM-5, section 5.14). */
	SCSI_ATTENTION_RESET = 1 << 8,
	SCSI_ATTENTION_MEDIUM = 1 << 9,
	SCSI_ATTENTION_LUNS = 1 << 10,
	SCSI_ATTENTION_CAPACITY = 1 << 11,
	/* What GET EVENT STATUS NOTIFICATION has still to tell. */
	SCSI_EVENT_NEW = 1 << 12,
	SCSI_EVENT_REMOVAL = 1 << 13,
};

/* Why a host's device could not answer: the status means nothing then. */
enum scsi_failure {
	SCSI_NO_FAILURE,
	SCSI_ABORTED,
	SCSI_GONE,
	SCSI_WAS_RESET,
	SCSI_CONGESTED,
	SCSI_TRANSPORT_FAILED,
	SCSI_TARGET_FAILED,
	SCSI_NEXUS_FAILED,
	SCSI_FAILED,
};

struct passthrough;

struct scsi_lun {
	struct scsi_target *target;
	uint16_t number;
	enum scsi_type type;
	const struct passthrough *device; /* of the host's, which answers; NULL: the target does */
	bool read_only;
	bool write_through; /* to begin with; SCSI_WRITE_THROUGH is in force */
	bool reads_zeroes;  /* unmapped blocks do */
	uint32_t block_size;
	_Atomic uint64_t blocks;
	_Atomic uint32_t *flags; /* enum scsi_flag; its owner has them where a save takes them */
	char serial[SCSI_SERIAL_MAX + 1];
	char product[SCSI_PRODUCT_MAX + 1];
	uint8_t *buffer;
};

/* luns is the owner's, count of them; number n is luns[n]. One without SCSI_PLUGGED is a number that no unit has. */
struct scsi_target {
	struct scsi_lun *luns;
	unsigned int count;
};

/* Who a unit says that it is. Strings may be NULL. */
struct scsi_identity {
	enum scsi_type type;
	const char *serial, *product;
	bool read_only;
	bool write_through;
	bool reads_zeroes;
	uint32_t block_size; /* a power of two; CD-ROMs have 2048 */
	uint64_t size;       /* bytes; what does not fill a block is left out */
};

/*
 * Unit number index of the target, with its flags where flags points to. From
 * when it returns any thread may run tasks of it. -ENOMEM; -E2BIG: a string is too long; -EINVAL: not one block fits.
 */
int scsi_lun_init(struct scsi_target *target, unsigned int index,
		  const struct scsi_identity *identity, _Atomic uint32_t *flags);
/* The same of a host's device, which says itself who it is. */
void scsi_lun_init_device(struct scsi_target *target, unsigned int index,
			  const struct passthrough *device, _Atomic uint32_t *flags);
/* After its last task. Accepts a zeroed one. */
void scsi_lun_free(struct scsi_lun *lun);
/* The number has no unit any more: from now on tasks find none. */
void scsi_lun_hide(struct scsi_lun *lun);
/* The inventory has changed: all units but this one tell that. */
void scsi_lun_announce(const struct scsi_lun *lun);

/* Whether flags, which a save was loaded into, are such as a unit can have: 0 or -EINVAL. */
int scsi_lun_check(const struct scsi_lun *lun);
/* As after power-on: LOGICAL UNIT RESET, or a reset of the whole target. */
void scsi_lun_reset(struct scsi_lun *lun);
/* A new size in bytes. -EINVAL when not one block fits. */
int scsi_lun_resize(struct scsi_lun *lun, uint64_t size);
static inline bool scsi_lun_has(const struct scsi_lun *lun, enum scsi_flag flag)
{
	return atomic_load(lun->flags) & flag;
}

/*
 * One command. Its owner zeroes it, fills the first part, and keeps it and its
 * buffers until done runs, on the thread that ran it.
 */
struct scsi_task {
	struct scsi_lun *lun; /* any of the target's, with a unit or not; the next two only where there is one */
	const struct block_disk *disk;
	const struct block_queue *queue;
	uint8_t cdb[SCSI_CDB_MAX];
	size_t cdb_len;
	/* Data-Out and Data-In buffers; the iovecs may be changed. */
	struct iovec *out, *in;
	unsigned int out_count, in_count;
	size_t out_len, in_len;
	void (*done)(struct scsi_task *task);
	/* Not done: the host's disk failed, and its user wants such tasks kept (werror, rerror). */
	void (*stopped)(struct scsi_task *task);

	/* The answer. */
	uint8_t status;
	enum scsi_failure failure;
	bool overrun; /* the command wants larger buffers: nothing was done, status means nothing */
	size_t taken, given; /* bytes of out, and of in */
	uint8_t sense[SCSI_SENSE_MAX];
	size_t sense_len;

	/* The target's own. */
	struct block_request io;
	struct iovec iov;
	uint32_t (*step)(struct scsi_task *task);
	uint64_t lba, info;
	uint64_t blocks; /* from lba, still to be worked on */
	size_t position; /* in the Data-Out buffer */
	int result;      /* of the last io */
	bool driving, io_over, has_buffer, has_info;
};

/* done or stopped may run within the call. */
void scsi_task_run(struct scsi_task *task);
/* One that was stopped: tries again, or ends it with the host's error. */
void scsi_task_retry(struct scsi_task *task);
void scsi_task_give_up(struct scsi_task *task);

#endif
