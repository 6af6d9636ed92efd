/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands of microvm image, each in a file of its own, and what they
 * share. A function here reports what is wrong on stderr, by a sentence that
 * begins with the path, and returns an exit status: 0 where all went well.
 */
#ifndef VMM_IMAGE_COMMAND_H
#define VMM_IMAGE_COMMAND_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "devices/block/block.h"

/* What the words of a command say; 0, NULL or the default where they do not. */
struct image_conf {
	char *path, *backing;
	uint64_t size, cluster_size;
	int format, backing_format, preallocation, repair;
	bool force, shrink, json;
};

int image_create(const struct image_conf *given);
int image_info(const struct image_conf *conf);
int image_resize(const struct image_conf *conf);
/* 2: the image is damaged; 3: it has leaks, and nothing else. */
int image_check(const struct image_conf *conf);

/* ---- image_file.c ---- */

/* Returns EXIT_FAILURE. */
__attribute__((format(printf, 2, 3))) int image_fail(const char *path, const char *format, ...);

/* Both formats are files as they are; who wrote to a raw one must not choose its format. */
bool image_is_disguised(int fd, int format);
int image_fail_disguised(const char *path);

/* Whether a disk can have the size. */
int image_check_size(const struct image_conf *conf);

int image_open(struct block_image *image, const char *path, bool read_only);
/* Without a lock: a disk may have it for a backing file meanwhile. */
int image_open_to_look(const char *path, int *ret_fd);

/* The size of the disk in a backing file, as the image at that path names it. */
int image_backing_size(const char *image, const char *backing, int format, uint64_t *ret_size);

#endif
