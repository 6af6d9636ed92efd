// SPDX-License-Identifier: Apache-2.0
/* 3D as a guest's Mesa asks for it: pictures that Mesa of this host draws in software, and commands that lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <linux/virtio_gpu.h>
#include <sys/mman.h>
#include "devices/display/display.h"
#include "tests/lib/child.h"
#include "tests/unit/driver.h"

extern const struct virtio_class gpu_class;

#define REQUEST (VQ_RAM_BASE + MIB(1))
#define RESPONSE (VQ_RAM_BASE + MIB(3))
#define PIXELS (VQ_RAM_BASE + MIB(4))
#define CONTEXT 7
#define SIDE 64
#define TARGET 1   /* the resource that is drawn to */
#define VERTICES 2
#define BGRA VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM
#define BACKGROUND 0xff204080
#define FOREGROUND 0xffff0000

/* Gallium's and virglrenderer's numbers, as a guest's Mesa has them. */
enum { PIPE_BUFFER = 0, PIPE_TEXTURE_2D = 2 };
enum { BIND_RENDER_TARGET = 1 << 1, BIND_VERTEX_BUFFER = 1 << 4, BIND_SCANOUT = 1 << 18 };
enum { OBJECT_BLEND = 1, OBJECT_RASTERIZER, OBJECT_DSA, OBJECT_SHADER, OBJECT_VERTEX_ELEMENTS,
       OBJECT_SURFACE = 8 };
enum { CREATE_OBJECT = 1, BIND_OBJECT, SET_VIEWPORT = 4, SET_FRAMEBUFFER, SET_VERTEX_BUFFERS, CLEAR,
       DRAW_VBO, INLINE_WRITE, CREATE_SUB_CTX = 29, DESTROY_SUB_CTX, BIND_SHADER, PIPE_RESOURCE_CREATE = 48 };
enum { SHADER_VERTEX, SHADER_FRAGMENT };
#define FORMAT_R8_UNORM 64
#define FORMAT_R32G32B32A32_FLOAT 31
#define TRIANGLES 4

struct stream {
	uint32_t words[4096];
	uint32_t count;
};

struct test {
	struct vq_guest guest;
	struct display display;
	struct display_head *heads;
	struct stream stream;
};

/* ---- the device ---- */

static void make(struct test *test, const char *options)
{
	*test = (struct test){ 0 };
	CHILD_CHECK(vq_guest_make(&test->guest, &gpu_class, options) == 0);
	virtio_dev_free(test->guest.dev);
	display_init(&test->display);
	test->display.shots = true;
	test->guest.host.display = &test->display;
	CHILD_CHECK(vq_plug(&test->guest, test->guest.conf) == 0);
	test->heads = mmap(NULL, sizeof(*test->heads), PROT_READ, MAP_SHARED, test->display.memory, 0);
	CHILD_CHECK(test->heads != MAP_FAILED);
}

static void start(struct test *test)
{
	vq_start(&test->guest, 1ULL << VIRTIO_GPU_F_VIRGL | 1ULL << VIRTIO_GPU_F_EDID |
				       1ULL << VIRTIO_GPU_F_RESOURCE_BLOB);
}

static void destroy(struct test *test)
{
	for (unsigned int i = 0; test->guest.running && i < test->guest.dev->worker_count; i++)
		worker_stop(&test->guest.dev->workers[i]);
	virtio_dev_free(test->guest.dev);
	test->guest.dev = NULL;
	display_unmap(test->heads, 1);
	display_close(&test->display);
	vq_guest_free(&test->guest);
}

/* The type of the response, whose room bytes are in guest memory. */
static uint32_t ask(struct test *test, const void *request, uint32_t len, uint32_t room)
{
	const struct vq_buffer buffers[] = { { REQUEST, len, false }, { RESPONSE, room, true } };
	const struct virtio_gpu_ctrl_hdr *hdr = vq_ptr(&test->guest, RESPONSE, sizeof(*hdr));
	uint16_t head;

	memcpy(vq_ptr(&test->guest, REQUEST, len), request, len);
	vq_post(&test->guest, 0, buffers, 2);
	vq_notify(&test->guest, 0);
	if (!test->guest.running)
		vq_turn(&test->guest);
	CHILD_CHECK(vq_await(&test->guest, 0, &head, NULL));
	return hdr->type;
}

#define ASK(test, request) ask((test), &(request), sizeof(request), sizeof(struct virtio_gpu_ctrl_hdr))

