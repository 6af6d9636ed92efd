// SPDX-License-Identifier: Apache-2.0
/* The target without virtio: what each command answers, byte for byte, by SPC-4, SBC-3 and MMC-6. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <unistd.h>
#include "core/util.h"
#include "devices/scsi/scsi.h"

#define BLOCKS 4096
#define BYTES (BLOCKS * 512)
#define BUFFER (256 << 10)

/* Sense keys, codes and qualifiers. */
#define NOTHING 0
#define STOPPED 0x020402
#define NO_MEDIUM 0x023a00
#define SHORT_LIST 0x051a00
#define OPCODE 0x052000
#define LBA 0x052100
#define FIELD 0x052400
#define NO_LUN 0x052500
#define PARAMETER 0x052600
#define SAVING 0x053900
#define PREVENTED 0x055302
#define CHANGED_MEDIUM 0x062800
#define RESET 0x062900
#define CHANGED_CAPACITY 0x062a09
#define CHANGED_LUNS 0x063f0e
#define PROTECTED 0x072700
#define MISCOMPARE 0x0e1d00

struct test {
	struct block_conf conf;
	struct block_disk disk;
	struct block_queue queue;
	struct scsi_lun luns[3];
	struct scsi_target target;
	_Atomic uint32_t flags[3];
	struct scsi_task task;
	unsigned int done;
	uint8_t in[BUFFER], out[BUFFER];
};

/* Unit 0 is a disk, 1 a CD-ROM, 2 a disk that cannot be written, all of the same bytes. */
static const struct scsi_identity identities[] = {
	{ .type = SCSI_DISK, .serial = "S1", .reads_zeroes = true, .block_size = 512,
	  .size = BYTES },
	{ .type = SCSI_CDROM, .product = "TRAY", .size = BYTES + 1024 },
	{ .type = SCSI_DISK, .read_only = true, .write_through = true, .block_size = 4096,
	  .size = BYTES },
};

static struct test *make(void)
{
	struct test *test = calloc(1, sizeof(*test));
	uint8_t bytes[512];

	assert_non_null(test);
	test->conf = (struct block_conf){ .scratch = BYTES, .engine = BLOCK_ENGINE_SYNC };
	assert_int_equal(block_disk_open(&test->disk, &test->conf), 0);
	assert_int_equal(block_queue_open(&test->disk, 1, &test->queue), 0);
	for (unsigned int i = 0; i < BLOCKS; i++) {
		memset(bytes, (int)i, sizeof(bytes));
		assert_int_equal(pwrite(test->disk.image.fd, bytes, 512, i * 512), 512);
	}
	test->target = (struct scsi_target){ test->luns, ARRAY_SIZE(identities) };
	for (unsigned int i = 0; i < ARRAY_SIZE(identities); i++) {
		assert_int_equal(scsi_lun_init(&test->target, i, &identities[i], &test->flags[i]),
				 0);
		/* As after the first command. */
		test->flags[i] &= ~(uint32_t)SCSI_ATTENTION_RESET;
	}
	return test;
}

static void unmake(struct test *test)
{
	for (unsigned int i = 0; i < test->target.count; i++)
		scsi_lun_free(&test->luns[i]);
	block_queue_close(&test->queue);
	block_disk_close(&test->disk);
	free(test);
}

static void done(struct scsi_task *task)
{
	container_of(task, struct test, task)->done++;
}

/* Buffers are cut in two: nothing may depend on them being whole. */
static unsigned int cut(struct iovec iov[2], uint8_t *buffer, size_t len)
{
	const size_t half = len / 3;

	iov[0] = (struct iovec){ buffer, half };
	iov[1] = (struct iovec){ buffer + half, len - half };
	return 2;
}

/* Runs a command; what it was sensed for, or NOTHING for GOOD status. */
static uint32_t run_on(struct test *test, unsigned int lun, const void *cdb, size_t cdb_len,
		       size_t out_len, size_t in_len)
{
	struct scsi_task *task = &test->task;
	struct iovec out[2], in[2];

	*task = (struct scsi_task){
		.lun = &test->luns[lun], .disk = &test->disk, .queue = &test->queue, .cdb_len = cdb_len, .out = out,
		.in = in, .out_len = out_len, .in_len = in_len, .done = done,
	};
	memcpy(task->cdb, cdb, util_min(cdb_len, SCSI_CDB_MAX));
	task->out_count = cut(out, test->out, out_len);
	task->in_count = cut(in, test->in, in_len);
	memset(test->in, 0xee, sizeof(test->in));
	test->done = 0;
	scsi_task_run(task);
	assert_int_equal(test->done, 1);
	if (task->status == SCSI_GOOD) {
		assert_int_equal(task->sense_len, 0);
		return NOTHING;
	}
	assert_int_equal(task->status, SCSI_CHECK_CONDITION);
	if ((task->sense[0] & 0x7f) == 0x72)
		return (uint32_t)(task->sense[1] << 16 | task->sense[2] << 8 | task->sense[3]);
	assert_int_equal(task->sense_len, 18);
	assert_int_equal(task->sense[0] & 0x7f, 0x70);
	assert_int_equal(task->sense[7], 10);
	return (uint32_t)(task->sense[2] << 16 | task->sense[12] << 8 | task->sense[13]);
}

#define CDB(...) (const uint8_t[16]){ __VA_ARGS__ }, 16
#define RUN(out_len, in_len, ...) run_on(test, 0, CDB(__VA_ARGS__), out_len, in_len)
#define RUN_CD(out_len, in_len, ...) run_on(test, 1, CDB(__VA_ARGS__), out_len, in_len)
#define RUN_RO(out_len, in_len, ...) run_on(test, 2, CDB(__VA_ARGS__), out_len, in_len)

#define expect_in(...) do { \
		static const uint8_t bytes[] = { __VA_ARGS__ }; \
		assert_int_equal(test->task.given, sizeof(bytes)); \
		assert_memory_equal(test->in, bytes, sizeof(bytes)); \
		assert_int_equal(test->in[sizeof(bytes)], 0xee); \
	} while (0)

