// SPDX-License-Identifier: Apache-2.0
/*
 * An input device of the host's. The kernel keeps events for a reader that is
 * slow. Where they were too many SYN_DROPPED tells: then the state is asked for.
 * All that the kernel has by then is left out, as it is older: asking for keys removes
 * their events from the kernel's buffer, so a release would be lost whose press
 * had been read.
 */
#include <fcntl.h>
#include <sys/ioctl.h>
#include "devices/input.h"

struct evdev_contacts {
	uint32_t code;
	int32_t values[INPUT_SLOTS];
};

/* What of a bitmap by the kernel the shape has as well becomes state. */
static void evdev_fetch_bits(struct input *input, uint16_t type, unsigned long request)
{
	uint8_t bits[INPUT_BITMAP] = { 0 };

	if (ioctl(input->source.fd, request, bits) < 0)
		return;
	for (uint16_t code = 0; code < KEY_CNT; code++)
		if (input_shape_has(&input->shape, type, code))
			input_state_apply(&input->now, &(struct input_change){
				type, code, bits[code / 8] >> code % 8 & 1 });
}

static void evdev_fetch_axis(struct input *input, uint16_t code)
{
	struct evdev_contacts contacts = { .code = code };
	struct input_absinfo axis;

	if (code <= ABS_MT_SLOT) {
		if (ioctl(input->source.fd, EVIOCGABS(code), &axis) == 0)
			input_state_apply(&input->now,
					  &(struct input_change){ EV_ABS, code, axis.value });
		return;
	}
	if (ioctl(input->source.fd, EVIOCGMTSLOTS(sizeof(contacts)), &contacts) < 0)
		return;
	for (int32_t slot = 0; slot < INPUT_SLOTS; slot++) {
		input_state_apply(&input->now, &(struct input_change){ EV_ABS, ABS_MT_SLOT, slot });
		input_state_apply(&input->now,
				  &(struct input_change){ EV_ABS, code, contacts.values[slot] });
	}
}

/* The state of the device, as it is. The slot to which its events apply comes last. */
static void evdev_fetch(struct input *input)
{
	evdev_fetch_bits(input, EV_KEY, EVIOCGKEY(INPUT_BITMAP));
	evdev_fetch_bits(input, EV_SW, EVIOCGSW(INPUT_BITMAP));
	for (int code = ABS_MAX; code >= 0; code--)
		if (code != ABS_MT_SLOT && input_shape_has(&input->shape, EV_ABS, (uint16_t)code))
			evdev_fetch_axis(input, (uint16_t)code);
	if (input_shape_has(&input->shape, EV_ABS, ABS_MT_SLOT))
		evdev_fetch_axis(input, ABS_MT_SLOT);
}

static void evdev_catch_up(struct input *input)
{
	struct input_event events[INPUT_READ_MAX];

	while (read(input->source.fd, events, sizeof(events)) == sizeof(events))
		;
	evdev_fetch(input);
	input->behind = true;
}

static void evdev_ready(struct event *event, uint32_t revents)
{
	struct input *input = container_of(event, struct input, source);
	struct input_event events[INPUT_READ_MAX];
	ssize_t n = read(event->fd, events, sizeof(events));

	(void)revents;
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		input_source_gone(input, input->shape.name);
	for (ssize_t i = 0; i < n / (ssize_t)sizeof(events[0]); i++) {
		if (events[i].type == EV_SYN && events[i].code == SYN_DROPPED) {
			evdev_catch_up(input);
			break;
		}
		input_inject(input, events[i].type, events[i].code, events[i].value);
	}
	input_deliver(input);
}

void input_evdev_light(const struct input *input)
{
	struct input_event events[LED_CNT + 1] = { 0 };
	size_t count = 0;

	if (input->source.fn != evdev_ready)
		return;
	for (uint16_t code = 0; code < LED_CNT; code++)
		if (input_shape_has(&input->shape, EV_LED, code))
			events[count++] = (struct input_event){
				.type = EV_LED,
				.code = code,
				.value = (int32_t)(input->saved.leds >> code & 1),
			};
	if (!count)
		return;
	events[count++].type = EV_SYN;
	(void)!write(input->source.fd, events, count * sizeof(events[0]));
}

static int evdev_learn(struct input_shape *shape, int fd)
{
	static const uint16_t types[] = { EV_KEY, EV_REL, EV_ABS, EV_MSC, EV_SW, EV_LED };
	uint8_t has[EV_CNT / 8] = { 0 };

	if (ioctl(fd, EVIOCGID, &shape->id) < 0)
		return -EINVAL;
	(void)ioctl(fd, EVIOCGNAME(sizeof(shape->name) - 1), shape->name);
	(void)ioctl(fd, EVIOCGUNIQ(sizeof(shape->serial) - 1), shape->serial);
	(void)ioctl(fd, EVIOCGPROP(sizeof(shape->props)), shape->props);
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		(void)ioctl(fd, EVIOCGBIT(types[i], INPUT_BITMAP), shape->bits[types[i]]);
	/* Its codes cannot be asked for. */
	if (ioctl(fd, EVIOCGBIT(0, sizeof(has)), has) >= 0 && has[EV_REP / 8] >> EV_REP % 8 & 1)
		shape->bits[EV_REP][0] = 1 << REP_DELAY | 1 << REP_PERIOD;
	for (uint16_t code = 0; code < ABS_CNT; code++)
		if (input_shape_has(shape, EV_ABS, code))
			(void)ioctl(fd, EVIOCGABS(code), &shape->axes[code]);
	shape->axes[ABS_MT_SLOT].maximum =
		(int32_t)util_min((uint64_t)shape->axes[ABS_MT_SLOT].maximum, INPUT_SLOTS - 1);
	return 0;
}

int input_evdev_open(struct input *input, const char *path, bool grab)
{
	const int flags = O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	bool lights = true;
	int r;

	input->source.fd = open(path, O_RDWR | flags);
	if (input->source.fd < 0 && (errno == EACCES || errno == EROFS)) {
		lights = false;
		input->source.fd = open(path, O_RDONLY | flags);
	}
	if (input->source.fd < 0)
		return -errno;
	r = evdev_learn(&input->shape, input->source.fd);
	if (r < 0)
		return r;
	if (!lights)
		memset(input->shape.bits[EV_LED], 0, INPUT_BITMAP);
	if (grab && ioctl(input->source.fd, EVIOCGRAB, 1) < 0)
		return -errno;
	evdev_fetch(input);
	return input_watch(input, evdev_ready);
}
