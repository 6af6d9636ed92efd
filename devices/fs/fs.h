/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A FUSE server (linux/fuse.h, 7.31 and newer) for one directory of the host:
 * what answers the requests of a virtio-fs device. It knows nothing of queues.
 *
 * One thread owns it: fs_open() and fs_close() come before and after, the rest
 * is on that thread, after fs_enter(). It may have a root, a table of fds and
 * capabilities of its own. Threads that are to fs_run() have the same table.
 */
#ifndef DEVICES_FS_FS_H
#define DEVICES_FS_FS_H

#include <limits.h>
#include <linux/fuse.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include "core/state.h"
#include "core/util.h"
#include "core/window.h"

/* Bytes of a request behind its header, but for what WRITE writes: an extended attribute's. */
#define FS_ARGS_MAX KIB(64 + 4)
/* Bytes of a reply behind its header, but for what READ reads. */
#define FS_REPLY_MAX KIB(64)
#define FS_FDS_MIN 64

enum fs_cache { FS_CACHE_AUTO, FS_CACHE_NEVER, FS_CACHE_ALWAYS };

/* count owners of the guest's, from guest on, are those from host on; others are what they are. */
struct fs_map {
	uint32_t guest, host, count;
};

struct fs_conf {
	bool read_only;
	enum fs_cache cache;
	bool writeback;
	bool xattr;
	bool acl, labels; /* with xattr: ACLs, unless squash; the guest's security labels */
	bool locks;  /* those of files are the host's, too */
	bool squash; /* everything belongs to the guest's root, and is made as whoever runs us */
	struct fs_map uids, gids;
	struct window *window; /* where the guest maps files; NULL: nowhere */
	unsigned int fds; /* open ones at the most, FS_FDS_MIN at least */
};

struct fs;

/*
 * Opens the directory and what it takes to serve it. -ENOTDIR, -EACCES;
 * -EOPNOTSUPP: it is of the kernel's own, as /proc and /sys are; -ENOSYS: /proc is not there; -ENOMEM.
 */
int fs_open(const char *path, const struct fs_conf *conf, struct fs **ret_fs);
/* Accepts NULL. What is open goes with it. */
void fs_close(struct fs *fs);
/* The directory (O_PATH): for rules of the jail. */
int fs_dir(const struct fs *fs);
/* fds that the thread has to keep, into fds; returns how many: FS_KEEP_FDS at the most. */
#define FS_KEEP_FDS 2
size_t fs_fds(const struct fs *fs, int fds[FS_KEEP_FDS]);

/* On the thread: it gets an umask and a working directory of its own, and what was loaded. -errno. */
int fs_enter(struct fs *fs);
/* Whoever mounts next begins anew: closes and forgets everything. */
void fs_forget(struct fs *fs);

/*
 * Appends the mount. On the thread. -EBUSY: the guest has a file open that was removed, whose last
 * name is told; -ENOLCK: it has a lock of that file; -ENOMEM.
 */
int fs_save(struct fs *fs, struct state *state, char file[PATH_MAX]);
/* Keeps the next section of a save for the next fs_enter(). -EINVAL: it cannot be one. */
int fs_load(struct fs *fs, struct state_reader *reader);

/*
 * KVM got no page of the window for the guest: puts zeroes behind the ends of
 * files, or in the place of what cannot be read. Returns in how many places.
 */
size_t fs_mend(struct fs *fs);
/* An fd that can be read when it is time for fs_look(): files in the window were changed; -1: there is none. */
int fs_notify_fd(const struct fs *fs);
void fs_look(struct fs *fs);

struct fs_call;

/* A system call that may take the host long. What it is for stays open until fs_finish(). */
struct fs_work {
	ssize_t (*run)(const struct fs_call *call); /* -errno */
	uint32_t handles[2];                        /* 0: none */
	int fds[2];
	bool own_fd; /* the first one is of no handle */
	off_t offsets[2];
	size_t len;
	int flags;
	uint32_t mode; /* of what is changed, if set-user-id and the like are to stay */
	ssize_t result;
};

/* A request and its reply, whose header is the caller's. */
struct fs_call {
	struct fuse_in_header header; /* len is not looked at */
	const void *args;             /* what follows, or its part in front of what WRITE writes */
	size_t args_len;
	struct iovec *data; /* what WRITE writes; the room for what READ reads */
	unsigned int data_count;
	size_t data_len;
	void *reply;       /* FS_REPLY_MAX bytes, of the caller's; not looked at by READ */
	size_t reply_room; /* how many of them fit into the guest's buffers */
	bool may_leave;    /* what may take the host long, for fs_run() and fs_finish() */
	struct fs_work work;
};

/* What the caller has to do with it. */
static inline bool fs_has_data(uint32_t opcode)
{
	return opcode == FUSE_READ || opcode == FUSE_WRITE;
}

static inline bool fs_has_reply(uint32_t opcode)
{
	return opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET;
}

/*
 * The length of the reply behind its header (of READ: bytes in data), or -errno for that header.
 * -EINPROGRESS: something was left. -EAGAIN of FUSE_SETLKW: not yet, it is to be served again.
 */
ssize_t fs_serve(struct fs *fs, struct fs_call *call);
/* What was left, on any thread. args and reply may be others by now. */
void fs_run(struct fs_call *call);
/* As fs_serve(), afterwards. */
ssize_t fs_finish(struct fs *fs, struct fs_call *call);

#endif
