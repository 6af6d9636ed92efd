// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-input (section 5.8): a keyboard, a mouse, a tablet or a touch screen,
 * or what an input device of the host's is.
 *
 * Events go to the guest in the order in which they happen, one in a buffer. Where
 * the driver has given none they wait, so many of them; then the source is not read
 * until there is room again: it keeps what it can, and nobody else waits for that. Without
 * a driver nothing is kept, as nobody is there who would read it.
 *
 * What lasts is never lost. There is the state of the device as it is now, and that which
 * the guest has been told. Where what waits does not lead from one to the other (the
 * driver has started, a save was loaded, the source lost events) the guest is sent the
 * difference next, before the source is read again.
 */
#include <assert.h>
#include <endian.h>
#include <sys/ioctl.h>
#include "devices/input.h"

#define INPUT_QUEUE_SIZE 64

enum input_queue { INPUT_EVENTS, INPUT_STATUS, INPUT_QUEUES };
enum input_counter { INPUT_COUNT_EVENTS, INPUT_COUNT_WAITS, INPUT_COUNT_LEDS };

static const char *const input_counters[] = {
	[INPUT_COUNT_EVENTS] = "events",
	[INPUT_COUNT_WAITS] = "waits",
	[INPUT_COUNT_LEDS] = "leds",
	NULL,
};

static_assert(sizeof(struct input_saved) == sizeof(int32_t) * (INPUT_STATE_VALUES + 2), "no holes");

/* ---- events ---- */

static void input_put(struct input *input, const struct input_change *change)
{
	assert(input->count < INPUT_WAITING);
	input->waiting[(input->first + input->count++) % INPUT_WAITING] = *change;
}

/* Whether there is something to tell: what waits, or where nothing does all that is different. */
static bool input_find_news(struct input *input)
{
	if (input->count || !input->behind)
		return input->count;
	input->first = 0;
	input->count = input_state_diff(&input->saved.told, &input->now, input->waiting, INPUT_WAITING - 1);
	input->behind = input->count;
	if (input->behind)
		input_put(input, &(struct input_change){ EV_SYN, SYN_REPORT, 0 });
	return input->behind;
}

static void input_send(struct input *input, struct chain *chain)
{
	const struct input_change *change = &input->waiting[input->first];
	const struct virtio_input_event event = {
		.type = htole16(change->type),
		.code = htole16(change->code),
		.value = htole32((uint32_t)change->value),
	};

	chain_push(chain, &event, sizeof(event));
	input_state_apply(&input->saved.told, change);
	input->first = (input->first + 1) % INPUT_WAITING;
	input->count--;
	virtq_count(chain->queue, INPUT_COUNT_EVENTS, 1);
	virtq_done(chain->queue, chain);
}

bool input_has_room(const struct input *input)
{
	return !input->driven || (!input->behind && input->count + INPUT_READ_MAX <= INPUT_WAITING);
}

/* An event that is merely not waited for would still tell of a source that ended, for ever. */
static void input_listen(struct input *input)
{
	struct loop *loop = &input->dev.workers[0].loop;
	const bool listen = input->source.fn && input_has_room(input);

	if (listen == input->listening)
		return;
	if (listen) {
		input->listening = loop_add(loop, &input->source, EPOLLIN) == 0;
		return;
	}
	loop_del(loop, &input->source);
	input->listening = false;
	virtq_count(&input->dev.queues[INPUT_EVENTS], INPUT_COUNT_WAITS, 1);
}

void input_deliver(struct input *input)
{
	struct virtq *queue = &input->dev.queues[INPUT_EVENTS];
	struct chain *chain;

	while (input->driven && input_find_news(input) && (chain = virtq_pop(queue))) {
		if (chain->in.left < sizeof(struct virtio_input_event))
			virtio_fail(&input->dev, "a buffer without room for an event");
		else
			input_send(input, chain);
	}
	input_listen(input);
}

void input_inject(struct input *input, uint16_t type, uint16_t code, int32_t value)
{
	const bool ends = type == EV_SYN && code == SYN_REPORT;
	struct input_change change = { type, code, value };

	/* Lights are the guest's to change, and it repeats keys itself. */
	if (!input_shape_has(&input->shape, type, code) || type == EV_LED || type == EV_REP ||
	    (type == EV_KEY && value == 2) || (type == EV_REL && !value))
		return;
	if (type == EV_KEY || type == EV_SW)
		change.value = !!value;
	/* Of a group that was ignored its end is left. */
	if (!input_state_apply(&input->now, &change) || !input->driven || (ends && !input->begun))
		return;
	input->begun = !ends;
	input_put(input, &change);
}

void input_source_gone(struct input *input, const char *what)
{
	loop_del(&input->dev.workers[0].loop, &input->source);
	input->source.fn = NULL;
	input->listening = false;
	input_state_release(&input->now);
	input->behind = true;
	if (log_allowed(&input->dev.complaints))
		log_warn("%s: %s is gone, nothing comes from it any more", input->dev.name, what);
}

int input_watch(struct input *input, void (*fn)(struct event *event, uint32_t revents))
{
	input->source.fn = fn;
	input->listening = true;
	return worker_watch(&input->dev.workers[0], &input->source, EPOLLIN);
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
}

static void input_kick(struct virtio_dev *dev, struct virtq *queue)
{
	struct input *input = container_of(dev, struct input, dev);
	const uint32_t leds = input->saved.leds;
	unsigned int budget = INPUT_QUEUE_SIZE;
	struct virtio_input_event event;
	struct chain *chain;

	if (queue->index == INPUT_EVENTS) {
		input_deliver(input);
		return;
	}
	while (budget && (chain = virtq_pop(queue))) {
		if (chain_pull(chain, &event, sizeof(event)) < sizeof(event)) {
			virtio_fail(dev, "a status that is shorter than an event");
			return;
		}
		input_light(input, &event);
		virtq_done(queue, chain);
		budget--;
	}
	/* All who read the host's device hear of a write: one for what is lit in the end. */
	if (input->saved.leds != leds)
		input_evdev_light(input);
	if (!budget)
		util_signal(queue->kick.fd);
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
	input->driven = input->behind = true;
	input_evdev_light(input);
	return 0;
}

static void input_reset(struct virtio_dev *dev)
{
	struct input *input = container_of(dev, struct input, dev);

	input->driven = input->begun = false;
	input->count = 0;
	input_state_reset(&input->saved.told);
	input->saved.leds = 0;
	input_listen(input);
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
	.config_write = input_config_write,
	.reset = input_reset,
	.load = input_load,
	.free = input_free,
};
