// SPDX-License-Identifier: Apache-2.0
/*
 * A process that ends at any of its writes, and a host whose power fails: of what
 * was not synced then, some is in the file and some is not. In both cases the
 * image has lost room at the most, and whatever a flush had returned for is there.
 *
 * The functions here take the places of the C library's.
 */
#include <signal.h>
#include <sys/mman.h>
#include "tests/unit/qcow2.h"

#define SECTOR 512
#define ROUNDS 60
#define OPERATIONS 150
#define LOG_MAX 4096

ssize_t __real_pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags);
int __real_fallocate(int fd, int mode, off_t offset, off_t len);
int __real_fdatasync(int fd);
ssize_t __wrap_pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags);
int __wrap_fallocate(int fd, int mode, off_t offset, off_t len);
int __wrap_fdatasync(int fd);

/* What was in the file before a write that has not been synced. */
struct old {
	off_t offset;
	size_t len;
	uint8_t *data;
};

/* Of the process that will end. */
static struct {
	bool armed, power;
	unsigned int left;
	struct old log[LOG_MAX];
	unsigned int count;
} death;

static void forget(void)
{
	while (death.count)
		free(death.log[--death.count].data);
}

static void die(int fd)
{
	while (death.power && death.count) {
		const struct old *old = &death.log[--death.count];
		struct iovec iov = { old->data, old->len };
		ssize_t len = (ssize_t)old->len;

		if (rand() % 2)
			CHILD_CHECK(__real_pwritev2(fd, &iov, 1, old->offset, 0) == len);
	}
	kill(getpid(), SIGKILL);
}

static void remember(int fd, off_t offset, size_t len)
{
	struct old *old = &death.log[death.count++];
	ssize_t n;

	CHILD_CHECK(death.count < LOG_MAX);
	*old = (struct old){ offset, len, calloc(1, len) };
	n = pread(fd, old->data, len, offset);
	CHILD_CHECK(n >= 0);
}

/* Power is best lost right before a sync: any of the writes since the last may be there. */
static bool is_last(int fd, off_t offset, size_t len)
{
	if (!death.armed)
		return false;
	if (death.power)
		remember(fd, offset, len);
	return !death.power && --death.left == 0;
}

ssize_t __wrap_pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
	struct iovec part = iov[0];
	size_t len = 0;
	ssize_t n;

	for (int i = 0; i < count; i++)
		len += iov[i].iov_len;
	if (is_last(fd, offset, len)) {
		/* Some of its sectors. */
		part.iov_len = part.iov_len / SECTOR / 2 * SECTOR;
		(void)!__real_pwritev2(fd, &part, 1, offset, 0);
		die(fd);
	}
	n = __real_pwritev2(fd, iov, count, offset, 0);
	if (death.armed && flags)
		__wrap_fdatasync(fd);
	return n;
}

int __wrap_fallocate(int fd, int mode, off_t offset, off_t len)
{
	if (is_last(fd, offset, (size_t)len))
		die(fd);
	return __real_fallocate(fd, mode, offset, len);
}

int __wrap_fdatasync(int fd)
{
	if (death.armed && death.power && --death.left == 0)
		die(fd);
	forget();
	return death.armed ? 0 : __real_fdatasync(fd);
}

/* What the process that ends leaves to the one that looks. */
struct shared {
	struct image *image;
	uint8_t *model;   /* the disk */
	uint8_t *touched; /* sectors that were changed since the last flush */
	unsigned int deadline;
	bool power;
};

static void *share(size_t len)
{
	void *memory = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_true(memory != MAP_FAILED);
	return memory;
}

static int submit(struct shared *shared, enum block_op op, uint64_t offset, uint64_t len)
{
	struct image *image = shared->image;

	memset(shared->touched + offset / SECTOR, 1, len / SECTOR);
	if (op == BLOCK_WRITE)
		return disk_write(image, offset, len);
	return disk_range(image, op, offset, len, rand() % 2);
}