static void put(uint8_t *at, uint64_t value, unsigned int bytes)
{
	while (bytes--)
		at[bytes] = (uint8_t)value, value >>= 8;
}

static uint8_t on_disk(struct test *test, uint64_t offset)
{
	uint8_t byte;

	assert_int_equal(pread(test->disk.image.fd, &byte, 1, (off_t)offset), 1);
	return byte;
}

static void test_inquiry(void **state)
{
	struct test *test = make();

	(void)state;
	assert_int_equal(RUN(0, 255, 0x12, 0, 0, 0, 255), NOTHING);
	expect_in(0x00, 0x00, 0x06, 0x12, 59, 0, 0, 0x02,
		  'M', 'I', 'C', 'R', 'O', 'V', 'M', ' ',
		  'D', 'I', 'S', 'K', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ',
		  '1', ' ', ' ', ' ', [58] = 0x00, 0xa0, 0x04, 0x60, 0x04, 0xc0);
	/* Only as much as was asked for. */
	assert_int_equal(RUN(0, 255, 0x12, 0, 0, 0, 5), NOTHING);
	expect_in(0x00, 0x00, 0x06, 0x12, 59);
	assert_int_equal(RUN_CD(0, 255, 0x12, 0, 0, 0, 36), NOTHING);
	expect_in(0x05, 0x80, 0x06, 0x12, 59, 0, 0, 0x02,
		  'M', 'I', 'C', 'R', 'O', 'V', 'M', ' ',
		  'T', 'R', 'A', 'Y', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ',
		  '1', ' ', ' ', ' ');
	assert_int_equal(RUN(0, 255, 0x12, 0, 1, 0, 255), FIELD);
	assert_int_equal(RUN(0, 255, 0x12, 2, 0, 0, 255), FIELD);
	unmake(test);
}

static void test_vpd(void **state)
{
	struct test *test = make();

	(void)state;
	assert_int_equal(RUN(0, 255, 0x12, 1, 0x00, 0, 255), NOTHING);
	expect_in(0, 0x00, 0, 6, 0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2);
	assert_int_equal(RUN_CD(0, 255, 0x12, 1, 0x00, 0, 255), NOTHING);
	expect_in(5, 0x00, 0, 3, 0x00, 0x80, 0x83);
	assert_int_equal(RUN(0, 255, 0x12, 1, 0x80, 0, 255), NOTHING);
	expect_in(0, 0x80, 0, 2, 'S', '1');
	assert_int_equal(RUN_CD(0, 255, 0x12, 1, 0x80, 0, 255), NOTHING);
	expect_in(5, 0x80, 0, 1, '1');

	assert_int_equal(RUN(0, 255, 0x12, 1, 0x83, 0, 255), NOTHING);
	assert_int_equal(test->task.given, 4 + 4 + 26 + 12);
	assert_memory_equal(test->in, ((uint8_t[]){ 0, 0x83, 0, 42, 0x02, 0x01, 0, 26 }), 8);
	assert_memory_equal(test->in + 8, "MICROVM DISK            S1", 26);
	assert_memory_equal(test->in + 34, ((uint8_t[]){ 0x01, 0x03, 0, 8 }), 4);
	assert_int_equal(test->in[38] >> 4, 3);

	assert_int_equal(RUN(0, 255, 0x12, 1, 0xb0, 0, 255), NOTHING);
	expect_in(0, 0xb0, 0, 60, 1, 128, 0, 0, [20] = 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 64,
		  0, 0, 0, 8, [40] = 0, 2, 0, 0, [63] = 0);
	assert_int_equal(RUN_RO(0, 255, 0x12, 1, 0xb0, 0, 255), NOTHING);
	expect_in(0, 0xb0, 0, 60, 1, 16, [63] = 0);
	assert_int_equal(RUN(0, 255, 0x12, 1, 0xb1, 0, 255), NOTHING);
	expect_in(0, 0xb1, 0, 60, 0, 1, [63] = 0);
	assert_int_equal(RUN(0, 255, 0x12, 1, 0xb2, 0, 255), NOTHING);
	expect_in(0, 0xb2, 0, 4, 0, 0xe4, 2, 0);
	test->luns[0].reads_zeroes = false;
	assert_int_equal(RUN(0, 255, 0x12, 1, 0xb2, 0, 255), NOTHING);
	expect_in(0, 0xb2, 0, 4, 0, 0xe0, 2, 0);
	assert_int_equal(RUN_RO(0, 255, 0x12, 1, 0xb2, 0, 255), NOTHING);
	expect_in(0, 0xb2, 0, 4, 0, 0, 0, 0);
	assert_int_equal(RUN(0, 255, 0x12, 1, 0xb3, 0, 255), FIELD);
	assert_int_equal(RUN_CD(0, 255, 0x12, 1, 0xb0, 0, 255), FIELD);
	unmake(test);
}

static void test_capacity(void **state)
{
	struct test *test = make();

	(void)state;
	assert_int_equal(RUN(0, 64, 0x25), NOTHING);
	expect_in(0, 0, 0x0f, 0xff, 0, 0, 2, 0);
	/* What does not fill a block is left out. */
	assert_int_equal(RUN_CD(0, 64, 0x25), NOTHING);
	expect_in(0, 0, 0x03, 0xff, 0, 0, 8, 0);
	assert_int_equal(RUN(0, 64, 0x9e, 0x10, [13] = 32), NOTHING);
	expect_in(0, 0, 0, 0, 0, 0, 0x0f, 0xff, 0, 0, 2, 0, 0, 0, 0xc0, [31] = 0);
	test->luns[0].reads_zeroes = false;
	assert_int_equal(RUN(0, 64, 0x9e, 0x10, [13] = 32), NOTHING);
	expect_in(0, 0, 0, 0, 0, 0, 0x0f, 0xff, 0, 0, 2, 0, 0, 0, 0x80, [31] = 0);
	assert_int_equal(RUN_RO(0, 64, 0x9e, 0x10, [13] = 32), NOTHING);
	expect_in(0, 0, 0, 0, 0, 0, 0x01, 0xff, 0, 0, 0x10, 0, [31] = 0);
	assert_int_equal(RUN(0, 64, 0x9e, 0x11, [13] = 32), FIELD);
	assert_int_equal(RUN_CD(0, 64, 0x9e, 0x10, [13] = 32), OPCODE);

	/* More blocks than READ CAPACITY (10) can say. */
	assert_int_equal(scsi_lun_resize(&test->luns[0], 1ULL << 50), 0);
	assert_int_equal(RUN(0, 64, 0x25), CHANGED_CAPACITY);
	assert_int_equal(RUN(0, 64, 0x25), NOTHING);
	expect_in(0xff, 0xff, 0xff, 0xff, 0, 0, 2, 0);
	assert_int_equal(scsi_lun_resize(&test->luns[0], 511), -EINVAL);
	unmake(test);
}

