// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "core/state.h"
#include "devices/display/display.h"
#include "tests/lib/child.h"
#include "tests/unit/input.h"

/* A guest, and a display of which the test is the far end. */
struct rig {
	struct vq_guest guest;
	struct display display;
	enum display_role role;
};

static void plug(struct rig *rig)
{
	display_init(&rig->display);
	rig->guest.host.display = &rig->display;
	assert_int_equal(vq_plug(&rig->guest, rig->guest.conf), 0);
}

/* Made without a display at first, as guests of tests are. */
static void make(struct rig *rig, enum display_role role, const char *options)
{
	rig->role = role;
	assert_int_equal(vq_guest_make(&rig->guest, &input_class, options), 0);
	virtio_dev_free(rig->guest.dev);
	plug(rig);
}

static void set_up(struct rig *rig, enum display_role role, const char *options)
{
	make(rig, role, options);
	vq_start(&rig->guest, 0);
	give(&rig->guest, VQ_SIZE);
}

static void tear_down(struct rig *rig)
{
	assert_false(vq_failed(&rig->guest));
	vq_guest_free(&rig->guest);
	display_close(&rig->display);
}

static void say(struct rig *rig, const struct display_message *message)
{
	assert_int_equal(display_send(rig->display.ends[rig->role], message), 0);
	vq_turn(&rig->guest);
}

static void press(struct rig *rig, uint16_t code, uint16_t value)
{
	say(rig, &(struct display_message){ .type = DISPLAY_KEY, .key = { code, value } });
}

#define POINT(...) \
	(&(struct display_message){ .type = DISPLAY_POINTER, .pointer = { __VA_ARGS__ } })

static bool has(const struct virtio_input_config *config, unsigned int bit)
{
	return bit / 8 < config->size && config->u.bitmap[bit / 8] >> bit % 8 & 1;
}

static void test_config(void **state)
{
	struct rig rig;
	struct virtio_input_config config;

	(void)state;
	set_up(&rig, DISPLAY_KEYBOARD, "keyboard");
	assert_int_equal(choose(&rig.guest, VIRTIO_INPUT_CFG_ID_NAME, 0, &config), 16);
	assert_memory_equal(config.u.string, "microvm keyboard", 17);
	assert_int_equal(choose(&rig.guest, VIRTIO_INPUT_CFG_ID_SERIAL, 0, &config), 6);
	assert_memory_equal(config.u.string, "input0", 7);
	assert_int_equal(choose(&rig.guest, VIRTIO_INPUT_CFG_ID_DEVIDS, 0, &config), 8);
	assert_int_equal(config.u.ids.bustype, BUS_VIRTUAL);
	assert_true(choose(&rig.guest, VIRTIO_INPUT_CFG_EV_BITS, EV_KEY, &config) <= KEY_CNT / 8);
	assert_true(has(&config, KEY_A) && has(&config, KEY_MICMUTE) && !has(&config, BTN_LEFT));
	assert_int_equal(choose(&rig.guest, VIRTIO_INPUT_CFG_EV_BITS, EV_LED, &config), 1);
	assert_int_equal(config.u.bitmap[0], 7);
	assert_int_equal(choose(&rig.guest, VIRTIO_INPUT_CFG_EV_BITS, EV_REP, &config), 1);
	assert_int_equal(choose(&rig.guest, VIRTIO_INPUT_CFG_EV_BITS, EV_REL, &config), 0);
	assert_int_equal(choose(&rig.guest, VIRTIO_INPUT_CFG_PROP_BITS, 0, &config), 0);
	assert_int_equal(rig.guest.config_interrupts, 0);
	tear_down(&rig);

	set_up(&rig, DISPLAY_TOUCH, "touch");
	assert_int_equal(choose(&rig.guest, VIRTIO_INPUT_CFG_PROP_BITS, 0, &config), 1);
	assert_true(has(&config, INPUT_PROP_DIRECT));
	assert_int_equal(choose(&rig.guest, VIRTIO_INPUT_CFG_ABS_INFO, ABS_MT_SLOT, &config), 20);
	assert_int_equal(config.u.abs.max, 9);
	assert_int_equal(choose(&rig.guest, VIRTIO_INPUT_CFG_ABS_INFO, ABS_X, &config), 20);
	assert_int_equal(config.u.abs.min, 0);
	assert_int_equal(config.u.abs.max, 32767);
	assert_int_equal(choose(&rig.guest, VIRTIO_INPUT_CFG_ABS_INFO, ABS_Z, &config), 0);
	tear_down(&rig);
}

