// SPDX-License-Identifier: Apache-2.0
#include <err.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/virtio_blk.h>
#include <stdio.h>
#include <sys/mman.h>
#include "tests/bench/core.h"

#define BLOCK 4096
#define FILE_SIZE MIB(256)
#define ROUND_BATCHES 2000
#define TABLE_LEN 3

extern const struct virtio_class blk_class;

/* A request of the driver's, in guest memory. */
struct slot {
	uint64_t header, data, status, table;
};

struct disk {
	const char *title, *options;
	uint64_t features;
	bool same_thread; /* as the driver's, and no sandbox */
	struct vdrv vdrv;
	struct slot slots[CORE_DEPTH];
	uint16_t *slot_of; /* by chain id */
};

struct raw {
	struct io_uring ring;
	uint8_t *buffers; /* CORE_DEPTH blocks */
};

/* The same offsets for everybody. */
static uint64_t next_block(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return (*seed >> 8) % (FILE_SIZE / BLOCK);
}

/* ---- the file, straight ---- */

static void raw_open(struct raw *raw, int fd)
{
	int r = io_uring_queue_init(CORE_DEPTH, &raw->ring,
				    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);

	if (r == 0)
		r = io_uring_register_files(&raw->ring, &fd, 1);
	if (r < 0)
		errx(1, "io_uring: %s", strerror(-r));
	raw->buffers = mmap(NULL, CORE_DEPTH * BLOCK, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (raw->buffers == MAP_FAILED)
		err(1, "mmap");
}

static unsigned int raw_reap(struct raw *raw)
{
	struct io_uring_cqe *cqes[CORE_DEPTH];
	unsigned int count = io_uring_peek_batch_cqe(&raw->ring, cqes, CORE_DEPTH);

	for (unsigned int i = 0; i < count; i++)
		if (cqes[i]->res != BLOCK)
			errx(1, "a read gave %d", cqes[i]->res);
	io_uring_cq_advance(&raw->ring, count);
	return count;
}

/* Batches of depth requests, each of which is over before the next. */
static void raw_run(struct raw *raw, unsigned int depth, unsigned int requests)
{
	uint32_t seed = 1;

	for (unsigned int made = 0; made < requests; made += depth) {
		unsigned int left = depth;

		for (unsigned int i = 0; i < depth; i++) {
			struct io_uring_sqe *sqe = io_uring_get_sqe(&raw->ring);

			io_uring_prep_read(sqe, 0, raw->buffers + i * BLOCK, BLOCK,
					   next_block(&seed) * BLOCK);
			sqe->flags |= IOSQE_FIXED_FILE;
		}
		io_uring_submit_and_wait(&raw->ring, depth);
		while (left)
			left -= raw_reap(raw);
	}
}

static struct cost raw_cost(void *opaque, unsigned int depth, unsigned int requests)
{
	const struct cost start = core_now(CLOCK_THREAD_CPUTIME_ID);

	raw_run(opaque, depth, requests);
	return core_each(core_since(start, CLOCK_THREAD_CPUTIME_ID), requests);
}

/* ---- the file through the device ---- */

static void disk_open(struct disk *disk, int fd)
{
	char options[128];
	struct vdrv *vdrv = &disk->vdrv;
	const struct vdrv_setup setup = {
		.class = &blk_class,
		.options = options,
		.transport = VDRV_PCI,
		.confine = true,
	};
	uint64_t data;
	int r;

	/* Read-only, so that all of them can have it at once. */
	snprintf(options, sizeof(options), "/proc/self/fd/%d,ro,engine=uring%s", fd,
		 disk->options);
	r = vdrv_open(vdrv, &setup);
	if (r == 0 && !disk->same_thread)
		r = vdrv_run(vdrv);
	if (r == 0)
		r = vdrv_begin(vdrv, disk->features | 1ULL << VIRTIO_RING_F_INDIRECT_DESC |
					     1ULL << VIRTIO_RING_F_EVENT_IDX, 0);
	if (r < 0)
		errx(1, "%s: %s", options, strerror(-r));
	if (!disk->same_thread)
		core_pin(vdrv->dev->workers[0].thread, 1);
	disk->slot_of = calloc(vdrv->queues[0].layout.size, sizeof(*disk->slot_of));
	/* Pages, as a guest's are. */
	data = util_align_up(vdrv_alloc(vdrv, (CORE_DEPTH + 1) * BLOCK), BLOCK);
	for (unsigned int i = 0; i < CORE_DEPTH; i++)
		disk->slots[i] = (struct slot){
			.header = vdrv_alloc(vdrv, sizeof(struct virtio_blk_outhdr)),
			.data = data + i * BLOCK,
			.status = vdrv_alloc(vdrv, 1),
			.table = vdrv_alloc(vdrv, TABLE_LEN * sizeof(struct vring_desc)),
		};
}

static void disk_close(struct disk *disk)
{
	vdrv_close(&disk->vdrv);
	free(disk->slot_of);
}

static void disk_post(struct disk *disk, uint16_t index, uint32_t *seed)
{
	const struct slot *slot = &disk->slots[index];
	const struct vdrv_buffer buffers[TABLE_LEN] = {
		{ slot->header, sizeof(struct virtio_blk_outhdr), false },
		{ slot->data, BLOCK, true },
		{ slot->status, 1, true },
	};
	struct virtio_blk_outhdr *header =
		vdrv_ptr(&disk->vdrv, slot->header, sizeof(*header));
	int id;

	header->type = VIRTIO_BLK_T_IN;
	header->sector = next_block(seed) * (BLOCK / 512);
	id = vdrv_post(&disk->vdrv.queues[0], buffers, TABLE_LEN, slot->table);
	if (id < 0)
		errx(1, "post: %s", strerror(-id));
	disk->slot_of[id] = index;
}

/* Spins for an answer, since what it takes to sleep is not the device's. */
static uint16_t disk_take(struct disk *disk)
{
	struct vdrv_queue *queue = &disk->vdrv.queues[0];
	uint16_t id;
	uint32_t len;

	while (!vdrv_take(queue, &id, &len))
		if (disk->same_thread)
			vdrv_turn(&disk->vdrv);
	if (len != BLOCK + 1 ||
	    *(uint8_t *)vdrv_ptr(&disk->vdrv, disk->slots[disk->slot_of[id]].status, 1))
		errx(1, "a read of the device failed");
	return disk->slot_of[id];
}

/* Keeps depth requests in flight; those that were answered are made again in parts of that. */
static void disk_run(struct disk *disk, unsigned int depth, unsigned int requests)
{
	struct vdrv_queue *queue = &disk->vdrv.queues[0];
	unsigned int part = (depth + CORE_PARTS - 1) / CORE_PARTS, posted = 0, taken = 0;
	uint16_t slots[CORE_DEPTH];
	uint32_t seed = 1;

	vdrv_arm(queue, 0);
	while (posted < depth)
		disk_post(disk, (uint16_t)posted++, &seed);
	vdrv_kick(queue);
	while (taken < requests) {
		unsigned int count = (unsigned int)util_min(part, requests - taken);

		for (unsigned int i = 0; i < count; i++)
			slots[i] = disk_take(disk);
		taken += count;
		for (unsigned int i = 0; i < count && posted < requests; i++, posted++)
			disk_post(disk, slots[i], &seed);
		vdrv_kick(queue);
	}
}

static struct cost disk_cost(void *opaque, unsigned int depth, unsigned int requests)
{
	struct disk *disk = opaque;
	clockid_t clock = core_device_clock(&disk->vdrv, disk->same_thread);
	const struct cost start = core_now(clock);

	disk_run(disk, depth, requests);
	return core_each(core_since(start, clock), requests);
}

/* ---- side by side ---- */

/* Without a name: it is gone with this process. */
static int make_file(const char *folder)
{
	static uint8_t block[MIB(1)];
	int fd = open(folder, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);

	memset(block, 0x5a, sizeof(block));
	for (uint64_t at = 0; at < FILE_SIZE; at += sizeof(block))
		if (pwrite(fd, block, sizeof(block), (off_t)at) < 0)
			err(1, "%s", folder);
	return fd;
}

static void disk_compare_all(int fd)
{
	struct disk disks[CORE_DEVICES] = {
		{ .title = "split, same thread", .options = "", .same_thread = true },
		{ .title = "packed, same thread", .options = ",packed", .same_thread = true,
		  .features = 1ULL << VIRTIO_F_RING_PACKED },
		{ .title = "split", .options = "" },
		{ .title = "split, poll=100", .options = ",poll=100" },
		{ .title = "packed", .options = ",packed",
		  .features = 1ULL << VIRTIO_F_RING_PACKED },
		{ .title = "packed, poll=100", .options = ",packed,poll=100",
		  .features = 1ULL << VIRTIO_F_RING_PACKED },
	};
	const unsigned int count = core_devices();
	struct raw raw;
	struct core_side sides[1 + CORE_DEVICES] = { { "io_uring itself", raw_cost, &raw } };

	raw_open(&raw, fd);
	for (unsigned int i = 0; i < count; i++) {
		disk_open(&disks[i], fd);
		sides[1 + i] = (struct core_side){ disks[i].title, disk_cost, &disks[i] };
	}
	core_compare("4 KiB reads from the page cache, one at a time", sides, 1 + count, 1,
		     ROUND_BATCHES);
	core_compare("32 at a time", sides, 1 + count, CORE_DEPTH, ROUND_BATCHES * CORE_DEPTH);
	for (unsigned int i = 0; i < count; i++)
		disk_close(&disks[i]);
	io_uring_queue_exit(&raw.ring);
}

void disk_compare(const char *folder)
{
	_cleanup_close_ int fd = make_file(folder);

	disk_compare_all(fd);
}

void disk_alone(const char *folder, const char *options, unsigned int requests)
{
	_cleanup_close_ int fd = make_file(folder);
	struct disk disk = { .options = options };

	disk_open(&disk, fd);
	disk_run(&disk, CORE_DEPTH, requests);
	disk_close(&disk);
}
