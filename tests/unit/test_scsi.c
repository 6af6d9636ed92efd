// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <linux/virtio_scsi.h>
#include <stdio.h>
#include <sys/stat.h>
#include "core/state.h"
#include "devices/scsi.h"
#include "tests/unit/driver.h"

extern const struct virtio_class scsi_class;

#define CONTROL 0
#define EVENT 1
#define REQUEST 2
#define FEATURES (1ULL << VIRTIO_SCSI_F_HOTPLUG | 1ULL << VIRTIO_SCSI_F_CHANGE)
/* Guest addresses, well behind the rings. */
#define HEADER (VQ_RAM_BASE + MIB(4))
#define RESPONSE (HEADER + 512)
#define ANSWER (HEADER + 768)
#define EVENTS (HEADER + 1024)
#define DATA (HEADER + 4096)
#define UNITS_MAX 256

struct scsi_test {
	struct vq_guest guest;
	char paths[2][64];
	void *confs[UNITS_MAX];
	unsigned int count;
};

static void *configure(const char *text)
{
	void *conf = calloc(1, scsi_class.conf_size);
	struct opt_error error;

	assert_non_null(conf);
	if (opt_parse(scsi_class.opts, text, conf, &error) < 0)
		fail_msg("%s", error.text);
	return conf;
}

/* A controller with a unit for each text. */
static int make(struct scsi_test *test, const char *const *texts, unsigned int count)
{
	*test = (struct scsi_test){ .count = count };
	for (unsigned int i = 0; i < count; i++) {
		test->confs[i] = configure(texts[i]);
		if (i)
			((struct virtio_conf *)test->confs[i - 1])->next = test->confs[i];
	}
	return vq_guest_init(&test->guest, &scsi_class, test->confs[0]);
}

