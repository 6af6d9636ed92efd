// SPDX-License-Identifier: Apache-2.0
/*
 * Locks that the host's processes see, and other guests.
 *
 * A range's lock belongs to an owner of the guest's, a process by and large, however
 * many files it has open; here it belongs to an open file description (F_OFD_SETLK).
 * So each owner that locks a file has one of its own, a handle without a number
 * for the guest. It goes when the owner closes the file, wherever it was opened.
 *
 * A whole file's lock (flock) belongs to what the guest has opened, which is a handle already.
 *
 * Nothing waits here: who wants a lock that somebody has is told so.
 */
#include <fcntl.h>
#include <sys/file.h>
#include "devices/fs/server.h"

/* That of the owner's locks; NULL: it has none. */
static struct fs_handle *lock_handle(const struct fs *fs, uint32_t inode, uint64_t owner)
{
	for (uint32_t i = fs->inodes[inode].handle; i; i = fs->handles[i].next)
		if (fs->handles[i].locks && fs->handles[i].owner == owner)
			return &fs->handles[i];
	return NULL;
}

void fs_unlock(struct fs *fs, uint32_t inode, uint64_t owner)
{
	struct fs_handle *handle = lock_handle(fs, inode, owner);

	if (handle)
		fs_handle_close(fs, fs_handle_fh(fs, handle), inode);
}

uint32_t fs_locked(const struct fs *fs)
{
	for (uint32_t i = 1; i < fs->handle_room; i++)
		if (fs->handles[i].inode && (fs->handles[i].locks || fs->handles[i].locked))
			return fs->handles[i].inode;
	return 0;
}

/* For locks of both kinds, where the host lets us; an owner may have several files open. */
static int open_for_locks(struct fs *fs, uint32_t inode)
{
	static const uint32_t modes[] = { O_RDWR, O_RDONLY, O_WRONLY };
	int fd = -EACCES;

	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		fd = fs_inode_open(fs, inode, modes[i], false);
		if (fd != -EACCES && fd != -EPERM && fd != -EROFS && fd != -ETXTBSY)
			break;
	}
	return fd;
}

static int add_lock_handle(struct fs *fs, uint32_t inode, uint64_t owner,
			   struct fs_handle **ret_handle)
{
	int fd = open_for_locks(fs, inode), err;
	struct fuse_open_out out;

	err = fd < 0 ? fd : fs_handle_add(fs, inode, fd, 0, &out);
	if (!err)
		err = fs_handle_get(fs, out.fh, inode, ret_handle);
	if (err)
		return err == -ENFILE ? -ENOLCK : err;
	(*ret_handle)->locks = true;
	(*ret_handle)->owner = owner;
	return 0;
}

/* The guest's range has its last byte in it, and ends there where a file can end at the most. */
static int range_of(const struct fuse_file_lock *lock, struct flock *ret_range)
{
	if (lock->start > INT64_MAX || lock->end < lock->start ||
	    (lock->type != F_RDLCK && lock->type != F_WRLCK && lock->type != F_UNLCK))
		return -EINVAL;
	*ret_range = (struct flock){
		.l_type = (short)lock->type,
		.l_whence = SEEK_SET,
		.l_start = (off_t)lock->start,
		.l_len = lock->end >= INT64_MAX ? 0 : (off_t)(lock->end - lock->start + 1),
	};
	return 0;
}

static int lock_range(struct fs *fs, uint32_t inode, const struct fuse_lk_in *in)
{
	struct fs_handle *handle = lock_handle(fs, inode, in->owner);
	struct flock range;
	int err = range_of(&in->lk, &range);

	if (!err && !handle) {
		if (range.l_type == F_UNLCK)
			return 0;
		err = add_lock_handle(fs, inode, in->owner, &handle);
	}
	if (err)
		return err;
	if (range.l_type != F_UNLCK)
		handle->pid = in->lk.pid;
	return fcntl(handle->fd, F_OFD_SETLK, &range) < 0 ? -errno : 0;
}

static int lock_file(struct fs_handle *handle, uint32_t type)
{
	int operation = type == F_RDLCK ? LOCK_SH : type == F_WRLCK ? LOCK_EX : LOCK_UN;
	int err = flock(handle->fd, operation | LOCK_NB) < 0 ? -errno : 0;

	/* Who asks for another kind may lose the one that it had. */
	handle->locked = !err && operation != LOCK_UN;
	return err;
}

ssize_t fs_setlk(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	const struct fuse_lk_in *lk_in = in;
	struct fs_handle *handle;
	int err = fs_handle_get(fs, lk_in->fh, inode, &handle);

	(void)call;
	if (!fs->conf.locks)
		return -ENOSYS;
	if (err)
		return err;
	if (lk_in->lk_flags & FUSE_LK_FLOCK)
		return lock_file(handle, lk_in->lk.type);
	return lock_range(fs, inode, lk_in);
}

/* The guest's process that has the lock: it alone sees no other's there. 0: the host's, or several. */
static uint32_t pid_of(const struct fs *fs, uint32_t inode, const struct flock *lock)
{
	for (uint32_t i = fs->inodes[inode].handle; i; i = fs->handles[i].next) {
		struct flock seen = *lock;

		seen.l_type = F_WRLCK;
		seen.l_pid = 0;
		if (fs->handles[i].locks && fcntl(fs->handles[i].fd, F_OFD_GETLK, &seen) == 0 &&
		    seen.l_type == F_UNLCK)
			return fs->handles[i].pid;
	}
	return 0;
}

ssize_t fs_getlk(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	const struct fuse_lk_in *lk_in = in;
	struct fuse_lk_out *out = call->reply;
	struct fs_handle *handle, *own;
	struct flock range;
	int err = fs_handle_get(fs, lk_in->fh, inode, &handle);

	if (!fs->conf.locks)
		return -ENOSYS;
	if (!err)
		err = range_of(&lk_in->lk, &range);
	if (err)
		return err;
	own = lock_handle(fs, inode, lk_in->owner);
	if (fcntl(own ? own->fd : handle->fd, F_OFD_GETLK, &range) < 0)
		return -errno;
	*out = (struct fuse_lk_out){ .lk = { .type = (uint32_t)range.l_type } };
	if (range.l_type != F_UNLCK) {
		out->lk.start = (uint64_t)range.l_start;
		out->lk.end = (uint64_t)(range.l_len ? range.l_start + range.l_len - 1 : INT64_MAX);
		out->lk.pid = pid_of(fs, inode, &range);
	}
	return sizeof(*out);
}
