// SPDX-License-Identifier: Apache-2.0
#include "devices/input.h"

/* Where the value of a key, switch or axis is; NULL: it does not last, or its slot is none of ours. */
static int32_t *input_state_place(struct input_state *state, uint16_t type, uint16_t code)
{
	if (type == EV_KEY && code < KEY_CNT)
		return &state->values[code];
	if (type == EV_SW && code < SW_CNT)
		return &state->values[INPUT_STATE_SWITCHES + code];
	if (type != EV_ABS || code >= ABS_CNT)
		return NULL;
	if (code < ABS_MT_SLOT)
		return &state->values[INPUT_STATE_AXES + code];
	if (code == ABS_MT_SLOT)
		return &state->slot;
	if (state->slot == INPUT_SLOTS)
		return NULL;
	return &state->values[INPUT_STATE_CONTACTS + state->slot * INPUT_CONTACT_AXES + code -
			      ABS_MT_SLOT - 1];
}

static struct input_change input_state_change(const struct input_state *state, int index)
{
	const int32_t value = state->values[index];

	if (index < INPUT_STATE_SWITCHES)
		return (struct input_change){ EV_KEY, (uint16_t)index, value };
	if (index < INPUT_STATE_AXES)
		return (struct input_change){ EV_SW, (uint16_t)(index - INPUT_STATE_SWITCHES), value };
	index -= INPUT_STATE_AXES;
	if (index >= ABS_MT_SLOT)
		index = ABS_MT_SLOT + 1 + (index - ABS_MT_SLOT) % INPUT_CONTACT_AXES;
	return (struct input_change){ EV_ABS, (uint16_t)index, value };
}

/* The value of a contact that is none. */
static int32_t input_state_rest(int index)
{
	return index >= INPUT_STATE_CONTACTS &&
	       (index - INPUT_STATE_CONTACTS) % INPUT_CONTACT_AXES == ABS_MT_TRACKING_ID - ABS_MT_SLOT - 1 ?
	       -1 : 0;
}

void input_state_reset(struct input_state *state)
{
	state->slot = 0;
	for (int i = 0; i < INPUT_STATE_VALUES; i++)
		state->values[i] = input_state_rest(i);
}

void input_state_release(struct input_state *state)
{
	for (int i = 0; i < INPUT_STATE_VALUES; i++)
		if (i < INPUT_STATE_AXES || input_state_rest(i))
			state->values[i] = input_state_rest(i);
}

bool input_state_apply(struct input_state *state, const struct input_change *change)
{
	int32_t *place = input_state_place(state, change->type, change->code), old;

	if (!place)
		return change->type != EV_ABS;
	old = *place;
	*place = change->value;
	if (place == &state->slot && (*place < 0 || *place > INPUT_SLOTS))
		*place = INPUT_SLOTS;
	return *place != old && (place != &state->slot || *place < INPUT_SLOTS);
}

unsigned int input_state_diff(const struct input_state *from, const struct input_state *to,
			      struct input_change *changes, unsigned int max)
{
	int32_t slot = from->slot;
	unsigned int count = 0;

	for (int i = 0; i < INPUT_STATE_VALUES && count < max; i++) {
		const int32_t at = (i - INPUT_STATE_CONTACTS) / INPUT_CONTACT_AXES;

		if (from->values[i] == to->values[i])
			continue;
		if (i >= INPUT_STATE_CONTACTS && at != slot) {
			changes[count++] = (struct input_change){ EV_ABS, ABS_MT_SLOT, at };
			slot = at;
		}
		if (count < max)
			changes[count++] = input_state_change(to, i);
	}
	/* What comes next is about this one. */
	if (slot != to->slot && to->slot < INPUT_SLOTS && count < max)
		changes[count++] = (struct input_change){ EV_ABS, ABS_MT_SLOT, to->slot };
	return count;
}