/* A unit has one initiator, and nothing to reserve. */
static void test_reservations(void **state)
{
	struct test *test = make();

	(void)state;
	for (uint8_t action = 0; action < 8; action++) {
		assert_int_equal(RUN(0, 64, 0x5e, action, [8] = 64), OPCODE);
		assert_int_equal(RUN(24, 0, 0x5f, action, [8] = 24), OPCODE);
	}
	unmake(test);
}

static void test_report_luns(void **state)
{
	struct test *test = make();

	(void)state;
	assert_int_equal(RUN(0, 64, 0xa0, [9] = 64), NOTHING);
	expect_in(0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2,
		  0, 0, 0, 0, 0, 0);
	assert_int_equal(RUN(0, 64, 0xa0, 0, 1, [9] = 64), NOTHING);
	expect_in(0, 0, 0, 0, 0, 0, 0, 0);
	assert_int_equal(RUN(0, 64, 0xa0, 0, 3, [9] = 64), FIELD);
	assert_int_equal(RUN(0, 64, 0xa0, [9] = 15), FIELD);
	unmake(test);
}

/* A unit that is taken out answers INQUIRY, REPORT LUNS and REQUEST SENSE, and nothing else. */
static void test_plug(void **state)
{
	struct test *test = make();

	(void)state;
	scsi_lun_hide(&test->luns[0]);
	scsi_lun_announce(&test->luns[0]);
	assert_int_equal(RUN(0, 64, 0x00), NO_LUN);
	assert_int_equal(RUN(0, 64, 0xff), NO_LUN);
	assert_int_equal(RUN(0, 64, 0x12, 1, 0x80, 0, 64), NO_LUN);
	assert_int_equal(RUN(0, 64, 0x12, 0, 0, 0, 1), NOTHING);
	expect_in(0x7f);
	assert_int_equal(RUN(0, 64, 0x03, 0, 0, 0, 14), NOTHING);
	expect_in(0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x25, 0);
	assert_int_equal(RUN(0, 64, 0xa0, [9] = 16), NOTHING);
	expect_in(0, 0, 0, 16, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0);
	/* The others tell of it. */
	assert_int_equal(RUN_CD(0, 64, 0x00), CHANGED_LUNS);
	assert_int_equal(RUN_CD(0, 64, 0x00), NOTHING);
	/* Another one, which looks as that did. */
	scsi_lun_free(&test->luns[0]);
	assert_int_equal(scsi_lun_init(&test->target, 0, &identities[0], &test->flags[0]), 0);
	scsi_lun_announce(&test->luns[0]);
	assert_int_equal(RUN(0, 64, 0x00), RESET);
	assert_int_equal(RUN(0, 64, 0x00), NOTHING);
	assert_int_equal(RUN_RO(0, 64, 0x00), CHANGED_LUNS);
	unmake(test);
}

static void test_attention(void **state)
{
	struct test *test = make();

	(void)state;
	assert_int_equal(scsi_lun_resize(&test->luns[0], BYTES / 2), 0);
	scsi_lun_reset(&test->luns[0]);
	/* It does not stand in the way of these, and only REQUEST SENSE takes it. */
	assert_int_equal(RUN(0, 64, 0x12, 0, 0, 0, 36), NOTHING);
	assert_int_equal(RUN(0, 64, 0xa0, [9] = 64), NOTHING);
	assert_int_equal(RUN(0, 64, 0x03, 0, 0, 0, 64), NOTHING);
	expect_in(0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x29, 0, [17] = 0);
	assert_int_equal(RUN(0, 64, 0x03, 1, 0, 0, 64), NOTHING);
	expect_in(0x72, 0, 0, 0, 0, 0, 0, 0);
	assert_int_equal(RUN(0, 64, 0x03, 2, 0, 0, 64), FIELD);
	/* Where SCSI-2 had the LUN. */
	assert_int_equal(RUN(0, 64, 0x03, 0xe0, 0, 0, 64), NOTHING);
	assert_int_equal(RUN(0, 64, 0x12, 0xe0, 0, 0, 36), NOTHING);
	assert_int_equal(RUN(0, 64, 0x00), NOTHING);
	scsi_lun_reset(&test->luns[0]);
	assert_int_equal(RUN(0, 512, 0x28, [8] = 1), RESET);
	assert_int_equal(test->task.given, 0);
	assert_int_equal(RUN(0, 512, 0x28, [8] = 1), NOTHING);
	unmake(test);
}

