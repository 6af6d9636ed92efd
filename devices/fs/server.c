// SPDX-License-Identifier: Apache-2.0
/* From a request to its operation; what a mount begins and ends with. */
#include "devices/fs/server.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/statfs.h>

/* INIT of 7.31 is what Linux 5.4 sends, the first with this device. */
#define MINOR_MIN 31
#define INIT_IN_MIN offsetof(struct fuse_init_in, flags2)
#define MAX_PAGES 256
#define PAGE KIB(4)
/* As Linux has them, in no header of its UAPI. */
#define CONFIGFS_MAGIC 0x62656570
#define FUSE_CTL_SUPER_MAGIC 0x65735543

#define FEATURES \
	(FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES | FUSE_AUTO_INVAL_DATA | \
	 FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS | \
	 FUSE_MAX_PAGES | FUSE_SUBMOUNTS | FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT | \
	 FUSE_INIT_EXT)

/* ---- arguments ---- */

const char *fs_take_string(struct fs_call *call)
{
	const char *string = call->args;
	const char *end = memchr(string, '\0', call->args_len);

	if (!end)
		return NULL;
	call->args = end + 1;
	call->args_len -= (size_t)(end + 1 - string);
	return string;
}

bool fs_is_name(const char *name)
{
	return *name && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

const char *fs_take_name(struct fs_call *call)
{
	const char *name = fs_take_string(call);

	return name && fs_is_name(name) ? name : NULL;
}

/* ---- a mount's life ---- */

uint64_t fs_features(const struct fs *fs)
{
	uint64_t wanted = FEATURES;

	if (fs->conf.writeback)
		wanted |= FUSE_WRITEBACK_CACHE;
	if (fs->conf.acl)
		wanted |= FUSE_POSIX_ACL | FUSE_DONT_MASK;
	if (fs->conf.labels)
		wanted |= FUSE_SECURITY_CTX;
	if (fs->conf.locks)
		wanted |= FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS;
	if (fs->conf.window)
		wanted |= FUSE_MAP_ALIGNMENT | FUSE_HAS_INODE_DAX;
	/* Attributes that it does not believe it need not get with each name. */
	if (fs->conf.cache == FS_CACHE_NEVER)
		wanted &= ~(uint64_t)(FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO);
	return wanted;
}

ssize_t fs_init(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	const struct fuse_init_in *init = in;
	struct fuse_init_out *out = call->reply;
	uint64_t offered = init->flags;

	(void)inode;
	*out = (struct fuse_init_out){ .major = FUSE_KERNEL_VERSION,
				       .minor = FUSE_KERNEL_MINOR_VERSION };
	if (init->major < FUSE_KERNEL_VERSION || (init->major == FUSE_KERNEL_VERSION &&
						  init->minor < MINOR_MIN))
		return -EPROTO;
	/* It begins again with our version. */
	if (init->major > FUSE_KERNEL_VERSION)
		return sizeof(*out);
	fs_forget(fs);
	if (offered & FUSE_INIT_EXT && call->args_len >= sizeof(*init) - INIT_IN_MIN)
		offered |= (uint64_t)init->flags2 << 32;
	fs->features = offered & fs_features(fs);
	fs->mounted = true;
	out->max_readahead = init->max_readahead;
	out->flags = (uint32_t)fs->features;
	out->flags2 = (uint32_t)(fs->features >> 32);
	out->max_background = 64;
	out->congestion_threshold = 48;
	out->max_write = MAX_PAGES * PAGE;
	out->max_pages = MAX_PAGES;
	out->time_gran = 1;
	if (fs->features & FUSE_MAP_ALIGNMENT)
		out->map_alignment = __builtin_ctz(WINDOW_PIECE);
	return sizeof(*out);
}

ssize_t fs_destroy(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	(void)inode;
	(void)in;
	(void)call;
	fs_forget(fs);
	return 0;
}

ssize_t fs_forget_one(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	const struct fuse_forget_in *forget = in;

	(void)call;
	fs_inode_forget(fs, inode, forget->nlookup);
	return 0;
}

ssize_t fs_forget_batch(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	const struct fuse_batch_forget_in *batch = in;
	const struct fuse_forget_one *one = call->args;

	(void)inode;
	for (uint32_t i = 0; i < batch->count && util_within(i * sizeof(*one), sizeof(*one),
							      call->args_len); i++) {
		uint32_t forgotten = fs_inode_of(fs, one[i].nodeid);

		if (forgotten)
			fs_inode_forget(fs, forgotten, one[i].nlookup);
	}
	return 0;
}

/* Who lets requests wait knows what it is about. */
ssize_t fs_interrupt(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	(void)fs;
	(void)inode;
	(void)in;
	(void)call;
	return 0;
}

/* ---- the table ---- */

enum { WRITES = 1, NO_NODE = 2 };

static const struct {
	fs_operation *serve;
	unsigned int flags;
	size_t in, out; /* bytes at least: of arguments, and of room for the reply */
} operations[] = {
	[FUSE_LOOKUP] = { fs_lookup, 0, 0, sizeof(struct fuse_entry_out) },
	[FUSE_FORGET] = { fs_forget_one, 0, sizeof(struct fuse_forget_in), 0 },
	[FUSE_GETATTR] = { fs_getattr, 0, sizeof(struct fuse_getattr_in),
			   sizeof(struct fuse_attr_out) },
	[FUSE_SETATTR] = { fs_setattr, WRITES, sizeof(struct fuse_setattr_in),
			   sizeof(struct fuse_attr_out) },
	[FUSE_READLINK] = { fs_readlink, 0, 0, 0 },
	[FUSE_SYMLINK] = { fs_symlink, WRITES, 0, sizeof(struct fuse_entry_out) },
	[FUSE_MKNOD] = { fs_mknod, WRITES, sizeof(struct fuse_mknod_in),
			 sizeof(struct fuse_entry_out) },
	[FUSE_MKDIR] = { fs_mkdir, WRITES, sizeof(struct fuse_mkdir_in),
			 sizeof(struct fuse_entry_out) },
	[FUSE_UNLINK] = { fs_unlink, WRITES, 0, 0 },
	[FUSE_RMDIR] = { fs_rmdir, WRITES, 0, 0 },
	[FUSE_RENAME] = { fs_rename, WRITES, sizeof(struct fuse_rename_in), 0 },
	[FUSE_LINK] = { fs_link, WRITES, sizeof(struct fuse_link_in),
			sizeof(struct fuse_entry_out) },
	[FUSE_OPEN] = { fs_open_file, 0, sizeof(struct fuse_open_in),
			sizeof(struct fuse_open_out) },
	[FUSE_READ] = { fs_read, 0, sizeof(struct fuse_read_in), 0 },
	[FUSE_WRITE] = { fs_write, WRITES, sizeof(struct fuse_write_in),
			 sizeof(struct fuse_write_out) },
	[FUSE_STATFS] = { fs_statfs, 0, 0, sizeof(struct fuse_statfs_out) },
	[FUSE_RELEASE] = { fs_release, 0, sizeof(struct fuse_release_in), 0 },
	[FUSE_FSYNC] = { fs_fsync, 0, sizeof(struct fuse_fsync_in), 0 },
	[FUSE_SETXATTR] = { fs_setxattr, WRITES, FUSE_COMPAT_SETXATTR_IN_SIZE, 0 },
	[FUSE_GETXATTR] = { fs_getxattr, 0, sizeof(struct fuse_getxattr_in), 0 },
	[FUSE_LISTXATTR] = { fs_listxattr, 0, sizeof(struct fuse_getxattr_in), 0 },
	[FUSE_REMOVEXATTR] = { fs_removexattr, WRITES, 0, 0 },
	[FUSE_FLUSH] = { fs_flush, 0, sizeof(struct fuse_flush_in), 0 },
	[FUSE_INIT] = { fs_init, NO_NODE, INIT_IN_MIN, sizeof(struct fuse_init_out) },
	[FUSE_OPENDIR] = { fs_opendir, 0, sizeof(struct fuse_open_in),
			   sizeof(struct fuse_open_out) },
	[FUSE_READDIR] = { fs_readdir, 0, sizeof(struct fuse_read_in), 0 },
	[FUSE_RELEASEDIR] = { fs_release, 0, sizeof(struct fuse_release_in), 0 },
	[FUSE_FSYNCDIR] = { fs_fsync, 0, sizeof(struct fuse_fsync_in), 0 },
	[FUSE_GETLK] = { fs_getlk, 0, sizeof(struct fuse_lk_in), sizeof(struct fuse_lk_out) },
	[FUSE_SETLK] = { fs_setlk, 0, sizeof(struct fuse_lk_in), 0 },
	[FUSE_SETLKW] = { fs_setlk, 0, sizeof(struct fuse_lk_in), 0 },
	[FUSE_ACCESS] = { fs_access, 0, sizeof(struct fuse_access_in), 0 },
	[FUSE_CREATE] = { fs_create, WRITES, sizeof(struct fuse_create_in),
			  sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out) },
	[FUSE_INTERRUPT] = { fs_interrupt, NO_NODE, sizeof(struct fuse_interrupt_in), 0 },
	[FUSE_DESTROY] = { fs_destroy, NO_NODE, 0, 0 },
	[FUSE_BATCH_FORGET] = { fs_forget_batch, NO_NODE, sizeof(struct fuse_batch_forget_in), 0 },
	[FUSE_FALLOCATE] = { fs_fallocate, WRITES, sizeof(struct fuse_fallocate_in), 0 },
	[FUSE_READDIRPLUS] = { fs_readdirplus, 0, sizeof(struct fuse_read_in), 0 },
	[FUSE_RENAME2] = { fs_rename2, WRITES, sizeof(struct fuse_rename2_in), 0 },
	[FUSE_LSEEK] = { fs_lseek, 0, sizeof(struct fuse_lseek_in),
			 sizeof(struct fuse_lseek_out) },
	[FUSE_COPY_FILE_RANGE] = { fs_copy_file_range, WRITES,
				   sizeof(struct fuse_copy_file_range_in),
				   sizeof(struct fuse_write_out) },
	[FUSE_TMPFILE] = { fs_tmpfile, WRITES, sizeof(struct fuse_create_in),
			   sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out) },
	[FUSE_SETUPMAPPING] = { fs_setupmapping, 0, sizeof(struct fuse_setupmapping_in), 0 },
	[FUSE_REMOVEMAPPING] = { fs_removemapping, 0, sizeof(struct fuse_removemapping_in), 0 },
	[FUSE_SYNCFS] = { fs_syncfs, 0, sizeof(struct fuse_syncfs_in), 0 },
};

