/* SPDX-License-Identifier: Apache-2.0 */
/* --help, from the same tables as the options. */
#ifndef VMM_HELP_H
#define VMM_HELP_H

#include <stdio.h>

struct opt;
struct opt_error;
struct virtio_class;

/*
 * Explains the group, or the one that has the option, called topic, or "check" or "image";
 * "" gives the overview. -EINVAL with a sentence in error when there is no such thing.
 */
int help_print(const struct virtio_class *const *classes, const char *topic, FILE *out,
	       struct opt_error *error);

/* A line about an option: "--cpus N", "path=PATH", "engine=uring|sync": prefix, name, separator and value. */
void help_print_opt(FILE *out, const char *prefix, const char *separator, const struct opt *opt);

#endif
