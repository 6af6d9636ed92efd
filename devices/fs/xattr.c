// SPDX-License-Identifier: Apache-2.0
/*
 * Extended attributes, by paths: there are no calls for descriptors that are
 * open by O_PATH. Those of links cannot be had that way.
 *
 * Of names that mean something to the host's kernel the guest has ACLs, where
 * both sides agreed on them. Its security labels are its own, which the host
 * keeps among its users' attributes ("user.virtiofs.security.selinux"); the
 * guest cannot name those otherwise.
 */
#include <linux/limits.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <sys/xattr.h>
#include "devices/fs/server.h"

#define HIDDEN "user.virtiofs."
#define SECURITY "security."
/* The host's kernel would have to take it away from what is written. */
#define CAPABILITY "security.capability"

struct attribute {
	char path[FS_PATH_MAX], name[XATTR_NAME_MAX + 1];
};

static bool begins(const char *name, const char *prefix)
{
	return !strncmp(name, prefix, strlen(prefix));
}

static bool is_acl(const char *name)
{
	return !strcmp(name, "system.posix_acl_access") || !strcmp(name, "system.posix_acl_default");
}

/* As the host knows it. */
static int host_name(const struct fs *fs, const char *name, char ret_name[XATTR_NAME_MAX + 1])
{
	const bool label = begins(name, SECURITY) && fs->conf.labels && strcmp(name, CAPABILITY) != 0;

	if (begins(name, HIDDEN))
		return -EPERM;
	if (!label && !begins(name, "user.") && !(is_acl(name) && fs->features & FUSE_POSIX_ACL))
		return -EOPNOTSUPP;
	if ((label ? strlen(HIDDEN) : 0) + strlen(name) > XATTR_NAME_MAX)
		return -ERANGE;
	stpcpy(stpcpy(ret_name, label ? HIDDEN : ""), name);
	return 0;
}

/* As the guest knows it; NULL: it does not. */
static const char *guest_name(const struct fs *fs, const char *name)
{
	char host[XATTR_NAME_MAX + 1];

	if (begins(name, SECURITY))
		return NULL;
	if (begins(name, HIDDEN SECURITY))
		name += strlen(HIDDEN);
	return host_name(fs, name, host) ? NULL : name;
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
			  struct attribute *ret_attribute)
{
	int err = path_of(fs, inode, ret_attribute->path);
	const char *name;

	if (err)
		return err;
	name = fs_take_string(call);
	if (!name || len > call->args_len)
		return -EINVAL;
	return host_name(fs, name, ret_attribute->name);
}

/* The owners in an ACL; what is none is for the kernel to refuse. */
static void map_acl(const struct fs *fs, uint8_t *acl, size_t len,
		    uint32_t (*map)(const struct fs_map *map, uint32_t id))
{
	struct posix_acl_xattr_entry entry;

	for (size_t at = sizeof(struct posix_acl_xattr_header); at + sizeof(entry) <= len;
	     at += sizeof(entry)) {
		memcpy(&entry, acl + at, sizeof(entry));
		if (entry.e_tag == ACL_USER)
			entry.e_id = map(&fs->conf.uids, entry.e_id);
		else if (entry.e_tag == ACL_GROUP)
			entry.e_id = map(&fs->conf.gids, entry.e_id);
		memcpy(acl + at, &entry, sizeof(entry));
	}
}

ssize_t fs_setxattr(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	const struct fuse_setxattr_in *set = in; /* the first two members at least */
	const bool extended = fs->features & FUSE_SETXATTR_EXT;
	size_t more = extended ? sizeof(*set) - FUSE_COMPAT_SETXATTR_IN_SIZE : 0;
	struct attribute attribute;
	uint8_t *value = call->reply;
	bool keeps;
	int err;

	if (call->args_len < more)
		return -EINVAL;
	call->args = (const uint8_t *)call->args + more;
	call->args_len -= more;
	err = take_attribute(fs, inode, call, set->size, &attribute);
	if (!err && set->size > FS_REPLY_MAX)
		err = -E2BIG;
	if (err)
		return err;
	memcpy(value, call->args, set->size);
	if (is_acl(attribute.name))
		map_acl(fs, value, set->size, fs_map_in);
	/* An ACL is a mode, too. */
	keeps = fs_keep_begin(fs, fs->inodes[inode].mode,
			      extended && set->setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID);
	if (setxattr(attribute.path, attribute.name, value, set->size, (int)set->flags) < 0)
		err = -errno;
	fs_keep_end(fs, keeps);
	return err;
}

