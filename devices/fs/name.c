// SPDX-License-Identifier: Apache-2.0
/* What happens to names: made, moved, removed. */
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include "devices/fs/server.h"

/* Makes something by that name for whoever asks; what cannot have its label is not to be. */
static ssize_t make(struct fs *fs, uint32_t dir, struct fs_making *making, struct fs_call *call)
{
	const struct fuse_entry_out *entry = call->reply;
	int err = fs_take_label(fs, call, &making->label), fd = err ? err : fs_inode_fd(fs, dir);
	uint32_t inode;
	ssize_t n;

	if (fd < 0)
		return fd;
	err = fs_make(fs, fd, making, &call->header);
	n = err ? err : fs_reply_entry(fs, dir, making->name, call->reply);
	if (n < 0)
		return n;
	inode = fs_inode_of(fs, entry->nodeid);
	err = fs_label(fs, inode, &making->label);
	if (!err)
		return n;
	(void)unlinkat(fs_inode_fd(fs, dir), making->name,
		       S_ISDIR(making->mode) ? AT_REMOVEDIR : 0);
	fs_inode_unname(fs, inode);
	fs_inode_forget(fs, inode, 1);
	return err;
}

ssize_t fs_lookup(struct fs *fs, uint32_t dir, const void *in, struct fs_call *call)
{
	const char *name = fs_take_name(call);

	(void)in;
	return name ? fs_reply_entry(fs, dir, name, call->reply) : -EINVAL;
}

ssize_t fs_mknod(struct fs *fs, uint32_t dir, const void *in, struct fs_call *call)
{
	const struct fuse_mknod_in *mknod_in = in;
	struct fs_making making = { .name = fs_take_name(call), .mode = mknod_in->mode,
				    .umask = mknod_in->umask };

	if (!making.name)
		return -EINVAL;
	/* Devices would be the host's. */
	if (!S_ISREG(making.mode) && !S_ISFIFO(making.mode) && !S_ISSOCK(making.mode))
		return -EPERM;
	return make(fs, dir, &making, call);
}

ssize_t fs_mkdir(struct fs *fs, uint32_t dir, const void *in, struct fs_call *call)
{
	const struct fuse_mkdir_in *mkdir_in = in;
	struct fs_making making = { .name = fs_take_name(call), .umask = mkdir_in->umask,
				    .mode = S_IFDIR | (mkdir_in->mode & 07777) };

	return making.name ? make(fs, dir, &making, call) : -EINVAL;
}

ssize_t fs_symlink(struct fs *fs, uint32_t dir, const void *in, struct fs_call *call)
{
	const char *name = fs_take_name(call);
	struct fs_making making = { .name = name, .target = fs_take_string(call) };

	(void)in;
	return name && making.target ? make(fs, dir, &making, call) : -EINVAL;
}

ssize_t fs_link(struct fs *fs, uint32_t dir, const void *in, struct fs_call *call)
{
	const struct fuse_link_in *link_in = in;
	const char *name = fs_take_name(call);
	uint32_t inode = fs_inode_of(fs, link_in->oldnodeid);
	char path[FS_PATH_MAX];
	int fd, dir_fd, err;

	if (!name)
		return -EINVAL;
	if (!inode)
		return -ESTALE;
	err = fs_inode_fds(fs, inode, dir, &fd, &dir_fd);
	if (err)
		return err;
	snprintf(path, sizeof(path), "%d", fd);
	if (linkat(AT_FDCWD, path, dir_fd, name, AT_SYMLINK_FOLLOW) < 0)
		return -errno;
	return fs_reply_entry(fs, dir, name, call->reply);
}

/*
 * -EBUSY: another file system is mounted there. Whoever removes or moves the name from another
 * mount namespace, as we do, would take it away from the host.
 */
