/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's own: inodes, handles, and a function for each operation.
 *
 * An inode is what the guest has looked up. It is known by its identity (file
 * system, mount, number) and by a name in its parent, and opened by that name
 * when an operation wants a descriptor of it; whether it is still the same is
 * checked then. So descriptors are a cache, of a size that is set, and most
 * operations take one system call. What has lost its name (an open file that
 * was removed) is kept by its descriptor or by those of its handles.
 *
 * Names have no slash and are neither "." nor "..", links are never followed,
 * nothing but files and directories is opened but by O_PATH, and nothing in
 * file systems that are the kernel's own: so nothing leads out of the
 * directory, whatever the guest says and whatever else is renamed meanwhile.
 */
#ifndef DEVICES_FS_SERVER_H
#define DEVICES_FS_SERVER_H

#include <dirent.h>
#include <fcntl.h> /* struct statx */
#include <sys/stat.h>
#include "core/state.h"
#include "core/util.h"
#include "devices/fs/fs.h"

#define FS_ROOT 1u
#define FS_INODES_MAX (1u << 20)

struct fs_identity {
	uint64_t dev, mount, ino;
};

/* Named by its number; 0 is none. */
struct fs_inode {
	struct fs_identity identity;
	uint64_t lookups; /* that the guest has not forgotten */
	uint32_t generation;
	uint32_t children, handles; /* inodes below, and open files: it stays for them */
	uint32_t mappings;          /* pieces of the window that show it */
	int watch;                  /* of inotify, while there are such */
	uint64_t size;              /* so large the guest may take it for, as far as is known */
	uint32_t parent;            /* 0: it has no name any more */
	char *name;
	int fd;           /* O_PATH, or -1 */
	uint32_t handle;  /* the latest one, or 0 */
	uint32_t mode, links; /* as they were seen last */
	uint32_t next_identity, next_name; /* in chains of the two tables, or of free ones */
	uint32_t newer, older; /* of those with an fd */
};

struct fs_handle {
	uint32_t inode; /* 0: free */
	uint32_t generation;
	uint32_t next; /* of the free ones; of the inode's */
	int fd;        /* -1: closed */
	uint32_t users; /* calls that were left: fd stays open for them */
	bool locked;   /* whole (flock) */
	bool locks;    /* it is that of a lock owner, and unknown to the guest */
	uint64_t owner;
	uint32_t pid; /* the guest's, of the latest lock */
	DIR *dir;       /* of a directory, which owns fd */
	long position;  /* up to which the guest has read dir */
	struct dirent *left; /* read, but there was no room for it; or NULL */
};

/* What a piece of the window shows. */
struct fs_mapping {
	uint32_t inode; /* 0: nothing */
	uint32_t end;   /* behind which it shows zeroes */
	bool writable;
	uint64_t offset; /* in the file */
};

struct fs {
	struct fs_conf conf;
	int root_fd, proc_fd; /* proc_fd: /proc; once entered, what the thread has open */
	int notify_fd;        /* of changes to what the window shows */
	bool entered;
	bool acts;         /* as others, where they make something */
	uint32_t uid, gid; /* ours */
	uint64_t caps;     /* that we may have, bits by CAP_... */
	uint64_t quiet_dev; /* of a file system that tells of nothing at a close; 0: none */
	uint64_t features; /* FUSE_..., agreed */
	bool mounted;
	struct state loaded; /* a save, until the thread begins */

	struct fs_inode *inodes;
	uint32_t inode_room, inode_used, free_inode;
	uint32_t generation; /* of the one that was added last, in whatever mount */
	uint32_t *by_identity, *by_name; /* inode_room buckets each */
	uint32_t newest, oldest; /* of those with an fd */
	uint32_t pinned;         /* one whose fd is not to be closed now, or 0 */
	struct fs_handle *handles;
	uint32_t handle_room, free_handle;
	unsigned int fds; /* open now */
	uint32_t cuts;    /* pieces of the window that do not show their files whole */
	struct fs_mapping *mappings; /* what each piece shows; NULL: there is no window */
};

/*
 * Whether a file system is none to share, since the kernel itself answers there: procfs has the
 * memory of whoever opens it, and others give a host away that only some of its files were to leave.
 */
bool fs_is_closed(int fd);

/* ---- inodes: inode.c ---- */

int fs_inodes_init(struct fs *fs);
/* All but the root; what is open is closed. */
void fs_inodes_forget(struct fs *fs);
void fs_inodes_free(struct fs *fs);

/*
 * For a load, after fs_inodes_forget(): room for those below used; the next one to be added has
 * that number; at last those that are taken lose a lookup, and the others are free.
 */
int fs_inodes_reserve(struct fs *fs, uint32_t used);
void fs_inode_number(struct fs *fs, uint32_t inode);
void fs_inodes_settle(struct fs *fs, const bool *taken);

