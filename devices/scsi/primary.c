// SPDX-License-Identifier: Apache-2.0
/* Commands that every kind of unit takes (SPC-4), and what units are besides their blocks. */
#include <stdio.h>
#include "devices/scsi/passthrough.h"
#include "devices/scsi/target.h"

#define VENDOR "MICROVM"
#define REVISION "1   "
/* Peripheral qualifier 3 and no device type: there is no unit of that number (section 6.4.2). */
#define NO_UNIT 0x7f
/* Of byte 1. Above it SCSI-2 had the LUN, and Linux has it until an INQUIRY has told which standard counts. */
#define RESERVED 0x1e

/* ---- units ---- */

int scsi_lun_resize(struct scsi_lun *lun, uint64_t size)
{
	uint64_t blocks = size / lun->block_size;

	if (!blocks)
		return -EINVAL;
	if (atomic_exchange(&lun->blocks, blocks) != blocks)
		atomic_fetch_or(lun->flags, SCSI_ATTENTION_CAPACITY);
	return 0;
}

static int set_names(struct scsi_lun *lun, const struct scsi_identity *identity)
{
	const char *product = identity->product;

	if (!product)
		product = identity->type == SCSI_DISK ? "DISK" : "CD-ROM";
	if (strlen(product) > SCSI_PRODUCT_MAX ||
	    (identity->serial && strlen(identity->serial) > SCSI_SERIAL_MAX))
		return -E2BIG;
	snprintf(lun->product, sizeof(lun->product), "%s", product);
	if (identity->serial)
		snprintf(lun->serial, sizeof(lun->serial), "%s", identity->serial);
	else
		snprintf(lun->serial, sizeof(lun->serial), "%u", lun->number);
	return 0;
}

int scsi_lun_init(struct scsi_target *target, unsigned int index,
		  const struct scsi_identity *identity, _Atomic uint32_t *flags)
{
	struct scsi_lun *lun = &target->luns[index];
	int r;

	lun->target = target;
	lun->flags = flags;
	lun->number = (uint16_t)index;
	lun->type = identity->type;
	lun->read_only = identity->read_only || identity->type == SCSI_CDROM;
	lun->write_through = identity->write_through;
	lun->reads_zeroes = identity->reads_zeroes;
	lun->block_size = identity->type == SCSI_CDROM ? SCSI_CDROM_BLOCK : identity->block_size;
	/* Aligned as direct I/O wants it. */
	lun->buffer = aligned_alloc(4096, SCSI_BUFFER_BYTES);
	if (!lun->buffer)
		return -ENOMEM;
	r = set_names(lun, identity);
	if (!r)
		r = scsi_lun_resize(lun, identity->size);
	if (!r)
		atomic_store(lun->flags, SCSI_PLUGGED | SCSI_ATTENTION_RESET |
						  (identity->write_through ? SCSI_WRITE_THROUGH : 0));
	return r;
}

void scsi_lun_init_device(struct scsi_target *target, unsigned int index,
			  const struct passthrough *device, _Atomic uint32_t *flags)
{
	target->luns[index] = (struct scsi_lun){
		.target = target,
		.number = (uint16_t)index,
		.type = device->type,
		.device = device,
		.read_only = device->read_only,
		.block_size = device->block_size,
		.flags = flags,
	};
	atomic_store(flags, SCSI_PLUGGED | SCSI_ATTENTION_RESET);
}

void scsi_lun_free(struct scsi_lun *lun)
{
	free(lun->buffer);
	lun->buffer = NULL;
	lun->device = NULL;
}

void scsi_lun_hide(struct scsi_lun *lun)
{
	atomic_fetch_and(lun->flags, ~(uint32_t)SCSI_PLUGGED);
}

void scsi_lun_announce(const struct scsi_lun *lun)
{
	for (unsigned int i = 0; i < lun->target->count; i++) {
		struct scsi_lun *other = &lun->target->luns[i];

		if (other != lun && scsi_lun_has(other, SCSI_PLUGGED))
			atomic_fetch_or(other->flags, SCSI_ATTENTION_LUNS);
	}
}