ssize_t fs_serve(struct fs *fs, struct fs_call *call)
{
	const uint32_t opcode = call->header.opcode;
	const void *in = call->args;
	uint32_t inode = 0;
	bool keeps;
	ssize_t n;

	if (opcode >= ARRAY_SIZE(operations) || !operations[opcode].serve)
		return -ENOSYS;
	if (opcode != FUSE_INIT && !fs->mounted)
		return -EIO;
	if (call->args_len < operations[opcode].in || call->reply_room < operations[opcode].out)
		return -EINVAL;
	if (fs->conf.read_only && operations[opcode].flags & WRITES)
		return -EROFS;
	if (!(operations[opcode].flags & NO_NODE)) {
		inode = fs_inode_of(fs, call->header.nodeid);
		if (!inode)
			return -ESTALE;
	}
	call->args = (const uint8_t *)call->args + operations[opcode].in;
	call->args_len -= operations[opcode].in;
	n = operations[opcode].serve(fs, inode, in, call);
	if (n != -EINPROGRESS) {
		fs_dax_restore(fs);
		return n;
	}
	/* That takes a capability, which no other thread has. */
	keeps = fs_keep_begin(fs, call->work.mode, false);
	if (call->may_leave && !keeps)
		return n;
	fs_run(call);
	fs_keep_end(fs, keeps);
	return fs_finish(fs, call);
}

