// SPDX-License-Identifier: Apache-2.0
/* Whose files are, what others may do with them, and what a change takes away. */
#include <linux/limits.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <spawn.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include "tests/unit/share.h"

#define ACCESS "system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"

static void needs_root(void)
{
	if (geteuid() == 0)
		return;
	print_message("skipped: only root can make files that are others'\n");
	skip();
}

/* A program, which has the capabilities that the server has put aside. */
static void host_runs(const struct share *share, const char *program, const char *name,
		      const char *argument)
{
	const char *const arguments[] = { program, argument, in_share(share, name), NULL };
	int status;
	pid_t pid;

	assert_int_equal(posix_spawnp(&pid, program, NULL, NULL, (char *const *)arguments,
				      environ), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void host_chmod(const struct share *share, const char *name, const char *mode)
{
	host_runs(share, "chmod", name, mode);
}

static void host_chgrp(const struct share *share, const char *name, const char *group)
{
	host_runs(share, "chgrp", name, group);
}

static mode_t mode_of(const struct share *share, const char *name)
{
	struct stat st;

	assert_int_equal(stat(in_share(share, name), &st), 0);
	return st.st_mode & 07777;
}

/* A set-group-ID bit without the right to execute is no privilege: root's change of a group leaves it. */
static void test_a_change_of_owner_leaves_what_the_host_would(void **state)
{
	const struct fuse_setattr_in set = { .valid = FATTR_GID | FATTR_KILL_SUIDGID, .gid = 2000 };
	static const char *const modes[] = { "2465", "2575", "4755", "6777" };
	struct share share;
	uint64_t node;

	(void)state;
	needs_root();
	open_share(&share, &plain);
	host_writes(&share, "file", "");
	host_writes(&share, "twin", "");
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		host_chgrp(&share, "file", "1000");
		host_chgrp(&share, "twin", "1000");
		host_chmod(&share, "file", modes[i]);
		host_chmod(&share, "twin", modes[i]);
		node = lookup(&share, ROOT, "file");
		assert_true(setattr(&share, node, set) > 0);
		host_chgrp(&share, "twin", "2000");
		assert_int_equal(mode_of(&share, "file"), mode_of(&share, "twin"));
	}
	close_share(&share);
}

static void test_owners(void **state)
{
	const struct fs_conf maps = {
		.fds = FS_FDS_MIN, .uids = { 0, 70000, 1000 }, .gids = { 0, 80000, 10 },
	};
	const struct fuse_mkdir_in make = { .mode = 0700 };
	const struct fs_conf squashed = { .fds = FS_FDS_MIN, .squash = true };
	struct share share;
	struct stat st;
	uint64_t node;

	(void)state;
	needs_root();
	open_share(&share, &maps);
	share.uid = 5;
	share.gid = 10;
	create(&share, ROOT, "file", 04755, &node);
	assert_int_equal(entry(&share)->attr.uid, 5);
	assert_int_equal(stat(in_share(&share, "file"), &st), 0);
	assert_int_equal(st.st_uid, 70005);
	assert_int_equal(st.st_gid, 10);
	assert_int_equal(st.st_mode, S_IFREG | 04755);
	make_dir(&share, ROOT, "dir");
	assert_int_equal(stat(in_share(&share, "dir"), &st), 0);
	assert_int_equal(st.st_uid, 70005);
	assert_int_equal(st.st_mode, S_IFDIR | 0755);
	assert_int_equal(ask(&share, FUSE_SYMLINK, ROOT, NAME("link"), NAME("target"), NULL),
			 sizeof(struct fuse_entry_out));
	assert_int_equal(lstat(in_share(&share, "link"), &st), 0);
	assert_int_equal(st.st_uid, 70005);
	assert_int_equal(chown(in_share(&share, "dir"), 1, 2), 0);
	host_chmod(&share, "dir", "0700");
	/* The guest's kernel says who may: it knows more of the user's groups. */
	create(&share, lookup(&share, ROOT, "dir"), "file", 0600, &node);
	share.uid = share.gid = 0xffffffff;
	assert_int_equal(ask(&share, FUSE_MKDIR, ROOT, IN(make), NAME("nobody's"), NULL), -EINVAL);
	assert_int_equal(lookup(&share, ROOT, "nobody's"), 0);
	/* And we are who we were. */
	host_writes(&share, "ours", "");
	assert_int_equal(stat(in_share(&share, "ours"), &st), 0);
	assert_int_equal(st.st_uid, geteuid());
	close_share(&share);

	open_share(&share, &squashed);
	share.uid = 1000;
	create(&share, ROOT, "file", 0644, &node);
	assert_int_equal(entry(&share)->attr.uid, 0);
	assert_int_equal(stat(in_share(&share, "file"), &st), 0);
	assert_int_equal(st.st_uid, 0);
	assert_true(setattr(&share, node,
			    (struct fuse_setattr_in){ .valid = FATTR_UID, .uid = 7 }) > 0);
	assert_int_equal(stat(in_share(&share, "file"), &st), 0);
	assert_int_equal(st.st_uid, 0);
	close_share(&share);
}

/* A file there has the directory's group; a directory also what makes it so. */
static void test_groups_of_directories(void **state)
{
	struct share share;
	struct stat st;
	uint64_t dir, node;

	(void)state;
	needs_root();
	open_share(&share, &plain);
	dir = make_dir(&share, ROOT, "dir");
	assert_int_equal(chown(in_share(&share, "dir"), 0, 77), 0);
	host_chmod(&share, "dir", "02775");
	share.uid = share.gid = 1000;
	create(&share, dir, "file", 0664, &node);
	assert_int_equal(stat(in_share(&share, "dir/file"), &st), 0);
	assert_true(st.st_uid == 1000 && st.st_gid == 77);
	make_dir(&share, dir, "below");
	assert_int_equal(stat(in_share(&share, "dir/below"), &st), 0);
	assert_true(st.st_uid == 1000 && st.st_gid == 77);
	assert_int_equal(st.st_mode & 07777, 02755);
	/* A program of a group that its owner is not in: not by making it there. */
	create(&share, dir, "program", 02755, &node);
	assert_int_equal(mode_of(&share, "dir/program"), 0755);
	share.uid = share.gid = 0;
	create(&share, dir, "root's", 02755, &node);
	assert_int_equal(mode_of(&share, "dir/root's"), 02755);
	close_share(&share);
}

/* Each kind of change, by somebody with CAP_FSETID in the guest and by somebody without. */
static ssize_t change(struct share *share, uint64_t node, uint64_t fh, unsigned int kind, bool kill)
{
	const struct fuse_write_in write_in = {
		.fh = fh, .size = 1, .write_flags = kill ? FUSE_WRITE_KILL_SUIDGID : 0,
	};
	const struct fuse_open_in open_in = {
		.flags = O_WRONLY | O_TRUNC, .open_flags = kill ? FUSE_OPEN_KILL_SUIDGID : 0,
	};
	const struct fuse_create_in create_in = {
		.flags = O_WRONLY | O_CREAT | O_TRUNC, .open_flags = open_in.open_flags,
	};
	const struct fuse_setattr_in set = {
		.valid = FATTR_SIZE | (kill ? FATTR_KILL_SUIDGID : 0), .size = 3,
	};

	switch (kind) {
	case 0:
		share->data = (struct iovec){ (char[]){ "x" }, 1 };
		return ask(share, FUSE_WRITE, node, IN(write_in), NULL);
	case 1:
		return ask(share, FUSE_OPEN, node, IN(open_in), NULL);
	case 2:
		return ask(share, FUSE_CREATE, ROOT, IN(create_in), NAME("file"), NULL);
	default:
		return ask(share, FUSE_SETATTR, node, IN(set), NULL);
	}
}

#define CHANGES 4

static void test_changes_take_privileges(void **state)
{
	struct share share;
	uint64_t node, fh;

	(void)state;
	needs_root();
	open_share(&share, &plain);
	fh = create(&share, ROOT, "file", 0755, &node);
	for (unsigned int kind = 0; kind < CHANGES; kind++) {
		host_chmod(&share, "file", "06755");
		assert_int_equal(lookup(&share, ROOT, "file"), node);
		assert_true(change(&share, node, fh, kind, false) > 0);
		assert_int_equal(mode_of(&share, "file"), 06755);
		assert_true(change(&share, node, fh, kind, true) > 0);
		assert_int_equal(mode_of(&share, "file"), 0755);
		/* Also what the host has made of it since it was seen. */
		assert_int_equal(lookup(&share, ROOT, "file"), node);
		host_chmod(&share, "file", "04700");
		assert_true(change(&share, node, fh, kind, true) > 0);
		assert_int_equal(mode_of(&share, "file"), 0700);
	}
	assert_true(setattr(&share, node, (struct fuse_setattr_in){ .valid = FATTR_MODE,
								    .mode = 06755 }) > 0);
	assert_int_equal(mode_of(&share, "file"), 06755);
	assert_true(setattr(&share, node, (struct fuse_setattr_in){ .valid = FATTR_UID | FATTR_GID,
								    .uid = 5, .gid = 6 }) > 0);
	assert_int_equal(mode_of(&share, "file"), 0755);
	/* Of a group that is none of ours; the guest's kernel knows whose it is. */
	assert_true(setattr(&share, node, (struct fuse_setattr_in){ .valid = FATTR_MODE,
								    .mode = 02755 }) > 0);
	assert_int_equal(mode_of(&share, "file"), 02755);
	close_share(&share);
}

/* ---- files without a name ---- */

static void test_a_file_gets_its_name_later(void **state)
{
	const struct fuse_create_in in = { .flags = O_RDWR, .mode = S_IFREG | 0640 };
	const struct fuse_open_out *opened;
	struct fuse_link_in link_in;
	struct fuse_attr attr = { 0 };
	struct share share;
	uint64_t node, fh;
	char buffer[8] = "text";

	(void)state;
	open_share(&share, &plain);
	opened = (const void *)(entry(&share) + 1);
	if (ask(&share, FUSE_TMPFILE, ROOT, IN(in), NAME("/"), NULL) == -EOPNOTSUPP) {
		close_share(&share);
		print_message("skipped: this file system has no files without names\n");
		skip();
	}
	node = entry(&share)->nodeid;
	fh = opened->fh;
	assert_int_equal(entry(&share)->attr.nlink, 0);
	assert_true(transfer(&share, FUSE_WRITE, node, fh, buffer, 4, 4, 0) > 0);
	assert_true(getattr(&share, node, &attr) > 0);
	assert_true(attr.size == 4 && attr.mode == (S_IFREG | 0640));
	link_in.oldnodeid = node;
	assert_true(ask(&share, FUSE_LINK, ROOT, IN(link_in), NAME("named"), NULL) > 0);
	assert_int_equal(entry(&share)->nodeid, node);
	assert_int_equal(release(&share, node, fh), 0);
	assert_int_equal(mode_of(&share, "named"), 0640);
	/* One that is never linked goes with its handle. */
	assert_true(ask(&share, FUSE_TMPFILE, ROOT, IN(in), NAME("/"), NULL) > 0);
	node = entry(&share)->nodeid;
	assert_int_equal(release(&share, node, opened->fh), 0);
	assert_int_equal(getattr(&share, node, &attr), -ESTALE);
	close_share(&share);
}

/* ---- extended attributes ---- */

static void test_extended_attributes(void **state)
{
	const struct fuse_setxattr_in set = { .size = 5 }, lying = { .size = 500 };
	const struct fuse_getxattr_in ask_size = { 0 }, get = { .size = 64 }, exact = { .size = 5 };
	struct share share;
	uint64_t node;

	(void)state;
	open_share(&share, &plain);
	create(&share, ROOT, "file", 0644, &node);
	if (ask(&share, FUSE_SETXATTR, node, IN(set), NAME("user.a"), "value", (size_t)5, NULL) ==
	    -EOPNOTSUPP) {
		close_share(&share);
		print_message("skipped: this file system has no extended attributes\n");
		skip();
	}
	assert_int_equal(ask(&share, FUSE_GETXATTR, node, IN(ask_size), NAME("user.a"), NULL), 8);
	assert_int_equal(*(uint32_t *)(void *)share.reply, 5);
	assert_int_equal(ask(&share, FUSE_GETXATTR, node, IN(get), NAME("user.a"), NULL), 5);
	assert_memory_equal(share.reply, "value", 5);
	assert_true(ask(&share, FUSE_LISTXATTR, node, IN(get), NULL) >= 7);
	assert_int_equal(ask(&share, FUSE_SETXATTR, node, IN(lying), NAME("user.a"), "v",
			     (size_t)1, NULL), -EINVAL);
	assert_int_equal(ask(&share, FUSE_SETXATTR, node, IN(set), NAME("trusted.a"), "value",
			     (size_t)5, NULL), -EOPNOTSUPP);
	/* Linux has room for just the value. */
	share.room = 5;
	assert_int_equal(ask(&share, FUSE_GETXATTR, node, IN(exact), NAME("user.a"), NULL), 5);
	assert_int_equal(ask(&share, FUSE_GETXATTR, node, IN(ask_size), NAME("user.a"), NULL),
			 -EINVAL);
	share.room = 0;
	assert_int_equal(ask(&share, FUSE_REMOVEXATTR, node, NAME("user.a"), NULL), 0);
	assert_int_equal(ask(&share, FUSE_GETXATTR, node, IN(get), NAME("user.a"), NULL), -ENODATA);
	/* Linux before 5.13 sends half of the arguments. */
	assert_true(init_with(&share, ~(uint32_t)FUSE_SETXATTR_EXT) > 0);
	node = lookup(&share, ROOT, "file");
	assert_int_equal(ask(&share, FUSE_SETXATTR, node, &set,
			     (size_t)FUSE_COMPAT_SETXATTR_IN_SIZE, NAME("user.b"), "value",
			     (size_t)5, NULL), 0);
	assert_int_equal(ask(&share, FUSE_GETXATTR, node, IN(get), NAME("user.b"), NULL), 5);
	close_share(&share);
}

/* What does not fit is refused, and never said to be there. */
static void test_attributes_that_do_not_fit(void **state)
{
	const struct fuse_getxattr_in get = { .size = 64 };
	struct share share;
	uint64_t node;

	(void)state;
	open_share(&share, &plain);
	create(&share, ROOT, "file", 0644, &node);
	if (setxattr(in_share(&share, "file"), "user.a", "value", 5, 0) < 0) {
		close_share(&share);
		print_message("skipped: this file system has no extended attributes\n");
		skip();
	}
	share.room = 4;
	assert_int_equal(ask(&share, FUSE_GETXATTR, node, IN(get), NAME("user.a"), NULL), -ERANGE);
	assert_int_equal(ask(&share, FUSE_LISTXATTR, node, IN(get), NULL), -ERANGE);
	/* Nothing fits, and the guest does not say that it only asks. */
	share.call.args = &get;
	share.call.args_len = sizeof(get);
	share.call.reply_room = 0;
	assert_int_equal(fs_serve(share.fs, &share.call), -ERANGE);
	close_share(&share);
}

static ssize_t set_value(struct share *share, uint64_t node, const char *name, const void *value,
			 size_t len, uint32_t flags)
{
	const struct fuse_setxattr_in set = { .size = (uint32_t)len, .setxattr_flags = flags };

	return ask(share, FUSE_SETXATTR, node, IN(set), NAME(name), value, len, NULL);
}

static ssize_t get_value(struct share *share, uint64_t node, const char *name)
{
	const struct fuse_getxattr_in get = { .size = 4096 };

	return ask(share, FUSE_GETXATTR, node, IN(get), NAME(name), NULL);
}

/* Names of the node, each once. */
static bool is_listed(struct share *share, uint64_t node, const char *name)
{
	const struct fuse_getxattr_in get = { .size = 4096 };
	const char *names = (const char *)share->reply;
	ssize_t n = ask(share, FUSE_LISTXATTR, node, IN(get), NULL);

	assert_true(n >= 0);
	for (ssize_t at = 0; at < n; at += (ssize_t)strlen(names + at) + 1)
		if (!strcmp(names + at, name))
			return true;
	return false;
}

/* ---- ACLs ---- */

struct acl {
	struct posix_acl_xattr_header header;
	struct posix_acl_xattr_entry entries[6];
};

static const struct acl sample_acl = {
	{ POSIX_ACL_XATTR_VERSION },
	{ { ACL_USER_OBJ, 7, ACL_UNDEFINED_ID }, { ACL_USER, 6, 5 },
	  { ACL_GROUP_OBJ, 5, ACL_UNDEFINED_ID }, { ACL_GROUP, 4, 7 },
	  { ACL_MASK, 7, ACL_UNDEFINED_ID }, { ACL_OTHER, 0, ACL_UNDEFINED_ID } },
};

static const struct fs_conf with_acl = {
	.xattr = true, .acl = true, .fds = FS_FDS_MIN,
	.uids = { 0, 70000, 1000 }, .gids = { 0, 80000, 1000 },
};

/* False: the host's file system has none; the test is over. */
static bool open_with_acl(struct share *share)
{
	needs_root();
	open_share(share, &with_acl);
	if (set_value(share, ROOT, DEFAULT, &sample_acl, sizeof(sample_acl), 0) != -EOPNOTSUPP)
		return true;
	close_share(share);
	print_message("skipped: this file system has no ACLs\n");
	return false;
}

static void test_acls_are_translated(void **state)
{
	struct share share;
	struct acl acl;
	uint64_t node;

	(void)state;
	if (!open_with_acl(&share))
		skip();
	create(&share, ROOT, "file", 0644, &node);
	assert_int_equal(set_value(&share, node, ACCESS, &sample_acl, sizeof(acl), 0), 0);
	assert_int_equal(getxattr(in_share(&share, "file"), ACCESS, &acl, sizeof(acl)), sizeof(acl));
	assert_int_equal(acl.entries[1].e_id, 70005);
	assert_int_equal(acl.entries[3].e_id, 80007);
	assert_int_equal(get_value(&share, node, ACCESS), sizeof(acl));
	assert_memory_equal(share.reply, &sample_acl, sizeof(acl));
	assert_true(is_listed(&share, node, ACCESS));
	/* It is the mode, too. */
	assert_int_equal(mode_of(&share, "file"), 0770);
	/* What is none. */
	assert_int_equal(set_value(&share, node, ACCESS, &sample_acl, sizeof(acl) - 3, 0), -EINVAL);
	assert_int_equal(set_value(&share, node, ACCESS, "x", 1, 0), -EINVAL);
	close_share(&share);
}

static void test_acls_decide_about_the_umask(void **state)
{
	const struct fuse_mkdir_in make = { .mode = 0777, .umask = 027 };
	struct share share;
	struct acl acl;

	(void)state;
	if (!open_with_acl(&share))
		skip();
	share.uid = 3;
	assert_true(ask(&share, FUSE_MKDIR, ROOT, IN(make), NAME("inherits"), NULL) > 0);
	assert_int_equal(mode_of(&share, "inherits"), 0770);
	assert_int_equal(getxattr(in_share(&share, "inherits"), ACCESS, &acl, sizeof(acl)),
			 sizeof(acl));
	assert_int_equal(acl.entries[1].e_id, 70005);
	assert_int_equal(ask(&share, FUSE_REMOVEXATTR, ROOT, NAME(DEFAULT), NULL), 0);
	assert_true(ask(&share, FUSE_MKDIR, ROOT, IN(make), NAME("masked"), NULL) > 0);
	assert_int_equal(mode_of(&share, "masked"), 0750);
	/* A guest that has no ACLs masks itself, and cannot name them. */
	assert_true(init_with(&share, ~(uint32_t)(FUSE_POSIX_ACL | FUSE_DONT_MASK)) > 0);
	assert_true(ask(&share, FUSE_MKDIR, ROOT, IN(make), NAME("bare"), NULL) > 0);
	assert_int_equal(mode_of(&share, "bare"), 0777);
	assert_int_equal(get_value(&share, ROOT, ACCESS), -EOPNOTSUPP);
	assert_false(is_listed(&share, lookup(&share, ROOT, "inherits"), ACCESS));
	close_share(&share);
}

static void test_acls_and_groups_of_programs(void **state)
{
	struct share share;
	uint64_t node;

	(void)state;
	if (!open_with_acl(&share))
		skip();
	share.gid = 9;
	create(&share, ROOT, "file", 0755, &node);
	host_chmod(&share, "file", "02755");
	assert_int_equal(lookup(&share, ROOT, "file"), node);
	assert_int_equal(set_value(&share, node, ACCESS, &sample_acl, sizeof(sample_acl), 0), 0);
	assert_int_equal(mode_of(&share, "file"), 02770);
	assert_int_equal(set_value(&share, node, ACCESS, &sample_acl, sizeof(sample_acl),
				   FUSE_SETXATTR_ACL_KILL_SGID), 0);
	assert_int_equal(mode_of(&share, "file"), 0770);
	close_share(&share);
}

/* ---- security labels ---- */

#define LABEL "security.selinux"
#define KEPT "user.virtiofs." LABEL

static const struct fs_conf with_labels = { .xattr = true, .labels = true, .fds = FS_FDS_MIN };

static void test_labels_are_for_who_asks(void **state)
{
	struct share share;

	(void)state;
	open_share(&share, &plain);
	assert_int_equal(set_value(&share, ROOT, LABEL, "l", 1, 0), -EOPNOTSUPP);
	assert_int_equal(get_value(&share, ROOT, LABEL), -EOPNOTSUPP);
	assert_int_equal(set_value(&share, ROOT, KEPT, "l", 1, 0), -EPERM);
	close_share(&share);
}

static void test_labels_are_kept_aside(void **state)
{
	char name[XATTR_NAME_MAX + 1];
	struct share share;
	char value[8];

	(void)state;
	open_share(&share, &with_labels);
	if (set_value(&share, ROOT, LABEL, "label", 5, 0) == -EOPNOTSUPP) {
		close_share(&share);
		print_message("skipped: this file system has no extended attributes\n");
		skip();
	}
	assert_int_equal(getxattr(share.path, KEPT, value, sizeof(value)), 5);
	assert_int_equal(get_value(&share, ROOT, LABEL), 5);
	assert_memory_equal(share.reply, "label", 5);
	assert_true(is_listed(&share, ROOT, LABEL));
	assert_false(is_listed(&share, ROOT, KEPT));
	/* Nobody gets there by another name; file capabilities would outlive a write. */
	assert_int_equal(set_value(&share, ROOT, KEPT, "forged", 6, 0), -EPERM);
	assert_int_equal(get_value(&share, ROOT, KEPT), -EPERM);
	assert_int_equal(set_value(&share, ROOT, "security.capability", "x", 1, 0), -EOPNOTSUPP);
	memset(name, 'n', sizeof(name) - 1);
	memcpy(name, "security.", 9);
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(set_value(&share, ROOT, name, "x", 1, 0), -ERANGE);
	assert_int_equal(ask(&share, FUSE_REMOVEXATTR, ROOT, NAME(LABEL), NULL), 0);
	assert_int_equal(get_value(&share, ROOT, LABEL), -ENODATA);
	close_share(&share);
}

static void test_labels_of_what_is_made(void **state)
{
	const struct {
		struct fuse_secctx_header header;
		struct fuse_secctx context;
	} security = { { 8 + 8 + sizeof(LABEL) + 5, 1 }, { 5, 0 } }, lies = { { 0, 1 }, { 500, 0 } };
	const struct fuse_secctx_header none = { 8, 0 };
	const struct fuse_mkdir_in make = { .mode = 0755 };
	const struct fuse_create_in create_in = { .flags = O_RDWR | O_CREAT, .mode = 0644 };
	struct share share;
	char value[8];

	(void)state;
	open_share(&share, &with_labels);
	if (setxattr(share.path, "user.a", "", 0, 0) < 0) {
		close_share(&share);
		print_message("skipped: this file system has no extended attributes\n");
		skip();
	}
	assert_true(ask(&share, FUSE_MKDIR, ROOT, IN(make), NAME("dir"), IN(security), NAME(LABEL),
			"label", (size_t)5, NULL) > 0);
	assert_int_equal(getxattr(in_share(&share, "dir"), KEPT, value, sizeof(value)), 5);
	assert_true(ask(&share, FUSE_CREATE, ROOT, IN(create_in), NAME("file"), IN(security),
			NAME(LABEL), "label", (size_t)5, NULL) > 0);
	assert_int_equal(getxattr(in_share(&share, "file"), KEPT, value, sizeof(value)), 5);
	/* What can have no label is made without. */
	assert_true(ask(&share, FUSE_SYMLINK, ROOT, NAME("link"), NAME("target"), IN(security),
			NAME(LABEL), "label", (size_t)5, NULL) > 0);
	assert_true(ask(&share, FUSE_MKDIR, ROOT, IN(make), NAME("bare"), IN(none), NULL) > 0);
	/* What is none, or none that may be kept. */
	assert_int_equal(ask(&share, FUSE_MKDIR, ROOT, IN(make), NAME("a"), NULL), -EINVAL);
	assert_int_equal(ask(&share, FUSE_MKDIR, ROOT, IN(make), NAME("a"), IN(lies), NAME(LABEL),
			     "label", (size_t)5, NULL), -EINVAL);
	assert_int_equal(ask(&share, FUSE_MKDIR, ROOT, IN(make), NAME("a"), IN(security),
			     NAME("user.x"), "label", (size_t)5, NULL), -EINVAL);
	assert_int_equal(ask(&share, FUSE_MKDIR, ROOT, IN(make), NAME("a"), IN(security),
			     NAME("security.capability"), "label", (size_t)5, NULL), -EOPNOTSUPP);
	assert_int_equal(lookup(&share, ROOT, "a"), 0);
	assert_int_equal(access(in_share(&share, "a"), F_OK), -1);
	close_share(&share);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_change_of_owner_leaves_what_the_host_would),
		cmocka_unit_test(test_owners),
		cmocka_unit_test(test_groups_of_directories),
		cmocka_unit_test(test_changes_take_privileges),
		cmocka_unit_test(test_a_file_gets_its_name_later),
		cmocka_unit_test(test_extended_attributes),
		cmocka_unit_test(test_attributes_that_do_not_fit),
		cmocka_unit_test(test_acls_are_translated),
		cmocka_unit_test(test_acls_decide_about_the_umask),
		cmocka_unit_test(test_acls_and_groups_of_programs),
		cmocka_unit_test(test_labels_are_for_who_asks),
		cmocka_unit_test(test_labels_are_kept_aside),
		cmocka_unit_test(test_labels_of_what_is_made),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
