// SPDX-License-Identifier: Apache-2.0
/*
 * The DAX window: parts of files in the guest's address space, which it then
 * reads and writes without a request. It is divided into pieces, each of which
 * shows one piece of one file or nothing; the guest says which.
 *
 * A guest touches what lies before the end of a file, as it was told last. When
 * somebody has cut the file short since, there is nothing to be had: KVM fails,
 * or on a PC (in Linux 6.1) has the vCPU try for ever. So what lies behind
 * the end is replaced by zeroes then (the piece is cut), and what is written there
 * goes nowhere. inotify tells of it, and KVM does where it fails.
 *
 * Before a reply is sent all cut pieces are looked at: a file that has grown
 * is shown before the guest can know of it.
 */
#include "devices/fs/server.h"

#include <fcntl.h>
#include <sys/inotify.h>

/* A smaller file is read as fast as it is mapped. */
#define DAX_FILE_MIN KIB(32)

int fs_dax_init(struct fs *fs)
{
	if (!fs->conf.window)
		return 0;
	fs->mappings = calloc(fs->conf.window->len / WINDOW_PIECE, sizeof(*fs->mappings));
	if (!fs->mappings)
		return -ENOMEM;
	fs->notify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	return fs->notify_fd < 0 ? -errno : 0;
}

void fs_dax_free(struct fs *fs)
{
	free(fs->mappings);
	util_closep(&fs->notify_fd);
}

size_t fs_dax_pieces(const struct fs *fs)
{
	return fs->mappings ? fs->conf.window->len / WINDOW_PIECE : 0;
}

static uint64_t place_of(size_t piece)
{
	return (uint64_t)piece * WINDOW_PIECE;
}

bool fs_dax_wanted(const struct fs *fs, const struct statx *st)
{
	return fs->features & FUSE_HAS_INODE_DAX && S_ISREG(st->stx_mode) &&
	       st->stx_size >= DAX_FILE_MIN;
}

/* ---- which piece shows what ---- */

/* Without a watch a file that is cut short is only found where KVM says so. */
static void watch(struct fs *fs, uint32_t inode)
{
	char path[FS_PATH_MAX];

	if (fs_inode_path(fs, inode, path) == 0)
		fs->inodes[inode].watch = inotify_add_watch(fs->notify_fd, path, IN_MODIFY);
}

/* Whether the piece shows a file with that watch, which inodes of several mounts may share. */
static bool is_watched(const struct fs *fs, size_t piece, int watch)
{
	const uint32_t inode = fs->mappings[piece].inode;

	return inode && fs->inodes[inode].watch == watch;
}

static void unwatch(struct fs *fs, int watch)
{
	for (size_t i = 0; i < fs_dax_pieces(fs); i++)
		if (is_watched(fs, i, watch))
			return;
	inotify_rm_watch(fs->notify_fd, watch);
}

static void set_end(struct fs *fs, struct fs_mapping *mapping, uint32_t end)
{
	fs->cuts -= mapping->inode && mapping->end < WINDOW_PIECE;
	mapping->end = end;
	fs->cuts += mapping->inode && mapping->end < WINDOW_PIECE;
}

static void note(struct fs *fs, size_t piece, uint32_t inode, bool writable, uint64_t offset)
{
	struct fs_mapping *mapping = &fs->mappings[piece];
	struct fs_inode *before = &fs->inodes[mapping->inode];
	const bool last = mapping->inode && !--before->mappings;

	set_end(fs, mapping, WINDOW_PIECE);
	*mapping = (struct fs_mapping){ inode, WINDOW_PIECE, writable, offset };
	if (last && before->watch > 0)
		unwatch(fs, before->watch);
	if (inode && !fs->inodes[inode].mappings++)
		watch(fs, inode);
}

static int clear(struct fs *fs, uint64_t offset, uint64_t len)
{
	int err = window_clear(fs->conf.window, offset, len);

	for (size_t i = offset / WINDOW_PIECE; i < (offset + len) / WINDOW_PIECE; i++)
		note(fs, i, 0, false, 0);
	return err;
}