/* Whatever is selected, and written over the answer, there is one that fits or none. */
static void test_hostile_config(void **state)
{
	struct rig rig;
	struct virtio_input_config config, all;

	(void)state;
	set_up(&rig, DISPLAY_TABLET, "tablet");
	for (unsigned int i = 0; i <= UINT16_MAX; i++)
		assert_true(choose(&rig.guest, (uint8_t)(i >> 8), (uint8_t)i, &config) <= 128);
	memset(&all, 0xff, sizeof(all));
	virtio_config_write(rig.guest.dev, 0, &all, sizeof(all));
	virtio_config_read(rig.guest.dev, 0, &config, sizeof(config));
	assert_int_equal(config.select, 0xff);
	assert_int_equal(config.size, 0);
	assert_int_equal(config.u.bitmap[0], 0);
	all.select = VIRTIO_INPUT_CFG_ABS_INFO;
	all.subsel = ABS_Y;
	virtio_config_write(rig.guest.dev, 0, &all, sizeof(all));
	virtio_config_read(rig.guest.dev, 0, &config, sizeof(config));
	assert_int_equal(config.size, 20);
	assert_int_equal(config.reserved[0], 0);
	tear_down(&rig);
}

static void test_keyboard(void **state)
{
	struct rig rig;

	(void)state;
	set_up(&rig, DISPLAY_KEYBOARD, "keyboard");
	press(&rig, KEY_A, 1);
	assert_string_equal(events(&rig.guest, true), "key 30 1, syn 0 0");
	press(&rig, KEY_LEFTSHIFT, 7);
	assert_string_equal(events(&rig.guest, true), "key 42 1, syn 0 0");
	/* Once more, keys that it does not have, and what is meant for others. */
	press(&rig, KEY_A, 1);
	press(&rig, BTN_LEFT, 1);
	press(&rig, UINT16_MAX, 1);
	say(&rig, POINT(.x = 5, .dx = 3, .wheel = 1, .buttons = UINT16_MAX));
	say(&rig, &(struct display_message){ .type = UINT16_MAX });
	assert_string_equal(events(&rig.guest, true), "");
	press(&rig, KEY_A, 0);
	assert_string_equal(events(&rig.guest, true), "key 30 0, syn 0 0");
	say(&rig, &(struct display_message){ .type = DISPLAY_RELEASE });
	assert_string_equal(events(&rig.guest, true), "key 42 0, syn 0 0");
	assert_int_equal(vq_counter(&rig.guest, "events"), 8);
	assert_int_equal(vq_counter(&rig.guest, "waits"), 0);
	tear_down(&rig);
}

