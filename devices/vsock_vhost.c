// SPDX-License-Identifier: Apache-2.0
/*
 * Packets moved by the host's kernel, to AF_VSOCK sockets of the host. It serves
 * both queues or none; the event queue stays the device's.
 */
#include <sys/ioctl.h>
#include "devices/vsock.h"

/* Of the rings and the packets: without these it does not do what the configuration asks for. */
#define VSOCK_VHOST_WANTED \
	(1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_F_RING_PACKED | 1ULL << VIRTIO_F_IN_ORDER)
/* And what it may know. */
#define VSOCK_VHOST_FEATURES \
	(VSOCK_VHOST_WANTED | 1ULL << VIRTIO_RING_F_INDIRECT_DESC | 1ULL << VIRTIO_RING_F_EVENT_IDX | \
	 1ULL << VIRTIO_VSOCK_F_STREAM | 1ULL << VIRTIO_VSOCK_F_SEQPACKET)

int vsock_vhost_open(struct vsock *vsock)
{
	const struct vsock_conf *conf = vsock->dev.conf;
	struct virtio_dev *dev = &vsock->dev;
	int r;

	if (conf->seqpacket || conf->connections || conf->buffer)
		return -ESOCKTNOSUPPORT;
	if (vhost_kernel_open(&vsock->vhost, "/dev/vhost-vsock", dev->mem) < 0)
		return -ENOLINK;
	if (dev->offered & VSOCK_VHOST_WANTED & ~vsock->vhost.features)
		return -EPROTONOSUPPORT;
	dev->offered &= vsock->vhost.features | ~VSOCK_VHOST_FEATURES;
	dev->served_by = "vhost-vsock";
	if (ioctl(vsock->vhost.fd, VHOST_VSOCK_SET_GUEST_CID, &conf->cid) < 0)
		return -errno;
	r = worker_keep_fd(&dev->workers[0], vsock->vhost.fd);
	if (!r)
		r = virtq_lend_init(&dev->queues[VSOCK_RX]);
	return r ? r : virtq_lend_init(&dev->queues[VSOCK_TX]);
}

int vsock_vhost_start(struct vsock *vsock)
{
	return vhost_start(&vsock->vhost, vsock->dev.features);
}

static int set_running(const struct vsock *vsock, int running)
{
	return ioctl(vsock->vhost.fd, VHOST_VSOCK_SET_RUNNING, &running) < 0 ? -errno : 0;
}

int vsock_vhost_queue_start(struct vsock *vsock, struct virtq *queue)
{
	const struct virtq *queues = vsock->dev.queues;
	int r;

	if (queue->index == VSOCK_EVENT)
		return 0;
	r = virtq_lend(queue, &vsock->vhost, queue->index);
	if (r < 0 || !queues[VSOCK_RX].vhost || !queues[VSOCK_TX].vhost)
		return r;
	r = set_running(vsock, 1);
	if (r < 0)
		virtq_take_back(queue);
	return r;
}

void vsock_vhost_queue_stop(struct vsock *vsock, struct virtq *queue)
{
	/* When this returns it has let go of both queues' buffers. */
	(void)set_running(vsock, 0);
	virtq_take_back(queue);
}