static void test_read_write(void **state)
{
	struct test *test = make();

	(void)state;
	for (unsigned int i = 0; i < 1024; i++)
		test->out[i] = (uint8_t)(i * 7);
	assert_int_equal(RUN(0, 512, 0x08, 0, 0, 9, 1), NOTHING);
	assert_int_equal(test->task.given, 512);
	assert_int_equal(test->in[511], 9);
	/* 0 is 256 blocks, and the address has 21 bits. */
	assert_int_equal(RUN(0, 256 * 512, 0x08, 0xe0, 0, 1, 0), NOTHING);
	assert_int_equal(test->in[256 * 512 - 1], 0);
	assert_int_equal(RUN(0, 1024, 0x28, 0, 0, 0, 0x0f, 0xfe, 0, 0, 2), NOTHING);
	assert_int_equal(test->in[0], 0xfe);
	assert_int_equal(test->in[1023], 0xff);
	assert_int_equal(RUN(0, 1024, 0xa8, 0, 0, 0, 0, 5, 0, 0, 0, 2), NOTHING);
	assert_int_equal(test->in[512], 6);
	/* A larger buffer stays as it is behind the data. */
	assert_int_equal(RUN(0, 1024, 0x88, [9] = 7, [13] = 1), NOTHING);
	assert_int_equal(test->task.given, 512);
	assert_int_equal(test->in[511], 7);
	assert_int_equal(test->in[512], 0xee);

	assert_int_equal(RUN(512, 0, 0x0a, 0, 0, 1, 1), NOTHING);
	assert_int_equal(RUN(1024, 0, 0x2a, 0, 0, 0, 0, 2, 0, 0, 1), NOTHING);
	assert_int_equal(test->task.taken, 512);
	assert_int_equal(RUN(512, 0, 0xaa, 0, 0, 0, 0, 3, 0, 0, 0, 1), NOTHING);
	assert_int_equal(RUN(1024, 0, 0x8a, [9] = 4, [13] = 2), NOTHING);
	for (unsigned int i = 1; i < 6; i++)
		assert_int_equal(on_disk(test, i * 512 + 3), test->out[(i == 5) * 512 + 3]);
	assert_int_equal(on_disk(test, 6 * 512), 6);
	assert_int_equal(on_disk(test, 511), 0);
	/* The CD-ROM's blocks are longer. */
	assert_int_equal(RUN_CD(0, 2048, 0x28, [5] = 2, [8] = 1), NOTHING);
	assert_int_equal(test->in[0], 8);
	assert_int_equal(test->in[2047], 11);
	/* None at all. */
	assert_int_equal(RUN(0, 0, 0x28), NOTHING);
	unmake(test);
}

/* FUA: the task's, or by the mode page of every write. */
static void test_durable(void **state)
{
	struct test *test = make();
	struct iovec byte = { test->out, 1 };

	(void)state;
	if (pwritev2(test->disk.image.fd, &byte, 1, 0, RWF_DSYNC) < 0) {
		print_message("no write is durable by itself: %s\n", strerror(errno));
		unmake(test);
		skip();
	}
	assert_int_equal(RUN(512, 0, 0x2a, 8, [8] = 1), NOTHING);
	assert_true(test->task.io.durable);
	assert_int_equal(RUN(512, 0, 0x2a, 0, [8] = 1), NOTHING);
	assert_false(test->task.io.durable);
	test->flags[0] |= SCSI_WRITE_THROUGH;
	assert_int_equal(RUN(512, 0, 0x0a, 0, 0, 0, 1), NOTHING);
	assert_true(test->task.io.durable);
	assert_int_equal(RUN(0, 512, 0x28, 8, [8] = 1), NOTHING);
	assert_false(test->task.io.durable);
	unmake(test);
}

static void test_read_write_refused(void **state)
{
	struct test *test = make();

	(void)state;
	assert_int_equal(RUN(0, 512, 0x28, 0, 0, 0, 0x10, 0, 0, 0, 1), LBA);
	assert_int_equal(RUN(0, 1024, 0x28, 0, 0, 0, 0x0f, 0xff, 0, 0, 2), LBA);
	assert_int_equal(RUN(0, 512, 0x88, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 2),
			 LBA);
	assert_int_equal(RUN(0, 512, 0x28, 0x20, [8] = 1), FIELD);
	assert_int_equal(RUN_RO(4096, 0, 0x2a, [8] = 1), PROTECTED);
	assert_int_equal(RUN_RO(4096, 0, 0x42, [8] = 24), PROTECTED);
	assert_int_equal(RUN_CD(2048, 0, 0x2a, [8] = 1), OPCODE);
	assert_int_equal(RUN(0, 512, 0x29), OPCODE);
	assert_int_equal(run_on(test, 0, "", 0, 0, 512), OPCODE);
	/* Less of a buffer than the CDB says: not a byte of it is touched. */
	assert_int_equal(RUN(0, 511, 0x28, [8] = 1), NOTHING);
	assert_true(test->task.overrun);
	assert_int_equal(test->in[0], 0xee);
	memset(test->out, 0x55, 1024);
	assert_int_equal(RUN(1023, 0, 0x2a, [8] = 2), NOTHING);
	assert_true(test->task.overrun);
	assert_int_equal(on_disk(test, 0), 0);
	assert_int_equal(RUN(0, 7, 0x25), NOTHING);
	assert_true(test->task.overrun);
	unmake(test);
}

static const struct {
	uint8_t opcode, len;
} commands[] = {
	{ 0x00, 6 },  { 0x03, 6 },  { 0x08, 6 },  { 0x0a, 6 },	{ 0x12, 6 },  { 0x15, 6 },
	{ 0x1a, 6 },  { 0x1b, 6 },  { 0x1e, 6 },  { 0x25, 10 }, { 0x28, 10 }, { 0x2a, 10 },
	{ 0x2f, 10 }, { 0x35, 10 }, { 0x41, 10 }, { 0x42, 10 }, { 0x55, 10 }, { 0x5a, 10 },
	{ 0x88, 16 }, { 0x89, 16 }, { 0x8a, 16 }, { 0x8f, 16 }, { 0x91, 16 }, { 0x93, 16 },
	{ 0x9e, 16 }, { 0xa0, 12 }, { 0xa8, 12 }, { 0xaa, 12 },
};

