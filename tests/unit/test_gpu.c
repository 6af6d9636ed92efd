// SPDX-License-Identifier: Apache-2.0
/* virtio-gpu by hand: requests and their responses, and what is to be seen then. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "core/log.h"
#include "tests/lib/child.h"
#include "tests/unit/gpu.h"

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
		/* Not what the last one showed. */
		for (unsigned int n = 0; n < 64 * 4; n++)
			((uint8_t *)guest_pixels(&test))[n] = (uint8_t)(formats[i].bytes[n % 4] ^ i << 4);
		assert_ok(create(&test, 1 + i, formats[i].format, 8, 8));
		assert_ok(attach(&test, 1 + i, 1, 256, 0));
		assert_ok(transfer(&test, 1 + i, RECT(0, 0, 8, 8), 0));
		assert_ok(set_scanout(&test, 0, 1 + i, RECT(0, 0, 8, 8)));
		assert_ok(flush(&test, 1 + i, RECT(0, 0, 8, 8)));
		for (uint32_t y = 0; y < 8; y++)
			for (uint32_t x = 0; x < 8; x++)
				assert_int_equal(seen(&test, 0, 8, x, y), 0x030201 ^ i * 0x101010);
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

/* ---- tests: what was agreed on ---- */

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

/* A monitor changes while the device is paused: its driver hears of it, wherever it goes on. */
static void test_saves_events(void **state)
{
	struct virtio_gpu_resp_display_info info;
	struct gpu_test test;
	struct state saved;

	(void)state;
	make(&test, "");
	virtio_dev_pause(test.guest.dev);
	say(&test, &(struct display_message){ .type = DISPLAY_RESIZE,
					      .rect = { .width = 800, .height = 600 } });
	save(&test, &saved);
	test.guest.config_interrupts = 0;
	assert_int_equal(load(&test, &saved), 0);
	virtio_dev_resume(test.guest.dev);
	assert_int_equal(test.guest.config_interrupts, 1);
	assert_int_equal(config(&test).events_read, VIRTIO_GPU_EVENT_DISPLAY);
	get_info(&test, &info);
	assert_memory_equal(&info.pmodes[0].r, &RECT(0, 0, 800, 600), 16);
	clear_events(&test);
	virtio_dev_pause(test.guest.dev);
	virtio_dev_resume(test.guest.dev);
	assert_int_equal(test.guest.config_interrupts, 1);
	state_free(&saved);
	destroy(&test);
}

/* Monitors change while saves are taken: each has a size together with the news of it. */
static void test_saves_one_moment(void **state)
{
	struct virtio_gpu_resp_display_info info;
	struct gpu_test test;
	struct state saved;

	(void)state;
	for (unsigned int round = 0; round < 8; round++) {
		make(&test, "");
		assert_int_equal(vq_run(&test.guest, false), 0);
		virtio_dev_pause(test.guest.dev);
		for (uint32_t i = 0; i < 4; i++)
			assert_int_equal(display_send(test.display.ends[DISPLAY_GPU],
						      &(struct display_message){
							      .type = DISPLAY_RESIZE,
							      .rect = { .width = 800 + i, .height = 600 } }), 0);
		saved = (struct state){ 0 };
		assert_int_equal(virtio_dev_save(test.guest.dev, &saved), 0);
		worker_stop(&test.guest.dev->workers[0]);
		test.guest.running = false;
		assert_int_equal(load(&test, &saved), 0);
		virtio_dev_resume(test.guest.dev);
		get_info(&test, &info);
		assert_int_equal(config(&test).events_read,
				 info.pmodes[0].r.width == 1024 ? 0 : VIRTIO_GPU_EVENT_DISPLAY);
		state_free(&saved);
		destroy(&test);
	}
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
		cmocka_unit_test(test_features),
		cmocka_unit_test(test_fences),
		cmocka_unit_test(test_uuids),
		cmocka_unit_test(test_saves),
		cmocka_unit_test(test_saves_events),
		cmocka_unit_test(test_saves_one_moment),
		cmocka_unit_test(test_bad_saves),
		cmocka_unit_test(test_confined),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
