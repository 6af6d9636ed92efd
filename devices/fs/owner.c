// SPDX-License-Identifier: Apache-2.0
/*
 * As whom we act.
 *
 * Something new belongs to the guest's user from its first moment: the thread
 * makes it with that user's ids for file systems (setfsuid(2)), which are its
 * own. The other capabilities stay in effect meanwhile: who may make what is
 * for the guest's kernel to say, which knows all groups of the user's.
 *
 * CAP_FSETID is in effect only for what somebody does who has it in the guest.
 * So it is the host's kernel that takes set-user-id and the like from a file
 * that others change, always and at once, whatever we know about its mode.
 */
#include <linux/capability.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include "devices/fs/server.h"

#define FSETID (UINT64_C(1) << CAP_FSETID)
#define NOBODY ((uid_t)-1)

static void set_effective(const struct fs *fs, uint64_t caps)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	const struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {
		{ .effective = (uint32_t)caps, .permitted = (uint32_t)fs->caps },
		{ .effective = (uint32_t)(caps >> 32), .permitted = (uint32_t)(fs->caps >> 32) },
	};

	/* Fewer than are permitted: that is always granted. */
	if (fs->caps)
		(void)syscall(SYS_capset, &header, data);
}

static void set_ids(uid_t uid, gid_t gid)
{
	setfsgid(gid);
	setfsuid(uid);
}

/* The calls tell no errors, but who one was. */
static bool become(uid_t uid, gid_t gid)
{
	set_ids(uid, gid);
	return (uid_t)setfsuid(NOBODY) == uid && (gid_t)setfsgid(NOBODY) == gid;
}

void fs_own_enter(struct fs *fs)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };

	fs->uid = geteuid();
	fs->gid = getegid();
	if (syscall(SYS_capget, &header, data) == 0)
		fs->caps = (uint64_t)data[1].permitted << 32 | data[0].permitted;
	/* In a user namespace without a map there is nobody else, whatever the capabilities. */
	fs->acts = become(!fs->uid, !fs->gid);
	set_ids(fs->uid, fs->gid);
	/* Ours are not the guest's user's. The library would do it to all threads. */
	if (fs->acts)
		(void)syscall(SYS_setgroups, 0, NULL);
	set_effective(fs, fs->caps & ~FSETID);
}

/* ---- making ---- */

/* The descriptor of what is opened; 0. */
static int make(int dir_fd, const struct fs_making *making)
{
	const mode_t mode = making->mode & 07777;
	int rc;

	if (making->open_flags)
		rc = openat(dir_fd, making->name, making->open_flags, mode);
	else if (making->target)
		rc = symlinkat(making->target, dir_fd, making->name);
	else if (S_ISDIR(making->mode))
		rc = mkdirat(dir_fd, making->name, mode);
	else
		rc = mknodat(dir_fd, making->name, making->mode & (S_IFMT | 07777), 0);
	return rc < 0 ? -errno : rc;
}

int fs_make(const struct fs *fs, int dir_fd, const struct fs_making *making,
	    const struct fuse_in_header *asker)
{
	const bool acts = fs->acts && !fs->conf.squash;
	const uid_t uid = acts ? fs_map_in(&fs->conf.uids, asker->uid) : fs->uid;
	const gid_t gid = acts ? fs_map_in(&fs->conf.gids, asker->gid) : fs->gid;
	const bool other = uid != fs->uid || gid != fs->gid;
	/* In a directory that has a group of its own; root may give what it makes to any. */
	const bool keeps = !asker->uid && making->mode & S_ISGID;
	int rc = 0;

	/* Where there is a default ACL it is not for the umask, which only the kernel knows. */
	umask((fs->features & FUSE_DONT_MASK) ? making->umask & 0777 : 0);
	if (other && !become(uid, gid))
		rc = -EINVAL;
	if (other || keeps)
		set_effective(fs, keeps ? fs->caps : fs->caps & ~FSETID);
	if (!rc)
		rc = make(dir_fd, making);
	if (other)
		set_ids(fs->uid, fs->gid);
	if (other || keeps)
		set_effective(fs, fs->caps & ~FSETID);
	return rc;
}

/* ---- changing ---- */

bool fs_keep_begin(const struct fs *fs, uint32_t mode, bool kill)
{
	const bool keeps = !kill && mode & (S_ISUID | S_ISGID);

	if (keeps)
		set_effective(fs, fs->caps);
	return keeps;
}

void fs_keep_end(const struct fs *fs, bool keeps)
{
	if (keeps)
		set_effective(fs, fs->caps & ~FSETID);
}
