/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's commands for virglrenderer, as far as they have to be looked at before that
 * gets them: each is within the request, is none that takes memory which nobody
 * counts, and there are not too many contexts of OpenGL's.
 */
#ifndef DEVICES_GPU_VIRGL_STREAM_H
#define DEVICES_GPU_VIRGL_STREAM_H

#include "devices/gpu/virgl.h"

#define VIRGL_CONTEXTS_MAX 64
/* Contexts of OpenGL's in one of the guest's, which is a process of its. */
#define VIRGL_SUBS_MAX 32
/* And of all. Each takes a megabyte or two. */
#define VIRGL_SUBS_TOTAL 128

/* Objects of OpenGL's state in all of them, shaders included, and bytes of these' text. */
#define VIRGL_OBJECTS_MAX 65536
#define VIRGL_CHAIN_BITS 16
#define VIRGL_TEXT_MAX MIB(64)

struct virgl_context {
	uint32_t id; /* 0: free */
	uint32_t subs[VIRGL_SUBS_MAX]; /* 0: free */
	uint32_t current; /* place of the one that commands are for, from 1 on; 0: the first one */
	uint32_t missing; /* bytes of a shader's text, which comes in parts */
	uint32_t ended; /* sub contexts, in this request */
};

struct virgl_object {
	struct virgl_object *next; /* in its chain, or of those that are unused */
	uint64_t key;
	uint32_t text; /* bytes */
};

struct virgl_contexts {
	struct virgl_context all[VIRGL_CONTEXTS_MAX];
	unsigned int subs; /* of all */
	struct virgl_object objects[VIRGL_OBJECTS_MAX], *unused;
	struct virgl_object *chains[1 << VIRGL_CHAIN_BITS]; /* of objects, by a hash of the key */
	uint64_t seed; /* of that: random, and odd */
	uint32_t object_count;
	uint64_t text;
};

/* A zeroed one. -EIO: there is nothing random. */
int virgl_contexts_init(struct virgl_contexts *contexts);

/* Id 0 finds a free place. NULL: there is none. */
struct virgl_context *virgl_contexts_find(struct virgl_contexts *contexts, uint32_t id);
void virgl_contexts_clear(struct virgl_contexts *contexts, struct virgl_context *context);

/* Whether lines and layers of a transfer, in bytes, are such that the library can calculate with them. */
bool virgl_strides_fit(uint32_t stride, uint32_t layer_stride, uint32_t height, uint32_t depth);

/*
 * Keeps account of what the commands will do. -EINVAL: they must not be run, while some are
 * accounted for. Then, and where the library does not run all of them, the context has to go.
 */
int virgl_stream_check(struct virgl_contexts *contexts, struct virgl_context *context,
		       const uint32_t *words, uint32_t count);

#endif
