// SPDX-License-Identifier: Apache-2.0
/*
 * The main thread loads the library, Mesa's driver and the compiler behind that, with a
 * context of OpenGL's; then it lets go of the context, and the device's thread takes it
 * for each of its turns. Mesa is told to start no threads, as those would be outside of the
 * device's sandbox: it draws on the thread that asks. So a command is over when its call
 * returns, but for what Mesa puts off, which is over when the turn is: no answer with a
 * fence has to wait.
 *
 * What is checked here is what the library would have to be trusted for, and what it can
 * be made to hold: bytes of resources (as large as their format could be), contexts, how
 * many objects are in them and how much text of shaders (virgl_stream.c), and the length of
 * commands. What Mesa makes of shaders nobody counts.
 *
 * It keeps pointers to guest memory, for resources with a backing. RAM stays where it is
 * for as long as the VM lives, and virgl_detach() comes before the list of them is freed.
 */
#include "devices/gpu/virgl_stream.h"

#include <EGL/egl.h>
#include <EGL/eglext.h>
#include <endian.h>
#include <sys/mman.h>
#include <virgl/virglrenderer.h>

/* A pixel of the largest format, in bytes. */
#define PIXEL_MAX 16
/* Of a texture whose sides are GPU_SIDE_MAX at the most. */
#define LEVELS_MAX 15
#define SAMPLES_MAX 16

/* What a resource is (Gallium's pipe_texture_target), as far as it matters here. */
enum target { TARGET_BUFFER, TARGET_2D = 2, TARGETS = 9 };

struct virgl {
	struct gpu_table *table;
	EGLDisplay display;
	EGLConfig config;
	struct virgl_renderer_callbacks callbacks;
	bool initialised;
	struct virgl_contexts contexts;
	void *buffer;
};

/* ---- the thread's OpenGL ---- */

static int make_current(void *cookie, int scanout, virgl_renderer_gl_context context)
{
	struct virgl *virgl = cookie;

	(void)scanout;
	/* Which of EGL's interfaces is meant, each thread has to say. */
	eglBindAPI(EGL_OPENGL_API);
	return eglMakeCurrent(virgl->display, EGL_NO_SURFACE, EGL_NO_SURFACE, context) ? 0 : -1;
}

static virgl_renderer_gl_context create_context(void *cookie, int scanout,
						struct virgl_renderer_gl_ctx_param *param)
{
	struct virgl *virgl = cookie;
	const EGLint attributes[] = { EGL_CONTEXT_MAJOR_VERSION, param->major_ver,
				      EGL_CONTEXT_MINOR_VERSION, param->minor_ver, EGL_NONE };

	(void)scanout;
	return eglCreateContext(virgl->display, virgl->config,
				param->shared ? eglGetCurrentContext() : EGL_NO_CONTEXT,
				attributes);
}

static void destroy_context(void *cookie, virgl_renderer_gl_context context)
{
	struct virgl *virgl = cookie;

	eglDestroyContext(virgl->display, context);
}

/* None is ever asked for, but the library wants to know whom to tell. */
static void write_fence(void *cookie, uint32_t fence)
{
	(void)cookie, (void)fence;
}

/* The guest makes it complain as often as it likes. */
static void hear_complaint(const char *format, va_list args)
{
	(void)format, (void)args;
}

void virgl_enter(const struct virgl *virgl)
{
	if (virgl)
		virgl_renderer_force_ctx_0();
}

void virgl_leave(struct virgl *virgl)
{
	if (virgl)
		make_current(virgl, 0, EGL_NO_CONTEXT);
}

/* ---- life ---- */

/* Before there are other threads, which may read the environment. */
static void prepare_mesa(void)
{
	setenv("LIBGL_ALWAYS_SOFTWARE", "true", 1);
	setenv("LP_NUM_THREADS", "0", 1);
	setenv("MESA_SHADER_CACHE_DISABLE", "true", 1);
}

static int open_display(struct virgl *virgl)
{
	const EGLint attributes[] = { EGL_SURFACE_TYPE, 0, EGL_RENDERABLE_TYPE, EGL_OPENGL_BIT,
				      EGL_NONE };
	EGLint count = 0;

	virgl->display = eglGetPlatformDisplay(EGL_PLATFORM_SURFACELESS_MESA, EGL_DEFAULT_DISPLAY,
					       NULL);
	if (!eglInitialize(virgl->display, NULL, NULL) || !eglBindAPI(EGL_OPENGL_API) ||
	    !eglChooseConfig(virgl->display, attributes, &virgl->config, 1, &count) || !count)
		return -ENODEV;
	return 0;
}