static void test_truncated(void **state)
{
	const uint8_t cdroms[] = { 0x43, 0x46, 0x4a };
	struct test *test = make();
	uint8_t cdb[16] = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		cdb[0] = commands[i].opcode;
		for (size_t len = 1; len < commands[i].len; len++)
			assert_int_equal(run_on(test, 0, cdb, len, 4096, 4096), FIELD);
		assert_int_not_equal(run_on(test, 0, cdb, commands[i].len, 4096, 4096), OPCODE);
	}
	for (size_t i = 0; i < ARRAY_SIZE(cdroms); i++) {
		cdb[0] = cdroms[i];
		for (size_t len = 1; len < 10; len++)
			assert_int_equal(run_on(test, 1, cdb, len, 4096, 4096), FIELD);
		assert_int_not_equal(run_on(test, 1, cdb, 10, 4096, 4096), OPCODE);
		assert_int_equal(run_on(test, 0, cdb, 10, 4096, 4096), OPCODE);
	}
	unmake(test);
}

static void test_verify(void **state)
{
	struct test *test = make();

	(void)state;
	for (unsigned int i = 0; i < 200 * 512; i++)
		test->out[i] = (uint8_t)(i / 512 + 4);
	assert_int_equal(RUN(0, 0, 0x2f, 0, 0, 0, 0x0f, 0xff, 0, 0, 1), NOTHING);
	assert_int_equal(RUN(0, 0, 0x2f, 0, 0, 0, 0x0f, 0xff, 0, 0, 2), LBA);
	/* More than the unit's buffer takes. */
	assert_int_equal(RUN(200 * 512, 0, 0x2f, 2, 0, 0, 0, 4, 0, 0, 200), NOTHING);
	assert_int_equal(test->task.taken, 200 * 512);
	test->out[150 * 512 + 77] ^= 1;
	assert_int_equal(RUN(200 * 512, 0, 0x8f, 2, [9] = 4, [13] = 200), MISCOMPARE);
	assert_int_equal(test->task.sense[0], 0xf0);
	assert_memory_equal(test->task.sense + 3, ((uint8_t[]){ 0, 1, 0x2c, 0x4d }), 4);
	assert_int_equal(RUN(199 * 512, 0, 0x8f, 2, [9] = 4, [13] = 200), NOTHING);
	assert_true(test->task.overrun);
	assert_int_equal(RUN(512, 0, 0x2f, 4, [8] = 1), FIELD);
	/* The buffer is free again, however it ended. */
	assert_int_equal(test->flags[0], SCSI_PLUGGED);
	unmake(test);
}

static void test_compare_and_write(void **state)
{
	struct test *test = make();
	struct iovec out = { test->out, 1024 };

	(void)state;
	memset(test->out, 5, 512);
	memset(test->out + 512, 6, 512);
	memset(test->out + 1024, 0xab, 1024);
	assert_int_equal(RUN(2048, 0, 0x89, [9] = 5, [13] = 2), NOTHING);
	assert_int_equal(test->task.taken, 2048);
	assert_int_equal(on_disk(test, 5 * 512), 0xab);
	assert_int_equal(on_disk(test, 7 * 512 - 1), 0xab);
	assert_int_equal(on_disk(test, 7 * 512), 7);
	/* Another time it does not compare. */
	assert_int_equal(RUN(2048, 0, 0x89, [9] = 5, [13] = 2), MISCOMPARE);
	assert_int_equal(test->task.sense[6], 0);
	assert_int_equal(RUN(2047, 0, 0x89, [9] = 5, [13] = 2), NOTHING);
	assert_true(test->task.overrun);
	assert_int_equal(RUN(BUFFER, 0, 0x89, [9] = 5, [13] = 129), FIELD);
	/* While another task has the buffer. */
	test->flags[0] |= SCSI_BUFFER_TAKEN;
	test->task = (struct scsi_task){
		.lun = &test->luns[0], .disk = &test->disk, .queue = &test->queue, .cdb = { 0x89, [13] = 1 },
		.cdb_len = 16, .out = &out, .out_count = 1, .out_len = 1024, .done = done,
	};
	scsi_task_run(&test->task);
	assert_int_equal(test->task.status, SCSI_BUSY);
	assert_int_equal(test->task.sense_len, 0);
	assert_true(test->flags[0] & SCSI_BUFFER_TAKEN);
	/* Nor does a reset take it from that task. */
	scsi_lun_reset(&test->luns[0]);
	assert_int_equal(test->flags[0], SCSI_PLUGGED | SCSI_BUFFER_TAKEN | SCSI_ATTENTION_RESET);
	unmake(test);
}

static void test_write_same(void **state)
{
	struct test *test = make();

	(void)state;
	memset(test->out, 0x5a, 512);
	test->out[511] = 1;
	assert_int_equal(RUN(512, 0, 0x41, [5] = 10, [7] = 1, [8] = 44), NOTHING);
	assert_int_equal(test->task.taken, 512);
	assert_int_equal(on_disk(test, 10 * 512 - 1), 9);
	for (unsigned int i = 10; i < 310; i++) {
		assert_int_equal(on_disk(test, i * 512), 0x5a);
		assert_int_equal(on_disk(test, i * 512 + 511), 1);
	}
	assert_int_equal(on_disk(test, 310 * 512), 310 & 0xff);
	/* Zeroes, with a buffer and without, and given back. */
	memset(test->out, 0, 512);
	assert_int_equal(RUN(512, 0, 0x93, 0, [9] = 10, [13] = 2), NOTHING);
	assert_int_equal(RUN(0, 0, 0x93, 1, [9] = 12, [13] = 2), NOTHING);
	assert_int_equal(RUN(0, 0, 0x93, 9, [9] = 14, [13] = 2), NOTHING);
	for (unsigned int i = 10 * 512; i < 16 * 512; i++)
		assert_int_equal(on_disk(test, i), 0);
	assert_int_equal(on_disk(test, 16 * 512), 0x5a);
	assert_int_equal(RUN(512, 0, 0x93, [9] = 10), FIELD);
	assert_int_equal(RUN(512, 0, 0x41, 1, [8] = 1), FIELD);
	assert_int_equal(RUN(512, 0, 0x93, 0x10, [13] = 1), FIELD);
	assert_int_equal(RUN(512, 0, 0x93, 0x20, [13] = 1), FIELD);
	assert_int_equal(RUN(512, 0, 0x93, [8] = 0x0f, [9] = 0xff, [13] = 2), LBA);
	assert_int_equal(RUN(511, 0, 0x93, [13] = 1), NOTHING);
	assert_true(test->task.overrun);
	assert_int_equal(scsi_lun_resize(&test->luns[0], 1ULL << 40), 0);
	assert_int_equal(RUN(0, 0, 0x00), CHANGED_CAPACITY);
	assert_int_equal(RUN(512, 0, 0x93, [11] = 2, [13] = 1), FIELD);
	unmake(test);
}

