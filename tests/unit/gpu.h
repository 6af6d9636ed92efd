/* SPDX-License-Identifier: Apache-2.0 */
/* A guest with a graphics adapter, whose display is the test: requests by hand, and what is seen then. */
#ifndef TESTS_UNIT_GPU_H
#define TESTS_UNIT_GPU_H

#include <linux/virtio_gpu.h>
#include <sys/mman.h>
#include "devices/display/display.h"
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
};

#define RECT(...) ((struct virtio_gpu_rect){ __VA_ARGS__ })

/* A device whose display is the test. */
static inline int plug(struct gpu_test *test)
{
	display_init(&test->display);
	test->display.shots = true;
	test->guest.host.display = &test->display;
	return vq_plug(&test->guest, test->guest.conf);
}

static inline void map(struct gpu_test *test)
{
	test->heads = mmap(NULL, test->display.heads * sizeof(*test->heads), PROT_READ,
			   MAP_SHARED, test->display.memory, 0);
	assert_ptr_not_equal(test->heads, MAP_FAILED);
}

static inline void unplug(struct gpu_test *test)
{
	virtio_dev_free(test->guest.dev);
	test->guest.dev = NULL;
	display_unmap(test->heads, test->display.heads);
	display_close(&test->display);
}

static inline void make(struct gpu_test *test, const char *options)
{
	*test = (struct gpu_test){ 0 };
	assert_int_equal(vq_guest_make(&test->guest, &gpu_class, options), 0);
	virtio_dev_free(test->guest.dev);
	assert_int_equal(plug(test), 0);
	map(test);
	vq_start(&test->guest, FEATURES);
}

static inline void destroy(struct gpu_test *test)
{
	unplug(test);
	vq_guest_free(&test->guest);
}

/* ---- requests ---- */

/* The type of the response, which is in guest memory; 0: there is none. */
static inline uint32_t ask(struct gpu_test *test, const void *request, uint32_t len, uint32_t room)
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

static inline uint32_t create(struct gpu_test *test, uint32_t id, uint32_t format, uint32_t width,
		       uint32_t height)
{
	const struct virtio_gpu_resource_create_2d request = {
		{ .type = VIRTIO_GPU_CMD_RESOURCE_CREATE_2D }, id, format, width, height,
	};

	return ASK(test, request);
}

static inline uint32_t with_id(struct gpu_test *test, uint32_t type, uint32_t id)
{
	const struct virtio_gpu_resource_unref request = { { .type = type }, id, 0 };

	return ASK(test, request);
}

/* With entries of so many bytes each, which are not in a row in guest memory where step is larger. */
static inline uint32_t attach(struct gpu_test *test, uint32_t id, uint32_t count, uint32_t len, uint64_t step)
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

static inline uint32_t set_scanout(struct gpu_test *test, uint32_t scanout, uint32_t id,
			    struct virtio_gpu_rect rect)
{
	const struct virtio_gpu_set_scanout request = {
		{ .type = VIRTIO_GPU_CMD_SET_SCANOUT }, rect, scanout, id,
	};

	return ASK(test, request);
}

static inline uint32_t transfer(struct gpu_test *test, uint32_t id, struct virtio_gpu_rect rect,
			 uint64_t offset)
{
	const struct virtio_gpu_transfer_to_host_2d request = {
		{ .type = VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D }, rect, offset, id, 0,
	};

	return ASK(test, request);
}

static inline uint32_t flush(struct gpu_test *test, uint32_t id, struct virtio_gpu_rect rect)
{
	const struct virtio_gpu_resource_flush request = {
		{ .type = VIRTIO_GPU_CMD_RESOURCE_FLUSH }, rect, id, 0,
	};

	return ASK(test, request);
}

static inline uint32_t create_blob_of(struct gpu_test *test, uint32_t id, uint32_t memory,
				      uint64_t size, uint32_t len)
{
	const struct {
		struct virtio_gpu_resource_create_blob head;
		struct virtio_gpu_mem_entry entry;
	} request = {
		{ { .type = VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB }, .resource_id = id,
		  .blob_mem = memory, .nr_entries = 1, .size = size },
		{ PIXELS, len, 0 },
	};

	return ASK(test, request);
}

