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
 *     mapped: files are still accessed as the user that the kernel knows, and
 *     no id but that one can be had. No PID namespace: a process that has
 *     unshared it cannot start threads any more.
 *  3. An empty, read-only root in the mount namespace. Directories that are
 *     open belong to the old namespace's mounts and stay usable.
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
#include <linux/landlock.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include "core/util.h"

/* An empty file system is mounted over it. KVM's device was opened there, so it exists. */
#define JAIL_MOUNTPOINT "/dev"

/*
 * Since Linux 5.19, 6.2 and 6.10 (ABI 2, 3, 5), and the whole of what ABI 4 and
 * 6 brought: linux/landlock.h of Linux 6.1 has none of it but the first. See
 * Documentation/userspace-api/landlock.rst, "Previous limitations".
 */
#define JAIL_FS_TRUNCATE (1ULL << 14)
#define JAIL_FS_IOCTL_DEV (1ULL << 15)
#define JAIL_NET_TCP 3ULL      /* bind and connect */
#define JAIL_SCOPE_IPC_ALL 3ULL /* abstract UNIX sockets and signals */

struct jail_ruleset {
	uint64_t handled_access_fs;
	uint64_t handled_access_net; /* ABI 4 */
	uint64_t scoped;             /* ABI 6 */
};

#define JAIL_ACCESS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define JAIL_ACCESS_WRITE                                                          \
	(JAIL_ACCESS_READ | LANDLOCK_ACCESS_FS_WRITE_FILE | JAIL_FS_TRUNCATE |     \
	 LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |          \
	 LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |               \
	 LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |             \
	 LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER)

struct jail {
	const struct jail_dir *dirs;
	size_t dir_count;
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

static int jail_namespaces(struct jail *jail)
{
	const int flags = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS |
			  CLONE_NEWCGROUP;
	int rc = unshare(flags);

	if (rc < 0 && errno == EPERM)
		rc = unshare(flags | CLONE_NEWUSER);
	/* EINVAL: a kind that the kernel was built without. ENOSPC: the limit of them is 0. */
	if (rc < 0)
		return jail_refused(errno) || errno == EINVAL || errno == ENOSPC ? 0 : -errno;
	jail->report.namespaces = true;
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

static struct jail_ruleset jail_ruleset(int abi)
{
	struct jail_ruleset ruleset = {
		/* ABI 1: all up to MAKE_SYM. */
		.handled_access_fs = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1,
	};

	if (abi >= 2)
		ruleset.handled_access_fs |= LANDLOCK_ACCESS_FS_REFER;
	if (abi >= 3)
		ruleset.handled_access_fs |= JAIL_FS_TRUNCATE;
	if (abi >= 4)
		ruleset.handled_access_net = JAIL_NET_TCP;
	if (abi >= 5)
		ruleset.handled_access_fs |= JAIL_FS_IOCTL_DEV;
	if (abi >= 6)
		ruleset.scoped = JAIL_SCOPE_IPC_ALL;
	return ruleset;
}

static int jail_landlock_allow(int ruleset_fd, const struct jail_dir *dir, uint64_t handled)
{
	static const uint64_t access[] = {
		[JAIL_REMOVE] = LANDLOCK_ACCESS_FS_REMOVE_FILE,
		[JAIL_READ] = JAIL_ACCESS_READ,
		[JAIL_WRITE] = JAIL_ACCESS_WRITE,
	};
	const struct landlock_path_beneath_attr rule = {
		.allowed_access = access[dir->access] & handled,
		.parent_fd = dir->fd,
	};

	if (syscall(SYS_landlock_add_rule, ruleset_fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
		return -errno;
	return 0;
}

static int jail_landlock(struct jail *jail)
{
	int abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0,
			       LANDLOCK_CREATE_RULESET_VERSION);
	struct jail_ruleset ruleset = jail_ruleset(abi);
	_cleanup_close_ int fd = -1;
	int rc;

	if (abi < 0)
		return jail_refused(errno) ? 0 : -errno;
	/* An older kernel takes a longer struct when what it does not know is zero. */
	fd = (int)syscall(SYS_landlock_create_ruleset, &ruleset, sizeof(ruleset), 0);
	if (fd < 0)
		return -errno;
	for (size_t i = 0; i < jail->dir_count; i++) {
		rc = jail_landlock_allow(fd, &jail->dirs[i], ruleset.handled_access_fs);
		if (rc < 0)
			return rc;
	}
	if (syscall(SYS_landlock_restrict_self, fd, 0) < 0)
		return -errno;
	jail->report.landlock_abi = abi;
	return 0;
}

static int jail_capabilities(struct jail *jail)
{
	/*
	 * The bounding set; not by libcap-ng, which reads /proc for it three
	 * times over. It ends with EINVAL after the kernel's last one, or at once
	 * with EPERM, without CAP_SETPCAP: what stays there no_new_privs keeps away.
	 */
	for (unsigned long cap = 0; prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0; cap++)
		;
	capng_clear(CAPNG_SELECT_ALL);
	/* Uid 0 is a user like any other. The same EPERM. */
	capng_lock();
	/* Ambient ones go with the permitted (capabilities(7)). */
	if (capng_apply(CAPNG_SELECT_CAPS) < 0)
		return -EPERM;
	jail->report.no_caps = true;
	return 0;
}

static int jail_undumpable(struct jail *jail)
{
	(void)jail;
	return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? -errno : 0;
}

int jail_enter(const struct jail_dir *dirs, size_t dir_count, struct jail_report *report,
	       const char **ret_step)
{
	static const struct {
		const char *name;
		int (*enter)(struct jail *jail);
	} steps[] = {
		{ "limits", jail_limits },
		{ "namespaces", jail_namespaces },
		{ "empty root", jail_empty_root },
		{ "Landlock", jail_landlock },
		{ "capabilities", jail_capabilities },
		{ "not dumpable", jail_undumpable },
	};
	struct jail jail = { .dirs = dirs, .dir_count = dir_count };

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
