// SPDX-License-Identifier: Apache-2.0
/*
 * Resources. What a guest can have the host hold is counted when it is taken: the
 * pixels of 2D resources, and the lists of the memory behind them. Of that memory
 * only addresses are kept, which struct mem looks up each time: no list can point
 * anywhere but to RAM, whoever made it.
 */
#include "devices/gpu/gpu.h"

#include <assert.h>
#include <sys/mman.h>
#include <sys/random.h>
#include "devices/gpu/virgl.h"

#define PAGE KIB(4)
#define FIRST_PIECES 16

int gpu_table_init(struct gpu_table *table, const struct mem *mem, uint64_t limit)
{
	*table = (struct gpu_table){
		.mem = mem,
		.left = limit,
		.resources = calloc(GPU_RESOURCES_MAX, sizeof(*table->resources)),
	};
	return table->resources ? 0 : -ENOMEM;
}

/* ---- the table ---- */

/* Where the id is, or would be. */
static unsigned int place(const struct gpu_table *table, uint32_t id)
{
	unsigned int low = 0, high = table->count;

	while (low < high) {
		unsigned int middle = (low + high) / 2;

		if (table->resources[middle]->id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct gpu_resource *gpu_table_find(const struct gpu_table *table, uint32_t id)
{
	unsigned int at = place(table, id);

	return at < table->count && table->resources[at]->id == id ? table->resources[at] : NULL;
}

static uint64_t footprint(const struct gpu_resource *resource)
{
	return resource->held + (resource->format ? util_align_up(resource->size, PAGE) : 0);
}

static uint32_t check_shape(const struct gpu_table *table, const struct gpu_resource *shape)
{
	if (!shape->id || gpu_table_find(table, shape->id))
		return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
	if (!shape->size || (shape->format && (!gpu_format_known(shape->format) ||
					       shape->width > GPU_SIDE_MAX ||
					       shape->height > GPU_SIDE_MAX)))
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	if (table->count == GPU_RESOURCES_MAX || footprint(shape) > table->left)
		return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
	return 0;
}

uint32_t gpu_table_add(struct gpu_table *table, const struct gpu_resource *shape,
		       struct gpu_resource **ret_resource)
{
	_cleanup_free_ struct gpu_resource *resource = malloc(sizeof(*resource));
	unsigned int at = place(table, shape->id);
	uint32_t err;

	if (!resource)
		return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
	*resource = *shape;
	if (shape->format)
		resource->size = (uint64_t)shape->width * shape->height * GPU_PIXEL;
	err = check_shape(table, resource);
	if (err)
		return err;
	if (resource->format) {
		/* Not by malloc(), which would keep some of it when the guest gives it back. */
		resource->pixels = mmap(NULL, resource->size, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (resource->pixels == MAP_FAILED)
			return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
	}
	table->left -= footprint(resource);
	memmove(&table->resources[at + 1], &table->resources[at],
		(table->count++ - at) * sizeof(*table->resources));
	table->resources[at] = resource;
	*ret_resource = util_steal_ptr(&resource);
	return 0;
}

static void destroy(struct gpu_table *table, struct gpu_resource *resource)
{
	virgl_destroy(table, resource);
	gpu_backing_free(table, &resource->backing);
	if (resource->pixels)
		munmap(resource->pixels, resource->size);
	table->left += footprint(resource);
	free(resource);
}

void gpu_table_remove(struct gpu_table *table, struct gpu_resource *resource)
{
	unsigned int at = place(table, resource->id);

	memmove(&table->resources[at], &table->resources[at + 1],
		(--table->count - at) * sizeof(*table->resources));
	destroy(table, resource);
}

void gpu_table_clear(struct gpu_table *table)
{
	while (table->count)
		destroy(table, table->resources[--table->count]);
}

void gpu_table_free(struct gpu_table *table)
{
	gpu_table_clear(table);
	free(table->resources);
}

/* ---- the guest's memory ---- */

static bool grow_pieces(struct gpu_table *table, struct gpu_backing *backing)
{
	uint32_t more = backing->capacity ?: FIRST_PIECES;
	struct gpu_piece *pieces;

	if (more * sizeof(*pieces) > table->left)
		return false;
	pieces = reallocarray(backing->pieces, backing->capacity + more, sizeof(*pieces));
	if (!pieces)
		return false;
	backing->pieces = pieces;
	backing->capacity += more;
	table->left -= more * sizeof(*pieces);
	return true;
}

uint32_t gpu_backing_add(struct gpu_table *table, struct gpu_backing *backing, uint64_t gpa,
			 uint64_t len)
{
	struct gpu_piece *last = backing->count ? &backing->pieces[backing->count - 1] : NULL;

	if (!len || !mem_is_ram(table->mem, gpa, len))
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	if (last && last->gpa + last->len == gpa) {
		last->len += len;
	} else {
		if (backing->count == backing->capacity && !grow_pieces(table, backing))
			return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
		assert(backing->pieces);
		backing->pieces[backing->count++] = (struct gpu_piece){ backing->len, gpa, len };
	}
	backing->len += len;
	return 0;
}

void gpu_backing_free(struct gpu_table *table, struct gpu_backing *backing)
{
	free(backing->pieces);
	table->left += backing->capacity * sizeof(*backing->pieces);
	*backing = (struct gpu_backing){ 0 };
}

static int backing_read(const struct gpu_table *table, const struct gpu_backing *backing,
			uint64_t offset, uint8_t *to, uint64_t len)
{
	const struct gpu_piece *piece = backing->pieces;
	uint32_t count = backing->count;

	if (!util_within(offset, len, backing->len))
		return -EFAULT;
	/* The last one that does not begin behind offset. */
	while (count > 1) {
		uint32_t half = count / 2;

		if (piece[half].offset <= offset) {
			piece += half;
			count -= half;
		} else {
			count = half;
		}
	}
	for (; len; piece++) {
		uint64_t skip = offset - piece->offset, part = util_min(len, piece->len - skip);

		if (mem_read(table->mem, piece->gpa + skip, to, part) < 0)
			return -EFAULT;
		offset += part;
		to += part;
		len -= part;
	}
	return 0;
}

/* ---- what is in a resource ---- */

uint32_t gpu_resource_transfer(const struct gpu_table *table, struct gpu_resource *resource,
			       const struct display_rect *rect, uint64_t offset)
{
	const uint64_t stride = (uint64_t)resource->width * GPU_PIXEL;
	uint64_t len = (uint64_t)rect->width * GPU_PIXEL, lines = rect->height;
	uint8_t *to;

	/* The memory of a blob is the guest's, there is nothing to copy. */
	if (!resource->pixels)
		return 0;
	if (!display_rect_within(rect, resource->width, resource->height) || !len || !lines ||
	    !util_within(offset, (lines - 1) * stride + len, resource->backing.len))
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	to = resource->pixels + rect->y * stride + (uint64_t)rect->x * GPU_PIXEL;
	/* Whole lines are one piece. */
	if (len == stride) {
		len *= lines;
		lines = 1;
	}
	for (uint64_t y = 0; y < lines; y++)
		if (backing_read(table, &resource->backing, offset + y * stride, to + y * stride,
				 len) < 0)
			return VIRTIO_GPU_RESP_ERR_UNSPEC;
	return 0;
}

int gpu_resource_read(const struct gpu_table *table, const struct gpu_resource *resource,
		      uint64_t offset, void *to, size_t len)
{
	if (!resource->pixels)
		return backing_read(table, &resource->backing, offset, to, len);
	if (!util_within(offset, len, resource->size))
		return -EFAULT;
	memcpy(to, resource->pixels + offset, len);
	return 0;
}

uint32_t gpu_resource_uuid(struct gpu_resource *resource, uint8_t ret_uuid[GPU_UUID_LEN])
{
	if (!resource->has_uuid &&
	    getrandom(resource->uuid, GPU_UUID_LEN, 0) != GPU_UUID_LEN)
		return VIRTIO_GPU_RESP_ERR_UNSPEC;
	resource->has_uuid = true;
	memcpy(ret_uuid, resource->uuid, GPU_UUID_LEN);
	return 0;
}
