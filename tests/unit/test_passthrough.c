// SPDX-License-Identifier: Apache-2.0
/* A host's device as a unit: what reaches it, and how its answers come back. The device is a function. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <scsi/sg.h>
#include <semaphore.h>
#include "devices/scsi/passthrough.h"

#define BUFFER 8192
#define DEPTH 64
#define NOTHING 0
#define OPCODE 0x052000
#define FIELD 0x052400
#define NO_LUN 0x052500
#define RESET 0x062900
#define PROTECTED 0x072700

enum { DISK, CDROM, READ_ONLY, UNITS };

struct test;

struct fake {
	struct passthrough device;
	struct test *test;
};

struct test {
	struct fake fakes[UNITS];
	struct scsi_lun luns[UNITS];
	_Atomic uint32_t flags[UNITS];
	struct scsi_target target;
	struct block_conf conf;
	struct block_disk disk;
	struct worker workers[UNITS];
	struct block_queue queues[UNITS];
	struct scsi_task task;
	unsigned int done;
	/* What came to the device, and what it is to answer. */
	struct sg_io_hdr seen, answer;
	uint8_t seen_cdb[SCSI_CDB_MAX], sense[252];
	unsigned int executed;
	int error;
	uint8_t in[BUFFER], out[BUFFER];
	/* Of those that run in threads. */
	sem_t entered, leave;
};

static int fake_execute(const struct passthrough *device, struct sg_io_hdr *header)
{
	struct test *test = container_of(device, struct fake, device)->test;
	const struct iovec *iov = header->dxferp;

	test->executed++;
	test->seen = *header;
	memcpy(test->seen_cdb, header->cmdp, header->cmd_len);
	if (test->error)
		return test->error;
	if (header->dxfer_direction == SG_DXFER_FROM_DEV)
		memset(iov->iov_base, 0x0f, util_min(iov->iov_len, header->dxfer_len));
	header->status = test->answer.status;
	header->host_status = test->answer.host_status;
	header->driver_status = test->answer.driver_status;
	header->resid = test->answer.resid;
	header->sb_len_wr = test->answer.sb_len_wr;
	memcpy(header->sbp, test->sense, util_min(test->answer.sb_len_wr, header->mx_sb_len));
	return 0;
}

static struct test *make(void)
{
	struct test *test = calloc(1, sizeof(*test));

	assert_non_null(test);
	test->target = (struct scsi_target){ test->luns, UNITS };
	test->disk = (struct block_disk){ .conf = &test->conf };
	for (unsigned int i = 0; i < UNITS; i++) {
		test->fakes[i] = (struct fake){
			.device = {
				.fd = open("/dev/null", O_RDWR | O_CLOEXEC),
				.read_only = i == READ_ONLY,
				.type = i == CDROM ? SCSI_CDROM : SCSI_DISK,
				.block_size = i == CDROM ? 2048 : 512,
				.bytes_max = 4096,
				.segments_max = 16,
				.execute = fake_execute,
			},
			.test = test,
		};
		scsi_lun_init_device(&test->target, i, &test->fakes[i].device, &test->flags[i]);
		test->flags[i] &= ~(uint32_t)SCSI_ATTENTION_RESET;
		assert_int_equal(worker_init(&test->workers[i], "test", NULL, false), 0);
		assert_int_equal(passthrough_queue_open(&test->fakes[i].device, &test->workers[i],
							DEPTH, &test->queues[i]), 0);
	}
	return test;
}

static void unmake(struct test *test)
{
	for (unsigned int i = 0; i < UNITS; i++) {
		worker_stop(&test->workers[i]);
		block_queue_close(&test->queues[i]);
		worker_free(&test->workers[i]);
		passthrough_close(&test->fakes[i].device);
		scsi_lun_free(&test->luns[i]);
	}
	free(test);
}

static void done(struct scsi_task *task)
{
	container_of(task, struct test, task)->done++;
}

