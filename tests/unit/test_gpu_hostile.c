// SPDX-License-Identifier: Apache-2.0
/* virtio-gpu and a driver that means harm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <malloc.h>
#include "tests/lib/child.h"
#include "tests/unit/gpu.h"

/* ---- requests ---- */

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

/* A list of that many entries, of which none goes with another. Its memory is the guest's last. */
static uint32_t attach_many(struct gpu_test *test, uint32_t count)
{
	const uint64_t list = VQ_RAM_BASE + MIB(3), len = count * sizeof(struct virtio_gpu_mem_entry);
	const struct virtio_gpu_resource_attach_backing request = {
		{ .type = VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING }, 1, count,
	};
	const struct vq_buffer buffers[] = {
		{ REQUEST, sizeof(request), false },
		{ list, (uint32_t)len, false },
		{ RESPONSE, sizeof(struct virtio_gpu_ctrl_hdr), true },
	};
	struct virtio_gpu_mem_entry *entries = vq_ptr(&test->guest, list, len);
	uint16_t head;

	for (uint32_t i = 0; i < count; i++)
		entries[i] = (struct virtio_gpu_mem_entry){ REQUEST, 1, 0 };
	memcpy(vq_ptr(&test->guest, REQUEST, sizeof(request)), &request, sizeof(request));
	vq_post(&test->guest, CONTROL, buffers, ARRAY_SIZE(buffers));
	vq_notify(&test->guest, CONTROL);
	vq_turn(&test->guest);
	assert_true(vq_take(&test->guest, CONTROL, &head, NULL));
	return *(uint32_t *)vq_ptr(&test->guest, RESPONSE, sizeof(uint32_t));
}

