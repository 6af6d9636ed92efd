/* SPDX-License-Identifier: Apache-2.0 */
/* What can be done to a running balloon from outside; on the main thread. */
#ifndef DEVICES_BALLOON_H
#define DEVICES_BALLOON_H

#include <stdint.h>

struct virtio_dev;

/* The guest is to have given back so many bytes, by its own pace: the counter "actual" tells. -ERANGE. */
int balloon_resize(struct virtio_dev *dev, uint64_t bytes);

/*
 * Asks the driver for new statistics, which the counters then have, one more in "stats_updates".
 * -EAGAIN: it has not yet answered the last time, or has no such queue.
 */
int balloon_ask(struct virtio_dev *dev);

/*
 * Asks the driver once which pages are free; the host takes these first when it is short of memory.
 * The counter "hint_rounds" has one more when all were named. -EAGAIN: there is no driver that could.
 */
int balloon_hint(struct virtio_dev *dev);

#endif
