/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks. A format (raw.c, qcow2.c) says where bytes are, an engine (sync.c, uring.c) moves them;
 * disk.c puts the two together as a user asks for it. Devices pull from the queues that it opens.
 */
#ifndef DEVICES_BLOCK_BLOCK_H
#define DEVICES_BLOCK_BLOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include "core/bucket.h"
#include "core/opt.h"
#include "core/util.h"

#define BLOCK_SECTOR 512
#define BLOCK_FDS_MAX 16 /* of one disk, with those of its bases */
/*
 * So many requests, or bytes to be read, go to the kernel at a time: the driver can begin with what is
 * done while the rest is copied. Of writes little is done at once, and more can be merged.
 */
#define BLOCK_BATCH 16
#define BLOCK_BATCH_READ KIB(256)

enum block_format_choice { BLOCK_FORMAT_DEFAULT, BLOCK_FORMAT_RAW, BLOCK_FORMAT_QCOW2 };
enum block_engine_choice { BLOCK_ENGINE_AUTO, BLOCK_ENGINE_URING, BLOCK_ENGINE_SYNC };
enum block_cache { BLOCK_CACHE_WRITEBACK, BLOCK_CACHE_WRITETHROUGH, BLOCK_CACHE_NONE, BLOCK_CACHE_UNSAFE };
/* What becomes of a request that failed: the guest is told, or it waits for a person. */
enum block_policy { BLOCK_REPORT, BLOCK_STOP, BLOCK_STOP_ENOSPC };

/* All that a user says about a disk, whatever the guest sees it as. */
struct block_conf {
	char *path;
	uint64_t scratch;
	int format;
	bool backing;
	uint64_t cache_size;
	bool read_only;
	bool direct;
	int engine;
	bool sqpoll;
	int cache;
	uint64_t block_size;
	int write_error, read_error;
	struct bucket_rates limit;
};

extern const char *const block_formats[], *const block_engines[], *const block_caches[],
	*const block_write_policies[], *const block_read_policies[];

/* The rows of a block_conf that is the struct owner's member of that name. */
#define BLOCK_OPT(owner, name, field) \
	.offset = offsetof(owner, name) + offsetof(struct block_conf, field)
#define BLOCK_OPTS(owner, name) \
	{ .key = "path", .type = OPT_STRING, .bare = true, .required = true, .one_of = true, \
	  BLOCK_OPT(owner, name, path), .arg = "PATH", .help = "an image or a block device" }, \
	{ .key = "scratch", .type = OPT_SIZE, .required = true, .one_of = true, \
	  .min = BLOCK_SECTOR, .max = 1ULL << 60, BLOCK_OPT(owner, name, scratch), .arg = "SIZE", \
	  .help = "instead of a path: an empty disk in memory, gone after the run" }, \
	{ .key = "format", .type = OPT_CHOICE, BLOCK_OPT(owner, name, format), \
	  .choices = block_formats, .help = "default is raw, and refuses what looks like qcow2" }, \
	{ .key = "backing", .type = OPT_BOOL, BLOCK_OPT(owner, name, backing), \
	  .help = "qcow2: the files that the image names as what it is based on may be opened" }, \
	{ .key = "cache-size", .type = OPT_SIZE, .min = KIB(64), .max = GIB(1), \
	  BLOCK_OPT(owner, name, cache_size), .arg = "SIZE", \
	  .help = "qcow2: for tables in memory; default is 4M" }, \
	{ .key = "ro", .type = OPT_BOOL, BLOCK_OPT(owner, name, read_only), \
	  .help = "the guest cannot write; several VMs may share the image" }, \
	{ .key = "direct", .type = OPT_BOOL, BLOCK_OPT(owner, name, direct), \
	  .help = "go past the host's page cache" }, \
	{ .key = "engine", .type = OPT_CHOICE, BLOCK_OPT(owner, name, engine), \
	  .choices = block_engines, .help = "how I/O is done; auto takes uring where it is permitted" }, \
	{ .key = "sqpoll", .type = OPT_BOOL, BLOCK_OPT(owner, name, sqpoll), \
	  .help = "uring: a thread of the kernel looks for requests, which takes a core" }, \
	{ .key = "cache", .type = OPT_CHOICE, BLOCK_OPT(owner, name, cache), \
	  .choices = block_caches, \
	  .help = "none is direct, unsafe ignores flushes" }, \
	{ .key = "block-size", .type = OPT_UINT, .power_of_two = true, .min = 512, .max = 4096, \
	  BLOCK_OPT(owner, name, block_size), .arg = "BYTES", \
	  .help = "of the guest's disk, 512 to 4096; 512 unless direct needs more" }, \
	{ .key = "werror", .type = OPT_CHOICE, BLOCK_OPT(owner, name, write_error), \
	  .choices = block_write_policies, \
	  .help = "what becomes of a failed write; enospc stops when the host is full" }, \
	{ .key = "rerror", .type = OPT_CHOICE, BLOCK_OPT(owner, name, read_error), \
	  .choices = block_read_policies, .help = "the same for a failed read" }, \
	{ .key = "iops", .type = OPT_UINT, .max = UINT32_MAX, \
	  BLOCK_OPT(owner, name, limit.requests), .arg = "N", .help = "requests per second at the most" }, \
	{ .key = "iops-burst", .type = OPT_UINT, .max = UINT32_MAX, \
	  BLOCK_OPT(owner, name, limit.requests_burst), .arg = "N", \
	  .help = "after a pause; a tenth of iops unless given" }, \
	{ .key = "bw", .type = OPT_SIZE, .max = 1ULL << 50, \
	  BLOCK_OPT(owner, name, limit.bytes), .arg = "BYTES", .help = "bytes per second at the most" }, \
	{ .key = "bw-burst", .type = OPT_SIZE, .max = 1ULL << 50, \
	  BLOCK_OPT(owner, name, limit.bytes_burst), .arg = "BYTES", \
	  .help = "after a pause; a tenth of bw unless given" }

