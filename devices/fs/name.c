// SPDX-License-Identifier: Apache-2.0
/*
 * What happens to names: made, moved, removed.
 *
 * Something new belongs to whoever asked for it. Where that is not us it is
 * made as ours, without permissions for others, and given away before it gets
 * those that were asked for.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include "devices/fs/server.h"

struct owner {
	uid_t uid; /* -1: as it comes */
	gid_t gid;
};

static bool gives_away(const struct owner *owner)
{
	return owner->uid != (uid_t)-1 || owner->gid != (gid_t)-1;
}

static struct owner owner_of(const struct fs *fs, uint32_t dir, const struct fs_call *call)
{
	struct owner owner = { fs_map_in(&fs->conf.uids, call->header.uid),
			       fs_map_in(&fs->conf.gids, call->header.gid) };

	/* An ordinary user can make nothing for others. */
	if (fs->conf.squash || !fs->may_chown || owner.uid == fs->uid)
		owner.uid = (uid_t)-1;
	/* What such a directory has is its group's. */
	if (fs->conf.squash || !fs->may_chown || owner.gid == fs->gid ||
	    fs->inodes[dir].mode & S_ISGID)
		owner.gid = (gid_t)-1;
	return owner;
}

static mode_t first_mode(const struct owner *owner, mode_t mode)
{
	return gives_away(owner) ? mode & (S_IFMT | S_IRWXU) : mode & (S_IFMT | 07777);
}

/* To its owner, with the permissions that were asked for. */
static int give_away(const struct fs *fs, uint32_t dir, int fd, const char *path,
		     const struct owner *owner, mode_t mode)
{
	if (!gives_away(owner))
		return 0;
	if (fchownat(fd, "", owner->uid, owner->gid, AT_EMPTY_PATH) < 0)
		return -errno;
	if (S_ISLNK(mode))
		return 0;
	if (S_ISDIR(mode))
		mode |= fs->inodes[dir].mode & S_ISGID;
	return fchmodat(AT_FDCWD, path, mode & 07777, 0) < 0 ? -errno : 0;
}

static void remove_again(int dir_fd, const char *name, mode_t mode)
{
	(void)unlinkat(dir_fd, name, S_ISDIR(mode) ? AT_REMOVEDIR : 0);
}

/* Whether that is what we made: not something of the host's that has got its name meanwhile. */
static bool is_ours(const struct fs *fs, const struct statx *st, mode_t mode)
{
	return !((st->stx_mode ^ mode) & S_IFMT) && st->stx_uid == fs->uid &&
	       (S_ISDIR(mode) || st->stx_nlink == 1) && (S_ISLNK(mode) || !(st->stx_mode & 077));
}

/* What was just made by that name; it goes again where it cannot be given away. */
static ssize_t reply_made(struct fs *fs, uint32_t dir, const char *name, mode_t mode,
			  struct fs_call *call)
{
	const struct owner owner = owner_of(fs, dir, call);
	struct fuse_entry_out *out = call->reply;
	char path[FS_PATH_MAX];
	struct statx st;
	uint32_t inode;
	bool ours = true;
	int err = fs_inode_find(fs, dir, name, &st, &inode);

	if (err)
		return err;
	fs_inode_remember(fs, inode);
	if (gives_away(&owner)) {
		ours = is_ours(fs, &st, mode);
		err = ours ? fs_inode_path(fs, inode, path) : -ESTALE;
		if (!err)
			err = give_away(fs, dir, fs_inode_fd(fs, inode), path, &owner, mode);
		if (!err)
			err = fs_inode_stat(fs, inode, &st);
	}
	if (err) {
		int fd = ours ? fs_inode_fd(fs, dir) : -1;

		if (fd >= 0)
			remove_again(fd, name, mode);
		fs_inode_unname(fs, inode);
		fs_inode_forget(fs, inode, 1);
		return err;
	}
	fs_fill_entry(fs, inode, &st, out);
	return sizeof(*out);
}

ssize_t fs_lookup(struct fs *fs, uint32_t dir, const void *in, struct fs_call *call)
{
	const char *name = fs_take_name(call);

	(void)in;
	return name ? fs_reply_entry(fs, dir, name, call->reply) : -EINVAL;
}

