// SPDX-License-Identifier: Apache-2.0
/* Open files and directories: an array, of whose entries the guest knows number and generation. */
#include <fcntl.h>
#include "devices/fs/server.h"

/* Half of the descriptors, so that directories can always be opened. */
uint32_t fs_handles_max(const struct fs *fs)
{
	return fs->conf.fds / 2;
}

static uint64_t number_of(const struct fs *fs, uint32_t handle)
{
	return (uint64_t)fs->handles[handle].generation << 32 | handle;
}

uint64_t fs_handle_fh(const struct fs *fs, const struct fs_handle *handle)
{
	return number_of(fs, (uint32_t)(handle - fs->handles));
}

int fs_handles_init(struct fs *fs)
{
	/* The first is none. */
	fs->handles = calloc(fs_handles_max(fs) + 1, sizeof(*fs->handles));
	if (!fs->handles)
		return -ENOMEM;
	fs->handle_room = 1;
	return 0;
}

static void close_handle(struct fs_handle *handle)
{
	if (handle->dir)
		closedir(util_steal_ptr(&handle->dir));
	else if (handle->fd >= 0)
		close(handle->fd);
	handle->fd = -1;
}

void fs_handles_forget(struct fs *fs)
{
	for (uint32_t i = 1; i < fs->handle_room; i++) {
		close_handle(&fs->handles[i]);
		fs->handles[i].inode = 0;
		fs->handles[i].generation++;
	}
	fs->handle_room = 1;
	fs->free_handle = 0;
	fs->inodes[FS_ROOT].handle = fs->inodes[FS_ROOT].handles = 0;
}

void fs_handles_free(struct fs *fs)
{
	for (uint32_t i = 1; i < fs->handle_room; i++)
		close_handle(&fs->handles[i]);
	free(fs->handles);
}

bool fs_handle_free(const struct fs *fs)
{
	return fs->free_handle || fs->handle_room <= fs_handles_max(fs);
}

void fs_handle_number(struct fs *fs, uint64_t number)
{
	const uint32_t handle = (uint32_t)number;

	for (; fs->handle_room <= handle; fs->handle_room++) {
		fs->handles[fs->handle_room].fd = -1;
		fs->handles[fs->handle_room].next = fs->free_handle;
		fs->free_handle = fs->handle_room;
	}
	fs->handles[handle].generation = number >> 32;
}

int fs_handle_add(struct fs *fs, uint32_t inode, int fd, uint32_t flags,
		  struct fuse_open_out *ret_out)
{
	uint32_t handle = fs->free_handle;
	struct fs_handle *entry;

	if (!fs_handle_free(fs)) {
		close(fd);
		return -ENFILE;
	}
	if (handle)
		fs->free_handle = fs->handles[handle].next;
	else
		handle = fs->handle_room++;
	entry = &fs->handles[handle];
	*entry = (struct fs_handle){
		.inode = inode, .generation = entry->generation, .fd = fd,
		.next = fs->inodes[inode].handle,
	};
	fs->inodes[inode].handle = handle;
	fs->inodes[inode].handles++;
	fs->fds++;
	*ret_out = (struct fuse_open_out){ .fh = number_of(fs, handle), .open_flags = flags };
	return 0;
}

static struct fs_handle *find(const struct fs *fs, uint64_t fh, uint32_t inode)
{
	uint32_t handle = (uint32_t)fh;

	if (!handle || handle >= fs->handle_room || fs->handles[handle].inode != inode ||
	    number_of(fs, handle) != fh)
		return NULL;
	return &fs->handles[handle];
}

int fs_handle_get(struct fs *fs, uint64_t fh, uint32_t inode, struct fs_handle **ret_handle)
{
	struct fs_handle *handle = find(fs, fh, inode);

	if (!handle)
		return -EBADF;
	/* Not found again by a load. */
	if (handle->fd < 0)
		return -ESTALE;
	*ret_handle = handle;
	return 0;
}

static void release(struct fs *fs, struct fs_handle *handle)
{
	close_handle(handle);
	handle->next = fs->free_handle;
	fs->free_handle = (uint32_t)(handle - fs->handles);
	fs->fds--;
}

void fs_handle_close(struct fs *fs, uint64_t fh, uint32_t inode)
{
	uint32_t handle = (uint32_t)fh, *link = &fs->inodes[inode].handle;
	struct fs_handle *entry = find(fs, fh, inode);

	if (!entry)
		return;
	while (*link != handle)
		link = &fs->handles[*link].next;
	*link = entry->next;
	fs->inodes[inode].handles--;
	entry->inode = 0;
	entry->generation++;
	if (!entry->users)
		release(fs, entry);
	fs_inode_put(fs, inode);
}

uint32_t fs_handle_hold(struct fs *fs, struct fs_handle *handle)
{
	handle->users++;
	return (uint32_t)(handle - fs->handles);
}

void fs_handle_put(struct fs *fs, uint32_t handle)
{
	struct fs_handle *entry = &fs->handles[handle];

	if (!--entry->users && !entry->inode)
		release(fs, entry);
}
