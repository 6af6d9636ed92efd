// SPDX-License-Identifier: Apache-2.0
#include "core/state.h"

#include <assert.h>
#include "core/util.h"

struct section {
	char name[STATE_NAME_MAX];
	uint32_t version;
	uint32_t len;
};

static_assert(sizeof(struct section) == STATE_NAME_MAX + 8, "a section's header has no holes");

static int state_reserve(struct state *state, size_t len)
{
	size_t capacity = util_max(state->capacity, 512);
	uint8_t *data;

	while (capacity - state->len < len)
		capacity *= 2;
	if (capacity == state->capacity)
		return 0;
	data = realloc(state->data, capacity);
	if (!data)
		return -ENOMEM;
	state->data = data;
	state->capacity = capacity;
	return 0;
}

int state_put(struct state *state, const char *name, uint32_t version, const void *data,
	      size_t len)
{
	struct section section = { .version = version, .len = (uint32_t)len };

	assert(strlen(name) < sizeof(section.name) && len <= UINT32_MAX);
	if (state_reserve(state, sizeof(section) + len))
		return -ENOMEM;
	memcpy(section.name, name, strlen(name));
	memcpy(state->data + state->len, &section, sizeof(section));
	memcpy(state->data + state->len + sizeof(section), data, len);
	state->len += sizeof(section) + len;
	return 0;
}

void state_free(struct state *state)
{
	free(state->data);
	*state = (struct state){ 0 };
}

int state_view(struct state_reader *reader, const char *name, uint32_t version,
	       struct state_reader *ret_section)
{
	struct section section;

	if (reader->left < sizeof(section))
		return -EINVAL;
	memcpy(&section, reader->data, sizeof(section));
	if (strncmp(section.name, name, sizeof(section.name)) || section.version != version ||
	    section.len > reader->left - sizeof(section))
		return -EINVAL;
	*ret_section = (struct state_reader){ reader->data + sizeof(section), section.len };
	reader->data += sizeof(section) + section.len;
	reader->left -= sizeof(section) + section.len;
	return 0;
}

int state_get(struct state_reader *reader, const char *name, uint32_t version, void *data,
	      size_t len)
{
	struct state_reader next = *reader, section;
	int err = state_view(&next, name, version, &section);

	if (err || section.left != len)
		return -EINVAL;
	memcpy(data, section.data, len);
	*reader = next;
	return 0;
}
