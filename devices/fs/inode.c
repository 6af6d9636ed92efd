// SPDX-License-Identifier: Apache-2.0
/*
 * Inodes lie in an array that grows, and are found by identity and by name
 * through two tables of chains. A number that the guest gives has the entry's
 * generation above it, so a forgotten one, perhaps of the mount before, is not
 * taken for its successor.
 *
 * An inode lives while the guest remembers it, while others are named in it,
 * and while files of it are open. What shows it in the window goes with it.
 */
#include "devices/fs/server.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define INODES_FIRST 256
/* Of directories that are not open, above one that is wanted. */
#define DEPTH_MAX 4096

int fs_stat(int fd, const char *name, struct statx *ret_st)
{
	const int flags = *name ? AT_SYMLINK_NOFOLLOW : AT_EMPTY_PATH;

	return statx(fd, name, flags, STATX_BASIC_STATS | STATX_MNT_ID, ret_st) < 0 ? -errno : 0;
}

static struct fs_inode *at(const struct fs *fs, uint32_t inode)
{
	return &fs->inodes[inode];
}

static struct fs_identity identity_of(const struct statx *st)
{
	return (struct fs_identity){
		.dev = (uint64_t)st->stx_dev_major << 32 | st->stx_dev_minor,
		.mount = (st->stx_mask & STATX_MNT_ID) ? st->stx_mnt_id : 0,
		.ino = st->stx_ino,
	};
}

static bool same(const struct fs_identity *a, const struct fs_identity *b)
{
	return a->ino == b->ino && a->dev == b->dev && a->mount == b->mount;
}

static void see(struct fs_inode *inode, const struct statx *st)
{
	inode->mode = st->stx_mode;
	inode->links = st->stx_nlink;
}

/* ---- the two tables ---- */

static uint32_t mix(uint64_t a)
{
	a *= UINT64_C(0x9e3779b97f4a7c15);
	return (uint32_t)(a >> 32);
}

static uint32_t *identity_bucket(const struct fs *fs, const struct fs_identity *identity)
{
	uint32_t hash = mix(identity->ino ^ mix(identity->dev + identity->mount));

	return &fs->by_identity[hash & (fs->inode_room - 1)];
}

static uint32_t *name_bucket(const struct fs *fs, uint32_t dir, const char *name)
{
	uint64_t hash = dir;

	for (; *name; name++)
		hash = (hash ^ (uint8_t)*name) * 0x100000001b3;
	return &fs->by_name[mix(hash) & (fs->inode_room - 1)];
}

static void link_name(struct fs *fs, uint32_t inode)
{
	uint32_t *bucket = name_bucket(fs, at(fs, inode)->parent, at(fs, inode)->name);

	at(fs, inode)->next_name = *bucket;
	*bucket = inode;
}

static void link_identity(struct fs *fs, uint32_t inode)
{
	uint32_t *bucket = identity_bucket(fs, &at(fs, inode)->identity);

	at(fs, inode)->next_identity = *bucket;
	*bucket = inode;
}

static void unlink_name(struct fs *fs, uint32_t inode)
{
	uint32_t *link = name_bucket(fs, at(fs, inode)->parent, at(fs, inode)->name);

	while (*link != inode)
		link = &at(fs, *link)->next_name;
	*link = at(fs, inode)->next_name;
}

static void unlink_identity(struct fs *fs, uint32_t inode)
{
	uint32_t *link = identity_bucket(fs, &at(fs, inode)->identity);

	while (*link != inode)
		link = &at(fs, *link)->next_identity;
	*link = at(fs, inode)->next_identity;
}

static uint32_t identified(const struct fs *fs, const struct fs_identity *identity)
{
	uint32_t inode = *identity_bucket(fs, identity);

	while (inode && !same(&at(fs, inode)->identity, identity))
		inode = at(fs, inode)->next_identity;
	return inode;
}

