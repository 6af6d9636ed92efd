// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-fs (section 5.11): a directory of the host, by FUSE. The server
 * (devices/fs/) knows operations, and requests come and go in fs_queue.c.
 */
#include <endian.h>
#include <linux/capability.h>
#include <linux/virtio_fs.h>
#include <sched.h>
#include "devices/fs_device.h"

#define FS_QUEUE_SIZE 128
#define FS_TAG_MAX sizeof(((struct virtio_fs_config *)0)->tag)
#define FS_FDS 4096
/* Of the process, for everything else. */
#define FS_FDS_LEFT 256
#define FS_THREADS_MAX 16

struct fs_dev_conf {
	struct virtio_conf virtio;
	char *path, *tag, *uids, *gids;
	uint64_t fds, threads, dax;
	int cache;
	bool read_only, writeback, no_xattr, acl, labels, squash, locks;
};

static const char *const fs_counters[] = {
	[FS_REQUESTS] = "requests",
	[FS_IN_BYTES] = "read_bytes",
	[FS_OUT_BYTES] = "written_bytes",
	[FS_ERRORS] = "errors",
	[FS_HELPED] = "helped",
	[FS_LOCK_WAITS] = "lock_waits",
	[FS_CUTS] = "dax_cuts",
	NULL,
};

static int fs_dev_start(struct virtio_dev *dev)
{
	return fs_enter(fs_dev_of(dev)->fs);
}

static size_t fs_dev_mend(struct virtio_dev *dev)
{
	size_t count = fs_mend(fs_dev_of(dev)->fs);

	virtq_count(&dev->queues[0], FS_CUTS, count);
	return count;
}

static void fs_dev_look(struct event *event, uint32_t revents)
{
	(void)revents;
	fs_look(container_of(event, struct fs_dev, changes)->fs);
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
	else if (err == -ENOLCK)
		log_warn("%s: the guest has a lock, and has to give it up before a save: %s", dev->name,
			 saving.file);
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

/* What the configuration has no use for: whoever only reads has to be let in, and that is all. */
static uint64_t fs_spare_capabilities(const struct fs_dev_conf *conf)
{
	if (conf->read_only)
		return ~(1ULL << CAP_DAC_OVERRIDE);
	return conf->squash ? 1ULL << CAP_CHOWN | 1ULL << CAP_SETUID | 1ULL << CAP_SETGID : 0;
}

static int fs_equip_worker(struct fs_dev *fs_dev, const struct fs_dev_conf *conf)
{
	struct worker *worker = &fs_dev->dev.workers[0];
	int err = 0, fds[FS_KEEP_FDS];

	worker->capabilities &= ~fs_spare_capabilities(conf);
	worker->dir = (struct landlock_dir){
		fs_dir(fs_dev->fs), conf->read_only ? LANDLOCK_READ : LANDLOCK_WRITE,
	};
	fs_dev->changes = (struct event){ .fd = fs_notify_fd(fs_dev->fs), .fn = fs_dev_look };
	if (conf->dax)
		err = worker_watch(worker, &fs_dev->changes, EPOLLIN);
	if (!err)
		err = worker_keep_fds(worker, fds, fs_fds(fs_dev->fs, fds));
	if (!err)
		err = fs_open_forgets(fs_dev);
	if (!err && conf->locks)
		err = fs_open_locks(fs_dev);
	if (!err && conf->threads > 1)
		err = fs_open_helpers(fs_dev, (unsigned int)conf->threads - 1);
	return err;
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
		.locks = dev_conf->locks,
		.squash = dev_conf->squash,
	};
	int err = fs_parse_map(dev_conf->uids, &conf.uids);

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
	if (dev_conf->dax) {
		err = virtio_add_shm(dev, VIRTIO_FS_SHMCAP_ID_CACHE, dev_conf->dax);
		if (err)
			return err;
		conf.window = &dev->shm.window;
	}
	conf.fds = fs_fd_budget(dev_conf->fds ?: FS_FDS);
	err = fs_open(dev_conf->path, &conf, &fs_dev->fs);
	return err ? err : fs_equip_worker(fs_dev, dev_conf);
}

