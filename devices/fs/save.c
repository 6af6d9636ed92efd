// SPDX-License-Identifier: Apache-2.0
/*
 * A mount, out and in. What the guest knows is saved by its names, directories
 * before what lies in them. A load looks the names up again, and takes for the
 * same file what has the same number and type there. What is not found, and
 * what is another file by now, is stale to the guest until it looks for itself,
 * and so is what it has open of that. Where it is in a directory the guest says
 * with each request.
 *
 * A file that is open and has lost its name would not be found again, and a lock of
 * the host's is somebody else's by then: while there is one, the mount is not saved.
 *
 * A load only checks what it is given, and keeps it: the names are looked up
 * by the thread that has the directory, when it begins.
 */
#include <assert.h>
#include "devices/fs/server.h"

#define FLAGS_SAVED (O_ACCMODE | O_APPEND | O_SYNC | O_DSYNC)

/* Little-endian, as all hosts are. */
struct saved_mount {
	uint64_t features;
	uint32_t mounted, inode_used;
};

struct saved_inode {
	uint64_t ino, lookups;
	uint32_t inode, generation, parent, mode;
	char name[NAME_MAX + 1]; /* as long as it is; "": it has none */
};

struct saved_handle {
	uint64_t number;
	uint32_t inode, flags; /* O_DIRECTORY: a directory */
};

struct saved_mapping {
	uint64_t offset, size;
	uint32_t inode, piece, writable, zero;
};

static_assert(sizeof(struct saved_mount) == 16, "no holes");
static_assert(offsetof(struct saved_inode, name) == 32, "no holes");
static_assert(sizeof(struct saved_handle) == 16, "no holes");
static_assert(sizeof(struct saved_mapping) == 32, "no holes");

/* ---- out ---- */

static bool in_use(const struct fs_inode *inode)
{
	return inode->lookups || inode->children || inode->handles;
}

static int save_inode(const struct fs *fs, uint32_t inode, struct state *state)
{
	const struct fs_inode *entry = &fs->inodes[inode];
	struct saved_inode saved = {
		.ino = entry->identity.ino, .lookups = entry->lookups, .inode = inode,
		.generation = entry->generation, .parent = entry->parent, .mode = entry->mode,
	};
	size_t len = entry->name ? strlen(entry->name) : 0;

	/* Some file systems have longer ones: the guest will have to look again. */
	if (len > NAME_MAX)
		len = 0;
	memcpy(saved.name, entry->name ?: "", len);
	return state_put(state, "fs.inode", 1, &saved, offsetof(struct saved_inode, name) + len + 1);
}

/* Directories that were moved about on the host may seem to lie in each other: each comes once. */
static int save_inodes(const struct fs *fs, struct state *state)
{
	_cleanup_free_ uint32_t *way = calloc(fs->inode_used, sizeof(*way));
	_cleanup_free_ bool *seen = calloc(fs->inode_used, sizeof(*seen));
	int err = way && seen ? 0 : -ENOMEM;

	for (uint32_t i = FS_ROOT + 1; !err && i < fs->inode_used; i++) {
		uint32_t depth = 0;

		for (uint32_t up = i; up > FS_ROOT && !seen[up] && in_use(&fs->inodes[up]);
		     up = fs->inodes[up].parent) {
			seen[up] = true;
			way[depth++] = up;
		}
		while (!err && depth)
			err = save_inode(fs, way[--depth], state);
	}
	return err;
}

static int save_handles(const struct fs *fs, struct state *state)
{
	int err = 0;

	for (uint32_t i = 1; !err && i < fs->handle_room; i++) {
		const struct fs_handle *handle = &fs->handles[i];
		struct saved_handle saved = {
			.number = (uint64_t)handle->generation << 32 | i,
			.inode = handle->inode,
			.flags = handle->dir ? O_DIRECTORY :
					       (uint32_t)fcntl(handle->fd, F_GETFL) & FLAGS_SAVED,
		};

		if (handle->inode)
			err = state_put(state, "fs.handle", 1, &saved, sizeof(saved));
	}
	return err;
}

static int save_mappings(const struct fs *fs, struct state *state)
{
	int err = 0;

	for (uint32_t i = 0; !err && i < fs_dax_pieces(fs); i++) {
		const struct fs_mapping *mapping = &fs->mappings[i];
		struct saved_mapping saved = {
			.offset = mapping->offset, .size = fs->inodes[mapping->inode].size,
			.inode = mapping->inode, .piece = i, .writable = mapping->writable,
		};

		if (mapping->inode)
			err = state_put(state, "fs.mapping", 1, &saved, sizeof(saved));
	}
	return err;
}

