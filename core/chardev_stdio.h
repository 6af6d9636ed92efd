/* SPDX-License-Identifier: Apache-2.0 */
/* For chardev.c: the process's standard input and output, of which there is one. */
#ifndef CORE_CHARDEV_STDIO_H
#define CORE_CHARDEV_STDIO_H

#include "core/chardev.h"

/* -EBUSY: another chardev has it. */
int chardev_stdio_open(struct chardev *chardev);
/* Restores the terminal. Accepts a chardev that is something else. */
void chardev_stdio_close(struct chardev *chardev);

#endif