static uint32_t context(struct test *test, uint32_t type, uint32_t id)
{
	const struct virtio_gpu_ctx_create create = { { .type = type, .ctx_id = id }, 0, 0, { 0 } };

	return type == VIRTIO_GPU_CMD_CTX_CREATE ? ASK(test, create) : ASK(test, create.hdr);
}

static uint32_t in_context(struct test *test, uint32_t type, uint32_t id, uint32_t resource)
{
	const struct virtio_gpu_ctx_resource request = { { .type = type, .ctx_id = id }, resource, 0 };

	return ASK(test, request);
}

static uint32_t create(struct test *test, struct virtio_gpu_resource_create_3d shape)
{
	shape.hdr.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_3D;
	return ASK(test, shape);
}

static struct virtio_gpu_resource_create_3d picture(uint32_t id)
{
	return (struct virtio_gpu_resource_create_3d){
		.resource_id = id, .target = PIPE_TEXTURE_2D, .format = BGRA,
		.bind = BIND_RENDER_TARGET | BIND_SCANOUT, .width = SIDE, .height = SIDE,
		.depth = 1, .array_size = 1,
	};
}

static uint32_t attach(struct test *test, uint32_t id, uint32_t len)
{
	const struct {
		struct virtio_gpu_resource_attach_backing head;
		struct virtio_gpu_mem_entry entries[2];
	} request = {
		{ { .type = VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING }, id, 2 },
		/* Not in the order of addresses. */
		{ { PIXELS + MIB(1), len / 2, 0 }, { PIXELS, len - len / 2, 0 } },
	};

	return ASK(test, request);
}

static uint32_t transfer(struct test *test, uint32_t type, struct virtio_gpu_transfer_host_3d request)
{
	request.hdr.type = type;
	return ASK(test, request);
}

static struct virtio_gpu_transfer_host_3d whole(void)
{
	return (struct virtio_gpu_transfer_host_3d){
		.box = { 0, 0, 0, SIDE, SIDE, 1 }, .resource_id = TARGET, .stride = SIDE * 4,
	};
}

static uint32_t submit(struct test *test, uint32_t id, const struct stream *stream, uint32_t told)
{
	struct {
		struct virtio_gpu_cmd_submit head;
		uint32_t words[ARRAY_SIZE(stream->words)];
	} request = { { { .type = VIRTIO_GPU_CMD_SUBMIT_3D, .ctx_id = id }, told, 0 }, { 0 } };

	memcpy(request.words, stream->words, stream->count * 4);
	return ask(test, &request, (uint32_t)sizeof(request.head) + stream->count * 4,
		   sizeof(struct virtio_gpu_ctrl_hdr));
}

#define OK VIRTIO_GPU_RESP_OK_NODATA

/* ---- commands ---- */

static uint32_t bits(float value)
{
	uint32_t word;

	memcpy(&word, &value, sizeof(word));
	return word;
}

static void put(struct stream *stream, const uint32_t *words, uint32_t count)
{
	memcpy(stream->words + stream->count, words, count * sizeof(*words));
	stream->count += count;
}

#define COMMAND(stream, command, object, ...) \
	put((stream), (const uint32_t[]){ (command) | (object) << 8 | \
		(uint32_t)(sizeof((const uint32_t[]){ __VA_ARGS__ }) / 4) << 16, __VA_ARGS__ }, \
	    1 + sizeof((const uint32_t[]){ __VA_ARGS__ }) / 4)

static void put_shader(struct stream *stream, uint32_t handle, uint32_t type, const char *text)
{
	uint32_t words[64] = { 0 }, len = (uint32_t)strlen(text) + 1, count = (len + 3) / 4;

	memcpy(words, text, len);
	put(stream, (const uint32_t[]){ CREATE_OBJECT | OBJECT_SHADER << 8 | (5 + count) << 16,
					handle, type, len, 300, 0 }, 6);
	put(stream, words, count);
	COMMAND(stream, BIND_SHADER, 0, handle, type);
}

static void put_clear(struct stream *stream)
{
	COMMAND(stream, CREATE_OBJECT, OBJECT_SURFACE, 1, TARGET, BGRA, 0, 0);
	COMMAND(stream, SET_FRAMEBUFFER, 0, 1, 0, 1);
	COMMAND(stream, CLEAR, 0, 4, bits(0x20 / 255.0f), bits(0x40 / 255.0f), bits(0x80 / 255.0f),
		bits(1), 0, 0, 0);
}