/* An entry of a parameter list for UNMAP. */
static void put_range(uint8_t *list, unsigned int index, uint64_t lba, uint32_t blocks)
{
	put(list + 8 + 16 * index, lba, 8);
	put(list + 16 + 16 * index, blocks, 4);
}

static void test_unmap(void **state)
{
	struct test *test = make();

	(void)state;
	put(test->out, 6 + 32, 2);
	put(test->out + 2, 32, 2);
	put_range(test->out, 0, 8, 8);
	put_range(test->out, 1, 32, 16);
	assert_int_equal(RUN(40, 0, 0x42, [8] = 40), NOTHING);
	assert_int_equal(on_disk(test, 7 * 512), 7);
	assert_int_equal(on_disk(test, 8 * 512), 0);
	assert_int_equal(on_disk(test, 16 * 512 - 1), 0);
	assert_int_equal(on_disk(test, 16 * 512), 16);
	assert_int_equal(on_disk(test, 48 * 512 - 1), 0);
	/* The list ends where its shortest length does. */
	put_range(test->out, 0, 64, 8);
	put_range(test->out, 1, 72, 8);
	assert_int_equal(RUN(40, 0, 0x42, [8] = 39), NOTHING);
	assert_int_equal(on_disk(test, 64 * 512), 0);
	assert_int_equal(on_disk(test, 72 * 512), 72);
	put_range(test->out, 1, BLOCKS, 1);
	assert_int_equal(RUN(40, 0, 0x42, [8] = 40), LBA);
	put_range(test->out, 1, UINT64_MAX, 2);
	assert_int_equal(RUN(40, 0, 0x42, [8] = 40), LBA);
	assert_int_equal(RUN(40, 0, 0x42, 1, [8] = 40), FIELD);
	assert_int_equal(RUN(40, 0, 0x42, [8] = 7), SHORT_LIST);
	assert_int_equal(RUN(40, 0, 0x42), NOTHING);
	assert_int_equal(RUN(39, 0, 0x42, [8] = 40), NOTHING);
	assert_true(test->task.overrun);
	put(test->out + 2, 65 * 16, 2);
	assert_int_equal(RUN(8 + 65 * 16, 0, 0x42, [7] = 4, [8] = 0x18), PARAMETER);
	unmake(test);
}

static void test_mode(void **state)
{
	struct test *test = make();

	(void)state;
	assert_int_equal(RUN(0, 255, 0x1a, 0, 0x08, 0, 255), NOTHING);
	expect_in(31, 0, 0x10, 8, 0, 0, 0x10, 0, 0, 0, 2, 0, 0x08, 18, 0x04, [31] = 0);
	assert_int_equal(RUN(0, 255, 0x1a, 8, 0x0a, 0, 255), NOTHING);
	expect_in(15, 0, 0x10, 0, 0x0a, 10, 0, 0x10, [15] = 0);
	assert_int_equal(RUN_RO(0, 255, 0x1a, 8, 0x08, 0, 6), NOTHING);
	expect_in(23, 0, 0x90, 0, 0x08, 18);
	assert_int_equal(RUN(0, 255, 0x5a, 0x10, 0x08, [7] = 0, 255), NOTHING);
	expect_in(0, 42, 0, 0x10, 1, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 2, 0,
		  0x08, 18, 0x04, [43] = 0);
	/* All pages: of a disk, and of a CD-ROM, which has no block descriptor. */
	assert_int_equal(RUN(0, 255, 0x1a, 8, 0x3f, 0, 255), NOTHING);
	assert_int_equal(test->task.given, 4 + 12 + 20 + 12);
	assert_int_equal(RUN_CD(0, 255, 0x1a, 0, 0x3f, 0, 255), NOTHING);
	assert_int_equal(test->task.given, 4 + 12 + 12 + 22);
	assert_int_equal(test->in[3], 0);
	/* What can be changed, what it is without, and what is saved. */
	assert_int_equal(RUN(0, 255, 0x1a, 8, 0x48, 0, 255), NOTHING);
	expect_in(23, 0, 0x10, 0, 0x08, 18, 0x04, [23] = 0);
	assert_int_equal(RUN_RO(0, 255, 0x1a, 8, 0x88, 0, 255), NOTHING);
	expect_in(23, 0, 0x90, 0, 0x08, 18, 0, [23] = 0);
	assert_int_equal(RUN(0, 255, 0x1a, 8, 0xc8, 0, 255), SAVING);
	assert_int_equal(RUN(0, 255, 0x1a, 8, 0x1c, 0, 255), FIELD);
	assert_int_equal(RUN(0, 255, 0x1a, 8, 0x08, 1, 255), FIELD);
	assert_int_equal(RUN_CD(0, 255, 0x1a, 8, 0x08, 0, 255), FIELD);
	unmake(test);
}