/* For a class's hints: what to tell a user for the errors of this folder. */
extern const struct hint block_hints[];

/*
 * For a class's sandbox: the system calls of a thread that has a queue. Wants
 * seccomp/filter.h, <linux/fs.h> and <linux/io_uring.h>.
 */
#define BLOCK_CALLS \
	/* uring.c */ \
	SC(io_uring_enter), \
	SC_ARG(io_uring_register, 1, IORING_REGISTER_ENABLE_RINGS), \
	/* sync.c */ \
	SC(preadv), \
	SC(pwritev2), \
	SC(fdatasync), \
	/* raw.c, when the disk grows, and qcow2, when its file does */ \
	SC(ftruncate), \
	SC(lseek), \
	/* range.c */ \
	SC(fallocate), \
	SC_ARG(ioctl, 1, BLKDISCARD), \
	SC_ARG(ioctl, 1, BLKZEROOUT), \
	SC_ARG(ioctl, 1, BLKSECDISCARD)

/*
 * For the sandbox of the thread that calls block_disk_adopt() and closes the disk; besides
 * BLOCK_CALLS, as qcow2 repairs what was not closed. Wants <fcntl.h> as well.
 */
#define BLOCK_ADOPT_CALLS \
	/* file.c */ \
	SC(newfstatat), \
	SC(fstat), \
	SC(statx), \
	SC_ARG(fcntl, 1, F_GETFL), \
	SC_ARG(fcntl, 1, F_SETFL), \
	SC_ARG(fcntl, 1, F_OFD_SETLK), \
	SC_ARG(fcntl, 1, F_DUPFD_CLOEXEC), \
	SC_ARG(ioctl, 1, BLKGETSIZE64), \
	SC_ARG(ioctl, 1, BLKPBSZGET), \
	SC_ARG(ioctl, 1, BLKSSZGET), \
	/* disk.c */ \
	SC_ARG(ioctl, 1, BLKSECDISCARD), \
	/* raw.c, qcow2_file.c, image.c */ \
	SC(pread64), \
	SC(pwrite64), \
	SC(preadv), \
	SC(pwritev2), \
	SC(fdatasync), \
	SC(fsync), \
	SC(ftruncate), \
	SC(lseek), \
	SC(fallocate)

