// SPDX-License-Identifier: Apache-2.0
/* Formats are named by their bytes in memory; hosts are little-endian. */
#include "devices/gpu/gpu.h"

#include <assert.h>

/* Where in a pixel each color begins, in bits. */
struct layout {
	uint8_t format, blue, green, red, alpha;
	bool opaque; /* where alpha would be is nothing */
};

static const struct layout layouts[] = {
	{ VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM, 0, 8, 16, 24, false },
	{ VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM, 0, 8, 16, 24, true },
	{ VIRTIO_GPU_FORMAT_A8R8G8B8_UNORM, 24, 16, 8, 0, false },
	{ VIRTIO_GPU_FORMAT_X8R8G8B8_UNORM, 24, 16, 8, 0, true },
	{ VIRTIO_GPU_FORMAT_R8G8B8A8_UNORM, 16, 8, 0, 24, false },
	{ VIRTIO_GPU_FORMAT_X8B8G8R8_UNORM, 8, 16, 24, 0, true },
	{ VIRTIO_GPU_FORMAT_A8B8G8R8_UNORM, 8, 16, 24, 0, false },
	{ VIRTIO_GPU_FORMAT_R8G8B8X8_UNORM, 16, 8, 0, 24, true },
};

static const struct layout *find(uint32_t format)
{
	for (size_t i = 0; i < ARRAY_SIZE(layouts); i++)
		if (layouts[i].format == format)
			return &layouts[i];
	return NULL;
}

bool gpu_format_known(uint32_t format)
{
	return find(format);
}

bool gpu_format_plain(uint32_t format)
{
	return format == VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM ||
	       format == VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM;
}

void gpu_pixels_convert(uint32_t format, uint32_t *to, const uint32_t *from, size_t count)
{
	const struct layout *found = find(format);
	struct layout layout;
	uint32_t opaque;

	assert(found);
	layout = *found;
	opaque = layout.opaque ? 0xff000000 : 0;
	for (size_t i = 0; i < count; i++)
		to[i] = (from[i] >> layout.blue & 0xff) | (from[i] >> layout.green & 0xff) << 8 |
			(from[i] >> layout.red & 0xff) << 16 |
			(from[i] >> layout.alpha & 0xff) << 24 | opaque;
}
