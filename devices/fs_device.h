/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the shared directory share: the device itself (fs.c) and its requests (fs_queue.c). */
#ifndef DEVICES_FS_DEVICE_H
#define DEVICES_FS_DEVICE_H

#include "devices/fs/fs.h"
#include "devices/virtio/virtio.h"
#include "seccomp/helpers.h"

/* Travels with its chain. */
struct fs_request {
	struct chain *chain;
	struct fs_call call;
	struct fuse_lk_in lock;  /* that it waits for */
	struct fs_request *next; /* who waits */
};

/* What is known of the driver's FORGETs. */
struct fs_forgets {
	struct timer timer;
	unsigned int count;               /* since the timer was set */
	unsigned int prompt, prompt_next; /* to be served at once, now and after the next doubt */
};

struct fs_dev {
	struct virtio_dev dev;
	struct fs *fs;
	struct helpers helpers; /* none with one thread */
	struct event helped;
	struct fs_request *waiting; /* for locks, in the order in which they came */
	struct timer lock_timer;
	uint64_t lock_ns;
	struct fs_forgets forgets;
	struct event changes; /* of files that the guest has mapped */
	_Alignas(8) uint8_t args[FS_ARGS_MAX];
	_Alignas(8) uint8_t reply[FS_REPLY_MAX];
};

enum fs_counter { FS_REQUESTS, FS_IN_BYTES, FS_OUT_BYTES, FS_ERRORS, FS_HELPED, FS_LOCK_WAITS,
		  FS_CUTS };

static inline struct fs_dev *fs_dev_of(struct virtio_dev *dev)
{
	return container_of(dev, struct fs_dev, dev);
}

/* Threads for what takes long; before the worker is launched. -errno. */
int fs_open_helpers(struct fs_dev *fs_dev, unsigned int count);
/* Has locks waited for. -errno. */
int fs_open_locks(struct fs_dev *fs_dev);
/* Has several inodes forgotten at once. -errno. */
int fs_open_forgets(struct fs_dev *fs_dev);

void fs_kick(struct virtio_dev *dev, struct virtq *queue);
void fs_queue_stop(struct virtq *queue);

#endif
