/* SPDX-License-Identifier: Apache-2.0 */
/* The registry of virtio devices. */
#ifndef DEVICES_CLASSES_H
#define DEVICES_CLASSES_H

struct virtio_class;

/* In the order in which devices are placed on the bus; ended by NULL. */
extern const struct virtio_class *const virtio_classes[];

#endif
