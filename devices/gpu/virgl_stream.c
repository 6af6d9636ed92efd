// SPDX-License-Identifier: Apache-2.0
#include "devices/gpu/virgl_stream.h"

#include <sys/random.h>

/* Of virglrenderer's virgl_protocol.h, which is not installed. */
enum command {
	CREATE_OBJECT = 1,
	DESTROY_OBJECT = 3,
	DRAW_VBO = 8,
	RESOURCE_INLINE_WRITE = 9,
	SET_SUB_CTX = 28,
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
#define SHADER_COMPUTE 5
#define STREAMED_MAX 64
/* In bytes, which those of a group share. */
#define LOCAL_MAX MIB(1)
/* Sub contexts in one request, each of which takes a look at all objects. Mesa ends one at a time. */
#define ENDED_MAX 32

/* ---- the account ---- */

int virgl_contexts_init(struct virgl_contexts *contexts)
{
	if (getrandom(&contexts->seed, sizeof(contexts->seed), 0) != sizeof(contexts->seed))
		return -EIO;
	contexts->seed |= 1;
	for (uint32_t i = 0; i < VIRGL_OBJECTS_MAX; i++) {
		contexts->objects[i].next = contexts->unused;
		contexts->unused = &contexts->objects[i];
	}
	return 0;
}

/* The guest chooses the keys, but cannot know which of them meet: chains stay short. */
static struct virgl_object **find_chain(struct virgl_contexts *contexts, uint64_t key)
{
	return &contexts->chains[key * contexts->seed >> (64 - VIRGL_CHAIN_BITS)];
}

/* All of these keys, as far as they are in this chain. */
static void remove_from_chain(struct virgl_contexts *contexts, struct virgl_object **link,
			      uint64_t first, uint64_t last)
{
	struct virgl_object *object;

	while ((object = *link)) {
		if (object->key < first || object->key > last) {
			link = &object->next;
			continue;
		}
		*link = object->next;
		object->next = contexts->unused;
		contexts->unused = object;
		contexts->object_count--;
		contexts->text -= object->text;
	}
}

static void remove_object(struct virgl_contexts *contexts, uint64_t key)
{
	remove_from_chain(contexts, find_chain(contexts, key), key, key);
}

/* Looks at each object that there is. */
static void remove_objects(struct virgl_contexts *contexts, uint64_t first, uint64_t last)
{
	for (uint32_t i = 0; contexts->object_count && i < ARRAY_SIZE(contexts->chains); i++)
		remove_from_chain(contexts, &contexts->chains[i], first, last);
}

/* In the place of the one that has the key, as the library does it. */
static int add_object(struct virgl_contexts *contexts, uint64_t key, uint32_t text)
{
	struct virgl_object **chain = find_chain(contexts, key), *object;

	remove_object(contexts, key);
	object = contexts->unused;
	if (!object || text > VIRGL_TEXT_MAX - contexts->text)
		return -EINVAL;
	contexts->unused = object->next;
	*object = (struct virgl_object){ *chain, key, text };
	*chain = object;
	contexts->object_count++;
	contexts->text += text;
	return 0;
}

/* Objects are of a sub context of a context. */
static uint64_t object_key(const struct virgl_contexts *contexts,
			   const struct virgl_context *context, uint32_t sub, uint32_t handle)
{
	return (uint64_t)(context - contexts->all) << 40 | (uint64_t)sub << 32 | handle;
}

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
	remove_objects(contexts, object_key(contexts, context, 0, 0),
		       object_key(contexts, context, VIRGL_SUBS_MAX, UINT32_MAX));
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

/* As objects' keys have it: 0 is the first one, which each context has as long as it is there. */
static uint32_t sub_number(const struct virgl_context *context, const uint32_t *place)
{
	return (uint32_t)(place - context->subs) + 1;
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
	context->current = sub_number(context, place);
	return 0;
}

/* That which is not there does not become the current one. */
static int set_sub(struct virgl_context *context, uint32_t id)
{
	const uint32_t *place = id ? find_sub(context, id) : NULL;

	if (place || !id)
		context->current = place ? sub_number(context, place) : 0;
	return 0;
}

static int destroy_sub(struct virgl_contexts *contexts, struct virgl_context *context, uint32_t id)
{
	uint32_t *place = id ? find_sub(context, id) : NULL;
	uint32_t number;

	if (!place)
		return 0;
	if (context->ended++ == ENDED_MAX)
		return -EINVAL;
	number = sub_number(context, place);
	remove_objects(contexts, object_key(contexts, context, number, 0),
		       object_key(contexts, context, number, UINT32_MAX));
	if (context->current == number)
		context->current = 0;
	*place = 0;
	contexts->subs--;
	return 0;
}

/* ---- commands ---- */

bool virgl_strides_fit(uint32_t stride, uint32_t layer_stride, uint32_t height, uint32_t depth)
{
	/* In 32 bits, and it is their sum. */
	return (uint64_t)stride * height <= GIB(1) && (uint64_t)layer_stride * depth <= GIB(1);
}

/*
 * Handle, type, length (or where a further part of the text goes), tokens, and what is streamed out
 * (of one that computes: its local memory); then text. Room is taken as it is told, and one whose
 * text is not complete is like a good one to the library until it is used.
 */
static int create_shader(struct virgl_contexts *contexts, struct virgl_context *context,
			 const uint32_t *words, uint32_t len)
{
	uint32_t total, streamed, head;
	bool further;

	if (len < 5)
		return -EINVAL;
	further = words[3] & SHADER_FURTHER;
	total = words[3] & ~SHADER_FURTHER;
	streamed = words[2] == SHADER_COMPUTE ? 0 : words[5];
	if (total > SHADER_MAX || words[4] > SHADER_MAX || words[5] > LOCAL_MAX ||
	    streamed > STREAMED_MAX)
		return -EINVAL;
	head = 5 + (streamed ? 4 + 2 * streamed : 0);
	if (len < head || further == !context->missing)
		return -EINVAL;
	if (!further)
		context->missing = total;
	context->missing -= (uint32_t)util_min(context->missing, (len - head) * sizeof(*words));
	if (further)
		return 0;
	return add_object(contexts, object_key(contexts, context, context->current, words[1]),
			  total);
}

static int create_object(struct virgl_contexts *contexts, struct virgl_context *context,
			 const uint32_t *words, uint32_t len)
{
	if (!len)
		return -EINVAL;
	if ((words[0] >> 8 & 0xff) == OBJECT_SHADER)
		return create_shader(contexts, context, words, len);
	return add_object(contexts, object_key(contexts, context, context->current, words[1]), 0);
}

static int destroy_object(struct virgl_contexts *contexts, const struct virgl_context *context,
			  uint32_t handle)
{
	remove_object(contexts, object_key(contexts, context, context->current, handle));
	return 0;
}

static int check_command(struct virgl_contexts *contexts, struct virgl_context *context,
			 const uint32_t *words, uint32_t len)
{
	const uint32_t command = words[0] & 0xff;

	switch (command) {
	case CREATE_OBJECT:
		return create_object(contexts, context, words, len);
	case DESTROY_OBJECT:
		return len == 1 ? destroy_object(contexts, context, words[1]) : -EINVAL;
	case DRAW_VBO:
	case BIND_SHADER:
	case LAUNCH_GRID:
	case LINK_SHADER:
		return context->missing ? -EINVAL : 0;
	case SET_SUB_CTX:
		return len == 1 ? set_sub(context, words[1]) : -EINVAL;
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

	context->ended = 0;
	/* A command's first word has in its upper half how many follow. */
	for (uint32_t at = 0, len; !err && at < count; at += 1 + len) {
		len = words[at] >> 16;
		err = len < count - at ? check_command(contexts, context, words + at, len) :
					 -EINVAL;
	}
	return err;
}
