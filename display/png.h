/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DISPLAY_PNG_H
#define DISPLAY_PNG_H

#include <stdint.h>
#include "seccomp/filter.h"

#define PNG_CALLS SC(lseek), SC(ftruncate)

/* Writes what is there in place of all that is in the file. -errno. */
int png_write_file(int fd, const uint8_t *pixels, uint32_t width, uint32_t height);

#endif