void fs_dax_drop(struct fs *fs, uint32_t inode)
{
	for (size_t i = 0; fs->inodes[inode].mappings && i < fs_dax_pieces(fs); i++)
		if (fs->mappings[i].inode == inode)
			(void)clear(fs, place_of(i), WINDOW_PIECE);
}

void fs_dax_forget(struct fs *fs)
{
	if (fs->mappings)
		(void)clear(fs, 0, fs->conf.window->len);
}

/* ---- ends of files ---- */

/* Shows the file again from where it was cut to where it ends now. */
static bool extend(struct fs *fs, size_t piece, uint32_t end)
{
	const struct fs_mapping *mapping = &fs->mappings[piece];
	_cleanup_close_ int fd = fs_inode_open(fs, mapping->inode,
					       mapping->writable ? O_RDWR : O_RDONLY, false);

	return fd >= 0 && window_map(fs->conf.window, place_of(piece) + mapping->end,
				     end - mapping->end, fd, mapping->offset + mapping->end,
				     mapping->writable) == 0;
}

/* The file as far as it goes, zeroes behind its end. Whether that is not as it was. */
static bool fit(struct fs *fs, size_t piece)
{
	struct fs_mapping *mapping = &fs->mappings[piece];
	struct window *window = fs->conf.window;
	uint64_t left = 0, end;
	struct statx st;

	if (!mapping->inode || fs_inode_stat(fs, mapping->inode, &st) < 0)
		return false;
	if (st.stx_size > mapping->offset)
		left = util_min(st.stx_size - mapping->offset, WINDOW_PIECE);
	end = util_align_up(left, window->page);
	if (end == mapping->end)
		return false;
	if (end > mapping->end ? !extend(fs, piece, (uint32_t)end) :
	    window_clear(window, place_of(piece) + end, mapping->end - end) < 0)
		return false;
	set_end(fs, mapping, (uint32_t)end);
	return true;
}

/*
 * All that shows a file, where this is or was shorter than the guest may think. Returns how many
 * pieces were not right.
 */
static size_t fit_short(struct fs *fs, uint32_t inode)
{
	struct fs_inode *entry = &fs->inodes[inode];
	struct statx st;
	size_t count = 0;

	if (fs_inode_stat(fs, inode, &st) < 0)
		return 0;
	/* What grows while it writes it is not told. */
	entry->size = util_max(entry->size, st.stx_size);
	for (size_t i = 0; i < fs_dax_pieces(fs); i++)
		if (fs->mappings[i].inode == inode &&
		    (st.stx_size < entry->size || fs->mappings[i].end < WINDOW_PIECE))
			count += fit(fs, i);
	return count;
}

static size_t fit_all_short(struct fs *fs)
{
	size_t count = 0;

	for (size_t i = 0; i < fs_dax_pieces(fs); i++)
		if (fs->mappings[i].inode)
			count += fit_short(fs, fs->mappings[i].inode);
	return count;
}

static void fit_watched(struct fs *fs, int watch)
{
	uint32_t done = 0;

	for (size_t i = 0; i < fs_dax_pieces(fs); i++) {
		if (!is_watched(fs, i, watch) || fs->mappings[i].inode == done)
			continue;
		done = fs->mappings[i].inode;
		fit_short(fs, done);
	}
}

void fs_look(struct fs *fs)
{
	_Alignas(struct inotify_event) char buffer[1024];
	const struct inotify_event *event;
	ssize_t n = read(fs->notify_fd, buffer, sizeof(buffer));

	for (ssize_t at = 0; at < n; at += (ssize_t)(sizeof(*event) + event->len)) {
		event = (const void *)(buffer + at);
		if (event->mask & IN_Q_OVERFLOW)
			fit_all_short(fs);
		else
			fit_watched(fs, event->wd);
	}
}

