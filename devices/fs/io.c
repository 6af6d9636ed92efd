// SPDX-License-Identifier: Apache-2.0
/*
 * Operations that come down to one system call which may take the host long. The
 * tables are looked at before and after it, by the thread that has them; the call
 * itself is for any thread, since handles that it needs are held.
 *
 * What is read and written goes straight between files and the guest's memory.
 */
#include <fcntl.h>
#include <sys/uio.h>
#include "devices/fs/server.h"

/* Bytes that are read at once where the host has them: to wake another thread took longer. */
#define AT_ONCE_MAX KIB(64)
/* Of fallocate(), as Linux's driver has them: others move what is behind. */
#define MODES (uint32_t)(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)

/* The rest is for fs_run(), and the handle held until fs_finish(). */
static ssize_t leave(struct fs *fs, struct fs_call *call, struct fs_handle *handle,
		     ssize_t (*run)(const struct fs_call *call))
{
	call->work.run = run;
	call->work.fds[0] = handle->fd;
	call->work.handles[0] = fs_handle_hold(fs, handle);
	return -EINPROGRESS;
}

void fs_run(struct fs_call *call)
{
	call->work.result = call->work.run(call);
}

ssize_t fs_finish(struct fs *fs, struct fs_call *call)
{
	const struct fs_work *work = &call->work;
	struct fuse_write_out *out = call->reply;

	for (size_t i = 0; i < ARRAY_SIZE(work->handles); i++)
		if (work->handles[i])
			fs_handle_put(fs, work->handles[i]);
	if (work->own_fd)
		close(work->fds[0]);
	fs_dax_restore(fs);
	if (work->result < 0 || (call->header.opcode != FUSE_WRITE &&
				 call->header.opcode != FUSE_COPY_FILE_RANGE))
		return work->result;
	*out = (struct fuse_write_out){ .size = (uint32_t)work->result };
	return sizeof(*out);
}

/* ---- data ---- */

/* Of the call's buffers only the first len bytes. */
static void cut(struct fs_call *call, size_t len)
{
	unsigned int count = 0;

	call->data_len = util_min(call->data_len, len);
	for (size_t left = call->data_len; left; count++) {
		struct iovec *iov = &call->data[count];

		iov->iov_len = util_min(iov->iov_len, left);
		left -= iov->iov_len;
	}
	call->data_count = count;
}

static ssize_t read_with(const struct fs_call *call, int flags)
{
	const struct fs_work *work = &call->work;
	ssize_t n = preadv2(work->fds[0], call->data, (int)call->data_count, work->offsets[0], flags);

	return n < 0 ? -errno : n;
}

static ssize_t run_read(const struct fs_call *call)
{
	return read_with(call, 0);
}

/* What the host has in memory, all of it or up to the file's end; else -EAGAIN. */
static ssize_t read_at_once(const struct fs_call *call)
{
	struct iovec beyond = { &(char){ 0 }, 1 };
	ssize_t n = read_with(call, RWF_NOWAIT);

	if (n <= 0 || (size_t)n == call->data_len)
		return n < 0 ? -EAGAIN : n;
	return preadv2(call->work.fds[0], &beyond, 1, call->work.offsets[0] + n, RWF_NOWAIT) == 0 ?
		       n : -EAGAIN;
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
	cut(call, read_in->size);
	call->work.offsets[0] = (off_t)read_in->offset;
	call->work.fds[0] = handle->fd;
	if (call->may_leave && call->data_len <= AT_ONCE_MAX) {
		n = read_at_once(call);
		if (n >= 0)
			return n;
	}
	return leave(fs, call, handle, run_read);
}

static ssize_t run_write(const struct fs_call *call)
{
	const struct fs_work *work = &call->work;
	ssize_t n = pwritev2(work->fds[0], call->data, (int)call->data_count, work->offsets[0],
			     work->flags);

	return n < 0 ? -errno : n;
}

/* What the guest's flags ask of this write. Its cache knows where the end is. */
static int write_flags(const struct fs *fs, uint32_t flags)
{
	int host = 0;

	if (flags & O_APPEND && !(fs->features & FUSE_WRITEBACK_CACHE))
		host |= RWF_APPEND;
	if (flags & O_DSYNC)
		host |= (flags & O_SYNC) == O_SYNC ? RWF_SYNC : RWF_DSYNC;
	return host;
}