/* Half of the picture: where x + y is small. */
static void put_triangle(struct stream *stream)
{
	const uint32_t one = bits(1), minus = bits(-1), half = bits(SIDE / 2);
	const uint32_t mask = 0xfu << 27;

	COMMAND(stream, CREATE_OBJECT, OBJECT_BLEND, 2, 0, 0, mask, mask, mask, mask, mask, mask, mask,
		mask);
	COMMAND(stream, BIND_OBJECT, OBJECT_BLEND, 2);
	COMMAND(stream, CREATE_OBJECT, OBJECT_DSA, 3, 0, 0, 0, 0);
	COMMAND(stream, BIND_OBJECT, OBJECT_DSA, 3);
	COMMAND(stream, CREATE_OBJECT, OBJECT_RASTERIZER, 4, 1 << 1 | 1 << 29, one, 0, 0, one, 0, 0, 0);
	COMMAND(stream, BIND_OBJECT, OBJECT_RASTERIZER, 4);
	COMMAND(stream, CREATE_OBJECT, OBJECT_VERTEX_ELEMENTS, 5, 0, 0, 0, FORMAT_R32G32B32A32_FLOAT);
	COMMAND(stream, BIND_OBJECT, OBJECT_VERTEX_ELEMENTS, 5);
	put_shader(stream, 6, SHADER_VERTEX,
		   "VERT\nDCL IN[0]\nDCL OUT[0], POSITION\n  0: MOV OUT[0], IN[0]\n  1: END\n");
	put_shader(stream, 7, SHADER_FRAGMENT,
		   "FRAG\nDCL OUT[0], COLOR\nIMM[0] FLT32 { 1.0, 0.0, 0.0, 1.0}\n"
		   "  0: MOV OUT[0], IMM[0]\n  1: END\n");
	COMMAND(stream, SET_VIEWPORT, 0, 0, half, half, bits(0.5f), half, half, bits(0.5f));
	COMMAND(stream, INLINE_WRITE, 0, VERTICES, 0, 0, 0, 0, 0, 0, 0, 3 * 16, 1, 1, /* the box */
		minus, minus, 0, one, one, minus, 0, one, minus, one, 0, one);
	COMMAND(stream, SET_VERTEX_BUFFERS, 0, 16, 0, VERTICES);
	COMMAND(stream, DRAW_VBO, 0, 0, 3, TRIANGLES, 0, 1, 0, 0, 0, 0, 0, 2, 0);
}

/* A context that sees both resources. */
static void prepare(struct test *test)
{
	const struct virtio_gpu_resource_create_3d vertices = {
		.resource_id = VERTICES, .target = PIPE_BUFFER, .format = FORMAT_R8_UNORM,
		.bind = BIND_VERTEX_BUFFER, .width = 3 * 16, .height = 1, .depth = 1, .array_size = 1,
	};

	CHILD_CHECK(context(test, VIRTIO_GPU_CMD_CTX_CREATE, CONTEXT) == OK);
	CHILD_CHECK(create(test, picture(TARGET)) == OK);
	CHILD_CHECK(create(test, vertices) == OK);
	CHILD_CHECK(attach(test, TARGET, SIDE * SIDE * 4) == OK);
	for (uint32_t id = TARGET; id <= VERTICES; id++)
		CHILD_CHECK(in_context(test, VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, CONTEXT, id) == OK);
}

static void draw(struct test *test)
{
	struct stream *stream = &test->stream;

	stream->count = 0;
	put_clear(stream);
	put_triangle(stream);
	CHILD_CHECK(submit(test, CONTEXT, stream, stream->count * 4) == OK);
}

/* What was drawn, at (x, y) of what is in rows from pixels on. Nobody says whose the edge is. */
static bool is_right(const uint32_t *pixels, uint32_t x, uint32_t y)
{
	uint32_t pixel = pixels[y * SIDE + x];

	if (x + y + 1 == SIDE)
		return pixel == FOREGROUND || pixel == BACKGROUND;
	return pixel == (x + y < SIDE ? FOREGROUND : BACKGROUND);
}

static void check_picture(const uint32_t *pixels)
{
	for (uint32_t i = 0; i < SIDE * SIDE; i++)
		CHILD_CHECK(is_right(pixels, i % SIDE, i / SIDE));
}