static int open_library(struct virgl *virgl)
{
	virgl_set_debug_callback(hear_complaint);
	virgl->callbacks = (struct virgl_renderer_callbacks){
		.version = 1,
		.write_fence = write_fence,
		.create_gl_context = create_context,
		.destroy_gl_context = destroy_context,
		.make_current = make_current,
	};
	if (virgl_renderer_init(virgl, 0, &virgl->callbacks) != 0)
		return -ENODEV;
	virgl->initialised = true;
	for (uint32_t i = 0; i < VIRGL_CAPSETS; i++)
		if (le32toh(virgl_capset_info(i).capset_max_size) > VIRGL_CAPSET_MAX)
			return -ENODEV;
	return 0;
}

int virgl_open(struct virgl **ret_virgl, struct gpu_table *table)
{
	struct virgl *virgl = calloc(1, sizeof(*virgl));
	int err;

	if (!virgl)
		return -ENOMEM;
	virgl->table = table;
	virgl->buffer = malloc(VIRGL_SUBMIT_MAX);
	prepare_mesa();
	err = virgl->buffer ? virgl_contexts_init(&virgl->contexts) : -ENOMEM;
	if (!err)
		err = open_display(virgl);
	if (!err)
		err = open_library(virgl);
	if (err) {
		virgl_close(virgl);
		return err;
	}
	virgl_leave(virgl);
	*ret_virgl = virgl;
	return 0;
}

void virgl_close(struct virgl *virgl)
{
	if (!virgl)
		return;
	if (virgl->initialised) {
		virgl_enter(virgl);
		virgl_reset(virgl);
		virgl_renderer_cleanup(virgl);
		virgl_leave(virgl);
	}
	if (virgl->display)
		eglTerminate(virgl->display);
	free(virgl->buffer);
	free(virgl);
}

/* ---- contexts ---- */

static bool has_context(struct virgl *virgl, uint32_t context)
{
	return context && virgl_contexts_find(&virgl->contexts, context);
}

uint32_t virgl_context_add(struct virgl *virgl, uint32_t context)
{
	static const char name[] = "guest";
	struct virgl_context *place = virgl_contexts_find(&virgl->contexts, 0);

	if (!context || has_context(virgl, context))
		return VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID;
	if (!place || virgl_renderer_context_create(context, sizeof(name) - 1, name) != 0)
		return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
	place->id = context;
	return 0;
}

uint32_t virgl_context_remove(struct virgl *virgl, uint32_t context)
{
	if (!has_context(virgl, context))
		return VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID;
	virgl_renderer_context_destroy(context);
	virgl_contexts_clear(&virgl->contexts, virgl_contexts_find(&virgl->contexts, context));
	return 0;
}

uint32_t virgl_context_attach(struct virgl *virgl, uint32_t context, uint32_t resource,
			      bool attach)
{
	const struct gpu_resource *found = gpu_table_find(virgl->table, resource);

	if (!has_context(virgl, context))
		return VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID;
	if (!found)
		return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
	/* Linux attaches what it draws without 3D as well. */
	if (!found->in_3d)
		return 0;
	if (attach)
		virgl_renderer_ctx_attach_resource((int)context, (int)resource);
	else
		virgl_renderer_ctx_detach_resource((int)context, (int)resource);
	return 0;
}

void virgl_reset(struct virgl *virgl)
{
	for (unsigned int i = 0; virgl && i < VIRGL_CONTEXTS_MAX; i++)
		virgl_context_remove(virgl, virgl->contexts.all[i].id);
}

void *virgl_buffer(struct virgl *virgl)
{
	return virgl->buffer;
}

uint32_t virgl_submit(struct virgl *virgl, uint32_t context, uint32_t len)
{
	const uint32_t count = len / sizeof(uint32_t);

	if (!has_context(virgl, context))
		return VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID;
	if (len % sizeof(uint32_t) || len > VIRGL_SUBMIT_MAX)
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	if (virgl_stream_check(&virgl->contexts, virgl_contexts_find(&virgl->contexts, context),
			       virgl->buffer, count) == 0 &&
	    virgl_renderer_submit_cmd(virgl->buffer, (int)context, (int)count) == 0)
		return 0;
	/* Not all that was accounted for was done. The library takes no more for it, either. */
	virgl_context_remove(virgl, context);
	return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
}