/* What a command was sensed for by the target, or NOTHING for any other answer. */
static uint32_t run_on(struct test *test, unsigned int unit, const uint8_t cdb[SCSI_CDB_MAX],
		       size_t out_len, size_t in_len)
{
	struct iovec out[] = { { test->out, out_len / 2 }, { test->out + out_len / 2, out_len - out_len / 2 } };
	struct iovec in[] = { { test->in, in_len / 2 }, { test->in + in_len / 2, in_len - in_len / 2 } };
	struct scsi_task *task = &test->task;

	*task = (struct scsi_task){
		.lun = &test->luns[unit], .disk = &test->disk, .queue = &test->queues[unit],
		.cdb_len = SCSI_CDB_MAX, .out = out, .in = in, .out_count = out_len ? 2 : 0,
		.in_count = in_len ? 2 : 0, .out_len = out_len, .in_len = in_len, .done = done,
	};
	memcpy(task->cdb, cdb, SCSI_CDB_MAX);
	test->done = test->executed = 0;
	scsi_task_run(task);
	assert_int_equal(test->done, 1);
	if (test->executed || task->status != SCSI_CHECK_CONDITION)
		return NOTHING;
	return (uint32_t)(task->sense[2] << 16 | task->sense[12] << 8 | task->sense[13]);
}

#define CDB(...) (const uint8_t[SCSI_CDB_MAX]){ __VA_ARGS__ }
#define RUN(out_len, in_len, ...) run_on(test, DISK, CDB(__VA_ARGS__), out_len, in_len)
#define RUN_CD(out_len, in_len, ...) run_on(test, CDROM, CDB(__VA_ARGS__), out_len, in_len)
#define RUN_RO(out_len, in_len, ...) run_on(test, READ_ONLY, CDB(__VA_ARGS__), out_len, in_len)

static void expect_seen(const struct test *test, int direction, unsigned int len, unsigned int cmd_len)
{
	assert_int_equal(test->executed, 1);
	assert_int_equal(test->seen.interface_id, 'S');
	assert_int_equal(test->seen.dxfer_direction, direction);
	assert_int_equal(test->seen.dxfer_len, len);
	assert_int_equal(test->seen.cmd_len, cmd_len);
	assert_memory_equal(test->seen_cdb, test->task.cdb, cmd_len);
	assert_in_range(test->seen.timeout, 1, 3600000);
	assert_int_equal(test->seen.iovec_count, len ? 2 : 0);
	assert_ptr_equal(test->seen.dxferp,
			 direction == SG_DXFER_TO_DEV ? test->task.out :
			 direction == SG_DXFER_FROM_DEV ? test->task.in : NULL);
}

/* Direction and length are those of the command, whatever buffers the guest gives besides. */
static void test_transfers(void **state)
{
	struct test *test = make();

	(void)state;
	RUN(0, 0, 0x00);
	expect_seen(test, SG_DXFER_NONE, 0, 6);
	RUN(512, 512, 0x00);
	expect_seen(test, SG_DXFER_NONE, 0, 6);
	RUN(512, 4096, 0x28, [8] = 2);
	expect_seen(test, SG_DXFER_FROM_DEV, 1024, 10);
	assert_int_equal(test->task.given, 1024);
	assert_int_equal(test->task.taken, 0);
	RUN(4096, 512, 0x8a, [13] = 3);
	expect_seen(test, SG_DXFER_TO_DEV, 1536, 16);
	assert_int_equal(test->task.taken, 1536);
	assert_int_equal(test->task.given, 0);
	RUN(0, 512, 0x08, [4] = 1);
	expect_seen(test, SG_DXFER_FROM_DEV, 512, 6);
	RUN(1024, 0, 0x89, [13] = 1);
	expect_seen(test, SG_DXFER_TO_DEV, 1024, 16);
	RUN(512, 0, 0x41, [8] = 100);
	expect_seen(test, SG_DXFER_TO_DEV, 512, 10);
	RUN(0, 0, 0x93, 1, [13] = 100);
	expect_seen(test, SG_DXFER_NONE, 0, 16);
	RUN(24, 0, 0x42, [8] = 24);
	expect_seen(test, SG_DXFER_TO_DEV, 24, 10);
	RUN(0, 0, 0x2f, [8] = 8);
	expect_seen(test, SG_DXFER_NONE, 0, 10);
	RUN(4096, 0, 0x8f, 2, [13] = 8);
	expect_seen(test, SG_DXFER_TO_DEV, 4096, 16);
	RUN(0, 64, 0x25);
	expect_seen(test, SG_DXFER_FROM_DEV, 8, 10);
	RUN(0, 64, 0x9e, 0x10, [13] = 32);
	expect_seen(test, SG_DXFER_FROM_DEV, 32, 16);
	RUN_CD(0, 4096, 0xa8, [9] = 2);
	expect_seen(test, SG_DXFER_FROM_DEV, 4096, 12);
	/* The same code, another command. */
	RUN_CD(0, 64, 0x42, [8] = 24);
	expect_seen(test, SG_DXFER_FROM_DEV, 24, 10);
	unmake(test);
}