/* The backing's halves in a row. */
static void check_memory(struct test *test)
{
	const uint32_t len = SIDE * SIDE * 4;
	static uint32_t pixels[SIDE * SIDE];

	memcpy(pixels, vq_ptr(&test->guest, PIXELS + MIB(1), len / 2), len / 2);
	memcpy(pixels + SIDE * SIDE / 2, vq_ptr(&test->guest, PIXELS, len / 2), len / 2);
	check_picture(pixels);
}

/* ---- the tests ---- */

static void point(struct test *test)
{
	const struct virtio_gpu_update_cursor request = {
		{ .type = VIRTIO_GPU_CMD_UPDATE_CURSOR }, { 0 }, TARGET, 0, 0, 0,
	};
	uint16_t head;

	memcpy(vq_ptr(&test->guest, REQUEST, sizeof(request)), &request, sizeof(request));
	vq_post(&test->guest, 1, &(struct vq_buffer){ REQUEST, sizeof(request), false }, 1);
	vq_notify(&test->guest, 1);
	if (!test->guest.running)
		vq_turn(&test->guest);
	CHILD_CHECK(vq_await(&test->guest, 1, &head, NULL));
	check_picture((const uint32_t *)(const void *)test->heads->cursor);
}

static void show(struct test *test)
{
	const struct virtio_gpu_set_scanout set = {
		{ .type = VIRTIO_GPU_CMD_SET_SCANOUT }, { 0, 0, SIDE, SIDE }, 0, TARGET,
	};
	const struct virtio_gpu_resource_flush flush = {
		{ .type = VIRTIO_GPU_CMD_RESOURCE_FLUSH }, { 0, 0, SIDE, SIDE }, TARGET, 0,
	};

	/* What was drawn so far is there at once. */
	CHILD_CHECK(ASK(test, set) == OK);
	check_picture((const uint32_t *)(const void *)test->heads->pixels);
	CHILD_CHECK(ASK(test, flush) == OK);
	check_picture((const uint32_t *)(const void *)test->heads->pixels);
	point(test);
}

static int draws(void *arg)
{
	struct test *test = arg;

	prepare(test);
	draw(test);
	CHILD_CHECK(transfer(test, VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D, whole()) == OK);
	check_memory(test);
	show(test);
	CHILD_CHECK(context(test, VIRTIO_GPU_CMD_CTX_DESTROY, CONTEXT) == OK);
	return 0;
}

static struct test shared;

static int drawn(void *arg)
{
	make(arg, "3d");
	start(arg);
	draws(arg);
	/* All is new after a reset. */
	vq_reset(&((struct test *)arg)->guest);
	((struct test *)arg)->guest.next = VQ_RAM_BASE;
	start(arg);
	draws(arg);
	destroy(arg);
	return 0;
}

static void test_drawn(void **state)
{
	(void)state;
	child_succeeds(geteuid(), drawn, &shared);
}

static int confined(void *arg)
{
	struct test *test = arg;

	child_needs_filters();
	CHILD_CHECK(filter_report_violations(NULL) == 0);
	make(test, "3d");
	CHILD_CHECK(vq_run(&test->guest, true) == 0);
	start(test);
	draws(test);
	vq_reset(&test->guest);
	destroy(test);
	return 0;
}

static void test_confined(void **state)
{
	(void)state;
	child_succeeds(geteuid(), confined, &shared);
}

