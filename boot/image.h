/* SPDX-License-Identifier: Apache-2.0 */
/* What the loaders of image formats share. */
#ifndef BOOT_IMAGE_H
#define BOOT_IMAGE_H

#include "boot/boot.h"

/* Below it are the boot structures, the firmware tables and what PCs reserve. */
#define BOOT_RAM_BASE MIB(1)

/* The end of the RAM that begins at or below BOOT_RAM_BASE; 0 when there is none. */
uint64_t boot_ram_end(const struct mem *mem);

/* Reads [offset, offset + len) of the file. -EBADMSG when the file ends before. */
int boot_file_read(const struct boot_file *file, uint64_t offset, void *buffer, size_t len);

#endif
