/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the graphics adapter share: gpu.c is the device, gpu_queue.c has its
 * queues and their requests, gpu_3d.c those for 3D.
 */
#ifndef DEVICES_GPU_DEVICE_H
#define DEVICES_GPU_DEVICE_H

#include "devices/gpu/gpu.h"
#include "devices/gpu/virgl.h"
#include "devices/virtio/virtio.h"

enum gpu_queue { GPU_CONTROL, GPU_CURSOR };

enum gpu_counter {
	GPU_COUNT_REQUESTS,
	GPU_COUNT_ERRORS,
	GPU_COUNT_FLUSHES,
	GPU_COUNT_SHOWN,
	GPU_COUNT_CURSORS,
	GPU_COUNT_EVENTS,
};

struct gpu {
	struct virtio_dev dev;
	struct gpu_table table;
	struct gpu_screen screen;
	struct virgl *virgl; /* NULL: no 3D */
	uint64_t transferred; /* bytes, in this turn */
};

/* A request and its response. */
struct gpu_call {
	struct chain *chain;
	union {
		struct virtio_gpu_ctrl_hdr hdr;
		struct virtio_gpu_cmd_get_edid edid;
		struct virtio_gpu_resource_create_2d create;
		struct virtio_gpu_resource_unref id; /* of all that have only a resource's id */
		struct virtio_gpu_resource_attach_backing attach;
		struct virtio_gpu_resource_create_blob blob;
		struct virtio_gpu_set_scanout scanout;
		struct virtio_gpu_set_scanout_blob scanout_blob;
		struct virtio_gpu_resource_flush flush;
		struct virtio_gpu_transfer_to_host_2d transfer;
		struct virtio_gpu_update_cursor cursor;
		struct virtio_gpu_get_capset_info capset_info;
		struct virtio_gpu_get_capset capset;
		struct virtio_gpu_ctx_create context;
		struct virtio_gpu_ctx_resource context_resource;
		struct virtio_gpu_resource_create_3d create_3d;
		struct virtio_gpu_transfer_host_3d transfer_3d;
		struct virtio_gpu_cmd_submit submit;
	} in;
	union {
		struct virtio_gpu_ctrl_hdr hdr;
		struct virtio_gpu_resp_display_info info;
		struct virtio_gpu_resp_edid edid;
		struct virtio_gpu_resp_resource_uuid uuid;
		struct virtio_gpu_resp_capset_info capset_info;
	} out;
	/* What follows the response, of a length that only the request tells. */
	const void *more;
	size_t more_len;
};

struct gpu_command {
	uint16_t type;
	uint8_t queue;
	uint8_t feature; /* that it belongs to; 0: none */
	uint16_t in, out; /* sizes of its request and of its response, headers included */
	uint32_t (*run)(struct gpu *gpu, struct gpu_call *call);
};

#define GPU_IN(member) sizeof(((struct gpu_call *)0)->in.member)
#define GPU_OUT(member) sizeof(((struct gpu_call *)0)->out.member)

/* ---- gpu_queue.c ---- */

/* The class's. */
void gpu_kick(struct virtio_dev *dev, struct virtq *queue);

/* ---- gpu_3d.c ---- */

#ifdef MICROVM_GPU3D

/* In init, with the table. -errno. */
int gpu_3d_init(struct gpu *gpu);
/* NULL: it is none for 3D. */
const struct gpu_command *gpu_3d_find_command(uint32_t type);

#else

static inline int gpu_3d_init(struct gpu *gpu)
{
	(void)gpu;
	return -ENOSYS;
}

static inline const struct gpu_command *gpu_3d_find_command(uint32_t type)
{
	(void)type;
	return NULL;
}

#endif
#endif
