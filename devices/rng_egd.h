/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A daemon that gives entropy at a UNIX socket by EGD's protocol. One that ends is
 * connected to again. It may send more, less or nothing: it is asked for as much as
 * one answer has, which is the guest's only when it is whole.
 */
#ifndef DEVICES_RNG_EGD_H
#define DEVICES_RNG_EGD_H

#include "core/redial.h"
#include "devices/virtio/virtio.h"

struct rng_egd {
	struct virtio_dev *dev; /* NULL: no daemon was named */
	struct event event;     /* the connection */
	struct event door;      /* where the next one comes */
	bool gone;
	uint8_t asked, come, taken; /* bytes of the answer */
	uint8_t answer[UINT8_MAX];
};

/* Connects, before confinement. -errno of usock_connect(). */
int rng_egd_open(struct rng_egd *egd, struct virtio_dev *dev, const char *path);
/* Accepts a zeroed one. */
void rng_egd_close(struct rng_egd *egd);

/*
 * As much as is there, and asks for up to len bytes where nothing is. -EAGAIN: the
 * device's queue will be kicked; -ENOTCONN: likewise, when there is a daemon again.
 */
ssize_t rng_egd_read(struct rng_egd *egd, void *buffer, size_t len);
#define RNG_EGD_CALLS \
	SC_ARG(sendto, 3, MSG_NOSIGNAL), SC(shutdown), SC(dup3), REDIAL_CALLS

#endif
