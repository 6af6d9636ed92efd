/* SPDX-License-Identifier: Apache-2.0 */
/* Files that a run writes at its end; they are opened before the jail. */
#ifndef VMM_OUTPUT_H
#define VMM_OUTPUT_H

struct display;

/* Empties the file that the option names, or makes it. -errno, reported. */
int output_open(const char *option, const char *path, int *ret_fd);

/*
 * The files of --screenshot-at-exit, one for each head; path may be NULL. -errno, reported; so is that
 * there is no gpu, which is no error.
 */
int output_open_pictures(const char *path, struct display *display);
/* Failures are reported. */
void output_write_pictures(const char *path, struct display *display);

#endif
