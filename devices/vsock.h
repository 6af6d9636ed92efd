/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of virtio-vsock share: vsock.c moves packets, vsock_vhost.c has
 * the host's kernel move them instead, vsock_conf.c opens what is configured.
 */
#ifndef DEVICES_VSOCK_H
#define DEVICES_VSOCK_H

#include "devices/vhost/vhost.h"
#include "devices/virtio/virtio.h"
#include "devices/vsock/vsock.h"

enum vsock_queue { VSOCK_RX, VSOCK_TX, VSOCK_EVENT, VSOCK_QUEUES };

/* Chains that one read fills: Linux gives buffers of 4 KiB. */
#define VSOCK_GATHER 32
#define VSOCK_REFUSALS 64

/* Of virtio 1.2, but younger than the headers of Linux 6.1. */
#ifndef VIRTIO_VSOCK_F_STREAM
#define VIRTIO_VSOCK_F_STREAM 0
#endif

struct vsock_conf {
	struct virtio_conf virtio;
	uint64_t cid;
	char *path, *seqpacket;
	bool loop, vhost;
	uint64_t connections, buffer;
};

/* The guest's packet that there is no connection for. */
struct vsock_refusal {
	uint32_t guest_port, host_port;
	uint16_t type;
};

struct vsock {
	struct virtio_dev dev;
	struct vsock_table table;
	struct vsock_host host;
	struct vhost vhost; /* fd -1: the packets are ours */
	struct timer retry;
	int dir; /* where path is: the worker's working directory */
	bool moved; /* loaded from a save, and the driver has still to be told */
	struct vsock_refusal refusals[VSOCK_REFUSALS];
	unsigned int first_refusal, refusal_count;
	/* Of one read. */
	struct chain *chains[VSOCK_GATHER];
	unsigned int chain_count, width; /* width: how many there may be */
	struct iovec iov[CHAIN_IOV_MAX];
	unsigned int iov_count;
};

extern const struct opt vsock_opts[];
extern const struct hint vsock_hints[];

/* Opens what the configuration names for packets that are ours. -errno. */
int vsock_conf_open(struct vsock *vsock);
void vsock_conf_close(struct vsock *vsock);

/* With vhost=on. -errno. */
int vsock_vhost_open(struct vsock *vsock);
int vsock_vhost_start(struct vsock *vsock);
int vsock_vhost_queue_start(struct vsock *vsock, struct virtq *queue);
void vsock_vhost_queue_stop(struct vsock *vsock, struct virtq *queue);

#endif
