// SPDX-License-Identifier: Apache-2.0
/* virtio-gpu by hand: requests and their responses, and what is to be seen then. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <linux/virtio_gpu.h>
#include <sys/mman.h>
#include "core/log.h"
#include "devices/display/display.h"
#include "tests/lib/child.h"
#include "tests/unit/driver.h"

extern const struct virtio_class gpu_class;

/* Guest memory behind the rings. */
#define REQUEST (VQ_RAM_BASE + MIB(1))
#define RESPONSE (VQ_RAM_BASE + MIB(2))
#define PIXELS (VQ_RAM_BASE + MIB(4))
#define FEATURES \
	(1ULL << VIRTIO_GPU_F_EDID | 1ULL << VIRTIO_GPU_F_RESOURCE_UUID | \
	 1ULL << VIRTIO_GPU_F_RESOURCE_BLOB)
#define BGRX VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM
#define BGRA VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM

enum { CONTROL, CURSOR };

struct gpu_test {
	struct vq_guest guest;
	struct display display;
	struct display_head *heads; /* as the display's program has them */
	const char *options;
};

#define RECT(...) ((struct virtio_gpu_rect){ __VA_ARGS__ })

/* A device whose display is the test. */
static int plug(struct gpu_test *test)
{
	display_init(&test->display);
	test->display.shots = true;
	test->guest.host.display = &test->display;
	return vq_plug(&test->guest, test->guest.conf);
}

static void map(struct gpu_test *test)
{
	test->heads = mmap(NULL, test->display.heads * sizeof(*test->heads), PROT_READ | PROT_WRITE,
			   MAP_SHARED, test->display.memory, 0);
	assert_ptr_not_equal(test->heads, MAP_FAILED);
}

static void unplug(struct gpu_test *test)
{
	virtio_dev_free(test->guest.dev);
	test->guest.dev = NULL;
	display_unmap(test->heads, test->display.heads);
	display_close(&test->display);
}

static void make(struct gpu_test *test, const char *options)
{
	*test = (struct gpu_test){ .options = options };
	assert_int_equal(vq_guest_make(&test->guest, &gpu_class, options), 0);
	virtio_dev_free(test->guest.dev);
	assert_int_equal(plug(test), 0);
	map(test);
	vq_start(&test->guest, FEATURES);
}

static void destroy(struct gpu_test *test)
{
	unplug(test);
	vq_guest_free(&test->guest);
}

/* ---- requests ---- */

/* The type of the response, which is in guest memory; 0: there is none. */
static uint32_t ask(struct gpu_test *test, const void *request, uint32_t len, uint32_t room)
{
	const struct vq_buffer buffers[] = { { REQUEST, len, false }, { RESPONSE, room, true } };
	const struct virtio_gpu_ctrl_hdr *hdr = vq_ptr(&test->guest, RESPONSE, sizeof(*hdr));
	uint16_t head;
	uint32_t used;

	memcpy(vq_ptr(&test->guest, REQUEST, len), request, len);
	vq_post(&test->guest, CONTROL, buffers, 2);
	vq_notify(&test->guest, CONTROL);
	vq_turn(&test->guest);
	if (!vq_take(&test->guest, CONTROL, &head, &used))
		return 0;
	assert_in_range(used, sizeof(*hdr), room);
	return hdr->type;
}

#define ASK(test, request) \
	ask((test), &(request), sizeof(request), sizeof(struct virtio_gpu_ctrl_hdr))

#define assert_ok(type) assert_int_equal((type), VIRTIO_GPU_RESP_OK_NODATA)

static uint32_t create(struct gpu_test *test, uint32_t id, uint32_t format, uint32_t width,
		       uint32_t height)
{
	const struct virtio_gpu_resource_create_2d request = {
		{ .type = VIRTIO_GPU_CMD_RESOURCE_CREATE_2D }, id, format, width, height,
	};

	return ASK(test, request);
}

static uint32_t with_id(struct gpu_test *test, uint32_t type, uint32_t id)
{
	const struct virtio_gpu_resource_unref request = { { .type = type }, id, 0 };

	return ASK(test, request);
}

/* With entries of so many bytes each, which are not in a row in guest memory where step is larger. */
static uint32_t attach(struct gpu_test *test, uint32_t id, uint32_t count, uint32_t len, uint64_t step)
{
	struct {
		struct virtio_gpu_resource_attach_backing head;
		struct virtio_gpu_mem_entry entries[1024];
	} request = { { { .type = VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING }, id, count }, { { 0 } } };

	for (uint32_t i = 0; i < count; i++)
		request.entries[i] = (struct virtio_gpu_mem_entry){ PIXELS + i * step, len, 0 };
	return ask(test, &request, (uint32_t)(sizeof(request.head) + count * sizeof(*request.entries)),
		   sizeof(struct virtio_gpu_ctrl_hdr));
}

static uint32_t set_scanout(struct gpu_test *test, uint32_t scanout, uint32_t id,
			    struct virtio_gpu_rect rect)
{
	const struct virtio_gpu_set_scanout request = {
		{ .type = VIRTIO_GPU_CMD_SET_SCANOUT }, rect, scanout, id,
	};

	return ASK(test, request);
}

static uint32_t transfer(struct gpu_test *test, uint32_t id, struct virtio_gpu_rect rect,
			 uint64_t offset)
{
	const struct virtio_gpu_transfer_to_host_2d request = {
		{ .type = VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D }, rect, offset, id, 0,
	};

	return ASK(test, request);
}

static uint32_t flush(struct gpu_test *test, uint32_t id, struct virtio_gpu_rect rect)
{
	const struct virtio_gpu_resource_flush request = {
		{ .type = VIRTIO_GPU_CMD_RESOURCE_FLUSH }, rect, id, 0,
	};

	return ASK(test, request);
}

static uint32_t create_blob(struct gpu_test *test, uint32_t id, uint64_t size, uint32_t len)
{
	const struct {
		struct virtio_gpu_resource_create_blob head;
		struct virtio_gpu_mem_entry entry;
	} request = {
		{ { .type = VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB }, .resource_id = id,
		  .blob_mem = VIRTIO_GPU_BLOB_MEM_GUEST, .nr_entries = 1, .size = size },
		{ PIXELS, len, 0 },
	};

	return ASK(test, request);
}

