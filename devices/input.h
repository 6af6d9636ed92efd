/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-input, between its files: what a device is (input_shape.c), what is pressed
 * and touched (input_state.c), and whom it hears that from (input_display.c, input_evdev.c).
 */
#ifndef DEVICES_INPUT_H
#define DEVICES_INPUT_H

#include <linux/input.h>
#include <linux/virtio_input.h>
#include "devices/display/display.h"
#include "devices/virtio/virtio.h"

#define INPUT_SLOTS 16 /* of contacts; more of an evdev's do not reach the guest */
#define INPUT_BITMAP ((KEY_CNT + 7) / 8)

/* What the guest is told of the device. */
struct input_shape {
	char name[128], serial[128];
	struct input_id id;
	uint8_t props[INPUT_PROP_CNT / 8];
	uint8_t bits[EV_REP + 1][INPUT_BITMAP]; /* by types: the codes that there are */
	struct input_absinfo axes[ABS_CNT];
};

/* The device that a display's keyboard or pointer is. */
void input_shape_make(struct input_shape *shape, enum display_role role, const char *serial);
bool input_shape_has(const struct input_shape *shape, uint16_t type, uint16_t code);
/* Section 5.8.4: the answer to a selection; all zero where there is none. */
void input_shape_answer(const struct input_shape *shape, uint8_t select, uint8_t subsel,
			struct virtio_input_config *ret_config);

/* As the guest has it, but for the order of bytes. */
struct input_change {
	uint16_t type, code;
	int32_t value;
};

/*
 * What lasts: a value for each key, switch and axis, and each axis of each slot. It is saved.
 * Keys and switches are 0 or 1.
 */
#define INPUT_STATE_SWITCHES KEY_CNT
#define INPUT_STATE_AXES (INPUT_STATE_SWITCHES + SW_CNT)
#define INPUT_STATE_CONTACTS (INPUT_STATE_AXES + ABS_MT_SLOT)
#define INPUT_CONTACT_AXES (ABS_CNT - ABS_MT_SLOT - 1)
#define INPUT_STATE_VALUES (INPUT_STATE_CONTACTS + INPUT_SLOTS * INPUT_CONTACT_AXES)

struct input_state {
	int32_t values[INPUT_STATE_VALUES];
	int32_t slot; /* to which changes of contacts apply; INPUT_SLOTS: one that we do not have */
};

/* Nothing is pressed, nothing touches, and all axes are at 0. */
void input_state_reset(struct input_state *state);
/* Lets go of keys, switches and contacts; axes stay where they are. */
void input_state_release(struct input_state *state);
/* False where that changes nothing, or something of a slot that we do not have. */
bool input_state_apply(struct input_state *state, const struct input_change *change);
/* The first max changes, or all that there are, that lead from one to the other; returns how many. */
unsigned int input_state_diff(const struct input_state *from, const struct input_state *to,
			      struct input_change *changes, unsigned int max);

#define INPUT_WAITING 1024 /* events: some hundred keys */
/* A source brings at the most so many before it asks again whether there is room. */
#define INPUT_READ_MAX 64

struct input_conf {
	struct virtio_conf virtio;
	bool roles[DISPLAY_ROLES];
	char *evdev;
	bool grab;
};

/* Of a save. */
struct input_saved {
	struct input_state told; /* what the guest knows */
	uint32_t leds;           /* that it has lit, by LED_... */
};

struct input {
	struct virtio_dev dev;
	struct input_shape shape;
	struct input_state now;
	struct input_saved saved;
	bool driven;         /* there is a driver, even if it is paused */
	bool behind;         /* what waits does not lead from told to now */
	bool begun;          /* a group has: its SYN_REPORT is to come */
	unsigned int first, count;
	struct input_change waiting[INPUT_WAITING]; /* count of them from first on, in a circle */
	bool listening;      /* source is watched */
	struct event source; /* without fn: there is none, or none any more */
	int32_t contact;     /* display: the last one's tracking id */
};

/*
 * From a source, on the worker, where there is room: one change. What the device does not have, or what changes
 * nothing, is ignored. A source that has changed now otherwise sets behind.
 */
void input_inject(struct input *input, uint16_t type, uint16_t code, int32_t value);
bool input_has_room(const struct input *input);
/* Afterwards: as much of it as the guest has buffers for. */
void input_deliver(struct input *input);
/* Nothing will come from the source any more: stops watching, and lets go of everything. */
void input_source_gone(struct input *input, const char *what);
/* In init: fn is called as long as there is room for what source.fd has. -errno. */
int input_watch(struct input *input, void (*fn)(struct event *event, uint32_t revents));

/* The display is heard, where there is one. -EALREADY: by another device of the role; -errno. */
int input_display_connect(struct input *input, enum display_role role);

/* Opens path, fills in shape and now, and watches it. -EINVAL: no event device; -EBUSY: grabbed by another; -errno. */
int input_evdev_open(struct input *input, const char *path, bool grab);
/* Lights what the guest has lit. */
void input_evdev_light(const struct input *input);
/* Besides reading and writing: the state of a device that lost events. */
#define INPUT_EVDEV_CALLS \
	SC_ARG(ioctl, 1, EVIOCGKEY(INPUT_BITMAP)), SC_ARG(ioctl, 1, EVIOCGSW(INPUT_BITMAP)), \
	SC_ARG(ioctl, 1, EVIOCGMTSLOTS(sizeof(int32_t) * (1 + INPUT_SLOTS))), \
	SC_MASK(ioctl, 1, ~(uint64_t)ABS_MAX, EVIOCGABS(0))

#endif