static int capsets(void *arg)
{
	struct test *test = arg;
	struct virtio_gpu_get_capset_info ask_info = { { .type = VIRTIO_GPU_CMD_GET_CAPSET_INFO }, 0, 0 };
	struct virtio_gpu_get_capset ask_set = { { .type = VIRTIO_GPU_CMD_GET_CAPSET }, 0, 0 };
	const struct virtio_gpu_resp_capset_info *info;
	uint32_t size;

	make(test, "3d");
	start(test);
	info = vq_ptr(&test->guest, RESPONSE, sizeof(*info));
	for (uint32_t id = 1; id <= 2; id++) {
		ask_info.capset_index = id - 1;
		CHILD_CHECK(ask(test, &ask_info, sizeof(ask_info), sizeof(*info)) ==
			    VIRTIO_GPU_RESP_OK_CAPSET_INFO);
		CHILD_CHECK(info->capset_id == id && info->capset_max_version == id);
		size = info->capset_max_size;
		ask_set.capset_id = ask_set.capset_version = id;
		CHILD_CHECK(ask(test, &ask_set, sizeof(ask_set), 24 + size) == VIRTIO_GPU_RESP_OK_CAPSET);
		CHILD_CHECK(*(uint32_t *)vq_ptr(&test->guest, RESPONSE + 24, 4) == id);
		/* Without room; of a version that there is not. */
		CHILD_CHECK(ask(test, &ask_set, sizeof(ask_set), 24 + size - 1) !=
			    VIRTIO_GPU_RESP_OK_CAPSET);
		ask_set.capset_version = id + 1;
		CHILD_CHECK(ask(test, &ask_set, sizeof(ask_set), 24 + size) != VIRTIO_GPU_RESP_OK_CAPSET);
	}
	ask_info.capset_index = 2;
	CHILD_CHECK(ask(test, &ask_info, sizeof(ask_info), sizeof(*info)) !=
		    VIRTIO_GPU_RESP_OK_CAPSET_INFO);
	ask_set.capset_id = 3;
	CHILD_CHECK(ask(test, &ask_set, sizeof(ask_set), 4096) != VIRTIO_GPU_RESP_OK_CAPSET);
	destroy(test);
	return 0;
}

static void test_capsets(void **state)
{
	(void)state;
	child_succeeds(geteuid(), capsets, &shared);
}

/* Sizes that add up to more than there is, or to less than nothing. */
static int resources(void *arg)
{
	struct test *test = arg;
	struct virtio_gpu_resource_create_3d shape;

	make(test, "3d,memory=1M");
	start(test);
	CHILD_CHECK(create(test, picture(0)) != OK);
	CHILD_CHECK(create(test, picture(1)) == OK);
	CHILD_CHECK(create(test, picture(1)) != OK);
#define REFUSED(member, value) \
	shape = picture(2), shape.member = (value), CHILD_CHECK(create(test, shape) != OK)
	REFUSED(target, 9);
	REFUSED(target, UINT32_MAX);
	REFUSED(format, UINT32_MAX);
	REFUSED(width, 0);
	REFUSED(width, UINT32_MAX);
	REFUSED(height, 0x80000000);
	REFUSED(depth, 0);
	REFUSED(depth, UINT32_MAX);
	REFUSED(array_size, UINT32_MAX);
	REFUSED(last_level, UINT32_MAX);
	REFUSED(nr_samples, UINT32_MAX);
#undef REFUSED
	/* What is given back can be taken again, and not more. */
	for (int turn = 0; turn < 3; turn++) {
		uint32_t id = 2;

		while (create(test, picture(id)) == OK)
			id++;
		/* Twice: drawn there, and here for heads to show. */
		CHILD_CHECK(id - 1 == MIB(1) / (2 * SIDE * SIDE * 4));
		while (--id > 1) {
			const struct virtio_gpu_resource_unref unref = {
				{ .type = VIRTIO_GPU_CMD_RESOURCE_UNREF }, id, 0,
			};

			CHILD_CHECK(ASK(test, unref) == OK);
		}
	}
	destroy(test);
	return 0;
}

static void test_resources(void **state)
{
	(void)state;
	child_succeeds(geteuid(), resources, &shared);
}

static uint32_t show_as(struct test *test, uint32_t resource, uint32_t width, uint32_t height)
{
	const struct virtio_gpu_set_scanout_blob set = {
		.hdr.type = VIRTIO_GPU_CMD_SET_SCANOUT_BLOB, .r = { 0, 0, 16, 16 },
		.resource_id = resource, .width = width, .height = height, .format = BGRA,
		.strides = { width * 4 },
	};

	return ASK(test, set);
}

/* Of as many bytes, but nothing that can be fetched. */
static int shapes(void *arg)
{
	struct test *test = arg;

	make(test, "3d");
	start(test);
	prepare(test);
	CHILD_CHECK(show_as(test, TARGET, SIDE, SIDE) == OK);
	CHILD_CHECK(show_as(test, TARGET, 2 * SIDE, SIDE / 2) != OK);
	CHILD_CHECK(show_as(test, TARGET, SIDE / 2, 2 * SIDE) != OK);
	destroy(test);
	return 0;
}

static void test_shapes(void **state)
{
	(void)state;
	child_succeeds(geteuid(), shapes, &shared);
}