int scsi_lun_check(const struct scsi_lun *lun)
{
	const uint32_t disk = SCSI_PLUGGED | SCSI_STOPPED | SCSI_LOCKED | SCSI_WRITE_THROUGH |
			      SCSI_DESCRIPTOR_SENSE | SCSI_ATTENTION_RESET | SCSI_ATTENTION_LUNS |
			      SCSI_ATTENTION_CAPACITY;
	const uint32_t cdrom = SCSI_EJECTED | SCSI_ATTENTION_MEDIUM | SCSI_EVENT_NEW |
			       SCSI_EVENT_REMOVAL;
	const uint32_t known = lun->type == SCSI_CDROM ? disk | cdrom : disk;

	const uint32_t flags = atomic_load(lun->flags);

	return (flags & ~known) || !(flags & SCSI_PLUGGED) ? -EINVAL : 0;
}

void scsi_lun_reset(struct scsi_lun *lun)
{
	/* What a person did stays, whether there is such a unit and a medium in it; and what a task holds. */
	atomic_fetch_and(lun->flags, SCSI_PLUGGED | SCSI_EJECTED | SCSI_BUFFER_TAKEN);
	atomic_fetch_or(lun->flags, SCSI_ATTENTION_RESET |
					    (lun->write_through ? SCSI_WRITE_THROUGH : 0));
}

uint32_t primary_take_attention(struct scsi_lun *lun)
{
	static const struct {
		uint32_t flag, sense;
	} attentions[] = {
		{ SCSI_ATTENTION_RESET, SENSE_RESET },
		{ SCSI_ATTENTION_MEDIUM, SENSE_MEDIUM_CHANGED },
		{ SCSI_ATTENTION_LUNS, SENSE_LUNS_CHANGED },
		{ SCSI_ATTENTION_CAPACITY, SENSE_CAPACITY_CHANGED },
	};

	for (size_t i = 0; i < ARRAY_SIZE(attentions); i++)
		if (scsi_lun_has(lun, attentions[i].flag) &&
		    atomic_fetch_and(lun->flags, ~attentions[i].flag) & attentions[i].flag)
			return attentions[i].sense;
	return 0;
}

/* ---- commands ---- */

uint32_t primary_test_ready(struct scsi_task *task)
{
	(void)task;
	return OUTCOME_GOOD;
}

uint32_t primary_request_sense(struct scsi_task *task)
{
	uint8_t sense[SCSI_SENSE_MAX];
	uint32_t outcome;
	size_t len;

	if (task->cdb[1] & RESERVED)
		return SENSE_FIELD;
	outcome = scsi_lun_has(task->lun, SCSI_PLUGGED) ? primary_take_attention(task->lun)
							: SENSE_LUN;
	len = sense_write(sense, outcome, task->cdb[1] & 1, NULL);
	return task_reply(task, sense, len, task->cdb[4]);
}

/* Vital product data pages; each writes what follows the length and returns how much that is. */

static size_t vpd_serial(const struct scsi_lun *lun, uint8_t *page)
{
	size_t len = strlen(lun->serial);

	memcpy(page, lun->serial, len);
	return len;
}

/* Section 7.8.6. Made of what tells units from each other, the same in each run. */
static size_t vpd_identification(const struct scsi_lun *lun, uint8_t *page)
{
	const size_t serial = strlen(lun->serial);
	uint64_t hash = 0xcbf29ce484222325;
	uint8_t *naa;

	/* ASCII, by a vendor that T10 would know. */
	memcpy(page, (const uint8_t[]){ 0x02, 0x01, 0, (uint8_t)(24 + serial) }, 4);
	scsi_put_text(page + 4, VENDOR, 8);
	scsi_put_text(page + 12, lun->product, 16);
	memcpy(page + 28, lun->serial, serial);
	for (size_t i = 0; i < 24 + serial; i++)
		hash = (hash ^ page[4 + i]) * 0x100000001b3;
	/* Binary, NAA 3: locally assigned. */
	naa = page + 28 + serial;
	memcpy(naa, (const uint8_t[]){ 0x01, 0x03, 0, 8 }, 4);
	scsi_put64(naa + 4, 3ULL << 60 | hash >> 4);
	return 28 + serial + 12;
}