uint32_t fs_inode_named(const struct fs *fs, uint32_t dir, const char *name)
{
	uint32_t inode = *name_bucket(fs, dir, name);

	while (inode && (at(fs, inode)->parent != dir || strcmp(at(fs, inode)->name, name) != 0))
		inode = at(fs, inode)->next_name;
	return inode;
}

/* ---- room ---- */

/* Behind the last one the entries are as they came from calloc(). */
static int grow(struct fs *fs)
{
	uint32_t room = fs->inode_room * 2, *by_identity, *by_name;
	struct fs_inode *inodes;

	if (room > FS_INODES_MAX)
		return -ENFILE;
	inodes = realloc(fs->inodes, room * sizeof(*inodes));
	if (!inodes)
		return -ENOMEM;
	fs->inodes = inodes;
	by_identity = calloc(room, sizeof(*by_identity));
	by_name = calloc(room, sizeof(*by_name));
	if (!by_identity || !by_name) {
		free(by_identity);
		free(by_name);
		return -ENOMEM;
	}
	memset(inodes + fs->inode_room, 0, (room - fs->inode_room) * sizeof(*inodes));
	free(fs->by_identity);
	free(fs->by_name);
	fs->by_identity = by_identity;
	fs->by_name = by_name;
	fs->inode_room = room;
	/* All are in use, or this would not have been called. */
	for (uint32_t i = FS_ROOT; i < fs->inode_used; i++) {
		link_identity(fs, i);
		if (at(fs, i)->name)
			link_name(fs, i);
	}
	return 0;
}

static int take(struct fs *fs, uint32_t *ret_inode)
{
	int err = 0;

	if (fs->free_inode) {
		*ret_inode = fs->free_inode;
		fs->free_inode = at(fs, fs->free_inode)->next_identity;
		return 0;
	}
	if (fs->inode_used == fs->inode_room)
		err = grow(fs);
	if (!err)
		*ret_inode = fs->inode_used++;
	return err;
}

int fs_inodes_init(struct fs *fs)
{
	struct fs_inode *root;
	struct statx st;
	int err = fs_stat(fs->root_fd, "", &st);

	if (err)
		return err;
	fs->inode_room = INODES_FIRST;
	fs->inodes = calloc(fs->inode_room, sizeof(*fs->inodes));
	fs->by_identity = calloc(fs->inode_room, sizeof(*fs->by_identity));
	fs->by_name = calloc(fs->inode_room, sizeof(*fs->by_name));
	if (!fs->inodes || !fs->by_identity || !fs->by_name)
		return -ENOMEM;
	fs->inode_used = FS_ROOT + 1;
	at(fs, 0)->fd = -1;
	root = at(fs, FS_ROOT);
	root->identity = identity_of(&st);
	root->lookups = 1;
	root->fd = fs->root_fd;
	root->mode = st.stx_mode;
	link_identity(fs, FS_ROOT);
	return 0;
}

/* What is left where there was more; all of it where there is no telling. */
static void *shrink(void *array, size_t size)
{
	return realloc(array, size) ?: array;
}

void fs_inodes_forget(struct fs *fs)
{
	for (uint32_t i = FS_ROOT + 1; i < fs->inode_used; i++) {
		util_closep(&at(fs, i)->fd);
		free(util_steal_ptr(&at(fs, i)->name));
	}
	/* A guest has had a million at the most, and the next one need not have any. */
	fs->inode_room = INODES_FIRST;
	fs->inodes = shrink(fs->inodes, fs->inode_room * sizeof(*fs->inodes));
	fs->by_identity = shrink(fs->by_identity, fs->inode_room * sizeof(*fs->by_identity));
	fs->by_name = shrink(fs->by_name, fs->inode_room * sizeof(*fs->by_name));
	memset(fs->by_identity, 0, fs->inode_room * sizeof(*fs->by_identity));
	memset(fs->by_name, 0, fs->inode_room * sizeof(*fs->by_name));
	fs->inode_used = FS_ROOT + 1;
	fs->free_inode = fs->newest = fs->oldest = fs->fds = 0;
	at(fs, FS_ROOT)->children = 0;
	at(fs, FS_ROOT)->next_identity = 0;
	link_identity(fs, FS_ROOT);
}

