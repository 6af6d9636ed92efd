// SPDX-License-Identifier: Apache-2.0
/*
 * FUSE: a small directory of a file system of its own takes a series of requests. The first two bytes
 * choose the configuration and what the mount offers. Each request has six bytes: the operation, which
 * of the nodes seen so far it is about, which number of an earlier reply its arguments begin with, how
 * much room there is for the reply, and how many bytes of arguments follow. In between the mount is saved,
 * spoiled and loaded; and where there is a window, the guest touches it, the host cuts a file short that it
 * may show, and the data of requests lies in it. Whatever comes, no reply is longer than its room, no
 * descriptor is left, the window is empty at the end, and a file beside the directory stays what it was.
 */
#include <assert.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include "core/state.h"
#include "core/util.h"
#include "devices/fs/fs.h"
#include "tests/fuzz/fuzz.h"

#define REQUESTS_MAX 64
#define NUMBERS 16 /* nodes, and handles, that are remembered */
#define ARGS_MAX 2047
#define FDS_SEEN 512
#define FILE_MAX MIB(1)
#define PIECES 4 /* of the window */

struct request {
	uint8_t opcode, node, number, room, len[2];
};

/* In the place of an operation: save and load, where the rest says how the save is spoiled; and touch. */
#define SAVE 0xff
#define TOUCH 0xfe

enum { NUMBER_INDEX = 0xf, NUMBER_IS_HANDLE = 0x10, NUMBER_IS_NODE = 0x20 };
enum { TOUCH_WRITES = 1, TOUCH_LOOKS = 2, TOUCH_MENDS = 4, TOUCH_CUTS = 8 };

/* A request that waits for its system call while the next one is served. */
struct held {
	struct fs_call call;
	struct iovec iov[2];
	uint8_t *data;
};

struct target {
	struct fs *fs;
	struct window window;
	struct held *held; /* or NULL */
	uint64_t nodes[NUMBERS], handles[NUMBERS];
	unsigned int node_count, handle_count;
	uint8_t *reply;
};

/* What stays from one input to the next. */
static struct {
	char path[32];
	int cwd;
	bool apart; /* nothing that the guest may ask for fills the host's disk */
	struct statx canary;
} host;

/* ---- the directory ---- */

static struct statx canary(void)
{
	struct statx st;
	char path[64];
	int r;

	snprintf(path, sizeof(path), "%s/canary", host.path);
	r = statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, &st);
	assert(!r);
	return st;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	return ftw->level && remove(path) ? -1 : 0;
}

static void make_file(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	assert(fd >= 0 && write(fd, "some text", 9) == 9);
	close(fd);
}

/* As it was, whatever the last input left; a descriptor of it. */
static int furnish(void)
{
	char path[64];
	int dir, r;

	snprintf(path, sizeof(path), "%s/shared", host.path);
	(void)chmod(path, 0755);
	r = nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	assert(!r);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert(dir >= 0);
	make_file(dir, "a");
	r = mkdirat(dir, "d", 0755) | symlinkat("../canary", dir, "l") | symlinkat("/", dir, "r") |
	    mkfifoat(dir, "p", 0644);
	assert(!r);
	make_file(dir, "d/b");
	return dir;
}