/* The first that is open or mapped without a name; 0: none. */
static uint32_t nameless(const struct fs *fs)
{
	for (uint32_t i = FS_ROOT + 1; i < fs->inode_used; i++)
		if ((fs->inodes[i].handles || fs->inodes[i].mappings) && !fs->inodes[i].name)
			return i;
	return 0;
}

static int save_mount(const struct fs *fs, struct state *state)
{
	const struct saved_mount mount = { .features = fs->features, .mounted = fs->mounted,
					   .inode_used = fs->inode_used };
	int err = state_put(state, "fs.mount", 1, &mount, sizeof(mount));

	if (!err)
		err = save_inodes(fs, state);
	if (!err)
		err = save_handles(fs, state);
	return err ?: save_mappings(fs, state);
}

int fs_save(struct fs *fs, struct state *state, char file[PATH_MAX])
{
	struct state mount = { 0 };
	uint32_t lost = nameless(fs), inode = lost ?: fs_locked(fs);
	char path[FS_PATH_MAX];
	ssize_t n;
	int err;

	if (inode) {
		n = fs_inode_path(fs, inode, path) ? 0 : readlinkat(AT_FDCWD, path, file, PATH_MAX - 1);
		file[n < 0 ? 0 : n] = '\0';
		return lost ? -EBUSY : -ENOLCK;
	}
	if (fs->loaded.len)
		return state_put(state, "fs", 1, fs->loaded.data, fs->loaded.len);
	err = save_mount(fs, &mount);
	if (!err)
		err = state_put(state, "fs", 1, mount.data, mount.len);
	state_free(&mount);
	return err;
}

/* ---- in ---- */

struct loading {
	struct fs *fs;
	struct state_reader reader;
	bool *seen; /* inodes by number, of inode_used */
	uint32_t inode_used, handle; /* the latest one */
	bool checks; /* only */
};

static int load_mount(struct loading *loading)
{
	struct fs *fs = loading->fs;
	struct saved_mount mount;
	int err = state_get(&loading->reader, "fs.mount", 1, &mount, sizeof(mount));

	if (err)
		return err;
	if (mount.features & ~fs_features(fs) || mount.mounted > 1 ||
	    mount.inode_used <= FS_ROOT || mount.inode_used > FS_INODES_MAX)
		return -EINVAL;
	loading->inode_used = mount.inode_used;
	loading->seen = calloc(mount.inode_used, sizeof(*loading->seen));
	if (!loading->seen)
		return -ENOMEM;
	loading->seen[FS_ROOT] = true;
	if (loading->checks)
		return 0;
	fs->features = mount.features;
	fs->mounted = mount.mounted;
	return fs_inodes_reserve(fs, mount.inode_used);
}

static bool known(const struct loading *loading, uint32_t inode)
{
	return inode < loading->inode_used && loading->seen[inode];
}

/* What the parent has by that name, where it is the same. */
static int find_same(struct fs *fs, const struct saved_inode *saved, struct statx *ret_st)
{
	int fd = *saved->name ? fs_inode_fd(fs, saved->parent) : -ESTALE;
	int err = fd < 0 ? fd : fs_stat(fd, saved->name, ret_st);

	if (!err && (ret_st->stx_ino != saved->ino || (ret_st->stx_mode ^ saved->mode) & S_IFMT))
		err = -ESTALE;
	return err;
}

/* What nothing on the host can be. */
static int add_stale(struct fs *fs, uint32_t number)
{
	const struct statx nothing = { .stx_dev_major = UINT32_MAX, .stx_dev_minor = UINT32_MAX,
				       .stx_ino = number };
	uint32_t inode;
	int err = fs_inode_add(fs, FS_ROOT, "", &nothing, &inode);

	if (!err)
		fs_inode_unname(fs, inode);
	return err;
}

static int load_inode(struct loading *loading, const struct state_reader *part)
{
	struct fs *fs = loading->fs;
	struct saved_inode saved = { 0 };
	struct statx st;
	uint32_t inode = 0;
	int err;

	if (part->left <= offsetof(struct saved_inode, name) || part->left > sizeof(saved))
		return -EINVAL;
	memcpy(&saved, part->data, part->left);
	if (saved.inode <= FS_ROOT || saved.inode >= loading->inode_used ||
	    known(loading, saved.inode) || saved.lookups > INT64_MAX ||
	    saved.name[sizeof(saved.name) - 1] || (*saved.name && !fs_is_name(saved.name)))
		return -EINVAL;
	/* Of a circle of directories one has a parent that comes later. */
	if (!known(loading, saved.parent))
		*saved.name = '\0';
	loading->seen[saved.inode] = true;
	if (loading->checks)
		return 0;
	fs_inode_number(fs, saved.inode);
	err = find_same(fs, &saved, &st) ?: fs_inode_add(fs, saved.parent, saved.name, &st, &inode);
	if (err != -ENOMEM && inode != saved.inode)
		err = add_stale(fs, saved.inode);
	fs->inodes[saved.inode].generation = saved.generation;
	fs->generation = (uint32_t)util_max(fs->generation, saved.generation);
	/* Once more than the guest, until all are there. */
	fs->inodes[saved.inode].lookups = saved.lookups + 1;
	return err;
}