static void post_cursor(struct gpu_test *test, const struct virtio_gpu_update_cursor *request)
{
	uint16_t head;

	memcpy(vq_ptr(&test->guest, REQUEST, sizeof(*request)), request, sizeof(*request));
	vq_post(&test->guest, CURSOR, &(struct vq_buffer){ REQUEST, sizeof(*request), false }, 1);
	vq_notify(&test->guest, CURSOR);
	vq_turn(&test->guest);
	assert_true(vq_take(&test->guest, CURSOR, &head, NULL));
}

/* A resource with all of its memory behind it, on the head, with its pixels there. */
static void show(struct gpu_test *test, uint32_t head, uint32_t id, uint32_t width, uint32_t height)
{
	const struct virtio_gpu_rect all = RECT(0, 0, width, height);

	assert_ok(create(test, id, BGRX, width, height));
	assert_ok(attach(test, id, 1, width * height * 4, 0));
	assert_ok(transfer(test, id, all, 0));
	assert_ok(set_scanout(test, head, id, all));
	assert_ok(flush(test, id, all));
}

/* ---- pixels ---- */

static uint32_t *guest_pixels(struct gpu_test *test)
{
	return vq_ptr(&test->guest, PIXELS, MIB(4));
}

/* Something else in each pixel. */
static uint32_t color(uint32_t x, uint32_t y)
{
	return (x * 3 & 0xff) | (y * 5 & 0xff) << 8 | ((x ^ y) & 0xff) << 16;
}

static void paint(struct gpu_test *test, uint32_t width, uint32_t height)
{
	for (uint32_t y = 0; y < height; y++)
		for (uint32_t x = 0; x < width; x++)
			guest_pixels(test)[y * width + x] = color(x, y);
}

static uint32_t seen(const struct gpu_test *test, unsigned int head, uint32_t width, uint32_t x,
		     uint32_t y)
{
	uint32_t pixel;

	memcpy(&pixel, test->heads[head].pixels + (y * width + x) * 4, sizeof(pixel));
	return pixel & 0xffffff;
}

/* The head shows width x height pixels of the picture from (left, top) on. */
static void assert_shown(const struct gpu_test *test, unsigned int head, uint32_t width,
			 uint32_t height, uint32_t left, uint32_t top)
{
	for (uint32_t y = 0; y < height; y++)
		for (uint32_t x = 0; x < width; x++)
			assert_int_equal(seen(test, head, width, x, y), color(left + x, top + y));
}

/* ---- messages ---- */

static bool told(struct gpu_test *test, struct display_message *ret_message)
{
	return display_receive(test->display.ends[DISPLAY_GPU], ret_message) == 0;
}

static void assert_told_rect(struct gpu_test *test, enum display_type type, unsigned int head,
			     struct virtio_gpu_rect rect)
{
	struct display_message message;

	assert_true(told(test, &message));
	assert_int_equal(message.type, type);
	assert_int_equal(message.head, head);
	assert_memory_equal(&message.rect, &rect, sizeof(rect));
}

static void assert_silent(struct gpu_test *test)
{
	struct display_message message;

	assert_false(told(test, &message));
}

static void say(struct gpu_test *test, const struct display_message *message)
{
	assert_int_equal(display_send(test->display.ends[DISPLAY_GPU], message), 0);
	vq_turn(&test->guest);
}

static void look(struct gpu_test *test, uint16_t head, uint32_t count)
{
	say(test, &(struct display_message){ .type = DISPLAY_LOOKING, .head = head, .value = count });
}

/* ---- tests: pictures ---- */

static void test_shows_a_picture(void **state)
{
	struct gpu_test test;

	(void)state;
	make(&test, "");
	paint(&test, 200, 100);
	show(&test, 0, 7, 200, 100);
	assert_shown(&test, 0, 200, 100, 0, 0);
	assert_told_rect(&test, DISPLAY_SURFACE, 0, RECT(0, 0, 200, 100));
	/* Nobody looks. */
	assert_silent(&test);
	assert_int_equal(vq_counter(&test.guest, "requests"), 5);
	assert_int_equal(vq_counter(&test.guest, "errors"), 0);
	assert_int_equal(vq_counter(&test.guest, "flushes"), 1);
	destroy(&test);
}

/* Two heads see different parts of one resource, whose memory is in pages here and there. */
static void test_shows_parts(void **state)
{
	struct gpu_test test;
	uint32_t *pixels;

	(void)state;
	make(&test, "heads=2");
	pixels = guest_pixels(&test);
	/* Each page of 4 lines has a hole behind it. */
	for (uint32_t y = 0; y < 64; y++)
		for (uint32_t x = 0; x < 256; x++)
			pixels[y / 4 * 2048 + y % 4 * 256 + x] = color(x, y);
	assert_ok(create(&test, 1, BGRX, 256, 64));
	assert_ok(attach(&test, 1, 16, 4096, 8192));
	assert_ok(set_scanout(&test, 0, 1, RECT(0, 0, 128, 64)));
	assert_ok(set_scanout(&test, 1, 1, RECT(128, 16, 100, 40)));
	assert_ok(transfer(&test, 1, RECT(0, 0, 256, 64), 0));
	/* Nothing is shown before it is flushed. */
	assert_int_equal(seen(&test, 0, 128, 5, 5), 0);
	look(&test, 0, 1);
	look(&test, 1, 1);
	assert_told_rect(&test, DISPLAY_SURFACE, 0, RECT(0, 0, 128, 64));
	assert_told_rect(&test, DISPLAY_SURFACE, 1, RECT(0, 0, 100, 40));
	assert_ok(flush(&test, 1, RECT(0, 0, 256, 64)));
	assert_shown(&test, 0, 128, 64, 0, 0);
	assert_shown(&test, 1, 100, 40, 128, 16);
	assert_told_rect(&test, DISPLAY_DAMAGE, 0, RECT(0, 0, 128, 64));
	assert_told_rect(&test, DISPLAY_DAMAGE, 1, RECT(0, 0, 100, 40));
	assert_silent(&test);
	destroy(&test);
}

