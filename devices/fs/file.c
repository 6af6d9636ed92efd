// SPDX-License-Identifier: Apache-2.0
/* Files: how they are opened and closed. */
#include <fcntl.h>
#include <stdio.h>
#include "devices/fs/server.h"

/*
 * What of the guest's flags is for the host. O_DIRECT is about the guest's cache, and its
 * buffers need not be aligned here; O_APPEND, O_SYNC and O_DSYNC are said again by each write,
 * since the guest may change its mind.
 */
#define FLAGS_PASSED (O_ACCMODE | O_TRUNC)

int fs_host_flags(const struct fs *fs, uint32_t flags)
{
	int host = (int)(flags & FLAGS_PASSED) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;

	/* The guest's cache reads what surrounds a write. */
	if (fs->features & FUSE_WRITEBACK_CACHE && (flags & O_ACCMODE) == O_WRONLY)
		host = (host & ~O_ACCMODE) | O_RDWR;
	return host;
}

static bool writes(uint32_t flags)
{
	return (flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC;
}

uint32_t fs_open_flags(const struct fs *fs, uint32_t inode, uint32_t flags)
{
	uint32_t answer = 0;

	if (fs->conf.cache == FS_CACHE_NEVER || flags & O_DIRECT)
		answer = FOPEN_DIRECT_IO;
	else if (fs->conf.cache == FS_CACHE_ALWAYS)
		answer = FOPEN_KEEP_CACHE;
	/* A close is asked about where it lets go of locks or could tell of a write that failed. */
	if (!(fs->features & FUSE_POSIX_LOCKS) &&
	    (!writes(flags) || fs->inodes[inode].identity.dev == fs->quiet_dev))
		answer |= FOPEN_NOFLUSH;
	return answer;
}

int fs_inode_open(struct fs *fs, uint32_t inode, uint32_t flags, bool kill)
{
	char path[FS_PATH_MAX];
	mode_t mode;
	int fd, err;
	bool keeps;

	if (fs->conf.read_only && writes(flags))
		return -EROFS;
	err = fs_reserve(fs);
	fd = err ? err : fs_inode_fd(fs, inode);
	if (fd < 0)
		return fd;
	/* Of what is open now: a name may lead to something else by the time it is opened. */
	mode = fs->inodes[inode].mode;
	if (!S_ISREG(mode))
		return S_ISDIR(mode) ? -EISDIR : S_ISLNK(mode) ? -ELOOP : -ENXIO;
	snprintf(path, sizeof(path), "%d", fd);
	keeps = fs_keep_begin(fs, mode, kill || !(flags & O_TRUNC));
	fd = openat(fs->proc_fd, path, fs_host_flags(fs, flags));
	/* One that can only be appended to. */
	if (fd < 0 && errno == EPERM && flags & O_APPEND)
		fd = openat(fs->proc_fd, path, fs_host_flags(fs, flags) | O_APPEND);
	if (fd < 0)
		fd = -errno;
	fs_keep_end(fs, keeps);
	return fd;
}

ssize_t fs_open_file(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	const struct fuse_open_in *open_in = in;
	struct fuse_open_out *out = call->reply;
	int fd = fs_inode_open(fs, inode, open_in->flags,
			       open_in->open_flags & FUSE_OPEN_KILL_SUIDGID), err;

	if (fd < 0)
		return fd;
	err = fs_handle_add(fs, inode, fd, fs_open_flags(fs, inode, open_in->flags), out);
	return err ? err : (ssize_t)sizeof(*out);
}

/* What somebody who closes is told: errors of writes that came too late for anybody else. */
ssize_t fs_flush(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	const struct fuse_flush_in *flush = in;
	struct fs_handle *handle;
	int err = fs_handle_get(fs, flush->fh, inode, &handle), fd;

	(void)call;
	if (err)
		return err;
	fs_unlock(fs, inode, flush->lock_owner);
	fd = dup(handle->fd);
	return fd < 0 || close(fd) < 0 ? -errno : 0;
}

ssize_t fs_release(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	const struct fuse_release_in *release = in;

	(void)call;
	fs_handle_close(fs, release->fh, inode);
	return 0;
}

ssize_t fs_lseek(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	const struct fuse_lseek_in *seek = in;
	struct fuse_lseek_out *out = call->reply;
	struct fs_handle *handle;
	int err = fs_handle_get(fs, seek->fh, inode, &handle);
	off_t offset;

	if (err)
		return err;
	/* Others are about a position, which is the guest's. */
	if ((seek->whence != SEEK_DATA && seek->whence != SEEK_HOLE) || handle->dir)
		return -EINVAL;
	offset = lseek(handle->fd, (off_t)seek->offset, (int)seek->whence);
	if (offset < 0)
		return -errno;
	*out = (struct fuse_lseek_out){ .offset = (uint64_t)offset };
	return sizeof(*out);
}