/* Removed at the end where there is no file system of our own to go with us. */
static void remove_host(void)
{
	if (fchdir(host.cwd) < 0)
		return;
	(void)nftw(host.path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	(void)umount2(host.path, MNT_DETACH);
	(void)rmdir(host.path);
}

static void make_host(void)
{
	const struct rlimit limit = { FILE_MAX, FILE_MAX };
	char path[64];
	int dir, r;

	strcpy(host.path, "/tmp/fuzz_fs.XXXXXX");
	assert(mkdtemp(host.path));
	host.cwd = open(".", O_PATH | O_CLOEXEC);
	host.apart = !unshare(CLONE_NEWNS) &&
		     !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
		     !mount("fuzz", host.path, "tmpfs", 0, "size=8m");
	signal(SIGXFSZ, SIG_IGN);
	r = setrlimit(RLIMIT_FSIZE, &limit);
	assert(!r);
	dir = open(host.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	make_file(dir, "canary");
	snprintf(path, sizeof(path), "%s/shared", host.path);
	r = mkdir(path, 0755);
	assert(!r);
	close(dir);
	host.canary = canary();
	atexit(remove_host);
}

static unsigned int open_fds(void)
{
	unsigned int count = 0;

	for (int fd = 0; fd < FDS_SEEN; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* ---- requests ---- */

static void remember(uint64_t *numbers, unsigned int *count, uint64_t number)
{
	numbers[(*count)++ % NUMBERS] = number;
}

static void learn(struct target *target, uint32_t opcode)
{
	const struct fuse_entry_out *entry = (const void *)target->reply;
	const struct fuse_open_out *opened = (const void *)target->reply;

	switch (opcode) {
	case FUSE_OPEN:
	case FUSE_OPENDIR:
		remember(target->handles, &target->handle_count, opened->fh);
		break;
	case FUSE_CREATE:
		opened = (const void *)(entry + 1);
		remember(target->handles, &target->handle_count, opened->fh);
		remember(target->nodes, &target->node_count, entry->nodeid);
		break;
	case FUSE_LOOKUP:
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_SYMLINK:
	case FUSE_LINK:
		remember(target->nodes, &target->node_count, entry->nodeid);
		break;
	}
}

static void put(uint8_t *args, size_t len, size_t at, uint64_t number)
{
	if (util_within(at, sizeof(number), len))
		memcpy(args + at, &number, sizeof(number));
}

/* A guess would seldom be right. */
static void put_numbers(const struct target *target, const struct request *request, uint8_t *args,
			size_t len)
{
	const unsigned int index = request->number & NUMBER_INDEX;

	if (request->number & NUMBER_IS_HANDLE)
		put(args, len, 0, target->handles[index]);
	else if (request->number & NUMBER_IS_NODE)
		put(args, len, 0, target->nodes[index]);
	if (request->opcode == FUSE_COPY_FILE_RANGE) {
		put(args, len, offsetof(struct fuse_copy_file_range_in, nodeid_out),
		    target->nodes[index]);
		put(args, len, offsetof(struct fuse_copy_file_range_in, fh_out),
		    target->handles[(index + 1) % NUMBERS]);
	}
	if (request->opcode == FUSE_SETATTR)
		put(args, len, offsetof(struct fuse_setattr_in, fh), target->handles[index]);
}

static void finish_held(struct target *target)
{
	struct held *held = target->held;

	if (!held)
		return;
	target->held = NULL;
	fs_run(&held->call);
	held->call.reply = target->reply;
	(void)fs_finish(target->fs, &held->call);
	free(held->data);
	free(held);
}

static void hold(struct target *target, const struct fs_call *call, uint8_t **data)
{
	struct held *held = malloc(sizeof(*held));

	assert(held);
	held->call = *call;
	memcpy(held->iov, call->data, sizeof(held->iov));
	held->call.data = held->iov;
	held->data = util_steal_ptr(data);
	target->held = held;
}

/* Across two pieces of the window, if it is so large. */
static uint8_t *in_window(const struct target *target, const struct request *request, size_t len)
{
	const size_t piece = 1 + request->number % (PIECES - 1);

	return target->window.hva + piece * WINDOW_PIECE - len / 2;
}

/*
 * Arguments are on the heap, so that a byte beyond them is one beyond their block; and so are data, if
 * they are not in the window.
 */
static void serve(struct target *target, const struct request *request, const uint8_t *data,
		  size_t len)
{
	const bool windowed = request->room & 64 && target->window.hva;
	static const size_t rooms[] = { 0, 8, 16, 40, 160, 4096, FS_REPLY_MAX, FS_REPLY_MAX };
	const size_t head = request->opcode == FUSE_WRITE ?
				    util_min(len, sizeof(struct fuse_write_in)) : len;
	const size_t room = rooms[request->room % ARRAY_SIZE(rooms)];
	const size_t data_len = request->opcode == FUSE_WRITE ? len - head : room;
	_cleanup_free_ uint8_t *args = malloc(head), *more = malloc(data_len);
	uint8_t *const at = windowed ? in_window(target, request, data_len) : more;
	struct iovec iov[] = {
		{ at, data_len / 3 }, { at + data_len / 3, data_len - data_len / 3 },
	};
	struct fs_call call = {
		.header = { .opcode = request->opcode, .uid = request->room & 8 ? 1000 : 0,
			    .gid = request->room & 16 ? 1000 : 0,
			    .nodeid = target->nodes[request->node % NUMBERS] + (request->node >> 7) },
		.args = args, .args_len = head, .data = iov, .data_count = ARRAY_SIZE(iov),
		.data_len = data_len, .reply = target->reply, .reply_room = room,
		.may_leave = request->room & 32,
	};
	ssize_t n;

	assert(args && more);
	memcpy(args, data, head);
	memcpy(more, data + head, request->opcode == FUSE_WRITE ? data_len : 0);
	put_numbers(target, request, args, head);
	if (request->opcode == FUSE_FALLOCATE && !host.apart)
		return;
	n = fs_serve(target->fs, &call);
	assert(n >= -4095);
	assert(n <= (ssize_t)(request->opcode == FUSE_READ ? data_len : room));
	if (n > 0)
		learn(target, request->opcode);
	finish_held(target);
	if (n == -EINPROGRESS)
		hold(target, &call, &more);
}

static void mount_it(struct target *target, uint8_t offers)
{
	const struct fuse_init_in in = {
		.major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION,
		.flags = offers & 1 ? ~0u : ~(uint32_t)FUSE_SETXATTR_EXT,
		.flags2 = offers & 2 ? ~0u : 0,
	};
	struct fs_call call = {
		.header.opcode = FUSE_INIT, .args = &in, .args_len = sizeof(in),
		.reply = target->reply, .reply_room = FS_REPLY_MAX,
	};
	ssize_t n = fs_serve(target->fs, &call);

	assert(n == sizeof(struct fuse_init_out));
}

/* The guest has its page, or the handler of a fault puts one there. */
static void touch(struct target *target, const struct request *request)
{
	const size_t at = (size_t)request->node << 16 | request->len[1] << 8 | request->len[0];
	volatile uint8_t *byte;
	char path[64];

	if (!target->window.hva)
		return;
	snprintf(path, sizeof(path), "%s/shared/a", host.path);
	if (request->room & TOUCH_CUTS)
		(void)!truncate(path, request->number * 1024);
	if (request->room & TOUCH_LOOKS)
		fs_look(target->fs);
	if (request->room & TOUCH_MENDS)
		(void)fs_mend(target->fs);
	byte = target->window.hva + at % (PIECES * WINDOW_PIECE);
	if (request->room & TOUCH_WRITES)
		*byte = request->number;
	else
		(void)*byte;
}

/* A load is refused, or what was not found is stale: the requests that follow will see. */
static void save_and_load(struct target *target, const struct request *request)
{
	struct state state = { 0 };
	struct state_reader reader;
	char file[PATH_MAX];

	finish_held(target);
	if (fs_save(target->fs, &state, file) == 0) {
		if (request->node)
			state.data[(request->len[0] | request->len[1] << 8) % state.len] ^= request->node;
		reader = (struct state_reader){ state.data, state.len };
		if (fs_load(target->fs, &reader) == 0)
			(void)fs_enter(target->fs);
	}
	state_free(&state);
}

static void serve_all(struct target *target, const uint8_t *data, size_t size)
{
	struct request request;

	for (unsigned int i = 0; i < REQUESTS_MAX && size >= sizeof(request); i++) {
		size_t len;

		memcpy(&request, data, sizeof(request));
		data += sizeof(request);
		size -= sizeof(request);
		if (request.opcode == SAVE) {
			save_and_load(target, &request);
			continue;
		}
		if (request.opcode == TOUCH) {
			touch(target, &request);
			continue;
		}
		len = util_min(size, (request.len[0] | request.len[1] << 8) & ARGS_MAX);
		serve(target, &request, data, len);
		data += len;
		size -= len;
	}
}

static struct fs_conf configuration(const uint8_t bits[2], struct window *window)
{
	struct fs_conf conf = {
		.fds = FS_FDS_MIN,
		.cache = bits[0] % 3,
		.read_only = (bits[0] & 12) == 12,
		.writeback = bits[0] & 16,
		.squash = bits[0] & 32,
		.xattr = bits[0] & 64,
		.acl = bits[1] & 4,
		.labels = bits[1] & 8,
		.locks = bits[1] & 16,
	};

	if (bits[0] & 128)
		conf.uids = (struct fs_map){ 0, 1000, 1001 };
	if (bits[1] & 32)
		conf.window = window;
	return conf;
}

static void open_target(struct target *target, const uint8_t bits[2])
{
	const struct fs_conf conf = configuration(bits, &target->window);
	char path[64];
	int r;

	*target = (struct target){ .nodes = { FUSE_ROOT_ID }, .node_count = 1,
				   .reply = malloc(FS_REPLY_MAX) };
	assert(target->reply);
	if (conf.window) {
		r = window_init(conf.window, PIECES * WINDOW_PIECE);
		assert(!r);
	}
	snprintf(path, sizeof(path), "%s/shared", host.path);
	r = fs_open(path, &conf, &target->fs);
	assert(!r);
	r = fs_enter(target->fs);
	assert(!r);
	mount_it(target, bits[1]);
}

static void close_target(struct target *target)
{
	finish_held(target);
	fs_forget(target->fs);
	fs_close(target->fs);
	free(target->reply);
	/* Files in it began with text. */
	for (size_t i = 0; target->window.hva && i < PIECES; i++)
		assert(!target->window.hva[i * WINDOW_PIECE]);
	window_free(&target->window);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct target target;
	struct statx now;
	unsigned int fds;
	int dir, r;

	if (size < 2)
		return -1;
	if (!*host.path)
		make_host();
	dir = furnish();
	fds = open_fds();
	open_target(&target, data);
	serve_all(&target, data + 2, size - 2);
	close_target(&target);
	assert(open_fds() == fds);
	close(dir);
	now = canary();
	assert(!memcmp(&now, &host.canary, sizeof(now)));
	r = fchdir(host.cwd);
	assert(!r);
	return 0;
}
