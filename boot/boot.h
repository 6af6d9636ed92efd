/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every architecture's way to start a kernel needs: image files, room for
 * the initrd, the command line. Kernel formats are the architecture's (arch/).
 * Image files are hostile: every offset and size in them is checked against
 * the file and against RAM before use.
 */
#ifndef BOOT_BOOT_H
#define BOOT_BOOT_H

#include <stdint.h>
#include "core/mem.h"
#include "core/util.h"

/* A file from which images are read straight into guest memory. */
struct boot_file {
	int fd;
	uint64_t size; /* 0: not open */
};

/* What to tell a user for the errors of boot_file_open(); a part of the tables below. */
#define BOOT_FILE_HINTS \
	{ ENODATA, "the file is empty" }, \
	{ EISDIR, "this is a directory" }, \
	{ EINVAL, "not a regular file: a pipe or device has to be copied into one first" }

/* -errno; -ENODATA for an empty file, -EISDIR, -EINVAL for another that is not a regular file. */
int boot_file_open(struct boot_file *file, const char *path);
/* Reads [offset, offset + len) of the file. -EBADMSG when the file ends before. */
int boot_file_read(const struct boot_file *file, uint64_t offset, void *buffer, size_t len);
void boot_file_close(struct boot_file *file);

/* A kernel in guest memory. */
struct boot_kernel {
	int protocol; /* how it is started; the architecture's own numbers */
	uint64_t entry;
	uint64_t base, end; /* the guest memory that it occupies and needs to unpack */
	struct mem_range initrd_room; /* where in RAM its initrd may lie, in one region */
	uint32_t cmdline_max; /* without the final NUL */
	/* The part of the image's own header that goes into what the kernel is told. */
	uint8_t header[0x290 - 0x1f1];
	size_t header_len;
};

extern const struct hint boot_initrd_hints[];

/*
 * Copies the initrd as high as the kernel allows, page-aligned, clear of the
 * kernel. -E2BIG when there is no room.
 */
int boot_load_initrd(const struct boot_file *file, const struct mem *mem,
		     const struct boot_kernel *kernel, uint64_t *ret_gpa);

/* What a kernel is told besides its machine. */
struct boot_info {
	const char *cmdline;
	uint64_t initrd_gpa, initrd_len; /* len 0: none */
};

/*
 * A kernel command line that grows word by word. Later words win in Linux, so
 * the user's come last.
 */
struct boot_cmdline {
	char text[2048];
	size_t len;
};

/* Appends words separated by a space. -E2BIG when it does not fit; then nothing was appended. */
__attribute__((format(printf, 2, 3))) int boot_cmdline_add(struct boot_cmdline *cmdline,
							   const char *format, ...);

#endif
