/* SPDX-License-Identifier: Apache-2.0 */
/* A shared directory without a device: requests to the server, as a guest makes them. */
#ifndef TESTS_UNIT_SHARE_H
#define TESTS_UNIT_SHARE_H

#include <assert.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <cmocka.h>
#include "core/util.h"
#include "devices/fs/fs.h"

#define ROOT FUSE_ROOT_ID

struct share {
	char path[64];
	struct fs *fs;
	struct fs_call call;
	struct iovec data;
	uint32_t uid, gid;
	size_t room; /* of the guest for a reply; 0: enough */
	_Alignas(8) uint8_t args[FS_ARGS_MAX], reply[FS_REPLY_MAX];
};

static inline int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

/* A request whose arguments are parts in a row, ended by NULL: pointers and lengths. */
static inline ssize_t ask(struct share *share, uint32_t opcode, uint64_t node, ...)
{
	size_t len = 0, part;
	const void *from;
	va_list parts;

	va_start(parts, node);
	while ((from = va_arg(parts, const void *))) {
		part = va_arg(parts, size_t);
		memcpy(share->args + len, from, part);
		len += part;
	}
	va_end(parts);
	share->call = (struct fs_call){
		.header = { .opcode = opcode, .nodeid = node,
			    .uid = share->uid, .gid = share->gid },
		.args = share->args, .args_len = len,
		.data = &share->data, .data_count = share->data.iov_len ? 1 : 0,
		.data_len = share->data.iov_len,
		.reply = share->reply, .reply_room = share->room ?: sizeof(share->reply),
	};
	return fs_serve(share->fs, &share->call);
}

#define NAME(name) (const void *)(name), strlen(name) + 1
#define IN(in) (const void *)&(in), sizeof(in)

static inline const struct fuse_entry_out *entry(const struct share *share)
{
	return (const void *)share->reply;
}

/* The node of a name; 0 where there is none. */
static inline uint64_t lookup(struct share *share, uint64_t dir, const char *name)
{
	ssize_t n = ask(share, FUSE_LOOKUP, dir, NAME(name), NULL);

	return n < 0 ? 0 : entry(share)->nodeid;
}

static inline ssize_t init_with(struct share *share, uint32_t flags)
{
	const struct fuse_init_in in = {
		.major = FUSE_KERNEL_VERSION, .minor = 36, .flags = flags, .flags2 = ~0u,
	};

	return ask(share, FUSE_INIT, 0, IN(in), NULL);
}

static inline ssize_t init(struct share *share)
{
	return init_with(share, ~0u);
}

static inline void make_share(struct share *share)
{
	*share = (struct share){ .path = "/tmp/fs.XXXXXX" };
	assert_non_null(mkdtemp(share->path));
	assert_int_equal(chmod(share->path, 0755), 0);
}

static inline void serve_share(struct share *share, const struct fs_conf *conf)
{
	assert_int_equal(fs_open(share->path, conf, &share->fs), 0);
	assert_int_equal(fs_enter(share->fs), 0);
	assert_int_equal(init(share), sizeof(struct fuse_init_out));
	share->uid = geteuid();
	share->gid = getegid();
}

static inline void open_share(struct share *share, const struct fs_conf *conf)
{
	make_share(share);
	serve_share(share, conf);
}

static inline void close_share(struct share *share)
{
	fs_forget(share->fs);
	fs_close(share->fs);
	assert_int_equal(nftw(share->path, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static const struct fs_conf plain = { .xattr = true, .fds = FS_FDS_MIN };

static inline const char *in_share(const struct share *share, const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", share->path, name);
	return path;
}

static inline void host_writes(const struct share *share, const char *name, const char *text)
{
	FILE *file = fopen(in_share(share, name), "w");

	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(fclose(file), 0);
}

/* Before what was made is removed, as that sets errno. */
static inline void say_no_mounts(void)
{
	print_message("skipped: no mounts can be made here, by this user: %s\n", strerror(errno));
}

static inline uint64_t make_dir(struct share *share, uint64_t dir, const char *name)
{
	const struct fuse_mkdir_in in = { .mode = 0755 };

	assert_int_equal(ask(share, FUSE_MKDIR, dir, IN(in), NAME(name), NULL),
			 sizeof(struct fuse_entry_out));
	return entry(share)->nodeid;
}

static inline uint64_t create(struct share *share, uint64_t dir, const char *name, uint32_t mode,
		       uint64_t *ret_node)
{
	const struct fuse_create_in in = { .flags = O_RDWR | O_CREAT, .mode = S_IFREG | mode };
	const struct fuse_open_out *out = (const void *)(entry(share) + 1);

	assert_int_equal(ask(share, FUSE_CREATE, dir, IN(in), NAME(name), NULL),
			 sizeof(struct fuse_entry_out) + sizeof(*out));
	*ret_node = entry(share)->nodeid;
	return out->fh;
}

static inline ssize_t transfer(struct share *share, uint32_t opcode, uint64_t node, uint64_t fh,
			void *data, size_t len, size_t size, uint64_t offset)
{
	const struct fuse_write_in in = { .fh = fh, .offset = offset, .size = (uint32_t)size };
	ssize_t n;

	static_assert(sizeof(struct fuse_read_in) == sizeof(struct fuse_write_in), "one will do");
	share->data = (struct iovec){ data, len };
	n = ask(share, opcode, node, IN(in), NULL);
	share->data = (struct iovec){ 0 };
	return n;
}

static inline int release(struct share *share, uint64_t node, uint64_t fh)
{
	const struct fuse_release_in in = { .fh = fh };

	return (int)ask(share, FUSE_RELEASE, node, IN(in), NULL);
}

static inline void forget(struct share *share, uint64_t node, uint64_t lookups)
{
	const struct fuse_forget_in in = { .nlookup = lookups };

	ask(share, FUSE_FORGET, node, IN(in), NULL);
}

static inline ssize_t getattr(struct share *share, uint64_t node, struct fuse_attr *ret_attr)
{
	const struct fuse_getattr_in in = { 0 };
	ssize_t n = ask(share, FUSE_GETATTR, node, IN(in), NULL);

	if (n > 0)
		*ret_attr = ((const struct fuse_attr_out *)(const void *)share->reply)->attr;
	return n;
}

static inline ssize_t setattr(struct share *share, uint64_t node, struct fuse_setattr_in in)
{
	return ask(share, FUSE_SETATTR, node, IN(in), NULL);
}

static inline ssize_t open_node(struct share *share, uint64_t node, uint32_t flags, uint64_t *ret_fh)
{
	const struct fuse_open_in in = { .flags = flags };
	ssize_t n = ask(share, FUSE_OPEN, node, IN(in), NULL);

	*ret_fh = ((const struct fuse_open_out *)(const void *)share->reply)->fh;
	return n;
}

#endif
