// SPDX-License-Identifier: Apache-2.0
/*
 * Extended attributes, by paths: there are no calls for descriptors that are
 * open by O_PATH. Those of links cannot be had that way.
 */
#include <sys/xattr.h>
#include "devices/fs/server.h"

/* Names that the guest may have: what others mean to the host's kernel is not for it. */
static bool allowed(const char *name)
{
	return !strncmp(name, "user.", 5) || !strncmp(name, "security.", 9);
}

static int path_of(struct fs *fs, uint32_t inode, char path[FS_PATH_MAX])
{
	if (!fs->conf.xattr)
		return -ENOSYS;
	if (S_ISLNK(fs->inodes[inode].mode))
		return -EOPNOTSUPP;
	return fs_inode_path(fs, inode, path);
}

/* The attribute that the arguments name; len bytes of a value follow. */
static int take_attribute(struct fs *fs, uint32_t inode, struct fs_call *call, size_t len,
			  char path[FS_PATH_MAX], const char **ret_name)
{
	int err = path_of(fs, inode, path);
	const char *name;

	if (err)
		return err;
	name = fs_take_string(call);
	if (!name || len > call->args_len)
		return -EINVAL;
	if (!allowed(name))
		return -EOPNOTSUPP;
	*ret_name = name;
	return 0;
}

ssize_t fs_setxattr(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	const struct fuse_setxattr_in *set = in; /* the first two members at least */
	size_t more = (fs->features & FUSE_SETXATTR_EXT) ?
			      sizeof(*set) - FUSE_COMPAT_SETXATTR_IN_SIZE : 0;
	char path[FS_PATH_MAX];
	const char *name;
	int err;

	if (call->args_len < more)
		return -EINVAL;
	call->args = (const uint8_t *)call->args + more;
	call->args_len -= more;
	err = take_attribute(fs, inode, call, set->size, path, &name);
	if (err)
		return err;
	return setxattr(path, name, call->args, set->size, (int)set->flags) < 0 ? -errno : 0;
}

/* n bytes there are, or -1. Of size 0 the guest only asks how many. */
static ssize_t reply(struct fs_call *call, uint32_t size, ssize_t n)
{
	struct fuse_getxattr_out *out = call->reply;

	if (n < 0)
		return -errno;
	if (size)
		return n;
	if (call->reply_room < sizeof(*out))
		return -EINVAL;
	*out = (struct fuse_getxattr_out){ .size = (uint32_t)n };
	return sizeof(*out);
}

/* Of size 0 the calls say how much there is. */
static size_t room(const struct fs_call *call, uint32_t size)
{
	return util_min(size, call->reply_room);
}

ssize_t fs_getxattr(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	const struct fuse_getxattr_in *get = in;
	char path[FS_PATH_MAX];
	const char *name;
	int err = take_attribute(fs, inode, call, 0, path, &name);

	if (err)
		return err;
	return reply(call, get->size, getxattr(path, name, call->reply, room(call, get->size)));
}

ssize_t fs_listxattr(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	const struct fuse_getxattr_in *get = in;
	char path[FS_PATH_MAX];
	int err = path_of(fs, inode, path);

	if (err)
		return err;
	return reply(call, get->size, listxattr(path, call->reply, room(call, get->size)));
}

ssize_t fs_removexattr(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	char path[FS_PATH_MAX];
	const char *name;
	int err = take_attribute(fs, inode, call, 0, path, &name);

	(void)in;
	if (err)
		return err;
	return removexattr(path, name) < 0 ? -errno : 0;
}