static void unmake(struct scsi_test *test)
{
	vq_guest_free(&test->guest);
	for (unsigned int i = 0; i < test->count; i++) {
		opt_free(scsi_class.opts, test->confs[i]);
		free(test->confs[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(test->paths); i++)
		if (*test->paths[i])
			unlink(test->paths[i]);
}

static const char *const pair[] = { "scratch=1M,engine=sync", "scratch=2M,engine=sync,serial=two" };

static struct vq_guest *set_up(struct scsi_test *test)
{
	assert_int_equal(make(test, pair, ARRAY_SIZE(pair)), 0);
	vq_start(&test->guest, FEATURES);
	return &test->guest;
}

static bool take(struct vq_guest *guest, unsigned int queue, uint32_t *ret_len)
{
	uint16_t head;

	return vq_take(guest, queue, &head, ret_len);
}

static uint8_t *at(struct vq_guest *guest, uint64_t gpa)
{
	return vq_ptr(guest, gpa, 1);
}

static void put_lun(uint8_t lun[8], unsigned int number)
{
	memcpy(lun, (const uint8_t[8]){ 1, 0, (uint8_t)(0x40 | number >> 8), (uint8_t)number }, 8);
}

static void post_command(struct vq_guest *guest, unsigned int queue, unsigned int lun, uint64_t tag,
			 const uint8_t cdb[16], uint32_t out_len, uint32_t in_len)
{
	struct virtio_scsi_cmd_req request = { .tag = tag };
	struct vq_buffer bufs[4] = { { HEADER, sizeof(request), false } };
	unsigned int count = 1;

	put_lun(request.lun, lun);
	memcpy(request.cdb, cdb, 16);
	memcpy(at(guest, HEADER), &request, sizeof(request));
	memset(at(guest, RESPONSE), 0xee, sizeof(struct virtio_scsi_cmd_resp));
	if (out_len)
		bufs[count++] = (struct vq_buffer){ DATA, out_len, false };
	bufs[count++] = (struct vq_buffer){ RESPONSE, sizeof(struct virtio_scsi_cmd_resp), true };
	if (in_len)
		bufs[count++] = (struct vq_buffer){ DATA, in_len, true };
	vq_post(guest, queue, bufs, count);
	vq_notify(guest, queue);
}

/* The response to a command that ends at once. */
static struct virtio_scsi_cmd_resp command(struct vq_guest *guest, unsigned int lun,
					   const uint8_t cdb[16], uint32_t out_len, uint32_t in_len,
					   uint32_t *ret_used)
{
	struct virtio_scsi_cmd_resp response;

	post_command(guest, REQUEST, lun, 1, cdb, out_len, in_len);
	vq_turn(guest);
	assert_true(take(guest, REQUEST, ret_used));
	memcpy(&response, at(guest, RESPONSE), sizeof(response));
	return response;
}

#define CDB(...) (const uint8_t[16]){ __VA_ARGS__ }

/* The first command to each unit finds it to have been reset. */
static void wake(struct vq_guest *guest, unsigned int lun)
{
	uint32_t used;
	struct virtio_scsi_cmd_resp response = command(guest, lun, CDB(0), 0, 0, &used);

	assert_int_equal(response.status, 2);
	assert_int_equal(response.sense_len, 18);
	assert_int_equal(response.sense[2], 6);
	assert_int_equal(response.sense[12], 0x29);
	assert_int_equal(used, sizeof(response));
}

static void test_commands(void **state)
{
	struct virtio_scsi_cmd_resp response;
	struct scsi_test test;
	struct vq_guest *guest = set_up(&test);
	uint32_t used;

	(void)state;
	wake(guest, 1);
	memset(at(guest, DATA), 0x77, 1024);
	response = command(guest, 1, CDB(0x2a, [5] = 3, [8] = 2), 1024, 0, &used);
	assert_int_equal(response.response, VIRTIO_SCSI_S_OK);
	assert_int_equal(response.status, 0);
	assert_int_equal(response.resid, 0);
	assert_int_equal(response.sense_len, 0);
	assert_int_equal(used, sizeof(response));
	memset(at(guest, DATA), 0, 2048);
	response = command(guest, 1, CDB(0x28, [5] = 4, [8] = 2), 0, 2048, &used);
	assert_int_equal(response.status, 0);
	assert_int_equal(response.resid, 1024);
	assert_int_equal(used, sizeof(response) + 1024);
	assert_int_equal(at(guest, DATA)[511], 0x77);
	assert_int_equal(at(guest, DATA)[512], 0);
	/* The other unit has bytes of its own. */
	wake(guest, 0);
	command(guest, 0, CDB(0x28, [5] = 4, [8] = 1), 0, 512, &used);
	assert_int_equal(at(guest, DATA)[0], 0);
	/* Less of a buffer than the CDB wants. */
	response = command(guest, 0, CDB(0x28, [8] = 2), 0, 1023, &used);
	assert_int_equal(response.response, VIRTIO_SCSI_S_OVERRUN);
	/* No unit has that number, and none can have the next. */
	response = command(guest, 2, CDB(0), 0, 0, &used);
	assert_int_equal(response.response, VIRTIO_SCSI_S_OK);
	assert_int_equal(response.sense[12], 0x25);
	response = command(guest, 256, CDB(0), 0, 0, &used);
	assert_int_equal(response.response, VIRTIO_SCSI_S_BAD_TARGET);
	response = command(guest, 1, CDB(0x12, 1, 0x80, 0, 64), 0, 64, &used);
	assert_int_equal(response.resid, 64 - 7);
	assert_memory_equal(at(guest, DATA) + 4, "two", 3);
	assert_false(virtio_failed(guest->dev));
	unmake(&test);
}

/* The driver may cut the response into any pieces. */
static void test_response_in_pieces(void **state)
{
	const size_t header = sizeof(struct virtio_scsi_cmd_req);
	struct scsi_test test;
	struct vq_guest *guest = set_up(&test);
	struct virtio_scsi_cmd_req request = { .cdb = { 0x25 } };
	struct virtio_scsi_cmd_resp response;
	uint32_t used;

	(void)state;
	wake(guest, 0);
	put_lun(request.lun, 0);
	memcpy(at(guest, HEADER), &request, header);
	/* The third buffer has the end of the response and the beginning of the data. */
	vq_post(guest, REQUEST, (struct vq_buffer[]){
		{ HEADER, header, false }, { RESPONSE, 1, true }, { RESPONSE + 1, 50, true },
		{ RESPONSE + 51, 60, true }, { DATA, 40, true } }, 5);
	vq_notify(guest, REQUEST);
	vq_turn(guest);
	assert_true(take(guest, REQUEST, &used));
	assert_int_equal(used, sizeof(response) + 8);
	memcpy(&response, at(guest, RESPONSE), sizeof(response));
	assert_int_equal(response.status, 0);
	assert_int_equal(response.resid, 3 + 40 - 8);
	assert_memory_equal(at(guest, RESPONSE + 108), ((uint8_t[]){ 0, 0, 7 }), 3);
	assert_memory_equal(at(guest, DATA), ((uint8_t[]){ 0xff, 0, 0, 2, 0 }), 5);
	unmake(&test);
}

static void test_addresses(void **state)
{
	static const struct {
		uint8_t lun[8], response;
	} addresses[] = {
		{ { 1, 0, 0x40, 1 }, VIRTIO_SCSI_S_OK },
		{ { 1, 0, 0, 1 }, VIRTIO_SCSI_S_OK },
		{ { 1, 0, 0x40, 255 }, VIRTIO_SCSI_S_OK },
		{ { 1, 0, 0x41, 1 }, VIRTIO_SCSI_S_BAD_TARGET },
		{ { 1, 1, 0x40, 1 }, VIRTIO_SCSI_S_BAD_TARGET },
		{ { 0, 0, 0x40, 1 }, VIRTIO_SCSI_S_BAD_TARGET },
		{ { 1, 0, 0xc0, 1 }, VIRTIO_SCSI_S_BAD_TARGET },
		{ { 1, 0, 1, 1 }, VIRTIO_SCSI_S_BAD_TARGET },
		{ { 1, 0, 0x40, 1, 0, 1 }, VIRTIO_SCSI_S_BAD_TARGET },
	};
	struct scsi_test test;
	struct vq_guest *guest = set_up(&test);
	struct virtio_scsi_cmd_req request = { 0 };
	struct virtio_scsi_cmd_resp response;
	uint32_t used;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(addresses); i++) {
		memcpy(request.lun, addresses[i].lun, 8);
		memcpy(at(guest, HEADER), &request, sizeof(request));
		vq_post(guest, REQUEST, (struct vq_buffer[]){
			{ HEADER, sizeof(request), false }, { RESPONSE, sizeof(response), true } }, 2);
		vq_notify(guest, REQUEST);
		vq_turn(guest);
		assert_true(take(guest, REQUEST, &used));
		memcpy(&response, at(guest, RESPONSE), sizeof(response));
		assert_int_equal(response.response, addresses[i].response);
	}
	unmake(&test);
}

static uint8_t function(struct vq_guest *guest, uint32_t subtype, unsigned int lun, uint64_t tag)
{
	struct virtio_scsi_ctrl_tmf_req request = { .type = VIRTIO_SCSI_T_TMF, .subtype = subtype,
						    .tag = tag };
	uint32_t used;

	put_lun(request.lun, lun);
	memcpy(at(guest, HEADER), &request, sizeof(request));
	vq_post(guest, CONTROL, (struct vq_buffer[]){
		{ HEADER, sizeof(request), false }, { ANSWER, 1, true } }, 2);
	vq_notify(guest, CONTROL);
	vq_turn(guest);
	if (!take(guest, CONTROL, &used))
		return 0xff;
	assert_int_equal(used, 1);
	return *at(guest, ANSWER);
}

static void test_task_management(void **state)
{
	static const uint32_t complete[] = {
		VIRTIO_SCSI_T_TMF_ABORT_TASK, VIRTIO_SCSI_T_TMF_ABORT_TASK_SET,
		VIRTIO_SCSI_T_TMF_CLEAR_TASK_SET, VIRTIO_SCSI_T_TMF_LOGICAL_UNIT_RESET,
		VIRTIO_SCSI_T_TMF_QUERY_TASK, VIRTIO_SCSI_T_TMF_QUERY_TASK_SET,
		VIRTIO_SCSI_T_TMF_I_T_NEXUS_RESET,
	};
	struct scsi_test test;
	struct vq_guest *guest = set_up(&test);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(complete); i++)
		assert_int_equal(function(guest, complete[i], 0, 1), VIRTIO_SCSI_S_OK);
	assert_int_equal(function(guest, VIRTIO_SCSI_T_TMF_CLEAR_ACA, 0, 1),
			 VIRTIO_SCSI_S_FUNCTION_REJECTED);
	assert_int_equal(function(guest, 99, 0, 1), VIRTIO_SCSI_S_FUNCTION_REJECTED);
	assert_int_equal(function(guest, VIRTIO_SCSI_T_TMF_ABORT_TASK, 9, 1),
			 VIRTIO_SCSI_S_INCORRECT_LUN);
	/* A reset of one unit is an attention there, and the nexus' is one everywhere. */
	wake(guest, 0);
	wake(guest, 1);
	function(guest, VIRTIO_SCSI_T_TMF_LOGICAL_UNIT_RESET, 1, 0);
	wake(guest, 1);
	function(guest, VIRTIO_SCSI_T_TMF_I_T_NEXUS_RESET, 1, 0);
	wake(guest, 0);
	wake(guest, 1);
	unmake(&test);
}

