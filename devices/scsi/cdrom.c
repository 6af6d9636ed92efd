// SPDX-License-Identifier: Apache-2.0
/* What CD-ROMs have besides blocks (MMC-6, section 6; SFF 8020i). A disc is one data track. */
#include "devices/scsi/target.h"

#define LEAD_OUT 0xaa
/* What fits a CD; larger ones are DVDs. */
#define CD_BLOCKS_MAX UINT64_C(360000) /* 80 minutes of 75 each second */
#define PROFILE_CD 0x0008
#define PROFILE_DVD 0x0010

/* A block's address: as a number, or as minutes, seconds and frames from the start of the lead-in. */
static void put_address(uint8_t at[4], uint64_t block, bool msf)
{
	if (!msf) {
		scsi_put32(at, (uint32_t)util_min(block, UINT32_MAX));
		return;
	}
	block += 150;
	at[0] = 0;
	at[1] = (uint8_t)util_min(block / 75 / 60, UINT8_MAX);
	at[2] = (uint8_t)(block / 75 % 60);
	at[3] = (uint8_t)(block % 75);
}

static uint8_t *put_track(uint8_t *at, uint8_t track, uint64_t block, bool msf)
{
	/* A data track, recorded without interruption. */
	memcpy(at, (const uint8_t[]){ 0, 0x14, track, 0 }, 4);
	put_address(at + 4, block, msf);
	return at + 8;
}

/* Section 6.26. */
uint32_t cdrom_read_toc(struct scsi_task *task)
{
	const uint64_t blocks = atomic_load(&task->lun->blocks);
	const uint8_t format = task->cdb[2] & 0xf, first = task->cdb[6];
	const bool msf = task->cdb[1] & 2;
	/* The first and the last track, or session. */
	uint8_t data[4 + 2 * 8] = { [2] = 1, [3] = 1 }, *at = data + 4;

	if (format > 1 || (format == 0 && first > 1 && first != LEAD_OUT))
		return SENSE_FIELD;
	if (format == 1 || first <= 1)
		at = put_track(at, 1, 0, msf);
	if (format == 0)
		at = put_track(at, LEAD_OUT, blocks, msf);
	scsi_put16(data, (uint16_t)(at - data - 2));
	return task_reply(task, data, (size_t)(at - data), scsi_get16(task->cdb + 7));
}

static uint16_t profile(const struct scsi_lun *lun)
{
	if (scsi_lun_has(lun, SCSI_EJECTED))
		return 0;
	return atomic_load(&lun->blocks) > CD_BLOCKS_MAX ? PROFILE_DVD : PROFILE_CD;
}

/* Section 5.3: those that every drive has, and random reading. */
static const struct feature {
	uint16_t code;
	uint8_t flags, len; /* flags: version, persistent, current */
	uint8_t data[8];
} features[] = {
	/* The profiles; which one is current depends on the disc. */
	{ 0x0000, 0x03, 8, { 0, PROFILE_DVD, 0, 0, 0, PROFILE_CD, 0, 0 } },
	/* Core: a SCSI transport, and removal can be prevented. */
	{ 0x0001, 0x0b, 8, { 0, 0, 0, 1, 0x01, 0, 0, 0 } },
	/* Removable medium: a tray, which can be locked, ejects, and loads. */
	{ 0x0003, 0x03, 4, { 0x29, 0, 0, 0 } },
	/* Random readable: blocks of 2048 bytes, one at a time. */
	{ 0x0010, 0x01, 8, { 0, 0, 0x08, 0, 0, 1, 0, 0 } },
};

static uint8_t *put_feature(uint8_t *at, const struct feature *feature, uint16_t current)
{
	scsi_put16(at, feature->code);
	at[2] = feature->flags;
	/* The medium's own: not without one. */
	if (!(feature->flags & 2) && !current)
		at[2] &= (uint8_t)~1;
	at[3] = feature->len;
	memcpy(at + 4, feature->data, feature->len);
	for (size_t i = 0; feature->code == 0 && i < feature->len; i += 4)
		at[4 + i + 2] = scsi_get16(at + 4 + i) == current;
	return at + 4 + feature->len;
}

/* Section 6.6. RT: all, those that are current, or one. */
uint32_t cdrom_configuration(struct scsi_task *task)
{
	const uint8_t wanted = task->cdb[1] & 3;
	const uint16_t from = scsi_get16(task->cdb + 2), current = profile(task->lun);
	uint8_t data[64] = { 0 }, *at = data + 8;

	if (wanted == 3)
		return SENSE_FIELD;
	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		bool present = current || features[i].flags & 2;

		if (wanted == 2 ? features[i].code == from :
				  features[i].code >= from && (wanted == 0 || present))
			at = put_feature(at, &features[i], current);
	}
	scsi_put32(data, (uint32_t)(at - data - 4));
	scsi_put16(data + 6, current);
	return task_reply(task, data, (size_t)(at - data), scsi_get16(task->cdb + 7));
}

/* The media class's event that comes next (section 6.7.2.5); it is told once. */
static uint8_t take_event(struct scsi_lun *lun)
{
	if (atomic_fetch_and(lun->flags, ~(uint32_t)SCSI_EVENT_REMOVAL) & SCSI_EVENT_REMOVAL)
		return 3;
	return atomic_fetch_and(lun->flags, ~(uint32_t)SCSI_EVENT_NEW) & SCSI_EVENT_NEW ? 2 : 0;
}

/* Section 6.7: what is polled for; there is a single class, that of media. */
uint32_t cdrom_event_status(struct scsi_task *task)
{
	/* The length is of what follows the header; nothing to tell. */
	uint8_t data[8] = { 0, 0, 0x80, 0x10 };
	const uint16_t allocation = scsi_get16(task->cdb + 7);

	if (!(task->cdb[1] & 1))
		return SENSE_FIELD;
	if (!(task->cdb[4] & 0x10))
		return task_reply(task, data, 4, allocation);
	data[1] = sizeof(data) - 4;
	data[2] = 4;
	/* An event that would not be heard is kept. */
	if (allocation > 4)
		data[4] = take_event(task->lun);
	data[5] = scsi_lun_has(task->lun, SCSI_EJECTED) ? 1 : 2;
	return task_reply(task, data, sizeof(data), allocation);
}