/* ---- the server's life ---- */

/*
 * A directory, as a mount that has no parent where we may make one: then ".." ends there even for
 * calls that Landlock has no say in, and what is not to be changed the kernel keeps as well, since
 * Linux 5.12. An ordinary user can change only what is theirs anyway.
 */
static int open_apart(const char *path, bool read_only)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID |
					       (read_only ? MOUNT_ATTR_RDONLY : 0) };
	_cleanup_close_ int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int tree;

	if (fd < 0)
		return -errno;
	tree = open_tree(fd, "", AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE |
				 OPEN_TREE_CLOEXEC);
	if (tree < 0)
		return util_steal_fd(&fd);
	(void)mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr));
	return tree;
}

/* What has no server elsewhere that could refuse at a close what a write had been promised. */
static bool is_local(int fd)
{
	struct statfs st;

	if (fstatfs(fd, &st) < 0)
		return false;
	switch (st.f_type) {
	case EXT4_SUPER_MAGIC:
	case XFS_SUPER_MAGIC:
	case BTRFS_SUPER_MAGIC:
	case TMPFS_MAGIC:
		return true;
	default:
		return false;
	}
}

/* What does not say what it is may be anything. */
bool fs_is_closed(int fd)
{
	struct statfs st;

	if (fstatfs(fd, &st) < 0)
		return true;
	switch (st.f_type) {
	case PROC_SUPER_MAGIC:
	case SYSFS_MAGIC:
	case DEBUGFS_MAGIC:
	case TRACEFS_MAGIC:
	case SECURITYFS_MAGIC:
	case SELINUX_MAGIC:
	case SMACK_MAGIC:
	case CGROUP_SUPER_MAGIC:
	case CGROUP2_SUPER_MAGIC:
	case RDTGROUP_SUPER_MAGIC:
	case BPF_FS_MAGIC:
	case BINFMTFS_MAGIC:
	case EFIVARFS_MAGIC:
	case PSTOREFS_MAGIC:
	case CONFIGFS_MAGIC:
	case FUSE_CTL_SUPER_MAGIC:
		return true;
	default:
		return false;
	}
}

