/* SPDX-License-Identifier: Apache-2.0 */
/* microvm image: makes disk images and looks after them. */
#ifndef VMM_IMAGE_H
#define VMM_IMAGE_H

#include <stdio.h>

/* Does what the words behind "image" say, and reports on stderr what is wrong. An exit status. */
int image_run(int count, char *const *words);

/* Explains the command. */
void image_help(FILE *out);

#endif
