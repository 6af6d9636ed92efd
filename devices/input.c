// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-input (section 5.8): a keyboard, a mouse, a tablet or a touch screen,
 * or what an input device of the host's is.
 *
 * Events come in groups that end with SYN_REPORT, and go to the guest as they
 * are: the whole group, or nothing of it where the guest has too few buffers.
 * That loses movements and keys that are up again, as on any machine that is
 * too slow. What lasts is not lost: there is the state of the device as it is
 * now, and that which the guest has been told. Whenever they may differ (a group
 * was dropped, the driver has started, a save was loaded) the guest is sent the
 * difference, in as many groups as it has room for.
 */
#include <assert.h>
#include <endian.h>
#include <sys/ioctl.h>
#include "devices/input.h"

#define INPUT_QUEUE_SIZE 64

enum input_queue { INPUT_EVENTS, INPUT_STATUS, INPUT_QUEUES };
enum input_counter { INPUT_COUNT_EVENTS, INPUT_COUNT_DROPPED, INPUT_COUNT_LEDS };

static const char *const input_counters[] = {
	[INPUT_COUNT_EVENTS] = "events",
	[INPUT_COUNT_DROPPED] = "dropped",
	[INPUT_COUNT_LEDS] = "leds",
	NULL,
};

static_assert(sizeof(struct input_saved) == sizeof(int32_t) * (INPUT_STATE_VALUES + 2), "no holes");

/* ---- events ---- */

static struct virtq *input_events(struct input *input)
{
	return &input->dev.queues[INPUT_EVENTS];
}

/*
 * How many of so many buffers there are. They stay in hand: a queue with something
 * in it is not waited for, and these may be too few.
 */
static unsigned int input_fill(struct input *input, unsigned int want)
{
	struct virtq *queue = input_events(input);
	struct chain *chain;

	while (input->room < want && queue->active && (chain = virtq_pop(queue))) {
		if (chain->in.left < sizeof(struct virtio_input_event))
			virtio_fail(&input->dev, "a buffer without room for an event");
		else
			input->buffers[input->room++] = chain;
	}
	return virtio_failed(&input->dev) ? 0 : (unsigned int)util_min(input->room, want);
}

static void input_send(struct input *input, const struct input_change *changes, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		const struct virtio_input_event event = {
			.type = htole16(changes[i].type),
			.code = htole16(changes[i].code),
			.value = htole32((uint32_t)changes[i].value),
		};

		chain_push(input->buffers[i], &event, sizeof(event));
		input_state_apply(&input->saved.told, &changes[i]);
	}
	virtq_done_together(input_events(input), input->buffers, count);
	virtq_count(input_events(input), INPUT_COUNT_EVENTS, count);
	input->room -= count;
	memmove(input->buffers, input->buffers + count, input->room * sizeof(input->buffers[0]));
}

void input_catch_up(struct input *input)
{
	struct input_change changes[INPUT_GROUP_MAX];
	unsigned int count;

	input->behind = true;
	while ((count = input_state_diff(&input->saved.told, &input->now, changes, INPUT_GROUP_MAX - 1))) {
		count = input_fill(input, count + 1);
		if (count < 2)
			return;
		changes[count - 1] = (struct input_change){ EV_SYN, SYN_REPORT, 0 };
		input_send(input, changes, count);
	}
	input->behind = false;
}

void input_inject(struct input *input, uint16_t type, uint16_t code, int32_t value)
{
	struct input_change change = { type, code, value };
	unsigned int count;

	/* Lights are the guest's to change, and it repeats keys itself. */
	if (!input_shape_has(&input->shape, type, code) || type == EV_LED || type == EV_REP ||
	    (type == EV_KEY && value == 2) || (type == EV_REL && !value))
		return;
	if (type == EV_KEY || type == EV_SW)
		change.value = !!value;
	if (!input_state_apply(&input->now, &change))
		return;
	if (input->count < INPUT_GROUP_MAX)
		input->group[input->count] = change;
	if (input->count <= INPUT_GROUP_MAX)
		input->count++;
	if (type != EV_SYN || code != SYN_REPORT)
		return;
	count = input->count;
	input->count = 0;
	/* Of what was ignored this is left. */
	if (count == 1)
		return;
	if (!input->behind && count <= INPUT_GROUP_MAX && input_fill(input, count) == count) {
		input_send(input, input->group, count);
		return;
	}
	virtq_count(input_events(input), INPUT_COUNT_DROPPED, 1);
	input_catch_up(input);
}

void input_source_gone(struct input *input, const char *what)
{
	loop_del(&input->dev.workers[0].loop, &input->source);
	input->count = 0;
	input_state_release(&input->now);
	input_catch_up(input);
	if (log_allowed(&input->dev.complaints))
		log_warn("%s: %s is gone, nothing comes from it any more", input->dev.name, what);
}

/* ---- what the guest says ---- */

static void input_light(struct input *input, const struct virtio_input_event *event)
{
	const uint16_t code = le16toh(event->code);
	uint32_t leds;

	if (le16toh(event->type) != EV_LED || !input_shape_has(&input->shape, EV_LED, code))
		return;
	leds = input->saved.leds & ~(1U << code);
	if (event->value)
		leds |= 1U << code;
	if (leds == input->saved.leds)
		return;
	input->saved.leds = leds;
	virtq_count(&input->dev.queues[INPUT_STATUS], INPUT_COUNT_LEDS, 1);
	input_evdev_light(input);
}