static void fs_dev_free(struct virtio_dev *dev)
{
	struct fs_dev *fs_dev = fs_dev_of(dev);

	helpers_close(&fs_dev->helpers);
	timer_free(&fs_dev->lock_timer);
	timer_free(&fs_dev->forgets.timer);
	fs_close(fs_dev->fs);
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
	{ .key = "locks", .type = OPT_BOOL, .offset = offsetof(struct fs_dev_conf, locks),
	  .help = "the guest's locks (fcntl, flock) are the host's, too" },
	{ .key = "threads", .type = OPT_UINT, .min = 1, .max = FS_THREADS_MAX,
	  .offset = offsetof(struct fs_dev_conf, threads), .arg = "N",
	  .help = "one for requests, the others for what waits for disks; 1 unless given" },
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
	{ .key = "dax", .type = OPT_SIZE, .power_of_two = true, .min = WINDOW_PIECE, .max = GIB(16),
	  .offset = offsetof(struct fs_dev_conf, dax), .arg = "SIZE",
	  .help = "so much address space in which the guest maps files: mount -o dax" },
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
	{ E2BIG, "the windows (dax=) of all directories together are larger than 48G: make them smaller" },
	{ ENOTDIR, "it is not a directory" },
	{ EMFILE, "no descriptor or no inotify instance is left: raise ulimit -n, or with dax= "
		  "fs.inotify.max_user_instances" },
	{ EOPNOTSUPP, "it is one of the kernel's own, such as /proc or /sys, which are not shared: name another" },
	{ ENOSYS, "/proc is needed to share directories: mount -t proc proc /proc" },
	{ 0 },
};

/* What operations ask for; nothing is opened but beneath the directory (Landlock). */
static const struct sandbox fs_sandbox = SANDBOX(
	SC_ARG(unshare, 0, CLONE_FS), SC(fchdir), SC(umask),
	/* As whom, and what for. */
	SC(capget), SC(capset), SC(geteuid), SC(getegid),
	SC(setfsuid), SC(setfsgid), SC_ARG(setgroups, 0, 0),
	/* From descriptors, never from the working directory. */
	SC_MASK(openat, 0, 1U << 31, 0), SC(statx), SC(fstat), SC(newfstatat), SC(fcntl),
	SC(dup), SC(dup3), SC(readlinkat), SC(fstatfs), SC(getdents64), SC(lseek),
	SC(preadv2), SC(pwritev2), SC(fsync), SC(fdatasync), SC(syncfs), SC(fallocate),
	SC(copy_file_range), SC(truncate), SC(ftruncate), SC(utimensat), SC(fchownat),
	SC(fchmodat), SC(mknodat), SC(mkdirat), SC(symlinkat), SC(linkat), SC(unlinkat),
	SC(renameat2),
	SC(inotify_add_watch), SC(inotify_rm_watch),
	SC(setxattr), SC(getxattr), SC(listxattr), SC(removexattr), SC(flock),
);

const struct virtio_class fs_class = {
	.name = "fs",
	.option = "fs",
	.summary = "a directory of the host",
	.sample = "/,tag=sample,ro,locks,threads=2,dax=4M",
	.id = VIRTIO_ID_FS,
	.pci_class = 0x018000,
	.head_sizes = (const uint16_t[]){ FS_QUEUE_SIZE },
	.head_count = 1,
	.queue_sizes = (const uint16_t[]){ FS_QUEUE_SIZE },
	.queue_count = 1,
	.config_size = sizeof(struct virtio_fs_config),
	.dev_size = sizeof(struct fs_dev),
	.request_size = sizeof(struct fs_request),
	.opts = fs_opts,
	.conf_size = sizeof(struct fs_dev_conf),
	.hints = fs_hints,
	.root_words = "rootfstype=virtiofs root=%s rw",
	.root_name = offsetof(struct fs_dev_conf, tag),
	.counters = fs_counters,
	.sandbox = &fs_sandbox,
	/* What root needs to serve files of others as their owners would have them. */
	.capabilities = 1ULL << CAP_CHOWN | 1ULL << CAP_DAC_OVERRIDE | 1ULL << CAP_FOWNER |
			1ULL << CAP_FSETID | 1ULL << CAP_SETUID | 1ULL << CAP_SETGID,
	.init = fs_dev_init,
	.start = fs_dev_start,
	.kick = fs_kick,
	.queue_stop = fs_queue_stop,
	.reset = fs_dev_reset,
	.save = fs_dev_save,
	.restore = fs_dev_restore,
	.mend = fs_dev_mend,
	.free = fs_dev_free,
};
