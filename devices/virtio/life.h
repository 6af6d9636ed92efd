/* SPDX-License-Identifier: Apache-2.0 */
/* Of a device's life what its workers are made with; a worker's queues stand in a row. */
#ifndef DEVICES_VIRTIO_LIFE_H
#define DEVICES_VIRTIO_LIFE_H

#include "devices/virtio/virtio.h"

/* The first queue of those that a worker serves. */
struct virtq *virtio_first_queue(const struct virtio_dev *dev, unsigned int worker);

/* For its loop: shows drivers what a turn has returned; looks for work. first is its first queue. */
void virtio_publish(void *first);
bool virtio_look(void *first, bool last);

/* For a queue's doorbell, and for its stop by a reset. */
void virtio_doorbell(struct event *event, uint32_t revents);
int virtio_stop_queue(void *arg);

#endif