static int check_mount(struct fs *fs, uint32_t dir, const char *name)
{
	const uint64_t mount = fs->inodes[dir].identity.mount;
	uint32_t inode = fs_inode_named(fs, dir, name);
	struct statx st;
	int fd;

	if (inode)
		return fs->inodes[inode].identity.mount == mount ? 0 : -EBUSY;
	fd = fs_inode_fd(fs, dir);
	if (fd < 0)
		return fd;
	/* What is not there is for the call itself to tell. */
	if (fs_stat(fd, name, &st) < 0 || !(st.stx_mask & STATX_MNT_ID))
		return 0;
	return st.stx_mnt_id == mount ? 0 : -EBUSY;
}

static ssize_t remove_name(struct fs *fs, uint32_t dir, int flags, struct fs_call *call)
{
	const char *name = fs_take_name(call);
	uint32_t inode;
	int fd, err;

	if (!name)
		return -EINVAL;
	err = check_mount(fs, dir, name);
	if (err)
		return err;
	inode = fs_inode_named(fs, dir, name);
	fs_inode_hold(fs, inode);
	fd = fs_inode_fd(fs, dir);
	if (fd < 0)
		return fd;
	if (unlinkat(fd, name, flags) < 0)
		return -errno;
	if (inode)
		fs_inode_unname(fs, inode);
	return 0;
}

ssize_t fs_unlink(struct fs *fs, uint32_t dir, const void *in, struct fs_call *call)
{
	(void)in;
	return remove_name(fs, dir, 0, call);
}

ssize_t fs_rmdir(struct fs *fs, uint32_t dir, const void *in, struct fs_call *call)
{
	(void)in;
	return remove_name(fs, dir, AT_REMOVEDIR, call);
}

static ssize_t move(struct fs *fs, uint32_t from, uint64_t node, unsigned int flags,
		    struct fs_call *call)
{
	const char *name = fs_take_name(call), *new_name = fs_take_name(call);
	uint32_t to = fs_inode_of(fs, node), moved, other;
	int from_fd, to_fd, err;

	if (!name || !new_name || flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	if (!to)
		return -ESTALE;
	err = check_mount(fs, from, name) ?: check_mount(fs, to, new_name);
	if (err)
		return err;
	moved = fs_inode_named(fs, from, name);
	other = fs_inode_named(fs, to, new_name);
	fs_inode_hold(fs, other);
	err = fs_inode_fds(fs, from, to, &from_fd, &to_fd);
	if (err)
		return err;
	/* The library would make another call of it where there are no flags. */
	if (syscall(SYS_renameat2, from_fd, name, to_fd, new_name, flags) < 0)
		return -errno;
	/* Two names of one file: nothing happened. */
	if (moved && moved == other)
		return 0;
	if (other && flags & RENAME_EXCHANGE)
		fs_inode_rename(fs, other, from, name);
	else if (other)
		fs_inode_unname(fs, other);
	if (moved)
		fs_inode_rename(fs, moved, to, new_name);
	return 0;
}

ssize_t fs_rename(struct fs *fs, uint32_t dir, const void *in, struct fs_call *call)
{
	const struct fuse_rename_in *rename_in = in;

	return move(fs, dir, rename_in->newdir, 0, call);
}

ssize_t fs_rename2(struct fs *fs, uint32_t dir, const void *in, struct fs_call *call)
{
	const struct fuse_rename2_in *rename_in = in;

	return move(fs, dir, rename_in->newdir, rename_in->flags, call);
}

/* ---- files that are made and opened at once ---- */

/* Adds the answer to an open to that of an entry. */
static ssize_t reply_opened(struct fs *fs, uint32_t inode, int fd, uint32_t flags,
			    struct fs_call *call)
{
	struct fuse_open_out *out = (void *)((struct fuse_entry_out *)call->reply + 1);
	int err = fs_handle_add(fs, inode, fd, fs_open_flags(fs, inode, flags), out);