/* Never more than there is room for, and never more than the host takes. */
static void test_lengths(void **state)
{
	struct test *test = make();

	(void)state;
	RUN(0, 1023, 0x28, [8] = 2);
	assert_true(test->task.overrun);
	assert_int_equal(test->executed, 0);
	/* A driver that calls a read a write, and the other way round. */
	RUN(1024, 0, 0x28, [8] = 2);
	assert_true(test->task.overrun);
	RUN(0, 1024, 0x2a, [8] = 2);
	assert_true(test->task.overrun);
	/* 0 is 256 blocks. */
	RUN(0, 8192, 0x08);
	assert_true(test->task.overrun);
	RUN(0, 35, 0x12, [4] = 36);
	assert_true(test->task.overrun);
	RUN(0, 4096, 0xa8, [6] = 0xff, 0xff, 0xff, 0xff);
	assert_true(test->task.overrun);
	assert_int_equal(RUN(0, 8192, 0x28, [8] = 9), FIELD);
	assert_int_equal(RUN(0, 8192, 0x28, [8] = 8), NOTHING);
	/* A CDB that the driver cut short. */
	assert_int_equal(test->executed, 1);
	test->task.cdb_len = 9;
	test->done = test->executed = 0;
	scsi_task_run(&test->task);
	assert_int_equal(test->executed, 0);
	assert_int_equal(test->task.sense[12], 0x24);
	unmake(test);
}

/* What is not on the list never reaches the device. */
static void test_refused(void **state)
{
	static const uint8_t never[] = {
		0x04, /* FORMAT UNIT */
		0x07, /* REASSIGN BLOCKS */
		0x15, 0x55, /* MODE SELECT */
		0x16, 0x17, 0x5e, 0x5f, /* reservations */
		0x1c, 0x1d, /* diagnostics */
		0x1e, /* PREVENT ALLOW MEDIUM REMOVAL */
		0x3b, 0x3c, /* WRITE BUFFER, READ BUFFER */
		0x3f, 0x9f, /* WRITE LONG */
		0x48, /* SANITIZE */
		0x4c, /* LOG SELECT */
		0x83, 0x84, /* EXTENDED COPY and its results */
		0x85, 0xa1, /* ATA PASS-THROUGH */
		0x7f, /* of variable length */
		0xa2, 0xb5, /* SECURITY PROTOCOL */
		0xa3, 0xa4, /* MAINTENANCE */
		0xc0, 0xdf, 0xff, /* vendors' */
	};
	struct test *test = make();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(never); i++) {
		assert_int_equal(RUN(512, 512, never[i]), OPCODE);
		assert_int_equal(RUN_CD(512, 512, never[i]), OPCODE);
		assert_int_equal(test->executed, 0);
	}
	/* Of the other kind of device. */
	assert_int_equal(RUN(0, 64, 0x43, [8] = 64), OPCODE);
	assert_int_equal(RUN_CD(64, 0, 0x93, [13] = 1), OPCODE);
	/* Other service actions and uses, protection information, a control byte that asks for more. */
	assert_int_equal(RUN(0, 64, 0x9e, 0x13, [13] = 32), FIELD);
	assert_int_equal(RUN(0, 0, 0x1b), FIELD);
	assert_int_equal(RUN(0, 0, 0x1b, [4] = 2), FIELD);
	assert_int_equal(RUN(0, 0, 0x1b, [4] = 0x31), FIELD);
	assert_int_equal(RUN(0, 0, 0x1b, [4] = 1), NOTHING);
	assert_int_equal(RUN(0, 64, 0x4d, 1, [8] = 64), FIELD);
	assert_int_equal(RUN(0, 4096, 0x28, 0x20, [8] = 1), FIELD);
	assert_int_equal(RUN(4096, 0, 0x2f, 0x06, [8] = 1), FIELD);
	assert_int_equal(RUN(0, 0, 0x00, [5] = 4), FIELD);
	unmake(test);
}