size_t fs_mend(struct fs *fs)
{
	size_t count = fit_all_short(fs);

	/* A guest that goes beyond an end on its own, or a page that cannot be read. */
	for (size_t i = 0; !count && i < fs_dax_pieces(fs); i++)
		count += fit(fs, i);
	for (size_t i = 0; !count && i < fs_dax_pieces(fs); i++)
		if (fs->mappings[i].inode)
			count += window_mend(fs->conf.window, place_of(i), WINDOW_PIECE);
	return count;
}

void fs_dax_restore(struct fs *fs)
{
	uint64_t offset;

	while (fs->mappings && window_next_torn(fs->conf.window, &offset))
		if (window_clear(fs->conf.window, offset, WINDOW_PIECE) == 0)
			set_end(fs, &fs->mappings[offset / WINDOW_PIECE], 0);
	for (size_t i = 0; fs->cuts && i < fs_dax_pieces(fs); i++)
		if (fs->mappings[i].end < WINDOW_PIECE)
			fit(fs, i);
}

/* ---- requests ---- */

static bool valid(const struct fs *fs, uint64_t offset, uint64_t len)
{
	return len && (offset | len) % WINDOW_PIECE == 0 &&
	       util_within(offset, len, fs->conf.window->len);
}

/* An open file of the guest's; or, as it mostly names none, one that is opened for this: then it is *opened, too. */
static int file_of(struct fs *fs, uint32_t inode, uint64_t fh, bool writable, int *opened)
{
	struct fs_handle *handle;
	int err;

	if (fh == UINT64_MAX)
		return *opened = fs_inode_open(fs, inode, writable ? O_RDWR : O_RDONLY, false);
	err = fs_handle_get(fs, fh, inode, &handle);
	return err ? err : handle->fd;
}

/*
 * Room on the host's disk for all that the guest may write in a piece of a file of that size. Without
 * it a page would be found wanting when nobody is left to tell, as KVM fails then; a request can be refused.
 */
static int make_room(const struct fs *fs, uint32_t inode, int fd, uint64_t offset, uint64_t size)
{
	const uint64_t end = util_min(size, offset + WINDOW_PIECE);
	off_t hole = lseek(fd, (off_t)offset, SEEK_HOLE);
	bool keeps;
	int err = 0;

	/* What follows the end counts as a hole, but for the call. */
	if (hole < 0 && errno == ENXIO)
		hole = (off_t)offset;
	if (hole < 0 || (uint64_t)hole >= end)
		return 0;
	keeps = fs_keep_begin(fs, fs->inodes[inode].mode, false);
	/* Not every file system can; what else is wrong mmap() says. */
	if (fallocate(fd, FALLOC_FL_KEEP_SIZE, hole, (off_t)end - hole) < 0 &&
	    (errno == ENOSPC || errno == EDQUOT))
		err = -errno;
	fs_keep_end(fs, keeps);
	return err;
}

static bool is_written(const struct fs *fs, size_t piece, uint32_t inode)
{
	return fs->mappings[piece].inode == inode && fs->mappings[piece].writable;
}

/* The piece in which the guest may write what comes first in the file from there on; NULL: none. */
static const struct fs_mapping *next_written(const struct fs *fs, uint32_t inode, uint64_t offset)
{
	const struct fs_mapping *next = NULL;

	for (size_t i = 0; fs->inodes[inode].mappings && i < fs_dax_pieces(fs); i++) {
		const struct fs_mapping *mapping = &fs->mappings[i];

		if (is_written(fs, i, inode) && mapping->offset + WINDOW_PIECE > offset &&
		    (!next || mapping->offset < next->offset))
			next = mapping;
	}
	return next;
}

bool fs_dax_writes(const struct fs *fs, uint32_t inode, uint64_t offset, uint64_t len)
{
	const struct fs_mapping *next = next_written(fs, inode, offset);

	return next && next->offset < offset + len;
}