/* ---- resources ---- */

/* Whether heads can show it: one picture, in a format of theirs, and meant for that. */
static bool is_picture(const struct virgl_renderer_resource_create_args *args)
{
	return args->target == TARGET_2D && args->depth == 1 && args->array_size == 1 &&
	       args->nr_samples <= 1 && gpu_format_known(args->format) &&
	       args->bind & (VIRGL_RES_BIND_SCANOUT | VIRGL_RES_BIND_CURSOR);
}

/* Not less than the library takes for it. */
static int measure(const struct virgl_renderer_resource_create_args *args, uint64_t *ret_size)
{
	const uint32_t factors[] = { args->height, args->depth, args->array_size,
				     (uint32_t)util_max(args->nr_samples, 1),
				     gpu_format_known(args->format) ? GPU_PIXEL : PIXEL_MAX,
				     args->last_level ? 2 : 1 };
	uint64_t size = args->width;

	if (args->target >= TARGETS || args->last_level >= LEVELS_MAX ||
	    args->nr_samples > SAMPLES_MAX)
		return -EINVAL;
	if (args->target == TARGET_BUFFER) {
		*ret_size = size;
		return size && size <= INT32_MAX && args->height == 1 && args->depth == 1 ? 0 :
											    -EINVAL;
	}
	if (args->width > GPU_SIDE_MAX || args->height > GPU_SIDE_MAX)
		return -EINVAL;
	for (unsigned int i = 0; i < ARRAY_SIZE(factors); i++)
		if (__builtin_mul_overflow(size, factors[i], &size))
			return -EINVAL;
	*ret_size = size;
	return size ? 0 : -EINVAL;
}

uint32_t virgl_create(struct virgl *virgl, const struct virtio_gpu_resource_create_3d *create)
{
	struct virgl_renderer_resource_create_args args = {
		.handle = le32toh(create->resource_id),
		.target = le32toh(create->target),
		.format = le32toh(create->format),
		.bind = le32toh(create->bind),
		.width = le32toh(create->width),
		.height = le32toh(create->height),
		.depth = le32toh(create->depth),
		.array_size = le32toh(create->array_size),
		.last_level = le32toh(create->last_level),
		.nr_samples = le32toh(create->nr_samples),
		.flags = le32toh(create->flags),
	};
	struct gpu_resource shape = {
		.id = args.handle,
		.extent = { args.width, args.height,
			    (uint32_t)util_max(args.depth, args.array_size) },
	};
	struct gpu_resource *resource;
	uint32_t err;

	if (measure(&args, &shape.held) < 0)
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	shape.size = shape.held;
	if (is_picture(&args)) {
		shape.format = args.format;
		shape.width = args.width;
		shape.height = args.height;
	}
	err = gpu_table_add(virgl->table, &shape, &resource);
	if (err)
		return err;
	if (virgl_renderer_resource_create(&args, NULL, 0) != 0) {
		gpu_table_remove(virgl->table, resource);
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	}
	resource->in_3d = true;
	return 0;
}

void virgl_destroy(struct gpu_table *table, struct gpu_resource *resource)
{
	if (!resource->in_3d)
		return;
	virgl_detach(table, resource);
	virgl_renderer_resource_unref(resource->id);
}

/* ---- the guest's memory ---- */

/* Twice as long, within what the guest may have us hold; that counts when all of it is there. */
static bool grow_iov(const struct gpu_table *table, struct iovec **iov, uint32_t *capacity)
{
	const uint32_t more = *capacity ? *capacity * 2 : 16;
	struct iovec *grown;

	if (more * sizeof(*grown) > table->left)
		return false;
	grown = reallocarray(*iov, more, sizeof(*grown));
	if (!grown)
		return false;
	*iov = grown;
	*capacity = more;
	return true;
}