/* The number that byte 1 had in SCSI-2 is the unit's, and not the device's. */
static void test_lun_in_cdb(void **state)
{
	struct test *test = make();

	(void)state;
	RUN(0, 36, 0x12, 0x40, 0, 0, 36);
	assert_int_equal(test->seen_cdb[1], 0);
	assert_int_equal(RUN(0, 512, 0x28, 0x40, [8] = 1), FIELD);
	test->fakes[DISK].device.has_lun_in_cdb = true;
	assert_int_equal(RUN(0, 512, 0x28, 0x48, [8] = 1), NOTHING);
	assert_int_equal(test->seen_cdb[1], 0x08);
	unmake(test);
}

static void test_read_only(void **state)
{
	static const uint8_t writes[] = { 0x0a, 0x2a, 0x2e, 0x41, 0x42, 0x89, 0x8a, 0x8e, 0x93, 0xaa };
	struct test *test = make();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(writes); i++) {
		assert_int_equal(RUN_RO(512, 0, writes[i]), PROTECTED);
		assert_int_equal(test->executed, 0);
	}
	assert_int_equal(RUN_RO(0, 512, 0x28, [8] = 1), NOTHING);
	assert_int_equal(test->executed, 1);
	/* The device would say that it can be written. */
	RUN_RO(0, 64, 0x1a, 0, 0x3f, 0, 64);
	assert_int_equal(test->in[2], 0x8f);
	RUN_RO(0, 64, 0x5a, 0, 0x3f, [8] = 64);
	assert_int_equal(test->in[3], 0x8f);
	RUN(0, 64, 0x1a, 0, 0x3f, 0, 64);
	assert_int_equal(test->in[2], 0x0f);
	/* It did not come that far. */
	test->answer.resid = 62;
	test->in[2] = 0;
	RUN_RO(0, 64, 0x1a, 0, 0x3f, 0, 64);
	assert_int_equal(test->task.given, 2);
	unmake(test);
}

static void test_answers(void **state)
{
	static const struct {
		uint8_t host, status, failure;
	} hosts[] = {
		{ 0x00, 0, SCSI_NO_FAILURE }, { 0x01, 0, SCSI_GONE },
		{ 0x02, 0, SCSI_CONGESTED }, { 0x03, 0, SCSI_ABORTED },
		{ 0x05, 0, SCSI_ABORTED }, { 0x08, 0, SCSI_WAS_RESET },
		{ 0x07, 0, SCSI_FAILED }, { 0x0e, 0, SCSI_TRANSPORT_FAILED },
		{ 0x10, 0, SCSI_TARGET_FAILED }, { 0x11, 0, SCSI_NEXUS_FAILED },
		{ 0xff, 0, SCSI_FAILED }, { 0x11, 0x18, SCSI_NO_FAILURE },
	};
	struct test *test = make();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(hosts); i++) {
		test->answer = (struct sg_io_hdr){ .host_status = hosts[i].host,
						   .status = hosts[i].status };
		RUN(0, 512, 0x28, [8] = 1);
		assert_int_equal(test->task.failure, hosts[i].failure);
		assert_int_equal(test->task.status, hosts[i].status);
		assert_int_equal(test->task.sense_len, 0);
	}
	/* A medium error, half-way. */
	memset(test->sense, 0x70, sizeof(test->sense));
	test->answer = (struct sg_io_hdr){ .status = 0x02, .driver_status = 8, .resid = 512,
					   .sb_len_wr = 18 };
	RUN(0, 1024, 0x28, [8] = 2);
	assert_int_equal(test->task.status, SCSI_CHECK_CONDITION);
	assert_int_equal(test->task.sense_len, 18);
	assert_memory_equal(test->task.sense, test->sense, 18);
	assert_int_equal(test->task.given, 512);
	/* A host that lies. */
	test->answer = (struct sg_io_hdr){ .status = 0x02, .resid = 4096, .sb_len_wr = 252 };
	RUN(0, 1024, 0x28, [8] = 2);
	assert_int_equal(test->task.given, 0);
	assert_int_equal(test->task.sense_len, SCSI_SENSE_MAX);
	test->answer = (struct sg_io_hdr){ .resid = -5 };
	RUN(0, 1024, 0x28, [8] = 2);
	assert_int_equal(test->task.given, 1024);
	unmake(test);
}