static void operation(struct shared *shared)
{
	static const enum block_op ops[] = {
		BLOCK_WRITE, BLOCK_WRITE, BLOCK_WRITE, BLOCK_ZERO, BLOCK_DISCARD,
	};
	struct image *image = shared->image;
	uint64_t sectors = image->size / SECTOR, first = (uint64_t)rand() % sectors;
	uint64_t count = 1 + (uint64_t)rand() % util_min(rand() % 4 ? 32 : 512, sectors - first);
	uint64_t offset = first * SECTOR, len = count * SECTOR;
	enum block_op op = ops[rand() % ARRAY_SIZE(ops)];

	if (rand() % 12 == 0) {
		CHILD_CHECK(disk_flush(image) == 0);
		memset(shared->touched, 0, sectors);
		return;
	}
	CHILD_CHECK(submit(shared, op, offset, len) == 0);
	if (op == BLOCK_ZERO)
		memset(image->model + offset, 0, len);
	else if (op == BLOCK_DISCARD)
		CHILD_CHECK(disk_read(image, offset, len) == 0 &&
			    memcpy(image->model + offset, image->buffer, len));
}

static int live(void *arg)
{
	struct shared *shared = arg;

	CHILD_CHECK(disk_try_open(shared->image, "engine=sync") == 0);
	shared->image->model = shared->model;
	death.power = shared->power;
	death.left = shared->deadline;
	death.armed = true;
	for (int i = 0; i < OPERATIONS; i++)
		operation(shared);
	return 0;
}

static void look(struct shared *shared)
{
	struct image *image = shared->image;

	/* Lazy refcounts are made up for by opening. */
	if (!image->lazy)
		disk_check(image, false);
	disk_open(image, "engine=sync");
	assert_int_equal(disk_read(image, 0, image->size), 0);
	for (uint64_t i = 0; i < image->size / SECTOR; i++)
		if (!shared->touched[i])
			assert_memory_equal(image->buffer + i * SECTOR,
					    shared->model + i * SECTOR, SECTOR);
	/* Whatever is there instead is what the next one begins with. */
	memcpy(shared->model, image->buffer, image->size);
	memset(shared->touched, 0, image->size / SECTOR);
	disk_close(image);
	disk_check(image, false);
}

static void renew(const struct shared *shared, uint32_t cluster_bits, uint32_t order)
{
	disk_create(shared->image, cluster_bits, order);
	memset(shared->model, 0, shared->image->size);
}

static void lives_and_deaths(uint32_t cluster_bits, uint32_t order, bool lazy, bool power)
{
	struct image *image = disk_new(cluster_bits);
	struct shared shared = { .image = image, .power = power };

	image->lazy = lazy;
	shared.model = share(image->size);
	shared.touched = share(image->size / SECTOR);
	renew(&shared, cluster_bits, order);
	for (int i = 0; i < ROUNDS; i++) {
		struct child child;

		shared.deadline = 1 + (unsigned int)rand() % (power ? 40 : i % 2 ? 60 : 600);
		srand((unsigned int)rand());
		child = child_run(getuid(), live, &shared);
		if (child.status != 0)
			child_ended(&child, -SIGKILL);
		look(&shared);
		/* What was lost would fill the disk in the end. */
		if (i % 8 == 7)
			renew(&shared, cluster_bits, order);
	}
	munmap(shared.model, image->size);
	munmap(shared.touched, image->size / SECTOR);
	disk_free(image);
}

static void test_killed(void **state)
{
	(void)state;
	lives_and_deaths(9, 6, false, false);
	lives_and_deaths(12, 4, false, false);
	lives_and_deaths(12, 4, true, false);
	lives_and_deaths(16, 1, false, false);
}

static void test_power(void **state)
{
	(void)state;
	lives_and_deaths(9, 6, false, true);
	lives_and_deaths(12, 4, false, true);
	lives_and_deaths(12, 4, true, true);
	lives_and_deaths(16, 1, false, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_power),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
