// SPDX-License-Identifier: Apache-2.0
/*
 * The queues of virtio-gpu (section 5.7.6): requests go to what devices/gpu/ has. Each
 * is over when its chain goes back, so fences are signalled in the order of requests,
 * and nothing is ever in flight. The display is told what has changed once the queue
 * is empty.
 */
#include <endian.h>
#include "devices/gpu_device.h"

/* Requests at a time, or bytes that they copy: there is more for the thread to do. */
#define GPU_BATCH 32
#define GPU_BATCH_BYTES MIB(64)
/* Entries of a list that are read at a time. */
#define GPU_ENTRIES 128

/* ---- requests: 0, or the error's response ---- */

static struct gpu_resource *gpu_find(struct gpu *gpu, uint32_t id)
{
	return gpu_table_find(&gpu->table, le32toh(id));
}

static struct display_rect gpu_rect(const struct virtio_gpu_rect *rect)
{
	return (struct display_rect){ le32toh(rect->x), le32toh(rect->y), le32toh(rect->width),
				      le32toh(rect->height) };
}

static uint32_t gpu_get_display_info(struct gpu *gpu, struct gpu_call *call)
{
	struct virtio_gpu_display_one *mode = call->out.info.pmodes;
	uint32_t x = 0;

	/* Side by side. */
	for (unsigned int i = 0; i < gpu->screen.count; i++, mode++) {
		const struct gpu_scanout *now = &gpu->screen.heads[i].now;

		if (!now->plugged)
			continue;
		mode->enabled = htole32(1);
		mode->r.x = htole32(x);
		mode->r.width = htole32(now->width);
		mode->r.height = htole32(now->height);
		x += now->width;
	}
	return 0;
}

static uint32_t gpu_get_edid(struct gpu *gpu, struct gpu_call *call)
{
	uint32_t head = le32toh(call->in.edid.scanout);

	if (head >= gpu->screen.count)
		return VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID;
	call->out.edid.size = htole32(GPU_EDID_LEN);
	gpu_edid(head, gpu->screen.heads[head].now.width, gpu->screen.heads[head].now.height,
		 call->out.edid.edid);
	return 0;
}

static uint32_t gpu_create_2d(struct gpu *gpu, struct gpu_call *call)
{
	const struct gpu_resource shape = {
		.id = le32toh(call->in.create.resource_id),
		.format = le32toh(call->in.create.format),
		.width = le32toh(call->in.create.width),
		.height = le32toh(call->in.create.height),
	};
	struct gpu_resource *resource;

	return shape.format ? gpu_table_add(&gpu->table, &shape, &resource) :
			      VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
}

static uint32_t gpu_unref(struct gpu *gpu, struct gpu_call *call)
{
	struct gpu_resource *resource = gpu_find(gpu, call->in.id.resource_id);

	if (!resource)
		return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
	gpu_scanout_forget(&gpu->screen, resource->id);
	gpu_table_remove(&gpu->table, resource);
	return 0;
}

/* The list of entries that follows a request. */
static uint32_t gpu_pull_entries(struct gpu *gpu, struct chain *chain, uint32_t count,
				 struct gpu_backing *backing)
{
	struct virtio_gpu_mem_entry entries[GPU_ENTRIES];
	uint32_t err = 0;

	if (!count || count > GPU_ENTRIES_MAX || count * sizeof(*entries) > chain->out.left)
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	while (!err && count) {
		uint32_t part = (uint32_t)util_min(count, GPU_ENTRIES);

		chain_pull(chain, entries, part * sizeof(*entries));
		for (uint32_t i = 0; !err && i < part; i++)
			err = gpu_backing_add(&gpu->table, backing, le64toh(entries[i].addr),
					      le32toh(entries[i].length));
		count -= part;
	}
	if (err)
		gpu_backing_free(&gpu->table, backing);
	return err;
}

static uint32_t gpu_attach(struct gpu *gpu, struct gpu_call *call)
{
	struct gpu_resource *resource = gpu_find(gpu, call->in.attach.resource_id);
	uint32_t err;

	if (!resource)
		return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
	if (resource->backing.count)
		return VIRTIO_GPU_RESP_ERR_UNSPEC;
	err = gpu_pull_entries(gpu, call->chain, le32toh(call->in.attach.nr_entries),
			       &resource->backing);
	if (!err)
		err = virgl_attach(&gpu->table, resource);
	if (err)
		gpu_backing_free(&gpu->table, &resource->backing);
	return err;
}

