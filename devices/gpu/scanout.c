// SPDX-License-Identifier: Apache-2.0
/*
 * What heads show. The display's memory always has what was flushed last, whether or not
 * anybody looks: a picture may be asked for at any time. Only telling of it can wait, as
 * one rectangle around all that has changed.
 */
#include "devices/gpu/virgl.h"

/* What both have, as seen from the corner of bounds. Whatever rect is: a driver's, in 32 bits. */
static struct display_rect intersect(const struct display_rect *bounds,
				     const struct display_rect *rect)
{
	uint64_t left = util_max(bounds->x, rect->x), top = util_max(bounds->y, rect->y);
	uint64_t right = util_min((uint64_t)bounds->x + bounds->width, (uint64_t)rect->x + rect->width);
	uint64_t bottom = util_min((uint64_t)bounds->y + bounds->height,
				   (uint64_t)rect->y + rect->height);

	if (left >= right || top >= bottom)
		return (struct display_rect){ 0 };
	return (struct display_rect){ (uint32_t)(left - bounds->x), (uint32_t)(top - bounds->y),
				      (uint32_t)(right - left), (uint32_t)(bottom - top) };
}

/* part is of the head. What is not there is left out: a guest may take its memory back. */
static void copy(struct gpu_screen *screen, struct gpu_head *head,
		 const struct gpu_resource *resource, const struct display_rect *part)
{
	const struct gpu_image *image = &head->now.image;
	const struct display_rect *rect = &head->now.rect;
	const struct display_rect source = { rect->x + part->x, rect->y + part->y, part->width,
					     part->height };
	const bool plain = gpu_format_plain(image->format);
	const size_t len = (size_t)part->width * GPU_PIXEL, pitch = (size_t)rect->width * GPU_PIXEL;
	uint64_t from = image->offset + (uint64_t)source.y * image->stride +
			(uint64_t)source.x * GPU_PIXEL;
	uint8_t *to;

	if (!screen->memory)
		return;
	/* What fails at its last line has taken as long; what 3D drew is copied twice. */
	screen->copied += len * part->height * (resource->in_3d ? 2 : 1);
	if (virgl_fetch(resource, &source) < 0)
		return;
	to = screen->memory[head - screen->heads].pixels + part->y * pitch +
	     (size_t)part->x * GPU_PIXEL;
	for (uint32_t y = 0; y < part->height; y++) {
		if (gpu_resource_read(screen->table, resource, from, plain ? to : (void *)screen->line,
				      len) < 0)
			return;
		if (!plain)
			gpu_pixels_convert(image->format, (uint32_t *)(void *)to, screen->line,
					   part->width);
		from += image->stride;
		to += pitch;
	}
}

static uint32_t check_image(const struct gpu_resource *resource, const struct gpu_image *image,
			    const struct display_rect *rect)
{
	const uint64_t line = (uint64_t)image->width * GPU_PIXEL;

	if (!resource)
		return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
	if (!gpu_format_known(image->format) || image->stride < line || display_rect_empty(rect) ||
	    !display_rect_within(rect, image->width, image->height) ||
	    rect->width > DISPLAY_WIDTH_MAX || rect->height > DISPLAY_HEIGHT_MAX)
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	/* Its last line ends within the resource; the sum of it could exceed 64 bits. */
	if (!util_within(image->offset, line, resource->size) ||
	    image->height - 1 > (resource->size - image->offset - line) / image->stride)
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	/* No more than that can be fetched. */
	if (resource->in_3d && (image->width > resource->width || image->height > resource->height))
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	return 0;
}

uint32_t gpu_scanout_set(struct gpu_screen *screen, struct gpu_head *head,
			 const struct gpu_image *image, const struct display_rect *rect)
{
	const struct gpu_resource *resource = gpu_table_find(screen->table, image->resource);
	static const struct gpu_image no_image;
	static const struct display_rect no_rect;
	struct gpu_scanout *now = &head->now;
	uint32_t err = image->resource ? check_image(resource, image, rect) : 0;
	bool resized;

	if (err)
		return err;
	if (!image->resource) {
		image = &no_image;
		rect = &no_rect;
	}
	resized = rect->width != now->rect.width || rect->height != now->rect.height;
	now->image = *image;
	now->rect = *rect;
	if (!resized)
		return 0;
	head->tell_surface = true;
	head->damage = no_rect;
	/* What was there before lies there in lines of another length. */
	if (resource)
		copy(screen, head, resource, &(struct display_rect){ 0, 0, rect->width, rect->height });
	return 0;
}

