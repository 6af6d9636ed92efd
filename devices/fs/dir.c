// SPDX-License-Identifier: Apache-2.0
/*
 * Reading directories. Where the guest is in one is the file system's own
 * position; one that is not where we are makes us seek.
 */
#include <fcntl.h>
#include "devices/fs/server.h"

int fs_dir_open(struct fs *fs, uint32_t inode, struct fuse_open_out *ret_out)
{
	struct fs_handle *handle;
	int fd, dir_fd, err = fs_reserve(fs);

	if (err)
		return err;
	dir_fd = fs_inode_fd(fs, inode);
	if (dir_fd < 0)
		return dir_fd;
	fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	err = fs_handle_add(fs, inode, fd, fs->conf.cache == FS_CACHE_ALWAYS ?
					   FOPEN_CACHE_DIR | FOPEN_KEEP_CACHE : 0, ret_out);
	if (err || fs_handle_get(fs, ret_out->fh, inode, &handle) < 0)
		return err;
	handle->dir = fdopendir(fd);
	if (!handle->dir) {
		err = -errno;
		fs_handle_close(fs, ret_out->fh, inode);
	}
	return err;
}

ssize_t fs_opendir(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	int err = fs_dir_open(fs, inode, call->reply);

	(void)in;
	return err ? err : (ssize_t)sizeof(struct fuse_open_out);
}

static int find_dir(struct fs *fs, uint32_t inode, const struct fuse_read_in *read_in,
		    struct fs_handle **ret_handle)
{
	int err = fs_handle_get(fs, read_in->fh, inode, ret_handle);

	if (!err && !(*ret_handle)->dir)
		err = -ENOTDIR;
	if (!err && (long)read_in->offset != (*ret_handle)->position) {
		seekdir((*ret_handle)->dir, (long)read_in->offset);
		(*ret_handle)->position = (long)read_in->offset;
		(*ret_handle)->left = NULL;
	}
	return err;
}

static bool is_dots(const char *name)
{
	return !strcmp(name, ".") || !strcmp(name, "..");
}

/* With what is known without asking. */
static void fill_dirent(struct fuse_dirent *out, const struct dirent *entry)
{
	size_t len = strlen(entry->d_name);

	*out = (struct fuse_dirent){
		.ino = entry->d_ino, .off = (uint64_t)entry->d_off, .namelen = (uint32_t)len,
		.type = entry->d_type,
	};
	memcpy(out->name, entry->d_name, len);
	memset(out->name + len, 0, FUSE_DIRENT_SIZE(out) - FUSE_NAME_OFFSET - len);
}

/* What vanished meanwhile, and what is just a name, has no node. */
static void fill_direntplus(struct fs *fs, uint32_t dir, struct fuse_direntplus *out,
			    const struct dirent *entry)
{
	memset(&out->entry_out, 0, sizeof(out->entry_out));
	if (!is_dots(entry->d_name))
		(void)fs_reply_entry(fs, dir, entry->d_name, &out->entry_out);
	fill_dirent(&out->dirent, entry);
}

static struct dirent *next_entry(struct fs_handle *handle)
{
	struct dirent *left = util_steal_ptr(&handle->left);

	return left ?: readdir(handle->dir);
}

static ssize_t read_dir(struct fs *fs, uint32_t inode, const struct fuse_read_in *read_in,
			bool plus, struct fs_call *call)
{
	size_t room = util_min(read_in->size, call->reply_room), done = 0, len;
	size_t head = plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET;
	struct fs_handle *handle;
	struct dirent *entry;
	int err = find_dir(fs, inode, read_in, &handle);

	if (err)
		return err;
	while (errno = 0, (entry = next_entry(handle))) {
		uint8_t *out = (uint8_t *)call->reply + done;

		len = FUSE_REC_ALIGN(head + strlen(entry->d_name));
		if (len > room - done) {
			/* The first of the next reply. Going back to it would read all that follows again. */
			handle->left = entry;
			break;
		}
		if (plus)
			fill_direntplus(fs, inode, (void *)out, entry);
		else
			fill_dirent((void *)out, entry);
		handle->position = entry->d_off;
		done += len;
	}
	/* What was gathered is told first. */
	return !entry && errno && !done ? -errno : (ssize_t)done;
}

ssize_t fs_readdir(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	return read_dir(fs, inode, in, false, call);
}

ssize_t fs_readdirplus(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	return read_dir(fs, inode, in, true, call);
}