static void input_kick(struct virtio_dev *dev, struct virtq *queue)
{
	struct input *input = container_of(dev, struct input, dev);
	struct virtio_input_event event;
	struct chain *chain;

	if (queue->index == INPUT_EVENTS) {
		if (input->behind)
			input_catch_up(input);
		return;
	}
	while ((chain = virtq_pop(queue))) {
		if (chain_pull(chain, &event, sizeof(event)) < sizeof(event)) {
			virtio_fail(dev, "a status that is shorter than an event");
			return;
		}
		input_light(input, &event);
		virtq_done(queue, chain);
	}
}

/* Whatever was written, what is there is the answer to the selection. It tells no news, so no interrupt. */
static void input_config_write(struct virtio_dev *dev, uint32_t offset, uint32_t len)
{
	const struct input *input = container_of(dev, struct input, dev);
	struct virtio_input_config config;

	(void)offset;
	(void)len;
	static_assert(sizeof(config) <= VIRTIO_CONFIG_MAX, "there is room for an answer");
	pthread_mutex_lock(&dev->config_lock);
	memcpy(&config, dev->config, sizeof(config));
	input_shape_answer(&input->shape, config.select, config.subsel, &config);
	memcpy(dev->config, &config, sizeof(config));
	pthread_mutex_unlock(&dev->config_lock);
}

/* ---- life ---- */

static int input_start(struct virtio_dev *dev)
{
	struct input *input = container_of(dev, struct input, dev);

	/* The first kick of the queue tells the driver of what is pressed. */
	input->behind = true;
	input_evdev_light(input);
	return 0;
}

static void input_queue_stop(struct virtq *queue)
{
	if (queue->index == INPUT_EVENTS)
		container_of(queue->dev, struct input, dev)->room = 0;
}

static void input_reset(struct virtio_dev *dev)
{
	struct input *input = container_of(dev, struct input, dev);

	input_state_reset(&input->saved.told);
	input->saved.leds = 0;
}

/* The shape is the configuration's, so is the answer to the selection. */
static int input_load(struct virtio_dev *dev)
{
	const struct input *input = container_of(dev, struct input, dev);
	const struct input_saved *saved = &input->saved;

	if (saved->told.slot < 0 || saved->told.slot >= INPUT_SLOTS || saved->leds >> LED_CNT)
		return -EINVAL;
	input_config_write(dev, 0, 0);
	return 0;
}

static int input_init(struct virtio_dev *dev)
{
	struct input *input = container_of(dev, struct input, dev);
	const struct input_conf *conf = dev->conf;
	enum display_role role = 0;

	input->source.fd = -1;
	input_state_reset(&input->now);
	input_state_reset(&input->saved.told);
	if (conf->grab && !conf->evdev)
		return -ENOMSG;
	if (conf->evdev)
		return input_evdev_open(input, conf->evdev, conf->grab);
	while (role < DISPLAY_TOUCH && !conf->roles[role])
		role++;
	input_shape_make(&input->shape, role, dev->name);
	return input_display_connect(input, role);
}

static void input_free(struct virtio_dev *dev)
{
	util_closep(&container_of(dev, struct input, dev)->source.fd);
}

#define INPUT_OPT_ROLE(name, role, what) \
	{ .key = (name), .type = OPT_BOOL, .one_of = true, .required = true, \
	  .offset = offsetof(struct input_conf, roles) + (role) * sizeof(bool), .help = (what) }

static const struct opt input_opts[] = {
	INPUT_OPT_ROLE("keyboard", DISPLAY_KEYBOARD, "the display's keyboard"),
	INPUT_OPT_ROLE("mouse", DISPLAY_MOUSE, "the display's pointer, by its movements"),
	INPUT_OPT_ROLE("tablet", DISPLAY_TABLET, "the display's pointer, by its places"),
	INPUT_OPT_ROLE("touch", DISPLAY_TOUCH, "the display's pointer, as a finger"),
	{ .key = "evdev", .type = OPT_STRING, .one_of = true, .required = true,
	  .offset = offsetof(struct input_conf, evdev), .arg = "PATH",
	  .help = "an input device of the host's, such as /dev/input/event0" },
	{ .key = "grab", .type = OPT_BOOL, .offset = offsetof(struct input_conf, grab),
	  .help = "evdev: nobody else on the host gets its events" },
	VIRTIO_OPTS,
	{ 0 },
};

static const struct hint input_hints[] = {
	{ EINVAL, "not an input device: give one such as /dev/input/event0" },
	{ ENOMSG, "grab is of evdev=: give both, or leave it out" },
	{ EALREADY, "the display has one of each kind: leave out this one" },
	{ EBUSY, "another program has grabbed it: end that first" },
	{ EACCES, "not readable: run as root, or as a user of the group that owns it" },
	{ 0 },
};

static const struct sandbox input_sandbox = SANDBOX(INPUT_EVDEV_CALLS);

const struct virtio_class input_class = {
	.name = "input",
	.option = "input",
	.summary = "a keyboard, a pointer, or an input device of the host's",
	.sample = "keyboard",
	.id = VIRTIO_ID_INPUT,
	.pci_class = 0x098000,
	.queue_sizes = (const uint16_t[]){ INPUT_QUEUE_SIZE, INPUT_QUEUE_SIZE },
	.queue_count = INPUT_QUEUES,
	.config_size = sizeof(struct virtio_input_config),
	.dev_size = sizeof(struct input),
	.state_offset = offsetof(struct input, saved),
	.state_size = sizeof(struct input_saved),
	.state_version = 1,
	.opts = input_opts,
	.conf_size = sizeof(struct input_conf),
	.hints = input_hints,
	.counters = input_counters,
	.sandbox = &input_sandbox,
	.init = input_init,
	.start = input_start,
	.kick = input_kick,
	.queue_stop = input_queue_stop,
	.config_write = input_config_write,
	.reset = input_reset,
	.load = input_load,
	.free = input_free,
};