static void test_pointers(void **state)
{
	struct rig rig;

	(void)state;
	set_up(&rig, DISPLAY_MOUSE, "mouse");
	say(&rig, POINT(.x = 9, .y = 9, .dx = -3, .dy = 4));
	assert_string_equal(events(&rig.guest, true), "rel 0 -3, rel 1 4, syn 0 0");
	say(&rig, POINT(.wheel = -1, .buttons = 5));
	assert_string_equal(events(&rig.guest, true), "rel 8 -1, key 272 1, key 273 1, syn 0 0");
	say(&rig, POINT(.buttons = 2));
	assert_string_equal(events(&rig.guest, true), "key 272 0, key 274 1, key 273 0, syn 0 0");
	tear_down(&rig);

	set_up(&rig, DISPLAY_TABLET, "tablet");
	say(&rig, POINT(.x = 32767, .y = 100, .dx = 5, .buttons = 1));
	assert_string_equal(events(&rig.guest, true), "abs 0 32767, abs 1 100, key 272 1, syn 0 0");
	say(&rig, POINT(.x = UINT16_MAX, .y = 101, .wheel = 2));
	assert_string_equal(events(&rig.guest, true), "abs 1 101, rel 8 2, key 272 0, syn 0 0");
	tear_down(&rig);

	set_up(&rig, DISPLAY_TOUCH, "touch");
	say(&rig, POINT(.x = 7, .y = 8));
	assert_string_equal(events(&rig.guest, true), "");
	say(&rig, POINT(.x = 7, .y = 8, .buttons = 1));
	assert_string_equal(events(&rig.guest, true),
			    "abs 57 1, key 330 1, abs 53 7, abs 54 8, abs 0 7, abs 1 8, syn 0 0");
	say(&rig, POINT(.x = 9, .y = 8, .buttons = 1));
	assert_string_equal(events(&rig.guest, true), "abs 53 9, abs 0 9, syn 0 0");
	say(&rig, POINT(.x = 10, .y = 8));
	assert_string_equal(events(&rig.guest, true), "abs 57 -1, key 330 0, syn 0 0");
	say(&rig, POINT(.x = 10, .y = 8, .buttons = 1));
	assert_string_equal(events(&rig.guest, true),
			    "abs 57 2, key 330 1, abs 53 10, abs 0 10, syn 0 0");
	say(&rig, &(struct display_message){ .type = DISPLAY_RELEASE });
	assert_string_equal(events(&rig.guest, true), "key 330 0, abs 57 -1, syn 0 0");
	tear_down(&rig);
}

/* As many keys as the socket takes, pressed and released in turn, after so many before. */
static unsigned int type_fast(struct rig *rig, unsigned int before)
{
	unsigned int n = before;

	while (display_send(rig->display.ends[rig->role], &(struct display_message){
		.type = DISPLAY_KEY, .key = { (uint16_t)(KEY_1 + n / 2 % 10), n % 2 == 0 } }) == 0)
		n++;
	return n;
}

/* Of a driver with a single buffer; what is typed meanwhile is more than the device and its socket hold. */
static void test_loses_nothing(void **state)
{
	enum { KEYS = 4000 };
	struct rig rig;
	unsigned int typed = 0;
	char want[32];

	(void)state;
	make(&rig, DISPLAY_KEYBOARD, "keyboard");
	vq_start(&rig.guest, 0);
	for (unsigned int n = 0; n < KEYS; n++) {
		typed = type_fast(&rig, typed);
		assert_true(typed > n);
		give(&rig.guest, 1);
		snprintf(want, sizeof(want), "key %u %d", KEY_1 + n / 2 % 10, n % 2 == 0);
		assert_string_equal(events(&rig.guest, true), want);
		assert_string_equal(events(&rig.guest, false), "syn 0 0");
	}
	assert_true(typed > KEYS + 512);
	assert_true(vq_counter(&rig.guest, "waits") > 0);
	tear_down(&rig);
}

/* What happens in between is in order as well, and the release of all comes after what waits. */
static void test_too_few_buffers(void **state)
{
	struct rig rig;

	(void)state;
	make(&rig, DISPLAY_MOUSE, "mouse");
	vq_start(&rig.guest, 0);
	give(&rig.guest, 3);
	say(&rig, POINT(.dx = 1, .dy = 1, .buttons = 1));
	assert_string_equal(events(&rig.guest, false), "rel 0 1, rel 1 1, key 272 1");
	say(&rig, POINT(.dx = 1, .buttons = 5));
	say(&rig, &(struct display_message){ .type = DISPLAY_RELEASE });
	say(&rig, POINT(.dx = 2, .buttons = 2));
	assert_string_equal(events(&rig.guest, false), "");
	give(&rig.guest, 6);
	assert_string_equal(events(&rig.guest, false),
			    "syn 0 0, rel 0 1, key 273 1, syn 0 0, key 272 0, key 273 0");
	give(&rig.guest, 6);
	assert_string_equal(events(&rig.guest, false), "syn 0 0, rel 0 2, key 274 1, syn 0 0");
	tear_down(&rig);
}