uint32_t virgl_attach(struct gpu_table *table, struct gpu_resource *resource)
{
	const struct gpu_backing *backing = &resource->backing;
	_cleanup_free_ struct iovec *iov = NULL;
	uint32_t count = 0, capacity = 0;
	int part;

	if (!resource->in_3d)
		return 0;
	for (uint32_t i = 0; i < backing->count; i++) {
		const struct gpu_piece *piece = &backing->pieces[i];

		/* A piece may lie in several regions of RAM. */
		while ((part = mem_iov(table->mem, piece->gpa, piece->len, iov + count,
				       capacity - count)) == -ENOBUFS)
			if (!grow_iov(table, &iov, &capacity))
				return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
		if (part < 0)
			return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
		count += (uint32_t)part;
	}
	if (virgl_renderer_resource_attach_iov((int)resource->id, iov, (int)count) != 0)
		return VIRTIO_GPU_RESP_ERR_UNSPEC;
	resource->iov = util_steal_ptr(&iov);
	resource->iov_len = capacity * sizeof(*resource->iov);
	table->left -= resource->iov_len;
	return 0;
}

void virgl_detach(struct gpu_table *table, struct gpu_resource *resource)
{
	struct iovec *iov;
	int count;

	if (!resource->iov)
		return;
	virgl_renderer_resource_detach_iov((int)resource->id, &iov, &count);
	free(resource->iov);
	table->left += resource->iov_len;
	resource->iov = NULL;
	resource->iov_len = 0;
}

uint32_t virgl_transfer(struct virgl *virgl, const struct virtio_gpu_transfer_host_3d *transfer,
			bool to_host)
{
	const struct gpu_resource *resource =
		gpu_table_find(virgl->table, le32toh(transfer->resource_id));
	const uint32_t context = le32toh(transfer->hdr.ctx_id), level = le32toh(transfer->level);
	const uint32_t stride = le32toh(transfer->stride), layer = le32toh(transfer->layer_stride);
	const uint64_t offset = le64toh(transfer->offset);
	uint32_t box[] = { le32toh(transfer->box.x), le32toh(transfer->box.y),
			   le32toh(transfer->box.z), le32toh(transfer->box.w),
			   le32toh(transfer->box.h), le32toh(transfer->box.d) };
	int rc;

	if (context && !has_context(virgl, context))
		return VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID;
	if (!resource || !resource->in_3d)
		return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
	for (unsigned int i = 0; i < 3; i++)
		if (!box[3 + i] || !util_within(box[i], box[3 + i], resource->extent[i]))
			return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	if (!resource->iov || level >= LEVELS_MAX || offset >= resource->backing.len ||
	    !virgl_strides_fit(stride, layer, box[4], box[5]))
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	if (to_host)
		rc = virgl_renderer_transfer_write_iov(resource->id, context, (int)level, stride,
						       layer, (struct virgl_box *)box, offset, NULL,
						       0);
	else
		rc = virgl_renderer_transfer_read_iov(resource->id, context, level, stride, layer,
						      (struct virgl_box *)box, offset, NULL, 0);
	return rc == 0 ? 0 : VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
}

int virgl_fetch(const struct gpu_resource *resource, const struct display_rect *rect)
{
	const uint32_t stride = resource->width * GPU_PIXEL;
	uint32_t box[] = { rect->x, rect->y, 0, rect->width, rect->height, 1 };
	struct iovec iov = { resource->pixels, resource->size };

	if (!resource->in_3d || !resource->pixels)
		return 0;
	return virgl_renderer_transfer_read_iov(resource->id, 0, 0, stride, 0,
						(struct virgl_box *)box,
						(uint64_t)rect->y * stride +
							(uint64_t)rect->x * GPU_PIXEL,
						&iov, 1) == 0 ?
		       0 :
		       -EIO;
}

/* ---- what the library can do ---- */

struct virtio_gpu_resp_capset_info virgl_capset_info(uint32_t index)
{
	/* VIRTIO_GPU_CAPSET_VIRGL is 1, the other one follows. */
	const uint32_t id = VIRTIO_GPU_CAPSET_VIRGL + index;
	uint32_t version = 0, size = 0;

	virgl_renderer_get_cap_set(id, &version, &size);
	return (struct virtio_gpu_resp_capset_info){
		.capset_id = htole32(id),
		.capset_max_version = htole32(version),
		.capset_max_size = htole32(size),
	};
}

size_t virgl_capset(uint32_t id, uint32_t version, uint8_t ret_capset[VIRGL_CAPSET_MAX])
{
	uint32_t version_max = 0, size = 0;

	if (id < VIRTIO_GPU_CAPSET_VIRGL || id >= VIRTIO_GPU_CAPSET_VIRGL + VIRGL_CAPSETS)
		return 0;
	virgl_renderer_get_cap_set(id, &version_max, &size);
	if (version > version_max)
		return 0;
	virgl_renderer_fill_caps(id, version, ret_capset);
	return size;
}