static void test_mode_select(void **state)
{
	struct test *test = make();

	(void)state;
	/* The write cache off. */
	memcpy(test->out, (uint8_t[24]){ 0, 0, 0, 0, 0x08, 18 }, 24);
	assert_int_equal(RUN(24, 0, 0x15, 0x10, 0, 0, 24), NOTHING);
	assert_int_equal(RUN(0, 255, 0x1a, 8, 0x08, 0, 7), NOTHING);
	expect_in(23, 0, 0x10, 0, 0x08, 18, 0);
	/* The write cache on again, sense data in descriptor format; a block descriptor that is the present one. */
	memcpy(test->out,
	       (uint8_t[48]){ 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0x10, 0, 0, 0, 2, 0, 0x0a, 10, 0x04, 0x10,
			      [28] = 0x08, 18, 0x04 }, 48);
	assert_int_equal(RUN(48, 0, 0x55, 0x10, [8] = 48), NOTHING);
	assert_int_equal(RUN(0, 0, 0xff), OPCODE);
	assert_int_equal(test->task.sense[0], 0x72);
	assert_int_equal(test->task.sense_len, 8);
	assert_int_equal(RUN(0, 255, 0x1a, 8, 0x08, 0, 7), NOTHING);
	expect_in(23, 0, 0x10, 0, 0x08, 18, 0x04);
	/* A miscompare says where. */
	assert_int_equal(RUN(512, 0, 0x2f, 2, [8] = 1), MISCOMPARE);
	assert_int_equal(test->task.sense_len, 20);
	assert_memory_equal(test->task.sense, ((uint8_t[]){ 0x72, 0x0e, 0x1d, 0, 0, 0, 0, 12, 0, 10,
							    0x80, 0, 0, 0, 0, 0, 0, 0, 0, 7 }), 20);
	/* All or nothing: the second page is refused. */
	memcpy(test->out, (uint8_t[]){ 0, 0, 0, 0, 0x0a, 10, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0x08, 18, 1 }, 19);
	memset(test->out + 19, 0, 17);
	assert_int_equal(RUN(36, 0, 0x15, 0x10, 0, 0, 36), PARAMETER);
	assert_int_equal(test->task.sense[0], 0x72);
	assert_int_equal(RUN(36, 0, 0x15, 0x10, 0, 0, 3), SHORT_LIST);
	assert_int_equal(RUN(36, 0, 0x15, 0x10, 0, 0, 5), SHORT_LIST);
	assert_int_equal(RUN(36, 0, 0x15, 0x10, 0, 0, 15), SHORT_LIST);
	assert_int_equal(RUN(36, 0, 0x15, 0x11, 0, 0, 36), FIELD);
	assert_int_equal(RUN(36, 0, 0x15, 0x00, 0, 0, 36), FIELD);
	assert_int_equal(RUN(36, 0, 0x15, 0x10), NOTHING);
	assert_int_equal(RUN(35, 0, 0x15, 0x10, 0, 0, 36), NOTHING);
	assert_true(test->task.overrun);
	assert_int_equal(RUN(300, 0, 0x55, 0x10, [7] = 1, [8] = 1), SHORT_LIST);
	test->out[3] = 200;
	assert_int_equal(RUN(36, 0, 0x15, 0x10, 0, 0, 36), SHORT_LIST);
	unmake(test);
}

static void test_start_stop(void **state)
{
	struct test *test = make();

	(void)state;
	assert_int_equal(RUN(0, 0, 0x1b), NOTHING);
	assert_int_equal(RUN(0, 0, 0x00), STOPPED);
	assert_int_equal(RUN(0, 512, 0x28, [8] = 1), STOPPED);
	assert_int_equal(RUN(0, 255, 0x12, 0, 0, 0, 36), NOTHING);
	assert_int_equal(RUN(0, 0, 0x1b, [4] = 1), NOTHING);
	assert_int_equal(RUN(0, 0, 0x00), NOTHING);
	assert_int_equal(RUN(0, 0, 0x1b, [4] = 2), FIELD);
	assert_int_equal(RUN(0, 0, 0x1b, [4] = 0x30), NOTHING);
	assert_int_equal(RUN(0, 0, 0x00), NOTHING);
	unmake(test);
}

static void test_sync(void **state)
{
	struct test *test = make();

	(void)state;
	assert_int_equal(RUN(0, 0, 0x35), NOTHING);
	assert_int_equal(RUN(0, 0, 0x91, [9] = 1, [13] = 8), NOTHING);
	assert_int_equal(RUN(0, 0, 0x35, [4] = 0x10, [8] = 1), LBA);
	assert_int_equal(RUN_RO(0, 0, 0x35), NOTHING);
	unmake(test);
}

static void test_tray(void **state)
{
	struct test *test = make();

	(void)state;
	assert_int_equal(RUN_CD(0, 0, 0x1e, [4] = 1), NOTHING);
	assert_int_equal(RUN_CD(0, 0, 0x1b, [4] = 2), PREVENTED);
	assert_int_equal(RUN_CD(0, 0, 0x1e), NOTHING);
	assert_int_equal(RUN_CD(0, 8, 0x4a, 1, [4] = 0x10, [8] = 8), NOTHING);
	expect_in(0, 4, 4, 0x10, 0, 2, 0, 0);
	assert_int_equal(RUN_CD(0, 0, 0x1b, [4] = 2), NOTHING);
	assert_int_equal(RUN_CD(0, 0, 0x00), NO_MEDIUM);
	assert_int_equal(RUN_CD(0, 2048, 0x28, [8] = 1), NO_MEDIUM);
	assert_int_equal(RUN_CD(0, 64, 0x43, [8] = 64), NO_MEDIUM);
	/* Removed: it is told once, and not to who would not hear it. */
	assert_int_equal(RUN_CD(0, 8, 0x4a, 1, [4] = 0x10, [8] = 4), NOTHING);
	expect_in(0, 4, 4, 0x10);
	assert_int_equal(RUN_CD(0, 9, 0x4a, 1, [4] = 0x10, [8] = 8), NOTHING);
	expect_in(0, 4, 4, 0x10, 3, 1, 0, 0);
	assert_int_equal(RUN_CD(0, 9, 0x4a, 1, [4] = 0x10, [8] = 8), NOTHING);
	expect_in(0, 4, 4, 0x10, 0, 1, 0, 0);
	assert_int_equal(RUN_CD(0, 0, 0x1b, [4] = 3), NOTHING);
	assert_int_equal(RUN_CD(0, 9, 0x4a, 1, [4] = 0x10, [8] = 8), NOTHING);
	expect_in(0, 4, 4, 0x10, 2, 2, 0, 0);
	assert_int_equal(RUN_CD(0, 0, 0x00), CHANGED_MEDIUM);
	assert_int_equal(RUN_CD(0, 0, 0x00), NOTHING);
	/* Another class of events, and without polling. */
	assert_int_equal(RUN_CD(0, 9, 0x4a, 1, [4] = 2, [8] = 8), NOTHING);
	expect_in(0, 0, 0x80, 0x10);
	assert_int_equal(RUN_CD(0, 9, 0x4a, 0, [4] = 0x10, [8] = 8), FIELD);
	unmake(test);
}

