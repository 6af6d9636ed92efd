// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <linux/virtio_blk.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include "core/state.h"
#include "tests/lib/child.h"
#include "tests/unit/driver.h"

extern const struct virtio_class blk_class;

#define DISK (64 << 10)
/* Guest addresses, well behind the rings. */
#define HEADER (VQ_RAM_BASE + MIB(4))
#define STATUS (HEADER + 2048)
#define DATA (HEADER + 4096)
#define FEATURES (1ULL << VIRTIO_BLK_F_FLUSH | 1ULL << VIRTIO_BLK_F_RO | 1ULL << VIRTIO_BLK_F_DISCARD | \
		  1ULL << VIRTIO_BLK_F_WRITE_ZEROES | 1ULL << VIRTIO_BLK_F_CONFIG_WCE)

struct blk_test {
	struct vq_guest guest;
	char path[64];
	uint8_t disk[DISK];
};

/* Options after the path, as a user gives them. */
static int make(struct blk_test *test, const char *options)
{
	char text[128];
	int fd;

	*test = (struct blk_test){ .path = "/tmp/microvm-blk-XXXXXX" };
	fd = mkstemp(test->path);
	assert_true(fd >= 0);
	for (size_t i = 0; i < DISK; i++)
		test->disk[i] = (uint8_t)rand();
	assert_int_equal(write(fd, test->disk, DISK), DISK);
	close(fd);
	snprintf(text, sizeof(text), "%s%s", test->path, options);
	return vq_guest_make(&test->guest, &blk_class, text);
}

static void unmake(struct blk_test *test)
{
	vq_guest_free(&test->guest);
	unlink(test->path);
}

static uint8_t *byte(struct vq_guest *guest, uint64_t gpa)
{
	return vq_ptr(guest, gpa, 1);
}

static uint8_t *data(struct vq_guest *guest)
{
	return byte(guest, DATA);
}

static void start(struct vq_guest *guest)
{
	vq_start(guest, FEATURES & guest->dev->offered);
}

static void kick(struct vq_guest *guest)
{
	vq_notify(guest, 0);
	vq_turn(guest);
}

/* Lets something happen. A ring that ends in the background interrupts waits, any number of them. */
static bool wait_turn(struct vq_guest *guest)
{
	const uint64_t end = util_now_ns() + VQ_WAIT_MS * NS_PER_MS;
	int ran;

	do
		ran = vq_wait(guest);
	while (ran == 0 && util_now_ns() < end);
	return ran > 0;
}

/* Waits for an answer as long as the host may take for one. */
static bool used_entry(struct vq_guest *guest, uint32_t *ret_len)
{
	uint16_t head;

	if (guest->dev->workers[0].running)
		return vq_await(guest, 0, &head, ret_len);
	while (!vq_take(guest, 0, &head, ret_len))
		if (!wait_turn(guest))
			return false;
	return true;
}

/* After a kick for which there is no answer at all. */
static bool no_answer(struct vq_guest *guest)
{
	uint16_t head;

	return !vq_take(guest, 0, &head, NULL);
}

/* One test body for each engine: *state is its option. */
static bool setup(struct blk_test *test, void **state)
{
	int r = make(test, *state);

	if (r == -ENOSYS || r == -EPERM) {
		print_message("skipped: io_uring: %s\n", strerror(-r));
		unmake(test);
		return false;
	}
	assert_int_equal(r, 0);
	start(&test->guest);
	assert_false(vq_failed(&test->guest));
	return true;
}

static void set_header(struct vq_guest *guest, uint32_t type, uint64_t sector)
{
	struct virtio_blk_outhdr header = { .type = type, .sector = sector };

	memcpy(byte(guest, HEADER), &header, sizeof(header));
	*byte(guest, STATUS) = 0xff;
}

/* A request with a data buffer (none for no length); returns its status, 0xff for no answer. */
static uint8_t request(struct vq_guest *guest, uint32_t type, uint64_t sector, uint32_t data_len,
		       bool write, uint32_t *ret_used)
{
	struct vq_buffer bufs[3] = { { HEADER, 16, false } };
	uint32_t len;
	unsigned int count = 1;

	set_header(guest, type, sector);
	if (data_len)
		bufs[count++] = (struct vq_buffer){ DATA, data_len, write };
	bufs[count++] = (struct vq_buffer){ STATUS, 1, true };
	vq_post(guest, 0, bufs, count);
	kick(guest);
	if (!used_entry(guest, &len))
		return 0xff;
	*ret_used = len;
	return *byte(guest, STATUS);
}

/* DISCARD, WRITE_ZEROES or SECURE_ERASE of one range. */
static uint8_t range(struct vq_guest *guest, uint32_t type, uint64_t sector, uint32_t sectors,
		     uint32_t flags)
{
	const struct virtio_blk_discard_write_zeroes one = {
		.sector = sector, .num_sectors = sectors, .flags = flags,
	};
	uint32_t used;
	uint8_t status;

	memcpy(data(guest), &one, sizeof(one));
	status = request(guest, type, 0, sizeof(one), false, &used);
	assert_int_equal(used, 1);
	return status;
}