static uint32_t gpu_detach(struct gpu *gpu, struct gpu_call *call)
{
	struct gpu_resource *resource = gpu_find(gpu, call->in.id.resource_id);

	if (!resource)
		return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
	if (!resource->backing.count)
		return VIRTIO_GPU_RESP_ERR_UNSPEC;
	virgl_detach(&gpu->table, resource);
	gpu_backing_free(&gpu->table, &resource->backing);
	return 0;
}

static uint32_t gpu_create_blob(struct gpu *gpu, struct gpu_call *call)
{
	const struct gpu_resource shape = {
		.id = le32toh(call->in.blob.resource_id),
		.size = le64toh(call->in.blob.size),
	};
	struct gpu_resource *resource;
	uint32_t err;

	/* The host's own memory is for 3D. */
	if (le32toh(call->in.blob.blob_mem) != VIRTIO_GPU_BLOB_MEM_GUEST)
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	err = gpu_table_add(&gpu->table, &shape, &resource);
	if (err)
		return err;
	err = gpu_pull_entries(gpu, call->chain, le32toh(call->in.blob.nr_entries),
			       &resource->backing);
	if (!err && resource->backing.len < resource->size)
		err = VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	if (err)
		gpu_table_remove(&gpu->table, resource);
	return err;
}

static uint32_t gpu_assign_uuid(struct gpu *gpu, struct gpu_call *call)
{
	struct gpu_resource *resource = gpu_find(gpu, call->in.id.resource_id);

	return resource ? gpu_resource_uuid(resource, call->out.uuid.uuid) :
			  VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
}

static uint32_t gpu_show(struct gpu *gpu, uint32_t scanout, const struct gpu_image *image,
			 const struct virtio_gpu_rect *rect)
{
	const struct display_rect shown = gpu_rect(rect);
	uint32_t head = le32toh(scanout);

	if (head >= gpu->screen.count)
		return VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID;
	return gpu_scanout_set(&gpu->screen, &gpu->screen.heads[head], image, &shown);
}

static uint32_t gpu_set_scanout(struct gpu *gpu, struct gpu_call *call)
{
	const struct virtio_gpu_set_scanout *set = &call->in.scanout;
	const struct gpu_resource *resource = gpu_find(gpu, set->resource_id);
	struct gpu_image image = { .resource = le32toh(set->resource_id) };

	/* A blob has no format: gpu_scanout_set() refuses it. */
	if (resource) {
		image.format = resource->format;
		image.width = resource->width;
		image.height = resource->height;
		image.stride = resource->width * GPU_PIXEL;
	}
	return gpu_show(gpu, set->scanout_id, &image, &set->r);
}

static uint32_t gpu_set_scanout_blob(struct gpu *gpu, struct gpu_call *call)
{
	const struct virtio_gpu_set_scanout_blob *set = &call->in.scanout_blob;
	const struct gpu_image image = {
		.resource = le32toh(set->resource_id),
		.format = le32toh(set->format),
		.width = le32toh(set->width),
		.height = le32toh(set->height),
		.stride = le32toh(set->strides[0]),
		.offset = le32toh(set->offsets[0]),
	};

	return gpu_show(gpu, set->scanout_id, &image, &set->r);
}

static uint32_t gpu_flush(struct gpu *gpu, struct gpu_call *call)
{
	const struct gpu_resource *resource = gpu_find(gpu, call->in.flush.resource_id);
	const struct display_rect rect = gpu_rect(&call->in.flush.r);

	if (!resource)
		return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
	virtq_count(call->chain->queue, GPU_COUNT_FLUSHES, 1);
	return gpu_scanout_flush(&gpu->screen, resource, &rect);
}

static uint32_t gpu_transfer(struct gpu *gpu, struct gpu_call *call)
{
	struct gpu_resource *resource = gpu_find(gpu, call->in.transfer.resource_id);
	const struct display_rect rect = gpu_rect(&call->in.transfer.r);
	uint32_t err;

	if (!resource)
		return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
	err = gpu_resource_transfer(&gpu->table, resource, &rect,
				    le64toh(call->in.transfer.offset));
	if (!err && resource->pixels)
		gpu->transferred += (uint64_t)rect.width * rect.height * GPU_PIXEL;
	return err;
}