int fs_inodes_reserve(struct fs *fs, uint32_t used)
{
	int err = 0;

	while (!err && fs->inode_room < used)
		err = grow(fs);
	if (err)
		return err;
	for (fs->inode_used = FS_ROOT + 1; fs->inode_used < used; fs->inode_used++)
		*at(fs, fs->inode_used) = (struct fs_inode){ .fd = -1 };
	return 0;
}

void fs_inode_number(struct fs *fs, uint32_t inode)
{
	fs->free_inode = inode;
}

void fs_inodes_settle(struct fs *fs, const bool *taken)
{
	for (uint32_t i = FS_ROOT + 1; i < fs->inode_used; i++) {
		if (taken[i]) {
			fs_inode_forget(fs, i, 1);
			continue;
		}
		at(fs, i)->next_identity = fs->free_inode;
		fs->free_inode = i;
	}
}

void fs_inodes_free(struct fs *fs)
{
	for (uint32_t i = FS_ROOT + 1; i < fs->inode_used; i++) {
		util_closep(&at(fs, i)->fd);
		free(at(fs, i)->name);
	}
	free(fs->inodes);
	free(fs->by_identity);
	free(fs->by_name);
}

/* ---- descriptors ---- */

static void unlink_fd(struct fs *fs, struct fs_inode *inode)
{
	*(inode->newer ? &at(fs, inode->newer)->older : &fs->newest) = inode->older;
	*(inode->older ? &at(fs, inode->older)->newer : &fs->oldest) = inode->newer;
}

static void link_fd(struct fs *fs, uint32_t inode)
{
	at(fs, inode)->newer = 0;
	at(fs, inode)->older = fs->newest;
	*(fs->newest ? &at(fs, fs->newest)->newer : &fs->oldest) = inode;
	fs->newest = inode;
}

static void drop_fd(struct fs *fs, struct fs_inode *inode)
{
	unlink_fd(fs, inode);
	util_closep(&inode->fd);
	fs->fds--;
}

/* What has no name could not be opened again; the newest one and the pinned one are in use. */
static bool spare(const struct fs *fs, uint32_t inode)
{
	return (at(fs, inode)->name || at(fs, inode)->handles) && inode != fs->newest &&
	       inode != fs->pinned;
}

int fs_reserve(struct fs *fs)
{
	uint32_t inode = fs->oldest;

	if (fs->fds < fs->conf.fds)
		return 0;
	while (inode && !spare(fs, inode))
		inode = at(fs, inode)->newer;
	/* Rather one that is stale until it is looked up again than none for anybody. */
	for (inode = inode ?: fs->oldest; inode && (inode == fs->newest || inode == fs->pinned);)
		inode = at(fs, inode)->newer;
	if (!inode)
		return -ENFILE;
	drop_fd(fs, at(fs, inode));
	return 0;
}

/* One that is open, or -1. */
static int open_already(const struct fs *fs, const struct fs_inode *inode)
{
	if (inode->fd >= 0)
		return inode->fd;
	return inode->handle ? fs->handles[inode->handle].fd : -1;
}

/* Of what is looked at by a name that is no more. */
static int stale(int err)
{
	return err == -ENOENT || err == -ENOTDIR ? -ESTALE : err;
}

/* fs_stat() of something that has to be the inode. */
static int stat_same(const struct fs_inode *inode, int fd, const char *name, struct statx *ret_st)
{
	struct fs_identity identity;
	int err = stale(fs_stat(fd, name, ret_st));

	if (err)
		return err;
	identity = identity_of(ret_st);
	return same(&identity, &inode->identity) ? 0 : -ESTALE;
}

