/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is behind the queues of virtio-gpu (section 5.7): resources, and the heads that
 * show them. Nothing here knows of queues or chains.
 *
 *	resource.c  resources, their memory and the guest's behind it
 *	scanout.c   what each head shows; a flush copies that into the display's memory
 *	tell.c      messages to and from the display's program
 *	pixels.c    formats          edid.c  what a monitor says of itself
 *	save.c      all of it, out and in
 *	virgl.c     3D, where the program was built with it
 *
 * Functions for requests return 0, or the VIRTIO_GPU_RESP_ERR_... that is the answer.
 */
#ifndef DEVICES_GPU_GPU_H
#define DEVICES_GPU_GPU_H

#include <linux/virtio_gpu.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/loop.h"
#include "core/mem.h"
#include "core/state.h"
#include "core/util.h"
#include "devices/display/display.h"

#define GPU_RESOURCES_MAX 4096
/* Pages of a resource, at the most. */
#define GPU_ENTRIES_MAX (1U << 18)
/* Of a resource, in pixels. */
#define GPU_SIDE_MAX 16384
/* Of a monitor: what 12 bits of an EDID can tell. */
#define GPU_MONITOR_MIN 64
#define GPU_MONITOR_MAX 4095
#define GPU_EDID_LEN 128
#define GPU_UUID_LEN 16
#define GPU_PIXEL 4

/* ---- resource.c ---- */

/* The guest's memory behind a resource: pieces in a row. */
struct gpu_piece {
	uint64_t offset; /* in the resource */
	uint64_t gpa, len;
};

struct gpu_backing {
	struct gpu_piece *pieces;
	uint32_t count, capacity;
	uint64_t len;
};

struct gpu_resource {
	uint32_t id;
	uint32_t format, width, height; /* a blob has none: 0 */
	uint64_t size;   /* in bytes */
	uint8_t *pixels; /* ours, lines without gaps; NULL: a blob, which is its backing */
	struct gpu_backing backing; /* of no pieces: none is attached */
	bool has_uuid;
	uint8_t uuid[GPU_UUID_LEN];
	/* Of virgl.c. Where heads can show it format and pixels are what was fetched from there. */
	bool in_3d;
	uint64_t held;      /* bytes that it takes there */
	uint32_t extent[3]; /* width, height, depth or layers */
	struct iovec *iov;  /* its backing; NULL: none is attached */
	size_t iov_len;     /* of the list, in bytes */
};

struct gpu_table {
	const struct mem *mem;
	uint64_t left; /* bytes that the guest may still have us hold */
	struct gpu_resource **resources; /* by id */
	unsigned int count;
};

/* limit: bytes of host memory for all resources and what is known of their backing. -ENOMEM. */
int gpu_table_init(struct gpu_table *table, const struct mem *mem, uint64_t limit);
void gpu_table_clear(struct gpu_table *table);
/* Accepts a zeroed one. */
void gpu_table_free(struct gpu_table *table);

/* NULL: there is none. */
struct gpu_resource *gpu_table_find(const struct gpu_table *table, uint32_t id);
/* shape: its id, format, width and height; or of a blob its id and size. */
uint32_t gpu_table_add(struct gpu_table *table, const struct gpu_resource *shape,
		       struct gpu_resource **ret_resource);
void gpu_table_remove(struct gpu_table *table, struct gpu_resource *resource);

/* Memory of the guest's behind what there is; must be RAM. */
uint32_t gpu_backing_add(struct gpu_table *table, struct gpu_backing *backing, uint64_t gpa,
			 uint64_t len);
void gpu_backing_free(struct gpu_table *table, struct gpu_backing *backing);

/* From the backing, at offset, to our copy. */
uint32_t gpu_resource_transfer(const struct gpu_table *table, struct gpu_resource *resource,
			       const struct display_rect *rect, uint64_t offset);
/* What the resource has at offset. -EFAULT: less than len bytes. */
int gpu_resource_read(const struct gpu_table *table, const struct gpu_resource *resource,
		      uint64_t offset, void *to, size_t len);