static uint32_t gpu_cursor(struct gpu *gpu, struct gpu_call *call)
{
	const struct virtio_gpu_update_cursor *cursor = &call->in.cursor;
	uint32_t index = le32toh(cursor->pos.scanout_id);
	struct gpu_head *head;

	if (index >= gpu->screen.count)
		return VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID;
	head = &gpu->screen.heads[index];
	virtq_count(call->chain->queue, GPU_COUNT_CURSORS, 1);
	gpu_cursor_move(head, le32toh(cursor->pos.x), le32toh(cursor->pos.y));
	if (le32toh(cursor->hdr.type) == VIRTIO_GPU_CMD_MOVE_CURSOR)
		return 0;
	return gpu_cursor_set(&gpu->screen, head, le32toh(cursor->resource_id),
			      le32toh(cursor->hot_x), le32toh(cursor->hot_y));
}

static const struct gpu_command gpu_commands[] = {
	{ VIRTIO_GPU_CMD_GET_DISPLAY_INFO, GPU_CONTROL, 0, GPU_IN(hdr), GPU_OUT(info),
	  gpu_get_display_info },
	{ VIRTIO_GPU_CMD_RESOURCE_CREATE_2D, GPU_CONTROL, 0, GPU_IN(create), GPU_OUT(hdr),
	  gpu_create_2d },
	{ VIRTIO_GPU_CMD_RESOURCE_UNREF, GPU_CONTROL, 0, GPU_IN(id), GPU_OUT(hdr), gpu_unref },
	{ VIRTIO_GPU_CMD_SET_SCANOUT, GPU_CONTROL, 0, GPU_IN(scanout), GPU_OUT(hdr),
	  gpu_set_scanout },
	{ VIRTIO_GPU_CMD_RESOURCE_FLUSH, GPU_CONTROL, 0, GPU_IN(flush), GPU_OUT(hdr), gpu_flush },
	{ VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D, GPU_CONTROL, 0, GPU_IN(transfer), GPU_OUT(hdr),
	  gpu_transfer },
	{ VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING, GPU_CONTROL, 0, GPU_IN(attach), GPU_OUT(hdr),
	  gpu_attach },
	{ VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING, GPU_CONTROL, 0, GPU_IN(id), GPU_OUT(hdr),
	  gpu_detach },
	{ VIRTIO_GPU_CMD_GET_EDID, GPU_CONTROL, VIRTIO_GPU_F_EDID, GPU_IN(edid), GPU_OUT(edid),
	  gpu_get_edid },
	{ VIRTIO_GPU_CMD_RESOURCE_ASSIGN_UUID, GPU_CONTROL, VIRTIO_GPU_F_RESOURCE_UUID, GPU_IN(id),
	  GPU_OUT(uuid), gpu_assign_uuid },
	{ VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB, GPU_CONTROL, VIRTIO_GPU_F_RESOURCE_BLOB, GPU_IN(blob),
	  GPU_OUT(hdr), gpu_create_blob },
	{ VIRTIO_GPU_CMD_SET_SCANOUT_BLOB, GPU_CONTROL, VIRTIO_GPU_F_RESOURCE_BLOB,
	  GPU_IN(scanout_blob), GPU_OUT(hdr), gpu_set_scanout_blob },
	/* Linux leaves no room for their response. */
	{ VIRTIO_GPU_CMD_UPDATE_CURSOR, GPU_CURSOR, 0, GPU_IN(cursor), 0, gpu_cursor },
	{ VIRTIO_GPU_CMD_MOVE_CURSOR, GPU_CURSOR, 0, GPU_IN(cursor), 0, gpu_cursor },
};

/* ---- queues ---- */

static const struct gpu_command *gpu_find_command(const struct gpu *gpu, const struct virtq *queue,
						  uint32_t type)
{
	for (size_t i = 0; i < ARRAY_SIZE(gpu_commands); i++) {
		const struct gpu_command *command = &gpu_commands[i];

		if (command->type == type && command->queue == queue->index &&
		    (!command->feature || virtio_has(&gpu->dev, command->feature)))
			return command;
	}
	return virtio_has(&gpu->dev, VIRTIO_GPU_F_VIRGL) && queue->index == GPU_CONTROL ?
		       gpu_3d_find_command(type) :
		       NULL;
}