/* Marks it as used just now. */
static int use(struct fs *fs, uint32_t inode)
{
	if (inode != FS_ROOT && at(fs, inode)->fd >= 0) {
		unlink_fd(fs, at(fs, inode));
		link_fd(fs, inode);
	}
	return open_already(fs, at(fs, inode));
}

/* In its parent, which is open. */
static int reopen(struct fs *fs, uint32_t inode)
{
	const uint32_t parent = at(fs, inode)->parent;
	const int parent_fd = use(fs, parent);
	_cleanup_close_ int fd = -1;
	struct statx st;
	int err = fs_reserve(fs);

	if (err)
		return err;
	fd = openat(parent_fd, at(fs, inode)->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return stale(-errno);
	err = stat_same(at(fs, inode), fd, "", &st);
	/* Where another one is mounted: every way into it begins here. */
	if (!err && at(fs, inode)->identity.dev != at(fs, parent)->identity.dev && fs_is_closed(fd))
		err = -EACCES;
	if (err)
		return err;
	see(at(fs, inode), &st);
	at(fs, inode)->fd = util_steal_fd(&fd);
	fs->fds++;
	link_fd(fs, inode);
	return at(fs, inode)->fd;
}

/* What lies just below the nearest open directory, on the way to the inode; 0: a name was lost. */
static uint32_t first_closed(const struct fs *fs, uint32_t inode)
{
	/* Directories that were moved about on the host may seem to lie in each other. */
	for (unsigned int depth = 0; depth < DEPTH_MAX && at(fs, inode)->name; depth++) {
		uint32_t parent = at(fs, inode)->parent;

		if (open_already(fs, at(fs, parent)) >= 0)
			return inode;
		inode = parent;
	}
	return 0;
}

/* A level each turn: how deep it lies is the guest's to choose, so there is no recursion. */
int fs_inode_fd(struct fs *fs, uint32_t inode)
{
	int fd;

	while ((fd = use(fs, inode)) < 0) {
		uint32_t next = first_closed(fs, inode);

		fd = next ? reopen(fs, next) : -ESTALE;
		if (fd < 0)
			return fd;
	}
	return fd;
}

int fs_inode_fds(struct fs *fs, uint32_t a, uint32_t b, int *ret_a, int *ret_b)
{
	int fd_a = fs_inode_fd(fs, a), fd_b;

	if (fd_a < 0)
		return fd_a;
	fs->pinned = a;
	fd_b = fs_inode_fd(fs, b);
	fs->pinned = 0;
	if (fd_b < 0)
		return fd_b;
	*ret_a = fd_a;
	*ret_b = fd_b;
	return 0;
}

int fs_inode_path(struct fs *fs, uint32_t inode, char path[FS_PATH_MAX])
{
	int fd = fs_inode_fd(fs, inode);

	if (fd < 0)
		return fd;
	snprintf(path, FS_PATH_MAX, "%d", fd);
	return 0;
}

int fs_inode_stat(struct fs *fs, uint32_t inode, struct statx *ret_st)
{
	struct fs_inode *entry = at(fs, inode);
	int fd = open_already(fs, entry), err;
	struct statx st;

	if (fd >= 0) {
		err = fs_stat(fd, "", &st);
	} else {
		if (!entry->name)
			return -ESTALE;
		fd = fs_inode_fd(fs, entry->parent);
		err = fd < 0 ? fd : stat_same(entry, fd, entry->name, &st);
	}
	if (err)
		return err;
	see(entry, &st);
	*ret_st = st;
	return 0;
}

/* ---- life ---- */

uint32_t fs_inode_of(const struct fs *fs, uint64_t node)
{
	uint32_t inode = (uint32_t)node;

	if (inode < FS_ROOT || inode >= fs->inode_used || !at(fs, inode)->lookups ||
	    at(fs, inode)->generation != node >> 32)
		return 0;
	return inode;
}

uint64_t fs_node(const struct fs *fs, uint32_t inode)
{
	return (uint64_t)at(fs, inode)->generation << 32 | inode;
}

int fs_inode_add(struct fs *fs, uint32_t dir, const char *name, const struct statx *st,
		 uint32_t *ret_inode)
{
	const struct fs_identity identity = identity_of(st);
	uint32_t inode = identified(fs, &identity);
	char *copy = NULL;
	int err = 0;

	if (!inode) {
		copy = strdup(name);
		err = copy ? take(fs, &inode) : -ENOMEM;
	}
	if (err) {
		free(copy);
		return err;
	}
	if (copy) {
		*at(fs, inode) = (struct fs_inode){
			.identity = identity, .generation = ++fs->generation,
			.fd = -1, .parent = dir, .name = copy,
		};
		at(fs, dir)->children++;
		link_identity(fs, inode);
		link_name(fs, inode);
	} else if (inode != FS_ROOT && fs_inode_named(fs, dir, name) != inode) {
		/* The name that was seen last is the one to go by. */
		fs_inode_rename(fs, inode, dir, name);
	}
	see(at(fs, inode), st);
	*ret_inode = inode;
	return 0;
}

int fs_inode_find(struct fs *fs, uint32_t dir, const char *name, struct statx *st,
		  uint32_t *ret_inode)
{
	int fd = fs_inode_fd(fs, dir), err;

	if (fd < 0)
		return fd;
	err = fs_stat(fd, name, st);
	return err ? err : fs_inode_add(fs, dir, name, st, ret_inode);
}

void fs_inode_remember(struct fs *fs, uint32_t inode)
{
	at(fs, inode)->lookups++;
}

void fs_inode_put(struct fs *fs, uint32_t inode)
{
	/* Upwards, as long as nobody else wants the parent. */
	while (inode != FS_ROOT) {
		struct fs_inode *entry = at(fs, inode);
		uint32_t parent = entry->parent;

		if (entry->lookups || entry->children || entry->handles)
			return;
		fs_dax_drop(fs, inode);
		if (entry->fd >= 0)
			drop_fd(fs, entry);
		unlink_identity(fs, inode);
		if (entry->name)
			unlink_name(fs, inode);
		free(util_steal_ptr(&entry->name));
		entry->next_identity = fs->free_inode;
		fs->free_inode = inode;
		if (!parent)
			return;
		at(fs, parent)->children--;
		inode = parent;
	}
}

void fs_inode_forget(struct fs *fs, uint32_t inode, uint64_t lookups)
{
	struct fs_inode *entry = at(fs, inode);

	if (inode == FS_ROOT)
		return;
	entry->lookups -= util_min(entry->lookups, lookups);
	fs_inode_put(fs, inode);
}

/* ---- names ---- */

void fs_inode_hold(struct fs *fs, uint32_t inode)
{
	/* A guest that writes later may have times to tell of what it has removed. */
	if (inode && (at(fs, inode)->links > 1 || S_ISDIR(at(fs, inode)->mode) ||
		      fs->features & FUSE_WRITEBACK_CACHE))
		(void)fs_inode_fd(fs, inode);
}

void fs_inode_unname(struct fs *fs, uint32_t inode)
{
	uint32_t parent = at(fs, inode)->parent;

	if (!at(fs, inode)->name)
		return;
	unlink_name(fs, inode);
	free(util_steal_ptr(&at(fs, inode)->name));
	at(fs, inode)->parent = 0;
	at(fs, parent)->children--;
	fs_inode_put(fs, parent);
}

void fs_inode_rename(struct fs *fs, uint32_t inode, uint32_t dir, const char *name)
{
	/* Before the old one goes: its parent may be dir. */
	at(fs, dir)->children++;
	fs_inode_unname(fs, inode);
	at(fs, inode)->name = strdup(name);
	/* Without memory it has no name, and is looked up again. */
	if (!at(fs, inode)->name) {
		at(fs, dir)->children--;
		return;
	}
	at(fs, inode)->parent = dir;
	link_name(fs, inode);
}
