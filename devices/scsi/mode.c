// SPDX-License-Identifier: Apache-2.0
/*
 * Mode pages (SPC-4, sections 6.10 and 7.5; SBC-3, section 6.4). Two bits can be
 * changed: whether the write cache is on, and the format of sense data.
 */
#include "devices/scsi/target.h"

#define PAGE_RECOVERY 0x01
#define PAGE_CACHING 0x08
#define PAGE_CONTROL 0x0a
#define PAGE_CAPABILITIES 0x2a
#define PAGE_ALL 0x3f
#define PAGE_BYTES_MAX 32
#define WCE 0x04
#define D_SENSE 0x04

enum page_control { CURRENT, CHANGEABLE, DEFAULT, SAVED };

/* A page, from its code on; its length, or 0 where the unit has none such. */
static size_t page_write(const struct scsi_lun *lun, uint8_t code, enum page_control control,
			 uint8_t page[PAGE_BYTES_MAX])
{
	const bool changeable = control == CHANGEABLE, current = control == CURRENT;

	memset(page, 0, PAGE_BYTES_MAX);
	page[0] = code;
	switch (code) {
	case PAGE_RECOVERY:
		page[1] = 10;
		break;
	case PAGE_CACHING:
		page[1] = 18;
		if (lun->type == SCSI_CDROM)
			return 0;
		if (changeable || !(current ? scsi_lun_has(lun, SCSI_WRITE_THROUGH) : lun->write_through))
			page[2] = WCE;
		break;
	case PAGE_CONTROL:
		page[1] = 10;
		if (changeable || (current && scsi_lun_has(lun, SCSI_DESCRIPTOR_SENSE)))
			page[2] = D_SENSE;
		/* Commands may be reordered as one likes. */
		page[3] = changeable ? 0 : 0x10;
		break;
	case PAGE_CAPABILITIES:
		/* MMC-3, section 5.5.10: of a drive with a tray, which reads CDs and DVDs. */
		page[1] = 20;
		if (lun->type == SCSI_DISK)
			return 0;
		if (!changeable)
			memcpy(page + 2, (const uint8_t[]){ 0x0b, 0, 0x70, 0, 0x29 }, 5);
		break;
	default:
		return 0;
	}
	return 2u + page[1];
}

static size_t pages_write(const struct scsi_lun *lun, uint8_t code, enum page_control control,
			  uint8_t *pages)
{
	static const uint8_t all[] = { PAGE_RECOVERY, PAGE_CACHING, PAGE_CONTROL,
				       PAGE_CAPABILITIES };
	size_t len = 0;

	if (code != PAGE_ALL)
		return page_write(lun, code, control, pages);
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		len += page_write(lun, all[i], control, pages + len);
	return len;
}

/* SBC-3, section 6.4.2; its length. */
static size_t descriptor_write(const struct scsi_lun *lun, bool is_long, uint8_t *at)
{
	const uint64_t blocks = atomic_load(&lun->blocks);

	memset(at, 0, 16);
	if (is_long) {
		scsi_put64(at, blocks);
		scsi_put32(at + 12, lun->block_size);
		return 16;
	}
	scsi_put32(at, (uint32_t)util_min(blocks, UINT32_MAX));
	scsi_put32(at + 4, lun->block_size);
	return 8;
}

uint32_t mode_sense(struct scsi_task *task)
{
	const struct scsi_lun *lun = task->lun;
	const bool ten = task->cdb[0] == 0x5a, is_long = ten && task->cdb[1] & 0x10;
	const size_t header = ten ? 8 : 4;
	uint8_t data[8 + 16 + 4 * PAGE_BYTES_MAX] = { 0 };
	/* Write-protected; DPO and FUA are understood. */
	const uint8_t specific = lun->type == SCSI_CDROM ? 0 : lun->read_only ? 0x90 : 0x10;
	size_t descriptor = 0, pages;

	if ((task->cdb[2] >> 6) == SAVED)
		return SENSE_SAVING;
	if (task->cdb[3] && task->cdb[3] != 0xff)
		return SENSE_FIELD;
	/* CD-ROMs have none. */
	if (!(task->cdb[1] & 8) && lun->type == SCSI_DISK)
		descriptor = descriptor_write(lun, is_long, data + header);
	pages = pages_write(lun, task->cdb[2] & 0x3f, (enum page_control)(task->cdb[2] >> 6),
			    data + header + descriptor);
	if (!pages)
		return SENSE_FIELD;
	if (!ten) {
		data[0] = (uint8_t)(header + descriptor + pages - 1);
		data[2] = specific;
		data[3] = (uint8_t)descriptor;
		return task_reply(task, data, header + descriptor + pages, task->cdb[4]);
	}
	scsi_put16(data, (uint16_t)(header + descriptor + pages - 2));
	data[3] = specific;
	data[4] = descriptor == 16;
	scsi_put16(data + 6, (uint16_t)descriptor);
	return task_reply(task, data, header + descriptor + pages, scsi_get16(task->cdb + 7));
}