/* An open file or block device. Several engines may move its bytes at the same time. */
struct block_image {
	int fd;
	uint64_t size;       /* bytes; of a disk a multiple of 512 */
	uint32_t block_size; /* what I/O must be aligned to: 512 unless direct needs more */
	uint32_t physical_block_size; /* what it had better be aligned to */
	/* Of buffers for direct I/O; 0: it is not direct. */
	uint32_t buffer_align;
	bool read_only;
	bool device;         /* a block device */
	bool sqpoll;         /* for uring.c */
	/* What else an engine may read from, in a list that its number counts. */
	struct block_image *base;
	unsigned int number;
	/* What a flush should have written may be gone: from then on nothing counts as durable. */
	_Atomic bool lost;
};

/*
 * Opens path and takes an OFD lock on it, shared when read_only.
 * -EAGAIN: locked by another process; -EROFS or -EACCES: cannot be written;
 * -ENOTBLK: neither a file nor a block device; -EOPNOTSUPP: its file system has
 * no direct I/O.
 */
int block_image_open(struct block_image *image, const char *path, bool read_only, bool direct);
/* The same for a file that somebody else has opened. fd is the image's if it succeeds. */
int block_image_adopt(struct block_image *image, int fd, bool read_only, bool direct);
/* An empty one in memory, which is gone when it is closed. */
int block_image_scratch(struct block_image *image, uint64_t size, bool read_only);
/* Accepts an image whose fd is -1. */
void block_image_close(struct block_image *image);

struct block_format;
struct block_request;
struct block_engine;
struct block_engine_ops;

/* What a guest sees as one disk. image.size is the guest's; image.fd is the file. */
struct block_disk {
	const struct block_conf *conf;
	struct block_image image;
	const struct block_format *format;
	void *own; /* the format's */
	bool can_erase;
	bool reads_zeroes; /* where a discard gave room back; elsewhere it left what there was */
	/* Whoever takes a request out of a ring asks first, where there is a limit. */
	bool limited;
	struct bucket_pair limit;
};

/* One thread's way to the disk. */
struct block_queue {
	const struct block_engine_ops *ops;
	struct block_engine *engine; /* NULL: not open */
	bool unsafe; /* flushes are ignored */
};

/*
 * Opens what conf names; it outlives the disk. The errors of block_image_open();
 * -EINVAL: size not a multiple of the block size or zero; -ERANGE: direct I/O
 * needs larger blocks; -EMEDIUMTYPE: it looks like qcow2, and nobody said that it is raw.
 */
int block_disk_open(struct block_disk *disk, const struct block_conf *conf);
/* The limit alone, for requests that go to something else. */
void block_disk_limit(struct block_disk *disk, const struct block_conf *conf);
/*
 * The same for a file that is open, by a thread that may open nothing: conf can
 * have neither scratch nor backing, nor a format and direct that want the file
 * twice (-EOPNOTSUPP). fd is the disk's in any case.
 */
int block_disk_adopt(struct block_disk *disk, const struct block_conf *conf, int fd);
/* After its queues. Accepts one that is zeroed or could not be opened. */
void block_disk_close(struct block_disk *disk);
/* The fds that a thread with a queue needs; returns how many. */
size_t block_disk_fds(const struct block_disk *disk, int fds[BLOCK_FDS_MAX]);

/*
 * Makes it so many bytes long; 0: as long as its file or device is by now. On a
 * thread with a queue. The size is in image.size then. -EINVAL: shorter than it
 * is, or no multiple of the block size; -EOPNOTSUPP: the format cannot;
 * -ENOTEMPTY: what it is based on is longer.
 */
int block_disk_resize(struct block_disk *disk, uint64_t bytes);
/*
 * What the user wants to become of a request that ended with result: true when
 * it is to be kept and submitted again later. Never a flush: what it should have
 * written may be gone.
 */
bool block_disk_stops(const struct block_disk *disk, const struct block_request *request, int result);

/*
 * depth is the number of requests that can be in flight. -ENOSYS or -EPERM:
 * the host forbids the engine that conf insists on; -EUSERS: the format has
 * no more queues.
 */
int block_queue_open(struct block_disk *disk, unsigned int depth, struct block_queue *ret_queue);
/* Nothing may be in flight. Accepts one that is not open. */
void block_queue_close(struct block_queue *queue);

