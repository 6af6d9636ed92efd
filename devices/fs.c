// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-fs (section 5.11): a directory of the host, by FUSE. The server
 * (devices/fs/) knows operations; here requests come and go. They are served
 * one after the other, on the thread that has the directory.
 *
 * A request is copied once, but for what it reads and writes, which goes
 * between the guest's buffers and the file.
 */
#include <endian.h>
#include <linux/capability.h>
#include <linux/virtio_fs.h>
#include <sched.h>
#include "devices/fs/fs.h"
#include "devices/virtio/virtio.h"

#define FS_QUEUE_SIZE 128
#define FS_TAG_MAX sizeof(((struct virtio_fs_config *)0)->tag)
#define FS_FDS 4096
/* Of the process, for everything else. */
#define FS_FDS_LEFT 256
/* Bytes after which the driver is shown what was done so far. */
#define FS_BATCH_BYTES KIB(64)
/* Requests in a row: then the other queue and whoever calls the worker have their turn. */
#define FS_BATCH 128

struct fs_dev_conf {
	struct virtio_conf virtio;
	char *path, *tag, *uids, *gids;
	uint64_t fds;
	int cache;
	bool read_only, writeback, no_xattr, acl, labels, squash;
};

struct fs_dev {
	struct virtio_dev dev;
	struct fs *fs;
	_Alignas(8) uint8_t args[FS_ARGS_MAX];
	_Alignas(8) uint8_t reply[FS_REPLY_MAX];
};

enum fs_counter { FS_REQUESTS, FS_IN_BYTES, FS_OUT_BYTES, FS_ERRORS };

static const char *const fs_counters[] = {
	[FS_REQUESTS] = "requests",
	[FS_IN_BYTES] = "read_bytes",
	[FS_OUT_BYTES] = "written_bytes",
	[FS_ERRORS] = "errors",
	NULL,
};

static struct fs_dev *fs_dev_of(struct virtio_dev *dev)
{
	return container_of(dev, struct fs_dev, dev);
}

/* ---- requests ---- */

/* The arguments; those of a write end where its data begin. -E2BIG: nothing we know is so long. */
static int fs_pull_args(struct fs_dev *fs_dev, struct chain *chain, struct fs_call *call)
{
	size_t len = call->header.opcode == FUSE_WRITE ?
			     util_min(chain->out.left, sizeof(struct fuse_write_in)) :
			     chain->out.left;

	if (len > sizeof(fs_dev->args))
		return -E2BIG;
	call->args = fs_dev->args;
	call->args_len = chain_pull(chain, fs_dev->args, len);
	return 0;
}

static ssize_t fs_call(struct fs_dev *fs_dev, struct chain *chain, struct fs_call *call)
{
	const bool writes = call->header.opcode == FUSE_WRITE;
	const struct cursor *data = writes ? &chain->out : &chain->in;
	int err = fs_pull_args(fs_dev, chain, call);

	if (err)
		return err;
	if (fs_has_data(call->header.opcode)) {
		call->data = data->iov;
		call->data_count = data->count;
		call->data_len = data->left;
	}
	call->reply = fs_dev->reply;
	call->reply_room = util_min(chain->in.left, sizeof(fs_dev->reply));
	return fs_serve(fs_dev->fs, call);
}

static void fs_reply(struct fs_dev *fs_dev, struct virtq *queue, struct chain *chain,
		     const struct fs_call *call, ssize_t n)
{
	const struct fuse_out_header header = {
		.len = (uint32_t)(sizeof(header) + (n > 0 ? (size_t)n : 0)),
		.error = n < 0 ? (int32_t)n : 0,
		.unique = call->header.unique,
	};

	chain_push_tail(chain, &header, sizeof(header));
	if (call->header.opcode == FUSE_READ && n > 0) {
		cursor_advance(&chain->in, (size_t)n);
		virtq_count(queue, FS_IN_BYTES, (uint64_t)n);
	} else if (n > 0) {
		chain_push(chain, fs_dev->reply, (size_t)n);
	}
}