/* A task that the unit's limit holds back: abort and reset wait for it. */
static void test_waiting(void **state)
{
	static const char *const limited[] = { "scratch=1M,engine=sync,iops=20,iops-burst=1",
					       "scratch=1M,engine=sync" };
	struct scsi_test test;
	struct vq_guest *guest = &test.guest;
	uint32_t used;
	uint8_t answer;

	(void)state;
	assert_int_equal(make(&test, limited, 2), 0);
	vq_start(guest, FEATURES);
	wake(guest, 0);
	/* The bucket is empty now. */
	post_command(guest, REQUEST, 0, 77, CDB(0), 0, 0);
	vq_turn(guest);
	assert_false(take(guest, REQUEST, &used));
	/* The other unit goes on. */
	post_command(guest, REQUEST, 1, 78, CDB(0), 0, 0);
	vq_turn(guest);
	assert_true(take(guest, REQUEST, &used));
	assert_int_equal(function(guest, VIRTIO_SCSI_T_TMF_QUERY_TASK, 0, 77),
			 VIRTIO_SCSI_S_FUNCTION_SUCCEEDED);
	assert_int_equal(function(guest, VIRTIO_SCSI_T_TMF_QUERY_TASK_SET, 0, 0),
			 VIRTIO_SCSI_S_FUNCTION_SUCCEEDED);
	assert_int_equal(function(guest, VIRTIO_SCSI_T_TMF_QUERY_TASK, 0, 78), VIRTIO_SCSI_S_OK);
	assert_int_equal(function(guest, VIRTIO_SCSI_T_TMF_QUERY_TASK, 1, 77), VIRTIO_SCSI_S_OK);
	assert_int_equal(function(guest, VIRTIO_SCSI_T_TMF_ABORT_TASK, 1, 77), VIRTIO_SCSI_S_OK);
	answer = function(guest, VIRTIO_SCSI_T_TMF_ABORT_TASK, 0, 77);
	if (answer == 0xff) {
		for (int i = 0; i < VQ_WAIT_MS && !take(guest, CONTROL, &used); i++)
			assert_true(loop_turn(&guest->dev->workers[0].loop, 1) >= 0);
		answer = *at(guest, ANSWER);
	}
	assert_int_equal(answer, VIRTIO_SCSI_S_OK);
	/* When it is answered, the driver has the task. */
	assert_true(take(guest, REQUEST, &used));
	unmake(&test);
}