/* A driver that gives no buffer: its source is left alone, and costs nothing, even one that ended. */
static void test_no_buffers(void **state)
{
	struct rig rig;
	unsigned int typed;

	(void)state;
	make(&rig, DISPLAY_KEYBOARD, "keyboard");
	vq_start(&rig.guest, 0);
	press(&rig, KEY_A, 1);
	for (unsigned int more = typed = 0; (more = type_fast(&rig, typed)) > typed; typed = more)
		vq_turn(&rig.guest);
	assert_int_equal(vq_counter(&rig.guest, "waits"), 1);
	assert_int_equal(loop_turn(&rig.guest.dev->workers[0].loop, 20), 0);
	/* To the next driver that is the past, but for what is still pressed. */
	vq_reset(&rig.guest);
	vq_turn(&rig.guest);
	assert_true(type_fast(&rig, 0) > 0);
	vq_turn(&rig.guest);
	press(&rig, KEY_1, 0);
	vq_start(&rig.guest, 0);
	give(&rig.guest, VQ_SIZE);
	assert_int_equal(strncmp(events(&rig.guest, false), "key 30 1, ", 10), 0);
	for (typed = 0; type_fast(&rig, typed) > typed; typed++)
		vq_turn(&rig.guest);
	display_close(&rig.display);
	assert_int_equal(loop_turn(&rig.guest.dev->workers[0].loop, 20), 0);
	tear_down(&rig);
}