/* What may take the host long: others are not to wait for it with what is done. */
static bool fs_is_slow(uint32_t opcode)
{
	return opcode == FUSE_FSYNC || opcode == FUSE_FSYNCDIR || opcode == FUSE_SYNCFS ||
	       opcode == FUSE_COPY_FILE_RANGE || opcode == FUSE_FALLOCATE;
}

/* Returns false when the driver broke the rules. */
static bool fs_handle(struct fs_dev *fs_dev, struct virtq *queue, struct chain *chain)
{
	struct fs_call call = { 0 };
	bool replies;
	ssize_t n;

	if (chain_pull(chain, &call.header, sizeof(call.header)) < sizeof(call.header)) {
		virtio_fail(&fs_dev->dev, "a request that is shorter than its header");
		return false;
	}
	replies = fs_has_reply(call.header.opcode);
	if (replies && chain_split_front(chain, sizeof(struct fuse_out_header)) < 0) {
		virtio_fail(&fs_dev->dev, "a request without room for the reply's header");
		return false;
	}
	virtq_count(queue, FS_REQUESTS, 1);
	if (fs_is_slow(call.header.opcode))
		virtq_show(queue);
	n = fs_call(fs_dev, chain, &call);
	if (n < 0)
		virtq_count(queue, FS_ERRORS, 1);
	else if (call.header.opcode == FUSE_WRITE)
		virtq_count(queue, FS_OUT_BYTES, ((struct fuse_write_out *)call.reply)->size);
	if (replies)
		fs_reply(fs_dev, queue, chain, &call, n);
	virtq_done(queue, chain);
	return true;
}

static void fs_kick(struct virtio_dev *dev, struct virtq *queue)
{
	unsigned int count = 0;
	struct chain *chain;
	size_t batch = 0;

	while (count++ < FS_BATCH) {
		chain = virtq_pop(queue);
		if (!chain)
			return;
		batch += chain->in.left + chain->out.left;
		if (!fs_handle(fs_dev_of(dev), queue, chain))
			return;
		if (batch < FS_BATCH_BYTES)
			continue;
		virtq_show(queue);
		batch = 0;
	}
	util_signal(queue->kick.fd);
}

/* ---- life ---- */

static int fs_dev_start(struct virtio_dev *dev)
{
	return fs_enter(fs_dev_of(dev)->fs);
}

static void fs_dev_reset(struct virtio_dev *dev)
{
	fs_forget(fs_dev_of(dev)->fs);
}

struct fs_saving {
	struct fs *fs;
	struct state *state;
	char file[PATH_MAX];
};

static int fs_save_mount(void *arg)
{
	struct fs_saving *saving = arg;

	return fs_save(saving->fs, saving->state, saving->file);
}

static int fs_dev_save(struct virtio_dev *dev, struct state *state)
{
	struct fs_saving saving = { fs_dev_of(dev)->fs, state, "" };
	int err = worker_call(&dev->workers[0], fs_save_mount, &saving);

	if (err == -EBUSY)
		log_warn("%s: the guest has a file open that was removed, and has to close it before a save: %s",
			 dev->name, saving.file);
	return err;
}

static int fs_dev_restore(struct virtio_dev *dev, struct state_reader *reader)
{
	return fs_load(fs_dev_of(dev)->fs, reader);
}

/* "GUEST:HOST:COUNT"; nothing for no map. */
static int fs_parse_map(const char *text, struct fs_map *ret_map)
{
	unsigned long long numbers[3];
	char *end = (char *)text;

	if (!text)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		if (*end < '0' || *end > '9')
			return -EBADMSG;
		numbers[i] = strtoull(end, &end, 10);
		if (numbers[i] > UINT32_MAX || *end != (i + 1 < ARRAY_SIZE(numbers) ? ':' : '\0'))
			return -EBADMSG;
		end++;
	}
	if (!util_within(numbers[0], numbers[2], UINT32_MAX) ||
	    !util_within(numbers[1], numbers[2], UINT32_MAX))
		return -EBADMSG;
	*ret_map = (struct fs_map){ (uint32_t)numbers[0], (uint32_t)numbers[1],
				    (uint32_t)numbers[2] };
	return 0;
}