/* SBC-3, section 6.5.3. */
static size_t vpd_limits(const struct scsi_lun *lun, uint8_t *page)
{
	/* Zero blocks of WRITE SAME do not mean all of them. */
	page[0] = 1;
	page[1] = disk_compare_max(lun);
	if (lun->read_only)
		return 60;
	scsi_put32(page + 16, DISK_UNMAP_BLOCKS);
	scsi_put32(page + 20, DISK_UNMAP_DESCRIPTORS);
	/* Optimal granularity: a page of the host's. */
	scsi_put32(page + 24, (uint32_t)util_max(4096 / lun->block_size, 1));
	scsi_put64(page + 32, disk_same_max(lun));
	return 60;
}

static size_t vpd_characteristics(const struct scsi_lun *lun, uint8_t *page)
{
	(void)lun;
	/* Nothing rotates. */
	scsi_put16(page, 1);
	return 60;
}

static size_t vpd_provisioning(const struct scsi_lun *lun, uint8_t *page)
{
	if (lun->read_only)
		return 4;
	/* UNMAP, WRITE SAME with 16 and 10 bytes, and LBPRZ. */
	page[1] = lun->reads_zeroes ? 0xe4 : 0xe0;
	/* Thin, as far as there is any. */
	page[2] = 2;
	return 4;
}

static size_t vpd_supported(const struct scsi_lun *lun, uint8_t *page);

static const struct {
	uint8_t code;
	bool disk_only;
	size_t (*write)(const struct scsi_lun *lun, uint8_t *page);
} vpd_pages[] = {
	{ 0x00, false, vpd_supported },
	{ 0x80, false, vpd_serial },
	{ 0x83, false, vpd_identification },
	{ 0xb0, true, vpd_limits },
	{ 0xb1, true, vpd_characteristics },
	{ 0xb2, true, vpd_provisioning },
};

static bool vpd_has(const struct scsi_lun *lun, size_t i)
{
	return !vpd_pages[i].disk_only || lun->type == SCSI_DISK;
}

static size_t vpd_supported(const struct scsi_lun *lun, uint8_t *page)
{
	size_t len = 0;

	for (size_t i = 0; i < ARRAY_SIZE(vpd_pages); i++)
		if (vpd_has(lun, i))
			page[len++] = vpd_pages[i].code;
	return len;
}

static uint32_t inquiry_vpd(struct scsi_task *task)
{
	const struct scsi_lun *lun = task->lun;
	uint8_t page[128] = { (uint8_t)lun->type, task->cdb[2] };

	for (size_t i = 0; i < ARRAY_SIZE(vpd_pages); i++) {
		size_t len;

		if (vpd_pages[i].code != task->cdb[2] || !vpd_has(lun, i))
			continue;
		len = vpd_pages[i].write(lun, page + 4);
		scsi_put16(page + 2, (uint16_t)len);
		return task_reply(task, page, 4 + len, scsi_get16(task->cdb + 3));
	}
	return SENSE_FIELD;
}

