// SPDX-License-Identifier: Apache-2.0
#include "display/png.h"

#include <png.h>
#include "core/util.h"

/* Text compresses well at any level. */
#define LEVEL 3

static void write_bytes(png_structp png, png_bytep data, size_t len)
{
	const int fd = *(const int *)png_get_io_ptr(png);

	while (len) {
		ssize_t n = write(fd, data, len);

		if (n < 0)
			png_error(png, "write");
		data += n;
		len -= (size_t)n;
	}
}

static void flush_bytes(png_structp png)
{
	(void)png;
}

/* It must not return. What errno says is the reason of write_bytes(). */
_Noreturn static void fail(png_structp png, const char *text)
{
	(void)text;
	png_longjmp(png, 1);
}

static void ignore(png_structp png, const char *text)
{
	(void)png;
	(void)text;
}

int png_write_file(int fd, const uint8_t *pixels, uint32_t width, uint32_t height)
{
	png_structp png;
	png_infop info;

	/* What is no regular file (EINVAL) takes it as it comes. */
	if (lseek(fd, 0, SEEK_SET) == 0 && ftruncate(fd, 0) < 0 && errno != EINVAL)
		return -errno;
	png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, fail, ignore);
	info = png ? png_create_info_struct(png) : NULL;
	if (!info) {
		png_destroy_write_struct(&png, NULL);
		return -ENOMEM;
	}
	errno = 0;
	if (setjmp(png_jmpbuf(png))) {
		png_destroy_write_struct(&png, &info);
		return errno ? -errno : -EIO;
	}
	png_set_write_fn(png, &fd, write_bytes, flush_bytes);
	png_set_IHDR(png, info, width, height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
		     PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
	png_set_compression_level(png, LEVEL);
	png_write_info(png, info);
	png_set_bgr(png);
	png_set_filler(png, 0, PNG_FILLER_AFTER);
	for (uint32_t y = 0; y < height; y++)
		png_write_row(png, pixels + (size_t)y * width * 4);
	png_write_end(png, NULL);
	png_destroy_write_struct(&png, &info);
	return 0;
}
