// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <endian.h>
#include <stdio.h>
#include "devices/input.h"

#define INPUT_CONTACTS 10
/* The ids are told apart by programs, and mean nothing. */
#define INPUT_VENDOR 0x1af4
#define INPUT_PRODUCT (0x1040 + VIRTIO_ID_INPUT)

static_assert(INPUT_BITMAP <= sizeof(((struct virtio_input_config *)0)->u.bitmap),
	      "any bitmap fits an answer");
static_assert(sizeof(((struct input_shape *)0)->name) ==
	      sizeof(((struct virtio_input_config *)0)->u.string), "any name fits an answer");

static void input_set_bit(uint8_t *bitmap, unsigned int bit)
{
	bitmap[bit / 8] |= (uint8_t)(1 << bit % 8);
}

static bool input_get_bit(const uint8_t *bitmap, unsigned int bit)
{
	return bitmap[bit / 8] >> bit % 8 & 1;
}

static void input_add(struct input_shape *shape, uint16_t type, uint16_t first, uint16_t last)
{
	for (unsigned int code = first; code <= last; code++)
		input_set_bit(shape->bits[type], code);
}

static void input_add_axis(struct input_shape *shape, uint16_t code, int32_t max)
{
	input_add(shape, EV_ABS, code, code);
	shape->axes[code].maximum = max;
}

static void input_add_buttons(struct input_shape *shape)
{
	input_add(shape, EV_KEY, BTN_LEFT, BTN_MIDDLE);
	input_add(shape, EV_REL, REL_WHEEL, REL_WHEEL);
}

void input_shape_make(struct input_shape *shape, enum display_role role, const char *serial)
{
	static const char *const names[DISPLAY_ROLES] = {
		[DISPLAY_KEYBOARD] = "keyboard",
		[DISPLAY_MOUSE] = "mouse",
		[DISPLAY_TABLET] = "tablet",
		[DISPLAY_TOUCH] = "touch screen",
	};

	*shape = (struct input_shape){
		.id = { BUS_VIRTUAL, INPUT_VENDOR, INPUT_PRODUCT, (uint16_t)role },
	};
	snprintf(shape->name, sizeof(shape->name), "microvm %s", names[role]);
	snprintf(shape->serial, sizeof(shape->serial), "%s", serial);
	switch (role) {
	case DISPLAY_KEYBOARD:
		input_add(shape, EV_KEY, KEY_ESC, KEY_MICMUTE);
		input_add(shape, EV_LED, LED_NUML, LED_SCROLLL);
		input_add(shape, EV_REP, REP_DELAY, REP_PERIOD);
		break;
	case DISPLAY_MOUSE:
		input_add(shape, EV_REL, REL_X, REL_Y);
		input_add_buttons(shape);
		break;
	case DISPLAY_TOUCH:
		input_set_bit(shape->props, INPUT_PROP_DIRECT);
		input_add(shape, EV_KEY, BTN_TOUCH, BTN_TOUCH);
		input_add_axis(shape, ABS_MT_SLOT, INPUT_CONTACTS - 1);
		input_add_axis(shape, ABS_MT_TRACKING_ID, UINT16_MAX);
		input_add_axis(shape, ABS_MT_POSITION_X, DISPLAY_AXIS_MAX);
		input_add_axis(shape, ABS_MT_POSITION_Y, DISPLAY_AXIS_MAX);
		input_add_axis(shape, ABS_X, DISPLAY_AXIS_MAX);
		input_add_axis(shape, ABS_Y, DISPLAY_AXIS_MAX);
		break;
	default:
		input_add_axis(shape, ABS_X, DISPLAY_AXIS_MAX);
		input_add_axis(shape, ABS_Y, DISPLAY_AXIS_MAX);
		input_add_buttons(shape);
	}
}

bool input_shape_has(const struct input_shape *shape, uint16_t type, uint16_t code)
{
	if (type == EV_SYN)
		return code == SYN_REPORT || code == SYN_MT_REPORT;
	return type <= EV_REP && code < KEY_CNT && input_get_bit(shape->bits[type], code);
}

static void input_answer(struct virtio_input_config *config, const void *data, size_t size)
{
	memcpy(&config->u, data, size);
	config->size = (uint8_t)size;
}

/* Without the zeroes at its end. */
static void input_answer_bitmap(struct virtio_input_config *config, const uint8_t *bitmap, size_t size)
{
	while (size && !bitmap[size - 1])
		size--;
	input_answer(config, bitmap, size);
}

static void input_answer_axis(struct virtio_input_config *config, const struct input_absinfo *axis)
{
	const struct virtio_input_absinfo info = {
		.min = htole32((uint32_t)axis->minimum),
		.max = htole32((uint32_t)axis->maximum),
		.fuzz = htole32((uint32_t)axis->fuzz),
		.flat = htole32((uint32_t)axis->flat),
		.res = htole32((uint32_t)axis->resolution),
	};

	input_answer(config, &info, sizeof(info));
}

void input_shape_answer(const struct input_shape *shape, uint8_t select, uint8_t subsel,
			struct virtio_input_config *ret_config)
{
	const struct virtio_input_devids ids = {
		.bustype = htole16(shape->id.bustype),
		.vendor = htole16(shape->id.vendor),
		.product = htole16(shape->id.product),
		.version = htole16(shape->id.version),
	};
	struct virtio_input_config config = { .select = select, .subsel = subsel };

	if (select == VIRTIO_INPUT_CFG_ID_NAME && !subsel)
		input_answer(&config, shape->name, strlen(shape->name));
	else if (select == VIRTIO_INPUT_CFG_ID_SERIAL && !subsel)
		input_answer(&config, shape->serial, strlen(shape->serial));
	else if (select == VIRTIO_INPUT_CFG_ID_DEVIDS && !subsel)
		input_answer(&config, &ids, sizeof(ids));
	else if (select == VIRTIO_INPUT_CFG_PROP_BITS && !subsel)
		input_answer_bitmap(&config, shape->props, sizeof(shape->props));
	else if (select == VIRTIO_INPUT_CFG_EV_BITS && subsel <= EV_REP)
		input_answer_bitmap(&config, shape->bits[subsel], INPUT_BITMAP);
	else if (select == VIRTIO_INPUT_CFG_ABS_INFO && input_shape_has(shape, EV_ABS, subsel))
		input_answer_axis(&config, &shape->axes[subsel]);
	*ret_config = config;
}