static uint32_t inquiry_standard(struct scsi_task *task)
{
	static const struct scsi_lun nobody = { .type = SCSI_DISK };
	const bool there = scsi_lun_has(task->lun, SCSI_PLUGGED);
	const struct scsi_lun *lun = there ? task->lun : &nobody;
	/* SPC-4; hierarchical LUNs, format 2; command queuing. */
	uint8_t data[64] = {
		[0] = (uint8_t)lun->type, [1] = lun->type == SCSI_CDROM ? 0x80 : 0, [2] = 6,
		[3] = 0x12, [4] = sizeof(data) - 5, [7] = 0x02,
	};
	/* SAM-5, SPC-4, SBC-3 or MMC-6, none of them in a particular version. */
	const uint16_t standards[] = { 0x00a0, 0x0460, lun->type == SCSI_CDROM ? 0x04e0 : 0x04c0 };

	if (!there)
		data[0] = NO_UNIT;
	scsi_put_text(data + 8, VENDOR, 8);
	scsi_put_text(data + 16, lun->product, 16);
	scsi_put_text(data + 32, REVISION, 4);
	for (size_t i = 0; i < ARRAY_SIZE(standards); i++)
		scsi_put16(data + 58 + 2 * i, standards[i]);
	return task_reply(task, data, sizeof(data), scsi_get16(task->cdb + 3));
}

uint32_t primary_inquiry(struct scsi_task *task)
{
	if (task->cdb[1] & RESERVED)
		return SENSE_FIELD;
	if (task->cdb[1] & 1)
		return scsi_lun_has(task->lun, SCSI_PLUGGED) ? inquiry_vpd(task) : SENSE_LUN;
	return task->cdb[2] ? SENSE_FIELD : inquiry_standard(task);
}

/* Section 6.33. A LUN is 8 bytes, of which a peripheral device address takes the second (SAM-5, 4.7.7.2). */
uint32_t primary_report_luns(struct scsi_task *task)
{
	const struct scsi_target *target = task->lun->target;
	const uint32_t allocation = scsi_get32(task->cdb + 6);
	uint8_t list[8 + 8 * SCSI_LUNS_MAX] = { 0 };
	size_t len = 8;

	/* All, none but well-known ones, or both. */
	if (task->cdb[2] > 2 || allocation < 16)
		return SENSE_FIELD;
	for (unsigned int i = 0; i < target->count && task->cdb[2] != 1; i++) {
		if (!scsi_lun_has(&target->luns[i], SCSI_PLUGGED))
			continue;
		list[len + 1] = (uint8_t)i;
		len += 8;
	}
	scsi_put32(list, (uint32_t)len - 8);
	return task_reply(task, list, len, allocation);
}

static uint32_t load_or_eject(struct scsi_lun *lun, bool load)
{
	if (!load && scsi_lun_has(lun, SCSI_LOCKED))
		return SENSE_REMOVAL_PREVENTED;
	if (load && atomic_fetch_and(lun->flags, ~(uint32_t)SCSI_EJECTED) & SCSI_EJECTED)
		atomic_fetch_or(lun->flags, SCSI_ATTENTION_MEDIUM | SCSI_EVENT_NEW);
	else if (!load && !(atomic_fetch_or(lun->flags, SCSI_EJECTED) & SCSI_EJECTED))
		atomic_fetch_or(lun->flags, SCSI_EVENT_REMOVAL);
	return OUTCOME_GOOD;
}

/* SBC-3, section 5.25. */
uint32_t primary_start_stop(struct scsi_task *task)
{
	const bool start = task->cdb[4] & 1;
	struct scsi_lun *lun = task->lun;

	/* There is no power to save. */
	if (task->cdb[4] & 0xf0)
		return OUTCOME_GOOD;
	if (task->cdb[4] & 2)
		return lun->type == SCSI_CDROM ? load_or_eject(lun, start) : SENSE_FIELD;
	if (start)
		atomic_fetch_and(lun->flags, ~(uint32_t)SCSI_STOPPED);
	else
		atomic_fetch_or(lun->flags, SCSI_STOPPED);
	return OUTCOME_GOOD;
}

uint32_t primary_prevent_removal(struct scsi_task *task)
{
	/* The upper bit was for media changers. */
	if (task->cdb[4] & 1)
		atomic_fetch_or(task->lun->flags, SCSI_LOCKED);
	else
		atomic_fetch_and(task->lun->flags, ~(uint32_t)SCSI_LOCKED);
	return OUTCOME_GOOD;
}