static void test_notifications(void **state)
{
	struct virtio_scsi_ctrl_an_req request = { .type = VIRTIO_SCSI_T_AN_SUBSCRIBE,
						   .event_requested = 0x3e };
	struct scsi_test test;
	struct vq_guest *guest = set_up(&test);
	uint32_t used;

	(void)state;
	put_lun(request.lun, 0);
	memcpy(at(guest, HEADER), &request, sizeof(request));
	memset(at(guest, RESPONSE), 0xee, 5);
	vq_post(guest, CONTROL, (struct vq_buffer[]){
		{ HEADER, sizeof(request), false }, { RESPONSE, 5, true } }, 2);
	vq_notify(guest, CONTROL);
	vq_turn(guest);
	assert_true(take(guest, CONTROL, &used));
	assert_int_equal(used, 5);
	assert_memory_equal(at(guest, RESPONSE), ((uint8_t[]){ 0, 0, 0, 0, VIRTIO_SCSI_S_OK }), 5);
	unmake(&test);
}

static void post_events(struct vq_guest *guest, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		vq_post(guest, EVENT, &(struct vq_buffer){ EVENTS + 16 * i, 16, true }, 1);
	vq_notify(guest, EVENT);
	vq_turn(guest);
}

static void expect_event(struct vq_guest *guest, unsigned int index, uint32_t type, unsigned int lun,
			 uint32_t reason)
{
	struct virtio_scsi_event event;
	const uint8_t address[8] = { 1, 0, 0, (uint8_t)lun };
	uint32_t used;

	vq_turn(guest);
	assert_true(take(guest, EVENT, &used));
	assert_int_equal(used, sizeof(event));
	memcpy(&event, at(guest, EVENTS + 16 * index), sizeof(event));
	assert_int_equal(event.event, type);
	assert_int_equal(event.reason, reason);
	assert_memory_equal(event.lun, address, 8);
}

/* A new file, which has no name any more, of so many bytes. */
static int new_file(uint64_t bytes)
{
	char path[] = "/tmp/microvm-scsi-XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	return fd;
}

static int plug(struct vq_guest *guest, unsigned int unit, const char *text, int fd)
{
	struct virtio_conf *conf = configure(text);
	int r = scsi_unit_plug(guest->dev, unit, conf, fd);

	opt_free(scsi_class.opts, conf);
	free(conf);
	return r;
}