ssize_t fs_mknod(struct fs *fs, uint32_t dir, const void *in, struct fs_call *call)
{
	const struct fuse_mknod_in *make = in;
	const char *name = fs_take_name(call);
	const struct owner owner = owner_of(fs, dir, call);
	int fd = fs_inode_fd(fs, dir);

	if (!name)
		return -EINVAL;
	/* Devices would be the host's. */
	if (!S_ISREG(make->mode) && !S_ISFIFO(make->mode) && !S_ISSOCK(make->mode))
		return -EPERM;
	if (fd < 0)
		return fd;
	if (mknodat(fd, name, first_mode(&owner, make->mode), 0) < 0)
		return -errno;
	return reply_made(fs, dir, name, make->mode, call);
}

ssize_t fs_mkdir(struct fs *fs, uint32_t dir, const void *in, struct fs_call *call)
{
	const struct fuse_mkdir_in *make = in;
	const char *name = fs_take_name(call);
	const struct owner owner = owner_of(fs, dir, call);
	int fd = fs_inode_fd(fs, dir);

	if (!name)
		return -EINVAL;
	if (fd < 0)
		return fd;
	if (mkdirat(fd, name, first_mode(&owner, make->mode)) < 0)
		return -errno;
	return reply_made(fs, dir, name, S_IFDIR | (make->mode & 07777), call);
}

ssize_t fs_symlink(struct fs *fs, uint32_t dir, const void *in, struct fs_call *call)
{
	const char *name = fs_take_name(call), *target = fs_take_string(call);
	int fd = fs_inode_fd(fs, dir);

	(void)in;
	if (!name || !target)
		return -EINVAL;
	if (fd < 0)
		return fd;
	if (symlinkat(target, fd, name) < 0)
		return -errno;
	return reply_made(fs, dir, name, S_IFLNK | 0777, call);
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

static ssize_t remove_name(struct fs *fs, uint32_t dir, int flags, struct fs_call *call)
{
	const char *name = fs_take_name(call);
	uint32_t inode;
	int fd;

	if (!name)
		return -EINVAL;
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
	int err = fs_handle_add(fs, inode, fd, fs_open_flags(fs, flags), out);

	return err ? err : (ssize_t)(sizeof(struct fuse_entry_out) + sizeof(*out));
}

/* Takes fd, of a file that has just been made by that name, over. */
static ssize_t reply_created(struct fs *fs, uint32_t dir, const char *name, int fd,
			     const struct fuse_create_in *create, struct fs_call *call)
{
	const struct owner owner = owner_of(fs, dir, call);
	char path[FS_PATH_MAX];
	struct statx st;
	uint32_t inode;
	ssize_t n;
	int err;

	snprintf(path, sizeof(path), "%d", fd);
	err = give_away(fs, dir, fd, path, &owner, S_IFREG | (create->mode & 07777));
	if (!err)
		err = fs_stat(fd, "", &st);
	if (!err)
		err = fs_inode_add(fs, dir, name, &st, &inode);
	if (err) {
		close(fd);
		return err;
	}
	fs_inode_remember(fs, inode);
	fs_fill_entry(fs, inode, &st, call->reply);
	n = reply_opened(fs, inode, fd, create->flags, call);
	if (n < 0)
		fs_inode_forget(fs, inode, 1);
	return n;
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
	fd = fs_inode_open(fs, inode, create->flags);
	n = fd < 0 ? fd : reply_opened(fs, inode, fd, create->flags, call);
	if (n < 0)
		fs_inode_forget(fs, inode, 1);
	return n;
}

ssize_t fs_create(struct fs *fs, uint32_t dir, const void *in, struct fs_call *call)
{
	const struct fuse_create_in *create = in;
	const char *name = fs_take_name(call);
	const struct owner owner = owner_of(fs, dir, call);
	int dir_fd, fd, err = fs_reserve(fs);

	if (!name)
		return -EINVAL;
	if (err)
		return err;
	dir_fd = fs_inode_fd(fs, dir);
	if (dir_fd < 0)
		return dir_fd;
	if (!fs_handle_free(fs))
		return -ENFILE;
	/* O_EXCL: nothing that is there is opened, be it a device. */
	fd = openat(dir_fd, name,
		    fs_host_flags(fs, create->flags) | O_CREAT | O_EXCL | O_NOFOLLOW,
		    first_mode(&owner, create->mode) & 07777);
	if (fd >= 0) {
		ssize_t n = reply_created(fs, dir, name, fd, create, call);

		if (n < 0)
			remove_again(dir_fd, name, S_IFREG);
		return n;
	}
	if (errno != EEXIST || create->flags & O_EXCL)
		return -errno;
	return open_instead(fs, dir, name, create, call);
}
