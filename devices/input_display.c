// SPDX-License-Identifier: Apache-2.0
/* What a person does at a display, as events of the device that is meant. */
#include "devices/input.h"

/* In one turn; there may be more in the next one. */
#define INPUT_MESSAGES 64
#define INPUT_TRACKING_ID_MAX UINT16_MAX

static void input_key(struct input *input, uint16_t code, bool down)
{
	input_inject(input, EV_KEY, code, down);
}

static void input_place(struct input *input, uint16_t x_axis, const struct display_message *message)
{
	input_inject(input, EV_ABS, x_axis, (int32_t)util_min(message->pointer.x, DISPLAY_AXIS_MAX));
	input_inject(input, EV_ABS, x_axis + 1, (int32_t)util_min(message->pointer.y, DISPLAY_AXIS_MAX));
}

/* The left button is a finger: as long as it is down there is one contact, in slot 0. */
static void input_touch(struct input *input, const struct display_message *message)
{
	const bool down = message->pointer.buttons & 1;

	if (down != !!input->now.values[BTN_TOUCH]) {
		input->contact = (input->contact + down) & INPUT_TRACKING_ID_MAX;
		input_inject(input, EV_ABS, ABS_MT_TRACKING_ID, down ? input->contact : -1);
		input_key(input, BTN_TOUCH, down);
	}
	if (!down)
		return;
	input_place(input, ABS_MT_POSITION_X, message);
	input_place(input, ABS_X, message);
}

/* To a device without such an axis or button it makes no difference. */
static void input_point(struct input *input, const struct display_message *message)
{
	static const uint16_t buttons[] = { BTN_LEFT, BTN_MIDDLE, BTN_RIGHT };

	input_place(input, ABS_X, message);
	input_inject(input, EV_REL, REL_X, message->pointer.dx);
	input_inject(input, EV_REL, REL_Y, message->pointer.dy);
	input_inject(input, EV_REL, REL_WHEEL, message->pointer.wheel);
	for (size_t i = 0; i < ARRAY_SIZE(buttons); i++)
		input_key(input, buttons[i], message->pointer.buttons >> i & 1);
}

static void input_hear(struct input *input, const struct display_message *message)
{
	switch (message->type) {
	case DISPLAY_KEY:
		input_key(input, message->key.code, message->key.value);
		break;
	case DISPLAY_POINTER:
		if (input_shape_has(&input->shape, EV_KEY, BTN_TOUCH))
			input_touch(input, message);
		else
			input_point(input, message);
		break;
	case DISPLAY_RELEASE:
		input_state_release(&input->now);
		input->behind = true;
		break;
	}
	input_inject(input, EV_SYN, SYN_REPORT, 0);
}

static void input_ready(struct event *event, uint32_t revents)
{
	struct input *input = container_of(event, struct input, source);
	struct display_message message;
	int r = 0;

	(void)revents;
	for (int i = 0; i < INPUT_MESSAGES && (!r || r == -EBADMSG) && input_has_room(input); i++) {
		r = display_receive(event->fd, &message);
		if (!r)
			input_hear(input, &message);
	}
	if (r < 0 && r != -EAGAIN && r != -EBADMSG)
		input_source_gone(input, "the display");
	input_deliver(input);
}

int input_display_connect(struct input *input, enum display_role role)
{
	int r;

	if (!input->dev.host->display)
		return 0;
	r = display_connect(input->dev.host->display, role, &input->source.fd);
	if (r < 0)
		return r == -EBUSY ? -EALREADY : r;
	return input_watch(input, input_ready);
}