static unsigned int open_fds(void)
{
	unsigned int count = 0;

	for (int fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void test_plug(void **state)
{
	struct virtio_scsi_cmd_resp response;
	struct scsi_test test;
	struct vq_guest *guest = set_up(&test);
	const unsigned int fds = open_fds();
	int fd = new_file(MIB(1)), mine = dup(fd);
	char byte = 0;
	uint32_t used;

	(void)state;
	wake(guest, 0);
	wake(guest, 1);
	post_events(guest, 2);
	assert_false(take(guest, EVENT, &used));
	assert_int_equal(plug(guest, 200, "late,engine=sync,serial=s200", fd), 0);
	expect_event(guest, 0, VIRTIO_SCSI_T_TRANSPORT_RESET, 200, VIRTIO_SCSI_EVT_RESET_RESCAN);
	/* Others tell that the inventory is another one. */
	response = command(guest, 0, CDB(0), 0, 0, &used);
	assert_memory_equal(response.sense + 12, ((uint8_t[]){ 0x3f, 0x0e }), 2);
	response = command(guest, 0, CDB(0xa0, [9] = 64), 0, 64, &used);
	assert_int_equal(response.resid, 64 - 32);
	wake(guest, 200);
	memset(at(guest, DATA), 0x5a, 512);
	assert_int_equal(command(guest, 200, CDB(0x2a, [5] = 7, [8] = 1), 512, 0, &used).status, 0);
	assert_int_equal(pread(mine, &byte, 1, 7 * 512 + 511), 1);
	assert_int_equal(byte, 0x5a);
	command(guest, 200, CDB(0x12, 1, 0x80, 0, 64), 0, 64, &used);
	assert_memory_equal(at(guest, DATA) + 4, "s200", 4);
	close(mine);

	assert_int_equal(scsi_unit_unplug(guest->dev, 200), 0);
	expect_event(guest, 1, VIRTIO_SCSI_T_TRANSPORT_RESET, 200, VIRTIO_SCSI_EVT_RESET_REMOVED);
	response = command(guest, 200, CDB(0x28, [8] = 1), 0, 512, &used);
	assert_memory_equal(response.sense + 12, ((uint8_t[]){ 0x25, 0 }), 2);
	assert_int_equal(function(guest, VIRTIO_SCSI_T_TMF_LOGICAL_UNIT_RESET, 200, 0),
			 VIRTIO_SCSI_S_INCORRECT_LUN);
	assert_int_equal(scsi_unit_unplug(guest->dev, 200), -ENOENT);
	assert_int_equal(open_fds(), fds);
	unmake(&test);
}

/* The driver has no buffers: each unit's events wait, in the order in which they count. */
static void test_events_wait(void **state)
{
	struct scsi_test test;
	struct vq_guest *guest = set_up(&test);

	(void)state;
	assert_int_equal(scsi_unit_unplug(guest->dev, 0), 0);
	assert_int_equal(plug(guest, 0, "x,engine=sync", new_file(MIB(1))), 0);
	assert_int_equal(plug(guest, 3, "x,engine=sync", new_file(MIB(1))), 0);
	assert_int_equal(scsi_unit_resize(guest->dev, 3, MIB(2)), 0);
	/* Nobody has to hear of what came and went. */
	assert_int_equal(plug(guest, 4, "x,engine=sync", new_file(MIB(1))), 0);
	assert_int_equal(scsi_unit_unplug(guest->dev, 4), 0);
	post_events(guest, 5);
	expect_event(guest, 0, VIRTIO_SCSI_T_TRANSPORT_RESET, 0, VIRTIO_SCSI_EVT_RESET_REMOVED);
	expect_event(guest, 1, VIRTIO_SCSI_T_TRANSPORT_RESET, 0, VIRTIO_SCSI_EVT_RESET_RESCAN);
	expect_event(guest, 2, VIRTIO_SCSI_T_TRANSPORT_RESET, 3, VIRTIO_SCSI_EVT_RESET_RESCAN);
	expect_event(guest, 3, VIRTIO_SCSI_T_PARAM_CHANGE, 3, 0x092a);
	expect_event(guest, 4, VIRTIO_SCSI_T_TRANSPORT_RESET, 4, VIRTIO_SCSI_EVT_RESET_REMOVED);
	unmake(&test);
}

/* What cannot be plugged: nothing is left of it, and its file is closed. */
static void test_plug_refusals(void **state)
{
	struct scsi_test test;
	struct vq_guest *guest = set_up(&test);
	const unsigned int fds = open_fds();
	uint32_t used;

	(void)state;
	assert_int_equal(plug(guest, 256, "x", new_file(512)), -ENXIO);
	assert_int_equal(plug(guest, 1, "x", new_file(512)), -EEXIST);
	assert_int_equal(plug(guest, 2, "x", new_file(511)), -EINVAL);
	assert_int_equal(plug(guest, 2, "x,format=qcow2", new_file(512)), -EILSEQ);
	assert_int_equal(plug(guest, 2, "scratch=1M", new_file(512)), -EOPNOTSUPP);
	assert_int_equal(plug(guest, 2, "x,serial=longer-than-20-characters", new_file(512)), -E2BIG);
	assert_int_equal(plug(guest, 2, "x", open("/dev/null", O_RDWR | O_CLOEXEC)), -ENOTBLK);
	assert_int_equal(plug(guest, 2, "x", open("/proc/self/exe", O_RDONLY | O_CLOEXEC)), -EACCES);
	assert_int_equal(open_fds(), fds);
	post_events(guest, 1);
	assert_false(take(guest, EVENT, &used));
	assert_int_equal(command(guest, 2, CDB(0), 0, 0, &used).sense[12], 0x25);
	unmake(&test);
}

/* A controller alone, which a save of a unit does not fit. */
static void test_empty(void **state)
{
	static const char *const none[] = { "controller,queues=2" };
	struct scsi_test test;
	struct vq_guest *guest = &test.guest;
	uint32_t used;

	(void)state;
	assert_int_equal(make(&test, none, 1), 0);
	vq_start(guest, FEATURES);
	assert_int_equal(guest->dev->worker_count, 2);
	assert_int_equal(command(guest, 0, CDB(0xa0, [9] = 64), 0, 64, &used).resid, 64 - 8);
	command(guest, 0, CDB(0x12, [4] = 36), 0, 36, &used);
	assert_int_equal(at(guest, DATA)[0], 0x7f);
	assert_int_equal(plug(guest, 0, "x,engine=sync", new_file(MIB(1))), 0);
	wake(guest, 0);
	unmake(&test);
}

/* A unit goes while the limit, and the host's error, hold tasks of its: the driver gets them back. */
static void test_unplug_waiting(void **state)
{
	struct scsi_test test;
	struct vq_guest *guest = set_up(&test);
	int fd = new_file(MIB(1)), mine = dup(fd);
	uint32_t used;

	(void)state;
	assert_int_equal(plug(guest, 5, "x,engine=sync,iops=1,iops-burst=1", new_file(MIB(1))), 0);
	wake(guest, 5);
	post_command(guest, REQUEST, 5, 1, CDB(0), 0, 0);
	vq_turn(guest);
	assert_false(take(guest, REQUEST, &used));
	assert_int_equal(scsi_unit_unplug(guest->dev, 5), 0);
	vq_turn(guest);
	assert_true(take(guest, REQUEST, &used));

	assert_int_equal(plug(guest, 5, "x,engine=sync,rerror=stop", fd), 0);
	wake(guest, 5);
	assert_int_equal(ftruncate(mine, 0), 0);
	post_command(guest, REQUEST, 5, 1, CDB(0x28, [5] = 8, [8] = 1), 0, 512);
	vq_turn(guest);
	assert_int_equal(vq_counter(guest, "stops"), 1);
	assert_false(take(guest, REQUEST, &used));
	assert_int_equal(scsi_unit_unplug(guest->dev, 5), 0);
	vq_turn(guest);
	assert_true(take(guest, REQUEST, &used));
	assert_int_equal(at(guest, RESPONSE)[10], 2);
	virtio_dev_retry(guest->dev);
	close(mine);
	unmake(&test);
}

static void test_resize(void **state)
{
	char first[128];
	const char *const texts[] = { first };
	struct virtio_scsi_cmd_resp response;
	char path[] = "/tmp/microvm-scsi-XXXXXX";
	struct scsi_test test;
	struct vq_guest *guest = &test.guest;
	int fd = mkstemp(path);
	struct stat st;
	uint32_t used;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, MIB(1)), 0);
	snprintf(first, sizeof(first), "%s,engine=sync", path);
	assert_int_equal(make(&test, texts, 1), 0);
	snprintf(test.paths[0], sizeof(test.paths[0]), "%s", path);
	vq_start(guest, FEATURES);
	wake(guest, 0);
	post_events(guest, 1);
	assert_int_equal(scsi_unit_resize(guest->dev, 0, MIB(3)), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, MIB(3));
	expect_event(guest, 0, VIRTIO_SCSI_T_PARAM_CHANGE, 0, 0x092a);
	response = command(guest, 0, CDB(0x25), 0, 8, &used);
	assert_int_equal(response.sense[2], 6);
	assert_int_equal(response.sense[12], 0x2a);
	assert_int_equal(response.sense[13], 0x09);
	command(guest, 0, CDB(0x25), 0, 8, &used);
	assert_memory_equal(at(guest, DATA), ((uint8_t[]){ 0, 0, 0x17, 0xff, 0, 0, 2, 0 }), 8);
	assert_int_equal(scsi_unit_resize(guest->dev, 0, 1000), -EINVAL);
	assert_int_equal(scsi_unit_resize(guest->dev, 1, MIB(3)), -ENOENT);
	close(fd);
	unmake(&test);
}