/* The inode of a node id of the guest's; 0 when there is none. */
uint32_t fs_inode_of(const struct fs *fs, uint64_t node);
uint64_t fs_node(const struct fs *fs, uint32_t inode);

/* What fd is, or what it has by that name, which is not followed; "": fd itself. -errno. */
int fs_stat(int fd, const char *name, struct statx *ret_st);

/*
 * A descriptor of it (O_PATH, or a handle's), which stays the table's. -ESTALE: it is gone;
 * -EACCES: fs_is_closed().
 */
int fs_inode_fd(struct fs *fs, uint32_t inode);
/* Two that are open at the same time. */
int fs_inode_fds(struct fs *fs, uint32_t a, uint32_t b, int *ret_a, int *ret_b);
/* What it is by now, even where it is closed to the guest. -ESTALE. */
int fs_inode_stat(struct fs *fs, uint32_t inode, struct statx *ret_st);
/* A path of it for calls that know no descriptors, in the thread's working directory. */
#define FS_PATH_MAX 12
int fs_inode_path(struct fs *fs, uint32_t inode, char path[FS_PATH_MAX]);

/* What dir has by that name; counts as a lookup once fs_inode_remember() was called. -errno. */
int fs_inode_find(struct fs *fs, uint32_t dir, const char *name, struct statx *st,
		  uint32_t *ret_inode);
/* The same where it was looked at already. */
int fs_inode_add(struct fs *fs, uint32_t dir, const char *name, const struct statx *st,
		 uint32_t *ret_inode);
void fs_inode_remember(struct fs *fs, uint32_t inode);
void fs_inode_forget(struct fs *fs, uint32_t inode, uint64_t lookups);
/* It goes, unless something still wants it. */
void fs_inode_put(struct fs *fs, uint32_t inode);

/* That of a name, without looking at the host; 0: none. */
uint32_t fs_inode_named(const struct fs *fs, uint32_t dir, const char *name);
/* Before its name is taken away: other names that it has are not known. */
void fs_inode_hold(struct fs *fs, uint32_t inode);
void fs_inode_rename(struct fs *fs, uint32_t inode, uint32_t dir, const char *name);
void fs_inode_unname(struct fs *fs, uint32_t inode);

/* ---- handles: handle.c ---- */

int fs_handles_init(struct fs *fs);
void fs_handles_forget(struct fs *fs);
void fs_handles_free(struct fs *fs);
/* Open ones at the most. */
uint32_t fs_handles_max(const struct fs *fs);
/* For a load, in rising order: the next one to be added has that number. */
void fs_handle_number(struct fs *fs, uint64_t number);
/* Whether there can be one more. */
bool fs_handle_free(const struct fs *fs);
/* Takes fd over, even on failure; fills the answer, which says flags (FOPEN_...). -ENFILE. */
int fs_handle_add(struct fs *fs, uint32_t inode, int fd, uint32_t flags,
		  struct fuse_open_out *ret_out);
/* -EBADF: none of the inode's. -ESTALE: a load has not found its file. */
int fs_handle_get(struct fs *fs, uint64_t fh, uint32_t inode, struct fs_handle **ret_handle);
void fs_handle_close(struct fs *fs, uint64_t fh, uint32_t inode);
/* What the guest knows it by. */
uint64_t fs_handle_fh(const struct fs *fs, const struct fs_handle *handle);
/* Keeps its descriptor open until fs_handle_put(), closed or not. Returns what to name it by. */
uint32_t fs_handle_hold(struct fs *fs, struct fs_handle *handle);
void fs_handle_put(struct fs *fs, uint32_t handle);
/* Makes room for one descriptor more. -ENFILE. */
int fs_reserve(struct fs *fs);

/* ---- files: file.c ---- */

/*
 * A file, as the guest's flags want it; never anything else. The caller's to close. kill: what
 * truncates takes set-user-id and the like away. -errno.
 */
int fs_inode_open(struct fs *fs, uint32_t inode, uint32_t flags, bool kill);
/* Flags of open() for those of the guest; FOPEN_... for the answer. */
int fs_host_flags(const struct fs *fs, uint32_t flags);
uint32_t fs_open_flags(const struct fs *fs, uint32_t inode, uint32_t flags);

/* A directory, to read it. */
int fs_dir_open(struct fs *fs, uint32_t inode, struct fuse_open_out *ret_out);

/* ---- locks: lock.c ---- */

/* The owner's locks of the inode are no more. */
void fs_unlock(struct fs *fs, uint32_t inode, uint64_t owner);
/* One that has locks; 0: none. */
uint32_t fs_locked(const struct fs *fs);

/* ---- the window: dax.c ---- */

