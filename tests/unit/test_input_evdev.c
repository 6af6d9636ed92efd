// SPDX-License-Identifier: Apache-2.0
/* An input device of the host's, whose driver is the test: events come by a FIFO. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include "tests/unit/input.h"

static struct {
	int fd;       /* that the device has open */
	int driver;   /* where events are written to */
	char lit[64]; /* the lights that were written */
	bool grabbed;
	bool unplugged;
	bool pressed; /* KEY_A */
	int32_t x, slots[2];
} host;

static void set_bit(void *bits, unsigned int bit)
{
	((uint8_t *)bits)[bit / 8] |= (uint8_t)(1 << bit % 8);
}

static int answer_bits(unsigned int type, void *bits)
{
	if (type == 0)
		set_bit(bits, EV_REP);
	if (type == EV_KEY) {
		set_bit(bits, KEY_A);
		set_bit(bits, BTN_TOUCH);
	}
	if (type == EV_ABS) {
		set_bit(bits, ABS_X);
		set_bit(bits, ABS_MT_SLOT);
		set_bit(bits, ABS_MT_TRACKING_ID);
	}
	if (type == EV_MSC)
		set_bit(bits, MSC_SCAN);
	if (type == EV_LED)
		set_bit(bits, LED_CAPSL);
	return 0;
}

static int answer_axis(unsigned int code, struct input_absinfo *axis)
{
	*axis = (struct input_absinfo){
		.value = code == ABS_X ? host.x : 0,
		.minimum = code == ABS_X ? -5 : 0,
		.maximum = code == ABS_MT_SLOT ? 31 : 1000,
		.resolution = 3,
	};
	return 0;
}

int __real_ioctl(int fd, unsigned long request, void *argument);
int __wrap_ioctl(int fd, unsigned long request, void *argument);

int __wrap_ioctl(int fd, unsigned long request, void *argument)
{
	const unsigned int number = _IOC_NR(request);
	int32_t *contacts = argument;

	if (_IOC_TYPE(request) != 'E')
		return __real_ioctl(fd, request, argument);
	if (request == EVIOCGRAB) {
		errno = EBUSY;
		return host.grabbed ? -1 : 0;
	}
	if (request == EVIOCGID) {
		host.fd = fd;
		*(struct input_id *)argument = (struct input_id){ BUS_USB, 0x1234, 0x5678, 9 };
		return 0;
	}
	if (number == _IOC_NR(EVIOCGNAME(0)))
		return snprintf(argument, _IOC_SIZE(request), "Some Device");
	if (number >= _IOC_NR(EVIOCGBIT(0, 0)) && number < _IOC_NR(EVIOCGBIT(EV_CNT, 0)))
		return answer_bits(number - _IOC_NR(EVIOCGBIT(0, 0)), argument);
	if (number >= _IOC_NR(EVIOCGABS(0)) && number <= _IOC_NR(EVIOCGABS(ABS_MAX)))
		return answer_axis(number - _IOC_NR(EVIOCGABS(0)), argument);
	if (number == _IOC_NR(EVIOCGKEY(0)) && host.pressed)
		set_bit(argument, KEY_A);
	if (number == _IOC_NR(EVIOCGMTSLOTS(0)))
		for (int i = 0; i < 16; i++)
			contacts[1 + i] = i < 2 ? host.slots[i] : -1;
	return 0;
}

ssize_t __real_read(int fd, void *buffer, size_t len);
ssize_t __wrap_read(int fd, void *buffer, size_t len);

ssize_t __wrap_read(int fd, void *buffer, size_t len)
{
	if (fd != host.fd || !host.unplugged)
		return __real_read(fd, buffer, len);
	errno = ENODEV;
	return -1;
}

ssize_t __real_write(int fd, const void *buffer, size_t len);
ssize_t __wrap_write(int fd, const void *buffer, size_t len);

ssize_t __wrap_write(int fd, const void *buffer, size_t len)
{
	const struct input_event *event = buffer;
	size_t at = 0;

	if (fd != host.fd)
		return __real_write(fd, buffer, len);
	for (; (const char *)event < (const char *)buffer + len; event++)
		at += (size_t)snprintf(host.lit + at, sizeof(host.lit) - at, "%s%u %u %d", at ? ", " : "",
				       event->type, event->code, event->value);
	return (ssize_t)len;
}

static int plug(struct vq_guest *guest, const char *more)
{
	char path[64], options[80];
	int r;

	snprintf(path, sizeof(path), "/tmp/evdev.%d", getpid());
	snprintf(options, sizeof(options), "evdev=%s%s", path, more);
	assert_int_equal(mkfifo(path, 0600), 0);
	host.driver = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	assert_true(host.driver >= 0);
	r = vq_guest_make(guest, &input_class, options);
	unlink(path);
	return r;
}

static void set_up(struct vq_guest *guest)
{
	memset(&host, 0, sizeof(host));
	host.slots[0] = host.slots[1] = -1;
	assert_int_equal(plug(guest, ",grab"), 0);
	vq_start(guest, 0);
	give(guest, VQ_SIZE);
}