/* The same one each time. */
uint32_t gpu_resource_uuid(struct gpu_resource *resource, uint8_t ret_uuid[GPU_UUID_LEN]);

/* ---- pixels.c ---- */

bool gpu_format_known(uint32_t format);
/* Whether the display's own is that, but for what is in the byte that shows nothing. */
bool gpu_format_plain(uint32_t format);
/* To blue, green, red, alpha. */
void gpu_pixels_convert(uint32_t format, uint32_t *to, const uint32_t *from, size_t count);

/* ---- scanout.c ---- */

/* How a resource is a picture. */
struct gpu_image {
	uint32_t resource; /* 0: none */
	uint32_t format, width, height;
	uint32_t stride, offset; /* in bytes */
};

/* What of a head is saved, as it is. */
struct gpu_scanout {
	uint32_t plugged;       /* whether a monitor is there */
	uint32_t width, height; /* of that */
	struct gpu_image image;
	struct display_rect rect; /* what the head shows of the image */
	struct {
		uint32_t resource; /* 0: none is to be seen */
		uint32_t x, y, hot_x, hot_y;
	} cursor;
};

struct gpu_head {
	struct gpu_scanout now;
	/* What the display has still to be told. */
	bool tell_surface, tell_cursor, tell_picture;
	struct display_rect damage;
	bool looking; /* somebody wants to know */
};

struct gpu_screen {
	const struct gpu_table *table;
	struct gpu_head heads[DISPLAY_HEADS_MAX];
	unsigned int count;
	struct display_head *memory; /* NULL: nobody is to look */
	struct event messages;       /* the end for them, or -1 */
	struct loop *loop;
	bool full;                   /* the other end takes nothing now */
	bool frozen;                 /* the display keeps what was seen last */
	uint32_t events;             /* of monitors, which the driver has not cleared */
	/* Somebody changed a monitor's size. */
	void (*changed)(struct gpu_screen *screen);
	uint64_t copied; /* bytes, or tried to, for whoever counts them */
	uint32_t line[DISPLAY_WIDTH_MAX];
};

/* resource 0: the head is dark. The rectangle is within the image, this within its resource. */
uint32_t gpu_scanout_set(struct gpu_screen *screen, struct gpu_head *head,
			 const struct gpu_image *image, const struct display_rect *rect);
/* To all heads that show it. */
uint32_t gpu_scanout_flush(struct gpu_screen *screen, const struct gpu_resource *resource,
			   const struct display_rect *rect);
/* It is going away. */
void gpu_scanout_forget(struct gpu_screen *screen, uint32_t resource);
/* resource 0: no cursor. */
uint32_t gpu_cursor_set(struct gpu_screen *screen, struct gpu_head *head, uint32_t resource,
			uint32_t hot_x, uint32_t hot_y);
void gpu_cursor_move(struct gpu_head *head, uint32_t x, uint32_t y);
/* All heads are dark; the monitors stay. */
void gpu_screen_reset(struct gpu_screen *screen);

/* ---- tell.c ---- */

/* Takes the descriptor of messages, which the loop watches from now on; -1: there is none. */
void gpu_screen_tell(struct gpu_screen *screen);
/* A handler of screen->messages. */
void gpu_screen_hear(struct event *event, uint32_t revents);
bool gpu_monitor_valid(uint32_t width, uint32_t height);
/* A monitor of this size, which is a valid one. Says whether it is another. */
bool gpu_screen_resize(struct gpu_head *head, uint32_t width, uint32_t height);

/* ---- edid.c ---- */

/* An EDID 1.4 block of a monitor that likes this size best. */
void gpu_edid(unsigned int head, uint32_t width, uint32_t height, uint8_t ret_edid[GPU_EDID_LEN]);

/* ---- save.c ---- */

int gpu_save(const struct gpu_table *table, const struct gpu_screen *screen, struct state *state);
/* Into new ones. -EINVAL: it is no such save. */
int gpu_load(struct gpu_table *table, struct gpu_screen *screen, struct state_reader *reader);

#endif