static void test_disc(void **state)
{
	struct test *test = make();

	(void)state;
	assert_int_equal(RUN_CD(0, 64, 0x43, [8] = 64), NOTHING);
	expect_in(0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xaa, 0, 0, 0, 4, 0);
	/* In minutes, seconds and frames: 1024 + 150 frames. */
	assert_int_equal(RUN_CD(0, 64, 0x43, 2, [6] = 0xaa, [8] = 64), NOTHING);
	expect_in(0, 10, 1, 1, 0, 0x14, 0xaa, 0, 0, 0, 15, 49);
	assert_int_equal(RUN_CD(0, 64, 0x43, 0, 1, [8] = 64), NOTHING);
	expect_in(0, 10, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0);
	assert_int_equal(RUN_CD(0, 64, 0x43, 0, 2, [8] = 64), FIELD);
	assert_int_equal(RUN_CD(0, 64, 0x43, [6] = 2, [8] = 64), FIELD);

	assert_int_equal(RUN_CD(0, 64, 0x46, [8] = 64), NOTHING);
	expect_in(0, 0, 0, 48, 0, 0, 0, 8, 0, 0, 3, 8, 0, 0x10, 0, 0, 0, 8, 1, 0,
		  0, 1, 0x0b, 8, 0, 0, 0, 1, 1, 0, 0, 0, 0, 3, 3, 4, 0x29, 0, 0, 0,
		  0, 0x10, 1, 8, 0, 0, 8, 0, 0, 1, 0, 0);
	assert_int_equal(RUN_CD(0, 64, 0x46, 2, 0, 3, [8] = 64), NOTHING);
	expect_in(0, 0, 0, 12, 0, 0, 0, 8, 0, 3, 3, 4, 0x29, 0, 0, 0);
	assert_int_equal(RUN_CD(0, 64, 0x46, 3, [8] = 64), FIELD);
	/* A larger one is a DVD. */
	assert_int_equal(scsi_lun_resize(&test->luns[1], 4ULL << 30), 0);
	assert_int_equal(RUN_CD(0, 64, 0x46, [8] = 8), NOTHING);
	expect_in(0, 0, 0, 48, 0, 0, 0, 0x10);
	unmake(test);
}

/* The host's error is the guest's medium error. */
static void test_host_errors(void **state)
{
	struct test *test = make();

	(void)state;
	/* Neither sealed nor shorter, so that only what lies behind the end fails. */
	assert_int_equal(scsi_lun_resize(&test->luns[0], 2 * BYTES), 0);
	assert_int_equal(RUN(0, 0, 0x00), CHANGED_CAPACITY);
	assert_int_equal(RUN(0, 512, 0x28, 0, 0, 0, 0x18, 0, 0, 0, 1), 0x031100);
	assert_int_equal(test->task.given, 0);
	assert_int_equal(RUN(512, 0, 0x2a, 0, 0, 0, 0x18, 0, 0, 0, 1), 0x030c00);
	assert_int_equal(RUN(512, 0, 0x2f, 2, 0, 0, 0x18, 0, 0, 0, 1), 0x031100);
	assert_int_equal(test->flags[0], SCSI_PLUGGED);
	unmake(test);
}

static void test_names(void **state)
{
	const struct scsi_identity wrong[] = {
		{ .serial = "123456789012345678901", .block_size = 512, .size = 512 },
		{ .product = "12345678901234567", .block_size = 512, .size = 512 },
	};
	const struct scsi_identity small = { .block_size = 4096, .size = 4095 };
	struct scsi_lun lun[1] = { 0 };
	struct scsi_target target = { lun, 1 };
	_Atomic uint32_t flags;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		assert_int_equal(scsi_lun_init(&target, 0, &wrong[i], &flags), -E2BIG);
		scsi_lun_free(lun);
	}
	assert_int_equal(scsi_lun_init(&target, 0, &small, &flags), -EINVAL);
	scsi_lun_free(lun);
	lun[0].flags = &flags;
	atomic_store(&flags, SCSI_PLUGGED | SCSI_STOPPED);
	assert_int_equal(scsi_lun_check(lun), 0);
	atomic_store(&flags, SCSI_STOPPED);
	assert_int_equal(scsi_lun_check(lun), -EINVAL);
	atomic_store(&flags, SCSI_PLUGGED | SCSI_EJECTED);
	assert_int_equal(scsi_lun_check(lun), -EINVAL);
	lun[0].type = SCSI_CDROM;
	assert_int_equal(scsi_lun_check(lun), 0);
	atomic_store(&flags, SCSI_PLUGGED | SCSI_BUFFER_TAKEN);
	assert_int_equal(scsi_lun_check(lun), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_inquiry),
		cmocka_unit_test(test_vpd),
		cmocka_unit_test(test_capacity),
		cmocka_unit_test(test_reservations),
		cmocka_unit_test(test_report_luns),
		cmocka_unit_test(test_plug),
		cmocka_unit_test(test_attention),
		cmocka_unit_test(test_read_write),
		cmocka_unit_test(test_durable),
		cmocka_unit_test(test_read_write_refused),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_verify),
		cmocka_unit_test(test_compare_and_write),
		cmocka_unit_test(test_write_same),
		cmocka_unit_test(test_unmap),
		cmocka_unit_test(test_mode),
		cmocka_unit_test(test_mode_select),
		cmocka_unit_test(test_start_stop),
		cmocka_unit_test(test_sync),
		cmocka_unit_test(test_tray),
		cmocka_unit_test(test_disc),
		cmocka_unit_test(test_host_errors),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
