/* SPDX-License-Identifier: Apache-2.0 */
/* microvm check: what this host can do, in plain words. */
#ifndef VMM_CHECK_H
#define VMM_CHECK_H

#include <stdbool.h>
#include <stdio.h>

/*
 * Writes a line with the remedy for each thing that a guest needs or may use.
 * True when a guest can run. Leaves the process in a user namespace of its
 * own where that is permitted, so it is the last thing to do.
 */
bool check_host(FILE *out);

#endif
