// SPDX-License-Identifier: Apache-2.0
#include "boot/boot.h"

#include <fcntl.h>
#include <sys/stat.h>

int boot_file_open(struct boot_file *file, const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if (!st.st_size)
		return -ENODATA;
	file->size = (uint64_t)st.st_size;
	file->fd = util_steal_fd(&fd);
	return 0;
}

void boot_file_close(struct boot_file *file)
{
	if (file->size)
		close(file->fd);
	*file = (struct boot_file){ .fd = -1 };
}

int boot_file_read(const struct boot_file *file, uint64_t offset, void *buffer, size_t len)
{
	uint8_t *to = buffer;

	if (!util_within(offset, len, file->size))
		return -EBADMSG;
	while (len) {
		ssize_t n = pread(file->fd, to, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			return -EBADMSG;
		to += n;
		offset += (size_t)n;
		len -= (size_t)n;
	}
	return 0;
}