static void test_errors(void **state)
{
	struct test *test = make();

	(void)state;
	test->error = -EPERM;
	RUN(0, 512, 0x28, [8] = 1);
	assert_int_equal(test->task.status, SCSI_CHECK_CONDITION);
	assert_int_equal(test->task.sense[12], 0x20);
	assert_int_equal(test->task.given, 0);
	test->error = -ENOMEM;
	RUN(0, 512, 0x28, [8] = 1);
	assert_int_equal(test->task.status, SCSI_BUSY);
	test->error = -ENODEV;
	RUN(0, 512, 0x28, [8] = 1);
	assert_int_equal(test->task.failure, SCSI_GONE);
	test->error = -EIO;
	RUN(512, 0, 0x2a, [8] = 1);
	assert_int_equal(test->task.failure, SCSI_FAILED);
	assert_int_equal(test->task.taken, 0);
	unmake(test);
}

/* Which units there are is the target's to tell, and so is what befell them. */
static void test_target(void **state)
{
	struct test *test = make();

	(void)state;
	assert_int_equal(RUN(0, 64, 0xa0, [9] = 64), NOTHING);
	assert_int_equal(test->executed, 0);
	assert_int_equal(test->task.given, 8 + 8 * UNITS);
	scsi_lun_reset(&test->luns[DISK]);
	assert_int_equal(RUN(0, 36, 0x12, [4] = 36), NOTHING);
	assert_int_equal(test->executed, 1);
	assert_int_equal(RUN(0, 512, 0x28, [8] = 1), RESET);
	assert_int_equal(RUN(0, 512, 0x28, [8] = 1), NOTHING);
	assert_int_equal(test->executed, 1);
	scsi_lun_hide(&test->luns[DISK]);
	assert_int_equal(RUN(0, 512, 0x28, [8] = 1), NO_LUN);
	assert_int_equal(RUN(0, 36, 0x12, [4] = 36), NOTHING);
	assert_int_equal(test->executed, 0);
	assert_int_equal(test->in[0], 0x7f);
	unmake(test);
}

static int slow_execute(const struct passthrough *device, struct sg_io_hdr *header)
{
	struct test *test = container_of(device, struct fake, device)->test;

	sem_post(&test->entered);
	sem_wait(&test->leave);
	header->status = header->cmdp[1];
	return 0;
}

static void count(struct scsi_task *task)
{
	assert_int_equal(task->status, task->cdb[1]);
	*(unsigned int *)task->in += 1;
}

/* Helpers wait for the device, several at a time; the queue's worker does not. */
static void test_threads(void **state)
{
	struct test *test = make();
	const struct block_queue *queue = &test->queues[DISK];
	_cleanup_free_ struct scsi_task *tasks = calloc(DEPTH, sizeof(*tasks));
	unsigned int over = 0;

	(void)state;
	assert_non_null(tasks);
	sem_init(&test->entered, 0, 0);
	sem_init(&test->leave, 0, 0);
	test->fakes[DISK].device.execute = slow_execute;
	assert_int_equal(worker_start(&test->workers[DISK]), 0);
	assert_int_equal(queue->ops->start(queue->engine), 0);
	for (unsigned int i = 0; i < DEPTH; i++) {
		tasks[i] = (struct scsi_task){
			.lun = &test->luns[DISK], .disk = &test->disk, .queue = queue,
			.cdb = { 0x00, (uint8_t)i }, .cdb_len = SCSI_CDB_MAX,
			.in = (void *)&over, .done = count,
		};
		scsi_task_run(&tasks[i]);
	}
	/* Two are with the device at the same time, and none is over. */
	sem_wait(&test->entered);
	sem_wait(&test->entered);
	queue->ops->complete(queue->engine);
	assert_int_equal(over, 0);
	for (unsigned int i = 0; i < DEPTH; i++)
		sem_post(&test->leave);
	queue->ops->drain(queue->engine);
	assert_int_equal(over, DEPTH);
	unmake(test);
}

static void test_open(void **state)
{
	struct passthrough device = { 0 };

	(void)state;
	assert_int_equal(passthrough_open(&device, "/dev/null", false), -ENOTTY);
	assert_int_equal(passthrough_open(&device, "/proc/self/exe", true), -ENOTTY);
	assert_int_equal(passthrough_open(&device, "/nowhere", true), -ENOENT);
	passthrough_close(&device);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_transfers),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_lun_in_cdb),
		cmocka_unit_test(test_read_only),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_target),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_open),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
