/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 3D for the guest (section 5.7.6.8, VIRTIO_GPU_F_VIRGL): what its Mesa wrote down for
 * virglrenderer, which draws it by OpenGL. There where the program was built with GPU3D=1
 * (virgl.c); a resource that was made here is in the table as others are, and marked.
 *
 * The library is one for the process, so there is one struct virgl. OpenGL belongs to one
 * thread at a time: all but virgl_open() and virgl_close() is between enter and leave.
 * Functions for requests return 0, or the VIRTIO_GPU_RESP_ERR_... that is the answer.
 */
#ifndef DEVICES_GPU_VIRGL_H
#define DEVICES_GPU_VIRGL_H

#include "devices/gpu/gpu.h"

/* VIRGL and VIRGL2, and the bytes that one of them can take. */
#define VIRGL_CAPSETS 2
#define VIRGL_CAPSET_MAX 4096
/* Of commands in one request. Mesa sends 260 KiB at the most. */
#define VIRGL_SUBMIT_MAX MIB(1)

struct virgl;

#ifdef MICROVM_GPU3D

/* Loads all that drawing takes, so that nothing is opened afterwards. -ENODEV: there is no OpenGL. */
int virgl_open(struct virgl **ret_virgl, struct gpu_table *table);
/* After the table's resources are gone. Accepts NULL, as enter and leave do. */
void virgl_close(struct virgl *virgl);

void virgl_enter(const struct virgl *virgl);
/* What was put off is drawn by then. */
void virgl_leave(struct virgl *virgl);

/* Where its commands go: VIRGL_SUBMIT_MAX bytes. */
void *virgl_buffer(struct virgl *virgl);
uint32_t virgl_submit(struct virgl *virgl, uint32_t context, uint32_t len);

uint32_t virgl_context_add(struct virgl *virgl, uint32_t context);
uint32_t virgl_context_remove(struct virgl *virgl, uint32_t context);
/* Whether the context sees the resource. */
uint32_t virgl_context_attach(struct virgl *virgl, uint32_t context, uint32_t resource,
			      bool attach);
/* All of them. */
void virgl_reset(struct virgl *virgl);

uint32_t virgl_create(struct virgl *virgl, const struct virtio_gpu_resource_create_3d *create);
/* The table's, before it forgets one. */
void virgl_destroy(struct gpu_table *table, struct gpu_resource *resource);
/* To and from the memory that is behind a resource. */
uint32_t virgl_attach(struct gpu_table *table, struct gpu_resource *resource);
void virgl_detach(struct gpu_table *table, struct gpu_resource *resource);
uint32_t virgl_transfer(struct virgl *virgl, const struct virtio_gpu_transfer_host_3d *transfer,
			bool to_host);
/* What was drawn, to the pixels that heads show: 2D draws there itself. rect is within it. -EIO. */
int virgl_fetch(const struct gpu_resource *resource, const struct display_rect *rect);

/* index < VIRGL_CAPSETS. */
struct virtio_gpu_resp_capset_info virgl_capset_info(uint32_t index);
/* Returns the bytes of it; 0: there is none like that. */
size_t virgl_capset(uint32_t id, uint32_t version, uint8_t ret_capset[VIRGL_CAPSET_MAX]);

#else

/* No resource is ever marked, and there is no struct virgl. */

static inline int virgl_open(struct virgl **ret_virgl, struct gpu_table *table)
{
	(void)ret_virgl, (void)table;
	return -ENOSYS;
}

static inline void virgl_close(struct virgl *virgl)
{
	(void)virgl;
}

static inline void virgl_enter(const struct virgl *virgl)
{
	(void)virgl;
}

static inline void virgl_leave(struct virgl *virgl)
{
	(void)virgl;
}

static inline void virgl_reset(struct virgl *virgl)
{
	(void)virgl;
}

static inline void virgl_destroy(struct gpu_table *table, struct gpu_resource *resource)
{
	(void)table, (void)resource;
}

static inline uint32_t virgl_attach(struct gpu_table *table, struct gpu_resource *resource)
{
	(void)table, (void)resource;
	return 0;
}

static inline void virgl_detach(struct gpu_table *table, struct gpu_resource *resource)
{
	(void)table, (void)resource;
}

static inline int virgl_fetch(const struct gpu_resource *resource, const struct display_rect *rect)
{
	(void)resource, (void)rect;
	return 0;
}

#endif
#endif