static void set_flag(struct scsi_lun *lun, uint32_t flag, bool on)
{
	if (on)
		atomic_fetch_or(lun->flags, flag);
	else
		atomic_fetch_and(lun->flags, ~flag);
}

/* A page may differ from what is in force only where that can be changed. */
static uint32_t page_select(struct scsi_lun *lun, const uint8_t *page, size_t len, bool apply)
{
	uint8_t current[PAGE_BYTES_MAX], mask[PAGE_BYTES_MAX];
	const uint8_t code = page[0] & 0x3f;

	if (page[0] & 0x40 || page_write(lun, code, CURRENT, current) != len)
		return SENSE_PARAMETER;
	page_write(lun, code, CHANGEABLE, mask);
	for (size_t i = 2; i < len; i++)
		if ((page[i] ^ current[i]) & ~mask[i])
			return SENSE_PARAMETER;
	if (apply && code == PAGE_CACHING)
		set_flag(lun, SCSI_WRITE_THROUGH, !(page[2] & WCE));
	if (apply && code == PAGE_CONTROL)
		set_flag(lun, SCSI_DESCRIPTOR_SENSE, page[2] & D_SENSE);
	return OUTCOME_GOOD;
}

static uint32_t pages_select(struct scsi_lun *lun, const uint8_t *pages, size_t left, bool apply)
{
	while (left) {
		uint32_t outcome;
		size_t len;

		if (left < 2 || left < 2u + pages[1])
			return SENSE_PARAMETER_LENGTH;
		len = 2u + pages[1];
		outcome = page_select(lun, pages, len, apply);
		if (outcome)
			return outcome;
		pages += len;
		left -= len;
	}
	return OUTCOME_GOOD;
}

/* Header, then block descriptors, which may only repeat what is; *ret_pages is where those end. */
static uint32_t check_header(const struct scsi_lun *lun, bool ten, const uint8_t *data, size_t len,
			     size_t *ret_pages)
{
	const size_t header = ten ? 8 : 4;
	size_t descriptors;
	uint8_t is[16];
	bool is_long;

	if (len < header)
		return SENSE_PARAMETER_LENGTH;
	descriptors = ten ? scsi_get16(data + 6) : data[3];
	is_long = ten && data[4] & 1;
	if (descriptors > len - header)
		return SENSE_PARAMETER_LENGTH;
	if (descriptors && (descriptors != descriptor_write(lun, is_long, is) ||
			   memcmp(data + header, is, descriptors)))
		return SENSE_PARAMETER;
	*ret_pages = header + descriptors;
	return OUTCOME_GOOD;
}

uint32_t mode_select(struct scsi_task *task)
{
	const bool ten = task->cdb[0] == 0x55;
	const size_t len = ten ? scsi_get16(task->cdb + 7) : task->cdb[4];
	uint8_t data[256];
	size_t pages = 0;
	uint32_t outcome;

	/* Page format, and nothing is saved. */
	if ((task->cdb[1] & 0x11) != 0x10)
		return SENSE_FIELD;
	if (!len)
		return OUTCOME_GOOD;
	if (len > sizeof(data))
		return SENSE_PARAMETER_LENGTH;
	if (len > task->out_len) {
		task->overrun = true;
		return OUTCOME_GOOD;
	}
	task_pull(task, 0, data, len);
	task->taken = len;
	outcome = check_header(task->lun, ten, data, len, &pages);
	if (!outcome)
		outcome = pages_select(task->lun, data + pages, len - pages, false);
	/* All of it, or nothing. */
	return outcome ? outcome : pages_select(task->lun, data + pages, len - pages, true);
}