static void tear_down(struct vq_guest *guest)
{
	assert_false(vq_failed(guest));
	vq_guest_free(guest);
	close(host.driver);
	host.fd = -1;
}

static void happen(uint16_t type, uint16_t code, int32_t value)
{
	const struct input_event event = { .type = type, .code = code, .value = value };

	assert_int_equal(write(host.driver, &event, sizeof(event)), sizeof(event));
}

static void test_shape(void **state)
{
	struct vq_guest guest;
	struct virtio_input_config config;

	(void)state;
	set_up(&guest);
	assert_int_equal(choose(&guest, VIRTIO_INPUT_CFG_ID_NAME, 0, &config), 11);
	assert_memory_equal(config.u.string, "Some Device", 12);
	choose(&guest, VIRTIO_INPUT_CFG_ID_DEVIDS, 0, &config);
	assert_int_equal(config.u.ids.product, 0x5678);
	assert_int_equal(choose(&guest, VIRTIO_INPUT_CFG_EV_BITS, EV_KEY, &config), BTN_TOUCH / 8 + 1);
	assert_int_equal(choose(&guest, VIRTIO_INPUT_CFG_EV_BITS, EV_REP, &config), 1);
	choose(&guest, VIRTIO_INPUT_CFG_ABS_INFO, ABS_X, &config);
	assert_int_equal((int32_t)config.u.abs.min, -5);
	assert_int_equal(config.u.abs.max, 1000);
	assert_int_equal(config.u.abs.res, 3);
	/* Of more contacts than there is state for the guest hears nothing. */
	choose(&guest, VIRTIO_INPUT_CFG_ABS_INFO, ABS_MT_SLOT, &config);
	assert_int_equal(config.u.abs.max, 15);
	tear_down(&guest);
}

static void test_events(void **state)
{
	struct vq_guest guest;

	(void)state;
	set_up(&guest);
	happen(EV_MSC, MSC_SCAN, 458756);
	happen(EV_KEY, KEY_A, 1);
	assert_string_equal(events(&guest, true), "msc 4 458756, key 30 1");
	happen(EV_SYN, SYN_REPORT, 0);
	assert_string_equal(events(&guest, true), "syn 0 0");
	/* The guest repeats keys itself, and lights are its own; what was not offered does not come. */
	happen(EV_KEY, KEY_A, 2);
	happen(EV_SYN, SYN_REPORT, 1);
	happen(EV_LED, LED_CAPSL, 1);
	happen(EV_KEY, KEY_B, 1);
	happen(EV_FF, 1, 1);
	happen(UINT16_MAX, UINT16_MAX, -1);
	happen(EV_SYN, SYN_REPORT, 0);
	assert_string_equal(events(&guest, true), "");
	tear_down(&guest);
}

/* The host's kernel keeps what the device has no room for. */
static void test_waits(void **state)
{
	enum { COUNT = 2000 };
	struct vq_guest guest;
	char want[64];

	(void)state;
	set_up(&guest);
	for (int i = 0; i < COUNT; i++)
		happen(EV_MSC, MSC_SCAN, i);
	happen(EV_KEY, KEY_A, 1);
	happen(EV_SYN, SYN_REPORT, 0);
	vq_turn(&guest);
	assert_int_equal(vq_counter(&guest, "waits"), 1);
	assert_int_equal(vq_counter(&guest, "events"), VQ_SIZE);
	for (int i = 0; i < COUNT; i += VQ_SIZE) {
		snprintf(want, sizeof(want), "msc 4 %d, msc 4 %d, ", i, i + 1);
		assert_int_equal(strncmp(events(&guest, true), want, strlen(want)), 0);
	}
	assert_string_equal(events(&guest, true), "key 30 1, syn 0 0");
	tear_down(&guest);
}

static void test_contacts(void **state)
{
	struct vq_guest guest;

	(void)state;
	set_up(&guest);
	happen(EV_ABS, ABS_MT_TRACKING_ID, 100);
	happen(EV_ABS, ABS_MT_SLOT, 3);
	happen(EV_ABS, ABS_MT_TRACKING_ID, 101);
	/* None of ours. */
	happen(EV_ABS, ABS_MT_SLOT, 16);
	happen(EV_ABS, ABS_MT_TRACKING_ID, 102);
	happen(EV_ABS, ABS_MT_SLOT, -1);
	happen(EV_ABS, ABS_MT_TRACKING_ID, 103);
	happen(EV_KEY, BTN_TOUCH, 1);
	happen(EV_SYN, SYN_REPORT, 0);
	assert_string_equal(events(&guest, false),
			    "abs 57 100, abs 47 3, abs 57 101, key 330 1, syn 0 0");
	/* A group of twelve for eleven buffers. */
	for (int i = 0; i < 5; i++) {
		happen(EV_ABS, ABS_MT_SLOT, i);
		happen(EV_ABS, ABS_MT_TRACKING_ID, 200 + i);
	}
	happen(EV_ABS, ABS_MT_SLOT, 1);
	happen(EV_SYN, SYN_REPORT, 0);
	assert_string_equal(events(&guest, false),
			    "abs 47 0, abs 57 200, abs 47 1, abs 57 201, abs 47 2, abs 57 202, "
			    "abs 47 3, abs 57 203, abs 47 4, abs 57 204, abs 47 1");
	give(&guest, VQ_SIZE);
	assert_string_equal(events(&guest, true), "syn 0 0");
	happen(EV_ABS, ABS_MT_TRACKING_ID, -1);
	happen(EV_SYN, SYN_REPORT, 0);
	assert_string_equal(events(&guest, true), "abs 57 -1, syn 0 0");
	tear_down(&guest);
}

