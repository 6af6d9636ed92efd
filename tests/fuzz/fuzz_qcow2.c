// SPDX-License-Identifier: Apache-2.0
/*
 * A qcow2 image, and behind it what a guest does with its disk, four bytes each.
 * Whatever the tables say, what a request moves is the guest's own.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include "devices/block/block.h"
#include "devices/block/image.h"
#include "tests/fuzz/fuzz.h"

#define IMAGE_MAX MIB(1)
#define REQUESTS 12
#define REQUEST_SIZE 4
#define MOVED_MAX KIB(256)

struct machine {
	int fd;
	char path[32];
	uint8_t buffer[MOVED_MAX];
	struct block_disk disk;
	struct block_queue queue;
	bool over;
};

struct machine_request {
	struct block_request io;
	struct machine *machine;
};

static void done(struct block_request *io, int result)
{
	struct machine *machine = container_of(io, struct machine_request, io)->machine;

	assert(!machine->over && result <= 0);
	machine->over = true;
}

/* What, where in units of a 256th of the disk and sectors, how much. */
static void request(struct machine *machine, const uint8_t *bytes)
{
	uint64_t size = machine->disk.image.size, sectors = size / BLOCK_SECTOR;
	uint64_t first = util_min(sectors / 256 * bytes[1] + bytes[2], sectors - 1);
	uint64_t most = util_min(sectors - first, MOVED_MAX / BLOCK_SECTOR);
	struct iovec iov = { machine->buffer, (1 + bytes[3] % most) * BLOCK_SECTOR };
	struct machine_request made = {
		.machine = machine,
		.io = {
			.op = bytes[0] % (BLOCK_ERASE + 1),
			.offset = first * BLOCK_SECTOR,
			.len = iov.iov_len,
			.iov = &iov,
			.iov_count = 1,
			.unmap = bytes[0] & 0x40,
			.durable = bytes[0] & 0x80,
			.done = done,
		},
	};

	if (made.io.op == BLOCK_FLUSH)
		made.io.len = 0;
	machine->over = false;
	machine->queue.ops->submit(machine->queue.engine, &made.io);
	machine->queue.ops->drain(machine->queue.engine);
	assert(machine->over);
}

static struct machine *machine_new(void)
{
	struct machine *machine = calloc(1, sizeof(*machine));

	assert(machine);
	machine->fd = memfd_create("image", MFD_CLOEXEC);
	assert(machine->fd >= 0);
	snprintf(machine->path, sizeof(machine->path), "/proc/self/fd/%d", machine->fd);
	return machine;
}

static void check(const struct machine *machine)
{
	struct qcow2_findings findings;
	const char *reason = NULL;
	int r = qcow2_check(machine->fd, QCOW2_REPAIR_NOTHING, &findings, &reason);

	assert(r == 0 || reason);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct machine *machine;
	struct block_conf conf = { .format = BLOCK_FORMAT_QCOW2, .engine = BLOCK_ENGINE_SYNC };
	const uint8_t *requests;
	bool written;

	if (!machine)
		machine = machine_new();
	if (size < REQUESTS * REQUEST_SIZE || size > IMAGE_MAX)
		return -1;
	size -= REQUESTS * REQUEST_SIZE;
	requests = data + size;
	written = !ftruncate(machine->fd, 0) && pwrite(machine->fd, data, size, 0) == (ssize_t)size;
	assert(written);
	conf.path = machine->path;
	conf.read_only = requests[0] % 8 == 7;
	conf.cache_size = KIB(64);
	check(machine);
	if (block_disk_open(&machine->disk, &conf) == 0 &&
	    block_queue_open(&machine->disk, 4, &machine->queue) == 0) {
		for (size_t i = 0; i < REQUESTS; i++)
			request(machine, requests + i * REQUEST_SIZE);
		block_queue_close(&machine->queue);
	}
	block_disk_close(&machine->disk);
	return 0;
}
