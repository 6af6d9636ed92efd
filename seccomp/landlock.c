// SPDX-License-Identifier: Apache-2.0
#include "seccomp/landlock.h"

#include <linux/landlock.h>
#include <sys/syscall.h>
#include "core/util.h"

/*
 * Since Linux 5.19, 6.2 and 6.10 (ABI 2, 3, 5), and the whole of what ABI 4 and
 * 6 brought: linux/landlock.h of Linux 6.1 has none of it but the first. See
 * Documentation/userspace-api/landlock.rst, "Previous limitations".
 */
#define LANDLOCK_FS_TRUNCATE (1ULL << 14)
#define LANDLOCK_FS_IOCTL_DEV (1ULL << 15)
#define LANDLOCK_NET_TCP 3ULL       /* bind and connect */
#define LANDLOCK_SCOPE_IPC_ALL 3ULL /* abstract UNIX sockets and signals */

struct landlock_ruleset {
	uint64_t handled_access_fs;
	uint64_t handled_access_net; /* ABI 4 */
	uint64_t scoped;             /* ABI 6 */
};

#define LANDLOCK_MAY_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define LANDLOCK_MAY_WRITE                                                      \
	(LANDLOCK_MAY_READ | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_FS_TRUNCATE | \
	 LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |       \
	 LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |            \
	 LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |          \
	 LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER)

static struct landlock_ruleset landlock_ruleset(int abi)
{
	struct landlock_ruleset ruleset = {
		/* ABI 1: all up to MAKE_SYM. */
		.handled_access_fs = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1,
	};

	if (abi >= 2)
		ruleset.handled_access_fs |= LANDLOCK_ACCESS_FS_REFER;
	if (abi >= 3)
		ruleset.handled_access_fs |= LANDLOCK_FS_TRUNCATE;
	if (abi >= 4)
		ruleset.handled_access_net = LANDLOCK_NET_TCP;
	if (abi >= 5)
		ruleset.handled_access_fs |= LANDLOCK_FS_IOCTL_DEV;
	if (abi >= 6)
		ruleset.scoped = LANDLOCK_SCOPE_IPC_ALL;
	return ruleset;
}

static int landlock_allow(int ruleset_fd, const struct landlock_dir *dir, uint64_t handled)
{
	static const uint64_t access[] = {
		[LANDLOCK_REMOVE] = LANDLOCK_ACCESS_FS_REMOVE_FILE,
		[LANDLOCK_READ] = LANDLOCK_MAY_READ,
		[LANDLOCK_WRITE] = LANDLOCK_MAY_WRITE,
	};
	const struct landlock_path_beneath_attr rule = {
		.allowed_access = access[dir->access] & handled,
		.parent_fd = dir->fd,
	};

	if (syscall(SYS_landlock_add_rule, ruleset_fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
		return -errno;
	return 0;
}

/* Whether err says that this kernel has no Landlock, or does not use it. */
static bool landlock_absent(int err)
{
	return err == ENOSYS || err == EOPNOTSUPP || err == EPERM;
}

int landlock_rules(const struct landlock_dir *dirs, size_t dir_count, int *ret_abi, int *ret_fd)
{
	int abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0,
			       LANDLOCK_CREATE_RULESET_VERSION);
	struct landlock_ruleset ruleset = landlock_ruleset(abi);
	_cleanup_close_ int fd = -1;
	int rc;

	if (abi < 0) {
		if (!landlock_absent(errno))
			return -errno;
		*ret_abi = 0;
		*ret_fd = -1;
		return 0;
	}
	/* An older kernel takes a longer struct when what it does not know is zero. */
	fd = (int)syscall(SYS_landlock_create_ruleset, &ruleset, sizeof(ruleset), 0);
	if (fd < 0)
		return -errno;
	for (size_t i = 0; i < dir_count; i++) {
		rc = landlock_allow(fd, &dirs[i], ruleset.handled_access_fs);
		if (rc < 0)
			return rc;
	}
	*ret_abi = abi;
	*ret_fd = util_steal_fd(&fd);
	return 0;
}

int landlock_enter(int rules_fd)
{
	if (rules_fd < 0)
		return 0;
	return syscall(SYS_landlock_restrict_self, rules_fd, 0) < 0 ? -errno : 0;
}