/* The kernel lost events: the state counts, and not what it had by then; what was read before comes first. */
static void test_lost_events(void **state)
{
	struct vq_guest guest;

	(void)state;
	set_up(&guest);
	happen(EV_MSC, MSC_SCAN, 1);
	happen(EV_SYN, SYN_DROPPED, 0);
	happen(EV_ABS, ABS_X, 7);
	happen(EV_SYN, SYN_REPORT, 0);
	for (int i = 0; i < 100; i++) {
		happen(EV_KEY, BTN_TOUCH, i % 2);
		happen(EV_SYN, SYN_REPORT, 0);
	}
	host.pressed = true;
	host.x = 8;
	host.slots[1] = 44;
	assert_string_equal(events(&guest, true),
			    "msc 4 1, key 30 1, abs 0 8, abs 47 1, abs 57 44, abs 47 0, syn 0 0");
	happen(EV_KEY, KEY_A, 0);
	happen(EV_SYN, SYN_REPORT, 0);
	assert_string_equal(events(&guest, true), "key 30 0, syn 0 0");
	tear_down(&guest);
}

/* What is pressed when the driver starts. */
static void test_pressed_before(void **state)
{
	struct vq_guest guest;

	(void)state;
	memset(&host, 0, sizeof(host));
	host.slots[0] = host.slots[1] = -1;
	host.pressed = true;
	host.x = 3;
	assert_int_equal(plug(&guest, ""), 0);
	vq_start(&guest, 0);
	give(&guest, VQ_SIZE);
	assert_string_equal(events(&guest, true), "key 30 1, abs 0 3, syn 0 0");
	tear_down(&guest);
}

static void test_lights(void **state)
{
	const struct virtio_input_event off = { EV_LED, LED_CAPSL, 0 };
	struct vq_guest guest;

	(void)state;
	set_up(&guest);
	/* Its driver has started. */
	assert_string_equal(host.lit, "17 1 0, 0 0 0");
	tell(&guest, EV_LED, LED_CAPSL, 1, EVENT_SIZE);
	assert_string_equal(host.lit, "17 1 1, 0 0 0");
	/* None that it has, no change, and no light. */
	host.lit[0] = '\0';
	tell(&guest, EV_LED, LED_NUML, 1, EVENT_SIZE);
	tell(&guest, EV_LED, LED_CAPSL, 2, EVENT_SIZE);
	tell(&guest, EV_KEY, KEY_A, 1, EVENT_SIZE);
	tell(&guest, EV_LED, UINT16_MAX, 1, EVENT_SIZE);
	/* Off and on again, at once: all who read the host's device would hear of it. */
	memcpy(vq_ptr(&guest, DATA + KIB(5), EVENT_SIZE), &off, EVENT_SIZE);
	vq_post(&guest, STATUS, &(struct vq_buffer){ DATA + KIB(5), EVENT_SIZE, false }, 1);
	tell(&guest, EV_LED, LED_CAPSL, 1, EVENT_SIZE);
	assert_string_equal(host.lit, "");
	vq_reset(&guest);
	vq_start(&guest, 0);
	assert_string_equal(host.lit, "17 1 0, 0 0 0");
	tear_down(&guest);
}

/* It is unplugged with a key down. */
static void test_unplugged(void **state)
{
	struct vq_guest guest;

	(void)state;
	set_up(&guest);
	happen(EV_KEY, KEY_A, 1);
	happen(EV_SYN, SYN_REPORT, 0);
	assert_string_equal(events(&guest, true), "key 30 1, syn 0 0");
	host.unplugged = true;
	happen(EV_SYN, SYN_REPORT, 0);
	assert_string_equal(events(&guest, true), "key 30 0, syn 0 0");
	assert_int_equal(loop_turn(&guest.dev->workers[0].loop, 20), 0);
	tell(&guest, EV_LED, LED_CAPSL, 1, EVENT_SIZE);
	tear_down(&guest);
}

static void test_grabbed_by_another(void **state)
{
	struct vq_guest guest;

	(void)state;
	host.grabbed = true;
	assert_int_equal(plug(&guest, ",grab"), -EBUSY);
	vq_guest_free(&guest);
	close(host.driver);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shape),
		cmocka_unit_test(test_events),
		cmocka_unit_test(test_waits),
		cmocka_unit_test(test_contacts),
		cmocka_unit_test(test_lost_events),
		cmocka_unit_test(test_pressed_before),
		cmocka_unit_test(test_lights),
		cmocka_unit_test(test_unplugged),
		cmocka_unit_test(test_grabbed_by_another),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