/* A driver that did not agree to events gets none. */
static void test_no_events(void **state)
{
	struct scsi_test test;
	uint32_t used;

	(void)state;
	assert_int_equal(make(&test, pair, 2), 0);
	vq_start(&test.guest, 0);
	post_events(&test.guest, 1);
	assert_int_equal(scsi_unit_unplug(test.guest.dev, 1), 0);
	vq_turn(&test.guest);
	assert_false(take(&test.guest, EVENT, &used));
	unmake(&test);
}

static void test_sizes(void **state)
{
	struct virtio_scsi_config config;
	struct scsi_test test;
	struct vq_guest *guest = &test.guest;
	struct virtio_dev *dev;
	uint8_t header[19 + 16] = { 1, 0, 0x40, 0, [19] = 0x25 };
	uint32_t sense_size = 4, cdb_size = 16, large = 257, used;

	(void)state;
	assert_int_equal(make(&test, pair, 2), 0);
	dev = guest->dev;
	virtio_config_read(dev, 0, &config, sizeof(config));
	assert_int_equal(config.num_queues, 1);
	assert_int_equal(config.sense_size, 96);
	assert_int_equal(config.cdb_size, 32);
	assert_int_equal(config.event_info_size, 16);
	assert_int_equal(config.max_target, 0);
	assert_int_equal(config.max_lun, 255);
	virtio_config_write(dev, offsetof(struct virtio_scsi_config, sense_size), &sense_size, 4);
	virtio_config_write(dev, offsetof(struct virtio_scsi_config, cdb_size), &cdb_size, 4);
	/* The driver's word counts for these two only. */
	virtio_config_write(dev, offsetof(struct virtio_scsi_config, max_lun), &cdb_size, 4);
	virtio_config_read(dev, 0, &config, sizeof(config));
	assert_int_equal(config.sense_size, 4);
	assert_int_equal(config.cdb_size, 16);
	assert_int_equal(config.max_lun, 255);
	vq_start(guest, FEATURES);
	/* From now on a header is shorter, and so is a response. */
	memcpy(at(guest, HEADER), header, sizeof(header));
	vq_post(guest, REQUEST, (struct vq_buffer[]){
		{ HEADER, sizeof(header), false }, { RESPONSE, 16, true }, { DATA, 8, true } }, 3);
	vq_notify(guest, REQUEST);
	vq_turn(guest);
	assert_true(take(guest, REQUEST, &used));
	assert_int_equal(used, 16);
	/* The sense data is cut. */
	assert_memory_equal(at(guest, RESPONSE), ((uint8_t[]){ 4, 0, 0, 0, 8, 0, 0, 0, 0, 0, 2, 0,
							       0x70, 0, 6, 0 }), 16);
	virtio_set_status(dev, 0);
	virtio_config_read(dev, 0, &config, sizeof(config));
	assert_int_equal(config.sense_size, 96);
	virtio_config_write(dev, offsetof(struct virtio_scsi_config, sense_size), &large, 4);
	virtio_config_read(dev, 0, &config, sizeof(config));
	assert_int_equal(config.sense_size, 96);
	unmake(&test);
}