static void test_read_write(void **state)
{
	struct blk_test test;
	struct vq_guest *guest = &test.guest;
	uint8_t disk[1024];
	uint32_t used;
	FILE *file;

	if (!setup(&test, state))
		skip();
	assert_int_equal(request(guest, VIRTIO_BLK_T_IN, 3, 4096, true, &used), VIRTIO_BLK_S_OK);
	assert_int_equal(used, 4097);
	assert_memory_equal(data(guest), test.disk + 3 * 512, 4096);

	memset(data(guest), 0xa5, 1024);
	assert_int_equal(request(guest, VIRTIO_BLK_T_OUT, 8, 1024, false, &used), VIRTIO_BLK_S_OK);
	assert_int_equal(used, 1);
	assert_int_equal(request(guest, VIRTIO_BLK_T_FLUSH, 0, 0, false, &used), VIRTIO_BLK_S_OK);
	file = fopen(test.path, "r");
	assert_int_equal(fseek(file, 8 * 512, SEEK_SET), 0);
	assert_int_equal(fread(disk, 1, sizeof(disk), file), sizeof(disk));
	fclose(file);
	assert_memory_equal(disk, data(guest), sizeof(disk));

	assert_int_equal(vq_counter(guest, "reads"), 1);
	assert_int_equal(vq_counter(guest, "read_bytes"), 4096);
	assert_int_equal(vq_counter(guest, "writes"), 1);
	assert_int_equal(vq_counter(guest, "written_bytes"), 1024);
	assert_int_equal(vq_counter(guest, "flushes"), 1);
	assert_int_equal(vq_counter(guest, "errors"), 0);
	assert_true(guest->queue_interrupts[0] >= 3);
	unmake(&test);
}

/* Header and data cut anywhere, the status in one buffer with the data: section 2.7.4. */
static void test_odd_framing(void **state)
{
	struct blk_test test;
	struct vq_guest *guest = &test.guest;
	uint32_t len;

	if (!setup(&test, state))
		skip();
	set_header(guest, VIRTIO_BLK_T_IN, 1);
	vq_post(guest, 0, (struct vq_buffer[]){ { HEADER, 3, false }, { HEADER + 3, 13, false },
					  { DATA, 100, true }, { DATA + 100, 413, true } }, 4);
	kick(guest);
	assert_true(used_entry(guest, &len));
	assert_int_equal(len, 513);
	assert_int_equal(*byte(guest, DATA + 512), VIRTIO_BLK_S_OK);
	assert_memory_equal(data(guest), test.disk + 512, 512);

	set_header(guest, VIRTIO_BLK_T_OUT, 1);
	memcpy(byte(guest, HEADER) + 16, test.disk, 512);
	vq_post(guest, 0, (struct vq_buffer[]){ { HEADER, 528, false }, { DATA, 1, true } }, 2);
	kick(guest);
	assert_true(used_entry(guest, &len));
	assert_int_equal(*byte(guest, DATA), VIRTIO_BLK_S_OK);
	unmake(&test);
}

static void test_out_of_range(void **state)
{
	static const struct { uint64_t sector; uint32_t len; } table[] = {
		{ DISK / 512, 512 },
		{ DISK / 512 - 1, 1024 },
		{ UINT64_MAX, 512 },
		{ UINT64_MAX / 512, 512 },
		{ UINT64_MAX - 7, 4096 },
		{ 1ULL << 55, 512 },
		{ 0, DISK + 512 },
		{ 0, 511 },
		{ 0, 513 },
	};
	struct blk_test test;
	struct vq_guest *guest = &test.guest;
	uint32_t used;

	if (!setup(&test, state))
		skip();
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		assert_int_equal(request(guest, VIRTIO_BLK_T_IN, table[i].sector, table[i].len, true,
					 &used), VIRTIO_BLK_S_IOERR);
		assert_int_equal(request(guest, VIRTIO_BLK_T_OUT, table[i].sector, table[i].len,
					 false, &used), VIRTIO_BLK_S_IOERR);
	}
	assert_int_equal(vq_counter(guest, "errors"), 2 * ARRAY_SIZE(table));
	assert_int_equal(request(guest, VIRTIO_BLK_T_IN, DISK / 512 - 1, 512, true, &used),
			 VIRTIO_BLK_S_OK);
	assert_false(vq_failed(guest));
	unmake(&test);
}