int fs_dax_init(struct fs *fs);
void fs_dax_free(struct fs *fs);
size_t fs_dax_pieces(const struct fs *fs);
/* What a request shows is refused where the disk has no room for it; a load has nobody to tell. */
int fs_dax_map(struct fs *fs, uint32_t inode, const struct fuse_setupmapping_in *map,
	       bool refusable);
/*
 * Before a file gets that size, or a hole up to there: what the guest has mapped to be written has
 * room for it. -ENOSPC, -EDQUOT; else what fs_inode_open() says.
 */
int fs_dax_make_room(struct fs *fs, uint32_t inode, uint64_t size);
/* Whether there is such in the range. */
bool fs_dax_writes(const struct fs *fs, uint32_t inode, uint64_t offset, uint64_t len);
/* A hole in a file of which fd can be written; where there is such it keeps its room. -errno. */
int fs_dax_punch(struct fs *fs, uint32_t inode, int fd, uint64_t offset, uint64_t len);
/* Takes everything out of it, or all of an inode. */
void fs_dax_forget(struct fs *fs);
void fs_dax_drop(struct fs *fs, uint32_t inode);
/* Before a reply: what was lost is looked for again. */
void fs_dax_restore(struct fs *fs);
/* Whether the guest is to map it. */
bool fs_dax_wanted(const struct fs *fs, const struct statx *st);

/* ---- replies: attr.c ---- */

void fs_fill_attr(const struct fs *fs, const struct statx *st, struct fuse_attr *attr);
void fs_fill_entry(struct fs *fs, uint32_t inode, const struct statx *st,
		   struct fuse_entry_out *entry);
/* The entry of a name, and a lookup of it. */
ssize_t fs_reply_entry(struct fs *fs, uint32_t dir, const char *name, struct fuse_entry_out *out);

uint32_t fs_map_in(const struct fs_map *map, uint32_t guest);
uint32_t fs_map_out(const struct fs_map *map, uint32_t host);

/* ---- as whom: owner.c ---- */

/* Once, on the thread. */
void fs_own_enter(struct fs *fs);

/* What the guest's security module says of something new; name NULL: nothing. */
struct fs_label {
	const char *name;
	const void *value;
	size_t len;
};

struct fs_making {
	const char *name;
	const char *target; /* of a symbolic link */
	uint32_t mode, umask;
	int open_flags; /* of what is opened as well; 0: it is not */
	struct fs_label label;
};

/* Makes it the asker's. The descriptor of what is opened, which is the caller's; 0; -errno. */
int fs_make(const struct fs *fs, int dir_fd, const struct fs_making *making,
	    const struct fuse_in_header *asker);

/*
 * Around a change of something that has the mode, or gets it: unless kill, set-user-id and the
 * like stay. Without it the host's kernel takes them away, as from whoever has no CAP_FSETID.
 */
bool fs_keep_begin(const struct fs *fs, uint32_t mode, bool kill);
void fs_keep_end(const struct fs *fs, bool keeps);

/* ---- labels: xattr.c ---- */

/* From what is left of the arguments. -EINVAL. */
int fs_take_label(const struct fs *fs, struct fs_call *call, struct fs_label *ret_label);
int fs_label(struct fs *fs, uint32_t inode, const struct fs_label *label);

/* ---- saves: save.c ---- */

/* FUSE_... that we want. */
uint64_t fs_features(const struct fs *fs);
/* What fs_load() has kept becomes the mount. -ENOMEM. */
int fs_load_finish(struct fs *fs);

/* ---- operations ---- */

/* Whether a directory may have such a one. */
bool fs_is_name(const char *name);
/* One at the front of what is left of the arguments; NULL: there is none. */
const char *fs_take_name(struct fs_call *call);
/* The same for any string. */
const char *fs_take_string(struct fs_call *call);

/* inode is that of the header's node; args has at least as many bytes as the table says. */
typedef ssize_t fs_operation(struct fs *fs, uint32_t inode, const void *in, struct fs_call *call);

fs_operation fs_init, fs_destroy, fs_forget_one, fs_forget_batch, fs_interrupt;
fs_operation fs_lookup, fs_mknod, fs_mkdir, fs_symlink, fs_link, fs_unlink, fs_rmdir, fs_rename,
	fs_rename2, fs_create, fs_tmpfile;
fs_operation fs_getattr, fs_setattr, fs_readlink, fs_statfs, fs_access;
fs_operation fs_open_file, fs_flush, fs_release, fs_lseek;
fs_operation fs_read, fs_write, fs_fsync, fs_fallocate, fs_copy_file_range, fs_syncfs;
fs_operation fs_getlk, fs_setlk;
fs_operation fs_setupmapping, fs_removemapping;
fs_operation fs_opendir, fs_readdir, fs_readdirplus;
fs_operation fs_setxattr, fs_getxattr, fs_listxattr, fs_removexattr;

#endif
