/* SPDX-License-Identifier: Apache-2.0 */
/* A file whose content is the input's. */
#ifndef TESTS_FUZZ_FILE_H
#define TESTS_FUZZ_FILE_H

#include <assert.h>
#include <sys/mman.h>
#include "boot/boot.h"

static inline void fuzz_file_init(struct boot_file *file)
{
	file->fd = memfd_create("file", MFD_CLOEXEC);
	assert(file->fd >= 0);
}

/* len bytes of data, and zeros up to size. */
static inline void fuzz_file_set(struct boot_file *file, const void *data, size_t len, size_t size)
{
	bool written = !ftruncate(file->fd, 0) && pwrite(file->fd, data, len, 0) == (ssize_t)len &&
		       !ftruncate(file->fd, (off_t)size);

	assert(written);
	file->size = size;
}

#endif
