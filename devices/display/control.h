/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What display.c and the program say to each other, on a SOCK_SEQPACKET pair of
 * which the program has SPAWN_FD: first what it is to do, which it answers when
 * it is ready; then a file for each head that pictures are wanted of, and requests for pictures,
 * each answered before the next comes. An answer is an int32_t: 0 or -errno. The program ends when this socket does.
 */
#ifndef DEVICES_DISPLAY_CONTROL_H
#define DEVICES_DISPLAY_CONTROL_H

#include "devices/display/display.h"

#define DISPLAY_NAME_MAX 64

/* With files, in any order: each number here is a place among those; -1: there is no such file. */
struct display_setup {
	uint32_t heads;
	int32_t memory; /* an array of struct display_head */
	int32_t password;
	int32_t ends[DISPLAY_ROLES];
	int32_t listen[DISPLAY_HEADS_MAX];
	char name[DISPLAY_NAME_MAX];
};

/* With a file: it is for pictures of the head. Without: take one. */
struct display_picture {
	uint32_t head;
};

#endif
