// SPDX-License-Identifier: Apache-2.0
/* What files are: attributes as the host has them, owners as the guest is to see them. */
#include <fcntl.h>
#include <limits.h>
#include <sys/statfs.h>
#include "devices/fs/server.h"

#define NANOSECONDS 1000000000u
/* What the guest may believe without asking: seconds. */
#define VALID_AUTO 1
#define VALID_ALWAYS 86400

uint32_t fs_map_in(const struct fs_map *map, uint32_t guest)
{
	return guest - map->guest < map->count ? guest - map->guest + map->host : guest;
}

uint32_t fs_map_out(const struct fs_map *map, uint32_t host)
{
	return host - map->host < map->count ? host - map->host + map->guest : host;
}

static uint64_t valid(const struct fs *fs)
{
	static const uint64_t seconds[] = {
		[FS_CACHE_AUTO] = VALID_AUTO,
		[FS_CACHE_NEVER] = 0,
		[FS_CACHE_ALWAYS] = VALID_ALWAYS,
	};

	return seconds[fs->conf.cache];
}

void fs_fill_attr(const struct fs *fs, const struct statx *st, struct fuse_attr *attr)
{
	*attr = (struct fuse_attr){
		.ino = st->stx_ino,
		.size = st->stx_size,
		.blocks = st->stx_blocks,
		.atime = (uint64_t)st->stx_atime.tv_sec,
		.mtime = (uint64_t)st->stx_mtime.tv_sec,
		.ctime = (uint64_t)st->stx_ctime.tv_sec,
		.atimensec = st->stx_atime.tv_nsec,
		.mtimensec = st->stx_mtime.tv_nsec,
		.ctimensec = st->stx_ctime.tv_nsec,
		.mode = st->stx_mode,
		.nlink = st->stx_nlink,
		.uid = fs->conf.squash ? 0 : fs_map_out(&fs->conf.uids, st->stx_uid),
		.gid = fs->conf.squash ? 0 : fs_map_out(&fs->conf.gids, st->stx_gid),
		/* As the kernel packs them for user space: 12 bits and 20. */
		.rdev = (st->stx_rdev_minor & 0xff) | st->stx_rdev_major << 8 |
			(st->stx_rdev_minor & ~0xffu) << 12,
		.blksize = st->stx_blksize,
		.flags = fs_dax_wanted(fs, st) ? FUSE_ATTR_DAX : 0,
	};
}

/* Where another file system of the host is mounted, the guest is told to have one, too. */
static bool crosses(const struct fs *fs, uint32_t inode)
{
	const struct fs_inode *entry = &fs->inodes[inode];
	const struct fs_identity *above = &fs->inodes[entry->parent].identity;

	return fs->features & FUSE_SUBMOUNTS && entry->name && S_ISDIR(entry->mode) &&
	       (entry->identity.dev != above->dev || entry->identity.mount != above->mount);
}

void fs_fill_entry(struct fs *fs, uint32_t inode, const struct statx *st,
		   struct fuse_entry_out *entry)
{
	*entry = (struct fuse_entry_out){
		.nodeid = fs_node(fs, inode),
		.entry_valid = valid(fs),
		.attr_valid = valid(fs),
	};
	fs_fill_attr(fs, st, &entry->attr);
	fs->inodes[inode].size = st->stx_size;
	if (crosses(fs, inode))
		entry->attr.flags |= FUSE_ATTR_SUBMOUNT;
}

ssize_t fs_reply_entry(struct fs *fs, uint32_t dir, const char *name, struct fuse_entry_out *out)
{
	struct statx st;
	uint32_t inode;
	int err = fs_inode_find(fs, dir, name, &st, &inode);

	if (err)
		return err;
	fs_inode_remember(fs, inode);
	fs_fill_entry(fs, inode, &st, out);
	return sizeof(*out);
}

static ssize_t reply_attr(struct fs *fs, uint32_t inode, const struct statx *st,
			  struct fs_call *call)
{
	struct fuse_attr_out *out = call->reply;

	*out = (struct fuse_attr_out){ .attr_valid = valid(fs) };
	fs_fill_attr(fs, st, &out->attr);
	fs->inodes[inode].size = st->stx_size;
	return sizeof(*out);
}

ssize_t fs_getattr(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	struct statx st;
	int err = fs_inode_stat(fs, inode, &st);

	(void)in;
	return err ? err : reply_attr(fs, inode, &st, call);
}

/* ---- changes ---- */

/* Which privileges go then is for the host's kernel, by who asks: the guest's always wants all gone. */
static int change_owner(struct fs *fs, uint32_t inode, int fd, const struct fuse_setattr_in *set,
			bool root)
{
	uid_t uid = (set->valid & FATTR_UID) ? fs_map_in(&fs->conf.uids, set->uid) : (uid_t)-1;
	gid_t gid = (set->valid & FATTR_GID) ? fs_map_in(&fs->conf.gids, set->gid) : (gid_t)-1;
	bool keeps;
	int err = 0;

	if (fs->conf.squash)
		return 0;
	keeps = fs_keep_begin(fs, fs->inodes[inode].mode, !root);
	if (fchownat(fd, "", uid, gid, AT_EMPTY_PATH) < 0)
		err = -errno;
	fs_keep_end(fs, keeps);
	return err;
}