static inline uint32_t create_blob(struct gpu_test *test, uint32_t id, uint64_t size, uint32_t len)
{
	return create_blob_of(test, id, VIRTIO_GPU_BLOB_MEM_GUEST, size, len);
}

static inline void post_cursor(struct gpu_test *test, const struct virtio_gpu_update_cursor *request)
{
	uint16_t head;

	memcpy(vq_ptr(&test->guest, REQUEST, sizeof(*request)), request, sizeof(*request));
	vq_post(&test->guest, CURSOR, &(struct vq_buffer){ REQUEST, sizeof(*request), false }, 1);
	vq_notify(&test->guest, CURSOR);
	vq_turn(&test->guest);
	assert_true(vq_take(&test->guest, CURSOR, &head, NULL));
}

/* A resource with all of its memory behind it, on the head, with its pixels there. */
static inline void show(struct gpu_test *test, uint32_t head, uint32_t id, uint32_t width, uint32_t height)
{
	const struct virtio_gpu_rect all = RECT(0, 0, width, height);

	assert_ok(create(test, id, BGRX, width, height));
	assert_ok(attach(test, id, 1, width * height * 4, 0));
	assert_ok(transfer(test, id, all, 0));
	assert_ok(set_scanout(test, head, id, all));
	assert_ok(flush(test, id, all));
}

static inline void get_uuid(struct gpu_test *test, uint32_t id, uint8_t uuid[16])
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

static inline void get_info(struct gpu_test *test, struct virtio_gpu_resp_display_info *info)
{
	const struct virtio_gpu_ctrl_hdr request = { .type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO };

	assert_int_equal(ask(test, &request, sizeof(request), sizeof(*info)),
			 VIRTIO_GPU_RESP_OK_DISPLAY_INFO);
	memcpy(info, vq_ptr(&test->guest, RESPONSE, sizeof(*info)), sizeof(*info));
}

/* ---- pixels ---- */

static inline uint32_t *guest_pixels(struct gpu_test *test)
{
	return vq_ptr(&test->guest, PIXELS, MIB(4));
}

/* Something else in each pixel. */
static inline uint32_t color(uint32_t x, uint32_t y)
{
	return (x * 3 & 0xff) | (y * 5 & 0xff) << 8 | ((x ^ y) & 0xff) << 16;
}

static inline void paint(struct gpu_test *test, uint32_t width, uint32_t height)
{
	for (uint32_t y = 0; y < height; y++)
		for (uint32_t x = 0; x < width; x++)
			guest_pixels(test)[y * width + x] = color(x, y);
}

static inline uint32_t seen(const struct gpu_test *test, unsigned int head, uint32_t width, uint32_t x,
		     uint32_t y)
{
	uint32_t pixel;

	memcpy(&pixel, test->heads[head].pixels + (y * width + x) * 4, sizeof(pixel));
	return pixel & 0xffffff;
}

/* The head shows width x height pixels of the picture from (left, top) on. */
static inline void assert_shown(const struct gpu_test *test, unsigned int head, uint32_t width,
			 uint32_t height, uint32_t left, uint32_t top)
{
	for (uint32_t y = 0; y < height; y++)
		for (uint32_t x = 0; x < width; x++)
			assert_int_equal(seen(test, head, width, x, y), color(left + x, top + y));
}

/* ---- messages ---- */

static inline bool told(struct gpu_test *test, struct display_message *ret_message)
{
	return display_receive(test->display.ends[DISPLAY_GPU], ret_message) == 0;
}

static inline void assert_told_rect(struct gpu_test *test, enum display_type type, unsigned int head,
			     struct virtio_gpu_rect rect)
{
	struct display_message message;

	assert_true(told(test, &message));
	assert_int_equal(message.type, type);
	assert_int_equal(message.head, head);
	assert_memory_equal(&message.rect, &rect, sizeof(rect));
}

static inline void assert_silent(struct gpu_test *test)
{
	struct display_message message;

	assert_false(told(test, &message));
}

static inline void say(struct gpu_test *test, const struct display_message *message)
{
	assert_int_equal(display_send(test->display.ends[DISPLAY_GPU], message), 0);
	vq_turn(&test->guest);
}

static inline void look(struct gpu_test *test, uint16_t head, uint32_t count)
{
	say(test, &(struct display_message){ .type = DISPLAY_LOOKING, .head = head, .value = count });
}

#endif
