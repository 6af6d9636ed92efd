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

ssize_t fs_setxattr(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	const struct fuse_setxattr_in *set = in; /* the first two members at least */
	size_t more = (fs->features & FUSE_SETXATTR_EXT) ?
			      sizeof(*set) - FUSE_COMPAT_SETXATTR_IN_SIZE : 0;
	char path[FS_PATH_MAX];
	int err = path_of(fs, inode, path);
	const char *name;

	if (err)
		return err;
	if (call->args_len < more)
		return -EINVAL;
	call->args = (const uint8_t *)call->args + more;
	call->args_len -= more;
	name = fs_take_string(call);
	if (!name || set->size > call->args_len)
		return -EINVAL;
	if (!allowed(name))
		return -EOPNOTSUPP;
	return setxattr(path, name, call->args, set->size, (int)set->flags) < 0 ? -errno : 0;
}

/* Of size 0 the guest only asks how much room it takes. */
static ssize_t reply_size(struct fs_call *call, ssize_t n)
{
	struct fuse_getxattr_out *out = call->reply;

	if (n < 0)
		return -errno;
	if (call->reply_room < sizeof(*out))
		return -EINVAL;
	*out = (struct fuse_getxattr_out){ .size = (uint32_t)n };
	return sizeof(*out);
}

ssize_t fs_getxattr(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	const struct fuse_getxattr_in *get = in;
	const char *name = fs_take_string(call);
	char path[FS_PATH_MAX];
	int err = path_of(fs, inode, path);
	ssize_t n;

	if (err)
		return err;
	if (!name)
		return -EINVAL;
	if (!allowed(name))
		return -EOPNOTSUPP;
	if (!get->size)
		return reply_size(call, getxattr(path, name, NULL, 0));
	n = getxattr(path, name, call->reply, util_min(get->size, call->reply_room));
	return n < 0 ? -errno : n;
}

ssize_t fs_listxattr(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	const struct fuse_getxattr_in *get = in;
	char path[FS_PATH_MAX];
	int err = path_of(fs, inode, path);
	ssize_t n;

	if (err)
		return err;
	if (!get->size)
		return reply_size(call, listxattr(path, NULL, 0));
	n = listxattr(path, call->reply, util_min(get->size, call->reply_room));
	return n < 0 ? -errno : n;
}

ssize_t fs_removexattr(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	const char *name = fs_take_string(call);
	char path[FS_PATH_MAX];
	int err = path_of(fs, inode, path);

	(void)in;
	if (err)
		return err;
	if (!name)
		return -EINVAL;
	if (!allowed(name))
		return -EOPNOTSUPP;
	return removexattr(path, name) < 0 ? -errno : 0;
}