/* One rectangle is transferred and flushed: nothing around it changes. */
static void test_changes_a_rectangle(void **state)
{
	struct gpu_test test;

	(void)state;
	make(&test, "");
	paint(&test, 100, 100);
	show(&test, 0, 1, 100, 100);
	look(&test, 0, 1);
	assert_told_rect(&test, DISPLAY_SURFACE, 0, RECT(0, 0, 100, 100));
	assert_told_rect(&test, DISPLAY_DAMAGE, 0, RECT(0, 0, 100, 100));
	memset(guest_pixels(&test), 0xaa, 100 * 100 * 4);
	assert_ok(transfer(&test, 1, RECT(10, 20, 30, 40), (20 * 100 + 10) * 4));
	/* What was not transferred is flushed as it was. */
	assert_ok(flush(&test, 1, RECT(0, 0, 35, 100)));
	for (uint32_t y = 0; y < 100; y++)
		for (uint32_t x = 0; x < 100; x++) {
			bool changed = x >= 10 && x < 35 && y >= 20 && y < 60;

			assert_int_equal(seen(&test, 0, 100, x, y), changed ? 0xaaaaaa : color(x, y));
		}
	assert_told_rect(&test, DISPLAY_DAMAGE, 0, RECT(0, 0, 35, 100));
	destroy(&test);
}