/* Requests that no driver may make. */
static void test_hostile(void **state)
{
	static const struct {
		unsigned int queue;
		uint32_t out, in;
	} chains[] = {
		{ REQUEST, 50, 108 }, { REQUEST, 51, 107 }, { REQUEST, 0, 200 }, { CONTROL, 3, 1 },
		{ CONTROL, 23, 1 },   { EVENT, 0, 15 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(chains); i++) {
		struct vq_buffer bufs[2];
		unsigned int count = 0;
		struct scsi_test test;
		struct vq_guest *guest = set_up(&test);

		if (chains[i].out)
			bufs[count++] = (struct vq_buffer){ HEADER, chains[i].out, false };
		bufs[count++] = (struct vq_buffer){ RESPONSE, chains[i].in, true };
		vq_post(guest, chains[i].queue, bufs, count);
		vq_notify(guest, chains[i].queue);
		vq_turn(guest);
		assert_true(virtio_failed(guest->dev));
		unmake(&test);
	}
}

static void test_save(void **state)
{
	struct scsi_test first, second;
	struct state saved = { 0 };
	struct state_reader reader;
	uint32_t used;

	(void)state;
	set_up(&first);
	wake(&first.guest, 1);
	/* A stopped unit, and one that went, of which the driver has not heard. */
	command(&first.guest, 1, CDB(0x1b), 0, 0, &used);
	assert_int_equal(scsi_unit_unplug(first.guest.dev, 0), 0);
	virtio_dev_pause(first.guest.dev);
	assert_int_equal(virtio_dev_save(first.guest.dev, &saved), 0);

	assert_int_equal(make(&second, pair, 2), 0);
	reader = (struct state_reader){ saved.data, saved.len };
	assert_int_equal(virtio_dev_load(second.guest.dev, &reader), 0);
	/* The driver and its memory come along. */
	second.guest.next = first.guest.next;
	memcpy(second.guest.queues, first.guest.queues, sizeof(first.guest.queues));
	memcpy(vq_ptr(&second.guest, VQ_RAM_BASE, VQ_RAM_SIZE),
	       vq_ptr(&first.guest, VQ_RAM_BASE, VQ_RAM_SIZE), VQ_RAM_SIZE);
	virtio_dev_resume(second.guest.dev);
	post_events(&second.guest, 1);
	expect_event(&second.guest, 0, VIRTIO_SCSI_T_TRANSPORT_RESET, 0,
		     VIRTIO_SCSI_EVT_RESET_REMOVED);
	assert_int_equal(command(&second.guest, 1, CDB(0), 0, 0, &used).sense[2], 6);
	assert_int_equal(command(&second.guest, 1, CDB(0), 0, 0, &used).sense[2], 2);
	state_free(&saved);
	unmake(&first);
	unmake(&second);
}

static void make_on_file(struct scsi_test *test, const char *options)
{
	char text[128], *const path = test->paths[0];
	const char *const texts[] = { text };
	int fd;

	snprintf(text, sizeof(text), "/tmp/microvm-scsi-XXXXXX");
	fd = mkstemp(text);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, MIB(1)), 0);
	close(fd);
	snprintf(text + strlen(text), sizeof(text) - strlen(text), ",%s", options);
	assert_int_equal(make(test, texts, 1), 0);
	snprintf(path, sizeof(test->paths[0]), "%.*s", (int)strcspn(text, ","), text);
	vq_start(&test->guest, FEATURES);
}

/* The used length of the next request of a queue to be over; the host may take its time. */
static uint32_t await(struct vq_guest *guest, unsigned int queue)
{
	const uint64_t end = util_now_ns() + VQ_WAIT_MS * NS_PER_MS;
	uint32_t used = 0;

	/* A turn may end with nothing: io_uring interrupts waits. */
	while (!take(guest, queue, &used)) {
		assert_true(util_now_ns() < end);
		assert_true(loop_turn(&guest->dev->queues[queue].worker->loop, VQ_WAIT_MS) >= 0);
	}
	return used;
}

/* A task that the host's error stopped: it is tried again, or ends with the error when the queue is stopped. */
static void test_stops(void **state)
{
	const size_t whole = sizeof(struct virtio_scsi_cmd_resp);
	struct scsi_test test;
	struct vq_guest *guest = &test.guest;
	uint32_t used;

	make_on_file(&test, *state);
	post_command(guest, REQUEST, 0, 1, CDB(0), 0, 0);
	await(guest, REQUEST);
	assert_int_equal(truncate(test.paths[0], 0), 0);
	post_command(guest, REQUEST, 0, 1, CDB(0x28, [5] = 8, [8] = 1), 0, 512);
	while (vq_counter(guest, "stops") == 0)
		assert_true(vq_wait(guest) > 0);
	assert_false(take(guest, REQUEST, &used));
	assert_int_equal(function(guest, VIRTIO_SCSI_T_TMF_QUERY_TASK, 0, 1),
			 VIRTIO_SCSI_S_FUNCTION_SUCCEEDED);
	assert_int_equal(truncate(test.paths[0], MIB(1)), 0);
	virtio_dev_retry(guest->dev);
	assert_int_equal(await(guest, REQUEST), whole + 512);
	assert_int_equal(at(guest, RESPONSE)[10], 0);

	assert_int_equal(truncate(test.paths[0], 0), 0);
	/* One that works in steps, and so is stopped in the middle. */
	post_command(guest, REQUEST, 0, 1, CDB(0x2f, 2, [8] = 8), 8 * 512, 0);
	while (vq_counter(guest, "stops") == 1)
		assert_true(vq_wait(guest) > 0);
	virtio_dev_pause(guest->dev);
	assert_true(take(guest, REQUEST, &used));
	assert_int_equal(at(guest, RESPONSE)[10], 2);
	assert_int_equal(at(guest, RESPONSE)[12 + 2], 3);
	virtio_dev_resume(guest->dev);
	assert_int_equal(truncate(test.paths[0], MIB(1)), 0);
	post_command(guest, REQUEST, 0, 1, CDB(0x28, [5] = 8, [8] = 1), 0, 512);
	assert_int_equal(await(guest, REQUEST), whole + 512);
	unmake(&test);
}