static int load_handle(struct loading *loading, const struct state_reader *part)
{
	struct fs *fs = loading->fs;
	struct fuse_open_out out;
	struct saved_handle saved;
	int fd = -1;

	if (part->left != sizeof(saved))
		return -EINVAL;
	memcpy(&saved, part->data, sizeof(saved));
	if (!known(loading, saved.inode) || saved.flags & ~(uint32_t)(FLAGS_SAVED | O_DIRECTORY) ||
	    (uint32_t)saved.number <= loading->handle ||
	    (uint32_t)saved.number > fs_handles_max(fs))
		return -EINVAL;
	loading->handle = (uint32_t)saved.number;
	if (loading->checks)
		return 0;
	fs_handle_number(fs, saved.number);
	if (saved.flags & O_DIRECTORY && fs_dir_open(fs, saved.inode, &out) == 0)
		return 0;
	if (!(saved.flags & O_DIRECTORY))
		fd = fs_inode_open(fs, saved.inode, saved.flags, false);
	return fs_handle_add(fs, saved.inode, fd < 0 ? -1 : fd, 0, &out);
}

/* What cannot be mapped any more is zeroes. */
static int load_mapping(struct loading *loading, const struct state_reader *part)
{
	struct fs *fs = loading->fs;
	struct fuse_setupmapping_in map = { .fh = UINT64_MAX, .len = WINDOW_PIECE };
	struct saved_mapping saved;

	if (part->left != sizeof(saved))
		return -EINVAL;
	memcpy(&saved, part->data, sizeof(saved));
	if (!known(loading, saved.inode) || saved.piece >= fs_dax_pieces(fs) || saved.writable > 1)
		return -EINVAL;
	if (loading->checks)
		return 0;
	map.foffset = saved.offset;
	map.moffset = (uint64_t)saved.piece * WINDOW_PIECE;
	map.flags = saved.writable ? FUSE_SETUPMAPPING_FLAG_WRITE : 0;
	fs->inodes[saved.inode].size = saved.size;
	(void)fs_dax_map(fs, saved.inode, &map, false);
	return 0;
}

static int load_part(struct loading *loading)
{
	struct state_reader part;

	if (state_view(&loading->reader, "fs.inode", 1, &part) == 0)
		return load_inode(loading, &part);
	if (state_view(&loading->reader, "fs.handle", 1, &part) == 0)
		return load_handle(loading, &part);
	if (state_view(&loading->reader, "fs.mapping", 1, &part) == 0)
		return load_mapping(loading, &part);
	return -EINVAL;
}

static int load_parts(struct loading *loading)
{
	int err = load_mount(loading);

	while (!err && loading->reader.left)
		err = load_part(loading);
	if (!err && !loading->checks)
		fs_inodes_settle(loading->fs, loading->seen);
	free(loading->seen);
	return err;
}

int fs_load(struct fs *fs, struct state_reader *reader)
{
	struct loading loading = { .fs = fs, .checks = true };
	struct state_reader whole;
	int err = state_view(reader, "fs", 1, &whole);

	if (err)
		return err;
	loading.reader = whole;
	err = load_parts(&loading);
	if (err)
		return err;
	state_free(&fs->loaded);
	fs->loaded.data = malloc(whole.left);
	if (!fs->loaded.data)
		return -ENOMEM;
	memcpy(fs->loaded.data, whole.data, whole.left);
	fs->loaded.len = whole.left;
	return 0;
}

int fs_load_finish(struct fs *fs)
{
	struct state loaded = fs->loaded;
	struct loading loading = { .fs = fs, .reader = { loaded.data, loaded.len } };
	int err;

	if (!loaded.len)
		return 0;
	fs->loaded = (struct state){ 0 };
	fs_forget(fs);
	err = load_parts(&loading);
	if (err)
		fs_forget(fs);
	state_free(&loaded);
	return err;
}
