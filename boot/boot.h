/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel images into guest memory. Image files are hostile: every offset and
 * size in them is checked against the file and against RAM before use.
 */
#ifndef BOOT_BOOT_H
#define BOOT_BOOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/mem.h"
#include "core/util.h"

/* A file from which images are read straight into guest memory. */
struct boot_file {
	int fd;
	uint64_t size; /* 0: not open */
};

/* -errno; -ENODATA for an empty file, -EISDIR, -EINVAL for another that is not a regular file. */
int boot_file_open(struct boot_file *file, const char *path);
void boot_file_close(struct boot_file *file);

enum boot_protocol {
	BOOT_PVH,     /* 32-bit entry with a hvm_start_info (Xen's x86/HVM direct boot ABI) */
	BOOT_LINUX64, /* bzImage, 64-bit entry with boot_params (Documentation/arch/x86/boot.rst) */
};

/* A kernel in guest memory. */
struct boot_kernel {
	enum boot_protocol protocol;
	uint64_t entry;
	uint64_t base, end; /* the guest memory that it occupies and needs to unpack */
	uint64_t initrd_max; /* the highest address at which the initrd's last byte may lie */
	/* BOOT_LINUX64: the setup header as the file has it, to be copied into boot_params. */
	uint8_t setup_header[0x290 - 0x1f1];
	size_t setup_header_len;
	uint32_t cmdline_max; /* without the final NUL */
};

/* What to tell a user for the errors of boot_file_open() and of those below. */
extern const struct hint boot_kernel_hints[];
extern const struct hint boot_initrd_hints[];

/*
 * Recognises the image by its magic and loads it. -ENOEXEC: not a kernel;
 * -EBADMSG: truncated or contradicting itself; -ENOTSUP: an ELF without a PVH
 * note, a bzImage without 64-bit entry, or another machine's; -E2BIG: does not fit RAM.
 */
int boot_load_kernel(const struct boot_file *file, const struct mem *mem,
		     struct boot_kernel *ret_kernel);
/* The loaders behind it; each gives -ENOEXEC when the magic is not its own. */
int boot_load_elf(const struct boot_file *file, const struct mem *mem,
		  struct boot_kernel *ret_kernel);
int boot_load_bzimage(const struct boot_file *file, const struct mem *mem,
		      struct boot_kernel *ret_kernel);

/*
 * Copies the initrd as high as the kernel allows, page-aligned, clear of the
 * kernel. -E2BIG when there is no room.
 */
int boot_load_initrd(const struct boot_file *file, const struct mem *mem,
		     const struct boot_kernel *kernel, uint64_t *ret_gpa);

/* What a kernel is told about its machine. */
struct boot_info {
	const char *cmdline;
	uint64_t initrd_gpa, initrd_len; /* len 0: none */
	uint64_t firmware_gpa;           /* the RSDP */
	const struct mem_range *reserved; /* parts of RAM that are not usable, sorted */
	size_t reserved_count;
};

/*
 * Writes the command line, the memory map and the protocol's structure
 * (hvm_start_info or boot_params) into low memory, from 0x10000 to 0x9f000. The memory
 * map is RAM with the reserved ranges marked. *ret_gpa is what the entry point
 * wants in its register. -E2BIG: the command line is longer than the kernel takes.
 */
int boot_finish(const struct boot_kernel *kernel, const struct mem *mem,
		const struct boot_info *info, uint64_t *ret_gpa);

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
