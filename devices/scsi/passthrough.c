// SPDX-License-Identifier: Apache-2.0
/*
 * What a guest may ask of a host's device: to read and to write the medium, and for its
 * properties (SPC-4, SBC-3, MMC-6). Whatever the list does not have never
 * reaches the device: what changes it beyond its blocks (MODE SELECT, FORMAT UNIT, WRITE
 * BUFFER), what others would feel (reservations, EXTENDED COPY, resets), what it tells of
 * itself in ways that are not the guest's business (diagnostics, security protocols), and all that vendors
 * have made up. The list also says which way data goes, and the CDB how much: less room
 * than that is an overrun, before the device could move anything.
 */
#include "devices/scsi/passthrough.h"
#include "devices/scsi/target.h"

enum passed_trait {
	ON_DISK = 1 << 0,
	ON_CDROM = 1 << 1,
	ANYWHERE = ON_DISK | ON_CDROM,
	ATTENTIVE = 1 << 2, /* a unit attention does not stand in its way */
	WRITES = 1 << 3,
	IN = 1 << 4,        /* which way data goes, if any does */
	OUT = 1 << 5,
	BLOCKS = 1 << 6,    /* its length is in blocks, else in bytes */
	TWICE = 1 << 7,
};

/* No protection information, which would come on top of the blocks. */
#define PLAIN 1, 0xe0, 0x00