static int transfers(void *arg)
{
	struct test *test = arg;
	struct virtio_gpu_transfer_host_3d request;

	make(test, "3d");
	start(test);
	prepare(test);
#define REFUSED(member, value) do { \
	request = whole(); \
	request.member = (value); \
	CHILD_CHECK(transfer(test, VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D, request) != OK); \
	CHILD_CHECK(transfer(test, VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D, request) != OK); } while (0)
	REFUSED(resource_id, 99);
	REFUSED(resource_id, VERTICES); /* without a backing */
	REFUSED(hdr.ctx_id, 99);
	REFUSED(box.x, 1);
	REFUSED(box.y, UINT32_MAX);
	REFUSED(box.z, 1);
	REFUSED(box.w, SIDE + 1);
	REFUSED(box.w, 0);
	REFUSED(box.h, UINT32_MAX);
	REFUSED(box.d, 2);
	REFUSED(level, 1);
	REFUSED(level, UINT32_MAX);
	REFUSED(offset, 4);
	REFUSED(offset, UINT64_MAX);
	REFUSED(stride, UINT32_MAX);
	REFUSED(stride, SIDE * 8);
#undef REFUSED
	CHILD_CHECK(transfer(test, VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D, whole()) == OK);
	destroy(test);
	return 0;
}

static void test_transfers(void **state)
{
	(void)state;
	child_succeeds(geteuid(), transfers, &shared);
}

static int contexts(void *arg)
{
	struct test *test = arg;
	struct stream *stream = &test->stream;
	uint32_t id = 1;

	make(test, "3d");
	start(test);
	CHILD_CHECK(context(test, VIRTIO_GPU_CMD_CTX_CREATE, 0) != OK);
	CHILD_CHECK(context(test, VIRTIO_GPU_CMD_CTX_DESTROY, 1) != OK);
	CHILD_CHECK(in_context(test, VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, 1, 1) != OK);
	CHILD_CHECK(context(test, VIRTIO_GPU_CMD_CTX_CREATE, 1) == OK);
	CHILD_CHECK(context(test, VIRTIO_GPU_CMD_CTX_CREATE, 1) != OK);
	CHILD_CHECK(in_context(test, VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, 1, 1) != OK);
	/* OpenGL's are counted as they are asked for. */
	for (uint32_t sub = 1; sub < 100; sub++) {
		stream->count = 0;
		COMMAND(stream, CREATE_SUB_CTX, 0, sub);
		CHILD_CHECK((submit(test, 1, stream, 8) == OK) == (sub <= 32));
	}
	/* The first one is gone with what was too much. */
	while (context(test, VIRTIO_GPU_CMD_CTX_CREATE, ++id) == OK)
		CHILD_CHECK(id <= 65);
	CHILD_CHECK(id == 66);
	destroy(test);
	return 0;
}

static void test_contexts(void **state)
{
	(void)state;
	child_succeeds(geteuid(), contexts, &shared);
}

/* A context that got wrong commands is gone. */
static void renew(struct test *test)
{
	context(test, VIRTIO_GPU_CMD_CTX_DESTROY, CONTEXT);
	CHILD_CHECK(context(test, VIRTIO_GPU_CMD_CTX_CREATE, CONTEXT) == OK);
	for (uint32_t id = TARGET; id <= VERTICES; id++)
		CHILD_CHECK(in_context(test, VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, CONTEXT, id) == OK);
}

/* All beginnings of good commands, and each word as another number: the device draws again afterwards. */
static int lies(void *arg)
{
	static const uint32_t values[] = { 1, INT32_MAX };
	struct test *test = arg;
	static struct stream good, bad;

	make(test, "3d");
	start(test);
	prepare(test);
	put_clear(&good);
	put_triangle(&good);
	for (uint32_t count = 0; count < good.count; count++)
		submit(test, CONTEXT, &good, count * 4);
	/* But for the draw itself: with 2^31 vertices it is no lie, and takes hours. */
	for (uint32_t at = 0; at < good.count - 12; at++) {
		renew(test);
		bad = good;
		bad.words[at] = values[at % ARRAY_SIZE(values)];
		submit(test, CONTEXT, &bad, bad.count * 4);
	}
	renew(test);
	/* More than there is, no whole words, nobody's, nothing that is counted. */
	CHILD_CHECK(submit(test, CONTEXT, &good, good.count * 4 + 4) != OK);
	CHILD_CHECK(submit(test, CONTEXT, &good, UINT32_MAX) != OK);
	CHILD_CHECK(submit(test, CONTEXT, &good, 6) != OK);
	CHILD_CHECK(submit(test, 0, &good, good.count * 4) != OK);
	CHILD_CHECK(submit(test, 99, &good, good.count * 4) != OK);
	bad = (struct stream){ 0 };
	COMMAND(&bad, PIPE_RESOURCE_CREATE, 0, 2, BGRA, 2, SIDE, SIDE, 1, 1, 0, 0, 0, 0, 9);
	CHILD_CHECK(submit(test, CONTEXT, &bad, bad.count * 4) != OK);
	CHILD_CHECK(submit(test, CONTEXT, &good, good.count * 4) != OK);
	renew(test);
	draw(test);
	CHILD_CHECK(transfer(test, VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D, whole()) == OK);
	check_memory(test);
	destroy(test);
	return 0;
}

