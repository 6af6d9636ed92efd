// SPDX-License-Identifier: Apache-2.0
/* A shared directory: what a guest's kernel asks for, against a program's system calls. */
#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "tests/bench/core.h"

#define BLOCK KIB(4)
#define LARGE KIB(128)
#define FILE_SIZE MIB(16)
#define LISTED 1000
#define NAME "file"
#define MADE "made"
#define FOLDER "folder"

extern const struct virtio_class fs_class;

enum { FORGETS, REQUESTS };

struct share {
	const char *title, *options;
	bool same_thread; /* as the driver's, and no sandbox */
	int fd;           /* of the directory itself, for whoever does without the device */
	int file_fd;
	struct vdrv vdrv;
	uint64_t out, in, data; /* in guest memory */
	uint64_t file, folder;  /* node ids */
	uint64_t file_handle;
};

/* One thing to do, so many times in a round. */
struct task {
	const char *title;
	void (*straight)(const struct share *share);
	void (*asked)(struct share *share);
	unsigned int rounds, requests; /* requests: how many each of them counts for */
};

struct turn {
	struct share *share;
	const struct task *task;
};

/* ---- requests ---- */

/* What it says, and bytes in and out of the data buffer. */
struct request {
	uint32_t opcode;
	uint64_t node;
	const void *args;
	size_t args_len;
	const char *name;
	uint32_t reply_len, out_len, in_len;
};

static void answer(struct share *share, struct vdrv_queue *queue)
{
	while (!vdrv_take(queue, &(uint16_t){ 0 }, NULL))
		if (share->same_thread)
			vdrv_turn(&share->vdrv);
}

/* Returns the reply behind its header. */
static const void *ask(struct share *share, const struct request *request)
{
	struct fuse_in_header *header = vdrv_ptr(&share->vdrv, share->out, BLOCK);
	const size_t name_len = request->name ? strlen(request->name) + 1 : 0;
	const bool forgets = request->opcode == FUSE_FORGET;
	struct vdrv_queue *queue = &share->vdrv.queues[forgets ? FORGETS : REQUESTS];
	const struct fuse_out_header *reply = vdrv_ptr(&share->vdrv, share->in, BLOCK);
	struct vdrv_buffer buffers[4];
	unsigned int count = 0;

	*header = (struct fuse_in_header){ .opcode = request->opcode, .nodeid = request->node };
	header->len = (uint32_t)(sizeof(*header) + request->args_len + name_len + request->out_len);
	if (request->args_len)
		memcpy(header + 1, request->args, request->args_len);
	if (name_len)
		memcpy((uint8_t *)(header + 1) + request->args_len, request->name, name_len);
	buffers[count++] =
		(struct vdrv_buffer){ share->out, header->len - request->out_len, false };
	if (request->out_len)
		buffers[count++] = (struct vdrv_buffer){ share->data, request->out_len, false };
	if (!forgets)
		buffers[count++] = (struct vdrv_buffer){
			share->in, (uint32_t)sizeof(*reply) + request->reply_len, true };
	if (request->in_len)
		buffers[count++] = (struct vdrv_buffer){ share->data, request->in_len, true };
	vdrv_post(queue, buffers, count, 0);
	vdrv_kick(queue);
	answer(share, queue);
	if (!forgets && reply->error)
		errx(1, "request %u: %s", request->opcode, strerror(-reply->error));
	return reply + 1;
}

#define ARGS(in) .args = &(in), .args_len = sizeof(in)

static void init(struct share *share)
{
	const struct fuse_init_in in = {
		.major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION, .flags = ~0u,
	};

	ask(share, &(struct request){ FUSE_INIT, ARGS(in),
				      .reply_len = sizeof(struct fuse_init_out) });
}

static uint64_t look_up(struct share *share, const char *name)
{
	const struct fuse_entry_out *entry = ask(share, &(struct request){
		FUSE_LOOKUP, FUSE_ROOT_ID, .name = name, .reply_len = sizeof(*entry) });

	return entry->nodeid;
}

static uint64_t open_node(struct share *share, uint32_t opcode, uint64_t node, uint32_t flags)
{
	const struct fuse_open_in in = { .flags = flags };
	const struct fuse_open_out *out = ask(share, &(struct request){
		opcode, node, ARGS(in), .reply_len = sizeof(*out) });

	return out->fh;
}

static void release(struct share *share, uint32_t opcode, uint64_t node, uint64_t handle)
{
	const struct fuse_release_in in = { .fh = handle };

	ask(share, &(struct request){ opcode, node, ARGS(in) });
}

static void forget(struct share *share, uint64_t node)
{
	const struct fuse_forget_in in = { .nlookup = 1 };

	ask(share, &(struct request){ FUSE_FORGET, node, ARGS(in) });
}

/* ---- tasks ---- */

static void must(bool done)
{
	if (!done)
		err(1, "the directory itself");
}

static void straight_stat(const struct share *share)
{
	struct statx st;

	must(statx(share->fd, NAME, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &st) == 0);
}