/* As many as were asked for, where the process may have them besides its own. */
static unsigned int fs_fd_budget(uint64_t wanted)
{
	uint64_t limit = util_raise_fd_limit();

	if (limit < FS_FDS_LEFT + FS_FDS_MIN)
		return FS_FDS_MIN;
	return (unsigned int)util_min(wanted, limit - FS_FDS_LEFT);
}

static int fs_dev_init(struct virtio_dev *dev)
{
	struct fs_dev *fs_dev = fs_dev_of(dev);
	const struct fs_dev_conf *dev_conf = dev->conf;
	struct virtio_fs_config config = { .num_request_queues = htole32(1) };
	struct fs_conf conf = {
		.read_only = dev_conf->read_only,
		.cache = (enum fs_cache)dev_conf->cache,
		.writeback = dev_conf->writeback,
		.xattr = !dev_conf->no_xattr,
		.acl = dev_conf->acl,
		.labels = dev_conf->labels,
		.squash = dev_conf->squash,
	};
	int err = fs_parse_map(dev_conf->uids, &conf.uids), fds[FS_KEEP_FDS];

	if (!err)
		err = fs_parse_map(dev_conf->gids, &conf.gids);
	if (!err && strlen(dev_conf->tag) > FS_TAG_MAX)
		err = -ENAMETOOLONG;
	if (!err && ((conf.acl && conf.squash) || ((conf.acl || conf.labels) && !conf.xattr)))
		err = -EINVAL;
	if (err)
		return err;
	memcpy(config.tag, dev_conf->tag, strlen(dev_conf->tag));
	memcpy(dev->config, &config, sizeof(config));
	conf.fds = fs_fd_budget(dev_conf->fds ?: FS_FDS);
	err = fs_open(dev_conf->path, &conf, &fs_dev->fs);
	if (err)
		return err;
	dev->workers[0].dir = (struct landlock_dir){
		fs_dir(fs_dev->fs), conf.read_only ? LANDLOCK_READ : LANDLOCK_WRITE,
	};
	return worker_keep_fds(&dev->workers[0], fds, fs_fds(fs_dev->fs, fds));
}

static void fs_dev_free(struct virtio_dev *dev)
{
	fs_close(fs_dev_of(dev)->fs);
}

static const char *const fs_caches[] = {
	[FS_CACHE_AUTO] = "auto", [FS_CACHE_NEVER] = "never", [FS_CACHE_ALWAYS] = "always", NULL,
};

static const struct opt fs_opts[] = {
	{ .key = "dir", .type = OPT_STRING, .bare = true, .required = true,
	  .offset = offsetof(struct fs_dev_conf, path), .arg = "DIR",
	  .help = "the directory to share" },
	{ .key = "tag", .type = OPT_STRING, .required = true,
	  .offset = offsetof(struct fs_dev_conf, tag), .arg = "NAME",
	  .help = "what the guest mounts it by: mount -t virtiofs NAME /mnt" },
	{ .key = "ro", .type = OPT_BOOL, .offset = offsetof(struct fs_dev_conf, read_only),
	  .help = "the guest can change nothing" },
	{ .key = "cache", .type = OPT_CHOICE, .offset = offsetof(struct fs_dev_conf, cache),
	  .choices = fs_caches,
	  .help = "how long the guest believes what it has seen: a second, not at all, a day" },
	{ .key = "writeback", .type = OPT_BOOL, .offset = offsetof(struct fs_dev_conf, writeback),
	  .help = "the guest may write later; only where nobody else changes files" },
	{ .key = "squash", .type = OPT_BOOL, .offset = offsetof(struct fs_dev_conf, squash),
	  .help = "everything belongs to the guest's root, and here to whoever runs microvm" },
	{ .key = "uidmap", .type = OPT_STRING, .offset = offsetof(struct fs_dev_conf, uids),
	  .arg = "GUEST:HOST:COUNT", .help = "users of the guest who are others here" },
	{ .key = "gidmap", .type = OPT_STRING, .offset = offsetof(struct fs_dev_conf, gids),
	  .arg = "GUEST:HOST:COUNT", .help = "the same for groups" },
	{ .key = "no-xattr", .type = OPT_BOOL, .offset = offsetof(struct fs_dev_conf, no_xattr),
	  .help = "without extended attributes" },
	{ .key = "acl", .type = OPT_BOOL, .offset = offsetof(struct fs_dev_conf, acl),
	  .help = "with POSIX ACLs, which the guest may change" },
	{ .key = "security-label", .type = OPT_BOOL, .offset = offsetof(struct fs_dev_conf, labels),
	  .help = "the guest's security labels are kept, as user.virtiofs.security.*" },
	{ .key = "fds", .type = OPT_UINT, .min = FS_FDS_MIN, .max = 1000000,
	  .offset = offsetof(struct fs_dev_conf, fds), .arg = "N",
	  .help = "files and directories open at the most; 4096 unless given" },
	VIRTIO_OPTS,
	{ 0 },
};

