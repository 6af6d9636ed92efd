// SPDX-License-Identifier: Apache-2.0
/*
 * What the guest has made, out and in. A load makes it again by the same functions as the
 * guest's requests did, with the same checks.
 */
#include "devices/gpu/gpu.h"

#include <assert.h>

struct saved_gpu {
	uint32_t heads, resources, events;
};

struct saved_resource {
	uint64_t size;
	uint32_t id, format, width, height, pieces, has_uuid;
	uint8_t uuid[GPU_UUID_LEN];
};

static_assert(sizeof(struct saved_gpu) == 12, "no holes");
static_assert(sizeof(struct saved_resource) == 48, "no holes");
static_assert(sizeof(struct gpu_scanout) == 18 * sizeof(uint32_t), "no holes");
static_assert(sizeof(struct gpu_piece) == 24, "no holes");

static int save_resource(const struct gpu_resource *resource, struct state *state)
{
	struct saved_resource saved = {
		.size = resource->size, .id = resource->id, .format = resource->format,
		.width = resource->width, .height = resource->height,
		.pieces = resource->backing.count, .has_uuid = resource->has_uuid,
	};
	int err;

	memcpy(saved.uuid, resource->uuid, sizeof(saved.uuid));
	err = state_put(state, "gpu.resource", 1, &saved, sizeof(saved));
	if (!err && saved.pieces)
		err = state_put(state, "gpu.backing", 1, resource->backing.pieces,
				saved.pieces * sizeof(*resource->backing.pieces));
	if (!err && resource->pixels)
		err = state_put(state, "gpu.pixels", 1, resource->pixels, resource->size);
	return err;
}

int gpu_save(const struct gpu_table *table, const struct gpu_screen *screen, struct state *state)
{
	const struct saved_gpu saved = { screen->count, table->count, screen->events };
	int err = state_put(state, "gpu", 2, &saved, sizeof(saved));

	for (unsigned int i = 0; !err && i < table->count; i++)
		err = save_resource(table->resources[i], state);
	for (unsigned int i = 0; !err && i < screen->count; i++)
		err = state_put(state, "gpu.scanout", 1, &screen->heads[i].now,
				sizeof(screen->heads[i].now));
	return err;
}

static int load_backing(struct gpu_table *table, struct gpu_backing *backing, uint32_t count,
			struct state_reader *reader)
{
	struct state_reader pieces;
	struct gpu_piece piece;
	int err = state_view(reader, "gpu.backing", 1, &pieces);

	if (err)
		return err;
	if (pieces.left != count * sizeof(piece))
		return -EINVAL;
	for (uint32_t i = 0; i < count; i++) {
		memcpy(&piece, pieces.data + i * sizeof(piece), sizeof(piece));
		if (gpu_backing_add(table, backing, piece.gpa, piece.len))
			return -EINVAL;
	}
	return 0;
}

static int load_resource(struct gpu_table *table, struct state_reader *reader)
{
	struct gpu_resource *resource;
	struct saved_resource saved;
	int err = state_get(reader, "gpu.resource", 1, &saved, sizeof(saved));

	if (err)
		return err;
	if (saved.has_uuid > 1 ||
	    gpu_table_add(table, &(struct gpu_resource){ .id = saved.id, .format = saved.format,
							 .width = saved.width, .height = saved.height,
							 .size = saved.size }, &resource))
		return -EINVAL;
	resource->has_uuid = saved.has_uuid;
	memcpy(resource->uuid, saved.uuid, sizeof(saved.uuid));
	err = saved.pieces ? load_backing(table, &resource->backing, saved.pieces, reader) : 0;
	if (!err && resource->pixels)
		err = state_get(reader, "gpu.pixels", 1, resource->pixels, resource->size);
	return err;
}

static int load_head(struct gpu_screen *screen, struct gpu_head *head, struct state_reader *reader)
{
	struct gpu_scanout saved;
	int err = state_get(reader, "gpu.scanout", 1, &saved, sizeof(saved));

	if (err)
		return err;
	if (saved.plugged > 1 || !gpu_monitor_valid(saved.width, saved.height) ||
	    gpu_scanout_set(screen, head, &saved.image, &saved.rect) ||
	    gpu_cursor_set(screen, head, saved.cursor.resource, saved.cursor.hot_x,
			   saved.cursor.hot_y))
		return -EINVAL;
	gpu_cursor_move(head, saved.cursor.x, saved.cursor.y);
	gpu_screen_resize(head, saved.width, saved.height);
	head->now.plugged = saved.plugged;
	return 0;
}

int gpu_load(struct gpu_table *table, struct gpu_screen *screen, struct state_reader *reader)
{
	struct saved_gpu saved;
	int err = state_get(reader, "gpu", 2, &saved, sizeof(saved));

	if (!err && (saved.heads != screen->count ||
		     saved.events & ~(uint32_t)VIRTIO_GPU_EVENT_DISPLAY))
		err = -EINVAL;
	for (uint32_t i = 0; !err && i < saved.resources; i++)
		err = load_resource(table, reader);
	for (unsigned int i = 0; !err && i < screen->count; i++)
		err = load_head(screen, &screen->heads[i], reader);
	if (!err)
		screen->events = saved.events;
	return err;
}