static void test_bad_requests(void **state)
{
	struct blk_test test;
	struct vq_guest *guest = &test.guest;
	uint32_t used;

	if (!setup(&test, state))
		skip();
	/* Unknown types, and data in the wrong direction or missing. */
	assert_int_equal(request(guest, 0xdead, 0, 512, true, &used), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(request(guest, VIRTIO_BLK_T_IN, 0, 512, false, &used), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(guest, VIRTIO_BLK_T_IN, 0, 0, false, &used), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(guest, VIRTIO_BLK_T_OUT, 0, 512, true, &used), VIRTIO_BLK_S_IOERR);
	assert_false(vq_failed(guest));

	/* No room for a status. */
	vq_post(guest, 0, (struct vq_buffer[]){ { HEADER, 16, false } }, 1);
	kick(guest);
	assert_true(vq_failed(guest));
	assert_true(no_answer(guest));
	vq_post(guest, 0, (struct vq_buffer[]){ { HEADER, 16, false }, { STATUS, 1, true } }, 2);
	kick(guest);
	assert_true(no_answer(guest));

	/* A short header, after the reset that the device asked for. */
	virtio_set_status(guest->dev, 0);
	start(guest);
	vq_post(guest, 0, (struct vq_buffer[]){ { HEADER, 15, false }, { STATUS, 1, true } }, 2);
	kick(guest);
	assert_true(vq_failed(guest));

	virtio_set_status(guest->dev, 0);
	start(guest);
	assert_int_equal(request(guest, VIRTIO_BLK_T_IN, 0, 512, true, &used), VIRTIO_BLK_S_OK);
	assert_true(no_answer(guest));
	unmake(&test);
}

/* What was in flight is over, one way or the other, when reset returns. */
static void test_reset_in_flight(void **state)
{
	_cleanup_free_ uint8_t *before = malloc(VQ_RAM_SIZE);
	struct blk_test test;
	struct vq_guest *guest = &test.guest;
	uint32_t used;

	if (!setup(&test, state))
		skip();
	set_header(guest, VIRTIO_BLK_T_IN, 0);
	for (uint32_t i = 0; i < VQ_SIZE / 3; i++)
		vq_post(guest, 0, (struct vq_buffer[]){ { HEADER, 16, false },
						  { DATA + i * 8192, 8192, true },
						  { STATUS, 1, true } }, 3);
	kick(guest);
	virtio_set_status(guest->dev, 0);
	assert_int_equal(virtio_status(guest->dev), 0);
	memcpy(before, byte(guest, VQ_RAM_BASE), VQ_RAM_SIZE);
	for (int i = 0; i < 5; i++)
		loop_turn(&guest->dev->workers[0].loop, 1);
	assert_memory_equal(byte(guest, VQ_RAM_BASE), before, VQ_RAM_SIZE);

	start(guest);
	assert_int_equal(request(guest, VIRTIO_BLK_T_IN, 2, 512, true, &used), VIRTIO_BLK_S_OK);
	assert_memory_equal(data(guest), test.disk + 1024, 512);
	unmake(&test);
}

/* The host's disk fails under the guest: an error in the reply, and the device goes on. */
static void test_host_error(void **state)
{
	struct blk_test test;
	uint32_t used;

	if (!setup(&test, state))
		skip();
	assert_int_equal(truncate(test.path, 0), 0);
	assert_int_equal(request(&test.guest, VIRTIO_BLK_T_IN, 0, 512, true, &used),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(vq_counter(&test.guest, "errors"), 1);
	assert_false(vq_failed(&test.guest));
	unmake(&test);
}

static void test_read_only(void **state)
{
	struct blk_test test;
	struct vq_guest *guest = &test.guest;
	uint32_t used;

	(void)state;
	assert_int_equal(make(&test, ",ro"), 0);
	assert_true(guest->dev->offered >> VIRTIO_BLK_F_RO & 1);
	start(guest);
	assert_int_equal(request(guest, VIRTIO_BLK_T_OUT, 0, 512, false, &used), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(guest, VIRTIO_BLK_T_IN, 0, 512, true, &used), VIRTIO_BLK_S_OK);
	assert_memory_equal(data(guest), test.disk, 512);
	unmake(&test);

	assert_int_equal(make(&test, ""), 0);
	assert_false(test.guest.dev->offered >> VIRTIO_BLK_F_RO & 1);
	unmake(&test);
}

static void test_ranges(void **state)
{
	static const uint8_t zeroes[8192];
	struct blk_test test;
	struct vq_guest *guest = &test.guest;
	struct stat before, after;
	uint32_t used;

	if (!setup(&test, state))
		skip();
	assert_int_equal(request(guest, VIRTIO_BLK_T_FLUSH, 0, 0, false, &used), VIRTIO_BLK_S_OK);
	assert_int_equal(stat(test.path, &before), 0);
	assert_int_equal(range(guest, VIRTIO_BLK_T_DISCARD, 64, 64, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(stat(test.path, &after), 0);
	assert_int_equal(after.st_size, DISK);
	assert_int_equal(before.st_blocks - after.st_blocks, 64);
	assert_int_equal(vq_counter(guest, "discards"), 1);

	for (uint32_t unmap = 0; unmap < 2; unmap++) {
		uint64_t sector = 8 + 16 * unmap;

		assert_int_equal(range(guest, VIRTIO_BLK_T_WRITE_ZEROES, sector, 16, unmap),
				 VIRTIO_BLK_S_OK);
		assert_int_equal(request(guest, VIRTIO_BLK_T_IN, sector, 8192, true, &used),
				 VIRTIO_BLK_S_OK);
		assert_memory_equal(data(guest), zeroes, 8192);
	}
	assert_int_equal(vq_counter(guest, "write_zeroes"), 2);
	assert_int_equal(request(guest, VIRTIO_BLK_T_IN, 0, 4096, true, &used), VIRTIO_BLK_S_OK);
	assert_memory_equal(data(guest), test.disk, 4096);
	assert_int_equal(request(guest, VIRTIO_BLK_T_IN, 40, 4096, true, &used), VIRTIO_BLK_S_OK);
	assert_memory_equal(data(guest), test.disk + 40 * 512, 4096);
	unmake(&test);
}

static void test_bad_ranges(void **state)
{
	static const struct { uint64_t sector; uint32_t sectors; } table[] = {
		{ 0, 0 },
		{ 0, DISK / 512 + 1 },
		{ DISK / 512, 1 },
		{ UINT64_MAX, 1 },
		{ UINT64_MAX, 2 },
		{ UINT64_MAX / 512, 8 },
		{ 0, UINT32_MAX },
	};
	struct blk_test test;
	struct vq_guest *guest = &test.guest;
	uint32_t used;

	if (!setup(&test, state))
		skip();
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		assert_int_equal(range(guest, VIRTIO_BLK_T_DISCARD, table[i].sector,
				       table[i].sectors, 0), VIRTIO_BLK_S_IOERR);
		assert_int_equal(range(guest, VIRTIO_BLK_T_WRITE_ZEROES, table[i].sector,
				       table[i].sectors, 0), VIRTIO_BLK_S_IOERR);
	}
	/* Flags that are not defined; one that is, for zeroes only (5.2.6.2). */
	assert_int_equal(range(guest, VIRTIO_BLK_T_DISCARD, 0, 1, 1), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(range(guest, VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 2), VIRTIO_BLK_S_UNSUPP);
	/* A file cannot erase securely, and the device did not offer to. */
	assert_false(guest->dev->offered >> VIRTIO_BLK_F_SECURE_ERASE & 1);
	assert_int_equal(range(guest, VIRTIO_BLK_T_SECURE_ERASE, 0, 1, 0), VIRTIO_BLK_S_UNSUPP);
	/* No range, half of one, more than one. */
	assert_int_equal(request(guest, VIRTIO_BLK_T_DISCARD, 0, 0, false, &used), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(guest, VIRTIO_BLK_T_DISCARD, 0, 8, false, &used), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(guest, VIRTIO_BLK_T_DISCARD, 0, 32, false, &used), VIRTIO_BLK_S_IOERR);
	/* Not agreed. */
	vq_reset(guest);
	vq_start(guest, 0);
	assert_int_equal(range(guest, VIRTIO_BLK_T_DISCARD, 0, 1, 0), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(request(guest, VIRTIO_BLK_T_IN, 0, 4096, true, &used), VIRTIO_BLK_S_OK);
	assert_memory_equal(data(guest), test.disk, 4096);
	assert_false(vq_failed(guest));
	unmake(&test);
}

static void test_ranges_of_read_only(void **state)
{
	const uint64_t changes = 1ULL << VIRTIO_BLK_F_DISCARD | 1ULL << VIRTIO_BLK_F_WRITE_ZEROES;
	struct blk_test test;

	(void)state;
	assert_int_equal(make(&test, ",ro"), 0);
	assert_int_equal(test.guest.dev->offered & changes, 0);
	unmake(&test);
}

static struct virtio_blk_config config_of(struct vq_guest *guest)
{
	struct virtio_blk_config config;

	virtio_config_read(guest->dev, 0, &config, sizeof(config));
	return config;
}

static void test_topology(void **state)
{
	static const struct { const char *options; uint32_t block; } table[] = {
		{ "", 512 }, { ",block-size=512", 512 }, { ",block-size=4096", 4096 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct virtio_blk_config config;
		struct blk_test test;
		uint64_t physical;

		assert_int_equal(make(&test, table[i].options), 0);
		config = config_of(&test.guest);
		physical = (uint64_t)config.blk_size << config.physical_block_exp;
		assert_int_equal(config.blk_size, table[i].block);
		assert_int_equal(config.capacity, DISK / 512);
		assert_int_equal((uint64_t)config.min_io_size * config.blk_size, physical);
		assert_int_equal(config.discard_sector_alignment, physical / 512);
		assert_true(config.max_discard_sectors > 0 && config.max_write_zeroes_sectors > 0);
		assert_int_equal(config.max_discard_seg, 1);
		unmake(&test);
	}
}

/* The driver chooses, everything else in the configuration stays, and a reset forgets the choice. */
static void test_cache(void **state)
{
	static const struct { const char *options; uint8_t wce; } table[] = {
		{ "", 1 }, { ",cache=writeback", 1 }, { ",cache=writethrough", 0 },
		{ ",cache=unsafe", 1 },
	};
	const uint8_t off = 0, on = 1;
	const uint32_t wce = offsetof(struct virtio_blk_config, wce);
	uint8_t ones[64];

	(void)state;
	memset(ones, 0xff, sizeof(ones));
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct virtio_blk_config before;
		struct blk_test test;
		struct vq_guest *guest = &test.guest;
		uint32_t used;

		assert_int_equal(make(&test, table[i].options), 0);
		start(guest);
		before = config_of(guest);
		assert_int_equal(before.wce, table[i].wce);
		virtio_config_write(guest->dev, wce, &off, 1);
		assert_int_equal(config_of(guest).wce, 0);
		if (!child_emulator()) { /* pwritev2() with flags */
			assert_int_equal(request(guest, VIRTIO_BLK_T_OUT, 0, 512, false, &used),
					 VIRTIO_BLK_S_OK);
			assert_int_equal(range(guest, VIRTIO_BLK_T_WRITE_ZEROES, 8, 8, 0),
					 VIRTIO_BLK_S_OK);
		}
		virtio_config_write(guest->dev, wce, &on, 1);
		assert_int_equal(config_of(guest).wce, 1);
		assert_int_equal(request(guest, VIRTIO_BLK_T_FLUSH, 0, 0, false, &used),
				 VIRTIO_BLK_S_OK);
		virtio_config_write(guest->dev, 0, ones, sizeof(ones));
		assert_int_equal(config_of(guest).wce, 1);
		before.wce = 1;
		assert_memory_equal(&(struct virtio_blk_config[]){ config_of(guest) }, &before,
				    sizeof(before));
		virtio_config_write(guest->dev, wce, &off, 1);
		vq_reset(guest);
		assert_int_equal(config_of(guest).wce, table[i].wce);
		unmake(&test);
	}
}

/* What is more than the limit allows stays in the ring, and comes when its time has. */
static void test_limit(void **state)
{
	struct blk_test test;
	struct vq_guest *guest = &test.guest;
	unsigned int served = 0;
	uint16_t head;

	if (!setup(&test, state))
		skip();
	set_header(guest, VIRTIO_BLK_T_IN, 0);
	for (int i = 0; i < 5; i++)
		vq_post(guest, 0, (struct vq_buffer[]){ { HEADER, 16, false }, { DATA, 512, true },
							{ STATUS, 1, true } }, 3);
	kick(guest);
	while (vq_counter(guest, "throttled") == 0)
		assert_true(wait_turn(guest));
	while (served < 5) {
		if (vq_take(guest, 0, &head, NULL))
			served++;
		else
			assert_true(wait_turn(guest));
	}
	assert_int_equal(vq_counter(guest, "reads"), 5);
	assert_true(no_answer(guest));
	unmake(&test);
}

/* A read that fails waits, and so do those behind it, until somebody says that the host is mended. */
static void test_read_stops(void **state)
{
	struct blk_test test;
	struct vq_guest *guest = &test.guest;
	uint32_t len;

	if (!setup(&test, state))
		skip();
	assert_int_equal(truncate(test.path, 0), 0);
	set_header(guest, VIRTIO_BLK_T_IN, 8);
	for (int i = 0; i < 2; i++)
		vq_post(guest, 0, (struct vq_buffer[]){ { HEADER, 16, false }, { DATA, 512, true },
							{ STATUS, 1, true } }, 3);
	kick(guest);
	while (vq_counter(guest, "stops") == 0)
		assert_true(wait_turn(guest));
	kick(guest);
	virtio_dev_retry(guest->dev);
	while (vq_counter(guest, "stops") == 1)
		assert_true(wait_turn(guest));
	assert_true(no_answer(guest));

	assert_int_equal(truncate(test.path, DISK), 0);
	virtio_dev_retry(guest->dev);
	for (int i = 0; i < 2; i++) {
		assert_true(used_entry(guest, &len));
		assert_int_equal(len, 513);
		assert_int_equal(*byte(guest, STATUS), VIRTIO_BLK_S_OK);
	}
	assert_int_equal(vq_counter(guest, "errors"), 0);
	assert_true(no_answer(guest));
	virtio_dev_retry(guest->dev);
	unmake(&test);
}

/* The same for a write that finds no room; nothing of it is lost. */
static void test_write_stops(void **state)
{
	struct rlimit old, low;
	struct blk_test test;
	struct vq_guest *guest = &test.guest;
	uint32_t used;

	if (!setup(&test, state))
		skip();
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	low = (struct rlimit){ DISK / 2, old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
	memset(data(guest), 0xa5, 512);
	set_header(guest, VIRTIO_BLK_T_OUT, 100);
	vq_post(guest, 0, (struct vq_buffer[]){ { HEADER, 16, false }, { DATA, 512, false },
						{ STATUS, 1, true } }, 3);
	kick(guest);
	while (vq_counter(guest, "stops") == 0)
		assert_true(wait_turn(guest));
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_true(no_answer(guest));
	virtio_dev_retry(guest->dev);
	assert_true(used_entry(guest, &used));
	assert_int_equal(*byte(guest, STATUS), VIRTIO_BLK_S_OK);
	memset(data(guest), 0, 512);
	assert_int_equal(request(guest, VIRTIO_BLK_T_IN, 100, 512, true, &used), VIRTIO_BLK_S_OK);
	assert_int_equal(*data(guest), 0xa5);
	unmake(&test);
}

/* A reset and a pause do not wait for a person. */
static void test_stopped_and_paused(void **state)
{
	struct blk_test test;
	struct vq_guest *guest = &test.guest;
	uint32_t used;

	if (!setup(&test, state))
		skip();
	assert_int_equal(truncate(test.path, 0), 0);
	for (int reset = 0; reset < 2; reset++) {
		set_header(guest, VIRTIO_BLK_T_IN, 8);
		vq_post(guest, 0, (struct vq_buffer[]){ { HEADER, 16, false }, { DATA, 512, true },
							{ STATUS, 1, true } }, 3);
		kick(guest);
		while (vq_counter(guest, "stops") == (uint64_t)reset)
			assert_true(wait_turn(guest));
		if (reset) {
			vq_reset(guest);
			continue;
		}
		virtio_dev_pause(guest->dev);
		assert_true(used_entry(guest, &used));
		assert_int_equal(*byte(guest, STATUS), VIRTIO_BLK_S_IOERR);
		virtio_dev_resume(guest->dev);
	}
	assert_int_equal(truncate(test.path, DISK), 0);
	start(guest);
	assert_int_equal(request(guest, VIRTIO_BLK_T_IN, 8, 512, true, &used), VIRTIO_BLK_S_OK);
	unmake(&test);
}

static void test_resize(void **state)
{
	struct blk_test test;
	struct vq_guest *guest = &test.guest;
	uint32_t used;

	if (!setup(&test, state))
		skip();
	assert_int_equal(request(guest, VIRTIO_BLK_T_IN, DISK / 512, 512, true, &used),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(virtio_dev_resize_disk(guest->dev, DISK / 2), -EINVAL);
	assert_int_equal(virtio_dev_resize_disk(guest->dev, DISK + 1), -EINVAL);
	assert_int_equal(guest->config_interrupts, 0);
	assert_int_equal(virtio_dev_resize_disk(guest->dev, 2 * DISK), 0);
	assert_int_equal(guest->config_interrupts, 1);
	assert_int_equal(config_of(guest).capacity, 2 * DISK / 512);
	assert_int_equal(request(guest, VIRTIO_BLK_T_OUT, 2 * DISK / 512 - 1, 512, false, &used),
			 VIRTIO_BLK_S_OK);
	/* Somebody else made the file longer. */
	assert_int_equal(truncate(test.path, 3 * DISK), 0);
	assert_int_equal(virtio_dev_resize_disk(guest->dev, 0), 0);
	assert_int_equal(config_of(guest).capacity, 3 * DISK / 512);
	assert_int_equal(request(guest, VIRTIO_BLK_T_IN, 3 * DISK / 512 - 1, 512, true, &used),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(request(guest, VIRTIO_BLK_T_IN, 3 * DISK / 512, 512, true, &used),
			 VIRTIO_BLK_S_IOERR);
	unmake(&test);
}

/* The disk has become longer since the save: that is what the driver finds. */
static void test_size_is_no_saves(void **state)
{
	struct blk_test test;
	struct vq_guest *guest = &test.guest;
	struct state saved = { 0 };
	struct state_reader reader;

	if (!setup(&test, state))
		skip();
	virtio_dev_pause(guest->dev);
	assert_int_equal(virtio_dev_save(guest->dev, &saved), 0);
	virtio_dev_free(guest->dev);
	guest->dev = NULL;
	assert_int_equal(truncate(test.path, 2 * DISK), 0);
	assert_int_equal(vq_plug(guest, guest->conf), 0);
	reader = (struct state_reader){ saved.data, saved.len };
	assert_int_equal(virtio_dev_load(guest->dev, &reader), 0);
	assert_int_equal(config_of(guest).capacity, 2 * DISK / 512);
	assert_int_equal(guest->config_interrupts, 1);
	state_free(&saved);
	unmake(&test);
}

static void test_config_and_id(void **state)
{
	struct virtio_blk_config config;
	struct blk_test test;
	struct vq_guest *guest = &test.guest;
	uint32_t used;

	(void)state;
	assert_int_equal(make(&test, ",serial=abc"), 0);
	start(guest);
	virtio_config_read(guest->dev, 0, &config, sizeof(config));
	assert_int_equal(config.capacity, DISK / 512);
	assert_int_equal(config.blk_size, 512);
	assert_true(config.seg_max >= 126);
	memset(data(guest), 0xff, 32);
	assert_int_equal(request(guest, VIRTIO_BLK_T_GET_ID, 0, VIRTIO_BLK_ID_BYTES, true, &used),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(used, VIRTIO_BLK_ID_BYTES + 1);
	assert_memory_equal(data(guest), "abc\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xff", 21);
	/* Less room than the identifier takes. */
	assert_int_equal(request(guest, VIRTIO_BLK_T_GET_ID, 0, 2, true, &used), VIRTIO_BLK_S_OK);
	assert_int_equal(used, 3);
	unmake(&test);

	assert_int_equal(make(&test, ",serial=123456789012345678901"), -E2BIG);
	unmake(&test);
}

/* On its own thread, behind its filter, in a process that ends if the filter trips. */
static int confined(void *arg)
{
	static const struct { uint32_t type, data; } table[] = {
		{ VIRTIO_BLK_T_IN, 512 }, { VIRTIO_BLK_T_OUT, 512 }, { VIRTIO_BLK_T_FLUSH, 512 },
		{ VIRTIO_BLK_T_DISCARD, 16 }, { VIRTIO_BLK_T_WRITE_ZEROES, 16 },
	};
	const struct virtio_blk_discard_write_zeroes one = { .num_sectors = 8 };
	struct blk_test test;
	struct vq_guest *guest = &test.guest;
	uint32_t len;

	child_needs_filters();
	CHILD_CHECK(make(&test, arg) == 0);
	CHILD_CHECK(vq_run(guest, true) == 0);
	start(guest);
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		set_header(guest, table[i].type, 0);
		memcpy(data(guest), &one, sizeof(one));
		vq_post(guest, 0, (struct vq_buffer[]){ { HEADER, 16, false },
							{ DATA, table[i].data, i == 0 },
							{ STATUS, 1, true } }, 3);
		vq_notify(guest, 0);
		CHILD_CHECK(used_entry(guest, &len));
		CHILD_CHECK(*byte(guest, STATUS) == VIRTIO_BLK_S_OK);
	}
	CHILD_CHECK(virtio_dev_resize_disk(guest->dev, 2 * DISK) == 0);
	virtio_set_status(guest->dev, 0);
	unmake(&test);
	return 0;
}

static void test_confined(void **state)
{
	child_succeeds(geteuid(), confined, *state);
}

/* A disk in memory: zeroes at first, and what was written is read. */
static void test_scratch(void **state)
{
	static const uint8_t zeroes[4096];
	struct blk_test test = { .path = "/nonexistent" };
	struct vq_guest *guest = &test.guest;
	struct virtio_blk_config config;
	uint32_t used;

	(void)state;
	assert_int_equal(vq_guest_make(guest, &blk_class, "scratch=1M"), 0);
	start(guest);
	virtio_config_read(guest->dev, 0, &config, sizeof(config));
	assert_int_equal(config.capacity, MIB(1) / 512);
	memset(data(guest), 0xff, 4096);
	assert_int_equal(request(guest, VIRTIO_BLK_T_IN, 2040, 4096, true, &used), VIRTIO_BLK_S_OK);
	assert_memory_equal(data(guest), zeroes, 4096);
	memset(data(guest), 0xa5, 512);
	assert_int_equal(request(guest, VIRTIO_BLK_T_OUT, 2047, 512, false, &used), VIRTIO_BLK_S_OK);
	assert_int_equal(request(guest, VIRTIO_BLK_T_FLUSH, 0, 0, false, &used), VIRTIO_BLK_S_OK);
	memset(data(guest), 0, 512);
	assert_int_equal(request(guest, VIRTIO_BLK_T_IN, 2047, 512, true, &used), VIRTIO_BLK_S_OK);
	assert_int_equal(*data(guest), 0xa5);
	assert_int_equal(request(guest, VIRTIO_BLK_T_OUT, 2048, 512, false, &used),
			 VIRTIO_BLK_S_IOERR);
	unmake(&test);
}

static void test_scratch_options(void **state)
{
	static const struct { const char *options; int result; } table[] = {
		{ "scratch=512", 0 },
		{ "scratch=513", -EINVAL },
		{ "scratch=1M,direct", -EOPNOTSUPP },
		{ "scratch=1M,ro", 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct vq_guest guest;

		assert_int_equal(vq_guest_make(&guest, &blk_class, table[i].options),
				 table[i].result);
		vq_guest_free(&guest);
	}
}

/* A chain is never longer than the ring, header and status included. */
static void test_segments(void **state)
{
	static const struct { const char *options; uint32_t seg_max; } table[] = {
		{ "scratch=1M", 254 },
		{ "scratch=1M,queue-size=2", 1 },
		{ "scratch=1M,queue-size=64", 62 },
		{ "scratch=1M,queue-size=32768", 1000 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct virtio_blk_config config;
		struct vq_guest guest;

		assert_int_equal(vq_guest_make(&guest, &blk_class, table[i].options), 0);
		virtio_config_read(guest.dev, 0, &config, sizeof(config));
		assert_int_equal(config.seg_max, table[i].seg_max);
		assert_false(guest.dev->offered >> VIRTIO_BLK_F_SIZE_MAX & 1);
		vq_guest_free(&guest);
	}
}

static void test_queue_count(void **state)
{
	struct virtio_blk_config config;
	struct vq_guest guest;

	(void)state;
	assert_int_equal(vq_guest_make(&guest, &blk_class, "scratch=1M,queues=4"), 0);
	assert_int_equal(guest.dev->queue_count, 4);
	assert_true(guest.dev->offered >> VIRTIO_BLK_F_MQ & 1);
	virtio_config_read(guest.dev, 0, &config, sizeof(config));
	assert_int_equal(config.num_queues, 4);
	vq_guest_free(&guest);

	assert_int_equal(vq_guest_make(&guest, &blk_class, "scratch=1M"), 0);
	assert_int_equal(guest.dev->queue_count, 1);
	assert_false(guest.dev->offered >> VIRTIO_BLK_F_MQ & 1);
	vq_guest_free(&guest);
}

/* A read of sector into the page at data, by a queue that has a header and a status of its own. */
static void post_read(struct vq_guest *guest, unsigned int queue, uint64_t sector, uint64_t data)
{
	const struct virtio_blk_outhdr header = { .type = VIRTIO_BLK_T_IN, .sector = sector };

	memcpy(byte(guest, HEADER + queue * 64), &header, sizeof(header));
	*byte(guest, STATUS + queue * 64) = 0xff;
	vq_post(guest, queue, (struct vq_buffer[]){ { HEADER + queue * 64, 16, false },
						    { data, 4096, true },
						    { STATUS + queue * 64, 1, true } }, 3);
	vq_notify(guest, queue);
}

static void expect_read(struct blk_test *test, unsigned int queue, uint64_t sector)
{
	struct vq_guest *guest = &test->guest;
	uint16_t head;
	uint32_t len;

	post_read(guest, queue, sector, DATA + 4096);
	assert_true(vq_await(guest, queue, &head, &len));
	assert_int_equal(len, 4097);
	assert_int_equal(*byte(guest, STATUS + queue * 64), VIRTIO_BLK_S_OK);
	assert_memory_equal(byte(guest, DATA + 4096), test->disk + sector * 512, 4096);
}

/*
 * A host that hangs: the page at DATA is missing, and who touches it waits for
 * resume(). -1, with a reason, where that is not to be had.
 */
static int hang_data(struct vq_guest *guest)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = {
		.range = { (uintptr_t)data(guest), 4096 },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0 &&
	    ioctl(fd, UFFDIO_REGISTER, &range) == 0)
		return fd;
	print_message("skipped: userfaultfd: %s\n", strerror(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}

/* Until somebody hangs. */
static void await_hang(int fd)
{
	struct uffd_msg msg;

	assert_int_equal(read(fd, &msg, sizeof(msg)), sizeof(msg));
	assert_int_equal(msg.event, UFFD_EVENT_PAGEFAULT);
}

static void resume(struct vq_guest *guest, int fd)
{
	struct uffdio_zeropage page = { .range = { (uintptr_t)data(guest), 4096 } };

	assert_int_equal(ioctl(fd, UFFDIO_ZEROPAGE, &page), 0);
}

/* Two queues on threads of their own, of which the first hangs. -1 where there is no such thing. */
static int make_hung(struct blk_test *test, const char *options)
{
	struct vq_guest *guest = &test->guest;
	int r = make(test, options), fd;

	if (r == -ENOSYS || r == -EPERM)
		print_message("skipped: io_uring: %s\n", strerror(-r));
	fd = r < 0 ? -1 : hang_data(guest);
	if (fd < 0)
		return -1;
	assert_int_equal(vq_run(guest, false), 0);
	vq_start(guest, 1ULL << VIRTIO_BLK_F_MQ | 1ULL << VIRTIO_F_RING_RESET);
	assert_false(vq_failed(guest));
	post_read(guest, 0, 8, DATA);
	await_hang(fd);
	return fd;
}

/* Nobody waits for a hung disk but the driver that asked for its reset. */
static void test_reset_hung(void **state)
{
	struct blk_test test;
	struct vq_guest *guest = &test.guest;
	int fd = make_hung(&test, *state);

	if (fd < 0) {
		unmake(&test);
		skip();
	}
	expect_read(&test, 1, 16);
	virtio_set_status(guest->dev, 0);
	assert_int_not_equal(virtio_status(guest->dev), 0);
	assert_false(virtio_reset_wait(guest->dev, 0));
	resume(guest, fd);
	assert_true(virtio_reset_wait(guest->dev, VQ_WAIT_MS));
	assert_int_equal(virtio_status(guest->dev), 0);

	start(guest);
	expect_read(&test, 0, 24);
	close(fd);
	unmake(&test);
}

/* One queue is reset; the other goes on meanwhile. */
static void test_queue_reset_hung(void **state)
{
	struct blk_test test;
	struct vq_guest *guest = &test.guest;
	int fd = make_hung(&test, *state);

	if (fd < 0) {
		unmake(&test);
		skip();
	}
	virtio_reset_queue(guest->dev, 0);
	assert_true(virtio_queue_resetting(guest->dev, 0));
	expect_read(&test, 1, 16);
	assert_true(virtio_queue_resetting(guest->dev, 0));
	resume(guest, fd);
	for (int ms = 0; ms < VQ_WAIT_MS && virtio_queue_resetting(guest->dev, 0); ms++)
		usleep(1000);
	assert_false(virtio_queue_resetting(guest->dev, 0));

	vq_set_up_queue(guest, 0);
	expect_read(&test, 0, 24);
	expect_read(&test, 1, 32);
	close(fd);
	unmake(&test);
}

int main(void)
{
	char sync[] = ",engine=sync", uring[] = ",engine=uring", automatic[] = "";
	char limited[] = ",iops=2,iops-burst=3", limited_bytes[] = ",bw=2K,bw-burst=2K,engine=sync";
	char stop_sync[] = ",rerror=stop,werror=stop,engine=sync", stop_uring[] = ",rerror=stop,werror=stop";
	char durable_sync[] = ",cache=writethrough,engine=sync", sqpoll[] = ",sqpoll,engine=uring";
	char sync_queues[] = ",queues=2,engine=sync", uring_queues[] = ",queues=2,engine=uring";
	const struct CMUnitTest tests[] = {
		{ "read, write, flush, sync", test_read_write, NULL, NULL, sync },
		{ "read, write, flush, uring", test_read_write, NULL, NULL, uring },
		{ "odd framing, sync", test_odd_framing, NULL, NULL, sync },
		{ "odd framing, uring", test_odd_framing, NULL, NULL, uring },
		{ "out of range, sync", test_out_of_range, NULL, NULL, sync },
		{ "bad requests, sync", test_bad_requests, NULL, NULL, sync },
		{ "bad requests, uring", test_bad_requests, NULL, NULL, uring },
		{ "reset in flight, sync", test_reset_in_flight, NULL, NULL, sync },
		{ "reset in flight, uring", test_reset_in_flight, NULL, NULL, uring },
		{ "host error, sync", test_host_error, NULL, NULL, sync },
		{ "host error, uring", test_host_error, NULL, NULL, uring },
		{ "confined, sync", test_confined, NULL, NULL, sync },
		{ "confined, auto", test_confined, NULL, NULL, automatic },
		{ "reset of a hung disk, sync", test_reset_hung, NULL, NULL, sync_queues },
		{ "reset of a hung disk, uring", test_reset_hung, NULL, NULL, uring_queues },
		{ "reset of a hung queue, sync", test_queue_reset_hung, NULL, NULL, sync_queues },
		{ "reset of a hung queue, uring", test_queue_reset_hung, NULL, NULL, uring_queues },
		{ "ranges, sync", test_ranges, NULL, NULL, sync },
		{ "ranges, uring", test_ranges, NULL, NULL, uring },
		{ "ranges, written through", test_ranges, NULL, NULL, durable_sync },
		{ "bad ranges, sync", test_bad_ranges, NULL, NULL, sync },
		{ "bad ranges, uring", test_bad_ranges, NULL, NULL, uring },
		{ "read, write, flush, sqpoll", test_read_write, NULL, NULL, sqpoll },
		{ "reset in flight, sqpoll", test_reset_in_flight, NULL, NULL, sqpoll },
		{ "limit of requests", test_limit, NULL, NULL, limited },
		{ "limit of bytes", test_limit, NULL, NULL, limited_bytes },
		{ "a failed read stops, sync", test_read_stops, NULL, NULL, stop_sync },
		{ "a failed read stops, auto", test_read_stops, NULL, NULL, stop_uring },
		{ "a failed write stops, sync", test_write_stops, NULL, NULL, stop_sync },
		{ "a failed write stops, auto", test_write_stops, NULL, NULL, stop_uring },
		{ "stopped and paused, sync", test_stopped_and_paused, NULL, NULL, stop_sync },
		{ "stopped and paused, auto", test_stopped_and_paused, NULL, NULL, stop_uring },
		{ "resize, sync", test_resize, NULL, NULL, sync },
		{ "size after a load, sync", test_size_is_no_saves, NULL, NULL, sync },
		{ "resize, auto", test_resize, NULL, NULL, automatic },
		cmocka_unit_test(test_ranges_of_read_only),
		cmocka_unit_test(test_topology),
		cmocka_unit_test(test_cache),
		cmocka_unit_test(test_scratch),
		cmocka_unit_test(test_scratch_options),
		cmocka_unit_test(test_segments),
		cmocka_unit_test(test_queue_count),
		cmocka_unit_test(test_read_only),
		cmocka_unit_test(test_config_and_id),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