static void test_formats(void **state)
{
	static const struct { uint32_t format; uint8_t bytes[4]; } formats[] = {
		{ VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM, { 1, 2, 3, 4 } },
		{ VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM, { 1, 2, 3, 4 } },
		{ VIRTIO_GPU_FORMAT_A8R8G8B8_UNORM, { 4, 3, 2, 1 } },
		{ VIRTIO_GPU_FORMAT_X8R8G8B8_UNORM, { 4, 3, 2, 1 } },
		{ VIRTIO_GPU_FORMAT_R8G8B8A8_UNORM, { 3, 2, 1, 4 } },
		{ VIRTIO_GPU_FORMAT_X8B8G8R8_UNORM, { 4, 1, 2, 3 } },
		{ VIRTIO_GPU_FORMAT_A8B8G8R8_UNORM, { 4, 1, 2, 3 } },
		{ VIRTIO_GPU_FORMAT_R8G8B8X8_UNORM, { 3, 2, 1, 4 } },
	};
	struct gpu_test test;

	(void)state;
	make(&test, "");
	for (uint32_t i = 0; i < ARRAY_SIZE(formats); i++) {
		for (unsigned int pixel = 0; pixel < 64; pixel++)
			memcpy(&guest_pixels(&test)[pixel], formats[i].bytes, 4);
		assert_ok(create(&test, 1 + i, formats[i].format, 8, 8));
		assert_ok(attach(&test, 1 + i, 1, 256, 0));
		assert_ok(transfer(&test, 1 + i, RECT(0, 0, 8, 8), 0));
		memset(test.heads[0].pixels, 0, 256);
		assert_ok(set_scanout(&test, 0, 1 + i, RECT(0, 0, 8, 8)));
		assert_ok(flush(&test, 1 + i, RECT(0, 0, 8, 8)));
		for (uint32_t y = 0; y < 8; y++)
			for (uint32_t x = 0; x < 8; x++)
				assert_int_equal(seen(&test, 0, 8, x, y), 0x030201);
	}
	assert_int_equal(create(&test, 100, 3 + 2, 8, 8), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	destroy(&test);
}

/* The guest's own memory is shown, as it is when it is flushed. */
static void test_blobs(void **state)
{
	struct virtio_gpu_set_scanout_blob set = {
		{ .type = VIRTIO_GPU_CMD_SET_SCANOUT_BLOB }, RECT(10, 5, 60, 50), 0, 3, 70, 60, BGRX, 0,
		{ 400 }, { 1000 },
	};
	struct gpu_test test;

	(void)state;
	make(&test, "");
	assert_ok(create_blob(&test, 3, 60000, 65536));
	for (uint32_t y = 0; y < 60; y++)
		for (uint32_t x = 0; x < 70; x++)
			guest_pixels(&test)[250 + y * 100 + x] = color(x, y);
	assert_ok(ASK(&test, set));
	assert_shown(&test, 0, 60, 50, 10, 5);
	guest_pixels(&test)[250 + 5 * 100 + 10] = 0x123456;
	assert_int_equal(seen(&test, 0, 60, 0, 0), color(10, 5));
	/* Linux transfers cursors of such memory: there is nothing to do. */
	assert_ok(transfer(&test, 3, RECT(0, 0, 64, 64), 0));
	assert_ok(flush(&test, 3, RECT(0, 0, 1000, 1000)));
	assert_int_equal(seen(&test, 0, 60, 0, 0), 0x123456);

	set.format = VIRTIO_GPU_FORMAT_X8R8G8B8_UNORM;
	assert_ok(ASK(&test, set));
	assert_ok(flush(&test, 3, RECT(0, 0, 70, 60)));
	/* Its first byte is nothing now, and its fourth is blue. */
	assert_int_equal(seen(&test, 0, 60, 0, 0), 0x341200);
	destroy(&test);
}

static void test_dark_heads(void **state)
{
	struct gpu_test test;

	(void)state;
	make(&test, "heads=2");
	paint(&test, 64, 64);
	show(&test, 0, 1, 64, 64);
	assert_ok(set_scanout(&test, 1, 1, RECT(0, 0, 32, 32)));
	assert_told_rect(&test, DISPLAY_SURFACE, 0, RECT(0, 0, 64, 64));
	assert_told_rect(&test, DISPLAY_SURFACE, 1, RECT(0, 0, 32, 32));
	assert_ok(set_scanout(&test, 1, 0, RECT(0, 0, 1, 1)));
	assert_told_rect(&test, DISPLAY_SURFACE, 1, RECT(0, 0, 0, 0));
	/* A resource that goes away is not to be seen any more. */
	assert_ok(with_id(&test, VIRTIO_GPU_CMD_RESOURCE_UNREF, 1));
	assert_told_rect(&test, DISPLAY_SURFACE, 0, RECT(0, 0, 0, 0));
	assert_int_equal(flush(&test, 1, RECT(0, 0, 1, 1)), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);

	show(&test, 0, 1, 64, 64);
	assert_told_rect(&test, DISPLAY_SURFACE, 0, RECT(0, 0, 64, 64));
	/* The last picture stays until there is a driver again. */
	vq_reset(&test.guest);
	look(&test, 0, 1);
	assert_silent(&test);
	assert_shown(&test, 0, 64, 64, 0, 0);
	vq_start(&test.guest, FEATURES);
	assert_told_rect(&test, DISPLAY_SURFACE, 0, RECT(0, 0, 0, 0));
	show(&test, 0, 1, 64, 64);
	destroy(&test);
}

/* ---- tests: what is told ---- */

/* A program that does not read holds nobody up, and is told of all later, in one rectangle. */
static void test_waits_for_nobody(void **state)
{
	struct gpu_test test;
	struct display_message message;
	struct virtio_gpu_rect sum = { 0 };
	unsigned int count = 0;

	(void)state;
	make(&test, "");
	show(&test, 0, 1, 256, 256);
	look(&test, 0, 1);
	for (uint32_t i = 0; i < 5000; i++)
		assert_ok(flush(&test, 1, RECT(i % 250, i % 200, 1, 1)));
	while (told(&test, &message)) {
		count++;
		vq_turn(&test.guest);
		memcpy(&sum, &message.rect, sizeof(sum));
	}
	assert_in_range(count, 3, 4000);
	assert_memory_equal(&sum, &RECT(0, 0, 250, 200), sizeof(sum));
	destroy(&test);
}

static void test_without_a_program(void **state)
{
	struct gpu_test test;

	(void)state;
	make(&test, "");
	show(&test, 0, 1, 64, 64);
	look(&test, 0, 1);
	display_close(&test.display);
	vq_turn(&test.guest);
	assert_ok(flush(&test, 1, RECT(0, 0, 64, 64)));
	assert_false(vq_failed(&test.guest));
	test.display.heads = 1;
	destroy(&test);
}

/* Nobody is to look at all: there is no memory to draw into. */
static void test_without_a_display(void **state)
{
	struct gpu_test test = { 0 };

	(void)state;
	assert_int_equal(vq_guest_make(&test.guest, &gpu_class, ""), 0);
	vq_start(&test.guest, FEATURES);
	show(&test, 0, 1, 64, 64);
	vq_guest_free(&test.guest);
}

static void test_cursor(void **state)
{
	struct virtio_gpu_update_cursor request = {
		{ .type = VIRTIO_GPU_CMD_UPDATE_CURSOR }, { 0, 5, (uint32_t)-3, 0 }, 9, 2, 1000, 0,
	};
	struct display_message message;
	struct gpu_test test;
	uint32_t(*picture)[64];

	(void)state;
	make(&test, "");
	picture = (void *)test.heads[0].cursor;
	for (uint32_t i = 0; i < 64 * 64; i++)
		guest_pixels(&test)[i] = i << 8 | 0x80;
	assert_ok(create(&test, 9, VIRTIO_GPU_FORMAT_A8R8G8B8_UNORM, 64, 64));
	assert_ok(attach(&test, 9, 1, 64 * 64 * 4, 0));
	assert_ok(transfer(&test, 9, RECT(0, 0, 64, 64), 0));
	post_cursor(&test, &request);
	for (uint32_t i = 0; i < 64 * 64; i++)
		assert_int_equal(picture[i / 64][i % 64],
				 __builtin_bswap32(i << 8 | 0x80));
	assert_silent(&test);
	look(&test, 0, 1);
	assert_true(told(&test, &message));
	assert_int_equal(message.type, DISPLAY_CURSOR);
	assert_int_equal(message.cursor.x, 5);
	assert_int_equal(message.cursor.y, -3);
	assert_int_equal(message.cursor.hot_x, 2);
	assert_int_equal(message.cursor.hot_y, 63);
	assert_true(message.cursor.visible && message.cursor.changed);

	request.hdr.type = VIRTIO_GPU_CMD_MOVE_CURSOR;
	request.resource_id = 0;
	request.pos.x = 6;
	post_cursor(&test, &request);
	assert_true(told(&test, &message));
	assert_int_equal(message.cursor.x, 6);
	assert_true(message.cursor.visible && !message.cursor.changed);

	/* One that is smaller is surrounded by nothing, and has no alpha of its own. */
	request.hdr.type = VIRTIO_GPU_CMD_UPDATE_CURSOR;
	request.resource_id = 10;
	assert_ok(create(&test, 10, BGRX, 16, 16));
	post_cursor(&test, &request);
	assert_int_equal(picture[15][15], 0xff000000);
	assert_int_equal(picture[15][16], 0);
	assert_int_equal(picture[16][15], 0);
	assert_true(told(&test, &message));

	assert_ok(with_id(&test, VIRTIO_GPU_CMD_RESOURCE_UNREF, 10));
	assert_true(told(&test, &message));
	assert_false(message.cursor.visible);
	/* There is no such resource, nor such a head. */
	post_cursor(&test, &request);
	request.pos.scanout_id = 1;
	post_cursor(&test, &request);
	assert_int_equal(vq_counter(&test.guest, "errors"), 2);
	assert_false(vq_failed(&test.guest));
	destroy(&test);
}

/* ---- tests: monitors ---- */

static void get_info(struct gpu_test *test, struct virtio_gpu_resp_display_info *info)
{
	const struct virtio_gpu_ctrl_hdr request = { .type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO };

	assert_int_equal(ask(test, &request, sizeof(request), sizeof(*info)),
			 VIRTIO_GPU_RESP_OK_DISPLAY_INFO);
	memcpy(info, vq_ptr(&test->guest, RESPONSE, sizeof(*info)), sizeof(*info));
}

static struct virtio_gpu_config config(struct gpu_test *test)
{
	struct virtio_gpu_config found;

	virtio_config_read(test->guest.dev, 0, &found, sizeof(found));
	return found;
}

static void clear_events(struct gpu_test *test)
{
	const uint32_t all = UINT32_MAX;

	virtio_config_write(test->guest.dev, offsetof(struct virtio_gpu_config, events_clear), &all,
			    sizeof(all));
}

static void test_monitors(void **state)
{
	struct virtio_gpu_resp_display_info info;
	struct gpu_test test;

	(void)state;
	make(&test, "heads=3,size=1280x800");
	assert_int_equal(config(&test).num_scanouts, 3);
	assert_int_equal(config(&test).events_read, 0);
	get_info(&test, &info);
	assert_memory_equal(&info.pmodes[2].r, &RECT(2560, 0, 1280, 800), 16);
	assert_int_equal(info.pmodes[2].enabled, 1);
	assert_int_equal(info.pmodes[3].enabled, 0);

	/* Somebody's window is resized, and the guest hears of it once. */
	for (int i = 0; i < 2; i++)
		say(&test, &(struct display_message){ .type = DISPLAY_RESIZE, .head = 1,
						      .rect = { .width = 1001, .height = 9999 } });
	assert_int_equal(test.guest.config_interrupts, 1);
	assert_int_equal(config(&test).events_read, VIRTIO_GPU_EVENT_DISPLAY);
	get_info(&test, &info);
	assert_memory_equal(&info.pmodes[1].r, &RECT(1280, 0, 1001, 4095), 16);
	clear_events(&test);
	assert_int_equal(config(&test).events_read, 0);
	assert_int_equal(config(&test).events_clear, 0);

	/* A monitor is pulled out, and another one plugged in. */
	assert_int_equal(virtio_dev_set_monitor(test.guest.dev, 1, 0, 0), 0);
	assert_int_equal(test.guest.config_interrupts, 2);
	get_info(&test, &info);
	assert_int_equal(info.pmodes[1].enabled, 0);
	assert_memory_equal(&info.pmodes[2].r, &RECT(1280, 0, 1280, 800), 16);
	assert_int_equal(virtio_dev_set_monitor(test.guest.dev, 1, 0, 0), 0);
	assert_int_equal(test.guest.config_interrupts, 2);
	assert_int_equal(virtio_dev_set_monitor(test.guest.dev, 1, 640, 480), 0);
	assert_int_equal(virtio_dev_set_monitor(test.guest.dev, 1, 640, 480), 0);
	assert_int_equal(test.guest.config_interrupts, 3);
	get_info(&test, &info);
	assert_memory_equal(&info.pmodes[1].r, &RECT(1280, 0, 640, 480), 16);
	assert_int_equal(virtio_dev_set_monitor(test.guest.dev, 3, 640, 480), -ENODEV);
	assert_int_equal(virtio_dev_set_monitor(test.guest.dev, 1, 640, 0), -EINVAL);
	assert_int_equal(virtio_dev_set_monitor(test.guest.dev, 1, 4096, 480), -EINVAL);
	destroy(&test);
}

static void assert_edid(const uint8_t *edid, uint32_t width, uint32_t height)
{
	const uint8_t *timing = edid + 54;
	uint32_t clock = timing[0] | (uint32_t)timing[1] << 8;
	uint32_t h_blank = timing[3] | (timing[4] & 0xfu) << 8;
	uint32_t v_blank = timing[6] | (timing[7] & 0xfu) << 8;
	uint8_t sum = 0;

	assert_memory_equal(edid, ((uint8_t[]){ 0, 255, 255, 255, 255, 255, 255, 0 }), 8);
	assert_int_equal(edid[18] << 8 | edid[19], 0x104);
	for (unsigned int i = 0; i < 128; i++)
		sum += edid[i];
	assert_int_equal(sum, 0);
	assert_int_equal(timing[2] | (timing[4] & 0xf0u) << 4, width);
	assert_int_equal(timing[5] | (timing[7] & 0xf0u) << 4, height);
	/* Pulses lie within the pauses. */
	assert_true(timing[8] + timing[9] < (int)h_blank && (timing[10] >> 4) + (timing[10] & 15) < (int)v_blank);
	/* 60 Hz, or as many as the clock can be told for. */
	if (clock < 0xffff)
		assert_in_range(clock * 10000ULL * 100 / ((width + h_blank) * (height + v_blank)), 5900, 6000);
	assert_memory_equal(edid + 72 + 3, "\xfc\0microvm\n     ", 15);
	assert_int_equal(edid[90 + 3], 0xfd);
	assert_in_range(clock, 1, edid[90 + 9] * 1000);
}

static void test_edid(void **state)
{
	static const struct { uint32_t width, height; } sizes[] = {
		{ 1024, 768 }, { 64, 64 }, { 4095, 4095 }, { 1366, 768 }, { 3840, 2160 },
	};
	struct virtio_gpu_cmd_get_edid request = { { .type = VIRTIO_GPU_CMD_GET_EDID }, 0, 0 };
	struct gpu_test test;
	struct virtio_gpu_resp_edid *edid;

	(void)state;
	make(&test, "heads=2");
	edid = vq_ptr(&test.guest, RESPONSE, sizeof(*edid));
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		virtio_dev_set_monitor(test.guest.dev, 0, sizes[i].width, sizes[i].height);
		assert_int_equal(ask(&test, &request, sizeof(request), sizeof(*edid)),
				 VIRTIO_GPU_RESP_OK_EDID);
		assert_int_equal(edid->size, 128);
		assert_edid(edid->edid, sizes[i].width, sizes[i].height);
	}
	request.scanout = 2;
	assert_int_equal(ask(&test, &request, sizeof(request), sizeof(*edid)),
			 VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID);
	destroy(&test);
}

