// SPDX-License-Identifier: Apache-2.0
#include "boot/image.h"

#include <fcntl.h>
#include <sys/stat.h>

#define FILE_HINTS \
	{ ENODATA, "the file is empty" }, \
	{ EISDIR, "this is a directory" }, \
	{ EINVAL, "not a regular file: a pipe or device has to be copied into one first" }

const struct hint boot_kernel_hints[] = {
	FILE_HINTS,
	{ ENOEXEC, "neither an ELF vmlinux nor a bzImage: give the kernel itself, unpacked" },
	{ EBADMSG, "the kernel image is truncated or damaged: fetch or build it again" },
	{ ENOTSUP, "not for a 64-bit x86 guest, or without a PVH entry point: use the bzImage, "
		   "or build with CONFIG_PVH=y" },
	{ E2BIG, "the kernel does not fit the guest's memory above 1 MiB: give the guest more" },
	{ 0 }
};

const struct hint boot_initrd_hints[] = {
	FILE_HINTS,
	{ EBADMSG, "the file became shorter while it was read" },
	{ E2BIG, "no room beside the kernel below the end of low memory: give the guest more, "
		 "or make it smaller" },
	{ 0 }
};

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

uint64_t boot_ram_end(const struct mem *mem)
{
	for (size_t i = 0; i < mem->count; i++) {
		const struct mem_region *region = &mem->regions[i];

		if (region->gpa <= BOOT_RAM_BASE && BOOT_RAM_BASE - region->gpa < region->len)
			return region->gpa + region->len;
	}
	return 0;
}

int boot_load_kernel(const struct boot_file *file, const struct mem *mem,
		     struct boot_kernel *ret_kernel)
{
	int err = boot_load_elf(file, mem, ret_kernel);

	if (err == -ENOEXEC)
		err = boot_load_bzimage(file, mem, ret_kernel);
	return err;
}