int fs_dax_make_room(struct fs *fs, uint32_t inode, uint64_t size)
{
	_cleanup_close_ int fd = -1;
	struct statx st;
	int err = 0;

	/* All pieces are looked at only for what grows. */
	if (!fs->inodes[inode].mappings || fs_inode_stat(fs, inode, &st) < 0 ||
	    st.stx_size >= size || !fs_dax_writes(fs, inode, 0, INT64_MAX))
		return 0;
	fd = fs_inode_open(fs, inode, O_RDWR, false);
	if (fd < 0)
		return fd;
	for (size_t i = 0; !err && i < fs_dax_pieces(fs); i++)
		if (is_written(fs, i, inode))
			err = make_room(fs, inode, fd, fs->mappings[i].offset, size);
	return err;
}

static int empty(int fd, int how, uint64_t offset, uint64_t len)
{
	return fallocate(fd, how | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len) < 0 ? -errno : 0;
}

/* The same to whoever reads it, but the room stays. */
static int zero(const struct fs *fs, const struct fs_mapping *mapping, int fd, uint64_t offset,
		uint64_t len)
{
	const uint64_t place = place_of((size_t)(mapping - fs->mappings));
	int err = empty(fd, FALLOC_FL_ZERO_RANGE, offset, len);

	if (err != -EOPNOTSUPP)
		return err;
	/* tmpfs cannot: as the guest would. */
	memset(fs->conf.window->hva + place + (offset - mapping->offset), 0, len);
	return 0;
}

int fs_dax_punch(struct fs *fs, uint32_t inode, int fd, uint64_t offset, uint64_t len)
{
	const bool keeps = fs_keep_begin(fs, fs->inodes[inode].mode, false);
	const uint64_t end = offset + len;
	int err = 0;

	while (!err && offset < end) {
		const struct fs_mapping *mapping = next_written(fs, inode, offset);
		const uint64_t start = mapping ? mapping->offset : end;
		const bool hole = !mapping || start > offset;
		const uint64_t next = util_min(hole ? start : start + WINDOW_PIECE, end);

		err = hole ? empty(fd, FALLOC_FL_PUNCH_HOLE, offset, next - offset) :
			     zero(fs, mapping, fd, offset, next - offset);
		offset = next;
	}
	fs_keep_end(fs, keeps);
	return err;
}

int fs_dax_map(struct fs *fs, uint32_t inode, const struct fuse_setupmapping_in *map,
	       bool refusable)
{
	const bool writable = map->flags & FUSE_SETUPMAPPING_FLAG_WRITE;
	_cleanup_close_ int opened = -1;
	struct statx st;
	int fd, err;

	if (!fs->mappings)
		return -ENOSYS;
	/* As Linux asks for it: what takes long is not to be asked for at once. */
	if (!valid(fs, map->moffset, map->len) || map->len != WINDOW_PIECE ||
	    map->foffset % WINDOW_PIECE || !util_within(map->foffset, map->len, INT64_MAX))
		return -EINVAL;
	fd = file_of(fs, inode, map->fh, writable, &opened);
	if (fd < 0)
		return fd;
	err = writable && refusable ? fs_inode_stat(fs, inode, &st) ?:
		make_room(fs, inode, fd, map->foffset, st.stx_size) : 0;
	if (err)
		return err;
	err = window_map(fs->conf.window, map->moffset, map->len, fd, map->foffset, writable);
	/* What was there is gone either way. */
	note(fs, map->moffset / WINDOW_PIECE, err ? 0 : inode, writable, map->foffset);
	if (!err)
		fit_short(fs, inode);
	return err;
}

ssize_t fs_setupmapping(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	(void)call;
	return fs_dax_map(fs, inode, in, true);
}

ssize_t fs_removemapping(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call)
{
	const struct fuse_removemapping_in *wanted = in;
	struct fuse_removemapping_one one;
	int err = 0;

	(void)inode;
	if (!fs->mappings)
		return -ENOSYS;
	if (wanted->count != call->args_len / sizeof(one))
		return -EINVAL;
	for (uint32_t i = 0; !err && i < wanted->count; i++) {
		memcpy(&one, (const uint8_t *)call->args + i * sizeof(one), sizeof(one));
		err = valid(fs, one.moffset, one.len) ? clear(fs, one.moffset, one.len) : -EINVAL;
	}
	return err;
}