/* Two queues, whatever the engine: what one has written the other reads, and commands of many requests end. */
static void test_queues(void **state)
{
	struct scsi_test test;
	struct vq_guest *guest = &test.guest;
	struct virtio_scsi_config config;

	make_on_file(&test, *state);
	virtio_config_read(guest->dev, 0, &config, sizeof(config));
	assert_int_equal(config.num_queues, 2);
	assert_int_equal(guest->dev->queue_count, 4);
	post_command(guest, REQUEST + 1, 0, 1, CDB(0), 0, 0);
	await(guest, REQUEST + 1);
	memset(at(guest, DATA), 0x42, 512);
	post_command(guest, REQUEST + 1, 0, 2, CDB(0x41, [5] = 8, [7] = 3), 512, 0);
	await(guest, REQUEST + 1);
	assert_int_equal(at(guest, RESPONSE)[10], 0);
	memset(at(guest, DATA), 0, 1024);
	post_command(guest, REQUEST, 0, 3, CDB(0x28, [4] = 3, 7, [8] = 2), 0, 1024);
	assert_int_equal(await(guest, REQUEST), 108 + 1024);
	assert_int_equal(at(guest, DATA)[511], 0x42);
	assert_int_equal(at(guest, DATA)[512], 0);
	unmake(&test);
}

static void test_many(void **state)
{
	const char *texts[UNITS_MAX];
	struct scsi_test test;
	struct vq_guest *guest = &test.guest;
	uint32_t used;

	(void)state;
	for (unsigned int i = 0; i < UNITS_MAX; i++)
		texts[i] = "scratch=64K,engine=sync";
	assert_int_equal(make(&test, texts, UNITS_MAX), 0);
	vq_start(guest, FEATURES);
	command(guest, 0, CDB(0xa0, [8] = 0x10), 0, 4096, &used);
	assert_int_equal(used, 108 + 8 + 8 * UNITS_MAX);
	assert_int_equal(at(guest, DATA)[8 + 8 * 255 + 1], 255);
	wake(guest, 255);
	memset(at(guest, DATA), 0x42, 512);
	assert_int_equal(command(guest, 255, CDB(0x2a, [8] = 1), 512, 0, &used).status, 0);
	wake(guest, 254);
	command(guest, 254, CDB(0x28, [8] = 1), 0, 512, &used);
	assert_int_equal(*at(guest, DATA), 0);
	command(guest, 255, CDB(0x28, [8] = 1), 0, 512, &used);
	assert_int_equal(*at(guest, DATA), 0x42);
	unmake(&test);
}

/* The message has to be about the unit that cannot be opened. */
static void test_blame(void **state)
{
	static const char *const texts[] = { "scratch=1M,engine=sync", "/nonexistent/disk" };
	const struct virtio_conf *blamed = NULL;
	struct vq_guest guest = { 0 };
	struct virtio_dev *dev;
	void *confs[2];

	(void)state;
	for (unsigned int i = 0; i < 2; i++)
		confs[i] = configure(texts[i]);
	((struct virtio_conf *)confs[0])->next = confs[1];
	guest.host = (struct virtio_host){ .mem = &guest.mem, .vm_name = "", .blamed = &blamed };
	assert_int_equal(virtio_dev_new(&scsi_class, 0, confs[0], &guest.host, &dev), -ENOENT);
	assert_ptr_equal(blamed, confs[1]);
	for (unsigned int i = 0; i < 2; i++) {
		opt_free(scsi_class.opts, confs[i]);
		free(confs[i]);
	}
}

int main(void)
{
	char stop_sync[] = "werror=stop,rerror=stop,engine=sync", stop[] = "werror=stop,rerror=stop";
	char queues_sync[] = "queues=2,engine=sync", queues[] = "queues=2";
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_commands),
		cmocka_unit_test(test_response_in_pieces),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_task_management),
		cmocka_unit_test(test_waiting),
		cmocka_unit_test(test_notifications),
		cmocka_unit_test(test_plug),
		cmocka_unit_test(test_events_wait),
		cmocka_unit_test(test_plug_refusals),
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_unplug_waiting),
		cmocka_unit_test(test_resize),
		cmocka_unit_test(test_no_events),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_save),
		{ "stops, sync", test_stops, NULL, NULL, stop_sync },
		{ "stops, auto", test_stops, NULL, NULL, stop },
		{ "two queues, sync", test_queues, NULL, NULL, queues_sync },
		{ "two queues, auto", test_queues, NULL, NULL, queues },
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_blame),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
