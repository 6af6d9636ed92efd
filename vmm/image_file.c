// SPDX-License-Identifier: Apache-2.0
#include "vmm/image_command.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/log.h"
#include "core/opt.h"
#include "devices/block/qcow2.h"

int image_fail(const char *path, const char *format, ...)
{
	struct opt_error error;
	va_list args;

	va_start(args, format);
	vsnprintf(error.text, sizeof(error.text), format, args);
	va_end(args);
	log_error("%s: %s", path, error.text);
	return EXIT_FAILURE;
}

bool image_is_disguised(int fd, int format)
{
	return format == BLOCK_FORMAT_DEFAULT && block_looks_like_qcow2(fd);
}

int image_fail_disguised(const char *path)
{
	return image_fail(path, "it begins as a qcow2 image does: write --format qcow2, or "
				"--format raw if it is none");
}

int image_check_size(const struct image_conf *conf)
{
	if (conf->size % BLOCK_SECTOR || conf->size > QCOW2_SIZE_MAX)
		return image_fail(conf->path, "choose a size that is a multiple of 512 bytes, below "
					      "8 EiB");
	return 0;
}

int image_open(struct block_image *image, const char *path, bool read_only)
{
	int r = block_image_open(image, path, read_only, false);

	if (r == -EAGAIN)
		return image_fail(path, "it is in use, end the VM that has it first");
	if (r == -ENOTBLK)
		return image_fail(path, "it is neither a file nor a block device");
	return r < 0 ? image_fail(path, "%s", strerror(-r)) : 0;
}

int image_open_to_look(const char *path, int *ret_fd)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return image_fail(path, "%s", strerror(errno));
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		close(fd);
		return image_fail(path, "it is neither a file nor a block device");
	}
	*ret_fd = fd;
	return 0;
}

int image_backing_size(const char *image, const char *backing, int format, uint64_t *ret_size)
{
	_cleanup_free_ char *path = qcow2_backing_path(image, backing);
	_cleanup_close_ int fd = -1;
	struct qcow2_header header;
	const char *reason;
	uint64_t file_size;

	if (!path)
		return image_fail(image, "%s", strerror(ENOMEM));
	if (image_open_to_look(path, &fd))
		return EXIT_FAILURE;
	if (format == BLOCK_FORMAT_RAW) {
		*ret_size = (uint64_t)lseek(fd, 0, SEEK_END);
		return 0;
	}
	if (qcow2_header_read(fd, &header, &file_size, &reason) < 0)
		return image_fail(path, "%s", reason);
	*ret_size = header.size;
	return 0;
}