static void asked_lookup(struct share *share)
{
	look_up(share, NAME);
}

static void asked_getattr(struct share *share)
{
	const struct fuse_getattr_in in = { 0 };

	ask(share, &(struct request){ FUSE_GETATTR, share->file, ARGS(in),
				      .reply_len = sizeof(struct fuse_attr_out) });
}

static void straight_open(const struct share *share)
{
	int fd = openat(share->fd, NAME, O_RDONLY | O_CLOEXEC);

	must(fd >= 0);
	close(fd);
}

static void asked_open(struct share *share)
{
	uint64_t handle = open_node(share, FUSE_OPEN, share->file, O_RDONLY);

	release(share, FUSE_RELEASE, share->file, handle);
}

static void straight_create(const struct share *share)
{
	int fd = openat(share->fd, MADE, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	must(fd >= 0);
	close(fd);
	must(unlinkat(share->fd, MADE, 0) == 0);
}

static void asked_create(struct share *share)
{
	const struct fuse_create_in in = { .flags = O_WRONLY | O_CREAT | O_EXCL,
					   .mode = S_IFREG | 0644 };
	const struct fuse_entry_out *entry = ask(share, &(struct request){
		FUSE_CREATE, FUSE_ROOT_ID, ARGS(in), MADE,
		sizeof(*entry) + sizeof(struct fuse_open_out) });
	const struct fuse_open_out *out = (const void *)(entry + 1);
	const uint64_t node = entry->nodeid;

	release(share, FUSE_RELEASE, node, out->fh);
	ask(share, &(struct request){ FUSE_UNLINK, FUSE_ROOT_ID, .name = MADE });
	forget(share, node);
}

static void straight_read(const struct share *share)
{
	static char block[BLOCK];

	must(pread(share->file_fd, block, sizeof(block), 0) == sizeof(block));
}

static void straight_read_large(const struct share *share)
{
	static char block[LARGE];

	must(pread(share->file_fd, block, sizeof(block), 0) == sizeof(block));
}

static void straight_write(const struct share *share)
{
	static char block[BLOCK];

	must(pwrite(share->file_fd, block, sizeof(block), 0) == sizeof(block));
}

static void read_of(struct share *share, uint32_t len)
{
	const struct fuse_read_in in = { .fh = share->file_handle, .size = len };

	ask(share, &(struct request){ FUSE_READ, share->file, ARGS(in), .in_len = len });
}

static void asked_read(struct share *share)
{
	read_of(share, BLOCK);
}

static void asked_read_large(struct share *share)
{
	read_of(share, LARGE);
}

static void asked_write(struct share *share)
{
	const struct fuse_write_in in = { .fh = share->file_handle, .size = BLOCK };

	ask(share, &(struct request){ FUSE_WRITE, share->file, ARGS(in),
				      .reply_len = sizeof(struct fuse_write_out),
				      .out_len = BLOCK });
}

static void straight_list(const struct share *share)
{
	int fd = openat(share->fd, FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fdopendir(fd);
	struct dirent *entry;
	struct statx st;

	must(dir);
	while ((entry = readdir(dir)))
		must(statx(fd, entry->d_name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &st) == 0);
	closedir(dir);
}

/* Takes back each lookup as it comes. Returns where the next reply begins. */
static uint64_t forget_listed(struct share *share, const struct fuse_direntplus *first, size_t len)
{
	uint8_t copy[BLOCK];
	uint64_t next = 0;

	memcpy(copy, first, len);
	for (size_t at = 0; at < len;) {
		const struct fuse_direntplus *entry = (const void *)(copy + at);

		if (entry->entry_out.nodeid)
			forget(share, entry->entry_out.nodeid);
		next = entry->dirent.off;
		at += FUSE_DIRENTPLUS_SIZE(entry);
	}
	return next;
}

static void asked_list(struct share *share)
{
	const uint64_t handle = open_node(share, FUSE_OPENDIR, share->folder, O_RDONLY);
	struct fuse_read_in in = { .fh = handle, .size = BLOCK };
	size_t len;

	do {
		const void *entries = ask(share, &(struct request){
			FUSE_READDIRPLUS, share->folder, ARGS(in), .reply_len = BLOCK });

		len = ((const struct fuse_out_header *)entries - 1)->len -
		      sizeof(struct fuse_out_header);
		if (len)
			in.offset = forget_listed(share, entries, len);
	} while (len);
	release(share, FUSE_RELEASEDIR, share->folder, handle);
}

static const struct task tasks[] = {
	{ "lookup (statx)", straight_stat, asked_lookup, 2000, 1 },
	{ "getattr (statx)", straight_stat, asked_getattr, 2000, 1 },
	{ "open and release (open, close)", straight_open, asked_open, 2000, 1 },
	{ "create, release, unlink, forget (open, close, unlink)", straight_create, asked_create,
	  500, 1 },
	{ "read of 4 KiB (pread)", straight_read, asked_read, 2000, 1 },
	{ "read of 128 KiB (pread)", straight_read_large, asked_read_large, 500, 1 },
	{ "write of 4 KiB (pwrite)", straight_write, asked_write, 2000, 1 },
	{ "an entry of readdirplus, and its forget (readdir, statx)", straight_list, asked_list, 2,
	  LISTED },
};

/* ---- side by side ---- */

static struct cost straight_cost(void *opaque, unsigned int depth, unsigned int rounds)
{
	const struct turn *turn = opaque;
	const struct cost start = core_now(CLOCK_THREAD_CPUTIME_ID);

	(void)depth;
	for (unsigned int i = 0; i < rounds; i++)
		turn->task->straight(turn->share);
	return core_each(core_since(start, CLOCK_THREAD_CPUTIME_ID),
			 rounds * turn->task->requests);
}

static struct cost asked_cost(void *opaque, unsigned int depth, unsigned int rounds)
{
	const struct turn *turn = opaque;
	clockid_t clock = core_device_clock(&turn->share->vdrv, turn->share->same_thread);
	const struct cost start = core_now(clock);

	(void)depth;
	for (unsigned int i = 0; i < rounds; i++)
		turn->task->asked(turn->share);
	return core_each(core_since(start, clock), rounds * turn->task->requests);
}

static void share_open(struct share *share, const char *path)
{
	char options[256];
	const struct vdrv_setup setup = {
		.class = &fs_class,
		.options = options,
		.transport = VDRV_PCI,
		.confine = true,
	};
	int r;

	snprintf(options, sizeof(options), "%s,tag=bench%s", path, share->options);
	r = vdrv_open(&share->vdrv, &setup);
	if (r == 0 && !share->same_thread)
		r = vdrv_run(&share->vdrv);
	if (r == 0)
		r = vdrv_begin(&share->vdrv, 1ULL << VIRTIO_RING_F_EVENT_IDX, 0);
	if (r < 0)
		errx(1, "%s: %s", options, strerror(-r));
	if (!share->same_thread)
		core_pin(share->vdrv.dev->workers[0].thread, 1);
	share->out = vdrv_alloc(&share->vdrv, BLOCK);
	share->in = vdrv_alloc(&share->vdrv, 2 * BLOCK);
	share->data = util_align_up(vdrv_alloc(&share->vdrv, LARGE + BLOCK), BLOCK);
	init(share);
	share->file = look_up(share, NAME);
	share->folder = look_up(share, FOLDER);
	share->file_handle = open_node(share, FUSE_OPEN, share->file, O_RDWR);
}

/* Makes what is in the directory, or takes it away. */
static void furnish(int fd, bool make)
{
	static char data[FILE_SIZE];
	char name[32];

	if (make)
		must(mkdirat(fd, FOLDER, 0755) == 0);
	for (unsigned int i = 0; i < LISTED; i++) {
		snprintf(name, sizeof(name), FOLDER "/file-%04u", i);
		must((make ? mknodat(fd, name, S_IFREG | 0644, 0) : unlinkat(fd, name, 0)) == 0);
	}
	if (make) {
		_cleanup_close_ int file = openat(fd, NAME, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

		must(write(file, data, sizeof(data)) == sizeof(data));
	} else {
		must(unlinkat(fd, NAME, 0) == 0 && unlinkat(fd, FOLDER, AT_REMOVEDIR) == 0);
	}
}

static void share_compare(const char *path, int fd)
{
	struct share shares[] = {
		{ .title = "same thread", .options = "", .same_thread = true },
		{ .title = "device on its thread", .options = "" },
		{ .title = "poll=100", .options = ",poll=100" },
	};
	const unsigned int count = core_devices() == CORE_DEVICES ? ARRAY_SIZE(shares) : 1;
	const int file_fd = openat(fd, NAME, O_RDWR | O_CLOEXEC);
	struct turn turns[1 + ARRAY_SIZE(shares)];
	struct core_side sides[1 + ARRAY_SIZE(shares)];

	for (unsigned int i = 0; i < count; i++)
		share_open(&shares[i], path);
	for (size_t i = 0; i < ARRAY_SIZE(tasks); i++) {
		for (unsigned int j = 0; j <= count; j++) {
			turns[j] = (struct turn){ &shares[j ? j - 1 : 0], &tasks[i] };
			sides[j] = (struct core_side){ j ? shares[j - 1].title : "system calls",
						       j ? asked_cost : straight_cost, &turns[j] };
		}
		shares[0].fd = fd;
		shares[0].file_fd = file_fd;
		core_compare(tasks[i].title, sides, 1 + count, 1, tasks[i].rounds);
	}
	for (unsigned int i = 0; i < count; i++)
		vdrv_close(&shares[i].vdrv);
	close(file_fd);
}

void fs_compare(void)
{
	/* In memory: what a file system on a disk does is not the device's. */
	char path[] = "/dev/shm/fs.XXXXXX";
	_cleanup_close_ int fd = -1;

	must(mkdtemp(path));
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	furnish(fd, true);
	share_compare(path, fd);
	furnish(fd, false);
	must(rmdir(path) == 0);
}