/* The n bytes there are, whole or not at all. Of size 0 the guest only asks how many. */
static ssize_t reply(struct fs_call *call, uint32_t size, size_t n)
{
	struct fuse_getxattr_out *out = call->reply;

	if (size)
		return n > util_min(size, call->reply_room) ? -ERANGE : (ssize_t)n;
	if (call->reply_room < sizeof(*out))
		return -EINVAL;
	*out = (struct fuse_getxattr_out){ .size = (uint32_t)n };
	return sizeof(*out);
}

ssize_t fs_getxattr(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	const struct fuse_getxattr_in *get = in;
	struct attribute attribute;
	int err = take_attribute(fs, inode, call, 0, &attribute);
	ssize_t n;

	if (err)
		return err;
	n = getxattr(attribute.path, attribute.name, call->reply,
		     util_min(get->size, call->reply_room));
	if (n < 0)
		return -errno;
	if (get->size && is_acl(attribute.name))
		map_acl(fs, call->reply, (size_t)n, fs_map_out);
	return reply(call, get->size, (size_t)n);
}

ssize_t fs_listxattr(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	const struct fuse_getxattr_in *get = in;
	char path[FS_PATH_MAX], *names = call->reply;
	int err = path_of(fs, inode, path);
	size_t kept = 0, len;
	ssize_t n;

	if (err)
		return err;
	n = listxattr(path, names, FS_REPLY_MAX);
	if (n < 0)
		return -errno;
	/* A name of the guest's is no longer than the host's. */
	for (ssize_t at = 0; at < n; at += (ssize_t)len) {
		const char *name = guest_name(fs, names + at);

		len = strlen(names + at) + 1;
		if (!name)
			continue;
		memmove(names + kept, name, strlen(name) + 1);
		kept += strlen(names + kept) + 1;
	}
	return reply(call, get->size, kept);
}

ssize_t fs_removexattr(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	struct attribute attribute;
	int err = take_attribute(fs, inode, call, 0, &attribute);

	(void)in;
	if (err)
		return err;
	return removexattr(attribute.path, attribute.name) < 0 ? -errno : 0;
}

/* ---- labels of what is made ---- */

int fs_take_label(const struct fs *fs, struct fs_call *call, struct fs_label *ret_label)
{
	struct fuse_secctx_header header;
	struct fuse_secctx context;
	const char *name;

	if (!(fs->features & FUSE_SECURITY_CTX))
		return 0;
	if (call->args_len < sizeof(header))
		return -EINVAL;
	memcpy(&header, call->args, sizeof(header));
	if (!header.nr_secctx)
		return 0;
	/* One security module has labels. */
	if (header.nr_secctx > 1 || call->args_len < sizeof(header) + sizeof(context))
		return -EINVAL;
	memcpy(&context, (const uint8_t *)call->args + sizeof(header), sizeof(context));
	call->args = (const uint8_t *)call->args + sizeof(header) + sizeof(context);
	call->args_len -= sizeof(header) + sizeof(context);
	name = fs_take_string(call);
	if (!name || context.size > call->args_len || !begins(name, SECURITY))
		return -EINVAL;
	*ret_label = (struct fs_label){ name, call->args, context.size };
	return 0;
}

int fs_label(struct fs *fs, uint32_t inode, const struct fs_label *label)
{
	const mode_t mode = fs->inodes[inode].mode;
	struct attribute attribute;
	int err;

	/* Others have no attributes of users'; the guest goes by its policy. */
	if (!label->name || (!S_ISREG(mode) && !S_ISDIR(mode)))
		return 0;
	err = host_name(fs, label->name, attribute.name) ?: path_of(fs, inode, attribute.path);
	if (err)
		return err;
	return setxattr(attribute.path, attribute.name, label->value, label->len, 0) < 0 ? -errno : 0;
}