ssize_t fs_write(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	const struct fuse_write_in *write_in = in;
	struct fs_handle *handle;
	int err = fs_handle_get(fs, write_in->fh, inode, &handle);

	if (err)
		return err;
	if (write_in->offset > INT64_MAX || write_in->size > call->data_len)
		return -EINVAL;
	err = fs_dax_make_room(fs, inode, write_in->offset);
	if (err)
		return err;
	cut(call, write_in->size);
	call->work.offsets[0] = (off_t)write_in->offset;
	call->work.flags = write_flags(fs, write_in->flags);
	if (!(write_in->write_flags & FUSE_WRITE_KILL_SUIDGID))
		call->work.mode = fs->inodes[inode].mode;
	return leave(fs, call, handle, run_write);
}

/* ---- what is to be on the disk, and where ---- */

static ssize_t run_fsync(const struct fs_call *call)
{
	const struct fs_work *work = &call->work;
	int err = (work->flags & FUSE_FSYNC_FDATASYNC) ? fdatasync(work->fds[0]) :
							 fsync(work->fds[0]);

	return err < 0 ? -errno : 0;
}

ssize_t fs_fsync(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	const struct fuse_fsync_in *fsync_in = in;
	struct fs_handle *handle;
	int err = fs_handle_get(fs, fsync_in->fh, inode, &handle);

	if (err)
		return err;
	call->work.flags = (int)fsync_in->fsync_flags;
	return leave(fs, call, handle, run_fsync);
}

static ssize_t run_fallocate(const struct fs_call *call)
{
	const struct fs_work *work = &call->work;

	return fallocate(work->fds[0], work->flags, work->offsets[0], (off_t)work->len) < 0 ?
		       -errno : 0;
}

ssize_t fs_fallocate(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	const struct fuse_fallocate_in *range = in;
	struct fs_handle *handle;
	int err = fs_handle_get(fs, range->fh, inode, &handle);

	if (err)
		return err;
	if (!util_within(range->offset, range->length, INT64_MAX))
		return -EFBIG;
	if (range->mode & ~MODES)
		return -EOPNOTSUPP;
	if (!(range->mode & FALLOC_FL_KEEP_SIZE))
		err = fs_dax_make_room(fs, inode, range->offset);
	if (err)
		return err;
	if (range->mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE) &&
	    fs_dax_writes(fs, inode, range->offset, range->length))
		return fs_dax_punch(fs, inode, handle->fd, range->offset, range->length);
	call->work.flags = (int)range->mode;
	call->work.offsets[0] = (off_t)range->offset;
	call->work.len = range->length;
	/* Of this and of copies the guest's kernel takes privileges away itself. */
	call->work.mode = fs->inodes[inode].mode;
	return leave(fs, call, handle, run_fallocate);
}

static ssize_t run_copy(const struct fs_call *call)
{
	const struct fs_work *work = &call->work;
	off_t from = work->offsets[0], to = work->offsets[1];
	ssize_t n = copy_file_range(work->fds[0], &from, work->fds[1], &to, work->len, 0);

	return n < 0 ? -errno : n;
}

ssize_t fs_copy_file_range(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	const struct fuse_copy_file_range_in *copy = in;
	uint32_t target = fs_inode_of(fs, copy->nodeid_out);
	struct fs_handle *source, *destination;
	int err = fs_handle_get(fs, copy->fh_in, inode, &source);

	if (!err)
		err = target ? fs_handle_get(fs, copy->fh_out, target, &destination) : -EBADF;
	if (err)
		return err;
	if (copy->off_in > INT64_MAX || copy->off_out > INT64_MAX || copy->flags)
		return -EINVAL;
	/* The reply has 32 bits for it. */
	call->work.len = util_min(copy->len, INT32_MAX & ~0xfff);
	/* What would be shared with the source has no room of its own. Linux writes it then. */
	if (fs_dax_writes(fs, target, copy->off_out, call->work.len))
		return -EOPNOTSUPP;
	err = fs_dax_make_room(fs, target, copy->off_out);
	if (err)
		return err;
	call->work.offsets[0] = (off_t)copy->off_in;
	call->work.offsets[1] = (off_t)copy->off_out;
	call->work.mode = fs->inodes[target].mode;
	call->work.fds[1] = destination->fd;
	call->work.handles[1] = fs_handle_hold(fs, destination);
	return leave(fs, call, source, run_copy);
}

static ssize_t run_syncfs(const struct fs_call *call)
{
	return syncfs(call->work.fds[0]) < 0 ? -errno : 0;
}

/* Of the file system that the guest has mounted there: each of the host's is one to the guest. */
ssize_t fs_syncfs(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	int fd = fs_inode_fd(fs, inode);

	(void)in;
	if (fd < 0)
		return fd;
	fd = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	call->work = (struct fs_work){ .run = run_syncfs, .fds = { fd }, .own_fd = true };
	return -EINPROGRESS;
}
