// SPDX-License-Identifier: Apache-2.0
/*
 * Each stage takes away what the stages after it do not need:
 *
 *  1. Limits and no_new_privs: no core dump holds a guest's memory, and no
 *     execve() gains anything from here on. Landlock asks for no_new_privs of
 *     an ordinary user. RLIMIT_NPROC must stay, since it counts threads and
 *     they start later; their filters refuse clone() instead.
 *  2. Namespaces, while root's capabilities are there. An ordinary user gets
 *     them by a user namespace, which wants a single thread. Its ids are not
 *     mapped, but where owners of files have to be told apart, and then only
 *     to themselves: files are still accessed as the user that the kernel
 *     knows, and no id but that one can be had. No PID namespace: a process that has
 *     unshared it cannot start threads any more.
 *  3. An empty, read-only root in the mount namespace. Directories that are
 *     open belong to the old namespace's mounts and stay usable. One that a
 *     thread will have for its working directory becomes a mount of its own,
 *     without a parent: names of sockets lead to what is beneath, and Landlock
 *     before ABI 9 has no say in that.
 *  4. Landlock, after the mounts (it would refuse them): with it those open
 *     directories no longer lead out ("..") nor do more than was asked for.
 *     Where stage 3 is not permitted it is what keeps files out of reach.
 *  5. Capabilities, last of those that need any.
 *  6. Not dumpable: others of the same user cannot trace this process or read
 *     its memory. Last, since stages before it could set it again.
 *
 * What is open keeps working through all of it: KVM, tap, vhost, sockets, the
 * terminal. Permissions were checked when it was opened.
 *
 * seccomp is not here: each thread enters its own filter, and main's, which
 * starts the threads, comes after theirs.
 */
#include "seccomp/jail.h"

#include <cap-ng.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include "core/util.h"

/* An empty file system is mounted over it. KVM's device was opened there, so it exists. */
#define JAIL_MOUNTPOINT "/dev"

struct jail {
	const struct jail_exceptions *exceptions;
	struct jail_report report;
};

/* Whether err says that this host, or a container around us, does not permit a step. */
static bool jail_refused(int err)
{
	return err == EPERM || err == EACCES || err == ENOSYS || err == EOPNOTSUPP;
}

static int jail_limits(struct jail *jail)
{
	const struct rlimit none = { 0 };

	(void)jail;
	if (setrlimit(RLIMIT_CORE, &none) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return 0;
}

static void jail_write(const char *path, const char *text)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd >= 0)
		(void)!write(fd, text, strlen(text));
}

/* Without it all files would seem to be nobody's, which does no harm. */
static void jail_map_ids(uid_t uid, gid_t gid)
{
	char text[32];

	snprintf(text, sizeof(text), "%u %u 1", uid, uid);
	jail_write("/proc/self/uid_map", text);
	/* The kernel wants that of an ordinary user, who could leave a group that is denied something. */
	jail_write("/proc/self/setgroups", "deny");
	snprintf(text, sizeof(text), "%u %u 1", gid, gid);
	jail_write("/proc/self/gid_map", text);
}

static int jail_namespaces(struct jail *jail)
{
	const int flags = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS |
			  CLONE_NEWCGROUP;
	const uid_t uid = geteuid();
	const gid_t gid = getegid();
	int rc;

	/* The mounts are copied, and of all directories that are open only this one goes with them. */
	if (jail->exceptions->cwd >= 0 && fchdir(jail->exceptions->cwd) < 0)
		return -errno;
	rc = unshare(flags);
	if (rc < 0 && errno == EPERM) {
		rc = unshare(flags | CLONE_NEWUSER);
		if (rc == 0 && jail->exceptions->capabilities)
			jail_map_ids(uid, gid);
	}
	/* EINVAL: a kind that the kernel was built without. ENOSPC: the limit of them is 0. */
	if (rc < 0)
		return jail_refused(errno) || errno == EINVAL || errno == ENOSPC ? 0 : -errno;
	jail->report.namespaces = true;
	return 0;
}