static const struct passed {
	uint8_t opcode;
	uint8_t traits;
	/* The byte of the CDB that has to have this value in the bits of mask: a service action, or what tells uses apart. */
	uint8_t byte, mask, value;
	/* Where the CDB has the data's length, in so many bytes; 0 of them: the length is fixed. */
	uint8_t at, width, fixed;
} allowed[] = {
	{ 0x00, ANYWHERE, 0, 0, 0, 0, 0, 0 },                       /* TEST UNIT READY */
	{ 0x03, ANYWHERE | ATTENTIVE | IN, 0, 0, 0, 4, 1, 0 },      /* REQUEST SENSE */
	{ 0x08, ANYWHERE | IN | BLOCKS, 0, 0, 0, 4, 1, 0 },         /* READ (6) */
	{ 0x0a, ON_DISK | WRITES | OUT | BLOCKS, 0, 0, 0, 4, 1, 0 }, /* WRITE (6) */
	{ 0x12, ANYWHERE | ATTENTIVE | IN, 0, 0, 0, 3, 2, 0 },      /* INQUIRY */
	{ 0x1a, ANYWHERE | IN, 0, 0, 0, 4, 1, 0 },                  /* MODE SENSE (6) */
	{ 0x1b, ANYWHERE, 4, 0xf3, 0x01, 0, 0, 0 },                 /* START STOP UNIT: START */
	{ 0x23, ON_CDROM | IN, 0, 0, 0, 7, 2, 0 },                  /* READ FORMAT CAPACITIES */
	{ 0x25, ANYWHERE | IN, 0, 0, 0, 0, 0, 8 },                  /* READ CAPACITY (10) */
	{ 0x28, ANYWHERE | IN | BLOCKS, PLAIN, 7, 2, 0 },           /* READ (10) */
	{ 0x2a, ANYWHERE | WRITES | OUT | BLOCKS, PLAIN, 7, 2, 0 }, /* WRITE (10) */
	{ 0x2e, ON_DISK | WRITES | OUT | BLOCKS, PLAIN, 7, 2, 0 },  /* WRITE AND VERIFY (10) */
	{ 0x2f, ANYWHERE, 1, 0xe6, 0x00, 0, 0, 0 },                 /* VERIFY (10): of the medium */
	{ 0x2f, ON_DISK | OUT | BLOCKS, 1, 0xe6, 0x02, 7, 2, 0 },   /* VERIFY (10): of all blocks */
	{ 0x35, ANYWHERE, 0, 0, 0, 0, 0, 0 },                       /* SYNCHRONIZE CACHE (10) */
	{ 0x41, ON_DISK | WRITES | OUT | BLOCKS, PLAIN, 0, 0, 1 },  /* WRITE SAME (10) */
	{ 0x42, ON_DISK | WRITES | OUT, 0, 0, 0, 7, 2, 0 },         /* UNMAP */
	{ 0x42, ON_CDROM | IN, 0, 0, 0, 7, 2, 0 },                  /* READ SUB-CHANNEL */
	{ 0x43, ON_CDROM | IN, 0, 0, 0, 7, 2, 0 },                  /* READ TOC/PMA/ATIP */
	{ 0x46, ON_CDROM | ATTENTIVE | IN, 0, 0, 0, 7, 2, 0 },      /* GET CONFIGURATION */
	{ 0x4a, ON_CDROM | ATTENTIVE | IN, 0, 0, 0, 7, 2, 0 },      /* GET EVENT STATUS NOTIFICATION */
	{ 0x4d, ANYWHERE | IN, 1, 0x01, 0x00, 7, 2, 0 },            /* LOG SENSE, nothing saved */
	{ 0x51, ON_CDROM | IN, 0, 0, 0, 7, 2, 0 },                  /* READ DISC INFORMATION */
	{ 0x52, ON_CDROM | IN, 0, 0, 0, 7, 2, 0 },                  /* READ TRACK INFORMATION */
	{ 0x5a, ANYWHERE | IN, 0, 0, 0, 7, 2, 0 },                  /* MODE SENSE (10) */
	{ 0x5c, ON_CDROM | IN, 0, 0, 0, 7, 2, 0 },                  /* READ BUFFER CAPACITY */
	{ 0x88, ON_DISK | IN | BLOCKS, PLAIN, 10, 4, 0 },           /* READ (16) */
	{ 0x89, ON_DISK | WRITES | OUT | BLOCKS | TWICE, PLAIN, 13, 1, 0 }, /* COMPARE AND WRITE */
	{ 0x8a, ON_DISK | WRITES | OUT | BLOCKS, PLAIN, 10, 4, 0 }, /* WRITE (16) */
	{ 0x8e, ON_DISK | WRITES | OUT | BLOCKS, PLAIN, 10, 4, 0 }, /* WRITE AND VERIFY (16) */
	{ 0x8f, ON_DISK, 1, 0xe6, 0x00, 0, 0, 0 },                  /* VERIFY (16), as above */
	{ 0x8f, ON_DISK | OUT | BLOCKS, 1, 0xe6, 0x02, 10, 4, 0 },
	{ 0x91, ON_DISK, 0, 0, 0, 0, 0, 0 },                        /* SYNCHRONIZE CACHE (16) */
	{ 0x93, ON_DISK | WRITES, 1, 0xe1, 0x01, 0, 0, 0 },         /* WRITE SAME (16): of zeroes */
	{ 0x93, ON_DISK | WRITES | OUT | BLOCKS, 1, 0xe1, 0x00, 0, 0, 1 }, /* WRITE SAME (16) */
	{ 0x9e, ON_DISK | IN, 1, 0x1f, 0x10, 10, 4, 0 },            /* READ CAPACITY (16) */
	{ 0x9e, ON_DISK | IN, 1, 0x1f, 0x12, 10, 4, 0 },            /* GET LBA STATUS */
	{ 0xa8, ANYWHERE | IN | BLOCKS, PLAIN, 6, 4, 0 },           /* READ (12) */
	{ 0xaa, ANYWHERE | WRITES | OUT | BLOCKS, PLAIN, 6, 4, 0 }, /* WRITE (12) */
	{ 0xad, ON_CDROM | IN, 0, 0, 0, 8, 2, 0 },                  /* READ DISC STRUCTURE */
	{ 0xbd, ON_CDROM | IN, 0, 0, 0, 8, 2, 0 },                  /* MECHANISM STATUS */
};

#undef PLAIN