static void darken(struct gpu_screen *screen, struct gpu_head *head)
{
	gpu_scanout_set(screen, head, &(struct gpu_image){ 0 }, &(struct display_rect){ 0 });
}

uint32_t gpu_scanout_flush(struct gpu_screen *screen, const struct gpu_resource *resource,
			   const struct display_rect *rect)
{
	/* A blob has a size in bytes only. */
	if (resource->format && !display_rect_within(rect, resource->width, resource->height))
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	for (unsigned int i = 0; i < screen->count; i++) {
		struct gpu_head *head = &screen->heads[i];
		struct display_rect part = intersect(&head->now.rect, rect);

		if (head->now.image.resource != resource->id || display_rect_empty(&part))
			continue;
		copy(screen, head, resource, &part);
		display_rect_extend(&head->damage, &part);
	}
	return 0;
}

void gpu_scanout_forget(struct gpu_screen *screen, uint32_t resource)
{
	for (unsigned int i = 0; i < screen->count; i++) {
		struct gpu_head *head = &screen->heads[i];

		if (head->now.image.resource == resource)
			darken(screen, head);
		if (head->now.cursor.resource == resource)
			gpu_cursor_set(screen, head, 0, 0, 0);
	}
}

/* ---- cursors ---- */

/*
 * A smaller picture is at the top left, of a larger one that much is seen; a blob is as large as it
 * should be.
 */
static void copy_cursor(struct gpu_screen *screen, const struct gpu_resource *resource,
			struct display_head *memory)
{
	uint32_t width = resource->format ? resource->width : DISPLAY_CURSOR_SIZE;
	uint32_t height = resource->format ? resource->height : DISPLAY_CURSOR_SIZE;
	uint32_t format = resource->format ?: VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM;
	const struct display_rect seen = {
		.width = (uint32_t)util_min(width, DISPLAY_CURSOR_SIZE),
		.height = (uint32_t)util_min(height, DISPLAY_CURSOR_SIZE),
	};
	uint32_t(*to)[DISPLAY_CURSOR_SIZE] = (void *)memory->cursor;

	memset(memory->cursor, 0, sizeof(memory->cursor));
	if (virgl_fetch(resource, &seen) < 0)
		return;
	for (uint32_t y = 0; y < seen.height; y++)
		if (gpu_resource_read(screen->table, resource, (uint64_t)y * width * GPU_PIXEL,
				      screen->line, (size_t)seen.width * GPU_PIXEL) == 0)
			gpu_pixels_convert(format, to[y], screen->line, seen.width);
}

uint32_t gpu_cursor_set(struct gpu_screen *screen, struct gpu_head *head, uint32_t resource,
			uint32_t hot_x, uint32_t hot_y)
{
	const struct gpu_resource *picture = gpu_table_find(screen->table, resource);

	if (resource && !picture)
		return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
	if (picture && screen->memory)
		copy_cursor(screen, picture, &screen->memory[head - screen->heads]);
	head->now.cursor.resource = resource;
	head->now.cursor.hot_x = (uint32_t)util_min(hot_x, DISPLAY_CURSOR_SIZE - 1);
	head->now.cursor.hot_y = (uint32_t)util_min(hot_y, DISPLAY_CURSOR_SIZE - 1);
	head->tell_cursor = true;
	head->tell_picture |= picture != NULL;
	return 0;
}

void gpu_cursor_move(struct gpu_head *head, uint32_t x, uint32_t y)
{
	head->now.cursor.x = x;
	head->now.cursor.y = y;
	head->tell_cursor = true;
}

void gpu_screen_reset(struct gpu_screen *screen)
{
	for (unsigned int i = 0; i < screen->count; i++) {
		darken(screen, &screen->heads[i]);
		gpu_cursor_set(screen, &screen->heads[i], 0, 0, 0);
		gpu_cursor_move(&screen->heads[i], 0, 0);
	}
}