static int jail_detach_cwd(struct jail *jail)
{
	_cleanup_close_ int fd = -1;

	if (!jail->report.namespaces || jail->exceptions->cwd < 0)
		return 0;
	fd = open_tree(AT_FDCWD, ".", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	if (fd < 0)
		return jail_refused(errno) ? 0 : -errno;
	if (dup3(fd, jail->exceptions->cwd, O_CLOEXEC) < 0)
		return -errno;
	jail->report.own_cwd = true;
	return 0;
}

static int jail_switch_root(void)
{
	if (syscall(SYS_pivot_root, ".", ".") == 0)
		return umount2(".", MNT_DETACH);
	if (errno != EINVAL)
		return -1;
	/* An initramfs cannot be pivoted away from: cover it. */
	if (mount(".", "/", NULL, MS_MOVE, NULL) < 0)
		return -1;
	return chroot(".");
}

static int jail_empty_root(struct jail *jail)
{
	const unsigned long flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;

	if (!jail->report.namespaces)
		return 0;
	/* Private first, or the mount would show up on the host. EINVAL: a chroot, no mount. */
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return jail_refused(errno) || errno == EINVAL ? 0 : -errno;
	if (mount("microvm", JAIL_MOUNTPOINT, "tmpfs", flags, "nr_blocks=1,nr_inodes=1") < 0 ||
	    chdir(JAIL_MOUNTPOINT) < 0 || jail_switch_root() < 0)
		return jail_refused(errno) ? 0 : -errno;
	jail->report.empty_root = true;
	return 0;
}

static int jail_landlock(struct jail *jail)
{
	_cleanup_close_ int fd = -1;
	int rc = landlock_rules(jail->exceptions->dirs, jail->exceptions->dir_count,
				&jail->report.landlock_abi, &fd);

	return rc < 0 ? rc : landlock_enter(fd);
}

/* Those of keep that we have. */
static int jail_keep_capabilities(uint64_t keep)
{
	uint64_t kept = 0;

	for (unsigned int cap = 0; cap <= CAP_LAST_CAP; cap++)
		if (keep >> cap & 1 && capng_have_capability(CAPNG_PERMITTED, cap))
			kept |= 1ULL << cap;
	/*
	 * The bounding set stays: it limits what execve() may give, which after
	 * no_new_privs is nothing, and emptying it takes a call for each capability.
	 */
	capng_clear(CAPNG_SELECT_ALL);
	for (unsigned int cap = 0; cap <= CAP_LAST_CAP; cap++)
		if (kept >> cap & 1)
			capng_update(CAPNG_ADD, CAPNG_PERMITTED | CAPNG_EFFECTIVE, cap);
	/* Ambient ones go with the permitted (capabilities(7)). */
	return capng_apply(CAPNG_SELECT_CAPS) < 0 ? -EPERM : 0;
}

static int jail_capabilities(struct jail *jail)
{
	/* Uid 0 is a user like any other; EPERM, for one who is not, does no harm. */
	capng_lock();
	jail->report.no_caps = true;
	return jail_keep_capabilities(jail->exceptions->capabilities);
}

int jail_drop_capabilities(void)
{
	return jail_keep_capabilities(0);
}

static int jail_undumpable(struct jail *jail)
{
	(void)jail;
	return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? -errno : 0;
}

int jail_enter(const struct jail_exceptions *exceptions, struct jail_report *report,
	       const char **ret_step)
{
	static const struct {
		const char *name;
		int (*enter)(struct jail *jail);
	} steps[] = {
		{ "limits", jail_limits },
		{ "namespaces", jail_namespaces },
		{ "working directory", jail_detach_cwd },
		{ "empty root", jail_empty_root },
		{ "Landlock", jail_landlock },
		{ "capabilities", jail_capabilities },
		{ "not dumpable", jail_undumpable },
	};
	struct jail jail = { .exceptions = exceptions };

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		int rc = steps[i].enter(&jail);

		if (rc < 0) {
			*ret_step = steps[i].name;
			return rc;
		}
	}
	*report = jail.report;
	return 0;
}