static int furnish(struct fs *fs, const char *path)
{
	int err;

	fs->root_fd = open_apart(path, fs->conf.read_only);
	if (fs->root_fd < 0)
		return fs->root_fd;
	if (fs_is_closed(fs->root_fd))
		return -EOPNOTSUPP;
	fs->proc_fd = open_apart("/proc", true);
	if (fs->proc_fd < 0 || faccessat(fs->proc_fd, "thread-self/fd", X_OK, 0) < 0)
		return -ENOSYS;
	err = fs_inodes_init(fs);
	if (!err && is_local(fs->root_fd))
		fs->quiet_dev = fs->inodes[FS_ROOT].identity.dev;
	if (!err)
		err = fs_dax_init(fs);
	return err ? err : fs_handles_init(fs);
}

int fs_open(const char *path, const struct fs_conf *conf, struct fs **ret_fs)
{
	struct fs *fs = calloc(1, sizeof(*fs));
	int err;

	if (!fs)
		return -ENOMEM;
	fs->conf = *conf;
	fs->proc_fd = fs->notify_fd = -1;
	err = furnish(fs, path);
	if (err)
		fs_close(fs);
	else
		*ret_fs = fs;
	return err;
}

void fs_close(struct fs *fs)
{
	if (!fs)
		return;
	if (fs->handles)
		fs_handles_free(fs);
	fs_inodes_free(fs);
	state_free(&fs->loaded);
	fs_dax_free(fs);
	util_closep(&fs->root_fd);
	util_closep(&fs->proc_fd);
	free(fs);
}

int fs_dir(const struct fs *fs)
{
	return fs->root_fd;
}

size_t fs_fds(const struct fs *fs, int fds[FS_KEEP_FDS])
{
	fds[0] = fs->root_fd;
	fds[1] = fs->proc_fd;
	return FS_KEEP_FDS;
}

int fs_notify_fd(const struct fs *fs)
{
	return fs->notify_fd;
}

int fs_enter(struct fs *fs)
{
	_cleanup_close_ int fd = -1;

	if (fs->entered)
		return fs_load_finish(fs);
	if (unshare(CLONE_FS) < 0)
		return -errno;
	/* Paths of descriptors, which are the thread's own, begin here: three names less to look up. */
	fd = openat(fs->proc_fd, "thread-self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fchdir(fd) < 0 || dup3(fd, fs->proc_fd, O_CLOEXEC) < 0)
		return -errno;
	fs_own_enter(fs);
	fs->entered = true;
	return fs_load_finish(fs);
}

void fs_forget(struct fs *fs)
{
	fs->mounted = false;
	state_free(&fs->loaded);
	fs_dax_forget(fs);
	fs_handles_forget(fs);
	fs_inodes_forget(fs);
}
