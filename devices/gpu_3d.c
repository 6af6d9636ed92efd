// SPDX-License-Identifier: Apache-2.0
/* The requests of VIRTIO_GPU_F_VIRGL (section 5.7.6.8). */
#include <endian.h>
#include "devices/gpu_device.h"

/* Compiled shaders run on the thread, and the compiler wants to go deep. */
#define GPU_3D_STACK MIB(8)
/* What a byte of commands takes, in bytes copied: a turn has a few of the longest requests. */
#define GPU_3D_WEIGHT 16

static uint32_t gpu_get_capset_info(struct gpu *gpu, struct gpu_call *call)
{
	uint32_t index = le32toh(call->in.capset_info.capset_index);

	(void)gpu;
	if (index >= VIRGL_CAPSETS)
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	call->out.capset_info = virgl_capset_info(index);
	return 0;
}

static uint32_t gpu_get_capset(struct gpu *gpu, struct gpu_call *call)
{
	uint8_t *capset = virgl_buffer(gpu->virgl);
	size_t len = virgl_capset(le32toh(call->in.capset.capset_id),
				  le32toh(call->in.capset.capset_version), capset);

	if (!len || call->chain->in.left < sizeof(call->out.hdr) + len)
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	call->more = capset;
	call->more_len = len;
	return 0;
}

static uint32_t gpu_create_context(struct gpu *gpu, struct gpu_call *call)
{
	return virgl_context_add(gpu->virgl, le32toh(call->in.hdr.ctx_id));
}

static uint32_t gpu_destroy_context(struct gpu *gpu, struct gpu_call *call)
{
	return virgl_context_remove(gpu->virgl, le32toh(call->in.hdr.ctx_id));
}

static uint32_t gpu_attach_context(struct gpu *gpu, struct gpu_call *call)
{
	return virgl_context_attach(gpu->virgl, le32toh(call->in.hdr.ctx_id),
				    le32toh(call->in.context_resource.resource_id), true);
}

static uint32_t gpu_detach_context(struct gpu *gpu, struct gpu_call *call)
{
	return virgl_context_attach(gpu->virgl, le32toh(call->in.hdr.ctx_id),
				    le32toh(call->in.context_resource.resource_id), false);
}

static uint32_t gpu_create_3d(struct gpu *gpu, struct gpu_call *call)
{
	return virgl_create(gpu->virgl, &call->in.create_3d);
}

static uint32_t gpu_transfer_3d(struct gpu *gpu, struct gpu_call *call)
{
	const struct virtio_gpu_transfer_host_3d *transfer = &call->in.transfer_3d;
	const struct virtio_gpu_box *box = &transfer->box;
	const bool to_host = le32toh(transfer->hdr.type) == VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D;
	uint32_t err = virgl_transfer(gpu->virgl, transfer, to_host);

	if (!err)
		gpu->transferred += (uint64_t)le32toh(box->w) * le32toh(box->h) * le32toh(box->d) *
				    GPU_PIXEL;
	return err;
}

/* The guest may change what it wrote; the copy is what is looked at. */
static uint32_t gpu_submit(struct gpu *gpu, struct gpu_call *call)
{
	uint32_t len = le32toh(call->in.submit.size);

	if (len > VIRGL_SUBMIT_MAX || len > call->chain->out.left)
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	chain_pull(call->chain, virgl_buffer(gpu->virgl), len);
	gpu->transferred += (uint64_t)len * GPU_3D_WEIGHT;
	return virgl_submit(gpu->virgl, le32toh(call->in.hdr.ctx_id), len);
}

static const struct gpu_command gpu_3d_commands[] = {
	{ VIRTIO_GPU_CMD_GET_CAPSET_INFO, GPU_CONTROL, 0, GPU_IN(capset_info), GPU_OUT(capset_info),
	  gpu_get_capset_info },
	{ VIRTIO_GPU_CMD_GET_CAPSET, GPU_CONTROL, 0, GPU_IN(capset), GPU_OUT(hdr), gpu_get_capset },
	{ VIRTIO_GPU_CMD_CTX_CREATE, GPU_CONTROL, 0, GPU_IN(context), GPU_OUT(hdr),
	  gpu_create_context },
	{ VIRTIO_GPU_CMD_CTX_DESTROY, GPU_CONTROL, 0, GPU_IN(hdr), GPU_OUT(hdr),
	  gpu_destroy_context },
	{ VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, GPU_CONTROL, 0, GPU_IN(context_resource), GPU_OUT(hdr),
	  gpu_attach_context },
	{ VIRTIO_GPU_CMD_CTX_DETACH_RESOURCE, GPU_CONTROL, 0, GPU_IN(context_resource), GPU_OUT(hdr),
	  gpu_detach_context },
	{ VIRTIO_GPU_CMD_RESOURCE_CREATE_3D, GPU_CONTROL, 0, GPU_IN(create_3d), GPU_OUT(hdr),
	  gpu_create_3d },
	{ VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D, GPU_CONTROL, 0, GPU_IN(transfer_3d), GPU_OUT(hdr),
	  gpu_transfer_3d },
	{ VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D, GPU_CONTROL, 0, GPU_IN(transfer_3d), GPU_OUT(hdr),
	  gpu_transfer_3d },
	{ VIRTIO_GPU_CMD_SUBMIT_3D, GPU_CONTROL, 0, GPU_IN(submit), GPU_OUT(hdr), gpu_submit },
};

const struct gpu_command *gpu_3d_find_command(uint32_t type)
{
	for (size_t i = 0; i < ARRAY_SIZE(gpu_3d_commands); i++)
		if (gpu_3d_commands[i].type == type)
			return &gpu_3d_commands[i];
	return NULL;
}

/* Mesa compiles shaders to code. */
static const struct sandbox gpu_3d_sandbox = SANDBOX(
	SC(mmap),
	SC(mprotect),
	SC(sysinfo),
	/* LLVM looks what stderr is. */
	SC(fstat),
	SC(newfstatat),
	SC(lseek)
);

int gpu_3d_init(struct gpu *gpu)
{
	struct worker *worker = &gpu->dev.workers[0];

	worker->sandbox = &gpu_3d_sandbox;
	worker->stack = GPU_3D_STACK;
	return virgl_open(&gpu->virgl, &gpu->table);
}