static const struct hint fs_hints[] = {
	{ EBADMSG, "a map is GUEST:HOST:COUNT, three numbers below 2^32, such as 0:100000:65536" },
	{ EINVAL, "acl and security-label cannot be had with no-xattr, nor acl with squash" },
	{ ENAMETOOLONG, "the tag is too long, it has 36 bytes at the most" },
	{ ENOTDIR, "it is not a directory" },
	{ ENOSYS, "/proc is needed to share directories: mount -t proc proc /proc" },
	{ 0 },
};

/* What operations ask for; nothing is opened but beneath the directory (Landlock). */
static const struct sandbox fs_sandbox = SANDBOX(
	SC_ARG(unshare, 0, CLONE_FS), SC(fchdir), SC(umask), SC(capget), SC(capset), SC(geteuid), SC(getegid),
	SC(setfsuid), SC(setfsgid), SC_ARG(setgroups, 0, 0),
	/* From descriptors, never from the working directory. */
	SC_MASK(openat, 0, 1U << 31, 0), SC(statx), SC(fstat), SC(newfstatat), SC(fcntl),
	SC(dup), SC(dup3), SC(readlinkat), SC(fstatfs), SC(getdents64), SC(lseek),
	SC(preadv2), SC(pwritev2), SC(fsync), SC(fdatasync), SC(syncfs), SC(fallocate),
	SC(copy_file_range), SC(truncate), SC(ftruncate), SC(utimensat), SC(fchownat),
	SC(fchmodat), SC(mknodat), SC(mkdirat), SC(symlinkat), SC(linkat), SC(unlinkat),
	SC(renameat2),
	SC(setxattr), SC(getxattr), SC(listxattr), SC(removexattr),
);

const struct virtio_class fs_class = {
	.name = "fs",
	.option = "fs",
	.summary = "a directory of the host",
	.sample = "/,tag=sample,ro",
	.id = VIRTIO_ID_FS,
	.pci_class = 0x018000,
	.head_sizes = (const uint16_t[]){ FS_QUEUE_SIZE },
	.head_count = 1,
	.queue_sizes = (const uint16_t[]){ FS_QUEUE_SIZE },
	.queue_count = 1,
	.config_size = sizeof(struct virtio_fs_config),
	.dev_size = sizeof(struct fs_dev),
	.opts = fs_opts,
	.conf_size = sizeof(struct fs_dev_conf),
	.hints = fs_hints,
	.counters = fs_counters,
	.sandbox = &fs_sandbox,
	/* What root needs to serve files of others as their owners would have them. */
	.capabilities = 1ULL << CAP_CHOWN | 1ULL << CAP_DAC_OVERRIDE | 1ULL << CAP_FOWNER |
			1ULL << CAP_FSETID | 1ULL << CAP_SETUID | 1ULL << CAP_SETGID,
	.init = fs_dev_init,
	.start = fs_dev_start,
	.kick = fs_kick,
	.reset = fs_dev_reset,
	.save = fs_dev_save,
	.restore = fs_dev_restore,
	.free = fs_dev_free,
};
