// SPDX-License-Identifier: Apache-2.0
#include "devices/gpu/virgl_stream.h"

/* Of virglrenderer's virgl_protocol.h, which is not installed. */
enum command {
	CREATE_OBJECT = 1,
	DRAW_VBO = 8,
	RESOURCE_INLINE_WRITE = 9,
	CREATE_SUB_CTX = 29,
	DESTROY_SUB_CTX = 30,
	BIND_SHADER = 31,
	LAUNCH_GRID = 37,
	TRANSFER3D = 43,
	COPY_TRANSFER3D = 45,
	/* Resources that no request created. */
	PIPE_RESOURCE_CREATE = 48,
	PIPE_RESOURCE_SET_TYPE = 49,
	LINK_SHADER = 52, /* the last one for drawing; video follows */
};

#define OBJECT_SHADER 4
/* Of its text, in bytes, and of what that is translated to. */
#define SHADER_MAX MIB(1)
#define SHADER_FURTHER (1U << 31)
#define STREAMED_MAX 64

struct virgl_context *virgl_contexts_find(struct virgl_contexts *contexts, uint32_t id)
{
	for (unsigned int i = 0; i < VIRGL_CONTEXTS_MAX; i++)
		if (contexts->all[i].id == id)
			return &contexts->all[i];
	return NULL;
}

void virgl_contexts_clear(struct virgl_contexts *contexts, struct virgl_context *context)
{
	for (unsigned int i = 0; i < VIRGL_SUBS_MAX; i++)
		contexts->subs -= context->subs[i] != 0;
	*context = (struct virgl_context){ 0 };
}

/* Where it is; or for 0 a free place. */
static uint32_t *find_sub(struct virgl_context *context, uint32_t id)
{
	for (unsigned int i = 0; i < VIRGL_SUBS_MAX; i++)
		if (context->subs[i] == id)
			return &context->subs[i];
	return NULL;
}

/* One that is there already is not made again; 0 always is. */
static int create_sub(struct virgl_contexts *contexts, struct virgl_context *context, uint32_t id)
{
	uint32_t *place = find_sub(context, 0);

	if (!id || find_sub(context, id))
		return 0;
	if (!place || contexts->subs == VIRGL_SUBS_TOTAL)
		return -EINVAL;
	*place = id;
	contexts->subs++;
	return 0;
}

static int destroy_sub(struct virgl_contexts *contexts, struct virgl_context *context, uint32_t id)
{
	uint32_t *place = id ? find_sub(context, id) : NULL;

	if (place) {
		*place = 0;
		contexts->subs--;
	}
	return 0;
}

bool virgl_strides_fit(uint32_t stride, uint32_t layer_stride, uint32_t height, uint32_t depth)
{
	/* In 32 bits, and it is their sum. */
	return (uint64_t)stride * height <= GIB(1) && (uint64_t)layer_stride * depth <= GIB(1);
}

/*
 * Handle, type, length (or where a further part of the text goes), tokens, and what is streamed out;
 * then text. Room is taken as it is told, and one whose text is not complete is like a good one
 * to the library until it is used.
 */
static int check_shader(struct virgl_context *context, const uint32_t *words, uint32_t len)
{
	uint32_t total, head;
	bool further;

	if (len < 5)
		return -EINVAL;
	further = words[3] & SHADER_FURTHER;
	total = words[3] & ~SHADER_FURTHER;
	if (total > SHADER_MAX || words[4] > SHADER_MAX || words[5] > STREAMED_MAX)
		return -EINVAL;
	head = 5 + (words[5] ? 4 + 2 * words[5] : 0);
	if (len < head || further == !context->missing)
		return -EINVAL;
	if (!further)
		context->missing = total;
	context->missing -= (uint32_t)util_min(context->missing, (len - head) * sizeof(*words));
	return 0;
}

static int check_command(struct virgl_contexts *contexts, struct virgl_context *context,
			 const uint32_t *words, uint32_t len)
{
	const uint32_t command = words[0] & 0xff;

	switch (command) {
	case CREATE_OBJECT:
		return (words[0] >> 8 & 0xff) == OBJECT_SHADER ? check_shader(context, words, len) :
								 0;
	case DRAW_VBO:
	case BIND_SHADER:
	case LAUNCH_GRID:
	case LINK_SHADER:
		return context->missing ? -EINVAL : 0;
	case CREATE_SUB_CTX:
		return len == 1 ? create_sub(contexts, context, words[1]) : -EINVAL;
	case DESTROY_SUB_CTX:
		return len == 1 ? destroy_sub(contexts, context, words[1]) : -EINVAL;
	case RESOURCE_INLINE_WRITE:
	case TRANSFER3D:
	case COPY_TRANSFER3D:
		/* Resource, level, usage; strides; x, y, z, width, height, depth. */
		return len >= 11 && virgl_strides_fit(words[4], words[5], words[10], words[11]) ?
			       0 :
			       -EINVAL;
	case PIPE_RESOURCE_CREATE:
	case PIPE_RESOURCE_SET_TYPE:
		return -EINVAL;
	default:
		return command <= LINK_SHADER ? 0 : -EINVAL;
	}
}

int virgl_stream_check(struct virgl_contexts *contexts, struct virgl_context *context,
		       const uint32_t *words, uint32_t count)
{
	int err = 0;

	/* A command's first word has in its upper half how many follow. */
	for (uint32_t at = 0, len; !err && at < count; at += 1 + len) {
		len = words[at] >> 16;
		err = len < count - at ? check_command(contexts, context, words + at, len) :
					 -EINVAL;
	}
	return err;
}