static void test_lies(void **state)
{
	(void)state;
	child_succeeds(geteuid(), lies, &shared);
}

/* Longer than the request: nothing that comes with it is done. */
static void put_lie(struct stream *stream)
{
	put(stream, (const uint32_t[]){ DESTROY_SUB_CTX | 255 << 16 }, 1);
}

/*
 * What was refused was not done: neither has the rest of a shader's text come, which the library
 * takes for granted, nor is a context of OpenGL's gone.
 */
static int refusals(void *arg)
{
	struct test *test = arg;
	struct stream *stream = &test->stream;
	const uint32_t len = 256;
	unsigned int made = 0;

	make(test, "3d");
	start(test);
	prepare(test);
	draw(test);
	stream->count = 0;
	COMMAND(stream, CREATE_OBJECT, OBJECT_SHADER, 20, SHADER_VERTEX, len, 300, 0, 0x54524556);
	CHILD_CHECK(submit(test, CONTEXT, stream, stream->count * 4) == OK);
	stream->count = 0;
	put(stream, (const uint32_t[]){ CREATE_OBJECT | OBJECT_SHADER << 8 | (5 + len / 4) << 16, 20,
					SHADER_VERTEX, 4 | 1U << 31, 300, 0 }, 6);
	memset(stream->words + stream->count, 0, len);
	stream->count += len / 4;
	put_lie(stream);
	CHILD_CHECK(submit(test, CONTEXT, stream, stream->count * 4) != OK);
	stream->count = 0;
	COMMAND(stream, BIND_SHADER, 0, 20, SHADER_VERTEX);
	COMMAND(stream, DRAW_VBO, 0, 0, 3, TRIANGLES, 0, 1, 0, 0, 0, 0, 0, 2, 0);
	CHILD_CHECK(submit(test, CONTEXT, stream, stream->count * 4) != OK);

	renew(test);
	for (uint32_t sub = 1; sub < 100; sub++) {
		stream->count = 0;
		COMMAND(stream, CREATE_SUB_CTX, 0, sub);
		made += submit(test, CONTEXT, stream, stream->count * 4) == OK;
		stream->count = 0;
		COMMAND(stream, DESTROY_SUB_CTX, 0, sub);
		put_lie(stream);
		CHILD_CHECK(submit(test, CONTEXT, stream, stream->count * 4) != OK);
	}
	/* The context was gone with the first. */
	CHILD_CHECK(made == 1);
	renew(test);
	draw(test);
	destroy(test);
	return 0;
}

static void test_refusals(void **state)
{
	(void)state;
	child_succeeds(geteuid(), refusals, &shared);
}

/* Nothing of all this without being asked for. */
static int absent(void *arg)
{
	struct test *test = arg;

	make(test, "");
	vq_start(&test->guest, 1ULL << VIRTIO_GPU_F_EDID);
	CHILD_CHECK(!(test->guest.dev->offered & 1ULL << VIRTIO_GPU_F_VIRGL));
	CHILD_CHECK(context(test, VIRTIO_GPU_CMD_CTX_CREATE, 1) == VIRTIO_GPU_RESP_ERR_UNSPEC);
	destroy(test);
	return 0;
}

static void test_absent(void **state)
{
	(void)state;
	child_succeeds(geteuid(), absent, &shared);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_drawn),
		cmocka_unit_test(test_confined),
		cmocka_unit_test(test_capsets),
		cmocka_unit_test(test_resources),
		cmocka_unit_test(test_shapes),
		cmocka_unit_test(test_transfers),
		cmocka_unit_test(test_contexts),
		cmocka_unit_test(test_lies),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_absent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