	return err ? err : (ssize_t)(sizeof(struct fuse_entry_out) + sizeof(*out));
}

/* Takes fd over, of a file that has just been made; one of O_TMPFILE has no name. */
static ssize_t reply_created(struct fs *fs, uint32_t dir, const struct fs_making *making, int fd,
			     uint32_t flags, struct fs_call *call)
{
	struct fuse_entry_out *entry = call->reply;
	const struct fuse_open_out *opened = (void *)(entry + 1);
	const bool named = making->open_flags & O_CREAT;
	struct statx st;
	uint32_t inode;
	ssize_t n;
	int err = fs_stat(fd, "", &st);

	if (!err)
		err = fs_inode_add(fs, dir, named ? making->name : "", &st, &inode);
	if (err) {
		close(fd);
		return err;
	}
	fs_inode_remember(fs, inode);
	if (!named)
		fs_inode_unname(fs, inode);
	fs_fill_entry(fs, inode, &st, entry);
	n = reply_opened(fs, inode, fd, flags, call);
	err = n < 0 ? 0 : fs_label(fs, inode, &making->label);
	if (err)
		fs_handle_close(fs, opened->fh, inode);
	if (n < 0 || err)
		fs_inode_forget(fs, inode, 1);
	return err ? err : n;
}

/* What somebody else made by that name meanwhile. */
static ssize_t open_instead(struct fs *fs, uint32_t dir, const char *name,
			    const struct fuse_create_in *create, struct fs_call *call)
{
	ssize_t n = fs_reply_entry(fs, dir, name, call->reply);
	const struct fuse_entry_out *entry = call->reply;
	uint32_t inode;
	int fd;

	if (n < 0)
		return n;
	inode = fs_inode_of(fs, entry->nodeid);
	fd = fs_inode_open(fs, inode, create->flags, create->open_flags & FUSE_OPEN_KILL_SUIDGID);
	n = fd < 0 ? fd : reply_opened(fs, inode, fd, create->flags, call);
	if (n < 0)
		fs_inode_forget(fs, inode, 1);
	return n;
}

/* Makes a file and opens it, once it is sure that there is room for a handle. */
static ssize_t make_file(struct fs *fs, uint32_t dir, struct fs_making *making, uint32_t flags,
			 struct fs_call *call)
{
	int err = fs_take_label(fs, call, &making->label), fd;
	ssize_t n;

	if (!err)
		err = fs_reserve(fs);
	fd = err ? err : fs_inode_fd(fs, dir);
	if (fd < 0)
		return fd;
	if (!fs_handle_free(fs))
		return -ENFILE;
	fd = fs_make(fs, fd, making, &call->header);
	if (fd < 0)
		return fd;
	n = reply_created(fs, dir, making, fd, flags, call);
	if (n < 0 && making->open_flags & O_CREAT)
		(void)unlinkat(fs_inode_fd(fs, dir), making->name, 0);
	return n;
}

ssize_t fs_create(struct fs *fs, uint32_t dir, const void *in, struct fs_call *call)
{
	const struct fuse_create_in *create = in;
	struct fs_making making = {
		.name = fs_take_name(call), .mode = create->mode, .umask = create->umask,
		/* O_EXCL: nothing that is there is opened, be it a device. */
		.open_flags = fs_host_flags(fs, create->flags) | O_CREAT | O_EXCL | O_NOFOLLOW,
	};
	ssize_t n;

	if (!making.name)
		return -EINVAL;
	n = make_file(fs, dir, &making, create->flags, call);
	if (n == -EEXIST && !(create->flags & O_EXCL))
		return open_instead(fs, dir, making.name, create, call);
	return n;
}

/* A file without a name, until it is linked. */
ssize_t fs_tmpfile(struct fs *fs, uint32_t dir, const void *in, struct fs_call *call)
{
	const struct fuse_create_in *create = in;
	struct fs_making making = {
		.name = ".", .mode = create->mode, .umask = create->umask,
		.open_flags = fs_host_flags(fs, create->flags) | O_TMPFILE |
			      (int)(create->flags & O_EXCL),
	};

	return fs_take_string(call) ? make_file(fs, dir, &making, create->flags, call) : -EINVAL;
}
