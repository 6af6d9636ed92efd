/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks: a format says where bytes are (raw.c), an engine moves them (sync.c,
 * uring.c). The two do not know each other; a device pulls from both.
 */
#ifndef DEVICES_BLOCK_BLOCK_H
#define DEVICES_BLOCK_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* An open raw image or block device. Several engines may move its bytes at the same time. */
struct block_image {
	int fd;
	uint64_t size;      /* bytes, a multiple of 512 */
	uint32_t block_size; /* what I/O must be aligned to: 512 unless direct needs more */
	bool read_only;
};

/*
 * Opens path and takes an OFD lock on it, shared when read_only.
 * -EAGAIN: locked by another process; -EROFS or -EACCES: cannot be written;
 * -EINVAL: size not a multiple of 512 or zero; -ENOTBLK: neither a file nor a
 * block device; -EOPNOTSUPP: its file system has no direct I/O.
 */
int block_image_open(struct block_image *image, const char *path, bool read_only, bool direct);
/*
 * An empty disk in memory, which is gone when it is closed. -EINVAL: size not a
 * multiple of 512 or zero.
 */
int block_image_scratch(struct block_image *image, uint64_t size, bool read_only);
/* Accepts an image whose fd is -1. */
void block_image_close(struct block_image *image);

enum block_op { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH };

/* One request. The owner keeps it and its iovecs until done runs. */
struct block_request {
	enum block_op op;
	uint64_t offset; /* bytes */
	const struct iovec *iov;
	unsigned int iov_count;
	size_t len; /* the sum of the iovecs; not 0 for a read or a write */
	bool durable; /* a write is on stable storage when done runs */
	/* result: 0 or -errno. A short transfer is carried on or becomes -EIO. */
	void (*done)(struct block_request *request, int result);
	/* the engine's own */
	size_t moved;
	struct iovec rest; /* the partly moved iovec while a short transfer is carried on */
};

struct block_engine;

struct block_engine_ops {
	/* image outlives the engine; depth is the number of requests that can be in flight. */
	int (*open)(struct block_engine **ret_engine, const struct block_image *image,
		    unsigned int depth);
	/*
	 * The fd that is readable when completions are there, or -1; its owner
	 * watches it and calls complete.
	 */
	int (*fd)(const struct block_engine *engine);
	/* On the thread that will use the engine from then on. Nothing when it was started before. */
	int (*start)(struct block_engine *engine);
	/* Takes a request; done may run within the call. Never blocks for want of room up to depth. */
	void (*submit)(struct block_engine *engine, struct block_request *request);
	/* Hands what was submitted to the kernel: once per batch. */
	void (*flush)(struct block_engine *engine);
	/* Runs done for what has completed. */
	void (*complete)(struct block_engine *engine);
	/* Waits until nothing is in flight; done runs for each. */
	void (*drain)(struct block_engine *engine);
	/* Nothing may be in flight. Accepts NULL. */
	void (*close)(struct block_engine *engine);
};

/* io_uring through liburing; open gives -ENOSYS or -EPERM where the host forbids it. */
extern const struct block_engine_ops block_uring;
/* preadv and pwritev2 on the caller's thread. */
extern const struct block_engine_ops block_sync;

/*
 * For engines (request.c). The iovecs that are still to be moved, at
 * request->offset + request->moved: all of them at first, less after a short transfer.
 */
unsigned int block_request_rest(struct block_request *request, const struct iovec **ret_iov);
/*
 * Accounts for what the system call for the rest returned: bytes or -errno.
 * False when it has to be called again; true when the request was over and done has run.
 */
bool block_request_moved(struct block_request *request, ssize_t result);

#endif