static void test_bounds_lists(void **state)
{
	const uint32_t most = 1U << 18;
	struct gpu_test test;

	(void)state;
	/* Each entry is 24 bytes here. */
	make(&test, "memory=7M");
	assert_ok(create(&test, 1, BGRX, 512, 1));
	assert_int_equal(attach_many(&test, most + 1), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_ok(attach_many(&test, most));
	/* 512 pixels, a byte at a time. */
	*(uint8_t *)vq_ptr(&test.guest, REQUEST, 1) = 0;
	assert_ok(transfer(&test, 1, RECT(0, 0, 512, 1), most - 2048));
	assert_int_equal(transfer(&test, 1, RECT(0, 0, 512, 1), most - 2047),
			 VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	destroy(&test);

	make(&test, "memory=6M");
	assert_ok(create(&test, 1, BGRX, 1, 1));
	/* Nothing of it stays. */
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(attach_many(&test, most), VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
	assert_ok(attach_many(&test, most / 2));
	destroy(&test);
}

/* What malloc() has given away; under sanitizers, which have their own, nothing. */
static size_t allocated(void)
{
	const struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
}

/* As many as there can be, with as much behind them as there can be, again and again. */
static void test_gives_memory_back(void **state)
{
	struct gpu_test test;
	size_t before;

	(void)state;
	make(&test, "memory=1M");
	before = allocated();
	for (unsigned int round = 0; round < 3; round++) {
		uint32_t count = 0, full = 0;

		while (create_blob(&test, 1 + count, 4, 4) == VIRTIO_GPU_RESP_OK_NODATA)
			count++;
		/* Each has a list, of 16 entries at first. */
		assert_in_range(count, 2000, MIB(1) / (16 * 24));
		for (uint32_t i = 0; i < count; i++) {
			assert_ok(with_id(&test, VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING, 1 + i));
			full += attach(&test, 1 + i, 100, 4, 8) == VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
		}
		assert_in_range(full, 1, count);
		assert_true(allocated() < before + MIB(1) + count * 512);
		/* One by one, or all at once. */
		for (uint32_t i = 0; round && i < count; i++)
			assert_ok(with_id(&test, VIRTIO_GPU_CMD_RESOURCE_UNREF, 1 + i));
		vq_reset(&test.guest);
		vq_start(&test.guest, FEATURES);
		assert_true(allocated() < before + KIB(64));
	}
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

/* Fences of all that was asked at once, be it right or wrong, are signalled in turn. */
static void test_fences_in_order(void **state)
{
	enum { COUNT = VQ_SIZE / 2, ROUNDS = 9 };
	struct gpu_test test;
	uint16_t heads[COUNT], head;

	(void)state;
	make(&test, "");
	for (unsigned int round = 0; round < ROUNDS; round++) {
		for (unsigned int i = 0; i < COUNT; i++) {
			const struct virtio_gpu_resource_create_2d request = {
				{ VIRTIO_GPU_CMD_RESOURCE_CREATE_2D, VIRTIO_GPU_FLAG_FENCE,
				  UINT64_MAX - i, 0, 0, { 0 } },
				/* Every other one is there already. */
				1 + round * COUNT + i / 2, BGRX, 8, 8,
			};
			const uint64_t at = REQUEST + i * 64, response = RESPONSE + i * 64;

			memcpy(vq_ptr(&test.guest, at, sizeof(request)), &request, sizeof(request));
			heads[i] = vq_post(&test.guest, CONTROL,
					   (struct vq_buffer[]){ { at, sizeof(request), false },
								 { response, 24, true } }, 2);
		}
		vq_notify(&test.guest, CONTROL);
		vq_turn(&test.guest);
		for (unsigned int i = 0; i < COUNT; i++) {
			const struct virtio_gpu_ctrl_hdr *hdr =
				vq_ptr(&test.guest, RESPONSE + i * 64, sizeof(*hdr));

			assert_true(vq_take(&test.guest, CONTROL, &head, NULL));
			assert_int_equal(head, heads[i]);
			assert_int_equal(hdr->type, i % 2 ? VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID :
							    VIRTIO_GPU_RESP_OK_NODATA);
			assert_true(hdr->flags == VIRTIO_GPU_FLAG_FENCE && hdr->fence_id == UINT64_MAX - i);
		}
	}
	destroy(&test);
}

/* Copies of much memory, one after the other: between them the thread has other things to do. */
static void test_large_copies(void **state)
{
	const struct virtio_gpu_transfer_to_host_2d request = {
		{ .type = VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D }, RECT(0, 0, 4096, 4096), 0, 1, 0,
	};
	const struct vq_buffer buffers[] = { { REQUEST, sizeof(request), false },
					     { RESPONSE, sizeof(struct virtio_gpu_ctrl_hdr), true } };
	struct gpu_test test;
	uint16_t head;

	(void)state;
	make(&test, "");
	assert_ok(create(&test, 1, BGRX, 4096, 4096));
	assert_ok(attach(&test, 1, 64, MIB(1), 0));
	memcpy(vq_ptr(&test.guest, REQUEST, sizeof(request)), &request, sizeof(request));
	for (unsigned int i = 0; i < 3; i++)
		vq_post(&test.guest, CONTROL, buffers, ARRAY_SIZE(buffers));
	vq_notify(&test.guest, CONTROL);
	for (unsigned int i = 0; i < 3; i++) {
		vq_wait(&test.guest);
		assert_true(vq_take(&test.guest, CONTROL, &head, NULL));
		assert_false(vq_take(&test.guest, CONTROL, &head, NULL));
	}
	destroy(&test);
}

/* Far outside of anything, on heads that are not there, of pictures that are too small. */
static void test_bad_cursors(void **state)
{
	static const uint32_t places[] = { 0, 4096, INT32_MAX, 1U << 31, UINT32_MAX };
	struct virtio_gpu_update_cursor cursor = {
		{ .type = VIRTIO_GPU_CMD_UPDATE_CURSOR }, { 0 }, 1, UINT32_MAX, UINT32_MAX, 0,
	};
	struct display_message message;
	struct gpu_test test;

	(void)state;
	make(&test, "heads=2");
	look(&test, 1, 1);
	assert_ok(create_blob(&test, 1, 100, 100));
	cursor.pos.scanout_id = 1;
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		cursor.pos.x = places[i];
		cursor.pos.y = places[ARRAY_SIZE(places) - 1 - i];
		post_cursor(&test, &cursor);
		assert_true(told(&test, &message));
		assert_int_equal(message.type, DISPLAY_CURSOR);
		assert_int_equal((uint32_t)message.cursor.x, cursor.pos.x);
		assert_int_equal((uint32_t)message.cursor.y, cursor.pos.y);
		assert_int_equal(message.cursor.hot_x, 63);
		assert_int_equal(message.cursor.hot_y, 63);
	}
	assert_int_equal(vq_counter(&test.guest, "errors"), 0);
	for (uint32_t head = 2; head; head <<= 1) {
		cursor.pos.scanout_id = head;
		post_cursor(&test, &cursor);
	}
	assert_int_equal(vq_counter(&test.guest, "errors"), 31);
	assert_silent(&test);
	assert_false(vq_failed(&test.guest));
	destroy(&test);
}

/* ---- what is not there, or not any more ---- */

static uint32_t ask_with_id(struct gpu_test *test, uint32_t type, uint32_t id, uint32_t room)
{
	const struct virtio_gpu_resource_unref request = { { .type = type }, id, 0 };

	return ask(test, &request, sizeof(request), room);
}

static void test_what_is_not_there(void **state)
{
	static const uint32_t numbers[] = { 2, 15, 16, 17, UINT32_MAX };
	struct gpu_test test;

	(void)state;
	make(&test, "heads=2");
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		const struct virtio_gpu_cmd_get_edid edid = { { .type = VIRTIO_GPU_CMD_GET_EDID },
							      numbers[i], 0 };

		assert_int_equal(ask(&test, &edid, sizeof(edid), sizeof(struct virtio_gpu_resp_edid)),
				 VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID);
		assert_int_equal(set_scanout(&test, numbers[i], 0, RECT(0)),
				 VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID);
		assert_int_equal(ask_with_id(&test, VIRTIO_GPU_CMD_RESOURCE_ASSIGN_UUID, numbers[i],
					     sizeof(struct virtio_gpu_resp_resource_uuid)),
				 VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	}
	/* Memory of the host's is for 3D. A refusal leaves no resource behind. */
	for (uint32_t kind = 0; kind < 5; kind++) {
		if (kind == VIRTIO_GPU_BLOB_MEM_GUEST)
			continue;
		assert_int_equal(create_blob_of(&test, 1, kind, 4096, 4096),
				 VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
		assert_int_equal(with_id(&test, VIRTIO_GPU_CMD_RESOURCE_UNREF, 1),
				 VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	}
	destroy(&test);
}

static void assert_cursor_told(struct gpu_test *test, unsigned int head, bool visible)
{
	struct display_message message;

	assert_true(told(test, &message));
	assert_int_equal(message.type, DISPLAY_CURSOR);
	assert_int_equal(message.head, head);
	assert_int_equal(message.cursor.visible, visible);
}

/* One that is on two heads and the cursor of both loses its memory, then goes; another has its number. */
static void test_destroys_what_is_shown(void **state)
{
	struct virtio_gpu_update_cursor cursor = {
		{ .type = VIRTIO_GPU_CMD_UPDATE_CURSOR }, { 0 }, 1, 0, 0, 0,
	};
	const struct virtio_gpu_rect all = RECT(0, 0, 64, 64);
	struct gpu_test test;

	(void)state;
	make(&test, "heads=2");
	paint(&test, 64, 64);
	show(&test, 0, 1, 64, 64);
	assert_ok(set_scanout(&test, 1, 1, all));
	for (uint16_t head = 0; head < 2; head++) {
		cursor.pos.scanout_id = head;
		post_cursor(&test, &cursor);
		look(&test, head, 1);
	}
	assert_ok(with_id(&test, VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING, 1));
	assert_ok(create(&test, 2, BGRX, 64, 64));
	assert_ok(set_scanout(&test, 1, 2, all));
	assert_ok(flush(&test, 2, all));
	assert_int_equal(seen(&test, 1, 64, 63, 63), 0);
	assert_ok(set_scanout(&test, 1, 1, all));
	assert_ok(flush(&test, 1, all));
	assert_shown(&test, 1, 64, 64, 0, 0);
	assert_int_equal(transfer(&test, 1, RECT(0, 0, 1, 1), 0), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	while (told(&test, &(struct display_message){ 0 }))
		;
	assert_ok(with_id(&test, VIRTIO_GPU_CMD_RESOURCE_UNREF, 1));
	for (unsigned int head = 0; head < 2; head++) {
		assert_told_rect(&test, DISPLAY_SURFACE, head, RECT(0));
		assert_cursor_told(&test, head, false);
	}
	assert_ok(create(&test, 1, BGRX, 64, 64));
	assert_ok(flush(&test, 1, all));
	assert_silent(&test);
	assert_shown(&test, 1, 64, 64, 0, 0);
	destroy(&test);
}

/* Who does not read is told of what there is by then: no damage outside of the last surface. */
static void test_destroys_what_is_read(void **state)
{
	struct display_message message = { 0 };
	uint32_t width = 0, height = 0;
	struct gpu_test test;

	(void)state;
	make(&test, "");
	show(&test, 0, 1, 256, 256);
	look(&test, 0, 1);
	for (uint32_t i = 0; i < 3000; i++)
		assert_ok(flush(&test, 1, RECT(i % 250, i % 200, 6, 56)));
	assert_ok(with_id(&test, VIRTIO_GPU_CMD_RESOURCE_UNREF, 1));
	show(&test, 0, 1, 8, 4);
	while (told(&test, &message)) {
		if (message.type == DISPLAY_SURFACE) {
			width = message.rect.width;
			height = message.rect.height;
		} else {
			assert_int_equal(message.type, DISPLAY_DAMAGE);
			assert_true(display_rect_within(&message.rect, width, height));
		}
		vq_turn(&test.guest);
	}
	assert_int_equal(width, 8);
	assert_int_equal(height, 4);
	destroy(&test);
}

/* A blob that is shown gets less memory than it had, or none. */
static void test_takes_memory_away(void **state)
{
	const struct virtio_gpu_set_scanout_blob set = {
		{ .type = VIRTIO_GPU_CMD_SET_SCANOUT_BLOB }, RECT(0, 0, 64, 64), 0, 3, 64, 64, BGRX, 0,
		{ 256 }, { 0 },
	};
	const struct virtio_gpu_rect any = RECT(0, 0, UINT32_MAX, UINT32_MAX);
	const struct virtio_gpu_update_cursor cursor = {
		{ .type = VIRTIO_GPU_CMD_UPDATE_CURSOR }, { 0 }, 3, 0, 0, 0,
	};
	struct gpu_test test;

	(void)state;
	make(&test, "");
	paint(&test, 64, 64);
	assert_ok(create_blob(&test, 3, 64 * 64 * 4, 64 * 64 * 4));
	assert_ok(ASK(&test, set));
	assert_ok(with_id(&test, VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING, 3));
	assert_ok(flush(&test, 3, any));
	assert_shown(&test, 0, 64, 64, 0, 0);
	/* It is worth as much of a turn, or there could be no end of it. */
	assert_int_equal(vq_counter(&test.guest, "shown_bytes"), 2 * 64 * 64 * 4);
	memset(guest_pixels(&test), 0xaa, 64 * 64 * 4);
	/* Of the half that is there 32 lines are shown, the others stay. */
	assert_ok(attach(&test, 3, 1, 32 * 256, 0));
	post_cursor(&test, &cursor);
	assert_ok(flush(&test, 3, any));
	assert_int_equal(seen(&test, 0, 64, 5, 31), 0xaaaaaa);
	assert_int_equal(seen(&test, 0, 64, 5, 32), color(5, 32));
	assert_ok(flush(&test, 3, RECT(UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX)));
	assert_false(vq_failed(&test.guest));
	destroy(&test);
}

/* What a resource is copied from has gone to the balloon. */
static void test_takes_pages_away(void **state)
{
	struct gpu_test test;

	(void)state;
	if (child_emulator()) {
		print_message("skipped: %s has no MADV_REMOVE\n", child_emulator());
		skip();
	}
	make(&test, "");
	paint(&test, 64, 64);
	show(&test, 0, 1, 64, 64);
	assert_int_equal(mem_discard(&test.guest.mem, PIXELS, 64 * 64 * 4), 64 * 64 * 4);
	assert_ok(flush(&test, 1, RECT(0, 0, 64, 64)));
	assert_shown(&test, 0, 64, 64, 0, 0);
	assert_ok(transfer(&test, 1, RECT(0, 0, 64, 64), 0));
	assert_ok(flush(&test, 1, RECT(0, 0, 64, 64)));
	assert_int_equal(seen(&test, 0, 64, 5, 31), 0);
	destroy(&test);
}

/* Memory that is none of RAM: files that the guest has mapped may be cut at any time. */
static void test_takes_no_window(void **state)
{
	const uint64_t at = VQ_RAM_BASE + VQ_RAM_SIZE;
	void *window = mmap(NULL, MIB(2), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct gpu_test test;

	(void)state;
	assert_ptr_not_equal(window, MAP_FAILED);
	make(&test, "");
	assert_int_equal(mem_add_window(&test.guest.mem, at, MIB(2), window), 0);
	assert_ok(create(&test, 1, BGRX, 64, 64));
	/* The first entry is the last of RAM, the second is the window's. */
	assert_int_equal(attach(&test, 1, 2, 4096, at - PIXELS), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_int_equal(attach(&test, 1, 1, (uint32_t)(at - PIXELS) + 1, 0),
			 VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_ok(attach(&test, 1, 1, (uint32_t)(at - PIXELS), 0));
	destroy(&test);
	munmap(window, MIB(2));
}

/* ---- what the display may say ---- */

static void test_distrusts_the_display(void **state)
{
	struct display_message message;
	unsigned int seed = 1;
	struct gpu_test test;

	(void)state;
	make(&test, "heads=2");
	for (unsigned int i = 0; i < 2000; i++) {
		uint8_t *bytes = (uint8_t *)&message;

		for (size_t n = 0; n < sizeof(message); n++)
			bytes[n] = (uint8_t)(rand_r(&seed) >> 8);
		message.type %= DISPLAY_RELEASE + 2;
		message.head = i % 5 ? i % 3 : message.head;
		while (write(test.display.ends[DISPLAY_GPU], &message,
			     i % 7 ? sizeof(message) : 1 + i % sizeof(message)) < 0)
			vq_turn(&test.guest);
	}
	vq_turn(&test.guest);
	show(&test, 0, 1, 64, 64);
	for (unsigned int head = 0; head < 2; head++) {
		struct virtio_gpu_resp_display_info info;

		get_info(&test, &info);
		assert_in_range(info.pmodes[head].r.width, 64, 4095);
		assert_in_range(info.pmodes[head].r.height, 64, 4095);
	}
	assert_false(vq_failed(&test.guest));
	destroy(&test);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_resources),
		cmocka_unit_test(test_bad_backing),
		cmocka_unit_test(test_bad_transfers),
		cmocka_unit_test(test_bad_scanouts),
		cmocka_unit_test(test_bounds_memory),
		cmocka_unit_test(test_bounds_lists),
		cmocka_unit_test(test_gives_memory_back),
		cmocka_unit_test(test_bad_requests),
		cmocka_unit_test(test_fences_in_order),
		cmocka_unit_test(test_large_copies),
		cmocka_unit_test(test_bad_cursors),
		cmocka_unit_test(test_what_is_not_there),
		cmocka_unit_test(test_destroys_what_is_shown),
		cmocka_unit_test(test_destroys_what_is_read),
		cmocka_unit_test(test_takes_memory_away),
		cmocka_unit_test(test_takes_pages_away),
		cmocka_unit_test(test_takes_no_window),
		cmocka_unit_test(test_distrusts_the_display),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
