// SPDX-License-Identifier: Apache-2.0
#include "vmm/image_command.h"

#include <errno.h>
#include <unistd.h>
#include "devices/block/image.h"
#include "devices/block/qcow2.h"

static int permit(const struct image_conf *conf, uint64_t size)
{
	if (image_check_size(conf))
		return EXIT_FAILURE;
	if (conf->size < size && !conf->shrink)
		return image_fail(conf->path, "it is larger, and what is behind the new end would "
					      "be lost: add --shrink if that is wanted");
	return 0;
}

static int resize_raw(const struct image_conf *conf, const struct block_image *image)
{
	if (image_is_disguised(image->fd, conf->format))
		return image_fail_disguised(conf->path);
	if (image->device)
		return image_fail(conf->path, "it is a block device, whose size is the host's");
	if (permit(conf, image->size))
		return EXIT_FAILURE;
	if (ftruncate(image->fd, (off_t)conf->size) < 0 || fsync(image->fd) < 0)
		return image_fail(conf->path, "%s", strerror(errno));
	return EXIT_SUCCESS;
}

/* What a backing file has behind the disk's end must not come to light. */
static int check_backing(const struct image_conf *conf, const struct qcow2_header *header)
{
	bool raw = !strcmp(header->backing_format, block_formats[BLOCK_FORMAT_RAW]);
	uint64_t size = 0;

	if (!*header->backing || conf->size <= header->size)
		return 0;
	if (!*header->backing_format)
		return image_fail(conf->path, "it does not say what format its backing file has");
	if (image_backing_size(conf->path, header->backing,
			       raw ? BLOCK_FORMAT_RAW : BLOCK_FORMAT_QCOW2, &size))
		return EXIT_FAILURE;
	if (size > header->size)
		return image_fail(conf->path, "its backing file is larger than it is: more of that "
					      "would show");
	return 0;
}

static int resize_qcow2(const struct image_conf *conf, const struct block_image *image)
{
	struct qcow2_header header;
	const char *reason;
	uint64_t file_size;

	if (image->device)
		return image_fail(conf->path, "an image on a block device cannot be resized");
	if (qcow2_header_read(image->fd, &header, &file_size, &reason) < 0)
		return image_fail(conf->path, "%s", reason);
	if (permit(conf, header.size) || check_backing(conf, &header))
		return EXIT_FAILURE;
	if (qcow2_resize(image->fd, conf->size, &reason) < 0)
		return image_fail(conf->path, "%s", reason);
	return EXIT_SUCCESS;
}

int image_resize(const struct image_conf *conf)
{
	_cleanup_(block_image_close) struct block_image image = { .fd = -1 };

	if (image_open(&image, conf->path, false))
		return EXIT_FAILURE;
	return conf->format == BLOCK_FORMAT_QCOW2 ? resize_qcow2(conf, &image)
						  : resize_raw(conf, &image);
}