/* Section 5.7.6.7: a request with a fence is answered once it is done, as all are. */
static void gpu_answer(struct gpu_call *call, uint32_t type, size_t len)
{
	const struct virtio_gpu_ctrl_hdr *hdr = &call->in.hdr;
	const uint32_t flags = VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_INFO_RING_IDX;

	call->out.hdr = (struct virtio_gpu_ctrl_hdr){
		.type = htole32(type),
		.flags = hdr->flags & htole32(flags),
	};
	if (hdr->flags & htole32(VIRTIO_GPU_FLAG_FENCE)) {
		call->out.hdr.fence_id = hdr->fence_id;
		call->out.hdr.ctx_id = hdr->ctx_id;
		call->out.hdr.ring_idx = hdr->ring_idx;
	}
	chain_push(call->chain, &call->out, len);
	chain_push(call->chain, call->more, call->more_len);
}

static uint32_t gpu_response(const struct gpu_command *command)
{
	switch (command->type) {
	case VIRTIO_GPU_CMD_GET_DISPLAY_INFO:
		return VIRTIO_GPU_RESP_OK_DISPLAY_INFO;
	case VIRTIO_GPU_CMD_GET_EDID:
		return VIRTIO_GPU_RESP_OK_EDID;
	case VIRTIO_GPU_CMD_RESOURCE_ASSIGN_UUID:
		return VIRTIO_GPU_RESP_OK_RESOURCE_UUID;
	case VIRTIO_GPU_CMD_GET_CAPSET_INFO:
		return VIRTIO_GPU_RESP_OK_CAPSET_INFO;
	case VIRTIO_GPU_CMD_GET_CAPSET:
		return VIRTIO_GPU_RESP_OK_CAPSET;
	default:
		return VIRTIO_GPU_RESP_OK_NODATA;
	}
}

/* False: the driver broke the rules, and does not get the chain back. */
static bool gpu_serve(struct gpu *gpu, struct chain *chain)
{
	struct gpu_call call = { .chain = chain };
	const size_t hdr = sizeof(call.in.hdr);
	const struct gpu_command *command;
	uint32_t err;

	if (chain_pull(chain, &call.in, hdr) < hdr ||
	    (chain->queue->index == GPU_CONTROL && chain->in.left < hdr)) {
		virtio_fail(&gpu->dev, "a request without a header, or without room for its response");
		return false;
	}
	command = gpu_find_command(gpu, chain->queue, le32toh(call.in.hdr.type));
	if (!command)
		err = VIRTIO_GPU_RESP_ERR_UNSPEC;
	else if (chain_pull(chain, &call.in.hdr + 1, command->in - hdr) < command->in - hdr ||
		 chain->in.left < command->out)
		err = VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	else
		err = command->run(gpu, &call);
	virtq_count(chain->queue, GPU_COUNT_REQUESTS, 1);
	if (err)
		virtq_count(chain->queue, GPU_COUNT_ERRORS, 1);
	if (chain->in.left >= hdr)
		gpu_answer(&call, err ?: gpu_response(command), err ? hdr : util_max(command->out, hdr));
	return true;
}

void gpu_kick(struct virtio_dev *dev, struct virtq *queue)
{
	struct gpu *gpu = container_of(dev, struct gpu, dev);
	unsigned int budget = GPU_BATCH;
	struct chain *chain;

	virgl_enter(gpu->virgl);
	while (budget && (chain = virtq_pop(queue)) && gpu_serve(gpu, chain)) {
		virtq_done(queue, chain);
		budget--;
		if (gpu->transferred + gpu->screen.copied >= GPU_BATCH_BYTES)
			budget = 0;
	}
	virgl_leave(gpu->virgl);
	if (!budget)
		util_signal(queue->kick.fd);
	virtq_count(queue, GPU_COUNT_SHOWN, gpu->screen.copied);
	gpu->transferred = gpu->screen.copied = 0;
	gpu_screen_tell(&gpu->screen);
}