/* What a format is for disk.c; close, fds and resize may be missing. */
struct block_format {
	/*
	 * disk->image is the open file, with the file's size. Checks it, sets
	 * disk->own, and image.size to the disk's. -errno; close is called after a failure as well.
	 */
	int (*open)(struct block_disk *disk);
	void (*close)(struct block_disk *disk);
	/* Adds the fds of its own, all but image.fd, and returns how many. */
	size_t (*fds)(const struct block_disk *disk, int fds[BLOCK_FDS_MAX - 1]);
	/* bytes as for block_disk_resize(), image.size is set by the caller. */
	int (*resize)(struct block_disk *disk, uint64_t bytes, uint64_t *ret_size);
	int (*queue_open)(struct block_disk *disk, unsigned int depth,
			  struct block_queue *ret_queue);
};

extern const struct block_format block_raw, block_qcow2;

/*
 * Whether a file without a stated format begins as qcow2 does. A guest that could write
 * that would choose its disk's format the next time, backing file and all.
 */
bool block_looks_like_qcow2(int fd);

/* For formats: an engine over the file as it is, by what conf says. */
int block_file_queue_open(struct block_disk *disk, unsigned int depth,
			  struct block_queue *ret_queue);

enum block_op {
	BLOCK_READ,
	BLOCK_WRITE,
	BLOCK_FLUSH,
	BLOCK_DISCARD, /* a hint: what is read there afterwards is anything */
	BLOCK_ZERO,
	BLOCK_ERASE,   /* securely; -EOPNOTSUPP where the host cannot */
};

/* One request. The owner keeps it and its iovecs until done runs. */
struct block_request {
	enum block_op op;
	uint64_t offset; /* bytes */
	const struct iovec *iov;
	unsigned int iov_count;
	/* The sum of the iovecs; of a range (DISCARD and below), which has none, its length. 0 for a flush alone. */
	uint64_t len;
	const struct block_image *base; /* READ: from there; NULL: from the engine's own */
	bool durable; /* what it changes is on stable storage when done runs */
	bool unmap;   /* ZERO: give the space back where that reads as zeroes */
	/* result: 0 or -errno. A short transfer is carried on or becomes -EIO. */
	void (*done)(struct block_request *request, int result);
	/* the engine's own */
	uint64_t moved;
	struct block_request *merged; /* the next one that the same operation moves */
	bool by_writing;   /* ZERO: as the host has no call for it */
	bool by_flushing;  /* a durable range, of which the rest is done */
	struct iovec rest; /* the partly moved iovec while a short transfer is carried on */
};

struct block_engine_ops {
	/* image outlives the engine; depth is the number of requests that can be in flight. */
	int (*open)(struct block_engine **ret_engine, struct block_image *image,
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

/* A guest's request: the way into the queue's engine. */
static inline void block_queue_submit(const struct block_queue *queue,
				      struct block_request *request)
{
	if (queue->unsafe) {
		request->durable = false;
		if (request->op == BLOCK_FLUSH) {
			request->done(request, 0);
			return;
		}
	}
	queue->ops->submit(queue->engine, request);
}

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
bool block_request_moved(struct block_image *image, struct block_request *request, ssize_t result);

/* For engines (range.c). Whether it is done by one call on a range, and not by moving bytes. */
static inline bool block_request_is_range(const struct block_request *request)
{
	return request->op >= BLOCK_DISCARD && !request->by_writing && !request->by_flushing;
}

static inline bool block_request_is_flush(const struct block_request *request)
{
	return request->op == BLOCK_FLUSH || request->by_flushing;
}

static inline void block_request_begin(struct block_request *request)
{
	request->moved = 0;
	request->merged = NULL;
	request->by_writing = request->by_flushing = false;
}

/* The mode of the fallocate() that does it, for files. */
int block_range_mode(const struct block_request *request);
/* Does it: 0 or -errno. */
int block_range_call(const struct block_image *image, const struct block_request *request);

/*
 * For engines (bounce.c): direct I/O from and to buffers that the host cannot
 * take goes through one that it can, a piece at a time.
 */
struct block_bounce;

/* NULL where the image is not direct. -ENOMEM. */
int block_bounce_new(const struct block_image *image, struct block_bounce **ret_bounce);
void block_bounce_free(struct block_bounce *bounce);
bool block_bounce_wanted(const struct block_image *image, const struct block_request *request);
/* Moves what fits: bytes or -errno. */
ssize_t block_bounce_move(struct block_bounce *bounce, const struct block_image *image,
			  const struct block_request *request);

#endif