static void test_bad_options(void **state)
{
	static const char *const bad[] = {
		"size=1280", "size=1280x", "size=x800", "size=1280x800x", "size=63x800", "size=800x4096",
		"size=-1x800", "size=99999999999x800", "display=telnet",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct gpu_test test = { 0 };

		if (!strncmp(bad[i], "size", 4)) {
			assert_int_equal(vq_guest_make(&test.guest, &gpu_class, bad[i]), -EINVAL);
		} else {
			assert_int_equal(vq_guest_make(&test.guest, &gpu_class, bad[i]), 0);
			virtio_dev_free(test.guest.dev);
			test.guest.dev = NULL;
			assert_int_equal(plug(&test), -EBADMSG);
			display_close(&test.display);
		}
		vq_guest_free(&test.guest);
	}
}

/* ---- tests: a driver's faults ---- */

static void test_bad_resources(void **state)
{
	struct gpu_test test;

	(void)state;
	make(&test, "memory=1M");
	assert_int_equal(create(&test, 0, BGRX, 8, 8), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	assert_int_equal(create(&test, 1, 0, 8, 8), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_int_equal(create(&test, 1, BGRX, 0, 8), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_int_equal(create(&test, 1, BGRX, 8, 0), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	/* Products that are small, or nothing, in 32 bits. */
	assert_int_equal(create(&test, 1, BGRX, 0x40000001, 1), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_int_equal(create(&test, 1, BGRX, 1, 0x40000000), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_int_equal(create(&test, 1, BGRX, 0x80000000, 0x80000000),
			 VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_int_equal(create(&test, 1, BGRX, 16384, 16384), VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
	assert_ok(create(&test, 1, BGRX, 8, 8));
	assert_int_equal(create(&test, 1, BGRX, 8, 8), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	assert_int_equal(with_id(&test, VIRTIO_GPU_CMD_RESOURCE_UNREF, 2),
			 VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	assert_int_equal(with_id(&test, VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING, 1),
			 VIRTIO_GPU_RESP_ERR_UNSPEC);
	assert_int_equal(with_id(&test, VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING, 2),
			 VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	assert_int_equal(create_blob(&test, 1, 4096, 4096), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	assert_int_equal(create_blob(&test, 2, 0, 4096), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_int_equal(create_blob(&test, 2, 4097, 4096), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_int_equal(create_blob(&test, 2, 4096, UINT32_MAX), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_ok(create_blob(&test, 2, 4096, 4096));
	assert_false(vq_failed(&test.guest));
	destroy(&test);
}

static void test_bad_backing(void **state)
{
	struct {
		struct virtio_gpu_resource_attach_backing head;
		struct virtio_gpu_mem_entry entries[2];
	} request = { { { .type = VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING }, 1, 2 }, { { 0 } } };
	static const struct virtio_gpu_mem_entry bad[] = {
		{ PIXELS, 0, 0 }, { 0, 4096, 0 }, { VQ_RAM_BASE + VQ_RAM_SIZE - 4096, 4097, 0 },
		{ UINT64_MAX, 1, 0 }, { UINT64_MAX - 4095, 4096, 0 }, { PIXELS, UINT32_MAX, 0 },
	};
	static const uint32_t counts[] = { 0, 3, UINT32_MAX, 1U << 28, (1U << 28) + 1 };
	struct gpu_test test;

	(void)state;
	make(&test, "memory=1M");
	assert_ok(create(&test, 1, BGRX, 64, 64));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		request.entries[0] = (struct virtio_gpu_mem_entry){ PIXELS, 4096, 0 };
		request.entries[1] = bad[i];
		assert_int_equal(ASK(&test, request), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	}
	request.entries[1] = request.entries[0];
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		request.head.nr_entries = counts[i];
		assert_int_equal(ASK(&test, request), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	}
	request.head.nr_entries = 2;
	assert_ok(ASK(&test, request));
	assert_int_equal(ASK(&test, request), VIRTIO_GPU_RESP_ERR_UNSPEC);
	request.head.resource_id = 2;
	assert_int_equal(ASK(&test, request), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	destroy(&test);
}

static void test_bad_transfers(void **state)
{
	struct gpu_test test;

	(void)state;
	make(&test, "");
	assert_ok(create(&test, 1, BGRX, 64, 64));
	assert_int_equal(transfer(&test, 1, RECT(0, 0, 64, 64), 0), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_ok(attach(&test, 1, 1, 64 * 64 * 4, 0));
	for (uint32_t i = 0; i < 2; i++) {
		const struct virtio_gpu_rect rects[] = {
			RECT(65, 0, 0, 1), RECT(0, 0, 65, 1), RECT(1, 0, 64, 1), RECT(0, 63, 1, 2),
			RECT(UINT32_MAX, 0, 1, 1), RECT(1, 0, UINT32_MAX, 1), RECT(0, 2, 1, UINT32_MAX),
		};

		for (size_t k = 0; k < ARRAY_SIZE(rects); k++)
			assert_int_equal(i ? flush(&test, 1, rects[k]) : transfer(&test, 1, rects[k], 0),
					 VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	}
	assert_ok(transfer(&test, 1, RECT(63, 63, 1, 1), 64 * 64 * 4 - 4));
	assert_int_equal(transfer(&test, 1, RECT(63, 63, 1, 1), 64 * 64 * 4 - 3),
			 VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_int_equal(transfer(&test, 1, RECT(0, 0, 64, 64), 4), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_int_equal(transfer(&test, 1, RECT(0, 0, 64, 64), UINT64_MAX - 255),
			 VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_int_equal(transfer(&test, 2, RECT(0, 0, 1, 1), 0), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	destroy(&test);
}

static void test_bad_scanouts(void **state)
{
	const struct virtio_gpu_set_scanout_blob good = {
		{ .type = VIRTIO_GPU_CMD_SET_SCANOUT_BLOB }, RECT(0, 0, 32, 32), 0, 2, 32, 32, BGRX, 0,
		{ 128 }, { 0 },
	};
	struct virtio_gpu_set_scanout_blob bad[9];
	struct gpu_test test;

	(void)state;
	make(&test, "heads=2");
	assert_ok(create(&test, 1, BGRX, 64, 64));
	assert_ok(create_blob(&test, 2, 4096, 4096));
	assert_int_equal(set_scanout(&test, 2, 1, RECT(0, 0, 64, 64)),
			 VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID);
	assert_int_equal(set_scanout(&test, UINT32_MAX, 1, RECT(0, 0, 64, 64)),
			 VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID);
	assert_int_equal(set_scanout(&test, 0, 3, RECT(0, 0, 64, 64)),
			 VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	assert_int_equal(set_scanout(&test, 0, 1, RECT(1, 0, 64, 64)),
			 VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_int_equal(set_scanout(&test, 0, 1, RECT(0, 0, 0, 64)),
			 VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_int_equal(set_scanout(&test, 0, 2, RECT(0, 0, 32, 32)),
			 VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	/* More than a display has room for. */
	assert_ok(create(&test, 5, BGRX, 4097, 1));
	assert_int_equal(set_scanout(&test, 0, 5, RECT(0, 0, 4097, 1)),
			 VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_ok(set_scanout(&test, 0, 5, RECT(1, 0, 4096, 1)));

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		bad[i] = good;
	bad[0].format = 5;
	bad[1].strides[0] = 127;
	bad[2].strides[0] = 129;
	bad[3].offsets[0] = 4;
	bad[4].offsets[0] = UINT32_MAX;
	bad[5].width = 33;
	bad[6].height = 33;
	bad[7].strides[0] = bad[7].width = bad[7].height = UINT32_MAX;
	bad[8].strides[0] = 0;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(ASK(&test, bad[i]), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_ok(ASK(&test, good));
	destroy(&test);
}

/* Whatever the guest asks for, the host holds no more than it was told. */
static void test_bounds_memory(void **state)
{
	struct gpu_test test;
	uint32_t count = 0;

	(void)state;
	make(&test, "memory=1M");
	/* 64 KiB each. */
	while (create(&test, 1 + count, BGRX, 128, 128) == VIRTIO_GPU_RESP_OK_NODATA)
		count++;
	assert_int_equal(count, 16);
	assert_ok(with_id(&test, VIRTIO_GPU_CMD_RESOURCE_UNREF, 3));
	/* Lists count as well, of which each is 24 KiB here. */
	for (count = 0; count < 13; count++)
		if (attach(&test, 4 + count, 1000, 4, 8) != VIRTIO_GPU_RESP_OK_NODATA)
			break;
	assert_in_range(count, 1, 3);
	assert_ok(with_id(&test, VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING, 4));
	assert_ok(attach(&test, 4 + count, 1000, 4, 8));
	/* What lies in a row is one entry. */
	for (count = 10; count < 16; count++)
		assert_ok(attach(&test, count, 1000, 4, 4));
	/* A reset gives all of it back. */
	vq_reset(&test.guest);
	vq_start(&test.guest, FEATURES);
	assert_ok(create(&test, 1, BGRX, 512, 512));
	destroy(&test);

	make(&test, "memory=1G");
	for (count = 0; create(&test, 5000 - count, BGRX, 1, 1) == VIRTIO_GPU_RESP_OK_NODATA;)
		count++;
	assert_int_equal(count, 4096);
	destroy(&test);
}

static void test_bad_requests(void **state)
{
	static const struct { uint32_t out, in; } lengths[] = {
		{ 23, 24 }, { 24, 23 }, { 1, 1 },
	};
	struct virtio_gpu_update_cursor request = { { .type = VIRTIO_GPU_CMD_UPDATE_CURSOR }, { 0 }, 0, 0, 0, 0 };
	struct gpu_test test;

	(void)state;
	make(&test, "");
	assert_int_equal(with_id(&test, VIRTIO_GPU_CMD_CTX_CREATE, 1), VIRTIO_GPU_RESP_ERR_UNSPEC);
	assert_int_equal(with_id(&test, 0, 1), VIRTIO_GPU_RESP_ERR_UNSPEC);
	/* The wrong queue; less than there should be, or less room. */
	assert_int_equal(ASK(&test, request), VIRTIO_GPU_RESP_ERR_UNSPEC);
	request.hdr.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_2D;
	assert_int_equal(ask(&test, &request, 39, 24), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	request.hdr.type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO;
	assert_int_equal(ask(&test, &request, 24, 407), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_false(vq_failed(&test.guest));
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		assert_int_equal(ask(&test, &request, lengths[i].out, lengths[i].in), 0);
		assert_true(vq_failed(&test.guest));
		vq_reset(&test.guest);
		vq_start(&test.guest, FEATURES);
	}
	assert_ok(create(&test, 1, BGRX, 8, 8));
	destroy(&test);
}

/* What was not agreed on there is not. */
static void test_features(void **state)
{
	struct virtio_gpu_cmd_get_edid request = { { .type = VIRTIO_GPU_CMD_GET_EDID }, 0, 0 };
	struct gpu_test test;

	(void)state;
	make(&test, "");
	vq_reset(&test.guest);
	vq_start(&test.guest, 0);
	assert_int_equal(ask(&test, &request, sizeof(request), 2000), VIRTIO_GPU_RESP_ERR_UNSPEC);
	assert_int_equal(create_blob(&test, 1, 4096, 4096), VIRTIO_GPU_RESP_ERR_UNSPEC);
	show(&test, 0, 1, 64, 64);
	destroy(&test);
}

static void test_fences(void **state)
{
	struct virtio_gpu_resource_unref request = {
		{ VIRTIO_GPU_UNDEFINED, VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_INFO_RING_IDX | 0x80,
		  0x123456789abcdefULL, 5, 6, { 0 } }, 1, 0,
	};
	struct gpu_test test;
	struct virtio_gpu_ctrl_hdr *hdr;

	(void)state;
	make(&test, "");
	hdr = vq_ptr(&test.guest, RESPONSE, sizeof(*hdr));
	/* Of a failure as well. */
	assert_int_equal(ASK(&test, request), VIRTIO_GPU_RESP_ERR_UNSPEC);
	assert_int_equal(hdr->flags, VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_INFO_RING_IDX);
	assert_true(hdr->fence_id == 0x123456789abcdefULL);
	assert_int_equal(hdr->ctx_id, 5);
	assert_int_equal(hdr->ring_idx, 6);
	request.hdr.flags = 0;
	assert_int_equal(ASK(&test, request), VIRTIO_GPU_RESP_ERR_UNSPEC);
	assert_true(hdr->flags == 0 && hdr->fence_id == 0);
	destroy(&test);
}

static void get_uuid(struct gpu_test *test, uint32_t id, uint8_t uuid[16])
{
	const struct virtio_gpu_resource_assign_uuid request = {
		{ .type = VIRTIO_GPU_CMD_RESOURCE_ASSIGN_UUID }, id, 0,
	};
	struct virtio_gpu_resp_resource_uuid *response =
		vq_ptr(&test->guest, RESPONSE, sizeof(*response));

	assert_int_equal(ask(test, &request, sizeof(request), sizeof(*response)),
			 VIRTIO_GPU_RESP_OK_RESOURCE_UUID);
	memcpy(uuid, response->uuid, 16);
}

static void test_uuids(void **state)
{
	const uint8_t zeroes[16] = { 0 };
	uint8_t first[16], second[16], again[16];
	struct gpu_test test;

	(void)state;
	make(&test, "");
	assert_ok(create(&test, 1, BGRX, 8, 8));
	assert_ok(create(&test, 2, BGRX, 8, 8));
	get_uuid(&test, 1, first);
	get_uuid(&test, 2, second);
	get_uuid(&test, 1, again);
	assert_memory_equal(first, again, 16);
	assert_memory_not_equal(first, second, 16);
	assert_memory_not_equal(first, zeroes, 16);
	destroy(&test);
}

/* ---- tests: saves ---- */

static void save(struct gpu_test *test, struct state *state)
{
	*state = (struct state){ 0 };
	virtio_dev_pause(test->guest.dev);
	assert_int_equal(virtio_dev_save(test->guest.dev, state), 0);
}

/* Into a new device with a new display. */
static int load(struct gpu_test *test, const struct state *state)
{
	struct state_reader reader = { state->data, state->len };
	int r;

	unplug(test);
	assert_int_equal(plug(test), 0);
	map(test);
	r = virtio_dev_load(test->guest.dev, &reader);
	return r < 0 ? r : (int)reader.left;
}

static void test_saves(void **state)
{
	struct state first, second;
	struct gpu_test test;
	uint8_t uuid[16], again[16];

	(void)state;
	make(&test, "heads=2");
	paint(&test, 64, 64);
	show(&test, 0, 5, 64, 64);
	assert_ok(create_blob(&test, 2, 65536, 65536));
	get_uuid(&test, 5, uuid);
	assert_ok(create(&test, 9, BGRA, 64, 64));
	post_cursor(&test, &(struct virtio_gpu_update_cursor){
				   { .type = VIRTIO_GPU_CMD_UPDATE_CURSOR }, { 1, 50, 60, 0 }, 9, 0, 0, 0 });
	assert_int_equal(virtio_dev_set_monitor(test.guest.dev, 1, 800, 600), 0);
	save(&test, &first);
	/* The resource has its own copy, and the new display gets it. */
	memset(guest_pixels(&test), 0, 64 * 64 * 4);
	assert_int_equal(load(&test, &first), 0);
	assert_shown(&test, 0, 64, 64, 0, 0);
	assert_told_rect(&test, DISPLAY_SURFACE, 0, RECT(0, 0, 64, 64));
	save(&test, &second);
	assert_int_equal(first.len, second.len);
	assert_memory_equal(first.data, second.data, first.len);
	virtio_dev_resume(test.guest.dev);
	assert_int_equal(config(&test).events_read, VIRTIO_GPU_EVENT_DISPLAY);
	get_uuid(&test, 5, again);
	assert_memory_equal(uuid, again, 16);
	/* Its memory is still behind it. */
	assert_ok(transfer(&test, 5, RECT(0, 0, 64, 64), 0));
	assert_ok(flush(&test, 5, RECT(0, 0, 64, 64)));
	assert_int_equal(seen(&test, 0, 64, 10, 10), 0);
	state_free(&first);
	state_free(&second);
	destroy(&test);
}

/* One byte in so many: refused, or harmless. Emulators take their time for each device. */
static void test_bad_saves(void **state)
{
	_cleanup_free_ uint8_t *rings = NULL;
	struct gpu_test test;
	struct state good, bad;
	struct vq queue;
	size_t len;

	(void)state;
	log_set_level(LOG_ERROR);
	make(&test, "heads=2");
	show(&test, 0, 5, 8, 8);
	assert_ok(create_blob(&test, 2, 65536, 65536));
	save(&test, &good);
	/* The driver's side as it was then. */
	len = test.guest.next - VQ_RAM_BASE;
	rings = malloc(len);
	assert_non_null(rings);
	memcpy(rings, vq_ptr(&test.guest, VQ_RAM_BASE, len), len);
	queue = test.guest.queues[CONTROL];
	bad = (struct state){ .data = malloc(good.len), .len = good.len };
	assert_non_null(bad.data);
	for (size_t i = 0; i < good.len; i += 5) {
		memcpy(bad.data, good.data, good.len);
		bad.data[i] ^= i % 3 ? 0x80 : 0x01;
		memcpy(vq_ptr(&test.guest, VQ_RAM_BASE, len), rings, len);
		test.guest.queues[CONTROL] = queue;
		if (load(&test, &bad) < 0)
			continue;
		virtio_dev_resume(test.guest.dev);
		flush(&test, 5, RECT(0, 0, 8, 8));
		flush(&test, 2, RECT(0, 0, 8, 8));
		transfer(&test, 5, RECT(0, 0, 8, 8), 0);
	}
	for (bad.len = 0; bad.len < good.len; bad.len += 7)
		assert_true(load(&test, &bad) < 0);
	state_free(&good);
	state_free(&bad);
	destroy(&test);
	log_set_level(LOG_WARN);
}

/* ---- tests: under the filter ---- */

static int confined(void *arg)
{
	struct gpu_test test = { 0 };
	struct vq_guest *guest = &test.guest;
	const struct virtio_gpu_resource_create_2d request = {
		{ .type = VIRTIO_GPU_CMD_RESOURCE_CREATE_2D }, 1, BGRX, 4000, 4000,
	};
	uint16_t head;

	(void)arg;
	child_needs_filters();
	CHILD_CHECK(vq_guest_make(guest, &gpu_class, "") == 0);
	virtio_dev_free(guest->dev);
	CHILD_CHECK(plug(&test) == 0);
	CHILD_CHECK(vq_run(guest, true) == 0);
	vq_start(guest, FEATURES);
	memcpy(vq_ptr(guest, REQUEST, sizeof(request)), &request, sizeof(request));
	vq_post(guest, CONTROL,
		(struct vq_buffer[]){ { REQUEST, sizeof(request), false }, { RESPONSE, 24, true } }, 2);
	vq_notify(guest, CONTROL);
	CHILD_CHECK(vq_await(guest, CONTROL, &head, NULL));
	CHILD_CHECK(*(uint32_t *)vq_ptr(guest, RESPONSE, 4) == VIRTIO_GPU_RESP_OK_NODATA);
	CHILD_CHECK(virtio_dev_set_monitor(guest->dev, 0, 800, 600) == 0);
	virtio_set_status(guest->dev, 0);
	virtio_dev_free(guest->dev);
	guest->dev = NULL;
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
		cmocka_unit_test(test_shows_a_picture),
		cmocka_unit_test(test_shows_parts),
		cmocka_unit_test(test_changes_a_rectangle),
		cmocka_unit_test(test_formats),
		cmocka_unit_test(test_blobs),
		cmocka_unit_test(test_dark_heads),
		cmocka_unit_test(test_waits_for_nobody),
		cmocka_unit_test(test_without_a_program),
		cmocka_unit_test(test_without_a_display),
		cmocka_unit_test(test_cursor),
		cmocka_unit_test(test_monitors),
		cmocka_unit_test(test_edid),
		cmocka_unit_test(test_bad_options),
		cmocka_unit_test(test_bad_resources),
		cmocka_unit_test(test_bad_backing),
		cmocka_unit_test(test_bad_transfers),
		cmocka_unit_test(test_bad_scanouts),
		cmocka_unit_test(test_bounds_memory),
		cmocka_unit_test(test_bad_requests),
		cmocka_unit_test(test_features),
		cmocka_unit_test(test_fences),
		cmocka_unit_test(test_uuids),
		cmocka_unit_test(test_saves),
		cmocka_unit_test(test_bad_saves),
		cmocka_unit_test(test_confined),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
