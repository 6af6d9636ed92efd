// SPDX-License-Identifier: Apache-2.0
/* Open files: what is read and written goes straight between them and the guest's memory. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/uio.h>
#include "devices/fs/server.h"

/*
 * What of the guest's flags is for the host: O_DIRECT is about the guest's
 * cache, and its buffers need not be aligned here.
 */
#define FLAGS_PASSED (O_ACCMODE | O_APPEND | O_TRUNC | O_SYNC | O_DSYNC)

int fs_host_flags(const struct fs *fs, uint32_t flags)
{
	int host = (int)(flags & FLAGS_PASSED) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;

	/* The guest's cache reads what surrounds a write, and knows where the end is. */
	if (fs->features & FUSE_WRITEBACK_CACHE) {
		if ((flags & O_ACCMODE) == O_WRONLY)
			host = (host & ~O_ACCMODE) | O_RDWR;
		host &= ~O_APPEND;
	}
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

/* Of the call's iovecs the first len bytes; cuts the last of them short. */
static unsigned int cut(struct fs_call *call, size_t len)
{
	unsigned int count = 0;

	while (len && count < call->data_count) {
		struct iovec *iov = &call->data[count++];

		iov->iov_len = util_min(iov->iov_len, len);
		len -= iov->iov_len;
	}
	return count;
}

ssize_t fs_read(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	const struct fuse_read_in *read_in = in;
	struct fs_handle *handle;
	int err = fs_handle_get(fs, read_in->fh, inode, &handle);
	ssize_t n;

	if (err)
		return err;
	if (read_in->offset > INT64_MAX)
		return -EINVAL;
	n = preadv2(handle->fd, call->data, (int)cut(call, read_in->size), (off_t)read_in->offset,
		    0);
	return n < 0 ? -errno : n;
}

ssize_t fs_write(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	const struct fuse_write_in *write_in = in;
	struct fuse_write_out *out = call->reply;
	struct fs_handle *handle;
	int err = fs_handle_get(fs, write_in->fh, inode, &handle);
	bool keeps;
	ssize_t n;

	if (err)
		return err;
	if (write_in->offset > INT64_MAX || write_in->size > call->data_len)
		return -EINVAL;
	keeps = fs_keep_begin(fs, fs->inodes[inode].mode,
			      write_in->write_flags & FUSE_WRITE_KILL_SUIDGID);
	n = pwritev2(handle->fd, call->data, (int)cut(call, write_in->size),
		     (off_t)write_in->offset, 0);
	if (n < 0)
		n = -errno;
	fs_keep_end(fs, keeps);
	if (n < 0)
		return n;
	*out = (struct fuse_write_out){ .size = (uint32_t)n };
	return sizeof(*out);
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

ssize_t fs_fsync(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	const struct fuse_fsync_in *fsync_in = in;
	struct fs_handle *handle;
	int err = fs_handle_get(fs, fsync_in->fh, inode, &handle);

	(void)call;
	if (err)
		return err;
	err = (fsync_in->fsync_flags & FUSE_FSYNC_FDATASYNC) ? fdatasync(handle->fd) :
							       fsync(handle->fd);
	return err < 0 ? -errno : 0;
}

ssize_t fs_fallocate(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	const struct fuse_fallocate_in *range = in;
	struct fs_handle *handle;
	int err = fs_handle_get(fs, range->fh, inode, &handle);
	bool keeps;

	(void)call;
	if (err)
		return err;
	if (!util_within(range->offset, range->length, INT64_MAX))
		return -EFBIG;
	/* Of this and of copies the guest's kernel takes privileges away itself. */
	keeps = fs_keep_begin(fs, fs->inodes[inode].mode, false);
	if (fallocate(handle->fd, (int)range->mode, (off_t)range->offset,
		      (off_t)range->length) < 0)
		err = -errno;
	fs_keep_end(fs, keeps);
	return err;
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

ssize_t fs_copy_file_range(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	const struct fuse_copy_file_range_in *copy = in;
	struct fuse_write_out *out = call->reply;
	uint32_t target = fs_inode_of(fs, copy->nodeid_out);
	off_t from = (off_t)copy->off_in, to = (off_t)copy->off_out;
	struct fs_handle *source, *destination;
	int err = fs_handle_get(fs, copy->fh_in, inode, &source);
	bool keeps;
	ssize_t n;

	if (!err)
		err = target ? fs_handle_get(fs, copy->fh_out, target, &destination) : -EBADF;
	if (err)
		return err;
	if (from < 0 || to < 0 || copy->flags)
		return -EINVAL;
	keeps = fs_keep_begin(fs, fs->inodes[target].mode, false);
	/* The reply has 32 bits for it. */
	n = copy_file_range(source->fd, &from, destination->fd, &to,
			    util_min(copy->len, INT32_MAX & ~0xfff), 0);
	if (n < 0)
		n = -errno;
	fs_keep_end(fs, keeps);
	if (n < 0)
		return n;
	*out = (struct fuse_write_out){ .size = (uint32_t)n };
	return sizeof(*out);
}

/* Of the file system that the guest has mounted there: each of the host's is one to the guest. */
ssize_t fs_syncfs(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	_cleanup_close_ int fd = -1;
	int dir_fd = fs_inode_fd(fs, inode);

	(void)in;
	(void)call;
	if (dir_fd < 0)
		return dir_fd;
	fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || syncfs(fd) < 0 ? -errno : 0;
}