/* A group of four goes through a ring of two by and by. */
static void test_tiny_ring(void **state)
{
	struct rig rig;

	(void)state;
	make(&rig, DISPLAY_TABLET, "tablet");
	vq_set_status(&rig.guest, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	vq_set_features(&rig.guest, 1ULL << VIRTIO_F_VERSION_1);
	vq_set_status(&rig.guest, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
					  VIRTIO_CONFIG_S_FEATURES_OK);
	vq_set_up_queue_of(&rig.guest, EVENTS, 2);
	vq_set_up_queue_of(&rig.guest, STATUS, 2);
	vq_set_status(&rig.guest, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
					  VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
	give(&rig.guest, 2);
	say(&rig, POINT(.x = 3, .y = 4, .buttons = 1));
	assert_string_equal(events(&rig.guest, true), "abs 0 3, abs 1 4");
	assert_string_equal(events(&rig.guest, true), "key 272 1, syn 0 0");
	assert_string_equal(events(&rig.guest, true), "");
	tear_down(&rig);
}

/* The display ends with keys down. */
static void test_display_gone(void **state)
{
	struct rig rig;

	(void)state;
	set_up(&rig, DISPLAY_KEYBOARD, "keyboard");
	press(&rig, KEY_A, 1);
	assert_string_equal(events(&rig.guest, true), "key 30 1, syn 0 0");
	/* What is no message is nothing. */
	assert_int_equal(write(rig.display.ends[DISPLAY_KEYBOARD], "x", 1), 1);
	assert_string_equal(events(&rig.guest, true), "");
	display_close(&rig.display);
	assert_string_equal(events(&rig.guest, true), "key 30 0, syn 0 0");
	assert_int_equal(loop_turn(&rig.guest.dev->workers[0].loop, 20), 0);
	tear_down(&rig);
}

static void test_lights(void **state)
{
	struct rig rig;

	(void)state;
	set_up(&rig, DISPLAY_KEYBOARD, "keyboard");
	tell(&rig.guest, EV_LED, LED_CAPSL, 1, EVENT_SIZE);
	tell(&rig.guest, EV_LED, LED_CAPSL, UINT32_MAX, EVENT_SIZE);
	tell(&rig.guest, EV_LED, LED_MAIL, 1, EVENT_SIZE);
	tell(&rig.guest, EV_LED, UINT16_MAX, 1, EVENT_SIZE);
	tell(&rig.guest, EV_SND, SND_BELL, 1, 4096);
	tell(&rig.guest, UINT16_MAX, UINT16_MAX, UINT32_MAX, EVENT_SIZE);
	assert_int_equal(vq_counter(&rig.guest, "leds"), 1);
	for (uint16_t head, i = 0; i < 6; i++)
		assert_true(vq_take(&rig.guest, STATUS, &head, NULL));
	tear_down(&rig);
}

/* Neither is short of anything afterwards. */
static void test_short_buffers(void **state)
{
	struct rig rig;
	uint16_t head;

	(void)state;
	set_up(&rig, DISPLAY_KEYBOARD, "keyboard");
	tell(&rig.guest, EV_LED, LED_CAPSL, 1, EVENT_SIZE - 1);
	assert_true(vq_failed(&rig.guest));
	vq_reset(&rig.guest);
	vq_start(&rig.guest, 0);
	vq_post(&rig.guest, EVENTS, &(struct vq_buffer){ DATA, EVENT_SIZE, true }, 1);
	vq_post(&rig.guest, EVENTS, &(struct vq_buffer){ DATA, EVENT_SIZE - 1, true }, 1);
	vq_notify(&rig.guest, EVENTS);
	press(&rig, KEY_A, 1);
	assert_true(vq_failed(&rig.guest));
	assert_true(vq_take(&rig.guest, EVENTS, &head, NULL));
	assert_false(vq_take(&rig.guest, EVENTS, &head, NULL));
	vq_reset(&rig.guest);
	vq_start(&rig.guest, 0);
	give(&rig.guest, 4);
	assert_string_equal(events(&rig.guest, true), "key 30 1, syn 0 0");
	tear_down(&rig);
}

/* A driver that starts knows of nothing. */
static void test_reset(void **state)
{
	struct rig rig;

	(void)state;
	set_up(&rig, DISPLAY_TABLET, "tablet");
	say(&rig, POINT(.x = 3, .buttons = 1));
	assert_string_equal(events(&rig.guest, true), "abs 0 3, key 272 1, syn 0 0");
	vq_reset(&rig.guest);
	say(&rig, POINT(.x = 4, .y = 4, .buttons = 1));
	vq_start(&rig.guest, 0);
	give(&rig.guest, VQ_SIZE);
	assert_string_equal(events(&rig.guest, true), "key 272 1, abs 0 4, abs 1 4, syn 0 0");
	tear_down(&rig);
}

/* Another device in place of the old one, paused, from its save. */
static int replace(struct rig *rig, const struct state *saved)
{
	struct state_reader reader = { saved->data, saved->len };

	virtio_dev_free(rig->guest.dev);
	display_close(&rig->display);
	plug(rig);
	return virtio_dev_load(rig->guest.dev, &reader);
}

/* What was pressed is not where the save is loaded: the guest hears of it. */
static void test_save(void **state)
{
	struct rig rig;
	struct state saved = { 0 };
	struct virtio_input_config config;

	(void)state;
	set_up(&rig, DISPLAY_TOUCH, "touch");
	say(&rig, POINT(.x = 3, .y = 5, .buttons = 1));
	assert_string_equal(events(&rig.guest, true),
			    "abs 57 1, key 330 1, abs 53 3, abs 54 5, abs 0 3, abs 1 5, syn 0 0");
	choose(&rig.guest, VIRTIO_INPUT_CFG_ID_NAME, 0, &config);
	virtio_dev_pause(rig.guest.dev);
	assert_int_equal(virtio_dev_save(rig.guest.dev, &saved), 0);
	assert_int_equal(replace(&rig, &saved), 0);
	virtio_dev_resume(rig.guest.dev);
	assert_string_equal(events(&rig.guest, true), "key 330 0, abs 0 0, abs 1 0, abs 53 0, abs 54 0, "
			    "abs 57 -1, syn 0 0");
	virtio_config_read(rig.guest.dev, 0, &config, sizeof(config));
	assert_memory_equal(config.u.string, "microvm touch screen", 21);

	/* A slot that there is not, at the end of the section. */
	for (size_t i = 0; i < 2; i++) {
		virtio_dev_pause(rig.guest.dev);
		saved.data[saved.len - 8 + 4 * i] = 16 >> i;
		saved.data[saved.len - 1] = i ? 0xff : 0;
		assert_int_equal(replace(&rig, &saved), -EINVAL);
		saved.data[saved.len - 8] = 0;
	}
	state_free(&saved);
	tear_down(&rig);
}

static void test_options(void **state)
{
	struct vq_guest guest;
	struct rig rig;
	struct virtio_dev *dev = NULL;

	(void)state;
	assert_int_equal(vq_guest_make(&guest, &input_class, "mouse,grab"), -ENOMSG);
	vq_guest_free(&guest);
	assert_int_equal(vq_guest_make(&guest, &input_class, "evdev=/nonexistent"), -ENOENT);
	vq_guest_free(&guest);
	assert_int_equal(vq_guest_make(&guest, &input_class, "evdev=/dev/null"), -EINVAL);
	vq_guest_free(&guest);
	/* The display has one of each. */
	make(&rig, DISPLAY_MOUSE, "mouse");
	assert_int_equal(virtio_dev_new(&input_class, 1, rig.guest.conf, &rig.guest.host, &dev), -EALREADY);
	virtio_dev_free(dev);
	tear_down(&rig);
}

static int confined(void *arg)
{
	struct rig rig;
	uint16_t head;

	(void)arg;
	child_needs_filters();
	make(&rig, DISPLAY_KEYBOARD, "keyboard");
	CHILD_CHECK(vq_run(&rig.guest, true) == 0);
	vq_start(&rig.guest, 0);
	for (int i = 0; i < 4; i++)
		vq_post(&rig.guest, EVENTS, &(struct vq_buffer){ DATA, EVENT_SIZE, true }, 1);
	vq_notify(&rig.guest, EVENTS);
	CHILD_CHECK(display_send(rig.display.ends[DISPLAY_KEYBOARD], &(struct display_message){
		.type = DISPLAY_KEY, .key = { KEY_A, 1 } }) == 0);
	CHILD_CHECK(vq_await(&rig.guest, EVENTS, &head, NULL));
	CHILD_CHECK(vq_await(&rig.guest, EVENTS, &head, NULL));
	display_close(&rig.display);
	CHILD_CHECK(vq_await(&rig.guest, EVENTS, &head, NULL));
	vq_post(&rig.guest, STATUS, &(struct vq_buffer){ DATA, EVENT_SIZE, false }, 1);
	vq_notify(&rig.guest, STATUS);
	CHILD_CHECK(vq_await(&rig.guest, STATUS, &head, NULL));
	virtio_set_status(rig.guest.dev, 0);
	vq_guest_free(&rig.guest);
	return 0;
}

static void test_confined(void **state)
{
	(void)state;
	child_succeeds(geteuid(), confined, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_hostile_config),
		cmocka_unit_test(test_keyboard),
		cmocka_unit_test(test_pointers),
		cmocka_unit_test(test_loses_nothing),
		cmocka_unit_test(test_too_few_buffers),
		cmocka_unit_test(test_no_buffers),
		cmocka_unit_test(test_tiny_ring),
		cmocka_unit_test(test_display_gone),
		cmocka_unit_test(test_lights),
		cmocka_unit_test(test_short_buffers),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_save),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_confined),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