/* A path: what is open may be so by O_PATH, which fchmod() does not take. */
static int change_mode(struct fs *fs, uint32_t inode, mode_t mode)
{
	char path[FS_PATH_MAX];
	bool keeps;
	int err;

	/* A link's are not used; some file systems would change them nevertheless. */
	if (S_ISLNK(fs->inodes[inode].mode))
		return -EOPNOTSUPP;
	err = fs_inode_path(fs, inode, path);
	if (err)
		return err;
	keeps = fs_keep_begin(fs, mode, false);
	if (fchmodat(AT_FDCWD, path, mode & 07777, 0) < 0)
		err = -errno;
	fs_keep_end(fs, keeps);
	return err;
}

static int truncate_inode(struct fs *fs, uint32_t inode, const struct fuse_setattr_in *set)
{
	struct fs_handle *handle;
	char path[FS_PATH_MAX];
	int err;

	if (set->valid & FATTR_FH) {
		err = fs_handle_get(fs, set->fh, inode, &handle);
		if (!err && ftruncate(handle->fd, (off_t)set->size) < 0)
			err = -errno;
		return err;
	}
	err = fs_inode_path(fs, inode, path);
	if (err)
		return err;
	return truncate(path, (off_t)set->size) < 0 ? -errno : 0;
}

static int change_size(struct fs *fs, uint32_t inode, const struct fuse_setattr_in *set)
{
	const mode_t mode = fs->inodes[inode].mode;
	bool keeps;
	int err;

	if (set->size > INT64_MAX)
		return -EFBIG;
	if (!S_ISREG(mode))
		return -EINVAL;
	err = fs_dax_make_room(fs, inode, set->size);
	if (err)
		return err;
	keeps = fs_keep_begin(fs, mode, set->valid & FATTR_KILL_SUIDGID);
	err = truncate_inode(fs, inode, set);
	fs_keep_end(fs, keeps);
	return err;
}

static struct timespec time_for(uint32_t valid_bits, uint32_t given, uint32_t now,
				uint64_t seconds, uint32_t ns)
{
	if (valid_bits & now)
		return (struct timespec){ .tv_nsec = UTIME_NOW };
	if (!(valid_bits & given))
		return (struct timespec){ .tv_nsec = UTIME_OMIT };
	return (struct timespec){ .tv_sec = (time_t)seconds, .tv_nsec = ns };
}

static int change_times(int fd, const struct fuse_setattr_in *set)
{
	const struct timespec times[] = {
		time_for(set->valid, FATTR_ATIME, FATTR_ATIME_NOW, set->atime, set->atimensec),
		time_for(set->valid, FATTR_MTIME, FATTR_MTIME_NOW, set->mtime, set->mtimensec),
	};

	/* What is larger has a meaning of its own to the kernel. */
	if (set->atimensec >= NANOSECONDS || set->mtimensec >= NANOSECONDS)
		return -EINVAL;
	return utimensat(fd, "", times, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

ssize_t fs_setattr(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	const struct fuse_setattr_in *set = in;
	struct statx st;
	int err = 0, fd = fs_inode_fd(fs, inode);

	if (fd < 0)
		return fd;
	/* The kernel takes privileges from what changes owners, so the mode comes after. */
	if (set->valid & (FATTR_UID | FATTR_GID))
		err = change_owner(fs, inode, fd, set, !call->header.uid);
	if (!err && set->valid & FATTR_SIZE)
		err = change_size(fs, inode, set);
	if (!err && set->valid & FATTR_MODE)
		err = change_mode(fs, inode, set->mode);
	if (!err && set->valid & (FATTR_ATIME | FATTR_MTIME | FATTR_ATIME_NOW | FATTR_MTIME_NOW))
		err = change_times(fd, set);
	if (!err)
		err = fs_inode_stat(fs, inode, &st);
	return err ? err : reply_attr(fs, inode, &st, call);
}

/* ---- others ---- */

ssize_t fs_readlink(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	int fd = fs_inode_fd(fs, inode);
	ssize_t n;

	(void)in;
	if (fd < 0)
		return fd;
	n = readlinkat(fd, "", call->reply, util_min(call->reply_room, PATH_MAX));
	return n < 0 ? -errno : n;
}

ssize_t fs_statfs(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	struct fuse_statfs_out *out = call->reply;
	int fd = fs_inode_fd(fs, inode);
	struct statfs st;

	(void)in;
	if (fd < 0)
		return fd;
	if (fstatfs(fd, &st) < 0)
		return -errno;
	*out = (struct fuse_statfs_out){ .st = {
		.blocks = st.f_blocks, .bfree = st.f_bfree, .bavail = st.f_bavail,
		.files = st.f_files, .ffree = st.f_ffree, .bsize = (uint32_t)st.f_bsize,
		.namelen = (uint32_t)st.f_namelen, .frsize = (uint32_t)st.f_frsize,
	} };
	return sizeof(*out);
}

ssize_t fs_access(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	const struct fuse_access_in *access_in = in;
	struct statx st;
	int err = fs_inode_stat(fs, inode, &st);

	(void)call;
	/* Permissions are the guest's kernel's to check (default_permissions). */
	if (!err && access_in->mask & W_OK && fs->conf.read_only)
		err = -EROFS;
	return err;
}