/* The row of the task's command; NULL, and in *ret_outcome why it is refused. */
static const struct passed *find_passed(const struct scsi_task *task, uint32_t *ret_outcome)
{
	const uint8_t *cdb = task->cdb, type = task->lun->type == SCSI_DISK ? ON_DISK : ON_CDROM;

	*ret_outcome = SENSE_OPCODE;
	for (size_t i = 0; i < ARRAY_SIZE(allowed) && task->cdb_len; i++) {
		if (allowed[i].opcode != cdb[0] || !(allowed[i].traits & type))
			continue;
		/* Normal control: no auto contingent allegiance, which the host would have to end, and no links. */
		if (task->cdb_len >= task_cdb_length(cdb[0]) &&
		    !(cdb[task_cdb_length(cdb[0]) - 1] & 7) &&
		    (cdb[allowed[i].byte] & allowed[i].mask) == allowed[i].value)
			return &allowed[i];
		*ret_outcome = SENSE_FIELD;
	}
	return NULL;
}

/* Bytes of data that the command moves at the most. */
static uint64_t data_length(const struct scsi_task *task, const struct passed *passed)
{
	uint64_t count = passed->fixed;

	for (unsigned int i = 0; i < passed->width; i++)
		count = count << 8 | task->cdb[passed->at + i];
	if (!(passed->traits & BLOCKS))
		return count;
	/* READ (6) and WRITE (6) have no use for 0. */
	if (!count && task->cdb[0] >> 5 == 0)
		count = 256;
	return count * task->lun->block_size * (passed->traits & TWICE ? 2 : 1);
}

/* A unit that cannot be written says so: a bit in the header of mode parameters. */
static void protect(const struct scsi_task *task)
{
	const size_t at = task->cdb[0] == 0x1a ? 2 : 3;
	uint8_t specific;

	if (!task->lun->read_only || task->lun->type != SCSI_DISK || task->given <= at ||
	    (task->cdb[0] != 0x1a && task->cdb[0] != 0x5a))
		return;
	iov_copy(task->in, at, &specific, 1, false);
	specific |= 0x80;
	iov_copy(task->in, at, &specific, 1, true);
}

static uint32_t finish(struct scsi_task *task)
{
	switch (task->result) {
	case 0:
		protect(task);
		return OUTCOME_ANSWERED;
	case -EPERM:
		/* Of a block device's node the kernel has a list of its own. */
		return SENSE_OPCODE;
	case -ENOMEM:
	case -EAGAIN:
		return OUTCOME_BUSY;
	case -ENODEV:
	case -ENXIO:
		task->failure = SCSI_GONE;
		return OUTCOME_ANSWERED;
	default:
		task->failure = SCSI_FAILED;
		return OUTCOME_ANSWERED;
	}
}

/*
 * SCSI-2 had the LUN in byte 1, and Linux has it there for units of that age, and in each INQUIRY
 * before it knows. It is the number of our unit, which is not the device's.
 */
static void drop_lun(struct scsi_task *task)
{
	if (task->lun->device->has_lun_in_cdb || task->cdb[0] == 0x12)
		task->cdb[1] &= 0x1f;
}

uint32_t passthrough_run(struct scsi_task *task)
{
	uint32_t outcome, attention;
	const struct passed *passed;
	bool out;
	uint64_t len;

	drop_lun(task);
	passed = find_passed(task, &outcome);
	if (!passed)
		return outcome;
	attention = passed->traits & ATTENTIVE ? 0 : primary_take_attention(task->lun);
	if (attention)
		return attention;
	if (passed->traits & WRITES && task->lun->read_only)
		return SENSE_WRITE_PROTECTED;
	out = passed->traits & OUT;
	len = data_length(task, passed);
	if (len > (out ? task->out_len : task->in_len)) {
		task->overrun = true;
		return OUTCOME_GOOD;
	}
	if (len > task->lun->device->bytes_max)
		return SENSE_FIELD;
	task->io = (struct block_request){
		.op = out ? BLOCK_WRITE : BLOCK_READ,
		.iov = out ? task->out : task->in,
		.iov_count = out ? task->out_count : task->in_count,
		.len = len,
	};
	return task_submit(task, finish);
}
